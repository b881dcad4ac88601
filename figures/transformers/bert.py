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
SMALL = BertConfig(VOCABULARY, 64, 2, 4, context=TIME, segments=1, dropout=0.0)


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


def encoder(rate, seed, steps, p=0.15):
    """A small BERT that fills gaps, with a share p of the letters chosen."""
    model = MaskedLM(SMALL, np.random.default_rng(seed))

    def loss(ids, rng):
        while True:
            inputs, labels = mask_tokens(ids, rng, p, SPECIAL, mask_id=MASK, vocab=VOCABULARY)
            if (labels != -100).any():
                return model.loss(inputs, labels, mask=ids != PAD)

    return trained(model, loss, rate, seed, steps)


def decoder(rate, seed, steps):
    """A causal model of the same size that predicts the next letter."""
    config = TransformerConfig(VOCABULARY, 64, 4, decoder_layers=2, norm_place="post",
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
