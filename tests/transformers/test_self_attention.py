"""Order in attention: positions against transformers, masks as an algebra, leaks found."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from chainrule.neural_networks.backpropagation import Tensor, gradcheck
from chainrule.transformers.self_attention import (
    LearnedPositions,
    SelfAttention,
    alibi_bias,
    causal_mask,
    combine,
    document_mask,
    has_leak,
    padding_mask,
    prefix_mask,
    rope,
    rope_frequencies,
    sinusoidal_encoding,
    sliding_window_mask,
)

B, T, D, H = 2, 5, 6, 4
distances = st.integers(0, 500)


def test_against_pytorch(rng):
    for causal in (False, True):
        layer = SelfAttention(D, H, causal, bias=True, rng=rng, dtype=float)
        x = rng.standard_normal((B, T, D))
        t = torch.tensor(x)
        q, k, v = (
            t @ torch.tensor(p.weight.data).T + torch.tensor(p.bias.data)
            for p in (layer.query, layer.key, layer.value)
        )
        expected = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        np.testing.assert_allclose(layer(Tensor(x)).data, expected, rtol=1e-10)
        _, weights = layer.attend(Tensor(x))
        assert weights.shape == (B, T, T)
        assert (np.triu(weights.data, 1).max() == 0) == causal
        gradcheck(layer, [Tensor(x, requires_grad=True)])


def test_without_positions_attention_is_equivariant(rng):
    x, order = rng.standard_normal((T, D)), rng.permutation(T)
    free, causal = (
        SelfAttention(D, H, rng=rng, dtype=float),
        SelfAttention(D, H, True, rng=rng, dtype=float),
    )
    np.testing.assert_allclose(free(Tensor(x[order])).data, free(Tensor(x)).data[order], rtol=1e-10)
    shuffled, straight = causal(Tensor(x[order])).data, causal(Tensor(x)).data[order]
    assert not np.allclose(shuffled, straight)  # a causal mask lets order in


def test_leaks(rng):
    x = rng.standard_normal((T, D)).astype(np.float32)
    assert not has_leak(
        lambda x: SelfAttention(D, H, True, rng=np.random.default_rng(0))(Tensor(x)), x
    )
    assert has_leak(lambda x: SelfAttention(D, H, rng=np.random.default_rng(0))(Tensor(x)), x)
    layer = SelfAttention(D, H, rng=rng)
    off_by_one = np.tri(T, k=1, dtype=bool)
    assert has_leak(lambda x: layer(Tensor(x)), x)
    assert has_leak(lambda x: layer(Tensor(x), off_by_one), x)
    assert has_leak(lambda x: x[::-1], x)
    assert not has_leak(np.cumsum, x[:, :1])


def test_sinusoids_rotate_with_the_position():
    table = sinusoidal_encoding(50, 8).astype(float)
    np.testing.assert_allclose(table[0], [0, 1] * 4)
    np.testing.assert_allclose(table[7, :2], [np.sin(7), np.cos(7)], rtol=1e-6)
    np.testing.assert_allclose(table[7, 6:], [np.sin(7e-3), np.cos(7e-3)], rtol=1e-6)
    for pair, w in enumerate(10_000.0 ** (-np.arange(4) / 4)):
        turn = np.array([[np.cos(3 * w), np.sin(3 * w)], [-np.sin(3 * w), np.cos(3 * w)]])
        columns = slice(2 * pair, 2 * pair + 2)
        np.testing.assert_allclose(table[3:, columns], table[:-3, columns] @ turn.T, atol=1e-6)
    with pytest.raises(ValueError, match="even width"):
        sinusoidal_encoding(3, 5)


def test_learned_positions(rng):
    positions = LearnedPositions(T, D, rng=rng, dtype=float)
    x = Tensor(rng.standard_normal((B, 3, D)), requires_grad=True)
    np.testing.assert_allclose(positions(x, 2).data, x.data + positions.weight.data[2:5])
    positions(x, 2).backward(np.ones(x.shape))
    np.testing.assert_array_equal(positions.weight.grad[:, 0], [0, 0, B, B, B])
    with pytest.raises(ValueError, match="learned up to 5, the sequence needs 6"):
        positions(x, 3)


def test_rope_against_llama(rng):
    q, k = (rng.standard_normal((B, 3, T, 8)) for _ in range(2))
    pos = np.array([0, 1, 5, 7, 40])
    angles = torch.tensor(pos[:, None] * rope_frequencies(8))
    tq, tk = torch.tensor(q), torch.tensor(k)
    cos, sin = (torch.cat([f(angles)] * 2, -1)[None] for f in (torch.cos, torch.sin))
    for ours, theirs in zip((q, k), apply_rotary_pos_emb(tq, tk, cos, sin), strict=True):
        np.testing.assert_allclose(rope(Tensor(ours), pos).data, theirs, rtol=1e-10)
    for layout in ("half", "interleaved"):
        gradcheck(lambda x, layout=layout: rope(x, pos, layout=layout),
                  [Tensor(q[0], requires_grad=True)])  # fmt: skip
    with pytest.raises(ValueError, match="not 'quarter'"):
        rope(Tensor(q), pos, layout="quarter")
    with pytest.raises(ValueError, match="even size"):
        rope_frequencies(7)


@settings(max_examples=30)
@given(
    m=st.integers(0, 500), n=st.integers(0, 500), shift=st.integers(0, 500), seed=st.integers(0, 99)
)
def test_rope_depends_on_distance_alone(m, n, shift, seed):
    rng = np.random.default_rng(seed)
    q, k = rng.standard_normal((2, 1, 8))
    order = np.arange(8).reshape(4, 2).T.ravel()  # interleaved to half

    def score(m, n, layout):
        a, b = (
            rope(Tensor(q), np.array([m]), layout=layout),
            rope(Tensor(k), np.array([n]), layout=layout),
        )
        return float(a.data[0] @ b.data[0])

    for layout in ("half", "interleaved"):
        assert score(m, n, layout) == pytest.approx(score(m + shift, n + shift, layout), abs=1e-9)
    apart = rope(Tensor(q), np.array([m]), layout="interleaved").data[:, order]
    np.testing.assert_allclose(rope(Tensor(q[:, order]), np.array([m])).data, apart, atol=1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (None, {"rope_type": "default"}),
        ({"type": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        ({"type": "yarn", "factor": 8.0, "original": 512},
         {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 512}),
        ({"type": "llama3", "factor": 8.0, "original": 512},
         {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 512,
          "low_freq_factor": 1.0, "high_freq_factor": 4.0}),
    ],
)  # fmt: skip
def test_context_extension_against_transformers(ours, theirs):
    config = LlamaConfig(
        hidden_size=64, num_attention_heads=2, max_position_embeddings=4096,
        rope_parameters={"rope_theta": 10_000.0, **theirs},
    )  # fmt: skip
    if ours is None:
        expected = 10_000.0 ** (-np.arange(0, 32, 2) / 32)
    else:
        expected = ROPE_INIT_FUNCTIONS[theirs["rope_type"]](config, device="cpu")[0].numpy()
    np.testing.assert_allclose(rope_frequencies(32, scaling=ours), expected, rtol=1e-5)


def test_ntk_scaling_keeps_fast_and_stretches_slow():
    plain, scaled = (
        rope_frequencies(32),
        rope_frequencies(32, scaling={"type": "ntk", "factor": 4.0}),
    )
    assert scaled[0] == plain[0]
    assert scaled[-1] == pytest.approx(plain[-1] / 4)
    with pytest.raises(ValueError, match="not 'magic'"):
        rope_frequencies(32, scaling={"type": "magic", "factor": 4.0})


def test_alibi_slopes():
    bias = alibi_bias(8, T)
    np.testing.assert_array_equal(-bias[:, 1, 0], 2.0 ** -np.arange(1, 9))
    assert bias[0, 4, 1] == -1.5
    assert bias[3, 0, 4] == 0
    twelve = -alibi_bias(12, 2)[:, 1, 0]
    np.testing.assert_allclose(twelve[:8], 2.0 ** -np.arange(1, 9))
    np.testing.assert_allclose(twelve[8:], 2.0 ** -(np.arange(4) + 0.5))


def test_masks():
    allowed = lambda m: ["".join(".x"[int(c)] for c in row) for row in m]  # noqa: E731
    assert allowed(causal_mask(3)) == ["x..", "xx.", "xxx"]
    assert allowed(causal_mask(2, 4)) == ["xxx.", "xxxx"]
    assert allowed(prefix_mask(4, 2)) == ["xx..", "xx..", "xxx.", "xxxx"]
    assert allowed(sliding_window_mask(4, 2)) == ["x...", "xx..", ".xx.", "..xx"]
    assert allowed(document_mask(np.array([7, 7, 8]))) == ["xx.", "xx.", "..x"]
    assert allowed(padding_mask(np.array([1, 3]), 3)[:, 0, 0]) == ["x..", "xxx"]
    assert combine(None, None) is None
    both = combine(causal_mask(3), None, document_mask(np.array([7, 7, 8])))
    assert allowed(both) == ["x..", "xx.", "..x"]
    np.testing.assert_array_equal(sliding_window_mask(5, 5), causal_mask(5))
    with pytest.raises(ValueError, match="at least the query itself"):
        sliding_window_mask(3, 0)


def test_windows_add_up_over_layers(rng):
    # w = 3, L = 2: position 8 sees L(w − 1) + 1 = 5 positions, by the support of its gradient
    layers = [SelfAttention(D, D, rng=rng, dtype=float) for _ in range(2)]
    x = Tensor(rng.standard_normal((9, D)), requires_grad=True)
    y = x
    for layer in layers:
        y = layer(y, sliding_window_mask(9, 3))
    y[8].sum().backward()
    assert np.flatnonzero(np.abs(x.grad).sum(1)).tolist() == [4, 5, 6, 7, 8]
