"""The mixture of experts against a dense loop and transformers' Mixtral, and its balancing."""

import numpy as np
import pytest
import torch
from transformers import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

from chainrule.neural_networks.backpropagation import Tensor, grad, gradcheck
from chainrule.transformers.transformer_architecture import MoE, balance_loss

B, T, D = 2, 5, 12


def numbers(rng, *shape):
    return Tensor(rng.standard_normal(shape), requires_grad=True)


def dense_mixture(layer, x):
    """The same mixture by running every expert on every token."""
    tokens = x.reshape(-1, D)
    logits = (tokens @ layer.router.weight.T).data
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    scores = shares + (layer.choice_bias.data if layer.balance == "bias" else 0)
    y = 0.0
    for row, score, share in zip(range(len(shares)), scores, shares, strict=True):
        best = np.argsort(-score)[: layer.k]
        parts = sum(layer.experts[e](tokens[row : row + 1]).data * share[e] for e in best)
        parts = parts / (share[best].sum() if layer.k > 1 else 1)
        y = parts if row == 0 else np.vstack([y, parts])
    for expert in layer.shared:
        y = y + expert(tokens).data
    return y.reshape(x.shape)


@pytest.mark.parametrize(
    ("k", "shared", "balance"), [(1, 0, "loss"), (2, 1, "bias"), (3, 0, "none")]
)
def test_dispatch_equals_a_dense_loop(k, shared, balance, rng):
    layer = MoE(D, 8, 4, k, shared, balance, rng=rng, dtype=float)
    layer.choice_bias.data[...] = rng.standard_normal(4)
    x = numbers(rng, B, T, D)
    np.testing.assert_allclose(layer(x).data, dense_mixture(layer, x), rtol=1e-9)
    assert layer.load.sum() == pytest.approx(1)
    gradcheck(layer, [numbers(rng, 1, D)])
    gradcheck(lambda w: _with(layer, w, x), [layer.router.weight])


def test_mixture_against_mixtral(rng):
    theirs = MixtralSparseMoeBlock(MixtralConfig(
        hidden_size=D, intermediate_size=8, num_local_experts=4, num_experts_per_tok=2,
    )).double()  # fmt: skip
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.tensor(rng.standard_normal(parameter.shape)))
    ours = MoE(D, 8, 4, 2, rng=rng, dtype=float)
    state = {name: a.numpy() for name, a in theirs.state_dict().items()}
    ours.router.weight.data[...] = state["gate.weight"]
    for i, expert in enumerate(ours.experts):
        gate, up = np.split(state["experts.gate_up_proj"][i], 2)
        expert.gate.weight.data[...], expert.up.weight.data[...] = gate, up
        expert.down.weight.data[...] = state["experts.down_proj"][i]
    x = numbers(rng, B, T, D)
    t = torch.tensor(x.data, requires_grad=True)
    y, z = ours(x), theirs(t)
    z = z[0] if isinstance(z, tuple) else z
    # transformers computes the router's softmax in float32
    np.testing.assert_allclose(y.data, z.detach(), rtol=1e-5, atol=1e-5)
    weights = rng.standard_normal(y.shape)
    y.backward(weights)
    z.backward(torch.tensor(weights))
    np.testing.assert_allclose(x.grad, t.grad, rtol=1e-4, atol=1e-4)


def _with(layer, weight, x):
    layer.router.weight = weight
    return layer(x[:1, :1])


def test_balancing(rng):
    layer = MoE(D, 8, 4, 2, balance="loss", rng=rng, dtype=float)
    layer.router.weight.data[...] = 0  # everything ties: the first two experts take all
    layer(numbers(rng, B, T, D))
    np.testing.assert_array_equal(layer.load, [0.5, 0.5, 0, 0])
    assert layer.balance_loss.item() == pytest.approx(1.0)
    layer.router.weight.data[:2] = 50 * rng.standard_normal((2, D))
    layer(numbers(rng, B, T, D))
    (gradient,) = grad(layer.balance_loss, [layer.router.weight])
    assert np.abs(gradient).max() > 0

    biased = MoE(D, 8, 4, 1, balance="bias", rng=rng, dtype=float)
    biased.router.weight.data[:] = 0.2 * rng.standard_normal((4, D))
    biased.router.weight.data[0, 0] = 2
    x = rng.standard_normal((8, 8, D))
    x[..., 0] += 1  # nearly every token prefers expert 0
    biased(Tensor(x))
    assert biased.load.max() > 0.7
    for _ in range(100):
        biased(Tensor(x))
        biased.update_bias(0.015)
    assert biased.load.max() < 0.4


def test_capacity_drops_late_tokens(rng):
    layer = MoE(D, 8, 2, 1, capacity=0.5, rng=rng, dtype=float)
    layer.router.weight.data[...] = 0  # all eight tokens want expert 0, which takes two
    x = numbers(rng, 8, D)
    y = layer(x).data
    assert (y[2:] == 0).all()
    # with one expert a token the weight is the share itself, here a half
    np.testing.assert_allclose(y[:2], 0.5 * layer.experts[0](x).data[:2], rtol=1e-12)
    with pytest.raises(ValueError, match="1 to 2 experts, not 3"):
        MoE(D, 8, 2, 3, rng=rng)
    with pytest.raises(ValueError, match="not 'hope'"):
        MoE(D, 8, 2, 1, balance="hope", rng=rng)


def test_one_expert_a_token_trains_the_router(rng):
    """Divided by its own sum, a single weight is 1 whatever the router says: no gradient."""
    layer = MoE(D, 8, 4, 1, balance="none", rng=rng, dtype=float)
    y = layer(numbers(rng, B, T, D))
    (gradient,) = grad((y * rng.standard_normal(y.shape)).sum(), [layer.router.weight])
    assert np.abs(gradient).max() > 1e-3


def test_value_of_the_balance_loss():
    """Switch, equation 4: 1 when even; 2.8 for f = (1, 0, 0, 0), P = (0.7, 0.1, 0.1, 0.1)."""
    even = Tensor(np.full((7, 4), 0.25))
    assert balance_loss(even, np.full(4, 0.25)).item() == pytest.approx(1, rel=1e-12)
    skewed = Tensor(np.tile([0.7, 0.1, 0.1, 0.1], (7, 1)))
    assert balance_loss(skewed, np.array([1.0, 0, 0, 0])).item() == pytest.approx(2.8, rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(0, D), (1, D), (1, 1, D), (B, T, D)])
def test_shapes_and_types(shape, dtype, rng):
    layer = MoE(D, 8, 4, 2, 1, rng=rng, dtype=dtype)
    x = Tensor(rng.standard_normal(shape).astype(dtype))
    y = layer(x)
    assert y.shape == shape
    assert y.dtype == dtype
