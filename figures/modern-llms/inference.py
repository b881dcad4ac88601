"""Figures of modern-llms/inference.md."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.data.corpus import frozen_corpus
from chainrule.modern_llms.inference import (
    H100,
    H200,
    Request,
    decode_intensity,
    generate_cached,
    quantized_model,
    roofline,
    simulate_serving,
)
from chainrule.neural_networks.backpropagation import no_grad
from chainrule.transformers.gpt import GPT, generate, gpt_config, load_course_gpt

ROOT = Path(__file__).parents[2]
DEVICES = {"H100": H100, "H200": H200}


# ---- the roofline ------------------------------------------------------------------------------


def decoding(state):
    """What a step of decoding does, and what the device makes of it."""
    device = DEVICES[state["device"]]
    n, texts, width = state["billions"] * 1e9, state["texts"], state["bits"] / 8
    cache = state["tokens"] * state["kilobytes"] * 1e3
    work, moved = 2 * n * texts, n * width + texts * cache
    seconds = roofline(work, moved, device)
    return device, work, moved, seconds, decode_intensity(n, texts, width, cache), n * width, cache


@interactive(
    "roofline",
    states=[
        {"texts": 512, "tokens": 0},
        {"device": "H200", "billions": 70, "bits": 16, "kilobytes": 328, "texts": 1},
        {"bits": 4, "texts": 64, "tokens": 30_000},
    ],
)
def roofline_model(state):
    device, work, _, seconds, intensity, weights, cache = decoding(state)
    return {
        "intensity": intensity,
        "reached": work / seconds / 1e12,
        "ridge": device.ridge,
        "roof": device.flops / 1e12,
        "slope": device.bandwidth / 1e12,
        "ms": seconds * 1e3,
        "each": 1 / seconds,
        "all": state["texts"] / seconds,
        "memory": (weights + state["texts"] * cache) / 1e9,
        "room": device.memory / 1e9,
    }


@figure("roofline")
def roofline_figure(plt):
    fig, ax = plt.subplots(figsize=(7.2, 3.6))
    x = np.geomspace(0.5, 2_000, 200)
    ax.loglog(x, np.minimum(H100.bandwidth * x, H100.flops) / 1e12, color=COLORS["black"])
    state = {"device": "H100", "billions": 7, "bits": 16, "tokens": 1_000, "kilobytes": 131}
    for texts, dx in ((1, 8), (16, 8), (128, 8)):
        for tokens, color, form in ((0, "blue", "o"), (1_000, "vermillion", "s")):
            _, work, _, seconds, intensity, _, _ = decoding(
                {**state, "texts": texts, "tokens": tokens}
            )
            ax.plot(intensity, work / seconds / 1e12, form, color=COLORS[color])
        ax.annotate(
            f"{texts} text" + "s" * (texts > 1),
            (intensity, work / seconds / 1e12),
            xytext=(dx, -14),
            textcoords="offset points",
        )
    ax.axvline(H100.ridge, color=COLORS["grey"], linestyle=":", linewidth=1)
    ax.text(H100.ridge * 0.93, 1.2, "ridge: 295", color=COLORS["grey"], ha="right")
    ax.text(0.6, 20, "waiting for bytes")
    ax.text(2_000, 1_150, "waiting for products", ha="right")
    ax.set_ylim(1, 2_500)
    ax.set_xlabel("operations for each byte moved")
    ax.set_ylabel("TFLOP/s reached at most")
    ax.plot([], [], "o", color=COLORS["blue"], label="weights alone")
    ax.plot([], [], "s", color=COLORS["vermillion"], label="with 1,000 tokens of cache a text")
    ax.legend(loc="upper left", frameon=False)
    return fig


# ---- keep or replace ---------------------------------------------------------------------------


@figure("keep-or-replace")
def keep_or_replace(plt):
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.6, 0.2])
    kept = np.minimum(p, q)
    fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.1), sharey=True)
    x = np.arange(3)
    axes[0].bar(x, kept, color=COLORS["blue"], label="kept")
    axes[0].bar(x, q - kept, bottom=kept, color=COLORS["light"], hatch="//", label="refused")
    axes[0].set_title("what the draft proposes")
    axes[1].bar(x, kept, color=COLORS["blue"], label="kept")
    axes[1].bar(x, p - kept, bottom=kept, color=COLORS["orange"], label="replacements")
    axes[1].set_title("what is written")
    for ax in axes:
        ax.set_xticks(x, ["a", "b", "c"])
        ax.set_ylim(0, 0.75)
        ax.legend(frameon=False, loc="upper right")
    axes[0].set_ylabel("chance")
    return fig


# ---- few bits ----------------------------------------------------------------------------------

WAYS = {"one a matrix": {}, "one a row": {"axis": 0}, "one for 32": {"group": 32}}


@measurement("bits", absolute={"worse": 0.02}, seconds=8)
def measure_bits():
    model, tokenizer = load_course_gpt(ROOT / "models")
    ids = tokenizer.encode(frozen_corpus().text("test"))[: 60 * 128].reshape(60, 128)

    def nats(model):
        with no_grad():
            return float(model.loss(ids[:, :-1], ids[:, 1:]).data)

    exact, worse, size = nats(model), [], []
    for how in WAYS.values():
        found = [
            quantized_model(model, bits, **how, scale_type="float16") for bits in (3, 4, 5, 6, 8)
        ]
        worse.append([nats(rounded) - exact for rounded, _ in found])
        size.append([stored for _, stored in found])
    return {"worse": worse, "size": size}


@figure("bits")
def bits(plt):
    found = measured("bits")
    fig, ax = plt.subplots(figsize=(7.2, 3.4))
    styles = zip(WAYS, ("blue", "green", "vermillion"), ("o-", "s--", "^:"), strict=True)
    for (name, color, form), worse, size in zip(styles, found["worse"], found["size"], strict=True):
        shown = np.maximum(worse, 1e-3)
        ax.semilogy(np.array(size) / 1e3, shown, form, color=COLORS[color], label=name)
        for b, x, y in zip((3, 4, 5, 6, 8), size, shown, strict=True):
            ax.annotate(str(b), (x / 1e3, y), xytext=(4, 4), textcoords="offset points", fontsize=9)
    ax.set_xlabel("kilobytes of the model")
    ax.set_ylabel("loss above float32, nats\n(0.001 or less at the floor)")
    ax.legend(frameon=False, title="scales")
    return fig


# ---- time against length ------------------------------------------------------------------------

PROMPT, LENGTHS = 16, {32: 5, 64: 5, 128: 5, 256: 3, 512: 3}


@measurement("time-against-length", relative={"plain": 3, "cached": 3, "ratio": 0.5}, seconds=20)
def measure_time():
    """Process time to write so many tokens, both ways in turns; weights random, context longer."""
    model = GPT(gpt_config(107, 528, 3, 4, 96), np.random.default_rng(0))
    prompt = np.random.default_rng(1).integers(0, 107, PROMPT)
    ways = {
        "plain": lambda n: generate(model, prompt[None], n, temperature=0)[0],
        "cached": lambda n: generate_cached(model, prompt, n, temperature=0),
    }
    found = {"length": list(LENGTHS), "plain": [], "cached": [], "ratio": []}
    for n, rounds in LENGTHS.items():
        spent, texts = {name: [] for name in ways}, {}
        for _ in range(rounds):
            for name, write in ways.items():
                begun = time.process_time()
                texts[name] = write(n)
                spent[name].append(time.process_time() - begun)
        if not np.array_equal(*texts.values()):
            raise RuntimeError(f"cached and uncached texts of {n} tokens differ")
        for name, times in spent.items():
            found[name].append(float(np.median(times)))
        found["ratio"].append(found["plain"][-1] / found["cached"][-1])
    return found


@figure("time-against-length")
def time_against_length(plt):
    found = measured("time-against-length")
    n = found["length"]
    fig, ax = plt.subplots(figsize=(7.2, 3.4))
    ax.loglog(n, found["plain"], "s-", color=COLORS["vermillion"], label="without a cache")
    ax.loglog(n, found["cached"], "o-", color=COLORS["blue"], label="with a cache")
    for x, low, high, ratio in zip(n, found["cached"], found["plain"], found["ratio"], strict=True):
        ax.plot([x, x], [low, high], ":", color=COLORS["grey"], linewidth=1)
        ax.annotate(f"{ratio:.0f} ×", (x, (low * high) ** 0.5), xytext=(5, 0), fontsize=9,
                    textcoords="offset points", va="center")  # fmt: skip
    ax.set_xticks(n, [str(x) for x in n])
    ax.minorticks_off()
    ax.set_xlim(27, 700)
    ax.set_xlabel("tokens written")
    ax.set_ylabel("seconds of the processor")
    ax.legend(loc="upper left", frameon=False)
    return fig


# ---- who is served when ------------------------------------------------------------------------


@figure("two-ways-to-batch")
def two_ways_to_batch(plt):
    rng = np.random.default_rng(4)
    requests = [Request(0, 1, int(n)) for n in 1 + rng.geometric(1 / 7, 12)]
    fig, axes = plt.subplots(2, 1, figsize=(7.2, 3.8), sharex=True)
    colors = [COLORS[c] for c in ("blue", "orange", "green", "vermillion", "sky", "purple")]
    for ax, policy in zip(axes, ("static", "continuous"), strict=True):
        served = simulate_serving(requests, policy, 4, lambda tokens: 1.0).served
        free = [0.0] * 4
        for i, s in enumerate(served):
            row = next(r for r in range(4) if free[r] <= s.started)
            length = s.times[-1] - s.started
            ax.barh(row, length, left=s.started, color=colors[i % 6], edgecolor="white")
            ax.text(s.started + length / 2, row, str(i + 1), ha="center", va="center")
            if s.left > s.times[-1]:
                ax.barh(row, s.left - s.times[-1], left=s.times[-1], color=COLORS["light"])
            free[row] = s.left
        ax.set_yticks(range(4), ["1", "2", "3", "4"])
        ax.invert_yaxis()
        ax.set_title(policy)
        ax.set_ylabel("place")
    axes[1].set_xlabel("steps")
    return fig
