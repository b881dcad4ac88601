"""LoRA's scale by the rank or by its root: a GPT that knows names learns them backwards."""

from __future__ import annotations

from functools import cache

import numpy as np

from chainrule.claims.runs import (
    WARMUP,
    Found,
    both,
    letters,
    next_letter,
    small_gpt,
    train,
    warm,
)
from chainrule.modern_llms.efficient_adaptation import apply_lora
from chainrule.shapes import Array
from chainrule.training.optimizers import warmup_linear
from chainrule.transformers.gpt import GPT

STEPS, WIDTH, BASE_STEPS, BASE_RATE = 100, 64, 400, 0.004
VARIANTS = {
    "α/r, rank 4": (4, False),
    "α/r, rank 32": (32, False),
    "α/√r, rank 32": (32, True),
}


def measure(variant: str, rate: float, seed: int, steps: int = STEPS) -> Found:
    """Adapt all matrices of the blocks with α = 8."""
    rank, stabilized = VARIANTS[variant]
    model = _base()
    apply_lora(model, r=rank, rng=np.random.default_rng([seed, 2]), rank_stabilized=stabilized)
    batches = next_letter(model, letters("train", True), np.random.default_rng([seed, 1]))

    def falls(step: int, rate: float, steps: int) -> float:
        return warmup_linear(step, rate, min(WARMUP, steps), steps)

    train([p for p in model.parameters() if p.requires_grad], batches, rate, steps, falls)
    return both(model, backwards=True)


def _base() -> GPT:
    model = small_gpt(np.random.default_rng(0), width=WIDTH)
    model.load_state_dict(_pretrained())
    return model


@cache
def _pretrained() -> dict[str, Array]:
    model = small_gpt(np.random.default_rng(0), width=WIDTH)
    batches = next_letter(model, letters("train"), np.random.default_rng(1))
    train(model.parameters(), batches, BASE_RATE, BASE_STEPS, warm)
    return model.state_dict()
