"""Figures of neural-networks/perceptron.md."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from sklearn.datasets import load_digits

from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.neural_networks.perceptron import (
    Perceptron,
    add_bias_column,
    is_linearly_separable,
    kernel_perceptron,
    novikoff_bound,
    sigmoid,
)

SQUARE = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
AND = np.array([-1, -1, -1, 1])
XOR = np.array([-1, 1, 1, -1])


def _examples(ax, points, labels, size=70):
    for label, marker, colour in ((1, "o", "vermillion"), (-1, "s", "blue")):
        chosen = points[labels == label]
        ax.scatter(*chosen.T, s=size, marker=marker, color=COLORS[colour], zorder=4)


def _half_planes(ax, w, b, low=-0.5, high=1.5):
    """Shade both sides of the boundary of a neuron in the plane, and draw the boundary."""
    x, y = np.meshgrid([low, high], [low, high])
    score = w[0] * x + w[1] * y + b
    ax.contourf(x, y, score, levels=[-1e9, 0, 1e9], colors=["#dcebf6", "#fbe6da"])
    ax.contour(x, y, score, levels=[0], colors=COLORS["black"], linewidths=1.6)
    ax.set_xlim(low, high)
    ax.set_ylim(low, high)
    ax.set_aspect("equal")


@figure("neuron")
def neuron(plt):
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.1), width_ratios=[1.5, 1])
    inputs = {2.0: ("$x_1$", "3"), 1.0: ("$x_2$", "2"), 0.0: ("1", "−4")}
    centre = np.array([2.0, 1.0])
    for height, (name, weight) in inputs.items():
        start = np.array([0.0, height])
        way = (centre - start) / np.linalg.norm(centre - start)
        left.annotate(
            "",
            centre - 0.36 * way,
            start + 0.27 * way,
            arrowprops={"arrowstyle": "-|>", "color": COLORS["black"], "linewidth": 1.4},
        )
        left.add_patch(plt.Circle(start, 0.25, facecolor="#f1f1f1", edgecolor=COLORS["grey"]))
        left.text(*start, name, ha="center", va="center", fontsize=12)
        x, y = start + 0.42 * (centre - start)
        lift = 0.16 if height else -0.36  # the rising arrow would cut a label above it
        left.text(x, y + lift, f"· {weight}", ha="center", color=COLORS["vermillion"], fontsize=12)
    for x, label in ((2.0, "Σ"), (3.3, "≥ 0 ?")):
        left.add_patch(
            plt.Circle((x, 1.0), 0.34, facecolor="white", edgecolor=COLORS["black"], linewidth=1.4)
        )
        left.text(x, 1.0, label, ha="center", va="center", fontsize=13 if x < 3 else 10)
    arrow = {"arrowstyle": "-|>", "color": COLORS["black"], "linewidth": 1.4}
    left.annotate("", (2.95, 1.0), (2.35, 1.0), arrowprops=arrow)
    left.text(2.65, 1.12, "$s$", ha="center", fontsize=12)
    left.annotate("", (4.25, 1.0), (3.65, 1.0), arrowprops=arrow)
    left.text(4.3, 1.0, "+1 or −1", va="center", fontsize=11)
    left.set_xlim(-0.3, 5.5)
    left.set_ylim(-0.4, 2.4)
    left.set_aspect("equal")
    left.axis("off")
    _half_planes(right, (3, 2), -4)
    _examples(right, SQUARE, AND)
    right.text(0.05, 0.42, "−1", color=COLORS["blue"], fontsize=12)
    right.text(1.2, 1.22, "+1", color=COLORS["vermillion"], fontsize=12)
    right.set_xticks([0, 1])
    right.set_yticks([0, 1])
    right.set_xlabel("$x_1$")
    right.set_ylabel("$x_2$")
    return fig


@figure("distance")
def distance(plt):
    fig, ax = plt.subplots(figsize=(7, 4.2))
    w, b = np.array([3.0, 4.0]), -5.0
    unit = w / 5
    x = np.array([-3.0, 6.0])
    ax.plot(x, (5 - 3 * x) / 4, color=COLORS["black"])
    along = {"rotation": -36.9, "rotation_mode": "anchor"}
    ax.text(-2.7, (5 + 3 * 2.7) / 4 + 0.1, "score 0", **along)
    for level in (-5, 5, 10, 15):
        ax.plot(x, (5 + level - 3 * x) / 4, ":", color=COLORS["grey"], linewidth=1)
        at = -2.3 if level < 0 else 4.5
        label = f"score {level}".replace("-", "−")
        ax.text(at, (5 + level - 3 * at) / 4 + 0.1, label, color=COLORS["grey"], **along)
    for point, name, side in (
        (np.array([3.0, 4.0]), "(3, 4)\nscore 20", 1),
        (np.array([0.0, 0.0]), "(0, 0)\nscore −5", -1),
    ):
        t = (w @ point + b) / 5
        foot = point - t * unit
        colour = COLORS["vermillion" if side > 0 else "blue"]
        ax.plot(*np.stack([point, foot]).T, color=colour, linewidth=2.4)
        ax.plot(*point, "o" if side > 0 else "s", color=colour, markersize=8)
        align = {"va": "center"} if side > 0 else {"va": "top", "ha": "right"}
        ax.text(point[0] + 0.18 * side, point[1] - 0.15, name, color=colour, **align)
        middle = (point + foot) / 2
        length = f"{t:.0f}".replace("-", "−")
        ax.text(middle[0] - 0.2, middle[1] + 0.15, length, color=colour, ha="right")
    start = np.array([3.4, -1.3])
    ax.annotate(
        "",
        start + unit,
        start,
        arrowprops={"arrowstyle": "-|>", "color": COLORS["black"], "linewidth": 2},
    )
    ax.text(*(start + unit + [0.1, 0]), "w/‖w‖")
    ax.set_aspect("equal")
    ax.set_xlim(-3, 6)
    ax.set_ylim(-1.6, 4.7)
    ax.set_xlabel("$x_1$")
    ax.set_ylabel("$x_2$")
    return fig


@figure("activations-losses")
def activations_losses(plt):
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2))
    x = np.linspace(-1, 3, 801)
    left.plot([-1, 1, 1, 3], [0, 0, 1, 1], color=COLORS["black"], linewidth=1, label="step")
    for c, colour in ((16, "vermillion"), (4, "orange"), (1, "blue")):
        left.plot(x, sigmoid(c * (x - 1)), color=COLORS[colour], label=f"c = {c}")
    left.axvline(1, color=COLORS["grey"], linewidth=0.8, linestyle=":")
    left.set_title("σ(c·(x − 1))")
    left.set_xlabel("x")
    left.set_yticks([0, 0.5, 1])
    left.legend(loc="lower right")
    m = np.linspace(-2.2, 3.2, 541)
    right.plot([-2.2, 0, 0, 3.2], [1, 1, 0, 0], color=COLORS["black"], linewidth=1, label="mistake")
    right.plot(m, np.maximum(0, -m), color=COLORS["vermillion"], label="perceptron")
    right.plot(m, np.log1p(np.exp(-m)), color=COLORS["blue"], label="logistic")
    right.plot(m, (1 - m) ** 2 / 2, color=COLORS["green"], linestyle="--", label="½(s − y)²")
    right.set_ylim(-0.1, 2.4)
    right.set_title("the price of a score")
    right.set_xlabel("y·s: wrong ← 0 → right")
    right.legend(loc="upper center", bbox_to_anchor=(0.62, 1.0))
    return fig


@figure("and-updates")
def and_updates(plt):
    moments = (2, 5, 12, 18)
    fig, axes = plt.subplots(1, 4, figsize=(7, 2.7), sharey=True)
    w, b, updates = np.zeros(2), 0.0, 0
    panels = iter(zip(axes, moments, strict=True))
    ax, moment = next(panels)
    while ax is not None:
        for x, label in zip(SQUARE, AND, strict=True):
            if label * (w @ x + b) <= 0:
                w, b, updates = w + label * x, b + label, updates + 1
                if updates == moment:
                    _half_planes(ax, w, b)
                    _examples(ax, SQUARE, AND, size=45)
                    ax.set_title(f"after {updates}")
                    ax.set_xlabel(f"w = ({w[0]:.0f}, {w[1]:.0f})\nb = {b:.0f}".replace("-", "−"))
                    ax.set_xticks([0, 1])
                    ax.set_yticks([0, 1])
                    ax, moment = next(panels, (None, None))
    return fig


def _half(w, b, sign):
    """Corners of the part of the frame where sign·(w·x + b) ≥ 0; the boundary's two ends in it."""
    frame = np.array([[-0.5, -0.5], [1.5, -0.5], [1.5, 1.5], [-0.5, 1.5]])
    score = sign * (frame @ w + b)
    area, line = [], []
    for i in range(4):
        j = (i + 1) % 4
        if score[i] >= 0:
            area.append(frame[i])
        if (score[i] >= 0) != (score[j] >= 0):
            line.append((score[j] * frame[i] - score[i] * frame[j]) / (score[j] - score[i]))
            area.append(line[-1])
    return area, line


def _widest(X, y):
    """The separator, bias last, with the largest margin among the examples with a 1 appended.

    The shortest u with all y·(u·x) ≥ 1: it has equality at one to three examples, and is the
    shortest that has equality there.
    """
    signed = y[:, None] * add_bias_column(X)
    chosen = [list(c) for size in (1, 2, 3) for c in combinations(range(4), size)]
    found = [np.linalg.pinv(signed[c]) @ np.ones(len(c)) for c in chosen]
    return min((u for u in found if (signed @ u).min() > 1 - 1e-9), key=np.linalg.norm)


@interactive(
    "and-updates",
    states=[
        {"k": 60},
        {"k": 0, "labels": "OR"},
        {"k": 37, "labels": "XOR"},
        {"k": 60, "p4": [0.7, 0.7]},
        {"k": 9, "p4": [0.5, 0.5]},
        {"k": 3, "p1": [-0.5, 1.5], "p2": [1.5, 1.4], "p4": [0.2, -0.3]},
        {"k": 17, "labels": "XOR", "p1": [-0.1, -0.4], "p4": [0.6, -0.4]},
    ],
)
def and_updates_model(state):
    y = {"AND": AND, "OR": np.array([-1, 1, 1, 1]), "XOR": XOR}[state["labels"]]
    tenths = np.rint(10 * np.array([state[f"p{i}"] for i in (1, 2, 3, 4)]))
    X = tenths / 10
    separable = is_linearly_separable(X, y)
    needed = 60
    if separable:  # whole numbers: no rounding decides whether a score is 0
        counts = kernel_perceptron(tenths @ tenths.T + 100, y, max_epochs=10_000)
        needed = int(counts.sum())
        then = (counts * y) @ add_bias_column(X)
        u = _widest(X, y)
    walk, counts = [(np.zeros(4), 0, 1)], np.zeros(4)
    visit = 0
    while len(walk) <= min(needed, 60):
        i, visit = visit % 4, visit + 1
        if y[i] * ((counts * y) @ (tenths @ tenths[i] + 100)) <= 0:
            counts = counts + np.eye(4)[i]
            walk.append((counts, i + 1, (visit + 3) // 4))
    if not separable:
        then = (counts * y) @ add_bias_column(X)
    counts, last, epoch = walk[min(state["k"], needed)]
    now = (counts * y) @ add_bias_column(X)
    p = Perceptron(2)
    p.weights, p.bias = now[:2], now[2]
    has_line = bool(np.any(np.abs(now[:2]) > 1e-9))
    radius = np.linalg.norm(add_bias_column(X), axis=1).max()
    bound = novikoff_bound(add_bias_column(X), y, u) if separable else 0.0
    walked = np.array([(c * y) @ add_bias_column(X) for c, _, _ in walk])
    return {
        "y": y,
        "ys": y * p.score(X),
        "now": now,
        "then": then,
        "last": last,
        "epoch": epoch,
        "separable": separable,
        "radius": radius,
        "gamma": radius / np.sqrt(bound) if separable else 0.0,
        "needed": needed,
        "shown": min(state["k"], needed),
        "stopped": separable,
        "hasLine": has_line,
        "margin": p.margin(X, y) if has_line else 0.0,
        "bound": bound,
        "reach": max(4, np.abs(walked @ add_bias_column(X).T).max()),
        "yes": _half(now[:2], now[2], 1)[0],
        "no": _half(now[:2], now[2], -1)[0] if np.any(np.abs(now) > 1e-9) else [],
        "line": _half(now[:2], now[2], 1)[1],
        "lastLine": _half(then[:2], then[2], 1)[1],
    }


def _bound_and_updates(X, y, normal):
    p = Perceptron(2)
    p.fit(X, y, max_epochs=200_000)
    return novikoff_bound(add_bias_column(X), y, normal), p.updates


@measurement("bound", relative=1e-6, seconds=4)
def measure_bound():
    """Bound and corrections of 300 random sets of 40 points, and of AND with one input scaled."""
    found = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        wanted = 10 ** rng.uniform(-2.3, -0.3)
        normal = rng.normal(size=3)
        normal /= np.linalg.norm(normal)
        X = rng.normal(size=(5_000, 2))
        scores = add_bias_column(X) @ normal
        keep = np.flatnonzero(np.abs(scores) > wanted)[:2000]
        keep = keep[np.argsort(np.abs(scores[keep]))[:40]]  # the hardest, in a random order
        rng.shuffle(keep)
        found.append(_bound_and_updates(X[keep], np.sign(scores[keep]), normal))
    scaled = [
        _bound_and_updates(SQUARE * [1, scale], AND, np.array([2, 2 / scale, -3]))
        for scale in (1, 3, 10, 30, 100)
    ]
    return {"random": found, "scaled": scaled}


@figure("bound")
def bound(plt):
    fig, ax = plt.subplots(figsize=(7, 3.9))
    found, scaled = (np.array(measured("bound")[entry]) for entry in ("random", "scaled"))
    ax.loglog(*found.T, ".", color=COLORS["blue"], markersize=5, label="random data")
    ax.loglog(*scaled.T, "x", color=COLORS["black"], label="AND, x₂ times 1 to 100")
    ends = np.array([2, 1.3 * max(found[:, 0].max(), scaled[-1][0])])
    ax.loglog(ends, ends, color=COLORS["vermillion"])
    ax.fill_between(ends, ends, 1e7, color="#f1f1f1", linewidth=0)
    ax.text(60, 3e3, "impossible", color=COLORS["grey"])
    ax.text(7e3, 1.3e4, "corrections = bound", color=COLORS["vermillion"], ha="right")
    ax.legend(loc="lower right")
    ax.set_ylim(0.8, ends[1])
    ax.set_xlim(*ends)
    ax.set_xlabel("the bound (R/γ)²")
    ax.set_ylabel("corrections until no mistake")
    return fig


@figure("squeeze")
def squeeze(plt):
    fig, ax = plt.subplots(figsize=(7, 3.6))
    X, u = add_bias_column(SQUARE), np.array([2, 2, -3]) / np.sqrt(17)
    w, path = np.zeros(3), [np.zeros(3)]
    for visit in range(36):  # nine epochs
        if AND[visit % 4] * (w @ X[visit % 4]) <= 0:
            w = w + AND[visit % 4] * X[visit % 4]
            path.append(w)
    path, k = np.array(path), np.linspace(0, 60, 241)
    grey = {"color": COLORS["grey"], "linestyle": "--", "linewidth": 1.4}
    ax.plot(k, k / np.sqrt(17), **grey)
    ax.plot(k, np.sqrt(3 * k), **grey)
    done = np.arange(len(path))
    length = np.linalg.norm(path, axis=1)
    ax.plot(done, length, "o-", color=COLORS["blue"], markersize=3, label="length of w")
    ax.plot(done, path @ u, "s-", color=COLORS["vermillion"], markersize=3, label="u · w")
    ax.legend(loc="upper left")
    ax.text(26, 9.3, "ceiling, √(3k)", color=COLORS["grey"], ha="right")
    ax.text(33, 7.4, "floor, 0.243 k", color=COLORS["grey"])
    ax.plot([51, 51], [0, 3 * np.sqrt(17)], color=COLORS["black"], linewidth=0.8)
    ax.plot(51, 3 * np.sqrt(17), "o", color=COLORS["black"], markersize=5)
    ax.text(50.4, 0.4, "k = 51: no room left", ha="right")
    ax.set_xlabel("corrections k")
    ax.set_xlim(0, 60)
    ax.set_ylim(0, 15)
    return fig


@figure("turning")
def turning(plt):
    fig, axes = plt.subplots(1, 6, figsize=(7, 1.75))
    points = np.array([[np.cos(a), np.sin(a)] for a in np.radians([80, 125, 200])])
    for ax, degrees in zip(axes, (12, 72, 140, 192, 252, 320), strict=True):
        w = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
        _half_planes(ax, w, 0, -1.4, 1.4)
        _examples(ax, points, np.where(points @ w > 0, 1, -1), size=32)
        ax.annotate(
            "",
            0.75 * w,
            (0, 0),
            arrowprops={"arrowstyle": "-|>", "color": COLORS["black"], "linewidth": 1.2},
        )
        ax.set_xticks([])
        ax.set_yticks([])
        signs = "".join("+" if score > 0 else "−" for score in points @ w)
        ax.set_title(signs, fontsize=11)
    return fig


@figure("xor")
def xor(plt):
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2))
    _half_planes(left, (-1, -1), 1.5)
    _examples(left, SQUARE, XOR)
    left.text(0.12, -0.03, "wrong", va="center")
    left.set_xticks([0, 1])
    left.set_yticks([0, 1])
    left.set_xlabel("$x_1$")
    left.set_ylabel("$x_2$")
    total, both = SQUARE.sum(axis=1), SQUARE.prod(axis=1)
    x, y = np.meshgrid([-0.4, 2.4], [-0.6, 1.6])
    score = x - 2 * y - 0.5
    right.contourf(x, y, score, levels=[-1e9, 0, 1e9], colors=["#dcebf6", "#fbe6da"])
    right.contour(x, y, score, levels=[0], colors=COLORS["black"], linewidths=1.6)
    _examples(right, np.stack([total, both], axis=1), XOR)
    right.text(1, -0.18, "(0, 1) and (1, 0)", ha="center", va="top")
    right.text(0, 0.15, "(0, 0)", ha="center")
    right.text(1.9, 1.1, "(1, 1)", ha="right", va="center")
    right.set_xticks([0, 1, 2])
    right.set_yticks([0, 1])
    right.set_xlabel("$x_1 + x_2$")
    right.set_ylabel("$x_1x_2$")
    right.set_aspect("equal")
    return fig


@measurement("digit-weights", relative=1e-4, absolute=1e-4, seconds=4)
def measure_digit_weights():
    """The averaged weights of ten perceptrons, one a digit, each against the rest."""
    digits = load_digits()
    X, order = digits.data / 16, np.random.default_rng(0).permutation(1797)
    train = order[:1437]
    weights = []
    for digit in range(10):
        p = Perceptron(64)
        p.fit(X[train], np.where(digits.target[train] == digit, 1, -1), 20)
        weights.append(p.averaged().weights)
    return {"weights": weights}


@figure("digit-weights")
def digit_weights(plt):
    fig, axes = plt.subplots(2, 5, figsize=(7, 3.1))
    found = np.array(measured("digit-weights")["weights"]).reshape(10, 8, 8)
    for digit, (ax, weights) in enumerate(zip(axes.flat, found, strict=True)):
        most = np.abs(weights).max()
        ax.imshow(weights, cmap="RdBu_r", vmin=-most, vmax=most)
        ax.set_title(str(digit))
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
    return fig
