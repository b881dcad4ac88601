"""Distributions in plain NumPy: softmax, likelihoods, maximum likelihood, and ways to sample.

Taught in ``math-foundations/probability.md``. Logarithms are natural. float32 stays float32, every
other kind of real number is computed in float64, pixels and other small integers too. Shape names:
``n`` samples, ``d`` coordinates of one sample, ``classes`` outcomes of a categorical distribution,
``hypotheses`` explanations between which Bayes' theorem decides.
"""

from __future__ import annotations

from collections.abc import Callable
from math import erfc as _erfc_of_one
from typing import Any

import numpy as np

from chainrule.shapes import Array, Float, Int, Num

__all__ = [
    "Categorical",
    "Gaussian",
    "bayes_posterior",
    "erf",
    "erfc",
    "gumbel_max_sample",
    "importance_weights",
    "inverse_cdf_sample",
    "logsumexp",
    "mle_categorical",
    "mle_gaussian",
    "normal_cdf",
    "score_function_grad",
    "softmax",
    "softmax_jacobian",
]


def softmax(x: Num[Array, "*shape"], axis: int = -1) -> Float[Array, "*shape"]:
    """exp(x) divided by its sum along an axis; subtracting the maximum first changes nothing.

    NaN where no distribution is meant: every x is −inf, or one is +inf or NaN.

    Raises:
        ValueError: the axis has no entries, or x is not real.

    Equation: math-foundations/probability.md#eq-softmax
    """
    x = _entries(x, axis, "softmax")
    with np.errstate(invalid="ignore"):
        weights = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return weights / np.sum(weights, axis=axis, keepdims=True)


def logsumexp(
    x: Num[Array, "*shape"], axis: int = -1, keepdims: bool = False
) -> Float[Array, "..."]:
    """log Σ exp(x) along an axis, finite for inputs of any size; −inf where all are −inf.

    Raises:
        ValueError: the axis has no entries, or x is not real.

    Equation: math-foundations/probability.md#eq-logsumexp
    """
    x = _entries(x, axis, "logsumexp")
    top = np.max(x, axis=axis, keepdims=True)
    shift = np.where(np.isfinite(top), top, x.dtype.type(0))
    with np.errstate(divide="ignore"):
        result = shift + np.log(np.sum(np.exp(x - shift), axis=axis, keepdims=True))
    return np.asarray(result if keepdims else np.squeeze(result, axis=axis))


def softmax_jacobian(p: Float[Array, "*batch classes"]) -> Float[Array, "*batch classes classes"]:
    """The derivative of softmax outputs ``p`` by the logits: diag(p) − p pᵀ.

    Raises:
        ValueError: an entry is not between 0 and 1, so that it is no output of softmax.

    Equation: math-foundations/probability.md#eq-softmax-jacobian
    """
    p = _floats(p)
    if np.any(p < 0) or np.any(p > 1 + 1e-6):
        raise ValueError(
            "softmax_jacobian: expected probabilities, the outputs of softmax, received entries "
            f"from {np.min(p):.3g} to {np.max(p):.3g}"
        )
    return p[..., :, None] * (np.eye(p.shape[-1], dtype=p.dtype) - p[..., None, :])


class Categorical:
    """A distribution over the outcomes 0 … classes − 1, from ``probs`` or from ``logits``.

    Raises:
        ValueError: not exactly one of the two is given, it is not one row, ``probs`` is not a
            distribution, or ``logits`` make none: a NaN, a +inf, or nothing above −inf.
    """

    def __init__(
        self,
        probs: Float[Array, "classes"] | None = None,
        logits: Num[Array, "classes"] | None = None,
    ):
        if (probs is None) == (logits is None):
            raise ValueError("Categorical: give exactly one of probs and logits")
        if logits is not None:
            logits = _row(logits, "logits")
            total = logsumexp(logits, keepdims=True)
            if not np.isfinite(total):
                raise ValueError(
                    f"Categorical: logits must be below inf and not all -inf, received {logits}"
                )
            self.log_probs = logits - total
            self.probs = np.exp(self.log_probs)
        else:
            self.probs = _distribution(_row(probs, "probs"), "probs")
            with np.errstate(divide="ignore"):
                self.log_probs = np.log(self.probs)

    def log_prob(self, outcome: Num[Array, "*shape"]) -> Float[Array, "*shape"]:
        """log p of each outcome.

        Raises:
            ValueError: an outcome is not one of 0 … classes − 1.
        """
        outcome = np.asarray(outcome)
        if outcome.dtype.kind not in "iu":
            raise ValueError(f"log_prob: outcomes are whole numbers, received {outcome.dtype}")
        strange = outcome[(outcome < 0) | (outcome >= len(self.probs))]
        if strange.size:
            raise ValueError(
                f"log_prob: expected outcomes 0 to {len(self.probs) - 1}, received {strange[0]}"
            )
        return self.log_probs[outcome]

    def entropy(self) -> float:
        """The mean surprise Σ −p log p in nats; an impossible outcome adds nothing.

        Equation: math-foundations/probability.md#eq-entropy
        """
        possible = self.probs > 0
        return float(0.0 - np.sum(self.probs[possible] * self.log_probs[possible]))

    def sample(self, rng: np.random.Generator, n: int) -> Int[Array, "n"]:
        """n independent outcomes: where n uniform numbers fall among the summed probabilities."""
        edges = np.cumsum(self.probs)
        return np.searchsorted(edges[:-1] / edges[-1], rng.random(n), side="right")


class Gaussian:
    """The multivariate normal distribution with mean ``mu`` and covariance ``cov``.

    Raises:
        ValueError: ``cov`` does not fit ``mu``, is not finite, not symmetric or not positive
            definite. An asymmetry counts beside the two deviations of its entry, so that the unit
            of measurement does not matter.
    """

    def __init__(self, mu: Float[Array, "d"], cov: Float[Array, "d d"]):
        mu, cov = _floats(mu), _floats(cov)
        if mu.ndim != 1 or mu.size == 0:
            raise ValueError(
                "Gaussian: expected mu of shape (d,) with at least one coordinate, received "
                f"{mu.shape}"
            )
        if cov.shape != (len(mu), len(mu)):
            raise ValueError(
                f"Gaussian: expected cov of shape {(len(mu), len(mu))}, received {cov.shape}"
            )
        if not (np.all(np.isfinite(mu)) and np.all(np.isfinite(cov))):
            raise ValueError("Gaussian: expected finite numbers in mu and cov")
        deviations = np.sqrt(np.abs(np.diag(cov)))
        excess = np.abs(cov / 2 - cov.T / 2) - 1e-6 * np.outer(deviations, deviations)
        if np.any(excess > 0):
            i, j = (int(k) for k in np.unravel_index(np.argmax(excess), cov.shape))
            raise ValueError(
                f"Gaussian: the covariance must be symmetric, but its entries {(i, j)} and "
                f"{(j, i)} are {cov[i, j]:.6g} and {cov[j, i]:.6g}"
            )
        try:
            self.cholesky = np.linalg.cholesky(cov)
        except np.linalg.LinAlgError:
            smallest = np.linalg.eigvalsh(cov)[0]
            raise ValueError(
                "Gaussian: the covariance must be positive definite, but its smallest "
                f"eigenvalue is {smallest:.3g}"
            ) from None
        self.mu = mu
        self.cov = cov

    def logpdf(self, x: Float[Array, "*n d"]) -> Float[Array, "*n"]:
        """Log density: −½‖z‖² − log det L − ½ d log 2π, where x = μ + L z.

        Equation: math-foundations/probability.md#eq-gaussian-density

        Raises:
            ValueError: the last axis has another size than the mean.
        """
        x = _floats(x)
        if x.ndim == 0 or x.shape[-1] != len(self.mu):
            raise ValueError(
                f"logpdf: expected points of {len(self.mu)} coordinates, received shape {x.shape}"
            )
        centred = (x - self.mu).reshape(-1, len(self.mu))
        z = np.linalg.solve(self.cholesky, centred.T)
        log_det = np.sum(np.log(np.diag(self.cholesky)))
        with np.errstate(over="ignore"):  # so far out that the density is 0
            square = np.sum(z**2, axis=0)
        density = -0.5 * square - log_det - 0.5 * len(self.mu) * np.log(2 * np.pi)
        return density.reshape(x.shape[:-1])

    def sample(self, rng: np.random.Generator, n: int) -> Float[Array, "n d"]:
        """n independent points μ + L z, with z standard normal.

        Equation: math-foundations/probability.md#eq-gaussian-sample
        """
        return self.mu + rng.standard_normal((n, len(self.mu))) @ self.cholesky.T

    def entropy(self) -> float:
        """Differential entropy in nats: ½ d (1 + log 2π) + log det L; it can be negative."""
        d = len(self.mu)
        return float(0.5 * d * (1 + np.log(2 * np.pi)) + np.sum(np.log(np.diag(self.cholesky))))


def bayes_posterior(
    prior: Float[Array, "hypotheses"], likelihood: Float[Array, "hypotheses"]
) -> Float[Array, "hypotheses"]:
    """P(hypothesis | evidence) from P(hypothesis) and P(evidence | hypothesis).

    Equation: math-foundations/probability.md#eq-bayes

    Raises:
        ValueError: the prior is no distribution, a likelihood is negative or not finite, there is
            not one for each hypothesis, or the evidence is impossible under all of them.
    """
    prior, likelihood = _distribution(_row(prior, "prior"), "prior"), _floats(likelihood)
    if likelihood.shape != prior.shape:
        raise ValueError(
            f"bayes_posterior: expected one likelihood for each of {len(prior)} hypotheses, "
            f"received shape {likelihood.shape}"
        )
    strange = likelihood[~((likelihood >= 0) & (likelihood < np.inf))]
    if strange.size:
        raise ValueError(
            f"bayes_posterior: a likelihood must be at least 0, and finite, got {strange[0]:g}"
        )
    # Densities of many measurements are tiny or huge; only their ratios matter.
    joint = prior * (likelihood / (likelihood.max() or 1))
    evidence = joint.sum()
    if not evidence > 0:
        raise ValueError("bayes_posterior: the evidence has probability 0 under every hypothesis")
    return joint / evidence


def mle_gaussian(X: Float[Array, "n d"]) -> tuple[Float[Array, "d"], Float[Array, "d d"]]:
    """Mean and covariance of the most likely Gaussian; the covariance divides by n, not n − 1.

    Raises:
        ValueError: X is not a table of finite numbers with at least one row, or the covariance
            overflows.

    Equation: math-foundations/probability.md#eq-mle-gaussian
    """
    X = _floats(X)
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(
            f"mle_gaussian: expected one row or more of shape (n, d), received {X.shape}"
        )
    if not np.all(np.isfinite(X)):
        raise ValueError("mle_gaussian: expected finite numbers")
    with np.errstate(over="ignore", invalid="ignore"):
        mu = X.mean(axis=0)
        cov = (X - mu).T @ (X - mu) / len(X)
    if not np.all(np.isfinite(cov)):
        raise ValueError(
            f"mle_gaussian: the covariance is larger than {X.dtype} can hold; scale X first"
        )
    return mu, cov


def mle_categorical(counts: Num[Array, "classes"], alpha: float = 0.0) -> Float[Array, "classes"]:
    """The most likely probabilities; ``alpha`` is added to each count (1: Laplace smoothing).

    Equation: math-foundations/probability.md#eq-mle-categorical

    Raises:
        ValueError: a count is negative or not finite, or there is nothing to divide by.
    """
    counts = _floats(counts)
    smoothed = counts + alpha
    total = smoothed.sum()
    if not (np.all(counts >= 0) and alpha >= 0 and total < np.inf):
        raise ValueError(
            "mle_categorical: counts and alpha must be at least 0, and finite, got "
            f"{counts} and {alpha}"
        )
    if total == 0:
        raise ValueError("mle_categorical: all counts are 0: give alpha > 0 or count something")
    return smoothed / total


def gumbel_max_sample(
    logits: Num[Array, "*batch classes"], rng: np.random.Generator
) -> Int[Array, "*batch"]:
    """One draw from softmax(logits) for each row: the largest of logits plus Gumbel noise.

    The noise is −log(−log u) with u uniform. For many draws, broadcast the logits to many rows.

    Raises:
        ValueError: a row has no possible outcome: it is empty, all −inf, or holds a NaN.

    Equation: math-foundations/probability.md#eq-gumbel-max
    Source: Gumbel, Statistical Theory of Extreme Values and Some Practical Applications, 1954.
    """
    logits = _entries(logits, -1, "gumbel_max_sample")
    if not np.all(np.max(logits, axis=-1) > -np.inf):
        raise ValueError("gumbel_max_sample: every row needs a logit above -inf, and no NaN")
    return np.asarray(np.argmax(logits + rng.gumbel(size=logits.shape), axis=-1))


def inverse_cdf_sample(
    icdf: Callable[[Array], Array], n: int, rng: np.random.Generator
) -> Float[Array, "n"]:
    """n draws from the distribution whose inverse distribution function is ``icdf``.

    Equation: math-foundations/probability.md#eq-inverse-cdf
    """
    return np.asarray(icdf(rng.random(n)))


def score_function_grad(
    logp_grad: Callable[[Array], Array],
    f: Callable[[Array], Array],
    samples: Num[Array, "n *event"],
    baseline: float = 0.0,
) -> tuple[Array | float, Array | float]:
    """An estimate of the gradient of E[f(x)] by the distribution's parameters, and its error.

    ``logp_grad`` gives ∇ log p of each sample (n, *parameters), ``f`` one number each. The
    estimate is the mean of (f − baseline)·∇ log p; the error is its standard error.

    Raises:
        ValueError: there are fewer than 2 samples, or not one number and one gradient for each.

    Equation: math-foundations/probability.md#eq-score-function
    Source: Williams, Simple statistical gradient-following algorithms, 1992.
    """
    n = len(samples)
    if n < 2:
        raise ValueError(f"score_function_grad: expected at least 2 samples, received {n}")
    scores, rewards = np.asarray(logp_grad(samples)), np.asarray(f(samples)) - baseline
    if rewards.shape != (n,) or scores.shape[:1] != (n,):
        raise ValueError(
            f"score_function_grad: expected one number for each of {n} samples, received shape "
            f"{rewards.shape} from f and {scores.shape} from logp_grad"
        )
    terms = rewards.reshape(-1, *[1] * (scores.ndim - 1)) * scores
    size = np.max(np.abs(terms), initial=0) or 1  # squares could overflow or vanish
    error = np.std(terms / size, axis=0, ddof=1) / np.sqrt(n) * size
    return np.mean(terms, axis=0), error


def importance_weights(
    p: Callable[[Array], Array], q: Callable[[Array], Array], x: Num[Array, "n *event"]
) -> tuple[Float[Array, "n"], float]:
    """Ratios p(x)/q(x) for samples x of q, and how many samples of p they are worth.

    ``p`` and ``q`` return **log** densities. The effective sample size is (Σw)²/Σw² (Kish 1965).

    Equation: math-foundations/probability.md#eq-importance-sampling

    Raises:
        ValueError: there is no sample, every one is impossible under p, or a ratio is no number.
    """
    log_weights = np.asarray(p(x)) - np.asarray(q(x))
    if log_weights.size == 0:
        raise ValueError("importance_weights: expected at least one sample, received none")
    strange = np.flatnonzero(~(log_weights < np.inf))
    if strange.size:
        raise ValueError(
            f"importance_weights: log p − log q is {log_weights[strange[0]]} at sample {strange[0]}"
        )
    if not np.any(log_weights > -np.inf):
        raise ValueError("importance_weights: p is 0 at every sample of q")
    scaled = softmax(log_weights)
    with np.errstate(over="ignore"):
        return np.exp(log_weights), float(1 / np.sum(scaled**2))


def erfc(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """1 − erf(x), with small relative error in the tail where it is almost 0.

    For x ≥ 0 it is t·exp(−x² + c(t)) with t = 2/(2 + x). That c is so smooth that a polynomial of
    degree 24 gives it to double precision, one of degree 10 to single; both are fitted to
    Python's own ``math.erfc`` when this module is loaded. In float64 the relative error is below
    1e-14 up to x = 5 and below 2e-13 up to x = 25, where rounding x² is what remains.

    Source: the form is in Press et al., Numerical Recipes, 3rd edition, 2007, section 6.2.2.
    """
    x = _floats(x)
    size = np.atleast_1d(np.abs(x))
    t = 2 / (2 + size)
    y = _to_unit(t)
    exponent = np.zeros_like(y)
    for coefficient in _ERFC_SINGLE if x.dtype == np.float32 else _ERFC_DOUBLE:
        exponent *= y
        exponent += coefficient
    with np.errstate(over="ignore"):  # exp(−∞) is 0
        size *= size
    exponent -= size
    result = np.exp(exponent, out=exponent)
    result *= t
    # erfc(−x) = 2 − erfc(x) = |erfc(x) − 2|
    result -= np.multiply(x < 0, 2, dtype=x.dtype)
    return np.abs(result, out=result).reshape(x.shape)


def erf(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """2/√π ∫₀ˣ exp(−s²) ds, to 1e-15 absolute in float64."""
    return np.asarray(1 - erfc(_floats(x)))


def normal_cdf(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Φ(x), the probability that a standard normal number is at most x.

    Equation: math-foundations/probability.md#eq-normal-cdf
    """
    return np.asarray(0.5 * erfc(np.asarray(-_floats(x) * float(np.sqrt(0.5)))))


_FURTHEST = 26.0  # beyond this, erfc is below the smallest normal double


def _to_unit(t: Array) -> Array:
    """Map t = 2/(2 + x), for x from _FURTHEST down to 0, to [−1, 1]."""
    least = 2 / (2 + _FURTHEST)
    return t * (2 / (1 - least)) - (1 + least) / (1 - least)


def _fit_erfc(degree: int, nodes: int = 64) -> list[float]:
    """Coefficients in y = _to_unit(t), highest power first, of c(t) = log(erfc(x)/t) + x².

    The sum cancels: log erfc is almost −x². So exp(−x²) is divided out before the logarithm, x²
    being split into the square of a short number, which is exact, and a small rest.
    """
    y = np.cos(np.pi * (np.arange(nodes) + 0.5) / nodes)
    least = 2 / (2 + _FURTHEST)
    x = 4 / ((1 - least) * y + (1 + least)) - 2
    short = x.astype(np.float32).astype(np.float64)
    ratio = np.array([_erfc_of_one(s) for s in x]) / np.exp(-short * short)
    t = 2 / (2 + x)
    c = np.log(ratio / t) + (x - short) * (x + short)
    return np.linalg.lstsq(np.vander(_to_unit(t), degree + 1), c, rcond=None)[0].tolist()


_ERFC_DOUBLE = _fit_erfc(24)
_ERFC_SINGLE = _fit_erfc(10)


def _floats(x: Any) -> Array:
    """``x`` in float32 if it is, in float64 if it is any other kind of real number."""
    x = np.asarray(x)
    if x.dtype == np.float32 or x.dtype == np.float64:
        return x
    if x.dtype.kind not in "biuf":
        raise ValueError(f"expected real numbers, received {x.dtype}")
    return x.astype(np.float64)


def _entries(x: Any, axis: int, name: str) -> Array:
    x = _floats(x)
    if x.ndim and x.shape[axis] == 0:
        raise ValueError(f"{name}: no entries along axis {axis}: received shape {x.shape}")
    return x


def _row(x: Any, name: str) -> Array:
    x = _floats(x)
    if x.ndim != 1 or x.size == 0:
        nothing = "no entries: " if x.size == 0 else ""
        raise ValueError(f"{nothing}expected one row of {name}, received shape {x.shape}")
    return x


def _distribution(p: Float[Array, "classes"], name: str) -> Float[Array, "classes"]:
    """``p`` itself, if it is non-negative and sums to 1 within rounding."""
    total = float(np.sum(p))
    if not np.all(p >= 0) or abs(total - 1) > 1e-6:
        raise ValueError(
            f"{name} must be at least 0 and sum to 1, got smallest {np.min(p):.3g}, sum {total:.6g}"
        )
    return p
