"""Letting a model write many replies at once, and asking what it thinks of them.

`write` reads prompts of different lengths side by side: where a prompt is longer than another, its
own next token takes the place of a drawn one. A row that has ended leaves the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chainrule.modern_llms.rlhf import token_log_probs
from chainrule.neural_networks.backpropagation import Tensor, no_grad
from chainrule.shapes import Array, Bool, Int
from chainrule.transformers.gpt import GPT, KeyValueMemory, draw

__all__ = ["Rows", "log_probs", "pack_rows", "reply_log_probs", "write"]

ROWS = 256
"""Replies that are written at once."""


class _Memory(KeyValueMemory):
    """Keys and values of many texts, of which some are dropped or repeated on the way."""

    def __init__(self, model: GPT, batch: int, length: int) -> None:
        config = model.config
        self.model, self.length = model.eval(), 0
        shape = (len(model.blocks), 2, batch, config.groups, length, config.head_size)
        self._kept = np.zeros(shape, config.dtype)

    def choose(self, rows: Array) -> None:
        """Go on with these rows of the batch; one may come several times."""
        self._kept = self._kept[:, :, rows]


def write(
    model: GPT,
    prompts: Sequence[Int[Array, time]],
    end: int,
    limit: int,
    temperature: float = 0.0,
    rng: np.random.Generator | None = None,
    copies: int = 1,
) -> list[list[int]]:
    """Return ``copies`` replies to every prompt, each with its end token unless it was cut off.

    Replies to the same prompt are neighbours.
    """
    found: list[list[int]] = []
    per = max(1, ROWS // copies)
    for i in range(0, len(prompts), per):
        found += _write(model, prompts[i : i + per], end, limit, temperature, rng, copies)
    return found


def _write(
    model: GPT,
    prompts: Sequence[Array],
    end: int,
    limit: int,
    temperature: float,
    rng: np.random.Generator | None,
    copies: int,
) -> list[list[int]]:
    asked, lengths = _side_by_side(prompts, end)
    longest = asked.shape[1]
    room = min(model.config.context, longest + limit)
    memory = _Memory(model, len(prompts), room)
    scores = memory.read(asked[:, : int(lengths.min())])
    if copies > 1:
        order = np.repeat(np.arange(len(prompts)), copies)
        memory.choose(order)
        scores, asked, lengths = scores[order], asked[order], lengths[order]
    written: list[list[int]] = [[] for _ in lengths]
    live = np.arange(len(lengths))
    while True:
        drawn = draw(scores, temperature, rng=rng)
        at = memory.length
        forced = lengths[live] > at
        if forced.any():
            drawn = np.where(forced, asked[live, min(at, longest - 1)], drawn)
        done = np.zeros(len(live), bool)
        for i, (place, token) in enumerate(zip(live.tolist(), drawn.tolist(), strict=True)):
            if not forced[i]:
                written[place].append(token)
                full = len(written[place]) >= limit or at + 1 >= room
                done[i] = token == end or full
        if done.any():
            live, drawn = live[~done], drawn[~done]
            if not len(live):
                return written
            memory.choose(np.flatnonzero(~done))
        scores = memory.read(drawn[:, None])


def _side_by_side(prompts: Sequence[Array], fill: int) -> tuple[Array, Array]:
    """Prompts as a rectangle of ids, and their lengths."""
    lengths = np.array([len(prompt) for prompt in prompts])
    ids = np.full((len(prompts), int(lengths.max())), fill, np.int64)
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt)] = prompt
    return ids, lengths


class Rows:
    """Prompts with replies as a rectangle: ids, and which of them the replies are.

    ``mask`` has one column for each token from the second on, since the first is never predicted.
    ``lengths`` counts the tokens of each row.
    """

    def __init__(self, ids: Int[Array, "n time"], mask: Bool[Array, "n rest"], lengths: Array):
        self.ids, self.mask, self.lengths = ids, mask, lengths

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Array) -> Rows:
        """Some of the rows."""
        return Rows(self.ids[rows], self.mask[rows], self.lengths[rows])

    def halves(self) -> tuple[int, Bool[Array, "n rest"]]:
        """Where the first reply begins, and the mask from there on."""
        start = int(self.mask.any(axis=0).argmax())
        return start + 1, self.mask[:, start:]


def pack_rows(
    prompts: Sequence[Sequence[int] | Array], replies: Sequence[Sequence[int]], fill: int
) -> Rows:
    """Put each prompt and its reply into a row."""
    lengths = np.array([len(p) + len(r) for p, r in zip(prompts, replies, strict=True)])
    ids = np.full((len(lengths), int(lengths.max())), fill, np.int64)
    mask = np.zeros((len(ids), ids.shape[1] - 1), bool)
    for i, (p, r) in enumerate(zip(prompts, replies, strict=True)):
        ids[i, : len(p)], ids[i, len(p) : len(p) + len(r)] = p, r
        mask[i, len(p) - 1 : len(p) + len(r) - 1] = True
    return Rows(ids, mask, lengths)


def log_probs(model: GPT, rows: Rows) -> tuple[Tensor, Bool[Array, "n rest"]]:
    """Return log p of the tokens from the first reply on, with a gradient, and which count."""
    start, mask = rows.halves()
    return token_log_probs(model, rows.ids, start), mask


def reply_log_probs(model: GPT, rows: Rows) -> Array:
    """Return log p of each whole reply, without a gradient."""
    with no_grad():
        found = []
        for i in range(0, len(rows), ROWS):
            logp, mask = log_probs(model, rows.take(np.arange(i, min(i + ROWS, len(rows)))))
            found.append((logp.data * mask).sum(axis=1))
    return np.concatenate(found)
