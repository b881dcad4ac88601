"""Which exercises are parts of the GPT that is trained here, and the picture of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from chainrule.program import typed


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

  and back: {clip_together} → {adamw_step} ← {cosine_schedule}
  held out: {log_sum_exp}      writing: {causal_weights} → {sample_filters}
"""


def drawn(box: Callable[[Part], str]) -> str:
    """The picture, with what stands in each part's place."""
    boxes = {part.name: box(part) for part in PARTS}
    boxes["added"] = f"{boxes['inverted_dropout']} → {boxes['add_branch']}"
    return PICTURE.format(**boxes)


def picture(passed: Mapping[str, Collection[str]]) -> str:
    """The GPT as boxes, those whose exercise is ``passed`` (by document) filled in and counted."""
    mine = {part.name for part in PARTS if part.name in passed.get(part.document, ())}
    head = f"  {len(mine)} of {len(PARTS)} parts of the GPT are yours (■)"
    boxes = drawn(lambda part: f"{'■' if part.name in mine else '□'} {part.what}")
    return f"{head}; {typed('train --mine')} runs it.\n\n{boxes}"
