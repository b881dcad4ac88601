"""A run killed at any moment and resumed equals the run that was left alone, to the last bit."""

import json
import signal
import subprocess
import sys
import time

import pytest

from chainrule.trainer import checkpoint

TEXT = "".join(f"{i} green bottles, hanging on the wall; " for i in range(200))
STEPS = 12
OPTIONS = (
    f"--steps {STEPS} --batch-size 2 --context 7 --layers 1 --heads 2 --width 10 --dropout 0.1 "
    "--evaluate-every 4 --save-every 3 --seed 3"
).split()
MAIN = "from chainrule.cli import main; main()"


def chainrule(folder, *arguments, before="", expect=0):
    """Run the command line in another process, after the Python statements in ``before``."""
    command = [sys.executable, "-c", before + "\n" + MAIN, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def train(folder, out, *arguments, **keywords):
    return chainrule(folder, "train", "--out", out, *arguments, **keywords)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run: its folder, its record and its last weights."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text(TEXT)
    train(folder, "whole", "--data", "text.txt", *OPTIONS)
    return folder


def results(run):
    record = (run / "losses.jsonl").read_text()
    return record, (checkpoint.latest(run) / "model.safetensors").read_bytes()


def assert_same_as_whole(folder, out):
    record, weights = results(folder / "whole")
    assert len(record.splitlines()) == STEPS
    assert results(folder / out) == (record, weights)


@pytest.mark.parametrize("step", [1, 3, 4, 8, 11])
def test_kill_at_a_step(whole, step):
    out = f"killed-at-{step}"
    before = f"""
import os, signal
from chainrule.trainer.loop import Run
advance = Run.advance
def advance_and_die(run):
    if run.step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
    return advance(run)
Run.advance = advance_and_die
"""
    train(whole, out, "--data", "text.txt", *OPTIONS, before=before, expect=-signal.SIGKILL)
    if step < 3:  # nothing was saved yet: one clear line, and the record is still there
        failed = train(whole, out, "--resume", expect=2)
        assert "holds no checkpoint" in failed.stderr
        return
    train(whole, out, "--resume")
    assert_same_as_whole(whole, out)


@pytest.mark.parametrize("call", range(1, 9))
def test_kill_during_a_checkpoint_write(whole, call):
    """Every checkpoint flushes four times: three files, then the folder after the rename."""
    out = f"killed-in-write-{call}"
    before = f"""
import os, signal
from chainrule.trainer import checkpoint
flush, calls = checkpoint._flush, []
def flush_and_die(path):
    calls.append(path)
    if len(calls) == {call} + 4:
        os.kill(os.getpid(), signal.SIGKILL)
    flush(path)
checkpoint._flush = flush_and_die
"""
    train(whole, out, "--data", "text.txt", *OPTIONS, before=before, expect=-signal.SIGKILL)
    train(whole, out, "--resume")
    assert_same_as_whole(whole, out)


def test_kill_from_outside_while_it_runs(whole):
    out = "killed-from-outside"
    command = [sys.executable, "-c", MAIN, "train", "--out", out, "--data", "text.txt", *OPTIONS]
    process = subprocess.Popen(command, cwd=whole, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while checkpoint.latest(whole / out) is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.wait()
    train(whole, out, "--resume")
    assert_same_as_whole(whole, out)


def test_ctrl_c_saves_and_says_how_to_resume(whole):
    out = "interrupted"
    before = """
import os, signal
from chainrule.trainer.loop import Run
advance = Run.advance
def advance_and_interrupt(run):
    if run.step == 4:
        os.kill(os.getpid(), signal.SIGINT)
    return advance(run)
Run.advance = advance_and_interrupt
"""
    stopped = train(whole, out, "--data", "text.txt", *OPTIONS, before=before, expect=130)
    assert f"chainrule train --resume --out {out}" in stopped.stdout
    assert checkpoint.latest(whole / out).name == "step-00000005"
    train(whole, out, "--resume")
    assert_same_as_whole(whole, out)


def test_a_finished_run_trains_on_to_a_later_step(whole):
    out = "longer"
    train(whole, out, "--data", "text.txt", *OPTIONS)
    before = (whole / out / "losses.jsonl").read_text().splitlines()
    train(whole, out, "--resume", "--steps", str(STEPS + 2))
    after = (whole / out / "losses.jsonl").read_text().splitlines()
    assert after[:STEPS] == before
    assert [json.loads(line)["step"] for line in after[STEPS:]] == [STEPS + 1, STEPS + 2]
    assert f"| steps | {STEPS + 2} |" in (whole / out / "REPORT.md").read_text()
    failed = train(whole, out, "--resume", "--steps", "5", expect=2)
    assert "--steps 5 is behind the run, which is at step 14" in failed.stderr


def test_record_cut_in_the_middle_of_a_line(whole):
    out = "cut"
    train(whole, out, "--data", "text.txt", *OPTIONS)
    for folder in sorted((whole / out).glob("step-*"))[1:]:
        (folder / "state.json").unlink()
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    record = whole / out / "losses.jsonl"
    record.write_text(record.read_text()[:-20])
    train(whole, out, "--resume")
    assert_same_as_whole(whole, out)


def test_source_text_may_change_between_sittings(whole):
    out = "edited"
    (whole / "edited.txt").write_text(TEXT)
    before = """
from chainrule.trainer.loop import Run
remaining = Run.remaining
def three(run):
    for entry in remaining(run):
        yield entry
        if run.step == 6: raise SystemExit(9)
Run.remaining = three
"""
    train(whole, out, "--data", "edited.txt", *OPTIONS, before=before, expect=9)
    (whole / "edited.txt").write_text("something else entirely")
    train(whole, out, "--resume")
    record, weights = results(whole / out)
    assert (record, weights) == results(whole / "whole")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.json", b"{"),
        ("state.json", b"[]"),
        ("state.json", b'{"step": 12}'),
        ("model.safetensors", b"short"),
        ("optimizer.safetensors", b""),
    ],
)
def test_damaged_checkpoint_is_one_line_and_the_one_before_is_named(whole, name, content):
    out = f"damaged-{name}-{len(content)}"
    train(whole, out, "--data", "text.txt", *OPTIONS)
    newest = checkpoint.latest(whole / out)
    (newest / name).write_bytes(content)
    failed = train(whole, out, "--resume", expect=2)
    assert len(failed.stderr.splitlines()) == 1, failed.stderr
    assert f"{newest.name} is damaged" in failed.stderr
    assert "delete it to continue from step-00000009" in failed.stderr


def test_full_disk_keeps_the_last_checkpoint(whole):
    out = "full"
    before = """
import errno
from chainrule.trainer import checkpoint
flush, calls = checkpoint._flush, []
def full(path):
    calls.append(path)
    if len(calls) > 4:
        raise OSError(errno.ENOSPC, "No space left on device")
    flush(path)
checkpoint._flush = full
"""
    failed = train(whole, out, "--data", "text.txt", *OPTIONS, before=before, expect=2)
    assert "No space left on device; the last one, step-00000003, is untouched" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1
    assert not list((whole / out).glob(".*part"))
    train(whole, out, "--resume")
    assert_same_as_whole(whole, out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "none.txt"], "none.txt does not exist"),
        (["--data", "."], "is a folder"),
        (["--data", "text.txt", "--width", "10", "--heads", "3"], "--width 10 does not divide"),
        (["--data", "text.txt", "--context", "5000"], "fewer than one context"),
        (["--data", "text.txt", "--steps", "0"], "--steps must be at least 1"),
        (["--data", "text.txt", "--dropout", "1"], "--dropout must be at least 0 and below 1"),
        (["--data", "text.txt", "--learning-rate", "-1"], "--learning-rate must be above 0"),
        (["--resume"], "holds no checkpoint"),
        (["--resume", "--width", "8"], "leave out --width"),
    ],
)
def test_bad_input_is_one_clear_line_and_writes_nothing(whole, arguments, message):
    failed = train(whole, "nothing", *arguments, expect=2)
    assert message in failed.stderr
    assert len(failed.stderr.splitlines()) == 1
    assert not (whole / "nothing").exists()


def test_a_finished_run_is_not_overwritten(whole):
    before = results(whole / "whole")
    failed = train(whole, "whole", "--data", "text.txt", *OPTIONS, expect=2)
    assert "already holds a run at step 12; add --resume" in failed.stderr
    assert results(whole / "whole") == before


def test_the_report_is_complete(whole):
    report = (whole / "whole" / "REPORT.md").read_text()
    for line in ("Witten–Bell 5-gram", "windows of 7 characters from cold", "| seed | 3 |"):
        assert line in report
    assert (whole / "whole" / "loss.svg").read_text().startswith("<?xml")
    entries = [json.loads(line) for line in results(whole / "whole")[0].splitlines()]
    assert [e["step"] for e in entries if e["validation"] is not None] == [4, 8, 12]
    assert (whole / "whole" / "step-00000012").is_dir()


def test_sampling_streams_the_same_text_for_the_same_seed(whole):
    arguments = ["sample", "whole", "--prompt", "3 green", "--length", "40", "--seed", "5"]
    first = chainrule(whole, *arguments).stdout
    assert first == chainrule(whole, *arguments).stdout
    assert first.startswith("3 green")
    assert len(first) == len("3 green") + 40 + 1
    assert first != chainrule(whole, *arguments[:-1], "6").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "Ü"], "the model has never seen 'Ü'"),
        (["--prompt", ""], "--prompt is empty"),
        (["--temperature", "-1"], "--temperature must be 0 or more"),
        (["--top-p", "0"], "--top-p must be above 0"),
    ],
)
def test_bad_sampling_input(whole, arguments, message):
    failed = chainrule(whole, "sample", "whole", *arguments, expect=2)
    assert message in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_sampling_without_a_run_says_what_to_type(tmp_path):
    failed = chainrule(tmp_path, "sample", expect=2)
    assert "no trained model in runs/; type: chainrule train" in failed.stderr
