"""Fifty steps of every optimizer against torch.optim, schedules against lr_scheduler."""

import copy
import json
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.neural_networks.backpropagation import Linear, ModuleList, Parameter, Tensor
from chainrule.training import optimizers
from chainrule.training.optimizers import (
    SGD,
    Adafactor,
    Adam,
    AdamW,
    Lion,
    Muon,
    ParamGroups,
    clip_grad_norm_,
    clip_grad_value_,
    inverse_sqrt,
    lr_range_test,
    newton_schulz,
    warmup_cosine,
    warmup_linear,
    wsd,
)

SHAPES = [(5, 3), (3,), (2, 7), (), (3, 5, 2)]

SETTINGS = [
    (SGD, torch.optim.SGD, {"lr": 0.1}),
    (SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}),
    (SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "dampening": 0.3}),
    (SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01}),
    (Adam, torch.optim.Adam, {}),
    (Adam, torch.optim.Adam, {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    (AdamW, torch.optim.AdamW, {}),
    (
        AdamW,
        torch.optim.AdamW,
        {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3},
    ),
    (Adafactor, torch.optim.Adafactor, {}),
    (
        Adafactor,
        torch.optim.Adafactor,
        {"lr": 0.1, "d": 1.5, "weight_decay": 0.1, "eps": (1e-6, 1e-2)},
    ),
]


def names(settings):
    return "-".join(f"{k}={v}" for k, v in settings.items()) or "defaults"


def make(rng, shapes=SHAPES, dtype=np.float64):
    ours = [Parameter(np.asarray(rng.normal(size=shape), dtype=dtype)) for shape in shapes]
    peers = [torch.nn.Parameter(torch.tensor(p.data.copy())) for p in ours]
    return ours, peers


def set_gradients(ours, peers, rng, missing=()):
    for i, (p, peer) in enumerate(zip(ours, peers, strict=True)):
        if i in missing:
            p.grad, peer.grad = None, None
            continue
        g = np.asarray(rng.normal(size=p.shape), dtype=p.dtype) * 10 ** rng.uniform(-3, 1)
        p.grad = np.array(g, dtype=p.dtype)
        peer.grad = torch.tensor(p.grad.copy())


def assert_equal(ours, peers, rtol=1e-10, atol=1e-12):
    for p, peer in zip(ours, peers, strict=True):
        np.testing.assert_allclose(p.data, peer.detach().numpy(), rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    ("ours", "theirs", "settings"), SETTINGS, ids=lambda v: names(v) if isinstance(v, dict) else ""
)
def test_fifty_steps_equal_torch(rng, ours, theirs, settings):
    mine, peers = make(rng)
    optimizer, peer = ours(mine, **settings), theirs(peers, **settings)
    for step in range(50):
        missing = () if step % 3 else {1, 2} if step % 2 else {4}
        set_gradients(mine, peers, rng, missing)
        optimizer.step()
        peer.step()
        assert_equal(mine, peers)


@pytest.mark.parametrize(
    ("ours", "theirs", "settings"), SETTINGS, ids=lambda v: names(v) if isinstance(v, dict) else ""
)
def test_twenty_steps_in_single_precision(rng, ours, theirs, settings):
    mine, peers = make(rng, dtype=np.float32)
    optimizer, peer = ours(mine, **settings), theirs(peers, **settings)
    for _ in range(20):
        set_gradients(mine, peers, rng)
        optimizer.step()
        peer.step()
    assert_equal(mine, peers, rtol=1e-4, atol=1e-5)
    assert all(p.dtype == np.float32 for p in mine)
    assert all(v.dtype in (np.float32, np.int64) for e in optimizer.state for v in e.values())


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_equals_torch_without_its_half_precision(rng, monkeypatch, adjust, nesterov):
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    mine, peers = make(rng, [(5, 3), (3, 7), (11, 2)])
    options = {"lr": 0.02, "weight_decay": 0.2, "momentum": 0.9, "nesterov": nesterov}
    optimizer = Muon(mine, adjust_lr_fn=adjust, **options)
    peer = torch.optim.Muon(peers, adjust_lr_fn=adjust, **options)
    for step in range(50):
        set_gradients(mine, peers, rng, {1} if step % 4 == 1 else ())
        optimizer.step()
        peer.step()
        assert_equal(mine, peers, rtol=1e-8, atol=1e-10)


def test_lion_equals_its_formula(rng):
    mine, _ = make(rng)
    w = [p.data.copy() for p in mine]
    m = [np.zeros_like(x) for x in w]
    optimizer = Lion(mine, lr=0.01, weight_decay=0.1)
    for _ in range(50):
        for i, p in enumerate(mine):
            p.grad = np.asarray(rng.normal(size=p.shape))
            move = np.sign(0.9 * m[i] + 0.1 * p.grad)
            w[i] = w[i] * (1 - 0.01 * 0.1) - 0.01 * move
            m[i] = 0.99 * m[i] + 0.01 * p.grad
        optimizer.step()
    for p, x in zip(mine, w, strict=True):
        np.testing.assert_allclose(p.data, x, rtol=1e-12)


def test_groups_have_their_own_settings(rng):
    mine, peers = make(rng)
    groups = [{"params": [0, 2], "lr": 0.1}, {"params": [1, 3, 4], "weight_decay": 0.0}]
    optimizer, peer = (
        kind(
            [{**g, "params": [p[i] for i in g["params"]]} for g in groups],
            lr=0.01,
            weight_decay=0.2,
        )
        for kind, p in ((AdamW, mine), (torch.optim.AdamW, peers))
    )
    for step in range(20):
        for group, other in zip(optimizer.param_groups, peer.param_groups, strict=True):
            group["lr"] = other["lr"] = 0.01 * (step + 1)
        set_gradients(mine, peers, rng)
        optimizer.step()
        peer.step()
    assert_equal(mine, peers)


def test_matrices_decay_and_vectors_do_not(rng):
    mine, _ = make(rng)
    matrices, vectors = ParamGroups.matrices_decay(mine, 0.1)
    assert [p.ndim >= 2 for p in matrices["params"]] == [True] * 3
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)
    assert len(vectors["params"]) == 2
    before = [p.data.copy() for p in mine]
    optimizer = AdamW(ParamGroups.matrices_decay(mine, 0.5), lr=0.1)
    for p in mine:
        p.grad = np.zeros_like(p.data)
    optimizer.step()
    for p, old in zip(mine, before, strict=True):
        np.testing.assert_allclose(p.data, old * (0.95 if p.ndim >= 2 else 1))


def test_first_adam_step_is_the_rate_whatever_the_scale():
    w = Parameter(np.zeros(3))
    optimizer = Adam([w], lr=0.01, eps=0.0)
    w.grad = np.array([1e-6, -3.0, 1e8])
    optimizer.step()
    np.testing.assert_allclose(w.data, [-0.01, 0.01, -0.01], rtol=1e-12)


def test_without_bias_correction_the_first_step_is_3_16_times_larger():
    m, v = 0.1, 0.001
    assert m / math.sqrt(v) == pytest.approx(3.16, abs=0.003)


def test_three_adam_steps_by_hand():
    w = Parameter(np.zeros(1))
    optimizer = Adam([w], lr=0.1, eps=0.0)
    m = v = x = 0.0
    for t, g in enumerate((1.0, -2.0, 0.5), start=1):
        w.grad = np.array([g])
        optimizer.step()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        x -= 0.1 * (m / (1 - 0.9**t)) / math.sqrt(v / (1 - 0.999**t))
    assert w.data[0] == pytest.approx(x, rel=1e-12)


def test_momentum_conventions_differ_by_one_over_one_minus_beta(rng):
    a, b = Parameter(np.zeros(5)), Parameter(np.zeros(5))
    plain = SGD([a], lr=0.01, momentum=0.9)
    dampened = SGD([b], lr=0.1, momentum=0.9, dampening=0.9)
    gradients = rng.normal(size=(200, 5))
    for g in np.concatenate([np.zeros((1, 5)), gradients]):
        a.grad, b.grad = g.copy(), g.copy()
        plain.step()
        dampened.step()
    np.testing.assert_allclose(a.data, b.data, rtol=1e-12)


# ---- the arena -------------------------------------------------------------------------------


def test_backward_writes_into_the_arena_and_steps_move_the_model(rng):
    layer = Linear(3, 2, rng=rng)
    optimizer = SGD(layer.parameters(), lr=0.5)
    arena = optimizer._arenas[0][1]
    x = rng.normal(size=(5, 3)).astype(np.float32)
    layer(Tensor(x)).sum().backward()
    assert np.shares_memory(layer.weight.grad, arena.grad)
    assert np.shares_memory(layer.weight.data, arena.data)
    expected = layer.weight.data - 0.5 * np.tile(x.sum(axis=0), (2, 1))
    optimizer.step()
    np.testing.assert_allclose(layer.weight.data, expected, rtol=1e-5)
    optimizer.zero_grad()
    assert layer.weight.grad is None


def test_parameters_replaced_after_creation_are_followed(rng):
    w = Parameter(rng.normal(size=3))
    optimizer = SGD([w], lr=1.0)
    w.data = np.array([1.0, 2.0, 3.0])
    w.grad = np.ones(3)
    optimizer.step()
    assert w.data.tolist() == [0.0, 1.0, 2.0]
    w.data = np.zeros(3, dtype=np.float32)
    with pytest.raises(ValueError, match="create the optimizer after"):
        optimizer.step()


def test_one_parameter_in_two_optimizers_follows_both():
    w = Parameter(np.zeros(2))
    one, two = SGD([w], lr=1.0), SGD([w], lr=10.0)
    for _ in range(3):
        for optimizer in (one, two):
            w.grad = np.ones(2)
            optimizer.step()
    assert w.data.tolist() == [-33.0, -33.0]


def test_mixed_types_share_a_group(rng):
    a, b = Parameter(np.ones(3, dtype=np.float32)), Parameter(np.ones(2))
    optimizer = AdamW([a, b], lr=0.1)
    a.grad, b.grad = np.ones(3, dtype=np.float32), np.ones(2)
    optimizer.step()
    assert (a.dtype, b.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(a.data, 1 - 0.1 * 0.01 - 0.1, rtol=1e-6)


@pytest.mark.parametrize("size", [31_999, 32_000, 70_001])
def test_steps_larger_than_a_block_equal_torch(rng, size):
    mine, peers = make(rng, [(size,), (3,)], np.float32)
    optimizer, peer = AdamW(mine, lr=0.1), torch.optim.AdamW(peers, lr=0.1)
    for _ in range(2):
        set_gradients(mine, peers, rng)
        optimizer.step()
        peer.step()
    assert_equal(mine, peers, rtol=1e-4, atol=1e-6)


# ---- saving and resuming ---------------------------------------------------------------------

ALL = [
    (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (SGD, {"lr": 0.1}),
    (Adam, {}),
    (AdamW, {"betas": (0.8, 0.9)}),
    (Lion, {}),
    (Adafactor, {}),
    (Muon, {}),
]


@pytest.mark.parametrize(("kind", "options"), ALL)
def test_resuming_is_exact_to_the_last_bit(rng, kind, options):
    shapes = [(5, 3), (3, 7)]
    mine, _ = make(rng, shapes, np.float32)
    optimizer = kind(mine, **options)
    gradients = [[rng.normal(size=s).astype(np.float32) for s in shapes] for _ in range(14)]

    def train(optimizer, params, steps):
        for gs in steps:
            for p, g in zip(params, gs, strict=True):
                p.grad = g.copy()
            optimizer.param_groups[0]["lr"] *= 0.9
            optimizer.step()

    train(optimizer, mine, gradients[:7])
    saved = copy.deepcopy(optimizer.state_dict())
    weights = [p.data.copy() for p in mine]
    train(optimizer, mine, gradients[7:])

    again = [Parameter(w) for w in weights]
    resumed = kind(again, **options)
    saved["param_groups"] = json.loads(json.dumps(saved["param_groups"]))
    resumed.load_state_dict(saved)
    train(resumed, again, gradients[7:])
    for a, b in zip(mine, again, strict=True):
        assert np.array_equal(a.data, b.data)


def test_a_state_that_does_not_fit_changes_nothing(rng):
    mine, _ = make(rng)
    optimizer = AdamW(mine)
    for p in mine:
        p.grad = np.ones_like(p.data)
    optimizer.step()
    before = copy.deepcopy(optimizer.state_dict())
    wrong_shape = copy.deepcopy(before)
    wrong_shape["state"][0]["exp_avg_sq"] = np.zeros(3)
    wrong_type = copy.deepcopy(before)
    wrong_type["state"][0]["exp_avg"] = before["state"][0]["exp_avg"].astype(np.float32)
    unknown = copy.deepcopy(before)
    unknown["param_groups"][0]["momentum"] = 0.9
    missing = copy.deepcopy(before)
    del missing["state"][0]["exp_avg"]
    two = SGD([Parameter(np.zeros(2)), Parameter(np.zeros(2, dtype=np.float32))]).state_dict()
    for state, message in (
        (wrong_shape, r"exp_avg_sq is float64 \(3,\), expected float64"),
        (wrong_type, "exp_avg is float32"),
        (unknown, "unknown .'momentum'"),
        (missing, "lacks .'exp_avg'"),
        (two, "2 entries, expected 1 and 1"),
    ):
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(state)
        for name, array in before["state"][0].items():
            assert np.array_equal(optimizer.state[0][name], array)


# ---- Muon ------------------------------------------------------------------------------------


def test_newton_schulz_lifts_all_singular_values_near_one():
    G = np.random.default_rng(0).normal(size=(64, 32))
    X = newton_schulz(G, 5)
    sigma = np.linalg.svd(X, compute_uv=False)
    assert 0.65 < sigma.min() < 0.75
    assert 1.05 < sigma.max() < 1.25
    U, _, Vt = np.linalg.svd(G, full_matrices=False)
    np.testing.assert_allclose(U.T @ X @ Vt.T, np.diag(np.diag(U.T @ X @ Vt.T)), atol=1e-12)
    polar = scipy.linalg.polar(G)[0]
    assert np.linalg.norm(X - polar, 2) < 0.35
    np.testing.assert_allclose(newton_schulz(G.T, 5), X.T, rtol=1e-10)


def test_newton_schulz_acts_on_each_singular_value(rng):
    sigma = np.array([0.9, 0.3, 0.01])
    X = newton_schulz(np.diag(sigma), 1, eps=0.0)
    s = sigma / np.linalg.norm(sigma)
    np.testing.assert_allclose(np.diag(X), 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5, rtol=1e-12)


# ---- clipping --------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    st.integers(0, 2**20),
    st.sampled_from([2.0, 1.0, 3.0, math.inf]),
    st.sampled_from([0.1, 5.0, 1e9]),
)
def test_clipping_equals_torch(seed, norm_type, limit):
    rng = np.random.default_rng(seed)
    mine, peers = make(rng)
    set_gradients(mine, peers, rng, {2})
    norm = clip_grad_norm_(mine, limit, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(peers, limit, norm_type)
    assert norm == pytest.approx(expected.item(), rel=1e-12)
    for p, peer in zip(mine, peers, strict=True):
        if p.grad is None:
            assert peer.grad is None
        else:
            np.testing.assert_allclose(p.grad, peer.grad.numpy(), rtol=1e-12)
    clip_grad_value_(mine, 0.01)
    torch.nn.utils.clip_grad_value_(peers, 0.01)
    for p, peer in zip(mine, peers, strict=True):
        if p.grad is not None:
            np.testing.assert_allclose(p.grad, peer.grad.numpy(), rtol=1e-12)


def test_clipping_reaches_a_gradient_that_is_a_transposed_view(rng):
    w = Tensor(rng.normal(size=(2, 3)), requires_grad=True)
    (Tensor(rng.normal(size=(5, 3))) @ w.T).backward(rng.normal(size=(5, 2)))
    assert not w.grad.flags.c_contiguous
    before = np.linalg.norm(w.grad)
    assert clip_grad_norm_([w], before / 4) == pytest.approx(before)
    assert np.linalg.norm(w.grad) == pytest.approx(before / 4, rel=1e-5)


def test_clipping_keeps_the_direction_and_reports_infinities(rng):
    w = Parameter(np.zeros(7))
    g = rng.normal(size=7)
    w.grad = g.copy()
    clip_grad_norm_([w], 0.1)
    assert np.linalg.norm(w.grad) == pytest.approx(0.1, rel=1e-4)
    np.testing.assert_allclose(w.grad / np.linalg.norm(w.grad), g / np.linalg.norm(g))
    w.grad = np.full(7, np.inf)
    with pytest.raises(ValueError, match="is inf"):
        clip_grad_norm_([w], 1.0, error_if_nonfinite=True)
    assert clip_grad_norm_([Parameter(np.zeros(3))], 1.0) == 0.0
    w.grad = g.reshape(7)[::-1]
    clip_grad_norm_([w], 0.1)
    assert np.linalg.norm(w.grad) == pytest.approx(0.1, rel=1e-4)


# ---- schedules -------------------------------------------------------------------------------


def torch_rates(lr, schedulers, milestones, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    parts = [make(optimizer) for make in schedulers]
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, parts, milestones)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def warm(w):
    return lambda o: torch.optim.lr_scheduler.LinearLR(o, 1 / w, 1.0, total_iters=w - 1)


@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_schedules_equal_torch():
    S = torch.optim.lr_scheduler
    cosine = torch_rates(
        0.3, [warm(7), lambda o: S.CosineAnnealingLR(o, 20, eta_min=0.01)], [7], 27
    )
    np.testing.assert_allclose([warmup_cosine(s, 0.3, 7, 27, 0.01) for s in range(27)], cosine)
    linear = torch_rates(0.3, [warm(7), lambda o: S.LinearLR(o, 1.0, 0.1, total_iters=20)], [7], 27)
    np.testing.assert_allclose([warmup_linear(s, 0.3, 7, 27, 0.03) for s in range(27)], linear)
    stable = torch_rates(
        0.3,
        [
            warm(5),
            lambda o: S.ConstantLR(o, 1.0, 1),
            lambda o: S.LinearLR(o, 1.0, 0.0, total_iters=8),
        ],
        [5, 19],
        27,
    )
    np.testing.assert_allclose([wsd(s, 0.3, 5, 27, 8) for s in range(27)], stable, atol=1e-15)


def test_schedules_at_their_corners():
    assert warmup_cosine(0, 1.0, 4, 10) == 0.25
    assert warmup_cosine(3, 1.0, 4, 10) == warmup_cosine(4, 1.0, 4, 10) == 1.0
    assert warmup_cosine(7, 1.0, 4, 10) == pytest.approx(0.5)
    assert warmup_cosine(10, 1.0, 4, 10, 0.1) == warmup_cosine(99, 1.0, 4, 10, 0.1) == 0.1
    assert warmup_linear(7, 1.0, 4, 10) == 0.5
    assert warmup_linear(0, 1.0, 0, 10) == 1.0
    assert wsd(7, 1.0, 2, 10, 4) == 0.75
    assert wsd(6, 1.0, 2, 10, 4) == 1.0
    assert inverse_sqrt(3, 1.0, 4) == 1.0
    assert inverse_sqrt(15, 1.0, 4) == 0.5
    assert inverse_sqrt(1, 1.0, 4) == 0.5


def test_rate_range_test_finds_where_it_explodes_and_leaves_no_trace():
    w = Parameter(np.array([1.0, 1.0]))
    optimizer = SGD([w], lr=0.01, momentum=0.5)
    curvature = np.array([1.0, 10.0])

    def closure():
        w.grad = curvature * w.data
        return 0.5 * float(curvature @ w.data**2)

    result = lr_range_test(optimizer, closure, 1e-4, 10.0, 100)
    assert len(result.rates) == len(result.losses) < 100
    assert result.losses[-1] > 4 * result.losses.min()
    assert 0.2 < result.rates[-1] < 2
    assert w.data.tolist() == [1.0, 1.0]
    assert optimizer.param_groups[0]["lr"] == 0.01
    assert np.all(optimizer.state[0]["momentum_buffer"] == 0)
    assert w.grad is None


def test_bad_arguments_are_named():
    w = Parameter(np.zeros((2, 3)))
    for make, message in (
        (lambda: AdamW([]), "at least one parameter"),
        (lambda: AdamW([w, w]), "listed twice"),
        (lambda: AdamW([np.zeros(3)]), "must be tensors, got ndarray"),
        (lambda: AdamW(w), "list of parameters, got one parameter"),
        (lambda: AdamW(ModuleList([])), r"got ModuleList: pass its parameters\(\)"),
        (lambda: AdamW([{"lr": 0.1}]), "a group needs the key 'params'"),
        (lambda: AdamW([w], lr=-1.0), "lr must be at least 0, got -1"),
        (lambda: AdamW([w], betas=(0.9, 1.0)), "betas"),
        (lambda: AdamW([w], eps=-1e-8), "eps"),
        (lambda: SGD([w], nesterov=True), "nesterov needs momentum"),
        (lambda: SGD([w], momentum=-0.5), "momentum"),
        (lambda: Muon([Parameter(np.zeros(3))]), r"matrices, got a parameter of shape \(3,\)"),
        (lambda: Muon([w], adjust_lr_fn="no"), "adjust_lr_fn"),
        (lambda: warmup_cosine(0, 1.0, 11, 10), "warmup=11, total=10"),
        (lambda: wsd(0, 1.0, 2, 10, 9), "decay must be between 0 and 8"),
        (lambda: inverse_sqrt(0, 1.0, 0), "warmup"),
        (lambda: lr_range_test(SGD([w]), lambda: 0.0, 1.0, 0.1), "lowest < highest"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_clipping_takes_one_parameter_as_well_as_a_list():
    """Iterating over one parameter gives rows without gradients, whose norm is 0."""
    w = Parameter(np.zeros(2))
    w.grad = np.array([30.0, 40.0])
    assert clip_grad_norm_(w, 5.0) == 50.0
    np.testing.assert_allclose(w.grad, [3.0, 4.0], rtol=1e-6)
    clip_grad_value_(w, 1.0)
    np.testing.assert_array_equal(w.grad, [1.0, 1.0])


def test_blocks_cover_every_number_once():
    covered = np.zeros(100_003, dtype=int)
    for part in optimizers.groups.blocks(slice(5, 100_003), 4):
        covered[part] += 1
    assert np.all(covered[5:] == 1)
    assert np.all(covered[:5] == 0)


# What the page says of other libraries, and of schedules.


def test_a_new_rate_rescales_the_buffer_at_once_and_a_velocity_slowly():
    ours, theirs = Parameter(np.zeros(1)), torch.nn.Parameter(torch.zeros(1, dtype=float))
    pair = SGD([ours], lr=1.0, momentum=0.9), torch.optim.SGD([theirs], lr=1.0, momentum=0.9)
    velocity, places = 0.0, []
    for t in range(401):
        rate = 1.0 if t < 200 else 0.5
        for optimizer in pair:
            optimizer.param_groups[0]["lr"] = rate
        ours.grad, theirs.grad = np.ones(1), torch.ones(1, dtype=float)
        for optimizer in pair:
            optimizer.step()
        velocity = 0.9 * velocity - rate  # Keras's form
        places.append((ours.data[0], theirs.item(), velocity))
    places = np.array(places)
    np.testing.assert_allclose(places[:, 0], places[:, 1], rtol=1e-12)
    ours_step = np.diff(places[:, 0])
    assert ours_step[198] == pytest.approx(-10, rel=1e-6)
    assert ours_step[199] == pytest.approx(-5, rel=1e-6)
    assert places[200, 2] == pytest.approx(-9.5, rel=1e-6)
    assert places[210, 2] == pytest.approx(-6.6, abs=0.05)
    assert places[400, 2] == pytest.approx(-5, rel=1e-6)


@pytest.mark.parametrize(("kind", "matters"), [(torch.optim.SGD, True), (torch.optim.Adam, False)])
def test_where_every_gradient_is_clipped_the_limit_matters_for_sgd_alone(kind, matters):
    gradients = torch.tensor(5 + np.random.default_rng(0).normal(size=(60, 5)))
    ends = []
    for limit in (1.0, 0.1):
        w = torch.nn.Parameter(torch.zeros(5, dtype=float))
        optimizer = kind([w], lr=0.01)
        for g in gradients:
            w.grad = g.clone()
            assert torch.nn.utils.clip_grad_norm_([w], limit) > limit
            optimizer.step()
        ends.append(w.detach())
    assert torch.allclose(ends[0], (10 if matters else 1) * ends[1], rtol=1e-4)


def test_torch_clips_all_parameters_as_one_vector():
    pair = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    pair[0].grad, pair[1].grad = torch.tensor([3.0]), torch.tensor([4.0])
    assert torch.nn.utils.clip_grad_norm_(pair, 1.0) == pytest.approx(5)
    assert [round(p.grad.item(), 3) for p in pair] == [0.6, 0.8]


def test_what_the_page_says_of_torch_sgd():
    w = torch.nn.Parameter(torch.zeros(3))
    defaults = torch.optim.SGD([w]).defaults
    assert (defaults["lr"], defaults["momentum"], defaults["dampening"]) == (1e-3, 0, 0)
    for options in ({}, {"momentum": 0.9, "dampening": 0.1}):
        with pytest.raises(ValueError, match="requires a momentum and zero dampening"):
            torch.optim.SGD([w], nesterov=True, **options)


def test_what_the_page_says_of_torch_adamw():
    def step(kind, **options):
        w = torch.nn.Parameter(torch.ones(1))
        w.grad = torch.tensor([10.0])
        kind([w], lr=0.1, weight_decay=0.1, **options).step()
        return round(w.item(), 4)

    w = torch.nn.Parameter(torch.zeros(3))
    for kind, decay in ((torch.optim.AdamW, 0.01), (torch.optim.Adam, 0)):
        defaults = kind([w]).defaults
        assert (defaults["lr"], defaults["betas"]) == (1e-3, (0.9, 0.999))
        assert (defaults["eps"], defaults["weight_decay"]) == (1e-8, decay)
    assert step(torch.optim.AdamW) == 0.89
    assert step(torch.optim.Adam) == 0.9  # joined the gradient
    assert step(torch.optim.Adam, decoupled_weight_decay=True) == 0.89


def test_what_the_page_says_of_a_nan_among_torch_gradients():
    pair = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    pair[0].grad, pair[1].grad = torch.tensor([float("nan")]), torch.tensor([1.0])
    with pytest.raises(RuntimeError, match="non-finite"):
        torch.nn.utils.clip_grad_norm_(pair, 1.0, error_if_nonfinite=True)
    torch.nn.utils.clip_grad_norm_(pair, 1.0)
    assert all(p.grad.isnan().all() for p in pair)


def test_what_the_page_says_of_torch_muon():
    defaults = torch.optim.Muon([torch.nn.Parameter(torch.zeros(3, 5))]).defaults
    assert (defaults["lr"], defaults["weight_decay"], defaults["momentum"]) == (1e-3, 0.1, 0.95)
    assert (defaults["nesterov"], defaults["ns_steps"]) == (True, 5)
    assert defaults["ns_coefficients"] == (3.4445, -4.775, 2.0315)
    with pytest.raises(ValueError, match="2D"):
        torch.optim.Muon([torch.nn.Parameter(torch.zeros(3))])
    gradient, moved = torch.randn(7, 5), {}
    for how in ("original", "match_rms_adamw"):
        w = torch.nn.Parameter(torch.zeros(7, 5))
        w.grad = gradient.clone()
        torch.optim.Muon([w], lr=1.0, weight_decay=0.0, adjust_lr_fn=how).step()
        moved[how] = w.detach()
    wanted = {"original": (7 / 5) ** 0.5, "match_rms_adamw": 0.2 * 7**0.5}
    unit = moved["original"] / wanted["original"]
    assert torch.allclose(moved["match_rms_adamw"], wanted["match_rms_adamw"] * unit, atol=1e-5)
    ours = newton_schulz(gradient.numpy().astype(float))
    assert np.abs(-unit.numpy() - ours).max() < 0.05  # theirs runs in bfloat16


def test_expected_losses_of_schedules_are_those_of_simulated_runs(rng):
    """V ← (1 − ηλ)²V + η²σ², as the page computes it, against many noisy runs."""
    curvatures = np.array([0.05, 0.3, 1.0])
    for schedule in (
        lambda t: 0.4,
        lambda t: warmup_cosine(t, 0.6, 5, 60, final=0.06),
        lambda t: wsd(t, 0.5, 5, 60, decay=12),
    ):
        V, x = np.ones(3), np.ones((20_000, 3))
        for t in range(60):
            lr = schedule(t)
            V = (1 - lr * curvatures) ** 2 * V + lr**2 * 0.3**2
            x = x - lr * (curvatures * x + 0.3 * rng.standard_normal(x.shape))
        np.testing.assert_allclose(np.mean(x**2, axis=0), V, rtol=0.05)
