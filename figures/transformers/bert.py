"""Figures of transformers/bert.md."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.data.sentence import SENTENCE, W_K, W_Q, embed
from chainrule.data.text import shakespeare_plays
from chainrule.math_foundations.probability import softmax
from chainrule.neural_networks.backpropagation import no_grad
from chainrule.training.loss_functions import cross_entropy
from chainrule.training.optimizers import AdamW, clip_grad_norm_
from chainrule.transformers.bert import (
    Bert,
    BertConfig,
    Head,
    MaskedLM,
    mask_tokens,
    pool,
    unmask_sample,
)
from chainrule.transformers.transformer_architecture import Transformer, TransformerConfig

# ---- words with a hole -------------------------------------------------------------------------

PAD, MASK, CLS, SEP, LETTERS = 0, 1, 2, 3, 4
SPECIAL, VOCABULARY, TIME = (PAD, MASK, CLS, SEP), 30, 12
SMALL = BertConfig(VOCABULARY, 64, 1, 4, 128, context=TIME, segments=1, dropout=0.0)
STEPS, RATES, SEEDS, SHARE = 1500, (0.003, 0.006), 5, 0.3


@cache
def words():
    """Ids of the words of 5 to 10 letters that stand at least 3 times in Shakespeare's plays.

    Every fifth in a fixed shuffled order is held out, so that no word is in both parts.
    """
    text = " ".join(shakespeare_plays()).lower()
    counts = Counter(re.findall(r"(?<![\w'’])[a-z]{5,10}(?![\w'’])", text))
    found = sorted(word for word, count in counts.items() if count >= 3)
    found = [found[i] for i in np.random.default_rng(0).permutation(len(found))]
    ids = np.full((len(found), TIME), PAD)
    for row, word in zip(ids, found, strict=True):
        row[: len(word) + 2] = [CLS, *(ord(c) - 97 + LETTERS for c in word), SEP]
    held_out = np.arange(len(ids)) % 5 == 4
    return ids[~held_out], ids[held_out]


def spelled(row):
    """The word of a row of ids."""
    return "".join(chr(i - LETTERS + 97) if i >= LETTERS else "_" * int(i == MASK) for i in row)


def trained(model, loss, rate, seed, steps, batch=64, parameters=None):
    """Train a model in place; ``loss`` gets a batch of words and the generator."""
    rng = np.random.default_rng(1000 + seed)
    train, _ = words()
    parameters = list(model.parameters()) if parameters is None else parameters
    optimizer = AdamW(parameters, lr=rate, weight_decay=0.01)
    for _ in range(steps):
        value = loss(train[rng.integers(0, len(train), batch)], rng)
        optimizer.zero_grad()
        value.backward()
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return model


def larger(model):
    """First weights four times as large: 0.02 is made for wide models, and this one is narrow."""
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data *= np.float32(4)
    return model


def encoder(rate, seed, steps=STEPS, p=SHARE):
    """A small BERT that fills gaps, with a share p of the letters chosen."""
    model = larger(MaskedLM(SMALL, np.random.default_rng(seed)))

    def loss(ids, rng):
        while True:
            inputs, labels = mask_tokens(ids, rng, p, SPECIAL, mask_id=MASK, vocab=VOCABULARY)
            if (labels != -100).any():
                return model.loss(inputs, labels, mask=ids != PAD)

    return trained(model, loss, rate, seed, steps)


def decoder(rate, seed, steps=STEPS):
    """A causal model of the same size that predicts the next letter."""
    config = TransformerConfig(VOCABULARY, 64, 4, decoder_layers=1, hidden=128, norm_place="post",
                               final_norm=False, context=TIME, eps=1e-12)  # fmt: skip
    model = larger(Transformer(config, np.random.default_rng(seed)))

    def loss(ids, rng):
        targets = np.where(ids[:, 1:] == PAD, -100, ids[:, 1:])
        return cross_entropy(model(None, ids[:, :-1]), targets)

    return trained(model, loss, rate, seed, steps)


def middles(ids):
    """The place of the middle letter of each word."""
    return 1 + ((ids >= LETTERS).sum(axis=1) - 1) // 2


def fills_both(model, ids):
    """The share of middle letters that an encoder names."""
    each, place = np.arange(len(ids)), middles(ids)
    gap = ids.copy()
    gap[each, place] = MASK
    with no_grad():
        logits = model(gap, mask=ids != PAD).data[each, place]
    return float((logits[:, LETTERS:].argmax(axis=1) + LETTERS == ids[each, place]).mean())


def log_p(model, ids):
    """log p of each next letter under a causal model, 0 at padding."""
    with no_grad():
        z = model(None, ids[:, :-1]).data
    z = z - z.max(axis=-1, keepdims=True)
    z = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    picked = np.take_along_axis(z, ids[:, 1:, None], axis=-1)[..., 0]
    return np.where(ids[:, 1:] == PAD, 0, picked), z


def fills_left(model, ids):
    """The share of middle letters that a causal model names from the letters before."""
    each, place = np.arange(len(ids)), middles(ids)
    z = log_p(model, ids)[1][each, place - 1]
    return float((z[:, LETTERS:].argmax(axis=1) + LETTERS == ids[each, place]).mean())


def fills_by_trying(model, ids):
    """The share that a causal model names by scoring the word with each of the 26 letters."""
    each, place = np.arange(len(ids)), middles(ids)
    scores = []
    for letter in range(LETTERS, VOCABULARY):
        tried = ids.copy()
        tried[each, place] = letter
        scores.append(log_p(model, tried)[0].sum(axis=1))
    return float((np.argmax(scores, axis=0) + LETTERS == ids[each, place]).mean())


def tuned(make, score):
    """The better rate on words kept for the choice, with a seed that is used for nothing else."""
    choice = words()[1][::2]
    return max(RATES, key=lambda rate: score(make(rate, 99), choice))


@measurement("gaps", absolute=0.03, seconds=130)
def measure_gaps():
    """Right middle letters: from both sides, from the left, and with all 26 letters tried."""
    test = words()[1][1::2]
    rates = tuned(encoder, fills_both), tuned(decoder, fills_by_trying)
    both = [fills_both(encoder(rates[0], seed), test) for seed in range(SEEDS)]
    causal = [decoder(rates[1], seed) for seed in range(SEEDS)]
    return {
        "words": [len(part) for part in words()],
        "rates": rates,
        "both": both,
        "left": [fills_left(model, test) for model in causal],
        "trying": [fills_by_trying(model, test) for model in causal],
    }


@measurement("mask-rate", absolute=0.04, seconds=500)
def measure_mask_rate():
    """Right middle letters after training with other shares of hidden letters."""
    test = words()[1][1::2]
    shares, chosen, right = (0.15, 0.3, 0.5, 0.8), [], []
    for p in shares:

        def make(rate, seed, p=p):
            return encoder(rate, seed, p=p)

        chosen.append(tuned(make, fills_both))
        right.append([fills_both(make(chosen[-1], seed), test) for seed in range(SEEDS)])
    return {"shares": shares, "rates": chosen, "right": right}


# ---- fine-tuning: is this a word? -------------------------------------------------------------


def shuffled(ids, rng):
    """The words with their letters in a random order."""
    ids = ids.copy()
    for row in ids:
        n = int((row >= LETTERS).sum())
        row[1 : n + 1] = rng.permutation(row[1 : n + 1])
    return ids


def real_or_not(ids, rng):
    """Every word once as it is (label 1) and once shuffled (label 0)."""
    return np.concatenate([ids, shuffled(ids, rng)]), np.repeat([1, 0], len(ids))


def fine_tuned(start, rate, seed, labelled=100, steps=150):
    """Right answers on held-out words after training on a few labelled ones."""
    rng = np.random.default_rng(5000 + seed)
    bert = larger(Bert(SMALL, rng))
    if start is not None:
        bert.load_state_dict(start)
    head = Head(SMALL.width, 2, rng=rng)

    def scores(ids):
        return head(pool(bert(ids, mask=ids != PAD), ids >= LETTERS))

    ids, labels = real_or_not(words()[0][:labelled], np.random.default_rng(7))
    parameters = [*bert.parameters(), *head.parameters()]
    optimizer = AdamW(parameters, lr=rate, weight_decay=0.01)
    for _ in range(steps):
        i = rng.integers(0, len(ids), 32)
        value = cross_entropy(scores(ids[i]), labels[i])
        optimizer.zero_grad()
        value.backward()
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    ids, labels = real_or_not(words()[1][1::2], np.random.default_rng(8))
    with no_grad():
        return float((scores(ids).data.argmax(axis=1) == labels).mean())


@measurement("fine-tuning", absolute=0.05, seconds=70)
def measure_fine_tuning():
    """Ten seeds for each of three rates, from pretrained weights and from fresh ones."""
    start = gap_writer(0).bert.state_dict()
    rates = (0.001, 0.003, 0.01)
    return {
        "rates": rates,
        "pretrained": [[fine_tuned(start, r, seed) for seed in range(10)] for r in rates],
        "fresh": [[fine_tuned(None, r, seed) for seed in range(10)] for r in rates],
    }


# ---- masked diffusion: words from nothing but gaps ---------------------------------------------


def gap_writer(seed, steps=2500):
    """A small BERT that was trained with every share of hidden letters."""
    model = larger(MaskedLM(SMALL, np.random.default_rng(seed)))

    def loss(ids, rng):
        t = (rng.random() + rng.permutation(len(ids))) / len(ids)
        letters = ids >= LETTERS
        hidden = (rng.random(ids.shape) < t[:, None]) & letters
        hidden[np.arange(len(ids)), middles(ids)] |= ~hidden.any(axis=1)
        z = model(np.where(hidden, MASK, ids), mask=ids != PAD)
        return cross_entropy(z[hidden], ids[hidden])

    return trained(model, loss, 0.003, seed, steps)


def written(model, length, count, steps, seed):
    """Words of a given length, drawn from all gaps in so many steps."""
    ids = np.full((count, TIME), PAD)
    ids[:, : length + 2] = [CLS, *[MASK] * length, SEP]
    real = ids != PAD

    def logits_of(x):
        with no_grad():
            z = model(x, mask=real).data
        z[..., :LETTERS] = -1e9
        return z

    return unmask_sample(logits_of, ids, steps, np.random.default_rng(seed), mask_id=MASK)


def triples(rows):
    """Whether every three neighbouring letters of each word occur in the training words."""

    def codes(ids):
        return (ids[:, :-2] * VOCABULARY + ids[:, 1:-1]) * VOCABULARY + ids[:, 2:]

    known = np.unique(codes(words()[0]))
    return np.isin(codes(rows), known).all(axis=1)


@measurement("writing", absolute={"known": 0.05, "real": 0.05}, seconds=120)
def measure_writing():
    """Words of 8 letters, drawn in 1, 2, 4 and 8 steps: with familiar triples only?"""
    steps, known = (1, 2, 4, 8), []
    for seed in range(3):
        model = gap_writer(seed)
        known.append([float(triples(written(model, 8, 500, n, seed)).mean()) for n in steps])
    held_out = words()[1]
    eight = held_out[(held_out >= LETTERS).sum(axis=1) == 8]
    return {"steps": steps, "known": known, "real": float(triples(eight).mean())}


# ---- which passage comes next? -----------------------------------------------------------------


@measurement("next", absolute=0.02, seconds=8)
def measure_next():
    """What counting shared words knows about next passages, and about the order of two."""
    rng = np.random.default_rng(0)
    plays = [re.findall(r"[a-z]+", play.lower()) for play in shakespeare_plays()]
    counts = Counter(word for play in plays for word in set(play))
    pieces = [[set(play[i : i + 60]) for i in range(0, len(play) - 120, 120)] for play in plays]
    after = [
        [set(play[i + 60 : i + 120]) for i in range(0, len(play) - 120, 120)] for play in plays
    ]

    def shared(a, b):
        return sum(np.log(len(plays) / counts[word]) for word in a & b)

    scores, swapped = [], []
    for play in range(len(plays)):
        for _ in range(60):
            i = rng.integers(0, len(pieces[play]))
            other = (play + rng.integers(1, len(plays))) % len(plays)
            j = rng.integers(0, len(pieces[other]))
            a, b = pieces[play][i], after[play][i]
            scores.append((shared(a, b), shared(a, after[other][j])))
            swapped.append((shared(a, b), shared(b, a)))
    half = len(scores) // 2
    cuts = np.unique(np.round(np.ravel(scores[:half]), 2))
    right = [np.mean([(y > c, n <= c) for y, n in scores[:half]]) for c in cuts]
    cut = cuts[int(np.argmax(right))]

    def share(pairs):
        return float(np.mean([(y > cut, n <= cut) for y, n in pairs]))

    return {"next": share(scores[half:]), "order": share(swapped[half:])}


# ---- the page's pictures -----------------------------------------------------------------------


@figure("both-sides")
def both_sides(plt):
    X = embed()
    scores = X @ W_Q.T @ (X @ W_K.T).T / 2
    causal = softmax(np.where(np.tri(5, dtype=bool), scores, -np.inf))
    fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.5))
    for ax, weights, title in zip(axes, (causal, softmax(scores)), ("decoder", "encoder"),
                                  strict=True):  # fmt: skip
        ax.imshow(weights, cmap="Blues", vmin=0, vmax=1)
        for i, j in np.ndindex(5, 5):
            if title == "encoder" or j <= i:
                color = "white" if weights[i, j] > 0.6 else "#1a1a1a"
                ax.text(j, i, f"{weights[i, j]:.2f}", ha="center", va="center", color=color,
                        fontsize=9)  # fmt: skip
        ax.add_patch(plt.Rectangle((-0.5, 0.5), 5, 1, fill=False, edgecolor=COLORS["vermillion"],
                                   lw=2.2))  # fmt: skip
        ax.set_xticks(range(5), SENTENCE, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(5), SENTENCE)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_title(title)
        ax.set_xlabel("looks at")
    return fig


def dots(ax, place, values, color, marker="o"):
    """One dot for each seed, and a bar at their mean."""
    shift = np.linspace(-0.09, 0.09, len(values))
    ax.plot(place + shift, values, marker, color=COLORS[color], ms=5, alpha=0.75)
    ax.plot([place - 0.18, place + 0.18], [np.mean(values)] * 2, color="black", lw=1.6)


@figure("gaps")
def gaps(plt):
    found = measured("gaps")
    fig, ax = plt.subplots(figsize=(6.6, 3.2))
    names = ("decoder,\nfrom the left", "encoder,\nboth sides", "decoder,\n26 letters tried")
    for place, (kind, color) in enumerate(
        (("left", "blue"), ("both", "vermillion"), ("trying", "green"))
    ):
        dots(ax, place, found[kind], color, "osD"[place])
        ax.text(place + 0.24, np.mean(found[kind]), f"{100 * np.mean(found[kind]):.0f} %",
                va="center")  # fmt: skip
    ax.set_xticks(range(3), names)
    ax.set_xlim(-0.5, 2.6)
    ax.set_ylim(0, 0.55)
    ax.set_ylabel("right middle letters")
    return fig


@figure("mask-rate")
def mask_rate(plt):
    found = measured("mask-rate")
    fig, ax = plt.subplots(figsize=(6.6, 3.2))
    for place, right in enumerate(found["right"]):
        dots(ax, place, right, "vermillion")
    ax.plot(range(len(found["shares"])), np.mean(found["right"], axis=1), color="#999999", lw=1,
            zorder=0)  # fmt: skip
    ax.set_xticks(range(len(found["shares"])), [f"{100 * p:.0f} %" for p in found["shares"]])
    ax.set_ylim(0.2, 0.35)
    ax.set_xlabel("letters chosen in training")
    ax.set_ylabel("right middle letters")
    return fig


@figure("fine-tuning")
def fine_tuning(plt):
    found = measured("fine-tuning")
    fig, ax = plt.subplots(figsize=(6.6, 3.4))
    for shift, kind, color, marker in (
        (-0.2, "pretrained", "vermillion", "o"), (0.2, "fresh", "blue", "s"),
    ):  # fmt: skip
        for place, values in enumerate(found[kind]):
            dots(ax, place + shift, values, color, marker)
        ax.plot([], [], marker, color=COLORS[color], label=f"{kind} weights")
    ax.axhline(0.5, color=COLORS["grey"], ls="--", lw=1)
    ax.text(-0.45, 0.505, "guessing", color="#555555", fontsize=9)
    ax.set_xticks(range(len(found["rates"])), [f"{rate:g}" for rate in found["rates"]])
    ax.set_xlabel("learning rate")
    ax.set_ylabel("right judgements")
    ax.set_ylim(0.48, 0.78)
    ax.legend(loc="upper right", frameon=False)
    return fig


@figure("writing")
def writing(plt):
    found = measured("writing")
    fig, ax = plt.subplots(figsize=(6.6, 3.2))
    for place, values in enumerate(np.transpose(found["known"])):
        dots(ax, place, values, "vermillion")
    ax.axhline(found["real"], color=COLORS["grey"], ls="--", lw=1)
    ax.text(-0.15, found["real"] + 0.02, "real words that were held out", color="#555555",
            fontsize=9)  # fmt: skip
    ax.set_xticks(range(len(found["steps"])), [str(n) for n in found["steps"]])
    ax.set_ylim(0, 1.08)
    ax.set_xlabel("steps for eight letters")
    ax.set_ylabel("words of familiar triples")
    return fig


# ---- the model to be handled -------------------------------------------------------------------

FILL = Path(__file__).with_suffix("").parent / "bert" / "fill.js"


@cache
def filler():
    """The model of the interactive figure, its weights read from the figure's own file."""
    source = FILL.read_text(encoding="utf-8")
    shapes = json.loads(re.search(r"const SHAPES = (\[.*?\]);\n", source, re.S)[1])
    scales = json.loads(re.search(r"const SCALES = (\{.*?\});\n", source, re.S)[1])
    text = re.search(r"const NUMBERS =\n(.*?);\n", source, re.S)[1]
    numbers = np.frombuffer(base64.b64decode("".join(re.findall(r'"([^"]*)"', text))), np.int8)
    model = MaskedLM(replace(SMALL, dtype="float64"), np.random.default_rng(0)).eval()
    state, start = {"bert.pooler.weight": model.bert.pooler.weight.data,
                    "bert.pooler.bias": model.bert.pooler.bias.data}, 0  # fmt: skip
    for name, rows, columns in shapes:
        part = numbers[start : start + rows * columns] * scales[name]
        start += rows * columns
        full = name if name.startswith("head.") else f"bert.{name}"
        full += ".weight" if name in ("tokens", "positions", "segments") else ""
        is_vector = full.endswith("bias") or "norm" in full
        state[full] = part if is_vector else part.reshape(rows, columns)
    model.load_state_dict(state)
    return model


def filled(word, gap, left=False, right=False):
    """Probabilities of the 26 letters at a gap of a word, and which places are hidden."""
    place = min(gap, len(word))
    ids = np.array([CLS, *(ord(c) - 97 + LETTERS for c in word), SEP])
    hidden = [place]
    if left and place > 1:
        hidden.append(place - 1)
    if right and place < len(word):
        hidden.append(place + 1)
    ids[hidden] = MASK
    with no_grad():
        logits = filler()(ids[None]).data[0, place]
    return place, hidden, softmax(logits[LETTERS:])


@interactive(
    "fill",
    states=[
        {"word": "porridge", "gap": 8},
        {"word": "native", "gap": 9, "left": True},
        {"word": "thankings", "gap": 1, "left": True, "right": True},
        {"word": "begotten", "gap": 5, "right": True},
    ],
    tolerance=1e-7,
)
def fill_model(state):
    word = state["word"]
    place, hidden, p = filled(word, int(state["gap"]), state["left"], state["right"])
    truth = ord(word[place - 1]) - 97
    return {"place": place, "hidden": hidden, "p": p, "truth": truth,
            "rank": 1 + int((p > p[truth]).sum())}  # fmt: skip


@figure("fill")
def fill(plt):
    fig, axes = plt.subplots(2, 1, figsize=(6.8, 3.9), sharex=True)
    for ax, right, shown in zip(axes, (False, True), ("kno?ked", "kno?_ed"), strict=True):
        _, _, p = filled("knocked", 4, right=right)
        colors = [COLORS["vermillion"] if i == 2 else COLORS["blue"] for i in range(26)]
        ax.bar(range(26), p, color=colors)
        ax.set_ylim(0, 1)
        ax.set_yticks([0, 0.5, 1])
        ax.set_ylabel("probability")
        ax.text(0.98, 0.8, shown, transform=ax.transAxes, ha="right", fontsize=14,
                family="monospace")  # fmt: skip
    axes[1].set_xticks(range(26), [chr(97 + i) for i in range(26)])
    return fig


def write_fill(model):
    """Put the weights of a trained model into the interactive figure, rounded to 255 steps."""
    shapes, scales, pieces = [], {}, []
    for name, array in model.state_dict().items():
        if "pooler" in name:
            continue
        short = name.removeprefix("bert.")
        if short.split(".")[0] in ("tokens", "positions", "segments"):
            short = short.removesuffix(".weight")
        array = np.atleast_2d(array)
        scale = float(f"{np.abs(array).max() / 127:.6g}")
        scales[short] = scale
        shapes.append([short, *array.shape])
        pieces.append(np.clip(np.rint(array / scale), -127, 127).astype(np.int8).ravel())
    text = base64.b64encode(np.concatenate(pieces).tobytes()).decode()
    lines = [f'  "{text[i : i + 90]}"' for i in range(0, len(text), 90)]
    source = FILL.read_text(encoding="utf-8")
    for name, value in (
        ("SHAPES = ", json.dumps(shapes)), ("SCALES = ", json.dumps(scales)),
        ("NUMBERS =\n", " +\n".join(lines)),
    ):  # fmt: skip
        source = re.sub(
            rf"const {name}.*?;\n", lambda _, n=name, v=value: f"const {n}{v};\n", source,
            count=1, flags=re.S,
        )  # fmt: skip
    FILL.write_text(source, encoding="utf-8")


if __name__ == "__main__":
    write_fill(gap_writer(0))
