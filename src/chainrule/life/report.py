"""One report of a life: a page a stage, curves as pictures, what helped and what did not."""

from __future__ import annotations

import json
import math
import platform
import re
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.life import pictures
from chainrule.life.plan import STAGES
from chainrule.life.probes import CHANCE
from chainrule.life.run import Life
from chainrule.life.traps import TRAPS, WHY

__all__ = ["interval", "summary", "write_report"]

# Student's t at 97.5 %, for 1, 2, … degrees of freedom.
T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
     2.145, 2.131, 2.120, 2.110, 2.101, 2.093)  # fmt: skip

POLICIES = ("pretrain", "sft", "control", "rejection", "dpo", "ppo", "grpo", "lora")
IMITATED = ("rejection", "dpo")
"""Stages that learn from answers which the stage of the reward model drew."""

IMPROVED = ("control", "rejection", "dpo", "ppo", "grpo")
TITLES = {kind.name: kind.title for kind in STAGES}

SAYS = {
    "tokenizer": "Byte-pair merges learned from the training text and from instructions as the "
    "template writes them.",
    "pretrain": "The next token of every text, windows of each in equal numbers.",
    "sft": "Demonstrations of generated tasks with exact answers. They are careless: a part of "
    "them follows a second, wrong rule. Only answers are trained, and text is replayed "
    "beside them. Of the models looked at on the way, the one with the best validation accuracy "
    "is kept.",
    "reward": "The tuned model answers prompts several times, the verifier sorts the answers, and "
    "a reward model is fitted to a few pairs. Then it chooses the best of n answers: its own "
    "opinion of them rises with n, the truth need not.",
    "control": "The comparison for what follows: about the seconds of the longest of them, spent "
    "on more imitation of the same demonstrations, the best validation accuracy kept again. Its "
    "rate was chosen among three on validation prompts.",
    "rejection": "Imitates its own answers that the verifier accepted.",
    "dpo": "Pairs of a right and a wrong answer of its own, with the likelihood of the right ones "
    "added: the stage before is the same without the contrast.",
    "ppo": "Writes, is judged by the verifier, and moves with a value head beside it.",
    "grpo": "Writes groups of answers to each prompt, and reinforces those above the mean.",
    "lora": "Learns a second task (`shift`: every letter one further) with low-rank updates beside "
    "the frozen model of `grpo`. The row shows it with the updates merged.",
    "quantize": "Weights rounded to fewer bits, groups of 32 with a scale each.",
    "serve": "The model of 8 bits writes the same text in four ways.",
}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half the width of its 95 % interval; 0 for a single value."""
    mean = float(np.mean(values))
    n = len(values)
    if n < 2:
        return mean, 0.0
    return mean, T[n - 2] * float(np.std(values, ddof=1)) / math.sqrt(n)


def results_of(life: Life, stage: str) -> list[dict[str, Any]]:
    """What a stage left, seed by seed."""
    found = []
    seed = 0
    while life.has(f"{stage}-{seed}" if seed else stage):
        found.append(life.result(f"{stage}-{seed}" if seed else stage))
        seed += 1
    return found


def drawing_seconds(life: Life) -> float:
    """Seconds of drawing the answers that two of the stages imitate or compare."""
    drawn = [r["timing"]["drawing"] for r in results_of(life, "reward")]
    return float(np.mean(drawn)) if drawn else 0.0


def summary(life: Life) -> dict[str, Any]:
    """The figures of a run, as a table that other programs read."""
    rows: dict[str, Any] = {}
    start = life.result("pretrain")["measures"]["bits a byte"] if life.has("pretrain") else {}
    drawing = drawing_seconds(life)
    for name in POLICIES:
        results = results_of(life, name)
        if not results:
            continue
        measures = [r["measures"] for r in results]
        before = drawing if name in IMITATED else 0.0

        def over(key: str, measures: list = measures) -> list[float]:
            values = [m[key] for m in measures if key in m]
            return [round(v, 5) for v in interval(values)] if values else []

        rows[name] = {
            "title": TITLES[name],
            "seeds": len(results),
            "accuracy": over("accuracy"),
            "accuracy each": [round(m["accuracy"], 4) for m in measures],
            "accuracy sampled": over("accuracy sampled"),
            "control task": over("control task"),
            "validation": over("validation"),
            "KL an answer": over("KL an answer"),
            "by task": {t: round(float(np.mean([m["by task"][t] for m in measures])), 4)
                        for t in measures[0]["by task"]},
            "rules": {t: round(float(np.mean([m["rules"][t] for m in measures])), 4)
                      for t in measures[0]["rules"]},
            "bits a byte": {t: round(float(np.mean([m["bits a byte"][t] for m in measures])), 4)
                            for t in start},
            "forgotten": {t: round(float(np.mean([m["bits a byte"][t] for m in measures]))
                                   - start[t], 4) for t in start},
            "cpu seconds": round(before + float(
                np.mean([r["timing"]["steps"]["cpu"] for r in results])), 2),
            "cpu seconds with measuring": round(before + float(
                np.mean([r["timing"]["all"]["cpu"] for r in results])), 1),
            "tokens a second": round(float(np.mean(
                [r["timing"]["tokens a second, answers"] for r in results]))),
            "megabytes": round(measures[0]["megabytes"], 2),
            "probes": measures[0]["probes"],
        }  # fmt: skip
    compared = {}
    control = [r["measures"]["accuracy"] for r in results_of(life, "control")]
    for name in IMPROVED[1:]:
        own = [r["measures"]["accuracy"] for r in results_of(life, name)]
        n = min(len(own), len(control))
        if n:
            difference = [a - b for a, b in zip(own[:n], control[:n], strict=True)]
            compared[name] = [*(round(v, 5) for v in interval(difference)), n]
    return {
        "date": date.today().isoformat(),
        "machine": machine(),
        "settings": life.settings.as_dict(),
        "texts": list(life.texts.train),
        "stages": rows,
        "beyond the control": compared,
        "cpu seconds of drawing": round(drawing, 1),
    }


def machine() -> dict[str, str]:
    """What it was measured on."""
    processor = platform.processor() or platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        processor = re.findall(r"model name\s*:\s*(.+)", text)[0].strip()
    except (OSError, IndexError):
        pass
    return {"processor": processor, "Python": platform.python_version(), "NumPy": np.__version__}


def write_report(life: Life) -> Path:
    """Write ``report.md``, ``report.html``, ``report.json`` and the pictures; return the page."""
    found = summary(life)
    lines = list(_lines(life, found))
    text = "\n".join(lines) + "\n"
    folder = life.folder
    _store(folder / "report.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    _store(folder / "report.md", text)
    page = folder / "report.html"
    _store(page, _html(text, folder))
    return page


def _store(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for number, row in enumerate(rows):
        yield f"| {' | '.join(row)} |"
        if number == 0:
            yield f"|{' --- |' * len(row)}"
    yield ""


def _share(pair: Sequence[float], n: int) -> str:
    """A share in percent, with its interval if there are several seeds."""
    if not pair:
        return "–"
    return f"{100 * pair[0]:.1f} ± {100 * pair[1]:.1f}" if n > 1 else f"{100 * pair[0]:.1f}"


def _lines(life: Life, found: dict[str, Any]) -> Iterator[str]:
    s, rows = life.settings, found["stages"]
    machine = found["machine"]
    yield from ("# One small GPT through its whole life", "")
    texts = " and ".join(found["texts"])
    size = (
        f"{rows['pretrain']['megabytes'] / 4:.2f} million numbers, " if "pretrain" in rows else ""
    )
    yield (
        f"A GPT of {s.layers} layers of width {s.width} ({size}{s.vocabulary} tokens, a context of "
        f"{s.context}), trained on {texts} and on generated tasks. {machine['processor']}, Python "
        f"{machine['Python']}, NumPy {machine['NumPy']}, {found['date']}."
    )
    yield ""
    if rows:
        yield from _overview(life, found)
    for kind in STAGES:
        if life.has(kind.name):
            yield from _page(life, kind.name)
    yield from _traps(life)
    if rows:
        yield from _probes(life, found)


def _overview(life: Life, found: dict[str, Any]) -> Iterator[str]:
    s, rows = life.settings, found["stages"]
    yield from ("## What each stage changed", "")
    texts = found["texts"]
    yield from _table(
        [
            ("After", "seeds", "right, %", "drawn at T = 1, %", "addition, %",
             *(f"bits a byte, {t}" for t in texts), "forgotten, bits a byte",
             "KL, nats an answer", "seconds", "with measuring", "tokens a second", "MB"),
            *(
                (row["title"], str(row["seeds"]), _share(row["accuracy"], row["seeds"]),
                 _share(row["accuracy sampled"], row["seeds"]),
                 _share(row["control task"], row["seeds"]),
                 *(f"{row['bits a byte'][t]:.2f}" for t in texts),
                 f"{np.mean(list(row['forgotten'].values())):+.2f}",
                 f"{row['KL an answer'][0]:.2f}" if row["KL an answer"] else "–",
                 f"{row['cpu seconds']:.0f}", f"{row['cpu seconds with measuring']:.0f}",
                 f"{row['tokens a second']:,}", f"{row['megabytes']:.1f}")
                for row in rows.values()
            ),
        ]
    )  # fmt: skip
    yield (
        f"“Right” is the verifier's verdict on the likeliest answers to {s.tested} prompts of a "
        f"part of the split that chose nothing; ± is half of a 95 % interval over seeds (Student's "
        f"t). Seeds redraw everything after instruction tuning; they share one tuned model and one "
        f"set of prompts, so the interval is about the method on this model. Two-digit addition "
        f"was demonstrated too, and is left out of what is improved. Seconds are those of one "
        f"core; those of the two stages that learn from drawn answers include the drawing. KL is "
        f"to the tuned model, estimated from answers at temperature 1."
    )
    yield ""
    if "sft" in rows:
        drawn = [
            (row["title"], *row["accuracy"], row["accuracy sampled"][0])
            for name, row in rows.items()
            if name not in ("pretrain", "lora")
        ]
        start = rows["sft"]["accuracy"][0]
        picture = life.folder / "pictures" / "stages.svg"
        pictures.draw(picture, pictures.stages(drawn, start))
        yield from ("![Accuracy after each stage](pictures/stages.svg)", "")
    if "control" in rows:
        yield from _verdicts(found)
    if "sft" in rows:
        yield from ("Where the two rules of the demonstrations differ, the answers follow:", "")
        yield from _table(
            [
                ("After", "the right rule, %", "the careless rule, %", "neither, %"),
                *(
                    (row["title"], *(f"{100 * row['rules'][r]:.0f}" for r in row["rules"]))
                    for name, row in rows.items()
                    if name not in ("pretrain", "lora")
                ),
            ]
        )
        tasks = list(rows["sft"]["by task"])
        yield from ("By task, percent right:", "")
        yield from _table(
            [
                ("After", *tasks),
                *(
                    (row["title"], *(f"{100 * row['by task'][t]:.0f}" for t in tasks))
                    for name, row in rows.items()
                    if name != "pretrain"
                ),
            ]
        )


def _verdicts(found: dict[str, Any]) -> Iterator[str]:
    """One sentence a method: what it did beyond more imitation."""
    rows = found["stages"]
    control = rows["control"]
    for name, (mean, width, seeds) in found["beyond the control"].items():
        row = rows[name]
        seconds = f"{row['cpu seconds']:.0f} s against {control['cpu seconds']:.0f} s"
        if seeds < 2:
            yield (
                f"- **{row['title']}**: {100 * mean:+.1f} points beyond the control ({seconds}), "
                f"one seed."
            )
            continue
        if abs(mean) <= width:
            verdict = "no difference that this shows"
        else:
            verdict = "it helped" if mean > 0 else "it did harm"
        yield (
            f"- **{row['title']}**: {100 * mean:+.1f} ± {100 * width:.1f} points beyond the "
            f"control ({seconds}): {verdict}."
        )
    yield ""


def _page(life: Life, name: str) -> Iterator[str]:
    """The page of one stage."""
    results = results_of(life, name)
    first = results[0]
    yield from (f"## {TITLES[name]}", "", SAYS[name], "")
    folder = life.folder / "pictures"
    picture, measures = f"{name}.svg", first["measures"]
    seconds = first["timing"]
    steps = f"{first['steps']} step{'s' * (first['steps'] > 1)}"
    said = [
        f"{steps}, {seconds['steps']['cpu']:.0f} seconds of one core, "
        f"{seconds['all']['cpu']:.0f} with measuring."
    ]
    if name in IMITATED:
        said.append(f"Drawing the answers took {drawing_seconds(life):.0f} s before.")
    if name == "tokenizer":
        shares = ", ".join(f"{v:.2f} in {k}" for k, v in measures["bytes a token"].items())
        yield from (f"{measures['vocabulary']} tokens; bytes a token: {shares}.", "")
        return
    if name in ("sft", "control"):
        pictures.draw(folder / picture, pictures.curve_and_looks(first, 0, 1))
        said.append(f"Kept is the model of step {measures['kept from step']}.")
    elif name == "reward":
        pictures.draw(folder / picture, pictures.best_of_n(results))
        measured = "held-out pairs preferred"
        held = [r["measures"][measured] for r in results if measured in r["measures"]]
        beyond = f" and in {np.mean(held):.2f} of held-out pairs" if held else ""
        fitted = np.mean([r["measures"]["pairs of training preferred"] for r in results])
        rows = np.array([r["measures"]["best of n"] for r in results]).mean(axis=0)
        top = rows[rows[:, 2].argmax()]
        said.append(
            f"Fitted to {measures['pairs used']} of {measures['pairs']} pairs; it prefers the "
            f"right answer in {fitted:.2f} of these{beyond}. "
            f"The chosen answer is right in {rows[0, 2]:.2f} for n = 1, at best {top[2]:.2f} for "
            f"n = {top[0]:.0f}, and {rows[-1, 2]:.2f} for n = {rows[-1, 0]:.0f}."
        )
    elif name == "quantize":
        pictures.draw(folder / picture, pictures.bits(first))
        yield from _table(
            [
                ("Bits", "megabytes", "bits a byte", "right, %"),
                *(
                    (f"{b:.0f}", f"{m:.2f}", f"{t:.3f}", f"{100 * a:.1f}")
                    for b, m, t, a in first["curve"]
                ),
            ]
        )
    elif name == "serve":
        speeds = dict(first["timing"]["tokens a second"])
        counted = speeds.pop("counting the draft, seconds")
        pictures.draw(folder / picture, pictures.bars(speeds, "tokens a second"), (7, 2.2))
        same = min(v for k, v in measures.items() if k.startswith("same tokens"))
        said.append(
            f"With the draft, {measures['tokens a call with a draft']:.2f} tokens a call; counting "
            f"it took {counted:.0f} s. {_draft(speeds)} Texts that are the same in all four ways: "
            f"{100 * same:.0f} %. The cache of one text has "
            f"{measures['bytes of the cache'] / 1000:.0f} kB."
        )
    else:
        pictures.draw(folder / picture, pictures.curve(results, 0))
    if name == "lora":
        said.append(
            f"{measures['trained numbers']:,} numbers are trained "
            f"({100 * measures['share trained']:.0f} %). The second task: "
            f"{100 * measures['second task before']:.0f} % right before, "
            f"{100 * measures['second task after']:.0f} % after. Merging moves the scores by at "
            f"most {measures['merged, largest difference']:.0e}; with the updates off they are "
            f"those of before, largest difference {measures['off, largest difference']:.0e}."
        )
    if name in POLICIES:
        said.append(_moved(life, name, first["measures"]))
    yield from (" ".join(said), "", f"![{TITLES[name]}](pictures/{picture})", "")


def _moved(life: Life, name: str, after: dict[str, Any]) -> str:
    """Accuracy and loss before and after the first seed's run of a stage."""
    text = float(np.mean(list(after["bits a byte"].values())))
    if name == "pretrain":
        return f"It leaves {text:.2f} bits a byte of held-out text."
    start = {"sft": "pretrain", "lora": "grpo"}.get(name, "sft")
    before = life.result(start)["measures"]
    loss = float(np.mean(list(before["bits a byte"].values())))
    moved = (
        f"New prompts right: {100 * before['accuracy']:.1f} % before, "
        f"{100 * after['accuracy']:.1f} % after; bits a byte of held-out text: {loss:.2f} before, "
        f"{text:.2f} after"
    )
    paid = f"; KL paid: {after['KL an answer']:.2f} nats an answer" if name in IMPROVED else ""
    return f"{moved}{paid}."


def _draft(speeds: dict[str, float]) -> str:
    """Whether the draft was worth its time."""
    ratio = speeds["cache and draft"] / speeds["cache"]
    if ratio < 1:
        return f"Proposing costs more than it saves here: {ratio:.1f} times the speed of the cache."
    return f"That is {ratio:.1f} times the speed of the cache alone."


def _traps(life: Life) -> Iterator[str]:
    there = {n: kinds for n, kinds in TRAPS.items() if all(life.has(k.name) for k in kinds)}
    if not there:
        return
    yield from ("## Traps", "", "One thing done badly, beside its sound twin; one seed each.", "")
    column = {"no-replay": 1, "naive-dpo": 4, "lucky-guesses": 3, "k1-loss": 4,
              "flawed-verifiers": 0}  # fmt: skip
    for name, kinds in there.items():
        results = [life.result(kind.name) for kind in kinds]
        titles = [kind.title for kind in kinds]
        picture = f"trap-{name}.svg"
        pictures.draw(life.folder / "pictures" / picture,
                      pictures.trap(results, titles, column[name]))  # fmt: skip
        yield from (f"### {name}", "", WHY[name], "")
        rows = [("", *(t for t in titles))]
        for what, number in _ends(results).items():
            rows.append((what, *number))
        yield from _table(rows)
        for title, result in zip(titles[1:], results[1:], strict=True):
            yield from (f"{_bitten(name, title, results[0], result, life.settings.chosen)}", "")
        yield from (f"![{name}](pictures/{picture})", "")


def _bitten(trap: str, title: str, sound: dict, bad: dict, asked: int) -> str:
    """Whether a trap did harm here, in the measure that it is about."""
    a, b = sound["measures"], bad["measures"]
    if trap == "no-replay":
        forgot = float(
            np.mean([b["bits a byte"][t] - a["bits a byte"][t] for t in a["bits a byte"]])
        )
        harm, more = forgot > 0.1, f"{forgot:+.2f} bits a byte"
    elif trap == "k1-loss":
        paid = b["KL an answer"] - a["KL an answer"]
        harm, more = paid > 0.5 * a["KL an answer"], f"{paid:+.2f} nats an answer"
    else:
        lost = b["validation"] - a["validation"]
        noise = 2 * math.sqrt(2 * a["validation"] * (1 - a["validation"]) / asked)
        harm, more = lost < -noise, f"{100 * lost:+.1f} points right"
    verdict = "it did harm" if harm else "no harm that this shows"
    return f"**{title[0].upper()}{title[1:]}**: {more}, {verdict}."


def _ends(results: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """What each run of a trap ends with."""
    found: dict[str, list[str]] = {}
    for result in results:
        measures, columns = result["measures"], result["columns"]
        found.setdefault("right on validation prompts, %", []).append(
            f"{100 * measures['validation']:.1f}"
        )
        if "bits a byte" in measures:
            for text, value in measures["bits a byte"].items():
                found.setdefault(f"bits a byte, {text}", []).append(f"{value:.2f}")
        if "KL an answer" in measures:
            found.setdefault("KL, nats an answer", []).append(f"{measures['KL an answer']:.2f}")
        for column in ("reward", "pairs in order", "log-ratio of chosen", "log-ratio of rejected"):
            if column in columns:
                last = [row[columns.index(column)] for row in result["curve"][-10:]]
                found.setdefault(f"{column}, last steps", []).append(f"{np.mean(last):.2f}")
    return found


def _probes(life: Life, found: dict[str, Any]) -> Iterator[str]:
    columns = {row["title"]: row["probes"] for row in found["stages"].values()}
    others = life.folder / "probes.json"
    if others.is_file():
        columns |= json.loads(others.read_text(encoding="utf-8"))
    yield from ("## Ten probes", "")
    yield (
        f"Percent right of {life.settings.probes} questions each. The first eight compare the "
        f"likelihood of two texts of which one is right: chance is 50. The last two are asked in "
        f"the chat template, at most ten questions. Guessing alone has a standard error of "
        f"{50 / life.settings.probes**0.5:.0f} points."
    )
    yield ""
    yield from _table(
        [
            ("Probe", "chance", *columns),
            *(
                (p, f"{100 * c:.0f}", *(f"{100 * scores[p]:.0f}" for scores in columns.values()))
                for p, c in CHANCE.items()
            ),
        ]
    )
    pictures.draw(life.folder / "pictures" / "probes.svg", pictures.probes(columns, CHANCE),
                  (2.5 + 0.8 * len(columns), 4.2))  # fmt: skip
    yield from ("![Ten probes of every stage](pictures/probes.svg)", "")


STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;font-size:.8rem;display:block;overflow-x:auto}
td,th{border-bottom:1px solid #ccc;padding:.25rem .5rem;text-align:right}
td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}
@media(prefers-color-scheme:dark){body{background:#fff;color:#222}}"""


def _html(text: str, folder: Path) -> str:
    """The page as HTML that needs no other file: pictures stand inside it."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark").enable("table").render(text)

    def inside(found: re.Match[str]) -> str:
        svg = (folder / found[1]).read_text(encoding="utf-8")
        drawing = svg[svg.index("<svg") :]
        mark = re.sub(r"\W", "-", found[1])
        drawing = re.sub(r'\bid="', f'id="{mark}-', drawing)
        drawing = re.sub(r'(url\(#|href="#)', rf"\g<1>{mark}-", drawing)
        return f'<figure role="img" aria-label="{found[2]}">{drawing}</figure>'

    body = re.sub(r'<img src="([^"]+\.svg)" alt="([^"]*)"\s*/?>', inside, body)
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8">\n'
        "<title>One small GPT through its whole life</title>\n"
        f"<style>{STYLE}</style>\n{body}</html>\n"
    )
