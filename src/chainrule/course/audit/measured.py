"""README's measured figures, from the files that ``make bench`` and ``chainrule train`` leave."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from chainrule.course.audit import Audit

BENCHMARKS = "benchmarks/results.json"
TRAINING = "benchmarks/shakespeare/2000-steps/report.json"
LONGER = "benchmarks/shakespeare/8000-steps/report.json"
LIFE = "benchmarks/life/report.json"


def table(*rows: Iterable[object]) -> Iterator[str]:
    """A table in Markdown, its header first."""
    for number, row in enumerate(rows):
        cells = list(row)
        yield f"| {' | '.join(map(str, cells))} |"
        if number == 0:
            yield f"|{' --- |' * len(cells)}"


def benchmarks(audit: Audit) -> Iterator[str]:
    """One table a benchmark, with what it was measured on."""
    results = json.loads(audit.text(BENCHMARKS))
    for number, result in enumerate(results.values()):
        if number:
            yield ""
        yield from (f"**{result['title']}.**", "")
        names = [name.replace("_", " ") for name in result["rows"][0]]
        yield from table(names, *(map(_cell, row.values()) for row in result["rows"]))
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
    """The held-out losses of the runs on Shakespeare, a column each."""
    files = [path for path in (TRAINING, LONGER) if path in audit.files]
    runs: list[dict[str, Any]] = [json.loads(audit.text(path)) for path in files]
    losses = {name: [r["held_out_nats"][name] for r in runs] for name in runs[0]["held_out_nats"]}
    yield from table(
        ("Held-out Shakespeare, nats a character", *(f"{r['steps']:,} steps" for r in runs)),
        *((name, *(f"{value:.3f}" for value in values)) for name, values in losses.items()),
        ("seconds on 2 cores", *(f"{r['seconds']:.0f}" for r in runs)),
        ("characters a second", *(f"{r['characters_seen'] / r['seconds']:,.0f}" for r in runs)),
    )
    yield from ("", f"{runs[0]['parameters']:,} parameters, {runs[-1]['date']}.")


def life(audit: Audit) -> Iterator[str]:
    """What each stage of a life changed, and what helped beyond more imitation."""
    found = json.loads(audit.text(LIFE))
    rows = {name: row for name, row in found["stages"].items() if name not in ("pretrain", "lora")}
    cells = []
    for row in rows.values():
        shares = (_percent(row[key], row["seeds"]) for key in ("accuracy", "accuracy sampled"))
        forgotten = sum(row["forgotten"].values()) / len(row["forgotten"])
        cells.append((row["title"], *shares, f"{forgotten:+.2f}", f"{row['cpu seconds']:.0f}"))
    right = ("new prompts right, %", "drawn at T = 1, %")
    yield from table(("After", *right, "forgotten, bits a byte", "seconds"), *cells)
    verdicts = []
    for name, (mean, width, seeds) in found["beyond the control"].items():
        beyond = f"{rows[name]['title']} {100 * mean:+.1f}"
        if seeds > 1:
            helped = "no difference" if abs(mean) <= width else "better" if mean > 0 else "worse"
            beyond += f" ± {100 * width:.1f} ({helped})"
        verdicts.append(beyond)
    settings, machine = found["settings"], found["machine"]
    yield from ("", f"Points beyond more imitation: {'; '.join(verdicts)}.", "")
    yield (
        f"{settings['tested']:,} prompts of a part of the split that chose nothing; ± is half of a"
        f" 95 % interval over {max(row['seeds'] for row in rows.values())} seeds, which share one"
        f" tuned model. The seconds of the two stages that learn from drawn answers include"
        f" {found['cpu seconds of drawing']:.0f} of drawing them."
        f" Seconds of one core: {machine['processor']}, Python {machine['Python']},"
        f" NumPy {machine['NumPy']}, {found['date']}."
    )


MEASURED: dict[str, tuple[str, Callable[[Audit], Iterator[str]]]] = {
    "benchmarks": (BENCHMARKS, benchmarks),
    "training": (TRAINING, training),
    "life": (LIFE, life),
}


def _percent(pair: list[float], seeds: int) -> str:
    spread = f" ± {100 * pair[1]:.1f}" if seeds > 1 else ""
    return f"{100 * pair[0]:.1f}{spread}"


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)
