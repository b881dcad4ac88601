"""``reference/claims.md``, written from ``reference/claims.toml``."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from chainrule.claims.ledger import Claim, Effect, each_effect, parse
from chainrule.clinic.page import anchor

__all__ = ["TITLE", "digits", "lines", "rows", "span"]

TITLE = "Claims, measured"


def digits(*values: float) -> int:
    """Decimals that show two digits of the smallest of some sizes, at most five."""
    least = min(abs(x) for x in values if x)
    return int(np.clip(1 - np.floor(np.log10(least)), 0, 5))


def shown(x: float, places: int) -> str:
    """A number with a real minus sign, and none before zero."""
    text = f"{x:.{places}f}"
    return text.replace("-", "−") if float(text) else text.replace("-", "")


def span(claim: Claim, effect: Effect) -> tuple[str, str]:
    """An effect and its interval, as they are shown."""
    found = claim.estimate(effect)
    places = digits(found.high - found.mean)
    return shown(found.mean, places), f"{shown(found.low, places)} to {shown(found.high, places)}"


def lines(stored: Mapping[str, Any], folder: str = "reference") -> Iterator[str]:
    """The page, a line each."""
    claims = parse(stored)
    yield f"# {TITLE}"
    yield ""
    yield from _method(len(claims))
    yield from _verdicts(claims)
    yield from _repeating(next(iter(claims), "NAME"))
    for name, claim in claims.items():
        yield from _section(name, claim, folder)


def _method(count: int) -> Iterator[str]:
    """How claims are measured, and how the table is read."""
    yield (
        f"Here are {count} claims that people argue about, each small enough to be tested "
        "on one core in minutes. Whether they hold for large models is another question. So each "
        "section names its conditions, and what others found."
    )
    yield ""
    yield (
        "Each claim compares two ways to train, or more; here they are called variants. A "
        "comparison is unfair if all run at the learning rate that suits one of them. So each "
        "variant is first trained at several rates, with a few seeds. The rate with the lowest "
        "mean loss on validation data is taken. It lies inside of the rates tried, never at an end."
    )
    yield ""
    yield (
        "Then each variant runs at its own best rate, with at least five new seeds, and is tested "
        "on other data. Two variants of one seed share their batches. So each seed gives one "
        "difference. In the table, A − B says how much more A has than B: of a loss, less is "
        "better, and of right answers, in percentage points, more."
    )
    yield ""
    yield (
        "The mean of these differences stands beside its 95 % interval, which is the wider, the "
        "more the seeds disagree (Student's t). Where the interval holds 0, the effect is not told "
        "apart from zero. That does not say that it is zero: it says that so few seeds cannot tell."
    )
    yield ""


def _verdicts(claims: Mapping[str, Claim]) -> Iterator[str]:
    """The table: every difference with its interval."""
    yield "| claim | difference | mean | 95 % interval | verdict |"
    yield "| --- | --- | --- | --- | --- |"
    for _, claim, effect in each_effect(claims):
        mean, ends = span(claim, effect)
        link = f"[{claim.title}](#{anchor(claim.title)})"
        cells = (link, effect.name, f"{mean} {claim.unit}", ends, claim.verdict(effect))
        yield f"| {' | '.join(cells)} |"
    yield ""


def _repeating(first: str) -> Iterator[str]:
    """How a claim is measured again, and when that confirms it."""
    yield "Any of them can be repeated:"
    yield ""
    commands = {
        "": "lists them, with their times",
        first: "the same seeds again, at the stored rates",
        f"{first} --first 50": "seeds that nobody has seen",
        "--all": "every claim, one after the other",
    }
    width = max(map(len, commands))
    yield "```bash"
    yield from (f"chainrule claim {what:{width}}   # {why}" for what, why in commands.items())
    yield "```"
    yield ""
    yield (
        "On the same kind of processor the same seeds give the same numbers. On another one the "
        "last bits differ, and training lets such differences grow. So a repeat counts as a new "
        "sample of as many seeds. When does it confirm the stored mean? Both means scatter, so "
        "their difference scatters √2 times as much as one of them. The repeat holds if its mean "
        "falls into an interval √2 times as wide as that of the table. New seeds that nobody has "
        "seen fall outside once in twenty times by chance alone."
    )


def rows(stored: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Title, anchor and section of each claim, for the documents that discuss it."""
    for claim in parse(stored).values():
        for section in claim.sections:
            yield claim.title, anchor(claim.title), section


def _section(name: str, claim: Claim, folder: str) -> Iterator[str]:
    measured = claim.stored()
    effects = "; ".join(effect.name for effect in claim.effect)
    alt = (
        f"Left, the validation loss against the learning rate for {len(claim.rates)} variants, "
        f"each with its lowest point marked. Right, differences with their intervals: {effects}"
    )
    yield from ("", f"## {claim.title}", "", f"**The claim.** {claim.says}", "")
    yield from (f"**Conditions.** {claim.conditions}", "")
    yield from (f"![{alt}](claims/{name}.svg)", "")
    yield (
        "*Left, the mean validation loss at each rate that was tried; the large points are the "
        f"best rates. Right, a small point for each of {claim.seeds} seeds, and the mean with its "
        "95 % interval; the dashed line is zero.*"
    )
    yield from ("", claim.reading, "")
    for word, sources in (("For", claim.found_for), ("Against", claim.found_against)):
        for source in sources:
            yield from (f"**{word}.** {source.found} {source.source}", "")
    links = [_link(section, folder) for section in claim.sections]
    yield f"Discussed in {', '.join(links)}."
    yield ""
    yield "| variant | rates tried | best rate | held out, mean over seeds |"
    yield "| --- | --- | --- | --- |"
    for variant, found in measured.variant.items():
        tried = ", ".join(f"{rate:g}" for rate in found.rates)
        held = "; ".join(_mean(key, row) for key, row in found.held_out.items())
        yield f"| {variant} | {tried} | {found.best:g} | {held} |"
    yield ""
    yield (
        f"The rates were chosen on {claim.tuning} seeds of their own. `chainrule claim {name}` "
        f"repeats the {claim.seeds} others in about {_time(measured.seconds)}."
    )


def _mean(outcome: str, values: tuple[float, ...]) -> str:
    mean = float(np.mean(values))
    places = digits(float(np.std(values)) or abs(mean) or 1)
    return f"{outcome} {shown(mean, places)}"


def _time(seconds: float) -> str:
    return f"{max(1, round(seconds))} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"


def _link(section: str, folder: str) -> str:
    slug, _, place = posixpath.basename(section).partition(".md#")
    return f"[{slug}: {place.replace('-', ' ')}]({posixpath.relpath(section, folder)})"
