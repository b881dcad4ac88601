"""Whatever a learner's file does, every exercise gets its own clear verdict."""

from __future__ import annotations

import ast
import inspect
import os
import signal
import subprocess
import sys
import textwrap
import time
import zlib
from pathlib import Path

import numpy as np
import psutil
import pytest

from chainrule.course.exercises import load
from chainrule.learner import reading
from chainrule.learner.grader import FAILED, PASSED, UNTOUCHED, Result, grade

SAMPLE = Path(__file__).parents[1] / "common" / "sample_exercises.py"
EXERCISES = '''
import numpy as np
from chainrule.course.exercises import exercise, expect_close

@exercise("Double", difficulty=1, minutes=5, section="s")
def double(x):
    """Return twice x."""
    return 2 * x

@double.check
def an_array(answer, rng):
    x = rng.normal(size=(2, 3))
    expect_close(answer(x), 2 * x, what="twice x")

@double.mistake("You squared it. What is twice 3?")
def squares(x):
    return x * x

@exercise("Halve", difficulty=1, minutes=5, section="s")
def halve(x):
    """Return half of x."""
    return x / 2

@halve.check
def a_number(answer, rng):
    expect_close(answer(3.0), 1.5, what="half of 3")
'''
HALVE = "\n\ndef halve(x):\n    return x / 2\n"


def limited(exercises: str, seconds: float) -> str:
    """The exercises, each with this limit."""
    return exercises.replace('section="s"', f'section="s", seconds={seconds}')


def verdicts(tmp_path, answers: str | bytes, seconds: float = 3.0) -> list[Result]:
    exercises, file = tmp_path / "exercises.py", tmp_path / "answers.py"
    exercises.write_text(limited(EXERCISES, seconds))
    file.write_bytes(answers if isinstance(answers, bytes) else textwrap.dedent(answers).encode())
    return list(grade(exercises, file))


def verdict_on_double(tmp_path, body: str, top: str = "", seconds: float = 3.0) -> Result:
    """Grade a body of `double`; whatever it does, `halve` must get its verdict."""
    answers = f"import numpy as np\n{top}\n\ndef double(x):\n{textwrap.indent(body, '    ')}{HALVE}"
    first, second = verdicts(tmp_path, answers, seconds)
    assert first.name == "double"
    assert (second.name, second.verdict) == ("halve", PASSED)
    return first


def test_right_answers_pass_and_stubs_are_not_started(tmp_path):
    answers = 'def double(x):\n    """Return twice x."""\n    ...\n' + HALVE
    first, second = verdicts(tmp_path, answers)
    assert first == Result("double", UNTOUCHED)
    assert second == Result("halve", PASSED)


@pytest.mark.parametrize(
    ("body", "verdict", "message"),
    [
        ("while True: pass", "timeout", "still running after 1 s"),
        ("import time; time.sleep(60)", "timeout", "still running after 1 s"),
        ("import os; os.abort()", "crash", "crashed (SIGABRT)"),
        ("import ctypes; ctypes.string_at(0)", "crash", "crashed (SIGSEGV)"),
        ("import os; os._exit(0)", "exit", "ended the whole Python process (exit status 0)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "memory", "memory ran out"),
        ("exit()", "exit", "calls exit(): return the result instead\n    line 5: exit()"),
        ("raise SystemExit(3)", "exit", "line 5: raise SystemExit(3)"),
        ("raise KeyboardInterrupt", "error", "KeyboardInterrupt"),
        ("return np.ones(10 * 2**30 // 8)", "memory", "more memory than there is (2 GiB)"),
        ("y = [0]\nwhile True: y += y", "memory", "line 6: while True: y += y"),
        ("return double(x)", "error", "calls itself without end\n    line 5: return double(x)"),
        ("return 1 / 0", "error", "ZeroDivisionError: division by zero\n    line 5: return 1 / 0"),
        ("return np.ones(7) @ x", "error", "line 5: return np.ones(7) @ x"),
        ("return undefined", "error", "NameError: name 'undefined' is not defined"),
        ("import nonsense_module", "error", "No module named 'nonsense_module'"),
        ("input()", "error", "EOFError: there is no keyboard here"),
        ("import sys; sys.stdin.read()", "error", "EOFError: there is no keyboard here"),
        ("print(2 * x)", FAILED, "twice x: None. Did you forget to return it?"),
        ("return (2 * x).tolist()", FAILED, "expected a NumPy array, received a list"),
        ("return 2 * x.T", FAILED, "expected shape (2, 3), received shape (3, 2)"),
        ("return 2 * x * np.nan", FAILED, "6 of 6 values are NaN"),
        ("return 6 * x", FAILED, "every value is 3 times too large"),
        ("x *= 2\nreturn x", FAILED, "double changes its argument 'x'"),
        (
            "import threading as t\nt.Thread(target=t.Event().wait).start()\nreturn 2 * x",
            "threads",
            "left a thread running",
        ),
        (
            "import threading as t, time\nt.Thread(target=time.sleep, args=[0.05]).start()\n"
            "return 2 * x",
            PASSED,
            "",
        ),
        (
            "import os\npid = os.fork()\nif pid == 0:\n    return 3 * x\n"
            "os.waitpid(pid, 0)\nreturn 2 * x",
            PASSED,
            "",
        ),
    ],
)
def test_each_way_to_fail_has_its_verdict(tmp_path, body, verdict, message):
    limit = 1.0 if verdict == "timeout" else 60.0  # filling 2 GiB takes a busy machine long
    result = verdict_on_double(tmp_path, body, seconds=limit)
    assert result.verdict == verdict, result
    assert message in result.message
    assert "site-packages" not in result.message
    assert "grader.py" not in result.message


def test_a_known_mistake_gets_its_hint_and_the_call(tmp_path):
    result = verdict_on_double(tmp_path, "return x ** 2")
    assert result.hint == "You squared it. What is twice 3?"
    assert result.check == "an array"
    assert result.call.startswith("double(array([[")


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("while True: pass", "timeout"),
        ("import os; os.abort()", "crash"),
        ("import os; os._exit(0)", "exit"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "memory"),
    ],
)
def test_what_ends_the_process_names_the_check_and_the_call(tmp_path, body, verdict):
    result = verdict_on_double(tmp_path, body, seconds=1.0)
    assert (result.verdict, result.check) == (verdict, "an array")
    assert result.call.startswith("double(array([[")


MORE_CHECKS = """
@double.check
def zeros(answer, rng):
    answer(np.zeros(3))
"""


def test_a_failure_is_told_although_the_answer_hangs_in_a_later_check(tmp_path):
    """A mistake is confirmed on all checks; one that hangs there must not hide the verdict."""
    (tmp_path / "exercises.py").write_text(limited(EXERCISES + MORE_CHECKS, 2.5))
    answers = "def double(x):\n    while not x.any(): pass\n    return x * x\n" + HALVE
    (tmp_path / "answers.py").write_text(answers)
    waited = []
    first, second = grade(
        tmp_path / "exercises.py",
        tmp_path / "answers.py",
        waiting=lambda *spent: waited.append(spent),
    )
    assert (first.verdict, first.check, first.hint) == (FAILED, "an array", "")
    assert "expected array(" in first.message
    assert second.verdict == PASSED
    assert {name for name, _ in waited if name} == {"double"}  # "": the file is loaded
    assert 0.9 < waited[0][1] < waited[1][1] < 2.5


def test_printing_too_much_and_a_breakpoint_are_explained(tmp_path):
    result = verdict_on_double(tmp_path, "print('x' * 17 * 2**20)\nreturn 2 * x", seconds=20.0)
    assert result.message.startswith("prints more than 16 MB: take the print out")
    result = verdict_on_double(tmp_path, "breakpoint()\nreturn 2 * x")
    assert "there is no keyboard here: the end of this says how" in result.message


def test_the_wrong_kind_of_error_names_both_and_the_line(tmp_path):
    raising = EXERCISES.replace(
        "expect_close(answer(3.0), 1.5, what=", "expect_raises(ValueError, answer, "
    )
    raising = raising.replace('"half of 3"', "0").replace(
        "expect_close\n", "expect_close, expect_raises\n"
    )
    (tmp_path / "exercises.py").write_text(raising)
    answers = "def double(x):\n    return 2 * x\ndef halve(x):\n    assert x, 'zero'\n"
    (tmp_path / "answers.py").write_text(answers)
    _, result = grade(tmp_path / "exercises.py", tmp_path / "answers.py")
    assert result.message.splitlines() == [
        "expected ValueError to be raised, received AssertionError: zero",
        "    line 4: assert x, 'zero'",
    ]


KINDS = """
from fractions import Fraction
@exercise("Kinds", difficulty=1, minutes=5, section="s")
def kinds(arrays, numbers, rng, *, name, f):
    return 1

@kinds.check
def all_of_them(answer, rng):
    rng.random(3)
    arrays = [np.arange(3.0), (np.ones((2, 2), np.float32),)]
    numbers = {"a": Fraction(1, 3), 2: np.float64(0.1), "inf": float("inf"), "none": None}
    expect_close(answer(arrays, numbers, rng, name="é", f=np.sin), 1)
"""


@pytest.mark.parametrize("body", ["return 2", "while True: pass"])
def test_the_arguments_of_a_failing_call_are_kept(tmp_path, body):
    exercises, file = tmp_path / "exercises.py", tmp_path / "answers.py"
    exercises.write_text(limited(EXERCISES + KINDS, 2.0))
    file.write_text(f"def kinds(arrays, numbers, rng, *, name, f):\n    {body}\n")
    (result,) = grade(exercises, file, only="kinds", look="replay")
    assert result.check == "all of them"
    lines = "from replay_kinds import args, kwargs\nprint(repr((args, kwargs)))\n"
    lines += "print(args[2].random())"
    done = subprocess.run(
        [sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    shown, drawn = done.stdout.rsplit("\n", 2)[:2]
    for part in (
        "([array([0., 1., 2.]), (array([[1., 1.],",
        "dtype=float32),)], {'a': Fraction(1, 3), 2: np.float64(0.1), 'inf': inf, 'none': None}",
        "{'name': 'é', 'f': NotImplemented})",
    ):
        assert part in shown
    seen = []
    item = next(item for item in load(exercises) if item.name == "kinds")
    item.checks["all_of_them"](
        lambda *args, **kwargs: seen.append(args[2].random()) or 1,
        np.random.default_rng(zlib.crc32(b"kinds/all_of_them")),
    )
    assert float(drawn) == seen[0]


STEPS = """
@exercise("Mean", difficulty=1, minutes=5, section="s")
def mean(x):
    total = 0.0
    for value in x:
        total = total + value
    count = len(x)
    return total / count

@mean.check
def of_three(answer, rng):
    expect_close(answer(np.array([1.0, 2.0, 6.0])), 3.0)
"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("total = x.sum()\n    count = len(x) - 1\n    return total / count",
         "line 3: count is 2; in the solution count is 3"),
        ("total = 0.0\n    for value in x:\n        total = total - value\n    return total / 3",
         "line 4: total is -1; in the solution total is 1"),
        ("total = x.sum()\n    return total", "share have the same values"),
        ("s = x.sum()\n    return s", "share no variables"),
        ("total = 0.0\n    for value in x:\n        total = value\n    raise KeyError",
         "line 4: total is 2; in the solution total is 3"),
    ],
)  # fmt: skip
def test_where_the_answer_and_the_solution_part(tmp_path, body, said):
    exercises, file = tmp_path / "exercises.py", tmp_path / "answers.py"
    exercises.write_text(EXERCISES + STEPS)
    file.write_text(f"def mean(x):\n    {body}\n")
    (result,) = grade(exercises, file, only="mean", look="compare")
    assert said in result.parts


def test_an_exception_shows_the_learners_lines_only(tmp_path):
    result = verdict_on_double(
        tmp_path,
        "return inner(x)",
        top="def inner(x):\n    return np.linalg.inv(x)",
    )
    first, *lines = result.message.splitlines()
    assert first.startswith("LinAlgError")
    assert [line.strip() for line in lines] == [
        "line 6: return inner(x)",
        "line 3: return np.linalg.inv(x)",
    ]


def test_prints_belong_to_the_exercise_that_printed_them(tmp_path):
    answers = """
        import os
        print("at the top")
        def double(x):
            print("from double", 1)
            os.write(1, b"below Python")
            return 2 * x
        def halve(x):
            print("from halve")
            while True: pass
    """
    top, first, second = verdicts(tmp_path, answers, seconds=1.0)
    assert (top.name, top.verdict, top.output) == ("", "printed", "at the top")
    assert first.output.splitlines() == ["from double 1", "below Python"]
    assert (second.verdict, second.output) == ("timeout", "from halve")


def test_long_output_is_cut_and_does_not_hang(tmp_path):
    result = verdict_on_double(tmp_path, "print('x' * 100_000)\nreturn 2 * x")
    assert result.verdict == PASSED
    assert len(result.output) < 2_100
    assert result.output.endswith("bytes more")


@pytest.mark.parametrize(
    "answer",
    [
        "double = lambda x: 2 * x",
        "two = lambda x: 2 * x\ndouble = two",
        "from numpy import abs as double",
    ],
)
def test_a_stub_that_is_bound_anew_below_is_begun(tmp_path, answer):
    stub = 'def double(x):\n    """Return twice x."""\n    ...\n'
    first, _ = verdicts(tmp_path, f"{stub}\n{answer}\n{HALVE}")
    assert first.verdict == (FAILED if "abs" in answer else PASSED)


def test_what_is_written_to_every_open_file_is_no_verdict(tmp_path):
    forged = r'{"result": {"name": "double", "verdict": "passed"}, "end": 0}'
    body = f"""
import os
for descriptor in range(1, 40):
    for text in (b"nonsense", b"\\n" + {forged.encode()!r} + b"\\n", b"no line"):
        try:
            os.write(descriptor, text)
        except OSError:
            break
return 3 * x
"""
    result = verdict_on_double(tmp_path, body)
    assert result.verdict == FAILED


def test_endless_output_fills_no_disk(tmp_path):
    result = verdict_on_double(tmp_path, "while True: print('x' * 100_000)", seconds=2.0)
    assert result.verdict in ("error", "timeout")


@pytest.mark.parametrize(
    ("answers", "verdict", "message"),
    [
        ("def double(x)\n    return 2", "unreadable", "line 1: not valid Python: expected ':'"),
        ("def double(x):\nreturn 2", "unreadable", "line 2: not valid Python"),
        ("x = (" * 300, "unreadable", "too many nested parentheses"),
        (b"def double(x):\n    return '\xff'\n", "unreadable", "not valid Python"),
        (b"x = 1\x00", "unreadable", "null bytes"),
        ("def double(x): ...".encode("utf-16"), "unreadable", "UTF-16 text: save it as UTF-8"),
        ("import nonsense_module", "error", "No module named 'nonsense_module'\n    line 1"),
        ("x = 1\n1 / 0", "error", "ZeroDivisionError: division by zero\n    line 2: 1 / 0"),
        ("exit()", "exit", "calls exit()"),
        ("while True: pass", "timeout", "still running after 1 s"),
        ("import os; os._exit(0)", "exit", "ended the whole Python process"),
        ("import os; os.abort()", "crash", "SIGABRT"),
    ],
)
def test_a_file_that_cannot_be_used_gets_one_verdict(tmp_path, answers, verdict, message):
    (result,) = verdicts(tmp_path, answers, seconds=1.0)
    assert (result.name, result.verdict) == ("", verdict)
    assert message in result.message


def test_a_deleted_or_replaced_function_is_named(tmp_path):
    first, second = verdicts(tmp_path, "halve = 3")
    assert (first.verdict, second.verdict) == ("missing", FAILED)
    assert "there is no double in your file" in first.message
    assert "halve should be a function, but is int" in second.message


def test_an_empty_file_misses_everything(tmp_path):
    assert [result.verdict for result in verdicts(tmp_path, "")] == ["missing", "missing"]


def test_every_sample_mistake_gets_its_own_hint_through_the_grader(tmp_path):
    """What a learner types, from file to hint: the first mistakes together, then the second."""
    exercises = load(SAMPLE)
    for round_ in (0, 1):
        text = ["import itertools\nimport numpy as np"]
        for item in exercises:
            mistake = item.mistakes[round_]
            source = textwrap.dedent("".join(_source(mistake.name)))
            text.append(source.replace(mistake.name, item.name, 1))
        if round_ == 1:
            text.insert(1, "".join(_source("Queue")))
        file = tmp_path / "answers.py"
        file.write_text("\n\n".join(text))
        results = list(grade(SAMPLE, file))
        assert [r.hint for r in results] == [item.mistakes[round_].hint for item in exercises]


def _source(name: str) -> list[str]:
    lines = SAMPLE.read_text().splitlines(keepends=True)
    start = next(
        i for i, line in enumerate(lines) if line.startswith((f"def {name}(", f"class {name}"))
    )
    return inspect.getblock(lines[start:])


def test_the_solutions_pass_through_the_grader(tmp_path):
    file = tmp_path / "answers.py"
    source = SAMPLE.read_text(encoding="utf-8")
    tree = ast.parse(source)
    sources = [reading.solution_of(tree, source, entry.name) for entry in reading.survey(SAMPLE)]
    file.write_text("\n\n".join(["import itertools\nimport numpy as np", *sources]))
    assert {result.verdict for result in grade(SAMPLE, file)} == {PASSED}


def test_nothing_is_left_running(tmp_path):
    me = psutil.Process()
    before = {child.pid for child in me.children(recursive=True)}
    body = "import subprocess\nsubprocess.Popen(['sleep', '60'])\nwhile True: pass"
    assert verdict_on_double(tmp_path, body, seconds=1.0).verdict == "timeout"
    assert {child.pid for child in me.children(recursive=True)} <= before
    assert not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "60"]]


def test_the_worker_ends_with_a_killed_parent(tmp_path):
    """Closing the terminal in the middle of an endless loop leaves no process behind."""
    (tmp_path / "exercises.py").write_text(limited(EXERCISES, 600))
    pid_file = tmp_path / "pid"
    (tmp_path / "answers.py").write_text(
        f"import os, pathlib, time\npathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()))\n"
        "def double(x):\n    time.sleep(600)\n"
    )
    code = "from pathlib import Path; from chainrule.learner.grader import grade\n"
    code += "list(grade(Path('exercises.py'), Path('answers.py')))"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    try:
        worker = _wait_for(lambda: pid_file.exists() and pid_file.read_text())
        os.kill(parent.pid, signal.SIGKILL)
        assert _wait_for(lambda: not psutil.pid_exists(int(worker)) or _is_zombie(int(worker)))
    finally:
        parent.kill()
        parent.wait()


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _wait_for(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    return None
