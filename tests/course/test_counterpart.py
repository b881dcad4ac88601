"""A learner's function and the package's: held equal by the audit, and one in the other's place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chainrule.course.exercises import load
from chainrule.course.exercises.counterpart import resolve
from chainrule.course.exercises.proving import prove
from chainrule.neural_networks import regularization
from chainrule.neural_networks.backpropagation import Tensor
from chainrule.trainer.places import replaced
from chainrule.training import optimizers
from chainrule.transformers.gpt import GPT, gpt_config

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


def step():
    """One training step of a small GPT; the loss and the parameters after it."""
    rng = np.random.default_rng(0)
    model = GPT(gpt_config(vocab_size=11, context=7, layers=2, heads=2, width=8, dropout=0.5), rng)
    optimizer = optimizers.AdamW(model.parameters(), lr=optimizers.warmup_cosine(3, 0.1, 2, 9))
    ids = rng.integers(0, 11, size=(3, 8))
    loss = model.loss(ids[:, :-1], ids[:, 1:])
    loss.backward()
    optimizers.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
    return float(loss.data), [p.data.copy() for p in model.parameters()]


SERVING = (
    *("layer_norm_backward", "stable_cross_entropy", "cosine_schedule", "clip_together"),
    "inverted_dropout",
)


@pytest.mark.parametrize("name", SERVING)
def test_a_learners_function_runs_the_training_step_forward_and_backward(name):
    item = next(item for path in FILES for item in load(path) if item.name == name)
    calls = []

    def mine(*args, **kwargs):
        calls.append(name)
        return item.solution(*args, **kwargs)

    def broken(*args, **kwargs):
        calls.append("broken")
        raise ZeroDivisionError

    loss, parameters = step()
    with replaced(item, mine):
        by_mine = step()
    assert calls
    np.testing.assert_allclose(by_mine[0], loss, rtol=1e-5)
    for got, want in zip(by_mine[1], parameters, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-5)
    with replaced(item, broken), pytest.raises(ZeroDivisionError):
        step()
    assert step()[0] == loss


def test_a_learners_product_takes_its_place_behind_the_operator():
    item = next(i for path in FILES for i in load(path) if i.name == "stacked_matmul")
    rng = np.random.default_rng(0)
    arrays, calls = [rng.normal(size=shape) for shape in ((2, 3, 5), (5, 7), (7,))], []

    def gradients():
        a, b, c = leaves = [Tensor(x, requires_grad=True) for x in arrays]
        ((a @ b).tanh() @ c).sum().backward()
        return [leaf.grad for leaf in leaves]

    def mine(a, b):
        calls.append((a.shape, b.shape))
        return item.solution(a, b)

    expected = gradients()
    with replaced(item, mine):
        received = gradients()
    assert calls == [((2, 3, 5), (5, 7)), ((2, 3, 7), (7,))]
    for got, want in zip(received, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_a_wrong_gradient_changes_the_parameters_and_not_the_loss():
    item = next(i for path in FILES for i in load(path) if i.name == "layer_norm_backward")
    loss, parameters = step()
    with replaced(item, lambda *a: [2 * part for part in item.solution(*a)]):
        wrong_loss, wrong = step()
    assert wrong_loss == pytest.approx(loss, rel=1e-5)
    assert max(np.abs(a - b).max() for a, b in zip(wrong, parameters, strict=True)) > 1e-4


def test_it_is_replaced_wherever_it_was_imported_and_put_back():
    item = next(i for path in FILES for i in load(path) if i.name == "cosine_schedule")
    from chainrule.trainer import loop

    before = loop.warmup_cosine
    with replaced(item, item.solution):
        assert loop.warmup_cosine is optimizers.warmup_cosine is not before
    assert loop.warmup_cosine is optimizers.warmup_cosine is before


def test_what_has_no_place_in_the_package_is_refused():
    items = {item.name: item for path in FILES for item in load(path)}
    for name in ("projection", "adam_path"):
        with pytest.raises(LookupError, match=name), replaced(items[name], None):
            pass
