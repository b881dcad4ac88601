"""A cache in blocks: texts take memory as they grow, and share what they have in common."""

from __future__ import annotations

import numpy as np

from chainrule.shapes import Array, Float

__all__ = ["PagedCache", "blocks_needed", "wasted_share"]


def blocks_needed(tokens: int, block_size: int) -> int:
    """Return how many blocks hold so many tokens; only the last may have room.

    Equation: modern-llms/inference.md#eq-blocks-needed
    """
    if tokens < 0 or block_size < 1:
        raise ValueError(f"tokens ≥ 0 and blocks of at least 1, got {tokens} and {block_size}")
    return -(-tokens // block_size)


def wasted_share(lengths: list[int], block_size: int) -> float:
    """Return the share of the reserved slots that hold nothing.

    Equation: modern-llms/inference.md#eq-wasted-share
    """
    reserved = sum(blocks_needed(length, block_size) for length in lengths) * block_size
    return 1 - sum(lengths) / reserved if reserved else 0.0


class PagedCache:
    """Keys and values of many texts in blocks of ``block_size`` tokens.

    A slot holds what one token adds: an array of ``shape``, such as (layers, 2, heads, size). Each
    text has a table of block numbers. A forked text shares the blocks of its parent; who writes
    into a shared block gets a copy first. Source: Kwon et al. 2023, arXiv:2309.06180.
    """

    def __init__(
        self, blocks: int, block_size: int, shape: tuple[int, ...], dtype: str = "float32"
    ) -> None:
        if blocks < 1 or block_size < 1:
            raise ValueError(f"needs blocks with room, got {blocks} of {block_size}")
        self.block_size = block_size
        self._slots = np.zeros((blocks, block_size, *shape), dtype)
        self._free = list(range(blocks))[::-1]
        self._users = [0] * blocks
        self._tables: dict[int, list[int]] = {}
        self._lengths: dict[int, int] = {}
        self._next = 0

    def add(self) -> int:
        """Start an empty text and return its number."""
        name, self._next = self._next, self._next + 1
        self._tables[name], self._lengths[name] = [], 0
        return name

    def fork(self, text: int) -> int:
        """Start a text that begins with all of another, without copying."""
        name = self.add()
        self._tables[name] = list(self._table(text))
        self._lengths[name] = self._lengths[text]
        for block in self._tables[name]:
            self._users[block] += 1
        return name

    def append(self, text: int, new: Float[Array, "time *shape"]) -> None:
        """Store what some tokens add.

        Raises:
            MemoryError: too few blocks are free; nothing is stored.
            KeyError: there is no such text.
        """
        table, length = self._table(text), self._lengths[text]
        end = length + len(new)
        writes_shared = (
            bool(len(new)) and length % self.block_size != 0 and (self._users[table[-1]] > 1)
        )
        fresh = blocks_needed(end, self.block_size) - len(table)
        if fresh + writes_shared > len(self._free):
            raise MemoryError(
                f"text {text} needs {fresh + writes_shared} more blocks, {len(self._free)} are free"
            )
        if writes_shared:
            copy = self._take()
            self._slots[copy] = self._slots[table[-1]]
            self._release(table[-1])
            table[-1] = copy
        table.extend(self._take() for _ in range(fresh))
        place = np.arange(length, end)
        blocks = np.array(table, np.intp)[place // self.block_size]
        self._slots[blocks, place % self.block_size] = new
        self._lengths[text] = end

    def gather(self, text: int) -> Float[Array, "time *shape"]:
        """Return what all tokens of a text added, in order."""
        blocks = self._slots[np.array(self._table(text), np.intp)]
        return blocks.reshape(-1, *self._slots.shape[2:])[: self._lengths[text]]

    def truncate(self, text: int, length: int) -> None:
        """Forget all but the first tokens, and give back the blocks that become empty.

        Raises:
            ValueError: the text is not that long.
        """
        table = self._table(text)
        if not 0 <= length <= self._lengths[text]:
            raise ValueError(f"text {text} has {self._lengths[text]} tokens, cannot keep {length}")
        while len(table) > blocks_needed(length, self.block_size):
            self._release(table.pop())
        self._lengths[text] = length

    def free(self, text: int) -> None:
        """End a text."""
        self.truncate(text, 0)
        del self._tables[text], self._lengths[text]

    @property
    def free_blocks(self) -> int:
        """How many blocks nobody uses."""
        return len(self._free)

    def _table(self, text: int) -> list[int]:
        if text not in self._tables:
            raise KeyError(f"there is no text {text}; there are {sorted(self._tables)}")
        return self._tables[text]

    def _take(self) -> int:
        block = self._free.pop()
        self._users[block] = 1
        return block

    def _release(self, block: int) -> None:
        self._users[block] -= 1
        if not self._users[block]:
            self._free.append(block)
