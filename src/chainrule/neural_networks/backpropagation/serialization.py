"""`save_state` and `load_state`: arrays by name in one file, in the safetensors format.

The format: eight bytes with the length of a JSON header, the header (for every name its type,
shape, and where its bytes begin and end), then the bytes. It holds no code, unlike a pickle.
Of a large model that is published in several files, give the path of its ``….index.json``, which
says what is where. bfloat16, which NumPy lacks, is the upper half of a float32, and read as one.
Source: github.com/huggingface/safetensors, README "Format".
"""

from __future__ import annotations

import json
import math
import os
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.neural_networks.backpropagation.tensor import Tensor
from chainrule.shapes import Array

__all__ = ["StateFileError", "load_metadata", "load_state", "save_state"]

_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "?",
          "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1",
          "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1"}  # fmt: skip
_CODES = {np.dtype(kind): code for code, kind in _TYPES.items()}
_BFLOAT16 = "BF16"
_METADATA = "__metadata__"

MAX_HEADER_BYTES = 100_000_000
"""A longer header is refused, as by the format's own library."""


class StateFileError(ValueError):
    """A file of arrays cannot be used; the message says which file and why, in one line."""


def save_state(
    path: str | Path, state: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays (or tensors) by name; the file appears whole, or the old one stays.

    The bytes go to a new file beside ``path``, which then takes its name in one step.

    Raises:
        StateFileError: a name, a type or the metadata cannot be written in the format.
    """
    path = Path(path)
    arrays = {name: np.asarray(x.data if isinstance(x, Tensor) else x) for name, x in state.items()}
    if _METADATA in arrays:
        raise StateFileError(f"no array can be called {_METADATA}: the file format uses that name")
    if any(type(text) is not str for pair in (metadata or {}).items() for text in pair):
        raise StateFileError("metadata are names and values that are text")
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    end = 0
    for name, array in arrays.items():
        if array.dtype not in _CODES:
            raise StateFileError(f"{name} has type {array.dtype}, which the file format lacks")
        start, end = end, end + array.nbytes
        header[name] = {"dtype": _CODES[array.dtype], "shape": list(array.shape),
                        "data_offsets": [start, end]}  # fmt: skip
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for array in arrays.values():
                file.write(np.ascontiguousarray(array).data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def load_state(path: str | Path) -> dict[str, Array]:
    """Read all arrays of a file, or of the files that an ``….index.json`` names.

    Raises `StateFileError` if anything about a file is wrong.
    """
    path = Path(path)
    if path.name.endswith(".index.json"):
        return _load_parts(path)
    header, content = _read(path)
    state, covered = {}, 0
    for name, entry in header.items():
        if name == _METADATA:
            continue
        code, shape, (start, end) = _entry(path, name, entry)
        shown = _shown(name)
        if start != covered or end - start != math.prod(shape) * _itemsize(code):
            raise StateFileError(f"{path}: {shown} with shape {shape} and type {code} does not "
                                 f"fill bytes {start} to {end}")  # fmt: skip
        if end > len(content):
            raise StateFileError(
                f"{path}: the file is cut short: {shown} ends at byte {end} of {len(content)}"
            )
        try:
            state[name] = _numbers(content[start:end], code).reshape(shape)
        except ValueError as error:
            raise StateFileError(f"{path}: {shown} has a shape beyond NumPy: {error}") from error
        covered = end
    if covered != len(content):
        raise StateFileError(f"{path}: {len(content) - covered} bytes belong to no array")
    return state


def load_metadata(path: str | Path) -> dict[str, str]:
    """Read the text that was saved beside the arrays."""
    return dict(_read(Path(path))[0].get(_METADATA, {}))


def _load_parts(path: Path) -> dict[str, Array]:
    """The arrays that an index places in files beside it, each file read once."""
    index = _object(path, _bytes(path))
    places = index.get("weight_map")
    if not isinstance(places, dict) or any(type(place) is not str for place in places.values()):
        raise StateFileError(f"{path}: there is no weight_map from names to files")
    state: dict[str, Array] = {}
    for place in dict.fromkeys(places.values()):
        beside = place == Path(place.replace("\\", "/")).name and place not in ("", "..")
        if not beside or place.endswith(".index.json"):
            raise StateFileError(f"{path}: {place!r} is not the name of a file beside it")
        part = load_state(path.parent / place)
        for name in (name for name, where in places.items() if where == place):
            if name not in part:
                raise StateFileError(f"{path}: {_shown(name)} is not in {place}")
            state[name] = part[name]
    return state


def _itemsize(code: str) -> int:
    return 2 if code == _BFLOAT16 else np.dtype(_TYPES[code]).itemsize


def _numbers(content: memoryview, code: str) -> Array:
    if code == _BFLOAT16:
        return (np.frombuffer(content, "<u2").astype(np.uint32) << 16).view(np.float32)
    if code == "BOOL":  # other bytes than 0 and 1 are no booleans of NumPy
        return np.frombuffer(content, np.uint8) != 0
    return np.frombuffer(content, _TYPES[code]).copy()


def _bytes(path: Path) -> memoryview:
    """All bytes of a file; a pipe or a device, which may never end, is refused."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise StateFileError(f"{path}: not a file")
        return memoryview(path.read_bytes())
    except OSError as error:
        raise StateFileError(f"{path}: {error.strerror or error}") from error


def _object(path: Path, text: memoryview) -> dict[str, Any]:
    """The JSON object that a file or its header holds; hostile ones end in one clear line."""
    try:
        found = json.loads(bytes(text), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, StateFileError) else "its header is not JSON"
        raise StateFileError(f"{path}: not a safetensors file: {reason}") from error
    if not isinstance(found, dict):
        raise StateFileError(f"{path}: not a safetensors file: its header is not an object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise StateFileError(f"its header has the name {_shown(name)} twice")
        found[name] = value
    return found


def _shown(name: str) -> str:
    """A name that may come from anywhere, fit for one line."""
    return name if name.isprintable() and len(name) <= 80 else f"{name[:80]!r}"


def _read(path: Path) -> tuple[dict[str, Any], memoryview]:
    content = _bytes(path)
    length = struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else 0
    if len(content) < 10 or length > len(content) - 8:
        raise StateFileError(f"{path}: not a safetensors file, or cut short: its header is missing")
    if length > MAX_HEADER_BYTES:
        raise StateFileError(f"{path}: its header is longer than {MAX_HEADER_BYTES:,} bytes")
    header = _object(path, content[8 : 8 + length])
    metadata = header.get(_METADATA, {})
    if not isinstance(metadata, dict) or any(type(v) is not str for v in metadata.values()):
        raise StateFileError(f"{path}: its metadata are not text")
    return dict(sorted(header.items(), key=_offset)), content[8 + length :]


def _offset(item: tuple[str, Any]) -> tuple[int, int]:
    try:
        start, end = item[1]["data_offsets"]
    except (KeyError, TypeError, ValueError):
        return -1, -1
    return (start, end) if type(start) is type(end) is int else (-1, -1)


def _entry(path: Path, name: str, entry: Any) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    """Type, shape and place of an array, all of the kinds that the format asks for."""
    malformed = StateFileError(f"{path}: the header's entry for {_shown(name)} is malformed")
    try:
        code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (KeyError, TypeError) as error:
        raise malformed from error
    if type(code) is not str or type(shape) is not list or type(offsets) is not list:
        raise malformed
    if len(offsets) != 2 or any(type(n) is not int or n < 0 for n in (*shape, *offsets)):
        raise malformed
    if len(shape) > 64 or any(n >= 1 << 64 for n in (*shape, *offsets)):
        raise malformed  # a product of such sizes may itself fill memory
    if code not in _TYPES and code != _BFLOAT16:
        raise StateFileError(f"{path}: {_shown(name)} has type {_shown(code)}, which NumPy lacks")
    return code, tuple(shape), (offsets[0], offsets[1])
