"""Convolution in two and in one dimension, fused and composed."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.architectures.cnns.columns import (
    Geometry,
    Pair,
    correlate,
    geometry,
    match,
    places,
    spread,
)
from chainrule.neural_networks.backpropagation import Tensor, concat, einsum, primitive
from chainrule.neural_networks.backpropagation.promotion import alike
from chainrule.shapes import Array, Float, Num

__all__ = [
    "causal_conv1d", "check_channels", "conv1d", "conv2d", "conv2d_composed", "conv_as_matrix",
    "padded",
]  # fmt: skip


@primitive
def _conv2d(x: Array, weight: Array, bias: Array | None, shape: Geometry, groups: int) -> Any:
    """Fused: the gradient of the input spreads, that of the weight matches, the bias's adds up.

    Equation: architectures/cnns.md#eq-conv-vjp
    """
    x, weight = alike(x, weight)
    size = x.shape[2:]
    y = correlate(x, weight, shape, groups)
    if bias is not None:
        y += bias[:, None, None]
    return y, lambda g: (
        lambda out: spread(g, weight, shape, groups, size),
        lambda out: match(x, g, shape, groups),
        lambda out: g.sum(axis=(0, 2, 3)),
    )


def conv2d(
    x: Num[Tensor, "n c h w"],
    weight: Float[Tensor, "m cg kh kw"],
    bias: Float[Tensor, "m"] | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Float[Tensor, "n m hh ww"]:
    """Slide m kernels over n images; in each of ``groups`` groups, over its own channels only.

    Cross-correlation, as in every library: the kernel is not flipped.
    Equation: architectures/cnns.md#eq-cross-correlation

    Raises:
        ValueError: channels do not fit, or the kernel is larger than the padded image.
    """
    shape = geometry(weight.shape[2:], stride, padding, dilation)
    check_channels(x.shape[1], weight.shape[0], weight.shape[1], groups)
    shape.output(x.shape[2:])
    return _conv2d(x, weight, bias, shape=shape, groups=groups)


def conv2d_composed(
    x: Num[Tensor, "n c h w"],
    weight: Float[Tensor, "m cg kh kw"],
    bias: Float[Tensor, "m"] | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Float[Tensor, "n m hh ww"]:
    """`conv2d` from primitive operations: one product for each entry of the kernel, added up.

    Equation: architectures/cnns.md#eq-cross-correlation
    """
    shape = geometry(weight.shape[2:], stride, padding, dilation)
    check_channels(x.shape[1], weight.shape[0], weight.shape[1], groups)
    output, wide = shape.output(x.shape[2:]), padded(x, shape.padding)
    n, c, m = len(x), weight.shape[1], len(weight) // groups
    total: Any = 0
    for u, v, place in places(shape, output):
        seen = wide[place].reshape(n, groups, c, *output)
        part = weight[:, :, u, v].reshape(groups, m, c)
        total = total + einsum("ngchw,gmc->ngmhw", seen, part)
    y = total.reshape(n, groups * m, *output)
    return y if bias is None else y + bias.reshape(1, -1, 1, 1)


def conv1d(
    x: Float[Tensor, "n c t"],
    weight: Float[Tensor, "m cg k"],
    bias: Float[Tensor, "m"] | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Float[Tensor, "n m places"]:
    """`conv2d` on images of one row. Equation: architectures/cnns.md#eq-cross-correlation."""
    y = conv2d(
        x.unsqueeze(2), weight.unsqueeze(2), bias, (1, stride), (0, padding), (1, dilation), groups
    )
    return y.squeeze(2)


def causal_conv1d(
    x: Float[Tensor, "n c t"],
    weight: Float[Tensor, "m cg k"],
    bias: Float[Tensor, "m"] | None = None,
    dilation: int = 1,
    groups: int = 1,
) -> Float[Tensor, "n m t"]:
    """Convolve so that no output sees a later input: all padding stands on the left.

    Equation: architectures/cnns.md#eq-causal-convolution
    Source: van den Oord et al., WaveNet, 2016, arXiv:1609.03499.
    """
    before = np.zeros((*x.shape[:2], dilation * (weight.shape[2] - 1)), x.dtype)
    return conv1d(concat([before, x], axis=2), weight, bias, dilation=dilation, groups=groups)


def conv_as_matrix(
    weight: Float[Array, "m cg kh kw"],
    size: tuple[int, int],
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Float[Array, "outputs inputs"]:
    """The matrix that maps a flattened image of this size to the flattened result.

    Column i is the answer to an image that is 1 at number i and 0 elsewhere.
    Equation: architectures/cnns.md#eq-conv-matrix
    """
    c = weight.shape[1] * groups
    inputs = c * size[0] * size[1]
    images = Tensor(np.eye(inputs, dtype=weight.dtype).reshape(inputs, c, *size))
    y = conv2d(images, Tensor(weight), None, stride, padding, dilation, groups).data
    return np.ascontiguousarray(y.reshape(inputs, -1).T)


def check_channels(channels: int, kernels: int, each: int, groups: int) -> None:
    """Refuse channels and kernels that the groups do not divide."""
    if groups < 1 or channels != groups * each or kernels % groups:
        raise ValueError(
            f"{channels} channels and {kernels} kernels of {each} channels do not fit {groups} "
            f"group{'s' * (groups != 1)}"
        )


def padded(x: Tensor, padding: tuple[int, int]) -> Tensor:
    """``x`` between zeros, from primitive operations."""
    for axis, amount in zip((2, 3), padding, strict=True):
        border = np.zeros((*x.shape[:axis], amount, *x.shape[axis + 1 :]), x.dtype)
        x = concat([border, x, border], axis=axis)
    return x
