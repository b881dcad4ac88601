"""Continuous batching with a real model: texts of different lengths share every step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chainrule.neural_networks.backpropagation import Tensor, no_grad
from chainrule.shapes import Array, Int
from chainrule.transformers.gpt import GPT, draw
from chainrule.transformers.gpt.memory import KeyValueMemory, _add, _think
from chainrule.transformers.multi_head_attention import MultiHeadAttention
from chainrule.transformers.transformer_architecture import DecoderBlock

__all__ = ["ContinuousBatcher"]


@dataclass
class _Place:
    """A row of the batch: whose text it holds, how long it is, how much is still wanted."""

    name: int
    text: list[int]
    wanted: int
    rng: np.random.Generator | None


class ContinuousBatcher:
    """Serves texts with one model, at most ``max_batch`` in a step.

    A text enters as soon as a place is free. Its prompt is read alone; then it gets one token in
    each step, together with all others. Each text has its own generator, so what is written for
    it does not depend on its neighbours, up to rounding. Source: Yu et al. 2022, Orca, OSDI.
    """

    def __init__(self, model: GPT, max_batch: int, temperature: float = 1.0) -> None:
        if max_batch < 1:
            raise ValueError(f"a batch has at least one place, got {max_batch}")
        config = model.config
        if config.sink or config.value_embeddings or config.x0_residual:
            raise ValueError(
                "ContinuousBatcher serves models without sink, value_embeddings and x0_residual; "
                f"got {config.sink}, {config.value_embeddings} and {config.x0_residual}"
            )
        self.temperature = temperature
        self._memory = KeyValueMemory(model, max_batch)
        self._places: list[_Place | None] = [None] * max_batch
        self._waiting: list[_Place] = []
        self._count = 0

    def submit(
        self, ids: Int[Array, "time"], n: int, rng: np.random.Generator | None = None
    ) -> int:
        """Queue a text to be continued by n tokens, and return its number.

        Raises:
            ValueError: nothing to read or write, or more than the context holds.
        """
        context = self._memory.model.config.context
        if not len(ids) or n < 1 or len(ids) + n > context + 1:
            raise ValueError(
                f"needs a token to read, one to write and no more than {context} read in all, "
                f"got {len(ids)} and {n}"
            )
        name, self._count = self._count, self._count + 1
        self._waiting.append(_Place(name, [int(i) for i in ids], n, rng))
        return name

    @property
    def busy(self) -> bool:
        """Whether a text is in work or waits."""
        return bool(self._waiting) or any(self._places)

    def step(self) -> dict[int, int]:
        """Let texts in, write one token of each, and return them by the text's number."""
        written: dict[int, int] = {}
        running = [row for row, place in enumerate(self._places) if place is not None]
        with no_grad():
            logits = self._decode(running) if running else np.zeros((0, 1))
            for row, scores in zip(running, logits, strict=True):
                self._write(row, scores, written)
            for row, place in enumerate(self._places):
                if place is None and self._waiting and row not in running:
                    self._places[row] = self._waiting.pop(0)
                    self._write(row, self._prefill(row), written)
        return written

    def _write(self, row: int, scores: Array, written: dict[int, int]) -> None:
        place = self._places[row]
        assert place is not None
        token = int(draw(scores[None], self.temperature, rng=place.rng)[0])
        written[place.name] = token
        place.text.append(token)
        place.wanted -= 1
        if not place.wanted:
            self._places[row] = None

    def _prefill(self, row: int) -> Array:
        """Read a prompt alone, into its row of the cache."""
        memory, place = self._memory, self._places[row]
        assert place is not None
        x = memory._embed(np.array([place.text]), 0)
        for block, kept in zip(memory.model.blocks, memory._kept, strict=True):
            x = memory._through(block, x, kept[:, row : row + 1], 0)
        return memory._score(x[:, -1])[0]

    def _decode(self, rows: list[int]) -> Array:
        """One new token in each row, at the place where that row has arrived."""
        memory = self._memory
        places = [place for row in rows if (place := self._places[row]) is not None]
        at = np.array([len(place.text) - 1 for place in places])
        x = np.concatenate(
            [
                memory._embed(np.array([[p.text[-1]]]), int(t))
                for p, t in zip(places, at, strict=True)
            ]
        )
        order = np.array(rows)
        for block, kept in zip(memory.model.blocks, memory._kept, strict=True):
            x = _through(block, x, kept, order, at)
        return memory._score(x[:, 0])


def _through(block: DecoderBlock, x: Array, kept: Array, rows: Array, at: Array) -> Array:
    """One block, one token in each row."""

    def attend(h: Array) -> Array:
        return _attend(block.attention, h, kept, rows, at, block.window)

    def think(h: Array) -> Array:
        return _think(block.feed_forward, h)

    place, norm, after = block.norm_place, block.attention_norm, block.attention_after
    if block.parallel:
        return _add(x, lambda h: attend(h) + think(h), norm, after, place)
    x = _add(x, attend, norm, after, place)
    return _add(x, think, block.feed_forward_norm, block.feed_forward_after, place)


def _attend(
    attention: MultiHeadAttention,
    h: Array,
    kept: Array,
    rows: Array,
    at: Array,
    window: int | None,
) -> Array:
    """One query in each row, against the keys of its own row up to its own place."""
    q, k, v = attention.project(Tensor(h), positions=at[:, None, None])
    kept[0][rows, :, at], kept[1][rows, :, at] = k.data[:, :, 0], v.data[:, :, 0]
    end = int(at.max()) + 1
    keys, values = kept[0][rows, :, :end], kept[1][rows, :, :end]
    batch, groups, _, size = keys.shape
    queries = q.data.reshape(batch, groups, -1, size)
    scores = queries @ keys.swapaxes(-2, -1) * np.asarray(size**-0.5, keys.dtype)
    place = np.arange(end)
    seen = place <= at[:, None]
    if window is not None:
        seen &= place > at[:, None] - window
    scores = np.where(seen[:, None, None], scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return attention.out(Tensor((weights @ values).reshape(batch, 1, -1))).data
