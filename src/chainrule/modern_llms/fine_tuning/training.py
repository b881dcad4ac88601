"""The loop of fine-tuning, and losses to put into it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from chainrule.math_foundations.probability import softmax
from chainrule.modern_llms.fine_tuning.heads import ClassifierHead
from chainrule.neural_networks.backpropagation import Tensor, no_grad
from chainrule.shapes import Array, Float, Int
from chainrule.training.loss_functions import cross_entropy
from chainrule.training.optimizers import AdamW, clip_grad_norm_, warmup_linear
from chainrule.transformers.gpt import GPT

__all__ = ["fine_tune", "language_loss", "predict", "replay_mixer", "task_loss"]

Loss = Callable[[], Tensor]


def task_loss(
    model: ClassifierHead,
    ids: Int[Array, "n time"],
    labels: Int[Array, " n"],
    rng: np.random.Generator,
    batch: int = 16,
) -> Loss:
    """Return a function that draws labelled texts and gives their cross-entropy.

    Raises:
        ValueError: there are no texts, or not one label for each.
    """
    if len(ids) != len(labels) or not len(ids):
        raise ValueError(f"expected one label for each text, got {len(labels)} for {len(ids)}")

    def loss() -> Tensor:
        rows = rng.choice(len(ids), min(batch, len(ids)), replace=False)
        return cross_entropy(model(ids[rows]), labels[rows])

    return loss


def language_loss(
    model: GPT,
    ids: Int[Array, " tokens"],
    rng: np.random.Generator,
    batch: int = 8,
    window: int = 64,
) -> Loss:
    """Return a function that draws windows of a text and gives the loss of their next tokens.

    Raises:
        ValueError: the text is shorter than one window and the token after it.
    """
    if len(ids) <= window:
        raise ValueError(f"a window of {window} needs {window + 1} tokens, got {len(ids)}")

    def loss() -> Tensor:
        starts = rng.integers(0, len(ids) - window, size=(batch, 1))
        rows = ids[starts + np.arange(window + 1)]
        return model.loss(rows[:, :-1], rows[:, 1:])

    return loss


def replay_mixer(task: Loss, old: Loss, weight: float) -> Loss:
    """Return the loss of the new task plus ``weight`` times that of what was learned before.

    Equation: modern-llms/fine-tuning.md#eq-replay

    Raises:
        ValueError: the weight is negative or NaN.
    """
    if not weight >= 0:
        raise ValueError(f"the weight of old text is 0 or more, got {weight}")
    return task if weight == 0 else lambda: task() + weight * old()


def fine_tune(
    params: Iterable[Any],
    loss: Loss,
    lr: float,
    steps: int,
    weight_decay: float = 0.01,
    clip: float = 1.0,
) -> list[float]:
    """Take steps of AdamW on ``loss``, and return its values.

    ``params`` are parameters or groups with rates of their own; ``lr`` is the rate of the others.
    Every rate rises over a tenth of the steps and then falls to 0 in a straight line. Frozen
    parameters are left alone.
    """
    groups = [entry if isinstance(entry, dict) else {"params": [entry]} for entry in params]
    groups = [{**group, "params": [p for p in group["params"] if p.requires_grad]}
              for group in groups]  # fmt: skip
    optimizer = AdamW([group for group in groups if group["params"]], lr=lr,
                      weight_decay=weight_decay)  # fmt: skip
    rates = [group["lr"] for group in optimizer.param_groups]
    everything = [p for group in optimizer.param_groups for p in group["params"]]
    log = []
    for step in range(steps):
        share = warmup_linear(step, 1.0, max(1, steps // 10), steps)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = share * rate
        optimizer.zero_grad()
        value = loss()
        value.backward()
        clip_grad_norm_(everything, clip)
        optimizer.step()
        log.append(value.item())
    return log


def predict(
    model: ClassifierHead,
    ids: Int[Array, "n time"],
    lengths: Int[Array, " n"] | None = None,
    batch: int = 64,
) -> Float[Array, "n classes"]:
    """Return the chance of each class for each text, without dropout."""
    model.eval()
    chances = np.empty((len(ids), model.head.out_features))
    with no_grad():
        for start in range(0, len(ids), batch):
            some = slice(start, start + batch)
            scores = model(ids[some], None if lengths is None else lengths[some]).data
            chances[some] = softmax(scores.astype(np.float64))
    return chances
