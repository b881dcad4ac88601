"""The tokenizer of a GGUF file: the course's byte-level BPE with the ids of the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from chainrule.models.gguf import GGUFError, GGUFFile
from chainrule.modern_llms.pretraining import (
    BYTE_ORDER,
    ByteBPE,
    TokenizerError,
    byte_spelling,
    split_digits,
    split_pieces,
)

__all__ = ["FileTokenizer", "load_tokenizer"]

SPLITS = {"gpt-2": split_pieces, "gpt2": split_pieces, "default": split_pieces,
          "smollm": split_digits}  # fmt: skip
"""How a text is cut into pieces, by the name that the file gives."""

_CONTROL = (3, 4)  # the kinds of tokens that no text spells: control, and defined by a user


class FileTokenizer:
    """Text to ids and back: ids of a published vocabulary, in which bytes need not come first.

    ``controls`` are the ids of control tokens by name; no text is encoded to one of them. A
    byte that the vocabulary lacks is left out, as Hugging Face's ``tokenizers`` does.
    """

    def __init__(
        self, bpe: ByteBPE, ids: dict[bytes, int], controls: dict[str, int], length: int
    ) -> None:
        self.bpe, self.controls, self._length = bpe, dict(controls), length
        self._ids = [ids.get(token, -1) for token in bpe.tokens]
        self._bytes = {i: token for token, i in ids.items()}
        self._bytes |= {i: name.encode() for name, i in controls.items()}

    def __len__(self) -> int:
        return self._length

    def encode(self, text: str) -> list[int]:
        """Token ids. The name of a control token inside the text is text like any other."""
        ids = self._ids
        return [found for i in self.bpe.encode(text) if (found := ids[i]) >= 0]

    def decode_bytes(self, ids: Iterable[Any]) -> bytes:
        """The bytes of token ids; a control token gives its name.

        Raises:
            TokenizerError: an id is not in the vocabulary.
        """
        parts = []
        for i in map(int, ids):
            if i not in self._bytes:
                raise TokenizerError(f"there is no token {i}; the vocabulary has {len(self)}")
            parts.append(self._bytes[i])
        return b"".join(parts)

    def decode(self, ids: Iterable[Any]) -> str:
        """The text of token ids; bytes that are no UTF-8 (a cut character) come as U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")


def load_tokenizer(file: GGUFFile) -> FileTokenizer:
    """Return the tokenizer that a GGUF file holds.

    Raises:
        GGUFError: it holds none, one of another kind, or its parts disagree.
    """

    def fault(message: str) -> GGUFError:
        return GGUFError(f"{file.path}: {message}")

    kind = file.metadata.get("tokenizer.ggml.model")
    if kind != "gpt2":
        raise fault(f"its tokenizer is {kind!r}; expected 'gpt2', byte-level BPE")
    cut = file.metadata.get("tokenizer.ggml.pre", "default")
    if cut not in SPLITS:
        raise fault(f"its text is cut as {cut!r}; those that are known: {', '.join(SPLITS)}")
    tokens, merges, controls = _lists(file, fault)
    ids = _ids(tokens, controls, fault)
    pairs = _pairs(merges, controls, fault)
    try:
        bpe = ByteBPE(pairs, split=SPLITS[cut])
    except TokenizerError as error:
        raise fault(str(error)) from None
    if missing := [token for token in bpe.tokens[256:] if token not in ids]:
        raise fault(f"a merge makes {missing[0]!r}, which is not in the vocabulary")
    return FileTokenizer(bpe, ids, controls, len(tokens))


Fault = Callable[[str], GGUFError]


def _lists(file: GGUFFile, fault: Fault) -> tuple[list[str], list[str], dict[str, int]]:
    """Tokens and merges as the file lists them, and which tokens no text spells."""
    tokens: Any = file.metadata.get("tokenizer.ggml.tokens")
    merges: Any = file.metadata.get("tokenizer.ggml.merges")
    kinds = file.metadata.get("tokenizer.ggml.token_type")
    for name, found in (("tokens", tokens), ("merges", merges)):
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise fault(f"tokenizer.ggml.{name} is missing, or no list of texts")
    if not isinstance(kinds, np.ndarray) or len(kinds) != len(tokens):
        raise fault(f"tokenizer.ggml.token_type does not say the kind of {len(tokens)} tokens")
    if len(set(tokens)) != len(tokens):
        raise fault("its vocabulary has a token twice")
    controls = {t: i for i, t in enumerate(tokens) if kinds[i] in _CONTROL}
    if "" in controls:
        raise fault("its vocabulary has a control token without a name")
    return tokens, merges, controls


def _ids(tokens: list[str], controls: dict[str, int], fault: Fault) -> dict[bytes, int]:
    """Ids of the tokens that texts are made of, by their bytes."""
    of = {name: byte for byte, name in byte_spelling().items()}
    ids: dict[bytes, int] = {}
    for i, token in enumerate(tokens):
        if token not in controls:
            try:
                ids[bytes([of[letter] for letter in token])] = i
            except KeyError:
                raise fault(f"token {i} is not spelled as GPT-2 spells bytes") from None
    return ids


def _pairs(merges: list[str], controls: dict[str, int], fault: Fault) -> list[tuple[int, int]]:
    """The merges as pairs of ids that count bytes first and then merges."""
    spelled = byte_spelling()
    made = {spelled[byte]: i for i, byte in enumerate(BYTE_ORDER)}
    pairs = []
    for number, merge in enumerate(merges):
        left, _, right = merge.partition(" ")
        joined = left + right
        if left not in made or right not in made or joined in controls:
            raise fault(f"merge {number} joins tokens that no earlier merge makes")
        pairs.append((made[left], made[right]))
        made.setdefault(joined, len(made))
    return pairs
