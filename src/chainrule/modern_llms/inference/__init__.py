"""Inference: a trained GPT served with less memory and in less time.

Taught in ``modern-llms/inference.md``. `cache` keeps keys and values, `paging` keeps them in
blocks, `speculative` lets a cheap draft propose tokens, `quantization` stores weights in few
bits, `calibration` rounds them by what the layer reads, `serving` simulates a queue of requests,
`batcher` serves one with a real model, `roofline` predicts the time of a step, `answers` spends
several answers on one question.

Shape names: ``time`` positions, ``vocab`` symbols, ``out`` and ``in`` widths of a layer, ``n``
examples of its input.
"""

from __future__ import annotations

from chainrule.modern_llms.inference.answers import majority_vote
from chainrule.modern_llms.inference.batcher import ContinuousBatcher
from chainrule.modern_llms.inference.cache import (
    CachedGPT,
    generate_cached,
    positions_computed,
    scores_computed,
)
from chainrule.modern_llms.inference.calibration import (
    awq_scales,
    gptq,
    gptq_model,
    layer_inputs,
    output_error,
    smoothquant,
)
from chainrule.modern_llms.inference.paging import PagedCache, blocks_needed, wasted_share
from chainrule.modern_llms.inference.quantization import (
    QTensor,
    bits_a_weight,
    pack,
    quantize,
    quantized_model,
    unpack,
)
from chainrule.modern_llms.inference.roofline import (
    H100,
    H200,
    Device,
    decode_intensity,
    roofline,
)
from chainrule.modern_llms.inference.serving import (
    POLICIES,
    Request,
    Served,
    Serving,
    simulate_serving,
)
from chainrule.modern_llms.inference.speculative import (
    LookupDraft,
    NGramDraft,
    acceptance,
    expected_tokens,
    greedy,
    residual,
    speculative_generate,
    speculative_step,
)

__all__ = [
    "H100", "H200", "POLICIES", "CachedGPT", "ContinuousBatcher", "Device", "LookupDraft",
    "NGramDraft", "PagedCache", "QTensor", "Request", "Served", "Serving", "acceptance",
    "awq_scales", "bits_a_weight", "blocks_needed", "decode_intensity", "expected_tokens",
    "generate_cached", "gptq", "gptq_model", "greedy", "layer_inputs", "majority_vote",
    "output_error", "pack", "positions_computed", "quantize", "quantized_model", "residual",
    "roofline", "scores_computed", "simulate_serving", "smoothquant", "speculative_generate",
    "speculative_step", "unpack", "wasted_share",
]  # fmt: skip
