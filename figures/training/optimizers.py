"""Figures of training/optimizers.md."""

from __future__ import annotations

from itertools import product

import numpy as np
from sklearn.datasets import load_digits

from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.math_foundations.optimization import rosenbrock
from chainrule.neural_networks.backpropagation import Linear, Module, Parameter, Tensor
from chainrule.training.optimizers import (
    SGD,
    Adafactor,
    Adam,
    Lion,
    Muon,
    newton_schulz,
    warmup_cosine,
    warmup_linear,
    wsd,
)

TURNS = {"along the axes": 0.0, "turned by 45°": np.pi / 4}


def _turned(turn):
    """The rotation, and the matrix of the valley turned by it."""
    c, s = np.cos(turn), np.sin(turn)
    Q = np.array([[c, -s], [s, c]])
    return Q, Q @ np.diag([1.0, 50.0]) @ Q.T


@measurement("race", absolute=0.01, seconds=1)
def measure_race():
    """Where three optimizers are after each of 60 steps, in the valley and in the turned one."""
    found = {}
    for title, turn in TURNS.items():
        (Q, H), found[title] = _turned(turn), {}
        for name, make in (
            ("gradient descent", lambda p: SGD(p, lr=0.015)),
            ("momentum", lambda p: SGD(p, lr=0.015, momentum=0.7)),
            ("Adam", lambda p: Adam(p, lr=0.12, betas=(0.9, 0.99))),
        ):
            w = Parameter(Q @ np.array([2.2, 0.6]))
            optimizer, path = make([w]), [w.data.copy()]
            for _ in range(60):
                w.grad = H @ w.data
                optimizer.step()
                path.append(w.data.copy())
            found[title][name] = np.array(path)
    return found


@figure("race")
def race(plt):
    fig, axes = plt.subplots(1, 2, figsize=(7, 3.3), sharey=True)
    styles = {"gradient descent": ("blue", 6), "momentum": ("green", 11), "Adam": ("vermillion", 6)}
    for ax, (title, paths) in zip(axes, measured("race").items(), strict=True):
        _, H = _turned(TURNS[title])
        x, y = np.meshgrid(np.linspace(-2.6, 2.6, 200), np.linspace(-2.6, 2.6, 200))
        points = np.stack([x, y], axis=-1)
        f = np.einsum("...i,ij,...j->...", points, H, points) / 2
        ax.contour(
            x, y, np.log(f + 0.05), levels=8, colors=COLORS["light"], linewidths=0.9, zorder=0
        )
        for name, path in paths.items():
            (colour, size), path = styles[name], np.array(path)
            ax.plot(*path.T, color=COLORS[colour], linewidth=1.2, label=name)
            ax.plot(*path[-1], "o", color=COLORS[colour], markersize=size, zorder=4)
        ax.plot(0, 0, "+", color=COLORS["black"], markersize=9, zorder=5)
        ax.set_title(title)
        ax.set_aspect("equal")
        ax.set_xlabel("first weight")
    axes[0].set_ylabel("second weight")
    axes[0].legend(loc="lower left", frameon=False)
    return fig


BENT = rosenbrock(1, 10)
SURFACES = {  # the height above the minimum, its gradient, the start
    "long valley": (
        lambda w: w @ np.diag([1.0, 50.0]) @ w / 2,
        lambda w: np.array([1.0, 50.0]) * w,
        (2.2, 0.6),
    ),
    "bent valley": (
        lambda w: BENT.f(w) / 2,
        lambda w: BENT.grad(w) / 2,
        (-1.2, 1.0),
    ),
    "saddle, two minima": (
        lambda w: 5 * (w[0] ** 2 - w[1] ** 2) + 2.5 * (w[1] ** 4 + 1),
        lambda w: 10 * np.array([w[0], w[1] ** 3 - w[1]]),
        (2.2, 0.02),
    ),
}


@interactive(
    "race",
    states=[
        {"surface": "bent valley", "turn": 30, "step": 120},
        {"surface": "saddle, two minima", "who": "all six", "step": 0},
        {"lr": 0.15, "rate": 0.48, "turn": 90},
        {"lr": 0.0015, "rate": 0.03, "turn": 5, "who": "Nesterov, Lion, Muon", "step": 120},
    ],
    tolerance=1e-6,  # steps of one length circle a minimum for ever, and rounding errors grow
)
def race_model(state):
    f, gradient, start = SURFACES[state["surface"]]
    lr, rate = state["lr"], state["rate"]
    makers = (
        lambda p: SGD(p, lr=lr),
        lambda p: SGD(p, lr=lr, momentum=0.7),
        lambda p: Adam(p, lr=rate, betas=(0.9, 0.99)),
        lambda p: SGD(p, lr=lr, momentum=0.7, nesterov=True),
        lambda p: Lion(p, lr=rate / 4),
        lambda p: Muon(p, lr=rate / 4, weight_decay=0),
    )

    def on_surface(degrees):
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        Q = np.array([[c, -s], [s, c]])
        racers = []
        for make in makers:
            w = Parameter((Q @ start)[:, None])
            optimizer, path = make([w]), [Q @ start]
            while len(path) <= 120 and np.linalg.norm(w.data) < 30:
                w.grad = (Q @ gradient(Q.T @ w.data[:, 0]))[:, None]
                optimizer.step()
                path.append(w.data[:, 0].copy())
            racers.append(
                {
                    "heights": [f(Q.T @ place) for place in path],
                    "path": path[: state["step"] + 1],
                    "left": len(path) <= 120 and len(path) <= state["step"] + 1,
                }
            )
        grid = np.linspace(-2.6, 2.6, 65)
        z = [[np.log(f(Q.T @ [x, y]) + 0.05) for x in grid] for y in grid]
        return {"racers": racers, "contours": {"x": grid, "y": grid, "z": z}}

    return {"along": on_surface(0), "turned": on_surface(state["turn"])}


@figure("correction")
def correction(plt):
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.0))
    t = np.arange(1, 10_001)
    first, second = 1 - 0.9**t, 1 - 0.999**t
    left.loglog(t, first, color=COLORS["blue"])
    left.loglog(t, second, color=COLORS["vermillion"])
    left.text(14, 0.4, "first moment", color=COLORS["blue"], fontsize=9.5)
    left.text(60, 0.03, "second moment", color=COLORS["vermillion"], fontsize=9.5)
    left.set_ylim(8e-4, 2)
    left.set_ylabel("sum of the weights")
    factor = first / np.sqrt(second)
    right.semilogx(t, factor, color=COLORS["purple"])
    right.axhline(1, color=COLORS["grey"], linewidth=0.9, linestyle="--")
    right.plot([1, 12], factor[[0, 11]], "o", color=COLORS["purple"])
    right.text(1.35, 2.9, "3.16 at step 1")
    right.text(20, 6.5, "6.57 at step 12")
    right.set_ylim(0, 7.4)
    right.set_ylabel("uncorrected over corrected")
    for ax in (left, right):
        ax.set_xlabel("step")
    return fig


SHAPES = {  # a schedule for the peak 1, of a run of so many steps
    "constant": lambda t, total: 1.0,
    "WSD": lambda t, total: wsd(t, 1, 20, total, decay=total // 5),
    "cosine to 0": lambda t, total: warmup_cosine(t, 1, 20, total),
    "linear to 0": lambda t, total: warmup_linear(t, 1, 20, total),
    "cosine to 10 %": lambda t, total: warmup_cosine(t, 1, 20, total, final=0.1),
    "WSD, 3/5": lambda t, total: wsd(t, 1, 20, total, decay=3 * total // 5),
}
PEAKS = np.geomspace(0.02, 1.9, 60)
TONES = {
    "constant": "grey",
    "WSD": "vermillion",
    "cosine to 0": "blue",
    "linear to 0": "green",
    "cosine to 10 %": "sky",
}


def _expected(shape, peaks, total=1000, noise=0.3, smallest=0.01):
    """The exact mean loss after each step, a column a peak."""
    curvatures = np.geomspace(smallest, 1, 30)
    V, losses = np.ones((len(peaks), 30)), []
    for t in range(total):
        lr = shape(t, total) * peaks[:, None]
        V = (1 - lr * curvatures) ** 2 * V + lr**2 * noise**2
        losses.append(V @ curvatures / 2)
    return np.array(losses)


@measurement("schedules", relative=1e-3, seconds=3)
def measure_schedules():
    """How far each schedule, at its own best peak, lies above the best of the first five."""
    peaks, above = np.geomspace(0.005, 1.9, 60), {name: [] for name in SHAPES}
    settings = list(product((300, 1000, 3000), (0.1, 0.3, 1.0), (0.01, 0.001)))
    for setting in settings:
        ends = {name: _expected(shape, peaks, *setting)[-1] for name, shape in SHAPES.items()}
        assert all(0 < last.argmin() < len(peaks) - 1 for last in ends.values())
        lowest = min(last.min() for name, last in ends.items() if name in TONES)
        for name, last in ends.items():
            above[name].append(last.min() / lowest - 1)
    return {"settings": settings, "above": above}


@figure("peaks")
def peaks_figure(plt):
    fig, ax = plt.subplots(figsize=(7, 3.9))
    for name, colour in TONES.items():
        last = _expected(SHAPES[name], PEAKS)[-1]
        ax.loglog(PEAKS, last, color=COLORS[colour], linewidth=2)
        ax.plot(PEAKS[last.argmin()], last.min(), "o", color=COLORS[colour], markersize=6)
        height = {"constant": 0.45, "linear to 0": 0.111, "cosine to 0": 0.085}
        at = 0.42 if name == "constant" else 2.0
        align = {"ha": "right"} if name == "constant" else {"va": "center"}
        ax.text(at, height.get(name, last[-1]), name, color=COLORS[colour], **align)
    ax.axvline(0.5, color=COLORS["grey"], linewidth=1, linestyle="--", zorder=0)
    ax.set_xticks(
        [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2], ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2"]
    )
    ax.set_yticks([0.03, 0.05, 0.1, 0.2, 0.5], ["0.03", "0.05", "0.1", "0.2", "0.5"])
    ax.minorticks_off()
    ax.set_xlabel("peak learning rate")
    ax.set_ylabel("expected loss at the end")
    ax.set_ylim(0.027, 0.6)
    ax.set_xlim(0.02, 1.9)
    ax.grid(True)
    return fig


@figure("schedules")
def schedules(plt):
    fig, (top, bottom) = plt.subplots(2, 1, figsize=(7, 4.8), sharex=True, height_ratios=[1, 1.5])
    for name in ("constant", "cosine to 0", "linear to 0", "WSD"):
        shape, colour = SHAPES[name], COLORS[TONES[name]]
        peak = PEAKS[_expected(shape, PEAKS)[-1].argmin()]
        style = "--" if name == "constant" else "-"
        top.plot([peak * shape(t, 1000) for t in range(1000)], style, color=colour, label=name)
        bottom.semilogy(_expected(shape, np.array([peak])), style, color=colour)
    top.set_ylabel("learning rate")
    top.set_ylim(0, 0.145)
    top.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    bottom.set_ylabel("expected loss")
    bottom.set_xlabel("step")
    bottom.set_yticks(
        [0.03, 0.05, 0.1, 0.2, 0.5, 1, 2], ["0.03", "0.05", "0.1", "0.2", "0.5", "1", "2"]
    )
    bottom.minorticks_off()
    bottom.set_ylim(0.027, 3)
    return fig


class Net(Module):
    """The page's network for scans."""

    def __init__(self, rng):
        self.first = Linear(64, 64, rng=rng)
        self.second = Linear(64, 64, rng=rng)
        self.output = Linear(64, 10, rng=rng)

    def forward(self, x):
        """Return the ten outputs of each scan."""
        return self.output(self.second(self.first(x).tanh()).tanh())


def _muon(model):
    hidden = [model.first.weight, model.second.weight]
    rest = [model.first.bias, model.second.bias, *model.output.parameters()]
    return [Muon(hidden, lr=0.05, weight_decay=0.0), Adam(rest, lr=0.01)]


RACERS = {  # at the best of the three rates that the page tries
    "SGD": lambda model: [SGD(model.parameters(), lr=0.25)],
    "momentum": lambda model: [SGD(model.parameters(), lr=0.08, momentum=0.9)],
    "Adam": lambda model: [Adam(model.parameters(), lr=0.02)],
    "Adafactor": lambda model: [Adafactor(model.parameters(), lr=0.4)],
    "Lion": lambda model: [Lion(model.parameters(), lr=0.003)],
    "Muon": _muon,
}


@measurement("digits-race", absolute=0.015, relative=0.05, seconds=8)
def measure_digits_race():
    """The page's training loss on the digits after five epochs, for five seeds."""
    digits = load_digits()
    X = (digits.data / 16).astype(np.float32)
    Y = np.eye(10, dtype=np.float32)[digits.target]

    def loss_of(model, rows=slice(None)):
        return ((model(Tensor(X[rows])) - Y[rows]) ** 2).sum() / len(X[rows])

    def trained(make, seed):
        rng = np.random.default_rng(seed)
        model = Net(rng)
        optimizers = make(model)
        for _ in range(5):
            for rows in rng.permutation(1792).reshape(-1, 32):
                loss = loss_of(model, rows)
                model.zero_grad()
                loss.backward()
                for optimizer in optimizers:
                    optimizer.step()
        return loss_of(model).item()

    return {name: [trained(make, seed) for seed in range(5)] for name, make in RACERS.items()}


@figure("newton-schulz")
def iterations(plt):
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.0), sharey=True)
    a, b, c = 3.4445, -4.7750, 2.0315
    s = np.linspace(0, 1, 1001)
    out = s
    for step in range(1, 6):
        out = a * out + b * out**3 + c * out**5
        if step in (1, 5):
            colour = COLORS["sky" if step == 1 else "blue"]
            left.plot(s, out, color=colour, label="once" if step == 1 else "five times")
    left.plot(s, s, "--", color=COLORS["grey"], linewidth=0.9)
    left.legend(frameon=False, loc="lower right")
    left.set_xlabel("singular value before")
    left.set_ylabel("singular value after")
    G = np.random.default_rng(0).normal(size=(64, 32))
    sigma = np.array(
        [np.linalg.svd(newton_schulz(G, steps), compute_uv=False) for steps in range(6)]
    )
    for step, values in enumerate(sigma):
        right.plot(
            np.full(32, step), values, "_", color=COLORS["blue"], markersize=16, markeredgewidth=0.8
        )
    right.axhspan(0.68, 1.21, color=COLORS["light"], alpha=0.5, zorder=0, linewidth=0)
    right.set_xlabel("Newton–Schulz steps")
    right.set_ylim(0, 1.3)
    return fig
