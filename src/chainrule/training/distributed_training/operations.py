"""Collectives inside a model: four operations, two pairs, each the VJP of its partner."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.neural_networks.backpropagation import primitive
from chainrule.shapes import Array
from chainrule.training.distributed_training.collectives import (
    all_gather,
    all_reduce,
    reduce_scatter,
)
from chainrule.training.distributed_training.world import Communicator

__all__ = ["copy_to", "gather_from", "reduce_from", "scatter_to"]


@primitive
def copy_to(x: Array, *, worker: Communicator) -> Any:
    """Return x, the same on every worker; the gradients of all workers are added up.

    Where one row feeds many workers. Written f by Shoeybi et al. 2019, arXiv:1909.08053.
    Equation: training/distributed-training.md#eq-conjugate
    """
    return np.array(x), lambda g: (all_reduce(worker, g),)


@primitive
def reduce_from(x: Array, *, worker: Communicator) -> Any:
    """Return the sum of all workers' x; the gradient passes unchanged.

    Where many workers' parts become one row. Written g by Shoeybi et al. 2019, arXiv:1909.08053.
    Equation: training/distributed-training.md#eq-conjugate
    """
    return all_reduce(worker, x), lambda g: (np.array(g),)


@primitive
def gather_from(x: Array, *, worker: Communicator, axis: int = 0) -> Any:
    """Return all workers' pieces side by side; of the added gradients each takes its piece.

    Equation: training/distributed-training.md#eq-gather-scatter
    """
    return all_gather(worker, x, axis), lambda g: (reduce_scatter(worker, g, axis),)


@primitive
def scatter_to(x: Array, *, worker: Communicator, axis: int = 0) -> Any:
    """Return this worker's piece of the sum; the pieces of the gradient are put together.

    Equation: training/distributed-training.md#eq-gather-scatter
    """
    return reduce_scatter(worker, x, axis), lambda g: (all_gather(worker, g, axis),)
