"""Figures of architectures/cnns.md."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from chainrule.architectures.cnns import (
    Conv2d,
    Flatten,
    MaxPool2d,
    ReLU,
    ResidualBlock,
    blur_pool,
    conv_as_matrix,
    gradient_reach,
    max_pool2d,
    receptive_field,
    shift,
)
from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.neural_networks.backpropagation import Linear, Module, Sequential, Tensor, no_grad
from chainrule.training.loss_functions import cross_entropy
from chainrule.training.optimizers import AdamW, warmup_cosine

NETWORKS = {
    "MLP": ("mlp", 0),
    "CNN": ("cnn", 0),
    "CNN, blurred pooling": ("blur", 0),
    "CNN, mean over places": ("mean", 0),
    "MLP, moved scans": ("mlp", 2),
    "CNN, moved scans": ("cnn", 2),
    "CNN, mean, moved scans": ("mean", 2),
}
WAYS = ((1, 0), (-1, 0), (0, 1), (0, -1))


def digit_scans():
    """Scans (n, 1, 8, 8) between 0 and 1, their labels, and 1,000 + 300 + 497 row numbers."""
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))
    return images, labels, np.split(order, [1000, 1300])


class _Blur(Module):
    """Max pooling at every place, and only then the blur with stride 2."""

    def forward(self, x):
        return blur_pool(max_pool2d(x, 2, 1))


class _Mean(Module):
    def forward(self, x):
        return x.mean((2, 3))


def network(kind, rng):
    """One of four networks: logits of ten digits from scans of 8 × 8 pixels."""
    if kind == "mlp":
        first = Linear(64, 64, rng=rng)
        return Sequential(Flatten(), first, ReLU(), Linear(64, 10, rng=rng))
    first, second = (Conv2d(c, m, 3, padding=1, rng=rng) for c, m in ((1, 16), (16, 32)))
    if kind == "mean":
        return Sequential(
            first, ReLU(), MaxPool2d(2), second, ReLU(), _Mean(), Linear(32, 10, rng=rng)
        )
    pools = [_Blur(), _Blur()] if kind == "blur" else [MaxPool2d(2), MaxPool2d(2)]
    last = Linear(128, 10, rng=rng)
    return Sequential(first, ReLU(), pools[0], second, ReLU(), pools[1], Flatten(), last)


def moved(images, most, rng):
    """Each image shifted by its own whole numbers of pixels, from −most to most both ways."""
    amounts, out = rng.integers(-most, most + 1, size=(len(images), 2)), np.empty_like(images)
    for place in np.ndindex(2 * most + 1, 2 * most + 1):
        amount = np.array(place) - most
        some = (amounts == amount).all(axis=1)
        out[some] = shift(images[some], *amount)
    return out


def train(net, images, labels, rate, rng, steps, batch, most=0, decay=0.01):
    """AdamW with a cosine schedule; returns the losses of the steps."""
    optimizer, losses, order = AdamW(net.parameters(), lr=rate, weight_decay=decay), [], []
    for step in range(steps):
        if len(order) < batch:
            order = rng.permutation(len(images))
        rows, order = order[:batch], order[batch:]
        for group in optimizer.param_groups:
            group["lr"] = warmup_cosine(step, rate, steps // 20, steps)
        x = moved(images[rows], most, rng) if most else images[rows]
        loss = cross_entropy(net(Tensor(x)), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def right(net, images, labels):
    with no_grad():
        return float((net.eval()(Tensor(images)).data.argmax(axis=1) == labels).mean())


def after_shifts(net, images, labels):
    """Share of right answers after shifts by 0, 1, 2 and 3 pixels, mean over four directions."""
    return [
        np.mean([right(net, shift(images, n * a, n * b), labels) for a, b in WAYS])
        for n in range(4)
    ]


def _shifted(name):
    """Of one network: the best of three rates, their scores on validation scans, five results.

    What learns from moved scans is chosen by moved scans, too: that is what it is for.
    """
    images, labels, (known, held, fresh) = digit_scans()
    kind, most = NETWORKS[name]

    def trained(rate, seed):
        rng = np.random.default_rng(seed)
        net = network(kind, rng)
        train(net, images[known], labels[known], rate, rng, steps=500, batch=50, most=most)
        return net

    nets = {rate: trained(rate, 0) for rate in (0.003, 0.01, 0.03)}
    scores = {
        rate: float(np.mean(after_shifts(net, images[held], labels[held])[: most + 1]))
        for rate, net in nets.items()
    }
    best = max(scores, key=scores.get)
    chosen = [nets[best], *(trained(best, seed) for seed in range(1, 5))]
    results = [after_shifts(net, images[fresh], labels[fresh]) for net in chosen]
    return best, list(scores.values()), results


@measurement("shifts", absolute={"right": 0.15, "validation": 0.05, "rates": 0.03}, seconds=80)
def measure_shifts():
    """Seven networks on test scans that have moved, each at the best of three rates."""
    found = {"rates": {}, "validation": {}, "right": {}}
    for name in NETWORKS:
        found["rates"][name], found["validation"][name], found["right"][name] = _shifted(name)
    return found


DEPTHS = (8, 16, 32)
KINDS = {
    "plain, small weights": (False, False, "small"),
    "plain, He": (False, False, "he"),
    "plain, batch norm": (False, True, "he"),
    "residual, batch norm": (True, True, "he"),
}


def deep(depth, residual, norm, weights, rng):
    """A stem that halves, depth / 2 blocks of two convolutions, a mean, one linear layer."""
    blocks = [ResidualBlock(8, 8, residual=residual, norm=norm, rng=rng) for _ in range(depth // 2)]
    if weights == "small":  # PyTorch's default for a convolution
        for block in blocks:
            for layer in (block.conv1, block.conv2):
                layer.weight.data[...] = rng.uniform(-1, 1, layer.weight.shape) / 72**0.5
    stem = Conv2d(1, 8, 3, stride=2, padding=1, rng=rng)
    return Sequential(stem, ReLU(), *blocks, _Mean(), Linear(8, 10, rng=rng))


def _final_losses(name, depth):
    """Mean training loss of the last 10 of 120 steps, at the best of three rates: five seeds."""
    images, labels, (known, _, _) = digit_scans()
    images, labels = images[known[:500]], labels[known[:500]]

    def final(rate, seed):
        rng = np.random.default_rng(seed)
        net = deep(depth, *KINDS[name], rng)
        losses = train(net, images, labels, rate, rng, steps=120, batch=50, decay=0.0)
        return float(np.mean(losses[-10:]))

    tried = {rate: final(rate, 0) for rate in (0.003, 0.01, 0.03)}
    best = min(tried, key=tried.get)
    return [tried[best], *(final(best, seed) for seed in range(1, 5))]


@measurement("depth", absolute=0.3, relative=0.2, seconds=150)
def measure_depth():
    """Training losses of four kinds and three depths, each at its best rate."""
    return {name: {str(depth): _final_losses(name, depth) for depth in DEPTHS} for name in KINDS}


LAYERS = (1, 2, 4, 8, 16)


@measurement("reach", absolute=0.02, seconds=3)
def measure_reach():
    """Mean size of the gradient in each column, for stacks of 3 × 3 convolutions."""
    found = {}
    for layers in LAYERS:
        row = np.zeros(39)
        for seed in range(8):
            rng = np.random.default_rng(seed)
            stack = []
            for i in range(layers):
                stack += [Conv2d(16 if i else 1, 16, 3, padding=1, rng=rng), ReLU()]
            images = rng.normal(size=(8, 1, 39, 39)).astype(np.float32)
            reached = gradient_reach(Sequential(*stack), images, (19, 19)).sum(axis=0)
            row += reached / reached.sum()
        found[str(layers)] = row / row.max()
    return found


KERNELS = {
    "vertical edges": [[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]],
    "horizontal edges": [[-1, -1, -1], [0, 0, 0], [1, 1, 1]],
    "blur": [[1, 1, 1], [1, 1, 1], [1, 1, 1]],
    "points": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
}


def _pixels():
    """The scan that the interactive figure shows: whole numbers from 0 to 16, 8 × 8."""
    return load_digits().images[5].astype(int)


def _map(pixels, kernel, stride=1, padding=0):
    """The feature map as whole numbers."""
    wide = np.pad(pixels, padding)
    places = range(0, len(wide) - 2, stride)
    return np.array([[(kernel * wide[i : i + 3, j : j + 3]).sum() for j in places] for i in places])


@interactive(
    "kernel",
    states=[
        {"kernel": "blur"},
        {"kernel": "points", "row": 5, "column": 2},
        {"kernel": "horizontal edges", "stride": 2, "padding": 1},
        {"kernel": "vertical edges", "stride": 3, "row": 5, "column": 5},
    ],
)
def kernel_model(state):
    pixels, kernel = _pixels(), np.array(KERNELS[state["kernel"]])
    stride, padding = state["stride"], state["padding"]
    found = _map(pixels, kernel, stride, padding)
    row, column = (min(state[name], len(found) - 1) for name in ("row", "column"))
    wide = np.pad(pixels, padding)
    window = wide[row * stride : row * stride + 3, column * stride : column * stride + 3]
    return {
        "pixels": wide,
        "weights": kernel,
        "map": found,
        "row": row,
        "column": column,
        "products": window * kernel,
        "sum": found[row, column],
        "largest": max(abs(found).max(), 1),
    }


def _numbers(ax, values, title, low, high, cmap, size=8):
    ax.imshow(values, cmap=cmap, vmin=low, vmax=high)
    for (i, j), value in np.ndenumerate(np.asarray(values)):
        share = (value - low) / (high - low)
        dark = share > 0.6 if cmap == "Greys" else abs(share - 0.5) > 0.35
        text = f"{value:.0f}".replace("-", "−")
        ax.text(
            j, i, text, ha="center", va="center", fontsize=size, color="white" if dark else "black"
        )
    ax.set_title(title)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(True)
    ax.grid(visible=False)


@figure("kernel")
def kernel(plt):
    pixels, weights = _pixels(), np.array(KERNELS["vertical edges"])
    found = _map(pixels, weights)
    fig, axes = plt.subplots(1, 3, figsize=(7, 2.9), width_ratios=[8, 4, 6])
    _numbers(axes[0], pixels, "picture", 0, 16, "Greys")
    _numbers(axes[1], weights, "kernel", -3, 3, "RdBu", size=10)
    most = abs(found).max()
    _numbers(axes[2], found, "feature map", -1.3 * most, 1.3 * most, "RdBu")
    i, j = 2, 1
    frame = {"fill": False, "edgecolor": COLORS["orange"], "linewidth": 2.5}
    axes[0].add_patch(plt.Rectangle((j - 0.5, i - 0.5), 3, 3, **frame))
    axes[1].add_patch(plt.Rectangle((-0.5, -0.5), 3, 3, **frame))
    axes[2].add_patch(plt.Rectangle((j - 0.5, i - 0.5), 1, 1, **frame))
    return fig


@figure("columns")
def columns(plt):
    picture = np.array([[1, 2, 0], [0, 1, 3], [2, 0, 1]])
    weights = np.array([[1, -1, 0, 2]])
    colours = [COLORS[name] for name in ("blue", "orange", "green", "vermillion")]
    fig, axes = plt.subplots(1, 3, figsize=(7, 2.7), width_ratios=[3.4, 4.4, 4.6])

    def cell(ax, i, j, value, colour="white", strength=0.25):
        face = {"facecolor": colour, "alpha": strength} if colour != "white" else {"fill": False}
        ax.add_patch(plt.Rectangle((j, -i - 1), 1, 1, edgecolor="none", **face))
        ax.add_patch(
            plt.Rectangle((j, -i - 1), 1, 1, fill=False, edgecolor=COLORS["grey"], linewidth=0.7)
        )
        text = str(value).replace("-", "−")
        ax.text(j + 0.5, -i - 0.5, text, ha="center", va="center", fontsize=10)

    for (i, j), value in np.ndenumerate(picture):
        cell(axes[0], i, j, value)
    places = [(0, 0), (0, 1), (1, 0), (1, 1)]
    for number, ((i, j), colour) in enumerate(zip(places, colours, strict=True)):
        gap = 0.07 + 0.06 * number
        axes[0].add_patch(
            plt.Rectangle(
                (j + gap, -i - 2 + gap),
                2 - 2 * gap,
                2 - 2 * gap,
                fill=False,
                edgecolor=colour,
                linewidth=2,
            )
        )
        window = picture[i : i + 2, j : j + 2].ravel()
        for k, value in enumerate(window):
            cell(axes[1], k, number, value, colour)
        cell(axes[2], 0, number, int(weights[0] @ window), colour)
    for k, value in enumerate(weights[0]):
        cell(axes[2], 2, k, value)
    for ax, title, width in zip(
        axes, ("picture, four windows", "windows as columns", "feature map"), (3, 4, 4), strict=True
    ):
        ax.set_title(title)
        ax.set_xlim(-0.1, width + 0.1)
        ax.set_ylim(-4.1, 0.1)
        ax.set_aspect("equal")
        ax.axis("off")
    axes[2].text(2, -1.5, "= kernel · columns", ha="center", va="center", fontsize=10)
    axes[2].text(2, -3.4, "kernel", ha="center", va="center", fontsize=10)
    return fig


@figure("matrix")
def matrix(plt):
    T = conv_as_matrix(np.arange(1.0, 10).reshape(1, 1, 3, 3), (8, 8))
    fig, ax = plt.subplots(figsize=(6.4, 3.9))
    ax.imshow(np.where(T == 0, np.nan, T), cmap="viridis", interpolation="nearest")
    ax.set_xlabel("pixel, row by row")
    ax.set_ylabel("place of the kernel")
    ax.set_xticks(range(0, 64, 8))
    ax.set_yticks(range(0, 36, 6))
    ax.grid(visible=False)
    return fig


@figure("reach")
def reach(plt):
    found = measured("reach")
    fig, ax = plt.subplots(figsize=(6.6, 3.4))
    names = ("blue", "orange", "green", "vermillion", "black")
    for layers, name in zip(LAYERS, names, strict=True):
        row = np.array(found[str(layers)])
        distance = np.arange(len(row)) - len(row) // 2
        half = (receptive_field([(3, 1)] * layers).size - 1) / 2
        inside = abs(distance) <= half
        label = f"{layers} layer{'s' * (layers > 1)}: {2 * half + 1:.0f} pixels"
        ax.plot(distance[inside], row[inside], color=COLORS[name], linewidth=1.8, label=label)
        ax.plot([-half, half], [0, 0], "o", color=COLORS[name], markersize=5, clip_on=False)
    ax.set_xlabel("pixels from the middle")
    ax.set_ylabel("size of the gradient")
    ax.set_ylim(0, 1.05)
    ax.legend(loc="upper left", fontsize=8, title="receptive field", title_fontsize=8)
    return fig


@figure("shifts")
def shifts(plt):
    found = measured("shifts")["right"]
    looks = {
        "MLP": ("grey", "-", "one hidden layer"),
        "CNN": ("blue", "-", "convolutional"),
        "CNN, blurred pooling": ("green", "-", "convolutional, blurred pooling"),
        "CNN, mean over places": ("vermillion", "-", "convolutional, mean over places"),
        "MLP, moved scans": ("grey", "--", "one hidden layer, moved scans"),
        "CNN, moved scans": ("blue", "--", "convolutional, moved scans"),
        "CNN, mean, moved scans": ("vermillion", "--", "convolutional, mean, moved scans"),
    }
    fig, ax = plt.subplots(figsize=(6.8, 4.2))
    for number, (name, (colour, line, label)) in enumerate(looks.items()):
        runs = 100 * np.array(found[name])
        places = np.arange(4) + 0.03 * (number - 3)
        ax.plot(places, runs.mean(axis=0), line, color=COLORS[colour], linewidth=1.8, label=label)
        ax.vlines(places, runs.min(axis=0), runs.max(axis=0), color=COLORS[colour], linewidth=1.8)
    ax.axhline(10, color=COLORS["light"], linewidth=1, zorder=0)
    ax.set_xticks(range(4))
    ax.set_ylim(0, 102)
    ax.set_xlabel("shift in pixels")
    ax.set_ylabel("test scans right, percent")
    ax.legend(loc="lower left", fontsize=7.5)
    return fig


@figure("depth")
def depth(plt):
    found = measured("depth")
    looks = {
        "plain, small weights": ("grey", "s"),
        "plain, He": ("orange", "^"),
        "plain, batch norm": ("blue", "D"),
        "residual, batch norm": ("vermillion", "o"),
    }
    fig, ax = plt.subplots(figsize=(6.4, 3.5))
    for number, (name, (colour, form)) in enumerate(looks.items()):
        places = np.arange(len(DEPTHS)) + 0.06 * (number - 1.5)
        runs = np.array([found[name][str(each)] for each in DEPTHS])
        ax.vlines(places, runs.min(axis=1), runs.max(axis=1), color=COLORS[colour], linewidth=1.5)
        ax.plot(places, runs.mean(axis=1), color=COLORS[colour], marker=form, label=name)
    ax.axhline(np.log(10), color=COLORS["black"], linestyle="--", linewidth=1)
    ax.set_xticks(range(len(DEPTHS)), [f"{each} layers" for each in DEPTHS])
    ax.set_ylabel("training loss, nats")
    ax.set_ylim(0, 2.6)
    ax.legend(loc="lower right", bbox_to_anchor=(1, 0.06), fontsize=8)
    return fig
