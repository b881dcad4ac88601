"""The low-rank update s · B A beside a frozen matrix, and its relatives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.neural_networks.backpropagation import (
    Linear,
    Module,
    Parameter,
    Tensor,
    linear,
    primitive,
)
from chainrule.neural_networks.regularization import Dropout
from chainrule.shapes import Array, Float, Int

__all__ = ["DoRALinear", "LoRALinear", "low_rank", "low_rank_by_row", "pissa_init"]


@primitive
def _low_rank(x: Array, A: Array, B: Array, *, scale: float) -> Any:
    shape, d_out = x.shape, B.shape[0]
    rows = x.reshape(-1, shape[-1])
    narrow = rows @ A.T
    y = scale * (narrow @ B.T)

    def vjp(g: Array) -> Any:
        g = g.reshape(-1, d_out)
        through = scale * (g @ B)
        return (
            lambda out: (through @ A).reshape(shape),
            lambda out: np.matmul(through.T, rows, out=out),
            lambda out: np.multiply(scale, g.T @ narrow, out=out),
        )

    return y.reshape(*shape[:-1], d_out), vjp


def low_rank(
    x: Float[Tensor, "*batch d_in"],
    A: Float[Tensor, "r d_in"],
    B: Float[Tensor, "d_out r"],
    scale: float = 1.0,
) -> Float[Tensor, "*batch d_out"]:
    """Return scale · x Aᵀ Bᵀ as one operation that never makes the matrix B A.

    Equation: modern-llms/efficient-adaptation.md#eq-lora
    Equation: modern-llms/efficient-adaptation.md#eq-lora-gradients

    Raises:
        ValueError: the shapes do not follow each other.
    """
    d_in, r = A.shape[-1], A.shape[0]
    if A.ndim != 2 or B.ndim != 2 or x.shape[-1:] != (d_in,) or B.shape[1] != r:
        raise ValueError(
            f"low_rank expects x (…, d_in), A (r, d_in) and B (d_out, r), got shapes "
            f"{x.shape}, {A.shape} and {B.shape}"
        )
    return _low_rank(x, A, B, scale=scale)


class LoRALinear(Module):
    """A frozen `Linear` and, beside it, the trained update scale · B A of rank ``r``.

    ``scale`` is alpha / r, or alpha / √r if ``rank_stabilized``. A (r, d_in) starts uniform in
    ±1/√d_in, B (d_out, r) at zero, so nothing changes before the first step. ``dropout`` acts on
    what the update reads. ``enabled`` false leaves the base alone.
    Equation: modern-llms/efficient-adaptation.md#eq-lora. Sources: Hu et al. 2021,
    arXiv:2106.09685; Kalajdzievski 2023, arXiv:2312.03732 (√r).

    Raises:
        ValueError: the rank is below 1.
    """

    def __init__(
        self,
        base: Linear,
        r: int = 8,
        alpha: float = 8.0,
        dropout: float = 0.0,
        rank_stabilized: bool = False,
        *,
        rng: np.random.Generator,
    ) -> None:
        if r < 1:
            raise ValueError(f"a rank is at least 1, got {r}")
        d_out, d_in = base.weight.shape
        dtype, bound = base.weight.dtype, 1 / math.sqrt(max(d_in, 1))
        self.base = base.requires_grad_(False)
        self.r, self.alpha = r, alpha
        self.scale = alpha / (math.sqrt(r) if rank_stabilized else r)
        self.A = Parameter(rng.uniform(-bound, bound, (r, d_in)).astype(dtype))
        self.B = Parameter(np.zeros((d_out, r), dtype))
        self.dropout = Dropout(dropout, rng)
        self.enabled, self.merged = True, False

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """Return what the base says, and the update."""
        y = self.base(x)
        if self.merged or not self.enabled:
            return y
        return y + low_rank(self.dropout(x), self.A, self.B, self.scale)

    def delta(self) -> Float[Array, "d_out d_in"]:
        """The update as one matrix."""
        return np.asarray(self.scale * (self.B.data @ self.A.data))

    def merge(self) -> None:
        """Add the update into the base's weight; then the layer costs what the base costs.

        Equation: modern-llms/efficient-adaptation.md#eq-merge

        Raises:
            ValueError: it is merged already, or switched off.
        """
        if self.merged:
            raise ValueError("this update is merged already: once more would add it twice")
        if not self.enabled:
            raise ValueError("this update is switched off: switch it on before merging")
        self.base.weight.data += self._added().astype(self.base.weight.dtype)
        self.merged = True

    def unmerge(self) -> None:
        """Subtract the update again: equal up to rounding, not bit for bit.

        Raises:
            ValueError: it is not merged.
        """
        if not self.merged:
            raise ValueError("this update is not merged: there is nothing to subtract")
        self.base.weight.data -= self._taken().astype(self.base.weight.dtype)
        self.merged = False

    def _added(self) -> Array:
        return self.delta()

    def _taken(self) -> Array:
        return self.delta()

    def extra_repr(self) -> str:
        """Rank and scale."""
        return f"r={self.r}, scale={self.scale:g}"


class DoRALinear(LoRALinear):
    """The same update, of directions only; the length of every row is trained by itself.

    The row i of the matrix is m_i times the row of W + scale · B A, divided by that row's length.
    The length counts as a constant in the backward pass, as in the paper's section 4.3.
    Equation: modern-llms/efficient-adaptation.md#eq-dora. Source: Liu et al. 2024,
    arXiv:2402.09353.
    """

    def __init__(
        self, base: Linear, r: int = 8, alpha: float = 8.0, *, rng: np.random.Generator
    ) -> None:
        super().__init__(base, r, alpha, rng=rng)
        self.magnitude = Parameter(np.linalg.norm(base.weight.data, axis=1))

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """Return the output of the matrix with trained lengths."""
        if self.merged or not self.enabled:
            return self.base(x)
        y = linear(x, self.base.weight) + low_rank(x, self.A, self.B, self.scale)
        y = y * (self.magnitude / self._lengths())
        return y if self.base.bias is None else y + self.base.bias

    def _lengths(self) -> Array:
        lengths = np.linalg.norm(self.base.weight.data + self.delta(), axis=1)
        return np.where(lengths > 0, lengths, 1)

    def _added(self) -> Array:
        self._factor = (self.magnitude.data / self._lengths())[:, None]
        W = self.base.weight.data
        return self._factor * (W + self.delta()) - W

    def _taken(self) -> Array:
        W = self.base.weight.data
        return W - (W / self._factor - self.delta())


def pissa_init(layer: LoRALinear) -> None:
    """Start the update at the r largest singular parts of the weight, and take them off the base.

    The sum is the same matrix as before; what is trained is its strongest part. Turning the
    update off then no longer gives the base back.
    Equation: modern-llms/efficient-adaptation.md#eq-pissa. Source: Meng et al. 2024,
    arXiv:2404.02948.

    Raises:
        ValueError: the update is merged, or its rank exceeds that of the weight.
    """
    weight = layer.base.weight
    if layer.merged or layer.r > min(weight.shape):
        raise ValueError(
            f"pissa_init needs an unmerged layer of rank at most {min(weight.shape)}, got rank "
            f"{layer.r}, merged={layer.merged}"
        )
    U, S, Vt = np.linalg.svd(weight.data.astype(np.float64), full_matrices=False)
    root = np.sqrt(S[: layer.r] / layer.scale)
    layer.B.data = (U[:, : layer.r] * root).astype(weight.dtype)
    layer.A.data = (root[:, None] * Vt[: layer.r]).astype(weight.dtype)
    weight.data -= layer.delta()


def low_rank_by_row(
    x: Float[Array, "batch time d_in"],
    which: Int[Array, "batch"],
    A: Float[Array, "updates r d_in"],
    B: Float[Array, "updates d_out r"],
    scale: float = 1.0,
) -> Float[Array, "batch time d_out"]:
    """Return the update of each example of a batch, each with the one that ``which`` names.

    So many users' updates share one pass through the base.

    Raises:
        ValueError: a number in ``which`` names no update.
    """
    if which.size and not 0 <= which.min() <= which.max() < len(A):
        raise ValueError(
            f"updates are numbered 0 to {len(A) - 1}, got {which.min()} to {which.max()}"
        )
    narrow = x @ A[which].swapaxes(-1, -2)
    return np.asarray(scale * (narrow @ B[which].swapaxes(-1, -2)))
