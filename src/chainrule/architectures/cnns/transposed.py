"""Transposed convolution: from outputs back to images, fused and composed."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.architectures.cnns.columns import (
    Geometry,
    Pair,
    correlate,
    geometry,
    match,
    pair,
    spread,
)
from chainrule.architectures.cnns.convolution import check_channels, conv2d_composed, padded
from chainrule.neural_networks.backpropagation import Tensor, primitive, stack
from chainrule.neural_networks.backpropagation.promotion import alike
from chainrule.shapes import Array, Float

__all__ = ["conv_transpose2d", "conv_transpose2d_composed"]


@primitive
def _conv_transpose2d(
    x: Array,
    weight: Array,
    bias: Array | None,
    shape: Geometry,
    groups: int,
    size: tuple[int, int],
) -> Any:
    """The matrix of a convolution, transposed; so its gradient for x is that convolution.

    Equation: architectures/cnns.md#eq-conv-transpose
    """
    x, weight = alike(x, weight)
    y = spread(x, weight, shape, groups, size)
    if bias is not None:
        y += bias[:, None, None]
    return y, lambda g: (
        lambda out: correlate(g, weight, shape, groups),
        lambda out: match(g, x, shape, groups),
        lambda out: g.sum(axis=(0, 2, 3)),
    )


def conv_transpose2d(
    x: Float[Tensor, "n m hh ww"],
    weight: Float[Tensor, "kernels cg kh kw"],
    bias: Float[Tensor, "c"] | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> Float[Tensor, "n c h w"]:
    """Go from outputs back to image size: what the input's gradient of `conv2d` computes.

    ``weight`` has the shape of the convolution's that goes the other way. With a stride, sizes
    that differ by less than it have the same number of windows; ``output_padding`` chooses.
    Equation: architectures/cnns.md#eq-conv-transpose
    """
    shape, size = _enlarged(x, weight, stride, padding, output_padding, groups, dilation)
    return _conv_transpose2d(x, weight, bias, shape=shape, groups=groups, size=size)


def conv_transpose2d_composed(
    x: Float[Tensor, "n m hh ww"],
    weight: Float[Tensor, "kernels cg kh kw"],
    bias: Float[Tensor, "c"] | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> Float[Tensor, "n c h w"]:
    """`conv_transpose2d` as a convolution: of ``x`` with zeros between its rows and columns.

    The kernel is turned by 180 degrees and its two channel axes change places.
    Equation: architectures/cnns.md#eq-conv-transpose
    """
    shape, size = _enlarged(x, weight, stride, padding, output_padding, groups, dilation)
    (kh, kw), step, (above, left), apart = shape
    sparse = _with_zeros(_with_zeros(x, step[0], 2), step[1], 3)
    around = apart[0] * (kh - 1), apart[1] * (kw - 1)
    more = pair(output_padding, "output_padding", 0)
    wide = padded(sparse, (around[0] + more[0], around[1] + more[1]))
    top, start = above + more[0], left + more[1]
    window = wide[..., top : top + size[0] + around[0], start : start + size[1] + around[1]]
    m, c = len(weight) // groups, weight.shape[1]
    turned = weight[:, :, ::-1, ::-1].reshape(groups, m, c, kh, kw).transpose(1, 2)
    return conv2d_composed(
        window, turned.reshape(groups * c, m, kh, kw), bias, dilation=apart, groups=groups
    )


def _enlarged(
    x: Tensor, weight: Tensor, stride: Pair, padding: Pair, extra: Pair, groups: int, dilation: Pair
) -> tuple[Geometry, tuple[int, int]]:
    """How the windows lie, and the size of the image on which they do."""
    shape = geometry(weight.shape[2:], stride, padding, dilation)
    more = pair(extra, "output_padding", 0)
    check_channels(weight.shape[1] * groups, x.shape[1], weight.shape[1], groups)
    if len(weight) != x.shape[1]:
        raise ValueError(f"expected {len(weight)} channels on axis 1, got shape {x.shape}")
    for step, number in zip(shape.stride, more, strict=True):
        if number >= step:
            raise ValueError(f"output_padding must be below the stride {step}, got {number}")
    size = tuple(
        s * (places - 1) + d * (k - 1) + 1 - 2 * p + o
        for places, k, s, p, d, o in zip(x.shape[2:], *shape, more, strict=True)
    )
    if min(size) < 1:
        raise ValueError(f"the result would have size {size}: less padding, or a larger input")
    return shape, (size[0], size[1])


def _with_zeros(x: Tensor, step: int, axis: int) -> Tensor:
    """``x`` with ``step`` − 1 zeros after each slice of ``axis`` but the last."""
    zeros = np.zeros(x.shape, x.dtype)
    apart = stack([x, *[zeros] * (step - 1)], axis=axis + 1)
    wide = apart.reshape(*x.shape[:axis], x.shape[axis] * step, *x.shape[axis + 1 :])
    rest = [slice(None)] * axis
    return wide[(*rest, slice(0, max(step * (x.shape[axis] - 1) + 1, 0)))]
