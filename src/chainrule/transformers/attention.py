"""Attention: every query retrieves a weighted mean of values, weighted by how keys match it.

Taught in ``transformers/attention.md``. Two rungs: `scaled_dot_product_attention` is composed
of primitive operations and shows the weights; `flash_attention` computes the same output in
one streaming pass over blocks of keys and never holds the whole weight matrix.

Shape names: ``queries`` and ``keys`` positions, ``d_k`` size of a query or key, ``d_v`` size of
a value; ``*batch`` any leading axes (batch, heads).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from chainrule.neural_networks.backpropagation import (
    Tensor,
    is_grad_enabled,
    primitive,
    sum_to,
)
from chainrule.neural_networks.backpropagation.promotion import wide
from chainrule.shapes import Array, Float

__all__ = [
    "AdditiveParameters", "AttentionBytes", "SoftmaxState", "additive_attention",
    "attention_io_bytes", "flash_attention", "masked_softmax", "merge_states",
    "nadaraya_watson", "online_softmax", "packed_attention", "scaled_dot_product_attention",
    "softmax_state",
]  # fmt: skip

Mask = Tensor | Array


# ---- composed: the weights are there to be looked at -------------------------------------------


@primitive
def _softmax(scores: Array, allowed: Array | None = None) -> Any:
    masked = scores if allowed is None else np.where(allowed, scores, -np.inf)
    top = masked.max(axis=-1, keepdims=True, initial=-np.inf)
    top[np.isneginf(top)] = 0  # a row without any key
    p = np.exp(masked - top, dtype=scores.dtype)
    total = p.sum(axis=-1, keepdims=True)
    total[total == 0] = 1
    p /= total
    shape = scores.shape

    def vjp(g: Array) -> Any:
        gradient = p * (g - (g * p).sum(axis=-1, keepdims=True))
        return (sum_to(gradient, shape),)

    return p, vjp


def masked_softmax(
    scores: Float[Tensor, "*rows keys"], mask: Mask | None = None
) -> Float[Tensor, "*weights keys"]:
    """Softmax over the keys that the mask allows; a row that allows none is all zeros.

    A boolean mask is true where a query may look; a floating mask is added to the scores.
    Masking is −∞ before the softmax, never 0 after it: the weights still sum to 1.
    Equation: transformers/attention.md#eq-masked-softmax
    """
    if mask is None:
        return _softmax(scores)
    if mask.dtype == np.bool_:
        return _softmax(scores, mask.data if isinstance(mask, Tensor) else mask)
    if mask.dtype.kind != "f":
        raise TypeError(
            f"a mask is boolean, true where a query may look, or floating, added to the scores; "
            f"got {mask.dtype}: convert it with .astype(bool)"
        )
    return _softmax(scores + mask)


def scaled_dot_product_attention(
    q: Float[Tensor, "*#batch queries d_k"],
    k: Float[Tensor, "*#batch keys d_k"],
    v: Float[Tensor, "*#batch keys d_v"],
    mask: Mask | None = None,
    scale: float | None = None,
) -> tuple[Float[Tensor, "*out queries d_v"], Float[Tensor, "*weights queries keys"]]:
    """Return softmax(q kᵀ · scale) v and the weights, with scale 1/√d_k unless given.

    Equation: transformers/attention.md#eq-scaled-dot-product. Source: Vaswani et al. 2017,
    arXiv:1706.03762.
    """
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    narrow = q.dtype
    if wide(narrow) != narrow:  # scores of 16 bits would overflow where weights fit
        q, k, v = (x.to(wide(narrow)) for x in (q, k, v))
    scores = (q * scale) @ k.transpose(-1, -2)
    weights = masked_softmax(scores, mask)
    return (weights @ v).to(narrow), weights.to(narrow)


class AdditiveParameters(NamedTuple):
    """Weights of additive scoring: one matrix for queries, one for keys, one vector."""

    query: Float[Tensor, "d_hidden d_q"]
    key: Float[Tensor, "d_hidden d_k"]
    score: Float[Tensor, "d_hidden"]


def additive_attention(
    q: Float[Tensor, "*batch queries d_q"],
    k: Float[Tensor, "*batch keys d_k"],
    v: Float[Tensor, "*batch keys d_v"],
    params: AdditiveParameters,
    mask: Mask | None = None,
) -> tuple[Float[Tensor, "*batch queries d_v"], Float[Tensor, "*batch queries keys"]]:
    """Score each pair by a small network, sᵀ tanh(W_q q + W_k k), then retrieve.

    Equation: transformers/attention.md#eq-additive. Source: Bahdanau, Cho, Bengio 2014,
    arXiv:1409.0473.
    """
    queries = (q @ params.query.T).unsqueeze(-2)
    keys = (k @ params.key.T).unsqueeze(-3)
    weights = masked_softmax((queries + keys).tanh() @ params.score, mask)
    return weights @ v, weights


def nadaraya_watson(
    xq: Float[Array, "queries d"],
    x: Float[Array, "keys d"],
    y: Float[Array, "keys d_v"],
    h: float,
) -> Float[Array, "queries d_v"]:
    """Kernel regression: the mean of ``y`` weighted by a Gaussian of width ``h`` around ``xq``.

    Attention with the score −‖xq − x‖²/2h². Equation: transformers/attention.md#eq-nadaraya-watson.
    Source: Nadaraya, On estimating regression, 1964; Watson, Smooth regression analysis, 1964.
    """
    squared = ((xq[:, None, :] - x[None, :, :]) ** 2).sum(axis=-1)
    return masked_softmax(Tensor(-squared / (2 * h * h))).data @ y


# ---- one pass: the online softmax --------------------------------------------------------------


class SoftmaxState(NamedTuple):
    """What is known of a softmax-weighted sum after some of its keys.

    ``maximum`` of the scores, ``total`` of exp(score − maximum), and ``accumulator``, the
    values weighted by the same exponentials; accumulator / total is the mean so far.
    """

    maximum: Float[Array, "*rows 1"]
    total: Float[Array, "*rows 1"]
    accumulator: Float[Array, "*rows d_v"]


def softmax_state(
    scores: Float[Array, "*rows keys"], values: Float[Array, "*#rows keys d_v"]
) -> SoftmaxState:
    """Return the state of one block of keys."""
    maximum = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    p = np.exp(scores - np.where(np.isneginf(maximum), 0, maximum))
    accumulator = (p[..., None, :] @ values).squeeze(-2)
    return SoftmaxState(maximum, p.sum(axis=-1, keepdims=True), accumulator)


def merge_states(a: SoftmaxState, b: SoftmaxState) -> SoftmaxState:
    """Return the state of the keys of both; associative, so blocks may come in any grouping.

    Equation: transformers/attention.md#eq-merge-states. Source: Milakov, Gimelshein 2018,
    arXiv:1805.02867.
    """
    maximum = np.maximum(a.maximum, b.maximum)
    reference = np.where(np.isneginf(maximum), 0, maximum)
    wa, wb = np.exp(a.maximum - reference), np.exp(b.maximum - reference)
    return SoftmaxState(
        maximum, wa * a.total + wb * b.total, wa * a.accumulator + wb * b.accumulator
    )


def online_softmax(blocks: Iterable[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Return the softmax-weighted mean of values, and the log-sum-exp of scores, in one pass.

    ``blocks`` yields pairs: scores (*rows, keys) and values (keys, d_v).
    Equation: transformers/attention.md#eq-online-softmax
    """
    state: SoftmaxState | None = None
    for scores, values in blocks:
        block = softmax_state(scores, values)
        state = block if state is None else merge_states(state, block)
    if state is None:
        raise ValueError("online_softmax needs at least one block of keys")
    with np.errstate(divide="ignore"):
        lse = (state.maximum + np.log(state.total)).squeeze(-1)
    return state.accumulator / np.where(state.total == 0, 1, state.total), lse


def _blocks(queries: int, keys: int, block: int, causal: bool) -> Iterable[tuple[slice, slice]]:
    """Pairs of query rows and key columns to compute; above the diagonal there are none."""
    for start in range(0, queries, block):
        rows = slice(start, min(start + block, queries))
        end = rows.stop + keys - queries if causal else keys
        for first in range(0, end, block):
            yield rows, slice(first, min(first + block, end))


def _scores(q: Array, k: Array, rows: slice, columns: slice, offset: int | None) -> Array:
    """q kᵀ for one block; −∞ where a key lies after its query (``offset`` keys precede row 0)."""
    scores = q[..., rows, :] @ k[..., columns, :].swapaxes(-1, -2)
    if offset is not None and columns.stop - 1 > rows.start + offset:
        later = np.arange(columns.start, columns.stop) > (
            np.arange(rows.start, rows.stop)[:, None] + offset
        )
        np.copyto(scores, -np.inf, where=later)
    return scores


def _flash_forward(
    q: Array, k: Array, v: Array, out: Array, lse: Array, block: int, causal: bool
) -> None:
    """Write softmax(q kᵀ) v to ``out`` and the log-sum-exp of the scores to ``lse``."""
    offset = k.shape[-2] - q.shape[-2] if causal else None
    maximum = np.full(lse.shape, -np.inf, q.dtype)
    total = np.zeros(lse.shape, q.dtype)
    for rows, columns in _blocks(q.shape[-2], k.shape[-2], block, causal):
        p = _scores(q, k, rows, columns, offset)
        top = np.maximum(p.max(axis=-1), maximum[..., rows])
        p -= top[..., None]
        np.exp(p, out=p)
        sums = p @ np.ones(p.shape[-1], p.dtype)
        if columns.start == 0:
            np.matmul(p, v[..., columns, :], out=out[..., rows, :])
            total[..., rows] = sums
        else:
            shrink = np.exp(maximum[..., rows] - top)
            out[..., rows, :] *= shrink[..., None]
            out[..., rows, :] += p @ v[..., columns, :]
            total[..., rows] = total[..., rows] * shrink + sums
        maximum[..., rows] = top
    out /= total[..., None]
    np.add(maximum, np.log(total), out=lse)


def _flash_backward(
    g: Array, q: Array, k: Array, v: Array, out: Array, lse: Array,
    dq: Array, dk: Array, dv: Array, block: int, causal: bool,
) -> None:  # fmt: skip
    """Fill the gradients, with each block of weights computed again from ``lse``.

    With P the weights and D the row sums of g ∘ out: dV = Pᵀ g, dS = P ∘ (g Vᵀ − D),
    dQ = dS K, dK = dSᵀ Q.
    """
    offset = k.shape[-2] - q.shape[-2] if causal else None
    row_sums = np.einsum("...td,...td->...t", g, out)
    for target in (dq, dk, dv):
        target[...] = 0
    for rows, columns in _blocks(q.shape[-2], k.shape[-2], block, causal):
        p = _scores(q, k, rows, columns, offset)
        p -= lse[..., rows, None]
        np.exp(p, out=p)
        g_rows = g[..., rows, :]
        dv[..., columns, :] += p.swapaxes(-1, -2) @ g_rows
        ds = g_rows @ v[..., columns, :].swapaxes(-1, -2)
        ds -= row_sums[..., rows, None]
        ds *= p
        dq[..., rows, :] += ds @ k[..., columns, :]
        dk[..., columns, :] += ds.swapaxes(-1, -2) @ q[..., rows, :]


@primitive
def _flash_attention(
    q: Array, k: Array, v: Array, *, lse: Array, scale: float, block: int, causal: bool
) -> Any:
    scaled = q * q.dtype.type(scale)
    out = np.empty((*q.shape[:-1], v.shape[-1]), q.dtype)
    _flash_forward(scaled, k, v, out, lse, block, causal)

    def vjp(g: Array) -> Any:
        dq, dk, dv = (np.empty(x.shape, q.dtype) for x in (q, k, v))
        _flash_backward(g, scaled, k, v, out, lse, dq, dk, dv, block, causal)
        dq *= q.dtype.type(scale)
        return dq, dk, dv

    return out, vjp


def flash_attention(
    q: Float[Tensor, "*batch queries d_k"],
    k: Float[Tensor, "*batch keys d_k"],
    v: Float[Tensor, "*batch keys d_v"],
    block: int = 128,
    causal: bool = False,
    scale: float | None = None,
) -> tuple[Float[Tensor, "*batch queries d_v"], Float[Array, "*batch queries"]]:
    """Return the output of attention and the log-sum-exp of each query's scores.

    Scores exist for one block of queries and keys at a time, in the forward pass and again
    in the backward pass. ``causal`` lets query i of n see keys up to i + (keys − n), and
    skips the blocks above that diagonal. Equation: transformers/attention.md#eq-flash-backward.
    Source: Dao et al. 2022, arXiv:2205.14135.
    """
    if not q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
        raise ValueError(
            f"flash_attention needs keys and values for each head of the queries, got leading axes "
            f"{q.shape[:-2]}, {k.shape[:-2]} and {v.shape[:-2]}: expand them"
        )
    if causal and k.shape[-2] < q.shape[-2]:
        raise ValueError(
            f"causal attention needs a key for each of {q.shape[-2]} queries, got {k.shape[-2]}"
        )
    if not k.shape[-2]:
        raise ValueError("flash_attention needs at least one key")
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    lse = np.empty(q.shape[:-1], wide(q.dtype))
    return _flash_attention(q, k, v, lse=lse, scale=scale, block=block, causal=causal), lse


@primitive
def _packed_attention(qkv: Array, *, heads: int, causal: bool, block: int) -> Any:
    """The weights P of each block of queries are kept. With D the row sums of g ∘ out:

    dV = Pᵀ g, dS = P ∘ (g Vᵀ − D), dQ = dS K, dK = dSᵀ Q. BLAS multiplies small matrices
    faster by kᵀ and vᵀ if these are copied into that order first.
    """
    batch, time, width = qkv.shape
    d = width // (3 * heads)
    scale = qkv.dtype.type(1 / math.sqrt(d))
    q, k, v = qkv.reshape(batch, time, 3, heads, d).transpose(2, 0, 3, 1, 4)
    q = q * scale
    k_t = np.ascontiguousarray(k.swapaxes(-1, -2))
    out = np.empty((batch, time, heads, d), qkv.dtype).transpose(0, 2, 1, 3)
    later = np.triu(np.full((block, block), -np.inf, qkv.dtype), 1)
    kept = []
    for start in range(0, time, block):
        rows = slice(start, min(start + block, time))
        seen = slice(0, rows.stop if causal else time)
        p = q[..., rows, :] @ k_t[..., seen]
        if causal:
            n = rows.stop - start
            p[..., rows] += later[:n, :n]
        p -= p.max(axis=-1, keepdims=True)
        np.exp(p, out=p)
        p /= (p @ np.ones(p.shape[-1], p.dtype))[..., None]
        np.matmul(p, v[..., seen, :], out=out[..., rows, :])
        if is_grad_enabled():
            kept.append((rows, seen, p))

    def vjp(g: Array) -> Any:
        g = g.reshape(batch, time, heads, d).transpose(0, 2, 1, 3)
        v_t = np.ascontiguousarray(v.swapaxes(-1, -2))
        gradient = np.empty((batch, time, 3, heads, d), qkv.dtype)
        dq, dk, dv = gradient.transpose(2, 0, 3, 1, 4)
        last = True
        for rows, seen, p in reversed(kept):  # the last block sees all keys
            g_rows = g[..., rows, :]
            ds = g_rows @ v_t[..., seen]
            ds -= np.vecdot(g_rows, out[..., rows, :])[..., None]
            ds *= p
            np.matmul(ds, k[..., seen, :], out=dq[..., rows, :])
            _add_product(dk[..., seen, :], ds.swapaxes(-1, -2), q[..., rows, :], last)
            _add_product(dv[..., seen, :], p.swapaxes(-1, -2), g_rows, last)
            last = False
        dq *= scale
        return (gradient.reshape(batch, time, width),)

    return out.transpose(0, 2, 1, 3).reshape(batch, time, heads * d), vjp


def _add_product(total: Array, a: Array, b: Array, fresh: bool) -> None:
    """Add a @ b to ``total``, or write it there if nothing has been yet."""
    if fresh:
        np.matmul(a, b, out=total)
    else:
        total += a @ b


def packed_attention(
    qkv: Float[Tensor, "batch time three_width"],
    heads: int,
    causal: bool = False,
    block: int = 32,
) -> Float[Tensor, "batch time width"]:
    """Attention of all heads on the output of one projection to [q | k | v], for training.

    Between dense and streaming: whole rows of weights, for ``block`` queries at a time, so
    that causal attention skips most keys that come later; the weights are kept for the
    backward pass, which streaming computes again. Heads are views into the projection, and
    results are written where the next projection reads them.
    Equation: transformers/attention.md#eq-attention-vjp
    """
    if qkv.shape[-1] % (3 * heads):
        raise ValueError(
            f"packed_attention: the last axis holds q, k and v of {heads} heads, so its size must "
            f"be a multiple of {3 * heads}, got {qkv.shape[-1]}"
        )
    return _packed_attention(qkv, heads=heads, causal=causal, block=block)


class AttentionBytes(NamedTuple):
    """Bytes moved to and from main memory by one head, in the forward pass."""

    dense: int
    flash: int


def attention_io_bytes(n: int, d: int, sram: int, element: int = 4) -> AttentionBytes:
    """Count the main-memory traffic of attention over ``n`` positions of size ``d``.

    Dense attention writes and reads the n × n scores and weights. Streaming reads keys and
    values once for each block of queries; a block of b queries is as large as fits beside
    as many keys, values, outputs and b × b scores in ``sram`` bytes. Bytes an ``element``.
    Equation: transformers/attention.md#eq-io-bytes. Source: Dao et al. 2022, arXiv:2205.14135.
    """
    room = sram // element
    block = int(math.sqrt(4 * d * d + room) - 2 * d)  # the largest b with 4bd + b² ≤ room
    if block < 1:
        needed = element * (4 * d + 1)
        raise ValueError(f"{sram} bytes hold no block: one position of size {d} needs {needed}")
    dense = 4 * n * d + 4 * n * n
    flash = 2 * n * d + n + math.ceil(n / block) * 2 * n * d
    return AttentionBytes(dense * element, flash * element)
