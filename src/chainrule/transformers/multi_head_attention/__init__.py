"""Multi-head attention in today's layouts, its cache, and instruments to look inside heads.

Taught in ``transformers/multi-head-attention.md``. `MultiHeadAttention` (`layer`) covers many
heads (MHA), fewer key-value heads shared by groups (GQA), and one (MQA); `LatentAttention`
(`latent`) keeps one small vector a token instead of keys and values (MLA). `cache` counts the
bytes of each. `circuits` shows what a head looks for and what it writes, and silences it;
`induction` has two layers set by hand that copy, and the score by which such heads are found.

Shape names: ``time`` positions of the queries, ``source`` positions of the keys, ``d_model``
width, ``heads`` query heads, ``kv_heads`` heads of keys and values, ``d_head`` size of a head,
``rank`` size of the latent vector.
"""

from __future__ import annotations

from chainrule.transformers.multi_head_attention.cache import CacheConfig, kv_bytes_per_token
from chainrule.transformers.multi_head_attention.circuits import (
    attention_maps,
    head_ablation,
    head_outputs,
    ov_circuit,
    qk_circuit,
)
from chainrule.transformers.multi_head_attention.induction import (
    InductionCircuit,
    induction_score,
)
from chainrule.transformers.multi_head_attention.latent import LatentAttention
from chainrule.transformers.multi_head_attention.layer import (
    MultiHeadAttention,
    merge_heads,
    mha_to_gqa,
    repeat_heads,
    split_heads,
)

__all__ = [
    "CacheConfig", "InductionCircuit", "LatentAttention", "MultiHeadAttention", "attention_maps",
    "head_ablation", "head_outputs", "induction_score", "kv_bytes_per_token", "merge_heads",
    "mha_to_gqa", "ov_circuit", "qk_circuit", "repeat_heads", "split_heads",
]  # fmt: skip
