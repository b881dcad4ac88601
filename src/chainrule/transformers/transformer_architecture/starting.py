"""How training starts: the sizes of the first weights, and the learning rate of 2017."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from chainrule.neural_networks.backpropagation import Module
from chainrule.shapes import Array
from chainrule.transformers.transformer_architecture.blocks import DecoderBlock, EncoderBlock

__all__ = ["Unset", "initial_weights", "initialize_", "noam_lr", "zero_branches_"]

_TO_STREAM = ("attention.out.weight", "cross.out.weight", "down.weight")
_AT_ZERO = ("attention.sink", "start_share")


class Unset(np.random.Generator):
    """Draws zeros and costs nothing: for a model whose weights come from a file at once."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        """Return zeros."""
        return np.zeros(size, np.float32)

    def standard_normal(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        """Return zeros."""
        return np.zeros(size, np.float32)


def initial_weights(
    shapes: Mapping[str, tuple[int, ...]],
    branches: int,
    rng: np.random.Generator,
    deviation: float = 0.02,
    dtype: DTypeLike = np.float32,
) -> dict[str, Array]:
    """Return first weights by name: matrices normal, biases 0, gains 1.

    Matrices that write to the residual stream (names that end in out.weight of an attention, or
    down.weight) are smaller by √branches, the number of branches that write to it. Matrices are
    drawn in the order of the names, in float32.
    Equation: transformers/transformer-architecture.md#eq-residual-init. Source: Radford et al.,
    Language models are unsupervised multitask learners, 2019, section 2.3.

    Raises:
        ValueError: no branch, and a matrix that writes to the stream.
    """
    weights: dict[str, Array] = {}
    for name, shape in shapes.items():
        if len(shape) != 2:
            weights[name] = np.full(shape, 0.0 if name.endswith("bias") else 1.0, dtype)
            continue
        size = deviation
        if name.endswith(_TO_STREAM):
            if branches < 1:
                raise ValueError(f"{name} writes to the stream, so there is at least 1 branch")
            size = deviation / math.sqrt(branches)
        drawn = rng.standard_normal(shape, dtype=np.float32) * np.float32(size)
        weights[name] = drawn.astype(dtype, copy=False)
    return weights


def initialize_(model: Module, rng: np.random.Generator, deviation: float = 0.02) -> None:
    """Give every parameter of a model of blocks its first weight, in place.

    A block has two branches that write to the stream, one more if it looks at an encoder; in a
    model of two stacks, the branches of both are counted together. Sinks and shares of the first
    state start at 0. With `Unset` weights stay as they are.
    Equation: transformers/transformer-architecture.md#eq-residual-init
    """
    if isinstance(rng, Unset):
        return
    branches = 0
    for module in model.modules():
        if isinstance(module, EncoderBlock | DecoderBlock):
            branches += 2 + (getattr(module, "cross", None) is not None)
    named = {n: p for n, p in model.named_parameters() if not n.endswith(_AT_ZERO)}
    shapes = {name: parameter.shape for name, parameter in named.items()}
    for name, array in initial_weights(shapes, branches, rng, deviation).items():
        named[name].data[...] = array


def zero_branches_(model: Module) -> None:
    """Set every matrix that writes to the stream to 0, so that no branch adds anything at first.

    Source: Bachlechner et al. 2020, arXiv:2003.04887, with one factor of 0 a branch instead.
    """
    for name, parameter in model.named_parameters():
        if name.endswith(_TO_STREAM):
            parameter.data[...] = 0


def noam_lr(step: int, d: int, warmup: int) -> float:
    """Return the learning rate of the original: linear warm-up, then 1/√step; steps from 1.

    Equation: transformers/transformer-architecture.md#eq-noam. Source: Vaswani et al. 2017,
    arXiv:1706.03762, section 5.3.

    Raises:
        ValueError: a step, width or warm-up below 1.
    """
    if min(step, d, warmup) < 1:
        raise ValueError(f"steps are counted from 1, got {step} (width {d}, warm-up {warmup})")
    return d**-0.5 * min(step**-0.5, step * warmup**-1.5)
