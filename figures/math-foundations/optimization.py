"""Figures of math-foundations/optimization.md."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.datasets import load_digits

from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.math_foundations.calculus import hvp
from chainrule.math_foundations.optimization import (
    gradient_descent,
    heavy_ball,
    lanczos_density,
    nesterov,
    optimal_rates,
    prob_positive_definite,
    quadratic,
    saddle,
    sgd_noise_floor,
    steps_to,
)
from chainrule.math_foundations.probability import softmax


@figure("three-rates")
def three_rates(plt):
    fig, axes = plt.subplots(1, 3, figsize=(7, 2.7), sharey=True)
    problem = quadratic(100, 1)
    x = np.linspace(-1.6, 1.6, 200)
    for ax, lr, steps, title, colour in zip(
        axes,
        (0.003, 0.018, 0.0205),
        (8, 12, 8),
        ("η = 0.003", "η = 0.018", "η = 0.0205"),
        ("blue", "green", "vermillion"),
        strict=True,
    ):
        path = gradient_descent(problem.f, problem.grad, np.ones(1), lr, steps)
        ax.plot(x, 50 * x * x, color=COLORS["light"], linewidth=3)
        ax.plot(path.points[:, 0], path.values, color=COLORS[colour], linewidth=0.9)
        ax.plot(path.points[:, 0], path.values, "o", color=COLORS[colour], markersize=4.5)
        ax.plot(1, 50, "o", color=COLORS["black"], markersize=6, zorder=4)
        ax.text(1.07, 42, "start", fontsize=9, va="top")
        ax.set_title(title)
        ax.set_xlabel(f"x is multiplied by {1 - 100 * lr:.2f}".replace("-", "−"))
        ax.set_xticks([-1, 0, 1])
        ax.set_ylim(-6, 122)
    axes[0].set_ylabel("50 x²")
    return fig


@figure("convexity")
def convexity(plt):
    fig, axes = plt.subplots(1, 2, figsize=(7, 3.0))
    for ax, f, slope, span, ends, touch, title in (
        (
            axes[0],
            lambda x: 0.35 * x**2 + 0.25 * np.exp(0.9 * x),
            lambda x: 0.7 * x + 0.225 * np.exp(0.9 * x),
            (-2.4, 2.4),
            (-1.9, 2.0),
            0.8,
            "convex",
        ),
        (
            axes[1],
            lambda x: 0.12 * (x**2 - 3.2) ** 2 + 0.28 * x,
            lambda x: 0.48 * x * (x**2 - 3.2) + 0.28,
            (-2.5, 2.5),
            (-1.45, 2.2),
            1.62,
            "not convex",
        ),
    ):
        x = np.linspace(*span, 300)
        ax.plot(x, f(x), color=COLORS["blue"], linewidth=2.6)
        left, right = ends
        ax.plot(ends, [f(left), f(right)], "-o", color=COLORS["vermillion"], linewidth=1.4)
        reach = np.array([touch - 2.4, touch + 1.0]) if title == "convex" else np.array(span)
        ax.plot(reach, f(touch) + slope(touch) * (reach - touch), "--", color=COLORS["grey"])
        ax.plot(touch, f(touch), "o", color=COLORS["grey"], markersize=5, zorder=4)
        ax.set_title(title)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_ylim(min(f(x)) - 0.7, None)
    axes[0].text(-1.0, 2.3, "chord", color=COLORS["vermillion"])
    axes[0].text(1.25, 0.55, "tangent", color=COLORS["grey"])
    axes[1].text(0.35, -0.02, "chord", color=COLORS["vermillion"])
    axes[1].text(-2.1, 1.55, "tangent", color=COLORS["grey"])
    return fig


@figure("touching")
def touching(plt):
    fig, ax = plt.subplots(figsize=(7, 3.2))
    x, at = np.linspace(-0.9, 3.4, 300), 2.0
    height, slope = -np.cos(at), np.sin(at)
    cap = height + slope * (x - at) + 0.5 * (x - at) ** 2
    ax.plot(x, -np.cos(x), color=COLORS["blue"], linewidth=2.6)
    ax.plot(x[cap < 1.9], cap[cap < 1.9], "--", color=COLORS["vermillion"])
    new = at - slope
    ends = {"blue": -np.cos(new), "vermillion": height - 0.5 * slope**2}
    for (colour, end), side in zip(ends.items(), (-0.05, 0.05), strict=True):
        ax.plot([new, new + side], [height, height], ":", color=COLORS["grey"])
        ax.annotate(
            "",
            xy=(new + side, end),
            xytext=(new + side, height),
            arrowprops={"arrowstyle": "->", "color": COLORS[colour], "shrinkA": 0, "shrinkB": 0},
        )
        ax.plot(new, end, "o", color=COLORS[colour], markersize=5, zorder=4)
    ax.plot([new, at], [height, height], ":", color=COLORS["grey"])
    ax.plot(at, height, "o", color=COLORS["black"], markersize=6, zorder=4)
    ax.text(at + 0.08, height - 0.16, "you stand here", va="top")
    ax.text(new + 0.1, height + 0.1, "promised gain", color=COLORS["vermillion"])
    ax.text(new - 0.12, -0.2, "real gain", color=COLORS["blue"], ha="right")
    ax.text(-0.3, 1.4, "parabola of curvature 1", color=COLORS["vermillion"])
    ax.text(-0.85, -0.55, "f", color=COLORS["blue"], ha="right")
    ax.set_xlabel("x")
    ax.set_xticks([0, 1, 2, 3])
    ax.set_yticks([-1, 0, 1])
    ax.set_ylim(-1.1, 2)
    return fig


@measurement("random-hessians", relative=0.005, seconds=6)
def measure_random_hessians():
    trials, rng = 2_000_000, np.random.default_rng(0)
    return {"trials": trials, "share": [prob_positive_definite(n, trials, rng) for n in (4, 5)]}


@figure("saddle")
def saddle_and_chance(plt):
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2), width_ratios=(1.15, 1))
    s = saddle()
    x, y = np.meshgrid(np.linspace(-1.15, 1.15, 200), np.linspace(-1.15, 1.15, 200))
    left.contour(
        x,
        y,
        0.5 * (x * x - y * y),
        levels=np.linspace(-0.6, 0.6, 13),
        colors="#cfcfcf",
        linewidths=0.9,
        linestyles="solid",
    )
    for eps, colour in ((3e-2, "blue"), (-1e-3, "vermillion"), (1e-5, "green")):
        points = gradient_descent(s.f, s.grad, np.array([1.05, eps]), 0.05, 300).points
        points = points[np.abs(points[:, 1]) < 1.15]
        left.plot(*points.T, color=COLORS[colour])
        left.plot(*points[::10].T, ".", color=COLORS[colour], markersize=7)
        place = points[-1] + [0.1, -0.12 * np.sign(eps)]
        label = f"ε = {abs(eps):.5f}".rstrip("0") + f"\n{len(points)} steps"
        if eps > 1e-4:
            left.text(*place, label, color=COLORS[colour], fontsize=9, va="top")
        elif eps < 0:
            left.text(*place, label, color=COLORS[colour], fontsize=9, va="bottom")
        else:
            left.text(
                -0.05, place[1], label, color=COLORS[colour], fontsize=9, va="top", ha="right"
            )
    left.set_aspect("equal")
    left.set_xticks([])
    left.set_yticks([])
    left.spines[:].set_visible(False)
    left.set_title("½(x² − y²), η = 0.05")

    # The first three are known; the others are counted, and carry two standard errors.
    found = measured("random-hessians")
    share = [1 / 2, (2 - 2**0.5) / 4, (np.pi - 2 * 2**0.5) / (4 * np.pi), *found["share"]]
    sizes, share = np.arange(1, 6), np.array(share)
    error = 2 * np.sqrt(share * (1 - share) / found["trials"])
    right.semilogy(sizes, share, "o-", color=COLORS["blue"])
    right.errorbar(sizes[3:], share[3:], error[3:], fmt="none", ecolor=COLORS["black"], capsize=3)
    for n, p in zip(sizes, share, strict=True):
        digits = 3 if n < 4 else 4 if n == 4 else 5
        right.text(n + 0.16, p * 1.15, f"{p:.{digits}f}", fontsize=9)
    right.set_xticks(sizes)
    right.set_xlim(0.8, 5.8)
    right.set_ylim(5e-5, 1)
    right.set_xlabel("size n of a random symmetric matrix")
    right.set_title("all eigenvalues positive")
    right.set_ylabel("probability")
    return fig


@figure("race")
def race(plt):
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.5), width_ratios=(1.1, 1))
    kappa, start = 100.0, np.ones(2)
    problem, best = quadratic(kappa), optimal_rates(1, kappa)
    x, y = np.meshgrid(np.linspace(-0.45, 1.2, 200), np.linspace(-4.2, 4.2, 400))
    height = 0.5 * (x * x + kappa * y * y)
    left.contour(x, y, height, levels=np.geomspace(0.02, 800, 9), colors="#cfcfcf", linewidths=0.9)
    left.plot(0, 0, "x", color=COLORS["grey"])
    for name, colour, mark, method, lr, beta in (
        ("gradient descent", "vermillion", "o", heavy_ball, best.gd_lr, 0.0),
        ("Nesterov", "green", "s", nesterov, best.nesterov_lr, best.nesterov_momentum),
        ("heavy ball", "blue", "o", heavy_ball, best.heavy_ball_lr, best.heavy_ball_momentum),
        ("gradient descent, η = 1/L", "black", "X", heavy_ball, 1 / kappa, 0.0),
    ):
        points = method(problem.f, problem.grad, start, lr, beta, 800).points
        style = "--" if colour == "black" else "-"
        early = points[:21]
        left.plot(*early.T, style, marker=".", markersize=3, color=COLORS[colour], linewidth=1.1)
        face = "white" if name == "heavy ball" else None
        left.plot(
            *early[-1], mark, color=COLORS[colour], markersize=7, markerfacecolor=face, zorder=4
        )
        distance = np.linalg.norm(points, axis=1)
        distance = distance[: int(np.argmax(distance < 1e-8)) or None]
        right.semilogy(distance, style, color=COLORS[colour], label=name)
    left.set_title("20 steps", fontsize=10)
    left.set_xticks([0, 1])
    left.set_xlabel("curvature 1")
    left.set_ylabel("curvature 100")
    fig.legend(*right.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    right.axhline(1e-6, color=COLORS["grey"], linewidth=0.8, linestyle=":")
    right.set_ylim(1e-7, 30)
    right.set_xlim(-5, 800)
    right.set_xlabel("step")
    right.set_ylabel("distance to the minimum")
    return fig


@interactive(
    "race",
    states=[
        {"rate": 3.3, "beta": 0.67},
        {"method": "Nesterov", "beta": 0.82, "step": 60},
        {"rate": 2.05, "beta": 0, "step": 0},
        {"method": "Nesterov", "rate": 4, "beta": 0.98},
        {"kappa": 10, "rate": 0.05, "beta": 0.9},
        {"kappa": 1000, "rate": 1.5, "beta": 0.5},
    ],
)
def race_model(state):
    kappa, beta, ahead = state["kappa"], state["beta"], state["method"] == "Nesterov"
    problem, best, start = quadratic(kappa), optimal_rates(1, kappa), np.ones(2)
    most, last = round(20 * kappa), round(8 * kappa)
    lr = state["rate"] / kappa

    def run(method, lr, beta):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a run that diverges is cut below
            points = method(problem.f, problem.grad, start, lr, beta, most).points
            distance = np.linalg.norm(points, axis=1)
        stop = np.flatnonzero((distance < 1e-7) | (distance > 1e3))
        distance = distance[: stop[0] + 1] if stop.size else distance
        reached = np.flatnonzero(distance <= 1e-6)
        half = len(distance) // 2
        late = np.log(distance[half:])
        every = max(1, round(last / 400))
        steps = np.arange(len(distance))[: last + 1 : every]
        return {
            "steps": int(reached[0]) if reached.size else -1,
            "measured": np.exp(np.polyfit(np.arange(half, len(distance)), late, 1)[0]),
            "path": points[: len(distance)][: state["step"] + 1],
            "line": [[int(k), distance[k]] for k in steps],
        }

    def factor(curvature):  # of the step from (x_k, x_k-1) to (x_k+1, x_k), as a matrix
        a = lr * curvature
        first, second = (1 + beta - a, -beta)
        if ahead:
            first, second = (1 + beta) * (1 - a), -beta * (1 - a)
        return np.abs(np.linalg.eigvals(np.array([[first, second], [1, 0]]))).max()

    bound = 2 * (1 + beta) / (1 + 2 * beta) if ahead else 2 * (1 + beta)
    return {
        "runs": [
            run(heavy_ball, best.gd_lr, 0.0),
            run(nesterov, best.nesterov_lr, best.nesterov_momentum),
            run(heavy_ball, best.heavy_ball_lr, best.heavy_ball_momentum),
            run(nesterov if ahead else heavy_ball, lr, beta),
        ],
        "factors": [
            best.gd_rate,
            best.nesterov_rate,
            best.heavy_ball_rate,
            max(factor(1), factor(kappa)),
        ],
        "bound": bound,
        "diverges": state["rate"] > bound,
        "last": last,
        "most": most,
        "tall": 0.4 * kappa**0.5,
        "ellipses": np.geomspace(0.02, 0.08 * kappa**2, 9),
    }


@figure("look-ahead")
def look_ahead(plt):
    fig, axes = plt.subplots(1, 2, figsize=(7, 2.9), sharey=True)
    x = np.linspace(-0.15, 1.25, 200)
    beta, lr, place, velocity = 0.9, 0.1, 1.0, -0.5
    for ax, title, asked, colour in (
        (axes[0], "heavy ball", place, "blue"),
        (axes[1], "Nesterov", place + beta * velocity, "green"),
    ):
        carried, new = place + beta * velocity, place + beta * velocity - lr * asked
        ax.plot(x, x * x / 2, color=COLORS["light"], linewidth=3)
        reach = np.array([asked - 0.22, asked + 0.22])
        ax.plot(reach, asked**2 / 2 + asked * (reach - asked), color=COLORS["black"])
        ax.plot(asked, asked**2 / 2, "o", color=COLORS["black"], markersize=6, zorder=4)
        if asked != place:
            ax.plot(place, place**2 / 2, "o", mfc="white", mec=COLORS["grey"], markersize=6)
            ax.text(place + 0.06, place**2 / 2 - 0.03, "the ball", color=COLORS["grey"])
        for start, end, height, shade in (
            (place, carried, -0.1, "grey"),
            (carried, new, -0.19, colour),
        ):
            ax.annotate(
                "",
                xy=(end, height),
                xytext=(start, height),
                arrowprops={"arrowstyle": "->", "color": COLORS[shade], "shrinkA": 0, "shrinkB": 0},
            )
        ax.text(place + 0.02, -0.1, "kept velocity", color=COLORS["grey"], va="center")
        ax.text(carried + 0.02, -0.19, f"push {lr * asked:.3g}", color=COLORS[colour], va="center")
        ax.text(asked - 0.06, asked**2 / 2 + 0.07, "slope asked here", ha="right")
        ax.set_title(title)
        ax.set_xlabel("x")
        ax.set_xticks([0, 0.5, 1])
        ax.set_yticks([])
        ax.set_xlim(-0.2, 1.45)
        ax.set_ylim(-0.26, 0.78)
    return fig


@figure("condition")
def condition(plt):
    fig, ax = plt.subplots(figsize=(7, 3.6))
    kappas = np.geomspace(3, 10_000, 15)
    counts: dict[str, list[float]] = {"gradient descent": [], "Nesterov": [], "heavy ball": []}
    for kappa in kappas:
        problem, best = quadratic(kappa), optimal_rates(1, kappa)
        start = np.ones(2)
        counts["gradient descent"].append(np.ceil(np.log(1e-6 / 2**0.5) / np.log(best.gd_rate)))
        counts["Nesterov"].append(
            steps_to(
                nesterov(
                    problem.f, problem.grad, start, best.nesterov_lr, best.nesterov_momentum, 2500
                ),
                1e-6,
            )
        )
        counts["heavy ball"].append(
            steps_to(
                heavy_ball(
                    problem.f,
                    problem.grad,
                    start,
                    best.heavy_ball_lr,
                    best.heavy_ball_momentum,
                    2500,
                ),
                1e-6,
            )
        )
    for (name, steps), colour in zip(counts.items(), ("vermillion", "green", "blue"), strict=True):
        ax.loglog(kappas, steps, "o-", color=COLORS[colour], label=name)
    guide = np.array([30.0, 3000.0])
    ax.loglog(guide, 18 * guide, ":", color=COLORS["grey"])
    ax.text(250, 18 * 250 * 1.6, "slope 1", color=COLORS["grey"], ha="right")
    ax.loglog(guide, 5.2 * guide**0.5, ":", color=COLORS["grey"])
    ax.text(400, 5.2 * 20 * 0.55, "slope ½", color=COLORS["grey"])
    ax.set_xlabel("condition number κ")
    ax.set_ylabel("steps to a millionth")
    ax.grid(True)
    ax.legend(loc="upper left")
    return fig


NOISY = {"curvature": 1.0, "sigma": 0.5}


@measurement("noise-floor", relative=1e-3, seconds=1)
def measure_noise_floor():
    rng = np.random.default_rng(0)
    steps, runs = 1500, 200

    def mean_loss(rate):
        x, values = np.ones(runs), []
        for k in range(steps):
            values.append(0.5 * NOISY["curvature"] * np.mean(x * x))
            noise = NOISY["sigma"] * rng.standard_normal(runs)
            x = x - rate(k) * (NOISY["curvature"] * x + noise)
        return values[::3]

    return {
        "every": 3,
        "constant": {str(lr): mean_loss(lambda k, lr=lr: lr) for lr in (0.2, 0.02, 0.002)},
        "dropping": mean_loss(lambda k: 0.2 if k < 100 else 0.02 if k < 400 else 0.002),
    }


@figure("noise-floor")
def noise_floor(plt):
    fig, ax = plt.subplots(figsize=(7, 3.5))
    found = measured("noise-floor")
    for lr, colour in ((0.2, "vermillion"), (0.02, "orange"), (0.002, "green")):
        values = found["constant"][str(lr)]
        at = found["every"] * np.arange(len(values))
        ax.semilogy(at, values, color=COLORS[colour], linewidth=1)
        floor = sgd_noise_floor(lr, NOISY["sigma"], NOISY["curvature"])
        ax.axhline(floor, color=COLORS[colour], linestyle="--", linewidth=1)
        ax.text(1510, floor, f"floor of {lr:g}", color=COLORS[colour], va="center")
    ax.semilogy(at, found["dropping"], color=COLORS["blue"], linewidth=1.6)
    ax.text(575, 2.9e-4, "0.2, then 0.02, then 0.002", color=COLORS["blue"], ha="right")
    ax.text(330, 0.2, "0.002 all the way", color=COLORS["green"])
    ax.set_xlim(0, 1500)
    ax.set_ylim(6e-5, 0.7)
    ax.set_xlabel("step")
    ax.set_ylabel("mean of f")
    return fig


EDGE = {
    "squared error, η = 0.2": (0.2, True, "vermillion"),
    "squared error, η = 0.4": (0.4, True, "blue"),
    "cross-entropy, η = 0.2": (0.2, False, "green"),
}


@measurement("edge", absolute={"sharpness": 0.7}, relative={"loss": 0.1}, seconds=9)
def measure_edge():
    digits = load_digits()
    X, T = digits.data[:300] / 16, np.eye(10)[digits.target[:300]]

    def layers(w):
        W, V = w[:1024].reshape(16, 64), w[1024:].reshape(10, 16)
        A = np.tanh(X @ W.T)
        return V, A, A @ V.T

    def gradient(w, squared):
        V, A, Z = layers(w)
        R = ((Z if squared else softmax(Z)) - T) / 300
        return np.concatenate([(((R @ V) * (1 - A**2)).T @ X).ravel(), (R.T @ A).ravel()])

    def loss(w, squared):
        Z = layers(w)[2]
        return ((Z - T) ** 2).sum() / 600 if squared else -np.log(softmax(Z)[T > 0]).mean()

    found = {"every": {"sharpness": 50, "loss": 5}, "sharpness": {}, "loss": {}}
    for name, (lr, squared, _) in EDGE.items():
        init, rng = np.random.default_rng(0), np.random.default_rng(1)
        w = np.concatenate([init.normal(size=1024) / 8, 0.075 * init.normal(size=160)])
        sharp, losses = [], []
        for step in range(2001):
            if step % 50 == 0:
                nodes, _ = lanczos_density(
                    lambda v, w=w, squared=squared: hvp(lambda u: gradient(u, squared), w, v),
                    w.size,
                    12,
                    rng,
                )
                sharp.append(nodes[-1])
            if step % 5 == 0:
                losses.append(loss(w, squared))
            # Rounded, because at the edge a last digit that differs between machines would grow.
            w = np.round(w - lr * gradient(w, squared), 7)
        found["sharpness"][name], found["loss"][name] = sharp, losses
    return found


@figure("edge")
def edge(plt):
    fig, (above, below) = plt.subplots(2, 1, figsize=(7, 4.6), sharex=True, height_ratios=(1.3, 1))
    found = measured("edge")
    for name, (_, _, colour) in EDGE.items():
        for ax, what in ((above, "sharpness"), (below, "loss")):
            values = found[what][name]
            at = found["every"][what] * np.arange(len(values))
            draw = ax.plot if ax is above else ax.semilogy
            draw(
                at, values, color=COLORS[colour], label=name, linewidth=None if ax is above else 1.2
            )
    for lr, colour in ((0.2, "vermillion"), (0.4, "blue")):
        above.axhline(2 / lr, color=COLORS[colour], linestyle="--", linewidth=1)
        above.text(
            1990, 2 / lr - 0.4, f"2/η = {2 / lr:.0f}", color=COLORS[colour], ha="right", va="top"
        )
    above.set_ylim(0, 16)
    above.set_xlim(0, 2000)
    above.set_ylabel("sharpness")
    above.legend(loc="upper right")
    below.set_ylabel("loss")
    below.set_xlabel("step")
    return fig
