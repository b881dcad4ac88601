"""Figures of training/loss-functions.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.math_foundations.information_theory import entropy
from chainrule.math_foundations.probability import softmax
from chainrule.neural_networks.backpropagation import Tensor
from chainrule.training.loss_functions import cross_entropy, fit_temperature


@figure("residuals")
def residuals(plt):
    e = np.linspace(-3, 3, 601)
    size = np.abs(e)
    q = 0.9
    curves = {
        "squared": (e**2, 2 * e, "blue", "-"),
        "absolute": (size, np.sign(e), "vermillion", "-"),
        "Huber, δ = 1": (
            np.where(size <= 1, e**2 / 2, size - 0.5),
            np.clip(e, -1, 1),
            "green",
            "--",
        ),
        "quantile, q = 0.9": (
            np.where(e >= 0, (1 - q) * e, -q * e),
            np.where(e >= 0, 1 - q, -q),
            "black",
            ":",
        ),
    }
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.6))
    for name, (loss, slope, color, style) in curves.items():
        left.plot(e, loss, style, color=COLORS[color], label=name)
        right.plot(e, slope, style, color=COLORS[color])
    left.set_ylim(0, 4)
    left.set_title("loss")
    right.set_ylim(-3, 3)
    right.set_title("slope")
    for ax in (left, right):
        ax.set_xlabel("error: prediction − target")
        ax.axvline(0, color=COLORS["light"], lw=0.8, zorder=0)
    right.axhline(0, color=COLORS["light"], lw=0.8, zorder=0)
    left.legend(loc="upper center")
    return fig


@figure("saturated")
def saturated(plt):
    z = np.linspace(-10, 10, 401)
    p = 1 / (1 + np.exp(-z))
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.4))
    left.plot(z, (p - 1) ** 2, color=COLORS["blue"])
    left.plot(z, np.logaddexp(0, -z), color=COLORS["vermillion"])
    left.set_ylim(0, 10.3)
    left.set_title("loss, target 1")
    left.text(-9.6, 1.35, "squared error", color=COLORS["blue"])
    left.text(-4.6, 5.4, "−log σ(z)", color=COLORS["vermillion"])
    right.plot(z, 2 * (1 - p) * p * (1 - p), color=COLORS["blue"])
    right.plot(z, 1 - p, color=COLORS["vermillion"])
    right.set_ylim(0, 1.1)
    right.set_title("size of the gradient")
    right.text(-9.8, 0.07, "squared error", color=COLORS["blue"])
    right.text(-9.6, 0.9, "−log σ(z)", color=COLORS["vermillion"])
    for ax in (left, right):
        ax.set_xlabel("score z")
    return fig


@figure("logits")
def logits(plt):
    """The default of the interactive figure, without its handles."""
    found = logits_model(
        {"label": "class 1", "z1": 1, "z2": 2, "z3": 3, "eps": 0.0, "tau": 1.0},
    )
    p, t, gradient = (np.array(found[name]) for name in ("p", "t", "gradient"))
    colors = [COLORS[name] for name in ("green", "vermillion", "blue")]
    fig, (said, moves, slope) = plt.subplots(1, 3, figsize=(7.4, 3.0), width_ratios=(1, 1, 1.1))
    place = np.arange(3)
    said.barh(place, p, 0.6, color=colors)
    said.barh(place, t, 0.78, fill=False, ls="--", ec="black")
    said.set_xlim(0, 1.35)
    said.set_xlabel("probability; outline: wanted")
    moves.barh(place, gradient, 0.6, color=colors)
    moves.axvline(0, color="black", lw=0.8)
    moves.set_xlim(-1.9, 1.4)
    moves.set_xlabel("gradient: said − wanted")
    for k in range(3):
        said.text(max(p[k], t[k]) + 0.04, k, f"{p[k]:.2f}", va="center", color=colors[k])
        side = "right" if gradient[k] < 0 else "left"
        at = gradient[k] + (-0.05 if gradient[k] < 0 else 0.05)
        text = f"{gradient[k]:.2f}".replace("-", "−")
        moves.text(at, k, text, va="center", ha=side, color=colors[k])
    for ax in (said, moves):
        ax.set_yticks(place, [f"class {k + 1}" for k in place])
        ax.set_ylim(2.6, -0.6)
    moves.set_yticks(place, [""] * 3)
    slope.plot(_PLACES, found["curve"], color=colors[0])
    slope.plot(1, found["loss"], "o", color=colors[0])
    along = np.array([-0.5, 2.5])
    slope.plot(along, found["loss"] + gradient[0] * (along - 1), color="black", lw=1)
    slope.set_xlabel("logit of the label, class 1")
    slope.set_title("loss, nats")
    slope.set_ylim(0, 12)
    return fig


_PLACES = (np.arange(161) - 80) / 10


@interactive(
    "logits",
    states=[
        {"label": "class 2", "eps": 0.1, "tau": 3},
        {"z1": -8, "z3": 8, "tau": 0.1},
        {"label": "class 3", "z1": 4, "z2": -1.5, "z3": 7, "eps": 0.5, "tau": 0.5},
    ],
)
def logits_model(state):
    z = np.array([[state[f"z{k}"] for k in (1, 2, 3)]], dtype=float)
    right, eps, tau = int(state["label"][-1]) - 1, state["eps"], state["tau"]
    given = Tensor(z, requires_grad=True)
    loss = cross_entropy(given / tau, np.array([right]), label_smoothing=eps)
    loss.backward()
    t = (1 - eps) * np.eye(3)[right] + eps / 3
    along = np.repeat(z, len(_PLACES), axis=0)
    along[:, right] = _PLACES
    targets = np.full(len(along), right)
    curve = cross_entropy(Tensor(along / tau), targets, label_smoothing=eps, reduction="none").data
    return {
        "t": t,
        "p": softmax(z / tau)[0],
        "right": right,
        "gradient": given.grad[0],
        "loss": loss.item(),
        "floor": entropy(t),
        "curve": curve,
    }


@figure("memory")
def memory(plt):
    tokens = 2.0 ** np.arange(6, 14.01, 0.25)
    row = 50257 * 4 / 1e9
    fig, ax = plt.subplots(figsize=(6.4, 3.4))
    ax.loglog(tokens, tokens * row, color=COLORS["blue"], base=10)
    ax.loglog(tokens, np.minimum(tokens, 1024) * row, "--", color=COLORS["vermillion"], base=10)
    ax.plot(8192, 8192 * row, "o", color=COLORS["blue"])
    ax.annotate("8,192 tokens: 1.65 GB", (8192, 8192 * row), (700, 2.1), color=COLORS["blue"])
    ax.text(3000, 0.115, "chunks of 1,024 rows", color=COLORS["vermillion"])
    ax.set_xticks([64, 256, 1024, 4096, 16384], ["64", "256", "1,024", "4,096", "16,384"])
    ax.set_yticks([0.01, 0.1, 1], ["0.01", "0.1", "1"])
    ax.minorticks_off()
    ax.set_xlabel("tokens in the batch")
    ax.set_ylabel("logits held, GB")
    ax.set_ylim(0.01, 4)
    return fig


@measurement("reliability", relative=1e-3, seconds=2)
def measure_reliability():
    """Confidence, accuracy and number of scans in each bin, as they are and with a temperature."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, label = digits.data, digits.target
    scores = []
    for k in range(10):
        scans = x[:1200][label[:1200] == k]
        spread = scans.var(axis=0) + 1
        penalty = (x[1200:] - scans.mean(axis=0)) ** 2 / spread + np.log(spread)
        scores.append(-0.5 * penalty.sum(axis=1))
    z, label = np.stack(scores, axis=1), label[1200:]
    half = len(z) // 2
    T = fit_temperature(z[:half], label[:half])
    z, label = z[half:], label[half:]
    found = {"temperatures": [1.0, T], "bins": []}
    for temperature in (1.0, T):
        p = softmax(z / temperature)
        sure, right = p.max(axis=1), p.argmax(axis=1) == label
        which = np.ceil(sure * 15).astype(int)
        inside = [which == m for m in np.unique(which)]
        found["bins"].append([(sure[i].mean(), right[i].mean(), int(i.sum())) for i in inside])
    return found


@figure("reliability")
def reliability(plt):
    found = measured("reliability")
    fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.7), sharey=True)
    names = ("as they are", f"divided by {found['temperatures'][1]:.1f}")
    for ax, bins, name in zip(axes, found["bins"], names, strict=True):
        ax.plot([0, 1], [0, 1], color=COLORS["grey"], lw=1)
        for sure, right, count in bins:
            ax.scatter(sure, right, s=4 + 2.2 * count, color=COLORS["blue"], alpha=0.75, lw=0)
        ax.set_title(f"logits {name}")
        ax.set_xlabel("confidence")
        ax.set_xlim(0.2, 1.08)
        ax.set_ylim(-0.05, 1.1)
    axes[0].set_ylabel("accuracy")
    return fig
