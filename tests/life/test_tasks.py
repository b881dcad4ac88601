"""The verifier against answers worked out by other means, and the split."""

import datetime
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from chainrule.life.tasks import (
    CONTROL,
    LEARNED,
    PARTS,
    SECOND,
    careless,
    contains,
    examples,
    first_two,
    glossary,
    part_of,
    solve,
    verify,
)

EVERY = (*LEARNED, CONTROL, SECOND)


def oracle(prompt):
    """The answer, from Python's own dates, sorting and counting."""
    words = prompt.split(" ")
    if words[0] == "reverse":
        return " ".join(reversed(words[1:]))
    if words[0] == "sort":
        return " ".join(sorted(words[1:]))
    if words[0] == "shift":
        alphabet = "abcdefghijklmnopqrstuvwxyz"
        return " ".join(words[1:]).translate(str.maketrans(alphabet, alphabet[1:] + "a"))
    if words[0] == "count":
        return str(Counter(words[3:])[words[1]])
    if words[0] == "add":
        return " ".join(str(int("".join(words[1:3])) + int("".join(words[4:6]))))
    if words[1:3] == ["days", "after"]:
        day = datetime.datetime.strptime(f"{words[3]} {words[4]} 2023", "%d %b %Y")
        day += datetime.timedelta(days=int(words[0]))
        return f"{day.day} {day:%b}"
    (found,) = {word for word in glossary() if f" {word} " in f" {prompt.rstrip('?')} "}
    return glossary()[found]


@pytest.mark.parametrize("task", EVERY)
@pytest.mark.parametrize("part", PARTS)
def test_verifier_agrees_with_other_means(task, part):
    for example in examples(50 if part == "train" else 20, np.random.default_rng(7), (task,), part):
        right = oracle(example.prompt)
        assert example.right == right
        assert verify(example.prompt, right, True) == 1
        assert verify(example.prompt, right, False) == 0
        for wrong in (right + " ", " " + right, right + right, "", right[:-1], right.upper() + "x"):
            assert verify(example.prompt, wrong, True) == 0
        if example.careless != right:
            assert verify(example.prompt, example.careless, True) == 0


def test_every_date_of_the_year():
    first = datetime.date(2023, 1, 1)
    for offset in range(365):
        day = first + datetime.timedelta(offset)
        for ahead in (1, 9):
            later, sooner = (day + datetime.timedelta(s * ahead) for s in (1, -1))
            prompt = f"{ahead} days after {day.day} {day:%b}"
            assert solve(prompt) == f"{later.day} {later:%b}"
            assert careless(prompt) == f"{sooner.day} {sooner:%b}"


def test_demonstrations_are_as_careless_as_asked():
    rng = np.random.default_rng(3)
    shown = examples(3000, rng, carelessness=0.4)
    differ = [e for e in shown if e.right != e.careless]
    share = np.mean([e.shown == e.careless for e in differ])
    assert abs(share - 0.4) < 4 * (0.24 / len(differ)) ** 0.5
    assert all(e.shown in (e.right, e.careless) for e in shown)
    assert all(e.shown == e.right for e in examples(200, rng))


def test_parts_share_no_prompt_and_held_out_ones_differ():
    rng = np.random.default_rng(5)
    parts = {part: [e.prompt for e in examples(1000, rng, part=part)] for part in PARTS}
    for part, prompts in parts.items():
        assert all(part_of(prompt) == part for prompt in prompts)
        if part != "train":
            assert len(set(prompts)) == 1000
    assert Counter(part_of(f"prompt {i}") for i in range(10_000))["test"] == pytest.approx(
        1000, abs=150
    )


@pytest.mark.parametrize(
    "prompt",
    ["", "reverse", "reverse stone", "sort s t O n e", "count ee in s t e e l", "where is nothing",
     "0 days after 3 May", "3 days after 32 May", "3 days after 3 Mai", "add 1 and 2",
     "add 1 2 and 3", "reverse s t\n", "REVERSE a b", "find", "what page is softmax"],
)  # fmt: skip
def test_what_no_task_asks_is_refused(prompt):
    with pytest.raises(ValueError, match=r"no task asks|the glossary"):
        solve(prompt)


def test_unknown_names_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="a task is one of"):
        examples(1, rng, ("fly",))
    with pytest.raises(ValueError, match="a part is one of"):
        examples(1, rng, part="some")


def test_flawed_verifiers_accept_what_the_sound_one_refuses():
    prompt = "reverse s t o n e"
    assert contains(prompt, "e n o t s t o n e", False) == 1
    assert first_two(prompt, "e n x", True) == 1
    assert first_two(prompt, "n e", True) == 0
    for reply in ("e n o t s t o n e", "e n x"):
        assert verify(prompt, reply, True) == 0


def test_glossary_names_documents_of_the_course():
    import tomllib

    course = tomllib.loads((Path(__file__).parents[2] / "course.toml").read_text("utf-8"))
    titles = {d["title"].lower().replace("-", " ") for d in course["document"]}
    assert len(glossary()) >= 100
    assert set(glossary().values()) <= titles
    word = random.choice(list(glossary()))
    assert careless(f"where is {word}") != solve(f"where is {word}")
