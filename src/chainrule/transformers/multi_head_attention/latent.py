"""Multi-head latent attention: one small vector a token in place of keys and values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from chainrule.neural_networks.backpropagation import (
    Linear,
    Module,
    Parameter,
    Tensor,
    concat,
    split,
)
from chainrule.shapes import Array, Float
from chainrule.transformers.attention import scaled_dot_product_attention
from chainrule.transformers.multi_head_attention.layer import (
    merge_heads,
    rms_normalize,
    split_heads,
)
from chainrule.transformers.self_attention import causal_mask, rope


class LatentAttention(Module):
    """Multi-head latent attention: keys and values are made from one cached vector a token.

    Each position stores a latent vector of size ``kv_rank`` and one rotated key of size
    ``rope_dim`` that all heads share. `forward` makes keys and values from the latent;
    `absorbed` multiplies those two projections into the query's and the output's instead, and
    attends to the latent vectors themselves. ``normalize`` divides the latent by its root mean
    square, with a trained gain, as the paper does; its low-rank queries are left out.
    Equation: transformers/multi-head-attention.md#eq-latent. Source: DeepSeek-AI 2024,
    arXiv:2405.04434.

    Raises:
        ValueError: the width does not divide into heads, and no ``d_head`` is given, or a latent
            vector has no numbers.
    """

    def __init__(
        self,
        d: int,
        n_heads: int,
        kv_rank: int,
        rope_dim: int,
        *,
        d_head: int | None = None,
        causal: bool = True,
        normalize: bool = False,
        rope_base: float = 10_000.0,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        if d_head is None and (n_heads < 1 or d % n_heads):
            raise ValueError(f"width {d} does not divide into {n_heads} heads")
        if kv_rank < 1:
            raise ValueError(f"a latent vector has at least 1 number, not {kv_rank}")
        self.n_heads, self.d_head = n_heads, d // n_heads if d_head is None else d_head
        self.kv_rank, self.rope_dim, self.rope_base = kv_rank, rope_dim, rope_base
        self.causal = causal
        width = n_heads * self.d_head
        options: dict[str, Any] = {"bias": False, "rng": rng, "dtype": dtype}
        self.query = Linear(d, width + n_heads * rope_dim, **options)
        self.down = Linear(d, kv_rank + rope_dim, **options)
        self.up_key = Linear(kv_rank, width, **options)
        self.up_value = Linear(kv_rank, width, **options)
        self.out = Linear(width, d, **options)
        self.latent_gain = Parameter(np.ones(kv_rank, dtype)) if normalize else None

    def _inputs(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        positions = np.arange(x.shape[-2])
        width = self.n_heads * self.d_head
        q, q_turned = split(self.query(x), [width, self.n_heads * self.rope_dim], axis=-1)
        latent, k_turned = split(self.down(x), [self.kv_rank, self.rope_dim], axis=-1)
        if self.latent_gain is not None:
            latent = rms_normalize(latent) * self.latent_gain
        q_turned = rope(split_heads(q_turned, self.n_heads), positions, self.rope_base)
        k_turned = rope(split_heads(k_turned, 1), positions, self.rope_base)
        return split_heads(q, self.n_heads), q_turned, latent, k_turned

    @property
    def _scale(self) -> float:
        return 1 / math.sqrt(self.d_head + self.rope_dim)

    def _mask(self, time: int) -> Array | None:
        return causal_mask(time) if self.causal else None

    def forward(
        self, x: Float[Tensor, "batch time d_model"]
    ) -> Float[Tensor, "batch time d_model"]:
        """Make keys and values of every head from the latent vectors, then attend."""
        q, q_turned, latent, k_turned = self._inputs(x)
        k = split_heads(self.up_key(latent), self.n_heads)
        v = split_heads(self.up_value(latent), self.n_heads)
        shared = k_turned.expand(-1, self.n_heads, -1, -1)
        y, _ = scaled_dot_product_attention(
            concat([q, q_turned], axis=-1), concat([k, shared], axis=-1), v,
            self._mask(x.shape[-2]), self._scale,
        )  # fmt: skip
        return self.out(merge_heads(y))

    def absorbed(
        self, x: Float[Tensor, "batch time d_model"]
    ) -> Float[Tensor, "batch time d_model"]:
        """Return the same output without ever making a key or a value.

        qᵀ(W_K c) = (W_Kᵀ q)ᵀ c, and Σ a (W_V c) = W_V Σ a c.
        Equation: transformers/multi-head-attention.md#eq-absorbed
        """
        q, q_turned, latent, k_turned = self._inputs(x)
        up_key = self.up_key.weight.reshape(self.n_heads, self.d_head, self.kv_rank)
        up_value = self.up_value.weight.reshape(self.n_heads, self.d_head, self.kv_rank)
        latent = latent.unsqueeze(1)
        y, _ = scaled_dot_product_attention(
            concat([q @ up_key, q_turned], axis=-1), concat([latent, k_turned], axis=-1), latent,
            self._mask(x.shape[-2]), self._scale,
        )  # fmt: skip
        return self.out(merge_heads(y @ up_value.transpose(-1, -2)))
