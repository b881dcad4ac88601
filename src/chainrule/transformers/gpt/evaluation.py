"""Measuring: the loss of every token of a text, and a unit that all tokenizers share."""

from __future__ import annotations

import math

import numpy as np

from chainrule.neural_networks.backpropagation import no_grad
from chainrule.shapes import Array, Float, Int
from chainrule.transformers.gpt.model import GPT

__all__ = ["bits_per_byte", "token_losses"]


def token_losses(model: GPT, ids: Int[Array, "time"], batch: int = 64) -> Float[Array, "less_one"]:
    """Return −log p of every token but the first, in nats, without dropout.

    Windows of one context begin every half context, and the second half of each counts. So a
    token is predicted from at least half a context, or from all that stands before it.

    Raises:
        ValueError: fewer than two tokens.
    """
    if len(ids) < 2:
        raise ValueError(f"the first token is not predicted, so two are needed; got {len(ids)}")
    context = min(model.config.context, len(ids) - 1)
    half = max(1, context // 2)
    last = len(ids) - 1 - context
    starts = np.append(np.arange(half, last, half), last)
    model.eval()
    first = _windows(model, ids[None, : context + 1], 0)
    losses = np.append(first[0], np.empty(len(ids) - 1 - context))
    for some in np.array_split(starts, math.ceil(len(starts) / batch)):
        rows = ids[some[:, None] + np.arange(context + 1)]
        for start, row in zip(some, _windows(model, rows, context - half), strict=True):
            losses[start + context - half : start + context] = row
    return losses


def _windows(model: GPT, rows: Array, skip: int) -> Array:
    """−log p of each token of the rows that has more than ``skip`` tokens before it."""
    with no_grad():
        logits = model.predict(model.hidden_states(rows[:, :-1])[-1][:, skip:]).data
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(logits, rows[:, skip + 1 :, None], axis=-1)[..., 0]
    return np.log(np.exp(logits).sum(axis=-1)) - chosen


def bits_per_byte(nats: float, tokens: int, bytes: int) -> float:
    """Convert a mean loss of ``nats`` a token to bits a byte of the text those tokens encode.

    Only so can models with different tokenizers be compared.
    Equation: transformers/gpt.md#eq-bits-per-byte
    """
    return nats * tokens / (bytes * math.log(2))
