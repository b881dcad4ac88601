"""``reference/clinic.md``, written from what is stored: see `chainrule.clinic.records`."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any

HEALTHY = "healthy"
MOST_TESTS = 4

WARDS = {
    "pretraining": (
        "While it learns to write",
        "The patient reads passages such as `^b0235612…`: a begin token, a rule from a to d, then "
        "digits modulo 7 that grow by 1 and by the rule's number in turn. One digit in twenty is "
        "random, so that no model gets below a loss of about 0.55. Left: the loss in training, and "
        "dashed the loss on fresh passages. Right: the norm of the gradient before clipping.",
    ),
    "answers": (
        "While it learns to answer",
        "The pretrained patient is taught to answer a question, `^b4`, by counting on to 6: "
        "`56.`. Left: the loss. Right: the share of seven questions that it answers right.",
    ),
    "rewards": (
        "While it is rewarded",
        "A judge pays 6 for a reply that is an even digit, and 5 for any other. The loss holds a "
        "price for leaving the model that the rewards started from. Left: the mean reward. Right: "
        "how far the policy has gone, as a divergence in nats.",
    ),
    "serving": (
        "When it is used",
        "Nothing is wrong with the training. The pretrained patient writes passages at "
        "temperature 0.5: with the cache, by whole passes, and with weights of 3 bits. The bars "
        "are the shares of digits that obey the rule of their passage.",
    ),
}


def lines(stored: dict[str, Any], folder: str = "reference") -> Iterator[str]:
    """The page, a line each."""
    count = len(stored["diseases"])
    yield "# What it looks like when"
    yield ""
    yield (
        f"Here are {count} mistakes that people make when they train and serve a language model. "
        "Each was planted into the engine of this course, one at a time, and each picture shows "
        "what became of one small GPT with it, beside the same GPT in health. Under the picture "
        "stand the cause, the test that would have caught it, and the section that explains it."
    )
    yield ""
    yield (
        "Try it the other way round first. `chainrule clinic` shows you a patient without its "
        "diagnosis; you order tests, each costs a point, and then you name the disease."
    )
    yield ""
    yield "> [!NOTE]"
    yield (
        "> Each number comes from one patient of 7,000 parameters, trained for seconds. It shows "
        "what a disease did to this one. How strong the same mistake is in another model is "
        "another question; the tests ask about the cause, and work at any size."
    )
    yield ""
    yield "| what you see | it may be |"
    yield "| --- | --- |"
    for disease in stored["diseases"].values():
        yield f"| {disease['looks']} | [{disease['title']}](#{anchor(disease['title'])}) |"
    for ward, (title, about) in WARDS.items():
        yield from ("", f"## {title}", "", about)
        for name, disease in stored["diseases"].items():
            if disease["ward"] == ward:
                yield from _case(stored, name, disease, folder)


def rows(stored: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Title, anchor and section of each disease, for the documents that explain it."""
    for disease in stored["diseases"].values():
        yield disease["title"], anchor(disease["title"]), disease["section"]


def _case(stored: dict[str, Any], name: str, disease: dict[str, Any], folder: str) -> Iterator[str]:
    title, path = disease["title"], posixpath.relpath(disease["section"], folder)
    alt = f"Two curves of a patient beside those of a healthy one: {title[0].lower()}{title[1:]}"
    if disease["ward"] == "serving":
        alt = alt.replace("Two curves", "Three bars")
    yield from (
        "",
        f"### {title}",
        "",
        f"[![{alt}](clinic/{name}.svg)]({path})",
        "",
        disease["looks"],
        "",
    )
    yield f"**Cause.** {disease['cause']} The section that explains it: [{path}]({path})."
    yield from ("", f"**Caught by.** {disease['caught']}", "")
    rows = list(_telling(stored, name))
    yield "| test | asked for | healthy | this patient |"
    yield "| --- | --- | --- | --- |"
    for test, row, a, b in rows:
        yield f"| {test} | {row} | {_coarse(a)} | {_coarse(b)} |"


def _telling(stored: dict[str, Any], name: str) -> Iterator[tuple[str, str, Any, Any]]:
    """The tests that show a disease most clearly: in each the row that is furthest off."""
    found = []
    mine, healthy = stored["patients"][name], stored["patients"][HEALTHY]
    for test, about in stored["tests"].items():
        rated = []
        for row, a in healthy["tests"][test].items():
            b = mine["tests"][test][row]
            if distance := apart(about, a, b):
                rated.append((distance, test, row, a, b))
        if rated:
            found.append(max(rated, key=lambda each: each[0]))
    best = sorted(found, key=lambda each: -each[0])[:MOST_TESTS]
    yield from (each[1:] for each in best)


def apart(about: dict[str, Any], a: float | None, b: float | None) -> float:
    """How many times two numbers are further apart than a reader would need; 0: not different."""
    if a is None or b is None:
        return 0.0 if a is b else 1e9
    limit = about["tell"] + about["share"] * max(abs(a), abs(b))
    distance = abs(a - b) / limit if limit else 0.0
    return distance if distance > 1 else 0.0


def _coarse(value: float | None) -> str:
    """Two digits: the rest may be different on another processor."""
    if value is None:
        return "not finite"
    if abs(value) < 0.005:
        return "0"
    return f"{value:.2g}" if abs(value) < 100 else f"{float(f'{value:.2g}'):,.0f}"


def anchor(title: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    kept = "".join(c for c in title.lower() if c.isalnum() or c in " -")
    return kept.replace(" ", "-")
