"""Any transformer from a configuration: blocks, stacks, mixture of experts, and exact counts.

Taught in ``transformers/transformer-architecture.md``. A block reads the residual stream,
computes something from it, and adds the result back (`blocks`); `EncoderBlock` and
`DecoderBlock` differ in which positions they may look at. `FeedForward` (`feed_forward`) and
`MoE` (`mixture`) are what a block thinks with; `Encoder`, `Decoder` and `Transformer` (`stacks`)
pile blocks up; `TransformerConfig` (`config`) says how, `families` holds published models,
`counting` counts without building, `starting` has the first weights and the first learning
rates. Dropout stands on what a block adds, and not on the attention weights.

Shape names: ``batch``, ``time`` positions, ``source`` positions of the encoder, ``d_model`` width,
``experts``, ``tokens`` of all sequences of a batch.
"""

from __future__ import annotations

from chainrule.transformers.transformer_architecture.blocks import (
    DecoderBlock,
    EncoderBlock,
    normalization,
    residual,
)
from chainrule.transformers.transformer_architecture.config import TransformerConfig
from chainrule.transformers.transformer_architecture.counting import (
    count_flops,
    count_params,
    parameter_table,
)
from chainrule.transformers.transformer_architecture.families import (
    BASE_TRANSFORMER,
    GEMMA_3_1B,
    GPT2_LARGE,
    GPT2_MEDIUM,
    GPT2_SMALL,
    GPT2_XL,
    LLAMA_2_7B,
    LLAMA_3_8B,
    MIXTRAL_8X7B,
    QWEN_3_06B,
)
from chainrule.transformers.transformer_architecture.feed_forward import FeedForward
from chainrule.transformers.transformer_architecture.mixture import MoE, balance_loss
from chainrule.transformers.transformer_architecture.stacks import (
    Decoder,
    Encoder,
    TokenModel,
    Transformer,
)
from chainrule.transformers.transformer_architecture.starting import (
    Unset,
    initial_weights,
    initialize_,
    noam_lr,
    zero_branches_,
)

__all__ = [
    "BASE_TRANSFORMER", "GEMMA_3_1B", "GPT2_LARGE", "GPT2_MEDIUM", "GPT2_SMALL", "GPT2_XL",
    "LLAMA_2_7B", "LLAMA_3_8B", "MIXTRAL_8X7B", "QWEN_3_06B", "Decoder", "DecoderBlock",
    "Encoder", "EncoderBlock", "FeedForward", "MoE", "TokenModel", "Transformer",
    "TransformerConfig", "Unset", "balance_loss", "count_flops", "count_params",
    "initial_weights", "initialize_", "noam_lr", "normalization", "parameter_table", "residual",
    "zero_branches_",
]  # fmt: skip
