"""Figures of modern-llms/pretraining.md. None of them shows a training run."""

from __future__ import annotations

from itertools import pairwise

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


TEXTS = {
    "low, lower, newest, widest": {"low": 5, "lower": 2, "newest": 6, "widest": 3},
    "banana, bandana, cabana": {"banana": 4, "bandana": 2, "cabana": 3},
    "aaaa, aaab, baaa": {"aaaa": 3, "aaab": 2, "baaa": 1},
}
FIRST, SECOND, THIRD = TEXTS
SHOWN = 6


def merged(words, merges):
    """Tokens of each word, names of the merges, and the counts that come next.

    The figure breaks ties by the alphabet; ids of single letters have the same order, and those
    of merges another one, so the loop stands here again.
    """
    cut, learned = [list(word) for word in words], []
    while True:
        pairs = {}
        for tokens, count in zip(cut, words.values(), strict=True):
            for pair in pairwise(tokens):
                pairs[pair] = pairs.get(pair, 0) + count
        ranked = sorted(pairs, key=lambda pair: (-pairs[pair], pair))
        if len(learned) == merges or not ranked:
            return cut, learned, [[*pair, pairs[pair]] for pair in ranked[:SHOWN]]
        best = ranked[0]
        learned.append("".join(best))
        for tokens in cut:
            i = 0
            while i + 1 < len(tokens):
                if (tokens[i], tokens[i + 1]) == best:
                    tokens[i : i + 2] = ["".join(best)]
                i += 1


@figure("merges")
def merges(plt):
    words = TEXTS[FIRST]
    fig, axes = plt.subplots(1, 3, figsize=(7.2, 2.2))
    for ax, count in zip(axes, (0, 2, 4), strict=True):
        cut, _, _ = merged(words, count)
        for row, tokens in enumerate(cut):
            x = 0
            for token in tokens:
                color = COLORS["sky"] if len(token) > 1 else "#eeeeee"
                ax.add_patch(
                    plt.Rectangle((x + 0.05, row + 0.1), len(token) - 0.1, 0.8, color=color)
                )
                ax.text(x + len(token) / 2, row + 0.5, token, ha="center", va="center")
                x += len(token)
        ax.set_title("no merge" if not count else f"{count} merges", fontsize=10)
        ax.set_xlim(0, 6)
        ax.set_ylim(len(cut), 0)
        ax.axis("off")
    return fig


@interactive("merges", states=[{"merges": 8}, {"text": SECOND, "merges": 5}, {"text": THIRD}])
def merges_model(state):
    words = TEXTS[state["text"]]
    cut, learned, pairs = merged(words, int(state["merges"]))
    tokens = sum(len(row) * count for row, count in zip(cut, words.values(), strict=True))
    return {"cut": cut, "learned": learned, "pairs": pairs, "tokens": tokens}


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
