"""Scaling laws: loss from parameters and tokens, the best use of a budget, the cost of a run.

Taught in ``modern-llms/pretraining.md``. ``N`` counts parameters, ``D`` tokens of training, ``C``
floating-point operations (FLOPs). Losses are in nats a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from chainrule.shapes import Array, Float

__all__ = [
    "HOFFMANN_PRINTED",
    "HOFFMANN_UNROUNDED",
    "REFIT",
    "Allocation",
    "LossLaw",
    "PowerLaw",
    "chinchilla_loss",
    "fit_power_law",
    "mfu",
    "optimal_allocation",
    "training_flops",
]


@dataclass(frozen=True)
class LossLaw:
    """The constants of ``E + A / N**alpha + B / D**beta``."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float


HOFFMANN_PRINTED = LossLaw(1.69, 406.4, 410.7, 0.34, 0.28)
"""As printed by Hoffmann et al., 2022 (arXiv 2203.15556), with two decimals of the exponents."""

HOFFMANN_UNROUNDED = LossLaw(1.6934, 406.4, 410.7, 0.3392, 0.2849)
"""The same fit with four decimals: Besiroglu et al., 2024 (arXiv 2404.10102), Table 1."""

REFIT = LossLaw(1.8172, 482.01, 2085.43, 0.3478, 0.3658)
"""The fit of Besiroglu et al., 2024 (arXiv 2404.10102), to points read off the paper's figure."""


class Allocation(NamedTuple):
    """How a budget is spent: parameters, tokens, and the loss that the law expects."""

    parameters: float
    tokens: float
    loss: float


class PowerLaw(NamedTuple):
    """``scale * x**exponent``, and how far the logarithms lie from it (median distance)."""

    scale: float
    exponent: float
    spread: float

    def __call__(self, x: Any) -> Any:
        """The law's value at ``x``."""
        return self.scale * np.asarray(x, dtype=np.float64) ** self.exponent


def chinchilla_loss(N: Any, D: Any, constants: LossLaw = REFIT) -> Any:
    """Expected loss of a model with ``N`` parameters after ``D`` tokens.

    Raises:
        ValueError: ``N`` or ``D`` is not positive.

    Equation: modern-llms/pretraining.md#eq-loss-law
    """
    N, D = np.asarray(N, dtype=np.float64), np.asarray(D, dtype=np.float64)
    if not ((N > 0).all() and (D > 0).all()):
        raise ValueError(f"chinchilla_loss: N and D must be positive, got {N.min()}, {D.min()}")
    k = constants
    return k.E + k.A * N**-k.alpha + k.B * D**-k.beta


def optimal_allocation(C: float, constants: LossLaw = REFIT) -> Allocation:
    """Parameters and tokens with the smallest expected loss under ``6 N D = C``.

    Raises:
        ValueError: ``C`` is not positive and finite.

    Equation: modern-llms/pretraining.md#eq-allocation
    """
    if not (np.isfinite(C) and C > 0):
        raise ValueError(f"optimal_allocation: C must be positive and finite, got {C}")
    k = constants
    ratio = (k.alpha * k.A) / (k.beta * k.B)
    N = ratio ** (1 / (k.alpha + k.beta)) * (C / 6) ** (k.beta / (k.alpha + k.beta))
    D = C / (6 * N)
    return Allocation(float(N), float(D), float(chinchilla_loss(N, D, k)))


def training_flops(N: float, D: float, attention: float = 0.0) -> float:
    """``6 N D``: two operations a weight and token forward, four backward.

    ``attention`` is what scores and mixing add for a token, forward only; it counts three times.

    Equation: modern-llms/pretraining.md#eq-six-n-d
    """
    if not (N >= 0 and D >= 0 and attention >= 0):
        raise ValueError(
            f"training_flops: N, D, attention must not be negative, got {N}, {D}, {attention}"
        )
    return (6 * N + 3 * attention) * D


def mfu(N: float, tokens_per_second: float, peak: float, attention: float = 0.0) -> float:
    """Share of a machine's ``peak`` operations a second that the model itself needs.

    Operations that are only repeated to save memory do not count.

    Source: Chowdhery et al., *PaLM*, 2022 (arXiv 2204.02311), appendix B.

    Equation: modern-llms/pretraining.md#eq-mfu
    """
    if not (np.isfinite(peak) and peak > 0):
        raise ValueError(f"mfu: peak must be positive and finite, got {peak}")
    return training_flops(N, tokens_per_second, attention) / peak


def fit_power_law(x: Float[Array, " n"], y: Float[Array, " n"], delta: float = 1e-3) -> PowerLaw:
    """The line through ``log y`` over ``log x`` with the least Huber loss.

    A point within ``delta`` of the line pulls by its square, one beyond by its distance only, so
    one bad run does not turn the line. Solved by least squares with weights, again and again.

    Raises:
        ValueError: fewer than two different ``x``, or a value that is not positive and finite.

    Equation: modern-llms/pretraining.md#eq-huber
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"fit_power_law: x and y must be two equal rows, got {x.shape}, {y.shape}")
    for name, values in (("x", x), ("y", y)):
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise ValueError(f"fit_power_law: every {name} must be positive and finite")
    if len(np.unique(x)) < 2:
        raise ValueError(f"fit_power_law: needs two different x, got {len(np.unique(x))}")
    log_x, log_y = np.log(x), np.log(y)
    center = log_x.mean()
    rows = np.stack([np.ones_like(log_x), log_x - center], axis=1)
    weight = np.ones_like(log_x)
    line = np.zeros(2)
    for _ in range(500):
        root = np.sqrt(weight)
        found = np.linalg.lstsq(rows * root[:, None], log_y * root, rcond=None)[0]
        moved, line = np.abs(found - line).max(), found
        distance = np.abs(log_y - rows @ line)
        weight = delta / np.maximum(distance, delta)
        if moved <= 1e-13 * (1 + np.abs(line).max()):
            break
    exponent = float(line[1])
    scale = float(np.exp(line[0] - exponent * center))
    return PowerLaw(scale, exponent, float(np.median(distance)))
