"""How published tokenizers cut a text into pieces before any merge: four rules, by their names.

A file states its rule as a regular expression in the dialect of another library. No expression of
a stranger is run: a rule is known by its text, and the same rule for Python's ``re`` is here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from chainrule.modern_llms.pretraining import split_digits, split_pieces, unicode_ranges
from chainrule.modern_llms.pretraining.pieces import WHITE_SPACE

__all__ = ["read_cut", "written_cut"]

Entries = dict[str, Any]
Split = Callable[[str], list[str]]

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_DIGITS = {"type": "Digits", "individual_digits": True}
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@cache
def _words(digits: str) -> re.Pattern[str]:
    letter, digit, space = unicode_ranges("L"), unicode_ranges("N"), WHITE_SPACE
    return re.compile(
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
        f"|[^\\r\\n{letter}{digit}]?[{letter}]+|[{digit}]{digits}"
        f"| ?[^{space}{letter}{digit}]+[\\r\\n]*|[{space}]*[\\r\\n]+"
        f"|[{space}]+(?![^{space}])|[{space}]+"
    )


def split_threes(text: str) -> list[str]:
    """Llama 3's rule: a mark may lead a word, and numbers are cut into at most three digits."""
    return _words("{1,3}").findall(text)


def split_ones(text: str) -> list[str]:
    """Qwen's rule: as Llama 3's, with digits one by one."""
    return _words("").findall(text)


def _by(digits: str) -> Entries:
    expression = _WORDS.replace("DIGITS", digits)
    cut = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated",
           "invert": False}  # fmt: skip
    return {"type": "Sequence", "pretokenizers": [cut, {**BYTES, "use_regex": False}]}


_CUTS: tuple[tuple[Split, Entries], ...] = (
    (split_pieces, BYTES),
    (split_digits, {"type": "Sequence", "pretokenizers": [_DIGITS, BYTES]}),
    (split_threes, _by("{1,3}")),
    (split_ones, _by("")),
)


def written_cut(split: Split) -> Entries | None:
    """Return the entries of ``pre_tokenizer`` for a rule; None for one that has no entries."""
    return next((entries for rule, entries in _CUTS if rule is split), None)


def read_cut(entries: Any) -> Split | None:
    """Return the rule that the entries of ``pre_tokenizer`` state; None where it is not known."""
    plain = _plain(entries)
    return next((rule for rule, known in _CUTS if _plain(known) == plain), None)


def _plain(entries: Any) -> Any:
    """Entries without what says nothing of where a text is cut."""
    if isinstance(entries, list):
        return [_plain(each) for each in entries]
    if not isinstance(entries, dict):
        return entries
    found = {name: _plain(value) for name, value in entries.items() if name != "trim_offsets"}
    if found.get("type") == "ByteLevel":
        found.setdefault("use_regex", True)
    if found.get("type") == "Sequence" and isinstance(found.get("pretokenizers"), list):
        steps = found["pretokenizers"]
        return steps[0] if len(steps) == 1 else found
    return found
