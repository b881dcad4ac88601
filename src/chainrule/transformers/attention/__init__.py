"""Attention: every query retrieves a weighted mean of values, weighted by how keys match it.

Taught in ``transformers/attention.md``. Three rungs compute the same output:

- `scaled_dot_product_attention` (``retrieval``) is composed of primitive operations and shows
  the weights;
- `flash_attention` (``streaming``) goes through blocks of keys in one pass and never holds the
  whole matrix of weights;
- `packed_attention` (``packed``) takes all heads of one projection and keeps the weights for the
  backward pass: the fastest for short sequences, and what training uses.

Shape names: ``queries`` and ``keys`` positions, ``d_k`` size of a query or key, ``d_v`` size of
a value; ``*batch`` any leading axes (batch, heads).
"""

from chainrule.transformers.attention.packed import packed_attention
from chainrule.transformers.attention.retrieval import (
    AdditiveParameters,
    additive_attention,
    masked_softmax,
    nadaraya_watson,
    scaled_dot_product_attention,
)
from chainrule.transformers.attention.streaming import (
    AttentionBytes,
    SoftmaxState,
    attention_io_bytes,
    flash_attention,
    merge_states,
    online_softmax,
    softmax_state,
)

__all__ = [
    "AdditiveParameters", "AttentionBytes", "SoftmaxState", "additive_attention",
    "attention_io_bytes", "flash_attention", "masked_softmax", "merge_states",
    "nadaraya_watson", "online_softmax", "packed_attention", "scaled_dot_product_attention",
    "softmax_state",
]  # fmt: skip
