"""Exercises of math-foundations/optimization.md."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from chainrule.course.exercises import exercise, expect, expect_close
from chainrule.math_foundations.calculus import hvp
from chainrule.math_foundations.optimization import heavy_ball, quadratic, rosenbrock, sgd, steps_to


@exercise(
    "The largest stable rate",
    difficulty=2,
    minutes=15,
    section="gradient-descent-variants",
    because="optimal_rates gives the best rates, and takes curvatures instead of a matrix",
    idea=(
        "The gradient sees only the symmetric part of A. Along an eigenvector each step "
        "multiplies the error by one number; at which rate does the first of them leave the "
        "interval from −1 to 1?"
    ),
)
def largest_stable_rate(A):
    """Return the border of the learning rate for f(x) = ½·xᵀAx.

    Below it gradient descent converges from everywhere, above it almost nowhere. A has shape
    (n, n) and need not be symmetric; xᵀAx is positive for every x except 0.
    """
    return 2 / np.linalg.eigvalsh((A + A.T) / 2)[-1]


@largest_stable_rate.check
def the_valley_of_the_page(answer, rng):
    expect_close(answer(np.diag([1.0, 100.0])), 0.02, what="the border for curvatures 1 and 100")


@largest_stable_rate.check
def between_the_axes(answer, rng):
    expect_close(
        answer(np.array([[2.0, 1.0], [1.0, 2.0]])), 2 / 3, what="the border for [[2, 1], [1, 2]]"
    )


@largest_stable_rate.check
def not_symmetric(answer, rng):
    expect_close(
        answer(np.array([[2.0, 2.0], [0.0, 2.0]])), 2 / 3, what="the border for [[2, 2], [0, 2]]"
    )


@largest_stable_rate.check
def by_running(answer, rng):
    M, K = rng.normal(size=(5, 5)), rng.normal(size=(5, 5))
    A = M @ M.T + np.eye(5) + K - K.T
    border = float(answer(A))
    for factor in (0.98, 1.02):
        x = rng.normal(size=5)
        for _ in range(3000):
            x = x - factor * border * (A + A.T) @ x / 2
            if np.linalg.norm(x) > 1e6:
                break
        grew = np.linalg.norm(x) > 1
        expect(
            grew == (factor > 1),
            f"at {factor} times your border gradient descent {'diverges' if grew else 'converges'}",
        )


@largest_stable_rate.mistake(
    "At your rate the error in the steepest direction is gone after one step. How much further may "
    "it jump before it lands higher than it started?"
)
def one_over_the_curvature(A):
    return 1 / np.linalg.eigvalsh((A + A.T) / 2)[-1]


@largest_stable_rate.mistake(
    "Your border is that of the flattest direction. Which direction is the first to diverge?"
)
def by_the_flattest(A):
    return 2 / np.linalg.eigvalsh((A + A.T) / 2)[0]


@largest_stable_rate.mistake(
    "Right if A is symmetric. If not, what is the gradient of ½·xᵀAx, and what is its Jacobian?",
    values=(np.linalg.eigvals, np.linalg.eigvalsh),
)
def of_the_matrix_as_given(A, values):
    return 2 / values(A).real.max()


@largest_stable_rate.mistake(
    "Singular values of A are not the curvatures: they belong to AᵀA. Which symmetric matrix gives "
    "the same xᵀAx as A?"
)
def by_singular_values(A):
    return 2 / np.linalg.norm(A, 2)


@largest_stable_rate.mistake(
    "At your rate the steepest and the flattest direction shrink alike: it is the fastest rate. "
    "How much larger may it be before something grows?"
)
def the_fastest_rate(A):
    curvatures = np.linalg.eigvalsh((A + A.T) / 2)
    return 2 / (curvatures[0] + curvatures[-1])


@largest_stable_rate.mistake(
    "The diagonal holds the curvatures along the axes. The steepest direction may lie between them."
)
def from_the_diagonal(A):
    return 2 / np.diag(A).max()


@exercise(
    "Steps, predicted",
    difficulty=2,
    minutes=15,
    section="how-fast",
    because="steps_to counts the steps of a path that was run, and predicts nothing",
    idea=(
        "Along a curvature λ a step multiplies the distance by 1 − η·λ. The slowest of all "
        "directions decides, and it is one of the two ends."
    ),
)
def steps_needed(mu, L, lr, tolerance):
    """Return after how many steps of gradient descent the distance to the minimum is sure to have
    shrunk to tolerance times what it was, for curvatures between mu and L; np.inf if that is
    never sure. mu is below L, and tolerance between 0 and 1.
    """
    factor = max(abs(1 - lr * mu), abs(1 - lr * L))
    if factor >= 1:
        return np.inf
    return np.ceil(np.log(tolerance) / np.log(factor))


@steps_needed.check
def a_hundredth(answer, rng):
    expect_close(answer(1.0, 100.0, 0.01, 1e-6), 1375, what="the steps at 1/L")


@steps_needed.check
def steep_side_decides(answer, rng):
    expect_close(answer(1.0, 100.0, 0.0199, 1e-3), 688, what="the steps at learning rate 0.0199")


@steps_needed.check
def beyond_the_border(answer, rng):
    expect(answer(1.0, 100.0, 0.0201, 1e-3) == np.inf, "at learning rate 0.0201 nothing converges")


@steps_needed.check
def within_two_percent_of_a_run(answer, rng):
    for kappa, lr in ((30.0, 0.06), (200.0, 0.005), (80.0, 0.0248)):
        problem = quadratic(kappa, 5)
        start = np.zeros(5)
        start[[0, -1]] = 1
        path = heavy_ball(problem.f, problem.grad, start, lr, 0.0, 5000)
        counted = steps_to(path, 1e-9 * 2**0.5)
        expect_close(
            answer(1.0, kappa, lr, 1e-9),
            counted,
            rtol=0.02,
            what=f"the steps for κ = {kappa:g} at rate {lr}, against a run",
        )


@steps_needed.mistake(
    "At a small rate the flattest direction is the slowest. Close to the border another one is. "
    "Which, and what is its factor?",
    border=(2.0, np.inf),
)
def only_the_flattest(mu, L, lr, tolerance, border):
    if lr * L >= border:
        return np.inf
    return np.ceil(np.log(tolerance) / np.log(abs(1 - lr * mu)))


@steps_needed.mistake(
    "Nobody takes a fraction of a step. After how many whole ones is the goal reached for sure?"
)
def not_rounded(mu, L, lr, tolerance):
    factor = max(abs(1 - lr * mu), abs(1 - lr * L))
    return np.log(tolerance) / np.log(factor) if factor < 1 else np.inf


@steps_needed.mistake(
    "Your answer is for the best learning rate, whatever lr is. Where does lr enter?"
)
def at_the_best_rate(mu, L, lr, tolerance):
    return np.ceil(np.log(tolerance) / np.log((L - mu) / (L + mu)))


@steps_needed.mistake(
    "You rounded down: after that many steps the distance is still a little too large."
)
def rounds_down(mu, L, lr, tolerance):
    factor = max(abs(1 - lr * mu), abs(1 - lr * L))
    return np.floor(np.log(tolerance) / np.log(factor)) if factor < 1 else np.inf


@steps_needed.mistake(
    "The steepest direction sets the border. Does it also take the longest, at 1/L?"
)
def only_the_steepest(mu, L, lr, tolerance):
    factor = abs(1 - lr * L)
    if factor >= 1:
        return np.inf
    return np.ceil(np.log(tolerance) / np.log(max(factor, 1e-300)))


@steps_needed.mistake(
    "Beyond the border you answer with a number of steps below zero. What does a factor above 1 do?"
)
def overlooks_divergence(mu, L, lr, tolerance):
    factor = max(abs(1 - lr * mu), abs(1 - lr * L))
    return np.ceil(np.log(tolerance) / np.log(factor))


@exercise(
    "Tune the ball",
    difficulty=2,
    minutes=15,
    section="momentum-and-acceleration",
    counterpart="chainrule.math_foundations.optimization:optimal_rates",
    idea=(
        "With the right settings all curvatures shrink by the same factor. It depends on the "
        "square roots of the two curvatures, and the momentum is the square of the factor."
    ),
)
def best_ball(mu, L):
    """Return (lr, momentum), the settings of the heavy ball with the best factor for all
    curvatures from mu to L.
    """
    root = (np.sqrt(L) - np.sqrt(mu)) / (np.sqrt(L) + np.sqrt(mu))
    return 4 / (np.sqrt(L) + np.sqrt(mu)) ** 2, root**2


@best_ball.by_package
def _(package, mu, L):
    rates = package(mu, L)
    return rates.heavy_ball_lr, rates.heavy_ball_momentum


@best_ball.check
def at_condition_one_hundred(answer, rng):
    lr, momentum = answer(1.0, 100.0)
    expect_close(momentum, (9 / 11) ** 2, what="the momentum at κ = 100")
    expect_close(lr, 4 / 121, what="the learning rate at κ = 100")


@best_ball.check
def in_other_units(answer, rng):
    lr, momentum = answer(3.0, 300.0)
    expect_close(momentum, (9 / 11) ** 2, what="the momentum for curvatures 3 to 300")
    expect_close(lr, 4 / 363, what="the learning rate for curvatures 3 to 300")


@best_ball.check
def ninety_five_steps(answer, rng):
    problem = quadratic(100)
    lr, momentum = answer(1.0, 100.0)
    steps = steps_to(heavy_ball(problem.f, problem.grad, np.ones(2), lr, momentum, 300), 1e-6)
    expect(steps == 95, f"κ = 100 from (1, 1) to a millionth should take 95 steps, not {steps}")


@best_ball.mistake(
    "Your momentum is the factor by which the error shrinks. The product of the two roots is the "
    "momentum; what is the size of each?"
)
def momentum_not_squared(mu, L):
    lr, momentum = best_ball(mu, L)
    return lr, np.sqrt(momentum)


@best_ball.mistake(
    "You have the factor of gradient descent, with κ. Which power of κ does momentum work with?",
    both=(False, True),
)
def with_kappa_itself(mu, L, both):
    rate = 4 / (L + mu) ** 2 if both else best_ball(mu, L)[0]
    return rate, ((L - mu) / (L + mu)) ** 2


@best_ball.mistake("The pair is right, but in the other order: the learning rate comes first.")
def momentum_first(mu, L):
    return best_ball(mu, L)[::-1]


@best_ball.mistake(
    "Those are the settings of Nesterov's method, which asks for the slope further ahead. The "
    "heavy ball takes longer steps."
)
def as_nesterov(mu, L):
    return 1 / L, np.sqrt(best_ball(mu, L)[1])


@best_ball.mistake(
    "The momentum is right, and the rate is gradient descent's best. Solve √(ημ) = 1 − √β and "
    "√(ηL) = 1 + √β for η."
)
def keeps_the_rate_of_gradient_descent(mu, L):
    return 2 / (mu + L), best_ball(mu, L)[1]


@exercise(
    "Time to leave a saddle",
    difficulty=3,
    minutes=25,
    section="saddle-points-in-high-dimensions",
    because="it is an experiment on the package's saddle, with no function behind it",
    idea=(
        "Along y a step of gradient descent multiplies by a number above 1, so count how often "
        "until 1 is reached. Plot the counts against the natural logarithm of 1/ε."
    ),
)
def escape_slope(lr, offsets):
    """Return how many more steps it takes to leave the saddle ½(x² − y²) for each unit by which
    log(1/ε) grows (natural logarithm).

    For each ε in offsets run gradient descent from (1, ε) with learning rate lr and count the
    steps until |y| ≥ 1. Fit a line to the counts; np.polyfit(x, counts, 1)[0] is its slope.
    """
    counts = []
    for eps in offsets:
        y, steps = eps, 0
        while abs(y) < 1:
            y, steps = y + lr * y, steps + 1
        counts.append(steps)
    return np.polyfit(np.log(1 / np.asarray(offsets)), counts, 1)[0]


@escape_slope.check
def at_a_tenth(answer, rng):
    expect_close(
        answer(0.1, 10.0 ** -np.arange(2, 11)),
        1 / np.log(1.1),
        rtol=0.01,
        what="the slope at learning rate 0.1",
    )


@escape_slope.check
def at_other_rates(answer, rng):
    for lr in (0.03, 0.4):
        expect_close(
            answer(lr, 10.0 ** -np.arange(2, 13)),
            1 / np.log(1 + lr),
            rtol=0.02,
            what=f"the slope at learning rate {lr}",
        )


@escape_slope.mistake(
    "You have the steps for each factor of ten. A unit of the natural logarithm is a factor of e."
)
def per_factor_of_ten(lr, offsets):
    return escape_slope(lr, offsets) * np.log(10)


@escape_slope.mistake(
    "Your slope is negative. A smaller ε takes longer; against what do you plot the counts?"
)
def against_log_epsilon(lr, offsets):
    return -escape_slope(lr, offsets)


@escape_slope.mistake(
    "That is the time of a flow, which grows like exp(η·k). A step multiplies y by 1 + η; what is "
    "the logarithm of that?",
    count=(False, True),
)
def as_if_continuous(lr, offsets, count):
    return escape_slope(np.exp(lr) - 1, offsets) if count else 1 / lr


@escape_slope.mistake(
    "Your counts are set against 1/ε itself. It grows by factors of ten, and the counts by equal "
    "amounts: of what do they go in proportion?"
)
def against_the_inverse(lr, offsets):
    counts = [_steps_away(lr, eps) for eps in offsets]
    return np.polyfit(1 / np.asarray(offsets), counts, 1)[0]


@escape_slope.mistake(
    "You have the logarithm for each step. Asked for are the steps for each unit of the logarithm."
)
def upside_down(lr, offsets):
    counts = [_steps_away(lr, eps) for eps in offsets]
    return np.polyfit(counts, np.log(1 / np.asarray(offsets)), 1)[0]


def _steps_away(lr, eps):
    y, steps = eps, 0
    while abs(y) < 1:
        y, steps = y + lr * y, steps + 1
    return steps


@exercise(
    "A rate for a floor",
    difficulty=3,
    minutes=20,
    section="the-noise-floor",
    counterpart="chainrule.math_foundations.optimization:sgd_noise_floor",
    idea=(
        "Take the page's floor, put the variance of a mean of batch draws in the place of σ², "
        "and solve for the rate: it stands in two places."
    ),
)
def rate_for_floor(floor, sigma, L, batch):
    """Return the learning rate at which SGD on f(x) = ½·L·x² settles at a mean value f = floor.

    The gradient of one example has noise of standard deviation sigma; a step uses the mean of
    batch independent examples.
    """
    variance = sigma**2 / batch
    return 4 * floor / (variance + 2 * floor * L)


@rate_for_floor.by_package
def _(package, floor, sigma, L, batch):
    low, high = 0.0, 2 / L
    for _ in range(100):
        rate = (low + high) / 2
        if package(rate, sigma / np.sqrt(batch), L) < floor:
            low = rate
        else:
            high = rate
    return rate


@rate_for_floor.check
def by_hand(answer, rng):
    expect_close(answer(0.5, 1.0, 1.0, 1), 1.0, what="the rate for floor ½, σ = 1, L = 1")


@rate_for_floor.check
def with_batches(answer, rng):
    expect_close(answer(0.01, 2.0, 3.0, 16), 0.04 / 0.31, what="the rate for batches of 16")


@rate_for_floor.check
def linear_where_small(answer, rng):
    floors = np.array([1e-6, 1e-5, 1e-4])
    rates = np.array([float(answer(f, 1.0, 1.0, 2)) for f in floors])
    expect(np.all(rates > 0), "the rate must be positive")
    slope = np.polyfit(np.log(floors), np.log(rates), 1)[0]
    expect_close(float(slope), 1.0, rtol=1e-3, what="the slope of log rate against log floor")


@rate_for_floor.check
def by_running_it(answer, rng):
    lr = float(answer(0.02, 0.5, 2.0, 4))
    expect(0 < lr < 1, f"a rate of {lr:.3g} diverges at curvature 2")
    bowl = quadratic(2, 1)
    path = sgd(bowl.f, bowl.grad, np.zeros(1), lr, 0.25, 40_000, rng)
    expect_close(
        float(path.values[200:].mean()), 0.02, rtol=0.1, what="the floor at your rate, measured"
    )


@rate_for_floor.mistake("Your rate does not depend on the batch. What is the variance of a mean?")
def forgets_the_batch(floor, sigma, L, batch):
    return 4 * floor / (sigma**2 + 2 * floor * L)


@rate_for_floor.mistake(
    "You divided the standard deviation by the batch. Which of the two, deviation or variance, is "
    "divided by n when n draws are averaged?"
)
def divides_the_deviation(floor, sigma, L, batch):
    return 4 * floor / ((sigma / batch) ** 2 + 2 * floor * L)


@rate_for_floor.mistake(
    "sigma is a standard deviation. Which power of it adds up when noise adds up?"
)
def deviation_for_the_variance(floor, sigma, L, batch):
    return 4 * floor / (sigma / batch + 2 * floor * L)


@rate_for_floor.mistake(
    "Right for small rates only. Keep the 2 − η·L of the formula and solve for η."
)
def small_rates_only(floor, sigma, L, batch):
    return 4 * floor * batch / sigma**2


@rate_for_floor.mistake(
    "You solved for the variance of x. The floor is the mean of ½·L·x²: what is between the two?"
)
def floor_taken_for_the_variance(floor, sigma, L, batch):
    variance = sigma**2 / batch
    return 2 * floor * L / (variance + floor * L**2)


@exercise(
    "At the edge",
    difficulty=4,
    minutes=30,
    section="training-at-the-edge-of-stability",
    seconds=30,
    alike=1e-2,
    counterpart="chainrule.math_foundations.optimization:top_hessian_eigenvalue",
    idea=(
        "First walk to the end of the run. There, multiply a vector by the Hessian again and "
        "again; the Hessian times a short step is the difference of two gradients. At the end "
        "the vector's quotient keeps the sign."
    ),
)
def sharpness_after(grad, w, lr, steps):
    """Return the Hessian eigenvalue of largest size where gradient descent from w ends.

    grad(w) is the gradient and all that you may call; w has shape (n,). 100 power iterations are
    enough. For H·v take two gradients, a short distance apart along v.
    """
    for _ in range(steps):
        w = w - lr * grad(w)
    v = np.cos(np.arange(w.size) + 1.0)
    value = 0.0
    for _ in range(100):
        v = v / np.linalg.norm(v)
        Hv = (grad(w + 1e-5 * v) - grad(w - 1e-5 * v)) / 2e-5
        value = v @ Hv
        v = Hv
    return value


@sharpness_after.by_package
def _(package, grad, w, lr, steps):
    for _ in range(steps):
        w = w - lr * grad(w)
    return np.float64(package(grad, w, 100, np.random.default_rng(0))[0])


def _fit(X, T):
    def grad(w):
        W, V = w[:512].reshape(8, 64), w[512:].reshape(10, 8)
        A = np.tanh(X @ W.T)
        R = (A @ V.T - T) / len(X)
        return np.concatenate([(((R @ V) * (1 - A**2)).T @ X).ravel(), (R.T @ A).ravel()])

    return grad


@sharpness_after.check
def of_a_quadratic(answer, rng):
    M = rng.normal(size=(5, 5))
    H = M @ M.T
    received = answer(lambda w: H @ w, rng.normal(size=5), 0.01, 3)
    expect_close(received, np.linalg.eigvalsh(H)[-1], rtol=1e-4, what="the sharpness of ½·wᵀHw")


@sharpness_after.check
def where_the_run_ends(answer, rng):
    problem, start = rosenbrock(), np.array([-1.2, 1.0])
    w = start
    for _ in range(200):
        w = w - 0.001 * problem.grad(w)
    expected = np.linalg.eigvalsh(problem.hessian(w))[-1]
    received = answer(problem.grad, start, 0.001, 200)
    expect_close(
        received, expected, rtol=1e-4, what="the sharpness after 200 steps on Rosenbrock's"
    )


@sharpness_after.check
def of_a_downward_bend(answer, rng):
    h = np.array([1.0, -4.0, 2.0])
    received = answer(lambda w: h * w, np.ones(3), 0.1, 2)
    expect_close(received, -4.0, rtol=1e-4, what="the eigenvalue of largest size of diag(1, −4, 2)")


@sharpness_after.check
def two_over_the_rate(answer, rng):
    digits = load_digits()
    grad = _fit(digits.data[:100] / 16, np.eye(10)[digits.target[:100]])
    init = np.random.default_rng(0)
    w = np.concatenate([init.normal(size=512) / 8, 0.1 * init.normal(size=80)])
    for lr, steps in ((0.4, 1000), (0.3, 1000)):
        received = answer(grad, w, lr, steps)
        expect_close(
            received, 2 / lr, rtol=0.1, what=f"the sharpness of the digits fit at η = {lr}"
        )


@sharpness_after.mistake(
    "You measured where the run starts. The question is what the run does to the sharpness."
)
def at_the_start(grad, w, lr, steps):
    return sharpness_after(grad, w, lr, 0)


@sharpness_after.mistake(
    "Your value is never negative. The length of H·v is the size of the eigenvalue; what tells its "
    "sign?"
)
def length_instead_of_quotient(grad, w, lr, steps):
    return abs(sharpness_after(grad, w, lr, steps))


@sharpness_after.mistake(
    "That is the curvature along the gradient. The steepest direction of f and the most curved one "
    "differ: iterate."
)
def along_the_gradient(grad, w, lr, steps):
    for _ in range(steps):
        w = w - lr * grad(w)
    v = grad(w) / np.linalg.norm(grad(w))
    return v @ hvp(grad, w, v)


@sharpness_after.mistake("Your run climbs, and so ends nowhere. Which way does the gradient point?")
def climbs(grad, w, lr, steps):
    with np.errstate(all="ignore"):
        return sharpness_after(grad, w, -lr, steps)


@sharpness_after.mistake(
    "Every value is twice too large. How far apart are the two points of your difference?"
)
def divides_by_one_step(grad, w, lr, steps):
    return 2 * sharpness_after(grad, w, lr, steps)
