"""Notebooks: form and stored outputs; with ``--run`` they are executed again and compared."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

from chainrule.children import at_once
from chainrule.course.audit import Audit, Cell, nodes_of
from chainrule.course.audit.checks.documents import oversized
from chainrule.course.audit.verdicts import Verdict
from chainrule.course.documents.notebooks import Execution, execute, faults, is_new, text_of
from chainrule.course.finding import Finding
from chainrule.course.manifest import Course, Notebook

NAME = "notebooks"
STOPS = "A notebook's outputs are not what its cells give, or running it costs more than it says."

GLOBAL_STATE = r"(np|numpy)\.random\.(?!default_rng|[A-Z])\w+"
STORE = "execute it and store the outputs: make notebooks"


def check(audit: Audit) -> Iterator[Finding]:
    """Report faults of form, and outputs that are missing, out of order or in error."""
    for entry in audit.course.notebooks:
        if (path := entry.path) not in audit.notebooks:
            continue
        cells = audit.cells(path)
        # Without nbformat: importing it takes longer than all other fast checks together.
        stored = json.loads(audit.text(path)) if cells else {}
        if stored.get("nbformat") != 4:
            message = "not a notebook of format 4 with cells"
            yield Finding(path, 1, NAME, message, "write it with Jupyter")
            continue
        for index, message, fix in _faults(audit.course, entry, cells, stored["cells"]):
            yield Finding(path, cells[index].line, NAME, message, fix)
        size, most = (audit.root / path).stat().st_size / 1e6, entry.megabytes
        if size > most:
            message = f"{size:.2f} MB, the budget is {most:g} MB"
            yield Finding(path, 1, NAME, message, "draw smaller pictures, or fewer")


def run(audit: Audit) -> Iterator[Finding]:
    """Execute every notebook from a clean kernel and compare."""
    for entry, execution in _executed(audit):
        found = faults(entry, audit.text(entry.path), execution)
        _verdict(audit, entry).keep(passed=not found)
        yield from found


def write(audit: Audit) -> Iterator[tuple[str, str]]:
    """Store what execution gives, where it differs from what is stored."""
    for entry, execution in _executed(audit) if audit.run else ():
        if is_new(audit.text(entry.path), execution):
            yield entry.path, text_of(execution.notebook)


def _executed(audit: Audit) -> list[tuple[Notebook, Execution]]:
    """The notebooks that are asked for and not known to pass, each executed once."""
    if NAME not in audit.begun:
        entries = [
            entry
            for entry in audit.course.notebooks
            if entry.path in audit.notebooks and audit.cells(entry.path)
            if not _verdict(audit, entry).passed
        ]
        executions = at_once(
            lambda entry: execute(audit.root / entry.path, audit.root, 3 * entry.seconds + 60),
            entries,
        )
        audit.begun[NAME] = list(zip(entries, executions, strict=True))
    return audit.begun[NAME]


def _verdict(audit: Audit, entry: Notebook) -> Verdict:
    """What is remembered of a notebook as it is stored now."""
    served = [audit.course.by_id[name] for name in entry.serves if name in audit.course.by_id]
    return audit.verdicts.of(NAME, served, entry.path, audit.text(entry.path))


def _faults(
    course: Course, entry: Notebook, cells: list[Cell], stored: list[dict[str, Any]]
) -> Iterator[tuple[int, str, str]]:
    """Index of the cell, what is wrong, what to do."""
    code = [index for index, cell in enumerate(cells) if cell.kind == "code"]
    if not code or cells[0].kind != "markdown":
        yield 0, "the first cell must be Markdown, and code must follow", "add a header cell"
        return
    yield from _header(course, entry, cells[0].source)
    for position, index in enumerate(code, 1):
        for _, message, fix in oversized("cell", cells[index].source.split("\n")):
            yield index, message, fix
        yield from _seeds(index, cells[index])
        yield from _outputs(index, position, stored[index])
    if not _asserts(cells[code[-1]]):
        yield code[-1], "the last code cell asserts nothing", "assert the measured result there"
    if not any("change one thing" in cell.source.lower() for cell in cells):
        fix = "add three experiments, each with its line to change and its question"
        yield len(cells) - 1, "no part is called “Change one thing”", fix


def _header(course: Course, entry: Notebook, source: str) -> Iterator[tuple[int, str, str]]:
    if not re.search(rf"^# {re.escape(entry.title)}\s*$", source, re.MULTILINE):
        yield 0, f"the title is not {entry.title!r}", f"begin with: # {entry.title}"
    if not re.search(r"\bbuild", source, re.IGNORECASE):
        yield 0, "the first cell does not say what you build", "say it in one sentence"
    for name in entry.serves:
        document = course.by_id.get(name)
        if document and course.exists(document) and f"](../{document.path}" not in source:
            fix = f"link it: [{document.title}](../{document.path})"
            yield 0, f"the first cell does not link {document.path}, which it serves", fix
    for amount in (f"{entry.seconds} s", f"{entry.megabytes:g} MB"):
        if not re.search(rf"(?<![\d.]){re.escape(amount)}\b", source):
            fix = f"state {entry.seconds} s and {entry.megabytes:g} MB, as course.toml does"
            yield 0, f"the first cell does not state the budget of {amount}", fix


def _seeds(index: int, cell: Cell) -> Iterator[tuple[int, str, str]]:
    fix = "rng = np.random.default_rng(0)"
    for node in nodes_of(cell.source):
        if isinstance(node, ast.Call) and ast.unparse(node).endswith("default_rng()"):
            yield index, "a generator without a seed", fix
        elif isinstance(node, ast.Attribute) and re.fullmatch(GLOBAL_STATE, ast.unparse(node)):
            yield index, f"{ast.unparse(node)} draws from a hidden global state", fix


def _asserts(cell: Cell) -> bool:
    return any(
        isinstance(node, ast.Assert)
        or (isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1][:6] == "assert")
        for node in nodes_of(cell.source)
    )


def _outputs(index: int, position: int, cell: dict[str, Any]) -> Iterator[tuple[int, str, str]]:
    if (count := cell.get("execution_count")) != position:
        yield index, f"executed as number {count}, expected {position}", STORE
        return
    for output in cell.get("outputs", []):
        if output["output_type"] == "error":
            yield index, f"the stored output is an error: {output['ename']}", "correct the cell"
        elif output.get("name") == "stderr":
            first = "".join(output["text"]).strip().split("\n")[0]
            yield index, f"the stored output has a warning: {first}", "avoid its cause"
