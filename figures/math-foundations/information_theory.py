"""Figures of math-foundations/information-theory.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.figures import COLORS, figure, interactive
from chainrule.math_foundations.information_theory import cross_entropy, entropy, kl

WORDS = {"0": "blue", "10": "vermillion", "110": "green", "111": "purple"}


def strip(word):
    """Where the strings that begin with a codeword lie between 0 and 1."""
    width = 2.0 ** -len(word)
    return int(word, 2) * width, width


@figure("code-space")
def code_space(plt):
    fig, ax = plt.subplots(figsize=(7.2, 3.6))
    for depth in range(4):
        for number in range(2**depth):
            word = f"{number:0{depth}b}" if depth else ""
            if any(word.startswith(taken) and word != taken for taken in WORDS):
                continue
            left, width = (0, 1) if not word else strip(word)
            middle = left + width / 2
            if word:
                parent_left, parent_width = (0, 1) if depth == 1 else strip(word[:-1])
                parent = parent_left + parent_width / 2
                ax.plot([parent, middle], [-(depth - 1), -depth], color=COLORS["grey"], lw=1)
                ax.text(
                    (parent + middle) / 2,
                    -depth + 0.56,
                    word[-1],
                    ha="center",
                    va="center",
                    color=COLORS["grey"],
                    bbox={"color": "white", "pad": 1},
                )
            color = COLORS[WORDS[word]] if word in WORDS else COLORS["grey"]
            ax.plot(middle, -depth, "o", color=color, markersize=7 if word in WORDS else 4)
    for word, color in WORDS.items():
        left, width = strip(word)
        ax.fill_between([left, left + width], -4.15, -3.65, color=COLORS[color], alpha=0.25, lw=0)
        ax.plot(
            [left + width / 2] * 2, [-len(word) - 0.12, -3.65], ":", color=COLORS[color], lw=1.2
        )
        ax.text(
            left + width / 2,
            -3.9,
            f"{word}\n{('1/2', '1/4', '1/8')[len(word) - 1]}",
            ha="center",
            va="center",
            color="black",
            fontsize=9.5,
        )
    for edge in (0, 0.5, 0.75, 0.875, 1):
        ax.plot([edge, edge], [-4.15, -3.65], color="white", lw=1.5)
        ax.text(edge, -4.38, f"{edge:g}", ha="center", fontsize=9)
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-4.45, 0.2)
    ax.axis("off")
    return fig


@figure("coin")
def coin(plt):
    p = np.linspace(0, 1, 401)
    arch = np.array([entropy(np.array([t, 1 - t]), base=2) for t in p])
    q, at = 0.75, 0.5
    cost = p * -np.log2(q) + (1 - p) * -np.log2(1 - q)
    fig, ax = plt.subplots(figsize=(6.4, 3.9))
    ax.plot(p, arch, color=COLORS["blue"])
    ax.plot(p, cost, color=COLORS["black"], linewidth=1.3)
    touch = entropy(np.array([q, 1 - q]), base=2)
    ax.plot(q, touch, "o", color=COLORS["black"])
    ax.annotate("p = q = 3/4", (q, touch), (0.8, 1.06), arrowprops={"arrowstyle": "-", "lw": 0.7})
    height = at * -np.log2(q) + (1 - at) * -np.log2(1 - q)
    ax.plot([at, at], [1, height], color=COLORS["vermillion"], linewidth=3)
    gap = kl(np.array([at, 1 - at]), np.array([q, 1 - q]), base=2)
    ax.annotate(
        f"KL = {gap:.4f}",
        (at, 1 + gap / 2),
        (0.56, 1.42),
        color=COLORS["vermillion"],
        arrowprops={"arrowstyle": "-", "lw": 0.7},
    )
    ax.text(0.2, 1.78, "H(p, q): cost of the code for q")
    ax.text(0.06, 0.62, "H(p)", color=COLORS["blue"])
    ax.set_xlabel("p, probability of heads")
    ax.set_ylabel("bits a toss")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 2.02)
    return fig


@interactive(
    "coin",
    states=[
        {"p": 0},
        {"p": 1, "q": 0.01},
        {"p": 0.75},
        {"p": 0.01, "q": 0.99, "other": True},
        {"p": 0.99, "q": 0.3},
    ],
)
def coin_model(state):
    def toss(heads):
        return np.array([heads, 1 - heads], dtype=float)

    def or_infinite(bits):
        return bits if np.isfinite(bits) else "∞"

    p, q = toss(state["p"]), toss(state["q"])
    tails, heads = np.eye(2)[::-1]
    code = [cross_entropy(side, p, base=2) for side in (tails, heads)]
    return {
        "arch": [entropy(toss(each), base=2) for each in np.linspace(0, 1, 201)],
        "line": [cross_entropy(side, q, base=2) for side in (tails, heads)],
        "entropy": entropy(p, base=2),
        "cost": cross_entropy(p, q, base=2),
        "kl": kl(p, q, base=2),
        "entropyQ": entropy(q, base=2),
        "lineP": code if np.isfinite(code).all() else [],
        "costQ": or_infinite(cross_entropy(q, p, base=2)),
        "klQ": or_infinite(kl(q, p, base=2)),
    }


@figure("jensen")
def jensen(plt):
    fig, ax = plt.subplots(figsize=(7, 3.1))
    x = np.linspace(0.62, 4.6, 300)
    ax.plot(x, np.log2(x), color=COLORS["blue"], linewidth=2.4)
    ax.plot([1, 4], [0, 2], "o-", color=COLORS["vermillion"], linewidth=1.6)
    ax.plot([2.5, 2.5], [1, np.log2(2.5)], color=COLORS["grey"], linewidth=1.4)
    ax.plot(2.5, np.log2(2.5), "o", color=COLORS["blue"])
    ax.plot(2.5, 1, "o", color=COLORS["vermillion"])
    ax.text(2.42, 1.42, "logarithm of the mean, 1.32", ha="right", color=COLORS["blue"])
    ax.text(2.62, 0.86, "mean of the logarithms, 1", color=COLORS["vermillion"])
    ax.set_xticks([1, 2.5, 4])
    ax.set_yticks([0, 1, 2])
    ax.set_xlabel("x")
    ax.set_ylabel("log₂ x")
    return fig


@figure("modes")
def modes(plt):
    x = np.linspace(-6, 6, 801)

    def bell(mean, sigma):
        return np.exp(-(((x - mean) / sigma) ** 2) / 2) / (sigma * np.sqrt(2 * np.pi))

    target = (bell(-2, 0.5) + bell(2, 0.5)) / 2
    fig, ax = plt.subplots(figsize=(7, 3.3))
    ax.fill_between(x, target, color=COLORS["light"], lw=0)
    ax.plot(x, target, color=COLORS["grey"], linewidth=1)
    ax.plot(x, bell(0, np.sqrt(4.25)), color=COLORS["blue"])
    ax.plot(x, bell(2, 0.5), color=COLORS["vermillion"])
    ax.text(-6.1, 0.15, "least KL(p‖q): covers", color=COLORS["blue"])
    ax.text(2.75, 0.68, "least KL(q‖p): chooses", color=COLORS["vermillion"])
    ax.text(-2, 0.43, "target p", color=COLORS["grey"], ha="center")
    ax.set_xlabel("x")
    ax.set_ylabel("density")
    ax.set_ylim(0, 0.85)
    return fig


@figure("venn")
def venn(plt):
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.5))
    colors = [COLORS[name] for name in ("blue", "vermillion", "green")]
    for ax, centres in (
        (left, [(-0.6, 0), (0.6, 0)]),
        (right, [(-0.6, 0.4), (0.6, 0.4), (0, -0.62)]),
    ):
        for centre, color in zip(centres, colors, strict=False):
            ax.add_patch(plt.Circle(centre, 1.05, color=color, alpha=0.16, lw=0))
            ax.add_patch(plt.Circle(centre, 1.05, fill=False, color=color, lw=1.4))
        ax.set_aspect("equal")
        ax.set_xlim(-1.95, 1.95)
        ax.set_ylim(-1.75, 1.85)
        ax.axis("off")
    left.text(-1.05, 0, "H(X|Y)", ha="center", va="center")
    left.text(0, 0, "I(X;Y)", ha="center", va="center")
    left.text(1.05, 0, "H(Y|X)", ha="center", va="center")
    left.text(-1.0, 1.13, "H(X)", color=colors[0], ha="center")
    left.text(1.0, 1.13, "H(Y)", color=colors[1], ha="center")
    left.text(0, 1.6, "two variables", ha="center", fontsize=11)
    for place, value in (
        ((-1.05, 0.62), "0"),
        ((1.05, 0.62), "0"),
        ((0, -1.2), "0"),
        ((0, 0.83), "1"),
        ((-0.67, -0.27), "1"),
        ((0.67, -0.27), "1"),
    ):
        right.text(*place, value, ha="center", va="center", fontsize=11)
    right.text(0, 0.08, "−1", ha="center", va="center", fontsize=14, fontweight="bold")
    right.text(-1.55, 1.15, "X", color=colors[0], ha="center", fontsize=11)
    right.text(1.55, 1.15, "Y", color=colors[1], ha="center", fontsize=11)
    right.text(1.15, -1.3, "Z = X xor Y", color=colors[2], ha="left", fontsize=10)
    right.text(0, 1.6, "two coins and their XOR, in bits", ha="center", fontsize=11)
    return fig


@figure("zoom")
def zoom(plt):
    shares = np.array([0.6, 0.3, 0.1])
    edges = np.concatenate([[0], np.cumsum(shares)])
    message = [1, 0, 2]
    fig, ax = plt.subplots(figsize=(7.4, 4.0))
    low, width = 0.0, 1.0
    for row, symbol in enumerate([*message, None]):
        top = -row * 1.0
        if symbol is None:
            break
        for k, color in enumerate(("blue", "vermillion", "green")):
            chosen = k == symbol
            ax.fill_between(
                edges[k : k + 2],
                top - 0.36,
                top,
                color=COLORS[color],
                alpha=0.6 if chosen else 0.15,
                lw=0,
            )
            ax.text(
                edges[k : k + 2].mean(),
                top - 0.18,
                "abc"[k],
                ha="center",
                va="center",
                fontsize=11,
                fontweight="bold" if chosen else "normal",
            )
        for edge in edges:
            ax.plot([edge, edge], [top - 0.36, top], color="white", lw=1.2)
        ax.text(0, top + 0.05, f"{low:.3g}", fontsize=9, ha="left")
        ax.text(1, top + 0.05, f"{low + width:.3g}", fontsize=9, ha="right")
        for side, target in ((edges[symbol], 0), (edges[symbol + 1], 1)):
            ax.plot([side, target], [top - 0.36, top - 0.8], ":", color=COLORS["grey"], linewidth=1)
        low, width = low + width * edges[symbol], width * shares[symbol]
    bits = 1 + int(np.ceil(-np.log2(width)))
    first = int(np.ceil(low * 2**bits)) / 2**bits
    left, right = (first - low) / width, (first + 2.0**-bits - low) / width
    top = -3.0
    ax.fill_between([0, 1], top - 0.36, top, color=COLORS["light"], lw=0)
    ax.fill_between([left, right], top - 0.36, top, color=COLORS["black"], alpha=0.75, lw=0)
    word = f"{int(first * 2**bits):0{bits}b}"
    ax.text((left + right) / 2, top - 0.18, word, color="white", ha="center", va="center")
    ax.text(0, top + 0.05, f"{low:.4g}", fontsize=9, ha="left")
    ax.text(1, top + 0.05, f"{low + width:.4g}", fontsize=9, ha="right")
    ax.set_xlim(-0.01, 1.01)
    ax.set_ylim(-3.45, 0.2)
    ax.axis("off")
    return fig
