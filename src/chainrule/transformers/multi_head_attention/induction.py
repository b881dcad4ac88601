"""The heads that continue what stood here before: set by hand, and found by a score."""

from __future__ import annotations

import math

import numpy as np

from chainrule.neural_networks.backpropagation import Module, Tensor
from chainrule.shapes import Array, Float, Int
from chainrule.transformers.multi_head_attention.circuits import attention_maps
from chainrule.transformers.multi_head_attention.layer import MultiHeadAttention


class InductionCircuit(Module):
    """Two layers of one head each, set by hand: what followed this token before follows again.

    A vector has four parts: the token and the place, each a 1 among zeros, then two parts that
    are empty at first. The head of the first layer looks one place back and copies that token
    into the third part. The head of the second layer looks for the place whose third part is the
    token here, and copies the token of that place into the fourth part: the guess.
    ``sharpness`` is the score of a match; all others are 0 or below.
    Equation: transformers/multi-head-attention.md#eq-induction. Sources: Elhage et al. 2021,
    A Mathematical Framework for Transformer Circuits; Olsson et al. 2022, arXiv:2209.11895.
    """

    def __init__(self, vocabulary: int, context: int, sharpness: float = 20.0) -> None:
        self.vocabulary, self.context = vocabulary, context
        token, place, before, guess = self._parts()
        width, d_head = guess.stop, max(vocabulary, context)
        rng = np.random.default_rng(0)  # its draws are overwritten below

        def layer() -> MultiHeadAttention:
            made = MultiHeadAttention(
                width, 1, bias=False, causal=True, d_head=d_head, rng=rng, dtype=np.float64
            )
            for parameter in made.parameters():
                parameter.data[...] = 0
            return made

        self.first, self.second = layer(), layer()
        strong = sharpness * math.sqrt(d_head)
        query, key, value = self.first.qkv.weight.data.reshape(3, d_head, width)
        query[:context, place] = strong * np.eye(context, k=1)  # place p asks for p − 1
        key[:context, place] = np.eye(context)
        value[:vocabulary, token] = np.eye(vocabulary)
        self.first.out.weight.data[before, :vocabulary] = np.eye(vocabulary)

        query, key, value = self.second.qkv.weight.data.reshape(3, d_head, width)
        query[:vocabulary, token] = strong * np.eye(vocabulary)
        key[:vocabulary, before] = np.eye(vocabulary)
        key[:vocabulary, token] = -np.eye(vocabulary)  # the first place has copied itself
        value[:vocabulary, token] = np.eye(vocabulary)
        self.second.out.weight.data[guess, :vocabulary] = np.eye(vocabulary)

    def _parts(self) -> tuple[slice, slice, slice, slice]:
        n, place = self.vocabulary, self.vocabulary + self.context
        return slice(n), slice(n, place), slice(place, place + n), slice(place + n, place + 2 * n)

    def forward(self, ids: Int[Array, "batch time"]) -> Float[Tensor, "batch time vocabulary"]:
        """Return, for each place, how much weight lies on each token as the next one."""
        batch, time = ids.shape
        if time > self.context:
            raise ValueError(f"the circuit knows {self.context} places, the text has {time}")
        if ids.size and not (ids.min() >= 0 and ids.max() < self.vocabulary):
            raise ValueError(
                f"tokens are 0 to {self.vocabulary - 1}, the text has {ids.min()} to {ids.max()}"
            )
        token, place, _, guess = self._parts()
        x = np.zeros((batch, time, guess.stop))
        x[..., token] = np.eye(self.vocabulary)[ids]
        x[..., place] = np.eye(self.context)[:time]
        stream = Tensor(x)
        stream = stream + self.first(stream)
        stream = stream + self.second(stream)
        return stream[..., guess]


def induction_score(
    model: Module, rng: np.random.Generator, vocabulary: int, length: int = 24, batch: int = 8
) -> Float[Array, "layers heads"]:
    """Return how much each head looks at what followed the previous copy of a token.

    Random tokens are repeated once; an induction head at position t of the second copy puts
    its weight on t − length + 1. Equation: transformers/multi-head-attention.md#eq-induction-score.
    Source: Olsson et al. 2022, arXiv:2209.11895.

    Raises:
        ValueError: a copy has fewer than 2 tokens, so that nothing follows.
    """
    if length < 2:
        raise ValueError(f"a copy has at least 2 tokens, so that one follows another; got {length}")
    once = rng.integers(0, vocabulary, (batch, length))
    maps = attention_maps(model, np.concatenate([once, once], axis=1))
    second = np.arange(length, 2 * length - 1)
    followed = second - length + 1
    return np.array([weights[:, :, second, followed].mean(axis=(0, 2)) for weights in maps])
