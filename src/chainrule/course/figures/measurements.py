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
leaves out the other measurements, ``--at-most SECONDS`` those that take longer.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Band = float | Mapping[str, float]
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
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        message = f"measurement name {name!r}: use lower-case words joined by hyphens"
        raise ValueError(message)
    if name in registered:
        message = f"measurement name {name!r} is used twice in this script: rename one"
        raise ValueError(message)

    def register(measure: Callable[[], dict[str, Any]]) -> Any:
        line = measure.__code__.co_firstlineno
        registered[name] = Measurement(name, measure, absolute, relative, seconds, line)
        return measure

    return register


def measured(name: str) -> dict[str, Any]:
    """What the script's measurement ``name`` stored.

    Raises:
        FileNotFoundError: it was never stored.
    """
    path = _folder / f"{name}.json"
    if not path.is_file():
        message = f"{name}.json is not measured: python -m chainrule.course.figures --measure"
        raise FileNotFoundError(message)
    return json.loads(path.read_text(encoding="utf-8"))


def begin(script: Path) -> None:
    """Forget all measurements: those that register from now on belong to this script."""
    registered.clear()
    belong(script)


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
    return {entry: _plain(entry, value) for entry, value in found.items()}


def _plain(entry: str, value: Any) -> Any:
    if hasattr(value, "tolist"):  # an array, or a number of NumPy's
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(entry, part) for part in value]
    if isinstance(value, dict):
        return {key: _plain(entry, part) for key, part in value.items()}
    if isinstance(value, float):
        if not math.isfinite(value):
            message = f"entry {entry!r} holds {value}: return finite numbers, or None"
            raise ValueError(message)
        return float(f"{value:.{DIGITS}g}")
    return value


def as_bytes(found: dict[str, Any]) -> bytes:
    """The file of a measurement: JSON, an entry a line."""
    rows = (f"  {json.dumps(entry)}: {json.dumps(value)}" for entry, value in found.items())
    return ("{\n" + ",\n".join(rows) + "\n}\n").encode("utf-8")


def departures(each: Measurement, stored: Any, found: Any, at: str = "") -> Iterator[str]:
    """Yield a line for every number that lies outside its band around the stored one."""
    entry = re.split(r"[.\[]", at)[0]
    if isinstance(stored, dict) and isinstance(found, dict) and stored.keys() == found.keys():
        for key, value in stored.items():
            yield from departures(each, value, found[key], f"{at}.{key}" if at else key)
    elif isinstance(stored, list) and isinstance(found, list) and len(stored) == len(found):
        for i, value in enumerate(stored):
            yield from departures(each, value, found[i], f"{at}[{i}]")
    elif _is_number(stored) and _is_number(found):
        band = each.band(entry, stored)
        if not abs(found - stored) <= band * (1 + 1e-9):
            yield f"{at}: stored {stored:g}, measured {found:g}, allowed ±{band:.3g}"
    elif stored != found:
        yield f"{at or each.name}: stored {_short(stored)}, measured {_short(found)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
