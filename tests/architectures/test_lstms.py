"""LSTM and GRU against PyTorch (values and all gradients), differences, and by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.architectures.lstms import (
    GRU,
    LSTM,
    CharLSTM,
    GRUCell,
    LSTMCell,
    chrono_init_,
    forget_bias,
    gate_trace,
    lstm_step_manual,
    memory_half_life,
)
from chainrule.architectures.lstms.layers import _gru, _lstm
from chainrule.neural_networks.backpropagation import Tensor, gradcheck, stack

B, T, N, H = 3, 7, 5, 11
KINDS = {"LSTM": (LSTM, LSTMCell, torch.nn.LSTM), "GRU": (GRU, GRUCell, torch.nn.GRU)}


def layers_and_peer(rng, kind, layers=1, both=False, dtype=np.float64):
    """One of our layers and PyTorch's with the same weights; names of the cells in PyTorch."""
    ours, _, theirs = KINDS[kind]
    peer = theirs(N, H, layers, batch_first=True, bidirectional=both)
    peer = peer.to(torch.float64 if dtype == np.float64 else torch.float32)
    mine = ours(N, H, layers, both, rng=rng, dtype=dtype)
    names = [f"l{i}{s}" for i in range(layers) for s in ("", "_reverse")[: 1 + both]]
    for cell, name in zip(mine.cells, names, strict=True):
        half = rng.normal(size=cell.bias.shape).astype(dtype)  # two biases; ours is their sum
        rest = cell.bias.data - half
        if kind == "GRU":  # the second bias of the candidate stays on its own
            half[2 * H :], rest[2 * H :] = cell.bias.data[2 * H :], cell.bias_h.data
        with torch.no_grad():
            getattr(peer, f"weight_ih_{name}").copy_(torch.tensor(cell.weight_x.data))
            getattr(peer, f"weight_hh_{name}").copy_(torch.tensor(cell.weight_h.data))
            getattr(peer, f"bias_ih_{name}").copy_(torch.tensor(half))
            getattr(peer, f"bias_hh_{name}").copy_(torch.tensor(rest))
    return mine, peer, names


def same(ours, theirs, rtol=1e-10, atol=1e-11):
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=rtol, atol=atol)


def same_gradients(mine, peer, names, rtol=1e-10, atol=1e-11):
    for cell, name in zip(mine.cells, names, strict=True):
        same(cell.weight_x.grad, getattr(peer, f"weight_ih_{name}").grad, rtol, atol)
        same(cell.weight_h.grad, getattr(peer, f"weight_hh_{name}").grad, rtol, atol)
        same(cell.bias.grad, getattr(peer, f"bias_ih_{name}").grad, rtol, atol)
        if isinstance(cell, GRUCell):
            same(cell.bias_h.grad, getattr(peer, f"bias_hh_{name}").grad[2 * H :], rtol, atol)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("layers", "both"), [(1, False), (2, False), (1, True), (3, True)])
@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"), [(np.float64, 1e-10, 1e-11), (np.float32, 1e-4, 2e-5)]
)
def test_outputs_states_and_all_gradients_equal_pytorch(rng, kind, layers, both, dtype, rtol, atol):
    mine, peer, names = layers_and_peer(rng, kind, layers, both, dtype)
    cells = len(names)

    def leaf(*shape):
        array = rng.normal(size=shape).astype(dtype)
        return Tensor(array, requires_grad=True), torch.tensor(array, requires_grad=True)

    (X, x), (h0, h), (c0, c) = leaf(B, T, N), leaf(cells, B, H), leaf(cells, B, H)
    if kind == "LSTM":
        out, last = mine(X, (h0, c0))
        expected, end = peer(x, (h, c))
    else:
        out, end_mine = mine(X, h0)
        expected, end_theirs = peer(x, h)
        last, end = (end_mine,), (end_theirs,)
    assert out.dtype == dtype
    same(out.data, expected, rtol, atol)
    ups = [rng.normal(size=out.shape).astype(dtype)]
    ours, theirs = (out * ups[0]).sum(), (expected * torch.tensor(ups[0])).sum()
    for a, b in zip(last, end, strict=True):
        same(a.data, b, rtol, atol)
        up = rng.normal(size=a.shape).astype(dtype)
        ours, theirs = ours + (a * up).sum(), theirs + (b * torch.tensor(up)).sum()
    ours.backward()
    theirs.backward()
    same(X.grad, x.grad, rtol, atol)
    same(h0.grad, h.grad, rtol, atol)
    if kind == "LSTM":
        same(c0.grad, c.grad, rtol, atol)
    same_gradients(mine, peer, names, rtol, atol)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("both", [False, True])
def test_padded_sequences_equal_pytorchs_packed_ones(rng, kind, both):
    mine, peer, names = layers_and_peer(rng, kind, 2, both)
    lengths = [7, 1, 4]
    mask = np.arange(T) < np.array(lengths)[:, None]
    X = Tensor(rng.normal(size=(B, T, N)), requires_grad=True)
    x = torch.tensor(X.data, requires_grad=True)
    out, last = mine(X, mask=mask)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
    output, end = peer(packed)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(output, batch_first=True, total_length=T)
    same(out.data * mask[..., None], expected)
    last, end = (last, end) if kind == "LSTM" else ((last,), (end,))
    g = rng.normal(size=out.shape) * mask[..., None]
    ours, theirs = (out * g).sum(), (expected * torch.tensor(g)).sum()
    for a, b in zip(last, end, strict=True):
        same(a.data, b)
        up = rng.normal(size=a.shape)
        ours, theirs = ours + (a * up).sum(), theirs + (b * torch.tensor(up)).sum()
    ours.backward()
    theirs.backward()
    same(X.grad, x.grad)
    same_gradients(mine, peer, names)


@pytest.mark.parametrize("kind", KINDS)
def test_single_cells_equal_pytorchs(rng, kind):
    mine, peer, _ = layers_and_peer(rng, kind)
    cell, theirs = mine.cells[0], getattr(torch.nn, f"{kind}Cell")(N, H).double()
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(theirs, name).data.copy_(getattr(peer, f"{name}_l0"))
    x, h, c = (rng.normal(size=(B, n)) for n in (N, H, H))
    if kind == "LSTM":
        for state in ((h, c), None):
            ours = cell(Tensor(x), state and tuple(map(Tensor, state)))
            expected = theirs(torch.tensor(x), state and tuple(map(torch.tensor, state)))
            for a, b in zip(ours, expected, strict=True):
                same(a.data, b)
    else:
        same(cell(Tensor(x), Tensor(h)).data, theirs(torch.tensor(x), torch.tensor(h)))
        same(cell(Tensor(x)).data, theirs(torch.tensor(x)))


def test_the_step_by_hand_equals_pytorch(rng):
    cell = LSTMCell(N, H, rng=rng, dtype=float)
    arrays = [rng.normal(size=s) for s in ((B, N), (B, H), (B, H))]
    arrays += [p.data for p in (cell.weight_x, cell.weight_h, cell.bias)]
    h, c, vjp = lstm_step_manual(*arrays)
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    x_, h_, c_, W_x, W_h, b = leaves
    expected = torch._VF.lstm_cell(x_, (h_, c_), W_x, W_h, b, torch.zeros_like(b))
    g = [rng.normal(size=(B, H)) for _ in "hc"]
    sum((e * torch.tensor(u)).sum() for e, u in zip(expected, g, strict=True)).backward()
    same(h, expected[0])
    same(c, expected[1])
    for mine, leaf in zip(vjp(*g), leaves, strict=True):
        same(mine, leaf.grad)


@pytest.mark.parametrize("reset_after", [True, False])
def test_the_fused_loops_equal_their_compositions(rng, reset_after):
    X, g = rng.normal(size=(B, T, N)), rng.normal(size=(B, T, H))
    mask = rng.random((B, T)) < 0.6
    for layer in (
        LSTM(N, H, rng=rng, dtype=float),
        GRU(N, H, reset_after=reset_after, rng=rng, dtype=float),
    ):
        cell, found = layer.cells[0], []
        for composed in (False, True):
            layer.zero_grad()
            if composed:
                zero = Tensor(np.zeros((B, H)))
                state, rows = (zero, zero) if isinstance(layer, LSTM) else (zero,), []
                for t in range(T):
                    given_ = state if isinstance(layer, LSTM) else state[0]
                    new = cell(Tensor(X[:, t]), given_)
                    new = new if isinstance(layer, LSTM) else (new,)
                    read = mask[:, t, None].astype(float)
                    pairs = zip(new, state, strict=True)
                    state = tuple(a * read + b * (1 - read) for a, b in pairs)
                    rows.append(state[0])
                out = stack(rows, axis=1)
            else:
                out, _ = layer(Tensor(X), mask=mask)
            out.backward(g)
            found.append([out.data, *(p.grad for p in cell.parameters())])
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 4), st.integers(0, 999), st.booleans())
def test_gradients_equal_differences(batch, time, n, seed, masked):
    rng = np.random.default_rng(seed)
    mask = rng.random((batch, time)) < 0.6 if masked else None

    def leaves(*shapes):
        return [Tensor(rng.normal(size=shape), requires_grad=True) for shape in shapes]

    lstm = leaves((batch, time, 4 * n), (batch, n), (batch, n), (4 * n, n))
    assert gradcheck(lambda *a: _lstm(*a, mask=mask), lstm)
    gru = leaves((batch, time, 3 * n), (batch, n), (3 * n, n), (n,))
    for after in (True, False):
        assert gradcheck(lambda *a, after=after: _gru(*a, mask=mask, reset_after=after), gru)


def test_the_papers_gru_by_its_formulas(rng):
    cell = GRUCell(N, H, reset_after=False, rng=rng, dtype=float)
    assert cell.bias_h is None
    x, h = rng.normal(size=(B, N)), rng.normal(size=(B, H))
    W, U, b = (p.data.reshape(3, H, -1) for p in (cell.weight_x, cell.weight_h, cell.bias))
    r, z = (1 / (1 + np.exp(-(x @ W[k].T + h @ U[k].T + b[k, :, 0]))) for k in (0, 1))
    candidate = np.tanh(x @ W[2].T + (r * h) @ U[2].T + b[2, :, 0])
    expected = z * h + (1 - z) * candidate
    np.testing.assert_allclose(cell(Tensor(x), Tensor(h)).data, expected, rtol=1e-12)


def test_ids_pick_what_one_hot_vectors_pick(rng):
    ids, g = rng.integers(0, N, (B, T)), rng.normal(size=(B, T, H))
    for layer in (LSTM(N, H, rng=rng, dtype=float), GRU(N, H, rng=rng, dtype=float)):
        found = []
        for X in (ids, Tensor(np.eye(N)[ids])):
            layer.zero_grad()
            out, _ = layer(X)
            out.backward(g)
            found.append([out.data, *(p.grad.copy() for p in layer.parameters())])
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


def test_a_sequence_in_two_halves_is_one_sequence(rng):
    model = CharLSTM(N, H, rng=rng, dtype=float)
    ids = rng.integers(0, N, (B, T))
    whole, end = model(ids)
    first, state = model(ids[:, :3])
    second, last = model(ids[:, 3:], state)
    both = np.concatenate([first.data, second.data], axis=1)
    np.testing.assert_allclose(whole.data, both, rtol=1e-12)
    for a, b in zip(end, last, strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-12)


# ---- counts, starts, memories -------------------------------------------------------------------


def count(module):
    return sum(p.data.size for p in module.parameters())


def test_parameters_are_counted_as_on_the_page(rng):
    e, h = 24, 64
    assert count(LSTMCell(e, h, rng=rng)) == 4 * (h * (h + e) + h) == 22_784
    assert sum(p.numel() for p in torch.nn.LSTM(e, h).parameters()) == 23_040
    assert count(GRUCell(e, h, reset_after=False, rng=rng)) == 22_784 * 3 // 4
    assert count(GRUCell(e, h, rng=rng)) == 22_784 * 3 // 4 + h


def test_starts_are_uniform_but_for_the_forget_bias(rng):
    cell = LSTMCell(13, 101, rng=rng)
    b = cell.bias.data
    assert (b[101:202] == 1).all()
    for part in (cell.weight_x.data, cell.weight_h.data, np.delete(b, np.s_[101:202])):
        assert np.abs(part).max() <= 1 / math.sqrt(101)
        assert np.abs(part).mean() == pytest.approx(0.5 / math.sqrt(101), rel=0.1)
    free = LSTMCell(13, 101, None, rng=rng).bias.data[101:202]
    assert np.abs(free).max() <= 1 / math.sqrt(101)
    assert (LSTMCell(13, 101, 4, rng=rng).bias.data[101:202] == 4).all()


def test_half_lives():
    assert memory_half_life(0.5) == 1
    assert memory_half_life(0) == 0
    assert memory_half_life(1) == math.inf
    f = np.array([0.1, 0.731, 0.9931])
    np.testing.assert_allclose(f ** memory_half_life(f), 0.5, rtol=1e-12)
    for steps in (0.1, 1, 20, 100, 1e6, 1e12):
        f = 1 / (1 + np.exp(-forget_bias(steps)))
        assert memory_half_life(f) == pytest.approx(steps, rel=1e-3)
    assert forget_bias(100) == pytest.approx(4.97, abs=0.005)
    assert forget_bias(1) == pytest.approx(0)
    for wrong in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            memory_half_life(wrong)
    for wrong in (0, -3, np.nan):
        with pytest.raises(ValueError, match="positive"):
            forget_bias(wrong)


def test_chrono_spreads_memories_up_to_the_longest(rng):
    cell = LSTMCell(3, 1009, rng=rng)
    chrono_init_(cell, 62, rng)
    i, f, g, o = cell.bias.data.reshape(4, -1)
    np.testing.assert_array_equal(i, -f)
    assert not g.any()
    assert not o.any()
    u = np.exp(f)
    assert 1 <= u.min() < 2
    assert 60 < u.max() <= 61
    assert u.mean() == pytest.approx(31, abs=2)
    gate = 1 / (1 + np.exp(-f))
    np.testing.assert_allclose(1 / (1 - gate), 1 + u, rtol=1e-4)  # forgets one part in 1 + u
    gru = GRUCell(3, 1009, rng=rng)
    chrono_init_(gru, 62, rng)
    r, z, n = gru.bias.data.reshape(3, -1)
    assert not r.any()
    assert not n.any()
    assert not gru.bias_h.data.any()
    assert 60 < np.exp(z).max() <= 61
    for wrong in (1.9, np.nan):
        with pytest.raises(ValueError, match="at least two steps"):
            chrono_init_(cell, wrong, rng)


def test_the_trace_is_what_the_model_computes(rng):
    model = CharLSTM(N, H, rng=rng, dtype=float)
    ids = rng.integers(0, N, T)
    trace = gate_trace(model, ids)
    H_, (h, c) = model.rnn(ids[None])
    np.testing.assert_allclose(trace["h"], H_.data[0], rtol=1e-12)
    np.testing.assert_allclose(trace["h"][-1], h.data[0, 0], rtol=1e-12)
    np.testing.assert_allclose(trace["c"][-1], c.data[0, 0], rtol=1e-12)
    before = np.concatenate([np.zeros((1, H)), trace["c"][:-1]])
    np.testing.assert_allclose(trace["f"] * before + trace["i"] * trace["g"], trace["c"])
    np.testing.assert_allclose(trace["o"] * np.tanh(trace["c"]), trace["h"])
    assert gate_trace(model, np.zeros(0, int))["f"].shape == (0, H)
    with pytest.raises(ValueError, match="one sequence"):
        gate_trace(model, ids[None])
    with pytest.raises(ValueError, match="one sequence"):
        gate_trace(model, ids.astype(float))


# ---- nasty inputs -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(0, T, N), (B, 0, N), (1, 1, 1)])
def test_empty_and_smallest_batches(rng, kind, shape):
    layer = KINDS[kind][0](shape[-1], 2, rng=rng, dtype=float)
    out, last = layer(Tensor(rng.normal(size=shape)))
    assert out.shape == (*shape[:2], 2)
    for part in last if kind == "LSTM" else (last,):
        assert part.shape == (1, shape[0], 2)
    out.backward(np.ones(out.shape))
    gradient = layer.cells[0].weight_h.grad
    assert gradient.shape == (layer.cells[0].gates * 2, 2)
    if not out.size:
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_huge_and_tiny_inputs_stay_finite(rng, kind, size):
    layer = KINDS[kind][0](N, H, rng=rng, dtype=float)
    out, _ = layer(Tensor(size * rng.normal(size=(B, T, N))))
    out.backward(rng.normal(size=out.shape))
    assert np.isfinite(out.data).all()
    assert all(np.isfinite(p.grad).all() for p in layer.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_nan_is_not_hidden_and_does_not_spread(rng, kind):
    layer = KINDS[kind][0](N, H, rng=rng, dtype=float)
    X = rng.normal(size=(B, T, N))
    X[1, 3, 0] = np.nan
    out = layer(Tensor(X))[0].data
    assert np.isnan(out[1, 3:]).all()
    assert np.isfinite(out[[0, 2]]).all()
    assert np.isfinite(out[1, :3]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_fit_is_refused(rng, kind):
    ours, cell, _ = KINDS[kind]
    with pytest.raises(ValueError, match="at least 1, received 0 and 3"):
        cell(0, 3, rng=rng)
    with pytest.raises(ValueError, match="needs a layer, received 0"):
        ours(2, 3, 0, rng=rng)
    layer = ours(N, H, rng=rng, dtype=float)
    X = Tensor(rng.normal(size=(B, T, N)))
    with pytest.raises(ValueError, match="axes batch, time and features"):
        layer(Tensor(X.data[0]))
    with pytest.raises(ValueError, match="expects 5 features"):
        layer(Tensor(X.data[..., :4]))
    with pytest.raises(ValueError, match=r"mask has the shape \(3, 6\), expected \(3, 7\)"):
        layer(X, mask=np.ones((B, T - 1), bool))
    for shape, message in (((2, B, H), "2 cells"), ((1, 2, H), r"expected \(3, 11\)")):
        h = Tensor(np.zeros(shape))
        with pytest.raises(ValueError, match=message):
            layer(X, (h, h) if kind == "LSTM" else h)
    ids = rng.integers(0, N, (B, T))
    expected = layer(ids)[0].data
    np.testing.assert_array_equal(layer(ids.astype(np.uint8))[0].data, expected)


# ---- the boxes "In PyTorch" ---------------------------------------------------------------------


def test_facts_in_the_boxes():
    lstm = torch.nn.LSTM(5, 7, num_layers=2, batch_first=True)
    assert [n for n, _ in lstm.named_parameters()][:4] == [
        "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0",
    ]  # fmt: skip
    assert lstm.weight_ih_l0.shape == (28, 5)
    out, (h, c) = lstm(torch.zeros(2, 3, 5))
    assert out.shape == (2, 3, 7)
    assert h.shape == c.shape == (2, 2, 7)
    assert torch.equal(out[:, -1], h[-1])
    bound = 1 / math.sqrt(7)
    for p in lstm.parameters():  # no forget bias of 1 at the start
        assert p.abs().max() <= bound
    assert not torch.nn.LSTM(5, 7).batch_first
    zeros = torch.zeros(2, 2, 7)
    x = torch.randn(2, 3, 5)
    torch.testing.assert_close(lstm(x)[0], lstm(x, (zeros, zeros))[0])


def test_pytorchs_update_gate_keeps(rng):
    gru = torch.nn.GRUCell(5, 7)
    with torch.no_grad():
        gru.bias_ih[7:14] = 100.0
        h = torch.randn(2, 7)
        torch.testing.assert_close(gru(torch.randn(2, 5), h), h)
    assert gru.bias_hh.shape == (21,)
