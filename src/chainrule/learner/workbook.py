"""The learner's folder: ``workbook/<folder>/<name>.py`` and ``workbook/progress.toml``.

Every file is replaced in one step, so that a kill at any moment leaves the old or the new.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import datetime
import fcntl
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import PlainSerializer, Strict, StrictInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from chainrule.course.documents.execute import first_line
from chainrule.course.exercises import stubs
from chainrule.course.manifest import WORKBOOK as FOLDER
from chainrule.course.manifest import Course, Document
from chainrule.course.paths import normal
from chainrule.files import write_atomically
from chainrule.learner.reading import binds, bound_names, survey
from chainrule.program import UsageError, typed

PROGRESS = "workbook/progress.toml"
QUOTES = '"""'


# Exercises


def workbook_file(course: Course, document: Document) -> Path:
    """Where a learner works on a document's exercises."""
    return course.place / FOLDER / document.exercises.removeprefix("exercises/")


def ready(course: Course) -> list[Document]:
    """The documents that have exercises."""
    return [d for d in course.documents if (course.root / d.exercises).is_file()]


def entries_of(course: Course, document: Document) -> list[stubs.Entry]:
    """The exercises of a document, in order.

    Raises:
        UsageError: it has none.
    """
    path = course.root / document.exercises
    if not path.is_file():
        names = ", ".join(d.slug for d in ready(course))
        advice = f"there are some for: {names}" if names else "none are written so far"
        raise UsageError(f"{document.title!r} has no exercises yet; {advice}")
    try:
        return survey(path)
    except SyntaxError as error:
        message = f"{document.exercises}:{error.lineno}: {error.msg}: repair the exercise file"
        raise UsageError(message) from None


def pick(entries: list[stubs.Entry], name: str) -> stubs.Entry:
    """The exercise with this name or title.

    Raises:
        UsageError: none has it, or several.
    """
    wanted = normal(name)
    found = [e for e in entries if wanted in (normal(e.name), normal(e.title))]
    found = found or [e for e in entries if wanted in normal(f"{e.name} {e.title}")]
    if wanted and len(found) == 1:
        return found[0]
    names = ", ".join(entry.name for entry in found or entries)
    if found:
        raise UsageError(f"several exercises match {name!r}: {names}; name the subject too")
    raise UsageError(f"no exercise is {name!r}; there are: {names}")


def find_exercise(
    course: Course, name: str, chosen: Document | None = None
) -> tuple[Document, stubs.Entry]:
    """The exercise with this name or title, where a learner has begun, or anywhere.

    Raises:
        UsageError: none has it, or several.
    """
    begun = [d for d in ready(course) if workbook_file(course, d).is_file()]
    documents = [chosen] if chosen else begun or ready(course)
    pairs = [(d, entry) for d in documents for entry in entries_of(course, d)]
    picked = pick([entry for _, entry in pairs], name)
    return next(pair for pair in pairs if pair[1] is picked)


@dataclasses.dataclass
class Written:
    """What `write_stubs` did: the names added and kept, and the backup, where one was made."""

    path: Path
    added: list[str]
    kept: list[str]
    backup: Path | None = None


def write_stubs(course: Course, document: Document, reset: str = "") -> Written:
    """Add the exercises that are missing from the learner's file; never touch what is there.

    ``reset`` names one exercise to start again (``all``: every one), after a backup.

    Raises:
        UsageError: there are no exercises, or the learner's file cannot be read as Python.
    """
    path = workbook_file(course, document)
    entries = entries_of(course, document)
    again = (
        {e.name for e in (entries if reset == "all" else [pick(entries, reset)])}
        if reset
        else set()
    )
    source = (course.root / document.exercises).read_text(encoding="utf-8")
    old = read_learner(path) if path.exists() else ""
    blocks = {
        entry.name: heading(course, document, number, entry) + stubs.stub_of(entry.node, source)
        for number, entry in enumerate(entries, 1)
    }
    if reset == "all" or not old.strip():
        present, text = set(), _opening(document, source)
    else:
        present, text = bound_names(old), old
    for name in again & present:
        text = replace(text, path, name, blocks[name])
    added = [name for name in blocks if name not in present]
    text = "\n\n\n".join([text.rstrip("\n"), *(blocks[name] for name in added)]) + "\n"
    result = Written(path, [n for n in blocks if n in {*added, *again}], [])
    result.kept = [name for name in blocks if name not in result.added]
    if text != old:
        if again and old:
            result.backup = back_up(path, old)
        write_atomically(path, text.encode())
    return result


def read_learner(path: Path) -> str:
    """A learner's file as text.

    Raises:
        UsageError: it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text ({error.reason}): save it as UTF-8") from None


def _opening(document: Document, source: str) -> str:
    return f"""{QUOTES}Exercises for {document.path}: {document.title}.

Replace each `...`, save, and type:

    {typed(f"check {document.slug}")}

Stuck? This helps, each time a little more; the second shows the solution of what you have
passed, and with --anyway of what you have not:

    {typed("hint NAME")}
    {typed("check --solution NAME")}
{QUOTES}

{stubs.opening(ast.parse(source), source)}"""


def heading(course: Course, document: Document, number: int, entry: stubs.Entry) -> str:
    """What stands above an exercise in the learner's file."""
    file = workbook_file(course, document)
    target = course.root / document.path
    near = course.place == course.root
    link = os.path.relpath(target, file.parent).replace(os.sep, "/") if near else target.as_posix()
    about = f"difficulty {entry.difficulty} of 5, about {entry.minutes} minutes"
    return f"# {number}. {entry.title} ({about})\n# Read first: {link}#{entry.section}\n"


def replace(text: str, path: Path, name: str, block: str) -> str:
    """The learner's file with this block in the place of what defines a name.

    Raises:
        UsageError: the file cannot be read as Python.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", 1)
        message = f"{path}:{line}: not valid Python, so {name} cannot be found safely: repair that"
        raise UsageError(f"{message} line, or start over with --reset all") from None
    nodes = [n for n in tree.body if binds(n) == {name}]
    lines = text.splitlines()
    if not nodes:
        lines += ["", "", *block.splitlines()]
    for node in reversed(nodes):
        first = first_line(node) - 1
        while first and lines[first - 1].startswith(
            ("# Read first:", f"# {block[2:].split('.')[0]}.")
        ):
            first -= 1
        lines[first : node.end_lineno] = block.splitlines() if node is nodes[0] else []
    return "\n".join(lines)


def back_up(path: Path, text: str) -> Path:
    """Keep this text beside the learner's file, under a name that is free."""
    number = 1
    while (target := path.with_suffix(f".backup-{number}.txt")).exists():
        number += 1
    write_atomically(target, text.encode())
    return target


# Progress


@dataclass
class Progress:
    """What a learner has passed, by document and exercise, and the documents marked as known.

    ``hinted`` counts the helps that were shown. Files that say anything else are refused.
    """

    passed: dict[str, dict[str, Annotated[datetime.date, Strict()]]] = dataclasses.field(
        default_factory=dict
    )
    known: Annotated[set[str], PlainSerializer(sorted)] = dataclasses.field(default_factory=set)
    hinted: dict[str, dict[str, StrictInt]] = dataclasses.field(default_factory=dict)

    def done(self, course: Course) -> set[str]:
        """The documents that are known, or whose exercises are all passed."""
        finished = set(self.known)
        for document in ready(course):
            if document.id in self.passed:
                names = {entry.name for entry in entries_of(course, document)}
                if names <= self.passed[document.id].keys():
                    finished.add(document.id)
        return finished


def load_progress(root: Path) -> Progress:
    """Read ``workbook/progress.toml``; no file is no progress.

    Raises:
        UsageError: the file is damaged.
    """
    path = root / PROGRESS
    if not path.is_file():
        return Progress()
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        return TypeAdapter(Progress).validate_python(data)
    except ValidationError:
        fault = "'known' must list ids and 'passed' must hold dates"
    except ValueError as error:
        fault = f"damaged ({error})"
    raise UsageError(f"{path}: {fault}: repair it, or delete it to begin anew")


@contextlib.contextmanager
def changing(root: Path) -> Iterator[Progress]:
    """The progress, to be changed and then written; who else changes it waits meanwhile."""
    path = root / FOLDER / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:  # closing it ends the lock
        fcntl.flock(file, fcntl.LOCK_EX)
        progress = load_progress(root)
        yield progress
        save_progress(root, progress)


def save_progress(root: Path, progress: Progress) -> None:
    """Write ``workbook/progress.toml`` in one step."""
    known = "".join(f'    "{name}",\n' for name in sorted(progress.known))
    lines = [
        f"# What you have done in this course; `{typed('progress')}` shows it.",
        f"known = [\n{known}]" if known else "known = []",
    ]
    tables: list[tuple[str, dict]] = [("passed", progress.passed), ("hinted", progress.hinted)]
    for key, table in tables:
        for document, names in sorted(table.items()):
            lines += ["", f'[{key}."{document}"]', *(f"{k} = {v}" for k, v in names.items())]
    write_atomically(root / PROGRESS, ("\n".join(lines) + "\n").encode())


def open_documents(course: Course, done: set[str]) -> list[Document]:
    """The written documents that are not done and whose prerequisites all are."""
    return [
        document
        for document in course.written()
        if document.id not in done and set(course.graph.predecessors(document.id)) <= done
    ]
