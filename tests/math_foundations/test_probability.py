"""Distributions against SciPy, closed forms and chi-square tests of the samplers."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chainrule.math_foundations.calculus import numerical_jacobian
from chainrule.math_foundations.probability import (
    Categorical,
    Gaussian,
    bayes_posterior,
    erf,
    erfc,
    gumbel_max_sample,
    importance_weights,
    inverse_cdf_sample,
    logsumexp,
    mle_categorical,
    mle_gaussian,
    normal_cdf,
    score_function_grad,
    softmax,
    softmax_jacobian,
)

SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, max_side=7)
LOGITS = SHAPES.flatmap(
    lambda shape: hnp.arrays(float, shape, elements=st.floats(-1000, 1000, width=64))
)


@given(LOGITS, st.data())
def test_softmax_and_logsumexp_equal_scipy(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    np.testing.assert_allclose(
        softmax(x, axis), scipy.special.softmax(x, axis=axis), rtol=1e-10, atol=1e-300
    )
    for keepdims in (False, True):
        np.testing.assert_allclose(
            logsumexp(x, axis, keepdims),
            scipy.special.logsumexp(x, axis=axis, keepdims=keepdims),
            rtol=1e-12,
            atol=1e-12,
        )


def test_logsumexp_at_infinities():
    rows = np.array([[-np.inf, -np.inf], [np.inf, 0.0], [-np.inf, 3.0]])
    assert logsumexp(rows).tolist() == [-np.inf, np.inf, 3.0]
    assert logsumexp(np.array([1000.0, 1000.0])) == 1000 + np.log(2)
    assert logsumexp(np.array([-1000.0, -1000.0])) == -1000 + np.log(2)


def test_softmax_of_one_two_three():
    np.testing.assert_array_equal(np.round(softmax(np.array([1, 2, 3])), 3), [0.090, 0.245, 0.665])


def test_softmax_keeps_float32():
    assert softmax(np.ones((2, 3), dtype=np.float32)).dtype == np.float32
    assert logsumexp(np.ones((2, 3), dtype=np.float32)).dtype == np.float32


def test_softmax_jacobian_equals_torch_and_differences(rng):
    x = rng.normal(size=(3, 5))
    J = softmax_jacobian(softmax(x))
    for row, jacobian in zip(x, J, strict=True):
        expected = torch.autograd.functional.jacobian(
            lambda z: torch.softmax(z, 0), torch.tensor(row)
        )
        np.testing.assert_allclose(jacobian, expected, rtol=1e-10)
        np.testing.assert_allclose(jacobian, numerical_jacobian(softmax, row), atol=1e-8)


def test_log_likelihood_gradient_is_one_hot_minus_p(rng):
    x = rng.normal(size=5)
    gradient = numerical_jacobian(lambda z: z[3:4] - logsumexp(z), x)[0]
    np.testing.assert_allclose(gradient, np.eye(5)[3] - softmax(x), atol=1e-8)


def test_categorical_from_probs_and_logits(rng):
    logits = rng.normal(size=7)
    one, two = Categorical(logits=logits), Categorical(probs=softmax(logits))
    np.testing.assert_allclose(one.probs, two.probs)
    outcomes = np.array([[0, 6], [3, 3]])
    np.testing.assert_allclose(one.log_prob(outcomes), np.log(softmax(logits))[outcomes])
    np.testing.assert_allclose(two.log_prob(outcomes), one.log_prob(outcomes))
    assert one.entropy() == pytest.approx(scipy.stats.entropy(one.probs), rel=1e-12)


def test_entropy_of_halves_quarters_eighths():
    source = Categorical(probs=np.array([1 / 2, 1 / 4, 1 / 8, 1 / 8]))
    assert source.entropy() / np.log(2) == 1.75
    assert Categorical(probs=np.array([1.0, 0.0])).entropy() == 0.0


def chi_square_p(draws, probs):
    observed = np.bincount(draws, minlength=len(probs))
    return scipy.stats.chisquare(observed, probs * len(draws)).pvalue


def test_categorical_samples_pass_chi_square(rng):
    probs = np.array([0.05, 0.0, 0.35, 0.2, 0.4])
    draws = Categorical(probs=probs).sample(rng, 100_000)
    assert not np.any(draws == 1)
    keep = probs > 0
    renumber = np.cumsum(keep) - 1
    assert chi_square_p(renumber[draws], probs[keep]) > 0.01
    assert chi_square_p(renumber[draws], np.array([0.06, 0.34, 0.2, 0.4])) < 1e-6


def test_gumbel_max_samples_pass_chi_square(rng):
    logits = np.array([0.3, -2.0, 1.0, 0.0])
    draws = gumbel_max_sample(np.broadcast_to(logits, (100_000, 4)), rng)
    assert chi_square_p(draws, softmax(logits)) > 0.01
    assert chi_square_p(draws, softmax(logits * 1.1)) < 1e-6
    assert gumbel_max_sample(logits, rng).shape == ()


def test_gaussian_equals_scipy(rng):
    A = rng.normal(size=(3, 3))
    mu, cov = rng.normal(size=3), A @ A.T + 0.1 * np.eye(3)
    x = rng.normal(size=(2, 5, 3))
    ours, peer = Gaussian(mu, cov), scipy.stats.multivariate_normal(mu, cov)
    np.testing.assert_allclose(ours.logpdf(x), peer.logpdf(x), rtol=1e-10)
    np.testing.assert_allclose(ours.logpdf(x[0, 0]), peer.logpdf(x[0, 0]), rtol=1e-10)
    assert ours.entropy() == pytest.approx(peer.entropy(), rel=1e-12)


def test_gaussian_samples_have_its_moments(rng):
    mu, cov = np.array([1.0, -2.0]), np.array([[2.0, 1.2], [1.2, 1.0]])
    draws = Gaussian(mu, cov).sample(rng, 100_000)
    assert np.all(np.abs(draws.mean(axis=0) - mu) < 4 * np.sqrt(np.diag(cov) / 100_000))
    np.testing.assert_allclose(np.cov(draws.T), cov, atol=0.03)
    z = np.linalg.solve(np.linalg.cholesky(cov), (draws - mu).T)
    assert scipy.stats.kstest(z.ravel(), "norm").pvalue > 0.01


def test_density_may_exceed_one_and_entropy_be_negative():
    narrow = Gaussian(np.zeros(1), np.array([[0.01]]))
    assert np.exp(narrow.logpdf(np.zeros(1))) == pytest.approx(3.989, abs=1e-3)
    assert narrow.entropy() < 0


def test_posterior_of_a_positive_test_is_one_sixth():
    prior, positive = np.array([0.01, 0.99]), np.array([0.99, 0.05])
    once = bayes_posterior(prior, positive)
    assert once[0] == pytest.approx(1 / 6, rel=1e-12)
    assert bayes_posterior(once, positive)[0] == pytest.approx(0.798, abs=1e-3)


def test_maximum_likelihood_gaussian_is_a_maximum(rng):
    X = rng.normal(size=(19, 3)) @ rng.normal(size=(3, 3)) + 2
    mu, cov = mle_gaussian(X)
    np.testing.assert_allclose(mu, X.mean(axis=0))
    np.testing.assert_allclose(cov, np.cov(X.T, bias=True), rtol=1e-12)
    best = Gaussian(mu, cov).logpdf(X).sum()
    for _ in range(50):
        shift, stretch = 0.05 * rng.normal(size=3), 0.03 * rng.normal(size=(3, 3))
        moved = (np.eye(3) + stretch) @ cov @ (np.eye(3) + stretch).T
        assert Gaussian(mu + shift, moved).logpdf(X).sum() < best


def test_maximum_likelihood_categorical():
    counts = np.array([3, 0, 1])
    assert mle_categorical(counts).tolist() == [0.75, 0.0, 0.25]
    np.testing.assert_allclose(mle_categorical(counts, alpha=1.0), [4 / 7, 1 / 7, 2 / 7])


def test_inverse_cdf_samples_an_exponential(rng):
    draws = inverse_cdf_sample(lambda u: -np.log1p(-u) / 3, 100_000, rng)
    assert scipy.stats.kstest(draws, "expon", args=(0, 1 / 3)).pvalue > 0.01


def test_score_function_gradient_of_a_mean_square(rng):
    mu = 1.5
    draws = mu + rng.standard_normal(100_000)
    estimate, error = score_function_grad(lambda x: x - mu, np.square, draws)
    assert abs(estimate - 2 * mu) < 3 * error
    better, smaller = score_function_grad(lambda x: x - mu, np.square, draws, baseline=mu**2 + 1)
    assert abs(better - 2 * mu) < 3 * smaller
    assert smaller < 0.9 * error
    terms = draws**2 * (draws - mu)
    assert error == pytest.approx(scipy.stats.sem(terms), rel=1e-12)


def test_score_function_gradient_has_the_parameters_shape(rng):
    probs = np.array([0.2, 0.5, 0.3])
    draws = Categorical(probs=probs).sample(rng, 50_000)
    rewards = np.array([1.0, -2.0, 4.0])
    estimate, error = score_function_grad(
        lambda k: np.eye(3)[k] - probs, lambda k: rewards[k], draws
    )
    exact = softmax_jacobian(probs) @ rewards
    assert np.all(np.abs(estimate - exact) < 3.5 * error)


def test_importance_weights(rng):
    q, p = scipy.stats.norm(0, 2), scipy.stats.norm(1, 1)
    x = q.rvs(size=50_000, random_state=rng)
    weights, ess = importance_weights(p.logpdf, q.logpdf, x)
    np.testing.assert_allclose(weights, p.pdf(x) / q.pdf(x), rtol=1e-10)
    assert ess == pytest.approx(weights.sum() ** 2 / (weights**2).sum(), rel=1e-12)
    assert np.mean(weights * x) == pytest.approx(1, abs=0.03)
    same, all_of_them = importance_weights(q.logpdf, q.logpdf, x)
    assert np.all(same == 1)
    assert all_of_them == pytest.approx(len(x))


def test_importance_ess_survives_overflow():
    x = np.arange(3.0)
    with np.errstate(over="ignore"):
        _, ess = importance_weights(lambda x: 2000 + 0 * x, lambda x: 0 * x, x)
    assert ess == pytest.approx(3)


def test_error_function_equals_scipy():
    x = np.concatenate([np.linspace(-6, 6, 200_001), [0.0, -0.0, 1e-20, np.inf, -np.inf]])
    assert np.max(np.abs(erf(x) - scipy.special.erf(x))) < 2e-15
    tail = np.linspace(0, 25, 100_001)
    error = np.abs(erfc(tail) / scipy.special.erfc(tail) - 1)
    assert np.max(error[tail <= 5]) < 1e-14
    assert np.max(error) < 2e-13
    assert np.max(np.abs(normal_cdf(x) - scipy.special.ndtr(x))) < 2e-15


def test_error_function_in_single_precision():
    x = np.linspace(-6, 6, 100_001, dtype=np.float32)
    assert erf(x).dtype == np.float32
    assert np.max(np.abs(erf(x) - scipy.special.erf(x.astype(float)))) < 6e-7
    assert normal_cdf(x).dtype == np.float32


def test_error_function_far_out():
    for dtype in (np.float32, np.float64):
        far = np.array([30, 1e30, np.finfo(dtype).max, np.inf], dtype=dtype)
        assert erfc(far).tolist() == [0.0] * 4
        assert erfc(-far).tolist() == [2.0] * 4


def test_error_function_passes_nan_on():
    assert np.isnan(erf(np.array([np.nan]))).all()


def test_bad_arguments_are_named(rng):
    with pytest.raises(ValueError, match="exactly one"):
        Categorical()
    with pytest.raises(ValueError, match=r"sum 1\.1"):
        Categorical(probs=np.array([0.5, 0.6]))
    with pytest.raises(ValueError, match=r"smallest -0\.5"):
        Categorical(probs=np.array([-0.5, 1.5]))
    with pytest.raises(ValueError, match="symmetric"):
        Gaussian(np.zeros(2), np.array([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="eigenvalue is -1"):
        Gaussian(np.zeros(2), np.array([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(ValueError, match="probability 0"):
        bayes_posterior(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="all counts are 0"):
        mle_categorical(np.zeros(3))
    with pytest.raises(ValueError, match="at least 0"):
        mle_categorical(np.array([1, -1]))
    with pytest.raises(ValueError, match="p is 0 at every sample"):
        importance_weights(lambda x: np.full(len(x), -np.inf), lambda x: x, np.ones(2))
