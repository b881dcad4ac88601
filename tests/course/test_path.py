"""A subject is found by what people call it, and the path to it leaves out what they know."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from chainrule.course.manifest import load_course
from chainrule.course.paths import duration, find_subject
from chainrule.learner.commands.path import as_text, reading_path
from chainrule.program import UsageError

COURSE = load_course(Path(__file__).parents[2])
IDS = [document.id for document in COURSE.documents]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("kv cache", "modern-llms/inference"),
        ("KV-Cache", "modern-llms/inference"),
        ("attention", "transformers/attention"),
        ("transformers/attention", "transformers/attention"),
        ("transformers/attention.md", "transformers/attention"),
        ("./workbook/math-foundations/linear_algebra.py", "math-foundations/linear-algebra"),
        ("self attention", "transformers/self-attention"),
        ("Linear Algebra", "math-foundations/linear-algebra"),
        ("linear", "math-foundations/linear-algebra"),
        ("  LORA ", "modern-llms/efficient-adaptation"),
        ("backprop", "neural-networks/backpropagation"),
        ("power iter", "math-foundations/linear-algebra"),
        ("limitations: XOR problem", "neural-networks/perceptron"),
        ("bayes' theorem", "math-foundations/probability"),
    ],
)
def test_found_by_title_id_slug_concept_or_outline(words, found):
    assert find_subject(COURSE, words).document.id == found


def test_every_name_of_every_document_finds_it_or_lists_it():
    def found(name):
        try:
            return find_subject(COURSE, name).document.id
        except UsageError as error:
            return str(error)

    for document in COURSE.documents:
        names = [document.id, document.slug, document.title, *document.concepts]
        for name in [*names, *(item.text for item in document.outline)]:
            assert document.id in found(name.upper())


def test_an_outline_bullet_brings_its_section():
    item = COURSE.documents[0].outline[2]
    assert find_subject(COURSE, item.text).anchor == item.anchor


@pytest.mark.parametrize(
    ("typo", "suggestion"),
    [
        ("attetnion", "'Attention'"),
        ("liner algebra", "'Linear algebra'"),
        ("kv cahce", "'KV cache'"),
        ("transfromer", "'transformer'"),
    ],
)
def test_a_typo_is_answered_with_a_near_miss(typo, suggestion):
    with pytest.raises(UsageError, match=f"no subject is called '{typo}'; did you mean") as caught:
        find_subject(COURSE, typo)
    assert suggestion.casefold() in str(caught.value).casefold()


def test_nonsense_and_nothing_are_refused():
    with pytest.raises(UsageError, match="no subject is called 'qqqq zzzz'; see"):
        find_subject(COURSE, "qqqq zzzz")
    with pytest.raises(UsageError, match="no subject given"):
        find_subject(COURSE, " -- ")


def test_an_ambiguous_name_gives_a_short_list():
    with pytest.raises(UsageError) as caught:
        find_subject(COURSE, "perplexity")
    first, *rest = str(caught.value).splitlines()
    assert first == "'perplexity' could be any of these; type one of the ids:"
    assert [line.split()[0] for line in rest] == [
        "math-foundations/information-theory",
        "training/loss-functions",
    ]


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


def test_duration():
    assert [duration(n) for n in (5, 60, 125)] == ["5 min", "1 h", "2 h 05 min"]


def test_progress_and_known_shorten_the_path(small, monkeypatch):

    from chainrule.application import build
    from chainrule.learner import workbook

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
