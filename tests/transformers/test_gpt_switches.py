"""Small changes of a GPT: tables of values, shares of the first state, branches that begin with 0.

The oracle is transformers' GPT-2, with hooks at the places that each change names.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from chainrule.modern_llms.efficient_adaptation import PromptTuning
from chainrule.modern_llms.fine_tuning import ClassifierHead
from chainrule.modern_llms.inference import ContinuousBatcher
from chainrule.training.distributed_training import TensorParallelGPT, World
from chainrule.transformers.gpt import GPT, load_gpt2_state
from chainrule.transformers.transformer_architecture import Transformer

B, T, V, D = 3, 7, 23, 20


def randomized(changes, rng):
    """A GPT-2 of transformers, and ours with the same weights and the changes."""
    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(
        GPT2Config(vocab_size=V, n_positions=11, n_embd=D, n_layer=3, n_head=5,
                   activation_function="relu2" if changes.get("feed_forward") else "gelu_new")
    )  # fmt: skip
    theirs = theirs.double().eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    plain = load_gpt2_state({n: a.numpy() for n, a in theirs.state_dict().items()}, heads=5)
    ours = GPT(replace(plain.config, **changes), rng)
    own = {n: rng.normal(size=p.shape) for n, p in ours.named_parameters()}
    ours.load_state_dict({**own, **plain.state_dict()})
    return theirs, ours


def with_hooks(theirs, ours, ids):
    """The changes, said once more in PyTorch; returns what was added, by our names."""
    added = {}
    for i, (block, own) in enumerate(zip(theirs.transformer.h, ours.blocks, strict=True)):
        if own.value_table is not None:
            table = torch.tensor(own.value_table.weight.data, requires_grad=True)
            added[f"blocks.{i}.value_table.weight"] = table

            def values(_, __, out, table=table):
                return torch.cat([out[..., : 2 * D], out[..., 2 * D :] + table[ids]], dim=-1)

            block.attn.c_attn.register_forward_hook(values)
        if own.start_share is not None:
            share = torch.tensor(own.start_share.data, requires_grad=True)
            added[f"blocks.{i}.start_share"] = share

            def start(_, args, share=share):
                tokens = theirs.transformer.wte(ids) + theirs.transformer.wpe.weight[:T]
                return (args[0] + share * tokens, *args[1:])

            block.register_forward_pre_hook(start)
    return added


@pytest.mark.parametrize(
    "changes",
    [
        {"value_embeddings": True},
        {"x0_residual": True},
        {"value_embeddings": True, "x0_residual": True, "feed_forward": "relu2"},
    ],
    ids=str,
)
def test_logits_and_gradients_against_gpt2_with_hooks(changes, rng):
    theirs, ours = randomized(changes, rng)
    ids, upstream = rng.integers(0, V, (B, T)), rng.normal(size=(B, T, V))
    added = with_hooks(theirs, ours, torch.tensor(ids))
    z, y = theirs(torch.tensor(ids)).logits, ours(ids)
    np.testing.assert_allclose(y.data, z.detach(), rtol=1e-10, atol=1e-10)
    z.backward(torch.tensor(upstream))
    y.backward(upstream)
    mine = dict(ours.named_parameters())
    assert len(added) == 3 * sum(name != "feed_forward" for name in changes)
    for name, tensor in added.items():
        np.testing.assert_allclose(mine[name].grad, tensor.grad, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(
        mine["tokens.weight"].grad, theirs.transformer.wte.weight.grad, rtol=1e-9, atol=1e-9
    )


def test_every_way_through_the_model_is_the_same(rng):
    _, ours = randomized({"value_embeddings": True, "x0_residual": True}, rng)
    ids = rng.integers(0, V, (B, T))
    expected = ours(ids).data
    np.testing.assert_array_equal(ours.predict(ours.hidden_states(ids)[-1]).data, expected)
    decoder = Transformer(ours.config, rng)
    decoder.load_state_dict({
        f"decoder.{n}" if n.startswith(("blocks", "norm")) else n: array
        for n, array in ours.state_dict().items()
    })  # fmt: skip
    np.testing.assert_allclose(decoder(None, ids).data, expected, rtol=1e-12)
    pooled = ClassifierHead(ours, 2).features(ids)
    states = ours.norm(ours.hidden_states(ids)[-1]).data
    np.testing.assert_allclose(pooled.data, states.mean(axis=1), rtol=1e-12)


def test_how_the_changes_begin(rng):
    """Sinks and shares at 0; no branch adds anything; the other weights are those without."""
    base = randomized({}, rng)[1].config
    changes = {"zero_init": True, "sink": True, "x0_residual": True}
    plain = GPT(base, np.random.default_rng(5))
    model = GPT(replace(base, **changes), np.random.default_rng(5))
    ids = rng.integers(0, V, (B, T))
    states = model.hidden_states(ids)
    for state in states[1:]:
        np.testing.assert_array_equal(state.data, states[0].data)
    before = plain.state_dict()
    for name, array in model.state_dict().items():
        if name.endswith(("out.weight", "down.weight", "sink", "start_share")):
            np.testing.assert_array_equal(array, 0)
        else:
            np.testing.assert_array_equal(array, before[name])
    model.loss(ids, ids).backward()
    block = model.blocks[0]
    assert np.abs(block.attention.out.weight.grad).min() > 0
    assert not block.attention.qkv.weight.grad.any()  # it waits for the first step of the other
    values = GPT(replace(base, value_embeddings=True), rng).blocks[1].value_table.weight
    assert values.shape == (V, D)
    assert values.data.std() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("switch", ["sink", "value_embeddings", "x0_residual"])
def test_who_cannot_carry_it_says_so(switch, rng):
    config = replace(randomized({}, rng)[1].config, dtype="float32", **{switch: True})
    with pytest.raises(ValueError, match="without sink, value_embeddings and x0_residual; got"):
        ContinuousBatcher(GPT(config, rng), 2)
    with pytest.raises(ValueError, match="without sink, value_embeddings and x0_residual; got"):
        World(1).run(lambda w: TensorParallelGPT(w, GPT(config, np.random.default_rng(0))))
    if switch != "sink":
        tuned = PromptTuning(GPT(config, rng), np.zeros((2, D), np.float32))
        with pytest.raises(ValueError, match=r"this block .*; give"):
            tuned(rng.integers(0, V, (B, T)))
