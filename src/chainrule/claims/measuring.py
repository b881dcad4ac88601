"""Sweeping the rates of a claim, and repeating its seeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from chainrule.claims.interval import interval
from chainrule.claims.ledger import Claim, Effect, Measured, differences
from chainrule.program import UsageError

__all__ = ["PROBE", "Repeat", "judge", "probe", "repeat", "sweep"]

TUNING = 100
"""The first of the seeds that choose the rate: no seed that tells is among them."""

MOST_MORE = 3
"""So many rates are added beyond an end where the best one lies there."""

PROBE = 3
"""So many steps are taken to see whether a run is still the one that was stored."""

Run = Callable[..., tuple[float, dict[str, float]]]
Say = Callable[[str], None]


class Seeds(NamedTuple):
    """The held-out numbers of one variant, a row an outcome."""

    validation: tuple[float, ...]
    held_out: dict[str, tuple[float, ...]]


class Repeat(NamedTuple):
    """One effect again: the stored mean, where the new one may fall, the new one."""

    effect: Effect
    stored: float
    low: float
    high: float
    again: float

    @property
    def holds(self) -> bool:
        """Whether the new mean is where a repeat should fall; what is not finite is not."""
        return self.low <= self.again <= self.high


def run_of(name: str) -> Run:
    """The function that trains for a claim.

    Raises:
        UsageError: there is none.
    """
    module = f"chainrule.claims.runs.{name.replace('-', '_')}"
    try:
        return import_module(module).measure
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise UsageError(f"nothing trains for {name!r}: there is no {module}") from None


def take(run: Run, variant: str, rate: float, seeds: range, say: Say) -> Seeds:
    """Train with each of some seeds at one rate."""
    found = [_run(run, variant, rate, seed) for seed in seeds]
    outcomes = {key: tuple(each[1][key] for each in found) for key in found[0][1]}
    for key, values in outcomes.items():
        say(f"  {variant}, rate {rate:g}, {key}: {' '.join(f'{x:.4g}' for x in values)}")
    return Seeds(tuple(each[0] for each in found), outcomes)


def _run(run: Run, variant: str, rate: float, seed: int) -> tuple[float, dict[str, float]]:
    try:
        return run(variant, rate, seed)
    except ModuleNotFoundError as error:
        raise UsageError(f"this claim needs {error.name}, which is missing: make learn") from None


def sweep(name: str, claim: Claim, say: Say) -> dict[str, Any]:
    """Try every rate on seeds of its own, then run the best on those that tell.

    Returns what is stored, as plain numbers.
    """
    run, seconds = run_of(name), 0.0
    variants: dict[str, dict[str, Any]] = {}
    for variant, rates in claim.rates.items():
        tried, best = _tuned(run, variant, rates, claim.tuning, say)
        started = time.process_time()
        found = take(run, variant, best, range(claim.seeds), say)
        seconds += time.process_time() - started
        variants[variant] = {
            "rates": list(tried),
            "tried": list(tried.values()),
            "best": best,
            "first": _rounded(run(variant, best, 0, PROBE)[0]),
            "validation": [_rounded(x) for x in found.validation],
            "held_out": {k: [_rounded(x) for x in row] for k, row in found.held_out.items()},
        }
    told = {name: Seeds((), each["held_out"]) for name, each in variants.items()}
    effects = {
        effect.name: [_rounded(x) for x in interval(differences(told, effect))]
        for effect in claim.effect
    }
    return {
        "seconds": float(f"{max(seconds, 0.1):.2g}"), "effect": effects, "variant": variants
    }  # fmt: skip


def _tuned(
    run: Run, variant: str, rates: tuple[float, ...], seeds: int, say: Say
) -> tuple[dict[float, list[float]], float]:
    """The validation losses of each rate, and the best rate: with further rates at an end."""
    tried: dict[float, list[float]] = {}

    def mean(rate: float) -> float:
        return float(np.mean(tried[rate]))

    wanted = list(rates)
    for _ in range(MOST_MORE + 1):
        for rate in wanted:
            losses = [_run(run, variant, rate, TUNING + k)[0] for k in range(seeds)]
            tried[rate] = [_rounded(loss) for loss in losses]
            say(f"  {variant}, rate {rate:g}: {' '.join(f'{x:.4g}' for x in losses)}")
        tried = dict(sorted(tried.items()))
        best, known = min(tried, key=mean), list(tried)
        if best not in (known[0], known[-1]):
            return tried, best
        end, beside = known[:2] if best == known[0] else known[:-3:-1]
        wanted = [float(f"{end**2 / beside:.3g}")]
    raise UsageError(f"{variant!r}: after {len(tried)} rates the best, {best:g}, is at an end")


def _rounded(x: float) -> float:
    """To six digits; what is no number is as bad as what is endless."""
    return float(f"{x:.6g}") if np.isfinite(x) else float("inf")


def repeat(name: str, claim: Claim, say: Say, first: int = 0) -> dict[str, Seeds]:
    """Train as many seeds as are stored, from ``first`` on, at the stored best rates."""
    run, stored = run_of(name), claim.stored()
    seeds = range(first, first + claim.seeds)
    return {
        variant: take(run, variant, found.best, seeds, say)
        for variant, found in stored.variant.items()
    }


def judge(claim: Claim, again: Mapping[str, Seeds]) -> list[Repeat]:
    """Each effect of a repeat beside what is stored."""
    found = []
    for effect in claim.effect:
        room = claim.room(effect)
        mean = float(np.mean(differences(again, effect)))
        found.append(Repeat(effect, room.mean, room.low, room.high, mean))
    return found


def probe(name: str, stored: Measured, tolerance: float = 1e-3) -> list[str]:
    """What a few steps of the first seed no longer give as they did, one line each."""
    run, said = run_of(name), []
    for variant, found in stored.variant.items():
        now = run(variant, found.best, 0, PROBE)[0]
        if not abs(now - found.first) <= tolerance * abs(found.first):
            said.append(
                f"{name}, {variant}: after {PROBE} steps the loss is {now:.6g}, "
                f"stored is {found.first:.6g}: measure again"
            )
    return said
