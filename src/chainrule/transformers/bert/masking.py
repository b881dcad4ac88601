"""Hiding tokens for training, and scoring a text by hiding each of its tokens in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from chainrule.math_foundations.probability import logsumexp
from chainrule.shapes import Array, Float, Int

__all__ = ["hide", "mask_tokens", "pseudo_log_likelihood"]


def hide(
    ids: Int[Array, "batch time"],
    choice: Float[Array, "batch time"],
    kind: Float[Array, "batch time"],
    others: Int[Array, "batch time"],
    *,
    mask_id: int,
    special: Sequence[int] = (),
    p: float = 0.15,
) -> tuple[Int[Array, "batch time"], Int[Array, "batch time"]]:
    """Return the model's input and its labels, from numbers that were drawn before.

    A token is chosen where ``choice`` is below p, never if its id is special. Of the chosen,
    those with ``kind`` below 0.8 become ``mask_id``, those from there to 0.9 the token of
    ``others``; the rest stay. Labels are the true ids at chosen places, −100 elsewhere.
    Equation: transformers/bert.md#eq-hide. Source: Devlin et al. 2018, section 3.1.

    Raises:
        ValueError: p is not a probability.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p lies from 0 to 1, got {p}")
    chosen = (choice < p) & ~np.isin(ids, np.asarray(special, ids.dtype))
    masked = chosen & (kind < 0.8)
    exchanged = chosen & (kind >= 0.8) & (kind < 0.9)
    inputs = np.where(masked, mask_id, np.where(exchanged, others, ids)).astype(ids.dtype)
    return inputs, np.where(chosen, ids, -100)


def mask_tokens(
    ids: Int[Array, "batch time"],
    rng: np.random.Generator,
    p: float = 0.15,
    special: Sequence[int] = (),
    *,
    mask_id: int,
    vocab: int,
) -> tuple[Int[Array, "batch time"], Int[Array, "batch time"]]:
    """Return the model's input and its labels, with fresh choices; see `hide`.

    Random tokens are any of the ``vocab`` ids. Equation: transformers/bert.md#eq-hide
    """
    choice, kind = rng.random((2, *ids.shape))
    others = rng.integers(0, vocab, ids.shape)
    return hide(ids, choice, kind, others, mask_id=mask_id, special=special, p=p)


def pseudo_log_likelihood(
    logits_of: Callable[[Array], Float[Array, "batch time vocab"]],
    ids: Int[Array, "time"],
    *,
    mask_id: int,
    special: Sequence[int] = (),
) -> float:
    """Return the sum of log p of each token, hidden alone; special tokens are left out.

    It is no log-probability of the text. Equation: transformers/bert.md#eq-pll. Source: Salazar
    et al. 2019, arXiv:1910.14659.
    """
    places = np.flatnonzero(~np.isin(ids, np.asarray(special, ids.dtype)))
    if not len(places):
        return 0.0
    copies = np.tile(ids, (len(places), 1))
    each = np.arange(len(places))
    copies[each, places] = mask_id
    logits = logits_of(copies)[each, places]
    return float((logits[each, ids[places]] - logsumexp(logits, axis=-1)).sum())
