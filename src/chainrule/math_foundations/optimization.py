"""Gradient descent and its relatives on functions whose gradients are known in closed form.

Taught in ``math-foundations/optimization.md``. Every method returns the whole `Path`, so that
what happened can be drawn. A run that leaves the range of float64 stops there: one RuntimeWarning
says at which step, and its remaining points are NaN. μ and L are the smallest and the largest
eigenvalue of the Hessian, κ = L/μ its condition number. Shape names: ``d`` coordinates, ``points``
the start and one point a step.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from math import inf, isfinite, sqrt
from typing import Any, NamedTuple

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
    """A function with its gradient, its Hessian and the point where the gradient vanishes.

    Beyond the range of float64 the values are infinite, or NaN where infinities meet.
    """

    f: Function
    grad: Gradient
    hessian: Hessian
    stationary: Array


_quiet = np.errstate(over="ignore", invalid="ignore")


def quadratic(kappa: float, d: int = 2) -> Problem:
    """½ Σ λᵢxᵢ² with curvatures from 1 to ``kappa``, spaced geometrically; its minimum is at 0.

    Equation: math-foundations/optimization.md#eq-quadratic

    Raises:
        ValueError: ``kappa`` is below 1 or infinite, or ``d`` below 1.
    """
    if not 1 <= kappa < inf or d < 1:
        raise ValueError(f"quadratic: expected kappa >= 1 and d >= 1, got {kappa} and {d}")
    curvature = np.geomspace(1, kappa, d) if d > 1 else np.array([float(kappa)])

    @_quiet
    def f(x: Any) -> float:
        return 0.5 * float(curvature @ np.square(_point(x, d)))

    @_quiet
    def grad(x: Any) -> Array:
        return curvature * _point(x, d)

    return Problem(f, grad, lambda x: np.diag(curvature), np.zeros(d))


def rosenbrock(a: float = 1.0, b: float = 100.0) -> Problem:
    """(a − x)² + b(y − x²)²: a curved valley whose floor is almost flat; minimum at (a, a²).

    Equation: math-foundations/optimization.md#eq-rosenbrock
    """

    @_quiet
    def f(p: Any) -> float:
        x, y = _point(p, 2)
        return float((a - x) ** 2 + b * (y - x * x) ** 2)

    @_quiet
    def grad(p: Any) -> Array:
        x, y = _point(p, 2)
        return np.array([-2 * (a - x) - 4 * b * x * (y - x * x), 2 * b * (y - x * x)])

    @_quiet
    def hessian(p: Any) -> Array:
        x, y = _point(p, 2)
        return np.array([[2 - 4 * b * (y - 3 * x * x), -4 * b * x], [-4 * b * x, 2 * b]])

    return Problem(f, grad, hessian, np.array([a, a * a]))


def saddle(monkey: bool = False) -> Problem:
    """½(x² − y²), or the monkey saddle x³ − 3xy², whose Hessian vanishes at the origin.

    Equation: math-foundations/optimization.md#eq-saddle
    """

    @_quiet
    def f(p: Any) -> float:
        x, y = _point(p, 2)
        return float(x**3 - 3 * x * y**2) if monkey else 0.5 * float(x**2 - y**2)

    @_quiet
    def grad(p: Any) -> Array:
        x, y = _point(p, 2)
        return np.array([3 * x**2 - 3 * y**2, -6 * x * y]) if monkey else np.array([x, -y])

    @_quiet
    def hessian(p: Any) -> Array:
        x, y = _point(p, 2)
        return np.array([[6 * x, -6 * y], [-6 * y, -6 * x]]) if monkey else np.diag([1.0, -1.0])

    return Problem(f, grad, hessian, np.zeros(2))


def _point(x: Any, d: int) -> Array:
    x = np.asarray(x, dtype=np.float64)
    if x.shape != (d,):
        raise ValueError(f"expected a point of shape {(d,)}, received {x.shape}")
    return x


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
    return _walk("gradient_descent", f, x0, steps, lambda x: x - lr * grad(x), lr=lr)


def heavy_ball(
    f: Function, grad: Gradient, x0: Float[Array, "d"], lr: float, momentum: float, steps: int
) -> Path:
    """v ← momentum·v − lr·∇f(x), then x ← x + v: a ball that keeps part of its speed.

    Equation: math-foundations/optimization.md#eq-heavy-ball
    Source: Polyak, Some methods of speeding up the convergence of iteration methods, 1964.
    """
    v = np.zeros_like(x0, dtype=float)

    def step(x: Array) -> Array:
        nonlocal v
        v = momentum * v - lr * grad(x)
        return x + v

    return _walk("heavy_ball", f, x0, steps, step, lr=lr, momentum=momentum)


def nesterov(
    f: Function, grad: Gradient, x0: Float[Array, "d"], lr: float, momentum: float, steps: int
) -> Path:
    """Heavy ball with the gradient taken where the speed will have carried us: ∇f(x + momentum·v).

    Equation: math-foundations/optimization.md#eq-nesterov
    Source: Nesterov, A method of solving a convex programming problem with convergence rate
    O(1/k²), 1983, for the idea; Introductory Lectures on Convex Optimization, 2004, section 2.2.1,
    for a constant momentum; Sutskever and others, On the importance of initialization and momentum
    in deep learning, 2013, for this form with v.
    """
    v = np.zeros_like(x0, dtype=float)

    def step(x: Array) -> Array:
        nonlocal v
        v = momentum * v - lr * grad(x + momentum * v)
        return x + v

    return _walk("nesterov", f, x0, steps, step, lr=lr, momentum=momentum)


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

    Raises:
        ValueError: H + damping·I is singular at a point.

    Equation: math-foundations/optimization.md#eq-newton
    """

    def step(x: Array) -> Array:
        try:
            return x - np.linalg.solve(hessian(x) + damping * np.eye(len(x)), grad(x))
        except np.linalg.LinAlgError:
            raise ValueError(
                f"newton: the Hessian plus {damping:g}·I is singular at {x}; use another damping"
            ) from None

    return _walk("newton", f, x0, steps, step, damping=damping)


def line_search(
    f: Function, grad: Gradient, x0: Float[Array, "d"], steps: int, lr: float = 1.0, c: float = 1e-4
) -> Path:
    """Gradient descent that halves its step until f falls by at least c·lr·‖∇f‖² (Armijo).

    A step into a region where f is NaN or infinite does not pass. Where no step above 1e-16·lr
    passes, x stays.

    Raises:
        ValueError: lr is not above 0, or f is not finite where the search stands.

    Equation: math-foundations/optimization.md#eq-armijo
    """
    if not 0 < lr < inf:
        raise ValueError(f"line_search: lr must be above 0 and finite, got {lr}")

    def step(x: Array) -> Array:
        g, rate, here = grad(x), lr, f(x)
        if not isfinite(here):
            raise ValueError(f"line_search: f is {here} at {x}")
        with np.errstate(all="ignore"):  # a trial may leave the domain of f
            # Written so that a NaN does not pass: no comparison with NaN is true.
            while not f(x - rate * g) <= here - c * rate * float(g @ g):
                rate /= 2
                if rate <= 1e-16 * lr:
                    return x
        return x - rate * g

    return _walk("line_search", f, x0, steps, step, c=c)


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

    def step(x: Array) -> Array:
        return x - lr * (grad(x) + sigma * rng.standard_normal(len(x)))

    return _walk("sgd", f, x0, steps, step, lr=lr, sigma=sigma)


def steps_to(path: Path, tolerance: float, target: Float[Array, "d"] | None = None) -> float:
    """The first step after which the distance to a target is at most ``tolerance``; inf if never.

    The target is 0 unless another is given: 0 is the minimum of `quadratic`, not of `rosenbrock`.
    A path that swings may arrive by luck and leave again.

    Raises:
        ValueError: the tolerance is not at least 0, or the target does not fit the points.
    """
    if not tolerance >= 0:
        raise ValueError(f"steps_to: the tolerance must be at least 0, got {tolerance}")
    d = path.points.shape[1]
    target = np.zeros(d) if target is None else np.asarray(target)
    if target.shape != (d,):
        raise ValueError(f"steps_to: expected a target of shape {(d,)}, received {target.shape}")
    distance = np.array([_length(point - target) for point in path.points])
    reached = np.flatnonzero(distance <= tolerance)
    return float(reached[0]) if reached.size else inf


def _walk(
    name: str, f: Function, x0: Any, steps: int, step: Callable[[Array], Array], **options: float
) -> Path:
    """Take steps from x0 as long as the points are finite."""
    x = np.array(x0, dtype=float)
    if x.ndim != 1 or x.size == 0:
        raise ValueError(f"{name}: expected x0 of shape (d,), received {x.shape}")
    if not np.all(np.isfinite(x)):
        raise ValueError(f"{name}: x0 must be finite, received {x}")
    for option, number in options.items():
        if not isfinite(number):
            raise ValueError(f"{name}: {option} must be finite, got {number}")
    points = [x]
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(steps):
            x = step(x)
            if x.shape != points[0].shape:
                raise ValueError(
                    f"{name}: expected a gradient of shape {points[0].shape}, but a step led to a "
                    f"point of shape {x.shape}"
                )
            if not np.all(np.isfinite(x)):
                warnings.warn(
                    f"{name}: x left the range of float64 in step {k + 1}, and is NaN from there",
                    RuntimeWarning,
                    stacklevel=3,
                )
                points += [np.full_like(x, np.nan)] * (steps - k)
                break
            points.append(x)
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

    Raises:
        ValueError: not 0 < mu ≤ L, or L is infinite.
    """
    if not 0 < mu <= L < inf:
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
        ValueError: L is not above 0, sigma not finite, or lr not between 0 and 2/L, so that
            nothing settles.
    """
    if not (0 < L < inf and isfinite(sigma)):
        raise ValueError(
            f"sgd_noise_floor: L must be above 0, L and sigma finite, got {L} and {sigma}"
        )
    if not 0 < lr < 2 / L:
        raise ValueError(f"sgd_noise_floor: lr must be between 0 and 2/L = {2 / L:.4g}, got {lr}")
    return lr * sigma**2 / (2 * (2 - lr * L))


def prob_positive_definite(n: int, trials: int, rng: np.random.Generator) -> float:
    """The share of random symmetric n × n matrices with only positive eigenvalues.

    A + Aᵀ for Gaussian A, the Hessian of a random stationary point: for n = 2 it is (2 − √2)/4,
    for n = 3 (π − 2√2)/(4π). The standard error of the share p is √(p(1 − p)/trials).

    Equation: math-foundations/optimization.md#eq-random-hessian

    Raises:
        ValueError: ``n`` or ``trials`` is below 1.
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

    Power iteration with Hessian–vector products; two gradients an iteration. Where λ and −λ share
    the largest size, the iteration swings between two directions; so the answer is the best one in
    the plane of the last two, and of λ and −λ it is the positive one, the sharpness.

    Equation: math-foundations/optimization.md#eq-sharpness

    Raises:
        ValueError: ``iters`` is below 1.
    """
    if iters < 1:
        raise ValueError(f"top_hessian_eigenvalue: iters must be at least 1, got {iters}")
    v = rng.standard_normal(len(x))
    v /= np.linalg.norm(v)
    for _ in range(iters):
        Hv = hvp(grad, x, v)
        length = _length(Hv)
        if length == 0:
            return 0.0, v
        last, v = v, Hv / length
    plane = np.linalg.qr(np.column_stack([v, last]))[0]
    images = np.column_stack([hvp(grad, x, q) for q in plane.T])
    values, turns = np.linalg.eigh(plane.T @ images)
    sizes = np.abs(values)
    best = np.flatnonzero(sizes >= (1 - 1e-6) * sizes.max())[-1]  # eigh puts the largest last
    return float(values[best]), plane @ turns[:, best]


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

    Raises:
        ValueError: ``n``, ``steps`` or ``probes`` is below 1, or a product with the matrix is
            not finite or not of shape (n,).
    """
    if n < 1 or steps < 1 or probes < 1:
        raise ValueError(
            f"lanczos_density: n, steps and probes must be at least 1, got {n}, {steps}, {probes}"
        )

    def product(v: Array) -> Array:
        w = np.asarray(matvec(v))
        if w.shape != (n,):
            raise ValueError(
                f"lanczos_density: expected products of shape {(n,)}, received {w.shape}"
            )
        if not np.all(np.isfinite(w)):
            raise ValueError("lanczos_density: a product with the matrix is not finite")
        return w

    nodes, weights = [], []
    for _ in range(probes):
        diagonal, beside = _tridiagonal(product, rng.standard_normal(n), min(steps, n))
        values, vectors = np.linalg.eigh(
            np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
        )
        nodes.append(values)
        weights.append(vectors[0] ** 2 / probes)
    order = np.argsort(np.concatenate(nodes))
    return np.concatenate(nodes)[order], np.concatenate(weights)[order]


def _tridiagonal(
    product: Callable[[Array], Array], v: Array, steps: int
) -> tuple[list[float], list[float]]:
    """The small matrix of at most ``steps`` rows: its diagonal, and the numbers beside that.

    It ends early where nothing new is left of a product.
    """
    basis = [v / np.linalg.norm(v)]
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        w = product(basis[-1])
        diagonal.append(float(basis[-1] @ w))
        for _ in range(2):
            for q in basis:
                w = w - (q @ w) * q
        length = _length(w)
        scale = max(abs(a) for a in diagonal)
        if len(diagonal) == steps or length <= 1e-10 * scale:
            return diagonal, beside
        beside.append(length)
        basis.append(w / length)


def _length(v: Array) -> float:
    """The L2 norm; squares of what is left after division by the largest entry cannot overflow."""
    largest = float(np.max(np.abs(v), initial=0))
    if not 0 < largest < inf:
        return largest
    return largest * float(np.linalg.norm(v / largest))
