"""Published models as configurations."""

from __future__ import annotations

from dataclasses import replace

from chainrule.transformers.transformer_architecture.config import TransformerConfig

__all__ = [
    "BASE_TRANSFORMER", "GEMMA_3_1B", "GPT2_LARGE", "GPT2_MEDIUM", "GPT2_SMALL", "GPT2_XL",
    "LLAMA_2_7B", "LLAMA_3_8B", "MIXTRAL_8X7B", "QWEN_3_06B",
]  # fmt: skip

# The base model of Vaswani et al. 2017 as torch.nn.Transformer builds it, without embeddings.
BASE_TRANSFORMER = TransformerConfig(
    encoder_layers=6, decoder_layers=6, hidden=2048, feed_forward="relu", norm_place="post",
    positions="sinusoidal", scaled=True,
)  # fmt: skip

GPT2_SMALL = TransformerConfig(
    vocab_size=50_257, width=768, heads=12, decoder_layers=12, feed_forward="gelu_tanh"
)
GPT2_MEDIUM = replace(GPT2_SMALL, width=1024, heads=16, decoder_layers=24)
GPT2_LARGE = replace(GPT2_SMALL, width=1280, heads=20, decoder_layers=36)
GPT2_XL = replace(GPT2_SMALL, width=1600, heads=25, decoder_layers=48)

LLAMA_2_7B = TransformerConfig(
    vocab_size=32_000, width=4096, heads=32, decoder_layers=32, hidden=11_008,
    feed_forward="swiglu", norm="rms", bias=False, positions="rope", tied=False, context=4096,
)  # fmt: skip
LLAMA_3_8B = replace(
    LLAMA_2_7B, vocab_size=128_256, kv_heads=8, hidden=14_336, rope_base=500_000.0, context=8192
)
MIXTRAL_8X7B = replace(
    LLAMA_2_7B, kv_heads=8, hidden=14_336, experts=8, rope_base=1_000_000.0, context=32_768
)
QWEN_3_06B = TransformerConfig(
    vocab_size=151_936, width=1024, heads=16, kv_heads=8, d_head=128, decoder_layers=28,
    hidden=3072, feed_forward="swiglu", norm="rms", eps=1e-6, bias=False, qk_norm=True,
    positions="rope", rope_base=1_000_000.0, context=40_960,
)  # fmt: skip
GEMMA_3_1B = TransformerConfig(
    vocab_size=262_144, width=1152, heads=4, kv_heads=1, d_head=256, decoder_layers=26,
    hidden=6912, feed_forward="geglu_tanh", norm="rms", norm_place="sandwich", eps=1e-6,
    bias=False, qk_norm=True, positions="rope", rope_base=(*5 * (10_000.0,), 1_000_000.0),
    window=(*5 * (512,), None), scaled=True, context=32_768,
)  # fmt: skip
