"""Names packed into rows, with and without the mask that keeps them apart."""

from __future__ import annotations

from functools import cache

import numpy as np

from chainrule.claims.runs import SYMBOLS, WARMUP, Found, train
from chainrule.data.names import load_names
from chainrule.neural_networks.backpropagation import Tensor, no_grad
from chainrule.shapes import Array
from chainrule.training.batching import pack_batch, pack_first_fit, packed_targets
from chainrule.training.loss_functions import cross_entropy
from chainrule.training.optimizers import warmup_linear
from chainrule.transformers.gpt import GPT, gpt_config
from chainrule.transformers.self_attention import document_mask

STEPS, ROW, ROWS = 120, 48, 6


def measure(variant: str, rate: float, seed: int, steps: int = STEPS) -> Found:
    """Train on the same rows either way; the loss asks for no letter of the next name."""
    config = gpt_config(len(SYMBOLS), ROW, 2, 2, 32, positions="rope")
    model, masked = GPT(config, np.random.default_rng(seed)), variant == "with the mask"
    draw, names = np.random.default_rng([seed, 1]), _names("train")

    def loss() -> Tensor:
        some = [names[i] for i in draw.choice(len(names), 8 * ROWS, replace=False)]
        rows = pack_first_fit(_lengths(some), ROW)[:ROWS]
        return _loss(model, *pack_batch(some, rows, ROW), masked)

    def falls(step: int, rate: float, steps: int) -> float:
        return warmup_linear(step, rate, min(WARMUP, steps), steps)

    train(model.parameters(), loss, rate, steps, falls)
    return _alone(model, "validation"), {
        "alone": _alone(model, "test"),
        "in rows": _in_rows(model, "test", masked),
    }


def _loss(model: GPT, ids: Array, documents: Array, masked: bool) -> Tensor:
    """The mean loss over letters; rotary positions need not be counted anew, only masked."""
    mask = document_mask(documents)[:, None] if masked else None
    x = model.embed(ids)
    for block in model.blocks:
        x = block(x, mask=mask)
    return cross_entropy(model.predict(x), packed_targets(ids, documents))


def _alone(model: GPT, part: str) -> float:
    """Each name in a row of its own."""
    names = _names(part)
    with no_grad():
        rows = [[i] for i in range(len(names))]
        return float(_loss(model, *pack_batch(names, rows, 13), masked=True).data)


def _in_rows(model: GPT, part: str, masked: bool) -> float:
    """As in training."""
    names = _names(part)
    rows = pack_first_fit(_lengths(names), ROW)
    with no_grad():
        return float(_loss(model, *pack_batch(names, rows, ROW), masked).data)


@cache
def _names(part: str) -> list[list[int]]:
    return [[SYMBOLS.index(c) for c in f".{name}."] for name in getattr(load_names(), part)]


def _lengths(names: list[list[int]]) -> Array:
    return np.array([len(name) for name in names])
