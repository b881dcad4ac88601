"""How the time of a GPT step grows with width, depth and context, beside the count of FLOPs.

One size changes, the others stay. A slope is fitted to log time against log size by least
squares, and the same fit is made to the floating-point operations that the step needs: where
the machine runs at one speed, the two slopes agree.
"""

from __future__ import annotations

import statistics

import numpy as np

from benchmarks.gpt_step import batches, chainrule_stepper
from benchmarks.timing import interleave

BASE = {"batch": 4, "time": 64, "layers": 4, "heads": 4, "width": 128, "vocab": 65}
AXES = {
    "width": (64, 128, 256, 512),
    "layers": (1, 2, 4, 8),
    "time": (64, 128, 256, 512),
}
NAMES = {"width": "width", "layers": "depth", "time": "context"}


def flops(size: dict) -> float:
    """Floating-point operations of one step: forward, and twice that backward."""
    from chainrule.transformers.gpt import gpt_config
    from chainrule.transformers.transformer_architecture import count_flops

    config = gpt_config(size["vocab"], size["time"], size["layers"], size["heads"], size["width"])
    return 3 * size["batch"] * count_flops(config, size["time"])


def slope(sizes: tuple[int, ...], values: list[float]) -> float:
    """The exponent of the power law through the points."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def measure(rounds: int = 9) -> dict:
    """Median milliseconds of a step at each size, and the slopes of time and FLOPs."""
    rows = []
    for axis, values in AXES.items():
        contestants = {}
        for value in values:
            size = BASE | {axis: value}
            step, batch = chainrule_stepper(size), next(batches(size))
            contestants[str(value)] = lambda step=step, batch=batch: step(*batch)
        seconds = interleave(contestants, rounds, warm_up=2)
        milliseconds = [1e3 * statistics.median(times) for times in seconds.values()]
        counted = [flops(BASE | {axis: value}) for value in values]
        rows.append(
            {
                "grows": f"{NAMES[axis]} {values[0]} to {values[-1]}",
                "milliseconds": ", ".join(f"{m:.0f}" for m in milliseconds),
                "slope_of_time": round(slope(values, milliseconds), 2),
                "slope_of_FLOPs": round(slope(values, counted), 2),
            }
        )
    method = (
        f"process time of one step, sizes in turn, median of {rounds} rounds; what does not grow "
        f"is {BASE['layers']} layers, width {BASE['width']}, batch {BASE['batch']} × {BASE['time']}"
    )
    return {"rows": rows, "method": method}
