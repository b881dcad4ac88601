"""Figures of architectures/sequence-to-sequence.md."""

from __future__ import annotations

from functools import cache

import numpy as np
from matplotlib.patches import FancyBboxPatch, Rectangle

from chainrule.architectures.sequence_to_sequence import (
    Pairs,
    Seq2Seq,
    beam_search,
    encode_pairs,
    greedy_decode,
    reversal_task,
)
from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.neural_networks.backpropagation import Tensor, no_grad
from chainrule.training.loss_functions import cross_entropy
from chainrule.training.optimizers import AdamW, clip_grad_norm_

SEEDS = 5
SYMBOLS = 26
VOCAB = SYMBOLS + 2

# ---- reversing: how long a source fits into the state -----------------------------------------

SIZES = (16, 32, 64, 128)
LENGTHS = tuple(range(2, 25, 2))
RATES = (0.01, 0.03, 0.1)
STEPS, BATCH, HELD = 2000, 64, 500
MOMENTS = 10  # looks on the way


def as_asked(batch: Pairs, task: str) -> Pairs:
    """The same sources, to be reversed or to be copied."""
    if task == "reversing":
        return batch
    sources = [row[keep] for row, keep in zip(batch.source, batch.mask, strict=True)]
    return encode_pairs(sources, sources)


def fresh(length, seed, task="reversing"):
    """Pairs of one length that no training has seen."""
    rng = np.random.default_rng(90_000 + seed)
    return as_asked(reversal_task(rng, HELD, length, length, SYMBOLS), task)


def exact(model, batch):
    """The share of outputs that are right from the first symbol to the end."""
    written = greedy_decode(model, batch.source, batch.mask, batch.inputs.shape[1])
    wanted = [[int(y) for y in row if y > 0] for row in batch.targets]
    return float(np.mean([a == b for a, b in zip(written, wanted, strict=True)]))


@cache
def trained(size, rate, seed, steps, task):
    """A pair after AdamW with a falling rate, and its exact outputs of 8 letters on the way."""
    rng = np.random.default_rng(seed)
    model = Seq2Seq.of_size(VOCAB, size, rng=rng)
    for lstm in (model.encoder, model.decoder.rnn):
        lstm.cells[0].weight_x.data *= np.sqrt(size, dtype=np.float32)  # one-hot: length 1
    optimizer = AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    held, seen = fresh(8, 1_000, task), []
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - (step - 1) / steps)
        optimizer.zero_grad()
        batch = reversal_task(rng, BATCH, 1, LENGTHS[-1], SYMBOLS)
        model.loss(as_asked(batch, task)).backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % (steps // MOMENTS) == 0:
            seen.append(exact(model, held))
    return model, seen


def best_rate(size, task="reversing"):
    """The rate with the lowest loss on held pairs of all lengths, with a seed of its own."""
    rng = np.random.default_rng(80_000)
    held = as_asked(reversal_task(rng, HELD, 1, LENGTHS[-1], SYMBOLS), task)

    def loss(rate):
        model, _ = trained(size, rate, 99, STEPS, task)
        with no_grad():
            found = model.loss(held).item()
        print(f"{task}, {size} units, rate {rate}: loss {found:.3f}", flush=True)
        return found

    return min(RATES, key=loss)


def spread(runs):
    """Mean, worst and best of five networks."""
    found = np.array(runs)
    return {
        "mean": found.mean(axis=0).tolist(),
        "worst": found.min(axis=0).tolist(),
        "best": found.max(axis=0).tolist(),
    }


def lengths_of(size, steps=STEPS, rate=None):
    """Share of exact outputs at each length, and of letters that are right with a teacher."""
    rate, runs, letters = rate or best_rate(size), [], []
    for seed in range(SEEDS):
        model, _ = trained(size, rate, seed, steps, "reversing")
        batches = [fresh(length, seed) for length in LENGTHS]
        runs.append([exact(model, batch) for batch in batches])
        with no_grad():
            letters.append(
                [
                    float((model(b.source, b.inputs, b.mask).data.argmax(-1) == b.targets).mean())
                    for b in batches
                ]
            )
    return {
        "lengths": LENGTHS,
        "rate": rate,
        **spread(runs),
        "letters": np.mean(letters, axis=0).tolist(),
    }


BAND = {"absolute": 0.15, "relative": 0.0}


@measurement("length-16", **BAND, seconds=130)
def measure_16():
    """Exact outputs by length, 16 units."""
    return lengths_of(16)


@measurement("length-32", **BAND, seconds=250)
def measure_32():
    """Exact outputs by length, 32 units."""
    return lengths_of(32)


@measurement("length-64", **BAND, seconds=290)
def measure_64():
    """Exact outputs by length, 64 units."""
    return lengths_of(64)


@measurement("length-128", **BAND, seconds=650)
def measure_128():
    """Exact outputs by length, 128 units."""
    return lengths_of(128)


@measurement("order", **BAND, seconds=320)
def measure_order():
    """Exact outputs of 8 letters on the way, 32 units, when reversing and when copying."""
    found = {}
    for task in ("reversing", "copying"):
        rate = best_rate(32, task)
        runs = [trained(32, rate, seed, STEPS, task)[1] for seed in range(SEEDS)]
        found[task] = {"rate": rate, **spread(runs)}
    return found


@measurement("free", absolute=0.15, relative=0.15, seconds=250)
def measure_free():
    """Mistakes and loss at each place, 32 units: with a teacher, and with its own symbols.

    Behind an END of its own the decoder reads END again, until all symbols are through.
    """
    rate, found = best_rate(32), {}
    for length in (12, 20):
        runs = {name: [] for name in ("forced", "free", "forced wrong", "free wrong")}
        for seed in range(SEEDS):
            (model, _), batch = trained(32, rate, seed, STEPS, "reversing"), fresh(length, seed)
            with no_grad():
                logits = model(batch.source, batch.inputs, batch.mask)
                written = greedy_decode(model, batch.source, batch.mask, length)
                own = encode_pairs([[2]] * HELD, written).inputs[:, : length + 1]
                own = np.pad(own, ((0, 0), (0, length + 1 - own.shape[1])))
                freely = model(batch.source, own, batch.mask)
            for name, given in (("forced", logits), ("free", freely)):
                each = cross_entropy(given, batch.targets, reduction="none").data
                runs[name].append(each.mean(axis=0))
                wrong = given.data.argmax(-1) != batch.targets
                runs[f"{name} wrong"].append(wrong.mean(axis=0))
        found[str(length)] = {name: np.mean(several, axis=0) for name, several in runs.items()}
        found[str(length)] = {name: row.tolist() for name, row in found[str(length)].items()}
    return found


@measurement("alignment", absolute=0.15, relative=0.15, seconds=250)
def measure_alignment():
    """What each output of 32 units depends on in a source of 8 symbols, asked in two ways.

    felt: the length of the gradient of the right logit by the one-hot vector of a place, each row
    divided by its sum, mean over sources and five networks. changed: in which share of cases the
    choice at a place of the output changes, if a symbol of the source is replaced and the decoder
    gets the true beginning of the new output.
    """
    rate, places, felt, changed = best_rate(32), np.arange(8), [], []
    for seed in range(SEEDS):
        (model, _), batch = trained(32, rate, seed, STEPS, "reversing"), fresh(8, seed)
        for t in places:
            one_hot = Tensor(np.eye(VOCAB, dtype=np.float32)[batch.source], requires_grad=True)
            logits, _ = model.decoder(batch.inputs, model.encoder(one_hot)[1])
            logits[np.arange(HELD), t, batch.targets[:, t]].sum().backward()
            sizes = np.linalg.norm(one_hot.grad, axis=-1)
            felt.append((sizes / sizes.sum(axis=1, keepdims=True)).mean(axis=0))
        rng = np.random.default_rng(70_000 + seed)
        with no_grad():
            before = model(batch.source, batch.inputs, batch.mask).data.argmax(-1)[:, :8]
            for s in places:
                source = batch.source.copy()
                other = rng.integers(1, SYMBOLS, HELD)
                source[:, s] = 2 + (source[:, s] - 2 + other) % SYMBOLS
                new = encode_pairs(source, source[:, ::-1])
                after = model(new.source, new.inputs, new.mask).data.argmax(-1)[:, :8]
                changed.append((after != before).mean(axis=0))
    by_place = np.mean(np.reshape(changed, (SEEDS, 8, 8)), axis=0)
    return {
        "felt": np.mean(np.reshape(felt, (SEEDS, 8, 8)), axis=0).tolist(),
        "changed": by_place.T.tolist(),
    }


@measurement("length-32-half", **BAND, seconds=50)
def measure_half():
    """Exact outputs by length, 32 units, after half of the steps, at the rate of all of them."""
    rate = measured("length-32")["rate"]
    return lengths_of(32, STEPS // 2, rate=rate)


# ---- what needs no training --------------------------------------------------------------------

READ, WRITE = ("k", "b", "m", "a"), ("a", "m", "b", "k", "END")


def box(ax, x, y, color, label=""):
    ax.add_patch(
        FancyBboxPatch(
            (x - 0.3, y - 0.22), 0.6, 0.44, boxstyle="round,pad=0.02", facecolor="white",
            edgecolor=color, linewidth=1.6,
        )
    )  # fmt: skip
    ax.text(x, y, label, ha="center", va="center", color=color)


def arrow(ax, start, end, color, width=1.4, **style):
    look = {"arrowstyle": "-|>", "color": color, "linewidth": width, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=look | style)


@interactive(
    "handover",
    states=[{"task": "copied"}, {"step": 0}, {"step": 3, "task": "copied"}, {"step": 6}],
)
def handover_model(state):
    n, step = len(READ), int(state["step"])
    origins = range(n - 1, -1, -1) if state["task"] == "reversed" else range(n)
    waits = [(n + t + 1) - (i + 1) for t, i in enumerate(origins)]
    return {
        "read": min(step, n),
        "written": max(0, step - n),
        "waits": waits,
        "shortest": min(waits),
        "mean": sum(waits) / n,
    }


@figure("handover")
def handover(plt):
    fig, ax = plt.subplots(figsize=(7.2, 2.7))
    blue, orange, black = COLORS["blue"], COLORS["vermillion"], COLORS["black"]
    for i, letter in enumerate(READ):
        box(ax, i, 0, blue)
        ax.text(i, -0.95, letter, ha="center", va="center", family="monospace")
        arrow(ax, (i, -0.75), (i, -0.26), black)
        if i:
            arrow(ax, (i - 0.68, 0), (i - 0.33, 0), blue)
    for i, letter in enumerate(WRITE):
        x = 4.9 + i
        box(ax, x, 0, orange)
        ax.text(x, 0.95, letter, ha="center", va="center", family="monospace")
        ax.text(
            x, -0.95, ("START", *WRITE)[i], ha="center", va="center", family="monospace",
            fontsize=None if i else 8,
        )  # fmt: skip
        arrow(ax, (x, 0.26), (x, 0.75), black)
        arrow(ax, (x, -0.75), (x, -0.26), black)
        if i:
            arrow(ax, (x - 0.68, 0), (x - 0.33, 0), orange)
    arrow(ax, (3.33, 0), (4.56, 0), black, 3.5)
    ax.text(3.95, 0.24, "one vector", ha="center", va="bottom")
    ax.text(1.5, 0.62, "encoder", ha="center", color=blue)
    ax.text(9.35, 0.0, "decoder", ha="left", va="center", color=orange)
    ax.set(xlim=(-0.5, 10.5), ylim=(-1.2, 1.2))
    ax.set_axis_off()
    return fig


# The tree of the page: after nothing, after a, after b; the probabilities of a and END.
END, START, A, B = 0, 1, 2, 3


def tree(first, end_a, end_b):
    """Log-probabilities of the next symbol: a or b first, then END or one more a or b."""
    after = {
        START: [0.0, 0.0, first, 1 - first],
        A: [end_a, 0.0, (1 - end_a) / 2, (1 - end_a) / 2],
        B: [end_b, 0.0, (1 - end_b) / 2, (1 - end_b) / 2],
    }

    def step(symbol, written):
        written = () if symbol == START else (*written, symbol)
        p = after[symbol] if len(written) < 2 else [1.0, 0.0, 0.0, 0.0]
        with np.errstate(divide="ignore"):
            return np.log(p), written

    return step


def outputs_of(first, end_a, end_b):
    """All six outputs of the tree and their probabilities."""
    found = {}
    for name, p, end in (("a", first, end_a), ("b", 1 - first, end_b)):
        found[name] = p * end
        for second in "ab":
            found[name + second] = p * (1 - end) / 2
    return found


@interactive(
    "beam",
    states=[
        {"width": 2},
        {"width": 3, "first": 0.5, "endA": 0.2, "endB": 0.3},
        {"width": 1, "first": 0.3, "endA": 0.9, "endB": 0.1},
    ],
)
def beam_model(state):
    first, end_a, end_b = state["first"], state["endA"], state["endB"]
    found = beam_search(tree(first, end_a, end_b), START, END, int(state["width"]), 3)
    everything = outputs_of(first, end_a, end_b)
    names = ["".join("?.ab"[k] for k in one.tokens if k != END) for one in found]
    return {
        "outputs": [everything[name] for name in everything],
        "found": [float(name in names) for name in everything],
        "best": float(np.exp(found[0].log_p)),
        "possible": max(everything.values()),
    }


@figure("beam")
def beam(plt):
    fig, ax = plt.subplots(figsize=(6.8, 3.4))
    places = {
        "": (0, 0.0), "a": (1, 1.1), "b": (1, -1.1),
        "a END": (2, 1.9), "a a": (2, 1.1), "a b": (2, 0.3),
        "b END": (2, -0.3), "b a": (2, -1.1), "b b": (2, -1.9),
    }  # fmt: skip
    steps = [
        ("", "a", 0.6), ("", "b", 0.4),
        ("a", "a END", 0.4), ("a", "a a", 0.3), ("a", "a b", 0.3),
        ("b", "b END", 0.9), ("b", "b a", 0.05), ("b", "b b", 0.05),
    ]  # fmt: skip
    together = {"": 1.0}
    kept = {"a", "b", "a END", "b END"}  # of a beam of width two
    for before, now, p in steps:
        together[now] = together[before] * p
        (x0, y0), (x1, y1) = places[before], places[now]
        thick = now in kept
        color = COLORS["blue"] if thick else COLORS["grey"]
        ax.plot([x0 + 0.02, x1 - 0.02], [y0, y1], color=color, linewidth=3.2 if thick else 1.2)
        share = 0.45 if x0 == 0 else 0.72
        ax.text(
            x0 + share * (x1 - x0), y0 + share * (y1 - y0), f"{p:g}", ha="center", va="center",
            fontsize=8.5, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2},
        )  # fmt: skip
    for name, (x, y) in places.items():
        ax.plot(x, y, "o", color="black", markersize=4)
        if x == 2:
            weight = "bold" if name == "b END" else "normal"
            ax.text(2.07, y, f"{name}: {together[name]:.2f}", va="center", fontweight=weight)
        elif name:
            ax.text(x, y + 0.22, name, ha="center", va="bottom")
    ax.set(xlim=(-0.1, 2.75), ylim=(-2.2, 2.3))
    ax.set_axis_off()
    return fig


# ---- from what was measured --------------------------------------------------------------------


@figure("length")
def length(plt):
    fig, ax = plt.subplots(figsize=(6.8, 3.4))
    steady = [0.99**n for n in range(25)]
    label = "each letter 0.99"
    ax.plot(range(25), steady, color=COLORS["grey"], linestyle="--", label=label)
    for size, color, marker in zip(
        SIZES, ("vermillion", "green", "blue", "purple"), ("s", "^", "o", "D"), strict=True
    ):
        found = measured(f"length-{size}")
        ax.fill_between(
            found["lengths"], found["worst"], found["best"], color=COLORS[color], alpha=0.15
        )
        ax.plot(
            found["lengths"], found["mean"], marker=marker, color=COLORS[color],
            label=f"{size} units",
        )  # fmt: skip
    ax.set_xlabel("letters in the source")
    ax.set_ylabel("share of outputs that are right")
    ax.set_xlim(0, 25)
    ax.set_ylim(0, 1.05)
    ax.legend(loc="lower left", fontsize=8)
    return fig


@figure("free")
def free(plt):
    fig, ax = plt.subplots(figsize=(6.8, 3.2))
    found, places = measured("free")["12"], np.arange(1, 13)
    for name, label, color, marker in (
        ("free", "reads its own letters", "vermillion", "s"),
        ("forced", "with a teacher", "blue", "o"),
    ):
        ax.plot(places, found[name][:12], marker=marker, color=COLORS[color], label=label)
    ax.set_xlabel("place in the output")
    ax.set_ylabel("loss (nats)")
    ax.set_xticks(places)
    ax.set_ylim(bottom=0)
    ax.legend()
    return fig


@figure("alignment")
def alignment(plt):
    fig, axes = plt.subplots(1, 2, figsize=(7.6, 3.6))
    found = measured("alignment")
    for ax, name, title, top in (
        (axes[0], "changed", "another letter there", 1),
        (axes[1], "felt", "gradient", None),
    ):
        table = np.array(found[name])
        size = len(table)
        shown = ax.imshow(table, cmap="Blues", vmin=0, vmax=top)
        for row in range(size):
            corner = (size - 1 - row - 0.46, row - 0.46)
            ax.add_patch(Rectangle(corner, 0.92, 0.92, fill=False, edgecolor=COLORS["vermillion"]))
        ax.set_xticks(range(size), range(1, size + 1))
        ax.set_yticks(range(size), range(1, size + 1))
        ax.set_xlabel("place in the source")
        ax.set_title(title)
        label = "share of choices that change" if name == "changed" else "share of the row"
        fig.colorbar(shown, ax=ax, label=label, shrink=0.75)
    axes[0].set_ylabel("place in the output")
    return fig
