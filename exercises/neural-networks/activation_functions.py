"""Exercises of neural-networks/activation-functions.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import exercise, expect, expect_close, expect_shape
from chainrule.math_foundations.probability import normal_cdf
from chainrule.neural_networks.backpropagation import Tensor


def _sigmoid(z):
    return 0.5 * (1 + np.tanh(0.5 * z))


def _bell(z):
    return np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)


def _six_activations(z):
    return [
        _sigmoid(z),
        np.tanh(z),
        max(z, 0.0),
        max(z, 0.0) + 0.1 * min(z, 0.0),
        z * float(normal_cdf(np.array(z))),
        z * _sigmoid(z),
    ]


@exercise(
    "Six slopes",
    difficulty=1,
    minutes=15,
    section="gelu-used-in-transformers",
    because="each slope is the VJP of a function of its own, and the checks measure all of them",
    idea=(
        "The first four are one rule each. GELU and SiLU are z times a gate that moves with z "
        "too: use the product rule."
    ),
)
def six_slopes(z):
    """Return an array of six numbers: the derivatives at the number z, not 0, of

    sigmoid,   tanh,   ReLU,   leaky ReLU with slope 0.1,   GELU,   SiLU.

    normal_cdf(np.array(z)) is Φ(z). Derive each on paper first.
    """
    s = 1 / (1 + np.exp(-z))
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return np.array(
        [
            s * (1 - s),
            1 - np.tanh(z) ** 2,
            1.0 if z > 0 else 0.0,
            1.0 if z > 0 else 0.1,
            float(normal_cdf(np.array(z))) + z * density,
            s + z * s * (1 - s),
        ]
    )


@six_slopes.check
def at_one(answer, rng):
    expected = np.array([0.196612, 0.419974, 1.0, 1.0, 1.083316, 0.927671])
    expect_close(answer(1.0), expected, atol=1e-6, what="the six slopes at z = 1")


@six_slopes.check
def against_differences(answer, rng):
    for z in (-2.0, -0.3, 0.4, 2.5):
        up, down = np.array(_six_activations(z + 1e-5)), np.array(_six_activations(z - 1e-5))
        expect_close(
            answer(z), (up - down) / 2e-5, rtol=1e-6, atol=1e-8, what=f"the six slopes at z = {z}"
        )


@six_slopes.mistake(
    "GELU and SiLU are products of two things that move with z. You differentiated as if the gate "
    "stood still."
)
def holds_the_gate_still(z):
    right = six_slopes(z)
    right[4] = float(normal_cdf(np.array(z)))
    right[5] = _sigmoid(z)
    return right


@six_slopes.mistake(
    "σ(1 − σ) wants the sigmoid's output. Did you put z in it, or apply the sigmoid twice?"
)
def feeds_the_output_back(z):
    right = six_slopes(z)
    twice = _sigmoid(_sigmoid(z))
    right[0] = twice * (1 - twice)
    return right


@six_slopes.mistake("For large z the slope of tanh must vanish. Is something missing a square?")
def forgets_the_square(z):
    right = six_slopes(z)
    right[1] = 1 - np.tanh(z)
    return right


@six_slopes.mistake(
    "Your slope of GELU has a bell in it that is too high. Which area must lie under a density?"
)
def bell_without_its_factor(z):
    right = six_slopes(z)
    right[4] = float(normal_cdf(np.array(z))) + z * np.exp(-(z**2) / 2)
    return right


@six_slopes.mistake("On the left your leaky ReLU is flat. What does it let through there?")
def leaky_as_relu(z):
    right = six_slopes(z)
    right[3] = right[2]
    return right


@six_slopes.mistake("σ(1 − σ) wants the sigmoid's output, and you put its input there.")
def puts_z_in_place_of_the_output(z):
    right = six_slopes(z)
    right[0] = z * (1 - z)
    return right


@exercise(
    "The gain by quadrature",
    difficulty=2,
    minutes=15,
    section="forward",
    counterpart="chainrule.neural_networks.activation_functions:gain",
    idea=(
        "Squares of the outputs, weighted with the bell curve and added up over narrow strips, "
        "give the mean square. The gain makes up for its root."
    ),
)
def gain_of(act):
    """Return the gain of act, which maps an array to an array entry by entry.

    The gain is 1/√E[act(ζ)²] for standard normal ζ. Integrate with narrow strips (from −10 to 10,
    say, with steps of 0.001); the answer should be right to four digits.
    """
    z = np.arange(-10_000, 10_001) / 1000
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return 1 / np.sqrt(np.sum(act(z) ** 2 * density) / 1000)


@gain_of.by_package
def _(package, act):
    return np.float64(package(lambda z: Tensor(act(z.data))))


@gain_of.check
def of_the_identity_and_relu(answer, rng):
    expect_close(answer(lambda z: z), 1.0, rtol=1e-4, what="the gain of the identity")
    expect_close(answer(lambda z: np.maximum(z, 0)), 2**0.5, rtol=1e-4, what="the gain of ReLU")


@gain_of.check
def of_gelu(answer, rng):
    received = answer(lambda z: z * normal_cdf(z))
    expect_close(received, 1.5335, rtol=1e-4, what="the gain of GELU")


@gain_of.check
def of_twice_as_steep(answer, rng):
    expect_close(answer(lambda z: 2 * z), 0.5, rtol=1e-4, what="the gain of z ↦ 2z")


@gain_of.mistake(
    "The gain multiplies weights, and the mean square grows with the square of the weights. What "
    "is still to be taken?"
)
def forgets_the_root(act):
    z = np.arange(-10_000, 10_001) / 1000
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return 1 / (np.sum(act(z) ** 2 * density) / 1000)


@gain_of.mistake(
    "You subtracted the mean: that is the variance. The next layer sums h², and does not care "
    "whether it comes from a mean."
)
def takes_the_variance(act):
    z = np.arange(-10_000, 10_001) / 1000
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) / 1000
    mean = np.sum(act(z) * density)
    return 1 / np.sqrt(np.sum((act(z) - mean) ** 2 * density))


@gain_of.mistake("Your factor shrinks a signal that has shrunk. It has to make up for the loss.")
def upside_down(act):
    return 1 / gain_of(act)


@exercise(
    "Weights for a leaky network",
    difficulty=2,
    minutes=15,
    section="forward",
    because="kaiming_ draws the weights; their deviation stands nowhere by itself",
    idea=(
        "Follow the mean square: the sum over the inputs multiplies it by their number and the "
        "variance of a weight, and the leaky ReLU keeps one half whole and the other times the "
        "slope squared."
    ),
)
def leaky_deviation(fan_in, slope):
    """Return the standard deviation of the weights of a layer with fan_in inputs.

    The weights have mean 0, and leaky ReLU with this slope on the left follows. On average the
    layer is to keep the mean square of its inputs, so that signals survive 50 such layers.
    """
    return np.sqrt(2 / ((1 + slope**2) * fan_in))


@leaky_deviation.check
def by_the_formula(answer, rng):
    expect_close(answer(100, 0.0), np.sqrt(0.02), what="the deviation for slope 0, 100 inputs")
    expect_close(answer(100, 1.0), 0.1, what="the deviation for slope 1 (no bend), 100 inputs")
    for fan_in, slope in ((256, 0.2), (64, 0.5)):
        expected = np.sqrt(2 / ((1 + slope**2) * fan_in))
        expect_close(answer(fan_in, slope), expected, what=f"for slope {slope}, {fan_in} inputs")


@leaky_deviation.check
def fifty_layers(answer, rng):
    deviation, logs = answer(256, 0.2), []
    for _ in range(4):
        h = rng.normal(size=(16, 256))
        for _ in range(50):
            h = h @ (deviation * rng.normal(size=(256, 256)))
            h = np.maximum(h, 0) + 0.2 * np.minimum(h, 0)
        logs.append(0.5 * np.log(np.mean(h**2)))
    rms = np.exp(np.mean(logs))
    expect(0.5 < rms < 2, f"after 50 layers with slope 0.2 the RMS is {rms:.2g}")


@leaky_deviation.mistake(
    "Right for ReLU. But a leaky unit passes something on the left too. With slope 1 it passes "
    "everything; what must the answer be then?"
)
def as_for_relu(fan_in, slope):
    return np.sqrt(2 / fan_in)


@leaky_deviation.mistake("That is the variance. A generator wants to know the deviation.")
def returns_the_variance(fan_in, slope):
    return 2 / ((1 + slope**2) * fan_in)


@leaky_deviation.mistake(
    "The mean square of slope·z is not slope times that of z. Average z² and (slope·z)² again."
)
def slope_without_square(fan_in, slope):
    return np.sqrt(2 / ((1 + slope) * fan_in))


@leaky_deviation.mistake(
    "Your deviation suits a layer without a bend. Which share of the mean square is left when the "
    "left half is shrunk by the slope?"
)
def forgets_the_activation(fan_in, slope):
    return 1 / np.sqrt(fan_in)


@leaky_deviation.mistake(
    "With slope 1 nothing is lost, and 1/√fan_in must come out. Each side holds half of the inputs."
)
def forgets_that_each_side_is_half(fan_in, slope):
    return 1 / np.sqrt((1 + slope**2) * fan_in)


@exercise(
    "Two stand-ins for GELU",
    difficulty=2,
    minutes=15,
    section="two-approximations-and-where-their-constants-come-from",
    because="gelu has the usual constants built in",
    idea=(
        "Evaluate GELU and both stand-ins on one fine grid, and take the largest absolute "
        "difference of the outputs."
    ),
)
def largest_errors(constant, steepness):
    """Return (tanh form, sigmoid form): the largest distances from GELU on [−8, 8].

    The tanh form is ½x(1 + tanh(√(2/π)(x + constant·x³))), the sigmoid form x·σ(steepness·x).
    Look at points no more than 0.001 apart; normal_cdf(x) is Φ(x).
    """
    x = np.linspace(-8, 8, 16_001)
    exact = x * normal_cdf(x)
    tanh_form = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + constant * x**3)))
    sigmoid_form = x / (1 + np.exp(-steepness * x))
    return float(np.abs(tanh_form - exact).max()), float(np.abs(sigmoid_form - exact).max())


@largest_errors.check
def with_the_usual_constants(answer, rng):
    expect_close(
        answer(0.044715, 1.702), (4.732e-4, 2.0335e-2), rtol=1e-3, what="the two largest errors"
    )


@largest_errors.check
def with_other_constants(answer, rng):
    expect_close(
        answer(2 / (3 * np.pi) - 1 / 6, 1.0), (7.462e-4, 0.19300), rtol=1e-3, what="the two errors"
    )


@largest_errors.mistake(
    "You compared the gates, Φ with its stand-in. The output is x times the gate, so the error is "
    "too."
)
def compares_the_gates(constant, steepness):
    x = np.linspace(-8, 8, 16_001)
    tanh_gate = 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + constant * x**3)))
    sigmoid_gate = 1 / (1 + np.exp(-steepness * x))
    exact = normal_cdf(x)
    return float(np.abs(tanh_gate - exact).max()), float(np.abs(sigmoid_gate - exact).max())


@largest_errors.mistake(
    "An approximation can be too low as well as too high. Which of the two did you look for?"
)
def forgets_the_sign(constant, steepness):
    x = np.linspace(-8, 8, 16_001)
    exact = x * normal_cdf(x)
    tanh_form = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + constant * x**3)))
    sigmoid_form = x / (1 + np.exp(-steepness * x))
    return float((tanh_form - exact).max()), float((sigmoid_form - exact).max())


@largest_errors.mistake(
    "Your interval is too short: the errors are largest beyond |x| = 2, where the gates are "
    "nearly shut or open but x is large."
)
def looks_only_near_zero(constant, steepness):
    x = np.linspace(-2, 2, 4_001)
    exact = x * normal_cdf(x)
    tanh_form = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + constant * x**3)))
    sigmoid_form = x / (1 + np.exp(-steepness * x))
    return float(np.abs(tanh_form - exact).max()), float(np.abs(sigmoid_form - exact).max())


@largest_errors.mistake("You averaged the distances. A single bad place would hide in that.")
def averages_the_distances(constant, steepness):
    x = np.linspace(-8, 8, 16_001)
    exact = x * normal_cdf(x)
    tanh_form = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + constant * x**3)))
    sigmoid_form = x / (1 + np.exp(-steepness * x))
    return float(np.abs(tanh_form - exact).mean()), float(np.abs(sigmoid_form - exact).mean())


@largest_errors.mistake("Your two numbers are right and exchanged. Which form comes first?")
def exchanges_the_two(constant, steepness):
    return largest_errors(constant, steepness)[::-1]


@largest_errors.mistake(
    "You compared the stand-in's output with a gate: GELU itself is not Φ. What is it times?"
)
def compares_with_the_gate(constant, steepness):
    x = np.linspace(-8, 8, 16_001)
    gate = normal_cdf(x)
    tanh_form = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + constant * x**3)))
    sigmoid_form = x / (1 + np.exp(-steepness * x))
    return float(np.abs(tanh_form - gate).max()), float(np.abs(sigmoid_form - gate).max())


@exercise(
    "GELU by tanh, both ways",
    difficulty=3,
    minutes=25,
    section="two-approximations-and-where-their-constants-come-from",
    counterpart="chainrule.neural_networks.activation_functions:_gated",
    idea=(
        "The gate is a half of one plus a tanh, and x moves the output twice: as a factor and "
        "inside of the gate. The chain rule goes through the cubic too."
    ),
)
def gelu_tanh(x):
    """Return the tanh approximation of GELU at each entry of x, and a function vjp.

    The gate is half of 1 + tanh(u), with u = √(2/π)·(x + 0.044715·x³). vjp(g), with g the gradient
    of the output, returns the gradient of x.
    """
    c = float(np.sqrt(2 / np.pi))
    square = x * x
    gate = 0.5 * (1 + np.tanh(c * x * (1 + 0.044715 * square)))
    y = x * gate

    def vjp(g):
        return g * (gate + 2 * (1 - gate) * y * c * (1 + 0.134145 * square))

    return y, vjp


@gelu_tanh.by_package
def _(package, x):
    y, vjp = package(x, kind="tanh")
    return y, lambda g: vjp(g)[0]


@gelu_tanh.in_package
def _(mine, x, kind):
    if kind != "tanh":
        raise NotImplementedError(f"this exercise knows the gate by tanh, not {kind!r}")
    y, vjp = mine(x)
    return y, lambda g: (vjp(g),)


@gelu_tanh.check
def at_one_and_minus_one(answer, rng):
    y, vjp = answer(np.array([1.0, -1.0]))
    expect_close(y, np.array([0.841192, -0.158808]), atol=1e-6, what="the outputs at 1 and −1")
    slopes = np.array([1.082964, -0.082964])
    expect_close(vjp(np.ones(2)), slopes, atol=1e-6, what="the slopes at 1 and −1")


@gelu_tanh.check
def random_numbers(answer, rng):
    x, g = rng.normal(size=(3, 5)), rng.normal(size=(3, 5))
    y, vjp = answer(x)
    expect_close(y, gelu_tanh(x)[0], what="the outputs at 15 random numbers")
    slope = (gelu_tanh(x + 1e-5)[0] - gelu_tanh(x - 1e-5)[0]) / 2e-5
    expect_close(vjp(g), g * slope, rtol=1e-6, atol=1e-8, what="the gradient at 15 random numbers")


@gelu_tanh.mistake(
    "Your backward pass multiplies by the gate, as if it stood still. It moves with x too."
)
def gate_held_still(x):
    y, _ = gelu_tanh(x)
    return y, lambda g: g * y / x


@gelu_tanh.mistake(
    "Your slope treats the inside of the tanh as if it were x itself. What is the derivative of "
    "the cubic?"
)
def inner_slope_of_one(x):
    y, _ = gelu_tanh(x)
    gate = y / x
    return y, lambda g: g * (gate + 2 * y * (1 - gate))


@gelu_tanh.mistake(
    "The constant 0.044715 stands before the cube. What is the derivative of a cube?"
)
def forgets_the_three(x):
    y, _ = gelu_tanh(x)
    gate, c = y / x, np.sqrt(2 / np.pi)
    return y, lambda g: g * (gate + 2 * y * (1 - gate) * c * (1 + 0.044715 * x**2))


@gelu_tanh.mistake(
    "Your gate is not that of the tanh approximation. Is it the exact one, or that by a sigmoid?"
)
def exact_instead(x):
    cdf = normal_cdf(x)
    return x * cdf, lambda g: g * (cdf + x * _bell(x))


@gelu_tanh.mistake(
    "The part of your slope that comes from the gate is twice too large. What stands before the "
    "tanh in it?"
)
def gate_part_twice(x):
    y, _ = gelu_tanh(x)
    gate, c = y / x, np.sqrt(2 / np.pi)
    return y, lambda g: g * (gate + 4 * y * (1 - gate) * c * (1 + 0.134145 * x**2))


@gelu_tanh.mistake("Your vjp returns the slope. What has become of g?")
def returns_the_slope(x):
    y, vjp = gelu_tanh(x)
    return y, lambda g: vjp(np.ones_like(g))


@exercise(
    "A fair orthogonal matrix",
    difficulty=3,
    minutes=20,
    section="orthogonal-weights",
    counterpart="chainrule.neural_networks.activation_functions:orthogonal_",
    idea=(
        "The diagonal of R says by which signs LAPACK's columns differ from those of "
        "Gram–Schmidt, which favours none. Give them back to Q."
    ),
)
def fair_orthogonal(n, rng):
    """Return a random n × n matrix Q with QᵀQ = I, none of them favoured over another.

    Start from np.linalg.qr(rng.standard_normal((n, n))). QR does not say which sign a column of Q
    has; LAPACK decides by its own rule, and R tells you how. Undo it.
    """
    Q, R = np.linalg.qr(rng.standard_normal((n, n)))
    return Q * np.sign(np.diag(R))


@fair_orthogonal.by_package
def _(package, n, rng):
    return package((n, n), rng, dtype=float)


@fair_orthogonal.in_package
def _(mine, shape, rng, gain=1.0, dtype=np.float32):
    n = max(shape)
    return (gain * mine(n, rng)[: shape[0], : shape[1]]).astype(dtype)


@fair_orthogonal.check
def columns_are_orthonormal(answer, rng):
    Q = answer(5, rng)
    expect_shape(Q, (5, 5), what="Q")
    expect_close(Q.T @ Q, np.eye(5), atol=1e-10, what="QᵀQ")


@fair_orthogonal.check
def thirty_layers_keep_every_length(answer, rng):
    product = np.eye(16)
    for _ in range(30):
        product = answer(16, rng) @ product
    values = np.linalg.svd(product, compute_uv=False)
    expect_close(values, np.ones(16), atol=1e-8, what="the singular values of 30 layers")


@fair_orthogonal.check
def no_sign_is_favoured(answer, rng):
    corners = np.array([answer(3, rng)[0, 0] for _ in range(400)])
    share = float(np.mean(corners > 0))
    expect(0.4 < share < 0.6, f"the corner entry is positive in {share:.0%} of 400 draws, not half")


@fair_orthogonal.check
def the_next_corner_too(answer, rng):
    entries = np.array([answer(3, rng)[1, 1] for _ in range(400)])
    share = float(np.mean(entries > 0))
    expect(0.4 < share < 0.6, f"the middle entry is positive in {share:.0%} of 400 draws, not half")


@fair_orthogonal.check
def the_two_together(answer, rng):
    drawn = np.array([answer(3, rng) for _ in range(400)])
    share = float(np.mean(drawn[:, 0, 0] * drawn[:, 1, 1] > 0))
    expect(
        0.4 < share < 0.6,
        f"the corner and the middle entry have one sign in {share:.0%} of 400 draws, not half",
    )


@fair_orthogonal.mistake(
    "Orthogonal it is, but is it fair? Draw a hundred and look at the sign of the first entry."
)
def trusts_the_signs(n, rng):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


@fair_orthogonal.mistake(
    "Your columns have length 1, but they lean on each other. Look at the entries of QᵀQ off the "
    "diagonal."
)
def only_normalizes(n, rng):
    G = rng.standard_normal((n, n))
    return G / np.linalg.norm(G, axis=0)


@fair_orthogonal.mistake(
    "A Gaussian matrix over √n keeps lengths on average. Here every vector must keep its length."
)
def on_average(n, rng):
    return rng.standard_normal((n, n)) / np.sqrt(n)


@fair_orthogonal.mistake(
    "All columns get one sign from you. Does LAPACK turn all of them round together?"
)
def one_sign_for_all(n, rng):
    Q, R = np.linalg.qr(rng.standard_normal((n, n)))
    return np.sign(R[0, 0]) * Q


@fair_orthogonal.mistake(
    "You multiplied by the diagonal of R with its sizes, and the columns have lost their length. "
    "What of it is needed?"
)
def multiplies_by_the_diagonal(n, rng):
    Q, R = np.linalg.qr(rng.standard_normal((n, n)))
    return Q * np.diag(R)


@fair_orthogonal.mistake(
    "You take the signs from Q, and its diagonal is never negative: that favours. Who knows what "
    "LAPACK has turned round?"
)
def makes_the_diagonal_positive(n, rng):
    Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    return Q * np.sign(np.diag(Q))


@exercise(
    "The deadly step",
    difficulty=4,
    minutes=30,
    section="units-that-die",
    because="the package counts dead units (dead_fraction) and never kills them",
    idea=(
        "The step lowers every positive score in proportion to the rate. Find how fast each "
        "falls; the one that needs the longest decides."
    ),
)
def deadly_rate(X, W, b):
    """Return the smallest learning rate with which one gradient step kills every unit.

    H = relu(X @ W.T + b), and the loss is the sum of all entries of H. The inputs X, of shape
    (examples, features), are not negative; W has shape (units, features), b shape (units,).
    Every unit is on for at least one example. After the step no entry of H may be positive.
    """
    Z = X @ W.T + b
    on = (Z > 0).astype(float)
    W_grad, b_grad = on.T @ X, on.sum(axis=0)
    fall = X @ W_grad.T + b_grad
    return float((Z / fall)[Z > 0].max())


@deadly_rate.check
def one_unit_by_hand(answer, rng):
    X, W, b = np.array([[1.0], [2.0]]), np.array([[1.0]]), np.array([0.0])
    expect_close(answer(X, W, b), 0.25, what="the rate for inputs 1 and 2, w = 1, b = 0")


@deadly_rate.check
def two_units_by_hand(answer, rng):
    X, W, b = np.array([[1.0], [3.0]]), np.array([[1.0], [2.0]]), np.array([0.0, -4.0])
    expect_close(answer(X, W, b), 3 / 14, what="the rate for two units of which one is off at 1")


@deadly_rate.check
def kills_all_and_not_sooner(answer, rng):
    X, W = rng.uniform(0, 1, size=(20, 5)), rng.normal(size=(7, 5))
    b = rng.uniform(0.2, 1, size=7) + 1
    rate = answer(X, W, b)
    on = (X @ W.T + b > 0).astype(float)
    for factor, expected in ((1 + 1e-9, 0), (0.99, 1)):
        lr = factor * rate
        left = X @ (W - lr * on.T @ X).T + b - lr * on.sum(axis=0)
        alive = int((left > 1e-12).any(axis=0).sum())
        text = f"after a step with {factor:.2f} times your rate, {alive} of 7 units are alive"
        expect(alive == 0 if expected == 0 else alive > 0, text)


@deadly_rate.mistake(
    "The weights are not all that moves. By how much does the score fall if an input is all zeros?"
)
def forgets_the_bias(X, W, b):
    Z = X @ W.T + b
    on = (Z > 0).astype(float)
    return float((Z / (X @ (on.T @ X).T))[Z > 0].max())


@deadly_rate.mistake(
    "With your rate the first score reaches 0. Which score is the last to get there?"
)
def stops_at_the_first(X, W, b):
    Z = X @ W.T + b
    on = (Z > 0).astype(float)
    return float((Z / (X @ (on.T @ X).T + on.sum(axis=0)))[Z > 0].min())


@deadly_rate.mistake(
    "You let examples push for which the unit is off. What does ReLU pass back from them?"
)
def everybody_pushes(X, W, b):
    Z = X @ W.T + b
    on = np.ones_like(Z)
    return float((Z / (X @ (on.T @ X).T + on.sum(axis=0)))[Z > 0].max())


@deadly_rate.mistake("At your rate one unit is dead. The others have to follow.")
def stops_at_the_first_unit(X, W, b):
    Z = X @ W.T + b
    on = (Z > 0).astype(float)
    needed = Z / (X @ (on.T @ X).T + on.sum(axis=0))
    return float(np.where(Z > 0, needed, 0).max(axis=0).min())


@deadly_rate.mistake(
    "At your rate every unit is off for one of its examples. For how many must it be off?"
)
def stops_at_the_first_example(X, W, b):
    Z = X @ W.T + b
    on = (Z > 0).astype(float)
    needed = Z / (X @ (on.T @ X).T + on.sum(axis=0))
    return float(np.where(Z > 0, needed, np.inf).min(axis=0).max())


@deadly_rate.mistake("Your rate fits a loss that is a mean over the examples. Which one is asked?")
def gradient_of_the_mean(X, W, b):
    return len(X) * deadly_rate(X, W, b)
