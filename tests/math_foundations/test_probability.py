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


# ------------------------------------------------------------------ what callers really pass


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int64, np.float16, np.bool_])
def test_softmax_and_logsumexp_of_small_numbers_are_computed_in_float64(kind):
    x = np.array([1, 0]) if kind is np.bool_ else np.array([1, 2])
    x = np.array([-100, 100]) if kind is np.int8 else x
    given_kind = getattr(softmax, "__wrapped__", softmax)(x.astype(kind))
    np.testing.assert_allclose(given_kind, scipy.special.softmax(x.astype(float)), rtol=1e-14)
    total = getattr(logsumexp, "__wrapped__", logsumexp)(x.astype(kind))
    assert total == pytest.approx(scipy.special.logsumexp(x.astype(float)), rel=1e-14)
    assert given_kind.dtype == total.dtype == np.float64


def test_softmax_of_lists_of_nothing_and_of_complex_numbers():
    plain = softmax.__wrapped__
    np.testing.assert_array_equal(plain([0, 0]), [0.5, 0.5])
    assert plain(np.zeros((0, 3))).shape == (0, 3)
    for function in (plain, logsumexp.__wrapped__):
        with pytest.raises(ValueError, match=r"no entries along axis -1: received shape \(2, 0\)"):
            function(np.zeros((2, 0)))
        with pytest.raises(ValueError, match="expected real numbers, received complex128"):
            function(np.array([1j, 0]))
    assert np.isnan(softmax(np.array([np.nan, 0.0]))).all()
    assert np.isnan(softmax(np.array([-np.inf, -np.inf]))).all()
    assert softmax(np.array([-np.inf, 0.0])).tolist() == [0, 1]


@pytest.mark.parametrize("scale", [1e-12, 1e-200, 1.0, 1e12])
def test_gaussian_finds_an_asymmetry_at_every_scale(scale, rng):
    with pytest.raises(ValueError, match=r"symmetric.*entries \(0, 1\) and \(1, 0\)"):
        Gaussian(np.zeros(2), scale * np.array([[1.0, 0.9], [0.0, 1.0]]))
    rounded = scale * np.array([[1.0, 0.3], [0.3 * (1 + 1e-15), 1.0]])
    draws = Gaussian(np.zeros(2), rounded).sample(rng, 50_000) / np.sqrt(scale)
    np.testing.assert_allclose(np.cov(draws.T), [[1, 0.3], [0.3, 1]], atol=0.03)


def test_gaussian_finds_what_does_not_fit():
    plain = Gaussian.__init__.__wrapped__
    blank = object.__new__(Gaussian)
    for mu, cov, message in (
        (np.zeros(3), np.eye(2), r"cov of shape \(3, 3\), received \(2, 2\)"),
        (np.zeros((2, 1)), np.eye(2), r"mu of shape \(d,\) .* received \(2, 1\)"),
        (np.zeros(0), np.zeros((0, 0)), r"at least one coordinate"),
        (np.zeros(2), np.array([[1, np.nan], [np.nan, 1]]), "finite"),
        (np.array([np.inf, 0]), np.eye(2), "finite"),
        (np.zeros(2), np.ones((2, 2)), "positive definite"),
    ):
        with pytest.raises(ValueError, match=message):
            plain(blank, mu, cov)
    two = Gaussian(np.zeros(2), np.eye(2))
    with pytest.raises(ValueError, match=r"points of 2 coordinates, received shape \(4, 3\)"):
        two.logpdf.__wrapped__(two, np.zeros((4, 3)))


def test_gaussian_takes_lists_and_whole_numbers():
    plain = object.__new__(Gaussian)
    Gaussian.__init__.__wrapped__(plain, [0, 0], [[4, 2], [2, 5]])
    assert plain.cholesky.tolist() == [[2, 0], [1, 2]]
    assert Gaussian.logpdf.__wrapped__(plain, [0, 0]) == pytest.approx(-np.log(8 * np.pi))


def test_categorical_names_outcomes_and_shapes_that_do_not_exist():
    plain = Categorical.__init__.__wrapped__
    blank = object.__new__(Categorical)
    for options, message in (
        ({"logits": np.zeros((2, 3))}, r"one row of logits, received shape \(2, 3\)"),
        ({"probs": np.full((2, 2), 0.25)}, r"one row of probs, received shape \(2, 2\)"),
        ({"logits": np.zeros(0)}, "no entries"),
        ({"probs": np.zeros(0)}, "no entries"),
        ({"logits": np.array([0.0, np.nan])}, "logits must be below inf and not all -inf"),
        ({"logits": np.array([-np.inf, -np.inf])}, "logits must be below inf and not all -inf"),
        ({"probs": np.array([0.5, np.nan])}, "probs must be at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            plain(blank, **options)
    die = Categorical(probs=np.full(6, 1 / 6))
    for outcome in (-1, 6):
        with pytest.raises(ValueError, match=f"outcomes 0 to 5, received {outcome}"):
            die.log_prob(np.array([0, outcome]))
    with pytest.raises(ValueError, match=r"whole numbers, received float64"):
        die.log_prob.__wrapped__(die, np.array([0.5]))


def test_categorical_of_small_integers_and_lists():
    one = object.__new__(Categorical)
    Categorical.__init__.__wrapped__(one, logits=np.array([1, 2], dtype=np.uint8))
    np.testing.assert_allclose(one.probs, scipy.special.softmax([1.0, 2.0]))
    Categorical.__init__.__wrapped__(one, probs=[0.25, 0.75])
    assert one.log_prob.__wrapped__(one, [1, 1]).tolist() == [np.log(0.75)] * 2


def test_error_functions_take_plain_numbers_and_lists():
    for ours, peer in ((erf, scipy.special.erf), (erfc, scipy.special.erfc)):
        plain = ours.__wrapped__
        assert plain(1.0) == pytest.approx(peer(1.0), rel=1e-14)
        assert plain(2) == pytest.approx(peer(2), rel=1e-13)
        np.testing.assert_allclose(
            plain([0, 1, -3]), peer([0.0, 1.0, -3.0]), rtol=1e-13, atol=1e-15
        )
        np.testing.assert_allclose(plain(np.array([200], np.uint8)), peer(200.0))
    assert normal_cdf.__wrapped__(1) == pytest.approx(scipy.special.ndtr(1))
    np.testing.assert_allclose(normal_cdf.__wrapped__([0, 1]), scipy.special.ndtr([0, 1]))
    np.testing.assert_allclose(
        normal_cdf.__wrapped__(np.array([1, 2], np.uint8)), scipy.special.ndtr([1, 2])
    )


@pytest.mark.parametrize(
    ("prior", "likelihood", "message"),
    [
        ([0.5, 0.5], [2, -1], "likelihood must be at least 0, and finite, got -1"),
        ([0.5, 0.5], [2, np.nan], "likelihood must be at least 0, and finite, got nan"),
        ([0.5, 0.5], [2, np.inf], "likelihood must be at least 0, and finite, got inf"),
        ([0.5, 0.5], [1, 2, 3], r"one likelihood for each of 2 hypotheses, received shape \(3,\)"),
        ([0.5, 0.5], 0.3, r"one likelihood for each of 2 hypotheses, received shape \(\)"),
        ([], [], "no entries"),
        ([0.5, 0.6], [1, 1], r"sum 1\.1"),
    ],
)
def test_posteriors_of_impossible_likelihoods_are_refused(prior, likelihood, message):
    with pytest.raises(ValueError, match=message):
        bayes_posterior.__wrapped__(prior, likelihood)


def test_posteriors_of_likelihoods_at_the_ends_of_the_range():
    """Densities of many measurements are tiny or huge; only their ratio matters."""
    for size in (1e-310, 1e-200, 1e200, 1e308):
        posterior = bayes_posterior(np.array([0.25, 0.75]), size * np.array([0.3, 0.1]))
        np.testing.assert_allclose(posterior, [0.5, 0.5], rtol=1e-6)


def test_maximum_likelihood_of_pixels_and_of_nothing(rng):
    pixels = rng.integers(0, 256, size=(11, 3), dtype=np.uint8)
    mu, cov = mle_gaussian.__wrapped__(pixels)
    np.testing.assert_allclose(cov, np.cov(pixels.T.astype(float), bias=True), rtol=1e-12)
    np.testing.assert_allclose(mu, pixels.mean(axis=0))
    with pytest.raises(ValueError, match=r"one row or more of shape \(n, d\), received \(0, 3\)"):
        mle_gaussian(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="finite"):
        mle_gaussian(np.array([[np.nan]]))
    counts = np.array([200, 100], dtype=np.uint8)
    np.testing.assert_allclose(mle_categorical(counts), [2 / 3, 1 / 3])
    np.testing.assert_allclose(mle_categorical(counts, alpha=100), [3 / 5, 2 / 5])
    np.testing.assert_allclose(mle_categorical.__wrapped__([3, 1]), [0.75, 0.25])
    for counts in ([1.0, np.nan], [np.inf, 1.0], []):
        with pytest.raises(ValueError, match="mle_categorical"):
            mle_categorical(np.array(counts))
    with pytest.raises(ValueError, match="alpha"):
        mle_categorical(np.array([1.0, 1.0]), alpha=np.nan)


def test_gumbel_max_needs_a_possible_outcome(rng):
    plain = gumbel_max_sample.__wrapped__
    assert plain([0, 0], rng) in (0, 1)
    wide = np.broadcast_to(np.array([0, 200], dtype=np.uint8), (100, 2))
    assert np.all(gumbel_max_sample(wide, rng) == 1)
    for logits in ([np.nan, 0], [-np.inf, -np.inf], []):
        with pytest.raises(ValueError, match="gumbel_max_sample"):
            plain(np.array(logits), rng)


def test_estimates_need_samples():
    with pytest.raises(ValueError, match="at least 2 samples, received 1"):
        score_function_grad(lambda x: x, np.square, np.ones(1))
    with pytest.raises(ValueError, match=r"one number for each of 3 samples, received shape \(\)"):
        score_function_grad(lambda x: x, np.sum, np.ones(3))
    with pytest.raises(ValueError, match="at least one sample"):
        importance_weights(lambda x: x, lambda x: x, np.zeros(0))
    with pytest.raises(ValueError, match="nan at sample 1"):
        importance_weights(lambda x: x, lambda x: 0 * x, np.array([1.0, np.nan]))


def test_softmax_jacobian_of_float32_and_lists():
    plain = softmax_jacobian.__wrapped__
    assert plain([0.25, 0.75]).tolist() == [[0.1875, -0.1875], [-0.1875, 0.1875]]
    assert softmax_jacobian(np.array([0.5, 0.5], dtype=np.float32)).dtype == np.float32


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


def test_what_the_page_says_of_pytorch(rng):
    pixels = torch.tensor([1, 2, 3], dtype=torch.uint8)
    with pytest.raises(TypeError, match="dim"):
        torch.softmax(pixels.float())
    with pytest.raises(NotImplementedError, match="Byte"):
        torch.softmax(pixels, dim=-1)
    converted = torch.softmax(pixels, dim=-1, dtype=torch.float32)
    np.testing.assert_allclose(converted, softmax(pixels.numpy()), rtol=1e-6)

    x = 1000 * rng.standard_normal((5, 7)) + np.array([[0], [1e4], [-1e4], [3], [0]])
    rows = torch.from_numpy(x)
    np.testing.assert_allclose(torch.softmax(rows, dim=-1), softmax(x), rtol=1e-10, atol=1e-300)
    sums = logsumexp(x, axis=-1)
    np.testing.assert_allclose(torch.logsumexp(rows, dim=-1), sums, rtol=1e-12)
    logs = x - sums[:, None]
    np.testing.assert_allclose(torch.log_softmax(rows, dim=-1), logs, rtol=1e-9, atol=1e-9)

    weights = torch.tensor([2.0, 1.0, 1.0])
    np.testing.assert_allclose(torch.distributions.Categorical(weights).probs, [0.5, 0.25, 0.25])
    mu, L = np.array([1.0, -2.0]), np.array([[2.0, 0.0], [1.0, 2.0]])
    normal = torch.distributions.MultivariateNormal(
        torch.from_numpy(mu), scale_tril=torch.from_numpy(L)
    )
    points = rng.standard_normal((11, 2))
    expected = Gaussian(mu, L @ L.T).logpdf(points)
    np.testing.assert_allclose(normal.log_prob(torch.from_numpy(points)), expected, rtol=1e-10)
