"""Keys and values kept from one token to the next, so that a new token costs one row.

The reasons, the arithmetic and the limits of this memory are taught in ``modern-llms/inference``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from chainrule.neural_networks.activation_functions import gelu
from chainrule.neural_networks.backpropagation import Linear, Module, Tensor, no_grad
from chainrule.neural_networks.regularization import LayerNorm, RMSNorm
from chainrule.shapes import Array, Float, Int
from chainrule.transformers.gpt.model import GPT
from chainrule.transformers.gpt.sampling import draw, prompts
from chainrule.transformers.multi_head_attention import MultiHeadAttention
from chainrule.transformers.self_attention import (
    causal_mask,
    rope_attention_factor,
    rope_frequencies,
    sinusoidal_encoding,
    sliding_window_mask,
)
from chainrule.transformers.transformer_architecture import DecoderBlock, FeedForward

__all__ = ["KeyValueMemory", "Reader", "stream"]

Turns = tuple[Array, Array]
_GELU = {"gelu": "none", "gelu_tanh": "tanh"}


class KeyValueMemory:
    """The keys and values of every layer for the tokens that a model has read.

    ``length`` tokens have been read; no more than the model's context fit. The model is put into
    evaluation.
    """

    def __init__(self, model: GPT, batch: int = 1) -> None:
        config = model.config
        self.model, self.length = model.eval(), 0
        shape = (len(model.blocks), 2, batch, config.groups, config.context, config.head_size)
        self._kept = np.zeros(shape, config.dtype)
        self._angles: dict[tuple, Turns] = {}
        self._new: tuple[Array, Array] | None = None  # the tokens being read, and their first state

    def read(self, ids: Int[Array, "batch time"]) -> Float[Array, "batch vocab"]:
        """Read more tokens and return the scores of the one that follows the last.

        Raises:
            ValueError: they do not fit, or there is none.
        """
        start, end = self.length, self.length + ids.shape[1]
        if not start < end <= self.model.config.context:
            raise ValueError(
                f"the context is {self.model.config.context} tokens and {start} are read, "
                f"so {ids.shape[1]} more do not fit"
            )
        with no_grad():
            x = self._embed(ids, start)
            for block, kept in zip(self.model.blocks, self._kept, strict=True):
                x = self._through(block, x, kept, start)
            self.length = end
            return self._score(x[:, -1])

    def forget(self) -> None:
        """Start a new text."""
        self.length = 0

    def _embed(self, ids: Array, start: int) -> Array:
        model, config = self.model, self.model.config
        assert model.tokens is not None
        x = model.tokens.weight.data[ids]
        if config.scaled:
            x = x * np.asarray(config.width**0.5, x.dtype)
        end = start + ids.shape[1]
        if model.positions is not None:
            x = x + model.positions.weight.data[start:end]
        elif config.positions == "sinusoidal":
            x = x + sinusoidal_encoding(end, config.width, dtype=x.dtype)[start:]
        self._new = ids, x
        return x

    def _score(self, x: Array) -> Array:
        """Scores of every symbol, from rows of the stream."""
        model, config = self.model, self.model.config
        if model.head is not None or config.logit_cap is not None:
            return model.predict(Tensor(x[:, None])).data[:, 0]
        assert model.tokens is not None
        return _times(_normalized(model.norm, x), model.tokens.weight.data)

    def _through(self, block: DecoderBlock, x: Array, kept: Array, start: int) -> Array:
        """One block; what it reads of earlier tokens comes from ``kept``."""

        turns = self._turns(block.attention, start, start + x.shape[1], x.dtype)
        x, values = self._before(block, x)

        def attend(h: Array) -> Array:
            return _attend(block.attention, h, kept, start, block.window, turns, values)

        def think(h: Array) -> Array:
            return _think(block.feed_forward, h)

        place, norm, after = block.norm_place, block.attention_norm, block.attention_after
        if block.parallel:
            return _add(x, lambda h: attend(h) + think(h), norm, after, place)
        x = _add(x, attend, norm, after, place)
        return _add(x, think, block.feed_forward_norm, block.feed_forward_after, place)

    def _before(self, block: DecoderBlock, x: Array) -> tuple[Array, Array | None]:
        """The share of the first state and the tokens' own values, in a block that has them."""
        if self._new is None or (block.start_share is None and block.value_table is None):
            return x, None
        ids, start = self._new
        stream, values = block.before(Tensor(x), Tensor(start), ids)
        return stream.data, None if values is None else values.data

    def _turns(
        self, attention: MultiHeadAttention, start: int, end: int, dtype: Any
    ) -> Turns | None:
        """Cosines and sines of the places that are read; blocks with one base share them."""
        if attention.rope is None:
            return None
        base, scaling = attention.rope, attention.rope_scaling
        key = start, end, base, repr(scaling), attention.d_head
        if key not in self._angles:
            if self._angles and next(iter(self._angles))[:2] != (start, end):
                self._angles.clear()
            frequencies = rope_frequencies(attention.d_head, base, scaling)
            angles = np.arange(start, end)[:, None] * frequencies
            size = rope_attention_factor(scaling)
            cos, sin = size * np.cos(angles), size * np.sin(angles)
            self._angles[key] = cos.astype(dtype), sin.astype(dtype)
        return self._angles[key]


def _add(
    x: Array,
    branch: Callable[[Array], Array],
    norm: Module | None,
    after: Module | None,
    place: str,
) -> Array:
    """Add what a branch computes, with its norms, as the block does."""
    y = branch(x if norm is None or place == "post" else _normalized(norm, x))
    x = x + (y if after is None else _normalized(after, y))
    return _normalized(norm, x) if norm is not None and place == "post" else x


def _normalized(norm: Module, x: Array) -> Array:
    """LayerNorm and RMSNorm without tensors; nothing is recorded here."""
    if isinstance(norm, RMSNorm) and norm.weight is not None and norm.eps is not None:
        return _divided_by_rms(x, norm.eps) * norm.weight.data
    if not isinstance(norm, LayerNorm) or norm.weight is None:
        return norm(Tensor(x)).data
    n = x.shape[-1]
    x = x - np.add.reduce(x, axis=-1, keepdims=True) / n
    x /= np.sqrt(np.vecdot(x, x)[..., None] / n + norm.eps)
    x *= norm.weight.data
    return x if norm.bias is None else np.add(x, norm.bias.data, out=x)


def _divided_by_rms(x: Array, eps: float) -> Array:
    return x / np.sqrt(np.vecdot(x, x)[..., None] / x.dtype.type(x.shape[-1]) + x.dtype.type(eps))


def _think(layer: Module, x: Array) -> Array:
    """The feed-forward layer; nothing is recorded, so most of it needs no tensors."""
    if not isinstance(layer, FeedForward):
        return layer(Tensor(x)).data
    up = _linear(layer.up, x)
    if layer.kind == "swiglu" and layer.gate is not None:
        return _linear(layer.down, _swish(_linear(layer.gate, x), up))
    if layer.kind not in _GELU:
        return layer(Tensor(x)).data
    return _linear(layer.down, gelu(Tensor(up), _GELU[layer.kind]).data)


def _swish(gate: Array, up: Array) -> Array:
    """up · gate · σ(gate), written over ``up``; where exp overflows, σ is 0 as it should be."""
    with np.errstate(over="ignore"):
        bend = np.exp(-gate)
    bend += 1
    np.divide(gate, bend, out=bend)
    return np.multiply(up, bend, out=up)


def _attend(
    attention: MultiHeadAttention,
    h: Array,
    kept: Array,
    start: int,
    window: int | None,
    turns: Turns | None,
    own: Array | None,
) -> Array:
    time = h.shape[1]
    end = start + time
    q = _split_into(attention, h, kept[..., start:end, :], turns, own)
    keys, values = kept[0, :, :, :end], kept[1, :, :, :end]
    batch, groups, _, size = keys.shape
    q = q.reshape(batch, groups, -1, size) * size**-0.5  # heads that share keys stand together
    scores = (q @ keys.swapaxes(-2, -1)).reshape(batch, groups, -1, time, end)
    if time > 1 or (window is not None and window < end):
        allowed = causal_mask(end) if window is None else sliding_window_mask(end, window)
        scores = np.where(allowed[start:], scores, -np.inf)
    top = np.maximum.reduce(scores, axis=-1, keepdims=True)
    if attention.sink is not None:
        sink = attention.sink.data.reshape(groups, -1, 1, 1)
        top = np.maximum(top, sink)
    scores -= top
    weights = np.exp(scores, out=scores)
    total = np.add.reduce(weights, axis=-1, keepdims=True)
    if attention.sink is not None:
        total += np.exp(sink - top)
    weights /= total
    mixed = weights.reshape(batch, groups, -1, end) @ values
    mixed = mixed.reshape(batch, attention.n_heads, time, size).swapaxes(1, 2)
    return _linear(attention.out, mixed.reshape(batch, time, -1))


def _linear(layer: Module, x: Array) -> Array:
    """A projection; a row by itself is one product of a matrix and a vector."""
    if type(layer) is not Linear:  # one with an update beside it, say
        return layer(Tensor(x)).data
    y = _times(x, layer.weight.data)
    return y if layer.bias is None else np.add(y, layer.bias.data, out=y)


FEW = 6
"""Up to so many rows, dot products read the weights faster than the product of two matrices."""


def _times(x: Array, weight: Array) -> Array:
    """x Wᵀ. Each row of W meets the few rows of x while it is near the processor.

    So the weights come once, at the speed at which memory gives them.
    """
    width = weight.shape[1]
    rows = x.reshape(-1, width)
    if len(rows) == 1:
        y = np.vecdot(weight, rows[0])
    elif 1 < len(rows) <= FEW:
        y = np.vecdot(weight[:, None], rows).T
    else:
        return x @ weight.T
    return np.ascontiguousarray(y).reshape(*x.shape[:-1], len(weight))


def _split_into(
    attention: MultiHeadAttention, x: Array, kept: Array, turns: Turns | None, own: Array | None
) -> Array:
    """Store keys and values of each head in ``kept``, and return the queries.

    ``own`` are values of the tokens themselves, which are added.
    """
    heads, groups = attention.n_heads, attention.n_kv_heads
    y = _linear(attention.qkv, x).reshape(*x.shape[:2], -1, attention.d_head).swapaxes(1, 2)
    q, k, kept[1] = y[:, :heads], y[:, heads : heads + groups], y[:, heads + groups :]
    if own is not None:
        kept[1] += own.reshape(*x.shape[:2], groups, -1).swapaxes(1, 2)
    if attention.query_gain is not None and attention.key_gain is not None:
        q = _divided_by_rms(q, 1e-6) * attention.query_gain.data
        k = _divided_by_rms(k, 1e-6) * attention.key_gain.data
    if turns is None:
        kept[0] = k
        return q
    _turn(k, turns, kept[0])
    return _turn(q, turns, np.empty(q.shape, q.dtype))


def _turn(x: Array, turns: Turns, out: Array) -> Array:
    """Rotate pairs of features, i with i + d/2, as `rope` does."""
    half = x.shape[-1] // 2
    (cos, sin), a, b = turns, x[..., :half], x[..., half:]
    np.subtract(a * cos, b * sin, out=out[..., :half])
    np.add(b * cos, a * sin, out=out[..., half:])
    return out


class Reader:
    """Reads texts of any length side by side, a few tokens at a time, and predicts the next.

    When the context is full, its later half is read anew. So a prediction has seen at least half
    a context of what came before, or all that there was.
    """

    def __init__(self, model: GPT, batch: int = 1) -> None:
        self.memory = KeyValueMemory(model, batch)
        self._seen = np.zeros((batch, 0), np.int64)

    def read(self, ids: Int[Array, "batch time"]) -> Float[Array, "batch vocab"]:
        """Read the tokens that came, and return the scores of the next."""
        context = self.memory.model.config.context
        self._seen = np.concatenate([self._seen, ids], axis=1)
        if self.memory.length + ids.shape[1] > context:
            self.memory.forget()
            self._seen = ids = self._seen[:, -max(1, context // 2) :]
        return self.memory.read(ids)


def stream(
    model: GPT,
    ids: Int[Array, "batch time"],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    rng: np.random.Generator | None = None,
) -> Iterator[Int[Array, "batch"]]:
    """Yield the tokens that continue ``ids``, without end, as `generate` draws them.

    As long as the text fits the context, these are the tokens of `generate`. Beyond, `generate`
    sees the whole last context and this sees between half and all of it.
    """
    new = prompts(ids)
    reader = Reader(model, len(new))
    while True:
        drawn = draw(reader.read(new), temperature, top_k, top_p, min_p, rng)
        yield drawn
        new = drawn[:, None].astype(np.int64)
