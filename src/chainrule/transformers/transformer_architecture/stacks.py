"""Stacks of blocks, and what stands before the first and after the last."""

from __future__ import annotations

import math

import numpy as np

from chainrule.neural_networks.backpropagation import (
    Embedding,
    Linear,
    Module,
    ModuleList,
    Tensor,
    linear,
    tanh,
)
from chainrule.neural_networks.regularization import Dropout
from chainrule.shapes import Array, Bool, Float, Int
from chainrule.transformers.self_attention import LearnedPositions, sinusoidal_encoding
from chainrule.transformers.transformer_architecture.blocks import (
    DecoderBlock,
    EncoderBlock,
    normalization,
)
from chainrule.transformers.transformer_architecture.config import TransformerConfig

__all__ = ["Decoder", "Encoder", "TokenModel", "Transformer"]


def _last_norm(cfg: TransformerConfig) -> Module | None:
    return normalization(cfg) if cfg.final_norm and cfg.norm_place != "none" else None


class Encoder(Module):
    """A stack of encoder blocks and a last normalization."""

    def __init__(self, cfg: TransformerConfig, rng: np.random.Generator) -> None:
        self.blocks = ModuleList(EncoderBlock(cfg, rng, i) for i in range(cfg.encoder_layers))
        self.norm = _last_norm(cfg)

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
        layers = range(cfg.decoder_layers)
        self.blocks = ModuleList(DecoderBlock(cfg, rng, cross, i) for i in layers)
        self.norm = _last_norm(cfg)

    def forward(
        self,
        x: Float[Tensor, "batch time d_model"],
        memory: Float[Tensor, "batch source d_model"] | None = None,
        mask: Bool[Array, "*mask"] | Float[Array, "*mask"] | None = None,
        memory_mask: Bool[Array, "*memory_mask"] | None = None,
        ids: Int[Array, "batch time"] | None = None,
    ) -> Float[Tensor, "batch time d_model"]:
        """Return what the decoder makes of the sequence so far and of the memory.

        ``ids`` are the tokens, for blocks with a table of values.
        """
        start = x
        for block in self.blocks:
            x = block(x, memory, mask, memory_mask, start, ids)
        return x if self.norm is None else self.norm(x)


class TokenModel(Module):
    """From ids to the residual stream, and from the stream to a score for every symbol.

    Equation: transformers/transformer-architecture.md#eq-embed
    Equation: transformers/transformer-architecture.md#eq-scores
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

    def embed(
        self,
        ids: Int[Array, "batch time"]
        | Int[Tensor, "batch time"]
        | Float[Tensor, "batch time d_model"],
    ) -> Float[Tensor, "batch time d_model"]:
        """Turn ids into vectors that know their position; vectors pass unchanged.

        Raises:
            TypeError: ids, and there is no vocabulary.
        """
        if self.tokens is None:
            if not isinstance(ids, Tensor):
                raise TypeError("this transformer has no vocabulary; give it vectors")
            return ids
        x = self.tokens(ids)
        if self.config.scaled:
            x = x * math.sqrt(self.config.width)
        if self.positions is not None:
            x = self.positions(x)
        elif self.config.positions == "sinusoidal":
            x = x + sinusoidal_encoding(x.shape[1], self.config.width, dtype=x.dtype)
        return self.dropout(x)

    def predict(self, x: Float[Tensor, "batch time d_model"]) -> Float[Tensor, "batch time d_out"]:
        """Score every symbol: the product of the row with the symbol's vector."""
        if self.head is not None:
            x = self.head(x)
        elif self.tokens is not None:
            x = linear(x, self.tokens.weight)
        cap = self.config.logit_cap
        return x if cap is None else cap * tanh(x / cap)


class Transformer(TokenModel):
    """Encoder and decoder; with a vocabulary also the embeddings and the output layer.

    Tied weights use one table for both inputs and the output. Source: Vaswani et al. 2017,
    arXiv:1706.03762.
    """

    def __init__(self, cfg: TransformerConfig, rng: np.random.Generator) -> None:
        super().__init__(cfg, rng)
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

        Raises:
            ValueError: there is an encoder and no source, or a source and no encoder.
        """
        memory = None
        if self.encoder is not None:
            if src is None:
                raise ValueError("this transformer has an encoder; give it a source sequence")
            memory = self.encoder(self.embed(src), src_mask)
        elif src is not None:
            raise ValueError("this transformer has no encoder; give None as the source")
        ids = None if isinstance(tgt, Tensor) else tgt
        x = self.decoder(self.embed(tgt), memory, tgt_mask, memory_mask, ids)
        return self.predict(x)
