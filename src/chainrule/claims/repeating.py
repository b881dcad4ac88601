"""What ``chainrule claim`` says: the list of claims, and a repeat beside what is stored."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from chainrule.claims import measuring
from chainrule.claims.ledger import Claim
from chainrule.claims.page import digits, shown, span
from chainrule.program import UsageError, typed


def known(claims: Mapping[str, Claim], name: str) -> str:
    """The name, if there is such a claim.

    Raises:
        UsageError: there is none.
    """
    if name in claims:
        return name
    near = get_close_matches(name, claims, 1, 0.4)
    hint = f"did you mean {near[0]}?" if near else f"see: {typed('claim')}"
    raise UsageError(f"no claim {name!r} in the ledger; {hint}")


def list_claims(claims: Mapping[str, Claim]) -> None:
    """Each claim with its effects and how long a repeat takes."""
    for name, claim in claims.items():
        took = f", {claim.measured.seconds:.0f} s" if claim.measured else ", not measured yet"
        print(f"{name}: {claim.says} ({claim.seeds} seeds{took})")
        for effect in claim.effect if claim.measured else ():
            mean, ends = span(claim, effect)
            print(f"  {effect.name}: {mean} {claim.unit}, {ends}: {claim.verdict(effect)}")
    print(f"\nTo repeat one: {typed('claim NAME')}")


def repeat(name: str, claim: Claim, first: int = 0) -> bool:
    """Train again, say what came out, and return whether all effects hold."""
    stored = claim.stored()
    count, last = len(stored.variant) * claim.seeds, first + claim.seeds - 1
    print(f"{claim.title}. {claim.says}")
    print(
        f"Trains {count} small models with the seeds {first} to {last}: about "
        f"{max(1, round(stored.seconds))} s of one core.",
        flush=True,
    )
    again = measuring.repeat(name, claim, lambda line: print(line, flush=True), first)
    found = measuring.judge(claim, again)
    for each in found:
        mean, ends = span(claim, each.effect)
        places = digits(each.high - each.stored)
        room = f"{shown(each.low, places)} to {shown(each.high, places)}"
        print(f"{each.effect.name}, {claim.unit}")
        print(f"  stored   {mean}, 95 % interval {ends}: {claim.verdict(each.effect)}")
        print(f"  repeated {shown(each.again, places)}")
        print(f"  a repeat should fall into {room}: {'holds' if each.holds else 'DOES NOT HOLD'}")
    return all(each.holds for each in found)
