"""Blind set of neural-networks/activation-functions: wrong answers from the stub alone."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong
from chainrule.math_foundations.probability import normal_cdf


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


def _density(z):
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


# ---- six_slopes ------------------------------------------------------------------------------


def _slopes(z, **other):
    s, t = _sigmoid(z), np.tanh(z)
    right = {
        "sigmoid": s * (1 - s),
        "tanh": 1 - t**2,
        "relu": float(z > 0),
        "leaky": 1.0 if z > 0 else 0.1,
        "gelu": float(normal_cdf(np.array(z))) + z * _density(z),
        "silu": s + z * s * (1 - s),
    }
    return np.array(list((right | other).values()))


@wrong(
    "six_slopes",
    "GELU's slope is taken for Φ alone, SiLU's for σ alone.",
    known="holds_the_gate_still",
)
def _(z):
    return _slopes(z, gelu=float(normal_cdf(np.array(z))), silu=_sigmoid(z))


@wrong(
    "six_slopes",
    "The derivative of tanh is 1 − tanh instead of 1 − tanh².",
    known="forgets_the_square",
)
def _(z):
    return _slopes(z, tanh=1 - np.tanh(z))


@wrong("six_slopes", "The bell has lost its 1/√(2π).", known="bell_without_its_factor")
def _(z):
    return _slopes(z, gelu=float(normal_cdf(np.array(z))) + z * np.exp(-(z**2) / 2))


@wrong("six_slopes", "Leaky ReLU has slope 0 on the left, as ReLU.", known="leaky_as_relu")
def _(z):
    return _slopes(z, leaky=float(z > 0))


@wrong(
    "six_slopes",
    "Uses σ(z)(1 − σ(z)) with z in place of σ(z).",
    known="puts_z_in_place_of_the_output",
)
def _(z):
    return _slopes(z, sigmoid=z * (1 - z))


# ---- gain_of ---------------------------------------------------------------------------------


def _strips(low=-10.0, high=10.0, width=0.001):
    return np.arange(low + width / 2, high, width), width


@wrong("gain_of", "Forgets the root: 1/E[act²].", known="forgets_the_root")
def _(act):
    z, width = _strips()
    return 1 / (act(z) ** 2 * _density(z)).sum() / width


@wrong("gain_of", "The root of the mean square, not one over it.", known="upside_down")
def _(act):
    z, width = _strips()
    return np.sqrt((act(z) ** 2 * _density(z)).sum() * width)


@wrong(
    "gain_of",
    "Divides by the standard deviation of the output: takes off the mean.",
    known="takes_the_variance",
)
def _(act):
    z, width = _strips()
    p = _density(z) * width
    mean = (act(z) * p).sum()
    return 1 / np.sqrt(((act(z) - mean) ** 2 * p).sum())


@wrong("gain_of", "Averages over the strips as if ζ were uniform on [−10, 10].")
def _(act):
    z, _ = _strips()
    return 1 / np.sqrt((act(z) ** 2).mean())


@wrong("gain_of", "Draws ten thousand numbers instead of integrating.")
def _(act):
    z = np.random.default_rng(0).standard_normal(10_000)
    return 1 / np.sqrt((act(z) ** 2).mean())


# ---- leaky_deviation -------------------------------------------------------------------------


@wrong(
    "leaky_deviation", "He's deviation for plain ReLU; the slope is not used.", known="as_for_relu"
)
def _(fan_in, slope):
    return np.sqrt(2 / fan_in)


@wrong("leaky_deviation", "The variance.", known="returns_the_variance")
def _(fan_in, slope):
    return 2 / ((1 + slope**2) * fan_in)


@wrong("leaky_deviation", "The slope without its square.", known="slope_without_square")
def _(fan_in, slope):
    return np.sqrt(2 / ((1 + slope) * fan_in))


@wrong(
    "leaky_deviation",
    "1/√fan_in: forgets the activation altogether.",
    known="forgets_the_activation",
)
def _(fan_in, slope):
    return 1 / np.sqrt(fan_in)


@wrong(
    "leaky_deviation",
    "Takes ½ off twice: no 2 in the numerator.",
    known="forgets_that_each_side_is_half",
)
def _(fan_in, slope):
    return np.sqrt(1 / ((1 + slope**2) * fan_in))


# ---- largest_errors --------------------------------------------------------------------------


def _gelu(x):
    return x * normal_cdf(x)


def _forms(x, constant, steepness):
    tanh = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + constant * x**3)))
    return tanh, x * _sigmoid(steepness * x)


@wrong(
    "largest_errors", "The largest signed difference, no absolute value.", known="forgets_the_sign"
)
def _(constant, steepness):
    x = np.linspace(-8, 8, 16001)
    a, b = _forms(x, constant, steepness)
    return float((a - _gelu(x)).max()), float((b - _gelu(x)).max())


@wrong("largest_errors", "Compares with Φ(x), not with x·Φ(x).", known="compares_with_the_gate")
def _(constant, steepness):
    x = np.linspace(-8, 8, 16001)
    a, b = _forms(x, constant, steepness)
    return float(abs(a - normal_cdf(x)).max()), float(abs(b - normal_cdf(x)).max())


@wrong(
    "largest_errors", "The mean distance instead of the largest.", known="averages_the_distances"
)
def _(constant, steepness):
    x = np.linspace(-8, 8, 16001)
    a, b = _forms(x, constant, steepness)
    return float(abs(a - _gelu(x)).mean()), float(abs(b - _gelu(x)).mean())


@wrong("largest_errors", "Looks at the whole numbers only.")
def _(constant, steepness):
    x = np.arange(-8.0, 9.0)
    a, b = _forms(x, constant, steepness)
    return float(abs(a - _gelu(x)).max()), float(abs(b - _gelu(x)).max())


@wrong("largest_errors", "The two results are exchanged.", known="exchanges_the_two")
def _(constant, steepness):
    x = np.linspace(-8, 8, 16001)
    a, b = _forms(x, constant, steepness)
    return float(abs(b - _gelu(x)).max()), float(abs(a - _gelu(x)).max())


# ---- deadly_rate -----------------------------------------------------------------------------


def _rates(X, W, b, bias=True, divisor=1):
    """For each unit the rate at which its last example goes out."""
    Z = X @ W.T + b
    on = (Z > 0).astype(float)
    W_grad, b_grad = on.T @ X / divisor, on.sum(axis=0) / divisor
    fall = X @ W_grad.T + (b_grad if bias else 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = np.where(Z > 0, Z / fall, 0)
    return rates.max(axis=0)


@wrong("deadly_rate", "The step leaves the bias where it is.", known="forgets_the_bias")
def _(X, W, b):
    return float(_rates(X, W, b, bias=False).max())


@wrong(
    "deadly_rate",
    "The rate that kills the first unit, not every one.",
    known="stops_at_the_first_unit",
)
def _(X, W, b):
    return float(_rates(X, W, b).min())


@wrong(
    "deadly_rate",
    "The gradient of the mean over the examples instead of the sum.",
    known="gradient_of_the_mean",
)
def _(X, W, b):
    return float(_rates(X, W, b, divisor=len(X)).max())


@wrong(
    "deadly_rate", "Every example pushes, also those whose unit is off.", known="everybody_pushes"
)
def _(X, W, b):
    Z = X @ W.T + b
    total = X.sum(axis=0)
    fall = X @ total + len(X)
    return float((Z / fall[:, None]).max())


@wrong(
    "deadly_rate",
    "The smallest rate at which some example goes out of each unit.",
    known="stops_at_the_first_example",
)
def _(X, W, b):
    Z = X @ W.T + b
    on = (Z > 0).astype(float)
    fall = X @ (on.T @ X).T + on.sum(axis=0)
    return float(np.where(Z > 0, Z / fall, np.inf).min(axis=0).max())


# ---- gelu_tanh -------------------------------------------------------------------------------


def _gelu_tanh(x, slope=None, cube=0.044715, root=None):
    root = np.sqrt(2 / np.pi) if root is None else root
    t = np.tanh(root * (x + cube * x**3))
    gate = (1 + t) / 2
    inner = root * (1 + 3 * cube * x**2)
    d = gate + x * (1 - t**2) / 2 * inner if slope is None else slope(x, t, gate, inner)
    return x * gate, lambda g: g * d


@wrong("gelu_tanh", "The backward pass multiplies by the gate alone.", known="gate_held_still")
def _(x):
    return _gelu_tanh(x, lambda x, t, gate, inner: gate)


@wrong("gelu_tanh", "Forgets the inner derivative of u.", known="inner_slope_of_one")
def _(x):
    return _gelu_tanh(x, lambda x, t, gate, inner: gate + x * (1 - t**2) / 2)


@wrong("gelu_tanh", "Differentiates x³ to x²: no factor 3.", known="forgets_the_three")
def _(x):
    root = np.sqrt(2 / np.pi)
    return _gelu_tanh(
        x, lambda x, t, gate, inner: gate + x * (1 - t**2) / 2 * root * (1 + 0.044715 * x**2)
    )


@wrong(
    "gelu_tanh", "The half is lost in the second term of the derivative.", known="gate_part_twice"
)
def _(x):
    return _gelu_tanh(x, lambda x, t, gate, inner: gate + x * (1 - t**2) * inner)


@wrong("gelu_tanh", "vjp returns the slope and does not multiply by g.", known="returns_the_slope")
def _(x):
    y, vjp = _gelu_tanh(x)
    return y, lambda g: vjp(np.ones_like(g))


# ---- fair_orthogonal -------------------------------------------------------------------------


@wrong("fair_orthogonal", "Returns Q as LAPACK gives it.", known="trusts_the_signs")
def _(n, rng):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


@wrong(
    "fair_orthogonal",
    "One sign for the whole matrix, that of R's first entry.",
    known="one_sign_for_all",
)
def _(n, rng):
    q, r = np.linalg.qr(rng.standard_normal((n, n)))
    return np.sign(r[0, 0]) * q


@wrong(
    "fair_orthogonal",
    "Scales the columns of a Gaussian matrix to length 1.",
    known="only_normalizes",
)
def _(n, rng):
    a = rng.standard_normal((n, n))
    return a / np.linalg.norm(a, axis=0)


@wrong(
    "fair_orthogonal",
    "Multiplies by the diagonal of R, not by its signs.",
    known="multiplies_by_the_diagonal",
)
def _(n, rng):
    q, r = np.linalg.qr(rng.standard_normal((n, n)))
    return q * np.diag(r)


@wrong("fair_orthogonal", "Makes the diagonal of Q positive.", known="makes_the_diagonal_positive")
def _(n, rng):
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    return q * np.sign(np.diag(q))
