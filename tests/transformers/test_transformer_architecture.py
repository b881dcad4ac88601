"""The architecture against torch.nn.Transformer and transformers' Llama, and counted exactly."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

from chainrule.neural_networks.backpropagation import Tensor, grad, gradcheck
from chainrule.transformers.self_attention import causal_mask, padding_mask
from chainrule.transformers.transformer_architecture import (
    BASE_TRANSFORMER,
    LLAMA_3_8B,
    LLAMA_7B,
    DecoderBlock,
    Encoder,
    EncoderBlock,
    FeedForward,
    MoE,
    Transformer,
    TransformerConfig,
    count_flops,
    count_params,
    noam_lr,
    parameter_table,
)

B, T, S, D, H = 2, 5, 7, 12, 3


def numbers(rng, *shape):
    return Tensor(rng.standard_normal(shape), requires_grad=True)


def torch_name(name):
    for ours, theirs in (
        ("blocks.", "layers."), ("attention_norm", "norm1"),
        ("attention.qkv.", "self_attn.in_proj_"), ("attention.out", "self_attn.out_proj"),
        ("cross_norm", "norm2"),
        ("cross.qkv.", "multihead_attn.in_proj_"), ("cross.out", "multihead_attn.out_proj"),
        ("feed_forward.up", "linear1"), ("feed_forward.down", "linear2"),
    ):  # fmt: skip
        name = name.replace(ours, theirs)
    stack_has_cross = name.startswith("decoder")
    return name.replace("feed_forward_norm", "norm3" if stack_has_cross else "norm2")


@pytest.mark.parametrize("place", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_against_torch_transformer(place, activation, rng):
    cfg = TransformerConfig(
        width=D, heads=H, hidden=17, encoder_layers=2, decoder_layers=2, norm_place=place,
        feed_forward=activation, dtype="float64",
    )  # fmt: skip
    ours = Transformer(cfg, rng)
    theirs = torch.nn.Transformer(
        D, H, 2, 2, 17, 0.0, activation, batch_first=True, norm_first=place == "pre"
    ).double()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.tensor(rng.standard_normal(parameter.shape) * 0.4))
    state = theirs.state_dict()
    ours.load_state_dict({n: state[torch_name(n)].numpy() for n in ours.state_dict()})
    assert sum(p.numel() for p in theirs.parameters()) == count_params(cfg)
    src, tgt = numbers(rng, B, S, D), numbers(rng, B, T, D)
    tsrc, ttgt = (torch.tensor(t.data, requires_grad=True) for t in (src, tgt))
    pad = padding_mask(np.array([S, 4]), S)
    y = ours(src, tgt, src_mask=pad, memory_mask=pad)
    hidden = torch.tensor(~pad[:, 0, 0])
    z = theirs(tsrc, ttgt, tgt_mask=torch.tensor(~causal_mask(T)), src_key_padding_mask=hidden,
               memory_key_padding_mask=hidden)  # fmt: skip
    np.testing.assert_allclose(y.data, z.detach(), rtol=1e-8, atol=1e-10)
    weights = rng.standard_normal(y.shape)
    y.backward(weights)
    z.backward(torch.tensor(weights))
    np.testing.assert_allclose(src.grad, tsrc.grad, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(tgt.grad, ttgt.grad, rtol=1e-6, atol=1e-9)
    named = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        np.testing.assert_allclose(
            parameter.grad, named[torch_name(name)].grad, rtol=1e-6, atol=1e-8
        )


def test_published_counts():
    assert count_params(BASE_TRANSFORMER) == 44_140_544
    assert count_params(LLAMA_7B) == 6_738_415_616
    assert count_params(LLAMA_3_8B) == 8_030_261_248
    table = parameter_table(LLAMA_7B)
    assert table["feed-forward"] / sum(table.values()) == pytest.approx(0.642, abs=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bias": False},
        {"norm": "rms"},
        {"norm": "rms", "bias": False, "qk_norm": True},
        {"norm_place": "none"},
        {"feed_forward": "swiglu"},
        {"kv_heads": 1},
        {"d_head": 7},
        {"positions": "sinusoidal", "tied": False},
        {"encoder_layers": 2},
        {"vocab_size": 0},
        {"bias": False, "experts": 3, "shared_experts": 1, "feed_forward": "swiglu"},
        {"final_norm": False},
    ],
)
def test_counts_equal_the_built_model(changes, rng):
    base = {
        "vocab_size": 11,
        "width": D,
        "heads": H,
        "decoder_layers": 2,
        "hidden": 17,
        "context": 9,
    }
    cfg = TransformerConfig(**{**base, **changes})
    built = sum(p.size for p in Transformer(cfg, rng).parameters())
    assert count_params(cfg) == built


def llama_names(ours):
    for a, b in (
        ("decoder.blocks", "model.layers"), ("attention_norm", "input_layernorm"),
        ("feed_forward_norm", "post_attention_layernorm"), ("decoder.norm", "model.norm"),
        ("tokens", "model.embed_tokens"), ("head.", "lm_head."), ("feed_forward", "mlp"),
        ("mlp.gate", "mlp.gate_proj"), ("mlp.up", "mlp.up_proj"), ("mlp.down", "mlp.down_proj"),
        ("attention.out", "self_attn.o_proj"), ("attention.qkv", "self_attn.qkv"),
    ):  # fmt: skip
        ours = ours.replace(a, b)
    return ours


def test_a_llama_is_five_settings_away(rng):
    torch.manual_seed(0)
    theirs = LlamaForCausalLM(LlamaConfig(
        vocab_size=23, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=16,
        tie_word_embeddings=False,
    ))  # fmt: skip
    cfg = TransformerConfig(
        vocab_size=23, width=24, heads=4, kv_heads=2, decoder_layers=2, hidden=40,
        feed_forward="swiglu", norm="rms", eps=theirs.config.rms_norm_eps, bias=False,
        positions="rope", tied=False, context=16,
    )  # fmt: skip
    state = {n: a.numpy() for n, a in theirs.state_dict().items()}
    for i in range(2):
        prefix = f"model.layers.{i}.self_attn."
        state[prefix + "qkv.weight"] = np.concatenate(
            [state[f"{prefix}{n}_proj.weight"] for n in "qkv"]
        )
    ours = Transformer(cfg, rng)
    ours.load_state_dict({n: state[llama_names(n)] for n in ours.state_dict()})
    ids = rng.integers(0, 23, (B, T))
    with torch.no_grad():
        expected = theirs(torch.tensor(ids)).logits
    np.testing.assert_allclose(ours(None, ids).data, expected, rtol=1e-4, atol=1e-5)
    assert count_params(cfg) == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize("kind", ["relu", "gelu", "gelu_tanh", "swiglu"])
def test_feed_forward(kind, rng):
    layer = FeedForward(D, 17, kind, rng=rng, dtype=float)
    x = numbers(rng, B, 3, D)
    t = torch.tensor(x.data)
    f = {"relu": torch.relu, "gelu": torch.nn.functional.gelu, "swiglu": torch.nn.functional.silu,
         "gelu_tanh": lambda a: torch.nn.functional.gelu(a, approximate="tanh")}[kind]  # fmt: skip
    through = lambda p, a: a @ torch.tensor(p.weight.data).T + torch.tensor(p.bias.data)  # noqa: E731
    hidden = (
        f(through(layer.gate, t)) * through(layer.up, t)
        if kind == "swiglu"
        else f(through(layer.up, t))
    )
    np.testing.assert_allclose(layer(x).data, through(layer.down, hidden), rtol=1e-9)
    gradcheck(layer, [numbers(rng, 2, D)])
    with pytest.raises(ValueError, match="not 'elu'"):
        FeedForward(D, 17, "elu", rng=rng)


def dense_mixture(layer, x):
    """The same mixture by running every expert on every token."""
    tokens = x.reshape(-1, D)
    logits = (tokens @ layer.router.weight.T).data
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    scores = shares + (layer.choice_bias.data if layer.balance == "bias" else 0)
    y = 0.0
    for row, score, share in zip(range(len(shares)), scores, shares, strict=True):
        best = np.argsort(-score)[: layer.k]
        parts = sum(layer.experts[e](tokens[row : row + 1]).data * share[e] for e in best)
        y = parts / share[best].sum() if row == 0 else np.vstack([y, parts / share[best].sum()])
    for expert in layer.shared:
        y = y + expert(tokens).data
    return y.reshape(x.shape)


@pytest.mark.parametrize(
    ("k", "shared", "balance"), [(1, 0, "loss"), (2, 1, "bias"), (3, 0, "none")]
)
def test_dispatch_equals_a_dense_loop(k, shared, balance, rng):
    layer = MoE(D, 8, 4, k, shared, balance, rng=rng, dtype=float)
    layer.choice_bias.data[...] = rng.standard_normal(4)
    x = numbers(rng, B, T, D)
    np.testing.assert_allclose(layer(x).data, dense_mixture(layer, x), rtol=1e-9)
    assert layer.load.sum() == pytest.approx(1)
    gradcheck(layer, [numbers(rng, 1, D)])
    gradcheck(lambda w: _with(layer, w, x), [layer.router.weight])


def test_mixture_against_mixtral(rng):
    theirs = MixtralSparseMoeBlock(MixtralConfig(
        hidden_size=D, intermediate_size=8, num_local_experts=4, num_experts_per_tok=2,
    )).double()  # fmt: skip
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.tensor(rng.standard_normal(parameter.shape)))
    ours = MoE(D, 8, 4, 2, rng=rng, dtype=float)
    state = {name: a.numpy() for name, a in theirs.state_dict().items()}
    ours.router.weight.data[...] = state["gate.weight"]
    for i, expert in enumerate(ours.experts):
        gate, up = np.split(state["experts.gate_up_proj"][i], 2)
        expert.gate.weight.data[...], expert.up.weight.data[...] = gate, up
        expert.down.weight.data[...] = state["experts.down_proj"][i]
    x = numbers(rng, B, T, D)
    t = torch.tensor(x.data, requires_grad=True)
    y, z = ours(x), theirs(t)
    z = z[0] if isinstance(z, tuple) else z
    # transformers computes the router's softmax in float32
    np.testing.assert_allclose(y.data, z.detach(), rtol=1e-5, atol=1e-5)
    weights = rng.standard_normal(y.shape)
    y.backward(weights)
    z.backward(torch.tensor(weights))
    np.testing.assert_allclose(x.grad, t.grad, rtol=1e-4, atol=1e-4)


def _with(layer, weight, x):
    layer.router.weight = weight
    return layer(x[:1, :1])


def test_balancing(rng):
    layer = MoE(D, 8, 4, 2, balance="loss", rng=rng, dtype=float)
    layer.router.weight.data[...] = 0  # everything ties: the first two experts take all
    layer(numbers(rng, B, T, D))
    np.testing.assert_array_equal(layer.load, [0.5, 0.5, 0, 0])
    assert layer.balance_loss.item() == pytest.approx(1.0)
    layer.router.weight.data[:2] = 50 * rng.standard_normal((2, D))
    layer(numbers(rng, B, T, D))
    (gradient,) = grad(layer.balance_loss, [layer.router.weight])
    assert np.abs(gradient).max() > 0

    biased = MoE(D, 8, 4, 1, balance="bias", rng=rng, dtype=float)
    biased.router.weight.data[:] = 0.2 * rng.standard_normal((4, D))
    biased.router.weight.data[0, 0] = 2
    x = rng.standard_normal((8, 8, D))
    x[..., 0] += 1  # nearly every token prefers expert 0
    biased(Tensor(x))
    assert biased.load.max() > 0.7
    for _ in range(100):
        biased(Tensor(x))
        biased.update_bias(0.015)
    assert biased.load.max() < 0.4


def test_capacity_drops_late_tokens(rng):
    layer = MoE(D, 8, 2, 1, capacity=0.5, rng=rng, dtype=float)
    layer.router.weight.data[...] = 0  # all eight tokens want expert 0, which takes two
    x = numbers(rng, 8, D)
    y = layer(x).data
    assert (y[2:] == 0).all()
    np.testing.assert_allclose(y[:2], layer.experts[0](x).data[:2], rtol=1e-12)
    with pytest.raises(ValueError, match="1 to 2 experts, not 3"):
        MoE(D, 8, 2, 3, rng=rng)
    with pytest.raises(ValueError, match="not 'hope'"):
        MoE(D, 8, 2, 1, balance="hope", rng=rng)


def test_where_blocks_may_look(rng):
    cfg = TransformerConfig(width=D, heads=H, hidden=8, encoder_layers=1, dtype="float64")
    x = numbers(rng, 1, T, D)

    def sees(block, position):
        x.grad = None
        block(x)[0, position].sum().backward()
        return (np.abs(x.grad[0]).sum(-1) > 0).tolist()

    assert sees(EncoderBlock(cfg, rng), 2) == [True] * T
    assert sees(DecoderBlock(cfg, rng), 2) == [True] * 3 + [False] * 2
    cross = DecoderBlock(cfg, rng, cross=True)
    with pytest.raises(ValueError, match="encoder's output"):
        cross(x)
    model = Transformer(cfg, rng)
    with pytest.raises(ValueError, match="source sequence"):
        model(None, x)
    with pytest.raises(TypeError, match="no vocabulary"):
        model(np.ones((1, 2), int), x)


def test_normalization_places(rng):
    def first_and_last(place, layers=12):
        cfg = TransformerConfig(width=16, heads=2, encoder_layers=layers, decoder_layers=0,
                                norm_place=place, dtype="float64")  # fmt: skip
        encoder = Encoder(cfg, np.random.default_rng(0))
        encoder(Tensor(rng.standard_normal((4, 6, 16)))).backward(rng.standard_normal((4, 6, 16)))
        norms = [np.linalg.norm(b.feed_forward.down.weight.grad) for b in encoder.blocks]
        return norms[0] / norms[-1]

    # the early layers get the larger gradient, unless every sum on its way is normalized
    assert first_and_last("post") < 1 < first_and_last("pre")


def test_embeddings_and_positions(rng):
    for positions in ("learned", "sinusoidal", "rope", "none"):
        cfg = TransformerConfig(vocab_size=11, width=D, heads=H, decoder_layers=1, context=9,
                                positions=positions, dtype="float64")  # fmt: skip
        model = Transformer(cfg, rng)
        same = model(None, np.full((1, 4), 3)).data[0]
        assert same.shape == (4, 11)
        assert np.allclose(same[1], same[2]) == (positions in ("none", "rope"))
    with pytest.raises(ValueError, match="norm is one of"):
        TransformerConfig(norm="batch")


@pytest.mark.parametrize("kv_heads", [2, 4])
def test_flops_against_a_counter(kv_heads, rng):
    theirs = LlamaForCausalLM(LlamaConfig(
        vocab_size=31, hidden_size=48, intermediate_size=72, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=kv_heads, attn_implementation="eager",
    ))  # fmt: skip
    cfg = TransformerConfig(
        vocab_size=31, width=48, heads=4, kv_heads=kv_heads, decoder_layers=3, hidden=72,
        feed_forward="swiglu", norm="rms", bias=False, positions="rope", tied=False,
    )  # fmt: skip
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        theirs(torch.tensor(rng.integers(0, 31, (1, 40))))
    assert counter.get_total_flops() == pytest.approx(count_flops(cfg, 40), rel=0.01)
    both = TransformerConfig(width=D, heads=H, encoder_layers=2, decoder_layers=2, hidden=17)
    model = torch.nn.Transformer(D, H, 2, 2, 17, batch_first=True)
    with FlopCounterMode(display=False) as counter:
        model(torch.ones(1, T, D), torch.ones(1, T, D))
    assert counter.get_total_flops() == pytest.approx(count_flops(both, T), rel=0.01)


def test_warm_up():
    rates = [noam_lr(step, 512, 4000) for step in range(1, 20_001)]
    assert np.argmax(rates) == 3999
    assert max(rates) == pytest.approx((512 * 4000) ** -0.5)
    assert rates[1999] == pytest.approx(max(rates) / 2)
    assert rates[15_999] == pytest.approx(max(rates) / 2)
    with pytest.raises(ValueError, match="counted from 1"):
        noam_lr(0, 512, 4000)
