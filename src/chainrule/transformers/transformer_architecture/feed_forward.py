"""The feed-forward layer: one small network, applied to every position by itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import DTypeLike

from chainrule.neural_networks.activation_functions import gelu, relu_squared, silu
from chainrule.neural_networks.backpropagation import Linear, Module, Tensor, relu
from chainrule.shapes import Float

__all__ = ["KINDS", "FeedForward", "is_gated"]


def _gelu_tanh(x: Tensor) -> Tensor:
    return gelu(x, approximate="tanh")


_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": relu,
    "relu2": relu_squared,
    "gelu": gelu,
    "gelu_tanh": _gelu_tanh,
}
_GATED: dict[str, Callable[[Tensor], Tensor]] = {"swiglu": silu, "geglu_tanh": _gelu_tanh}

KINDS = (*_PLAIN, *_GATED)


def is_gated(kind: str) -> bool:
    """Tell whether a kind has a third matrix, the gate."""
    return kind in _GATED


class FeedForward(Module):
    """The same small network at every position: widen, bend, narrow.

    ``kind`` names the bend: relu, relu2, gelu, gelu_tanh, or a gate (swiglu, geglu_tanh), which
    multiplies a second projection by the bend of the first. ``hidden`` is 4 · d unless given.
    Equation: transformers/transformer-architecture.md#eq-feed-forward
    Equation: transformers/transformer-architecture.md#eq-swiglu
    Source of the gates: Shazeer 2020, arXiv:2002.05202.

    Raises:
        ValueError: the kind is not offered.
    """

    def __init__(
        self,
        d: int,
        hidden: int | None = None,
        kind: str = "gelu",
        bias: bool = True,
        *,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind is one of {KINDS}, not {kind!r}")
        hidden = 4 * d if hidden is None else hidden
        self.kind = kind
        self.gate = Linear(d, hidden, bias, rng=rng, dtype=dtype) if is_gated(kind) else None
        self.up = Linear(d, hidden, bias, rng=rng, dtype=dtype)
        self.down = Linear(hidden, d, bias, rng=rng, dtype=dtype)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Transform every position by itself."""
        if self.gate is not None:
            return self.down(_GATED[self.kind](self.gate(x)) * self.up(x))
        return self.down(_PLAIN[self.kind](self.up(x)))
