"""Figures of neural-networks/activation-functions.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.math_foundations.probability import normal_cdf
from chainrule.neural_networks.activation_functions import (
    dead_fraction,
    gain,
    gelu,
    gradient_propagation,
    leaky_relu,
    relu,
    sigmoid,
    signal_propagation,
    silu,
    tanh,
)
from chainrule.neural_networks.backpropagation import Tensor


def _value_and_slope(act, x):
    point = Tensor(x.copy(), requires_grad=True)
    y = act(point)
    y.backward(np.ones_like(x))
    return y.data, point.grad


def _scaled(factor):
    return lambda shape, rng: factor * rng.standard_normal(shape) / np.sqrt(shape[1])


@figure("gallery")
def gallery(plt):
    fig, axes = plt.subplots(2, 3, figsize=(7, 4.6), sharex=True, sharey=True)
    x = np.linspace(-4, 4, 801)
    bell = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    acts = {
        "sigmoid": sigmoid,
        "tanh": tanh,
        "ReLU": relu,
        "leaky ReLU, slope 0.2": lambda t: leaky_relu(t, 0.2),
        "GELU": gelu,
        "SiLU": silu,
    }
    for ax, (title, act) in zip(axes.flat, acts.items(), strict=True):
        y, slope = _value_and_slope(act, x)
        if "ReLU" in title:
            slope[np.argmin(np.abs(x))] = np.nan  # no line across the jump
        ax.fill_between(x, -1, -1 + bell, color=COLORS["light"], linewidth=0)
        ax.axhline(0, color=COLORS["grey"], linewidth=0.6)
        ax.axvline(0, color=COLORS["grey"], linewidth=0.6)
        ax.plot(x, y, color=COLORS["blue"], linewidth=2.2)
        ax.plot(x, slope, "--", color=COLORS["vermillion"], linewidth=1.6)
        ax.set_title(title)
        ax.set_ylim(-1.05, 2.1)
        ax.set_xlim(-4, 4)
    for ax in axes[1]:
        ax.set_xlabel("score z")
    axes[0, 0].text(-3.8, 1.55, "function", color=COLORS["blue"])
    axes[0, 0].text(-3.8, 1.2, "derivative", color=COLORS["vermillion"])
    axes[0, 1].text(-3.8, -0.62, "scores\nN(0, 1)", color=COLORS["grey"], fontsize=8)
    return fig


@figure("zigzag")
def zigzag(plt):
    fig, axes = plt.subplots(1, 2, figsize=(7, 3.6), sharex=True, sharey=True)
    turn = np.linspace(0, 2 * np.pi, 181)
    up, across = np.array([1.0, 1.0]) / 2**0.5, np.array([1.0, -1.0]) / 2**0.5
    for ax, mean, title in (
        (axes[0], 0.5, "outputs 0.5 ± 0.2"),
        (axes[1], 0.0, "outputs 0 ± 0.2"),
    ):
        steep, flat = 0.04 + 2 * mean**2, 0.04
        for level in (0.3, 0.6, 0.9, 1.2):
            ring = np.outer(np.cos(turn), across) / flat**0.5
            ring += np.outer(np.sin(turn), up) / steep**0.5
            ax.plot(*(0.2 * level * ring).T, color=COLORS["grey"], linewidth=0.8)
        rate = 2 / (steep + flat)
        path = [np.array([0.9, -0.5])]
        for _ in range(12):
            w = path[-1]
            gradient = steep * (w @ up) * up + flat * (w @ across) * across
            path.append(w - rate * gradient)
        ax.plot(*np.array(path).T, "o-", color=COLORS["vermillion"], markersize=3.5, linewidth=1.4)
        ax.plot(0, 0, "*", color=COLORS["blue"], markersize=11, zorder=4)
        ax.set_title(title)
        ax.set_aspect("equal")
        ax.set_xlim(-1.2, 1.2)
        ax.set_ylim(-1.2, 1.2)
        ax.set_xlabel("first weight, from the best")
    axes[0].set_ylabel("second weight, from the best")
    return fig


_SETTINGS = (
    ("ReLU, 1.6", relu, 1.6, "vermillion", "-"),
    ("ReLU, √2", relu, 2**0.5, "blue", "-"),
    ("tanh, 1.59", tanh, None, "green", "--"),
    ("sigmoid, 1", sigmoid, 1.0, "purple", "-"),
    ("tanh, 1", tanh, 1.0, "green", "-"),
    ("ReLU, 1", relu, 1.0, "sky", "-"),
)


def _factor(factor):
    return gain("tanh") if factor is None else factor


@measurement("signal-sizes", relative=1e-3, seconds=3)
def measure_signal_sizes():
    """Root mean squares after each of 50 layers of width 256."""
    return {
        name: signal_propagation(
            act, _scaled(_factor(factor)), 50, 256, np.random.default_rng(3), batch=16
        )
        for name, act, factor, _, _ in _SETTINGS
    }


@figure("signal-sizes")
def signal_sizes(plt):
    fig, ax = plt.subplots(figsize=(7, 3.9))
    found = measured("signal-sizes")
    layers = np.arange(1, 51)
    labels = {"tanh, 1": 0.04, "tanh, 1.59": 1.6, "sigmoid, 1": 0.25, "ReLU, √2": 10.0}
    for name, _, _, colour, line in _SETTINGS:
        sizes = found[name]
        ax.semilogy(layers, sizes, line, color=COLORS[colour], linewidth=2)
        ax.text(51, labels.get(name, sizes[-1]), name, color=COLORS[colour], va="center")
    ax.set_xlim(0, 50)
    ax.set_ylim(1e-9, 1e4)
    ax.set_yticks(10.0 ** np.arange(-9, 5, 3))
    ax.set_xlabel("layer")
    ax.set_ylabel("RMS of its outputs")
    ax.grid(True)
    return fig


_PLAYED = {
    "ReLU": relu,
    "leaky ReLU, 0.2": lambda t: leaky_relu(t, 0.2),
    "tanh": tanh,
    "sigmoid": sigmoid,
    "GELU": lambda t: gelu(t, "tanh"),
    "SiLU": silu,
}


@interactive(
    "signal-sizes",
    states=[
        {"act": "ReLU", "g": 1.6},
        {"act": "leaky ReLU, 0.2", "g": 1.39},
        {"act": "tanh", "g": 1.59},
        {"act": "sigmoid", "g": 4},
        {"act": "GELU", "g": 1.53},
        {"act": "SiLU", "g": 1.8},
    ],
)
def signal_sizes_model(state):
    act, g = _PLAYED[state["act"]], state["g"]
    z = (np.arange(400) - 199.5) / 25
    weight = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) / 25
    sizes, factors = [1.0], []
    for _ in range(50):
        y, slope = _value_and_slope(act, g * sizes[-1] * z)
        factors.append(g * np.sqrt(np.sum(slope**2 * weight)))
        sizes.append(np.sqrt(np.sum(y**2 * weight)))
    gradients = np.append(np.cumprod(factors[::-1])[::-1], 1.0)
    own = 1 / np.sqrt(np.sum(_value_and_slope(act, z)[0] ** 2 * weight))
    return {"sizes": sizes, "gradients": gradients, "gain": own}


_GRADIENTS = (
    ("ReLU, √2", relu, 2**0.5, "blue", "-", 2.5),
    ("tanh, 1", tanh, 1.0, "green", "-", 0.12),
    ("ReLU, 1", relu, 1.0, "sky", "-", 4e-4),
    ("sigmoid, 4", sigmoid, 4.0, "orange", "--", None),
    ("sigmoid, 1", sigmoid, 1.0, "purple", "-", None),
)


@measurement("gradient-sizes", relative=1e-3, seconds=3)
def measure_gradient_sizes():
    """Root mean squares of the gradient at the input of each of 20 layers of width 256."""
    return {
        name: gradient_propagation(
            act, _scaled(factor), 20, 256, np.random.default_rng(0), batch=16
        )
        for name, act, factor, *_ in _GRADIENTS
    }


@figure("gradient-sizes")
def gradient_sizes(plt):
    fig, ax = plt.subplots(figsize=(7, 3.7))
    layers, found = np.arange(1, 21), measured("gradient-sizes")
    for name, _, _, colour, line, height in _GRADIENTS:
        sizes = found[name]
        ax.semilogy(layers, sizes, line, color=COLORS[colour], linewidth=2)
        ax.text(0.7, height or sizes[0], name, color=COLORS[colour], va="center", ha="right")
    ax.set_xlim(1, 20)
    ax.set_ylim(1e-13, 1e2)
    ax.set_xticks([1, 5, 10, 15, 20])
    ax.set_yticks(10.0 ** np.arange(-12, 3, 4))
    ax.yaxis.tick_right()
    ax.yaxis.set_label_position("right")
    ax.spines["left"].set_visible(False)
    ax.spines["right"].set_visible(True)
    ax.set_xlabel("layer (the gradient comes from the right)")
    ax.set_ylabel("RMS of the gradient at its input")
    ax.grid(True)
    return fig


@measurement("dead-units", absolute={"mean": 0.03, "least": 0.08, "most": 0.08}, seconds=8)
def measure_dead_units():
    """The share of dead units after 100 steps: mean, least and most of five runs."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    X, T = digits.data / 16, np.eye(10)[digits.target]

    def dead_after(rate, bias, seed):
        rng = np.random.default_rng(seed)
        W1, W2 = rng.normal(size=(64, 64)) * np.sqrt(2 / 64), rng.normal(size=(10, 64)) / 8
        b1, b2 = np.full(64, bias), np.zeros(10)
        for _ in range(100):
            rows = rng.integers(0, len(X), 64)
            x = X[rows]
            Z = x @ W1.T + b1
            A = np.maximum(Z, 0)
            Y_grad = (A @ W2.T + b2 - T[rows]) / 64
            Z_grad = (Y_grad @ W2) * (Z > 0)
            W2, b2 = W2 - rate * Y_grad.T @ A, b2 - rate * Y_grad.sum(axis=0)
            W1, b1 = W1 - rate * Z_grad.T @ x, b1 - rate * Z_grad.sum(axis=0)
        return dead_fraction(X @ W1.T + b1)

    rates, biases = np.geomspace(0.01, 1.5, 14), (1.0, 0.0, -1.0)
    dead = np.array(
        [[[dead_after(r, bias, seed) for seed in range(5)] for r in rates] for bias in biases]
    )
    found = {"mean": dead.mean(axis=2), "least": dead.min(axis=2), "most": dead.max(axis=2)}
    return {"rates": rates, "biases": biases, **found}


@figure("dead-units")
def dead_units(plt):
    fig, ax = plt.subplots(figsize=(7, 3.6))
    found = measured("dead-units")
    rates = found["rates"]
    for i, (colour, mark, place) in enumerate(
        (
            ("vermillion", "o", (0.06, 0.85)),
            ("blue", "s", (0.33, 0.23)),
            ("green", "^", (0.0125, 0.56)),
        )
    ):
        bias, mean, least, most = (found[entry][i] for entry in ("biases", "mean", "least", "most"))
        ax.plot(rates, mean, mark + "-", color=COLORS[colour], markersize=5)
        ax.fill_between(rates, least, most, color=COLORS[colour], alpha=0.2, linewidth=0)
        label = f"biases start at {bias:g}".replace("-", "−")
        ax.text(*place, label, color=COLORS[colour], ha="right" if bias > 0 else "left")
    ax.set_xscale("log")
    ax.set_xticks([0.01, 0.03, 0.1, 0.3, 1], ["0.01", "0.03", "0.1", "0.3", "1"])
    ax.minorticks_off()
    ax.set_xlabel("learning rate")
    ax.set_ylabel("share of dead units")
    ax.set_ylim(-0.03, 1.03)
    ax.grid(True)
    return fig


@figure("gelu")
def gelu_and_errors(plt):
    fig, axes = plt.subplots(1, 2, figsize=(7, 3.2))
    x = np.linspace(-4, 4, 801)
    left, right = axes
    left.plot(x, np.maximum(x, 0), color=COLORS["grey"], linewidth=1.4)
    left.plot(x, x * normal_cdf(x), color=COLORS["blue"], linewidth=2.2)
    left.plot(x, normal_cdf(x), "--", color=COLORS["vermillion"], linewidth=1.6)
    left.plot([-0.7518], [-0.17], "o", color=COLORS["blue"], markersize=5)
    left.text(-0.75, -0.5, "−0.170 at −0.752", color=COLORS["blue"], ha="center", fontsize=8)
    left.text(-3.1, 0.85, "Φ(x): the\nprobability\nof passing", color=COLORS["vermillion"])
    left.text(2.05, 1.35, "x Φ(x)", color=COLORS["blue"])
    left.text(0.95, 2.2, "ReLU", color=COLORS["grey"], ha="right")
    left.set_xlim(-3.2, 3.2)
    left.set_ylim(-0.7, 2.6)
    left.set_xlabel("x")
    exact = x * normal_cdf(x)
    for approximate, colour in (("sigmoid", "orange"), ("tanh", "green")):
        error = np.abs(gelu(Tensor(x), approximate).data - exact)
        right.semilogy(x, np.maximum(error, 1e-9), color=COLORS[colour], linewidth=1.8)
    right.text(0, 6e-2, "x σ(1.702x)", color=COLORS["orange"], ha="center")
    right.text(2.9, 8e-7, "tanh form", color=COLORS["green"], ha="center")
    right.set_ylim(1e-7, 2e-1)
    right.set_yticks(10.0 ** np.arange(-7, 0, 2))
    right.set_xlabel("x")
    right.set_title("distance from x Φ(x)")
    right.grid(True)
    return fig


@figure("variance-map")
def variance_map(plt):
    z = (np.arange(-6000, 6000) + 0.5) / 500
    weight = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) / 500
    fig, axes = plt.subplots(1, 3, figsize=(7, 2.8), sharey=True)
    v = np.linspace(0, 2.5, 51)
    for ax, (name, act) in zip(axes, (("tanh", tanh), ("ReLU", relu), ("GELU", gelu)), strict=True):
        g = gain(act)

        def after(size, act=act, g=g):
            return g**2 * float(np.sum(act(Tensor(np.sqrt(size) * z)).data ** 2 * weight))

        ax.plot(v, v, color=COLORS["grey"], linewidth=1)
        ax.plot(v, [after(size) for size in v], color=COLORS["blue"], linewidth=2.2)
        for start in (0.6, 1.5):
            path, size = [(start, start)], start
            for _ in range(6):
                new = after(size)
                path += [(size, new), (new, new)]
                size = new
            ax.plot(*np.array(path).T, color=COLORS["vermillion"], linewidth=1.2)
            ax.plot(start, start, "o", color=COLORS["vermillion"], markersize=4)
        ax.plot(1, 1, "o", color=COLORS["black"], markersize=5, zorder=4)
        ax.set_title(f"{name}, gain {g:.2f}")
        ax.set_xlabel("variance before")
        ax.set_xlim(0, 2.5)
        ax.set_ylim(0, 2.5)
        ax.set_aspect("equal")
    axes[0].set_ylabel("variance after one layer")
    return fig
