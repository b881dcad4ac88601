"""One table or two: names read in pairs of letters, so that the table is a large part."""

from __future__ import annotations

from functools import cache

import numpy as np

from chainrule.claims.runs import BATCH, WARMUP, Found, train
from chainrule.data.names import load_names
from chainrule.neural_networks.backpropagation import Tensor, no_grad
from chainrule.shapes import Array
from chainrule.training.optimizers import warmup_linear
from chainrule.transformers.gpt import GPT, gpt_config, windows

STEPS, CONTEXT, WIDTH = 200, 12, 32


def measure(variant: str, rate: float, seed: int, steps: int = STEPS) -> Found:
    """Train with one table for both ends, or with one for each."""
    vocabulary, texts = _pairs()
    config = gpt_config(vocabulary, CONTEXT, 2, 2, WIDTH, tied=variant == "tied")
    model = GPT(config, np.random.default_rng(seed))
    draw, ids = np.random.default_rng([seed, 1]), texts["train"]

    def loss() -> Tensor:
        starts = draw.integers(0, len(ids) - CONTEXT, BATCH)
        return model.loss(*windows(ids, starts, CONTEXT))

    def falls(step: int, rate: float, steps: int) -> float:
        return warmup_linear(step, rate, min(WARMUP, steps), steps)

    train(model.parameters(), loss, rate, steps, falls)
    return _loss(model, texts["validation"]), {"loss": _loss(model, texts["test"])}


@cache
def _pairs() -> tuple[int, dict[str, Array]]:
    """How many pairs of letters there are, and the texts as ids; the last pair may be half."""
    names = load_names()._asdict()
    cut = {part: [n[i : i + 2] for name in some for n in [f"{name}."] for i in range(0, len(n), 2)]
           for part, some in names.items()}  # fmt: skip
    known = sorted({pair for some in cut.values() for pair in some})
    place = {pair: i for i, pair in enumerate(known)}
    return len(known), {part: np.array([place[p] for p in some]) for part, some in cut.items()}


def _loss(model: GPT, ids: Array) -> float:
    starts = np.arange(0, len(ids) - CONTEXT, CONTEXT)
    with no_grad(), np.errstate(over="ignore", invalid="ignore"):
        return float(model.loss(*windows(ids, starts, CONTEXT)).data)
