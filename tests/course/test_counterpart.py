"""A solution and the package's function: held equal by the audit."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainrule.course.exercises import load
from chainrule.course.exercises.counterpart import resolve
from chainrule.course.exercises.proving import prove
from chainrule.neural_networks import regularization

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "exercises").glob("*/*.py"))
HEAD = """
import numpy as np
from chainrule.course.exercises import exercise, expect_close
"""
SCORES = '''
@exercise("Softmax", difficulty=1, minutes=5, section="s",
          counterpart="chainrule.transformers.attention.retrieval:_softmax")
def softmax(scores, allowed=None):
    """Return p and its vjp."""
    masked = scores if allowed is None else np.where(allowed, scores, -np.inf)
    p = np.exp(masked - masked.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    return p, lambda g: (p * (g - (g * p).sum(axis=-1, keepdims=True)), None)

@softmax.check
def random(answer, rng):
    scores, g = rng.normal(size=(2, 3, 5))
    p, vjp = answer(scores, allowed=scores > -1)
    expect_close(p.sum(axis=-1), np.ones(3))
    vjp(g)
'''
TURNED = '''
@exercise("Rank", difficulty=1, minutes=5, section="s",
          counterpart="chainrule.math_foundations.linear_algebra:low_rank")
def nearest(k, A):
    """Return the nearest matrix."""
    U, S, Vt = np.linalg.svd(A, full_matrices=False)
    return (U[:, :k] * S[:k]) @ Vt[:k]

@nearest.check
def random(answer, rng):
    A = rng.normal(size=(5, 3))
    expect_close(answer(3, A), A)
    answer(2, A)

@nearest.by_package
def _(package, k, A):
    return package(A, k)

@nearest.in_package
def _(mine, A, k):
    return mine(k, A)
'''


def problems(tmp_path, text):
    path = tmp_path / "file.py"
    path.write_text(HEAD + text)
    return [message for _, message in prove(path)]


@pytest.mark.parametrize("text", [SCORES, TURNED])
def test_a_solution_that_agrees_is_proved(tmp_path, text):
    assert problems(tmp_path, text) == []


@pytest.mark.parametrize(
    ("text", "old", "new", "message"),
    [
        (SCORES, "p * (g - ", "p * (g + ", "_softmax answers the check 'random' differently"),
        (SCORES, "_softmax", "_hardmax", "has no attribute '_hardmax'"),
        (SCORES, "chainrule.transformers", "chainrule.formers", "No module named"),
        (TURNED, "answer(2, A)", "answer(-1, A)", "low_rank answers the check"),
        (TURNED, "package(A, k)", "package(A, k - 1)", "low_rank answers the check 'random'"),
        (TURNED, "mine(k, A)", "mine(k, A + 1)", "its solution behind in_package answers"),
    ],
)
def test_what_disagrees_with_the_package_is_found(tmp_path, text, old, new, message):
    assert old in text
    found = problems(tmp_path, text.replace(old, new))
    assert any(message in problem for problem in found), found


def test_every_counterpart_exists_and_every_primitive_keeps_its_function():
    for item in (item for path in FILES for item in load(path)):
        if item.counterpart:
            package = getattr(*resolve(item.counterpart))
            assert callable(getattr(package, "on_arrays", package)), item.name
    assert regularization._layer_norm.on_arrays.__name__ == "_layer_norm"
