"""Exercises of neural-networks/multilayer-networks.md."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np

from chainrule.course.exercises import exercise, expect, expect_close, expect_equal, expect_shape
from chainrule.neural_networks.multilayer_networks import MLP, count_linear_pieces

SQUARE = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


def _relu(z):
    return np.maximum(z, 0)


# --- 1 -------------------------------------------------------------------------------------


@exercise(
    "Count the parameters",
    difficulty=1,
    minutes=10,
    section="forward-pass-computation",
    counterpart="chainrule.neural_networks.multilayer_networks:count_params",
    idea=(
        "Go through neighbouring widths. Every unit of the later one has a weight for each unit "
        "of the earlier one, and one bias."
    ),
)
def parameters(sizes):
    """Return the number of weights and biases of a network with these layer sizes.

    sizes lists the widths from input to output, as in (64, 64, 10).
    """
    return sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))


@parameters.check
def one_small_layer(answer, rng):
    expect_equal(answer((3, 2)), 8, what="the number of parameters from 3 inputs to 2 outputs")


@parameters.check
def the_digit_network(answer, rng):
    expect_equal(answer((64, 64, 10)), 4810, what="the number of parameters of (64, 64, 10)")


@parameters.check
def a_real_network(answer, rng):
    sizes = (7, 11, 5, 3)
    net = MLP(sizes)
    expected = sum(array.size for array in [*net.weights, *net.biases])
    expect_equal(answer(sizes), expected, what=f"the number of parameters of {sizes}")


@parameters.mistake("You counted the weights only. What else does every unit own?")
def forgets_the_biases(sizes):
    return sum(n_in * n_out for n_in, n_out in pairwise(sizes))


@parameters.mistake("A bias belongs to a unit that computes. Do the inputs compute anything?")
def biases_for_the_inputs(sizes):
    return sum(n_in * (n_out + 1) for n_in, n_out in pairwise(sizes))


@parameters.mistake(
    "You gave each layer one bias. How many numbers are added, one to each of its outputs?"
)
def one_bias_a_layer(sizes):
    return sum(n_in * n_out + 1 for n_in, n_out in pairwise(sizes))


# --- 2 -------------------------------------------------------------------------------------


@exercise(
    "XOR by hand",
    difficulty=2,
    minutes=15,
    section="hidden-layers-and-depth",
    because="many networks compute XOR; xor_network is one of them",
    idea=(
        "Let both hidden units add the inputs. One starts at 0 and counts; the other starts "
        "later and takes back what two ones have put too much."
    ),
)
def xor_layers():
    """Return (W1, b1, W2, b2) of a network with two hidden ReLU units that computes XOR.

    W1 has shape (2, 2), b1 (2,), W2 (1, 2), b2 (1,). The output relu(X @ W1.T + b1) @ W2.T + b2
    must be above ½ exactly where one of the two inputs is near 1 and the other near 0, even if
    each is off by up to 0.1.
    """
    return np.ones((2, 2)), np.array([0.0, -1.0]), np.array([[1.0, -2.0]]), np.array([0.0])


def _two_layers(layers, X):
    W1, b1, W2, b2 = layers
    return _relu(X @ W1.T + b1) @ W2.T + b2


@xor_layers.check
def shapes_fit(answer, rng):
    for array, shape, name in zip(
        answer(), [(2, 2), (2,), (1, 2), (1,)], ["W1", "b1", "W2", "b2"], strict=True
    ):
        expect_shape(array, shape, what=name)


@xor_layers.check
def four_corners(answer, rng):
    out = _two_layers(answer(), SQUARE).ravel()
    expect_equal(out > 0.5, np.array([False, True, True, False]), what="output > ½ at the corners")


@xor_layers.check
def noisy_corners(answer, rng):
    noisy = np.repeat(SQUARE, 50, axis=0) + rng.uniform(-0.1, 0.1, size=(200, 2))
    out = _two_layers(answer(), noisy).ravel() > 0.5
    wrong = int((out != np.repeat([False, True, True, False], 50)).sum())
    expect(wrong == 0, f"{wrong} of 200 corners, each input off by up to 0.1, are answered wrongly")


@xor_layers.mistake(
    "At (1, 1) your output is still high. By how much must the second unit pull it down, given "
    "that the first is 2 there?"
)
def pulls_too_weakly():
    return np.ones((2, 2)), np.array([0.0, -1.0]), np.array([[1.0, -1.0]]), np.array([0.0])


@xor_layers.mistake(
    "Both units switch on at the same place, so together they are one unit. Where should the "
    "second begin?"
)
def same_knot_twice():
    return np.ones((2, 2)), np.zeros(2), np.array([[1.0, -2.0]]), np.array([0.0])


@xor_layers.mistake(
    "The sign of the second bias: a unit max(x₁ + x₂ + b, 0) switches on where the sum reaches −b."
)
def knot_on_the_wrong_side():
    return np.ones((2, 2)), np.array([0.0, 1.0]), np.array([[1.0, -2.0]]), np.array([0.0])


# --- 3 -------------------------------------------------------------------------------------


@exercise(
    "A broken line as a network",
    difficulty=3,
    minutes=25,
    section="universal-approximation-theorem",
    counterpart="chainrule.neural_networks.multilayer_networks:relu_interpolator",
    idea=(
        "Each unit is off left of its knot and a rising line right of it. Its weight is by how "
        "much the slope has to change there."
    ),
)
def broken_line(f, knots):
    """Return (W1, b1, W2, b2) of a ReLU network that equals f at the knots, straight in between.

    knots has shape (m,), increasing; f accepts it. Use one hidden unit a knot: W1 (m, 1), b1 (m,),
    W2 (1, m), b2 (1,). Left of the first knot and right of the last the output is constant.
    """
    values = f(knots)
    slopes = np.concatenate([[0.0], np.diff(values) / np.diff(knots), [0.0]])
    return np.ones((len(knots), 1)), -knots, np.diff(slopes)[None, :], values[:1]


@broken_line.by_package
def _(package, f, knots):
    net = package(f, knots)
    return net.weights[0], net.biases[0], net.weights[1], net.biases[1]


@broken_line.check
def the_hat(answer, rng):
    layers = answer(lambda k: 1 - np.abs(k - 1), np.array([0.0, 1.0, 2.0]))
    x = np.array([-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
    expected = np.array([0.0, 0, 0.5, 1, 0.5, 0, 0])
    expect_close(_two_layers(layers, x[:, None]).ravel(), expected, what=f"the hat at {x.tolist()}")


@broken_line.check
def equals_interp(answer, rng):
    knots = np.sort(rng.uniform(-3, 3, size=11))
    x = np.linspace(-4, 4, 201)
    received = _two_layers(answer(np.cos, knots), x[:, None]).ravel()
    expect_close(received, np.interp(x, knots, np.cos(knots)), atol=1e-9, what="the broken line")


@broken_line.check
def error_falls_with_slope_two(answer, rng):
    x = np.linspace(0, 2 * np.pi, 5001)
    counts = np.array([8, 16, 32, 64, 128])
    errors = []
    for n in counts:
        layers = answer(np.sin, np.linspace(0, 2 * np.pi, n + 1))
        errors.append(np.abs(_two_layers(layers, x[:, None]).ravel() - np.sin(x)).max())
    slope = float(np.polyfit(np.log(counts), np.log(errors), 1)[0])
    expect(abs(slope + 2) < 0.05, f"log error against log pieces has slope {slope:.2f}, not −2")


@broken_line.mistake(
    "After the second knot your line is too steep. The units before a knot stay on after it: by "
    "how much must a new unit change the slope?"
)
def slopes_for_changes(f, knots):
    values = f(knots)
    slopes = np.concatenate([np.diff(values) / np.diff(knots), [0.0]])
    return np.ones((len(knots), 1)), -knots, slopes[None, :], values[:1]


@broken_line.mistake("The kinks are mirrored at 0. For which x is max(x + b, 0) just zero?")
def bias_with_the_wrong_sign(f, knots):
    W1, b1, W2, b2 = broken_line(f, knots)
    return W1, -b1, W2, b2


@broken_line.mistake(
    "Everything is off by the same amount. What is the output where no unit is on?"
)
def forgets_the_start(f, knots):
    W1, b1, W2, b2 = broken_line(f, knots)
    return W1, b1, W2, 0 * b2


@broken_line.mistake(
    "Right of the last knot your line goes on rising or falling. Which unit should stop it?"
)
def never_levels_off(f, knots):
    W1, b1, W2, b2 = broken_line(f, knots)
    W2 = W2.copy()
    W2[0, -1] = 0
    return W1, b1, W2, b2


# --- 4 -------------------------------------------------------------------------------------


@exercise(
    "Two to the k pieces",
    difficulty=3,
    minutes=25,
    section="width-vs-depth-trade-offs",
    counterpart="chainrule.neural_networks.multilayer_networks:tent_network",
    idea=(
        "The output row of one tent is the input of the next, so the two matrices between two "
        "hidden layers multiply into one."
    ),
)
def tent_layers(k):
    """Return the layers [(W, b), …] of a ReLU network that composes the tent map k times.

    The tent map is T(x) = 2·max(x, 0) − 4·max(x − ½, 0). There are k hidden layers of two units
    and one output layer, so k + 1 pairs; every W has the shape (outputs, inputs).
    """
    row, switches = np.array([[2.0, -4.0]]), np.array([0.0, -0.5])
    first = (np.ones((2, 1)), switches)
    later = (np.ones((2, 1)) @ row, switches)
    return [first, *[later] * (k - 1), (row, np.zeros(1))]


@tent_layers.by_package
def _(package, k):
    net = package(k)
    return list(zip(net.weights, net.biases, strict=True))


def _sawtooth(x, k):
    for _ in range(k):
        x = 1 - np.abs(2 * x - 1)
    return x


@tent_layers.check
def one_and_two_tents(answer, rng):
    x = np.linspace(0, 1, 9)
    for k in (1, 2):
        net = MLP.from_layers(answer(k))
        expect_close(net(x[:, None]).ravel(), _sawtooth(x, k), what=f"the output for k = {k}")


@tent_layers.check
def widths_are_two(answer, rng):
    sizes = MLP.from_layers(answer(5)).sizes
    expect_equal(sizes, (1, 2, 2, 2, 2, 2, 1), what="the widths for k = 5")


@tent_layers.check
def counts_of_pieces(answer, rng):
    for k in (3, 5, 8):
        pieces = count_linear_pieces(MLP.from_layers(answer(k)), 0.0, 1.0)
        expect_equal(pieces, 2**k, what=f"the number of pieces for k = {k}")


@tent_layers.mistake(
    "Your tent stays at its top after the middle. The second unit has to undo the first and then "
    "go down as fast as the first went up."
)
def falls_too_slowly(k):
    row, switches = np.array([[2.0, -2.0]]), np.array([0.0, -0.5])
    later = (np.ones((2, 1)) @ row, switches)
    return [(np.ones((2, 1)), switches), *[later] * (k - 1), (row, np.zeros(1))]


@tent_layers.mistake(
    "One tent comes out right, two do not: from the second layer on no unit waits until ½."
)
def forgets_later_switches(k):
    row, switches = np.array([[2.0, -4.0]]), np.array([0.0, -0.5])
    later = (np.ones((2, 1)) @ row, np.zeros(2))
    return [(np.ones((2, 1)), switches), *[later] * (k - 1), (row, np.zeros(1))]


@tent_layers.mistake("You compose one tent too many. How many hidden layers does k = 1 need?")
def one_tent_too_many(k):
    return tent_layers(k + 1)


@tent_layers.mistake(
    "A weight between two tents has the wrong orientation: both units of the next tent must read "
    "the same number, 2h₁ − 4h₂. Rows are units."
)
def transposes_the_weight(k):
    layers = tent_layers(k)
    return [layers[0], *[(W.T, b) for W, b in layers[1:-1]], layers[-1]]


# --- 5 -------------------------------------------------------------------------------------


@exercise(
    "The largest of eight",
    difficulty=3,
    minutes=25,
    section="how-good-is-a-broken-line",
    because="networks of the package pool with max itself",
    idea=(
        "The larger of two numbers is one of them plus the positive part of their difference. "
        "Eight candidates need three rounds."
    ),
)
def largest(X, relu):
    """Return the largest entry of each row of X, shape (n, 8) to (n,), as a ReLU network would.

    Use sums, differences, multiples and the function relu that is passed in, nothing else: no max,
    sort, abs, comparison. Entries may be negative.
    """
    while X.shape[1] > 1:
        a, b = X[:, ::2], X[:, 1::2]
        X = a + relu(b - a)
    return X[:, 0]


@largest.check
def of_positive_numbers(answer, rng):
    X = rng.uniform(1, 2, size=(7, 8))
    expect_close(answer(X, _relu), X.max(axis=1), what="the largest of eight positive numbers")


@largest.check
def of_negative_numbers(answer, rng):
    X = -rng.uniform(1, 2, size=(7, 8))
    expect_close(answer(X, _relu), X.max(axis=1), what="the largest of eight negative numbers")


@largest.check
def at_every_place(answer, rng):
    X = np.eye(8) - 0.3
    expect_close(answer(X, _relu), np.full(8, 0.7), what="the largest, at each place in turn")


@largest.check
def by_the_relu_that_was_passed(answer, rng):
    X = rng.normal(size=(5, 8))
    received = answer(X, lambda z: np.zeros_like(z))
    expect(
        not np.allclose(received, X.max(axis=1)),
        "with a relu that always returns 0 the largest is still found: something else found it",
    )


@largest.mistake(
    "Right for positive numbers. What is max(a, b) = relu(a − b) + relu(b) when both are negative?"
)
def loses_the_sign(X, relu):
    while X.shape[1] > 1:
        a, b = X[:, ::2], X[:, 1::2]
        X = relu(a - b) + relu(b)
    return X[:, 0]


@largest.mistake(
    "a + relu(a − b): try a = 3, b = 1. How much has to be added to a if b is the smaller one?"
)
def adds_the_wrong_difference(X, relu):
    while X.shape[1] > 1:
        a, b = X[:, ::2], X[:, 1::2]
        X = a + relu(a - b)
    return X[:, 0]


@largest.mistake("You compared neighbours once: four candidates are left. Go on until one is.")
def one_round_only(X, relu):
    a, b = X[:, ::2], X[:, 1::2]
    return (a + relu(b - a))[:, 0]


# --- 6 -------------------------------------------------------------------------------------


@exercise(
    "A two-bit adder",
    difficulty=4,
    minutes=35,
    section="hidden-layers-and-depth",
    because="the package has no threshold networks beyond one neuron",
    idea=(
        "Let hidden unit k say whether the sum is at least k. Each bit of the result switches "
        "on at some sums and off at others: give those units weights of 1 and −1."
    ),
)
def adder():
    """Return (W1, b1, W2, b2) of a threshold network that adds two numbers of two bits each.

    The input is (a₁, a₀, b₁, b₀), the output (s₂, s₁, s₀), highest bits first: 3 + 2 = 5 means
    (1, 1, 1, 0) ↦ (1, 0, 1). Both layers end in the step function (1 where the score is at least 0,
    else 0). W1 has shape (m, 4) with at most 6 hidden units, W2 has shape (3, m).
    """
    W1 = np.tile([2.0, 1.0, 2.0, 1.0], (6, 1))
    b1 = 0.5 - np.arange(1, 7)
    W2 = np.array([[0, 0, 0, 1, 0, 0], [0, 1, 0, -1, 0, 1], [1, -1, 1, -1, 1, -1.0]])
    return W1, b1, W2, np.full(3, -0.5)


_BITS = np.array(list(product((0.0, 1.0), repeat=4)))


def _threshold_network(layers, X):
    W1, b1, W2, b2 = layers
    hidden = (X @ W1.T + b1 >= 0).astype(float)
    return (hidden @ W2.T + b2 >= 0).astype(int)


@adder.check
def at_most_six_hidden_units(answer, rng):
    W1, b1, W2, b2 = answer()
    m = len(W1)
    expect(m <= 6, f"there are {m} hidden units, at most 6 are allowed")
    for array, shape, name in ((W1, (m, 4), "W1"), (b1, (m,), "b1"), (W2, (3, m), "W2")):
        expect_shape(array, shape, what=name)
    expect_shape(b2, (3,), what="b2")


@adder.check
def all_sixteen_sums(answer, rng):
    total = (_BITS @ [2, 1, 2, 1]).astype(int)
    expected = np.stack([total >> 2 & 1, total >> 1 & 1, total & 1], axis=1)
    received = _threshold_network(answer(), _BITS)
    wrong = np.flatnonzero((received != expected).any(axis=1))
    if wrong.size:
        a1, a0, b1, b0 = _BITS[wrong[0]].astype(int)
        expect(
            False,
            f"{wrong.size} of 16 sums are wrong; the first is {2 * a1 + a0} + {2 * b1 + b0}, "
            f"which gives {received[wrong[0]].tolist()}",
        )


@adder.mistake("Your hidden units count how many bits are on. But is a₁ worth as much as a₀?")
def counts_bits():
    W1, b1, W2, b2 = adder()
    return np.ones_like(W1), b1, W2, b2


@adder.mistake(
    "The sum 6 is 110 in binary. Which hidden unit switches the middle bit on again after 4 has "
    "switched it off?"
)
def middle_bit_stays_off():
    W1, b1, W2, b2 = adder()
    W2 = W2.copy()
    W2[1, 5] = 0
    return W1, b1, W2, b2


@adder.mistake(
    "Every unit switches one too late: a score of exactly what is needed does not reach it."
)
def one_too_late():
    W1, b1, W2, b2 = adder()
    return W1, b1 - 1, W2, b2
