"""Figures of transformers/attention.md."""

from __future__ import annotations

import numpy as np
from matplotlib.patches import FancyBboxPatch, Rectangle

from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.data.sentence import SENTENCE, W_K, W_Q, W_V, embed
from chainrule.math_foundations.probability import softmax
from chainrule.neural_networks.backpropagation import (
    Embedding,
    Linear,
    Module,
    concat,
    logsumexp,
    no_grad,
    relu,
)
from chainrule.transformers.attention import (
    merge_states,
    nadaraya_watson,
    scaled_dot_product_attention,
    softmax_state,
)

# ---- recall: sixteen keys, sixteen values, one vector or all of them ---------------------------

SYMBOLS, WIDTH, HIDDEN = 16, 32, 128
PAIRS = (2, 4, 8, 16)
RATES = (0.01, 0.03, 0.1, 0.3, 0.6)
STEPS, LONGER, BATCH, SEEDS = 4000, 16000, 64, 5


def lists_of_pairs(rng, count, pairs):
    """Distinct keys, any values, the key that is asked for, and its value."""
    keys = rng.random((count, SYMBOLS)).argsort(axis=1)[:, :pairs]
    values = rng.integers(0, SYMBOLS, (count, pairs))
    asked, rows = rng.integers(0, pairs, count), np.arange(count)
    return keys, values, keys[rows, asked], values[rows, asked]


class Attending(Module):
    """Keeps every pair: one query, a key and a value for each, 4,608 weights."""

    def __init__(self, rng):
        self.key = Embedding(SYMBOLS, WIDTH, rng=rng)
        self.value = Embedding(SYMBOLS, WIDTH, rng=rng)
        self.q, self.k, self.v = (Linear(WIDTH, WIDTH, False, rng=rng) for _ in range(3))
        self.out = Linear(WIDTH, SYMBOLS, False, rng=rng)

    def forward(self, keys, values, asked):
        """Return the logits of the answers."""
        q = self.q(self.key(asked[:, None]))
        k, v = self.k(self.key(keys)), self.v(self.value(values))
        return self.out(scaled_dot_product_attention(q, k, v)[0][:, 0])


class Summing(Module):
    """Adds every pair to one state of 32 numbers and answers from that, 23,552 weights."""

    def __init__(self, rng):
        self.key = Embedding(SYMBOLS, WIDTH, rng=rng)
        self.value = Embedding(SYMBOLS, WIDTH, rng=rng)
        self.pair = Linear(2 * WIDTH, HIDDEN, False, rng=rng)
        self.add = Linear(HIDDEN, WIDTH, False, rng=rng)
        self.read = Linear(2 * WIDTH, HIDDEN, False, rng=rng)
        self.out = Linear(HIDDEN, SYMBOLS, False, rng=rng)

    def forward(self, keys, values, asked):
        """Return the logits of the answers."""
        pairs = concat([self.key(keys), self.value(values)], axis=-1)
        state = self.add(relu(self.pair(pairs))).sum(axis=1)
        return self.out(relu(self.read(concat([state, self.key(asked)], axis=-1))))


KINDS = {"attention": Attending, "sum": Summing}


def recalled(kind, pairs, rate, seed, steps=STEPS, lists=4000, moments=None):
    """The share of right answers on fresh lists after gradient descent, its rate falling.

    With ``moments`` each step is divided by the size of the gradients so far: the rule Adam.
    """
    rng = np.random.default_rng(seed)
    model = KINDS[kind](rng)
    for step in range(steps):
        *given, answers = lists_of_pairs(rng, BATCH, pairs)
        logits = model(*given)
        loss = (logsumexp(logits, axis=-1) - logits[np.arange(BATCH), answers]).mean()
        model.zero_grad()
        loss.backward()
        for place, parameter in enumerate(model.parameters()):
            g = parameter.grad
            if moments is not None:
                first, second = moments.setdefault(place, (np.zeros_like(g), np.zeros_like(g)))
                first += 0.1 * (g - first)
                second += 0.001 * (g * g - second)
                size = np.sqrt(second / (1 - 0.999 ** (step + 1))) + 1e-8
                g = first / (1 - 0.9 ** (step + 1)) / size
            parameter.data -= np.float32(rate * (1 - step / steps)) * g
    *given, answers = lists_of_pairs(np.random.default_rng(10_000 + seed), lists, pairs)
    with no_grad():
        return float((model(*given).data.argmax(axis=1) == answers).mean())


@measurement("recall-rates", absolute=0.08, seconds=170)
def measure_rates():
    """Every rate for every number of pairs, with a seed that is used for nothing else."""
    with np.errstate(all="ignore"):  # too high a rate overflows
        return {
            "rates": RATES,
            **{
                kind: [[recalled(kind, pairs, rate, seed=99) for rate in RATES] for pairs in PAIRS]
                for kind in KINDS
            },
        }


def most_frequent(pairs, lists=100_000):
    """How often the most frequent number of a list is right, whatever was asked for."""
    values = np.random.default_rng(0).integers(0, SYMBOLS, (lists, pairs))
    counts = (values[:, :, None] == np.arange(SYMBOLS)).sum(axis=1)
    return float(counts.max(axis=1).mean() / pairs)


BANDS = {"attention": 0.01, "sum": 0.05, "most frequent": 0.001}


@measurement("recall", absolute=BANDS, seconds=210)
def measure_recall():
    """Five seeds at each one's best rate: mean, lowest and highest share of right answers."""
    tried = measured("recall-rates")

    def best(kind, place):  # of rates that do equally well the largest
        return max(zip(tried[kind][place], tried["rates"], strict=True))[1]

    def five(kind, place):
        rate = best(kind, place)
        right = [recalled(kind, PAIRS[place], rate, seed) for seed in range(SEEDS)]
        return [float(np.mean(right)), min(right), max(right)]

    return {
        "pairs": PAIRS,
        **{kind: [five(kind, place) for place in range(len(PAIRS))] for kind in KINDS},
        "most frequent": [most_frequent(pairs) for pairs in PAIRS],
    }


ADAM_RATES = (0.001, 0.003, 0.01)


@measurement("recall-adam", absolute={"tried": 0.12, "sum": 0.06}, seconds=740)
def measure_recall_with_adam():
    """The state again, four times as long and with Adam: rates tried by one seed, then five."""

    def run(pairs, rate, seed):
        return recalled("sum", pairs, rate, seed, LONGER, moments={})

    tried = [[run(pairs, rate, 99) for rate in ADAM_RATES] for pairs in PAIRS]
    found = []
    for pairs, row in zip(PAIRS, tried, strict=True):
        rate = ADAM_RATES[int(np.argmax(row))]
        right = [run(pairs, rate, seed) for seed in range(SEEDS)]
        found.append([float(np.mean(right)), min(right), max(right)])
    return {"pairs": PAIRS, "rates": ADAM_RATES, "tried": tried, "sum": found}


# ---- scale: sixteen random keys, a softmax, and how far it still can move ----------------------

DIMENSIONS = (1, 4, 16, 64, 256, 1024)


@measurement("scale", absolute=0.01, seconds=8)
def measure_scale():
    """Mean top weight, and mean trace of the Jacobian, of 4,000 queries among 16 keys."""
    rng = np.random.default_rng(0)
    found = {"d": DIMENSIONS, "raw": [], "root": [], "d itself": []}
    for d in DIMENSIONS:
        q = rng.standard_normal((4000, d))
        scores = np.stack([(q * rng.standard_normal(q.shape)).sum(1) for _ in range(16)], axis=1)
        for name, divisor in (("raw", 1), ("root", d**0.5), ("d itself", d)):
            p = softmax(scores / divisor)
            found[name].append([p.max(axis=1).mean(), 1 - (p**2).sum(axis=1).mean()])
    return found


# ---- drawings ----------------------------------------------------------------------------------


def _box(ax, x, y, width, height, text="", color="grey", face="white", size=10):
    shape = "round,pad=0,rounding_size=0.08"
    box = FancyBboxPatch(
        (x - width / 2, y - height / 2),
        width,
        height,
        boxstyle=shape,
        facecolor=face,
        edgecolor=COLORS[color],
        linewidth=1.2,
    )
    ax.add_patch(box)
    ax.text(x, y, text, ha="center", va="center", fontsize=size)


def _arrow(ax, start, end, color="grey", width=1.2):
    style = {"arrowstyle": "-|>", "color": COLORS[color], "lw": width, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=style)


@figure("squeeze")
def squeeze(plt):
    pairs = ("k 7", "b 2", "m 11", "a 5", "h 2")
    weights = (0.04, 0.78, 0.06, 0.08, 0.04)
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.8, 3.2))
    for ax, title in (
        (left, "one state: what was read is added up"),
        (right, "every pair is kept"),
    ):
        for x, pair in enumerate(pairs):
            _box(ax, x, 2, 0.8, 0.44, pair)
        ax.set_title(title)
        ax.set_xlim(-0.6, 5.6)
        ax.set_ylim(-1.05, 2.4)
        ax.axis("off")
    for x in range(5):
        _arrow(left, (x, 1.75), (x, 1.2))
        for cell in range(4):
            shade = plt.get_cmap("Blues")(0.12 + 0.17 * ((3 * x + 5 * cell * cell + x * cell) % 5))
            corner = (x - 0.17, 0.36 + 0.2 * cell)
            left.add_patch(Rectangle(corner, 0.34, 0.2, facecolor=shade, edgecolor="white"))
        _arrow(left, (x + 0.22, 0.76), (x + (0.68 if x == 4 else 0.78), 0.76))
    left.text(-0.2, 0.1, "32 numbers after each pair", fontsize=9, color=COLORS["blue"])
    _box(left, 5.1, 0.76, 0.8, 0.44, "state", "blue")
    _box(left, 5.1, -0.65, 0.62, 0.44, "b ?", "vermillion")
    _arrow(left, (5.1, -0.38), (5.1, 0.5), "vermillion")
    _box(right, 2, -0.65, 0.8, 0.44, "b ?", "vermillion")
    for x, weight in enumerate(weights):
        start, end = (2 + 0.12 * (x - 2), -0.4), (x, 1.75)
        right.plot(*zip(start, end, strict=True), color=COLORS["vermillion"], lw=0.5 + 6 * weight)
        right.text(
            x + (0.3 if x == 1 else 0.08),
            1.42,
            f"{weight:.2f}",
            fontsize=9,
            ha="left",
            bbox={"color": "white", "pad": 0.5, "alpha": 0.85},
        )
    return fig


@figure("recall")
def recall(plt):
    found, adam = measured("recall"), measured("recall-adam")
    places = np.log2(found["pairs"])
    fig, ax = plt.subplots(figsize=(6.6, 3.7))
    looks = (
        (found["attention"], "blue", "o-", "attention, 4,608 parameters", (2.45, 1.025)),
        (adam["sum"], "green", "^-", "one state, Adam,\nfour times the steps", (3.1, 0.72)),
        (found["sum"], "vermillion", "s-", "one state,\n23,552 parameters", (1.62, 0.5)),
    )
    for rows, color, look, label, place in looks:
        mean, low, high = np.array(rows).T
        spread = np.array([mean - low, high - mean])
        ax.errorbar(places, mean, spread, color=COLORS[color], fmt=look, capsize=4)
        ax.text(*place, label, color=COLORS[color])
    ax.plot(places, found["most frequent"], "--", color=COLORS["grey"], linewidth=1.2)
    ax.text(1.02, 0.13, "the most frequent number\nof the list, whatever is asked", color="#555555")
    ax.set_xticks(places, found["pairs"])
    ax.set_xlabel("pairs to remember")
    ax.set_ylabel("share of right answers")
    ax.set_ylim(0, 1.1)
    return fig


SIZES = np.array([31, 38, 42, 45, 52, 58, 63, 70, 74, 85, 92, 104.0])
PRICES = np.array([148, 190, 172, 225, 232, 290, 265, 330, 318, 402, 388, 430.0])


@figure("kernel")
def kernel(plt):
    x = np.linspace(20, 130, 441)
    fig, ax = plt.subplots(figsize=(6.8, 3.5))
    ax.plot(SIZES, PRICES, "o", color=COLORS["black"], zorder=3)
    for h, color, dash, label in (
        (1, "vermillion", "-", "h = 1 m²: the nearest flat"),
        (8, "blue", "-", "h = 8 m²"),
        (60, "green", "--", "h = 60 m²: nearly the mean"),
    ):
        y = nadaraya_watson(x[:, None], SIZES[:, None], PRICES[:, None], h)[:, 0]
        ax.plot(x, y, dash, color=COLORS[color], label=label, linewidth=1.6)
    for level in (PRICES.min(), PRICES.max()):
        ax.axhline(level, color=COLORS["grey"], linestyle=":", linewidth=1)
    ax.text(21, PRICES.max() + 5, "dearest flat", color=COLORS["grey"], fontsize=9)
    ax.text(112, PRICES.min() - 15, "cheapest flat", color=COLORS["grey"], fontsize=9)
    ax.set_xlabel("size of the flat (m²): key and query")
    ax.set_ylabel("price (1,000 €): value")
    ax.set_ylim(120, 450)
    ax.legend(loc="lower right", bbox_to_anchor=(1, 0.08))
    return fig


@figure("scale")
def scale(plt):
    found = measured("scale")
    fig, axes = plt.subplots(1, 2, figsize=(7.8, 3.3), sharex=True)
    looks = (
        ("raw", "vermillion", "s", "not divided"),
        ("root", "blue", "o", "divided by √d"),
        ("d itself", "green", "^", "divided by d"),
    )
    for name, color, marker, label in looks:
        for ax, values in zip(axes, np.array(found[name]).T, strict=True):
            ax.semilogx(found["d"], values, color=COLORS[color], base=2, marker=marker, label=label)
    axes[0].set_ylabel("largest of 16 weights")
    axes[0].axhline(1 / 16, color=COLORS["grey"], linestyle=":", linewidth=1)
    axes[0].text(1, 1 / 16 - 0.055, "1/16", color=COLORS["grey"], fontsize=9)
    axes[1].set_ylabel("sum of p(1 − p) over 16 weights")
    axes[1].legend(loc="lower left")
    for ax in axes:
        ax.set_ylim(-0.02, 1.02)
        ax.set_xticks(found["d"], found["d"])
        ax.set_xlabel("d, numbers in a query")
    return fig


@figure("heat-map")
def heat_map(plt):
    x = embed()
    q, k, v = x @ W_Q.T, x @ W_K.T, x @ W_V.T
    weights = softmax(q @ k.T / 2)
    handed = weights * np.linalg.norm(v, axis=1)
    fig, axes = plt.subplots(1, 2, figsize=(7.8, 4.5))
    titles = ("weights: where each word looks", "weight × length of the value")
    for ax, table, title in zip(axes, (weights, handed), titles, strict=True):
        ax.imshow(table, cmap="Blues", vmin=0, vmax=1 if table is weights else 2.3)
        for row in range(5):
            for column in range(5):
                dark = table[row, column] > (0.6 if table is weights else 1.4)
                text = f"{table[row, column]:.2f}"
                color = "white" if dark else "black"
                ax.text(column, row, text, ha="center", va="center", color=color, fontsize=9)
        ax.set_xticks(range(5), SENTENCE)
        ax.set_yticks(range(5), SENTENCE)
        ax.set_title(title)
        ax.set_xlabel("key: is looked at")
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
    axes[0].set_ylabel("query: looks")
    return fig


# ---- a query among keys ------------------------------------------------------------------------

KEYS = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [1.6, 1.6]])
VALUES = np.array([10.0, 20.0, 30.0, 40.0])
NAMES = ("A", "B", "C", "D")
TONES = ("blue", "vermillion", "green", "purple")


def look_up(query, sharpness, by):
    """Scores, weights and output of one query among the four keys."""
    query = np.asarray(query, dtype=float)
    products = KEYS @ query
    distances = -((KEYS - query) ** 2).sum(axis=1) / 2
    scores = products if by == "dot product" else distances
    weights = softmax(sharpness * scores)
    return {"scores": scores, "weights": weights, "output": weights @ VALUES}


@figure("query")
def query(plt):
    asked = (0.9, 0.5)
    found = look_up(asked, 1.0, "dot product")
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.8, 3.5), width_ratios=(1, 1.15))
    for name, key, tone in zip(NAMES, KEYS, TONES, strict=True):
        _arrow(left, (0, 0), key, tone, 1.6)
        left.text(*(key * 1.02 + (0.08, 0.1)), f"key {name}", color=COLORS[tone])
    _arrow(left, (0, 0), asked, "black", 2.4)
    left.text(asked[0] + 0.08, asked[1] - 0.12, "query", fontweight="bold")
    left.set_xlim(-1.5, 2.35)
    left.set_ylim(-0.9, 2.1)
    left.set_aspect("equal")
    left.axhline(0, color=COLORS["light"], linewidth=0.8, zorder=0)
    left.axvline(0, color=COLORS["light"], linewidth=0.8, zorder=0)
    left.axis("off")
    for place, tone in enumerate(TONES):
        weight = found["weights"][place]
        right.barh(3 - place, weight, 0.6, color=COLORS[tone])
        text = f"{weight:.2f} × {VALUES[place]:.0f}"
        right.text(weight + 0.02, 3 - place, text, va="center")
    right.set_yticks([3, 2, 1, 0], NAMES)
    right.set_xlim(0, 1)
    right.set_xlabel("weight")
    right.set_title(f"output {found['output']:.1f}")
    return fig


@interactive(
    "query",
    states=[
        {"query": [1, 0], "sharpness": 0.1},
        {"query": [-1.5, 0.4], "sharpness": 30},
        {"query": [0, 0]},
        {"query": [0.2, 1], "by": "distance", "sharpness": 3},
        {"query": [1.6, 1.6], "by": "distance", "sharpness": 30},
    ],
)
def query_model(state):
    return look_up(state["query"], state["sharpness"], state["by"])


# ---- one pass over blocks ----------------------------------------------------------------------

STREAM = np.array([0.4, 1.2, -0.3, 0.9, 2.6, 0.1, 1.7, -1.0, 3.1, 0.5, 2.2, 1.0])
CARRIED = np.array([10.0, 40.0, 20.0, 60.0, 30.0, 80.0, 50.0, 20.0, 70.0, 40.0, 10.0, 90.0])


def stream(block, step):
    """The state after some blocks, and what a softmax over all scores gives."""
    starts = list(range(0, len(STREAM), block))
    parts = [slice(start, start + block) for start in starts[:step]]
    states = [softmax_state(STREAM[None, part], CARRIED[part, None]) for part in parts]
    carried = states[0]
    for state in states[1:]:
        carried = merge_states(carried, state)
    maximum, total, accumulator = (float(part.ravel()[0]) for part in carried)
    seen = min(len(parts) * block, len(STREAM))
    return {
        "blocks": len(starts),
        "seen": seen,
        "maximum": maximum,
        "total": total,
        "accumulator": accumulator,
        "output": accumulator / total,
        "bars": np.exp(STREAM[:seen] - maximum),
        "exact": float(softmax(STREAM) @ CARRIED),
    }


@figure("one-pass")
def one_pass(plt):
    fig, axes = plt.subplots(2, 3, figsize=(7.8, 4.4), sharey="row")
    for column, step in enumerate((1, 2, 3)):
        found = stream(4, step)
        top, bottom = axes[:, column]
        seen = found["seen"]
        colors = [COLORS["blue"] if i < seen else COLORS["light"] for i in range(12)]
        for i in range(seen - 4, seen):
            colors[i] = COLORS["orange"]
        top.bar(range(1, 13), STREAM, color=colors)
        top.axhline(found["maximum"], color=COLORS["black"], linewidth=1, linestyle="--")
        top.set_title(f"block {step} of 3: m = {found['maximum']:.1f}")
        bottom.bar(range(1, seen + 1), found["bars"], color=colors[:seen])
        bottom.set_xlim(0.3, 12.7)
        bottom.text(6.5, 1.17, f"ℓ = {found['total']:.2f}, output {found['output']:.1f}",
                    ha="center")  # fmt: skip
        bottom.set_ylim(0, 1.35)
        bottom.set_xlabel("key")
        for ax in (top, bottom):
            ax.set_xticks([1, 4, 8, 12])
    axes[0, 0].set_ylabel("score z")
    axes[1, 0].set_ylabel("exp(z − m)")
    return fig


@interactive(
    "one-pass",
    states=[
        {"step": 3},
        {"step": 1, "block": 1},
        {"step": 12, "block": 1},
        {"step": 2, "block": 5},
        {"step": 12, "block": 12},
    ],
)
def one_pass_model(state):
    return stream(state["block"], state["step"])
