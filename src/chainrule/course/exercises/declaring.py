"""What an exercise file declares: solutions, checks, known mistakes; the answers of a blind set."""

from __future__ import annotations

import inspect
import sys
import types
import zlib
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

registered: list[Any] = []  # by the file that is being loaded


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
        self.line = line_of(self.solution)
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
            raise ValueError(f"{self.name}: two checks are named {function.__name__}")
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
                self.mistakes.append(Mistake(answer.__name__, form, hint, line_of(answer)))
            return answer

        return register


def exercise(title: str, **about: Any) -> Callable[[Any], Exercise]:
    """Mark a function or class as the solution of an exercise; its docstring is the statement."""

    def register(solution: Any) -> Exercise:
        made = Exercise(solution, title, **about)
        registered.append(made)
        return made

    return register


def wrong(exercise: str, fault: str, known: str = "") -> Callable[[Any], Any]:
    """Mark a wrong answer of a blind set: its fault, and the mistake whose hint is right for it."""

    def register(answer: Any) -> Any:
        entry = Blind(exercise, answer, fault, known, line_of(answer))
        registered.append(entry)
        return answer

    return register


def given(definition: Any) -> Any:
    """Mark a function or class that the learner's file gets as it is."""
    return definition


def line_of(definition: Any) -> int:
    """The line of an exercise file on which a definition begins."""
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
    registered.clear()
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    except Exception as error:
        message = f"{path}: cannot be executed: {type(error).__name__}: {error}"
        raise ExerciseFileError(message) from error
    return list(registered)
