"""An answer judged: the checks run, all that it returns recorded, known mistakes told by that."""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import random
import types
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from numbers import Number
from typing import Any

import numpy as np

from chainrule.course.exercises.declaring import Exercise, Mistake
from chainrule.course.exercises.expectations import Unexpected, kind_of, same, show

MANY = 16


@dataclass
class Attempt:
    """One check run against one answer: what the answer returned, and how it failed, if it did.

    Of a failure `judge` may know the mistake, and the hint for it.
    """

    check: str
    trace: list[Any] = field(default_factory=list)
    message: str = ""
    call: str = ""
    arguments: tuple[tuple, dict[str, Any]] = ((), {})
    error: BaseException | None = None
    mistake: str = ""
    hint: str = ""


Watch = Callable[[Attempt], None]


def judge(
    exercise: Exercise, answer: Callable[..., Any], watch: Watch | None = None
) -> Attempt | None:
    """Run the checks up to the one that fails, and return how; nothing where all pass.

    After a failure, look for the one known mistake with the same outputs.

    ``watch`` gets the attempt before each call of the answer, and once it has failed.
    """
    attempts: dict[str, Attempt] = {}
    for name in exercise.checks:
        attempts[name] = attempt = run_check(exercise, answer, name, watch)
        if attempt.message:
            if watch:
                watch(attempt)
            known = alike(exercise, answer, attempts)
            if len({m.name for m in known}) == 1 and _telling(attempts.values()):
                attempt.mistake, attempt.hint = known[0].name, known[0].hint
            return attempt
    return None


def alike(
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
                m for m in known if same(trace_of(exercise, m, name), trace, rtol=exercise.alike)
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


def trace_of(exercise: Exercise, mistake: Mistake, check: str) -> list[Any]:
    """What a known mistake returns in a check, which is run once."""
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
        names = _accepted(function, label, args, kwargs)
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
            pairs = zip(names, before, after, strict=True)
            first = next(name for name, *pair in pairs if not same(*pair, rtol=0.0))
            message = f"{label} changes its argument {first}: work on a copy"
            raise Unexpected(f"{message}, or build a new value")
        return self._wrap(value, label)

    def _snapshot(self, value: Any) -> Any:
        """Copy a value for later comparison; what cannot be copied becomes its kind."""
        if isinstance(value, tuple | list):
            return [type(value).__name__, *map(self._snapshot, value)]
        if isinstance(value, dict):
            return {key: self._snapshot(item) for key, item in value.items()}
        if callable(value) or isinstance(value, (*self.classes, Iterator, *_OPAQUE)):
            return "function" if callable(value) else "object"
        try:
            return copy.deepcopy(value)
        except Exception:
            return "object"

    def _wrap(self, value: Any, label: str) -> Any:
        """Go on recording behind what was returned: functions and objects."""
        if isinstance(value, self.classes):
            return self._object(value)
        if isinstance(value, types.FunctionType | types.MethodType):
            return self._forward(value, f"{label}(…)")
        if type(value) in (tuple, list):
            return type(value)(self._wrap(item, label) for item in value)
        return value

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


_OPAQUE = (np.random.Generator, types.ModuleType)
_NEVER_FORWARDED = {
    *("__class__", "__new__", "__init__", "__del__", "__getattribute__", "__getattr__"),
    *("__setattr__", "__delattr__", "__init_subclass__", "__subclasshook__"),
    *("__class_getitem__", "__reduce__", "__reduce_ex__"),
}


def _unwrap(value: Any) -> Any:
    return object.__getattribute__(value, "_hidden") if isinstance(value, _Proxy) else value


def _accepted(function: Any, label: str, args: tuple, kwargs: dict) -> list[str]:
    """What the function calls each argument; a call that does not fit its signature is refused."""
    names: list[str] = []
    with contextlib.suppress(TypeError, ValueError):  # not everything has a signature
        signature = inspect.signature(function)
        names = [repr(name) for name in signature.parameters]
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            count = len(args) + len(kwargs)
            plural = "argument" if count == 1 else "arguments"
            message = f"{label}{signature} does not accept the {count} {plural} it is called with"
            raise Unexpected(f"{message} ({error}): keep the signature as it was given") from None
    names += [f"number {place + 1}" for place in range(len(names), len(args))]
    return [*names[: len(args)], *map(repr, kwargs)]
