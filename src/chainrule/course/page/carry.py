"""A learner's work as one file: what a browser keeps, and what a workbook holds.

``{"chainrule": 1, "passed": {document: {exercise: "2026-11-30"}}, "hinted": {document: {exercise:
count}}, "known": [document, …], "answers": {document: {exercise: text}}}``. An answer is the
definition, after what else of the learner's file it uses.
"""

from __future__ import annotations

import ast
import datetime
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chainrule.course.exercises import stubs, workbook
from chainrule.course.files import write_atomically
from chainrule.course.manifest import Course, Document
from chainrule.program import UsageError

VERSION = 1


@dataclass
class Carried:
    """What was taken from a file: how much of each, the backups made, and what has no place."""

    passed: int = 0
    answers: int = 0
    backups: list[Path] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def answers_in(text: str, entries: list[stubs.Entry], given: set[str]) -> dict[str, str]:
    """The answers of a learner's file that are more than stubs, by name of the exercise.

    ``given`` are the names that every learner's file begins with.
    """
    tree, lines = ast.parse(text), text.splitlines()
    names = {entry.name for entry in entries}
    asked = {node.name: node for node in tree.body if isinstance(node, stubs.Definition)}
    others = [node for node in tree.body if not stubs.binds(node) <= names | given]
    found = {}
    for name in (entry.name for entry in entries if entry.name in asked):
        if stubs.is_untouched(asked[name]):
            continue
        nodes: list[ast.stmt] = [asked[name]]
        while more := [
            node
            for node in others
            if node not in nodes and stubs.binds(node) & set().union(*map(_used, nodes))
        ]:
            nodes += more
        nodes.sort(key=lambda node: (node is asked[name], node.lineno))
        found[name] = "\n\n".join(_source(node, lines) for node in nodes)
    return found


def _used(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _source(node: ast.stmt, lines: list[str]) -> str:
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(each.lineno for each in decorators)])
    return "\n".join(lines[first - 1 : node.end_lineno])


def _given(course: Course, document: Document) -> set[str]:
    source = (course.root / document.exercises).read_text(encoding="utf-8")
    tree = ast.parse(source)
    text = stubs.imports_for(tree, stubs.marked(tree, "exercise"))
    return stubs.bound_names("\n".join([text, *stubs.given_of(tree, source)]))


def _answers(course: Course, document: Document) -> dict[str, str]:
    path = workbook.workbook_file(course, document)
    if not path.is_file():
        return {}
    try:
        text = workbook.read_learner(path)
        return answers_in(text, workbook.entries_of(course, document), _given(course, document))
    except SyntaxError as error:
        raise UsageError(f"{path}:{error.lineno}: not valid Python: repair that line") from None


def collect(course: Course) -> dict[str, Any]:
    """The workbook as a page takes it.

    Raises:
        UsageError: a learner's file, or the progress, cannot be read.
    """
    state = workbook.load_progress(course.root)
    ready = [d for d in course.documents if (course.root / d.exercises).is_file()]
    answers = {document.id: _answers(course, document) for document in ready}
    passed = {
        d: {n: day.isoformat() for n, day in names.items()} for d, names in state.passed.items()
    }
    return {
        "chainrule": VERSION,
        "passed": passed,
        "hinted": state.hinted,
        "known": sorted(state.known),
        "answers": {name: found for name, found in answers.items() if found},
    }


def read(path: Path) -> dict[str, Any]:
    """A file that a page or `collect` has written.

    Raises:
        UsageError: it is none.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        sound = data["chainrule"] == VERSION
        for table, kind in (("passed", str), ("hinted", int), ("answers", str)):
            for names in data.get(table, {}).values():
                sound &= all(isinstance(value, kind) for value in names.values())
        for names in data.get("passed", {}).values():
            for day in names.values():
                datetime.date.fromisoformat(day)
        sound &= all(isinstance(name, str) for name in data.get("known", []))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise UsageError(f"{path}: not a file of this course: a page saves one under its exercises")
    return data


def take(course: Course, data: dict[str, Any]) -> Carried:
    """Add what a page kept to the workbook. What an answer replaces is backed up beside it.

    Raises:
        UsageError: a learner's file cannot be read.
    """
    carried = Carried()
    known = {d.id: d for d in course.documents if (course.root / d.exercises).is_file()}
    state = workbook.load_progress(course.root)
    for document in data.get("known", []):
        if document in course.by_id:
            state.known.add(document)
        else:
            carried.unknown.append(document)
    tables = {key: data.get(key, {}) for key in ("passed", "hinted", "answers")}
    for name in sorted({name for table in tables.values() for name in table}):
        if name not in known:
            carried.unknown.append(name)
            continue
        document = known[name]
        entries = {entry.name: entry for entry in workbook.entries_of(course, document)}
        asked = {key: table.get(name, {}) for key, table in tables.items()}
        strange = {exercise for table in asked.values() for exercise in table} - entries.keys()
        carried.unknown += [f"{name}: {exercise}" for exercise in sorted(strange)]
        for exercise, day in asked["passed"].items():
            if exercise in entries:
                mine = state.passed.setdefault(name, {})
                when = datetime.date.fromisoformat(day)
                carried.passed += exercise not in mine
                mine[exercise] = min(when, mine.get(exercise, when))
        for exercise, count in asked["hinted"].items():
            if exercise in entries:
                shown = state.hinted.setdefault(name, {})
                shown[exercise] = max(shown.get(exercise, 0), min(count, 3))
        answers = {key: text for key, text in asked["answers"].items() if key in entries}
        _place(course, document, list(entries.values()), answers, carried)
    workbook.save_progress(course.root, state)
    return carried


def _place(
    course: Course,
    document: Document,
    entries: list[stubs.Entry],
    answers: dict[str, str],
    carried: Carried,
) -> None:
    mine = _answers(course, document)
    new = {name: text.strip("\n") for name, text in answers.items()}
    new = {name: text for name, text in new.items() if text != mine.get(name)}
    if not new:
        return
    path = workbook.write_stubs(course, document).path
    before = text = workbook.read_learner(path)
    for name, answer in new.items():
        number = [entry.name for entry in entries].index(name)
        heading = workbook.heading(course, document, number + 1, entries[number])
        text = workbook.replace(text, path, name, heading + answer) + "\n"
    if new.keys() & mine.keys():
        carried.backups.append(workbook.back_up(path, before))
    write_atomically(path, text.encode())
    carried.answers += len(new)
