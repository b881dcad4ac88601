"""Exercises: the solution, the checks, and the mistakes that people really make.

One file a document, ``exercises/<folder>/<name>.py``; CONTRIBUTING.md says how to write one. The
learner's stub is made from the solution's signature and docstring. Prove a file, or count the
hints that a blind set gets, from the checkout's root with::

    python -m chainrule.course.exercises exercises/math-foundations/linear_algebra.py
    python -m chainrule.course.exercises --blind tests/exercises/blind/*/*.py
"""

from __future__ import annotations

import ast
import contextlib
import copy
import inspect
import io
import random
import sys
import types
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from numbers import Number
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.course.exercises import counterpart, stubs
from chainrule.course.exercises.expectations import (
    Unexpected,
    expect,
    expect_close,
    expect_equal,
    expect_raises,
    expect_shape,
    kind_of,
    same,
    show,
)

__all__ = [
    "Exercise",
    "ExerciseFileError",
    "Problem",
    "Unexpected",
    "Verdict",
    "exercise",
    "expect",
    "expect_close",
    "expect_equal",
    "expect_raises",
    "expect_shape",
    "given",
    "judge",
    "load",
    "prove",
    "wrong",
]

REGISTRY = "__chainrule_exercises__"
MANY = 16


class ExerciseFileError(Exception):
    """An exercise file cannot be used; the message says which and why."""


@dataclass(frozen=True)
class Mistake:
    """A wrong solution that people really write, and what to tell them."""

    name: str
    answer: Callable[..., Any]
    hint: str
    line: int


@dataclass(frozen=True)
class Blind:
    """A wrong answer that was written without knowing the known mistakes."""

    exercise: str
    answer: Callable[..., Any]
    fault: str
    known: str
    line: int


@dataclass(eq=False)
class Exercise:
    """A solution with its checks and known mistakes; calling it calls the solution."""

    solution: Callable[..., Any]
    title: str
    _: KW_ONLY
    difficulty: int
    minutes: int
    section: str
    counterpart: str | None = None
    because: str = ""
    idea: str = ""
    reread: str = ""
    mutates: bool = False
    seconds: float = 10
    alike: float = 1e-6

    def __post_init__(self) -> None:
        self.name = self.solution.__name__
        self.statement = inspect.cleandoc(self.solution.__doc__ or "")
        self.line = _line(self.solution)
        self.checks: dict[str, Callable[[Any, np.random.Generator], None]] = {}
        self.mistakes: list[Mistake] = []
        self.traces: dict[tuple[Mistake, str], list[Any]] = {}
        self.adapters: dict[str, Callable[..., Any]] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the solution."""
        return self.solution(*args, **kwargs)

    def __mro_entries__(self, bases: tuple) -> tuple:
        """Let a mistake inherit from a solution that is a class."""
        return (self.solution,)

    def __instancecheck__(self, value: Any) -> bool:
        """Let a class recognize its own objects, though its name now stands for the exercise."""
        return isinstance(value, self.solution)  # type: ignore[arg-type]

    def check(self, function: Callable[[Any, np.random.Generator], None]) -> Any:
        """Add a check, a function of ``(answer, rng)``."""
        if function.__name__ in self.checks:
            raise ExerciseFileError(f"{self.name}: two checks are named {function.__name__}")
        self.checks[function.__name__] = function
        return function

    def by_package(self, adapter: Callable[..., Any]) -> Callable[..., Any]:
        """Add ``adapter(package, *args)``: this exercise's call, answered by its counterpart."""
        self.adapters["by_package"] = adapter
        return adapter

    def in_package(self, adapter: Callable[..., Any]) -> Callable[..., Any]:
        """Add ``adapter(mine, *args)``: the counterpart's call, answered by the learner's."""
        self.adapters["in_package"] = adapter
        return adapter

    def mistake(self, hint: str, **variants: Iterable[Any]) -> Callable[[Any], Any]:
        """Add a known mistake and the hint for whoever makes it.

        ``mistake(hint, eps=(1e-9, 1e-12))`` adds it once for each value of its argument ``eps``.
        """

        def register(answer: Any) -> Any:
            forms = [partial(answer, **{key: x}) for key, xs in variants.items() for x in xs]
            for form in forms or [answer]:
                self.mistakes.append(Mistake(answer.__name__, form, hint, _line(answer)))
            return answer

        return register


def exercise(title: str, **about: Any) -> Callable[[Any], Exercise]:
    """Mark a function or class as the solution of an exercise; its docstring is the statement."""

    def register(solution: Any) -> Exercise:
        made = Exercise(solution, title, **about)
        vars(sys.modules[solution.__module__]).setdefault(REGISTRY, []).append(made)
        return made

    return register


def wrong(exercise: str, fault: str, known: str = "") -> Callable[[Any], Any]:
    """Mark a wrong answer of a blind set: its fault, and the mistake whose hint is right for it."""

    def register(answer: Any) -> Any:
        entry = Blind(exercise, answer, fault, known, _line(answer))
        vars(sys.modules[answer.__module__]).setdefault(REGISTRY, []).append(entry)
        return answer

    return register


def given(definition: Any) -> Any:
    """Mark a function or class that the learner's file gets as it is."""
    return definition


def _line(definition: Any) -> int:
    code = getattr(definition, "__code__", None)
    if code is not None:
        return code.co_firstlineno
    try:
        return inspect.getsourcelines(definition)[1]
    except (OSError, TypeError):
        return 1


def load(path: Path) -> list[Any]:
    """Execute an exercise file, or a blind set, and return what it registers, in order.

    Raises:
        ExerciseFileError: the file cannot be read or executed.
    """
    name = f"chainrule_exercises_{zlib.crc32(str(path.resolve()).encode()):08x}"
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    except ExerciseFileError as error:
        raise ExerciseFileError(f"{path}: {error}") from None
    except Exception as error:
        message = f"{path}: cannot be executed: {type(error).__name__}: {error}"
        raise ExerciseFileError(message) from error
    return vars(module).get(REGISTRY, [])


# Judging an answer


@dataclass
class Attempt:
    """One check run against one answer: what the answer returned, and how it failed, if it did."""

    check: str
    trace: list[Any] = field(default_factory=list)
    message: str = ""
    call: str = ""
    arguments: tuple[tuple, dict[str, Any]] = ((), {})
    error: BaseException | None = None


@dataclass(frozen=True)
class Verdict:
    """What became of an answer: passed, or the failing check and what to tell the learner."""

    passed: bool
    check: str = ""
    message: str = ""
    hint: str = ""
    mistake: str = ""
    call: str = ""
    error: BaseException | None = None


Watch = Callable[[Attempt], None]


def judge(exercise: Exercise, answer: Callable[..., Any], watch: Watch | None = None) -> Verdict:
    """Run the checks; after a failure, look for the one known mistake with the same outputs.

    ``watch`` gets the attempt before each call of the answer, and once it has failed.
    """
    attempts: dict[str, Attempt] = {}
    for name in exercise.checks:
        attempts[name] = attempt = run_check(exercise, answer, name, watch)
        if attempt.message:
            if watch:
                watch(attempt)
            known = _alike(exercise, answer, attempts)
            alone = len({m.name for m in known}) == 1 and _telling(attempts.values())
            said = (known[0].hint, known[0].name) if alone else ("", "")
            check = name.replace("_", " ")
            return Verdict(False, check, attempt.message, *said, attempt.call, attempt.error)
    return Verdict(True)


def _alike(
    exercise: Exercise, answer: Callable[..., Any], attempts: dict[str, Attempt]
) -> list[Mistake]:
    """The known mistakes that return the same on all checks; what is printed is swallowed."""
    known = exercise.mistakes
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(action="ignore"),
    ):
        for name in [*attempts, *(name for name in exercise.checks if name not in attempts)]:
            if not known:
                break
            if name not in attempts:
                attempts[name] = run_check(exercise, answer, name)
            trace = attempts[name].trace
            known = [
                m for m in known if same(_trace(exercise, m, name), trace, rtol=exercise.alike)
            ]
    return known


def _telling(attempts: Iterable[Attempt]) -> bool:
    """Whether outputs are more than a few equal or small numbers, on which mistakes coincide."""
    seen: list[Any] = []

    def collect(value: Any) -> None:
        if isinstance(value, list | dict):
            for item in value[1:] if isinstance(value, list) else value.values():
                collect(item)  # what comes first in a list is the kind
        elif isinstance(value, Number | np.generic | np.ndarray):
            seen.extend(np.asarray(value).ravel().tolist())
        else:
            seen.append(str(value))

    for attempt in attempts:
        for kind, *rest in attempt.trace:  # of arguments, only those that the answer changed
            collect(
                [kind, rest[0], *rest[2] * rest[1]] if kind == "returned" else [kind, *rest[-1:]]
            )
    fractions = any(isinstance(x, float) and np.isfinite(x) and x * 4 % 1 for x in seen)
    distinct = len(set(seen))
    return fractions or distinct > 2 or (distinct == 2 and len(seen) >= MANY)


def _trace(exercise: Exercise, mistake: Mistake, check: str) -> list[Any]:
    if (key := (mistake, check)) not in exercise.traces:
        exercise.traces[key] = run_check(exercise, mistake.answer, check).trace
    return exercise.traces[key]


def run_check(
    exercise: Exercise, answer: Callable[..., Any], check: str, watch: Watch | None = None
) -> Attempt:
    """Run one check against an answer, with all chance seeded, and keep what the answer returns."""
    seed = zlib.crc32(f"{exercise.name}/{check}".encode())
    np.random.seed(seed)  # noqa: NPY002 - a learner who uses the global state gets one verdict
    random.seed(seed)
    recorder = _Recorder(exercise, answer, Attempt(check), watch)
    attempt = recorder.attempt
    try:
        exercise.checks[check](recorder.proxy, np.random.default_rng(seed))
    except Unexpected as failure:
        attempt.message = str(failure)
        if failure.__cause__ is attempt.error:
            return attempt
    except (Exception, SystemExit) as error:
        if error is attempt.error:
            attempt.message = f"{type(error).__name__}: {error}".rstrip(": ")
        elif isinstance(error, AssertionError):
            attempt.message = str(error) or f"the check '{check.replace('_', ' ')}' failed"
        else:
            attempt.message = recorder.unusable(error)
        return attempt
    attempt.error = None
    return attempt


class _Recorder:
    """Stands between a check and an answer and writes down everything that comes back."""

    def __init__(
        self, exercise: Exercise, answer: Callable[..., Any], attempt: Attempt, watch: Watch | None
    ):
        self.name, self.mutates = exercise.name, exercise.mutates
        self.classes = tuple(k for k in (answer, exercise.solution) if isinstance(k, type))
        self.attempt, self.watch = attempt, watch
        self.returned: Any = "nothing yet"
        self.proxy = self._forward(answer, self.name)

    def unusable(self, error: BaseException) -> str:
        """Explain that the check could not work with what it got."""
        if self.returned is None:
            return f"{self.name} returned None: did you forget to return the result?"
        got = kind_of(self.returned)
        return f"{self.name} returned {got}, which the check could not use ({error})"

    def _forward(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            return self._observe(function, label, args, kwargs)

        forward.__name__ = forward.__qualname__ = label
        return forward

    def _observe(self, function: Any, label: str, args: tuple, kwargs: dict) -> Any:
        args = tuple(_unwrap(value) for value in args)
        kwargs = {key: _unwrap(value) for key, value in kwargs.items()}
        named = [show(value, 60) for value in args]
        named += [f"{key}={show(value, 60)}" for key, value in kwargs.items()]
        self.attempt.call = f"{label}({', '.join(named)})"
        if label == self.name:
            self.attempt.arguments = args, kwargs
        if self.watch:
            self.watch(self.attempt)
        _must_accept(function, label, args, kwargs)
        given = [*args, *kwargs.values()]
        before = [self._snapshot(item) for item in given]
        try:
            value = function(*args, **kwargs)
        except (Exception, SystemExit) as error:
            self.attempt.trace.append(["raised", type(error).__name__])
            self.attempt.error = error
            raise
        after = [self._snapshot(item) for item in given]
        changed = not same(before, after, rtol=0.0)
        self.returned = value
        self.attempt.trace.append(["returned", self._snapshot(value), changed, after])
        if changed and not self.mutates:
            pairs = zip(_names(function, args, kwargs), before, after, strict=True)
            names = [name for name, *pair in pairs if not same(*pair, rtol=0.0)]
            message = f"{label} changes its argument {names[0]}: work on a copy"
            raise Unexpected(f"{message}, or build a new value")
        return self._wrap(value, label)

    def _snapshot(self, value: Any) -> Any:
        """Copy a value for later comparison; what cannot be copied becomes its kind."""
        if isinstance(value, tuple | list):
            return [type(value).__name__, *map(self._snapshot, value)]
        if isinstance(value, dict):
            return {key: self._snapshot(item) for key, item in value.items()}
        if self._is_instance(value) or callable(value) or isinstance(value, Iterator | _Opaque):
            return "function" if callable(value) else "object"
        try:
            return copy.deepcopy(value)
        except Exception:
            return "object"

    def _is_instance(self, value: Any) -> bool:
        return isinstance(value, self.classes)

    def _wrap(self, value: Any, label: str) -> Any:
        """Go on recording behind what was returned: functions, generators, objects."""
        if self._is_instance(value):
            return self._object(value)
        if isinstance(value, types.FunctionType | types.MethodType):
            return self._forward(value, f"{label}(…)")
        if isinstance(value, types.GeneratorType):
            return self._generator(value, label)
        if type(value) in (tuple, list):
            return type(value)(self._wrap(item, label) for item in value)
        return value

    def _generator(self, generator: Iterator[Any], label: str) -> Iterator[Any]:
        while True:
            try:
                value = next(generator)
            except StopIteration:
                self.attempt.trace.append(["finished"])
                return
            except (Exception, SystemExit) as error:
                self.attempt.trace.append(["raised", type(error).__name__])
                self.attempt.error = error
                raise
            self.attempt.trace.append(["yielded", self._snapshot(value)])
            self.returned = value
            yield self._wrap(value, label)

    def _object(self, value: Any) -> Any:
        """Build an object that hands every method on to the learner's and records the result."""
        kind = type(value)

        def hand_on(name: str) -> Callable[..., Any]:
            return lambda _, *args, **kwargs: self._observe(
                getattr(value, name), f"{self.name}.{name}", args, kwargs
            )

        def get(_: Any, name: str) -> Any:
            found = getattr(value, name)
            if callable(found):
                return self._forward(found, f"{self.name}.{name}")
            self.attempt.trace.append(["attribute", name, self._snapshot(found)])
            self.returned = found
            return self._wrap(found, name)

        special = [
            name
            for name in dir(kind)
            if name.startswith("__")
            and name not in _NEVER_FORWARDED
            and callable(getattr(kind, name))
            and getattr(kind, name) is not getattr(object, name, None)
        ]
        members: dict[str, Any] = {name: hand_on(name) for name in special}
        members["__getattr__"] = get
        members["__setattr__"] = lambda _, name, item: setattr(value, name, _unwrap(item))
        proxy = type(kind.__name__, (_Proxy,), members)()
        object.__setattr__(proxy, "_hidden", value)
        return proxy


class _Proxy:
    _hidden: Any = None


_Opaque = np.random.Generator | types.ModuleType
_NEVER_FORWARDED = {
    *("__class__", "__new__", "__init__", "__del__", "__getattribute__", "__getattr__"),
    *("__setattr__", "__delattr__", "__init_subclass__", "__subclasshook__"),
    *("__class_getitem__", "__reduce__", "__reduce_ex__"),
}


def _unwrap(value: Any) -> Any:
    return object.__getattribute__(value, "_hidden") if isinstance(value, _Proxy) else value


def _must_accept(function: Any, label: str, args: tuple, kwargs: dict) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        count = len(args) + len(kwargs)
        plural = "argument" if count == 1 else "arguments"
        message = f"{label}{signature} does not accept the {count} {plural} it is called with"
        raise Unexpected(f"{message} ({error}): keep the signature as it was given") from None


def _names(function: Any, args: tuple, kwargs: dict) -> list[str]:
    try:
        names = [repr(name) for name in inspect.signature(function).parameters]
    except (TypeError, ValueError):
        names = []
    names += [f"number {place + 1}" for place in range(len(names), len(args))]
    return [*names[: len(args)], *map(repr, kwargs)]


# Proving an exercise file


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
    for name in item.checks:
        first, second = (run_check(item, item.solution, name) for _ in range(2))
        solved[name] = first
        if not same(first.trace, second.trace, rtol=0.0):
            yield _line(item.checks[name]), f"check '{name}' differs between two runs: use only rng"
        if not first.trace:
            yield _line(item.checks[name]), f"check '{name}' never calls the answer"
    try:
        stub = stub_answer(item, path)
    except Exception as error:
        yield item.line, f"its stub cannot be executed: {type(error).__name__}: {error}"
    else:
        if judge(item, stub).passed:
            yield item.line, "the empty stub passes the checks"
    yield from ((item.line, message) for message in _disagreements(item))
    for mistake in item.mistakes:
        verdict = judge(item, mistake.answer)
        if verdict.passed:
            yield mistake.line, f"the mistake {mistake.name} passes every check"
        elif item.alike > 1e-6 and all(
            same(_trace(item, mistake, name), solved[name].trace, rtol=item.alike)
            for name in item.checks
        ):
            yield mistake.line, f"the mistake {mistake.name} is too like the solution to be told"
        elif verdict.mistake != mistake.name:
            alike = {m.name for m in _alike(item, mistake.answer, {})}
            if others := alike - {mistake.name}:
                why = f"cannot be told from {min(others)}"
            else:
                why = "shows in one or two small numbers only" if alike else "is not stable"
            yield mistake.line, f"the mistake {mistake.name} {why}: add a check that shows it"


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
