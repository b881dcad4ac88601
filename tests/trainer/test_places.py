"""A learner's function in the place of the package's: the training step runs with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chainrule.course.exercises import load
from chainrule.neural_networks.backpropagation import Tensor
from chainrule.trainer.places import replaced
from chainrule.training import optimizers
from chainrule.transformers.gpt import GPT, gpt_config

FILES = sorted((Path(__file__).parents[2] / "exercises").glob("*/*.py"))


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
