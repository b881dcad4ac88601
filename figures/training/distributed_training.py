"""Figures of training/distributed-training.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.figures import COLORS, figure, interactive, measurement
from chainrule.data.corpus import frozen_corpus
from chainrule.training.distributed_training import (
    H100,
    LLAMA_3_405B,
    DiLoCo,
    Mesh,
    World,
    average_gradients,
    bubble,
    memory_model,
    peak_in_flight,
    schedule,
    step_time_model,
    timeline,
    zero_bytes,
)
from chainrule.training.loss_functions import cross_entropy
from chainrule.training.optimizers import AdamW, ParamGroups
from chainrule.transformers.gpt import GPT, gpt_config
from chainrule.transformers.transformer_architecture import LLAMA_3_8B

KIND_COLORS = {"F": "blue", "B": "orange", "W": "green"}


def gantt(ax, events, workers):
    """Draw what each worker does as boxes with the numbers of their micro-batches."""
    for event in events:
        batch, _, chunk = event.label[1:].partition(".")
        ax.barh(
            event.worker, event.end - event.start, left=event.start, height=0.86,
            color=COLORS[KIND_COLORS[event.label[0]]], alpha=0.3 if chunk else 0.55,
            edgecolor="white", linewidth=0.8,
        )  # fmt: skip
        middle = (event.start + event.end) / 2
        ax.text(middle, event.worker, batch, ha="center", va="center", fontsize=7)
    ax.set(ylim=(workers - 0.4, -0.6), yticks=range(workers))
    ax.grid(False)


@figure("schedules")
def schedules(plt):
    """Who does what when, in three schedules of four workers and eight micro-batches."""
    fig, axes = plt.subplots(3, 1, figsize=(7, 4.6), sharex=True)
    titles = {"gpipe": "GPipe", "1f1b": "1F1B", "zb-h1": "ZB-H1: backward pass in two parts"}
    for ax, (kind, title) in zip(axes, titles.items(), strict=True):
        seconds = {"F": 1.0, "B": 1.0 if kind == "zb-h1" else 2.0, "W": 1.0}
        events = timeline(schedule(kind, 4, 8), seconds)
        gantt(ax, events, 4)
        end = max(event.end for event in events)
        ax.set(xlim=(0, 33.2))
        ax.set_title(f"{title}: done at {end:.0f}, idle {100 * bubble(events):.0f} %", loc="left")
    axes[1].set_ylabel("worker")
    axes[2].set_xlabel("time, in forward passes of one micro-batch on one worker")
    handles = [
        plt.Rectangle((0, 0), 1, 1, color=COLORS[color], alpha=0.55)
        for color in KIND_COLORS.values()
    ]
    names = ["F forward", "B backward", "W weights"]
    axes[2].legend(handles, names, loc="lower right", fontsize=8, handlelength=1)
    return fig


@figure("laps")
def laps(plt):
    """One long piece of the model on each worker, or two short ones."""
    fig, axes = plt.subplots(2, 1, figsize=(7, 3.3), sharex=True)
    for ax, (kind, chunks) in zip(axes, {"1f1b": 1, "interleaved": 2}.items(), strict=True):
        events = timeline(schedule(kind, 4, 8, chunks), {"F": 1 / chunks, "B": 2 / chunks})
        gantt(ax, events, 4)
        end = max(event.end for event in events)
        title = "two short pieces each" if chunks > 1 else "one long piece each"
        ax.set(xlim=(0, 33.2), ylabel="worker")
        ax.set_title(f"{title}: done at {end:g}, idle {100 * bubble(events):.0f} %", loc="left")
    axes[1].set_xlabel("time, in forward passes of one micro-batch on one worker")
    dark, light = (
        [plt.Rectangle((0, 0), 1, 1, color=COLORS[KIND_COLORS[k]], alpha=a) for k in "FB"]
        for a in (0.55, 0.3)
    )
    names = ["forward", "backward", "forward, second piece", "backward, second piece"]
    axes[1].legend(
        dark + light, names, loc="upper right", bbox_to_anchor=(1, -0.45), fontsize=8,
        handlelength=1, ncols=4,
    )  # fmt: skip
    return fig


@figure("all-to-all")
def all_to_all(plt):
    """Tokens of four workers on their way to the workers of their experts."""
    experts = np.array([[0, 2, 1, 2], [2, 3, 0, 2], [1, 2, 3, 0], [2, 1, 2, 3]])  # of each token
    colors = [COLORS[name] for name in ("blue", "orange", "green", "purple")]
    sources, places = np.divmod(np.arange(16), 4)
    order = np.argsort(experts.ravel(), kind="stable")
    fig, ax = plt.subplots(figsize=(7, 3.4))
    seen = [0, 0, 0, 0]
    for index in order:
        source, place, expert = sources[index], places[index], experts.flat[index]
        target = seen[expert]
        seen[expert] += 1
        ax.plot(
            [4.05, 8.0], [3.45 - source, 3.45 - expert], color=colors[expert], alpha=0.5,
            linewidth=1, linestyle="-" if source != expert else ":", zorder=1,
        )  # fmt: skip
        for x, y in ((place, 3.1 - source), (8 + target, 3.1 - expert)):
            ax.add_patch(plt.Rectangle((x + 0.06, y), 0.88, 0.7, color=colors[expert], alpha=0.55))
            text = f"{'abcd'[source]}{place}"
            ax.text(x + 0.5, y + 0.35, text, ha="center", va="center", fontsize=8)
    for rank in range(4):
        ax.text(-0.2, 3.45 - rank, f"worker {rank}", ha="right", va="center")
        waits = max(seen) - seen[rank]
        if waits:
            ax.text(8.2 + seen[rank], 3.45 - rank, f"waits for {waits}", va="center", fontsize=8,
                    color=COLORS["grey"])  # fmt: skip
    ax.text(2, 4.2, "its tokens", ha="center")
    ax.text(11, 4.2, "tokens for its expert", ha="center")
    ax.set(xlim=(-2.2, 16), ylim=(0, 4.5), xticks=[], yticks=[])
    ax.set_frame_on(False)
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


# ---- the planner -------------------------------------------------------------------------------

TERMS = {
    "products": ("products", "blue"), "scores": ("scores", "sky"), "moved": ("memory", "grey"),
    "tensor": ("sums of rows", "orange"), "idle": ("idle", "vermillion"),
    "data": ("gradients", "purple"), "update": ("update", "green"),
}  # fmt: skip
MODELS = {"Llama 3 8B": LLAMA_3_8B, "Llama 3 405B": LLAMA_3_405B}
SPLITS = {
    "64 × 8 × 16, 8 pieces each": Mesh(64, 8, 16, 8),
    "64 × 8 × 16, 1 piece each": Mesh(64, 8, 16),
    "256 × 8 × 4, 8 pieces each": Mesh(256, 8, 4, 8),
    "1,024 × 8, stage 3": Mesh(1024, 8, 1, stage=3),
}


@figure("planner")
def planner(plt):
    """Seconds of a step of Llama 3 405B on 8,192 H100 by term, in four splits, and the memory."""
    fig, ax = plt.subplots(figsize=(7, 3.3))
    left = np.zeros(len(SPLITS))
    plans = [
        (step_time_model(LLAMA_3_405B, mesh, H100, 2048, 8192),
         memory_model(LLAMA_3_405B, mesh, 8192, 2048 // mesh.data))
        for mesh in SPLITS.values()
    ]  # fmt: skip
    for name, (label, color) in TERMS.items():
        if name == "update":
            continue  # half a millisecond
        size = np.array([getattr(time, name) for time, _ in plans])
        ax.barh(list(SPLITS), size, left=left, color=COLORS[color], alpha=0.6, label=label)
        left += size
    for i, (time, memory) in enumerate(plans):
        ax.text(time.total + 0.2, i, f"{memory.total / 1e9:.0f} GB", va="center", fontsize=9)
    ax.set(xlabel="seconds of a step", xlim=(0, 1.12 * left.max()))
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    ax.legend(loc="lower center", bbox_to_anchor=(0.35, 1), ncols=4, fontsize=8, frameon=False)
    return fig


@interactive(
    "planner",
    states=[
        {"model": "Llama 3 8B", "data": "8", "tensor": "1", "pipeline": "1", "stage": "3"},
        {"data": "128", "chunks": 1, "stage": "2"},
        {"tensor": "1", "pipeline": "8", "stage": "0"},
    ],
)
def planner_model(state):
    """Devices, seconds by term, use and memory of one split, for 2,048 texts of 8,192 tokens."""
    cfg = MODELS[state["model"]]
    data, tensor, pipeline = (int(state[name]) for name in ("data", "tensor", "pipeline"))
    chunks = int(state["chunks"]) if pipeline > 1 else 1
    mesh = Mesh(data, tensor, pipeline, chunks, stage=int(state["stage"]))
    time = step_time_model(cfg, mesh, H100, 2048, 8192)
    memory = memory_model(cfg, mesh, 8192, 2048 // data)
    return {
        "devices": mesh.devices,
        "time": {name: getattr(time, name) for name in TERMS},
        "total": time.total,
        "utilization": time.utilization,
        "states": memory.states,
        "activations": memory.activations,
    }


# ---- workers that agree rarely -----------------------------------------------------------------

ARMS = {"every step": 1, "every 20 steps": 20, "never": 0}
STEPS, RATES, OUTER = 100, (2.5e-3, 5e-3, 1e-2, 2e-2), ((0.7, 0.9), (1.0, 0.0))


def rarely(worker, ids, held, config, seed, every, rate, outer):
    """Held-out loss of worker 0, one of four, after 100 steps on four texts each."""
    model = GPT(config, np.random.default_rng(seed))
    optimizer = AdamW(ParamGroups.matrices_decay(model.parameters(), 0.1), lr=rate)
    together = DiLoCo(worker, model.parameters(), *outer)
    rng = np.random.default_rng([seed, worker.rank])
    for t in range(STEPS):
        starts = rng.integers(0, len(ids) - config.context, 4)
        batch = ids[starts[:, None] + np.arange(config.context + 1)]
        optimizer.zero_grad()
        reduction = "sum" if every == 1 else "mean"
        cross_entropy(model(batch[:, :-1]), batch[:, 1:], reduction=reduction).backward()
        if every == 1:
            average_gradients(worker, model.parameters(), batch[:, 1:].size)
        optimizer.step()
        if every > 1 and (t + 1) % every == 0:
            together.agree()
    if worker.rank == 0:
        return cross_entropy(model(held[:, :-1]), held[:, 1:]).data.item()
    return None


@measurement("rarely", relative={"rate": 3.0}, absolute={"loss": 0.2, "tried": 0.2}, seconds=20)
def measure_rarely():
    """Five seeds of four workers that agree every step, every 20 steps, never, each tuned.

    The rate of each is the best of four on a sixth seed, and so is the outer step: the paper's rate
    and momentum, or the plain mean of the weights.
    """
    corpus = frozen_corpus()
    tokenizer = corpus.tokenizer()
    ids = tokenizer.encode(corpus.text("train")[:200_000])
    held = tokenizer.encode(corpus.text("validation")[:6000])[: 17 * 200].reshape(200, 17)
    config = gpt_config(len(tokenizer), 16, layers=1, heads=2, width=16)
    found = {"rate": {}, "loss": {}, "tried": {}}

    def run(seed, every, rate, outer):
        return World(4).run(rarely, ids, held, config, seed, every, rate, outer)[0]

    for arm, every in ARMS.items():
        outers = OUTER if every > 1 else OUTER[:1]
        tried = {(rate, outer): run(0, every, rate, outer) for rate in RATES for outer in outers}
        best = min(tried, key=tried.get)
        found["rate"][arm] = best[0]
        found["loss"][arm] = [run(seed, every, *best) for seed in range(1, 6)]
        found["tried"][arm] = [min(v for k, v in tried.items() if k[1] == each) for each in outers]
    return found
