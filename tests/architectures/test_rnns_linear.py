"""Scans, linear recurrences and fast weights against loops, PyTorch and differences."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.architectures.rnns import LinearRecurrence, fast_weights, linear_recurrence, scan
from chainrule.neural_networks.backpropagation import Tensor, gradcheck


def loop(a, b):
    h, states = np.zeros_like(b[0]), []
    for x, y in zip(a, b, strict=True):
        h = x * h + y
        states.append(h)
    return np.array(states)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 130), st.sampled_from([(), (1,), (2, 3)]), st.integers(0, 999))
def test_the_scan_equals_the_loop(time, rest, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(-1.1, 1.1, (time, *rest)), rng.normal(size=(time, *rest))
    kept = a.copy(), b.copy()
    np.testing.assert_allclose(scan(a, b), loop(a, b), rtol=1e-9, atol=1e-10)
    np.testing.assert_array_equal(a, kept[0])
    np.testing.assert_array_equal(b, kept[1])


def test_the_scan_takes_twenty_levels_for_1024_steps(monkeypatch):
    """Each call but the last joins pairs once and fills in once: two levels."""
    import chainrule.architectures.rnns.linear as module

    calls = []
    original = module.scan

    def counting(a, b):
        calls.append(len(b))
        return original(a, b)

    monkeypatch.setattr(module, "scan", counting)
    module.scan(np.full(1024, 0.5), np.ones(1024))
    assert calls == [2**i for i in range(10, -1, -1)]
    assert 2 * (len(calls) - 1) == 20


def test_scan_at_the_edges():
    assert scan(np.zeros(0), np.zeros(0)).shape == (0,)
    np.testing.assert_array_equal(scan(np.array([5.0]), np.array([2.0])), [2.0])
    assert scan(np.ones(5, np.float32), np.ones(5, np.float32)).dtype == np.float32
    np.testing.assert_allclose(scan(np.full(3000, 0.0), np.arange(3000.0)), np.arange(3000.0))
    huge = scan(np.full(9, 1e-200), np.full(9, 1e200))
    np.testing.assert_allclose(huge[1:], 1e200 + 1.0, rtol=1e-12)
    with pytest.raises(ValueError, match=r"received \(3,\) and \(4,\)"):
        scan(np.ones(3), np.ones(4))


@pytest.mark.parametrize("by", ["scan", "loop"])
@pytest.mark.parametrize("a_shape", [(3, 7, 5), (5,), (7, 1), (1, 7, 5)])
def test_linear_recurrence_and_gradients_equal_pytorch(rng, by, a_shape):
    a = Tensor(rng.uniform(0, 1, a_shape), requires_grad=True)
    b = Tensor(rng.normal(size=(3, 7, 5)), requires_grad=True)
    ta, tb = (torch.tensor(x.data, requires_grad=True) for x in (a, b))
    h, states = torch.zeros(3, 5, dtype=torch.float64), []
    wide = ta.expand(3, 7, 5)
    for t in range(7):
        h = wide[:, t] * h + tb[:, t]
        states.append(h)
    expected = torch.stack(states, 1)
    g = rng.normal(size=(3, 7, 5))
    H = linear_recurrence(a, b, by=by)
    H.backward(g)
    expected.backward(torch.tensor(g))
    np.testing.assert_allclose(H.data, expected.detach(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(a.grad, ta.grad, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(b.grad, tb.grad, rtol=1e-10, atol=1e-12)
    assert gradcheck(lambda x, y: linear_recurrence(x, y, by=by), [a, b])


def test_linear_recurrence_refuses_what_does_not_fit(rng):
    b = Tensor(rng.normal(size=(2, 3)))
    with pytest.raises(ValueError, match="received 'tree'"):
        linear_recurrence(Tensor(np.ones(3)), b, by="tree")
    with pytest.raises(ValueError, match="does not fit"):
        linear_recurrence(Tensor(np.ones((4, 2, 3))), b)


def test_the_layer(rng):
    layer = LinearRecurrence(3, 5, longest=100, rng=rng, dtype=float)
    X = rng.normal(size=(2, 7, 3))
    rates = 1 / (1 + np.exp(-layer.rate.data))
    np.testing.assert_allclose(1 / (1 - rates[[0, -1]]), [1.5, 100])
    H, h = layer(Tensor(X))
    b = X @ layer.input.weight.data.T + layer.input.bias.data
    np.testing.assert_allclose(H.data[0], loop(np.tile(rates, (7, 1)), b[0]), rtol=1e-12)
    np.testing.assert_array_equal(h.data, H.data[:, -1])
    np.testing.assert_allclose(layer(Tensor(X), by="loop")[0].data, H.data, rtol=1e-12)
    H.backward(rng.normal(size=H.shape))
    assert all(np.abs(p.grad).min() > 0 for p in layer.parameters())
    with pytest.raises(ValueError, match="received 1"):
        LinearRecurrence(3, 5, longest=1, rng=rng)


# ---- states that are matrices -------------------------------------------------------------------


def test_fast_weights_by_hand():
    keys, values = np.array([[1.0, 0.0], [0.6, 0.8]]), np.array([[10.0], [20.0]])
    np.testing.assert_allclose(fast_weights(keys, values, "hebb"), [[22], [16]])
    np.testing.assert_allclose(fast_weights(keys, values), [[18.4], [11.2]])


def test_the_delta_rule_is_one_step_of_gradient_descent(rng):
    S = rng.normal(size=(5, 3))
    k, v, beta = rng.normal(size=5), rng.normal(size=3), 0.3
    peer = torch.tensor(S, requires_grad=True)
    (0.5 * ((peer.T @ torch.tensor(k) - torch.tensor(v)) ** 2).sum()).backward()
    stepped = fast_weights(k[None], v[None], beta=beta, S=S)
    np.testing.assert_allclose(stepped, S - beta * peer.grad.numpy(), rtol=1e-12)


def test_what_the_rules_recall(rng):
    """Orthonormal keys written again: the delta rule keeps the last values, Hebb adds them up."""
    keys = np.linalg.qr(rng.normal(size=(7, 5)))[0].T
    old, new = rng.normal(size=(2, 5, 3))
    both, values = np.concatenate([keys, keys]), np.concatenate([old, new])
    np.testing.assert_allclose(keys @ fast_weights(both, values), new, atol=1e-12)
    np.testing.assert_allclose(keys @ fast_weights(both, values, "hebb"), old + new, atol=1e-12)


def test_fast_weights_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="received 'hopfield'"):
        fast_weights(np.ones((2, 3)), np.ones((2, 1)), "hopfield")
    with pytest.raises(ValueError, match="2 keys and 1 values"):
        fast_weights(np.ones((2, 3)), np.ones((1, 1)))
    start = np.ones((3, 1))
    fast_weights(np.ones((2, 3)), np.ones((2, 1)), S=start)
    np.testing.assert_array_equal(start, 1)
