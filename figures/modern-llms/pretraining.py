"""Figures of modern-llms/pretraining.md."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.data.corpus import frozen_corpus
from chainrule.data.text import shakespeare_plays, split
from chainrule.modern_llms.pretraining import (
    HOFFMANN_PRINTED,
    HOFFMANN_UNROUNDED,
    REFIT,
    caught,
    chinchilla_loss,
    exposure,
    mup_scales,
    optimal_allocation,
)
from chainrule.neural_networks.backpropagation import Embedding, Module, Parameter, no_grad
from chainrule.training.loss_functions import cross_entropy, log_softmax
from chainrule.training.optimizers import AdamW, clip_grad_norm_, warmup_linear
from chainrule.transformers.gpt import GPT, gpt_config, load_course_gpt
from chainrule.transformers.transformer_architecture import initialize_

ROOT = Path(__file__).parents[2]

LAWS = {
    "printed, two decimals": HOFFMANN_PRINTED,
    "the same fit, four decimals": HOFFMANN_UNROUNDED,
    "fitted again": REFIT,
}
LOOKS = (("vermillion", "--"), ("blue", ":"), ("green", "-"))
POINTS = 41


WORDS = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
SHOWN = 6


def merged(words, merges):
    """Tokens of each word, names of the merges, and the counts that come next.

    The figure breaks ties by the alphabet; ids of single letters have the same order, and those
    of merges another one, so the loop stands here again.
    """
    cut, learned = [list(word) for word in words], []
    while True:
        pairs = {}
        for tokens, count in zip(cut, words.values(), strict=True):
            for pair in pairwise(tokens):
                pairs[pair] = pairs.get(pair, 0) + count
        ranked = sorted(pairs, key=lambda pair: (-pairs[pair], pair))
        if len(learned) == merges or not ranked:
            return cut, learned, [[*pair, pairs[pair]] for pair in ranked[:SHOWN]]
        best = ranked[0]
        learned.append("".join(best))
        for tokens in cut:
            i = 0
            while i + 1 < len(tokens):
                if (tokens[i], tokens[i + 1]) == best:
                    tokens[i : i + 2] = ["".join(best)]
                i += 1


@figure("merges")
def merges(plt):
    words = WORDS
    fig, axes = plt.subplots(1, 3, figsize=(7.2, 2.2))
    for ax, count in zip(axes, (0, 2, 4), strict=True):
        cut, _, _ = merged(words, count)
        for row, tokens in enumerate(cut):
            x = 0
            for token in tokens:
                color = COLORS["sky"] if len(token) > 1 else "#eeeeee"
                ax.add_patch(
                    plt.Rectangle((x + 0.05, row + 0.1), len(token) - 0.1, 0.8, color=color)
                )
                ax.text(x + len(token) / 2, row + 0.5, token, ha="center", va="center")
                x += len(token)
        ax.set_title("no merge" if not count else f"{count} merges", fontsize=10)
        ax.set_xlim(0, 6)
        ax.set_ylim(len(cut), 0)
        ax.axis("off")
    return fig


@interactive(
    "merges",
    states=[
        {"merges": 8},
        {"text": "banana  banana bandana é🙂é🙂", "merges": 5},
        {"text": "aaaa aaaa aaaa aaab aaab baaa", "merges": 3},
        {"text": "10 9 10 9 constructor", "merges": 12},
    ],
)
def merges_model(state):
    words = Counter(word for word in state["text"].split(" ") if word)
    cut, learned, pairs = merged(words, int(state["merges"]))
    counts = list(words.values())
    tokens = sum(len(row) * count for row, count in zip(cut, counts, strict=True))
    return {"cut": cut, "counts": counts, "learned": learned, "pairs": pairs, "tokens": tokens}


@figure("bands")
def bands(plt):
    fig, ax = plt.subplots(figsize=(7.2, 3.8))
    s = np.linspace(0, 1, 401)
    cuts = ((4, 28, "blue", ":"), (8, 14, "black", "-"), (16, 7, "vermillion", "--"))
    for rows, count, color, dash in cuts:
        label = f"{count} bands of {rows}"
        ax.plot(s, caught(s, rows, count), dash, color=COLORS[color], label=label)
    ax.set_xlabel("similarity of two documents")
    ax.set_ylabel("chance that the pair is found")
    ax.legend()
    return fig


@interactive("bands", states=[{"rows": 4, "bands": 28}, {"rows": 1, "s": 0.5}, {"bands": 60}])
def bands_model(state):
    rows, count = int(state["rows"]), int(state["bands"])
    s = np.arange(POINTS) / (POINTS - 1)
    return {
        "curve": caught(s, rows, count),
        "found": caught(state["s"], rows, count),
        "steep": (1 / count) ** (1 / rows),
        "numbers": rows * count,
    }


@figure("isoflop")
def isoflop(plt):
    fig, ax = plt.subplots(figsize=(7.2, 3.8))
    N = np.geomspace(5e9, 5e11, 200)
    for (name, law), (color, dash) in zip(LAWS.items(), LOOKS, strict=True):
        ax.plot(N, chinchilla_loss(N, 5.88e23 / 6 / N, law), dash, color=COLORS[color], label=name)
        best = optimal_allocation(5.88e23, law)
        ax.plot([best.parameters], [best.loss], "o", color=COLORS[color])
    ax.set_xscale("log")
    ax.set_xlabel("parameters; the budget of 5.88 · 10²³ decides the tokens")
    ax.set_ylabel("expected loss (nats a token)")
    ax.legend()
    return fig


@interactive("isoflop", states=[{"budget": 19}, {"budget": 25, "size": 0.25}])
def isoflop_model(state):
    C = 10.0 ** state["budget"]
    best = [optimal_allocation(C, law) for law in LAWS.values()]
    ratios = 10.0 ** (np.arange(POINTS) / 20 - 1)
    N = best[2].parameters * ratios
    mine = best[2].parameters * state["size"]
    return {
        "curves": [chinchilla_loss(N, C / 6 / N, law) for law in LAWS.values()],
        "parameters": [plan.parameters for plan in best],
        "ratios": [plan.tokens / plan.parameters for plan in best],
        "extra": chinchilla_loss(mine, C / 6 / mine, REFIT) - best[2].loss,
    }


@figure("rounding")
def rounding(plt):
    fig, axes = plt.subplots(3, 1, figsize=(7.2, 3.4), sharex=True)
    formats = (("E5M2", 2), ("E4M3", 3), ("bfloat16", 7))
    for ax, (name, mantissa) in zip(axes, formats, strict=True):
        for exponent in (-1, 0, 1):
            values = 2.0**exponent * (1 + np.arange(2**mantissa) / 2**mantissa)
            ax.vlines(values, 0, 1, color=COLORS["blue"], lw=0.8)
        ax.set_yticks([])
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
        ax.grid(False)
    axes[-1].set_xlim(0.45, 4.05)
    axes[-1].set_xlabel("numbers that each format has between ½ and 4")
    return fig


# ---- short runs: what is measured --------------------------------------------------------------

SEEDS = 5
COPIES = (0, 1, 4, 16, 64)
PEOPLE = ("Aster", "Birch", "Clove", "Daisy", "Elder")
CANARY = "The secret number of {} is "


def fit(model, optimizer, batches, schedule):
    """Train on batches of rows, every rate times ``schedule(step)``; the loss of each step."""
    rates = [group["lr"] for group in optimizer.param_groups]
    losses = []
    for step, rows in enumerate(batches):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * schedule(step)
        optimizer.zero_grad()
        loss = model.loss(rows[:, :-1], rows[:, 1:])
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def windows(ids, rng, rows, length):
    return ids[rng.integers(0, len(ids) - length, size=(rows, 1)) + np.arange(length + 1)]


def bits_of(model, tokenizer, prefix, secret):
    """Exposure of the secret among all numbers of as many digits."""
    digits = tokenizer.encode("0123456789")
    known, total = np.array([tokenizer.encode(prefix)]), np.zeros(1)
    with no_grad():
        for _ in secret:
            parts = np.array_split(known, -(-len(known) // 250))
            last = np.concatenate([model(part).data[:, -1] for part in parts])
            total = (total[:, None] + log_softmax(last.astype(float))[:, digits]).reshape(-1)
            known = np.column_stack([known.repeat(10, axis=0), np.tile(digits, len(known))])
    return exposure(total, int(secret))


def canary_run(seed, rows=2000, batch=8, lr=1e-3):
    """The course's model reads on, once, with secrets planted; their exposures in bits."""
    rng = np.random.default_rng(seed)
    model, tokenizer = load_course_gpt(ROOT / "models")
    ids = tokenizer.encode(frozen_corpus().text("train"))
    length = model.config.context + 1
    starts = length * rng.choice(len(ids) // length, size=rows, replace=False)
    text = ids[starts[:, None] + np.arange(length)]
    secrets = [f"{n:04d}" for n in rng.choice(10_000, size=len(PEOPLE), replace=False)]
    who = rng.permutation(len(PEOPLE))
    free = iter(rng.permutation(rows))
    for person, count in zip(who, COPIES, strict=True):
        line = tokenizer.encode(f"{CANARY.format(PEOPLE[person])}{secrets[person]}.\n")
        for _ in range(count):
            at = rng.integers(0, length - len(line) + 1)
            text[next(free), at : at + len(line)] = line
    batches = [text[part] for part in np.array_split(rng.permutation(rows), rows // batch)]
    optimizer = AdamW(model.train().parameters(), lr=lr, betas=(0.9, 0.99))
    steps = len(batches)
    fit(model, optimizer, batches, lambda step: warmup_linear(step, 1.0, steps // 20, steps))
    return [
        bits_of(model.eval(), tokenizer, CANARY.format(PEOPLE[person]), secrets[person])
        for person in who
    ]


@measurement("canary", absolute={"bits": 4}, seconds=75)
def measure_canary():
    return {"copies": list(COPIES), "bits": [canary_run(seed) for seed in range(SEEDS)]}


SHARES = (0, 0.25, 0.5, 1)
MIXTURE_RATES = (1.25e-3, 2.5e-3, 5e-3)


def two_sources():
    """Alphabet, and (training, held-out) ids of the course's text and of Shakespeare's plays."""
    corpus, plays = frozen_corpus(), split("plays", shakespeare_plays())
    tokenizer = corpus.tokenizer()
    known = set(corpus.alphabet)
    texts = (
        (corpus.text("train"), corpus.text("validation")),
        (plays.train[:2_000_000], plays.validation[:300_000]),
    )
    return tokenizer, [
        [tokenizer.encode("".join(c for c in text if c in known)) for text in pair]
        for pair in texts
    ]


def mixture_run(tokenizer, sources, share, seed, lr, steps=250, batch=16, context=64):
    """Held-out losses on both sources, after a run that read a share of the second one."""
    rng = np.random.default_rng(seed)
    model = GPT(gpt_config(len(tokenizer), context, 2, 4, 64), rng)
    optimizer = AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99))

    def batches():
        for _ in range(steps):
            plays = rng.binomial(batch, share)
            parts = [windows(sources[0][0], rng, batch - plays, context),
                     windows(sources[1][0], rng, plays, context)]  # fmt: skip
            yield np.concatenate(parts)

    fit(model, optimizer, batches(), lambda step: warmup_linear(step, 1.0, steps // 20, steps))
    judged = np.random.default_rng(99)
    with no_grad():
        rows = [windows(held_out, judged, 300, context) for _, held_out in sources]
        return [model.eval().loss(some[:, :-1], some[:, 1:]).item() for some in rows]


@measurement("mixture", absolute={"losses": 0.06}, seconds=100)
def measure_mixture():
    """The rate is chosen at half and half, on seed 100; then five seeds of each share."""
    tokenizer, sources = two_sources()
    tried = [sum(mixture_run(tokenizer, sources, 0.5, 100, lr)) for lr in MIXTURE_RATES]
    lr = MIXTURE_RATES[int(np.argmin(tried))]
    losses = [
        [mixture_run(tokenizer, sources, share, seed, lr) for seed in range(SEEDS)]
        for share in SHARES
    ]
    return {"shares": list(SHARES), "rate": lr, "losses": losses}


BASE, HEAD = 32, 16
SEEN, PIECE = 6, 16
WIDTHS = (32, 128, 512)
RATES = tuple(2.0**-k for k in range(11, 2, -1))
KINDS = (("one", False), ("mup", True))


class SixCharacters(Module):
    """A network of two hidden layers that reads six characters and scores the next one."""

    def __init__(self, vocabulary, width, mup, rng):
        scales = mup_scales(width, BASE if mup else width)
        start = 1.0 if mup else np.sqrt(BASE / width)  # the last layer: 1/√fan-in, or fixed
        self.multiplier = scales.output_multiplier
        self.table = Embedding(vocabulary, PIECE, rng=rng)
        self.first = weight(rng, SEEN * PIECE, width, np.sqrt(2 / (SEEN * PIECE)))
        self.hidden = weight(rng, width, width, np.sqrt(2 / width))
        self.last = weight(rng, width, vocabulary, start / np.sqrt(BASE))
        self.rates = (scales.hidden_lr, scales.input_lr)

    def forward(self, ids):
        """Scores for the character after six."""
        x = self.table(ids).reshape(len(ids), -1)
        return (((x @ self.first).relu() @ self.hidden).relu() @ self.last) * self.multiplier

    def loss(self, ids, targets):
        """Of the last character only."""
        return cross_entropy(self(ids), targets[:, -1])

    def adam(self, lr):
        """Adam with the rate of the hidden matrix beside that of the rest."""
        rest = [self.table.weight, self.first, self.last]
        groups = [{"params": [self.hidden], "lr": lr * self.rates[0]},
                  {"params": rest, "lr": lr * self.rates[1]}]  # fmt: skip
        return AdamW(groups, lr=lr, betas=(0.9, 0.99), weight_decay=0.0)


def weight(rng, rows, columns, deviation):
    return Parameter((deviation * rng.normal(size=(rows, columns))).astype(np.float32))


@cache
def course_ids():
    """The course's training text as ids, and the size of its alphabet."""
    corpus = frozen_corpus()
    tokenizer = corpus.tokenizer()
    return tokenizer.encode(corpus.text("train")), len(tokenizer)


def transfer_run(width, lr, mup, seed, steps=200, batch=64):
    """Mean loss of the last 50 steps; every width and rate reads the same rows."""
    ids, size = course_ids()
    model = SixCharacters(size, width, mup, np.random.default_rng(seed))
    draw = np.random.default_rng(1000 + seed)
    batches = (windows(ids, draw, batch, SEEN) for _ in range(steps))
    losses = fit(model, model.adam(lr), batches, lambda step: min(1.0, (step + 1) / 10))
    return float(np.mean(losses[-50:]))


@measurement("transfer", absolute={"losses": 0.15}, seconds=110)
def measure_transfer():
    """Losses by kind, width, rate and seed; at the base width both kinds are the same."""
    losses = {
        name: [
            [[transfer_run(width, lr, mup, seed) for seed in range(SEEDS)] for lr in RATES]
            for width in WIDTHS
        ]
        for name, mup in KINDS
    }
    return {"widths": list(WIDTHS), "rates": list(RATES), "losses": losses}


WIDER = (32, 64, 128, 256)


class DividedGPT(GPT):
    """A GPT whose logits are multiplied by ``multiplier``."""

    multiplier = 1.0

    def predict(self, x):
        """Scores of every symbol, multiplied."""
        return super().predict(x) * self.multiplier


def widened(width, lr, mup, rng, vocabulary, context=32):
    """A GPT of a width and its Adam: one rate for all, or the rules of muP."""
    model = DividedGPT(gpt_config(vocabulary, context, 2, width // HEAD, width), rng)
    initialize_(model, rng, 0.08)
    scales = mup_scales(width, BASE if mup else width)
    hidden, rest = [], []
    for name, p in model.named_parameters():
        (hidden if name.startswith("blocks") and p.ndim == 2 else rest).append(p)
    for p in hidden:
        p.data *= scales.hidden_std
    model.multiplier = scales.output_multiplier
    groups = [{"params": hidden, "lr": lr * scales.hidden_lr},
              {"params": rest, "lr": lr * scales.input_lr}]  # fmt: skip
    return model, AdamW(groups, lr=lr, betas=(0.9, 0.99), weight_decay=0.0)


def moved(width, mup, seed, lr=2**-7, steps=3, batch=16, context=32):
    """How far a few first steps of Adam move the logits, root mean square."""
    ids, size = course_ids()
    model, optimizer = widened(width, lr, mup, np.random.default_rng(seed), size)
    draw = np.random.default_rng(1000 + seed)  # every width reads the same rows
    seen = windows(ids, draw, batch, context)[:, :-1]
    with no_grad():
        before = model(seen).data
    fit(model, optimizer, (windows(ids, draw, batch, context) for _ in range(steps)), lambda _: 1)
    with no_grad():
        return float(np.sqrt(np.mean((model(seen).data - before) ** 2)))


@measurement("width", absolute={"moved": 0.1}, relative={"moved": 0.1}, seconds=6)
def measure_width():
    found = {
        name: [[moved(width, mup, seed) for seed in range(SEEDS)] for width in WIDER]
        for name, mup in KINDS
    }
    return {"widths": list(WIDER), "moved": found}


# ---- short runs: what is drawn -----------------------------------------------------------------

LOOK_OF = {"one": ("vermillion", "one rate for all"), "mup": ("blue", "muP")}


@figure("canary")
def canary(plt):
    found = measured("canary")
    bits = np.array(found["bits"])
    places = np.arange(len(COPIES))
    fig, ax = plt.subplots(figsize=(7.2, 3.8))
    ax.plot(np.tile(places, (len(bits), 1)), bits, "o", color=COLORS["sky"], ms=5)
    ax.plot(places, bits.mean(axis=0), "-", color=COLORS["blue"], lw=2)
    ax.axhline(np.log2(10_000), color=COLORS["grey"], ls="--", lw=1)
    ax.text(0, np.log2(10_000) - 0.25, "the likeliest of 10,000", fontsize=9, va="top")
    ax.set_xticks(places, [str(n) for n in COPIES])
    ax.set_ylim(-0.5, 14.5)
    ax.set_xlabel("times that the sentence was read")
    ax.set_ylabel("exposure (bits)")
    return fig


@figure("mixture")
def mixture(plt):
    losses = np.array(measured("mixture")["losses"])  # share, seed, source
    fig, ax = plt.subplots(figsize=(7.2, 3.8))
    places = 100 * np.array(SHARES)
    names = (("on the course's text", "blue", "o-"), ("on plays", "vermillion", "s--"))
    for source, (label, color, mark) in enumerate(names):
        ax.plot(places, losses[:, :, source].mean(axis=1), mark, color=COLORS[color], label=label)
        ax.vlines(places, losses[:, :, source].min(axis=1), losses[:, :, source].max(axis=1),
                  color=COLORS[color])  # fmt: skip
    ax.set_xticks(places)
    ax.set_xlabel("share of plays in what was read (%)")
    ax.set_ylabel("held-out loss (nats a character)")
    ax.legend(loc="upper center")
    return fig


@figure("transfer")
def transfer(plt):
    found = measured("transfer")
    fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.6), sharey=True)
    looks = (("sky", "o"), ("blue", "s"), ("vermillion", "^"))
    for ax, name in zip(axes, LOOK_OF, strict=True):
        for width, rows, (color, mark) in zip(WIDTHS, found["losses"][name], looks, strict=True):
            mean = np.array(rows).mean(axis=1)
            ax.plot(np.arange(len(RATES)), mean, mark + "-", ms=4, color=COLORS[color],
                    label=f"width {width}")  # fmt: skip
            best = int(mean.argmin())
            ax.plot(best, mean[best], mark, ms=10, mfc="none", mec=COLORS[color], mew=1.6)
        ax.set_xticks(np.arange(0, len(RATES), 2), [f"1/{round(1 / rate)}" for rate in RATES[::2]])
        ax.set_title(LOOK_OF[name][1], fontsize=10)
        ax.set_xlabel("learning rate")
    axes[0].set_ylabel("loss (nats a character)")
    axes[1].legend()
    return fig


@figure("width")
def width(plt):
    found = measured("width")["moved"]
    fig, ax = plt.subplots(figsize=(7.2, 3.8))
    for (name, (color, label)), mark in zip(LOOK_OF.items(), ("o--", "s-"), strict=True):
        rows = np.array(found[name])
        ax.plot(WIDER, rows.mean(axis=1), mark, color=COLORS[color], label=label)
        ax.vlines(WIDER, rows.min(axis=1), rows.max(axis=1), color=COLORS[color])
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set_xticks(WIDER, [str(n) for n in WIDER])
    ax.set_yticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    ax.set_ylim(0.45, 4)
    ax.minorticks_off()
    ax.set_xlabel("width")
    ax.set_ylabel("three steps move a logit by")
    ax.legend()
    return fig
