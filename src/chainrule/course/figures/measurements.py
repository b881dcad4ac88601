"""Measurements: numbers that only a run can tell, stored beside the figures that show them.

Nothing is trained, sampled or timed while a figure is drawn. A function in the figures' script
measures, one command stores what it returns, and the figure draws what is stored, so that every
processor draws the same bytes::

    from chainrule.course.figures import COLORS, figure, measured, measurement

    @measurement("race", absolute={"loss": 0.02}, seconds=4)
    def measure_race():  # stored in figures/<folder>/<slug>/race.json
        return {"rates": rates, "loss": [train(rate) for rate in rates]}

    @figure("race")
    def race(plt):
        found = measured("race")  # that dictionary, with lists for arrays
        ...

``python -m chainrule.course.figures --measure [ID …]`` measures and stores. With ``--check`` it
measures again, stores nothing, and exits 1 where a number has left its band. ``--only NAME``
leaves out the other measurements, ``--at-most S`` those that take longer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Band = float | Mapping[str, float]
ABSENT = "(nothing)"
DIGITS = 5  # significant digits that are stored of a number


@dataclass(frozen=True)
class Measurement:
    """A function that measures, and how far its numbers may lie from the stored ones."""

    name: str
    measure: Callable[[], dict[str, Any]]
    absolute: Band
    relative: Band
    seconds: float
    line: int

    def band(self, entry: str, stored: float) -> float:
        """How far from a stored number of an entry a new measurement may lie."""
        absolute, relative = (
            band.get(entry, 0.0) if isinstance(band, Mapping) else band
            for band in (self.absolute, self.relative)
        )
        return absolute + relative * abs(stored)


registered: dict[str, Measurement] = {}
_folder = Path()  # of the script that was loaded last


def measurement(
    name: str, *, absolute: Band = 0.0, relative: Band = 0.0, seconds: float
) -> Callable[[Callable[[], dict[str, Any]]], Any]:
    """Register a function that measures what is stored as ``name``.

    It returns a dictionary of numbers, strings, lists and arrays. Measured again, on whatever
    processor, a number may differ from the stored one by ``absolute`` plus ``relative`` times
    its size; either may be a dictionary by entry. Everything else must be the same.

    Args:
        name: of ``figures/<folder>/<slug>/<name>.json``; several figures may draw from it.
        absolute: how far numbers may move, in their own units.
        relative: how far numbers may move, as a share of their size.
        seconds: the CPU time that it takes, about. The test suite measures again what takes at
            most 10, ``--measure --check`` everything.

    Raises:
        ValueError: the name is not lower-case words joined by hyphens, or is taken.
    """

    def new(measure: Any) -> Measurement:
        line = measure.__code__.co_firstlineno
        return Measurement(name, measure, absolute, relative, seconds, line)

    return keep("measurement", name, registered, new)


def keep(kind: str, name: str, known: dict[str, Any], make: Callable[[Any], Any]) -> Any:
    """A decorator that leaves a function as it is, and what ``make`` makes of it in ``known``.

    Raises:
        ValueError: the name is not lower-case words joined by hyphens, or is taken.
    """
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        message = f"{kind} name {name!r}: use lower-case words joined by hyphens"
        raise ValueError(message)
    if name in known:
        message = f"{kind} name {name!r} is used twice in this script: rename one"
        raise ValueError(message)

    def register(function: Any) -> Any:
        known[name] = make(function)
        return function

    return register


def measured(name: str) -> dict[str, Any]:
    """What the script's measurement ``name`` stored."""
    return json.loads((_folder / f"{name}.json").read_text(encoding="utf-8"))


def belong(script: Path) -> None:
    """From now on `measured` reads what this script stored: its functions run again."""
    global _folder
    _folder = script.with_name(script.stem.replace("_", "-"))


def take(each: Measurement) -> dict[str, Any]:
    """Measure now, and return it as JSON holds it, numbers to five digits.

    Raises:
        TypeError: the function returned no dictionary.
        ValueError: a number is infinite or NaN.
    """
    found = each.measure()
    if not isinstance(found, dict):
        message = f"measurement {each.name!r}: the function must return a dictionary"
        raise TypeError(message)

    def refuse(number: str) -> None:
        message = f"measurement {each.name!r} holds {number}: return finite numbers, or None"
        raise ValueError(message)

    return plain(found, parse_float=_stored, parse_constant=refuse)


def _stored(number: str) -> float:
    return float(f"{float(number):.{DIGITS}g}")


def plain(value: Any, **parsing: Any) -> Any:
    """A value as JSON has it: arrays as lists, NumPy's numbers as Python's."""
    text = json.dumps(value, default=lambda array: array.tolist())
    return json.loads(text, **parsing)


def as_bytes(found: dict[str, Any]) -> bytes:
    """The file of a measurement: JSON, an entry a line."""
    rows = (f"  {json.dumps(entry)}: {json.dumps(value)}" for entry, value in found.items())
    return ("{\n" + ",\n".join(rows) + "\n}\n").encode("utf-8")


def departures(each: Measurement, stored: Any, found: Any) -> Iterator[str]:
    """Yield a line for every number that lies outside its band around the stored one."""
    for at, old, new in differing(stored, found):
        if is_number(old) and is_number(new):
            band = each.band(re.split(r"[.\[]", at)[0], old)
            if not abs(new - old) <= band * (1 + 1e-9):
                yield f"{at}: stored {old:g}, measured {new:g}, allowed ±{band:.3g}"
        else:
            yield f"{at or each.name}: stored {short(old)}, measured {short(new)}"


def differing(one: Any, other: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each place, such as ``p.x[2]``, at which two values are not the same, and what is there."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            both = (one.get(key, ABSENT), other.get(key, ABSENT))
            yield from differing(*both, f"{at}.{key}" if at else key)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, value in enumerate(one):
            yield from differing(value, other[index], f"{at}[{index}]")
    elif one != other or type(one) is not type(other):
        yield at, one, other


def is_number(value: Any) -> bool:
    """Whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def short(value: Any) -> str:
    """A value as JSON, no longer than a line can hold."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
