"""Notebooks: executed from a clean kernel, compared with what they store, kept in budget.

Conventions for authors:

- The first cell is Markdown: the title as its H1, what the reader will build, a link to every
  document served that is written, the budget as ``20 s`` and ``2 MB`` (the size of the file).
- Text outputs are compared line by line. A cell whose output holds measured times carries the
  tag ``volatile``: there every number may change, the words around the numbers may not.
- Pictures must be there, as many as stored, and not blank; their pixels are not compared.
- What a cell writes to standard error (a warning) is a fault.
- The budget counts CPU seconds, with one thread, so a busy machine changes nothing.

``python -m chainrule.course.documents.notebooks [NAME …]`` executes and compares; ``--write``
stores the outputs instead. Both print a table of seconds and megabytes against the budgets.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import io
import json
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chainrule.course.audit import read_cells
from chainrule.course.children import at_once, environment
from chainrule.course.files import write_atomically
from chainrule.course.finding import Finding
from chainrule.course.manifest import Course, CourseError, Notebook, find_root, load_course

CHECK = "notebooks"
VOLATILE = "volatile"
# Executed after the last cell, and not stored: what the kernel and its children have spent.
MEASURE = "import os as _os\nprint(sum(_os.times()[:4]))"


@dataclass(frozen=True)
class Execution:
    """One run from a clean kernel: the executed notebook, CPU seconds, size, how it failed.

    ``error`` is the index of the cell that failed and the reason.
    """

    notebook: Any
    seconds: float
    megabytes: float
    error: tuple[int, str] | None = None


def read(path: Path) -> Any:
    """Read a notebook.

    Raises:
        ValueError: the file is not a valid notebook.
    """
    import nbformat

    text = path.read_text(encoding="utf-8")
    data = json.loads(text)
    if not (isinstance(data, dict) and data.get("nbformat") == 4):
        raise ValueError("it does not say nbformat 4")
    try:
        nbformat.validate(data)
    except (nbformat.ValidationError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(str(error).splitlines()[0]) from None
    return nbformat.v4.reads(text)


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


def execute(path: Path, root: Path | None = None, limit: float = 600) -> Execution:
    """Run a notebook from a clean kernel, in its own folder.

    Args:
        path: the notebook; it is not changed.
        root: the checkout whose package the cells import (default: the folder above).
        limit: seconds after which a cell is stopped.

    Raises:
        ValueError: the file is not a valid notebook.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    from nbformat.v4 import new_code_cell

    notebook = read(path)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.cells.append(new_code_cell(MEASURE))
    error, seconds = None, 0.0
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=limit,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            extra_arguments=["--IPKernelApp.log_level=40"],
            resources={"metadata": {"path": str(path.parent)}},
        )
        env = {**environment((root or path.parent.parent) / "src"), "IPYTHONDIR": folder}
        env.pop("MPLBACKEND")
        try:
            client.execute(env=env)
            seconds = float(notebook.cells[-1].outputs[0].text)
        except CellExecutionError as failure:
            error = (_failed(notebook), f"{failure.ename}: {failure.evalue}".rstrip(": "))
        except CellTimeoutError:
            error = (_failed(notebook), f"still running after {limit:g} s: stopped")
        except DeadKernelError:
            error = (_failed(notebook), "the kernel died")
    notebook.cells.pop()
    return Execution(notebook, seconds, len(text_of(notebook).encode()) / 1e6, error)


def _failed(notebook: Any) -> int:
    """The cell at which an execution ended: the first code cell that did not complete."""
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and (
            cell.execution_count is None
            or any(output.output_type == "error" for output in cell.outputs)
        ):
            return index
    return len(notebook.cells) - 1


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
    """For each picture of a code cell what is wrong with it, or an empty string."""
    faults = []
    for output in cell.outputs:
        for kind, data in output.get("data", {}).items():
            if kind == "image/png":
                faults.append(_look(data))
            elif kind.startswith("image/"):
                faults.append("" if data.strip() else "is empty")
    return faults


def _look(data: str) -> str:
    from matplotlib.image import imread

    try:
        pixels = imread(io.BytesIO(base64.b64decode(data)), format="png")
    except (binascii.Error, OSError, SyntaxError, ValueError):
        return "cannot be decoded"
    return "is blank: every pixel is equal" if (pixels == pixels[0, 0]).all() else ""


def compare(path: str, stored: Any, executed: Any, lines: list[int]) -> list[Finding]:
    """Compare the outputs of two runs, cell by cell."""
    findings = []
    for index, (old, new) in enumerate(zip(stored.cells, executed.cells, strict=True)):
        if old.cell_type != "code":
            continue

        def add(message: str, index: int = index) -> None:
            fix = "find out why; store the new outputs with: make notebooks"
            findings.append(Finding(path, lines[index], CHECK, f"cell {index + 1}: {message}", fix))

        before, after = texts(old), texts(new)
        rows = [(a, b) for a, b in zip(before, after, strict=False) if a != b]
        if rows:
            add(f"expected {rows[0][0]!r}, received {rows[0][1]!r}")
        elif len(before) != len(after):
            add(f"expected {len(before)} lines of output, received {len(after)}")
        shown, drawn = pictures(old), pictures(new)
        if len(shown) != len(drawn):
            add(f"expected {len(shown)} pictures, received {len(drawn)}")
        for fault in sorted({*shown, *drawn} - {""}):
            add(f"a picture {fault}")
    return findings


def verify(course: Course, entry: Notebook, write: bool = False) -> tuple[Execution, list[Finding]]:
    """Execute one notebook; compare it with what is stored, or store it.

    Raises:
        ValueError: the file is not a valid notebook.
    """
    path = course.root / entry.path
    text = path.read_text(encoding="utf-8")
    lines = [cell.line for cell in read_cells(text)]
    run = execute(path, course.root, limit=3 * entry.seconds + 60)
    findings = []
    if run.error:
        index, reason = run.error
        message = f"cell {index + 1} fails: {reason}"
        findings.append(Finding(entry.path, lines[index], CHECK, message, "correct the cell"))
    elif write:
        if (updated := text_of(run.notebook)) != text:
            write_atomically(path, updated.encode("utf-8"))
    else:
        findings += compare(entry.path, read(path), run.notebook, lines)
    if run.seconds > entry.seconds:
        message = f"takes {run.seconds:.1f} s of CPU time, the budget is {entry.seconds} s"
        fix = "make the slowest cell smaller"
        findings.append(Finding(entry.path, 1, CHECK, message, fix))
    return run, findings


def verify_all(
    course: Course, entries: list[Notebook], write: bool = False
) -> list[tuple[Execution, list[Finding]]]:
    """Execute several notebooks, one kernel each, as many at once as there are processors."""
    return at_once(lambda entry: verify(course, entry, write), entries)


def main(arguments: list[str] | None = None) -> int:
    """Execute notebooks and print the table; 0 all agree, 1 something differs, 2 bad input."""
    parser = argparse.ArgumentParser(prog="notebooks", description="Execute the notebooks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="01-numpy-neural-net, or 01")
    parser.add_argument("--root", type=Path, help="the checkout (default: around this folder)")
    parser.add_argument("--write", action="store_true", help="store the outputs")
    options = parser.parse_args(arguments)
    try:
        course = load_course(find_root(options.root))
        entries = _chosen(course, options.names)
        results = verify_all(course, entries, options.write)
    except (CourseError, ValueError) as error:
        print(f"notebooks: {error}", file=sys.stderr)
        return 2
    print(f"{'notebook':32} {'seconds':>12} {'MB':>12}  result")
    for entry, (run, findings) in zip(entries, results, strict=True):
        seconds = f"{run.seconds:.1f} / {entry.seconds}"
        size = f"{run.megabytes:.2f} / {entry.megabytes:g}"
        verdict = f"{len(findings)} findings" if findings else "stored" if options.write else "same"
        print(f"{entry.id:32} {seconds:>12} {size:>12}  {verdict}")
    found = [finding for _, findings in results for finding in findings]
    for finding in found:
        print(f"{finding.file}:{finding.line}: {finding.message}")
    return int(bool(found))


def _chosen(course: Course, names: list[str]) -> list[Notebook]:
    """The notebooks whose id begins with one of the names; all that exist without names."""
    for name in names:
        matching = [entry for entry in course.notebooks if entry.id.startswith(name)]
        if not matching:
            raise CourseError(f"no notebook {name!r} in course.toml")
        if not any(map(course.exists, matching)):
            raise CourseError(f"{matching[0].path} does not exist yet")
    wanted = tuple(names) or ("",)
    return [n for n in course.notebooks if n.id.startswith(wanted) and course.exists(n)]


if __name__ == "__main__":
    sys.exit(main())
