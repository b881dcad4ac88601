"""Small instructions with one right answer each, in any number."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np

from chainrule.modern_llms.instruction_tuning.template import Message

__all__ = ["PICKS", "TASKS", "Instruction", "pick_instructions", "toy_instructions"]

TASKS = ("sort", "reverse", "count", "add")
PICKS = tuple(permutations("1234", 2))
"""Twelve tasks: two different places of a word of four letters."""

LETTERS = "abcdefgh"


class Instruction(NamedTuple):
    """One question, its answer, and the task that it belongs to."""

    task: str
    question: str
    answer: str

    def messages(self) -> list[Message]:
        """Return question and answer as a conversation."""
        return [
            {"role": "user", "content": self.question},
            {"role": "assistant", "content": self.answer},
        ]


def toy_instructions(
    rng: np.random.Generator, n: int, tasks: Sequence[str] = TASKS
) -> list[Instruction]:
    """Return n instructions: sort or reverse letters, count one of them, add two digits.

    Raises:
        ValueError: a task that is not offered.
    """
    unknown = set(tasks) - set(TASKS)
    if unknown or not tasks:
        raise ValueError(f"tasks are some of {TASKS}, got {tuple(tasks)}")
    return [_one(str(rng.choice(list(tasks))), rng) for _ in range(n)]


def _one(task: str, rng: np.random.Generator) -> Instruction:
    if task == "add":
        a, b = rng.integers(0, 10, 2)
        return Instruction(task, f"add {a} {b}", str(a + b))
    word = "".join(rng.choice(list(LETTERS), size=rng.integers(3, 6)))
    if task == "sort":
        return Instruction(task, f"sort {word}", "".join(sorted(word)))
    if task == "reverse":
        return Instruction(task, f"reverse {word}", word[::-1])
    letter = str(rng.choice(list(word)))
    return Instruction(task, f"count {letter} in {word}", str(word.count(letter)))


def pick_instructions(
    rng: np.random.Generator, n: int, picks: Sequence[tuple[str, str]] = PICKS
) -> list[Instruction]:
    """Return n instructions to write two letters of a word, such as ``31 dcab``: ad.

    Each pair of places is a task of its own.
    """
    found = []
    for _ in range(n):
        first, second = picks[int(rng.integers(len(picks)))]
        word = "".join(rng.choice(list(LETTERS), size=4))
        answer = word[int(first) - 1] + word[int(second) - 1]
        found.append(Instruction(first + second, f"{first}{second} {word}", answer))
    return found
