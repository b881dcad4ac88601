"""The records: every disease measured, stored in ``reference/clinic.json``, drawn, measured again.

``python -m chainrule.clinic.records --write`` gives the patient each disease in turn, three times,
with first weights that differ in the sixth digit. The first run is stored; how far the three are
apart says how far another processor may be. It also draws ``reference/clinic/*.svg``.

``--check`` measures each disease once more and exits 1 where a number has left its band, or where
drawing would change a picture.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.clinic import labs, patient
from chainrule.clinic.diseases import DISEASES, ill, swapped
from chainrule.course.figures import COLORS, STYLE, shrink
from chainrule.course.manifest import find_root
from chainrule.files import write_atomically

DATA = "reference/clinic.json"
PICTURES = "reference/clinic"
HEALTHY = "healthy"
RUNS = 3
BASE, SHARE, SPREAD = 0.02, 0.05, 4.0
"""A number may move by so much, plus this share of itself, plus so many times its spread."""

EXACT = 0.1
"""What needs no trained model may move by so much of base and share."""

STEP = 0.3
"""At least so far may a share of seven answers move: by two answers."""


# ---- measuring -------------------------------------------------------------------------------


def measure(name: str | None, nudge: int = 0) -> dict[str, Any]:
    """The chart and all tests of a patient with a disease, or of a healthy one."""

    def nudged(package: Any, *args: Any, **kwargs: Any) -> Any:
        model, rng = package(*args, **kwargs), np.random.default_rng(nudge)
        for p in model.parameters():
            p.data *= 1 + 1e-6 * rng.standard_normal(p.shape)
        return model

    with ill(name), contextlib.ExitStack() as stack:
        if nudge:
            stack.enter_context(swapped("chainrule.clinic.patient:build", nudged))
        ward = labs.Ward()
        tests = {each.name: labs.run(each, ward) for each in labs.TESTS.values()}
        return {"chart": chart(ward), "tests": tests}


def chart(ward: labs.Ward) -> dict[str, list[float]]:
    """What hangs at the patient's bed."""
    pre, taught, rewarded = ward.pretrained, ward.taught, ward.rewarded
    return {
        "loss": pre.loss,
        "held out": pre.held_out,
        "gradient norm": pre.norm,
        "answers: loss": taught.loss,
        "answers: right": taught.held_out,
        "rewards: reward": rewarded.reward,
        "rewards: distance": rewarded.distance,
    }


def bands(runs: list[dict[str, Any]], trained: set[str]) -> dict[str, Any]:
    """How far each number may move: a row of a test by itself, a curve as a whole."""
    first = runs[0]
    found: dict[str, Any] = {"chart": {}, "tests": {}}
    for curve in first["chart"]:
        values = np.array([run["chart"][curve] for run in runs])
        least = STEP if curve == "answers: right" else 0.0
        found["chart"][curve] = _band(values, float(np.ptp(values, axis=0).max()), 1.0, least)
    answers = min(1.0, found["chart"]["answers: right"])  # the last answers move as all of them do
    for test, rows in first["tests"].items():
        found["tests"][test] = {
            row: _band(values, float(np.ptp(values)), 1.0 if test in trained else EXACT,
                       answers if row == "right" else 0.0)
            for row in rows
            for values in [np.array([run["tests"][test][row] for run in runs])]
        }  # fmt: skip
    return found


def _band(values: np.ndarray, spread: float, room: float, least: float) -> float:
    band = room * (BASE + SHARE * float(np.abs(values).max())) + SPREAD * spread
    return round(max(band, least), 4)


def trained_tests() -> set[str]:
    """The tests that ask a trained model: those after which the patient is one."""
    found = set()
    for each in labs.TESTS.values():
        ward = labs.Ward()
        labs.run(each, ward)
        if "pretrained" in vars(ward):
            found.add(each.name)
    return found | {"overfit-one-batch"}


def plain(found: Any) -> Any:
    """Numbers to five digits, as JSON holds them; what is not finite is null."""
    if isinstance(found, dict):
        return {key: plain(value) for key, value in found.items()}
    if isinstance(found, list):
        return [plain(value) for value in found]
    return float(f"{found:.5g}") if np.isfinite(found) else None


def record() -> dict[str, Any]:
    """Everything that is stored: what is told of each disease, and what was measured."""
    patients: dict[str, Any] = {}
    trained = trained_tests()
    for name in (None, *DISEASES):
        runs = [measure(name, nudge) for nudge in range(RUNS)]
        patients[name or HEALTHY] = plain(runs[0] | {"bands": bands(runs, trained)})
        print(f"{name or HEALTHY}: measured {RUNS} times", file=sys.stderr, flush=True)
    return {
        "every": patient.EVERY,
        "tests": {t.name: {"question": t.question, "tell": t.tell, "share": t.share}
                  for t in labs.TESTS.values()},
        "diseases": {d.name: told(d) for d in DISEASES.values()},
        "patients": patients,
    }  # fmt: skip


def told(disease: Any) -> dict[str, Any]:
    """The words of a disease, without its functions."""
    words = ("title", "ward", "section", "looks", "cause", "caught")
    return {word: getattr(disease, word) for word in words} | {"breaks": list(disease.breaks)}


def departures(stored: dict[str, Any], name: str) -> Iterator[str]:
    """Where a patient, measured now, has left the band around what is stored."""
    old = stored["patients"][name]
    new = plain(measure(None if name == HEALTHY else name))
    for curve, values in old["chart"].items():
        pairs = zip(values, new["chart"][curve], strict=True)
        apart = max(_apart(a, b) for a, b in pairs)
        if not apart <= old["bands"]["chart"][curve]:
            allowed = old["bands"]["chart"][curve]
            yield f"{name}: the curve {curve!r} is off by {apart:.3g}, allowed {allowed:g}"
    for test, rows in old["tests"].items():
        for row, value in rows.items():
            allowed, found = old["bands"]["tests"][test][row], new["tests"][test][row]
            if not _apart(value, found) <= allowed:
                yield f"{name}: {test}, {row}: stored {value}, measured {found}, allowed ±{allowed}"


def _apart(a: float | None, b: float | None) -> float:
    if a is None or b is None:
        return 0.0 if a is b else float("inf")
    return abs(a - b)


# ---- drawing ---------------------------------------------------------------------------------


def pictures(stored: dict[str, Any]) -> dict[str, bytes]:
    """The picture of each disease beside the healthy patient, by path."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = {}
    for name, disease in stored["diseases"].items():
        with plt.style.context(["default", STYLE]), warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            drawing = _draw(plt, stored, name, disease["ward"])
            buffer = io.BytesIO()
            drawing.savefig(buffer, format="svg", metadata={"Date": None})
            plt.close("all")
        text = shrink(buffer.getvalue().decode("utf-8"), disease["title"])
        found[f"{PICTURES}/{name}.svg"] = text.encode("utf-8")
    return found


PANELS = {
    "pretraining": (
        ("loss (nats a token)", "step", ("loss", "held out")),
        ("norm of the gradient", "step", ("gradient norm",)),
    ),
    "answers": (
        ("loss (nats a token)", "step", ("answers: loss",)),
        ("right answers", "step", ("answers: right",)),
    ),
    "rewards": (
        ("mean reward", "round", ("rewards: reward",)),
        ("distance (nats)", "round", ("rewards: distance",)),
    ),
}


def _draw(plt: Any, stored: dict[str, Any], name: str, ward: str) -> Any:
    ill_one, healthy = stored["patients"][name], stored["patients"][HEALTHY]
    if ward == "serving":
        return _draw_written(plt, ill_one, healthy)
    drawing, axes = plt.subplots(1, 2, figsize=(7, 2.6))
    for ax, (label, unit, curves) in zip(axes, PANELS[ward], strict=True):
        for curve in curves:
            values, normal = ill_one["chart"][curve], healthy["chart"][curve]
            factor = 1 if unit == "round" else stored["every"]
            steps = factor * np.arange(1, len(normal) + 1)
            held = curve == "held out"
            style = "--" if held else "-"
            ax.plot(steps, normal, style, color=COLORS["grey"], linewidth=1,
                    label=f"healthy{', fresh texts' * held}")  # fmt: skip
            ax.plot(steps, values, style, color=COLORS["vermillion"],
                    label=f"patient{', fresh texts' * held}")  # fmt: skip
            if max(values) > 20 * max(normal):
                ax.set_yscale("log")
        ax.set(xlabel=unit, ylabel=label)
    axes[0].legend(frameon=False, fontsize=7)
    return drawing


def _draw_written(plt: Any, ill_one: dict[str, Any], healthy: dict[str, Any]) -> Any:
    drawing, ax = plt.subplots(figsize=(7, 2.6))
    rows = list(healthy["tests"]["let-it-write"])
    places = np.arange(len(rows))
    for shift, who, color, label in (
        (-0.2, healthy, COLORS["grey"], "healthy"),
        (0.2, ill_one, COLORS["vermillion"], "patient"),
    ):
        shares = [who["tests"]["let-it-write"][row] for row in rows]
        ax.bar(places + shift, shares, 0.38, color=color, label=label)
    ax.set_xticks(places, rows)
    ax.set(ylabel="digits that obey their rule", ylim=(0, 1.25))
    ax.legend(frameon=False, fontsize=7, ncols=2)
    return drawing


# ---- the command line ------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Write, or check; 0 agrees, 1 differs."""
    parser = argparse.ArgumentParser(prog="records", description="The records of the clinic.")
    parser.add_argument("--write", action="store_true", help="measure all, store and draw")
    parser.add_argument("--draw", action="store_true", help="draw what is stored, and its words")
    parser.add_argument("--check", action="store_true", help="measure again and compare")
    options = parser.parse_args(arguments)
    root = find_root()
    path = root / DATA
    if options.write:
        path.parent.mkdir(exist_ok=True)
        _store(path, record())
    stored = json.loads(path.read_text(encoding="utf-8"))
    if options.draw:
        stored["diseases"] = {d.name: told(d) for d in DISEASES.values()}
        stored["tests"] = {t.name: {"question": t.question, "tell": t.tell, "share": t.share}
                           for t in labs.TESTS.values()}  # fmt: skip
        _store(path, stored)
    faults = [] if options.write else list(stale(stored))
    for place, drawn in pictures(stored).items():
        file = root / place
        if options.write or options.draw:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, drawn)
        elif not file.is_file() or file.read_bytes() != drawn:
            faults.append(f"{place}: drawing changes it; type: python -m {__spec__.name} --draw")
    if options.check:
        for name in stored["patients"]:
            faults += departures(stored, name)
    print("\n".join(faults), end="\n" * bool(faults))
    return 1 if faults else 0


def stale(stored: dict[str, Any]) -> Iterator[str]:
    """What is stored of words and tests and has changed since."""
    words = {d.name: told(d) for d in DISEASES.values()}
    if stored["diseases"] != words:
        names = [n for n in {**words, **stored["diseases"]}
                 if words.get(n) != stored["diseases"].get(n)]  # fmt: skip
        yield f"{DATA}: {', '.join(names)} has other words in the code"
    if list(stored["patients"]) != [HEALTHY, *words]:
        yield f"{DATA}: other patients than diseases: measure them again"


def _store(path: Path, found: dict[str, Any]) -> None:
    """A line a patient, so that a change shows where it is."""
    parts = []
    for key, value in found.items():
        if isinstance(value, dict):
            rows = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}"
                              for k, v in value.items())  # fmt: skip
            parts.append(f" {json.dumps(key)}: {{\n{rows}\n }}")
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(value)}")
    write_atomically(path, ("{\n" + ",\n".join(parts) + "\n}\n").encode())


if __name__ == "__main__":
    sys.exit(main())
