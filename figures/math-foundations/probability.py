"""Figures of math-foundations/probability.md."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.math_foundations.probability import (
    Categorical,
    Gaussian,
    mle_gaussian,
    normal_cdf,
    softmax,
)


@figure("density")
def density(plt):
    sigma, a, b = 0.1, -0.05, 0.02
    x = np.linspace(-0.3, 0.3, 601)
    rise = normal_cdf(np.array([a, b]) / sigma)
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.3))
    left.plot(x, normal_cdf(x / sigma), color=COLORS["blue"])
    left.plot([a, b, b], [rise[0], rise[0], rise[1]], color=COLORS["vermillion"])
    left.annotate(
        f"rise {rise[1] - rise[0]:.2f}",
        (b, rise.mean()),
        (0.08, rise.mean() - 0.06),
        color=COLORS["vermillion"],
        arrowprops={"arrowstyle": "-", "lw": 0.7},
    )
    left.set_title("distribution function")
    left.set_ylabel("probability of at most x")
    bell = np.exp(-((x / sigma) ** 2) / 2) / (sigma * np.sqrt(2 * np.pi))
    inside = (x >= a) & (x <= b)
    right.fill_between(x[inside], bell[inside], color=COLORS["vermillion"], alpha=0.35, lw=0)
    right.plot(x, bell, color=COLORS["blue"])
    right.annotate(
        f"area {rise[1] - rise[0]:.2f}",
        (-0.005, 1.6),
        (0.12, 2.3),
        color=COLORS["vermillion"],
        arrowprops={"arrowstyle": "-", "lw": 0.7},
    )
    right.axhline(1, color=COLORS["grey"], linestyle=":", linewidth=1)
    right.text(-0.3, 1.08, "1", color=COLORS["grey"])
    right.set_ylim(0, 4.3)
    right.set_title("density: its slope")
    right.set_ylabel("probability per unit of x")
    for ax in (left, right):
        ax.set_xlabel("x")
    return fig


@figure("cloud")
def cloud(plt):
    mu, mix = np.array([1.0, -2.0]), np.array([[2.0, 0.0], [1.0, 2.0]])
    z = np.random.default_rng(4).standard_normal((250, 2))
    turn = np.linspace(0, 2 * np.pi, 200)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    marked = np.array([0.5, -1.0])
    fig, axes = plt.subplots(1, 2, figsize=(7.6, 3.6))
    for ax, place in zip(axes, (lambda p: p, lambda p: mu + p @ mix.T), strict=True):
        ax.plot(*place(z).T, ".", color=COLORS["sky"], markersize=4)
        for radius in (1, 2):
            ax.plot(*place(radius * circle).T, color=COLORS["blue"], linewidth=1.4)
        ax.plot(*place(marked), "o", color=COLORS["vermillion"])
        ax.set_aspect("equal", adjustable="datalim")
    axes[0].set_title("separate draws")
    axes[1].set_title("mixed and moved")
    axes[0].set_xlabel("z₁")
    axes[0].set_ylabel("z₂")
    axes[1].set_xlabel("first number")
    axes[1].set_ylabel("second number")
    return fig


@figure("people")
def people(plt):
    field = np.zeros((100, 100), dtype=int)  # 0 healthy, negative
    field[:, 0] = 2  # sick, positive
    field[0, 0] = 3  # sick, negative
    order = [(row, column) for column in range(1, 100) for row in range(100)]
    for row, column in order[:495]:
        field[row, column] = 1
    fig, ax = plt.subplots(figsize=(6.6, 4.4))
    tones = ("light", "blue", "vermillion", "black")
    colors = np.array([[int(COLORS[t][i : i + 2], 16) / 255 for i in (1, 3, 5)] for t in tones])
    ax.imshow(colors[field])
    for line in np.arange(101) - 0.5:
        ax.plot([-0.5, 99.5], [line, line], color="white", linewidth=0.5)
        ax.plot([line, line], [-0.5, 99.5], color="white", linewidth=0.5)
    ax.set_aspect("equal")
    ax.set_xlim(-2, 150)
    ax.set_ylim(101, -2)
    ax.axis("off")
    labels = [
        (16, "sick, positive: 99", "vermillion", (0, 14)),
        (4, "sick, negative: 1", "black", (0, 0)),
        (40, "healthy, positive: 495", "blue", (5, 40)),
        (70, "healthy, negative: 9,405", "grey", (70, 70)),
    ]
    for height, text, color, point in labels:
        ax.annotate(
            text,
            point,
            (103, height),
            color=COLORS[color],
            va="center",
            fontsize=10.5,
            arrowprops={"arrowstyle": "-", "lw": 0.8, "color": COLORS["grey"]},
        )
    return fig


@figure("dice")
def dice(plt):
    fig, axes = plt.subplots(1, 4, figsize=(7.8, 2.5), sharey=True)
    sums = np.ones(1)
    done = 0
    for ax, n in zip(axes, (1, 2, 5, 30), strict=True):
        for _ in range(n - done):
            sums = np.convolve(sums, np.full(6, 1 / 6))
        done = n
        means = np.arange(n, 6 * n + 1) / n
        ax.bar(means, sums * n, width=1 / n, color=COLORS["sky"], linewidth=0)
        grid = np.linspace(0.5, 6.5, 400)
        std = np.sqrt(35 / 12 / n)
        bell = np.exp(-(((grid - 3.5) / std) ** 2) / 2) / (std * np.sqrt(2 * np.pi))
        ax.plot(grid, bell, color=COLORS["vermillion"], linewidth=1.4)
        ax.set_title(f"n = {n}")
        ax.set_xticks(range(1, 7))
        ax.set_xlabel("mean")
    axes[0].set_ylabel("probability per unit")
    return fig


@measurement("drawn-digits", absolute=0.01, seconds=1)
def measure_drawn_digits():
    digits, rng = load_digits(), np.random.default_rng(3)
    scanned, drawn = [], []
    for digit in range(10):
        scans = digits.data[:1200][digits.target[:1200] == digit]
        mean, cov = mle_gaussian(scans)
        scanned.append(scans[0])
        drawn.append(np.round(Gaussian(mean, cov + np.eye(64)).sample(rng, 1)[0], 2))
    return {"scanned": scanned, "drawn": drawn}


@figure("drawn-digits")
def drawn_digits(plt):
    found = measured("drawn-digits")
    fig, axes = plt.subplots(2, 10, figsize=(7.8, 1.9))
    for digit in range(10):
        pictures = (np.array(found[row][digit]) for row in ("scanned", "drawn"))
        for ax, picture in zip(axes[:, digit], pictures, strict=True):
            ax.imshow(picture.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set(visible=True, color=COLORS["light"])
    axes[0, 0].set_ylabel("scanned")
    axes[1, 0].set_ylabel("drawn")
    return fig


def corner_plane(p):
    """Where a distribution over three classes lies in the triangle."""
    corners = np.array([[0, 0], [0.5, np.sqrt(3) / 2], [1, 0]])
    return p @ corners


@figure("temperature")
def temperature(plt):
    logits = np.array([1.0, 2.0, 3.0])
    tau = np.geomspace(0.05, 50, 300)
    p = softmax(logits / tau[:, None])
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.8, 3.4), width_ratios=(1.25, 1))
    for k, color in enumerate(("green", "vermillion", "blue")):
        left.semilogx(tau, p[:, k], color=COLORS[color])
        left.text(0.055, (0.06, 0.14, 0.94)[k], f"logit {k + 1}", color=COLORS[color])
    left.axvline(1, color=COLORS["grey"], linestyle=":", linewidth=1)
    left.text(1.08, 0.95, "τ = 1", color=COLORS["grey"])
    left.set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
    left.set_xlabel("temperature τ")
    left.set_ylabel("probability")
    triangle = corner_plane(np.eye(3)[[0, 1, 2, 0]])
    right.plot(*triangle.T, color=COLORS["grey"], linewidth=1)
    cold = np.geomspace(0.03, 300, 500)
    for angle in np.arange(0, 360, 15) + 4:
        turn = np.deg2rad(angle)
        x = np.cos(turn) * np.array([1, -1, 0]) / np.sqrt(2)
        x = x + np.sin(turn) * np.array([1, 1, -2]) / np.sqrt(6)
        path = corner_plane(softmax(x / cold[:, None]))
        right.plot(*path.T, color=COLORS["sky"], linewidth=0.9)
    path = corner_plane(softmax(logits / cold[:, None]))
    right.plot(*path.T, color=COLORS["black"], linewidth=2)
    for t in (0.5, 1, 2):
        point = corner_plane(softmax(logits / t))
        right.plot(*point, "o", color=COLORS["black"])
        right.annotate(
            f"τ = {t}",
            point,
            np.add(point, (0.12, 0.16)),
            fontsize=9,
            arrowprops={"arrowstyle": "-", "lw": 0.7},
            bbox={"color": "white", "pad": 1},
        )
    for corner, name, dx, dy in ((0, "1", -0.05, -0.07), (1, "2", 0, 0.03), (2, "3", 0.05, -0.07)):
        place = corner_plane(np.eye(3)[corner])
        color = COLORS[("green", "vermillion", "blue")[corner]]
        right.text(place[0] + dx, place[1] + dy, name, color=color, ha="center", fontsize=11)
    right.set_aspect("equal")
    right.set_xlim(-0.1, 1.12)
    right.set_ylim(-0.1, 0.98)
    right.axis("off")
    return fig


@interactive(
    "temperature",
    states=[
        {"tau": 0.05},
        {"tau": 50, "x1": -5, "x2": 5},
        {"tau": 0.5, "x1": 2.7, "x2": -0.4, "x3": 2.7},
        {"x1": 0, "x2": 0, "x3": 0},
    ],
)
def temperature_model(state):
    x = np.array([state["x1"], state["x2"], state["x3"]], dtype=float)
    p = softmax(x / state["tau"])
    entropy = Categorical(probs=p).entropy()
    taus, cold = np.geomspace(0.05, 50, 121), np.geomspace(0.03, 300, 81)
    turns = np.deg2rad(np.arange(0, 360, 15) + 4)[:, None]
    logits = np.cos(turns) * [1, -1, 0] / np.sqrt(2) + np.sin(turns) * [1, 1, -2] / np.sqrt(6)
    return {
        "p": p,
        "nats": entropy,
        "bits": entropy / np.log(2),
        "mostNats": np.log(3),
        "cold": (x == x.max()) / np.sum(x == x.max()),
        "hot": np.full(3, 1 / 3),
        "taus": taus,
        "curves": softmax(x / taus[:, None]),
        "point": corner_plane(p),
        "path": corner_plane(softmax(x / cold[:, None])),
        "flow": corner_plane(softmax(logits[:, None, :] / cold[:, None])),
    }
