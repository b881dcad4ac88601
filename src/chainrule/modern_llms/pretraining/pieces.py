"""Cutting text into pieces before any merge, and the spelling of bytes in tokenizer files.

Taught in ``modern-llms/pretraining.md``. A merge never crosses the border of a piece, so that
" dog" and "dog." share what they share. The rules are those of GPT-2 (Radford et al., 2019): an
English contraction; letters, digits, or other marks, each with at most one space before; spaces.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache

__all__ = ["BYTE_ORDER", "byte_spelling", "piece_pattern", "split_digits", "split_pieces",
           "unicode_ranges"]  # fmt: skip

WHITE_SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""Unicode's White_Space. Python's ``\\s`` also counts U+001C to U+001F, which are not in it."""

BYTE_ORDER = bytes(
    [*range(33, 127), *range(161, 173), *range(174, 256), *range(33), *range(127, 161), 173]
)
"""Bytes in the order of GPT-2's first 256 ids: those that print first, then the other 68."""


def byte_spelling() -> dict[int, str]:
    """The visible character that stands for each byte in a tokenizer file (GPT-2's table).

    A byte that prints stands for itself. The 68 others (space is one) take the characters from
    U+0100 on, in order, so that no line of a file holds a space or a line break of its own.
    """
    printable = 256 - 68
    return {
        byte: chr(byte) if place < printable else chr(256 + place - printable)
        for place, byte in enumerate(BYTE_ORDER)
    }


@cache
def unicode_ranges(kind: str) -> str:
    """The inside of a class of characters: all whose general category starts with ``kind``."""
    parts: list[str] = []
    start = None
    for code in range(sys.maxunicode + 2):
        inside = code <= sys.maxunicode and unicodedata.category(chr(code))[0] == kind
        if inside and start is None:
            start = code
        elif not inside and start is not None:
            parts.append(f"\\U{start:08x}-\\U{code - 1:08x}")
            start = None
    return "".join(parts)


@cache
def piece_pattern() -> re.Pattern[str]:
    """GPT-2's pattern for Python's ``re``: its classes of letters and digits are written out.

    They follow the Unicode of this Python (`unicodedata.unidata_version`): a letter added to
    Unicode later counts as another mark, and its word is cut differently.
    """
    letter, digit = unicode_ranges("L"), unicode_ranges("N")
    return re.compile(
        "'(?:s|t|re|ve|m|ll|d)"
        f"| ?[{letter}]+| ?[{digit}]+| ?[^{WHITE_SPACE}{letter}{digit}]+"
        f"|[{WHITE_SPACE}]+(?![^{WHITE_SPACE}])|[{WHITE_SPACE}]+"
    )


def split_pieces(text: str) -> list[str]:
    """The pieces of a text, which joined again are the text."""
    return piece_pattern().findall(text)


@cache
def _digits_apart() -> re.Pattern[str]:
    digit = unicode_ranges("N")
    return re.compile(f"[{digit}]|[^{digit}]+")


def split_digits(text: str) -> list[str]:
    """The pieces of a text in which every digit is cut off first, as SmolLM2 and others do.

    What lies between digits is then split by GPT-2's rules, as if it were a text of its own.
    """
    find = piece_pattern().findall
    return [piece for part in _digits_apart().findall(text) for piece in find(part)]
