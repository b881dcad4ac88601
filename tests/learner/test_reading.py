"""A learner's file and a solution as source: what is still a stub, what a solution needs."""

import ast
from pathlib import Path

import pytest

from chainrule.course.exercises import stubs
from chainrule.learner.reading import is_untouched, solution_of, survey

TESTS = Path(__file__).parents[1]
SAMPLE = TESTS / "common" / "sample_exercises.py"
FILES = sorted((TESTS.parent / "exercises").glob("*/*.py"))


@pytest.mark.parametrize(
    ("source", "untouched"),
    [
        ("def f(x):\n    ...", True),
        ('def f(x):\n    """Say."""', True),
        ("def f(x):\n    pass", True),
        ("def f(x):\n    raise NotImplementedError", True),
        ("def f(x):\n    return None", False),
        ("def f(x):\n    print(x)", False),
        ("class C:\n    def a(self): ...\n    def b(self): ...", True),
        ("class C:\n    def a(self): ...\n    def b(self): return 1", False),
    ],
)
def test_untouched(source, untouched):
    assert is_untouched(ast.parse(source).body[0]) is untouched


def test_every_stub_is_untouched_and_no_solution_is():
    source = SAMPLE.read_text()
    for entry in survey(SAMPLE):
        assert is_untouched(ast.parse(stubs.stub_of(entry.node, source)).body[0])
        assert not is_untouched(entry.node)


def test_a_solution_is_shown_with_its_private_helpers():
    source = SAMPLE.read_text()
    text = solution_of(ast.parse(source), source, "scaled_scores")
    assert "def _secret" in text
    assert "def scaled_scores" in text
    assert "@" not in text.splitlines()[0]
    assert "mistake" not in text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_solution_shows_an_adapter_whose_name_is_a_loop_s(path):
    source = path.read_text()
    tree = ast.parse(source)
    for entry in survey(path):
        assert "def _(" not in solution_of(tree, source, entry.name)
