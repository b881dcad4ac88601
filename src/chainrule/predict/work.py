"""What a step of a GPT computes, before it does: products, bytes, bends, steps of Python.

Products are those of the documents' formulas, one by one with their shapes. What this course's
engine moves, NumPy pass after NumPy pass, is linear in a few sizes; the coefficients below were
counted by `counting`, and a test counts them again.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from chainrule.transformers.transformer_architecture import (
    TransformerConfig,
    count_flops,
    count_params,
)

if TYPE_CHECKING:
    from chainrule.predict.machine import Machine

__all__ = ["Seconds", "Work", "gpt_memory", "gpt_work", "price", "stored_work"]

Shape = tuple[int, int, int, int]
BLOCK = 32  # queries at a time, as attention is trained
KEPT_IN_CACHE = 1 << 18  # bytes of the pieces in which the optimizer and the bends work

# Bytes that the engine reads and writes in one step, in NumPy passes of float32: for a token, unit
# of width and block; outside the blocks; for a score; for a parameter (clipping and AdamW), most of
# them in a cache; for a token and symbol.
MOVED_BLOCK, MOVED_ENDS, MOVED_SCORE, MOVED_PARAMETER, MOVED_SYMBOL = 1130, 180, 64, 173, 56
FROM_MEMORY = 28  # of a parameter's bytes: the weight, gradient and moments themselves
# Calls of NumPy, and nodes of Python: of a block, and outside the blocks.
CALLS, STEPS = (310, 190), (16_650, 9_900)


@dataclass(frozen=True)
class Work:
    """What is to be done.

    ``products``: (batch, rows, inner, columns), operations, in float32; ``doubles``: the same in
    float64. ``passes``: bytes of the arrays, calls, bytes moved. ``bends``: elements of exponential
    functions and their like in float32; ``others``: kinds of other slow operations, as `counting`
    names them, and elements. ``steps``: nodes of the program. ``pictures`` and ``axes`` are drawn;
    ``modules`` are imported first.
    """

    products: tuple[tuple[Shape, float], ...] = ()
    doubles: tuple[tuple[Shape, float], ...] = ()
    passes: tuple[tuple[float, float, float], ...] = ()
    bends: float = 0.0
    others: tuple[tuple[str, float], ...] = ()
    steps: float = 0.0
    pictures: int = 0
    axes: int = 0
    modules: tuple[str, ...] = ()

    @property
    def flops(self) -> float:
        """Operations of all products."""
        return sum(flops for _, flops in self.products + self.doubles)

    @property
    def moved(self) -> float:
        """Bytes of all passes."""
        return sum(moved for _, _, moved in self.passes)


class Seconds(NamedTuple):
    """Processor seconds by what they are spent on."""

    products: float
    passes: float
    bends: float
    python: float
    pictures: float
    start: float

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self)


def price(work: Work, machine: Machine, shapes: int = 24) -> Seconds:
    """Return the seconds of some work at a machine's rates, one thing after the other.

    Products of the ``shapes`` that compute most are measured. A product with a vector reads its
    matrix once, so it is a pass: the roofline's other side.
    Equation: modern-llms/inference.md#eq-roofline
    """
    products = passes = 0.0
    for done, rates, itemsize in ((work.products, machine, 4), (work.doubles, None, 8)):
        if not done:
            continue
        rates = rates or machine.doubles
        real = [(shape, flops) for shape, flops in done if min(shape[1], shape[3]) > 1]
        largest = sorted(real, key=lambda p: -p[1])[:shapes]
        rates.measure(shape for shape, _ in largest)
        products += sum(rates.product_seconds(shape, flops) for shape, flops in real)
        for shape, flops in done:
            if min(shape[1], shape[3]) == 1:
                size = itemsize * max(shape[1] * shape[2], shape[2] * shape[3])
                times = flops / (2 * math.prod(shape))
                passes += machine.pass_seconds(size, times, times * shape[0] * size)
    passes += sum(machine.pass_seconds(*one) for one in work.passes)
    bends = work.bends * machine.bend if work.bends else 0.0
    bends += sum(elements * machine.bends[kind] for kind, elements in work.others)
    alone, each = machine.picture if work.pictures else (0.0, 0.0)
    return Seconds(
        products,
        passes,
        bends,
        work.steps * machine.step if work.steps else 0.0,
        work.pictures * alone + work.axes * each,
        machine.start(work.modules) if work.modules else 0.0,
    )


def gpt_work(cfg: TransformerConfig, batch: int) -> Work:
    """Return what one training step of the course's GPT computes: forward, backward, AdamW.

    Every product of the forward pass has two of its size in the backward pass. Scores of later keys
    are left out in blocks of queries: fewer operations than those by which models are counted.
    Equation: transformers/transformer-architecture.md#eq-flops
    Equation: neural-networks/backpropagation.md#eq-linear-vjp
    """
    d, layers, time, vocab = cfg.width, cfg.decoder_layers, cfg.context, cfg.vocab_size
    n, heads, size = batch * time, cfg.heads, cfg.head_size
    products: list[tuple[Shape, float]] = []
    matrices = [(d, 3 * d), (d, d), (d, cfg.inner), (cfg.inner, d)]
    for (inner, outer), times in [*((m, layers) for m in matrices), ((d, vocab), 1)]:
        for shape in ((1, n, inner, outer), (1, n, outer, inner), (1, outer, n, inner)):
            products.append((shape, times * 2.0 * n * inner * outer))
    seen = scores(time)
    keys = round(seen / time)
    rows = min(BLOCK, time)
    flops = layers * 2.0 * batch * heads * seen * size
    for of_one in ((rows, size, keys), (rows, keys, size), (keys, rows, size)):
        products.append(((batch * heads, *of_one), 2 * flops))
    parameters = count_params(cfg)
    stream = 4 * n * d
    passes = (
        (stream, layers * CALLS[0] + CALLS[1], stream / 4 * (MOVED_BLOCK * layers + MOVED_ENDS)),
        (4 * batch * heads * rows * keys, 0, MOVED_SCORE * layers * batch * heads * seen),
        (KEPT_IN_CACHE, 0, (MOVED_PARAMETER - FROM_MEMORY) * parameters),
        (16 * parameters, 0, FROM_MEMORY * parameters),
        (4 * n * vocab, 0, MOVED_SYMBOL * n * vocab),
    )
    bends = n * cfg.inner * layers + layers * batch * heads * seen + n * vocab
    steps = STEPS[0] * layers + STEPS[1]
    return Work(tuple(products), passes=passes, bends=bends, steps=steps)


def scores(time: int) -> int:
    """How many scores a head computes for one sequence: blocks of queries skip later keys."""
    starts = range(0, time, BLOCK)
    return sum(min(BLOCK, time - s) * min(s + BLOCK, time) for s in starts)


def gpt_flops(cfg: TransformerConfig, batch: int) -> float:
    """Return the operations of a step as models are counted: three forward passes, all scores.

    Equation: transformers/transformer-architecture.md#eq-flops
    """
    return 3.0 * batch * count_flops(cfg, cfg.context)


def gpt_memory(cfg: TransformerConfig, batch: int, program: float) -> float:
    """Return the most bytes that a step holds: the program, weights with theirs, what waits.

    Sixteen bytes a weight; what enters each product and each bend waits for the backward pass, here
    in float32; attention keeps its weights; scores of symbols three times.
    Equation: training/distributed-training.md#eq-zero-bytes
    Equation: training/distributed-training.md#eq-activations
    """
    from chainrule.training.distributed_training import activation_bytes

    n = batch * cfg.context
    kept = 2 * cfg.decoder_layers * activation_bytes(cfg, n)
    kept += 4 * cfg.decoder_layers * batch * cfg.heads * scores(cfg.context)
    return program + 16 * count_params(cfg) + kept + 12 * n * cfg.vocab_size


def stored_work(counted: dict[str, Any], modules: Iterable[str] = ()) -> Work:
    """What `counting` stored, as work; a call of a slow operation is a call, too."""
    of: dict[int, list[tuple[Shape, float]]] = {4: [], 8: []}
    for row in counted["products"]:
        if min(row[:4]) > 0:
            of[row[6]].append((tuple(row[:4]), row[5]))
    bends: dict[str, float] = defaultdict(float)
    for kind, _, elements in counted["bends"]:
        bends[kind] += elements
    calls = sum(row[1] for row in counted["bends"])
    return Work(
        tuple(of[4]),
        tuple(of[8]),
        (*((float(1 << row[0]), row[1], row[2]) for row in counted["passes"]), (1.0, calls, 0.0)),
        bends.pop("smooth4", 0.0),
        tuple(sorted(bends.items())),
        counted["steps"],
        counted["pictures"],
        counted["axes"],
        tuple(modules),
    )
