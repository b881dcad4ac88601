"""The command line: what it lists, how it refuses, and what it does in odd surroundings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import version

import pytest
from sample_course import CODE

from chainrule.application import GROUPS
from chainrule.course.manifest import load_course

STUB = "    ..."
FILE = "workbook/math-foundations/lengths.py"


def test_commands_are_suggested_as_they_were_called(small, tmp_path):
    program = small.root / "bin" / "chainrule"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{CODE}\n")
    program.chmod(0o755)

    def run(*command, path=os.environ["PATH"]):
        return subprocess.run(
            command,
            cwd=small.root,
            env={**os.environ, "PATH": path},
            capture_output=True,
            encoding="utf-8",
        )

    written = run("bin/chainrule", "exercise", "lengths")
    assert "then type: bin/chainrule check lengths --watch" in written.stdout
    assert "    bin/chainrule check lengths\n" in (small.root / FILE).read_text()
    refused = run(program, "check", "slopes")
    assert "yet; type: bin/chainrule exercise slopes" in refused.stderr
    found = run("chainrule", "check", "slopes", path=f"{program.parent}:{os.environ['PATH']}")
    assert "yet; type: chainrule exercise slopes" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chekc"], "No such command 'chekc'. Did you mean 'check'; see: chainrule --help"),
        (["path"], "Missing argument 'subject'; see: chainrule path --help"),
        (
            ["audit", "neurons", "--format", "pdf"],
            "Invalid value for '--format': 'pdf' is not one of 'text', 'json'",
        ),
        (["path", "neurns"], "no subject is called 'neurns'; did you mean 'Neurons' or"),
        (
            ["exercise", "neurons"],
            "'Neurons' has no exercises yet; there are some for: lengths, slopes",
        ),
        (["exercise", "lengths", "--reset", "thrice"], "no exercise is 'thrice'; there are: twice"),
        (["exercise", "--frobnicate"], "No such option: --frobnicate"),
        (["check"], "the workbook is empty; type: chainrule exercise lengths"),
        (
            ["check", "lengths"],
            "there is no workbook/math-foundations/lengths.py yet; type: chainrule",
        ),
        (["check", "neurons"], "'Neurons' has no exercises yet"),
        (["check", "--solution", "thrice"], "no exercise is 'thrice'; there are: twice, twice"),
        (["progress", "--known", "nothing at all"], "no subject is called 'nothing at all'"),
    ],
)
def test_bad_input_gets_one_line_and_writes_nothing(chainrule, small, arguments, said):
    status, output, errors = chainrule(*arguments)
    assert (status, output) == (2, "")
    assert errors.startswith("chainrule: ")
    assert said in errors
    assert errors.count("\n") == 1
    assert not (small.root / "workbook").exists()


def test_below_the_root_works_too(chainrule, small):
    status, output, _ = chainrule("path", "neurons", cwd=small.root / "math-foundations")
    assert (status, "3 documents" in output) == (0, True)


def test_version_help_and_no_arguments(chainrule):
    assert chainrule("--version") == (0, f"chainrule {version('chainrule')}\n", "")
    for arguments in ([], ["--help"]):
        status, output, _ = chainrule(*arguments)
        assert status == 0
        for command in ("audit", "check", "exercise", "learn", "path", "progress", "train"):
            assert f"\n  {command} " in output


def test_help_lists_every_command_in_the_group_of_who_types_it(chainrule):
    _, output, _ = chainrule("--help")
    named = {title: re.findall(r"^  ([\w-]+) ", part, re.M) for title, part in _parts(output)}
    assert "--version" in named.pop("Options")
    assert {title: tuple(names) for title, names in named.items()} == GROUPS


def _parts(output):
    pieces = re.split(r"^(\w+):\n", output, flags=re.M)[1:]
    return list(zip(pieces[::2], pieces[1::2], strict=True))


def test_shell_completion_completes_commands(chainrule):
    environment = {"_CHAINRULE_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "chainrule pro"}
    _, output, _ = chainrule(**environment)
    assert "progress" in output
    assert "path" not in output


def test_an_ascii_terminal_does_not_crash(chainrule):
    chainrule("exercise", "lengths")
    status, output, _ = chainrule("check", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (status, "Twice in lengths" in output) == (1, True)


def test_output_is_plain_when_it_is_not_a_terminal(chainrule):
    chainrule("exercise", "lengths")
    assert "\x1b" not in "".join(map(str, chainrule("check")))


def test_a_closed_pipe_is_no_traceback(small):
    """``chainrule path … | head`` ends before everything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-P", "-c", CODE, "path", "neurons"]
    for unbuffered, status in (("", 141), ("1", 1)):
        done = subprocess.run(
            command,
            cwd=small.root,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=writer,
            stderr=subprocess.PIPE,
        )
        assert (done.returncode, done.stderr) == (status, b"")
    os.close(writer)


def test_an_unwritable_folder_is_one_line(chainrule, small):
    (small.root / "workbook").write_text("a file where the folder should be")
    status, _, errors = chainrule("exercise", "lengths")
    assert status == 2
    assert errors.count("\n") == 1
    assert "workbook" in errors


def test_the_course_is_loaded_from_the_checkout(small):
    assert [document.slug for document in load_course(small.root).documents] == [
        "lengths",
        "slopes",
        "neurons",
    ]
