"""Networks made of convolutions: LeNet, residual networks, a ConvNeXt block, patches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from chainrule.architectures.cnns.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    MaxPool2d,
)
from chainrule.neural_networks.activation_functions import GELU, Tanh, kaiming_
from chainrule.neural_networks.backpropagation import (
    Identity,
    Linear,
    Module,
    Parameter,
    Sequential,
    Tensor,
    relu,
)
from chainrule.neural_networks.regularization import LayerNorm
from chainrule.shapes import Array, Float

__all__ = ["ConvNeXtBlock", "LeNet", "PatchEmbedding", "ResNet", "ResidualBlock", "patchify"]


class LeNet(Sequential):
    """LeNet-5 for 32 × 32 images, every kernel over all channels: 61,706 numbers to learn.

    Source: LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to Document
    Recognition, 1998; there the second layer's kernels see some channels only, and the last
    layer has fixed prototypes.
    """

    def __init__(
        self, classes: int = 10, *, rng: np.random.Generator, dtype: DTypeLike = np.float32
    ) -> None:
        super().__init__(
            Conv2d(1, 6, 5, rng=rng, dtype=dtype), Tanh(), AvgPool2d(2),
            Conv2d(6, 16, 5, rng=rng, dtype=dtype), Tanh(), AvgPool2d(2),
            Flatten(),
            Linear(400, 120, rng=rng, dtype=dtype), Tanh(),
            Linear(120, 84, rng=rng, dtype=dtype), Tanh(),
            Linear(84, classes, rng=rng, dtype=dtype),
        )  # fmt: skip


class ResidualBlock(Module):
    """Two 3 × 3 convolutions with batch norm, added to what came in; ReLU after the sum.

    Where sizes change, a 1 × 1 convolution takes the input along. ``residual=False`` leaves the
    sum out: the plain network to compare with. ``norm=False`` leaves batch norm out.
    Equation: architectures/cnns.md#eq-residual
    Source: He et al., Deep Residual Learning for Image Recognition, 2015, arXiv:1512.03385.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        residual: bool = True,
        norm: bool = True,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        def conv(c: int, m: int, kernel: int, step: int) -> Conv2d:
            layer = Conv2d(c, m, kernel, step, kernel // 2, bias=not norm, rng=rng, dtype=dtype)
            kaiming_(layer.weight, rng)
            if layer.bias is not None:
                layer.bias.data[...] = 0
            return layer

        def after(m: int) -> Module:
            return BatchNorm2d(m, dtype=dtype) if norm else Identity()

        self.conv1, self.bn1 = conv(in_channels, out_channels, 3, stride), after(out_channels)
        self.conv2, self.bn2 = conv(out_channels, out_channels, 3, 1), after(out_channels)
        self.residual = residual
        self.shortcut: Module = Identity()
        if residual and (stride != 1 or in_channels != out_channels):
            self.shortcut = Sequential(
                conv(in_channels, out_channels, 1, stride), after(out_channels)
            )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n m hh ww"]:
        """Return ReLU(x + f(x)), or ReLU(f(x)) without the sum."""
        change = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        return relu(self.shortcut(x) + change) if self.residual else relu(change)


class ResNet(Module):
    """A stem, stages of residual blocks, the mean over all places, one linear layer.

    ``blocks`` in each stage, of ``widths`` channels; from the second stage on, the first block
    halves the image. The stem is a 7 × 7 convolution with stride 2 and a 3 × 3 max pooling with
    stride 2, or, with ``small``, one 3 × 3 convolution. The defaults are ResNet-18.
    """

    def __init__(
        self,
        blocks: Sequence[int] = (2, 2, 2, 2),
        widths: Sequence[int] = (64, 128, 256, 512),
        classes: int = 1000,
        in_channels: int = 3,
        small: bool = False,
        residual: bool = True,
        *,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        kernel, step = (3, 1) if small else (7, 2)
        self.conv = Conv2d(
            in_channels, widths[0], kernel, step, kernel // 2, bias=False, rng=rng, dtype=dtype
        )
        kaiming_(self.conv.weight, rng)
        self.bn = BatchNorm2d(widths[0], dtype=dtype)
        self.pool = Identity() if small else MaxPool2d(3, 2, 1)
        made, width = [], widths[0]
        for stage, (count, wider) in enumerate(zip(blocks, widths, strict=True)):
            for block in range(count):
                stride = 2 if stage and not block else 1
                made.append(
                    ResidualBlock(width, wider, stride, residual=residual, rng=rng, dtype=dtype)
                )
                width = wider
        self.blocks = Sequential(*made)
        self.head = Linear(width, classes, rng=rng, dtype=dtype)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return the logits."""
        x = self.blocks(self.pool(relu(self.bn(self.conv(x)))))
        return self.head(x.mean((2, 3)))


class ConvNeXtBlock(Module):
    """A 7 × 7 kernel for each channel, layer norm, a wider layer with GELU, added to the input.

    ``scale`` is what the learned factor of each channel starts from.
    Equation: architectures/cnns.md#eq-convnext-count
    Source: Liu et al., A ConvNet for the 2020s, 2022, arXiv:2201.03545.
    """

    def __init__(
        self,
        d: int,
        kernel_size: int = 7,
        scale: float = 1e-6,
        *,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.depthwise = Conv2d(
            d, d, kernel_size, padding=kernel_size // 2, groups=d, rng=rng, dtype=dtype
        )
        self.norm = LayerNorm(d, eps=1e-6, dtype=dtype)
        self.wider, self.act = Linear(d, 4 * d, rng=rng, dtype=dtype), GELU()
        self.back = Linear(4 * d, d, rng=rng, dtype=dtype)
        self.scale = Parameter(np.full(d, scale, dtype=dtype))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return x + scale · f(x)."""
        pixels = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        change = self.scale * self.back(self.act(self.wider(pixels)))
        return x + change.permute(0, 3, 1, 2)


def patchify(x: Float[Array, "n c h w"], patch: int) -> Float[Array, "n patches numbers"]:
    """Cut images into squares, each flattened to c·patch² numbers, row of squares by row.

    Raises:
        ValueError: the squares do not tile the image.
    """
    n, c, h, w = x.shape
    if patch < 1 or h % patch or w % patch:
        raise ValueError(f"squares of {patch} do not tile an image of {h} × {w}")
    squares = x.reshape(n, c, h // patch, patch, w // patch, patch)
    return squares.transpose(0, 2, 4, 1, 3, 5).reshape(n, -1, c * patch * patch)


class PatchEmbedding(Conv2d):
    """One vector of d numbers for each square of an image: kernel and stride are the square.

    Equation: architectures/cnns.md#eq-patch-embedding
    Source: Dosovitskiy et al., An Image is Worth 16x16 Words, 2020, arXiv:2010.11929.
    """

    def __init__(
        self,
        in_channels: int,
        d: int,
        patch: int,
        *,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(in_channels, d, patch, patch, rng=rng, dtype=dtype)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n patches d"]:
        """Return the vectors, row of squares by row."""
        return super().forward(x).flatten(2).transpose(1, 2)
