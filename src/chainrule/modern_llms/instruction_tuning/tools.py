"""Calls of tools: one grammar that says what may be written next and what is understood."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from chainrule.data.text import CharTokenizer
from chainrule.shapes import Array, Float

__all__ = ["DONE", "Call", "call_tool", "next_characters", "parse_call", "write_call"]

DONE = ""
"""Stands among the next characters where a call is complete."""

DIGITS = 6
"""The most digits of an argument: a model must not write for ever."""


class Call(NamedTuple):
    """The name of a tool and its whole-number arguments."""

    name: str
    arguments: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.arguments))})"


def next_characters(prefix: str, tools: Mapping[str, int]) -> set[str]:
    """Return the characters that may follow the beginning of a call; `DONE` where it is complete.

    A call is the name of a tool, then in brackets as many numbers as ``tools`` says, with a comma
    and a space between them. The set is empty for what is not the beginning of a call.
    """
    name, bracket, rest = prefix.partition("(")
    if not bracket:
        longer = {tool[len(name)] for tool in tools if tool.startswith(name) and tool != name}
        return longer | ({"("} if name in tools else set())
    if name not in tools:
        return set()
    wanted = tools[name]
    if rest.endswith(")"):
        return {DONE} if _complete(rest[:-1], wanted) else set()
    *before, last = rest.split(", ")
    if wanted == 0:
        return set() if rest else {")"}
    if len(before) >= wanted or not all(map(_number, before)):
        return set()
    if last.endswith(",") and _number(last[:-1]) and len(before) + 1 < wanted:
        return {" "}
    if last in ("", "-"):
        return set(string.digits) - {"0"} if last else set(string.digits) | {"-"}
    if not _number(last):
        return set()
    after = {","} if len(before) + 1 < wanted else {")"}
    grows = last != "0" and len(last.lstrip("-")) < DIGITS
    return after | (set(string.digits) if grows else set())


def _number(text: str) -> bool:
    digits = text.removeprefix("-")
    plain = 0 < len(digits) <= DIGITS and set(digits) <= set(string.digits)
    return plain and (text == "0" or digits[0] != "0")


def _complete(arguments: str, wanted: int) -> bool:
    parts = arguments.split(", ") if arguments else []
    return len(parts) == wanted and all(map(_number, parts))


def parse_call(text: str, tools: Mapping[str, int]) -> Call:
    """Return the call that a text spells, exactly as the grammar writes it.

    Raises:
        ValueError: names the first character that the grammar does not allow, and what it allows.
    """
    for i in range(len(text) + 1):
        allowed = next_characters(text[:i], tools)
        found = text[i : i + 1]
        if found not in allowed:
            shown = " ".join(sorted(repr(c) if c else "the end" for c in allowed)) or "nothing"
            raise ValueError(
                f"character {i} of the call {text[:40]!r}: allowed is {shown}, "
                f"got {repr(found) if found else 'the end'}"
            )
    name, _, rest = text.partition("(")
    return Call(name, tuple(int(part) for part in rest[:-1].split(", ") if part))


def write_call(
    scores: Callable[[str], Float[Array, " vocab"]],
    tokenizer: CharTokenizer,
    tools: Mapping[str, int],
) -> str:
    """Write a call with the likeliest character that the grammar allows at each place.

    ``scores(prefix)`` gives a score for every character of the alphabet and, behind them, one for
    the end. Whatever the scores are, the result is a call that `parse_call` understands.
    """
    place = {character: i for i, character in enumerate(tokenizer.alphabet)}
    place[DONE] = len(tokenizer)
    text = ""
    while True:
        allowed = sorted(next_characters(text, tools))
        z = scores(text)[[place[character] for character in allowed]]
        chosen = allowed[int(np.argmax(z))]
        if chosen == DONE:
            return text
        text += chosen


def call_tool(call: Call, functions: Mapping[str, Callable[..., object]]) -> str:
    """Run the function of a call and return its result as text."""
    return str(functions[call.name](*call.arguments))
