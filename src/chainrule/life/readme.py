"""README's table of a life, from its ``report.json``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def life(found: dict[str, Any]) -> Iterator[str]:
    """What each stage of a life changed, and what helped beyond more imitation."""
    rows = {name: row for name, row in found["stages"].items() if name not in ("pretrain", "lora")}
    yield "| After | new prompts right, % | drawn at T = 1, % | forgotten, bits a byte | seconds |"
    yield f"|{' --- |' * 5}"
    for row in rows.values():
        right, drawn = (_share(row[key], row["seeds"]) for key in ("accuracy", "accuracy sampled"))
        forgotten = sum(row["forgotten"].values()) / len(row["forgotten"])
        cells = (row["title"], right, drawn, f"{forgotten:+.2f}", f"{row['cpu seconds']:.0f}")
        yield f"| {' | '.join(cells)} |"
    beyond = found["beyond the control"].items()
    verdicts = [_verdict(rows[name]["title"], *measured) for name, measured in beyond]
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


def _share(pair: list[float], seeds: int) -> str:
    spread = f" ± {100 * pair[1]:.1f}" if seeds > 1 else ""
    return f"{100 * pair[0]:.1f}{spread}"


def _verdict(title: str, mean: float, width: float, seeds: int) -> str:
    beyond = f"{title} {100 * mean:+.1f}"
    if seeds < 2:
        return beyond
    helped = "no difference" if abs(mean) <= width else "better" if mean > 0 else "worse"
    return f"{beyond} ± {100 * width:.1f} ({helped})"
