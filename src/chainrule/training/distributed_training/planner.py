"""Which split, how much memory, how long a step: a model of a cluster in a few products.

Every term of the model is one function, so that a number that disagrees with a published run can
be taken apart. Times are seconds, sizes bytes, rates a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from chainrule.training.distributed_training.collectives import ring_seconds
from chainrule.training.distributed_training.schedules import bubble_fraction
from chainrule.training.distributed_training.world import Link
from chainrule.training.distributed_training.zero import zero_bytes, zero_traffic
from chainrule.transformers.transformer_architecture import (
    LLAMA_3_8B,
    TransformerConfig,
    count_flops,
    count_params,
)

__all__ = [
    "A100", "H100", "LLAMA_3_405B", "Device", "Memory", "Mesh", "Plan", "StepTime",
    "activation_bytes", "memory_model", "plan", "step_time_model",
]  # fmt: skip

LLAMA_3_405B = replace(LLAMA_3_8B, width=16_384, heads=128, decoder_layers=126, hidden=53_248)


@dataclass(frozen=True)
class Device:
    """An accelerator and its links, each way.

    ``inside`` connects the ``node`` devices of one machine, ``outside`` the machines, a device.
    ``efficiency`` is the part of the peak that large products reach: an assumption, not a
    published figure, as are the latencies of the links.
    """

    name: str
    flops: float
    memory: float
    memory_bandwidth: float
    node: int
    inside: Link
    outside: Link
    efficiency: float = 0.65


# Published peaks without sparsity (checked = 2026-11): NVIDIA H100 Tensor Core GPU datasheet, 2023;
# NVIDIA A100 80GB datasheet, 2021. NVLink is given there as the sum of both ways.
H100 = Device("H100 SXM", 989e12, 80e9, 3.35e12, 8, Link(5e-6, 450e9), Link(10e-6, 50e9))
A100 = Device("A100 80GB SXM", 312e12, 80e9, 2.04e12, 8, Link(5e-6, 300e9), Link(10e-6, 25e9))


@dataclass(frozen=True)
class Mesh:
    """How many ways each thing is split.

    ``chunks`` is the number of pieces of the model a pipeline's worker holds, ``rows`` the number
    of sequences of a micro-batch, ``stage`` that of ZeRO over the ``data`` workers.

    Raises:
        ValueError: a number below 1, or another stage.
    """

    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    chunks: int = 1
    rows: int = 1
    stage: int = 1

    def __post_init__(self) -> None:
        for name in ("data", "tensor", "pipeline", "chunks", "rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"a mesh has {name} ≥ 1, got {getattr(self, name)}")
        if self.stage not in (0, 1, 2, 3):
            raise ValueError(f"ZeRO's stage is 0, 1, 2 or 3, not {self.stage}")

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

    compute: float
    tensor: float
    idle: float
    data: float
    optimizer: float
    utilization: float

    @property
    def total(self) -> float:
        """The whole step."""
        return self.compute + self.tensor + self.idle + self.data + self.optimizer


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
    queries, keys = cfg.heads * cfg.head_size, cfg.groups * cfg.head_size
    matrices = 3 if "glu" in cfg.feed_forward else 2
    numbers = 4 * cfg.width + 2 * queries + 2 * keys + matrices * cfg.inner
    kept = tokens * (2 * numbers + (2 * cfg.width if cfg.dropout else 0))
    return kept + (5 * cfg.heads * tokens**2 if weights else 0)


def memory_model(cfg: TransformerConfig, mesh: Mesh, length: int, batches: int) -> Memory:
    """Return what the fullest device holds: the first of a pipeline, with a table of symbols.

    1F1B with ``batches`` micro-batches of ``mesh.rows`` sequences of ``length`` tokens, norms by
    stretches of the sequence, attention in blocks.
    Equation: training/distributed-training.md#eq-memory-model
    """
    tables = cfg.vocab_size * cfg.width
    blocks = count_params(cfg) - tables * (1 if cfg.tied else 2)
    layers = math.ceil(cfg.decoder_layers / mesh.pipeline)
    parameters = blocks * layers / cfg.decoder_layers
    parameters += tables * (2 if mesh.pipeline == 1 and not cfg.tied else 1)
    states = zero_bytes(parameters / mesh.tensor, mesh.data, mesh.stage)
    held = min(batches, mesh.pipeline) * layers
    if mesh.chunks > 1:
        held *= 1 + (mesh.pipeline - 1) / (mesh.pipeline * mesh.chunks)
    one = activation_bytes(cfg, mesh.rows * length) / mesh.tensor
    return Memory(states, held * one)


def step_time_model(
    cfg: TransformerConfig, mesh: Mesh, device: Device, sequences: int, length: int
) -> StepTime:
    """Return the seconds of one step over ``sequences`` of ``length`` tokens, term by term.

    Products run at the device's efficiency. Tensor parallelism adds up four times a block the rows
    of the stream, within a machine if it fits. The pipeline waits as its closed form says. What the
    ``data`` workers exchange hides behind the passes of one micro-batch, in stages 2 and 3 of all,
    and only the rest counts. The update moves 28 bytes a parameter of the device's share.
    Equation: training/distributed-training.md#eq-step-time

    Raises:
        ValueError: the sequences do not divide into micro-batches for all workers.
    """
    if sequences % (mesh.data * mesh.rows):
        raise ValueError(
            f"{sequences} sequences do not divide among {mesh.data} workers in micro-batches "
            f"of {mesh.rows}"
        )
    batches = sequences // (mesh.data * mesh.rows)
    work = 3 * count_flops(cfg, length)  # a backward pass costs two forward passes
    share = mesh.tensor * mesh.pipeline
    compute = batches * mesh.rows * work / share / (device.flops * device.efficiency)

    rows = 2 * mesh.rows * length * cfg.width
    link = device.inside if mesh.tensor <= device.node else device.outside
    once = ring_seconds("all_reduce", rows, mesh.tensor, link.latency, link.bandwidth)
    tensor = batches * 4 * cfg.decoder_layers / mesh.pipeline * once

    kind = "1f1b" if mesh.chunks == 1 else "interleaved"
    fraction = bubble_fraction(kind, mesh.pipeline, batches, mesh.chunks)
    idle = (compute + tensor) * fraction / (1 - fraction)

    parameters = count_params(cfg) / share
    link = device.inside if share * mesh.data <= device.node else device.outside
    traffic = zero_traffic(2 * parameters, mesh.data, mesh.stage, batches)
    hidden = (compute + tensor) / (1 if mesh.stage > 1 else batches)
    data = max(0.0, traffic / link.bandwidth - hidden)

    kept = parameters / (mesh.data if mesh.stage else 1)
    optimizer = 28 * kept / device.memory_bandwidth

    total = compute + tensor + idle + data + optimizer
    utilization = sequences * work / (mesh.devices * device.flops * total)
    return StepTime(compute, tensor, idle, data, optimizer, utilization)


def plan(
    cfg: TransformerConfig,
    device: Device,
    devices: int,
    sequences: int,
    length: int,
    reserve: float = 0.1,
) -> list[Plan]:
    """Return all splits that fit, the fastest first.

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
    found = []
    for mesh in _meshes(cfg, device, devices, sequences):
        batches = sequences // (mesh.data * mesh.rows)
        memory = memory_model(cfg, mesh, length, batches)
        if memory.total <= (1 - reserve) * device.memory:
            time = step_time_model(cfg, mesh, device, sequences, length)
            found.append(Plan(mesh, memory, time))
    return sorted(found, key=lambda p: (p.time.total, p.memory.total))


def _meshes(cfg: TransformerConfig, device: Device, devices: int, sequences: int) -> list[Mesh]:
    meshes = []
    for tensor in (n for n in range(1, device.node + 1) if not cfg.groups % n):
        for pipeline in range(1, cfg.decoder_layers + 1):
            data, left = divmod(devices, tensor * pipeline)
            if left or not data:
                continue
            for rows in (1, 2, 4, 8):
                if sequences % (data * rows):
                    continue
                deep = {1, cfg.decoder_layers // pipeline} if pipeline > 1 else {1}
                for stage in (1, 2, 3) if pipeline == 1 else (1,):
                    meshes += [Mesh(data, tensor, pipeline, c, rows, stage) for c in sorted(deep)]
    return meshes
