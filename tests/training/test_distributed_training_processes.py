"""Two real processes: the weights of the simulator, bit for bit; and under torchrun likewise."""

import importlib
import inspect
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from chainrule.training.distributed_training.processes import run_processes
from chainrule.training.distributed_training.script import digest, train
from chainrule.training.distributed_training.world import CommunicationError, World

PROGRAMS = """
import numpy as np
from chainrule.training.distributed_training.collectives import all_reduce

def add_up(w, size):
    return all_reduce(w, np.arange(size) * (w.rank + 1.0)), w.bytes_sent

def disagree(w):
    if w.rank == 0:
        w.send(1, np.ones(1), "a")
    else:
        w.receive(0, "b")

def leave(w):
    if w.rank == 0:
        raise KeyError("gone")
    w.receive(0)

def beyond(w):
    if w.rank == 1:
        w.receive(0)

def deadlock(w):
    w.receive(1 - w.rank)
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """A module that a new process can import too."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "programs_of_the_test.py").write_text(textwrap.dedent(PROGRAMS))
    sys.path.insert(0, str(folder))
    yield importlib.import_module("programs_of_the_test")
    sys.path.remove(str(folder))


def test_two_processes_add_up_like_two_simulated_workers(programs):
    simulated = World(2).run(programs.add_up, 7)
    real = run_processes(2, programs.add_up, (7,))
    for (a, sent_a), (b, sent_b) in zip(simulated, real, strict=True):
        np.testing.assert_array_equal(a, b)
        assert sent_a == sent_b


def test_fault_processes_that_disagree_are_named(programs):
    with pytest.raises(CommunicationError, match="expected 'b' from worker 0, got 'a'"):
        run_processes(2, programs.disagree)


def test_fault_process_that_fails_is_named(programs):
    with pytest.raises(CommunicationError, match="process 0 failed: KeyError: 'gone'"):
        run_processes(2, programs.leave)


def test_fault_message_that_nobody_sends_is_named(programs):
    with pytest.raises(CommunicationError, match=r"process 1 failed: .* 0, got 'good-bye'"):
        run_processes(2, programs.beyond)


def test_fault_processes_that_wait_forever_are_named(programs):
    with pytest.raises(CommunicationError, match=r"not done after 1\.5 seconds: process 0, 1$"):
        run_processes(2, programs.deadlock, timeout=1.5)


def test_two_processes_train_the_same_model_as_the_simulator():
    simulated = World(2).run(train, 2, 4)
    real = run_processes(2, train, (2, 4))
    alone = World(1).run(train, 2, 4)[0]
    assert len({digest(state) for state in [*simulated, *real]}) == 1
    for name, array in alone.items():
        np.testing.assert_allclose(real[0][name], array, rtol=0, atol=1e-11, err_msg=name)


@pytest.mark.slow
def test_the_script_under_torchrun():
    pytest.importorskip("torch")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", "29517", "-m", "chainrule.training.distributed_training.script"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("worker")]
    name = digest(World(2).run(train)[0])
    assert sorted(lines) == [f"worker 0 of 2: {name}", f"worker 1 of 2: {name}"]


def test_at_least_one_process():
    with pytest.raises(ValueError, match="at least 1 process, got 0"):
        run_processes(0, print)


def test_what_the_page_says_of_pytorch():
    torch = pytest.importorskip("torch")
    from torch.distributed import fsdp, pipelining, tensor
    from torch.distributed.tensor import parallel

    signature = inspect.signature(torch.distributed.all_reduce).parameters
    assert signature["op"].default == torch.distributed.ReduceOp.SUM
    names = {name for name in dir(pipelining) if name.startswith("Schedule")}
    assert {"ScheduleGPipe", "Schedule1F1B", "ScheduleInterleaved1F1B"} < names
    assert "ScheduleZBVZeroBubble" in names
    assert not [name for name in names if "H1" in name]
    options = inspect.signature(fsdp.fully_shard).parameters
    assert options["reshard_after_forward"].default is None
    assert "dim-0" in fsdp.fully_shard.__doc__
    assert {"ColwiseParallel", "RowwiseParallel", "SequenceParallel", "parallelize_module"} < set(
        dir(parallel)
    )
    assert {"Shard", "Replicate", "Partial"} < set(dir(tensor))
