"""Softmax in one pass: states that merge, and attention that never holds all its weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from chainrule.neural_networks.backpropagation import Tensor, primitive, sum_to
from chainrule.neural_networks.backpropagation.promotion import wide
from chainrule.shapes import Array, Float
from chainrule.transformers.attention.retrieval import Sink


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
    """Return the state of one block of keys.

    Equation: transformers/attention.md#eq-softmax-state
    """
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

    Raises:
        ValueError: there is no block.
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


# ---- attention in blocks -----------------------------------------------------------------------


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
    q: Array, k: Array, v: Array, sink: Array | None, out: Array, lse: Array,
    block: int, causal: bool,
) -> None:  # fmt: skip
    """Write softmax(q kᵀ) v to ``out`` and the log-sum-exp of the scores to ``lse``."""
    offset = k.shape[-2] - q.shape[-2] if causal else None
    maximum = np.full(lse.shape, -np.inf, q.dtype)
    total = np.zeros(lse.shape, q.dtype)
    if sink is not None:  # one key more, whose value is 0
        maximum[...] = np.broadcast_to(sink, (*lse.shape, 1))[..., 0]
        total[...], out[...] = 1, 0
    for rows, columns in _blocks(q.shape[-2], k.shape[-2], block, causal):
        p = _scores(q, k, rows, columns, offset)
        top = np.maximum(p.max(axis=-1), maximum[..., rows])
        p -= top[..., None]
        np.exp(p, out=p)
        sums = p @ np.ones(p.shape[-1], p.dtype)
        if columns.start == 0 and sink is None:
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
    g: Array, q: Array, k: Array, v: Array, row_sums: Array, lse: Array,
    dq: Array, dk: Array, dv: Array, block: int, causal: bool,
) -> None:  # fmt: skip
    """Fill the gradients, with each block of weights computed again from ``lse``.

    With P the weights and D the row sums of g ∘ out: dV = Pᵀ g, dS = P ∘ (g Vᵀ − D),
    dQ = dS K, dK = dSᵀ Q.
    """
    offset = k.shape[-2] - q.shape[-2] if causal else None
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
    q: Array, k: Array, v: Array, sink: Array | None = None, *,
    lse: Array, scale: float, block: int, causal: bool,
) -> Any:  # fmt: skip
    scaled = q * q.dtype.type(scale)
    out = np.empty((*q.shape[:-1], v.shape[-1]), q.dtype)
    _flash_forward(scaled, k, v, sink, out, lse, block, causal)

    def vjp(g: Array) -> Any:
        dq, dk, dv = (np.empty(x.shape, q.dtype) for x in (q, k, v))
        row_sums = np.einsum("...td,...td->...t", g, out)
        _flash_backward(g, scaled, k, v, row_sums, lse, dq, dk, dv, block, causal)
        dq *= q.dtype.type(scale)
        if sink is None:
            return dq, dk, dv, None
        return dq, dk, dv, sum_to(-np.exp(sink - lse[..., None]) * row_sums[..., None], sink.shape)

    return out, vjp


def flash_attention(
    q: Float[Tensor, "*batch queries d_k"],
    k: Float[Tensor, "*batch keys d_k"],
    v: Float[Tensor, "*batch keys d_v"],
    block: int = 128,
    causal: bool = False,
    scale: float | None = None,
    sink: Sink | None = None,
) -> tuple[Float[Tensor, "*batch queries d_v"], Float[Array, "*batch queries"]]:
    """Return the output of attention and the log-sum-exp of each query's scores.

    Scores exist for one block of queries and keys at a time, in the forward pass and again
    in the backward pass. ``causal`` lets query i of n see keys up to i + (keys − n), and
    skips the blocks above that diagonal. ``sink`` is that of `masked_softmax`, and counts in the
    log-sum-exp. Equation: transformers/attention.md#eq-flash-backward. Source: Dao et al. 2022,
    arXiv:2205.14135.

    Raises:
        ValueError: leading axes differ, there is no key, or fewer keys than causal queries, or no
            room in a block.
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
    if block < 1:
        raise ValueError(f"flash_attention: a block holds at least one position, got {block}")
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    lse = np.empty(q.shape[:-1], wide(q.dtype))
    options: dict[str, Any] = {"lse": lse, "scale": scale, "block": block, "causal": causal}
    if sink is None:
        return _flash_attention(q, k, v, **options), lse
    if not isinstance(sink, Tensor):
        sink = Tensor(np.asarray(sink, q.dtype))
    return _flash_attention(q, k, v, sink, **options), lse


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

    Raises:
        ValueError: ``sram`` does not hold a block of one query.
    """
    room = sram // element
    block = int(math.sqrt(4 * d * d + room) - 2 * d)  # the largest b with 4bd + b² ≤ room
    if block < 1:
        needed = element * (4 * d + 1)
        raise ValueError(f"{sram} bytes hold no block: one position of size {d} needs {needed}")
    dense = 4 * n * d + 4 * n * n
    flash = 2 * n * d + n + math.ceil(n / block) * 2 * n * d
    return AttentionBytes(dense * element, flash * element)
