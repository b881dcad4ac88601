"""What ``chainrule predict`` says of a GPT step, beside the step: the sizes of `scaling`, two more.

For each size the machine's rates are measured afresh, then steps are made, in turns; what counts is
the median of the ratios of the turns.
"""

from __future__ import annotations

import statistics
import time

from benchmarks.gpt_step import SIZES
from benchmarks.scaling import AXES, BASE

ROUNDS = 3
STEPS = 3


def sizes() -> dict[str, dict[str, int]]:
    """Every size of `scaling` once, and those of `gpt_step`."""
    found = {"base": BASE}
    for axis, values in AXES.items():
        found |= {
            f"{axis} {value}": BASE | {axis: value} for value in values if value != BASE[axis]
        }
    return found | {f"gpt_step, {name}": size for name, size in SIZES.items()}


def ratios(size: dict[str, int], rounds: int = ROUNDS, steps: int = STEPS) -> list[tuple]:
    """Predicted and measured seconds of a step, in each round."""
    from chainrule.predict import here
    from chainrule.predict.machine import Machine
    from chainrule.predict.work import gpt_work, price

    size = {"context" if name == "time" else name: value for name, value in size.items()}
    step, work = here.stepper(size), gpt_work(here.config(size), size["batch"])
    step()
    pairs = []
    for _ in range(rounds):
        predicted, seconds = price(work, Machine(patience=0.005)).total, []
        for _ in range(steps):
            start = time.process_time()
            step()
            seconds.append(time.process_time() - start)
        pairs.append((predicted, statistics.median(seconds)))
    return pairs


def measure(rounds: int = ROUNDS) -> dict:
    """Predicted and measured milliseconds of every size."""
    rows = []
    for name, size in sizes().items():
        pairs = ratios(size, rounds)
        found = [predicted / measured for predicted, measured in pairs]
        rows.append(
            {
                "size": name,
                "predicted_ms": round(1e3 * statistics.median(p for p, _ in pairs), 1),
                "measured_ms": round(1e3 * statistics.median(m for _, m in pairs), 1),
                "predicted_over_measured": f"{statistics.median(found):.2f} "
                f"({min(found):.2f}–{max(found):.2f})",
            }
        )
    method = (
        f"process time, one thread; {rounds} rounds, in each the rates measured afresh and then "
        f"{STEPS} steps, median of the ratio within rounds (lowest and highest); base is "
        f"{BASE['layers']} layers, width {BASE['width']}, batch {BASE['batch']} × {BASE['time']}, "
        "the others differ in what their name says"
    )
    return {"rows": rows, "method": method}
