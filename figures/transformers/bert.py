"""Figures of transformers/bert.md."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

import numpy as np

from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.data.text import shakespeare_plays
from chainrule.math_foundations.probability import softmax
from chainrule.neural_networks.backpropagation import no_grad
from chainrule.training.loss_functions import cross_entropy
from chainrule.training.optimizers import AdamW, clip_grad_norm_, warmup_linear
from chainrule.transformers.bert import (
    Bert,
    BertConfig,
    Head,
    MaskedLM,
    mask_tokens,
    masked_diffusion_loss,
    unmask_sample,
)
from chainrule.transformers.transformer_architecture import Transformer, TransformerConfig

# ---- words with a hole -------------------------------------------------------------------------

PAD, MASK, CLS, SEP, LETTERS = 0, 1, 2, 3, 4
SPECIAL, VOCABULARY, TIME = (PAD, MASK, CLS, SEP), 30, 12
SMALL = BertConfig(VOCABULARY, 48, 2, 4, 96, context=TIME, segments=1, dropout=0.0)
STEPS, RATES, SEEDS = 1500, (0.002, 0.006), 5


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
    for step in range(steps):
        optimizer.lr = warmup_linear(step, rate, steps // 10, steps)
        value = loss(train[rng.integers(0, len(train), batch)], rng)
        optimizer.zero_grad()
        value.backward()
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return model


def encoder(rate, seed, steps=STEPS, p=0.15):
    """A small BERT that fills gaps, with a share p of the letters chosen."""
    model = MaskedLM(SMALL, np.random.default_rng(seed))

    def loss(ids, rng):
        while True:
            inputs, labels = mask_tokens(ids, rng, p, SPECIAL, mask_id=MASK, vocab=VOCABULARY)
            if (labels != -100).any():
                return model.loss(inputs, labels, mask=ids != PAD)

    return trained(model, loss, rate, seed, steps)


def decoder(rate, seed, steps=STEPS):
    """A causal model of the same size that predicts the next letter."""
    config = TransformerConfig(VOCABULARY, 48, 4, decoder_layers=2, hidden=96, norm_place="post",
                               final_norm=False, context=TIME, eps=1e-12)  # fmt: skip
    model = Transformer(config, np.random.default_rng(seed))

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


@measurement("gaps", absolute=0.03, seconds=300)
def measure_gaps():
    """Both sides, the left side, and the left side with every letter tried: right middle letters."""
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
    shares, chosen, right = (0.05, 0.15, 0.3, 0.5, 0.8), [], []
    for p in shares:

        def make(rate, seed, p=p):
            return encoder(rate, seed, p=p)

        chosen.append(tuned(make, fills_both))
        right.append([fills_both(make(chosen[-1], seed), test) for seed in range(SEEDS)])
    return {"shares": shares, "rates": chosen, "right": right}


# ---- fine-tuning: is this word spelled right? --------------------------------------------------


def exchanged(ids, rng):
    """Exchange two different neighbouring letters inside each word."""
    ids = ids.copy()
    for row in ids:
        n = int((row >= LETTERS).sum())
        places = [i for i in range(2, n - 1) if row[i] != row[i + 1]]
        if places:
            i = rng.choice(places)
            row[[i, i + 1]] = row[[i + 1, i]]
    return ids


def spelling(ids, rng):
    """Every word once as it is (label 1) and once with two letters exchanged (label 0)."""
    both = np.concatenate([ids, exchanged(ids, rng)])
    return both, np.repeat([1, 0], len(ids))


def fine_tuned(start, rate, seed, labelled=100, steps=150):
    """Right answers on held-out words after training on a few labelled ones."""
    rng = np.random.default_rng(5000 + seed)
    bert = Bert(SMALL, rng)
    if start is not None:
        bert.load_state_dict(start)
    head = Head(SMALL.width, 2, rng=rng)
    ids, labels = spelling(words()[0][:labelled], np.random.default_rng(7))
    parameters = [*bert.parameters(), *head.parameters()]
    optimizer = AdamW(parameters, lr=rate, weight_decay=0.01)
    for step in range(steps):
        optimizer.lr = warmup_linear(step, rate, steps // 10, steps)
        i = rng.integers(0, len(ids), 32)
        h = bert(ids[i], mask=ids[i] != PAD)
        value = cross_entropy(head(bert.summary(h)), labels[i])
        optimizer.zero_grad()
        value.backward()
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    ids, labels = spelling(words()[1][1::2], np.random.default_rng(8))
    with no_grad():
        logits = head(bert.summary(bert(ids, mask=ids != PAD))).data
    return float((logits.argmax(axis=1) == labels).mean())


@measurement("fine-tuning", absolute=0.05, seconds=170)
def measure_fine_tuning():
    """Ten seeds for each of four rates, from pretrained weights and from fresh ones."""
    start = encoder(0.006, 0, 2000, p=0.3).bert.state_dict()
    rates = (0.0003, 0.001, 0.003, 0.01)
    return {
        "rates": rates,
        "pretrained": [[fine_tuned(start, r, seed) for seed in range(10)] for r in rates],
        "fresh": [[fine_tuned(None, r, seed) for seed in range(10)] for r in rates],
    }


# ---- masked diffusion: words from nothing but gaps ---------------------------------------------


def gap_writer(seed, steps=3000):
    """A small BERT that was trained with every share of hidden letters."""
    model = MaskedLM(SMALL, np.random.default_rng(seed))

    def loss(ids, rng):
        ids = ids[:32]
        t = (rng.random() + rng.permutation(len(ids))) / len(ids)
        letters = ids >= LETTERS
        hidden = (rng.random(ids.shape) < t[:, None]) & letters
        hidden[np.arange(len(ids)), middles(ids)] |= ~hidden.any(axis=1)
        z = model(np.where(hidden, MASK, ids), mask=ids != PAD)
        return cross_entropy(z[hidden], ids[hidden])

    return trained(model, loss, 0.006, seed, steps)


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
