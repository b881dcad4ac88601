"""Convolution and pooling beside PyTorch, and where the time goes.

Images of 32 × 32 pixels and 16 channels, one thread. Every operation runs forward and backward
with the same upstream gradient, composed of primitives, fused, and in PyTorch, in turn; before
any time counts, outputs and gradients must agree.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.timing import interleave, median_ratio

IMAGES, CHANNELS, SIDE = 16, 16, 32

Arrays = list[np.ndarray]
Run = Callable[[], Arrays]


def operations() -> dict[str, tuple[Arrays, Callable, Callable, Callable]]:
    """For each: its inputs, then the composed, the fused and PyTorch's version of it."""
    from torch.nn import functional as F

    from chainrule.architectures import cnns
    from chainrule.neural_networks.regularization import batch_norm, batch_norm_composed

    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    images, row = draw(IMAGES, CHANNELS, SIDE, SIDE), draw(IMAGES, CHANNELS, SIDE * SIDE)
    kernel, gain, shift = draw(CHANNELS, CHANNELS, 3, 3), draw(CHANNELS), draw(CHANNELS)
    each, across = draw(CHANNELS, 1, 3, 3), draw(CHANNELS, CHANNELS, 3)

    def composed1d(x: Any, w: Any, b: Any) -> Any:
        y = cnns.conv2d_composed(x.unsqueeze(2), w.unsqueeze(2), b, padding=(0, 1))
        return y.squeeze(2)

    return {
        "conv2d 3 × 3": (
            [images, kernel, shift],
            lambda *a: cnns.conv2d_composed(*a, padding=1),
            lambda *a: cnns.conv2d(*a, padding=1),
            lambda *a: F.conv2d(*a, padding=1),
        ),
        "conv2d 3 × 3, stride 2": (
            [images, kernel, shift],
            lambda *a: cnns.conv2d_composed(*a, stride=2, padding=1),
            lambda *a: cnns.conv2d(*a, stride=2, padding=1),
            lambda *a: F.conv2d(*a, stride=2, padding=1),
        ),
        "conv2d 3 × 3, depthwise": (
            [images, each, shift],
            lambda *a: cnns.conv2d_composed(*a, padding=1, groups=CHANNELS),
            lambda *a: cnns.conv2d(*a, padding=1, groups=CHANNELS),
            lambda *a: F.conv2d(*a, padding=1, groups=CHANNELS),
        ),
        "conv1d 3": (
            [row, across, shift],
            composed1d,
            lambda *a: cnns.conv1d(*a, padding=1),
            lambda *a: F.conv1d(*a, padding=1),
        ),
        "transposed conv2d 3 × 3": (
            [images, kernel, shift],
            lambda *a: cnns.conv_transpose2d_composed(*a, padding=1),
            lambda *a: cnns.conv_transpose2d(*a, padding=1),
            lambda *a: F.conv_transpose2d(*a, padding=1),
        ),
        "max pooling 2 × 2": (
            [images],
            lambda x: cnns.max_pool2d_composed(x, 2),
            lambda x: cnns.max_pool2d(x, 2),
            lambda x: F.max_pool2d(x, 2),
        ),
        "average pooling 2 × 2": (
            [images],
            lambda x: cnns.avg_pool2d_composed(x, 2),
            lambda x: cnns.avg_pool2d(x, 2),
            lambda x: F.avg_pool2d(x, 2),
        ),
        "batch norm 2d": (
            [images, gain, shift],
            batch_norm_composed,
            batch_norm,
            lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        ),
    }


def contestants(arrays: Arrays, composed: Callable, fused: Callable, peer: Callable) -> dict:
    """One forward and backward pass of each rung, from the same arrays; returns all results."""
    import torch

    from chainrule.neural_networks.backpropagation import Tensor

    torch.set_num_threads(1)
    with torch.no_grad():
        shape = peer(*(torch.from_numpy(a) for a in arrays)).shape
    upstream = np.random.default_rng(1).standard_normal(tuple(shape), dtype=np.float32)
    after = torch.from_numpy(upstream)

    def ours(function: Callable) -> Run:
        def run() -> Arrays:
            leaves = [Tensor(a, requires_grad=True) for a in arrays]
            y = function(*leaves)
            y.backward(upstream)
            return [y.data, *(leaf.grad for leaf in leaves)]

        return run

    def theirs() -> Arrays:
        leaves = [torch.from_numpy(a).requires_grad_() for a in arrays]
        y = peer(*leaves)
        y.backward(after)
        return [y.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)]

    return {"composed": ours(composed), "fused": ours(fused), "PyTorch": theirs}


def shares(fused: Run, rounds: int) -> str:
    """What part of a 3 × 3 convolution's time goes to which step, in percent."""
    from chainrule.architectures.cnns import columns as c

    rng = np.random.default_rng(0)
    x = rng.standard_normal((IMAGES, CHANNELS, SIDE, SIDE), dtype=np.float32)
    g = rng.standard_normal((IMAGES, CHANNELS, SIDE * SIDE), dtype=np.float32)
    kernels = rng.standard_normal((CHANNELS, CHANNELS * 9), dtype=np.float32)
    shape = c.geometry(3, 1, 1, 1)
    padded = c.pad(x, shape.padding)
    y = np.empty((CHANNELS, SIDE * SIDE), np.float32)
    columns = np.ascontiguousarray(c.windows(padded[:1], shape)).reshape(-1, SIDE * SIDE)

    def copying() -> None:
        for i in range(IMAGES):
            np.ascontiguousarray(c.windows(padded[i : i + 1], shape))

    def products() -> None:
        for i in range(IMAGES):
            np.matmul(kernels, columns, out=y)
            np.matmul(kernels, columns, out=y)
            columns @ g[i].T

    steps = {
        "padding": lambda: [c.pad(x, shape.padding) for _ in range(3)],
        "copying windows": lambda: [copying() for _ in range(3)],
        "products": products,
        "all": fused,
    }
    found = {k: statistics.median(v) for k, v in interleave(steps, rounds, warm_up=2).items()}
    total = found.pop("all")
    found["the rest"] = max(total - sum(found.values()), 0.0)
    return ", ".join(f"{name} {100 * part / total:.0f} %" for name, part in found.items())


def measure(rounds: int = 21) -> dict:
    """Median milliseconds of process time of every rung, and how many times PyTorch's that is."""
    rows = []
    for name, (arrays, *versions) in operations().items():
        runs = contestants(arrays, *versions)
        expected = runs["PyTorch"]()
        for rung in ("composed", "fused"):
            for mine, theirs in zip(runs[rung](), expected, strict=True):
                scale = np.abs(theirs).max()
                if not np.allclose(mine, theirs, rtol=1e-4, atol=1e-4 * scale):
                    raise RuntimeError(f"{name}: {rung} differs from PyTorch")
        seconds = interleave(runs, rounds, warm_up=2)
        rows.append(
            {
                "operation": name,
                "composed_ms": _milliseconds(seconds["composed"]),
                "fused_ms": _milliseconds(seconds["fused"]),
                "pytorch_ms": _milliseconds(seconds["PyTorch"]),
                "fused_over_pytorch": round(median_ratio(seconds["fused"], seconds["PyTorch"]), 2),
            }
        )
    arrays, *versions = next(iter(operations().values()))
    parts = shares(contestants(arrays, *versions)["fused"], rounds)
    return {
        "rows": rows,
        "method": (
            f"process time of forward and backward, {IMAGES} images of {CHANNELS} × {SIDE} × "
            f"{SIDE}, float32, rungs in turn, median of {rounds} rounds; the first row's time: "
            f"{parts}"
        ),
    }


def _milliseconds(seconds: list[float]) -> float:
    return round(1e3 * statistics.median(seconds), 2)
