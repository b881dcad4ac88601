"""Every public function of the five modules meets every input that breaks code.

Each either gives the right answer or one clear error. The modules are loaded as a reader's
interpreter loads them, without the checker of shapes, so that lists and 8-bit integers arrive.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.special
import scipy.stats

import chainrule.math_foundations

FOLDER = Path(chainrule.math_foundations.__file__).parent


def plain(name: str) -> Any:
    """A module of the folder, freshly loaded, without the import hook of the suite."""
    path = FOLDER / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"chainrule_plain_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


la, ca, pr, it, op = (
    plain(name)
    for name in ("linear_algebra", "calculus", "probability", "information_theory", "optimization")
)

# ---------------------------------------------------------------- the inputs

BASE = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.25], [0.5, 0.25, 2.0]])
ROTATION = np.linalg.qr(np.array([[1.0, 2.0, 3.0], [0.0, 1.0, 4.0], [5.0, 6.0, 0.0]]))[0]
HILBERT = 1 / (np.arange(1, 9)[:, None] + np.arange(8))

# Symmetric matrices, so that each can be a matrix, a covariance, a Hessian and data.
MATRICES = {
    "empty": np.zeros((0, 0)),
    "one": np.array([[3.0]]),
    "zero": np.zeros((3, 3)),
    "deficient": np.outer([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]),
    "repeated": ROTATION @ np.diag([5.0, 5.0, 2.0]) @ ROTATION.T,
    "hilbert": HILBERT,
    "huge": 1e200 * BASE,
    "tiny": 1e-200 * BASE,
    "float32": BASE.astype(np.float32),
    "uint8": np.array([[200, 100, 0], [100, 250, 50], [0, 50, 150]], dtype=np.uint8),
    "int8": np.array([[100, -50, 0], [-50, -20, 10], [0, 10, 50]], dtype=np.int8),
    "nan": np.where(np.eye(3) > 0, np.nan, BASE),
    "list": BASE.tolist(),
}
VECTORS = {
    "empty": np.zeros(0),
    "one": np.array([3.0]),
    "zero": np.zeros(3),
    "deficient": np.array([1.0, 0.0, 0.0]),
    "repeated": np.array([2.0, 2.0, 5.0]),
    "hilbert": HILBERT[0],
    "huge": 1e200 * np.array([1.0, 2.0, 3.0]),
    "tiny": 1e-200 * np.array([1.0, 2.0, 3.0]),
    "float32": np.array([0.5, 1.5, 2.5], dtype=np.float32),
    "uint8": np.array([1, 250, 200], dtype=np.uint8),
    "int8": np.array([-100, 0, 100], dtype=np.int8),
    "nan": np.array([1.0, np.nan, 2.0]),
    "list": [1.0, 2.0, 3.0],
}
DISTRIBUTIONS = {
    "empty": np.zeros(0),
    "one": np.ones(1),
    "zero": np.zeros(3),
    "deficient": np.array([0.5, 0.0, 0.5]),
    "repeated": np.full(4, 0.25),
    "hilbert": HILBERT[0] / HILBERT[0].sum(),
    "huge": np.array([1e200, 1e200]),
    "tiny": np.array([1.0, 1e-200]),
    "float32": np.array([0.2, 0.3, 0.5], dtype=np.float32),
    "uint8": np.array([0, 1, 0], dtype=np.uint8),
    "int8": np.array([0, 1, 0], dtype=np.int8),
    "nan": np.array([0.5, np.nan, 0.5]),
    "list": [0.2, 0.3, 0.5],
}
KINDS = list(MATRICES)
assert KINDS == list(VECTORS) == list(DISTRIBUTIONS)
NOT_ONE = {"empty", "zero", "huge", "nan"}  # no distribution at all


class Case(NamedTuple):
    """A call on one input, a check of its answer, and the kinds that must raise instead."""

    inputs: dict[str, Any]
    call: Callable[[Any], Any]
    check: Callable[[Any, Any, float], None]
    refused: set[str]


CASES: dict[str, Case] = {}


def case(name: str, inputs: dict[str, Any], call: Callable[[Any], Any], *refused: str) -> Any:
    """Register the check that follows: it takes the answer, exact input, and a tolerance."""

    def register(check: Callable[[Any, Any, float], None]) -> None:
        assert name not in CASES
        assert set(refused) <= set(KINDS)
        CASES[name] = Case(inputs, call, check, set(refused))

    return register


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def close(received: Any, expected: Any, tolerance: float, size: Any = None) -> None:
    """Equal beside the size of what is expected; NaN where NaN is expected."""
    expected = np.asarray(expected, dtype=float)
    known = np.abs(expected[~np.isnan(expected)])
    size = np.max(known, initial=0) if size is None else size
    np.testing.assert_allclose(received, expected, rtol=tolerance, atol=tolerance * size)


def orthonormal(Q: Any, tolerance: float) -> None:
    close(Q.T @ Q, np.eye(Q.shape[1]), tolerance)


# ---------------------------------------------------------------- linear algebra


@case("matmul_naive", MATRICES, lambda A: la.matmul_naive(A, np.ones_like(A)))
def _(received, A, tolerance):
    close(received, A @ np.ones_like(A), tolerance)


@case("gram_schmidt", MATRICES, la.gram_schmidt, "empty", "nan")
def _(received, A, tolerance):
    Q, R = received
    orthonormal(Q, tolerance)
    close(Q @ R, A, tolerance)
    assert Q.shape[1] == np.linalg.matrix_rank(A / (np.abs(A).max() or 1))


@case("eig_symmetric_jacobi", MATRICES, la.eig_symmetric_jacobi, "empty", "nan")
def _(received, A, tolerance):
    values, vectors = received
    orthonormal(vectors, tolerance)
    close(values, np.linalg.eigvalsh(A)[::-1], tolerance)
    close(vectors * values @ vectors.T, A, tolerance)


@case("svd", MATRICES, la.svd, "empty", "nan")
def _(received, A, tolerance):
    U, S, Vt = received
    orthonormal(U, tolerance)
    orthonormal(Vt.T, tolerance)
    close(S, np.linalg.svd(A, compute_uv=False), tolerance)
    close(U * S @ Vt, A, tolerance)


@case("randomized_svd", MATRICES, lambda A: la.randomized_svd(A, 1, rng()), "empty", "nan")
def _(received, A, tolerance):
    U, S, Vt = received
    orthonormal(U, tolerance)
    orthonormal(Vt.T, tolerance)
    close(S, np.linalg.svd(A, compute_uv=False)[:1], tolerance)


@case("low_rank", MATRICES, lambda A: la.low_rank(A, 1), "empty", "nan")
def _(received, A, tolerance):
    S = np.linalg.svd(A, compute_uv=False)
    size = np.abs(A).max() or 1
    error = np.linalg.norm((A - received) / size, 2)
    close(error, (S[1] if len(S) > 1 else 0) / size, tolerance, 1)


@case("polar_factor", MATRICES, la.polar_factor, "empty", "nan")
def _(received, A, tolerance):
    orthonormal(received, tolerance)
    U, S, Vt = np.linalg.svd(A)
    if S[-1] > 1e-12 * S[0]:  # otherwise it is not unique
        close(received, U @ Vt, max(tolerance, 1e-5 if len(A) == 8 else 0))


@case("lstsq", MATRICES, lambda A: la.lstsq(A, np.asarray(A)[:, :1].sum(axis=1)), "empty", "nan")
def _(received, A, tolerance):
    size = np.abs(A).max() or 1
    expected = np.linalg.lstsq(A / size, A[:, 0] / size, rcond=1e-13)[0]
    close(received, expected, 1e-4 if len(A) == 8 else tolerance)


@case("pca", MATRICES, lambda A: la.pca(A, 1), "empty", "nan", "huge")
def _(received, A, tolerance):
    components, variances, scores = received
    size = np.abs(A).max() or 1
    centred = (A - A.mean(axis=0)) / size
    S = np.linalg.svd(centred, compute_uv=False)
    close(variances / size**2 if size > 1e-100 else 0, S[0] ** 2 / len(A) * (size > 1e-100), 1e-5)
    close(scores / size, centred @ components.T, tolerance, 1)


@case("cosine_similarity", MATRICES, lambda A: la.cosine_similarity(A, A), "empty", "nan")
def _(received, A, tolerance):
    rows = A / (np.abs(A).max() or 1)
    lengths = np.linalg.norm(rows, axis=1)
    lengths[lengths == 0] = 1
    close(received, rows @ rows.T / lengths / lengths[:, None], tolerance)


@case("power_iteration", MATRICES, lambda A: la.power_iteration(A, 500, rng()), "empty", "nan")
def _(received, A, tolerance):
    values = np.linalg.eigvalsh(A)
    close(received[0], values[np.argmax(np.abs(values))], max(tolerance, 1e-10))


# ---------------------------------------------------------------- calculus


def square(x: Any) -> Any:
    with np.errstate(over="ignore"):
        return (x * x).sum()


@case("numerical_grad", VECTORS, lambda v: ca.numerical_grad(square, v), "empty", "nan", "huge")
def _(received, v, tolerance):
    close(received, 2 * v, 1e-8, max(1, np.abs(v).max()))


@case("numerical_jacobian", VECTORS, lambda v: ca.numerical_jacobian(np.cumsum, v), "empty", "nan")
def _(received, v, tolerance):
    close(received, np.tri(len(v)), 1e-8)


@case(
    "numerical_jacobian, complex step",
    VECTORS,
    lambda v: ca.numerical_jacobian(np.cumsum, v, scheme="complex"),
    "empty",
    "nan",
)
def _(received, v, tolerance):
    close(received, np.tri(len(v)), 1e-14)


@case("hessian", VECTORS, lambda v: ca.hessian(square, v), "empty", "nan", "huge")
def _(received, v, tolerance):
    close(received, 2 * np.eye(len(v)), 1e-5, max(1, np.max(v * v)))


@case("hvp", VECTORS, lambda v: ca.hvp(lambda x: 2 * x, v, np.ones(np.shape(v))), "empty", "nan")
def _(received, v, tolerance):
    close(received, 2 * np.ones(len(v)), 1e-8)


@case(
    "hvp, along it",
    VECTORS,
    lambda v: ca.hvp(lambda x: 2 * x, np.ones(np.shape(v)), v),
    "empty",
    "nan",
)
def _(received, v, tolerance):
    close(received, 2 * v, 1e-8)


@case("jvp", VECTORS, lambda v: ca.jvp(lambda x: x / 2 + 1, np.ones(np.shape(v)), v), "empty")
def _(received, v, tolerance):
    close(received, v / 2, 1e-15)


@case("Dual", VECTORS, lambda v: 3 * ca.Dual(v, 1.0) - 1)
def _(received, v, tolerance):
    close(received.value, 3 * v - 1, 1e-15)
    close(received.derivative, 3 + 0 * v, 1e-15)  # NaN has no slope


@case("vjp", MATRICES, lambda A: ca.vjp(A, np.ones(len(A))), "list")  # a list is a chain
def _(received, A, tolerance):
    close(received, np.ones(len(A)) @ A, 1e-14)


@case("taylor2", VECTORS, lambda v: ca.taylor2(square, v)(v), "empty", "nan", "huge")
def _(received, v, tolerance):
    close(received, v @ v, 1e-12)


@case(
    "gradcheck",
    VECTORS,
    lambda v: ca.gradcheck(square, lambda x: 2 * x, v),
    "empty",
    "nan",
    "huge",
)
def _(received, v, tolerance):
    assert received < 1e-6 * max(1, np.abs(v).max())


# ---------------------------------------------------------------- probability


@case("softmax", VECTORS, pr.softmax, "empty")
def _(received, v, tolerance):
    with np.errstate(invalid="ignore"):
        close(received, scipy.special.softmax(v), tolerance)


@case("logsumexp", VECTORS, pr.logsumexp, "empty")
def _(received, v, tolerance):
    close(received, scipy.special.logsumexp(v), tolerance)


@case("softmax_jacobian", DISTRIBUTIONS, pr.softmax_jacobian, "huge")
def _(received, p, tolerance):
    close(received, np.diag(p) - np.outer(p, p), tolerance)


@case("Categorical", DISTRIBUTIONS, lambda p: pr.Categorical(probs=p), *NOT_ONE)
def _(received, p, tolerance):
    assert received.entropy() == pytest.approx(scipy.stats.entropy(p), rel=1e-6, abs=1e-12)
    assert set(received.sample(rng(), 100)) <= set(np.flatnonzero(p))
    first = int(np.flatnonzero(p)[0])
    close(received.log_prob(np.array([first])), np.log(p[first : first + 1]), tolerance, 1)


@case("Categorical, logits", VECTORS, lambda v: pr.Categorical(logits=v), "empty", "nan")
def _(received, v, tolerance):
    close(received.probs, scipy.special.softmax(v), tolerance)


def gaussian(A: Any) -> Any:
    return pr.Gaussian(np.zeros(len(A)), A)


INDEFINITE = ("empty", "zero", "deficient", "int8", "nan")


@case("Gaussian", MATRICES, gaussian, *INDEFINITE)
def _(received, A, tolerance):
    size = np.abs(A).max()
    log_det = np.linalg.slogdet(A / size)[1] + len(A) * np.log(size)
    at_mean = -0.5 * (len(A) * np.log(2 * np.pi) + log_det)
    close(received.logpdf(np.zeros(len(A))), at_mean, max(tolerance, 1e-8))
    close(received.entropy(), len(A) / 2 - at_mean, max(tolerance, 1e-8))
    z = np.linalg.solve(received.cholesky / np.sqrt(size), received.sample(rng(), 4).T)
    close(z / np.sqrt(size), rng().standard_normal((4, len(A))).T, 1e-4)


@case(
    "bayes_posterior",
    VECTORS,
    lambda v: pr.bayes_posterior(np.full(len(v), 1 / max(len(v), 1)), v),
    "empty",
    "zero",
    "int8",
    "nan",
)
def _(received, v, tolerance):
    close(received, v / v.max() / (v / v.max()).sum(), tolerance)


@case("erf", VECTORS, pr.erf)
def _(received, v, tolerance):
    close(received, scipy.special.erf(v), max(tolerance, 2e-15), 1)


@case("erfc", VECTORS, pr.erfc)
def _(received, v, tolerance):
    close(received, scipy.special.erfc(v), max(tolerance, 2e-13))


@case("normal_cdf", VECTORS, pr.normal_cdf)
def _(received, v, tolerance):
    close(received, scipy.special.ndtr(v), max(tolerance, 2e-15), 1)


@case("gumbel_max_sample", VECTORS, lambda v: pr.gumbel_max_sample(v, rng()), "empty", "nan")
def _(received, v, tolerance):
    assert 0 <= received < len(v)
    if np.sort(v)[-1] - (np.sort(v)[-2] if len(v) > 1 else 0) > 40:
        assert received == np.argmax(v)


@case(
    "importance_weights",
    VECTORS,
    lambda v: pr.importance_weights(np.asarray, lambda x: np.zeros(len(x)), v),
    "empty",
    "nan",
)
def _(received, v, tolerance):
    weights, worth = received
    with np.errstate(over="ignore"):
        close(np.minimum(weights, 1e300), np.minimum(np.exp(v), 1e300), tolerance)
    assert worth == pytest.approx(1 / np.sum(scipy.special.softmax(v) ** 2), rel=1e-6)


@case("inverse_cdf_sample", VECTORS, lambda v: pr.inverse_cdf_sample(lambda u: u, len(v), rng()))
def _(received, v, tolerance):
    close(received, rng().random(len(v)), 0)  # its inputs are a function and a count


@case("mle_categorical", VECTORS, pr.mle_categorical, "empty", "zero", "int8", "nan")
def _(received, v, tolerance):
    close(received, v / v.sum(), tolerance)


@case("mle_gaussian", MATRICES, pr.mle_gaussian, "empty", "nan", "huge")
def _(received, A, tolerance):
    mean, cov = received
    close(mean, A.mean(axis=0), tolerance)
    close(cov, np.cov(A.T, bias=True).reshape(cov.shape), tolerance, (A * A).max() or 1)


@case(
    "score_function_grad",
    VECTORS,
    lambda v: pr.score_function_grad(lambda x: np.asarray(x, float), lambda x: np.ones(len(x)), v),
    "empty",
    "one",
)
def _(received, v, tolerance):
    size = np.abs(v).max() or 1
    close(received[0], v.mean(), 1e-12)
    close(received[1] / size, scipy.stats.sem(v / size), 1e-12, 1)


# ---------------------------------------------------------------- information theory


def mixed(p: Any) -> Any:
    """A second distribution of the same size: half p, half uniform, in p's own kind."""
    uniform = np.full(len(p), 1 / max(len(p), 1))
    half = (np.asarray(p, dtype=float) + uniform) / 2
    return half.tolist() if isinstance(p, list) else half


@case("entropy", DISTRIBUTIONS, it.entropy, *NOT_ONE)
def _(received, p, tolerance):
    assert received == pytest.approx(scipy.stats.entropy(p), rel=1e-6, abs=1e-12)


@case("cross_entropy", DISTRIBUTIONS, lambda p: it.cross_entropy(p, mixed(p)), *NOT_ONE)
def _(received, p, tolerance):
    expected = scipy.stats.entropy(p) + scipy.stats.entropy(p, mixed(p))
    assert received == pytest.approx(expected, rel=1e-6, abs=1e-12)


@case("kl", DISTRIBUTIONS, lambda p: it.kl(p, mixed(p)), *NOT_ONE)
def _(received, p, tolerance):
    assert received >= 0
    assert received == pytest.approx(scipy.stats.entropy(p, mixed(p)), rel=1e-5, abs=1e-12)


@case("js", DISTRIBUTIONS, lambda p: it.js(p, mixed(p)), *NOT_ONE)
def _(received, p, tolerance):
    middle = (p + mixed(p)) / 2
    expected = (scipy.stats.entropy(p, middle) + scipy.stats.entropy(mixed(p), middle)) / 2
    assert received == pytest.approx(expected, rel=1e-5, abs=1e-12)


def diagonal(p: Any) -> Any:
    """The joint distribution of X and X, in p's own kind."""
    return np.diag(p).tolist() if isinstance(p, list) else np.diag(p)


@case("mutual_information", DISTRIBUTIONS, lambda p: it.mutual_information(diagonal(p)), *NOT_ONE)
def _(received, p, tolerance):
    assert received == pytest.approx(scipy.stats.entropy(p), rel=1e-6, abs=1e-12)


@case("conditional_entropy", DISTRIBUTIONS, lambda p: it.conditional_entropy(diagonal(p)), *NOT_ONE)
def _(received, p, tolerance):
    assert received == 0


@case("miller_madow", VECTORS, it.miller_madow, "empty", "zero", "int8", "nan")
def _(received, v, tolerance):
    expected = scipy.stats.entropy(v) + (np.count_nonzero(v) - 1) / (2 * v.sum())
    assert received == pytest.approx(expected, rel=1e-6)


@case("perplexity", VECTORS, it.perplexity, "empty")
def _(received, v, tolerance):
    with np.errstate(over="ignore"):
        assert received == pytest.approx(np.exp(np.mean(v)), rel=1e-6, nan_ok=True)


@case("nats_to_bits", VECTORS, lambda v: [it.nats_to_bits(float(nats)) for nats in v])
def _(received, v, tolerance):
    close(received, v / np.log(2), 1e-15)


@case("kl_estimators", VECTORS, lambda v: it.kl_estimators(v, np.zeros(len(v))))
def _(received, v, tolerance):
    k1, k2, k3 = (np.asarray(k, dtype=float) for k in received)
    close(k1, v, 1e-6)
    with np.errstate(over="ignore"):
        close(np.minimum(k2, 1e300), np.minimum(v * v / 2, 1e300), 1e-6)
        close(np.minimum(k3, 1e300), np.minimum(np.expm1(-v) + v, 1e300), 1e-6)


@case("gaussian_kl", MATRICES, lambda A: it.gaussian_kl(gaussian(A), gaussian(A)), *INDEFINITE)
def _(received, A, tolerance):
    assert 0 <= received < 1e-4


@case("huffman", DISTRIBUTIONS, it.huffman, *NOT_ONE)
def _(received, p, tolerance):
    assert sum(2.0 ** -len(word) for word in received) == 1 or len(p) == 1
    length = sum(weight * len(word) for weight, word in zip(p, received, strict=True))
    assert length <= scipy.stats.entropy(p, base=2) + 1


def there_and_back(p: Any) -> Any:
    likely = int(np.argmax(p)) if len(p) else 0
    message = [likely] * 5
    bits = it.arithmetic_encode(message, lambda _: p)
    assert it.arithmetic_decode(bits, lambda _: p, 5) == message
    return len(bits)


@case("arithmetic_encode", DISTRIBUTIONS, there_and_back, *NOT_ONE)
def _(received, p, tolerance):
    assert received <= -5 * np.log2(p.max()) + 2


@case(
    "arithmetic_decode", DISTRIBUTIONS, lambda p: it.arithmetic_decode([], lambda _: p, 1), *NOT_ONE
)
def _(received, p, tolerance):
    assert received == [0]  # the point 0 lies in the first symbol's part, which is never empty


# ---------------------------------------------------------------- optimization


def half_square(x: Any) -> float:
    return 0.5 * float(x @ x)


def start(v: Any) -> tuple[Any, ...]:
    return half_square, lambda x: x, v


def after_one_step(factor: float) -> Callable[[Any, Any, float], None]:
    def check(received, v, tolerance):
        close(received.points[:2], np.stack([v, factor * v]), 1e-14)

    return check


case("gradient_descent", VECTORS, lambda v: op.gradient_descent(*start(v), 0.1, 5), "empty", "nan")(
    after_one_step(0.9)
)
case("heavy_ball", VECTORS, lambda v: op.heavy_ball(*start(v), 0.1, 0.5, 5), "empty", "nan")(
    after_one_step(0.9)
)
case("nesterov", VECTORS, lambda v: op.nesterov(*start(v), 0.1, 0.5, 5), "empty", "nan")(
    after_one_step(0.9)
)
case("sgd", VECTORS, lambda v: op.sgd(*start(v), 0.1, 0.0, 5, rng()), "empty", "nan")(
    after_one_step(0.9)
)
case("line_search", VECTORS, lambda v: op.line_search(*start(v), 5), "empty", "nan", "huge")(
    after_one_step(0.0)
)
case(
    "newton",
    VECTORS,
    lambda v: op.newton(half_square, lambda x: x, lambda x: np.eye(len(x)), v, 5),
    "empty",
    "nan",
)(after_one_step(0.0))


@case(
    "steps_to",
    VECTORS,
    lambda v: op.steps_to(op.Path(np.outer([1, 0.5, 0], v), np.zeros(3)), 0.0),
)
def _(received, v, tolerance):
    expected = np.inf if np.isnan(v).any() else 2 if np.any(v) else 0
    assert received == expected


@case("quadratic", VECTORS, lambda v: op.quadratic(9.0, max(len(v), 1)).grad(v), "empty")
def _(received, v, tolerance):
    close(received, np.geomspace(1, 9, len(v)) * v if len(v) > 1 else 9 * v, 1e-14)


def everything(problem: Any, point: Any) -> Any:
    return problem.f(point), problem.grad(point), problem.hessian(point)


@case("rosenbrock", VECTORS, lambda v: everything(op.rosenbrock(), v[:2]), "empty", "one")
def _(received, v, tolerance):
    x, y = v[:2]
    with np.errstate(over="ignore", invalid="ignore"):
        close(received[0], (1 - x) ** 2 + 100 * (y - x * x) ** 2, 1e-12)
        close(received[1], [-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)], 1e-12)
        close(received[2][0], [2 - 400 * (y - 3 * x * x), -400 * x], 1e-12)


@case("saddle", VECTORS, lambda v: everything(op.saddle(), v[:2]), "empty", "one")
def _(received, v, tolerance):
    with np.errstate(over="ignore", invalid="ignore"):
        close(received[0], (v[0] ** 2 - v[1] ** 2) / 2, 1e-12)
    close(received[1], [v[0], -v[1]], 1e-15)


def largest(v: Any) -> Any:
    return np.asarray(v).max(initial=0)


@case(
    "optimal_rates",
    VECTORS,
    lambda v: op.optimal_rates(1, largest(v)),
    "empty",
    "zero",
    "tiny",
    "nan",
)
def _(received, v, tolerance):
    assert received.gd_lr == pytest.approx(2 / (1 + v.max()))
    assert received.nesterov_rate == pytest.approx(1 - 1 / np.sqrt(v.max()))


@case(
    "sgd_noise_floor",
    VECTORS,
    lambda v: op.sgd_noise_floor(1e-201, 2.0, largest(v)),
    "empty",
    "zero",
    "nan",
)
def _(received, v, tolerance):
    assert received == pytest.approx(1e-201 * 4 / (2 * (2 - 1e-201 * v.max())))


@case(
    "prob_positive_definite",
    VECTORS,
    lambda v: op.prob_positive_definite(len(v), 200, rng()),
    "empty",
)
def _(received, v, tolerance):
    assert 0 <= received <= 0.6  # its inputs are two counts


@case(
    "top_hessian_eigenvalue",
    MATRICES,
    lambda A: op.top_hessian_eigenvalue(lambda x: np.asarray(A) @ x, np.zeros(len(A)), 100, rng()),
    "empty",
    "nan",
)
def _(received, A, tolerance):
    values = np.linalg.eigvalsh(A)
    close(received[0], values[np.argmax(np.abs(values))], 1e-6)


@case(
    "lanczos_density",
    MATRICES,
    lambda A: op.lanczos_density(lambda v: np.asarray(A) @ v, len(A), 8, rng()),
    "empty",
    "nan",
)
def _(received, A, tolerance):
    nodes, weights = received
    values = np.linalg.eigvalsh(A)
    close([nodes[0], nodes[-1]], values[[0, -1]], 1e-6)
    assert weights.sum() == pytest.approx(1)


# ---------------------------------------------------------------- the test


def test_every_public_function_is_here():
    names = {name.split(",")[0] for name in CASES}
    public = {name for module in (la, ca, pr, it, op) for name in module.__all__}
    assert public - names == {"Path", "Problem", "Rates"}  # records of the others' answers
    assert names <= public


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_nasty_inputs_give_the_right_answer_or_one_clear_error(name, kind):
    trial = CASES[name]
    given = trial.inputs[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if kind in trial.refused:
            with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is judged below
                trial.call(given)
            message = str(error.value)
            assert "\n" not in message
            assert 20 < len(message) < 300
            raised_in = error.traceback[-1].path
            assert raised_in.parent == FOLDER, f"{raised_in} complains, not the course: {message}"
            return
        received = trial.call(given)
    exact = np.asarray(given, dtype=np.float64)
    trial.check(received, exact, 1e-5 if kind == "float32" else 1e-12)
