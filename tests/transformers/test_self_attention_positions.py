"""Positions: tables, rotations and biases, against transformers and closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPTJConfig, LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb as interleaved_rotary
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.t5.modeling_t5 import T5Attention

from chainrule.neural_networks.backpropagation import Tensor, gradcheck
from chainrule.transformers.self_attention import (
    LearnedPositions,
    alibi_bias,
    relative_buckets,
    rope,
    rope_attention_factor,
    rope_frequencies,
    rope_order,
    sinusoidal_encoding,
)

B, T, D, H = 2, 5, 6, 3
LAYOUTS = ("half", "interleaved")


# ---- tables ------------------------------------------------------------------------------------


def test_sinusoids_rotate_with_the_position():
    table = sinusoidal_encoding(50, 8, dtype=float)
    np.testing.assert_allclose(table[0], [0, 1] * 4)
    np.testing.assert_allclose(table[7, :2], [np.sin(7), np.cos(7)], rtol=1e-12)
    np.testing.assert_allclose(table[7, 6:], [np.sin(7e-3), np.cos(7e-3)], rtol=1e-12)
    for pair, w in enumerate(10_000.0 ** (-np.arange(4) / 4)):
        turn = np.array([[np.cos(3 * w), np.sin(3 * w)], [-np.sin(3 * w), np.cos(3 * w)]])
        columns = slice(2 * pair, 2 * pair + 2)
        np.testing.assert_allclose(table[3:, columns], table[:-3, columns] @ turn.T, atol=1e-12)
    assert sinusoidal_encoding(3, 4).dtype == np.float32
    assert sinusoidal_encoding(0, 4).shape == (0, 4)
    assert sinusoidal_encoding(3, 0).shape == (3, 0)
    with pytest.raises(ValueError, match="even width: sines come in pairs; got 5"):
        sinusoidal_encoding(3, 5)


def test_learned_positions(rng):
    positions = LearnedPositions(T, D, rng=rng, dtype=float)
    x = Tensor(rng.standard_normal((B, 3, D)), requires_grad=True)
    np.testing.assert_allclose(positions(x, 2).data, x.data + positions.weight.data[2:5])
    g = rng.standard_normal(x.shape)
    positions(x, 2).backward(g)
    np.testing.assert_array_equal(positions.weight.grad[:2], 0)
    np.testing.assert_allclose(positions.weight.grad[2:], g.sum(0), rtol=1e-12)
    np.testing.assert_array_equal(x.grad, g)
    with pytest.raises(ValueError, match="learned up to 5, the sequence needs 6"):
        positions(x, 3)
    with pytest.raises(ValueError, match="the sequence needs to begin at -1"):
        positions(x, -1)
    for width in (1, D + 1):
        with pytest.raises(ValueError, match=f"positions have width {D}, the sequence {width}"):
            positions(Tensor(np.ones((3, width))))


# ---- rotations ---------------------------------------------------------------------------------


def angles(d, pos, base=10_000.0):
    return np.asarray(pos)[:, None] * base ** (-np.arange(0, d, 2) / d)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-4)])
def test_halves_against_llama(rng, dtype, tolerance):
    pos = np.array([0, 1, 5, 7, 40])
    q, k = rng.standard_normal((2, B, H, T, 8)).astype(dtype)
    angle = torch.tensor(angles(8, pos))
    cos, sin = (torch.cat([f(angle)] * 2, -1)[None].to(torch.tensor(q).dtype)
                for f in (torch.cos, torch.sin))  # fmt: skip
    tq, tk = (torch.tensor(a, requires_grad=True) for a in (q, k))
    theirs = apply_rotary_pos_emb(tq, tk, cos, sin)
    g = rng.standard_normal(q.shape).astype(dtype)
    for ours, leaf, turned in zip((q, k), (tq, tk), theirs, strict=True):
        x = Tensor(ours, requires_grad=True)
        y = rope(x, pos)
        assert y.dtype == dtype
        np.testing.assert_allclose(y.data, turned.detach(), rtol=tolerance, atol=tolerance)
        y.backward(g)
        turned.backward(torch.tensor(g))
        np.testing.assert_allclose(x.grad, leaf.grad, rtol=tolerance, atol=tolerance)


def test_neighbours_against_gpt_j(rng):
    """GPT-J turns the paper's pairs; its tables hold each pair's angle once."""
    assert GPTJConfig().rotary_dim % 2 == 0
    x, pos = rng.standard_normal((B, T, H, 8)), np.arange(T)
    angle = torch.tensor(angles(8, pos))
    expected = interleaved_rotary(torch.tensor(x), torch.sin(angle)[None], torch.cos(angle)[None])
    ours = rope(Tensor(x.swapaxes(1, 2)), pos, layout="interleaved").data.swapaxes(1, 2)
    np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_gradient_is_the_turn_back(rng, layout):
    x, pos = Tensor(rng.standard_normal((T, 8)), requires_grad=True), np.array([0, 3, 4, 9, 100])
    gradcheck(lambda x: rope(x, pos, layout=layout), [x])
    g = rng.standard_normal(x.shape)
    rope(x, pos, layout=layout).backward(g)
    np.testing.assert_allclose(x.grad, rope(Tensor(g), -pos, layout=layout).data, atol=1e-12)


@settings(max_examples=30)
@given(
    i=st.integers(0, 500), j=st.integers(0, 500), shift=st.integers(0, 500), seed=st.integers(0, 99)
)
def test_scores_depend_on_distance_alone(i, j, shift, seed):
    q, k = np.random.default_rng(seed).standard_normal((2, 1, 8))

    def score(i, j, layout):
        a, b = (rope(Tensor(v), np.array([at]), layout=layout) for v, at in ((q, i), (k, j)))
        return float(a.data[0] @ b.data[0])

    for layout in LAYOUTS:
        assert score(i, j, layout) == pytest.approx(score(i + shift, j + shift, layout), abs=1e-10)
    order = rope_order(8)
    apart = rope(Tensor(q), np.array([i]), layout="interleaved").data[:, order]
    np.testing.assert_allclose(rope(Tensor(q[:, order]), np.array([i])).data, apart, atol=1e-12)
    np.testing.assert_array_equal(q[:, order][:, np.argsort(order)], q)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_turning_meets_odd_inputs(rng, layout, dtype):
    for shape in ((0, 4), (1, 2), (3, 0)):
        x = np.ones(shape, dtype)
        assert rope(Tensor(x), np.arange(shape[0]), layout=layout).shape == shape
    for size in (1e-30, 1e30):
        x = (size * rng.standard_normal((T, 8))).astype(dtype)
        y = rope(Tensor(x), np.arange(T), layout=layout).data
        lengths = np.linalg.norm(y.astype(float), axis=1)
        np.testing.assert_allclose(lengths, np.linalg.norm(x.astype(float), axis=1), rtol=1e-5)
    bad = np.ones((2, 4), dtype)
    bad[1, 0] = np.nan
    y = rope(Tensor(bad), np.array([3, 4], np.int8), layout=layout).data
    assert np.isfinite(y[0]).all()
    assert np.isnan(y[1]).any()
    far = rope(Tensor(np.ones((1, 2), dtype)), np.array([1_000_003]), layout=layout).data[0]
    c, s = np.cos(1_000_003), np.sin(1_000_003)
    np.testing.assert_allclose(far, [c - s, c + s], rtol=1e-5)


def test_rope_refuses_what_cannot_be_meant(rng):
    x = Tensor(rng.standard_normal((T, 8)))
    with pytest.raises(ValueError, match="not 'quarter'"):
        rope(x, np.arange(T), layout="quarter")
    for call in (rope_frequencies, rope_order):
        with pytest.raises(ValueError, match="even size; got 7"):
            call(7)
    for scaling, words in (
        ({"type": "magic", "factor": 4.0}, "not 'magic'"),
        ({"factor": 4.0}, "not None"),
        ({"type": "linear"}, "'linear' needs the entry 'factor'"),
        ({"type": "yarn", "factor": 4.0}, "'yarn' needs the entry 'original'"),
        ({"type": "llama3", "factor": 4.0}, "'llama3' needs the entry 'original'"),
        ({"type": "linear", "factor": 0.5}, "factor at least 1, got 0.5"),
        ({"type": "linear", "factor": np.nan}, "factor at least 1, got nan"),
        ({"type": "yarn", "factor": 4.0, "original": 0}, "'original' above 0, got 0"),
        ({"type": "llama3", "factor": 4.0, "original": np.nan}, "'original' above 0, got nan"),
        ({"type": "yarn", "factor": 4.0, "original": 512, "beta_fast": 1.0},
         "0 < beta_slow < beta_fast, got 1.0 and 1.0"),
        ({"type": "yarn", "factor": 4.0, "original": 512, "beta_slow": 0.0},
         "0 < beta_slow < beta_fast, got 0.0 and 32.0"),
        ({"type": "llama3", "factor": 4.0, "original": 512, "low_freq_factor": 4.0},
         "0 < low_freq_factor < high_freq_factor, got 4.0 and 4.0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            rope_frequencies(8, scaling=scaling)
    for factor in (0.0, 0.5, np.nan):
        with pytest.raises(ValueError, match=f"factor at least 1, got {factor}"):
            rope_attention_factor({"type": "yarn", "factor": factor})
    for base in (1.0, 0.0, -10.0, np.nan):
        for call in (rope_frequencies, lambda d, base: sinusoidal_encoding(3, d, base)):
            with pytest.raises(ValueError, match=f"base above 1, got {base}"):
                call(8, base)


STRETCHES = [
    (None, {"rope_type": "default"}),
    ({"type": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
    ({"type": "yarn", "factor": 8.0, "original": 512},
     {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 512}),
    ({"type": "llama3", "factor": 8.0, "original": 512},
     {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 512,
      "low_freq_factor": 1.0, "high_freq_factor": 4.0}),
]  # fmt: skip


def llama(theirs):
    return LlamaConfig(
        hidden_size=64, num_attention_heads=2, max_position_embeddings=4096,
        rope_parameters={"rope_theta": 10_000.0, **theirs},
    )  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs"), STRETCHES)
def test_stretched_contexts_against_transformers(rng, ours, theirs):
    """Frequencies, and turned vectors with YaRN's factor."""
    config, factor = llama(theirs), 1.0
    expected = 10_000.0 ** (-np.arange(0, 32, 2) / 32)
    if ours is not None:
        found, factor = ROPE_INIT_FUNCTIONS[theirs["rope_type"]](config, device="cpu")
        expected = found.numpy()
    np.testing.assert_allclose(rope_frequencies(32, scaling=ours), expected, rtol=1e-5)
    assert rope_attention_factor(ours) == pytest.approx(factor)
    x, pos = rng.standard_normal((1, H, T, 32)), np.array([0, 1, 2, 50, 400])
    cos, sin = LlamaRotaryEmbedding(config)(torch.tensor(x), torch.tensor(pos)[None])
    turned, _ = apply_rotary_pos_emb(torch.tensor(x), torch.tensor(x), cos, sin)
    np.testing.assert_allclose(rope(Tensor(x), pos, scaling=ours).data, turned, atol=2e-4)


def test_ntk_scaling_keeps_fast_and_stretches_slow():
    scaling = {"type": "ntk", "factor": 4.0}
    plain, scaled = rope_frequencies(32), rope_frequencies(32, scaling=scaling)
    assert scaled[0] == plain[0]
    assert scaled[-1] == pytest.approx(plain[-1] / 4)
    assert (np.diff(scaled / plain) < 0).all()
    np.testing.assert_array_equal(rope_frequencies(2, scaling=scaling), [1.0])
    assert rope_attention_factor(scaling) == 1


def test_numbers_of_the_document():
    for base, longest in ((1e4, 54_410), (5e5, 2_559_196), (1e6, 5_063_256)):
        assert round(2 * np.pi / rope_frequencies(128, base)[-1]) == longest
    assert (2 * np.pi / rope_frequencies(128) > 4096).sum() == 18
    share = rope_frequencies(128, scaling={"type": "yarn", "factor": 4, "original": 4096})
    assert (share / rope_frequencies(128))[32] == pytest.approx(0.654, abs=5e-4)


# ---- biases ------------------------------------------------------------------------------------


def test_alibi_slopes():
    bias = alibi_bias(8, T)
    np.testing.assert_array_equal(-bias[:, 1, 0], 2.0 ** -np.arange(1, 9))
    assert bias[0, 4, 1] == -1.5
    assert bias[3, 0, 4] == 0
    twelve = -alibi_bias(12, 2, dtype=float)[:, 1, 0]
    np.testing.assert_allclose(twelve[:8], 2.0 ** -np.arange(1, 9))
    np.testing.assert_allclose(twelve[8:], 2.0 ** -(np.arange(4) + 0.5))
    assert alibi_bias(1, 0).shape == (1, 0, 0)
    with pytest.raises(ValueError, match="at least one head, got 0"):
        alibi_bias(0, 3)


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 8, 12])
def test_alibi_against_bloom(heads):
    """BLOOM adds slope × key position, which differs from ours by a constant in each row."""
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    theirs = build_alibi_tensor(torch.ones(1, T), heads, torch.float32).numpy()
    ours = alibi_bias(heads, T)
    for row in range(T):
        gap = ours[:, row, : row + 1] - theirs[:, 0, : row + 1]
        np.testing.assert_allclose(gap - gap[:, :1], 0, atol=1e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("buckets", "limit"), [(32, 128), (16, 64), (8, 20), (4, 1000)])
def test_buckets_against_t5(bidirectional, buckets, limit):
    offsets = np.arange(-1500, 1501)
    expected = T5Attention._relative_position_bucket(
        torch.tensor(offsets), bidirectional, buckets, limit
    )
    ours = relative_buckets(offsets, buckets, limit, bidirectional)
    np.testing.assert_array_equal(ours, expected)
    table = np.arange(T)[None] - np.arange(T)[:, None]
    np.testing.assert_array_equal(
        relative_buckets(table, buckets, limit, bidirectional),
        T5Attention._relative_position_bucket(torch.tensor(table), bidirectional, buckets, limit),
    )


def test_buckets_refuse_what_cannot_be_meant():
    assert relative_buckets(np.zeros((0, 3), int)).shape == (0, 3)
    assert relative_buckets(np.array([-128, 1], np.int8)).tolist() == [31, 0]
    both = relative_buckets(np.array([-128, 127], np.int8), bidirectional=True)
    assert both.tolist() == [15, 31]
    with pytest.raises(ValueError, match="16 buckets of one distance do not fit below the limit"):
        relative_buckets(np.arange(3), 32, 16)
    with pytest.raises(ValueError, match="0 buckets of one distance"):
        relative_buckets(np.arange(3), 1)
