"""A model that remembers what it has read, and can take back what it should not have read."""

from __future__ import annotations

import numpy as np

from chainrule.neural_networks.backpropagation import no_grad
from chainrule.shapes import Array, Float, Int
from chainrule.transformers.gpt import GPT, KeyValueMemory, draw

__all__ = ["CachedGPT", "generate_cached", "positions_computed", "scores_computed"]


class CachedGPT(KeyValueMemory):
    """A model with its cache of keys and values, asked with whole texts of one row.

    It compares a text with what it has read, keeps the longest common beginning, and reads the
    rest. So a refused proposal is taken back without being mentioned.
    """

    def __init__(self, model: GPT) -> None:
        super().__init__(model)
        self.seen = np.zeros(0, np.int64)
        self.positions = 0  # token passes made so far

    def scores(self, ids: Int[Array, "time"], last: int = 1) -> Float[Array, "last vocab"]:
        """Return the scores after each of the last ``last`` tokens of ``ids``.

        Raises:
            ValueError: the text is shorter than ``last``, or longer than the model's context.
        """
        context = self.model.config.context
        if not 1 <= last <= len(ids) <= context:
            raise ValueError(
                f"needs 1 ≤ last ≤ tokens ≤ context, got last = {last}, {len(ids)} tokens and a "
                f"context of {context}"
            )
        kept = min(_common(self.seen, ids), len(ids) - last)
        new = ids[kept:].astype(np.int64)[None]
        with no_grad():
            x = self._embed(new, kept)
            for block, store in zip(self.model.blocks, self._kept, strict=True):
                x = self._through(block, x, store, kept)
            logits = self._score(x[0, -last:])
        self.length, self.seen = len(ids), ids.astype(np.int64)
        self.positions += len(ids) - kept
        return logits

    def probabilities(self, ids: Int[Array, "time"], last: int = 1) -> Float[Array, "last vocab"]:
        """Return the laws after each of the last tokens: the target of `speculative_step`."""
        logits = self.scores(ids, last).astype(np.float64)
        p = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return p / p.sum(axis=-1, keepdims=True)

    def forget(self) -> None:
        """Start a new text."""
        super().forget()
        self.seen = self.seen[:0]

    @property
    def nbytes(self) -> int:
        """Bytes that the cache takes, full or empty."""
        return self._kept.nbytes


def _common(a: Array, b: Array) -> int:
    """How many tokens two texts share at their beginning."""
    n = min(len(a), len(b))
    different = np.flatnonzero(a[:n] != b[:n])
    return int(different[0]) if len(different) else n


def generate_cached(
    model: GPT,
    ids: Int[Array, "time"],
    n: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    rng: np.random.Generator | None = None,
) -> Int[Array, "longer"]:
    """Return ``ids`` continued by n tokens, those that `generate` draws, from a cache.

    Raises:
        ValueError: nothing to continue, or the text would outgrow the model's context.
    """
    if len(ids) + n > model.config.context + 1:
        raise ValueError(
            f"{len(ids)} + {n} tokens outgrow the context of {model.config.context}: "
            f"`stream` goes on beyond it"
        )
    reader, text = CachedGPT(model), np.empty(len(ids) + n, np.int64)
    text[: len(ids)] = ids
    for end in range(len(ids), len(text)):
        text[end] = draw(reader.scores(text[:end]), temperature, top_k, top_p, min_p, rng)[0]
    return text


def positions_computed(prompt: int, new: int, cached: bool) -> int:
    """Return how many token positions pass through the model to write ``new`` tokens.

    Without a cache the whole text passes for each new token. With one, each token passes once; the
    last one written never does. Equation: modern-llms/inference.md#eq-positions-computed
    """
    _check_lengths(prompt, new)
    if new == 0:
        return 0
    return prompt + new - 1 if cached else sum(prompt + i for i in range(new))


def scores_computed(prompt: int, new: int, cached: bool) -> int:
    """Return how many products of a query and a key one head computes, masked ones left out.

    Equation: modern-llms/inference.md#eq-scores-computed
    """
    _check_lengths(prompt, new)

    def triangle(t: int) -> int:
        return t * (t + 1) // 2

    if new == 0:
        return 0
    last = prompt + new - 1
    return triangle(last) if cached else sum(triangle(prompt + i) for i in range(new))


def _check_lengths(prompt: int, new: int) -> None:
    if prompt < 1 or new < 0:
        raise ValueError(f"a prompt of at least 1 and 0 or more new tokens, got {prompt}, {new}")
