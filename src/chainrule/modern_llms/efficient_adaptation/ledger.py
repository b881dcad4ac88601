"""The bytes that training keeps: weights, gradients, what the optimizer remembers."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.modern_llms.efficient_adaptation.switches import ALL
from chainrule.transformers.transformer_architecture import TransformerConfig, count_params

__all__ = ["matrix_shapes", "memory_ledger"]

METHODS = ("full", "lora", "qlora")


def matrix_shapes(cfg: TransformerConfig) -> dict[str, tuple[int, int]]:
    """Return (outputs, inputs) of the matrices of one block of a GPT, by the name of the layer."""
    queries, keys = cfg.heads * cfg.head_size, cfg.groups * cfg.head_size
    shapes = {
        "qkv": (queries + 2 * keys, cfg.width),
        "out": (cfg.width, queries),
        "up": (cfg.inner, cfg.width),
        "down": (cfg.width, cfg.inner),
    }
    if cfg.feed_forward in ("swiglu", "geglu_tanh"):
        shapes["gate"] = (cfg.inner, cfg.width)
    return shapes


def memory_ledger(
    cfg: TransformerConfig, method: str = "full", r: int = 8, targets: Sequence[str] = ALL
) -> dict[str, float]:
    """Return the bytes of weights, gradients and optimizer when a GPT is trained with AdamW.

    In mixed precision: what is trained has 2 bytes of weight, 2 of gradient and 12 in the
    optimizer (a float32 copy and two moments). A frozen weight has 2 bytes, in ``qlora`` 4 bits
    and its share of the scales if it is a matrix of a block. Activations are not in the ledger.
    Equation: modern-llms/efficient-adaptation.md#eq-ledger

    Raises:
        ValueError: a method that is not offered.
    """
    if method not in METHODS:
        raise ValueError(f"method is one of {METHODS}, got {method!r}")
    every = count_params(cfg)
    if method == "full":
        return {"weights": 2.0 * every, "gradients": 2.0 * every, "optimizer": 12.0 * every}
    shapes = matrix_shapes(cfg)
    trained = cfg.decoder_layers * sum(
        r * (m + n) for name, (m, n) in shapes.items() if name in targets
    )
    weights = 2.0 * every
    if method == "qlora":
        inside = cfg.decoder_layers * sum(m * n for m, n in shapes.values())
        weights += (NF4_BYTES - 2) * inside
    return {
        "weights": weights + 2.0 * trained,
        "gradients": 2.0 * trained,
        "optimizer": 12.0 * trained,
    }


NF4_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
"""A weight in NF4 with double quantization: 4 bits, and 0.127 for scales."""
