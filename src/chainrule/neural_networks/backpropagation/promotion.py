"""What type a result has: PyTorch's rules, where NumPy's would double the width of a model.

Kinds rank boolean < whole < floating. Operands of the highest kind decide, and among them
arrays with axes before arrays without, and these before plain numbers: ``x * np.sqrt(d)`` has
the type of ``x``. Floats that come from whole numbers or from Python are float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.shapes import Array

__all__ = ["alike", "floating", "from_python", "result_type", "wide"]

_RANK = {"b": 0, "u": 1, "i": 1, "f": 2}
_NUMBERS = {bool: np.dtype(np.bool_), int: np.dtype(np.int64), float: np.dtype(np.float32)}
_HALF, _SINGLE = np.dtype(np.float16), np.dtype(np.float32)


def wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type to compute in: 16-bit floats overflow at 65,504, so float32 for them."""
    return _SINGLE if dtype == _HALF else dtype


def floating(x: Array) -> Array:
    """The array itself if it holds floats, otherwise as float32."""
    return x if x.dtype.kind == "f" else x.astype(_SINGLE)


def from_python(data: Any) -> Array:
    """The numbers of (nested) lists as an array: floats as float32, whole ones as int64."""
    array = np.asarray(data)
    if array.dtype.kind not in "iuf":
        return array
    return array.astype(_SINGLE if array.dtype.kind == "f" else np.int64, copy=False)


def result_type(*operands: Any) -> np.dtype[Any]:
    """The type that PyTorch gives to an elementwise result of arrays and numbers."""
    groups: tuple[list[np.dtype[Any]], ...] = ([], [], [])  # with axes, without axes, numbers
    for x in operands:
        if isinstance(x, np.ndarray):
            groups[x.ndim == 0].append(x.dtype)
        else:
            groups[2].append(_NUMBERS[type(x)])
    best = np.dtype(np.bool_)
    found = False
    for group in groups:
        rank = max((_RANK[dtype.kind] for dtype in group), default=-1)
        if (not found and group) or rank > _RANK[best.kind]:
            best = np.result_type(*(dtype for dtype in group if _RANK[dtype.kind] == rank))
            found = True
    return best


def alike(*operands: Any) -> tuple[Any, ...]:
    """The operands in their `result_type`; a number beside floats stays a number."""
    if _are_alike(operands):
        return operands
    operands = tuple(map(_operand, operands))
    dtype = result_type(*operands)
    stay = dtype.kind == "f" and any(isinstance(x, np.ndarray) for x in operands)
    return tuple(x if stay and type(x) in _NUMBERS else np.asarray(x, dtype) for x in operands)


def _are_alike(operands: tuple[Any, ...]) -> bool:
    """The usual cases: arrays of one type, or of one floating type and numbers."""
    dtype, numbers = None, False
    for x in operands:
        if type(x) is np.ndarray and (dtype is None or x.dtype is dtype):
            dtype = x.dtype
        elif type(x) in _NUMBERS:
            numbers = True
        else:
            return False
    return dtype is not None and (dtype.kind == "f" or not numbers)


def _operand(x: Any) -> Any:
    if isinstance(x, np.generic):
        x = x.item()
    return x if isinstance(x, np.ndarray) or type(x) in _NUMBERS else from_python(x)
