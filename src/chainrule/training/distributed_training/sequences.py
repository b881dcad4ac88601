"""Splits along the sequence and among experts: keys that travel in a ring, tokens that travel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.neural_networks.backpropagation import Tensor, primitive
from chainrule.shapes import Array, Float, Int
from chainrule.training.distributed_training.collectives import all_to_all
from chainrule.training.distributed_training.world import Communicator
from chainrule.transformers.attention.streaming import SoftmaxState, merge_states

__all__ = ["causal_load", "expert_dispatch", "ring_attention", "sequence_parts"]


def sequence_parts(n: int, workers: int, zigzag: bool = True) -> list[Int[Array, "part"]]:
    """Return each worker's positions: a stretch, or (``zigzag``) one of 2p from each end.

    Raises:
        ValueError: the positions do not divide.
    """
    pieces = workers * (2 if zigzag else 1)
    if n % pieces:
        raise ValueError(f"{n} positions do not divide into {pieces} pieces")
    stretches = np.split(np.arange(n), pieces)
    if not zigzag:
        return stretches
    return [np.concatenate([stretches[i], stretches[-1 - i]]) for i in range(workers)]


def causal_load(parts: list[Int[Array, "part"]]) -> list[float]:
    """Return how many scores each worker computes under a causal mask, the mean being 1.

    Equation: training/distributed-training.md#eq-causal-load
    """
    scores = [float(np.sum(part + 1)) for part in parts]
    return [s * len(scores) / sum(scores) for s in scores]


def ring_attention(
    q: Float[Tensor, "*batch part d"],
    k: Float[Tensor, "*batch part d"],
    v: Float[Tensor, "*batch part d"],
    worker: Communicator,
    positions: list[Int[Array, "part"]] | None = None,
) -> Float[Tensor, "*batch part d"]:
    """Return the attention of this worker's queries to the keys of all workers.

    Keys and values travel round the ring, and what each block contributes is merged into the
    softmax. With ``positions``, those of every worker, the attention is causal. The backward pass
    sends keys and values round once more, and their gradients with them.
    Equation: training/distributed-training.md#eq-ring-attention. Source: Liu et al. 2023,
    arXiv:2310.01889.
    """
    return _ring_attention(q, k, v, worker=worker, positions=positions)


@primitive
def _ring_attention(q: Array, k: Array, v: Array, *, worker: Communicator, positions: Any) -> Any:
    r, p = worker.rank, worker.size
    scale = 1 / math.sqrt(q.shape[-1])

    def scores(keys: Array, owner: int) -> Array:
        s = scale * (q @ keys.swapaxes(-1, -2))
        if positions is not None:
            s = np.where(positions[owner] <= positions[r][:, None], s, -np.inf)
        return s

    state, moving = None, [k, v]
    for step in range(p):
        block = _block_state(scores(moving[0], (r - step) % p), moving[1])
        state = block if state is None else merge_states(state, block)
        if step < p - 1:
            moving = _pass_on(worker, moving, step)
    assert state is not None
    out = state.accumulator / state.total
    lse = state.maximum + np.log(state.total)

    def vjp(g: Array) -> Any:
        row_sums = (g * out).sum(axis=-1, keepdims=True)
        dq = np.zeros_like(q)
        moving = [k, v, np.zeros_like(k), np.zeros_like(v)]
        for step in range(p):
            keys, values, dk, dv = moving
            weights = np.exp(scores(keys, (r - step) % p) - lse)
            ds = scale * weights * (g @ values.swapaxes(-1, -2) - row_sums)
            dq += ds @ keys
            moving = [
                keys, values, dk + ds.swapaxes(-1, -2) @ q, dv + weights.swapaxes(-1, -2) @ g
            ]  # fmt: skip
            if step < p - 1:
                moving = _pass_on(worker, moving, step)
        if p > 1:  # after p − 1 steps a gradient is one step away from its keys
            moving[2:] = _pass_on(worker, moving[2:], p - 1)
        return dq, moving[2], moving[3]

    return out, vjp


def _pass_on(worker: Communicator, arrays: list[Array], step: int) -> list[Array]:
    """Send arrays to the next worker of the ring, and return those of the one before."""
    after, before = (worker.rank + 1) % worker.size, (worker.rank - 1) % worker.size
    for i, array in enumerate(arrays):
        worker.send(after, array, ("ring", step, i))
    return [worker.receive(before, ("ring", step, i)) for i in range(len(arrays))]


def _block_state(scores: Array, values: Array) -> Any:
    maximum = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isneginf(maximum), 0, maximum))
    return SoftmaxState(maximum, weights.sum(axis=-1, keepdims=True), weights @ values)


def expert_dispatch(
    worker: Communicator,
    tokens: Float[Array, "tokens d"],
    chosen: Int[Array, "tokens"],
    experts: int,
    expert: Callable[[int, Array], Array],
) -> Float[Array, "tokens d"]:
    """Send each token to the worker of its expert and return what the experts made of them.

    Worker i has the experts i · experts / p and on; ``expert(e, rows)`` is called there, once for
    each of them. Two exchanges of all with all: there and back.
    Equation: training/distributed-training.md#eq-expert-parallel. Source: Lepikhin et al. 2020,
    arXiv:2006.16668.

    Raises:
        ValueError: experts do not divide among the workers, or one is chosen that is not there.
    """
    p = worker.size
    if experts % p:
        raise ValueError(f"{experts} experts do not divide among {p} workers")
    if chosen.size and (chosen.min() < 0 or chosen.max() >= experts):
        raise ValueError(
            f"experts are 0 to {experts - 1}, chosen were {chosen.min()} to {chosen.max()}"
        )
    each = experts // p
    order = np.argsort(chosen, kind="stable")
    sorted_experts = chosen[order]
    ends = np.searchsorted(sorted_experts, each * np.arange(1, p))
    rows = all_to_all(worker, np.split(tokens[order], ends))
    names = all_to_all(worker, np.split(sorted_experts, ends))
    arrived, wanted = np.concatenate(rows), np.concatenate(names)
    results = np.zeros_like(arrived)
    for e in range(worker.rank * each, (worker.rank + 1) * each):
        mine = wanted == e
        if mine.any():
            results[mine] = expert(e, arrived[mine])
    back = np.split(results, np.cumsum([len(part) for part in rows])[:-1])
    answers = np.zeros_like(tokens)
    answers[order] = np.concatenate(all_to_all(worker, back))
    return answers
