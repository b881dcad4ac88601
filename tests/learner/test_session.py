"""The learner's commands, run as a learner runs them."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import tomllib

from sample_course import CODE

from chainrule.learner.workbook import PROGRESS

STUB = "    ..."
FILE = "workbook/math-foundations/lengths.py"


def test_the_first_session_of_a_learner(chainrule, small):
    status, output, _ = chainrule("check")
    assert status == 2
    status, output, errors = chainrule("exercise", "lengths")
    assert (status, errors) == (0, "")
    assert "Twice in lengths (difficulty 1, 5 min)" in output
    assert "chainrule check lengths --watch" in output
    status, output, _ = chainrule("check", "lengths")
    assert status == 1
    assert "· Twice in lengths: not started yet" in output
    assert "0 of 1 pass. Next: Twice in lengths, about 5 min" in output

    small.edit(FILE, STUB, STUB[:-3] + "return x * x")
    status, output, _ = chainrule("check")
    assert status == 1
    assert "✗ Twice in lengths  [small]" in output
    assert "You squared it. What is twice 3?" in output
    assert "called as twice(2.7)" in output
    assert "expected 5.4" not in output

    small.edit(FILE, "return x * x", "return x + 4")
    status, output, _ = chainrule("check")
    assert (
        status,
        "twice 2.7: not as expected.\n      expected 5.4\n      received 6.7" in output,
    ) == (
        1,
        True,
    )
    status, _, errors = chainrule("check", "--solution", "twice")
    assert status == 2
    assert errors == "chainrule: twice has not passed yet; pass it first, or add --anyway\n"
    status, output, _ = chainrule("check", "--solution", "twice", "--anyway", "lengths")
    assert (status, "return 2 * x" in output) == (0, True)
    assert "squares" not in output

    small.edit(FILE, "return x + 4", "print('adding')\n    return x + x")
    status, output, errors = chainrule("check")
    assert (status, errors) == (0, "")
    assert "✓ Twice in lengths" in output
    assert "      | adding" in output
    assert "1 of 1 pass. That opens: Slopes (math-foundations/slopes.md)" in output
    status, output, _ = chainrule("check", "--solution", "Twice in lengths")
    assert (status, "return 2 * x" in output) == (0, True)

    status, output, _ = chainrule("progress")
    assert "✓ Lengths" in output
    assert "1 of 1 exercises" in output
    assert "1 of 2 written documents done or known" in output
    assert "math-foundations/slopes.md" in output
    assert (
        "twice"
        in tomllib.loads((small.root / PROGRESS).read_text())["passed"]["math-foundations/lengths"]
    )


def test_help_goes_one_step_further_with_each_call(chainrule, small):
    chainrule("exercise", "lengths")
    helps = [
        "1. Reread math-foundations/lengths.md#unit-arrows",
        "2. What is taken two times?",
        "3. The solution begins:  return 2 * x",
    ]
    for shown in (1, 2, 3, 3):
        status, output, errors = chainrule("hint", "twice")
        assert (status, errors) == (0, "")
        assert output.splitlines()[:-1] == helps[:shown]
        further = "hint twice" if shown < 3 else "check --solution twice --anyway"
        assert output.splitlines()[-1] == f"Further help: chainrule {further}"
    small.edit(FILE, STUB, STUB[:-3] + "return x + x")
    assert chainrule("check")[0] == 0
    state = tomllib.loads((small.root / PROGRESS).read_text())
    assert state["hinted"] == {"math-foundations/lengths": {"twice": 3}}
    assert chainrule("hint", "thrice")[0] == 2


def test_one_exercise_is_graded_replayed_and_compared(chainrule, small):
    chainrule("exercise", "lengths")
    assert chainrule("check", "--replay")[0] == 2
    small.edit(FILE, STUB, "    y = x\n    return y")
    status, output, _ = chainrule("check", "twice", "--replay")
    assert status == 1
    assert "from replay_twice import args, kwargs\n      twice(*args, **kwargs)" in output
    folder = (small.root / FILE).parent
    code = "from replay_twice import args, kwargs; print(args, kwargs)"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.stdout == "(2.7,) {}\n"
    _, output, _ = chainrule("check", "Twice in lengths")
    assert "Stuck? chainrule hint twice\n" in output
    assert "chainrule check twice --replay" in output
    status, output, _ = chainrule("check", "--solution", "twice", "--anyway", "--compare")
    assert (status, "share no variables" in output) == (0, True)
    small.edit("course.toml", "concepts = [", 'concepts = ["twice", ')
    assert "replay_twice" in chainrule("check", "twice", "--replay")[1]
    status, _, errors = chainrule("check", "nothing")
    assert (status, errors.count("\n")) == (2, 1)


def test_known_and_forget(chainrule):
    _, output, _ = chainrule("progress", "--known", "lengths", "--known", "rise over run")
    assert "✓ Slopes" in output
    assert "2 of 2 written documents" in output
    _, output, _ = chainrule("progress", "--forget", "slopes")
    assert "1 of 2 written documents" in output
    assert "✓ Slopes" not in output


def test_questions_shorten_a_path_and_are_kept(chainrule, small):
    status, output, errors = chainrule("path", "neurons", "--ask", typed="10\n0.3\n")
    assert (status, errors) == (0, "")
    assert "Lengths: How long is the arrow" in output
    assert "Right: Lengths is marked as known." in output
    assert "It is 0.13: math-foundations/slopes.md stays" in output
    assert "2 documents, 50 min" in output
    assert "✓ Lengths" in chainrule("progress")[1]
    _, output, _ = chainrule("path", "neurons", "--ask", typed="q\n")
    assert "Lengths" not in output
    assert "2 documents" in output


def test_what_passed_stays_passed(chainrule, small):
    chainrule("exercise", "lengths")
    small.edit(FILE, STUB, STUB[:-3] + "return x + x")
    assert chainrule("check")[0] == 0
    small.edit(FILE, "return x + x", "return x")
    assert chainrule("check")[0] == 1
    assert "1 of 1 exercises" in chainrule("progress")[1]


def test_nothing_is_overwritten(chainrule, small):
    chainrule("exercise", "lengths")
    small.edit(FILE, STUB, STUB[:-3] + "return 'mine'")
    _, output, _ = chainrule("exercise", "lengths")
    assert "1 left as they are" in output
    assert "return 'mine'" in (small.root / FILE).read_text()
    _, output, _ = chainrule("exercise", "lengths", "--reset", "twice")
    assert "Your version is kept in workbook/math-foundations/lengths.backup-1.txt" in output
    assert "return 'mine'" not in (small.root / FILE).read_text()
    assert "return 'mine'" in (small.root / FILE).with_suffix(".backup-1.txt").read_text()


def test_a_damaged_state_is_one_line_everywhere(chainrule, small):
    chainrule("exercise", "lengths")
    (small.root / PROGRESS).write_text("known = [")
    for arguments in (["progress"], ["check"], ["path", "neurons"]):
        status, _, errors = chainrule(*arguments)
        assert status == 2
        assert "progress.toml: damaged" in errors
        assert errors.count("\n") == 1


def test_outside_a_checkout_the_workbook_is_beside_you(chainrule, tmp_path):
    status, output, errors = chainrule("exercise", "linear-algebra", cwd=tmp_path)
    assert (status, errors) == (0, "")
    assert output.startswith("workbook/math-foundations/linear_algebra.py: ")
    below = tmp_path / "workbook" / "math-foundations"
    status, output, _ = chainrule("check", "projection", cwd=below)
    assert (status, "not started yet" in output) == (1, True)
    assert not (below / "workbook").exists()


def test_watch_grades_again_on_save_and_ends_cleanly(chainrule, small):
    chainrule("exercise", "lengths")
    watch = subprocess.Popen(
        [sys.executable, "-P", "-u", "-c", CODE, "check", "--watch"],
        cwd=small.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    guard = threading.Timer(60, watch.kill)
    guard.start()
    try:
        assert "not started yet" in read_until(watch, "Watching; save")
        small.edit(FILE, STUB, STUB[:-3] + "return x * x")
        assert "You squared it" in read_until(watch, "of 1 pass")
        small.edit(FILE, "return x * x", "return 2 * x")
        assert "✓ Twice" in read_until(watch, "of 1 pass")
        time.sleep(0.2)
        watch.send_signal(signal.SIGINT)
        rest, _ = watch.communicate(timeout=10)
        assert rest.strip() == "Stopped watching."
        assert watch.returncode == 0
    finally:
        guard.cancel()
        watch.kill()
        watch.wait()


def read_until(process, text):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            break
    return "".join(lines)


def test_an_interrupt_while_grading_ends_without_traceback(chainrule, small):
    chainrule("exercise", "lengths")
    begun = small.root / "begun"
    small.edit(FILE, STUB, STUB[:-3] + f"open({str(begun)!r}, 'w').close()\n    while True: pass")
    check = subprocess.Popen(
        [sys.executable, "-P", "-c", CODE, "check"],
        cwd=small.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    deadline = time.monotonic() + 30
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    check.send_signal(signal.SIGINT)
    _, errors = check.communicate(timeout=10)
    assert check.returncode == 130
    assert "Traceback" not in errors
