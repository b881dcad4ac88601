"""The course's GPT, said again in PyTorch, part by part, in the course's order.

Hold it beside ``neural_networks/regularization`` (norms), ``transformers/self_attention``
(positions), ``transformers/multi_head_attention``, ``transformers/transformer_architecture`` and
``transformers/gpt``. Every part has the name that it has there, every parameter the same path in
``state_dict``, so weights go over and back by their names alone: `to_torch`, `to_numpy`.

What the course wrote by hand is a call here. ``fused`` chooses PyTorch's own attention; without it,
attention is written out as the course first wrote it.

Shape names: ``batch``, ``time`` positions, ``vocab`` symbols, ``d_model`` width, ``d_head`` width
of a head, ``tokens`` of all sequences of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chainrule.shapes import Array, Bool, Float, Int
from chainrule.transformers import gpt as course
from chainrule.transformers.self_attention import (
    rope_attention_factor,
    rope_frequencies,
    sinusoidal_encoding,
)
from chainrule.transformers.transformer_architecture import TransformerConfig

__all__ = [
    "GPT", "DecoderBlock", "FeedForward", "LearnedPositions", "MoE", "MultiHeadAttention",
    "attention_composed", "normalization", "rope", "to_numpy", "to_torch", "twin",
]  # fmt: skip


# ---- neural-networks/regularization: norms -----------------------------------------------------


def normalization(cfg: TransformerConfig) -> nn.Module:
    """Return a new normalization layer of the kind that the configuration names."""
    if cfg.norm == "rms":
        return nn.RMSNorm(cfg.width, eps=cfg.eps, dtype=_dtype(cfg))
    return nn.LayerNorm(cfg.width, eps=cfg.eps, bias=cfg.bias, dtype=_dtype(cfg))


# ---- transformers/self-attention: positions ----------------------------------------------------


class LearnedPositions(nn.Module):
    """A trained vector for each of ``n`` positions, added to the input."""

    def __init__(self, n: int, d: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n, d, dtype=dtype).normal_(std=0.02))

    def forward(
        self, x: Float[Tensor, "batch time d_model"]
    ) -> Float[Tensor, "batch time d_model"]:
        """Add the vectors of positions 0, 1, …"""
        return x + self.weight[: x.shape[-2]]


def rope(
    x: Float[Tensor, "batch heads time d_head"],
    cos: Float[Tensor, "time pairs"],
    sin: Float[Tensor, "time pairs"],
) -> Float[Tensor, "batch heads time d_head"]:
    """Rotate the pairs (i, i + d_head/2) by the angles whose cosines and sines are given."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


# ---- transformers/multi-head-attention ---------------------------------------------------------


def split_heads(
    x: Float[Tensor, "batch time width"], heads: int
) -> Float[Tensor, "batch heads time d_head"]:
    """Cut the last axis into heads and move them before the positions."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Float[Tensor, "batch heads time d_head"]) -> Float[Tensor, "batch time width"]:
    """Put the heads side by side again."""
    return x.transpose(1, 2).flatten(2)


def attention_composed(
    q: Float[Tensor, "batch heads time d_head"],
    k: Float[Tensor, "batch heads time d_head"],
    v: Float[Tensor, "batch heads time d_head"],
    mask: Bool[Tensor, "time time"],
) -> Float[Tensor, "batch heads time d_head"]:
    """Attention from its parts: scores, mask, softmax, a weighted mean of the values."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    return torch.softmax(scores.masked_fill(~mask, -math.inf), dim=-1) @ v


class MultiHeadAttention(nn.Module):
    """Causal attention in several heads at once, then one projection back to the width."""

    cos: Tensor
    sin: Tensor

    def __init__(self, cfg: TransformerConfig, layer: int, fused: bool = True) -> None:
        super().__init__()
        dtype = _dtype(cfg)
        self.n_heads, self.n_kv_heads, self.d_head = cfg.heads, cfg.groups, cfg.head_size
        self.fused, self.window = fused, cfg.window_of(layer)
        self.context, self.rope_of = cfg.context, cfg.rope_of(layer)
        width = (self.n_heads + 2 * self.n_kv_heads) * self.d_head
        self.qkv = nn.Linear(cfg.width, width, cfg.bias, dtype=dtype)
        self.out = nn.Linear(self.n_heads * self.d_head, cfg.width, cfg.bias, dtype=dtype)
        gain = (lambda: nn.Parameter(torch.ones(self.d_head, dtype=dtype))) if cfg.qk_norm else None
        self.query_gain = gain() if gain else None
        self.key_gain = gain() if gain else None
        self.make_tables()

    def make_tables(self) -> None:
        """Compute the cosines and sines of every position, in float64, on the weights' device."""
        base, scaling = self.rope_of
        if base is None:
            return
        scaling = None if scaling is None else dict(scaling)
        angles = np.arange(self.context)[:, None] * rope_frequencies(self.d_head, base, scaling)
        size, weight = rope_attention_factor(scaling), self.out.weight
        for name, table in (("cos", size * np.cos(angles)), ("sin", size * np.sin(angles))):
            table = torch.tensor(table, dtype=weight.dtype, device=weight.device)
            self.register_buffer(name, table, persistent=False)

    def forward(
        self, x: Float[Tensor, "batch time d_model"]
    ) -> Float[Tensor, "batch time d_model"]:
        """Attend from every position to itself and those before it."""
        return self.out(merge_heads(self.attend(*self.project(x))))

    def project(self, x: Float[Tensor, "batch time d_model"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values by head, normalized and rotated."""
        q_width, kv_width = self.n_heads * self.d_head, self.n_kv_heads * self.d_head
        q, k, v = self.qkv(x).split([q_width, kv_width, kv_width], dim=-1)
        q, k = split_heads(q, self.n_heads), split_heads(k, self.n_kv_heads)
        if self.query_gain is not None and self.key_gain is not None:
            q = F.rms_norm(q, (self.d_head,), self.query_gain, 1e-6)
            k = F.rms_norm(k, (self.d_head,), self.key_gain, 1e-6)
        if self.rope_of[0] is not None:
            cos, sin = self.cos[: x.shape[1]], self.sin[: x.shape[1]]
            q, k = rope(q, cos, sin), rope(k, cos, sin)
        return q, k, split_heads(v, self.n_kv_heads)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Float[Tensor, "batch heads time d_head"]:
        """Retrieve for every head; neighbouring heads share keys and values."""
        time, grouped = q.shape[-2], self.n_kv_heads < self.n_heads
        window = time if self.window is None else min(self.window, time)
        if self.fused and window == time:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        behind = torch.arange(time, device=q.device)
        behind = behind[:, None] - behind[None, :]
        mask = (behind >= 0) & (behind < window)
        if self.fused:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=grouped)
        k, v = (x.repeat_interleave(self.n_heads // self.n_kv_heads, dim=1) for x in (k, v))
        return attention_composed(q, k, v, mask)


# ---- transformers/transformer-architecture: feed-forward layers --------------------------------


def _gelu(x: Tensor) -> Tensor:
    return F.gelu(x)


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _relu(x: Tensor) -> Tensor:
    return F.relu(x)


def _relu_squared(x: Tensor) -> Tensor:
    return F.relu(x).square()


def _silu(x: Tensor) -> Tensor:
    return F.silu(x)


Bend = Callable[[Tensor], Tensor]
PLAIN: dict[str, Bend] = {
    "relu": _relu, "relu2": _relu_squared, "gelu": _gelu, "gelu_tanh": _gelu_tanh,
}  # fmt: skip
GATED: dict[str, Bend] = {"swiglu": _silu, "geglu_tanh": _gelu_tanh}


class FeedForward(nn.Module):
    """The same small network at every position: widen, bend (or gate), narrow."""

    def __init__(
        self, d: int, hidden: int, kind: str, bias: bool, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.kind = kind
        self.gate = nn.Linear(d, hidden, bias, dtype=dtype) if kind in GATED else None
        self.up = nn.Linear(d, hidden, bias, dtype=dtype)
        self.down = nn.Linear(hidden, d, bias, dtype=dtype)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Transform every position by itself."""
        if self.gate is not None:
            return self.down(GATED[self.kind](self.gate(x)) * self.up(x))
        return self.down(PLAIN[self.kind](self.up(x)))


class MoE(nn.Module):
    """A feed-forward layer in several versions, of which each token uses the k best."""

    choice_bias: Tensor

    def __init__(self, cfg: TransformerConfig) -> None:
        super().__init__()
        dtype = _dtype(cfg)

        def expert() -> FeedForward:
            return FeedForward(cfg.width, cfg.inner, cfg.feed_forward, False, dtype)

        self.n_experts, self.k, self.balance = cfg.experts, cfg.experts_per_token, cfg.balance
        self.router = nn.Linear(cfg.width, cfg.experts, False, dtype=dtype)
        self.experts = nn.ModuleList(expert() for _ in range(cfg.experts))
        self.shared = nn.ModuleList(expert() for _ in range(cfg.shared_experts))
        self.register_buffer("choice_bias", torch.zeros(cfg.experts, dtype=dtype))
        self.balance_loss: Tensor | None = None
        self.load: Tensor | None = None

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Send each token to its experts and add up what they return."""
        tokens = x.flatten(0, -2)
        shares = torch.softmax(self.router(tokens), dim=-1)
        wanted = shares.detach() + self.choice_bias if self.balance == "bias" else shares.detach()
        chosen = torch.argsort(-wanted, dim=-1, stable=True)[:, : self.k]
        weights = shares.gather(-1, chosen)
        if self.k > 1:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        counts = torch.bincount(chosen.flatten(), minlength=self.n_experts)
        self.load = counts.to(shares.dtype) / chosen.numel()
        if self.balance == "loss":
            self.balance_loss = (shares.mean(0) * (self.n_experts * self.load)).sum()
        y = torch.zeros_like(tokens)
        for i, expert in enumerate(self.experts):
            rows, slots = torch.nonzero(chosen == i, as_tuple=True)
            if not len(rows):
                continue  # no gradient, so that an optimizer leaves it alone
            y = y.index_add(0, rows, expert(tokens[rows]) * weights[rows, slots].unsqueeze(-1))
        for expert in self.shared:
            y = y + expert(tokens)
        return y.reshape(x.shape)

    def update_bias(self, rate: float) -> None:
        """Make experts that had more than their share of tokens a little less attractive."""
        if self.load is not None:
            self.choice_bias += rate * torch.sign(1 / self.n_experts - self.load)


# ---- transformers/transformer-architecture: blocks ---------------------------------------------


def _norms(cfg: TransformerConfig) -> tuple[nn.Module | None, nn.Module | None]:
    """The norm around a branch, and the one on what the branch adds."""
    if cfg.norm_place == "none":
        return None, None
    return normalization(cfg), normalization(cfg) if cfg.norm_place == "sandwich" else None


class DecoderBlock(nn.Module):
    """Every position looks back, then thinks; what each branch computes is added to the stream."""

    def __init__(self, cfg: TransformerConfig, layer: int = 0, fused: bool = True) -> None:
        super().__init__()
        self.norm_place, self.parallel = cfg.norm_place, cfg.parallel
        self.dropout = nn.Dropout(cfg.dropout)
        self.attention_norm, self.attention_after = _norms(cfg)
        self.attention = MultiHeadAttention(cfg, layer, fused)
        self.feed_forward_norm, self.feed_forward_after = _norms(cfg)
        if cfg.parallel:
            self.feed_forward_norm = None
        self.feed_forward: nn.Module
        if cfg.experts:
            self.feed_forward = MoE(cfg)
        else:
            self.feed_forward = FeedForward(
                cfg.width, cfg.inner, cfg.feed_forward, cfg.bias, _dtype(cfg)
            )

    def forward(
        self, x: Float[Tensor, "batch time d_model"]
    ) -> Float[Tensor, "batch time d_model"]:
        """Return the stream after this block."""
        if self.parallel:
            return self._add(x, self.attention_norm, None, self._both)
        x = self._add(x, self.attention_norm, self.attention_after, self.attention)
        return self._add(x, self.feed_forward_norm, self.feed_forward_after, self.feed_forward)

    def _both(self, h: Tensor) -> Tensor:
        return self.attention(h) + self.feed_forward(h)

    def _add(self, x: Tensor, norm: Bend | None, after: Bend | None, branch: Bend) -> Tensor:
        """Return x + branch(norm(x)) (pre), norm(x + branch(x)) (post), or x + branch(x)."""
        y = branch(x if norm is None or self.norm_place == "post" else norm(x))
        x = x + self.dropout(y if after is None else after(y))
        return norm(x) if norm is not None and self.norm_place == "post" else x


# ---- transformers/gpt: the model ---------------------------------------------------------------


class GPT(nn.Module):
    """Token vectors plus position vectors, through causal blocks, to logits.

    The first weights are PyTorch's own; `twin` copies those of a GPT of the course.

    Raises:
        ValueError: the configuration has an encoder, no vocabulary, or what the twin lacks: sinks,
            tables of values, shares of the first state.
    """

    positions_table: Tensor

    def __init__(self, config: TransformerConfig, fused: bool = True) -> None:
        if config.encoder_layers or not config.vocab_size:
            raise ValueError(
                f"a GPT has a vocabulary and no encoder, got vocab_size={config.vocab_size}, "
                f"encoder_layers={config.encoder_layers}"
            )
        if config.sink or config.value_embeddings or config.x0_residual:
            raise ValueError(
                "the twin has no sink, value_embeddings or x0_residual, got "
                f"{config.sink}, {config.value_embeddings} and {config.x0_residual}"
            )
        super().__init__()
        self.config, dtype = config, _dtype(config)
        self.tokens = nn.Embedding(config.vocab_size, config.width, dtype=dtype)
        self.positions = self.head = None
        if config.positions == "learned":
            self.positions = LearnedPositions(config.context, config.width, dtype)
        if not config.tied:
            self.head = nn.Linear(config.width, config.vocab_size, False, dtype=dtype)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            DecoderBlock(config, i, fused) for i in range(config.decoder_layers)
        )
        self.norm = normalization(config)
        self.make_tables()

    def make_tables(self) -> None:
        """Compute the fixed vectors of positions, where the configuration asks for them."""
        if self.config.positions == "sinusoidal":
            sizes, weight = (self.config.context, self.config.width), self.tokens.weight
            table = sinusoidal_encoding(*sizes, dtype=np.float64)
            there = torch.tensor(table, dtype=weight.dtype, device=weight.device)
            self.register_buffer("positions_table", there, persistent=False)

    def forward(self, ids: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time vocab"]:
        """Return, for each position, a score for every symbol that could come next."""
        return self.predict(self.hidden_states(ids)[-1])

    def embed(self, ids: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time d_model"]:
        """Return the first state of the residual stream.

        Raises:
            ValueError: there are more tokens than the context holds.
        """
        if ids.shape[-1] > self.config.context:
            raise ValueError(
                f"the context is {self.config.context} tokens, got {ids.shape[-1]}: cut the input"
            )
        x = self.tokens(ids)
        if self.config.scaled:
            x = x * math.sqrt(self.config.width)
        if self.positions is not None:
            x = self.positions(x)
        elif self.config.positions == "sinusoidal":
            x = x + self.positions_table[: x.shape[1]]
        return self.dropout(x)

    def predict(self, x: Float[Tensor, "batch time d_model"]) -> Float[Tensor, "batch time vocab"]:
        """Normalize a state of the residual stream and score every symbol."""
        x = self.norm(x)
        x = F.linear(x, self.tokens.weight) if self.head is None else self.head(x)
        cap = self.config.logit_cap
        return x if cap is None else cap * torch.tanh(x / cap)

    def loss(
        self,
        ids: Int[Tensor, "batch time"],
        targets: Int[Tensor, "batch time"],
        mask: Bool[Tensor, "batch time"] | None = None,
    ) -> Float[Tensor, ""]:
        """Return the mean −log p of each target, in nats a token; ``mask`` says which count."""
        if mask is not None:
            targets = targets.masked_fill(~mask, -100)
        return F.cross_entropy(self(ids).flatten(0, 1), targets.flatten())

    def hidden_states(self, ids: Int[Tensor, "batch time"]) -> list[Tensor]:
        """Return the residual stream after the embedding and after every block.

        Each state has the shape (batch, time, d_model).
        """
        states = [self.embed(ids)]
        for block in self.blocks:
            states.append(block(states[-1]))
        return states


# ---- weights: over, and back -------------------------------------------------------------------


def to_torch(state: Mapping[str, Array]) -> dict[str, Tensor]:
    """Turn a state of the course into one of PyTorch: the same names, copies of the arrays."""
    return {name: torch.from_numpy(array.copy()) for name, array in state.items()}


def to_numpy(state: Mapping[str, Tensor]) -> dict[str, Array]:
    """Turn a state of PyTorch into one of the course: the same names, copies of the numbers."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in state.items()}


def twin(model: course.GPT, fused: bool = True) -> GPT:
    """Return the twin of a GPT of the course, with copies of its weights."""
    other = GPT(model.config, fused)
    other.load_state_dict(to_torch(model.state_dict()))
    return other.train(model.training)


def _dtype(cfg: TransformerConfig) -> torch.dtype:
    return getattr(torch, cfg.dtype)
