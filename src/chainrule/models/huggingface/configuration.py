"""``config.json`` and `TransformerConfig`: one written from the other, in both directions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from chainrule.models.huggingface.families import (
    BENDS,
    FAMILIES,
    QK_EPS,
    SCALINGS,
    Family,
    Rope,
    Scaling,
    family_of,
)
from chainrule.models.huggingface.files import FolderError, shown
from chainrule.transformers.self_attention import rope_attention_factor, rope_frequencies
from chainrule.transformers.transformer_architecture import TransformerConfig

__all__ = ["FAMILIES", "Family", "family_of", "published_config", "read_config"]

Entries = dict[str, Any]

MAX_CONTEXT = 1 << 20
"""Longer contexts are cut to this: keys and values are kept for as many tokens."""

NO_MATTER = {
    "architectures", "model_type", "transformers_version", "_name_or_path", "dtype", "torch_dtype",
    "use_cache", "initializer_range", "bos_token_id", "eos_token_id", "pad_token_id",
    "unk_token_id", "return_dict", "output_attentions", "output_hidden_states",
    "chunk_size_feed_forward", "id2label", "label2id", "problem_type", "attention_dropout",
    "attn_pdrop", "embd_pdrop", "resid_pdrop", "gradient_checkpointing", "task_specific_params",
    "summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels",
    "summary_first_dropout", "n_ctx", "pretraining_tp", "router_aux_loss_coef",
    "output_router_logits", "cache_implementation", "max_window_layers", "attn_implementation",
    "_attn_implementation", "_attn_implementation_autoset", "is_llama_config", "num_labels",
    "is_decoder", "finetuning_task", "keys_to_ignore_at_inference", "tokenizer_class",
}  # fmt: skip
"""Entries that change nothing of what a model computes once it is trained."""

_NEVER = {
    "auto_map": "it asks for a program of its own to be run",
    "quantization_config": "its weights are stored in a quantized form",
    "is_encoder_decoder": "it has an encoder",
}


# ---- writing -----------------------------------------------------------------------------------


def published_config(cfg: TransformerConfig) -> Entries:
    """Return the entries of ``config.json``, such that transformers computes the same.

    Raises:
        FolderError: no family of transformers does.
    """
    family = family_of(cfg)
    found: Entries = {"architectures": [family.architecture], "model_type": family.kind}
    for ours, theirs in family.names.items():
        value = getattr(cfg, ours)
        found[theirs] = float(value) if ours == "eps" else value
    found |= family.always
    found |= {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    found["dtype"] = cfg.dtype
    if family.kind == "gpt2":
        found["activation_function"] = BENDS[cfg.feed_forward][0]
        dropout = float(cfg.dropout)
        return found | {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": 0.0}
    if family.kind == "llama":
        found["attention_bias"] = found["mlp_bias"] = cfg.bias
    if family.kind == "mixtral":
        found["num_local_experts"] = cfg.experts
        found["num_experts_per_tok"] = cfg.experts_per_token
    windows = [cfg.window_of(i) for i in range(cfg.decoder_layers)]
    if family.windows != ("none",):
        found["sliding_window"] = next((w for w in windows if w is not None), None)
    if family.kind != "gemma3_text":
        base, scaling = cfg.rope_of(0)
        found["rope_parameters"] = _written_rope(base, scaling)
        return found | {"rope_theta": found["rope_parameters"]["rope_theta"]}
    kinds = ["full_attention" if w is None else "sliding_attention" for w in windows]
    ropes = {kind: cfg.rope_of(i) for i, kind in enumerate(kinds)}
    spare = next(iter(ropes.values()))
    found["layer_types"] = kinds
    found["rope_parameters"] = {
        kind: _written_rope(*ropes.get(kind, spare))
        for kind in ("sliding_attention", "full_attention")
    }
    found["sliding_window"] = found["sliding_window"] or cfg.context
    found["query_pre_attn_scalar"] = cfg.head_size
    cap = None if cfg.logit_cap is None else float(cfg.logit_cap)
    return found | {"final_logit_softcapping": cap}


# ---- reading -----------------------------------------------------------------------------------


def read_config(entries: Entries, where: str) -> tuple[Family, TransformerConfig]:
    """Return the family and the configuration that the entries of a ``config.json`` say.

    Dropout, which only training uses, is read where the course has a place for it.

    Raises:
        FolderError: an unknown family, an entry that is not understood, or senseless sizes.
    """

    def fault(message: str) -> FolderError:
        return FolderError(f"{where}: {message}")

    for name, why in _NEVER.items():
        if entries.get(name):
            raise fault(f"{name}: {why}, which is not read")
    kind = entries.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise fault(f"its model_type is {shown(kind)}; those that are read: {', '.join(FAMILIES)}")
    family = FAMILIES[kind]
    named = entries.get("architectures")
    if named and named != [family.architecture]:
        raise fault(f"its architectures are {shown(named)}, expected ['{family.architecture}']")
    reader = _Reader(entries, family, fault)
    known = NO_MATTER | set(_NEVER) | set(family.names.values()) | set(family.always)
    for name in entries:
        if name not in known | reader.more:
            raise fault(f"the entry {shown(name)} is not understood")
    for name, wanted in family.always.items():
        value = entries.get(name, wanted)
        if value != wanted or isinstance(value, bool) != isinstance(wanted, bool):
            raise fault(f"{name} is {shown(value)}; only {wanted!r} is read")
    try:
        return family, reader.config()
    except FolderError:
        raise
    except ValueError as error:
        raise fault(str(error)) from None


class _Reader:
    """The entries of one file, each fetched with the kind of value that it must have."""

    def __init__(
        self, entries: Entries, family: Family, fault: Callable[[str], FolderError]
    ) -> None:
        self.entries, self.family, self.fault = entries, family, fault
        self.more = {
            "gpt2": {"activation_function"},
            "llama": {"attention_bias", "mlp_bias", "rope_interleaved"},
            "mixtral": {"num_local_experts", "num_experts_per_tok", "sliding_window"},
            "mistral": {"sliding_window"},
            "qwen3": {"sliding_window", "layer_types"},
            "gemma3_text": {"sliding_window", "layer_types", "query_pre_attn_scalar",
                            "final_logit_softcapping", "rope_local_base_freq",
                            "sliding_window_pattern", "_sliding_window_pattern"},
        }[family.kind]  # fmt: skip
        if family.kind != "gpt2":
            self.more |= {"rope_parameters", "rope_theta", "rope_scaling"}

    def get(self, name: str) -> Any:
        if name in self.entries:
            return self.entries[name]
        if name not in self.family.absent:
            raise self.fault(f"there is no entry {name}")
        return self.family.absent[name]

    def whole(self, name: str, instead: int | None = None) -> int:
        value = self.get(name) if instead is None or name in self.entries else None
        if value is None and instead is not None:
            return instead
        if type(value) is not int or not 0 < value < 1 << 31:
            raise self.fault(f"{name} is {shown(value)}, expected a whole number above 0")
        return value

    def positive(self, name: str) -> float:
        return self._positive(name, self.get(name))

    def _positive(self, name: str, value: Any) -> float:
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise self.fault(f"{name} is {shown(value)}, expected a number above 0")
        return float(value)

    def switch(self, name: str, instead: bool | None = None) -> bool:
        value = self.entries.get(name, instead) if instead is not None else self.get(name)
        if type(value) is not bool:
            raise self.fault(f"{name} is {shown(value)}, expected true or false")
        return value

    def config(self) -> TransformerConfig:
        family, names = self.family, self.family.names
        width, heads = self.whole(names["width"]), self.whole(names["heads"])
        sizes: dict[str, Any] = {
            "vocab_size": self.whole(names["vocab_size"]), "width": width, "heads": heads,
            "decoder_layers": self.whole(names["decoder_layers"]),
            "context": min(self.whole(names["context"]), MAX_CONTEXT),
            "eps": self.positive(names["eps"]), "tied": self.switch(names["tied"]),
        }  # fmt: skip
        fixed = {n: v for n, v in family.fixed.items() if v is not ... and type(v) is not tuple}
        if family.kind == "gpt2":
            inner = self.whole("n_inner", 4 * width)
            sizes["hidden"] = None if inner == 4 * width else inner
            return TransformerConfig(
                **fixed, **sizes, feed_forward=self._bend(), dropout=self._dropout()
            )
        sizes |= self._attention(width, heads)
        for name, usual in (("kv_heads", heads), ("hidden", 4 * width), ("d_head", width / heads)):
            sizes[name] = None if sizes[name] == usual else sizes[name]
        sizes |= self._rotations(sizes["decoder_layers"])
        if family.kind == "llama":
            sizes["bias"] = self._biased()
        if family.kind == "mixtral":
            sizes |= self._experts()
        if family.fixed["qk_norm"] and sizes["eps"] != QK_EPS:
            raise self.fault(f"rms_norm_eps is {sizes['eps']:g}; with QK-norm only "
                             f"{QK_EPS:g} is read")  # fmt: skip
        if family.kind == "gemma3_text":
            sizes |= self._scores(sizes["d_head"] or width // heads)
        fixed.pop("experts" if family.kind == "mixtral" else "", None)
        return TransformerConfig(**fixed, **sizes)

    def _attention(self, width: int, heads: int) -> dict[str, int]:
        """Heads of keys, the size of a head, and the inner width, as the file says them."""
        if width % heads and self.get("head_dim") is None:
            raise self.fault(f"width {width} does not divide into {heads} heads")
        groups = heads if self.family.kind == "llama" else None
        found = {
            "kv_heads": self.whole("num_key_value_heads", groups),
            "d_head": self.whole("head_dim", self.family.absent["head_dim"] or width // heads),
            "hidden": self.whole("intermediate_size"),
        }
        if found["d_head"] % 2:
            raise self.fault(f"head_dim is {found['d_head']}, and rotary pairs need an even one")
        return found

    def _biased(self) -> bool:
        """Whether Llama's linear layers have biases: all or none."""
        attention, mlp = (self.switch(n, False) for n in ("attention_bias", "mlp_bias"))
        if attention != mlp:
            raise self.fault(f"attention_bias {attention} beside mlp_bias {mlp}: "
                             f"only both or neither are read")  # fmt: skip
        if self.switch("rope_interleaved", False):
            raise self.fault("rope_interleaved is true; only false is read")
        return attention

    def _experts(self) -> dict[str, int]:
        """How many experts Mixtral has, and how many a token goes to."""
        experts, chosen = self.whole("num_local_experts"), self.whole("num_experts_per_tok")
        if chosen == 1:
            raise self.fault("num_experts_per_tok is 1: with one expert a token the course "
                             "weights its output, and Mixtral does not")  # fmt: skip
        return {"experts": experts, "experts_per_token": chosen}

    def _scores(self, head_size: int) -> dict[str, float]:
        """What Gemma's scores are divided by, which is not free, and the cap of its logits."""
        scalar = self.entries.get("query_pre_attn_scalar", 256)
        if scalar != head_size:
            raise self.fault(f"query_pre_attn_scalar is {shown(scalar)}; only head_dim, "
                             f"{head_size}, is read")  # fmt: skip
        if self.entries.get("final_logit_softcapping") is None:
            return {}
        return {"logit_cap": self.positive("final_logit_softcapping")}

    def _bend(self) -> str:
        name = self.get("activation_function")
        for ours, theirs in BENDS.items():
            if name in theirs:
                return ours
        known = ", ".join(name for names in BENDS.values() for name in names)
        raise self.fault(f"activation_function is {shown(name)}; those that are read: {known}")

    def _dropout(self) -> float:
        value = self.entries.get("resid_pdrop", 0.0)
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise self.fault(f"resid_pdrop is {shown(value)}, expected a share below 1")
        return float(value)

    def _rotations(self, layers: int) -> dict[str, Any]:
        """Windows, bases and scalings, by layer where they differ."""
        kind, window = self.family.kind, self.entries.get("sliding_window")
        if window is not None:
            window = self.whole("sliding_window")
        if kind == "qwen3":
            window = None  # it is there even where use_sliding_window is false
        if kind != "gemma3_text":
            wanted = self.entries.get("layer_types")
            if wanted is not None:
                kinds = wanted if isinstance(wanted, list) else []
                if len(kinds) != layers or any(each != "full_attention" for each in kinds):
                    raise self.fault("layer_types are not full_attention in every layer")
            base, scaling = self._rope(self.entries.get("rope_parameters"))
            self._same_twice(base, "rope_theta")
            return {"rope_base": base, "rope_scaling": scaling, "window": window}
        sliding = self._sliding(layers)
        if any(sliding) and window is None:
            raise self.fault("there is no entry sliding_window")
        given = self.entries.get("rope_parameters")
        if given is None:
            ropes = {False: self._rope(None),
                     True: (self.positive("rope_local_base_freq"), None)}  # fmt: skip
        else:
            names = ("full_attention", "sliding_attention")
            if not isinstance(given, dict) or set(given) != set(names):
                raise self.fault(f"rope_parameters are {shown(given)}, expected "
                                 f"{' and '.join(names)}")  # fmt: skip
            ropes = {}
            for slides, name in zip((False, True), names, strict=True):
                if not isinstance(given[name], dict) or "rope_theta" not in given[name]:
                    raise self.fault(f"rope_parameters have no rope_theta of {name}")
                ropes[slides] = self._rope(given[name])
            self._same_twice(ropes[True][0], "rope_local_base_freq")
            self._same_twice(ropes[False][0], "rope_theta")
        period = next(p for p in range(1, layers + 1)
                      if all(sliding[i] == sliding[i % p] for i in range(layers)))  # fmt: skip
        first = sliding[:period]
        bases, scalings = zip(*(ropes[s] for s in first), strict=True)
        windows = tuple(window if s else None for s in first)
        return {"rope_base": _one(bases), "rope_scaling": _one(scalings), "window": _one(windows)}

    def _usual(self, factor: float, scaling: dict[str, Any]) -> None:
        try:
            usual = rope_attention_factor(scaling)
        except ValueError as error:
            raise self.fault(str(error)) from None
        if not math.isclose(factor, usual):
            raise self.fault(f"attention_factor is {factor:g}; only the usual {usual:g} is read")

    def _sliding(self, layers: int) -> list[bool]:
        if layers > 100_000:
            raise self.fault(f"num_hidden_layers is {layers}, more than any model has")
        kinds = self.entries.get("layer_types")
        if kinds is None:
            names = ("sliding_window_pattern", "_sliding_window_pattern")
            name = next((n for n in names if n in self.entries), None)
            every = self.whole(name) if name else 6
            return [(i + 1) % every != 0 for i in range(layers)]
        known = ("full_attention", "sliding_attention")
        if not isinstance(kinds, list) or len(kinds) != layers:
            raise self.fault(f"layer_types do not say the kind of {layers} layers")
        for each in kinds:
            if each not in known:
                raise self.fault(f"layer_types has {shown(each)}; known are {' and '.join(known)}")
        return [each == "sliding_attention" for each in kinds]

    def _same_twice(self, base: float | None, name: str) -> None:
        """An entry of older files may stand beside ``rope_parameters`` if it says the same."""
        if self.entries.get(name, base) != base:
            raise self.fault(
                f"{name} is {shown(self.entries[name])}, and rope_parameters say {base:g}"
            )

    def _rope(self, given: Any) -> Rope:
        """Base and scaling, as ``rope_parameters`` says or, in older files, two entries."""
        older = self.entries.get("rope_scaling")
        if given is None:
            given = {} if older is None else older
            if isinstance(given, dict):
                given = {**given, "rope_theta": self.get("rope_theta")}
        elif older is not None:
            raise self.fault("there are rope_parameters and rope_scaling; only one is read")
        if not isinstance(given, dict):
            raise self.fault(f"the rotary settings are {shown(given)}, expected names and values")
        given = dict(given)
        base = given.pop("rope_theta", None)
        base = self._positive("rope_theta", self.get("rope_theta") if base is None else base)
        if given.pop("partial_rotary_factor", 1.0) != 1.0:
            raise self.fault("partial_rotary_factor: only heads that turn as a whole are read")
        kind = given.pop("rope_type", given.pop("type", "default"))
        given.pop("type", None)
        if kind == "default":
            scaling: dict[str, Any] | None = None
        elif isinstance(kind, str) and kind in SCALINGS:
            scaling = {"type": kind}
            for ours, theirs in SCALINGS[kind].items():
                if theirs in given:
                    scaling[ours] = self._positive(theirs, given.pop(theirs))
            factor = given.pop("attention_factor", None) if kind == "yarn" else None
            if factor is not None:
                self._usual(self._positive("attention_factor", factor), scaling)
        else:
            known = ", ".join(["default", *SCALINGS])
            raise self.fault(f"rope_type is {shown(kind)}; those that are read: {known}")
        if given:
            raise self.fault(f"the rotary setting {shown(next(iter(given)))} is not understood")
        try:
            rope_frequencies(2, base, scaling)  # says what is wrong with a base or a scaling
        except ValueError as error:
            raise self.fault(str(error)) from None
        return base, scaling


_STANDARD = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0}


def _written_rope(base: float | None, scaling: Scaling) -> Entries:
    assert base is not None  # a family without rotation is refused before
    found: Entries = {"rope_theta": float(base), "rope_type": "default"}
    if scaling is None:
        return found
    kind = scaling["type"]
    found["rope_type"] = kind
    for ours, theirs in SCALINGS[kind].items():
        value = scaling[ours] if ours in scaling else _STANDARD[ours]
        found[theirs] = int(value) if ours == "original" else float(value)
    return found


def _one(values: tuple[Any, ...]) -> Any:
    """The one value of all layers, or what is repeated over them."""
    return values[0] if all(value == values[0] for value in values) else values
