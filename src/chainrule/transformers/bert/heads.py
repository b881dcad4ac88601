"""Heads: small layers that turn the vectors of an encoder into answers, and their losses."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from chainrule.math_foundations.probability import softmax
from chainrule.neural_networks.activation_functions import gelu
from chainrule.neural_networks.backpropagation import (
    Linear,
    Module,
    Parameter,
    Tensor,
    linear,
    where,
)
from chainrule.neural_networks.regularization import Dropout, LayerNorm
from chainrule.shapes import Array, Bool, Float, Int
from chainrule.training.loss_functions import cross_entropy, kl_div, log_softmax
from chainrule.transformers.bert.model import Bert, BertConfig, start

__all__ = [
    "Head", "MLMHead", "MaskedLM", "NSPHead", "SpanHead", "best_span", "distillation_loss", "pool",
]  # fmt: skip


def pool(
    h: Float[Tensor, "batch time d_model"],
    mask: Bool[Array, "batch time"] | None = None,
    mode: str = "mean",
) -> Float[Tensor, "batch d_model"]:
    """Make one vector of a text's vectors: the first ("cls"), their mean, or their maximum.

    Padding, where ``mask`` is false, counts for neither mean nor maximum.
    Equation: transformers/bert.md#eq-mean-pool

    Raises:
        ValueError: the mode is not offered, or a text has no token.
    """
    if mode not in ("cls", "mean", "max"):
        raise ValueError(f"mode is 'cls', 'mean' or 'max', not {mode!r}")
    if mask is None:
        mask = np.ones(h.shape[:2], bool)
    if not mask.any(axis=1).all():
        raise ValueError("pool: a text has no token, only padding")
    if mode == "cls":
        return h[:, 0]
    if mode == "max":
        return where(mask[:, :, None], h, -np.inf).max(axis=1)
    real = mask[:, :, None].astype(h.dtype)
    return where(mask[:, :, None], h, 0.0).sum(axis=1) / real.sum(axis=1)


class Head(Module):
    """Dropout and one linear layer: for a vector of a text, or for the vector of each token."""

    def __init__(
        self,
        d: int,
        classes: int,
        dropout: float = 0.0,
        *,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.dropout = Dropout(dropout, rng)
        self.linear = Linear(d, classes, rng=rng, dtype=dtype)
        start(self, rng)

    def forward(self, h: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch classes"]:
        """Return a score for each class. Equation: transformers/bert.md#eq-classifier"""
        return self.linear(self.dropout(h))


class NSPHead(Head):
    """Does the second text follow the first? Two scores, of yes and of no, from the summary."""

    def __init__(self, d: int, *, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> None:
        super().__init__(d, 2, rng=rng, dtype=dtype)


class SpanHead(Head):
    """Two scores for each token: that the answer starts there, and that it ends there."""

    def __init__(self, d: int, *, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> None:
        super().__init__(d, 2, rng=rng, dtype=dtype)

    def loss(
        self,
        h: Float[Tensor, "batch time d_model"],
        starts: Int[Array, "batch"],
        ends: Int[Array, "batch"],
        mask: Bool[Array, "batch time"] | None = None,
    ) -> Float[Tensor, ""]:
        """Return the mean of two cross-entropies over the places of the text.

        Equation: transformers/bert.md#eq-span
        """
        scores = self(h)
        if mask is not None:
            scores = where(mask[:, :, None], scores, -1e30)
        parts = [cross_entropy(scores[:, :, i], wanted) for i, wanted in enumerate((starts, ends))]
        return (parts[0] + parts[1]) / 2


def best_span(
    start: Float[Array, "time"], end: Float[Array, "time"], longest: int
) -> tuple[int, int]:
    """Return the first and the last place with the largest sum of scores, at most ``longest`` long.

    The end is never before the start. Equation: transformers/bert.md#eq-best-span

    Raises:
        ValueError: no place, scores of different lengths, or a length below 1.
    """
    if len(start) != len(end) or not len(start) or longest < 1:
        raise ValueError(
            f"best_span: {len(start)} starts, {len(end)} ends, at most {longest} tokens"
        )
    n = len(start)
    length = np.arange(n)[None, :] - np.arange(n)[:, None]
    allowed = (length >= 0) & (length < longest)
    sums = np.where(allowed, start[:, None] + end[None, :], -np.inf)
    first, last = np.unravel_index(sums.argmax(), sums.shape)
    return int(first), int(last)


class MLMHead(Module):
    """Scores of every piece of the vocabulary at a place, with the token table as the last weight.

    Equation: transformers/bert.md#eq-mlm-head. Source: Devlin et al. 2018, arXiv:1810.04805 (code).
    """

    def __init__(self, config: BertConfig, rng: np.random.Generator) -> None:
        cfg = config
        self.transform = Linear(cfg.width, cfg.width, rng=rng, dtype=cfg.dtype)
        self.norm = LayerNorm(cfg.width, eps=cfg.eps, dtype=cfg.dtype)
        self.bias = Parameter(np.zeros(cfg.vocab_size, cfg.dtype))
        start(self, rng)
        self.bias.data[...] = 0

    def forward(
        self, h: Float[Tensor, "*batch d_model"], table: Float[Tensor, "vocab d_model"]
    ) -> Float[Tensor, "*batch vocab"]:
        """Return the scores; ``table`` is the weight of the token embedding."""
        return linear(self.norm(gelu(self.transform(h))), table, self.bias)


class MaskedLM(Module):
    """An encoder and the head that names hidden tokens."""

    def __init__(self, config: BertConfig, rng: np.random.Generator) -> None:
        self.bert = Bert(config, rng)
        self.head = MLMHead(config, rng)

    def forward(
        self,
        ids: Int[Array, "batch time"],
        segments: Int[Array, "batch time"] | None = None,
        mask: Bool[Array, "batch time"] | None = None,
    ) -> Float[Tensor, "batch time vocab"]:
        """Return a score for every piece of the vocabulary at every place."""
        return self.head(self.bert(ids, segments, mask), self.bert.tokens.weight)

    def loss(
        self,
        ids: Int[Array, "batch time"],
        labels: Int[Array, "batch time"],
        segments: Int[Array, "batch time"] | None = None,
        mask: Bool[Array, "batch time"] | None = None,
    ) -> Float[Tensor, ""]:
        """Return the mean −log p of the labels, in nats; places with the label −100 do not count.

        The head computes scores at the places that count, and at no other.
        Equation: transformers/bert.md#eq-mlm-loss

        Raises:
            ValueError: no label counts.
        """
        counted = labels != -100
        if not counted.any():
            raise ValueError("the batch has no hidden token: every label is -100")
        h = self.bert(ids, segments, mask)[counted]
        return cross_entropy(self.head(h, self.bert.tokens.weight), labels[counted])


def distillation_loss(
    student: Float[Tensor, "*batch classes"],
    teacher: Float[Array, "*batch classes"],
    temperature: float = 2.0,
) -> Float[Tensor, ""]:
    """Return T² · KL(teacher ‖ student) of both softmaxes at temperature T, averaged.

    Equation: transformers/bert.md#eq-distillation. Source: Hinton, Vinyals, Dean 2015,
    arXiv:1503.02531.

    Raises:
        ValueError: the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"the temperature is positive, got {temperature}")
    target = softmax(teacher / temperature).reshape(-1, teacher.shape[-1])
    log_p = log_softmax(student / temperature).reshape(-1, teacher.shape[-1])
    return temperature**2 * kl_div(log_p, target.astype(log_p.dtype), reduction="batchmean")
