"""Small configurations of every family, and weights that make each setting matter."""

from dataclasses import replace

import numpy as np

from chainrule.transformers.gpt import GPT
from chainrule.transformers.transformer_architecture import (
    GEMMA_3_1B,
    GPT2_SMALL,
    LLAMA_2_7B,
    LLAMA_3_8B,
    MIXTRAL_8X7B,
    QWEN_3_06B,
)

V, D = 23, 24
OURS = {"vocab_size": V, "width": D, "hidden": 40, "heads": 4, "kv_heads": 2, "context": 64}
LLAMA_3_SCALING = {
    "type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original": 8,
}  # fmt: skip
YARN = {"type": "yarn", "factor": 4.0, "original": 16}
GPT2 = replace(GPT2_SMALL, vocab_size=V, width=D, heads=4, decoder_layers=3, context=13)
LLAMA_3 = replace(LLAMA_3_8B, **OURS, decoder_layers=2)
GEMMA_3 = replace(GEMMA_3_1B, **OURS, d_head=8, decoder_layers=7, window=(*5 * (3,), None),
                  rope_scaling=(*5 * (None,), {"type": "linear", "factor": 8.0}))  # fmt: skip

FAMILIES = {
    "GPT-2": ("gpt2", GPT2),
    "GPT-2, untied, ReLU": (
        "gpt2", replace(GPT2, tied=False, feed_forward="relu", hidden=17, eps=1e-3),
    ),
    "GPT-2, exact GELU": ("gpt2", replace(GPT2, feed_forward="gelu")),
    "Llama 2": ("llama", replace(LLAMA_2_7B, **{**OURS, "kv_heads": None}, decoder_layers=2)),
    "Llama 3": ("llama", replace(LLAMA_3, rope_scaling=LLAMA_3_SCALING)),
    "Llama, tied, biases, wide heads": (
        "llama", replace(LLAMA_3, tied=True, bias=True, d_head=10, rope_base=100.0),
    ),
    "Llama, longer by YaRN": ("llama", replace(LLAMA_3, rope_scaling=YARN, eps=1e-6)),
    "Llama, longer by interpolation": (
        "llama", replace(LLAMA_3, rope_scaling={"type": "linear", "factor": 3.0}),
    ),
    "Mistral": ("mistral", replace(LLAMA_3, window=3)),
    "Qwen 3": ("qwen3", replace(QWEN_3_06B, **OURS, d_head=8, decoder_layers=2)),
    "Gemma 3": ("gemma3_text", GEMMA_3),
    "Gemma 3, capped, two layers": (
        "gemma3_text", replace(GEMMA_3, decoder_layers=2, logit_cap=2.0, rope_scaling=None),
    ),
    "Mixtral": ("mixtral", replace(MIXTRAL_8X7B, **OURS, experts=4, decoder_layers=2)),
    "Mixtral, a window, three of five": (
        "mixtral", replace(MIXTRAL_8X7B, **OURS, experts=5, experts_per_token=3, decoder_layers=1,
                           window=4),
    ),
}  # fmt: skip


def random_gpt(cfg, seed=0):
    """A GPT whose weights are large enough for every one of them to be seen in the logits."""
    rng = np.random.default_rng(seed)
    model = GPT(cfg, rng)
    for parameter in model.parameters():
        values = rng.standard_normal(parameter.shape) * (0.3 if parameter.ndim > 1 else 0.1)
        parameter.data[...] = values + (parameter.ndim == 1)
    return model.eval()
