"""The audit: every check of the course, over one parse of everything.

A check is a file in ``chainrule/course/audit/checks``; being there is enough. It has

``NAME``
    what ``--only`` and a finding call it.
``STOPS``
    one sentence: the defect that it keeps from a reader.
``check(audit) -> Iterator[Finding]``
    reads; executes nothing of the course.

and, where it needs them,

``run(audit) -> Iterator[Finding]``
    executes what the course contains; only with ``--run``.
``write(audit) -> Iterator[tuple[str, str]]``
    with ``--write``, before checking: path and new text of each file that the check can refresh.
    Where that means executing, do it only if ``audit.run`` is true. Show nothing, write nothing.
``begin(audit) -> None``
    starts work that goes on beside the other checks and keeps it in ``audit.begun[NAME]``.

Documents without a file are plans: a check goes over ``audit.written`` and finds nothing in
the rest. What executes, or looks at one document at a time, goes over ``audit.picked(…)``, the
documents that were asked for; what executes asks ``audit.verdicts`` first. Paths in findings are
relative to the root, with forward slashes.
"""

from __future__ import annotations

import ast
import json
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from chainrule.course.audit.verdicts import Verdicts
from chainrule.course.documents.markdown import Page, parse
from chainrule.course.finding import Finding
from chainrule.course.manifest import MANIFEST, Course, Document, load_course
from chainrule.files import write_atomically

CLOSING = ("What people get wrong", "Find the bug", "Exercises", "Where this leads", "References")
UNSEEN = {"node_modules", "__pycache__", "_build", "build", "dist", "workbook", "runs"}


@dataclass(frozen=True)
class Cell:
    """A notebook's cell; ``line`` is that of its first line in the file."""

    kind: str
    source: str
    line: int


class Audit:
    """The course as the checks see it: each file is read and parsed once.

    Where it is to ``remember``, what passed before is not executed again, unless all is to be
    ``fresh``: see `verdicts`.
    """

    def __init__(
        self,
        course: Course,
        run: bool = False,
        chosen: Collection[str] = (),
        remember: bool = False,
        fresh: bool = False,
    ):
        self.course = course
        self.chosen = frozenset(chosen)  # ids of documents; none: all
        self.root = course.root
        self.run = run
        self.begun: dict[str, Any] = {}
        self.verdicts = Verdicts(self, remember, fresh)
        self._texts: dict[str, str] = {}

    @cached_property
    def today(self) -> date:
        """The day on which the course is audited."""
        return date.today()

    @cached_property
    def files(self) -> set[str]:
        """Every file of the checkout, relative to the root; nothing that is built or hidden."""
        found: set[str] = set()
        for folder, folders, names in os.walk(self.root):
            folders[:] = [
                name for name in folders if name == ".ci" or not (name in UNSEEN or name[0] == ".")
            ]
            place = Path(folder).relative_to(self.root).as_posix()
            found.update(f"{place}/{name}" if place != "." else name for name in names)
        return found

    @cached_property
    def written(self) -> list[Document]:
        """The documents that exist, in reading order."""
        return self.course.written()

    @cached_property
    def pages(self) -> dict[str, Page]:
        """Documents that exist, reference pages, and the Markdown beside the manifest, by path.

        Where documents are asked for, these alone, as of notebooks and prose.
        """
        beside = sorted(path for path in self.files if path.endswith(".md") and "/" not in path)
        beside += [page.path for page in self.course.pages if page.path in self.files]
        paths = [*([] if self.chosen else beside), *(doc.path for doc in self.picked(self.written))]
        return {path: self.page(path) for path in paths}

    @cached_property
    def prose(self) -> list[tuple[str, int, Page]]:
        """Every page and every Markdown cell: path, lines to add to the page's, page."""
        found = [(path, 0, page) for path, page in self.pages.items()]
        for path in self.notebooks:
            for cell in self.cells(path):
                if cell.kind == "markdown":
                    found.append((path, cell.line - 1, page_of(cell.source)))
        return found

    @cached_property
    def notebooks(self) -> list[str]:
        """Paths of the notebooks that exist, in order."""
        asked = {each.path for name in self.chosen for each in self.course.notebooks_of(name)}
        there = self.inside("notebooks", ".ipynb")
        return [path for path in there if not self.chosen or path in asked]

    def picked(self, documents: Iterable[Document]) -> list[Document]:
        """Those of the documents that are asked for; what executes goes over these."""
        return [each for each in documents if not self.chosen or each.id in self.chosen]

    def concerns(self, finding: Finding) -> bool:
        """Whether a finding is about a document that is asked for, or about all of them."""
        # The name of a document stands in the paths of all that is its own, spelled as each likes.
        where = finding.file.replace("_", "-").replace("/test-", "/")
        named = finding.message if finding.file == MANIFEST else where
        return not self.chosen or any(name in named for name in (*self.chosen, *self.notebooks))

    def text(self, path: str) -> str:
        """The text of a file."""
        if path not in self._texts:
            self._texts[path] = (self.root / path).read_text(encoding="utf-8-sig", errors="replace")
        return self._texts[path]

    def page(self, path: str) -> Page:
        """A parsed Markdown file."""
        return page_of(self.text(path))

    def tree(self, path: str) -> ast.Module | SyntaxError:
        """The syntax tree of a Python file, or why there is none."""
        return tree_of(self.text(path))

    def nodes(self, path: str) -> list[ast.AST]:
        """Every node of a Python file's syntax tree; none if it is no Python, or is not there."""
        return nodes_of(self.text(path)) if path in self.files else []

    def cells(self, path: str) -> list[Cell]:
        """The cells of a notebook; none if the file is not a notebook."""
        return read_cells(self.text(path))

    def module_files(self, document: Document) -> list[str]:
        """The files of a document's module: one, or those of its package."""
        place = f"src/{document.module.replace('.', '/')}"
        return [f"{place}.py"] if f"{place}.py" in self.files else self.inside(place, ".py")

    def inside(self, folder: str, ending: str = "") -> list[str]:
        """The files in a folder, at any depth, in order; only those of an ending."""
        return sorted(p for p in self.files if p.startswith(f"{folder}/") and p.endswith(ending))

    def test_files(self, document: Document) -> list[str]:
        """The tests of a document's module: ``test_name.py``, ``test_name_….py``, a folder."""
        folder, name = document.module.split(".")[1:]
        tests = (path for path in self.files if path.startswith(f"tests/{folder}/"))
        pattern = rf"tests/{folder}/(test_{name}(_\w+)?\.py|(test_)?{name}/.*\.py)"
        return sorted(path for path in tests if re.fullmatch(pattern, path))

    def forget(self, path: str) -> None:
        """Read a file again: it was written."""
        if path == MANIFEST:
            self.course = load_course(self.root)
        self._texts.pop(path, None)
        for name in ("files", "written", "pages", "notebooks", "prose"):
            self.__dict__.pop(name, None)


@dataclass(frozen=True)
class Outcome:
    """What a check found, the seconds that it took, and how many verdicts it remembered."""

    check: str
    findings: list[Finding]
    seconds: float
    remembered: int


def all_checks() -> list[ModuleType]:
    """Every check, by name."""
    from chainrule.course.audit import checks as folder

    names = sorted(info.name for info in iter_modules(folder.__path__))
    return [import_module(f"{folder.__name__}.{name}") for name in names]


def perform(audit: Audit, checks: list[ModuleType]) -> Iterator[Outcome]:
    """What each check finds, told as soon as it is done."""
    for check in checks:
        if hasattr(check, "begin"):
            check.begin(audit)
    # What began in the background is asked for last.
    for check in sorted(checks, key=lambda c: hasattr(c, "begin")):
        start, before = time.perf_counter(), audit.verdicts.recalled
        told = set(check.check(audit))
        if audit.run and hasattr(check, "run"):
            told.update(check.run(audit))
        found, remembered = filter(audit.concerns, told), audit.verdicts.recalled - before
        yield Outcome(check.NAME, sorted(found), time.perf_counter() - start, remembered)
    audit.verdicts.tidy()


def refresh(audit: Audit, checks: list[ModuleType]) -> Iterator[tuple[str, str, str]]:
    """Write what the checks give anew: path, old and new text of what changed."""
    # Generated regions show what the others wrote, so they come last.
    for check in sorted(checks, key=lambda c: c.NAME == "generated"):
        for path, text in list(check.write(audit)) if hasattr(check, "write") else ():
            old = audit.text(path) if path in audit.files else ""
            if text != old:
                write_atomically(audit.root / path, text.encode())
                audit.forget(path)
                yield path, old, text


page_of = cache(parse)


@cache
def tree_of(code: str) -> ast.Module | SyntaxError:
    """The syntax tree of Python code, or why there is none."""
    try:
        return ast.parse(code)
    except SyntaxError as error:
        return error


@cache
def nodes_of(code: str) -> list[ast.AST]:
    """Every node of the syntax tree of Python code; none if it is no Python."""
    tree = tree_of(code)
    return list(ast.walk(tree)) if isinstance(tree, ast.Module) else []


@cache
def read_cells(text: str) -> list[Cell]:
    """The cells of a notebook's JSON, each with its line; none if it is not a notebook."""
    try:
        cells = json.loads(text)["cells"]
        sources = [(str(cell["cell_type"]), "".join(cell["source"])) for cell in cells]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    starts = [m.start() for m in re.finditer(r'^ {3}"source":', text, re.M)]
    lines = [text.count("\n", 0, start) + 2 for start in starts]
    if len(lines) != len(sources):
        lines = [1] * len(sources)
    return [Cell(kind, source, line) for (kind, source), line in zip(sources, lines, strict=True)]
