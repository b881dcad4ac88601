"""The page of one stage in the report of a life: what it is, what it did, and its picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.life import pictures
from chainrule.life.run import Life
from chainrule.life.summary import (
    IMITATED,
    IMPROVED,
    POLICIES,
    TITLES,
    drawing_seconds,
    results_of,
)

__all__ = ["page", "table"]

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


def page(life: Life, name: str) -> Iterator[str]:
    """The page of one stage."""
    results = results_of(life, name)
    first = results[0]
    yield from (f"## {TITLES[name]}", "", SAYS[name], "")
    if name == "tokenizer":
        measures = first["measures"]
        shares = ", ".join(f"{v:.2f} in {k}" for k, v in measures["bytes a token"].items())
        yield from (f"{measures['vocabulary']} tokens; bytes a token: {shares}.", "")
        return
    if name == "quantize":
        yield from _widths(first)
    _draw(life.folder / "pictures" / f"{name}.svg", name, results)
    said = [_time(first)]
    if name in IMITATED:
        said.append(f"Drawing the answers took {drawing_seconds(life):.0f} s before.")
    if name in _SAID:
        said.append(_SAID[name](results))
    if name in POLICIES:
        said.append(_moved(life, name, first["measures"]))
    yield from (" ".join(said), "", f"![{TITLES[name]}](pictures/{name}.svg)", "")


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table, its first row the head."""
    for number, row in enumerate(rows):
        yield f"| {' | '.join(row)} |"
        if number == 0:
            yield f"|{' --- |' * len(row)}"
    yield ""


def _draw(path: Path, name: str, results: list[dict[str, Any]]) -> None:
    """The picture of a stage: a curve, unless another one says more."""
    first = results[0]
    if name in ("sft", "control"):
        pictures.draw(path, pictures.curve_and_looks(first, 0, 1))
    elif name == "reward":
        pictures.draw(path, pictures.best_of_n(results))
    elif name == "quantize":
        pictures.draw(path, pictures.bits(first))
    elif name == "serve":
        pictures.draw(path, pictures.bars(_speeds(first)[0], "tokens a second"), (7, 2.2))
    else:
        pictures.draw(path, pictures.curve(results, 0))


def _widths(first: dict[str, Any]) -> Iterator[str]:
    """What each number of bits costs and saves."""
    yield from table(
        [
            ("Bits", "megabytes", "bits a byte", "right, %"),
            *(
                (f"{b:.0f}", f"{m:.2f}", f"{t:.3f}", f"{100 * a:.1f}")
                for b, m, t, a in first["curve"]
            ),
        ]
    )


def _speeds(first: dict[str, Any]) -> tuple[dict[str, float], float]:
    """Tokens a second of each way to serve, and the seconds of counting for the draft."""
    speeds = dict(first["timing"]["tokens a second"])
    counted = speeds.pop("counting the draft, seconds")
    return speeds, counted


# ---- sentences ---------------------------------------------------------------------------------


def _time(first: dict[str, Any]) -> str:
    seconds = first["timing"]
    steps = f"{first['steps']} step{'s' * (first['steps'] > 1)}"
    return (
        f"{steps}, {seconds['steps']['cpu']:.0f} seconds of one core, "
        f"{seconds['all']['cpu']:.0f} with measuring."
    )


def _kept(results: list[dict[str, Any]]) -> str:
    return f"Kept is the model of step {results[0]['measures']['kept from step']}."


def _preferred(results: list[dict[str, Any]]) -> str:
    """How well the reward model tells answers apart, and what it chooses among n."""
    measures = results[0]["measures"]
    measured = "held-out pairs preferred"
    held = [r["measures"][measured] for r in results if measured in r["measures"]]
    beyond = f" and in {np.mean(held):.2f} of held-out pairs" if held else ""
    fitted = np.mean([r["measures"]["pairs of training preferred"] for r in results])
    rows = np.array([r["measures"]["best of n"] for r in results]).mean(axis=0)
    top = rows[rows[:, 2].argmax()]
    return (
        f"Fitted to {measures['pairs used']} of {measures['pairs']} pairs; it prefers the "
        f"right answer in {fitted:.2f} of these{beyond}. "
        f"The chosen answer is right in {rows[0, 2]:.2f} for n = 1, at best {top[2]:.2f} for "
        f"n = {top[0]:.0f}, and {rows[-1, 2]:.2f} for n = {rows[-1, 0]:.0f}."
    )


def _served(results: list[dict[str, Any]]) -> str:
    """What the draft and the cache give."""
    measures = results[0]["measures"]
    speeds, counted = _speeds(results[0])
    same = min(v for k, v in measures.items() if k.startswith("same tokens"))
    return (
        f"With the draft, {measures['tokens a call with a draft']:.2f} tokens a call; counting "
        f"it took {counted:.0f} s. {_draft(speeds)} Texts that are the same in all four ways: "
        f"{100 * same:.0f} %. The cache of one text has "
        f"{measures['bytes of the cache'] / 1000:.0f} kB."
    )


def _adapted(results: list[dict[str, Any]]) -> str:
    """What the updates beside the frozen model learned, and that they leave it alone."""
    measures = results[0]["measures"]
    return (
        f"{measures['trained numbers']:,} numbers are trained "
        f"({100 * measures['share trained']:.0f} %). The second task: "
        f"{100 * measures['second task before']:.0f} % right before, "
        f"{100 * measures['second task after']:.0f} % after. Merging moves the scores by at "
        f"most {measures['merged, largest difference']:.0e}; with the updates off they are "
        f"those of before, largest difference {measures['off, largest difference']:.0e}."
    )


_SAID = {
    "sft": _kept, "control": _kept, "reward": _preferred, "serve": _served, "lora": _adapted,
}  # fmt: skip


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
