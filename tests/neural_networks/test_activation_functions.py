"""Activations against PyTorch and gradient checks; initializations against their variances."""

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chainrule.neural_networks import activation_functions as af
from chainrule.neural_networks.activation_functions import (
    dead_fraction,
    elu,
    gain,
    gelu,
    gelu_composed,
    gradient_propagation,
    kaiming_,
    leaky_relu,
    logsigmoid,
    orthogonal_,
    prelu,
    relu,
    relu_squared,
    sigmoid,
    signal_propagation,
    silu,
    softplus,
    tanh,
    xavier_,
)
from chainrule.neural_networks.backpropagation import Parameter, Tensor, gradcheck, no_grad

F = torch.nn.functional

PAIRS = {
    "sigmoid": (sigmoid, torch.sigmoid),
    "tanh": (tanh, torch.tanh),
    "relu": (relu, F.relu),
    "leaky_relu": (lambda x: leaky_relu(x, 0.2), lambda x: F.leaky_relu(x, 0.2)),
    "elu": (lambda x: elu(x, alpha=1.3), lambda x: F.elu(x, 1.3)),
    "gelu": (gelu, F.gelu),
    "gelu tanh": (lambda x: gelu(x, "tanh"), lambda x: F.gelu(x, approximate="tanh")),
    "gelu sigmoid": (lambda x: gelu(x, "sigmoid"), lambda x: x * torch.sigmoid(1.702 * x)),
    "gelu composed": (gelu_composed, F.gelu),
    "gelu composed tanh": (
        lambda x: gelu_composed(x, "tanh"),
        lambda x: F.gelu(x, approximate="tanh"),
    ),
    "gelu composed sigmoid": (
        lambda x: gelu_composed(x, "sigmoid"),
        lambda x: x * torch.sigmoid(1.702 * x),
    ),
    "silu": (silu, F.silu),
    "softplus": (softplus, F.softplus),
    "softplus beta": (
        lambda x: softplus(x, beta=2.5, threshold=7.0),
        lambda x: F.softplus(x, 2.5, 7.0),
    ),
    "logsigmoid": (logsigmoid, F.logsigmoid),
    "relu_squared": (relu_squared, lambda x: F.relu(x) ** 2),
}

ARRAYS = hnp.arrays(
    float,
    hnp.array_shapes(min_dims=0, max_dims=3, max_side=5, min_side=0),
    elements=st.one_of(st.floats(-6, 6), st.sampled_from([0.0, -0.0, 30.0, -30.0, 1000, -1000])),
)


def test_the_logarithm_of_a_sigmoid_that_rounds_to_0():
    x = Tensor(np.float32([-20, -200]))
    assert sigmoid(x).data[1] == 0
    np.testing.assert_allclose(logsigmoid(x).data, [-20, -200], rtol=1e-7)


@pytest.mark.parametrize("name", PAIRS)
@settings(max_examples=25)
@given(ARRAYS, st.integers(0, 2**20))
def test_values_and_gradients_equal_torch(name, data, seed):
    ours, theirs = PAIRS[name]
    x = Tensor(data.copy(), requires_grad=True)
    peer = torch.tensor(data, requires_grad=True)
    y, expected = ours(x), theirs(peer)
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    upstream = np.random.default_rng(seed).normal(size=data.shape)
    y.backward(upstream)
    expected.backward(torch.tensor(upstream))
    np.testing.assert_allclose(x.grad, peer.grad.numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", PAIRS)
def test_gradients_equal_differences(name):
    x = np.random.default_rng(5).normal(size=(3, 7)) * 2
    x[np.abs(x) < 1e-3] = 0.5
    assert gradcheck(PAIRS[name][0], [Tensor(x, requires_grad=True)])


@pytest.mark.parametrize("name", PAIRS)
def test_single_precision_stays_single_across_blocks(name):
    data = np.random.default_rng(5).normal(size=(311, 331)).astype(np.float32) * 2
    ours, theirs = PAIRS[name]
    x, peer = Tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    y, expected = ours(x), theirs(peer)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-4, atol=2e-6)
    y.backward(np.ones_like(data))
    expected.sum().backward()
    assert x.grad.dtype == np.float32
    np.testing.assert_allclose(x.grad, peer.grad.numpy(), rtol=1e-4, atol=2e-5)
    with no_grad():
        assert np.array_equal(ours(x).data, y.data)


@pytest.mark.parametrize("approximate", ["none", "tanh", "sigmoid"])
def test_fused_gelu_equals_the_composed_one(rng, approximate):
    a, b = (Tensor(rng.normal(size=(5, 7)).T, requires_grad=True) for _ in range(2))
    b.data = a.data
    upstream = rng.normal(size=(7, 5))
    for x, function in ((a, gelu), (b, gelu_composed)):
        y = function(x, approximate)
        y.backward(upstream, retain_graph=True)
        y.backward(upstream)
    np.testing.assert_allclose(a.grad, b.grad, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("shape", "slopes"), [((5,), 1), ((3, 5), 1), ((3, 5), 5), ((2, 5, 3), 5)])
def test_prelu_equals_torch(rng, shape, slopes):
    x = Tensor(rng.normal(size=shape), requires_grad=True)
    w = Tensor(rng.normal(size=slopes), requires_grad=True)
    px, pw = (torch.tensor(t.data, requires_grad=True) for t in (x, w))
    y, expected = prelu(x, w), F.prelu(px, pw)
    upstream = rng.normal(size=shape)
    y.backward(upstream)
    expected.backward(torch.tensor(upstream))
    np.testing.assert_allclose(y.data, expected.detach(), rtol=1e-12)
    np.testing.assert_allclose(x.grad, px.grad, rtol=1e-12)
    np.testing.assert_allclose(w.grad, pw.grad, rtol=1e-10)


def test_modules_equal_the_functions(rng):
    x = Tensor(rng.normal(size=(3, 5)).astype(np.float32))
    for module, function in (
        (af.Sigmoid(), sigmoid),
        (af.Tanh(), tanh),
        (af.ReLU(), relu),
        (af.LeakyReLU(0.3), lambda x: leaky_relu(x, 0.3)),
        (af.ELU(0.7), lambda x: elu(x, alpha=0.7)),
        (af.GELU("tanh"), lambda x: gelu(x, "tanh")),
        (af.SiLU(), silu),
        (af.PReLU(5), lambda x: leaky_relu(x, 0.25)),
    ):
        assert np.array_equal(module(x).data, function(x).data)
    assert [name for name, _ in af.PReLU().named_parameters()] == ["weight"]


def test_sigmoid_slope_is_at_most_a_quarter():
    x = Tensor(np.linspace(-5, 5, 1001), requires_grad=True)
    sigmoid(x).backward(np.ones(1001))
    assert x.grad.max() == 0.25
    assert round(0.25**10 * 1e7, 1) == 9.5


def test_errors_of_the_gelu_approximations():
    x = Tensor(np.linspace(-8, 8, 160_001))
    exact = gelu(x).data
    assert np.max(np.abs(gelu(x, "tanh").data - exact)) == pytest.approx(4.7e-4, abs=0.05e-4)
    assert np.max(np.abs(gelu(x, "sigmoid").data - exact)) == pytest.approx(2.0e-2, abs=0.05e-2)


@pytest.mark.parametrize(("act", "at", "lowest"), [(gelu, -0.752, -0.170), (silu, -1.278, -0.278)])
def test_minima(act, at, lowest):
    found = scipy.optimize.minimize_scalar(
        lambda x: act(Tensor(np.array([x]))).data[0], bounds=(-3, 0), method="bounded"
    )
    assert round(found.x, 3) == at
    assert round(found.fun, 3) == lowest


def test_gain_equals_torch_and_quadrature():
    for name, arguments in (("relu", ()), ("linear", ()), ("leaky_relu", (0.01,))):
        expected = torch.nn.init.calculate_gain(name, *arguments)
        assert gain(name) == pytest.approx(expected, rel=1e-6)
    assert gain(lambda x: leaky_relu(x, 0.2)) == pytest.approx(
        torch.nn.init.calculate_gain("leaky_relu", 0.2), rel=1e-6
    )
    square = scipy.integrate.quad(
        lambda z: (z * scipy.special.ndtr(z)) ** 2 * np.exp(-z * z / 2) / np.sqrt(2 * np.pi),
        -12,
        12,
    )[0]
    assert gain("gelu") == pytest.approx(square**-0.5, rel=1e-8)
    assert gain("gelu") == pytest.approx(1.532, abs=0.002)
    assert gain("tanh") == pytest.approx(1.5925, abs=1e-4)
    assert gain(relu) ** -2 == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_variances_of_initializations(rng, distribution):
    W = xavier_((300, 500), rng, gain=1.7, distribution=distribution)
    assert W.dtype == np.float32
    assert W.var() == pytest.approx(1.7**2 * 2 / 800, rel=0.02)
    W = kaiming_((300, 500), rng, distribution=distribution)
    assert W.var() == pytest.approx(2 / 500, rel=0.02)
    W = kaiming_((300, 50, 3, 3), rng, "linear", mode="fan_out", distribution=distribution)
    assert W.var() == pytest.approx(1 / (300 * 9), rel=0.02)
    if distribution == "uniform":
        bound = torch.nn.init.xavier_uniform_(torch.empty(300, 500)).abs().max().item()
        assert abs(xavier_((300, 500), rng)).max() == pytest.approx(bound, rel=1e-3)


def test_initializations_fill_a_parameter_in_place(rng):
    p = Parameter(np.zeros((3, 5), dtype=np.float32))
    for fill in (xavier_, kaiming_, orthogonal_):
        p.data[...] = 0
        assert fill(p, rng) is p.data
        assert np.all(p.data != 0)
        assert p.dtype == np.float32


def test_orthogonal_keeps_lengths_through_thirty_layers(rng):
    product = np.eye(17)
    for _ in range(30):
        product = orthogonal_((17, 17), rng, dtype=np.float64) @ product
    np.testing.assert_allclose(np.linalg.svd(product, compute_uv=False), 1, atol=1e-8)
    wide, tall = orthogonal_((3, 7), rng, 2.0), orthogonal_((7, 3), rng, 2.0)
    np.testing.assert_allclose(wide @ wide.T, 4 * np.eye(3), atol=1e-5)
    np.testing.assert_allclose(tall.T @ tall, 4 * np.eye(3), atol=1e-5)
    assert orthogonal_((5, 2, 3, 3), rng).shape == (5, 2, 3, 3)


def mean_rms(act, init, seeds=4):
    last = [
        signal_propagation(act, init, 50, 128, np.random.default_rng(seed), batch=16)[-1]
        for seed in range(seeds)
    ]
    return float(np.exp(np.mean(np.log(last))))


def test_signals_through_fifty_layers():
    def xavier(shape, rng):
        return xavier_(shape, rng, distribution="normal")

    assert mean_rms("relu", xavier) == pytest.approx(0.7 * 2**-25, rel=0.6)
    assert 0.4 < mean_rms("relu", kaiming_) < 1.2
    assert 0.05 < mean_rms("tanh", xavier) < 0.2

    def too_large(shape, rng):
        return xavier_(shape, rng, gain=1.6, distribution="normal")

    assert 250 < mean_rms("relu", too_large) < 900


def test_gradients_vanish_in_twenty_sigmoid_layers(rng):
    sizes = gradient_propagation(
        "sigmoid", lambda s, r: xavier_(s, r, distribution="normal"), 20, 128, rng
    )
    assert sizes.shape == (20,)
    assert 1e-14 < sizes[0] < 1e-11
    kept = gradient_propagation("relu", kaiming_, 20, 128, rng)
    assert 0.2 < kept[0] < 5


def test_propagation_of_a_linear_network_is_exact(rng):
    sizes = signal_propagation("linear", lambda s, r: 2 * np.eye(7), 3, 7, rng)
    np.testing.assert_allclose(sizes / sizes[0], [1, 2, 4])
    grads = gradient_propagation("linear", lambda s, r: 2 * np.eye(7), 3, 7, rng)
    np.testing.assert_allclose(grads / grads[2], [4, 2, 1])


def test_dead_fraction():
    preacts = np.array([[-1.0, 2.0, 0.0, -3.0], [-2.0, -1.0, 0.0, 0.1]])
    assert dead_fraction(preacts) == 0.5


def test_bad_arguments_are_named(rng):
    x = Tensor(np.ones((2, 3)))
    for function in (gelu, gelu_composed, lambda x, a: af.GELU(a)):
        with pytest.raises(ValueError, match="'none', 'tanh' or 'sigmoid', got 'erf'"):
            function(x, "erf")
    with pytest.raises(ValueError, match="1 or 3 slopes, got 2"):
        prelu(x, Tensor(np.ones(2)))
    with pytest.raises(ValueError, match="unknown activation 'rel'"):
        gain("rel")
    with pytest.raises(ValueError, match="outputs, inputs"):
        xavier_((3,), rng)
    with pytest.raises(ValueError, match="mode"):
        kaiming_((3, 3), rng, mode="fan")
    with pytest.raises(ValueError, match="distribution"):
        xavier_((3, 3), rng, distribution="gauss")


def test_what_the_page_says_of_pytorch():
    table = torch.nn.init.calculate_gain
    assert table("relu") == pytest.approx(gain("relu"), rel=1e-6) == 2**0.5
    assert (table("tanh"), table("sigmoid")) == (5 / 3, 1)
    assert (round(gain("tanh"), 3), round(gain("sigmoid"), 3)) == (1.593, 1.846)
    for missing in ("gelu", "silu"):
        with pytest.raises(ValueError, match="Unsupported nonlinearity"):
            table(missing)
    assert table("leaky_relu", 5**0.5) == pytest.approx(1 / 3**0.5)
    torch.manual_seed(0)
    layer = torch.nn.Linear(11, 7)
    torch.manual_seed(0)
    weight = torch.nn.init.kaiming_uniform_(torch.empty(7, 11), a=5**0.5)
    assert torch.equal(layer.weight, weight)
    assert weight.abs().max() <= 1 / 11**0.5
    assert "originally coined" in torch.nn.SiLU.__doc__.replace("\n", " ")


def test_isometry_is_kept_by_orthogonal_tanh_and_by_nothing_else():
    """The spread of the singular values of a Jacobian, largest over median, 20 layers deep."""

    def spread(act, slope, orthogonal, size):
        rng = np.random.default_rng(0)
        h, jacobian = size * rng.standard_normal(101), np.eye(101)
        for _ in range(20):
            gaussian = rng.standard_normal((101, 101)) / 101**0.5
            W = orthogonal_((101, 101), rng, dtype=float) if orthogonal else gaussian
            z = W @ h
            h, jacobian = act(z), slope(z)[:, None] * W @ jacobian
        S = np.linalg.svd(jacobian, compute_uv=False)
        return S[0] / np.median(S)

    bent = (np.tanh, lambda z: 1 - np.tanh(z) ** 2)
    assert spread(*bent, orthogonal=True, size=0.1) < 2
    assert spread(*bent, orthogonal=False, size=0.1) > 100
    ramp = (lambda z: 2**0.5 * np.maximum(z, 0), lambda z: 2**0.5 * (z > 0))
    for orthogonal in (True, False):
        assert spread(*ramp, orthogonal=orthogonal, size=1.0) > 100
