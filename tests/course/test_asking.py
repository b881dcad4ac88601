"""One question a document: what counts as the answer, and what is asked."""

import pytest

from chainrule.course.asking import agrees, number
from chainrule.course.manifest import Ask, load_course
from chainrule.learner.commands import path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3.0),
        (" −6 ", -6.0),
        ("- 6", -6.0),
        ("1/4", 0.25),
        ("27%", 0.27),
        ("27 %", 0.27),
        (".5", 0.5),
        ("1.2e20", 1.2e20),
        ("1,200", 1200.0),
        ("1,200.5", 1200.5),
        ("20,480,000", 20_480_000.0),
        ("0,27", 0.27),
        ("0,277", 0.277),
        ("49_152", 49152.0),
        ("1/0", None),
        ("", None),
        ("about 3", None),
        ("nan", None),
        ("1e999", None),
        ("__import__", None),
    ],
)
def test_numbers_as_people_write_them(text, value):
    assert number(text) == value


@pytest.mark.parametrize(
    ("given", "answer", "right"),
    [
        ("0.27", "0.27", True),
        ("0.2687", "0.27", True),
        ("18/67", "0.27", True),
        ("27 %", "0.27", True),
        ("0.28", "0.27", False),
        ("0.264", "0.27", False),
        ("3", "3", True),
        ("3.0", "3", True),
        ("3.2", "3", False),
        ("-3", "3", False),
        ("1.2e20", "1.2e20", True),
        ("120000000000000000000", "1.2e20", True),
        ("1.3e20", "1.2e20", False),
        ("0.8", "0.80", True),
        ("1e999", "3", False),
        ("", "3", False),
    ],
)
def test_an_answer_agrees_to_the_digits_that_are_asked_for(given, answer, right):
    assert agrees(given, answer) is right


@pytest.fixture
def session(monkeypatch, capsys):
    """Ask about a course's documents: which are known, what is said, what is asked."""

    def run(course, replies):
        asked, left = [], iter(replies)

        def reply(question):
            asked.append(question.split(":")[0])
            return next(left)

        monkeypatch.setattr(path, "_reply", reply)
        known = path.ask_what_is_known(course, course.documents)
        said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
        return known, said, asked

    return run


def test_what_is_answered_is_known(small, session):
    course = load_course(small.root)
    known, said, asked = session(course, ["10", "1/8"])
    assert known == {"math-foundations/lengths", "math-foundations/slopes"}
    assert asked == ["Lengths", "Slopes"]
    assert said[0] == "  Right: Lengths is marked as known."


def test_what_is_missed_is_not_and_its_answer_is_shown(small, session):
    known, said, _ = session(load_course(small.root), ["11", ""])
    assert known == set()
    assert said == [
        "  It is 10: math-foundations/lengths.md stays on your path.",
        "  The answer is 0.13: math-foundations/slopes.md stays on your path.",
    ]


def test_who_stops_keeps_what_was_answered(small, session):
    assert session(load_course(small.root), ["10", None])[0] == {"math-foundations/lengths"}


def test_after_three_misses_the_rest_is_not_asked(small, session):
    course = load_course(small.root)
    ask = course.asks["math-foundations/lengths"]
    course.asks = {document.id: ask for document in course.documents}
    course.documents = course.documents * 2
    _, said, asked = session(course, ["1"] * 9)
    assert len(asked) == path.MISSES
    assert said[-1] == "  3 in a row: the rest builds on these and is not asked."


def test_a_right_answer_starts_the_count_anew(small, session):
    course = load_course(small.root)
    course.asks["neural-networks/neurons"] = Ask(
        document="neural-networks/neurons", question="How many are two?", answer="2", computed="2"
    )
    course.documents = course.documents * 2
    _, _, asked = session(course, ["1", "1", "2", "1", "1", "2"])
    assert len(asked) == 6
