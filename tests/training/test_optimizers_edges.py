"""Optimizers at their edges, and Adagrad and RMSprop, against torch.optim."""

import gc
import math
import weakref

import numpy as np
import pytest
import torch

from chainrule.neural_networks.backpropagation import Linear, Parameter, Tensor
from chainrule.training import optimizers
from chainrule.training.optimizers import (
    SGD,
    Adafactor,
    Adagrad,
    Adam,
    AdamW,
    Lion,
    Muon,
    RMSprop,
    clip_grad_norm_,
    clip_grad_value_,
    newton_schulz,
)

SHAPES = [(5, 3), (3,), (2, 7), (), (3, 5, 2)]

FORERUNNERS = [
    (Adagrad, torch.optim.Adagrad, {}),
    (Adagrad, torch.optim.Adagrad, {"lr": 0.3, "lr_decay": 0.1, "weight_decay": 0.05}),
    (Adagrad, torch.optim.Adagrad, {"lr": 0.3, "initial_accumulator_value": 0.7, "eps": 1e-3}),
    (RMSprop, torch.optim.RMSprop, {}),
    (RMSprop, torch.optim.RMSprop, {"lr": 0.02, "alpha": 0.8, "eps": 1e-3, "weight_decay": 0.1}),
    (RMSprop, torch.optim.RMSprop, {"lr": 0.02, "momentum": 0.9}),
    (RMSprop, torch.optim.RMSprop, {"lr": 0.02, "centered": True, "alpha": 0.7}),
    (RMSprop, torch.optim.RMSprop, {"lr": 0.01, "centered": True, "momentum": 0.5, "alpha": 0.9}),
]


def pair(rng, dtype):
    ours = [Parameter(np.asarray(rng.normal(size=shape), dtype)) for shape in SHAPES]
    return ours, [torch.nn.Parameter(torch.tensor(p.data.copy())) for p in ours]


@pytest.mark.parametrize(("ours", "theirs", "settings"), FORERUNNERS, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_fifty_steps_equal_torch(rng, ours, theirs, settings, dtype):
    params, peers = pair(rng, dtype)
    one, two = ours(params, **settings), theirs(peers, **settings)
    for step in range(50):
        for i, (p, peer) in enumerate(zip(params, peers, strict=True)):
            gradient = np.asarray(rng.normal(size=p.shape) * 10 ** rng.uniform(-2, 1), dtype)
            p.grad = None if (step + i) % 4 == 0 else gradient
            peer.grad = None if p.grad is None else torch.tensor(gradient)
        one.step()
        two.step()
        if step == 20:  # a state saved and loaded into a new optimizer
            state = one.state_dict()
            one = ours(params, **settings)
            one.load_state_dict(state)
    for p, peer in zip(params, peers, strict=True):
        rtol, atol = {np.float64: (1e-9, 1e-12), np.float32: (2e-4, 1e-5)}[dtype]
        np.testing.assert_allclose(p.data, peer.detach().numpy(), rtol=rtol, atol=atol)


def test_adagrad_by_hand():
    w = Parameter(np.array([1.0]))
    optimizer = Adagrad([w], lr=0.5, eps=0.0)
    for gradient, expected in ((3.0, 0.5), (4.0, 0.1)):  # 3/√9, then 4/√25
        w.grad = np.array([gradient])
        optimizer.step()
        assert w.data[0] == pytest.approx(expected)


def test_settings_of_the_forerunners():
    w = [Parameter(np.ones(2))]
    for make, message in ((lambda: RMSprop(w, alpha=1.5), "alpha must be from 0 to 1, got 1.5"),
                          (lambda: Adagrad(w, lr_decay=-1.0), "lr_decay must be at least 0"),
                          (lambda: RMSprop(w, momentum=-0.1), "momentum must be")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            make()


# ---- what an optimizer takes -------------------------------------------------------------------


def test_only_leaves_of_floats_can_be_optimized():
    w = Parameter(np.ones(2, np.float32))
    with pytest.raises(ValueError, match="non-leaf tensor"):
        SGD([w * 2.0])
    with pytest.raises(ValueError, match="got a parameter of type int64"):
        SGD([Tensor([1, 2])])
    SGD([Tensor(np.ones(2))])  # frozen: without a gradient it is left out
    for value in (math.inf, math.nan, -1.0):
        with pytest.raises(ValueError, match="lr must be"):
            SGD([w], lr=value)
        with pytest.raises(ValueError, match="eps must be"):
            AdamW([w], eps=value)
    with pytest.raises(ValueError, match="weight_decay must be finite"):
        AdamW([w], weight_decay=math.inf)


# ---- norms -------------------------------------------------------------------------------------

VALUES = [
    (np.float16, [300.0, 300.0]), (np.float16, [6e-8, 6e-8]), (np.float16, [6e4, 6e4, 6e4]),
    (np.float32, [3e19]), (np.float32, [3e38, 1e38]), (np.float32, [3e-24]), (np.float32, [1e-40]),
    (np.float32, [1e-19] * 1000), (np.float64, [1e200, 1e200]), (np.float64, [1e-200, 2e-200]),
    (np.float64, [1e308, 1e308]), (np.float32, [0.0, 0.0]), (np.float32, []),
    (np.float32, [3.0, 4.0]), (np.float32, [1e20, 1e-20]),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "values"), VALUES, ids=str)
@pytest.mark.parametrize("kind", [2.0, 1.0, 3.0, math.inf, 0.5, -1.0, -math.inf, 0.0])
def test_norms_of_any_size(dtype, values, kind):
    w = Parameter(np.zeros(len(values), dtype))
    w.grad = np.array(values, dtype)
    exact = torch.tensor(w.grad.astype(np.longdouble).astype(np.float64))
    if kind == 0:
        expected = float(bool(w.grad.any()))
    elif not values:
        expected = 0.0
    else:
        top = exact.abs().max().item() or 1.0  # so that the oracle's squares fit
        expected = torch.linalg.vector_norm(exact / top, kind).item() * top
    assert clip_grad_norm_([w], math.inf, kind) == pytest.approx(expected, rel=1e-3)


def test_clipping_keeps_what_fits():
    for dtype, values in VALUES:
        w = Parameter(np.zeros(len(values), dtype))
        w.grad = np.array(values, dtype)
        norm = clip_grad_norm_([w], 1.0)
        if norm > 1:
            wide = w.grad.astype(np.longdouble)
            assert float(np.sqrt((wide * wide).sum())) == pytest.approx(1, rel=2e-3)


def test_several_gradients_have_one_norm(rng):
    arrays = [np.asarray(rng.standard_normal(s) * 1e200) for s in SHAPES]
    params, peers = [Parameter(a) for a in arrays], [torch.tensor(a) for a in arrays]
    for p, t, a in zip(params, peers, arrays, strict=True):
        p.grad, t.grad = a.copy(), torch.tensor(a / 1e200)
    assert clip_grad_norm_(params, 1.0) == pytest.approx(
        1e200 * torch.nn.utils.clip_grad_norm_(peers, 1.0).item()
    )
    mixed = [Parameter(np.zeros(1, d)) for d in (np.float16, np.float32, np.float64)]
    for p, value in zip(mixed, (2.0, 3.0, 6.0), strict=True):
        p.grad = np.array([value], p.dtype)
    assert clip_grad_norm_(mixed, 100.0) == pytest.approx(7)


def test_bad_norms_are_named():
    w = Parameter(np.ones(2, np.float32))
    w.grad = np.array([3.0, np.nan], np.float32)
    assert math.isnan(clip_grad_norm_([w], 1.0))
    w.grad = np.array([3.0, np.inf], np.float32)
    assert clip_grad_norm_([w], 1.0) == math.inf
    with pytest.raises(ValueError, match="the norm of the gradients is nan"):
        clip_grad_norm_([w], 1.0, error_if_nonfinite=True)
    for bad in (-1.0, math.nan):
        with pytest.raises(ValueError, match="max_norm must be at least 0"):
            clip_grad_norm_([w], bad)
        with pytest.raises(ValueError, match="clip_value must be at least 0"):
            clip_grad_value_([w], bad)
    assert clip_grad_norm_([], 1.0) == 0


# ---- 16 bits, and matrices of any size ---------------------------------------------------------


@pytest.mark.parametrize("make", [SGD, Adam, AdamW, Lion, Adagrad, RMSprop, Adafactor, Muon])
def test_sixteen_bit_parameters_follow_wide_ones(make, rng):
    start = rng.standard_normal((3, 4)).astype(np.float16)
    half, single = Parameter(start.copy()), Parameter(start.astype(np.float32))
    one, two = make([half], lr=0.01), make([single], lr=0.01)
    for _ in range(5):
        gradient = (rng.standard_normal((3, 4)) * 300).astype(np.float16)  # squares beyond 65,504
        if make is SGD:
            gradient /= 300
        half.grad, single.grad = gradient, gradient.astype(np.float32)
        one.step()
        two.step()
        assert half.dtype == np.float16
        np.testing.assert_allclose(half.data, single.data, atol=0.01)
    assert not np.array_equal(half.data, start)


def test_newton_schulz_of_any_size(rng):
    G = rng.standard_normal((3, 5)).astype(np.float32)
    expected = newton_schulz(G)
    for size in (1e20, 1e30):
        found = newton_schulz(G * np.float32(size))
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_adafactor_where_a_product_of_means_would_overflow(rng):
    gradient = rng.standard_normal((3, 4)).astype(np.float32)
    moves = []
    for size in (1.0, 1e12):
        w = Parameter(np.ones((3, 4), np.float32))
        optimizer = Adafactor([w], lr=0.1, eps=(1e-30, 1e-3))
        w.grad = gradient * np.float32(size)
        optimizer.step()
        moves.append(w.data - 1)
    np.testing.assert_allclose(moves[0], moves[1], rtol=1e-4)


def test_a_rebuilt_arena_costs_no_second_gradient_memory():
    """The old array is let go before the new one is asked for."""
    layer = Linear(300, 300, rng=np.random.default_rng(0))
    optimizer = SGD(layer.parameters(), lr=0.1)
    x = Tensor(np.ones((2, 300), np.float32))
    addresses = set()
    for _ in range(6):
        optimizer.zero_grad()
        layer(x).sum().backward()
        addresses.add(optimizer._arenas[0][1].grad.ctypes.data)
        optimizer.step()
    assert len(addresses) < 6


def test_a_model_and_its_optimizer_are_freed_without_the_collector():
    gc.collect()
    gc.disable()
    try:
        layer = Linear(3, 2, rng=np.random.default_rng(0))
        optimizer = AdamW(layer.parameters())
        layer(Tensor(np.ones((1, 3), np.float32))).sum().backward()
        gone = [weakref.ref(layer.weight), weakref.ref(optimizer._arenas[0][1])]
        kept = layer.bias
        del optimizer
        assert gone[1]() is None  # the optimizer went, and its parameters go on without it
        kept.grad = None
        (kept * 2.0).sum().backward()
        assert kept.grad.tolist() == [2.0, 2.0]
        del layer
        assert gone[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["Adam", "AdamW", "RMSprop", "Lion"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_averages_that_forget_at_once_forget_at_once(name, dtype, rng):
    """With a share of 0, nothing of a gradient of 10⁸ may be left in the average of the next."""
    options = {"lr": 0.1} | ({"alpha": 0.0} if name == "RMSprop" else {"betas": (0.0, 0.0)})
    start = rng.standard_normal(7).astype(dtype)
    x, t = Tensor(start.copy(), requires_grad=True), torch.tensor(start, requires_grad=True)
    ours = getattr(optimizers, name)([x], **options)
    theirs = None if name == "Lion" else getattr(torch.optim, name)([t], **options)
    for size in (1e8, 0.1, 1e-3):
        g = (size * rng.standard_normal(7)).astype(dtype)
        before = x.data.copy()
        x.grad, t.grad = g.copy(), torch.tensor(g)
        ours.step()
        if theirs is None:
            np.testing.assert_allclose(before - x.data, 0.1 * np.sign(g), rtol=1e-5)
        else:
            theirs.step()
            np.testing.assert_allclose(x.data, t.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["AdamW", "RMSprop"])
def test_a_square_that_overflows_stops_a_number_and_does_not_spoil_it(name, rng):
    start = rng.standard_normal(5).astype(np.float32)
    x, t = Tensor(start.copy(), requires_grad=True), torch.tensor(start, requires_grad=True)
    ours, theirs = getattr(optimizers, name)([x], lr=0.1), getattr(torch.optim, name)([t], lr=0.1)
    for _ in range(3):
        g = np.array([1e30, -1e25, 1.0, 0.0, -1e-3], np.float32)
        x.grad, t.grad = g.copy(), torch.tensor(g)
        with np.errstate(over="ignore"):
            ours.step()
        theirs.step()
        np.testing.assert_allclose(x.data, t.detach(), rtol=1e-5)


def test_gradients_set_by_hand_have_the_parameters_shape():
    for value in (np.float32(2), 2, [2.0], Tensor([2.0]), np.array([2])):
        x = Tensor(np.float32(1) if np.ndim(value) == 0 else np.ones(1, np.float32), True)
        x.grad = value
        assert isinstance(x.grad, np.ndarray)
        assert (x.grad.shape, x.grad.dtype) == (x.shape, np.float32)
        x.grad = x.grad / 2  # of a number NumPy makes no array
        assert clip_grad_norm_(x, 0.5) == 1
        assert x.grad == pytest.approx(0.5, rel=1e-5)
    x, t = Tensor(np.ones(3), True), torch.ones(3, requires_grad=True)
    for wrong in (np.ones(1), np.ones((3, 1)), 1.0, [1.0, 2.0]):
        with pytest.raises(RuntimeError, match="to assign a gradient of size"):
            t.grad = torch.tensor(wrong, dtype=torch.float)
        with pytest.raises(
            ValueError, match=r"gradient of shape .* does not fit a tensor of \(3,\)"
        ):
            x.grad = wrong


@pytest.mark.parametrize("kind", [SGD, Adagrad, Adam, AdamW, Adafactor, Lion, Muon, RMSprop])
def test_a_rate_beside_the_groups_is_refused(kind):
    """``optimizer.lr = …`` would change no group's rate, and the schedule would be lost."""
    optimizer = kind([Tensor(np.ones((3, 2)), requires_grad=True)], lr=0.1)
    with pytest.raises(AttributeError, match=r'for group in optimizer.param_groups: group\["lr"\]'):
        optimizer.lr = 0.2
    assert [group["lr"] for group in optimizer.param_groups] == [0.1]
    optimizer.note = "anything else"


def test_pytorch_keeps_silent_about_a_rate_beside_the_groups():
    optimizer = torch.optim.AdamW([torch.ones(3, requires_grad=True)], lr=0.1)
    optimizer.lr = 0.2
    assert [group["lr"] for group in optimizer.param_groups] == [0.1]
