"""README's lines for more than one machine, each run as it stands but for its sizes."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from chainrule.course.manifest import find_root
from chainrule.trainer import checkpoint

ROOT = find_root()
SMALL = [
    "--batch-size", "3", "--context", "16", "--layers", "1", "--heads", "2", "--width", "16",
    "--evaluate-every", "9", "--save-every", "5", "--data", "text.txt",
]  # fmt: skip


def lines():
    """The commands of the section, one after the other."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## Beyond one machine")[1].split("\n## ")[0]
    return re.search(r"```sh\n(.*?)```", section, flags=re.S)[1].splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the lines leave; the first is trained on a short text, and all for fewer steps."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "text.txt").write_text("Row, row, row your boat, gently down the stream. " * 90)
    return folder


def run(folder, line):
    program, *words = shlex.split(re.sub(r"--steps (\d+)000", r"--steps \g<1>0", line))
    python = {
        "chainrule": ["-m", "chainrule"], "torchrun": ["-m", "torch.distributed.run"],
    }[Path(program).name]  # fmt: skip
    if "--resume" not in words:
        words += SMALL
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CHAINRULE_CHECK_SHAPES": "0"}
    done = subprocess.run(
        [sys.executable, *python, *words], cwd=folder, env=environment, capture_output=True,
        text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_chainrule_trains_goes_on_under_torchrun(folder):
    install, first, second = lines()[:3]
    assert install == '.venv/bin/pip install --constraint constraints.txt --editable ".[torch]"'
    assert first.startswith(".venv/bin/chainrule train ")
    run(folder, first)
    began = checkpoint.read_state(checkpoint.latest(folder / "runs/mine"))
    assert (began["step"], began.get("engine")) == (10, None)
    assert second.startswith(".venv/bin/torchrun --nproc-per-node 2 -m chainrule train ")
    printed = run(folder, second)
    assert "step 10 of 20" in printed
    assert "2 processes (ddp), cpu" in printed
    ended = checkpoint.read_state(checkpoint.latest(folder / "runs/mine"))
    assert (ended["step"], ended["engine"], ended["processes"]) == (20, "torch", 2)
