"""Whether the rate falls, and how far, in a small GPT that learns names."""

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
from chainrule.training.optimizers import warmup_cosine, warmup_linear

STEPS = 300
SCHEDULES: dict[str, Schedule] = {
    "constant": warm,
    "cosine to a tenth": lambda step, rate, steps: warmup_cosine(
        step, rate, min(WARMUP, steps), steps, rate / 10
    ),
    "linear to zero": lambda step, rate, steps: warmup_linear(
        step, rate, min(WARMUP, steps), steps
    ),
}


def measure(variant: str, rate: float, seed: int, steps: int = STEPS) -> Found:
    """Train to the end of a schedule with this peak."""
    model = small_gpt(np.random.default_rng(seed))
    batches = next_letter(model, letters("train"), np.random.default_rng([seed, 1]))
    train(model.parameters(), batches, rate, steps, SCHEDULES[variant])
    return both(model)
