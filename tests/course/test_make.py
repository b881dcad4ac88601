"""``make`` from nothing, and the commands that README promises."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from site_sample import REPOSITORY

from chainrule.node import find_node

TARGETS = (
    "learn",
    "lab",
    "site",
    "test",
    "audit",
    "kernels",
    "figures",
    "notebooks",
    "fmt",
    "bench",
    "clean",
    "help",
)
MAIN = "from chainrule.cli import main; main()"
# Commands of README that only show something: they are typed here, as they stand there.
CHEAP = ("path", "doctor", "progress", "--version", "--help")


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", *arguments]
    # `make test` runs this: the inner make must not know that it has an outer one.
    outer = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    env = {name: value for name, value in os.environ.items() if name not in outer}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, env=env)


def fresh(folder: Path) -> Path:
    """A clone as `make` sees it, before anything is installed; its path has a space."""
    target = folder / "a clone"
    (target / "site").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "site/package-lock.json"):
        shutil.copy(REPOSITORY / name, target / name)
    return target


def readme_commands() -> list[str]:
    return commands_of((REPOSITORY / "README.md").read_text(encoding="utf-8"))


def commands_of(text: str) -> list[str]:
    """Every command in the shell blocks of a text, without prompt, comment and output."""
    commands = []
    for language, block in re.findall(r"^```(sh|bash|console)\n(.*?)^```", text, re.M | re.S):
        for line in block.splitlines():
            if language == "console" and not line.startswith("$ "):
                continue
            command = line.removeprefix("$ ").split("  #")[0].strip()
            if command and not command.startswith("#"):
                commands.append(command)
    return commands


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_is_there(tmp_path, target):
    done = make(fresh(tmp_path), "--dry-run", target)
    assert done.returncode == 0, done.stderr


def test_help_names_every_target(tmp_path):
    done = make(fresh(tmp_path))
    assert {line.split()[1] for line in done.stdout.splitlines()} == set(TARGETS)


def test_a_python_that_is_too_old_is_one_clear_line(tmp_path):
    clone = fresh(tmp_path)
    old = clone / "python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = make(clone, "learn", f"PYTHON={old}")
    assert done.returncode == 2
    first, *rest = done.stderr.splitlines()
    assert first == "Chain Rule needs Python 3.11 or newer; type: make PYTHON=python3.11 learn"
    assert all(line.startswith("make: ***") for line in rest)
    assert not (clone / ".venv").exists()


def test_a_second_run_installs_nothing(tmp_path):
    clone = fresh(tmp_path)
    for stamp in (
        ".venv/python",
        ".venv/learn",
        ".venv/test",
        "site/node_modules/.package-lock.json",
    ):
        (clone / stamp).parent.mkdir(parents=True, exist_ok=True)
        (clone / stamp).touch()
    for target in ("learn", "test", "audit", "site"):
        assert not re.search(r"pip|venv .venv|chainrule.node", make(clone, "-n", target).stdout)
    for name in ("constraints.txt", "pyproject.toml"):  # where the command's entry point stands
        subprocess.run(["touch", "-d", "+1 hour", str(clone / name)], check=True)
        assert "pip install" in make(clone, "-n", "learn").stdout
        subprocess.run(["touch", "-d", "-1 hour", str(clone / name)], check=True)
    assert "pip install" not in make(clone, "-n", "learn").stdout


def test_ci_runs_what_a_developer_runs():
    script = (REPOSITORY / ".ci/run").read_text(encoding="utf-8")
    assert "make test" in script
    assert "make audit" in script
    assert "make kernels" in script
    hooks = (REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    for command in ("ruff check", "ruff format", "mypy", "chainrule audit"):
        assert command in hooks
    assert "repo: local" in hooks
    assert hooks.count("repo:") == 1, "hooks from elsewhere need a network"


def test_workflows_are_sound(tmp_path):
    script = Path(__file__).with_name("lint_workflows.mjs")
    paths = sorted(str(path) for path in (REPOSITORY / ".github/workflows").glob("*.yml"))
    assert paths
    done = subprocess.run([find_node(), script, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    broken = tmp_path / "broken.yml"
    broken.write_text(Path(paths[0]).read_text().replace("needs: test", "needs: tset"))
    done = subprocess.run([find_node(), script, broken], capture_output=True, text=True)
    assert done.returncode == 1
    assert "does not exist" in done.stdout


def test_commands_are_read_from_shell_blocks_only():
    text = """
```sh
# a comment
make learn      # builds
chainrule path "kv cache" --known linear-algebra
```

```console
$ chainrule doctor
ok       Python 3.11
```

```python
print("make nothing")
```
"""
    known = 'chainrule path "kv cache" --known linear-algebra'
    assert commands_of(text) == ["make learn", known, "chainrule doctor"]


def test_what_readme_tells_to_type_exists(tmp_path):
    clone = fresh(tmp_path)
    for command in readme_commands():
        for part in re.split(r"&&|\||;", command):
            words = shlex.split(part)
            if words[:1] == ["make"]:
                done = make(clone, "--dry-run", *words[1:])
                assert done.returncode == 0, f"{part.strip()}: {done.stderr}"
            elif words and Path(words[0]).name == "chainrule":
                subcommand = [word for word in words[1:2] if not word.startswith("-")]
                done = subprocess.run(
                    [sys.executable, "-c", MAIN, *subcommand, "--help"],
                    capture_output=True,
                    text=True,
                )
                assert done.returncode == 0, f"{part.strip()}: {done.stderr}"
                options = [word.split("=")[0] for word in words if word.startswith("--")]
                assert all(option in done.stdout for option in options), part.strip()


def test_what_readme_tells_to_type_works():
    for command in readme_commands():
        words = shlex.split(command)
        if Path(words[0]).name == "chainrule" and words[1] in CHEAP:
            done = subprocess.run(
                [sys.executable, "-c", MAIN, *words[1:]],
                cwd=REPOSITORY,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, f"{command}: {done.stderr}"
