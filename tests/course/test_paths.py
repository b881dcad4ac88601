"""A subject is found by what people call it."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainrule.course.manifest import load_course
from chainrule.course.paths import duration, find_subject
from chainrule.program import UsageError

COURSE = load_course(Path(__file__).parents[2])


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


def test_duration():
    assert [duration(n) for n in (5, 60, 125)] == ["5 min", "1 h", "2 h 05 min"]
