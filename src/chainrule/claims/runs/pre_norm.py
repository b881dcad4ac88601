"""The norm before each branch or after each sum, in a shallow and in a deep GPT."""

from __future__ import annotations

import numpy as np

from chainrule.claims.runs import Found, both, letters, next_letter, small_gpt, train
from chainrule.neural_networks.backpropagation import Linear

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
    rng = np.random.default_rng(seed)
    model = small_gpt(rng, layers, norm_place=place)
    for layer in model.modules():
        if isinstance(layer, Linear):
            layer.weight.data[:] = (
                rng.uniform(-1, 1, layer.weight.shape) / layer.weight.shape[1] ** 0.5
            )
    batches = next_letter(model, letters("train"), np.random.default_rng([seed, 1]))
    train(model.parameters(), batches, rate, steps)
    return both(model)
