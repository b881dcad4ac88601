"""Pooling: the largest, or the mean, of every window; and the same after a blur."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from chainrule.architectures.cnns.columns import Geometry, Pair, geometry, pad, places
from chainrule.architectures.cnns.convolution import conv2d, padded
from chainrule.neural_networks.backpropagation import Tensor, concat, maximum, primitive, tensor
from chainrule.neural_networks.backpropagation.promotion import floating
from chainrule.shapes import Array, Float

__all__ = [
    "avg_pool2d", "avg_pool2d_composed", "blur_pool", "max_pool2d", "max_pool2d_composed",
]  # fmt: skip


def _pooling(x: Tensor, kernel: Pair, stride: Pair | None, padding: Pair) -> Geometry:
    shape = geometry(kernel, kernel if stride is None else stride, padding, 1)
    if any(2 * p > k for p, k in zip(shape.padding, shape.kernel, strict=True)):
        raise ValueError(f"padding must be at most half of the kernel {kernel}, got {padding}")
    shape.output(x.shape[2:])
    return shape


# ---- the largest -----------------------------------------------------------------------------


@primitive
def _max_pool2d(x: Array, shape: Geometry) -> Any:
    """Of equal entries the first wins, as in PyTorch; only winners get gradient.

    Equation: architectures/cnns.md#eq-max-pool
    """
    size, output = x.shape, shape.output(x.shape[2:])
    framed = pad(x, shape.padding, -np.inf)
    y: Any = None
    winner = np.zeros((*x.shape[:2], *output), np.min_scalar_type(int(np.prod(shape.kernel))))
    for number, (_, _, place) in enumerate(places(shape, output)):
        candidate = framed[place]
        if y is None:
            y = candidate.copy()
            continue
        better = (candidate > y) | np.isnan(candidate)
        np.copyto(y, candidate, where=better)
        np.copyto(winner, number, where=better)

    def vjp(g: Array) -> Any:
        (above, left), (rows, columns) = shape.padding, size[2:]
        wide = np.zeros((*size[:2], rows + 2 * above, columns + 2 * left), g.dtype)
        for number, (_, _, place) in enumerate(places(shape, output)):
            wide[place] += np.where(winner == number, g, 0)
        return (wide[..., above : above + rows, left : left + columns],)

    return y, vjp


def max_pool2d(
    x: Float[Tensor, "n c h w"], kernel: Pair, stride: Pair | None = None, padding: Pair = 0
) -> Float[Tensor, "n c hh ww"]:
    """The largest entry of each window; windows lie side by side unless a stride is given.

    Padding counts as −∞. Equation: architectures/cnns.md#eq-max-pool
    """
    return _max_pool2d(x, shape=_pooling(x, kernel, stride, padding))


def max_pool2d_composed(
    x: Float[Tensor, "n c h w"], kernel: Pair, stride: Pair | None = None, padding: Pair = 0
) -> Float[Tensor, "n c hh ww"]:
    """`max_pool2d` from primitive operations; entries that tie share their gradient.

    Equation: architectures/cnns.md#eq-max-pool
    """
    shape = _pooling(x, kernel, stride, padding)
    for axis, amount in zip((2, 3), shape.padding, strict=True):
        border = np.full((*x.shape[:axis], amount, *x.shape[axis + 1 :]), -np.inf, x.dtype)
        x = concat([border, x, border], axis=axis)
    output = shape.output((x.shape[2] - 2 * shape.padding[0], x.shape[3] - 2 * shape.padding[1]))
    return reduce(maximum, [x[place] for _, _, place in places(shape, output)])


# ---- the mean --------------------------------------------------------------------------------


@primitive
def _avg_pool2d(x: Array, shape: Geometry) -> Any:
    """Equation: architectures/cnns.md#eq-avg-pool."""
    size, output = x.shape, shape.output(x.shape[2:])
    share = 1 / (shape.kernel[0] * shape.kernel[1])
    x = floating(x)
    framed = pad(x, shape.padding)
    y = np.zeros((*size[:2], *output), x.dtype)
    for _, _, place in places(shape, output):
        y += framed[place]
    y *= share

    def vjp(g: Array) -> Any:
        (above, left), (rows, columns) = shape.padding, size[2:]
        wide = np.zeros((*size[:2], rows + 2 * above, columns + 2 * left), g.dtype)
        g = g * share
        for _, _, place in places(shape, output):
            wide[place] += g
        return (wide[..., above : above + rows, left : left + columns],)

    return y, vjp


def avg_pool2d(
    x: Float[Tensor, "n c h w"], kernel: Pair, stride: Pair | None = None, padding: Pair = 0
) -> Float[Tensor, "n c hh ww"]:
    """The mean of each window; zeros of the padding are counted, as PyTorch's default does.

    Equation: architectures/cnns.md#eq-avg-pool
    """
    return _avg_pool2d(x, shape=_pooling(x, kernel, stride, padding))


def avg_pool2d_composed(
    x: Float[Tensor, "n c h w"], kernel: Pair, stride: Pair | None = None, padding: Pair = 0
) -> Float[Tensor, "n c hh ww"]:
    """`avg_pool2d` from primitive operations. Equation: architectures/cnns.md#eq-avg-pool."""
    shape = _pooling(x, kernel, stride, padding)
    output, wide = shape.output(x.shape[2:]), padded(x, shape.padding)
    total: Any = 0
    for _, _, place in places(shape, output):
        total = total + wide[place]
    return total / float(shape.kernel[0] * shape.kernel[1])


def blur_pool(x: Float[Tensor, "n c h w"], stride: int = 2) -> Float[Tensor, "n c hh ww"]:
    """Average each 3 × 3 neighbourhood with the weights 1, 2, 1 both ways, then keep every second.

    Each channel for itself; beyond the border stand zeros. After ``max_pool2d(x, 2, 1)`` it takes
    the place of a max pooling with stride 2.
    Equation: architectures/cnns.md#eq-blur-pool
    Source: Zhang, Making Convolutional Networks Shift-Invariant Again, 2019, arXiv:1904.11486.
    """
    c = x.shape[1]
    row = np.array([1.0, 2.0, 1.0], x.dtype) / 4
    kernel = tensor(np.broadcast_to(np.outer(row, row), (c, 1, 3, 3)), dtype=x.dtype)
    return conv2d(x, kernel, stride=stride, padding=1, groups=c)
