"""Figures of modern-llms/efficient-adaptation.md; three show the course's model learning names."""

from __future__ import annotations

import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np

from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.data.corpus import frozen_corpus
from chainrule.data.names import load_names
from chainrule.modern_llms.efficient_adaptation import (
    NF4,
    DoRALinear,
    PromptTuning,
    QLoRALinear,
    add_adapters,
    add_prefix,
    apply_lora,
    bitfit,
    lora_layers,
    memory_ledger,
    pissa_init,
)
from chainrule.neural_networks.backpropagation import no_grad
from chainrule.training.optimizers import AdamW, clip_grad_norm_, warmup_linear
from chainrule.transformers.gpt import GPT, gpt_config, load_course_gpt

ROOT = Path(__file__).parents[2]
STEPS, ROWS, LENGTH = 200, 8, 64
SEEDS = 5
ALL = ("qkv", "out", "up", "down")


# ---- the runs: course text to names -------------------------------------------------------------


def windows(ids):
    """All passages of 65 characters, one after the other: 64 to read, 64 to predict."""
    count = (len(ids) - 1) // LENGTH
    return ids[np.arange(count)[:, None] * LENGTH + np.arange(LENGTH + 1)]


def texts():
    _, tokenizer = load_course_gpt(ROOT / "models")
    names = load_names()
    parts = {part: tokenizer.encode("\n".join(getattr(names, part))) for part in names._fields}
    parts["course"] = tokenizer.encode(frozen_corpus().text("validation"))[:8193]
    return parts


def loss_on(model, ids):
    rows = windows(ids)
    with no_grad():
        return model.loss(rows[:, :-1], rows[:, 1:]).item()


def trained(change, lr, seed, ids):
    """The course's model, changed, after 200 steps of AdamW on passages of names."""
    rng = np.random.default_rng(seed)
    model = change(load_course_gpt(ROOT / "models")[0], rng).eval()
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = AdamW(params, lr=lr, betas=(0.9, 0.99), weight_decay=0.0)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = warmup_linear(step, lr, 10, STEPS)
        at = rng.integers(0, len(ids) - LENGTH, size=(ROWS, 1))
        some = ids[at + np.arange(LENGTH + 1)]
        optimizer.zero_grad()
        model.loss(some[:, :-1], some[:, 1:]).backward()
        clip_grad_norm_(params, 1.0)
        optimizer.step()
    return model, sum(p.size for p in params)


def with_lora(model, rng, r=8, targets=ALL, start=None, **options):
    apply_lora(model, targets, r, rng=rng, **options)
    for layer in lora_layers(model) if start else ():
        start(layer)
    return model


def with_lora_and_the_rest(model, rng):
    """Updates of rank 8 beside the matrices of the blocks; all else is trained as it is."""
    apply_lora(model, ALL, 8, rng=rng)
    frozen = {id(layer.base.weight) for layer in lora_layers(model)}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) not in frozen)
    return model


def with_adapters(model, rng):
    add_adapters(model, 16, rng=rng)
    return model


def contestants(ids):
    def prefix(model, rng):
        add_prefix(model, ids[:16])
        return model

    def prompt(model, rng, words):
        table = model.tokens.weight.data
        return PromptTuning(
            model, table[ids[:16]] if words else rng.normal(0, table.std(), (16, table.shape[1]))
        )

    low, high = (1e-3, 3e-3, 1e-2), (1e-2, 3e-2, 1e-1)
    middle = (5e-3, 1e-2, 2e-2)
    every = {
        "full": (lambda model, rng: model, low),
        "scratch": (lambda model, rng: GPT(model.config, rng), (3e-4, 1e-3, 3e-3)),
        "vectors": (lambda model, rng: bitfit(model), high),
    }
    for r in (1, 2, 4, 8, 16):
        every[f"rank {r}"] = (partial(with_lora, r=r), middle)
    every |= {
        "attention": (partial(with_lora, r=11, targets=("qkv", "out")), (*middle, 4e-2)),
        "feed-forward": (partial(with_lora, r=6, targets=("up", "down")), middle),
        "rank 8 and the rest": (with_lora_and_the_rest, (*middle, 4e-2)),
        "adapters": (with_adapters, (1e-2, 2e-2, 4e-2)),
        "prefix": (prefix, (1e-1, 3e-1, 1.0)),
        "prompt": (partial(prompt, words=True), (3e-2, 1e-1, 3e-1)),
        "prompt at random": (partial(prompt, words=False), (1e-1, 3e-1, 1.0)),
        "dora": (partial(with_lora, kind=DoRALinear), middle),
        "pissa": (partial(with_lora, start=pissa_init), (3e-3, 1e-2, 3e-2)),
        "nf4": (partial(with_lora, kind=QLoRALinear), (*middle, 4e-2)),
    }
    return every


@measurement("runs", absolute={"runs": 0.25, "spectrum": 0.05}, relative=0.05, seconds=600)
def measure_runs():
    """Every method: some rates on the validation names, five seeds with the best of them."""
    parts = texts()
    base, _ = load_course_gpt(ROOT / "models")
    found, spectra = {}, []
    for name, (change, rates) in contestants(parts["train"]).items():
        models = [trained(change, rate, 0, parts["train"]) for rate in rates]
        grid = [loss_on(model, parts["validation"]) for model, _ in models]
        best = int(np.argmin(grid))
        after = [models[best][0]]
        after += [trained(change, rates[best], s, parts["train"])[0] for s in range(1, SEEDS)]
        found[name] = {
            "trained": models[0][1],
            "rates": rates,
            "grid": grid,
            "rate": rates[best],
            "test": [loss_on(model, parts["test"]) for model in after],
            "course": [loss_on(model, parts["course"]) for model in after],
        }
        print(name, found[name], flush=True)
        if name == "full":
            spectra = [spectrum(model, base) for model in after]
    return {
        "base": {"test": loss_on(base, parts["test"]), "course": loss_on(base, parts["course"])},
        "runs": found,
        "spectrum": np.mean(spectra, axis=0),
    }


def spectrum(model, base):
    """Share of the squares of a change that its first k directions hold, mean of 12 matrices."""
    shares = []
    for after, before in zip(model.blocks, base.blocks, strict=True):
        for part, name in (("attention", "qkv"), ("attention", "out"),
                           ("feed_forward", "up"), ("feed_forward", "down")):  # fmt: skip
            new, old = (getattr(getattr(b, part), name).weight.data for b in (after, before))
            squares = np.linalg.svd((new - old).astype(float), compute_uv=False) ** 2
            shares.append(np.cumsum(squares) / squares.sum())
    return np.mean(shares, axis=0)


@measurement("kept", relative=0.1, seconds=5)
def measure_kept():
    """Bytes that a forward pass keeps for the backward pass, 8 passages of 128 characters."""
    parts, found = texts(), {}
    ids = parts["train"][: 8 * 129].reshape(8, 129)
    changes = {
        "full": lambda model, rng: model,
        "lora": with_lora,
        "nf4": partial(with_lora, kind=QLoRALinear),
    }
    for name, change in changes.items():
        model = change(load_course_gpt(ROOT / "models")[0], np.random.default_rng(0))
        model.loss(ids[:, :-1], ids[:, 1:])
        tracemalloc.start()
        loss = model.loss(ids[:, :-1], ids[:, 1:])
        found[name] = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        del loss
    return found


# ---- memory by method ---------------------------------------------------------------------------


def llama(layers, heads, width, hidden, kv_heads=None):
    return gpt_config(
        32_000, 4096, layers, heads, width, norm="rms", feed_forward="swiglu", hidden=hidden,
        positions="rope", bias=False, tied=False, kv_heads=kv_heads,
    )  # fmt: skip


MODELS = {
    "Llama 2 7B": llama(32, 32, 4096, 11_008),
    "Llama 2 70B": llama(80, 64, 8192, 28_672, 8),
    "GPT-2 small": gpt_config(),
    "the course's GPT": gpt_config(145, 128, 3, 4, 96),
}
METHODS = {"full": "full", "lora": "LoRA", "qlora": "QLoRA"}
PARTS = {"weights": "blue", "gradients": "orange", "optimizer": "vermillion"}


@interactive(
    "memory",
    states=[
        {"model": "Llama 2 70B", "rank": 64, "card": 80},
        {"model": "the course's GPT", "rank": 256},
        {"model": "GPT-2 small", "rank": 1, "card": 8},
    ],
)
def memory_model(state):
    cfg, r = MODELS[state["model"]], int(state["rank"])
    ledgers = [memory_ledger(cfg, method, r) for method in METHODS]
    together = [sum(ledger.values()) for ledger in ledgers]
    return {
        "bytes": [[ledger[part] for part in PARTS] for ledger in ledgers],
        "together": together,
        "fits": [total <= state["card"] * 1e9 for total in together],
        "trained": ledgers[1]["gradients"] / 2,
    }


@figure("memory")
def memory(plt):
    found = memory_model({"model": "Llama 2 7B", "rank": 8, "card": 24})
    fig, ax = plt.subplots(figsize=(7, 3.6))
    bottom = np.zeros(len(METHODS))
    for i, (part, color) in enumerate(PARTS.items()):
        height = np.array([row[i] for row in found["bytes"]]) / 1e9
        ax.bar(list(METHODS.values()), height, bottom=bottom, color=COLORS[color], label=part,
               width=0.55)  # fmt: skip
        bottom += height
    for i, total in enumerate(bottom):
        ax.text(i, total + 1.5, f"{total:.1f}", ha="center", fontsize=10)
    ax.axhline(24, color=COLORS["grey"], ls="--", lw=1)
    ax.annotate("24 GB", (1, 24), xycoords=("axes fraction", "data"), xytext=(4, 0), va="center",
                textcoords="offset points", fontsize=9)  # fmt: skip
    ax.set_ylim(0, 122)
    ax.set_ylabel("GB for Llama 2 7B")
    ax.legend()
    return fig


# ---- what the runs show -------------------------------------------------------------------------


def middle_and_ends(values):
    """The mean, and how far the smallest and the largest of five seeds lie from it."""
    mean = np.mean(values)
    return mean, [[mean - min(values)], [max(values) - mean]]


@figure("ranks")
def ranks(plt):
    runs = measured("runs")["runs"]
    fig, ax = plt.subplots(figsize=(7, 3.8))
    for r in (1, 2, 4, 8, 16):
        mean, ends = middle_and_ends(runs[f"rank {r}"]["test"])
        ax.errorbar(r, mean, yerr=ends, fmt="o", color=COLORS["blue"], capsize=4)
    means = [np.mean(runs[f"rank {r}"]["test"]) for r in (1, 2, 4, 8, 16)]
    ax.plot((1, 2, 4, 8, 16), means, color=COLORS["blue"], lw=1.4)
    lines = {"scratch": "from scratch", "vectors": "biases and gains", "full": "all weights"}
    for name, label in lines.items():
        level = np.mean(runs[name]["test"])
        ax.axhline(level, color=COLORS["grey"], ls="--", lw=1)
        ax.annotate(label, (1, level), xycoords=("axes fraction", "data"), xytext=(4, 0),
                    textcoords="offset points", va="center", fontsize=9)  # fmt: skip
    ax.set_xscale("log", base=2)
    ax.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
    ax.set_xlabel("rank of the update")
    ax.set_ylabel("loss on unseen names (nats)")
    return fig


@figure("spectrum")
def spectrum_of_the_change(plt):
    share = np.array(measured("runs")["spectrum"])
    fig, ax = plt.subplots(figsize=(7, 3.5))
    k = np.arange(1, len(share) + 1)
    ax.plot(k, share, color=COLORS["blue"], lw=2, label="change by full fine-tuning")
    ax.plot(k, k / len(share), color=COLORS["grey"], ls="--", lw=1, label="no direction preferred")
    for at in (4, 16):
        ax.plot(at, share[at - 1], "o", color=COLORS["vermillion"])
        ax.annotate(f"{at} directions: {share[at - 1]:.0%}", (at, share[at - 1]), xytext=(8, -10),
                    textcoords="offset points", fontsize=9)  # fmt: skip
    ax.set_xlabel("directions kept, of 96")
    ax.set_ylabel("share of the squared change")
    ax.set_ylim(0, 1.03)
    ax.legend(loc="lower right")
    return fig


SHOWN = {
    "full": ("all weights", "black", "o"),
    "rank 1": ("rank 1", "sky", "v"),
    "rank 4": ("rank 4", "blue", "s"),
    "rank 16": ("rank 16", "purple", "D"),
    "attention": ("attention only", "blue", "<"),
    "vectors": ("biases and gains", "orange", "^"),
    "adapters": ("adapters", "green", "P"),
    "prefix": ("prefix", "vermillion", "X"),
    "prompt": ("soft prompt", "grey", "*"),
}


@figure("forgetting")
def forgetting(plt):
    found = measured("runs")
    fig, ax = plt.subplots(figsize=(7.4, 4.2))
    for name, (label, color, mark) in SHOWN.items():
        run = found["runs"][name]
        ax.plot(run["test"], run["course"], mark, color=COLORS[color], label=label, ms=7)
    ax.axhline(found["base"]["course"], color=COLORS["grey"], ls="--", lw=1)
    ax.annotate("the base", (0, found["base"]["course"]), xycoords=("axes fraction", "data"),
                xytext=(6, 4), textcoords="offset points", fontsize=9)  # fmt: skip
    ax.set_xlabel("loss on unseen names (nats)")
    ax.set_ylabel("loss on the course's prose (nats)")
    ax.set_ylim(1)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=9)
    return fig


@figure("levels")
def levels(plt):
    fig, ax = plt.subplots(figsize=(7.2, 3.4))
    x = np.linspace(-3.2, 3.2, 321)
    ax.fill_between(x, np.exp(-(x**2) / 2), color=COLORS["light"], lw=0)
    peak = 2.6  # about the largest absolute value of 64 Gaussian numbers
    rows = (("INT4", np.arange(-7, 8) / 7, "vermillion", -0.32), ("NF4", NF4, "blue", -0.14))
    for name, places, color, height in rows:
        ax.plot(places * peak, np.full(len(places), height), "|", ms=14, mew=2, color=COLORS[color])
        ax.text(-3.15, height, name, va="center", fontsize=10, color=COLORS[color])
    ax.set_yticks([])
    ax.set_xlim(-3.25, 3.25)
    ax.set_ylim(-0.45, 1.05)
    ax.set_xlabel("weight, in standard deviations")
    return fig
