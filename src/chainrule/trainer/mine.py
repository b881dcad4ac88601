"""A learner's functions in the training run: which pass, each in its place, and watched.

`graded` asks the grader which of the workbook's functions pass. `run` starts one child process,
with the grader's limits; there `in_place` puts each function where its counterpart stands (see
`places`), and a `Probe` (in `probe`) compares the two on the first calls of the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from chainrule.children import environment
from chainrule.course.manifest import Course, open_course
from chainrule.learner import grader, grading, replay
from chainrule.learner.commands.check import note_passed, show_waiting
from chainrule.learner.workbook import workbook_file
from chainrule.neural_networks.backpropagation import Tensor
from chainrule.program import UsageError, typed
from chainrule.trainer.parts import PARTS, Part
from chainrule.trainer.places import replaced
from chainrule.trainer.probe import PROBED_STEPS, Differs, Probe

SILENCE = 60.0
"""Seconds after which a run that completes no step is stopped."""


# ---- which functions pass --------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """A part of the GPT and what became of it in the workbook."""

    part: Part
    answers: Path
    verdict: str
    message: str = ""

    @property
    def passed(self) -> bool:
        """Whether the learner's function may take its place."""
        return self.verdict == grader.PASSED


def graded(
    course: Course, waiting: Callable[[str, float], None] = lambda name, seconds: None
) -> list[Found]:
    """What the grader says of each part; one process a file."""
    found: dict[str, Found] = {}
    for document in course.documents:
        parts = {part.name: part for part in PARTS if part.document == document.id}
        answers = workbook_file(course, document)
        if not parts or not answers.is_file():
            empty = {n: Found(p, answers, grader.UNTOUCHED) for n, p in parts.items()}
            found |= empty
            continue
        exercises = course.root / document.exercises
        for result in grader.grade(exercises, answers, only=tuple(parts), waiting=waiting):
            said = result.hint or result.message.split("\n")[0]
            check = f"fails its check '{result.check}': " if result.check else ""
            names = [result.name] if result.name else list(parts)
            for name in names if result.verdict != "printed" else ():
                verdict = grader.UNTOUCHED if result.verdict == "missing" else result.verdict
                found[name] = Found(parts[name], answers, verdict, check + said)
    return [found[part.name] for part in PARTS]


def with_mine(command: str, options: dict[str, Any], anyway: bool) -> int:
    """Say which functions of the workbook take part, and run a command with them."""
    course = open_course()

    found = graded(course, show_waiting)
    show_waiting("", 0)
    failing = [f for f in found if not f.passed and f.verdict != grader.UNTOUCHED]
    taken = [f for f in found if f.passed or (anyway and f in failing)]
    for each in failing:
        where = f"{each.part.what} ({each.part.name})"
        print(f"  ✗ {where} {each.message}")
        print("    in its place anyway" if anyway else "    the package's own is in its place")
    count = f"{len(taken)} of the {len(PARTS)} functions of this GPT are yours"
    if not taken:
        part = PARTS[0]
        raise UsageError(
            f"{count}; solve one first, such as {part.name}: "
            f"{typed(f'exercise {part.document}')}, then {typed('progress')} shows the parts"
        )
    print(f"{count}: {', '.join(each.part.what for each in taken)}")
    for each in found:
        if each.passed:
            note_passed(course, course.by_id[each.part.document], each.part.name)
    return run(command, options, taken, course)


# ---- in their places -------------------------------------------------------------------------


@contextlib.contextmanager
def in_place(
    functions: Iterable[tuple[Any, Callable[..., Any]]], probe: Probe | None = None
) -> Iterator[None]:
    """Put functions, each with its exercise, in the places of their counterparts."""
    for module in ("loop", "report", "sampling"):  # everything that holds a counterpart is there
        import_module(f"chainrule.trainer.{module}")

    with contextlib.ExitStack() as stack:
        for item, answer in functions:
            noted = probe.noting(item, answer) if probe else answer
            beside = probe.beside if probe else None
            stack.enter_context(replaced(item, noted, beside))
        yield


# ---- the child process -----------------------------------------------------------------------


def run(command: str, options: dict[str, Any], found: list[Found], course: Course) -> int:
    """Run ``train`` or ``sample`` with these functions in a child process; its exit status."""
    take: dict[tuple[str, str], list[str]] = {}
    for each in found:
        document = course.by_id[each.part.document]
        files = str((course.root / document.exercises).resolve()), str(each.answers.resolve())
        take.setdefault(files, []).append(each.part.name)
    task = {
        "command": command,
        "options": {k: str(v) if isinstance(v, Path) else v for k, v in options.items()},
        "take": [[*files, names] for files, names in take.items()],
        "called": sys.argv[0],
    }
    sys.stdout.flush()
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", f"import {__name__} as m; m.work()", json.dumps(task)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=sys.stdout.fileno(),
        env=environment(),
    )
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child stops between two steps
    try:
        return _listen(process)
    finally:
        signal.signal(signal.SIGINT, before)
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def _listen(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end, or for a silence that is too long."""
    beats: queue.Queue[bytes] = queue.Queue()

    def pump() -> None:
        assert process.stdout is not None
        with contextlib.suppress(ValueError, OSError):
            for line in process.stdout:
                beats.put(line)
        beats.put(b"")

    threading.Thread(target=pump, daemon=True).start()
    place = "before the first step"
    while True:
        try:
            line = beats.get(timeout=SILENCE)
        except queue.Empty:
            print(f"chainrule: nothing for {SILENCE:g} s, {place}: stopped. Is there an endless")
            print("  loop in one of your functions?")
            return 1
        if not line:
            break
        place = f"after {line.decode().strip()}"
    code = process.wait()
    if code < 0:
        name = signal.Signals(-code).name
        why = "memory ran out" if name == "SIGKILL" else name
        print(f"chainrule: the run was ended by the system, {place} ({why})")
        return 1
    return code


def work() -> None:
    """Run what the command line says, in the child."""
    task = json.loads(sys.argv[1])
    beats = grader.apart()
    sys.argv[0] = task["called"]
    status = 1
    try:
        status = _work(task, beats)
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        status = 141
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(status)


class _Stops(Exception):
    """The learner's file, and what stopped in it."""


Items = dict[str, tuple[Path, Any]]
"""Of each function that takes part: the file that it stands in, and its exercise."""


def _work(task: dict[str, Any], beats: Any) -> int:
    import typer

    items = _declared(task["take"])
    grader.limit_memory(files=grader.MEMORY)
    probe = Probe(lambda name, arguments: _keep(items[name][0], name, arguments))
    try:
        functions = _executed(items)
        with in_place(functions, probe):
            _command(task, probe, beats)
        names = {part.name: part.what for part in PARTS}
        if unused := [names[item.name] for item, _ in functions if not probe.calls[item.name]]:
            print(f"never called in this run: {', '.join(unused)}")
    except (Differs, _Stops) as stops:
        print(stops)
        return 1
    except UsageError as error:
        print(f"chainrule: {error}")
        return 2
    except typer.Exit as stopped:
        return stopped.exit_code
    except Exception as error:
        for path in {path for path, _ in items.values()}:
            told = grading.stopped(error, path)["message"]
            if "\n" in told:  # with lines of the learner's file
                print(f"{path}: {told}")
                return 1
        raise
    return 0


def _declared(take: list[tuple[str, str, list[str]]]) -> Items:
    """The functions that a task takes from each file of answers."""
    from chainrule.course.exercises import load

    found: Items = {}
    for exercises, answers, names in take:
        items = {item.name: item for item in load(Path(exercises))}
        found |= {name: (Path(answers), items[name]) for name in names}
    return found


def _executed(items: Items) -> list[tuple[Any, Callable[..., Any]]]:
    """Run each file of answers once; every exercise with the function that answers it."""
    functions: list[tuple[Any, Callable[..., Any]]] = []
    for answers in dict.fromkeys(path for path, _ in items.values()):
        space, trouble = grading.execute(answers)
        if trouble:
            raise _Stops(f"{answers}: {trouble['message']}")
        functions += [(item, space[n]) for n, (path, item) in items.items() if path == answers]
    return functions


def _keep(answers: Path, name: str, arguments: Any) -> str:
    """Save what a function was called with, beside the answers."""
    replay.save(answers, name, _plain(arguments))
    return str(answers.with_name(f"replay_{name}.py"))


def _command(task: dict[str, Any], probe: Probe, beats: Any) -> None:
    """Run the command; each step or character is a beat, so that its parent knows it lives."""
    from chainrule.trainer.commands import sample, train

    def beat(what: str) -> None:
        beats.write(what + "\n")
        beats.flush()

    def after(step: int) -> None:
        beat(f"step {step}")
        if probe.step == PROBED_STEPS:
            count = sum(probe.calls.values())
            print(f"agrees with the package in all {count:,} calls of the first {step} steps")
        probe.step += 1

    if task["command"] == "train":
        train.go(**task["options"], after=after)
    else:
        sample.go(**task["options"], after=lambda: beat("a character"))


def _plain(value: Any) -> Any:
    """Arguments with arrays in place of tensors."""
    if isinstance(value, Tensor):
        return value.data
    if type(value) in (tuple, list):
        return type(value)(_plain(item) for item in value)
    if type(value) is dict:
        return {key: _plain(item) for key, item in value.items()}
    return value
