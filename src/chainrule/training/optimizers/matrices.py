"""Update rules for one matrix at a time: Adafactor and Muon.

Adafactor keeps one number for each row and column in place of one for each weight. Muon makes
all directions of an update equally long. Shape names: ``m`` and ``n`` rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from chainrule.neural_networks.backpropagation import Tensor
from chainrule.neural_networks.backpropagation.promotion import wide
from chainrule.shapes import Array, Float
from chainrule.training.optimizers.clipping import joint_norm
from chainrule.training.optimizers.groups import Group, MatrixOptimizer

__all__ = ["Adafactor", "Muon", "newton_schulz"]


class Adafactor(MatrixOptimizer):
    """Adam without first moment, and with the second kept as one number a row and a column.

    A matrix of m × n squares is replaced by the outer product of its row and column means: m + n
    numbers of memory. The step is relative to the size of the parameter, never above ``lr`` of
    it, and clipped to a root mean square of ``d``. ``eps`` is (floor of the second moment's root,
    floor of the parameter's size); None stands for the dtype's rounding unit.

    Equation: training/optimizers.md#eq-adafactor
    Source: Shazeer and Stern, Adafactor, 2018, arXiv:1804.04235.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
    ):
        super().__init__(
            params, lr=lr, beta2_decay=beta2_decay, eps=eps, d=d, weight_decay=weight_decay
        )

    def start(self, p: Tensor) -> dict[str, Array]:
        """Means of squares: by row and column for matrices, each for vectors."""
        dtype = wide(p.dtype)
        if p.ndim < 2:
            return {"variance": np.zeros(p.shape, dtype)}
        return {
            "row_var": np.zeros((*p.shape[:-1], 1), dtype),
            "col_var": np.zeros((*p.shape[:-2], 1, p.shape[-1]), dtype),
        }

    def update(self, group: Group, entry: dict[str, Array], w: Array, g: Array) -> None:
        """Estimate the second moment, divide by its root, clip, move relative to the size of w."""
        lr, step = float(group["lr"]), int(entry["steps"])
        newest = step ** group["beta2_decay"]
        floor, least_size = group["eps"]
        floor = float(np.finfo(w.dtype).eps) if floor is None else floor
        size = max(least_size, _rms(w)) * min(lr, 1 / math.sqrt(step))
        w *= 1 - lr * group["weight_decay"]
        if w.ndim < 2:
            variance = entry["variance"]
            variance += newest * (g * g - variance)
            estimate = variance
        else:
            rows, columns = entry["row_var"], entry["col_var"]
            rows += newest * (np.mean(g * g, axis=-1, keepdims=True) - rows)
            columns += newest * (np.mean(g * g, axis=-2, keepdims=True) - columns)
            mean = np.mean(rows, axis=-2, keepdims=True)
            estimate = rows / np.maximum(mean, floor) * columns
        move = np.asarray(g / np.sqrt(np.maximum(estimate, floor * floor)))
        w -= size / max(1.0, _rms(move) / group["d"]) * move


def _rms(x: Array) -> float:
    return math.sqrt(float(np.mean(np.square(x, dtype=np.float64))))


def newton_schulz(
    G: Float[Array, "m n"],
    steps: int = 5,
    coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
    eps: float = 1e-7,
) -> Float[Array, "m n"]:
    """Push all singular values of a matrix towards 1 with matrix products alone.

    X ← aX + b(XXᵀ)X + c(XXᵀ)²X acts on each singular value as s ← as + bs³ + cs⁵. These
    coefficients make small values grow fast and do not converge: after five steps those that
    began above 0.0016 of the norm lie between 0.68 and 1.21, which is close enough; a smaller one
    is at most 485 times what it was.

    Equation: training/optimizers.md#eq-newton-schulz
    Source: Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024.
    """
    a, b, c = coefficients
    X = G.T if G.shape[0] > G.shape[1] else G
    X = X / max(joint_norm([X], 2), eps)
    for _ in range(steps):
        A = X @ X.T
        X = a * X + (b * A + c * (A @ A)) @ X
    return X.T if G.shape[0] > G.shape[1] else X


class Muon(MatrixOptimizer):
    """Momentum, then Newton–Schulz: every direction of a matrix's update gets about equal size.

    For the matrices of hidden layers; embeddings, output layers and vectors stay with AdamW.
    ``adjust_lr_fn`` is "original" (lr·√max(1, m/n)) or "match_rms_adamw" (lr·0.2·√max(m, n)).

    Equation: training/optimizers.md#eq-muon
    Source: Jordan et al. 2024; Liu et al., Muon is scalable for LLM training, 2025, arXiv
    2502.16982.

    Raises:
        ValueError: a parameter is not a matrix.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        adjust_lr_fn: str = "original",
    ):
        if adjust_lr_fn not in ("original", "match_rms_adamw"):
            raise ValueError(
                f"Muon: adjust_lr_fn must be 'original' or 'match_rms_adamw', got {adjust_lr_fn!r}"
            )
        super().__init__(
            params,
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            nesterov=nesterov,
            ns_steps=ns_steps,
            adjust_lr_fn=adjust_lr_fn,
        )

    def start(self, p: Tensor) -> dict[str, Array]:
        """An empty momentum."""
        if p.ndim != 2:
            raise ValueError(
                f"Muon is for matrices, got a parameter of shape {p.shape}: give it to AdamW"
            )
        return {"momentum_buffer": np.zeros(p.shape, wide(p.dtype))}

    def update(self, group: Group, entry: dict[str, Array], w: Array, g: Array) -> None:
        """Average, orthogonalize, decay, move."""
        lr, momentum, average = float(group["lr"]), group["momentum"], entry["momentum_buffer"]
        average += (1 - momentum) * (g - average)
        ahead = g + momentum * (average - g) if group["nesterov"] else average
        m, n = w.shape
        scale = math.sqrt(max(1, m / n))
        if group["adjust_lr_fn"] == "match_rms_adamw":
            scale = 0.2 * math.sqrt(max(m, n))
        w *= 1 - lr * group["weight_decay"]
        w -= lr * scale * newton_schulz(ahead, group["ns_steps"])
