"""Instruments: what a head looks for, what it writes, what is missing without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from chainrule.neural_networks.backpropagation import Module, Tensor, no_grad
from chainrule.shapes import Array, Bool, Float
from chainrule.transformers.multi_head_attention.layer import MultiHeadAttention


def _rows(attention: MultiHeadAttention, head: int) -> tuple[slice, slice, slice]:
    """Where the queries, keys and values of one head stand in the rows of the packed weight."""
    if not 0 <= head < attention.n_heads:
        raise IndexError(f"heads are numbered 0 to {attention.n_heads - 1}; there is no {head}")
    d, shared = attention.d_head, attention.n_heads // attention.n_kv_heads
    key = attention.n_heads + head // shared
    value = key + attention.n_kv_heads
    return tuple(slice(i * d, (i + 1) * d) for i in (head, key, value))  # type: ignore[return-value]


def qk_circuit(attention: MultiHeadAttention, head: int) -> Float[Array, "d_model d_model"]:
    """Return W_Qᵀ W_K: how strongly a query at one vector looks at a key at another.

    It does not know of biases, `rope`, or ``qk_norm``, and is not divided by the root of d_head.
    Equation: transformers/multi-head-attention.md#eq-qk-circuit. Source: Elhage et al. 2021,
    A Mathematical Framework for Transformer Circuits.
    """
    query, key, _ = _rows(attention, head)
    weight = attention.qkv.weight.data
    return weight[query].T @ weight[key]


def ov_circuit(attention: MultiHeadAttention, head: int) -> Float[Array, "d_model d_model"]:
    """Return W_O W_V: what is written to the output when a vector is looked at.

    Equation: transformers/multi-head-attention.md#eq-ov-circuit. Source: Elhage et al. 2021,
    A Mathematical Framework for Transformer Circuits.
    """
    query, _, value = _rows(attention, head)
    return attention.out.weight.data[:, query] @ attention.qkv.weight.data[value]


def head_outputs(
    attention: MultiHeadAttention,
    x: Float[Tensor, "batch time d_model"],
    mask: Bool[Array, "*mask"] | Float[Array, "*mask"] | None = None,
) -> Float[Array, "batch heads time d_model"]:
    """Return what each head adds to the output: their sum over heads is the layer, less its bias.

    Equation: transformers/multi-head-attention.md#eq-sum-over-heads
    """
    with no_grad():
        heads = attention.attend(*attention.project(x), mask).data
    by_head = attention.out.weight.data.reshape(attention.d, attention.n_heads, attention.d_head)
    return np.einsum("bhtk,dhk->bhtd", heads, by_head)


def _attentions(model: Module) -> list[MultiHeadAttention]:
    return [module for module in model.modules() if isinstance(module, MultiHeadAttention)]


@contextmanager
def head_ablation(model: Module, layer: int, head: int) -> Iterator[None]:
    """Silence one head inside a ``with`` block: its output is zero.

    Layers are the attentions of the model in the order of its modules, counted from 0.

    Raises:
        IndexError: there is no such layer or head.
    """
    attentions = _attentions(model)
    if not 0 <= layer < len(attentions):
        raise IndexError(f"the model has {len(attentions)} attention layers; there is no {layer}")
    attention = attentions[layer]
    if not 0 <= head < attention.n_heads:
        raise IndexError(f"heads are numbered 0 to {attention.n_heads - 1}; there is no {head}")
    before = attention.head_mask
    mask = np.ones(attention.n_heads, attention.qkv.weight.dtype)
    if before is not None:
        mask *= before
    mask[head] = 0
    attention.head_mask = mask
    try:
        yield
    finally:
        attention.head_mask = before


def attention_maps(model: Module, *inputs: Any) -> list[Float[Array, "batch heads time source"]]:
    """Run the model and return the weights of each of its attentions, in order of use."""
    attentions = _attentions(model)
    maps: list[Array] = []
    for attention in attentions:
        attention.kept_weights = maps
    try:
        with no_grad():
            model(*inputs)
    finally:
        for attention in attentions:
            attention.kept_weights = None
    return maps
