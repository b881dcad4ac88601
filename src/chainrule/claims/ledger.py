"""``reference/claims.toml``: read, refused where it contradicts itself, and judged.

A claim has words, which people write, and below them what was measured, which
``python -m chainrule.claims.records --write NAME`` writes. What is refused: a best rate at an end
of those tried, fewer than five seeds, numbers that do not fit each other, more than five minutes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from chainrule.claims.interval import Interval, interval, room_for_repeat
from chainrule.course.manifest import Course, Sentence, find_root, load_course
from chainrule.program import UsageError

__all__ = ["DATA", "Claim", "Effect", "Measured", "Source", "load", "parse"]

DATA = "reference/claims.toml"
MOST_SECONDS = 300
SECTION = r"^[a-z-]+/[a-z-]+\.md#[a-z0-9-]+$"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Entry):
    """What somebody published about a claim."""

    found: Sentence
    source: Sentence


class Effect(_Entry):
    """The difference of two held-out numbers, each a variant and one of its outcomes."""

    name: str
    of: tuple[str, str]
    less: tuple[str, str]
    claimed: Literal["lower", "higher", "equal"]


class Variant(_Entry):
    """One contender: the rates tried with their validation losses, a row each, and five seeds."""

    rates: tuple[float, ...]
    tried: tuple[tuple[float, ...], ...]
    best: float
    first: float
    validation: tuple[float, ...]
    held_out: dict[str, tuple[float, ...]]

    @model_validator(mode="after")
    def _best_rate(self) -> Variant:
        if len(self.tried) != len(self.rates) or len({len(row) for row in self.tried}) != 1:
            raise ValueError("tried needs a row of losses for each of the rates, all equally long")
        means = [float(np.mean(row)) for row in self.tried]
        best = int(np.argmin(means))
        if self.rates[best] != self.best:
            raise ValueError(f"{self.rates[best]:g} has the lowest loss, not {self.best:g}")
        if best in (0, len(means) - 1):
            raise ValueError(f"the best rate, {self.best:g}, lies at an end of those tried")
        return self


class Measured(_Entry):
    """What one sweep stored: effects with their intervals, and what a repeat takes of one core."""

    seconds: float = Field(gt=0, le=MOST_SECONDS)
    effect: dict[str, tuple[float, float, float]]  # mean, low, high
    variant: dict[str, Variant]


class Claim(_Entry):
    """One entry of the ledger."""

    title: str
    says: Sentence
    conditions: Sentence
    reading: Sentence
    sections: tuple[Annotated[str, Field(pattern=SECTION)], ...] = Field(min_length=1)
    unit: str
    seeds: int = Field(default=5, ge=5, le=50)
    tuning: int = Field(default=3, ge=2, le=20)
    rates: dict[str, tuple[float, ...]] = Field(min_length=1)
    effect: tuple[Effect, ...] = Field(min_length=1)
    found_for: tuple[Source, ...] = Field(default=(), alias="for")
    found_against: tuple[Source, ...] = Field(default=(), alias="against")
    measured: Measured | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Claim:
        for name, rates in self.rates.items():
            if len(rates) < 3 or list(rates) != sorted(set(rates)) or rates[0] <= 0:
                raise ValueError(f"rates of {name!r}: three or more, positive and rising")
        for effect in self.effect:
            for name, _ in (effect.of, effect.less):
                if name not in self.rates:
                    raise ValueError(f"effect {effect.name!r}: there are no rates of {name!r}")
        if self.measured:
            self._fits(self.measured)
        return self

    def _fits(self, measured: Measured) -> None:
        if list(measured.variant) != list(self.rates):
            raise ValueError("other variants are measured than have rates: measure again")
        for name, variant in measured.variant.items():
            if not set(self.rates[name]) <= set(variant.rates):
                raise ValueError(f"{name!r} was measured at other rates: measure again")
            if {len(row) for row in variant.tried} != {self.tuning}:
                raise ValueError(f"{name!r}: {self.tuning} losses for each rate are needed")
            numbers = (variant.validation, *variant.held_out.values())
            if any(len(row) != self.seeds for row in numbers):
                raise ValueError(f"{name!r}: {self.seeds} seeds are needed in each row")
            if not np.isfinite([*np.ravel(numbers), variant.first]).all():
                raise ValueError(f"{name!r}: a number of its best rate is not finite")
        for effect in self.effect:
            for name, outcome in (effect.of, effect.less):
                if outcome not in measured.variant[name].held_out:
                    raise ValueError(f"effect {effect.name!r}: {name!r} has no {outcome!r}")
            if np.ptp(differences(measured.variant, effect)) == 0:
                raise ValueError(f"effect {effect.name!r}: all seeds give the same difference")
            found = interval(differences(measured.variant, effect))
            said = measured.effect.get(effect.name, (np.nan, np.nan, np.nan))
            if not np.abs(np.subtract(found, said)).max() <= 1e-3 * (found.high - found.low):
                ends = " ".join(f"{x:.5g}" for x in found)
                raise ValueError(f"effect {effect.name!r}: its held-out numbers give {ends}")
        if set(measured.effect) != {effect.name for effect in self.effect}:
            raise ValueError("other effects are measured than are named: measure again")

    def stored(self) -> Measured:
        """What was measured.

        Raises:
            UsageError: nothing was.
        """
        if self.measured is None:
            fix = "python -m chainrule.claims.records --write NAME"
            raise UsageError(f"{DATA}: {self.title!r} is not measured yet: {fix}")
        return self.measured

    def differences(self, effect: Effect) -> tuple[float, ...]:
        """The stored differences, one a seed."""
        return differences(self.stored().variant, effect)

    def estimate(self, effect: Effect) -> Interval:
        """Mean and 95 % interval of an effect."""
        return interval(self.differences(effect))

    def room(self, effect: Effect) -> Interval:
        """Where the mean of a repeat with as many seeds should fall."""
        return room_for_repeat(self.differences(effect))

    def verdict(self, effect: Effect) -> str:
        """What the interval says about the direction that is claimed."""
        found = self.estimate(effect)
        if found.low <= 0 <= found.high:
            return "not told apart from zero"
        direction = "lower" if found.mean < 0 else "higher"
        agrees = "as claimed" if direction == effect.claimed else "against the claim"
        return f"{direction}, {agrees}"


def differences(variants: Mapping[str, Any], effect: Effect) -> tuple[float, ...]:
    """The differences of an effect, seed by seed."""
    a, b = (variants[name].held_out[outcome] for name, outcome in (effect.of, effect.less))
    return tuple(x - y for x, y in zip(a, b, strict=True))


# ---- reading -----------------------------------------------------------------------------------


def load(course: Course | None = None) -> dict[str, Claim]:
    """The claims of a checkout, by name.

    Raises:
        UsageError: the file is missing or is refused; one line.
    """
    course = course or load_course(find_root())
    path = course.root / DATA
    if not path.is_file():
        raise UsageError(f"{DATA} is missing: the ledger of claims is in it")
    try:
        return parse(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{DATA}: not valid TOML: {error}") from None


def parse(data: Mapping[str, Any]) -> dict[str, Claim]:
    """The claims of a table that was read.

    Raises:
        UsageError: one is refused; one line that names it, the field and the reason.
    """
    found = {}
    for name, entry in data.items():
        try:
            found[name] = Claim.model_validate(entry)
        except ValidationError as error:
            raise UsageError(f"{DATA}: {name}: {_explain(error)}") from None
    return found


def _explain(error: ValidationError) -> str:
    first, *rest = error.errors()
    field = ".".join(str(part) for part in first["loc"])
    said = first["msg"].removeprefix("Value error, ").replace("\n", " ")
    more = f" (and {len(rest)} more)" if rest else ""
    return f"{f'field {field!r}: ' if field else ''}{said}{more}"


def each_effect(claims: Mapping[str, Claim]) -> Iterator[tuple[str, Claim, Effect]]:
    """Every effect of every claim."""
    for name, claim in claims.items():
        for effect in claim.effect:
            yield name, claim, effect
