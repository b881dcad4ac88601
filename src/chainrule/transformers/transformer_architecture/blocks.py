"""Blocks: branches that read the residual stream and add what they computed from it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from chainrule.neural_networks.backpropagation import Embedding, Module, Parameter, Tensor
from chainrule.neural_networks.regularization import Dropout, LayerNorm, RMSNorm
from chainrule.shapes import Array, Bool, Float, Int
from chainrule.transformers.multi_head_attention import MultiHeadAttention
from chainrule.transformers.self_attention import sliding_window_mask
from chainrule.transformers.transformer_architecture.config import TransformerConfig
from chainrule.transformers.transformer_architecture.feed_forward import FeedForward
from chainrule.transformers.transformer_architecture.mixture import MoE

__all__ = ["DecoderBlock", "EncoderBlock", "normalization", "residual"]

Branch = Callable[[Tensor], Tensor]


def normalization(cfg: TransformerConfig) -> Module:
    """Return a new normalization layer of the kind that the configuration names."""
    if cfg.norm == "rms":
        return RMSNorm(cfg.width, eps=cfg.eps, dtype=cfg.dtype)
    return LayerNorm(cfg.width, eps=cfg.eps, bias=cfg.bias, dtype=cfg.dtype)


def residual(
    x: Float[Tensor, "*batch d_model"],
    branch: Branch,
    norm: Branch | None = None,
    place: str = "pre",
) -> Float[Tensor, "*batch d_model"]:
    """Return x + branch(norm(x)) (pre), norm(x + branch(x)) (post), or x + branch(x) (no norm).

    Equation: transformers/transformer-architecture.md#eq-residual
    Equation: transformers/transformer-architecture.md#eq-straight
    Equation: transformers/transformer-architecture.md#eq-pre-norm
    Equation: transformers/transformer-architecture.md#eq-post-norm
    """
    if norm is None:
        return x + branch(x)
    if place == "post":
        return norm(x + branch(x))
    return x + branch(norm(x))


class _Block(Module):
    """What encoder and decoder blocks share: attention, feed-forward layer, and their norms."""

    def __init__(
        self, cfg: TransformerConfig, rng: np.random.Generator, layer: int, causal: bool
    ) -> None:
        self.norm_place, self.parallel = cfg.norm_place, cfg.parallel
        self.window = cfg.window_of(layer)
        self.dropout = Dropout(cfg.dropout, rng)
        self.attention_norm, self.attention_after = _norms(cfg)
        base, scaling = cfg.rope_of(layer)
        self.attention = MultiHeadAttention(
            cfg.width, cfg.heads, cfg.kv_heads, cfg.qk_norm, base, cfg.bias, causal,
            d_head=cfg.d_head, rope_scaling=None if scaling is None else dict(scaling),
            sink=cfg.sink, rng=rng, dtype=cfg.dtype,
        )  # fmt: skip
        self.feed_forward_norm, self.feed_forward_after = _norms(cfg)
        if cfg.parallel:
            self.feed_forward_norm = None
        self.feed_forward = _feed_forward(cfg, rng)

    def _add(self, x: Tensor, norm: Module | None, after: Module | None, branch: Branch) -> Tensor:
        """Add what a branch computes, with its norms and dropout."""

        def added(h: Tensor) -> Tensor:
            y = branch(h)
            return self.dropout(y if after is None else after(y))

        return residual(x, added, norm, self.norm_place)

    def _attend(self, x: Tensor, mask: Array | None, values: Tensor | None = None) -> Tensor:
        mask = _windowed(mask, self.window, x.shape[1], self.attention)
        if values is None:
            return self.attention(x, mask=mask)
        return self.attention(x, mask=mask, values=values)

    def _self_attention(
        self, x: Tensor, mask: Array | None, values: Tensor | None = None
    ) -> Tensor:
        norm, after = self.attention_norm, self.attention_after
        return self._add(x, norm, after, lambda h: self._attend(h, mask, values))

    def _think(self, x: Tensor) -> Tensor:
        return self._add(x, self.feed_forward_norm, self.feed_forward_after, self.feed_forward)

    def _both(self, x: Tensor, mask: Array | None, values: Tensor | None = None) -> Tensor:
        """Attention and feed-forward layer side by side, from the same normalized row."""

        def both(h: Tensor) -> Tensor:
            return self._attend(h, mask, values) + self.feed_forward(h)

        return self._add(x, self.attention_norm, None, both)


class EncoderBlock(_Block):
    """Every position looks at every position, then thinks by itself.

    ``layer`` is its number in the stack, from 0, for what differs from layer to layer.
    """

    def __init__(self, cfg: TransformerConfig, rng: np.random.Generator, layer: int = 0) -> None:
        super().__init__(cfg, rng, layer, causal=False)

    def forward(
        self,
        x: Float[Tensor, "batch time d_model"],
        mask: Bool[Array, "*mask"] | Float[Array, "*mask"] | None = None,
    ) -> Float[Tensor, "batch time d_model"]:
        """Return the stream after this block."""
        if self.parallel:
            return self._both(x, mask)
        return self._think(self._self_attention(x, mask))


class DecoderBlock(_Block):
    """Every position looks back, then (``cross``) at the encoder's output, then thinks.

    ``layer`` is its number in the stack, from 0, for what differs from layer to layer.
    Equation: transformers/transformer-architecture.md#eq-cross
    Equation: transformers/transformer-architecture.md#eq-value-embeddings
    Equation: transformers/transformer-architecture.md#eq-first-state
    Source of the table of values: Zhou et al. 2024, arXiv:2410.17897, with the values of the first
    block instead.
    """

    def __init__(
        self,
        cfg: TransformerConfig,
        rng: np.random.Generator,
        cross: bool = False,
        layer: int = 0,
    ) -> None:
        super().__init__(cfg, rng, layer, causal=True)
        self.cross: MultiHeadAttention | None = None
        self.cross_norm = self.cross_after = None
        self.value_table: Embedding | None = None
        self.start_share: Parameter | None = None
        if cfg.value_embeddings:
            width = self.attention.n_kv_heads * self.attention.d_head
            self.value_table = Embedding(cfg.vocab_size, width, rng=rng, dtype=cfg.dtype)
            self.value_table.weight.data *= cfg.width**-0.5
        if cfg.x0_residual:
            self.start_share = Parameter(np.zeros(1, cfg.dtype))
        if cross:
            self.cross_norm, self.cross_after = _norms(cfg)
            self.cross = MultiHeadAttention(
                cfg.width, cfg.heads, cfg.kv_heads, cfg.qk_norm, None, cfg.bias,
                d_head=cfg.d_head, rng=rng, dtype=cfg.dtype,
            )  # fmt: skip

    def forward(
        self,
        x: Float[Tensor, "batch time d_model"],
        memory: Float[Tensor, "batch source d_model"] | None = None,
        mask: Bool[Array, "*mask"] | Float[Array, "*mask"] | None = None,
        memory_mask: Bool[Array, "*memory_mask"] | None = None,
        start: Float[Tensor, "batch time d_model"] | None = None,
        ids: Int[Array, "batch time"] | Int[Tensor, "batch time"] | None = None,
    ) -> Float[Tensor, "batch time d_model"]:
        """Return the stream after this block; ``memory`` is the encoder's output.

        ``start`` is the first state of the stream and ``ids`` the tokens, for a block that uses
        them.

        Raises:
            ValueError: the block looks at a memory, the first state or the tokens, and none are
                given.
        """
        x, values = self.before(x, start, ids)
        if self.parallel:
            return self._both(x, mask, values)
        x = self._self_attention(x, mask, values)
        if self.cross is not None:
            cross = self.cross
            if memory is None:
                raise ValueError("this block looks at an encoder's output; give it as memory")

            def look(h: Tensor) -> Tensor:
                return cross(h, memory, memory_mask)

            x = self._add(x, self.cross_norm, self.cross_after, look)
        return self._think(x)

    def before(
        self,
        x: Float[Tensor, "batch time d_model"],
        start: Float[Tensor, "batch time d_model"] | None,
        ids: Int[Array, "batch time"] | Int[Tensor, "batch time"] | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the stream with its share of the first state, and the tokens' own values."""
        if self.start_share is not None:
            if start is None:
                raise ValueError("this block adds the first state of the stream; give it as start")
            x = x + self.start_share * start
        if self.value_table is None:
            return x, None
        if ids is None:
            raise ValueError("this block has a table of values; give it the tokens as ids")
        return x, self.value_table(ids)


def _norms(cfg: TransformerConfig) -> tuple[Module | None, Module | None]:
    """The norm around a branch, and the one on what the branch adds."""
    if cfg.norm_place == "none":
        return None, None
    return normalization(cfg), normalization(cfg) if cfg.norm_place == "sandwich" else None


def _feed_forward(cfg: TransformerConfig, rng: np.random.Generator) -> Module:
    if cfg.experts:
        return MoE(cfg.width, cfg.inner, cfg.experts, cfg.experts_per_token, cfg.shared_experts,
                   cfg.balance, cfg.feed_forward, rng=rng, dtype=cfg.dtype)  # fmt: skip
    return FeedForward(cfg.width, cfg.inner, cfg.feed_forward, cfg.bias, rng=rng, dtype=cfg.dtype)


def _windowed(
    mask: Array | None, window: int | None, time: int, attention: MultiHeadAttention
) -> Array | None:
    """The mask within a window, as far as the sequence is longer than one."""
    if window is None or time <= window:
        return mask
    near = sliding_window_mask(time, window)
    if not attention.causal:
        near = near | near.T
    if mask is None or mask.dtype == np.bool_:
        return near if mask is None else mask & near
    return np.where(near, mask, -np.inf).astype(mask.dtype)
