"""Is one system better than another, or was it luck? Intervals, McNemar's test, the bootstrap."""

from __future__ import annotations

from math import comb, sqrt
from typing import NamedTuple

import numpy as np

from chainrule.shapes import Array, Num

__all__ = ["Bootstrap", "accuracy_margin", "mcnemar", "paired_bootstrap"]


def accuracy_margin(share: float, n: int) -> float:
    """Return half the width of the 95 % interval of a share of ``n``: 1.96 standard errors.

    Equation: modern-llms/fine-tuning.md#eq-margin

    Raises:
        ValueError: the share is outside 0 … 1, or ``n`` is below 1.
    """
    if not 0 <= share <= 1 or n < 1:
        raise ValueError(f"expected a share from 0 to 1 of at least one, got {share} of {n}")
    return 1.96 * sqrt(share * (1 - share) / n)


def mcnemar(b: int, c: int) -> float:
    """Return the exact two-sided p-value of McNemar's test.

    ``b`` questions were answered right by the first system alone, ``c`` by the second alone.
    Equation: modern-llms/fine-tuning.md#eq-mcnemar

    Raises:
        ValueError: a count is negative.
    """
    if b < 0 or c < 0:
        raise ValueError(f"counts are 0 or more, got {b} and {c}")
    n, few = b + c, min(b, c)
    tail = sum(comb(n, k) for k in range(few + 1))
    return min(1.0, 2 * tail / 2**n)


class Bootstrap(NamedTuple):
    """A difference of means, the 95 % interval, and the difference in every resample."""

    difference: float
    low: float
    high: float
    draws: Array


def paired_bootstrap(
    a: Num[Array, " n"], b: Num[Array, " n"], rng: np.random.Generator, draws: int = 2000
) -> Bootstrap:
    """Resample questions with replacement, the same for both systems; mean of b minus a.

    ``a`` and ``b`` hold one number for each question, such as 1 for right and 0 for wrong.
    Equation: modern-llms/fine-tuning.md#eq-bootstrap

    Raises:
        ValueError: the two differ in length, or are empty.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise ValueError(f"expected two rows of equal length, got {a.shape} and {b.shape}")
    gain = b - a
    found = np.array([gain[rng.integers(0, len(gain), len(gain))].mean() for _ in range(draws)])
    low, high = np.quantile(found, [0.025, 0.975])
    return Bootstrap(float(gain.mean()), float(low), float(high), found)
