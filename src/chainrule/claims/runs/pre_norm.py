"""The norm before each branch or after each sum, in a shallow and in a deep GPT."""

from __future__ import annotations

import numpy as np

from chainrule.claims.runs import Found, both, letters, next_letter, small_gpt, train

STEPS = 100
VARIANTS = {
    "pre-norm, 2 blocks": ("pre", 2),
    "post-norm, 2 blocks": ("post", 2),
    "pre-norm, 6 blocks": ("pre", 6),
    "post-norm, 6 blocks": ("post", 6),
}


def measure(variant: str, rate: float, seed: int, steps: int = STEPS) -> Found:
    """Train at a rate that neither warms up nor falls."""
    place, layers = VARIANTS[variant]
    model = small_gpt(np.random.default_rng(seed), layers, norm_place=place)
    batches = next_letter(model, letters("train"), np.random.default_rng([seed, 1]))
    train(model.parameters(), batches, rate, steps)
    return both(model)
