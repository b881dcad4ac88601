"""One epoch of the same network on digits, in the words of each library.

64-64-10 with ReLU, softmax cross-entropy, plain SGD, 44 batches of 32 images, the same
weights to begin with and the same order of images. Before any time counts, the losses of the
first step must agree. micrograd works on single numbers, so one of its batches stands for 44.
"""

from __future__ import annotations

import importlib.metadata
import statistics
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from sklearn.datasets import load_digits

from benchmarks.timing import interleave, median_ratio

BATCH, BATCHES, RATE = 32, 44, 0.1
SIZES = (64, 64, 10)

Step = Callable[[np.ndarray, np.ndarray], float]


def data() -> list[tuple[np.ndarray, np.ndarray]]:
    """The batches of the epoch: images scaled to [0, 1], labels 0 to 9."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.data))[: BATCH * BATCHES]
    images = (digits.data[order] / 16).astype(np.float32)
    labels = digits.target[order]
    return [
        (images[i : i + BATCH], labels[i : i + BATCH]) for i in range(0, BATCH * BATCHES, BATCH)
    ]


def weights() -> list[np.ndarray]:
    """First and second weight, shape (inputs, outputs), and their zero biases."""
    rng = np.random.default_rng(1)
    arrays = []
    for n_in, n_out in pairwise(SIZES):
        arrays.append((rng.standard_normal((n_in, n_out)) * (2 / n_in) ** 0.5).astype(np.float32))
        arrays.append(np.zeros(n_out, np.float32))
    return arrays


def with_chainrule() -> Step:
    """This course's engine."""
    from chainrule.neural_networks.activation_functions import ReLU
    from chainrule.neural_networks.backpropagation import Linear, Sequential, Tensor
    from chainrule.training.loss_functions import cross_entropy
    from chainrule.training.optimizers import SGD

    rng = np.random.default_rng(0)
    first, second = Linear(64, 64, rng=rng), Linear(64, 10, rng=rng)
    for layer, w, b in zip((first, second), weights()[::2], weights()[1::2], strict=True):
        layer.weight.data[...], layer.bias.data[...] = w.T, b
    model = Sequential(first, ReLU(), second)
    optimizer = SGD(model.parameters(), lr=RATE)

    def step(images, labels):
        optimizer.zero_grad()
        loss = cross_entropy(model(Tensor(images)), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def with_pytorch() -> Step:
    """PyTorch, eager."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    with torch.no_grad():
        for layer, w, b in zip((model[0], model[2]), weights()[::2], weights()[1::2], strict=True):
            layer.weight.copy_(torch.from_numpy(w.T))
            layer.bias.copy_(torch.from_numpy(b))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

    def step(images, labels):
        optimizer.zero_grad()
        logits = model(torch.from_numpy(images))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels))
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def with_autograd() -> Step:
    """HIPS autograd: a function of its parameters, differentiated."""
    import autograd.numpy as anp
    from autograd import value_and_grad

    parameters = weights()

    def loss(parameters, images, labels):
        w1, b1, w2, b2 = parameters
        logits = anp.maximum(images @ w1 + b1, 0) @ w2 + b2
        logits = logits - anp.max(logits, axis=1, keepdims=True)
        log_p = logits - anp.log(anp.sum(anp.exp(logits), axis=1, keepdims=True))
        return -anp.mean(log_p[anp.arange(len(labels)), labels])

    differentiated = value_and_grad(loss)

    def step(images, labels):
        value, gradients = differentiated(parameters, images, labels)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= np.float32(RATE) * gradient
        return float(value)

    return step


def with_mygrad() -> Step:
    """MyGrad: tensors over NumPy."""
    import mygrad as mg
    from mygrad.nnet.activations import relu
    from mygrad.nnet.losses import softmax_crossentropy

    parameters = [mg.tensor(array) for array in weights()]

    def step(images, labels):
        w1, b1, w2, b2 = parameters
        loss = softmax_crossentropy(relu(images @ w1 + b1) @ w2 + b2, labels)
        loss.backward()
        for parameter in parameters:
            parameter.data -= np.float32(RATE) * parameter.grad
        return loss.item()

    return step


def with_tinygrad() -> Step:
    """tinygrad, its step compiled once (TinyJit) as its documentation advises."""
    from tinygrad import Context, Tensor, TinyJit, nn

    parameters = [Tensor(array) for array in weights()]
    optimizer = nn.optim.SGD(parameters, lr=RATE)

    @TinyJit
    def compiled(images, labels):
        w1, b1, w2, b2 = parameters
        optimizer.zero_grad()
        logits = (images @ w1 + b1).relu() @ w2 + b2
        loss = logits.sparse_categorical_crossentropy(labels)
        loss.backward()
        return loss.realize(*optimizer.schedule_step())

    def step(images, labels):
        with Context(TRAINING=1):
            return compiled(Tensor(images), Tensor(labels.astype(np.int32))).item()

    return step


def with_micrograd() -> Step:
    """micrograd: one node a number."""
    from micrograd.engine import Value

    w1, b1, w2, b2 = (
        [[Value(float(x)) for x in row] for row in np.atleast_2d(a)] for a in weights()
    )
    parameters = [value for rows in (w1, b1, w2, b2) for row in rows for value in row]

    def layer(x, w, b):
        return [
            sum((x_i * row[j] for x_i, row in zip(x, w, strict=True)), b[0][j])
            for j in range(len(w[0]))
        ]

    def step(images, labels):
        total = Value(0.0)
        for image, label in zip(images, labels, strict=True):
            logits = layer([h.relu() for h in layer(list(map(float, image)), w1, b1)], w2, b2)
            total = total + cross_entropy_of_values(logits, int(label))
        loss = total * (1 / len(labels))
        for parameter in parameters:
            parameter.grad = 0.0
        loss.backward()
        for parameter in parameters:
            parameter.data -= RATE * parameter.grad
        return loss.data

    def cross_entropy_of_values(logits, label):
        # micrograd has neither exp nor log, so the loss is one more kind of node.
        top = max(value.data for value in logits)
        exps = [np.exp(value.data - top) for value in logits]
        total = sum(exps)
        out = Value(np.log(total) + top - logits[label].data, tuple(logits), "cross_entropy")

        def backward():
            for j, value in enumerate(logits):
                value.grad += (exps[j] / total - (j == label)) * out.grad

        out._backward = backward
        return out

    return step


CONTESTANTS: dict[str, Callable[[], Step]] = {
    "chainrule": with_chainrule,
    "torch": with_pytorch,
    "autograd": with_autograd,
    "mygrad": with_mygrad,
    "tinygrad": with_tinygrad,
    "micrograd": with_micrograd,
}


def measure(rounds: int = 9) -> dict:
    """Milliseconds of process time an epoch (median), and how many times ours that is."""
    batches = data()
    steps: dict[str, Step] = {}
    left_out: dict[str, str] = {}
    expected = None
    for name, make in CONTESTANTS.items():
        try:
            step = make()
            losses = [step(*batch) for batch in batches[: 1 if name == "micrograd" else 4]]
        except Exception as error:  # a peer that this machine cannot run is named with its reason
            if name == "chainrule":
                raise
            left_out[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        expected = expected or losses
        if not np.allclose(losses, expected[: len(losses)], rtol=1e-4):
            raise RuntimeError(f"{name} computes another loss: {losses}, not {expected}")
        steps[name] = step

    def epoch(name: str) -> Callable[[], None]:
        def run() -> None:
            for batch in batches:
                steps[name](*batch)

        return run

    fast = {name: epoch(name) for name in steps if name != "micrograd"}
    seconds = interleave(fast, rounds, warm_up=2)
    if "micrograd" in steps:
        one = interleave({"micrograd": lambda: steps["micrograd"](*batches[0])}, 1, warm_up=0)
        seconds["micrograd"] = [one["micrograd"][0] * BATCHES] * rounds
    return {
        "rows": [
            {
                "library": name,
                "version": _version(name),
                "milliseconds": round(1e3 * statistics.median(times), 1),
                "times_ours": round(median_ratio(times, seconds["chainrule"]), 2),
            }
            for name, times in seconds.items()
        ],
        "left_out": left_out,
        "method": (
            f"process time of an epoch of {BATCHES} batches of {BATCH} images, engines in turn, "
            f"median of {rounds} rounds; micrograd works on single numbers, so one of its "
            f"batches was timed and counted {BATCHES} times"
        ),
    }


def _version(name: str) -> str:
    return importlib.metadata.version(name)
