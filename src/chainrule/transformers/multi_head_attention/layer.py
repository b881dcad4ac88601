"""Heads: splitting and merging, the layer, and keys and values shared by groups of heads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from chainrule.neural_networks.backpropagation import (
    Linear,
    Module,
    Parameter,
    Tensor,
    linear,
    split,
)
from chainrule.shapes import Array, Bool, Float, Int
from chainrule.transformers.attention import (
    flash_attention,
    packed_attention,
    scaled_dot_product_attention,
)
from chainrule.transformers.self_attention import causal_mask, combine, rope


def split_heads(
    x: Float[Tensor, "*batch time width"], heads: int
) -> Float[Tensor, "*batch heads time d_head"]:
    """Cut the last axis into heads and move them before the positions: a view, not a copy.

    Raises:
        ValueError: the width does not divide into ``heads``.

    Equation: transformers/multi-head-attention.md#eq-split-heads
    """
    width = x.shape[-1]
    if heads < 1 or width % heads:
        raise ValueError(f"width {width} does not divide into {heads} heads")
    return x.reshape(*x.shape[:-1], heads, width // heads).transpose(-2, -3)


def merge_heads(
    x: Float[Tensor, "*batch heads time d_head"],
) -> Float[Tensor, "*batch time width"]:
    """Put the heads side by side again: the inverse of `split_heads`, and its VJP."""
    x = x.transpose(-2, -3)
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def repeat_heads(
    x: Float[Tensor, "batch kv_heads source d_head"], times: int
) -> Float[Tensor, "batch heads source d_head"]:
    """Give each head of keys or values to ``times`` neighbouring query heads: a, a, b, b, not a, b.

    Equation: transformers/multi-head-attention.md#eq-grouped
    """
    if times == 1:
        return x
    batch, heads, source, d = x.shape
    return x.unsqueeze(2).expand(-1, -1, times, -1, -1).reshape(batch, heads * times, source, d)


class MultiHeadAttention(Module):
    """Attention in ``n_heads`` subspaces at once, then one projection back to width ``d``.

    ``n_kv_heads`` below ``n_heads`` shares keys and values between groups of heads.
    ``qk_norm`` divides each query and key by its root mean square (times a trained gain).
    ``rope`` is the base of a rotary encoding, or None. ``causal`` hides later positions.
    ``sink`` gives every head a trained score of looking nowhere, at first 0. One projection makes
    queries, keys and values, in this order, as rows of its weight.
    Equation: transformers/multi-head-attention.md#eq-multi-head. Sources: Vaswani et al. 2017,
    arXiv:1706.03762; Ainslie et al. 2023, arXiv:2305.13245.

    Raises:
        ValueError: the width does not divide into heads, or the heads into groups.
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
        sink: bool = False,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        if n_heads < 1 or n_kv_heads < 1:
            raise ValueError(f"at least 1 head of each kind, not {n_heads} and {n_kv_heads}")
        if d_head is None and d % n_heads:
            raise ValueError(f"width {d} does not divide into {n_heads} heads")
        if n_heads % n_kv_heads:
            raise ValueError(f"{n_heads} heads do not divide into {n_kv_heads} groups")
        if d_head is not None and d_head < 1:
            raise ValueError(f"a head has at least 1 number, not {d_head}")
        self.d, self.n_heads, self.n_kv_heads = d, n_heads, n_kv_heads
        self.d_head = d // n_heads if d_head is None else d_head
        self.causal, self.rope, self.rope_scaling = causal, rope, rope_scaling
        width = (n_heads + 2 * n_kv_heads) * self.d_head
        self.qkv = Linear(d, width, bias, rng=rng, dtype=dtype)
        self.out = Linear(n_heads * self.d_head, d, bias, rng=rng, dtype=dtype)
        self.query_gain = Parameter(np.ones(self.d_head, dtype)) if qk_norm else None
        self.key_gain = Parameter(np.ones(self.d_head, dtype)) if qk_norm else None
        self.sink = Parameter(np.zeros(n_heads, dtype)) if sink else None
        self.head_mask: Array | None = None
        self.kept_weights: list[Array] | None = None

    def forward(
        self,
        x: Float[Tensor, "batch time d_model"],
        context: Float[Tensor, "batch source d_context"] | None = None,
        mask: Bool[Array, "*mask"] | Float[Array, "*mask"] | None = None,
        positions: Int[Array, "*positions"] | None = None,
        values: Float[Tensor, "batch source kv_width"] | None = None,
    ) -> Float[Tensor, "batch time d_model"]:
        """Attend from ``x`` to ``context`` (to ``x`` itself without one).

        ``mask`` broadcasts to (batch, heads, time, source): true where a query may look, or
        numbers added to the scores. ``positions`` are those of `rope`, 0, 1, … by default.
        ``values`` are added to the projected values, all heads side by side.

        Raises:
            ValueError: with `rope`, ``context`` is not as long as ``x``.
        """
        if self._is_plain and context is None and mask is None and values is None:
            return self.out(packed_attention(self.qkv(x), self.n_heads, self.causal))
        q, k, v = self.project(x, context, positions)
        if values is not None:
            v = v + split_heads(values, self.n_kv_heads)
        return self.out(merge_heads(self.attend(q, k, v, mask)))

    @property
    def _is_plain(self) -> bool:
        special = (self.rope, self.query_gain, self.sink, self.head_mask, self.kept_weights)
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
            q, k = rms_normalize(q) * self.query_gain, rms_normalize(k) * self.key_gain
        if self.rope is not None:
            if k.shape[-2] != q.shape[-2]:
                raise ValueError(
                    f"rope needs a key at the place of each query; got {q.shape[-2]} queries "
                    f"and {k.shape[-2]} keys"
                )
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
        """Retrieve for every head; keys and values are repeated for the heads that share them.

        Equation: transformers/multi-head-attention.md#eq-heads
        """
        k, v = (repeat_heads(x, self.n_heads // self.n_kv_heads) for x in (k, v))
        sink = None if self.sink is None else self.sink.reshape(-1, 1, 1)
        if mask is None and self.kept_weights is None:
            y, _ = flash_attention(q, k, v, causal=self.causal, sink=sink)
        else:
            if self.causal:
                mask = _add_causal(mask, q.shape[-2], k.shape[-2])
            y, weights = scaled_dot_product_attention(q, k, v, mask, sink=sink)
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


def rms_normalize(x: Tensor, eps: float = 1e-6) -> Tensor:
    """Divide by the root mean square of the last axis.

    Equation: transformers/multi-head-attention.md#eq-qk-norm. Source: Henry et al. 2020,
    arXiv:2010.04245, with the L2 norm instead.
    """
    return x / ((x * x).mean(axis=-1, keepdims=True) + eps).sqrt()


def mha_to_gqa(attention: MultiHeadAttention, groups: int) -> MultiHeadAttention:
    """Return a copy with ``groups`` key-value heads, each the mean of those it replaces.

    A starting point for further training. Source: Ainslie et al. 2023, arXiv:2305.13245.

    Raises:
        ValueError: the key-value heads do not divide into ``groups``.
    """
    if groups < 1 or attention.n_kv_heads % groups:
        raise ValueError(
            f"{attention.n_kv_heads} key-value heads do not divide into {groups} groups"
        )
    rng = np.random.default_rng(0)  # its draws are overwritten below
    converted = MultiHeadAttention(
        attention.d, attention.n_heads, groups, attention.query_gain is not None, attention.rope,
        attention.qkv.bias is not None, attention.causal, d_head=attention.d_head,
        rope_scaling=attention.rope_scaling, sink=attention.sink is not None, rng=rng,
        dtype=attention.qkv.weight.dtype,
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
