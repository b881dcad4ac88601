"""The model: a decoder stack over a vocabulary, and the weights of GPT-2 put into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from chainrule.neural_networks.backpropagation import ModuleList, Tensor
from chainrule.shapes import Array, Bool, Float, Int
from chainrule.training.loss_functions import cross_entropy
from chainrule.transformers.transformer_architecture import (
    GPT2_SMALL,
    DecoderBlock,
    TokenModel,
    TransformerConfig,
    Unset,
    initialize_,
    normalization,
    zero_branches_,
)

__all__ = ["GPT", "GPTConfig", "gpt_config", "load_gpt2_state"]


def gpt_config(
    vocab_size: int = 50_257,
    context: int = 1024,
    layers: int = 12,
    heads: int = 12,
    width: int = 768,
    **changes: Any,
) -> TransformerConfig:
    """Return the configuration of a GPT: GPT-2 small, but for what is given.

    ``changes`` are fields of `TransformerConfig`. What turns GPT-2 into Llama:
    ``feed_forward="swiglu"`` with its ``hidden`` width, ``norm="rms"``, ``positions="rope"``,
    ``bias=False``, ``tied=False`` and, in later ones, fewer ``kv_heads``.
    """
    return replace(
        GPT2_SMALL, vocab_size=vocab_size, context=context, decoder_layers=layers, heads=heads,
        width=width, **changes,
    )  # fmt: skip


GPTConfig = gpt_config  # the name that other packages have for it


class GPT(TokenModel):
    """Token vectors plus position vectors, through causal blocks, to logits.

    Weights start as `initial_weights` says, with ``zero_init`` those that write to the stream at 0.
    ``rng`` draws them and, in training, the dropout.

    Raises:
        ValueError: the configuration has an encoder, or no vocabulary.
    """

    def __init__(self, config: TransformerConfig, rng: np.random.Generator) -> None:
        if config.encoder_layers or not config.vocab_size:
            raise ValueError(
                f"a GPT has a vocabulary and no encoder, got vocab_size={config.vocab_size}, "
                f"encoder_layers={config.encoder_layers}"
            )
        super().__init__(config, rng)
        self.blocks = ModuleList(
            DecoderBlock(config, rng, layer=i) for i in range(config.decoder_layers)
        )
        self.norm = normalization(config)
        initialize_(self, rng)
        if config.zero_init:
            zero_branches_(self)

    def forward(
        self, ids: Int[Array, "batch time"] | Int[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time vocab"]:
        """Return, for each position, a score for every symbol that could come next."""
        x = start = self.embed(ids)
        for block in self.blocks:
            x = block(x, start=start, ids=ids)
        return self.predict(x)

    def embed(
        self, ids: Int[Array, "batch time"] | Int[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time d_model"]:
        """Return the first state of the residual stream.

        Raises:
            ValueError: there are more tokens than the context holds.
        """
        if ids.shape[-1] > self.config.context:
            raise ValueError(
                f"the context is {self.config.context} tokens, got {ids.shape[-1]}: cut the input"
            )
        return super().embed(ids)

    def predict(self, x: Float[Tensor, "batch time d_model"]) -> Float[Tensor, "batch time vocab"]:
        """Normalize a state of the residual stream and score every symbol."""
        return super().predict(self.norm(x))

    def loss(
        self,
        ids: Int[Array, "batch time"],
        targets: Int[Array, "batch time"],
        mask: Bool[Array, "batch time"] | None = None,
    ) -> Float[Tensor, ""]:
        """Return the mean −log p of each target, in nats a token; ``mask`` says which count.

        Equation: transformers/gpt.md#eq-next-token-loss
        """
        if mask is not None:
            targets = np.where(mask, targets.astype(np.int64), -100)
        return cross_entropy(self(ids), targets)

    def hidden_states(
        self, ids: Int[Array, "batch time"]
    ) -> list[Float[Tensor, "batch time d_model"]]:
        """Return the residual stream after the embedding and after every block.

        `predict` of each is the logit lens. Equation: transformers/gpt.md#eq-logit-lens
        """
        states = [self.embed(ids)]
        for block in self.blocks:
            states.append(block(states[-1], start=states[0], ids=ids))
        return states


def load_gpt2_state(state: Mapping[str, Any], heads: int | None = None) -> GPT:
    """Return a GPT with the weights of a GPT-2 ``state_dict`` in its published layout.

    There, every projection is stored as (in, out) and names start with ``wte``, ``wpe`` and
    ``h.0`` (with or without ``transformer.``). Sizes are read off the arrays; ``heads`` is
    width / 64, as in all published sizes, unless given.

    Raises:
        ValueError: an array is missing.
    """
    arrays = {name.removeprefix("transformer."): np.asarray(a) for name, a in state.items()}
    missing = [name for name in ("wte.weight", "wpe.weight") if name not in arrays]
    if missing:
        raise ValueError(f"not a GPT-2 state: {missing[0]} is missing")
    vocab, width = arrays["wte.weight"].shape
    layers = 1 + max((int(n.split(".")[1]) for n in arrays if n.startswith("h.")), default=-1)
    config = gpt_config(vocab, len(arrays["wpe.weight"]), layers, heads or max(1, width // 64),
                        width, dtype=str(arrays["wte.weight"].dtype))  # fmt: skip
    renamed = {}
    for name, array in arrays.items():
        if name.endswith((".attn.bias", ".attn.masked_bias", "lm_head.weight")):
            continue  # masks, and the tied table a second time
        for theirs, ours in _GPT2_NAMES:
            name = name.replace(theirs, ours)
        is_projection = array.ndim == 2 and name.startswith("blocks.")
        renamed[name] = array.T if is_projection else array
    model = GPT(config, Unset())
    model.load_state_dict(renamed)
    return model


_GPT2_NAMES = (
    ("wte", "tokens"),
    ("wpe", "positions"),
    ("h.", "blocks."),
    ("ln_1", "attention_norm"),
    ("ln_2", "feed_forward_norm"),
    ("ln_f", "norm"),
    ("attn.c_attn", "attention.qkv"),
    ("attn.c_proj", "attention.out"),
    ("mlp.c_fc", "feed_forward.up"),
    ("mlp.c_proj", "feed_forward.down"),
)
