"""Numbers of 16, 8 and 4 bits: what rounding keeps, and what keeps a sum alive.

Taught in ``modern-llms/pretraining.md``. A format has a sign, ``exponent`` bits and ``mantissa``
bits. All functions take and return float64 arrays that hold only values of the format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.shapes import Array, Float

__all__ = [
    "FORMATS",
    "Format",
    "LossScaler",
    "round_bf16",
    "round_blocks",
    "round_fp8",
    "round_stochastic",
    "round_to",
]


@dataclass(frozen=True)
class Format:
    """A floating-point format: mantissa bits, smallest normal exponent, largest finite value.

    ``overflow`` is what a value beyond the largest becomes: infinity, or the largest itself.
    """

    mantissa: int
    lowest: int
    largest: float
    overflow: float = np.inf


FORMATS = {
    "fp32": Format(23, -126, (2 - 2.0**-23) * 2.0**127),
    "bf16": Format(7, -126, (2 - 2.0**-7) * 2.0**127),
    "fp16": Format(10, -14, 65504.0),
    "e4m3": Format(3, -6, 448.0, 448.0),
    "e5m2": Format(2, -14, 57344.0),
    "e2m1": Format(1, 0, 6.0, 6.0),
}
"""``e4m3`` and ``e2m1`` have no infinity: they saturate, as PyTorch 2.13's cast does. The latter
is the four-bit number of MXFP4 and NVFP4. It has no NaN either; a NaN stays one here."""


def round_to(x: Any, name: str) -> Float[Array, "..."]:
    """The nearest value of a format, a tie to the one with the even mantissa.

    ``x`` is rounded once, from the precision that it comes in. Subnormal numbers are kept; a
    value that rounds beyond the largest becomes infinity, or the largest where there is none.

    Raises:
        ValueError: no such format.

    Equation: modern-llms/pretraining.md#eq-rounding
    """
    x, format = _given(x, name)
    step = _step(x, format)
    return _overflow(np.rint(x / step) * step, format)


def round_bf16(x: Any) -> Float[Array, "..."]:
    """The nearest bfloat16: 8 bits of exponent as float32, 7 of mantissa."""
    return round_to(x, "bf16")


def round_fp8(x: Any, fmt: str) -> Float[Array, "..."]:
    """The nearest 8-bit number, ``"e4m3"`` or ``"e5m2"``.

    Source: Micikevicius et al., *FP8 Formats for Deep Learning*, 2022 (arXiv 2209.05433).

    Raises:
        ValueError: another format.
    """
    if fmt not in ("e4m3", "e5m2"):
        raise ValueError(f"round_fp8: fmt must be 'e4m3' or 'e5m2', got {fmt!r}")
    return round_to(x, fmt)


def round_stochastic(x: Any, name: str, rng: np.random.Generator) -> Float[Array, "..."]:
    """One of the two neighbours in a format, at random, so that the mean is ``x``.

    Equation: modern-llms/pretraining.md#eq-stochastic-rounding
    """
    x, format = _given(x, name)
    step = _step(x, format)
    below = np.floor(x / step)
    up = rng.random(x.shape) < x / step - below
    return _overflow((below + up) * step, format)


def round_blocks(x: Any, name: str, block: int) -> Float[Array, "..."]:
    """Rounded with one scale, a power of two, for every ``block`` neighbours of the last axis.

    The scale's exponent is that of the block's largest value, less that of the format's largest:
    what is still too large after it saturates, as in the MX formats (arXiv 2310.10537).

    Raises:
        ValueError: ``block`` does not divide the last axis.
    """
    x, format = _given(x, name)
    if block < 1 or x.ndim == 0 or x.shape[-1] % block:
        raise ValueError(f"round_blocks: block {block} does not divide the shape {x.shape}")
    if x.size == 0:
        return x
    rows = x.reshape(*x.shape[:-1], -1, block)
    peak = np.abs(rows).max(axis=-1, keepdims=True)
    exponent = np.frexp(peak)[1] - np.frexp(format.largest)[1]
    scale = np.ldexp(1.0, np.where(np.isfinite(peak) & (peak > 0), np.clip(exponent, -127, 127), 0))
    inside = np.clip(rows / scale, -format.largest, format.largest)
    return (round_to(inside, name) * scale).reshape(x.shape)


class LossScaler:
    """The factor before a float16 backward pass, halved at overflow, doubled after a calm time.

    Use: multiply the loss by ``scale``; after the backward pass ask ``unscale``.

    Source: Micikevicius et al., *Mixed Precision Training*, 2017 (arXiv 1710.03740).
    """

    def __init__(self, scale: float = 2.0**16, growth_interval: int = 2000):
        if not (np.isfinite(scale) and scale > 0) or growth_interval < 1:
            raise ValueError(
                "LossScaler: scale must be positive and finite, growth_interval at least 1, "
                f"got {scale}, {growth_interval}"
            )
        self.scale, self.growth_interval, self.calm = float(scale), growth_interval, 0

    def unscale(self, gradients: list[Any]) -> list[Array] | None:
        """The gradients of the loss itself, or None where one overflowed: skip that step."""
        arrays = [np.asarray(g, dtype=np.float64) for g in gradients]
        if not all(np.isfinite(g).all() for g in arrays):
            self.scale, self.calm = self.scale / 2, 0
            return None
        result = [g / self.scale for g in arrays]
        self.calm += 1
        if self.calm == self.growth_interval:
            self.scale, self.calm = self.scale * 2, 0
        return result


def _given(x: Any, name: str) -> tuple[Array, Format]:
    if name not in FORMATS:
        raise ValueError(f"no format {name!r}; there are {', '.join(FORMATS)}")
    return np.asarray(x, dtype=np.float64), FORMATS[name]


def _step(x: Array, format: Format) -> Any:
    """The distance of neighbours around each value: smaller numbers lie closer together."""
    exponent = np.frexp(np.where(np.isfinite(x), x, 1.0))[1] - 1
    return np.ldexp(1.0, np.maximum(exponent, format.lowest) - format.mantissa)


def _overflow(x: Any, format: Format) -> Array:
    return np.where(np.abs(x) > format.largest, np.copysign(format.overflow, x), x)
