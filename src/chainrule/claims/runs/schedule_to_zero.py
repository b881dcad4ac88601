"""A rate that stays, and one that falls, in a small GPT that learns names."""

from __future__ import annotations

import numpy as np

from chainrule.claims.runs import (
    WARMUP,
    Found,
    Schedule,
    both,
    letters,
    next_letter,
    small_gpt,
    train,
    warm,
)
from chainrule.training.optimizers import warmup_linear

SCHEDULES: dict[str, Schedule] = {
    "constant": warm,
    "linear to zero": lambda step, rate, steps: warmup_linear(
        step, rate, min(WARMUP, steps), steps
    ),
}


def measure(variant: str, rate: float, seed: int, steps: int | None = None) -> Found:
    """Train to the end of a schedule with this peak; the variant says how long: "…, 200 steps"."""
    kind, _, length = variant.partition(", ")
    steps = int(length.split()[0]) if steps is None else steps
    model = small_gpt(np.random.default_rng(seed))
    batches = next_letter(model, letters("train"), np.random.default_rng([seed, 1]))
    train(model.parameters(), batches, rate, steps, SCHEDULES[kind])
    return both(model)
