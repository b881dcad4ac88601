"""What runs in the page, run here: sessions, grading, carried work, what the browser loads."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import shutil
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from site_sample import REPOSITORY
from sklearn.datasets import load_digits

from chainrule.course.exercises import load
from chainrule.course.manifest import load_course
from chainrule.learner import grader, workbook
from chainrule.learner.commands.progress import take_over, write_out
from chainrule.learner.page import bundle, carry, runner
from chainrule.program import UsageError
from chainrule.trainer.talk import Talk
from chainrule.transformers.gpt import generate

SITE = REPOSITORY / "site"


class Asked:
    """A page's namespace, and what it told."""

    def __init__(self):
        self.told: list[dict] = []
        self.page = runner.Page("a.md", lambda text: self.told.append(json.loads(text)))

    def run(self, code: str, line: int = 10, **more) -> dict:
        self.told.clear()
        return json.loads(self.page.run(json.dumps({"line": line, "code": code, **more})))

    def only(self, key: str) -> dict:
        return next(event for event in self.told if key in event)


@pytest.fixture
def asked(monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # given back at the end
    return Asked()


# Blocks


def test_blocks_share_names_and_tell_what_each_statement_prints(asked):
    assert asked.run("x = 6\nprint(x)", line=3)["ok"]
    assert asked.run("print(7 * x)\nprint('b')", line=10)["ok"]
    outputs = [(event["line"], event["output"]) for event in asked.told if "output" in event]
    assert outputs == [(10, ["42"]), (11, ["b"])]


def test_an_error_names_the_readers_line(asked):
    assert asked.run("def f(x):\n    return x[3]\n", line=20)["ok"]
    assert not asked.run("y = [1]\n\nf(y)", line=30)["ok"]
    error = asked.only("error")
    assert error["error"] == "IndexError: list index out of range"
    assert (error["block"], error["row"], error["text"].strip()) == (20, 2, "return x[3]")
    assert not asked.run("1 +", line=40)["ok"]
    assert asked.only("error")["error"] == "SyntaxError: invalid syntax"
    assert asked.only("error")["text"] == "1 +"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import torch", "PyTorch is too large for the page: this runs in your own checkout"),
        ("from matplotlib import pyplot", "pictures are not drawn in the page"),
        ("from sklearn.cluster import KMeans", "scikit-learn is too large for the page"),
        ("import nothing_of_this_name", "nothing_of_this_name is not in the page"),
    ],
)
def test_what_is_not_in_the_page_says_where_it_works(asked, monkeypatch, code, said):
    module = re.split(r"[ .]", code)[1]
    for name in [each for each in sys.modules if each.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)

    class Missing:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == module:
                raise ModuleNotFoundError(f"No module named {name!r}\nThe module may be installed")

    monkeypatch.setattr("sys.meta_path", [Missing()])
    assert not asked.run(code)["ok"]
    error = asked.only("error")["error"]
    assert error.startswith(said)
    assert error.endswith("this runs in your own checkout")
    assert "\n" not in error


def test_print_without_end_is_stopped(asked):
    assert not asked.run("while True:\n    print('x' * 1000)")["ok"]
    assert asked.only("error")["error"].startswith("prints more than 1,000,000 characters")
    assert any("partial" in event for event in asked.told) or len(asked.told) < 4


def test_memory_and_keyboard_get_a_clear_line(asked):
    asked.run("raise MemoryError('Unable to allocate 8 GiB')")
    assert asked.only("error")["error"] == (
        "MemoryError: asks for more memory than a page has (2 GB at most)"
    )
    asked.run("input('name? ')")
    assert "no keyboard" in asked.only("error")["error"]
    asked.run("raise KeyboardInterrupt")
    assert asked.only("error")["error"] == "stopped"


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("x = 5\nx", ["5"]),
        ("x = 5\nx  # a remark", ["5"]),
        ("[1,\n 2]", ["[1, 2]"]),
        ("None", []),
        ("print(3)", ["3"]),
        ("'a\\nb'", ["'a\\nb'"]),
        ("if True:\n    5", []),
        ("", []),
    ],
)
def test_an_edited_block_shows_its_last_expression(asked, code, printed):
    assert asked.run(code, edited=True)["ok"]
    assert [row for event in asked.told for row in event.get("output", ())] == printed


def test_an_edited_error_keeps_its_line(asked):
    asked.run("a = 1\nb = 2\n(a +\n undefined)", line=100000, edited=True)
    assert asked.only("error")["row"] == 4


# Exercises


def as_workbook(told: dict, answer: str, path: Path) -> Path:
    path.write_text(f"{told['given']}\n\n\n{answer}\n", encoding="utf-8")
    return path


def test_the_page_grades_as_the_terminal_does(tmp_path):
    course = load_course(REPOSITORY)
    document = course.by_id["math-foundations/linear-algebra"]
    told = bundle.exercises(course, document)
    item = next(each for each in told["items"] if each["name"] == "projection")
    head = item["stub"][: item["stub"].index("    ...")]
    tries = {
        "solution": item["solution"],
        "stub": item["stub"],
        "error": head + "    return undefined_name",
        "changes": head + "    u *= 2\n    return u",
        "nothing": head + "    pass\n    x = 1",
        "syntax": head + "    return (",
        "exit": head + "    exit()",
        "recursion": head + "    return projection(u, v)",
        "other": head + "    return u",
    }
    examiner = runner.Examiner(tmp_path / "page")
    for name, answer in tries.items():
        mine = as_workbook(told, answer, tmp_path / "answer.py")
        exercises = course.root / document.exercises
        results = grader.grade(exercises, mine, only="projection")
        expected = next(each for each in results if each.verdict != "printed")
        values = (document.id, told["source"], "projection", told["given"], answer)
        found = json.loads(examiner.grade(*values))
        assert found["verdict"] == expected.verdict, name
        for key in ("check", "hint", "call"):
            assert found.get(key, "") == getattr(expected, key), (name, key)
        said = re.sub(r"line \d+", "line", expected.message)
        assert re.sub(r"line \d+", "line", found["message"]) == said, name
    assert found["verdict"] == "failed"


def test_lines_of_an_answer_are_those_of_the_editor(tmp_path):
    course = load_course(REPOSITORY)
    document = course.by_id["math-foundations/linear-algebra"]
    told = bundle.exercises(course, document)
    answer = "def projection(u, v):\n    a = 1\n    return missing\n"
    values = (document.id, told["source"], "projection", told["given"], answer)
    found = json.loads(runner.Examiner(tmp_path).grade(*values))
    assert "    line 3: return missing" in found["message"]
    values = (document.id, told["source"], "projection", told["given"], "x = 1")
    found = json.loads(runner.Examiner(tmp_path).grade(*values))
    assert "Reset puts its stub back" in found["message"]


def test_every_exercise_has_what_the_page_shows():
    course = load_course(REPOSITORY)
    count = 0
    for document in course.written():
        told = bundle.exercises(course, document)
        for item in told["items"]:
            count += 1
            assert item["statement"]
            assert item["title"]
            assert len(item["helps"]) == 3
            assert item["seconds"] > 0
            compile(told["given"] + "\n\n" + item["stub"], item["name"], "exec")
        path = course.root / document.exercises
        limits = (
            {item.name: item.seconds for item in load(path)} if document.number == "1.1" else {}
        )
        for name, seconds in limits.items():
            assert next(i for i in told["items"] if i["name"] == name)["seconds"] == seconds
    assert count > 150


# Work that is carried


@pytest.fixture
def checkout(small, monkeypatch):
    monkeypatch.chdir(small.root)
    return load_course(small.root)


LENGTHS = "math-foundations/lengths"


def kept(**tables) -> carry.Work:
    return carry.WORK.validate_json(json.dumps({"chainrule": 1, **tables}))


def test_a_page_s_work_comes_into_the_workbook_and_back(checkout):
    helper = "import math\n\ndef helper(x):\n    return math.fabs(x)\n\n"
    answer = f"{helper}def twice(x):\n    return helper(x) + x"
    data = kept(
        passed={LENGTHS: {"twice": "2026-11-28"}},
        hinted={LENGTHS: {"twice": 2}},
        known=["math-foundations/slopes"],
        answers={LENGTHS: {"twice": answer}},
    )
    carried = carry.take(checkout, data)
    assert (carried.passed, carried.answers, carried.backups, carried.unknown) == (1, 1, [], [])
    path = workbook.workbook_file(checkout, checkout.by_id[LENGTHS])
    text = path.read_text(encoding="utf-8")
    assert answer in text
    assert text.count("def twice") == 1
    compile(text, str(path), "exec")
    state = workbook.load_progress(checkout.root)
    assert state.passed == {LENGTHS: {"twice": datetime.date(2026, 11, 28)}}
    assert state.hinted == {LENGTHS: {"twice": 2}}
    back = carry.collect(checkout)
    assert back.answers[LENGTHS]["twice"].replace("\n\n\n", "\n\n") == answer
    assert (back.passed, back.hinted, back.known) == (data.passed, data.hinted, data.known)
    again = carry.take(checkout, back)
    assert (again.passed, again.answers, again.backups) == (0, 0, [])
    assert path.read_text(encoding="utf-8") == text


def test_what_an_answer_replaces_is_kept(checkout):
    carry.take(checkout, kept(answers={LENGTHS: {"twice": "def twice(x):\n    return x + x"}}))
    data = kept(answers={LENGTHS: {"twice": "def twice(x):\n    return 2 * x"}})
    [backup] = carry.take(checkout, data).backups
    assert "return x + x" in backup.read_text(encoding="utf-8")
    path = workbook.workbook_file(checkout, checkout.by_id[LENGTHS])
    assert "return 2 * x" in path.read_text(encoding="utf-8")
    assert "return x + x" not in path.read_text(encoding="utf-8")


def test_an_earlier_day_stays_and_what_is_unknown_is_named(checkout):
    carry.take(checkout, kept(passed={LENGTHS: {"twice": "2026-11-20"}}))
    data = kept(
        passed={LENGTHS: {"twice": "2026-11-25", "gone": "2026-11-25"}, "a/b": {"c": "2026-01-01"}},
        known=["no/such"],
    )
    carried = carry.take(checkout, data)
    assert carried.unknown == ["no/such", "a/b", f"{LENGTHS}: gone"]
    passed = workbook.load_progress(checkout.root).passed
    assert passed == {LENGTHS: {"twice": datetime.date(2026, 11, 20)}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"chainrule": 2}',
        '{"chainrule": 1, "passed": {"a/b": {"c": "yesterday"}}}',
        '{"chainrule": 1, "answers": {"a/b": {"c": 3}}}',
        '{"chainrule": 1, "hinted": {"a/b": ["c"]}}',
        '{"chainrule": 1, "known": [3]}',
        "\udc80",
    ],
)
def test_a_file_that_is_none_of_ours_is_refused_in_one_line(checkout, tmp_path, text):
    path = tmp_path / "file.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match="not a file of this course"):
        carry.read(path)
    with pytest.raises(UsageError, match="No such file"):
        carry.read(tmp_path / "none.json")


def test_the_command_carries_both_ways(checkout, tmp_path, capsys):
    file = tmp_path / "work.json"
    data = kept(
        passed={LENGTHS: {"twice": "2026-11-28"}},
        answers={LENGTHS: {"twice": "def twice(x):\n    return 2 * x"}},
    )
    file.write_bytes(carry.WORK.dump_json(data))
    take_over(checkout, file)
    assert "newly passed: 1; answers taken over: 1" in capsys.readouterr().out
    out = tmp_path / "out.json"
    write_out(checkout, out)
    assert "answers: 1; passed: 1" in capsys.readouterr().out
    assert json.loads(out.read_text(encoding="utf-8"))["answers"] == data.answers


# What the browser loads


def test_numpy_is_the_one_that_pyodide_names():
    path, lock = bundle.numpy_wheel(SITE)
    full = json.loads((SITE / "node_modules/pyodide/pyodide-lock.json").read_text("utf-8"))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert found == full["packages"]["numpy"]["sha256"] == lock["packages"]["numpy"]["sha256"]
    assert list(lock["packages"]) == ["numpy"]
    with zipfile.ZipFile(path) as wheel:
        licence = wheel.read("numpy-2.0.2.dist-info/LICENSE.txt")
    assert (SITE / "wheels/NUMPY-LICENSE.txt").read_bytes() == licence


def test_another_numpy_is_refused(tmp_path):
    pyodide = tmp_path / "node_modules/pyodide"
    pyodide.mkdir(parents=True)
    shutil.copy(SITE / "node_modules/pyodide/pyodide-lock.json", pyodide)
    with pytest.raises(bundle.BundleError, match="is missing"):
        bundle.numpy_wheel(tmp_path)
    path, _ = bundle.numpy_wheel(SITE)
    (tmp_path / "wheels").mkdir()
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    (tmp_path / "wheels" / path.name).write_bytes(data)
    with pytest.raises(bundle.BundleError, match=r"SHA-256 [0-9a-f]{12}…, but npm's pyodide has"):
        bundle.numpy_wheel(tmp_path)


def test_every_work_that_the_page_loads_is_named_with_its_terms():
    text = bundle.licences(SITE)
    parts = dict(part.split("\n\n", 1) for part in text.split("== ")[1:])
    assert {"Pyodide", "NumPy", "The digits of scikit-learn", "@codemirror/view"} <= parts.keys()
    assert "MPL-2.0" in parts["Pyodide"]
    for name, terms in parts.items():
        assert re.search("MPL-2.0|Copyright", terms), name


def test_the_package_holds_what_pages_import_and_equal_bytes_twice():
    data = bundle.package(REPOSITORY)
    assert data == bundle.package(REPOSITORY)
    names = set(zipfile.ZipFile(BytesIO(data)).namelist())
    assert {
        "chainrule/learner/page/runner.py",
        "chainrule/learner/grading.py",
        "chainrule/trainer/talk.py",
        "chainrule/data/models/course-gpt.safetensors",
        "sklearn/datasets/__init__.py",
    } <= names
    assert not [name for name in names if "/checks/" in name or name.endswith("audit.py")]


def test_the_digits_are_scikit_learns(tmp_path):
    with zipfile.ZipFile(BytesIO(bundle.package(REPOSITORY))) as archive:
        archive.extractall(tmp_path, [n for n in archive.namelist() if n.startswith("sklearn/")])
    path = tmp_path / "sklearn/datasets/__init__.py"
    space = {"__file__": str(path)}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), space)
    for options in ({}, {"n_class": 3}):
        mine, theirs = space["load_digits"](**options), load_digits(**options)
        for key in ("data", "target", "images"):
            np.testing.assert_array_equal(mine[key], theirs[key])
            np.testing.assert_array_equal(getattr(mine, key), theirs[key])
    X, y = space["load_digits"](return_X_y=True)
    np.testing.assert_array_equal(X, load_digits().data)
    np.testing.assert_array_equal(y, load_digits().target)


# The model


@pytest.fixture(scope="module")
def talk():
    told: list[dict] = []
    model = Talk(lambda text: told.append(json.loads(text)))
    return model, told


ASKED = {"count": 12, "temperature": 0.8, "top_k": 0, "top_p": 1, "min_p": 0, "seed": 3}


def test_the_model_writes_what_generate_draws(talk):
    model, told = talk
    told.clear()
    answer = json.loads(model.write(json.dumps({"text": "The loss", **ASKED})))
    assert "".join(each["drawn"] for each in told) == answer["written"]
    ids = model.tokenizer.encode("The loss")[None, :]
    drawn = generate(model.base, ids, 12, 0.8, rng=np.random.default_rng(3))
    assert model.tokenizer.decode(drawn[0, 8:]) == answer["written"]
    refused = json.loads(model.write(json.dumps({"text": "漢字", **ASKED})))
    assert "漢" in refused["error"]


def test_what_is_shown_is_what_is_drawn_from(talk):
    model, _ = talk
    asked = {"text": "The gradient of the los", **ASKED, "top_k": 3, "temperature": 1}
    seen = json.loads(model.look(json.dumps(asked)))
    assert seen["rows"][0][0] == "s"
    assert seen["left"] == 3
    assert sum(kept for _, _, kept in seen["rows"]) == pytest.approx(1, abs=1e-3)
    first, second = seen["rows"][0], seen["rows"][1]
    assert first[1] / second[1] == pytest.approx(first[2] / second[2], rel=1e-2)
    maps = seen["maps"]
    assert (len(maps), len(maps[0]), len(maps[0][0])) == (3, 4, len(asked["text"]))
    assert all(sum(head) == pytest.approx(1, abs=0.05) for layer in maps for head in layer)
    cold = json.loads(model.look(json.dumps({**asked, "temperature": 0})))
    assert (cold["left"], cold["rows"][0][2]) == (1, 1)


def test_teaching_lowers_the_loss_and_leaves_every_byte(talk):
    model, told = talk
    text = "Anna, nab a banana. " * 12 + "漢"
    before = {name: p.data.tobytes() for name, p in model.base.named_parameters()}
    told.clear()
    lesson = {"text": text, "steps": 6, "rate": 0.005, "rank": 8}
    answer = json.loads(model.teach(json.dumps(lesson)))
    assert [each["step"] for each in told] == list(range(1, 7))
    assert answer["after"] < 0.9 * answer["before"]
    assert answer["same"] is True
    assert answer["left_out"] == 1
    assert {name: p.data.tobytes() for name, p in model.base.named_parameters()} == before
    ids = model.tokenizer.encode("Anna, nab")[None, :]
    np.testing.assert_allclose(
        model.merged(ids).data, model.adapted(ids).data, rtol=1e-3, atol=1e-3
    )
    plain = json.loads(model.write(json.dumps({"text": "Anna", **ASKED})))
    taught = json.loads(model.write(json.dumps({"text": "Anna", **ASKED, "taught": True})))
    assert plain["written"] != taught["written"]
    short = json.loads(model.teach(json.dumps({**lesson, "text": "short"})))
    assert "at least 200 characters" in short["error"]
