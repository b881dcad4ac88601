"""Self-attention: one sequence attends to itself; positions and masks give it order.

Taught in ``transformers/self-attention.md``. `SelfAttention` makes queries, keys and values from
one sequence. Masks (`masks`) are boolean arrays, true where a query may look, so they combine
with ``&`` and ``|``. Positions come as tables that are added and as biases on the scores
(`positions`), or as rotations of queries and keys (`rotary`). `has_leak` finds out whether an
output depends on what comes after it.

Shape names: ``time`` positions, ``queries`` and ``keys`` where they differ, ``d_model`` width,
``d_head`` size of queries, keys and values, ``pairs`` half of it.
"""

from __future__ import annotations

from chainrule.transformers.self_attention.layer import SelfAttention, has_leak
from chainrule.transformers.self_attention.masks import (
    causal_mask,
    combine,
    document_mask,
    padding_mask,
    prefix_mask,
    sliding_window_mask,
    top_k_mask,
)
from chainrule.transformers.self_attention.positions import (
    LearnedPositions,
    alibi_bias,
    relative_buckets,
    sinusoidal_encoding,
)
from chainrule.transformers.self_attention.rotary import (
    rope,
    rope_attention_factor,
    rope_frequencies,
    rope_order,
)

__all__ = [
    "LearnedPositions", "SelfAttention", "alibi_bias", "causal_mask", "combine", "document_mask",
    "has_leak", "padding_mask", "prefix_mask", "relative_buckets", "rope",
    "rope_attention_factor", "rope_frequencies", "rope_order", "sinusoidal_encoding",
    "sliding_window_mask", "top_k_mask",
]  # fmt: skip
