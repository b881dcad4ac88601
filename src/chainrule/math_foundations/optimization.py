"""Gradient descent and its relatives on functions whose gradients are known in closed form.

Taught in ``math-foundations/optimization.md``. Every method returns the whole `Path`, so that
what happened can be drawn. μ and L are the smallest and the largest eigenvalue of the Hessian,
κ = L/μ its condition number. Shape names: ``d`` coordinates, ``points`` the start and one point a
step.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, sqrt
from typing import NamedTuple

import numpy as np

from chainrule.math_foundations.calculus import hvp
from chainrule.shapes import Array, Float

__all__ = [
    "Path",
    "Problem",
    "Rates",
    "gradient_descent",
    "heavy_ball",
    "lanczos_density",
    "line_search",
    "nesterov",
    "newton",
    "optimal_rates",
    "prob_positive_definite",
    "quadratic",
    "rosenbrock",
    "saddle",
    "sgd",
    "sgd_noise_floor",
    "steps_to",
    "top_hessian_eigenvalue",
]

Function = Callable[[Array], float]
Gradient = Callable[[Array], Array]
Hessian = Callable[[Array], Array]


# ---- problems --------------------------------------------------------------------------------


class Problem(NamedTuple):
    """A function with its gradient, its Hessian and the point where the gradient vanishes."""

    f: Function
    grad: Gradient
    hessian: Hessian
    stationary: Array


def quadratic(kappa: float, d: int = 2) -> Problem:
    """½ Σ λᵢxᵢ² with curvatures from 1 to ``kappa``, spaced geometrically; its minimum is at 0.

    Equation: math-foundations/optimization.md#eq-quadratic
    """
    if kappa < 1 or d < 1:
        raise ValueError(f"quadratic: expected kappa >= 1 and d >= 1, got {kappa} and {d}")
    curvature = np.geomspace(1, kappa, d) if d > 1 else np.array([float(kappa)])
    return Problem(
        lambda x: 0.5 * float(curvature @ (x * x)),
        lambda x: curvature * x,
        lambda x: np.diag(curvature),
        np.zeros(d),
    )


def rosenbrock(a: float = 1.0, b: float = 100.0) -> Problem:
    """(a − x)² + b(y − x²)²: a curved valley whose floor is almost flat; minimum at (a, a²).

    Equation: math-foundations/optimization.md#eq-rosenbrock
    """

    def grad(p: Array) -> Array:
        x, y = p
        return np.array([-2 * (a - x) - 4 * b * x * (y - x * x), 2 * b * (y - x * x)])

    def hessian(p: Array) -> Array:
        x, y = p
        return np.array([[2 - 4 * b * (y - 3 * x * x), -4 * b * x], [-4 * b * x, 2 * b]])

    return Problem(
        lambda p: float((a - p[0]) ** 2 + b * (p[1] - p[0] ** 2) ** 2),
        grad,
        hessian,
        np.array([a, a * a]),
    )


def saddle(monkey: bool = False) -> Problem:
    """½(x² − y²), or the monkey saddle x³ − 3xy², whose Hessian vanishes at the origin.

    Equation: math-foundations/optimization.md#eq-saddle
    """
    if monkey:
        return Problem(
            lambda p: float(p[0] ** 3 - 3 * p[0] * p[1] ** 2),
            lambda p: np.array([3 * p[0] ** 2 - 3 * p[1] ** 2, -6 * p[0] * p[1]]),
            lambda p: np.array([[6 * p[0], -6 * p[1]], [-6 * p[1], -6 * p[0]]]),
            np.zeros(2),
        )
    return Problem(
        lambda p: 0.5 * float(p[0] ** 2 - p[1] ** 2),
        lambda p: np.array([p[0], -p[1]]),
        lambda p: np.diag([1.0, -1.0]),
        np.zeros(2),
    )


# ---- methods ---------------------------------------------------------------------------------


class Path(NamedTuple):
    """Where a method has been, the start included, and the value of the function there."""

    points: Float[Array, "points d"]
    values: Float[Array, "points"]


def gradient_descent(
    f: Function, grad: Gradient, x0: Float[Array, "d"], lr: float, steps: int
) -> Path:
    """x ← x − lr·∇f(x).

    Equation: math-foundations/optimization.md#eq-gradient-descent
    """
    return heavy_ball(f, grad, x0, lr, 0.0, steps)


def heavy_ball(
    f: Function, grad: Gradient, x0: Float[Array, "d"], lr: float, momentum: float, steps: int
) -> Path:
    """v ← momentum·v − lr·∇f(x), then x ← x + v: a ball that keeps part of its speed.

    Equation: math-foundations/optimization.md#eq-heavy-ball
    Source: Polyak, Some methods of speeding up the convergence of iteration methods, 1964.
    """
    x, v = np.array(x0, dtype=float), np.zeros_like(x0, dtype=float)
    points = [x]
    for _ in range(steps):
        v = momentum * v - lr * grad(x)
        x = x + v
        points.append(x)
    return _path(f, points)


def nesterov(
    f: Function, grad: Gradient, x0: Float[Array, "d"], lr: float, momentum: float, steps: int
) -> Path:
    """Heavy ball with the gradient taken where the speed will have carried us: ∇f(x + momentum·v).

    Equation: math-foundations/optimization.md#eq-nesterov
    Source: Nesterov, A method of solving a convex programming problem with convergence rate
    O(1/k²), 1983.
    """
    x, v = np.array(x0, dtype=float), np.zeros_like(x0, dtype=float)
    points = [x]
    for _ in range(steps):
        v = momentum * v - lr * grad(x + momentum * v)
        x = x + v
        points.append(x)
    return _path(f, points)


def newton(
    f: Function,
    grad: Gradient,
    hessian: Hessian,
    x0: Float[Array, "d"],
    steps: int,
    damping: float = 0.0,
) -> Path:
    """x ← x − (H + damping·I)⁻¹∇f(x): jump to where the quadratic picture has slope 0.

    Undamped it goes to saddles and maxima as readily as to minima.

    Equation: math-foundations/optimization.md#eq-newton
    """
    x = np.array(x0, dtype=float)
    points = [x]
    for _ in range(steps):
        x = x - np.linalg.solve(hessian(x) + damping * np.eye(len(x)), grad(x))
        points.append(x)
    return _path(f, points)


def line_search(
    f: Function, grad: Gradient, x0: Float[Array, "d"], steps: int, lr: float = 1.0, c: float = 1e-4
) -> Path:
    """Gradient descent that halves its step until f falls by at least c·lr·‖∇f‖² (Armijo).

    Equation: math-foundations/optimization.md#eq-armijo
    """
    x = np.array(x0, dtype=float)
    points = [x]
    for _ in range(steps):
        g, rate, here = grad(x), lr, f(x)
        while f(x - rate * g) > here - c * rate * float(g @ g) and rate > 1e-16 * lr:
            rate /= 2
        x = x - rate * g
        points.append(x)
    return _path(f, points)


def sgd(
    f: Function,
    grad: Gradient,
    x0: Float[Array, "d"],
    lr: float,
    sigma: float,
    steps: int,
    rng: np.random.Generator,
) -> Path:
    """Gradient descent whose gradients carry Gaussian noise of deviation ``sigma`` each.

    Equation: math-foundations/optimization.md#eq-sgd
    """
    return gradient_descent(
        f, lambda x: grad(x) + sigma * rng.standard_normal(len(x)), x0, lr, steps
    )


def steps_to(path: Path, tolerance: float) -> float:
    """The first step after which the distance to 0 is at most ``tolerance``; inf if never."""
    distance = np.linalg.norm(path.points, axis=1)
    reached = np.flatnonzero(distance <= tolerance)
    return float(reached[0]) if reached.size else inf


def _path(f: Function, points: list[Array]) -> Path:
    return Path(np.array(points), np.array([f(x) for x in points]))


# ---- what theory says ------------------------------------------------------------------------


class Rates(NamedTuple):
    """Best settings on a quadratic, and the factor by which each step shrinks the error."""

    gd_lr: float
    gd_rate: float
    heavy_ball_lr: float
    heavy_ball_momentum: float
    heavy_ball_rate: float
    nesterov_lr: float
    nesterov_momentum: float
    nesterov_rate: float


def optimal_rates(mu: float, L: float) -> Rates:
    """The best learning rates and momenta when all curvatures lie between ``mu`` and ``L``.

    Gradient descent: 2/(μ + L), factor (κ − 1)/(κ + 1). Heavy ball: 4/(√L + √μ)² and the square
    of its factor (√κ − 1)/(√κ + 1). Nesterov: 1/L and (√κ − 1)/(√κ + 1), factor 1 − 1/√κ.

    Equation: math-foundations/optimization.md#eq-optimal-rates
    """
    if not 0 < mu <= L:
        raise ValueError(f"optimal_rates: expected 0 < mu <= L, got mu={mu}, L={L}")
    kappa = L / mu
    root = (sqrt(kappa) - 1) / (sqrt(kappa) + 1)
    return Rates(
        gd_lr=2 / (mu + L),
        gd_rate=(kappa - 1) / (kappa + 1),
        heavy_ball_lr=4 / (sqrt(L) + sqrt(mu)) ** 2,
        heavy_ball_momentum=root**2,
        heavy_ball_rate=root,
        nesterov_lr=1 / L,
        nesterov_momentum=root,
        nesterov_rate=1 - 1 / sqrt(kappa),
    )


def sgd_noise_floor(lr: float, sigma: float, L: float) -> float:
    """The expected ½Lx² around which SGD on it ends when each gradient has noise of deviation σ.

    The variance of x settles where lr²σ² of new noise balances the shrinking (1 − lr·L)²: the
    floor is lr·σ²/(2(2 − lr·L)), proportional to a small lr.

    Equation: math-foundations/optimization.md#eq-noise-floor

    Raises:
        ValueError: lr is not between 0 and 2/L, so nothing settles.
    """
    if not 0 < lr < 2 / L:
        raise ValueError(f"sgd_noise_floor: lr must be between 0 and 2/L = {2 / L:.4g}, got {lr}")
    return lr * sigma**2 / (2 * (2 - lr * L))


def prob_positive_definite(n: int, trials: int, rng: np.random.Generator) -> float:
    """The share of random symmetric n × n matrices with only positive eigenvalues.

    A + Aᵀ for Gaussian A, the Hessian of a random stationary point: for n = 2 it is (2 − √2)/4.

    Equation: math-foundations/optimization.md#eq-random-hessian
    """
    if n < 1 or trials < 1:
        raise ValueError(
            f"prob_positive_definite: n and trials must be at least 1, got {n}, {trials}"
        )
    positive = 0
    for start in range(0, trials, 10_000):
        A = rng.standard_normal((min(10_000, trials - start), n, n))
        smallest = np.linalg.eigvalsh(A + A.swapaxes(1, 2))[:, 0]
        positive += int(np.sum(smallest > 0))
    return positive / trials


# ---- curvature without the Hessian -----------------------------------------------------------


def top_hessian_eigenvalue(
    grad: Gradient, x: Float[Array, "d"], iters: int, rng: np.random.Generator
) -> tuple[float, Float[Array, "d"]]:
    """The Hessian's eigenvalue of largest size at x and its direction, from gradients alone.

    Power iteration with Hessian–vector products; two gradients an iteration.

    Equation: math-foundations/optimization.md#eq-sharpness
    """
    if iters < 1:
        raise ValueError(f"top_hessian_eigenvalue: iters must be at least 1, got {iters}")
    v = rng.standard_normal(len(x))
    v /= np.linalg.norm(v)
    value = 0.0
    for _ in range(iters):
        Hv = hvp(grad, x, v)
        value = float(v @ Hv)
        length = float(np.linalg.norm(Hv))
        if length == 0:
            return 0.0, v
        v = Hv / length
    return value, v


def lanczos_density(
    matvec: Callable[[Array], Array],
    n: int,
    steps: int,
    rng: np.random.Generator,
    probes: int = 1,
) -> tuple[Float[Array, "nodes"], Float[Array, "nodes"]]:
    """Where the eigenvalues of a symmetric n × n matrix lie: nodes and weights that sum to 1.

    From each random probe, Lanczos builds a small tridiagonal matrix out of products with the big
    one; its eigenvalues are nodes, the squared first entries of its eigenvectors weights. The
    weighted mean of any polynomial of degree below 2·steps is exact for that probe. Vectors are
    orthogonalized against all before them, which textbooks leave out and rounding demands.

    Equation: math-foundations/optimization.md#eq-lanczos
    Source: Ubaru, Chen and Saad, Fast estimation of tr(f(A)) via stochastic Lanczos quadrature,
    2017.
    """
    if n < 1 or steps < 1 or probes < 1:
        raise ValueError(
            f"lanczos_density: n, steps and probes must be at least 1, got {n}, {steps}, {probes}"
        )
    nodes, weights = [], []
    for _ in range(probes):
        v = rng.standard_normal(n)
        basis = [v / np.linalg.norm(v)]
        diagonal: list[float] = []
        beside: list[float] = []
        while True:
            w = matvec(basis[-1])
            diagonal.append(float(basis[-1] @ w))
            for _ in range(2):
                for q in basis:
                    w = w - (q @ w) * q
            length = float(np.linalg.norm(w))
            scale = max(abs(a) for a in diagonal)
            if len(diagonal) == min(steps, n) or length <= 1e-10 * max(scale, 1e-300):
                break
            beside.append(length)
            basis.append(w / length)
        values, vectors = np.linalg.eigh(
            np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
        )
        nodes.append(values)
        weights.append(vectors[0] ** 2 / probes)
    order = np.argsort(np.concatenate(nodes))
    return np.concatenate(nodes)[order], np.concatenate(weights)[order]
