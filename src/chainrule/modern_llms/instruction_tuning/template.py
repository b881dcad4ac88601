"""The template: one grammar from messages to token ids, and which of them are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from chainrule.modern_llms.instruction_tuning.tokens import (
    BEGIN,
    CALL,
    END,
    START,
    THINK,
    THOUGHT,
    ChatTokenizer,
)
from chainrule.shapes import Array, Bool, Int

__all__ = ["ChatTemplate", "Message", "Rendered", "fit_conversation", "mask_from_offsets"]

Message = Mapping[str, str]
"""``role`` and ``content``; of an assistant also, where it has them, ``thinking`` and ``call``."""

FIELDS = {"role", "content", "thinking", "call"}
FOLLOWERS = {
    None: ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant",),
}
"""Which roles may come after a role; None stands for the start."""


class Rendered(NamedTuple):
    """Token ids of a conversation, and a mask that is true for the tokens to be trained."""

    ids: Int[Array, " time"]
    mask: Bool[Array, " time"]


class ChatTemplate:
    """Messages to ids: begin, then for each message start, role, newline, text, end, newline.

    Trained is what the assistant has to write itself: its text and the end token after it, and,
    unless ``train_thinking`` is false, what it thinks before. ``marks`` are the names of the
    control tokens for begin, start and end; another model has others, and None leaves begin out.
    """

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        train_thinking: bool = True,
        marks: tuple[str | None, str, str] = (BEGIN, START, END),
    ) -> None:
        self.tokenizer, self.train_thinking = tokenizer, train_thinking
        self._begin = [] if marks[0] is None else [tokenizer.control(marks[0])]
        self._start, self.end = (tokenizer.control(name) for name in marks[1:])

    def render(
        self, messages: Sequence[Message], reply: bool = False, begin: bool = True
    ) -> Rendered:
        """Return ids and mask; with ``reply`` they end where the assistant has to begin.

        Raises:
            ValueError: an unknown role or field, or roles in an order that the grammar lacks.
        """
        check(messages)
        pieces: list[tuple[Sequence[int] | Array, bool]] = []
        if begin:
            pieces.append((self._begin, False))
        for message in messages:
            trained = message["role"] == "assistant"
            pieces += self._header(message["role"])
            pieces += [(ids, trained and count) for ids, count in self._body(message)]
            pieces += [([self.end], trained), (self._text("\n"), False)]
        if reply:
            pieces += self._header("assistant")
        ids = [np.asarray(piece, np.int64) for piece, _ in pieces]
        mask = [np.full(len(piece), count) for piece, count in pieces]
        empty = np.zeros(0, np.int64)
        return Rendered(np.concatenate([empty, *ids]), np.concatenate([empty, *mask]).astype(bool))

    def answers(self, rendered: Rendered) -> str:
        """Return the text of the trained tokens: the answers, each with its end token."""
        return self.tokenizer.decode(rendered.ids[rendered.mask])

    def _text(self, text: str) -> Array:
        return self.tokenizer.encode_untrusted(text)

    def _header(self, role: str) -> list[tuple[Sequence[int] | Array, bool]]:
        return [([self._start], False), (self._text(f"{role}\n"), False)]

    def _body(self, message: Message) -> list[tuple[Sequence[int] | Array, bool]]:
        parts: list[tuple[Sequence[int] | Array, bool]] = []
        if "thinking" in message:
            marks = [[self.tokenizer.control(name)] for name in (THINK, THOUGHT)]
            think = (marks[0], self._text(message["thinking"]), marks[1])
            parts += [(ids, self.train_thinking) for ids in think]
        parts.append((self._text(message["content"]), True))
        if "call" in message:
            parts += [([self.tokenizer.control(CALL)], True), (self._text(message["call"]), True)]
        return parts


def check(messages: Sequence[Message]) -> None:
    """Refuse what the grammar does not contain.

    Raises:
        ValueError: says which message, and what is wrong with it.
    """
    before = None
    for i, message in enumerate(messages):
        missing, unknown = {"role", "content"} - set(message), set(message) - FIELDS
        if missing or unknown:
            raise ValueError(
                f"message {i} needs role and content and may have thinking and call, "
                f"got {sorted(message)}"
            )
        role = message["role"]
        if role not in FOLLOWERS[before]:
            allowed = " or ".join(FOLLOWERS[before])
            where = "the first message" if before is None else f"after {before}"
            raise ValueError(f"message {i}: {where} comes {allowed}, got {role!r}")
        if role != "assistant" and len(message) > 2:
            raise ValueError(f"message {i}: only an assistant thinks or calls, got {role!r}")
        before = role


def mask_from_offsets(
    offsets: Int[Array, "time 2"], spans: Sequence[tuple[int, int]]
) -> Bool[Array, " time"]:
    """Return which tokens share a character with one of the spans.

    A token covers the characters from its first number up to, not including, its second; so does
    a span.
    """
    mask = np.zeros(len(offsets), bool)
    for start, end in spans:
        mask |= (offsets[:, 0] < end) & (offsets[:, 1] > start)
    return mask


def fit_conversation(
    template: ChatTemplate, messages: Sequence[Message], n: int
) -> Sequence[Message]:
    """Return the messages without as many of the oldest exchanges as must go to fit ``n`` tokens.

    The system message and the last exchange stay whole.

    Raises:
        ValueError: these alone do not fit.
    """
    kept = list(messages)
    first = int(bool(kept) and kept[0]["role"] == "system")
    while (length := len(template.render(kept).ids)) > n:
        users = [i for i, message in enumerate(kept) if message["role"] == "user"]
        if len(users) < 2:
            raise ValueError(f"the last exchange needs {length} tokens, and {n} fit; cut its text")
        del kept[first : users[1]]
    return kept
