"""One process, two processes, NumPy: the same losses, whatever happens on the way."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from chainrule.cli import main
from chainrule.pytorch.run import Options
from chainrule.trainer import checkpoint
from chainrule.trainer.sampling import load_trained
from chainrule.trainer.settings import SettingsError

TEXT = "".join(f"{i} green bottles, hanging on the wall; " for i in range(300))
STEPS, KILLED = 12, 7
# five sequences on two processes: one has three of them, the other two
OPTIONS = (
    f"--data text.txt --steps {STEPS} --batch-size 5 --context 16 --layers 2 --heads 2 --width 32 "
    "--evaluate-every 4 --save-every 3 --seed 3"
).split()
SCRIPT = Path(__file__).with_name("processes.py")


def chainrule(folder, *words):
    """Run a command line in this process: its exit status, what it printed, what it complained."""
    out, err = io.StringIO(), io.StringIO()
    told = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with contextlib.chdir(folder), told[0], told[1], pytest.raises(SystemExit) as stop:
        main(list(words))
    return stop.value.code, out.getvalue(), err.getvalue()


def refused(folder, out, *words):
    """Give `train` bad input, in this process: the one line that it answers with."""
    code, printed, complained = chainrule(folder, "train", "--out", out, *words)
    assert code == 2, printed + complained
    assert len(complained.splitlines()) == 1, complained
    return complained


def processes(folder, count, *jobs):
    """Run command lines in new processes; each job is a list of words, or (words, event)."""
    jobs = [job if isinstance(job, tuple) else (job, None) for job in jobs]
    script = folder / f"jobs-{len(list(folder.glob('jobs-*')))}.json"
    script.write_text(json.dumps(jobs))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    command = [sys.executable, *(launcher if count > 1 else []), str(SCRIPT), str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CHAINRULE_CHECK_SHAPES": "0"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def losses(run):
    entries = [json.loads(line) for line in (run / "losses.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == list(range(1, STEPS + 1))
    return np.array([entry["loss"] for entry in entries])


def weights(run):
    model, _ = load_trained(run)
    return np.concatenate([array.ravel() for array in model.state_dict().values()])


def assert_same(run, other, tolerance=1e-5):
    np.testing.assert_allclose(losses(run), losses(other), rtol=0, atol=tolerance)
    np.testing.assert_allclose(weights(run), weights(other), rtol=0, atol=10 * tolerance)


def back_to(run, step):
    """Take a run back to the checkpoint of a step."""
    for path in run.glob("step-*"):
        if path.name != f"step-{step:08d}":
            shutil.rmtree(path)


def job(out, *words, event=None):
    return ["train", "--out", out, *words], event


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text(TEXT)
    return folder


ENGINE = [*OPTIONS, "--engine", "torch"]


@pytest.fixture(scope="module")
def one(runs):
    """What one process does, NumPy's run first."""
    return processes(
        runs, 1,
        job("numpy", *OPTIONS),
        job("one", *ENGINE),
        job("plain", *ENGINE, "--no-fused-attention", "--no-fused-adamw", "--micro-batch", "2"),
        job("bf16", *ENGINE, "--bf16"),
        job("compiled", *ENGINE, "--compile", event=["compile", 1.0]),
        job("miscompiled", *ENGINE, "--compile", event=["compile", 1.01]),
        job("dropped", *ENGINE, "--dropout", "0.2"),
        job("halved", *ENGINE, "--dropout", "0.2", event=["interrupt", 0, 4]),
        job("halved", "--resume"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def killed(runs):
    """What torchrun said when the second of two processes was killed in the middle of a step."""
    return processes(runs, 2, job("killed", *ENGINE, event=["kill", 1, KILLED]))


@pytest.fixture(scope="module")
def two(runs, one, killed):
    """What two processes do."""
    copies = {"again": "killed", "again-cut": "killed", "taken-over": "numpy", "one-on-two": "one"}
    for name, source in copies.items():
        shutil.copytree(runs / source, runs / name)
        back_to(runs / name, {"killed": 6}.get(source, 9))
    return processes(
        runs, 2,
        job("ddp", *ENGINE),
        job("fsdp", *ENGINE, "--parallel", "fsdp", "--micro-batch", "2"),
        job("again", "--resume", "--micro-batch", "1"),
        job("again-cut", "--resume", "--parallel", "fsdp"),
        job("taken-over", "--resume", "--engine", "torch"),
        job("stopped", *ENGINE, event=["interrupt", 1, 4]),
        job("ddp", *ENGINE),
        job("small", *ENGINE, "--batch-size", "1"),
        job("wide", *ENGINE, "--width", "33"),
        job("one-on-two", "--resume", "--parallel", "fsdp"),
        # the last: the other process notices when this one has ended
        job("broken", *ENGINE, event=["break", 1]),
    )  # fmt: skip


@pytest.fixture(scope="module")
def after(runs, two):
    """What one process does with what two left."""
    for source in ("ddp", "fsdp"):
        shutil.copytree(runs / source, runs / f"{source}-on-one")
        back_to(runs / f"{source}-on-one", 9)
    return processes(
        runs, 1,
        job("ddp-on-one", "--resume"), job("fsdp-on-one", "--resume"), job("stopped", "--resume"),
    )  # fmt: skip


def ended(done, number):
    """The exit status of one of the command lines, the same in both processes."""
    found = [
        line.split()[4]
        for line in done.stdout.splitlines()
        if line.startswith(f"command {number} ")
    ]
    assert found, done.stdout + done.stderr
    assert len(set(found)) == 1
    return int(found[0])


def test_one_process_of_pytorch_gives_the_losses_of_numpy(runs, one):
    assert ended(one, 0) == ended(one, 1) == 0
    assert_same(runs / "one", runs / "numpy", 1e-4)
    report = (runs / "one" / "REPORT.md").read_text()
    assert f"PyTorch {torch.__version__}, 1 process, cpu." in report
    names = sorted(path.name for path in (runs / "one").iterdir())
    assert names == sorted(path.name for path in (runs / "numpy").iterdir())


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_two_processes_give_the_losses_of_one(runs, two, how):
    assert ended(two, ["ddp", "fsdp"].index(how)) == 0
    assert_same(runs / how, runs / "one")
    assert f"2 processes ({how}), cpu." in (runs / how / "REPORT.md").read_text()


def test_only_one_of_two_processes_speaks(runs, two):
    assert two.stdout.count("report: ddp/REPORT.md") == 1
    assert two.stdout.count("agree with the NumPy engine within") == 7


def test_a_killed_process_ends_the_run_with_one_clear_line(runs, killed):
    assert killed.returncode != 0
    said = [line for line in killed.stderr.splitlines() if line.startswith("chainrule: ")]
    assert said == [
        f"chainrule: another process of this run has ended in step {KILLED + 1}; continue from "
        "step-00000006 with: torchrun --nproc-per-node 2 -m chainrule train --resume --out killed"
    ]
    assert checkpoint.latest(runs / "killed").name == "step-00000006"
    assert not list((runs / "killed").glob(".*part"))


@pytest.mark.parametrize("name", ["again", "again-cut"])
def test_a_killed_run_goes_on_to_the_same_end(runs, two, name):
    """Read one sequence at a time, and with weights that are cut where they were whole."""
    assert ended(two, {"again": 2, "again-cut": 3}[name]) == 0
    assert_same(runs / name, runs / "one")


@pytest.mark.parametrize("source", ["ddp", "fsdp"])
def test_one_process_continues_what_two_began(runs, after, source):
    assert ended(after, ["ddp", "fsdp"].index(source)) == 0
    assert after.stdout.count("step 9 of 12") == 2
    assert after.stdout.count("1 process, cpu") == 3
    assert_same(runs / f"{source}-on-one", runs / "one")


def test_two_processes_continue_what_numpy_or_one_process_began(runs, two):
    assert ended(two, 4) == ended(two, 9) == 0
    assert_same(runs / "taken-over", runs / "numpy")
    assert_same(runs / "one-on-two", runs / "one")


def test_an_interrupt_stops_both_after_the_same_step(runs, two, after):
    assert ended(two, 5) == 130
    assert "stopped at step 5, saved. Continue with:" in two.stdout
    again = "torchrun --nproc-per-node 2 -m chainrule train --resume --out stopped"
    assert again in two.stdout
    assert ended(after, 2) == 0
    assert "step 5 of 12" in after.stdout
    assert_same(runs / "stopped", runs / "one")


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (6, "ddp already holds a run at step 12; add --resume to continue it, or give another"),
        (7, "--batch-size 1 leaves some of 2 processes without a sequence; start at most 1"),
        (8, "--width 33 does not divide into --heads 2; try --width 32"),
        (10, "gelu on cpu disagrees with the NumPy engine: forward is off by 0.01 of its"),
    ],
)
def test_bad_input_to_two_processes_is_one_line(runs, two, number, line):
    assert ended(two, number) == 2
    said = [text for text in two.stderr.splitlines() if text.startswith("chainrule: ")]
    assert len(said) == 4
    assert said[[6, 7, 8, 10].index(number)].startswith(f"chainrule: {line}")
    assert not any((runs / out).exists() for out in ("small", "wide", "broken"))


def test_a_model_of_two_processes_is_sampled_without_pytorch(runs, two):
    words = ["sample", "fsdp", "--prompt", "3 green", "--length", "40", "--seed", "5"]
    code, printed, _ = chainrule(runs, *words)
    assert code == 0
    assert printed.startswith("3 green")


@pytest.mark.parametrize(("name", "tolerance"), [("plain", 1e-5), ("bf16", 0.02)])
def test_options_change_the_losses_by_rounding_alone(runs, one, name, tolerance):
    apart = np.abs(losses(runs / name) - losses(runs / "one"))
    assert 0 < apart.max() < tolerance


def test_a_compiled_model_computes_the_same(runs, one):
    assert ended(one, 4) == 0
    assert "\ncompiled\n" in one.stdout
    assert_same(runs / "compiled", runs / "one")


def test_a_compiler_that_is_wrong_is_refused_by_name(runs, one):
    assert ended(one, 5) == 2
    assert one.stderr.startswith("chainrule: torch.compile on cpu disagrees with the NumPy engine")
    assert not list((runs / "miscompiled").glob("step-*"))


def test_a_device_that_disagrees_trains_nothing(runs, monkeypatch):
    right = torch.nn.functional.gelu
    monkeypatch.setattr(
        torch.nn.functional, "gelu", lambda x, **options: 1.01 * right(x, **options)
    )
    complained = refused(runs, "wrong", *ENGINE)
    assert complained.startswith("chainrule: gelu on cpu disagrees with the NumPy engine: forward")
    assert not (runs / "wrong").exists()


def test_dropout_is_the_same_after_a_resumption(runs, one):
    """Its masks follow from the seed, the step and the process, not from what ran before."""
    assert ended(one, 7) == 130
    assert ended(one, 8) == 0
    assert np.array_equal(losses(runs / "halved"), losses(runs / "dropped"))
    assert np.abs(losses(runs / "dropped") - losses(runs / "one")).max() > 1e-3


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--engine", "jax"], "--engine must be numpy or torch, received 'jax'"),
        (["--bf16"], "--bf16 is PyTorch's; add --engine torch, or leave it out"),
        (["--engine", "torch", "--parallel", "tp"], "--parallel must be ddp or fsdp"),
        (["--engine", "torch", "--micro-batch", "-1"], "--micro-batch must be at least 1"),
        (["--engine", "torch", "--device", "tpu"], "--device must be cpu, cuda or mps"),
        pytest.param(
            ["--engine", "torch", "--device", "cuda"],
            "--device cuda: this PyTorch finds no such device; try --device cpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_bad_options_are_one_clear_line_and_write_nothing(runs, words, line):
    assert refused(runs, "nothing", *OPTIONS, *words).startswith(f"chainrule: {line}")
    assert not (runs / "nothing").exists()


def test_numpy_does_not_read_what_pytorch_wrote(runs, one):
    complained = refused(runs, "one", "--resume", "--engine", "numpy")
    assert complained == (
        "chainrule: one was trained with --engine torch; leave out --engine numpy\n"
    )


def test_a_damaged_part_is_one_line_and_the_one_before_is_named(runs, one):
    shutil.copytree(runs / "one", runs / "damaged")
    newest = checkpoint.latest(runs / "damaged")
    (newest / "distributed" / ".metadata").write_bytes(b"short")
    complained = refused(runs, "damaged", "--resume")
    assert f"{newest.name} is damaged" in complained
    assert "delete it to continue from step-00000009" in complained


def test_what_is_typed_wins_over_what_a_checkpoint_says():
    stored = {"parallel": "fsdp", "bf16": True, "device": "cuda", "from_the_future": 1}
    options = Options.of(stored, {"bf16": False})
    assert (options.parallel, options.bf16, options.device) == ("fsdp", False, None)
    with pytest.raises(SettingsError, match="--parallel must be ddp or fsdp"):
        Options.of(stored, {"parallel": ""})
