"""Losses at their edges: gradients of targets, zeros and infinities, numbers of any size."""

import numpy as np
import pytest
import scipy.special
import torch
import torch.nn.functional as F

from chainrule.neural_networks.backpropagation import Tensor, gradcheck
from chainrule.training.loss_functions import (
    bce_with_logits,
    chunked_cross_entropy,
    cross_entropy,
    cross_entropy_composed,
    fit_temperature,
    focal,
    huber,
    info_nce,
    kl_div,
    log_softmax,
    mae,
    mse,
    quantile_loss,
    triplet,
)

N, C = 5, 7
INF = np.inf


def leaf(array, dtype=float):
    return Tensor(np.array(array, dtype), requires_grad=True)


# ---- targets ---------------------------------------------------------------------------------


def agree(ours, theirs, arrays, rng):
    mine = [Tensor(a, requires_grad=True) for a in arrays]
    other = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = ours(*mine), theirs(*other)
    np.testing.assert_allclose(y.data, z.detach(), rtol=1e-10)
    weights = rng.standard_normal(y.shape)
    y.backward(weights)
    z.backward(torch.tensor(weights))
    for a, b in zip(mine, other, strict=True):
        np.testing.assert_allclose(a.grad, b.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_targets_that_require_a_gradient_get_one(rng, reduction):
    x, t = rng.standard_normal((N, C)), rng.uniform(0.05, 0.95, (N, C))
    w = rng.uniform(0.5, 2.0, C)
    agree(lambda x, t: kl_div(x, t, reduction), lambda x, t: F.kl_div(x, t, reduction=reduction),
          [x, t], rng)  # fmt: skip
    agree(lambda x, t: kl_div(x, t, reduction, log_target=True),
          lambda x, t: F.kl_div(x, t, reduction=reduction, log_target=True), [x, x[::-1].copy()],
          rng)  # fmt: skip
    agree(lambda x, t: bce_with_logits(x, t, None, reduction),
          lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction=reduction), [x, t],
          rng)  # fmt: skip
    # PyTorch refuses to differentiate the weight
    assert gradcheck(
        lambda x, t, w: bce_with_logits(x, t, w, reduction), [leaf(x), leaf(t), leaf(w)]
    )
    for ours, theirs in ((mse, F.mse_loss), (mae, F.l1_loss), (huber, F.huber_loss)):
        agree(lambda x, t, f=ours: f(x, t, reduction=reduction),
              lambda x, t, f=theirs: f(x, t, reduction=reduction), [x, t], rng)  # fmt: skip


def test_symmetric_divergence_moves_both_sides(rng):
    a, b = leaf(rng.standard_normal((N, C))), leaf(rng.standard_normal((N, C)))

    def symmetric(a, b):
        p, q = log_softmax(a), log_softmax(b)
        return kl_div(p, q.exp(), "batchmean") + kl_div(q, p, "batchmean", log_target=True)

    assert gradcheck(symmetric, [a, b])
    symmetric(a, b).backward()
    assert np.abs(b.grad).max() > 1e-3


def test_labels_may_have_another_type(rng):
    x = leaf(rng.standard_normal(N), np.float32)
    for labels in (np.array([0, 1, 1, 0, 1]), np.array([True, False, True, True, False]),
                   np.array([0, 1, 1, 0, 1], np.uint8), rng.random(N)):  # fmt: skip
        assert bce_with_logits(x, labels).dtype == np.float32
    target = Tensor(rng.random(N), requires_grad=True)  # float64
    bce_with_logits(x, target).backward()
    assert (x.grad.dtype, target.grad.dtype) == (np.float32, np.float64)


def test_weights_that_have_no_gradient_are_refused(rng):
    logits, targets = leaf(rng.standard_normal((N, C))), rng.integers(0, C, N)
    with pytest.raises(ValueError, match=r"class weights has no gradient.*detach"):
        cross_entropy(logits, targets, weight=leaf(np.ones(C)))


# ---- zeros and infinities ----------------------------------------------------------------------


@pytest.mark.parametrize("log_target", [False, True])
def test_divergence_adds_nothing_where_the_target_is_0(log_target):
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.5, 0.25, 0.25])
    with np.errstate(divide="ignore"):
        log_p, log_q = np.log(p), np.log(q)
    target = log_p if log_target else p
    for other in (log_q, log_p):
        x, t = leaf([other]), leaf([target])
        loss = kl_div(x, t, "batchmean", log_target)
        expected = scipy.special.rel_entr(p, np.exp(other)).sum()
        np.testing.assert_allclose(loss.data, expected, atol=1e-15)
        loss.backward()
        np.testing.assert_allclose(x.grad, -p[None], atol=1e-15)
        assert np.isfinite(t.grad).all()
        assert t.grad[0, 2] == 0
    impossible = kl_div(leaf([[0.0, -INF]]), np.array([[0.5, 0.5]]), "batchmean")
    assert impossible.item() == INF


def test_divergence_of_distributions_that_underflow(rng):
    a, b = leaf([[0.0, 800.0, -900.0]]), leaf([[3.0, 0.0, -2000.0]])
    loss = kl_div(log_softmax(a), log_softmax(b).exp(), "batchmean")
    loss.backward()
    assert np.isfinite(a.grad).all()
    assert np.isfinite(b.grad).all()


def test_negative_probabilities_are_refused():
    with pytest.raises(ValueError, match=r"a target is a probability, got -0\.5"):
        kl_div(leaf([0.0, 0.0]), np.array([1.5, -0.5]))
    kl_div(leaf([0.0, 0.0]), np.array([-0.5, -1.5]), log_target=True)


def test_certain_answers_cost_nothing():
    x = leaf([INF, -INF, 1000.0, -1000.0])
    loss = bce_with_logits(x, np.array([1.0, 0.0, 1.0, 0.0]), reduction="none")
    assert loss.data.tolist() == [0, 0, 0, 0]
    loss.sum().backward()
    assert x.grad.tolist() == [0, 0, 0, 0]
    wrong = bce_with_logits(leaf([INF, -1000.0]), np.array([0.0, 1.0]), reduction="none")
    assert wrong.data.tolist() == [INF, 1000]


LOSSES = {
    "fused": lambda x, t, **o: cross_entropy(x, t, **o),
    "composed": lambda x, t, **o: cross_entropy_composed(x, t, **o),
    "chunked": lambda x, t, **o: chunked_cross_entropy(x, Tensor(np.eye(4)), t, 2, **o),
}


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_targets_count_for_nothing_whatever_their_logits(name, rng):
    """Class 0, which stands in for an ignored target, may be a masked one: 0 · ∞."""
    logits = rng.standard_normal((4, 4))
    logits[1, 0] = logits[3, 0] = -INF if name != "chunked" else -1e300
    targets = np.array([2, -100, 1, -100])
    x = leaf(logits)
    loss = LOSSES[name](x, targets)
    expected = F.cross_entropy(torch.tensor(logits), torch.tensor(targets))
    np.testing.assert_allclose(loss.data, expected)
    loss.backward()
    assert np.isfinite(x.grad).all()
    assert not x.grad[[1, 3]].any()


@pytest.mark.parametrize("junk", [np.nan, INF, -INF])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"z_loss": 0.1}])
def test_ignored_rows_may_hold_anything(junk, options, rng):
    logits, targets = rng.standard_normal((4, 4)), np.array([2, -100, 1, -100])
    clean = leaf(logits)
    expected = cross_entropy(clean, targets, **options)
    expected.backward()
    logits[[1, 3]] = junk
    x = leaf(logits)
    loss = cross_entropy(x, targets, **options)
    loss.backward()
    np.testing.assert_allclose(loss.data, expected.data)
    np.testing.assert_allclose(x.grad, clean.grad)


def test_impossible_classes_of_weight_0(rng):
    logits, targets = rng.standard_normal((4, 4)), np.array([2, 0, 1, 3])
    logits[:, 0] = -INF
    weight = np.array([0.0, 1.0, 2.0, 0.5])
    for smoothing in (0.0, 0.2):
        x = leaf(logits)
        loss = cross_entropy(x, targets, weight=weight, label_smoothing=smoothing)
        loss.backward()
        assert np.isfinite(loss.item())
        assert np.isfinite(x.grad).all()


def test_temperature_with_impossible_classes(rng):
    logits, targets = rng.standard_normal((60, 4)) * 3, rng.integers(0, 3, 60)
    expected = fit_temperature(logits[:, :3], targets)
    masked = np.concatenate([logits[:, :3], np.full((60, 1), -INF)], axis=1)
    assert fit_temperature(masked, targets) == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.uint64])
def test_targets_of_every_width(dtype, rng):
    logits, targets = rng.standard_normal((N, C)), rng.integers(0, C, N)
    expected = F.cross_entropy(torch.tensor(logits), torch.tensor(targets))
    given = targets.astype(dtype)
    np.testing.assert_allclose(cross_entropy(Tensor(logits), given).data, expected)
    np.testing.assert_allclose(cross_entropy_composed(Tensor(logits), given).data, expected)
    focal(leaf(logits), given).backward()


# ---- numbers of any size -----------------------------------------------------------------------


@pytest.mark.parametrize("error", [1e20, -1e25, INF, -INF])
def test_huber_is_linear_for_any_error(error):
    x = leaf([error], np.float32)
    loss = huber(x, np.zeros(1, np.float32), delta=2.0)
    loss.backward()
    assert loss.item() == (INF if np.isinf(error) else np.float32(2 * abs(error)))
    assert x.grad.tolist() == [2 * np.sign(error)]


@pytest.mark.parametrize("error", [1e-8, -1e-20, 0.3, 1.9999])
def test_huber_within_delta_pulls_by_the_error_itself(error):
    x = leaf([error], np.float32)
    huber(x, np.zeros(1, np.float32), delta=2.0).backward()
    assert x.grad.tolist() == x.data.tolist()


@pytest.mark.parametrize("size", [1e-25, 1e20, 1e30])
def test_cosines_do_not_depend_on_length(size, rng):
    a, b = rng.standard_normal((N, 3)), rng.standard_normal((N, 3))
    expected = info_nce(Tensor(a), Tensor(b)).item()
    x, y = leaf(a * size, np.float32), leaf(b / size, np.float32)
    loss = info_nce(x, y)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert np.isfinite(x.grad).all()
    assert np.isfinite(y.grad).all()


def test_distances_of_huge_and_equal_points(rng):
    a = rng.standard_normal((N, 3)).astype(np.float32) * np.float32(1e25)
    x = Tensor(a, requires_grad=True)
    loss = triplet(x, Tensor(a * 0), Tensor(-a), reduction="none")
    np.testing.assert_allclose(loss.data, 0)
    far = triplet(Tensor(a, requires_grad=True), Tensor(-a), Tensor(a * 0), reduction="none")
    np.testing.assert_allclose(far.data, np.linalg.norm(a.astype(float), axis=1), rtol=1e-5)
    same = leaf(np.ones((2, 3)))
    triplet(same, np.ones((2, 3)) * Tensor(np.float64(1.0)), Tensor(np.ones((2, 3))),
            eps=0.0).backward()  # fmt: skip
    assert np.isfinite(same.grad).all()


def test_sixteen_bits(rng):
    x = Tensor((rng.standard_normal((N, C)) * 30).astype(np.float16), requires_grad=True)
    targets = rng.integers(0, C, N)
    for loss in (cross_entropy(x, targets), bce_with_logits(x, np.ones((N, C))),
                 kl_div(log_softmax(x), np.full((N, C), 1 / C, np.float16), "sum")):  # fmt: skip
        assert loss.dtype == np.float16
        x.grad = None
        loss.backward()
        assert np.isfinite(x.grad).all()
    wide = cross_entropy(Tensor(x.data.astype(float)), targets)
    assert cross_entropy(x, targets).item() == pytest.approx(wide.item(), rel=1e-3)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_differences_beyond_sixteen_bits(reduction):
    """What is between two numbers of 16 bits may not fit in 16 bits, though the loss does."""
    a, b = np.array([-6e4, 3.0, 5.0], np.float16), np.array([5e4, 1.0, 5.0], np.float16)
    x, t = Tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)
    ours = huber(x, b, delta=0.01, reduction=reduction)
    theirs = F.huber_loss(t, torch.tensor(b), delta=0.01, reduction=reduction)
    assert ours.dtype == np.float16
    np.testing.assert_allclose(ours.data, theirs.detach(), rtol=2e-3)
    ours.sum().backward()
    theirs.sum().backward()
    np.testing.assert_allclose(x.grad, t.grad, rtol=2e-3)
    wide = [v.astype(np.float32) for v in (a, b)]
    for loss in (lambda p, t: mae(p, t), lambda p, t: quantile_loss(p, t, 0.1)):
        found = loss(Tensor(a), b)
        assert found.dtype == np.float16
        np.testing.assert_allclose(found.data, loss(Tensor(wide[0]), wide[1]).data, rtol=1e-3)


@pytest.mark.parametrize("weight", [None, 0.5, 1.0, 3.0])
def test_targets_of_certain_logits_have_pytorchs_gradient(weight):
    x = np.array([-INF, -200.0, -3.0, -1e-9, 0.0, 1e-9, 0.7, 200.0, INF])
    y, t = Tensor(np.full(9, 0.3), True), torch.full((9,), 0.3, dtype=float, requires_grad=True)
    w = None if weight is None else np.array([weight])
    with np.errstate(invalid="ignore"):
        bce_with_logits(Tensor(x), y, w, "sum").backward()
    if weight is None:  # with a weight PyTorch has no derivative by the target
        F.binary_cross_entropy_with_logits(torch.tensor(x), t, reduction="sum").backward()
        np.testing.assert_allclose(y.grad, t.grad)
    expected = (weight or 1.0) * np.logaddexp(0, -x) - np.logaddexp(0, x)
    np.testing.assert_allclose(y.grad, expected, atol=1e-15)
