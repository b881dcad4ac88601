"""The figures of a run: of each stage the mean over seeds, with its interval."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.life.plan import STAGES
from chainrule.life.run import Life

__all__ = ["drawing_seconds", "interval", "machine", "results_of", "summary"]

# Student's t at 97.5 %, for 1, 2, … degrees of freedom.
T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
     2.145, 2.131, 2.120, 2.110, 2.101, 2.093)  # fmt: skip

POLICIES = ("pretrain", "sft", "control", "rejection", "dpo", "ppo", "grpo", "lora")
IMITATED = ("rejection", "dpo")
"""Stages that learn from answers which the stage of the reward model drew."""

IMPROVED = ("control", "rejection", "dpo", "ppo", "grpo")
TITLES = {kind.name: kind.title for kind in STAGES}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half the width of its 95 % interval; 0 for a single value."""
    mean = float(np.mean(values))
    n = len(values)
    if n < 2:
        return mean, 0.0
    return mean, T[n - 2] * float(np.std(values, ddof=1)) / math.sqrt(n)


def results_of(life: Life, stage: str) -> list[dict[str, Any]]:
    """What a stage left, seed by seed."""
    found = []
    seed = 0
    while life.has(f"{stage}-{seed}" if seed else stage):
        found.append(life.result(f"{stage}-{seed}" if seed else stage))
        seed += 1
    return found


def drawing_seconds(life: Life) -> float:
    """Seconds of drawing the answers that two of the stages imitate or compare."""
    drawn = [r["timing"]["drawing"] for r in results_of(life, "reward")]
    return float(np.mean(drawn)) if drawn else 0.0


def summary(life: Life) -> dict[str, Any]:
    """The figures of a run, as a table that other programs read."""
    start = life.result("pretrain")["measures"]["bits a byte"] if life.has("pretrain") else {}
    drawing = drawing_seconds(life)
    found = {name: results for name in POLICIES if (results := results_of(life, name))}
    return {
        "date": date.today().isoformat(),
        "machine": machine(),
        "settings": life.settings.as_dict(),
        "texts": list(life.texts.train),
        "stages": {
            name: _row(name, results, start, drawing if name in IMITATED else 0.0)
            for name, results in found.items()
        },
        "beyond the control": _beyond_the_control(life),
        "cpu seconds of drawing": round(drawing, 1),
    }


def _row(
    name: str, results: list[dict[str, Any]], start: dict[str, float], before: float
) -> dict[str, Any]:
    """One stage over its seeds: bits a byte against those at the ``start``, seconds ``before``."""
    measures = [r["measures"] for r in results]

    def over(key: str) -> list[float]:
        values = [m[key] for m in measures if key in m]
        return [round(v, 5) for v in interval(values)] if values else []

    def mean(key: str, part: str) -> float:
        return float(np.mean([m[key][part] for m in measures]))

    def seconds(of: str) -> float:
        return before + float(np.mean([r["timing"][of]["cpu"] for r in results]))

    return {
        "title": TITLES[name],
        "seeds": len(results),
        "accuracy": over("accuracy"),
        "accuracy each": [round(m["accuracy"], 4) for m in measures],
        "accuracy sampled": over("accuracy sampled"),
        "control task": over("control task"),
        "validation": over("validation"),
        "KL an answer": over("KL an answer"),
        "by task": {t: round(mean("by task", t), 4) for t in measures[0]["by task"]},
        "rules": {t: round(mean("rules", t), 4) for t in measures[0]["rules"]},
        "bits a byte": {t: round(mean("bits a byte", t), 4) for t in start},
        "forgotten": {t: round(mean("bits a byte", t) - start[t], 4) for t in start},
        "cpu seconds": round(seconds("steps"), 2),
        "cpu seconds with measuring": round(seconds("all"), 1),
        "tokens a second": round(
            float(np.mean([r["timing"]["tokens a second, answers"] for r in results]))
        ),
        "megabytes": round(measures[0]["megabytes"], 2),
        "probes": measures[0]["probes"],
    }


def _beyond_the_control(life: Life) -> dict[str, list[float]]:
    """Of each method, right answers beyond those of more imitation: mean, half interval, seeds."""
    compared = {}
    control = [r["measures"]["accuracy"] for r in results_of(life, "control")]
    for name in IMPROVED[1:]:
        own = [r["measures"]["accuracy"] for r in results_of(life, name)]
        n = min(len(own), len(control))
        if n:
            difference = [a - b for a, b in zip(own[:n], control[:n], strict=True)]
            compared[name] = [*(round(v, 5) for v in interval(difference)), n]
    return compared


def machine() -> dict[str, str]:
    """What it was measured on."""
    processor = platform.processor() or platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        processor = re.findall(r"model name\s*:\s*(.+)", text)[0].strip()
    except (OSError, IndexError):
        pass
    return {"processor": processor, "Python": platform.python_version(), "NumPy": np.__version__}
