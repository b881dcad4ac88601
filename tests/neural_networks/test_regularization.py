"""Normalizers against PyTorch and gradient checks; penalties against scikit-learn."""

import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Lasso, Ridge

from chainrule.neural_networks.backpropagation import Linear, Parameter, Tensor, gradcheck
from chainrule.neural_networks.regularization import (
    EMA,
    BatchNorm1d,
    Dropout,
    EarlyStopping,
    LayerNorm,
    RMSNorm,
    batch_norm,
    batch_norm_composed,
    bias_variance,
    dropout,
    fold_batchnorm,
    l1_penalty,
    l2_penalty,
    layer_norm,
    layer_norm_composed,
    mixup,
    rms_norm,
    rms_norm_composed,
    soft_threshold,
)


def compare(ours, theirs, arrays, rng, rtol=1e-10, atol=1e-10):
    """Values and gradients of two functions of the same arrays, for a random upstream gradient."""
    mine = [None if a is None else Tensor(a.copy(), requires_grad=True) for a in arrays]
    peer = [None if a is None else torch.tensor(a, requires_grad=True) for a in arrays]
    y, expected = ours(*mine), theirs(*peer)
    assert y.dtype == arrays[0].dtype
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=rtol, atol=atol)
    upstream = np.asarray(rng.normal(size=y.shape), dtype=y.dtype)
    y.backward(upstream)
    expected.backward(torch.tensor(upstream))
    for a, b in zip(mine, peer, strict=True):
        if a is not None:
            np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=rtol, atol=atol)


def leaf(array):
    return Tensor(array, requires_grad=True)


@st.composite
def normalization_cases(draw):
    leading = draw(st.lists(st.integers(1, 5), max_size=2))
    last = draw(st.lists(st.integers(1, 7), min_size=1, max_size=2))
    seed = draw(st.integers(0, 2**20))
    return (*leading, *last), tuple(last), draw(st.booleans()), draw(st.booleans()), seed


@settings(max_examples=60)
@given(normalization_cases())
def test_layer_norm_equals_torch(case):
    shape, sizes, has_weight, has_bias, seed = case
    rng = np.random.default_rng(seed)
    arrays = [
        rng.normal(size=shape) * 3 + 5,
        rng.normal(size=sizes) if has_weight else None,
        rng.normal(size=sizes) if has_bias else None,
    ]
    for function in (layer_norm, layer_norm_composed):
        compare(
            lambda x, w, b, f=function: f(x, sizes, w, b, 1e-3),
            lambda x, w, b: torch.nn.functional.layer_norm(x, sizes, w, b, 1e-3),
            arrays,
            np.random.default_rng(seed),
            rtol=1e-8,
        )


@settings(max_examples=60)
@given(normalization_cases(), st.sampled_from([None, 1e-6, 0.1]))
def test_rms_norm_equals_torch(case, eps):
    shape, sizes, has_weight, _, seed = case
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=shape) * 3 + 1, rng.normal(size=sizes) if has_weight else None]
    for function in (rms_norm, rms_norm_composed):
        compare(
            lambda x, w, f=function: f(x, sizes, w, eps),
            lambda x, w: torch.nn.functional.rms_norm(x, sizes, w, eps),
            arrays,
            np.random.default_rng(seed),
            rtol=1e-7,
            atol=1e-8,
        )


@settings(max_examples=40)
@given(
    st.integers(2, 5),
    st.integers(1, 5),
    st.sampled_from([(), (3,), (1,)]),
    st.booleans(),
    st.integers(0, 2**20),
)
def test_batch_norm_equals_torch(n, c, rest, affine, seed):
    rng = np.random.default_rng(seed)
    arrays = [
        rng.normal(size=(n, c, *rest)) * 2 - 3,
        rng.normal(size=c) if affine else None,
        rng.normal(size=c) if affine else None,
    ]
    for function in (batch_norm, batch_norm_composed):
        compare(
            lambda x, w, b, f=function: f(x, w, b, 1e-3),
            lambda x, w, b: torch.nn.functional.batch_norm(
                x, None, None, w, b, training=True, eps=1e-3
            ),
            arrays,
            np.random.default_rng(seed),
            rtol=1e-7,
        )


@pytest.mark.parametrize(
    ("function", "sizes"),
    [
        (lambda x, w, b: layer_norm(x, 7, w, b), (7,)),
        (lambda x, w, b: layer_norm(x, (3, 7), w, b), (3, 7)),
        (lambda x, w, b: rms_norm(x, 7, w) + b, (7,)),
        (lambda x, w, b: batch_norm(x, w, b), (3,)),
    ],
)
def test_gradients_of_the_fused_norms(rng, function, sizes):
    inputs = [leaf(rng.normal(size=s)) for s in ((2, 3, 7), sizes, sizes)]
    assert gradcheck(function, inputs)


@pytest.mark.parametrize(
    ("fused", "composed"),
    [(layer_norm, layer_norm_composed), (rms_norm, rms_norm_composed)],
)
def test_both_rungs_agree_in_single_precision(rng, fused, composed):
    results = []
    for function in (fused, composed):
        x = leaf(np.random.default_rng(1).normal(size=(5, 11, 64)).astype(np.float32))
        w = leaf(np.random.default_rng(2).normal(size=64).astype(np.float32))
        y = function(x, 64, w)
        y.backward(np.random.default_rng(3).normal(size=y.shape).astype(np.float32))
        results.append((y.data, x.grad, w.grad))
    for a, b in zip(*results, strict=True):
        assert a.dtype == b.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_upstream_gradient_and_saved_values_survive_two_backward_passes(rng):
    x, w, b = leaf(rng.normal(size=(5, 7))), leaf(rng.normal(size=7)), leaf(rng.normal(size=7))
    y = layer_norm(x, 7, w, b)
    upstream = rng.normal(size=(5, 7))
    before = upstream.copy()
    y.backward(upstream, retain_graph=True)
    first = [t.grad.copy() for t in (x, w, b)]
    y.backward(upstream)
    assert np.array_equal(upstream, before)
    for t, once in zip((x, w, b), first, strict=True):
        np.testing.assert_allclose(t.grad, 2 * once, rtol=1e-12)


def test_frozen_weight_still_passes_the_gradient(rng):
    data, upstream = rng.normal(size=(5, 7)), rng.normal(size=(5, 7))
    x, again = leaf(data), leaf(data)
    layer_norm(x, 7, Tensor(np.full(7, 2.0)), None).backward(upstream)
    layer_norm(again, 7, leaf(np.full(7, 2.0)), None).backward(upstream)
    np.testing.assert_array_equal(x.grad, again.grad)


def test_norms_of_one_two_three():
    x = Tensor(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(np.round(layer_norm(x, 3).data, 3), [-1.225, 0, 1.225])
    np.testing.assert_array_equal(np.round(rms_norm(x, 3).data, 3), [0.463, 0.926, 1.389])


def test_modules_have_torch_names_and_defaults(rng):
    x = rng.normal(size=(5, 7)).astype(np.float32)
    for ours, peer in (
        (LayerNorm(7), torch.nn.LayerNorm(7)),
        (RMSNorm(7), torch.nn.RMSNorm(7)),
        (BatchNorm1d(7), torch.nn.BatchNorm1d(7)),
        (LayerNorm(7, bias=False), torch.nn.LayerNorm(7, bias=False)),
        (LayerNorm(7, elementwise_affine=False), torch.nn.LayerNorm(7, elementwise_affine=False)),
    ):
        assert set(ours.state_dict()) == set(peer.state_dict())
        with torch.no_grad():
            for name, value in peer.named_parameters():
                value.copy_(torch.tensor(rng.normal(size=7)))
                ours.state_dict()[name][...] = value.numpy()
        np.testing.assert_allclose(
            ours(Tensor(x)).data, peer(torch.tensor(x)).detach(), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("momentum", [0.1, 0.37, None])
@pytest.mark.parametrize("rest", [(), (3,)])
def test_running_statistics_equal_torch(rng, momentum, rest):
    ours = BatchNorm1d(5, momentum=momentum, dtype=np.float64)
    peer = torch.nn.BatchNorm1d(5, momentum=momentum, dtype=torch.float64)
    for _ in range(7):
        x = rng.normal(size=(4, 5, *rest)) * 3 + 2
        ours(Tensor(x))
        peer(torch.tensor(x))
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            np.testing.assert_allclose(
                getattr(ours, name).data, getattr(peer, name).numpy(), rtol=1e-12
            )
    ours.eval()
    peer.eval()
    compare(ours, peer, [x], rng)
    assert gradcheck(ours, [leaf(x)])


def test_batch_norm_refuses_one_value_a_channel():
    with pytest.raises(ValueError, match="more than 1 value"):
        BatchNorm1d(3)(Tensor(np.ones((1, 3), dtype=np.float32)))
    with pytest.raises(ValueError, match="expected 3 channels"):
        BatchNorm1d(3)(Tensor(np.ones((2, 5), dtype=np.float32)))
    with pytest.raises(ValueError, match=r"expected the last axes to be \(5,\)"):
        LayerNorm(5)(Tensor(np.ones((2, 3), dtype=np.float32)))


def test_folded_batch_norm_equals_the_original(rng):
    layer = Linear(7, 5, rng=rng, dtype=np.float64)
    bn = BatchNorm1d(5, dtype=np.float64)
    bn.weight.data[...], bn.bias.data[...] = rng.normal(size=(2, 5))
    for _ in range(5):
        bn(layer(Tensor(rng.normal(size=(11, 7)))))
    bn.eval()
    W, b = fold_batchnorm(layer.weight.data, layer.bias.data, bn)
    x = rng.normal(size=(3, 7))
    np.testing.assert_allclose(x @ W.T + b, bn(layer(Tensor(x))).data, rtol=1e-10)


def test_dropout_keeps_the_mean_and_adds_the_variance(rng):
    x = np.full(200_000, 3.0)
    y = dropout(Tensor(x), 0.25, rng).data
    assert set(np.unique(y)) == {0.0, 4.0}
    assert abs(y.mean() - 3) < 4 * y.std() / np.sqrt(y.size)
    assert y.var() == pytest.approx(0.25 / 0.75 * 9, rel=0.02)


def test_dropout_gradient_is_its_mask(rng):
    x = leaf(rng.normal(size=(5, 7)))
    y = dropout(x, 0.4, rng)
    upstream = rng.normal(size=(5, 7))
    y.backward(upstream)
    np.testing.assert_allclose(x.grad, upstream * (y.data / x.data), rtol=1e-12)
    assert np.all(dropout(x, 1.0, rng).data == 0)
    assert np.array_equal(dropout(x, 0.0, rng).data, x.data)


def test_dropout_only_in_training(rng):
    layer = Dropout(0.5, rng)
    x = Tensor(rng.normal(size=(5, 7)).astype(np.float32))
    assert layer(x).dtype == np.float32
    assert np.any(layer(x).data == 0)
    assert layer.eval()(x) is x
    first, second = (Dropout(0.5, np.random.default_rng(7))(x).data for _ in range(2))
    assert np.array_equal(first, second)


def test_penalties_and_their_gradients(rng):
    a, b = leaf(rng.normal(size=(3, 2))), leaf(rng.normal(size=5))
    l2 = l2_penalty([a, b])
    assert l2.item() == pytest.approx(0.5 * ((a.data**2).sum() + (b.data**2).sum()))
    l2.backward()
    np.testing.assert_allclose(a.grad, a.data)
    a.grad = b.grad = None
    l1 = l1_penalty([a, b])
    assert l1.item() == pytest.approx(np.abs(a.data).sum() + np.abs(b.data).sum())
    l1.backward()
    np.testing.assert_array_equal(b.grad, np.sign(b.data))


def test_l2_penalty_vanishes_in_the_ridge_gradient(rng):
    X, y = rng.normal(size=(29, 5)), rng.normal(size=29)
    w = leaf(Ridge(alpha=0.7, fit_intercept=False).fit(X, y).coef_)
    residual = Tensor(X) @ w - Tensor(y)
    loss = (residual * residual).sum() * 0.5 + l2_penalty([w]) * 0.7
    loss.backward()
    np.testing.assert_allclose(w.grad, 0, atol=1e-9)


def test_ridge_shrinks_singular_directions(rng):
    X, y = rng.normal(size=(29, 5)), rng.normal(size=29)
    U, sigma, Vt = np.linalg.svd(X, full_matrices=False)
    plain = (U.T @ y) / sigma
    ridge = Ridge(alpha=0.7, fit_intercept=False, solver="svd").fit(X, y).coef_
    np.testing.assert_allclose(Vt @ ridge, plain * sigma**2 / (sigma**2 + 0.7), rtol=1e-10)


def test_soft_thresholding_solves_the_lasso(rng):
    X, y = rng.normal(size=(29, 7)), rng.normal(size=29)
    alpha, rate = 0.1, len(X) / np.linalg.norm(X, 2) ** 2
    w = np.zeros(7)
    for _ in range(2000):
        w = soft_threshold(w - rate * X.T @ (X @ w - y) / len(X), rate * alpha)
    peer = Lasso(alpha=alpha, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(X, y)
    np.testing.assert_allclose(w, peer.coef_, atol=1e-8)
    assert np.sum(w == 0) == np.sum(peer.coef_ == 0) > 0


def test_early_stopping_keeps_the_best(rng):
    model = Linear(3, 2, rng=rng)
    stopper = EarlyStopping(patience=2, min_delta=0.05)
    losses, stops, best = [1.0, 0.8, 0.79, 0.9], [], None
    for i, loss in enumerate(losses):
        model.weight.data[...] = i
        stops.append(stopper.update(loss, model))
    assert stops == [False, False, False, True]
    assert (stopper.best, stopper.best_at) == (0.8, 1)
    best = stopper.best_state
    assert np.all(best["weight"] == 1)
    with pytest.raises(ValueError, match="at least 1"):
        EarlyStopping(0)


def test_moving_average_equals_torch(rng):
    w = Parameter(rng.normal(size=(3, 2)))
    peer = torch.nn.Linear(2, 3, bias=False, dtype=torch.float64)
    peer.weight.data = torch.tensor(w.data.copy())
    averaged = torch.optim.swa_utils.AveragedModel(
        peer, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    )
    ours = EMA([w], decay=0.9)
    averaged.update_parameters(peer)
    for _ in range(7):
        step = rng.normal(size=(3, 2))
        w.data += step
        peer.weight.data += torch.tensor(step)
        ours.update()
        averaged.update_parameters(peer)
    expected = averaged.module.weight.detach().numpy()
    np.testing.assert_allclose(ours.averages[0], expected, rtol=1e-12)
    present = w.data.copy()
    with ours.applied():
        np.testing.assert_allclose(w.data, expected, rtol=1e-12)
    np.testing.assert_array_equal(w.data, present)


def test_bias_and_variance_of_a_shrunken_mean(rng):
    # Estimating 2 by half of the mean of 4 draws: bias² = 1, variance = ¼·1/4.
    result = bias_variance(
        lambda X, y: lambda x: np.full(len(x), 0.5 * y.mean()),
        lambda rng: (np.zeros(4), 2 + rng.standard_normal(4)),
        np.zeros(3),
        np.full(3, 2.0),
        reps=4000,
        rng=rng,
    )
    assert result.bias_squared == pytest.approx(1, abs=0.03)
    assert result.variance == pytest.approx(1 / 16, rel=0.1)


def test_mixup_blends_inputs_and_targets_alike(rng):
    targets = np.eye(5)
    x, mixed = mixup(targets * 2, targets, 0.4, rng)
    np.testing.assert_allclose(x, 2 * mixed)
    np.testing.assert_allclose(mixed.sum(axis=1), 1)
    assert np.any((mixed > 0) & (mixed < 1))


def test_bad_arguments_are_named(rng):
    x = Tensor(np.ones((2, 3), dtype=np.float32))
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5"):
        dropout(x, 1.5, rng)
    with pytest.raises(ValueError, match="rng"):
        Dropout(0.5)
    with pytest.raises(ValueError, match="decay"):
        EMA([], decay=1.0)
    with pytest.raises(ValueError, match="alpha"):
        mixup(np.ones((2, 3)), np.ones((2, 3)), 0.0, rng)


@pytest.mark.parametrize("normalize", [layer_norm, rms_norm])
def test_a_normalizer_does_not_keep_its_input(rng, normalize):
    x = Tensor(rng.normal(size=(3, 4)), requires_grad=True) * 2.0
    y, alive = normalize(x, 4), weakref.ref(x.data)
    del x
    assert alive() is None
    assert y.requires_grad


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_groups_of_features_normalized_are_torch_s_group_norm(rng, groups):
    X = rng.normal(size=(5, 6))
    ours = layer_norm(Tensor(X.reshape(5, groups, -1)), 6 // groups).data.reshape(X.shape)
    theirs = torch.nn.functional.group_norm(torch.tensor(X), groups).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


# ---- the boxes "In PyTorch" ---------------------------------------------------------------------


def test_what_the_page_says_about_dropout_in_pytorch():
    torch.manual_seed(0)
    layer, ones = torch.nn.Dropout(), torch.ones(10_000)
    assert layer.p == 0.5
    often = torch.nn.functional.dropout(ones, 0.2)
    assert set(often.tolist()) == {0.0, 1.25}
    assert 0.15 < (often == 0).float().mean() < 0.25
    model = torch.nn.Sequential(layer).eval()
    assert torch.equal(model(ones), ones)
    assert not torch.equal(torch.nn.functional.dropout(ones, layer.p), ones)
    assert torch.equal(torch.nn.functional.dropout(ones, training=layer.training), ones)


def test_what_the_page_says_about_batch_normalization_in_pytorch(rng):
    layer = torch.nn.BatchNorm1d(3, dtype=torch.float64)
    assert (layer.eps, layer.momentum) == (1e-5, 0.1)
    batches = torch.tensor(rng.normal(size=(4, 7, 3)))
    layer(batches[0])
    torch.testing.assert_close(layer.running_mean, 0.1 * batches[0].mean(0))
    with pytest.raises(ValueError, match="more than 1 value"):
        layer(batches[0, :1])
    layer.eval()
    torch.testing.assert_close(layer(batches[1])[:1], layer(batches[1, :1]))
    plain = torch.nn.BatchNorm1d(3, momentum=None, dtype=torch.float64)
    for batch in batches:
        plain(batch)
    torch.testing.assert_close(plain.running_mean, batches.mean((0, 1)))


def test_what_the_page_says_about_the_other_normalizers_in_pytorch():
    layer, rms = torch.nn.LayerNorm(5), torch.nn.RMSNorm(5)
    assert layer.eps == 1e-5
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    assert [name for name, _ in rms.named_parameters()] == ["weight"]
    assert rms.eps is None
    tiny = torch.full((1, 5), 1e-4)
    eps = torch.finfo(torch.float32).eps
    assert 1e-7 < eps < 2e-7
    torch.testing.assert_close(rms(tiny), tiny / (tiny.square().mean() + eps).sqrt())
    group = torch.nn.GroupNorm(2, 6)
    assert (group.num_groups, group.num_channels) == (2, 6)
    assert group(torch.ones(3, 6, 5)).shape == (3, 6, 5)
    with pytest.raises(RuntimeError):
        group(torch.ones(3, 5, 6))
