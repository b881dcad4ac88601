"""Sampling: what may be drawn from a prediction, and drawing it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.neural_networks.backpropagation import no_grad
from chainrule.shapes import Array, Bool, Float, Int
from chainrule.transformers.gpt.model import GPT

__all__ = [
    "draw", "generate", "min_p_filter", "nucleus", "pass_at_k", "repetition_penalty",
    "sample_filters", "top_k_filter", "top_p_filter",
]  # fmt: skip


def _softmax(logits: Array) -> Array:
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def top_k_filter(logits: Float[Array, "*batch vocab"], k: int) -> Float[Array, "*batch vocab"]:
    """Keep the k highest scores (and those equal to the k-th); −∞ elsewhere.

    Raises:
        ValueError: ``k`` is below 1.
    """
    if k < 1:
        raise ValueError(f"top_k keeps at least one symbol, got {k}")
    k = min(k, logits.shape[-1])
    threshold = np.partition(logits, -k, axis=-1)[..., -k, None]
    return np.where(logits < threshold, -np.inf, logits).astype(logits.dtype)


def nucleus(p: Float[Array, "*batch vocab"], top_p: float) -> Bool[Array, "*batch vocab"]:
    """Return which symbols form the smallest set of the likeliest that holds ``top_p`` of p.

    The likeliest symbol is always in it. Equation: transformers/gpt.md#eq-nucleus. Source:
    Holtzman et al. 2019, arXiv:1904.09751.

    Raises:
        ValueError: ``top_p`` is not above 0 and at most 1.
    """
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p lies in (0, 1], got {top_p}")
    if top_p == 1:  # rounded sums reach 1 before the last symbol
        return np.ones(p.shape, bool)
    order = np.argsort(-p, axis=-1, kind="stable")
    before = np.cumsum(np.take_along_axis(p, order, axis=-1), axis=-1, dtype=np.float64)
    before -= np.take_along_axis(p, order, axis=-1)
    kept = before < top_p
    kept[..., 0] = True
    inside = np.zeros(p.shape, bool)
    np.put_along_axis(inside, order, kept, axis=-1)
    return inside


def top_p_filter(
    logits: Float[Array, "*batch vocab"], top_p: float
) -> Float[Array, "*batch vocab"]:
    """Keep the nucleus; −∞ elsewhere.

    Raises:
        ValueError: ``top_p`` is not above 0 and at most 1.
    """
    return np.where(nucleus(_softmax(logits), top_p), logits, -np.inf).astype(logits.dtype)


def min_p_filter(
    logits: Float[Array, "*batch vocab"], min_p: float
) -> Float[Array, "*batch vocab"]:
    """Keep symbols at least ``min_p`` times as likely as the likeliest; −∞ elsewhere.

    Raises:
        ValueError: ``min_p`` is not between 0 and 1.
    """
    if not 0 <= min_p <= 1:
        raise ValueError(f"min_p lies in [0, 1], got {min_p}")
    p = _softmax(logits)
    low = p < min_p * p.max(axis=-1, keepdims=True)
    return np.where(low, -np.inf, logits).astype(logits.dtype)


def repetition_penalty(
    logits: Float[Array, "batch vocab"], ids: Int[Array, "batch time"], penalty: float
) -> Float[Array, "batch vocab"]:
    """Divide positive, multiply negative scores of symbols that already occurred.

    Raises:
        ValueError: ``penalty`` is not above 0.
    """
    if not penalty > 0:
        raise ValueError(f"a repetition penalty must be above 0, got {penalty}")
    ids = ids.astype(np.intp)
    scores = np.take_along_axis(logits, ids, axis=-1)
    lowered = np.where(scores < 0, scores * penalty, scores / penalty)
    result = logits.copy()
    np.put_along_axis(result, ids, lowered.astype(logits.dtype), axis=-1)
    return result


def sample_filters(
    logits: Float[Array, "*batch vocab"],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> Float[Array, "*batch vocab"]:
    """Divide by the temperature, then apply the filters that are given, in this order.

    Equation: transformers/gpt.md#eq-temperature

    Raises:
        ValueError: ``temperature`` is not above 0, or a filter's setting is out of its range.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    logits = logits / logits.dtype.type(temperature)
    if top_k is not None:
        logits = top_k_filter(logits, top_k)
    if top_p is not None:
        logits = top_p_filter(logits, top_p)
    if min_p is not None:
        logits = min_p_filter(logits, min_p)
    return logits


def draw(
    logits: Float[Array, "batch vocab"],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    rng: np.random.Generator | None = None,
) -> Int[Array, "batch"]:
    """Draw one token for each row of scores; temperature 0 takes the likeliest, without ``rng``.

    Raises:
        ValueError: a negative temperature, no ``rng``, or scores that are not finite.
    """
    if not np.isfinite(logits.max(axis=-1, initial=-np.inf)).all():
        raise ValueError(
            "the model's scores are not finite: its weights are damaged, or training diverged"
        )
    if not temperature >= 0:
        raise ValueError(f"temperature must be at least 0, got {temperature}")
    if temperature == 0:
        return logits.argmax(axis=-1)
    if rng is None:
        raise ValueError("sampling needs a numpy Generator as rng (temperature=0 needs none)")
    scores = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    p = _softmax(sample_filters(scores, temperature, top_k, top_p, min_p))
    cumulative = np.cumsum(p, axis=-1)
    threshold = rng.random((len(p), 1)) * cumulative[:, -1:]
    return (cumulative <= threshold).sum(axis=-1)


def prompts(ids: Any) -> Int[Array, "batch time"]:
    """Return ids as int64, if they are prompts that can be continued.

    Raises:
        ValueError: they are no batch of whole numbers, or empty.
    """
    ids = np.asarray(ids)
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise ValueError(
            f"generate continues a batch of prompts, whole numbers of shape (batch, time), got "
            f"{ids.dtype} of shape {ids.shape}"
        )
    if not ids.shape[-1]:
        raise ValueError("generate continues at least one token; the prompt is empty")
    return ids.astype(np.int64, copy=False)


def generate(
    model: GPT,
    ids: Int[Array, "batch time"],
    n: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    rng: np.random.Generator | None = None,
) -> Int[Array, "batch longer"]:
    """Return ``ids`` continued by n tokens, each drawn from the model's filtered prediction.

    Only the last ``context`` tokens are seen. Every step computes the whole prediction anew;
    `stream` keeps what it can. The result holds int64, since drawn tokens need not fit the type of
    the prompt.

    Raises:
        ValueError: no batch of prompts, an empty prompt, a negative temperature, no ``rng`` where
            one is needed, or scores that are not finite.
    """
    ids = prompts(ids)
    for _ in range(n):
        with no_grad():
            logits = model(ids[:, -model.config.context :]).data[:, -1]
        drawn = draw(logits, temperature, top_k, top_p, min_p, rng)
        ids = np.concatenate([ids, drawn[:, None].astype(np.int64)], axis=1)
    return ids


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Return the chance that at least one of k of n answers is right, if ``correct`` of n are.

    Of the answers k are taken without putting back. Equation: transformers/gpt.md#eq-pass-at-k.
    Source: Chen et al. 2021, arXiv:2107.03374.

    Raises:
        ValueError: not 0 ≤ correct ≤ n, or not 1 ≤ k ≤ n.
    """
    if not 0 <= correct <= n or not 1 <= k <= n:
        raise ValueError(
            f"of n answers, 0 to n are right and 1 to n are taken; got {n, correct, k}"
        )
    return 1 - math.comb(n - correct, k) / math.comb(n, k)
