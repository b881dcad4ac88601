"""Figures of math-foundations/calculus.md."""

from __future__ import annotations

from math import cos, factorial, sin

import numpy as np

from chainrule.course.figures import COLORS, figure, interactive
from chainrule.math_foundations.calculus import jvp, numerical_grad


@figure("zoom")
def zoom(plt):
    fig, axes = plt.subplots(1, 3, figsize=(7, 2.7))
    for ax, half_width, title in zip(
        axes, (1.6, 0.16, 0.016), ("as it is", "10 times closer", "100 times closer"), strict=True
    ):
        x = np.linspace(1 - half_width, 1 + half_width, 300)
        tangent = np.sin(1) + np.cos(1) * (x - 1)
        ax.plot(x, np.sin(x), color=COLORS["blue"], linewidth=3, label="sin x")
        ax.plot(x, tangent, "--", color=COLORS["vermillion"], linewidth=1.8, label="tangent at 1")
        ax.plot(1, np.sin(1), "o", color=COLORS["black"], zorder=3)
        ax.set_xlim(1 - half_width, 1 + half_width)
        ax.set_ylim(np.sin(1) - 0.8 * half_width, np.sin(1) + 0.8 * half_width)
        ax.set_xticks([1 - half_width, 1, 1 + half_width])
        ax.set_yticks([np.sin(1)], ["sin 1"])
        ax.set_title(title)
        ax.set_xlabel("x")
        if half_width > 0.1:
            size = np.array([2, 1.6]) * half_width / 10
            corner = np.array([1, np.sin(1)]) - size / 2
            ax.add_patch(plt.Rectangle(corner, *size, fill=False, color=COLORS["grey"], zorder=4))
    axes[0].legend(loc="lower right", handlelength=1.6, borderaxespad=0)
    return fig


@interactive(
    "zoom",
    states=[
        {"zoom": 10},
        {"zoom": 1000},
        {"zoom": 1000, "x": 0},
        {"x": -3},
        {"zoom": 98, "x": 1.6},
    ],
)
def zoom_model(state):
    x, h = float(state["x"]), 1.6 / state["zoom"]
    value, slope = np.sin(x), float(jvp(np.sin, x, 1.0))
    # The derivatives of the sine repeat every four: what is left of its Taylor series.
    derivatives = [value, slope, -value, -slope]
    r = sum(derivatives[k % 4] * h**k / factorial(k) for k in range(2, 30))
    sine, window = np.linspace(-5, 5, 201), x + np.linspace(-h, h, 161)
    return {
        "h": h,
        "value": value,
        "slope": slope,
        "ahead": np.sin(x + h),
        "predicted": value + slope * h,
        "r": r,
        "share": r / h,
        "sine": np.transpose([sine, np.sin(sine)]),
        "window": np.transpose([window, np.sin(window)]),
    }


@figure("difference-errors")
def difference_errors(plt):
    fig, ax = plt.subplots(figsize=(7, 3.9))
    steps = 10.0 ** np.arange(-12.5, -0.4, 0.1)
    for scheme, colour in (("forward", "vermillion"), ("central", "blue")):
        errors = np.array([abs(numerical_grad(sin, 1.0, h, scheme) - cos(1.0)) for h in steps])
        ax.loglog(steps, np.maximum(errors, 1e-14), ".", color=COLORS[colour], markersize=4)
    line = np.array([1e-8, 0.3])
    ax.loglog(line, np.sin(1) / 2 * line, "--", color=COLORS["vermillion"], linewidth=1)
    line = np.array([4e-6, 0.3])
    ax.loglog(line, np.cos(1) / 6 * line**2, "--", color=COLORS["blue"], linewidth=1)
    line = np.array([3e-13, 3e-5])
    ax.loglog(line, np.finfo(float).eps / line, ":", color=COLORS["grey"], linewidth=1.6)
    ax.text(2.2e-3, 8e-3, "forward: ½|f″|h", color=COLORS["vermillion"], ha="right")
    ax.text(7e-3, 2e-7, "central: ⅙|f‴|h²", color=COLORS["blue"])
    ax.text(3e-11, 4e-5, "rounding: ε/h", color=COLORS["grey"])
    eps = np.finfo(float).eps
    for best, name, colour in (
        (eps ** (1 / 2), "$ε^{1/2}$", "vermillion"),
        (eps ** (1 / 3), "$ε^{1/3}$", "blue"),
    ):
        ax.axvline(best, color=COLORS[colour], linewidth=0.8, alpha=0.6)
        ax.text(best * 1.25, 2.2e-1, name, color=COLORS[colour], va="top")
    ax.set_xlabel("step h")
    ax.set_ylabel("error of the derivative of sin at 1")
    ax.set_ylim(1e-13, 5e-1)
    ax.grid(True)
    return fig


@figure("field")
def field(plt):
    fig, ax = plt.subplots(figsize=(7, 3.6))

    def hill(x, y):
        return np.exp(-((x / 2) ** 2) - y**2)

    x, y = np.meshgrid(np.linspace(-2.6, 2.6, 261), np.linspace(-1.35, 1.35, 136))
    ax.contour(
        x, y, hill(x, y), levels=9, colors=COLORS["grey"], linewidths=0.9, linestyles="solid"
    )
    x, y = np.meshgrid(np.linspace(-2.2, 2.2, 9), np.linspace(-1, 1, 5))
    east, north = -x / 2 * hill(x, y), -2 * y * hill(x, y)
    arrows = {"angles": "xy", "scale_units": "xy", "scale": 2.6, "width": 0.0045, "zorder": 3}
    ax.quiver(x, y, east, north, color=COLORS["vermillion"], **arrows)
    ax.plot(0, 0, "o", color=COLORS["black"], markersize=4)
    ax.text(0.08, -0.17, "top", color=COLORS["black"])
    ax.set_aspect("equal")
    ax.set_xlabel("x")
    ax.set_ylabel("y")
    return fig


@figure("steepest")
def steepest(plt):
    fig, axes = plt.subplots(1, 3, figsize=(7, 2.8), sharey=True)
    gradient = np.array([3.0, 1.0])
    span = np.linspace(-1.7, 1.7, 200)
    x, y = np.meshgrid(span, span)
    # A quadratic whose gradient at the origin is (3, 1).
    height = 3 * x + y - 0.35 * x**2 - 0.5 * y**2
    angle = np.linspace(0, 2 * np.pi, 400)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    balls = {
        "L2: along g": (circle, gradient / np.linalg.norm(gradient)),
        "L∞: sign g": (
            np.array([[1, -1, -1, 1, 1], [1, 1, -1, -1, 1]]),
            np.sign(gradient),
        ),
        "L1: one axis": (
            np.array([[1, 0, -1, 0, 1], [0, 1, 0, -1, 0]]),
            np.array([1.0, 0.0]),
        ),
    }
    for ax, (title, (ball, step)) in zip(axes, balls.items(), strict=True):
        ax.contour(x, y, height, levels=11, colors="#cccccc", linewidths=0.9, linestyles="solid")
        ax.fill(*ball, color=COLORS["sky"], alpha=0.35, linewidth=0)
        ax.plot(*ball, color=COLORS["blue"], linewidth=1)
        # The level line of the linear prediction g·d that touches the ball.
        across = np.array([-gradient[1], gradient[0]]) / np.linalg.norm(gradient)
        ends = step[:, None] + across[:, None] * np.array([-1.3, 1.3])
        ax.plot(*ends, "--", color=COLORS["grey"], linewidth=1)
        arrow = {"width": 0.016, "length_includes_head": True, "head_width": 0.13}
        ax.arrow(0, 0, *(gradient / 2), color=COLORS["grey"], zorder=3, **arrow)
        ax.text(*(gradient / 2 + [-0.05, 0.12]), "g", color=COLORS["grey"])
        ax.arrow(0, 0, *step, color=COLORS["vermillion"], zorder=4, **arrow)
        ax.set_title(title)
        ax.set_xlabel(f"g·d = {gradient @ step:.2f}")
        ax.set_aspect("equal")
        ax.set_xlim(-1.7, 1.7)
        ax.set_ylim(-1.7, 1.7)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
    return fig


@figure("passes")
def passes(plt):
    fig, ax = plt.subplots(figsize=(7, 3.0))
    shapes = [("a curve\n1 → 1,000", 1, 1000), ("a layer\n128 → 128", 128, 128)]
    shapes.append(("a training loss\n100,352 → 1", 784 * 128, 1))
    for place, (_, inputs, outputs) in enumerate(shapes):
        for offset, count, colour in ((0.19, inputs, "blue"), (-0.19, outputs, "vermillion")):
            ax.barh(place + offset, count - 0.6, height=0.34, left=0.6, color=COLORS[colour])
            ax.text(count * 1.15, place + offset, f"{count:,}", va="center")
    ax.set_xscale("log")
    ax.set_xlim(0.6, 1e6)
    ax.set_yticks(range(3), [name for name, _, _ in shapes])
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("passes for the whole Jacobian")
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLORS[c]) for c in ("blue", "vermillion")]
    ax.legend(handles, ["JVPs, one per input", "VJPs, one per output"], loc="lower right")
    return fig


@figure("taylor-lies")
def taylor_lies(plt):
    fig, ax = plt.subplots(figsize=(7, 3.4))
    x = np.linspace(-1.8, 1.8, 700)
    ax.axvspan(-1, 1, color="#f1f1f1", zorder=0)
    ax.plot(x, 1 / (1 + x**2), color=COLORS["black"], linewidth=2.6, label="1/(1 + x²)")
    for order, colour in ((2, "sky"), (6, "blue"), (10, "vermillion")):
        series = sum((-1) ** k * x ** (2 * k) for k in range(order // 2 + 1))
        ax.plot(x, series, color=COLORS[colour], linewidth=1.6, label=f"order {order}")
    ax.set_ylim(-1.4, 1.6)
    ax.set_xlim(-1.8, 1.8)
    ax.set_xlabel("x")
    ax.text(0, -1.25, "|x| < 1: the series converges", ha="center", color=COLORS["grey"])
    ax.legend(loc="upper left", ncols=1)
    return fig
