"""What an output can see: receptive fields, computed and measured; and shifted images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from chainrule.neural_networks.backpropagation import Tensor, grad
from chainrule.shapes import Array, Float

__all__ = ["ReceptiveField", "gradient_reach", "receptive_field", "shift"]


class ReceptiveField(NamedTuple):
    """``size``: pixels that an output sees along one axis; ``step``: pixels between neighbours."""

    size: int
    step: int


def receptive_field(layers: Iterable[tuple[int, ...]]) -> ReceptiveField:
    """Follow (kernel, stride) or (kernel, stride, dilation) of each layer from the input on.

    Equation: architectures/cnns.md#eq-receptive-field
    """
    size, step = 1, 1
    for kernel, stride, *rest in layers:
        dilation = rest[0] if rest else 1
        size += dilation * (kernel - 1) * step
        step *= stride
    return ReceptiveField(size, step)


def gradient_reach(
    function: Callable[[Tensor], Tensor],
    images: Float[Array, "n c h w"],
    place: tuple[int, int],
) -> Float[Array, "h w"]:
    """How much each pixel moves the outputs at ``place``: mean size of the gradient.

    Zero where no image and no channel lets anything through. Images, channels of the input and
    channels of the output are averaged over; each output channel is weighed by +1.
    """
    x = Tensor(images, requires_grad=True)
    y = function(x)
    upstream = np.zeros(y.shape, y.dtype)
    upstream[:, :, place[0], place[1]] = 1
    (found,) = grad(y, [x], upstream)
    assert found is not None
    return np.abs(found).mean(axis=(0, 1))


def shift(
    images: Float[Array, "*batch h w"],
    down: int | np.integer,
    right: int | np.integer,
    fill: float = 0.0,
) -> Float[Array, "*batch h w"]:
    """Move images down and right (up and left where negative); what enters is ``fill``.

    Equation: architectures/cnns.md#eq-equivariance
    """
    moved = np.full_like(images, fill)
    h, w = images.shape[-2:]
    if abs(down) >= h or abs(right) >= w:
        return moved
    moved[..., max(down, 0) : h + min(down, 0), max(right, 0) : w + min(right, 0)] = images[
        ..., max(-down, 0) : h + min(-down, 0), max(-right, 0) : w + min(-right, 0)
    ]
    return moved
