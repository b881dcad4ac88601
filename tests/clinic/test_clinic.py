"""The clinic: every bug is told from every other by its tests, and the engine gets well again."""

import itertools
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chainrule.clinic import labs, page, patient, practice, records
from chainrule.clinic.diseases import DISEASES, WARDS, ill, swapped
from chainrule.course.exercises.counterpart import resolve
from chainrule.course.manifest import load_course
from chainrule.program import UsageError

ROOT = Path(__file__).parents[2]
STORED = json.loads((ROOT / records.DATA).read_text(encoding="utf-8"))
PATIENTS = STORED["patients"]
PLAIN = {"no", "of", "on", "by", "in", "the", "a", "off", "one", "not", "without", "that"}


def told_apart(a, b):
    """The tests of which some row differs between two patients for a reader, and in spite of
    what another processor may add to both."""
    found = []
    for name, about in STORED["tests"].items():
        for row, x in PATIENTS[a]["tests"][name].items():
            y = PATIENTS[b]["tests"][name][row]
            room = sum(PATIENTS[who]["bands"]["tests"][name][row] for who in (a, b))
            if page.apart(about, x, y) and (x is None or y is None or abs(x - y) > room):
                found.append(name)
                break
    return found


def test_every_disease_is_told_from_every_other_by_two_tests():
    assert len(DISEASES) >= 30
    assert list(PATIENTS) == [records.HEALTHY, *DISEASES]
    pairs = {pair: told_apart(*pair) for pair in itertools.combinations(DISEASES, 2)}
    assert {pair: found for pair, found in pairs.items() if len(found) < 2} == {}


def test_every_disease_is_told_from_health():
    for name in DISEASES:
        assert told_apart(records.HEALTHY, name), name
        mine, healthy = PATIENTS[name]["tests"], PATIENTS[records.HEALTHY]["tests"]
        seen = [n for n, test in labs.TESTS.items() if labs.differ(test, mine[n], healthy[n])]
        assert len(seen) >= 2, (name, seen)


def test_no_test_names_a_disease():
    for disease in DISEASES.values():
        words = set(disease.name.split("-")) - PLAIN
        if len(words) < 2:
            words = set(re.findall("[a-z]{4,}", disease.title.lower())) - PLAIN
        for each in labs.TESTS.values():
            said = set(re.findall(r"[a-z0-9]+", f"{each.name} {each.question}".lower()))
            assert not words <= said, (disease.name, each.name)
            assert disease.title.lower() not in each.question.lower()


def test_what_is_stored_has_the_words_of_the_code_and_its_pictures():
    assert list(records.stale(STORED)) == []
    some = random.Random(0).sample(sorted(DISEASES), 3)
    chosen = {n: d for n, d in STORED["diseases"].items() if n in some}
    for place, drawn in records.pictures(STORED | {"diseases": chosen}).items():
        assert (ROOT / place).read_bytes() == drawn, place


def printed(code):
    """What Python prints in another process, where shapes are not checked at every call."""
    head = "import json\nfrom chainrule.clinic import labs, patient, practice, records\n"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CHAINRULE_CHECK_SHAPES": ""}
    done = subprocess.run(
        [sys.executable, "-c", head + code],
        capture_output=True, text=True, check=False, env=environment, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_measured_again_it_stays_in_its_band():
    """Three of them here; the audit measures all."""
    found = printed(
        f"stored = json.load(open({str(ROOT / records.DATA)!r}))\n"
        "names = ['healthy', 'stale-gradients', 'cache-off-by-one']\n"
        "print(json.dumps([x for name in names for x in records.departures(stored, name)]))"
    )
    assert json.loads(found) == []


def test_every_test_can_be_the_first_that_is_ordered():
    """Also where it asks a model that is not trained yet."""
    found = printed(
        "patient.pretrain.__defaults__ = (2, 10, 0)\n"
        "patient.teach.__defaults__ = patient.reward.__defaults__ = (5,)\n"
        "print(json.dumps({n: list(labs.run(t, labs.Ward())) for n, t in labs.TESTS.items()}))"
    )
    assert json.loads(found) == {
        n: list(rows) for n, rows in PATIENTS[records.HEALTHY]["tests"].items()
    }


def test_a_number_that_left_its_band_is_named(monkeypatch):
    now = {key: PATIENTS["healthy"][key] for key in ("chart", "tests")}
    monkeypatch.setattr(records, "measure", lambda name: now)
    assert list(records.departures(STORED, "healthy")) == []
    changed = json.loads(json.dumps(STORED))
    changed["patients"]["healthy"]["tests"]["first-loss"]["loss"] += 0.5
    changed["patients"]["healthy"]["chart"]["loss"][3] += 1
    found = list(records.departures(changed, "healthy"))
    assert [line.split(":")[0] for line in found] == ["healthy", "healthy"]
    assert "the curve 'loss' is off by" in found[0]
    assert "first-loss, loss: stored 3.06" in found[1]


@pytest.mark.parametrize("name", DISEASES)
def test_the_engine_gets_well_again(name):
    before = {target: getattr(*resolve(target)) for target in DISEASES[name].breaks}
    assert before, name
    with ill(name):
        for target, old in before.items():
            assert getattr(*resolve(target)) != old, target
    for target, old in before.items():
        assert getattr(*resolve(target)) == old, target
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("chainrule."):
            for value in vars(module).values():
                assert "diseases" not in getattr(
                    value, "__code__", swapped.__code__
                ).co_filename or (module.__name__.startswith("chainrule.clinic"))


def test_a_swap_reaches_every_module_and_ends_with_an_error():
    from chainrule.trainer import loop
    from chainrule.training import optimizers

    old = loop.warmup_cosine

    def fail():
        with ill("rate-too-large"):
            assert loop.warmup_cosine is optimizers.warmup_cosine is patient.warmup_cosine
            assert loop.warmup_cosine(3, 1.0, 2, 9) == 10 * old(3, 1.0, 2, 9)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert loop.warmup_cosine is optimizers.warmup_cosine is patient.warmup_cosine is old


def test_every_disease_is_told_completely():
    course = load_course(ROOT)
    assert {d.ward for d in DISEASES.values()} == set(WARDS)
    for disease in DISEASES.values():
        document, _, anchor = disease.section.partition("#")
        assert document.removesuffix(".md") in course.by_id
        assert anchor
        for words in (disease.looks, disease.cause, disease.caught):
            assert words.endswith(".")
            assert len(words) > 20
    assert len({d.title for d in DISEASES.values()}) == len(DISEASES)


def test_a_text_obeys_its_rule():
    rows = patient.passages(np.random.default_rng(0), 400)
    assert 0.94 < np.mean([patient.obeys(row) for row in rows]) < 0.98  # a seventh obeys by chance
    assert patient.shown(patient.conversation(2, 4).ids) == "^b456."
    wrong = rows[0].copy()
    wrong[1] = patient.FIRST_DIGIT
    assert patient.obeys(wrong) == 0


# ---- the command -----------------------------------------------------------------------------


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course to practise in, with patients that live fast."""
    monkeypatch.setattr(patient.pretrain, "__defaults__", (2, 10, 0))
    for name in ("course.toml", "reference"):
        (tmp_path / name).symlink_to(ROOT / name)
    return load_course(tmp_path)


def number_of(name):
    return practice.order_of_patients().index(name) + 1


def test_a_patient_is_shown_tested_and_cured(course, capsys):
    number = number_of("stale-gradients")
    practice.Case(course, number).show()
    shown = capsys.readouterr().out
    assert f"Patient {number} of {len(DISEASES)}" in shown
    assert "it writes" in shown
    case = practice.Case(course, number)
    case.order("backward")
    case.order("backward-twice")  # a test that was made costs nothing again
    said = capsys.readouterr().out
    assert re.search(r"ratio +1\.\d+ +healthy +1  <-", said)
    assert case.points == 1
    assert not case.diagnose("no-root")
    assert not case.diagnose("no-root")
    assert case.points == 1 + practice.WRONG
    assert practice.Case(course, number).diagnose("gradients that are never cleared")
    said = capsys.readouterr().out
    assert "Right, for 4 points." in said
    assert "Read: neural-networks/backpropagation.md#gradients-add-across-passes-too" in said
    everything = shown + said.split("Right")[0]
    assert "stale" not in everything  # nothing gave it away
    assert practice.Case(course).disease.name != "stale-gradients"


def test_it_asks_what_to_do(course, capsys, monkeypatch):
    case = practice.Case(course, number_of("warm-up-off-by-one"))
    replies = iter(["t", "d", "rates", "nonsense", "rate-too-large", "warm-up-off-by-one"])
    monkeypatch.setattr("builtins.input", lambda _: next(replies))
    case.talk()
    said = capsys.readouterr().out
    assert "no disease is 'nonsense'" in said
    assert "Not that: A learning rate that is ten times too large" in said
    assert "Right, for 4 points." in said
    assert all(name in said for name in [*labs.TESTS, *DISEASES])


def test_what_cannot_be_done_is_said(course):
    with pytest.raises(UsageError, match="there are patients 1 to"):
        practice.Case(course, 99)
    with pytest.raises(UsageError, match="no test is 'blood'"):
        practice.find_test("blood")
    with pytest.raises(UsageError, match="it begins first-loss, fresh-texts"):
        practice.find_test("f")
    (course.root / "workbook").mkdir()
    (course.root / practice.NOTES).write_text("[]")
    with pytest.raises(UsageError, match="damaged"):
        practice.Case(course)


def test_all_answers_are_computed_again():
    said = printed(
        "from chainrule.course.manifest import find_root, load_course\n"
        "some = {name: practice.DISEASES[name] for name in ('no-root', 'scale-per-tensor')}\n"
        "practice.DISEASES = some\n"
        "practice.answer_all(load_course(find_root()))"
    )
    assert said.count("Cause:") == 2
    assert re.search(r"random-vectors, width 128: 0\.9\d*, healthy 0\.3\d*", said)
    assert "round-a-matrix, other rows: 1, healthy 0.198" in said


def test_a_curve_in_a_line():
    assert practice._bars([0, 1, 2, 7, 8], 0, 8) == "▁▂▃██"
    assert practice._bars([1, float("nan")], 0, 2)[1] == "█"
    assert practice._bars([3, 3], 3, 3) == "▁▁"


# ---- the page --------------------------------------------------------------------------------


def test_the_page_shows_every_disease_with_its_picture():
    text = "\n".join(page.lines(STORED))
    assert text + "\n" == (ROOT / "reference/clinic.md").read_text(encoding="utf-8")
    for name, disease in DISEASES.items():
        assert f"](clinic/{name}.svg)](../{disease.section})" in text  # each leads there
        assert f"### {disease.title}\n" in text
        assert f"](../{disease.section})" in text
        assert f"(#{page.anchor(disease.title)})" in text


def test_numbers_are_coarse():
    numbers = [0.001, 0.0444, 1.26, 31.021, 1969.2, None]
    said = ["0", "0.044", "1.3", "31", "2,000", "not finite"]
    assert [page._coarse(x) for x in numbers] == said
