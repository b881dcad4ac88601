"""Quantization: weights stored as small whole numbers, with a scale for each group of them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from chainrule.neural_networks.backpropagation import Module
from chainrule.shapes import Array, Int

__all__ = ["QTensor", "bits_a_weight", "pack", "quantize", "quantized_model", "unpack"]

Model = TypeVar("Model", bound=Module)


@dataclass(frozen=True)
class QTensor:
    """A quantized array: packed codes, and a scale and a zero for each row of ``rows``.

    A value is scale · (code − zero), in ``dtype``. ``rows`` is the number of groups, each of
    equally many values; ``axis`` is the axis that was moved to the front before grouping, if any.
    Equation: modern-llms/inference.md#eq-dequantize
    """

    packed: Array
    scale: Array
    zero: Array | None
    bits: int
    shape: tuple[int, ...]
    dtype: np.dtype
    axis: int | None = None

    def codes(self) -> Int[Array, "rows size"]:
        """Return the whole numbers, one row for each scale."""
        count = int(np.prod(self.shape))
        codes = unpack(self.packed, self.bits, count).astype(np.int16)
        if self.zero is None:
            codes -= 2 ** (self.bits - 1)  # stored from 0, meant around 0
        return codes.reshape(len(self.scale), -1) if count else codes.reshape(len(self.scale), 0)

    def dequantize(self) -> Array:
        """Return the values that the codes stand for."""
        codes = self.codes().astype(self.dtype)
        if self.zero is not None:
            codes = codes - self.zero[:, None].astype(self.dtype)
        values = codes * self.scale[:, None].astype(self.dtype)
        if self.axis is None:
            return values.reshape(self.shape)
        front = np.moveaxis(np.empty(self.shape, np.bool_), self.axis, 0).shape
        return np.moveaxis(values.reshape(front), 0, self.axis)

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales and zeros together."""
        zero = 0 if self.zero is None else self.zero.nbytes
        return self.packed.nbytes + self.scale.nbytes + zero


def quantize(
    weights: Array,
    bits: int,
    axis: int | None = None,
    group: int | None = None,
    symmetric: bool = True,
    scale_type: str | None = None,
) -> QTensor:
    """Round to the nearest of at most 2^bits evenly spaced values.

    One scale for the whole array; or one for each index along ``axis``; or one for every ``group``
    neighbours along the last axis. ``symmetric`` puts code 0 at value 0 and uses ±(2^(bits−1) − 1);
    otherwise the codes 0 to 2^bits − 1 span the values from the smallest (or 0) to the greatest (or
    0), so that 0 is exact in both. Scales are stored in ``scale_type``, or in the type of the
    weights; codes are chosen with the scale as stored. Whole numbers are computed with in float64.
    Equation: modern-llms/inference.md#eq-quantize

    Raises:
        ValueError: bits outside 2 to 8, ``axis`` with ``group``, a last axis that the groups do not
            fill, values that are not finite, or scales that ``scale_type`` cannot hold.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"bits are from 2 to 8, got {bits}")
    if axis is not None and group is not None:
        raise ValueError(f"give axis or group, got axis={axis} and group={group}")
    weights = np.asarray(weights)
    if weights.dtype.kind != "f":
        weights = weights.astype(np.float64)
    if not np.isfinite(weights).all():
        raise ValueError("cannot quantize NaN or infinity: look for them in the weights first")
    rows = _rows(weights, axis, group)
    scale, zero = _grid(rows, bits, symmetric)
    if scale_type is not None:
        with np.errstate(over="ignore"):
            stored = scale.astype(scale_type)
        if not (np.isfinite(stored).all() and (stored > 0).all()):
            raise ValueError(
                f"{scale_type} cannot hold scales from {scale.min():.3g} to {scale.max():.3g}"
            )
        scale = stored
    codes = _nearest(rows, scale.astype(rows.dtype), zero, bits)
    shift = 2 ** (bits - 1) if zero is None else 0
    packed = pack((codes + shift).astype(np.uint8).ravel(), bits)
    return QTensor(packed, scale, zero, bits, weights.shape, weights.dtype, axis)


def _rows(weights: Array, axis: int | None, group: int | None) -> Array:
    """One row for each scale."""
    if axis is not None:
        front = np.moveaxis(weights, axis, 0)
        return front.reshape(front.shape[0], int(np.prod(front.shape[1:])))
    if group is None:
        return weights.reshape(1, weights.size)
    if group < 1 or not weights.ndim or weights.shape[-1] % group:
        raise ValueError(f"groups of {group} do not fill the last axis of {weights.shape}")
    return weights.reshape(weights.size // group, group)


def _grid(rows: Array, bits: int, symmetric: bool) -> tuple[Array, Array | None]:
    """The scale of each row and, if not symmetric, the code of value 0."""
    if symmetric:
        scale = np.abs(rows).max(axis=1, initial=0) / (2 ** (bits - 1) - 1)
        return np.where(scale > 0, scale, 1).astype(rows.dtype), None
    low, high = rows.min(axis=1, initial=0), rows.max(axis=1, initial=0)
    scale = high / (2**bits - 1) - low / (2**bits - 1)  # high − low may overflow
    scale = np.where(scale > 0, scale, 1).astype(rows.dtype)
    return scale, np.rint(-low / scale).astype(rows.dtype)


def _nearest(rows: Array, scale: Array, zero: Array | None, bits: int) -> Array:
    codes = np.rint(rows / scale[:, None])
    if zero is None:
        top = 2 ** (bits - 1) - 1
        return np.clip(codes, -top, top)
    return np.clip(codes + zero[:, None], 0, 2**bits - 1)


def pack(codes: Int[Array, "count"], bits: int) -> Int[Array, "bytes"]:
    """Pack codes from 0 to 2^bits − 1 into bytes, the first code in the lowest bits.

    Two codes of four bits share a byte: the first is the low half. Codes of three bits run over
    the borders of bytes. The last byte is filled with zeros.

    Raises:
        ValueError: a code that does not fit.
    """
    if len(codes) and not 0 <= codes.min() <= codes.max() < 2**bits:
        raise ValueError(
            f"codes of {bits} bits are from 0 to {2**bits - 1}, got {codes.min()} to {codes.max()}"
        )
    single = codes.astype(np.uint8)[:, None]
    every = np.unpackbits(single, axis=1, count=bits, bitorder="little")
    return np.packbits(every.ravel(), bitorder="little")


def unpack(packed: Int[Array, "bytes"], bits: int, count: int) -> Int[Array, "count"]:
    """Return the first ``count`` codes of what `pack` packed.

    Raises:
        ValueError: there are too few bytes.
    """
    if packed.size * 8 < count * bits:
        raise ValueError(f"{count} codes of {bits} bits need more than {packed.size} bytes")
    every = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    return np.packbits(every, axis=1, bitorder="little").reshape(count)


def bits_a_weight(bits: int, group: int, scale_bits: int = 16, zero_bits: int = 0) -> float:
    """Return what a weight costs with its share of the scale: bits + (scale + zero)/group.

    Equation: modern-llms/inference.md#eq-bits-a-weight
    """
    if bits < 1 or group < 1:
        raise ValueError(f"needs bits and a group of at least 1, got {bits} and {group}")
    return bits + (scale_bits + zero_bits) / group


def quantized_model(
    model: Model,
    bits: int,
    axis: int | None = None,
    group: int | None = None,
    scale_type: str | None = None,
) -> tuple[Model, int]:
    """Return a copy whose matrices have rounded values, and the bytes that it would take stored.

    The copy computes with the rounded values in the type of the original, so it shows what
    rounding does to a loss and not what it does to the time. Vectors (gains and offsets) stay as
    they are, and so does their type.
    """
    copy, size = deepcopy(model), 0
    for parameter in copy.parameters():
        if parameter.data.ndim < 2:
            size += parameter.data.nbytes
            continue
        rounded = quantize(parameter.data, bits, axis, group, scale_type=scale_type)
        parameter.data = rounded.dequantize()
        size += rounded.nbytes
    return copy, size
