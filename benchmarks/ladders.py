"""What each hand-derived gradient buys: forward and backward, fused beside composed.

Sizes are those of the larger GPT of gpt_step.py. Both rungs compute the same values and the
same gradients; the test suite holds them equal.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np

from benchmarks.timing import interleave, median_ratio

BATCH, TIME, WIDTH, HEADS, VOCABULARY = 8, 256, 384, 6, 65


def rungs() -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    """For each ladder, one call of the composed rung and one of the fused rung."""
    from chainrule.neural_networks.activation_functions import gelu, gelu_composed
    from chainrule.neural_networks.backpropagation import Tensor, tensor
    from chainrule.neural_networks.regularization import (
        layer_norm,
        layer_norm_composed,
        rms_norm,
        rms_norm_composed,
    )
    from chainrule.training.loss_functions import cross_entropy, cross_entropy_composed
    from chainrule.transformers.attention import flash_attention, scaled_dot_product_attention
    from chainrule.transformers.self_attention import causal_mask

    rng = np.random.default_rng(0)

    def leaf(*shape: int) -> Tensor:
        return tensor(rng.standard_normal(shape, dtype=np.float32), requires_grad=True)

    def both(function, *inputs: Tensor) -> Callable[[], None]:
        upstream = rng.standard_normal(function(*inputs).shape).astype(np.float32)

        def run() -> None:
            for value in inputs:
                value.grad = None
            function(*inputs).backward(upstream)

        return run

    x, hidden = leaf(BATCH, TIME, WIDTH), leaf(BATCH, TIME, 4 * WIDTH)
    gain, shift = leaf(WIDTH), leaf(WIDTH)
    logits = leaf(BATCH * TIME, VOCABULARY)
    targets = rng.integers(0, VOCABULARY, BATCH * TIME)
    q, k, v = (leaf(BATCH, HEADS, TIME, WIDTH // HEADS) for _ in range(3))
    mask = causal_mask(TIME)
    size = (WIDTH,)
    return {
        "softmax with cross-entropy": (
            both(lambda z: cross_entropy_composed(z, targets), logits),
            both(lambda z: cross_entropy(z, targets), logits),
        ),
        "layer norm": (
            both(lambda *a: layer_norm_composed(a[0], size, a[1], a[2]), x, gain, shift),
            both(lambda *a: layer_norm(a[0], size, a[1], a[2]), x, gain, shift),
        ),
        "RMSNorm": (
            both(lambda *a: rms_norm_composed(a[0], size, a[1]), x, gain),
            both(lambda *a: rms_norm(a[0], size, a[1]), x, gain),
        ),
        "GELU (tanh form)": (
            both(lambda z: gelu_composed(z, approximate="tanh"), hidden),
            both(lambda z: gelu(z, approximate="tanh"), hidden),
        ),
        "causal attention": (
            both(lambda *a: scaled_dot_product_attention(*a, mask=mask)[0], q, k, v),
            both(lambda *a: flash_attention(*a, block=64, causal=True)[0], q, k, v),
        ),
    }


def measure(rounds: int = 15) -> dict:
    """Median milliseconds of process time of both rungs, and their median ratio."""
    rows = []
    for name, (composed, fused) in rungs().items():
        seconds = interleave({"composed": composed, "fused": fused}, rounds, warm_up=2)
        rows.append(
            {
                "operation": name,
                "composed_ms": round(1e3 * statistics.median(seconds["composed"]), 2),
                "fused_ms": round(1e3 * statistics.median(seconds["fused"]), 2),
                "ratio": round(median_ratio(seconds["composed"], seconds["fused"]), 2),
            }
        )
    method = (
        f"process time of forward and backward, batch {BATCH} × {TIME} tokens, width {WIDTH}, "
        f"rungs in turn, median of {rounds} rounds"
    )
    return {"rows": rows, "method": method}
