"""Storing what a sweep of a claim found, drawing it, and checking what is stored.

``python -m chainrule.claims.records --write NAME`` tries all rates of a claim, runs its seeds at
the best of each variant, and puts the numbers below the claim's words in ``reference/claims.toml``.
It also draws ``reference/claims/NAME.svg``.

``--check`` exits 1 where the ledger contradicts itself, where drawing would change a picture, and
where the first steps of a run have other losses than stored: then code, data or engine have changed
since. Claims of at most five seconds it repeats as well, ``--repeat`` all of them.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import tomllib
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.claims import measuring
from chainrule.claims.ledger import DATA, Claim, load, parse
from chainrule.course.figures import COLORS, STYLE, shrink
from chainrule.course.manifest import CourseError, find_root
from chainrule.files import write_atomically
from chainrule.program import UsageError

PICTURES = "reference/claims"
QUICK = 5.0
TONES = ("blue", "vermillion", "green", "purple")


# ---- storing -------------------------------------------------------------------------------------


def spliced(text: str, name: str, found: dict[str, Any]) -> str:
    """The ledger with new numbers below the words of one claim, and nothing else changed."""
    lines = text.rstrip("\n").split("\n")
    own = [k for k, line in enumerate(lines) if re.match(rf"\[+{re.escape(name)}[\].]", line)]
    end = next((k for k in range(own[-1] + 1, len(lines)) if re.match(r"\[", lines[k])), len(lines))
    measured = (k for k in own if lines[k] == f"[{name}.measured]")
    start = next(measured, None)
    if start is None:
        start = end
        while lines[start - 1] == "" or lines[start - 1].startswith("#"):
            start -= 1
        new = ["", *_as_toml(name, found)]
        rest = lines[start:]
    else:
        while end > 0 and (lines[end - 1] == "" or lines[end - 1].startswith("#")):
            end -= 1
        new, rest = list(_as_toml(name, found)), lines[end:]
    return "\n".join([*lines[:start], *new, *rest]) + "\n"


def _as_toml(name: str, found: dict[str, Any]) -> list[str]:
    lines = [f"[{name}.measured]", f"seconds = {found['seconds']!r}"]
    lines += [f"[{name}.measured.effect] # mean, then the ends of the 95 % interval"]
    lines += [f'"{effect}" = {_row(ends)}' for effect, ends in found["effect"].items()]
    for variant, numbers in found["variant"].items():
        lines.append(f'[{name}.measured.variant."{variant}"]')
        for key, value in numbers.items():
            if isinstance(value, dict):
                inner = ", ".join(f'"{k}" = {_row(v)}' for k, v in value.items())
                lines.append(f"{key} = {{ {inner} }}")
            else:
                lines.append(f"{key} = {_row(value)}")
    return lines


def _row(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_row, value))}]"
    return f"{float(value)!r}"


# ---- drawing -----------------------------------------------------------------------------------


def pictures(claims: dict[str, Claim]) -> dict[str, bytes]:
    """The picture of each claim that is measured, by path."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = {}
    for name, claim in claims.items():
        if claim.measured is None:
            continue
        with plt.style.context(["default", STYLE]), warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            drawing = _draw(plt, claim)
            buffer = io.BytesIO()
            drawing.savefig(buffer, format="svg", metadata={"Date": None})
            plt.close("all")
        text = shrink(buffer.getvalue().decode("utf-8"), claim.title)
        found[f"{PICTURES}/{name}.svg"] = text.encode("utf-8")
    return found


def _draw(plt: Any, claim: Claim) -> Any:
    height = 1.9 + 0.5 * len(claim.effect)
    drawing, (left, right) = plt.subplots(1, 2, figsize=(7, height))
    for tone, (name, variant) in zip(TONES, claim.stored().variant.items(), strict=False):
        means = np.array([np.mean(row) for row in variant.tried])
        shown = np.where(np.isfinite(means), means, np.nan)
        left.plot(variant.rates, shown, "o-", color=COLORS[tone], markersize=3, label=name)
        best = variant.rates.index(variant.best)
        left.plot(variant.best, means[best], "o", color=COLORS[tone], markersize=7)
    every = claim.stored().variant.values()
    ends = [f(each.rates) for each in every for f in (min, max)]
    left.set_xscale("log")
    marks = sorted({min(ends), max(ends), *(each.best for each in every)})
    left.set_xticks(marks, [f"{rate:g}" for rate in marks])
    left.minorticks_off()
    means = np.array([np.mean(row) for each in every for row in each.tried])
    if means.min() > 0 and means[np.isfinite(means)].max() > 20 * means.min():
        left.set_yscale("log")
    left.set(xlabel="learning rate", ylabel="validation loss")
    left.legend(frameon=False, fontsize=7)
    for k, effect in enumerate(claim.effect):
        found, each = claim.estimate(effect), claim.differences(effect)
        right.plot(each, np.full(len(each), -k - 0.14), ".", color=COLORS["grey"], markersize=4)
        right.plot([found.low, found.high], [-k, -k], "-", color=COLORS["black"], linewidth=2)
        right.plot(found.mean, -k, "o", color=COLORS["black"], markersize=5)
        white = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        right.text(0.5, -k + 0.16, effect.name, ha="center", fontsize=7.5, bbox=white,
                   transform=right.get_yaxis_transform())  # fmt: skip
    right.axvline(0, color=COLORS["grey"], linestyle="--", linewidth=1)
    right.set(ylim=(0.55 - len(claim.effect), 0.55), yticks=[], xlabel=f"difference ({claim.unit})")
    return drawing


# ---- the command line ----------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Write, draw or check; 0 agrees, 1 differs, 2 bad input."""
    parser = argparse.ArgumentParser(prog="records", description="The records of the ledger.")
    parser.add_argument("--write", metavar="NAME", nargs="+", help="sweep these claims and store")
    parser.add_argument("--draw", action="store_true", help="draw what is stored")
    parser.add_argument("--check", action="store_true", help="check what is stored")
    parser.add_argument("--repeat", action="store_true", help="with --check: repeat every claim")
    options = parser.parse_args(arguments)
    try:
        return _do(find_root(), options)
    except (CourseError, UsageError) as error:
        print(f"records: {error}")
        return 2


def _do(root: Path, options: argparse.Namespace) -> int:
    path, faults = root / DATA, []
    for name in options.write or ():
        _write(path, name)
    claims = load()
    for place, drawn in pictures(claims).items():
        file = root / place
        if options.write or options.draw:
            if not file.is_file() or file.read_bytes() != drawn:
                write_atomically(file, drawn)
        elif not file.is_file() or file.read_bytes() != drawn:
            faults.append(f"{place}: drawing changes it; type: python -m {__spec__.name} --draw")
    for name, claim in claims.items() if options.check else ():
        if claim.measured is None:
            faults.append(f"{name} is not measured")
            continue
        faults += measuring.probe(name, claim.measured)
        if options.repeat or claim.measured.seconds <= QUICK:
            faults += departures(name, claim)
    print("\n".join(faults), end="\n" * bool(faults))
    return 1 if faults else 0


def departures(name: str, claim: Claim) -> list[str]:
    """The effects that do not come out again, a line each."""
    again = measuring.repeat(name, claim, lambda _: None)
    return [
        f"{name}, {each.effect.name}: {each.again:.4g} is outside of {each.low:.4g} to "
        f"{each.high:.4g}"
        for each in measuring.judge(claim, again)
        if not each.holds
    ]


def _write(path: Path, name: str) -> None:
    """Sweep a claim whose words stand in the ledger; what is refused is not stored."""
    entry = tomllib.loads(path.read_text(encoding="utf-8")).get(name)
    if entry is None:
        raise UsageError(f"{DATA} has no claim {name!r}: write its words first")
    entry.pop("measured", None)
    claim = parse({name: entry})[name]
    print(name, file=sys.stderr, flush=True)
    found = measuring.sweep(name, claim, lambda line: print(line, file=sys.stderr, flush=True))
    parse({name: entry | {"measured": found}})
    now = path.read_text(encoding="utf-8")  # other words may have been written meanwhile
    write_atomically(path, spliced(now, name, found).encode("utf-8"))


if __name__ == "__main__":
    sys.exit(main())
