"""Training on many workers: simulated exactly, then in real processes, then planned.

Taught in ``training/distributed-training.md``. `World` (`world`) is a simulator of workers, links
and clocks; `collectives` are what all of them do together, `operations` the same inside a model.
Four ways to split a GPT: the batch (`data_parallel`), the optimizer's numbers, gradients and
weights (`zero`), every matrix (`tensor_parallel`), the layers (`schedules`, `pipeline`); two more
split the sequence and the experts (`sequences`); in `local_steps` workers agree rarely. `processes`
runs the same programs in processes that talk through sockets, `script` trains a small GPT there.
`planner` says what a split would cost on the accelerators of `hardware`.

A program is a function of its worker, written against `Communicator`, and runs in all of them.

Shape names: ``part`` this worker's positions, ``vocab`` symbols, ``d`` width.
"""

from __future__ import annotations

from chainrule.training.distributed_training.collectives import (
    all_gather,
    all_reduce,
    all_to_all,
    barrier,
    broadcast,
    central_all_reduce,
    chunks,
    collective_bytes,
    reduce_scatter,
    ring_seconds,
)
from chainrule.training.distributed_training.data_parallel import (
    average_gradients,
    broadcast_parameters,
    buckets,
    overlapped_seconds,
)
from chainrule.training.distributed_training.hardware import (
    A100,
    DEEPSEEK_V3,
    H100,
    H800,
    LLAMA_3_405B,
    Device,
    Sizes,
    sizes_of,
)
from chainrule.training.distributed_training.local_steps import DiLoCo
from chainrule.training.distributed_training.operations import (
    copy_to,
    gather_from,
    reduce_from,
    scatter_to,
)
from chainrule.training.distributed_training.pipeline import PipelineStage, run_pipeline
from chainrule.training.distributed_training.planner import (
    Memory,
    Mesh,
    Plan,
    StepTime,
    activation_bytes,
    memory_model,
    plan,
    step_time_model,
)
from chainrule.training.distributed_training.processes import SocketWorker, run_processes
from chainrule.training.distributed_training.schedules import (
    Action,
    ScheduleError,
    bubble,
    bubble_fraction,
    check_schedule,
    peak_in_flight,
    schedule,
    timeline,
)
from chainrule.training.distributed_training.sequences import (
    causal_load,
    expert_dispatch,
    ring_attention,
    sequence_parts,
)
from chainrule.training.distributed_training.tensor_parallel import (
    ColumnParallelLinear,
    RowParallelLinear,
    SequenceParallelNorm,
    TensorParallelGPT,
    VocabParallelEmbedding,
    vocab_parallel_cross_entropy,
)
from chainrule.training.distributed_training.world import (
    CommunicationError,
    Communicator,
    Event,
    Group,
    Link,
    Worker,
    World,
)
from chainrule.training.distributed_training.zero import (
    FullySharded,
    Zero,
    average_pieces,
    zero_bytes,
    zero_traffic,
)

__all__ = [
    "A100", "DEEPSEEK_V3", "H100", "H800", "LLAMA_3_405B", "Action", "ColumnParallelLinear",
    "CommunicationError", "Communicator", "Device", "DiLoCo", "Event", "FullySharded", "Group",
    "Link", "Memory", "Mesh", "PipelineStage", "Plan", "RowParallelLinear", "ScheduleError",
    "SequenceParallelNorm", "Sizes", "SocketWorker", "StepTime", "TensorParallelGPT",
    "VocabParallelEmbedding", "Worker", "World", "Zero", "activation_bytes", "all_gather",
    "all_reduce", "all_to_all", "average_gradients", "average_pieces", "barrier", "broadcast",
    "broadcast_parameters", "bubble", "bubble_fraction", "buckets", "causal_load",
    "central_all_reduce", "check_schedule", "chunks", "collective_bytes", "copy_to",
    "expert_dispatch", "gather_from", "memory_model", "overlapped_seconds", "peak_in_flight",
    "plan", "reduce_from", "reduce_scatter", "ring_attention", "ring_seconds", "run_pipeline",
    "run_processes", "scatter_to", "schedule", "sequence_parts", "sizes_of", "step_time_model",
    "timeline", "vocab_parallel_cross_entropy", "zero_bytes", "zero_traffic",
]  # fmt: skip
