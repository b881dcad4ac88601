"""Programs that the tool starts: one environment, one way to listen, one way to end them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PYTHON = (sys.executable, "-P")
"""This interpreter, which finds no modules in the folder where it is started."""

THREADS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    "VECLIB_MAXIMUM_THREADS",
)
"""What the libraries under NumPy read to know how many threads they may start."""


@dataclass(frozen=True)
class Answer:
    """What a program printed, how it ended (None: it took too long), its last word on errors."""

    lines: list[str]
    status: int | None
    said: str


def environment(source: Path = Path(__file__).parents[2]) -> dict[str, str]:
    """The surroundings of executed code: the package in ``source``, one thread, no display."""
    return {
        **{key: value for key, value in os.environ.items() if key != "CHAINRULE_CHECK_SHAPES"},
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(source.resolve()), os.environ.get("PYTHONPATH", "")])
        ),
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "MPLBACKEND": "Agg",
        # Sums in another order end in other digits.
        **dict.fromkeys(THREADS, "1"),
    }


def ask(*command: str, root: Path, seconds: float, told: str = "") -> Answer:
    """Run a program in a checkout, tell it something, and wait for all that it prints.

    After so many ``seconds`` it is killed with all that it has started; what it printed counts.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=root,
        env=environment(root / "src"),
        encoding="utf-8",
        start_new_session=True,
    )
    status: int | None
    try:
        out, err = process.communicate(told, timeout=seconds)
        status = process.returncode
    except subprocess.TimeoutExpired:
        kill(process)
        out, err = process.communicate()
        status = None
    said = err.strip().splitlines() or ["no reason given"]
    return Answer(out.splitlines(), status, said[-1])


def kill(process: subprocess.Popen[Any]) -> None:
    """End a process that leads a session, and all that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (AttributeError, ProcessLookupError, PermissionError):
        with contextlib.suppress(ProcessLookupError):
            process.kill()
