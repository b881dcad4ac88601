"""The layer, its masks and its leaks: against PyTorch, and against what the document says."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention.bias import causal_lower_right

from chainrule.data.sentence import W_K, W_O, W_Q, W_V, embed
from chainrule.neural_networks.backpropagation import Tensor, gradcheck
from chainrule.transformers.self_attention import (
    SelfAttention,
    causal_mask,
    combine,
    document_mask,
    has_leak,
    padding_mask,
    prefix_mask,
    sliding_window_mask,
    top_k_mask,
)

B, T, D, H = 2, 5, 7, 3
DTYPES = ((np.float64, 1e-10), (np.float32, 1e-4))


def rows(mask):
    return ["".join(".x"[int(cell)] for cell in row) for row in mask]


# ---- the layer ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_output_and_gradients_against_pytorch(rng, dtype, tolerance, causal, bias):
    layer = SelfAttention(D, H, causal, bias=bias, rng=rng, dtype=dtype)
    x, g = rng.standard_normal((B, T, D)).astype(dtype), rng.standard_normal((B, T, H))
    ours = Tensor(x, requires_grad=True)
    y, weights = layer.attend(ours)
    y.backward(g.astype(dtype))

    theirs = torch.tensor(x, requires_grad=True)
    parts = {name: getattr(layer, name) for name in ("query", "key", "value")}
    copies = {
        name: [torch.tensor(p.data, requires_grad=True) for p in part.parameters()]
        for name, part in parts.items()
    }
    q, k, v = (F.linear(theirs, *copies[name]) for name in parts)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    expected.backward(torch.tensor(g, dtype=expected.dtype))

    assert y.dtype == dtype
    close = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(y.data, expected.detach(), **close)
    np.testing.assert_allclose(ours.grad, theirs.grad, **close)
    for name, part in parts.items():
        for ours_, theirs_ in zip(part.parameters(), copies[name], strict=True):
            np.testing.assert_allclose(ours_.grad, theirs_.grad, **close)
    assert weights.shape == (B, T, T)
    np.testing.assert_allclose(weights.data.sum(-1), 1, rtol=1e-5)
    assert (np.triu(weights.data, 1).max() == 0) == causal


def test_gradients_against_finite_differences(rng):
    layer = SelfAttention(D, H, True, rng=rng, dtype=float)
    mask = padding_mask(np.array([4, 2]), T)[:, 0]
    gradcheck(
        lambda x: layer(x, mask), [Tensor(rng.standard_normal((B, T, D)), requires_grad=True)]
    )


def test_the_sentence(rng):
    layer = SelfAttention(4, 4, rng=rng, dtype=float)
    for part, weight in ((layer.query, W_Q), (layer.key, W_K), (layer.value, W_V)):
        part.weight.data = weight.copy()
    for words in ("the dog bites the man", "the man bites the dog"):
        bites = layer(Tensor(embed(words.split()))).data[2]
        np.testing.assert_allclose(bites, [0.884, 0.039, 0.078, 1.346], atol=5e-4)
    layer.causal = True
    signs = [
        layer(Tensor(embed(words.split()))).data[2, 3]
        for words in ("the dog bites the man", "the man bites the dog")
    ]
    np.testing.assert_allclose(signs, [1.819, -1.152], atol=5e-4)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_order_gets_through_a_causal_mask_by_depth_alone(rng, depth):
    """The last of causal rows ignores the order of its prefix after one layer, not after two."""
    x = rng.standard_normal((T, D))
    shuffled = np.concatenate([x[:-1][[2, 0, 3, 1]], x[-1:]])
    for causal in (False, True):
        layers = [SelfAttention(D, D, causal, rng=rng, dtype=float) for _ in range(depth)]
        outputs = []
        for rows_ in (x, shuffled):
            y = Tensor(rows_)
            for layer in layers:
                y = layer(y)
            outputs.append(y.data)
        same_last = np.allclose(outputs[0][-1], outputs[1][-1], rtol=1e-9, atol=1e-12)
        assert same_last == (depth == 1 or not causal)
        if not causal:
            np.testing.assert_allclose(outputs[1][:-1], outputs[0][:-1][[2, 0, 3, 1]], rtol=1e-9)


def test_orders_of_the_sentence_that_two_causal_layers_tell_apart():
    from itertools import permutations

    def attend(X):
        scores = (X @ W_Q.T) @ (X @ W_K.T).T / 2
        e = np.exp(np.where(causal_mask(5), scores, -np.inf))
        return e / e.sum(1, keepdims=True) @ X @ W_V.T @ W_O.T

    found: dict[int, set] = {1: set(), 2: set()}
    for first in permutations(["the", "dog", "bites", "the"]):
        X = embed([*first, "man"])
        for depth in (1, 2):
            X = attend(X)
            found[depth].add(tuple(X[-1].round(9)))
    assert [len(found[depth]) for depth in (1, 2)] == [1, 12]


# ---- masks -------------------------------------------------------------------------------------


def test_masks():
    assert rows(causal_mask(3)) == ["x..", "xx.", "xxx"]
    assert rows(causal_mask(2, 4)) == ["xxx.", "xxxx"]
    assert rows(prefix_mask(4, 2)) == ["xx..", "xx..", "xxx.", "xxxx"]
    assert rows(sliding_window_mask(4, 2)) == ["x...", "xx..", ".xx.", "..xx"]
    assert rows(sliding_window_mask(5, 2, sinks=1)) == ["x....", "xx...", "xxx..", "x.xx.", "x..xx"]
    assert rows(document_mask(np.array([7, 7, 8]))) == ["xx.", "xx.", "..x"]
    assert rows(padding_mask(np.array([1, 3]), 3)[:, 0, 0]) == ["x..", "xxx"]
    assert combine(None, None) is None
    both = combine(causal_mask(3), None, document_mask(np.array([7, 7, 8])))
    assert rows(both) == ["x..", "xx.", "..x"]
    np.testing.assert_array_equal(sliding_window_mask(5, 5), causal_mask(5))
    np.testing.assert_array_equal(sliding_window_mask(5, 1, sinks=5), causal_mask(5))
    np.testing.assert_array_equal(prefix_mask(5, 0), causal_mask(5))
    assert prefix_mask(5, 9).all()


def test_masks_of_nothing_and_of_one():
    for mask in (causal_mask(0), sliding_window_mask(0, 3), prefix_mask(0, 2)):
        assert mask.shape == (0, 0)
    assert causal_mask(1).tolist() == [[True]]
    assert padding_mask(np.zeros(0, int), 3).shape == (0, 1, 1, 3)
    assert not padding_mask(np.array([0], np.int8), 3).any()
    assert document_mask(np.zeros((2, 0), int)).shape == (2, 0, 0)


def test_masks_refuse_what_cannot_be_meant():
    with pytest.raises(ValueError, match="4 queries need at least 4 keys, got 2"):
        causal_mask(4, 2)
    with pytest.raises(ValueError, match=r"between 0 and 3, got \[1, 4\]"):
        padding_mask(np.array([1, 4]), 3)
    with pytest.raises(ValueError, match="at least the query itself; got 0"):
        sliding_window_mask(3, 0)
    for k in (0, -1):
        with pytest.raises(ValueError, match=f"at least one key, got {k}"):
            top_k_mask(np.zeros((2, 3)), k)


def test_a_mask_for_heads_is_refused_by_one_head(rng):
    """Broadcast, it would give the output an axis more, without an error."""
    layer = SelfAttention(D, H, rng=rng, dtype=float)
    x, mask = rng.standard_normal((B, T, D)), padding_mask(np.array([3, 5]), T)
    assert layer(Tensor(x), mask[:, 0]).shape == (B, T, H)
    words = r"mask of shape \(2, 1, 1, 5\) has more axes than the scores, \(2, 5, 5\)"
    with pytest.raises(ValueError, match=words):
        layer(Tensor(x), mask)
    with pytest.raises(ValueError, match="more axes"):
        SelfAttention(D, H, True, rng=rng, dtype=float)(Tensor(x), mask)


def test_padding_hides_keys_from_all_queries(rng):
    layer = SelfAttention(D, H, True, rng=rng, dtype=float)
    x, lengths = rng.standard_normal((B, T, D)), np.array([3, 5])
    mask = padding_mask(lengths, T)[:, 0]
    other = x.copy()
    other[0, 3:] = 100
    free = layer(Tensor(x), mask).data, layer(Tensor(other), mask).data
    np.testing.assert_array_equal(free[0][:, :3], free[1][:, :3])
    assert layer.attend(Tensor(x), mask)[1].data[0, :, 3:].max() == 0


def test_documents_in_one_row_equal_documents_apart(rng):
    layer = SelfAttention(D, H, True, rng=rng, dtype=float)
    x = rng.standard_normal((T + 3, D))
    together = layer(Tensor(x), document_mask(np.repeat([4, 9], [T, 3]))).data
    np.testing.assert_allclose(together[:T], layer(Tensor(x[:T])).data, rtol=1e-10)
    np.testing.assert_allclose(together[T:], layer(Tensor(x[T:])).data, rtol=1e-10)


def test_windows_add_up_over_layers(rng):
    for window, depth in ((3, 2), (2, 4), (4, 1)):
        layers = [SelfAttention(D, D, rng=rng, dtype=float) for _ in range(depth)]
        x = Tensor(rng.standard_normal((11, D)), requires_grad=True)
        y = x
        for layer in layers:
            y = layer(y, sliding_window_mask(11, window))
        y[10].sum().backward()
        field = depth * (window - 1) + 1
        assert np.flatnonzero(np.abs(x.grad).sum(1)).tolist() == list(range(11 - field, 11))


def test_choosing_keys_by_their_scores(rng):
    scores = rng.standard_normal((B, T, T))
    np.testing.assert_array_equal(top_k_mask(scores, T), np.ones_like(scores, bool))
    np.testing.assert_array_equal(
        top_k_mask(scores, T, causal_mask(T)), np.broadcast_to(causal_mask(T), scores.shape)
    )
    for k in (1, 2, 3):
        chosen = top_k_mask(scores, k)
        assert (chosen.sum(-1) == k).all()
        expected = torch.zeros(scores.shape, dtype=torch.bool)
        expected.scatter_(-1, torch.tensor(scores).topk(k).indices, True)
        np.testing.assert_array_equal(chosen, expected)
        causal = top_k_mask(scores, k, causal_mask(T))
        assert not (causal & ~causal_mask(T)).any()
        assert (causal.sum(-1) == np.minimum(np.arange(T) + 1, k)).all()
    ties = top_k_mask(np.zeros((1, 4)), 2)
    assert rows(ties) == ["xx.."]
    many = top_k_mask((np.arange(300) % 2)[None] * 1.0, 20)
    assert np.flatnonzero(many[0]).tolist() == list(range(1, 41, 2))
    assert not top_k_mask(np.full((1, 3), np.nan), 2, np.zeros((1, 3), bool)).any()


# ---- leaks -------------------------------------------------------------------------------------


def averaging(mask):
    """A function of rows that looks exactly where the mask says."""
    weights = mask / mask.sum(1, keepdims=True)
    return lambda x: weights @ x


OFF_BY_ONE = np.tri(T, k=1, dtype=bool)
LEAKS = {
    "off by one": averaging(OFF_BY_ONE),
    "one single pair": averaging(causal_mask(T) | (np.arange(T * T).reshape(T, T) == 4)),
    "all": averaging(np.ones((T, T))),
    "reversed": lambda x: x[::-1],
    "mean taken away": lambda x: (x - x.mean(0)) * 1.0,
    "the next row after its mean is gone": lambda x: np.roll(
        x - x.mean(1, keepdims=True), -1, axis=0
    ),
}


@pytest.mark.parametrize("name", LEAKS)
@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ones", [False, True])
def test_leaks_are_found(rng, name, scale, dtype, ones):
    if scale != 1 and dtype == np.float32:
        scale = float(np.float32(scale) or np.float32(1e-30)) if scale < 1 else 1e30
    x = np.ones((T, 3)) if ones else rng.standard_normal((T, 3))
    assert has_leak(LEAKS[name], (x * scale).astype(dtype))
    assert has_leak(lambda x: LEAKS[name](x) * dtype(1e-30), x.astype(dtype))


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("feature", [0, 1])
def test_a_leak_behind_a_rectifier_is_found(sign, feature):
    """One of the two moves leaves it at 0."""

    def leaks(x):
        return np.roll(np.maximum(sign * x[:, feature : feature + 1], 0), -1, axis=0)[:-1]

    assert has_leak(lambda x: np.vstack([leaks(x), x[-1:, :1]]), np.full((T, 3), -1.0 * sign))


def test_no_leak_where_there_is_none(rng):
    for x in (rng.standard_normal((T, D)), np.ones((T, D)), np.ones((T, D), np.float32)):
        for fn in (
            averaging(causal_mask(T)),
            averaging(sliding_window_mask(T, 2)),
            lambda x: np.cumsum(x, 0),
            lambda x: 0 * x,
        ):
            assert not has_leak(fn, x)
    assert not has_leak(lambda x: x[::-1], rng.standard_normal((1, 3)))
    assert not has_leak(lambda x: x, np.zeros((0, 3)))
    with pytest.raises(ValueError, match="finite"):
        has_leak(lambda x: x * np.nan, np.ones((T, D)))


def test_leaks_of_layers(rng):
    x = rng.standard_normal((T, D)).astype(np.float32)
    layer = SelfAttention(D, H, rng=rng)
    assert has_leak(lambda x: layer(Tensor(x)), x)
    assert has_leak(lambda x: layer(Tensor(x), OFF_BY_ONE), x)
    assert not has_leak(lambda x: layer(Tensor(x), causal_mask(T)), x)
    causal = SelfAttention(D, H, True, rng=rng)
    assert not has_leak(lambda x: causal(Tensor(x)), x)

    def zeros_afterwards(x):
        weights = layer.attend(Tensor(x))[1].data
        return np.tril(weights) @ layer.value(Tensor(x)).data

    assert has_leak(zeros_afterwards, x)


def test_a_leak_test_leaves_its_input_alone(rng):
    def overwrites(x):
        x[:] = np.cumsum(x, 0)
        return x

    x = rng.standard_normal((T, D))
    before = x.copy()
    assert not has_leak(overwrites, x)
    np.testing.assert_array_equal(x, before)


# ---- In PyTorch --------------------------------------------------------------------------------


def test_pytorch_adds_no_positions(rng):
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0, batch_first=True, dtype=torch.double)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    x, order = torch.tensor(rng.standard_normal((1, T, 8))), torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        np.testing.assert_allclose(encoder(x[:, order]), encoder(x)[:, order], atol=1e-12)
    names = [name.lower() for name in (*dir(nn), *dir(F))]
    assert not [name for name in names if "sinus" in name or "position" in name]
    assert nn.Embedding(1024, 8).weight.shape == (1024, 8)


def test_pytorch_masks(rng):
    q, k, v = (torch.tensor(rng.standard_normal((1, 1, n, 4))) for n in (2, 5, 5))
    attention = F.scaled_dot_product_attention
    seen = torch.tensor(np.array([1, 0, 1, 1, 0], bool)) | torch.eye(5, dtype=torch.bool)
    with pytest.raises(RuntimeError, match="attn_mask should not be set when is_causal"):
        attention(k[0], k[0], v[0], attn_mask=seen, is_causal=True)
    np.testing.assert_allclose(  # with four axes, on a CPU, both apply
        attention(k, k, v, attn_mask=seen, is_causal=True),
        attention(k, k, v, attn_mask=seen & torch.tensor(causal_mask(5))),
    )
    np.testing.assert_allclose(  # true: may look
        attention(k, k, v, attn_mask=torch.tensor(causal_mask(5))),
        attention(k, k, v, is_causal=True),
    )
    np.testing.assert_allclose(  # aligned at the top left
        attention(q, k, v, is_causal=True)[0, 0, 0], v[0, 0, 0]
    )
    np.testing.assert_allclose(
        attention(q, k, v, attn_mask=torch.tensor(causal_mask(2, 5))),
        attention(q, k, v, attn_mask=causal_lower_right(2, 5)),
    )
    many = nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.double)
    hidden = torch.tensor(~causal_mask(5))  # true: may not look
    _, weights = many(k[0], k[0], v[0], attn_mask=hidden)
    assert weights.detach().triu(1).abs().max() == 0
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0, batch_first=True, dtype=torch.double)
    layer.eval()
    with torch.no_grad():
        whole = layer(k[0], src_mask=hidden)
        np.testing.assert_allclose(
            layer(k[0, :, :3], src_mask=hidden[:3, :3]), whole[:, :3], atol=1e-12
        )
