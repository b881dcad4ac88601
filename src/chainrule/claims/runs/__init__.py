"""The runs behind the claims, a module each, and what they share.

A module is called like its claim in ``reference/claims.toml``, with ``_`` for ``-``, and has a
function, whose ``steps`` are by default those of the claim::

    measure(variant, rate, seed, steps) -> (loss on validation data, {outcome: held-out number})

The loss chooses the rate and nothing else; what is claimed is read from data of its own. One seed
draws the first weights and the batches, so that two variants of a seed differ in nothing else
where they can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

import numpy as np

from chainrule.data.names import load_names
from chainrule.neural_networks.backpropagation import Tensor, no_grad
from chainrule.shapes import Array
from chainrule.training.optimizers import AdamW, clip_grad_norm_
from chainrule.transformers.gpt import GPT, gpt_config, windows

Found = tuple[float, dict[str, float]]
Schedule = Callable[[int, float, int], float]

SYMBOLS = ".abcdefghijklmnopqrstuvwxyz"
CONTEXT, BATCH, WARMUP = 16, 16, 20


def constant(step: int, rate: float, steps: int) -> float:
    """The same rate from the first step to the last."""
    return rate


def warm(step: int, rate: float, steps: int) -> float:
    """A rate that rises over the first steps and then stays."""
    return rate * min(1.0, (step + 1) / WARMUP)


def train(
    parameters: Iterable[Tensor],
    loss: Callable[[], Tensor],
    rate: float,
    steps: int,
    schedule: Schedule = constant,
) -> None:
    """AdamW without decay, the gradient clipped at 1; ``loss`` draws a batch each time."""
    parameters = list(parameters)
    optimizer = AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = schedule(step, rate, steps)
            optimizer.zero_grad()
            loss().backward()
            clip_grad_norm_(parameters, 1.0)
            optimizer.step()


# ---- first names, letter by letter ---------------------------------------------------------------


@cache
def letters(part: str, backwards: bool = False) -> Array:
    """The names of a part as one text, a dot before and after each, as ids."""
    names = [name[::-1] if backwards else name for name in getattr(load_names(), part)]
    return np.array([SYMBOLS.index(c) for c in f".{'.'.join(names)}."])


def small_gpt(rng: np.random.Generator, layers: int = 2, width: int = 32, **changes: object) -> GPT:
    """A GPT of two heads that reads letters of names."""
    config = gpt_config(len(SYMBOLS), CONTEXT, layers, 2, width, **changes)
    return GPT(config, rng)


def next_letter(model: GPT, ids: Array, rng: np.random.Generator) -> Callable[[], Tensor]:
    """Draws a batch of a text and returns the model's loss on it."""

    def loss() -> Tensor:
        starts = rng.integers(0, len(ids) - CONTEXT, BATCH)
        return model.loss(*windows(ids, starts, CONTEXT))

    return loss


def loss_on(model: GPT, ids: Array) -> float:
    """The mean loss on all passages of a text, one after the other."""
    starts = np.arange(0, len(ids) - CONTEXT, CONTEXT)
    model.eval()
    with no_grad(), np.errstate(over="ignore", invalid="ignore"):
        return float(model.loss(*windows(ids, starts, CONTEXT)).data)


def both(model: GPT, backwards: bool = False) -> Found:
    """The loss on the names that choose, and on those that tell."""
    validation, test = (letters(part, backwards) for part in ("validation", "test"))
    return loss_on(model, validation), {"loss": loss_on(model, test)}
