"""Streaming attention against dense and against PyTorch; states that merge; bytes; packed heads."""

import math
import tracemalloc

import numpy as np
import pytest
import scipy.special
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.neural_networks.backpropagation import Tensor, gradcheck
from chainrule.transformers.attention import (
    SoftmaxState,
    attention_io_bytes,
    flash_attention,
    merge_states,
    online_softmax,
    packed_attention,
    scaled_dot_product_attention,
    softmax_state,
)

B, H, T, S, D, V = 2, 3, 5, 7, 4, 6
seeds = st.integers(0, 2**32 - 1)


def leaf(rng, *shape):
    return Tensor(rng.standard_normal(shape), requires_grad=True)


def both(tensors):
    return [torch.tensor(t.data, requires_grad=True) for t in tensors]


def same_gradients(ours, theirs, y, z, rng, rtol=1e-9, atol=1e-11):
    np.testing.assert_allclose(y.data, z.detach(), rtol=rtol, atol=atol)
    weights = rng.standard_normal(y.shape).astype(y.dtype)
    y.backward(weights)
    z.backward(torch.tensor(weights))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad, b.grad, rtol=rtol, atol=atol)


@settings(max_examples=60)
@given(data=st.data())
def test_flash_attention_equals_dense_for_any_block(data):
    rng = np.random.default_rng(data.draw(seeds))
    causal = data.draw(st.booleans())
    queries = data.draw(st.integers(1, 9))
    keys = data.draw(st.integers(queries if causal else 1, 11))
    block = data.draw(st.integers(1, 12))
    scale = data.draw(st.sampled_from([None, 0.7]))
    ours = [leaf(rng, B, queries, D), leaf(rng, B, keys, D), leaf(rng, B, keys, V)]
    dense = [Tensor(t.data, requires_grad=True) for t in ours]
    y, lse = flash_attention(*ours, block=block, causal=causal, scale=scale)
    mask = np.tri(queries, keys, keys - queries, dtype=bool) if causal else None
    z, _ = scaled_dot_product_attention(*dense, mask, scale)
    np.testing.assert_allclose(y.data, z.data, rtol=1e-10, atol=1e-12)
    scores = ours[0].data @ ours[1].data.swapaxes(-1, -2) * (scale or 1 / math.sqrt(D))
    expected = scipy.special.logsumexp(
        np.where(True if mask is None else mask, scores, -np.inf), -1
    )
    np.testing.assert_allclose(lse, expected, rtol=1e-10, atol=1e-12)
    weights = rng.standard_normal(y.shape)
    y.backward(weights)
    z.backward(weights)
    for a, b in zip(ours, dense, strict=True):
        np.testing.assert_allclose(a.grad, b.grad, rtol=1e-9, atol=1e-11)


def test_flash_attention_against_pytorch_and_differences(rng):
    for causal in (False, True):
        ours = [leaf(rng, B, H, S, D), leaf(rng, B, H, S, D), leaf(rng, B, H, S, V)]
        theirs = both(ours)
        y, _ = flash_attention(*ours, block=3, causal=causal)
        z = F.scaled_dot_product_attention(*theirs, is_causal=causal)
        same_gradients(ours, theirs, y, z, rng)
    small = [leaf(rng, 3, 2), leaf(rng, 4, 2), leaf(rng, 4, 3)]
    gradcheck(lambda q, k, v: flash_attention(q, k, v, block=2)[0], small)
    gradcheck(lambda q, k, v: flash_attention(q, k, v, block=2, causal=True)[0], small)
    with pytest.raises(ValueError, match="a key for each of 7 queries, got 5"):
        flash_attention(leaf(rng, S, D), leaf(rng, T, D), leaf(rng, T, V), causal=True)
    with pytest.raises(ValueError, match="at least one key"):
        flash_attention(leaf(rng, S, D), leaf(rng, 0, D), leaf(rng, 0, V))


def test_streaming_never_holds_the_whole_matrix(rng):
    n = 1024
    q, k, v = (Tensor(rng.standard_normal((n, 8)), requires_grad=True) for _ in range(3))

    def peak(attend):
        tracemalloc.start()
        attend(q, k, v)[0].backward(np.ones((n, 8)))
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(lambda *t: flash_attention(*t, block=64)) < n * n  # bytes: an eighth of one matrix
    assert peak(scaled_dot_product_attention) > 3 * 8 * n * n


@settings(max_examples=40)
@given(seed=seeds, sizes=st.lists(st.integers(1, 5), min_size=3, max_size=3))
def test_merging_states_is_associative(seed, sizes):
    rng = np.random.default_rng(seed)
    scores = [rng.standard_normal((T, n)) * 20 for n in sizes]
    scores[0][0] = -np.inf
    values = [rng.standard_normal((n, V)) for n in sizes]
    a, b, c = map(softmax_state, scores, values)
    for one, two in zip(merge_states(merge_states(a, b), c), merge_states(a, merge_states(b, c)),
                        strict=True):  # fmt: skip
        np.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-12)
    mean, lse = online_softmax(zip(scores, values, strict=True))
    together = np.concatenate(scores, axis=1)
    np.testing.assert_allclose(
        mean,
        scipy.special.softmax(together, axis=1) @ np.concatenate(values),
        rtol=1e-10,
        atol=1e-12,
    )
    np.testing.assert_allclose(lse, scipy.special.logsumexp(together, axis=1), rtol=1e-12)


def test_online_softmax_without_keys():
    mean, lse = online_softmax([(np.full((1, 2), -np.inf), np.ones((2, 1)))])
    assert mean == 0
    assert lse == -np.inf
    with pytest.raises(ValueError, match="at least one block"):
        online_softmax([])


def test_bytes_moved():
    n, d, sram = 1024, 64, 100_000
    block = max(b for b in range(1, 200) if 4 * b * d + b * b <= sram // 4)
    assert attention_io_bytes(n, d, sram) == (
        4 * (4 * n * d + 4 * n * n),
        4 * (2 * n * d + n + -(-n // block) * 2 * n * d),
    )
    assert attention_io_bytes(n, d, sram).flash < attention_io_bytes(n, d, sram).dense
    tiny = attention_io_bytes(n, d, 4 * (4 * d + 1))  # blocks of one query: worse than dense
    assert tiny.flash > tiny.dense
    with pytest.raises(ValueError, match="needs 1028"):
        attention_io_bytes(n, d, 1000)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("block", [2, 64])
def test_packed_attention_is_attention_by_head(causal, block, rng):
    packed = leaf(rng, B, T, 3 * H * D)
    y = packed_attention(packed, H, causal, block)
    apart = Tensor(packed.data, requires_grad=True)
    q, k, v = (apart[..., i * H * D : (i + 1) * H * D].reshape(B, T, H, D).transpose(1, 2)
               for i in range(3))  # fmt: skip
    z, _ = scaled_dot_product_attention(q, k, v, np.tri(T, dtype=bool) if causal else None)
    z = z.transpose(1, 2).reshape(B, T, H * D)
    np.testing.assert_allclose(y.data, z.data, rtol=1e-10)
    weights = rng.standard_normal(y.shape)
    y.backward(weights)
    z.backward(weights)
    np.testing.assert_allclose(packed.grad, apart.grad, rtol=1e-9, atol=1e-12)


def test_packed_attention_can_be_walked_twice(rng):
    packed = leaf(rng, B, T, 3 * H * D)
    y = packed_attention(packed, H, True, 2)
    weights = rng.standard_normal(y.shape)
    y.backward(weights, retain_graph=True)
    once = packed.grad.copy()
    y.backward(weights)
    np.testing.assert_allclose(packed.grad, 2 * once)
    gradcheck(lambda x: packed_attention(x, 2, True, 2), [leaf(rng, 1, 3, 12)])


@settings(max_examples=40)
@given(data=st.data())
def test_a_sink_in_the_stream_equals_a_sink_in_the_table(data):
    rng = np.random.default_rng(data.draw(seeds))
    causal, block = data.draw(st.booleans()), data.draw(st.integers(1, 9))
    shape = data.draw(st.sampled_from([(), (1,), (H, 1, 1), (B, H, 1, 1), (T, 1), (B, 1, T, 1)]))
    shapes = ((B, H, T, D), (B, H, S, D), (B, H, S, V), shape)
    ours = [leaf(rng, *s) for s in shapes]
    dense = [Tensor(t.data, requires_grad=True) for t in ours]
    y, lse = flash_attention(*ours[:3], block=block, causal=causal, sink=ours[3])
    mask = np.tri(T, S, S - T, dtype=bool) if causal else None
    z, weights = scaled_dot_product_attention(*dense[:3], mask, sink=dense[3])
    np.testing.assert_allclose(y.data, z.data, rtol=1e-10, atol=1e-12)
    into_the_sink = np.exp(np.broadcast_to(ours[3].data, (B, H, T, 1))[..., 0] - lse)
    np.testing.assert_allclose(into_the_sink, 1 - weights.data.sum(-1), rtol=1e-9, atol=1e-12)
    g = rng.standard_normal(y.shape)
    y.backward(g)
    z.backward(g)
    for a, b in zip(ours, dense, strict=True):
        np.testing.assert_allclose(a.grad, b.grad, rtol=1e-9, atol=1e-11)


def test_a_sink_is_a_state_to_begin_with(rng):
    scores, values, sink = rng.normal(size=(T, S)), rng.normal(size=(S, V)), rng.normal(size=(T, 1))
    start = SoftmaxState(sink, np.ones((T, 1)), np.zeros((T, V)))
    merged = merge_states(start, softmax_state(scores, values))
    extended = scipy.special.softmax(np.concatenate([scores, sink], axis=1), axis=1)[:, :-1]
    np.testing.assert_allclose(merged.accumulator / merged.total, extended @ values, rtol=1e-12)


def test_flash_attention_in_float32_and_twice(rng):
    shapes = ((B, S, D), (B, S, D), (B, S, V))
    ours = [Tensor(rng.standard_normal(s, dtype=np.float32), requires_grad=True) for s in shapes]
    theirs = [torch.tensor(t.data, requires_grad=True) for t in ours]
    y, lse = flash_attention(*ours, block=3, causal=True, sink=-np.inf)
    z = F.scaled_dot_product_attention(*theirs, is_causal=True)
    assert y.dtype == lse.dtype == np.float32
    np.testing.assert_allclose(y.data, z.detach(), rtol=1e-4, atol=1e-6)
    g = rng.standard_normal(y.shape, dtype=np.float32)
    y.backward(g, retain_graph=True)
    y.backward(g)
    z.backward(torch.tensor(g))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad, 2 * b.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", [0, -3])
def test_a_block_of_nothing_is_refused(block, rng):
    with pytest.raises(ValueError, match=f"at least one position, got {block}"):
        flash_attention(leaf(rng, T, D), leaf(rng, S, D), leaf(rng, S, V), block=block)


@pytest.mark.parametrize("size", [(0, S), (1, 1), (T, S)])
@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e3])
def test_flash_attention_on_the_nasty_list(size, scale, rng):
    queries, keys = size
    q, k, v = leaf(rng, queries, D), leaf(rng, keys, D), leaf(rng, keys, V)
    y, lse = flash_attention(q, k, v, block=2, scale=scale)
    z, _ = scaled_dot_product_attention(Tensor(q.data), Tensor(k.data), Tensor(v.data), None, scale)
    np.testing.assert_allclose(y.data, z.data, rtol=1e-9, atol=1e-12)
    y.backward(np.ones(y.shape))
    assert all(np.isfinite(t.grad).all() for t in (q, k, v))
    assert lse.shape == (queries,)
    broken = leaf(rng, 2, D)
    broken.data[0] = np.nan
    out = flash_attention(broken, k, v, block=2)[0].data
    assert np.isnan(out[0]).all()
    assert np.isfinite(out[1]).all()


def test_the_merge_worked_by_hand():
    first = softmax_state(np.array([[1.0, 3.0]]), np.array([[10.0], [20.0]]))
    second = softmax_state(np.array([[2.0]]), np.array([[40.0]]))
    m, total, a = (part.item() for part in merge_states(first, second))
    np.testing.assert_allclose((m, total, a, a / total), (3, 1.503, 36.07, 23.99), atol=5e-3)


@pytest.mark.parametrize("height", [1e4, -1e4, 1e300, -1e300])
def test_states_far_from_zero(height, rng):
    scores, values = rng.normal(size=(T, 6)) + height, rng.normal(size=(6, V))
    parts = [
        (scores[:, :2], values[:2]),
        (scores[:, 2:2], values[2:2]),
        (scores[:, 2:], values[2:]),
    ]
    mean, lse = online_softmax(parts)
    np.testing.assert_allclose(mean, scipy.special.softmax(scores, axis=1) @ values, rtol=1e-10)
    np.testing.assert_allclose(lse, scipy.special.logsumexp(scores, axis=1), rtol=1e-12)


def test_the_bytes_of_the_page():
    found = attention_io_bytes(4096, 64, 192 * 1024)
    d, n, b = 64, 4096, 128
    assert 4 * b * d + b * b == 192 * 1024 // 4
    assert found == (4 * (4 * n * d + 4 * n * n), 4 * (2 * n * d + n + n // b * 2 * n * d))
    assert [round(count / 4e6, 1) for count in found] == [68.2, 17.3]


def test_packed_attention_against_pytorch(rng):
    for causal in (False, True):
        packed = leaf(rng, B, S, 3 * H * D)
        theirs = torch.tensor(packed.data, requires_grad=True)
        q, k, v = theirs.view(B, S, 3, H, D).permute(2, 0, 3, 1, 4)
        z = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        z = z.transpose(1, 2).reshape(B, S, H * D)
        y = packed_attention(packed, H, causal, 3)
        np.testing.assert_allclose(y.data, z.detach(), rtol=1e-10, atol=1e-12)
        g = rng.standard_normal(y.shape)
        y.backward(g)
        z.backward(torch.tensor(g))
        np.testing.assert_allclose(packed.grad, theirs.grad, rtol=1e-9, atol=1e-11)
