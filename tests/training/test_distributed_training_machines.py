"""The page's commands for real machines are commands, and the job script does what it says."""

import os
import re
import subprocess
import sys

import pytest
import typer
from torch.distributed.elastic.rendezvous import c10d_rendezvous_backend
from torch.distributed.run import get_args_parser
from typer.main import get_command

from chainrule.course.manifest import find_root
from chainrule.trainer.commands import sample, train

PAGE = (find_root() / "training/distributed-training.md").read_text(encoding="utf-8")
SECTION = PAGE.split("### On real machines")[1].split("**Question.**")[0]
FENCES = re.findall(r"```text\n(.*?)```", SECTION, flags=re.S)
SCRIPT = next(fence for fence in FENCES if fence.startswith("#!/bin/bash"))


def commands():
    """Every `torchrun` and every `chainrule train` of the section, as words."""
    for fence in FENCES:
        for line in fence.replace("\\\n", " ").splitlines():
            if "torchrun" in line or line.startswith("chainrule"):
                yield line.replace('"', "").replace("$what", "--resume").split()


def parsed(words):
    """What the course's own parser makes of the words after `chainrule train`."""
    app = typer.Typer()
    for command in (sample.sample, train.train):
        app.command()(command)
    return get_command(app).commands["train"].make_context("train", words).params


def test_all_commands_are_understood():
    found = list(commands())
    assert len(found) == 5
    for words in found:
        if words[0] == "chainrule":
            assert words[1] == "train"
            parsed(words[2:])
            continue
        launcher = get_args_parser().parse_args(words[words.index("torchrun") + 1 :])
        assert launcher.module
        assert launcher.training_script == "chainrule"
        assert launcher.training_script_args[0] == "train"
        assert parsed(launcher.training_script_args[1:])["out"] is not None


def test_every_option_of_a_command_is_explained_below_it():
    for block in SECTION.split("<details>")[1:]:
        command = re.search(r"```text\n(.*?)```", block, flags=re.S)[1]
        explained = " ".join(re.findall(r"^\| (`.*?) \|", block, flags=re.M))
        rows = re.findall(r"`([^`]+)`", explained)
        for row in rows:
            for word in re.split(r"\s*…\s*/?|\s+", row):
                assert word in command, (word, command)


def launched(tmp_path):
    """Run the job script where the cluster's commands only write down how they were called."""
    shared = tmp_path / "shared"
    fakes = tmp_path / "bin"
    fakes.mkdir(exist_ok=True)
    (fakes / "scontrol").write_text("#!/bin/bash\nprintf 'node0\\nnode1\\n'\n")
    (fakes / "srun").write_text('#!/bin/bash\necho "$@"\n')
    for fake in fakes.iterdir():
        fake.chmod(0o755)
    environment = {
        "PATH": f"{fakes}:{os.environ['PATH']}", "SLURM_NNODES": "2", "SLURM_JOB_ID": "77",
        "SLURM_JOB_NODELIST": "node[0-1]",
    }  # fmt: skip
    script = SCRIPT.replace("/shared", str(shared))
    done = subprocess.run(
        ["bash", "-eu", "-c", script], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), shared


def test_the_job_starts_a_run_and_the_next_one_continues_it(tmp_path):
    words, shared = launched(tmp_path)
    launcher = get_args_parser().parse_args(words[1:])
    assert (launcher.nnodes, launcher.nproc_per_node, launcher.rdzv_id) == ("2", "8", "77")
    assert launcher.rdzv_endpoint == "node0:29500"
    first = parsed(launcher.training_script_args[1:])
    assert (first["resume"], first["steps"]) == (False, 20_000)
    (shared / "runs/plays/step-00000250").mkdir(parents=True)
    words, _ = launched(tmp_path)
    second = parsed(get_args_parser().parse_args(words[1:]).training_script_args[1:])
    assert (second["resume"], second["steps"]) == (True, None)
    assert second["out"] == first["out"] == shared / "runs/plays"


@pytest.mark.parametrize("options", [[], ["--nproc-per-node", "2"]])
def test_what_the_box_says_of_torchrun(options, tmp_path):
    script = tmp_path / "say.py"
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "OMP_NUM_THREADS")
    script.write_text(  # one write, which no other process can divide
        f"import os\nsaid = ' '.join(str(os.environ.get(n)) for n in {names})\n"
        "os.write(1, f'{said}\\n'.encode())\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in names}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", *options, str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    said = sorted(line for line in done.stdout.splitlines() if line)
    expected = ["0 0 2 1", "1 1 2 1"] if options else ["0 0 1 None"]
    assert said == expected, done.stderr
    assert c10d_rendezvous_backend.DEFAULT_PORT == 29400
