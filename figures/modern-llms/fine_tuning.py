"""Figures of modern-llms/fine-tuning.md: the course's GPT, adapted, and what it forgot."""

from __future__ import annotations

import copy
import itertools
from functools import cache
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.data.corpus import frozen_corpus
from chainrule.data.spans import KINDS, labelled_spans
from chainrule.modern_llms.fine_tuning import (
    ClassifierHead,
    accuracy,
    confusion_matrix,
    ewc_penalty,
    few_shot_prompt,
    fine_tune,
    fisher_diagonal,
    freeze,
    interpolate,
    language_kl,
    language_loss,
    paired_bootstrap,
    predict,
    replay_mixer,
    task_loss,
)
from chainrule.neural_networks.backpropagation import no_grad
from chainrule.transformers.gpt import GPT, load_course_gpt, token_losses

ROOT = Path(__file__).parents[2]
EACH = (4, 16, 64)
SEEDS = range(5)
STEPS = {"full": 60, "scratch": 120}
HEAD_RATE = 1e-2
RATES = {"full": (1e-4, 3e-4, 1e-3, 3e-3), "scratch": (3e-4, 1e-3, 3e-3, 1e-2)}
POOLS = {"full": ("mean",), "scratch": ("mean", "last")}


def best(kind):
    """Learning rate and pooling with the best accuracy on the validation documents."""
    found = measured("rates")
    return max(
        itertools.product(RATES[kind], POOLS[kind]),
        key=lambda pair: found[f"{kind} {pair[1]}"][RATES[kind].index(pair[0])],
    )


# ---- the task ----------------------------------------------------------------------------------


@cache
def base():
    """The course's GPT and its alphabet; never trained here, only copied."""
    return load_course_gpt(ROOT / "models")


@cache
def part(name):
    """Spans of a part of the split, their tokens."""
    spans = labelled_spans(name)
    return spans, encoded(spans)


def encoded(spans):
    return np.stack([base()[1].encode(text) for text in spans.texts])


@cache
def old_text():
    """Prose that the model has never read, to measure what is left of its language."""
    corpus = frozen_corpus()
    beginnings = [corpus.documents[name][:3400] for name in corpus.names("test")]
    return base()[1].encode("".join(beginnings))


@cache
def read_text():
    return base()[1].encode(frozen_corpus().text("train"))


def fresh(seed=None, how="mean"):
    """A classifier on a copy of the model, or on one with random weights."""
    body = base()[0]
    if seed is None:
        return ClassifierHead(copy.deepcopy(body), len(KINDS), how).eval()
    return ClassifierHead(GPT(body.config, np.random.default_rng(seed)).eval(), len(KINDS), how)


def trained(each, seed, lr, kind="full", how=None, steps=None, start=None, groups=None, wrap=None):
    """Train on a few spans of each kind. ``wrap`` changes the loss, ``start`` sets the head."""
    rng = np.random.default_rng(seed)
    model = fresh(seed if kind == "scratch" else None, how or best(kind)[1])
    few = part("train")[0].few(each, rng)
    if start is not None:
        for parameter, value in zip(model.head.parameters(), start, strict=True):
            parameter.data[...] = value
    if groups is None:
        rate = lr if kind == "scratch" else HEAD_RATE if start is None else lr
        chosen = [{"params": list(model.head.parameters()), "lr": rate},
                  {"params": list(model.body.parameters())}]  # fmt: skip
    else:
        chosen = groups(model)
    loss = task_loss(model, encoded(few), few.labels, rng)
    fine_tune(chosen, loss if wrap is None else wrap(model, loss, rng), lr, steps or STEPS[kind])
    return model


def counts_of(model, name="test"):
    spans, ids = part(name)
    return confusion_matrix(spans.labels, predict(model, ids).argmax(axis=1), len(KINDS))


def probe(each, seed, features):
    """Weight and bias of the best head on fixed features, by scikit-learn; and the counts."""
    spans = part("train")[0]
    rng = np.random.default_rng(seed)
    place = {text: i for i, text in enumerate(spans.texts)}
    few = spans.few(each, rng)
    train = features["train"][[place[text] for text in few.texts]]
    middle, spread = train.mean(axis=0), train.std(axis=0) + 1e-6
    fitted = LogisticRegression(C=0.1, max_iter=3000).fit((train - middle) / spread, few.labels)
    weight = fitted.coef_ / spread
    bias = fitted.intercept_ - weight @ middle
    predicted = (features["test"] @ weight.T + bias).argmax(axis=1)
    return weight, bias, confusion_matrix(part("test")[0].labels, predicted, len(KINDS))


def features_of(model):
    found = {}
    with no_grad():
        for name in ("train", "test"):
            rows = np.array_split(part(name)[1], 12)
            found[name] = np.concatenate([model.features(some).data for some in rows]).astype(float)
    return found


def tfidf(few, tests, classes=None):
    """Predictions of a logistic regression on weighted counts of one to three characters."""
    cut = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True, lowercase=False)
    fitted = LogisticRegression(C=10, max_iter=3000).fit(cut.fit_transform(few[0]), few[1])
    return fitted.predict(cut.transform(tests))


# ---- rates, chosen on the validation documents -------------------------------------------------


@measurement("rates", absolute=0.08, seconds=110)
def measure_rates():
    found = {}
    for kind in RATES:
        for how in POOLS[kind]:
            found[f"{kind} {how}"] = [
                np.mean([accuracy(counts_of(trained(16, 100 + s, lr, kind, how), "validation"))
                         for s in range(2)])
                for lr in RATES[kind]
            ]  # fmt: skip
    return found


# ---- accuracy by number of labels --------------------------------------------------------------


@measurement("labels", absolute={"accuracy": 0.06, "loss": 0.5, "first": 25}, seconds=195)
def measure_labels():
    own, random = features_of(fresh()), features_of(fresh(0))
    tests = part("test")[0]
    methods = ("scratch", "random probe", "probe", "full", "probe, then full", "tf-idf")
    found = {m: [[0.0] * len(SEEDS) for _ in EACH] for m in methods}
    losses = {m: [[0.0] * len(SEEDS) for _ in EACH] for m in ("full", "probe, then full")}
    first = {}
    for (i, each), seed in itertools.product(enumerate(EACH), SEEDS):
        few = part("train")[0].few(each, np.random.default_rng(seed))
        answers = tfidf((few.texts, few.labels), tests.texts)
        weight, bias, probed = probe(each, seed, own)
        models = {
            "full": trained(each, seed, best("full")[0]),
            "probe, then full": trained(each, seed, best("full")[0], start=(weight, bias)),
            "scratch": trained(each, seed, best("scratch")[0], "scratch"),
        }
        counts = {m: counts_of(model) for m, model in models.items()}
        counts["probe"], counts["random probe"] = probed, probe(each, seed, random)[2]
        counts["tf-idf"] = confusion_matrix(tests.labels, answers, len(KINDS))
        for method, table in counts.items():
            found[method][i][seed] = accuracy(table)
        for method in losses:
            losses[method][i][seed] = token_losses(models[method].body, old_text()).mean()
        if each == 16 and seed == 0:
            tuned = predict(models["full"], part("test")[1]).argmax(axis=1)
            first = {
                "counts": {m: table.tolist() for m, table in counts.items()},
                "tf-idf right": (answers == tests.labels).astype(int).tolist(),
                "full right": (tuned == tests.labels).astype(int).tolist(),
            }
    return {"accuracy": found, "loss": losses, "first": first,
            "before": token_losses(base()[0], old_text()).mean()}  # fmt: skip


@measurement("four", absolute=0.08, seconds=70)
def measure_four():
    """Four labels a class at a lower and a higher rate, with a new head and after a probe."""
    own = features_of(fresh())
    found = {}
    for lr in (1e-4, 1e-3):
        starts = [None, *(probe(4, seed, own)[:2] for seed in SEEDS)]
        for name in ("full", "probe, then full"):
            found[f"{name} {lr:g}"] = [
                accuracy(counts_of(trained(4, seed, lr, start=starts[seed + 1]
                                           if name != "full" else None)))
                for seed in SEEDS
            ]  # fmt: skip
    return found


# ---- what is gained, what is lost --------------------------------------------------------------

REPLAY = (0.5,)
STRENGTHS = (30.0, 1e4)
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8)
LEARNED = RATES["full"][:3]
HIGH = 1e-3
"""The rate of the runs that are held back."""


def judged(model):
    """Accuracy on the new task, loss on old prose, divergence from the base on the new task."""
    rows = part("test")[1][::4]
    return [accuracy(counts_of(model)), token_losses(model.body, old_text()).mean(),
            language_kl(base()[0], model.body, rows)]  # fmt: skip


def replayed(weight):
    return lambda model, loss, rng: replay_mixer(
        loss, language_loss(model.body, read_text(), rng), weight
    )


def anchored(strength, fisher):
    anchor = {name: value.copy() for name, value in base()[0].state_dict().items()}

    def wrap(model, loss, rng):
        return lambda: loss() + ewc_penalty(model.body, anchor, fisher, strength)

    return wrap


def fisher_of_old():
    rng = np.random.default_rng(0)
    starts = rng.integers(0, len(read_text()) - 64, size=(200, 1))
    return fisher_diagonal(copy.deepcopy(base()[0]), read_text()[starts + np.arange(64)], rng)


def only_the_top(model):
    for name in ("body.tokens*", "body.positions*", "body.blocks.0.*", "body.blocks.1.*"):
        freeze(model, name)
    return [{"params": list(model.head.parameters()), "lr": HEAD_RATE},
            {"params": list(model.body.parameters())}]  # fmt: skip


@measurement("frontier", absolute={"plain": 0.8, "held": 0.8}, seconds=210)
def measure_frontier():
    fisher = fisher_of_old()
    start = base()[0].state_dict()
    runs = {f"rate {lr:g}": {"lr": lr} for lr in LEARNED}
    runs |= {f"replay {w:g}": {"lr": HIGH, "wrap": replayed(w)} for w in REPLAY}
    runs |= {f"EWC {s:g}": {"lr": HIGH, "wrap": anchored(s, fisher)} for s in STRENGTHS}
    runs["top block"] = {"lr": HIGH, "groups": only_the_top}
    plain, held = {}, {}
    for name, options in runs.items():
        rows = []
        for seed in SEEDS:
            model = trained(16, seed, **options)
            rows.append(judged(model))
            if name == f"rate {HIGH:g}":
                end = {n: v.copy() for n, v in model.body.state_dict().items()}
                for t in SHARES:
                    model.body.load_state_dict(interpolate(start, end, t))
                    held.setdefault(f"way {t:g}", []).append(judged(model))
        (plain if name.startswith("rate") else held)[name] = rows
        print(name, np.round(np.mean(rows, axis=0), 3), flush=True)
    return {"plain": plain, "held": held}


# ---- a task that does not fit ------------------------------------------------------------------

PASSAGE = 128


@cache
def topics():
    """Passages of every second document that the model was trained on, labelled with it.

    The first seven tenths of each document are for learning, the rest for the test.
    """
    found = {"train": ([], []), "test": ([], [])}
    corpus = frozen_corpus()
    for label, name in enumerate(corpus.names("train")[::2]):
        text = corpus.documents[name]
        for i in range(len(text) // PASSAGE):
            piece = text[i * PASSAGE : (i + 1) * PASSAGE]
            where = "train" if i < 0.7 * (len(text) // PASSAGE) else "test"
            found[where][0].append(piece)
            found[where][1].append(label)
    return {k: (texts, np.array(labels)) for k, (texts, labels) in found.items()}


TOPIC_RATES = (1e-4, 3e-4, 1e-3)


@measurement("topics", absolute=0.08, seconds=130)
def measure_topics():
    (texts, labels), (tests, truth) = topics()["train"], topics()["test"]
    tests, truth = tests[::2], truth[::2]
    classes = int(labels.max()) + 1
    encode = base()[1].encode
    test_ids = np.stack([encode(text) for text in tests])
    found = {"tf-idf": [], **{f"rate {lr:g}": [] for lr in TOPIC_RATES}}
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        rows = np.concatenate(
            [rng.choice(np.flatnonzero(labels == k), 16, False) for k in range(classes)]
        )
        some = [texts[i] for i in rows]
        found["tf-idf"].append(np.mean(tfidf((some, labels[rows]), tests) == truth))
        ids = np.stack([encode(text) for text in some])
        for lr in TOPIC_RATES:
            model = ClassifierHead(copy.deepcopy(base()[0]), classes).eval()
            groups = [{"params": list(model.head.parameters()), "lr": HEAD_RATE},
                      {"params": list(model.body.parameters())}]  # fmt: skip
            loss = task_loss(model, ids, labels[rows], np.random.default_rng(seed))
            fine_tune(groups, loss, lr, 90)
            right = predict(model, test_ids).argmax(axis=1) == truth
            found[f"rate {lr:g}"].append(np.mean(right))
    return {"accuracy": found, "classes": classes, "tests": len(truth)}


# ---- asking without training -------------------------------------------------------------------

LETTERS = "PCMT"
SHORT = 16


@measurement("prompts", absolute=0.08, seconds=20)
def measure_prompts():
    """Four solved examples in the prompt: how often the answer is right, how often it turns.

    ``most`` is the share of the letter that is named most often after one prompt.
    """
    model, tokenizer = base()
    examples, tests = part("train")[0], part("test")[0]
    orders = list(itertools.permutations(range(4)))[::4]
    chosen = tests.few(100, np.random.default_rng(9))
    right, turned, most = [], [], []
    for seed in SEEDS:
        few = examples.few(1, np.random.default_rng(seed))
        solved = [(t[:SHORT], LETTERS[k]) for t, k in zip(few.texts, few.labels, strict=True)]
        answers = []
        for order in orders:
            prompts = [few_shot_prompt([solved[i] for i in order], text[:SHORT], "->")
                       for text in chosen.texts]  # fmt: skip
            ids = np.stack([tokenizer.encode(prompt) for prompt in prompts])
            with no_grad():
                scores = model(ids).data[:, -1, tokenizer.encode(LETTERS)]
            answers.append(scores.argmax(axis=1))
            right.append(float(np.mean(answers[-1] == chosen.labels)))
            most.append(float(np.bincount(answers[-1], minlength=4).max() / len(chosen)))
        turned.append(float(np.mean([len(set(column)) > 1 for column in np.transpose(answers)])))
    return {"right": right, "turned": turned, "most": most, "tests": len(chosen)}


# ---- drawing -----------------------------------------------------------------------------------

LOOKS = {
    "scratch": ("from scratch", "grey", "s", ":"),
    "probe": ("probe", "orange", "^", "-."),
    "full": ("full", "blue", "o", "-"),
    "probe, then full": ("probe, then full", "green", "D", "-"),
    "tf-idf": ("tf-idf, no network", "vermillion", "v", "--"),
}


@figure("labels")
def labels(plt):
    found = measured("labels")["accuracy"]
    fig, ax = plt.subplots(figsize=(7.2, 4.2))
    for k, (method, (name, color, mark, dash)) in enumerate(LOOKS.items()):
        runs = np.array(found[method])
        x = np.array(EACH) * 1.05 ** (k - 2)
        mean = runs.mean(axis=1)
        bars = np.abs(np.array([runs.min(axis=1), runs.max(axis=1)]) - mean)
        ax.errorbar(x, mean, bars, fmt=mark, ls=dash, color=COLORS[color], capsize=3, label=name)
    ax.set_xscale("log")
    ax.set_xticks(EACH, EACH)
    ax.minorticks_off()
    ax.set_xlabel("labels a class")
    ax.set_ylabel("accuracy on unseen pages")
    ax.legend(loc="lower right")
    return fig


FAMILIES = {
    "rate": ("full, three rates", "blue", "o"),
    "replay": ("replay", "green", "D"),
    "EWC": ("EWC", "orange", "^"),
    "way": ("part of the way", "vermillion", "s"),
    "top": ("top block only", "black", "P"),
}


@figure("frontier")
def frontier(plt):
    found = measured("frontier")
    points = {**found["plain"], **found["held"]}
    fig, axes = plt.subplots(1, 2, figsize=(7.6, 3.9))
    for family, (name, color, mark) in FAMILIES.items():
        rows = np.array([np.mean(r, axis=0) for n, r in points.items() if n.split()[0] == family])
        rows = rows[np.argsort(rows[:, 1])]
        line = "-" if family == "way" else "none"
        for ax, (x, y) in zip(axes, ((1, 0), (2, 1)), strict=True):
            ax.plot(rows[:, x], rows[:, y], mark, ls=line, lw=1, ms=6, color=COLORS[color],
                    label=name)  # fmt: skip
    axes[0].set_xlabel("loss on old prose (nats)")
    axes[0].set_ylabel("accuracy on the new task")
    axes[1].set_xlabel("divergence on the new task (nats)")
    axes[1].set_ylabel("loss on old prose (nats)")
    fig.legend(*axes[0].get_legend_handles_labels(), ncols=3, loc="outside lower center")
    return fig


@measurement("resampled", absolute=30, seconds=2)
def measure_resampled():
    """Counts of differences, in bins of five tests, for paired draws and for separate ones."""
    first = measured("labels")["first"]
    a, b = (np.array(first[f"{name} right"]) for name in ("tf-idf", "full"))
    rng = np.random.default_rng(0)
    paired = paired_bootstrap(a, b, rng).draws
    n = len(a)
    apart = np.array([b[rng.integers(0, n, n)].mean() - a[rng.integers(0, n, n)].mean()
                      for _ in range(len(paired))])  # fmt: skip
    middle = 5 * np.arange(-28, 29)
    edges = np.append(middle - 2.5, middle[-1] + 2.5) / n
    return {
        "middle": middle * 1000 / n,
        "paired": np.histogram(paired, edges)[0],
        "apart": np.histogram(apart, edges)[0],
        "ends": np.quantile(paired, [0.025, 0.975]) * 1000,
        "wide": np.quantile(apart, [0.025, 0.975]) * 1000,
        "won": [int(np.sum(a > b)), int(np.sum(b > a))],
    }


@figure("bootstrap")
def bootstrap(plt):
    found = measured("resampled")
    fig, ax = plt.subplots(figsize=(7.2, 3.6))
    places = np.array(found["middle"]) / 10
    looks = (("apart", "wide", "orange", "separate draws"), ("paired", "ends", "blue", "paired"))
    for k, (name, ends, color, label) in enumerate(looks):
        ax.bar(places, found[name], 0.47, color=COLORS[color], alpha=0.55, label=label)
        low, high = np.array(found[ends]) / 10
        y = -25 - 30 * k
        ax.plot([low, high], [y, y], "|-", color=COLORS[color], lw=3, ms=10)
    ax.axvline(0, color=COLORS["grey"], lw=1, ls="--")
    used = np.array(found["apart"]) + np.array(found["paired"]) > 0
    ax.set_xlim(places[used].min() - 1, places[used].max() + 1)
    ax.set_xlabel("accuracy of the tuned model minus that of tf-idf (points)")
    ax.set_yticks([0, 200, 400])
    ax.set_ylabel("resamples of 2,000")
    ax.legend()
    return fig


DEFAULT = {"spam": 10, "found": 40, "kept": 95}


def mails(state):
    """Expected counts among 1,000 mails, and the four measures."""
    spam = 10 * state["spam"]
    good = 1000 - spam
    hit, kept = spam * state["found"] / 100, good * state["kept"] / 100
    counts = np.array([[kept, good - kept], [spam - hit, hit]])
    a, b, c, d = counts.ravel()
    root = np.sqrt((a + b) * (c + d) * (a + c) * (b + d))
    return counts, {
        "accuracy": (a + d) / 1000,
        "balanced accuracy": (a / (a + b) + d / (c + d)) / 2,
        "F1 of spam": 2 * d / (2 * d + b + c) if d else 0.0,
        "MCC": (a * d - b * c) / root if root > 0 else 0.0,
    }


@interactive(
    "confusion",
    states=[{"spam": 1}, {"spam": 50, "found": 0, "kept": 100}, {"found": 100, "kept": 3}],
)
def confusion_model(state):
    counts, values = mails(state)
    return {"counts": counts.ravel(), "values": list(values.values())}


@figure("confusion")
def confusion(plt):
    counts, values = mails(DEFAULT)
    fig, (table, _, bars) = plt.subplots(1, 3, figsize=(7.4, 3.0), width_ratios=(1, 0.32, 1.1))
    _.axis("off")
    for i, j in np.ndindex(2, 2):
        color = COLORS["sky"] if i == j else COLORS["orange"]
        table.add_patch(plt.Rectangle((j + 0.03, i + 0.03), 0.94, 0.94, color=color, alpha=0.6))
        table.text(j + 0.5, i + 0.5, f"{counts[i, j]:.0f}", ha="center", va="center", fontsize=13)
    table.set_xlim(0, 2)
    table.set_ylim(2, 0)
    table.set_xticks([0.5, 1.5], ["called good", "called spam"])
    table.set_yticks([0.5, 1.5], ["good", "spam"])
    table.spines[:].set_visible(False)
    table.tick_params(length=0)
    for k, (name, value) in enumerate(values.items()):
        bars.barh(k, value, color=COLORS["blue"])
        bars.text(value + 0.02, k, f"{value:.3f}", va="center")
        bars.text(-0.03, k, name, ha="right", va="center")
    bars.set_yticks([])
    bars.invert_yaxis()
    bars.set_xlim(0, 1.15)
    bars.set_xticks([0, 0.5, 1])
    return fig
