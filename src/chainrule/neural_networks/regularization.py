"""Normalization, dropout and the other ways to make a network do well on data it has not seen.

Taught in ``neural-networks/regularization.md``. Each normalizer stands on two rungs: composed of
primitive operations (``layer_norm_composed``), where the engine finds the gradient, and fused
(``layer_norm``), with the gradient that the document derives. Names, defaults and the place of
``eps`` (inside of the root) are PyTorch's. Shape names: ``batch`` leading axes, ``n`` examples,
``c`` channels, ``d`` features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from chainrule.neural_networks.backpropagation import (
    Buffer,
    Module,
    Parameter,
    Tensor,
    absolute,
    primitive,
    sqrt,
)
from chainrule.neural_networks.backpropagation.edits import note_edit
from chainrule.neural_networks.backpropagation.promotion import floating, wide
from chainrule.shapes import Array, Float

__all__ = [
    "EMA",
    "BatchNorm1d",
    "BiasVariance",
    "Dropout",
    "EarlyStopping",
    "LayerNorm",
    "RMSNorm",
    "batch_norm",
    "batch_norm_composed",
    "bias_variance",
    "dropout",
    "fold_batchnorm",
    "l1_penalty",
    "l2_penalty",
    "layer_norm",
    "layer_norm_composed",
    "mixup",
    "rms_norm",
    "rms_norm_composed",
    "soft_threshold",
]


# ---- layer normalization ---------------------------------------------------------------------


def layer_norm_composed(
    x: Float[Tensor, "*shape"],
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Float[Tensor, "*shape"]:
    """Layer normalization from primitive operations: subtract the mean, divide by the deviation.

    Equation: neural-networks/regularization.md#eq-layer-norm
    """
    axes = tuple(range(-len(_sizes(x, normalized_shape)), 0))
    mean = x.mean(axes, keepdims=True)
    variance = x.var(axes, keepdims=True, correction=0)
    return _scale_and_shift((x - mean) / sqrt(variance + eps), weight, bias)


def layer_norm(
    x: Float[Tensor, "*shape"],
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Float[Tensor, "*shape"]:
    """Layer normalization over the last axes, fused; what ``layer_norm_composed`` computes.

    Equation: neural-networks/regularization.md#eq-layer-norm
    Source: Ba, Kiros and Hinton, Layer normalization, 2016, arXiv:1607.06450.

    Raises:
        ValueError: the last axes of ``x`` are not ``normalized_shape``.
    """
    d = int(np.prod(_sizes(x, normalized_shape)))
    return _layer_norm(weight, bias, x, d=d, eps=eps)


@primitive
def _layer_norm(weight: Array | None, bias: Array | None, x: Array, d: int, eps: float) -> Any:
    """With y = (x − mean)/deviation and h = gradient·weight, each row's gradient has three terms.

    (h − mean(h) − y·mean(h·y)) / deviation. Means over rows and sums over columns are products
    with a vector, which BLAS computes faster than NumPy sums.
    Equation: neural-networks/regularization.md#eq-layer-norm-vjp
    """
    shape, rows = x.shape, floating(x).reshape(x.size // max(d, 1), d)
    average = np.full(d, 1 / max(d, 1), dtype=rows.dtype)
    mean = (rows @ average)[:, None]
    y = rows - mean
    inverse = _inverse_root(y, -1, eps)
    if _rounded(mean, inverse):
        y -= (y @ average)[:, None]
        inverse = _inverse_root(y, -1, eps)
    y *= inverse
    out = _affine(y, weight, bias)
    shapes = [None if p is None else p.shape for p in (weight, bias)]

    def vjp(g: Array) -> Any:
        g = g.reshape(y.shape)
        return (
            lambda out: _sum_rows(g * y, shapes[0], out),
            lambda out: _sum_rows(g, shapes[1], out),
            lambda out: through_rows(g).reshape(shape),
        )

    def through_rows(g: Array) -> Array:
        h = g.copy() if weight is None else g * weight.ravel()
        mean_hy = np.vecdot(h, y) * (1 / max(d, 1))
        h -= (h @ average)[:, None]
        h -= y * mean_hy[:, None]
        h *= inverse
        return h

    return out.reshape(shape), vjp


class LayerNorm(Module):
    """Layer normalization with a learned scale (from 1) and shift (from 0)."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
    ):
        self.normalized_shape = _as_tuple(normalized_shape)
        self.eps = eps
        self.weight = self.bias = None
        if elementwise_affine:
            self.weight = Parameter(np.ones(self.normalized_shape, dtype=dtype))
            self.bias = Parameter(np.zeros(self.normalized_shape, dtype=dtype)) if bias else None

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Normalize the last axes."""
        return layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Sizes and epsilon."""
        return f"{self.normalized_shape}, eps={self.eps}"


# ---- root mean square normalization ----------------------------------------------------------


def rms_norm_composed(
    x: Float[Tensor, "*shape"],
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Float[Tensor, "*shape"]:
    """RMS normalization from primitive operations: divide by the root of the mean square.

    Equation: neural-networks/regularization.md#eq-rms-norm
    """
    axes = tuple(range(-len(_sizes(x, normalized_shape)), 0))
    eps = float(np.finfo(wide(x.dtype)).eps) if eps is None else eps
    return _scale_and_shift(x / sqrt((x * x).mean(axes, keepdims=True) + eps), weight, None)


def rms_norm(
    x: Float[Tensor, "*shape"],
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Float[Tensor, "*shape"]:
    """RMS normalization over the last axes, fused.

    ``eps=None`` is the rounding unit of the type; in 16 bits that of float32, as in PyTorch.

    Equation: neural-networks/regularization.md#eq-rms-norm
    Source: Zhang and Sennrich, Root mean square layer normalization, 2019, arXiv:1910.07467.

    Raises:
        ValueError: the last axes of ``x`` are not ``normalized_shape``.
    """
    d = int(np.prod(_sizes(x, normalized_shape)))
    eps = float(np.finfo(wide(x.dtype)).eps) if eps is None else eps
    return _rms_norm(weight, x, d=d, eps=eps)


@primitive
def _rms_norm(weight: Array | None, x: Array, d: int, eps: float) -> Any:
    """With y = x/rms and h = gradient·weight, the gradient is (h − y·mean(h·y)) / rms.

    Equation: neural-networks/regularization.md#eq-rms-norm-vjp
    """
    shape, rows = x.shape, floating(x).reshape(x.size // max(d, 1), d)
    inverse = _inverse_root(rows, -1, eps)
    y = rows * inverse
    out = _affine(y, weight, None)
    weight_shape = None if weight is None else weight.shape

    def vjp(g: Array) -> Any:
        g = g.reshape(y.shape)
        return (
            lambda out: _sum_rows(g * y, weight_shape, out),
            lambda out: through_rows(g).reshape(shape),
        )

    def through_rows(g: Array) -> Array:
        h = g.copy() if weight is None else g * weight.ravel()
        mean_hy = np.vecdot(h, y) * (1 / max(d, 1))
        h -= y * mean_hy[:, None]
        h *= inverse
        return h

    return out.reshape(shape), vjp


class RMSNorm(Module):
    """RMS normalization with a learned scale (from 1)."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        dtype: DTypeLike = np.float32,
    ):
        self.normalized_shape = _as_tuple(normalized_shape)
        self.eps = eps
        self.weight = None
        if elementwise_affine:
            self.weight = Parameter(np.ones(self.normalized_shape, dtype=dtype))

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Normalize the last axes."""
        return rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """Sizes and epsilon."""
        return f"{self.normalized_shape}, eps={self.eps}"


# ---- batch normalization ---------------------------------------------------------------------


def batch_norm_composed(
    x: Float[Tensor, "n c *rest"],
    weight: Float[Tensor, "c"] | None = None,
    bias: Float[Tensor, "c"] | None = None,
    eps: float = 1e-5,
) -> Float[Tensor, "n c *rest"]:
    """Batch normalization in training, from primitive operations: statistics over all axes but c.

    Equation: neural-networks/regularization.md#eq-batch-norm
    """
    axes = (0, *range(2, x.ndim))
    mean = x.mean(axes, keepdims=True)
    variance = x.var(axes, keepdims=True, correction=0)
    return _scale_and_shift(
        (x - mean) / sqrt(variance + eps), _per_channel(weight, x), _per_channel(bias, x)
    )


def batch_norm(
    x: Float[Tensor, "n c *rest"],
    weight: Float[Tensor, "c"] | None = None,
    bias: Float[Tensor, "c"] | None = None,
    eps: float = 1e-5,
) -> Float[Tensor, "n c *rest"]:
    """Batch normalization in training, fused; what ``batch_norm_composed`` computes.

    Equation: neural-networks/regularization.md#eq-batch-norm
    Source: Ioffe and Szegedy, Batch normalization, 2015, arXiv:1502.03167.
    """
    return _batch_norm(weight, bias, x, eps=eps)


@primitive
def _batch_norm(weight: Array | None, bias: Array | None, x: Array, eps: float) -> Any:
    """The three terms of layer normalization, with the means taken over the batch.

    Equation: neural-networks/regularization.md#eq-batch-norm-vjp
    """
    x, axes = floating(x), (0, *range(2, x.ndim))
    shape = (1, -1, *[1] * (x.ndim - 2))
    count = x.size // max(x.shape[1], 1)
    mean = np.sum(x / max(count, 1), axes, keepdims=True)
    y = x - mean
    inverse = _inverse_root(y, axes, eps)
    if _rounded(mean, inverse):
        y -= np.sum(y / max(count, 1), axes, keepdims=True)
        inverse = _inverse_root(y, axes, eps)
    y *= inverse
    scale = 1 if weight is None else weight.reshape(shape)
    out = y * scale if bias is None else y * scale + bias.reshape(shape)

    def vjp(g: Array) -> Any:
        sum_g, sum_gy = g.sum(axes, keepdims=True), (g * y).sum(axes, keepdims=True)
        return (
            sum_gy.reshape(-1),
            sum_g.reshape(-1),
            lambda out: (g - (sum_g + y * sum_gy) / count) * (inverse * scale),
        )

    return out, vjp


class BatchNorm1d(Module):
    """Batch normalization of (n, c) or (n, c, length), with running statistics for evaluation.

    The batch is normalized by its biased variance, while the running variance is fed the
    unbiased one. ``momentum`` is the weight of the newest batch; None averages all batches.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        *,
        dtype: DTypeLike = np.float32,
    ):
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = Parameter(np.ones(num_features, dtype=dtype)) if affine else None
        self.bias = Parameter(np.zeros(num_features, dtype=dtype)) if affine else None
        self.running_mean = Buffer(np.zeros(num_features, dtype=dtype))
        self.running_var = Buffer(np.ones(num_features, dtype=dtype))
        self.num_batches_tracked = Buffer(np.zeros((), dtype=np.int64))

    def forward(self, x: Float[Tensor, "n c *rest"]) -> Float[Tensor, "n c *rest"]:
        """Normalize by the batch in training, by the running statistics in evaluation.

        Raises:
            ValueError: the channels do not fit, or training sees one value a channel.
        """
        if x.shape[1] != self.num_features:
            raise ValueError(
                f"expected {self.num_features} channels on axis 1, got shape {x.shape}"
            )
        if self.training:
            self._track(x.data)
            return batch_norm(x, self.weight, self.bias, self.eps)
        deviation = np.sqrt(self.running_var.data + self.eps)
        y = (x - _per_channel(self.running_mean, x)) / _per_channel(Tensor(deviation), x)
        return _scale_and_shift(y, _per_channel(self.weight, x), _per_channel(self.bias, x))

    def _track(self, x: Array) -> None:
        count = x.size // x.shape[1]
        if count < 2:
            raise ValueError(
                f"batch statistics need more than 1 value a channel, got shape {x.shape}: "
                "use a larger batch, or eval()"
            )
        axes, x = (0, *range(2, x.ndim)), x.astype(wide(x.dtype), copy=False)
        self.num_batches_tracked.data[...] += 1
        newest = self.momentum
        if newest is None:
            newest = 1 / float(self.num_batches_tracked.data)
        mean, variance = self.running_mean.data, self.running_var.data
        mean += newest * (x.mean(axes) - mean)
        variance += newest * (x.var(axes, ddof=1) - variance)

    def extra_repr(self) -> str:
        """Sizes, epsilon and momentum."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


def fold_batchnorm(
    W: Float[Array, "c d"], b: Float[Array, "c"], bn: BatchNorm1d
) -> tuple[Float[Array, "c d"], Float[Array, "c"]]:
    """Weights of one linear layer that does what ``x Wᵀ + b`` and then ``bn`` in evaluation do.

    Equation: neural-networks/regularization.md#eq-fold-batch-norm
    """
    scale = 1 / np.sqrt(bn.running_var.data + bn.eps)
    if bn.weight is not None:
        scale = scale * bn.weight.data
    shift = -bn.running_mean.data * scale
    if bn.bias is not None:
        shift = shift + bn.bias.data
    return W * scale[:, None], b * scale + shift


# ---- dropout ---------------------------------------------------------------------------------


@primitive
def _drop(x: Array, kept: Array, scale: float) -> Any:
    """Selects instead of multiplying by 0: what is dropped may be infinite."""
    return np.where(kept, floating(x) * scale, 0), lambda g: (np.where(kept, g * scale, 0),)


def dropout(
    x: Float[Tensor, "*shape"], p: float, rng: np.random.Generator
) -> Float[Tensor, "*shape"]:
    """Set each element to 0 with probability p, and divide the others by 1 − p (inverted dropout).

    Equation: neural-networks/regularization.md#eq-dropout
    Source: Srivastava et al., Dropout, 2014.

    Raises:
        ValueError: p is not a probability.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p must be between 0 and 1, got {p}")
    kept = rng.random(x.shape, dtype=np.float32) >= p
    scale = 1 / (1 - p) if p < 1 else 0.0
    return _drop(x, kept=kept, scale=scale)


class Dropout(Module):
    """Dropout in training, nothing in evaluation.

    Raises:
        ValueError: ``p`` is no probability, or ``rng`` is missing.
    """

    def __init__(self, p: float = 0.5, rng: np.random.Generator | None = None):
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p must be between 0 and 1, got {p}")
        if p > 0 and rng is None:
            raise ValueError("Dropout: give a numpy.random.Generator as rng")
        self.p = p
        self.rng = rng

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Drop elements, if training."""
        if not self.training or self.p == 0 or self.rng is None:
            return x
        return dropout(x, self.p, self.rng)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


# ---- penalties -------------------------------------------------------------------------------


def l1_penalty(params: Iterable[Tensor]) -> Float[Tensor, ""]:
    """Σ |w| over all parameters.

    Equation: neural-networks/regularization.md#eq-l1-penalty
    """
    return _total(absolute(w).sum() for w in params)


def l2_penalty(params: Iterable[Tensor]) -> Float[Tensor, ""]:
    """½ Σ w² over all parameters: its gradient is w itself.

    Equation: neural-networks/regularization.md#eq-l2-penalty
    """
    return _total((w * w).sum() * 0.5 for w in params)


def soft_threshold(x: Float[Array, "*shape"], threshold: float) -> Float[Array, "*shape"]:
    """Move every number towards 0 by ``threshold``, stopping there: the step that L1 asks for.

    Equation: neural-networks/regularization.md#eq-soft-threshold
    """
    return np.sign(x) * np.maximum(np.abs(x) - threshold, 0)


# ---- watching and averaging ------------------------------------------------------------------


class EarlyStopping:
    """Says when a validation loss has not improved for ``patience`` evaluations in a row.

    Raises:
        ValueError: ``patience`` is below 1.
    """

    def __init__(self, patience: int, min_delta: float = 0.0):
        if patience < 1:
            raise ValueError(f"EarlyStopping: patience must be at least 1, got {patience}")
        self.patience, self.min_delta = patience, min_delta
        self.best = float("inf")
        self.best_at = -1
        self.best_state: dict[str, Array] | None = None
        self.seen = 0

    def update(self, loss: float, model: Module | None = None) -> bool:
        """Record one evaluation; True means stop. With ``model``, the best weights are kept."""
        if loss < self.best - self.min_delta:
            self.best, self.best_at = loss, self.seen
            if model is not None:
                self.best_state = {k: v.copy() for k, v in model.state_dict().items()}
        self.seen += 1
        return self.seen - 1 - self.best_at >= self.patience


class EMA:
    """An exponential moving average of parameters: average ← decay·average + (1 − decay)·w.

    Equation: neural-networks/regularization.md#eq-ema

    Raises:
        ValueError: ``decay`` is negative, or not below 1.
    """

    def __init__(self, params: Iterable[Parameter], decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(f"EMA: decay must be at least 0 and below 1, got {decay}")
        self.params = list(params)
        self.decay = decay
        self.averages = [w.data.copy() for w in self.params]

    def update(self) -> None:
        """Take the present parameters in; call after each optimizer step."""
        for average, w in zip(self.averages, self.params, strict=True):
            average += (1 - self.decay) * (w.data - average)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the ``with`` block the parameters are their averages."""
        present = [w.data.copy() for w in self.params]
        self._write(self.averages)
        try:
            yield
        finally:
            self._write(present)

    def _write(self, arrays: list[Array]) -> None:
        for w, array in zip(self.params, arrays, strict=True):
            w.data[...] = array
            note_edit(w.data)


class BiasVariance(NamedTuple):
    """Mean squared bias and mean variance of a learner's predictions."""

    bias_squared: float
    variance: float


def bias_variance(
    fit: Callable[[Array, Array], Callable[[Array], Array]],
    data: Callable[[np.random.Generator], tuple[Array, Array]],
    x: Array,
    truth: Float[Array, "n"],
    reps: int,
    rng: np.random.Generator,
) -> BiasVariance:
    """Fit ``reps`` fresh training sets and split the error at ``x`` into bias and variance.

    ``data(rng)`` draws a training set (X, y), ``fit(X, y)`` returns a predictor, ``truth`` is the
    noiseless target at ``x``. The two add up to the mean squared distance to the truth.

    Equation: neural-networks/regularization.md#eq-bias-variance
    """
    predictions = np.array([fit(*data(rng))(x) for _ in range(reps)])
    return BiasVariance(
        float(np.mean((predictions.mean(axis=0) - truth) ** 2)),
        float(np.mean(predictions.var(axis=0))),
    )


def mixup(
    x: Float[Array, "n *features"],
    targets: Float[Array, "n classes"],
    alpha: float,
    rng: np.random.Generator,
) -> tuple[Float[Array, "n *features"], Float[Array, "n classes"]]:
    """Blend each example and its target distribution with another's, by one Beta(α, α) weight.

    Equation: neural-networks/regularization.md#eq-mixup
    Source: Zhang et al., mixup, 2017, arXiv:1710.09412.

    Raises:
        ValueError: ``alpha`` is not positive.
    """
    if alpha <= 0:
        raise ValueError(f"mixup: alpha must be positive, got {alpha}")
    weight = rng.beta(alpha, alpha)
    partner = rng.permutation(len(x))
    return (
        weight * x + (1 - weight) * x[partner],
        weight * targets + (1 - weight) * targets[partner],
    )


# ---- shared pieces ---------------------------------------------------------------------------


def _as_tuple(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    if isinstance(normalized_shape, int):
        return (normalized_shape,)
    return tuple(normalized_shape)


def _sizes(x: Tensor, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    sizes = _as_tuple(normalized_shape)
    if not sizes or x.shape[-len(sizes) :] != sizes:
        raise ValueError(f"expected the last axes to be {sizes}, got shape {x.shape}")
    return sizes


def _per_channel(values: Tensor | None, x: Tensor) -> Tensor | None:
    return None if values is None else values.reshape(1, -1, *[1] * (x.ndim - 2))


def _scale_and_shift(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _affine(y: Array, weight: Array | None, bias: Array | None) -> Array:
    """A new array y·weight + bias, where each may be missing."""
    out = y.copy() if weight is None else y * weight.ravel()
    if bias is not None:
        out += bias.ravel()
    return out


_LEAST = 1e-30  # the square of a float32 that is smaller may have been rounded to 0


def _rounded(mean: Array, inverse: Array) -> bool:
    """Whether a mean lies so far out that what it was rounded by shows beside the deviation."""
    with np.errstate(invalid="ignore"):
        return bool((np.abs(mean) * inverse > 100).any())


def _inverse_root(y: Array, axes: int | tuple[int, ...], eps: float) -> Array:
    """1/√(mean of squares + eps), over the last axis (−1), as BLAS adds fastest, or over several.

    Where squares overflowed, or vanished beside a tiny eps, it is computed once more, with y
    divided by its largest number first.
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        if axes == -1:
            mean_square = (np.vecdot(y, y) * (1 / max(y.shape[-1], 1)))[..., None]
        else:
            mean_square = np.square(y).sum(axes, keepdims=True) * (y.shape[1] / max(y.size, 1))
        inverse = 1 / np.sqrt(mean_square + eps)
        if (eps > _LEAST and inverse.all()) or not y.size:
            return inverse
        size = np.abs(y).max(axis=axes, keepdims=True)
        size[(size == 0) | ~np.isfinite(size)] = 1
        scaled = np.mean(np.square(y / size), axis=axes, keepdims=True)
        lost = (mean_square + eps < _LEAST) | (inverse == 0)
        return np.where(lost, 1 / (size * np.sqrt(scaled + eps / size / size)), inverse)


def _sum_rows(rows: Array, shape: tuple[int, ...] | None, out: Array | None) -> Array:
    """The sum over rows in another shape, as the product with a row of ones."""
    assert shape is not None
    ones = np.ones(len(rows), dtype=rows.dtype)
    flat = None if out is None else out.reshape(-1)
    return np.matmul(ones, rows, out=flat).reshape(shape)


def _total(terms: Iterable[Tensor]) -> Tensor:
    total, *others = list(terms) or [Tensor(np.float32(0))]
    for term in others:
        total = total + term
    return total
