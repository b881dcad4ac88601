"""The labelled spans: whole, balanced enough, of one part each, and readable by the model."""

from collections import Counter

import numpy as np
import pytest

from chainrule.course.documents import spans as taking
from chainrule.data.corpus import PARTS, frozen_corpus
from chainrule.data.spans import KINDS, LENGTH, labelled_spans
from chainrule.data.text import DataError


@pytest.mark.parametrize("part", PARTS)
def test_spans_belong_to_their_part_and_have_tokens(part):
    corpus, spans = frozen_corpus(), labelled_spans(part)
    assert set(spans.documents) == set(corpus.names(part))
    assert {len(text) for text in spans.texts} == {LENGTH}
    ids = np.stack([corpus.tokenizer().encode(text) for text in spans.texts])
    assert ids.shape == (len(spans), LENGTH)
    counts = np.bincount(spans.labels, minlength=len(KINDS))
    assert counts.min() >= 30
    assert not any(mark in text for text in spans.texts for mark in ("\n", "```", "$$"))


def test_a_few_are_balanced_and_not_twice(rng):
    spans = labelled_spans("train")
    few = spans.few(16, rng)
    assert np.bincount(few.labels).tolist() == [16] * 4
    assert max(Counter(few.texts).values()) == 1
    known = dict(zip(spans.texts, spans.labels, strict=True))
    assert all(known[text] == label for text, label in zip(few.texts, few.labels, strict=True))
    for each in (0, 1000):
        with pytest.raises(ValueError, match=f"each={each}"):
            spans.few(each, rng)


def test_kinds_of_a_small_page():
    text = (
        "# A page\n\n<!-- generated: header -->\n\n| no | no |\n\n<!-- /generated -->\n\n"
        "One sentence with $x$.\n\n| a | b |\n|---|---|\n| $c$ | [d](e.md) |\n\n"
        "```math\nx^2 =\n  4\n```\n\n```python\ny = 1\n    z = 2\n#> 3\n```\n"
    )
    assert taking.kinds(text) == {
        "prose": "A page One sentence with $x$.",
        "code": "y = 1 z = 2",
        "maths": "x^2 = 4",
        "table": "a b $c$ d",
    }
    assert taking.cut("x" * 640, 3) == ["x" * 64] * 3
    assert taking.cut("short", 3) == []


def test_broken_lines_are_named(tmp_path):
    path = tmp_path / "spans.txt"
    path.write_text("train\tdoc\tprose\ttoo short\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"spans\.txt, line 1: expected part"):
        labelled_spans("train", path)
    with pytest.raises(ValueError, match="'dev'"):
        labelled_spans("dev")
