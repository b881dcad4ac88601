"""The limit: how fast NumPy's BLAS multiplies the matrices of the GPT steps, on one thread."""

from __future__ import annotations

import statistics
import time

import numpy as np

# The feed-forward product of each GPT in gpt_step.py: tokens, width in, width out.
PRODUCTS = ((768, 128, 512), (2048, 384, 1536), (2048, 2048, 2048))


def measure(rounds: int = 15) -> dict:
    """Median GFLOP/s of float32 ``(m, k) @ (k, n)`` into a given array."""
    rng = np.random.default_rng(0)
    rows = []
    for m, k, n in PRODUCTS:
        a = rng.standard_normal((m, k), dtype=np.float32)
        b = rng.standard_normal((k, n), dtype=np.float32)
        out = np.empty((m, n), np.float32)
        repeats = max(1, int(2e9 / (2 * m * k * n)))
        speeds = []
        for _ in range(rounds):
            start = time.process_time()
            for _ in range(repeats):
                np.dot(a, b, out=out)
            speeds.append(repeats * 2e-9 * m * k * n / (time.process_time() - start))
        rows.append({"product": f"{m} × {k} × {n}", "gflops": round(statistics.median(speeds), 1)})
    return {"rows": rows, "method": f"float32, process time, median of {rounds} rounds"}
