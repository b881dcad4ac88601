"""One head of self-attention, and a test that finds outputs which depend on the future."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from chainrule.neural_networks.backpropagation import Linear, Module, Tensor
from chainrule.shapes import Array, Bool, Float
from chainrule.transformers.attention import scaled_dot_product_attention
from chainrule.transformers.self_attention.masks import causal_mask, combine

__all__ = ["SelfAttention", "has_leak"]


class SelfAttention(Module):
    """One head: queries, keys and values are three projections of the same sequence.

    ``rng`` draws the weights. Equation: transformers/self-attention.md#eq-self-attention.
    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.3.
    """

    def __init__(
        self,
        d: int,
        d_head: int,
        causal: bool = False,
        *,
        bias: bool = False,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.causal = causal
        self.query = Linear(d, d_head, bias, rng=rng, dtype=dtype)
        self.key = Linear(d, d_head, bias, rng=rng, dtype=dtype)
        self.value = Linear(d, d_head, bias, rng=rng, dtype=dtype)

    def forward(
        self,
        x: Float[Tensor, "*batch time d_model"],
        mask: Bool[Array, "*mask"] | None = None,
    ) -> Float[Tensor, "*batch time d_head"]:
        """Return, for each position, a weighted mean of the values it may look at."""
        return self.attend(x, mask)[0]

    def attend(
        self,
        x: Float[Tensor, "*batch time d_model"],
        mask: Bool[Array, "*mask"] | None = None,
    ) -> tuple[Float[Tensor, "*batch time d_head"], Float[Tensor, "*batch time time"]]:
        """Return the output and the weights.

        Raises:
            ValueError: the mask has more axes than the scores, such as one for several heads.
        """
        if mask is not None and mask.ndim > len(x.shape):
            scores = (*x.shape[:-1], x.shape[-2])
            raise ValueError(
                f"a mask of shape {mask.shape} has more axes than the scores, {scores}"
            )
        if self.causal:
            mask = combine(mask, causal_mask(x.shape[-2]))
        return scaled_dot_product_attention(self.query(x), self.key(x), self.value(x), mask)


def has_leak(fn: Callable[[Array], Any], x: Float[Array, "time d"]) -> bool:
    """Tell whether any output of ``fn`` depends on a later input position.

    Moves one position at a time, up and down, by more than the largest entry of ``x`` and by
    another amount in each feature, and compares the outputs at the positions before it, relative
    to the largest output. A leak that two such moves leave below 1e-6 is not seen.

    Raises:
        ValueError: an output for ``x`` itself is not a finite number.
    """
    before = _values(fn(x.copy()))
    if not np.isfinite(before).all():
        raise ValueError("has_leak compares outputs, so those for x must be finite numbers")
    size = np.abs(before).max(initial=0)
    wave = np.cos(1 + np.arange(x.shape[1]))
    move = (np.sign(wave) + wave) * (1 + np.abs(x).max(initial=0))
    for t in range(1, len(x)):
        for step in (move, -2 * move):
            changed = x.copy()
            changed[t] += step.astype(x.dtype)
            after = _values(fn(changed))
            if not np.allclose(before[:t], after[:t], rtol=0, atol=1e-6 * size):
                return True
    return False


def _values(y: Any) -> Array:
    return np.array(y.data if isinstance(y, Tensor) else y)
