"""Figures of neural-networks/regularization.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.neural_networks.regularization import bias_variance


def sine(x):
    return np.sin(np.pi * x)


@figure("three-penalties")
def three_penalties(plt):
    rng = np.random.default_rng(1)
    x = np.linspace(-1, 1, 15)
    y = sine(x) + 0.2 * rng.normal(size=15)
    grid = np.linspace(-1, 1, 400)
    fig, axes = plt.subplots(1, 3, figsize=(7, 2.7), sharey=True)
    for ax, lam, title in zip(axes, (0, 1e-3, 10), ("λ = 0", "λ = 0.001", "λ = 10"), strict=True):
        Phi = x[:, None] ** np.arange(15)
        w = np.linalg.pinv(Phi) @ y
        if lam:
            w = np.linalg.solve(Phi.T @ Phi + lam * np.eye(15), Phi.T @ y)
        ax.plot(grid, sine(grid), color=COLORS["grey"], linewidth=1.2)
        ax.plot(grid, grid[:, None] ** np.arange(15) @ w, color=COLORS["blue"], linewidth=2)
        ax.plot(x, y, "o", color=COLORS["vermillion"], markersize=4.5)
        ax.set_ylim(-2.2, 2.2)
        ax.set_title(title)
        ax.set_xlabel("x")
    axes[0].set_ylabel("y")
    return fig


@interactive(
    "three-penalties",
    states=[
        {"lambda": 0},
        {"lambda": 0, "sample": 3},
        {"lambda": 3.65e-11, "sample": 4},
        {"lambda": 10},
        {"lambda": 100, "sample": 6},
    ],
    tolerance=1e-6,  # the condition number, a million, takes six of the sixteen digits
)
def three_penalties_model(state):
    x, grid = np.linspace(-1, 1, 15), np.linspace(-1, 1, 200)
    noise = np.round([np.random.default_rng(seed).normal(size=15) for seed in range(1, 7)], 6)
    samples = sine(x) + 0.2 * noise
    U, S, Vt = np.linalg.svd(x[:, None] ** np.arange(15))

    def fit(y, lam):
        return Vt.T @ (S / (S**2 + lam) * (U.T @ y))

    def curve(w, places):
        return places[:, None] ** np.arange(15) @ w

    def errors(w):
        misses = curve(w, x) - y, curve(w, grid) - sine(grid)
        return [np.sqrt(np.mean(miss**2)) for miss in misses]

    y, lam = samples[state["sample"] - 1], state["lambda"]
    lambdas = np.append(0, 10 ** (np.arange(50) / 4 - 10.25))
    training, to_sine = np.array([errors(fit(y, each)) for each in lambdas]).T
    w = fit(y, lam)
    return {
        "y": y,
        "training": errors(w)[0],
        "toSine": errors(w)[1],
        "size": np.linalg.norm(w),
        "curve": curve(w, grid),
        "others": [curve(fit(each, lam), grid) for each in samples],
        "lambdas": lambdas,
        "trainingPath": training,
        "sinePath": to_sine,
    }


@measurement("double-descent", relative=0.02, seconds=10)
def measure_double_descent():
    """Squared bias and variance by the number of features, with hardly any penalty and with one."""
    widths = np.array([5, 10, 15, 20, 24, 27, 29, 30, 31, 33, 37, 45, 60, 90, 130, 200])
    fixed = np.random.default_rng(0)
    direction, shift = fixed.normal(size=(5, 200)), fixed.normal(size=200)
    target = fixed.normal(size=5) / 5**0.5
    points = fixed.normal(size=(200, 5))

    def features(X, width):
        return np.maximum(X @ direction[:, :width] + shift[:width], 0)

    def data(rng):
        X = rng.normal(size=(30, 5))
        return X, np.tanh(2 * X @ target) + 0.3 * rng.normal(size=30)

    def learner(width, lam):
        def fit(X, y):
            Phi = features(X, width)
            U, S, Vt = np.linalg.svd(Phi, full_matrices=False)
            w = Vt.T @ (S / (S**2 + lam) * (U.T @ y))
            return lambda fresh: features(fresh, width) @ w

        return fit

    truth = np.tanh(2 * points @ target)
    found = {"widths": widths}
    for name, lam in (("hardly", 1e-10), ("penalty", 3.0)):
        found[name] = [
            bias_variance(learner(width, lam), data, points, truth, 100, np.random.default_rng(1))
            for width in widths
        ]
    return found


@figure("double-descent")
def double_descent(plt):
    found = measured("double-descent")
    widths, parts, penalized = found["widths"], found["hardly"], found["penalty"]
    fig, ax = plt.subplots(figsize=(6.4, 3.4))
    ax.semilogy(widths, [p[0] for p in parts], color=COLORS["blue"], linewidth=2)
    ax.semilogy(widths, [p[1] for p in parts], color=COLORS["vermillion"], linewidth=2)
    ax.semilogy(widths, [sum(p) for p in penalized], "--", color=COLORS["black"], linewidth=1.6)
    ax.axvline(30, color=COLORS["light"], linewidth=1, zorder=0)
    ax.text(33, parts[7][1] * 0.8, "variance", color=COLORS["vermillion"])
    ax.text(163, parts[-1][0] * 1.25, "bias²", color=COLORS["blue"])
    ax.text(120, sum(penalized[-2]) * 0.55, "both, λ = 3", color=COLORS["black"])
    ax.set_xlabel("features (30 examples)")
    ax.set_ylabel("squared error to the truth")
    return fig


@figure("two-maps")
def two_maps(plt):
    fig, axes = plt.subplots(1, 2, figsize=(7, 3), sharey=True)
    a = np.linspace(-3, 3, 301)
    ridge, lasso = a / 2, np.sign(a) * np.maximum(np.abs(a) - 1, 0)
    for ax, after, title in zip(
        axes, (ridge, lasso), ("L2: halves", "L1: subtracts 1"), strict=True
    ):
        ax.plot(a, a, color=COLORS["grey"], linewidth=1.2, linestyle="--")
        ax.plot(a, after, color=COLORS["blue"], linewidth=2)
        places = np.array([3.0, 0.5, -2.0])
        ax.plot(places, np.interp(places, a, after), "o", color=COLORS["vermillion"], markersize=5)
        ax.set_title(title)
        ax.set_xlabel("weight without penalty")
        ax.set_aspect("equal")
    axes[0].set_ylabel("weight with penalty, λ = 1")
    return fig


@figure("norm-axes")
def norm_axes(plt):
    fig, axes = plt.subplots(2, 2, figsize=(7, 5.6))
    n = 4
    right, up, deep = np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([0.5, 0.36])

    def face(ax, corner, a, b, colour):
        quad = np.array([corner, corner + a, corner + a + b, corner + b])
        ax.fill(*quad.T, facecolor=colour, edgecolor=COLORS["grey"], linewidth=0.7)

    def place(t, f, b):
        return t * right + f * up + b * deep

    def cube(ax, title, note, inside, colour):
        for t in range(n):
            for f in range(n):
                face(ax, place(t, f, 0), right, up, colour if inside(0, t, f) else "white")
            for b in range(n):
                face(ax, place(t, n, b), right, deep, colour if inside(b, t, n - 1) else "white")
        for f in range(n):
            for b in range(n):
                face(ax, place(n, f, b), up, deep, colour if inside(b, n - 1, f) else "white")
        ax.set_title(title)
        ax.text(n / 2, -0.3, "token", ha="center", va="top", fontsize=9)
        ax.text(-0.2, n / 2, "feature", ha="right", va="center", rotation=90, fontsize=9)
        ax.text(n + 1.35, 0.35, "batch", ha="left", va="center", rotation=36, fontsize=9)
        ax.text((n + 2) / 2, -1.15, note, ha="center", va="top", fontsize=9)
        ax.set_xlim(-1, 6.6)
        ax.set_ylim(-1.7, 5.6)
        ax.set_aspect("equal")
        ax.axis("off")

    both, one = "mean and deviation", "root mean square only"
    last = lambda b, t, f: b == 0 and t == 3  # noqa: E731
    half = lambda b, t, f: b == 0 and t == 3 and f > 1  # noqa: E731
    cube(axes[0, 0], "batch norm", both, lambda b, t, f: f == 3, COLORS["orange"])
    cube(axes[0, 1], "layer norm", both, last, COLORS["sky"])
    cube(axes[1, 0], "group norm, two groups", both, half, COLORS["purple"])
    cube(axes[1, 1], "RMSNorm", one, last, COLORS["green"])
    return fig


@figure("ridge-early")
def ridge_early(plt):
    fig, axes = plt.subplots(1, 2, figsize=(7, 3.1))
    s = np.linspace(0.01, 4, 300)
    lr, t = 0.05, 20
    axes[0].plot(s, s**2 / (s**2 + 1 / (lr * t)), color=COLORS["blue"], linewidth=2, label="ridge")
    axes[0].plot(
        s,
        1 - (1 - lr * s**2) ** t,
        color=COLORS["vermillion"],
        linewidth=2,
        label="stopped at step 20",
    )
    axes[0].set_xlabel("singular value σ")
    axes[0].set_ylabel("share of least squares")
    axes[0].legend(loc="lower right")
    V = np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    values, best = np.array([2.0, 0.5]), np.array([1.2, 1.0])
    along = V.T @ best
    circle = np.linspace(0, 2 * np.pi, 200)
    for radius in (0.35, 0.7, 1.05, 1.4):
        ring = np.stack([np.cos(circle), np.sin(circle)]) * radius / values[:, None]
        axes[1].plot(*(best[:, None] + V @ ring), color=COLORS["light"], linewidth=1)
    lam = np.geomspace(1e-3, 1e3, 300)[:, None]
    steps = np.geomspace(0.1, 5000, 300)[:, None]
    ridge = (values**2 / (values**2 + lam) * along) @ V.T
    early = ((1 - (1 - 0.05 * values**2) ** steps) * along) @ V.T
    axes[1].plot(*ridge.T, color=COLORS["blue"], linewidth=2)
    axes[1].plot(*early.T, color=COLORS["vermillion"], linewidth=2)
    axes[1].plot(*best, "o", color=COLORS["black"])
    axes[1].text(best[0] + 0.08, best[1] - 0.02, "least squares", fontsize=9, va="top")
    axes[1].plot(0, 0, "o", color=COLORS["black"])
    axes[1].text(0.06, -0.06, "0", fontsize=9, va="top")
    axes[1].set_xlim(-0.3, 2.2)
    axes[1].set_ylim(-0.3, 1.7)
    axes[1].set_xlabel("first weight")
    axes[1].set_ylabel("second weight")
    return fig
