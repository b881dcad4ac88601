"""WordPiece: text to the pieces of a fixed vocabulary, and back to the words they came from."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from chainrule.shapes import Array, Bool, Int

__all__ = ["WordPiece", "pack_pair", "words_of"]

_CJK = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


def words_of(text: str) -> list[str]:
    """Cut a text into lower-case words and single signs, without accents, as uncased BERT does.

    Control characters vanish; every ideograph of Chinese is a word of its own.
    """
    clean = []
    for c in text:
        if c in "\t\n\r" or unicodedata.category(c) == "Zs":
            clean.append(" ")
        elif ord(c) in (0, 0xFFFD) or unicodedata.category(c).startswith("C"):
            continue
        elif any(low <= ord(c) <= high for low, high in _CJK):
            clean.append(f" {c} ")
        else:
            clean.append(c)
    plain = unicodedata.normalize("NFD", "".join(clean))
    plain = "".join(c for c in plain if unicodedata.category(c) != "Mn").lower()
    return "".join(f" {c} " if _is_sign(c) else c for c in plain).split()


def _is_sign(c: str) -> bool:
    in_ascii = (
        33 <= ord(c) <= 47 or 58 <= ord(c) <= 64 or 91 <= ord(c) <= 96 or 123 <= ord(c) <= 126
    )
    return in_ascii or unicodedata.category(c).startswith("P")


class WordPiece:
    """Cuts words into the longest pieces that a vocabulary holds, from left to right.

    Pieces that continue a word begin with ``##``. A word that cannot be cut, or has more than
    100 characters, is one [UNK]. Source: Devlin et al. 2018, arXiv:1810.04805, and its code.

    Raises:
        ValueError: a piece twice, or one of [PAD], [UNK], [CLS], [SEP], [MASK] missing.
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = tuple(vocabulary)
        self.ids = {piece: i for i, piece in enumerate(self.vocabulary)}
        if len(self.ids) != len(self.vocabulary):
            raise ValueError("the vocabulary holds a piece twice")
        special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
        if missing := [piece for piece in special if piece not in self.ids]:
            raise ValueError(f"the vocabulary lacks {missing[0]}")
        self.pad, self.unk, self.cls, self.sep, self.mask = (self.ids[piece] for piece in special)

    @classmethod
    def from_file(cls, path: str | Path) -> WordPiece:
        """Read a vocabulary with one piece a line."""
        return cls(Path(path).read_text(encoding="utf-8").split("\n")[:-1])

    def __len__(self) -> int:
        return len(self.vocabulary)

    def cut(self, word: str) -> list[str]:
        """Return the pieces of one word."""
        if len(word) > 100:
            return ["[UNK]"]
        pieces, start = [], 0
        while start < len(word):
            mark = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((e for e in ends if mark + word[start:e] in self.ids), None)
            if end is None:
                return ["[UNK]"]
            pieces.append(mark + word[start:end])
            start = end
        return pieces

    def pieces(self, text: str) -> list[str]:
        """Return the pieces of a text, without special tokens."""
        return [piece for word in words_of(text) for piece in self.cut(word)]

    def encode(self, text: str, longest: int | None = None) -> Int[Array, "time"]:
        """Return the ids of [CLS], the pieces and [SEP]; pieces beyond ``longest`` are left out."""
        ids = [self.ids[piece] for piece in self.pieces(text)]
        if longest is not None:
            ids = ids[: max(longest - 2, 0)]
        return np.array([self.cls, *ids, self.sep])

    def decode(self, ids: Sequence[int] | Int[Array, "time"]) -> str:
        """Return the pieces of ids as text, with blanks between words."""
        return " ".join(self.vocabulary[int(i)] for i in ids).replace(" ##", "")


def pack_pair(
    a: Sequence[int], b: Sequence[int], length: int, *, cls: int, sep: int, pad: int
) -> tuple[Int[Array, "time"], Int[Array, "time"], Bool[Array, "time"]]:
    """Return ids, segments and the mask of [CLS] a [SEP] b [SEP], filled up to ``length``.

    The longer text loses its last token until both fit, the second one where they are equal.
    Segments are 0 up to and with the first [SEP], 1 up to the second, 0 at the padding.

    Raises:
        ValueError: the length leaves no room for the three special tokens.
    """
    if length < 3:
        raise ValueError(f"a pair needs 3 special tokens, the length is {length}")
    a, b = list(a), list(b)
    while len(a) + len(b) > length - 3:
        (a if len(a) > len(b) else b).pop()
    ids = [cls, *a, sep, *b, sep]
    filling = length - len(ids)
    segments = [0] * (len(a) + 2) + [1] * (len(b) + 1) + [0] * filling
    mask = np.arange(length) < len(ids)
    return np.array(ids + [pad] * filling), np.array(segments), mask
