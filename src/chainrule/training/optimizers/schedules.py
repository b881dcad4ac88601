"""Learning rate schedules, and a search for the range of rates in which the loss falls."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from chainrule.neural_networks.backpropagation.edits import note_edit
from chainrule.shapes import Array, Float
from chainrule.training.optimizers.groups import Optimizer

__all__ = ["LRRange", "inverse_sqrt", "lr_range_test", "warmup_cosine", "warmup_linear", "wsd"]


def warmup_cosine(step: int, lr: float, warmup: int, total: int, final: float = 0.0) -> float:
    """Linear to ``lr`` in ``warmup`` steps, then half a cosine down to ``final`` at ``total``.

    Steps count from 0: the first has rate lr/warmup, steps ``warmup`` − 1 and ``warmup`` the
    full one.

    Equation: training/optimizers.md#eq-warmup-cosine

    Raises:
        ValueError: not 0 ≤ warmup ≤ total, or ``step`` is negative.
    """
    _check_schedule(step, warmup, total)
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return final + (lr - final) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_linear(step: int, lr: float, warmup: int, total: int, final: float = 0.0) -> float:
    """Linear to ``lr`` in ``warmup`` steps, then linear down to ``final`` at ``total``.

    Equation: training/optimizers.md#eq-warmup-linear

    Raises:
        ValueError: not 0 ≤ warmup ≤ total, or ``step`` is negative.
    """
    _check_schedule(step, warmup, total)
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return lr + (final - lr) * progress


def wsd(step: int, lr: float, warmup: int, total: int, decay: int, final: float = 0.0) -> float:
    """Warmup, stable, decay: ``lr`` until ``decay`` steps before ``total``, then linear.

    Equation: training/optimizers.md#eq-wsd
    Source: Hu et al., MiniCPM, 2024, arXiv:2404.06395.

    Raises:
        ValueError: ``decay`` does not fit between the warmup and ``total``, or a step is negative.
    """
    _check_schedule(step, warmup, total)
    if not 0 <= decay <= total - warmup:
        raise ValueError(f"wsd: decay must be between 0 and {total - warmup}, got {decay}")
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = min(1.0, max(0.0, (step - (total - decay)) / max(1, decay)))
    return lr + (final - lr) * progress


def inverse_sqrt(step: int, lr: float, warmup: int) -> float:
    """Linear to ``lr`` in ``warmup`` steps, then falling as 1/√step.

    Equation: training/optimizers.md#eq-inverse-sqrt
    Source: Vaswani et al., Attention is all you need, 2017, arXiv:1706.03762.

    Raises:
        ValueError: ``warmup`` is below 1, or ``step`` negative.
    """
    if warmup < 1 or step < 0:
        raise ValueError(
            f"expected warmup of at least 1 and step of at least 0, got {warmup}, {step}"
        )
    return lr * min((step + 1) / warmup, math.sqrt(warmup / (step + 1)))


class LRRange(NamedTuple):
    """Learning rates tried, and the loss before each step."""

    rates: Float[Array, "steps"]
    losses: Float[Array, "steps"]


def lr_range_test(
    optimizer: Optimizer,
    closure: Callable[[], float],
    lowest: float = 1e-6,
    highest: float = 1.0,
    steps: int = 100,
) -> LRRange:
    """Train while the rate grows geometrically, to see where the loss falls and where it explodes.

    ``closure`` computes the loss and its gradients on one batch. Stops early when the loss is not
    finite or four times its smallest value. Parameters, state and rates are put back at the end.

    Source: Smith, Cyclical learning rates, 2015, arXiv:1506.01186.

    Raises:
        ValueError: not 0 < lowest < highest, or fewer than two steps.
    """
    if not 0 < lowest < highest or steps < 2:
        raise ValueError(
            f"lr_range_test: expected 0 < lowest < highest and steps >= 2, "
            f"got {lowest}, {highest}, {steps}"
        )
    params = [p for group in optimizer.param_groups for p in group["params"]]
    weights = [p.data.copy() for p in params]
    state = optimizer.state_dict()
    state["state"] = [{k: v.copy() for k, v in entry.items()} for entry in state["state"]]
    rates = np.geomspace(lowest, highest, steps)
    losses: list[float] = []
    for rate in rates:
        for group in optimizer.param_groups:
            group["lr"] = float(rate)
        optimizer.zero_grad()
        losses.append(float(closure()))
        if not math.isfinite(losses[-1]) or losses[-1] > 4 * min(losses):
            break
        optimizer.step()
    for p, w in zip(params, weights, strict=True):
        p.data[...] = w
        note_edit(p.data)
    optimizer.zero_grad()
    optimizer.load_state_dict(state)
    return LRRange(rates[: len(losses)], np.array(losses))


def _check_schedule(step: int, warmup: int, total: int) -> None:
    if not 0 <= warmup <= total or step < 0:
        raise ValueError(
            f"expected 0 <= warmup <= total and step >= 0, got warmup={warmup}, total={total}, "
            f"step={step}"
        )
