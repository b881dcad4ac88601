"""Letting a model write, asking what it thinks of what was written, and checking sums."""

from __future__ import annotations

import re
from itertools import islice
from typing import NamedTuple

import numpy as np

from chainrule.neural_networks.backpropagation import Tensor, gather
from chainrule.shapes import Array, Bool, Int
from chainrule.training.loss_functions import log_softmax
from chainrule.transformers.gpt import GPT, stream

__all__ = ["Rollout", "rollout", "token_log_probs", "verifier_arithmetic"]


class Rollout(NamedTuple):
    """Prompts with replies, and which tokens of the replies are real: up to the end token."""

    ids: Int[Array, "batch time"]
    mask: Bool[Array, "batch reply"]


def rollout(
    model: GPT,
    prompts: Int[Array, "batch prompt"],
    n: int,
    rng: np.random.Generator,
    end: int | None = None,
    temperature: float = 1.0,
) -> Rollout:
    """Continue each prompt by n tokens; what follows an end token is filling: end again.

    The end token itself is real: stopping is a choice that has to be learned.

    Raises:
        ValueError: n is below 1.
    """
    if n < 1:
        raise ValueError(f"rollout: expected at least one token, got {n}")
    new = np.stack(list(islice(stream(model, prompts, temperature, rng=rng), n)), axis=1)
    if end is None:
        mask = np.ones(new.shape, bool)
    else:
        ended = np.cumsum(new == end, axis=1) - (new == end)
        mask = ended == 0
        new = np.where(mask, new, end)
    return Rollout(np.concatenate([prompts, new], axis=1), mask)


def token_log_probs(
    model: GPT, ids: Int[Array, "batch time"], start: int, temperature: float = 1.0
) -> Tensor:
    """Return the log-probability of each token from place ``start`` on, of shape (batch, rest).

    Row start − 1 of the scores answers for token ``start``.

    Raises:
        ValueError: ``start`` is not between 1 and the last place.
    """
    if not 1 <= start < ids.shape[1]:
        raise ValueError(
            f"token_log_probs: start lies between 1 and {ids.shape[1] - 1}, got {start}"
        )
    logits = model(ids[:, :-1])[:, start - 1 :]
    scores = log_softmax(logits if temperature == 1 else logits / temperature)
    return gather(scores, ids[:, start:, None].astype(np.int64), axis=-1)[..., 0]


_SUM = re.compile(r"(\d{1,12}) ?\+ ?(\d{1,12}) ?= ?(\d{1,13})\s*", re.ASCII)


def verifier_arithmetic(text: str) -> float:
    """Return 1.0 if the text is a sum and its result, and nothing else, such as 37+45=82.

    A line end after it is allowed. Anything else is worth 0.0.
    """
    found = _SUM.fullmatch(text)
    if found is None:
        return 0.0
    return float(int(found[1]) + int(found[2]) == int(found[3]))
