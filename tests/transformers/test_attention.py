"""Attention against PyTorch and SciPy, streaming against dense, and the numbers of the text."""

import inspect
import math
import tracemalloc
import weakref

import numpy as np
import pytest
import scipy.special
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.neural_networks.backpropagation import Tensor, gradcheck
from chainrule.transformers.attention import (
    AdditiveParameters,
    additive_attention,
    attention_io_bytes,
    flash_attention,
    masked_softmax,
    merge_states,
    nadaraya_watson,
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


def same_gradients(ours, theirs, y, z, rng, rtol=1e-9):
    np.testing.assert_allclose(y.data, z.detach(), rtol=rtol, atol=1e-12)
    weights = rng.standard_normal(y.shape)
    y.backward(weights)
    z.backward(torch.tensor(weights))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad, b.grad, rtol=rtol, atol=1e-11)


def test_the_example_worked_by_hand():
    q, k = Tensor(np.array([[1.0, 0.0]])), Tensor(np.eye(2))
    out, weights = scaled_dot_product_attention(q, k, Tensor(np.array([[10.0], [20.0]])))
    np.testing.assert_allclose(weights.data, [[0.670, 0.330]], atol=5e-4)
    assert f"{out.item():.2f}" == "13.30"


@settings(max_examples=30)
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=3), seed=seeds, masked=st.booleans())
def test_masked_softmax(shape, seed, masked):
    rng = np.random.default_rng(seed)
    x = Tensor(rng.standard_normal(shape) * 5, requires_grad=True)
    mask = rng.random(shape[-1:]) < 0.7 if masked else None
    p = masked_softmax(x, mask)
    scores = np.where(True if mask is None else mask, x.data, -np.inf)
    if mask is None or mask.any():
        np.testing.assert_allclose(p.data, scipy.special.softmax(scores, axis=-1), rtol=1e-12)
    else:
        np.testing.assert_array_equal(p.data, 0)
    gradcheck(lambda t: masked_softmax(t, mask), [x], rng=rng)


def test_softmax_at_the_edges(rng):
    huge = Tensor(np.array([[1000.0, -1000.0, 1000.0]]))
    np.testing.assert_array_equal(masked_softmax(huge).data, [[0.5, 0, 0.5]])
    none = masked_softmax(leaf(rng, T, S), np.zeros((T, S), bool))
    np.testing.assert_array_equal(none.data, 0)
    none.backward(rng.standard_normal((T, S)))
    bias = np.where(np.arange(S) < 3, 0, -np.inf)
    x = leaf(rng, T, S)
    np.testing.assert_array_equal(
        masked_softmax(x, bias).data, masked_softmax(x, np.arange(S) < 3).data
    )
    learned = leaf(rng, S)
    gradcheck(lambda x, b: masked_softmax(x, b), [x, learned])
    wide = Tensor(rng.standard_normal((T, S)), requires_grad=True)
    gradcheck(lambda x: masked_softmax(x, rng.random((2, T, S)) < 2), [wide])
    assert masked_softmax(Tensor(np.ones((T, S), np.float32)), np.ones(S, bool)).dtype == np.float32


@pytest.mark.parametrize("kind", ["none", "bool", "float", "causal", "scaled"])
def test_dense_attention_against_pytorch(kind, rng):
    ours = [leaf(rng, B, H, T, D), leaf(rng, B, H, S, D), leaf(rng, B, H, S, V)]
    theirs = both(ours)
    mask = {"bool": rng.random((B, 1, T, S)) < 0.7, "float": rng.standard_normal((H, T, S)),
            "causal": np.tri(T, S, dtype=bool)}.get(kind)  # fmt: skip
    if kind == "bool":
        mask[..., 0] = True
    scale = 0.3 if kind == "scaled" else None
    y, weights = scaled_dot_product_attention(*ours, mask, scale)
    attn_mask = None if mask is None else torch.tensor(mask)
    z = F.scaled_dot_product_attention(*theirs, attn_mask=attn_mask, scale=scale)
    np.testing.assert_allclose(weights.data.sum(-1), 1)
    same_gradients(ours, theirs, y, z, rng)


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


def test_additive_attention(rng):
    params = AdditiveParameters(leaf(rng, 8, D), leaf(rng, 8, V), leaf(rng, 8))
    inputs = [leaf(rng, B, T, D), leaf(rng, B, S, V), leaf(rng, B, S, V)]
    mask = np.arange(S) < 6

    def by_hand(q, k, v, wq, wk, s):
        hidden = torch.tanh((q @ wq.T)[..., :, None, :] + (k @ wk.T)[..., None, :, :])
        scores = (hidden @ s).masked_fill(~torch.tensor(mask), -torch.inf)
        return torch.softmax(scores, -1) @ v

    ours = [*inputs, *params]
    theirs = both(ours)
    y, weights = additive_attention(*inputs, params, mask)
    np.testing.assert_allclose(weights.data.sum(-1), 1)
    same_gradients(ours, theirs, y, by_hand(*theirs), rng)


def test_nadaraya_watson(rng):
    x, y, xq = rng.standard_normal((S, D)), rng.standard_normal((S, V)), rng.standard_normal((T, D))
    found = nadaraya_watson(xq, x, y, 0.8)
    for i in range(T):
        kernel = np.exp(-0.5 * ((xq[i] - x) ** 2).sum(1) / 0.8**2)
        np.testing.assert_allclose(found[i], kernel @ y / kernel.sum(), rtol=1e-12)
    np.testing.assert_allclose(nadaraya_watson(x, x, y, 1e-3), y)  # a narrow kernel looks up
    assert (found <= y.max(0) + 1e-12).all()  # inside the hull of the values
    assert (found >= y.min(0) - 1e-12).all()


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


def test_packed_attention_can_be_walked_twice(rng):
    packed = leaf(rng, B, T, 3 * H * D)
    y = packed_attention(packed, H, True, 2)
    weights = rng.standard_normal(y.shape)
    y.backward(weights, retain_graph=True)
    once = packed.grad.copy()
    y.backward(weights)
    np.testing.assert_allclose(packed.grad, 2 * once)
    gradcheck(lambda x: packed_attention(x, 2, True, 2), [leaf(rng, 1, 3, 12)])


def test_masks_and_widths_that_would_be_misread_are_refused(rng):
    scores = Tensor(rng.normal(size=(2, 3)), requires_grad=True) * 2.0
    with pytest.raises(TypeError, match="got int64"):
        masked_softmax(scores, np.ones((2, 3), int))
    with pytest.raises(ValueError, match="multiple of 6, got 8"):
        packed_attention(Tensor(rng.normal(size=(1, 3, 8))), heads=2)


def test_scores_beyond_sixteen_bits(rng):
    numbers = rng.standard_normal((2, 5, 12)) * 100
    for attend in (
        lambda x: scaled_dot_product_attention(x, x, x)[0],
        lambda x: flash_attention(x, x, x, block=2)[0],
        lambda x: packed_attention(x, 2, True, 2),
    ):
        half = Tensor(numbers.astype(np.float16), requires_grad=True)
        wide = Tensor(half.data.astype(np.float64), requires_grad=True)
        y, z = attend(half), attend(wide)
        assert y.dtype == np.float16
        np.testing.assert_allclose(y.data, z.data, rtol=2e-3, atol=0.2)
        y.backward(np.ones(y.shape))
        z.backward(np.ones(z.shape))
        np.testing.assert_allclose(half.grad, wide.grad, rtol=0.02, atol=0.5)


def test_heads_that_share_keys_are_refused_before_the_backward_pass(rng):
    q, k, v = leaf(rng, H, T, D), leaf(rng, 1, S, D), leaf(rng, 1, S, V)
    with pytest.raises(ValueError, match=r"\(3,\), \(1,\) and \(1,\): expand them"):
        inspect.unwrap(flash_attention)(q, k, v)  # as it is outside of tests, without shape checks


def test_softmax_does_not_keep_the_scores(rng):
    scores = Tensor(rng.normal(size=(2, 3)), requires_grad=True) * 2.0
    weights, alive = masked_softmax(scores), weakref.ref(scores.data)
    del scores
    assert alive() is None
    assert weights.requires_grad
