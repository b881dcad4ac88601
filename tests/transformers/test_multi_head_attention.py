"""Head layouts against PyTorch and transformers' Llama, cache sizes, instruments."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

from chainrule.neural_networks.backpropagation import (
    Linear,
    Module,
    Sequential,
    Tensor,
    gradcheck,
)
from chainrule.transformers.multi_head_attention import (
    CacheConfig,
    LatentAttention,
    MultiHeadAttention,
    attention_maps,
    head_ablation,
    induction_score,
    kv_bytes_per_token,
    merge_heads,
    mha_to_gqa,
    ov_circuit,
    qk_circuit,
    split_heads,
)
from chainrule.transformers.self_attention import causal_mask

B, T, S, D, H = 2, 5, 7, 12, 3


def numbers(rng, *shape):
    return Tensor(rng.standard_normal(shape), requires_grad=True)


def test_splitting_into_heads_is_a_view(rng):
    x = numbers(rng, B, T, D)
    heads = split_heads(x, H)
    assert heads.shape == (B, H, T, D // H)
    assert np.shares_memory(heads.data, x.data)
    np.testing.assert_array_equal(heads.data[1, 2, 3], x.data[1, 3, 8:])
    np.testing.assert_array_equal(merge_heads(heads).data, x.data)


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_against_pytorch(cross, masked, bias, rng):
    ours = MultiHeadAttention(D, H, bias=bias, rng=rng, dtype=float)
    theirs = torch.nn.MultiheadAttention(D, H, bias=bias, batch_first=True).double()
    names = {"qkv.weight": "in_proj_weight", "qkv.bias": "in_proj_bias",
             "out.weight": "out_proj.weight", "out.bias": "out_proj.bias"}  # fmt: skip
    theirs.load_state_dict({names[n]: torch.tensor(a) for n, a in ours.state_dict().items()})
    x, context = numbers(rng, B, T, D), numbers(rng, B, S, D)
    tx, tc = (torch.tensor(t.data, requires_grad=True) for t in (x, context))
    source = S if cross else T
    mask = rng.random((T, source)) < 0.7 if masked else None
    if masked:
        mask[:, 0] = True
    y = ours(x, context if cross else None, mask)
    target = tc if cross else tx
    z, _ = theirs(tx, target, target, attn_mask=None if mask is None else torch.tensor(~mask))
    np.testing.assert_allclose(y.data, z.detach(), rtol=1e-9)
    weights = rng.standard_normal(y.shape)
    y.backward(weights)
    z.backward(torch.tensor(weights))
    np.testing.assert_allclose(x.grad, tx.grad, rtol=1e-9, atol=1e-12)
    if cross:
        np.testing.assert_allclose(context.grad, tc.grad, rtol=1e-9, atol=1e-12)
    theirs_named = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        np.testing.assert_allclose(
            parameter.grad, theirs_named[names[name]].grad, rtol=1e-8, atol=1e-11
        )


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_grouped_rotary_attention_against_llama(kv_heads, rng):
    d, heads = 24, 4
    config = LlamaConfig(hidden_size=d, num_attention_heads=heads, num_key_value_heads=kv_heads,
                         attn_implementation="eager")  # fmt: skip
    theirs = LlamaAttention(config, layer_idx=0).double()
    ours = MultiHeadAttention(
        d, heads, kv_heads, rope=10_000.0, bias=False, causal=True, rng=rng, dtype=float
    )
    state = theirs.state_dict()
    packed = torch.cat([state[f"{n}_proj.weight"] for n in "qkv"])
    ours.load_state_dict(
        {"qkv.weight": packed.numpy(), "out.weight": state["o_proj.weight"].numpy()}
    )
    x = numbers(rng, B, T, d)
    tx = torch.tensor(x.data, requires_grad=True)
    rotary = LlamaRotaryEmbedding(config)(tx, torch.arange(T)[None])
    bias = torch.where(torch.tensor(causal_mask(T)), 0.0, -torch.inf).double()[None, None]
    z, _ = theirs(tx, rotary, bias)
    y = ours(x)
    # transformers computes the angles in float32
    np.testing.assert_allclose(y.data, z.detach(), rtol=1e-5, atol=1e-6)
    weights = rng.standard_normal(y.shape)
    y.backward(weights)
    z.backward(torch.tensor(weights))
    np.testing.assert_allclose(x.grad, tx.grad, rtol=1e-4, atol=1e-6)
    explicit = ours(x, mask=causal_mask(T), positions=np.arange(T) + 3)
    np.testing.assert_allclose(explicit.data, y.data, rtol=1e-9)


def test_every_path_gives_one_answer(rng):
    """Packed, streaming, and dense attention of one layer agree, masks included."""
    for causal in (False, True):
        layer = MultiHeadAttention(D, H, causal=causal, rng=rng, dtype=float)
        x = numbers(rng, B, T, D)
        packed = layer(x).data
        np.testing.assert_allclose(layer(x, x).data, packed, rtol=1e-10)
        np.testing.assert_allclose(layer(x, mask=np.ones((T, T), bool)).data, packed, rtol=1e-10)
        np.testing.assert_allclose(layer(x, mask=np.zeros((T, T))).data, packed, rtol=1e-10)
        assert len(attention_maps(layer, x)) == 1
    grouped = MultiHeadAttention(D, H, H, rng=rng, dtype=float)
    grouped.load_state_dict(layer.state_dict())
    grouped.causal = True
    np.testing.assert_array_equal(grouped(x).data, packed)


def test_normalized_queries_and_keys(rng):
    layer = MultiHeadAttention(D, H, qk_norm=True, rng=rng, dtype=float)
    layer.query_gain.data[...] = rng.standard_normal(4)
    x = numbers(rng, B, T, D)
    q, k, _ = layer.project(x)
    np.testing.assert_allclose((k.data**2).mean(-1), 1, rtol=1e-3)
    expected = torch.nn.functional.rms_norm(
        torch.tensor(layer.qkv(x).data[..., :D]).reshape(B, T, H, 4), (4,),
        torch.tensor(layer.query_gain.data), 1e-6)  # fmt: skip
    np.testing.assert_allclose(q.data, expected.transpose(1, 2), rtol=1e-10)
    gradcheck(layer, [numbers(rng, 1, 3, D)])


def test_gradients_of_the_variants(rng):
    x = numbers(rng, 1, 3, 8)
    gradcheck(MultiHeadAttention(8, 2, 1, rope=100.0, causal=True, rng=rng, dtype=float), [x])
    gradcheck(LatentAttention(8, 2, 3, 2, rng=rng, dtype=float), [x])


def test_sum_over_heads(rng):
    layer = MultiHeadAttention(D, H, bias=False, rng=rng, dtype=float)
    x = numbers(rng, 1, T, D)
    (weights,) = attention_maps(layer, x)
    total = sum(weights[0, h] @ x.data[0] @ ov_circuit(layer, h).T for h in range(H))
    np.testing.assert_allclose(layer(x).data[0], total, rtol=1e-10)
    q, k, _ = layer.project(x)
    for h in range(H):
        scores = x.data[0] @ qk_circuit(layer, h) @ x.data[0].T
        np.testing.assert_allclose(scores, q.data[0, h] @ k.data[0, h].T, rtol=1e-9, atol=1e-12)


def test_latent_attention_absorbs_its_projections(rng):
    layer = LatentAttention(D, H, kv_rank=5, rope_dim=4, rng=rng, dtype=float)
    x = numbers(rng, B, T, D)
    y = layer(x)
    np.testing.assert_allclose(layer.absorbed(x).data, y.data, rtol=1e-9)
    weights = rng.standard_normal(y.shape)
    y.backward(weights)
    naive = {name: p.grad.copy() for name, p in layer.named_parameters()}
    layer.zero_grad()
    layer.absorbed(x).backward(weights)
    for name, p in layer.named_parameters():
        np.testing.assert_allclose(p.grad, naive[name], rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (CacheConfig(80, 8, 128), 327_680),  # Llama-3-70B
        (CacheConfig(80, 64, 128), 2_621_440),  # the same without sharing
        (CacheConfig(126, 8, 128), 516_096),  # Llama-3.1-405B
        (CacheConfig(61, kv_rank=512, rope_dim=64), 70_272),  # DeepSeek-V3
        (CacheConfig(12, 12, 64), 36_864),  # GPT-2 small
    ],
)
def test_cache_sizes(config, size):
    assert kv_bytes_per_token(config) == size


def test_pooling_heads_into_groups(rng):
    layer = MultiHeadAttention(24, 4, causal=True, rng=rng, dtype=float)
    same = mha_to_gqa(layer, 4)
    x = numbers(rng, B, T, 24)
    np.testing.assert_array_equal(same(x).data, layer(x).data)
    pooled = mha_to_gqa(layer, 2)
    assert pooled.n_kv_heads == 2
    weight = layer.qkv.weight.data
    np.testing.assert_allclose(pooled.qkv.weight.data[24:30], (weight[24:30] + weight[30:36]) / 2)
    # heads of a group that already agree lose nothing
    for rows in (slice(24, 48), slice(48, 72)):
        for array in (weight, layer.qkv.bias.data):
            shared = array[rows].reshape(2, 2, 6, *array.shape[1:])
            shared[:, 1] = shared[:, 0]
    np.testing.assert_allclose(mha_to_gqa(layer, 2)(x).data, layer(x).data, rtol=1e-10)


def test_ablating_a_head_removes_its_part(rng):
    layer = MultiHeadAttention(D, H, bias=False, rng=rng, dtype=float)
    x = numbers(rng, 1, T, D)
    whole = layer(x).data
    (weights,) = attention_maps(layer, x)
    part = weights[0, 1] @ x.data[0] @ ov_circuit(layer, 1).T
    with head_ablation(Sequential(layer), 0, 1):
        np.testing.assert_allclose(layer(x).data[0], whole[0] - part, rtol=1e-9)
        with head_ablation(layer, 0, 0), head_ablation(layer, 0, 2):
            np.testing.assert_allclose(layer(x).data, 0, atol=1e-12)
    np.testing.assert_array_equal(layer(x).data, whole)


class Copier(Module):
    """Two layers set by hand: remember the previous token, then look up its copy."""

    def __init__(self, n):
        rng = np.random.default_rng(0)
        self.n = n
        self.previous = MultiHeadAttention(3 * n, 1, bias=False, causal=True, rng=rng, dtype=float)
        self.match = MultiHeadAttention(3 * n, 1, bias=False, causal=True, rng=rng, dtype=float)
        self.unused = Linear(1, 1, rng=rng)
        eye, zero = np.eye(n), np.zeros((n, n))

        def place(row, column):
            return np.block(
                [[eye if (i, j) == (row, column) else zero for j in range(3)] for i in range(3)]
            )

        w = self.match.qkv.weight.data
        # query: the token here (part 0); key: the previous token, kept in part 1
        w[...] = np.vstack([100 * place(0, 0), place(0, 1), place(2, 0)])
        self.match.out.weight.data[...] = np.eye(3 * n)

    def forward(self, ids):
        tokens = np.eye(self.n)[ids]
        shifted = np.zeros_like(tokens)
        shifted[:, 1:] = tokens[:, :-1]
        x = Tensor(np.concatenate([tokens, shifted, np.zeros_like(tokens)], axis=-1))
        self.previous(x)
        return self.match(x)[..., 2 * self.n :]


def test_induction_score_finds_the_head_that_copies(rng):
    n = 40
    scores = induction_score(Copier(n), rng, n, length=12)
    assert scores.shape == (2, 1)
    assert scores[1, 0] > 0.7  # repeats inside the first copy share the weight
    assert scores[0, 0] < 0.2
    once = rng.permutation(n)[:12]
    predicted = Copier(n)(np.tile(once, 2)[None]).data[0].argmax(-1)
    np.testing.assert_array_equal(predicted[12:-1], once[1:])


def test_refusals(rng):
    with pytest.raises(ValueError, match="does not divide into 5 heads"):
        MultiHeadAttention(D, 5, rng=rng)
    with pytest.raises(ValueError, match="3 heads do not divide into 2 groups"):
        MultiHeadAttention(D, 3, 2, rng=rng)
