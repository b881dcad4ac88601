"""NF4 against its published levels, packing against arithmetic, QLoRA against PyTorch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from chainrule.modern_llms.efficient_adaptation import (
    FOUR_BIT,
    NF4,
    QLoRALinear,
    nf4_levels,
    nf4_quantize,
    pack_nibbles,
    round_four_bit,
    unpack_nibbles,
)
from chainrule.neural_networks.backpropagation import Linear, tensor

PUBLISHED = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
"""Appendix E of Dettmers et al. 2023, arXiv:2305.14314."""


def test_levels_are_the_published_ones():
    np.testing.assert_allclose(nf4_levels(), PUBLISHED, atol=2e-7)
    np.testing.assert_array_equal(NF4, nf4_levels())


def test_levels_are_quantiles_of_the_normal_distribution():
    positive, negative = NF4[8:], -NF4[:7]
    top = norm.ppf(1 - (1 / 32 + 1 / 30) / 2)
    for levels in (positive, negative):
        p = norm.cdf(levels * top)
        np.testing.assert_allclose(np.diff(p), np.diff(p)[0], rtol=1e-9)  # equal shares between


@settings(max_examples=40)
@given(st.lists(st.integers(0, 15), max_size=40))
def test_nibbles_come_back_and_the_first_is_the_low_one(codes):
    array = np.array(codes, np.uint8)
    packed = pack_nibbles(array)
    assert len(packed) == (len(codes) + 1) // 2
    assert unpack_nibbles(packed, len(codes)).tolist() == codes
    whole = int.from_bytes(packed.tobytes(), "little")
    assert whole == sum(code << 4 * i for i, code in enumerate(codes))


def test_nibbles_that_do_not_fit():
    with pytest.raises(ValueError, match="0 to 15, got 3 to 16"):
        pack_nibbles(np.array([3, 16]))
    with pytest.raises(ValueError, match="hold 4 codes, asked for 5"):
        unpack_nibbles(np.zeros(2, np.uint8), 5)


@pytest.mark.parametrize("double", [False, True])
def test_every_weight_goes_to_the_nearest_level(rng, double):
    W = rng.normal(size=(37, 128)).astype(np.float32)
    stored = nf4_quantize(W, 64, double)
    back = stored.dequantize()
    assert back.shape == W.shape
    assert back.dtype == W.dtype
    candidates = np.repeat(stored.block_scales(), 64)[:, None] * np.float32(PUBLISHED)
    best = np.abs(W.reshape(-1, 1) - candidates).min(axis=1)
    np.testing.assert_allclose(np.abs(back - W).ravel(), best, atol=2e-6)


def test_bits_a_weight(rng):
    W = rng.normal(size=(256, 1024)).astype(np.float32)
    assert nf4_quantize(W).nbytes * 8 / W.size == 4.5
    double = nf4_quantize(W, double=True).nbytes * 8 / W.size
    assert abs(double - (4 + 8 / 64 + 32 / (64 * 256))) < 1e-3


def test_double_quantization_costs_little(rng):
    W = rng.normal(size=(256, 1024))
    once, twice = (
        ((nf4_quantize(W, double=d).dequantize() - W) ** 2).mean() for d in (False, True)
    )
    assert 0.99 * once < twice < 1.01 * once


@pytest.mark.parametrize("shape", [(0,), (1,), (1, 1), (3, 5), (64,), (65,)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("double", [False, True])
def test_shapes_that_no_block_fills(rng, shape, dtype, double):
    W = rng.normal(size=shape).astype(dtype)
    back = nf4_quantize(W, 64, double).dequantize()
    assert back.shape == shape
    assert back.dtype == dtype
    if W.size:
        assert np.abs(back - W).max() <= 0.2 * np.abs(W).max()


def test_nasty_weights():
    assert not nf4_quantize(np.zeros((2, 64))).dequantize().any()
    one = nf4_quantize(np.full(64, 1e-30), 64).dequantize()
    np.testing.assert_allclose(one, 1e-30, rtol=1e-6)
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="NaN or infinity"):
            nf4_quantize(np.array([1.0, bad]))
    with pytest.raises(ValueError, match="float32 cannot hold a scale of 1e"):
        nf4_quantize(np.array([1e200, 1.0]))
    with pytest.raises(ValueError, match="even number of weights, at least 2, got 63"):
        nf4_quantize(np.ones(63), 63)


def test_qlora_is_a_linear_with_the_rounded_weight(rng):
    base = Linear(37, 13, rng=rng, dtype=np.float64)
    mine = QLoRALinear(base, 3, 5, rng=rng)
    mine.B.data = rng.normal(size=(13, 3))
    rounded = torch.from_numpy(mine.stored.dequantize())
    A, B = (torch.from_numpy(p.data.copy()).requires_grad_() for p in (mine.A, mine.B))
    x, g = rng.normal(size=(2, 5, 37)), rng.normal(size=(2, 5, 13))
    theirs_x = torch.from_numpy(x).requires_grad_()
    bias = torch.from_numpy(base.bias.data)
    expected = theirs_x @ rounded.T + bias + 5 / 3 * theirs_x @ A.T @ B.T
    ours_x = tensor(x, requires_grad=True)
    y = mine(ours_x)
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-10, atol=1e-10)
    y.backward(g)
    expected.backward(torch.from_numpy(g))
    for found, wanted in ((ours_x, theirs_x), (mine.A, A), (mine.B, B)):
        np.testing.assert_allclose(found.grad, wanted.grad.numpy(), rtol=1e-10, atol=1e-10)
    names = {name for name, p in mine.named_parameters() if p.requires_grad}
    assert names == {"A", "B"}


def test_five_formats_are_ordered_as_the_page_says():
    x = np.random.default_rng(1).normal(size=320_000)
    error = {name: ((round_four_bit(x, name) - x) ** 2).mean() for name in FOUR_BIT}
    assert list(error) == sorted(error, key=error.get)
    assert abs(error["NF4"] - 0.0075) < 2e-4
    assert error["MXFP4"] > 1.2 * error["E2M1"]


def test_nvfp4_against_pytorchs_scales_and_a_search(rng):
    x = rng.normal(size=(19, 16)).astype(np.float32)
    peaks = np.abs(x).max(axis=1, keepdims=True).astype(np.float64)
    whole = peaks.max() / (6 * 448)
    scale = torch.from_numpy(peaks / 6 / whole).float().to(torch.float8_e4m3fn)
    scale = scale.double().numpy() * whole
    values = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    values = np.concatenate([-values[::-1], values])
    nearest = np.abs((x / scale)[..., None] - values).argmin(axis=-1)
    expected = values[nearest] * scale
    np.testing.assert_allclose(round_four_bit(x.ravel(), "NVFP4"), expected.ravel(), rtol=1e-6)


def test_formats_refuse_what_they_do_not_hold():
    with pytest.raises(ValueError, match="no format 'FP4'"):
        round_four_bit(np.ones(32), "FP4")
    with pytest.raises(ValueError, match="do not fill 17 numbers"):
        round_four_bit(np.ones(17), "NVFP4")
    for name in FOUR_BIT:
        assert not round_four_bit(np.zeros(64), name).any()
