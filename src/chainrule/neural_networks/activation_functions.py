"""Activation functions with their derivatives, and initializations that keep signals alive.

Taught in ``neural-networks/activation-functions.md``. ``sigmoid``, ``tanh`` and ``relu`` are the
engine's own. GELU stands on two rungs: composed of primitive operations, and fused. Weights have
PyTorch's shape (outputs, inputs, …); the inputs of one output are its fan-in. Shape names:
``batch`` examples, ``units`` of one layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from math import prod
from math import sqrt as root
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from chainrule.math_foundations.probability import normal_cdf
from chainrule.neural_networks.backpropagation import (
    Module,
    Parameter,
    Tensor,
    is_grad_enabled,
    primitive,
    relu,
    sigmoid,
    tanh,
    where,
)
from chainrule.neural_networks.backpropagation.edits import note_edit
from chainrule.neural_networks.backpropagation.operations import logistic
from chainrule.neural_networks.backpropagation.promotion import floating
from chainrule.shapes import Array, Bool, Float

__all__ = [
    "ELU",
    "GELU",
    "LeakyReLU",
    "PReLU",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Tanh",
    "dead_fraction",
    "elu",
    "gain",
    "gelu",
    "gelu_composed",
    "gradient_propagation",
    "kaiming_",
    "leaky_relu",
    "logsigmoid",
    "orthogonal_",
    "prelu",
    "relu",
    "relu_squared",
    "sigmoid",
    "signal_propagation",
    "silu",
    "softplus",
    "tanh",
    "xavier_",
]

Activation = Callable[[Tensor], Tensor]

_BLOCK = 65_536  # elements: the few float32 blocks of one activation fit a core's cache


# ---- ReLU and variants -----------------------------------------------------------------------


@primitive
def _piecewise(x: Array, negative_slope: float) -> Any:
    x = floating(x)
    slope = np.where(x > 0, x.dtype.type(1), x.dtype.type(negative_slope))
    return x * slope, lambda g: (g * slope,)


def leaky_relu(x: Float[Tensor, "*shape"], negative_slope: float = 0.01) -> Float[Tensor, "*shape"]:
    """X where it is positive, ``negative_slope``·x elsewhere.

    Equation: neural-networks/activation-functions.md#eq-leaky-relu
    """
    return _piecewise(x, negative_slope=negative_slope)


def prelu(x: Float[Tensor, "*shape"], weight: Float[Tensor, "slopes"]) -> Float[Tensor, "*shape"]:
    """Leaky ReLU whose slopes are learned: one for everything, or one for each channel (axis 1).

    Equation: neural-networks/activation-functions.md#eq-prelu
    Source: He et al., Delving deep into rectifiers, 2015, arXiv:1502.01852.

    Raises:
        ValueError: there are several slopes, but not as many as channels.
    """
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.size not in (1, channels):
        raise ValueError(f"prelu: expected 1 or {channels} slopes, got {weight.size}")
    weight = weight.reshape(*[1, -1, *[1] * (x.ndim - 2)] if weight.size > 1 else [])
    positive = x.data > 0
    return where(positive, x, where(positive, 0.0, x) * weight)  # the branch not taken is 0


@primitive
def elu(x: Array, alpha: float = 1.0) -> Any:
    """X where it is positive, α(eˣ − 1) elsewhere.

    Equation: neural-networks/activation-functions.md#eq-elu
    """
    x = floating(x)
    below = np.minimum(x, 0)
    y = np.where(x > 0, x, alpha * np.expm1(below))
    slope = np.where(x > 0, 1, alpha * np.exp(below))  # and not α(eˣ − 1) + α, which loses eˣ
    return y, lambda g: (g * slope,)


@primitive
def relu_squared(x: Array) -> Any:
    """max(x, 0)².

    Equation: neural-networks/activation-functions.md#eq-relu-squared
    Source: So et al., Primer, 2021, arXiv:2109.08668.
    """
    positive = np.maximum(x, 0)
    return positive * positive, lambda g: (g * (2 * positive),)


@primitive
def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """log(1 + exp(βx))/β, the smooth ReLU; where βx exceeds ``threshold``, x itself.

    Equation: neural-networks/activation-functions.md#eq-softplus
    """
    x = floating(x)
    scaled = beta * x
    linear = scaled > threshold
    y = np.where(linear, x, np.logaddexp(0, scaled) / beta)
    slope = np.where(linear, 1, logistic(scaled))
    return y, lambda g: (g * slope,)


@primitive
def logsigmoid(x: Array) -> Any:
    """log σ(x) = min(x, 0) − log(1 + exp(−|x|)): finite where σ(x) itself rounds to 0.

    The derivative is σ(−x). Equation: neural-networks/activation-functions.md#eq-softplus
    """
    x = floating(x)
    y = np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))
    return y, lambda g: (g * logistic(-x),)


# ---- gated by the input itself: GELU and SiLU ------------------------------------------------


def gelu_composed(x: Float[Tensor, "*shape"], approximate: str = "none") -> Float[Tensor, "*shape"]:
    """GELU from simpler operations: the input times the probability that a gate lets it through.

    ``none`` is x·Φ(x), ``tanh`` replaces Φ by ½(1 + tanh(√(2/π)(x + 0.044715x³))), ``sigmoid`` by
    σ(1.702x).

    Equation: neural-networks/activation-functions.md#eq-gelu

    Raises:
        ValueError: ``approximate`` is none of the three.
    """
    if approximate == "none":
        return x * _gaussian_cdf(x)
    if approximate == "tanh":
        return 0.5 * x * (1 + tanh(root(2 / np.pi) * (x + 0.044715 * x * x * x)))
    if approximate == "sigmoid":
        return x * sigmoid(1.702 * x)
    raise ValueError(f"approximate must be 'none', 'tanh' or 'sigmoid', got {approximate!r}")


@primitive
def _gaussian_cdf(x: Array) -> Any:
    x = floating(x)
    return normal_cdf(x), lambda g: (g * np.exp(-0.5 * x * x) * root(0.5 / np.pi),)


def gelu(x: Float[Tensor, "*shape"], approximate: str = "none") -> Float[Tensor, "*shape"]:
    """GELU, fused; what ``gelu_composed`` computes.

    Equation: neural-networks/activation-functions.md#eq-gelu-derivative
    Source: Hendrycks and Gimpel, Gaussian error linear units, 2016, arXiv:1606.08415.

    Raises:
        ValueError: ``approximate`` is not 'none', 'tanh' or 'sigmoid'.
    """
    if approximate not in _GATED:
        raise ValueError(f"approximate must be 'none', 'tanh' or 'sigmoid', got {approximate!r}")
    return _gated(x, kind=approximate)


def silu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x·σ(x), the swish of slope 1.

    Equation: neural-networks/activation-functions.md#eq-silu
    Source: named in Hendrycks and Gimpel, 2016, arXiv:1606.08415; proposed by Elfwing et al.,
    2017, arXiv:1702.03118; found again as swish by Ramachandran et al., 2017, arXiv:1710.05941.
    """
    return _gated(x, kind="silu")


@primitive
def _gated(x: Array, kind: str) -> Any:
    """y = x·gate(x), computed together with its slope while a block of x is in the cache.

    Both need the same expensive gate. Only the slope is kept: the backward pass is one product.
    """
    x, compute = floating(x), _GATED[kind]
    y = np.empty(x.shape, x.dtype)
    slope = np.empty(x.shape, x.dtype) if is_grad_enabled() else None
    for part, y_part, slope_part in _blocks(x, y, slope):
        compute(part, y_part, slope_part)
    if slope is None:
        return y, None

    def vjp(g: Array) -> Any:
        return (np.multiply(g, slope, out=g if g.flags.writeable else None),)

    return y, vjp


def _blocks(x: Array, y: Array, slope: Array | None) -> Iterator[tuple[Array, Array, Array | None]]:
    flat, y = x.reshape(-1), y.reshape(-1)
    slope = None if slope is None else slope.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        yield flat[part], y[part], None if slope is None else slope[part]


def _gelu_tanh(x: Array, y: Array, slope: Array | None) -> None:
    """gate = ½(1 + tanh u), u = c(x + 0.044715x³); slope = gate + 2(1 − gate)·y·du/dx."""
    c, inner = root(2 / np.pi), x
    try:
        with np.errstate(over="raise"):
            s = x * x
    except FloatingPointError:  # from |x| = 20 on, tanh is ±1 whatever u is
        inner = np.clip(x, -20, 20)
        s = inner * inner
    s *= 0.044715 * c
    s += c
    gate = s * inner
    np.tanh(gate, out=gate)
    gate *= 0.5
    gate += 0.5
    np.multiply(x, gate, out=y)
    if slope is not None:
        s *= 6
        s -= 4 * c  # now s = 2·du/dx
        np.subtract(1, gate, out=slope)
        slope *= y
        slope *= s
        slope += gate


def _gelu_exact(x: Array, y: Array, slope: Array | None) -> None:
    """gate = Φ(x); slope = Φ(x) + x·φ(x)."""
    gate = normal_cdf(x)
    np.multiply(x, gate, out=y)
    if slope is not None:
        np.multiply(x, x, out=slope)
        slope *= -0.5
        np.exp(slope, out=slope)
        slope *= x
        slope *= root(0.5 / np.pi)
        slope += gate


def _swish(x: Array, y: Array, slope: Array | None, steepness: float) -> None:
    """gate = σ(kx), from z = exp(−|kx|) as in the engine; slope = gate + k·(1 − gate)·y."""
    gate = np.abs(x)
    gate *= -steepness
    np.exp(gate, out=gate)
    total = gate + 1
    np.copyto(gate, 1, where=x >= 0)
    gate /= total
    np.multiply(x, gate, out=y)
    if slope is not None:
        np.subtract(1, gate, out=slope)
        slope *= y
        slope *= steepness
        slope += gate


_GATED: dict[str, Callable[[Array, Array, Array | None], None]] = {
    "none": _gelu_exact,
    "tanh": _gelu_tanh,
    "sigmoid": lambda x, y, slope: _swish(x, y, slope, 1.702),
    "silu": lambda x, y, slope: _swish(x, y, slope, 1.0),
}


# ---- the same as modules ---------------------------------------------------------------------


class Sigmoid(Module):
    """The engine's sigmoid as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return sigmoid(x)


class Tanh(Module):
    """The engine's tanh as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return tanh(x)


class ReLU(Module):
    """The engine's relu as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return relu(x)


class LeakyReLU(Module):
    """`leaky_relu` as a module."""

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return leaky_relu(x, self.negative_slope)


class PReLU(Module):
    """`prelu` with its slopes, which start at ``init``."""

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, *, dtype: DTypeLike = np.float32
    ):
        self.weight = Parameter(np.full(num_parameters, init, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return prelu(x, self.weight)


class ELU(Module):
    """`elu` as a module."""

    def __init__(self, alpha: float = 1.0):
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return elu(x, alpha=self.alpha)


class GELU(Module):
    """`gelu` as a module.

    Raises:
        ValueError: ``approximate`` is not 'none', 'tanh' or 'sigmoid'.
    """

    def __init__(self, approximate: str = "none"):
        if approximate not in ("none", "tanh", "sigmoid"):
            raise ValueError(
                f"approximate must be 'none', 'tanh' or 'sigmoid', got {approximate!r}"
            )
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return gelu(x, self.approximate)

    def extra_repr(self) -> str:
        """Which form."""
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """`silu` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return silu(x)


# ---- initialization --------------------------------------------------------------------------

_NAMED: dict[str, Activation] = {
    "elu": elu,
    "gelu": gelu,
    "leaky_relu": leaky_relu,
    "linear": lambda x: x,
    "relu": relu,
    "sigmoid": sigmoid,
    "silu": silu,
    "tanh": tanh,
}


@cache
def gain(act: str | Activation) -> float:
    """1/√E[act(z)²] for standard normal z: the factor by which weights must make up for ``act``.

    Integrated with the trapezoid rule on [−12, 12]. For tanh this is 1.593; the 5/3 in PyTorch's
    table is a rule of thumb.

    Equation: neural-networks/activation-functions.md#eq-gain
    """
    z = np.linspace(-12, 12, 48_001)
    density = np.exp(-0.5 * z * z) * root(0.5 / np.pi)
    values = _named(act)(Tensor(z)).data
    return 1 / root(float(np.trapezoid(values**2 * density, z)))


def xavier_(
    shape: Sequence[int] | Tensor,
    rng: np.random.Generator,
    gain: float = 1.0,
    distribution: str = "uniform",
    dtype: DTypeLike = np.float32,
) -> Float[Array, "..."]:
    """Weights of variance gain²·2/(fan-in + fan-out): forward and backward variance between them.

    Returns a new array of that shape; given a tensor, fills and returns the tensor's own array.

    Equation: neural-networks/activation-functions.md#eq-xavier
    Source: Glorot and Bengio, Understanding the difficulty of training deep feedforward neural
    networks, 2010.
    """
    fan_in, fan_out = _fans(shape)
    return _draw(shape, gain * root(2 / (fan_in + fan_out)), rng, distribution, dtype)


def kaiming_(
    shape: Sequence[int] | Tensor,
    rng: np.random.Generator,
    nonlinearity: str | Activation = "relu",
    mode: str = "fan_in",
    distribution: str = "normal",
    dtype: DTypeLike = np.float32,
) -> Float[Array, "..."]:
    """Weights of variance gain(nonlinearity)²/fan: what the activation takes, they give back.

    Returns a new array of that shape; given a tensor, fills and returns the tensor's own array.

    Equation: neural-networks/activation-functions.md#eq-kaiming
    Source: He et al. 2015, arXiv:1502.01852.

    Raises:
        ValueError: ``mode`` is not 'fan_in' or 'fan_out'.
    """
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"kaiming_: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    fan = _fans(shape)[mode == "fan_out"]
    return _draw(shape, gain(nonlinearity) / root(fan), rng, distribution, dtype)


def orthogonal_(
    shape: Sequence[int] | Tensor,
    rng: np.random.Generator,
    gain: float = 1.0,
    dtype: DTypeLike = np.float32,
) -> Float[Array, "..."]:
    """A random matrix with orthonormal rows (or columns, if there are fewer), times ``gain``.

    Equation: neural-networks/activation-functions.md#eq-orthogonal
    Source: Saxe et al., Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks, 2013, arXiv:1312.6120.
    """
    sizes = _shape_of(shape)
    fan_in, _ = _fans(shape)
    rows, columns = sizes[0], fan_in
    Q, R = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    Q *= np.where(np.diag(R) < 0, -1.0, 1.0)  # makes the distribution uniform
    W = gain * (Q if rows >= columns else Q.T)
    return _place(shape, W.reshape(sizes), dtype)


def _draw(
    shape: Sequence[int] | Tensor,
    deviation: float,
    rng: np.random.Generator,
    distribution: str,
    dtype: DTypeLike,
) -> Array:
    sizes = _shape_of(shape)
    if distribution == "normal":
        return _place(shape, deviation * rng.standard_normal(sizes), dtype)
    if distribution == "uniform":
        bound = root(3) * deviation
        return _place(shape, rng.uniform(-bound, bound, sizes), dtype)
    raise ValueError(f"distribution must be 'normal' or 'uniform', got {distribution!r}")


def _place(target: Sequence[int] | Tensor, values: Array, dtype: DTypeLike) -> Array:
    if isinstance(target, Tensor):
        target.data[...] = values
        note_edit(target.data)
        return target.data
    return values.astype(dtype)


def _shape_of(shape: Sequence[int] | Tensor) -> tuple[int, ...]:
    return shape.shape if isinstance(shape, Tensor) else tuple(shape)


def _fans(shape: Sequence[int] | Tensor) -> tuple[int, int]:
    sizes = _shape_of(shape)
    if len(sizes) < 2:
        raise ValueError(f"weights need at least the axes (outputs, inputs), got shape {sizes}")
    outputs, inputs, *receptive = sizes
    return inputs * prod(receptive), outputs * prod(receptive)


def _named(act: str | Activation) -> Activation:
    if not isinstance(act, str):
        return act
    if act not in _NAMED:
        raise ValueError(f"unknown activation {act!r}; known are {', '.join(_NAMED)}")
    return _NAMED[act]


# ---- watching signals ------------------------------------------------------------------------


def signal_propagation(
    act: str | Activation,
    init: Callable[[Sequence[int], np.random.Generator], Array],
    depth: int,
    width: int,
    rng: np.random.Generator,
    batch: int = 64,
) -> Float[Array, "depth"]:
    """Root mean square of the output of each layer of a deep network fed with N(0, 1) numbers.

    Equation: neural-networks/activation-functions.md#eq-forward-variance
    """
    activation = _named(act)
    x = Tensor(rng.standard_normal((batch, width)))
    sizes = np.empty(depth)
    for layer in range(depth):
        x = activation(x @ Tensor(np.asarray(init((width, width), rng), dtype=float).T))
        sizes[layer] = root(float(np.mean(x.data**2)))
    return sizes


def gradient_propagation(
    act: str | Activation,
    init: Callable[[Sequence[int], np.random.Generator], Array],
    depth: int,
    width: int,
    rng: np.random.Generator,
    batch: int = 64,
) -> Float[Array, "depth"]:
    """Root mean square of the gradient that reaches each layer's input, from N(0, 1) at the top.

    Entry 0 belongs to the first layer, which the gradient reaches last.

    Equation: neural-networks/activation-functions.md#eq-backward-variance
    """
    activation = _named(act)
    x = Tensor(rng.standard_normal((batch, width)), requires_grad=True)
    inputs = [x]
    for _ in range(depth):
        x = activation(x @ Tensor(np.asarray(init((width, width), rng), dtype=float).T))
        x.retain_grad()
        inputs.append(x)
    x.backward(rng.standard_normal(x.shape))
    gradients = [h.grad for h in inputs[:-1] if h.grad is not None]
    return np.array([root(float(np.mean(g * g))) for g in gradients])


def dead_fraction(preacts: Float[Array, "batch units"]) -> float:
    """The share of ReLU units that are off for every example: no gradient reaches them."""
    dead: Bool[Array, "units"] = np.all(preacts <= 0, axis=0)
    return float(np.mean(dead))
