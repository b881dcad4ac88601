"""The encoder: three embeddings, their sum normalized, and a stack of post-norm blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chainrule.neural_networks.backpropagation import Embedding, Linear, Module, ModuleList, Tensor
from chainrule.neural_networks.regularization import Dropout, LayerNorm
from chainrule.shapes import Array, Bool, Float, Int
from chainrule.transformers.self_attention import LearnedPositions
from chainrule.transformers.transformer_architecture import (
    EncoderBlock,
    TransformerConfig,
    Unset,
    count_params,
    initial_weights,
)

__all__ = [
    "BERT_BASE", "BERT_LARGE", "MINILM", "Bert", "BertConfig", "bert_parameters",
    "load_bert_state",
]  # fmt: skip


@dataclass(frozen=True)
class BertConfig:
    """Everything that decides the shape of a BERT; the defaults are BERT base, uncased.

    ``hidden``, the width inside the feed-forward layers, is 4 · width unless given. Source:
    Devlin et al. 2018, arXiv:1810.04805, section 3.
    """

    vocab_size: int = 30_522
    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int | None = None
    context: int = 512
    segments: int = 2
    dropout: float = 0.1
    eps: float = 1e-12
    dtype: str = "float32"

    @property
    def blocks(self) -> TransformerConfig:
        """The stack of encoder blocks: normalized after each sum, exact GELU, no last norm."""
        return TransformerConfig(
            self.vocab_size, self.width, self.heads, encoder_layers=self.layers, decoder_layers=0,
            hidden=self.hidden, feed_forward="gelu", norm_place="post", final_norm=False,
            eps=self.eps, context=self.context, dropout=self.dropout, dtype=self.dtype,
        )  # fmt: skip


BERT_BASE = BertConfig()
BERT_LARGE = replace(BERT_BASE, width=1024, layers=24, heads=16)
MINILM = replace(BERT_BASE, width=384, layers=6)


def bert_parameters(cfg: BertConfig) -> dict[str, int]:
    """Return the number of trained numbers of the embeddings, the blocks and the pooler.

    Equation: transformers/bert.md#eq-bert-parameters
    """
    d = cfg.width
    tables = cfg.vocab_size + cfg.context + cfg.segments
    blocks = replace(cfg.blocks, vocab_size=0, positions="none")
    return {"embeddings": tables * d + 2 * d, "blocks": count_params(blocks), "pooler": d * d + d}


class Bert(Module):
    """Ids in, one vector for each token out; every token sees the tokens on both sides.

    Weights start normal with deviation 0.02, biases at 0. ``rng`` draws them and, in training,
    the dropout. Equation: transformers/bert.md#eq-bert-embedding. Source: Devlin et al. 2018,
    arXiv:1810.04805; dropout on the attention weights is left out.
    """

    def __init__(self, config: BertConfig, rng: np.random.Generator) -> None:
        cfg = config
        options: dict[str, Any] = {"rng": rng, "dtype": cfg.dtype}
        self.config = config
        self.tokens = Embedding(cfg.vocab_size, cfg.width, **options)
        self.positions = LearnedPositions(cfg.context, cfg.width, **options)
        self.segments = Embedding(cfg.segments, cfg.width, **options)
        self.norm = LayerNorm(cfg.width, eps=cfg.eps, dtype=cfg.dtype)
        self.dropout = Dropout(cfg.dropout, rng)
        self.blocks = ModuleList(EncoderBlock(cfg.blocks, rng, i) for i in range(cfg.layers))
        self.pooler = Linear(cfg.width, cfg.width, **options)
        start(self, rng)

    def forward(
        self,
        ids: Int[Array, "batch time"],
        segments: Int[Array, "batch time"] | None = None,
        mask: Bool[Array, "batch time"] | None = None,
    ) -> Float[Tensor, "batch time d_model"]:
        """Return the vector of each token; ``mask`` is true at tokens, false at padding.

        Raises:
            ValueError: a text is longer than the context.
        """
        if ids.shape[1] > self.config.context:
            raise ValueError(f"the context is {self.config.context} tokens, got {ids.shape[1]}")
        x = self.embed(ids, segments)
        keys = None if mask is None or mask.all() else mask[:, None, None, :]
        for block in self.blocks:
            x = block(x, keys)
        return x

    def embed(
        self, ids: Int[Array, "batch time"], segments: Int[Array, "batch time"] | None = None
    ) -> Float[Tensor, "batch time d_model"]:
        """Add token, position and segment vectors, and normalize; segments are 0 by default.

        Equation: transformers/bert.md#eq-bert-embedding
        """
        segments = np.zeros_like(ids) if segments is None else segments
        x = self.positions(self.tokens(ids) + self.segments(segments))
        return self.dropout(self.norm(x))

    def summary(self, h: Float[Tensor, "batch time d_model"]) -> Float[Tensor, "batch d_model"]:
        """Return tanh of a linear map of the first token's vector: BERT's vector of the text."""
        return self.pooler(h[:, 0]).tanh()


def start(model: Module, rng: np.random.Generator) -> None:
    """Draw every first weight of a model as BERT does: normal, deviation 0.02, biases 0."""
    if isinstance(rng, Unset):
        return
    named = dict(model.named_parameters())
    shapes = {name: parameter.shape for name, parameter in named.items()}
    for name, array in initial_weights(shapes, 1, rng).items():
        named[name].data[...] = array


# ---- published weights -------------------------------------------------------------------------

_NAMES = (
    ("embeddings.word_embeddings", "tokens"),
    ("embeddings.position_embeddings", "positions"),
    ("embeddings.token_type_embeddings", "segments"),
    ("embeddings.LayerNorm", "norm"),
    ("encoder.layer.", "blocks."),
    ("attention.output.dense", "attention.out"),
    ("attention.output.LayerNorm", "attention_norm"),
    ("intermediate.dense", "feed_forward.up"),
    ("output.dense", "feed_forward.down"),
    ("output.LayerNorm", "feed_forward_norm"),
    ("pooler.dense", "pooler"),
)


def load_bert_state(state: Mapping[str, Any], heads: int | None = None) -> Bert:
    """Return a Bert with the weights of a ``state_dict`` in the layout of `transformers`.

    Sizes are read off the arrays; ``heads`` is width / 64, as in BERT base and large, unless
    given. Queries, keys and values, three matrices there, become the rows of one; heads, if
    there are any, are left out.

    Raises:
        ValueError: an array is missing.
    """
    arrays = {name.removeprefix("bert."): np.asarray(array) for name, array in state.items()}
    renamed: dict[str, Array] = {}
    for name, array in arrays.items():
        if not name.startswith(("embeddings.", "encoder.", "pooler.")):
            continue  # heads
        if name.endswith("position_ids"):
            continue
        for theirs, ours in _NAMES:
            name = name.replace(theirs, ours)
        renamed[name] = array
    for name in [name for name in renamed if ".self.query." in name]:
        parts = [name.replace("query", part) for part in ("query", "key", "value")]
        if missing := [part for part in parts if part not in renamed]:
            raise ValueError(f"not a BERT state: {missing[0]} is missing")
        packed = np.concatenate([renamed.pop(part) for part in parts])
        renamed[name.replace("self.query", "qkv")] = packed
    for name in ("tokens.weight", "positions.weight", "segments.weight", "pooler.weight"):
        if name not in renamed:
            raise ValueError(f"not a BERT state: {name} is missing")
    vocab, width = renamed["tokens.weight"].shape
    layers = 1 + max((int(n.split(".")[1]) for n in renamed if n.startswith("blocks.")), default=-1)
    up = renamed.get("blocks.0.feed_forward.up.weight")
    config = BertConfig(
        vocab, width, layers, heads or max(1, width // 64), None if up is None else len(up),
        len(renamed["positions.weight"]), len(renamed["segments.weight"]),
        dtype=str(renamed["tokens.weight"].dtype),
    )  # fmt: skip
    model = Bert(config, Unset())
    model.load_state_dict(renamed)
    return model
