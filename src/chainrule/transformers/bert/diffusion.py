"""Masked diffusion: with a random rate of hiding, filling gaps is a generative model."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import factorial

import numpy as np

from chainrule.neural_networks.backpropagation import Tensor
from chainrule.shapes import Array, Float, Int
from chainrule.training.loss_functions import cross_entropy

__all__ = ["masked_diffusion_bound", "masked_diffusion_loss", "unmask_sample"]


def masked_diffusion_loss(
    logits_of: Callable[[Array], Float[Tensor, "batch time vocab"]],
    ids: Int[Array, "batch time"],
    rng: np.random.Generator,
    *,
    mask_id: int,
) -> Float[Tensor, ""]:
    """Return a sample of the bound on −log p, in nats a text, averaged over the batch.

    Each text draws its own share r from 0 to 1, hides each token with probability r, and counts
    its losses 1/r times. Shares are spread evenly over the batch, which lowers the variance.
    Equation: transformers/bert.md#eq-diffusion. Source: Sahoo et al. 2024, arXiv:2406.07524.
    """
    batch, time = ids.shape
    r = (rng.random() + rng.permutation(batch)) / batch
    r = np.clip(r, 1e-3, 1.0)[:, None]
    hidden = rng.random(ids.shape) < r
    if not hidden.any():
        hidden[np.arange(batch), rng.integers(0, time, batch)] = True
    logits = logits_of(np.where(hidden, mask_id, ids).astype(ids.dtype))
    each = cross_entropy(logits[hidden], ids[hidden], reduction="none")
    weight = np.broadcast_to(1 / r, ids.shape)[hidden].astype(each.dtype)
    return (each * weight).sum() / batch


def masked_diffusion_bound(
    conditional: Callable[[tuple[int, ...], int], float], length: int
) -> float:
    """Return the bound on −log p of one text, by going through every set of hidden places.

    ``conditional(hidden, place)`` is the probability of the true token at a hidden place, given
    all tokens that are not hidden. With the exact conditionals of a distribution the bound is
    −log p itself. Equation: transformers/bert.md#eq-diffusion-sets
    """
    total = 0.0
    for k in range(1, length + 1):
        weight = factorial(k - 1) * factorial(length - k) / factorial(length)
        for hidden in combinations(range(length), k):
            total -= weight * sum(float(np.log(conditional(hidden, i))) for i in hidden)
    return total


def unmask_sample(
    logits_of: Callable[[Array], Float[Array, "batch time vocab"]],
    ids: Int[Array, "batch time"],
    steps: int,
    rng: np.random.Generator,
    *,
    mask_id: int,
) -> Int[Array, "batch time"]:
    """Fill every place that holds ``mask_id``, a part of them in each of ``steps`` steps.

    The places come in random order. All places of one step are drawn at once, each from its own
    distribution, as if they did not depend on each other.

    Raises:
        ValueError: there is no step.
    """
    if steps < 1:
        raise ValueError(f"there is at least 1 step, got {steps}")
    ids = ids.copy()
    hidden = ids == mask_id
    order = np.where(hidden, rng.random(ids.shape), np.inf).argsort(axis=1).argsort(axis=1)
    count = hidden.sum(axis=1, keepdims=True)
    for step in range(steps):
        low, high = step * count / steps, (step + 1) * count / steps
        now = hidden & (order >= low) & (order < high)
        if not now.any():
            continue
        logits = logits_of(ids)[now].astype(float)
        logits[:, mask_id] = -np.inf
        noise = rng.gumbel(size=logits.shape)
        ids[now] = (logits + noise).argmax(axis=-1)
    return ids
