"""What a document may still hold only falls: more is reported, and so is a number too high."""

import pytest

from chainrule.course.manifest import CourseError, load_course

SLOPES = "math-foundations/slopes.md"
LONG = "Uphill " * 79 + "it is."


def allow(course, allowance):
    """Give the slopes an allowance, between other fields of their entry."""
    course.edit("course.toml", "minutes = 20\n", f"minutes = 20\nallowance = {{ {allowance} }}\n")


def climb(course, times):
    course.edit(SLOPES, "\n## What people", f"\n{LONG}\n" * times + "\n## What people")


def test_as_many_as_allowed_are_not_reported(small):
    allow(small, "paragraphs = 2")
    climb(small, 2)
    assert small.audit("density").findings == []


def test_one_more_than_allowed_names_every_place(small):
    allow(small, "paragraphs = 1")
    climb(small, 2)
    findings = small.audit("density").findings
    assert [(f.file, small.line(f)) for f in findings] == [(SLOPES, LONG)] * 2
    assert findings[0].line != findings[1].line


def test_what_is_allowed_can_be_shown(small):
    allow(small, "paragraphs = 3")
    climb(small, 2)
    assert [f.file for f in small.audit("density").findings] == ["course.toml"]
    assert [f.file for f in small.audit("density", everything=True).findings] == [SLOPES] * 2


def test_fewer_than_allowed_must_be_lowered_and_write_lowers_it(small):
    allow(small, "paragraphs = 3, derivations = 2, questions = 1")
    climb(small, 2)
    small.edit(SLOPES, "**Question.**", "Now:")
    (paragraphs, derivations) = sorted(
        small.audit("density", "questions").findings, key=lambda finding: -len(finding.message)
    )
    assert (
        small.line(paragraphs) == "allowance = { paragraphs = 3, derivations = 2, questions = 1 }"
    )
    assert "math-foundations/slopes is allowed" in paragraphs.message
    assert {f.message.split("allowed ")[1] for f in (paragraphs, derivations)} == {
        "paragraphs = 3 and has 2",
        "derivations = 2 and has 0",
    }
    report = small.audit("density", "questions", write=True)
    assert report.findings == []
    assert [path for path, *_ in report.changes] == ["course.toml"]
    text = (small.root / "course.toml").read_text(encoding="utf-8")
    assert "minutes = 20\nallowance = { paragraphs = 2, questions = 1 }\npromise" in text
    assert small.audit("density", "questions", write=True).changes == []


def test_an_allowance_that_is_used_up_goes(small):
    before = (small.root / "course.toml").read_text(encoding="utf-8")
    allow(small, "by_hand = 2, terms = 1, symbols = 1")
    assert small.audit("by-hand", "ledger", write=True).findings == []
    assert (small.root / "course.toml").read_text(encoding="utf-8") == before


def test_write_never_raises_an_allowance(small):
    allow(small, "paragraphs = 1")
    climb(small, 2)
    report = small.audit("density", write=True)
    assert report.changes == []
    assert [finding.file for finding in report.findings] == [SLOPES] * 2


@pytest.mark.parametrize("allowance", ["paragraph = 1", "paragraphs = -1", "paragraphs = 0.5"])
def test_what_is_no_allowance_is_refused(small, allowance):
    allow(small, allowance)
    with pytest.raises(CourseError, match=r"'math-foundations/slopes', field 'allowance\."):
        load_course(small.root)
