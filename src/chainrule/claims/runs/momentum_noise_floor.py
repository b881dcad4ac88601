"""SGD with and without momentum on a stream of noisy examples."""

from __future__ import annotations

import numpy as np

from chainrule.claims.runs import Found
from chainrule.neural_networks.backpropagation import Linear, tensor
from chainrule.training.optimizers import SGD

STEPS, BATCH, NOISE = 1000, 4, 1.0
CURVATURES = np.geomspace(1.0, 0.1, 10)
MOMENTUM = {"plain": 0.0, "momentum 0.9": 0.9, "momentum 0.97": 0.97}


def measure(variant: str, rate: float, seed: int, steps: int = STEPS) -> Found:
    """Fit ten coefficients; the excess is exact, in percent of what the noise alone costs."""
    draw = np.random.default_rng([seed, 1])
    layer = Linear(len(CURVATURES), 1, bias=False, rng=draw, dtype="float64")
    layer.weight.data[:] = 0.0
    true = np.random.default_rng([seed, 2]).choice([-1.0, 1.0], len(CURVATURES))
    optimizer = SGD(layer.parameters(), lr=rate, momentum=MOMENTUM[variant])
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(steps):
            X = draw.normal(size=(BATCH, len(CURVATURES))) * np.sqrt(CURVATURES)
            y = X @ true[:, None] + NOISE * draw.normal(size=(BATCH, 1))
            optimizer.zero_grad()
            (((layer(tensor(X)) - y) ** 2).mean() / 2).backward()
            optimizer.step()
        error = layer.weight.data[0] - true
        excess = float((CURVATURES * error**2).sum() / 2)
        held = np.random.default_rng([seed, 3]).normal(size=(2000, len(CURVATURES)))
        chosen = float((((held * np.sqrt(CURVATURES)) @ error) ** 2).mean() / 2)
    return chosen, {"excess loss": 100 * excess / (NOISE**2 / 2)}
