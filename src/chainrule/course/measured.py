"""README's measured figures, from the files that ``make bench`` and ``chainrule train`` leave."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from chainrule.course.audit import Audit

BENCHMARKS = "benchmarks/results.json"
TRAINING = "benchmarks/shakespeare/report.json"


def benchmarks(audit: Audit) -> Iterator[str]:
    """One table a benchmark, with what it was measured on."""
    results = json.loads(audit.text(BENCHMARKS))
    for number, result in enumerate(results.values()):
        if number:
            yield ""
        yield from (f"**{result['title']}.**", "")
        rows = result["rows"]
        yield f"| {' | '.join(name.replace('_', ' ') for name in rows[0])} |"
        yield f"|{' --- |' * len(rows[0])}"
        for row in rows:
            yield f"| {' | '.join(_cell(value) for value in row.values())} |"
        if method := result.get("method"):
            yield from ("", f"{method[0].upper()}{method[1:]}.")
        for peer, reason in result.get("left_out", {}).items():
            yield from ("", f"{peer} is left out: {reason}")
    machine = next(iter(results.values()))["machine"]
    versions = ", ".join(
        f"{name} {value}" for name, value in machine.items() if name not in ("processor", "threads")
    )
    dates = sorted({result["date"] for result in results.values()})
    yield from ("", f"{machine['processor']}, one thread; {versions}; {' and '.join(dates)}.")


def training(audit: Audit) -> Iterator[str]:
    """The held-out losses of the run on Shakespeare."""
    result: dict[str, Any] = json.loads(audit.text(TRAINING))
    yield "| Held-out Shakespeare | nats a character |"
    yield "| --- | --- |"
    for name, value in result["held_out_nats"].items():
        yield f"| {name} | {value:.3f} |"
    speed = result["characters_seen"] / result["seconds"]
    yield from (
        "",
        f"{result['parameters']:,} parameters, {result['steps']:,} steps, "
        f"{result['seconds']:.0f} seconds on 2 cores ({speed:,.0f} characters a second), "
        f"{result['date']}.",
    )


MEASURED: dict[str, tuple[str, Callable[[Audit], Iterator[str]]]] = {
    "benchmarks": (BENCHMARKS, benchmarks),
    "training": (TRAINING, training),
}


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)
