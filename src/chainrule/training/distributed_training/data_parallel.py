"""Data parallelism: every worker has the whole model and a part of the batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from chainrule.neural_networks.backpropagation import Module, Tensor
from chainrule.shapes import Array
from chainrule.training.distributed_training.collectives import (
    all_reduce,
    broadcast,
    ring_seconds,
)
from chainrule.training.distributed_training.world import Communicator, Link

__all__ = ["average_gradients", "broadcast_parameters", "buckets", "overlapped_seconds"]


def broadcast_parameters(worker: Communicator, model: Module, root: int = 0) -> None:
    """Give every worker the parameters of one, in place."""
    for p in model.parameters():
        p.data[...] = broadcast(worker, p.data if worker.rank == root else None, root)


def average_gradients(
    worker: Communicator, params: Iterable[Tensor], tokens: int, bucket_bytes: float = float("inf")
) -> int:
    """Turn gradients of each worker's **sum** of losses into the gradient of the mean over all.

    Each worker has its own number of ``tokens``; sums are added up and divided by all tokens, once.
    A parameter without a gradient on this worker counts as 0. Gradients travel in buckets of at
    most ``bucket_bytes``, the last parameters first. Returns the number of all tokens.

    Equation: training/distributed-training.md#eq-data-parallel

    Raises:
        ValueError: there is no token on any worker.
    """
    params = list(params)
    total = int(all_reduce(worker, np.array([tokens], np.int64))[0])
    if total == 0:
        raise ValueError("average_gradients: no worker has a token, so there is no mean")
    for bucket in buckets(params, bucket_bytes):
        flat = np.concatenate([_gradient(p).reshape(-1) for p in bucket])
        flat = all_reduce(worker, flat) / flat.dtype.type(total)
        start = 0
        for p in bucket:
            p.grad = flat[start : start + p.size].reshape(p.shape)
            start += p.size
    return total


def buckets(params: Sequence[Tensor], bucket_bytes: float) -> list[list[Tensor]]:
    """Return the parameters in groups of one type and at most ``bucket_bytes``, last first.

    The backward pass finishes the last parameters first, so their sum can travel while it goes on.
    A parameter above the limit is a group by itself.
    """
    groups: list[list[Tensor]] = []
    room = 0.0
    for p in reversed(params):
        size = p.data.nbytes
        if not groups or size > room or p.dtype != groups[-1][0].dtype:
            groups.append([])
            room = bucket_bytes
        groups[-1].append(p)
        room -= size
    return groups


def overlapped_seconds(
    computed: Sequence[float], sizes: Sequence[float], workers: int, link: Link
) -> float:
    """Return when the last bucket's sum is there, counted from the start of the backward pass.

    Bucket i is ready ``computed[i]`` seconds after the one before it and has ``sizes[i]`` bytes;
    sums travel one after the other while the next bucket is computed.
    Equation: training/distributed-training.md#eq-overlap

    Raises:
        ValueError: there is not one size for each time.
    """
    if len(computed) != len(sizes):
        raise ValueError(f"a size for each of {len(computed)} buckets, got {len(sizes)}")
    ready = free = 0.0
    for seconds, size in zip(computed, sizes, strict=True):
        ready += seconds
        travel = ring_seconds("all_reduce", size, workers, link.latency, link.bandwidth)
        free = max(ready, free) + travel
    return max(ready, free)


def _gradient(p: Tensor) -> Array:
    return np.zeros(p.shape, p.dtype) if p.grad is None else p.grad
