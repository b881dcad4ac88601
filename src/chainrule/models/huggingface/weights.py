"""Names and layouts of arrays: the course's and those of transformers, in both directions.

Each array of the course is one of transformers', the same numbers in another shape: transposed
(GPT-2 stores projections as (in, out)), or cut into parts (queries, keys and values, which the
course computes in one product). Gemma stores of each gain what is added to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.models.huggingface.configuration import Family
from chainrule.models.huggingface.files import FolderError, shown
from chainrule.shapes import Array
from chainrule.transformers.transformer_architecture import TransformerConfig

__all__ = ["course_state", "published_state", "state_shapes"]

Shape = tuple[int, ...]
State = dict[str, Array]

_PREFIX = {"gpt2": "transformer."}
_ENDS = {
    "gpt2": {"tokens.weight": "wte.weight", "positions.weight": "wpe.weight",
             "norm.weight": "ln_f.weight", "norm.bias": "ln_f.bias"},
    "": {"tokens.weight": "embed_tokens.weight", "norm.weight": "norm.weight"},
}  # fmt: skip
_GPT2_BLOCK = {
    "attention_norm": "ln_1", "attention.qkv": "attn.c_attn", "attention.out": "attn.c_proj",
    "feed_forward_norm": "ln_2", "feed_forward.up": "mlp.c_fc", "feed_forward.down": "mlp.c_proj",
}  # fmt: skip
_ROWS_BLOCK = {
    "attention_norm": "input_layernorm", "feed_forward_norm": "post_attention_layernorm",
    "attention.out": "self_attn.o_proj", "feed_forward.gate": "mlp.gate_proj",
    "feed_forward.up": "mlp.up_proj", "feed_forward.down": "mlp.down_proj",
    "attention.query_gain": "self_attn.q_norm.weight",
    "attention.key_gain": "self_attn.k_norm.weight",
}  # fmt: skip
_SANDWICH = {
    "attention_after": "post_attention_layernorm",
    "feed_forward_norm": "pre_feedforward_layernorm",
    "feed_forward_after": "post_feedforward_layernorm",
}
_EXPERT = {"gate": "w1", "up": "w3", "down": "w2"}
_COMPUTED = ("rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias")
"""Ends of names of arrays that older files hold and that are computed anew."""


@dataclass(frozen=True)
class _Place:
    """Where an array of the course is in a folder: under which names, in which layout."""

    ours: str
    theirs: tuple[str, ...]
    shape: Shape
    rows: tuple[int, ...]
    transposed: bool = False
    beside_one: bool = False

    def shapes(self) -> list[Shape]:
        """The shapes in the folder."""
        if self.transposed:
            return [self.shape[::-1]]
        return [(rows, *self.shape[1:]) for rows in self.rows]

    def write(self, array: Array) -> list[Array]:
        """The arrays of the folder."""
        if self.transposed:
            return [np.ascontiguousarray(array.T)]
        if self.beside_one:
            return [array - array.dtype.type(1)]
        return np.split(array, np.cumsum(self.rows)[:-1])

    def read(self, arrays: list[Array]) -> Array:
        """The array of the course."""
        if self.transposed:
            return np.ascontiguousarray(arrays[0].T)
        if self.beside_one:
            return arrays[0] + arrays[0].dtype.type(1)
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def state_shapes(cfg: TransformerConfig) -> dict[str, Shape]:
    """Names and shapes of all arrays of a GPT, from its configuration alone.

    What a stranger's file says of sizes is compared with its arrays before anything is built.
    """
    width = cfg.width
    found: dict[str, Shape] = {"tokens.weight": (cfg.vocab_size, width)}
    if cfg.positions == "learned":
        found["positions.weight"] = (cfg.context, width)
    if not cfg.tied:
        found["head.weight"] = (cfg.vocab_size, width)
    for layer in range(cfg.decoder_layers):
        for name, shape in _block_shapes(cfg).items():
            found[f"blocks.{layer}.{name}"] = shape
    return found | _norm("norm", cfg)


def _norm(name: str, cfg: TransformerConfig) -> dict[str, Shape]:
    biased = cfg.norm == "layer" and cfg.bias
    return {f"{name}.{part}": (cfg.width,) for part in ("weight", *["bias"] * biased)}


def _block_shapes(cfg: TransformerConfig) -> dict[str, Shape]:
    queries, keys = cfg.heads * cfg.head_size, cfg.groups * cfg.head_size
    linear = {"attention.qkv": (queries + 2 * keys, cfg.width),
              "attention.out": (cfg.width, queries)}  # fmt: skip
    gated = cfg.feed_forward in ("swiglu", "geglu_tanh")
    one = {**({"gate": (cfg.inner, cfg.width)} if gated else {}),
           "up": (cfg.inner, cfg.width), "down": (cfg.width, cfg.inner)}  # fmt: skip
    found: dict[str, Shape] = {}
    if cfg.experts:
        found["feed_forward.router.weight"] = (cfg.experts, cfg.width)
        for expert in range(cfg.experts):
            for name, shape in one.items():
                found[f"feed_forward.experts.{expert}.{name}.weight"] = shape
        found["feed_forward.choice_bias"] = (cfg.experts,)
    else:
        linear |= {f"feed_forward.{name}": shape for name, shape in one.items()}
    for name, shape in linear.items():
        found[f"{name}.weight"] = shape
        if cfg.bias:
            found[f"{name}.bias"] = shape[:1]
    if cfg.qk_norm:
        found["attention.query_gain"] = found["attention.key_gain"] = (cfg.head_size,)
    after = ["attention_after", "feed_forward_after"] if cfg.norm_place == "sandwich" else []
    for name in ("attention_norm", "feed_forward_norm", *after):
        found |= _norm(name, cfg)
    return found


def published_state(family: Family, cfg: TransformerConfig, state: Mapping[str, Array]) -> State:
    """Return the arrays of a GPT under the names and in the layouts of transformers.

    Raises:
        FolderError: experts are chosen with a bias, for which the family has no place.
    """
    found: State = {}
    for place in _places(family, cfg):
        array = state[place.ours]
        if not place.theirs:
            if np.any(array):
                raise FolderError(f"{place.ours} is not zero, and {family.title} has none")
            continue
        found.update(zip(place.theirs, place.write(array), strict=True))
    return found


def course_state(
    family: Family, cfg: TransformerConfig, state: Mapping[str, Array], where: str
) -> State:
    """Return the arrays of a folder under the names and in the layouts of the course's GPT.

    They come in float64 if one of them does, and otherwise in float32.

    Raises:
        FolderError: an array is missing, has another shape, is no float, or is not understood.
    """

    def fault(message: str) -> FolderError:
        return FolderError(f"{where}: {message}")

    arrays = _named(family, cfg, state, fault)
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            raise fault(f"{shown(name)} has numbers of type {array.dtype}; only floats are read")
    kinds = {array.dtype for array in arrays.values()}
    dtype = np.dtype(np.float64 if np.dtype(np.float64) in kinds else np.float32)
    found: State = {}
    for place in _places(family, cfg):
        if not place.theirs:
            found[place.ours] = np.zeros(place.shape, dtype)
            continue
        parts = []
        for name, shape in zip(place.theirs, place.shapes(), strict=True):
            if name not in arrays:
                raise fault(f"there is no array {name}")
            array = arrays.pop(name)
            if array.shape != shape:
                raise fault(f"{name} has shape {array.shape}, expected {shape}")
            parts.append(array.astype(dtype, copy=False))
        found[place.ours] = place.read(parts)
    if arrays:
        raise fault(f"the array {shown(min(arrays))} is not understood")
    return found


def _named(
    family: Family,
    cfg: TransformerConfig,
    state: Mapping[str, Array],
    fault: Callable[[str], FolderError],
) -> State:
    """The arrays of a folder by their whole names; none that is computed or there twice."""
    prefix = _PREFIX.get(family.kind, "model.")
    arrays = {name: array for name, array in state.items() if not name.endswith(_COMPUTED)}
    if not any(name.startswith(prefix) for name in arrays):
        arrays = {n if n == "lm_head.weight" else prefix + n: array for n, array in arrays.items()}
    if cfg.decoder_layers * (1 + cfg.experts) > len(arrays):
        layers = f"{cfg.decoder_layers} layers"
        layers += f" of {cfg.experts} experts" if cfg.experts else ""
        raise fault(f"{len(arrays)} arrays are not those of {layers}")
    table = _ENDS.get(family.kind, _ENDS[""])["tokens.weight"]
    if cfg.tied and "lm_head.weight" in arrays:
        copy = arrays.pop("lm_head.weight")
        if not _same(copy, arrays.get(prefix + table)):
            raise fault("lm_head.weight is not the table of tokens, though both are said to be one")
    return arrays


def _same(one: Array, other: Any) -> bool:
    return (
        isinstance(other, np.ndarray)
        and one.dtype == other.dtype
        and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    )


def _places(family: Family, cfg: TransformerConfig) -> Iterator[_Place]:
    prefix = _PREFIX.get(family.kind, "model.")
    ends = {ours: prefix + theirs for ours, theirs in _ENDS.get(family.kind, _ENDS[""]).items()}
    ends["head.weight"] = "lm_head.weight"
    block = "h" if family.kind == "gpt2" else "layers"
    queries, keys = cfg.heads * cfg.head_size, cfg.groups * cfg.head_size
    for ours, shape in state_shapes(cfg).items():
        gain = family.kind == "gemma3_text" and len(shape) == 1
        if ours in ends:
            yield _Place(ours, (ends[ours],), shape, shape[:1], beside_one=gain)
            continue
        _, layer, name = ours.split(".", 2)
        there = f"{prefix}{block}.{layer}."
        if name == "feed_forward.choice_bias":
            yield _Place(ours, (), shape, shape)
        elif name.startswith("attention.qkv.") and family.kind != "gpt2":
            kind = name.rpartition(".")[2]
            names = tuple(f"{there}self_attn.{part}_proj.{kind}" for part in "qkv")
            yield _Place(ours, names, shape, (queries, keys, keys))
        else:
            transposed = family.kind == "gpt2" and len(shape) == 2
            theirs = there + _in_block(family, name)
            yield _Place(ours, (theirs,), shape, shape[:1], transposed, gain)


def _in_block(family: Family, name: str) -> str:
    """The name of an array of a block, from its name in the course's block."""
    if name == "feed_forward.router.weight":
        return "block_sparse_moe.gate.weight"
    if name.startswith("feed_forward.experts."):
        _, _, expert, part, kind = name.split(".")
        return f"block_sparse_moe.experts.{expert}.{_EXPERT[part]}.{kind}"
    if family.kind == "gpt2":
        stem, _, kind = name.rpartition(".")
        return f"{_GPT2_BLOCK[stem]}.{kind}"
    names = _ROWS_BLOCK | (_SANDWICH if family.kind == "gemma3_text" else {})
    if name in names:
        return names[name]
    stem, _, kind = name.rpartition(".")
    return f"{names[stem]}.{kind}"
