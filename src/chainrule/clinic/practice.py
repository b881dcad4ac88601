"""The practice: showing a patient, ordering tests, naming a disease, and what it all costs."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from chainrule.clinic import labs, patient
from chainrule.clinic.diseases import DISEASES, Disease, ill
from chainrule.course.manifest import Course
from chainrule.files import write_atomically
from chainrule.program import UsageError, typed

NOTES = "workbook/clinic.json"
WRONG = 3
BARS = "▁▂▃▄▅▆▇█"

COMPLAINTS = {
    "pretraining": "Something is wrong, or slow, while it learns to write.",
    "answers": "It learned to write. Something is wrong since it was taught to answer.",
    "rewards": "It writes and answers. Something is wrong since it was rewarded.",
    "serving": "Its training was fine. Something is wrong when it is used.",
}


def order_of_patients() -> list[str]:
    """The diseases as the patients come: in an order that says nothing about them."""
    names = sorted(DISEASES)
    random.Random("waiting room").shuffle(names)
    return names


class Case:
    """One patient of a learner: what was ordered so far, and whether the disease was named.

    Raises:
        UsageError: there is no patient of this number.
    """

    def __init__(self, course: Course, number: int | None = None) -> None:
        self.course, self.path = course, course.place / NOTES
        names = order_of_patients()
        if number is None:
            done = {n for n, notes in self._all().items() if notes.get("cured")}
            number = next((i for i, name in enumerate(names, 1) if name not in done), 1)
        if not 1 <= number <= len(names):
            raise UsageError(f"there are patients 1 to {len(names)}, received {number}")
        self.number, self.disease = number, DISEASES[names[number - 1]]

    # -- notes

    def _all(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            assert isinstance(found, dict)
        except FileNotFoundError:
            return {}
        except (ValueError, AssertionError, UnicodeDecodeError):
            message = f"{self.path} is damaged: repair it, or delete it to begin anew"
            raise UsageError(message) from None
        return found

    @property
    def notes(self) -> dict[str, Any]:
        """What was ordered and named for this patient."""
        return {"tests": [], "wrong": [], "cured": False} | self._all().get(self.disease.name, {})

    def _note(self, **changes: Any) -> None:
        every = self._all()
        every[self.disease.name] = self.notes | changes
        self.path.parent.mkdir(exist_ok=True)
        write_atomically(self.path, (json.dumps(every, indent=1) + "\n").encode())

    @property
    def points(self) -> int:
        """What this patient has cost so far."""
        return len(self.notes["tests"]) + WRONG * len(self.notes["wrong"])

    # -- the patient, and a healthy one

    @cached_property
    def _wards(self) -> tuple[labs.Ward, labs.Ward]:
        return labs.Ward(), labs.Ward()

    def _both(self, ask: Callable[[labs.Ward], Any]) -> tuple[Any, Any]:
        """What the patient answers, and a healthy one."""
        with ill(self.disease.name), np.errstate(all="ignore"):
            mine = ask(self._wards[0])
        with np.errstate(all="ignore"):
            return mine, ask(self._wards[1])

    def show(self) -> None:
        """The chart: curves, a few numbers, samples."""
        print(f"Patient {self.number} of {len(DISEASES)}. {COMPLAINTS[self.disease.ward]}\n")
        mine, healthy = self._both(CHARTS[self.disease.ward])
        for (name, values), (_, normal) in zip(mine, healthy, strict=True):
            if isinstance(values, str):
                print(f"  {name:26} {values}\n  {'  healthy':26} {normal}")
            else:
                low, high = _range([*values, *normal])
                for who, curve in ((name, values), ("  healthy", normal)):
                    print(f"  {who:26} {_bars(curve, low, high)}  {_ends(curve)}")
        print(f"\n  Points so far: {self.points}." * bool(self.points))

    def order(self, name: str) -> None:
        """Make a test, and show it beside that of a healthy patient."""
        test = find_test(name)
        mine, healthy = self._both(lambda ward: labs.run(test, ward))
        ordered = self.notes["tests"]
        if test.name not in ordered:
            self._note(tests=[*ordered, test.name])
        print(f"{test.name}: {test.question}")
        for row, value in mine.items():
            mark = "  <-" if labs.tells(test, value, healthy[row]) else ""
            print(f"  {row:28} {value:9.3g}   healthy {healthy[row]:9.3g}{mark}")
        print(f"  Points so far: {self.points}.")

    def diagnose(self, words: str) -> bool:
        """Hear a diagnosis: the cause, or what a wrong one costs."""
        named = find_disease(words)
        if named is not self.disease:
            if named.name not in self.notes["wrong"]:
                self._note(wrong=[*self.notes["wrong"], named.name])
            print(f"Not that: {named.title}. Points so far: {self.points}.")
            return False
        self._note(cured=True)
        print(f"Right, for {self.points} points.\n")
        self.answer()
        return True

    def answer(self) -> None:
        """The diagnosis, its cause, and what would have caught it."""
        print(diagnosis(self.disease))

    def advise(self) -> None:
        """What can be typed next."""
        print(f"  {typed('clinic --tests')}    lists the tests; each costs a point")
        print(f"  {typed(f'clinic {self.number} --test NAME')}")
        print(f"  {typed('clinic --diseases')}    lists the diseases")
        wrong = f"a wrong name costs {WRONG} points"
        print(f"  {typed(f'clinic {self.number} --diagnose NAME')}    {wrong}")

    def talk(self) -> None:
        """Ask what to do until the disease is named."""
        print("  t lists the tests, d the diseases. Type the name of a test to order it, the name")
        print("  of a disease to name it, a for the answer, q to leave.")
        while True:
            try:
                words = input("\nwhat next? ").strip()
            except EOFError:
                return
            if words in ("q", "quit", ""):
                return
            if words == "a":
                self.answer()
                return
            try:
                if words == "t":
                    list_tests()
                elif words == "d":
                    list_diseases()
                elif _matching(words, list(labs.TESTS)):
                    self.order(words)
                elif self.diagnose(words):
                    return
            except UsageError as error:
                print(error)


def diagnosis(disease: Disease) -> str:
    """A disease in a few lines."""
    broken = ", ".join(target.removeprefix("chainrule.") for target in disease.breaks)
    return (
        f"{disease.title} ({disease.name})\n  {disease.looks}\n  Cause: {disease.cause}\n"
        f"  Caught by: {disease.caught}\n  Read: {disease.section}\n  Planted in: {broken}"
    )


def answer_all(course: Course) -> None:
    """Every patient, computed again, with its diagnosis and the tests that show it."""
    healthy = labs.Ward()
    normal = {name: labs.run(test, healthy) for name, test in labs.TESTS.items()}
    for number in range(1, len(DISEASES) + 1):
        case = Case(course, number)
        with ill(case.disease.name):
            ward = labs.Ward()
            found = {name: labs.run(test, ward) for name, test in labs.TESTS.items()}
            loss, held = ward.pretrained.loss, ward.pretrained.held_out
        print(f"Patient {number}: {diagnosis(case.disease)}")
        print(f"  loss {_ends(loss)}, on fresh texts {_ends(held)}")
        for name, test in labs.TESTS.items():
            for row in labs.differ(test, found[name], normal[name]):
                was, now = normal[name][row], found[name][row]
                print(f"    {name}, {row}: {now:.3g}, healthy {was:.3g}")
        print(flush=True)


def list_tests() -> None:
    """The tests, each with its question."""
    for test in labs.TESTS.values():
        print(f"  {test.name:22} {test.question}")


def list_diseases() -> None:
    """The diseases, by name."""
    for disease in sorted(DISEASES.values(), key=lambda each: each.title):
        print(f"  {disease.name:24} {disease.title}")


def find_test(words: str) -> labs.Test:
    """The test of this name, or the only one that it begins.

    Raises:
        UsageError: there is none, or several.
    """
    return labs.TESTS[_only(words, list(labs.TESTS), "test", "clinic --tests")]


def find_disease(words: str) -> Disease:
    """The disease of this name or title, or the only one that it begins.

    Raises:
        UsageError: there is none, or several.
    """
    titles = {disease.title.lower(): name for name, disease in DISEASES.items()}
    words = titles.get(words.lower().strip(), words)
    return DISEASES[_only(words, list(DISEASES), "disease", "clinic --diseases")]


def _only(words: str, names: Sequence[str], what: str, listed: str) -> str:
    found = _matching(words, names)
    if len(found) != 1:
        some = f"; it begins {', '.join(found)}" if found else ""
        raise UsageError(f"no {what} is {words!r}{some}; they are listed by: {typed(listed)}")
    return found[0]


def _matching(words: str, names: Sequence[str]) -> list[str]:
    plain = "-".join(words.lower().split())
    return [plain] if plain in names else [n for n in names if plain and n.startswith(plain)]


# ---- charts ----------------------------------------------------------------------------------

Chart = list[tuple[str, Any]]


def _pretraining(ward: labs.Ward) -> Chart:
    trained = ward.pretrained
    sample = " ".join(patient.shown(row) for row in patient.written(ward.model, 3, False))
    size = sum(p.size for p in ward.model.parameters())
    return [
        ("training loss", trained.loss),
        ("loss on fresh texts", trained.held_out),
        ("norm of the gradient", trained.norm),
        ("parameters", f"{size:,}"),
        ("it writes", sample),
    ]


def _answers(ward: labs.Ward) -> Chart:
    taught = ward.taught
    said = []
    for digit in (0, 3, 6):
        whole = patient.conversation(2, digit)
        begin = next(i for i, token in enumerate(whole.ids) if token >= patient.FIRST_DIGIT) + 1
        prompt = whole.ids[:begin]
        reply = patient.generate(taught.model, prompt[None], 8, temperature=0)[0, begin:]
        said.append(f"{patient.shown(prompt)} -> {patient.shown(reply)}")
    return [
        ("loss of the answers", taught.loss),
        ("right answers", taught.held_out),
        ("norm of the gradient", taught.norm),
        ("it answers", "   ".join(said)),
    ]


def _rewards(ward: labs.Ward) -> Chart:
    return [
        ("mean reward", ward.rewarded.reward),
        ("distance from the start", ward.rewarded.distance),
    ]


def _serving(ward: labs.Ward) -> Chart:
    def sample(model: Any, cached: bool) -> str:
        return " ".join(patient.shown(row) for row in patient.written(model, 3, cached))

    return [
        ("training loss", ward.pretrained.loss),
        ("loss on fresh texts", ward.pretrained.held_out),
        ("written with the cache", sample(ward.model, True)),
        ("written by whole passes", sample(ward.model, False)),
        ("written with 3 bits", sample(patient.served(ward.model), False)),
    ]


CHARTS: dict[str, Callable[[labs.Ward], Chart]] = {
    "pretraining": _pretraining,
    "answers": _answers,
    "rewards": _rewards,
    "serving": _serving,
}


def _range(values: Sequence[float]) -> tuple[float, float]:
    finite = [v for v in values if np.isfinite(v)]
    return (min(finite), max(finite)) if finite else (0.0, 1.0)


def _bars(values: Sequence[float], low: float, high: float) -> str:
    """A curve in one line of text."""
    if high > 20 * max(low, 1e-9) and low > 0:
        values, low, high = [np.log(v) for v in values], np.log(low), np.log(high)
    width = high - low or 1.0
    marks = []
    for v in values:
        place = (v - low) / width if np.isfinite(v) else 1.0
        marks.append(BARS[min(len(BARS) - 1, max(0, int(place * len(BARS))))])
    return "".join(marks)


def _ends(values: Sequence[float]) -> str:
    return f"{values[0]:.3g} -> {values[-1]:.3g}"
