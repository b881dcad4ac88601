"""The twin on a GPU, beside what nanoGPT has published: tokens a second, utilization, loss.

Without a GPU the table says "not measured". Where there is one, ``python -m benchmarks gpu`` fills
its own columns: GPT-2's shape on random symbols, and, if the environment variable
``TINY_SHAKESPEARE`` names nanoGPT's text of 1,115,394 characters, its run on Shakespeare.
OpenWebText is not fetched.

nanoGPT's columns are computed here from sentences of its README and from its configuration files
(github.com/karpathy/nanoGPT, commit 3adf61e): "cutting down iteration time from ~250ms / iter to
135ms / iter", at the 12 sequences of 1,024 tokens of its bench.py, with no machine named; "about 4
days" for 600,000 steps of 491,520 tokens on eight A100 of 40 GB, to a loss of "~2.85"; "about 3
minutes" for 5,000 steps of 64 × 256 characters on one A100, to 1.4697.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from benchmarks.twin import batches, twin_run

NOT = "not measured"
A100 = 312e12  # bfloat16 operations a second, as promised
PEAKS = {"A100": A100, "H100": 989e12, "H200": 989e12}
GPT2 = {"batch": 12, "time": 1024, "layers": 12, "heads": 12, "width": 768, "vocab": 50_257}
BABY = {"batch": 64, "time": 256, "layers": 6, "heads": 6, "width": 384, "vocab": 65}
BABY_STEPS, MINUTES = 5000, 3
STEPS, DAYS, GPUS = 600_000, 4, 8
TOKENS = 12 * 1024 * 5 * 8  # of one step on OpenWebText


def flops_per_token(size):
    """Operations of a step for a token: 6 for each weight but positions, and attention's products.

    The count is nanoGPT's, after Chowdhery et al. 2022 (PaLM), appendix B: attention adds
    12 · layers · width · context.
    """
    d, layers = size["width"], size["layers"]
    weights = size["vocab"] * d + layers * (12 * d * d + 13 * d) + 2 * d
    return 6 * weights + 12 * layers * d * size["time"]


def utilization(size, tokens_a_second, peak):
    """The part of the promised operations that the model's own arithmetic uses."""
    return flops_per_token(size) * tokens_a_second / peak


def published():
    """The rows with nanoGPT's figures, ours still to come."""
    bench = 12 * 1024 / 0.135
    days = STEPS * TOKENS / (DAYS * 86_400)
    baby = BABY_STEPS * BABY["batch"] * BABY["time"] / (MINUTES * 60)
    return [
        _row("GPT-2 124M, random tokens, one GPU", bench, "machine not named", "none"),
        _row(
            "GPT-2 124M, OpenWebText, eight A100", days,
            f"{100 * utilization(GPT2, days / GPUS, A100):.0f} %", "2.85",
        ),
        _row(
            "6 layers, width 384, Shakespeare, one A100", baby,
            f"{100 * utilization(BABY, baby, A100):.0f} %", "1.4697",
        ),
    ]  # fmt: skip


def _row(run, tokens, used, loss):
    return {
        "run": run,
        "nanoGPT_tokens_a_second": f"{tokens:,.0f}",
        "nanoGPT_utilization": used,
        "nanoGPT_loss": loss,
        "twin_tokens_a_second": NOT,
        "twin_utilization": NOT,
        "twin_loss": NOT,
    }


def speed(size, device, steps, warm_up, **options):
    """Tokens a second of the twin on random symbols; its step ends with the loss as a number."""
    run, data = twin_run(size, device, **options), batches(size)
    for i in range(warm_up + steps):
        if i == warm_up:
            start = time.perf_counter()
        run.update(*next(data), 6e-4)
        run.step += 1
    return steps * size["batch"] * size["time"] / (time.perf_counter() - start)


def shakespeare(text, device, size=BABY, steps=BABY_STEPS, **options):
    """Train as nanoGPT's configuration says; tokens a second and the best held-out loss."""
    from chainrule.data.text import load_corpus
    from chainrule.pytorch.run import Options, TorchRun
    from chainrule.pytorch.world import World
    from chainrule.trainer.settings import Settings

    settings = Settings(
        data=str(text), steps=steps, batch_size=size["batch"], context=size["time"],
        layers=size["layers"], heads=size["heads"], width=size["width"], dropout=0.2,
        learning_rate=1e-3, final_learning_rate=1e-4, warmup=min(100, steps // 10), beta2=0.99,
        evaluate_every=min(250, steps), save_every=steps,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        run = TorchRun.start(
            Path(folder) / "run", settings, load_corpus(str(text)),
            world=World.open(device), options=Options(device=device, **options),
        )  # fmt: skip
        start = time.perf_counter()
        losses = [entry.validation for entry in run.remaining() if entry.validation is not None]
        seconds = time.perf_counter() - start
    return steps * size["batch"] * size["time"] / seconds, min(losses)


def measure():
    """Fill our columns where there is a GPU."""
    import torch

    rows = published()
    method = (
        "nanoGPT's figures from its README (commit 3adf61e), tokens a second computed from its "
        "times and sizes, utilization with its own count of operations against the 312 TFLOP/s "
        "that an A100 promises; one machine a row. "
    )
    if not torch.cuda.is_available():
        return {"rows": rows, "method": method + "There was no GPU to measure the twin on"}
    name = torch.cuda.get_device_name()
    peak = next((peak for short, peak in PEAKS.items() if short in name), None)
    options = {"bf16": True, "compile": True}

    def fill(row, size, tokens, loss=None):
        row["twin_tokens_a_second"] = f"{tokens:,.0f}"
        if peak is not None:
            row["twin_utilization"] = f"{100 * utilization(size, tokens, peak):.0f} %"
        row["twin_loss"] = row["nanoGPT_loss"] if loss is None else f"{loss:.4f}"

    fill(rows[0], GPT2, speed(GPT2, "cuda", steps=30, warm_up=10, **options))
    if text := os.environ.get("TINY_SHAKESPEARE"):
        fill(rows[2], BABY, *shakespeare(text, "cuda", **options))
    return {"rows": rows, "method": f"{method}The twin on one {name}, bfloat16, compiled"}
