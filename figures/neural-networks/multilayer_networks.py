"""Figures of neural-networks/multilayer-networks.md."""

from __future__ import annotations

from functools import cache

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.neural_networks.multilayer_networks import (
    count_linear_pieces,
    random_features_ridge,
    relu_interpolator,
    tent_network,
    xor_network,
)
from chainrule.neural_networks.perceptron import sigmoid

SQUARE = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
XOR = np.array([-1, 1, 1, -1])
PALE_BLUE, PALE_RED = "#dcebf6", "#fbe6da"


def _examples(ax, points, labels, size=70):
    for label, marker, colour in ((1, "o", "vermillion"), (-1, "s", "blue")):
        ax.scatter(
            *points[labels == label].T, s=size, marker=marker, color=COLORS[colour], zorder=4
        )


def _fitted_line(X, label):
    mean, target = X.mean(axis=0), label.mean()
    centred = X - mean
    A = np.linalg.solve(centred.T @ centred + 1e-4 * np.eye(2), centred.T @ (label - target))
    return A, target - A @ mean


@figure("xor-fold")
def xor_fold(plt):
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2), width_ratios=[1, 1.25])
    ends = np.array([-0.5, 1.5])
    left.set_facecolor(PALE_BLUE)
    left.fill_between(ends, 0.5 - ends, 1.5 - ends, color=PALE_RED, linewidth=0)
    for offset, name, place in ((0, "$h_1$ on", (-0.44, 0.52)), (1, "$h_2$ on", (0.14, 0.98))):
        left.plot(ends, offset - ends, color=COLORS["black"], linewidth=1.4)
        left.text(*place, name, rotation=-45, rotation_mode="anchor")
    _examples(left, SQUARE, XOR)
    left.set_xlim(*ends)
    left.set_ylim(*ends)
    left.set_xticks([0, 1])
    left.set_yticks([0, 1])
    left.set_xlabel("$x_1$")
    left.set_ylabel("$x_2$")
    left.set_aspect("equal")
    hidden = xor_network().forward(SQUARE)[1][1]
    x = np.array([-0.4, 2.5])
    right.set_facecolor(PALE_BLUE)
    right.fill_between(x, (x - 0.5) / 2, -1, color=PALE_RED, linewidth=0)
    right.plot(x, (x - 0.5) / 2, color=COLORS["black"], linewidth=1.4)
    right.text(1.15, 0.42, "$h_1 - 2h_2 = ½$", rotation=26.6, rotation_mode="anchor")
    _examples(right, hidden, XOR)
    right.text(1.08, -0.13, "(0, 1) and (1, 0)", va="top", ha="center")
    right.text(0, 0.15, "(0, 0)", ha="center")
    right.text(1.92, 1.06, "(1, 1)", ha="right")
    right.set_xlim(*x)
    right.set_ylim(-0.5, 1.5)
    right.set_xticks([0, 1, 2])
    right.set_yticks([0, 1])
    right.set_xlabel("$h_1$")
    right.set_ylabel("$h_2$")
    right.set_aspect("equal")
    return fig


@figure("hat")
def hat(plt):
    fig, ax = plt.subplots(figsize=(5, 3.2))
    x = np.linspace(-0.6, 3, 721)
    for knot, weight, colour in ((0, 1, "sky"), (1, -2, "orange"), (2, 1, "green")):
        name = f"{weight}·max(x − {knot}, 0)".replace("-", "−").replace("− 0", "")
        name = name.replace("(x , 0)", "(x, 0)").replace("1·", "")
        ax.plot(x, weight * np.maximum(x - knot, 0), "--", color=COLORS[colour], label=name)
    net = relu_interpolator(lambda k: 1 - np.abs(k - 1), np.array([0.0, 1.0, 2.0]))
    ax.plot(x, net(x[:, None]).ravel(), color=COLORS["black"], linewidth=2.6, label="their sum")
    ax.set_ylim(-2.2, 2.2)
    ax.set_xlabel("x")
    ax.legend(loc="lower left")
    return fig


TURN = 2 * np.pi
# Name: the function, the largest |f″| (0 where there is none), the most it varies within h.
FUNCTIONS = {
    "sin x": (np.sin, 1.0, lambda h: 2 * np.sin(min(h, np.pi) / 2)),
    "sigmoid": (
        lambda x: sigmoid(6 * (x - np.pi)),
        36 / (6 * np.sqrt(3)),
        lambda h: sigmoid(np.float64(3 * h)) - sigmoid(np.float64(-3 * h)),
    ),
    "|x − 2.1|": (lambda x: np.abs(x - 2.1), 0.0, lambda h: min(h, TURN - 2.1)),
    "√x": (np.sqrt, 0.0, lambda h: h**0.5),
    "jump": (lambda x: np.where(x >= 2.1, 1.0, 0.0), 0.0, lambda h: 1.0),
}


@cache
def _errors(name, n):
    """Where the network with n pieces was compared with the function, and by how much it is off."""
    f = FUNCTIONS[name][0]
    x = np.linspace(0, TURN, 4001)
    net = relu_interpolator(f, np.linspace(0, TURN, n + 1))
    return x, np.abs(f(x) - net(x[:, None]).ravel())


def _largest_error(name, n):
    return _errors(name, n)[1].max()


@figure("hats")
def hats(plt):
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.3))
    x, knots = np.linspace(0, TURN, 721), np.linspace(0, TURN, 9)
    for i, knot in enumerate(knots):
        heights = np.sin(knot) * (np.arange(9) == i)
        label = "its hats" if i == 1 else None
        left.plot(knots, heights, color=COLORS["sky"], linewidth=1.2, label=label)
    left.plot(x, np.sin(x), color=COLORS["black"], linewidth=2.6, label="sin x")
    net = relu_interpolator(np.sin, knots)
    left.plot(x, net(x[:, None]).ravel(), color=COLORS["blue"], label="network")
    left.plot(knots, np.sin(knots), "o", color=COLORS["blue"], markersize=5)
    left.set_xticks([0, np.pi, TURN], ["0", "π", "2π"])
    left.set_xlabel("x")
    left.legend(loc="upper right")
    counts = 2 ** np.arange(7)
    for name, colour, raised in (
        ("sin x", "black", 1),
        ("|x − 2.1|", "vermillion", 0.85),
        ("√x", "purple", 1.2),
        ("jump", "orange", 1),
    ):
        errors = [_largest_error(name, int(n)) for n in counts]
        right.loglog(counts, errors, "o-", color=COLORS[colour], markersize=4)
        right.text(76, raised * errors[-1], name, color=COLORS[colour], va="center")
    right.loglog(counts, TURN**2 / (8 * counts**2), "--", color=COLORS["green"])
    right.text(1.75, 2.4, "bound for sin x", color=COLORS["green"])
    right.set_xlim(0.85, 400)
    right.set_xticks(counts, [str(n) for n in counts])
    right.minorticks_off()
    right.set_xlabel("pieces n")
    right.set_title("largest error")
    return fig


@interactive(
    "hats",
    states=[
        {"n": 1},
        {"n": 64},
        {"n": 9, "name": "sigmoid"},
        {"n": 22, "name": "|x − 2.1|"},
        {"n": 16, "name": "√x"},
        {"n": 33, "name": "jump"},
    ],
)
def hats_model(state):
    n, name = state["n"], state["name"]
    f, most, varies = FUNCTIONS[name]
    knots = np.linspace(0, TURN, n + 1)
    x, errors = _errors(name, n)
    at = x[np.flatnonzero(errors > errors.max() - 1e-9)[0]]
    net = relu_interpolator(f, knots)
    return {
        "units": net.sizes[1],
        "knots": np.stack([knots, f(knots)], axis=1),
        "graph": np.stack([x[::10], f(x[::10])], axis=1),
        "error": errors.max(),
        "gap": [[at, f(at)], [at, net(np.array([[at]])).item()]],
        "twice": _largest_error(name, 2 * n),
        "ratio": _largest_error(name, 2 * n) / errors.max(),
        "most": most,
        "bound": most * (TURN / n) ** 2 / 8,
        "bounds": most * TURN**2 / 8 / np.array([1, 64]) ** 2,
        "varies": varies(TURN / n),
        "curves": [[_largest_error(each, k) for k in range(1, 65)] for each in FUNCTIONS],
    }


@figure("regions")
def regions(plt):
    fig, ax = plt.subplots(figsize=(5, 3.4))
    x = np.array([-3.2, 3.2])
    for slope, name in ((1.1, "first"), (-1.1, "second")):
        ax.plot(x, slope * x + 0.6, color=COLORS["black"], linewidth=1.6)
        ax.text(1.32 * np.sign(slope), 2.15, name, ha="right" if slope > 0 else "left")
    height = -0.9  # the third line; the other two meet it at ±crossing
    crossing = (0.6 - height) / 1.1
    parts = ((-3.2, -crossing), (-crossing, crossing), (crossing, 3.2))
    for part, colour in zip(parts, ("blue", "vermillion", "green"), strict=True):
        ax.plot(part, [height, height], color=COLORS[colour], linewidth=3)
    ax.text(3.15, height + 0.12, "third", ha="right")
    centres = ((0, 2), (-2.2, 0.6), (0, -0.3), (2.2, 0.6), (-2.6, -1.6), (0, -1.6), (2.6, -1.6))
    for number, centre in enumerate(centres, start=1):
        ax.text(*centre, str(number), ha="center", va="center", color=COLORS["grey"], fontsize=13)
    ax.set_xlim(*x)
    ax.set_ylim(-2.2, 2.6)
    ax.set_xticks([])
    ax.set_yticks([])
    return fig


@figure("pieces")
def pieces(plt):
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.3), width_ratios=[1, 1.3])
    x = np.linspace(0, 1, 1025)
    for k, colour in ((1, "orange"), (2, "blue"), (4, "black")):
        y = tent_network(k)(x[:, None]).ravel() + {1: 2.4, 2: 1.2, 4: 0}[k]
        left.plot(x, y, color=COLORS[colour], linewidth=1.4)
        left.text(1.03, {1: 2.4, 2: 1.2, 4: 0}[k] + 0.4, f"$T^{k}$", color=COLORS[colour])
    left.set_xticks([0, 1])
    left.set_yticks([])
    left.spines["left"].set_visible(False)
    left.set_xlabel("x")
    units = np.arange(1, 61)
    for depth, colour in ((1, "vermillion"), (2, "orange"), (3, "sky"), (5, "blue")):
        chosen = units[units % depth == 0]
        right.semilogy(chosen, (chosen / depth + 1.0) ** depth, color=COLORS[colour])
        height = (60 / depth + 1.0) ** depth
        name = "1 layer" if depth == 1 else f"{depth}"
        right.text(61, height, name, color=COLORS[colour], va="center")
    counts = [count_linear_pieces(tent_network(k), 0.0, 1.0) for k in range(1, 13)]
    right.semilogy(2 * np.arange(1, 13), counts, "o", color=COLORS["black"], markersize=4)
    right.text(3, 2e4, "dots: tents,\n2 units a layer")
    right.set_xlim(0, 70)
    right.set_ylim(1, 1e6)
    right.set_xlabel("hidden units")
    right.set_ylabel("pieces on a line, at most")
    return fig


@measurement("spirals", absolute=1e-3, seconds=1)
def measure_spirals():
    """The points as the fitted layer shows them, and the line fitted to the points themselves."""
    u = np.linspace(0.1, 1, 150)
    arm = u[:, None] * np.stack([np.cos(3 * np.pi * u), np.sin(3 * np.pi * u)], axis=1)
    X, label = np.concatenate([arm, -arm]), np.repeat([1.0, -1.0], 150)
    targets = np.stack([np.tile(u, 2), label], axis=1)
    seen = random_features_ridge(X, targets, 200, 1e-4, np.random.default_rng(0))(X)
    A, b = _fitted_line(X, label)
    return {"points": X, "label": label, "seen": seen, "line": [*A, b]}


@figure("spirals")
def spirals(plt):
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.3), width_ratios=[1, 1.15])
    found = measured("spirals")
    label, (a0, a1, b) = np.array(found["label"]), found["line"]
    _examples(left, np.array(found["points"]), label, size=9)
    _examples(right, np.array(found["seen"]), label, size=9)
    ends = np.array([-1.1, 1.1])
    left.plot(ends, -(a0 * ends + b) / a1, color=COLORS["black"], linewidth=1.4)
    left.set_xlim(*ends)
    left.set_ylim(*ends)
    left.set_aspect("equal")
    left.set_xlabel("$x_1$")
    left.set_ylabel("$x_2$")
    right.axhline(0, color=COLORS["black"], linewidth=1.4)
    right.set_ylim(-1.6, 1.6)
    right.set_xlabel("fitted to: position along the arm")
    right.set_ylabel("fitted to: which arm")
    return fig


@measurement("features", absolute={"random": 1.2, "learned": 2.5, "pixels": 1.2}, seconds=4)
def measure_features():
    """Held-out scans read rightly, in per cent, a row a division of the scans."""
    X, y = load_digits(return_X_y=True)
    X = X / 16
    widths = [16, 32, 64, 128, 256, 512, 1024]
    found = {"random": [], "learned": [], "pixels": []}
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(1797)
        fitted, held = order[:1437], order[1437:]
        one_hot = np.eye(10)[y[fitted]]

        def right(answers, held=held):
            return 100 * np.mean(answers == y[held])

        nets = [
            random_features_ridge(X[fitted], one_hot, H, 0.1, np.random.default_rng(seed))
            for H in widths
        ]
        found["random"].append([right(net(X[held]).argmax(axis=1)) for net in nets])
        teacher = MLPClassifier(64, learning_rate_init=0.01, tol=1e-3, random_state=seed)
        found["learned"].append(right(teacher.fit(X[fitted], y[fitted]).predict(X[held])))
        mean, target = X[fitted].mean(axis=0), one_hot.mean(axis=0)
        centred = X[fitted] - mean
        gram = centred.T @ centred + 0.1 * np.eye(64)
        A = np.linalg.solve(gram, centred.T @ (one_hot - target))
        found["pixels"].append(right(((X[held] - mean) @ A + target).argmax(axis=1)))
    return {"widths": widths, **found}


@figure("features")
def features(plt):
    fig, ax = plt.subplots(figsize=(7, 3.5))
    found = measured("features")
    widths, random = found["widths"], np.array(found["random"]).T
    ax.semilogx(widths, random, ".", color=COLORS["blue"], alpha=0.5)
    ax.semilogx(widths, random.mean(axis=1), color=COLORS["blue"])
    learned, pixels = np.mean(found["learned"]), np.mean(found["pixels"])
    ax.plot([64], [learned], "D", color=COLORS["vermillion"], markersize=8)
    ax.text(58, learned + 0.6, "64 learned", color=COLORS["vermillion"], ha="right")
    ax.plot([64], [pixels], "s", color=COLORS["black"], markersize=8)
    ax.text(58, pixels + 0.4, "the 64 pixels", ha="right")
    ax.text(300, 95.5, "random features", color=COLORS["blue"])
    ax.set_ylim(54, 101)
    ax.set_xticks(widths, [f"{H:,}" for H in widths])
    ax.minorticks_off()
    ax.set_xlabel("hidden units")
    ax.set_ylabel("held-out scans right, %")
    ax.grid(True, axis="y")
    return fig
