"""Exercises of math-foundations/calculus.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import exercise, expect, expect_close, expect_shape
from chainrule.math_foundations.calculus import numerical_grad, numerical_jacobian


def _six_functions(x):
    return [
        x**3,
        x * np.exp(x),
        np.sin(x**2),
        1 / (1 + x**2),
        np.log(1 + np.exp(x)),
        np.tanh(3 * x),
    ]


@exercise(
    "Six derivatives",
    difficulty=1,
    minutes=15,
    section="derivatives-and-the-chain-rule",
    counterpart="chainrule.math_foundations.calculus:jvp",
    idea=(
        "Name the outer and the inner function, or the two factors, before you differentiate. "
        "Each expression needs one rule once."
    ),
)
def six_derivatives(x):
    """Return an array of six numbers: the derivatives at the number x of

    x³,   x·exp(x),   sin(x²),   1/(1 + x²),   log(1 + exp(x)),   tanh(3x).

    Derive each on paper first, with the product rule and the chain rule.
    """
    return np.array(
        [
            3 * x**2,
            (1 + x) * np.exp(x),
            2 * x * np.cos(x**2),
            -2 * x / (1 + x**2) ** 2,
            1 / (1 + np.exp(-x)),
            3 * (1 - np.tanh(3 * x) ** 2),
        ]
    )


@six_derivatives.by_package
def _(package, x):
    return package(lambda t: np.stack(_six_functions(t)), x, 1.0)


@six_derivatives.check
def at_zero(answer, rng):
    expect_close(answer(0.0), np.array([0, 1, 0, 0, 0.5, 3.0]), what="the derivatives at x = 0")


@six_derivatives.check
def against_central_differences(answer, rng):
    for x in (0.7, -1.3, *rng.normal(size=3)):
        measured = [numerical_grad(lambda t, k=k: _six_functions(t)[k], x) for k in range(6)]
        expect_close(
            answer(float(x)), np.array(measured), rtol=1e-6, atol=1e-8, what=f"at x = {x:.3f}"
        )


@six_derivatives.mistake(
    "A composite function lacks a factor. How fast does its inside, x² or 3x, move when x does?",
    missing=((2,), (5,), (2, 5)),
)
def forgets_the_inner_derivative(x, missing):
    right = six_derivatives(x)
    outer = {2: np.cos(x**2), 5: 1 - np.tanh(3 * x) ** 2}
    for place in missing:
        right[place] = outer[place]
    return right


@six_derivatives.mistake(
    "Your fifth number is the derivative of the logarithm. It stands at 1 + exp(x), which moves: "
    "how fast?"
)
def forgets_the_inside_of_the_logarithm(x):
    right = six_derivatives(x)
    right[4] = 1 / (1 + np.exp(x))
    return right


@six_derivatives.mistake(
    "x·exp(x) changes for two reasons, because either factor moves. Which of them did you count?"
)
def multiplies_the_derivatives(x):
    right = six_derivatives(x)
    right[1] = np.exp(x)
    return right


@six_derivatives.mistake(
    "Does 1/(1 + x²) rise or fall as x grows from 1? Compare with the sign of your fourth number."
)
def loses_the_sign_of_the_quotient(x):
    right = six_derivatives(x)
    right[3] = -right[3]
    return right


@six_derivatives.mistake(
    "Your fourth number is never zero. But 1/(1 + x²) has its peak at x = 0. What is the inside,"
    " and how fast does it move there?"
)
def forgets_the_inside_of_the_quotient(x):
    right = six_derivatives(x)
    right[3] = -1 / (1 + x**2) ** 2
    return right


@exercise(
    "Gradient of ridge regression",
    difficulty=2,
    minutes=15,
    section="three-gradients-worth-deriving",
    because="regression appears in the package only inside of tests and examples",
    idea=(
        "Expand the loss at x + h and keep what is linear in h. Then write that part as a dot "
        "product of something with h."
    ),
)
def ridge_gradient(A, b, x, lam):
    """Return the gradient with respect to x of ‖Ax − b‖² + lam·‖x‖².

    A has shape (m, n), b shape (m,), x and the gradient shape (n,); lam is a number.
    """
    return 2 * A.T @ (A @ x - b) + 2 * lam * x


@ridge_gradient.check
def by_hand(answer, rng):
    A, b, x = np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([1.0, 0.0]), np.array([3.0, 1.0])
    expect_close(answer(A, b, x, 0.5), np.array([11.0, 19.0]), what="the gradient")


@ridge_gradient.check
def more_rows_than_columns(answer, rng):
    for m, n in ((7, 3), (3, 5)):
        A, b, x = rng.normal(size=(m, n)), rng.normal(size=m), rng.normal(size=n)
        measured = numerical_grad(
            lambda p, A=A, b=b: ((A @ p - b) ** 2).sum() + 0.3 * (p**2).sum(), x
        )
        expect_close(
            answer(A, b, x, 0.3), measured, rtol=1e-6, atol=1e-7, what=f"the gradient for A {m}×{n}"
        )


@ridge_gradient.mistake(
    "Every entry is half as large as it should be. What is the derivative of t²?"
)
def forgets_the_two(A, b, x, lam):
    return A.T @ (A @ x - b) + lam * x


@ridge_gradient.mistake(
    "The first term is right. Expand lam·‖x + h‖² and look at what stands in front of h."
)
def halves_the_penalty(A, b, x, lam):
    return 2 * A.T @ (A @ x - b) + lam * x


@ridge_gradient.mistake(
    "Your residual passes through A once more. It has m entries and the gradient n: which matrix "
    "takes the one to the other?"
)
def forgets_the_transpose(A, b, x, lam):
    return 2 * A @ (A @ x - b) + 2 * lam * x


@ridge_gradient.mistake("Set lam to 0, then to 100: your answer does not move. Should it?")
def forgets_the_penalty(A, b, x, lam):
    return 2 * A.T @ (A @ x - b)


@ridge_gradient.mistake(
    "At lam = 0, a small step along the gradient should raise the error. Yours lowers it. "
    "Which way round is your residual?"
)
def residual_the_wrong_way_round(A, b, x, lam):
    return 2 * A.T @ (b - A @ x) + 2 * lam * x


@exercise(
    "The best rate",
    difficulty=2,
    minutes=15,
    section="what-a-gradient-step-may-assume",
    because="the package's gradient descent takes its rate from the caller",
    idea=(
        "Write the predicted change as a function of the rate alone: a gain, and what curvature "
        "takes back. Where is this parabola lowest?"
    ),
)
def best_rate(g, H):
    """Return an array of two numbers: the best rate, and the change that the quadratic predicts.

    At some point a loss has the gradient g, of shape (n,) and not zero, and the Hessian H, of shape
    (n, n), symmetric with positive eigenvalues. A step moves the weights by −rate·g. The best rate
    is the one with which the quadratic falls the most; the change is negative.
    """
    rate = (g @ g) / (g @ H @ g)
    return np.array([rate, -rate * (g @ g) / 2])


@best_rate.check
def along_one_axis(answer, rng):
    received = answer(np.array([2.0, 0.0]), np.array([[4.0, 0.0], [0.0, 1.0]]))
    expect_close(received, np.array([0.25, -0.5]), what="the rate and the change for g = (2, 0)")


@best_rate.check
def by_scanning_rates(answer, rng):
    for n in (2, 3, 5):
        A, g = rng.normal(size=(n, n)), rng.normal(size=n)
        H = A @ A.T + 0.3 * np.eye(n)
        rates = np.linspace(0, 4, 400_001)
        changes = -rates * (g @ g) + rates**2 * (g @ H @ g) / 2
        best = int(np.argmin(changes))
        expect_close(
            answer(g, H),
            np.array([rates[best], changes[best]]),
            rtol=1e-4,
            atol=2e-5,
            what=f"the rate and the change for n = {n}",
        )


@best_rate.check
def lower_than_its_neighbours(answer, rng):
    A, g = rng.normal(size=(7, 7)), 10 * rng.normal(size=7)
    H = A @ A.T + np.eye(7)
    rate, change = answer(g, H)
    for factor in (0.9, 1.1):
        other = -factor * rate * (g @ g) + (factor * rate) ** 2 * (g @ H @ g) / 2
        expect(change < other, f"at {factor} times your rate the quadratic changes by {other:.3f}")


def _change(rate, g, H):
    return np.array([rate, -rate * (g @ g) + rate**2 * (g @ H @ g) / 2])


@best_rate.mistake(
    "That is the border beyond which the quadratic may rise. The best rate lies below it, and "
    "depends on how much curvature the gradient meets."
)
def the_border(g, H):
    return _change(2 / np.linalg.eigvalsh(H)[-1], g, H)


@best_rate.mistake(
    "You took the largest curvature there is. Only the curvature along the gradient matters for "
    "this step: how large is that?"
)
def largest_curvature(g, H):
    return _change(1 / np.linalg.eigvalsh(H)[-1], g, H)


@best_rate.mistake(
    "At your rate curvature takes back the whole gain. Differentiate the square of the rate: what "
    "does it bring down?"
)
def takes_everything_back(g, H):
    return _change(2 * (g @ g) / (g @ H @ g), g, H)


@best_rate.mistake(
    "Your rate is half as long as it should be. In the quadratic the curvature has a factor ½: "
    "what becomes of it when you differentiate?"
)
def half_the_rate(g, H):
    return _change((g @ g) / (2 * (g @ H @ g)), g, H)


@best_rate.mistake(
    "Your rate is right. For the change you counted the gain alone: what does curvature take back?"
)
def gain_alone(g, H):
    rate = (g @ g) / (g @ H @ g)
    return np.array([rate, -rate * (g @ g)])


@best_rate.mistake("Your rate is right. Does the loss rise or fall there? Check the sign.")
def wrong_sign(g, H):
    return best_rate(g, H) * np.array([1, -1])


@best_rate.mistake(
    "Your quotient is upside down: more curvature would call for a larger step.",
)
def upside_down(g, H):
    return _change((g @ H @ g) / (g @ g), g, H)


@exercise(
    "The best step",
    difficulty=3,
    minutes=20,
    section="measuring-a-derivative",
    because="numerical_grad uses a fixed rule for its step, without the constant c",
    idea=(
        "The two terms pull h in opposite directions. At the best h the total no longer "
        "changes: its derivative by h is zero."
    ),
)
def best_step(eps, order, c):
    """Return the step h > 0 with the smallest total error c·h^order + eps/h.

    The first term is what the difference formula neglects (order 1 for the forward, 2 for the
    central difference; c depends on the function), the second is rounding.
    """
    return (eps / (order * c)) ** (1 / (order + 1))


@best_step.check
def by_scanning(answer, rng):
    for eps, order, c in ((2.2e-16, 1, 0.5), (2.2e-16, 2, 0.2), (1.2e-7, 2, 3.0)):
        steps = np.geomspace(eps, 1, 200_001)
        best = steps[np.argmin(c * steps**order + eps / steps)]
        expect_close(
            answer(eps, order, c),
            float(best),
            rtol=1e-3,
            what=f"the step for order {order}, c = {c}",
        )


@best_step.check
def exponent_of_eps(answer, rng):
    for order, exponent in ((1, 1 / 2), (2, 1 / 3)):
        ratio = answer(1e-8, order, 1.0) / answer(1e-16, order, 1.0)
        expect_close(
            float(np.log10(ratio) / 8),
            exponent,
            rtol=1e-3,
            what=f"the exponent of eps, order {order}",
        )


@best_step.check
def good_on_the_sine(answer, rng):
    h = answer(np.finfo(float).eps, 2, np.cos(1) / 6)
    error = abs(float(numerical_grad(np.sin, 1.0, h=h)) - np.cos(1))
    expect(
        error < 1e-10, f"a central difference of sin at 1 with your h = {h:.1e} errs by {error:.0e}"
    )


@best_step.mistake(
    "You made the two errors equal. Their sum is least where its derivative vanishes: close to "
    "there, but not there. What does differentiating h^order bring down?"
)
def equal_errors(eps, order, c):
    return (eps / c) ** (1 / (order + 1))


@best_step.mistake(
    "Your exponent is too large. Write the condition again: after differentiating, one side has "
    "h^(order−1), the other 1/h². Collect the powers of h."
)
def forgets_one_power(eps, order, c):
    return (eps / (order * c)) ** (1 / order)


@best_step.mistake(
    "The factor that differentiating brings down stands on the wrong side. Put your h into the "
    "derivative of the total error: is it 0?"
)
def multiplies_by_the_order(eps, order, c):
    return (order * eps / c) ** (1 / (order + 1))


@best_step.mistake(
    "Right for the forward difference. For order 2 another root is needed: collect the powers of "
    "h again."
)
def always_the_square_root(eps, order, c):
    return np.sqrt(eps / (order * c))


@best_step.mistake(
    "Your step does not depend on c. Where the function bends more, h must be smaller: where did "
    "c go?"
)
def leaves_c_out(eps, order, c):
    return (eps / order) ** (1 / (order + 1))


@best_step.mistake("You took h as small as the numbers allow. How large is eps/h then?")
def as_small_as_possible(eps, order, c):
    return eps


@best_step.mistake(
    "That is the page's rule of thumb. Here the size of the function's bend is known: c moves the "
    "step, and so does the power that differentiating brings down."
)
def by_the_rule_of_thumb(eps, order, c):
    return eps ** (1 / (order + 1))


@exercise(
    "Dual numbers",
    difficulty=3,
    minutes=30,
    section="exact-derivatives-without-a-formula-dual-numbers",
    because="the package's Dual holds arrays and hooks into NumPy; it names its slope derivative",
    idea=(
        "Calculate with value + slope·ε as with a polynomial in ε, and drop every ε². What "
        "stands in front of ε at the end is the new slope."
    ),
)
class Pair:
    """Carry a derivative beside every value: the page's Pair, with division and tanh.

    Pair(value, slope) has the attributes value and slope, supports +, * and / between two Pairs,
    and has the methods exp() and tanh(). Each returns a new Pair. Use np.exp and np.tanh.
    """

    def __init__(self, value, slope):
        self.value, self.slope = value, slope

    def __add__(self, other):
        return type(self)(self.value + other.value, self.slope + other.slope)

    def __mul__(self, other):
        slope = self.slope * other.value + self.value * other.slope
        return type(self)(self.value * other.value, slope)

    def __truediv__(self, other):
        value = self.value / other.value
        return type(self)(value, (self.slope - value * other.slope) / other.value)

    def exp(self):
        value = np.exp(self.value)
        return type(self)(value, value * self.slope)

    def tanh(self):
        value = np.tanh(self.value)
        return type(self)(value, (1 - value**2) * self.slope)


def _expect_pair(received, value, slope, what):
    expect(
        hasattr(received, "value") and hasattr(received, "slope"),
        f"{what} should be a Pair with the attributes value and slope",
    )
    expect_close(received.value, value, what=f"the value of {what}")
    expect_close(received.slope, slope, what=f"the slope of {what}")


@Pair.check
def sum_and_product(answer, rng):
    _expect_pair(answer(2.0, 3.0) + answer(5.0, 7.0), 7.0, 10.0, "(2 + 3ε) + (5 + 7ε)")
    _expect_pair(answer(2.0, 3.0) * answer(5.0, 7.0), 10.0, 29.0, "(2 + 3ε)(5 + 7ε)")


@Pair.check
def quotient(answer, rng):
    _expect_pair(answer(2.0, 3.0) / answer(4.0, 8.0), 0.5, -0.25, "(2 + 3ε)/(4 + 8ε)")


@Pair.check
def exp_and_tanh(answer, rng):
    _expect_pair(answer(0.0, 3.0).exp(), 1.0, 3.0, "exp(0 + 3ε)")
    tanh = np.tanh(0.5)
    _expect_pair(answer(0.5, 2.0).tanh(), tanh, 2 * (1 - tanh**2), "tanh(0.5 + 2ε)")


@Pair.check
def ten_layers(answer, rng):
    weight, out, slope, value = answer(1.3, 0.0), answer(0.7, 1.0), 1.0, 0.7
    for _ in range(10):
        out = (weight * out).tanh()
        slope *= 1.3 * (1 - np.tanh(1.3 * value) ** 2)
        value = np.tanh(1.3 * value)
    expect_close(out.slope, slope, rtol=1e-12, what="the derivative of ten layers tanh(1.3·x)")


@Pair.mistake(
    "Multiply (a + a'ε)(b + b'ε) out and keep what has one ε. Two products are left; you kept one "
    "product of two slopes."
)
class MultipliesTheSlopes(Pair.solution):
    def __mul__(self, other):
        return type(self)(self.value * other.value, self.slope * other.slope)


@Pair.mistake(
    "Raise only the denominator: the quotient should fall. In yours it rises. Check the sign of "
    "the part that belongs to the denominator."
)
class AddsInTheQuotient(Pair.solution):
    def __truediv__(self, other):
        value = self.value / other.value
        return type(self)(value, (self.slope + value * other.slope) / other.value)


@Pair.mistake(
    "Divide 3ε by 2, by hand and with your class: they disagree, though only sizes are wrong. How"
    " often does the quotient rule divide by the denominator?"
)
class ForgetsToSquareTheDenominator(Pair.solution):
    def __truediv__(self, other):
        slope = self.slope * other.value - self.value * other.slope
        return type(self)(self.value / other.value, slope / other.value)


@Pair.mistake(
    "Raise only the numerator: the quotient should rise. In yours it falls, and the denominator's "
    "share has the wrong sign too. Which product comes first?"
)
class ExchangesTheTermsOfTheQuotient(Pair.solution):
    def __truediv__(self, other):
        slope = self.value * other.slope - self.slope * other.value
        return type(self)(self.value / other.value, slope / other.value**2)


@Pair.mistake(
    "exp has the right derivative in its argument. But the argument moves at its own speed, and "
    "exp has lost it."
)
class LosesTheSlopeInExp(Pair.solution):
    def exp(self):
        return type(self)(np.exp(self.value), np.exp(self.value))


@Pair.mistake(
    "tanh has the right derivative in its argument. But the argument moves at its own speed, and "
    "tanh has lost it."
)
class LosesTheSlopeInTanh(Pair.solution):
    def tanh(self):
        return type(self)(np.tanh(self.value), 1 - np.tanh(self.value) ** 2)


@Pair.mistake("In the slope of tanh you squared what went in. Whose square belongs there?")
class SquaresTheInputOfTanh(Pair.solution):
    def tanh(self):
        return type(self)(np.tanh(self.value), (1 - self.value**2) * self.slope)


@Pair.mistake(
    "exp and tanh have the right derivative in their argument. But their argument moves at its own "
    "speed, and you have lost it."
)
class ForgetsTheIncomingSlope(Pair.solution):
    def exp(self):
        return type(self)(np.exp(self.value), np.exp(self.value))

    def tanh(self):
        return type(self)(np.tanh(self.value), 1 - np.tanh(self.value) ** 2)


@Pair.mistake(
    "You divide slope by slope. What does the quotient of two functions do when only the numerator "
    "moves, so that the other slope is 0?"
)
class DividesTheSlopes(Pair.solution):
    def __truediv__(self, other):
        return type(self)(self.value / other.value, self.slope / other.slope)


@Pair.mistake(
    "In the slope of exp you put the slope into the exponential. f'(a)·a' takes f' at the value."
)
class ExponentOfTheSlope(Pair.solution):
    def exp(self):
        return type(self)(np.exp(self.value), np.exp(self.slope))


@Pair.mistake(
    "Far out tanh is flat on both sides. Yours has the slope 2 at −5. What is squared in its "
    "derivative?"
)
class ForgetsTheSquareInTanh(Pair.solution):
    def tanh(self):
        value = np.tanh(self.value)
        return type(self)(value, (1 - value) * self.slope)


@exercise(
    "Hessian times vector",
    difficulty=3,
    minutes=20,
    section="the-hessian-times-a-vector-without-the-hessian",
    counterpart="chainrule.math_foundations.calculus:hvp",
    idea=(
        "The gradient at a point a little along v differs from the gradient at x by the Hessian "
        "times that little step. Look from both sides, a fixed distance away whatever the "
        "length of v."
    ),
)
def hessian_times(grad_f, x, v):
    """Return H·v to a relative error of 1e-6, H being the Hessian at x of the function f.

    grad_f(x) returns the gradient of f, and it is all that you may call; twice is enough. x and v
    have shape (n,), and v may be short or long, but is not zero.
    """
    length = np.linalg.norm(v)
    h = 1e-5 / length
    return (grad_f(x + h * v) - grad_f(x - h * v)) / (2 * h)


def _quartic_gradient(x):
    return 4 * (x @ x) * x


@hessian_times.check
def of_a_quadratic(answer, rng):
    A = np.array([[2.0, 1.0], [1.0, 3.0]])
    v = np.array([1.0, -1.0])
    received = answer(lambda p: A @ p, np.array([0.5, 0.2]), v)
    expect_close(received, A @ v, rtol=1e-6, what="H·v for a quadratic with H = [[2, 1], [1, 3]]")


@hessian_times.check
def of_a_quartic(answer, rng):
    x, v = rng.normal(size=5), rng.normal(size=5)
    expected = 4 * (x @ x) * v + 8 * x * (x @ v)
    received = answer(_quartic_gradient, x, v)
    expect_close(received, expected, rtol=1e-3, what="H·v of (x·x)²")
    error = np.abs(received - expected).max() / np.abs(expected).max()
    expect(
        error < 1e-6,
        f"H·v of (x·x)² has a relative error of {error:.0e}, 1e-6 is asked for: which difference's"
        " error falls faster with h, and which h suits it?",
    )


@hessian_times.check
def long_and_short_v(answer, rng):
    x, v = rng.normal(size=5), rng.normal(size=5)
    expected = 4 * (x @ x) * v + 8 * x * (x @ v)
    for factor in (1e4, 1e-4):
        expect_close(
            answer(_quartic_gradient, x, factor * v),
            factor * expected,
            rtol=1e-6,
            atol=0,
            what=f"H·v for v {factor:g} times longer (how far from x is x + h·v then?)",
        )


@hessian_times.check
def two_gradients_are_enough(answer, rng):
    calls = []

    def counted(point):
        calls.append(1)
        return _quartic_gradient(point)

    answer(counted, np.ones(50), np.ones(50))
    expect(len(calls) <= 4, f"grad_f was called {len(calls)} times for n = 50; two are enough")


@hessian_times.mistake("Every entry is twice too large. How far apart are your two points?")
def divides_by_one_step(grad_f, x, v):
    h = 1e-5 / np.linalg.norm(v)
    return (grad_f(x + h * v) - grad_f(x - h * v)) / h


@hessian_times.mistake(
    "Nearly right. You look ahead from x only, so the error falls like h, and your h suits a "
    "difference whose error falls like h². Change one of the two."
)
def looks_ahead_only(grad_f, x, v):
    h = 1e-5 / np.linalg.norm(v)
    return (grad_f(x + h * v) - grad_f(x)) / h


@hessian_times.mistake(
    "The direction is right, the length is not: it does not grow with v. What did normalizing v "
    "take away?"
)
def forgets_the_length_of_v(grad_f, x, v):
    unit = v / np.linalg.norm(v)
    return (grad_f(x + 1e-5 * unit) - grad_f(x - 1e-5 * unit)) / 2e-5


@hessian_times.mistake(
    "You moved all coordinates alike and multiplied by v afterwards, entry by entry. A Hessian "
    "mixes coordinates: along which vector should the step go?"
)
def multiplies_entry_by_entry(grad_f, x, v):
    return (grad_f(x + 1e-5) - grad_f(x - 1e-5)) / 2e-5 * v


@hessian_times.mistake(
    "Right for an ordinary v, wrong for a very long or short one. How far from x do you look when "
    "v is 10,000 long?"
)
def same_multiple_for_every_v(grad_f, x, v):
    return (grad_f(x + 1e-5 * v) - grad_f(x - 1e-5 * v)) / 2e-5


@exercise(
    "Jacobian of a unit vector",
    difficulty=3,
    minutes=25,
    section="jacobians-for-understanding-backprop",
    counterpart="chainrule.math_foundations.calculus:numerical_jacobian",
    idea=(
        "The map is a product: x times 1/length. Both factors depend on x, so the product rule "
        "gives two terms, a multiple of the identity and an outer product."
    ),
)
def unit_jacobian(x):
    """Return the Jacobian at x, of shape (n, n), of the map that divides x by its length.

    x has shape (n,) and is not zero. No differences: derive the formula.
    """
    length = np.sqrt(x @ x)
    unit = x / length
    return (np.eye(x.size) - np.outer(unit, unit)) / length


@unit_jacobian.by_package
def _(package, x):
    return package(lambda p: p / np.sqrt(p @ p), x, scheme="complex")


@unit_jacobian.check
def at_three_four(answer, rng):
    expected = np.array([[0.128, -0.096], [-0.096, 0.072]])
    expect_close(answer(np.array([3.0, 4.0])), expected, what="the Jacobian at (3, 4)")


@unit_jacobian.check
def against_central_differences_too(answer, rng):
    x = rng.normal(size=5)
    measured = numerical_jacobian(lambda p: p / np.sqrt(p @ p), x)
    received = answer(x)
    expect_shape(received, (5, 5), what="the Jacobian")
    expect_close(received, measured, rtol=1e-6, atol=1e-7, what="the Jacobian")


@unit_jacobian.check
def longer_vectors_turn_less(answer, rng):
    x = rng.normal(size=4)
    expect_close(
        answer(10 * x), answer(x) / 10, what="the Jacobian at 10·x, against a tenth of that at x"
    )


@unit_jacobian.check
def loses_exactly_one_direction(answer, rng):
    x = rng.normal(size=6)
    received = answer(x)
    expect_close(received @ x, np.zeros(6), atol=1e-12, what="J·x (lengthening x changes nothing)")
    rank = np.linalg.matrix_rank(received)
    expect(rank == 5, f"the rank should be n − 1 = 5, but is {rank}")


@unit_jacobian.mistake(
    "You held the length constant. But it depends on every entry of x: what does the product "
    "rule add?"
)
def length_held_constant(x):
    return np.eye(x.size) / np.sqrt(x @ x)


@unit_jacobian.mistake(
    "The projection is right, its size is not. How far does the unit vector turn if x is ten times "
    "longer and the nudge the same?"
)
def forgets_one_over_length(x):
    unit = x / np.sqrt(x @ x)
    return np.eye(x.size) - np.outer(unit, unit)


@unit_jacobian.mistake(
    "You took the outer product of x itself. What you take away should not grow with x: which "
    "vector of length 1 belongs there?"
)
def takes_the_long_outer_product(x):
    return (np.eye(x.size) - np.outer(x, x)) / np.sqrt(x @ x)


@unit_jacobian.mistake(
    "Lengthening x does not move the unit vector, so J·x must be 0. Yours doubles it. Check the "
    "sign of the second term: does 1/length rise or fall?"
)
def adds_the_second_term(x):
    length = np.sqrt(x @ x)
    unit = x / length
    return (np.eye(x.size) + np.outer(unit, unit)) / length


@unit_jacobian.mistake(
    "Off the diagonal you have zeros. Does the first entry of the unit vector not change when the "
    "second entry of x grows?"
)
def diagonal_only(x):
    return np.diag(np.diag(unit_jacobian(x)))


@unit_jacobian.mistake(
    "Your first term is right. Multiply your matrix by x: lengthening x does not move the unit "
    "vector, so J·x must be 0. What is the derivative of 1/length by length?"
)
def one_power_short(x):
    length = np.sqrt(x @ x)
    return np.eye(x.size) / length - np.outer(x, x) / length**2
