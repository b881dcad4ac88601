"""Figures of training/loss-functions.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.figures import COLORS, figure, measured, measurement
from chainrule.math_foundations.probability import softmax
from chainrule.training.loss_functions import fit_temperature


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
