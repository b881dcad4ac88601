"""What a handful of seeds says about a mean: its interval, and where a repeat should fall."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

__all__ = ["LEVEL", "Interval", "interval", "room_for_repeat", "student_cdf", "student_quantile"]

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean and the ends of its interval."""

    mean: float
    low: float
    high: float


def student_cdf(t: float, degrees: int) -> float:
    """The probability that Student's t with so many degrees of freedom is below ``t``.

    The finite sums of Abramowitz and Stegun, *Handbook of Mathematical Functions*, 26.7.3 and
    26.7.4, in the angle whose tangent is t / √degrees.
    """
    if degrees < 1:
        raise ValueError(f"student_cdf: degrees of freedom must be at least 1, got {degrees}")
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(1 + odd, degrees, 2):  # terms of cos^0, cos^2, … or cos^1, cos^3, …
        total += term
        term *= cosine**2 * k / (k + 1)
    inside = sine * total if not odd else 2 / math.pi * (angle + sine * total)
    return (1 + inside) / 2


@cache
def student_quantile(p: float, degrees: int) -> float:
    """The t below which Student's distribution has the probability ``p``, by halving."""
    if not 0 < p < 1:
        raise ValueError(f"student_quantile: a probability between 0 and 1, got {p}")
    if p < 0.5:
        return -student_quantile(1 - p, degrees)
    low, high = 0.0, 1.0
    while student_cdf(high, degrees) < p:
        high *= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if student_cdf(middle, degrees) < p:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """The mean of independent values and Student's interval for what it estimates.

    Raises:
        ValueError: fewer than two values, or one that is not finite.
    """
    return _around_mean(values, 1.0, level)


def room_for_repeat(values: Sequence[float], level: float = LEVEL) -> Interval:
    """The mean, and where the mean of as many new values falls with the probability ``level``.

    Both means scatter, so the interval is √2 times as wide as that of one.
    """
    return _around_mean(values, 2.0, level)


def _around_mean(values: Sequence[float], variances: float, level: float) -> Interval:
    n = len(values)
    if n < 2 or not np.all(np.isfinite(values)):
        raise ValueError(f"an interval needs two finite values or more, got {list(values)}")
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    half = student_quantile((1 + level) / 2, n - 1) * spread * math.sqrt(variances / n)
    return Interval(mean, mean - half, mean + half)
