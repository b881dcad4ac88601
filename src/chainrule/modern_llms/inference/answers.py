"""Spending more at test time: several answers, and a vote."""

from __future__ import annotations

import math

__all__ = ["majority_vote"]


def majority_vote(p: float, votes: int) -> float:
    """Return the chance that more than half of ``votes`` independent answers are right.

    Each is right with chance p; all wrong answers count as one, the worst case.
    Equation: modern-llms/inference.md#eq-majority-vote

    Raises:
        ValueError: p is no probability, or the votes are not an odd number.
    """
    if not 0 <= p <= 1 or votes < 1 or votes % 2 == 0:
        raise ValueError(f"0 ≤ p ≤ 1 and an odd number of votes, got {p} and {votes}")
    more_than_half = range(votes // 2 + 1, votes + 1)
    return sum(math.comb(votes, k) * p**k * (1 - p) ** (votes - k) for k in more_than_half)
