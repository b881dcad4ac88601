"""The workbook keeps what a learner wrote and what they achieved, whatever happens."""

from __future__ import annotations

import ast
import datetime
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.course.manifest import load_course
from chainrule.learner.commands.check import note_passed
from chainrule.learner.workbook import (
    PROGRESS,
    Progress,
    load_progress,
    open_documents,
    pick,
    save_progress,
    workbook_file,
    write_stubs,
)
from chainrule.program import UsageError

LENGTHS = "math-foundations/lengths"
SLOPES = "math-foundations/slopes"
TODAY = datetime.date(2024, 2, 29)
MORE = '''

@exercise("Thrice", difficulty=3, minutes=5, section="unit-arrows")
def thrice(x):
    """Return three times x."""
    return 3 * x
'''


@pytest.fixture
def course(small):
    return load_course(small.root)


@pytest.fixture
def lengths(course):
    return course.by_id[LENGTHS]


# Stubs


def test_a_new_file_holds_every_exercise_and_no_solution(course, lengths):
    written = write_stubs(course, lengths)
    assert written.path == course.root / "workbook/math-foundations/lengths.py"
    assert (written.added, written.kept, written.backup) == (["twice"], [], None)
    text = written.path.read_text()
    ast.parse(text)
    assert "# 1. Twice in lengths (difficulty 1 of 5, about 5 minutes)" in text
    assert "# Read first: ../../math-foundations/lengths.md#unit-arrows" in text
    assert (written.path.parent / "../../math-foundations/lengths.md").is_file()
    assert "chainrule check lengths" in text
    for secret in ("2 * x", "squares", "halves", "You squared", "expect", "chainrule.course"):
        assert secret not in text


def test_only_what_is_missing_is_added(small, course, lengths):
    path = write_stubs(course, lengths).path
    mine = (
        path.read_text().replace("    ...", "    return x + x  # my own way")
        + "\n\nnotes = 'keep'\n"
    )
    path.write_text(mine)
    assert write_stubs(course, lengths).added == []
    assert path.read_text() == mine
    file = course.root / lengths.exercises
    file.write_text(file.read_text() + MORE)
    written = write_stubs(course, lengths)
    assert (written.added, written.kept) == (["thrice"], ["twice"])
    assert path.read_text().startswith(mine.rstrip())
    assert "def thrice(x):" in path.read_text()
    assert "# 2. Thrice" in path.read_text()


@pytest.mark.parametrize(
    "mine",
    [
        "twice = lambda x: x + x",
        "twice: object = lambda x: x + x",
        "async def twice(x): return x",
        "from operator import neg as twice",
        "once, twice = abs, abs",
    ],
)
def test_an_answer_that_is_no_def_is_not_shadowed(course, lengths, mine):
    path = write_stubs(course, lengths).path
    path.write_text(mine + "\n")
    assert write_stubs(course, lengths).added == []
    assert path.read_text() == mine + "\n"
    write_stubs(course, lengths, reset="twice")
    assert path.read_text().rstrip().endswith("...")


def test_a_byte_order_mark_does_no_harm(course, lengths):
    path = write_stubs(course, lengths).path
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"    ...", b"    return 1"))
    write_stubs(course, lengths, reset="twice")
    assert "return 1" not in path.read_text()


def test_a_broken_file_is_kept_and_extended(course, lengths):
    path = write_stubs(course, lengths).path
    file = course.root / lengths.exercises
    file.write_text(file.read_text() + MORE)
    path.write_text("def twice(x)\n    return (\n")
    assert write_stubs(course, lengths).added == ["thrice"]
    assert path.read_text().startswith("def twice(x)\n    return (\n")


def test_reset_one_keeps_the_rest_and_a_copy(course, lengths):
    file = course.root / lengths.exercises
    file.write_text(file.read_text() + MORE)
    path = write_stubs(course, lengths).path
    fresh = path.read_text()
    path.write_text(fresh.replace("    ...", "    return 1"))
    mine = path.read_text()
    written = write_stubs(course, lengths, reset="Twice in lengths")
    assert written.backup.read_text() == mine
    assert path.read_text() == fresh[: fresh.index("# 2.")] + mine[mine.index("# 2.") :]
    again = write_stubs(course, lengths, reset="thrice")
    assert again.backup != written.backup
    assert path.read_text() == fresh


def test_reset_all_begins_anew_even_where_nothing_parses(course, lengths):
    path = write_stubs(course, lengths).path
    fresh = path.read_text()
    path.write_text("def twice(x)\n")
    with pytest.raises(UsageError, match=r"lengths.py:1: not valid Python.*--reset all"):
        write_stubs(course, lengths, reset="twice")
    written = write_stubs(course, lengths, reset="all")
    assert path.read_text() == fresh
    assert written.backup.read_text() == "def twice(x)\n"


def test_reset_of_an_unknown_name_changes_nothing(course, lengths):
    path = write_stubs(course, lengths).path
    before = path.read_text()
    with pytest.raises(UsageError, match="no exercise is 'nothing'; there are: twice"):
        write_stubs(course, lengths, reset="nothing")
    assert path.read_text() == before


def test_a_document_without_exercises_names_those_that_have_some(course):
    with pytest.raises(UsageError, match=r"'Neurons' has no exercises yet.*lengths, slopes"):
        write_stubs(course, course.by_id["neural-networks/neurons"])


def test_a_file_in_another_encoding_is_refused(course, lengths):
    path = write_stubs(course, lengths).path
    path.write_bytes("# über\n".encode("latin-1"))
    with pytest.raises(UsageError, match="not UTF-8"):
        write_stubs(course, lengths)


def test_pick_by_name_or_title(course, lengths):
    file = course.root / lengths.exercises
    file.write_text(file.read_text() + MORE)
    from chainrule.learner.reading import survey

    entries = survey(file)
    for name in ("thrice", "Thrice", "THRICE", "thri"):
        assert pick(entries, name).name == "thrice"
    assert pick(entries, "twice in-lengths").name == "twice"
    with pytest.raises(
        UsageError, match="several exercises match 'i': twice, thrice; name the subject too"
    ):
        pick(entries, "i")


# Progress


def test_no_file_is_no_progress(course):
    assert load_progress(course.root) == Progress()


names = st.from_regex(r"[a-z_][a-z0-9_]{0,10}", fullmatch=True)
ids = st.from_regex(r"[a-z]{1,5}/[a-z]{1,5}", fullmatch=True)
dates = st.dates(datetime.date(2000, 1, 1))


@given(
    st.builds(
        Progress,
        st.dictionaries(ids, st.dictionaries(names, dates, min_size=1)),
        st.sets(ids),
        st.dictionaries(ids, st.dictionaries(names, st.integers(1, 3), min_size=1)),
    )
)
def test_what_is_saved_is_loaded(tmp_path_factory, progress):
    root = tmp_path_factory.mktemp("progress")
    save_progress(root, progress)
    assert load_progress(root) == progress


@pytest.mark.parametrize(
    "text",
    [
        "known = [",
        "known = 3",
        "known = [3]",
        "passed = 3",
        "passed = { a = 3 }",
        "[passed.a]\nb = 3",
        "[hinted.a]\nb = 'x'",
        "hinted = 3",
        b"\xff\xfe",
    ],
)
def test_a_damaged_file_gives_one_clear_line(course, text):
    path = course.root / PROGRESS
    path.parent.mkdir()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=r"progress\.toml: .*(repair it, or delete it)") as caught:
        load_progress(course.root)
    assert "\n" not in str(caught.value)


WRITER = """
import sys, datetime
from pathlib import Path
from chainrule.learner.commands.check import note_passed
from chainrule.learner.workbook import Progress, save_progress
root, day = Path(sys.argv[1]), datetime.date(2024, 2, 29)
small = Progress({}, {"a/b"})
large = Progress({f"a/{i}": {"x": day} for i in range(2000)}, {"a/b"})
while True:
    save_progress(root, large)
    save_progress(root, small)
    print("round", flush=True)
"""


def test_a_kill_at_any_moment_leaves_the_old_or_the_new(tmp_path):
    """Writing in place would leave an empty or half file in some of these kills."""
    sizes = set()
    for trial in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.003 * trial)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        progress = load_progress(tmp_path)
        assert progress.known == {"a/b"}
        assert len(progress.passed) in (0, 2000)
        sizes.add(len(progress.passed))


def test_done_needs_every_exercise_or_a_mark(course):
    file = course.root / course.by_id[LENGTHS].exercises
    file.write_text(file.read_text() + MORE)
    progress = Progress({LENGTHS: {"twice": TODAY}})
    assert progress.done(course) == set()
    progress.passed[LENGTHS]["thrice"] = TODAY
    assert progress.done(course) == {LENGTHS}
    assert Progress({}, {SLOPES}).done(course) == {SLOPES}


def test_open_is_what_is_written_and_has_its_prerequisites(course):
    assert [d.id for d in open_documents(course, set())] == [LENGTHS]
    assert [d.id for d in open_documents(course, {LENGTHS})] == [SLOPES]
    assert open_documents(course, {LENGTHS, SLOPES}) == []


def test_the_learners_file_stands_under_the_workbook(course):
    for document in course.documents:
        path = workbook_file(course, document)
        assert path.is_relative_to(course.root / "workbook" / document.folder)


def test_passes_noted_at_the_same_time_are_all_kept(course, lengths):
    """Two graders at once, or ``--watch`` on one subject and a check of another."""
    names = [[f"exercise_{i}_{j}" for j in range(4)] for i in range(6)]
    start = threading.Barrier(len(names))

    def grader(own):
        start.wait()
        for name in own:
            note_passed(course, lengths, name)

    threads = [threading.Thread(target=grader, args=(own,)) for own in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = load_progress(course.place).passed[lengths.id]
    assert kept.keys() == {name for own in names for name in own}
