"""A look-up that can be differentiated: scores, softmax over the keys, mean of the values."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from chainrule.neural_networks.backpropagation import Tensor, primitive, sum_to
from chainrule.neural_networks.backpropagation.promotion import floating, wide
from chainrule.shapes import Array, Float

Mask = Tensor | Array
Sink = Tensor | Array | float


@primitive
def _softmax(scores: Array, sink: Array | None = None, *, allowed: Array | None = None) -> Any:
    scores = floating(scores)
    masked = scores if allowed is None else np.where(allowed, scores, -np.inf)
    top = masked.max(axis=-1, keepdims=True, initial=-np.inf)
    if sink is not None:
        top = np.maximum(top, sink)
    top[np.isneginf(top)] = 0  # a row without any key
    p = np.exp(masked - top, dtype=scores.dtype)
    total = p.sum(axis=-1, keepdims=True)
    if sink is not None:
        total += np.exp(sink - top, dtype=scores.dtype)
    total[total == 0] = 1
    p /= total
    shape, sink_shape = scores.shape, None if sink is None else sink.shape

    def vjp(g: Array) -> Any:
        mean = (g * p).sum(axis=-1, keepdims=True)
        gradient = sum_to(p * (g - mean), shape)
        if sink_shape is None:
            return gradient, None
        return gradient, sum_to((p.sum(axis=-1, keepdims=True) - 1) * mean, sink_shape)

    return p, vjp


def masked_softmax(
    scores: Float[Tensor, "*rows keys"], mask: Mask | None = None, sink: Sink | None = None
) -> Float[Tensor, "*weights keys"]:
    """Softmax over the keys that the mask allows; a row that allows none is all zeros.

    A boolean mask is true where a query may look; a floating mask is added to the scores.
    Masking is −∞ before the softmax, never 0 after it: the weights still sum to 1. ``sink`` is
    the score of looking nowhere, of shape (*rows, 1) or what broadcasts to it; with it a row sums
    to less than 1, and 0 makes it the softmax with 1 added to the denominator.
    Equation: transformers/attention.md#eq-masked-softmax, transformers/attention.md#eq-sink.
    Source of the learned sink: OpenAI 2025, arXiv:2508.10925.

    Raises:
        TypeError: the mask is neither boolean nor floating.
    """
    allowed = None
    if mask is not None:
        if mask.dtype == np.bool_:
            allowed = mask.data if isinstance(mask, Tensor) else mask
        elif mask.dtype.kind == "f":
            scores = scores + mask
        else:
            raise TypeError(
                "a mask is boolean, true where a query may look, or floating, added to the "
                f"scores; got {mask.dtype}: convert it with .astype(bool)"
            )
    if sink is None:
        return _softmax(scores, allowed=allowed)
    if not isinstance(sink, Tensor):
        sink = Tensor(np.asarray(sink, scores.dtype))
    return _softmax(scores, sink, allowed=allowed)


def scaled_dot_product_attention(
    q: Float[Tensor, "*#batch queries d_k"],
    k: Float[Tensor, "*#batch keys d_k"],
    v: Float[Tensor, "*#batch keys d_v"],
    mask: Mask | None = None,
    scale: float | None = None,
    sink: Sink | None = None,
) -> tuple[Float[Tensor, "*out queries d_v"], Float[Tensor, "*weights queries keys"]]:
    """Return softmax(q kᵀ · scale) v and the weights, with scale 1/√d_k unless given.

    ``mask`` and ``sink`` are those of `masked_softmax`.
    Equation: transformers/attention.md#eq-scaled-dot-product. Source: Vaswani et al. 2017,
    arXiv:1706.03762.
    """
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    narrow = q.dtype
    if wide(narrow) != narrow:  # scores of 16 bits would overflow where weights fit
        q, k, v = (x.to(wide(narrow)) for x in (q, k, v))
    scores = (q * scale) @ k.transpose(-1, -2)
    weights = masked_softmax(scores, mask, sink)
    return (weights @ v).to(narrow), weights.to(narrow)


class AdditiveParameters(NamedTuple):
    """Weights of additive scoring: one matrix for queries, one for keys, one vector."""

    query: Float[Tensor, "d_hidden d_q"]
    key: Float[Tensor, "d_hidden d_k"]
    score: Float[Tensor, "d_hidden"]


def additive_attention(
    q: Float[Tensor, "*batch queries d_q"],
    k: Float[Tensor, "*batch keys d_k"],
    v: Float[Tensor, "*batch keys d_v"],
    params: AdditiveParameters,
    mask: Mask | None = None,
) -> tuple[Float[Tensor, "*batch queries d_v"], Float[Tensor, "*batch queries keys"]]:
    """Score each pair by a small network, uᵀ tanh(A q + C k), then retrieve.

    Equation: transformers/attention.md#eq-additive. Source: Bahdanau, Cho, Bengio 2014,
    arXiv:1409.0473.
    """
    queries = (q @ params.query.T).unsqueeze(-2)
    keys = (k @ params.key.T).unsqueeze(-3)
    weights = masked_softmax((queries + keys).tanh() @ params.score, mask)
    return weights @ v, weights


def nadaraya_watson(
    xq: Float[Array, "queries d"],
    x: Float[Array, "keys d"],
    y: Float[Array, "keys d_v"],
    h: float,
) -> Float[Array, "queries d_v"]:
    """Kernel regression: the mean of ``y`` weighted by a Gaussian of width ``h`` around ``xq``.

    Attention with the score −‖xq − x‖²/2h². Equation: transformers/attention.md#eq-nadaraya-watson.
    Source: Nadaraya, On estimating regression, 1964; Watson, Smooth regression analysis, 1964.

    Raises:
        ValueError: the width is not positive.
    """
    if not h > 0:
        raise ValueError(f"nadaraya_watson: the width h must be positive, got {h}")
    squared = ((xq[:, None, :] - x[None, :, :]) ** 2).sum(axis=-1)
    squared -= squared.min(axis=-1, keepdims=True, initial=np.inf)  # the nearest scores 0 for any h
    with np.errstate(over="ignore"):
        scores = -squared / h / h / 2
    return masked_softmax(Tensor(scores)).data @ y
