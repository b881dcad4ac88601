"""Multi-head attention in today's layouts, its cache, and instruments to look inside heads.

Taught in ``transformers/multi-head-attention.md``. `MultiHeadAttention` covers many heads (MHA),
fewer key-value heads shared by groups (GQA), and one (MQA); `LatentAttention` keeps one small
vector a token instead of keys and values (MLA).

Shape names: ``time`` positions of the queries, ``source`` positions of the keys, ``d_model``
width, ``heads`` query heads, ``d_head`` size of a head, ``rank`` size of the latent vector.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from chainrule.neural_networks.backpropagation import (
    Linear,
    Module,
    Parameter,
    Tensor,
    concat,
    linear,
    no_grad,
    split,
)
from chainrule.shapes import Array, Bool, Float, Int
from chainrule.transformers.attention import (
    flash_attention,
    packed_attention,
    scaled_dot_product_attention,
)
from chainrule.transformers.self_attention import causal_mask, combine, rope

__all__ = [
    "CacheConfig", "LatentAttention", "MultiHeadAttention", "attention_maps", "head_ablation",
    "induction_score", "kv_bytes_per_token", "merge_heads", "mha_to_gqa", "ov_circuit",
    "qk_circuit", "split_heads",
]  # fmt: skip


def split_heads(
    x: Float[Tensor, "*batch time width"], heads: int
) -> Float[Tensor, "*batch heads time d_head"]:
    """Cut the last axis into heads and move them before the positions: a view, not a copy."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads).transpose(-2, -3)


def merge_heads(
    x: Float[Tensor, "*batch heads time d_head"],
) -> Float[Tensor, "*batch time width"]:
    """Put the heads side by side again."""
    x = x.transpose(-2, -3)
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


class MultiHeadAttention(Module):
    """Attention in ``n_heads`` subspaces at once, then one projection back to width ``d``.

    ``n_kv_heads`` below ``n_heads`` shares keys and values between groups of heads.
    ``qk_norm`` divides each query and key by its root mean square (times a trained gain).
    ``rope`` is the base of a rotary encoding, or None. ``causal`` hides later positions.
    One projection makes queries, keys and values, in this order, as rows of its weight.
    Equation: transformers/multi-head-attention.md#eq-multi-head. Sources: Vaswani et al. 2017,
    arXiv:1706.03762; Ainslie et al. 2023, arXiv:2305.13245.
    """

    def __init__(
        self,
        d: int,
        n_heads: int,
        n_kv_heads: int | None = None,
        qk_norm: bool = False,
        rope: float | None = None,
        bias: bool = True,
        causal: bool = False,
        *,
        d_head: int | None = None,
        rope_scaling: dict[str, Any] | None = None,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        if d_head is None and d % n_heads:
            raise ValueError(f"width {d} does not divide into {n_heads} heads")
        if n_heads % n_kv_heads:
            raise ValueError(f"{n_heads} heads do not divide into {n_kv_heads} groups")
        self.d, self.n_heads, self.n_kv_heads = d, n_heads, n_kv_heads
        self.d_head = d // n_heads if d_head is None else d_head
        self.causal, self.rope, self.rope_scaling = causal, rope, rope_scaling
        width = (n_heads + 2 * n_kv_heads) * self.d_head
        self.qkv = Linear(d, width, bias, rng=rng, dtype=dtype)
        self.out = Linear(n_heads * self.d_head, d, bias, rng=rng, dtype=dtype)
        self.query_gain = Parameter(np.ones(self.d_head, dtype)) if qk_norm else None
        self.key_gain = Parameter(np.ones(self.d_head, dtype)) if qk_norm else None
        self.head_mask: Array | None = None
        self.kept_weights: list[Array] | None = None

    def forward(
        self,
        x: Float[Tensor, "batch time d_model"],
        context: Float[Tensor, "batch source d_context"] | None = None,
        mask: Bool[Array, "*mask"] | Float[Array, "*mask"] | None = None,
        positions: Int[Array, "*positions"] | None = None,
    ) -> Float[Tensor, "batch time d_model"]:
        """Attend from ``x`` to ``context`` (to ``x`` itself without one).

        ``mask`` broadcasts to (batch, heads, time, source): true where a query may look, or
        numbers added to the scores. ``positions`` are those of `rope`, 0, 1, … by default.
        """
        if self._is_plain and context is None and mask is None:
            return self.out(packed_attention(self.qkv(x), self.n_heads, self.causal))
        q, k, v = self.project(x, context, positions)
        return self.out(merge_heads(self.attend(q, k, v, mask)))

    @property
    def _is_plain(self) -> bool:
        special = (self.rope, self.query_gain, self.head_mask, self.kept_weights)
        return self.n_heads == self.n_kv_heads and all(x is None for x in special)

    def project(
        self,
        x: Float[Tensor, "batch time d_model"],
        context: Float[Tensor, "batch source d_context"] | None = None,
        positions: Int[Array, "*positions"] | None = None,
    ) -> tuple[
        Float[Tensor, "batch heads time d_head"],
        Float[Tensor, "batch kv_heads source d_head"],
        Float[Tensor, "batch kv_heads source d_head"],
    ]:
        """Return queries, keys and values by head, normalized and rotated."""
        q_width, kv_width = self.n_heads * self.d_head, self.n_kv_heads * self.d_head
        if context is None:
            q, k, v = split(self.qkv(x), [q_width, kv_width, kv_width], axis=-1)
        else:
            weight, bias = self.qkv.weight, self.qkv.bias
            q = linear(x, weight[:q_width], None if bias is None else bias[:q_width])
            kv = linear(context, weight[q_width:], None if bias is None else bias[q_width:])
            k, v = split(kv, [kv_width, kv_width], axis=-1)
        q, k = split_heads(q, self.n_heads), split_heads(k, self.n_kv_heads)
        if self.query_gain is not None and self.key_gain is not None:
            q, k = _rms_normalize(q) * self.query_gain, _rms_normalize(k) * self.key_gain
        if self.rope is not None:
            if positions is None:
                positions = np.arange(x.shape[-2])
            q = rope(q, positions, self.rope, scaling=self.rope_scaling)
            k = rope(k, positions, self.rope, scaling=self.rope_scaling)
        return q, k, split_heads(v, self.n_kv_heads)

    def attend(
        self,
        q: Float[Tensor, "batch heads time d_head"],
        k: Float[Tensor, "batch kv_heads source d_head"],
        v: Float[Tensor, "batch kv_heads source d_head"],
        mask: Bool[Array, "*mask"] | Float[Array, "*mask"] | None = None,
    ) -> Float[Tensor, "batch heads time d_head"]:
        """Retrieve for every head; keys and values are repeated for the heads that share them."""
        k, v = (_repeat_heads(x, self.n_heads // self.n_kv_heads) for x in (k, v))
        if mask is None and self.kept_weights is None:
            y, _ = flash_attention(q, k, v, causal=self.causal)
        else:
            if self.causal:
                mask = _add_causal(mask, q.shape[-2], k.shape[-2])
            y, weights = scaled_dot_product_attention(q, k, v, mask)
            if self.kept_weights is not None:
                self.kept_weights.append(weights.data)
        return y if self.head_mask is None else y * self.head_mask[:, None, None]


def _add_causal(mask: Array | None, time: int, source: int) -> Array:
    causal = causal_mask(time, source)
    if mask is None or mask.dtype == np.bool_:
        combined = combine(mask, causal)
        assert combined is not None
        return combined
    return np.where(causal, mask, -np.inf).astype(mask.dtype)


def _repeat_heads(x: Tensor, times: int) -> Tensor:
    if times == 1:
        return x
    batch, heads, source, d = x.shape
    return x.unsqueeze(2).expand(-1, -1, times, -1, -1).reshape(batch, heads * times, source, d)


def _rms_normalize(x: Tensor, eps: float = 1e-6) -> Tensor:
    return x / ((x * x).mean(axis=-1, keepdims=True) + eps).sqrt()


class LatentAttention(Module):
    """Multi-head latent attention: keys and values are made from one cached vector a token.

    Each position stores a latent vector of size ``kv_rank`` and one rotated key of size
    ``rope_dim`` that all heads share. `forward` makes keys and values from the latent;
    `absorbed` multiplies those two projections into the query's and the output's instead, and
    attends to the latent vectors themselves. Differs from the paper in having no
    normalization of the latent and no low-rank queries.
    Equation: transformers/multi-head-attention.md#eq-latent. Source: DeepSeek-AI 2024,
    arXiv:2405.04434.
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
        rope_base: float = 10_000.0,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
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

    def _inputs(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        positions = np.arange(x.shape[-2])
        width = self.n_heads * self.d_head
        q, q_turned = split(self.query(x), [width, self.n_heads * self.rope_dim], axis=-1)
        latent, k_turned = split(self.down(x), [self.kv_rank, self.rope_dim], axis=-1)
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


# ---- the cache ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class CacheConfig:
    """What decides the size of a cache: heads and sizes, or, for latent attention, its rank."""

    n_layers: int
    n_kv_heads: int = 0
    d_head: int = 0
    kv_rank: int = 0
    rope_dim: int = 0
    element: int = 2


def kv_bytes_per_token(cfg: CacheConfig) -> int:
    """Return how many bytes one token adds to the cache of keys and values.

    Two vectors a key-value head and layer, or one latent vector and one rotated key a layer.
    Equation: transformers/multi-head-attention.md#eq-cache-bytes
    """
    if cfg.kv_rank:
        return cfg.n_layers * (cfg.kv_rank + cfg.rope_dim) * cfg.element
    return cfg.n_layers * 2 * cfg.n_kv_heads * cfg.d_head * cfg.element


def mha_to_gqa(attention: MultiHeadAttention, groups: int) -> MultiHeadAttention:
    """Return a copy with ``groups`` key-value heads, each the mean of those it replaces.

    A starting point for further training. Source: Ainslie et al. 2023, arXiv:2305.13245.
    """
    rng = np.random.default_rng(0)  # its draws are overwritten below
    converted = MultiHeadAttention(
        attention.d, attention.n_heads, groups, attention.query_gain is not None, attention.rope,
        attention.qkv.bias is not None, attention.causal, d_head=attention.d_head,
        rope_scaling=attention.rope_scaling, rng=rng, dtype=attention.qkv.weight.dtype,
    )  # fmt: skip

    def pool(rows: Array) -> Array:
        by_head = rows.reshape(groups, -1, attention.d_head, *rows.shape[1:])
        return by_head.mean(axis=1).reshape(groups * attention.d_head, *rows.shape[1:])

    state = attention.state_dict()
    q_width = attention.n_heads * attention.d_head
    kv_width = attention.n_kv_heads * attention.d_head
    for name in ("qkv.weight", "qkv.bias"):
        if name in state:
            q, k, v = np.split(state[name], [q_width, q_width + kv_width])
            state[name] = np.concatenate([q, pool(k), pool(v)])
    converted.load_state_dict(state)
    return converted


# ---- instruments -------------------------------------------------------------------------------


def _rows(attention: MultiHeadAttention, head: int) -> tuple[slice, slice, slice]:
    d, shared = attention.d_head, attention.n_heads // attention.n_kv_heads
    key = attention.n_heads + head // shared
    value = key + attention.n_kv_heads
    return tuple(slice(i * d, (i + 1) * d) for i in (head, key, value))  # type: ignore[return-value]


def qk_circuit(attention: MultiHeadAttention, head: int) -> Float[Array, "d_model d_model"]:
    """Return W_Qᵀ W_K: how strongly a query at one vector looks at a key at another.

    Equation: transformers/multi-head-attention.md#eq-circuits
    """
    query, key, _ = _rows(attention, head)
    weight = attention.qkv.weight.data
    return weight[query].T @ weight[key]


def ov_circuit(attention: MultiHeadAttention, head: int) -> Float[Array, "d_model d_model"]:
    """Return W_O W_V: what is written to the output when a vector is looked at.

    Equation: transformers/multi-head-attention.md#eq-circuits
    """
    query, _, value = _rows(attention, head)
    return attention.out.weight.data[:, query] @ attention.qkv.weight.data[value]


def _attentions(model: Module) -> list[MultiHeadAttention]:
    return [module for module in model.modules() if isinstance(module, MultiHeadAttention)]


@contextmanager
def head_ablation(model: Module, layer: int, head: int) -> Iterator[None]:
    """Silence one head inside a ``with`` block: its output is zero."""
    attention = _attentions(model)[layer]
    before = attention.head_mask
    mask = np.ones(attention.n_heads, attention.qkv.weight.dtype)
    if before is not None:
        mask *= before
    mask[head] = 0
    attention.head_mask = mask
    try:
        yield
    finally:
        attention.head_mask = before


def attention_maps(model: Module, *inputs: Any) -> list[Float[Array, "batch heads time source"]]:
    """Run the model and return the weights of each of its attentions, in order of use."""
    attentions = _attentions(model)
    maps: list[Array] = []
    for attention in attentions:
        attention.kept_weights = maps
    try:
        with no_grad():
            model(*inputs)
    finally:
        for attention in attentions:
            attention.kept_weights = None
    return maps


def induction_score(
    model: Module, rng: np.random.Generator, vocabulary: int, length: int = 24, batch: int = 8
) -> Float[Array, "layers heads"]:
    """Return how much each head looks at what followed the previous copy of a token.

    Random tokens are repeated once; an induction head at position t of the second copy puts
    its weight on t − length + 1. Source: Olsson et al. 2022, arXiv:2209.11895.
    """
    once = rng.integers(0, vocabulary, (batch, length))
    maps = attention_maps(model, np.concatenate([once, once], axis=1))
    second = np.arange(length, 2 * length - 1)
    followed = second - length + 1
    return np.array([weights[:, :, second, followed].mean(axis=(0, 2)) for weights in maps])
