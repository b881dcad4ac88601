"""Positions as tables that are added to the input, and as biases that are added to the scores."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import DTypeLike

from chainrule.neural_networks.backpropagation import Module, Parameter, Tensor
from chainrule.shapes import Array, Float, Int

__all__ = ["LearnedPositions", "alibi_bias", "relative_buckets", "sinusoidal_encoding"]


def sinusoidal_encoding(
    n: int, d: int, base: float = 10_000.0, dtype: DTypeLike = np.float32
) -> Float[Array, "n d"]:
    """Return sines (even columns) and cosines (odd columns) of n positions at d/2 wavelengths.

    Wavelengths start at 2π and grow by the factor base^(2/d) from pair to pair; shifting a
    position rotates each pair of columns.

    Raises:
        ValueError: the width is odd, or the base not above 1.

    Equation: transformers/self-attention.md#eq-sinusoidal. Source: Vaswani et al. 2017,
    arXiv:1706.03762, section 3.5.
    """
    if d % 2:
        raise ValueError(f"sinusoidal_encoding needs an even width: sines come in pairs; got {d}")
    if not base > 1:
        raise ValueError(f"sinusoidal_encoding needs a base above 1, got {base}")
    angles = np.arange(n)[:, None] * base ** (-np.arange(0, d, 2) / max(d, 1))
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(n, d).astype(dtype)


class LearnedPositions(Module):
    """A trained vector for each of ``n`` positions, added to the input; there is no n + 1st.

    Equation: transformers/self-attention.md#eq-learned-positions
    """

    def __init__(
        self, n: int, d: int, *, rng: np.random.Generator, dtype: DTypeLike = np.float32
    ) -> None:
        self.n = n
        self.weight = Parameter((0.02 * rng.standard_normal((n, d))).astype(dtype))

    def forward(
        self, x: Float[Tensor, "*batch time d_model"], start: int = 0
    ) -> Float[Tensor, "*batch time d_model"]:
        """Add the vectors of positions ``start``, ``start`` + 1, …

        Raises:
            ValueError: the sequence reaches beyond the table, or has another width.
        """
        d = self.weight.shape[-1]
        if x.shape[-1] != d:
            raise ValueError(f"positions have width {d}, the sequence {x.shape[-1]}")
        end = start + x.shape[-2]
        if start < 0 or end > self.n:
            needs = f"{end}" if start >= 0 else f"to begin at {start}"
            raise ValueError(f"positions are learned up to {self.n}, the sequence needs {needs}")
        return x + self.weight[start:end]


def alibi_bias(heads: int, n: int, dtype: DTypeLike = np.float32) -> Float[Array, "heads n n"]:
    """Return a bias on the scores that falls linearly with distance, each head at its own slope.

    Slopes are the powers 2^(−8/heads), 2^(−16/heads), … (½ … 1/256 for 8 heads); for head
    counts that are no power of two, those of the next lower power, then every other one of
    the next higher. Distances to later keys are 0: combine with a causal mask.

    Raises:
        ValueError: there is no head.

    Equation: transformers/self-attention.md#eq-alibi. Source: Press et al. 2021,
    arXiv:2108.12409.
    """
    if heads < 1:
        raise ValueError(f"alibi_bias needs at least one head, got {heads}")
    power = 2 ** int(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    slopes += [2 ** (-4 * (2 * i + 1) / power) for i in range(heads - power)]
    distance = np.minimum(np.arange(n)[None, :] - np.arange(n)[:, None], 0)
    return (np.array(slopes)[:, None, None] * distance).astype(dtype)


def relative_buckets(
    offset: Int[Array, "*shape"],
    buckets: int = 32,
    limit: int = 128,
    bidirectional: bool = False,
) -> Int[Array, "*shape"]:
    """Return the bucket of each offset, key position minus query position.

    Half of the buckets hold one distance each; the others grow geometrically up to ``limit``,
    and the last holds all beyond. A model learns one number a bucket and head, and adds it to
    the scores. ``bidirectional`` gives later keys the second half of the buckets; without it
    they share bucket 0, to be masked.

    Raises:
        ValueError: too few buckets, or a limit that the single distances already reach.

    Equation: transformers/self-attention.md#eq-buckets. Source: Raffel et al. 2019,
    arXiv:1910.10683, section 2.1.
    """
    buckets = buckets // 2 if bidirectional else buckets
    single = buckets // 2
    if single < 1 or limit <= single:
        raise ValueError(f"{single} buckets of one distance do not fit below the limit {limit}")
    back = -offset.astype(np.int64)  # small integers have no absolute value of their lowest
    distance = np.abs(back) if bidirectional else np.maximum(back, 0)
    growth = np.log(np.maximum(distance, single) / single) / math.log(limit / single)
    far = np.minimum(single + (growth * (buckets - single)).astype(np.int64), buckets - 1)
    bucket = np.where(distance < single, distance, far)
    return bucket + buckets * (offset > 0) if bidirectional else bucket
