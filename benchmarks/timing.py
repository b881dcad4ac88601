"""How everything here is timed: process time, one thread, contestants in turn, medians."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def use_one_thread() -> None:
    """Ask every BLAS for one thread; call before NumPy or PyTorch is imported."""
    for name in THREAD_VARIABLES:
        os.environ[name] = "1"


def interleave(
    contestants: dict[str, Callable[[], object]], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of process time of each contestant, called in turn A B C A B C …

    A machine that slows down slows all of them, so ratios within a round hold.
    """
    for _ in range(warm_up):
        for call in contestants.values():
            call()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            start = time.process_time()
            call()
            seconds[name].append(time.process_time() - start)
    return seconds


def median_ratio(a: list[float], b: list[float]) -> float:
    """The median over rounds of a's time divided by b's."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))
