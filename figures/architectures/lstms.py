"""Figures of architectures/lstms.md."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.patches import FancyBboxPatch

from chainrule.architectures.lstms import (
    GRU,
    CharLSTM,
    GatedDeltaNet,
    MinLSTM,
    chrono_init_,
    forget_bias,
    gate_trace,
    lstm_step_manual,
    memory_half_life,
)
from chainrule.architectures.rnns import CharRNN, encode_names, recall_task
from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.data.names import load_names
from chainrule.neural_networks.activation_functions import orthogonal_
from chainrule.neural_networks.backpropagation import Embedding, Linear, Module, no_grad, relu
from chainrule.training.loss_functions import cross_entropy
from chainrule.training.optimizers import AdamW, clip_grad_norm_

SEEDS = 5

# ---- recall: one of eight symbols, over a distance ---------------------------------------------

DELAYS = (10, 30, 60, 100)
RATES = (0.003, 0.01, 0.02)
UNITS, STEPS, EVERY = 32, 400, 25


# What spread biases are told, in waits.
TOLD = {"chrono": 1, "short": 1 / 4, "long": 4}


class Descendant(Module):
    """Embedding, a layer whose gates do not see the state, and a hidden layer that reads it."""

    def __init__(self, kind, delay, rng):
        self.embedding = Embedding(17, UNITS, rng=rng)
        if kind == "minlstm":
            self.memory, width = MinLSTM(UNITS, UNITS, rng=rng), UNITS
            keep = np.log(rng.uniform(1, delay + 1, UNITS))
            self.memory.forget.bias.data[...], self.memory.input.bias.data[...] = keep, -keep
        else:
            self.memory, width = GatedDeltaNet(UNITS, 16, 16, forget_bias(delay), rng=rng), 16
        self.hidden = Linear(width, UNITS, rng=rng)
        self.output = Linear(UNITS, 17, rng=rng)

    def forward(self, ids):
        """Return logits, and nothing."""
        H = self.memory(self.embedding(ids))
        H = H[0] if isinstance(H, tuple) else H
        return self.output(relu(self.hidden(H))), None


def model_of(kind, delay, rng):
    """One of the contenders."""
    if kind in ("minlstm", "delta"):
        return Descendant(kind, delay, rng)
    if kind == "rnn":
        model = CharRNN(17, UNITS, rng=rng)
        cell = model.rnn.cell
        cell.weight_h.data[...] = orthogonal_((UNITS, UNITS), rng)
        cell.bias.data[...] = 0
        return model
    model = CharLSTM(17, UNITS, 4.0 if kind == "four" else 1.0, rng=rng)
    cell = model.rnn.cells[0]
    cell.weight_x.data *= np.sqrt(UNITS, dtype=np.float32)  # ±1: a one-hot vector has length 1
    if kind in TOLD:
        chrono_init_(cell, TOLD[kind] * delay + 2, rng)
    return model


def recalled(kind, delay, rate, seed):
    """Train until 99 % are right or 400 steps are done; share right on others, and the step."""
    rng = np.random.default_rng(seed)
    model = model_of(kind, delay, rng)
    optimizer = AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    fresh = recall_task(np.random.default_rng(10_000 + seed), 300, delay)
    for step in range(STEPS + 1):
        solved = step % EVERY == 0 and _right(model, *fresh) >= 0.99
        if solved or step == STEPS:
            others = recall_task(np.random.default_rng(20_000 + seed), 1000, delay)
            return _right(model, *others), step if solved else None
        ids, targets = recall_task(rng, 64, delay)
        optimizer.zero_grad()
        cross_entropy(model(ids)[0], targets).backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def _right(model, ids, targets):
    with no_grad():
        answers = model(ids)[0].data[:, -1].argmax(axis=1)
    return float((answers == targets[:, -1]).mean())


def tuned(kind, delay):
    """Mean, lowest and highest of five seeds at the best rate, the rate, the slowest first step.

    The best rate is the one that is done first with a seed of its own, or gets nearest.
    """
    tried = [recalled(kind, delay, rate, seed=99) for rate in RATES]
    best = min(range(len(RATES)), key=lambda k: (tried[k][1] or STEPS + 1, -tried[k][0]))
    runs = [recalled(kind, delay, RATES[best], seed) for seed in range(SEEDS)]
    right, steps = [r for r, _ in runs], [s for _, s in runs]
    slowest = None if None in steps else max(steps)
    return [float(np.mean(right)), min(right), max(right), RATES[best], slowest]


BAND = {"absolute": 0.25, "relative": 0.5}


@measurement("recall-chrono", **BAND, seconds=100)
def measure_chrono():
    """LSTMs whose biases are spread."""
    return {"delays": DELAYS, "found": [tuned("chrono", delay) for delay in DELAYS]}


@measurement("recall-one", **BAND, seconds=120)
def measure_one():
    """LSTMs with the forget bias 1."""
    return {"delays": DELAYS, "found": [tuned("one", delay) for delay in DELAYS]}


@measurement("recall-rnn", **BAND, seconds=60)
def measure_rnn():
    """Recurrent networks started as rotations."""
    return {"delays": DELAYS, "found": [tuned("rnn", delay) for delay in DELAYS]}


@measurement("recall-four", **BAND, seconds=40)
def measure_four():
    """LSTMs with the forget bias 4 and nothing else."""
    return {"delay": 60, "found": tuned("four", 60)}


@measurement("recall-told", **BAND, seconds=50)
def measure_told():
    """LSTMs whose biases are spread for a quarter of the wait, and for four times the wait."""
    return {"delay": 60, **{kind: tuned(kind, 60) for kind in ("short", "long")}}


@measurement("descendants", **BAND, seconds=200)
def measure_descendants():
    """Two layers whose gates do not see the state, on the longest wait."""
    return {"delay": 100, **{kind: tuned(kind, 100) for kind in ("minlstm", "delta")}}


# ---- names -------------------------------------------------------------------------------------

HIDDEN, BATCH, NAME_STEPS = 128, 128, 1000


class CharGRU(Module):
    """A model of characters with a GRU."""

    def __init__(self, rng):
        self.rnn, self.output = GRU(27, HIDDEN, rng=rng), Linear(HIDDEN, 27, rng=rng)

    def forward(self, ids):
        """Return logits and the last state."""
        H, h = self.rnn(ids)
        return self.output(H), h


def train_names(kind, rate, decay, seed):
    """A trained model of names, and its losses on validation and test names."""
    rng = np.random.default_rng(seed)
    model = CharGRU(rng) if kind == "gru" else CharLSTM(27, HIDDEN, rng=rng)
    optimizer = AdamW(model.parameters(), lr=rate, weight_decay=decay)
    names = load_names()
    ids, targets = encode_names(names.train)
    for step in range(NAME_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / NAME_STEPS)
        rows = rng.integers(0, len(ids), BATCH)
        longest = (targets[rows] >= 0).any(axis=0).sum()
        loss = cross_entropy(model(ids[rows, :longest])[0], targets[rows, :longest])
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    with no_grad():
        held = [encode_names(part) for part in (names.validation, names.test)]
        return model, [cross_entropy(model(i)[0], t).item() for i, t in held]


SHOWN = ("christopher", "annabelle", "guillermina")


@measurement("names", absolute={"lstm": 0.02, "gru": 0.02, "gates": 0.6, "open": 0.05}, seconds=400)
def measure_names():
    """LSTM and GRU, each at its best rate and decay; and the forget gates of the first LSTM."""
    found, grid = {}, [(r, d) for d in (0.1, 0.3) for r in (0.01, 0.03)]
    for kind in ("lstm", "gru"):
        tried = [train_names(kind, *setting, 98)[1][0] for setting in grid]
        rate, decay = grid[int(np.argmin(tried))]
        runs = [train_names(kind, rate, decay, seed) for seed in range(SEEDS)]
        found[f"{kind} setting"] = [rate, decay]
        found[kind] = [losses for _, losses in runs]
        if kind == "lstm":
            model = runs[0][0]
    held, _ = encode_names(load_names().test)
    traces = [gate_trace(model, row[: np.count_nonzero(row) + 1]) for row in held]
    f = np.concatenate([trace["f"] for trace in traces])
    order = np.argsort(f.mean(axis=0))
    chosen = order[np.linspace(0, HIDDEN - 1, 9).astype(int)]
    found["gates"] = {
        name: gate_trace(model, encode_names([name])[0][0])["f"][:, chosen].T for name in SHOWN
    }
    found["open"] = [float((f > 0.9).mean()), float((f < 0.1).mean()), float(f.mean())]
    return found


# ---- how much of a gradient arrives, before any training ---------------------------------------

REACH = 100


@measurement("reach", relative=1e-3, seconds=3)
def measure_reach():
    """Size of the gradient on its way back through recall sequences; five fresh networks."""
    kinds = ("rnn", "one", "chrono")
    return {k: np.exp(np.mean([np.log(arrives(k, s)) for s in range(SEEDS)], 0)) for k in kinds}


def arrives(kind, seed):
    """Root mean square of the gradient of c, or of an RNN's h, as it goes back, 1 at the end."""
    rng = np.random.default_rng(seed)
    model = model_of(kind, REACH, rng).to(float)
    ids, _ = recall_task(rng, 64, REACH)
    if kind == "rnn":
        cell = model.rnn.cell
        H = model.rnn(ids)[0].data
        g, norms = rng.normal(size=(64, UNITS)), []
        for t in reversed(range(ids.shape[1])):
            norms.append(np.sqrt((g**2).mean()))
            g = (g * (1 - H[:, t] ** 2)) @ cell.weight_h.data
        return np.array(norms) / norms[0]
    cell = model.rnn.cells[0]
    arrays = cell.weight_x.data, cell.weight_h.data, cell.bias.data
    h = c = np.zeros((64, UNITS))
    steps, one_hot = [], np.eye(17)
    for t in range(ids.shape[1]):
        h, c, vjp = lstm_step_manual(one_hot[ids[:, t]], h, c, *arrays)
        steps.append(vjp)
    h_grad, c_grad, norms = np.zeros_like(h), rng.normal(size=(64, UNITS)), []
    for vjp in reversed(steps):
        norms.append(np.sqrt((c_grad**2).mean()))
        _, h_grad, c_grad, *_ = vjp(h_grad, c_grad)
    return np.array(norms) / norms[0]


# ---- drawings ----------------------------------------------------------------------------------


def _box(ax, x, y, text, color="grey", face="white", width=1.0, height=0.46):
    box = FancyBboxPatch(
        (x - width / 2, y - height / 2),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.08",
        facecolor=face,
        edgecolor=COLORS[color],
        linewidth=1.2,
    )
    ax.add_patch(box)
    ax.text(x, y, text, ha="center", va="center", fontsize=10)


def _arrow(ax, start, end, color="grey", width=1.3):
    style = {"arrowstyle": "-|>", "color": COLORS[color], "lw": width, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=style)


SPAN = 60


def memory(bias, write, show, later):
    """A unit that reads a 1 and then other inputs: its cell state, what it shows, its gate."""
    f = 1 / (1 + math.exp(-bias))
    c, cells = 0.0, []
    for t in range(SPAN + 1):
        c = f * c + (write if t == 0 else later * math.sin(2.3 * t))
        cells.append(c)
    first = [write * f**t for t in range(SPAN + 1)]
    return {
        "cells": cells,
        "shown": [show * math.tanh(c) for c in cells],
        "first": first,
        "gate": f,
        "half": float(memory_half_life(f)),
    }


@interactive(
    "lifetime",
    states=[
        {"bias": 4},
        {"bias": -2, "write": 0.3, "later": 0.2},
        {"bias": 7, "show": 0.5, "later": 0.1},
        {"bias": 0, "write": 0, "show": 0, "later": 0},
    ],
)
def lifetime_model(state):
    return memory(*(state[name] for name in ("bias", "write", "show", "later")))


@figure("lifetime")
def lifetime(plt):
    fig, ax = plt.subplots(figsize=(6.8, 3.3))
    for bias, color, place in (
        (1.0, "vermillion", (8.5, 0.13)),
        (2.5, "green", (13, 0.42)),
        (4.0, "blue", (31, 0.62)),
    ):
        found = memory(bias, 1.0, 0.5, 0.0)
        ax.plot(found["cells"], color=COLORS[color])
        ax.plot(found["half"], 0.5, "o", color=COLORS[color])
        text = f"bias {bias:g}, half-life {found['half']:.1f}"
        ax.text(*place, text, color=COLORS[color])
    ax.axhline(0.5, color=COLORS["grey"], linestyle=":", linewidth=1)
    ax.set_xlabel("steps after a 1 was written")
    ax.set_ylabel("left in the cell state")
    ax.set_xlim(0, SPAN)
    ax.set_ylim(0, 1.03)
    return fig


@figure("cell")
def draw_cell(plt):
    fig, ax = plt.subplots(figsize=(7.4, 3.6))
    top, blue = 2.2, {"color": "blue", "face": "#eaf3f9"}
    _box(ax, 0, top, "old cell\n2", width=1.1, height=0.7, **blue)
    _box(ax, 2.2, top, "× 0.881", width=1.0)
    _box(ax, 4.4, top, "+", width=0.6)
    _box(ax, 7.0, top, "new cell\n1.817", width=1.2, height=0.7, **blue)
    for a, b in ((0.55, 1.7), (2.7, 4.1), (4.7, 6.4)):
        _arrow(ax, (a, top), (b, top), "blue", 2.2)
    ax.text(3.4, top + 0.16, "1.762", ha="center", color=COLORS["blue"])
    ax.text(2.2, top + 0.42, "forget gate", ha="center", color="#555555")
    _box(ax, 2.2, 0.7, "candidate\n0.462", width=1.2, height=0.7)
    _box(ax, 4.4, 0.7, "× 0.119", width=1.0)
    _arrow(ax, (2.8, 0.7), (3.9, 0.7))
    _arrow(ax, (4.4, 0.93), (4.4, top - 0.23))
    ax.text(4.55, 1.45, "0.055", color="#555555")
    ax.text(4.4, 0.2, "input gate", ha="center", color="#555555")
    _box(ax, 7.0, 1.05, "tanh 0.949", width=1.2)
    _box(ax, 7.0, 0.2, "× 0.5", width=1.0)
    _arrow(ax, (7.0, top - 0.35), (7.0, 1.28), "vermillion")
    _arrow(ax, (7.0, 0.82), (7.0, 0.43), "vermillion")
    ax.text(6.4, 0.2, "output gate", ha="right", va="center", color="#555555")
    _box(ax, 9.2, 0.2, "shown\n0.474", "vermillion", "#fdf0e8", width=1.1, height=0.7)
    _arrow(ax, (7.5, 0.2), (8.65, 0.2), "vermillion")
    _arrow(ax, (7.6, top), (8.75, top), "blue", 2.2)
    ax.text(8.85, top, "next step", va="center", color="#555555")
    ax.set_xlim(-0.7, 9.95)
    ax.set_ylim(-0.3, 2.9)
    ax.axis("off")
    return fig


@figure("gates")
def gates(plt):
    found = measured("names")["gates"]
    widths = [len(name) + 1 for name in found]
    fig, axes = plt.subplots(1, len(found), figsize=(8.2, 3.0), width_ratios=widths, sharey=True)
    for ax, (name, rows) in zip(axes, found.items(), strict=True):
        picture = ax.imshow(rows, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        ax.set_xticks(range(len(name) + 1), ["•", *name])
        ax.tick_params(length=0)
        ax.grid(False)
        ax.spines[:].set_visible(False)
    axes[0].set_yticks([0, 8], ["forgets most", "keeps most"])
    axes[1].set_xlabel("letter that was read")
    bar = fig.colorbar(picture, ax=axes, fraction=0.03, pad=0.02)
    bar.set_label("forget gate")
    bar.outline.set_visible(False)
    return fig


@figure("recall")
def recall(plt):
    delays = measured("recall-chrono")["delays"]
    places = np.arange(len(delays))
    fig, ax = plt.subplots(figsize=(6.8, 3.5))
    looks = {
        "chrono": ("blue", "o", "LSTM, spread biases"),
        "one": ("vermillion", "s", "LSTM, forget bias 1"),
        "rnn": ("green", "^", "recurrent network"),
    }
    for shift, (kind, (color, marker, label)) in enumerate(looks.items()):
        mean, low, high = np.array([row[:3] for row in measured(f"recall-{kind}")["found"]]).T
        spread = np.maximum([mean - low, high - mean], 0)
        ax.errorbar(
            places + 0.05 * (shift - 1), mean, spread, color=COLORS[color], marker=marker,
            capsize=4, label=label,
        )  # fmt: skip
    ax.axhline(1 / 8, linestyle="--", color=COLORS["grey"], linewidth=1.2)
    ax.text(places[0] - 0.1, 0.1, "guessing", va="top", color="#555555")
    ax.set_xticks(places, delays)
    ax.set_xlabel("symbols between the one to remember and the question")
    ax.set_ylabel("share of right answers")
    ax.set_ylim(0, 1.05)
    ax.legend(loc="center right", bbox_to_anchor=(1.0, 0.62))
    return fig


@figure("reach")
def reach(plt):
    found = measured("reach")
    fig, ax = plt.subplots(figsize=(6.8, 3.5))
    for kind, color, text, place in (
        ("chrono", "blue", "LSTM, spread biases", (58, 0.6)),
        ("rnn", "green", "recurrent network, a rotation", (56, 0.03)),
        ("one", "vermillion", "LSTM, forget bias 1", (60, 2e-5)),
    ):
        ax.semilogy(found[kind], color=COLORS[color])
        ax.text(*place, text, color=COLORS[color])
    highway = (1 / (1 + math.exp(-1))) ** np.arange(len(found["one"]))
    ax.semilogy(highway, "--", color=COLORS["vermillion"], linewidth=1.2)
    ax.text(45, 3e-8, "its highway alone", color=COLORS["vermillion"], ha="right", fontsize=9.5)
    ax.set_xlabel("steps back")
    ax.set_ylabel("size of the gradient")
    ax.set_ylim(1e-9, 3)
    return fig
