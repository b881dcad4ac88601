"""Mini-batches: drawing them, padding or packing ragged sequences, and adding up their gradients.

Taught in ``training/batching.md``. A batch is an array of positions in a data set. Shape names:
``n`` sequences of a batch, ``longest`` the length of the longest, ``time`` positions in a row,
``rows`` packed rows, ``d`` numbers of a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from chainrule.neural_networks.backpropagation import Tensor
from chainrule.shapes import Array, Bool, Float, Int

__all__ = [
    "BatchSampler",
    "NoiseScale",
    "accumulate",
    "bucket_batches",
    "gradient_noise_scale",
    "pack_batch",
    "pack_best_fit",
    "pack_first_fit",
    "packed_positions",
    "packed_targets",
    "pad_batch",
    "padding_waste",
    "steps_needed",
    "token_budget_batches",
]

Batch = TypeVar("Batch")


# ---- drawing ---------------------------------------------------------------------------------


class BatchSampler:
    """Batches of positions 0 … n − 1, in a new random order every epoch.

    Iterating runs to the end of the present epoch: after a restart from `state_dict` that is the
    rest of it, to the last bit what an uninterrupted run would have drawn. Give it a generator
    of its own, or save that generator only once.

    Raises:
        ValueError: ``n`` or ``batch_size`` is below 1, or ``drop_last`` leaves no batch.
    """

    def __init__(self, n: int, batch_size: int, rng: np.random.Generator, drop_last: bool = False):
        if n < 1 or batch_size < 1:
            raise ValueError(
                f"BatchSampler: n and batch_size must be at least 1, got {n}, {batch_size}"
            )
        if drop_last and batch_size > n:
            raise ValueError(
                f"BatchSampler: drop_last leaves nothing of {n} examples in batches of {batch_size}"
            )
        self.n, self.batch_size, self.drop_last = n, batch_size, drop_last
        self.rng = rng
        self.epoch = 0
        self.position = 0
        self.order: Array | None = None

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        if self.drop_last:
            return self.n // self.batch_size
        return -(-self.n // self.batch_size)

    def __iter__(self) -> Iterator[Int[Array, "batch"]]:
        if self.order is None:
            self.order = self.rng.permutation(self.n)
        order, end = self.order, min(self.n, len(self) * self.batch_size)
        while self.position < end:
            start = self.position
            self.position = min(start + self.batch_size, end)
            yield order[start : self.position]
        self.epoch, self.position, self.order = self.epoch + 1, 0, None

    def state_dict(self) -> dict[str, Any]:
        """All that the coming batches depend on: the order, the place in it, the generator."""
        return {
            "n": self.n,
            "batch_size": self.batch_size,
            "epoch": self.epoch,
            "position": self.position,
            "order": None if self.order is None else self.order.copy(),
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`; one of another data set or batch size is refused."""
        if (state["n"], state["batch_size"]) != (self.n, self.batch_size):
            raise ValueError(
                f"BatchSampler: the state is for n={state['n']}, batch_size={state['batch_size']}, "
                f"expected n={self.n}, batch_size={self.batch_size}"
            )
        self.epoch, self.position = state["epoch"], state["position"]
        self.order = None if state["order"] is None else np.array(state["order"])
        self.rng.bit_generator.state = state["rng"]


# ---- padding ---------------------------------------------------------------------------------


def pad_batch(
    seqs: Sequence[Sequence[int] | Array], pad: int = 0
) -> tuple[Int[Array, "n longest"], Bool[Array, "n longest"]]:
    """Sequences as rows of one array, filled up with ``pad``, and a mask that is true where real.

    Raises:
        ValueError: there are no sequences.
    """
    if len(seqs) == 0:
        raise ValueError("pad_batch: expected at least one sequence, got none")
    ids = np.full((len(seqs), max(len(s) for s in seqs)), pad, dtype=np.int64)
    mask = np.zeros(ids.shape, dtype=bool)
    for row, s in enumerate(seqs):
        ids[row, : len(s)] = s
        mask[row, : len(s)] = True
    return ids, mask


def padding_waste(lengths: Int[Array, "sequences"], batches: Iterable[Array]) -> float:
    """The share of positions that are padding when each batch is padded to its longest.

    Equation: training/batching.md#eq-padding-waste
    """
    real = padded = 0
    for batch in batches:
        real += int(lengths[batch].sum())
        padded += len(batch) * int(lengths[batch].max())
    return 1 - real / padded if padded else 0.0


def bucket_batches(
    lengths: Int[Array, "sequences"],
    width: int,
    batch_size: int = 32,
    rng: np.random.Generator | None = None,
) -> list[Int[Array, "batch"]]:
    """Batches whose sequences all fall in one bucket: lengths 1 … width, width + 1 … 2·width, …

    With ``rng`` the order inside buckets and the order of batches are random; without, short
    batches come first, and a model would see all short sequences before any long one.

    Raises:
        ValueError: ``width`` or ``batch_size`` is below 1.
    """
    if width < 1 or batch_size < 1:
        raise ValueError(
            f"bucket_batches: width and batch_size must be at least 1, got {width}, {batch_size}"
        )
    buckets = (np.maximum(lengths.astype(np.int64), 1) - 1) // width
    batches = []
    for bucket in np.unique(buckets):
        members = np.flatnonzero(buckets == bucket)
        if rng is not None:
            members = rng.permutation(members)
        batches += [members[i : i + batch_size] for i in range(0, len(members), batch_size)]
    return _shuffled(batches, rng)


def token_budget_batches(
    lengths: Int[Array, "sequences"], budget: int, rng: np.random.Generator | None = None
) -> list[Int[Array, "batch"]]:
    """Batches of neighbours in length, as many sequences each as fit ``budget`` padded tokens.

    With ``rng`` sequences of equal length and the batches are in random order.

    Raises:
        ValueError: one sequence alone is longer than the budget.
    """
    if len(lengths) and lengths.max() > budget:
        raise ValueError(
            f"token_budget_batches: a sequence of {lengths.max()} tokens exceeds the budget "
            f"{budget}"
        )
    order = np.arange(len(lengths)) if rng is None else rng.permutation(len(lengths))
    order = order[np.argsort(lengths[order], kind="stable")]
    batches: list[Array] = []
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * int(lengths[order[end]]) > budget:
            batches.append(order[start:end])
            start = end
    return _shuffled(batches, rng)


def _shuffled(batches: list[Array], rng: np.random.Generator | None) -> list[Array]:
    if rng is None:
        return batches
    return [batches[i] for i in rng.permutation(len(batches))]


# ---- packing ---------------------------------------------------------------------------------


def pack_first_fit(
    lengths: Int[Array, "sequences"], n: int, decreasing: bool = True
) -> list[list[int]]:
    """Put sequences into rows of ``n`` tokens: each into the first row that has room for it.

    ``decreasing`` takes the longest first, which needs at most 11/9·optimum + 6/9 rows.

    Source: the bound is Dósa's, The tight bound of first fit decreasing bin-packing, 2007.

    Raises:
        ValueError: a sequence is longer than a row.
    """
    if len(lengths) and lengths.max() > n:
        raise ValueError(
            f"pack_first_fit: a sequence of {lengths.max()} tokens does not fit a row of {n}"
        )
    lengths = lengths.astype(np.int64)
    order = np.argsort(-lengths, kind="stable") if decreasing else np.arange(len(lengths))
    rows: list[list[int]] = []
    room = np.zeros(len(lengths), dtype=np.int64)
    for i in order.tolist():
        row = int(np.argmax(room[: len(rows)] >= lengths[i])) if rows else 0
        if not rows or room[row] < lengths[i]:
            row = len(rows)
            rows.append([])
            room[row] = n
        rows[row].append(i)
        room[row] -= lengths[i]
    return rows


def pack_best_fit(lengths: Int[Array, "sequences"], n: int) -> list[list[int]]:
    """Put sequences into rows of ``n`` tokens, longest first: each into the fullest row with room.

    Of equally full rows the first is taken.

    Source: Ding et al., Fewer Truncations Improve Language Modeling, 2024, arXiv:2404.10830.

    Raises:
        ValueError: a sequence is longer than a row.
    """
    if len(lengths) and lengths.max() > n:
        raise ValueError(
            f"pack_best_fit: a sequence of {lengths.max()} tokens does not fit a row of {n}"
        )
    lengths = lengths.astype(np.int64)
    rows: list[list[int]] = []
    room = np.zeros(len(lengths), dtype=np.int64)
    for i in np.argsort(-lengths, kind="stable").tolist():
        left = np.where(room[: len(rows)] >= lengths[i], room[: len(rows)], n + 1)
        row = int(np.argmin(left)) if rows else 0
        if not rows or left[row] > n:
            row = len(rows)
            rows.append([])
            room[row] = n
        rows[row].append(i)
        room[row] -= lengths[i]
    return rows


def pack_batch(
    seqs: Sequence[Sequence[int] | Array], rows: Sequence[Sequence[int]], n: int, pad: int = 0
) -> tuple[Int[Array, "rows time"], Int[Array, "rows time"]]:
    """Rows of tokens, and which document each token belongs to: 0, 1, … in a row, −1 for padding.

    Attention must stay inside a document, and positions restart with it: see `packed_positions`.

    Raises:
        ValueError: a row holds more than ``n`` tokens.
    """
    ids = np.full((len(rows), n), pad, dtype=np.int64)
    doc_ids = np.full((len(rows), n), -1, dtype=np.int64)
    for r, members in enumerate(rows):
        start = 0
        for document, i in enumerate(members):
            end = start + len(seqs[i])
            if end > n:
                raise ValueError(f"pack_batch: row {r} holds more than {n} tokens")
            ids[r, start:end], doc_ids[r, start:end] = seqs[i], document
            start = end
    return ids, doc_ids


def packed_positions(doc_ids: Int[Array, "*rows time"]) -> Int[Array, "*rows time"]:
    """The position of each token in its own document: counting restarts where the id changes.

    Equation: training/batching.md#eq-packed-positions
    """
    time = np.arange(doc_ids.shape[-1])
    starts = np.ones(doc_ids.shape, dtype=bool)
    starts[..., 1:] = doc_ids[..., 1:] != doc_ids[..., :-1]
    return time - np.maximum.accumulate(np.where(starts, time, 0), axis=-1)


def packed_targets(
    ids: Int[Array, "*rows time"], doc_ids: Int[Array, "*rows time"], ignore: int = -100
) -> Int[Array, "*rows time"]:
    """The next token of the same document; ``ignore`` at a document's last token and in padding.

    A row's own last token has no target either: what follows it stands in no row.
    """
    targets = np.full(ids.shape, ignore, dtype=np.int64)
    same = (doc_ids[..., 1:] == doc_ids[..., :-1]) & (doc_ids[..., 1:] >= 0)
    targets[..., :-1] = np.where(same, ids[..., 1:], ignore)
    return targets


# ---- gradients over batches ------------------------------------------------------------------


def accumulate(
    loss_fn: Callable[[Batch], tuple[Tensor, int]],
    micro_batches: Iterable[Batch],
    params: Iterable[Tensor],
) -> float:
    """Leave on ``params`` the gradient of the mean loss over all tokens of all micro-batches.

    ``loss_fn`` returns the **sum** of a micro-batch's losses and its number of tokens. Sums are
    differentiated one after the other and divided once, by all tokens: a mean of means would
    weigh the tokens of short micro-batches more. Returns the mean loss.

    Equation: training/batching.md#eq-accumulation

    Raises:
        ValueError: there is no token at all.
    """
    params = list(params)
    for p in params:
        p.grad = None
    total, tokens = 0.0, 0
    for micro_batch in micro_batches:
        loss, count = loss_fn(micro_batch)
        if count:
            loss.backward()
        total, tokens = total + loss.item(), tokens + count
    if tokens == 0:
        raise ValueError("accumulate: the micro-batches hold no token, so there is no mean")
    for p in params:
        if p.grad is not None:
            p.grad *= 1 / tokens
    return total / tokens


class NoiseScale(NamedTuple):
    """tr(Σ) of one example's gradient, |G|² of the true one, and their ratio, a batch size."""

    scale: float
    noise: float
    signal: float


def gradient_noise_scale(
    g_small: Float[Array, "*samples_small d"],
    g_big: Float[Array, "*samples_big d"],
    Bs: int,
    Bb: int,
) -> NoiseScale:
    """Estimate tr(Σ)/|G|² from gradients at two batch sizes.

    A batch's gradient has E|g|² = |G|² + tr(Σ)/B; two sizes give two equations. Squared lengths
    are averaged over leading axes: one pair is very noisy, so give many. The scale is infinite
    where the estimate of |G|² is not positive, and NaN where a gradient is NaN or infinite.

    Equation: training/batching.md#eq-noise-scale
    Source: McCandlish et al., An empirical model of large-batch training, 2018, arXiv:1812.06162.

    Raises:
        ValueError: the sizes are not 0 < Bs < Bb.
    """
    if not 0 < Bs < Bb:
        raise ValueError(f"gradient_noise_scale: expected 0 < Bs < Bb, got {Bs} and {Bb}")
    unit = max(float(np.abs(g_small).max()), float(np.abs(g_big).max())) or 1.0
    if not (np.isfinite(g_small).all() and np.isfinite(g_big).all()):
        return NoiseScale(np.nan, np.nan, np.nan)
    # In units of the largest entry: 1e200 squared is too large for a float.
    small, big = (
        float(np.mean(np.sum((g.astype(np.float64) / unit) ** 2, axis=-1)))
        for g in (g_small, g_big)
    )
    signal = (Bb * big - Bs * small) / (Bb - Bs)
    noise = (small - big) / (1 / Bs - 1 / Bb)
    scale = float("inf") if signal <= 0 else noise / signal
    return NoiseScale(scale, noise * unit * unit, signal * unit * unit)


def steps_needed(batch_size: float, least_steps: float, least_examples: float) -> float:
    """Steps to a fixed loss: least_steps·(1 + B_crit/B), with B_crit = least_examples/least_steps.

    The hyperbola (S/S_min − 1)(E/E_min − 1) = 1, where E = S·B examples are used: at B_crit both
    are twice their least.

    Equation: training/batching.md#eq-critical-batch
    Source: McCandlish et al. 2018.

    Raises:
        ValueError: one of the three is not positive.
    """
    if not all(x > 0 for x in (batch_size, least_steps, least_examples)):
        raise ValueError(
            f"steps_needed: all three must be positive, got {batch_size}, {least_steps}, "
            f"{least_examples}"
        )
    return least_steps + least_examples / batch_size
