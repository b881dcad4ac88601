"""GGUF: a model in one file, read as if a stranger had written it.

The format: a magic word and a version; two counts; so many metadata, each a name, a type and a
value; so many descriptions of tensors, each a name, its sizes (the fastest axis first), a type and
where its bytes begin; then the bytes. Quantized types store blocks of 32 weights: one or two
scales in 16 bits, then a few bits for each weight.

Every count is compared with what is left of the file before anything is built from it, and a
tensor's bytes are read when it is asked for. Every fault is one `GGUFError` of one line.
Source: github.com/ggml-org/ggml, docs/gguf.md.
"""

from __future__ import annotations

import math
import os
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from chainrule.shapes import Array

__all__ = ["GGUFError", "GGUFFile", "StoredTensor", "dequantize"]

MAX_HEADER_BYTES = 64 * 1024 * 1024
"""A longer description of a file is refused; that of a large vocabulary takes 8 megabytes."""

MAX_ENTRIES = 100_000
"""More metadata, or more tensors, are refused."""

MAX_STRINGS = 4_000_000
"""A longer list of texts is refused; vocabularies have up to a few hundred thousand."""

BLOCK = 32
"""Weights that share a scale, in every quantized type that is read here."""


class GGUFError(ValueError):
    """A GGUF file cannot be used; the message says which file and why, in one line."""


# ---- blocks of weights -------------------------------------------------------------------------


def _half(blocks: Array, start: int) -> Array:
    """The 16-bit float that begins at a byte of each block, in float32."""
    return blocks[:, start : start + 2].copy().view("<f2").astype(np.float32)


def _nibbles(blocks: Array, start: int, out: Array) -> None:
    """Sixteen bytes of each block: their low halves are weights 0 to 15, their high ones 16 to 31.

    Written to ``out`` as floats, which hold such small numbers exactly.
    """
    packed = blocks[:, start : start + BLOCK // 2]
    np.copyto(out[:, : BLOCK // 2], packed & 15, casting="unsafe")
    np.copyto(out[:, BLOCK // 2 :], packed >> 4, casting="unsafe")


def _fifth_bits(blocks: Array, start: int, out: Array) -> None:
    """Add 16 where a weight's bit in the four bytes of each block is set."""
    bits = np.unpackbits(blocks[:, start : start + 4], axis=1, bitorder="little")
    out += np.float32(16) * bits


def _q4_0(blocks: Array, out: Array) -> None:
    _nibbles(blocks, 2, out)
    out -= np.float32(8)
    out *= _half(blocks, 0)


def _q4_1(blocks: Array, out: Array) -> None:
    _nibbles(blocks, 4, out)
    out *= _half(blocks, 0)
    out += _half(blocks, 2)


def _q5_0(blocks: Array, out: Array) -> None:
    _nibbles(blocks, 6, out)
    _fifth_bits(blocks, 2, out)
    out -= np.float32(16)
    out *= _half(blocks, 0)


def _q5_1(blocks: Array, out: Array) -> None:
    _nibbles(blocks, 8, out)
    _fifth_bits(blocks, 4, out)
    out *= _half(blocks, 0)
    out += _half(blocks, 2)


def _q8_0(blocks: Array, out: Array) -> None:
    np.copyto(out, blocks[:, 2:].view(np.int8), casting="unsafe")
    out *= _half(blocks, 0)


@dataclass(frozen=True)
class _Type:
    """A stored type: its name, and bytes for so many weights.

    A plain type has a NumPy type; a quantized one has a function from blocks to weights; what has
    neither is known by name only.
    """

    name: str
    size: int = 0
    weights: int = 1
    plain: str | None = None
    unpack: Callable[[Array, Array], None] | None = None


_TYPES = {
    0: _Type("F32", 4, plain="<f4"),
    1: _Type("F16", 2, plain="<f2"),
    2: _Type("Q4_0", 18, BLOCK, unpack=_q4_0),
    3: _Type("Q4_1", 20, BLOCK, unpack=_q4_1),
    6: _Type("Q5_0", 22, BLOCK, unpack=_q5_0),
    7: _Type("Q5_1", 24, BLOCK, unpack=_q5_1),
    8: _Type("Q8_0", 34, BLOCK, unpack=_q8_0),
    24: _Type("I8", 1, plain="<i1"),
    25: _Type("I16", 2, plain="<i2"),
    26: _Type("I32", 4, plain="<i4"),
    27: _Type("I64", 8, plain="<i8"),
    28: _Type("F64", 8, plain="<f8"),
    30: _Type("BF16", 2, plain="bf16"),
}
_UNREAD = {
    9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K",
    16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
    22: "IQ2_S", 23: "IQ4_XS", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip
_BY_NAME = {kind.name: kind for kind in _TYPES.values()}

STEP = 1 << 15
"""Blocks that are unpacked at a time, so that what lies between the steps stays in the cache."""


def dequantize(raw: Array, kind: str, out: Array | None = None) -> Array:
    """Return the weights that bytes of a stored type stand for, in one row.

    Quantized types and BF16 give float32; others give the type they are stored in. ``out``, a row
    of float32 without gaps, takes the weights, if it is given.

    Raises:
        GGUFError: an unknown type, bytes that are no whole number of blocks, or an ``out`` that
            does not fit.
    """
    if kind not in _BY_NAME:
        raise GGUFError(
            f"weights of type {kind} are not read; those that are: {', '.join(_BY_NAME)}"
        )
    stored = _BY_NAME[kind]
    if len(raw) % stored.size:
        raise GGUFError(f"{len(raw)} bytes are no whole number of {stored.size}, as {kind} needs")
    count = len(raw) // stored.size * stored.weights
    if out is not None and (
        out.shape != (count,) or out.dtype != np.float32 or not out.flags.c_contiguous
    ):
        raise GGUFError(f"{count} weights need as many float32, got {out.dtype} of {out.shape}")
    if stored.plain == "bf16":
        found = (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    elif stored.plain is not None:
        found = raw.view(stored.plain)
    else:
        found = np.empty(count, np.float32) if out is None else out
        blocks, rows = raw.reshape(-1, stored.size), found.reshape(-1, BLOCK)
        assert stored.unpack is not None
        with np.errstate(invalid="ignore", over="ignore"):  # a scale may be anything
            for start in range(0, len(blocks), STEP):
                stored.unpack(blocks[start : start + STEP], rows[start : start + STEP])
        return found
    if out is None:
        return found.copy()
    out[:] = found
    return out


# ---- the file ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in a file: its shape (as NumPy counts axes), type, and bytes."""

    shape: tuple[int, ...]
    kind: str
    start: int
    size: int


class GGUFFile:
    """A GGUF file whose description has been read and checked: ``metadata`` and ``tensors``.

    Numbers in ``metadata`` are Python's, lists of numbers are arrays, other lists are lists.

    Raises:
        GGUFError: the file cannot be read, or anything in its description is wrong.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with self._open() as file:
                reader = _Reader(self.path, file)
                self.metadata, self.tensors = reader.description()
        except OSError as error:
            raise GGUFError(f"{self.path}: {error.strerror or error}") from None

    def _open(self) -> BufferedReader:
        """The file, if it is one: a pipe or a device never ends."""
        if not stat.S_ISREG(self.path.stat().st_mode):
            raise GGUFError(f"{self.path}: not a file")
        return self.path.open("rb")

    def raw(self, name: str) -> Array:
        """Return the bytes of a tensor.

        Raises:
            GGUFError: there is no such tensor, or the file was cut in the meantime.
        """
        if name not in self.tensors:
            raise GGUFError(f"{self.path}: there is no tensor {_shown(name)}")
        stored = self.tensors[name]
        content = np.empty(stored.size, np.uint8)
        try:
            with self._open() as file:
                file.seek(stored.start)
                read = file.readinto(content.data)
        except OSError as error:
            raise GGUFError(f"{self.path}: {error.strerror or error}") from None
        if read != stored.size:
            raise GGUFError(f"{self.path}: the file was cut while it was read")
        return content

    def read(self, name: str, out: Array | None = None) -> Array:
        """Return a tensor's weights; ``out``, float32 without gaps, takes them if it is given."""
        raw = self.raw(name)
        stored = self.tensors[name]
        row = None if out is None else out.reshape(-1)
        return dequantize(raw, stored.kind, row).reshape(stored.shape)


_NUMBERS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4",
            10: "<u8", 11: "<i8", 12: "<f8"}  # fmt: skip
_BOOL, _TEXT, _LIST = 7, 8, 9


class _Reader:
    """Reads the description from the beginning to where the bytes of tensors begin."""

    def __init__(self, path: Path, file: BufferedReader) -> None:
        self.path, self.file = path, file
        self.length = os.fstat(file.fileno()).st_size
        self.content, self.at = b"", 0

    def fault(self, message: str) -> GGUFError:
        return GGUFError(f"{self.path}: {message}")

    def description(self) -> tuple[dict[str, Any], MappingProxyType[str, StoredTensor]]:
        if self.length < 4 or self.take(4) != b"GGUF":
            raise self.fault("not a GGUF file: it does not begin with GGUF")
        version = self.number("<I")
        if version not in (2, 3):
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            kind = "of another byte order" if swapped in (1, 2, 3) else f"of version {version}"
            raise self.fault(f"a GGUF file {kind}; expected little-endian, version 2 or 3")
        tensors, entries = self.number("<Q"), self.number("<Q")
        for count, what, least in ((tensors, "tensors", 24), (entries, "metadata", 13)):
            if count > MAX_ENTRIES or count * least > self.length:
                raise self.fault(f"announces {_count(count)} {what}, more than it can hold")
        metadata: dict[str, Any] = {}
        for _ in range(entries):
            name = self.text()
            if name in metadata:
                raise self.fault(f"has {_shown(name)} twice")
            metadata[name] = self.value(name, self.number("<I"))
        return metadata, MappingProxyType(self._tensors(tensors, metadata))

    def _tensors(self, count: int, metadata: dict[str, Any]) -> dict[str, StoredTensor]:
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or not 1 <= alignment <= 1 << 16 or alignment.bit_count() > 1:
            raise self.fault(f"aligns to {_shown(alignment)}; expected a power of two")
        found = {}
        for _ in range(count):
            name = self.text()
            if name in found:
                raise self.fault(f"has the tensor {_shown(name)} twice")
            axes = self.number("<I")
            if not 1 <= axes <= 4:
                raise self.fault(f"{_shown(name)} has {_count(axes)} axes; expected 1 to 4")
            sizes = [self.number("<Q") for _ in range(axes)]
            found[name] = self._tensor(name, sizes, self.number("<I"), self.number("<Q"))
        start = -(-self.at // alignment) * alignment
        placed = {}
        for name, each in found.items():
            if each.start % alignment:
                raise self.fault(f"{_shown(name)} begins at {each.start}, between two places")
            placed[name] = StoredTensor(each.shape, each.kind, start + each.start, each.size)
        before, end = "", start
        for name, each in sorted(placed.items(), key=lambda item: item[1].start):
            if each.start < end:
                raise self.fault(f"{_shown(name)} and {_shown(before)} share bytes")
            before, end = name, each.start + each.size
            if end > self.length:
                raise self.fault(
                    f"cut short: {_shown(name)} ends at byte {_count(end)} of {self.length}"
                )
        return placed

    def _tensor(self, name: str, sizes: list[int], code: int, start: int) -> StoredTensor:
        if code not in _TYPES:
            other = _UNREAD.get(code, f"number {_count(code)}")
            raise self.fault(
                f"{_shown(name)} has type {other}, which is not read; those that are: "
                f"{', '.join(_BY_NAME)}"
            )
        kind = _TYPES[code]
        if min(sizes) < 1 or sizes[0] % kind.weights:
            shown = " × ".join(map(_count, sizes))
            raise self.fault(
                f"{_shown(name)} of {shown} weights does not fill blocks of {kind.name}"
            )
        size = math.prod(sizes) // kind.weights * kind.size
        return StoredTensor(tuple(reversed(sizes)), kind.name, start, size)

    # ---- values

    def value(self, name: str, code: int) -> Any:
        """A value of metadata."""
        if code == _LIST:
            return self.items(name, self.number("<I"), self.number("<Q"))
        if code == _TEXT:
            return self.text()
        if code == _BOOL:
            return self.take(1) != b"\0"
        if code not in _NUMBERS:
            raise self.fault(f"{_shown(name)} has a value of unknown type {_count(code)}")
        kind = np.dtype(_NUMBERS[code])
        return np.frombuffer(self.take(kind.itemsize), kind)[0].item()

    def items(self, name: str, code: int, count: int) -> Any:
        """A list of values of one type."""
        if code == _TEXT:
            if count > MAX_STRINGS or count * 8 > self.length - self.at:
                raise self.fault(f"{_shown(name)} announces {_count(count)} texts, too many")
            return [self.text() for _ in range(count)]
        if code == _BOOL:
            return [byte != 0 for byte in self.take(count)]
        if code == _LIST:
            raise self.fault(f"{_shown(name)} is a list of lists, which is not read")
        if code not in _NUMBERS:
            raise self.fault(f"{_shown(name)} lists values of unknown type {_count(code)}")
        kind = np.dtype(_NUMBERS[code])
        return np.frombuffer(self.take(count * kind.itemsize), kind)

    def number(self, form: str) -> int:
        """A whole number."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self) -> str:
        """A text: its length in bytes, then UTF-8."""
        raw = self.take(self.number("<Q"))
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            where = self.at - len(raw)
            raise self.fault(f"the text at byte {where} is not UTF-8") from None

    def take(self, count: int) -> bytes:
        """The next bytes, if the file has as many."""
        end = self.at + count
        if end > self.length:
            raise self.fault(
                f"cut short, or not a GGUF file: {_count(count)} bytes should follow byte "
                f"{self.at} of {self.length}"
            )
        if end > MAX_HEADER_BYTES:
            raise self.fault(f"its description is longer than {MAX_HEADER_BYTES:,} bytes")
        if end > len(self.content):
            more = max(end, 2 * len(self.content), 1 << 21) - len(self.content)
            self.content += self.file.read(more)
            if end > len(self.content):
                raise self.fault("the file was cut while it was read")
        found = self.content[self.at : end]
        self.at = end
        return found


def _count(number: int) -> str:
    return str(number) if number < 10**18 else "a huge number of"


def _shown(value: object) -> str:
    """What a stranger wrote, on one short line."""
    text = value if isinstance(value, str) and value and value.isprintable() else ascii(value)
    return text if len(text) <= 60 else text[:57] + "…"
