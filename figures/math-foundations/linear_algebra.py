"""Figures of math-foundations/linear-algebra.md."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from chainrule.course.figures import COLORS, figure, interactive
from chainrule.math_foundations.linear_algebra import cosine_similarity, low_rank, pca, svd

CIRCLE = np.array([np.cos(np.linspace(0, 2 * np.pi, 241)), np.sin(np.linspace(0, 2 * np.pi, 241))])


def plane(ax, reach, title=""):
    """An empty coordinate plane with equal axes."""
    ax.set_aspect("equal")
    ax.set_xlim(-reach, reach)
    ax.set_ylim(-reach, reach)
    ax.axhline(0, color=COLORS["light"], linewidth=0.8, zorder=0)
    ax.axvline(0, color=COLORS["light"], linewidth=0.8, zorder=0)
    ax.set_title(title)


def arrow(ax, tip, color):
    ax.annotate(
        "",
        xy=tip,
        xytext=(0, 0),
        arrowprops={
            "arrowstyle": "-|>",
            "color": color,
            "linewidth": 1.8,
            "shrinkA": 0,
            "shrinkB": 0,
            "mutation_scale": 12,
        },
    )


@figure("unit-balls")
def unit_balls(plt):
    fig, ax = plt.subplots(figsize=(4.6, 4.2))
    plane(ax, 1.45)
    square = np.array([[-1, 1, 1, -1, -1], [-1, -1, 1, 1, -1]])
    diamond = np.array([[1, 0, -1, 0, 1], [0, 1, 0, -1, 0]])
    for ball, color in [(square, "green"), (CIRCLE, "blue"), (diamond, "vermillion")]:
        ax.fill(*ball, color=COLORS[color], alpha=0.10, linewidth=0)
        ax.plot(*ball, color=COLORS[color])
    ax.plot(0.6, 0.8, "o", color="black", markersize=6)
    ax.annotate("(0.6, 0.8)", (0.6, 0.8), (0.7, 1.12), arrowprops={"arrowstyle": "-", "lw": 0.7})
    ax.text(0, 0.34, "L1 ≤ 1", color=COLORS["vermillion"], ha="center", fontsize=11)
    ax.text(-0.605, 0.605, "L2 ≤ 1", color=COLORS["blue"], ha="center", va="center", rotation=45)
    ax.text(-0.98, 1.06, "L∞ ≤ 1", color=COLORS["green"], fontsize=11)
    ax.set_xlabel("first coordinate")
    ax.set_ylabel("second coordinate")
    return fig


@figure("matrix-on-circle")
def matrix_on_circle(plt):
    A = np.array([[4.0, 2.0], [1.0, 3.0]])
    eigenvectors = np.array([[2.0, 1.0], [1.0, -1.0]]) / np.sqrt([[5.0], [2.0]])
    singular = svd(A)[2]
    singular = singular * np.sign(singular[:, :1])
    fig, axes = plt.subplots(1, 2, figsize=(7.6, 3.6), sharey=True)
    titles = ["A only stretches these two", "these two stay perpendicular"]
    for ax, title, directions in zip(axes, titles, (eigenvectors, singular), strict=True):
        plane(ax, 5.6, title)
        ax.set_ylim(-4.1, 4.1)
        ax.plot(*CIRCLE, color=COLORS["grey"], linewidth=1.2)
        ax.plot(*(A @ CIRCLE), color=COLORS["black"], linewidth=1.2)
        for v, color in zip(directions, ("blue", "vermillion"), strict=True):
            image = A @ v
            length = np.linalg.norm(image)
            ax.plot(*np.transpose([-6 * v, 6 * v]), ":", color=COLORS[color], linewidth=1)
            arrow(ax, image, COLORS[color])
            arrow(ax, v, COLORS["black"])
            ax.text(
                *(image + (0.35 if v[1] > 0 else 0.6) * image / length + [0.1, 0]),
                f"× {length:.3g}",
                color=COLORS[color],
                fontsize=11,
                bbox={"color": "white", "pad": 1},
            )
        ax.set_xlabel("first coordinate")
    axes[0].set_ylabel("second coordinate")
    return fig


def rightward(v):
    """The vector or its negative: the one that points to the right, or straight up."""
    x, y = v / np.linalg.norm(v)
    return v / np.linalg.norm(v) * (np.sign(x) if abs(x) > 1e-9 else np.sign(y))


@interactive(
    "matrix-on-circle",
    states=[
        {"first": [2, 2], "second": [2, -1]},
        {"first": [1, 0], "second": [1, 1]},
        {"first": [0, 1], "second": [-1, 0]},
        {"first": [4, 2], "second": [2, 1]},
        {"first": [2, -1], "second": [1, 0]},
        {"first": [-2.5, 0], "second": [0, -2.5]},
        {"first": [-3.3, 1.7], "second": [0.3, 2.9]},
        {"first": [0.7, -0.1], "second": [-1.2, 0.9]},
        {"first": [0, 0], "second": [0, 0]},
        {"first": [0, 0], "second": [0, 3]},
    ],
)
def matrix_on_circle_model(state):
    A = np.transpose([state["first"], state["second"]]).astype(float)
    trace, determinant = np.trace(A), np.linalg.det(A)
    spread = trace**2 - 4 * determinant
    values, vectors, angle = [trace / 2, trace / 2], [], 0
    if np.array_equal(A, A[0, 0] * np.eye(2)):
        kind = "every"
    elif spread < -1e-6:
        kind, values = "complex", [trace / 2, np.linalg.eigvals(A).imag.max()]
    else:
        kind = "two" if spread > 1e-6 else "one"
        if kind == "two":
            values = np.sort(np.linalg.eigvals(A).real)[::-1]
        for value in values[: ("one", "two").index(kind) + 1]:
            # The kernel of A − λI: the singular direction whose singular value is 0.
            vectors.append(rightward(svd(A - value * np.eye(2))[2][-1]))
        if kind == "two":
            cosine = cosine_similarity(vectors[:1], vectors[1:]).item()
            angle = np.degrees(np.arccos(abs(cosine)))
    _, stretch, directions = svd(A)
    every = np.allclose(A.T @ A, stretch[0] ** 2 * np.eye(2))
    directions = np.eye(2) if every else np.array([rightward(v) for v in directions])
    angles = np.linspace(0, 2 * np.pi, 121)
    return {
        "ellipse": np.transpose([np.cos(angles), np.sin(angles)]) @ A.T,
        "eigen": {
            "kind": kind,
            "values": values,
            "vectors": vectors,
            "images": [A @ v for v in vectors],
            "angle": angle,
        },
        "singular": {
            "values": stretch,
            "vectors": directions,
            "images": directions @ A.T,
            "every": every,
        },
        "determinant": determinant,
        "symmetric": np.array_equal(A, A.T),
    }


@figure("digits-pca")
def digits_pca(plt):
    digits = load_digits()
    _, variances, scores = pca(digits.data, 64)
    share = 100 * np.cumsum(variances) / variances.sum()
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.9), width_ratios=(1.15, 1))
    shown = np.arange(0, len(scores), 6)
    cycle = [
        COLORS[c]
        for c in ("blue", "vermillion", "green", "purple", "orange", "sky", "black", "grey")
    ]
    for digit in range(10):
        for i in shown[digits.target[shown] == digit]:
            left.text(
                *scores[i, :2],
                str(digit),
                color=cycle[digit % 8],
                fontsize=8,
                ha="center",
                va="center",
            )
    left.set_xlim(-34, 34)
    left.set_ylim(-30, 34)
    left.set_xlabel("first principal component")
    left.set_ylabel("second principal component")
    left.set_title(f"300 scans, {share[1]:.1f} % of the variance")
    right.plot(np.arange(1, 65), share, color=COLORS["blue"])
    right.set_xlabel("number of components")
    right.set_ylabel("variance kept, %")
    right.set_xlim(0, 65)
    right.set_ylim(0, 103)
    for part in (90, 95):
        count = int(np.argmax(share >= part)) + 1
        right.plot(count, share[count - 1], "o", color=COLORS["vermillion"])
        right.annotate(
            f"{count} for {part} %",
            (count, share[count - 1]),
            (count + 4, share[count - 1] - 16 + (part - 90)),
            arrowprops={"arrowstyle": "-", "lw": 0.7},
        )
    right.set_title("how many components it takes")
    return fig


@figure("rotate-stretch-rotate")
def rotate_stretch_rotate(plt):
    A = np.array([[3.0, 0.0], [4.0, 5.0]])
    V = np.array([[1.0, -1.0], [1.0, 1.0]]) / 2**0.5
    S = np.diag([45**0.5, 5**0.5])
    steps = [np.eye(2), V.T, S @ V.T, A]
    titles = [
        "unit circle",
        "after $V^T$: turned",
        "after $\\Sigma$: stretched",
        "after $U$: turned",
    ]
    fig, axes = plt.subplots(1, 4, figsize=(7.8, 2.4))
    reaches = [1.5, 1.5, 7.4, 7.4]
    for ax, step, title, reach in zip(axes, steps, titles, reaches, strict=True):
        plane(ax, reach, title)
        ax.fill(*(step @ CIRCLE), color=COLORS["sky"], alpha=0.25, linewidth=0)
        ax.plot(*(step @ CIRCLE), color=COLORS["black"], linewidth=1.1)
        for v, color in zip(V.T, ("blue", "vermillion"), strict=True):
            arrow(ax, step @ v, COLORS[color])
        ticks = [-1, 0, 1] if reach < 2 else [-6, -3, 0, 3, 6]
        ax.set_xticks(ticks)
        ax.set_yticks(ticks)
    return fig


@figure("rank-k-digit")
def rank_k_digit(plt):
    digit = load_digits().images[0]
    S = svd(digit)[1]
    fig, axes = plt.subplots(1, 6, figsize=(7.8, 2.1), width_ratios=(1, 1, 1, 1, 1, 1.9))
    pictures = [("original", digit)] + [(f"rank {k}", low_rank(digit, k)) for k in (1, 2, 3, 4)]
    for ax, (title, picture) in zip(axes, pictures, strict=False):
        ax.imshow(picture, cmap="gray_r", vmin=0, vmax=16)
        ax.set_title(title)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set(visible=True, color=COLORS["light"])
    axes[-1].bar(np.arange(1, 9), S, color=COLORS["blue"])
    axes[-1].set_title("singular values")
    axes[-1].set_xticks(np.arange(1, 9))
    return fig


@figure("three-views")
def three_views(plt):
    vectors = {"u": np.array([2, 1]), "v": np.array([-1, 1]), "u + v": np.array([1, 2])}
    colors = [COLORS[name] for name in ("blue", "vermillion", "black")]
    scans = load_digits().images[:2]
    pictures = [("scan a", scans[0]), ("scan b", scans[1]), ("½ a + ½ b", scans.mean(axis=0))]
    fig = plt.figure(figsize=(7.8, 2.5))
    grid = fig.add_gridspec(1, 5, width_ratios=(2.2, 2.0, 1, 1, 1))
    arrows, bars, *panels = [fig.add_subplot(cell) for cell in grid]
    plane(arrows, 2.4, "arrows")
    arrows.set_xlim(-1.6, 2.6)
    arrows.set_ylim(-0.4, 2.6)
    arrows.plot([2, 1, -1], [1, 2, 1], ":", color=COLORS["grey"], linewidth=1)
    for i, ((name, vector), color) in enumerate(zip(vectors.items(), colors, strict=True)):
        arrow(arrows, vector, color)
        arrows.text(*np.add(vector, (0.05, 0.15)), name, color=color, ha="center")
        bars.bar(np.arange(2) + 0.25 * (i - 1), vector, 0.22, color=color)
    bars.axhline(0, color=COLORS["grey"], linewidth=0.8)
    bars.set_xticks([0, 1])
    bars.set_xlabel("index")
    bars.set_title("functions")
    for ax, (title, picture) in zip(panels, pictures, strict=True):
        ax.imshow(picture, cmap="gray_r", vmin=0, vmax=16)
        ax.set_title(title)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set(visible=True, color=COLORS["light"])
    return fig


@figure("places-of-the-axes")
def places_of_the_axes(plt):
    A = np.array([[4.0, 2.0], [1.0, 3.0]])
    fig, axes = plt.subplots(1, 2, figsize=(7.6, 3.4))
    for ax, M, title in zip(axes, (np.eye(2), A), ("in", "out"), strict=True):
        for i in range(4):
            for ends in ([[i, 0], [i, 3]], [[0, i], [3, i]]):
                ax.plot(*(M @ np.transpose(ends)), color=COLORS["light"], linewidth=1.2, zorder=0)
        places = [(1, 0), (0, 1), (2, 1)]
        for place, color in zip(places, ("blue", "vermillion", "black"), strict=True):
            tip = M @ np.array(place, dtype=float)
            arrow(ax, tip, COLORS[color])
            ax.annotate(
                f"({tip[0]:.0f}, {tip[1]:.0f})",
                tip,
                xytext=(4, -16 if color == "blue" else 6),
                textcoords="offset points",
                color=COLORS[color],
                fontsize=11,
            )
        ax.set_aspect("equal")
        ax.set_title(title)
        ax.set_xlabel("first coordinate")
    axes[0].set_xlim(-0.4, 3.6)
    axes[0].set_ylim(-0.4, 3.6)
    axes[0].set_xticks(range(4))
    axes[0].set_yticks(range(4))
    axes[0].set_ylabel("second coordinate")
    axes[1].set_xticks(range(0, 20, 4))
    axes[1].set_xlim(-1, 19.5)
    axes[1].set_ylim(-1, 13.5)
    return fig


@figure("shadow-on-a-plane")
def shadow_on_a_plane(plt):
    q1 = np.array([1, 0, 1]) / np.sqrt(2)
    q2 = np.array([-1, 2, 1]) / np.sqrt(6)
    normal = np.array([1, 1, -1]) / np.sqrt(3)
    view = np.array([q1 + 0.5 * q2, 0.45 * q2 + normal])  # a slanted view of the plane
    u = np.array([1.0, 2.0, 0.0])
    p = (q1 @ u) * q1 + (q2 @ u) * q2
    fig, ax = plt.subplots(figsize=(5.6, 3.7))
    corners = [x * q1 + y * q2 for x, y in [(-0.7, -0.7), (2.3, -0.7), (2.3, 2.1), (-0.7, 2.1)]]
    ax.fill(*(view @ np.transpose(corners)), color=COLORS["blue"], alpha=0.12, linewidth=0)
    for v, color in [(q1, "blue"), (q2, "blue"), (p, "green"), (u, "black")]:
        arrow(ax, view @ v, COLORS[color])
    ax.plot(*(view @ np.transpose([u, p])), ":", color=COLORS["vermillion"], linewidth=2)
    angle = [p + 0.2 * normal, p + 0.2 * normal - 0.2 * q1, p - 0.2 * q1]
    ax.plot(*(view @ np.transpose(angle)), color=COLORS["vermillion"], linewidth=1)
    labels = [
        (q1, "q₁", "blue", (4, -12)),
        (q2, "q₂", "blue", (5, 1)),
        (p, "shadow (0, 1, 1)", "green", (8, -6)),
        (u, "(1, 2, 0)", "black", (-8, 7)),
        (p + 0.5 * (u - p), "what is left over\n(1, 1, −1)", "vermillion", (8, -4)),
    ]
    for v, text, color, offset in labels:
        ax.annotate(
            text,
            view @ v,
            xytext=offset,
            textcoords="offset points",
            color=COLORS[color],
            fontsize=11,
        )
    ax.set_aspect("equal")
    ax.set_xlim(-1.3, 4.0)
    ax.set_ylim(-0.5, 2.7)
    ax.axis("off")
    return fig
