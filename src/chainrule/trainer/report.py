"""What came out of a run: a table, a picture of the losses, a sample, in its folder."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.trainer.loop import Run
from chainrule.transformers.gpt import witten_bell_ngram

REPORT_TOKENS = 100_000
"""Held-out characters that the report's losses are measured on."""

ORDER = 5


def write_report(run: Run, sample: str, begins: Callable[[str], None] = lambda what: None) -> Path:
    """Measure the finished run against n-grams and draw its losses.

    Writes ``REPORT.md``, ``report.json`` and ``loss.svg`` into the run's folder. ``begins`` is told
    of each part that takes seconds.
    """
    begins(f"measuring on {REPORT_TOKENS:,} held-out characters, twice")
    cold = run.evaluate(REPORT_TOKENS)
    warm = run.evaluate(REPORT_TOKENS, warm=True)
    path = run.folder / "REPORT.md"
    if not run.leads:
        return path
    ngram = ngram_losses(run, begins)
    context = run.settings.context
    draw_losses(run, ngram, run.folder / "loss.svg")
    rows = {
        f"GPT, windows of {context} characters from cold": cold.mean,
        f"GPT, at least {context // 2} characters of context": warm.mean,
        **{f"Witten–Bell {n}-gram, same training text": loss for n, loss in ngram.items()},
        "Every character equally likely": math.log(len(run.tokenizer)),
    }
    (run.folder / "report.json").write_text(
        json.dumps(_numbers(run, rows), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    lines = _lines(run, rows, (cold.tokens, warm.tokens), sample)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _characters(run: Run) -> int:
    """How many characters all steps read."""
    settings = run.settings
    return settings.steps * settings.batch_size * settings.context


def _numbers(run: Run, rows: dict[str, float]) -> dict[str, Any]:
    """What other programs read."""
    return {
        "corpus": run.corpus.name,
        "parameters": run.parameters,
        "steps": run.settings.steps,
        "characters_seen": _characters(run),
        "seconds": round(run.seconds, 1),
        "held_out_nats": {name: round(value, 4) for name, value in rows.items()},
        "date": date.today().isoformat(),
    }


def _lines(run: Run, rows: dict[str, float], measured: tuple[int, int], sample: str) -> list[str]:
    """The page; ``measured`` are the characters that the GPT was measured on, cold and warm."""
    settings, tokens = run.settings, _characters(run)
    cold, warm = measured
    return [
        f"# A GPT trained on {run.corpus.name}",
        "",
        f"{run.parameters:,} parameters, {settings.steps:,} steps of "
        f"{settings.batch_size} × {settings.context} characters "
        f"({tokens:,} in all) in {run.seconds:.0f} seconds: "
        f"{tokens / max(run.seconds, 1e-9):,.0f} characters a second. "
        f"{date.today().isoformat()}, {platform.machine()}, Python {platform.python_version()}, "
        f"{run.described}.",
        "",
        "![Training and validation loss against steps](loss.svg)",
        "",
        "| Held-out loss | nats a character |",
        "|---|---|",
        *(f"| {name} | {value:.3f} |" for name, value in rows.items()),
        "",
        f"The GPT is measured on {cold:,} (cold) and {warm:,} (with context) evenly "
        f"spaced characters of the held-out text, the n-gram on all "
        f"{len(run.validation_ids):,} with its full left context.",
        "",
        "| Setting | Value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in settings.as_dict().items()),
        "",
        "```text",
        sample.replace("```", "'''"),
        "```",
        "",
    ]


def ngram_losses(run: Run, begins: Callable[[str], None] = lambda what: None) -> dict[int, float]:
    """Held-out nats a character of Witten–Bell n-grams of the run's training text."""
    losses = {}
    for order in (2, ORDER):
        begins(f"counting {order}-grams in {len(run.train_ids):,} characters, to compare with")
        model = witten_bell_ngram(run.train_ids, order, len(run.tokenizer))
        losses[order] = float(model.nll(run.validation_ids))
    return losses


def draw_losses(run: Run, ngram: dict[int, float], path: Path) -> None:
    """Training loss (mean of 20 steps) and validation loss against the step, as SVG.

    The n-grams' held-out losses are level lines.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    record = run.losses()
    steps = np.array([entry.step for entry in record])
    losses = np.array([entry.loss for entry in record])
    window = min(20, len(losses))
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    evaluated = [(entry.step, entry.validation) for entry in record if entry.validation is not None]
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(steps[window - 1 :], smooth, color="#0072B2", label=f"training, mean of {window}")
    axes.plot(*zip(*evaluated, strict=True), "o-", color="#D55E00", label="validation")
    axes.set(xlabel="optimizer step", ylabel="loss (nats a character)")
    for order, loss in ngram.items():
        axes.axhline(loss, color="#767676", linewidth=1, linestyle="dashed")
        name = {2: "bigram"}.get(order, f"{order}-gram")
        axes.annotate(
            name,
            (1, loss),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            annotation_clip=False,
        )
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    part = path.with_suffix(".part.svg")
    figure.savefig(part, metadata={"Date": None})
    plt.close(figure)
    part.replace(path)
