"""A learner's functions in the training run: which pass, each in its place, and watched.

`graded` asks the grader which of the workbook's functions pass. `run` starts one child process,
with the grader's limits; there `in_place` puts each function where its counterpart stands, and a
`Probe` compares the two on the first calls of the run.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.course.children import environment
from chainrule.course.commands.check import note_passed, show_waiting
from chainrule.course.exercises import grader, grading, replay
from chainrule.course.exercises.counterpart import replaced
from chainrule.course.exercises.workbook import workbook_file
from chainrule.course.manifest import Course, open_course
from chainrule.neural_networks.backpropagation import Parameter, Tensor, primitive
from chainrule.program import UsageError, typed
from chainrule.trainer.parts import PARTS, Part

PROBED_STEPS = 3
"""So many steps at the start have every call compared …"""

PROBED_EVERY = 50
"""… and later one step of so many: some mistakes show only in weights that have grown."""

PROBED_CALLS = 3
"""Calls of a function that are compared also later: some are first called by an evaluation."""

SILENCE = 60.0
"""Seconds after which a run that completes no step is stopped."""

CLOSE = 3e-5
"""How far two float32 results may be apart, relative to the largest number of the array."""


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


class Differs(Exception):
    """A learner's function and its counterpart part; the message names the function and where."""


class _Apart(Exception):
    """Where two results part, without the name."""


class Probe:
    """Compares each function with its counterpart on what the run gives to both.

    Both get copies of their own, so that nothing of the run changes. The first that differs stops
    the run; ``keep(name, arguments)`` saves what the learner's function was called with.
    """

    def __init__(self, keep: Callable[[str, Any], str] = lambda name, arguments: "") -> None:
        self.keep = keep
        self.step = 1
        self.calls: Counter[str] = Counter()
        self._latest: dict[str, Any] = {}

    def watches(self, name: str) -> bool:
        """Whether the next call of a function is compared."""
        early = self.step <= PROBED_STEPS or self.step % PROBED_EVERY == 0
        return early or self.calls[name] < PROBED_CALLS

    def noting(self, item: Any, answer: Callable[..., Any]) -> Callable[..., Any]:
        """The learner's function, whose latest arguments are remembered while it is watched."""

        @functools.wraps(answer)
        def noted(*args: Any, **kwargs: Any) -> Any:
            if self.watches(item.name):
                self._latest[item.name] = _twin((args, kwargs))
            return answer(*args, **kwargs)

        return noted

    def beside(self, item: Any, mine: Callable, package: Callable) -> Callable[..., Any]:
        """A function that answers as ``mine`` does, and compares while it is watched."""

        @functools.wraps(mine)
        def both(*args: Any, **kwargs: Any) -> Any:
            if not self.watches(item.name):
                return mine(*args, **kwargs)
            self.calls[item.name] += 1
            self._latest.pop(item.name, None)
            return self._compare(item.name, mine, package, args, kwargs)

        return both

    def _compare(
        self, name: str, mine: Callable, package: Callable, args: tuple, kwargs: dict,
        what: str = "the result", arguments: Any = None,
    ) -> Any:  # fmt: skip
        heard: list[list[tuple[Any, Any]]] = []
        args, kwargs = _settled(args), _settled(kwargs)
        twins = _twin((args, kwargs), heard)
        before = _twin((args, kwargs))
        args, kwargs = _listening((args, kwargs), iter(heard))
        place = f"call {self.calls[name]}, in step {self.step}"
        try:
            result = mine(*args, **kwargs)
        except (Differs, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._stop(name, place, f"it raises {type(error).__name__}: {error}", arguments)
        arguments = self._latest.get(name) if arguments is None else arguments
        try:
            with np.errstate(all="ignore"):
                expected = package(*twins[0], **twins[1])
            for ours, theirs, old in zip(
                _arrays((args, kwargs)), _arrays(twins), _arrays(before), strict=True
            ):
                _same_change(ours, theirs, old)
            return self._matched(name, result, expected, what, arguments)
        except _Apart as apart:
            self._stop(name, place, str(apart), arguments)

    def _matched(self, name: str, got: Any, want: Any, what: str, arguments: Any) -> Any:
        """What the learner's function returned, compared; functions in it compare when called."""
        if want is None:
            return got
        if callable(want) and not isinstance(want, Tensor):
            if not callable(got):
                raise _Apart(f"{what} holds {type(got).__name__} where the package has a function")
            inner = "what its returned function returns"

            def both(*args: Any, **kwargs: Any) -> Any:
                return self._compare(name, got, want, args, kwargs, inner, arguments)

            return both
        if isinstance(want, dict):
            if not isinstance(got, dict) or list(got) != list(want):
                raise _Apart(f"{what} has other keys than the package's: {list(want)[:3]} …")
            return {
                k: self._matched(name, got[k], want[k], f"{what} at {k}", arguments) for k in want
            }
        if isinstance(want, tuple | list):
            if not isinstance(got, tuple | list) or len(got) != len(want):
                raise _Apart(f"{what} is not {len(want)} things")
            many = len(want) > 1
            parts = [
                self._matched(name, a, b, f"entry {i} of {what}" if many else what, arguments)
                for i, (a, b) in enumerate(zip(got, want, strict=True))
            ]
            return tuple(parts) if isinstance(got, tuple) else parts
        _same_array(_array(got), _array(want), what)
        return got

    def _stop(self, name: str, place: str, why: str, arguments: Any) -> None:
        kept = self.keep(name, arguments) if arguments is not None else ""
        raise Differs(
            f"{name} is the first of your functions that differs from the package's ({place}):\n"
            f"{why}" + (f"\nits arguments are kept: {kept}" if kept else "")
        ) from None


def _settled(value: Any) -> Any:
    """Arguments of which iterators are lists, so that two functions can read them."""
    if isinstance(value, Iterator):
        return list(value)
    if isinstance(value, tuple):
        return tuple(_settled(item) for item in value)
    if isinstance(value, dict):
        return {key: _settled(item) for key, item in value.items()}
    return value


def _twin(value: Any, heard: list | None = None) -> Any:
    """A copy for the other function; a function in it answers what the first one heard."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, Tensor):
        twin = (Parameter if isinstance(value, Parameter) else Tensor)(value.data.copy())
        twin.grad = None if value.grad is None else value.grad.copy()
        return twin
    if type(value) in (tuple, list):
        return type(value)(_twin(item, heard) for item in value)
    if type(value) is dict:
        return {key: _twin(item, heard) for key, item in value.items()}
    if isinstance(value, np.random.Generator):
        generator = np.random.Generator(type(value.bit_generator)())
        generator.bit_generator.state = value.bit_generator.state
        return generator
    if callable(value) and heard is not None and not isinstance(value, type):
        heard.append([])
        return _player(heard[-1])
    return value


def _player(heard: list[tuple[Any, Any]]) -> Callable[[Any], Any]:
    """Answers as a function did when the other one called it; refuses other questions."""

    def play(x: Any) -> Any:
        if not heard:
            raise _Apart("it never calls a function that it was given, or not as often")
        asked, answer = heard.pop(0)
        try:
            _same_array(_array(asked), _array(x), "what it gives to a function")
        except _Apart as apart:
            raise _Apart(f"{apart} that it was given as an argument") from None
        return answer

    return play


def _listening(value: Any, heard: Iterator[list]) -> Any:
    """The same arguments, whose functions write down what they are asked and answer."""
    if type(value) in (tuple, list):
        return type(value)(_listening(item, heard) for item in value)
    if type(value) is dict:
        return {key: _listening(item, heard) for key, item in value.items()}
    if callable(value) and not isinstance(value, Tensor | type):
        into = next(heard)

        def listen(x: Any) -> Any:
            answer = value(x)
            into.append((_twin(x), _twin(answer)))
            return answer

        return listen
    return value


def _arrays(value: Any) -> Iterator[np.ndarray]:
    """Every array that a function could change: arguments, and gradients of tensors."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, Tensor):
        yield value.data
        if value.grad is not None:
            yield value.grad
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _arrays(item)
    elif isinstance(value, dict):
        yield from _arrays(list(value.values()))


def _array(value: Any) -> Any:
    return np.asarray(value.data if isinstance(value, Tensor) else value)


def _same_array(got: np.ndarray, want: np.ndarray, what: str) -> None:
    if got.shape != want.shape:
        raise _Apart(f"{what} has shape {got.shape}, the package's {want.shape}")
    if want.dtype.kind not in "iufb" or got.dtype.kind not in "iufb":
        if not np.array_equal(got, want):
            raise _Apart(f"{what} is {got!r:.60}, the package's {want!r:.60}")
        return
    _near(got, want, CLOSE, 0.0, what)


def _same_change(got: np.ndarray, want: np.ndarray, before: np.ndarray) -> None:
    """Compare what two functions did to an argument, as far as rounding lets it be seen."""
    if before.dtype.kind != "f" or got.shape != before.shape:
        if not np.array_equal(got, want):
            raise _Apart("it changes an argument that the package leaves alone")
        return
    rounding = 4 * float(np.finfo(before.dtype).eps) * _largest(before)
    _near(got - before, want - before, 5 * CLOSE, rounding, "the change of an argument")


def _near(got: np.ndarray, want: np.ndarray, close: float, rounding: float, what: str) -> None:
    if not want.size:
        return
    with np.errstate(all="ignore"):
        a, b = got.astype(np.float64), want.astype(np.float64)
        far = ~((a == b) | (np.isnan(a) & np.isnan(b)))
        far &= ~(np.abs(a - b) <= close * _largest(b) + rounding)
        if not far.any():
            return
        worst = np.argmax(np.where(far, np.nan_to_num(np.abs(a - b), nan=np.inf), -1))
    at = tuple(int(i) for i in np.unravel_index(worst, got.shape))
    where = f" at {at}" if at else ""
    raise _Apart(f"{what} is {a.ravel()[worst]:.6g}{where}, the package's {b.ravel()[worst]:.6g}")


def _largest(x: np.ndarray) -> float:
    finite = np.abs(x[np.isfinite(x)])
    return float(finite.max()) if finite.size else 0.0


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
            stack.enter_context(replaced(item, noted, primitive, beside))
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


def _work(task: dict[str, Any], beats: Any) -> int:
    import typer

    from chainrule.course.exercises import load
    from chainrule.trainer.commands import sample, train

    functions: list[tuple[Any, Callable[..., Any]]] = []
    files: dict[str, tuple[Path, Any]] = {}
    for exercises, answers, names in task["take"]:
        items = {item.name: item for item in load(Path(exercises))}
        files |= {name: (Path(answers), items[name]) for name in names}
    grader.limit_memory(files=grader.MEMORY)
    for answers in dict.fromkeys(path for path, _ in files.values()):
        space, trouble = grading.execute(answers)
        if trouble:
            print(f"{answers}: {trouble['message']}")
            return 1
        functions += [(item, space[n]) for n, (path, item) in files.items() if path == answers]

    def keep(name: str, arguments: Any) -> str:
        replay.save(files[name][0], name, _plain(arguments))
        return str(files[name][0].with_name(f"replay_{name}.py"))

    probe = Probe(keep)

    def beat(what: str) -> None:
        beats.write(what + "\n")
        beats.flush()

    def after(step: int) -> None:
        beat(f"step {step}")
        if probe.step == PROBED_STEPS:
            count = sum(probe.calls.values())
            print(f"agrees with the package in all {count:,} calls of the first {step} steps")
        probe.step += 1

    try:
        with in_place(functions, probe):
            if task["command"] == "train":
                train.go(**task["options"], after=after)
            else:
                sample.go(**task["options"], after=lambda: beat("a character"))
        names = {part.name: part.what for part in PARTS}
        if unused := [names[item.name] for item, _ in functions if not probe.calls[item.name]]:
            print(f"never called in this run: {', '.join(unused)}")
    except Differs as apart:
        print(apart)
        return 1
    except UsageError as error:
        print(f"chainrule: {error}")
        return 2
    except typer.Exit as stopped:
        return stopped.exit_code
    except Exception as error:
        for path in {path for path, _ in files.values()}:
            told = grading.stopped(error, path)["message"]
            if "\n" in told:  # with lines of the learner's file
                print(f"{path}: {told}")
                return 1
        raise
    return 0


def _plain(value: Any) -> Any:
    """Arguments with arrays in place of tensors."""
    if isinstance(value, Tensor):
        return value.data
    if type(value) in (tuple, list):
        return type(value)(_plain(item) for item in value)
    if type(value) is dict:
        return {key: _plain(item) for key, item in value.items()}
    return value
