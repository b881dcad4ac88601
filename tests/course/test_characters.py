"""What a page would show otherwise than it was meant is found, with its line."""

import pytest

from chainrule.node import NodeError, install_packages

SLOPES = "math-foundations/slopes.md"
NOTEBOOK = "notebooks/01-hill.ipynb"


def plant(small, text):
    """Add a paragraph to a document; the line on which it stands."""
    small.edit(SLOPES, "\n## What people", f"\n{text}\n\n## What people")
    lines = (small.root / SLOPES).read_text(encoding="utf-8").split("\n")
    return lines.index(text.split("\n")[0]) + 1


def found(small):
    return [(f.file, f.line, f.message) for f in small.audit("characters").findings]


def test_without_katex_the_other_checks_go_on(small, monkeypatch):
    monkeypatch.setattr("chainrule.course.audit.checks.mathematics.find_node", lambda: None)
    plant(small, "A soft\u200bblank.")
    told = {
        f.check: (f.file, f.message, f.fix)
        for f in small.audit("mathematics", "characters").findings
    }
    assert told["mathematics"] == (
        "course.toml",
        "no formula was parsed: Node is missing",
        "type: python -m chainrule.node",
    )
    assert "characters" in told


def test_without_a_site_there_is_nothing_to_install(tmp_path):
    with pytest.raises(NodeError, match="no site in"):
        install_packages(tmp_path / "site")


def test_a_clean_course_has_none(small):
    assert found(small) == []


@pytest.mark.parametrize(
    ("text", "below", "message"),
    [
        ("A soft\u200bblank.", 0, "U+200B"),
        ("Turned \u202eround.", 0, "U+202E"),
        ("A \x00 byte.", 0, "U+0000"),
        ("See [that](my file.md).", 0, "a link with a blank, shown as it is typed: my file.md"),
        ("It is 3 <!--= 1+2 .", 0, "a comment that is not closed"),
        ("```{python}\nprint(1)\n```", 0, "{python}: a directive of Sphinx"),
        ("| a | b |\n|---|---|\n| `x|y` | cell |", 2, "a row of 3 cells under a header of 2"),
        ("| a | b |\n|---|---|\n| x |", 2, "a row of 1 cells under a header of 2"),
    ],
)  # fmt: skip
def test_a_mark_that_is_not_shown_as_it_is_meant(small, text, below, message):
    line = plant(small, text)
    ((file, at, said),) = found(small)
    assert (file, at) == (SLOPES, line + below)
    assert message in said


@pytest.mark.parametrize(
    "text",
    [
        'See [that](lengths.md "with a title") and [this](<my file.md>).',
        "In code `[that](my file.md)` and `<!--` and `a\\|b`.",
        "```python\nx = '<!--'  # [that](my file.md) \\u200b\n```",
        "| a | b |\n|---|---|\n| `x\\|y` | cell |",
        "A comment\n<!-- over\ntwo lines --> ends.",
        "An emoji \U0001f468‍\U0001f469 of two.",
    ],
)
def test_what_is_right_is_left_alone(small, text):
    plant(small, text)
    assert found(small) == []


@pytest.mark.parametrize("bad", [b"caf\xe9", b"\xed\xa0\x80"])
def test_bytes_that_are_no_text(small, bad):
    path = small.root / SLOPES
    line = path.read_bytes().count(b"\n") + 1
    path.write_bytes(path.read_bytes() + bad)
    assert [(f, at) for f, at, _ in found(small)] == [(SLOPES, line)]
    assert "not UTF-8" in found(small)[0][2]


@pytest.mark.parametrize("path", [SLOPES, NOTEBOOK, "course.toml"])
def test_a_byte_order_mark_is_named(small, path):
    file = small.root / path
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    messages = [said for f, _, said in found(small) if f == path]
    assert messages == ["U+FEFF, a character that nobody sees"]


def test_front_matter_is_named(small):
    path = small.root / SLOPES
    path.write_text("---\ntitle: x\n---\n" + path.read_text())
    assert (SLOPES, 1, "front matter, which GitHub shows as a table") in found(small)


def test_a_notebook_of_nested_brackets(small):
    (small.root / NOTEBOOK).write_text("[" * 100_000)
    messages = [f.message for f in small.audit("notebooks").findings]
    assert messages == ["not a notebook of format 4 with cells"]
