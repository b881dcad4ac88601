"""The path to a subject leaves out what people know, and asks them what that is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from chainrule.application import build
from chainrule.course.manifest import Ask, load_course
from chainrule.course.paths import duration, find_subject
from chainrule.learner import workbook
from chainrule.learner.commands import path
from chainrule.learner.commands.path import as_text, reading_path

COURSE = load_course(Path(__file__).parents[2])
IDS = [document.id for document in COURSE.documents]


@given(st.sampled_from(IDS), st.sets(st.sampled_from(IDS)))
def test_a_path_is_in_order_complete_and_without_what_is_known(goal, known):
    steps = reading_path(COURSE, goal, known)
    found = [step.document.id for step in steps]
    assert found == [name for name in IDS if name in found]
    assert found[-1] == goal
    assert not set(found[:-1]) & known
    available = set(known)
    for step in steps:
        assert set(COURSE.graph.predecessors(step.document.id)) <= available
        available.add(step.document.id)
        assert step.reasons or step.document.id == goal
        assert {user.id for user, _ in step.reasons} <= set(found)


@given(st.sampled_from(IDS))
def test_with_nothing_known_the_path_is_the_goal_and_its_ancestors(goal):
    found = {step.document.id for step in reading_path(COURSE, goal)}
    assert found == COURSE.ancestors(goal) | {goal}


def test_what_only_known_documents_need_is_left_out():
    found = reading_path(COURSE, "math-foundations/probability", {"math-foundations/calculus"})
    assert [step.document.id for step in found] == ["math-foundations/probability"]


def test_the_path_names_each_document_its_minutes_and_a_reason():
    goal = find_subject(COURSE, "kv cache")
    steps = reading_path(COURSE, goal.document.id)
    text = as_text(COURSE, goal, steps)
    assert text.startswith("KV cache is taught in modern-llms/inference.md")
    assert duration(sum(step.document.minutes for step in steps)) in text
    planned = sum(not COURSE.exists(step.document) for step in steps)
    assert text.count("(not written yet)") == planned
    for step in steps:
        assert step.document.title in text
        assert all(because in text for _, because in step.reasons[:1])


def test_progress_and_known_shorten_the_path(small, monkeypatch):
    monkeypatch.chdir(small.root)
    app, runner = build(), CliRunner()
    full = runner.invoke(app, ["path", "one", "neuron"])
    assert full.stdout.splitlines()[:2] == [
        "One neuron is taught in neural-networks/neurons.md#one-neuron",
        "3 documents, 1 h",
    ]
    marked = runner.invoke(app, ["path", "neurons", "--known", "lengths"])
    assert "2 documents, 50 min" in marked.stdout
    workbook.save_progress(small.root, workbook.Progress({}, {"math-foundations/slopes"}))
    assert "1 document, 30 min" in runner.invoke(app, ["path", "neurons"]).stdout


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
