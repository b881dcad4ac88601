"""The audit of exercises: each fault is planted in a clean course and reported where it stands."""

from __future__ import annotations

import pytest

from chainrule.course.audit.checks import exercises as check

FILE = "exercises/math-foundations/lengths.py"
NAME = check.NAME


def test_the_clean_course_has_no_findings(small):
    assert small.audit(NAME, run=True).findings == []


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('section="unit-arrows"', 'section="no-such"', "def twice", "has no section #no-such"),
        ("difficulty=1", "difficulty=6", "def twice", "difficulty is 6"),
        ("difficulty=1", "difficulty=LEVEL", "def twice", "difficulty is None"),
        ("minutes=5", "minutes=0", "def twice", "minutes is 0"),
        ('"Twice in lengths"', '""', "def twice", "title is ''"),
        ("because=", "seconds=", "def twice", "no counterpart in the package"),
        ('"the package needs no function for that"', '"none"', "def twice", "no counterpart"),
        ('"What is taken two times?"', '"Two."', "def twice", "no idea to help with"),
        ('    """Return twice x."""\n', "", "def twice", "there is no statement"),
        ("@twice.check\n", "", "def twice", "there is no check"),
        (
            '@twice.mistake("You halved it. Which',
            '@twice.note("It',
            "def twice",
            "1 known mistakes",
        ),
        ('"You squared it. What is twice 3?"', '"Wrong."', "def squares", "has 6 characters"),
        (
            '"You halved it. Which way does twice go?"',
            '"You squared it. What is twice 3?"',
            "def halves",
            "another mistake has the same hint",
        ),
        ("@exercise(", "@nothing(", '"""Exercises."""', "no exercise in this file"),
    ],
)
def test_what_is_wrong_is_reported_on_its_line(small, old, new, line, message):
    small.edit(FILE, old, new)
    found = small.audit(NAME).findings
    assert [(f.file, f.check) for f in found] == [(FILE, NAME)] * len(found)
    (finding,) = [f for f in found if message in f.message]
    assert small.line(finding).strip().startswith(line)


def test_two_exercises_of_one_name(small):
    text = (small.root / FILE).read_text()
    start = text.index("@exercise(")
    small.add(FILE, text + "\n\n" + text[start:])
    assert any("two exercises are named twice" in f.message for f in small.audit(NAME).findings)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "What is twice 3?",
            "What about x + x ** 2 / x?",
            "its hint shows the solution: x + x**2/x",
        ),
        ("Return twice x.", "Return x + x**2 / x.", "the stub shows the solution: x + x**2/x"),
        ("What is taken two", "Is x + x**2 / x it", "the idea shows the solution: x + x**2/x"),
    ],
)
def test_a_solution_in_a_hint_or_in_the_statement_is_reported(small, old, new, message):
    small.edit(FILE, "return 2 * x", "return x + x**2 / x")
    small.edit(FILE, old, new)
    (finding,) = small.audit(NAME).findings
    assert "".join(message.split()) in "".join(finding.message.split())


def test_one_operation_alone_gives_nothing_away(small):
    small.edit(FILE, "Return twice x.", "Return 2 * x.")
    assert small.audit(NAME).findings == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("return 2 * x", "return 3 * x", "its own solution fails the check 'small': twice 2.7"),
        (
            'because="the package needs no function for that"',
            'counterpart="operator:neg"',
            "operator:neg answers the check 'small' differently: twice 2.7",
        ),
        (
            'because="the package needs no function for that"',
            'counterpart="chainrule.shapes:twice"',
            "twice: counterpart 'chainrule.shapes:twice': module",
        ),
        ("return x * x", "return x + x", "the mistake squares passes every check"),
        ("return x / 2", "return x**2", "the mistake halves cannot be told from squares"),
        ("expect_close(answer(2.7)", "answer(2.7), (lambda *_, **__: 0)(5.4", "empty stub passes"),
        ("return 2 * x", "import os; os._exit(3)", "the proof failed: ended with status 3"),
        ("from __future__", "import nonsense\nfrom __future__", "cannot be executed: SyntaxError"),
    ],
)
def test_what_is_not_proved_is_reported_with_run_only(small, old, new, message):
    small.edit(FILE, old, new)
    assert not any(message in finding.message for finding in small.audit(NAME).findings)
    found = small.audit(NAME, run=True).findings
    assert any(message in finding.message and finding.file == FILE for finding in found), found


def test_an_endless_proof_is_stopped(small, monkeypatch):
    monkeypatch.setattr(check, "PROOF_SECONDS", 1)
    small.edit(FILE, "return x * x", "while True: pass")
    found = small.audit(NAME, run=True).findings
    assert (FILE, "the proof failed: still running after 1 s: killed") in [
        (f.file, f.message) for f in found
    ]


def test_a_document_that_is_only_planned_has_no_sections_to_miss(small):
    small.add("exercises/neural-networks/neurons.py", (small.root / FILE).read_text())
    assert small.audit(NAME).findings == []
