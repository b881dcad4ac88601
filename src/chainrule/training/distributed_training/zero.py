"""ZeRO: nobody keeps what another worker keeps already; its third stage is FSDP.

Every parameter is cut along its first axis, and worker i keeps the i-th piece of what its stage
cuts: 1 the optimizer's numbers, 2 the gradients too, 3 the parameters too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from chainrule.neural_networks.backpropagation import (
    Module,
    Parameter,
    Tensor,
    checkpoint,
)
from chainrule.training.distributed_training.collectives import (
    all_gather,
    all_reduce,
    chunks,
    reduce_scatter,
)
from chainrule.training.distributed_training.operations import gather_from
from chainrule.training.distributed_training.world import Communicator
from chainrule.training.optimizers import Optimizer

__all__ = ["FullySharded", "Zero", "zero_bytes", "zero_traffic"]


def zero_bytes(
    parameters: float, workers: int, stage: int, weight: int = 2, gradient: int = 2, state: int = 12
) -> float:
    """Return the bytes a worker holds for weights, gradients and optimizer.

    ``weight``, ``gradient`` and ``state`` are bytes a parameter: 2, 2 and 12 for 16-bit weights
    and gradients with Adam's master weights, means and mean squares in 32 bits.
    Equation: training/distributed-training.md#eq-zero-bytes. Source: Rajbhandari et al. 2019,
    arXiv:1910.02054, figure 1.

    Raises:
        ValueError: the stage is not 0, 1, 2 or 3.
    """
    _check_stage(stage)
    parts = [(weight, 3), (gradient, 2), (state, 1)]
    return parameters * sum(size / (workers if stage >= cut else 1) for size, cut in parts)


def zero_traffic(size: float, workers: int, stage: int, micro_batches: int = 1) -> float:
    """Return the bytes each worker sends in a step, for parameters of ``size`` bytes.

    Without a stage, and in stage 1, gradients travel once a step; stages 2 and 3 do not keep them
    whole, so they travel after each micro-batch; stage 3 collects the parameters for each forward
    and for each backward pass. Equation: training/distributed-training.md#eq-zero-traffic
    """
    _check_stage(stage)
    rounds = [2, 2, micro_batches + 1, 3 * micro_batches][stage]
    return rounds * (workers - 1) / workers * size


class Zero:
    """An optimizer whose numbers lie on all workers, for a model that is whole on each.

    ``make_optimizer`` gets this worker's pieces, as parameters with the axes of the whole ones, and
    returns an optimizer. After every backward pass of a **sum** of losses call `collect`, then
    `step`. Stage 2 drops whole gradients in `collect`; stage 1 keeps them until `step`.

    Raises:
        ValueError: the stage is not 1 or 2 (stage 3 changes the model: `FullySharded`).
    """

    def __init__(
        self,
        worker: Communicator,
        params: Iterable[Tensor],
        stage: int,
        make_optimizer: Callable[[list[Tensor]], Optimizer],
    ) -> None:
        if stage not in (1, 2):
            raise ValueError(f"Zero: stage is 1 or 2, not {stage}")
        self.worker, self.stage = worker, stage
        self.params = [_with_rows(p) for p in params]
        self.pieces = [_piece(worker, p) for p in self.params]
        self.optimizer = make_optimizer([piece for piece in self.pieces if piece.size])
        self.tokens = 0

    def collect(self, tokens: int) -> None:
        """Take the gradients of a micro-batch of ``tokens`` into account."""
        self.tokens += tokens
        if self.stage == 2:
            self._reduce()

    def _reduce(self) -> None:
        for p, piece in zip(self.params, self.pieces, strict=True):
            whole = np.zeros(p.shape, p.dtype) if p.grad is None else p.grad
            mine = reduce_scatter(self.worker, whole)
            piece.grad = mine if piece.grad is None else piece.grad + mine
            p.grad = None

    def step(self) -> None:
        """Average over all tokens, update this worker's pieces, and collect everybody's.

        Raises:
            ValueError: no worker has had a token since the last step.
        """
        if self.stage == 1:
            self._reduce()
        average_pieces(self.worker, self.pieces, self.tokens)
        self.tokens = 0
        self.optimizer.step()
        for p, piece in zip(self.params, self.pieces, strict=True):
            p.data[...] = all_gather(self.worker, piece.data)
            piece.grad = None


def average_pieces(worker: Communicator, pieces: Sequence[Tensor], tokens: int) -> None:
    """Divide the gradients of this worker's pieces by the number of all workers' tokens.

    Raises:
        ValueError: there is no token on any worker.
    """
    total = int(all_reduce(worker, np.array([tokens], np.int64))[0])
    if total == 0:
        raise ValueError("no worker has a token, so there is no mean")
    for piece in pieces:
        if piece.grad is not None:
            piece.grad = piece.grad / piece.dtype.type(total)


class FullySharded(Module):
    """A unit of a model that keeps only this worker's piece of each of its parameters.

    For each pass the pieces of all workers are put together, used, and forgotten; the backward pass
    puts them together once more and computes the unit's insides again. The gradient of a piece is
    the sum over all workers' batches. ``forward(name, x)`` calls a method of the unit.

    Equation: training/distributed-training.md#eq-fully-sharded. Sources: Rajbhandari et al. 2019,
    arXiv:1910.02054 (stage 3); Zhao et al. 2023, arXiv:2304.11277.
    """

    def __init__(self, worker: Communicator, unit: Module) -> None:
        self._worker, self._unit = (worker,), (unit,)  # in tuples: no part of this module's tree
        places = [(module, name) for module in unit.modules() for name in _own(module)]
        shared: dict[int, Parameter] = {}
        self._places: list[tuple[Module, str, int]] = []
        for module, name in places:
            whole = vars(module)[name]
            if id(whole) not in shared:
                shared[id(whole)] = _piece(worker, _with_rows(whole))
                setattr(self, f"piece{len(shared) - 1}", shared[id(whole)])
            self._places.append((module, name, list(shared).index(id(whole))))
        self._pieces = tuple(shared.values())
        for module, name, _ in self._places:
            vars(module)[name] = None

    def forward(self, x: Any, method: str = "forward") -> Tensor:
        """Return what the unit's method makes of ``x``."""
        return checkpoint(lambda x, *pieces: self._run(method, x, pieces), x, *self._pieces)

    def _run(self, method: str, x: Any, pieces: Sequence[Tensor]) -> Tensor:
        whole = [gather_from(piece, worker=self._worker[0]) for piece in pieces]
        for module, name, index in self._places:
            vars(module)[name] = whole[index]
        try:
            return getattr(self._unit[0], method)(x)
        finally:
            for module, name, _ in self._places:
                vars(module)[name] = None


def _own(module: Module) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, Parameter)]


def _piece(worker: Communicator, p: Tensor) -> Parameter:
    return Parameter(p.data[chunks(len(p.data), worker.size)[worker.rank]].copy())


def _with_rows(p: Tensor) -> Tensor:
    if p.ndim == 0:
        raise ValueError("ZeRO cuts parameters along their first axis, got one without axes")
    return p


def _check_stage(stage: int) -> None:
    if stage not in (0, 1, 2, 3):
        raise ValueError(f"ZeRO's stage is 0, 1, 2 or 3, not {stage}")
