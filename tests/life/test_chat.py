"""Talking: streaming, history, commands, and an answer that is stopped."""

import io

import numpy as np
import pytest

from chainrule.life.chat import Conversation, answer, converse, open_model
from chainrule.program import UsageError


class Bytes:
    """A model whose tokens are bytes: it says the last question again, and ends with 0."""

    title, opening, system = "Bytes", "I repeat.", ""
    context, limit, temperature = 100, 50, 0.0
    ends = frozenset({0})

    def __init__(self, says=None):
        self.says, self.seen, self.closed = says, [], 0

    def encode(self, messages):
        self.messages = list(messages)
        return list("".join(f"{m['role'][0]}{m['content']}|" for m in messages).encode())

    def stream(self, ids, temperature, rng):
        self.seen.append(list(ids))
        says = self.says if self.says is not None else self.messages[-1]["content"]
        try:
            yield from says.encode()
            while True:
                yield 0
        finally:
            self.closed += 1

    def decode(self, ids):
        return bytes(ids).decode("utf-8", "replace")


def talk(model, *lines, **options):
    """What a conversation prints, line by line; a line that is an exception is raised."""
    left = iter(lines)

    def read(prompt):
        line = next(left, None)
        if line is None:
            raise EOFError
        if isinstance(line, BaseException):
            raise line
        return line

    out = io.StringIO()
    conversation = Conversation(model, **options)
    converse(conversation, read, out)
    return out.getvalue(), conversation


def test_pieces_never_end_in_half_a_character():
    model = Bytes("naïve Größe 日本 \N{GRINNING FACE}!")
    pieces = list(answer(model, [1], 0, None, 99))
    assert "".join(pieces) == model.says
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    assert model.closed == 1


def test_what_is_cut_off_in_a_character_is_shown_as_such():
    assert "".join(answer(Bytes("aä"), [1], 0, None, 2)) == "a\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("limit", [1, 3, 5])
def test_an_answer_has_a_limit(limit):
    assert "".join(answer(Bytes("abcdefg"), [1], 0, None, limit)) == "abcdefg"[:limit]


def test_history_is_seen_and_the_oldest_goes_first():
    model = Bytes()
    said, conversation = talk(model, "one", "two", *(f"word {i}" for i in range(9)))
    assert "I repeat." in said
    assert "one" in said
    assert bytes(model.seen[1]).decode() == "uone|aone|utwo|"
    assert len(model.seen[-1]) + model.limit <= model.context
    assert bytes(model.seen[-1]).decode().endswith("uword 8|")
    assert "one" not in bytes(model.seen[-1]).decode()
    assert len(conversation.said) == 22


def test_commands():
    model = Bytes()
    said, conversation = talk(
        model, "/system be brief", "hello", "/temperature 0.5", "/temperature -1",
        "/temperature hot", "/temperature nan", "/fly", "/help", "/reset", "again", "", "/quit",
        "never",
    )  # fmt: skip
    assert bytes(model.seen[0]).decode() == "sbe brief|uhello|"
    assert bytes(model.seen[1]).decode() == "sbe brief|uagain|"
    assert len(model.seen) == 2
    assert conversation.temperature == 0.5
    for expected in ("0 or more, received -1", "takes a number, received 'hot'", "received nan",
                     "there is no /fly", "/temperature X", "forgotten"):  # fmt: skip
        assert expected in said


def test_control_c_stops_the_answer_and_not_the_program():
    class Slow(Bytes):
        def stream(self, ids, temperature, rng):
            self.seen.append(list(ids))
            try:
                yield from b"beg"
                if len(self.seen) == 1:
                    raise KeyboardInterrupt
                yield from b"in"
                yield 0
            finally:
                self.closed += 1

    model = Slow()
    said, conversation = talk(model, "first", KeyboardInterrupt(), "second")
    assert "beg [stopped]" in said
    assert "/quit leaves" in said
    assert "begin" in said
    assert model.closed == 2
    assert [m["content"] for m in conversation.said] == ["first", "beg", "second", "begin"]


def test_a_question_that_does_not_fit_is_refused_and_the_talk_goes_on():
    model = Bytes()
    said, _ = talk(model, "x" * 200, "hi")
    assert "the question has 202 tokens" in said
    assert bytes(model.seen[0]).decode() == "uhi|"


@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan")])
def test_temperatures_that_are_none(value):
    with pytest.raises(UsageError, match="0 or more"):
        Conversation(Bytes(), temperature=value)


def test_same_seed_same_draws():
    class Drawn(Bytes):
        def stream(self, ids, temperature, rng):
            while True:
                yield int(rng.integers(65, 90))

    first, second, third = (
        "".join(Conversation(Drawn(), seed=seed, limit=30).ask("?")) for seed in (5, 5, 6)
    )
    assert first == second != third


def test_no_model_there(tmp_path):
    with pytest.raises(UsageError, match=r"is no life; type: .*life --out"):
        open_model(str(tmp_path))
    assert np.array(list(tmp_path.iterdir())).size == 0
