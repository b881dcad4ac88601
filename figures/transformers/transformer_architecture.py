"""Figures of transformers/transformer-architecture.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.neural_networks.backpropagation import Module, Tensor, no_grad
from chainrule.training.loss_functions import cross_entropy
from chainrule.training.optimizers import AdamW
from chainrule.transformers.transformer_architecture import (
    GPT2_SMALL,
    MoE,
    Transformer,
    TransformerConfig,
    count_flops,
    count_params,
    parameter_table,
)

# ---- reversing and sorting ---------------------------------------------------------------------

PAD, EDGE, FIRST, LETTERS = 0, 1, 2, 6
TASKS = ("reverse", "sort")


def examples(rng, count, task, longest):
    """Words of 4 to ``longest`` letters, what the decoder reads, and what it should write.

    An edge ends the source and the target, and begins what the decoder reads.
    """
    lengths = rng.integers(4, longest + 1, count)
    source = np.full((count, lengths.max() + 1), PAD)
    target = source.copy()
    for row, n in enumerate(lengths):
        letters = rng.integers(FIRST, FIRST + LETTERS, n)
        source[row, :n], source[row, n] = letters, EDGE
        target[row, :n] = letters[::-1] if task == "reverse" else np.sort(letters)
        target[row, n] = EDGE
    read = np.concatenate([np.full((count, 1), EDGE), target[:, :-1]], axis=1)
    return source, read, target


def configuration(depth, **changes):
    settings = {
        "vocab_size": FIRST + LETTERS, "width": 64, "heads": 4, "encoder_layers": depth,
        "decoder_layers": depth, "positions": "sinusoidal", "scaled": True, "context": 16,
    }  # fmt: skip
    return TransformerConfig(**(settings | changes))


def scores(model, source, read):
    mask = (source != PAD)[:, None, None, :]
    return model(source, read, mask, None, mask)


def exact(model, task, longest):
    """The share of 1,000 fresh words that come out right as a whole.

    Each letter is asked for with the right letters before it. A word without a mistake is the one
    that the model would write alone.
    """
    source, read, target = examples(np.random.default_rng(99), 1000, task, longest)
    with no_grad():
        guess = scores(model.eval(), source, read).data.argmax(axis=-1)
    return float(((guess == target) | (target == PAD)).all(axis=1).mean())


def train(model, task, rate, seed, steps, longest):
    """Train on 64 fresh words a step at a constant rate, and return the loss of every step."""
    rng = np.random.default_rng(1000 + seed)
    optimizer = AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    losses = []
    for _ in range(steps):
        source, read, target = examples(rng, 64, task, longest)
        loss = cross_entropy(scores(model, source, read), np.where(target == PAD, -100, target))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.data))
    return losses


# ---- depth: before, after, or nowhere -----------------------------------------------------------

DEPTHS, RATES, SEEDS = (1, 6), (0.001, 0.003, 0.01), 5
PLACES = ("pre", "post", "none")
STEPS, SHORT = 200, 8


def one_depth(depth, place, rate, seed):
    """The share of right words of 4 to 8 letters, after 200 steps at one rate."""
    cfg = configuration(depth, norm_place=place, width=32)
    model = Transformer(cfg, np.random.default_rng(seed))
    with np.errstate(over="ignore", invalid="ignore"):
        train(model, "reverse", rate, seed, STEPS, SHORT)
        return exact(model, "reverse", SHORT)


BANDS = {"mean": 0.35, "lowest": 0.6, "highest": 0.6}  # a single seed may turn out either way


def spread(shares):
    """Mean, lowest and highest over the last axis, which holds the seeds."""
    shares = np.array(shares)
    return {"mean": shares.mean(-1), "lowest": shares.min(-1), "highest": shares.max(-1)}


@measurement("depth", absolute=BANDS, seconds=500)
def measure_depth():
    """Share of right words by place of the norm, depth and rate, over five seeds."""
    shares = [
        [
            [[one_depth(depth, place, rate, seed) for seed in range(SEEDS)] for rate in RATES]
            for depth in DEPTHS
        ]
        for place in PLACES
    ]
    return {"places": PLACES, "depths": DEPTHS, "rates": RATES, **spread(shares)}


# ---- parts: take one away ------------------------------------------------------------------------


class Nothing(Module):
    """A branch that adds nothing."""

    def forward(self, x):
        """Return zeros."""
        return x * 0


def whole(seed, **changes):
    return Transformer(configuration(1, width=32, **changes), np.random.default_rng(seed))


def without_positions(seed):
    return whole(seed, positions="none")


def without_feed_forward(seed):
    model = whole(seed)
    for block in (*model.encoder.blocks, *model.decoder.blocks):
        block.feed_forward = Nothing()
    return model


def without_residual(seed):
    model = whole(seed)
    for block in (*model.encoder.blocks, *model.decoder.blocks):
        block._add = lambda x, norm, after, branch: branch(norm(x))
    return model


PARTS = {
    "nothing": whole,
    "positions": without_positions,
    "feed-forward layers": without_feed_forward,
    "residual connections": without_residual,
}
PART_RATES = (0.003, 0.006)


def one_part(part, task, rate, seed):
    model = PARTS[part](seed)
    train(model, task, rate, seed, 400, SHORT)
    return exact(model, task, SHORT)


@measurement("parts-rates", absolute=0.5, seconds=65)
def measure_parts_rates():
    """The share of right words of seed 100, for every rate."""
    found = {"rates": PART_RATES}
    for part in PARTS:
        found[part] = {
            task: [one_part(part, task, rate, 100) for rate in PART_RATES] for task in TASKS
        }
    return found


@measurement("parts", absolute=BANDS, seconds=160)
def measure_parts():
    """Share of right words by part and task, over five seeds, at each one's better rate."""
    tried = measured("parts-rates")
    shares = []
    for part in PARTS:
        rates = [tried["rates"][int(np.argmax(tried[part][task]))] for task in TASKS]
        shares.append(
            [
                [one_part(part, task, rate, seed) for seed in range(SEEDS)]
                for task, rate in zip(TASKS, rates, strict=True)
            ]
        )
    return {"parts": tuple(PARTS), "tasks": TASKS, **spread(shares)}


# ---- drawings of both ----------------------------------------------------------------------------


@figure("depth")
def depth(plt):
    found = measured("depth")
    fig, axes = plt.subplots(1, 2, figsize=(7.8, 3.4), sharey=True)
    looks = (
        ("blue", "o", "before the branch"),
        ("vermillion", "s", "after the sum"),
        ("grey", "D", "nowhere"),
    )
    for place, (ax, blocks) in enumerate(zip(axes, found["depths"], strict=True)):
        for number, (color, marker, label) in enumerate(looks):
            mean, low, high = (np.array(found[name])[number, place] for name in BANDS)
            x = np.arange(3) + 0.09 * (number - 1)
            look = {"color": COLORS[color], "marker": marker, "ms": 5, "capsize": 3, "lw": 1.4}
            ax.errorbar(x, mean, [mean - low, high - mean], label=label, **look)
        ax.set_xticks(range(3), [f"{rate:g}" for rate in found["rates"]])
        ax.set_xlabel("learning rate")
        ax.set_title(f"{blocks} + {blocks} block{'s' if blocks > 1 else ''}", fontsize=11)
        ax.set_ylim(-0.03, 1.03)
    axes[0].set_ylabel("share of words right")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3,
               fontsize=9)  # fmt: skip
    return fig


@figure("parts")
def parts(plt):
    found = measured("parts")
    fig, ax = plt.subplots(figsize=(7.4, 3.4))
    for number, (task, color) in enumerate((("reverse", "blue"), ("sort", "orange"))):
        mean, low, high = (np.array(found[name])[:, number] for name in BANDS)
        x = np.arange(len(PARTS)) + 0.4 * (number - 0.5)
        ax.bar(x, mean, 0.38, color=COLORS[color], label=task)
        ax.errorbar(x, mean, [mean - low, high - mean], fmt="none", ecolor=COLORS["black"],
                    capsize=3, lw=1)  # fmt: skip
        for place, height, top in zip(x, mean, high, strict=True):
            ax.text(place, top + 0.02, f"{height:.0%}", ha="center", fontsize=9)
    ax.set_xticks(range(len(PARTS)), [part.replace(" ", "\n") for part in PARTS])
    ax.set_xlabel("taken away")
    ax.set_ylabel("share of words right")
    ax.set_yticks(np.linspace(0, 1, 6))
    ax.set_ylim(0, 1.28)
    ax.legend(ncols=2, loc="upper right")
    return fig


# ---- experts -------------------------------------------------------------------------------------


@measurement("experts", absolute={"before": 0.02, "after": 0.1, "largest": 0.1}, seconds=2)
def measure_experts():
    """Loads of 16 experts, 2 for each token, in units of the fair share, and the largest."""
    rng = np.random.default_rng(0)
    moe = MoE(32, 8, 16, 2, balance="bias", rng=rng, dtype=float)
    moe.router.weight.data = rng.standard_normal((16, 32)) * 0.25
    shift = 0.7 * rng.standard_normal(32)
    loads = []
    for _ in range(500):
        moe(Tensor(rng.standard_normal((512, 32)) + shift))
        loads.append(16 * moe.load)
        moe.update_bias(0.001)
    loads = np.array(loads)
    return {
        "before": np.sort(loads[:20].mean(axis=0))[::-1],
        "after": np.sort(loads[-20:].mean(axis=0))[::-1],
        "largest": loads.max(axis=1).reshape(-1, 20).mean(axis=1),
    }


@figure("experts")
def experts(plt):
    found = measured("experts")
    fig, axes = plt.subplots(1, 2, figsize=(7.6, 3.2), width_ratios=[1.5, 1])
    places = np.arange(1, 17)
    axes[0].bar(places - 0.2, found["before"], 0.4, color=COLORS["vermillion"], label="at first")
    axes[0].bar(places + 0.2, found["after"], 0.4, color=COLORS["blue"], label="after 500 updates")
    axes[0].set_xlabel("expert, busiest first")
    axes[0].set_ylabel("load, fair share = 1")
    axes[0].set_xticks([1, 4, 8, 12, 16])
    axes[0].legend()
    steps = 20 * np.arange(len(found["largest"])) + 10
    axes[1].plot(steps, found["largest"], color=COLORS["blue"])
    axes[1].set_xlabel("update")
    axes[1].set_ylabel("largest load")
    axes[1].set_ylim(0, 1.1 * max(found["largest"]))
    for ax in axes:
        ax.axhline(1, color=COLORS["grey"], linestyle=":", linewidth=1)
    return fig


# ---- shares --------------------------------------------------------------------------------------


@figure("shares")
def shares(plt):
    fig, axes = plt.subplots(1, 2, figsize=(7.8, 3.6))
    widths = 2 ** np.arange(6, 14)
    tables = []
    for d in widths:
        cfg = TransformerConfig(50_257, int(d), 1, decoder_layers=12, context=1024)
        parts = parameter_table(cfg)
        whole = count_params(cfg)
        outside = parts["token embedding"] + parts["position embedding"]
        tables.append([outside / whole, parts["attention"] / whole, parts["feed-forward"] / whole])
    colors = [COLORS["green"], COLORS["vermillion"], COLORS["orange"]]
    axes[0].stackplot(widths, np.array(tables).T, colors=colors, alpha=0.8, linewidth=0)
    axes[0].set_xscale("log", base=2)
    axes[0].set_xticks(widths[::2], [f"{d:,}" for d in widths[::2]])
    axes[0].set_xlabel("width d")
    axes[0].set_ylabel("share of the parameters")
    for x, y, words in (
        (90, 0.4, "tables"),
        (2600, 0.17, "attention"),
        (1400, 0.7, "feed-forward"),
    ):
        axes[0].text(x, y, words, fontsize=10)

    lengths = 2 ** np.arange(6, 17)
    layers, d = 12, 768
    costs = []
    for n in lengths:
        whole = count_flops(GPT2_SMALL, int(n)) / n
        parts = 2 * 50_257 * d, 8 * layers * d**2, 16 * layers * d**2, 4 * layers * n * d
        costs.append(np.array(parts) / whole)
    colors = [COLORS["green"], COLORS["vermillion"], COLORS["orange"], COLORS["blue"]]
    axes[1].stackplot(lengths, np.array(costs).T, colors=colors, alpha=0.8, linewidth=0)
    axes[1].set_xscale("log", base=2)
    axes[1].set_xticks(lengths[::3], [f"{n:,}" for n in lengths[::3]])
    axes[1].set_xlabel("tokens of text, width 768")
    axes[1].set_ylabel("share of the operations")
    for x, y, words in (
        (80, 0.1, "scores of words"), (80, 0.36, "weights of attention"),
        (80, 0.7, "feed-forward"), (9000, 0.75, "pairs"),
    ):  # fmt: skip
        axes[1].text(x, y, words, fontsize=10)
    for ax in axes:
        ax.set_ylim(0, 1)
        ax.margins(0)
        ax.grid(False)
    return fig


# ---- the block diagram ---------------------------------------------------------------------------

PAGE = "transformers/transformer-architecture.md"


@interactive(
    "block",
    states=[
        {"width": 1600, "blocks": 48, "heads": 25, "groups": 25, "inside": 6400},
        {
            "kind": "Llama", "width": 4096, "blocks": 32, "heads": 32, "groups": 8, "size": "128",
            "inside": 14336, "words": 128256, "tokens": 8192,
        },
        {"kind": "Llama", "heads": 30, "groups": 7, "tokens": 5},
    ],
)  # fmt: skip
def block_model(state):
    old = state["kind"] == "GPT-2"
    heads, size = int(state["heads"]), int(state["size"])
    shared = max(g for g in range(1, min(int(state["groups"]), heads) + 1) if heads % g == 0)
    cfg = TransformerConfig(
        int(state["words"]), int(state["width"]), heads, shared, size,
        decoder_layers=int(state["blocks"]), hidden=int(state["inside"]),
        feed_forward="gelu_tanh" if old else "swiglu", norm="layer" if old else "rms", bias=old,
        positions="learned" if old else "rope", tied=old, context=int(state["tokens"]),
    )  # fmt: skip
    parts, layers = parameter_table(cfg), cfg.decoder_layers
    norm = parts["norm"] // (2 * layers + 1)
    attention, feed_forward = parts["attention"] // layers, parts["feed-forward"] // layers
    return {
        "shared": shared,
        "queries": heads * size,
        "table": parts["token embedding"],
        "places": parts["position embedding"],
        "norm": norm,
        "attention": attention,
        "feedForward": feed_forward,
        "block": attention + feed_forward + 2 * norm,
        "scores": parts["output"],
        "total": count_params(cfg),
        "operations": count_flops(cfg, cfg.context) / cfg.context,
        "links": {
            "table": f"{PAGE}#into-the-stream-and-out-of-it",
            "places": "transformers/self-attention.md#"
            + ("a-table-to-be-learned" if old else "rotary-positions-rope"),
            "norm": f"{PAGE}#before-or-after",
            "last": "neural-networks/regularization.md#"
            + ("layer-normalization-for-transformers" if old else "is-the-mean-worth-subtracting"),
            "attention": "transformers/multi-head-attention.md"
            "#multiple-attention-heads-in-parallel",
            "mask": "transformers/self-attention.md#masking-for-autoregressive-models",
            "feedForward": f"{PAGE}#" + ("the-feed-forward-layer" if old else "gates"),
            "sum": f"{PAGE}#the-row-that-everything-adds-to",
            "scores": f"{PAGE}#into-the-stream-and-out-of-it",
            "guess": "math-foundations/probability.md#softmax-as-probability-distribution",
        },
    }


@figure("block")
def block(plt):
    fig, ax = plt.subplots(figsize=(7.0, 8.4))
    ax.set_xlim(0, 10)
    ax.set_ylim(0, 16.6)
    ax.axis("off")
    bus, side = 2.5, 7.0
    parts = parameter_table(GPT2_SMALL)

    def box(x, y, words, color, width=4.3, height=1.1):
        corner, look = (x - width / 2, y - height / 2), {"facecolor": "white", "linewidth": 1.8}
        patch = plt.Rectangle(corner, width, height, zorder=3, edgecolor=COLORS[color], **look)
        ax.add_patch(patch)
        ax.text(x, y, words, ha="center", va="center", fontsize=9.5, zorder=4)

    def arrow(start, end):
        ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "lw": 1.3, "color": "#555555"})

    def plus(y):
        ax.plot([bus], [y], "o", ms=17, mfc="white", mec=COLORS["blue"], mew=2, zorder=4)
        ax.text(bus, y - 0.02, "+", ha="center", va="center", fontsize=13, zorder=5)

    def shape(x, y, words, side="right"):
        ax.text(x, y, words, ha=side, va="center", fontsize=9, color=COLORS["blue"])

    ax.add_patch(plt.Rectangle((0.15, 3.6), 9.7, 9.1, facecolor="#f4f4f4", edgecolor="none"))
    ax.text(9.6, 12.35, "× 12", ha="right", fontsize=12, fontweight="bold")
    ax.plot([bus, bus], [0.9, 15.6], color=COLORS["blue"], lw=6, zorder=1, solid_capstyle="butt")
    ax.text(bus, 0.25, "1,024 word numbers", ha="center", va="center", fontsize=9.5)
    box(bus, 1.25, f"table of words\n{parts['token embedding']:,}", "green")
    box(side, 2.75, f"table of places\n{parts['position embedding']:,}", "green")
    arrow((side - 2.15, 2.75), (bus + 0.3, 2.75))
    plus(2.75)
    for base, name, inside, color, count in (
        (4.2, "attention", "12 heads of 64, scores (12, 1,024, 1,024)", "vermillion",
         parts["attention"] // 12),
        (8.6, "feed-forward", "inside (1,024, 3,072)", "orange", parts["feed-forward"] // 12),
    ):  # fmt: skip
        arrow((bus, base + 0.2), (side - 2.15, base + 0.2))
        box(side, base + 0.2, f"norm {2 * 768:,}", "grey", height=0.7)
        arrow((side, base + 0.55), (side, base + 1.25))
        shape(side + 0.2, base + 0.9, "(1,024, 768)", "left")
        box(side, base + 1.85, f"{name} {count:,}\n{inside}", color, width=5.3, height=1.2)
        ax.plot([side, side], [base + 2.45, base + 3.25], color="#555555", lw=1.3)
        arrow((side, base + 3.25), (bus + 0.3, base + 3.25))
        shape(side + 0.2, base + 2.85, "(1,024, 768)", "left")
        plus(base + 3.25)
        shape(bus - 0.3, base + 1.85, "(1,024, 768)")
    box(bus, 13.3, f"norm {2 * 768:,}", "grey", height=0.7)
    box(bus, 14.65, "scores\nthe table of words again", "green")
    ax.annotate("", (bus, 16.1), (bus, 15.2), arrowprops={"arrowstyle": "-|>", "lw": 5,
                "color": COLORS["blue"], "mutation_scale": 18})  # fmt: skip
    shape(bus + 0.35, 15.75, "(1,024, 50,257)", "left")
    return fig
