"""Blind set of math-foundations/calculus: wrong answers from statement and stub alone."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong


def _six(x, **changed):
    slopes = {
        "cube": 3 * x**2,
        "product": (1 + x) * np.exp(x),
        "sine": 2 * x * np.cos(x**2),
        "bell": -2 * x / (1 + x**2) ** 2,
        "softplus": np.exp(x) / (1 + np.exp(x)),
        "tanh": 3 / np.cosh(3 * x) ** 2,
    }
    return np.array(list((slopes | changed).values()))


@wrong(
    "six_derivatives",
    "Multiplies the derivatives of the factors of x·exp(x).",
    known="multiplies_the_derivatives",
)
def _(x):
    return _six(x, product=np.exp(x))


@wrong(
    "six_derivatives",
    "Forgets the inner derivative 2x of sin(x²).",
    known="forgets_the_inner_derivative",
)
def _(x):
    return _six(x, sine=np.cos(x**2))


@wrong(
    "six_derivatives",
    "Loses the minus of the derivative of 1/(1 + x²).",
    known="loses_the_sign_of_the_quotient",
)
def _(x):
    return _six(x, bell=2 * x / (1 + x**2) ** 2)


@wrong(
    "six_derivatives",
    "Forgets the inner derivative exp(x) of log(1 + exp(x)).",
    known="forgets_the_inside_of_the_logarithm",
)
def _(x):
    return _six(x, softplus=1 / (1 + np.exp(x)))


@wrong("six_derivatives", "Forgets the factor 3 of tanh(3x).", known="forgets_the_inner_derivative")
def _(x):
    return _six(x, tanh=1 / np.cosh(3 * x) ** 2)


@wrong("ridge_gradient", "Forgets the 2 of both squares.", known="forgets_the_two")
def _(A, b, x, lam):
    return A.T @ (A @ x - b) + lam * x


@wrong("ridge_gradient", "Forgets the 2 of the penalty alone.", known="halves_the_penalty")
def _(A, b, x, lam):
    return 2 * A.T @ (A @ x - b) + lam * x


@wrong("ridge_gradient", "The residual has the wrong sign.", known="residual_the_wrong_way_round")
def _(A, b, x, lam):
    return 2 * A.T @ (b - A @ x) + 2 * lam * x


@wrong("ridge_gradient", "Forgets the transpose of A.", known="forgets_the_transpose")
def _(A, b, x, lam):
    return 2 * A @ (A @ x - b) + 2 * lam * x


@wrong("ridge_gradient", "Forgets the penalty.", known="forgets_the_penalty")
def _(A, b, x, lam):
    return 2 * A.T @ (A @ x - b)


@wrong("best_step", "Sets the two errors equal instead of their slopes.", known="equal_errors")
def _(eps, order, c):
    return (eps / c) ** (1 / (order + 1))


@wrong("best_step", "Takes the root of order and not of order + 1.", known="forgets_one_power")
def _(eps, order, c):
    return (eps / (order * c)) ** (1 / order)


@wrong("best_step", "Multiplies by order where it should divide.", known="multiplies_by_the_order")
def _(eps, order, c):
    return (order * eps / c) ** (1 / (order + 1))


@wrong(
    "best_step",
    "Always the square root: the central difference is forgotten.",
    known="always_the_square_root",
)
def _(eps, order, c):
    return np.sqrt(eps / (order * c))


@wrong("best_step", "Leaves the constant c out.", known="leaves_c_out")
def _(eps, order, c):
    return (eps / order) ** (1 / (order + 1))


class _Right:
    def __init__(self, value, slope):
        self.value, self.slope = value, slope

    def __add__(self, other):
        return type(self)(self.value + other.value, self.slope + other.slope)

    def __mul__(self, other):
        slope = self.slope * other.value + self.value * other.slope
        return type(self)(self.value * other.value, slope)

    def __truediv__(self, other):
        slope = self.slope * other.value - self.value * other.slope
        return type(self)(self.value / other.value, slope / other.value**2)

    def exp(self):
        return type(self)(np.exp(self.value), np.exp(self.value) * self.slope)

    def tanh(self):
        return type(self)(np.tanh(self.value), (1 - np.tanh(self.value) ** 2) * self.slope)


@wrong("Pair", "The product's slope is the product of the slopes.", known="MultipliesTheSlopes")
class _(_Right):
    def __mul__(self, other):
        return type(self)(self.value * other.value, self.slope * other.slope)


@wrong(
    "Pair", "The quotient rule has its two terms exchanged.", known="ExchangesTheTermsOfTheQuotient"
)
class _(_Right):
    def __truediv__(self, other):
        slope = self.value * other.slope - self.slope * other.value
        return type(self)(self.value / other.value, slope / other.value**2)


@wrong(
    "Pair",
    "Divides by the denominator and not by its square.",
    known="ForgetsToSquareTheDenominator",
)
class _(_Right):
    def __truediv__(self, other):
        slope = self.slope * other.value - self.value * other.slope
        return type(self)(self.value / other.value, slope / other.value)


@wrong("Pair", "exp does not multiply with the slope that came in.", known="LosesTheSlopeInExp")
class _(_Right):
    def exp(self):
        return type(self)(np.exp(self.value), np.exp(self.value))


@wrong(
    "Pair",
    "tanh's slope uses 1 − value² of the input, not of the output.",
    known="SquaresTheInputOfTanh",
)
class _(_Right):
    def tanh(self):
        return type(self)(np.tanh(self.value), (1 - self.value**2) * self.slope)


@wrong(
    "hessian_times",
    "A forward difference: the error is of first order in h.",
    known="looks_ahead_only",
)
def _(grad_f, x, v):
    h = 1e-5 / np.linalg.norm(v)
    return (grad_f(x + h * v) - grad_f(x)) / h


@wrong(
    "hessian_times",
    "A fixed step along v, whatever the length of v.",
    known="same_multiple_for_every_v",
)
def _(grad_f, x, v):
    h = 1e-5
    return (grad_f(x + h * v) - grad_f(x - h * v)) / (2 * h)


@wrong(
    "hessian_times",
    "Makes v a unit vector and does not multiply its length back.",
    known="forgets_the_length_of_v",
)
def _(grad_f, x, v):
    u, h = v / np.linalg.norm(v), 1e-5
    return (grad_f(x + h * u) - grad_f(x - h * u)) / (2 * h)


@wrong("hessian_times", "Divides by h and not by 2h.", known="divides_by_one_step")
def _(grad_f, x, v):
    length, h = np.linalg.norm(v), 1e-5
    u = v / length
    return (grad_f(x + h * u) - grad_f(x - h * u)) / h * length


@wrong(
    "hessian_times",
    "Multiplies the gradient's change with v entry by entry.",
    known="multiplies_entry_by_entry",
)
def _(grad_f, x, v):
    h = 1e-5
    return (grad_f(x + h) - grad_f(x - h)) / (2 * h) * v


@wrong("unit_jacobian", "Treats the length as a constant.", known="length_held_constant")
def _(x):
    return np.eye(len(x)) / np.linalg.norm(x)


@wrong(
    "unit_jacobian",
    "Forgets that the outer product is divided by the squared length.",
    known="takes_the_long_outer_product",
)
def _(x):
    return (np.eye(len(x)) - np.outer(x, x)) / np.linalg.norm(x)


@wrong("unit_jacobian", "Forgets to divide by the length.", known="forgets_one_over_length")
def _(x):
    return np.eye(len(x)) - np.outer(x, x) / (x @ x)


@wrong("unit_jacobian", "The second term is added, not subtracted.", known="adds_the_second_term")
def _(x):
    return (np.eye(len(x)) + np.outer(x, x) / (x @ x)) / np.linalg.norm(x)


@wrong(
    "unit_jacobian",
    "Only the diagonal: each output's derivative by its own input.",
    known="diagonal_only",
)
def _(x):
    r = np.linalg.norm(x)
    return np.diag(1 / r - x**2 / r**3)


@wrong("best_rate", "The border 2/λ, from which on the loss may rise.", known="the_border")
def _(g, H):
    rate = 2 / np.linalg.eigvalsh(H)[-1]
    return np.array([rate, -rate * (g @ g) + rate**2 * (g @ H @ g) / 2])


@wrong(
    "best_rate",
    "One over the largest curvature, whatever the gradient's direction.",
    known="largest_curvature",
)
def _(g, H):
    rate = 1 / np.linalg.eigvalsh(H)[-1]
    return np.array([rate, -rate * (g @ g) + rate**2 * (g @ H @ g) / 2])


@wrong(
    "best_rate", "Forgets that the derivative of η² brings down a 2.", known="takes_everything_back"
)
def _(g, H):
    rate = 2 * (g @ g) / (g @ H @ g)
    return np.array([rate, -rate * (g @ g) + rate**2 * (g @ H @ g) / 2])


@wrong("best_rate", "The change without what curvature takes back.", known="gain_alone")
def _(g, H):
    rate = (g @ g) / (g @ H @ g)
    return np.array([rate, -rate * (g @ g)])


@wrong("best_rate", "The quotient is upside down.", known="upside_down")
def _(g, H):
    rate = (g @ H @ g) / (g @ g)
    return np.array([rate, -rate * (g @ g) + rate**2 * (g @ H @ g) / 2])


class _Pair:
    def __init__(self, value, slope):
        self.value, self.slope = value, slope

    def __add__(self, other):
        return type(self)(self.value + other.value, self.slope + other.slope)

    def __mul__(self, other):
        slope = self.slope * other.value + self.value * other.slope
        return type(self)(self.value * other.value, slope)

    def __truediv__(self, other):
        slope = (self.slope * other.value - self.value * other.slope) / other.value**2
        return type(self)(self.value / other.value, slope)

    def exp(self):
        return type(self)(np.exp(self.value), np.exp(self.value) * self.slope)

    def tanh(self):
        t = np.tanh(self.value)
        return type(self)(t, (1 - t * t) * self.slope)


@wrong(
    "Pair",
    "Divides the slopes, as if a quotient were differentiated part by part.",
    known="DividesTheSlopes",
)
class _(_Pair):
    def __truediv__(self, other):
        return type(self)(self.value / other.value, self.slope / other.slope)


@wrong(
    "Pair",
    "The quotient's terms in the wrong order: the sign is turned.",
    known="ExchangesTheTermsOfTheQuotient",
)
class _(_Pair):
    def __truediv__(self, other):
        slope = (self.value * other.slope - self.slope * other.value) / other.value**2
        return type(self)(self.value / other.value, slope)


@wrong(
    "Pair", "The slope of tanh is not multiplied by the inner slope.", known="LosesTheSlopeInTanh"
)
class _(_Pair):
    def tanh(self):
        t = np.tanh(self.value)
        return type(self)(t, 1 - t * t)


@wrong(
    "Pair",
    "The slope of exp is taken at the slope, and not at the value.",
    known="ExponentOfTheSlope",
)
class _(_Pair):
    def exp(self):
        return type(self)(np.exp(self.value), np.exp(self.slope))


@wrong("Pair", "The slope of tanh is 1 − tanh, without the square.", known="ForgetsTheSquareInTanh")
class _(_Pair):
    def tanh(self):
        t = np.tanh(self.value)
        return type(self)(t, (1 - t) * self.slope)


@wrong(
    "six_derivatives",
    "The last one without the 3 of the inner slope, the third without 2x.",
    known="forgets_the_inner_derivative",
)
def _(x):
    return np.array(
        [
            3 * x**2,
            (1 + x) * np.exp(x),
            np.cos(x**2),
            -2 * x / (1 + x**2) ** 2,
            1 / (1 + np.exp(-x)),
            1 - np.tanh(3 * x) ** 2,
        ]
    )


@wrong("ridge_gradient", "Forgets the 2 of both squares.", known="forgets_the_two")
def _(A, b, x, lam):
    return A.T @ (A @ x - b) + lam * x


@wrong("best_rate", "The change is given as a gain, with a plus.", known="wrong_sign")
def _(g, H):
    rate = (g @ g) / (g @ H @ g)
    return np.array([rate, rate * (g @ g) / 2])


@wrong(
    "best_rate",
    "The rate is right, the change is that of the first term alone.",
    known="gain_alone",
)
def _(g, H):
    rate = (g @ g) / (g @ H @ g)
    return np.array([rate, -rate * (g @ g)])


@wrong("best_step", "Balances the two terms in place of their slopes.", known="equal_errors")
def _(eps, order, c):
    return (eps / c) ** (1 / (order + 1))


@wrong("best_step", "The rule of the page, without the constants.", known="by_the_rule_of_thumb")
def _(eps, order, c):
    return eps ** (1 / (order + 1))


@wrong(
    "hessian_times", "A fixed step along v, whatever its length.", known="same_multiple_for_every_v"
)
def _(grad_f, x, v):
    t = 1e-5
    return (grad_f(x + t * v) - grad_f(x - t * v)) / (2 * t)


@wrong(
    "hessian_times",
    "Makes v one long, and forgets to multiply by its length again.",
    known="forgets_the_length_of_v",
)
def _(grad_f, x, v):
    d = v / np.linalg.norm(v)
    t = 6e-6 * max(1.0, np.abs(x).max())
    return (grad_f(x + t * d) - grad_f(x - t * d)) / (2 * t)


@wrong(
    "unit_jacobian",
    "Divides the identity by the length: the length is held.",
    known="length_held_constant",
)
def _(x):
    return np.eye(len(x)) / np.linalg.norm(x)


@wrong("unit_jacobian", "Subtracts x xᵀ and not u uᵀ.", known="takes_the_long_outer_product")
def _(x):
    return (np.eye(len(x)) - np.outer(x, x)) / np.linalg.norm(x)
