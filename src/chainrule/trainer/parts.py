"""Which exercises are parts of the GPT that is trained here, and the picture of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """An exercise whose function takes its counterpart's place, and what it is in the GPT."""

    name: str
    document: str
    what: str


PARTS = (
    Part("text_to_ids", "transformers/gpt", "tokenizer"),
    Part("windows", "transformers/gpt", "batches"),
    Part("first_weights", "transformers/transformer-architecture", "first weights"),
    Part("look_up", "neural-networks/backpropagation", "token vectors"),
    Part("inverted_dropout", "neural-networks/regularization", "dropout"),
    Part("layer_norm_backward", "neural-networks/regularization", "layer norm"),
    Part("linear_layer", "neural-networks/backpropagation", "linear layers"),
    Part("attend", "transformers/attention", "attention"),
    Part("gelu_tanh", "neural-networks/activation-functions", "GELU"),
    Part("add_branch", "transformers/transformer-architecture", "residual"),
    Part("unbroadcast", "neural-networks/backpropagation", "broadcasting"),
    Part("stable_cross_entropy", "training/loss-functions", "cross-entropy"),
    Part("clip_together", "training/optimizers", "clipping"),
    Part("cosine_schedule", "training/optimizers", "schedule"),
    Part("adamw_step", "training/optimizers", "AdamW"),
    Part("log_sum_exp", "math-foundations/probability", "held-out loss"),
    Part("causal_weights", "transformers/self-attention", "causal mask"),
    Part("sample_filters", "transformers/gpt", "sampling"),
)

PICTURE = """\
  text → {text_to_ids} → {windows}        each weight starts from {first_weights}
                               │
                               ↓
                       {look_up} and positions → {inverted_dropout}
                               │
  ┌─ a block, as many as there are layers ─────────────────────────────────────┐
  │  {layer_norm_backward} → {linear_layer} → {attend} → {added}     │
  │  {layer_norm_backward} → {linear_layer} → {gelu_tanh}      → {added}     │
  └────────────────────────────┬───────────────────────────────────────────────┘
                               ↓
     {layer_norm_backward} → {linear_layer} → {stable_cross_entropy}

  and back: {unbroadcast} → {clip_together} → {adamw_step} ← {cosine_schedule}
  held out: {log_sum_exp}      writing: {causal_weights} → {sample_filters}
"""


def picture(mine: Collection[str]) -> str:
    """The GPT as boxes, those of ``mine`` filled in, with how many there are."""
    boxes = {part.name: f"{'■' if part.name in mine else '□'} {part.what}" for part in PARTS}
    boxes["added"] = f"{boxes['inverted_dropout']} → {boxes['add_branch']}"
    count = sum(part.name in mine for part in PARTS)
    return f"  {count} of {len(PARTS)} parts of the GPT are yours (■):\n\n{PICTURE.format(**boxes)}"
