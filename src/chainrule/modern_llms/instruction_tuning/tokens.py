"""Control tokens: ids that no text can spell, and a model that has rows for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from chainrule.shapes import Array, Int
from chainrule.transformers.gpt import GPT

__all__ = ["BEGIN", "CALL", "CONTROLS", "END", "START", "THINK", "THOUGHT", "ChatTokenizer",
           "extend_vocabulary"]  # fmt: skip

BEGIN, START, END = "<|begin|>", "<|start|>", "<|end|>"
THINK, THOUGHT, CALL = "<|think|>", "<|/think|>", "<|call|>"
CONTROLS = (BEGIN, START, END, THINK, THOUGHT, CALL)


@runtime_checkable
class Tokenizer(Protocol):
    """What `ChatTokenizer` needs of a tokenizer for plain text."""

    def __len__(self) -> int: ...

    def encode(self, text: str) -> Any: ...

    def decode(self, ids: Any) -> str: ...


class ChatTokenizer:
    """A tokenizer for text with ids of their own for control tokens, behind those of the text.

    A published vocabulary may number its control tokens itself, among those of the text: then
    ``controls`` gives the ids by name, and ``base`` counts them in its length.

    Raises:
        ValueError: a control token is empty or occurs twice.
    """

    def __init__(
        self, base: Tokenizer, controls: Sequence[str] | Mapping[str, int] = CONTROLS
    ) -> None:
        if not all(controls) or len(set(controls)) != len(controls):
            raise ValueError(f"control tokens are distinct and not empty, got {tuple(controls)}")
        self.base, self.controls, self._length = base, tuple(controls), len(base)
        if isinstance(controls, Mapping):
            self._ids = dict(controls)
        else:
            self._ids = {name: len(base) + i for i, name in enumerate(controls)}
            self._length += len(controls)
        self._names = {i: name for name, i in self._ids.items()}
        longest_first = sorted(controls, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def __len__(self) -> int:
        return self._length

    def control(self, name: str) -> int:
        """Return the id of a control token.

        Raises:
            ValueError: there is none of this name.
        """
        if name not in self._ids:
            raise ValueError(f"{name!r} is no control token; they are {self.controls}")
        return self._ids[name]

    def encode_untrusted(self, text: str) -> Int[Array, " length"]:
        """Return ids of ordinary text, whatever it spells: never the id of a control token."""
        return np.asarray(self.base.encode(text), np.int64)

    def encode_trusted(self, text: str) -> Int[Array, " length"]:
        """Return ids of text in which the names of control tokens become their ids.

        For text that this program wrote itself. Given a stranger's text, it is the hole that
        `encode_untrusted` closes.
        """
        pieces, end = [], 0
        for found in self._pattern.finditer(text):
            pieces += [self.encode_untrusted(text[end : found.start()]), [self._ids[found[0]]]]
            end = found.end()
        return np.concatenate([*pieces, self.encode_untrusted(text[end:])]).astype(np.int64)

    def decode(self, ids: Iterable[Any]) -> str:
        """Return the text of ids, control tokens by their names.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        text, plain = [], []
        for i in map(int, ids):
            if not 0 <= i < len(self):
                raise ValueError(f"ids lie in 0 to {len(self) - 1}, got {i}")
            if i not in self._names:
                plain.append(i)
                continue
            text += [self.base.decode(plain), self._names[i]]
            plain = []
        return "".join([*text, self.base.decode(plain)])


def extend_vocabulary(model: GPT, extra: int) -> GPT:
    """Return a copy of a model with ``extra`` more tokens; each new row is the mean of the old.

    The new scores are then the mean of the old ones, so a new token is never likelier than
    1 / (vocab + extra). Equation: modern-llms/instruction-tuning.md#eq-mean-row. Source: Hewitt,
    Initializing New Word Embeddings for Pretrained Language Models, 2021.

    Raises:
        ValueError: a negative number, or a model whose output table is not its input table.
    """
    if extra < 0 or not model.config.tied:
        raise ValueError(
            f"extend_vocabulary adds 0 or more rows to a model with tied tables, got {extra} and "
            f"tied={model.config.tied}"
        )
    config = replace(model.config, vocab_size=model.config.vocab_size + extra)
    longer = GPT(config, np.random.default_rng(0))
    state = dict(model.state_dict())
    table = state["tokens.weight"]
    mean = table.mean(axis=0, keepdims=True, dtype=np.float64).astype(table.dtype)
    state["tokens.weight"] = np.concatenate([table, np.repeat(mean, extra, axis=0)])
    longer.load_state_dict(state)
    return longer.train() if model.training else longer.eval()
