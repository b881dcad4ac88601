"""Ten probes: the same questions to any model, whatever its size and its tokenizer.

Eight compare the log-probabilities of two texts that differ in their end, one of them right; a
model that knows nothing is right in half. Two let the model answer in its chat template.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from chainrule.life.chat import ChatModel, Message, answer
from chainrule.shapes import Array

__all__ = ["CHANCE", "PROBES", "Probed", "choices", "questions", "run_probes"]

Choice = tuple[str, str]
"""The right text and a wrong one."""

NAMES = ("Anna", "Tom", "Mary", "John", "Peter", "Jane", "Paul", "Lucy")
THINGS = ("book", "cup", "hat", "letter", "ring", "key", "coat", "lamp")
WORDS = ("cat", "house", "stone", "water", "light", "green", "bread", "night", "horse", "paper")


class Probed(ChatModel, Protocol):
    """A model that can be probed: it can be talked to, and says how likely a text is."""

    def encode_text(self, text: str) -> Sequence[int]:
        """Return the ids of plain text, without a template."""

    def log_probs(self, ids: Sequence[int]) -> Array:
        """Return log p of every token but the first."""


def _letters(rng: np.random.Generator, n: int) -> list[str]:
    return [str(c) for c in rng.permutation(list("abcdefghijklmnopqrstuvwxyz"))[:n]]


def _copying(rng: np.random.Generator) -> Choice:
    row = _letters(rng, 6)
    start = f"{' '.join(row[:5])} . {' '.join(row[:4])}"
    return f"{start} {row[4]}", f"{start} {row[5]}"


def _induction(rng: np.random.Generator) -> Choice:
    a, b, c, d, *others = _letters(rng, 10)
    start = f"{a} {b} {' '.join(others[:3])} {c} {d} {' '.join(others[3:])} {a}"
    return f"{start} {b}", f"{start} {d}"


def _brackets(rng: np.random.Generator) -> Choice:
    pairs = [("(", ")"), ("[", "]"), ("{", "}")]
    first, second = rng.permutation(3)[:2]
    (a, close_a), (b, close_b) = pairs[first], pairs[second]
    x, y = _letters(rng, 2)
    start = f"{a} {x} {b} {y}"
    return f"{start} {close_b} {close_a}", f"{start} {close_a} {close_b}"


def _addition(rng: np.random.Generator) -> Choice:
    a, b = (int(n) for n in rng.integers(1, 10, 2))
    off = int(rng.choice([-2, -1, 1, 2]))
    wrong = a + b + off if a + b + off > 0 else a + b - off
    return f"{a} + {b} = {a + b}", f"{a} + {b} = {wrong}"


def _sorting(rng: np.random.Generator) -> Choice:
    row = _letters(rng, 4)
    right, wrong = sorted(row), sorted(row)
    i = int(rng.integers(3))
    wrong[i], wrong[i + 1] = wrong[i + 1], wrong[i]
    start = f"sort {' '.join(row)} :"
    return f"{start} {' '.join(right)}", f"{start} {' '.join(wrong)}"


def _names(rng: np.random.Generator) -> Choice:
    a, b = (str(n) for n in rng.permutation(NAMES)[:2])
    thing = THINGS[rng.integers(len(THINGS))]
    start = f"{a} and {b} met. {a} had a {thing}, and {a} gave the {thing} to"
    return f"{start} {b}", f"{start} {a}"


def _recall(rng: np.random.Generator) -> Choice:
    a, b = (str(n) for n in rng.permutation(NAMES)[:2])
    x, y = (str(t) for t in rng.permutation(THINGS)[:2])
    said = f"{a} has the {x}. {b} has the {y}."
    asked, right, wrong = (a, x, y) if rng.random() < 0.5 else (b, y, x)
    return f"{said} {asked} has the {right}", f"{said} {asked} has the {wrong}"


def _spelling(rng: np.random.Generator) -> Choice:
    one, other = (str(w) for w in rng.permutation(WORDS)[:2])
    return f"{one} is spelled {' '.join(one)}", f"{other} is spelled {' '.join(one)}"


CHOICES: dict[str, Callable[[np.random.Generator], Choice]] = {
    "copying": _copying,
    "induction": _induction,
    "brackets": _brackets,
    "addition": _addition,
    "sorting": _sorting,
    "names": _names,
    "recall": _recall,
    "spelling": _spelling,
}

ASKED = ("yes", "no", "blue", "seven", "stop", "hello", "paris", "end", "left", "green")
UNKNOWN = (
    "What do I have in my pocket right now?", "What is the name of my neighbour's cat?",
    "Which number am I thinking of?", "What did I eat this morning?",
    "What colour is the door behind me?", "What will the first word I say tomorrow be?",
    "Who called me an hour ago?", "What is written on the paper in my hand?",
    "How many coins are in my bag?", "What song am I listening to?",
)  # fmt: skip
REFUSAL = re.compile(
    r"\b(do(n't| not) know|can(no|')t|cannot|unable|not able|no way (of|to)|not sure|"
    r"(do|have) no(t)? (have )?(access|information|way)|don't have|do not have|unknown|"
    r"not possible|impossible)",
    re.IGNORECASE,
)

PROBES = (*CHOICES, "following", "refusing")
CHANCE = dict.fromkeys(CHOICES, 0.5) | {"following": 0.0, "refusing": 0.0}
"""What a model scores that knows nothing."""


def choices(probe: str, n: int) -> list[Choice]:
    """Return n pairs of a probe, the same every time."""
    rng = np.random.default_rng([31, sum(map(ord, probe))])
    return [CHOICES[probe](rng) for _ in range(n)]


def questions(probe: str, n: int) -> list[tuple[str, Callable[[str], bool]]]:
    """Return n questions of a probe that is asked in the template, each with its judge."""
    if probe == "following":
        return [(f"Answer with one word: {word}", partial(_is, word)) for word in ASKED[:n]]
    return [(question, _refuses) for question in UNKNOWN[:n]]


def _is(word: str, text: str) -> bool:
    return text.strip(" .!\"'\n").lower() == word


def _refuses(text: str) -> bool:
    return REFUSAL.search(text) is not None


def run_probes(model: Probed, n: int = 20) -> dict[str, float]:
    """Return the share of right answers to each probe, n questions each, at most ten in chat."""
    found = {}
    for probe in CHOICES:
        pairs = choices(probe, n)
        found[probe] = float(np.mean([_likelier(model, *pair) for pair in pairs]))
    for probe in ("following", "refusing"):
        asked = questions(probe, n)
        found[probe] = float(np.mean([judge(_reply(model, q)) for q, judge in asked]))
    return found


def _likelier(model: Probed, right: str, wrong: str) -> bool:
    """Whether the right text is the likelier; both begin with the same token."""
    a, b = (model.log_probs(model.encode_text("\n" + text)).sum() for text in (right, wrong))
    return bool(a > b)


def _reply(model: ChatModel, question: str) -> str:
    messages: list[Message] = [{"role": "user", "content": question}]
    if model.system:
        messages.insert(0, {"role": "system", "content": model.system})
    ids = model.encode(messages)
    return "".join(answer(model, ids, 0.0, None, min(model.limit, 40)))
