"""Figures of architectures/rnns.md."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
from matplotlib.patches import FancyBboxPatch, Rectangle

from chainrule.architectures.rnns import (
    ALPHABET,
    CharRNN,
    CountTable,
    LinearRecurrence,
    encode_names,
    recall_task,
    sample_text,
    truncated_bptt,
)
from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.data.names import load_names
from chainrule.neural_networks.activation_functions import orthogonal_
from chainrule.neural_networks.backpropagation import Embedding, Linear, Module, no_grad, relu
from chainrule.training.loss_functions import cross_entropy
from chainrule.training.optimizers import AdamW, clip_grad_norm_

SEEDS = 5

# ---- names: count tables, a recurrent network, what its state knows, what it invents -----------

HIDDEN, BATCH, NAME_STEPS = 128, 128, 1000
LAGS = 8


def train_names(rate, decay, steps, seed, every=None):
    """A character model after AdamW with a falling rate, and its losses every so many steps."""
    rng = np.random.default_rng(seed)
    model = CharRNN(27, HIDDEN, rng=rng, dtype=np.float32)
    optimizer = AdamW(model.parameters(), lr=rate, weight_decay=decay)
    names = load_names()
    ids, targets = encode_names(names.train)
    held = [encode_names(part) for part in (names.train[:500], names.validation, names.test)]
    found = []
    for step in range(steps + 1):
        if step == steps or (every and step % every == 0):
            found.append([loss_of(model, *part) for part in held])
        if step == steps:
            return model, np.array(found)
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / steps)
        rows = rng.integers(0, len(ids), BATCH)
        longest = (targets[rows] >= 0).any(axis=0).sum()
        logits, _ = model(ids[rows, :longest])
        loss = cross_entropy(logits, targets[rows, :longest])
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def loss_of(model, ids, targets):
    """Mean nats per letter."""
    with no_grad():
        return cross_entropy(model(ids)[0], targets).item()


@measurement("names-rates", absolute=0.01, seconds=150)
def measure_name_rates():
    """Validation loss of every decay and rate, with two seeds used for nothing else."""
    rates, decays = (0.01, 0.03, 0.1), (0.0, 0.1, 0.3, 1.0)

    def last(rate, decay):
        return np.mean([train_names(rate, decay, NAME_STEPS, s)[1][-1, 1] for s in (98, 99)])

    return {
        "rates": rates,
        "decays": decays,
        "validation": [[last(rate, decay) for rate in rates] for decay in decays],
    }


def fall_back(train, test, order):
    """Mean nats per letter of tables of all orders, each mixed with the next shorter one.

    Witten and Bell's mix: a context seen n times, with u different letters after it, has the
    share n/(n + u).
    """
    counts = [defaultdict(Counter) for _ in range(order)]
    for name in train:
        text = "." * (order - 1) + name + "."
        for i in range(order - 1, len(text)):
            for k in range(order):
                counts[k][text[i - k : i]][text[i]] += 1
    surprise, letters = 0.0, 0
    for name in test:
        text = "." * (order - 1) + name + "."
        for i in range(order - 1, len(text)):
            p = 1 / 27
            for k in range(order):
                after = counts[k].get(text[i - k : i])
                if after:
                    n, u = sum(after.values()), len(after)
                    p = (after[text[i]] + u * p) / (n + u)
            surprise, letters = surprise - math.log(p), letters + 1
    return surprise / letters


@measurement("tables", absolute=1e-4, seconds=4)
def measure_tables():
    """The count tables, alpha chosen on the validation names, reported on both."""
    names = load_names()
    alphas = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    found = {"alpha": [], "validation": [], "test": [], "rows": []}
    for order in range(1, 7):
        tables = [CountTable(names.train, order, alpha) for alpha in alphas]
        best = min(tables, key=lambda table: table.loss(names.validation))
        found["alpha"].append(best.alpha)
        found["validation"].append(best.loss(names.validation))
        found["test"].append(best.loss(names.test))
        found["rows"].append(len(best.contexts))
    orders = range(1, 7)
    mixed = [fall_back(names.train, names.validation, order) for order in orders]
    order = 1 + int(np.argmin(mixed))
    return {
        **found,
        "mixed order": order,
        "mixed": [min(mixed), fall_back(names.train, names.test, order)],
    }


def what_the_state_knows(model):
    """How often a linear read-out of the state names the letter some steps back, on held-out names.

    And how often the most frequent letter of the training names would.
    """
    names = load_names()
    found = []
    parts = [encode_names(part) for part in (names.train, [*names.validation, *names.test])]
    with no_grad():
        states = [model.rnn(ids)[0].data.astype(float) for ids, _ in parts]
    for lag in range(LAGS):
        rows = []
        for (ids, targets), H in zip(parts, states, strict=True):
            inside = targets[:, lag:] >= 0
            seen = ids[:, : ids.shape[1] - lag]
            inside &= seen > 0  # a letter, not the dot that stands before the name
            rows.append((H[:, lag:][inside], seen[inside]))
        (H, letters), (H_new, letters_new) = rows
        H, H_new = (np.concatenate([X, np.ones((len(X), 1))], axis=1) for X in (H, H_new))
        readout = np.linalg.lstsq(H, np.eye(27)[letters], rcond=None)[0]
        common = np.bincount(letters).argmax()
        right = (H_new @ readout).argmax(axis=1) == letters_new
        found.append([right.mean(), (letters_new == common).mean()])
    return found


TRACED = ("margherita", "florencia", "broderick", "kira")


def traces_of(model):
    """The units that tell best the vowels and the place, and their states along four names.

    Both are chosen on the training names, by the correlation with what they are to tell.
    """
    ids, targets = encode_names(load_names().train)
    with no_grad():
        H = model.rnn(ids)[0].data.astype(float)
        shown = [model.rnn(encode_names([name])[0])[0].data[0].astype(float) for name in TRACED]
    inside = (targets >= 0) & (ids > 0)
    places = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)[inside]
    vowels = np.isin(ids, [ALPHABET.index(letter) for letter in "aeiou"])[inside]
    found = {}
    for what, values in (("vowel", vowels), ("place", places)):
        r = np.array([np.corrcoef(unit, values)[0, 1] for unit in H[inside].T])
        unit = int(np.abs(r).argmax())
        sign = np.sign(r[unit])
        found[what] = {
            "correlation": abs(r[unit]),
            "states": [sign * states[:, unit] for states in shown],
        }
    return found


@measurement(
    "names",
    absolute={
        "traces": 0.3,
        "with": 0.01,
        "without": 0.02,
        "knows": 0.02,
        "invented": 8,
        "at one half": 8,
    },
    seconds=100,
)
def measure_names():
    """Five seeds with the best decay; with none, at its own best rate, twice as long."""
    tried = measured("names-rates")
    table = np.array(tried["validation"])
    d, r = np.unravel_index(table.argmin(), table.shape)
    rate, decay = tried["rates"][r], tried["decays"][d]
    plain = tried["rates"][int(table[0].argmin())]
    names = load_names()
    known, hidden = set(names.train), {*names.validation, *names.test}
    decayed, plainly, knows, invented, cold = [], [], [], [], []
    for seed in range(SEEDS):
        model, losses = train_names(rate, decay, NAME_STEPS, seed, every=100)
        decayed.append(losses)
        plainly.append(train_names(plain, 0.0, 2 * NAME_STEPS, seed, every=100)[1])
        knows.append(what_the_state_knows(model))
        for temperature, counts in ((1.0, invented), (0.5, cold)):
            new = sample_text(model, 1000, np.random.default_rng(seed), temperature)
            counts.append([sum(x in group for x in new) for group in (known, hidden)])
            counts[-1].append(len(set(new)))
        if seed == 0:
            traces = traces_of(model)
    return {
        "rate": rate,
        "decay": decay,
        "rate without": plain,
        "with": np.array(decayed),
        "without": np.array(plainly),
        "knows": np.mean(knows, axis=0),
        "invented": invented,
        "at one half": cold,
        "traces": traces,
    }


# ---- recall: one of eight symbols, over a distance ---------------------------------------------

DELAYS = (5, 10, 20, 40)
RATES = (0.001, 0.003, 0.01)
UNITS, STEPS = 64, 1000


class LinearModel(Module):
    """Embedding, linear recurrence, and a hidden layer that reads its states."""

    def __init__(self, longest, rng):
        self.embedding = Embedding(17, UNITS, rng=rng, dtype=np.float32)
        self.recurrence = LinearRecurrence(UNITS, UNITS, longest, rng=rng, dtype=np.float32)
        self.hidden = Linear(UNITS, UNITS, rng=rng, dtype=np.float32)
        self.output = Linear(UNITS, 17, rng=rng, dtype=np.float32)

    def forward(self, ids, h0=None):
        """Return logits and the last state."""
        H, h = self.recurrence(self.embedding(ids))
        return self.output(relu(self.hidden(H))), h


def model_of(kind, delay, rng, longest=None):
    """One of the three contenders; the memories of the linear one begin at no more than longest."""
    if kind == "linear":
        return LinearModel(longest or 2 * delay, rng)
    model = CharRNN(17, UNITS, rng=rng, dtype=np.float32)
    if kind == "rotation":
        cell = model.rnn.cell
        cell.weight_h.data[...] = orthogonal_((UNITS, UNITS), rng, dtype=np.float32)
        cell.bias.data[...] = 0
    return model


def recalled(kind, delay, rate, seed, k=None, longest=None):
    """The share of right answers after training, on fresh sequences."""
    rng = np.random.default_rng(seed)
    model = model_of(kind, delay, rng, longest)
    optimizer = AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / STEPS)
        ids, targets = recall_task(rng, 64, delay)
        optimizer.zero_grad()
        if k is None:
            cross_entropy(model(ids)[0], targets).backward()
        else:
            truncated_bptt(model, ids, targets, k)
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    ids, targets = recall_task(np.random.default_rng(10_000 + seed), 2000, delay)
    with no_grad():
        answers = model(ids)[0].data[:, -1].argmax(axis=1)
    return float((answers == targets[:, -1]).mean())


def tuned(kind, delay, k=None, longest=None):
    """The best rate by a seed of its own, then mean, lowest and highest of five others."""
    tried = [recalled(kind, delay, rate, 99, k, longest) for rate in RATES]
    rate = RATES[int(np.argmax(tried))]
    right = [recalled(kind, delay, rate, seed, k, longest) for seed in range(SEEDS)]
    return [float(np.mean(right)), min(right), max(right), rate]


@measurement("recall", absolute=0.25, seconds=280)
def measure_recall():
    """Tanh with PyTorch's start, tanh started as a rotation, and a linear recurrence."""
    kinds = ("default", "rotation", "linear")
    return {"delays": DELAYS, **{kind: [tuned(kind, delay) for delay in DELAYS] for kind in kinds}}


LONGEST = (10, 20, 40)


@measurement("recall-start", absolute=0.25, seconds=150)
def measure_recall_start():
    """The linear recurrence after the longest wait, with shorter memories to begin with."""
    found = [tuned("linear", DELAYS[-1], longest=longest) for longest in LONGEST]
    return {"longest": LONGEST, "right": found}


PIECE = 4
GAPS = (2, 6, 10, 14)


@measurement("truncated", absolute=0.25, seconds=90)
def measure_truncated():
    """Recall with the whole gradient, and with pieces of four steps."""
    return {
        "delays": GAPS,
        "whole": [tuned("rotation", delay, delay + 2) for delay in GAPS],
        "pieces": [tuned("rotation", delay, PIECE) for delay in GAPS],
    }


# ---- drawings ----------------------------------------------------------------------------------


def _box(ax, x, y, text="", color="grey", face="white", width=0.7, height=0.44, size=10):
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


@figure("uses")
def uses(plt):
    fig, axes = plt.subplots(1, 3, figsize=(7.8, 2.9))
    panels = (
        ("many to one", list("anna"), [None, None, None, "Italian?"]),
        ("one to many", ["picture", None, None, None], ["a", "dog", "runs", "."]),
        ("many to many", list(".ann"), list("anna")),
    )
    for ax, (title, below, above) in zip(axes, panels, strict=True):
        for t in range(4):
            _box(ax, t, 1, f"$h_{t + 1}$", "blue", "#eaf3f9")
            if t:
                _arrow(ax, (t - 0.65, 1), (t - 0.35, 1), "blue")
            if below[t]:
                wide = 1.1 if len(below[t]) > 4 else 0.7
                _box(ax, t, 0, below[t], width=wide)
                _arrow(ax, (t, 0.22), (t, 0.78))
            if above[t]:
                wide = 1.15 if len(above[t]) > 5 else 0.7
                _box(ax, t - (0.2 if wide > 1 else 0), 2, above[t], "vermillion", width=wide)
                _arrow(ax, (t, 1.22), (t, 1.78))
        ax.set_title(title)
        ax.set_xlim(-0.62, 3.5)
        ax.set_ylim(-0.35, 2.35)
        ax.axis("off")
    for y, words in ((0, "read"), (1, "states"), (2, "said")):
        axes[0].text(-0.75, y, words, ha="right", va="center", fontsize=9, color="#555555")
    return fig


@figure("knows")
def knows(plt):
    found = np.array(measured("names")["knows"])
    fig, ax = plt.subplots(figsize=(6.4, 3.3))
    lags = np.arange(LAGS)
    ax.plot(lags, found[:, 0], "o-", color=COLORS["blue"])
    ax.plot(lags, found[:, 1], "s--", color=COLORS["grey"], linewidth=1.2)
    ax.text(2.6, found[2, 0] + 0.02, "read from the state", color=COLORS["blue"])
    ax.text(0.4, 0.04, "the most frequent letter, whatever the state", color="#555555")
    ax.set_xticks(lags, ["the last", *map(str, lags[1:])])
    ax.set_xlabel("letters ago")
    ax.set_ylabel("named rightly")
    ax.set_ylim(0, 1.05)
    return fig


@figure("units")
def units(plt):
    found = measured("names")["traces"]
    fig, axes = plt.subplots(len(TRACED), 1, figsize=(7.2, 4.4), layout="constrained")
    for i, (ax, name) in enumerate(zip(axes, TRACED, strict=True)):
        rows = np.array([found[what]["states"][i] for what in ("vowel", "place")])
        picture = ax.imshow(rows, cmap="PuOr_r", vmin=-1, vmax=1, aspect="auto")
        ax.set_xticks(range(rows.shape[1]), [".", *name])
        ax.set_yticks([0, 1], ["unit A", "unit B"])
        ax.set_xlim(-0.5, 10.5)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    axes[-1].set_xlabel("letter read")
    fig.colorbar(picture, ax=axes, label="state of the unit", ticks=(-1, 0, 1))
    return fig


@figure("curves")
def curves(plt):
    found, tables = measured("names"), measured("tables")
    fig, axes = plt.subplots(1, 2, figsize=(7.8, 3.5), sharey=True)
    for ax, entry, title in (
        (axes[0], "with", f"weight decay {found['decay']:g}"),
        (axes[1], "without", "no weight decay, twice as long"),
    ):
        runs = np.array(found[entry])
        steps = 100 * np.arange(runs.shape[1])
        for column, color, dash, words in (
            (0, "grey", "--", "names trained on"),
            (1, "blue", "-", "new names"),
        ):
            part = runs[:, 1:, column]
            low, high, mean = part.min(axis=0), part.max(axis=0), part.mean(axis=0)
            ax.fill_between(steps[1:], low, high, color=COLORS[color], alpha=0.25, lw=0)
            ax.plot(steps[1:], mean, dash, color=COLORS[color])
            ax.text(steps[-1], low[-1] - 0.02, words, ha="right", va="top", fontsize=9.5,
                    color=COLORS["blue"] if column else "#555555")  # fmt: skip
        for order, words in ((2, "table, 1 letter"), (3, "tables, 2 and 3 letters"), (4, "")):
            level = tables["validation"][order - 1]
            ax.axhline(level, color=COLORS["vermillion"], linewidth=0.9, linestyle=":")
            ax.text(steps[-1], level + 0.012, words, ha="right", fontsize=9,
                    color=COLORS["vermillion"])  # fmt: skip
        ax.set_title(title)
        ax.set_xlabel("steps of training")
    axes[0].set_ylabel("nats per letter")
    axes[0].set_ylim(1.35, 2.5)
    return fig


@figure("recall")
def recall(plt):
    found = measured("recall")
    places = np.arange(len(found["delays"]))
    fig, ax = plt.subplots(figsize=(6.8, 3.5))
    looks = {
        "default": ("vermillion", "s", "tanh, PyTorch's start"),
        "rotation": ("blue", "o", "tanh, started as a rotation"),
        "linear": ("green", "^", "linear recurrence (last section)"),
    }
    for shift, (kind, (color, marker, label)) in zip((-1, 0, 1), looks.items(), strict=True):
        mean, low, high, _ = np.array(found[kind]).T
        at = places + 0.2 * shift
        ax.vlines(at, low, high, color=COLORS[color], linewidth=7, alpha=0.3)
        ax.plot(at, mean, marker, color=COLORS[color], markersize=8, label=label)
    ax.axhline(1 / 8, linestyle="--", color=COLORS["grey"], linewidth=1.2)
    ax.text(-0.4, 0.055, "guessing", va="center", color="#555555")
    ax.set_xticks(places, found["delays"])
    ax.set_xlim(-0.5, len(places) - 0.5)
    ax.set_xlabel("symbols between the one to remember and the question")
    ax.set_ylabel("share of right answers")
    ax.set_ylim(0, 1.05)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=9)
    return fig


@figure("pieces")
def pieces(plt):
    found = measured("truncated")
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.8, 3.5), width_ratios=(1, 1.35))
    n, k = 12, PIECE
    for loss in range(n):
        for use in range(loss + 1):
            kept = use // k == loss // k
            left.add_patch(
                Rectangle((use, loss), 0.88, 0.88, color=COLORS["blue" if kept else "light"])
            )
    left.text(7.2, 2.3, "kept", color=COLORS["blue"], ha="center")
    left.text(2.0, 12.35, "never seen", color="#555555", ha="center")
    left.set_xlim(-0.2, n + 0.2)
    left.set_ylim(-0.2, n + 1.2)
    left.set_xticks(np.arange(n) + 0.44, np.arange(1, n + 1))
    left.set_yticks(np.arange(n) + 0.44, np.arange(1, n + 1))
    left.set_xlabel("weight used at step s")
    left.set_ylabel("loss at step t")
    left.spines[:].set_visible(False)
    left.tick_params(length=0)
    for kind, color, marker, label in (
        ("whole", "blue", "o", "whole gradient"),
        ("pieces", "vermillion", "s", "in pieces of four"),
    ):
        mean, low, high, _ = np.array(found[kind]).T
        right.errorbar(
            found["delays"], mean, [mean - low, high - mean], color=COLORS[color], marker=marker,
            capsize=4, label=label,
        )  # fmt: skip
    right.axhline(1 / 8, linestyle="--", color=COLORS["grey"], linewidth=1.2)
    right.text(found["delays"][0], 0.06, "guessing", va="center", color="#555555")
    right.set_xticks(found["delays"])
    right.set_xlabel("symbols to wait")
    right.set_ylabel("share of right answers")
    right.set_ylim(0, 1.05)
    right.legend(loc="lower left", bbox_to_anchor=(0, 0.2))
    return fig


@figure("tree")
def tree(plt):
    fig, ax = plt.subplots(figsize=(7.4, 4.3))
    rows = {5: range(1, 9), 4: (2, 4, 6, 8), 3: (4, 8), 2: (8,)}
    for y, span in ((4, 2), (3, 4), (2, 8)):
        for x in rows[y]:
            for source in (x - span // 2, x):
                _arrow(ax, (source, y + 0.78), (x, y + 0.22), "blue")
    for (x, y), prefix, own in (
        ((6, 1), (4, 3), (6, 4)),
        ((3, 0), (2, 4), (3, 5)),
        ((5, 0), (4, 3), (5, 5)),
        ((7, 0), (6, 1), (7, 5)),
    ):
        ax.plot([x, x], [own[1] - 0.22, y + 0.22], ":", color=COLORS["grey"], linewidth=1.2)
        _arrow(ax, (prefix[0] + 0.1, prefix[1] - 0.22), (x - 0.12, y + 0.22), "vermillion", 1.5)
    for y, span in ((5, 1), (4, 2), (3, 4), (2, 8)):
        for x in rows[y]:
            state = x == span
            text = f"{x}" if span == 1 else f"{x - span + 1}–{x}"
            color, face = ("vermillion", "#fdf0e8") if state else ("blue", "#eaf3f9")
            _box(ax, x, y, text, color, face, width=0.72)
    for x, y in ((6, 1), (3, 0), (5, 0), (7, 0)):
        _box(ax, x, y, f"1–{x}", "vermillion", "#fdf0e8", width=0.72)
    note = {"ha": "right", "va": "center", "fontsize": 9.5}
    ax.text(0.45, 3.5, "up: join\nneighbours", color=COLORS["blue"], **note)
    ax.text(0.45, 0.5, "down: fill in\nbetween", color=COLORS["vermillion"], **note)
    ax.set_xlim(-0.9, 8.5)
    ax.set_ylim(-0.35, 5.35)
    ax.axis("off")
    return fig


# ---- one weight, many steps --------------------------------------------------------------------


def unrolled(w, x, length):
    """A tanh unit that reads x and then zeros; the gradient of its last state by its weight."""
    states, h = [], 0.0
    for t in range(length):
        h = math.tanh(w * h + (x if t == 0 else 0.0))
        states.append(h)
    slopes = [1 - h * h for h in states]
    adjoints = [0.0] * length
    adjoints[-1] = slopes[-1]
    for t in reversed(range(length - 1)):
        adjoints[t] = w * adjoints[t + 1] * slopes[t]
    before = [0.0, *states[:-1]]
    parts = [g * h for g, h in zip(adjoints, before, strict=True)]
    return {"states": states, "slopes": slopes, "adjoints": adjoints, "parts": parts}


@interactive(
    "unrolled",
    states=[
        {"step": 0, "length": 2},
        {"step": 5, "length": 5, "w": 1.5, "x": -2},
        {"length": 8, "w": -1.5, "x": 0.3},
        {"length": 8, "w": 0, "x": 2},
        {"length": 8, "w": 1, "x": 0},
    ],
)
def unrolled_model(state):
    w, x, length = (state[name] for name in ("w", "x", "length"))
    found = unrolled(w, x, length)
    up, down = (unrolled(w + d, x, length)["states"][-1] for d in (1e-5, -1e-5))
    change = (up - down) / 2e-5
    return {**found, "sum": sum(found["parts"]), "change": change}


@figure("unrolled")
def draw_unrolled(plt):
    found = unrolled(0.5, 0.6, 3)
    fig, ax = plt.subplots(figsize=(7.2, 3.4))
    for t in range(3):
        x = 2.2 * t
        _box(ax, x, 0, f"$h_{t + 1}$ = {found['states'][t]:.3f}", "blue", "#eaf3f9", 1.25, 0.5)
        _box(ax, x, -1.2, ("0.6", "0", "0")[t], width=0.6)
        _arrow(ax, (x, -0.97), (x, -0.27))
        adjoint, part = found["adjoints"][t], found["parts"][t]
        ax.text(x, 0.52, f"gradient {adjoint:.3f}", ha="center", color=COLORS["vermillion"])
        before = 0 if t == 0 else found["states"][t - 1]
        text = f"{adjoint:.3f} · {before:.3f}\n= {part:.3f}" if t else f"{adjoint:.3f} · 0\n= 0"
        ax.text(x - 1.1, 1.35, text, ha="center", va="center", fontsize=9.5)
        ax.text(x - 1.1, -0.3, "w = ½", ha="center", fontsize=9.5, color=COLORS["blue"])
        _arrow(ax, (x - 1.42 if t else x - 1.1, 0), (x - 0.65, 0), "blue")
        if t:
            _arrow(ax, (x - 0.65, 0.42), (x - 1.5, 0.42), "vermillion")
        _arrow(ax, (x - 1.1, 0.5), (x - 1.1, 1.05), "vermillion")
    ax.text(5.55, 1.35, f"sum {sum(found['parts']):.3f}", va="center", fontweight="bold")
    ax.text(-1.9, 0, "$h_0$ = 0", va="center", ha="center")
    ax.text(-1.9, -1.2, "input", va="center", ha="center", color="#555555")
    ax.text(-2.1, 1.35, "for w:", va="center", ha="center", color="#555555")
    ax.set_xlim(-2.5, 6.6)
    ax.set_ylim(-1.55, 1.8)
    ax.axis("off")
    return fig


# ---- how far back a gradient reaches -----------------------------------------------------------

BASE = np.array(
    [
        [-0.5, -0.2, -1.4, 0.6, 1.3, 1.2],
        [-1.0, 0.0, -0.3, -0.4, 0.3, -0.9],
        [-1.3, -0.7, -1.0, 0.8, -0.1, 0.8],
        [0.5, -0.4, -1.2, -0.6, 0.9, 0.6],
        [-0.2, 0.6, -0.2, -1.2, 1.8, 0.4],
        [-0.9, -1.8, 0.9, 0.2, 0.7, 1.7],
    ]
)
RADIUS = max(abs(np.linalg.eigvals(BASE)))
LENGTH = 100


def reach(radius, size):
    """Lengths of a gradient, 1 at the last of 100 states, as it goes back; tanh and its inputs.

    The matrix is BASE with another spectral radius; the inputs are waves of the given size.
    """
    W = radius / RADIUS * BASE
    h, states = np.zeros(6), []
    for t in range(LENGTH):
        h = np.tanh(W @ h + size * np.sin((t + 1) * (1 + 0.7 * np.arange(6))))
        states.append(h)
    g, norms = np.ones(6) / np.sqrt(6), [1.0]
    for h in reversed(states[1:]):
        g = W.T @ (g * (1 - h**2))
        norms.append(float(np.linalg.norm(g)))
    gone = next((s for s, n in enumerate(norms) if n < 1e-3), LENGTH)  # 100: not within 99
    return {"norms": norms, "gone": gone, "largest": float(np.linalg.norm(W, 2))}


@interactive(
    "reach",
    states=[
        {"radius": 0.58},
        {"radius": 0.9, "size": 0},
        {"radius": 1, "size": 0},
        {"radius": 1.3, "size": 0},
        {"radius": 1.3, "size": 2},
        {"radius": 1.1, "size": 0.1},
    ],
)
def reach_model(state):
    return reach(state["radius"], state["size"])


@figure("reach")
def draw_reach(plt):
    fig, ax = plt.subplots(figsize=(6.8, 3.7))
    steps = np.arange(61)
    for radius, size, color, dash, text, place in (
        (1.2, 0, "vermillion", "-", "radius 1.2", (38, 3e3)),
        (1.0, 0, "black", "-", "radius 1", (50, 2.2)),
        (0.8, 0, "blue", "-", "radius 0.8", (40, 1.6e-4)),
        (1.2, 2, "vermillion", "--", "radius 1.2, inputs of size 2", (34, 1e-8)),
    ):
        norms = reach(radius, size)["norms"][:61]
        ax.semilogy(steps, norms, dash, color=COLORS[color])
        ax.text(*place, text, color=COLORS[color])
    ax.axhline(1e-3, color=COLORS["grey"], linestyle=":", linewidth=1)
    ax.text(60, 1.3e-3, "a thousandth", ha="right", color="#555555", fontsize=9)
    ax.set_xlabel("steps back")
    ax.set_ylabel("length of the gradient")
    ax.set_ylim(1e-9, 1e6)
    return fig
