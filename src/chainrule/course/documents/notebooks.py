"""Notebooks: executed from a clean kernel, compared with what they store, kept in budget.

Conventions for authors:

- The first cell is Markdown: the title as its H1, what the reader will build, a link to every
  document served that is written, the budget as ``20 s`` and ``2 MB`` (the size of the file).
- Text outputs are compared line by line. A cell whose output holds measured times carries the
  tag ``volatile``: there every number may change, the words around the numbers may not.
- Pictures must be there, as many as stored, and not blank; their pixels are not compared.
- What a cell writes to standard error (a warning) is a fault.
- The budget counts CPU seconds a thread, on a machine of 2026 that does nothing else.
  Twice as many are allowed: other processors are slower, and two notebooks run side by side.

``chainrule audit SUBJECT --only notebooks --run`` executes and compares those that serve a subject;
with ``--write`` it stores the outputs that are new.
"""

from __future__ import annotations

import base64
import io
import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chainrule.children import environment, threads
from chainrule.course.audit import read_cells
from chainrule.course.finding import Finding
from chainrule.course.manifest import Notebook

if TYPE_CHECKING:
    from nbclient import NotebookClient

CHECK = "notebooks"
VOLATILE = "volatile"
ALLOWED = 2  # times the budget
# Executed after the last cell, and not stored: what the kernel and its children have spent.
MEASURE = "import os as _os\nprint(sum(_os.times()[:4]))"


@dataclass(frozen=True)
class Execution:
    """One run from a clean kernel: the executed notebook, CPU seconds, how it failed.

    ``error`` is the index of the cell that failed and the reason.
    """

    notebook: Any
    seconds: float
    error: tuple[int, str] | None = None


def read(text: str) -> Any:
    """Read a notebook.

    Raises:
        ValueError: the text is not a valid notebook of format 4.
    """
    import nbformat

    try:
        nbformat.validate(json.loads(text))
    except (nbformat.ValidationError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(str(error).splitlines()[0]) from None
    return nbformat.reads(text, as_version=4)


def text_of(notebook: Any) -> str:
    """The file's text of a notebook, with only the metadata that does not change by itself."""
    import nbformat

    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def execute(path: Path, root: Path, limit: float = 600) -> Execution:
    """Run a notebook from a clean kernel, in its own folder.

    Args:
        path: the notebook; it is not changed.
        root: the checkout whose package the cells import.
        limit: seconds after which a cell is stopped.

    What is no valid notebook fails at its first cell.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    try:
        notebook = read(path.read_text(encoding="utf-8"))
    except ValueError as fault:
        return Execution(None, 0.0, (0, f"not a valid notebook: {fault}"))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.cells.append(nbformat.v4.new_code_cell(MEASURE))
    reason, seconds, begun = "", 0.0, [0]
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=limit,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            extra_arguments=["--IPKernelApp.log_level=40"],
            resources={"metadata": {"path": str(path.parent)}},
            on_cell_execute=lambda cell, cell_index: begun.append(cell_index),
        )
        env = {**environment(root / "src"), "IPYTHONDIR": folder}
        env.pop("MPLBACKEND")
        try:
            _run(client, env)
            seconds = float(notebook.cells[-1].outputs[0].text)
        except CellExecutionError as failure:
            reason = f"{failure.ename}: {failure.evalue}".rstrip(": ")
        except CellTimeoutError:
            reason = f"still running after {limit:g} s: stopped"
        except DeadKernelError:
            reason = "the kernel died"
        except RuntimeError as failure:
            reason = f"no kernel: {failure}"
    notebook.cells.pop()
    return Execution(notebook, seconds, (begun[-1], reason) if reason else None)


def _run(client: NotebookClient, env: dict[str, str], chances: int = 2) -> None:
    """Execute all cells; if another program took a port of the kernel's, choose ports anew."""
    from nbclient.exceptions import DeadKernelError

    try:
        client.execute(env=env)
    except RuntimeError as failure:
        if isinstance(failure, DeadKernelError) or not chances:
            raise
        _run(client, env, chances - 1)


def texts(cell: Any) -> list[str]:
    """The text that a code cell shows, line by line, without what only describes a picture."""
    lines: list[str] = []
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stdout":
            shown = output.text
        elif "data" in output and not any(kind.startswith("image/") for kind in output.data):
            shown = output.data.get("text/plain", "")
        else:
            continue
        lines += [line.rstrip() for line in shown.removesuffix("\n").split("\n")]
    if VOLATILE in cell.metadata.get("tags", []):
        number = r"[-+]?(?:\d[\d.,_]*(?:e[-+]?\d+)?|\binf\b|\bnan\b)"
        lines = [re.sub(r"\s+", " ", re.sub(number, "#", line)) for line in lines]
    return lines


def pictures(cell: Any) -> list[str]:
    """The pictures of a code cell, in base64."""
    data = (output.get("data", {}).get("image/png", "") for output in cell.outputs)
    return ["".join(picture.split()) for picture in data if picture]


def _is_blank(picture: str) -> bool:
    from matplotlib.image import imread

    pixels = imread(io.BytesIO(base64.b64decode(picture)), format="png")
    return bool((pixels == pixels[0, 0]).all())


def faults(entry: Notebook, text: str, run: Execution) -> list[Finding]:
    """What an execution contradicts: the outputs that are stored, or the budget."""
    lines = [cell.line for cell in read_cells(text)]
    findings = []

    def add(line: int, message: str, fix: str) -> None:
        findings.append(Finding(entry.path, line, CHECK, message, fix))

    if run.error:
        index, reason = run.error
        add(lines[index], f"cell {index + 1} fails: {reason}", "correct the cell")
    for index, old, new in () if run.error else _code_cells(text, run):
        fix = "find out why; store the new outputs with: make notebooks"
        for message in _differences(old, new):
            add(lines[index], f"cell {index + 1}: {message}", fix)
    if run.seconds > ALLOWED * entry.seconds * threads():
        message = f"takes {run.seconds:.1f} s of CPU time, the budget is {entry.seconds} s"
        add(1, message, "make the slowest cell smaller")
    return findings


def is_new(text: str, run: Execution) -> bool:
    """Whether an execution gave other texts or pictures than those that are stored."""
    return run.error is None and any(
        texts(old) != texts(new) or pictures(old) != pictures(new)
        for _, old, new in _code_cells(text, run)
    )


def _code_cells(text: str, run: Execution) -> list[tuple[int, Any, Any]]:
    """Each code cell's index, and the cell as it is stored and as it was executed."""
    import nbformat

    stored = nbformat.reads(text, as_version=4).cells
    pairs = zip(stored, run.notebook.cells, strict=True)
    return [(i, old, new) for i, (old, new) in enumerate(pairs) if old.cell_type == "code"]


def _differences(old: Any, new: Any) -> Iterator[str]:
    before, after = texts(old), texts(new)
    rows = [(a, b) for a, b in zip(before, after, strict=False) if a != b]
    if rows:
        yield f"expected {rows[0][0]!r}, received {rows[0][1]!r}"
    elif len(before) != len(after):
        yield f"expected {len(before)} lines of output, received {len(after)}"
    shown, drawn = pictures(old), pictures(new)
    if len(shown) != len(drawn):
        yield f"expected {len(shown)} pictures, received {len(drawn)}"
    if any(map(_is_blank, drawn)):
        yield "a picture is blank: every pixel is equal"
