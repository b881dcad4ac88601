"""A head on a language model, and which weights of the two may move how fast."""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np

from chainrule.neural_networks.backpropagation import Linear, Module, Tensor
from chainrule.shapes import Array, Float, Int
from chainrule.training.optimizers import ParamGroups
from chainrule.transformers.gpt import GPT

__all__ = ["POOLS", "ClassifierHead", "freeze", "layerwise_lr", "pool"]

POOLS = ("mean", "last", "first")


def pool(
    states: Float[Tensor, "batch time d_model"],
    lengths: Int[Array, " batch"] | None = None,
    how: str = "mean",
) -> Float[Tensor, "batch d_model"]:
    """Make one vector of the states of each text; what lies behind its length does not count.

    ``mean`` averages the real places, ``last`` takes the last real one, ``first`` the first.
    Equation: modern-llms/fine-tuning.md#eq-pool

    Raises:
        ValueError: an unknown ``how``, or a length outside 1 … time.
    """
    batch, time = states.shape[:2]
    if how not in POOLS:
        raise ValueError(f"pooling is one of {POOLS}, not {how!r}")
    lengths = np.full(batch, time) if lengths is None else np.asarray(lengths)
    if lengths.shape != (batch,) or (batch and not 1 <= lengths.min() <= lengths.max() <= time):
        raise ValueError(f"expected {batch} lengths from 1 to {time}, got {lengths}")
    weights = np.zeros((batch, time, 1), states.dtype)
    if how == "mean":
        real = np.arange(time) < lengths[:, None]
        weights[..., 0] = real / lengths[:, None]
    else:
        weights[np.arange(batch), lengths - 1 if how == "last" else 0] = 1
    return (states * weights).sum(axis=1)


class ClassifierHead(Module):
    """A language model with a linear layer on its pooled last states: a score for each class.

    The layer starts at 0, so the first scores are all equal. The model is ``body``, the layer
    ``head``. Equation: modern-llms/fine-tuning.md#eq-head

    Raises:
        ValueError: fewer than two classes, or an unknown way to pool.
    """

    def __init__(self, body: GPT, classes: int, pool: str = "mean") -> None:
        if classes < 2:
            raise ValueError(f"there is nothing to choose among {classes} classes; give two")
        if pool not in POOLS:
            raise ValueError(f"pooling is one of {POOLS}, not {pool!r}")
        self.body, self.pool = body, pool
        width, dtype = body.config.width, body.config.dtype
        self.head = Linear(width, classes, rng=np.random.default_rng(0), dtype=dtype)
        for parameter in self.head.parameters():
            parameter.data[...] = 0

    def features(
        self, ids: Int[Array, "batch time"], lengths: Int[Array, " batch"] | None = None
    ) -> Float[Tensor, "batch d_model"]:
        """Return the pooled states of the last layer, normalized as for the prediction."""
        states = start = self.body.embed(ids)
        for block in self.body.blocks:
            states = block(states, start=start, ids=ids)
        return pool(self.body.norm(states), lengths, self.pool)

    def forward(
        self, ids: Int[Array, "batch time"], lengths: Int[Array, " batch"] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Return a score for each class."""
        return self.head(self.features(ids, lengths))


def freeze(model: Module, pattern: str) -> list[str]:
    """Make the parameters whose names match (as file names do: ``body.*``) stay as they are.

    Their gradients are forgotten as well: an optimizer moves every weight that has one, if only by
    its weight decay. Returns the names.

    Raises:
        ValueError: no name matches.
    """
    names = []
    for name, parameter in model.named_parameters():
        if fnmatchcase(name, pattern):
            parameter.requires_grad_(False)
            parameter.grad = None
            names.append(name)
    if not names:
        some = ", ".join(name for name, _ in list(model.named_parameters())[:3])
        raise ValueError(f"no parameter matches {pattern!r}; they are called {some}, …")
    return names


def layerwise_lr(model: ClassifierHead, base: float, decay: float) -> ParamGroups:
    """Return groups in which each layer's rate is ``decay`` times that of the layer above it.

    The head and the last normalization have ``base``, the last block base·decay, and so on down
    to the embeddings. Frozen parameters are left out.
    Equation: modern-llms/fine-tuning.md#eq-layerwise
    """
    layers = len(model.body.blocks)
    depths: dict[int, list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            depths.setdefault(_below_the_head(name, layers), []).append(parameter)
    return ParamGroups(
        {"params": depths[depth], "lr": base * decay**depth} for depth in sorted(depths)
    )


def _below_the_head(name: str, layers: int) -> int:
    if name.startswith("body.blocks."):
        return layers - int(name.split(".")[2])
    return layers + 1 if name.startswith(("body.tokens", "body.positions")) else 0
