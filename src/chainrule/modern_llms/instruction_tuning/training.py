"""Batches of conversations, the masked loss, and a training loop of a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from chainrule.modern_llms.instruction_tuning.template import Rendered
from chainrule.neural_networks.backpropagation import Tensor
from chainrule.shapes import Array, Bool, Float, Int
from chainrule.training.batching import pack_batch, pack_best_fit, pad_batch
from chainrule.training.loss_functions import cross_entropy
from chainrule.training.optimizers import AdamW, clip_grad_norm_, warmup_linear
from chainrule.transformers.gpt import GPT

__all__ = ["Batch", "Packed", "collate", "instruction_tune", "pack_conversations", "sft_loss",
           "shifted"]  # fmt: skip


class Batch(NamedTuple):
    """Conversations as rows: ids, which are trained, and which are no filling."""

    ids: Int[Array, "batch time"]
    mask: Bool[Array, "batch time"]
    real: Bool[Array, "batch time"]


class Packed(NamedTuple):
    """Conversations one after the other in rows: ids, which are trained, and whose they are."""

    ids: Int[Array, "rows time"]
    mask: Bool[Array, "rows time"]
    doc_ids: Int[Array, "rows time"]


def collate(examples: Sequence[Rendered], pad: int = 0) -> Batch:
    """Fill conversations up to the longest. The mask is false there, whatever ``pad`` is."""
    ids, real = pad_batch([example.ids for example in examples], pad)
    mask = np.zeros(ids.shape, bool)
    mask[real] = np.concatenate([example.mask for example in examples])
    return Batch(ids, mask, real)


def pack_conversations(examples: Sequence[Rendered], n: int, pad: int = 0) -> Packed:
    """Put conversations into rows of ``n`` tokens.

    The first token of a conversation is never trained: what stands before it belongs to another
    one. ``doc_ids`` (−1 for filling) say which pairs attention may use and where positions restart:
    `chainrule.training.batching.packed_positions`.
    """
    rows = pack_best_fit(np.array([len(example.ids) for example in examples], np.int64), n)
    ids, doc_ids = pack_batch([example.ids for example in examples], rows, n, pad)
    trained = [np.append(False, example.mask[1:]) for example in examples if len(example.ids)]
    mask, _ = pack_batch(trained, rows, n, 0)
    return Packed(ids, mask.astype(bool), doc_ids)


def shifted(
    ids: Int[Array, "batch time"], mask: Bool[Array, "batch time"]
) -> tuple[Int[Array, "batch rest"], Int[Array, "batch rest"], Bool[Array, "batch rest"]]:
    """Return what is read, what is asked for, and which questions count.

    A mask speaks of the token that is asked for, so it moves with the targets.
    """
    return ids[:, :-1], ids[:, 1:], mask[:, 1:]


def sft_loss(
    logits: Float[Tensor, "batch time vocab"],
    ids: Int[Array, "batch time"],
    mask: Bool[Array, "batch time"],
    weighting: str = "token",
    prompt_weight: float = 0.0,
    real: Bool[Array, "batch time"] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean −log p of the masked tokens, each predicted from those before it.

    ``weighting`` "token" averages over all of them; "example" averages in each row, then over
    rows. A token that is real but not masked weighs ``prompt_weight`` as much as one that is.

    Equation: modern-llms/instruction-tuning.md#eq-sft-loss
    Equation: modern-llms/instruction-tuning.md#eq-example-weights

    Raises:
        ValueError: shapes that differ, an unknown weighting, a negative weight, or a batch (for
            "example" a row) in which nothing counts.
    """
    if ids.shape != mask.shape or logits.shape[:2] != ids.shape:
        raise ValueError(
            f"sft_loss: logits {logits.shape[:2]}, ids {ids.shape} and mask {mask.shape} differ"
        )
    if weighting not in ("token", "example"):
        raise ValueError(f"weighting is 'token' or 'example', got {weighting!r}")
    if not prompt_weight >= 0:
        raise ValueError(f"prompt_weight is at least 0, got {prompt_weight}")
    _, targets, counted = shifted(ids, mask)
    w = np.where(counted, 1.0, prompt_weight)
    if real is not None:
        w = np.where(real[:, 1:], w, 0.0)
    totals = w.sum(axis=1, keepdims=True)
    if not (totals.all() if weighting == "example" else totals.any()):
        raise ValueError("sft_loss: no token counts in the batch, or in one of its rows")
    w /= totals * len(w) if weighting == "example" else totals.sum()
    asked = np.where(w > 0, targets, -100)
    losses = cross_entropy(logits[:, :-1], asked, reduction="none")
    return (losses * w.astype(logits.dtype)).sum()


def instruction_tune(
    model: GPT,
    examples: Sequence[Rendered],
    steps: int,
    lr: float,
    batch: int,
    rng: np.random.Generator,
    weighting: str = "token",
    prompt_weight: float = 0.0,
) -> list[float]:
    """Train on conversations drawn at random, and return the loss of every step.

    AdamW with a decay of 0.01, gradients clipped to 1, a warm-up of a twentieth, then a straight
    line to 0. The model is left in evaluation.
    """
    parameters = list(model.parameters())
    optimizer = AdamW(parameters, lr=lr, weight_decay=0.01)
    losses = []
    model.train()
    for step in range(steps):
        rate = warmup_linear(step, lr, max(1, steps // 20), steps)
        optimizer.param_groups[0]["lr"] = rate
        chosen = rng.integers(0, len(examples), batch)
        ids, mask, real = collate([examples[i] for i in chosen])
        loss = sft_loss(model(ids), ids, mask, weighting, prompt_weight, real)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses
