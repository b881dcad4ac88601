"""The rest of Chain Rule works without PyTorch, and does not import it where it is installed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src/chainrule"
BLOCKED = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name="torch")

sys.meta_path.insert(0, NoTorch())
"""
MAIN = "from chainrule.cli import main; main()"


def python(code, *arguments, cwd=None):
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_every_other_module_imports_without_torch():
    names = [
        ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
        for path in sorted(SOURCE.rglob("*.py"))
        if "pytorch" not in path.parts and path.name != "__main__.py"
    ]
    assert len(names) > 200
    imports = "\n".join(f"import {name.removesuffix('.__init__')}" for name in names)
    done = python(BLOCKED + imports + "\nassert 'torch' not in sys.modules\nprint('all')")
    assert done.stdout == "all\n", done.stderr


def test_importing_the_package_and_its_commands_brings_no_torch():
    code = """
import sys, typer, chainrule
from chainrule.application import build
build()
print(sorted(name for name in sys.modules if name.split(".")[0] == "torch"
             or name.startswith("chainrule.pytorch")))
"""
    done = python(code)
    assert done.stdout == "[]\n", done.stderr


def test_training_works_without_torch_and_its_engine_says_what_to_type(tmp_path):
    (tmp_path / "text.txt").write_text("green bottles hanging on the wall; " * 40)
    options = [
        "--steps",
        "2",
        "--batch-size",
        "2",
        "--context",
        "7",
        "--layers",
        "1",
        "--heads",
        "1",
        "--width",
        "4",
    ]
    command = ["train", "--data", "text.txt", "--out", "run", *options]
    done = python(BLOCKED + MAIN, *command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    asked = python(BLOCKED + MAIN, *command, "--engine", "torch", cwd=tmp_path)
    assert asked.returncode == 2
    (line,) = asked.stderr.splitlines()
    assert line.startswith("chainrule: torch is missing: it is in the extra 'torch'; type: ")


@pytest.mark.parametrize("path", sorted((SOURCE / "pytorch").rglob("*.py")), ids=lambda p: p.name)
def test_the_twin_borrows_no_library_but_torch(path):
    allowed = {"torch", "numpy", "chainrule", *sys.stdlib_module_names}
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert {name.split(".")[0] for name in names} <= allowed, (path, names)
