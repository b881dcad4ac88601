"""Blind set of math-foundations/optimization: wrong answers from statement and stub alone."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong


@wrong(
    "largest_stable_rate",
    "Takes A for symmetric: eigenvalues of A itself.",
    known="of_the_matrix_as_given",
)
def _(A):
    return 2 / np.linalg.eigvalsh(A)[-1]


@wrong(
    "largest_stable_rate",
    "1/λ, the fastest rate, and not 2/λ, the border.",
    known="one_over_the_curvature",
)
def _(A):
    return 1 / np.linalg.eigvalsh((A + A.T) / 2)[-1]


@wrong(
    "largest_stable_rate",
    "The smallest eigenvalue in place of the largest.",
    known="by_the_flattest",
)
def _(A):
    return 2 / np.linalg.eigvalsh((A + A.T) / 2)[0]


@wrong(
    "largest_stable_rate",
    "Forgets the half: the Hessian is taken for A + Aᵀ.",
    known="one_over_the_curvature",
)
def _(A):
    return 2 / np.linalg.eigvalsh(A + A.T)[-1]


@wrong(
    "largest_stable_rate", "The best rate 2/(μ + L), and not the largest.", known="the_fastest_rate"
)
def _(A):
    w = np.linalg.eigvalsh((A + A.T) / 2)
    return 2 / (w[0] + w[-1])


@wrong("steps_needed", "Looks at the flat direction alone.", known="only_the_flattest")
def _(mu, L, lr, tolerance):
    factor = abs(1 - lr * mu)
    if factor >= 1:
        return np.inf
    return int(np.ceil(np.log(tolerance) / np.log(factor)))


@wrong("steps_needed", "Looks at the steep direction alone.", known="only_the_steepest")
def _(mu, L, lr, tolerance):
    factor = abs(1 - lr * L)
    if factor >= 1:
        return np.inf
    if factor == 0:
        return 1
    return int(np.ceil(np.log(tolerance) / np.log(factor)))


@wrong("steps_needed", "Forgets the absolute value of 1 − lr·L.", known="only_the_flattest")
def _(mu, L, lr, tolerance):
    factor = max(1 - lr * mu, 1 - lr * L)
    if factor >= 1:
        return np.inf
    return int(np.ceil(np.log(tolerance) / np.log(factor)))


@wrong("steps_needed", "Returns a fraction of a step: not rounded up.", known="not_rounded")
def _(mu, L, lr, tolerance):
    factor = max(abs(1 - lr * mu), abs(1 - lr * L))
    if factor >= 1:
        return np.inf
    return np.log(tolerance) / np.log(factor)


@wrong(
    "steps_needed",
    "Takes lr for the best one: uses (κ − 1)/(κ + 1) whatever lr is.",
    known="at_the_best_rate",
)
def _(mu, L, lr, tolerance):
    factor = (L - mu) / (L + mu)
    return int(np.ceil(np.log(tolerance) / np.log(factor)))


@wrong("best_ball", "The momentum is not squared.", known="momentum_not_squared")
def _(mu, L):
    a, b = np.sqrt(L), np.sqrt(mu)
    return 4 / (a + b) ** 2, (a - b) / (a + b)


@wrong("best_ball", "The roots are forgotten: κ in place of √κ.", known="with_kappa_itself")
def _(mu, L):
    return 4 / (L + mu) ** 2, ((L - mu) / (L + mu)) ** 2


@wrong(
    "best_ball",
    "The rate of gradient descent without momentum.",
    known="keeps_the_rate_of_gradient_descent",
)
def _(mu, L):
    a, b = np.sqrt(L), np.sqrt(mu)
    return 2 / (L + mu), ((a - b) / (a + b)) ** 2


@wrong("best_ball", "Returns momentum first.", known="momentum_first")
def _(mu, L):
    a, b = np.sqrt(L), np.sqrt(mu)
    return ((a - b) / (a + b)) ** 2, 4 / (a + b) ** 2


@wrong("best_ball", "Nesterov's settings: rate 1/L.", known="as_nesterov")
def _(mu, L):
    a, b = np.sqrt(L), np.sqrt(mu)
    return 1 / L, (a - b) / (a + b)


def _counts(lr, offsets, growth, border=1.0):
    counts = []
    for offset in offsets:
        y, n = offset, 0
        while abs(y) < border:
            y, n = y * growth, n + 1
        counts.append(n)
    return counts


@wrong("escape_slope", "Fits against log ε: the slope is negative.", known="against_log_epsilon")
def _(lr, offsets):
    return np.polyfit(np.log(offsets), _counts(lr, offsets, 1 + lr), 1)[0]


@wrong(
    "escape_slope", "Fits against 1/ε itself, without the logarithm.", known="against_the_inverse"
)
def _(lr, offsets):
    return np.polyfit(1 / np.asarray(offsets), _counts(lr, offsets, 1 + lr), 1)[0]


@wrong("escape_slope", "A logarithm to base 10.", known="per_factor_of_ten")
def _(lr, offsets):
    return np.polyfit(np.log10(1 / np.asarray(offsets)), _counts(lr, offsets, 1 + lr), 1)[0]


@wrong(
    "escape_slope",
    "Fits the logarithm to the counts: the inverse of the slope.",
    known="upside_down",
)
def _(lr, offsets):
    return np.polyfit(_counts(lr, offsets, 1 + lr), np.log(1 / np.asarray(offsets)), 1)[0]


@wrong(
    "escape_slope",
    "The flow's slope 1/lr: a step is taken to grow y by exp(lr).",
    known="as_if_continuous",
)
def _(lr, offsets):
    return np.polyfit(np.log(1 / np.asarray(offsets)), _counts(lr, offsets, np.exp(lr)), 1)[0]


@wrong("rate_for_floor", "Forgets the batch.", known="forgets_the_batch")
def _(floor, sigma, L, batch):
    return 4 * floor / (sigma**2 + 2 * floor * L)


@wrong(
    "rate_for_floor",
    "The variance is divided by batch², not by batch.",
    known="divides_the_deviation",
)
def _(floor, sigma, L, batch):
    s = sigma**2 / batch**2
    return 4 * floor / (s + 2 * floor * L)


@wrong(
    "rate_for_floor",
    "The approximation for small rates: floor = lr·σ²/4.",
    known="small_rates_only",
)
def _(floor, sigma, L, batch):
    return 4 * floor * batch / sigma**2


@wrong("rate_for_floor", "sigma in place of its square.", known="deviation_for_the_variance")
def _(floor, sigma, L, batch):
    s = sigma / batch
    return 4 * floor / (s + 2 * floor * L)


@wrong(
    "rate_for_floor",
    "The floor of the mean square of x and not of f.",
    known="floor_taken_for_the_variance",
)
def _(floor, sigma, L, batch):
    s = sigma**2 / batch
    return 2 * floor * L / (s + floor * L * L)


def _descend(grad, w, lr, steps):
    for _ in range(steps):
        w = w - lr * grad(w)
    return w


def _top(grad, w, h=1e-5, signed=True):
    v = np.arange(1.0, len(w) + 1)
    v = v / np.linalg.norm(v)
    value = 0.0
    for _ in range(100):
        Hv = (grad(w + h * v) - grad(w - h * v)) / (2 * h)
        value = v @ Hv if signed else np.linalg.norm(Hv)
        v = Hv / np.linalg.norm(Hv)
    return float(value)


@wrong(
    "sharpness_after", "Measures where the run begins and not where it ends.", known="at_the_start"
)
def _(grad, w, lr, steps):
    return _top(grad, w)


@wrong(
    "sharpness_after",
    "Returns the size: a negative eigenvalue loses its sign.",
    known="length_instead_of_quotient",
)
def _(grad, w, lr, steps):
    return _top(grad, _descend(grad, w, lr, steps), signed=False)


@wrong("sharpness_after", "One step too many.")
def _(grad, w, lr, steps):
    return _top(grad, _descend(grad, w, lr, steps + 1))


@wrong("sharpness_after", "Divides by h and not by 2h.", known="divides_by_one_step")
def _(grad, w, lr, steps):
    return 2 * _top(grad, _descend(grad, w, lr, steps))


@wrong("sharpness_after", "Climbs: the gradient is added.", known="climbs")
def _(grad, w, lr, steps):
    return _top(grad, _descend(grad, w, -lr, steps))
