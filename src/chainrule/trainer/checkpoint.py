"""Checkpoints: a folder that appears whole or not at all.

A checkpoint is ``step-00000250/`` with ``model.safetensors``, ``optimizer.safetensors`` and
``state.json``. It is written beside its place under another name, flushed to the disk, and
renamed: a kill, a full disk or a power cut leaves the previous checkpoint untouched.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

KEPT = 2
"""How many checkpoints stay: the newest, and the one before it in case that is damaged."""

POSIX = os.name == "posix"
"""Elsewhere a folder cannot be opened, and only a file that is open for writing is flushed."""

_NAME = re.compile(r"step-(\d{8})")


class CheckpointError(Exception):
    """A checkpoint cannot be written or read; the message says which, why, and what is safe."""


def save(run: Path, step: int, files: dict[str, Callable[[Path], None]], state: dict) -> Path:
    """Write the checkpoint of a step: each of ``files`` by its writer, and ``state`` as JSON.

    Raises:
        CheckpointError: the disk is full or not writable; earlier checkpoints are as they were.
    """
    final = run / f"step-{step:08d}"
    part = run / f".{final.name}.part"
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name, write in files.items():
            write(part / name)
        (part / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
        for path in part.iterdir():
            _flush(path)
        if final.exists():  # a resumed run reaches the same step again, with the same contents
            shutil.rmtree(final)
        part.rename(final)
        _flush(run)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        safe = latest(run)
        kept = f"the last one, {safe.name}, is untouched" if safe else "none was written before"
        message = f"cannot write checkpoint {final}: {error.strerror or error}; {kept}"
        raise CheckpointError(message) from None
    for old in _checkpoints(run)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def latest(run: Path) -> Path | None:
    """The newest complete checkpoint of a run, or None."""
    found = _checkpoints(run)
    return found[-1] if found else None


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The JSON part of a checkpoint.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    path = checkpoint / "state.json"
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(checkpoint, f"{path.name}: {error}") from None
    if not isinstance(state, dict):
        raise damaged(checkpoint, f"{path.name} holds no table")
    return state


def damaged(checkpoint: Path, why: object) -> CheckpointError:
    """The one-line error for a checkpoint that cannot be read, with the way out."""
    others = [path for path in _checkpoints(checkpoint.parent) if path != checkpoint]
    way_out = (
        f"delete it to continue from {others[-1].name}" if others else "there is no earlier one"
    )
    first_line = str(why).splitlines()[0]
    return CheckpointError(f"checkpoint {checkpoint} is damaged ({first_line}); {way_out}")


def _checkpoints(run: Path) -> list[Path]:
    if not run.is_dir():
        return []
    return sorted(path for path in run.iterdir() if path.is_dir() and _NAME.fullmatch(path.name))


def _flush(path: Path) -> None:
    if path.is_dir() and not POSIX:
        return
    descriptor = os.open(path, os.O_RDONLY if POSIX else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
