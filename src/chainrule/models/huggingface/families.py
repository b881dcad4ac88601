"""Families of transformers: what each can compute, and which one computes what the course can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chainrule.models.huggingface.files import FolderError
from chainrule.transformers.transformer_architecture import TransformerConfig

__all__ = ["BENDS", "FAMILIES", "QK_EPS", "SCALINGS", "Family", "Rope", "Scaling", "family_of"]

Scaling = Mapping[str, Any] | None
Rope = tuple[float | None, Scaling]

QK_EPS = 1e-6
"""The eps of the course's QK-norm; other values are refused."""

_ROWS = {
    "vocab_size": "vocab_size", "width": "hidden_size", "heads": "num_attention_heads",
    "groups": "num_key_value_heads", "head_size": "head_dim", "inner": "intermediate_size",
    "decoder_layers": "num_hidden_layers", "context": "max_position_embeddings",
    "eps": "rms_norm_eps", "tied": "tie_word_embeddings",
}  # fmt: skip
_GPT2 = {
    "vocab_size": "vocab_size", "width": "n_embd", "heads": "n_head", "inner": "n_inner",
    "decoder_layers": "n_layer", "context": "n_positions", "eps": "layer_norm_epsilon",
    "tied": "tie_word_embeddings",
}  # fmt: skip

BENDS = {"gelu_tanh": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast"), "gelu": ("gelu",),
          "relu": ("relu",)}  # fmt: skip

_COMMON = {
    "encoder_layers": 0, "parallel": False, "norm_place": "pre", "qk_norm": False,
    "scaled": False, "logit_cap": None, "experts": 0, "shared_experts": 0, "sink": False,
    "value_embeddings": False, "x0_residual": False,
}  # fmt: skip
_LLAMA = {**_COMMON, "norm": "rms", "positions": "rope", "feed_forward": "swiglu"}
_SILU = {"hidden_act": "silu"}


@dataclass(frozen=True)
class Family:
    """What a ``model_type`` of transformers can be, and what its ``config.json`` calls it.

    ``fixed`` are fields of `TransformerConfig` that it leaves no choice of (a tuple: one of
    these). ``names`` are its names of the sizes. ``always`` are entries that it must have: any
    other value computes something that the course's classes do not. ``absent`` says what a missing
    entry means. ``windows`` says which windows its layers may have: none, one or alternating.
    """

    kind: str
    title: str
    architecture: str
    fixed: Mapping[str, Any]
    names: Mapping[str, str]
    always: Mapping[str, Any] = field(default_factory=dict)
    absent: Mapping[str, Any] = field(default_factory=dict)
    windows: tuple[str, ...] = ("none",)


FAMILIES = {
    family.kind: family
    for family in (
        Family(
            "gpt2", "GPT-2", "GPT2LMHeadModel",
            {**_COMMON, "norm": "layer", "bias": True, "positions": "learned",
             "feed_forward": tuple(BENDS)},
            _GPT2,
            {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
             "reorder_and_upcast_attn": False, "add_cross_attention": False},
            {"tie_word_embeddings": True, "layer_norm_epsilon": 1e-5, "n_inner": None,
             "activation_function": "gelu_new"},
        ),
        Family(
            "llama", "Llama", "LlamaForCausalLM", _LLAMA, _ROWS, _SILU,
            {"tie_word_embeddings": False, "rms_norm_eps": 1e-6, "rope_theta": 10_000.0,
             "head_dim": None, "num_key_value_heads": None},
        ),
        Family(
            "mistral", "Mistral", "MistralForCausalLM", {**_LLAMA, "bias": False}, _ROWS, _SILU,
            {"tie_word_embeddings": False, "rms_norm_eps": 1e-6, "rope_theta": 10_000.0,
             "head_dim": None},
            ("one",),
        ),
        Family(
            "mixtral", "Mixtral", "MixtralForCausalLM",
            {**_LLAMA, "bias": False, "experts": None}, _ROWS,
            {**_SILU, "router_jitter_noise": 0.0},
            {"tie_word_embeddings": False, "rms_norm_eps": 1e-5, "rope_theta": 1_000_000.0,
             "head_dim": None},
            ("none", "one"),
        ),
        Family(
            "qwen3", "Qwen 3", "Qwen3ForCausalLM",
            {**_LLAMA, "bias": False, "qk_norm": True}, _ROWS,
            {**_SILU, "attention_bias": False, "use_sliding_window": False},
            {"tie_word_embeddings": False, "rms_norm_eps": 1e-6, "rope_theta": 10_000.0,
             "head_dim": 128},
        ),
        Family(
            "gemma3_text", "Gemma 3", "Gemma3ForCausalLM",
            {**_LLAMA, "bias": False, "qk_norm": True, "norm_place": "sandwich", "scaled": True,
             "feed_forward": "geglu_tanh", "logit_cap": ...},
            _ROWS,
            {"hidden_activation": "gelu_pytorch_tanh", "attention_bias": False,
             "attn_logit_softcapping": None, "use_bidirectional_attention": False},
            {"tie_word_embeddings": True, "rms_norm_eps": 1e-6, "rope_theta": 1_000_000.0,
             "rope_local_base_freq": 10_000.0, "head_dim": 256},
            ("none", "one", "alternating"),
        ),
    )
}  # fmt: skip
"""The families that are written and read, by the ``model_type`` of ``config.json``."""

SCALINGS = {
    "linear": {"factor": "factor"},
    "llama3": {"factor": "factor", "low_freq_factor": "low_freq_factor",
               "high_freq_factor": "high_freq_factor",
               "original": "original_max_position_embeddings"},
    "yarn": {"factor": "factor", "original": "original_max_position_embeddings",
             "beta_fast": "beta_fast", "beta_slow": "beta_slow"},
}  # fmt: skip
"""The settings of each kind of rotary scaling, and what transformers calls them."""


def family_of(cfg: TransformerConfig) -> Family:
    """Return the family of transformers that computes what a configuration says.

    Raises:
        FolderError: none does; the nearest one is named, with every field in which it differs.
    """
    found = {kind: _differences(cfg, family) for kind, family in FAMILIES.items()}

    def distance(kind: str) -> tuple[int, int]:
        first_words = [difference.split()[0] for difference in found[kind]]
        return len(first_words), sum(word in FAMILIES[kind].fixed for word in first_words)

    kind = min(found, key=distance)
    if found[kind]:
        raise FolderError(
            f"no family of transformers computes this; the nearest, {FAMILIES[kind].title}, has "
            f"{'; '.join(found[kind])}"
        )
    return FAMILIES[kind]


def _differences(cfg: TransformerConfig, family: Family) -> list[str]:
    """Where a configuration leaves what a family can be: the family's value, and ours."""
    found = []
    for name, wanted in family.fixed.items():
        value = getattr(cfg, name)
        if wanted is ... or (name == "experts" and wanted is None and value):
            continue
        if value != wanted and not (isinstance(wanted, tuple) and value in wanted):
            either = " or ".join(map(repr, wanted)) if isinstance(wanted, tuple) else repr(wanted)
            either = "some" if name == "experts" and wanted is None else either
            found.append(f"{name} {either}, not {value!r}")
    if not cfg.vocab_size:
        found.append("a vocabulary")
    if family.kind == "gpt2":
        if cfg.groups != cfg.heads:
            found.append(f"as many key-value heads as heads, not {cfg.groups} and {cfg.heads}")
        if cfg.head_size * cfg.heads != cfg.width:
            found.append(f"heads of width {cfg.width}/{cfg.heads}, not {cfg.head_size}")
    if cfg.qk_norm and family.fixed["qk_norm"] and cfg.eps != QK_EPS:
        found.append(f"one eps for all norms, not {cfg.eps:g} beside {QK_EPS:g} of the QK-norm")
    layers = range(cfg.decoder_layers)
    windows = {cfg.window_of(i) for i in layers}
    if _arrangement(windows) not in family.windows:
        allowed = {"none": "no window", "one": "one window", "alternating": "one size of window"}
        found.append(f"{allowed[family.windows[-1]]}, not {cfg.window!r}")
    if family.fixed["positions"] == "rope" == cfg.positions:
        by_window: dict[bool, list[Rope]] = {}
        for i in layers:
            together = family.kind == "gemma3_text" and cfg.window_of(i) is not None
            by_window.setdefault(together, []).append(cfg.rope_of(i))
        for ropes in by_window.values():
            if any(rope != ropes[0] for rope in ropes) or ropes[0][0] is None:
                found.append(f"one rotary base, not {cfg.rope_base!r} with {cfg.rope_scaling!r}")
            elif (scaling := ropes[0][1]) and scaling.get("type") not in SCALINGS:
                found.append(f"no rotary scaling {scaling.get('type')!r}")
    return found


def _arrangement(windows: set[int | None]) -> str:
    if windows <= {None}:
        return "none"
    if len(windows) == 1:
        return "one"
    return "alternating" if len(windows - {None}) == 1 else "several"
