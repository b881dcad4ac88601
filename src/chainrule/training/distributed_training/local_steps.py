"""Workers that agree rarely: many steps of their own, then one outer step together."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from chainrule.neural_networks.backpropagation import Tensor
from chainrule.training.distributed_training.collectives import all_reduce
from chainrule.training.distributed_training.world import Communicator

__all__ = ["DiLoCo"]


class DiLoCo:
    """The outer step of workers that each train a whole model with an optimizer of their own.

    Call `agree` on all workers after every stretch of inner steps. What they have moved on average
    is taken for a gradient, and the weights that all started from follow it with Nesterov momentum.
    The inner optimizers keep their numbers. With ``rate`` 1 and ``momentum`` 0 the weights are the
    mean of the workers' weights.

    Equation: training/distributed-training.md#eq-diloco. Source: Douillard et al. 2023,
    arXiv:2311.08105, algorithm 1; their rate is 0.7, their momentum 0.9.
    """

    def __init__(
        self, worker: Communicator, params: Iterable[Tensor], rate: float = 0.7,
        momentum: float = 0.9,
    ) -> None:  # fmt: skip
        self.worker, self.params = worker, list(params)
        self.rate, self.momentum = rate, momentum
        self.start = [p.data.copy() for p in self.params]
        self.speed = [np.zeros_like(p.data) for p in self.params]

    def agree(self) -> None:
        """Take the outer step, and give every worker its result, in place."""
        moved = [start - p.data for start, p in zip(self.start, self.params, strict=True)]
        flat = np.concatenate([m.reshape(-1) for m in moved])
        flat = all_reduce(self.worker, flat) / flat.dtype.type(self.worker.size)
        at = 0
        for p, start, speed in zip(self.params, self.start, self.speed, strict=True):
            mean = flat[at : at + p.size].reshape(p.shape)
            at += p.size
            speed *= self.momentum
            speed += mean
            start -= self.rate * (mean + self.momentum * speed)
            p.data[...] = start
