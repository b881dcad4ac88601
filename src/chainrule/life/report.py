"""One report of a life: a page a stage, curves as pictures, what helped and what did not."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.life import pictures
from chainrule.life.pages import page, table
from chainrule.life.plan import STAGES
from chainrule.life.probes import CHANCE
from chainrule.life.run import Life
from chainrule.life.summary import interval, summary
from chainrule.life.traps import TRAPS, WHY

__all__ = ["interval", "summary", "write_report"]


def write_report(life: Life) -> Path:
    """Write ``report.md``, ``report.html``, ``report.json`` and the pictures; return the page."""
    found = summary(life)
    lines = list(_lines(life, found))
    text = "\n".join(lines) + "\n"
    folder = life.folder
    _store(folder / "report.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    _store(folder / "report.md", text)
    shown = folder / "report.html"
    _store(shown, _html(text, folder))
    return shown


def _store(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


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
            yield from page(life, kind.name)
    yield from _traps(life)
    if rows:
        yield from _probes(life, found)


def _overview(life: Life, found: dict[str, Any]) -> Iterator[str]:
    rows = found["stages"]
    yield from ("## What each stage changed", "")
    yield from _changes(rows, found["texts"], life.settings.tested)
    if "sft" in rows:
        drawn = [
            (row["title"], *row["accuracy"], row["accuracy sampled"][0])
            for row in _about_the_task(rows)
        ]
        picture = life.folder / "pictures" / "stages.svg"
        pictures.draw(picture, pictures.stages(drawn, rows["sft"]["accuracy"][0]))
        yield from ("![Accuracy after each stage](pictures/stages.svg)", "")
    if "control" in rows:
        yield from _verdicts(found)
    if "sft" in rows:
        yield from _rules(rows)
        yield from _by_task(rows)


def _about_the_task(rows: dict[str, Any]) -> list[dict[str, Any]]:
    """The stages whose models were taught the first task, and no other."""
    return [row for name, row in rows.items() if name not in ("pretrain", "lora")]


def _changes(rows: dict[str, Any], texts: list[str], tested: int) -> Iterator[str]:
    """Every stage in a row of numbers, and what they are numbers of."""
    yield from table(
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
        f"“Right” is the verifier's verdict on the likeliest answers to {tested} prompts of a "
        f"part of the split that chose nothing; ± is half of a 95 % interval over seeds (Student's "
        f"t). Seeds redraw everything after instruction tuning; they share one tuned model and one "
        f"set of prompts, so the interval is about the method on this model. Two-digit addition "
        f"was demonstrated too, and is left out of what is improved. Seconds are those of one "
        f"core; those of the two stages that learn from drawn answers include the drawing. KL is "
        f"to the tuned model, estimated from answers at temperature 1."
    )
    yield ""


def _rules(rows: dict[str, Any]) -> Iterator[str]:
    """Which of two rules the answers follow."""
    yield from ("Where the two rules of the demonstrations differ, the answers follow:", "")
    yield from table(
        [
            ("After", "the right rule, %", "the careless rule, %", "neither, %"),
            *(
                (row["title"], *(f"{100 * row['rules'][r]:.0f}" for r in row["rules"]))
                for row in _about_the_task(rows)
            ),
        ]
    )


def _by_task(rows: dict[str, Any]) -> Iterator[str]:
    tasks = list(rows["sft"]["by task"])
    yield from ("By task, percent right:", "")
    yield from table(
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
        yield from table(rows)
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
    yield from table(
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
