"""Head layouts against PyTorch and transformers (Llama, Qwen3, DeepSeek-V3), caches, circuits."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import DeepseekV3Config, FalconConfig, GptOssConfig, LlamaConfig, Qwen3Config
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssAttention
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaRotaryEmbedding,
    repeat_kv,
)
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention

from chainrule.data.sentence import SENTENCE, VOCABULARY, W_K, W_O, W_Q, W_V, embed
from chainrule.neural_networks.backpropagation import Sequential, Tensor, gradcheck
from chainrule.transformers.multi_head_attention import (
    CacheConfig,
    InductionCircuit,
    LatentAttention,
    MultiHeadAttention,
    attention_maps,
    head_ablation,
    head_outputs,
    induction_score,
    kv_bytes_per_token,
    merge_heads,
    mha_to_gqa,
    ov_circuit,
    qk_circuit,
    repeat_heads,
    split_heads,
)
from chainrule.transformers.multi_head_attention.layer import rms_normalize
from chainrule.transformers.self_attention import (
    causal_mask,
    padding_mask,
    sliding_window_mask,
)

B, T, S, H, D = 2, 7, 11, 3, 15


def numbers(rng, *shape, dtype=np.float64):
    return Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)


def rotation(time, d, base=10_000.0):
    """Cosines and sines as transformers wants them, in float64 (its own are float32)."""
    angles = torch.arange(time)[:, None].double() * base ** (-torch.arange(0, d, 2).double() / d)
    angles = torch.cat([angles, angles], dim=-1)[None]
    return angles.cos(), angles.sin()


def close(ours, theirs, rtol=1e-10, atol=1e-12):
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else theirs
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


# ---- splitting and merging ---------------------------------------------------------------------


def test_splitting_into_heads_is_a_view(rng):
    x = numbers(rng, B, T, D)
    heads = split_heads(x, H)
    assert heads.shape == (B, H, T, D // H)
    assert np.shares_memory(heads.data, x.data)
    np.testing.assert_array_equal(heads.data[1, 2, 3], x.data[1, 3, 10:])
    np.testing.assert_array_equal(merge_heads(heads).data, x.data)


def test_splitting_is_what_torch_does(rng):
    x = numbers(rng, B, T, D)
    theirs = torch.tensor(x.data).unflatten(-1, (H, D // H)).movedim(-2, -3)
    np.testing.assert_array_equal(split_heads(x, H).data, theirs)
    merged = theirs.movedim(-3, -2).flatten(-2)
    np.testing.assert_array_equal(merge_heads(Tensor(theirs.numpy())).data, merged)


def test_merging_is_the_backward_pass_of_splitting(rng):
    x, g = numbers(rng, B, T, D), rng.standard_normal((B, H, T, D // H))
    split_heads(x, H).backward(g)
    np.testing.assert_array_equal(x.grad, merge_heads(Tensor(g)).data)
    y, g = numbers(rng, B, H, T, D // H), rng.standard_normal((B, T, D))
    merge_heads(y).backward(g)
    np.testing.assert_array_equal(y.grad, split_heads(Tensor(g), H).data)


@pytest.mark.parametrize(
    ("shape", "heads"),
    [((1, 1), 1), ((0, 3, 4), 2), ((5, 0, 4), 4), ((4, 6), 3), ((2, 3, 5, 8), 8)],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_splitting_any_shape(shape, heads, dtype):
    x = Tensor(np.arange(np.prod(shape), dtype=dtype).reshape(shape))
    y = split_heads(x, heads)
    assert y.dtype == dtype
    assert y.shape == (*shape[:-2], heads, shape[-2], shape[-1] // heads)
    np.testing.assert_array_equal(merge_heads(y).data, x.data)


def test_repeated_heads_are_neighbours(rng):
    x = numbers(rng, B, H, S, 5)
    tx = torch.tensor(x.data, requires_grad=True)
    y, z = repeat_heads(x, 2), repeat_kv(tx, 2)
    np.testing.assert_array_equal(y.data, z.detach())
    g = rng.standard_normal(y.shape)
    y.backward(g)
    z.backward(torch.tensor(g))
    close(x.grad, tx.grad)
    assert repeat_heads(x, 1) is x


# ---- the layer ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-10), (np.float32, 1e-4)])
def test_against_pytorch(cross, masked, bias, dtype, rtol, rng):
    ours = MultiHeadAttention(D, H, bias=bias, rng=rng, dtype=dtype)
    theirs = torch.nn.MultiheadAttention(D, H, bias=bias, batch_first=True)
    theirs = theirs.to(torch.float64 if dtype == np.float64 else torch.float32)
    names = {"qkv.weight": "in_proj_weight", "qkv.bias": "in_proj_bias",
             "out.weight": "out_proj.weight", "out.bias": "out_proj.bias"}  # fmt: skip
    theirs.load_state_dict({names[n]: torch.tensor(a) for n, a in ours.state_dict().items()})
    x, context = numbers(rng, B, T, D, dtype=dtype), numbers(rng, B, S, D, dtype=dtype)
    tx, tc = (torch.tensor(t.data, requires_grad=True) for t in (x, context))
    source = S if cross else T
    mask = rng.random((T, source)) < 0.7 if masked else None
    if masked:
        mask[:, 0] = True
    y = ours(x, context if cross else None, mask)
    target = tc if cross else tx
    z, _ = theirs(tx, target, target, attn_mask=None if mask is None else torch.tensor(~mask))
    atol = rtol / 100
    close(y.data, z, rtol, atol)
    weights = rng.standard_normal(y.shape).astype(dtype)
    y.backward(weights)
    z.backward(torch.tensor(weights))
    close(x.grad, tx.grad, rtol, atol)
    if cross:
        close(context.grad, tc.grad, rtol, atol)
    theirs_named = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        # the gradient of the keys' bias is 0: a number added to all scores of a row changes nothing
        close(parameter.grad, theirs_named[names[name]].grad, rtol * 10, rtol)


def test_a_padding_mask_against_pytorch(rng):
    ours = MultiHeadAttention(D, H, bias=False, rng=rng, dtype=float)
    theirs = torch.nn.MultiheadAttention(D, H, bias=False, batch_first=True).double()
    state = ours.state_dict()
    theirs.load_state_dict({"in_proj_weight": torch.tensor(state["qkv.weight"]),
                            "out_proj.weight": torch.tensor(state["out.weight"])})  # fmt: skip
    x, lengths = numbers(rng, B, T, D), np.array([T, 4])
    hidden = torch.arange(T)[None] >= torch.tensor(lengths)[:, None]
    z, _ = theirs(*3 * [torch.tensor(x.data)], key_padding_mask=hidden)
    close(ours(x, mask=padding_mask(lengths, T)).data, z)


def grouped_layer(theirs, rng, d, heads, kv_heads, **options):
    ours = MultiHeadAttention(
        d, heads, kv_heads, rope=10_000.0, bias=False, causal=True, rng=rng, dtype=float, **options
    )
    state = theirs.state_dict()
    packed = torch.cat([state[f"{n}_proj.weight"] for n in "qkv"])
    loaded = {"qkv.weight": packed.numpy(), "out.weight": state["o_proj.weight"].numpy()}
    if options.get("qk_norm"):
        loaded["query_gain"] = state["q_norm.weight"].numpy()
        loaded["key_gain"] = state["k_norm.weight"].numpy()
    ours.load_state_dict(loaded)
    return ours


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_grouped_rotary_attention_against_llama(kv_heads, rng):
    d, heads = 24, 4
    config = LlamaConfig(hidden_size=d, num_attention_heads=heads, num_key_value_heads=kv_heads,
                         attn_implementation="sdpa")  # fmt: skip
    theirs = LlamaAttention(config, layer_idx=0).double()
    ours = grouped_layer(theirs, rng, d, heads, kv_heads)
    x = numbers(rng, B, T, d)
    tx = torch.tensor(x.data, requires_grad=True)
    z, _ = theirs(tx, rotation(T, d // heads), None)
    y = ours(x)
    close(y.data, z)
    weights = rng.standard_normal(y.shape)
    y.backward(weights)
    z.backward(torch.tensor(weights))
    close(x.grad, tx.grad)
    rows = np.concatenate([getattr(theirs, f"{n}_proj").weight.grad for n in "qkv"])
    close(ours.qkv.weight.grad, rows, rtol=1e-9)
    explicit = ours(x, mask=causal_mask(T), positions=np.arange(T) + 3)
    close(explicit.data, y.data, rtol=1e-9)


def test_scaled_rotations_against_llama(rng):
    """Another base, and Llama 3's scaling: of queries and keys alike, kept by a conversion."""
    d, heads, base = 24, 2, 500.0
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 16}  # fmt: skip
    own = {"type": "llama3", "factor": 8.0, "original": 16}
    config = LlamaConfig(hidden_size=d, num_attention_heads=heads, num_key_value_heads=heads,
                         rope_parameters={"rope_theta": base, **scaling},
                         max_position_embeddings=128, attn_implementation="sdpa")  # fmt: skip
    theirs = LlamaAttention(config, layer_idx=0).double()
    rotary = LlamaRotaryEmbedding(config)
    angles = torch.arange(T)[:, None].double() * rotary.inv_freq.double()
    angles = torch.cat([angles, angles], dim=-1)[None]
    state = theirs.state_dict()
    packed = torch.cat([state[f"{n}_proj.weight"] for n in "qkv"])
    ours = MultiHeadAttention(d, heads, rope=base, bias=False, causal=True, rng=rng, dtype=float,
                              rope_scaling=own)  # fmt: skip
    ours.load_state_dict(
        {"qkv.weight": packed.numpy(), "out.weight": state["o_proj.weight"].numpy()}
    )
    x = numbers(rng, B, T, d)
    z, _ = theirs(torch.tensor(x.data), (angles.cos(), angles.sin()), None)
    close(ours(x).data, z, rtol=1e-6, atol=1e-6)  # theirs holds its frequencies in float32
    np.testing.assert_array_equal(mha_to_gqa(ours, heads)(x).data, ours(x).data)


@pytest.mark.parametrize("window", [None, 3])
def test_trained_sinks_against_gpt_oss(window, rng):
    """One sink a head, whole layers: by the stream of blocks, and by the table of weights."""
    d, heads, kv_heads, d_head = 15, 4, 2, 6
    config = GptOssConfig(
        hidden_size=d, num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=d_head,
        num_hidden_layers=1, attn_implementation="eager",
    )  # fmt: skip
    theirs = GptOssAttention(config, layer_idx=0).double()
    torch.nn.init.normal_(theirs.sinks)
    ours = MultiHeadAttention(d, heads, kv_heads, rope=10_000.0, causal=True, d_head=d_head,
                              sink=True, rng=rng, dtype=float)  # fmt: skip
    np.testing.assert_array_equal(ours.sink.data, np.zeros(heads))
    state = theirs.state_dict()
    loaded = {"out.weight": state["o_proj.weight"], "out.bias": state["o_proj.bias"],
              "sink": state["sinks"]}  # fmt: skip
    for kind in ("weight", "bias"):
        loaded[f"qkv.{kind}"] = torch.cat([state[f"{n}_proj.{kind}"] for n in "qkv"])
    ours.load_state_dict({name: array.numpy() for name, array in loaded.items()})
    x, near = numbers(rng, B, T, d), sliding_window_mask(T, T if window is None else window)
    tx = torch.tensor(x.data, requires_grad=True)
    cos, sin = (table[..., : d_head // 2] for table in rotation(T, d_head))
    added = torch.tensor(np.where(near, 0.0, -np.inf))[None, None]
    z, p = theirs(tx, (cos, sin), added)
    y = ours(x, mask=None if window is None else near)
    close(y.data, z)
    weights = rng.standard_normal(y.shape)
    y.backward(weights)
    z.backward(torch.tensor(weights))
    close(x.grad, tx.grad)
    close(ours.sink.grad, theirs.sinks.grad, rtol=1e-9)
    ours.kept_weights = []
    close(ours(x, mask=None if window is None else near).data, z)
    close(ours.kept_weights[0], p)
    assert (p.sum(-1) < 1).all()
    np.testing.assert_array_equal(
        mha_to_gqa(ours, kv_heads)(x, mask=near).data, ours(x, mask=near).data
    )


def test_values_of_the_tokens_themselves(rng):
    """What is added to the values is as if the projection had returned it."""
    layer = MultiHeadAttention(D, H, causal=True, rng=rng, dtype=float)
    x, own = numbers(rng, B, T, D), numbers(rng, B, T, D)
    q, k, v = layer.project(x)
    expected = F.scaled_dot_product_attention(
        *(torch.tensor(a.data) for a in (q, k, v + split_heads(own, H))), is_causal=True
    )
    expected = layer.out(merge_heads(Tensor(expected.numpy())))
    close(layer(x, values=own).data, expected.data)


def test_normalized_queries_and_keys_against_qwen(rng):
    d, heads, kv_heads, d_head = 15, 4, 2, 6
    config = Qwen3Config(hidden_size=d, num_attention_heads=heads, num_key_value_heads=kv_heads,
                         head_dim=d_head, attn_implementation="sdpa")  # fmt: skip
    theirs = Qwen3Attention(config, layer_idx=0)
    for name in ("q_norm", "k_norm"):  # transformers normalizes in float32
        norm = torch.nn.RMSNorm(d_head, eps=1e-6)
        torch.nn.init.normal_(norm.weight)
        setattr(theirs, name, norm)
    theirs = theirs.double()
    ours = grouped_layer(theirs, rng, d, heads, kv_heads, d_head=d_head, qk_norm=True)
    x = numbers(rng, B, T, d)
    tx = torch.tensor(x.data, requires_grad=True)
    z, _ = theirs(tx, rotation(T, d_head), None)
    y = ours(x)
    close(y.data, z)
    weights = rng.standard_normal(y.shape)
    y.backward(weights)
    z.backward(torch.tensor(weights))
    close(x.grad, tx.grad, rtol=1e-9)
    close(ours.key_gain.grad, theirs.k_norm.weight.grad, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e150])
def test_normalizing_against_pytorch(scale, rng):
    x = scale * rng.standard_normal((B, T, 7))
    close(rms_normalize(Tensor(x)).data, F.rms_norm(torch.tensor(x), (7,), eps=1e-6))


def test_normalized_scores_stay_below_the_root(rng):
    layer = MultiHeadAttention(128, 1, qk_norm=True, rng=rng, dtype=float)
    x = Tensor(1e6 * rng.standard_normal((1, T, 128)))
    q, k, _ = layer.project(x)
    close((k.data**2).mean(-1), 1, rtol=1e-3)
    scores = q.data[0, 0] @ k.data[0, 0].T / np.sqrt(128)
    assert np.abs(scores).max() <= 11.314
    same = q.data[0, 0] @ q.data[0, 0].T / np.sqrt(128)
    close(same.max(), 11.3137085, rtol=1e-6)
    gradcheck(MultiHeadAttention(6, 2, qk_norm=True, rng=rng, dtype=float), [numbers(rng, 1, 3, 6)])


def test_every_path_gives_one_answer(rng):
    """Packed, streaming, and dense attention of one layer agree, masks included."""
    for causal in (False, True):
        layer = MultiHeadAttention(D, H, causal=causal, rng=rng, dtype=float)
        x = numbers(rng, B, T, D)
        packed = layer(x).data
        close(layer(x, x).data, packed)
        close(layer(x, mask=np.ones((T, T), bool)).data, packed)
        close(layer(x, mask=np.zeros((T, T))).data, packed)
        assert len(attention_maps(layer, x)) == 1
    grouped = MultiHeadAttention(D, H, H, rng=rng, dtype=float)
    grouped.load_state_dict(layer.state_dict())
    grouped.causal = True
    np.testing.assert_array_equal(grouped(x).data, packed)


def test_gradients_of_the_variants(rng):
    x = numbers(rng, 1, 3, 8)
    gradcheck(MultiHeadAttention(8, 2, 1, rope=100.0, causal=True, rng=rng, dtype=float), [x])
    gradcheck(LatentAttention(8, 2, 3, 2, rng=rng, dtype=float), [x])
    gradcheck(LatentAttention(8, 2, 3, 2, normalize=True, rng=rng, dtype=float), [x])


def test_the_count_of_weights_does_not_depend_on_the_heads(rng):
    counts = {
        sum(p.data.size for p in MultiHeadAttention(D, h, bias=False, rng=rng).parameters())
        for h in (1, 3, 5, 15)
    }
    assert counts == {4 * D * D}


@pytest.mark.parametrize("scale", [1e-200, 1e-8, 1e6])
def test_tiny_and_large_inputs(scale, rng):
    layer = MultiHeadAttention(D, H, bias=False, causal=True, rng=rng, dtype=float)
    x = Tensor(scale * rng.standard_normal((1, T, D)))
    y = layer(x).data
    assert np.isfinite(y).all()
    close(y[0, 0], layer(Tensor(x.data[:, :1])).data[0, 0], atol=0)


def test_one_position_one_head_and_nothing(rng):
    layer = MultiHeadAttention(1, 1, bias=False, rng=rng, dtype=float)
    x = Tensor(np.array([[[2.0]]]))
    value = layer.qkv.weight.data[2, 0] * 2.0
    close(layer(x).data[0, 0, 0], layer.out.weight.data[0, 0] * value)
    nothing = Tensor(np.zeros((0, T, D), np.float32))
    assert MultiHeadAttention(D, H, rng=rng)(nothing).shape == (0, T, D)


def test_nan_stays_in_its_sequence(rng):
    layer = MultiHeadAttention(D, H, bias=False, rng=rng, dtype=float)
    x = rng.standard_normal((2, T, D))
    x[1, 3, 2] = np.nan
    y = layer(Tensor(x)).data
    assert np.isfinite(y[0]).all()
    assert np.isnan(y[1]).all()


# ---- the running example -----------------------------------------------------------------------


def sentence_layer(rng):
    layer = MultiHeadAttention(4, 2, bias=False, rng=rng, dtype=float)
    layer.load_state_dict({"qkv.weight": np.concatenate([W_Q, W_K, W_V]), "out.weight": W_O})
    return layer


def test_the_sentence_against_pytorch(rng):
    layer, x = sentence_layer(rng), embed()
    q, k, v = (torch.tensor(x @ w.T).reshape(1, 5, 2, 2).transpose(1, 2) for w in (W_Q, W_K, W_V))
    heads = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(5, 4)
    close(layer(Tensor(x[None])).data[0], heads @ torch.tensor(W_O.T))
    (maps,) = attention_maps(layer, Tensor(x[None]))
    assert [VOCABULARY[1], VOCABULARY[3]] == [SENTENCE[1], SENTENCE[4]]
    close(maps[0, :, 2].round(3), [[0.027, 0.459, 0.027, 0.027, 0.459],
                                   [0.136, 0.559, 0.136, 0.136, 0.033]])  # fmt: skip


# ---- looking inside ----------------------------------------------------------------------------


def test_sum_over_heads(rng):
    layer = MultiHeadAttention(D, H, bias=False, rng=rng, dtype=float)
    x = numbers(rng, B, T, D)
    (weights,) = attention_maps(layer, x)
    parts = head_outputs(layer, x)
    assert parts.shape == (B, H, T, D)
    for h in range(H):
        close(parts[:, h], weights[:, h] @ x.data @ ov_circuit(layer, h).T)
    close(layer(x).data, parts.sum(axis=1))
    q, k, _ = layer.project(x)
    for h in range(H):
        scores = x.data[0] @ qk_circuit(layer, h) @ x.data[0].T
        close(scores, q.data[0, h] @ k.data[0, h].T, rtol=1e-9)
        assert np.linalg.matrix_rank(qk_circuit(layer, h)) == D // H
        assert np.linalg.matrix_rank(ov_circuit(layer, h)) == D // H


def test_circuits_of_grouped_heads_share_keys_and_values(rng):
    layer = MultiHeadAttention(24, 4, 2, bias=False, causal=True, rng=rng, dtype=float)
    x = numbers(rng, 1, T, 24)
    (weights,) = attention_maps(layer, x)
    total = sum(weights[0, h] @ x.data[0] @ ov_circuit(layer, h).T for h in range(4))
    close(layer(x).data[0], total)
    rows = layer.qkv.weight.data
    close(qk_circuit(layer, 1), rows[6:12].T @ rows[24:30])
    close(qk_circuit(layer, 2), rows[12:18].T @ rows[30:36])


@pytest.mark.parametrize("causal", [False, True])
def test_the_rank_of_the_logarithm_of_the_weights(causal, rng):
    """Scores of rank d_head, less one number a row: at most d_head + 1 if nothing is masked."""
    layer = MultiHeadAttention(D, 5, bias=False, causal=causal, rng=rng, dtype=float)
    (weights,) = attention_maps(layer, numbers(rng, 1, S, D))
    ranks = [np.linalg.matrix_rank(np.log(np.maximum(w, 1e-300))) for w in weights[0]]
    assert (max(ranks) == 3 + 1) is not causal


def test_one_number_reaches_the_ends_of_a_line_and_two_reach_all(rng):
    for _ in range(100):
        keys = rng.standard_normal(5)
        winners = {int((q * keys).argmax()) for q in rng.standard_normal(50)}
        assert winners <= {int(keys.argmax()), int(keys.argmin())}
    angles = 2 * np.pi * np.arange(7) / 7
    keys = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    assert (keys @ keys.T).argmax(-1).tolist() == list(range(7))


def test_ablating_a_head_removes_its_part(rng):
    layer = MultiHeadAttention(D, H, bias=False, rng=rng, dtype=float)
    x = numbers(rng, 1, T, D)
    whole = layer(x).data
    part = head_outputs(layer, x)[0, 1]
    with head_ablation(Sequential(layer), 0, 1):
        close(layer(x).data[0], whole[0] - part, rtol=1e-9)
        with head_ablation(layer, 0, 0), head_ablation(layer, 0, 2):
            close(layer(x).data, 0)
    np.testing.assert_array_equal(layer(x).data, whole)


# ---- the hand-made circuit ---------------------------------------------------------------------


def test_the_circuit_copies(rng):
    vocabulary, length = 50, 24
    circuit = InductionCircuit(vocabulary, 2 * length)
    once = np.stack([rng.permutation(vocabulary)[:length] for _ in range(200)])
    ids = np.concatenate([once, once], axis=1)
    right = circuit(ids).data[:, length:-1].argmax(-1) == ids[:, length + 1 :]
    assert right.mean() >= 0.99
    scores = induction_score(circuit, rng, vocabulary, length)
    assert scores.shape == (2, 1)
    assert scores[1, 0] > 0.7  # tokens that stand twice in the first copy share the weight
    assert scores[0, 0] < 0.01
    for layer in (0, 1):
        with head_ablation(circuit, layer, 0):
            guesses = circuit(ids).data[:, length:-1].argmax(-1)
        assert (guesses == ids[:, length + 1 :]).mean() < 0.15


def test_the_circuit_continues_the_sentence():
    ids = np.array([[VOCABULARY.index(word) for word in SENTENCE]])
    guess = InductionCircuit(4, 5)(ids).data[0, 3]
    close(guess, [0, 1, 0, 0], atol=1e-8)  # after the second "the": dog
    with pytest.raises(ValueError, match="knows 4 places, the text has 5"):
        InductionCircuit(4, 4)(ids)
    with pytest.raises(ValueError, match="tokens are 0 to 3, the text has -1 to 2"):
        InductionCircuit(4, 5)(ids - 1)


# ---- latent attention --------------------------------------------------------------------------


@pytest.mark.parametrize("normalize", [False, True])
def test_latent_attention_absorbs_its_projections(normalize, rng):
    layer = LatentAttention(D, H, kv_rank=5, rope_dim=4, normalize=normalize, rng=rng, dtype=float)
    x = numbers(rng, B, T, D)
    y = layer(x)
    close(layer.absorbed(x).data, y.data)
    weights = rng.standard_normal(y.shape)
    y.backward(weights)
    naive = {name: p.grad.copy() for name, p in layer.named_parameters()}
    layer.zero_grad()
    layer.absorbed(x).backward(weights)
    for name, p in layer.named_parameters():
        close(p.grad, naive[name], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("base", [10_000.0, 300.0])
def test_latent_attention_against_deepseek(base, rng):
    d, heads, d_head, rank, turned = 15, 3, 6, 5, 4
    config = DeepseekV3Config(
        hidden_size=d, num_attention_heads=heads, num_key_value_heads=heads, q_lora_rank=None,
        kv_lora_rank=rank, qk_rope_head_dim=turned, qk_nope_head_dim=d_head, v_head_dim=d_head,
        rope_interleave=False, attn_implementation="sdpa",
    )  # fmt: skip
    theirs = DeepseekV3Attention(config, layer_idx=0)
    theirs.kv_a_layernorm = torch.nn.RMSNorm(rank, eps=1e-6)  # theirs works in float32
    torch.nn.init.normal_(theirs.kv_a_layernorm.weight)
    theirs = theirs.double()
    ours = LatentAttention(
        d, heads, rank, turned, d_head=d_head, normalize=True, rope_base=base, rng=rng, dtype=float
    )
    state = {name: a.numpy() for name, a in theirs.state_dict().items()}
    q = state["q_proj.weight"].reshape(heads, d_head + turned, d)
    plain, rotated = q[:, :d_head].reshape(-1, d), q[:, d_head:].reshape(-1, d)
    up = state["kv_b_proj.weight"].reshape(heads, 2 * d_head, rank)
    ours.load_state_dict({
        "query.weight": np.concatenate([plain, rotated]),
        "down.weight": state["kv_a_proj_with_mqa.weight"],
        "latent_gain": state["kv_a_layernorm.weight"],
        "up_key.weight": up[:, :d_head].reshape(-1, rank),
        "up_value.weight": up[:, d_head:].reshape(-1, rank),
        "out.weight": state["o_proj.weight"],
    })  # fmt: skip
    x = numbers(rng, B, T, d)
    tx = torch.tensor(x.data, requires_grad=True)
    z, _ = theirs(tx, rotation(T, turned, base), None)
    close(ours(x).data, z)
    y = ours.absorbed(x)
    close(y.data, z)
    weights = rng.standard_normal(y.shape)
    y.backward(weights)
    z.backward(torch.tensor(weights))
    close(x.grad, tx.grad, rtol=1e-9)


# ---- the cache ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (CacheConfig(80, 8, 128), 327_680),  # Llama-3-70B
        (CacheConfig(80, 64, 128), 2_621_440),  # the same without sharing
        (CacheConfig(126, 8, 128), 516_096),  # Llama-3.1-405B
        (CacheConfig(61, kv_rank=512, rope_dim=64), 70_272),  # DeepSeek-V3
        (CacheConfig(32, 32, 128), 524_288),  # Llama-2-7B
        (CacheConfig(32, 1, 64), 8_192),  # Falcon-7B
        (CacheConfig(12, 12, 64), 36_864),  # GPT-2 small
        (CacheConfig(1, 1, 1, element=4), 8),
    ],
)
def test_cache_sizes(config, size):
    assert kv_bytes_per_token(config) == size


def test_sizes_of_published_models():
    """What the page's table takes from the configurations that transformers ships."""
    falcon, deepseek, llama = FalconConfig(), DeepseekV3Config(), LlamaConfig()
    assert falcon.multi_query
    assert (falcon.num_hidden_layers, falcon.hidden_size // falcon.num_attention_heads) == (32, 64)
    assert deepseek.num_hidden_layers == 61
    assert (deepseek.kv_lora_rank, deepseek.qk_rope_head_dim) == (512, 64)
    assert deepseek.num_attention_heads == 128
    assert (deepseek.qk_nope_head_dim, deepseek.v_head_dim) == (128, 128)
    assert (llama.num_hidden_layers, llama.num_key_value_heads) == (32, 32)
    assert llama.hidden_size // llama.num_attention_heads == 128


def test_pooling_heads_into_groups(rng):
    layer = MultiHeadAttention(24, 4, causal=True, rng=rng, dtype=float)
    same = mha_to_gqa(layer, 4)
    x = numbers(rng, B, T, 24)
    np.testing.assert_array_equal(same(x).data, layer(x).data)
    pooled = mha_to_gqa(layer, 2)
    assert pooled.n_kv_heads == 2
    weight = layer.qkv.weight.data
    close(pooled.qkv.weight.data[24:30], (weight[24:30] + weight[30:36]) / 2)
    # heads of a group that already agree lose nothing
    for rows in (slice(24, 48), slice(48, 72)):
        for array in (weight, layer.qkv.bias.data):
            shared = array[rows].reshape(2, 2, 6, *array.shape[1:])
            shared[:, 1] = shared[:, 0]
    close(mha_to_gqa(layer, 2)(x).data, layer(x).data)


# ---- what the page says of PyTorch -------------------------------------------------------------


def test_facts_about_pytorch(rng):
    """Each fact of the boxes "In PyTorch 2.13"."""
    layer = torch.nn.MultiheadAttention(D, H)
    assert not layer.batch_first  # default axes: (time, batch, width)
    assert layer.in_proj_weight.shape == (3 * D, D)  # rows: queries, keys, values
    assert layer.in_proj_bias is not None
    assert layer.out_proj.bias is not None
    layer = torch.nn.MultiheadAttention(D, H, batch_first=True, bias=False)
    x = torch.randn(B, T, D)
    _, weights = layer(x, x, x)
    assert weights.shape == (B, T, T)  # the mean over heads
    _, each = layer(x, x, x, average_attn_weights=False)
    assert each.shape == (B, H, T, T)
    torch.testing.assert_close(weights, each.mean(dim=1))
    _, nothing = layer(x, x, x, need_weights=False)
    assert nothing is None
    hide = torch.ones(T, T).triu(1).bool()  # true means: may NOT look
    masked, _ = layer(x, x, x, attn_mask=hide)
    packed = (x @ layer.in_proj_weight.T).chunk(3, -1)
    q, k, v = (a.unflatten(-1, (H, -1)).transpose(1, 2) for a in packed)
    heads = F.scaled_dot_product_attention(q, k, v, attn_mask=~hide)  # true means: may look
    torch.testing.assert_close(masked, layer.out_proj(heads.transpose(1, 2).flatten(-2)))
    with pytest.raises(AssertionError, match="embed_dim must be divisible by num_heads"):
        torch.nn.MultiheadAttention(D, 4)
    apart = torch.randn(B, H, T, D // H).transpose(1, 2)
    with pytest.raises(RuntimeError, match=r"view size is not compatible.*Use \.reshape"):
        apart.view(B, T, D)
    assert apart.reshape(B, T, D).data_ptr() != apart.data_ptr()


def test_facts_about_grouped_attention_in_pytorch():
    q, k, v = torch.randn(B, 6, T, 5), torch.randn(B, 2, S, 5), torch.randn(B, 2, S, 5)
    with pytest.raises(RuntimeError):
        F.scaled_dot_product_attention(q, k, v)
    y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    k, v = (x.repeat_interleave(3, dim=1) for x in (k, v))
    torch.testing.assert_close(y, F.scaled_dot_product_attention(q, k, v))


# ---- refusals ----------------------------------------------------------------------------------


def test_refusals(rng):
    with pytest.raises(ValueError, match="does not divide into 4 heads"):
        MultiHeadAttention(D, 4, rng=rng)
    with pytest.raises(ValueError, match="3 heads do not divide into 2 groups"):
        MultiHeadAttention(D, 3, 2, rng=rng)
    with pytest.raises(ValueError, match="at least 1 head of each kind, not 0 and 0"):
        MultiHeadAttention(D, 0, rng=rng)
    with pytest.raises(ValueError, match="width 15 does not divide into 4 heads"):
        split_heads(Tensor(np.zeros((2, 15))), 4)
    with pytest.raises(ValueError, match="width 15 does not divide into 0 heads"):
        split_heads(Tensor(np.zeros((2, 15))), 0)
    with pytest.raises(ValueError, match="width 15 does not divide into 2 heads"):
        LatentAttention(D, 2, 3, 2, rng=rng)
    with pytest.raises(ValueError, match="at least 1 number, not 0"):
        MultiHeadAttention(D, H, d_head=0, rng=rng)
    with pytest.raises(ValueError, match="latent vector has at least 1 number, not 0"):
        LatentAttention(D, H, 0, 2, rng=rng)
    x, context = (Tensor(np.ones((1, n, D), np.float32)) for n in (3, 5))
    with pytest.raises(ValueError, match="got 3 queries and 5 keys"):
        MultiHeadAttention(D, 1, d_head=4, rope=100.0, rng=rng)(x, context)
    layer = MultiHeadAttention(D, H, rng=rng)
    with pytest.raises(ValueError, match="3 key-value heads do not divide into 2 groups"):
        mha_to_gqa(layer, 2)
    with pytest.raises(IndexError, match="numbered 0 to 2; there is no 3"):
        qk_circuit(layer, 3)
    for place, message in (((1, 0), "1 attention layers; there is no 1"),
                           ((0, -1), "numbered 0 to 2; there is no -1")):  # fmt: skip
        with pytest.raises(IndexError, match=message), head_ablation(layer, *place):
            pass
    with pytest.raises(ValueError, match="give n_kv_heads with d_head, or kv_rank"):
        CacheConfig(80)
    with pytest.raises(ValueError, match="give n_kv_heads with d_head, or kv_rank"):
        CacheConfig(80, 8, 128, kv_rank=512)
    with pytest.raises(ValueError, match="give n_kv_heads with d_head, or kv_rank"):
        CacheConfig(80, 8, 128, rope_dim=64)
    with pytest.raises(ValueError, match="sizes at least 0"):
        CacheConfig(80, -8, 128)
    with pytest.raises(ValueError, match="at least 2 tokens"):
        induction_score(InductionCircuit(4, 4), rng, 4, length=1)
