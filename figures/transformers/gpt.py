"""Figures of transformers/gpt.md; all but one show the model that was trained on this course.

``python figures/transformers/gpt.py`` puts the stored measurements into the two interactive
figures, after the model was trained anew and measured.
"""

from __future__ import annotations

import bz2
import itertools
import json
import lzma
from pathlib import Path

import numpy as np

from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.data.corpus import frozen_corpus
from chainrule.math_foundations.probability import softmax
from chainrule.neural_networks.backpropagation import no_grad
from chainrule.training.optimizers import AdamW, clip_grad_norm_, warmup_linear
from chainrule.transformers.gpt import (
    GPT,
    MatchModel,
    gpt_config,
    load_course_gpt,
    sample_filters,
    stream,
    token_losses,
    witten_bell_ngram,
)
from chainrule.transformers.multi_head_attention import attention_maps, head_ablation

ROOT = Path(__file__).parents[2]
SENTENCE = "The layer adds them up. No head knows what another does."
PHRASE = "the gradient of the loss"
PROMPTS = ("The gradient of the lo", "By hand. The ", "is called ")
CHOICES = tuple(f"{prompt}…" for prompt in PROMPTS)
SHOWN = 12
"""How many of the likeliest characters the sampler shows."""


def trained():
    """Model, tokenizer, corpus."""
    return *load_course_gpt(ROOT / "models"), frozen_corpus()


def name_of(character):
    return {" ": "␣", "\n": "↵"}.get(character, character)


# ---- the runs and what counts ------------------------------------------------------------------

BLOCK = 890_000
"""Bytes that fit into one block of bz2 with room to spare."""


@measurement("runs", absolute=0.003, seconds=15)
def measure_runs():
    manifest = json.loads((ROOT / "models/course-gpt.json").read_text(encoding="utf-8"))
    corpus = frozen_corpus()
    tokenizer = corpus.tokenizer()
    ids, held_out = (tokenizer.encode(corpus.text(part)) for part in ("train", "validation"))
    per_step = manifest["characters"] / manifest["steps"]
    ngrams = {str(n): witten_bell_ngram(ids, n, len(tokenizer)).nll(held_out) for n in (2, 3, 4, 5)}
    curves = {
        name: [[step * per_step, loss] for step, _, loss in manifest[name]]
        for name in ("live", "curve")
    }
    return {"ngrams": ngrams, **curves, "test": on_the_test(ids, tokenizer, corpus)}


def added(squeeze, before, new):
    return len(squeeze(before + new)) - len(squeeze(before))


def bz2_adds(before, new):
    """Bytes added, a mean of ten beginnings; bz2 packs each block alone, so it gets one."""
    room = BLOCK - len(new)
    skips = range(0, 20_000, 2_000)
    return np.mean([added(bz2.compress, before[-room + skip :], new) for skip in skips])


def xz_adds(before, new):
    return added(lambda data: lzma.compress(data, preset=9), before, new)


def on_the_test(ids, tokenizer, corpus):
    """Nats a character of the model and its rivals on the documents that nothing has seen."""
    model, _, _ = trained()
    before, new = (corpus.text(part).encode() for part in ("train", "test"))
    test_ids = tokenizer.encode(corpus.text("test"))
    counts = {n: witten_bell_ngram(ids, n, len(tokenizer)) for n in (2, 3, 4, 5)}
    found = {str(n): counted.nll(test_ids) for n, counted in counts.items()}
    found["match"] = MatchModel(ids, counts[5]).nll(test_ids)
    for name, adds in (("bz2", bz2_adds), ("xz", xz_adds)):
        found[name] = adds(before, new) * 8 * np.log(2) / len(test_ids)
    found["gpt"] = token_losses(model, test_ids).mean()
    return found


@figure("against-ngrams")
def against_ngrams(plt):
    found = measured("runs")
    fig, ax = plt.subplots(figsize=(7.2, 4.0))
    looks = (("curve", "long run", "blue", "-"), ("live", "live run", "vermillion", "--"))
    for name, label, color, dash in looks:
        x, y = np.array(found[name]).T
        ax.plot(x / 1e6, y, dash, color=COLORS[color], label=label)
    for order, loss in found["ngrams"].items():
        ax.axhline(loss, color=COLORS["grey"], lw=1, ls=":")
        name = {"2": "bigram", "3": "trigram"}.get(order, f"{order}-gram")
        ax.annotate(name, (1, loss), xycoords=("axes fraction", "data"), xytext=(4, 0),
                    textcoords="offset points", va="center", fontsize=9)  # fmt: skip
    ax.set_xscale("log")
    ax.set_xticks([0.1, 0.3, 1, 3, 9], ["0.1", "0.3", "1", "3", "9"])
    ax.minorticks_off()
    ax.set_xlabel("million characters read")
    ax.set_ylabel("held-out loss (nats a character)")
    ax.legend()
    return fig


# ---- loss by position --------------------------------------------------------------------------


BINS = (1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129)


def in_bins(losses):
    return [losses[a - 1 : b - 1].mean() for a, b in itertools.pairwise(BINS)]


@measurement("position", absolute=0.01, seconds=12)
def measure_position():
    model, tokenizer, corpus = trained()
    ids = tokenizer.encode(corpus.text("test"))
    context = model.config.context
    starts = np.arange(0, len(ids) - context - 1, 43)
    rows = ids[starts[:, None] + np.arange(context + 1)]
    train = tokenizer.encode(corpus.text("train"))
    return {
        "loss": in_bins(losses_by_place(model, rows)),
        "five": witten_bell_ngram(train, 5, len(tokenizer)).nll(ids),
    }


@figure("position")
def position(plt):
    found = measured("position")
    loss = np.array(found["loss"])
    fig, ax = plt.subplots(figsize=(7, 3.5))
    middle = [np.sqrt(a * (b - 1)) for a, b in itertools.pairwise(BINS)]
    ax.plot(middle, loss, "o-", color=COLORS["blue"], lw=1.6)
    ax.axhline(found["five"], color=COLORS["grey"], ls="--", lw=1)
    ax.annotate("5-gram", (1, found["five"]), xycoords=("axes fraction", "data"), xytext=(4, 0),
                textcoords="offset points", va="center", fontsize=9)  # fmt: skip
    ax.set_xscale("log")
    ax.set_xticks([1, 2, 4, 8, 16, 32, 64, 128], [1, 2, 4, 8, 16, 32, 64, 128])
    ax.minorticks_off()
    ax.set_xlabel("characters read")
    ax.set_ylabel("loss (nats a character)")
    return fig


# ---- longer than in training -------------------------------------------------------------------

ENCODINGS = ("learned", "sinusoidal", "rope", "none")
TRAINED_ON, READ = 32, 128
BEYOND_RATES = (1.25e-3, 2.5e-3, 5e-3, 1e-2, 2e-2, 4e-2)


@measurement("beyond", absolute={"loss": 0.15, "tried": 0.15}, relative={"rate": 3.0}, seconds=220)
def measure_beyond():
    """Small models that saw 32 characters at a time in training, and now read 128.

    The rate of each is the best of those tried on the documents for choices, up to 32 characters.
    """
    corpus = frozen_corpus()
    tokenizer = corpus.tokenizer()
    train_ids, chosen_ids, test_ids = (
        tokenizer.encode(corpus.text(part)) for part in ("train", "validation", "test")
    )
    choices, rows = (
        ids[np.arange(0, len(ids) - READ - 1, 203)[:, None] + np.arange(READ + 1)]
        for ids in (chosen_ids, test_ids)
    )
    found = {"rate": {}, "tried": {}, "loss": {}}
    for positions in ENCODINGS:

        def run(seed, rate, positions=positions):
            return beyond_run(positions, train_ids, len(tokenizer), seed, rate)

        judged = choices[:, : TRAINED_ON + 1]
        tried = [losses_by_place(run(100, rate), judged).mean() for rate in BEYOND_RATES]
        best = BEYOND_RATES[int(np.argmin(tried))]
        curves = [losses_by_place(run(seed, best), rows) for seed in range(3)]
        found["rate"][positions], found["tried"][positions] = best, tried
        found["loss"][positions] = np.mean(curves, axis=0).reshape(-1, 8).mean(axis=1)
    return found


def beyond_run(positions, ids, vocabulary, seed, rate, steps=600):
    rng = np.random.default_rng(seed)
    model = GPT(gpt_config(vocabulary, READ, 2, 4, 64, positions=positions), rng)
    optimizer = AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = warmup_linear(step, rate, steps // 20, steps)
        at = rng.integers(0, len(ids) - TRAINED_ON, size=(16, 1))
        some = ids[at + np.arange(TRAINED_ON + 1)]
        optimizer.zero_grad()
        model.loss(some[:, :-1], some[:, 1:]).backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


def losses_by_place(model, rows):
    total = np.zeros(rows.shape[1] - 1)
    with no_grad():
        for some in np.array_split(rows, -(-len(rows) // 64)):
            p = softmax(model.eval()(some[:, :-1]).data.astype(float))
            total -= np.log(np.take_along_axis(p, some[:, 1:, None], 2)[..., 0]).sum(axis=0)
    return total / len(rows)


@figure("beyond")
def beyond(plt):
    found = measured("beyond")["loss"]
    fig, ax = plt.subplots(figsize=(7, 3.6))
    names = {"learned": "a learned table", "sinusoidal": "sinusoids", "rope": "rotary",
             "none": "no positions"}  # fmt: skip
    marks = zip(ENCODINGS, ("vermillion", "orange", "blue", "green"), "so^D", strict=True)
    for positions, color, mark in marks:
        places = 4.5 + 8 * np.arange(len(found[positions]))
        ax.plot(places, found[positions], f"{mark}-", color=COLORS[color], label=names[positions])
    ax.axvline(TRAINED_ON, color=COLORS["grey"], ls="--", lw=1)
    ax.annotate("longest text in training", (TRAINED_ON, 0.97), xytext=(5, 0), va="top",
                xycoords=("data", "axes fraction"), textcoords="offset points",
                fontsize=9)  # fmt: skip
    ax.set_xlabel("characters read")
    ax.set_ylabel("loss (nats a character)")
    ax.legend()
    return fig


# ---- the model's own text ----------------------------------------------------------------------


@measurement("drift", absolute=0.25, seconds=20)
def measure_drift():
    """How a 5-gram judges what the model wrote, by distance from the prompt."""
    model, tokenizer, corpus = trained()
    count = witten_bell_ngram(tokenizer.encode(corpus.text("train")), 5, len(tokenizer))
    ids = tokenizer.encode(corpus.text("test"))
    starts = np.linspace(0, len(ids) - 65, 144).astype(int)
    prompts = ids[starts[:, None] + np.arange(64)]
    rows = {}
    for temperature in (0.8, 1.0, 1.4):
        source = stream(model, prompts, temperature, rng=np.random.default_rng(0))
        text = np.concatenate([prompts, np.stack([next(source) for _ in range(500)], 1)], 1)
        losses = np.array([-count.log_probabilities(row)[64:] for row in text])
        rows[str(temperature)] = losses.reshape(len(text), 10, 50).mean(axis=(0, 2))
    return {"loss": rows, "test": count.nll(ids)}


@figure("drift")
def drift(plt):
    found = measured("drift")
    fig, ax = plt.subplots(figsize=(7, 3.5))
    places = 25 + 50 * np.arange(10)
    looks = zip(found["loss"].items(), ("blue", "green", "vermillion"), "os^", strict=True)
    for (temperature, losses), color, mark in looks:
        ax.plot(places, losses, f"{mark}-", color=COLORS[color], label=f"temperature {temperature}")
    ax.axhline(found["test"], color=COLORS["grey"], ls="--", lw=1, label="the test itself")
    ax.set_xlabel("characters written since the prompt")
    ax.set_ylabel("surprise of a 5-gram (nats)")
    ax.set_ylim(0)
    ax.legend(ncols=2)
    return fig


# ---- a leap that is none -----------------------------------------------------------------------


@figure("emergence")
def emergence(plt):
    size = np.linspace(0, 1, 9)
    p = 0.5 + 0.49 * size
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.1))
    titles = ("one token is right", "all ten tokens are right")
    for ax, share, title in zip(axes, (p, p**10), titles, strict=True):
        ax.plot(size, share, "o-", color=COLORS["blue"])
        ax.set_ylim(0, 1)
        ax.set_xticks([0, 1], ["small", "large"])
        ax.set_xlabel("size of the model")
        ax.set_title(title)
    axes[0].set_ylabel("share")
    return fig


# ---- the sampler -------------------------------------------------------------------------------


@measurement("sampler", absolute=0.01, seconds=3)
def measure_sampler():
    model, tokenizer, _ = trained()
    logits = []
    for prompt in PROMPTS:
        scores = model(tokenizer.encode(prompt)[None]).data[0, -1].astype(float)
        logits.append(scores - np.log(np.exp(scores - scores.max()).sum()) - scores.max())
    return {"alphabet": tokenizer.alphabet, "logits": np.round(logits, 2)}


def filtered(state):
    """Chances before and after the filters, likeliest first."""
    found = measured("sampler")
    logits = np.array(found["logits"])[CHOICES.index(state["prompt"])]
    order = np.argsort(-logits, kind="stable")[:SHOWN]
    rules = {"temperature": state["tau"], "top_k": int(state["k"]), "top_p": state["p"]}
    kept = softmax(sample_filters(logits[None], **rules, min_p=state["m"]))[0]
    plain = softmax(logits)
    return order, plain, kept


@interactive(
    "sampler",
    states=[
        {"prompt": CHOICES[1]},
        {"prompt": CHOICES[2], "tau": 0.5},
        {"prompt": CHOICES[1], "p": 0.7},
        {"k": 3, "tau": 2},
        {"prompt": CHOICES[2], "m": 0.2, "tau": 1.5},
    ],
)
def sampler_model(state):
    order, plain, kept = filtered(state)
    return {
        "order": order,
        "before": plain[order],
        "after": kept[order],
        "kept": int((kept > 0).sum()),
        "cut": float(plain[kept == 0].sum()),
    }


@figure("sampler")
def sampler(plt):
    alphabet = measured("sampler")["alphabet"]
    fig, axes = plt.subplots(1, 3, figsize=(7.8, 3.6))
    for ax, prompt in zip(axes, PROMPTS, strict=True):
        state = {"prompt": f"{prompt}…", "tau": 1, "k": len(alphabet), "p": 0.9, "m": 0}
        order, plain, kept = filtered(state)
        for i, symbol in enumerate(order):
            color = COLORS["blue"] if kept[symbol] else COLORS["light"]
            ax.barh(i, plain[symbol], color=color)
        ax.set_yticks(range(SHOWN), [name_of(alphabet[i]) for i in order])
        ax.invert_yaxis()
        ax.set_xlim(0, 1)
        ax.set_title(f"“{prompt.replace(' ', '␣')}”", fontsize=9.5)
        ax.set_xlabel("chance")
        ax.text(0.95, SHOWN - 1, f"top-p 0.9 keeps {(kept > 0).sum()}", ha="right", fontsize=9)
    return fig


# ---- the lens ----------------------------------------------------------------------------------


@measurement("lens", absolute={"p": 0.02}, seconds=3)
def measure_lens():
    model, tokenizer, _ = trained()
    ids = tokenizer.encode("\n" + PHRASE.capitalize())[None]
    rows = [softmax(model.predict(x).data[0].astype(float)) for x in model.hidden_states(ids)]
    best = [[tokenizer.alphabet[i] for i in p.argmax(axis=1)] for p in rows]
    return {"text": tokenizer.decode(ids[0]), "best": best, "p": [p.max(axis=1) for p in rows]}


@figure("lens")
def lens(plt):
    found = measured("lens")
    p, best = np.array(found["p"]), found["best"]
    text = found["text"]
    fig, ax = plt.subplots(figsize=(7.8, 2.6))
    ax.imshow(p, cmap="Blues", vmin=0, vmax=1, aspect="auto", origin="lower")
    for i, row in enumerate(best):
        for j, symbol in enumerate(row):
            right = j + 1 < len(text) and symbol == text[j + 1]
            ax.text(j, i, name_of(symbol), ha="center", va="center", fontsize=10,
                    weight="bold" if right else "normal",
                    color="white" if p[i, j] > 0.6 else "#1a1a1a")  # fmt: skip
    ax.set_xticks(range(len(text)), [name_of(c) for c in text])
    ax.set_yticks(range(len(best)), ["embedding", *(f"block {i}" for i in range(1, len(best)))])
    ax.set_xlabel("character read; in the cell above it, the guess at the next")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return fig


# ---- heads -------------------------------------------------------------------------------------


@measurement("heads", absolute={"weights": 1, "rise": 0.003}, seconds=40)
def measure_heads():
    """Where each head looks in one sentence, in hundredths, and what the model loses without it."""
    model, tokenizer, corpus = trained()
    maps = attention_maps(model, tokenizer.encode(SENTENCE)[None])
    weights = [
        [[np.round(100 * row[: i + 1]).astype(int).tolist() for i, row in enumerate(head)]
         for head in layer[0]]
        for layer in maps
    ]  # fmt: skip
    ids = tokenizer.encode(corpus.text("test"))[:20_000]
    whole = token_losses(model, ids).mean()
    rise = np.zeros((model.config.decoder_layers, model.config.heads))
    for layer, head in np.ndindex(*rise.shape):
        with head_ablation(model, layer, head):
            rise[layer, head] = token_losses(model, ids).mean() - whole
    return {"sentence": SENTENCE, "weights": weights, "rise": rise}


def looks(state):
    found = measured("heads")
    layer, head, place = (int(state[name]) for name in ("layer", "head", "place"))
    row = found["weights"][layer - 1][head - 1][place - 1]
    return found, layer, head, place, row


@interactive(
    "heads",
    states=[
        {"layer": "2"},
        {"layer": "3", "head": "4", "place": 56},
        {"layer": "1", "head": "2", "place": 1},
        {"layer": "2", "head": "3", "place": 30},
    ],
)
def heads_model(state):
    found, layer, head, place, row = looks(state)
    back = sum(weight * (place - 1 - i) for i, weight in enumerate(row)) / max(1, sum(row))
    return {
        "row": row,
        "most": int(np.argmax(row)) + 1,
        "back": back,
        "rise": found["rise"],
        "without": found["rise"][layer - 1][head - 1],
    }


@figure("heads")
def heads(plt):
    state = {"layer": 1, "head": 3, "place": 40}
    found, layer, head, place, row = looks(state)
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.8, 3.3), width_ratios=[1.5, 1])
    per_line = 14
    for i, character in enumerate(SENTENCE):
        x, y = i % per_line, -(i // per_line)
        share = row[i] / max(row) if i < place else 0
        left.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, lw=0,
                                     facecolor=plt.get_cmap("Blues")(0.8 * share)))  # fmt: skip
        if i == place - 1:
            left.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, lw=2))
        color = "white" if share > 0.7 else "#1a1a1a" if i < place else COLORS["grey"]
        left.text(x, y, name_of(character), ha="center", va="center", color=color, fontsize=11)
    left.set_xlim(-0.6, per_line - 0.4)
    left.set_ylim(-(len(SENTENCE) // per_line) + 0.4, 0.6)
    left.set_aspect("equal")
    left.axis("off")
    left.set_title(f"layer {layer}, head {head}: where the outlined place looks", fontsize=10)
    rise = np.array(found["rise"])
    names = [f"{i + 1}.{j + 1}" for i, j in np.ndindex(*rise.shape)]
    colors = [COLORS[("blue", "green", "vermillion")[i]] for i, _ in np.ndindex(*rise.shape)]
    right.barh(range(rise.size), rise.ravel(), color=colors)
    for i, nats in enumerate(rise.ravel()):
        right.text(nats + 0.03, i, f"{nats:.2f}", va="center", fontsize=8.5)
    right.set_xlim(0, 1.18 * rise.max())
    right.set_yticks(range(rise.size), names, fontsize=8.5)
    right.invert_yaxis()
    right.set_xlabel("loss rises by (nats)")
    right.set_title("without head", fontsize=10)
    return fig


# ---- stored numbers in the interactive figures -------------------------------------------------


def embed():
    """Write what was measured into the one line of each module that holds it."""
    for name in ("sampler", "heads"):
        path = Path(__file__).parent / "gpt" / f"{name}.js"
        numbers = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        line = f"const STORED = {json.dumps(numbers, ensure_ascii=False, separators=(',', ':'))};"
        lines = path.read_text(encoding="utf-8").split("\n")
        at = next(i for i, old in enumerate(lines) if old.startswith("const STORED = "))
        lines[at] = line
        path.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    embed()
