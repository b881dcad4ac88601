"""The twin holds the same names and computes the same numbers as the course's GPT."""

import inspect
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from chainrule.pytorch import gpt as twin_module
from chainrule.pytorch.gpt import GPT as Twin
from chainrule.pytorch.gpt import MoE, to_numpy, to_torch, twin
from chainrule.training.optimizers import AdamW, ParamGroups, clip_grad_norm_, warmup_cosine
from chainrule.transformers.gpt import GPT, gpt_config

B, T, V = 3, 11, 23
TINY = gpt_config(vocab_size=V, context=13, layers=3, heads=4, width=28, dtype="float64")
SETTINGS = [
    {},
    {"norm": "rms", "bias": False},
    {"feed_forward": "gelu"},
    {"feed_forward": "relu"},
    {"feed_forward": "relu2", "hidden": 17},
    {"feed_forward": "swiglu", "hidden": 17},
    {"feed_forward": "geglu_tanh"},
    {"positions": "rope", "d_head": 6},
    {"positions": "rope", "d_head": 6, "rope_base": (50.0, None, 900.0)},
    {
        "positions": "rope",
        "d_head": 6,
        "rope_scaling": {"type": "yarn", "factor": 4.0, "original": 7},
    },
    {"positions": "sinusoidal"},
    {"positions": "none"},
    {"kv_heads": 1},
    {"kv_heads": 2, "positions": "rope", "d_head": 6, "qk_norm": True},
    {"window": 3},
    {"window": (2, None), "kv_heads": 2},
    {"norm_place": "post"},
    {"norm_place": "sandwich"},
    {"norm_place": "none"},
    {"parallel": True},
    {"tied": False, "logit_cap": 5.0, "scaled": True},
    {"experts": 5, "experts_per_token": 2, "hidden": 11, "feed_forward": "swiglu"},
    {"experts": 3, "experts_per_token": 1, "hidden": 11, "shared_experts": 1, "balance": "bias"},
]


def lively(config, rng):
    """A model whose every parameter matters: none is 0 or 1."""
    model = GPT(config, rng)
    size = 0.1 if config.norm_place == "none" else 0.3  # without norms rounding grows by layer
    for parameter in model.parameters():
        parameter.data[...] += size * rng.normal(size=parameter.shape)
    return model


def close(received, expected, tolerance, what):
    received = received.detach().numpy()
    assert received.shape == expected.shape, what
    size = np.abs(expected).max()
    assert np.abs(received - expected).max() <= tolerance * max(size, 1), what
    return size > 0


@pytest.mark.parametrize(
    ("dtype", "fused"), [("float64", True), ("float64", False), ("float32", True)]
)
@pytest.mark.parametrize("changes", SETTINGS, ids=str)
def test_logits_loss_and_every_gradient(changes, fused, dtype, rng):
    tolerance = {"float64": 1e-10, "float32": 1e-5}[dtype]
    model = lively(replace(TINY, **changes, dtype=dtype), rng)
    other = twin(model, fused)
    ids, targets = rng.integers(0, V, (2, B, T))
    mask = rng.random((B, T)) < 0.7
    theirs = [torch.from_numpy(array) for array in (ids, targets, mask)]
    close(other(theirs[0]), model(ids).data, tolerance, "logits")
    for mine, yours in zip(model.hidden_states(ids), other.hidden_states(theirs[0]), strict=True):
        close(yours, mine.data, tolerance, "a state of the stream")
    loss, their_loss = model.loss(ids, targets, mask), other.loss(*theirs)
    close(their_loss, loss.data, tolerance, "loss")
    loss.backward()
    their_loss.backward()
    gradients = {name: p.grad for name, p in other.named_parameters()}
    expected = {name: p.grad for name, p in model.named_parameters()}
    assert list(gradients) == list(expected)
    alive = 0
    for name, gradient in expected.items():
        if gradient is None:  # an expert that no token chose
            assert gradients[name] is None, name
        else:
            alive += close(gradients[name], gradient, tolerance, name)
    assert alive > 0.8 * len(expected)


@pytest.mark.parametrize("changes", SETTINGS, ids=str)
def test_weights_go_over_and_back_by_their_names(changes, rng):
    model = lively(replace(TINY, **changes, dtype="float32"), rng)
    state = model.state_dict()
    other = twin(model)
    assert list(other.state_dict()) == list(state)
    back = GPT(model.config, np.random.default_rng(7))
    back.load_state_dict(to_numpy(other.state_dict()))
    for name, array in back.state_dict().items():
        assert np.array_equal(array, state[name]), name
    state["tokens.weight"][...] = 0  # copies: neither side reaches into the other
    assert other.state_dict()["tokens.weight"].abs().sum() > 0


def test_ten_steps_of_adamw_give_the_same_losses():
    config = replace(TINY, dtype="float32")
    model = GPT(config, np.random.default_rng(5))
    other = twin(model)
    groups = ParamGroups.matrices_decay(model.parameters(), 0.1)
    mine = AdamW(groups, lr=3e-3, betas=(0.9, 0.99))
    parameters = list(other.parameters())
    yours = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=3e-3,
        betas=(0.9, 0.99),
        fused=True,
    )
    batches = np.random.default_rng(6)
    curves = [], []
    for step in range(10):
        ids = (batches.random((B, T + 1)) ** 2 * V).astype(np.int64)
        for optimizer in (mine, yours):
            for group in optimizer.param_groups:
                group["lr"] = warmup_cosine(step, 3e-3, 2, 10, 3e-4)
            optimizer.zero_grad()
        loss = model.loss(ids[:, :-1], ids[:, 1:])
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        mine.step()
        there = torch.from_numpy(ids)
        their_loss = other.loss(there[:, :-1], there[:, 1:])
        their_loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        yours.step()
        curves[0].append(loss.item())
        curves[1].append(their_loss.item())
    assert curves[0][-1] < curves[0][0] - 0.01
    np.testing.assert_allclose(curves[1], curves[0], rtol=0, atol=1e-4)


def test_dropout_drops_in_training_alone():
    model = GPT(replace(TINY, dropout=0.5), np.random.default_rng(0))
    other = twin(model)
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, V, (B, T)))
    assert not torch.equal(other(ids), other(ids))
    other.eval()
    close(other(ids), model.eval()(ids.numpy()).data, 1e-10, "logits")


def test_the_bias_of_the_router_moves_as_in_the_course(rng):
    changes = {"experts": 3, "experts_per_token": 2, "hidden": 11, "balance": "bias"}
    model = lively(replace(TINY, **changes), rng)
    other = twin(model)
    ids = rng.integers(0, V, (B, T))
    model(ids), other(torch.from_numpy(ids))
    for mine, yours in zip(model.blocks, other.blocks, strict=True):
        assert isinstance(yours.feed_forward, MoE)
        np.testing.assert_allclose(yours.feed_forward.load, mine.feed_forward.load, atol=1e-6)
        for layer in (mine.feed_forward, yours.feed_forward):
            layer.update_bias(0.01)
        moved = mine.feed_forward.choice_bias.data
        assert np.abs(moved).max() > 0
        np.testing.assert_allclose(yours.feed_forward.choice_bias, moved)


def test_the_balance_loss_is_the_course_s(rng):
    changes = {"experts": 3, "experts_per_token": 2, "hidden": 11, "balance": "loss"}
    model = lively(replace(TINY, **changes), rng)
    other = twin(model)
    ids = rng.integers(0, V, (B, T))
    model(ids), other(torch.from_numpy(ids))
    for mine, yours in zip(model.blocks, other.blocks, strict=True):
        expected = mine.feed_forward.balance_loss
        close(yours.feed_forward.balance_loss, expected.data, 1e-10, "balance loss")


def test_a_state_that_does_not_fit_is_refused_by_name(rng):
    state = to_torch(GPT(TINY, rng).state_dict())
    state.pop("blocks.1.attention.qkv.weight")
    with pytest.raises(RuntimeError, match=r"blocks\.1\.attention\.qkv\.weight"):
        Twin(TINY).load_state_dict(state)


def test_what_a_gpt_cannot_be_is_refused_as_in_the_course():
    for config in (replace(TINY, vocab_size=0), replace(TINY, encoder_layers=1)):
        with pytest.raises(ValueError, match="a GPT has a vocabulary and no encoder") as theirs:
            Twin(config)
        with pytest.raises(ValueError, match=re.escape(str(theirs.value))):
            GPT(config, np.random.default_rng(0))
    for switch in ("sink", "value_embeddings", "x0_residual"):
        with pytest.raises(ValueError, match="the twin has no sink, value_embeddings or x0_resid"):
            Twin(replace(TINY, **{switch: True}))
    with pytest.raises(ValueError, match="the context is 13 tokens, got 14"):
        Twin(TINY)(torch.zeros(1, 14, dtype=torch.long))


def test_one_file_in_the_order_of_the_course():
    """What the course builds first stands first; each class has the name it has there."""
    source = inspect.getsource(twin_module)
    names = re.findall(r"^class (\w+)", source, flags=re.M)
    assert names == [
        "LearnedPositions", "MultiHeadAttention", "FeedForward", "MoE", "DecoderBlock", "GPT",
    ]  # fmt: skip
