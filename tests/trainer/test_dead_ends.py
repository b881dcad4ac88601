"""A run that went wrong says what is sound, and what to type that is not refused next."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from chainrule import cli
from chainrule.trainer import checkpoint
from chainrule.trainer.loop import Run
from chainrule.trainer.sampling import load_trained

TEXT = "".join(f"{i} green bottles, hanging on the wall; " for i in range(200))
SETTINGS = "steps=4 batch-size=2 context=7 layers=1 heads=2 width=10 evaluate-every=2 save-every=2"
OPTIONS = [f"--{setting}" for setting in f"{SETTINGS} seed=3".split()]


@pytest.fixture
def chainrule(monkeypatch, capsys):
    """Run the command line in this process; returns status, output, errors."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, to be copied."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "text.txt").write_text(TEXT)
    with pytest.raises(SystemExit) as ended:
        cli.main(
            ["train", "--data", str(folder / "text.txt"), "--out", str(folder / "run"), *OPTIONS]
        )
    assert ended.value.code == 0
    return folder


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished / "run", tmp_path / "run")
    shutil.copy(finished / "text.txt", tmp_path / "text.txt")
    return tmp_path / "run"


def test_a_run_that_died_before_its_first_checkpoint_starts_anew(run, chainrule):
    for step in run.glob("step-*"):
        shutil.rmtree(step)
    status, _, errors = chainrule("train", "--resume", "--out", run)
    assert status == 2
    assert "no checkpoint" in errors
    assert "without --resume" in errors
    status, output, errors = chainrule(
        "train", "--data", run.parent / "text.txt", "--out", run, *OPTIONS
    )
    assert (status, errors) == (0, "")
    assert "ended before its first checkpoint" in output
    assert len((run / "losses.jsonl").read_text().splitlines()) == 4


def test_a_run_with_a_checkpoint_is_kept_and_both_ways_out_are_named(run, chainrule):
    status, _, errors = chainrule("train", "--out", run, *OPTIONS)
    assert status == 2
    for way in ("--resume", "--out", "delete"):
        assert way in errors


def test_a_loss_that_is_no_number_advises_what_is_not_refused(tmp_path, chainrule):
    (tmp_path / "text.txt").write_text(TEXT)
    options = ["--data", tmp_path / "text.txt", "--out", tmp_path / "run", *OPTIONS]
    with np.errstate(all="ignore"):
        status, _, errors = chainrule("train", *options, "--learning-rate", "1e38")
    assert status == 2
    assert "--learning-rate" in errors
    assert "--resume" not in errors
    assert "continue from" not in errors
    status, _, errors = chainrule("train", *options, "--learning-rate", "1e-3")
    assert (status, errors) == (0, "")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--learning-rate", "inf", "--learning-rate"),
        ("--learning-rate", "nan", "--learning-rate"),
        ("--weight-decay", "inf", "--weight-decay"),
        ("--clip", "nan", "--clip"),
        ("--final-learning-rate", "nan", "--final-learning-rate"),
        ("--steps", "99999999999999999999999", "--steps"),
        ("--seed", "99999999999999999999999", "--seed"),
        ("--seed", "-1", "--seed"),
        ("--width", "1000000", "--width"),
        ("--batch-size", "100000000", "--batch-size"),
        ("--steps", "1e3", "--steps"),
    ],
)
def test_settings_that_cannot_be_are_one_line(tmp_path, chainrule, option, value, said):
    (tmp_path / "text.txt").write_text(TEXT)
    options = ["--data", tmp_path / "text.txt", "--out", tmp_path / "run"]
    status, _, errors = chainrule("train", *options, option, value)
    assert status == 2, errors
    assert said in errors
    assert "parse string" not in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "run" / "losses.jsonl").exists()


def _remove(run):
    (run / "train.txt").unlink()


def _new_character(run):
    with (run / "train.txt").open("a", encoding="utf-8") as file:
        file.write("Ж")


def _known_characters(run):
    with (run / "validation.txt").open("a", encoding="utf-8") as file:
        file.write("wall")


def _latin(run):
    (run / "train.txt").write_bytes(b"caf\xe9")


@pytest.mark.parametrize("damage", [_remove, _new_character, _known_characters, _latin])
def test_a_damaged_text_never_advises_to_delete_a_checkpoint(run, chainrule, damage):
    damage(run)
    status, _, errors = chainrule("train", "--resume", "--steps", "6", "--out", run)
    assert status == 2
    assert len(errors.splitlines()) == 1, errors
    assert ".txt" in errors
    assert "delete" not in errors
    assert "checkpoints are as they were" in errors


def is_refused_in_one_line(run):
    for opened in (Run.resume, load_trained):
        with pytest.raises(checkpoint.CheckpointError, match="is damaged") as refused:
            opened(run)
        assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("width", 32_000_000_000), ("width", 200_000), ("layers", 10**7), ("context", 10**10)),
        *(("heads", 0), ("width", 10.5), ("width", "ten"), ("layers", -1), ("layers", None)),
    ],
)
def test_a_state_that_asks_for_more_than_its_file_holds(run, name, value):
    path = checkpoint.latest(run) / "state.json"
    state = json.loads(path.read_text())
    state["settings"][name] = value
    path.write_text(json.dumps(state))
    is_refused_in_one_line(run)


@pytest.mark.parametrize(
    "raw",
    [
        *(b"[" * 100_000, b"{" * 100_000, b"\xff\xfe", b"null", b"3", b"", b'"state"'),
        *(b'{"settings": 3}', b'{"settings": {}, "alphabet": "ab"}', b'{"settings": null}'),
    ],
)
def test_hostile_states_are_one_line(run, raw):
    (checkpoint.latest(run) / "state.json").write_bytes(raw)
    is_refused_in_one_line(run)


@pytest.mark.parametrize(
    "header",
    [
        *(b"[" * 50_000, b"{" * 50_000, b"null", b"{", b'{"a": 3}', b"[]"),
        b'{"a":{"dtype":["F32"],"shape":[1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[0,4611686018427387904],"data_offsets":[0,0]}}',
        b'{"a":{"dtype":"F32","shape":"1","data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}',
        b'{"__metadata__":null}',
    ],
)
def test_hostile_weights_are_one_line(run, header):
    path = checkpoint.latest(run) / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    is_refused_in_one_line(run)


def test_without_matplotlib_no_step_is_taken(tmp_path, chainrule, monkeypatch):
    from chainrule.trainer.commands import train

    monkeypatch.setattr(train, "find_spec", lambda name: None)
    (tmp_path / "text.txt").write_text(TEXT)
    status, output, errors = chainrule(
        "train", "--data", tmp_path / "text.txt", "--out", tmp_path / "run", *OPTIONS
    )
    assert (status, output) == (2, "")
    assert "matplotlib is missing" in errors
    assert not (tmp_path / "run").exists()


def test_a_finished_run_without_its_report_gets_it(run, chainrule):
    (run / "REPORT.md").unlink()
    status, output, _ = chainrule("train", "--resume", "--out", run)
    assert status == 0
    assert (run / "REPORT.md").is_file()
    assert "report:" in output
    status, output, _ = chainrule("train", "--resume", "--out", run)
    assert "is finished at step 4" in output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seed", "-5"], "--seed"),
        (["--temperature", "nan"], "--temperature"),
        (["--temperature", "inf"], "--temperature"),
        (["--top-p", "nan"], "--top-p"),
        (["--min-p", "nan"], "--min-p"),
        (["--prompt", "é"], "the model has never seen 'é'"),
    ],
)
def test_what_cannot_be_sampled_is_one_line_and_nothing_before_it(run, chainrule, arguments, said):
    status, output, errors = chainrule("sample", run, *arguments)
    assert (status, output) == (2, "")
    assert said in errors
    assert len(errors.splitlines()) == 1


def test_a_text_with_nothing_left_to_be_held_out_says_so(tmp_path, chainrule):
    (tmp_path / "text.txt").write_text("a" * 900 + "b" * 100)
    status, _, errors = chainrule("train", "--data", tmp_path / "text.txt", "--out", tmp_path / "r")
    assert status == 2
    assert "'b'" in errors
    assert "smaller --context" not in errors


def test_where_folders_cannot_be_opened_a_checkpoint_is_written(tmp_path, monkeypatch):
    """Windows: a folder cannot be opened, and only what is open for writing can be flushed."""
    opened = os.open

    def like_windows(path, flags, *rest):
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        assert flags & os.O_RDWR
        return opened(path, flags, *rest)

    monkeypatch.setattr(checkpoint.os, "open", like_windows)
    monkeypatch.setattr(checkpoint, "POSIX", False)
    files = {"model.safetensors": lambda path: path.write_bytes(b"weights")}
    assert checkpoint.save(tmp_path, 3, files, {}).name == "step-00000003"
    assert checkpoint.latest(tmp_path) is not None
