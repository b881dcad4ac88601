"""What fine-tuning costs the language model: measuring it, and three ways to hold it back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from chainrule.math_foundations.probability import softmax
from chainrule.neural_networks.backpropagation import Module, Tensor, no_grad
from chainrule.shapes import Array, Float, Int
from chainrule.training.loss_functions import cross_entropy
from chainrule.transformers.gpt import GPT

__all__ = ["ewc_penalty", "fisher_diagonal", "interpolate", "language_kl"]


def fisher_diagonal(
    model: Module, windows: Int[Array, "n time"], rng: np.random.Generator
) -> dict[str, Array]:
    """Return, for each parameter, the mean square of the gradient of a token's −log p.

    The next token of every place is drawn from the model itself. The gradient of one window's sum
    is squared: in it, the tokens' gradients are uncorrelated, so that the mean square of the sum is
    the sum of the mean squares. Equation: modern-llms/fine-tuning.md#eq-fisher

    Raises:
        ValueError: there is no window.
    """
    if not windows.size:
        raise ValueError(f"expected windows of tokens, got the shape {windows.shape}")
    model.eval()
    total = {name: np.zeros(p.shape) for name, p in model.named_parameters()}
    for row in windows[:, None]:
        model.zero_grad()
        logits = model(row)
        noise = rng.gumbel(size=logits.shape)
        drawn = (logits.data + noise).argmax(axis=-1)
        cross_entropy(logits, drawn, reduction="sum").backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                total[name] += parameter.grad.astype(np.float64) ** 2
    model.zero_grad()
    return {name: square / windows.size for name, square in total.items()}


def ewc_penalty(
    model: Module, anchor: Mapping[str, Array], fisher: Mapping[str, Array], strength: float
) -> Float[Tensor, ""]:
    """Return strength/2 times the sum of F (θ − θ₀)² over the parameters that ``fisher`` names.

    Equation: modern-llms/fine-tuning.md#eq-ewc. Source: Kirkpatrick et al. 2016, arXiv:1612.00796.

    Raises:
        ValueError: a parameter has no anchor, or none of the model is named.
    """
    total: Tensor | None = None
    for name, parameter in model.named_parameters():
        if name not in fisher:
            continue
        if name not in anchor:
            raise ValueError(f"{name} has a Fisher diagonal and no anchor")
        away = parameter - anchor[name]
        weight = np.asarray(strength / 2 * fisher[name], parameter.dtype)
        part = (away * away * weight).sum()
        total = part if total is None else total + part
    if total is None:
        raise ValueError("the Fisher diagonal names no parameter of this model")
    return total


def interpolate(start: Mapping[str, Array], end: Mapping[str, Array], t: float) -> dict[str, Array]:
    """Return the weights a share ``t`` of the way from one state to another; 0 is the start.

    Equation: modern-llms/fine-tuning.md#eq-interpolate

    Raises:
        ValueError: the two states have different names or shapes.
    """
    if start.keys() != end.keys():
        odd = sorted(start.keys() ^ end.keys())[0]
        raise ValueError(f"both states need the same names; only one has {odd}")
    for name in start:
        if start[name].shape != end[name].shape:
            shapes = f"{start[name].shape} and {end[name].shape}"
            raise ValueError(f"{name} has the shapes {shapes}, expected the same")
    return {
        name: ((1 - t) * start[name] + t * end[name]).astype(start[name].dtype) for name in start
    }


def language_kl(base: GPT, tuned: GPT, rows: Int[Array, "n time"], batch: int = 64) -> float:
    """Return the mean KL(base ‖ tuned) of the next token over all places of the rows, in nats.

    Equation: modern-llms/fine-tuning.md#eq-kl-on-task

    Raises:
        ValueError: there is no row.
    """
    if not rows.size:
        raise ValueError(f"expected rows of tokens, got the shape {rows.shape}")
    total = 0.0
    base.eval(), tuned.eval()
    with no_grad():
        for start in range(0, len(rows), batch):
            logs = []
            for model in (base, tuned):
                z = model(rows[start : start + batch]).data.astype(np.float64)
                z -= z.max(axis=-1, keepdims=True)
                logs.append(z - np.log(np.exp(z).sum(axis=-1, keepdims=True)))
            total += float((softmax(logs[0]) * (logs[0] - logs[1])).sum())
    return total / rows.size
