"""Networks that read scanned digits, and the same scans moved by one pixel."""

from __future__ import annotations

from functools import cache

import numpy as np

from chainrule.architectures.cnns import Conv2d, Flatten, MaxPool2d, ReLU, shift
from chainrule.claims.runs import Found, train
from chainrule.neural_networks.backpropagation import Linear, Module, Sequential, Tensor, no_grad
from chainrule.shapes import Array
from chainrule.training.loss_functions import cross_entropy
from chainrule.training.optimizers import warmup_linear

STEPS, BATCH = 150, 50
WAYS = ((1, 0), (-1, 0), (0, 1), (0, -1))


def measure(variant: str, rate: float, seed: int, steps: int = STEPS) -> Found:
    """Train on scans as they are or, "moved", each moved by up to a pixel both ways."""
    images, labels, (known, held, fresh) = _scans()
    rng = np.random.default_rng(seed)
    net = _network(variant.startswith("convolutional"), rng)
    draw, moves = np.random.default_rng([seed, 1]), variant.endswith("moved")

    def loss() -> Tensor:
        rows = draw.choice(known, BATCH, replace=False)
        x = _moved(images[rows], draw) if moves else images[rows]
        return cross_entropy(net(Tensor(x)), labels[rows])

    def falls(step: int, rate: float, steps: int) -> float:
        return warmup_linear(step, rate, max(1, steps // 20), steps)

    train(net.parameters(), loss, rate, steps, falls)
    ways = ((0, 0), *WAYS) if moves else ((0, 0),)
    chosen = [_loss(net, shift(images[held], *way), labels[held]) for way in ways]
    still = _right(net, images[fresh], labels[fresh])
    away = [_right(net, shift(images[fresh], *way), labels[fresh]) for way in WAYS]
    return float(np.mean(chosen)), {"still": still, "one pixel": float(np.mean(away))}


@cache
def _scans() -> tuple[Array, Array, list[Array]]:
    """Scans (n, 1, 8, 8) between 0 and 1, their labels, and 1,000 + 300 + 497 row numbers."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))
    return images, labels, np.split(order, [1000, 1300])


def _network(convolutional: bool, rng: np.random.Generator) -> Module:
    if not convolutional:
        layers = Linear(64, 64, rng=rng), ReLU(), Linear(64, 10, rng=rng)
        return Sequential(Flatten(), *layers)
    first, second = (Conv2d(c, m, 3, padding=1, rng=rng) for c, m in ((1, 16), (16, 32)))
    last = Linear(128, 10, rng=rng)
    return Sequential(
        first, ReLU(), MaxPool2d(2), second, ReLU(), MaxPool2d(2), Flatten(), last
    )  # fmt: skip


def _moved(images: Array, rng: np.random.Generator) -> Array:
    amounts, out = rng.integers(-1, 2, size=(len(images), 2)), np.empty_like(images)
    for down, right in np.ndindex(3, 3):
        some = (amounts == (down - 1, right - 1)).all(axis=1)
        out[some] = shift(images[some], down - 1, right - 1)
    return out


def _loss(net: Module, images: Array, labels: Array) -> float:
    with no_grad():
        return float(cross_entropy(net(Tensor(images)), labels).data)


def _right(net: Module, images: Array, labels: Array) -> float:
    with no_grad():
        return 100 * float((net(Tensor(images)).data.argmax(axis=1) == labels).mean())
