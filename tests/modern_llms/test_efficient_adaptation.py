"""LoRA, DoRA and PiSSA against peft; adapters, prefix and prompt against loops by hand."""

import copy
import hashlib

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from chainrule.modern_llms.efficient_adaptation import (
    Adapter,
    DoRALinear,
    LoRALinear,
    PrefixAttention,
    PromptTuning,
    adapters_off,
    add_adapters,
    add_prefix,
    apply_lora,
    bitfit,
    lora_layers,
    low_rank,
    low_rank_by_row,
    matrix_shapes,
    memory_ledger,
    merge_lora,
    pissa_init,
    trainable_fraction,
    trained_state,
    unmerge_lora,
)
from chainrule.modern_llms.efficient_adaptation.switches import ALL
from chainrule.neural_networks.backpropagation import Linear, Tensor, gradcheck, no_grad, tensor
from chainrule.training.optimizers import SGD
from chainrule.transformers.gpt import GPT, gpt_config, load_course_gpt
from chainrule.transformers.transformer_architecture import count_params

D_IN, D_OUT, R = 13, 7, 3
TINY = gpt_config(vocab_size=23, context=19, layers=2, heads=3, width=12, dtype="float64")


def their_layer(base, **settings):
    """peft's layer on the same weight: a model of one Linear, called ``one``."""
    one = torch.nn.Linear(base.in_features, base.out_features).to(
        torch.from_numpy(base.weight.data).dtype
    )
    with torch.no_grad():
        one.weight.copy_(torch.from_numpy(base.weight.data))
        one.bias.copy_(torch.from_numpy(base.bias.data))
    model = torch.nn.ModuleDict({"one": one})
    config = LoraConfig(r=R, lora_alpha=5, target_modules=["one"], lora_dropout=0.0, **settings)
    return get_peft_model(model, config, autocast_adapter_dtype=False).base_model.model["one"]


def fill(mine, theirs, rng):
    """The same random update in both."""
    for ours, parameter in (
        (mine.A, theirs.lora_A["default"].weight), (mine.B, theirs.lora_B["default"].weight),
    ):  # fmt: skip
        ours.data = rng.normal(size=ours.shape).astype(ours.dtype)
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(ours.data))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", ["lora", "rslora", "dora"])
def test_output_gradients_and_merge_are_pefts(rng, kind, dtype):
    near = 1e-10 if dtype == "float64" else 1e-4
    base = Linear(D_IN, D_OUT, rng=rng, dtype=dtype)
    theirs = their_layer(base, use_rslora=kind == "rslora", use_dora=kind == "dora")
    if kind == "dora":
        mine = DoRALinear(base, R, 5, rng=rng)
        magnitude = theirs.lora_magnitude_vector["default"].weight
        mine.magnitude.data = rng.uniform(0.5, 2, D_OUT).astype(dtype)
        with torch.no_grad():
            magnitude.copy_(torch.from_numpy(mine.magnitude.data))
    else:
        mine = LoRALinear(base, R, 5, rank_stabilized=kind == "rslora", rng=rng)
    fill(mine, theirs, rng)
    x, g = rng.normal(size=(2, 5, D_IN)).astype(dtype), rng.normal(size=(2, 5, D_OUT)).astype(dtype)
    ours_x = tensor(x, requires_grad=True)
    theirs_x = torch.from_numpy(x.copy()).requires_grad_()
    y, expected = mine(ours_x), theirs(theirs_x)
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=near, atol=near)
    y.backward(g)
    expected.backward(torch.from_numpy(g))
    pairs = [
        (ours_x.grad, theirs_x.grad),
        (mine.A.grad, theirs.lora_A["default"].weight.grad),
        (mine.B.grad, theirs.lora_B["default"].weight.grad),
    ]
    if kind == "dora":
        pairs.append((mine.magnitude.grad, magnitude.grad))
    for found, wanted in pairs:
        np.testing.assert_allclose(found, wanted.numpy(), rtol=near, atol=near)
    assert base.weight.grad is None

    before = base.weight.data.copy()
    mine.merge()
    theirs.merge()
    np.testing.assert_allclose(
        base.weight.data, theirs.base_layer.weight.detach().numpy(), rtol=near, atol=near
    )
    np.testing.assert_allclose(mine(tensor(x)).data, y.data, rtol=near, atol=near)
    mine.unmerge()
    np.testing.assert_allclose(base.weight.data, before, rtol=near, atol=near)


def test_pissa_takes_the_parts_that_peft_takes(rng):
    base = Linear(D_IN, D_OUT, rng=rng, dtype=np.float32)
    theirs = their_layer(base, init_lora_weights="pissa")
    base.to(np.float64)
    whole = base.weight.data.copy()
    mine = LoRALinear(base, R, 5, rng=rng)
    pissa_init(mine)
    their_delta = theirs.get_delta_weight("default").detach().numpy()
    np.testing.assert_allclose(mine.delta(), their_delta, atol=1e-6)
    np.testing.assert_allclose(base.weight.data + mine.delta(), whole, atol=1e-12)
    left = np.linalg.svd(base.weight.data, compute_uv=False)
    np.testing.assert_allclose(left[0], np.linalg.svd(whole, compute_uv=False)[R], atol=1e-10)
    with pytest.raises(ValueError, match="rank at most 7, got rank 8"):
        pissa_init(LoRALinear(Linear(D_IN, D_OUT, rng=rng), 8, rng=rng))


def test_what_the_box_says_about_peft(rng):
    """The defaults of LoraConfig, its start, and what merging twice does."""
    settings = LoraConfig()
    assert (settings.r, settings.lora_alpha, settings.lora_dropout) == (8, 8, 0.0)
    base = Linear(D_IN, D_OUT, rng=rng)
    theirs = their_layer(base)
    assert not theirs.lora_B["default"].weight.any()
    assert theirs.lora_A["default"].weight.abs().max() <= 1 / np.sqrt(D_IN)
    assert theirs.lora_A["default"].weight.shape == (R, D_IN)
    assert theirs.lora_B["default"].weight.shape == (D_OUT, R)
    with torch.no_grad():
        theirs.lora_B["default"].weight.copy_(torch.ones(D_OUT, R))
    theirs.merge()
    once = theirs.base_layer.weight.clone()
    with pytest.warns(UserWarning, match="[Aa]lready"):
        theirs.merge()
    assert torch.equal(theirs.base_layer.weight, once)


def test_the_vjp_agrees_with_finite_differences(rng):
    x, A, B = (tensor(rng.normal(size=s), requires_grad=True) for s in ((2, 3, 5), (2, 5), (7, 2)))
    gradcheck(lambda x, A, B: low_rank(x, A, B, 1.7), [x, A, B])


def test_gradients_are_the_full_one_seen_through_the_other_factor(rng):
    X, G = rng.normal(size=(11, D_IN)), rng.normal(size=(11, D_OUT))
    layer = LoRALinear(Linear(D_IN, D_OUT, rng=rng, dtype=np.float64), R, 5, rng=rng)
    layer.B.data = rng.normal(size=(D_OUT, R))
    layer(Tensor(X)).backward(G)
    full = G.T @ X
    np.testing.assert_allclose(layer.B.grad, 5 / R * full @ layer.A.data.T, rtol=1e-10)
    np.testing.assert_allclose(layer.A.grad, 5 / R * layer.B.data.T @ full, rtol=1e-10)


def test_dora_is_lora_when_the_magnitude_follows(rng):
    base = Linear(D_IN, D_OUT, rng=rng, dtype=np.float64)
    dora, lora = DoRALinear(base, R, 5, rng=rng), LoRALinear(base, R, 5, rng=rng)
    for name in ("A", "B"):
        getattr(dora, name).data = rng.normal(size=getattr(dora, name).shape)
        getattr(lora, name).data = getattr(dora, name).data
    dora.magnitude.data = np.linalg.norm(base.weight.data + lora.delta(), axis=1)
    x = Tensor(rng.normal(size=(3, D_IN)))
    np.testing.assert_allclose(dora(x).data, lora(x).data, rtol=1e-12)


@pytest.fixture
def model(rng):
    return GPT(TINY, rng).eval()


IDS = np.arange(2 * 11).reshape(2, 11) % 23


@pytest.mark.parametrize("kind", [LoRALinear, DoRALinear])
def test_nothing_changes_before_the_first_step(model, rng, kind):
    before = model(IDS).data
    paths = apply_lora(model, r=R, rng=rng, kind=kind)
    assert len(paths) == 8
    assert paths[0] == "blocks.0.attention.qkv"
    np.testing.assert_allclose(model(IDS).data, before, atol=1e-12)


def test_only_the_update_is_trained_and_counted(model, rng):
    every = count_params(TINY)
    apply_lora(model, r=R, rng=rng)
    shapes = matrix_shapes(TINY)
    trained = TINY.decoder_layers * sum(R * (m + n) for m, n in shapes.values())
    state = trained_state(model)
    assert sum(a.size for a in state.values()) == trained
    assert all(name.endswith((".A", ".B")) for name in state)
    assert trainable_fraction(model, every) == trained / every
    assert trainable_fraction(model) == trained / (every + trained)


@pytest.mark.parametrize("targets", [("qkv",), ("up", "down"), ALL])
def test_shares_of_the_targets(rng, targets):
    model = GPT(TINY, rng)
    apply_lora(model, targets, r=2, rng=rng)
    shapes = matrix_shapes(TINY)
    expected = 2 * sum(2 * sum(shapes[t]) for t in targets if t in shapes)
    assert sum(p.size for p in model.parameters() if p.requires_grad) == expected


def trained(model, rng, steps=3):
    optimizer = SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(IDS[:, :-1], IDS[:, 1:]).backward()
        optimizer.step()
    return model


def digest(model):
    with no_grad():
        return hashlib.sha256(model(IDS).data.tobytes()).hexdigest()


@pytest.mark.parametrize("kind", [LoRALinear, DoRALinear])
def test_merge_is_exact_to_rounding_and_off_is_exact_to_the_bit(model, rng, kind):
    base = digest(model)
    apply_lora(model, r=R, rng=rng, kind=kind)
    trained(model, rng)
    assert digest(model) != base
    with adapters_off(model):
        assert digest(model) == base
    apart = model(IDS).data
    merge_lora(model)
    np.testing.assert_allclose(model(IDS).data, apart, rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match="merged already"):
        merge_lora(model)
    with pytest.raises(ValueError, match="merged into the base"), adapters_off(model):
        pass
    unmerge_lora(model)
    np.testing.assert_allclose(model(IDS).data, apart, rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match="nothing to subtract"):
        unmerge_lora(model)


def test_merging_and_unmerging_loses_bits_in_float32():
    model, _ = load_course_gpt()
    rng = np.random.default_rng(0)
    apply_lora(model, rng=rng)
    before = [layer.base.weight.data.copy() for layer in lora_layers(model)]
    for layer in lora_layers(model):
        layer.B.data = rng.normal(0, 0.1, layer.B.shape).astype(np.float32)
    merge_lora(model)
    unmerge_lora(model)
    after = [layer.base.weight.data for layer in lora_layers(model)]
    changed = np.mean(
        np.concatenate([(a != b).ravel() for a, b in zip(after, before, strict=True)])
    )
    assert 0.05 < changed < 0.95
    for a, b in zip(after, before, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_zero_beside_zero_never_moves_and_zero_beside_random_does(model, rng):
    apply_lora(model, r=R, rng=rng)
    dead = copy.deepcopy(model)
    for layer in lora_layers(dead):
        layer.A.data[...] = 0
    trained(model, rng)
    trained(dead, rng)
    assert all(layer.B.data.any() for layer in lora_layers(model))
    assert not any(layer.B.data.any() or layer.A.data.any() for layer in lora_layers(dead))


def test_many_updates_in_one_batch(rng):
    A, B = rng.normal(size=(3, 2, 5)), rng.normal(size=(3, 7, 2))
    x, which = rng.normal(size=(4, 11, 5)), np.array([2, 0, 2, 1])
    found = low_rank_by_row(x, which, A, B, 1.5)
    for row, i, out in zip(x, which, found, strict=True):
        np.testing.assert_allclose(out, 1.5 * row @ (B[i] @ A[i]).T, rtol=1e-10)
    with pytest.raises(ValueError, match="numbered 0 to 2, got 0 to 3"):
        low_rank_by_row(x, np.array([3, 0, 0, 0]), A, B)


def test_adapter_against_pytorch(rng):
    mine = Adapter(D_IN, 5, rng=rng, dtype=np.float64)
    x, g = rng.normal(size=(3, D_IN)), rng.normal(size=(3, D_IN))
    assert np.array_equal(mine(Tensor(x)).data, x)
    mine.up.weight.data = rng.normal(size=(D_IN, 5))
    inside = torch.nn.Sequential(
        torch.nn.Linear(D_IN, 5), torch.nn.GELU(), torch.nn.Linear(5, D_IN)
    ).double()
    for ours, theirs in ((mine.down, inside[0]), (mine.up, inside[2])):
        theirs.load_state_dict({n: torch.from_numpy(a) for n, a in ours.state_dict().items()})
    theirs_x = torch.from_numpy(x).requires_grad_()
    expected = theirs_x + inside(theirs_x)
    ours_x = tensor(x, requires_grad=True)
    y = mine(ours_x)
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-10)
    y.backward(g)
    expected.backward(torch.from_numpy(g))
    np.testing.assert_allclose(ours_x.grad, theirs_x.grad.numpy(), rtol=1e-10)
    np.testing.assert_allclose(mine.down.weight.grad, inside[0].weight.grad.numpy(), rtol=1e-10)


def test_adapters_change_nothing_at_first_and_alone_are_trained(model, rng):
    before = model(IDS).data
    add_adapters(model, 5, rng=rng)
    assert np.array_equal(model(IDS).data, before)
    d, layers = TINY.width, TINY.decoder_layers
    count = sum(p.size for p in model.parameters() if p.requires_grad)
    assert count == 2 * layers * (2 * d * 5 + 5 + d)


def test_prefix_is_a_mixture_of_two_attentions(model, rng):
    """Every query, by hand: one softmax over trained keys and its own past."""
    attention = model.blocks[0].attention
    keys, values = rng.normal(size=(2, 3, 5, 4))
    mine = PrefixAttention(attention, keys, values)
    x = rng.normal(size=(2, 7, 12))
    q, k, v = (a.data for a in attention.project(Tensor(x)))
    out = np.zeros((2, 7, 12))
    for b, h, t in np.ndindex(2, 3, 7):
        K = np.concatenate([keys[h], k[b, h, : t + 1]])
        V = np.concatenate([values[h], v[b, h, : t + 1]])
        p = np.exp(K @ q[b, h, t] / 2)
        out[b, t, 4 * h : 4 * h + 4] = (p / p.sum()) @ V
    expected = attention.out(Tensor(out)).data
    np.testing.assert_allclose(mine(Tensor(x)).data, expected, rtol=1e-10)


def test_values_from_a_table_go_to_the_text_and_not_to_the_prefix(model, rng):
    """Each output is linear in the values: what is added is the text's share of the weights."""
    attention = model.blocks[0].attention
    keys, values = rng.normal(size=(2, 3, 5, 4))
    mine, x = PrefixAttention(attention, keys, values), Tensor(rng.normal(size=(2, 7, 12)))
    q, k, _ = (a.data for a in attention.project(x))
    added = rng.normal(size=(2, 7, 12))
    out = np.zeros((2, 7, 12))
    for b, h, t in np.ndindex(2, 3, 7):
        K = np.concatenate([keys[h], k[b, h, : t + 1]])
        p = np.exp(K @ q[b, h, t] / 2)
        head = slice(4 * h, 4 * h + 4)
        out[b, t, head] = (p / p.sum())[5:] @ added[b, : t + 1, head]
    difference = mine(x, values=Tensor(added)).data - mine(x).data
    np.testing.assert_allclose(difference, out @ attention.out.weight.data.T, rtol=1e-9, atol=1e-12)


def test_prefix_trains_its_rows_alone_and_their_gradients_are_right(model):
    add_prefix(model, np.array([3, 1, 4, 1, 5]))
    names = trained_state(model)
    assert {name.split(".")[-1] for name in names} == {"keys", "values"}
    assert sum(a.size for a in names.values()) == 2 * 2 * 5 * 12
    loss = model.loss(IDS[:, :-1], IDS[:, 1:])
    loss.backward()
    keys = model.blocks[1].attention.keys
    step = np.zeros_like(keys.data)
    step[1, 2, 3] = 1e-6
    places = []
    for sign in (1, -1):
        keys.data = keys.data + sign * step
        places.append(model.loss(IDS[:, :-1], IDS[:, 1:]).item())
        keys.data = keys.data - sign * step
    assert abs((places[0] - places[1]) / 2e-6 - keys.grad[1, 2, 3]) < 1e-7


def test_prompt_rows_of_tokens_are_those_tokens(model):
    first = np.array([7, 1, 20])
    tuned = PromptTuning(model, model.tokens.weight.data[first])
    together = np.concatenate([np.tile(first, (2, 1)), IDS], axis=1)
    np.testing.assert_allclose(tuned(IDS).data, model(together).data[:, 3:], rtol=1e-10)
    assert trained_state(tuned).keys() == {"rows"}
    tuned.loss(IDS[:, :-1], IDS[:, 1:]).backward()
    assert tuned.rows.grad.any()
    with pytest.raises(ValueError, match="exceed the context of 19"):
        tuned(np.zeros((1, 17), int))


def test_bitfit_trains_vectors_alone(model):
    state = trained_state(bitfit(model))
    assert all(a.ndim == 1 for a in state.values())
    d, layers = TINY.width, TINY.decoder_layers
    assert sum(a.size for a in state.values()) == layers * (13 * d) + 2 * d


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, rng: apply_lora(m, ("query",), rng=rng), "no Linear of the model is called"),
        (lambda m, rng: apply_lora(m, r=0, rng=rng), "at least 1, got 0"),
        (lambda m, rng: Adapter(5, 0, rng=rng), "at least 1 unit, got 0"),
        (lambda m, rng: PromptTuning(m, np.zeros((2, 5))), r"rows are \(n, 12\)"),
        (lambda m, rng: add_prefix(m, np.zeros(0, int)), "n ≥ 1"),
        (lambda m, rng: memory_ledger(TINY, "bitfit"), "method is one of"),
    ],
)
def test_errors_say_what_was_expected(model, rng, call, message):
    with pytest.raises(ValueError, match=message):
        call(model, rng)


def test_low_rank_refuses_factors_in_the_wrong_places(rng):
    x, A, B = Tensor(np.ones((2, 5))), Tensor(np.ones((3, 5))), Tensor(np.ones((7, 3)))
    with pytest.raises((ValueError, TypeError), match="low_rank"):
        low_rank(x, B, A)


@pytest.mark.parametrize("d_in", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
def test_small_layers_of_every_size(rng, d_in, dtype, size):
    if dtype == "float32" and size != 1.0:
        size = size**0.1
    layer = LoRALinear(Linear(d_in, 1, rng=rng, dtype=dtype), 1, 1, rng=rng)
    layer.A.data, layer.B.data = (
        np.full(p.shape, v, dtype) for p, v in ((layer.A, size), (layer.B, 1 / size))
    )
    empty = layer(Tensor(np.ones((0, d_in), dtype)))
    assert empty.shape == (0, 1)
    assert layer(Tensor(np.ones((1, d_in), dtype))).dtype == dtype
    np.testing.assert_allclose(layer.delta(), np.ones((1, d_in)), rtol=1e-6)
    layer.B.data = np.full((1, 1), np.nan, dtype)
    assert np.isnan(layer(Tensor(np.ones((1, d_in), dtype))).data).all()


def test_the_ledger_of_seven_billion():
    cfg = gpt_config(
        vocab_size=32_000, context=4096, layers=32, heads=32, width=4096, norm="rms",
        feed_forward="swiglu", hidden=11_008, positions="rope", bias=False, tied=False,
    )  # fmt: skip
    every = count_params(cfg)
    full = memory_ledger(cfg)
    assert sum(full.values()) == 16 * every
    lora = memory_ledger(cfg, "lora", 8)
    trained = 32 * 8 * (4 * 4096 + 2 * 4096 + 3 * (4096 + 11_008))
    assert sum(lora.values()) == 2 * every + 16 * trained
    rounded = memory_ledger(cfg, "qlora", 8)
    inside = 32 * (4 * 4096**2 + 3 * 4096 * 11_008)
    assert inside == sum(m * n for m, n in matrix_shapes(cfg).values()) * 32
    bits = 4 + 0.125 + 32 / 64 / 256
    assert (
        abs(sum(rounded.values()) - (2 * (every - inside) + bits / 8 * inside + 16 * trained)) < 1
    )
    # the model's matrices, as a Linear has them
    small = GPT(TINY, np.random.default_rng(0))
    block = small.blocks[0]
    layers = {"qkv": block.attention.qkv, "out": block.attention.out,
              "up": block.feed_forward.up, "down": block.feed_forward.down}  # fmt: skip
    assert {name: layer.weight.shape for name, layer in layers.items()} == matrix_shapes(TINY)
