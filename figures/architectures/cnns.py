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
    def forward(self, x):
        return blur_pool(x)


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


@measurement("shifts", absolute={"right": 0.04, "validation": 0.04}, seconds=150)
def measure_shifts():
    """Seven networks, each at the best of three rates on validation scans, five seeds, on tests."""
    images, labels, (known, held, fresh) = digit_scans()
    found = {"rates": {}, "right": {}, "validation": {}}
    for name, (kind, most) in NETWORKS.items():

        def trained(rate, seed, kind=kind, most=most):
            rng = np.random.default_rng(seed)
            net = network(kind, rng)
            train(net, images[known], labels[known], rate, rng, steps=800, batch=50, most=most)
            return net

        nets = {rate: trained(rate, 0) for rate in (0.002, 0.005, 0.012)}
        # What is augmented is chosen by moved scans too: that is what it is for.
        scores = {
            rate: float(np.mean(after_shifts(net, images[held], labels[held])[: most + 1]))
            for rate, net in nets.items()
        }
        best = max(scores, key=scores.get)
        found["rates"][name], found["validation"][name] = best, list(scores.values())
        found["right"][name] = [
            after_shifts(nets[best] if not seed else trained(best, seed), images[fresh],
                         labels[fresh])
            for seed in range(5)
        ]  # fmt: skip
        print(name, best, np.mean(found["right"][name], axis=0).round(3), flush=True)
    return found


DEPTHS = (8, 16, 32)
KINDS = {
    "plain, small weights": (False, False, "small"),
    "plain, He": (False, False, "he"),
    "plain, batch norm": (False, True, "he"),
    "residual, batch norm": (True, True, "he"),
}


def deep(depth, residual, norm, weights, rng):
    """A stem, depth / 2 blocks of two convolutions with 8 channels, a mean, one linear layer."""
    blocks = [
        ResidualBlock(8, 8, residual=residual, norm=norm, rng=rng) for _ in range(depth // 2)
    ]
    if weights == "small":  # PyTorch's default for a convolution
        for block in blocks:
            for layer in (block.conv1, block.conv2):
                layer.weight.data[...] = rng.uniform(-1, 1, layer.weight.shape) / 72**0.5
    stem = Conv2d(1, 8, 3, padding=1, rng=rng)
    return Sequential(stem, ReLU(), *blocks, _Mean(), Linear(8, 10, rng=rng))


@measurement("depth", absolute=0.3, relative=0.2, seconds=300)
def measure_depth():
    """Training loss after 120 steps, of four kinds and three depths, each at its best rate."""
    images, labels, (known, _, _) = digit_scans()
    images, labels = images[known[:500]], labels[known[:500]]
    found = {}
    for name, kind in KINDS.items():
        found[name] = {}
        for depth in DEPTHS:

            def final(rate, seed, kind=kind, depth=depth):
                rng = np.random.default_rng(seed)
                net = deep(depth, *kind, rng)
                losses = train(net, images, labels, rate, rng, steps=120, batch=50, decay=0.0)
                return float(np.mean(losses[-10:]))

            tried = {rate: final(rate, 0) for rate in (0.003, 0.01, 0.03)}
            best = min(tried, key=tried.get)
            losses = [tried[best], *(final(best, seed) for seed in range(1, 5))]
            found[name][str(depth)] = sorted(losses)
            print(name, depth, best, np.round(losses, 3), flush=True)
    return found


LAYERS = (1, 2, 4, 8, 16)


@measurement("reach", absolute=0.02, seconds=3)
def measure_reach():
    """Mean size of the gradient along the middle row, for stacks of 3 × 3 convolutions."""
    found = {}
    for layers in LAYERS:
        rng = np.random.default_rng(layers)
        net = Sequential(
            *(
                layer
                for i in range(layers)
                for layer in (Conv2d(1 if i == 0 else 16, 16, 3, padding=1, rng=rng), ReLU())
            )
        )
        images = rng.normal(size=(16, 1, 39, 39)).astype(np.float32)
        row = gradient_reach(net, images, (19, 19)).sum(axis=0)
        found[str(layers)] = row / row.max()
    return found
