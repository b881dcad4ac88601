"""Distributions in plain NumPy: softmax, likelihoods, maximum likelihood, and ways to sample.

Taught in ``math-foundations/probability.md``. Logarithms are natural. Shape names: ``n`` samples,
``d`` coordinates of one sample, ``classes`` outcomes of a categorical distribution,
``hypotheses`` explanations between which Bayes' theorem decides.
"""

from __future__ import annotations

from collections.abc import Callable
from math import erfc as _erfc_of_one

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

    Equation: math-foundations/probability.md#eq-softmax
    """
    weights = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return weights / np.sum(weights, axis=axis, keepdims=True)


def logsumexp(
    x: Num[Array, "*shape"], axis: int = -1, keepdims: bool = False
) -> Float[Array, "..."]:
    """log Σ exp(x) along an axis, finite for inputs of any size; −inf where all are −inf.

    Equation: math-foundations/probability.md#eq-logsumexp
    """
    top = np.max(x, axis=axis, keepdims=True)
    shift = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore"):
        result = shift + np.log(np.sum(np.exp(x - shift), axis=axis, keepdims=True))
    return np.asarray(result if keepdims else np.squeeze(result, axis=axis))


def softmax_jacobian(p: Float[Array, "*batch classes"]) -> Float[Array, "*batch classes classes"]:
    """The derivative of softmax outputs ``p`` by the logits: diag(p) − p pᵀ.

    Equation: math-foundations/probability.md#eq-softmax-jacobian
    """
    return p[..., :, None] * (np.eye(p.shape[-1]) - p[..., None, :])


class Categorical:
    """A distribution over the outcomes 0 … classes − 1, from ``probs`` or from ``logits``.

    Raises:
        ValueError: not exactly one of the two is given, or ``probs`` is not a distribution.
    """

    def __init__(
        self,
        probs: Float[Array, "classes"] | None = None,
        logits: Num[Array, "classes"] | None = None,
    ):
        if (probs is None) == (logits is None):
            raise ValueError("Categorical: give exactly one of probs and logits")
        if logits is not None:
            self.log_probs = logits - logsumexp(logits, keepdims=True)
            self.probs = np.exp(self.log_probs)
        else:
            self.probs = _distribution(np.asarray(probs), "probs")
            with np.errstate(divide="ignore"):
                self.log_probs = np.log(self.probs)

    def log_prob(self, outcome: Int[Array, "*shape"]) -> Float[Array, "*shape"]:
        """log p of each outcome."""
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
        ValueError: ``cov`` does not fit ``mu``, is not symmetric or not positive definite.
    """

    def __init__(self, mu: Float[Array, "d"], cov: Float[Array, "d d"]):
        if not np.allclose(cov, cov.T):
            raise ValueError("Gaussian: the covariance must be symmetric")
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
        """
        centred = (x - self.mu).reshape(-1, len(self.mu))
        z = np.linalg.solve(self.cholesky, centred.T)
        log_det = np.sum(np.log(np.diag(self.cholesky)))
        density = -0.5 * np.sum(z**2, axis=0) - log_det - 0.5 * len(self.mu) * np.log(2 * np.pi)
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
        ValueError: the prior is no distribution, or the evidence is impossible under all of it.
    """
    joint = _distribution(prior, "prior") * likelihood
    evidence = joint.sum()
    if not evidence > 0:
        raise ValueError("bayes_posterior: the evidence has probability 0 under every hypothesis")
    return joint / evidence


def mle_gaussian(X: Float[Array, "n d"]) -> tuple[Float[Array, "d"], Float[Array, "d d"]]:
    """Mean and covariance of the most likely Gaussian; the covariance divides by n, not n − 1.

    Equation: math-foundations/probability.md#eq-mle-gaussian
    """
    mu = X.mean(axis=0)
    return mu, (X - mu).T @ (X - mu) / len(X)


def mle_categorical(counts: Num[Array, "classes"], alpha: float = 0.0) -> Float[Array, "classes"]:
    """The most likely probabilities; ``alpha`` is added to each count (Laplace smoothing).

    Equation: math-foundations/probability.md#eq-mle-categorical

    Raises:
        ValueError: a count is negative, or there is nothing to divide by.
    """
    if np.any(counts < 0) or alpha < 0:
        raise ValueError(f"mle_categorical: counts and alpha must be at least 0, got {counts}")
    smoothed = counts + alpha
    total = smoothed.sum()
    if total == 0:
        raise ValueError("mle_categorical: all counts are 0: give alpha > 0 or count something")
    return smoothed / total


def gumbel_max_sample(
    logits: Num[Array, "*batch classes"], rng: np.random.Generator
) -> Int[Array, "*batch"]:
    """One draw from softmax(logits) for each row: the largest of logits plus Gumbel noise.

    The noise is −log(−log u) with u uniform. For many draws, broadcast the logits to many rows.

    Equation: math-foundations/probability.md#eq-gumbel-max
    """
    return np.asarray(np.argmax(logits + rng.gumbel(size=logits.shape), axis=-1))


def inverse_cdf_sample(
    icdf: Callable[[Array], Array], n: int, rng: np.random.Generator
) -> Float[Array, "n"]:
    """n draws from the distribution whose inverse distribution function is ``icdf``.

    Equation: math-foundations/probability.md#eq-inverse-cdf
    """
    return icdf(rng.random(n))


def score_function_grad(
    logp_grad: Callable[[Array], Array],
    f: Callable[[Array], Array],
    samples: Num[Array, "n *event"],
    baseline: float = 0.0,
) -> tuple[Array | float, Array | float]:
    """An estimate of the gradient of E[f(x)] by the distribution's parameters, and its error.

    ``logp_grad`` gives ∇ log p of each sample (n, *parameters), ``f`` one number each. The
    estimate is the mean of (f − baseline)·∇ log p; the error is its standard error.

    Equation: math-foundations/probability.md#eq-score-function
    Source: Williams, Simple statistical gradient-following algorithms, 1992.
    """
    scores = logp_grad(samples)
    rewards = f(samples) - baseline
    terms = rewards.reshape(-1, *[1] * (scores.ndim - 1)) * scores
    return np.mean(terms, axis=0), np.std(terms, axis=0, ddof=1) / np.sqrt(len(terms))


def importance_weights(
    p: Callable[[Array], Array], q: Callable[[Array], Array], x: Num[Array, "n *event"]
) -> tuple[Float[Array, "n"], float]:
    """Ratios p(x)/q(x) for samples x of q, and how many samples of p they are worth.

    ``p`` and ``q`` return **log** densities. The effective sample size is (Σw)²/Σw².

    Equation: math-foundations/probability.md#eq-importance-sampling

    Raises:
        ValueError: every sample is impossible under p.
    """
    log_weights = p(x) - q(x)
    if not np.any(log_weights > -np.inf):
        raise ValueError("importance_weights: p is 0 at every sample of q")
    scaled = softmax(log_weights)
    return np.exp(log_weights), float(1 / np.sum(scaled**2))


def erfc(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """1 − erf(x), with small relative error in the tail where it is almost 0.

    For x ≥ 0 it is t·exp(−x² + c(t)) with t = 2/(2 + x). That c is so smooth that a polynomial of
    degree 24 gives it to double precision, one of degree 10 to single; both are fitted to
    Python's own ``math.erfc`` when this module is loaded. In float64 the relative error is below
    1e-14 up to x = 5 and below 2e-13 up to x = 25, where rounding x² is what remains.

    Source: the form is in Press et al., Numerical Recipes, 3rd edition, 2007, section 6.2.2.
    """
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
    return np.asarray(1 - erfc(x))


def normal_cdf(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Φ(x), the probability that a standard normal number is at most x.

    Equation: math-foundations/probability.md#eq-normal-cdf
    """
    return np.asarray(0.5 * erfc(np.asarray(-x * float(np.sqrt(0.5)))))


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


def _distribution(p: Float[Array, "classes"], name: str) -> Float[Array, "classes"]:
    """``p`` itself, if it is non-negative and sums to 1 within rounding."""
    total = float(np.sum(p))
    if not np.all(p >= 0) or abs(total - 1) > 1e-6:
        raise ValueError(
            f"{name} must be at least 0 and sum to 1, got smallest {np.min(p):.3g}, sum {total:.6g}"
        )
    return p
