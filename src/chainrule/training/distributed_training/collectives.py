"""What all workers do together: sums, collections and exchanges, made of messages in a ring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from chainrule.shapes import Array
from chainrule.training.distributed_training.world import Communicator

__all__ = [
    "all_gather", "all_reduce", "all_to_all", "barrier", "broadcast", "central_all_reduce",
    "chunks", "collective_bytes", "reduce_scatter", "ring_seconds",
]  # fmt: skip

Combine = Callable[[Array, Array], Array]


def chunks(n: int, workers: int) -> list[slice]:
    """Return where ``n`` entries are cut for ``workers``: sizes differ by at most 1.

    Raises:
        ValueError: no worker, or fewer than 0 entries.
    """
    if workers < 1 or n < 0:
        raise ValueError(f"chunks: n ≥ 0 entries for at least 1 worker, got {n} and {workers}")
    ends = [0]
    for i in range(workers):
        ends.append(ends[-1] + n // workers + (i < n % workers))
    return [slice(a, b) for a, b in pairwise(ends)]


def _pieces(array: Array, workers: int, axis: int) -> list[Array]:
    if array.ndim == 0:
        raise ValueError("a collective cuts an axis, got an array without axes")
    moved = np.moveaxis(array, axis, 0)
    return [np.moveaxis(moved[part], 0, axis) for part in chunks(len(moved), workers)]


def reduce_scatter(
    worker: Communicator, array: Array, axis: int = 0, combine: Combine = np.add
) -> Array:
    """Return this worker's piece of the sum of all workers' arrays.

    The pieces travel round the ring and collect a contribution at every stop: p − 1 steps. Each
    piece is added up in one order at one place.
    Equation: training/distributed-training.md#eq-reduce-scatter
    """
    r, p = worker.rank, worker.size
    pieces = [np.array(piece) for piece in _pieces(array, p, axis)]
    for step in range(p - 1):
        out, into = (r - step - 1) % p, (r - step - 2) % p
        worker.send((r + 1) % p, pieces[out], ("reduce", step, out))
        arrived = worker.receive((r - 1) % p, ("reduce", step, into))
        _same_shape(worker, arrived, pieces[into])
        pieces[into] = combine(arrived, pieces[into])
    return pieces[r]


def all_gather(worker: Communicator, piece: Array, axis: int = 0) -> Array:
    """Return all workers' pieces side by side, in the order of the workers: p − 1 steps.

    Equation: training/distributed-training.md#eq-all-gather
    """
    if np.ndim(piece) == 0:
        raise ValueError("a collective joins along an axis, got an array without axes")
    r, p = worker.rank, worker.size
    pieces: list[Any] = [None] * p
    pieces[r] = np.array(piece)
    for step in range(p - 1):
        out, into = (r - step) % p, (r - step - 1) % p
        worker.send((r + 1) % p, pieces[out], ("gather", step, out))
        pieces[into] = worker.receive((r - 1) % p, ("gather", step, into))
    return np.concatenate(pieces, axis=axis)


def all_reduce(worker: Communicator, array: Array, combine: Combine = np.add) -> Array:
    """Return the sum of all workers' arrays, the same bits on each: two times round the ring.

    Equation: training/distributed-training.md#eq-all-reduce. Source: Patarasuk and Yuan 2009,
    Bandwidth optimal all-reduce algorithms for clusters of workstations,
    doi:10.1016/j.jpdc.2008.09.002.
    """
    array = np.asarray(array)
    mine = reduce_scatter(worker, array.reshape(-1), combine=combine)
    return all_gather(worker, mine).reshape(array.shape)


def central_all_reduce(worker: Communicator, array: Array) -> Array:
    """Return the same sum by way of worker 0, whose link carries everything."""
    array = np.array(array)
    if worker.rank:
        worker.send(0, array, "up")
        return worker.receive(0, "down")
    for other in range(1, worker.size):
        array += worker.receive(other, "up")
    for other in range(1, worker.size):
        worker.send(other, array, "down")
    return array


def all_to_all(worker: Communicator, parts: Sequence[Array]) -> list[Array]:
    """Give ``parts[i]`` to worker i and return what each worker gave to this one.

    Raises:
        ValueError: there is not one part for each worker.
    """
    r, p = worker.rank, worker.size
    if len(parts) != p:
        raise ValueError(f"all_to_all needs a part for each of {p} workers, got {len(parts)}")
    received: list[Any] = [None] * p
    received[r] = np.array(parts[r])
    for step in range(1, p):
        worker.send((r + step) % p, parts[(r + step) % p], ("exchange", step))
    for step in range(1, p):
        received[(r - step) % p] = worker.receive((r - step) % p, ("exchange", step))
    return received


def broadcast(worker: Communicator, array: Array | None, root: int = 0) -> Array:
    """Return the root's array on every worker, handed on round the ring."""
    r, p = worker.rank, worker.size
    if r == root:
        if array is None:
            raise ValueError(f"worker {root} broadcasts an array, got None")
        array = np.array(array)
    else:
        array = worker.receive((r - 1) % p, "broadcast")
    if (r + 1) % p != root:
        worker.send((r + 1) % p, array, "broadcast")
    return array


def barrier(worker: Communicator) -> None:
    """Return when every worker has come here."""
    all_reduce(worker, np.zeros(worker.size))


def collective_bytes(kind: str, size: float, workers: int) -> float:
    """Return the bytes that each worker sends for an array of ``size`` bytes.

    ``kind`` is all_reduce, reduce_scatter, all_gather or all_to_all; ``size`` is that of the whole
    array (of what one worker holds before an all_to_all), cut evenly.
    Equation: training/distributed-training.md#eq-collective-bytes
    """
    times = {"all_reduce": 2, "reduce_scatter": 1, "all_gather": 1, "all_to_all": 1}
    if kind not in times:
        raise ValueError(f"kind is one of {tuple(times)}, not {kind!r}")
    return times[kind] * (workers - 1) / workers * size


def ring_seconds(kind: str, size: float, workers: int, latency: float, bandwidth: float) -> float:
    """Return how long a ring takes: p − 1 steps (an all_reduce 2p − 2) with one piece each.

    Equation: training/distributed-training.md#eq-ring-time
    """
    steps = (2 if kind == "all_reduce" else 1) * (workers - 1)
    return steps * latency + collective_bytes(kind, size, workers) / bandwidth


def _same_shape(worker: Communicator, arrived: Array, own: Array) -> None:
    if arrived.shape != own.shape:
        raise ValueError(
            f"worker {worker.rank} adds pieces of one shape: it has {own.shape}, "
            f"and {arrived.shape} arrived"
        )
