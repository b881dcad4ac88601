"""`Tensor`: one NumPy array that remembers how it was computed, and `primitive`.

Names and meanings are PyTorch's; axes are called ``axis`` and ``keepdims`` as in NumPy.
``Tensor.grad`` is a plain array, because nothing differentiates it again.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from chainrule.neural_networks.backpropagation.edits import last_edit, note_edit
from chainrule.neural_networks.backpropagation.grad_mode import _mode
from chainrule.neural_networks.backpropagation.graph import Node, propagate
from chainrule.neural_networks.backpropagation.promotion import alike, from_python
from chainrule.shapes import Array

__all__ = ["Tensor", "grad", "primitive", "tensor"]

Axis = int | Sequence[int] | None
_HALF = np.dtype(np.float16)


class Tensor:
    """An array in a computation that can be differentiated.

    ``Tensor(array)`` shares memory with ``array`` and keeps its type; Python floats become
    float32. ``requires_grad=True`` makes it a leaf: ``backward`` leaves a gradient on it.
    """

    __slots__ = ("__weakref__", "_data", "_grad", "_node", "_requires_grad", "grad_place")
    __array_ufunc__ = None  # so that `array * tensor` asks the tensor

    def __init__(
        self, data: Any, requires_grad: bool = False, dtype: DTypeLike | None = None
    ) -> None:
        self._data: Array = _as_array(data, dtype)
        self._grad: Array | None = None
        self.grad_place: Callable[[], Array | None] | None = None
        self._node: Node | None = None
        self._requires_grad = False
        if requires_grad:
            self.requires_grad_()

    @property
    def data(self) -> Array:
        """The array itself. ``x.data += …`` is noted as an edit; see `edits`."""
        return self._data

    @data.setter
    def data(self, array: Any) -> None:
        if array is self._data:  # what an augmented assignment assigns
            note_edit(array)
        self._data = _as_array(array)

    @property
    def grad(self) -> Array | None:
        """The gradient that backward passes have added up, in the tensor's shape, or None."""
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None and not (
            type(value) is np.ndarray and value.shape == self.shape and value.dtype.kind == "f"
        ):
            value = np.array(constant(value, "a gradient"), self.dtype)
            if value.shape != self.shape:
                raise ValueError(
                    f"a gradient of shape {value.shape} does not fit a tensor of {self.shape}"
                )
        self._grad = value

    @property
    def version(self) -> int:
        """The number of the last edit that was noted of this tensor's memory; 0 without any."""
        return last_edit(self._data)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self._data.shape

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """How many elements there are."""
        return self._data.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self._data.dtype

    @property
    def T(self) -> Tensor:
        """The tensor with its axes in reverse order."""
        return ops.permute(self)

    @property
    def requires_grad(self) -> bool:
        """Whether a backward pass through this tensor computes a gradient."""
        return self._requires_grad or self._node is not None

    @requires_grad.setter
    def requires_grad(self, flag: bool) -> None:
        self.requires_grad_(flag)

    @property
    def is_leaf(self) -> bool:
        """Whether this tensor was given rather than computed from others that need gradients."""
        return self._node is None

    def requires_grad_(self, flag: bool = True) -> Tensor:
        """Say whether ``backward`` shall leave a gradient on this leaf.

        Raises:
            RuntimeError: the tensor was computed from others.
            TypeError: it holds no floats.
        """
        if self._node is not None:
            raise RuntimeError("only a leaf can change requires_grad; use detach() to make one")
        if flag and self.data.dtype.kind != "f":
            raise TypeError(
                f"only floating point tensors can require gradients, not {self.dtype}: "
                "convert the data first, with .to(np.float32)"
            )
        self._requires_grad = flag
        return self

    def detach(self) -> Tensor:
        """Return a leaf that shares this tensor's memory and not its history."""
        return Tensor(self.data)

    def numpy(self) -> Array:
        """Return the array, shared; a tensor with history must be detached first.

        Raises:
            RuntimeError: the tensor requires a gradient.
        """
        if self.requires_grad:
            raise RuntimeError("numpy() would lose the gradient; call .detach().numpy()")
        return self.data

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def item(self) -> Any:
        """Return the only element as a Python number."""
        return self.data.item()

    def tolist(self) -> Any:
        """Return the elements as nested lists of Python numbers."""
        return self.data.tolist()

    def retain_grad(self) -> None:
        """Make ``backward`` leave the gradient on this tensor although it is not a leaf."""
        if self._node is not None:
            self._node.retained = self._node.retained or []
            self._node.retained.append(weakref.ref(self))

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Add to the ``grad`` of every leaf the derivative of this tensor with respect to it.

        ``gradient`` weighs the elements of this tensor and has its shape; a tensor of one
        element needs none. What was saved for the pass is freed on the way, unless
        ``retain_graph``. Equation: neural-networks/backpropagation.md#eq-vjp

        Raises:
            RuntimeError: nothing here requires a gradient, ``gradient`` is missing for several
                elements, or the pass cannot be made (see `propagate`).
            ValueError: ``gradient`` has another shape.
        """
        gradient = _root_gradient(self, gradient)
        if self._node is not None:
            propagate(self._node, gradient, retain_graph)
        elif self._requires_grad:
            self.grad = np.array(gradient if self.grad is None else self.grad + gradient)
        else:
            raise RuntimeError("backward() needs a tensor that requires a gradient; this one "
                               "was computed from none, or under no_grad()")  # fmt: skip

    def __repr__(self) -> str:
        text = np.array2string(self.data, separator=", ", prefix="tensor(")
        kind = "" if self.dtype in (np.float32, np.int64, np.bool_) else f", dtype={self.dtype}"
        how = f", grad_fn={self._node.name}" if self._node is not None else ""
        return f"tensor({text}{kind}{how or ', requires_grad=True' * self._requires_grad})"

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        try:
            return function._implementation(*args, **kwargs)
        except TypeError as error:
            raise TypeError(
                f"np.{function.__name__} takes no tensor: use a tensor's own methods, such as "
                "x.sum(), or give it the array, x.detach().numpy()"
            ) from error

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(_missing(name))

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self.data)

    def __float__(self) -> float:
        return float(self.data)

    def __int__(self) -> int:
        return int(self.data)

    def __format__(self, spec: str) -> str:
        return format(self.data.item(), spec) if spec and self.size == 1 else repr(self)

    def __getstate__(self) -> Any:
        """What a copy or a pickle takes along: neither a graph nor an optimizer's place."""
        if self._node is not None:
            raise RuntimeError("only a leaf can be copied or pickled; use detach() to make one")
        kept = ("_data", "_grad", "_node", "_requires_grad")
        return None, {**{name: getattr(self, name) for name in kept}, "grad_place": None}

    def _in_place(self, result: Tensor) -> Tensor:
        """Finish ``x += …``: a leaf keeps its identity, and what is recorded becomes a new tensor.

        In PyTorch, too, a leaf that requires a gradient may only be changed under ``no_grad``.
        """
        if self._requires_grad and _mode.enabled:
            raise RuntimeError(
                "a leaf that requires a gradient cannot be changed in place while operations are "
                "recorded: do it under no_grad(), or to its data"
            )
        if result.requires_grad:
            return result
        if result.shape != self.shape:
            raise ValueError(f"a tensor of shape {self.shape} cannot take on {result.shape}")
        np.copyto(self._data, result._data, casting="same_kind")
        note_edit(self._data)
        return self

    def __iadd__(self, other: Any) -> Tensor:
        return self._in_place(ops.add(self, other))

    def __isub__(self, other: Any) -> Tensor:
        return self._in_place(ops.subtract(self, other))

    def __imul__(self, other: Any) -> Tensor:
        return self._in_place(ops.multiply(self, other))

    def __itruediv__(self, other: Any) -> Tensor:
        return self._in_place(ops.divide(self, other))

    def __add__(self, other: Any) -> Tensor:
        return ops.add(self, other)

    def __radd__(self, other: Any) -> Tensor:
        return ops.add(other, self)

    def __sub__(self, other: Any) -> Tensor:
        return ops.subtract(self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return ops.subtract(other, self)

    def __mul__(self, other: Any) -> Tensor:
        return ops.multiply(self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return ops.multiply(other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return ops.divide(self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return ops.divide(other, self)

    def __ifloordiv__(self, other: Any) -> Tensor:
        return self._in_place(ops.floor_divide(self, other))

    def __imod__(self, other: Any) -> Tensor:
        return self._in_place(ops.remainder(self, other))

    def __ipow__(self, other: Any) -> Tensor:
        return self._in_place(ops.power(self, other))

    def __floordiv__(self, other: Any) -> Tensor:
        return ops.floor_divide(self, other)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return ops.floor_divide(other, self)

    def __mod__(self, other: Any) -> Tensor:
        return ops.remainder(self, other)

    def __rmod__(self, other: Any) -> Tensor:
        return ops.remainder(other, self)

    def __pow__(self, other: Any) -> Tensor:
        return ops.power(self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return ops.power(other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return ops.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return ops.matmul(other, self)

    def __neg__(self) -> Tensor:
        return ops.negative(self)

    def __abs__(self) -> Tensor:
        return ops.absolute(self)

    def __getitem__(self, index: Any) -> Tensor:
        return ops.getitem(self, index)

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return Tensor(self.data == _plain(other))

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return Tensor(self.data != _plain(other))

    def __lt__(self, other: Any) -> Tensor:
        return Tensor(self.data < _plain(other))

    def __le__(self, other: Any) -> Tensor:
        return Tensor(self.data <= _plain(other))

    def __gt__(self, other: Any) -> Tensor:
        return Tensor(self.data > _plain(other))

    def __ge__(self, other: Any) -> Tensor:
        return Tensor(self.data >= _plain(other))

    def __and__(self, other: Any) -> Tensor:
        return _bitwise(np.bitwise_and, self, other)

    def __or__(self, other: Any) -> Tensor:
        return _bitwise(np.bitwise_or, self, other)

    def __xor__(self, other: Any) -> Tensor:
        return _bitwise(np.bitwise_xor, self, other)

    def __invert__(self) -> Tensor:
        return _bitwise(np.invert, self)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__
    __hash__ = object.__hash__

    def exp(self) -> Tensor:
        """Elementwise exponential."""
        return ops.exp(self)

    def log(self) -> Tensor:
        """Elementwise natural logarithm."""
        return ops.log(self)

    def sqrt(self) -> Tensor:
        """Elementwise square root."""
        return ops.sqrt(self)

    def abs(self) -> Tensor:
        """Elementwise absolute value."""
        return ops.absolute(self)

    def sin(self) -> Tensor:
        """Elementwise sine."""
        return ops.sin(self)

    def cos(self) -> Tensor:
        """Elementwise cosine."""
        return ops.cos(self)

    def tanh(self) -> Tensor:
        """Elementwise hyperbolic tangent."""
        return ops.tanh(self)

    def sigmoid(self) -> Tensor:
        """Elementwise logistic function."""
        return ops.sigmoid(self)

    def relu(self) -> Tensor:
        """Elementwise max(x, 0)."""
        return ops.relu(self)

    def clamp(self, low: Any = None, high: Any = None) -> Tensor:
        """Elementwise clipping to the range from ``low`` to ``high``."""
        return ops.clamp(self, low, high)

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Sum over ``axis``, or over all elements."""
        return ops.sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Mean over ``axis``, or over all elements."""
        return ops.mean(self, axis=axis, keepdims=keepdims)

    def var(self, axis: Axis = None, keepdims: bool = False, correction: float = 1) -> Tensor:
        """Sum of squared deviations over ``axis`` divided by (count − correction)."""
        return ops.var(self, axis=axis, keepdims=keepdims, correction=correction)

    def prod(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Product over ``axis``, or over all elements."""
        return ops.prod(self, axis=axis, keepdims=keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Largest element along ``axis``; ties share the gradient equally."""
        return ops.max(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Smallest element along ``axis``; ties share the gradient equally."""
        return ops.min(self, axis=axis, keepdims=keepdims)

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """Position of the first largest element; has no gradient."""
        return ops.argmax(self, axis, keepdims)

    def cumsum(self, axis: int) -> Tensor:
        """Running sum along ``axis``."""
        return ops.cumsum(self, axis=axis)

    def sort(self, axis: int = -1, descending: bool = False) -> ops.Sorted:
        """Elements in order along ``axis``, and their positions; NaN counts as the largest."""
        return ops.sort(self, axis, descending)

    def argsort(self, axis: int = -1, descending: bool = False) -> Tensor:
        """Positions of the elements in order along ``axis``; has no gradient."""
        return ops.argsort(self, axis, descending)

    def topk(self, k: int, axis: int = -1, largest: bool = True) -> ops.Sorted:
        """The ``k`` largest (or smallest) elements along ``axis``, and their positions."""
        return ops.topk(self, k, axis, largest)

    def flip(self, *axes: Any) -> Tensor:
        """Return the tensor with the order along each of ``axes`` reversed."""
        return ops.flip(self, axes=_flat(axes))

    def tril(self, diagonal: int = 0) -> Tensor:
        """Return the tensor with zeros above a diagonal of its last two axes."""
        return ops.tril(self, diagonal)

    def triu(self, diagonal: int = 0) -> Tensor:
        """Return the tensor with zeros below a diagonal of its last two axes."""
        return ops.triu(self, diagonal)

    def clone(self) -> Tensor:
        """Return the same elements in memory of their own."""
        return ops.clone(self)

    def reshape(self, *shape: Any) -> Tensor:
        """Return the same elements in another shape; one size may be −1."""
        return ops.reshape(self, _flat(shape))

    def view(self, *shape: Any) -> Tensor:
        """``reshape`` in shared memory; where that would take a copy, it is refused.

        Raises:
            RuntimeError: the elements do not lie in memory as the new shape needs them.
        """
        seen = self.reshape(*shape)
        if self.size and not np.may_share_memory(seen._data, self._data):
            raise RuntimeError(
                f"view() of shape {self.shape} as {seen.shape} would have to copy; use reshape()"
            )
        return seen

    def flatten(self, start: int = 0, end: int = -1) -> Tensor:
        """Return the tensor with axes ``start`` to ``end`` merged into one."""
        return ops.flatten(self, start, end)

    def permute(self, *axes: Any) -> Tensor:
        """Return the tensor with its axes in the given order."""
        return ops.permute(self, _flat(axes))

    def transpose(self, axis0: int, axis1: int) -> Tensor:
        """Return the tensor with two axes exchanged."""
        return ops.transpose(self, axis0, axis1)

    def squeeze(self, axis: Axis = None) -> Tensor:
        """Return the tensor without ``axis``, or without all axes, of size 1."""
        return ops.squeeze(self, axis)

    def unsqueeze(self, axis: int) -> Tensor:
        """Return the tensor with a new axis of size 1 at ``axis``."""
        return ops.unsqueeze(self, axis)

    def expand(self, *shape: Any) -> Tensor:
        """Return the tensor broadcast to ``shape`` (−1 keeps a size)."""
        return ops.expand(self, _flat(shape))

    def take(self, indices: Any, axis: int = 0) -> Tensor:
        """Return the slices of ``axis`` at ``indices``, which may repeat."""
        return ops.take(self, indices, axis=axis)

    def masked_fill(self, mask: Any, value: Any) -> Tensor:
        """Return the tensor with ``value`` where ``mask`` is true."""
        return ops.masked_fill(self, mask, value)

    def to(self, dtype: DTypeLike) -> Tensor:
        """Return the tensor converted to another element type; itself, if it has that type."""
        return self if self.dtype == dtype else ops.cast(self, dtype)


def tensor(data: Any, requires_grad: bool = False, dtype: DTypeLike | None = None) -> Tensor:
    """Return a leaf tensor holding a copy of ``data``."""
    return Tensor(np.array(_as_array(data, dtype)), requires_grad)


def primitive(
    forward: Callable[..., Any],
    vjp: Callable[..., Sequence[Any]] | None = None,
    *,
    widen: bool = True,
) -> Callable[..., Tensor]:
    """Make an operation on tensors from a computation on arrays and its VJP.

    As a decorator: ``forward(*arrays, **options)`` returns its output and a function
    ``vjp(gradient)``, whose closure is what the backward pass needs. With two arguments:
    ``forward`` returns the output alone, and ``vjp(gradient, output, *arrays, **options)``
    is called with everything. The rules for a VJP stand in the package's docstring. The
    computation on arrays is kept as ``on_arrays``.

    16-bit inputs arrive as float32, and the output is rounded back to 16 bits; an operation
    that only moves numbers does without, by ``widen=False``.
    """
    if vjp is not None:
        forward = _with_vjp(forward, vjp)
    name = forward.__name__.lstrip("_")

    @functools.wraps(forward)
    def operation(*inputs: Any, **options: Any) -> Tensor:
        arrays = [x._data if isinstance(x, Tensor) else x for x in inputs]
        narrow = widen and _narrow(arrays)
        if narrow:
            arrays = [_widened(x) for x in arrays]
        if options:
            options = {key: constant(x, f"{name}: {key}") for key, x in options.items()}
        output, pullback = forward(*arrays, **options)
        if narrow and output.dtype == np.float32:
            output = output.astype(np.float16)
        result = Tensor(output)
        parents = recorded_parents(inputs)
        if parents is not None:
            result._node = Node(name, result._data, parents, pullback)
            if _mode.keep_values:
                result._node.value = result._data
        return result

    operation.on_arrays = forward  # type: ignore[attr-defined]
    return operation


def recorded_parents(inputs: Sequence[Any]) -> tuple[Any, ...] | None:
    """The nodes or leaves among the inputs that want gradients, or None if nothing is recorded."""
    needed = False
    parents = []
    for x in inputs:
        parent = None
        if isinstance(x, Tensor):
            parent = x._node or (x if x._requires_grad else None)
            needed = needed or parent is not None
        parents.append(parent)
    if not needed:
        return None
    _mode.met_gradient = True
    return tuple(parents) if _mode.enabled else None


def constant(value: Any, what: str) -> Any:
    """The array of an argument that has no gradient; refuses a tensor that requires one."""
    if not isinstance(value, Tensor):
        return value
    if value.requires_grad:
        raise ValueError(f"{what} has no gradient, and the tensor given requires one: detach() it")
    return value._data


def _bitwise(function: Any, *operands: Any) -> Tensor:
    arrays = alike(*map(_plain, operands))
    if any(np.asarray(x).dtype.kind == "f" for x in arrays):
        raise TypeError("&, |, ^ and ~ combine booleans or whole numbers, and floats were given: "
                        "compare first, as in (x > 0) & (x < 1)")  # fmt: skip
    return Tensor(function(*arrays))


_INSTEAD = {
    "add": "x + y", "all": "np.all(x.data)", "amax": "x.max(axis)", "amin": "x.min(axis)",
    "any": "np.any(x.data)", "bmm": "x @ y", "bool": "x.to(bool)", "contiguous": "x.clone()",
    "cpu": "x, which is there already", "cuda": "x: everything is computed on the CPU",
    "dim": "x.ndim", "div": "x / y", "dot": "x @ y", "double": "x.to(np.float64)",
    "float": "x.to(np.float32)", "half": "x.to(np.float16)", "index_select": "x.take(ids, axis)",
    "int": "x.to(np.int32)", "isnan": "np.isnan(x.data)", "long": "x.to(np.int64)", "mm": "x @ y",
    "mul": "x * y", "neg": "-x", "nonzero": "np.nonzero(x.data)", "numel": "x.size",
    "pow": "x**y", "repeat": "concat([x, x])", "round": "np.round(x.data)",
    "softmax": "(x - logsumexp(x, axis, keepdims=True)).exp()", "square": "x**2",
    "std": "x.var(axis).sqrt()", "sub": "x - y", "t": "x.T", "type": "x.dtype",
    "unbind": "list(x)",
}  # fmt: skip


def _missing(name: str) -> str:
    """What to write for a method that PyTorch's tensors have and these have not."""
    if name.endswith("_") and not name.startswith("_"):
        return (f"a tensor has no {name}(), since the backward pass may need the old numbers: "
                "assign a new tensor to the name, or write x.data[...] = … before the pass that "
                "reads it")  # fmt: skip
    if name in _INSTEAD:
        return f"a tensor has no {name}(): write {_INSTEAD[name]}"
    if name in ops.__all__:
        return f"a tensor has no {name}(): it is a function, {name}(x, …), of this package"
    return f"a tensor has no {name!r}; what NumPy has, its array x.data has too"


def _narrow(arrays: list[Any]) -> bool:
    """Whether there are 16-bit floats, and no wider ones that would decide the result's type."""
    if not any([type(x) is np.ndarray and x.dtype is _HALF for x in arrays]):  # noqa: C419 faster
        return False
    floats = [x for x in arrays if isinstance(x, np.ndarray) and x.dtype.kind == "f"]
    deciding = [x for x in floats if x.ndim] or floats
    return all(x.dtype == _HALF for x in deciding)


def _widened(x: Any) -> Any:
    return x.astype(np.float32) if isinstance(x, np.ndarray) and x.dtype == _HALF else x


def grad(
    output: Tensor, inputs: Sequence[Tensor], gradient: Any = None, retain_graph: bool = False
) -> list[Array | None]:
    """Return the derivative of ``output`` with respect to leaves, leaving every ``grad`` alone.

    An input that ``output`` does not depend on gets None.

    Raises:
        ValueError: an input is no leaf.
    """
    wanted: dict[int, Array | None] = {id(leaf): None for leaf in inputs}

    def collect(leaf: Tensor, share: Array) -> None:
        if id(leaf) in wanted:
            before = wanted[id(leaf)]
            total = share if before is None else before + share
            wanted[id(leaf)] = np.array(total, dtype=leaf.dtype)

    if any(leaf._node is not None for leaf in inputs):
        raise ValueError("grad() differentiates with respect to leaves; detach() the input first")
    root = _root_gradient(output, gradient)
    if output._node is not None:
        propagate(output._node, root, retain_graph, to_leaf=collect)
    else:
        collect(output, root)
    return [wanted[id(leaf)] for leaf in inputs]


def _with_vjp(forward: Callable[..., Any], vjp: Callable[..., Sequence[Any]]) -> Callable[..., Any]:
    @functools.wraps(forward)
    def both(*arrays: Any, **options: Any) -> tuple[Any, Callable[[Array], Sequence[Any]]]:
        output = forward(*arrays, **options)
        return output, lambda gradient: vjp(gradient, output, *arrays, **options)

    return both


def _as_array(data: Any, dtype: DTypeLike | None = None) -> Array:
    if type(data) is np.ndarray and dtype is None and data.dtype.kind in "fiub":
        return data
    if isinstance(data, Tensor):
        data = data._data
    if isinstance(data, list | tuple) and any(isinstance(x, Tensor) for x in data):
        raise TypeError("a list of tensors is no tensor: join them with stack() or concat()")
    if isinstance(data, np.ndarray | np.generic) or dtype is not None:
        array = np.asarray(data, dtype=dtype)
    else:
        array = from_python(data)
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"a tensor holds booleans, whole numbers or floats, not {type(data).__name__} "
            f"({array.dtype})"
        )
    return array


def _root_gradient(root: Tensor, gradient: Any) -> Array:
    if gradient is None:
        if root.size != 1:
            raise RuntimeError(
                f"backward() of shape {root.shape} needs a gradient of that shape: one weight "
                "for each element; or reduce to one number first, with .sum() or .mean()"
            )
        return np.ones(root.shape, dtype=root.dtype)
    gradient = np.asarray(constant(gradient, "backward: gradient"), dtype=root.dtype).view()
    if gradient.shape != root.shape:
        raise ValueError(f"gradient has shape {gradient.shape}, the tensor {root.shape}")
    gradient.flags.writeable = False
    return gradient


def _plain(value: Any) -> Any:
    return value.data if isinstance(value, Tensor) else value


def _flat(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    one = len(sizes) == 1 and not isinstance(sizes[0], int | np.integer)
    return tuple(sizes[0]) if one else sizes


from chainrule.neural_networks.backpropagation import operations as ops  # noqa: E402 needs Tensor
