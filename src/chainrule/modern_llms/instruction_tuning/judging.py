"""Choosing data and comparing answers: near-copies, lenient verifiers, biased judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from chainrule.shapes import Array, Float

__all__ = ["Verdict", "judge_pairwise", "keep_accepted", "rouge_l", "self_instruct_filter"]


def rouge_l(a: str, b: str) -> float:
    """Return twice the words of the longest common subsequence over the words of both, 0 to 1.

    Source: Lin, ROUGE: A Package for Automatic Evaluation of Summaries, 2004.
    """
    words, others = a.split(), b.split()
    if not words or not others:
        return 0.0
    row = [0] * (len(others) + 1)
    for word in words:
        corner = 0
        for j, other in enumerate(others, start=1):
            above = row[j]
            row[j] = corner + 1 if word == other else max(above, row[j - 1])
            corner = above
    return 2 * row[-1] / (len(words) + len(others))


def self_instruct_filter(
    new: Sequence[str], pool: Sequence[str], threshold: float = 0.7
) -> list[str]:
    """Return the new instructions that resemble no instruction of the pool, nor one kept before.

    Source: Wang et al. 2022, arXiv:2212.10560, with their 0.7.
    """
    kept: list[str] = []
    for text in new:
        if all(rouge_l(text, old) < threshold for old in (*pool, *kept)):
            kept.append(text)
    return kept


class Verdict(NamedTuple):
    """How often A won: shown first, shown second, and the mean; and how often the order decided."""

    shown_first: float
    shown_second: float
    mean: float
    order_decided: float


def judge_pairwise(
    a: Sequence[str], b: Sequence[str], judge: Callable[[str, str], bool]
) -> Verdict:
    """Ask a judge about each pair twice, in both orders.

    ``judge(first, second)`` is true if it prefers the answer shown first.

    Equation: modern-llms/instruction-tuning.md#eq-both-orders
    Source: Zheng et al. 2023, arXiv:2306.05685.

    Raises:
        ValueError: no pairs, or not as many answers of A as of B.
    """
    if not len(a) or len(a) != len(b):
        raise ValueError(f"judge_pairwise compares pairs, got {len(a)} and {len(b)} answers")
    first = np.array([judge(x, y) for x, y in zip(a, b, strict=True)], bool)
    second = np.array([not judge(y, x) for x, y in zip(a, b, strict=True)], bool)
    share = first.mean(), second.mean()
    return Verdict(*share, sum(share) / 2, (first != second).mean())


def keep_accepted(
    shares: Float[Array, " kinds"], accepted: Float[Array, " kinds"], rounds: int
) -> Float[Array, "rounds_and_one kinds"]:
    """Return the share of each kind of answer, at first and after each round of imitation.

    In a round the model answers, a verifier keeps of each kind the share ``accepted``, and the
    model learns to answer like what was kept.

    Equation: modern-llms/instruction-tuning.md#eq-keep-accepted

    Raises:
        ValueError: shares that do not sum to 1, or a verifier that keeps nothing.
    """
    if not np.isclose(shares.sum(), 1) or not shares @ accepted > 0:
        raise ValueError(
            f"the shares sum to 1 and the verifier keeps something, got a sum of {shares.sum()} "
            f"and {shares @ accepted} kept"
        )
    found = [shares]
    for _ in range(rounds):
        kept = found[-1] * accepted
        found.append(kept / kept.sum())
    return np.stack(found)
