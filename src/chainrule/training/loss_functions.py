"""Losses: each is the negative log-likelihood of a noise model, written so that it stays finite.

Taught in ``training/loss-functions.md``. Names, options and reductions are PyTorch's, with one
difference: classes are on the **last** axis, whatever comes before it (PyTorch has them on axis
1), so a language model's logits of shape (batch, time, classes) need no transposing. Losses are
in nats. Shape names: ``batch`` leading axes, ``classes`` outcomes, ``n`` examples, ``d`` features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.math_foundations.information_theory import perplexity
from chainrule.neural_networks.backpropagation import (
    Tensor,
    absolute,
    gather,
    is_grad_enabled,
    logsumexp,
    norm,
    primitive,
    relu,
    sum_to,
    where,
)
from chainrule.neural_networks.backpropagation.operations import axes_from_0, logistic
from chainrule.neural_networks.backpropagation.promotion import alike, floating, result_type, wide
from chainrule.neural_networks.backpropagation.tensor import constant
from chainrule.shapes import Array, Float, Int, Shaped

__all__ = [
    "bce_with_logits",
    "chunked_cross_entropy",
    "clip_loss",
    "cross_entropy",
    "cross_entropy_composed",
    "expected_calibration_error",
    "fit_temperature",
    "focal",
    "huber",
    "info_nce",
    "kl_div",
    "log_softmax",
    "log_softmax_composed",
    "mae",
    "mse",
    "perplexity",
    "quantile_loss",
    "triplet",
]

REDUCTIONS = ("mean", "sum", "none")


# ---- regression ------------------------------------------------------------------------------


def mse(prediction: Tensor, target: Tensor | Array, reduction: str = "mean") -> Tensor:
    """(prediction − target)²: the negative log-likelihood of Gaussian noise, up to constants.

    Equation: training/loss-functions.md#eq-mse

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.
    """
    error = _residual(prediction, target)
    return _reduced_as(prediction, target, error * error, reduction)


def mae(prediction: Tensor, target: Tensor | Array, reduction: str = "mean") -> Tensor:
    """|prediction − target|: Laplace noise; the best constant prediction is the median.

    Equation: training/loss-functions.md#eq-mae

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.
    """
    loss = absolute(_residual(prediction, target))
    return _reduced_as(prediction, target, loss, reduction)


def huber(
    prediction: Tensor, target: Tensor | Array, delta: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """Quadratic up to an error of ``delta``, linear beyond: outliers pull with bounded force.

    Equation: training/loss-functions.md#eq-huber

    Raises:
        ValueError: ``delta`` is not positive, the shapes differ, or the reduction is unknown.
    """
    if delta <= 0:
        raise ValueError(f"huber: delta must be positive, got {delta}")
    loss = _huber(_residual(prediction, target), delta=delta)
    return _reduced_as(prediction, target, loss, reduction)


@primitive
def _huber(error: Array, delta: float) -> Any:
    """What is within ``delta`` counts by its square, what is beyond by its length."""
    error = floating(error)
    near = np.clip(error, -delta, delta)
    y = 0.5 * near * near + delta * (np.abs(error) - np.abs(near))
    return y, lambda g: (g * near,)


def quantile_loss(
    prediction: Tensor, target: Tensor | Array, q: float, reduction: str = "mean"
) -> Tensor:
    """q·error below the target and (1 − q)·error above it: the best constant is the q-quantile.

    Equation: training/loss-functions.md#eq-quantile

    Raises:
        ValueError: ``q`` is not between 0 and 1, the shapes differ, or the reduction is unknown.
    """
    if not 0 < q < 1:
        raise ValueError(f"quantile_loss: q must be between 0 and 1, got {q}")
    error = _residual(prediction, target)  # positive where the prediction is too high
    loss = relu(error) * (1 - q) + relu(-error) * q
    return _reduced_as(prediction, target, loss, reduction)


# ---- cross-entropy ---------------------------------------------------------------------------


def log_softmax_composed(x: Float[Tensor, "*batch classes"]) -> Float[Tensor, "*batch classes"]:
    """Log-probabilities from primitive operations: x − log Σ exp x.

    Equation: training/loss-functions.md#eq-log-softmax
    """
    return x - logsumexp(x, axis=-1, keepdims=True)


@primitive
def log_softmax(x: Array, axis: int = -1) -> Any:
    """Log-probabilities, fused: the gradient is g − softmax(x)·Σg.

    Equation: training/loss-functions.md#eq-log-softmax
    """
    x, axes = floating(x), axes_from_0(axis, x.ndim)
    y = x - x.max(axis=axes, keepdims=True, initial=-np.inf)
    with np.errstate(divide="ignore"):  # an axis may have no entries
        y = y - np.log(np.exp(y).sum(axis=axes, keepdims=True))
    return y, lambda g: (g - np.exp(y) * g.sum(axis=axes, keepdims=True),)


def cross_entropy_composed(
    logits: Float[Tensor, "*batch classes"],
    targets: Int[Array, "*batch"] | Int[Tensor, "*batch"],
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    weight: Float[Array, "classes"] | Float[Tensor, "classes"] | None = None,
    z_loss: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy from primitive operations; the options are those of ``cross_entropy``.

    Equation: training/loss-functions.md#eq-cross-entropy
    """
    ids, counted, weights = _check_targets(logits, targets, ignore_index, weight, reduction)
    of_target = np.asarray(counted * weights[ids])
    log_p = log_softmax_composed(logits)
    picked = gather(log_p, ids[..., None], axis=-1).squeeze(-1)
    loss = where(of_target != 0, -picked, 0.0) * ((1 - label_smoothing) * of_target)
    if label_smoothing:
        spread = (log_p * weights).sum(axis=-1) * (label_smoothing / logits.shape[-1])
        loss = loss - spread * counted
    if z_loss:
        log_z = logsumexp(logits, axis=-1)
        loss = loss + log_z * log_z * (z_loss * of_target)
    if reduction == "mean":
        return loss.sum() / _total_weight(of_target)
    return _reduce(loss, reduction)


def cross_entropy(
    logits: Float[Tensor, "*batch classes"],
    targets: Int[Array, "*batch"] | Int[Tensor, "*batch"],
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    weight: Float[Array, "classes"] | Float[Tensor, "classes"] | None = None,
    z_loss: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """−log softmax(logits)[target], fused: the gradient is softmax(logits) − onehot(target).

    Targets equal to ``ignore_index`` count for nothing. The mean is over targets, weighted by
    their class's ``weight``. ``label_smoothing`` ε gives every class ε/classes of the target's
    probability. ``z_loss`` adds that multiple of (log Σ exp logits)², weighted like the target.

    Equation: training/loss-functions.md#eq-cross-entropy-gradient
    Source: label smoothing, Szegedy et al. 2015, arXiv:1512.00567; z-loss, Chowdhery et al.,
    PaLM, 2022, arXiv:2204.02311.

    Raises:
        ValueError: shapes do not fit, a target is no class, or no target is left to average
            (PyTorch returns NaN there).
    """
    ids, counted, weights = _check_targets(logits, targets, ignore_index, weight, reduction)
    share = np.asarray(counted * weights[ids])
    loss = _cross_entropy(
        logits,
        ids=ids.reshape(-1),
        share=share.reshape(-1),
        counted=counted.reshape(-1),
        smoothing=label_smoothing,
        weights=weights,
        z_loss=z_loss,
        divisor=_total_weight(share) if reduction == "mean" else None,
    )
    return loss if reduction == "none" else loss.sum()


@primitive
def _cross_entropy(
    logits: Array,
    ids: Array,
    share: Array,
    counted: Array,
    smoothing: float,
    weights: Array,
    z_loss: float,
    divisor: Any,
) -> Any:
    """The loss of every row. With p = softmax, its gradient is a·p − b·onehot − c·weights.

    Only p is kept, in place of exp(logits). Of a = b + c·Σweights + 2·z_loss·b′·log Z, b is the
    target's share of the loss, c that of smoothing, b′ the target's share before smoothing.
    Equation: training/loss-functions.md#eq-cross-entropy-gradient
    """
    rows = logits.reshape(-1, logits.shape[-1])
    each = np.arange(len(rows))
    p, top = _below_top(rows, counted)
    target = p[each, ids]
    mean_logit = _weighted_sum(p, weights) if smoothing else 0
    np.exp(p, out=p)
    total = p @ np.ones(p.shape[1], dtype=p.dtype)
    log_total = np.log(total)
    log_z = log_total + top
    b, c = (1 - smoothing) * share, counted * (smoothing / rows.shape[1])
    loss = b * (log_total - target) if share.all() else _times(b, log_total - target)
    if smoothing:
        loss += c * (weights.sum() * log_total - mean_logit)
    if z_loss:
        loss += z_loss * share * log_z * log_z
    if divisor is not None:
        loss /= divisor
    if is_grad_enabled():
        p /= total[:, None]

    def vjp(g: Array) -> Any:
        scale = g.reshape(-1) if divisor is None else g.reshape(-1) / divisor
        a = b + c * weights.sum() + 2 * z_loss * share * log_z
        gradient = p * (a * scale)[:, None]
        gradient[each, ids] -= b * scale
        if smoothing:
            gradient -= (c * scale)[:, None] * weights
        return (gradient.reshape(logits.shape),)

    return loss.reshape(logits.shape[:-1]), vjp


def _below_top(rows: Array, counted: Array) -> tuple[Array, Array]:
    """Each row minus its largest number, and that; zeros where a row does not count."""
    top = rows.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        below = rows - top
    if not counted.all():
        ignored = counted == 0
        below[ignored], top[ignored] = 0, 0  # whatever their logits are, NaN or infinite
    return below, top[:, 0]


def chunked_cross_entropy(
    h: Float[Tensor, "n d"],
    W: Float[Tensor, "classes d"],
    targets: Int[Array, "n"],
    chunk: int = 1024,
    ignore_index: int = -100,
) -> Float[Tensor, ""]:
    """Mean cross-entropy of the logits h Wᵀ without ever holding more than ``chunk`` rows of them.

    The gradients of h and W are computed chunk by chunk during the forward pass, while the
    logits are there; the backward pass only scales them.

    Equation: training/loss-functions.md#eq-chunked-cross-entropy
    Source: the idea is that of Wijmans et al., Cut your losses, 2024, arXiv:2411.09009.

    Raises:
        ValueError: ``chunk`` is below 1, a target is no class, or none is left to average.
    """
    if chunk < 1:
        raise ValueError(f"chunked_cross_entropy: chunk must be at least 1, got {chunk}")
    ids, counted, _ = _check(targets, (h.shape[0],), len(W), h.dtype, ignore_index)
    return _chunked(h, W, ids=ids, counted=counted, chunk=chunk)


@primitive
def _chunked(h: Array, W: Array, ids: Array, counted: Array, chunk: int) -> Any:
    divisor = _total_weight(counted)
    h_grad, W_grad = (np.empty_like(h), np.zeros_like(W)) if is_grad_enabled() else (None, None)
    total = 0.0
    for start in range(0, len(h), chunk):
        part = slice(start, start + chunk)
        p = h[part] @ W.T
        p -= p.max(axis=1, keepdims=True)
        p[counted[part] == 0] = 0
        each = np.arange(len(p))
        target = p[each, ids[part]]
        np.exp(p, out=p)
        sums = p.sum(axis=1, keepdims=True)
        total += float(np.sum(counted[part] * (np.log(sums[:, 0]) - target)))
        if h_grad is not None and W_grad is not None:
            p *= counted[part, None] / (sums * divisor)
            p[each, ids[part]] -= counted[part] / divisor
            np.matmul(p, W, out=h_grad[part])
            W_grad += p.T @ h[part]

    def vjp(g: Array) -> Any:
        assert h_grad is not None
        assert W_grad is not None
        return lambda out: h_grad * g, lambda out: np.multiply(W_grad, g, out=out)

    return np.asarray(total / divisor, dtype=h.dtype), vjp


@primitive
def _bce_with_logits(x: Array, target: Array, positive_weight: Array) -> Any:
    """−w·t·log σ(x) − (1 − t)·log σ(−x), where −log σ(x) = log(1 + exp(−|x|)) + max(−x, 0).

    The gradient is (1 − t)·σ(x) − w·t·σ(−x) for x, and the difference of the two losses for t.
    """
    x, w, t, shape = floating(x), positive_weight, target, np.shape(positive_weight)
    rest = np.log1p(np.exp(-np.abs(x)))
    if_yes, if_no = rest + np.maximum(-x, 0), rest + np.maximum(x, 0)
    y = _times(w * t, if_yes) + _times(1 - t, if_no)
    return y, lambda g: (
        lambda out: g * ((1 - t) * logistic(x) - w * t * logistic(-x)),
        # the difference of both; near 0, where they are almost equal, without their digits lost
        lambda out: g * np.where(x < -1, _times(w, if_yes) - if_no, _times(w - 1, if_yes) - x),
        lambda out: sum_to(g * _times(t, if_yes), shape),
    )


def bce_with_logits(
    logits: Float[Tensor, "*shape"],
    target: Shaped[Array, "*shape"] | Float[Tensor, "*shape"],
    pos_weight: Float[Array, "..."] | Float[Tensor, "..."] | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Binary cross-entropy of independent yes/no questions, from logits; targets in [0, 1].

    ``pos_weight`` multiplies the loss of the positive part, and broadcasts. Targets and weights
    that require a gradient get one.

    Equation: training/loss-functions.md#eq-bce

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.
    """
    _same_shape("bce_with_logits", logits, target)
    dtype = logits.dtype if logits.dtype.kind == "f" else np.dtype(np.float32)
    labels, weight = (
        x if isinstance(x, Tensor) else Tensor(np.asarray(x, dtype))
        for x in (target, 1 if pos_weight is None else pos_weight)
    )
    loss = _bce_with_logits(logits, labels.to(dtype), weight.to(dtype))
    return _reduce(loss, reduction)


def focal(
    logits: Float[Tensor, "*batch classes"],
    targets: Int[Array, "*batch"],
    gamma: float = 2.0,
    reduction: str = "mean",
) -> Tensor:
    """(1 − p)^γ·(−log p) for the target's probability p: what is already right counts little.

    Equation: training/loss-functions.md#eq-focal
    Source: Lin et al., Focal loss for dense object detection, 2017, arXiv:1708.02002.

    Raises:
        ValueError: shapes do not fit, or a target is no class.
    """
    ids, _, _ = _check_targets(logits, targets, -100, None, reduction)
    log_p = gather(log_softmax(logits), ids[..., None], axis=-1).squeeze(-1)
    # 1 − p is rounded to a small positive number, since 0 to a power has no slope
    missing = (1 - log_p.exp()).clamp(float(np.finfo(logits.dtype).tiny), None)
    return _reduce(-(missing**gamma) * log_p, reduction)


@primitive
def _kl_div(input: Array, target: Array, log_target: bool) -> Any:
    """With p the target: the gradient is −p for the input, and log p + 1 − input for p."""
    input, target = alike(input, target)
    with np.errstate(divide="ignore"):
        log_p = target if log_target else np.log(target)
    p = np.exp(target) if log_target else target
    apart = _where_not_0(p, log_p, input)
    slope = p * (apart + 1) if log_target else np.where(p == 0, 0, apart + 1)
    return p * apart, lambda g: (-g * p, g * slope)


def _where_not_0(p: Any, log_p: Any, log_q: Any) -> Any:
    """log p − log q where p is not 0."""
    return np.subtract(log_p, log_q, out=np.zeros_like(p), where=p != 0)


def kl_div(
    input: Float[Tensor, "*shape"],
    target: Float[Array, "*shape"] | Float[Tensor, "*shape"],
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """Σ target·(log target − input), where ``input`` holds **log**-probabilities.

    As in PyTorch, "mean" divides by the number of elements, which is not the divergence;
    "batchmean" divides by the first axis, which is. Where the target is 0 it adds 0, and so it
    does to the gradients, whatever the input is. Both get gradients.

    Equation: training/loss-functions.md#eq-kl-div

    Raises:
        ValueError: the shapes differ, or a probability is negative.
    """
    _same_shape("kl_div", input, target)
    lowest = _plain(target).min(initial=0.0)
    if not log_target and lowest < 0:
        raise ValueError(f"kl_div: a target is a probability, got {lowest}; set log_target for log")
    loss = _kl_div(input, target, log_target=log_target)
    if reduction == "batchmean":
        rows = input.shape[0] if input.ndim else 1
        return loss.sum() / (rows or np.nan)
    return _reduce(loss, reduction)


# ---- contrastive -----------------------------------------------------------------------------


def info_nce(
    a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], tau: float = 0.07
) -> Float[Tensor, ""]:
    """Which of the n rows of ``b`` belongs to each row of ``a``? Cross-entropy of cosine / tau.

    At chance it is ln n; ln n minus the loss bounds the mutual information from below.

    Equation: training/loss-functions.md#eq-info-nce
    Source: van den Oord et al., CPC, 2018, arXiv:1807.03748.
    """
    _positive(tau, "info_nce: tau")
    return cross_entropy(_cosines(a, b) / tau, np.arange(len(a)))


def clip_loss(
    a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], tau: float = 0.07
) -> Float[Tensor, ""]:
    """InfoNCE in both directions, averaged.

    Equation: training/loss-functions.md#eq-clip
    Source: Radford et al., CLIP, 2021, arXiv:2103.00020.
    """
    _positive(tau, "clip_loss: tau")
    logits = _cosines(a, b) / tau
    each = np.arange(len(a))
    return (cross_entropy(logits, each) + cross_entropy(logits.T, each)) / 2


def triplet(
    anchor: Float[Tensor, "n d"],
    positive: Float[Tensor, "n d"],
    negative: Float[Tensor, "n d"],
    margin: float = 1.0,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin + distance to the positive − distance to the negative).

    The distance is ‖a − b + eps‖, with eps added to every coordinate as in PyTorch: it keeps the
    root away from 0.

    Equation: training/loss-functions.md#eq-triplet

    Raises:
        ValueError: the reduction is unknown.
    """
    distances = [norm(anchor - other + eps, axis=-1) for other in (positive, negative)]
    return _reduce(relu(distances[0] - distances[1] + margin), reduction)


# ---- calibration -----------------------------------------------------------------------------


def expected_calibration_error(
    probs: Float[Array, "n classes"], targets: Int[Array, "n"], bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy, over bins of confidence, weighted by their size.

    Equation: training/loss-functions.md#eq-ece
    Source: Guo et al., On calibration of modern neural networks, 2017, arXiv:1706.04599.

    Raises:
        ValueError: there is no prediction, there are more or fewer targets, or ``bins`` is below 1.
    """
    if bins < 1 or len(probs) != len(targets) or len(probs) == 0:
        raise ValueError(
            f"expected_calibration_error: {len(probs)} predictions, {len(targets)} targets, "
            f"{bins} bins"
        )
    confidence = probs.max(axis=1)
    right = probs.argmax(axis=1) == targets
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(which, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(probs))


def fit_temperature(
    logits: Float[Array, "n classes"], targets: Int[Array, "n"], steps: int = 60
) -> float:
    """The τ > 0 for which softmax(logits / τ) has the smallest cross-entropy.

    The loss is convex in 1/τ, so the sign of its slope there tells in which half the minimum
    is: bisection between τ = e⁻⁶ and e⁶ on the scale of logarithms.

    Equation: training/loss-functions.md#eq-temperature-scaling
    """
    low, high = -6.0, 6.0
    for _ in range(steps):
        middle = (low + high) / 2
        inverse = Tensor(np.array(np.exp(-middle)), requires_grad=True)
        possible = np.maximum(logits.astype(float), -1e300)  # −∞ times a slope of 0 is no number
        cross_entropy(Tensor(possible) * inverse, targets).backward()
        assert inverse.grad is not None
        if inverse.grad < 0:  # a larger 1/τ, a smaller τ, is better
            high = middle
        else:
            low = middle
    return float(np.exp((low + high) / 2))


# ---- shared pieces ---------------------------------------------------------------------------


def _reduce(loss: Tensor, reduction: str) -> Tensor:
    _check_reduction(reduction)
    if reduction == "mean":
        return loss.mean()
    return loss.sum() if reduction == "sum" else loss


def _check_reduction(reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}; got {reduction!r}")


def _plain(value: Tensor | Array) -> Array:
    return value.data if isinstance(value, Tensor) else value


def _times(weight: Any, value: Any) -> Any:
    """The product, 0 where the weight is 0, whatever the value is: 0 · ∞ would be NaN."""
    return np.multiply(weight, value, out=np.zeros_like(value), where=np.not_equal(weight, 0))


def _weighted_sum(rows: Array, weights: Array) -> Array:
    return (rows if weights.all() else np.where(weights == 0, 0, rows)) @ weights


def _same_shape(name: str, prediction: Tensor, target: Tensor | Array) -> None:
    if prediction.shape != target.shape:
        raise ValueError(
            f"{name}: prediction has shape {prediction.shape}, target {target.shape}; "
            "they must be equal, or every prediction would meet every target"
        )


def _residual(prediction: Tensor, target: Tensor | Array) -> Tensor:
    """The difference; of 16-bit numbers in float32, since it may not fit in 16."""
    _same_shape("loss", prediction, target)
    return prediction.to(wide(prediction.dtype)) - target


def _reduced_as(prediction: Tensor, target: Tensor | Array, loss: Tensor, reduction: str) -> Tensor:
    """The reduced loss in the type that the difference has."""
    return _reduce(loss, reduction).to(result_type(prediction.data, _plain(target)))


def _positive(value: float, name: str) -> None:
    if value <= 0:
        raise ValueError(f"{name} must be positive, got {value}")


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    if a.shape != b.shape:
        raise ValueError(f"expected as many rows of the same size, got {a.shape} and {b.shape}")
    lengths = [norm(x, axis=-1, keepdims=True) for x in (a, b)]
    if not all(np.all(length.data > 0) for length in lengths):
        raise ValueError("a row of zeros has no direction to compare")
    return (a / lengths[0]) @ (b / lengths[1]).T


def _check_targets(
    logits: Tensor,
    targets: Tensor | Array,
    ignore_index: int,
    weight: Array | Tensor | None,
    reduction: str,
) -> tuple[Array, Array, Array]:
    """Targets with a harmless class where ignored, what counts (0 or 1), the class weights."""
    _check_reduction(reduction)
    *batch, classes = logits.shape
    ids, counted, ones = _check(_plain(targets), tuple(batch), classes, logits.dtype, ignore_index)
    if weight is None:
        return ids, counted, ones
    weight = np.asarray(constant(weight, "class weights"))
    if weight.shape != (classes,):
        raise ValueError(f"expected {classes} class weights, got shape {weight.shape}")
    return ids, counted, weight.astype(logits.dtype)


def _check(
    targets: Array, batch: Sequence[int], classes: int, dtype: Any, ignore_index: int
) -> tuple[Array, Array, Array]:
    if targets.shape != tuple(batch) or targets.dtype.kind not in "iu":
        raise ValueError(
            f"expected whole-number targets of shape {tuple(batch)} (logits have their classes on "
            f"the last axis), got {targets.dtype} of shape {targets.shape}"
        )
    counts = np.asarray(targets != ignore_index)
    ids = np.where(counts, targets, 0)
    if ids.size and (ids.min() < 0 or ids.max() >= classes):
        raise ValueError(
            f"targets must be in 0..{classes - 1} or {ignore_index} (ignored), "
            f"got {ids.min()}..{ids.max()}"
        )
    return ids, counts.astype(dtype), np.ones(classes, dtype=dtype)


def _total_weight(share: Array) -> Any:
    total = share.sum()
    if total == 0:
        raise ValueError("no target counts, so there is no mean: all are ignored or weigh 0")
    return total
