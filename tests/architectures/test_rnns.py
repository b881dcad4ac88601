"""Recurrent networks against PyTorch (values and all gradients), differences, and by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.architectures.rnns import (
    RNN,
    Bidirectional,
    CharRNN,
    RNNCell,
    Stacked,
    bptt_manual,
    encode_names,
    jacobian_norms,
    recall_task,
    truncated_bptt,
)
from chainrule.architectures.rnns.recurrent import _recur
from chainrule.neural_networks.backpropagation import Tensor, gradcheck, no_grad, stack
from chainrule.training.loss_functions import cross_entropy

B, T, N, H = 3, 7, 5, 11


def cell_and_peer(rng, n=N, h=H, activation="tanh", dtype=np.float64, layers=1, both=False):
    """Cells, bottom layer first and forwards first, and a torch.nn.RNN with the same weights."""
    peer = torch.nn.RNN(n, h, layers, nonlinearity=activation, batch_first=True, bidirectional=both)
    peer = peer.to(torch.float64 if dtype == np.float64 else torch.float32)
    cells = []
    for layer in range(layers):
        for suffix in ("", "_reverse")[: 1 + both]:
            n_in = n if layer == 0 else h * (1 + both)
            cell = RNNCell(n_in, h, activation, rng=rng, dtype=dtype)
            name = f"l{layer}{suffix}"
            half = rng.normal(size=h).astype(dtype)  # PyTorch adds two biases; ours is their sum
            with torch.no_grad():
                getattr(peer, f"weight_ih_{name}").copy_(torch.tensor(cell.weight_x.data))
                getattr(peer, f"weight_hh_{name}").copy_(torch.tensor(cell.weight_h.data))
                getattr(peer, f"bias_ih_{name}").copy_(torch.tensor(half))
                getattr(peer, f"bias_hh_{name}").copy_(torch.tensor(cell.bias.data - half))
            cells.append((cell, name))
    return cells, peer


def same(ours, theirs, rtol=1e-10, atol=1e-12):
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=rtol, atol=atol)


def same_gradients(cells, peer, rtol=1e-10, atol=1e-11):
    for cell, name in cells:
        same(cell.weight_x.grad, getattr(peer, f"weight_ih_{name}").grad, rtol, atol)
        same(cell.weight_h.grad, getattr(peer, f"weight_hh_{name}").grad, rtol, atol)
        same(cell.bias.grad, getattr(peer, f"bias_ih_{name}").grad, rtol, atol)
        same(cell.bias.grad, getattr(peer, f"bias_hh_{name}").grad, rtol, atol)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"), [(np.float64, 1e-10, 1e-11), (np.float32, 1e-4, 1e-5)]
)
def test_states_and_all_gradients_equal_pytorch(rng, activation, dtype, rtol, atol):
    cells, peer = cell_and_peer(rng, activation=activation, dtype=dtype)
    X = Tensor(rng.normal(size=(B, T, N)).astype(dtype), requires_grad=True)
    h0 = Tensor(rng.normal(size=(B, H)).astype(dtype), requires_grad=True)
    x, h = torch.tensor(X.data, requires_grad=True), torch.tensor(h0.data[None], requires_grad=True)
    states, last = RNN(cells[0][0])(X, h0)
    expected, end = peer(x, h)
    assert states.dtype == dtype
    same(states.data, expected, rtol, atol)
    same(last.data, end[0], rtol, atol)
    g, g_last = rng.normal(size=(B, T, H)).astype(dtype), rng.normal(size=(B, H)).astype(dtype)
    ((states * g).sum() + (last * g_last).sum()).backward()
    ((expected * torch.tensor(g)).sum() + (end[0] * torch.tensor(g_last)).sum()).backward()
    same(X.grad, x.grad, rtol, atol)
    same(h0.grad, h.grad[0], rtol, atol)
    same_gradients(cells, peer, rtol, atol)


def test_padded_sequences_equal_pytorchs_packed_ones(rng):
    cells, peer = cell_and_peer(rng)
    lengths = [7, 1, 4]
    X = Tensor(rng.normal(size=(B, T, N)), requires_grad=True)
    x = torch.tensor(X.data, requires_grad=True)
    mask = np.arange(T) < np.array(lengths)[:, None]
    states, last = RNN(cells[0][0])(X, mask=mask)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
    output, end = peer(packed)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(output, batch_first=True, total_length=T)
    same(states.data * mask[..., None], expected)
    same(last.data, end[0])
    for row, length in enumerate(lengths):  # behind the end the state stays
        np.testing.assert_array_equal(
            states.data[row, length:], np.tile(last.data[row], (T - length, 1))
        )
    g, g_last = rng.normal(size=(B, T, H)) * mask[..., None], rng.normal(size=(B, H))
    ((states * g).sum() + (last * g_last).sum()).backward()
    ((expected * torch.tensor(g)).sum() + (end[0] * torch.tensor(g_last)).sum()).backward()
    same(X.grad, x.grad)
    same_gradients(cells, peer)


def test_what_stands_in_the_padding_changes_nothing(rng):
    rnn = RNN(RNNCell(N, H, rng=rng, dtype=float))
    X = rng.normal(size=(B, T, N))
    mask = np.arange(T) < np.array([2, 5, 7])[:, None]
    other = np.where(mask[..., None], X, 1000.0)
    np.testing.assert_array_equal(
        rnn(Tensor(X), mask=mask)[1].data, rnn(Tensor(other), mask=mask)[1].data
    )


@pytest.mark.parametrize("both", [False, True])
def test_stacks_in_both_directions_equal_pytorch(rng, both):
    cells, peer = cell_and_peer(rng, layers=3, both=both)
    layers = [RNN(cell) for cell, _ in cells]
    if both:
        layers = [Bidirectional(*layers[i : i + 2]) for i in range(0, len(layers), 2)]
    lengths = [7, 2, 5]
    mask = np.arange(T) < np.array(lengths)[:, None]
    X = Tensor(rng.normal(size=(B, T, N)), requires_grad=True)
    x = torch.tensor(X.data, requires_grad=True)
    states, last = Stacked(layers)(X, mask=mask)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
    output, end = peer(packed)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(output, batch_first=True, total_length=T)
    same(states.data * mask[..., None], expected)
    ends = end.reshape(3, 1 + both, B, H).permute(0, 2, 1, 3).reshape(3, B, -1)
    for ours, theirs in zip(last, ends, strict=True):
        same(ours.data, theirs)
    g = rng.normal(size=states.shape) * mask[..., None]
    (states * g).sum().backward()
    (expected * torch.tensor(g)).sum().backward()
    same(X.grad, x.grad)
    same_gradients(cells, peer)


def test_the_fused_loop_equals_its_composition(rng):
    cell = RNNCell(N, H, rng=rng, dtype=float)
    X = rng.normal(size=(B, T, N))
    g = rng.normal(size=(B, T, H))
    gradients = []
    for composed in (False, True):
        cell.zero_grad()
        if composed:
            h, states = None, []
            for t in range(T):
                h = cell(Tensor(X[:, t]), h)
                states.append(h)
            out = stack(states, axis=1)
        else:
            out, _ = RNN(cell)(Tensor(X))
        out.backward(g)
        gradients.append([out.data, *(p.grad for p in cell.parameters())])
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 5), st.integers(0, 999), st.booleans())
def test_gradients_equal_differences(batch, time, hidden, seed, masked):
    rng = np.random.default_rng(seed)
    leaves = [
        Tensor(rng.normal(size=shape), requires_grad=True)
        for shape in ((batch, time, hidden), (batch, hidden), (hidden, hidden))
    ]
    mask = rng.random((batch, time)) < 0.6 if masked else None
    assert gradcheck(lambda P, h0, W: _recur(P, h0, W, mask=mask), leaves)


def test_ids_pick_what_one_hot_vectors_pick(rng):
    cell = RNNCell(N, H, rng=rng, dtype=float)
    ids = rng.integers(0, N, (B, T))
    g = rng.normal(size=(B, T, H))
    found = []
    for X in (ids, Tensor(np.eye(N)[ids])):
        cell.zero_grad()
        states, _ = RNN(cell)(X)
        states.backward(g)
        found.append([states.data, *(p.grad.copy() for p in cell.parameters())])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def test_a_sequence_in_two_halves_is_one_sequence(rng):
    model = CharRNN(N, H, rng=rng, dtype=float)
    ids = rng.integers(0, N, (B, T))
    whole, end = model(ids)
    first, h = model(ids[:, :3])
    second, last = model(ids[:, 3:], h)
    np.testing.assert_allclose(
        whole.data, np.concatenate([first.data, second.data], axis=1), rtol=1e-12
    )
    np.testing.assert_allclose(end.data, last.data, rtol=1e-12)


# ---- nasty inputs -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0, T, N), (B, 0, N), (1, 1, 1)])
def test_empty_and_smallest_batches(rng, shape):
    cell = RNNCell(shape[-1], 2, rng=rng, dtype=float)
    states, last = RNN(cell)(Tensor(rng.normal(size=shape)))
    assert states.shape == (*shape[:2], 2)
    assert last.shape == (shape[0], 2)
    states.backward(np.ones(states.shape))
    assert cell.weight_h.grad.shape == (2, 2)
    if not states.size:
        np.testing.assert_array_equal(cell.weight_h.grad, 0)


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_huge_and_tiny_inputs_stay_finite(rng, size):
    cell = RNNCell(N, H, rng=rng, dtype=float)
    states, _ = RNN(cell)(Tensor(size * rng.normal(size=(B, T, N))))
    states.backward(rng.normal(size=states.shape))
    assert np.isfinite(states.data).all()
    assert all(np.isfinite(p.grad).all() for p in cell.parameters())


def test_nan_is_not_hidden(rng):
    cell = RNNCell(N, H, rng=rng, dtype=float)
    X = rng.normal(size=(B, T, N))
    X[1, 3, 0] = np.nan
    states = RNN(cell)(Tensor(X))[0].data
    assert np.isnan(states[1, 3:]).all()
    assert np.isfinite(states[[0, 2]]).all()
    assert np.isfinite(states[1, :3]).all()


def test_small_integers_are_ids_and_floats_are_features(rng):
    cell = RNNCell(N, H, rng=rng)
    ids = rng.integers(0, N, (B, T))
    expected = RNN(cell)(ids)[0].data
    for dtype in (np.uint8, np.int8, np.int32):
        np.testing.assert_array_equal(RNN(cell)(ids.astype(dtype))[0].data, expected)
    with pytest.raises(ValueError, match="expects 5 features"):
        RNN(cell)(Tensor(ids.astype(np.float32)))
    with pytest.raises(ValueError, match="ids reach from 0 to 5; the cell knows 0 to 4"):
        RNN(cell)(np.array([[0, 5]]))
    with pytest.raises(ValueError, match="ids reach from -1"):
        RNN(cell)(np.array([[0, -1]]))


def test_what_does_not_fit_is_refused(rng):
    with pytest.raises(ValueError, match="at least 1, received 0 and 3"):
        RNNCell(0, 3, rng=rng)
    with pytest.raises(ValueError, match="not 'sigmoid'"):
        RNNCell(2, 3, "sigmoid", rng=rng)
    rnn = RNN(RNNCell(N, H, rng=rng, dtype=float))
    X = Tensor(rng.normal(size=(B, T, N)))
    with pytest.raises(ValueError, match="axes batch, time and features"):
        rnn(Tensor(X.data[0]))
    with pytest.raises(ValueError, match=r"h0 has the shape \(2, 11\), expected \(3, 11\)"):
        rnn(X, Tensor(np.zeros((2, H))))
    with pytest.raises(ValueError, match=r"mask has the shape \(3, 6\), expected \(3, 7\)"):
        rnn(X, mask=np.ones((B, T - 1), bool))


# ---- through time -------------------------------------------------------------------------------


def as_params(model):
    cell = model.rnn.cell
    return {
        "W_x": cell.weight_x.data,
        "W_h": cell.weight_h.data,
        "b": cell.bias.data,
        "W_o": model.output.weight.data,
        "b_o": model.output.bias.data,
    }


def gradients(model):
    cell = model.rnn.cell
    return {
        "W_x": cell.weight_x.grad,
        "W_h": cell.weight_h.grad,
        "b": cell.bias.grad,
        "W_o": model.output.weight.grad,
        "b_o": model.output.bias.grad,
    }


def test_manual_backpropagation_equals_the_engine_and_pytorch(rng):
    model = CharRNN(27, H, rng=rng, dtype=float)
    ids, targets = encode_names(["ann", "guillermina", "eve", "jo"])
    loss, found = bptt_manual(as_params(model), ids, targets)
    logits, _ = model(ids)
    expected = cross_entropy(logits, targets)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    for name, gradient in gradients(model).items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-10, atol=1e-13)

    leaves = {n: torch.tensor(p, requires_grad=True) for n, p in as_params(model).items()}
    h, pieces = torch.zeros(len(ids), H, dtype=torch.float64), []
    for t in range(ids.shape[1]):
        x = leaves["W_x"].T[torch.tensor(ids[:, t])]
        h = torch.tanh(x + h @ leaves["W_h"].T + leaves["b"])
        pieces.append(h @ leaves["W_o"].T + leaves["b_o"])
    z = torch.stack(pieces, 1).reshape(-1, 27)
    peer = torch.nn.functional.cross_entropy(z, torch.tensor(targets.reshape(-1)))
    peer.backward()
    assert loss == pytest.approx(peer.item(), rel=1e-12)
    for name, leaf in leaves.items():
        same(found[name], leaf.grad)


def test_pieces_as_long_as_the_sequence_are_the_whole_gradient(rng):
    model = CharRNN(N, H, rng=rng, dtype=float)
    ids, targets = rng.integers(0, N, (B, T)), rng.integers(0, N, (B, T))
    cross_entropy(model(ids)[0], targets).backward()
    whole = {n: g.copy() for n, g in gradients(model).items()}
    losses = []
    for k in (1, 2, 3, T, T + 4):
        model.zero_grad()
        loss, h = truncated_bptt(model, ids, targets, k)
        losses.append(loss)
        assert not h.requires_grad
        equal = [np.allclose(g, whole[n], rtol=1e-10) for n, g in gradients(model).items()]
        assert all(equal) == (k >= T)
        np.testing.assert_allclose(model.output.weight.grad, whole["W_o"], rtol=1e-10)
    np.testing.assert_allclose(losses, losses[0], rtol=1e-12)


def test_pieces_equal_pytorch_with_detach(rng):
    model = CharRNN(N, H, rng=rng, dtype=float)
    ids, targets = rng.integers(0, N, (B, T)), rng.integers(0, N, (B, T))
    targets[:, 2] = -100
    k, h0 = 3, rng.normal(size=(B, H))
    leaves = {n: torch.tensor(p, requires_grad=True) for n, p in as_params(model).items()}
    h, total = torch.tensor(h0), 0.0
    for t in range(T):
        if t % k == 0:
            h = h.detach()
        h = torch.tanh(leaves["W_x"].T[torch.tensor(ids[:, t])] + h @ leaves["W_h"].T + leaves["b"])
        z = h @ leaves["W_o"].T + leaves["b_o"]
        total = total + torch.nn.functional.cross_entropy(
            z, torch.tensor(targets[:, t]), reduction="sum", ignore_index=-100
        )
    total = total / (targets != -100).sum()
    total.backward()
    loss, last = truncated_bptt(model, ids, targets, k, Tensor(h0))
    assert loss == pytest.approx(total.item(), rel=1e-12)
    same(last.data, h)
    for name, gradient in gradients(model).items():
        same(gradient, leaves[name].grad)


def test_truncation_refuses_what_it_cannot_do(rng):
    model = CharRNN(N, H, rng=rng)
    ids = rng.integers(0, N, (B, T))
    with pytest.raises(ValueError, match="received k = 0"):
        truncated_bptt(model, ids, ids, 0)
    with pytest.raises(ValueError, match="no target counts"):
        truncated_bptt(model, ids, np.full((B, T), -100), 2)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_jacobian_norms_equal_pytorchs_jacobians(rng, activation):
    cells, peer = cell_and_peer(rng, activation=activation)
    X = rng.normal(size=(T, N))
    norms = jacobian_norms(cells[0][0], X)
    states, _ = peer(torch.tensor(X)[None])
    for s in range(T):
        t = T - 1 - s
        rest = torch.tensor(X[t + 1 :])[None]

        def last(h, rest=rest):
            return peer(rest, h[None, None])[1][0, 0] if rest.shape[1] else h

        J = torch.autograd.functional.jacobian(last, states[0, t].detach())
        assert norms[s] == pytest.approx(float(torch.linalg.matrix_norm(J, 2)), rel=1e-9)


def test_the_scalar_case_reaches_66_steps_back(rng):
    cell = RNNCell(1, 1, rng=rng, dtype=float)
    cell.weight_h.data[:], cell.bias.data[:] = 0.9, 0.0
    norms = jacobian_norms(cell, np.zeros((100, 1)))
    np.testing.assert_allclose(norms, 0.9 ** np.arange(100), rtol=1e-12)
    assert np.argmax(norms < 1e-3) == 66


def test_recall_task(rng):
    ids, targets = recall_task(rng, 500, 5, symbols=3)
    assert ids.shape == targets.shape == (500, 7)
    assert set(ids[:, 0]) == {0, 1, 2}
    assert set(ids[:, 1:-1].ravel()) == {3, 4, 5}
    assert set(ids[:, -1]) == {6}
    np.testing.assert_array_equal(targets[:, -1], ids[:, 0])
    assert (targets[:, :-1] == -100).all()
    assert recall_task(rng, 2, 0)[0].shape == (2, 2)
    with pytest.raises(ValueError, match="a delay of -1"):
        recall_task(rng, 2, -1)


def test_no_graph_under_no_grad(rng):
    model = CharRNN(N, H, rng=rng)
    with no_grad():
        logits, h = model(rng.integers(0, N, (B, T)))
    assert not logits.requires_grad
    assert not h.requires_grad


def test_what_the_page_says_about_pytorch(rng):
    rnn = torch.nn.RNN(27, 128, batch_first=True)
    states, last = rnn(torch.zeros(3, 7, 27))
    assert states.shape == (3, 7, 128)
    assert last.shape == (1, 3, 128)
    states, last = torch.nn.RNN(27, 128)(torch.zeros(7, 3, 27))
    assert states.shape == (7, 3, 128)
    assert last.shape == (1, 3, 128)
    parameters = dict(rnn.named_parameters())
    assert set(parameters) == {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"}
    for parameter in parameters.values():  # uniform in ±1/√128
        assert float(parameter.detach().abs().max()) <= 128**-0.5
        assert float(parameter.detach().abs().max()) > 0.9 * 128**-0.5
    own = RNNCell(27, 128, rng=rng, dtype=float).weight_h.data
    for weight in (parameters["weight_hh_l0"].detach().numpy(), own):
        assert 0.5 < np.abs(np.linalg.eigvals(weight)).max() < 0.68


def test_what_the_page_says_about_pytorchs_padding():
    rnn = torch.nn.RNN(2, 3, batch_first=True)
    x = torch.randn(2, 5, 2)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, [5, 2], True, enforce_sorted=False)
    output, last = rnn(packed)
    states, _ = torch.nn.utils.rnn.pad_packed_sequence(output, batch_first=True)
    torch.testing.assert_close(last[0, 1], rnn(x[1:, :2])[1][0, 0])
    assert (states[1, 2:] == 0).all()


def test_what_the_page_says_about_cutting_and_clipping_in_pytorch():
    rnn = torch.nn.RNN(2, 3)
    x, h = torch.randn(4, 1, 2), torch.zeros(1, 1, 3)
    states, h = rnn(x, h)
    states.sum().backward()
    norm = torch.sqrt(sum((p.grad**2).sum() for p in rnn.parameters()))
    returned = torch.nn.utils.clip_grad_norm_(rnn.parameters(), 0.01)
    torch.testing.assert_close(returned, norm)
    clipped = torch.sqrt(sum((p.grad**2).sum() for p in rnn.parameters()))
    assert float(clipped) == pytest.approx(0.01, rel=1e-3)
    states, _ = rnn(x, h)
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        states.sum().backward()
    states, _ = rnn(x, h.detach())
    states.sum().backward()
