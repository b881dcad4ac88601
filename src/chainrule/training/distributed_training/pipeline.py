"""Pipeline parallelism: every worker has some of the layers, and micro-batches pass through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.neural_networks.backpropagation import Module, ModuleList, Tensor, grad
from chainrule.shapes import Array
from chainrule.training.distributed_training.collectives import all_reduce, chunks
from chainrule.training.distributed_training.schedules import Action
from chainrule.training.distributed_training.world import Communicator, Group, Worker
from chainrule.transformers.gpt import GPT

__all__ = ["PipelineStage", "run_pipeline"]


class PipelineStage(Module):
    """One worker's layers of a GPT: the first also embeds, the last also predicts.

    A tied table stands on both; `share_table` adds up its two gradients.

    Raises:
        ValueError: fewer layers than workers.
    """

    def __init__(self, worker: Communicator, whole: GPT) -> None:
        if len(whole.blocks) < worker.size:
            raise ValueError(f"{len(whole.blocks)} layers are too few for {worker.size} workers")
        part = chunks(len(whole.blocks), worker.size)[worker.rank]
        first, last = worker.rank == 0, worker.rank == worker.size - 1
        self._worker, self._whole = worker, (whole,)
        self._first, self._last = first, last
        self.blocks = ModuleList(list(whole.blocks)[part])
        self.tokens = whole.tokens if first or (last and whole.head is None) else None
        self.positions = whole.positions if first else None
        self.norm = whole.norm if last else None
        self.head = whole.head if last else None

    def forward(self, x: Any) -> Tensor:
        """Return what this worker's layers make of ids (the first) or of the stream."""
        whole = self._whole[0]
        if self._first:
            x = whole.embed(x)
        for block in self.blocks:
            x = block(x)
        return whole.predict(x) if self._last else x

    def share_table(self) -> None:
        """Add up the gradients of a tied table's two uses, on the first and the last worker."""
        worker = self._worker
        if worker.size == 1 or self.tokens is None or self._whole[0].head is not None:
            return
        table = self.tokens.weight
        mine = np.zeros(table.shape, table.dtype) if table.grad is None else table.grad
        table.grad = all_reduce(Group(worker, (0, worker.size - 1)), mine)


def run_pipeline(
    worker: Communicator,
    stage: Module,
    actions: Sequence[Action],
    inputs: Sequence[Any],
    loss: Callable[[Tensor, int], Tensor],
    seconds: Mapping[str, float] | None = None,
) -> float:
    """Carry out this worker's actions, and leave on its parameters the gradient of all losses' sum.

    ``inputs`` are the micro-batches, read by the first worker; ``loss(output, i)`` is the loss of
    micro-batch i, called by the last. ``seconds`` of F, B and W move a simulated worker's clock.
    Returns the sum of the losses (0 but on the last worker).
    Equation: training/distributed-training.md#eq-pipeline

    Raises:
        ValueError: a schedule in laps: a stage is one piece of the model.
    """
    if any(action.chunk for action in actions):
        raise ValueError("run_pipeline: a worker has one stage, so its actions are of chunk 0")
    split = any(action.kind == "W" for action in actions)
    passes = _Passes(worker, stage, loss, split, seconds)
    total = 0.0
    for kind, i, _ in actions:
        if kind == "F":
            total += passes.forward(inputs[i], i)
        elif kind == "B":
            passes.backward(i)
        else:
            passes.weights(i)
    return total


class _Passes:
    """A worker's passes, and what it keeps of each micro-batch from one to the next.

    ``split`` says that the weights' gradients are computed later than what is sent back.
    """

    def __init__(
        self,
        worker: Communicator,
        stage: Module,
        loss: Callable[[Tensor, int], Tensor],
        split: bool,
        seconds: Mapping[str, float] | None,
    ) -> None:
        self.worker, self.stage, self.loss = worker, stage, loss
        self.split, self.seconds = split, seconds
        self.first, self.last = worker.rank == 0, worker.rank == worker.size - 1
        self.params = list(stage.parameters())
        self.held: dict[int, tuple[Any, Tensor, Array | None]] = {}

    def forward(self, x: Any, i: int) -> float:
        """F: what the stage makes goes on to the next worker; the last returns its loss."""
        if not self.first:
            x = Tensor(self.worker.receive(self.worker.rank - 1, ("F", i)), requires_grad=True)
        self._spend("F", i)
        y = self.stage(x)
        if self.last:
            y = self.loss(y, i)
        else:
            self.worker.send(self.worker.rank + 1, y.data, ("F", i))
        self.held[i] = x, y, None
        return y.item() if self.last else 0.0

    def backward(self, i: int) -> None:
        """B: the gradient of what the stage was given goes back to the worker before."""
        x, y, _ = self.held.pop(i)
        g = None if self.last else self.worker.receive(self.worker.rank + 1, ("B", i))
        self._spend("B", i)
        if self.split:
            self.held[i] = x, y, g
        else:
            y.backward(g)
        if not self.first:
            dx = grad(y, [x], g, retain_graph=True)[0] if self.split else x.grad
            assert dx is not None  # what a stage makes depends on what it was given
            self.worker.send(self.worker.rank - 1, dx, ("B", i))

    def weights(self, i: int) -> None:
        """W: the gradients of the stage's own parameters."""
        _, y, g = self.held.pop(i)
        self._spend("W", i)
        for p, share in zip(self.params, grad(y, self.params, g), strict=True):
            if share is not None:
                p.grad = share if p.grad is None else p.grad + share

    def _spend(self, kind: str, i: int) -> None:
        if self.seconds is not None and isinstance(self.worker, Worker):
            self.worker.compute(self.seconds[kind], f"{kind}{i}")
