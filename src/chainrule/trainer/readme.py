"""README's table of the runs on Shakespeare, from their ``report.json``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def training(*runs: dict[str, Any]) -> Iterator[str]:
    """The held-out losses of the runs, a column each."""
    rows = [
        ("Held-out Shakespeare, nats a character", *(f"{r['steps']:,} steps" for r in runs)),
        ("---",) * (len(runs) + 1),
    ]
    for name in runs[0]["held_out_nats"]:
        rows.append((name, *(f"{r['held_out_nats'][name]:.3f}" for r in runs)))
    rows += [
        ("seconds on 2 cores", *(f"{r['seconds']:.0f}" for r in runs)),
        ("characters a second", *(f"{r['characters_seen'] / r['seconds']:,.0f}" for r in runs)),
    ]
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield from ("", f"{runs[0]['parameters']:,} parameters, {runs[-1]['date']}.")
