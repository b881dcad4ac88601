"""The primitive operations: each function computes forward and returns its VJP beside it.

Written on arrays and called on tensors; see `primitive`. In each VJP, ``g`` is the gradient
of the output. An entry ``lambda out: …`` is computed only if that input needs a gradient,
into ``out`` if there is one. A VJP that needs only a shape captures the shape, so that the
array is freed before the backward pass. Equation: neural-networks/backpropagation.md#eq-vjp
"""

from __future__ import annotations

import builtins
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple
from numpy.typing import DTypeLike

from chainrule.neural_networks.backpropagation.graph import sum_to
from chainrule.neural_networks.backpropagation.promotion import alike, floating
from chainrule.neural_networks.backpropagation.tensor import Tensor, constant, primitive
from chainrule.shapes import Array

__all__ = [
    "absolute", "add", "argmax", "argsort", "cast", "cat", "chunk", "clamp", "clone",
    "concat", "cos", "cumsum", "divide", "einsum", "exp", "expand", "flatten", "flip",
    "floor_divide", "gather", "getitem", "linear", "log", "logsumexp", "masked_fill", "matmul",
    "max", "maximum", "mean", "min", "minimum", "multiply", "negative", "norm", "outer", "pad",
    "permute", "power", "prod", "relu", "remainder", "reshape", "sigmoid", "sin", "sort", "split",
    "sqrt", "squeeze", "stack", "subtract", "sum", "take", "tanh", "topk", "transpose", "tril",
    "triu", "unsqueeze", "var", "where",
]  # fmt: skip

Axis = int | Sequence[int] | None
Forward = tuple[Any, Any]

_moves = functools.partial(primitive, widen=False)  # for what computes nothing


# ---- elementwise, two inputs -----------------------------------------------------------------


@primitive
def add(a: Any, b: Any) -> Forward:
    """a + b."""
    a, b = alike(a, b)
    shape_a, shape_b = np.shape(a), np.shape(b)
    return a + b, lambda g: (sum_to(g, shape_a), sum_to(g, shape_b))


@primitive
def subtract(a: Any, b: Any) -> Forward:
    """a − b."""
    a, b = alike(a, b)
    shape_a, shape_b = np.shape(a), np.shape(b)
    return a - b, lambda g: (sum_to(g, shape_a), lambda out: sum_to(-g, shape_b))


@primitive
def multiply(a: Any, b: Any) -> Forward:
    """a · b, elementwise."""
    a, b = alike(a, b)
    shape_a, shape_b = np.shape(a), np.shape(b)
    return a * b, lambda g: (
        lambda out: sum_to(g * b, shape_a),
        lambda out: sum_to(g * a, shape_b),
    )


@primitive
def divide(a: Any, b: Any) -> Forward:
    """a / b, elementwise; b is not squared for its gradient: b² may overflow."""
    a, b = (floating(x) if isinstance(x, np.ndarray) else x for x in alike(a, b))
    shape_a, shape_b = np.shape(a), np.shape(b)
    z = np.asarray(a / b)

    def slope_in_b(g: Array) -> Array:
        slope = np.asarray(-(g / b) * z)
        if np.isfinite(slope).all():
            return slope
        return np.where((z == 0) & np.isfinite(g), slope.dtype.type(0), slope)  # g/b overflowed

    return z, lambda g: (
        lambda out: sum_to(g / b, shape_a),
        lambda out: sum_to(slope_in_b(g), shape_b),
    )


def _divisible(a: Any, b: Any) -> tuple[Any, Any]:
    a, b = alike(a, b)
    if all(np.asarray(x).dtype.kind != "f" for x in (a, b)) and not np.all(b):
        raise ZeroDivisionError("whole numbers cannot be divided by 0")
    return a, b


@primitive
def floor_divide(a: Any, b: Any) -> Forward:
    """a / b rounded down; in PyTorch, too, a backward pass that comes here is refused."""
    a, b = _divisible(a, b)
    return np.asarray(a // b), lambda g: ()


@primitive
def remainder(a: Any, b: Any) -> Forward:
    """a − b · ⌊a/b⌋, which has the sign of b."""
    a, b = _divisible(a, b)
    shape_a, shape_b = np.shape(a), np.shape(b)
    return np.asarray(a % b), lambda g: (
        lambda out: sum_to(g, shape_a),
        lambda out: sum_to(-g * (a // b), shape_b),
    )


@primitive
def power(a: Any, b: Any) -> Forward:
    """a to the power b, elementwise; 0 to a power of at least 0 is flat in the power."""
    a, b = alike(a, b)
    shape_a, shape_b = np.shape(a), np.shape(b)
    y = np.asarray(a**b)

    def slope_in_a() -> Array:
        one_less = np.where(b == 0, 1, b) - 1  # a⁰ is flat, also at 0
        with np.errstate(divide="ignore"):
            return np.asarray(b * a ** one_less.astype(y.dtype), y.dtype)

    def slope_in_b() -> Array:
        flat = np.equal(a, 0) & np.greater_equal(b, 0)
        with np.errstate(divide="ignore"):
            return np.asarray(y * np.log(np.where(flat, 1, a)), y.dtype)

    return y, lambda g: (
        lambda out: sum_to(g * slope_in_a(), shape_a),
        lambda out: sum_to(g * slope_in_b(), shape_b),
    )


@primitive
def maximum(a: Any, b: Any) -> Forward:
    """The larger of a and b; where they are equal each gets half of the gradient."""
    a, b = alike(a, b)
    return np.maximum(a, b), lambda g: _to_the_chosen(g, a, b, np.greater)


@primitive
def minimum(a: Any, b: Any) -> Forward:
    """The smaller of a and b; where they are equal each gets half of the gradient."""
    a, b = alike(a, b)
    return np.minimum(a, b), lambda g: _to_the_chosen(g, a, b, np.less)


def _to_the_chosen(g: Array, a: Any, b: Any, beats: Any) -> Forward:
    """Selected and not multiplied by 0 or 1: 0 · ∞ would be NaN."""
    shape_a, shape_b = np.shape(a), np.shape(b)
    to_a, to_b, shared = beats(a, b), beats(b, a), np.where(np.equal(a, b), g / 2, g)
    zero = g.dtype.type(0)
    return (
        lambda out: sum_to(np.where(to_b, zero, shared), shape_a),
        lambda out: sum_to(np.where(to_a, zero, shared), shape_b),
    )


@_moves
def _where(condition: Array, a: Any, b: Any) -> Forward:
    a, b = alike(a, b)
    y = np.where(condition, a, b)
    shape_a, shape_b = np.shape(a), np.shape(b)
    return y, lambda g: (
        None,
        lambda out: sum_to(np.where(condition, g, g.dtype.type(0)), shape_a),
        lambda out: sum_to(np.where(condition, g.dtype.type(0), g), shape_b),
    )


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """``a`` where the condition is true, ``b`` elsewhere."""
    return _where(np.asarray(constant(condition, "where: the condition")), a, b)


# ---- elementwise, one input ------------------------------------------------------------------


@primitive
def negative(x: Array) -> Forward:
    """−x."""
    return -x, lambda g: (-g,)


@primitive
def exp(x: Array) -> Forward:
    """e to the power x."""
    y = np.exp(floating(x))
    return y, lambda g: (g * y,)


@primitive
def log(x: Array) -> Forward:
    """Natural logarithm."""
    return np.log(floating(x)), lambda g: (g / x,)


@primitive
def sqrt(x: Array) -> Forward:
    """Square root."""
    y = np.sqrt(floating(x))
    return y, lambda g: (g / (2 * y),)


@primitive
def absolute(x: Array) -> Forward:
    """Absolute value; the derivative at 0 is taken as 0."""
    return np.abs(x), lambda g: (np.where(x > 0, g, np.where(x < 0, -g, g.dtype.type(0))),)


@primitive
def sin(x: Array) -> Forward:
    """Sine."""
    return np.sin(floating(x)), lambda g: (g * np.cos(x),)


@primitive
def cos(x: Array) -> Forward:
    """Cosine."""
    return np.cos(floating(x)), lambda g: (-g * np.sin(x),)


@primitive
def tanh(x: Array) -> Forward:
    """Hyperbolic tangent."""
    y = np.tanh(floating(x))
    return y, lambda g: (g * (1 - y * y),)


@primitive
def sigmoid(x: Array) -> Forward:
    """1 / (1 + exp(−x)), exact to the last digits at both ends; see `logistic`."""
    y = logistic(floating(x))
    return y, lambda g: (g * y * (1 - y),)


def logistic(x: Any) -> Array:
    """σ(x) of an array: with z = exp(−|x|), which cannot overflow, 1/(1 + z) or z/(1 + z)."""
    z = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, z, 1) / (1 + z))


@primitive
def relu(x: Array) -> Forward:
    """max(x, 0); the derivative at 0 is taken as 0."""
    y = np.maximum(x, 0)
    return y, lambda g: (np.where(y <= 0, g.dtype.type(0), g),)


@primitive
def _clamp(x: Array, low: Any, high: Any) -> Forward:
    x, low, high = alike(x, low, high)
    y = np.minimum(np.maximum(x, low), high)
    shapes = [np.shape(part) for part in (x, low, high)]

    def to(chosen: Any, g: Array, shape: tuple[int, ...]) -> Any:
        return sum_to(np.where(chosen, g, g.dtype.type(0)), shape)

    return y, lambda g: (
        lambda out: to((x >= low) & (x <= high), g, shapes[0]),
        lambda out: to((x < low) & np.less(low, high), g, shapes[1]),
        lambda out: to((x > high) | np.greater(low, high), g, shapes[2]),
    )


def clamp(x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    """Clip to the range from ``low`` to ``high``; outside it the gradient goes to the bound."""
    is_float = x.dtype.kind == "f"
    low = (-np.inf if is_float else np.iinfo(x.dtype).min) if low is None else low
    high = (np.inf if is_float else np.iinfo(x.dtype).max) if high is None else high
    return _clamp(x, low, high)


@_moves
def clone(x: Array) -> Forward:
    """The same elements in memory of their own."""
    return x.copy(), lambda g: (g,)


@_moves
def cast(x: Array, dtype: DTypeLike) -> Forward:
    """Convert to another element type; the gradient is converted back."""
    return x.astype(dtype), lambda g: (g,)


@_moves
def _masked_fill(x: Array, mask: Array, value: Any) -> Forward:
    shape, shape_value = x.shape, np.shape(value)
    y = np.where(mask, np.asarray(value, x.dtype), x)
    return y, lambda g: (
        lambda out: sum_to(np.where(mask, g.dtype.type(0), g), shape),
        None,
        lambda out: sum_to(np.where(mask, g, g.dtype.type(0)), shape_value),
    )


def masked_fill(x: Tensor, mask: Any, value: Any) -> Tensor:
    """``x`` with ``value``, a number or a tensor of one, where ``mask`` is true."""
    return _masked_fill(x, np.asarray(constant(mask, "masked_fill: the mask")), value)


# ---- products --------------------------------------------------------------------------------


@primitive
def matmul(a: Array, b: Array) -> Forward:
    """Matrix product over the last two axes, broadcasting the others; vectors as in NumPy.

    For Y = A B, the gradients are G Bᵀ and Aᵀ G: two products of the same size.
    Equation: neural-networks/backpropagation.md#eq-matmul-vjp
    """
    a, b = alike(a, b)
    y = np.matmul(a, b)
    shape_a, shape_b = a.shape, b.shape
    a2 = a[None, :] if a.ndim == 1 else a
    b2 = b[:, None] if b.ndim == 1 else b
    *batch_a, rows, inner = a2.shape
    *batch_b, _, columns = b2.shape

    def vjp(g: Array) -> Any:
        g2 = g[..., None] if len(shape_b) == 1 else g
        g2 = g2[..., None, :] if len(shape_a) == 1 else g2

        def with_respect_to_a(out: Any) -> Any:
            return sum_to(g2 @ b2.swapaxes(-1, -2), (*batch_a, rows, inner)).reshape(shape_a)

        def with_respect_to_b(out: Any) -> Any:
            if len(shape_b) == 2:  # one product, not a batch of products that are then summed
                count = math.prod(batch_a) * rows
                left, right = a2.reshape(count, inner), g2.reshape(count, columns)
                return np.matmul(left.T, right, out=out)
            return sum_to(a2.swapaxes(-1, -2) @ g2, (*batch_b, inner, columns)).reshape(shape_b)

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
    x, weight = alike(x, weight)
    shape, (d_out, d_in) = x.shape, weight.shape
    n = math.prod(shape[:-1])
    rows = x.reshape(n, d_in)
    y = rows @ weight.T
    if bias is not None:
        y += bias

    def vjp(g: Array) -> Any:
        g = g.reshape(n, d_out)
        return (
            lambda out: (g @ weight).reshape(shape),
            lambda out: np.matmul(g.T, rows, out=out),
            lambda out: np.matmul(np.ones(n, g.dtype), g, out=out),
        )

    return y.reshape(*shape[:-1], d_out), vjp


def einsum(subscripts: str, *operands: Any) -> Tensor:
    """Sum of products by Einstein's convention, as in NumPy and PyTorch.

    A letter twice in one term takes the diagonal, "..." stands for any leading axes, and
    without an arrow the output has the letters that occur once, sorted.

    Raises:
        ValueError: ``subscripts`` are for another number of operands or axes, or the output repeats
            or invents a letter.
    """
    operands = tuple(x if isinstance(x, Tensor) else Tensor(x) for x in operands)
    terms, right = _terms(subscripts, [x.ndim for x in operands])
    if len(set(right)) < len(right) or not set(right) <= set("".join(terms)):
        raise ValueError(f"einsum: the output of {subscripts!r} repeats or invents a letter")
    operands = tuple(
        x if len(set(term)) == len(term) else _diagonal(x, term=term)
        for x, term in zip(operands, terms, strict=True)
    )
    return _einsum(*operands, terms=["".join(dict.fromkeys(term)) for term in terms], right=right)


def _terms(subscripts: str, ndims: list[int]) -> tuple[list[str], str]:
    """The letters of each operand and of the output, with "..." spelled out in capitals."""
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ndims):
        raise ValueError(f"einsum: {subscripts!r} is for {len(terms)} operands, got {len(ndims)}")
    free = [c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in subscripts]
    counts = [ndim - len(term.replace("...", "")) for term, ndim in zip(terms, ndims, strict=True)]
    if any(n < 0 or (n > 0 and "..." not in t) for n, t in zip(counts, terms, strict=True)):
        raise ValueError(f"einsum: {subscripts!r} does not fit operands with {ndims} axes")
    stands_for = ["".join(reversed(free[:n])) for n in counts]  # aligned at the right
    longest = builtins.max(stands_for, key=len)
    terms = [term.replace("...", s) for term, s in zip(terms, stands_for, strict=True)]
    if not arrow:
        letters = "".join(terms)
        right = "..." + "".join(sorted(c for c in set(letters) - set(longest)
                                       if letters.count(c) == 1))  # fmt: skip
    return terms, right.replace("...", longest)


@_moves
def _diagonal(x: Array, term: str) -> Forward:
    shape, subscripts = x.shape, f"{term}->{''.join(dict.fromkeys(term))}"

    def vjp(g: Array) -> Any:
        gradient = np.zeros(shape, g.dtype)
        np.einsum(subscripts, gradient)[...] = g  # a view of the diagonal
        return (gradient,)

    return np.einsum(subscripts, x), vjp


@primitive
def _einsum(*arrays: Array, terms: list[str], right: str) -> Forward:
    """The gradient of one operand is again an einsum: of g with all other operands.

    Letters that only this operand has were summed over, and axes of size 1 were stretched.
    """
    arrays = alike(*arrays)
    y = np.einsum(",".join(terms) + "->" + right, *arrays, optimize=len(arrays) > 2)

    def vjp(g: Array) -> Any:
        return [_einsum_gradient(i, g, arrays, terms, right) for i in range(len(arrays))]

    return y, vjp


def _einsum_gradient(i: int, g: Array, arrays: Any, terms: list[str], right: str) -> Any:
    others = [(terms[j], array) for j, array in enumerate(arrays) if j != i]
    inputs = [right] + [term for term, _ in others]
    kept = [c for c in terms[i] if any(c in term for term in inputs)]
    added = tuple(position for position, c in enumerate(terms[i]) if c not in kept)
    shape, sizes = arrays[i].shape, _letter_sizes(terms, arrays)

    def compute(out: Any) -> Any:
        partial = np.einsum(",".join(inputs) + "->" + "".join(kept), g, *(a for _, a in others))
        stretched = np.broadcast_to(np.expand_dims(partial, added), [sizes[c] for c in terms[i]])
        return np.array(sum_to(stretched, shape))

    return compute


def _letter_sizes(terms: list[str], arrays: Any) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for term, array in zip(terms, arrays, strict=True):
        for letter, n in zip(term, array.shape, strict=True):
            sizes[letter] = n if n != 1 else sizes.get(letter, 1)
    return sizes


# ---- reductions ------------------------------------------------------------------------------


def axes_from_0(axis: Axis, ndim: int) -> tuple[int, ...]:
    """The axes counted from 0; an array without axes is treated as if it had one of size 1."""
    if axis is None:
        return tuple(range(ndim))
    parts = tuple(axis) if isinstance(axis, Sequence) else axis
    axes = normalize_axis_tuple(parts, ndim or 1)
    return axes if ndim else ()


def _axis(axis: int, ndim: int) -> int:
    return normalize_axis_index(axis, ndim or 1)


def _count(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    """How many elements are reduced to one."""
    return math.prod(shape[a] for a in axes)


def _spread(reduced: Any, shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool) -> Array:
    """Give a reduced array its lost axes back, and broadcast it along them (read-only)."""
    return np.broadcast_to(reduced if keepdims else np.expand_dims(reduced, axes), shape)


def _sum(x: Array, axes: tuple[int, ...], keepdims: bool, divisor: int = 1) -> Any:
    """Σ x / divisor; where a partial sum overflows, the terms are divided by a power of 2 first."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        y = x.sum(axis=axes, keepdims=keepdims, dtype=x.dtype)
        fits, y = np.isfinite(y), y if divisor == 1 else y / divisor
        if fits.all():
            return y
        n = 1 << _count(x.shape, axes).bit_length()
        again = (x / n).sum(axis=axes, keepdims=keepdims) * (n / divisor)
        if divisor != 1:
            again = again.clip(x.min(axes, keepdims=keepdims), x.max(axes, keepdims=keepdims))
        return np.where(fits, y, again)


@primitive
def sum(x: Array, axis: Axis = None, keepdims: bool = False) -> Forward:
    """Sum over ``axis``; its gradient is a copy of the output's for every element summed."""
    shape, axes = x.shape, axes_from_0(axis, x.ndim)
    if x.dtype.kind != "f":
        return x.sum(axis=axes, keepdims=keepdims, dtype=np.int64), None
    y = _sum(x, axes, keepdims)
    return y, lambda g: (_spread(g, shape, axes, keepdims),)


@primitive
def mean(x: Array, axis: Axis = None, keepdims: bool = False) -> Forward:
    """Mean over ``axis``."""
    x, shape, axes = floating(x), x.shape, axes_from_0(axis, x.ndim)
    count = _count(shape, axes)
    y = _sum(x, axes, keepdims, count)
    return y, lambda g: (_spread(g / (count or np.nan), shape, axes, keepdims),)


@primitive
def prod(x: Array, axis: Axis = None, keepdims: bool = False) -> Forward:
    """Product over ``axis``; the derivative by one factor is the product of the others.

    Not y/x, which knows nothing of a factor 0. Computed in float64: products in between may be
    larger or smaller than the result.
    """
    axes = axes_from_0(axis, x.ndim)
    if x.dtype.kind != "f":
        return x.prod(axis=axes, keepdims=keepdims, dtype=np.int64), None
    y = x.prod(axis=axes, keepdims=keepdims, dtype=np.float64).astype(x.dtype)

    def vjp(g: Array) -> Any:
        front = np.moveaxis(x, axes, range(len(axes)))
        factors = front.reshape(_count(x.shape, axes), math.prod(front.shape[len(axes) :]))
        before, after = np.ones((2, *factors.shape))
        np.cumprod(factors[:-1], axis=0, dtype=np.float64, out=before[1:])
        np.cumprod(factors[:0:-1], axis=0, dtype=np.float64, out=after[-2::-1])
        others = np.moveaxis((before * after).reshape(front.shape), range(len(axes)), axes)
        return ((_spread(g, x.shape, axes, keepdims) * others).astype(g.dtype),)

    return y, vjp


@primitive
def var(x: Array, axis: Axis = None, keepdims: bool = False, correction: float = 1) -> Forward:
    """Sum of squared deviations from the mean over ``axis``, divided by (count − correction)."""
    x, axes = floating(x), axes_from_0(axis, x.ndim)
    count = _count(x.shape, axes)
    degrees = x.dtype.type(builtins.max(0, count - correction))
    deviation = x - _sum(x, axes, True, count)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        rounding = _sum(deviation, axes, True, count)  # of the mean
        deviation -= np.where(np.isfinite(rounding), rounding, 0)
        y = np.square(deviation).sum(axis=axes, keepdims=keepdims) / degrees
        if not np.isfinite(y).all() and x.size and degrees:  # a square may overflow where y fits
            size = np.abs(deviation).max(axis=axes, keepdims=True)
            again = (
                np.square(deviation / size).sum(axis=axes, keepdims=True) / degrees * size * size
            )
            y = np.where(np.isfinite(y), y, again if keepdims else again.squeeze(axes))
        factor = 2 / degrees
    return y, lambda g: (_spread(g * factor, deviation.shape, axes, keepdims) * deviation,)


@primitive
def norm(x: Array, axis: Axis = None, keepdims: bool = False) -> Forward:
    """√Σx² over ``axis``; at 0 the derivative is taken as 0.

    Divided by the largest number first, whose square may overflow, or vanish, where the norm fits.
    """
    x, axes = floating(x), axes_from_0(axis, x.ndim)
    size = np.abs(x).max(axis=axes, keepdims=True, initial=0)
    size = np.where((size == 0) | ~np.isfinite(size), 1, size)
    y = size * np.sqrt(np.square(x / size).sum(axis=axes, keepdims=True))
    unit = np.divide(x, y, out=np.zeros_like(x), where=y != 0)
    y = y if keepdims else y.squeeze(axes)
    return y, lambda g: (_spread(g, unit.shape, axes, keepdims) * unit,)


@primitive
def max(x: Array, axis: Axis = None, keepdims: bool = False) -> Forward:
    """Largest element along ``axis``; ties share the gradient equally, as in ``torch.amax``."""
    axes = axes_from_0(axis, x.ndim)
    y = x.max(axis=axes, keepdims=keepdims)
    return y, lambda g: (_to_extremes(g, x, y, axes, keepdims),)


@primitive
def min(x: Array, axis: Axis = None, keepdims: bool = False) -> Forward:
    """Smallest element along ``axis``; ties share the gradient equally, as in ``torch.amin``."""
    axes = axes_from_0(axis, x.ndim)
    y = x.min(axis=axes, keepdims=keepdims)
    return y, lambda g: (_to_extremes(g, x, y, axes, keepdims),)


def _to_extremes(g: Array, x: Array, y: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    top = _spread(y, x.shape, axes, keepdims)
    chosen = (x == top) | ((x != x) & (top != top))  # NaN is its own extreme
    ties = chosen.sum(axis=axes, keepdims=True)  # whole numbers: float32 loses count at 2²⁴
    shares = _spread(g, x.shape, axes, keepdims) / ties
    return np.where(chosen, shares, 0).astype(g.dtype)


def argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position of the first largest element; there is nothing to differentiate."""
    found = np.argmax(x.data, axis=axis if x.ndim else None, keepdims=keepdims)
    return Tensor(np.asarray(found, np.int64))


@primitive
def logsumexp(x: Array, axis: Axis = None, keepdims: bool = False) -> Forward:
    """log Σ exp(x) over ``axis``, shifted by the maximum; its gradient is the softmax."""
    x, axes = floating(x), axes_from_0(axis, x.ndim)
    peak = x.max(axis=axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(peak), peak, 0)
    with np.errstate(over="ignore"):
        p = np.exp(x - top)
    if np.isposinf(peak).any():  # beside infinity every number counts for nothing
        p = np.where(np.isposinf(peak) & (x < np.inf), 0, p)
    total = p.sum(axis=axes, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        y = np.log(total) + top
        p /= np.where(total == 0, 1, total)
    y = y if keepdims else y.squeeze(axes)
    return y, lambda g: (p * _spread(g, p.shape, axes, keepdims),)


@primitive
def cumsum(x: Array, axis: int) -> Forward:
    """Running sum; its gradient is the running sum from the other end."""
    if not x.ndim:
        _axis(axis, 0)
        return x.copy(), lambda g: (g,)
    y = _running_sum(x, axis)
    return y, lambda g: (np.flip(_running_sum(np.flip(g, axis), axis), axis),)


def _running_sum(x: Array, axis: int) -> Array:
    """In float64: a sum on the way may be too large for float32 where a later one is not."""
    if x.dtype.kind != "f":
        return np.cumsum(x, axis=axis, dtype=np.int64)
    return np.cumsum(x, axis=axis, dtype=np.float64).astype(x.dtype, copy=False)


# ---- order -----------------------------------------------------------------------------------


class Sorted(NamedTuple):
    """Elements in order, and the positions from which they came."""

    values: Tensor
    indices: Tensor


def sort(x: Tensor, axis: int = -1, descending: bool = False) -> Sorted:
    """Sort along ``axis``; equal elements keep their order, and NaN counts as the largest."""
    if not x.ndim:
        only = sort(reshape(x, (1,)), axis, descending)
        return Sorted(reshape(only.values, ()), reshape(only.indices, ()))
    axis = _axis(axis, x.ndim)
    order = np.argsort(np.flip(x.data, axis) if descending else x.data, axis, kind="stable")
    if descending:  # sorted from the other end, so that equal elements keep their order
        order = x.shape[axis] - 1 - np.flip(order, axis)
    indices = Tensor(order.astype(np.int64, copy=False))
    return Sorted(gather(x, indices, axis), indices)


def argsort(x: Tensor, axis: int = -1, descending: bool = False) -> Tensor:
    """Positions of the elements in order along ``axis``; there is nothing to differentiate."""
    return sort(x.detach(), axis, descending).indices


def topk(x: Tensor, k: int, axis: int = -1, largest: bool = True) -> Sorted:
    """The ``k`` largest (or smallest) elements along ``axis``, the first first.

    Raises:
        ValueError: the axis has fewer than ``k`` elements, or ``k`` is negative.
    """
    full, size = sort(x, axis, descending=largest), x.shape[axis] if x.ndim else 1
    if not 0 <= k <= size:
        raise ValueError(f"topk: axis {axis} has {size} elements, got k = {k}")
    cut = (*[slice(None)] * _axis(axis, x.ndim), slice(k)) if x.ndim else ()
    return Sorted(full.values[cut], full.indices[cut])


# ---- shape -----------------------------------------------------------------------------------


@_moves
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


@_moves
def permute(x: Array, axes: tuple[int, ...] | None = None) -> Forward:
    """Return the axes in the given order (reversed without one): a view."""
    axes = normalize_axis_tuple(axes or tuple(reversed(range(x.ndim))), x.ndim)
    back = np.argsort(axes) if axes else ()
    return x.transpose(axes), lambda g: (g.transpose(back),)


@_moves
def transpose(x: Array, axis0: int, axis1: int) -> Forward:
    """Exchange two axes: a view."""
    if _axis(axis0, x.ndim) == _axis(axis1, x.ndim):
        return x.view(), lambda g: (g,)
    return x.swapaxes(axis0, axis1), lambda g: (g.swapaxes(axis0, axis1),)


@_moves
def squeeze(x: Array, axis: Axis = None) -> Forward:
    """Drop ``axis``, or all axes, where the size is 1; other sizes stay, as in PyTorch."""
    dropped = tuple(a for a in axes_from_0(axis, x.ndim) if x.shape[a] == 1)
    before = x.shape
    return x.squeeze(dropped), lambda g: (g.reshape(before),)


@_moves
def unsqueeze(x: Array, axis: int) -> Forward:
    """Insert an axis of size 1."""
    before = x.shape
    return np.expand_dims(x, axis), lambda g: (g.reshape(before),)


@_moves
def expand(x: Array, shape: tuple[int, ...]) -> Forward:
    """Broadcast to ``shape`` without copying; −1 keeps a size."""
    before, added = x.shape, len(shape) - x.ndim
    sizes = tuple(before[i - added] if n == -1 else n for i, n in enumerate(shape))
    return np.broadcast_to(x, sizes), lambda g: (sum_to(g, before),)


@_moves
def flip(x: Array, axes: Axis) -> Forward:
    """Reverse the order along each of ``axes``."""
    axes = axes_from_0(axes, x.ndim)
    return np.flip(x, axes).copy(), lambda g: (np.flip(g, axes),)


def tril(x: Tensor, diagonal: int = 0) -> Tensor:
    """Zeros above the main diagonal, or above the one ``diagonal`` places to its right.

    Raises:
        ValueError: there are fewer than two axes.
    """
    return _triangle(x, np.tril, diagonal)


def triu(x: Tensor, diagonal: int = 0) -> Tensor:
    """Zeros below the main diagonal, or below the one ``diagonal`` places to its right.

    Raises:
        ValueError: there are fewer than two axes.
    """
    return _triangle(x, np.triu, diagonal)


def _triangle(x: Tensor, keep: Any, diagonal: int) -> Tensor:
    if x.ndim < 2:
        raise ValueError(f"{keep.__name__}: a matrix has two axes, got shape {x.shape}")
    outside = ~keep(np.ones(x.shape[-2:], np.bool_), diagonal)
    return masked_fill(x, outside, 0)


@_moves
def _pad(x: Array, pairs: list[tuple[int, int]], value: float) -> Forward:
    shape = x.shape
    kept = tuple(_inside(n, -a, -b) for n, (a, b) in zip(shape, pairs, strict=True))
    y = np.full([n + a + b for n, (a, b) in zip(shape, pairs, strict=True)], value, x.dtype)
    inner = tuple(_inside(n, a, b) for n, (a, b) in zip(y.shape, pairs, strict=True))
    y[inner] = x[kept]

    def vjp(g: Array) -> Any:
        gradient = np.zeros(shape, g.dtype)
        gradient[kept] = g[inner]
        return (gradient,)

    return y, vjp


def _inside(n: int, before: int, after: int) -> slice:
    """What lies between two margins; a negative margin takes nothing."""
    return slice(builtins.max(0, before), n - builtins.max(0, after))


def pad(x: Tensor, widths: Sequence[int], value: float = 0) -> Tensor:
    """Surround by ``value``; a negative width cuts.

    ``widths`` are pairs (before, after) for the last axis, the one before it, and so on back, as
    in ``torch.nn.functional.pad``.

    Raises:
        ValueError: widths are no pairs, more than there are axes, or cut away more than is there.
    """
    pairs = list(zip(widths[::2], widths[1::2], strict=False))[::-1]
    if len(widths) % 2 or len(pairs) > x.ndim:
        raise ValueError(f"pad: shape {x.shape} has at most {x.ndim} pairs of widths, got {widths}")
    pairs = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    for n, (a, b) in zip(x.shape, pairs, strict=True):
        if n + builtins.min(0, a) + builtins.min(0, b) < 0:
            raise ValueError(f"pad: {widths} cut away more than shape {x.shape} has")
    return _pad(x, pairs=pairs, value=value)


def getitem(x: Tensor, index: Any) -> Tensor:
    """Elements, slices, masks or integer arrays; an element taken twice gets both gradients.

    Whole numbers and slices are applied first, then arrays, so ``x[0, :, [0, 1]]`` has
    PyTorch's shape.
    """
    parts = [_index(part) for part in (index if isinstance(index, tuple) else (index,))]
    if all(map(_is_basic, parts)):
        return _getitem(x, first=tuple(parts))
    if not any(type(part) is int for part in parts):
        return _getitem(x, then=tuple(parts))
    first = [[part] if _is_basic(part) else [slice(None)] * _consumed(part) for part in parts]
    then = [slice(None) if part is None or isinstance(part, slice) else part
            for part in parts if type(part) is not int]  # fmt: skip
    return _getitem(x, first=tuple(p for several in first for p in several), then=tuple(then))


def _index(part: Any) -> Any:
    """A part of an index as a number, a slice, None, an ellipsis or an array."""
    part = constant(part, "an index")
    if part is None or part is ... or isinstance(part, slice):
        return part
    array = np.asarray(part)
    if array.size == 0 and array.dtype.kind == "f":  # an empty list
        array = array.astype(np.intp)
    return int(array) if array.ndim == 0 and array.dtype.kind in "iu" else array


def _is_basic(part: Any) -> bool:
    return not isinstance(part, np.ndarray)


def _consumed(array: Array) -> int:
    """How many axes an array in an index stands for."""
    return array.ndim if array.dtype == np.bool_ else 1


@_moves
def _getitem(x: Array, first: Any = ..., then: Any = None) -> Forward:
    """``x[first]``, where ``first`` makes a view, and of it ``[then]``, which gathers."""
    shape = x.shape

    def vjp(g: Array) -> Any:
        gradient = np.zeros(shape, g.dtype)
        if then is None:
            gradient[first] = g
        else:
            np.add.at(gradient[first], then, g)
        return (gradient,)

    return x[first] if then is None else x[first][then], vjp


def _whole(indices: Any, what: str) -> Array:
    """Indices in the type that NumPy indexes with: 32 bits wide on a 32-bit machine."""
    array = np.asarray(constant(indices, what))
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"{what} must be whole numbers, got {array.dtype}")
    return array.astype(np.intp, copy=False)


@_moves
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
    x = x if x.ndim else reshape(x, (1,))
    return _take(x, _whole(indices, "take: indices"), axis=_axis(axis, x.ndim))


@_moves
def _gather(x: Array, indices: Array, axis: int) -> Forward:
    shape = x.shape
    index: list[Any] = list(np.indices(indices.shape, sparse=True))
    index[axis] = indices

    def vjp(g: Array) -> Any:
        gradient = np.zeros(shape, g.dtype)
        np.add.at(gradient, tuple(index), g)
        return gradient, None

    return x[tuple(index)], vjp


def gather(x: Tensor, indices: Any, axis: int) -> Tensor:
    """For each position of ``indices``, the element of ``x`` it points to along ``axis``.

    ``indices`` has as many axes as ``x``, and may be shorter along the others.

    Raises:
        TypeError: ``indices`` are no whole numbers.
        ValueError: ``indices`` do not fit the shape of ``x``.
    """
    whole = _whole(indices, "gather: indices")
    if not whole.size:
        return reshape(reshape(x, (x.size,))[:0], whole.shape)
    if not x.ndim:
        return reshape(gather(reshape(x, (1,)), whole.reshape(1), axis), whole.shape)
    axis = _axis(axis, x.ndim)
    if whole.ndim != x.ndim or any(
        n > m for a, (n, m) in enumerate(zip(whole.shape, x.shape, strict=False)) if a != axis
    ):
        raise ValueError(f"gather: indices of shape {whole.shape} do not fit shape {x.shape}")
    return _gather(x, whole, axis=axis)


# ---- joining and splitting -------------------------------------------------------------------


@_moves
def _concat(*arrays: Array, axis: int) -> Forward:
    arrays = alike(*arrays)
    ends = np.cumsum([array.shape[axis] for array in arrays])
    return np.concatenate(arrays, axis=axis), lambda g: np.split(g, ends[:-1], axis=axis)


def concat(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Join along an existing axis; as in PyTorch, a vector without elements fits anywhere."""
    full = [x for x in tensors if np.shape(x) != (0,)]
    return _concat(*(full or tensors), axis=axis)


cat = concat


def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Join along a new axis."""
    return concat([unsqueeze(x, axis) for x in tensors], axis=axis)


def split(x: Tensor, sizes: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Cut into pieces of ``sizes`` elements along ``axis`` (one number: pieces of that size).

    Raises:
        ValueError: the sizes do not add up to the size of the axis, or are below 1.
    """
    length = x.shape[axis]
    if isinstance(sizes, int | np.integer):
        if sizes < 1 and length:
            raise ValueError(f"split: pieces hold at least one element, got {sizes}")
        starts = range(0, builtins.max(1, length), builtins.max(1, int(sizes)))
        sizes = [builtins.min(int(sizes), length - start) for start in starts]
    if builtins.sum(sizes) != length:
        raise ValueError(f"sizes {list(sizes)} do not add up to {length}, the size of axis {axis}")
    before = (slice(None),) * normalize_axis_index(axis, x.ndim)
    ends = np.cumsum(sizes)
    return [
        getitem(x, (*before, slice(int(end - size), int(end))))
        for size, end in zip(sizes, ends, strict=True)
    ]


def chunk(x: Tensor, count: int, axis: int = 0) -> list[Tensor]:
    """Cut into at most ``count`` pieces along ``axis``, all but the last of equal size.

    Raises:
        ValueError: ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"chunk: there is at least one piece, got {count}")
    return split(x, -(-x.shape[axis] // count), axis)
