"""The operations as modules with weights; names, shapes and defaults are PyTorch's."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from chainrule.architectures.cnns.columns import Pair, pair
from chainrule.architectures.cnns.convolution import conv1d, conv2d
from chainrule.architectures.cnns.pooling import avg_pool2d, max_pool2d
from chainrule.architectures.cnns.transposed import conv_transpose2d
from chainrule.neural_networks.backpropagation import Module, Parameter, Sequential, Tensor, relu
from chainrule.neural_networks.regularization import BatchNorm1d
from chainrule.shapes import Float

__all__ = [
    "AvgPool2d", "BatchNorm2d", "Conv1d", "Conv2d", "ConvTranspose2d", "Flatten", "MaxPool2d",
    "ReLU", "depthwise_separable",
]  # fmt: skip


class _Kernels(Module):
    """A weight and a bias, uniform in ±1/√(numbers in one kernel), PyTorch's default."""

    def _draw(
        self,
        shape: tuple[int, ...],
        fan_in: int,
        n_bias: int | None,
        rng: np.random.Generator,
        dtype: DTypeLike,
    ) -> None:
        bound = 1 / np.sqrt(max(fan_in, 1))
        self.weight = Parameter(rng.uniform(-bound, bound, shape).astype(dtype))
        self.bias = None
        if n_bias is not None:
            self.bias = Parameter(rng.uniform(-bound, bound, n_bias).astype(dtype))


class Conv2d(_Kernels):
    """``out_channels`` kernels of shape (in_channels/groups, kh, kw), slid over images.

    Equation: architectures/cnns.md#eq-conv-count
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        _divisible(in_channels, out_channels, groups)
        kernel = pair(kernel_size, "kernel_size", 1)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.groups = groups
        shape = (out_channels, in_channels // groups, *kernel)
        self._draw(shape, int(np.prod(shape[1:])), out_channels if bias else None, rng, dtype)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n m hh ww"]:
        """Correlate the images with every kernel."""
        return conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )

    def extra_repr(self) -> str:
        """Shape of the weight, and how it lies."""
        return (
            f"{self.weight.shape}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, groups={self.groups}"
        )


class Conv1d(_Kernels):
    """``out_channels`` kernels of shape (in_channels/groups, kernel_size), slid over sequences.

    Equation: architectures/cnns.md#eq-cross-correlation
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        _divisible(in_channels, out_channels, groups)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.groups = groups
        shape = (out_channels, in_channels // groups, kernel_size)
        self._draw(shape, int(np.prod(shape[1:])), out_channels if bias else None, rng, dtype)

    def forward(self, x: Float[Tensor, "n c t"]) -> Float[Tensor, "n m places"]:
        """Correlate the sequences with every kernel."""
        return conv1d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class ConvTranspose2d(_Kernels):
    """From outputs back to images; the weight has the shape (in_channels, out/groups, kh, kw).

    Equation: architectures/cnns.md#eq-conv-transpose
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        output_padding: Pair = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Pair = 1,
        *,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        _divisible(in_channels, out_channels, groups)
        kernel = pair(kernel_size, "kernel_size", 1)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.output_padding, self.groups = output_padding, groups
        shape = (in_channels, out_channels // groups, *kernel)
        self._draw(shape, int(np.prod(shape[1:])), out_channels if bias else None, rng, dtype)

    def forward(self, x: Float[Tensor, "n m hh ww"]) -> Float[Tensor, "n c h w"]:
        """Spread every input over the places of its kernel."""
        return conv_transpose2d(
            x,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )


class MaxPool2d(Module):
    """The largest entry of every window."""

    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c hh ww"]:
        """Return the largest entries."""
        return max_pool2d(x, self.kernel_size, self.stride, self.padding)


class AvgPool2d(Module):
    """The mean of every window."""

    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c hh ww"]:
        """Return the means."""
        return avg_pool2d(x, self.kernel_size, self.stride, self.padding)


class BatchNorm2d(BatchNorm1d):
    """Batch normalization of images: one mean and one variance for each channel.

    All pixels of a channel, in all images of the batch, are normalized together.
    Equation: neural-networks/regularization.md#eq-batch-norm
    """

    def forward(self, x: Float[Tensor, "n c *rest"]) -> Float[Tensor, "n c *rest"]:
        """Normalize by the batch in training, by the running statistics in evaluation.

        Raises:
            ValueError: not four axes, the channels do not fit, or one value a channel in training.
        """
        if x.ndim != 4:
            raise ValueError(f"expected axes (n, c, h, w), got shape {x.shape}")
        return super().forward(x)


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the positive part."""
        return relu(x)


class Flatten(Module):
    """One row for each image."""

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return all numbers of an image in a row."""
        return x.flatten(1)


def depthwise_separable(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    *,
    rng: np.random.Generator,
    dtype: DTypeLike = np.float32,
) -> Sequential:
    """One kernel for each channel, then a 1 × 1 convolution that mixes channels.

    Equation: architectures/cnns.md#eq-separable-count
    Source: Howard et al., MobileNets, 2017, arXiv:1704.04861.
    """
    same = kernel_size // 2
    return Sequential(
        Conv2d(
            in_channels, in_channels, kernel_size, stride, same,
            groups=in_channels, rng=rng, dtype=dtype,
        ),
        Conv2d(in_channels, out_channels, 1, rng=rng, dtype=dtype),
    )  # fmt: skip


def _divisible(in_channels: int, out_channels: int, groups: int) -> None:
    if groups < 1 or in_channels % groups or out_channels % groups:
        raise ValueError(
            f"{in_channels} channels in and {out_channels} out do not divide into {groups} groups"
        )
