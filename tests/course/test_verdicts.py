"""Verdicts are remembered while nothing changes, and by content: whatever changes, they are new."""

import os

import pytest

from chainrule import children
from chainrule.course.audit import Audit, verdicts
from chainrule.course.audit.checks.imports import imported
from chainrule.course.documents import blocks
from chainrule.course.manifest import load_course
from tests.course.test_audit import chainrule
from tests.course.test_blocks_audit import PACKAGE

LENGTHS, SLOPES = "math-foundations/lengths", "math-foundations/slopes"


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    """A memory of each test's own, on a machine that is no CI."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "verdicts"


@pytest.fixture(autouse=True)
def tool(tmp_path, monkeypatch):
    """The tool as another checkout's, of one file."""
    tool = tmp_path / "tool"
    tool.mkdir()
    (tool / "judge.py").write_text("judge = 1\n")
    monkeypatch.setattr(verdicts, "PACKAGE", tool)
    return tool


def asked(small, name=SLOPES, check="exercises", *parts):
    """The verdict on a document as an audit that starts now would have it."""
    audit = Audit(load_course(small.root), run=True, remember=True)
    return audit.verdicts.of(check, [audit.course.by_id[name]], *parts)


def known(small, *question):
    """Whether it is known to pass; from now on it is."""
    verdict = asked(small, *question)
    was = verdict.passed
    verdict.keep(passed=True)
    return was


def test_what_passed_is_known_and_what_did_not_is_not(small):
    asked(small).keep(passed=False, rows=["a finding"])
    assert not asked(small).passed
    asked(small).keep(passed=True, rows=[{"line": 1}])
    assert asked(small).rows == [{"line": 1}]
    for other in ((LENGTHS,), (SLOPES, "figures"), (SLOPES, "exercises", "a part")):
        assert not asked(small, *other).passed


def test_what_is_asked_afresh_takes_the_place_of_what_was_known(small):
    def fresh(passed):
        audit = Audit(load_course(small.root), run=True, remember=True, fresh=True)
        verdict = audit.verdicts.of("exercises", [audit.course.by_id[SLOPES]])
        assert not verdict.passed
        verdict.keep(passed=passed)

    fresh(True)
    assert asked(small).passed
    fresh(False)
    assert not asked(small).passed


def test_the_modules_that_come_before_count_and_no_others(small):
    small.add("src/chainrule/neural_networks/neurons.py", "x = 1\n")
    small.edit("src/chainrule/math_foundations/lengths.py", "import numpy", "import math, numpy")
    assert [known(small), known(small)] == [False, True]
    small.edit("src/chainrule/math_foundations/lengths.py", "import math, numpy", "import numpy")
    assert [known(small), known(small)] == [False, True]
    small.add("src/chainrule/neural_networks/neurons.py", "x = 2\n")
    assert known(small)


def test_a_module_of_the_tool_counts_and_so_do_files_of_applications(small, tool, monkeypatch):
    known(small)
    (tool / "judge.py").write_text("judge = 2\n")
    assert [known(small), known(small)] == [False, True]
    monkeypatch.setattr(verdicts, "PACKAGE", small.root / "src" / "chainrule")
    small.add("src/chainrule/course/judge.py", "judge = 1\n")
    known(small)
    small.add("src/chainrule/course/judge.py", "judge = 2\n")
    assert [known(small), known(small)] == [False, True]
    small.add("src/chainrule/trainer/words.txt", "words")
    assert not known(small)


@pytest.mark.parametrize(
    "path",
    [
        "course.toml",
        "src/chainrule/math_foundations/slopes.py",
        "src/chainrule/math_foundations/lengths.py",
        "src/chainrule/math_foundations/__init__.py",
        "src/chainrule/data/words.txt",
        "exercises/math-foundations/slopes.py",
        "figures/math-foundations/slopes.py",
        "figures/math-foundations/slopes/rise.svg",
        "figures/math-foundations/slopes/race.json",
        "figures/math-foundations/slopes/race.js",
        "figures/math-foundations/lengths/race.json",
        "benchmarks/results.json",
        "models/weights.safetensors",
        "reference/rosetta.toml",
        "constraints.txt",
        "site/package-lock.json",
    ],
)
def test_each_file_counts(small, path):
    file = small.root / path
    before = (file.read_bytes() if file.is_file() else b"1\n") + b"#\n"
    small.add(path, before.decode())
    assert [known(small), known(small)] == [False, True]
    status = file.stat()
    file.write_bytes(before[:-2] + b"\n\n")  # as long, and as old, as it was
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert [known(small), known(small)] == [False, True]
    file.unlink()
    if path != "course.toml":
        assert not known(small)


def test_what_cannot_matter_does_not_count(small):
    small.add("src/chainrule/neural_networks/neurons.py", "x = 1\n")
    known(small)
    small.edit("math-foundations/slopes.md", "A road climbs", "Some road climbs")
    small.edit("math-foundations/lengths.md", "its length", "how long it is")
    small.edit("exercises/math-foundations/lengths.py", "twice 2.7", "two times 2.7")
    small.add("figures/math-foundations/lengths/arrow.svg", "<svg></svg>")
    small.add("src/chainrule/neural_networks/neurons.py", "x = 2\n")
    small.add("tests/math_foundations/test_slopes.py", "")
    small.add("exercises/math-foundations/.slopes.py.swp", "an editor's")
    small.add("exercises/math-foundations/slopes.py~", "an editor's")
    (small.root / ".#slopes.py").symlink_to("an editor's lock, no file")
    assert known(small)


@pytest.mark.parametrize(
    "name",
    [
        *("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"),
        *("NPY_DISABLE_CPU_FEATURES", "CHAINRULE_THREADS", "PYTHONPATH", "LC_ALL", "LANG"),
        *("MPLCONFIGDIR", "LD_PRELOAD", "GLIBC_TUNABLES", "NODE_OPTIONS"),
    ],
)
def test_each_variable_counts(small, monkeypatch, name):
    monkeypatch.delenv(name, raising=False)
    known(small)
    monkeypatch.setenv(name, "1")
    assert [known(small), known(small)] == [False, True]
    monkeypatch.setenv(name, "2")
    assert not known(small)


def test_the_machine_and_its_programs_count(small, tmp_path, monkeypatch):
    known(small)
    monkeypatch.setattr(verdicts, "processor", lambda: ["another"])
    assert [known(small), known(small)] == [False, True]
    monkeypatch.setattr(verdicts.sys, "version", "4.0")
    assert [known(small), known(small)] == [False, True]
    monkeypatch.setattr(verdicts, "find_node", lambda: str(tmp_path / "node"))
    (tmp_path / "node").write_text("one")
    (tmp_path / "node").chmod(0o755)
    assert [known(small), known(small)] == [False, True]
    (tmp_path / "node").write_text("another")
    assert [known(small), known(small)] == [False, True]
    packages = tmp_path / "packages"
    (packages / "numpy-2.1.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(packages)
    assert [known(small), known(small)] == [False, True]
    (packages / "numpy-2.1.dist-info").rename(packages / "numpy-2.2.dist-info")
    assert not known(small)


def test_what_was_changed_meanwhile_is_not_known(small):
    verdict = asked(small)
    path = "exercises/math-foundations/slopes.py"
    small.edit(path, "2 * x", "3 * x")
    verdict.keep(passed=True)
    assert not asked(small).passed
    small.edit(path, "3 * x", "2 * x")
    assert not asked(small).passed


def test_in_ci_nothing_is_known_and_nothing_is_kept(small, memory, monkeypatch):
    known(small)
    monkeypatch.setenv("CI", "true")
    assert not known(small)
    assert len(list(memory.iterdir())) == 1
    small.edit("exercises/math-foundations/slopes.py", "twice 2.7", "two times 2.7")
    known(small)
    monkeypatch.delenv("CI")
    assert not known(small)


def test_a_damaged_file_is_no_verdict(small, memory):
    asked(small).keep(passed=True, rows=[{"line": 1}])
    (file,) = memory.iterdir()
    good = file.read_bytes()
    for bad in (b"", b"\xff", b"null", good[:-3], good[2:]):
        file.write_bytes(bad)
        assert not asked(small).passed, bad
    file.write_bytes(good)
    assert asked(small).passed
    file.unlink()
    file.mkdir()
    assert [known(small), known(small)] == [False, False]


def test_a_link_that_leads_nowhere_does_no_harm(small):
    (small.root / "figures" / "lost.svg").symlink_to("nowhere.svg")
    assert [known(small), known(small)] == [False, True]


def test_a_folder_that_cannot_be_written_remembers_nothing(small, memory):
    memory.parent.mkdir()
    memory.write_text("no folder")
    assert [known(small), known(small)] == [False, False]


def test_what_was_not_asked_for_longest_is_dropped(small, memory, monkeypatch):
    monkeypatch.setattr(verdicts, "MOST", 2)
    for age, name in ((10, "exercises"), (30, "figures"), (20, "interactive")):
        known(small, SLOPES, name)
        (new,) = [file for file in memory.iterdir() if file.stat().st_mtime > 1000]
        os.utime(new, (1000 - age, 1000 - age))
    assert asked(small, SLOPES, "interactive").passed  # and it is young again
    asked(small).verdicts.tidy()
    assert len(list(memory.iterdir())) == 2
    assert known(small, SLOPES, "interactive")
    assert known(small, SLOPES, "exercises")
    assert not known(small, SLOPES, "figures")


@pytest.fixture
def executed(small, monkeypatch):
    """How many programs an audit of one check starts, what it remembers, what it finds."""
    started = []

    def ask(*command, really=children.ask, **how):
        started.append(command)
        return really(*command, **how)

    monkeypatch.setattr(blocks, "ask", ask)
    monkeypatch.setattr(children, "ask", ask)

    def audit(check, name=LENGTHS):
        started.clear()
        report = small.audit(check, run=True, subjects=[name], remember=True)
        return len(started), report.remembered[check], [found.message for found in report.findings]

    return audit


def runnable(small):
    """Have a page use this course's package, and its number stand below the block that makes it."""
    small.add("src/chainrule/__init__.py", "")
    page, number = "math-foundations/lengths.md", '<!--= f"{norm([3, 4]):.0f}" -->'
    small.edit(page, number, "")
    small.edit(page, "long: 10.", f"long: 10{number.replace('3, 4', '6, 8')}.")


def test_blocks_run_again_only_for_what_they_read(small, executed):
    page, module = "math-foundations/lengths.md", "src/chainrule/math_foundations/lengths.py"
    runnable(small)
    assert executed("documents") == (1, 0, [])
    assert executed("documents") == (0, 1, [])
    small.edit(page, "is its length", "is its whole length")
    assert executed("documents") == (0, 1, [])
    small.edit(page, "long: 10<!--", "long: 11<!--")
    assert executed("documents")[:2] == (0, 1)
    (message,) = executed("documents")[2]
    assert message.startswith("expected '11', received '10'")
    small.edit(page, "long: 11<!--", "long: 10<!--")
    small.edit(page, "print(norm([3, 4]))", "print(norm([6, 8]))")
    for _ in range(2):  # what failed is not remembered
        assert executed("documents") == (1, 0, ["expected '5.0', received '10.0'"])
    small.edit(page, "print(norm([6, 8]))", "print(norm([3, 4]))")
    assert executed("documents") == (0, 1, [])
    small.edit(module, "np.sqrt(", "2 * np.sqrt(")
    found = executed("documents")
    assert found[:2] == (1, 0)
    assert "expected '5.0', received '10.0'" in found[2]


@pytest.mark.parametrize(
    ("check", "path", "old", "new", "finds"),
    [
        ("exercises", "exercises/math-foundations/lengths.py", "5.4", "5.5", "solution fails"),
        ("figures", "figures/math-foundations/lengths/arrow.svg", "</svg>", "</svg >", "redrawing"),
        ("figures", "figures/math-foundations/lengths.py", "[0, 1]", "[0, 2]", "redrawing"),
    ],
)
def test_what_passed_is_executed_again_when_it_changed(
    small, executed, check, path, old, new, finds
):
    small.audit(check, run=True, write=True)
    assert executed(check) == (1, 0, [])
    assert executed(check) == (0, 1, [])
    small.edit(path, old, new)
    for _ in range(2):
        count, remembered, messages = executed(check)
        assert (count, remembered) == (1, 0)
        assert any(finds in message for message in messages)
    small.edit(path, new, old)
    assert executed(check) == (0, 1, [])


def test_a_counterpart_counts_wherever_it_is(small, executed):
    neurons, twice = "src/chainrule/neural_networks/neurons.py", "def twice(x):\n    return 2 * x\n"
    small.add("src/chainrule/__init__.py", PACKAGE)
    small.add("src/chainrule/neural_networks/__init__.py", "")
    small.add(neurons, twice)
    because = 'because="the package needs no function for that"'
    counterpart = 'counterpart="chainrule.neural_networks.neurons:twice"'
    small.edit("exercises/math-foundations/lengths.py", because, counterpart)
    assert executed("exercises") == (1, 0, [])
    assert executed("exercises") == (0, 1, [])
    small.add(neurons, twice.replace("2", "3"))
    (message,) = executed("exercises")[2]
    assert "answers the check 'small' differently" in message


def test_the_command_says_what_it_remembers_and_can_forget(small):
    runnable(small)
    run = ("audit", "lengths", "--run", "--only", "documents", "--root", str(small.root))
    assert "remembered" not in "".join(chainrule(*run)[1:])
    status, out, err = chainrule(*run)
    assert status == 0
    assert "1 checks, 1 verdicts remembered, " in out
    assert err.startswith("documents: nothing found, 1 remembered, ")
    assert "remembered" not in "".join(chainrule(*run, "--fresh")[1:])


def test_all_that_the_course_imports_counts():
    """The names in the texts lead to every module to which the syntax trees do."""
    audit = Audit(load_course(verdicts.Path(__file__).parents[2]), run=True, remember=True)

    def imports(path):
        package = path.split("/")[1:-1] if path.startswith("src/") else []
        named = imported(audit.tree(path), package)
        places = [f"src/{name.replace('.', '/')}" for _, names in named for name in names]
        return {
            p for place in places for p in (f"{place}.py", f"{place}/__init__.py")
        } & audit.files

    for document in audit.course.documents:
        found = {*audit.module_files(document), document.exercises, document.figure_script}
        left = sorted(found)
        for path in left:
            new = imports(path) - found
            found |= new
            left += sorted(new)
        assert len(found) > 3
        assert found <= set(audit.verdicts._needed([document])), document.id
