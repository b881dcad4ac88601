"""The page and README's tables of what ``make bench`` measured, from its ``results.json``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chainrule.course.documents.markdown import slug

# What README shows; the page has all.
HEADLINES = ("gpt_step", "smollm2")

ABOUT = (
    "# Speed, measured",
    "",
    "How fast is what is built here, and beside whom? Each table is one benchmark. What is compared"
    " with what, how often and on how many threads stands below it. Times of this kind depend on"
    " the machine, so look at the ratios. They were measured in turns, in one run.",
    "",
    "A column called ratio divides this course's time by the other's: below 1 this course is"
    " faster. Where one way of this course stands beside another of its own, the slower one is"
    " divided by the faster. On your machine, `make bench` measures all of them, and"
    " `.venv/bin/python -m benchmarks gpt_step` one.",
)

# For each benchmark, the document that builds what it measures.
BUILT_IN = {
    "gpt_step": "transformers/gpt.md",
    "twin": "training/distributed-training.md",
    "peers": "neural-networks/backpropagation.md",
    "ladders": "neural-networks/backpropagation.md",
    "convolutions": "architectures/cnns.md",
    "decoding": "modern-llms/inference.md",
    "smollm2": "modern-llms/inference.md",
    "tokenizer": "modern-llms/pretraining.md",
}


def lines(results: dict[str, Any]) -> Iterator[str]:
    """The page, a line each: a section a benchmark."""
    yield from ABOUT
    for result in results.values():
        yield from ("", f"## {result['title']}", "")
        yield from _table(result)
    yield from ("", _machine(results))


def headlines(results: dict[str, Any]) -> Iterator[str]:
    """README's tables: those that say most of the engine."""
    shown = {name: results[name] for name in HEADLINES if name in results}
    for result in shown.values():
        yield from ("", f"**{result['title']}.**", "")
        yield from _table(result)
    yield from ("", _machine(shown))


def rows(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """For each benchmark of something that a document builds: title, anchor and document."""
    return [
        (results[name]["title"], slug(results[name]["title"]), section)
        for name, section in BUILT_IN.items()
        if name in results
    ]


def _table(result: dict[str, Any]) -> Iterator[str]:
    names = [name.replace("_", " ") for name in result["rows"][0]]
    yield f"| {' | '.join(names)} |"
    yield f"|{' --- |' * len(names)}"
    for row in result["rows"]:
        yield f"| {' | '.join(map(_cell, row.values()))} |"
    yield from ("", f"{result['method'][0].upper()}{result['method'][1:]}.")
    for peer, reason in result.get("left_out", {}).items():
        yield from ("", f"{peer} is left out: {reason}")


def _machine(results: dict[str, Any]) -> str:
    """The processor, the versions of all packages that took part, and when it was."""
    machines = [result["machine"] for result in results.values()]
    versions: dict[str, str] = {}
    for machine in machines:
        versions |= {k: v for k, v in machine.items() if k not in ("processor", "threads")}
    processors = sorted({machine["processor"] for machine in machines})
    dates = sorted({result["date"] for result in results.values()})
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{' and '.join(processors)}, one thread; {named}; {' and '.join(dates)}."


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)
