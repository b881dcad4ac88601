"""Figures of training/batching.md."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
from sklearn.datasets import load_digits

from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.data.names import load_names
from chainrule.training.batching import (
    BatchSampler,
    bucket_batches,
    pack_best_fit,
    pack_first_fit,
)

SEEDS = 5

# ---- many runs at once: every rate and every seed of one batch size ----------------------------


def digits():
    """1,797 scanned digits, 64 pixels from 0 to 1 and a constant 1, and what they show."""
    scans = load_digits()
    return np.hstack([scans.data / 16, np.ones((1797, 1))]).astype(np.float32), scans.target


def letters():
    """Two letters as one-hot vectors, and the letter of a first name that follows them."""
    pairs, following = [], []
    for name in load_names().train:
        text = [0, 0, *(ord(c) - 96 for c in name), 0]
        for i in range(2, len(text)):
            pairs.append((text[i - 2], 27 + text[i - 1]))
            following.append(text[i])
    X = np.zeros((len(pairs), 54), dtype=np.float32)
    np.put_along_axis(X, np.array(pairs), 1, axis=1)
    return X, np.array(following)


class Runs:
    """Networks of one kind side by side, (seeds, rates) of them, each with weights of its own."""

    def __init__(self, X, y, rates, hidden=0):
        self.X, self.y, self.classes = X, y, int(y.max()) + 1
        self.rates = np.asarray(rates, dtype=np.float32)[None, :, None, None]
        sizes = [X.shape[1], hidden, self.classes] if hidden else [X.shape[1], self.classes]
        self.weights = []
        for n, m in pairwise(sizes):
            start = np.zeros((SEEDS, 1, n, m))
            if hidden:
                start = np.stack(
                    [np.random.default_rng([s, n]).normal(size=(1, n, m)) for s in range(SEEDS)]
                ) / np.sqrt(n)
            self.weights.append(np.repeat(start, len(rates), axis=1).astype(np.float32))
        self.m = [np.zeros_like(W) for W in self.weights]
        self.v = [np.zeros_like(W) for W in self.weights]
        self.t = 0

    def forward(self, X):
        """Hidden values, and the log-softmax of what comes out."""
        h = [X]
        for W in self.weights[:-1]:
            h.append(np.tanh(h[-1] @ W))
        z = h[-1] @ self.weights[-1]
        z = z - z.max(axis=-1, keepdims=True)
        return h, z - np.log(np.exp(z).sum(axis=-1, keepdims=True))

    def gradients(self, rows):
        """Of the mean loss of a batch; rows has shape (seeds, batch)."""
        h, log_p = self.forward(self.X[rows][:, None])
        g = np.exp(log_p)
        g -= np.eye(self.classes, dtype=np.float32)[self.y[rows]][:, None]
        g /= rows.shape[1]
        found = [np.swapaxes(h[-1], -1, -2) @ g]
        for k in range(len(self.weights) - 1, 0, -1):
            g = (g @ np.swapaxes(self.weights[k], -1, -2)) * (1 - h[k] ** 2)
            found.insert(0, np.swapaxes(h[k - 1], -1, -2) @ g)
        return found

    def sgd(self, rows):
        """One step of gradient descent."""
        for W, g in zip(self.weights, self.gradients(rows), strict=True):
            W -= self.rates * g

    def adam(self, rows, beta1=0.9, beta2=0.999):
        """One step of Adam."""
        self.t += 1
        for k, g in enumerate(self.gradients(rows)):
            self.m[k] += (1 - beta1) * (g - self.m[k])
            self.v[k] += (1 - beta2) * (g * g - self.v[k])
            m, v = self.m[k] / (1 - beta1**self.t), self.v[k] / (1 - beta2**self.t)
            self.weights[k] -= self.rates * m / (np.sqrt(v) + 1e-8)

    def losses(self, most=4000):
        """Mean loss of each run on all data (or on ``most`` examples), (seeds, rates)."""
        X, y = self.X[:most], self.y[:most]
        _, log_p = self.forward(X)
        return -log_p[:, :, np.arange(len(y)), y].mean(axis=-1)


def batches(n, size, count):
    """As many batches for every seed, (count, seeds, size), each epoch in a new order."""
    orders = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        epochs = -(-count * size // n)
        order = np.concatenate([rng.permutation(n) for _ in range(epochs)])
        orders.append(order[: count * size].reshape(count, size))
    return np.stack(orders, axis=1)


TASKS = {
    "digits, one layer": (digits, 0),
    "digits, hidden layer": (digits, 16),
    "letters of names": (letters, 0),
}


def load(task):
    """Inputs, targets and the number of hidden units of a task."""
    make, hidden = TASKS[task]
    return *make(), hidden


# ---- which rate suits which batch --------------------------------------------------------------

SIZES = (2, 8, 32, 128, 512)
EXAMPLES = 16_384
RATES = {"SGD": 2.0 ** np.arange(-8, 9), "Adam": 2.0 ** np.arange(-13, 4)}
METHODS = ("SGD", "Adam", "Adam, half-lives kept")


def final_losses(task, method, size):
    """Loss after 16,384 examples, of every seed and rate, at a constant rate."""
    X, y, hidden = load(task)
    runs = Runs(X, y, RATES[method.split(",")[0]], hidden)
    for rows in batches(len(X), size, EXAMPLES // size):
        if method == "SGD":
            runs.sgd(rows)
        elif method == "Adam":
            runs.adam(rows)
        else:  # as many examples until half is forgotten as Adam has at 32
            runs.adam(rows, 0.9 ** (size / 32), 0.999 ** (size / 32))
    return runs.losses()


def lowest(rates, losses):
    """Rate and loss at the bottom of a U, by a parabola through its three lowest points."""
    k = int(np.nanargmin(losses))
    if not 0 < k < len(rates) - 1:
        message = f"the best of the rates {rates} stands at their edge"
        raise ValueError(message)
    left, middle, right = np.log(losses[k - 1 : k + 2])
    bend = left - 2 * middle + right
    shift = (left - right) / (2 * bend) if np.isfinite(bend) and bend > 0 else 0.0
    return rates[k] * 2.0**shift, losses[k]


def at_rate(rates, losses, rate):
    """Loss at a rate between the measured ones, a straight line on logarithmic axes."""
    good = np.where(np.isfinite(losses), losses, 1e3)
    return float(np.exp(np.interp(np.log(rate), np.log(rates), np.log(good))))


# Where the best rate of a single run lies is chaotic if its U is flat: the rounding of another
# processor moved one power by 0.8. So the page quotes mean and standard error, to one decimal.
@measurement(
    "rules", relative={"best": 0.35, "loss": 0.2, "price": 0.7}, absolute={"power": 1.0}, seconds=45
)
def measure_rules():
    """For every task, method and batch size: the best rate, its loss, and what each rule costs.

    `power` is the p of "best rate proportional to B^p" between neighbouring sizes, for each seed.
    `price` is the loss at the rate that a rule makes of the best one at 32, over the best loss.
    """
    found = {"sizes": SIZES, "best": {}, "loss": {}, "power": {}, "price": {}}
    with np.errstate(all="ignore"):
        for task in TASKS:
            for method in METHODS:
                rates = RATES[method.split(",")[0]]
                each = [final_losses(task, method, size) for size in SIZES]
                means = [losses.mean(axis=0) for losses in each]
                own = [lowest(rates, mean) for mean in means]
                name = f"{task}, {method}"
                found["best"][name] = [rate for rate, _ in own]
                found["loss"][name] = [loss for _, loss in own]
                seeds = np.array([[lowest(rates, row)[0] for row in losses] for losses in each])
                found["power"][name] = np.diff(np.log(seeds), axis=0) / np.log(4)
                middle = SIZES.index(32)
                found["price"][name] = {
                    f"power {power}": [
                        min(at_rate(rates, mean, own[middle][0] * (size / 32) ** power) / loss, 100)
                        for size, mean, (_, loss) in zip(SIZES, means, own, strict=True)
                    ]
                    for power in (0.5, 1.0)
                }
    return found


# ---- steps against examples, and the noise scale on the way ------------------------------------

TARGETS = {"digits, one layer": 0.3, "letters of names": 2.4}
COUNTS = (1, 4, 16, 64, 256, 1024)
MIDDLE = {"digits, one layer": (0.25, 128), "letters of names": (0.12, 1000)}


def steps_to_target(task, size):
    """Fewest steps, over nine rates, until the mean loss of five runs is below its target."""
    X, y, hidden = load(task)
    rate, bend = MIDDLE[task]
    rates = rate * size / (1 + size / bend) * 2.0 ** np.arange(-2, 2.1, 0.5)
    runs, history = Runs(X, y, rates, hidden), []
    most = max(60, 20_000 // size + 40)
    every = max(1, most // 80)
    for t, rows in enumerate(batches(len(X), size, most)):
        if t % every == 0:
            history.append(runs.losses(2000).mean(axis=0))
            reached = np.flatnonzero((np.array(history) < TARGETS[task]).any(axis=1))
            if len(reached) and len(history) > 1.3 * reached[0] + 3:
                break
        runs.sgd(rows)
    fewest = np.inf
    for losses in np.array(history).T:
        below = np.flatnonzero(losses < TARGETS[task])
        if len(below) and below[0] > 0:
            before, after = np.log(losses[below[0] - 1 : below[0] + 1])
            share = (before - np.log(TARGETS[task])) / (before - after)
            fewest = min(fewest, (below[0] - 1 + share) * every)
    return fewest


@measurement("steps", relative=0.15, seconds=8)
def measure_steps():
    """Steps to a fixed loss for each batch size, and the hyperbola through them."""
    found = {"sizes": COUNTS}
    with np.errstate(all="ignore"):
        for task in TARGETS:
            steps = np.array([steps_to_target(task, size) for size in COUNTS])
            # steps = least + examples/size, fitted so that relative errors are least
            columns = np.stack([1 / steps, 1 / (np.array(COUNTS) * steps)], axis=1)
            least, examples = np.linalg.lstsq(columns, np.ones(len(steps)), rcond=None)[0]
            found[task] = {"steps": steps, "least steps": least, "least examples": examples}
    return found


@measurement("noise-scale", relative=0.5, seconds=3)
def measure_noise_scale():
    """tr(Σ)/|G|² from every example's own gradient, along runs with batches of 32."""
    found = {"steps": (0, 4, 8, 16, 32, 64, 128, 256)}
    for task, rate in (("digits, one layer", 2.0), ("letters of names", 3.7)):
        X, y, _ = load(task)
        runs, losses, scales = Runs(X, y, [rate]), [], []
        X, y = X[:4000], y[:4000]
        for t, rows in enumerate(batches(len(runs.X), 32, 257)):
            if t in found["steps"]:
                _, log_p = runs.forward(X)
                g = np.exp(log_p)[:, 0] - np.eye(runs.classes)[y]  # (seeds, examples, classes)
                square = ((g**2).sum(axis=-1) * (X**2).sum(axis=-1)).mean(axis=1)
                G = X.T @ g / len(X)
                signal = (G**2).sum(axis=(1, 2))
                losses.append(runs.losses().mean())
                scales.append(np.exp(np.log((square - signal) / signal).mean()))
            runs.sgd(rows)
        found[task] = {"loss": losses, "scale": scales}
    return found


# ---- time --------------------------------------------------------------------------------------


@measurement("throughput", absolute={"octaves": 3.0}, seconds=11)  # by processor and load
def measure_throughput():
    """How many times less an example of a batch costs than one alone, as a power of two.

    Timed is the whole step of a one-layer network on digits: forward, backward, update.
    """
    sizes = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
    X, y = digits()
    W, targets = np.zeros((65, 10), dtype=np.float32), np.eye(10, dtype=np.float32)[y]
    best = np.full(len(sizes), np.inf)
    for _ in range(25):
        for k, size in enumerate(sizes):
            repeats = max(1, 512 // size)
            begin = time.perf_counter()
            for i in range(repeats):
                rows = slice(i, i + size)
                z = X[rows] @ W
                p = np.exp(z - z.max(axis=1, keepdims=True))
                g = (p / p.sum(axis=1, keepdims=True) - targets[rows]) / size
                W = W - 0.1 * X[rows].T @ g
            best[k] = min(best[k], (time.perf_counter() - begin) / repeats / size)
    return {"sizes": sizes, "octaves": np.log2(best[0] / best)}


@figure("throughput")
def throughput(plt):
    found = measured("throughput")
    fig, ax = plt.subplots(figsize=(6.4, 3.2))
    cost = 2.0 ** -np.array(found["octaves"])
    ax.plot(found["sizes"], cost, "o-", color=COLORS["blue"])
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set_xticks([1, 4, 16, 64, 256, 1024], [1, 4, 16, 64, 256, "1,024"])
    ax.set_yticks([1, 1 / 4, 1 / 16, 1 / 64], ["1", "1/4", "1/16", "1/64"])
    ax.set_xlabel("batch size")
    ax.set_ylabel("time of one example\n(alone it is 1)")
    return fig


@figure("noise-scale")
def noise_scale(plt):
    found, fitted = measured("noise-scale"), measured("steps")
    fig, ax = plt.subplots(figsize=(6.4, 3.4))
    for task, colour, name in (
        ("letters of names", "vermillion", "letters"),
        ("digits, one layer", "blue", "digits"),
    ):
        steps = np.maximum(found["steps"], 2)  # step 0 has no place on a logarithmic axis
        ax.plot(steps, found[task]["scale"], "o-", color=COLORS[colour], label=name)
        critical = fitted[task]["least examples"] / fitted[task]["least steps"]
        ax.axhline(critical, color=COLORS[colour], linestyle="--", linewidth=1)
        ax.text(
            265, critical * 1.08, "from whole runs", color=COLORS[colour], fontsize=8, ha="right"
        )
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks([2, 4, 8, 16, 32, 64, 128, 256], ["start", 4, 8, 16, 32, 64, 128, 256])
    ax.set_yticks([10, 100, 1000], ["10", "100", "1,000"])
    ax.set_xlabel("steps")
    ax.set_ylabel("noise scale, examples")
    ax.legend(frameon=False, loc="upper left")
    return fig


@figure("steps")
def steps(plt):
    found = measured("steps")
    fig, axes = plt.subplots(1, 2, figsize=(7, 3.3))
    for ax, (task, name) in zip(
        axes, {"digits, one layer": "digits", "letters of names": "letters"}.items(), strict=True
    ):
        least, examples = found[task]["least steps"], found[task]["least examples"]
        critical = examples / least
        B = np.geomspace(0.7, 1500, 200)
        ax.plot(least * B + examples, least + examples / B, color=COLORS["grey"], zorder=1)
        S = np.array(found[task]["steps"])
        ax.plot(S * found["sizes"], S, "o", color=COLORS["blue"], zorder=3)
        for size, x, y in zip(found["sizes"], S * found["sizes"], S, strict=True):
            ax.annotate(f"{size:,}", (x, y), xytext=(6, 4), textcoords="offset points", fontsize=8)
        ring = {"markersize": 13, "markerfacecolor": "none", "color": COLORS["vermillion"]}
        ax.plot(2 * examples, 2 * least, "o", **ring)
        ax.annotate(
            f"critical: {critical:.0f}", (2 * examples, 2 * least), xytext=(-8, -18),
            textcoords="offset points", fontsize=8, color=COLORS["vermillion"], ha="right",
        )  # fmt: skip
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_title(name)
        ax.set_xlabel("examples")
    axes[0].set_xlim(350, 60_000)
    axes[0].set_ylim(12, 1200)
    axes[1].set_ylim(4, 6000)
    axes[1].set_xlim(1500, 25_000)
    axes[0].set_ylabel("steps")
    for ax, ticks in ((axes[0], (1000, 10_000)), (axes[1], (2000, 5000, 10_000, 20_000))):
        ax.set_xticks(ticks, [f"{t:,}" for t in ticks])
        ax.minorticks_off()
    for ax, ticks in ((axes[0], (20, 100, 500)), (axes[1], (10, 100, 1000))):
        ax.set_yticks(ticks, [f"{t:,}" for t in ticks])
    return fig


@figure("rules")
def rules(plt):
    found = measured("rules")
    fig, axes = plt.subplots(1, 2, figsize=(7, 3.5))
    sizes = np.array(found["sizes"])
    for ax, method in zip(axes, ("SGD", "Adam"), strict=True):
        for task, colour in zip(TASKS, ("blue", "green", "vermillion"), strict=True):
            best = found["best"][f"{task}, {method}"]
            ax.plot(sizes, best, "o-", color=COLORS[colour], label=task)
        start = {"SGD": 0.04, "Adam": 0.0016}[method]
        ax.plot(sizes[:4], start * sizes[:4] / 2, "--", color=COLORS["grey"], linewidth=1)
        ax.plot(sizes, start * np.sqrt(sizes / 2), ":", color=COLORS["grey"], linewidth=1.2)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(sizes, sizes)
        ax.set_title(method)
        ax.set_xlabel("batch size")
    axes[0].set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
    axes[1].set_yticks([0.01, 0.1], ["0.01", "0.1"])
    axes[0].set_ylabel("best learning rate")
    axes[0].legend(frameon=False, loc="upper left", fontsize=8)
    return fig


# ---- one step on a parabola --------------------------------------------------------------------


def gain(rate, B, slope=2.0, noise=6.0):
    """How far one step brings the loss down on average, on a parabola of curvature 1."""
    return rate * slope**2 - rate**2 / 2 * (slope**2 + noise**2 / B)


@figure("gain")
def step_gain(plt):
    fig, ax = plt.subplots(figsize=(6.4, 3.3))
    rates = np.linspace(0, 1.25, 251)
    for B, colour in ((1, "grey"), (3, "purple"), (9, "vermillion"), (27, "green"), (81, "blue")):
        best = 4 / (4 + 36 / B)
        ax.plot(rates, gain(rates, B), color=COLORS[colour])
        ax.plot(best, gain(best, B), "o", color=COLORS[colour])
        ax.text(best + 0.02, gain(best, B) + 0.07, f"{B}", color=COLORS[colour], fontsize=9)
    ax.axhline(0, color=COLORS["black"], linewidth=0.8)
    ax.set_ylim(-0.5, 2.15)
    ax.set_xlim(0, 1.25)
    ax.set_xlabel("rate")
    ax.set_ylabel("mean gain of one step")
    return fig


@interactive(
    "gain",
    states=[
        {"B": "1", "rate": 0.5},
        {"B": "81", "noise": 10, "rate": 1.2},
        {"noise": 0, "rate": 1},
        {"B": "243", "noise": 0.5, "rate": 0},
    ],
)
def gain_model(state):
    B, noise, rate = int(state["B"]), state["noise"], state["rate"]
    scale = noise**2 / 4
    return {
        "gain": gain(rate, B, noise=noise),
        "scale": scale,
        "best": 1 / (1 + scale / B),
        "most": 2 / (1 + scale / B),
        "examples": B + scale,
    }


# ---- sequences ---------------------------------------------------------------------------------


@measurement("sorting", seconds=1)
def measure_sorting():
    """Share of name ends in each batch: 32 at random, and buckets of width 2."""
    lengths = np.array([len(name) + 1 for name in load_names().train])
    rng = np.random.default_rng(0)
    ways = {
        "32 at random": list(BatchSampler(len(lengths), 32, rng)),
        "buckets of width 2": bucket_batches(lengths, 2, 32, rng),
    }
    return {
        name: [len(batch) / lengths[batch].sum() for batch in way] for name, way in ways.items()
    }


@figure("sorting")
def sorting(plt):
    found = measured("sorting")
    fig, ax = plt.subplots(figsize=(6.4, 2.9))
    for (name, shares), colour in zip(found.items(), ("blue", "vermillion"), strict=True):
        ax.plot(shares, "o", markersize=3.5, color=COLORS[colour], label=name)
    ax.set_xlabel("batch of an epoch")
    ax.set_ylabel("share of ends")
    ax.legend(frameon=False, loc="upper right", fontsize=8, ncols=2)
    ax.set_ylim(0.06, 0.42)
    return fig


SEVEN = (2, 5, 4, 7, 1, 3, 8)
POLICIES = ("one a row", "first fit", "longest first", "best fit")


def packing(lengths, n, policy):
    """Rows of positions in ``lengths``."""
    lengths = np.array(lengths)
    if policy == "one a row":
        return [[i] for i in range(len(lengths))]
    if policy == "best fit":
        return pack_best_fit(lengths, n)
    return pack_first_fit(lengths, n, decreasing=policy == "longest first")


@figure("packer")
def packer(plt):
    fig, axes = plt.subplots(1, 3, figsize=(7, 2.9), sharey=True)
    colours = ("blue", "vermillion", "green", "orange", "purple", "sky", "grey")
    for ax, policy in zip(axes, POLICIES[:3], strict=True):
        rows = packing(SEVEN, 10, policy)
        for r, row in enumerate(rows):
            ax.barh(r, 10, height=0.8, color="none", edgecolor=COLORS["grey"], linewidth=0.8)
            start = 0
            for i in row:
                ax.barh(
                    r, SEVEN[i], left=start, height=0.8, color=COLORS[colours[i]], edgecolor="white"
                )
                ax.text(start + SEVEN[i] / 2, r, SEVEN[i], ha="center", va="center", fontsize=9)
                start += SEVEN[i]
        ax.set_title(policy)
        ax.set_xlabel(f"{1 - 30 / (10 * len(rows)):.0%} padding")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_ylim(6.6, -0.6)
        for side in ax.spines.values():
            side.set_visible(False)
    return fig


@interactive(
    "packer",
    states=[
        {"policy": "first fit"},
        {"policy": "one a row", "n": 16},
        {"policy": "best fit", "n": 11, "a": 7, "b": 6, "c": 5, "d": 3, "e": 2, "f": 2, "g": 1},
        {"policy": "first fit", "a": 1, "b": 2, "c": 3, "d": 4, "e": 6, "f": 7, "g": 8},
    ],
)
def packer_model(state):
    lengths = [state[name] for name in "abcdefg"]
    rows = packing(lengths, state["n"], state["policy"])
    return {
        "rows": rows,
        "waste": 1 - sum(lengths) / (len(rows) * state["n"]),
        "least": -(-sum(lengths) // state["n"]),
    }


@figure("mask")
def mask(plt):
    documents = np.array([0, 0, 0, 0, 1, 1, 1, -1])
    letters = ["a", "n", "n", ".", "j", "o", ".", ""]
    causal = np.tri(8, dtype=bool)
    causal[7] = causal[:, 7] = False
    fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.2))
    for ax, (title, allowed) in zip(
        axes,
        {
            "earlier places": causal,
            "earlier places of its own name": causal & (documents[:, None] == documents),
        }.items(),
        strict=True,
    ):
        for t in range(8):
            for u in range(8):
                other = documents[t] != documents[u]
                colour = COLORS["vermillion" if other else "blue"] if allowed[t, u] else "white"
                square = plt.Rectangle((u, t), 1, 1, facecolor=colour, edgecolor=COLORS["light"])
                ax.add_patch(square)
        ax.set_xlim(0, 8)
        ax.set_ylim(8, 0)
        ax.set_aspect("equal")
        ax.set_xticks(np.arange(8) + 0.5, letters)
        ax.set_yticks(np.arange(8) + 0.5, letters)
        ax.tick_params(length=0)
        ax.set_title(title)
        ax.set_xlabel("may be used")
    axes[0].set_ylabel("asks")
    return fig
