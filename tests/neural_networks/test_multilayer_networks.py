"""Constructed networks against scikit-learn, numpy.interp, torch and closed forms."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPClassifier

from chainrule.neural_networks.multilayer_networks import (
    MLP,
    count_flops,
    count_linear_pieces,
    count_params,
    max_regions,
    random_features_ridge,
    relu_interpolator,
    tent_network,
    xor_network,
)


@pytest.mark.parametrize(
    ("act", "peer_act"), [("relu", "relu"), ("tanh", "tanh"), ("sigmoid", "logistic")]
)
def test_forward_equals_scikit_learn(rng, act, peer_act):
    X = rng.normal(size=(13, 5))
    y = rng.integers(0, 3, size=13)
    y[:3] = 0, 1, 2
    peer = MLPClassifier((7, 11), activation=peer_act, max_iter=1, random_state=0)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        peer.fit(X, y)
    layers = [(W.T, b) for W, b in zip(peer.coefs_, peer.intercepts_, strict=True)]
    net = MLP.from_layers(layers, act)
    logits = net(X)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, peer.predict_proba(X), rtol=1e-10)


def test_forward_equals_torch_and_caches_the_layer_inputs(rng):
    net = MLP((5, 7, 3), rng=rng)
    net.biases = [rng.normal(size=7), rng.normal(size=3)]
    X = rng.normal(size=(2, 5))
    out, cache = net.forward(X)
    hidden = torch.relu(
        torch.nn.functional.linear(
            torch.tensor(X), torch.tensor(net.weights[0]), torch.tensor(net.biases[0])
        )
    )
    expected = torch.nn.functional.linear(
        hidden, torch.tensor(net.weights[1]), torch.tensor(net.biases[1])
    )
    np.testing.assert_allclose(out, expected, rtol=1e-12)
    assert [layer.shape for layer in cache] == [(2, 5), (2, 7)]
    np.testing.assert_allclose(cache[1], hidden, rtol=1e-12)


def test_identity_network_collapses_to_one_matrix(rng):
    net = MLP((3, 7, 5, 2), act="identity", rng=rng)
    X = rng.normal(size=(11, 3))
    np.testing.assert_allclose(net(X), X @ np.linalg.multi_dot(net.weights[::-1]).T, rtol=1e-10)


def test_counts():
    assert count_params((64, 64, 10)) == 4_810
    assert count_params((3, 2)) == 8
    assert count_flops((64, 64, 10)) == 2 * (64 * 64 + 64 * 10)
    assert count_flops((3, 2), batch=7) == 7 * 12
    net = MLP((3, 5, 2))
    assert sum(a.size for a in [*net.weights, *net.biases]) == count_params((3, 5, 2))


def test_flops_equal_a_counted_loop(rng):
    net, operations = MLP((3, 5, 2), rng=rng), 0
    row = list(rng.normal(size=3))
    expected = net(np.array([row]))[0]
    for i, (W, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        outputs = []
        for j in range(len(W)):
            total = b[j]
            for x, w in zip(row, W[j], strict=True):
                total += x * w
                operations += 2
            outputs.append(max(total, 0.0) if i == 0 else total)
        row = outputs
    np.testing.assert_allclose(row, expected)
    assert operations == count_flops((3, 5, 2))


def test_xor_network_and_its_noise_margin(rng):
    square = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    assert xor_network()(square)[:, 0].tolist() == [0.0, 1.0, 1.0, 0.0]
    noisy = np.repeat(square, 50, axis=0) + rng.uniform(-0.1, 0.1, size=(200, 2))
    assert np.array_equal(
        xor_network()(noisy)[:, 0] > 0.5, np.repeat([False, True, True, False], 50)
    )


@pytest.mark.parametrize("n", [2, 3, 7, 40])
def test_interpolator_equals_numpy_interp(rng, n):
    knots = np.sort(rng.uniform(-3, 3, size=n))
    net = relu_interpolator(np.cos, knots)
    x = np.linspace(-5, 5, 401)
    np.testing.assert_allclose(net(x[:, None])[:, 0], np.interp(x, knots, np.cos(knots)), atol=1e-9)


def test_interpolation_error_falls_as_one_over_n_squared():
    x = np.linspace(0, 2 * np.pi, 20_001)
    counts = np.array([8, 16, 32, 64, 128])
    errors = [
        np.abs(
            relu_interpolator(np.sin, np.linspace(0, 2 * np.pi, n + 1))(x[:, None])[:, 0]
            - np.sin(x)
        ).max()
        for n in counts
    ]
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(-2, abs=0.03)


@pytest.mark.parametrize("k", [1, 2, 3, 5, 8, 10])
def test_tent_network_has_two_to_the_k_pieces_from_2k_units(k):
    net = tent_network(k)
    assert count_linear_pieces(net, 0.0, 1.0) == 2**k
    assert sum(net.sizes[1:-1]) == 2 * k
    grid = np.arange(2**k + 1) / 2**k
    assert np.array_equal(net(grid[:, None])[:, 0], np.arange(2**k + 1) % 2)


@pytest.mark.parametrize("seed", range(8))
def test_piece_count_agrees_with_a_dense_grid(seed):
    rng = np.random.default_rng(seed)
    net = MLP((1, 5, 4, 1), rng=rng)
    net.biases = [rng.normal(size=b.shape) for b in net.biases]
    x = np.linspace(-2, 2, 400_001)
    patterns = np.hstack([layer > 0 for layer in net.forward(x[:, None])[1][1:]])
    slopes = np.diff(net(x[:, None])[:, 0]) / np.diff(x)
    whole = np.all(patterns[1:] == patterns[:-1], axis=1)
    changes = np.abs(np.diff(slopes[whole])) > 1e-6
    assert count_linear_pieces(net, -2.0, 2.0) == 1 + changes.sum()


def test_piece_count_merges_equal_slopes():
    straight = relu_interpolator(lambda x: 2 * x, np.array([0.0, 0.3, 1.0]))
    assert count_linear_pieces(straight, 0.0, 1.0) == 1
    assert count_linear_pieces(straight, -1.0, 2.0) == 3


def test_region_formula_equals_sign_patterns_of_random_lines():
    rng = np.random.default_rng(3)
    for hidden in (1, 2, 3, 4):
        assert max_regions(1, hidden) == hidden + 1
        angles = np.pi * (np.arange(hidden) + rng.uniform(0.2, 0.8, size=hidden)) / hidden
        normals, offsets = np.stack([np.cos(angles), np.sin(angles)]), rng.normal(size=hidden)
        axis = np.linspace(-30, 30, 1201)
        points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        patterns = (points @ normals + offsets > 0) @ 2 ** np.arange(hidden)
        assert len(np.unique(patterns)) == max_regions(2, hidden)


def test_random_features_equal_scikit_learn_ridge(rng):
    X, Y = rng.normal(size=(29, 5)), rng.normal(size=(29, 3))
    net = random_features_ridge(X, Y, 17, 0.7, rng)
    features = np.maximum(X @ net.weights[0].T + net.biases[0], 0)
    peer = Ridge(alpha=0.7, solver="cholesky").fit(features, Y)
    np.testing.assert_allclose(net(X), peer.predict(features), rtol=1e-8)
    np.testing.assert_allclose(net.weights[1], peer.coef_, rtol=1e-7)


@pytest.mark.parametrize(("H", "lowest", "highest"), [(64, 0.91, 0.94), (512, 0.97, 0.99)])
def test_random_features_on_digits(H, lowest, highest):
    data = load_digits()
    X, Y = data.data / 16, np.eye(10)[data.target]
    scores = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(X))
        train, test = order[:1437], order[1437:]
        net = random_features_ridge(X[train], Y[train], H, 0.1, rng)
        scores.append(np.mean(net(X[test]).argmax(axis=1) == data.target[test]))
    assert lowest <= np.mean(scores) <= highest


def test_bad_arguments_are_named(rng):
    with pytest.raises(ValueError, match="at least two widths"):
        MLP((3,))
    with pytest.raises(ValueError, match=r"one of .*relu.*'gelu'"):
        MLP((3, 2), act="gelu")
    with pytest.raises(ValueError, match="layer 1: expected"):
        MLP.from_layers([(np.ones((3, 2)), np.ones(3)), (np.ones((1, 2)), np.ones(1))])
    with pytest.raises(ValueError, match="expected 3 features"):
        MLP((3, 2))(np.ones((5, 2)))
    with pytest.raises(ValueError, match="strictly increasing"):
        relu_interpolator(np.sin, np.array([1.0, 1.0]))
    with pytest.raises(ValueError, match="one input"):
        count_linear_pieces(MLP((2, 1)), 0.0, 1.0)
    with pytest.raises(ValueError, match="lo < hi"):
        count_linear_pieces(MLP((1, 1)), 1.0, 1.0)
    with pytest.raises(ValueError, match="positive"):
        random_features_ridge(np.ones((3, 2)), np.ones((3, 1)), 5, 0.0, rng)
    with pytest.raises(ValueError, match="at least 1"):
        tent_network(0)


@pytest.mark.parametrize(
    ("activation", "kept"),
    [
        (torch.nn.ReLU(), 11 + 13),
        (torch.nn.GELU(), 11 + 2 * 13),
        (torch.nn.GELU("tanh"), 11 + 2 * 13),
    ],
)
def test_gelu_keeps_its_input_and_relu_does_not(activation, kept):
    pair = torch.nn.Sequential(torch.nn.Linear(11, 13), activation, torch.nn.Linear(13, 11))
    weights = {p.data_ptr() for p in pair.parameters()}
    saved = {}

    def pack(tensor):
        if tensor.data_ptr() not in weights:
            saved[tensor.data_ptr()] = tensor.numel()  # two operations may keep one array
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = pair(torch.randn(7, 11))
    assert sum(saved.values()) == 7 * kept
    assert output.shape == (7, 11)


def test_what_the_page_says_of_pytorch(rng):
    torch.manual_seed(0)
    linear = torch.nn.Linear
    net = torch.nn.Sequential(linear(64, 64), torch.nn.ReLU(), linear(64, 10))
    assert sum(p.numel() for p in net.parameters()) == 4810 == count_params((64, 64, 10))
    assert net[2].weight.shape == (10, 64) == MLP((64, 64, 10)).weights[1].shape
    assert net[2].bias.shape == (10,)
    assert linear(64, 10, bias=False).bias is None
    for n in (11, 500):
        layer = linear(n, 1000)
        for values in (layer.weight.detach(), layer.bias.detach()):
            scaled = values * n**0.5
            assert scaled.abs().max() <= 1.000001
            assert scaled.max() > 0.98
            assert scaled.min() < -0.98
            assert abs(scaled.var() - 1 / 3) < 0.04  # uniform: a third of the bound squared
    mine = MLP((64, 64, 10), rng=rng)
    assert all((b == 0).all() for b in mine.biases)
    assert abs(mine.weights[0]).max() > 2.5 / 64**0.5  # normal: beyond any uniform bound
    copied = MLP.from_layers(
        [
            (net[i].weight.detach().double().numpy(), net[i].bias.detach().double().numpy())
            for i in (0, 2)
        ]
    )
    X = rng.normal(size=(13, 64))
    theirs = net.double()(torch.tensor(X)).detach().numpy()
    np.testing.assert_allclose(copied(X), theirs, rtol=1e-10, atol=1e-12)
