"""GPT in float64 against transformers' GPT-2 and Llama: logits and every gradient.

GPT-2 agrees to 1e-10. transformers computes Llama's angles in float32, so 1e-6 is what it allows.
"""

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from chainrule.transformers.gpt import GPT, GPT2_SMALL, gpt_config, load_gpt2_state
from chainrule.transformers.transformer_architecture import count_params

B, T, V = 3, 7, 23


def randomize(theirs):
    torch.manual_seed(0)
    theirs = theirs.double().eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return theirs


def gpt2():
    theirs = randomize(
        GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=11, n_embd=20, n_layer=3, n_head=5))
    )

    def ours(state):
        return load_gpt2_state(state, heads=5)

    return theirs, ours, 1e-10


def llama():
    theirs = randomize(
        LlamaForCausalLM(
            LlamaConfig(vocab_size=V, hidden_size=20, intermediate_size=34, num_hidden_layers=2,
                        num_attention_heads=5, num_key_value_heads=1, max_position_embeddings=11,
                        rms_norm_eps=1e-5)
        )
    )  # fmt: skip
    config = gpt_config(
        V, 11, layers=2, heads=5, width=20, kv_heads=1, hidden=34, norm="rms", bias=False,
        feed_forward="swiglu", positions="rope", tied=False, dtype="float64",
    )  # fmt: skip

    def ours(state):
        found = {
            "tokens.weight": state["model.embed_tokens.weight"],
            "norm.weight": state["model.norm.weight"],
            "head.weight": state["lm_head.weight"],
        }
        for i in range(2):
            here, there = f"blocks.{i}.", f"model.layers.{i}."
            found[f"{here}attention_norm.weight"] = state[f"{there}input_layernorm.weight"]
            after = state[f"{there}post_attention_layernorm.weight"]
            found[f"{here}feed_forward_norm.weight"] = after
            found[f"{here}attention.qkv.weight"] = np.concatenate(
                [state[f"{there}self_attn.{n}_proj.weight"] for n in "qkv"]
            )
            found[f"{here}attention.out.weight"] = state[f"{there}self_attn.o_proj.weight"]
            for name in ("gate", "up", "down"):
                weight = state[f"{there}mlp.{name}_proj.weight"]
                found[f"{here}feed_forward.{name}.weight"] = weight
        model = GPT(config, np.random.default_rng(0))
        model.load_state_dict(found)
        return model

    return theirs, ours, 1e-6


@pytest.mark.parametrize("family", [gpt2, llama])
def test_logits_and_all_gradients(family, rng):
    theirs, load, tolerance = family()
    model = load({name: a.numpy() for name, a in theirs.state_dict().items()})
    assert all(p.dtype == np.float64 for p in model.parameters())
    ids, upstream = rng.integers(0, V, (B, T)), rng.normal(size=(B, T, V))
    logits = theirs(torch.tensor(ids)).logits
    logits.backward(torch.tensor(upstream))
    found = model(ids)
    np.testing.assert_allclose(found.data, logits.detach(), rtol=tolerance, atol=tolerance)
    found.backward(upstream)
    expected = load({name: p.grad.numpy() for name, p in theirs.named_parameters()})
    for (name, p), (_, g) in zip(
        model.named_parameters(), expected.named_parameters(), strict=True
    ):
        size = np.abs(g.data).max()
        np.testing.assert_allclose(p.grad, g.data, rtol=0, atol=tolerance * size, err_msg=name)


def test_a_forgotten_transpose_runs_and_is_wrong(rng):
    """What the page warns of: square projections fit either way."""
    theirs, load, _ = gpt2()
    state = {name: a.numpy() for name, a in theirs.state_dict().items()}
    ids = rng.integers(0, V, (B, T))
    right = load(state)(ids).data
    for name in state:
        if name.endswith("attn.c_proj.weight"):
            state[name] = state[name].T
    assert not np.allclose(load(state)(ids).data, right, atol=0.1)


def test_what_the_page_says_of_transformers():
    config = GPT2Config()
    with torch.device("meta"):
        theirs = GPT2LMHeadModel(config)
    assert sum(p.numel() for p in theirs.parameters()) == 124_439_808 == count_params(GPT2_SMALL)
    projection = theirs.transformer.h[0].attn.c_attn
    assert type(projection).__name__ == "Conv1D"
    assert tuple(projection.weight.shape) == (768, 2304)
    assert theirs.lm_head.weight is theirs.transformer.wte.weight
    assert config.activation_function == "gelu_new"
    assert not hasattr(torch.nn, "GPT")
