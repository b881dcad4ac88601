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
        "scratch": (lambda model, rng: GPT(model.config, rng), low),
        "vectors": (lambda model, rng: bitfit(model), high),
    }
    for r in (1, 2, 4, 8, 16):
        every[f"rank {r}"] = (partial(with_lora, r=r), middle)
    every |= {
        "attention": (partial(with_lora, r=11, targets=("qkv", "out")), middle),
        "feed-forward": (partial(with_lora, r=6, targets=("up", "down")), middle),
        "adapters": (with_adapters, middle),
        "prefix": (prefix, high),
        "prompt": (partial(prompt, words=True), (3e-2, 1e-1, 3e-1)),
        "prompt at random": (partial(prompt, words=False), (3e-2, 1e-1, 3e-1)),
        "dora": (partial(with_lora, kind=DoRALinear), middle),
        "pissa": (partial(with_lora, start=pissa_init), low),
        "nf4": (partial(with_lora, kind=QLoRALinear), middle),
    }
    return every


@measurement("runs", absolute={"runs": 0.25, "spectrum": 0.05}, relative=0.05, seconds=600)
def measure_runs():
    """Every contestant: three rates on the validation names, five seeds with the best of them."""
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
