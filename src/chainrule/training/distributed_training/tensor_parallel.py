"""Tensor parallelism: every worker has a part of every matrix, and all work on the same rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.neural_networks.backpropagation import (
    Linear,
    Module,
    Parameter,
    Tensor,
    linear,
    primitive,
    take,
)
from chainrule.shapes import Array, Float, Int
from chainrule.training.distributed_training.collectives import all_reduce, chunks
from chainrule.training.distributed_training.operations import (
    copy_to,
    gather_from,
    reduce_from,
    scatter_to,
)
from chainrule.training.distributed_training.world import Communicator
from chainrule.transformers.gpt import GPT

__all__ = [
    "ColumnParallelLinear", "RowParallelLinear", "SequenceParallelNorm", "TensorParallelGPT",
    "VocabParallelEmbedding", "vocab_parallel_cross_entropy",
]  # fmt: skip


class ColumnParallelLinear(Module):
    """This worker's outputs of a linear layer: some rows of W, in the page's x Wᵀ some columns.

    ``rows`` says which, by default an even share. Every worker gets the same x; ``conjugate=False``
    leaves out adding up its gradients, where the input was gathered from pieces.
    Equation: training/distributed-training.md#eq-column-parallel. Source: Shoeybi et al. 2019,
    arXiv:1909.08053.
    """

    def __init__(
        self,
        worker: Communicator,
        whole: Linear,
        rows: Int[Array, "d_out"] | None = None,
        conjugate: bool = True,
    ) -> None:
        if rows is None:
            rows = np.arange(whole.out_features)[_share(worker, whole.out_features, "outputs")]
        self._worker, self._conjugate = worker, conjugate
        self.weight = Parameter(whole.weight.data[rows])
        self.bias = None if whole.bias is None else Parameter(whole.bias.data[rows])

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_part"]:
        """Return this worker's part of the output."""
        if self._conjugate:
            x = copy_to(x, worker=self._worker)
        return linear(x, self.weight, self.bias)


class RowParallelLinear(Module):
    """A linear layer of which each worker has the weights of some inputs; outputs are added up.

    The bias is added once, after the sum; every worker has all of it.
    Equation: training/distributed-training.md#eq-row-parallel
    """

    def __init__(
        self, worker: Communicator, whole: Linear, columns: Int[Array, "d_in"] | None = None
    ) -> None:
        if columns is None:
            columns = np.arange(whole.in_features)[_share(worker, whole.in_features, "inputs")]
        self._worker = worker
        self.weight = Parameter(whole.weight.data[:, columns])
        self.bias = None if whole.bias is None else Parameter(whole.bias.data.copy())

    def forward(self, x: Float[Tensor, "*batch d_part"]) -> Float[Tensor, "*batch d_out"]:
        """Return the whole output, the same on every worker."""
        y = reduce_from(linear(x, self.weight), worker=self._worker)
        return y if self.bias is None else y + self.bias


class VocabParallelEmbedding(Module):
    """A table of vectors of which each worker has the rows of some symbols."""

    def __init__(self, worker: Communicator, table: Float[Tensor, "vocab d"]) -> None:
        self._worker, self._symbols = worker, table.shape[0]
        part = chunks(table.shape[0], worker.size)[worker.rank]
        self.start, self.stop = part.start, part.stop
        self.weight = Parameter(table.data[part].copy())

    def forward(self, ids: Int[Array, "*shape"]) -> Float[Tensor, "*shape d"]:
        """Look up rows; ids outside the table raise ``IndexError``."""
        if ids.size and (ids.min() < 0 or ids.max() >= self._symbols):
            raise IndexError(
                f"ids reach from {ids.min()} to {ids.max()}, the table from 0 to "
                f"{self._symbols - 1}"
            )
        mine = (ids >= self.start) & (ids < self.stop)
        if self.start == self.stop:
            rows: Any = Tensor(np.zeros((*ids.shape, self.weight.shape[1]), self.weight.dtype))
        else:
            rows = take(self.weight, np.where(mine, ids - self.start, 0))
            rows = rows * mine[..., None].astype(rows.dtype)
        return reduce_from(rows, worker=self._worker)

    def score(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch part"]:
        """Return the scores of this worker's symbols: the table used a second time."""
        return linear(copy_to(x, worker=self._worker), self.weight)


@primitive
def vocab_parallel_cross_entropy(
    logits: Array, *, targets: Array, start: int, worker: Communicator
) -> Any:
    """Return −log p of each target, from the scores of this worker's symbols alone.

    Three numbers a position travel instead of all scores: the largest score, the sum of
    exponentials and the score of the target. ``start`` is the worker's first symbol.
    Equation: training/distributed-training.md#eq-vocab-parallel. Source: Shoeybi et al. 2019,
    arXiv:1909.08053.
    """
    rows = logits.reshape(targets.size, logits.shape[-1])
    top = all_reduce(worker, rows.max(axis=1, initial=-np.inf), np.maximum)
    p = np.exp(rows - top[:, None])
    ids = targets.reshape(-1) - start
    mine = (ids >= 0) & (ids < rows.shape[1])
    each = np.flatnonzero(mine)
    of_target = np.zeros(len(rows), rows.dtype)
    of_target[each] = rows[each, ids[each]]
    total, of_target = all_reduce(worker, np.stack([p.sum(axis=1), of_target]))
    p /= total[:, None]

    def vjp(g: Array) -> Any:
        gradient = p * g.reshape(-1)[:, None]
        gradient[each, ids[each]] -= g.reshape(-1)[each]
        return (gradient.reshape(logits.shape),)

    return (np.log(total) + top - of_target).reshape(targets.shape), vjp


class SequenceParallelNorm(Module):
    """A normalization of this worker's positions only; then all positions are put together.

    ``x`` is this worker's stretch of the sequence. Gradients of the norm's own parameters are this
    worker's contribution: add them up over the workers before the update.
    Equation: training/distributed-training.md#eq-sequence-parallel. Source: Korthikanti et al.
    2022, arXiv:2205.05198.
    """

    def __init__(self, worker: Communicator, norm: Module) -> None:
        self._worker, self.norm = worker, norm

    def forward(self, x: Float[Tensor, "batch part d"]) -> Float[Tensor, "batch time d"]:
        """Return all positions, normalized."""
        return gather_from(self.norm(x), worker=self._worker, axis=1)

    def back(self, x: Float[Tensor, "batch time d"]) -> Float[Tensor, "batch part d"]:
        """Return this worker's stretch of the sum of all workers' x."""
        return scatter_to(x, worker=self._worker, axis=1)


class TensorParallelGPT(Module):
    """A GPT of which this worker has some heads, some hidden units and some symbols.

    Cuts a whole model, which it uses up. Equation: training/distributed-training.md#eq-head-split

    Raises:
        ValueError: heads or hidden units do not divide among the workers, or the blocks are
            mixtures or the table is not tied, or the model has sinks, tables of values or shares
            of its first state.
    """

    def __init__(self, worker: Communicator, whole: GPT) -> None:
        config = whole.config
        if config.experts or not config.tied or config.logit_cap is not None:
            raise ValueError("TensorParallelGPT cuts dense models with a tied table and no cap")
        if config.sink or config.value_embeddings or config.x0_residual:
            raise ValueError(
                "TensorParallelGPT cuts models without sink, value_embeddings and x0_residual; "
                f"got {config.sink}, {config.value_embeddings} and {config.x0_residual}"
            )
        for what, n in (("heads", config.heads), ("key-value heads", config.groups)):
            if n % worker.size:
                raise ValueError(f"{n} {what} do not divide among {worker.size} workers")
        for block in whole.blocks:
            _cut_attention(worker, block.attention)
            feed_forward = block.feed_forward
            feed_forward.up = ColumnParallelLinear(worker, feed_forward.up)
            if feed_forward.gate is not None:
                feed_forward.gate = ColumnParallelLinear(worker, feed_forward.gate)
            feed_forward.down = RowParallelLinear(worker, feed_forward.down)
        assert whole.tokens is not None
        self._worker = worker
        self.tokens = VocabParallelEmbedding(worker, whole.tokens.weight)
        whole.tokens = self.tokens  # type: ignore[assignment]
        self.whole = whole

    def losses(
        self, ids: Int[Array, "batch time"], targets: Int[Array, "batch time"]
    ) -> Float[Tensor, "batch time"]:
        """Return −log p of each target, the same on every worker."""
        x = self.whole.embed(ids)
        for block in self.whole.blocks:
            x = block(x)
        scores = self.tokens.score(self.whole.norm(x))
        return vocab_parallel_cross_entropy(
            scores, targets=targets, start=self.tokens.start, worker=self._worker
        )


def _cut_attention(worker: Communicator, attention: Any) -> None:
    """Leave an attention layer this worker's heads."""
    d, p = attention.d_head, worker.size
    sizes = [attention.n_heads * d, attention.n_kv_heads * d, attention.n_kv_heads * d]
    starts = np.cumsum([0, *sizes[:-1]])
    rows = np.concatenate([
        start + np.arange(size)[worker.rank * size // p : (worker.rank + 1) * size // p]
        for start, size in zip(starts, sizes, strict=True)
    ])  # fmt: skip
    attention.qkv = ColumnParallelLinear(worker, attention.qkv, rows)
    attention.out = RowParallelLinear(worker, attention.out)
    attention.n_heads //= p
    attention.n_kv_heads //= p


def _share(worker: Communicator, n: int, what: str) -> slice:
    if n % worker.size:
        raise ValueError(f"{n} {what} do not divide among {worker.size} workers")
    return chunks(n, worker.size)[worker.rank]
