"""Figures of modern-llms/pretraining.md. None of them shows a training run."""

from __future__ import annotations

import numpy as np

from chainrule.course.figures import COLORS, figure, interactive
from chainrule.modern_llms.pretraining import (
    HOFFMANN_PRINTED,
    HOFFMANN_UNROUNDED,
    REFIT,
    caught,
    chinchilla_loss,
    mup_scales,
    optimal_allocation,
)

LAWS = {
    "printed, two decimals": HOFFMANN_PRINTED,
    "the same fit, four decimals": HOFFMANN_UNROUNDED,
    "fitted again": REFIT,
}
LOOKS = (("vermillion", "--"), ("blue", ":"), ("green", "-"))
POINTS = 41


@figure("bands")
def bands(plt):
    fig, ax = plt.subplots(figsize=(7.2, 3.8))
    s = np.linspace(0, 1, 401)
    cuts = ((4, 28, "blue", ":"), (8, 14, "black", "-"), (16, 7, "vermillion", "--"))
    for rows, count, color, dash in cuts:
        label = f"{count} bands of {rows}"
        ax.plot(s, caught(s, rows, count), dash, color=COLORS[color], label=label)
    ax.set_xlabel("similarity of two documents")
    ax.set_ylabel("chance that the pair is found")
    ax.legend()
    return fig


@interactive("bands", states=[{"rows": 4, "bands": 28}, {"rows": 1, "s": 0.5}, {"bands": 60}])
def bands_model(state):
    rows, count = int(state["rows"]), int(state["bands"])
    s = np.arange(POINTS) / (POINTS - 1)
    return {
        "curve": caught(s, rows, count),
        "found": caught(state["s"], rows, count),
        "steep": (1 / count) ** (1 / rows),
        "numbers": rows * count,
    }


@figure("isoflop")
def isoflop(plt):
    fig, ax = plt.subplots(figsize=(7.2, 3.8))
    N = np.geomspace(5e9, 5e11, 200)
    for (name, law), (color, dash) in zip(LAWS.items(), LOOKS, strict=True):
        ax.plot(N, chinchilla_loss(N, 5.88e23 / 6 / N, law), dash, color=COLORS[color], label=name)
        best = optimal_allocation(5.88e23, law)
        ax.plot([best.parameters], [best.loss], "o", color=COLORS[color])
    ax.set_xscale("log")
    ax.set_xlabel("parameters; the budget of 5.88 · 10²³ decides the tokens")
    ax.set_ylabel("expected loss (nats a token)")
    ax.legend()
    return fig


@interactive("isoflop", states=[{"budget": 19}, {"budget": 25, "size": 0.25}])
def isoflop_model(state):
    C = 10.0 ** state["budget"]
    best = [optimal_allocation(C, law) for law in LAWS.values()]
    ratios = 10.0 ** (np.arange(POINTS) / 20 - 1)
    N = best[2].parameters * ratios
    mine = best[2].parameters * state["size"]
    return {
        "curves": [chinchilla_loss(N, C / 6 / N, law) for law in LAWS.values()],
        "parameters": [plan.parameters for plan in best],
        "ratios": [plan.tokens / plan.parameters for plan in best],
        "extra": chinchilla_loss(mine, C / 6 / mine, REFIT) - best[2].loss,
    }


@figure("rounding")
def rounding(plt):
    fig, axes = plt.subplots(3, 1, figsize=(7.2, 3.4), sharex=True)
    formats = (("E5M2", 2), ("E4M3", 3), ("bfloat16", 7))
    for ax, (name, mantissa) in zip(axes, formats, strict=True):
        for exponent in (-1, 0, 1):
            values = 2.0**exponent * (1 + np.arange(2**mantissa) / 2**mantissa)
            ax.vlines(values, 0, 1, color=COLORS["blue"], lw=0.8)
        ax.set_yticks([])
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
        ax.grid(False)
    axes[-1].set_xlim(0.45, 4.05)
    axes[-1].set_xlabel("numbers that each format has between ½ and 4")
    return fig


@figure("width")
def width(plt):
    fig, ax = plt.subplots(figsize=(7.2, 3.8))
    widths = np.array([64, 128, 256, 512, 1024])
    rng = np.random.default_rng(0)
    looks = ((False, "one rate for all", "vermillion", "--"), (True, "muP", "blue", "-"))
    drawn = [rng.normal(size=(20, n)) for n in widths]
    for scaled, label, color, dash in looks:
        moved = []
        for n, h in zip(widths, drawn, strict=True):
            rate = 1e-3 * (mup_scales(int(n), 64).hidden_lr if scaled else 1)
            moved.append(rate * np.abs(h).sum(axis=1).mean())
        ax.plot(widths, moved, "o" + dash, color=COLORS[color], label=label)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(widths, [str(n) for n in widths])
    ax.set_yticks([0.05, 0.1, 0.2, 0.4, 0.8], ["0.05", "0.1", "0.2", "0.4", "0.8"])
    ax.minorticks_off()
    ax.set_xlabel("width")
    ax.set_ylabel("one step moves an output by")
    ax.legend()
    return fig
