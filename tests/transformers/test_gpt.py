"""GPT against transformers' GPT-2 and Llama, sampling against its logits processors."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from chainrule.neural_networks.backpropagation import load_state, no_grad, save_state
from chainrule.transformers.gpt import (
    GPT,
    GPT2_LARGE,
    GPT2_MEDIUM,
    GPT2_SMALL,
    GPT2_XL,
    WittenBell,
    bits_per_byte,
    generate,
    gpt_config,
    load_gpt2_state,
    min_p_filter,
    nucleus,
    repetition_penalty,
    sample_filters,
    top_k_filter,
    top_p_filter,
    witten_bell_ngram,
)
from chainrule.transformers.self_attention import has_leak
from chainrule.transformers.transformer_architecture import count_params

B, T, V = 2, 7, 23
TINY = gpt_config(vocab_size=V, context=11, layers=2, heads=3, width=12)


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(
        GPT2Config(vocab_size=V, n_positions=11, n_embd=24, n_layer=3, n_head=4,
                   resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, initializer_range=0.2)
    )  # fmt: skip
    state = {name: array.numpy() for name, array in theirs.state_dict().items()}
    return load_gpt2_state(state, heads=4), theirs


def test_logits_and_loss_against_gpt2(pair, rng):
    ours, theirs = pair
    ids = rng.integers(0, V, (B, T))
    with torch.no_grad():
        out = theirs(torch.tensor(ids), labels=torch.tensor(ids), output_hidden_states=True)
    np.testing.assert_allclose(ours(ids).data, out.logits, atol=1e-4)
    assert ours.loss(ids[:, :-1], ids[:, 1:]).item() == pytest.approx(out.loss.item(), abs=1e-4)
    states = ours.hidden_states(ids)
    for found, expected in zip(states[:-1], out.hidden_states[:-1], strict=True):
        np.testing.assert_allclose(found.data, expected, atol=1e-4)
    np.testing.assert_allclose(ours.predict(states[-1]).data, out.logits, atol=1e-4)


def test_gradients_against_gpt2(pair, rng):
    ours, theirs = pair
    ids = rng.integers(0, V, (B, T))
    mask = rng.random((B, T)) < 0.7
    theirs.zero_grad()
    logits = theirs(torch.tensor(ids[:, :-1])).logits
    targets = torch.tensor(np.where(mask[:, 1:], ids[:, 1:], -100))
    torch.nn.functional.cross_entropy(logits.reshape(-1, V), targets.reshape(-1)).backward()
    ours.zero_grad()
    ours.loss(ids[:, :-1], ids[:, 1:], mask[:, 1:]).backward()
    expected = load_gpt2_state({n: p.grad.numpy() for n, p in theirs.named_parameters()}, heads=4)
    for (name, p), (_, q) in zip(ours.named_parameters(), expected.named_parameters(), strict=True):
        np.testing.assert_allclose(p.grad, q.data, atol=1e-4, err_msg=name)


def test_gpt2_small_at_full_size():
    """The published size: 124,439,808 parameters, random weights, logits within 1e-4."""
    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(GPT2Config()).eval()
    ours = load_gpt2_state({n: a.numpy() for n, a in theirs.state_dict().items()})
    assert ours.config == GPT2_SMALL
    total = sum(p.size for p in ours.parameters())
    assert total == 124_439_808
    assert total == sum(p.numel() for p in theirs.parameters())
    ids = np.random.default_rng(0).integers(0, 50_257, (1, 6))
    with torch.no_grad(), no_grad():
        np.testing.assert_allclose(ours(ids).data, theirs(torch.tensor(ids)).logits, atol=1e-4)


def test_published_counts():
    # 38,597,376 + 786,432 + 12 · 7,087,872 + 1,536
    assert count_params(GPT2_SMALL) == 124_439_808
    assert count_params(GPT2_MEDIUM) == 354_823_168
    assert count_params(GPT2_LARGE) == 774_030_080
    assert count_params(GPT2_XL) == 1_557_611_200
    assert (
        count_params(gpt_config(vocab_size=65, context=64, layers=4, heads=4, width=128)) == 809_856
    )


@pytest.mark.parametrize(
    "changes",
    [{"norm": "rms"}, {"feed_forward": "swiglu", "hidden": 32}, {"positions": "rope"},
     {"bias": False}, {"kv_heads": 1}, {"tied": False}, {"qk_norm": True}],
)  # fmt: skip
def test_each_change_towards_llama(changes, rng):
    config = replace(TINY, **changes)
    model = GPT(config, rng)
    assert sum(p.size for p in model.parameters()) == count_params(config)
    ids = rng.integers(0, V, (B, T))
    loss = model.loss(ids, np.roll(ids, -1, axis=1))
    loss.backward()
    assert all(np.isfinite(p.grad).all() and p.grad.any() for p in model.parameters())
    assert loss.item() == pytest.approx(np.log(V), abs=0.1)


def test_initial_scale(rng):
    model = GPT(gpt_config(vocab_size=300, context=64, layers=8, heads=4, width=64), rng)
    block = model.blocks[0]
    assert block.feed_forward.up.weight.data.std() == pytest.approx(0.02, rel=0.05)
    assert block.feed_forward.down.weight.data.std() == pytest.approx(0.02 / 4, rel=0.05)
    assert block.attention.out.weight.data.std() == pytest.approx(0.02 / 4, rel=0.05)
    assert not block.attention.qkv.bias.data.any()
    assert (block.attention_norm.weight.data == 1).all()
    assert all(p.dtype == np.float32 for p in model.parameters())


def test_parallel_equals_sequential(rng):
    """Each position's prediction is the one it would make with nothing after it; no leak."""
    model = GPT(TINY, rng).to(np.float64)
    ids = rng.integers(0, V, (1, T))
    together = model(ids).data[0]
    for t in range(1, T + 1):
        np.testing.assert_allclose(model(ids[:, :t]).data[0, -1], together[t - 1], rtol=1e-9)

    def by_position(column):
        return model(column[:, 0].astype(int)[None]).data[0]

    assert not has_leak(lambda x: by_position(np.abs(x) % V), ids[0, :, None].astype(float))
    with pytest.raises(ValueError, match="context is 11 tokens, got 12"):
        model(np.zeros((1, 12), int))


def test_dropout_only_in_training(rng):
    model = GPT(replace(TINY, dropout=0.5), rng)
    ids = rng.integers(0, V, (B, T))
    assert not np.array_equal(model(ids).data, model(ids).data)
    model.eval()
    np.testing.assert_array_equal(model(ids).data, model(ids).data)


def test_overfits_one_batch(rng):
    model = GPT(TINY, rng)
    ids = rng.integers(0, V, (B, T + 1))
    for _ in range(40):
        model.zero_grad()
        loss = model.loss(ids[:, :-1], ids[:, 1:])
        loss.backward()
        for p in model.parameters():
            p.data -= 0.02 * np.sign(p.grad)
    assert model.loss(ids[:, :-1], ids[:, 1:]).item() < 0.1


# ---- storage -----------------------------------------------------------------------------------


def test_saved_and_loaded(rng, tmp_path):
    model, other = GPT(TINY, rng), GPT(TINY, rng)
    ids = rng.integers(0, V, (B, T))
    assert not np.array_equal(model(ids).data, other(ids).data)
    save_state(tmp_path / "model.safetensors", model.state_dict())
    other.load_state_dict(load_state(tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(model(ids).data, other(ids).data)
    for name, array in safetensors.numpy.load_file(tmp_path / "model.safetensors").items():
        np.testing.assert_array_equal(array, model.state_dict()[name])


def _edit(content, change):
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s, c: c[: len(c) // 2], "cut short"),
        (lambda s, c: c[:5], "cut short"),
        (lambda s, c: safetensors.numpy.save({**s, "more": np.ones(1, "f4")}), "more is unknown"),
        (lambda s, c: safetensors.numpy.save({n: a for n, a in s.items() if n != "norm.bias"}),
         "norm.bias is missing"),
        (lambda s, c: safetensors.numpy.save({**s, "norm.bias": np.ones(13, "f4")}),
         r"norm.bias has shape \(13,\), expected \(12,\)"),
        (lambda s, c: safetensors.numpy.save({**s, "norm.bias": np.ones(12, "f2")}),
         "norm.bias has type float16, expected float32"),
        (lambda s, c: _edit(c, lambda h: h["norm.bias"].update(dtype="BF16")), "type BF16"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_leaves_the_model_alone(spoil, message, rng, tmp_path):
    model, path = GPT(TINY, rng), tmp_path / "model.safetensors"
    before = {name: array.copy() for name, array in model.state_dict().items()}
    state = {name: array + 1 for name, array in before.items()}
    save_state(path, state)
    path.write_bytes(spoil(state, path.read_bytes()))
    with pytest.raises(ValueError, match=message) as error:
        model.load_state_dict(load_state(path))
    assert "\n" not in str(error.value)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_state_that_is_no_gpt2():
    with pytest.raises(ValueError, match=r"wte\.weight is missing"):
        load_gpt2_state({"h.0.ln_1.weight": np.ones(3)})


# ---- sampling ----------------------------------------------------------------------------------

logit_arrays = hnp.arrays(
    np.float32, (2, 9), elements=st.floats(-8, 8, width=32), unique=True
)  # ties have no order to agree on


def theirs(processor, logits, ids=None):
    return processor(None if ids is None else torch.tensor(ids), torch.tensor(logits)).numpy()


@settings(max_examples=50)
@given(logits=logit_arrays, k=st.integers(1, 12), p=st.floats(0.05, 0.999), t=st.floats(0.1, 3))
def test_filters_against_transformers(logits, k, p, t):
    np.testing.assert_array_equal(top_k_filter(logits, k), theirs(TopKLogitsWarper(k), logits))
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    cumulative = np.cumsum(
        np.sort(probabilities / probabilities.sum(1, keepdims=True), 1)[:, ::-1], 1
    )
    apart = np.diff(np.sort(probabilities, 1)).min(initial=1)
    if np.abs(cumulative - p).min() > 1e-5 and apart > 1e-6:  # else rounding decides
        np.testing.assert_array_equal(top_p_filter(logits, p), theirs(TopPLogitsWarper(p), logits))
    if np.abs(probabilities - p).min() > 1e-5:
        np.testing.assert_array_equal(min_p_filter(logits, p), theirs(MinPLogitsWarper(p), logits))
    np.testing.assert_allclose(
        sample_filters(logits, temperature=t), theirs(TemperatureLogitsWarper(t), logits), rtol=1e-6
    )
    ids = np.array([[0, 3, 3], [8, 1, 0]])
    np.testing.assert_allclose(
        repetition_penalty(logits, ids, t),
        theirs(RepetitionPenaltyLogitsProcessor(t), logits, ids),
        rtol=1e-6,
    )


@settings(max_examples=50)
@given(logits=logit_arrays, top_p=st.floats(0.05, 1.0))
def test_nucleus_is_the_smallest_set(logits, top_p):
    p = np.exp(logits.astype(float))
    p /= p.sum(1, keepdims=True)
    for row, inside in zip(p, nucleus(p, top_p), strict=True):
        assert row[inside].sum() >= top_p - 1e-9
        assert row[inside].sum() - row[inside].min() < top_p
        assert row[inside].min() >= row[~inside].max(initial=0)


def test_filters_in_a_row_and_refusals():
    logits = np.log(np.array([[0.5, 0.25, 0.15, 0.1]], np.float32))
    kept = sample_filters(logits, temperature=1.0, top_k=3, top_p=0.8, min_p=0.4)
    np.testing.assert_array_equal(np.isfinite(kept), [[True, True, False, False]])
    for call, message in (
        (lambda: top_k_filter(logits, 0), "at least one"),
        (lambda: nucleus(logits, 0.0), "top_p lies in"),
        (lambda: min_p_filter(logits, 1.5), "min_p lies in"),
        (lambda: sample_filters(logits, temperature=0.0), "above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_generation(pair, rng):
    ours, theirs_model = pair
    ids = rng.integers(0, V, (B, 3))
    expected = theirs_model.generate(
        torch.tensor(ids), max_new_tokens=8, do_sample=False, pad_token_id=0,
        attention_mask=torch.ones(B, 3, dtype=int), eos_token_id=None,
    )  # fmt: skip
    np.testing.assert_array_equal(generate(ours, ids, 8, temperature=0.0), expected)
    one, two = (generate(ours, ids, 12, top_k=5, rng=np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(one, two)  # beyond the context of 11, too
    assert one.shape == (B, 15)
    assert generate(ours, ids, 0, temperature=0.0) is ids
    with pytest.raises(ValueError, match="needs a numpy Generator"):
        generate(ours, ids, 1)
    with pytest.raises(ValueError, match="prompt is empty"):
        generate(ours, ids[:, :0], 1, temperature=0.0)


def test_samples_follow_the_distribution(pair):
    ours, _ = pair
    ids = np.tile([[3, 1, 4]], (4000, 1))
    drawn = generate(ours, ids, 1, temperature=1.5, top_p=0.9, rng=np.random.default_rng(0))[:, -1]
    logits = sample_filters(ours(ids[:1]).data[:, -1].astype(float), 1.5, top_p=0.9)[0]
    p = np.exp(logits) / np.exp(logits).sum()
    counts = np.bincount(drawn, minlength=V)
    assert not counts[p == 0].any()
    expected = 4000 * p[p > 0]
    chi_square = ((counts[p > 0] - expected) ** 2 / expected).sum()
    degrees = (p > 0).sum() - 1
    assert abs(chi_square - degrees) < 4 * np.sqrt(2 * degrees)


def test_bits_per_byte():
    assert bits_per_byte(1.284, 1, 1) == pytest.approx(1.852, abs=1e-3)
    assert bits_per_byte(np.log(256), 10, 10) == pytest.approx(8)
    assert bits_per_byte(3.0, 100, 400) == pytest.approx(3 / 4 / np.log(2))


# ---- the baseline ------------------------------------------------------------------------------


def recursive_witten_bell(text, history, symbol, vocabulary):
    """The definition, letter by letter."""
    lower = (
        1 / vocabulary
        if not history
        else recursive_witten_bell(text, history[1:], symbol, vocabulary)
    )
    if history == "" and lower == 1 / vocabulary:
        followers = list(text)
    else:
        n = len(history)
        followers = [text[i + n] for i in range(len(text) - n) if text[i : i + n] == history]
    if not followers:
        return lower
    kinds = len(set(followers))
    return (followers.count(symbol) + kinds * lower) / (len(followers) + kinds)


def test_witten_bell_against_its_definition(rng):
    letters = "abcd"
    train = "".join(letters[i] for i in rng.integers(0, 3, 60))
    test = "".join(letters[i] for i in rng.integers(0, 4, 25))
    encode = lambda s: np.array([letters.index(c) for c in s])  # noqa: E731
    model = witten_bell_ngram(encode(train), 3, 4)
    found = np.exp(model.log_probabilities(encode(test)))
    for t, symbol in enumerate(test):
        history = test[max(0, t - 2) : t]
        assert found[t] == pytest.approx(recursive_witten_bell(train, history, symbol, 4))
    assert isinstance(model, WittenBell)
    assert model.nll(encode(test)) == pytest.approx(-np.log(found).mean())
    for history in ([0, 1], [3, 3], [2, 0]):  # probabilities of the next symbol sum to one
        total = sum(np.exp(model.log_probabilities(np.array([*history, s]))[-1]) for s in range(4))
        assert total == pytest.approx(1)


def test_witten_bell_refuses():
    ids = np.array([0, 1, 2])
    for call, message in (
        (lambda: witten_bell_ngram(ids, 0), "at least one symbol"),
        (lambda: witten_bell_ngram(ids, 4), "hold no 4-gram"),
        (lambda: witten_bell_ngram(ids, 2, 2), "ids must be from 0 to 1, got 0 to 2"),
        (lambda: witten_bell_ngram(ids, 2).nll(ids + 1), "ids must be from 0 to 2, got 1 to 3"),
        (lambda: witten_bell_ngram(ids, 5, 50_257), "do not fit 64 bits"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
