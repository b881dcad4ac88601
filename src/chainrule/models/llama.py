"""A Llama in a GGUF file, opened as the GPT of the course: its classes, the file's numbers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from chainrule.models.gguf import GGUFError, GGUFFile
from chainrule.models.vocabulary import FileTokenizer, load_tokenizer
from chainrule.shapes import Array
from chainrule.transformers.gpt import GPT, gpt_config
from chainrule.transformers.self_attention import rope_order
from chainrule.transformers.transformer_architecture import TransformerConfig, Unset

__all__ = ["load_gguf", "load_llama"]

MAX_CONTEXT = 1 << 20
"""Longer contexts are cut to this: keys and values are kept for as many tokens."""

_PARTS = {
    "attention_norm": ("attn_norm",),
    "attention.qkv": ("attn_q", "attn_k", "attn_v"),
    "attention.out": ("attn_output",),
    "feed_forward_norm": ("ffn_norm",),
    "feed_forward.gate": ("ffn_gate",),
    "feed_forward.up": ("ffn_up",),
    "feed_forward.down": ("ffn_down",),
}


def load_gguf(path: str | Path) -> tuple[GPT, FileTokenizer]:
    """Return the model of a GGUF file, in evaluation, and its tokenizer.

    Raises:
        GGUFError: the file is damaged, or holds another kind of model.
    """
    file = GGUFFile(path)
    tokenizer = load_tokenizer(file)
    model = load_llama(file)
    if len(tokenizer) != model.config.vocab_size:
        raise GGUFError(
            f"{file.path}: {len(tokenizer)} tokens have names, {model.config.vocab_size} vectors"
        )
    return model, tokenizer


def load_llama(file: GGUFFile) -> GPT:
    """Return the GPT whose weights a GGUF file of the architecture ``llama`` holds, in float32.

    The file's query and key rows are made for rotary pairs that are neighbours; `rope_order`
    moves them to the pairs that the course's attention turns.

    Raises:
        GGUFError: another architecture, or tensors that do not fit the sizes that the file states.
    """
    config = _config(file)
    places = {"token_embd": "tokens", "output_norm": "norm"}
    if not config.tied:
        places["output"] = "head"
    expected: dict[str, tuple[str, int, int]] = {
        f"{theirs}.weight": (f"{ours}.weight", 0, 1) for theirs, ours in places.items()
    }
    for layer in range(config.decoder_layers):
        for ours, parts in _PARTS.items():
            for i, name in enumerate(parts):
                place = f"blocks.{layer}.{ours}.weight"
                expected[f"blk.{layer}.{name}.weight"] = place, i, len(parts)
    if missing := expected.keys() - file.tensors.keys():
        raise GGUFError(f"{file.path}: there is no tensor {min(missing)}")
    if unknown := file.tensors.keys() - expected.keys():
        raise GGUFError(f"{file.path}: has a tensor that a Llama lacks: {min(unknown)!a}")
    q, kv = config.heads * config.head_size, config.groups * config.head_size
    rows = (slice(0, q), slice(q, q + kv), slice(q + kv, q + 2 * kv))
    shapes = _shapes(config)
    for theirs, (ours, part, of) in expected.items():
        wanted = shapes[ours.split(".", 2)[-1] if ours.startswith("blocks.") else ours]
        if of > 1:
            wanted = (rows[part].stop - rows[part].start, *wanted[1:])
        if file.tensors[theirs].shape != wanted:
            found = file.tensors[theirs].shape
            raise GGUFError(f"{file.path}: {theirs} has shape {found}, expected {wanted}")
    model = GPT(config, Unset())
    weights = model.state_dict()
    for theirs, (ours, part, of) in expected.items():
        target = weights[ours] if of == 1 else weights[ours][rows[part]]
        file.read(theirs, target)
        if of > 1 and part < 2:
            target[...] = _halves(target, config.head_size)
    return model.eval()


def _halves(weight: Array, size: int) -> Array:
    """Rows of each head in the order of the rotary layout ``half``."""
    by_head = weight.reshape(-1, size, weight.shape[-1])
    return by_head[:, rope_order(size)].reshape(weight.shape)


def _config(file: GGUFFile) -> TransformerConfig:
    architecture = file.metadata.get("general.architecture")
    if architecture != "llama":
        raise GGUFError(f"{file.path}: its architecture is {architecture!r}, expected 'llama'")

    value = partial(_positive, file)
    layers, width = value("block_count", int), value("embedding_length", int)
    heads = value("attention.head_count", int)
    if 9 * layers > len(file.tensors):
        raise GGUFError(
            f"{file.path}: {len(file.tensors)} tensors are not those of {layers} layers"
        )
    table = file.tensors.get("token_embd.weight")
    if table is None or len(table.shape) != 2:
        raise GGUFError(f"{file.path}: there is no table of token vectors, token_embd.weight")
    scaling = file.metadata.get("llama.rope.scaling.type", "none")
    if scaling != "none":
        raise GGUFError(f"{file.path}: its rotary angles are scaled ({scaling!r:.40}), not read")
    try:
        config = gpt_config(
            table.shape[0], min(value("context_length", int), MAX_CONTEXT), layers, heads, width,
            kv_heads=value("attention.head_count_kv", int, heads), bias=False, norm="rms",
            hidden=value("feed_forward_length", int), feed_forward="swiglu", positions="rope",
            rope_base=value("rope.freq_base", float, 10_000.0),
            eps=value("attention.layer_norm_rms_epsilon", float),
            tied="output.weight" not in file.tensors,
        )  # fmt: skip
    except ValueError as error:
        raise (
            error if isinstance(error, GGUFError) else GGUFError(f"{file.path}: {error}")
        ) from None
    turned = value("rope.dimension_count", int, config.head_size)
    if turned != config.head_size or turned % 2:
        raise GGUFError(
            f"{file.path}: {turned} numbers of a head are turned, expected all {config.head_size}, "
            "an even number"
        )
    return config


def _positive(file: GGUFFile, name: str, kind: type, default: Any = None) -> Any:
    """A number that the file states."""
    found: Any = file.metadata.get(f"llama.{name}", default)
    if type(found) is not kind or not found > 0:  # type: ignore[operator]
        raise GGUFError(
            f"{file.path}: llama.{name} is {found!r:.40}, expected a positive {kind.__name__}"
        )
    return found


def _shapes(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's weights, before any is made; those of blocks without their number."""
    width, inner = config.width, config.inner
    q, kv = config.heads * config.head_size, config.groups * config.head_size
    return {
        "tokens.weight": (config.vocab_size, width), "head.weight": (config.vocab_size, width),
        "norm.weight": (width,), "attention_norm.weight": (width,),
        "feed_forward_norm.weight": (width,), "attention.qkv.weight": (q + 2 * kv, width),
        "attention.out.weight": (width, q), "feed_forward.gate.weight": (inner, width),
        "feed_forward.up.weight": (inner, width), "feed_forward.down.weight": (width, inner),
    }  # fmt: skip
