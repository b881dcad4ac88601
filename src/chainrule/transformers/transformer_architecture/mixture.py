"""Mixture of experts: many feed-forward layers, of which each token uses a few."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from chainrule.neural_networks.backpropagation import (
    Buffer,
    Linear,
    Module,
    ModuleList,
    Tensor,
    concat,
    gather,
    take,
)
from chainrule.shapes import Array, Float
from chainrule.transformers.attention import masked_softmax
from chainrule.transformers.transformer_architecture.feed_forward import FeedForward

__all__ = ["MoE"]


class MoE(Module):
    """A feed-forward layer in ``n_experts`` versions, of which each token uses ``k``.

    A router scores the experts; the best k are used. Their outputs are added, weighted by the
    softmax of the scores, divided by its sum over the k (for k = 1 the weight is the softmax
    itself, or the router would get no gradient). ``shared`` experts see every token.

    ``balance`` says how the load is kept even: "loss" leaves n · Σ fᵢ Pᵢ in ``balance_loss`` for
    the training loss (Fedus et al. 2021, arXiv:2101.03961); "bias" adds to the shares, for the
    choice alone, a bias that `update_bias` moves against the load (Wang et al. 2024,
    arXiv:2408.15664). With ``capacity`` an expert takes at most capacity · k · tokens /
    n_experts tokens, the earlier ones first. ``load`` holds each expert's part of the choices.
    Equation: transformers/transformer-architecture.md#eq-moe

    Raises:
        ValueError: more experts a token than there are, or another kind of balance.
    """

    def __init__(
        self,
        d: int,
        hidden: int,
        n_experts: int,
        k: int = 2,
        shared: int = 0,
        balance: str = "loss",
        kind: str = "swiglu",
        capacity: float | None = None,
        *,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        if not 1 <= k <= n_experts:
            raise ValueError(f"each token uses 1 to {n_experts} experts, not {k}")
        if balance not in ("loss", "bias", "none"):
            raise ValueError(f"balance is 'loss', 'bias' or 'none', not {balance!r}")
        options: dict[str, Any] = {"bias": False, "rng": rng, "dtype": dtype}
        self.n_experts, self.k, self.balance, self.capacity = n_experts, k, balance, capacity
        self.router = Linear(d, n_experts, **options)
        self.experts = ModuleList(FeedForward(d, hidden, kind, **options) for _ in range(n_experts))
        self.shared = ModuleList(FeedForward(d, hidden, kind, **options) for _ in range(shared))
        self.choice_bias = Buffer(np.zeros(n_experts, dtype))
        self.balance_loss: Tensor | None = None
        self.load = np.zeros(n_experts)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Send each token to its experts and add up what they return."""
        if not x.size:
            return x
        tokens = x.reshape(-1, x.shape[-1])
        shares = masked_softmax(self.router(tokens))
        chosen = self._choose(shares.data)
        weights = gather(shares, chosen, axis=-1)
        if self.k > 1:
            weights = weights / weights.sum(axis=-1, keepdims=True)
        self.load = np.bincount(chosen.ravel(), minlength=self.n_experts) / chosen.size
        if self.balance == "loss":
            self.balance_loss = balance_loss(shares, self.load)
        y = self._dispatch(tokens, chosen, weights)
        for expert in self.shared:
            y = y + expert(tokens)
        return y.reshape(*x.shape)

    def _choose(self, shares: Array) -> Array:
        scores = shares + self.choice_bias.data if self.balance == "bias" else shares
        return np.argsort(-scores, axis=-1, kind="stable")[:, : self.k]

    def _dispatch(self, tokens: Tensor, chosen: Array, weights: Tensor) -> Tensor:
        """Run each expert once on all its tokens; then every token collects its k results."""
        limit = chosen.size
        if self.capacity is not None:
            limit = max(1, math.ceil(self.capacity * chosen.size / self.n_experts))
        outputs, place, start = [], np.zeros(chosen.shape, int), 0
        kept = np.zeros(chosen.shape, bool)
        for i, expert in enumerate(self.experts):
            rows, slots = np.nonzero(chosen == i)
            rows, slots = rows[:limit], slots[:limit]
            if len(rows):
                outputs.append(expert(take(tokens, rows)))
            place[rows, slots] = start + np.arange(len(rows))
            kept[rows, slots] = True
            start += len(rows)
        weights = weights * kept
        return (take(concat(outputs), place) * weights.unsqueeze(-1)).sum(axis=1)

    def update_bias(self, rate: float) -> None:
        """Make experts that had more than their share of tokens a little less attractive."""
        step = rate * np.sign(1 / self.n_experts - self.load)
        self.choice_bias.data += step.astype(self.choice_bias.dtype)


def balance_loss(
    shares: Float[Tensor, "tokens experts"], load: Float[Array, "experts"]
) -> Float[Tensor, ""]:
    """Return experts · Σ fᵢ Pᵢ: 1 if all experts are used alike, more where a few are preferred.

    fᵢ is each expert's part of the choices (``load``), Pᵢ the mean of its ``shares``; gradients
    flow through the shares. Equation: transformers/transformer-architecture.md#eq-balance-loss
    """
    return (shares.mean(axis=0) * (len(load) * load).astype(shares.dtype)).sum()
