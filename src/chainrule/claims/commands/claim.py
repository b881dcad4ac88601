"""``chainrule claim``: a claim of the ledger, trained again with its seeds."""

from __future__ import annotations

from typing import Annotated

import typer


def claim(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="A claim; without one all are listed.")
    ] = "",
    first: Annotated[
        int, typer.Option(metavar="SEED", min=0, help="The first seed; others than 0 are new.")
    ] = 0,
    every: Annotated[bool, typer.Option("--all", help="Repeat all claims, one by one.")] = False,
) -> None:
    """Train a disputed claim's small models again, and say whether its interval still holds.

    Exit status 1 if the mean of the seeds is outside of where a repeat should fall.
    """
    from chainrule.claims import repeating
    from chainrule.claims.ledger import load

    claims = load()
    if not (name or every):
        repeating.list_claims(claims)
        return
    chosen = list(claims) if every else [repeating.known(claims, name)]
    held = [repeating.repeat(each, claims[each], first) for each in chosen]
    if not all(held):
        raise typer.Exit(1)
