"""Configurations against transformers' families: the same logits, and the same published counts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    Qwen3Config,
)

from chainrule.neural_networks.backpropagation import grad
from chainrule.transformers.transformer_architecture import (
    BASE_TRANSFORMER,
    GEMMA_3_1B,
    GPT2_LARGE,
    GPT2_MEDIUM,
    GPT2_SMALL,
    GPT2_XL,
    LLAMA_2_7B,
    LLAMA_3_8B,
    MIXTRAL_8X7B,
    QWEN_3_06B,
    Transformer,
    TransformerConfig,
    count_flops,
    count_params,
    parameter_table,
)

B, T, V, D, H = 2, 11, 23, 24, 3

# ---- logits --------------------------------------------------------------------------------------

LLAMA_3_SCALING = {
    "type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original": 8,
}  # fmt: skip
SMALL = {"vocab_size": V, "hidden_size": D, "intermediate_size": 40, "num_attention_heads": 4,
         "num_key_value_heads": 2, "attn_implementation": "eager"}  # fmt: skip
OURS = {"vocab_size": V, "width": D, "hidden": 40, "heads": 4, "kv_heads": 2}

FAMILIES = {
    "GPT-2": (
        replace(GPT2_SMALL, vocab_size=V, width=D, heads=4, decoder_layers=3, context=13),
        lambda: GPT2Config(vocab_size=V, n_positions=13, n_embd=D, n_layer=3, n_head=4,
                           attn_implementation="eager"),
    ),
    "Llama 2": (
        replace(LLAMA_2_7B, **{**OURS, "kv_heads": None}, decoder_layers=2),
        lambda: LlamaConfig(**{**SMALL, "num_key_value_heads": 4}, num_hidden_layers=2,
                            rms_norm_eps=1e-5),
    ),
    "Llama 3": (
        replace(LLAMA_3_8B, **OURS, decoder_layers=2, rope_scaling=LLAMA_3_SCALING),
        lambda: LlamaConfig(
            **SMALL, num_hidden_layers=2, rms_norm_eps=1e-5, max_position_embeddings=64,
            rope_parameters={
                "rope_theta": 500_000.0, "rope_type": "llama3", "factor": 8.0,
                "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8,
            },
        ),
    ),
    "Qwen 3": (
        replace(QWEN_3_06B, **OURS, d_head=8, decoder_layers=2),
        lambda: Qwen3Config(**SMALL, head_dim=8, num_hidden_layers=2, tie_word_embeddings=True,
                            rope_parameters={"rope_theta": 1e6, "rope_type": "default"}),
    ),
    "Gemma 3": (
        replace(GEMMA_3_1B, **OURS, d_head=8, decoder_layers=7, window=(*5 * (3,), None),
                rope_scaling=(*5 * (None,), {"type": "linear", "factor": 8.0})),
        lambda: Gemma3TextConfig(
            **SMALL, head_dim=8, num_hidden_layers=7, sliding_window=3, query_pre_attn_scalar=8,
            rope_parameters={
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
            },
        ),
    ),
    "Mixtral": (
        replace(MIXTRAL_8X7B, **OURS, experts=4, decoder_layers=2),
        lambda: MixtralConfig(**SMALL, num_hidden_layers=2, num_local_experts=4,
                              num_experts_per_tok=2, rms_norm_eps=1e-5, sliding_window=None,
                              rope_parameters={"rope_theta": 1e6, "rope_type": "default"}),
    ),
}  # fmt: skip


def translated(cfg, theirs):
    """The state of one of transformers' models under our names."""
    state = {name: a.numpy() for name, a in theirs.state_dict().items()}
    gemma = "Gemma" in type(theirs).__name__
    found = {}

    def gain(name):
        return state[name] + (1 if gemma else 0)  # Gemma stores what is added to 1

    if "transformer.wte.weight" in state:
        names = {"wte": "tokens", "wpe": "positions", "ln_f": "decoder.norm",
                 "h.": "decoder.blocks.", "ln_1": "attention_norm", "ln_2": "feed_forward_norm",
                 "attn.c_attn": "attention.qkv", "attn.c_proj": "attention.out",
                 "mlp.c_fc": "feed_forward.up", "mlp.c_proj": "feed_forward.down"}  # fmt: skip
        for name, array in state.items():
            if name == "lm_head.weight":
                continue
            ours = name.removeprefix("transformer.")
            for a, b in names.items():
                ours = ours.replace(a, b)
            found[ours] = array.T if array.ndim == 2 and "blocks" in ours else array
        return found

    found["tokens.weight"] = state["model.embed_tokens.weight"]
    found["decoder.norm.weight"] = gain("model.norm.weight")
    if not cfg.tied:
        found["head.weight"] = state["lm_head.weight"]
    sandwich = cfg.norm_place == "sandwich"
    norms = {"attention_norm": "input_layernorm"}
    norms |= (
        {"attention_after": "post_attention_layernorm",
         "feed_forward_norm": "pre_feedforward_layernorm",
         "feed_forward_after": "post_feedforward_layernorm"}
        if sandwich
        else {"feed_forward_norm": "post_attention_layernorm"}
    )  # fmt: skip
    for i in range(cfg.decoder_layers):
        here, there = f"decoder.blocks.{i}.", f"model.layers.{i}."
        for a, b in norms.items():
            found[f"{here}{a}.weight"] = gain(f"{there}{b}.weight")
        qkv = [state[f"{there}self_attn.{n}_proj.weight"] for n in "qkv"]
        found[f"{here}attention.qkv.weight"] = np.concatenate(qkv)
        found[f"{here}attention.out.weight"] = state[f"{there}self_attn.o_proj.weight"]
        if cfg.qk_norm:
            found[f"{here}attention.query_gain"] = gain(f"{there}self_attn.q_norm.weight")
            found[f"{here}attention.key_gain"] = gain(f"{there}self_attn.k_norm.weight")
        if cfg.experts:
            found[f"{here}feed_forward.router.weight"] = state[f"{there}mlp.gate.weight"]
            found[f"{here}feed_forward.choice_bias"] = np.zeros(cfg.experts, np.float32)
            for e in range(cfg.experts):
                expert = f"{here}feed_forward.experts.{e}."
                gate, up = np.split(state[f"{there}mlp.experts.gate_up_proj"][e], 2)
                down = state[f"{there}mlp.experts.down_proj"][e]
                for name, array in (("gate", gate), ("up", up), ("down", down)):
                    found[f"{expert}{name}.weight"] = array
        else:
            for name in ("gate", "up", "down"):
                theirs_name = f"{there}mlp.{name}_proj.weight"
                found[f"{here}feed_forward.{name}.weight"] = state[theirs_name]
    return found


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request):
    cfg, make = FAMILIES[request.param]
    torch.manual_seed(0)
    theirs = transformers.AutoModelForCausalLM.from_config(make()).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.add_(torch.randn_like(parameter) * (0.1 if parameter.ndim > 1 else 0.3))
            assert parameter.dtype == torch.float32, name
    ours = Transformer(cfg, np.random.default_rng(0)).eval()
    ours.load_state_dict(translated(cfg, theirs))
    return cfg, ours, theirs


def test_logits_of_six_families(pair, rng):
    cfg, ours, theirs = pair
    ids = rng.integers(0, V, (B, T))
    with torch.no_grad():
        expected = theirs(torch.tensor(ids)).logits.numpy()
    np.testing.assert_allclose(ours(None, ids).data, expected, rtol=1e-4, atol=2e-5)
    assert count_params(cfg) == sum(p.numel() for p in theirs.parameters())


def test_gradients_of_six_families(pair, rng):
    _, ours, theirs = pair
    ids = rng.integers(1, V, (B, T))  # 0 is Gemma's padding, whose row torch does not train
    weights = rng.standard_normal((B, T, V)).astype(np.float32)
    table = theirs.get_input_embeddings().weight
    (theirs(torch.tensor(ids)).logits * torch.tensor(weights)).sum().backward()
    (mine,) = grad((ours(None, ids) * weights).sum(), [ours.tokens.weight])
    size = np.abs(table.grad.numpy()).max()
    np.testing.assert_allclose(mine, table.grad, rtol=1e-3, atol=1e-4 * size)
    theirs.zero_grad()


@pytest.mark.parametrize("change", [{"window": None}, {"rope_base": 10_000.0}, {"scaled": False},
                                    {"norm_place": "pre"}, {"qk_norm": False}])  # fmt: skip
def test_each_setting_of_gemma_matters(change, rng):
    """A switch that does nothing would pass the comparison above if both ignored it."""
    cfg = FAMILIES["Gemma 3"][0]
    ids = rng.integers(0, V, (1, T))
    one, other = (Transformer(c, np.random.default_rng(1)) for c in (cfg, replace(cfg, **change)))
    for name, parameter in one.named_parameters():
        if parameter.ndim == 1:
            parameter.data[...] = rng.uniform(0.5, 1.5, parameter.shape)
        if name in (state := other.state_dict()):
            state[name][...] = parameter.data
    assert not np.allclose(one(None, ids).data, other(None, ids).data, atol=1e-3)


# ---- published counts ----------------------------------------------------------------------------


def on_meta(config):
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    return sum(p.numel() for p in model.parameters())


def test_published_counts():
    assert count_params(GPT2_SMALL) == 124_439_808 == on_meta(GPT2Config())
    assert count_params(GPT2_MEDIUM) == 354_823_168
    assert count_params(GPT2_LARGE) == 774_030_080
    assert count_params(GPT2_XL) == 1_557_611_200
    assert count_params(LLAMA_2_7B) == 6_738_415_616 == on_meta(LlamaConfig())
    assert count_params(LLAMA_3_8B) == 8_030_261_248
    assert count_params(QWEN_3_06B) == 596_049_920
    assert count_params(GEMMA_3_1B) == 999_885_952
    assert count_params(MIXTRAL_8X7B) == 46_702_792_704
    assert count_params(MIXTRAL_8X7B, active=True) == 12_879_925_248
    assert count_params(BASE_TRANSFORMER) == 44_140_544
    assert count_params(replace(BASE_TRANSFORMER, vocab_size=37_000)) == 63_084_544


def test_counts_of_todays_families_against_transformers():
    llama = LlamaConfig(vocab_size=128_256, num_key_value_heads=8, intermediate_size=14_336)
    assert on_meta(llama) == count_params(LLAMA_3_8B)
    qwen = Qwen3Config(hidden_size=1024, intermediate_size=3072, num_hidden_layers=28,
                       num_attention_heads=16, num_key_value_heads=8, head_dim=128,
                       tie_word_embeddings=True)  # fmt: skip
    assert on_meta(qwen) == count_params(QWEN_3_06B)
    gemma = Gemma3TextConfig(vocab_size=262_144, hidden_size=1152, intermediate_size=6912,
                             num_hidden_layers=26, num_attention_heads=4, num_key_value_heads=1,
                             head_dim=256)  # fmt: skip
    assert on_meta(gemma) == count_params(GEMMA_3_1B)
    assert on_meta(MixtralConfig()) == count_params(MIXTRAL_8X7B)


def test_what_differs_from_llama_3():
    """The table of five families: what it lists, and sizes and eps, are all that differs."""
    sizes = ("vocab_size", "width", "heads", "kv_heads", "decoder_layers", "hidden", "context",
             "eps")  # fmt: skip
    listed = {
        MIXTRAL_8X7B: ("experts", "rope_base"),
        QWEN_3_06B: ("qk_norm", "tied", "rope_base", "d_head"),
        GEMMA_3_1B: ("norm_place", "feed_forward", "qk_norm", "tied", "scaled", "d_head", "window",
                     "rope_base"),
        GPT2_SMALL: ("norm", "feed_forward", "bias", "positions", "tied", "rope_base"),
    }  # fmt: skip
    for cfg, names in listed.items():
        assert all(getattr(cfg, n) != getattr(LLAMA_3_8B, n) for n in names), cfg
        changes = {n: getattr(cfg, n) for n in (*sizes, *names)}
        assert replace(LLAMA_3_8B, **changes) == cfg
    assert MIXTRAL_8X7B.experts == 8
    assert GEMMA_3_1B.window == (512, 512, 512, 512, 512, None)
    assert GEMMA_3_1B.rope_base == (*5 * (1e4,), 1e6)


def test_families_that_are_left_out():
    """What the record has no field for, in the classes of transformers."""
    with torch.device("meta"):
        qwen = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(num_hidden_layers=1))
        olmo = transformers.Olmo2ForCausalLM(transformers.Olmo2Config(num_hidden_layers=1))
        deepseek = transformers.DeepseekV3ForCausalLM(
            transformers.DeepseekV3Config(num_hidden_layers=1)
        )
        oss = transformers.GptOssForCausalLM(transformers.GptOssConfig(num_hidden_layers=1))
    biased = {n.split(".")[-2] for n, _ in qwen.named_parameters() if n.endswith(".bias")}
    assert biased == {"q_proj", "k_proj", "v_proj"}
    assert transformers.Gemma2Config().attn_logit_softcapping == 50
    assert transformers.Gemma2Config().final_logit_softcapping == 30
    shapes = {n.removeprefix("model.layers.0."): tuple(p.shape)
              for m in (olmo, deepseek, oss) for n, p in m.named_parameters()}  # fmt: skip
    assert not any("input_layernorm" in n for n, _ in olmo.named_parameters())
    assert shapes["self_attn.q_norm.weight"] == (olmo.config.hidden_size,)
    latent = deepseek.config.kv_lora_rank + deepseek.config.qk_rope_head_dim
    assert shapes["self_attn.kv_a_proj_with_mqa.weight"] == (latent, deepseek.config.hidden_size)
    inner = oss.config.intermediate_size
    assert shapes["mlp.experts.gate_up_proj_bias"] == (oss.config.num_local_experts, 2 * inner)
    assert oss.config.swiglu_limit == 7


def test_shares():
    table = parameter_table(LLAMA_2_7B)
    assert table["feed-forward"] / sum(table.values()) == pytest.approx(0.642, abs=1e-3)
    d = 768
    table = parameter_table(GPT2_SMALL)
    one = (table["attention"] + table["feed-forward"] + table["norm"] - 2 * d) // 12
    assert one == 7_087_872 == 12 * d**2 + 13 * d


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bias": False},
        {"norm": "rms"},
        {"norm": "rms", "bias": False, "qk_norm": True},
        {"norm_place": "none"},
        {"norm_place": "post"},
        {"norm_place": "sandwich"},
        {"norm_place": "sandwich", "encoder_layers": 2},
        {"parallel": True},
        {"feed_forward": "swiglu"},
        {"feed_forward": "relu2"},
        {"kv_heads": 1},
        {"d_head": 7},
        {"positions": "sinusoidal", "tied": False},
        {"encoder_layers": 2},
        {"vocab_size": 0},
        {"bias": False, "experts": 3, "shared_experts": 1, "feed_forward": "swiglu"},
        {"final_norm": False},
        {"positions": "rope", "window": (3, None), "rope_base": (100.0, None)},
        {"sink": True, "encoder_layers": 2},
        {"value_embeddings": True, "kv_heads": 1, "d_head": 5},
        {"x0_residual": True, "zero_init": True},
    ],
)
def test_counts_equal_the_built_model(changes, rng):
    base = {"vocab_size": V, "width": 12, "heads": H, "decoder_layers": 2, "hidden": 17,
            "context": 9}  # fmt: skip
    cfg = TransformerConfig(**{**base, **changes})
    built = sum(p.size for p in Transformer(cfg, rng).parameters())
    assert count_params(cfg) == built
    assert count_params(cfg, active=True) <= built


# ---- operations ----------------------------------------------------------------------------------


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


def test_flops_of_windows_and_experts():
    cfg = replace(GEMMA_3_1B, decoder_layers=6)
    inside, beyond = (count_flops(cfg, n) / n for n in (512, 5120))
    full = count_flops(replace(cfg, window=None), 5120) / 5120
    assert inside < beyond < full
    # five of six layers see 512 keys instead of 5,120
    assert full - beyond == 4 * 5 * (5120 - 512) * 4 * 256
    dense = replace(MIXTRAL_8X7B, experts=0, hidden=2 * 14_336)
    router = 2 * 32 * 8 * 4096
    assert count_flops(MIXTRAL_8X7B, 10) == count_flops(dense, 10) + 10 * router
    assert count_flops(cfg, 0) == 0
    with pytest.raises(ValueError, match="got -1"):
        count_flops(cfg, -1)
