"""`chainrule train --engine torch`: the trainer's run on PyTorch, on one process or on many.

The folder is the one that ``chainrule train`` writes. All processes draw the same batch from the
same generator, and each reads its part of the rows: so the order of the data does not depend on
their number. A checkpoint holds what each process has of weights and moments, written by all of
them (``torch.distributed.checkpoint``), and the weights once more in the course's format, so that
`chainrule sample` reads it without PyTorch. It can be continued by any number of processes, and so
can a checkpoint of the NumPy engine.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed.checkpoint as dcp
import torch.nn.functional as F
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from chainrule.data.text import Corpus, DataError
from chainrule.neural_networks.backpropagation import save_state
from chainrule.program import UsageError, typed
from chainrule.pytorch.gpt import GPT, MultiHeadAttention, to_numpy, to_torch
from chainrule.pytorch.parity import Disagreement, check_device, same
from chainrule.pytorch.world import World, is_lost
from chainrule.shapes import Array, Float, Int
from chainrule.trainer import checkpoint, loop
from chainrule.trainer.settings import Settings, SettingsError
from chainrule.training.distributed_training import chunks
from chainrule.transformers import gpt as course
from chainrule.transformers.transformer_architecture import TransformerConfig

__all__ = ["Options", "TorchRun", "session"]

PARTS = "distributed"
"""The folder of a checkpoint that all processes write."""

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
_FROM_FIRST = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)


@dataclass(frozen=True)
class Options:
    """How PyTorch computes a run; what it computes, up to rounding, is in the `Settings`.

    ``parallel``: ddp keeps the model on every process, fsdp cuts weights, gradients and moments.
    ``micro_batch``: sequences of a process that are read at a time (0: all).
    """

    parallel: str = "ddp"
    micro_batch: int = 0
    bf16: bool = False
    compile: bool = False
    fused_attention: bool = True
    fused_adamw: bool = True
    device: str | None = None

    def __post_init__(self) -> None:
        if self.parallel not in ("ddp", "fsdp"):
            raise SettingsError(f"--parallel must be ddp or fsdp, received {self.parallel!r}")
        if self.micro_batch < 0:
            raise SettingsError(f"--micro-batch must be at least 1, received {self.micro_batch}")

    @classmethod
    def of(cls, stored: dict[str, Any], given: dict[str, Any]) -> Options:
        """What a checkpoint says, changed by what was typed."""
        known = {field.name for field in fields(cls)}
        kept = {name: value for name, value in stored.items() if name in known - {"device"}}
        return cls(**{**kept, **given})


@contextmanager
def session(given: dict[str, Any]) -> Iterator[World]:
    """The processes of one command; whatever goes wrong is one line, said by one of them.

    Raises:
        UsageError: the line, in the process that says it.
        SystemExit: in the others.
    """
    world: World | None = None
    try:
        world = World.open(given.get("device"))
        yield world
    except Exception as error:
        line = _line(error, world)
        if line is None:
            raise
        if world is not None and not world.speaks():
            raise SystemExit(2) from None
        raise UsageError(line) from None
    finally:
        if world is not None:
            world.close()


def _line(error: Exception, world: World | None) -> str | None:
    """What a person is told about an error; None if it is a defect of ours."""
    if is_lost(error):
        ended = "another process of this run has ended"
        if world is None or not world.runs:
            return ended
        run = world.runs[-1]
        newest = checkpoint.latest(run.folder)
        if newest is None:
            return f"{ended} in step {run.step + 1}, before the first checkpoint; start again"
        again = launched(f"train --resume --out {run.folder}", world)
        return f"{ended} in step {run.step + 1}; continue from {newest.name} with: {again}"
    if isinstance(error, torch.OutOfMemoryError):
        first = str(error).split(". ")[0]
        return f"{first}; try a smaller --micro-batch, or --parallel fsdp on more processes"
    expected = (DataError, SettingsError, checkpoint.CheckpointError, UsageError, Disagreement)
    return str(error) if isinstance(error, expected) else None


class TorchRun(loop.Run):
    """A run whose steps PyTorch computes.

    Raises:
        SettingsError: a process would have no sequence of the batch.
        UsageError: the device computes something else than the NumPy engine.
    """

    def __init__(
        self, folder: Path, settings: Settings, corpus: Corpus, *, world: World, options: Options
    ) -> None:
        self.world, self.options, self.leads = world, options, world.leads
        if settings.batch_size < world.size:
            raise SettingsError(
                f"--batch-size {settings.batch_size} leaves some of {world.size} processes without "
                f"a sequence; start at most {settings.batch_size} of them"
            )
        super().__init__(folder, settings, corpus)

    def build(self) -> None:
        """Check the device, then put the model on the processes."""
        options, world = self.options, self.world
        config = loop.model_config(self.settings, len(self.tokenizer))
        world.all_pass(partial(self._check_device, config))
        first: dict[str, Any] = {}
        if self.leads:
            first = to_torch(
                loop.build_model(self.settings, len(self.tokenizer), self.rng).state_dict()
            )
        self.rng.bit_generator.state = world.share(self.rng.bit_generator.state)
        with torch.device("meta"):
            self.twin = GPT(config, options.fused_attention)
        self.sharded = world.size > 1 and options.parallel == "fsdp"
        if self.sharded:
            self._shard()
        _materialize(self.twin, world.device)
        self._set_weights(first)
        self.wrapped: nn.Module = self.twin
        if world.size > 1 and not self.sharded:
            ids = [world.device.index] if world.device.type == "cuda" else None
            self.wrapped = DistributedDataParallel(self.twin, device_ids=ids)
        if options.compile and not self.sharded:
            self.wrapped.compile()
        self.weights = list(self.twin.parameters())
        decay = self.settings.weight_decay
        groups = [
            {"params": [p for p in self.weights if p.ndim >= 2], "weight_decay": decay},
            {"params": [p for p in self.weights if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.adamw = torch.optim.AdamW(
            groups, self.settings.learning_rate, (0.9, self.settings.beta2),
            fused=options.fused_adamw,
        )  # fmt: skip
        self.compared = not options.compile

    def _check_device(self, config: TransformerConfig) -> None:
        options, device = self.options, self.world.device
        found = check_device(
            config, device, options.fused_attention, options.fused_adamw, options.bf16
        )
        self.checked = (
            f"{len(found.operations)} operations on {device} agree with the NumPy engine within "
            f"{found.worst:.0e} ({found.seconds:.1f} s); {self.described}"
        )

    def _shard(self) -> None:
        """Cut every block, then what stands before and after the blocks."""
        policy = MixedPrecisionPolicy()
        if self.options.bf16:
            policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        for block in self.twin.blocks:
            if self.options.compile:
                block.compile()
            fully_shard(block, mp_policy=policy)
        fully_shard(self.twin, mp_policy=policy)

    def _set_weights(self, state: dict[str, Any]) -> None:
        """Fill all processes with what process 0 has."""
        if self.world.size == 1:
            self.twin.load_state_dict(state)
        else:
            set_model_state_dict(self.twin, state, options=_FROM_FIRST)

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(weight.numel() for weight in self.weights)

    @property
    def described(self) -> str:
        """What the run computes with."""
        count, options = self.world.size, self.options
        how = f"{count} processes ({options.parallel})" if count > 1 else "1 process"
        extras = [name for name in ("bf16", "compile") if getattr(options, name)]
        return ", ".join([f"PyTorch {torch.__version__}", how, str(self.world.device), *extras])

    # ---- a step --------------------------------------------------------------------------------

    def update(
        self, inputs: Int[Array, "batch time"], targets: Int[Array, "batch time"], rate: float
    ) -> float:
        """One step of the optimizer on a batch; the batch's loss before it."""
        for group in self.adamw.param_groups:
            group["lr"] = rate
        if self.settings.dropout:  # masks follow from seed, step and process alone
            seeds = np.random.SeedSequence([self.settings.seed, self.step, self.world.rank])
            torch.manual_seed(int(seeds.generate_state(1)[0]))
        if not self.twin.training:
            self.twin.train()
        self.adamw.zero_grad(set_to_none=True)
        parts = list(self._parts(inputs, targets))
        if not self.compared:
            self._compare_compiled(*parts[0])
        total = torch.zeros((), device=self.world.device)
        for i, (ids, wanted) in enumerate(parts):
            with self._quiet() if i < len(parts) - 1 else nullcontext():
                loss = self._loss_sum(ids, wanted)
                # the wrappers take a mean over the processes: so that it is the batch's own mean
                (loss * (self.world.size / targets.size)).backward()
            total += loss.detach()
        nn.utils.clip_grad_norm_(self.weights, self.settings.clip)
        self.adamw.step()
        return float(self.world.total(total)) / targets.size

    def _parts(self, inputs: Array, targets: Array) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """This process's rows in micro-batches, as many on every process.

        A process that has a row less reads one again, whose targets do not count.
        """
        size, batch = self.world.size, len(inputs)
        mine = np.arange(batch)[chunks(batch, size)[self.world.rank]]
        most = math.ceil(batch / size)
        count = math.ceil(most / (self.options.micro_batch or most))
        for i in range(count):
            rows = np.array_split(mine, count)[i]
            empty = not len(rows)
            rows = mine[:1] if empty else rows
            wanted = np.full_like(targets[rows], -100) if empty else targets[rows]
            yield self._send(inputs[rows]), self._send(wanted)

    def _send(self, array: Array) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.world.device)

    def _quiet(self) -> Any:
        """No exchange of gradients before the last micro-batch.

        Cut weights are the exception: whole gradients would not fit, so each is scattered.
        """
        wrapped = self.wrapped
        return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else nullcontext()

    def _narrow(self) -> Any:
        if not self.options.bf16 or self.sharded:  # with fsdp its own policy does this
            return nullcontext()
        return torch.autocast(self.world.device.type, torch.bfloat16)

    def _loss_sum(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with self._narrow():
            logits = self.wrapped(ids)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum")

    def _compare_compiled(self, ids: torch.Tensor, targets: torch.Tensor) -> None:
        """What the compiler made must compute what it was made from."""
        results = []
        for context in (self._uncompiled(), nullcontext()):
            with context:
                self._loss_sum(ids, targets).backward()
            gradients = [
                _local(p.grad).clone() for p in self.twin.parameters() if p.grad is not None
            ]
            results.append(gradients)
            self.adamw.zero_grad(set_to_none=True)
        names = [name for name, _ in self.twin.named_parameters()]
        if self.settings.dropout == 0:
            pairs = zip(names, *results, strict=True)
            compared = [(f"the gradient of {name}", plain, made) for name, plain, made in pairs]
            same("torch.compile", compared, self.options.bf16)
        self.compared = True

    @contextmanager
    def _uncompiled(self) -> Iterator[None]:
        compiled = [m for m in self.wrapped.modules() if m._compiled_call_impl is not None]
        calls = [m._compiled_call_impl for m in compiled]
        for module in compiled:
            module._compiled_call_impl = None
        try:
            yield
        finally:
            for module, call in zip(compiled, calls, strict=True):
                module._compiled_call_impl = call

    def window_losses(
        self, rows: Int[Array, "windows longer"], counted: int
    ) -> Float[Array, "windows counted"]:
        """−log p of the last ``counted`` characters of each row, shared out over the processes."""
        each = math.ceil(len(rows) / self.world.size)
        padded = np.arange(each * self.world.size) % len(rows)
        mine = rows[padded[self.world.rank * each : (self.world.rank + 1) * each]]
        self.twin.eval()
        losses = []
        with torch.no_grad(), self._narrow():
            for some in np.array_split(mine, math.ceil(each / loop.WINDOWS)):
                there = self._send(some)
                logits = self.twin(there[:, :-1])[:, -counted:].double()
                chosen = logits.gather(-1, there[:, -counted:, None])[..., 0]
                losses.append(logits.logsumexp(-1) - chosen)
        return self.world.gather(torch.cat(losses)).cpu().numpy()[: len(rows)]

    def agree(self, stop: bool) -> bool:
        """Whether any process was asked to stop."""
        return self.world.agree(stop)

    # ---- checkpoints ---------------------------------------------------------------------------

    def course_model(self) -> course.GPT | None:
        """The course's GPT with the present weights, on process 0."""
        state: dict[str, Any] = get_model_state_dict(self.twin, options=_WHOLE)
        if not self.leads:
            return None
        model = course.GPT(self.twin.config, np.random.default_rng(0))
        model.load_state_dict(to_numpy(state))
        return model

    def save(self) -> None:
        """Write a checkpoint of the present step; all processes take part."""
        whole: dict[str, Any] = get_model_state_dict(self.twin, options=_WHOLE)
        if not self.leads:
            self._write(self.folder / f".step-{self.step:08d}.part" / PARTS)
        else:
            state = {
                **self.state(),
                "engine": "torch",
                "torch": asdict(self.options),
                "processes": self.world.size,
            }
            files = {
                PARTS: self._write,
                "model.safetensors": lambda path: save_state(path, to_numpy(whole)),
            }
            checkpoint.save(self.folder, self.step, files, state)
        self.world.barrier()

    def _write(self, folder: Path) -> None:
        self.world.barrier()  # the folder above it is new, and there
        try:
            with _without_warnings():
                dcp.save(self._state(), checkpoint_id=folder, no_dist=self.world.size == 1)
        except CheckpointException as error:
            raise OSError(None, _reason(error)) from None

    def _state(self) -> dict[str, Any]:
        """Weights and moments, as far as this process has them."""
        moments = get_optimizer_state_dict(self.twin, self.adamw)["state"]
        return {"model": get_model_state_dict(self.twin), "moments": moments}

    def restore(self, newest: Path, state: dict[str, Any]) -> None:
        """Fill model and optimizer from a checkpoint, by however many processes it was written."""
        if (newest / PARTS).is_dir():
            parts = self._state()
            try:
                with _without_warnings():
                    dcp.load(parts, checkpoint_id=newest / PARTS, no_dist=self.world.size == 1)
            except CheckpointException as error:
                raise OSError(None, _reason(error)) from None
            set_model_state_dict(self.twin, parts["model"])
            self._set_moments(parts["moments"], StateDictOptions())
            return
        weights: dict[str, Any] = {}
        moments: dict[str, Any] = {}
        if self.leads:
            weights, moments = self._of_course(newest, state)
        self._set_weights(weights)
        self._set_moments(moments, _FROM_FIRST if self.world.size > 1 else StateDictOptions())

    def _set_moments(self, moments: dict[str, Any], options: StateDictOptions) -> None:
        settings = get_optimizer_state_dict(self.twin, self.adamw)["param_groups"]
        state = {"state": moments, "param_groups": settings}
        if options.broadcast_from_rank0 and not self.leads:
            state = {}
        set_optimizer_state_dict(self.twin, self.adamw, state, options=options)

    def _of_course(
        self, newest: Path, state: dict[str, Any]
    ) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Weights and moments of a checkpoint that the NumPy engine wrote, by PyTorch's names."""
        model = loop.build_model(self.settings, len(self.tokenizer), np.random.default_rng(0))
        loop.load_weights(model, newest)
        optimizer = loop.build_optimizer(self.settings, model)
        loop.load_moments(optimizer, newest, state)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        moments: dict[str, Any] = {}
        for group, entry in zip(optimizer.param_groups, optimizer.state, strict=True):
            end = 0
            for parameter, steps in zip(group["params"], entry["steps"], strict=True):
                part, end = slice(end, end + parameter.size), end + parameter.size
                moments[names[id(parameter)]] = {
                    "step": torch.tensor(float(steps)),
                    **{
                        name: torch.tensor(entry[name][part].reshape(parameter.shape))
                        for name in ("exp_avg", "exp_avg_sq")
                    },
                }
        return to_torch(model.state_dict()), moments


def open_run(
    folder: Path,
    world: World,
    given: dict[str, Any],
    settings: Settings | None = None,
    corpus: Corpus | None = None,
) -> TorchRun:
    """Start a run with these settings and this text, or continue the one in the folder."""
    if settings is not None and corpus is not None:
        options = Options.of({}, given)
        run = TorchRun.start(folder, settings, corpus, world=world, options=options)
    else:
        newest = checkpoint.latest(folder)
        stored = checkpoint.read_state(newest).get("torch", {}) if newest else {}
        run = TorchRun.resume(folder, world=world, options=Options.of(stored, given))
    assert isinstance(run, TorchRun)
    world.runs.append(run)
    world.barrier()
    return run


def launched(words: str, world: World) -> str:
    """The command that does this again on as many processes."""
    if world.size == 1:
        return typed(words)
    return f"torchrun --nproc-per-node {world.size} -m chainrule {words}"


def _materialize(model: nn.Module, device: torch.device) -> None:
    """Give a model without memory its memory, and its fixed tables their numbers."""
    model.to_empty(device=device)
    for module in model.modules():
        if isinstance(module, GPT | MultiHeadAttention):
            module.make_tables()


@contextmanager
def _without_warnings() -> Iterator[None]:
    """PyTorch warns of one process that it is one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield


def _local(tensor: Any) -> torch.Tensor:
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _reason(error: CheckpointException) -> str:
    """What the first process that failed said."""
    failed, _ = min(error.failures.items())
    return str(error.failures[failed][0]).splitlines()[0]
