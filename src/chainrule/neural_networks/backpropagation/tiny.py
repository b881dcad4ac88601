"""A whole engine on two pages: arrays, broadcasting, thirteen operations, and `backward`.

The document ``neural-networks/backpropagation.md`` builds this file, block by block; a test
compares the two, so a change here is a change there. What the package's own engine does beyond
it, and why, is a table towards the end of the document.

>>> w, x = Value([[0.5, 2.0]]), Value([[1.0], [3.0]])
>>> backward(tanh(w @ x))

leaves the derivatives in ``w.grad`` and ``x.grad``. All numbers are float64. Every value of the
graph gets its gradient, counted afresh in each pass, and keeps it.
"""

import itertools

import numpy as np

__all__ = [
    "Value", "add", "ancestors", "backward", "divide", "exp", "log", "matmul", "mean", "multiply",
    "operation", "relu", "reshape", "sigmoid", "subtract", "sum_to", "tanh", "total", "transpose",
]  # fmt: skip

tickets = itertools.count()  # 0, 1, 2, …, one for each value that is made


class Value:
    """An array, the values it was computed from, and the way back to them."""

    __array_ufunc__ = None  # array + value is an error

    def __init__(self, data, parents=(), vjp=lambda g: ()):
        self.data = np.asarray(data, dtype=float)
        self.parents, self.vjp = parents, vjp
        self.grad = None
        self.number = next(tickets)

    def __add__(self, other):
        return add(self, other)

    def __sub__(self, other):
        return subtract(self, other)

    def __mul__(self, other):
        return multiply(self, other)

    def __matmul__(self, other):
        return matmul(self, other)


def operation(f):
    """Let f, written on arrays, take values and record what it did.

    f returns its output and a function: from the gradient of the output, one
    gradient for each input. Constants may come as numbers or arrays.
    """

    def run(*inputs, **options):
        values = [i if isinstance(i, Value) else Value(i) for i in inputs]
        output, vjp = f(*[value.data for value in values], **options)
        return Value(output, values, vjp)

    return run


@operation
def add(a, b):
    """a + b."""
    return a + b, lambda g: (g, g)


@operation
def subtract(a, b):
    """a − b."""
    return a - b, lambda g: (g, -g)


@operation
def multiply(a, b):
    """a · b, entry by entry."""
    return a * b, lambda g: (g * b, g * a)


@operation
def divide(a, b):
    """a / b, entry by entry."""
    y = a / b
    return y, lambda g: (g / b, -g * y / b)


@operation
def sigmoid(a):
    """1 / (1 + exp(−a)); below −709 it is 0, and NumPy warns."""
    y = 1 / (1 + np.exp(-a))
    return y, lambda g: (g * y * (1 - y),)


@operation
def tanh(a):
    """Hyperbolic tangent."""
    y = np.tanh(a)
    return y, lambda g: (g * (1 - y * y),)


@operation
def exp(a):
    """e to the power a."""
    y = np.exp(a)
    return y, lambda g: (g * y,)


@operation
def log(a):
    """Natural logarithm."""
    return np.log(a), lambda g: (g / a,)


@operation
def relu(a):
    """a where it is positive, 0 elsewhere; at 0 the slope is taken as 0."""
    return np.maximum(a, 0), lambda g: (np.where(a <= 0, 0.0, g),)


@operation
def matmul(a, b):
    """a @ b, of matrices or of stacks of matrices."""
    a_turned, b_turned = a.mT, b.mT
    return a @ b, lambda g: (g @ b_turned, a_turned @ g)


@operation
def transpose(a):
    """Rows become columns."""
    return a.mT, lambda g: (g.mT,)


@operation
def reshape(a, *, shape):
    """The same entries in another shape."""
    return a.reshape(shape), lambda g: (g.reshape(a.shape),)


@operation
def total(a, *, axis=None):
    """The sum along an axis, or of all entries."""
    with_ones = a.sum(axis=axis, keepdims=True).shape

    def vjp(g):
        return (np.broadcast_to(g.reshape(with_ones), a.shape),)

    return a.sum(axis=axis), vjp


def mean(a, *, axis=None):
    """The mean along an axis, or of all entries; built from two operations."""
    added = total(a, axis=axis)
    return added * (added.data.size / a.data.size)


def ancestors(root):
    """root and every value that it depends on, the oldest first."""
    found, waiting = {root}, [root]
    while waiting:
        for parent in waiting.pop().parents:
            if parent not in found:
                found.add(parent)
                waiting.append(parent)
    return sorted(found, key=lambda value: value.number)


def sum_to(g, shape):
    """Add g up along the axes that broadcasting stretched, back to shape."""
    missing = g.ndim - len(shape)
    g = g.sum(axis=tuple(range(missing)))
    stretched = tuple(i for i, size in enumerate(shape) if size == 1)
    return g.sum(axis=stretched, keepdims=True)


def backward(root, gradient=1.0):
    """Leave in each ancestor's grad the derivative of root by it.

    A root of several entries counts as their sum, or as the sum of
    gradient * root if a gradient is given.
    """
    order = ancestors(root)
    for value in order:
        value.grad = np.zeros(value.data.shape)
    root.grad = root.grad + gradient
    for value in reversed(order):
        shares = value.vjp(value.grad)
        for parent, share in zip(value.parents, shares, strict=True):
            parent.grad = parent.grad + sum_to(share, parent.data.shape)
