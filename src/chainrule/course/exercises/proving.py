"""An exercise file proved, and the hints counted that a blind set gets."""

from __future__ import annotations

import ast
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
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
from chainrule.course.exercises.judging import Verdict, alike, judge, run_check, trace_of


@dataclass(frozen=True)
class Problem:
    """A fault of an exercise file."""

    line: int
    message: str


def stub_answer(exercise: Exercise, path: Path) -> Any:
    """The learner's untouched stub, executed."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    nodes = stubs.marked(tree, "exercise")
    node = next(item for item in nodes if item.name == exercise.name)
    parts = [stubs.imports_for(tree, nodes), *stubs.given_of(tree, source)]
    text = "\n\n".join([*parts, stubs.stub_of(node, source)])
    space: dict[str, Any] = {}
    exec(compile(text, f"<stub of {exercise.name}>", "exec"), space)
    return space[exercise.name]


def prove(path: Path) -> list[Problem]:
    """Solution passes, stub fails, every mistake fails and is recognized as itself, every time."""
    problems = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a mistake may overflow: that is often how it fails
        for item in load(path):
            found = _prove_one(item, path)
            problems += [Problem(line, f"{item.name}: {text}") for line, text in found]
    return problems


def problems(file: str) -> Iterator[tuple[int, str]]:
    """What is wrong with an exercise file, by line, be it that it cannot be executed."""
    try:
        yield from ((problem.line, problem.message) for problem in prove(Path(file)))
    except ExerciseFileError as error:
        yield 1, str(error)


def _prove_one(item: Exercise, path: Path) -> Iterator[tuple[int, str]]:
    if not item.checks:
        yield item.line, "has no checks"
        return
    verdict = judge(item, item.solution)
    if not verdict.passed:
        yield item.line, f"its own solution fails the check '{verdict.check}': {verdict.message}"
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
        if judge(item, stub).passed:
            yield item.line, "the empty stub passes the checks"
    yield from ((item.line, message) for message in _disagreements(item))
    for mistake in item.mistakes:
        if fault := _unrecognized(item, mistake, solved):
            yield mistake.line, f"the mistake {mistake.name} {fault}"


def _unrecognized(item: Exercise, mistake: Mistake, solved: dict[str, list[Any]]) -> str:
    """Why a known mistake is not told from everything else, or nothing.

    ``solved`` holds what the solution returns in each check.
    """
    verdict = judge(item, mistake.answer)
    if verdict.passed:
        return "passes every check"
    if item.alike > 1e-6 and all(
        same(trace_of(item, mistake, name), trace, rtol=item.alike)
        for name, trace in solved.items()
    ):
        return "is too like the solution to be told"
    if verdict.mistake == mistake.name:
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


def measure(path: Path) -> Iterator[tuple[str, Blind, Verdict]]:
    """What each answer of a blind set gets: ``right``, ``wrong``, ``missing`` or ``passes``."""
    folder, name = path.resolve().parts[-2:]
    items = {
        item.name: item for item in load(path.resolve().parents[4] / "exercises" / folder / name)
    }
    for entry in load(path):
        verdict = judge(items[entry.exercise], entry.answer)
        told = "right" if verdict.mistake == entry.known else "wrong"
        yield "passes" if verdict.passed else told if verdict.mistake else "missing", entry, verdict


def measure_all(paths: list[Path]) -> int:
    """Print the counts of each blind set and of all; 1 if a hint is wrong or an answer passes."""
    total: Counter[str] = Counter()
    for path in paths:
        with warnings.catch_warnings(action="ignore"):
            found = list(measure(path))
        for kind, entry, verdict in found:
            if kind != "right":
                print(f"{path}:{entry.line}: {entry.exercise}: {entry.fault}")
                print(f"    {kind}: {(verdict.hint or verdict.message or kind).splitlines()[0]}")
        total += (counts := Counter(kind for kind, _, _ in found))
        print(f"{path}: {dict(counts)}")
    print(f"all: {dict(total)}")
    return 1 if total["wrong"] + total["passes"] else 0


def main(arguments: list[str]) -> int:
    """Prove the files named on the command line; print what was proved or what is wrong.

    ``--blind`` counts the hints that blind sets get instead.
    """
    if arguments[:1] == ["--blind"]:
        return measure_all([Path(argument) for argument in arguments[1:]])
    failed = False
    for argument in arguments:
        path = Path(argument)
        found = list(problems(argument))
        failed |= bool(found)
        for line, message in found:
            print(f"{path}:{line}: {message}")
        for item in load(path) if not found else ():
            print(f"proved {item.name}: {len(item.checks)} checks")
            for mistake in item.mistakes:
                verdict = judge(item, mistake.answer)
                print(f"    recognized {mistake.name}, which fails '{verdict.check}'")
    return 1 if failed else 0
