"""minLSTM, Mamba's scan and the gated delta rule: loops, scans, PyTorch, special cases."""

import numpy as np
import pytest
import torch

from chainrule.architectures.lstms import (
    GatedDeltaNet,
    MinLSTM,
    gated_delta,
    gated_delta_scan,
    memory_half_life,
    selective_scan,
)
from chainrule.architectures.rnns import fast_weights
from chainrule.neural_networks.backpropagation import Tensor, gradcheck

B, T, N, H, K, V = 3, 13, 5, 11, 7, 2


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def delta_inputs(rng, time=T):
    q, k = unit(rng.normal(size=(B, time, K))), unit(rng.normal(size=(B, time, K)))
    alpha, beta = rng.uniform(0.5, 1, (B, time)), rng.uniform(0, 1, (B, time))
    return q, k, rng.normal(size=(B, time, V)), alpha, beta


@pytest.mark.parametrize("time", [1, 2, 3, 13, 64])
def test_the_scan_of_minlstm_equals_its_loop_and_pytorch(rng, time):
    layer = MinLSTM(N, H, rng=rng, dtype=float)
    X, g = rng.normal(size=(B, time, N)), rng.normal(size=(B, time, H))
    found = []
    for by in ("scan", "loop"):
        layer.zero_grad()
        x = Tensor(X, requires_grad=True)
        states, last = layer(x, by=by)
        np.testing.assert_array_equal(states.data[:, -1], last.data)
        states.backward(g)
        found.append([states.data, x.grad, *(p.grad for p in layer.parameters())])
    x = torch.tensor(X, requires_grad=True)
    parts = [torch.tensor(p.data, requires_grad=True) for p in layer.parameters()]
    W_f, b_f, W_i, b_i, W, b = parts
    h, rows = torch.zeros(B, H, dtype=torch.float64), []
    for t in range(time):
        f, i = torch.sigmoid(x[:, t] @ W_f.T + b_f), torch.sigmoid(x[:, t] @ W_i.T + b_i)
        h = f / (f + i) * h + i / (f + i) * (x[:, t] @ W.T + b)
        rows.append(h)
    out = torch.stack(rows, 1)
    out.backward(torch.tensor(g))
    theirs = [out.detach(), x.grad, *(p.grad for p in parts)]
    for scan, loop, peer in zip(*found, theirs, strict=True):
        np.testing.assert_allclose(scan, loop, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(scan, peer.numpy(), rtol=1e-10, atol=1e-12)


def test_a_minlstm_stays_between_its_candidates(rng):
    layer = MinLSTM(N, H, rng=rng, dtype=float)
    X = Tensor(rng.normal(size=(B, T, N)))
    candidates = layer.candidate(X).data
    states = layer(X)[0].data  # means of candidates, and of the 0 at the start
    assert (states <= np.maximum(candidates.max(axis=1, keepdims=True), 0)).all()
    assert (states >= np.minimum(candidates.min(axis=1, keepdims=True), 0)).all()


def test_mambas_scan_equals_its_loop_and_pytorch(rng):
    D, S = 5, 3
    arrays = [
        rng.normal(size=(B, T, D)), rng.uniform(0.1, 1, (B, T, D)), -rng.uniform(0.5, 2, (D, S)),
        rng.normal(size=(B, T, S)), rng.normal(size=(B, T, S)),
    ]  # fmt: skip
    g = rng.normal(size=(B, T, D))
    found = []
    for by in ("scan", "loop"):
        leaves = [Tensor(a, requires_grad=True) for a in arrays]
        y = selective_scan(*leaves, by=by)
        y.backward(g)
        found.append([y.data, *(leaf.grad for leaf in leaves)])
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    x, delta, A, B_, C = leaves
    state, rows = torch.zeros(B, D, S, dtype=torch.float64), []
    for t in range(T):
        kept = torch.exp(delta[:, t, :, None] * A)
        state = kept * state + (delta[:, t] * x[:, t])[..., None] * B_[:, t, None]
        rows.append((state * C[:, t, None]).sum(-1))
    out = torch.stack(rows, 1)
    out.backward(torch.tensor(g))
    theirs = [out.detach(), *(leaf.grad for leaf in leaves)]
    for scan, loop, peer in zip(*found, theirs, strict=True):
        np.testing.assert_allclose(scan, loop, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(scan, peer.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("time", [1, 2, 7, 13])
def test_the_gated_delta_rule_equals_pytorch_with_all_gradients(rng, time):
    arrays = delta_inputs(rng, time)
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    q, k, v, alpha, beta = leaves
    S, rows = torch.zeros(B, K, V, dtype=torch.float64), []
    for t in range(time):
        key, a, b = k[:, t, :, None], alpha[:, t, None, None], beta[:, t, None, None]
        S = a * (torch.eye(K, dtype=torch.float64) - b * key @ key.mT) @ S
        S = S + b * key @ v[:, t, None]
        rows.append((S.mT @ q[:, t, :, None])[..., 0])
    for last, expected in ((False, torch.stack(rows, 1)), (True, S)):
        ours = [Tensor(a, requires_grad=True) for a in arrays]
        out = gated_delta(*ours, last=last)
        np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
        g = rng.normal(size=out.shape)
        out.backward(g)
        theirs = torch.autograd.grad(
            (expected * torch.tensor(g)).sum(), leaves, retain_graph=True, allow_unused=True
        )
        for mine, peer in zip(ours, theirs, strict=True):
            wanted = 0.0 if peer is None else peer.numpy()
            np.testing.assert_allclose(mine.grad, wanted, rtol=1e-10, atol=1e-11)


def test_the_gated_delta_rule_equals_differences(rng):
    leaves = [Tensor(a[:, :4], requires_grad=True) for a in delta_inputs(rng)]
    assert gradcheck(gated_delta, leaves)


@pytest.mark.parametrize("time", [1, 2, 3, 13, 32])
def test_joined_in_pairs_it_is_the_same_memory(rng, time):
    q, k, v, alpha, beta = delta_inputs(rng, time)
    memories = gated_delta_scan(k[0], v[0], alpha[0], beta[0])
    assert memories.shape == (time, K, V)
    read = np.einsum("tkv,tk->tv", memories, q[0])
    out = gated_delta(q, k, v, alpha, beta).data[0]
    np.testing.assert_allclose(read, out, rtol=1e-10, atol=1e-12)


def test_special_cases(rng):
    q, k, v, alpha, beta = delta_inputs(rng)
    S0, one, none = rng.normal(size=(B, K, V)), np.ones((B, T)), np.zeros((B, T))
    # nothing is written: pure decay, with the half-life of an LSTM's forget gate
    a = np.full((B, T), 0.5 ** (1 / T))
    S = gated_delta(q, k, v, a, none, S0=S0, last=True).data
    np.testing.assert_allclose(S, S0 / 2, rtol=1e-12)
    assert memory_half_life(a[0, 0]) == pytest.approx(T)
    # nothing is forgotten: the delta rule of recurrent networks
    S = gated_delta(q, k, v, one, one, last=True).data
    for b in range(B):
        np.testing.assert_allclose(S[b], fast_weights(k[b], v[b]), rtol=1e-10, atol=1e-12)
    # one key of one number: an LSTM's cell, c = f c + i g
    ones = np.ones((B, T, 1))
    c = np.zeros((B, V))
    for t in range(T):
        f, i = alpha[:, t, None] * (1 - beta[:, t, None]), beta[:, t, None]
        c = f * c + i * v[:, t]
    out = gated_delta(ones, ones, v, alpha, beta).data[:, -1]
    np.testing.assert_allclose(out, c, rtol=1e-12)


def test_the_layer_reads_through_gates(rng):
    layer = GatedDeltaNet(N, K, V, rng=rng, dtype=float)
    X = Tensor(rng.normal(size=(B, T, N)), requires_grad=True)
    out = layer(X)
    assert out.shape == (B, T, V)
    alpha = layer.gates(X).sigmoid().data[..., 0]
    assert (alpha > 0.9).mean() > 0.9
    out.backward(rng.normal(size=out.shape))
    assert all(np.abs(p.grad).max() > 0 for p in layer.parameters())
    later = X.data.copy()
    later[:, 7:] += 1.0
    np.testing.assert_array_equal(layer(Tensor(later)).data[:, :7], out.data[:, :7])
    assert np.isfinite(layer(Tensor(np.zeros((B, T, N)))).data).all()
    assert layer(Tensor(np.zeros((0, T, N)))).shape == (0, T, V)


def test_float32_stays_float32_and_nan_is_not_hidden(rng):
    arrays = [a.astype(np.float32) for a in delta_inputs(rng)]
    out = gated_delta(*arrays).data
    assert out.dtype == np.float32
    np.testing.assert_allclose(
        out, gated_delta(*(a.astype(float) for a in arrays)).data, rtol=1e-4, atol=1e-5
    )
    arrays[2][1, 5] = np.nan
    broken = gated_delta(*arrays).data
    assert np.isnan(broken[1, 5:]).all()
    assert np.isfinite(broken[[0, 2]]).all()
    X = rng.normal(size=(B, T, N)).astype(np.float32)
    assert MinLSTM(N, H, rng=rng)(Tensor(X))[0].dtype == np.float32
    assert GatedDeltaNet(N, K, V, rng=rng)(Tensor(X)).dtype == np.float32
