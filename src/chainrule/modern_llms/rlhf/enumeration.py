"""A world in which every reply can be written out, and what is exact in it."""

from __future__ import annotations

import math

import numpy as np

from chainrule.neural_networks.backpropagation import Module, Parameter, Tensor, gather
from chainrule.shapes import Array, Float, Int
from chainrule.training.loss_functions import log_softmax

__all__ = ["PrefixTable", "all_replies", "best_of_n", "best_of_n_bound", "optimal_policy"]


def all_replies(vocab: int, length: int) -> Int[Array, "replies length"]:
    """Return every reply of this length, in the order in which an odometer counts."""
    if vocab < 1 or length < 1:
        raise ValueError(
            f"all_replies: expected at least one symbol and place, got {vocab, length}"
        )
    return np.moveaxis(np.indices((vocab,) * length), 0, -1).reshape(-1, length)


class PrefixTable(Module):
    """A language model as a table: one row of scores for each beginning of a reply.

    ``logits`` has the shape (prefixes, vocab): the empty beginning first, then those of one symbol,
    of two, and so on. It can hold any distribution over replies of this length.

    Equation: modern-llms/rlhf.md#eq-reply

    Raises:
        ValueError: ``p`` is no distribution over all replies with only positive chances.
    """

    def __init__(self, vocab: int, length: int, p: Float[Array, "replies"] | None = None) -> None:
        self.vocab, self.length = vocab, length
        self.starts = np.cumsum([0, *(vocab**t for t in range(length - 1))])
        self.replies = all_replies(vocab, length)
        self.logits = Parameter(np.zeros((int(self.starts[-1]) + vocab ** (length - 1), vocab)))
        if p is not None:
            self._fit(np.asarray(p, float))

    def _fit(self, p: Array) -> None:
        if p.shape != (len(self.replies),) or not (p > 0).all() or not math.isclose(p.sum(), 1):
            raise ValueError(
                f"PrefixTable: expected {len(self.replies)} positive chances that sum to 1, got "
                f"shape {p.shape}, least {p.min(initial=np.inf)}, sum {p.sum()}"
            )
        for t, start in enumerate(self.starts):
            mass = p.reshape(self.vocab**t, self.vocab, -1).sum(axis=-1)
            self.logits.data[start : start + len(mass)] = np.log(mass)

    def rows(self, ids: Int[Array, "batch length"]) -> Int[Array, "batch length"]:
        """Return, for each place of each reply, the row that predicts it."""
        before = np.zeros(ids.shape, np.int64)
        for t in range(1, self.length):
            before[:, t] = before[:, t - 1] * self.vocab + ids[:, t - 1]
        return before + self.starts

    def log_probs(self, ids: Int[Array, "batch length"]) -> Float[Tensor, "batch length"]:
        """Return the log-probability of each token, given those before it.

        Weighted sums of these have the policy gradient as their slope.
        Equation: modern-llms/rlhf.md#eq-policy-gradient
        """
        rows = log_softmax(self.logits)[self.rows(ids)]
        return gather(rows, ids[..., None], axis=-1)[..., 0]

    def chances(self) -> Float[Array, "replies"]:
        """Return the probability of every reply."""
        return np.exp(self.log_probs(self.replies).data.sum(axis=1))

    def sample(self, n: int, rng: np.random.Generator) -> Int[Array, "batch length"]:
        """Draw n replies."""
        cumulative = np.cumsum(self.chances())
        return self.replies[np.searchsorted(cumulative / cumulative[-1], rng.random(n), "right")]


def optimal_policy(
    p_ref: Float[Array, "replies"], rewards: Float[Array, "replies"], beta: float
) -> Float[Array, "replies"]:
    """Return the distribution with the most E[reward] − β·KL(· ‖ reference).

    It is the reference times exp(reward/β), divided by the sum.

    Equation: modern-llms/rlhf.md#eq-objective
    Equation: modern-llms/rlhf.md#eq-optimal-policy
    Source: Rafailov et al. 2023, arXiv:2305.18290, equation 4.

    Raises:
        ValueError: β is not above 0, or there is not one reward for each reply.
    """
    p_ref, rewards = np.asarray(p_ref, float), np.asarray(rewards, float)
    if p_ref.shape != rewards.shape or p_ref.ndim != 1:
        raise ValueError(
            f"optimal_policy: expected one reward for each reply, got {p_ref.shape} chances and "
            f"{rewards.shape} rewards"
        )
    if not 0 < beta < math.inf:
        raise ValueError(f"optimal_policy: beta must be above 0 and finite, got {beta}")
    with np.errstate(divide="ignore"):
        scores = np.log(p_ref) + rewards / beta
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def best_of_n(
    p: Float[Array, "replies"], rewards: Float[Array, "replies"], n: int
) -> Float[Array, "replies"]:
    """Return the distribution of the best of n draws; equal rewards share by their chances.

    The best of n is at most r if all n are: P(best ≤ r) = P(one ≤ r)ⁿ.

    Equation: modern-llms/rlhf.md#eq-best-of-n
    """
    if n < 1:
        raise ValueError(f"best_of_n: expected at least one draw, got {n}")
    p, rewards = np.asarray(p, float), np.asarray(rewards, float)
    levels, level = np.unique(rewards, return_inverse=True)
    mass = np.bincount(level, weights=p, minlength=len(levels))
    best = np.diff(np.cumsum(mass) ** n, prepend=0.0)
    share = np.divide(best, mass, out=np.zeros_like(best), where=mass > 0)
    return p * share[level]


def best_of_n_bound(n: int) -> float:
    """Return log n − (n − 1)/n, above the KL divergence of the best of n from one draw.

    Equation: modern-llms/rlhf.md#eq-best-of-n
    Source: Beirami et al. 2024, arXiv:2401.01879.
    """
    if n < 1:
        raise ValueError(f"best_of_n_bound: expected at least one draw, got {n}")
    return math.log(n) - (n - 1) / n
