"""``chainrule new`` writes what a subject begins with, and the audit says what it lacks."""

from __future__ import annotations

import pytest

from chainrule.course.commands.new import new
from chainrule.program import UsageError

ID = "neural-networks/neurons"
FILES = {
    "neural-networks/neurons.md",
    "src/chainrule/neural_networks/neurons.py",
    "tests/neural_networks/test_neurons.py",
    "exercises/neural-networks/neurons.py",
    "figures/neural-networks/neurons.py",
}
# What only an author can give: words, pictures, exercises.
OPEN = {"exercises", "figures", "manifest", "prerequisites"}


@pytest.fixture
def begun(small, monkeypatch):
    """The small course with its planned subject begun."""
    monkeypatch.chdir(small.root)
    new(["neurons"])
    return small


def files(course):
    return {
        path.relative_to(course.root).as_posix(): path.read_bytes()
        for path in course.root.rglob("*")
        if path.is_file()
    }


def test_a_subject_begins_with_its_five_files(small, monkeypatch, capsys):
    before = files(small)
    monkeypatch.chdir(small.root)
    new(["Neurons"])
    after = files(small)
    assert after.keys() - before.keys() == FILES
    assert {path: after[path] for path in before} == before
    told = capsys.readouterr().out
    assert all(f"{path}: written" in told for path in FILES)
    assert told.endswith(
        "chainrule audit neurons --run says what is still missing, until it is silent.\n"
    )


def test_the_audit_finds_its_form_right_and_says_what_is_open(begun):
    begun.audit("generated", "glossary", write=True)
    found = [f for f in begun.audit().findings if "neurons" in f.file + f.message]
    assert {finding.check for finding in found} <= OPEN
    said = " ".join(finding.message for finding in found)
    for lack in ("title is '…'", "no idea", "shows 0 figures", "has no question for"):
        assert lack in said
    page = (begun.root / f"{ID}.md").read_text(encoding="utf-8")
    assert "## One neuron\n" in page
    assert "[Slopes](../math-foundations/slopes.md) | Learning goes down a slope. |" in page


def test_nothing_of_it_passes_for_done(begun):
    begun.audit("generated", "glossary", write=True)
    found = begun.audit(run=True, subjects=[ID]).findings
    proved = [f.message for f in found if f.check == "exercises" and "NotImpl" in f.message]
    drawn = [f.message for f in found if f.check == "figures" and "NotImpl" in f.message]
    assert proved == [
        "first: its own solution fails the check 'small_example': NotImplementedError"
    ]
    assert drawn == ["NotImplementedError: "]


def test_what_is_there_is_left_as_it_is(small, monkeypatch, capsys):
    small.add("src/chainrule/neural_networks/neurons/__init__.py", '"""A package."""\n')
    small.add("exercises/neural-networks/neurons.py", "# mine\n")
    monkeypatch.chdir(small.root)
    new(["neurons"])
    assert not (small.root / "src/chainrule/neural_networks/neurons.py").exists()
    assert (small.root / "exercises/neural-networks/neurons.py").read_text() == "# mine\n"
    assert capsys.readouterr().out.count("left as it is") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("lengths", "math-foundations/lengths.md is written already"),
        ("lengthz", "no subject is called 'lengthz'; did you mean 'Lengths'"),
        ("xyzzy", "a new subject begins with its entry in course.toml"),
    ],
)
def test_another_subject_gets_one_line_and_no_file(small, monkeypatch, words, message):
    before = files(small)
    monkeypatch.chdir(small.root)
    with pytest.raises(UsageError) as refused:
        new([words])
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert files(small) == before
