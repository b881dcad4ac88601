"""Figures of transformers/multi-head-attention.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.figures import COLORS, figure, interactive
from chainrule.data.sentence import SENTENCE, W_K, W_Q, embed
from chainrule.math_foundations.probability import softmax
from chainrule.transformers.multi_head_attention import (
    CacheConfig,
    InductionCircuit,
    MultiHeadAttention,
    attention_maps,
    head_ablation,
    kv_bytes_per_token,
)

HEADS = ("blue", "vermillion")


def shades(plt, low, high):
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shades", [low, "white", high])


def table(ax, numbers, texts, cmap, limit, size=9.0):
    """Draw a small matrix with its numbers, the sentence along both sides."""
    ax.imshow(numbers, cmap=cmap, vmin=-limit, vmax=limit)
    for i, row in enumerate(numbers):
        for j, number in enumerate(row):
            dark = abs(number) > 0.62 * limit
            ax.text(j, i, texts(number), ha="center", va="center", fontsize=size,
                    color="white" if dark else "#1a1a1a")  # fmt: skip
    ax.set_xticks(range(5), SENTENCE, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(5), SENTENCE)
    ax.tick_params(length=0, labelsize=8.5)
    ax.spines[:].set_visible(False)


@figure("two-heads")
def two_heads(plt):
    X = embed()
    Q, K = X @ W_Q.T, X @ W_K.T
    products = [Q[:, half] @ K[:, half].T for half in (slice(0, 2), slice(2, 4))]
    products.append(products[0] + products[1])
    weights = [softmax(p / np.sqrt(d)) for p, d in zip(products, (2, 2, 4), strict=True)]
    cmap = shades(plt, COLORS["vermillion"], COLORS["blue"])
    fig, axes = plt.subplots(2, 3, figsize=(7.6, 5.6))
    names = ("head 1: by word class", "head 2: who bites", "their sum: 2 × the scores")
    for ax, product, name in zip(axes[0], products, names, strict=True):
        table(ax, product, lambda n: f"{n:.0f}".replace("-", "−"), cmap, 6)
        ax.set_title(name, fontsize=10)
    below = ("weights of head 1", "weights of head 2", "weights of one wide head")
    for ax, weight, name in zip(axes[1], weights, below, strict=True):
        table(ax, weight, lambda n: f"{n:.2f}", cmap, 1, size=8.5)
        ax.set_title(name, fontsize=10)
    axes[0, 0].set_ylabel("dot products", fontsize=10)
    axes[1, 0].set_ylabel("after the softmax", fontsize=10)
    for ax, sign in zip(axes[0, 1:], ("+", "="), strict=True):
        ax.text(-0.42, 0.5, sign, transform=ax.transAxes, fontsize=15, ha="center", va="center")
    return fig


# ---- one number or two -------------------------------------------------------------------------


def keys_and_weights(size, query, sharpness, keys):
    """Keys on a line or round a clock, the query times its sharpness, products and weights."""
    if size == 1:
        places = np.linspace(-1, 1, keys)[:, None]
    else:
        turns = 2 * np.pi * np.arange(keys) / keys
        places = np.stack([np.sin(turns), np.cos(turns)], axis=1)
    products = places @ (sharpness * np.array(query[:size], float))
    return places, products, softmax(products / np.sqrt(size))


@figure("line-and-circle")
def line_and_circle(plt):
    query = (0.3, 0.95)
    fig, axes = plt.subplots(2, 2, figsize=(7.2, 5.2), height_ratios=[1.8, 1])
    for column, (size, title) in enumerate(((1, "one number a head"), (2, "two numbers a head"))):
        places, _, weights = keys_and_weights(size, query, 6, 5)
        ax, bars = axes[:, column]
        x, y = places[:, 0], (places[:, 1] if size == 2 else 0 * places[:, 0])
        arrow = {"arrowstyle": "-|>", "lw": 1.8, "color": "black"}
        if size == 1:
            ax.plot([-1.2, 1.2], [0, 0], color=COLORS["light"], lw=1.5, zorder=0)
            ax.annotate("", (0.36, 0.3), (0, 0.3), arrowprops=arrow)
            ax.plot([0, 0], [0.2, 0.4], color="black", lw=1)
            ax.text(0.45, 0.3, "query", va="center")
        else:
            turn = np.linspace(0, 2 * np.pi, 200)
            ax.plot(np.cos(turn), np.sin(turn), color=COLORS["light"], lw=1.5, zorder=0)
            ax.annotate("", (0.8 * query[0], 0.8 * query[1]), (0, 0), arrowprops=arrow)
            ax.text(0.24, 0.3, "query", va="center")
        best = int(weights.argmax())
        for i in range(5):
            color = COLORS["vermillion"] if i == best else COLORS["blue"]
            ax.plot(x[i], y[i], "o", color=color, ms=9)
            away = (0, -0.27) if size == 1 else (0.25 * x[i], 0.25 * y[i])
            ax.text(x[i] + away[0], y[i] + away[1], str(i + 1), ha="center", va="center")
            bars.bar(i + 1, weights[i], color=color, width=0.6)
            bars.text(i + 1, weights[i] + 0.04, f"{weights[i]:.2f}", ha="center", fontsize=9)
        ax.set_title(title)
        ax.set_xlim(-1.5, 1.5)
        ax.set_ylim(-1.4, 1.4)
        ax.set_aspect("equal")
        ax.axis("off")
        bars.set_ylim(0, 1.2)
        bars.set_yticks([0, 0.5, 1])
        bars.set_xticks(range(1, 6))
        bars.set_xlabel("key")
    axes[1, 0].set_ylabel("weight")
    return fig


@interactive(
    "line-and-circle",
    states=[
        {"size": "1"},
        {"query": [-0.7, 0.4], "sharpness": 20},
        {"size": "1", "query": [-0.05, 1.2], "keys": 9},
        {"keys": 3, "query": [0, 1], "sharpness": 10},
    ],
)
def line_and_circle_model(state):
    places, products, weights = keys_and_weights(
        int(state["size"]), state["query"], state["sharpness"], int(state["keys"])
    )
    return {"keys": places, "products": products, "weights": weights}


# ---- addresses ---------------------------------------------------------------------------------


def cells(plt, ax, left, top, rows):
    """Draw rows of labelled cells, coloured by head."""
    for i, row in enumerate(rows):
        for j, (token, number) in enumerate(row):
            x, y, color = left + j, top - i, COLORS[HEADS[number // 4]]
            ax.add_patch(plt.Rectangle((x, y), 0.92, 0.92, facecolor=color, alpha=0.85, lw=0))
            ax.text(x + 0.46, y + 0.46, f"{token}{number + 1}", color="white",
                    ha="center", va="center", fontsize=9)  # fmt: skip


@figure("index-flow")
def index_flow(plt):
    tokens = [[(token, number) for number in range(8)] for token in "ab"]
    fig, ax = plt.subplots(figsize=(7.6, 3.7))
    ax.text(0, 2.15, "2 tokens of width 8", fontsize=10)
    cells(plt, ax, 0, 0.9, tokens)
    right = [[row[0:4] for row in tokens], [row[4:8] for row in tokens]]
    wrong = [[tokens[h][0:4], tokens[h][4:8]] for h in (0, 1)]
    for top, blocks, words in (
        (3.3, right, "cut, then move: right"),
        (-1.9, wrong, "reshape alone: wrong"),
    ):
        for h, block in enumerate(blocks):
            cells(plt, ax, 12 + 5.2 * h, top, block)
            ax.text(12 + 5.2 * h, top + 1.15, f"“head {h + 1}”" if top < 0 else f"head {h + 1}",
                    fontsize=10)  # fmt: skip
        ax.text(12, top - 1.65, words, fontsize=10)
        arrow = {"arrowstyle": "-|>", "color": COLORS["grey"], "lw": 1.2}
        ax.annotate("", (11.7, top + 0.1), (8.3, 1.0), arrowprops=arrow)
    ax.set_xlim(-0.3, 22)
    ax.set_ylim(-4.0, 5.4)
    ax.set_aspect("equal")
    ax.axis("off")
    return fig


# ---- heads that copy ---------------------------------------------------------------------------


def heat(ax, weights, title):
    ax.imshow(weights, cmap="Blues", vmin=0, vmax=1)
    n = len(weights)
    ax.set_title(title, fontsize=10)
    ax.set_xticks([0, n // 2, n - 1], [1, n // 2 + 1, n])
    ax.set_yticks([0, n // 2, n - 1], [1, n // 2 + 1, n])
    for spine in ax.spines.values():
        spine.set_visible(True)
        spine.set_color(COLORS["light"])


@figure("induction")
def induction(plt):
    n, vocabulary = 12, 30
    once = np.random.default_rng(0).permutation(vocabulary)[:n]
    ids = np.concatenate([once, once])[None]
    circuit = InductionCircuit(vocabulary, 2 * n)
    first, second = (weights[0, 0] for weights in attention_maps(circuit, ids))
    logits = 8 * circuit(ids).data[0, :-1]
    losses = -np.log(softmax(logits)[np.arange(2 * n - 1), ids[0, 1:]])
    fig, axes = plt.subplots(1, 3, figsize=(7.8, 2.9), width_ratios=[1, 1, 1.25])
    heat(axes[0], first, "layer 1: one place back")
    heat(axes[1], second, "layer 2: what followed")
    axes[0].set_ylabel("place that looks")
    for ax in axes[:2]:
        ax.set_xlabel("place looked at")
    ax = axes[2]
    ax.plot(np.arange(1, 2 * n), losses, "o-", color=COLORS["vermillion"], ms=4)
    ax.axvline(n + 0.5, color=COLORS["grey"], lw=1, ls=":")
    ax.text(n + 1, 6.6, "second\ncopy", fontsize=9)
    ax.axhline(np.log(vocabulary), color=COLORS["blue"], lw=1, ls="--", zorder=0)
    ax.text(n + 1, np.log(vocabulary) + 0.2, f"1 of {vocabulary}", fontsize=9, color=COLORS["blue"])
    ax.set_xticks([1, n + 1, 2 * n])
    ax.set_ylim(0, 8.4)
    ax.set_xlabel("place")
    ax.set_title("loss of the next token, nats", fontsize=10)
    return fig


def two_heads_a_layer(vocabulary, context):
    """The circuit with a second head in each layer that looks alike and writes nothing."""
    circuit = InductionCircuit(vocabulary, context)
    for name in ("first", "second"):
        one = getattr(circuit, name)
        two = MultiHeadAttention(
            one.d, 2, bias=False, causal=True, d_head=one.d_head,
            rng=np.random.default_rng(0), dtype=float,
        )  # fmt: skip
        q, k, v = one.qkv.weight.data.reshape(3, one.d_head, one.d)
        two.qkv.weight.data = np.concatenate([q, q, k, k, v, 0 * v])
        two.out.weight.data = np.concatenate(2 * [one.out.weight.data], axis=1)
        setattr(circuit, name, two)
    return circuit


@figure("ablation")
def ablation(plt):
    n, vocabulary = 12, 20
    rng = np.random.default_rng(0)
    texts = np.stack([np.tile(rng.permutation(vocabulary)[:n], 2) for _ in range(50)])
    circuit = two_heads_a_layer(vocabulary, 2 * n)
    maps = attention_maps(circuit, texts[:1])

    def right():
        guess = circuit(texts).data[:, n:-1]
        return np.take_along_axis(guess, texts[:, n + 1 :, None], axis=2).mean()

    fig = plt.figure(figsize=(7.6, 3.4))
    grid = fig.add_gridspec(2, 3, width_ratios=[1, 1, 2.1])
    bars = fig.add_subplot(grid[:, 2])
    rows = [("nothing silenced", right(), "grey")]
    for layer in (0, 1):
        for head in (0, 1):
            ax = fig.add_subplot(grid[layer, head])
            heat(ax, maps[layer][0, head], f"layer {layer + 1}, head {head + 1}")
            ax.set_xticks([])
            ax.set_yticks([])
            with head_ablation(circuit, layer, head):
                rows.append((f"without layer {layer + 1}, head {head + 1}", right(), HEADS[head]))
    for i, (name, value, color) in enumerate(rows):
        bars.barh(i, value, color=COLORS[color], height=0.4)
        bars.text(0.01, i - 0.4, name, fontsize=9, va="center")
        bars.text(value + 0.02, i, f"{100 * value:.0f} %", fontsize=9, va="center")
    bars.set_ylim(len(rows) - 0.6, -0.8)
    bars.set_xlim(0, 1.15)
    bars.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    bars.set_yticks([])
    bars.set_xlabel("weight on the right next token, second copy")
    return fig


# ---- caches ------------------------------------------------------------------------------------


@figure("who-shares")
def who_shares(plt):
    fig, axes = plt.subplots(1, 4, figsize=(7.8, 2.7))
    layouts = (("MHA", 8), ("GQA", 2), ("MQA", 1), ("MLA", 0))
    for ax, (name, groups) in zip(axes, layouts, strict=True):
        ax.set_title(name)
        for h in range(8):
            ax.plot(h, 2.2, "o", color=COLORS["blue"], ms=7)
        if groups:
            for g in range(groups):
                middle = (g + 0.5) * 8 / groups - 0.5
                for row, label in ((0.9, "k"), (0.1, "v")):
                    ax.add_patch(plt.Rectangle((middle - 0.36, row - 0.36), 0.72, 0.72,
                                           facecolor=COLORS["vermillion"], lw=0))  # fmt: skip
                    ax.text(middle, row, label, color="white", ha="center", va="center",
                            fontsize=8)  # fmt: skip
                for h in range(g * 8 // groups, (g + 1) * 8 // groups):
                    ax.plot([h, middle], [2.02, 1.28], color=COLORS["grey"], lw=0.9, zorder=0)
            kept = "1 key, 1 value" if groups == 1 else f"{groups} keys, {groups} values"
        else:
            for h in range(8):
                ax.add_patch(plt.Rectangle((h - 0.3, 0.75), 0.6, 0.6, facecolor="white",
                                       edgecolor=COLORS["grey"], lw=0.9, ls=":"))  # fmt: skip
                ax.plot([h, h], [2.02, 1.37], color=COLORS["grey"], lw=0.9, zorder=0)
                ax.plot([h, 3.5], [0.73, 0.42], color=COLORS["grey"], lw=0.9, zorder=0)
            ax.add_patch(plt.Rectangle((1.6, -0.3), 3.8, 0.7, facecolor=COLORS["vermillion"], lw=0))
            ax.text(3.5, 0.04, "latent", color="white", ha="center", va="center", fontsize=9)
            kept = "1 latent, 1 small key"
            ax.add_patch(plt.Rectangle((5.7, -0.3), 0.8, 0.7, facecolor=COLORS["vermillion"], lw=0))
        ax.text(3.5, -1.15, kept, ha="center", fontsize=9)
        ax.set_xlim(-0.8, 7.8)
        ax.set_ylim(-1.6, 2.9)
        ax.axis("off")
    axes[0].text(-0.8, 2.75, "queries", fontsize=8.5, color=COLORS["blue"])
    return fig


def cache_layouts(layers, heads, groups, d_head, rank, rope, element):
    """Bytes of one token under the four layouts."""
    shared = {"element": element}
    return {
        "MHA": kv_bytes_per_token(CacheConfig(layers, heads, d_head, **shared)),
        "GQA": kv_bytes_per_token(CacheConfig(layers, groups, d_head, **shared)),
        "MQA": kv_bytes_per_token(CacheConfig(layers, 1, d_head, **shared)),
        "MLA": kv_bytes_per_token(
            CacheConfig(layers, kv_rank=rank, rope_dim=rope, **shared)
        ),
    }  # fmt: skip


@figure("cache")
def cache(plt):
    sizes = cache_layouts(80, 64, 8, 128, 512, 64, 2)
    names = ("MHA: 64 heads", "GQA: 8 groups", "MQA: 1 head", "MLA: 512 + 64")
    fig, ax = plt.subplots(figsize=(7.2, 2.7))
    for i, size in enumerate(sizes.values()):
        ax.barh(i, size / 1e3, color=COLORS["blue"], height=0.6)
        ax.text(size / 1e3 * 1.08, i, f"{size / 1e3:,.0f} kB; {80e9 // size:,.0f} tokens in 80 GB",
                va="center", fontsize=9.5)  # fmt: skip
    ax.set_yticks(range(4), names)
    ax.invert_yaxis()
    ax.set_xscale("log")
    ax.set_xlim(10, 120_000)
    ax.set_xticks([10, 100, 1000], ["10", "100", "1,000"])
    ax.minorticks_off()
    ax.spines["bottom"].set_bounds(10, 4000)
    ax.set_xlabel("kilobytes that one token takes in the cache")
    ax.xaxis.set_label_coords(0.3, -0.2)
    return fig


@interactive(
    "cache",
    states=[
        {"heads": 128, "layers": 126, "groups": 3},
        {"layers": 1, "heads": 1, "groups": 64, "size": 16, "bytes": "4"},
        {"heads": 71, "groups": 6, "rank": 64, "rope": 0, "tokens": 1_000_000, "bytes": "1"},
    ],
)
def cache_model(state):
    heads = int(state["heads"])
    groups = max(g for g in range(1, int(state["groups"]) + 1) if heads % g == 0)
    sizes = cache_layouts(
        int(state["layers"]), heads, groups, int(state["size"]), int(state["rank"]),
        int(state["rope"]), int(state["bytes"]),
    )  # fmt: skip
    numbers = np.array(list(sizes.values()), float)
    return {
        "groups": groups,
        "bytes": numbers,
        "text": numbers * state["tokens"] / 1e9,
        "fit": np.floor(80e9 / numbers),
        "share": numbers / numbers[0],
    }
