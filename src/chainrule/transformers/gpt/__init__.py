"""GPT: a causal transformer trained to predict the next token, and ways to sample from it.

Taught in ``transformers/gpt.md``. `GPT` (`model`) is the decoder stack of
`chainrule.transformers.transformer_architecture` without an encoder; `gpt_config` says which
settings make GPT-2 and Llama. `examples` cuts a text into inputs and targets, `evaluation` measures
losses, `sampling` draws tokens, `memory` draws them faster by keeping keys and values, `baselines`
holds what a GPT has to beat, `trained` the small model that was trained on this course.

Shape names: ``batch``, ``time`` positions, ``vocab`` symbols, ``d_model`` width.
"""

from __future__ import annotations

from chainrule.transformers.gpt.baselines import MatchModel, WittenBell, witten_bell_ngram
from chainrule.transformers.gpt.evaluation import bits_per_byte, token_losses
from chainrule.transformers.gpt.examples import windows
from chainrule.transformers.gpt.memory import KeyValueMemory, Reader, stream
from chainrule.transformers.gpt.model import GPT, GPTConfig, gpt_config, load_gpt2_state
from chainrule.transformers.gpt.sampling import (
    draw,
    generate,
    min_p_filter,
    nucleus,
    pass_at_k,
    repetition_penalty,
    sample_filters,
    top_k_filter,
    top_p_filter,
)
from chainrule.transformers.gpt.trained import load_course_gpt
from chainrule.transformers.transformer_architecture import (
    GPT2_LARGE,
    GPT2_MEDIUM,
    GPT2_SMALL,
    GPT2_XL,
)

__all__ = [
    "GPT", "GPT2_LARGE", "GPT2_MEDIUM", "GPT2_SMALL", "GPT2_XL", "GPTConfig",
    "KeyValueMemory", "MatchModel", "Reader", "WittenBell", "bits_per_byte", "draw", "generate",
    "gpt_config", "load_course_gpt", "load_gpt2_state", "min_p_filter", "nucleus", "pass_at_k",
    "repetition_penalty", "sample_filters", "stream", "token_losses", "top_k_filter",
    "top_p_filter", "windows", "witten_bell_ngram",
]  # fmt: skip
