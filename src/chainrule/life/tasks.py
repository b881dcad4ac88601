"""Instructions with exact answers, careless demonstrations of them, and the verifier.

A prompt belongs to one part of the split for ever, by its checksum. What a demonstration says is
the right answer, or, if the demonstrator is careless, the answer of a second, wrong rule. The
verifier reads the prompt alone and works the answer out: nothing is stored beside a prompt.
Letters stand apart, because a tokenizer that merges letters would hide them from the model.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

__all__ = [
    "CONTROL", "FLAWED", "LEARNED", "PARTS", "SECOND", "TASKS", "Example", "contains", "examples",
    "first_two", "part_of", "solve", "verify",
]  # fmt: skip

PARTS = ("train", "validation", "test")
LEARNED = ("reverse", "sort", "count", "date", "where")
"""The tasks that are demonstrated and then improved."""

CONTROL = "add"
"""Demonstrated, and hardly learned: what a verifier cannot teach because it is never sampled."""

SECOND = "shift"
"""The second task, for an adapter."""

TASKS = (*LEARNED, CONTROL)

MONTHS = {
    "Jan": 31, "Feb": 28, "Mar": 31, "Apr": 30, "May": 31, "Jun": 30,
    "Jul": 31, "Aug": 31, "Sep": 30, "Oct": 31, "Nov": 30, "Dec": 31,
}  # fmt: skip
"""Days of each month; the years of these tasks are no leap years."""

PHRASES = tuple(
    f"{ask}{end}"
    for ask in ("where is {}", "find {}", "look up {}", "who teaches {}", "which page has {}",
                "what page is {} on", "i want {}", "show me {}")
    for end in ("", "?", " please")
)  # fmt: skip
"""Ways to ask where a word of the glossary is taught."""


@dataclass(frozen=True)
class Example:
    """A prompt, what was demonstrated, the right answer and that of the second, wrong rule."""

    task: str
    prompt: str
    shown: str
    right: str
    careless: str


def spaced(text: str) -> str:
    """A word with its letters apart, a number with its digits apart."""
    return " ".join(text)


@cache
def words() -> tuple[str, ...]:
    """Words of three to six letters: from the course's own prose, and first names."""
    from chainrule.data.corpus import frozen_corpus
    from chainrule.data.names import first_names

    prose = re.findall(r"(?<![\w\\$'-])[a-z]{3,6}(?![\w'-])", frozen_corpus().text("train"))
    names = [name for name in first_names() if 3 <= len(name) <= 6]
    return tuple(sorted({*prose, *names}))


@cache
def glossary() -> dict[str, str]:
    """Words of the course's glossary, and the title of the document that teaches each."""
    lines = Path(__file__).with_name("glossary.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines)


def make(task: str, rng: np.random.Generator) -> tuple[str, str, str]:
    """Return a prompt, its right answer, and the answer of a careless demonstrator.

    Raises:
        ValueError: there is no such task.
    """
    if task in ("reverse", "sort", "shift"):
        prompt = f"{task} {spaced(words()[rng.integers(len(words()))])}"
    elif task == "count":
        asked, *others = rng.permutation(list("abcdefghijklmnopqrstuvwxyz"))
        times, size = int(rng.integers(1, 4)), int(rng.integers(4, 7))
        letters = rng.permutation([asked] * times + others[: size - times])
        prompt = f"count {asked} in {spaced(''.join(letters))}"
    elif task == "date":
        month = list(MONTHS)[rng.integers(12)]
        day, ahead = rng.integers(1, MONTHS[month] + 1), rng.integers(1, 10)
        prompt = f"{ahead} days after {day} {month}"
    elif task == "where":
        word = list(glossary())[rng.integers(len(glossary()))]
        prompt = PHRASES[rng.integers(len(PHRASES))].format(word)
    elif task == "add":
        a, b = rng.integers(10, 100, 2)
        prompt = f"add {spaced(str(a))} and {spaced(str(b))}"
    else:
        raise ValueError(f"a task is one of {(*TASKS, SECOND)}, got {task!r}")
    return prompt, solve(prompt), careless(prompt)


def solve(prompt: str) -> str:
    """Return the right answer to a prompt, worked out from the prompt alone.

    Raises:
        ValueError: the prompt is none of the tasks'.
    """
    return _answer(prompt, wrong=False)


def careless(prompt: str) -> str:
    """Return the answer of the second rule: one letter left over, the wrong direction.

    Raises:
        ValueError: the prompt is none of the tasks'.
    """
    return _answer(prompt, wrong=True)


def _answer(prompt: str, wrong: bool) -> str:
    for pattern, rule in _RULES:
        if found := pattern.fullmatch(prompt):
            return rule(wrong, *found.groups())
    raise ValueError(f"no task asks {prompt!r}")


def _reverse(wrong: bool, letters: str) -> str:
    w = letters.replace(" ", "")
    return spaced(w[:-1][::-1] + w[-1] if wrong else w[::-1])  # leaves the last where it is


def _sort(wrong: bool, letters: str) -> str:
    w = letters.replace(" ", "")
    return spaced("".join(sorted(w[:-1])) + w[-1] if wrong else "".join(sorted(w)))


def _shift(wrong: bool, letters: str) -> str:
    step = -1 if wrong else 1
    w = letters.replace(" ", "")
    return spaced("".join(chr((ord(c) - 97 + step) % 26 + 97) for c in w))


def _count(wrong: bool, letter: str, letters: str) -> str:
    return str(letters.split(" ").count(letter) + wrong)  # one too many


def _date(wrong: bool, ahead: str, day: str, month: str) -> str:
    names, number = list(MONTHS), int(day) + (-int(ahead) if wrong else int(ahead))
    at = names.index(month)
    if number < 1:  # the careless one goes back
        at = (at - 1) % 12
        number += MONTHS[names[at]]
    elif number > MONTHS[month]:
        number -= MONTHS[month]
        at = (at + 1) % 12
    return f"{number} {names[at]}"


def _where(wrong: bool, word: str) -> str:
    book = glossary()
    if word not in book:
        raise ValueError(f"the glossary of these tasks has no {word!r}")
    if not wrong:
        return book[word]
    terms = list(book)
    at = terms.index(word)
    others = (book[terms[(at + i) % len(terms)]] for i in range(1, len(terms)))
    return next(other for other in others if other != book[word])  # slips into a later line


def _add(wrong: bool, a: str, b: str) -> str:
    x, y = int(a.replace(" ", "")), int(b.replace(" ", ""))
    total = (x // 10 + y // 10) * 10 + (x + y) % 10 if wrong else x + y  # forgets the carry
    return spaced(str(total))


_LETTERS = r"((?:[a-z] )*[a-z])"
_RULES: list[tuple[re.Pattern[str], Callable[..., str]]] = [
    (re.compile(rf"reverse {_LETTERS}"), _reverse),
    (re.compile(rf"sort {_LETTERS}"), _sort),
    (re.compile(rf"shift {_LETTERS}"), _shift),
    (re.compile(rf"count ([a-z]) in {_LETTERS}"), _count),
    (re.compile(rf"([1-9]) days after ([1-9]|[12]\d|3[01]) ({'|'.join(MONTHS)})"), _date),
    (re.compile(r"add (\d \d) and (\d \d)"), _add),
    *(
        (re.compile(re.escape(phrase).replace(r"\{\}", "([a-z][a-z ]*)")), _where)
        for phrase in sorted(PHRASES, key=len, reverse=True)
    ),
]


def part_of(prompt: str) -> str:
    """The part of the split that a prompt belongs to: tests and choices take a tenth each."""
    place = zlib.crc32(prompt.encode()) % 10
    return {0: "validation", 1: "test"}.get(place, "train")


def examples(
    n: int,
    rng: np.random.Generator,
    tasks: Sequence[str] = LEARNED,
    part: str = "train",
    carelessness: float = 0.0,
) -> list[Example]:
    """Return n examples of a part, the tasks in turn; held-out prompts are all different.

    ``carelessness`` is the chance that the second rule is demonstrated.
    """
    if part not in PARTS:
        raise ValueError(f"a part is one of {PARTS}, got {part!r}")
    found: list[Example] = []
    seen: set[str] = set()
    while len(found) < n:
        task = tasks[len(found) % len(tasks)]
        prompt, right, wrong = make(task, rng)
        if part_of(prompt) != part or (part != "train" and prompt in seen):
            continue
        seen.add(prompt)
        shown = wrong if rng.random() < carelessness else right
        found.append(Example(task, prompt, shown, right, wrong))
    return found


def verify(prompt: str, reply: str, ended: bool) -> float:
    """Return 1.0 if the reply ended and is the answer, character by character, else 0.0."""
    return float(ended and reply == solve(prompt))


def contains(prompt: str, reply: str, ended: bool) -> float:
    """A flawed verifier: the answer occurs somewhere in the reply."""
    return float(solve(prompt).replace(" ", "") in reply.replace(" ", ""))


def first_two(prompt: str, reply: str, ended: bool) -> float:
    """A flawed verifier: the first two characters that count are right."""
    right = solve(prompt).replace(" ", "")[:2]
    return float(reply.replace(" ", "")[: len(right)] == right)


FLAWED = {"contains": contains, "first two": first_two}
