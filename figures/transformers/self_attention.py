"""Figures of transformers/self-attention.md."""

from __future__ import annotations

import numpy as np
from matplotlib.patches import Rectangle

from chainrule.course.figures import COLORS, figure, interactive
from chainrule.data.sentence import SENTENCE, W_K, W_Q, embed
from chainrule.math_foundations.probability import softmax
from chainrule.transformers.self_attention import (
    causal_mask,
    combine,
    document_mask,
    padding_mask,
    prefix_mask,
    rope_frequencies,
    sinusoidal_encoding,
    sliding_window_mask,
)

SWAPPED = ("the", "man", "bites", "the", "dog")
TEXTS = np.repeat([0, 1, 2], [5, 5, 2])  # two sentences, then padding
REAL = 10
PLACES = len(TEXTS)


def scores_of(words):
    X = embed(words)
    return (X @ W_Q.T) @ (X @ W_K.T).T / 2


def table(ax, values, words, shade, form="{:.0f}", cross=None, size=9.5):
    """Numbers in cells, rows and columns named after tokens; `shade` from 0 (white) to 1."""
    n = len(words)
    for i in range(n):
        for j in range(n):
            hidden = cross is not None and cross[i, j]
            tone = "white" if hidden else COLORS["blue"]
            alpha = 0.0 if hidden else 0.75 * float(shade[i, j])
            ax.add_patch(Rectangle((j, i), 1, 1, facecolor=tone, alpha=alpha, lw=0))
            ax.add_patch(Rectangle((j, i), 1, 1, fill=False, ec=COLORS["light"], lw=0.8))
            if hidden:
                ax.plot([j + 0.3, j + 0.7], [i + 0.3, i + 0.7], color=COLORS["grey"], lw=1)
                ax.plot([j + 0.3, j + 0.7], [i + 0.7, i + 0.3], color=COLORS["grey"], lw=1)
            else:
                text = form.format(values[i, j]).replace("-", "−")
                dark = 0.75 * float(shade[i, j]) > 0.6
                ax.text(
                    j + 0.5, i + 0.53, text, ha="center", va="center", fontsize=size,
                    color="white" if dark else "black",
                )  # fmt: skip
    ax.set_xlim(0, n)
    ax.set_ylim(n, 0)
    ax.set_aspect("equal")
    ax.set_xticks(np.arange(n) + 0.5, words, fontsize=size)
    ax.set_yticks(np.arange(n) + 0.5, words, fontsize=size)
    ax.xaxis.tick_top()
    ax.tick_params(length=0, pad=3)
    for spine in ax.spines.values():
        spine.set_visible(False)


@figure("swap")
def swap(plt):
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.9))
    for ax, words in zip(axes, (SENTENCE, SWAPPED), strict=True):
        scores = scores_of(words)
        table(ax, scores, words, (scores + 1) / 4)
        box = Rectangle((0, 2), 5, 1, fill=False, ec=COLORS["vermillion"], lw=2.4)
        box.set_clip_on(False)
        ax.add_patch(box)
        ax.set_ylabel("query")
        ax.set_xlabel("key")
        ax.xaxis.set_label_position("top")
    return fig


@figure("positions")
def positions(plt):
    encoding = sinusoidal_encoding(64, 32)
    fig, (left, right) = plt.subplots(
        1, 2, figsize=(7.4, 3.7), gridspec_kw={"width_ratios": [1.25, 1]}
    )
    image = left.imshow(encoding, aspect="auto", cmap="cividis", vmin=-1, vmax=1)
    left.set_xlabel("column")
    left.set_ylabel("place t")
    left.set_yticks([0, 16, 32, 48, 63])
    left.set_xticks([0, 8, 16, 24, 31])
    fig.colorbar(image, ax=left, ticks=[-1, 0, 1], fraction=0.05)
    angle = np.linspace(0, 2 * np.pi, 200)
    right.plot(np.sin(angle), np.cos(angle), color=COLORS["light"], lw=1)
    omega = 0.4
    for start, color, form in ((0, "blue", "o"), (5, "orange", "s")):
        for t in range(start, start + 3):
            x, y = np.sin(omega * t), np.cos(omega * t)
            right.plot([0, x], [0, y], color=COLORS[color], lw=1.6)
            right.plot(x, y, form, color=COLORS[color], ms=6)
            right.text(1.17 * x, 1.17 * y, f"{t}", ha="center", va="center")
    arc = np.linspace(0.03, 5 * omega - 0.1, 60)
    right.plot(0.45 * np.sin(arc), 0.45 * np.cos(arc), color=COLORS["grey"], lw=1.2)
    end = 5 * omega - 0.1
    right.annotate(
        "",
        (0.45 * np.sin(5 * omega), 0.45 * np.cos(5 * omega)),
        (0.45 * np.sin(end - 0.1), 0.45 * np.cos(end - 0.1)),
        arrowprops={"arrowstyle": "-|>", "color": COLORS["grey"]},
    )
    right.text(-0.12, 0.2, "+5", ha="right", color=COLORS["grey"])
    right.set_aspect("equal")
    right.set_xlim(-1.3, 1.3)
    right.set_ylim(-1.3, 1.3)
    right.axis("off")
    return fig


@figure("causal")
def causal(plt):
    scores = scores_of(SENTENCE)
    future = ~causal_mask(5)
    right = softmax(np.where(future, -np.inf, scores))
    wrong = np.where(future, 0, softmax(scores))
    fig, axes = plt.subplots(1, 3, figsize=(8, 3.1))
    table(axes[0], scores, SENTENCE, (scores + 1) / 4, cross=future, size=8.5)
    table(axes[1], right, SENTENCE, right, form="{:.2f}", cross=future, size=8.5)
    table(axes[2], wrong, SENTENCE, wrong, form="{:.2f}", cross=future, size=8.5)
    titles = ("scores", "softmax of what is left", "softmax of all, then zeros")
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title, pad=10, fontsize=10)
    for ax in axes[1:]:
        ax.set_yticks([])
    for ax, weights in ((axes[1], right), (axes[2], wrong)):
        for i, total in enumerate(weights.sum(axis=1)):
            fault = abs(total - 1) > 1e-9
            ax.text(
                5.2, i + 0.53, f"{total:.2f}", va="center", fontsize=9,
                color=COLORS["vermillion"] if fault else COLORS["black"],
            )  # fmt: skip
        ax.text(5.2, -0.28, "sum", va="center", fontsize=9)
    return fig


def gallery():
    """The six masks of the picture, each 12 × 12."""
    real = padding_mask(np.array([REAL]), PLACES)[0, 0]
    everything = np.ones((PLACES, PLACES), dtype=bool)
    return {
        "causal": causal_mask(PLACES),
        "padding": everything & real,
        "prefix of 3": prefix_mask(PLACES, 3),
        "window of 3": sliding_window_mask(PLACES, 3),
        "documents": document_mask(TEXTS),
        "all of: causal, padding,\ndocuments": combine(
            causal_mask(PLACES), real, document_mask(TEXTS)
        ),
    }


@figure("masks")
def masks(plt):
    fig, axes = plt.subplots(2, 3, figsize=(7.4, 5.4))
    for ax, (name, mask) in zip(axes.flat, gallery().items(), strict=True):
        ax.pcolormesh(
            np.arange(PLACES + 1), np.arange(PLACES + 1), mask.astype(float), vmin=0, vmax=1.3,
            cmap="Blues", edgecolors="#dddddd", linewidth=0.5,
        )  # fmt: skip
        ax.set_aspect("equal")
        ax.set_ylim(PLACES, 0)
        ax.set_title(name, fontsize=10)
        ax.set_xticks([])
        ax.set_yticks([])
        for spine in ax.spines.values():
            spine.set_visible(False)
    axes[0, 0].set_ylabel("query")
    axes[0, 0].set_xlabel("key")
    return fig


@interactive(
    "masks",
    states=[
        {"causal": False},
        {"causal": False, "windowed": True, "window": 4},
        {"prefix": 5, "padding": True},
        {"documents": True, "padding": True, "query": 11},
        {"windowed": True, "window": 3, "sinks": 2, "documents": True},
        {"windowed": True, "window": 1, "prefix": 12},
    ],
)
def masks_model(state):
    rows = []
    if state["causal"]:
        rows.append(prefix_mask(PLACES, state["prefix"]))
    if state["windowed"]:
        behind = np.arange(PLACES)[:, None] - np.arange(PLACES)
        near = sliding_window_mask(PLACES, state["window"], state["sinks"])
        ahead = (behind < 0) & (-behind < state["window"])
        first = (behind < 0) & (np.arange(PLACES) < state["sinks"])
        rows.append(near | ahead | first)
    if state["padding"]:
        rows.append(np.broadcast_to(padding_mask(np.array([REAL]), PLACES)[0, 0], (PLACES, PLACES)))
    if state["documents"]:
        rows.append(document_mask(TEXTS))
    mask = combine(np.ones((PLACES, PLACES), dtype=bool), *rows)
    seen = mask[state["query"]]
    return {
        "mask": mask.astype(int),
        "pairs": int(mask.sum()),
        "seen": np.flatnonzero(seen),
        "future": int(np.triu(mask, 1).sum()),
        "blind": int((~mask.any(axis=1)).sum()),
    }


def clock_model_of(distance, shift, base):
    omega = rope_frequencies(8, base)
    i, j = shift + distance, shift
    far = np.arange(65)
    return {
        "omega": omega,
        "query": np.mod(omega * i, 2 * np.pi),
        "key": np.mod(omega * j, 2 * np.pi),
        "agree": np.cos(omega * distance),
        "score": float(np.cos(omega * distance).mean()),
        "curve": np.cos(far[:, None] * omega).mean(axis=1),
    }


@figure("clocks")
def clocks(plt):
    found = clock_model_of(distance=3, shift=2, base=10_000.0)
    fig = plt.figure(figsize=(7.4, 4.4))
    grid = fig.add_gridspec(2, 4, height_ratios=[1, 0.85])
    circle = np.linspace(0, 2 * np.pi, 100)
    for r in range(4):
        ax = fig.add_subplot(grid[0, r])
        ax.plot(np.sin(circle), np.cos(circle), color=COLORS["grey"], lw=1)
        hands = (("key", "orange", "s", 2.6, 0.98), ("query", "blue", "o", 1.8, 0.8))
        for name, color, form, width, size in hands:
            angle = found[name][r]
            x, y = size * np.sin(angle), size * np.cos(angle)
            ax.plot([0, x], [0, y], color=COLORS[color], lw=width)
            ax.plot(x, y, form, color=COLORS[color], ms=6)
        ax.set_aspect("equal")
        ax.set_xlim(-1.15, 1.15)
        ax.set_ylim(-1.15, 1.15)
        ax.axis("off")
        turn = f"{found['omega'][r]:g}"
        ax.set_title(f"pair {r}: {turn} a place", fontsize=9.5)
    ax = fig.add_subplot(grid[1, :])
    ax.plot(np.arange(65), found["curve"], color=COLORS["black"])
    ax.plot(3, found["score"], "o", color=COLORS["vermillion"])
    ax.annotate("distance 3", (3, found["score"]), (4, 0.06), color=COLORS["vermillion"])
    ax.set_xlabel("distance i − j")
    ax.set_ylabel("mean agreement")
    ax.set_ylim(-0.1, 1.05)
    ax.set_xlim(0, 64)
    return fig


@interactive(
    "clocks",
    states=[
        {"distance": 0},
        {"distance": 12, "shift": 40},
        {"distance": 64, "base": 10},
        {"distance": 5, "base": 1_000_000},
    ],
)
def clocks_model(state):
    return clock_model_of(state["distance"], state["shift"], state["base"])


@figure("base")
def base(plt):
    middle = np.geomspace(1, 1e6, 160)
    near = middle[:, None] * np.geomspace(0.7, 1.4, 400)  # averaged: single distances flicker
    fig, ax = plt.subplots(figsize=(7.2, 3.5))
    styles = ((1e4, "blue", "-"), (5e5, "vermillion", "--"), (1e6, "green", "-."))
    for value, color, style in styles:
        cosines = np.cos(near[:, :, None] * rope_frequencies(128, value))
        mean = cosines.mean(axis=(1, 2))
        ax.semilogx(middle, mean, style, color=COLORS[color], label=f"{value:,.0f}")
    ax.axhline(0, color=COLORS["light"], lw=0.8, zorder=0)
    ax.set_xticks([1, 10, 100, 1e3, 1e4, 1e5, 1e6],
                  ["1", "10", "100", "1,000", "10,000", "100,000", "1,000,000"])  # fmt: skip
    ax.minorticks_off()
    ax.set_xlim(1, 1e6)
    ax.set_xlabel("distance, tokens")
    ax.set_ylim(-0.1, 1.05)
    ax.set_ylabel("agreement, mean of 64 hands")
    ax.legend(title="base")
    return fig


@figure("stretch")
def stretch(plt):
    plain = rope_frequencies(128)
    fig, ax = plt.subplots(figsize=(7.2, 3.5))
    recipes = (
        ("position interpolation", "linear", "blue", "-", (2, 0.29)),
        ("NTK-aware", "ntk", "vermillion", "--", (3, 0.62)),
        ("YaRN", "yarn", "green", "-.", (25, 0.93)),
    )
    for name, kind, color, style, place in recipes:
        scaling = {"type": kind, "factor": 4, "original": 4096}
        share = rope_frequencies(128, scaling=scaling) / plain
        ax.plot(share, style, color=COLORS[color])
        ax.text(*place, name, color=COLORS[color])
    once = np.interp(-np.log(4096), -np.log(2 * np.pi / plain)[::-1], np.arange(64)[::-1])
    ax.axvline(once, color=COLORS["grey"], lw=1, ls=":")
    ax.text(once + 0.8, 0.97, "gets round once\nin training", va="top", color=COLORS["grey"])
    ax.set_xlabel("pair of features, fastest to slowest")
    ax.set_ylabel("share of its old pace")
    ax.set_ylim(0, 1.05)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1])
    ax.set_xlim(0, 63)
    return fig


@figure("window")
def window(plt):
    fig, ax = plt.subplots(figsize=(7.2, 3.2))
    tokens, layers, size = 12, 3, 3
    reach = [{tokens - 1}]
    for _ in range(layers):
        reach.append({j for i in reach[-1] for j in range(i - size + 1, i + 1)})
    for level in range(layers + 1):
        height = level
        for t in range(tokens):
            on = t in reach[layers - level]
            ax.plot(
                t, height, "o", ms=11, color=COLORS["blue"] if on else "white",
                mec=COLORS["blue"] if on else COLORS["light"],
            )  # fmt: skip
            if on and level:
                for j in range(t - size + 1, t + 1):
                    ax.plot([t, j], [height - 0.13, height - 0.87], color=COLORS["sky"], lw=1)
    names = ["input", "layer 1", "layer 2", "layer 3"]
    counts = [len(reach[layers - level]) for level in range(layers + 1)]
    for level, (name, count) in enumerate(zip(names, counts, strict=True)):
        ax.text(-0.7, level, name, ha="right", va="center")
        ax.text(tokens - 0.3, level, f"{count}", va="center", color=COLORS["blue"])
    ax.set_xlim(-3, tokens + 0.6)
    ax.set_ylim(-0.5, layers + 0.5)
    ax.axis("off")
    return fig
