"""The curves of a report, as SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["draw"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#767676"
SETTINGS: Any = {
    "svg.hashsalt": "life",
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def draw(path: Path, make: Callable[..., None], size: tuple[float, float] = (7, 3.6)) -> None:
    """Draw on fresh axes with ``make(axes)`` and store the picture; it appears whole."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        make(figure.add_subplot())
        part = path.with_suffix(".part.svg")
        figure.savefig(part, metadata={"Date": None, "Creator": None})
    part.replace(path)


def smooth(row: Sequence[float], most: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Steps and running means of a curve."""
    values = np.asarray(row, float)
    window = min(most, max(1, len(values) // 5))
    means = np.convolve(values, np.ones(window) / window, mode="valid")
    return np.arange(window, len(values) + 1), means


def looks(row: Sequence[float | None]) -> tuple[list[int], list[float]]:
    """The steps of a curve that have a number, and the numbers."""
    found = [(i + 1, v) for i, v in enumerate(row) if v is not None and v == v]
    return [i for i, _ in found], [v for _, v in found]


def curve(results: Sequence[dict[str, Any]], column: int) -> Callable[..., None]:
    """One column of a stage's curve, a line for each seed."""

    def make(axes: Any) -> None:
        for number, result in enumerate(results):
            steps, means = smooth([row[column] for row in result["curve"]])
            axes.plot(steps, means, color=COLOURS[number % 6], linewidth=1.3,
                      label=f"seed {result['seed']}")  # fmt: skip
        axes.set(xlabel="step", ylabel=results[0]["columns"][column])
        if len(results) > 1:
            axes.legend()

    return make


def curve_and_looks(result: dict[str, Any], column: int, looked: int) -> Callable[..., None]:
    """A smoothed column, and on a second axis the numbers of another that has few."""

    def make(axes: Any) -> None:
        steps, means = smooth([row[column] for row in result["curve"]])
        axes.plot(steps, means, color=COLOURS[0])
        axes.set(xlabel="step")
        axes.set_ylabel(result["columns"][column], color=COLOURS[0])
        other = axes.twinx()
        other.spines["right"].set_visible(True)
        other.plot(*looks([row[looked] for row in result["curve"]]), "o-", color=COLOURS[1])
        other.set_ylabel(result["columns"][looked], color=COLOURS[1])
        other.set_ylim(bottom=0)

    return make


def best_of_n(results: Sequence[dict[str, Any]]) -> Callable[..., None]:
    """What the reward model thinks of its choice among n, and what the verifier says."""

    def make(axes: Any) -> None:
        rows = np.array([r["measures"]["best of n"] for r in results])
        n, opinion, true, possible = rows.mean(axis=0).T
        axes.plot(n, true, "o-", color=COLOURS[0], label="verifier, of the chosen answer")
        axes.plot(n, possible, "--", color=GREY, label="verifier, if it chose itself")
        axes.set(xlabel="answers to choose from", ylabel="share right", xscale="log",
                 xticks=n, ylim=(0, 1))  # fmt: skip
        axes.set_xticks(n, [f"{int(k)}" for k in n])
        axes.minorticks_off()
        other = axes.twinx()
        other.spines["right"].set_visible(True)
        other.plot(n, opinion, "s-", color=COLOURS[1], label="reward model's opinion")
        other.set_ylabel("reward of the chosen answer", color=COLOURS[1])
        lines = [*axes.get_lines(), *other.get_lines()]
        labels = [line.get_label() for line in lines]
        axes.figure.legend(lines, labels, loc="outside upper center", ncols=3, fontsize=8)

    return make


def stages(rows: Sequence[tuple[str, float, float, float]], start: float) -> Callable[..., None]:
    """Accuracy after each stage: mean, half-width of the interval, and sampled accuracy."""

    def make(axes: Any) -> None:
        at = np.arange(len(rows))
        means, widths, sampled = (np.array([row[i] for row in rows]) for i in (1, 2, 3))
        axes.errorbar(means, at, xerr=widths, fmt="o", color=COLOURS[0], capsize=3,
                      label="likeliest answer, 95 % interval over seeds")  # fmt: skip
        axes.plot(sampled, at, "x", color=COLOURS[1], label="drawn at temperature 1")
        axes.axvline(start, color=GREY, linewidth=1, linestyle="dashed")
        axes.set_yticks(at, [row[0] for row in rows])
        axes.invert_yaxis()
        axes.set(xlabel="share of new prompts right", xlim=(0, 1))
        axes.figure.legend(loc="outside lower center", ncols=2, fontsize=9)

    return make


def bits(result: dict[str, Any]) -> Callable[..., None]:
    """Bits a byte and accuracy against bits a weight."""

    def make(axes: Any) -> None:
        rows = np.array(result["curve"])
        at = np.arange(len(rows))
        axes.plot(at, rows[:, 2], "o-", color=COLOURS[0])
        axes.set_xticks(at, [f"{int(b)}" for b in rows[:, 0]])
        axes.set(xlabel="bits a weight")
        axes.set_ylabel("bits a byte of held-out text", color=COLOURS[0])
        other = axes.twinx()
        other.spines["right"].set_visible(True)
        other.plot(at, rows[:, 3], "s-", color=COLOURS[1])
        other.set_ylabel("share of new prompts right", color=COLOURS[1])
        other.set_ylim(0, 1)

    return make


def bars(values: dict[str, float], label: str) -> Callable[..., None]:
    """One bar a name."""

    def make(axes: Any) -> None:
        names = list(values)
        drawn = axes.barh(names, list(values.values()), color=COLOURS[0])
        axes.bar_label(drawn, fmt="%.0f", padding=3)
        axes.invert_yaxis()
        axes.set(xlabel=label)
        axes.margins(x=0.12)

    return make


def probes(columns: dict[str, dict[str, float]], chance: dict[str, float]) -> Callable[..., None]:
    """Every probe of every model as a cell; darker is more often right."""

    def make(axes: Any) -> None:
        names = list(chance)
        table = np.array([[scores[name] for name in names] for scores in columns.values()])
        axes.imshow(table.T, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for i, row in enumerate(table):
            for j, value in enumerate(row):
                colour = "white" if value > 0.6 else "black"
                axes.text(i, j, f"{100 * value:.0f}", ha="center", va="center", color=colour)
        labels = [f"{n} (chance {100 * c:.0f})" if c else n for n, c in chance.items()]
        axes.set_yticks(range(len(names)), labels)
        axes.set_xticks(range(len(columns)), list(columns), rotation=30, ha="right")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    return make


def trap(results: Sequence[dict[str, Any]], titles: Sequence[str], column: int) -> Callable:
    """One column of a trap and of its twin, side by side."""

    def make(axes: Any) -> None:
        for number, (result, title) in enumerate(zip(results, titles, strict=True)):
            row = [r[column] for r in result["curve"]]
            steps, values = looks(row)
            if len(steps) == len(row) and len(row) > 20:
                steps, values = smooth(row, 8)  # type: ignore[assignment]
            axes.plot(steps, values, "o-" if len(steps) < 20 else "-", markersize=4,
                      color=COLOURS[number], label=title)  # fmt: skip
        axes.set(xlabel="step", ylabel=results[0]["columns"][column])
        axes.legend()

    return make
