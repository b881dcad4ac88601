"""A learner's work as one file: what a browser keeps, and what a workbook holds.

``{"chainrule": 1, "passed": {document: {exercise: "2026-11-30"}}, "hinted": {document: {exercise:
count}}, "known": [document, …], "answers": {document: {exercise: text}}}``. An answer is the
definition, after what else of the learner's file it uses.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from chainrule.course.documents.execute import first_line
from chainrule.course.exercises import stubs
from chainrule.course.manifest import Course, Document
from chainrule.files import write_atomically
from chainrule.learner import reading, workbook
from chainrule.program import UsageError


@checked(kw_only=True)
class Work(workbook.Progress):
    """What is carried: the progress, and the answers that are more than stubs."""

    chainrule: Literal[1]
    answers: dict[str, dict[str, str]] = field(default_factory=dict)


WORK = TypeAdapter(Work)


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
    others = [node for node in tree.body if not reading.binds(node) <= names | given]
    found = {}
    for name in (entry.name for entry in entries if entry.name in asked):
        if not reading.is_untouched(asked[name]):
            nodes = reading.with_needed(asked[name], others)
            parts = [lines[first_line(node) - 1 : node.end_lineno] for node in nodes]
            found[name] = "\n\n".join(map("\n".join, parts))
    return found


def _given(course: Course, document: Document) -> set[str]:
    source = (course.root / document.exercises).read_text(encoding="utf-8")
    return reading.bound_names(stubs.opening(ast.parse(source), source))


def _answers(course: Course, document: Document) -> dict[str, str]:
    path = workbook.workbook_file(course, document)
    if not path.is_file():
        return {}
    try:
        text = workbook.read_learner(path)
        return answers_in(text, workbook.entries_of(course, document), _given(course, document))
    except SyntaxError as error:
        raise UsageError(f"{path}:{error.lineno}: not valid Python: repair that line") from None


def collect(course: Course) -> Work:
    """The workbook as a page takes it.

    Raises:
        UsageError: a learner's file, or the progress, cannot be read.
    """
    state = workbook.load_progress(course.place)
    answers = {document.id: _answers(course, document) for document in workbook.ready(course)}
    answers = {name: found for name, found in answers.items() if found}
    return Work(state.passed, state.known, state.hinted, chainrule=1, answers=answers)


def read(path: Path) -> Work:
    """A file that a page or `collect` has written.

    Raises:
        UsageError: it is none.
    """
    try:
        return WORK.validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValidationError:
        advice = "a page saves one under its exercises"
        raise UsageError(f"{path}: not a file of this course: {advice}") from None


def take(course: Course, work: Work) -> Carried:
    """Add what a page kept to the workbook. What an answer replaces is backed up beside it.

    Raises:
        UsageError: a learner's file cannot be read.
    """
    carried = Carried(unknown=sorted(work.known - course.by_id.keys()))
    ready = {document.id: document for document in workbook.ready(course)}
    with workbook.changing(course.place) as state:
        state.known |= work.known & course.by_id.keys()
        for name in sorted({*work.passed, *work.hinted, *work.answers}):
            if name not in ready:
                carried.unknown.append(name)
                continue
            entries = workbook.entries_of(course, ready[name])
            names = {entry.name for entry in entries}
            passed, hinted = work.passed.get(name, {}), work.hinted.get(name, {})
            answers = work.answers.get(name, {})
            strange = {*passed, *hinted, *answers} - names
            carried.unknown += [f"{name}: {exercise}" for exercise in sorted(strange)]
            for exercise in passed.keys() & names:
                mine, day = state.passed.setdefault(name, {}), passed[exercise]
                carried.passed += exercise not in mine
                mine[exercise] = min(day, mine.get(exercise, day))
            for exercise in hinted.keys() & names:
                shown = state.hinted.setdefault(name, {})
                shown[exercise] = min(3, max(shown.get(exercise, 0), hinted[exercise]))
            answers = {key: text for key, text in answers.items() if key in names}
            _place(course, ready[name], entries, answers, carried)
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
