"""Any transformer from a configuration: blocks, stacks, mixture of experts, and exact counts.

Taught in ``transformers/transformer-architecture.md``. A block reads the residual stream,
computes something from it, and adds the result back; `EncoderBlock` and `DecoderBlock` differ
in which positions they may look at. Dropout stands on what a block adds, and not on the
attention weights.

Shape names: ``batch``, ``time`` positions, ``source`` positions of the encoder, ``d_model`` width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from chainrule.neural_networks.activation_functions import gelu, silu
from chainrule.neural_networks.backpropagation import (
    Buffer,
    Embedding,
    Linear,
    Module,
    ModuleList,
    Tensor,
    concat,
    gather,
    relu,
    take,
)
from chainrule.neural_networks.regularization import Dropout, LayerNorm, RMSNorm
from chainrule.shapes import Array, Bool, Float, Int
from chainrule.transformers.attention import masked_softmax
from chainrule.transformers.multi_head_attention import MultiHeadAttention
from chainrule.transformers.self_attention import LearnedPositions, sinusoidal_encoding

__all__ = [
    "BASE_TRANSFORMER", "LLAMA_3_8B", "LLAMA_7B", "Decoder", "DecoderBlock", "Encoder",
    "EncoderBlock", "FeedForward", "MoE", "Transformer", "TransformerConfig", "count_flops",
    "count_params", "noam_lr", "normalization", "parameter_table",
]  # fmt: skip

ACTIVATIONS = {
    "relu": relu,
    "gelu": gelu,
    "gelu_tanh": lambda x: gelu(x, approximate="tanh"),
    "swiglu": silu,
}


@dataclass(frozen=True)
class TransformerConfig:
    """Everything that decides the shape of a transformer.

    ``vocab_size`` 0 leaves embeddings and the output layer out: vectors in, vectors out.
    ``hidden`` is the width inside the feed-forward layer (4 · width unless given).
    ``norm_place`` is "pre" (normalize what a branch reads), "post" (normalize the sum) or
    "none". ``positions`` is "learned", "sinusoidal", "rope" or "none". ``experts`` above 0
    makes every feed-forward layer a `MoE`.
    """

    vocab_size: int = 0
    width: int = 512
    heads: int = 8
    kv_heads: int | None = None
    d_head: int | None = None
    encoder_layers: int = 0
    decoder_layers: int = 6
    hidden: int | None = None
    feed_forward: str = "gelu"
    norm: str = "layer"
    norm_place: str = "pre"
    final_norm: bool = True
    eps: float = 1e-5
    bias: bool = True
    qk_norm: bool = False
    positions: str = "learned"
    context: int = 1024
    rope_base: float = 10_000.0
    tied: bool = True
    dropout: float = 0.0
    experts: int = 0
    experts_per_token: int = 2
    shared_experts: int = 0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("feed_forward", tuple(ACTIVATIONS)),
            ("norm", ("layer", "rms")),
            ("norm_place", ("pre", "post", "none")),
            ("positions", ("learned", "sinusoidal", "rope", "none")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is one of {allowed}, not {getattr(self, name)!r}")

    @property
    def inner(self) -> int:
        """Width inside the feed-forward layer."""
        return 4 * self.width if self.hidden is None else self.hidden

    @property
    def head_size(self) -> int:
        """Size of one head."""
        return self.width // self.heads if self.d_head is None else self.d_head

    @property
    def groups(self) -> int:
        """How many key-value heads there are."""
        return self.heads if self.kv_heads is None else self.kv_heads


# The base model of Vaswani et al. 2017 as torch.nn.Transformer builds it, without embeddings.
BASE_TRANSFORMER = TransformerConfig(
    encoder_layers=6, decoder_layers=6, hidden=2048, feed_forward="relu", norm_place="post"
)
LLAMA_7B = TransformerConfig(
    vocab_size=32_000, width=4096, heads=32, decoder_layers=32, hidden=11_008,
    feed_forward="swiglu", norm="rms", eps=1e-6, bias=False, positions="rope", tied=False,
    context=2048,
)  # fmt: skip
LLAMA_3_8B = TransformerConfig(
    vocab_size=128_256, width=4096, heads=32, kv_heads=8, decoder_layers=32, hidden=14_336,
    feed_forward="swiglu", norm="rms", bias=False, positions="rope", rope_base=500_000.0,
    tied=False, context=8192,
)  # fmt: skip


def normalization(cfg: TransformerConfig) -> Module:
    """Return a new normalization layer of the kind that the configuration names."""
    if cfg.norm == "rms":
        return RMSNorm(cfg.width, eps=cfg.eps, dtype=cfg.dtype)
    return LayerNorm(cfg.width, eps=cfg.eps, bias=cfg.bias, dtype=cfg.dtype)


# ---- feed-forward layers -----------------------------------------------------------------------


class FeedForward(Module):
    """The same small network at every position: widen, bend, narrow.

    ``kind`` names the bend: relu, gelu, gelu_tanh, or swiglu, which multiplies a second
    projection by silu of the first. Source of swiglu: Shazeer 2020, arXiv:2002.05202.
    Equation: transformers/transformer-architecture.md#eq-feed-forward
    """

    def __init__(
        self,
        d: int,
        hidden: int | None = None,
        kind: str = "gelu",
        bias: bool = True,
        *,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        if kind not in ACTIVATIONS:
            raise ValueError(f"kind is one of {tuple(ACTIVATIONS)}, not {kind!r}")
        hidden = 4 * d if hidden is None else hidden
        self.kind = kind
        self.gate = Linear(d, hidden, bias, rng=rng, dtype=dtype) if kind == "swiglu" else None
        self.up = Linear(d, hidden, bias, rng=rng, dtype=dtype)
        self.down = Linear(hidden, d, bias, rng=rng, dtype=dtype)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Transform every position on its own."""
        activation = ACTIVATIONS[self.kind]
        if self.gate is not None:
            return self.down(activation(self.gate(x)) * self.up(x))
        return self.down(activation(self.up(x)))


class MoE(Module):
    """A feed-forward layer in ``n_experts`` versions, of which each token uses ``k``.

    A router scores the experts; the best k are used, weighted by their share of the softmax.
    ``shared`` experts see every token. ``balance`` says how the load is kept even: "loss"
    leaves n · Σ fᵢ Pᵢ in ``balance_loss`` for the training loss (Fedus et al. 2021, arXiv
    2101.03961); "bias" adds to the scores, for the choice alone, a bias that `update_bias`
    moves against the load (Wang et al. 2024, arXiv:2408.15664). With ``capacity`` an expert
    takes at most capacity · k · tokens / n_experts tokens, the earlier ones first.
    Equation: transformers/transformer-architecture.md#eq-moe
    """

    def __init__(
        self,
        d: int,
        hidden: int,
        n_experts: int,
        k: int = 2,
        shared: int = 0,
        balance: str = "loss",
        kind: str = "swiglu",
        capacity: float | None = None,
        *,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        if not 1 <= k <= n_experts:
            raise ValueError(f"each token uses 1 to {n_experts} experts, not {k}")
        if balance not in ("loss", "bias", "none"):
            raise ValueError(f"balance is 'loss', 'bias' or 'none', not {balance!r}")
        options: dict[str, Any] = {"bias": False, "rng": rng, "dtype": dtype}
        self.n_experts, self.k, self.balance, self.capacity = n_experts, k, balance, capacity
        self.router = Linear(d, n_experts, **options)
        self.experts = ModuleList(FeedForward(d, hidden, kind, **options) for _ in range(n_experts))
        self.shared = ModuleList(FeedForward(d, hidden, kind, **options) for _ in range(shared))
        self.choice_bias = Buffer(np.zeros(n_experts, dtype))
        self.balance_loss: Tensor | None = None
        self.load = np.zeros(n_experts)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Send each token to its experts and add up what they return."""
        if not x.size:
            return x
        tokens = x.reshape(-1, x.shape[-1])
        shares = masked_softmax(self.router(tokens))
        chosen = self._choose(shares.data)
        weights = gather(shares, chosen, axis=-1)
        weights = weights / weights.sum(axis=-1, keepdims=True)
        self.load = np.bincount(chosen.ravel(), minlength=self.n_experts) / chosen.size
        if self.balance == "loss":
            load = (self.n_experts * self.load).astype(shares.dtype)
            self.balance_loss = (shares.mean(axis=0) * load).sum()
        y = self._dispatch(tokens, chosen, weights)
        for expert in self.shared:
            y = y + expert(tokens)
        return y.reshape(*x.shape)

    def _choose(self, shares: Array) -> Array:
        scores = shares + self.choice_bias.data if self.balance == "bias" else shares
        return np.argsort(-scores, axis=-1, kind="stable")[:, : self.k]

    def _dispatch(self, tokens: Tensor, chosen: Array, weights: Tensor) -> Tensor:
        """Run each expert once on all its tokens; then every token collects its k results."""
        limit = chosen.size
        if self.capacity is not None:
            limit = max(1, math.ceil(self.capacity * chosen.size / self.n_experts))
        outputs, place, start = [], np.zeros(chosen.shape, int), 0
        kept = np.zeros(chosen.shape, bool)
        for i, expert in enumerate(self.experts):
            rows, slots = np.nonzero(chosen == i)
            rows, slots = rows[:limit], slots[:limit]
            if len(rows):
                outputs.append(expert(take(tokens, rows)))
            place[rows, slots] = start + np.arange(len(rows))
            kept[rows, slots] = True
            start += len(rows)
        weights = weights * kept
        return (take(concat(outputs), place) * weights.unsqueeze(-1)).sum(axis=1)

    def update_bias(self, rate: float) -> None:
        """Make experts that had more than their share of tokens a little less attractive."""
        step = rate * np.sign(1 / self.n_experts - self.load)
        self.choice_bias.data += step.astype(self.choice_bias.dtype)


def _feed_forward(cfg: TransformerConfig, rng: np.random.Generator) -> Module:
    if cfg.experts:
        return MoE(cfg.width, cfg.inner, cfg.experts, cfg.experts_per_token, cfg.shared_experts,
                   kind=cfg.feed_forward, rng=rng, dtype=cfg.dtype)  # fmt: skip
    return FeedForward(cfg.width, cfg.inner, cfg.feed_forward, cfg.bias, rng=rng, dtype=cfg.dtype)


# ---- blocks ------------------------------------------------------------------------------------


class _Block(Module):
    """The residual stream and the two ways to normalize around a branch."""

    norm_place: str
    dropout: Dropout

    def _add(self, x: Tensor, norm: Module | None, branch: Any) -> Tensor:
        """Return x + branch(norm(x)), norm(x + branch(x)), or x + branch(x).

        Equation: transformers/transformer-architecture.md#eq-residual
        """
        if norm is None:
            return x + self.dropout(branch(x))
        if self.norm_place == "pre":
            return x + self.dropout(branch(norm(x)))
        return norm(x + self.dropout(branch(x)))

    @staticmethod
    def _attention(
        cfg: TransformerConfig, rng: np.random.Generator, causal: bool, rotate: bool = True
    ) -> MultiHeadAttention:
        base = cfg.rope_base if cfg.positions == "rope" and rotate else None
        return MultiHeadAttention(
            cfg.width, cfg.heads, cfg.kv_heads, cfg.qk_norm, base, cfg.bias, causal,
            d_head=cfg.d_head, rng=rng, dtype=cfg.dtype,
        )  # fmt: skip


class EncoderBlock(_Block):
    """Every position looks at every position, then thinks on its own."""

    def __init__(self, cfg: TransformerConfig, rng: np.random.Generator) -> None:
        normed = cfg.norm_place != "none"
        self.norm_place = cfg.norm_place
        self.attention_norm = normalization(cfg) if normed else None
        self.attention = self._attention(cfg, rng, causal=False)
        self.feed_forward_norm = normalization(cfg) if normed else None
        self.feed_forward = _feed_forward(cfg, rng)
        self.dropout = Dropout(cfg.dropout, rng)

    def forward(
        self,
        x: Float[Tensor, "batch time d_model"],
        mask: Bool[Array, "*mask"] | Float[Array, "*mask"] | None = None,
    ) -> Float[Tensor, "batch time d_model"]:
        """Return the stream after this block."""
        x = self._add(x, self.attention_norm, lambda h: self.attention(h, mask=mask))
        return self._add(x, self.feed_forward_norm, self.feed_forward)


class DecoderBlock(_Block):
    """Every position looks back, then (``cross``) at the encoder's output, then thinks."""

    def __init__(
        self, cfg: TransformerConfig, rng: np.random.Generator, cross: bool = False
    ) -> None:
        normed = cfg.norm_place != "none"
        self.norm_place = cfg.norm_place
        self.attention_norm = normalization(cfg) if normed else None
        self.attention = self._attention(cfg, rng, causal=True)
        self.cross_norm = normalization(cfg) if cross and normed else None
        self.cross = self._attention(cfg, rng, causal=False, rotate=False) if cross else None
        self.feed_forward_norm = normalization(cfg) if normed else None
        self.feed_forward = _feed_forward(cfg, rng)
        self.dropout = Dropout(cfg.dropout, rng)

    def forward(
        self,
        x: Float[Tensor, "batch time d_model"],
        memory: Float[Tensor, "batch source d_model"] | None = None,
        mask: Bool[Array, "*mask"] | Float[Array, "*mask"] | None = None,
        memory_mask: Bool[Array, "*memory_mask"] | None = None,
    ) -> Float[Tensor, "batch time d_model"]:
        """Return the stream after this block; ``memory`` is the encoder's output."""
        x = self._add(x, self.attention_norm, lambda h: self.attention(h, mask=mask))
        if self.cross is not None:
            cross = self.cross
            if memory is None:
                raise ValueError("this block looks at an encoder's output; give it as memory")
            x = self._add(x, self.cross_norm, lambda h: cross(h, memory, memory_mask))
        return self._add(x, self.feed_forward_norm, self.feed_forward)


class Encoder(Module):
    """A stack of encoder blocks and a last normalization."""

    def __init__(self, cfg: TransformerConfig, rng: np.random.Generator) -> None:
        self.blocks = ModuleList(EncoderBlock(cfg, rng) for _ in range(cfg.encoder_layers))
        self.norm = normalization(cfg) if cfg.final_norm and cfg.norm_place != "none" else None

    def forward(
        self,
        x: Float[Tensor, "batch time d_model"],
        mask: Bool[Array, "*mask"] | Float[Array, "*mask"] | None = None,
    ) -> Float[Tensor, "batch time d_model"]:
        """Return what the encoder makes of the sequence."""
        for block in self.blocks:
            x = block(x, mask)
        return x if self.norm is None else self.norm(x)


class Decoder(Module):
    """A stack of decoder blocks and a last normalization; ``cross`` if there is an encoder."""

    def __init__(
        self, cfg: TransformerConfig, rng: np.random.Generator, cross: bool = False
    ) -> None:
        self.blocks = ModuleList(DecoderBlock(cfg, rng, cross) for _ in range(cfg.decoder_layers))
        self.norm = normalization(cfg) if cfg.final_norm and cfg.norm_place != "none" else None

    def forward(
        self,
        x: Float[Tensor, "batch time d_model"],
        memory: Float[Tensor, "batch source d_model"] | None = None,
        mask: Bool[Array, "*mask"] | Float[Array, "*mask"] | None = None,
        memory_mask: Bool[Array, "*memory_mask"] | None = None,
    ) -> Float[Tensor, "batch time d_model"]:
        """Return what the decoder makes of the sequence so far and of the memory."""
        for block in self.blocks:
            x = block(x, memory, mask, memory_mask)
        return x if self.norm is None else self.norm(x)


class Transformer(Module):
    """Encoder and decoder; with a vocabulary also the embeddings and the output layer.

    Tied weights use one table for both inputs and the output. Token vectors are multiplied
    by √width before sinusoidal positions are added. Source: Vaswani et al. 2017, arXiv
    1706.03762.
    """

    def __init__(self, cfg: TransformerConfig, rng: np.random.Generator) -> None:
        self.config = cfg
        self.tokens: Embedding | None = None
        self.positions: LearnedPositions | None = None
        self.head: Linear | None = None
        if cfg.vocab_size:
            self.tokens = Embedding(cfg.vocab_size, cfg.width, rng=rng, dtype=cfg.dtype)
            self.tokens.weight.data *= cfg.width**-0.5
            if cfg.positions == "learned":
                self.positions = LearnedPositions(cfg.context, cfg.width, rng=rng, dtype=cfg.dtype)
            if not cfg.tied:
                self.head = Linear(cfg.width, cfg.vocab_size, False, rng=rng, dtype=cfg.dtype)
        self.dropout = Dropout(cfg.dropout, rng)
        self.encoder = Encoder(cfg, rng) if cfg.encoder_layers else None
        self.decoder = Decoder(cfg, rng, cross=cfg.encoder_layers > 0)

    def forward(
        self,
        src: Int[Array, "batch source"] | Float[Tensor, "batch source d_model"] | None,
        tgt: Int[Array, "batch time"] | Float[Tensor, "batch time d_model"],
        src_mask: Bool[Array, "*src_mask"] | None = None,
        tgt_mask: Bool[Array, "*tgt_mask"] | None = None,
        memory_mask: Bool[Array, "*memory_mask"] | None = None,
    ) -> Float[Tensor, "batch time d_out"]:
        """Return logits for each target position (vectors if there is no vocabulary).

        The decoder is causal without a mask. ``src`` is None for a decoder alone.
        """
        memory = None
        if self.encoder is not None:
            if src is None:
                raise ValueError("this transformer has an encoder; give it a source sequence")
            memory = self.encoder(self.embed(src), src_mask)
        x = self.decoder(self.embed(tgt), memory, tgt_mask, memory_mask)
        return self.predict(x)

    def embed(
        self, ids: Int[Array, "batch time"] | Float[Tensor, "batch time d_model"]
    ) -> Float[Tensor, "batch time d_model"]:
        """Turn ids into vectors that know their position; vectors pass unchanged."""
        if self.tokens is None:
            if not isinstance(ids, Tensor):
                raise TypeError("this transformer has no vocabulary; give it vectors")
            return ids
        x = self.tokens(ids)
        if self.positions is not None:
            x = self.positions(x)
        elif self.config.positions == "sinusoidal":
            table = sinusoidal_encoding(x.shape[1], self.config.width).astype(x.dtype)
            x = x * math.sqrt(self.config.width) + table
        return self.dropout(x)

    def predict(self, x: Float[Tensor, "batch time d_model"]) -> Float[Tensor, "batch time d_out"]:
        """Score every symbol: the product with its vector."""
        if self.head is not None:
            return self.head(x)
        return x if self.tokens is None else x @ self.tokens.weight.T


# ---- counting ----------------------------------------------------------------------------------


def parameter_table(cfg: TransformerConfig) -> dict[str, int]:
    """Return the number of parameters of each kind of component, for the whole model.

    Equation: transformers/transformer-architecture.md#eq-parameter-count
    """
    d, layers = cfg.width, cfg.encoder_layers + cfg.decoder_layers
    crossing = cfg.decoder_layers if cfg.encoder_layers else 0
    biases = int(cfg.bias)

    queries, keys = cfg.heads * cfg.head_size, cfg.groups * cfg.head_size
    attention = d * (queries + 2 * keys) + queries * d + biases * (queries + 2 * keys + d)
    attention += 2 * cfg.head_size * int(cfg.qk_norm)

    matrices = 3 if cfg.feed_forward == "swiglu" else 2
    one = matrices * d * cfg.inner
    if cfg.experts:
        feed_forward = (cfg.experts + cfg.shared_experts) * one + cfg.experts * d
    else:
        feed_forward = one + biases * ((matrices - 1) * cfg.inner + d)

    norm = d * (1 + (biases if cfg.norm == "layer" else 0))
    stacks = int(cfg.encoder_layers > 0) + 1
    learned = cfg.positions == "learned" and cfg.vocab_size > 0
    norms = 2 * layers + crossing + (stacks if cfg.final_norm else 0)
    return {
        "token embedding": cfg.vocab_size * d,
        "position embedding": cfg.context * d if learned else 0,
        "attention": (layers + crossing) * attention,
        "feed-forward": layers * feed_forward,
        "norm": norms * norm if cfg.norm_place != "none" else 0,
        "output": 0 if cfg.tied else cfg.vocab_size * d,
    }


def count_params(cfg: TransformerConfig) -> int:
    """Return the number of trained numbers in a model of this configuration."""
    return sum(parameter_table(cfg).values())


def count_flops(cfg: TransformerConfig, n: int) -> int:
    """Return the floating-point operations of matrix products in one forward pass of n tokens.

    Two for each weight of a product and token, and 4 · n · width of a head more for each
    query's scores and retrieval, head and layer; with an encoder, n source tokens too.
    A mixture of experts counts the experts a token uses.
    Equation: transformers/transformer-architecture.md#eq-flops
    """
    d, layers = cfg.width, cfg.encoder_layers + cfg.decoder_layers
    crossing = cfg.decoder_layers if cfg.encoder_layers else 0
    queries, keys = cfg.heads * cfg.head_size, cfg.groups * cfg.head_size
    projections = (layers + crossing) * d * (2 * queries + 2 * keys)
    matrices = 3 if cfg.feed_forward == "swiglu" else 2
    used = cfg.experts_per_token + cfg.shared_experts if cfg.experts else 1
    feed_forward = layers * (used * matrices * d * cfg.inner + cfg.experts * d)
    weights = projections + feed_forward + cfg.vocab_size * d
    return 2 * n * weights + 4 * n * n * queries * (layers + crossing)


def noam_lr(step: int, d: int, warmup: int) -> float:
    """Return the learning rate of the original: linear warm-up, then 1/√step; steps from 1.

    Equation: transformers/transformer-architecture.md#eq-noam
    """
    if step < 1:
        raise ValueError(f"steps are counted from 1, got {step}")
    return d**-0.5 * min(step**-0.5, step * warmup**-1.5)
