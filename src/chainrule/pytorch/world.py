"""The processes of a run: who this one is, which device it has, and what all of them agree on.

``torchrun`` starts the processes and tells each its number in the environment. Without it there is
one process, and nothing here communicates.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
import torch.distributed as dist

from chainrule.program import UsageError
from chainrule.pytorch.parity import Disagreement
from chainrule.trainer.settings import SettingsError

__all__ = ["World", "is_lost"]


_SESSIONS = count()
"""Commands that these processes have run: each finds the others under a name of its own."""


@dataclass(frozen=True)
class World:
    """One process among ``size``; number 0 leads: it writes the files and speaks."""

    rank: int
    size: int
    device: torch.device
    store: Any = None
    runs: list[Any] = field(default_factory=list)  # the run that is open, for what is said of it

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and speaks."""
        return self.rank == 0

    @classmethod
    def open(cls, device: str | None = None) -> World:
        """Find the others, if a launcher has started several.

        Each process of a machine takes the GPU of its number; where there is none, the processor.
        Messages between GPUs go through NCCL, others through gloo.

        Raises:
            SettingsError: the device is not there.
        """
        chosen = _device(device)
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls(0, 1, chosen)
        if chosen.type == "mps":
            raise SettingsError(
                "--device mps is one device; give --device cpu to several processes"
            )
        gpu = chosen if chosen.type == "cuda" else None
        if gpu is not None:
            torch.cuda.set_device(gpu)
        place, rank, size = next(dist.rendezvous("env://"))
        store = dist.PrefixStore(f"chainrule {next(_SESSIONS)}", place)
        dist.init_process_group(
            "gloo" if gpu is None else "cpu:gloo,cuda:nccl",
            store=store, rank=rank, world_size=size, device_id=gpu,
        )  # fmt: skip
        return cls(rank, size, chosen, store)

    def close(self) -> None:
        """Let go of the others, who may be gone already."""
        if dist.is_initialized():
            with suppress(RuntimeError):
                dist.destroy_process_group()

    def barrier(self) -> None:
        """Wait until all have come here."""
        if self.size > 1:
            dist.barrier()

    def share(self, value: Any) -> Any:
        """What process 0 has, on all of them."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def first(self, check: Callable[[], None]) -> None:
        """Let process 0 check something; what it refuses, all refuse.

        Raises:
            UsageError: it does.
        """
        self.all_pass(check if self.leads else _nothing)

    def all_pass(self, check: Callable[[], None]) -> None:
        """Let every process check something; what one refuses, all refuse, in its words.

        Raises:
            UsageError: one does.
        """
        problem = ""
        try:
            check()
        except (UsageError, Disagreement) as error:
            problem = str(error)
        problems = [problem]
        if self.size > 1:
            problems = [""] * self.size
            dist.all_gather_object(problems, problem)
        if told := next(filter(None, problems), None):
            raise UsageError(told)

    def agree(self, flag: bool) -> bool:
        """Whether any process says yes; all get the same answer."""
        if self.size == 1:
            return flag
        votes = torch.tensor([int(flag)])
        dist.all_reduce(votes, dist.ReduceOp.MAX)
        return bool(votes.item())

    def total(self, number: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, on all of them; the argument is overwritten."""
        if self.size > 1:
            dist.all_reduce(number)
        return number

    def gather(self, array: torch.Tensor) -> torch.Tensor:
        """The equally large arrays of all processes, one below the other, on all of them."""
        if self.size == 1:
            return array
        parts = [torch.empty_like(array) for _ in range(self.size)]
        dist.all_gather(parts, array.contiguous())
        return torch.cat(parts)

    def speaks(self) -> bool:
        """Whether this process is the first that has an error to tell: one line, not one each."""
        if self.store is None:
            return True
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        with suppress(RuntimeError):  # the store went with the process that held it
            return self.store.add(f"said in attempt {attempt}", 1) == 1
        return True


def _nothing() -> None:
    pass


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another process is gone."""
    if isinstance(error, dist.DistError):
        return True
    words = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _device(name: str | None) -> torch.device:
    """The device that was asked for, or the best that is here."""
    here = int(os.environ.get("LOCAL_RANK", "0"))
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind = name.split(":")[0]
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.mps.is_available()}
    if kind not in there:
        raise SettingsError(f"--device must be cpu, cuda or mps, received {name!r}")
    if not there[kind]:
        raise SettingsError(f"--device {name}: this PyTorch finds no such device; try --device cpu")
    if kind == "cuda" and ":" not in name:
        there_are = torch.cuda.device_count()
        if here >= there_are:
            raise SettingsError(
                f"process {here} of this machine has no GPU: it has {there_are}; start as many"
            )
        return torch.device("cuda", here)
    return torch.device(name)
