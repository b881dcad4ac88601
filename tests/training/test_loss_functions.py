"""Losses against torch.nn.functional (values and gradients), gradient checks, scikit-learn."""

import inspect
from inspect import unwrap

import numpy as np
import pytest
import scipy.optimize
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chainrule.math_foundations.probability import softmax
from chainrule.neural_networks.backpropagation import Tensor, gradcheck, no_grad
from chainrule.training.loss_functions import (
    bce_with_logits,
    chunked_cross_entropy,
    clip_loss,
    cross_entropy,
    cross_entropy_composed,
    expected_calibration_error,
    fit_temperature,
    focal,
    huber,
    info_nce,
    kl_div,
    log_softmax,
    log_softmax_composed,
    mae,
    mse,
    perplexity,
    quantile_loss,
    triplet,
)

F = torch.nn.functional
REDUCTIONS = st.sampled_from(["mean", "sum", "none"])
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, max_side=5)


def leaf(array):
    return Tensor(np.array(array), requires_grad=True)


def agree(ours, theirs, arrays, seed=0, rtol=1e-9, atol=1e-11):
    """Values and gradients of two losses of the same arrays, for a random upstream gradient."""
    mine = [leaf(a) for a in arrays]
    peer = [torch.tensor(np.array(a), requires_grad=True) for a in arrays]
    y, expected = ours(*mine), theirs(*peer)
    assert y.dtype == arrays[0].dtype
    assert y.shape == tuple(expected.shape)
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=rtol, atol=atol)
    upstream = np.random.default_rng(seed).normal(size=y.shape).astype(y.dtype)
    y.backward(upstream)
    expected.backward(torch.tensor(upstream))
    for a, b in zip(mine, peer, strict=True):
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=rtol, atol=atol)


@settings(max_examples=40)
@given(SHAPES, REDUCTIONS, st.integers(0, 2**20))
def test_regression_losses_equal_torch(shape, reduction, seed):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=shape) * 2, rng.normal(size=shape)]
    for ours, theirs in (
        (mse, F.mse_loss),
        (mae, F.l1_loss),
        (
            lambda p, t, **r: huber(p, t, 0.7, **r),
            lambda p, t, **r: F.huber_loss(p, t, delta=0.7, **r),
        ),
    ):
        agree(
            lambda p, t, f=ours: f(p, t, reduction=reduction),
            lambda p, t, f=theirs: f(p, t, reduction=reduction),
            arrays,
            seed,
        )


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
def test_quantile_loss_is_smallest_at_the_quantile(rng, q):
    data = rng.exponential(size=501)
    candidates = np.linspace(0, 5, 1001)
    losses = [quantile_loss(Tensor(np.full(501, c)), data, q).item() for c in candidates]
    best = candidates[np.argmin(losses)]
    assert best == pytest.approx(np.quantile(data, q), abs=0.01)
    expected = sklearn.metrics.mean_pinball_loss(data, np.full(501, 1.0), alpha=q)
    assert quantile_loss(Tensor(np.full(501, 1.0)), data, q).item() == pytest.approx(expected)


def test_minimizers_of_squared_and_absolute_error(rng):
    data = rng.exponential(size=101)
    for loss, best in ((mse, data.mean()), (mae, np.median(data))):
        found = scipy.optimize.minimize_scalar(
            lambda c, f=loss: f(Tensor(np.full(101, c)), data).item(),
            bounds=(0, 5),
            method="bounded",
        ).x
        assert found == pytest.approx(best, abs=1e-4)


@st.composite
def classifications(draw):
    batch = tuple(draw(st.lists(st.integers(1, 4), max_size=2)))
    classes = draw(st.integers(1, 6))
    seed = draw(st.integers(0, 2**20))
    rng = np.random.default_rng(seed)
    scale = draw(st.sampled_from([1.0, 10.0, 1000.0]))
    logits = rng.normal(size=(*batch, classes)) * scale
    if draw(st.booleans()):
        logits = np.clip(np.round(logits / scale) * 1000, -1000, 1000)
    targets = rng.integers(0, classes, size=batch)
    ignored = rng.random(batch) < draw(st.sampled_from([0.0, 0.4]))
    if batch and not np.all(ignored):
        targets = np.where(ignored, -100, targets)
    weight = rng.uniform(0.1, 2, size=classes) if draw(st.booleans()) else None
    smoothing = draw(st.sampled_from([0.0, 0.1, 0.5]))
    return logits, np.asarray(targets), weight, smoothing, draw(REDUCTIONS), seed


def torch_cross_entropy(x, targets, weight, smoothing, reduction, ignore_index=-100):
    flat = F.cross_entropy(
        x.reshape(-1, x.shape[-1]),
        torch.tensor(targets.reshape(-1)),
        None if weight is None else torch.tensor(weight, dtype=x.dtype),
        ignore_index=ignore_index,
        label_smoothing=smoothing,
        reduction=reduction,
    )
    return flat.reshape(targets.shape) if reduction == "none" else flat


@settings(max_examples=120)
@given(classifications())
def test_cross_entropy_equals_torch(case):
    logits, targets, weight, smoothing, reduction, seed = case
    for function in (cross_entropy, cross_entropy_composed):
        agree(
            lambda x, f=function: f(
                x, targets, label_smoothing=smoothing, weight=weight, reduction=reduction
            ),
            lambda x: torch_cross_entropy(x, targets, weight, smoothing, reduction),
            [logits],
            seed,
            rtol=1e-8,
            atol=1e-10,
        )


@settings(max_examples=40)
@given(classifications(), st.sampled_from([0.0, 1e-4, 0.3]))
def test_z_loss_equals_torch(case, z):
    logits, targets, weight, smoothing, reduction, seed = case
    share = np.where(targets == -100, 0, 1.0 if weight is None else weight[np.maximum(targets, 0)])

    def theirs(x):
        each = torch_cross_entropy(x, targets, weight, smoothing, "none")
        each = each + z * torch.tensor(share) * torch.logsumexp(x, -1) ** 2
        if reduction == "mean":
            return each.sum() / share.sum()
        return each.sum() if reduction == "sum" else each

    for function in (cross_entropy, cross_entropy_composed):
        agree(
            lambda x, f=function: f(
                x, targets, z_loss=z, label_smoothing=smoothing, weight=weight, reduction=reduction
            ),
            theirs,
            [logits],
            seed,
            rtol=1e-7,
            atol=1e-9,
        )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_gradient_equals_differences(rng, reduction):
    targets = np.array([[1, 4, -1], [0, 0, 2]])
    weight = rng.uniform(0.5, 2, size=5)

    def loss(x):
        return cross_entropy(x, targets, -1, 0.2, weight, 0.1, reduction)

    assert gradcheck(loss, [leaf(rng.normal(size=(2, 3, 5)))])


def test_cross_entropy_in_single_precision(rng):
    logits = (rng.normal(size=(7, 11)) * 5).astype(np.float32)
    targets = rng.integers(0, 11, size=7)
    agree(
        lambda x: cross_entropy(x, targets, label_smoothing=0.1, weight=np.arange(1.0, 12.0)),
        lambda x: torch_cross_entropy(x, targets, np.arange(1.0, 12.0), 0.1, "mean"),
        [logits],
        rtol=1e-4,
        atol=1e-6,
    )


def test_cross_entropy_stays_finite_at_a_thousand():
    x = leaf(np.array([[1000.0, -1000.0, 0.0], [-1000.0, 1000.0, 1000.0]]))
    loss = cross_entropy(x, np.array([1, 2]), reduction="none")
    np.testing.assert_allclose(loss.data, [2000, np.log(2)])
    loss.sum().backward()
    np.testing.assert_allclose(x.grad, [[1, -1, 0], [0, 0.5, -0.5]], atol=1e-12)


def test_impossible_classes_get_no_gradient():
    x = leaf(np.array([[-np.inf, 0.0, 1.0]]))
    cross_entropy(x, np.array([1])).backward()
    np.testing.assert_allclose(x.grad[0], softmax(np.array([-np.inf, 0, 1])) - [0, 1, 0])


def test_gradient_is_softmax_minus_one_hot(rng):
    x = leaf(rng.normal(size=(5, 7)))
    targets = rng.integers(0, 7, size=5)
    cross_entropy(x, targets, reduction="sum").backward()
    np.testing.assert_allclose(x.grad, softmax(x.data) - np.eye(7)[targets], rtol=1e-10)


def test_cross_entropy_equals_scikit_learn(rng):
    logits, targets = rng.normal(size=(31, 5)), rng.integers(0, 5, size=31)
    expected = sklearn.metrics.log_loss(targets, softmax(logits), labels=range(5))
    assert cross_entropy(Tensor(logits), targets).item() == pytest.approx(expected, rel=1e-10)


def test_mean_is_over_tokens_not_over_batches():
    logits = Tensor(np.zeros((2, 3, 4)))
    logits.data[0] = 5.0 * np.eye(4)[1]
    targets = np.array([[1, 1, 1], [0, -100, -100]])
    losses = cross_entropy(logits, targets, reduction="none").data
    assert cross_entropy(logits, targets).item() == pytest.approx(losses.sum() / 4)


def test_backward_twice_through_a_kept_graph(rng):
    x = leaf(rng.normal(size=(5, 7)))
    loss = cross_entropy(x, np.arange(5), label_smoothing=0.1)
    loss.backward(retain_graph=True)
    once = x.grad.copy()
    loss.backward()
    np.testing.assert_allclose(x.grad, 2 * once)


@settings(max_examples=40)
@given(
    hnp.arrays(
        float,
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=5),
        elements=st.floats(-1000, 1000),
    ),
    st.data(),
)
def test_log_softmax_equals_torch(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    agree(lambda t: log_softmax(t, axis=axis), lambda t: F.log_softmax(t, axis), [x], atol=1e-10)
    agree(log_softmax_composed, lambda t: F.log_softmax(t, -1), [x], atol=1e-10)
    np.testing.assert_allclose(
        np.exp(log_softmax(Tensor(x), axis=axis).data), softmax(x, axis), rtol=1e-9, atol=1e-300
    )


@settings(max_examples=40)
@given(
    hnp.arrays(
        float, SHAPES, elements=st.one_of(st.floats(-8, 8), st.sampled_from([-1000, 1000.0]))
    ),
    REDUCTIONS,
    st.booleans(),
    st.integers(0, 2**20),
)
def test_binary_cross_entropy_equals_torch(logits, reduction, weighted, seed):
    rng = np.random.default_rng(seed)
    target = rng.choice([0.0, 1.0, 0.3], size=logits.shape)
    weight = rng.uniform(0.2, 3, size=logits.shape[-1:]) if weighted else None
    agree(
        lambda x: bce_with_logits(x, target, weight, reduction),
        lambda x: F.binary_cross_entropy_with_logits(
            x,
            torch.tensor(target),
            pos_weight=None if weight is None else torch.tensor(weight),
            reduction=reduction,
        ),
        [logits],
        seed,
    )


@settings(max_examples=40)
@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from(["mean", "sum", "none", "batchmean"]),
    st.booleans(),
    st.integers(0, 2**20),
)
@pytest.mark.filterwarnings("ignore:reduction. 'mean'")
def test_kl_div_equals_torch(n, classes, reduction, log_target, seed):
    rng = np.random.default_rng(seed)
    target = rng.dirichlet(np.ones(classes), size=n)
    if log_target:
        target = np.log(target)
    elif classes > 1:
        target[0, 0] = 0.0
    agree(
        lambda x: kl_div(x, target, reduction, log_target),
        lambda x: F.kl_div(x, torch.tensor(target), reduction=reduction, log_target=log_target),
        [np.log(rng.dirichlet(np.ones(classes), size=n))],
        seed,
    )


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 0.5])
def test_focal_equals_its_formula_in_torch(rng, gamma):
    targets = rng.integers(0, 5, size=(3, 2))

    def theirs(x):
        log_p = F.log_softmax(x, -1).gather(-1, torch.tensor(targets)[..., None])[..., 0]
        return (-((1 - log_p.exp()) ** gamma) * log_p).mean()

    agree(lambda x: focal(x, targets, gamma), theirs, [rng.normal(size=(3, 2, 5)) * 3])


def test_focal_is_finite_when_certain():
    x = leaf(np.array([[1000.0, 0.0]]))
    loss = focal(x, np.array([0]), gamma=0.5)
    loss.backward()
    assert loss.item() == 0
    assert np.all(np.isfinite(x.grad))


@pytest.mark.parametrize("chunk", [1, 3, 7, 50])
def test_chunked_cross_entropy_equals_the_full_one(rng, chunk):
    targets = np.where(rng.random(17) < 0.3, -100, rng.integers(0, 11, size=17))
    arrays = [rng.normal(size=(17, 5)), rng.normal(size=(11, 5))]
    agree(
        lambda h, W: chunked_cross_entropy(h, W, targets, chunk),
        lambda h, W: F.cross_entropy(h @ W.T, torch.tensor(targets)),
        arrays,
    )
    h, W = (leaf(a) for a in arrays)
    assert gradcheck(lambda h, W: chunked_cross_entropy(h, W, targets, chunk), [h, W])
    with no_grad():
        expected = cross_entropy(Tensor(arrays[0] @ arrays[1].T), targets).item()
        assert chunked_cross_entropy(h, W, targets, chunk).item() == pytest.approx(expected)


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(2, 5), REDUCTIONS, st.integers(0, 2**20))
def test_triplet_equals_torch(n, d, reduction, seed):
    rng = np.random.default_rng(seed)
    agree(
        lambda a, p, q: triplet(a, p, q, margin=0.7, reduction=reduction),
        lambda a, p, q: F.triplet_margin_loss(a, p, q, margin=0.7, reduction=reduction),
        [rng.normal(size=(n, d)) for _ in range(3)],
        seed,
    )


def test_contrastive_losses_equal_torch(rng):
    arrays = [rng.normal(size=(7, 5)), rng.normal(size=(7, 5))]

    def logits(a, b):
        return F.normalize(a) @ F.normalize(b).T / 0.3

    each = torch.arange(7)
    agree(
        lambda a, b: info_nce(a, b, 0.3), lambda a, b: F.cross_entropy(logits(a, b), each), arrays
    )
    agree(
        lambda a, b: clip_loss(a, b, 0.3),
        lambda a, b: (
            (F.cross_entropy(logits(a, b), each) + F.cross_entropy(logits(a, b).T, each)) / 2
        ),
        arrays,
    )
    assert gradcheck(lambda a, b: clip_loss(a, b, 0.3), [leaf(a) for a in arrays])


def test_info_nce_at_chance_is_log_n():
    same = Tensor(np.ones((11, 5)))
    assert info_nce(same, same).item() == pytest.approx(np.log(11), rel=1e-12)


def test_perplexity_of_halves_quarters_eighths():
    probabilities = np.array([1 / 2, 1 / 4, 1 / 8])
    logits = np.log(np.stack([probabilities, 1 - probabilities], axis=1))
    losses = cross_entropy(Tensor(logits), np.zeros(3, dtype=int), reduction="none")
    assert perplexity(losses.data) == pytest.approx(4, rel=1e-12)
    uniform = cross_entropy(Tensor(np.zeros((2, 50257))), np.array([3, 7])).item()
    assert uniform == pytest.approx(10.82, abs=0.005)


def test_expected_calibration_error_by_hand():
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.35, 0.65]])
    targets = np.array([0, 1, 0, 1])
    # Bin (0.8, 1]: confidence 0.9, accuracy ½. Bin (0.6, 0.8]: 0.65, 1. Bin (0.4, 0.6]: 0.6, 0.
    expected = (2 * 0.4 + 0.35 + 0.6) / 4
    assert expected_calibration_error(probs, targets, bins=5) == pytest.approx(expected)
    assert expected_calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0


def test_temperature_scaling_calibrates_without_changing_accuracy(rng):
    honest = rng.normal(size=(4000, 5)) * 1.5
    targets = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
    logits = 3.0 * honest
    T = fit_temperature(logits, targets)
    assert abs(T - 3) < 0.15
    best = scipy.optimize.minimize_scalar(
        lambda t: cross_entropy(Tensor(logits / t), targets).item(),
        bounds=(0.1, 10),
        method="bounded",
    )
    assert abs(T - best.x) < 1e-3
    before = expected_calibration_error(softmax(logits), targets)
    after = expected_calibration_error(softmax(logits / T), targets)
    assert after < 0.3 * before
    assert np.array_equal(logits.argmax(axis=1), (logits / T).argmax(axis=1))


def test_bad_arguments_are_named():
    x, targets = Tensor(np.zeros((2, 3))), np.array([0, 1])
    with pytest.raises(ValueError, match=r"prediction has shape \(2, 3\), target \(2,\)"):
        mse(x, targets)
    with pytest.raises(ValueError, match="mean, sum, none; got 'avg'"):
        cross_entropy(x, targets, reduction="avg")
    with pytest.raises(ValueError, match=r"0\.\.2 or -100 \(ignored\), got 0\.\.3"):
        cross_entropy(x, np.array([0, 3]))
    with pytest.raises(ValueError, match="last axis"):
        unwrap(cross_entropy_composed)(Tensor(np.zeros((2, 3, 4))), np.zeros((2, 4), dtype=int))
    with pytest.raises(ValueError, match="no target counts"):
        cross_entropy(x, np.array([-100, -100]))
    with pytest.raises(ValueError, match="3 class weights"):
        unwrap(cross_entropy)(x, targets, weight=np.ones(2))
    with pytest.raises(ValueError, match="chunk"):
        chunked_cross_entropy(x, Tensor(np.zeros((5, 3))), targets, chunk=0)
    with pytest.raises(ValueError, match="delta"):
        huber(x, x, delta=0.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile_loss(x, x, 1.0)
    with pytest.raises(ValueError, match="tau must be positive"):
        info_nce(x, x, tau=0.0)
    with pytest.raises(ValueError, match="row of zeros"):
        clip_loss(x, x)
    with pytest.raises(ValueError, match="as many rows"):
        unwrap(info_nce)(x, Tensor(np.zeros((3, 3))))


def test_what_the_page_says_of_first_losses(rng):
    """Gaussian logits of a small variance cost log V and half the variance."""
    vectors = rng.normal(size=(50, 768))
    vectors *= 768**0.5 / np.linalg.norm(
        vectors, axis=1, keepdims=True
    )  # as layer norm leaves them
    table = 0.02 * rng.normal(size=(7001, 768))
    logits = vectors @ table.T
    first = cross_entropy(Tensor(logits), rng.integers(0, 7001, size=50)).item()
    assert logits.var() == pytest.approx(0.307, abs=0.005)
    assert first == pytest.approx(np.log(7001) + 0.307 / 2, abs=0.25)
    assert F.cross_entropy.__defaults__[2] == -100  # ignore_index


def test_pieces_divided_by_their_own_tokens_are_another_loss():
    pieces = [np.array([1.0, 1.0, 1.0]), np.array([5.0])]
    assert np.mean([piece.mean() for piece in pieces]) == 3
    assert np.concatenate(pieces).mean() == 2


def test_the_sigmoid_of_every_pair_is_the_published_loss(rng):
    """SigLIP: minus the sum of log σ(±logit) over all pairs, divided by the number of rows."""
    logits = rng.normal(size=(7, 7)) * 3
    ours = 7 * bce_with_logits(Tensor(logits), np.eye(7)).item()
    signs = torch.tensor(2 * np.eye(7) - 1)
    theirs = -F.logsigmoid(signs * torch.tensor(logits)).sum() / 7
    assert ours == pytest.approx(theirs.item(), rel=1e-12)


def test_what_the_page_says_of_pytorch_s_losses_of_errors(rng):
    x, y = torch.tensor(rng.normal(size=(7, 1)) * 3), torch.tensor(rng.normal(size=(7, 1)))
    for name in ("mse_loss", "l1_loss", "huber_loss"):
        each = getattr(F, name)(x, y, reduction="none")
        assert getattr(F, name)(x, y) == each.mean()
    assert F.huber_loss(x, y) == F.huber_loss(x, y, delta=1.0)
    assert F.huber_loss(x, y) != F.huber_loss(x, y, delta=1.3)
    smooth = F.smooth_l1_loss(x, y, beta=1.3)
    assert smooth.item() == pytest.approx(F.huber_loss(x, y, delta=1.3).item() / 1.3, rel=1e-12)
    with pytest.warns(UserWarning, match="different to the input size"):
        assert F.mse_loss(x, y[:, 0], reduction="none").shape == (7, 7)
    with pytest.raises(ValueError, match="prediction has shape"):
        unwrap(mse)(Tensor(x.numpy()), y[:, 0].numpy())
    assert not [name for name in dir(F) if "quantile" in name or "pinball" in name]


def test_what_the_page_says_of_pytorch_s_cross_entropy(rng):
    default = inspect.signature(F.cross_entropy).parameters
    assert {name: default[name].default for name in ("weight", "ignore_index", "reduction")} == {
        "weight": None,
        "ignore_index": -100,
        "reduction": "mean",
    }
    assert default["label_smoothing"].default == 0.0
    logits, y = rng.normal(size=(2, 5, 3)), rng.integers(0, 5, size=(2, 3))
    y[0, 1] = -100
    ours = cross_entropy(Tensor(logits.swapaxes(1, 2)), y).item()  # classes last here
    theirs = F.cross_entropy(torch.tensor(logits), torch.tensor(y)).item()  # on axis 1 there
    assert ours == pytest.approx(theirs, rel=1e-12)
    weight = torch.tensor(rng.uniform(0.5, 2, size=5))
    rows, labels = torch.tensor(rng.normal(size=(3, 5))), torch.tensor([1, -100, 4])
    each = F.cross_entropy(rows, labels, weight=weight, reduction="none")
    mean = F.cross_entropy(rows, labels, weight=weight)
    assert mean.item() == pytest.approx((each.sum() / (weight[1] + weight[4])).item(), rel=1e-12)
    nothing = torch.full((3,), -100)
    assert torch.isnan(F.cross_entropy(rows, nothing))
    with pytest.raises(ValueError, match="no target counts"):
        cross_entropy(Tensor(rows.numpy()), nothing.numpy())
    p = torch.softmax(torch.tensor(rng.normal(size=(3, 5))), -1)
    wanted = -(p * torch.log_softmax(rows, -1)).sum(-1).mean()
    assert F.cross_entropy(rows, p).item() == pytest.approx(wanted.item(), rel=1e-12)
    assert "pos_weight" in inspect.signature(F.binary_cross_entropy_with_logits).parameters
