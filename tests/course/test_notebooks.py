"""Notebooks are executed and compared: each kind of fault is planted and found at its cell."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from matplotlib.image import imsave
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from one_document import MANIFEST as ONE_DOCUMENT

from chainrule.course.audit import Audit
from chainrule.course.audit.checks import notebooks as check
from chainrule.course.documents import notebooks
from chainrule.course.finding import Finding
from chainrule.course.manifest import load_course

MANIFEST = f"""{ONE_DOCUMENT}[[notebook]]
id = "01-small"
title = "A small notebook"
serves = ["math-foundations/linear-algebra"]
seconds = 20
megabytes = 0.5
[[notebook]]
id = "02-planned"
title = "A planned notebook"
serves = ["math-foundations/linear-algebra"]
seconds = 20
megabytes = 0.5
"""
HEADER = """# A small notebook

You build a sum. It serves [linear algebra](../math-foundations/linear-algebra.md).
Budget: 20 s, 0.5 MB."""
NUMBERS = """import time
import numpy as np
import matplotlib.pyplot as plt

started = time.perf_counter()
rng = np.random.default_rng(0)
print("the sum is", rng.integers(10, size=5).sum())
print("twice")"""
CELLS = [
    NUMBERS,
    "fig, ax = plt.subplots()\nax.plot([1, 3, 2])\nplt.show()",
    'print(f"took {time.perf_counter() - started:.9f} s")',
    "rng.integers(10, size=3)",
    "assert 1 + 1 == 2",
]
PATH = "notebooks/01-small.ipynb"


def build() -> Any:
    cells = [new_markdown_cell(HEADER), *map(new_code_cell, CELLS)]
    cells[3].metadata["tags"] = ["volatile"]
    cells.append(new_markdown_cell("## Change one thing\n\nChange the seed."))
    for index, cell in enumerate(cells):
        cell.id = f"cell-{index}"
    return new_notebook(cells=cells)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stored")
    (root / "course.toml").write_text(MANIFEST, encoding="utf-8")
    (root / "math-foundations").mkdir()
    (root / "math-foundations/linear-algebra.md").write_text("# Linear algebra\n")
    (root / "notebooks").mkdir()
    nbformat.write(build(), root / PATH)
    assert run(root, write=True) == []
    return root


@pytest.fixture
def root(stored: Path, tmp_path: Path) -> Path:
    return shutil.copytree(stored, tmp_path / "course")


def change(root: Path, edit: Callable[[Any], object]) -> None:
    """Edit a stored notebook's JSON, as a person or a merge would."""
    notebook = json.loads((root / PATH).read_text(encoding="utf-8"))
    edit(notebook)
    (root / PATH).write_text(json.dumps(notebook, indent=1) + "\n", encoding="utf-8")


def findings(root: Path) -> list[Finding]:
    return list(check.check(Audit(load_course(root))))


def run(root: Path, write: bool = False) -> list[Finding]:
    audit = Audit(load_course(root), run=True)
    for path, text in check.write(audit) if write else ():
        (root / path).write_text(text, encoding="utf-8")
        audit.forget(path)
    return list(check.run(audit))


def line_of_cell(root: Path, index: int) -> int:
    return Audit(load_course(root)).cells(PATH)[index].line


def test_a_clean_notebook_gives_nothing(root):
    assert findings(root) == []
    before = (root / PATH).read_bytes()
    assert run(root, write=True) == []
    assert (root / PATH).read_bytes() == before


def test_what_is_stored_is_complete_and_says_nothing_of_this_machine(root):
    notebook = json.loads((root / PATH).read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [1, 2, 3, 4, 5]
    assert "".join(code[0]["outputs"][0]["text"]) == "the sum is 24\ntwice\n"
    assert "image/png" in code[1]["outputs"][-1]["data"]
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    assert "iopub" not in json.dumps(notebook)
    assert len(code) == len(CELLS)


def test_execution_reports_seconds(root):
    execution = notebooks.execute(root / PATH, root)
    assert execution.error is None
    assert 0.1 < execution.seconds < 20


def test_changed_outputs_are_found_at_their_cells(root):
    def edit(notebook):
        cells = notebook["cells"]
        cells[1]["outputs"][0]["text"][0] = "the sum is 23\n"
        cells[2]["outputs"].pop()
        cells[3]["outputs"][0]["text"] = ["lasted 1.5 s\n"]
        cells[4]["outputs"][0]["data"]["text/plain"] = ["array([1, 2, 3])"]

    change(root, edit)
    found = [(f.line, f.message) for f in run(root)]
    assert [line for line, _ in found] == [line_of_cell(root, index) for index in (1, 2, 3, 4)]
    assert "expected 'the sum is 23', received 'the sum is 24'" in found[0][1]
    assert "expected 0 pictures, received 1" in found[1][1]
    assert "expected 'lasted # s', received 'took # s'" in found[2][1]
    assert "expected 'array([1, 2, 3])', received" in found[3][1]


def test_a_failing_cell_a_blank_picture_and_the_budget(root):
    manifest = (root / "course.toml").read_text().replace("seconds = 20", "seconds = 1")
    (root / "course.toml").write_text(manifest)

    def edit(notebook):
        notebook["cells"][2]["source"] = [
            "from IPython.display import Image\n",
            "import io\n",
            "b = io.BytesIO(); plt.imsave(b, np.ones((4, 4, 3)), format='png')\n",
            "Image(b.getvalue())",
        ]
        notebook["cells"][3]["source"] = [
            "while time.process_time() < 2.1: pass\n",
            "print('took 1 s')",
        ]

    change(root, edit)
    found = [(f.line, f.message) for f in run(root)]
    assert (line_of_cell(root, 2), "cell 3: a picture is blank: every pixel is equal") in found
    assert any("of CPU time, the budget is 1 s" in message for line, message in found if line == 1)
    assert len(found) == 2
    change(root, lambda n: n["cells"][5].update(source=["assert 1 + 1 == 3, 'sum'"]))
    found = [(f.line, f.message) for f in run(root)]
    assert (line_of_cell(root, 5), "cell 6 fails: AssertionError: sum") in found


def test_the_audit_writes_what_changed_and_does_not_execute_twice(root, monkeypatch):
    change(root, lambda n: n["cells"][1]["outputs"][0]["text"].pop())
    audit = Audit(load_course(root), run=True)
    ((path, text),) = check.write(audit)
    assert path == PATH
    assert "twice" in text
    (root / path).write_text(text, encoding="utf-8")
    audit.forget(path)
    monkeypatch.setattr(check, "execute", None)
    assert list(check.run(audit)) == []
    assert list(check.write(Audit(load_course(root), run=False))) == []


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda n: n.pop("metadata"), "'metadata' is a required property"),
        (lambda n: n.update(metadata=None), "None is not of type 'object'"),
        (lambda n: n["cells"][1].update(id=""), "'' does not match"),
        (lambda n: n["cells"][1].update(cell_type="heading"), "'heading'"),
        (lambda n: n["cells"][1].update(metadata=None), "None is not of type 'object'"),
        (lambda n: n["cells"][1]["metadata"].update(tags="x"), "'x' is not of type 'array'"),
    ],
)
def test_what_is_no_valid_notebook_is_told_by_its_execution(root, broken, reason):
    change(root, broken)
    (fault,) = run(root, write=True)
    assert fault.line == line_of_cell(root, 0)
    assert fault.message.startswith("cell 1 fails: not a valid notebook: ")
    assert reason in fault.message


@pytest.mark.parametrize(("clashes", "starts"), [(1, True), (9, False)])
def test_a_port_that_another_program_took_is_chosen_anew(root, monkeypatch, clashes, starts):
    execute, left = NotebookClient.execute, [None] * clashes

    def start(client, **options):
        if left:
            left.pop()
            raise RuntimeError("Kernel died before replying to kernel_info")
        return execute(client, **options)

    monkeypatch.setattr(NotebookClient, "execute", start)
    found = [fault.message for fault in run(root)]
    said = "cell 1 fails: no kernel: Kernel died before replying to kernel_info"
    assert found == [] if starts else found == [said]


def test_another_picture_is_stored_and_is_no_fault(root):
    text = (root / PATH).read_text(encoding="utf-8")
    execution = notebooks.Execution(nbformat.reads(text, as_version=4), 0.0)
    assert not notebooks.is_new(text, execution)
    picture = io.BytesIO()
    imsave(picture, [[0.0, 1.0]], format="png")
    data = base64.b64encode(picture.getvalue()).decode()
    execution.notebook.cells[2].outputs[-1].data["image/png"] = data
    assert notebooks.is_new(text, execution)
    (entry, _) = load_course(root).notebooks
    assert notebooks.faults(entry, text, execution) == []


def header(old: str, new: str) -> Callable[[Any], object]:
    return lambda n: n["cells"][0].update(source=[HEADER.replace(old, new)])


def source(index: int, text: str) -> Callable[[Any], object]:
    return lambda n: n["cells"][index].update(source=text.splitlines(keepends=True))


@pytest.mark.parametrize(
    ("edit", "index", "message"),
    [
        (header("# A small", "# A smaller"), 0, "the title is not 'A small notebook'"),
        (header("build", "add"), 0, "does not say what you build"),
        (header("../math", "math"), 0, "does not link math-foundations/linear-algebra.md"),
        (header("20 s", "120 s"), 0, "does not state the budget of 20 s"),
        (header("0.5 MB", "5 MB"), 0, "does not state the budget of 0.5 MB"),
        (lambda n: n["cells"].pop(0), 0, "the first cell must be Markdown"),
        (lambda n: n["cells"].pop(), 5, "no part is called “Change one thing”"),
        (source(5, "x = 1"), 5, "the last code cell asserts nothing"),
        (source(4, "x = 1\n" * 25 + "x"), 4, "a cell of 26 lines, at most 25 are allowed"),
        (source(4, f"x = '{'é' * 74}'"), 4, "a line of 80 characters, at most 79 fit the page"),
        (source(4, "np.random.default_rng()"), 4, "a generator without a seed"),
        (source(4, "np.random.rand(3)"), 4, "np.random.rand draws from a hidden global state"),
        (lambda n: n["cells"][4].update(execution_count=9), 4, "executed as number 9, expected 4"),
        (
            lambda n: n["cells"][1]["outputs"][0].update(name="stderr", text=["UserWarning: x\n"]),
            1,
            "the stored output has a warning: UserWarning: x",
        ),
        (
            lambda n: n["cells"][4].update(
                outputs=[{"output_type": "error", "ename": "E", "evalue": "", "traceback": []}]
            ),
            4,
            "the stored output is an error: E",
        ),
    ],
)
def test_a_fault_of_form_is_found_without_running(root, edit, index, message):
    change(root, edit)
    found = findings(root)
    assert [f.line for f in found if message in f.message] == [line_of_cell(root, index)], found
    assert len(found) == 1


def test_cells_that_were_never_executed(root):
    nbformat.write(build(), root / PATH)
    messages = [f.message for f in findings(root)]
    assert messages == [f"executed as number None, expected {n}" for n in range(1, 6)]


def test_sizes_and_broken_files(root):
    change(root, lambda n: n["cells"][0].update(source=[HEADER + " " * 500_000]))
    size = (root / PATH).stat().st_size / 1e6
    found = [(f.file, f.line, f.message) for f in findings(root)]
    assert found == [(PATH, 1, f"{size:.2f} MB, the budget is 0.5 MB")]
    for broken in (
        "{",
        "",
        "[]",
        "3",
        "\x00",
        '{"cells": []}',
        '{"nbformat": 4, "nbformat_minor": 5, "cells": 3}',
    ):
        (root / PATH).write_text(broken)
        fault = next(f for f in findings(root) if f.file == PATH)
        assert fault.message == "not a notebook of format 4 with cells"
        assert run(root) == []
