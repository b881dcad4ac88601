"""Figures of training/distributed-training.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.figures import COLORS, figure, interactive
from chainrule.training.distributed_training import (
    bubble,
    peak_in_flight,
    schedule,
    timeline,
    zero_bytes,
)

KIND_COLORS = {"F": "blue", "B": "orange", "W": "green"}


@figure("schedules")
def schedules(plt):
    """Who does what when, in three schedules of four workers and eight micro-batches."""
    fig, axes = plt.subplots(3, 1, figsize=(7, 4.6), sharex=True)
    titles = {"gpipe": "GPipe", "1f1b": "1F1B", "zb-h1": "ZB-H1: backward pass in two parts"}
    for ax, (kind, title) in zip(axes, titles.items(), strict=True):
        seconds = {"F": 1.0, "B": 1.0 if kind == "zb-h1" else 2.0, "W": 1.0}
        events = timeline(schedule(kind, 4, 8), seconds)
        for event in events:
            letter, number = event.label[0], event.label[1:]
            ax.barh(
                event.worker, event.end - event.start, left=event.start, height=0.86,
                color=COLORS[KIND_COLORS[letter]], alpha=0.55, edgecolor="white", linewidth=0.8,
            )  # fmt: skip
            middle = (event.start + event.end) / 2
            ax.text(middle, event.worker, number, ha="center", va="center", fontsize=7)
        end = max(event.end for event in events)
        ax.set(ylim=(3.6, -0.6), yticks=range(4), xlim=(0, 33.2))
        ax.set_title(f"{title}: done at {end:.0f}, idle {100 * bubble(events):.0f} %", loc="left")
        ax.grid(False)
    axes[1].set_ylabel("worker")
    axes[2].set_xlabel("time, in forward passes of one micro-batch on one worker")
    handles = [
        plt.Rectangle((0, 0), 1, 1, color=COLORS[color], alpha=0.55)
        for color in KIND_COLORS.values()
    ]
    names = ["F forward", "B backward", "W weights"]
    axes[2].legend(handles, names, loc="lower right", fontsize=8, handlelength=1)
    return fig


@interactive(
    "schedules",
    states=[{"kind": "GPipe"}, {"kind": "ZB-H1"}, {"kind": "ZB-H1", "workers": 8, "batches": 3}],
)
def schedules_model(state):
    """The same chart, for any number of workers and micro-batches."""
    kind = {"GPipe": "gpipe", "1F1B": "1f1b", "ZB-H1": "zb-h1"}[state["kind"]]
    order = schedule(kind, int(state["workers"]), int(state["batches"]))
    events = timeline(order, {"F": 1.0, "B": 1.0 if kind == "zb-h1" else 2.0, "W": 1.0})
    return {
        "events": [event._asdict() for event in events],
        "end": max(event.end for event in events),
        "idle": bubble(events),
        "held": [peak_in_flight(actions) for actions in order],
    }


@figure("ring")
def ring(plt):
    """Three workers and their pieces, after each step of an all-reduce."""
    values = np.array([[1, 2, 3], [10, 20, 30], [100, 200, 300]])
    states = [values.copy()]
    for step in range(2):  # reduce-scatter
        now = states[-1].copy()
        for r in range(3):
            piece = (r - step - 2) % 3
            now[r, piece] += states[-1][(r - 1) % 3, piece]
        states.append(now)
    for step in range(2):  # all-gather
        now = states[-1].copy()
        for r in range(3):
            piece = (r - step - 1) % 3
            now[r, piece] = states[-1][(r - 1) % 3, piece]
        states.append(now)
    titles = ["start", "sum 1", "sum 2", "pass on 1", "pass on 2"]
    fig, axes = plt.subplots(1, 5, figsize=(7, 2.1))
    for ax, state, title in zip(axes, states, titles, strict=True):
        done = state == values.sum(axis=0)
        partly = ~done & (state != values)
        for r in range(3):
            for piece in range(3):
                color = "green" if done[r, piece] else "orange" if partly[r, piece] else "light"
                ax.add_patch(
                    plt.Rectangle((piece, 2 - r), 0.94, 0.9, color=COLORS[color], alpha=0.4)
                )
                text = str(state[r, piece])
                ax.text(piece + 0.47, 2.45 - r, text, ha="center", va="center", fontsize=8)
        ax.set(xlim=(0, 3), ylim=(0, 3), xticks=[], yticks=[])
        ax.set_title(title, fontsize=9)
        ax.set_frame_on(False)
    axes[0].set(yticks=[2.45, 1.45, 0.45], yticklabels=["worker 0", "worker 1", "worker 2"])
    axes[0].tick_params(length=0)
    return fig


@figure("zero-memory")
def zero_memory(plt):
    """Bytes a worker by stage, 7.5 billion parameters on 64 workers."""
    fig, ax = plt.subplots(figsize=(7, 2.6))
    names = ["each keeps all", "stage 1", "stage 2", "stage 3"]
    parts = {"weights": ("blue", (2, 0, 0)), "gradients": ("orange", (0, 2, 0)),
             "Adam": ("green", (0, 0, 12))}  # fmt: skip
    left = np.zeros(4)
    for name, (color, (weight, gradient, state)) in parts.items():
        size = [zero_bytes(7.5e9, 64, stage, weight, gradient, state) / 1e9 for stage in range(4)]
        ax.barh(names, size, left=left, color=COLORS[color], alpha=0.6, label=name)
        left += size
    for i, total in enumerate(left):
        ax.text(total + 1.5, i, f"{total:.1f}", va="center")
    ax.set(xlabel="GB on each of 64 workers", xlim=(0, 132))
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    ax.legend(loc="lower right")
    return fig


@figure("causal-load")
def causal_load_figure(plt):
    """Which scores each of four workers computes: one stretch each, and two from both ends."""
    n, p = 32, 4
    query, key = np.mgrid[:n, :n]
    owners = {"one stretch each": query // (n // p)}
    piece = query // (n // (2 * p))
    owners["one from each end"] = np.minimum(piece, 2 * p - 1 - piece)
    fig, axes = plt.subplots(1, 2, figsize=(7, 3.4), sharey=True)
    colors = [COLORS[name] for name in ("blue", "orange", "green", "vermillion")]
    for ax, (title, owner) in zip(axes, owners.items(), strict=True):
        seen = key <= query
        image = np.ones((n, n, 3))
        for r, color in enumerate(colors):
            rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
            image[seen & (owner == r)] = 0.35 + 0.65 * rgb
        ax.imshow(image, interpolation="nearest")
        shares = [float((seen & (owner == r)).sum() / seen.sum()) for r in range(p)]
        shown = ", ".join(f"{100 * share:.0f} %" for share in shares)
        ax.set_title(f"{title}\n{shown} of the work", fontsize=9)
        ax.set(xlabel="key")
        ax.grid(False)
    axes[0].set_ylabel("query")
    return fig
