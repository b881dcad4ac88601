"""Talking to a model in the terminal: history, streaming, and a way to stop an answer.

Any model that fulfils `ChatModel` can be talked to. `open_model` finds one by the name of a
published model or by the folder of a run of ``chainrule life``.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Protocol, TextIO

import numpy as np

from chainrule.program import UsageError

__all__ = ["NAMED", "ChatModel", "Conversation", "Message", "answer", "converse", "open_model"]

Message = Mapping[str, str]

NAMED = {"smollm2": "chainrule.models.smollm2:chat_model"}
"""Published models: the function that opens each, as ``module:function``."""

CUT = "\N{REPLACEMENT CHARACTER}"
"""Stands at the end of a text whose last character has not come whole."""

HELP = """\
/temperature X   0 always takes the likeliest token; higher is wilder
/system TEXT     what the model is told before the conversation; no text removes it
/reset           forget the conversation
/help            this list
/quit            leave; so does Ctrl-D. Ctrl-C stops an answer."""


class ChatModel(Protocol):
    """What a model needs to be talked to.

    ``ends`` are the ids that end an answer. ``context`` tokens can be seen at once, prompt and
    answer together; ``limit`` is the most tokens of an answer.
    """

    title: str
    opening: str
    system: str
    context: int
    limit: int
    temperature: float
    ends: frozenset[int]

    def encode(self, messages: Sequence[Message]) -> Sequence[int]:
        """Return the ids of a conversation up to where the assistant begins to write."""

    def stream(
        self, ids: Sequence[int], temperature: float, rng: np.random.Generator | None
    ) -> Iterator[int]:
        """Yield tokens that continue ``ids``; temperature 0 takes the likeliest."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; what is no complete UTF-8 comes as U+FFFD."""


class Conversation:
    """What was said so far, and how the next answer is drawn.

    The oldest exchanges are left out of what the model sees when they no longer fit.
    """

    def __init__(
        self,
        model: ChatModel,
        temperature: float | None = None,
        system: str | None = None,
        seed: int | None = None,
        limit: int | None = None,
    ) -> None:
        self.model = model
        self.temperature = model.temperature
        if temperature is not None:
            self.set_temperature(temperature)
        self.system = model.system if system is None else system
        self.limit = model.limit if limit is None else limit
        self.rng = np.random.default_rng(seed)
        self.said: list[Message] = []

    def set_temperature(self, value: float) -> None:
        """Choose the temperature.

        Raises:
            UsageError: it is negative or no finite number.
        """
        if not 0 <= value < math.inf:
            raise UsageError(f"a temperature is 0 or more, received {value:g}")
        self.temperature = value

    def prompt(self, question: str) -> list[int]:
        """Return the ids that the model sees: as much of the conversation as fits.

        Raises:
            UsageError: the question alone does not fit.
        """
        before = [{"role": "system", "content": self.system}] if self.system else []
        asked = {"role": "user", "content": question}
        model = self.model
        kept = list(self.said)
        while True:
            ids = list(model.encode([*before, *kept, asked]))
            if len(ids) + self.limit <= model.context:
                return ids
            if not kept:
                room = model.context - self.limit
                if len(ids) < model.context:  # a shorter answer still fits
                    return ids
                raise UsageError(
                    f"the question has {len(ids)} tokens with its template, and {room} fit; "
                    f"make it shorter"
                )
            kept = kept[2:]

    def ask(self, question: str) -> Iterator[str]:
        """Yield the answer in pieces; what was written when it ends or is closed is remembered."""
        ids = self.prompt(question)
        written: list[str] = []
        room = min(self.limit, self.model.context - len(ids))
        try:
            for piece in answer(self.model, ids, self.temperature, self.rng, room):
                written.append(piece)
                yield piece
        finally:
            self.said += [
                {"role": "user", "content": question},
                {"role": "assistant", "content": "".join(written)},
            ]


def answer(
    model: ChatModel,
    ids: Sequence[int],
    temperature: float,
    rng: np.random.Generator | None,
    limit: int,
) -> Iterator[str]:
    """Yield the text of an answer as it is drawn, never half a character."""
    drawn: list[int] = []
    shown = 0
    tokens = model.stream(ids, temperature, rng)
    try:
        for token in tokens:
            if token in model.ends:
                break
            drawn.append(token)
            text = model.decode(drawn)
            if len(text) > shown and not text.endswith(CUT):
                yield text[shown:]
                shown = len(text)
            if len(drawn) >= limit:
                break
    finally:
        close = getattr(tokens, "close", None)
        if close is not None:
            close()
    if len(rest := model.decode(drawn)) > shown:
        yield rest[shown:]


def converse(
    talk: Conversation, read: Callable[[str], str] | None = None, out: TextIO | None = None
) -> None:
    """Talk until the reader leaves; ``read(prompt)`` returns a line or raises EOFError."""
    read = input if read is None else read
    out = sys.stdout if out is None else out
    terminal = read is not input or sys.stdin.isatty()
    if terminal:
        print(f"{talk.model.title}\n{talk.model.opening}\n", file=out)
        print("/help lists what you can type; /quit leaves.", file=out)
    while True:
        try:
            line = read("\n> " if terminal else "").strip()
        except EOFError:
            return
        except KeyboardInterrupt:
            print("\n/quit leaves", file=out)
            continue
        if not line:
            continue
        if line in ("/quit", "/exit"):
            return
        try:
            if line.startswith("/"):
                print(_command(talk, line), file=out)
            else:
                _show(talk.ask(line), out)
        except UsageError as error:
            print(error, file=out)


def _show(pieces: Iterator[str], out: TextIO) -> None:
    """Print an answer piece by piece; Ctrl-C ends it and nothing else."""
    try:
        for piece in pieces:
            print(piece, end="", file=out, flush=True)
    except KeyboardInterrupt:
        with suppress(RuntimeError):
            pieces.close()  # type: ignore[attr-defined]
        print(" [stopped]", end="", file=out)
    print(file=out)


def _command(talk: Conversation, line: str) -> str:
    """Do what a line with a slash asks, and say what was done."""
    name, _, rest = line.partition(" ")
    rest = rest.strip()
    if name == "/help":
        return HELP
    if name == "/reset":
        talk.said.clear()
        return "the conversation is forgotten"
    if name == "/system":
        talk.system = rest
        return f"system: {rest}" if rest else "no system message"
    if name == "/temperature":
        try:
            value = float(rest)
        except ValueError:
            raise UsageError(
                f"/temperature takes a number, received {rest!r}; it is {talk.temperature:g} now"
            ) from None
        talk.set_temperature(value)
        return f"temperature {value:g}"
    raise UsageError(f"there is no {name}; /help lists what there is")


def open_model(who: str) -> ChatModel:
    """Return the model of a name in `NAMED`, of a GGUF file, or of the folder of a finished run.

    Raises:
        UsageError: there is no such model; the message says how to get one.
    """
    if who in NAMED and not Path(who).is_dir():
        module, _, function = NAMED[who].partition(":")
        try:
            opener = getattr(import_module(module), function)
        except ModuleNotFoundError as error:
            if error.name is None or not module.startswith(error.name):
                raise
            raise UsageError(f"{who} cannot be opened by this version of chainrule") from None
        return opener()
    if who.endswith(".gguf"):
        from chainrule.models.smollm2 import open_chat

        return open_chat(Path(who))
    from chainrule.life.assistant import Assistant

    return Assistant.open(Path(who))
