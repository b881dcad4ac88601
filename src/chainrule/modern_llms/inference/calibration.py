"""Quantization that looks at what the layer reads: GPTQ, AWQ and SmoothQuant."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np

from chainrule.modern_llms.inference.quantization import Model, quantize
from chainrule.neural_networks.backpropagation import Linear, Module, no_grad
from chainrule.shapes import Array, Float, Int

__all__ = [
    "awq_scales", "gptq", "gptq_model", "layer_inputs", "output_error", "smoothquant",
]  # fmt: skip


def output_error(
    weights: Float[Array, "out in"], rounded: Float[Array, "out in"], x: Float[Array, "n in"]
) -> float:
    """Return ‖X(W − Ŵ)ᵀ‖² / ‖XWᵀ‖²: the share of the layer's output that rounding changed.

    Equation: modern-llms/inference.md#eq-output-error
    """
    exact = x @ weights.T
    return float(np.square(x @ (weights - rounded).T).sum() / np.square(exact).sum())


def gptq(
    weights: Float[Array, "out in"],
    x: Float[Array, "n in"],
    bits: int,
    group: int | None = None,
    damping: float = 0.01,
    order: bool = False,
) -> Float[Array, "out in"]:
    """Round one input column after the other; the columns that follow make up for each error.

    After each column the rest is the least-squares answer to "change the output on ``x`` least,
    given what is fixed". ``damping`` times the mean of the diagonal is added to XᵀX. The scale of
    a group is taken when its first column is reached, after the corrections. Without ``group``,
    each row has one scale. With ``order``, columns whose input is greatest come first, while many
    are left to make up for them, and all scales are those of the weights as given. Each step is
    the best one, the whole need not be: on few examples rounding to nearest can err less.
    Computed in float64; the result has the type of ``weights``.
    Equation: modern-llms/inference.md#eq-gptq. Source: Frantar et al. 2022, arXiv:2210.17323.

    Raises:
        ValueError: sizes that do not fit, or an XᵀX that cannot be inverted.
    """
    w, h = _prepared(weights, x, damping)
    columns = w.shape[1]
    group = columns if group is None else group
    if group < 1 or columns % group:
        raise ValueError(f"groups of {group} do not fill {columns} columns")
    turns = np.argsort(-h.diagonal(), kind="stable") if order else np.arange(columns)
    scales = np.empty_like(w)
    for start in range(0, columns, group):
        scales[:, start : start + group] = _scale(w[:, start : start + group], bits)
    w, h, scales = w[:, turns], h[np.ix_(turns, turns)], scales[:, turns]
    # H⁻¹ = UᵀU; row j of U holds the inverse of what is left when columns before j are fixed
    upper = np.linalg.cholesky(np.linalg.inv(h)).T
    rounded, top = np.empty_like(w), 2 ** (bits - 1) - 1
    for j in range(columns):
        if not order and j % group == 0:
            scales[:, j : j + group] = _scale(w[:, j : j + group], bits)
        codes = np.clip(np.rint(w[:, j] / scales[:, j]), -top, top)
        rounded[:, j] = scales[:, j] * codes
        error = (w[:, j] - rounded[:, j]) / upper[j, j]
        w[:, j + 1 :] -= error[:, None] * upper[j, j + 1 :]
    return rounded[:, np.argsort(turns)].astype(weights.dtype)


def _scale(columns: Array, bits: int) -> Array:
    """One scale for each row, as a column."""
    return quantize(columns, bits, axis=0).scale[:, None]


def _prepared(weights: Array, x: Array, damping: float) -> tuple[Array, Array]:
    """A copy of the weights in float64, and XᵀX with something added to its diagonal."""
    if weights.ndim != 2 or x.ndim != 2 or x.shape[1] != weights.shape[1]:
        raise ValueError(f"weights (out, in) and inputs (n, in), got {weights.shape}, {x.shape}")
    if not (np.isfinite(weights).all() and np.isfinite(x).all()):
        raise ValueError("weights and inputs must be finite")
    w, x = weights.astype(np.float64), x.astype(np.float64)
    h = x.T @ x
    extra = damping * h.diagonal().mean() if h.size else 0.0
    h[np.diag_indices_from(h)] += extra
    if h.size and not h.diagonal().min() > 0:
        raise ValueError("some input is always 0: give damping above 0, or more examples")
    return w, h


def layer_inputs(model: Module, *inputs: Array) -> dict[str, Float[Array, "n in"]]:
    """Return what each linear layer reads while the model computes, by the layer's name.

    Rows are examples: all positions of all texts. Layers that are not called are left out.
    """
    read: dict[str, list[Array]] = {}
    watched = {id(m): name for name, m in model.named_modules() if isinstance(m, Linear)}
    original: Any = Linear.forward

    def record(layer: Linear, x: Any) -> Any:
        if id(layer) in watched:
            read.setdefault(watched[id(layer)], []).append(x.data.reshape(-1, x.shape[-1]).copy())
        return original(layer, x)

    Linear.forward = record  # type: ignore[method-assign, assignment]
    try:
        with no_grad():
            model(*inputs)
    finally:
        Linear.forward = original  # type: ignore[method-assign]
    return {name: np.concatenate(parts) for name, parts in read.items()}


def gptq_model(
    model: Model,
    ids: Int[Array, "batch time"],
    bits: int,
    group: int | None = None,
    damping: float = 0.01,
    order: bool = False,
) -> Model:
    """Return a copy whose linear layers are rounded by `gptq` on what they read of ``ids``.

    What a layer reads is taken from the model that is not rounded. Tables of tokens and positions
    stay as they are.
    """
    read, copy = layer_inputs(model, ids), deepcopy(model)
    for name, layer in copy.named_modules():
        if name in read and isinstance(layer, Linear):
            weights = layer.weight.data
            layer.weight.data = gptq(weights, read[name], bits, group, damping, order)
    return copy


def awq_scales(
    weights: Float[Array, "out in"],
    x: Float[Array, "n in"],
    bits: int,
    group: int | None = None,
    steps: int = 20,
) -> Float[Array, "in"]:
    """Return a factor for each input column, so that columns that read much round finely.

    The weights are multiplied by it before rounding and the inputs divided by it. The factor is
    the mean size of the input to a power from 0 to 1; the power is the one of ``steps`` + 1 that
    changes the output on ``x`` least. Equation: modern-llms/inference.md#eq-awq. Source: Lin et
    al. 2023, arXiv:2306.00978.
    """
    size = np.abs(x).mean(axis=0, dtype=np.float64)
    size = np.where(size > 0, size, 1.0)
    best, found = np.inf, np.ones_like(size)
    for power in np.linspace(0, 1, steps + 1):
        s = size**power
        s /= np.sqrt(s.max() * s.min())
        axis = 0 if group is None else None
        rounded = quantize(weights * s, bits, axis=axis, group=group).dequantize() / s
        error = output_error(weights, rounded, x)
        if error < best:
            best, found = error, s
    return found.astype(weights.dtype)


def smoothquant(
    weights: Float[Array, "out in"], x: Float[Array, "n in"], alpha: float = 0.5
) -> Float[Array, "in"]:
    """Return a factor for each input column that shares its outliers with the weights.

    s = max|x|^α / max|w|^(1−α); the inputs are divided by it, the weights multiplied. The product
    is unchanged. Equation: modern-llms/inference.md#eq-smoothquant. Source: Xiao et al. 2022,
    arXiv:2211.10438.

    Raises:
        ValueError: α outside 0 to 1.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha lies in [0, 1], got {alpha}")
    read, weight = np.abs(x).max(axis=0), np.abs(weights).max(axis=0)
    used = (read > 0) & (weight > 0)
    s = np.where(used, read, 1) ** alpha / np.where(used, weight, 1) ** (1 - alpha)
    return s.astype(weights.dtype)
