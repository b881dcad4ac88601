"""Which split, how much memory, how long a step: a model of a cluster in a few products.

Every term of the model is one field of `StepTime`, so that a number that disagrees with a published
run can be taken apart. Times are seconds, sizes bytes, rates a second. `hardware` has the devices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from chainrule.training.distributed_training.collectives import ring_seconds
from chainrule.training.distributed_training.hardware import Device, Sizes, sizes_of
from chainrule.training.distributed_training.schedules import bubble_fraction
from chainrule.training.distributed_training.zero import zero_bytes, zero_traffic
from chainrule.transformers.transformer_architecture import TransformerConfig

__all__ = [
    "Memory", "Mesh", "Plan", "StepTime", "activation_bytes", "memory_model", "plan",
    "step_time_model",
]  # fmt: skip


@dataclass(frozen=True)
class Mesh:
    """How many ways each thing is split.

    ``chunks`` is the number of pieces of the model a pipeline's worker holds, ``rows`` the number
    of sequences of a micro-batch, ``stage`` that of ZeRO over the ``data`` workers. ``experts`` of
    the data workers share one set of experts. ``bits`` is 16 or 8, for products and for the rows
    that go to experts; ``gradient`` is the bytes of a gradient that is exchanged.

    Raises:
        ValueError: a number below 1, another stage, or experts that do not divide the workers.
    """

    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    chunks: int = 1
    rows: int = 1
    stage: int = 1
    experts: int = 1
    bits: int = 16
    gradient: int = 2

    def __post_init__(self) -> None:
        for name in ("data", "tensor", "pipeline", "chunks", "rows", "experts"):
            if getattr(self, name) < 1:
                raise ValueError(f"a mesh has {name} ≥ 1, got {getattr(self, name)}")
        if self.stage not in (0, 1, 2, 3):
            raise ValueError(f"ZeRO's stage is 0, 1, 2 or 3, not {self.stage}")
        if self.bits not in (8, 16):
            raise ValueError(f"products have 8 or 16 bits, not {self.bits}")
        if self.data % self.experts:
            raise ValueError(f"{self.experts} does not divide the {self.data} data workers")

    @property
    def devices(self) -> int:
        """How many devices the mesh takes."""
        return self.data * self.tensor * self.pipeline


class Memory(NamedTuple):
    """Bytes on the fullest device."""

    states: float
    activations: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.states + self.activations


class StepTime(NamedTuple):
    """Seconds of one step, by what they are spent on, and the part of the peak that is used."""

    products: float
    scores: float
    moved: float
    tensor: float
    experts: float
    idle: float
    data: float
    update: float
    utilization: float

    @property
    def total(self) -> float:
        """The whole step."""
        return sum(self[:8])


class Plan(NamedTuple):
    """A split with what it costs."""

    mesh: Mesh
    memory: Memory
    time: StepTime


def activation_bytes(cfg: TransformerConfig, tokens: int, weights: bool = False) -> float:
    """Return the bytes that one block keeps of ``tokens`` for the backward pass, in 16 bits.

    What enters each product and each bend: for GPT-2's block 32 bytes a token and unit of width, 34
    with the masks of two dropouts. ``weights`` adds the attention weights, 5 bytes each, of one
    sequence of ``tokens``; attention in blocks computes them again.
    Equation: training/distributed-training.md#eq-activations. Source: Korthikanti et al. 2022,
    arXiv:2205.05198, equation 2.
    """
    return 2 * tokens * sizes_of(cfg).kept + (5 * cfg.heads * tokens**2 if weights else 0)


def memory_model(cfg: TransformerConfig | Sizes, mesh: Mesh, length: int, batches: int) -> Memory:
    """Return what the fullest device holds: the first of a pipeline, with a table of symbols.

    1F1B with ``batches`` micro-batches of ``mesh.rows`` sequences of ``length`` tokens, norms by
    stretches of the sequence, attention in blocks. Interleaving holds more of them.
    Equation: training/distributed-training.md#eq-memory-model
    """
    sizes = _sizes(cfg)
    layers = math.ceil(sizes.layers / mesh.pipeline)
    own = layers * sizes.shared + sizes.tables / (1 if mesh.pipeline == 1 else 2)
    states = zero_bytes(own / mesh.tensor, mesh.data, mesh.stage, gradient=mesh.gradient)
    spread = layers * sizes.stored / (mesh.tensor * mesh.experts)
    states += zero_bytes(spread, mesh.data // mesh.experts, mesh.stage, gradient=mesh.gradient)
    held = float(min(batches, mesh.pipeline) * layers)
    if mesh.chunks > 1:
        held *= 1 + (mesh.pipeline - 1) / (mesh.pipeline * mesh.chunks)
    return Memory(states, held * 2 * mesh.rows * length * sizes.kept / mesh.tensor)


def step_time_model(
    cfg: TransformerConfig | Sizes, mesh: Mesh, device: Device, sequences: int, length: int
) -> StepTime:
    """Return the seconds of one step over ``sequences`` of ``length`` tokens, term by term.

    Equation: training/distributed-training.md#eq-step-time

    products  three passes' products at the rate the device reaches
    scores    the causal half, computed once more in the backward pass: 3.5 forward passes
    moved     what is no product reads and writes the device's memory, three times the forward pass;
              casts to 8 bits
    tensor    four times a block the rows are added up, within a machine if that fits; none hidden
    experts   rows out and back, in both passes, beyond what hides behind the computation
    idle      the pipeline's closed form
    data      gradients and weights, beyond what hides: behind the passes of one micro-batch, in
              stages 2 and 3 behind all
    update    28 bytes a weight of the device's share

    Raises:
        ValueError: the sequences do not divide into micro-batches for all workers.
    """
    if sequences % (mesh.data * mesh.rows):
        raise ValueError(
            f"{sequences} sequences do not divide among {mesh.data} workers in micro-batches "
            f"of {mesh.rows}"
        )
    sizes = _sizes(cfg)
    batches = sequences // (mesh.data * mesh.rows)
    tokens = batches * mesh.rows * length  # of one data worker

    products, scores, moved = _computed(sizes, mesh, device, tokens, length)
    compute = products + scores + moved

    link = device.inside if mesh.tensor <= device.node else device.outside
    rows = 2 * mesh.rows * length * sizes.width
    once = ring_seconds("all_reduce", rows, mesh.tensor, link.latency, link.bandwidth)
    tensor = batches * 4 * sizes.layers / mesh.pipeline * once

    travel = _expert_bytes(sizes, mesh, device) * tokens * sizes.layers
    travel /= mesh.tensor * mesh.pipeline
    link = device.inside if mesh.experts <= device.node else device.outside
    experts = max(0.0, travel / link.bandwidth - compute)

    busy = compute + tensor + experts
    kind = "1f1b" if mesh.chunks == 1 else "interleaved"
    fraction = bubble_fraction(kind, mesh.pipeline, batches, mesh.chunks)
    idle = busy * fraction / (1 - fraction)

    link = device.inside if mesh.devices <= device.node else device.outside
    traffic, kept = _exchanged(sizes, mesh, batches)
    data = max(0.0, traffic / link.bandwidth - busy / (1 if mesh.stage > 1 else batches))
    update = 28 * kept / device.memory_bandwidth

    total = busy + idle + data + update
    work = 3 * sequences * length * sizes.flops(length)
    utilization = work / (mesh.devices * device.flops * total)
    return StepTime(products, scores, moved, tensor, experts, idle, data, update, utilization)


def _computed(
    sizes: Sizes, mesh: Mesh, device: Device, tokens: int, length: int
) -> tuple[float, float, float]:
    """Seconds of products, of scores and of what is moved, for ``tokens`` of one data worker."""
    share = mesh.tensor * mesh.pipeline
    free = 1 - (device.carriers if mesh.experts > 1 else 0)
    used = sizes.layers * (3 * (sizes.shared + sizes.routed) + sizes.again)
    rate = device.products8 if mesh.bits == 8 else device.products
    products = 2 * tokens * (used / rate + 3 * sizes.head / device.products) / share / free
    half = 4 * (length / 2) * sizes.queries * sizes.layers
    scores = 3.5 * tokens * half / device.scores / share / free
    through = 3 * 2 * sizes.moved + (sizes.cast if mesh.bits == 8 else 0)
    moved = tokens * sizes.layers * through / device.memory_bandwidth / share / free
    return products, scores, moved


def _exchanged(sizes: Sizes, mesh: Mesh, batches: int) -> tuple[float, float]:
    """Bytes of gradients and weights that a device exchanges, and how many weights it updates."""
    share = mesh.tensor * mesh.pipeline
    shared = (sizes.tables + sizes.layers * sizes.shared) / share
    spread = sizes.layers * sizes.stored / share / mesh.experts
    size = (2 + mesh.gradient) / 2  # of a weight, mean of what is gathered and what is scattered
    traffic = zero_traffic(size * shared, mesh.data, mesh.stage, batches)
    traffic += zero_traffic(size * spread, mesh.data // mesh.experts, mesh.stage, batches)
    kept = shared / (mesh.data if mesh.stage else 1)
    kept += spread / (mesh.data // mesh.experts if mesh.stage else 1)
    return traffic, kept


def plan(
    cfg: TransformerConfig | Sizes,
    device: Device,
    devices: int,
    sequences: int,
    length: int,
    reserve: float = 0.1,
) -> list[Plan]:
    """Return all splits of batch, matrices and layers that fit, the fastest first.

    ``reserve`` is the part of the memory that is left free. Tensor parallelism stays inside a
    machine and divides the key-value heads; a pipeline has at least one block for each worker.

    Raises:
        ValueError: no device, sequence or token.
    """
    if min(devices, sequences, length) < 1:
        raise ValueError(
            f"plan: devices, sequences and length are at least 1, got {devices}, {sequences}, "
            f"{length}"
        )
    sizes, found = _sizes(cfg), []
    for mesh in _meshes(sizes, device, devices, sequences):
        batches = sequences // (mesh.data * mesh.rows)
        memory = memory_model(sizes, mesh, length, batches)
        if memory.total <= (1 - reserve) * device.memory:
            time = step_time_model(sizes, mesh, device, sequences, length)
            found.append(Plan(mesh, memory, time))
    return sorted(found, key=lambda p: (p.time.total, p.memory.total))


def _sizes(cfg: TransformerConfig | Sizes) -> Sizes:
    return cfg if isinstance(cfg, Sizes) else sizes_of(cfg)


def _expert_bytes(sizes: Sizes, mesh: Mesh, device: Device) -> float:
    """Bytes that one token's rows send in one block: out in ``bits``, back in 16, both passes.

    Between machines a row goes once to each machine that has one of its experts.
    """
    if mesh.experts == 1 or not sizes.experts:
        return 0.0
    places, copies = float(mesh.experts), float(sizes.experts)
    if mesh.experts > device.node:
        places = mesh.experts / device.node
        copies = min(copies, sizes.machines or copies, places)
    return 2 * copies * (1 - 1 / places) * (mesh.bits / 8 + 2) * sizes.width


def _meshes(sizes: Sizes, device: Device, devices: int, sequences: int) -> list[Mesh]:
    meshes = []
    for tensor in (n for n in range(1, device.node + 1) if not sizes.heads % n):
        for pipeline in range(1, sizes.layers + 1):
            data, left = divmod(devices, tensor * pipeline)
            if left or not data:
                continue
            for rows in (1, 2, 4, 8):
                if sequences % (data * rows):
                    continue
                deep = {1, sizes.layers // pipeline} if pipeline > 1 else {1}
                for stage in (1, 2, 3) if pipeline == 1 else (1,):
                    meshes += [Mesh(data, tensor, pipeline, c, rows, stage) for c in sorted(deep)]
    return meshes
