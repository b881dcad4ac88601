"""Attention of all heads at once, as a transformer is trained with it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from chainrule.neural_networks.backpropagation import Tensor, is_grad_enabled, primitive
from chainrule.shapes import Array, Float


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
    for rows, seen in _blocks(time, block, causal):
        p = q[..., rows, :] @ k_t[..., seen]
        if causal:
            n = rows.stop - rows.start
            p[..., rows] += later[:n, :n]
        _softmax_in_place(p)
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


def _blocks(time: int, block: int, causal: bool) -> Iterator[tuple[slice, slice]]:
    """Blocks of queries, each with the keys that any of them sees."""
    for start in range(0, time, block):
        stop = min(start + block, time)
        yield slice(start, stop), slice(0, stop if causal else time)


def _softmax_in_place(scores: Array) -> None:
    """Scores become weights, without another array of their size."""
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= (scores @ np.ones(scores.shape[-1], scores.dtype))[..., None]


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

    Raises:
        ValueError: the last axis is no multiple of three times the heads.
    """
    if qkv.shape[-1] % (3 * heads):
        raise ValueError(
            f"packed_attention: the last axis holds q, k and v of {heads} heads, so its size must "
            f"be a multiple of {3 * heads}, got {qkv.shape[-1]}"
        )
    return _packed_attention(qkv, heads=heads, causal=causal, block=block)
