"""Exercises of math-foundations/probability.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import exercise, expect, expect_close, expect_shape
from chainrule.math_foundations.calculus import numerical_grad
from chainrule.math_foundations.probability import softmax


@exercise(
    "Two positive tests",
    difficulty=1,
    minutes=10,
    section="conditional-probability-and-bayes-theorem",
    counterpart="chainrule.math_foundations.probability:bayes_posterior",
    idea=(
        "Imagine a town. Count the sick who test positive every time, and the healthy who do. "
        "What share of all of these are sick?"
    ),
)
def posterior_after(tests, prevalence, sensitivity, specificity):
    """Return the probability that a person is sick after this many tests, all of them positive.

    prevalence is the share of sick people. A test is positive with probability sensitivity for a
    sick person, and negative with probability specificity for a healthy one. Given the person's
    health, the tests are independent.
    """
    sick = prevalence * sensitivity**tests
    healthy = (1 - prevalence) * (1 - specificity) ** tests
    return sick / (sick + healthy)


@posterior_after.by_package
def _(package, tests, prevalence, sensitivity, specificity):
    likelihood = np.array([sensitivity**tests, (1 - specificity) ** tests])
    return package(np.array([prevalence, 1 - prevalence]), likelihood)[0]


@posterior_after.check
def one_test_of_the_page(answer, rng):
    expect_close(answer(1, 0.01, 0.99, 0.95), 1 / 6, what="the probability after one positive test")


@posterior_after.check
def two_tests(answer, rng):
    expect_close(
        answer(2, 0.01, 0.99, 0.95),
        0.798,
        rtol=1e-3,
        what="the probability after two positive tests",
    )


@posterior_after.check
def no_test_leaves_the_prevalence(answer, rng):
    expect_close(answer(0, 0.2, 0.9, 0.7), 0.2, what="the probability before any test")


@posterior_after.check
def a_simulated_town(answer, rng):
    sick = rng.random(400_000) < 0.1
    rate = np.where(sick, 0.8, 0.3)
    positive = np.all(rng.random((3, sick.size)) < rate, axis=0)
    expect_close(
        answer(3, 0.1, 0.8, 0.7),
        float(sick[positive].mean()),
        atol=0.02,
        what="the probability in a simulated town",
    )


@posterior_after.mistake(
    "You returned how likely the evidence is if the person is sick. The question is the other way "
    "round: among the people with this evidence, how many are sick?"
)
def swaps_the_condition(tests, prevalence, sensitivity, specificity):
    return sensitivity**tests


@posterior_after.mistake(
    "Your answer would be right if half of all people were sick. Where does the prevalence enter?"
)
def forgets_the_prior(tests, prevalence, sensitivity, specificity):
    sick = sensitivity**tests
    return sick / (sick + (1 - specificity) ** tests)


@posterior_after.mistake(
    "How often is a healthy person positive? The specificity tells how often they are negative."
)
def takes_specificity_for_positives(tests, prevalence, sensitivity, specificity):
    sick = prevalence * sensitivity**tests
    return sick / (sick + (1 - prevalence) * specificity**tests)


@posterior_after.mistake(
    "That is the share of all people who are sick and test positive. The question is about those "
    "who test positive: what share of all people are they?"
)
def never_divides(tests, prevalence, sensitivity, specificity):
    return prevalence * sensitivity**tests


@posterior_after.mistake(
    "Right for one test; further tests change nothing in your answer. Each of them multiplies the "
    "odds again."
)
def counts_one_test(tests, prevalence, sensitivity, specificity):
    sick = prevalence * sensitivity
    return sick / (sick + (1 - prevalence) * (1 - specificity))


@exercise(
    "A logarithm that survives",
    difficulty=2,
    minutes=15,
    section="softmax-as-probability-distribution",
    counterpart="chainrule.math_foundations.probability:logsumexp",
    idea=(
        "A factor that all terms share can be taken out of the sum, and leaves the logarithm as "
        "a summand. Choose the factor so that the largest exponential becomes 1, in each row by "
        "itself."
    ),
)
def log_sum_exp(x):
    """Return log Σ exp(x) along the last axis, finite and precise for entries from −1,000 to 1,000.

    x has shape (…, n), and the result shape (…): a row of n numbers becomes one number.
    """
    top = x.max(axis=-1, keepdims=True)
    return top[..., 0] + np.log(np.exp(x - top).sum(axis=-1))


@log_sum_exp.by_package
def _(package, x):
    return package(x)


@log_sum_exp.in_package
def _(mine, x, axis=-1, keepdims=False):
    result = mine(np.moveaxis(x, axis, -1))
    return np.expand_dims(result, axis) if keepdims else result


@log_sum_exp.check
def of_one_two_three(answer, rng):
    with np.errstate(all="ignore"):
        received = answer(np.array([1.0, 2.0, 3.0]))
    expect_close(received, 3.40760596444, what="logsumexp of (1, 2, 3)")


@log_sum_exp.check
def at_a_thousand(answer, rng):
    for size in (1000.0, -1000.0):
        with np.errstate(all="ignore"):
            received = answer(np.array([size, size]))
        expect_close(
            received, size + np.log(2), rtol=1e-12, what=f"logsumexp of two times {size:g}"
        )


@log_sum_exp.check
def rows_far_apart(answer, rng):
    x = rng.normal(size=(3, 5))
    shift = np.array([[0.0], [-1000.0], [1000.0]])
    expected = np.log(np.exp(x).sum(axis=-1)) + shift[:, 0]
    with np.errstate(all="ignore"):
        received = answer(x + shift)
    expect_shape(received, (3,), what="logsumexp of three rows")
    expect_close(received, expected, rtol=1e-12, what="logsumexp of three rows far apart")


@log_sum_exp.mistake(
    "You add everything up into one number. Every row should become one: along which axis do you "
    "add, and along which do you look for the largest?"
)
def adds_all_rows(x):
    top = x.max()
    return top + np.log(np.exp(x - top).sum())


@log_sum_exp.mistake(
    "The numbers are right, but an axis of size 1 is left over. It was needed to subtract; is it "
    "wanted in the result?"
)
def keeps_the_axis(x):
    top = x.max(axis=-1, keepdims=True)
    return top + np.log(np.exp(x - top).sum(axis=-1, keepdims=True))


@log_sum_exp.mistake("What is exp(1000) in float64, and what is the logarithm of exp(-1000)?")
def as_written(x):
    return np.log(np.exp(x).sum(axis=-1))


@log_sum_exp.mistake(
    "Shifting the inputs by m shifts the result by m. You took it away; who puts it back?"
)
def never_adds_the_maximum_again(x):
    return np.log(np.exp(x - x.max(axis=-1, keepdims=True)).sum(axis=-1))


@log_sum_exp.mistake(
    "Right for one row, and for rows of similar size. One maximum for all of them leaves a row "
    "that lies 1,000 lower with nothing but zeros."
)
def one_maximum_for_all_rows(x):
    top = x.max()
    return top + np.log(np.exp(x - top).sum(axis=-1))


@exercise(
    "Gradient of the mean surprise",
    difficulty=2,
    minutes=20,
    section="the-derivative",
    counterpart="chainrule.training.loss_functions:_cross_entropy",
    idea=(
        "For one example the gradient is the predicted distribution minus the wanted one. The "
        "mean over the batch shares a factor out among the rows."
    ),
)
def nll_gradient(logits, targets):
    """Return the gradient for the logits of a batch's mean negative log-likelihood.

    logits has shape (B, C), targets shape (B,) with classes from 0 to C − 1. The mean is over the
    B examples of −log softmax(logits)[target]. The gradient has shape (B, C).
    """
    p = softmax(logits)
    p[np.arange(len(targets)), targets] -= 1
    return p / len(targets)


@nll_gradient.by_package
def _(package, logits, targets):
    rows, classes = np.ones(len(logits)), np.ones(logits.shape[1])
    _, vjp = package(
        logits,
        ids=targets,
        share=rows,
        counted=rows,
        smoothing=0.0,
        weights=classes,
        z_loss=0.0,
        divisor=len(rows),
    )
    return vjp(rows)[0]


def _mean_nll(logits, targets):
    return -np.mean(np.log(softmax(logits))[np.arange(len(targets)), targets])


@nll_gradient.check
def logits_one_two_three(answer, rng):
    expect_close(
        answer(np.array([[1.0, 2.0, 3.0]]), np.array([0])),
        softmax(np.array([[1.0, 2.0, 3.0]])) - np.array([[1.0, 0.0, 0.0]]),
        what="the gradient at logits (1, 2, 3) for class 0",
    )


@nll_gradient.check
def batch_against_differences(answer, rng):
    logits, targets = rng.normal(size=(5, 3)), rng.integers(0, 3, size=5)
    measured = numerical_grad(lambda z: _mean_nll(z, targets), logits)
    expect_close(
        answer(logits, targets),
        measured,
        rtol=1e-6,
        atol=1e-8,
        what="the gradient for five examples",
    )


@nll_gradient.check
def rows_sum_to_zero(answer, rng):
    logits, targets = rng.normal(size=(7, 5)), rng.integers(0, 5, size=7)
    expect_close(
        answer(logits, targets).sum(axis=1), np.zeros(7), atol=1e-12, what="the sum of each row"
    )


@nll_gradient.mistake(
    "Your step along the gradient makes the target less surprising. The gradient of a loss points "
    "to where it grows. Which sign has the negative log-likelihood?"
)
def gradient_of_the_likelihood(logits, targets):
    return (np.eye(logits.shape[1])[targets] - softmax(logits)) / len(targets)


@nll_gradient.mistake(
    "Right for one example, and for a sum over examples. The loss is their mean: what does that "
    "divide the gradient by?"
)
def sums_over_the_batch(logits, targets):
    return softmax(logits) - np.eye(logits.shape[1])[targets]


@nll_gradient.mistake(
    "You divided by the number of entries. The mean is over examples, and each has C logits."
)
def divides_by_all_entries(logits, targets):
    return (softmax(logits) - np.eye(logits.shape[1])[targets]) / logits.size


@nll_gradient.mistake(
    "You divided by the number of classes. The mean is over the examples: how many rows are there?"
)
def divides_by_the_classes(logits, targets):
    return (softmax(logits) - np.eye(logits.shape[1])[targets]) / logits.shape[1]


@nll_gradient.mistake(
    "You took 1 from whole columns. Each row has one target of its own: an index needs the row "
    "beside the class."
)
def subtracts_from_whole_columns(logits, targets):
    p = softmax(logits)
    p[:, targets] -= 1
    return p / len(targets)


@nll_gradient.mistake(
    "Your softmax runs down the batch, so that examples compete with each other. Which numbers "
    "should add up to 1?"
)
def softmax_over_the_batch(logits, targets):
    return (softmax(logits, axis=0) - np.eye(logits.shape[1])[targets]) / len(targets)


@nll_gradient.mistake(
    "The sum of each row should be 0, because raising all logits changes nothing. Which entry of "
    "the gradient differs from the others in form?"
)
def forgets_the_target(logits, targets):
    return softmax(logits) / len(targets)


@exercise(
    "The race",
    difficulty=3,
    minutes=20,
    section="sampling-by-noise-the-gumbel-max-trick",
    because="gumbel_max_sample draws its noise by rng.gumbel, so equal generators give other draws",
    idea=(
        "Gumbel noise is what remains of a uniform number after two logarithms, each with its "
        "minus. Every draw needs fresh noise for every class."
    ),
)
def sample_by_noise(logits, n, rng):
    """Return n independent draws from softmax(logits), by the Gumbel-max trick.

    The trick: add independent noise of the right kind to the logits, and the class with the
    largest sum is the draw. logits has shape (C,), and the result is an integer array of shape
    (n,). The noise must come from rng, a numpy.random.Generator: rng.random gives uniform numbers
    in [0, 1).
    """
    uniform = rng.random((n, logits.size))
    return np.argmax(logits - np.log(-np.log(uniform)), axis=1)


class _Noise(np.random.Generator):
    def __init__(self, seed):
        super().__init__(np.random.PCG64(seed))

    def choice(self, *args, **kwargs):
        raise ValueError("rng.choice draws by itself: add noise to the logits")

    multinomial = choice


def _chi_square(draws, p):
    expected = p * draws.size
    return float((((np.bincount(draws, minlength=p.size) - expected) ** 2) / expected).sum())


@sample_by_noise.check
def shape_and_range(answer, rng):
    draws = answer(np.array([0.0, 1.0, 2.0]), 50, rng)
    expect_shape(draws, (50,), what="the draws")
    kind = np.asarray(draws).dtype.kind
    expect(kind in "iu", f"the draws should be integers, but have dtype kind {kind!r}")


@sample_by_noise.check
def all_chance_comes_from_rng(answer, rng):
    seed = int(rng.integers(2**32))
    first, second = (answer(np.zeros(5), 500, _Noise(seed)) for _ in range(2))
    expect_close(
        (first == second).mean(), 1.0, what="the share of equal draws from two equal generators"
    )


@sample_by_noise.check
def chi_square_of_a_hundred_thousand(answer, rng):
    logits = np.array([1.0, 2.0, 3.0, 0.0])
    draws = answer(logits, 100_000, rng)
    distance = _chi_square(draws, softmax(logits))
    shares = (np.bincount(draws, minlength=4) / draws.size).round(3)
    expect(
        distance < 16.3,  # exceeded once in 1,000 by a right answer with 3 degrees of freedom
        f"your shares are {shares}, the softmax is {softmax(logits).round(3)}: "
        f"chi-square {distance:.0f}, where chance alone stays below 16.3",
    )


@sample_by_noise.check
def draws_are_independent(answer, rng):
    draws = answer(np.zeros(2), 20_000, rng)
    agree = float(np.mean(draws[1:] == draws[:-1]))
    expect(abs(agree - 0.5) < 0.02, f"neighbouring draws agree in {agree:.0%}, not in half")


@sample_by_noise.mistake(
    "You added uniform noise. It is bounded, so a logit that lies more than 1 behind never wins."
)
def uniform_noise(logits, n, rng):
    return np.argmax(logits + rng.random((n, logits.size)), axis=1)


@sample_by_noise.mistake(
    "You added normal noise. With it the largest sum is a draw from another distribution: the "
    "proof needs a noise whose distribution function is exp(−exp(−z))."
)
def normal_noise(logits, n, rng):
    return np.argmax(logits + rng.normal(size=(n, logits.size)), axis=1)


@sample_by_noise.mistake(
    "Your noise is −log u, which is exponential: one logarithm short. In the race it is the time "
    "e^−(x + noise) that must be exponential."
)
def one_logarithm(logits, n, rng):
    return np.argmax(logits - np.log(rng.random((n, logits.size))), axis=1)


@sample_by_noise.mistake(
    "Your noise has the wrong sign. Gumbel noise has its long tail on the side of large values. "
    "With two classes the difference would not show; with more it does."
)
def wrong_sign(logits, n, rng):
    return np.argmax(logits + np.log(-np.log(rng.random((n, logits.size)))), axis=1)


@sample_by_noise.mistake(
    "You added the noise to the probabilities. The trick is about logits: where does e^x come from "
    "in its proof?"
)
def noise_on_probabilities(logits, n, rng):
    uniform = rng.random((n, logits.size))
    return np.argmax(softmax(logits) - np.log(-np.log(uniform)), axis=1)


@sample_by_noise.mistake("All of your draws are equal. Each needs noise of its own.")
def one_noise_for_all_draws(logits, n, rng):
    winner = np.argmax(logits - np.log(-np.log(rng.random(logits.size))))
    return np.full(n, winner)


@exercise(
    "How far can you lean?",
    difficulty=3,
    minutes=25,
    section="importance-sampling",
    counterpart="chainrule.math_foundations.probability:importance_weights",
    idea=(
        "Multiplying all weights by one number changes nothing, so subtract the largest "
        "logarithm before you exponentiate. Then compare the square of the sum with the sum of "
        "the squares."
    ),
)
def effective_share(log_p, log_q):
    """Return the effective sample size of importance weights as a share of the sample, in (0, 1].

    log_p and log_q have shape (n,): the log densities of the target and of the proposal at n draws
    from the proposal. Both may lie near −5,000, and each may lack a constant (a density that is
    not normalized): the share must not depend on that. For two normal densities of variance 1 the
    share falls under 10 % where their means are 1.5 apart.
    """
    w = np.exp(log_p - log_q - np.max(log_p - log_q))
    return w.sum() ** 2 / (w**2).sum() / w.size


@effective_share.by_package
def _(package, log_p, log_q):
    return package(lambda x: log_p, lambda x: log_q, log_p)[1] / len(log_p)


@effective_share.check
def four_weights(answer, rng):
    w = np.array([1.0, 2.0, 3.0, 4.0])
    with np.errstate(all="ignore"):
        received = answer(np.log(w), np.zeros(4))
    expect_close(received, 100 / 30 / 4, what="the share for weights 1, 2, 3, 4")


@effective_share.check
def equal_weights(answer, rng):
    x = rng.normal(size=50)
    with np.errstate(all="ignore"):
        expect_close(answer(x, x), 1.0, what="the share when both densities agree")


@effective_share.check
def far_from_zero(answer, rng):
    w = np.array([1.0, 2.0, 3.0, 4.0])
    with np.errstate(all="ignore"):
        received = answer(np.log(w) - 5000, np.full(4, -5000.0))
    expect_close(received, 100 / 30 / 4, what="the share with both log densities near −5,000")


@effective_share.check
def constants_do_not_matter(answer, rng):
    w = np.array([1.0, 2.0, 3.0, 4.0])
    for constant in (3.0, 2000.0, -2000.0):
        with np.errstate(all="ignore"):
            received = answer(np.log(w) + constant, np.zeros(4))
        expect_close(
            received, 100 / 30 / 4, what=f"the share with {constant:g} added to every log_p"
        )


@effective_share.check
def shifted_normals(answer, rng):
    for shift, below in ((1.3, False), (1.8, True)):
        x = shift + rng.standard_normal(20_000)
        share = answer(-(x**2) / 2, -((x - shift) ** 2) / 2)
        expected = np.exp(-(shift**2))  # E[w]²/E[w²] for this pair
        expect(
            (share < 0.1) == below,
            f"proposal moved by {shift}: about {expected:.0%} of the draws count, not {share:.1%}",
        )


@effective_share.mistake(
    "exp overflows or underflows when log_p and log_q differ by 2,000. The share does not change "
    "if all weights are multiplied by one number: choose it well."
)
def no_shift(log_p, log_q):
    w = np.exp(log_p - log_q)
    return w.sum() ** 2 / (w**2).sum() / w.size


@effective_share.mistake(
    "You exponentiate each density by itself. Near −5,000 both are 0, and their quotient is "
    "nothing. Which difference is harmless?"
)
def divides_densities(log_p, log_q):
    w = np.exp(log_p) / np.exp(log_q)
    return w.sum() ** 2 / (w**2).sum() / w.size


@effective_share.mistake(
    "Double all weights: the share must stay, and yours changes. Which of the two sums is squared?"
)
def sum_not_squared(log_p, log_q):
    w = np.exp(log_p - log_q - np.max(log_p - log_q))
    return w.sum() / (w**2).sum() / w.size


@effective_share.mistake(
    "That is a number of draws. The question is which share of the sample it is."
)
def number_not_share(log_p, log_q):
    w = np.exp(log_p - log_q - np.max(log_p - log_q))
    return w.sum() ** 2 / (w**2).sum()


@effective_share.mistake(
    "You used the inverse weights, q/p. Draws come from the proposal: which of them are too "
    "frequent, and must count less?"
)
def inverse_weights(log_p, log_q):
    w = np.exp(log_q - log_p - np.max(log_q - log_p))
    return w.sum() ** 2 / (w**2).sum() / w.size


@effective_share.mistake(
    "You put the square in the wrong place: the numerator squares the sum, the denominator sums "
    "the squares. With yours, equal weights do not give 1."
)
def squares_swapped(log_p, log_q):
    w = np.exp(log_p - log_q - np.max(log_p - log_q))
    return (w**2).sum() / w.sum() ** 2 / w.size


@exercise(
    "A gradient from black-box scores",
    difficulty=4,
    minutes=30,
    section="the-gradient-of-an-expectation",
    counterpart="chainrule.math_foundations.probability:score_function_grad",
    idea=(
        "Weight the slope of each sample's log density by how much better than the mean its "
        "value is. The average of these products is the estimate, and their spread tells its "
        "error."
    ),
)
def score_gradient(values, samples, mu):
    """Return (estimate, standard_error) of the derivative in mu of E[f(x)], for x normal (mu, 1).

    samples has shape (n,): draws with mean mu and variance 1. values has shape (n,): f of each.
    You may not differentiate f. Use the score-function identity, which needs the slope of the log
    density by mu instead, with the mean of values as the baseline. (It comes from the same draws,
    which shrinks the expectation by the factor 1 − 1/n: ignore that.) The estimate is a mean of n
    terms; the standard error is that of this mean, with the variance of the terms computed with
    n − 1.
    """
    terms = (values - values.mean()) * (samples - mu)
    return terms.mean(), terms.std(ddof=1) / np.sqrt(terms.size)


@score_gradient.by_package
def _(package, values, samples, mu):
    return package(lambda x: x - mu, lambda x: values, samples, values.mean())


@score_gradient.check
def four_samples(answer, rng):
    samples = np.array([0.0, 1.0, 2.0, 3.0])
    terms = (samples**2 - 3.5) * (samples - 1)
    expected = (float(terms.mean()), float(terms.std(ddof=1) / 2))
    expect_close(
        answer(samples**2, samples, 1.0), expected, what="the pair for samples 0, 1, 2, 3 at mu = 1"
    )


@score_gradient.check
def unbiased_within_three_errors(answer, rng):
    for mu in (-1.0, 0.5, 2.0):
        samples = mu + rng.standard_normal(40_000)
        estimate, error = answer(samples**2, samples, mu)
        expect(
            abs(estimate - 2 * mu) < 3 * error + 1e-4,
            f"at mu = {mu} the gradient of E[x²] is {2 * mu}, "
            f"but you estimate {estimate:.3f} ± {error:.3f}",
        )


@score_gradient.check
def a_constant_reward_teaches_nothing(answer, rng):
    samples = rng.standard_normal(1_000)
    expect_close(
        answer(np.full(1_000, 50.0), samples, 0.0),
        (0.0, 0.0),
        atol=1e-9,
        what="the pair for a constant f, of which the baseline leaves nothing",
    )


@score_gradient.mistake(
    "Unbiased, but noisier than it need be: add 50 to f and your error explodes. What may you "
    "subtract without changing the mean?"
)
def no_baseline(values, samples, mu):
    terms = values * (samples - mu)
    return terms.mean(), terms.std(ddof=1) / np.sqrt(terms.size)


@score_gradient.mistake(
    "That is the spread of one term. How much less does a mean of n terms spread?"
)
def deviation_of_one_term(values, samples, mu):
    terms = (values - values.mean()) * (samples - mu)
    return terms.mean(), terms.std(ddof=1)


@score_gradient.mistake(
    "Your sign is reversed. Differentiate log p = −(x − mu)²/2 by mu, not by x."
)
def score_by_the_sample(values, samples, mu):
    terms = (values - values.mean()) * (mu - samples)
    return terms.mean(), terms.std(ddof=1) / np.sqrt(terms.size)


@score_gradient.mistake("Your variance divides by n. The statement asks for n − 1: see ddof.")
def divides_by_n(values, samples, mu):
    terms = (values - values.mean()) * (samples - mu)
    return terms.mean(), terms.std() / np.sqrt(terms.size)


@score_gradient.mistake(
    "You measured from the mean of the samples. The slope of the log density is about the "
    "distribution's mean, which you are given."
)
def around_the_sample_mean(values, samples, mu):
    terms = (values - values.mean()) * (samples - samples.mean())
    return terms.mean(), terms.std(ddof=1) / np.sqrt(terms.size)


@score_gradient.mistake(
    "You weighted with log p itself. How does log p of each sample move with mu?"
)
def log_density_for_score(values, samples, mu):
    terms = (values - values.mean()) * (-((samples - mu) ** 2) / 2 - np.log(2 * np.pi) / 2)
    return terms.mean(), terms.std(ddof=1) / np.sqrt(terms.size)
