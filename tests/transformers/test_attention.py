"""Attention against PyTorch, SciPy, Hugging Face and differences, and the numbers of the page."""

import inspect
import types
import weakref

import numpy as np
import pytest
import scipy.special
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.data.sentence import W_K, W_Q, W_V, embed
from chainrule.math_foundations.probability import softmax
from chainrule.neural_networks.backpropagation import Tensor, gradcheck
from chainrule.training.loss_functions import log_softmax
from chainrule.transformers.attention import (
    AdditiveParameters,
    additive_attention,
    flash_attention,
    masked_softmax,
    nadaraya_watson,
    packed_attention,
    scaled_dot_product_attention,
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


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", ["bool", "float", "causal"])
def test_a_sink_against_hugging_face(kind, dtype, rng):
    eager = pytest.importorskip("transformers.models.gpt_oss.modeling_gpt_oss")
    shapes = ((B, H, T, D), (B, H, S, D), (B, H, S, V), (H, 1, 1))
    ours = [Tensor(rng.standard_normal(s).astype(dtype), requires_grad=True) for s in shapes]
    theirs = both(ours)
    mask = {"bool": rng.random((B, 1, T, S)) < 0.7, "causal": np.tri(T, S, dtype=bool)}.get(kind)
    if kind == "bool":
        mask[0, 0, 0] = False  # a query that may look nowhere but into the sink
    added = rng.standard_normal((B, 1, T, S)) if mask is None else np.where(mask, 0.0, -np.inf)
    module = types.SimpleNamespace(num_key_value_groups=1, sinks=theirs[3].ravel(), training=False)
    z, p = eager.eager_attention_forward(
        module, *theirs[:3], torch.tensor(added.astype(dtype)), D**-0.5
    )
    mask = added.astype(dtype) if mask is None else mask
    y, weights = scaled_dot_product_attention(*ours[:3], mask, sink=ours[3])
    exact = dtype is np.float64
    np.testing.assert_allclose(weights.data, p.detach(), rtol=1e-10 if exact else 1e-4, atol=1e-7)
    assert weights.dtype == y.dtype == dtype
    z = z.transpose(1, 2)
    same_gradients(ours, theirs, y, z, rng, 1e-9 if exact else 1e-4, 1e-11 if exact else 1e-5)


def test_a_sink_of_any_shape(rng):
    scores, mask = leaf(rng, B, T, S), rng.random((T, S)) < 0.7
    for shape in ((), (1,), (T, 1), (B, 1, 1), (B, T, 1)):
        gradcheck(lambda x, s: masked_softmax(x, mask, s), [scores, leaf(rng, *shape)], rng=rng)
    wider = masked_softmax(leaf(rng, T, S), None, leaf(rng, B, T, 1))
    assert wider.shape == (B, T, S)
    gradcheck(lambda x, s: masked_softmax(x, None, s), [leaf(rng, T, S), leaf(rng, B, T, 1)])
    np.testing.assert_array_equal(
        masked_softmax(scores, mask, -np.inf).data, masked_softmax(scores, mask).data
    )
    none = masked_softmax(scores, np.zeros((T, S), bool), 0.0)
    np.testing.assert_array_equal(none.data, 0)
    assert masked_softmax(Tensor(np.ones((T, S), np.float32)), sink=1.0).dtype == np.float32


@pytest.mark.parametrize(
    ("scores", "weights"),
    [((0, 0), (1 / 3, 1 / 3)), ((-5, -5), (0.0066, 0.0066)), ((5, 0), (0.9867, 0.0066))],
)
def test_the_sinks_of_the_page(scores, weights):
    found = masked_softmax(Tensor(np.array(scores, float)), sink=0.0)
    np.testing.assert_allclose(found.data, weights, atol=5e-5)


def test_three_softmaxes_agree(rng):
    x = rng.standard_normal((T, S)) * 30
    ours = masked_softmax(Tensor(x)).data
    np.testing.assert_allclose(ours, softmax(x), rtol=1e-13)
    np.testing.assert_allclose(ours, np.exp(log_softmax(Tensor(x)).data), rtol=1e-10)


@pytest.mark.parametrize(
    "scores",
    [
        np.zeros((0, 3)),
        np.zeros((2, 0)),
        np.array([[7.0]]),
        np.array([[1e200, -1e200, 1e200]]),
        np.array([[1e-200, -1e-200]]),
        np.array([[88.0, 89.0, 100.0]], np.float32),
        np.array([[1.0, -np.inf, 2.0]]),
        np.full((2, 3), -np.inf),
        np.array([[np.nan, 1.0], [2.0, 3.0]]),
    ],
    ids=str,
)
@pytest.mark.parametrize("sink", [None, 0.0])
def test_softmax_on_the_nasty_list(scores, sink):
    x = Tensor(scores, requires_grad=True)
    p = masked_softmax(x, sink=sink)
    p.backward(np.ones(p.shape, scores.dtype))
    assert p.dtype == x.grad.dtype == scores.dtype
    assert p.shape == x.grad.shape == scores.shape
    broken = np.isnan(scores).any(axis=-1)
    assert np.isnan(p.data[broken]).all()  # NaN stays in its row, and is not hidden
    rest = p.data[~broken]
    assert np.isfinite(rest).all()
    assert np.isfinite(x.grad[~broken]).all()
    full = np.isfinite(scores[~broken]).any(axis=-1)
    total = rest.sum(axis=-1)
    assert (np.abs(total - full) < 1e-6).all() if sink is None else (total <= full + 1e-6).all()


def test_whole_numbers_are_no_scores():
    for kind in (np.uint8, np.int64, np.bool_):
        with pytest.raises(TypeError, match="masked_softmax"):
            masked_softmax(Tensor(np.ones((2, 3), kind)))


def test_the_sentence():
    words = embed()
    q, k, v = (Tensor(words @ W.T) for W in (W_Q, W_K, W_V))
    out, weights = scaled_dot_product_attention(q, k, v)
    expected = F.scaled_dot_product_attention(*(torch.tensor(x.data)[None] for x in (q, k, v)))
    np.testing.assert_allclose(out.data, expected[0], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(weights.data[2], [0.039, 0.778, 0.039, 0.039, 0.105], atol=5e-4)
    np.testing.assert_allclose(out.data[2], [0.884, 0.039, 0.078, 1.346], atol=5e-4)


def test_the_gradients_worked_by_hand():
    values = (np.array([[1.0, 0.0]]), np.eye(2), np.array([[10.0], [20.0]]))
    q, k, v = (Tensor(x, requires_grad=True) for x in values)
    scaled_dot_product_attention(q, k, v)[0].backward(np.ones((1, 1)))
    np.testing.assert_allclose(q.grad, [[-1.56, 1.56]], atol=5e-3)
    np.testing.assert_allclose(k.grad, [[-1.56, 0], [1.56, 0]], atol=5e-3)
    np.testing.assert_allclose(v.grad, [[0.67], [0.33]], atol=5e-3)


def test_what_the_page_says_of_pytorch(rng):
    """Each fact of the box "In PyTorch 2.13"."""
    q, k, v = (torch.tensor(rng.standard_normal((1, n, D))) for n in (T, S, S))
    attend = F.scaled_dot_product_attention
    doubled = attend(q * 2, k, v, scale=D**-0.5 / 2)
    assert torch.allclose(doubled, attend(q, k, v))
    assert isinstance(attend(q, k, v), torch.Tensor)  # the output alone
    mask = torch.ones(T, S, dtype=torch.bool)
    mask[:, 0] = False
    changed = v.clone()
    changed[:, 0] += 100
    assert torch.equal(attend(q, k, v, attn_mask=mask), attend(q, k, changed, attn_mask=mask))
    layer = torch.nn.MultiheadAttention(D, 1, batch_first=True, dtype=torch.float64)
    hidden = torch.zeros(1, S, dtype=torch.bool)
    hidden[:, 0] = True
    weights = layer(q, k, k, key_padding_mask=hidden)[1]
    assert (weights[..., 0] == 0).all()
    assert (weights[..., 1:] > 0).all()
    mask[2] = False
    assert (attend(q, k, v, attn_mask=mask)[0, 2] == 0).all()
    assert torch.softmax(torch.full((3,), -torch.inf), 0).isnan().all()
    causal = attend(q, k, v, is_causal=True)
    first = torch.ones(T, S, dtype=torch.bool).tril()
    last = torch.ones(T, S, dtype=torch.bool).tril(S - T)
    assert torch.allclose(causal, attend(q, k, v, attn_mask=first))
    assert not torch.allclose(causal, attend(q, k, v, attn_mask=last))
    torch.manual_seed(0)
    assert not torch.allclose(attend(q, k, v, dropout_p=0.5), attend(q, k, v))


@pytest.mark.parametrize("h", [1e-200, 1e-3, 1e200])
def test_kernel_regression_at_the_ends(h, rng):
    x, y, xq = rng.standard_normal((S, D)), rng.standard_normal((S, V)), rng.standard_normal((T, D))
    found = nadaraya_watson(xq, x, y, h)
    nearest = ((xq[:, None] - x) ** 2).sum(-1).argmin(1)
    expected = np.broadcast_to(y.mean(0), (T, V)) if h > 1 else y[nearest]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="positive, got 0"):
        nadaraya_watson(xq, x, y, 0.0)
    assert nadaraya_watson(xq[:0], x, y, h).shape == (0, V)


def test_the_three_flats_of_the_page():
    sizes, prices = np.array([[40.0], [60.0], [80.0]]), np.array([[200.0], [260.0], [400.0]])
    found = [nadaraya_watson(np.array([[55.0]]), sizes, prices, h).item() for h in (100, 10, 1)]
    np.testing.assert_allclose(found, [286, 249, 260], atol=0.5)
    assert abs(nadaraya_watson(np.array([[50.0]]), sizes, prices, 10.0).item() - 231.5) < 0.05
