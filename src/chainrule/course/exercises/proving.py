"""An exercise file proved, and the hints counted that a blind set gets."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chainrule.course.exercises import counterpart, stubs
from chainrule.course.exercises.declaring import (
    Blind,
    Exercise,
    ExerciseFileError,
    Mistake,
    line_of,
    load,
)
from chainrule.course.exercises.expectations import same, show
from chainrule.course.exercises.judging import Attempt, alike, judge, run_check, trace_of


def stub_answer(exercise: Exercise, path: Path) -> Any:
    """The learner's untouched stub, executed."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    node = next(item for item in stubs.marked(tree, "exercise") if item.name == exercise.name)
    text = f"{stubs.opening(tree, source)}\n\n{stubs.stub_of(node, source)}"
    space: dict[str, Any] = {}
    exec(compile(text, f"<stub of {exercise.name}>", "exec"), space)
    return space[exercise.name]


def prove(file: str | Path) -> list[tuple[int, str]]:
    """What is wrong with an exercise file, by line; of a sound one nothing.

    Each solution passes, its stub fails, every mistake fails and is recognized as itself, every
    time.
    """
    path, found = Path(file), []
    with warnings.catch_warnings(action="ignore"):  # a mistake may overflow: that is how it fails
        try:
            for item in load(path):
                found += [(line, f"{item.name}: {text}") for line, text in _prove_one(item, path)]
        except ExerciseFileError as error:
            found.append((1, str(error)))
    return found


def _prove_one(item: Exercise, path: Path) -> Iterator[tuple[int, str]]:
    if failure := judge(item, item.solution):
        yield item.line, f"its own solution fails the check '{failure.check}': {failure.message}"
        return
    solved = {}
    for name, check in item.checks.items():
        first, second = (run_check(item, item.solution, name) for _ in range(2))
        solved[name] = first.trace
        if not same(first.trace, second.trace, rtol=0.0):
            yield line_of(check), f"check '{name}' differs between two runs: use only rng"
        if not first.trace:
            yield line_of(check), f"check '{name}' never calls the answer"
    try:
        stub = stub_answer(item, path)
    except Exception as error:
        yield item.line, f"its stub cannot be executed: {type(error).__name__}: {error}"
    else:
        if not judge(item, stub):
            yield item.line, "the empty stub passes the checks"
    yield from ((item.line, message) for message in _disagreements(item))
    for mistake in item.mistakes:
        if fault := _unrecognized(item, mistake, solved):
            yield mistake.line, f"the mistake {mistake.name} {fault}"


def _unrecognized(item: Exercise, mistake: Mistake, solved: dict[str, list[Any]]) -> str:
    """Why a known mistake is not told from everything else, or nothing.

    ``solved`` holds what the solution returns in each check.
    """
    failure = judge(item, mistake.answer)
    if failure is None:
        return "passes every check"
    if item.alike > 1e-6 and all(
        same(trace_of(item, mistake, name), trace, rtol=item.alike)
        for name, trace in solved.items()
    ):
        return "is too like the solution to be told"
    if failure.mistake == mistake.name:
        return ""
    known = {m.name for m in alike(item, mistake.answer, {})}
    if others := known - {mistake.name}:
        why = f"cannot be told from {min(others)}"
    else:
        why = "shows in one or two small numbers only" if known else "is not stable"
    return f"{why}: add a check that shows it"


def _disagreements(item: Exercise) -> Iterator[str]:
    """Where the solution and the package's function part, on the inputs of the checks."""
    try:
        for label, answer in counterpart.answers(item):
            for name in item.checks:
                ours = run_check(item, item.solution, name)
                theirs = run_check(item, answer, name)
                if not same(ours.trace, theirs.trace, rtol=item.alike):
                    said = theirs.message or f"returned {show(theirs.trace)}"
                    yield f"{label} answers the check '{name}' differently: {said}"
                    break
    except LookupError as error:
        yield str(error)


def measure(path: Path) -> Iterator[tuple[str, Blind, Attempt | None]]:
    """What each answer of a blind set gets: ``right``, ``wrong``, ``missing`` or ``passes``."""
    folder, name = path.resolve().parts[-2:]
    items = {
        item.name: item for item in load(path.resolve().parents[4] / "exercises" / folder / name)
    }
    for entry in load(path):
        failure = judge(items[entry.exercise], entry.answer)
        if failure is None:
            kind = "passes"
        elif failure.mistake:
            kind = "right" if failure.mistake == entry.known else "wrong"
        else:
            kind = "missing"
        yield kind, entry, failure
