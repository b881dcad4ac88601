"""Reading small files of strangers: everything that is wrong with one is one clear line."""

from __future__ import annotations

import json
import math
import stat
from pathlib import Path
from typing import Any

__all__ = ["FolderError", "read_object", "shown"]

MAX_BYTES = 64 * 1024 * 1024
"""A longer file of settings or of tokens is refused before it is read."""


class FolderError(ValueError):
    """A folder cannot be read or written; the message says which file and why, in one line."""


def shown(value: object) -> str:
    """A value that may come from anywhere, short and on one line."""
    if isinstance(value, int) and abs(value) >= 10**18:
        return "a huge number"
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "…"


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file, every name in it given once.

    Raises:
        FolderError: it is missing, no file, too long, not UTF-8, not JSON, or no object.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise FolderError(f"{path}: not a file")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise FolderError(f"{path} is missing") from None
    except OSError as error:
        raise FolderError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(raw) > MAX_BYTES:
        raise FolderError(f"{path} is longer than {MAX_BYTES:,} bytes")
    try:
        found = json.loads(raw.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    except FolderError as error:
        raise FolderError(f"{path}: {error}") from None
    except UnicodeDecodeError as error:
        raise FolderError(f"{path} is not UTF-8: byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise FolderError(f"{path} is not JSON: {error.msg}, line {error.lineno}") from None
    except (RecursionError, ValueError):  # nested too deeply; an integer of thousands of digits
        raise FolderError(f"{path} is not JSON that can be read") from None
    if not isinstance(found, dict):
        raise FolderError(f"{path} holds a {type(found).__name__}, expected names and values")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise FolderError(f"{shown(name)} is given twice")
            seen.add(name)
    return found


def _no_number(text: str) -> float:
    value = float(text)  # NaN, Infinity and -Infinity are no JSON, and Python reads them
    if math.isfinite(value):
        return value
    raise FolderError(f"{text} is no number of JSON")
