"""Descent methods against closed-form iterates, SciPy and numpy.linalg."""

import numpy as np
import pytest
import scipy.optimize

from chainrule.math_foundations.calculus import hessian as numerical_hessian
from chainrule.math_foundations.calculus import numerical_grad
from chainrule.math_foundations.optimization import (
    gradient_descent,
    heavy_ball,
    lanczos_density,
    line_search,
    nesterov,
    newton,
    optimal_rates,
    prob_positive_definite,
    quadratic,
    rosenbrock,
    saddle,
    sgd,
    sgd_noise_floor,
    steps_to,
    top_hessian_eigenvalue,
)

PROBLEMS = {
    "quadratic": quadratic(7.0, 3),
    "rosenbrock": rosenbrock(1.3, 20.0),
    "saddle": saddle(),
    "monkey": saddle(monkey=True),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_gradients_and_hessians_equal_differences(rng, name):
    problem = PROBLEMS[name]
    d = len(problem.stationary)
    for _ in range(5):
        x = rng.normal(size=d)
        np.testing.assert_allclose(problem.grad(x), numerical_grad(problem.f, x), atol=1e-6)
        np.testing.assert_allclose(
            problem.hessian(x), numerical_hessian(problem.f, x), rtol=1e-4, atol=1e-4
        )
    np.testing.assert_allclose(problem.grad(problem.stationary), 0, atol=1e-12)


def test_gradient_descent_equals_its_closed_form():
    problem = quadratic(50.0, 5)
    curvature = np.geomspace(1, 50, 5)
    path = gradient_descent(problem.f, problem.grad, np.ones(5), 0.03, 20)
    k = np.arange(21)[:, None]
    np.testing.assert_allclose(path.points, (1 - 0.03 * curvature) ** k, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(path.values, 0.5 * (path.points**2) @ curvature, rtol=1e-12)
    assert path.points.shape == (21, 5)


@pytest.mark.parametrize("method", [heavy_ball, nesterov])
def test_momentum_equals_powers_of_a_two_by_two_matrix(method):
    problem, lr, beta = quadratic(10.0, 3), 0.05, 0.7
    path = method(problem.f, problem.grad, np.ones(3), lr, beta, 15)
    for i, h in enumerate(np.geomspace(1, 10, 3)):
        if method is heavy_ball:
            T = np.array([[1 + beta - lr * h, -beta], [1, 0]])
        else:
            T = np.array([[(1 + beta) * (1 - lr * h), -beta * (1 - lr * h)], [1, 0]])
        state = np.array([1.0, 1.0])
        for k in range(1, 16):
            state = T @ state
            assert path.points[k, i] == pytest.approx(state[0], rel=1e-10)


def test_a_step_of_two_over_the_curvature_bounces_for_ever():
    problem = quadratic(100.0, 1)

    def last(lr):
        return abs(gradient_descent(problem.f, problem.grad, np.ones(1), lr, 1000).points[-1, 0])

    assert last(0.0199) < 1e-4
    assert last(0.0200) == pytest.approx(1)
    assert last(0.0201) > 1e4


def test_best_settings_at_condition_one_hundred():
    rates = optimal_rates(1.0, 100.0)
    assert rates.heavy_ball_momentum == pytest.approx((9 / 11) ** 2, rel=1e-12)
    assert round(rates.heavy_ball_momentum, 3) == 0.669
    assert rates.heavy_ball_lr == pytest.approx(4 / 121, rel=1e-12)
    assert rates.gd_lr == pytest.approx(2 / 101)
    assert rates.gd_rate == pytest.approx(99 / 101)


def test_iterations_to_a_millionth():
    problem, rates = quadratic(100.0), optimal_rates(1.0, 100.0)
    start = np.ones(2)

    def count(method, *settings):
        return steps_to(method(problem.f, problem.grad, start, *settings, 2000), 1e-6)

    best = count(gradient_descent, rates.gd_lr)
    slow = count(gradient_descent, 1 / 100)
    ball = count(heavy_ball, rates.heavy_ball_lr, rates.heavy_ball_momentum)
    assert best == np.ceil(np.log(1e-6 / np.sqrt(2)) / np.log(rates.gd_rate)) == 709
    assert slow == np.ceil(np.log(1e-6) / np.log(0.99)) == 1375
    assert ball == 95
    ahead = count(nesterov, rates.nesterov_lr, rates.nesterov_momentum)
    assert ball < ahead < 200
    assert steps_to(gradient_descent(problem.f, problem.grad, start, 1e-5, 10), 1e-6) == np.inf


@pytest.mark.parametrize("seed", range(4))
def test_no_setting_beats_the_best_rates(seed):
    rng = np.random.default_rng(seed)
    mu, L = 1.0, float(rng.uniform(5, 300))
    rates = optimal_rates(mu, L)

    def radius(lr, beta):
        return max(
            abs(np.linalg.eigvals([[1 + beta - lr * h, -beta], [1, 0]])).max() for h in (mu, L)
        )

    best = radius(rates.heavy_ball_lr, rates.heavy_ball_momentum)
    assert best == pytest.approx(rates.heavy_ball_rate, abs=1e-6)
    for _ in range(200):
        lr = rates.heavy_ball_lr * rng.uniform(0.7, 1.3)
        beta = min(0.999, rates.heavy_ball_momentum * rng.uniform(0.7, 1.3))
        assert radius(lr, beta) >= best - 1e-6
    for lr in rates.gd_lr * rng.uniform(0.5, 1.5, size=50):
        assert max(abs(1 - lr * mu), abs(1 - lr * L)) >= rates.gd_rate - 1e-12


def test_newton_solves_a_quadratic_in_one_step_and_finds_saddles(rng):
    problem = quadratic(1e4, 5)
    path = newton(problem.f, problem.grad, problem.hessian, rng.normal(size=5), 1)
    np.testing.assert_allclose(path.points[-1], 0, atol=1e-12)
    s = saddle()
    path = newton(s.f, s.grad, s.hessian, np.array([0.5, 0.5]), 1)
    np.testing.assert_allclose(path.points[-1], 0, atol=1e-12)
    damped = newton(problem.f, problem.grad, problem.hessian, np.ones(5), 1, damping=1.0)
    np.testing.assert_allclose(damped.points[-1], 1 / (np.geomspace(1, 1e4, 5) + 1))


def test_newton_and_scipy_find_the_same_minimum():
    problem, start = rosenbrock(), np.array([-1.2, 1.0])
    path = newton(problem.f, problem.grad, problem.hessian, start, 10)
    peer = scipy.optimize.minimize(
        problem.f, start, jac=problem.grad, hess=problem.hessian, method="trust-exact", tol=1e-10
    )
    np.testing.assert_allclose(path.points[-1], peer.x, atol=1e-7)
    np.testing.assert_allclose(path.points[-1], problem.stationary, atol=1e-9)


def test_line_search_never_climbs():
    problem = rosenbrock()
    path = line_search(problem.f, problem.grad, np.array([-1.2, 1.0]), 500)
    assert np.all(np.diff(path.values) <= 0)
    assert path.values[-1] < 0.1
    fixed = line_search(problem.f, problem.grad, problem.stationary, 3)
    np.testing.assert_array_equal(fixed.points[-1], problem.stationary)


def test_escape_from_a_saddle_takes_the_logarithm_of_the_start():
    s = saddle()
    offsets = 10.0 ** -np.arange(2, 11)
    times = []
    for eps in offsets:
        path = gradient_descent(s.f, s.grad, np.array([1.0, eps]), 0.1, 400)
        times.append(np.flatnonzero(np.abs(path.points[:, 1]) > 1)[0])
    slope = np.polyfit(np.log(1 / offsets), times, 1)[0]
    assert slope == pytest.approx(1 / np.log(1.1), rel=0.01)


@pytest.mark.parametrize("lr", [0.01, 0.1, 0.5])
def test_noise_floor_is_what_sgd_settles_at(rng, lr):
    problem = quadratic(2.0, 1)
    path = sgd(problem.f, problem.grad, np.zeros(1), lr, 0.3, 60_000, rng)
    assert np.mean(path.values[1000:]) == pytest.approx(sgd_noise_floor(lr, 0.3, 2.0), rel=0.1)


def test_noise_floor_is_linear_in_a_small_rate():
    floors = [sgd_noise_floor(lr, 1.0, 1.0) for lr in (1e-4, 1e-3)]
    assert np.log10(floors[1] / floors[0]) == pytest.approx(1, abs=1e-3)
    with pytest.raises(ValueError, match=r"between 0 and 2/L = 0\.02, got 0\.02"):
        sgd_noise_floor(0.02, 1.0, 100.0)


def test_random_hessians_are_rarely_positive_definite(rng):
    shares = [prob_positive_definite(n, 40_000, rng) for n in (1, 2, 3, 4)]
    exact = [0.5, (2 - np.sqrt(2)) / 4]
    for share, p in zip(shares, exact, strict=False):
        assert abs(share - p) < 4 * np.sqrt(p * (1 - p) / 40_000)
    assert shares[2] == pytest.approx(0.026, abs=0.004)
    assert shares[3] == pytest.approx(0.003, abs=0.0015)


def test_top_eigenvalue_equals_numpy(rng):
    A = rng.normal(size=(11, 11))
    H = A @ A.T
    value, v = top_hessian_eigenvalue(lambda x: H @ x, rng.normal(size=11), 500, rng)
    exact = np.linalg.eigvalsh(H)[-1]
    assert value == pytest.approx(exact, rel=1e-6)
    np.testing.assert_allclose(H @ v, exact * v, atol=1e-3 * exact)
    problem = rosenbrock()
    x = np.array([0.3, -0.2])
    value, _ = top_hessian_eigenvalue(problem.grad, x, 300, rng)
    spectrum = np.linalg.eigvalsh(problem.hessian(x))
    assert value == pytest.approx(spectrum[np.argmax(np.abs(spectrum))], rel=1e-5)
    assert top_hessian_eigenvalue(lambda x: np.ones(3), np.ones(3), 5, rng)[0] == 0.0


def test_lanczos_density_is_a_quadrature_of_the_spectrum(rng):
    A = rng.normal(size=(40, 40))
    H = A + A.T
    exact = np.linalg.eigvalsh(H)
    nodes, weights = lanczos_density(lambda v: H @ v, 40, 12, rng, probes=200)
    assert weights.sum() == pytest.approx(1)
    assert np.all(weights >= 0)
    assert np.all(np.diff(nodes) >= 0)
    for power in (1, 2, 3, 4):
        scale = np.mean(np.abs(exact) ** power)
        assert weights @ nodes**power == pytest.approx(np.mean(exact**power), abs=0.1 * scale)
    assert nodes[-1] == pytest.approx(exact[-1], rel=0.02)


def test_lanczos_density_is_exact_for_its_probe(rng):
    H = np.diag([1.0, 1.0, 2.0, 5.0])
    nodes, weights = lanczos_density(lambda v: H @ v, 4, 10, rng)
    np.testing.assert_allclose(nodes, [1, 2, 5], atol=1e-10)
    full, _ = lanczos_density(lambda v: np.diag([1.0, 2.0, 3.0]) @ v, 3, 3, rng)
    np.testing.assert_allclose(full, [1, 2, 3], atol=1e-10)
    assert weights.sum() == pytest.approx(1)


# ------------------------------------------------------------------ where runs go wrong


def test_line_search_does_not_step_where_f_is_no_number():
    """x − log x is NaN left of 0: no comparison with NaN is true, so `f(new) > bound` let it in."""

    def f(x):
        return float(x[0] - np.log(x[0]))

    path = line_search(f, lambda x: 1 - 1 / x, np.array([3.0]), 60, lr=10.0)
    assert np.all(path.points > 0)
    assert np.all(np.diff(path.values) <= 0)
    assert path.points[-1, 0] == pytest.approx(1, abs=1e-6)
    walled = line_search(
        lambda x: np.inf if x[0] < 0.5 else float(x[0]), np.ones_like, np.array([3.0]), 5, lr=4.0
    )
    assert np.all(walled.points >= 0.5)


def test_line_search_stays_where_no_step_is_small_enough():
    path = line_search(lambda x: float(x[0]), lambda x: -np.ones(1), np.array([1.0]), 3)
    np.testing.assert_array_equal(path.points, 1.0)


@pytest.mark.parametrize("method", ["gd", "ball", "nesterov", "sgd", "newton"])
def test_a_run_that_leaves_the_floats_says_so_once(method, rng):
    problem, start = quadratic(100.0, 1), np.ones(1)
    calls = {
        "gd": lambda: gradient_descent(problem.f, problem.grad, start, 1.0, 400),
        "ball": lambda: heavy_ball(problem.f, problem.grad, start, 1.0, 0.9, 400),
        "nesterov": lambda: nesterov(problem.f, problem.grad, start, 1.0, 0.9, 400),
        "sgd": lambda: sgd(problem.f, problem.grad, start, 1.0, 0.1, 400, rng),
        "newton": lambda: newton(
            problem.f, lambda x: -1e200 * x, lambda x: np.eye(1), np.array([1e10]), 400
        ),
    }
    with pytest.warns(RuntimeWarning, match="left the range of float64 in step") as record:
        path = calls[method]()
    assert len(record) == 1
    assert path.points.shape == (401, 1)
    finite = np.isfinite(path.points[:, 0])
    assert finite[0]
    assert not finite[-1]
    assert np.all(np.diff(finite.astype(int)) <= 0)
    assert np.isnan(path.points[~finite]).all()
    assert steps_to(path, 1e-9) == np.inf


def test_values_beyond_the_floats_are_infinite_without_a_warning():
    problem = quadratic(100.0, 1)
    with pytest.warns(RuntimeWarning, match="left the range"):
        path = gradient_descent(problem.f, problem.grad, np.ones(1), 1.0, 400)
    assert np.any(np.isinf(path.values))


def test_steps_to_a_minimum_that_is_not_at_zero():
    problem = rosenbrock()
    path = newton(problem.f, problem.grad, problem.hessian, np.array([-1.2, 1.0]), 6)
    assert steps_to(path, 1e-9) == np.inf
    assert steps_to(path, 1e-9, problem.stationary) == 6
    still = gradient_descent(problem.f, problem.grad, problem.stationary, 1e-4, 2)
    assert steps_to(still, 0.0, problem.stationary) == 0
    with pytest.raises(ValueError, match="tolerance"):
        steps_to(path, np.nan)
    with pytest.raises(ValueError, match=r"target of shape \(2,\), received \(3,\)"):
        steps_to(path, 1e-9, np.zeros(3))


@pytest.mark.parametrize("spectrum", [(3, -3, 1), (-3, 3, 1), (-5, 5, 5), (-4, 2, 1), (2, 2, 1)])
def test_top_eigenvalue_where_two_share_the_largest_size(spectrum, rng):
    Q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    H = Q @ np.diag(spectrum) @ Q.T
    value, v = top_hessian_eigenvalue(lambda x: H @ x, np.zeros(3), 50, rng)
    expected = max(spectrum, key=lambda s: (abs(s), s))  # of 3 and −3 the sharpness
    assert value == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(H @ v, value * v, atol=1e-4)
    assert np.linalg.norm(v) == pytest.approx(1)


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_curvatures_of_any_size(size, rng):
    H = np.diag([1.0, 2.0, 5.0])
    value, _ = top_hessian_eigenvalue(lambda x: size * (H @ x), np.zeros(3), 60, rng)
    assert value / size == pytest.approx(5, rel=1e-6)
    nodes, weights = lanczos_density(lambda v: size * (H @ v), 3, 3, rng)
    np.testing.assert_allclose(nodes / size, [1, 2, 5], rtol=1e-10)
    assert weights.sum() == pytest.approx(1)


def test_problems_take_lists_and_pixels():
    for problem in (quadratic(100.0), rosenbrock(), saddle(), saddle(monkey=True)):
        for point in ([20, 200], np.array([20, 200], dtype=np.uint8)):
            expected = problem.f(np.array([20.0, 200.0]))
            assert problem.f(point) == expected
            exact = problem.grad(np.array([20.0, 200.0]))
            np.testing.assert_array_equal(problem.grad(point), exact)
            exact = problem.hessian(np.array([20.0, 200.0]))
            np.testing.assert_array_equal(problem.hessian(point), exact)


def test_what_cannot_be_walked_is_named(rng):
    q = quadratic(10.0)
    plain = gradient_descent.__wrapped__
    for call, message in (
        (lambda: plain(q.f, q.grad, np.zeros((2, 2)), 0.1, 1), r"x0 of shape \(d,\)"),
        (lambda: plain(q.f, q.grad, np.zeros(0), 0.1, 1), r"x0 of shape \(d,\)"),
        (lambda: plain(q.f, q.grad, np.array([1, np.nan]), 0.1, 1), "x0 must be finite"),
        (lambda: plain(q.f, q.grad, np.ones(2), np.nan, 1), "lr must be finite"),
        (lambda: heavy_ball(q.f, q.grad, np.ones(2), 0.1, np.inf, 1), "momentum must be finite"),
        (
            lambda: plain(q.f, lambda x: np.ones((2, 1)), np.ones(2), 0.1, 1),
            r"gradient of shape \(2,\), .* \(2, 2\)",
        ),
        (lambda: line_search(q.f, q.grad, np.ones(2), 1, lr=0.0), "lr must be above 0"),
        (lambda: line_search(lambda x: np.nan, q.grad, np.ones(2), 1), "f is nan at"),
        (lambda: newton(q.f, q.grad, lambda x: np.zeros((2, 2)), np.ones(2), 1), "singular"),
        (lambda: quadratic(np.nan), "kappa >= 1"),
        (lambda: quadratic(np.inf), "kappa >= 1"),
        (lambda: optimal_rates(1.0, np.inf), "0 < mu <= L"),
        (lambda: sgd_noise_floor(0.1, 1.0, np.nan), "L must be above 0"),
        (lambda: sgd_noise_floor(0.1, 1.0, 0.0), "L must be above 0"),
        (lambda: lanczos_density(lambda v: v * np.nan, 3, 2, rng), "not finite"),
        (lambda: lanczos_density(lambda v: v[:2], 3, 2, rng), r"shape \(3,\), received \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


# ------------------------------------------------------------------ the page's measured lessons


def test_the_quotient_of_gradients_slides_to_the_flat_curvature():
    """(1 − q)/η after 10, 100 and 1,000 steps: L only above 2/(μ + L) = 0.0198."""
    valley, start = quadratic(100.0), np.ones(2)
    expected = {0.0005: (100, 30.7, 1.0), 0.019: (100, 1.0, 1.0), 0.0205: (100, 100, 100)}
    for lr, row in expected.items():
        for steps, value in zip((10, 100, 1000), row, strict=True):
            points = gradient_descent(valley.f, valley.grad, start, lr, steps).points
            a, b = valley.grad(points[-2]), valley.grad(points[-1])
            assert (1 - a @ b / (a @ a)) / lr == pytest.approx(value, rel=0.05)


def test_random_hessians_of_three_dimensions_in_closed_form():
    """P₃ = (π − 2√2)/(4π): against the eigenvalues' density, |Δ| e^(−Σλ²/2), and against draws."""
    exact = (np.pi - 2 * np.sqrt(2)) / (4 * np.pi)
    grid = np.arange(-7, 7, 0.07) + 0.035
    weight = np.exp(-(grid**2) / 2)
    a, b, c = np.meshgrid(grid, grid, grid, indexing="ij", sparse=True)
    density = np.abs((a - b) * (b - c) * (a - c)) * np.einsum("i,j,k", weight, weight, weight)
    positive = grid > 0
    share = density[np.ix_(positive, positive, positive)].sum() / density.sum()
    assert share == pytest.approx(exact, rel=5e-3)
    rng = np.random.default_rng(7)
    share = prob_positive_definite(3, 200_000, rng)
    assert abs(share - exact) < 4 * np.sqrt(exact / 200_000)


def test_the_balls_ninety_five_steps_can_be_beaten_and_a_first_arrival_flatters():
    valley = quadratic(100.0)
    for lr, beta, arrives, stays in ((0.03275, 0.6775, 76, 76), (0.0255, 0.715, 65, 91)):
        path = heavy_ball(valley.f, valley.grad, np.ones(2), lr, beta, 200)
        assert steps_to(path, 1e-6) == arrives
        assert np.flatnonzero(np.linalg.norm(path.points, axis=1) > 1e-6)[-1] + 1 == stays
        # All roots are complex, so the factor is the root of the momentum.
        for curvature in (1.0, 100.0):
            assert abs(1 + beta - lr * curvature) < 2 * np.sqrt(beta)


def test_nesterovs_factors_between_the_ends():
    """κ = 100: the size of the roots at curvatures 1, 25, 50, 99 and 100."""
    lr, beta = 1 / 100, 9 / 11
    for curvature, size in ((1, 0.9), (25, 0.783), (50, 0.640), (99, 0.090), (100, 0.0)):
        first, second = (1 + beta) * (1 - lr * curvature), -beta * (1 - lr * curvature)
        roots = np.abs(np.linalg.eigvals([[first, second], [1, 0]]))
        assert roots.max() == pytest.approx(size, abs=1e-3)


def test_every_batch_size_at_its_own_rate_ends_at_the_same_error():
    """One pass over the page's data; the mean of five orders, the best of nine rates."""
    rng = np.random.default_rng(0)
    X, w_true = rng.normal(size=(10_000, 5)), np.arange(1.0, 6.0)
    y = X @ w_true + rng.normal(size=10_000)

    def errors(B, rate):
        found = []
        for seed in range(5):
            w = np.zeros(5)
            for rows in np.random.default_rng(seed).permutation(10_000).reshape(-1, B):
                w = w - rate * X[rows].T @ (X[rows] @ w - y[rows]) / B
            found.append(np.linalg.norm(w - w_true))
        return np.array(found)

    single, middle = errors(1, 0.001), errors(100, 0.1)
    spread = np.hypot(single.std(), middle.std())
    assert abs(single.mean() - middle.mean()) < spread
    assert errors(10_000, 1.0).mean() > 5 * middle.mean()
    assert errors(1, 0.1).mean() > 10 * single.mean()  # what one rate for all would say


def test_bad_arguments_are_named(rng):
    with pytest.raises(ValueError, match="kappa >= 1"):
        quadratic(0.5)
    with pytest.raises(ValueError, match="0 < mu <= L"):
        optimal_rates(2.0, 1.0)
    with pytest.raises(ValueError, match="at least 1"):
        prob_positive_definite(0, 5, rng)
    with pytest.raises(ValueError, match="at least 1"):
        lanczos_density(lambda v: v, 0, 5, rng)
    with pytest.raises(ValueError, match="iters"):
        top_hessian_eigenvalue(lambda x: x, np.ones(2), 0, rng)
