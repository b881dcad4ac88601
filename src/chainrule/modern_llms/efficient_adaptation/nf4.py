"""NF4: weights in 4 bits, at the quantiles of a Gaussian; and other formats of 4 bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from chainrule.modern_llms.efficient_adaptation.lora import low_rank
from chainrule.modern_llms.pretraining import round_blocks, round_fp8, round_to
from chainrule.neural_networks.backpropagation import Linear, Module, Parameter, Tensor, primitive
from chainrule.shapes import Array, Float, Int

__all__ = [
    "FOUR_BIT", "NF4", "NF4Tensor", "QLoRALinear", "nf4_levels", "nf4_quantize", "pack_nibbles",
    "round_four_bit", "unpack_nibbles",
]  # fmt: skip

SECOND = 256
"""How many scales share one scale of their own, in double quantization."""


def nf4_levels() -> Float[Array, "16"]:
    """Return the 16 levels, from −1 to 1: eight quantiles above 0, seven below, and 0 itself.

    Equation: modern-llms/efficient-adaptation.md#eq-nf4. Source: Dettmers et al. 2023,
    arXiv:2305.14314; the outermost quantile is that of their code.
    """
    outermost = 1 - (1 / 32 + 1 / 30) / 2
    inverse = NormalDist().inv_cdf
    above = [inverse(p) for p in np.linspace(outermost, 0.5, 9)[:-1]]
    below = [-inverse(p) for p in np.linspace(outermost, 0.5, 8)[:-1]]
    levels = np.sort([*below, 0.0, *above])
    return np.asarray(levels / levels.max())


NF4 = nf4_levels()


def pack_nibbles(codes: Int[Array, "count"]) -> Int[Array, "bytes"]:
    """Put two codes from 0 to 15 into each byte, the first into the low half.

    Raises:
        ValueError: a code that does not fit.
    """
    if codes.size and not 0 <= codes.min() <= codes.max() <= 15:
        raise ValueError(f"codes of 4 bits are 0 to 15, got {codes.min()} to {codes.max()}")
    even = np.zeros(codes.size + codes.size % 2, np.uint8)
    even[: codes.size] = codes
    return even[::2] | even[1::2] << 4


def unpack_nibbles(packed: Int[Array, "bytes"], count: int) -> Int[Array, "count"]:
    """Return the first ``count`` codes.

    Raises:
        ValueError: there are too few bytes.
    """
    if not 0 <= count <= 2 * packed.size:
        raise ValueError(f"{packed.size} bytes hold {2 * packed.size} codes, asked for {count}")
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(-1)[:count]


@dataclass(frozen=True)
class NF4Tensor:
    """An array in NF4: packed codes and, for every ``block`` of them, a scale.

    With double quantization the scales are bytes, the mean of all scales is kept once, and every
    256 scales have a scale of their own, ``second``.
    """

    packed: Array
    scales: Array
    second: Array | None
    mean: float
    block: int
    shape: tuple[int, ...]
    dtype: np.dtype

    def block_scales(self) -> Float[Array, "blocks"]:
        """The largest absolute value of each block, as far as it was kept."""
        if self.second is None:
            return self.scales
        spread = np.repeat(self.second, SECOND)[: len(self.scales)]
        return np.maximum(self.mean + spread * self.scales.astype(np.float32) / 127, 0)

    def dequantize(self) -> Array:
        """Return the values that the codes stand for."""
        codes = unpack_nibbles(self.packed, len(self.scales) * self.block)
        levels = NF4.astype(self.dtype)[codes].reshape(-1, self.block)
        values = levels * self.block_scales()[:, None].astype(self.dtype)
        return values.reshape(-1)[: math.prod(self.shape)].reshape(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales together."""
        second = 0 if self.second is None else self.second.nbytes + 4
        return self.packed.nbytes + self.scales.nbytes + second


def nf4_quantize(
    weights: Float[Array, "*shape"], block: int = 64, double: bool = False
) -> NF4Tensor:
    """Round each block of neighbours to 16 levels times the block's largest absolute value.

    Codes are chosen with the scale as it is stored. The last block is filled up with zeros.
    Equation: modern-llms/efficient-adaptation.md#eq-nf4-block
    Equation: modern-llms/efficient-adaptation.md#eq-double-quantization

    Raises:
        ValueError: no block, values that are not finite, or scales that float32 cannot hold.
    """
    if block < 2 or block % 2:
        raise ValueError(f"a block has an even number of weights, at least 2, got {block}")
    if not np.isfinite(weights).all():
        raise ValueError("cannot quantize NaN or infinity: look for them in the weights first")
    rows = np.zeros((-(-weights.size // block), block), np.float64)
    rows.reshape(-1)[: weights.size] = weights.reshape(-1)
    peaks = np.abs(rows).max(axis=1, initial=0)
    with np.errstate(over="ignore"):
        scales: Array = peaks.astype(np.float32)
    if not np.isfinite(scales).all():
        raise ValueError(f"float32 cannot hold a scale of {peaks.max():.3g}")
    second, mean = None, 0.0
    if double and len(scales):
        mean = float(np.float32(scales.mean()))
        scales, second = _second(scales - np.float32(mean))
    stored = NF4Tensor(np.empty(0, np.uint8), scales, second, mean, block, weights.shape,
                       weights.dtype)  # fmt: skip
    kept = stored.block_scales().astype(np.float64)[:, None]
    codes = _nearest(rows / np.where(kept > 0, kept, 1), NF4)
    return NF4Tensor(pack_nibbles(codes.reshape(-1)), scales, second, mean, block,
                     weights.shape, weights.dtype)  # fmt: skip


def _second(scales: Array) -> tuple[Array, Array]:
    """Scales around 0 as bytes, and the largest absolute value of each 256 of them."""
    rows = np.zeros((-(-len(scales) // SECOND), SECOND), np.float32)
    rows.reshape(-1)[: len(scales)] = scales
    second = np.abs(rows).max(axis=1)
    whole = np.rint(127 * rows / np.where(second > 0, second, 1)[:, None]).astype(np.int8)
    return whole.reshape(-1)[: len(scales)], second


def _nearest(x: Array, levels: Array) -> Array:
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, x)


@primitive
def _nf4_linear(x: Array, *, stored: NF4Tensor) -> Any:
    y = x @ stored.dequantize().astype(x.dtype).T

    def vjp(g: Array) -> Any:
        return (g @ stored.dequantize().astype(x.dtype),)

    return y, vjp


class QLoRALinear(Module):
    """A `Linear` whose frozen weight is stored in NF4, and a trained low-rank update beside it.

    The weight is unpacked for the time of a product, forward and backward, and no longer.
    Equation: modern-llms/efficient-adaptation.md#eq-lora. Source: Dettmers et al. 2023,
    arXiv:2305.14314.
    """

    def __init__(
        self,
        base: Linear,
        r: int = 8,
        alpha: float = 8.0,
        block: int = 64,
        double: bool = True,
        *,
        rng: np.random.Generator,
    ) -> None:
        if r < 1:
            raise ValueError(f"a rank is at least 1, got {r}")
        d_out, d_in = base.weight.shape
        bound = 1 / math.sqrt(max(d_in, 1))
        self.stored = nf4_quantize(base.weight.data, block, double)
        self.bias = base.bias if base.bias is None else base.bias.requires_grad_(False)
        self.scale = alpha / r
        self.A = Parameter(rng.uniform(-bound, bound, (r, d_in)).astype(base.weight.dtype))
        self.B = Parameter(np.zeros((d_out, r), base.weight.dtype))

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """Return what the stored weight says, and the update."""
        y = _nf4_linear(x, stored=self.stored) + low_rank(x, self.A, self.B, self.scale)
        return y if self.bias is None else y + self.bias


# ---- five formats, to compare ------------------------------------------------------------------


def _int4(x: Array, block: int) -> Array:
    scale = np.abs(x).max(axis=-1, keepdims=True) / 7
    scale = np.where(scale > 0, scale, 1)
    return np.asarray(np.rint(x / scale) * scale)


def _nf4(x: Array, block: int) -> Array:
    return nf4_quantize(x, block).dequantize()


def _e2m1(x: Array, block: int) -> Array:
    scale = np.abs(x).max(axis=-1, keepdims=True) / 6
    scale = np.where(scale > 0, scale, 1)
    return np.asarray(round_to(x / scale, "e2m1") * scale)


def _nvfp4(x: Array, block: int) -> Array:
    peaks = np.abs(x).max(axis=-1, keepdims=True)
    whole = peaks.max(initial=0) / (6 * 448)  # so that the largest scale is the largest E4M3
    whole = whole if whole > 0 else 1.0
    scale = round_fp8(peaks / 6 / whole, "e4m3") * whole
    return np.asarray(round_to(x / np.where(scale > 0, scale, 1), "e2m1") * scale)


def _mxfp4(x: Array, block: int) -> Array:
    return round_blocks(x, "e2m1", block)


FOUR_BIT: dict[str, tuple[int, int, Callable[[Array, int], Array]]] = {
    "NF4": (32, 16, _nf4),
    "NVFP4": (16, 8, _nvfp4),
    "INT4": (32, 16, _int4),
    "E2M1": (32, 16, _e2m1),
    "MXFP4": (32, 8, _mxfp4),
}
"""By name: weights in a block, bits of the block's scale, and the rounding of blocks as rows."""


def round_four_bit(x: Float[Array, "count"], name: str) -> Float[Array, "count"]:
    """Round to a format of 4 bits and back; whole blocks only.

    Raises:
        ValueError: no such format, or a last block that is not full.
    """
    if name not in FOUR_BIT:
        raise ValueError(f"no format {name!r}; there are {', '.join(FOUR_BIT)}")
    block, _, rounded = FOUR_BIT[name]
    if x.size % block:
        raise ValueError(f"{name} has blocks of {block}, which do not fill {x.size} numbers")
    return np.asarray(rounded(x.reshape(-1, block).astype(np.float64), block)).reshape(x.shape)
