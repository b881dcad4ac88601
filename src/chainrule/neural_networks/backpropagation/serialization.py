"""`save_state` and `load_state`: arrays by name in one file, in the safetensors format.

The format: eight bytes with the length of a JSON header, the header (for every name its type,
shape, and where its bytes begin and end), then the bytes. It holds no code, unlike a pickle.
Source: github.com/huggingface/safetensors, README "Format".
"""

from __future__ import annotations

import json
import math
import os
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


class StateFileError(ValueError):
    """A file of arrays cannot be used; the message says which file and why, in one line."""


def save_state(
    path: str | Path, state: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays (or tensors) by name; the file appears whole, or the old one stays.

    The bytes go to a new file beside ``path``, which then takes its name in one step.
    """
    path = Path(path)
    arrays = {name: np.asarray(x.data if isinstance(x, Tensor) else x) for name, x in state.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
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
    """Read all arrays of a file; raise `StateFileError` if anything about it is wrong."""
    path = Path(path)
    header, content = _read(path)
    state, covered = {}, 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        kind, shape, (start, end) = _entry(path, name, entry)
        if start != covered or end - start != math.prod(shape) * kind.itemsize:
            raise StateFileError(f"{path}: {name} with shape {shape} and type {kind} does not "
                                 f"fill bytes {start} to {end}")  # fmt: skip
        if end > len(content):
            raise StateFileError(
                f"{path}: the file is cut short: {name} ends at byte {end} of {len(content)}"
            )
        state[name] = np.frombuffer(content[start:end], kind).reshape(shape).copy()
        covered = end
    if covered != len(content):
        raise StateFileError(f"{path}: {len(content) - covered} bytes belong to no array")
    return state


def load_metadata(path: str | Path) -> dict[str, str]:
    """Read the text that was saved beside the arrays."""
    return dict(_read(Path(path))[0].get("__metadata__", {}))


def _read(path: Path) -> tuple[dict[str, Any], memoryview]:
    try:
        content = memoryview(path.read_bytes())
    except OSError as error:
        raise StateFileError(f"{path}: {error.strerror or error}") from error
    length = struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else 0
    if len(content) < 10 or length > len(content) - 8:
        raise StateFileError(f"{path}: not a safetensors file, or cut short: its header is missing")
    try:
        header = json.loads(bytes(content[8 : 8 + length]))
    except ValueError as error:
        raise StateFileError(f"{path}: not a safetensors file: its header is not JSON") from error
    if not isinstance(header, dict):
        raise StateFileError(f"{path}: not a safetensors file: its header is not an object")
    ordered = sorted(header.items(), key=_offset)
    return dict(ordered), content[8 + length :]


def _offset(item: tuple[str, Any]) -> int:
    try:
        return int(item[1]["data_offsets"][0])
    except (KeyError, TypeError, ValueError, IndexError):
        return -1


def _entry(path: Path, name: str, entry: Any) -> tuple[np.dtype[Any], tuple[int, ...], Any]:
    try:
        code, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        sizes = tuple(int(n) for n in shape)
        start, end = int(start), int(end)
    except (KeyError, TypeError, ValueError) as error:
        raise StateFileError(f"{path}: the header's entry for {name} is malformed") from error
    if code not in _TYPES:
        raise StateFileError(f"{path}: {name} has type {code}, which NumPy lacks")
    if min(sizes, default=0) < 0 or start < 0:
        raise StateFileError(f"{path}: the header's entry for {name} is malformed")
    return np.dtype(_TYPES[code]), sizes, (start, end)
