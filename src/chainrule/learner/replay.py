"""A failing call to look at: its arguments in files, and the line where the solution parts."""

from __future__ import annotations

import contextlib
import copy
import fractions
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from chainrule.course.exercises.declaring import Exercise
from chainrule.course.exercises.expectations import same, show
from chainrule.course.exercises.judging import run_check

MOST_STEPS = 10_000

HEAD = '''"""The arguments of the last call of `{name}`, from `chainrule check {name} --replay`."""

from fractions import Fraction
from math import inf, nan
from pathlib import Path

import numpy as np

saved = np.load(Path(__file__).with_suffix(".npz"))


def generator(kind, state):
    bits = getattr(np.random, kind)()
    bits.state = state
    return np.random.Generator(bits)


args = {args}
kwargs = {kwargs}
'''


def save(answers: Path, name: str, arguments: tuple[tuple, dict[str, Any]]) -> None:
    """Write ``replay_<name>.py``, and the arrays as ``.npz``, beside the learner's file."""
    arrays: dict[str, np.ndarray] = {}

    def write(value: Any) -> str:
        if isinstance(value, np.ndarray) and value.dtype.kind in "biufcU":
            arrays[f"a{len(arrays)}"] = value
            return f"saved['a{len(arrays) - 1}']"
        if type(value) in (tuple, list):
            inner = "".join(f"{write(item)}, " for item in value)
            return f"({inner})" if type(value) is tuple else f"[{inner}]"
        if type(value) is dict:
            return "{" + "".join(f"{write(k)}: {write(v)}, " for k, v in value.items()) + "}"
        if isinstance(value, np.random.Generator):
            state = value.bit_generator.state
            return f"generator({state['bit_generator']!r}, {write(state)})"
        plain = int | float | complex | str | bytes | None | np.generic | fractions.Fraction
        if isinstance(value, plain):
            return repr(value)
        return f"NotImplemented  # {show(value, 40)} cannot be kept: see the check\n"

    args, kwargs = (write(part) for part in arguments)
    path = answers.with_name(f"replay_{name}.py")
    np.savez(path.with_suffix(".npz"), **arrays)  # type: ignore[arg-type]
    path.write_text(HEAD.format(name=name, args=args, kwargs=kwargs), encoding="utf-8")


def parting(item: Exercise, answer: Callable[..., Any], check: str) -> str:
    """The first line of an answer that gives a variable another value than the solution does.

    Variables of the same name are compared, in the last call of a check: each of their values if
    both have as many, otherwise the last one.
    """
    ours: list[tuple[int, str, Any]] = []
    mine: list[tuple[int, str, Any]] = []

    def both(*args: Any, **kwargs: Any) -> Any:
        ours.clear()
        mine.clear()
        with contextlib.suppress(Exception):  # not everything can be copied
            copied, named = copy.deepcopy((args, kwargs))
            _stepping(item.solution, ours)(*copied, **named)
        return _stepping(answer, mine)(*args, **kwargs)

    if not all(hasattr(function, "__code__") for function in (item.solution, answer)):
        return "only functions can be compared line by line"
    run_check(item, both, check)
    expected: dict[str, list[Any]] = {}
    received: dict[str, list[Any]] = {}
    for steps, values in ((ours, expected), (mine, received)):
        for _, name, value in steps:
            values.setdefault(name, []).append(value)
    if not expected.keys() & received.keys():
        return "your answer and the solution share no variables that could be compared"
    counted: dict[str, int] = {}
    for line, name, value in mine:
        place = counted[name] = counted.get(name, -1) + 1
        if name not in expected:
            continue
        as_many = len(expected[name]) == len(received[name])
        if not as_many and place < len(received[name]) - 1:
            continue
        right = expected[name][place if as_many else -1]
        if not same(value, right, rtol=1e-6):
            return f"line {line}: {name} is {show(value)}; in the solution {name} is {show(right)}"
    return "all variables that your answer and the solution share have the same values"


def _stepping(function: Any, steps: list[tuple[int, str, Any]]) -> Callable[..., Any]:
    """The function, noting each variable that a line of it sets or changes."""

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code is not function.__code__:
            return None
        known, last = dict(frame.f_locals), frame.f_lineno
        known = {name: copy.deepcopy(value) for name, value in known.items()}

        def local(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal last
            for name, value in frame.f_locals.items():
                if len(steps) < MOST_STEPS and not (
                    name in known and same(value, known[name], rtol=0.0)
                ):
                    known[name] = copy.deepcopy(value)
                    steps.append((last, name, known[name]))
            last = frame.f_lineno
            return local

        return local

    def stepped(*args: Any, **kwargs: Any) -> Any:
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            return function(*args, **kwargs)
        finally:
            sys.settrace(before)

    return stepped
