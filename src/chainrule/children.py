"""Programs that this one starts: one environment, one way to listen, one way to end them.

`call` has a function do its work in a process of its own, which is this file's `main`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

PYTHON = (sys.executable, "-P")
"""This interpreter, which finds no modules in the folder where it is started."""

THREADS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    "VECLIB_MAXIMUM_THREADS",
)
"""What the libraries under NumPy read to know how many threads they may start."""

Asked = TypeVar("Asked")
Got = TypeVar("Got")


@dataclass(frozen=True)
class Answer:
    """What a program printed, and why it did not end well, if so; ``status`` None: too late."""

    lines: list[str]
    status: int | None
    fault: str = ""

    def rows(self) -> Iterator[Any]:
        """The lines as JSON, up to one that a kill has cut."""
        for line in self.lines:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                return


def threads() -> int:
    """How many threads executed code may use: one, or what ``CHAINRULE_THREADS`` says.

    Budgets are those of one thread: more of them spin while they wait for each other.
    """
    return int(os.environ.get("CHAINRULE_THREADS", "1"))


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
        # Sums in another order end in other digits: `make kernels` looks at that.
        **dict.fromkeys(THREADS, str(threads())),
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
        errors="replace",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(told, timeout=seconds)
    except subprocess.TimeoutExpired:
        kill(process)
        out, _ = process.communicate()
        return Answer(out.splitlines(), None, f"still running after {seconds:g} s: killed")
    status = process.returncode
    said = err.strip().splitlines() or [f"ended with status {status}"]
    return Answer(out.splitlines(), status, said[-1][-300:] if status else "")


def call(function: str, *arguments: Any, root: Path, seconds: float) -> Answer:
    """Call ``module:function`` in a process of its own; the answer's rows are what it yields."""
    told = json.dumps([function, arguments])
    return ask(*PYTHON, "-m", __name__, root=root, seconds=seconds, told=told)


def at_once(function: Callable[[Asked], Got], items: Iterable[Asked]) -> list[Got]:
    """The function of each item, in order, as many at once as there are processors.

    Each call is to wait for a program; this process computes one thing at a time.
    """
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return list(pool.map(function, items))


def kill(process: subprocess.Popen[Any]) -> None:
    """End a process that leads a session, and all that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (AttributeError, ProcessLookupError, PermissionError):
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def main() -> None:
    """Call the function that standard input names, and print what it yields, one JSON a line."""
    (function, arguments), rows = json.load(sys.stdin), os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the executed code prints
    module, _, name = function.partition(":")
    for row in getattr(import_module(module), name)(*arguments):
        print(json.dumps(row), file=rows, flush=True)


if __name__ == "__main__":
    main()
