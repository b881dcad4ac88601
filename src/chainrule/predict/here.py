"""What is run on this machine after its prediction: some steps of a GPT, or a notebook."""

from __future__ import annotations

import ast
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.predict.counting import STORED, code_cells, digest
from chainrule.predict.machine import Machine
from chainrule.predict.work import Work, gpt_work, price, stored_work
from chainrule.program import UsageError
from chainrule.transformers.gpt import GPT, gpt_config
from chainrule.transformers.transformer_architecture import TransformerConfig

__all__ = [
    "Counted",
    "config",
    "find_notebook",
    "measure_gpt",
    "measure_notebook",
    "step_seconds",
]

KERNEL = ("ipykernel.kernelapp", "matplotlib.pyplot", "matplotlib_inline.backend_inline")


def config(size: dict[str, int]) -> TransformerConfig:
    """The course's GPT of these sizes."""
    return gpt_config(size["vocab"], size["context"], size["layers"], size["heads"], size["width"])


def program_bytes() -> float:
    """What a process of `measure_apart` holds before its model; 0 where no system says it."""
    program = (
        "from chainrule.predict import here\nfrom chainrule.training import optimizers\n"
        'print(here._status("VmRSS"))'
    )
    command = [sys.executable, "-c", program]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def memory() -> float:
    """What this machine has; 0 where the system does not say."""
    with suppress(OSError, ValueError, AttributeError):
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return 0.0


def _status(name: str) -> float:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return 1024.0 * int(line.split()[1])
    with suppress(ImportError):
        import resource

        return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 0.0


def stepper(size: dict[str, int]) -> Any:
    """A function that trains one step of a fresh GPT on random symbols."""
    from chainrule.training.optimizers import AdamW, ParamGroups, clip_grad_norm_

    rng = np.random.default_rng(0)
    model = GPT(config(size), rng)
    parameters = list(model.parameters())
    optimizer = AdamW(ParamGroups.matrices_decay(parameters, 0.1), 1e-3, (0.9, 0.99))

    def step() -> None:
        ids = rng.integers(size["vocab"], size=(size["batch"], size["context"] + 1))
        model.loss(ids[:, :-1], ids[:, 1:]).backward()
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure_gpt(size: dict[str, int], steps: int) -> tuple[float, float]:
    """Median processor seconds of a step after one that does not count; the process's peak."""
    step, seconds = stepper(size), []
    step()
    for _ in range(max(1, steps)):
        start = time.process_time()
        step()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds), _status("VmHWM")


def measure_apart(size: dict[str, int], steps: int) -> tuple[float, float]:
    """The same in a process of its own, whose peak is that of the steps alone."""
    program = (
        "import json, sys\nfrom chainrule.predict import here\n"
        "print(json.dumps(here.measure_gpt(*json.loads(sys.argv[1]))))"
    )
    command = [sys.executable, "-c", program, json.dumps([size, steps])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds, peak = json.loads(done.stdout)
    return seconds, peak


def step_seconds(size: dict[str, int]) -> float:
    """Predicted seconds of a training step by the clock, with the threads that this process has."""
    return price(gpt_work(config(size), size["batch"]), Machine(clock=time.perf_counter)).total


@dataclass(frozen=True)
class Counted:
    """A notebook with what was counted of it; ``changed``: its cells are no longer those."""

    id: str
    path: Path
    root: Path
    limit: float
    work: Work
    changed: bool


def find_notebook(name: str, root: Path | None = None) -> Counted:
    """Find a notebook by its name or by the number that it begins with.

    Raises:
        UsageError: there is none, or nothing was counted of it.
    """
    from chainrule.course.manifest import load_course, open_course

    course = load_course(root) if root else open_course()
    root = course.root
    notebooks = {notebook.id: notebook for notebook in course.notebooks}
    wanted = Path(name).stem
    found = [n for n in notebooks if n == wanted or n.split("-")[0] == wanted.zfill(2)]
    if not found:
        raise UsageError(f"no notebook {name!r}; there are {', '.join(notebooks)}")
    notebook, path = notebooks[found[0]], root / f"notebooks/{found[0]}.ipynb"
    counted = json.loads(STORED.read_text(encoding="utf-8"))
    if notebook.id not in counted:
        raise UsageError(
            f"nothing was counted of {notebook.id}; type: "
            f"python -m chainrule.predict.counting {notebook.id} --write"
        )
    stored = counted[notebook.id]
    work = stored_work(stored, [*KERNEL, *_modules(path)])
    return Counted(
        notebook.id, path, root, notebook.seconds, work, stored["digest"] != digest(path)
    )


def _modules(path: Path) -> list[str]:
    """What the cells import, for the time that this takes."""
    found: dict[str, None] = {}
    for source in code_cells(path):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                found.update({alias.name: None for alias in node.names})
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found[node.module] = None
    return list(found)


def measure_notebook(notebook: Counted) -> float:
    """Processor seconds of a notebook, run from a clean kernel; its file is not changed.

    Raises:
        UsageError: a cell failed.
    """
    from chainrule.course.documents.notebooks import execute

    done = execute(notebook.path, notebook.root)
    if done.error:
        raise UsageError(f"{notebook.id}, cell {done.error[0] + 1}: {done.error[1]}")
    return done.seconds
