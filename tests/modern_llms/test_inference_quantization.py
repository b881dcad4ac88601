"""Quantization against torch, least squares and brute force."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.modern_llms.inference import (
    QTensor,
    awq_scales,
    bits_a_weight,
    gptq,
    gptq_model,
    layer_inputs,
    majority_vote,
    output_error,
    pack,
    quantize,
    quantized_model,
    smoothquant,
    unpack,
)
from chainrule.neural_networks.backpropagation import Linear
from chainrule.transformers.gpt import GPT, gpt_config


def layer(seed, out=13, width=24, n=97):
    """A layer and correlated inputs, some of them much larger than others."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(width, width)) * np.exp(rng.normal(size=width))
    return rng.normal(size=(out, width)), rng.normal(size=(n, width)) @ mix


def nearest(w, bits, group=None):
    axis = 0 if group is None else None
    return quantize(w, bits, axis=axis, group=group).dequantize()


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("how", [{}, {"axis": 0}, {"axis": 1}, {"axis": -1}, {"group": 5}])
@pytest.mark.parametrize("symmetric", [True, False])
def test_values_are_those_of_torch(bits, how, symmetric):
    w = np.random.default_rng(bits).normal(0.3, 1, (7, 15)).astype("float32")
    q = quantize(w, bits, symmetric=symmetric, **how)
    shift = 2 ** (bits - 1) - 1
    low, high = (-shift, shift) if symmetric else (0, 2**bits - 1)
    zero = np.zeros(len(q.scale)) if q.zero is None else q.zero
    rows = w.reshape(-1, 5) if "group" in how else w
    axis = how.get("axis", 0) if how else None
    if axis is None:
        want = torch.fake_quantize_per_tensor_affine(
            torch.tensor(rows), float(q.scale[0]), int(zero[0]), low, high
        )
    else:
        want = torch.fake_quantize_per_channel_affine(
            torch.tensor(rows), torch.tensor(q.scale), torch.tensor(zero).int(), axis % 2, low, high
        )
    np.testing.assert_allclose(q.dequantize(), want.numpy().reshape(w.shape), atol=1e-6)
    assert q.dequantize().dtype == np.float32
    assert np.unique(q.codes()).size <= 2**bits


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.lists(st.integers(0, 255), max_size=30))
def test_packing_is_one_long_number_from_its_lowest_bits(bits, codes):
    codes = np.array(codes, np.int64) % 2**bits
    packed = pack(codes, bits)
    number = sum(int(c) << (bits * i) for i, c in enumerate(codes))
    assert int.from_bytes(packed.tobytes(), "little") == number
    assert len(packed) == -(-len(codes) * bits // 8)
    assert unpack(packed, bits, len(codes)).tolist() == codes.tolist()


def test_the_first_of_two_codes_is_the_low_half():
    assert pack(np.array([0x3, 0xA]), 4).tolist() == [0xA3]


def test_bytes_are_those_predicted():
    w = np.random.default_rng(0).normal(size=(64, 96)).astype("float16")
    for bits, group in [(8, 32), (4, 32), (3, 32), (2, 16)]:
        q = quantize(w, bits, group=group)
        assert q.nbytes * 8 == bits_a_weight(bits, group) * w.size
    assert bits_a_weight(4, 32) == 4.5
    assert bits_a_weight(4, 128, zero_bits=4) == 4.15625


def test_a_model_takes_the_bytes_predicted_and_the_original_stays():
    model = GPT(gpt_config(23, 16, 1, 4, 32), np.random.default_rng(0)).eval()
    before = [p.data.copy() for p in model.parameters()]
    copy, size = quantized_model(model, 4, group=16)
    matrices = sum(p.data.size for p in model.parameters() if p.data.ndim == 2)
    vectors = sum(p.data.size for p in model.parameters() if p.data.ndim == 1)
    assert size == matrices * bits_a_weight(4, 16, scale_bits=32) / 8 + vectors * 4
    for p, old, new in zip(model.parameters(), before, copy.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, old)
        if old.ndim == 2:
            np.testing.assert_array_equal(new.data, quantize(old, 4, group=16).dequantize())
        assert new.data.dtype == old.dtype


def test_by_hand():
    q = quantize(np.array([0.1, -0.7, 0.35, 0.2]), 4)
    assert isinstance(q, QTensor)
    assert q.scale[0] == pytest.approx(0.1)
    assert q.codes().tolist() == [[1, -7, 3, 2]] or q.codes().tolist() == [[1, -7, 4, 2]]
    q = quantize(np.array([-1.0, 0.0, 0.5, 2.0]), 2, symmetric=False)
    assert (q.scale[0], q.zero[0], q.codes().tolist()) == (1.0, 1.0, [[0, 1, 1, 3]])


def test_scales_in_two_bytes():
    w = np.random.default_rng(0).normal(size=(64, 96)).astype("float32")
    q = quantize(w, 4, group=32, scale_type="float16")
    assert q.nbytes * 8 == bits_a_weight(4, 32) * w.size
    assert q.dequantize().dtype == np.float32
    step = np.repeat(q.scale.astype(float), 32).reshape(w.shape)
    assert (np.abs(q.dequantize() - w) <= step * 0.51).all()
    for size in (1e9, 1e-9):
        with pytest.raises(ValueError, match="float16 cannot hold scales from"):
            quantize(w * np.float32(size), 4, scale_type="float16")


def test_the_error_is_a_twelfth_of_the_squared_step():
    w = np.random.default_rng(0).uniform(-1, 1, 40_009)
    q = quantize(w, 6)
    error = np.square(q.dequantize() - w).mean()
    assert error == pytest.approx(q.scale[0] ** 2 / 12, rel=0.03)


def test_one_great_column_ruins_a_scale_for_all():
    w = np.random.default_rng(0).normal(size=(101, 64))
    w[:, 5] *= 60
    rest = np.arange(64) != 5
    error = [
        np.linalg.norm((quantize(w, 8, axis=axis).dequantize() - w)[:, rest])
        / np.linalg.norm(w[:, rest])
        for axis in (None, 1)
    ]
    assert error[0] > 10 * error[1]


@pytest.mark.parametrize(
    "w",
    [
        np.zeros((0, 4)), np.zeros((3, 0)), np.zeros((1, 1)), np.full((1, 1), -3.0),
        np.full((2, 3), 1e200), np.array([[1e-200, -2e-200]]), np.array([[5e-324, 0]]),
        np.array([[1e308, -1e308]]), np.arange(6, dtype=np.uint8).reshape(2, 3),
        np.ones((2, 2), np.float32),
    ],
)  # fmt: skip
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_the_nasty_list(w, symmetric, axis):
    q = quantize(w, 8, axis=axis, symmetric=symmetric)
    back = q.dequantize()
    assert back.shape == w.shape
    size = np.abs(w).max(initial=0)
    assert np.all(np.abs(back - w) <= size * 0.5 / 127 * 1.02 + 1e-320)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("group", [None, 4])
def test_gptq_is_least_squares_column_by_column(seed, group):
    w, x = layer(seed, width=12)
    got = gptq(w, x, 3, group, damping=0)
    left, rounded = w.copy(), np.empty_like(w)
    for j in range(w.shape[1]):
        if j % (group or 12) == 0:
            scale = np.abs(left[:, j : j + (group or 12)]).max(axis=1) / 3
        rounded[:, j] = scale * np.clip(np.rint(left[:, j] / scale), -3, 3)
        # the columns that are free take over what the fixed ones changed
        missing = x @ w.T - x[:, : j + 1] @ rounded[:, : j + 1].T
        if j + 1 < w.shape[1]:
            left[:, j + 1 :] = np.linalg.lstsq(x[:, j + 1 :], missing)[0].T
    np.testing.assert_allclose(got, rounded, atol=1e-9)


@pytest.mark.parametrize(
    ("bits", "group", "order"), [(4, None, False), (4, None, True), (3, 8, True)]
)
def test_gptq_errs_less_than_rounding_on_twenty_layers(bits, group, order):
    for seed in range(20):
        w, x = layer(seed)
        ours = output_error(w, gptq(w, x, bits, group, order=order), x)
        assert ours < output_error(w, nearest(w, bits, group), x)


def test_gptq_promises_nothing_for_a_single_layer():
    w, x = layer(2)
    assert output_error(w, gptq(w, x, 3, 8), x) > output_error(w, nearest(w, 3, 8), x)


def test_gptq_with_great_inputs_first_errs_less_still():
    ratios = []
    for seed in range(20):
        w, x = layer(seed)
        first, plain = (output_error(w, gptq(w, x, 4, order=o), x) for o in (True, False))
        ratios.append(np.log(first / plain))
    assert np.mean(ratios) + 4 * np.std(ratios) / np.sqrt(20) < 0


def test_what_layers_read_and_how_a_model_is_rounded_by_it():
    model = GPT(gpt_config(23, 16, 2, 4, 32), np.random.default_rng(0)).eval()
    ids = np.random.default_rng(1).integers(0, 23, (5, 11))
    before, forward = [p.data.copy() for p in model.parameters()], Linear.forward
    read = layer_inputs(model, ids)
    assert Linear.forward is forward
    assert len(read) == 2 * 4
    first = model.blocks[0].attention_norm(model.embed(ids)).data
    np.testing.assert_array_equal(read["blocks.0.attention.qkv"], first.reshape(-1, 32))
    rounded = gptq_model(model, ids, 3, 8)
    for (name, new), old in zip(rounded.named_parameters(), before, strict=True):
        if name.endswith("weight") and name.removesuffix(".weight") in read:
            want = gptq(old, read[name.removesuffix(".weight")], 3, 8)
            np.testing.assert_array_equal(new.data, want)
        else:
            np.testing.assert_array_equal(new.data, old)
    for p, old in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.data, old)


def test_gptq_is_not_below_the_best_of_all_roundings():
    w, x = layer(3, out=1, width=5)
    scale = np.abs(w).max() / 1  # codes −1, 0, 1
    best = min(
        output_error(w, scale * np.array([codes], float), x)
        for codes in itertools.product((-1, 0, 1), repeat=5)
    )
    error = output_error(w, gptq(w, x, 2, damping=0), x)
    assert best <= error + 1e-12


def test_gptq_only_rounds_where_inputs_are_unrelated():
    w, _ = layer(0)
    np.testing.assert_allclose(gptq(w, np.eye(24), 4, damping=0), nearest(w, 4), rtol=1e-12)


def test_awq_errs_no_more_than_rounding():
    for seed in range(5):
        w, x = layer(seed)
        s = awq_scales(w, x, 3, 8)
        error = output_error(w, nearest(w * s, 3, 8) / s, x)
        assert error <= output_error(w, nearest(w, 3, 8), x) * (1 + 1e-12)


def test_smoothing_changes_no_product_and_shares_the_range():
    w, x = layer(1)
    s = smoothquant(w, x)
    np.testing.assert_allclose((x / s) @ (w * s).T, x @ w.T, rtol=1e-10)
    np.testing.assert_allclose(np.abs(x / s).max(axis=0), np.abs(w * s).max(axis=0))


def test_a_vote_of_five():
    assert majority_vote(0.6, 5) == pytest.approx(0.68256)
    votes = itertools.product((0, 1), repeat=3)
    assert majority_vote(0.3, 3) == pytest.approx(
        sum(np.prod([0.3 if v else 0.7 for v in vote]) for vote in votes if sum(vote) > 1)
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: quantize(np.ones(3), 1), "from 2 to 8"),
        (lambda: quantize(np.ones((3, 4)), 4, axis=0, group=2), "axis or group"),
        (lambda: quantize(np.ones((3, 4)), 4, group=3), "do not fill"),
        (lambda: quantize(np.array([1, np.nan]), 4), "NaN or infinity"),
        (lambda: pack(np.array([16]), 4), "from 0 to 15, got 16 to 16"),
        (lambda: pack(np.array([-1, 3]), 4), "from 0 to 15, got -1"),
        (lambda: unpack(np.zeros(1, np.uint8), 4, 3), "more than 1 bytes"),
        (lambda: gptq(np.ones((2, 4)), np.ones((5, 4)), 4, 3), "do not fill"),
        (lambda: gptq(np.ones((2, 2)), np.array([[1.0, 0], [2, 0]]), 4, damping=0), "always 0"),
        (lambda: gptq(np.ones((2, 2)), np.full((3, 2), np.nan), 4), "finite"),
        (lambda: smoothquant(np.ones((2, 2)), np.ones((3, 2)), 1.5), "alpha"),
        (lambda: majority_vote(0.5, 4), "odd"),
        (lambda: bits_a_weight(4, 0), "at least 1"),
    ],
)
def test_errors_say_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
