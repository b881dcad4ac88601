"""The primitive operations: each function computes forward and returns its VJP beside it.

Written on arrays and called on tensors; see `primitive`. In each VJP, ``g`` is the gradient
of the output. An entry ``lambda out: …`` is computed only if that input needs a gradient,
into ``out`` if there is one. A VJP that needs only a shape captures the shape, so that the
array is freed before the backward pass. Equation: neural-networks/backpropagation.md#eq-vjp
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple
from numpy.typing import DTypeLike

from chainrule.neural_networks.backpropagation.graph import sum_to
from chainrule.neural_networks.backpropagation.tensor import Tensor, primitive
from chainrule.shapes import Array

__all__ = [
    "absolute", "add", "cast", "cat", "chunk", "clamp", "concat", "cos", "cumsum", "divide",
    "einsum", "exp", "expand", "flatten", "gather", "getitem", "linear", "log", "logsumexp",
    "masked_fill", "matmul", "max", "maximum", "mean", "min", "minimum", "multiply", "negative",
    "outer", "permute", "power", "relu", "reshape", "sigmoid", "sin", "split", "sqrt", "squeeze",
    "stack", "subtract", "sum", "take", "tanh", "transpose", "unsqueeze", "var", "where",
]  # fmt: skip

Axis = int | tuple[int, ...] | None
Forward = tuple[Any, Any]


def _plain(value: Any) -> Any:
    return value.data if isinstance(value, Tensor) else value


# ---- elementwise, two inputs -----------------------------------------------------------------


@primitive
def add(a: Any, b: Any) -> Forward:
    """a + b."""
    shape_a, shape_b = np.shape(a), np.shape(b)
    return a + b, lambda g: (sum_to(g, shape_a), sum_to(g, shape_b))


@primitive
def subtract(a: Any, b: Any) -> Forward:
    """a − b."""
    shape_a, shape_b = np.shape(a), np.shape(b)
    return a - b, lambda g: (sum_to(g, shape_a), lambda out: sum_to(-g, shape_b))


@primitive
def multiply(a: Any, b: Any) -> Forward:
    """a · b, elementwise."""
    return a * b, lambda g: (
        lambda out: sum_to(g * b, np.shape(a)),
        lambda out: sum_to(g * a, np.shape(b)),
    )


@primitive
def divide(a: Any, b: Any) -> Forward:
    """a / b, elementwise."""
    return a / b, lambda g: (
        lambda out: sum_to(g / b, np.shape(a)),
        lambda out: sum_to(-g * a / (b * b), np.shape(b)),
    )


@primitive
def power(a: Any, b: Any) -> Forward:
    """a to the power b, elementwise; the derivative at a = 0 with respect to b is 0."""
    y = a**b

    def vjp(g: Array) -> Any:
        def with_respect_to_b(out: Any) -> Any:
            log_a = np.log(np.where(a == 0, 1, a))
            return sum_to(np.asarray(g * y * log_a, dtype=y.dtype), np.shape(b))

        def with_respect_to_a(out: Any) -> Any:
            safe = np.where(b == 0, 1, b).astype(y.dtype)  # the derivative of a⁰ is 0, also at 0
            return sum_to(np.asarray(g * b * a ** (safe - 1), dtype=y.dtype), np.shape(a))

        return with_respect_to_a, with_respect_to_b

    return y, vjp


@primitive
def maximum(a: Any, b: Any) -> Forward:
    """The larger of a and b; where they are equal each gets half of the gradient."""
    y = np.maximum(a, b)
    return y, lambda g: (
        lambda out: sum_to(_share(g, a, b, y), np.shape(a)),
        lambda out: sum_to(_share(g, b, a, y), np.shape(b)),
    )


@primitive
def minimum(a: Any, b: Any) -> Forward:
    """The smaller of a and b; where they are equal each gets half of the gradient."""
    y = np.minimum(a, b)
    return y, lambda g: (
        lambda out: sum_to(_share(g, a, b, y), np.shape(a)),
        lambda out: sum_to(_share(g, b, a, y), np.shape(b)),
    )


def _share(g: Array, mine: Any, other: Any, chosen: Any) -> Any:
    share = (mine == chosen) / (1 + (np.equal(mine, other)))
    return g * share.astype(g.dtype)


@primitive
def _where(condition: Array, a: Any, b: Any) -> Forward:
    y = np.where(condition, a, b)
    zero = y.dtype.type(0)
    shape_a, shape_b = np.shape(a), np.shape(b)
    return y, lambda g: (
        None,
        lambda out: sum_to(np.where(condition, g, zero), shape_a),
        lambda out: sum_to(np.where(condition, zero, g), shape_b),
    )


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """``a`` where the condition is true, ``b`` elsewhere."""
    return _where(np.asarray(_plain(condition)), a, b)


# ---- elementwise, one input ------------------------------------------------------------------


@primitive
def negative(x: Array) -> Forward:
    """−x."""
    return -x, lambda g: (-g,)


@primitive
def exp(x: Array) -> Forward:
    """e to the power x."""
    y = np.exp(x)
    return y, lambda g: (g * y,)


@primitive
def log(x: Array) -> Forward:
    """Natural logarithm."""
    return np.log(x), lambda g: (g / x,)


@primitive
def sqrt(x: Array) -> Forward:
    """Square root."""
    y = np.sqrt(x)
    return y, lambda g: (g / (2 * y),)


@primitive
def absolute(x: Array) -> Forward:
    """Absolute value; the derivative at 0 is taken as 0."""
    return np.abs(x), lambda g: (g * np.sign(x),)


@primitive
def sin(x: Array) -> Forward:
    """Sine."""
    return np.sin(x), lambda g: (g * np.cos(x),)


@primitive
def cos(x: Array) -> Forward:
    """Cosine."""
    return np.cos(x), lambda g: (-g * np.sin(x),)


@primitive
def tanh(x: Array) -> Forward:
    """Hyperbolic tangent."""
    y = np.tanh(x)
    return y, lambda g: (g * (1 - y * y),)


@primitive
def sigmoid(x: Array) -> Forward:
    """1 / (1 + exp(−x)), through tanh so that no input overflows."""
    y = (np.tanh(x * 0.5) + 1) * 0.5
    return y, lambda g: (g * y * (1 - y),)


@primitive
def relu(x: Array) -> Forward:
    """max(x, 0); the derivative at 0 is taken as 0."""
    y = np.maximum(x, 0)
    return y, lambda g: (g * (y > 0),)


@primitive
def clamp(x: Array, low: Any = None, high: Any = None) -> Forward:
    """Clip to the range from ``low`` to ``high``; outside it the gradient is 0."""
    y = np.clip(x, low, high)
    return y, lambda g: (g * (y == x),)


@primitive
def cast(x: Array, dtype: DTypeLike) -> Forward:
    """Convert to another element type; the gradient is converted back."""
    original = x.dtype
    return x.astype(dtype), lambda g: (g.astype(original),)


@primitive
def _masked_fill(x: Array, mask: Array, value: Any) -> Forward:
    shape = x.shape
    return np.where(mask, x.dtype.type(value), x), lambda g: (
        sum_to(np.where(mask, g.dtype.type(0), g), shape),
        None,
        None,
    )


def masked_fill(x: Tensor, mask: Any, value: float) -> Tensor:
    """``x`` with ``value`` where ``mask`` is true."""
    return _masked_fill(x, _plain(mask), value)


# ---- products --------------------------------------------------------------------------------


@primitive
def matmul(a: Array, b: Array) -> Forward:
    """Matrix product over the last two axes, broadcasting the others; vectors as in NumPy.

    For Y = A B, the gradients are G Bᵀ and Aᵀ G: two products of the same size.
    Equation: neural-networks/backpropagation.md#eq-matmul-vjp
    """
    y = np.matmul(a, b)

    def vjp(g: Array) -> Any:
        a2 = a[None, :] if a.ndim == 1 else a
        b2 = b[:, None] if b.ndim == 1 else b
        g2 = g[..., None] if b.ndim == 1 else g
        g2 = g2[..., None, :] if a.ndim == 1 else g2

        def with_respect_to_a(out: Any) -> Any:
            return sum_to(g2 @ b2.swapaxes(-1, -2), a2.shape).reshape(a.shape)

        def with_respect_to_b(out: Any) -> Any:
            if b.ndim == 2:  # one product, instead of a batch of products that are then summed
                rows = math.prod(a2.shape[:-1])
                left, right = a2.reshape(rows, len(b)), g2.reshape(rows, b.shape[1])
                return np.matmul(left.T, right, out=out)
            return sum_to(a2.swapaxes(-1, -2) @ g2, b2.shape).reshape(b.shape)

        return with_respect_to_a, with_respect_to_b

    return y, vjp


def outer(a: Tensor, b: Tensor) -> Tensor:
    """Outer product of two vectors."""
    return unsqueeze(a, 1) * unsqueeze(b, 0)


@primitive
def linear(x: Array, weight: Array, bias: Array | None = None) -> Forward:
    """x Wᵀ + b for x of shape (…, in) and W of shape (out, in), as one operation.

    Fused: all leading axes are merged so that each gradient is one matrix product, and the
    weight's is computed where the optimizer reads it.
    Equation: neural-networks/backpropagation.md#eq-linear-vjp
    """
    shape, rows = x.shape, x.reshape(-1, x.shape[-1])
    y = rows @ weight.T
    if bias is not None:
        y += bias

    def vjp(g: Array) -> Any:
        g = g.reshape(-1, g.shape[-1])
        return (
            lambda out: (g @ weight).reshape(shape),
            lambda out: np.matmul(g.T, rows, out=out),
            lambda out: np.matmul(np.ones(len(g), g.dtype), g, out=out),
        )

    return y.reshape(*shape[:-1], len(weight)), vjp


def einsum(subscripts: str, *operands: Any) -> Tensor:
    """Sum of products by Einstein's convention, with explicit output and no repeated letters.

    The gradient of one operand is again an einsum: of the output's gradient with all other
    operands, over the letters that this operand does not have.
    """
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow or "." in left or any(len(set(term)) < len(term) for term in [*terms, right]):
        raise ValueError(
            f"einsum needs 'ab,bc->ac' without '...' and without a letter twice in one term; "
            f"got {subscripts!r}"
        )
    return _einsum(*operands, terms=terms, right=right)


@primitive
def _einsum(*arrays: Array, terms: list[str], right: str) -> Forward:
    y = np.einsum(",".join(terms) + "->" + right, *arrays, optimize=len(arrays) > 2)

    def vjp(g: Array) -> Any:
        def with_respect_to(i: int) -> Any:
            def compute(out: Any) -> Any:
                others = [j for j in range(len(arrays)) if j != i]
                inputs = [right] + [terms[j] for j in others]
                kept = [letter for letter in terms[i] if any(letter in term for term in inputs)]
                partial = np.einsum(
                    ",".join(inputs) + "->" + "".join(kept), g, *(arrays[j] for j in others)
                )
                shape = arrays[i].shape
                sizes = [n if c in kept else 1 for c, n in zip(terms[i], shape, strict=True)]
                return np.array(np.broadcast_to(partial.reshape(sizes), shape))

            return compute

        return [with_respect_to(i) for i in range(len(arrays))]

    return y, vjp


# ---- reductions ------------------------------------------------------------------------------


def _count(shape: tuple[int, ...], axis: Axis) -> int:
    """How many elements are reduced to one."""
    axes = range(len(shape)) if axis is None else normalize_axis_tuple(axis, len(shape))
    return math.prod(shape[a] for a in axes)


def _spread(reduced: Any, shape: tuple[int, ...], axis: Axis, keepdims: bool) -> Array:
    """Give a reduced array its lost axes back, and broadcast it along them (read-only)."""
    if axis is not None and not keepdims:
        reduced = np.expand_dims(reduced, normalize_axis_tuple(axis, len(shape)))
    return np.broadcast_to(reduced, shape)


@primitive
def sum(x: Array, axis: Axis = None, keepdims: bool = False) -> Forward:
    """Sum over ``axis``; its gradient is a copy of the output's for every element summed."""
    y = x.sum(axis=axis, keepdims=keepdims, dtype=x.dtype if x.dtype.kind == "f" else None)
    shape = x.shape
    return y, lambda g: (_spread(g, shape, axis, keepdims),)


@primitive
def mean(x: Array, axis: Axis = None, keepdims: bool = False) -> Forward:
    """Mean over ``axis``."""
    y = x.mean(axis=axis, keepdims=keepdims)
    shape, count = x.shape, _count(x.shape, axis)
    return y, lambda g: (_spread(g / g.dtype.type(count), shape, axis, keepdims),)


@primitive
def var(x: Array, axis: Axis = None, keepdims: bool = False, correction: int = 1) -> Forward:
    """Sum of squared deviations from the mean over ``axis``, divided by (count − correction)."""
    deviation = x - x.mean(axis=axis, keepdims=True)
    y = np.square(deviation).sum(axis=axis, keepdims=keepdims)
    count = x.dtype.type(_count(x.shape, axis) - correction)
    return y / count, lambda g: (
        _spread(g * (2 / count), deviation.shape, axis, keepdims) * deviation,
    )  # fmt: skip


@primitive
def max(x: Array, axis: Axis = None, keepdims: bool = False) -> Forward:
    """Largest element along ``axis``; ties share the gradient equally, as in ``torch.amax``."""
    y = x.max(axis=axis, keepdims=keepdims)
    return y, lambda g: (_to_extremes(g, x, y, axis, keepdims),)


@primitive
def min(x: Array, axis: Axis = None, keepdims: bool = False) -> Forward:
    """Smallest element along ``axis``; ties share the gradient equally, as in ``torch.amin``."""
    y = x.min(axis=axis, keepdims=keepdims)
    return y, lambda g: (_to_extremes(g, x, y, axis, keepdims),)


def _to_extremes(g: Array, x: Array, y: Any, axis: Axis, keepdims: bool) -> Any:
    chosen = x == _spread(y, x.shape, axis, keepdims)
    ties = chosen.sum(axis=axis, keepdims=True, dtype=x.dtype)
    return _spread(g, x.shape, axis, keepdims) * chosen / ties


@primitive
def logsumexp(x: Array, axis: Axis = None, keepdims: bool = False) -> Forward:
    """log Σ exp(x) over ``axis``, shifted by the maximum; its gradient is the softmax."""
    top = x.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    p = np.exp(x - top)
    total = p.sum(axis=axis, keepdims=True)
    with np.errstate(divide="ignore"):
        y = np.log(total) + top
    p /= np.where(total == 0, 1, total)
    y = y if keepdims else y.squeeze(axis if axis is not None else tuple(range(x.ndim)))
    return y, lambda g: (p * _spread(g, p.shape, axis, keepdims),)


@primitive
def cumsum(x: Array, axis: int) -> Forward:
    """Running sum; its gradient is the running sum from the other end."""
    y = np.cumsum(x, axis=axis, dtype=x.dtype)
    return y, lambda g: (np.flip(np.cumsum(np.flip(g, axis), axis=axis, dtype=g.dtype), axis),)


# ---- shape -----------------------------------------------------------------------------------


@primitive
def reshape(x: Array, shape: Any) -> Forward:
    """Return the same elements in another shape; one size may be −1."""
    before = x.shape
    return x.reshape(shape), lambda g: (g.reshape(before),)


def flatten(x: Tensor, start: int = 0, end: int = -1) -> Tensor:
    """Merge axes ``start`` to ``end`` into one."""
    if x.ndim == 0:
        return reshape(x, (1,))
    start, end = (normalize_axis_index(axis, x.ndim) for axis in (start, end))
    merged = math.prod(x.shape[start : end + 1])
    return reshape(x, (*x.shape[:start], merged, *x.shape[end + 1 :]))


@primitive
def permute(x: Array, axes: tuple[int, ...] | None = None) -> Forward:
    """Return the axes in the given order (reversed without one): a view."""
    axes = normalize_axis_tuple(axes or tuple(reversed(range(x.ndim))), x.ndim)
    back = np.argsort(axes) if axes else ()
    return x.transpose(axes), lambda g: (g.transpose(back),)


@primitive
def transpose(x: Array, axis0: int, axis1: int) -> Forward:
    """Exchange two axes: a view."""
    return x.swapaxes(axis0, axis1), lambda g: (g.swapaxes(axis0, axis1),)


@primitive
def squeeze(x: Array, axis: Axis = None) -> Forward:
    """Drop ``axis``, or all axes, where the size is 1; other sizes stay, as in PyTorch."""
    axes = range(x.ndim) if axis is None else normalize_axis_tuple(axis, x.ndim)
    dropped = tuple(a for a in axes if x.shape[a] == 1)
    before = x.shape
    return x.squeeze(dropped), lambda g: (g.reshape(before),)


@primitive
def unsqueeze(x: Array, axis: int) -> Forward:
    """Insert an axis of size 1."""
    before = x.shape
    return np.expand_dims(x, axis), lambda g: (g.reshape(before),)


@primitive
def expand(x: Array, shape: tuple[int, ...]) -> Forward:
    """Broadcast to ``shape`` without copying; −1 keeps a size."""
    before, added = x.shape, len(shape) - x.ndim
    sizes = tuple(before[i - added] if n == -1 else n for i, n in enumerate(shape))
    return np.broadcast_to(x, sizes), lambda g: (sum_to(g, before),)


@primitive
def getitem(x: Array, index: Any) -> Forward:
    """Elements, slices, masks or integer arrays; an element taken twice gets both gradients."""
    shape, dtype = x.shape, x.dtype

    def vjp(g: Array) -> Any:
        gradient = np.zeros(shape, dtype)
        if _is_basic(index):
            gradient[index] = g
        else:
            np.add.at(gradient, index, g)
        return (gradient,)

    return x[index], vjp


def _is_basic(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None or part is ... or type(part) in (int, slice) or isinstance(part, np.integer)
        for part in parts
    )


@primitive
def _take(x: Array, indices: Array, axis: int = 0) -> Forward:
    shape = x.shape

    def vjp(g: Array) -> Any:
        g = np.moveaxis(g.reshape(*shape[:axis], indices.size, *shape[axis + 1 :]), axis, 0)
        return (lambda out: _scatter_add(g, indices, shape, axis, out), None)

    return x.take(indices, axis=axis), vjp


def _scatter_add(
    g: Array, indices: Array, shape: tuple[int, ...], axis: int, out: Array | None
) -> Array:
    """Add the slices ``g[i]`` to the positions ``indices[i]`` of an array of zeros.

    Sorted by index, the slices of one position lie side by side and one call sums them.
    """
    gradient = np.empty(shape, g.dtype) if out is None else out
    gradient[...] = 0
    if g.size:
        flat = indices.ravel() % shape[axis]
        order = np.argsort(flat, kind="stable")
        positions = flat[order]
        starts = np.flatnonzero(np.r_[True, positions[1:] != positions[:-1]])
        sums = np.add.reduceat(g[order], starts, axis=0)
        np.moveaxis(gradient, axis, 0)[positions[starts]] = sums
    return gradient


def take(x: Tensor, indices: Any, axis: int = 0) -> Tensor:
    """Slices of ``axis`` at integer ``indices`` of any shape, which may repeat."""
    return _take(x, np.asarray(_plain(indices)), axis=normalize_axis_index(axis, x.ndim))


@primitive
def _gather(x: Array, indices: Array, axis: int) -> Forward:
    shape, dtype = x.shape, x.dtype

    def vjp(g: Array) -> Any:
        gradient = np.zeros(shape, dtype)
        index: list[Any] = list(np.indices(indices.shape, sparse=True))
        index[axis] = indices
        np.add.at(gradient, tuple(index), g)
        return gradient, None

    return np.take_along_axis(x, indices, axis=axis), vjp


def gather(x: Tensor, indices: Any, axis: int) -> Tensor:
    """For each position of ``indices``, the element of ``x`` it points to along ``axis``."""
    return _gather(x, np.asarray(_plain(indices)), axis=normalize_axis_index(axis, x.ndim))


# ---- joining and splitting -------------------------------------------------------------------


@primitive
def _concat(*arrays: Array, axis: int) -> Forward:
    ends = np.cumsum([array.shape[axis] for array in arrays])
    return np.concatenate(arrays, axis=axis), lambda g: np.split(g, ends[:-1], axis=axis)


def concat(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Join along an existing axis."""
    return _concat(*tensors, axis=axis)


cat = concat


def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Join along a new axis."""
    return concat([unsqueeze(x, axis) for x in tensors], axis=axis)


def split(x: Tensor, sizes: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Cut into pieces of ``sizes`` elements along ``axis`` (one number: pieces of that size)."""
    length = x.shape[axis]
    if isinstance(sizes, int):
        sizes = [builtins.min(sizes, length - start) for start in range(0, length, sizes)]
    if builtins.sum(sizes) != length:
        raise ValueError(f"sizes {list(sizes)} do not add up to {length}, the size of axis {axis}")
    before = (slice(None),) * normalize_axis_index(axis, x.ndim)
    ends = np.cumsum(sizes)
    return [
        getitem(x, (*before, slice(int(end - size), int(end))))
        for size, end in zip(sizes, ends, strict=True)
    ]


def chunk(x: Tensor, count: int, axis: int = 0) -> list[Tensor]:
    """Cut into at most ``count`` pieces along ``axis``, all but the last of equal size."""
    return split(x, -(-x.shape[axis] // count), axis)
