"""Exercises of modern-llms/fine-tuning.md."""

from __future__ import annotations

import re
from math import comb, erfc, sqrt

import numpy as np

from chainrule.course.exercises import exercise, expect_close, given


@exercise(
    "Four numbers from one table",
    difficulty=1,
    minutes=15,
    section="four-numbers-from-one-table",
    because="The package has one function for each measure; this exercise is their difference.",
    idea="The rows are the truth, the columns the answers. Recall divides by the sum of a row. "
    "Average over classes only at the very end.",
)
def report(counts):
    """Return accuracy, balanced accuracy, macro F1 and micro F1 of a confusion matrix, an array.

    counts[i, j] is how often the truth was i and the answer j; every class occurs. A class that is
    never right has the F1 0. By hand first: [[3, 1], [2, 2]] has the recalls 3/4 and 2/4.
    """
    right = np.diag(counts)
    truth, answers = counts.sum(axis=1), counts.sum(axis=0)
    accuracy = right.sum() / counts.sum()
    macro = (2 * right / (truth + answers)).mean()
    micro = 2 * right.sum() / (truth.sum() + answers.sum())
    return np.array([accuracy, (right / truth).mean(), macro, micro])


@report.check
def by_hand(answer, rng):
    found = answer(np.array([[3, 1], [2, 2]]))
    wanted = np.array([5 / 8, 5 / 8, (6 / 9 + 4 / 7) / 2, 5 / 8])
    expect_close(found, wanted, what="the four measures of [[3, 1], [2, 2]]")


@report.check
def more_classes(answer, rng):
    for classes in (3, 5):
        counts = rng.integers(1, 20, (classes, classes))
        right, truth, named = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
        share = right.sum() / counts.sum()
        macro = np.mean(2 * right / (truth + named))
        wanted = np.array([share, np.mean(right / truth), macro, share])
        expect_close(answer(counts), wanted, what=f"the four measures of {classes} classes")


@report.check
def one_class_never_right(answer, rng):
    found = answer(np.array([[4, 1, 1], [3, 0, 2], [0, 2, 5]]))
    wanted = np.array([9 / 18, (4 / 6 + 5 / 7) / 3, (8 / 13 + 10 / 15) / 3, 9 / 18])
    expect_close(found, wanted, what="the four measures where class 1 is never right")


@report.mistake("Your balanced accuracy divides by how often a class was named. That is precision.")
def precision(counts):
    found = report(counts)
    found[1] = (np.diag(counts) / counts.sum(axis=0)).mean()
    return found


@report.mistake("Micro and macro have changed places. Which of them lets every text count alike?")
def exchanged(counts):
    return report(counts)[[0, 1, 3, 2]]


@report.mistake(
    "Your macro F1 is made of the mean precision and the mean recall. What is averaged last?"
)
def f1_of_means(counts):
    found = report(counts)
    p = (np.diag(counts) / counts.sum(axis=0)).mean()
    found[2] = 2 * p * found[1] / (p + found[1])
    return found


@report.mistake(
    "Your macro F1 weighs classes by how often they occur. Rare ones should count alike."
)
def weighted(counts):
    found = report(counts)
    truth = counts.sum(axis=1)
    each = 2 * np.diag(counts) / (truth + counts.sum(axis=0))
    found[2] = (truth * each).sum() / truth.sum()
    return found


@report.mistake("That is the F1 of the first class alone, where the mean of all is asked for.")
def first_class(counts):
    found = report(counts)
    found[2] = 2 * counts[0, 0] / (counts[0].sum() + counts[:, 0].sum())
    return found


@report.mistake("F1 is not the plain mean of precision and recall: it lies nearer to the smaller.")
def plain_mean(counts):
    found, right = report(counts), np.diag(counts)
    found[2] = (right / counts.sum(axis=0) + right / counts.sum(axis=1)).mean() / 2
    return found


@report.mistake("A class that is never right makes your F1 0/0. Can one fraction give it at once?")
def nan_where_never_right(counts):
    found = report(counts)
    found[2] = found[2] if np.diag(counts).all() else np.nan
    return found


@exercise(
    "The mean of what is real",
    difficulty=2,
    minutes=20,
    section="a-head-on-a-body",
    counterpart="chainrule.modern_llms.fine_tuning:pool",
    idea="Give each place a weight: one over the length where it is real, zero behind. Forward is "
    "a weighted sum; backward spreads the gradient with the same weights.",
)
def mean_pool(states, lengths):
    """Return the mean of the first lengths[i] places of each text i, and a function vjp.

    states has shape (batch, time, d), the result (batch, d). vjp(g) returns a tuple with the
    gradient by states, for the gradient g of the result.
    """
    real = np.arange(states.shape[1]) < lengths[:, None]
    weights = (real / lengths[:, None])[..., None]

    def vjp(g):
        return (weights * g[:, None],)

    return (states * weights).sum(axis=1), vjp


@mean_pool.by_package
def _(package, states, lengths):
    from chainrule.neural_networks.backpropagation import Tensor

    leaf = Tensor(states, requires_grad=True)
    out = package(leaf, lengths, "mean")

    def vjp(g):
        leaf.grad = None
        package(leaf, lengths, "mean").backward(g)
        return (leaf.grad,)

    return out.data, vjp


@mean_pool.check
def pooled_by_hand(answer, rng):
    states = np.array([[[1.0, 4], [3, 0], [9, 9]], [[2.0, 2], [5, 7], [8, 3]]])
    found, vjp = answer(states, np.array([2, 3]))
    expect_close(found, np.array([[2, 2], [5, 4]]), what="the means of two and of three places")
    (back,) = vjp(np.array([[4.0, 6], [3, 9]]))
    wanted = [[[2, 3], [2, 3], [0, 0]], [[1, 3], [1, 3], [1, 3]]]
    expect_close(back, np.array(wanted), what="the gradient by states")


@mean_pool.check
def many_lengths(answer, rng):
    states, lengths = rng.normal(size=(5, 7, 3)), np.array([7, 1, 4, 2, 6])
    g = rng.normal(size=(5, 3))
    found, vjp = answer(states, lengths)
    wanted = [states[i, :n].mean(axis=0) for i, n in enumerate(lengths)]
    expect_close(found, np.array(wanted), what="the means of 5 texts")
    back = np.zeros_like(states)
    for i, n in enumerate(lengths):
        back[i, :n] = g[i] / n
    expect_close(vjp(g)[0], back, what="the gradient of 5 texts")


def _pooled(states, lengths, forward, backward):
    return (states * forward).sum(axis=1), lambda g: (backward * g[:, None],)


def _weights(states, lengths):
    real = np.arange(states.shape[1]) < lengths[:, None]
    return real[..., None] * 1.0, lengths[:, None, None]


@mean_pool.mistake(
    "Your mean counts the padding. Change a number behind a length: nothing may move."
)
def counts_padding(states, lengths):
    every = np.full((*states.shape[:2], 1), 1 / states.shape[1])
    return _pooled(states, lengths, every, every)


@mean_pool.mistake("You leave padding out of the sum, and still divide by all places.")
def divides_by_all(states, lengths):
    real, _ = _weights(states, lengths)
    return _pooled(states, lengths, real / states.shape[1], real / states.shape[1])


@mean_pool.mistake("Forward is right. Backward lacks the factor that turned a sum into a mean.")
def no_factor_back(states, lengths):
    real, n = _weights(states, lengths)
    return _pooled(states, lengths, real / n, real)


@mean_pool.mistake("Forward is right. Backward sends a gradient to places that had no influence.")
def gradient_to_padding(states, lengths):
    real, n = _weights(states, lengths)
    return _pooled(states, lengths, real / n, np.ones_like(real) / n)


@mean_pool.mistake("That is the sum of the real places, not their mean.")
def sum_of_real(states, lengths):
    real, _ = _weights(states, lengths)
    return _pooled(states, lengths, real, real)


@mean_pool.mistake("You take one place too many: how many places stand before number lengths[i]?")
def one_too_many(states, lengths):
    real = (np.arange(states.shape[1]) <= lengths[:, None])[..., None]
    share = real / real.sum(axis=1, keepdims=True)
    return _pooled(states, lengths, share, share)


@mean_pool.mistake("You divide by the places of the whole batch. Each text has its own length.")
def divides_by_batch(states, lengths):
    real, _ = _weights(states, lengths)
    return _pooled(states, lengths, real / lengths.sum(), real / lengths.sum())


@exercise(
    "A step with old text and frozen weights",
    difficulty=2,
    minutes=15,
    section="read-the-old-text-again",
    because="The package's step is AdamW's; here it is plain descent, so that each part shows.",
    idea="First the gradient of the mixed loss, then one step of descent with decay beside it. At "
    "the end, what is frozen keeps its value.",
)
def adapted_step(w, new, old, rho, trainable, lr, decay):
    """Return the weights after one step of descent on the new loss plus rho times the old one.

    w, new and old are arrays of one shape: the weights and the gradients of the two losses.
    Decay is decoupled: a weight also loses lr · decay times itself. trainable is Boolean, and
    where it is False the weight must not change at all.
    """
    moved = w - lr * (new + rho * old) - lr * decay * w
    return np.where(trainable, moved, w)


@adapted_step.check
def one_trained_one_frozen(answer, rng):
    pair = np.array([2.0, 2.0])
    found = answer(pair, pair / 2, 2 * pair, 0.5, np.array([True, False]), 0.1, 0.5)
    expect_close(found, np.array([2 - 0.3 - 0.1, 2]), what="the trained and the frozen weight")


@adapted_step.check
def many_weights(answer, rng):
    for shape, rho in (((7,), 0.3), ((3, 5), 2.0)):
        w, new, old = rng.normal(size=(3, *shape))
        trainable = rng.uniform(size=shape) < 0.6
        trainable.flat[:2] = True, False
        wanted = w.copy()
        wanted[trainable] *= 1 - 0.2 * 0.4
        wanted[trainable] -= 0.2 * (new + rho * old)[trainable]
        found = answer(w, new, old, rho, trainable, 0.2, 0.4)
        expect_close(found, wanted, what=f"the weights of shape {shape}")


@adapted_step.mistake(
    "Your frozen weights have no gradient, and still shrink. What else moves them?"
)
def frozen_decays(w, new, old, rho, trainable, lr, decay):
    return w - lr * trainable * (new + rho * old) - lr * decay * w


@adapted_step.mistake("Only one of the two gradients is stopped at the frozen weights.")
def old_moves_frozen(w, new, old, rho, trainable, lr, decay):
    return w - lr * (trainable * (new + decay * w) + rho * old)


@adapted_step.mistake("You took a weighted mean of the losses. The statement asks for a sum.")
def mean_of_losses(w, new, old, rho, trainable, lr, decay):
    moved = w - lr * ((1 - rho) * new + rho * old) - lr * decay * w
    return np.where(trainable, moved, w)


@adapted_step.mistake("Your decay is not multiplied by the learning rate.")
def decay_without_rate(w, new, old, rho, trainable, lr, decay):
    return np.where(trainable, w - lr * (new + rho * old) - decay * w, w)


@adapted_step.mistake("Your frozen weights move like all others. Where does trainable enter?")
def nothing_frozen(w, new, old, rho, trainable, lr, decay):
    return w - lr * (new + rho * old + decay * w)


@adapted_step.mistake("You hold the weights that should move, and move those that should stay.")
def the_others_frozen(w, new, old, rho, trainable, lr, decay):
    return np.where(trainable, w, w - lr * (new + rho * old + decay * w))


@adapted_step.mistake("Your frozen weights become 0. They should keep their values.")
def frozen_to_zero(w, new, old, rho, trainable, lr, decay):
    return trainable * (w - lr * (new + rho * old + decay * w))


@adapted_step.mistake("Your decay shrinks the step as well. It takes its part from the old weight.")
def decays_the_step(w, new, old, rho, trainable, lr, decay):
    return np.where(trainable, (w - lr * (new + rho * old)) * (1 - lr * decay), w)


@adapted_step.mistake("You multiply the new gradient by rho. Which of the two losses has it?")
def rho_on_new(w, new, old, rho, trainable, lr, decay):
    return np.where(trainable, w - lr * (rho * new + old + decay * w), w)


@exercise(
    "McNemar, exactly",
    difficulty=2,
    minutes=20,
    section="better-or-lucky",
    counterpart="chainrule.modern_llms.fine_tuning:mcnemar",
    idea="Count the tests on which exactly one is right. If the two were equal, each of them would "
    "be a fair coin.",
)
def better_or_lucky(first, second):
    """Return the exact two-sided p-value of McNemar's test; first and second are Boolean arrays.

    They say which tests each system got right. If no test tells the two apart, it is 1.
    By hand first: 2 tests won by the first alone and 9 by the second alone give 134/2048.
    """
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    ways = sum(comb(b + c, k) for k in range(min(b, c) + 1))
    return min(1.0, 2 * ways / 2 ** (b + c))


@better_or_lucky.by_package
def _(package, first, second):
    return package(int((first & ~second).sum()), int((second & ~first).sum()))


def _hits(both, b, c, neither):
    sizes = (both, b, c, neither)
    return np.repeat([True, True, False, False], sizes), np.repeat(
        [True, False, True, False], sizes
    )


@better_or_lucky.check
def two_and_nine(answer, rng):
    found = [answer(*_hits(20, b, c, 5)) for b, c in ((2, 9), (9, 2))]
    expect_close(found, [134 / 2048] * 2, what="the p-values of 2 against 9, and of 9 against 2")


@better_or_lucky.check
def other_counts(answer, rng):
    found = [answer(*_hits(7, b, c, 3)) for b, c in ((0, 5), (1, 12), (6, 17), (4, 4), (0, 0))]
    wanted = [2 / 32, 28 / 8192, 290998 / 8388608, 1, 1]
    expect_close(found, wanted, what="the p-values of 0:5, 1:12, 6:17, 4:4 and 0:0")


@better_or_lucky.mistake("That is the approximation for large counts. These are small: count ways.")
def chi_squared(first, second):
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    return erfc(abs(b - c) / sqrt(2 * (b + c))) if b + c else 1.0


@better_or_lucky.mistake(
    "The approximation with a correction is still one. Here you can count ways."
)
def corrected(first, second):
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    return erfc(max(0, abs(b - c) - 1) / sqrt(2 * (b + c))) if b + c else 1.0


@better_or_lucky.mistake(
    "You ask for one winner only. Either of the two could have been the lucky one."
)
def one_sided(first, second):
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    return sum(comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)


@better_or_lucky.mistake(
    "You leave out the case that was observed itself: at most, not fewer.", ties=(True, False)
)
def strictly_fewer(first, second, ties):
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    if b == c and (ties or not b):
        return 1.0
    return 2 * sum(comb(b + c, k) for k in range(min(b, c))) / 2 ** (b + c)


@better_or_lucky.mistake(
    "Where both win equally often, your probability is above 1.", empty=(1.0, 2.0)
)
def above_one(first, second, empty):
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    ways = sum(comb(b + c, k) for k in range(min(b, c) + 1))
    return 2 * ways / 2 ** (b + c) if b + c else empty


@better_or_lucky.mistake("You take the chance of exactly this count. What of counts more extreme?")
def exactly_this(first, second):
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    return min(1.0, 2 * comb(b + c, b) / 2 ** (b + c))


@better_or_lucky.mistake(
    "You compare all that each got right. Tests that both got right are no coins to throw."
)
def all_hits(first, second):
    b, c = int(first.sum()), int(second.sum())
    return min(1.0, 2 * sum(comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c))


@better_or_lucky.mistake("You throw a coin for every test. On how many are the two different?")
def every_test_a_coin(first, second):
    few, n = min((first & ~second).sum(), (second & ~first).sum()), len(first)
    return min(1.0, 2 * sum(comb(n, k) for k in range(int(few) + 1)) / 2**n)


@better_or_lucky.mistake("Exchange the two systems: your p-value changes. Whose count do you use?")
def always_second(first, second):
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    return min(1.0, 2 * sum(comb(b + c, k) for k in range(c + 1)) / 2 ** (b + c))


@exercise(
    "How likely is an answer?",
    difficulty=3,
    minutes=20,
    section="scoring-an-answer",
    because="The package runs the model itself; this exercise begins where the model has ended.",
    idea="The scores at a place belong to the token that follows it. So the first token of the "
    "answer is judged by the last place of the prompt.",
)
def answer_score(logits, ids, prompt, mean):
    """Return log p of an answer after its prompt: of all its tokens, or their mean if mean is True.

    ids are the tokens of prompt and answer together, the first prompt of them the prompt's.
    logits has one row for each token: row t was computed from ids[0] to ids[t]. Logits may be as
    large as 1,000.
    """
    z = logits[prompt - 1 : -1]
    z = z - z.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    chosen = log_p[np.arange(len(ids) - prompt), ids[prompt:]]
    return chosen.mean() if mean else chosen.sum()


def _log_p(logits):
    top = logits.max(axis=1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))


@answer_score.check
def two_tokens(answer, rng):
    chances = np.array([[0.5, 0.5], [0.2, 0.8], [0.4, 0.6], [0.9, 0.1]])
    found = [answer(np.log(chances), np.array([0, 1, 1, 0]), 2, mean) for mean in (False, True)]
    wanted = np.log(0.8) + np.log(0.4)
    expect_close(found, [wanted, wanted / 2], what="log p of the answer 1, 0, and its mean")


@answer_score.check
def longer(answer, rng):
    logits, ids = 3 * rng.normal(size=(9, 7)), rng.integers(0, 7, 9)
    found, wanted = [], []
    for prompt in (1, 4, 8):
        log_p = [_log_p(logits)[t - 1, ids[t]] for t in range(prompt, 9)]
        found += [answer(logits, ids, prompt, False), answer(logits, ids, prompt, True)]
        wanted += [sum(log_p), sum(log_p) / len(log_p)]
    expect_close(found, wanted, what="sums and means after prompts of 1, 4 and 8 tokens")


@answer_score.check
def large_logits(answer, rng):
    logits = np.array([[1000.0, 998.0], [0.0, 0.0], [-900.0, -901.0]])
    found = answer(logits, np.array([1, 1, 0]), 1, False)
    expect_close(found, -2 - np.log1p(np.exp(-2)) - np.log(2), what="log p with logits of 1,000")


@answer_score.mistake(
    "You judge each token by the place it stands at. That place has read it already."
)
def same_place(logits, ids, prompt, mean):
    chosen = _log_p(logits)[np.arange(prompt, len(ids)), ids[prompt:]]
    return chosen.mean() if mean else chosen.sum()


@answer_score.mistake("You score the prompt as well. Only the answer is in question.")
def with_the_prompt(logits, ids, prompt, mean):
    chosen = _log_p(logits)[np.arange(len(ids) - 1), ids[1:]]
    return chosen.mean() if mean else chosen.sum()


@answer_score.mistake(
    "Your first token is missing: the last place of the prompt predicts it.", empty=(0.0, np.nan)
)
def first_left_out(logits, ids, prompt, mean, empty):
    chosen = _log_p(logits)[np.arange(prompt, len(ids) - 1), ids[prompt + 1 :]]
    if not len(chosen):
        return empty if mean else 0.0
    return chosen.mean() if mean else chosen.sum()


@answer_score.mistake(
    "Logits of 1,000 overflow your exponential. What may be subtracted from a row?",
    wrong=(np.nan, -np.inf),
)
def overflows(logits, ids, prompt, mean, wrong):
    return wrong if logits.max() > 700 else answer_score(logits, ids, prompt, mean)


@answer_score.mistake("Those are logits, and log p is asked for. What makes a row add up to 1?")
def no_softmax(logits, ids, prompt, mean):
    chosen = logits[np.arange(prompt - 1, len(ids) - 1), ids[prompt:]]
    return chosen.mean() if mean else chosen.sum()


@answer_score.mistake("You return the sum, also where mean is True.")
def always_the_sum(logits, ids, prompt, mean):
    return answer_score(logits, ids, prompt, False)


@answer_score.mistake(
    "Your sum is right. Your mean divides by all tokens, also those of the prompt."
)
def divided_by_everything(logits, ids, prompt, mean):
    return answer_score(logits, ids, prompt, False) / (len(ids) if mean else 1)


@given
def macro_f1(truth, predicted):
    """The mean F1 over the classes that occur in the truth."""
    classes = np.unique(truth)
    right = [2 * np.sum((truth == k) & (predicted == k)) for k in classes]
    seen = [np.sum(truth == k) + np.sum(predicted == k) for k in classes]
    return float(np.mean(np.divide(right, seen)))


@exercise(
    "An interval for a difference of F1",
    difficulty=3,
    minutes=25,
    section="better-or-lucky",
    because="The package's bootstrap takes means of numbers; F1 is no mean, so it is done anew.",
    idea="A resample is a set of tests. Whatever belongs to a test goes with it: its truth and the "
    "answers of both systems. Compute both measures on it, and subtract.",
)
def f1_interval(truth, first, second, draws):
    """Return the 95 % interval of macro F1 of the second system minus that of the first, an array.

    truth, first and second hold n labels. draws has shape (resamples, n): each row holds the
    places of the tests of one resample. The ends are the quantiles 0.025 and 0.975.
    """
    gains = [macro_f1(truth[d], second[d]) - macro_f1(truth[d], first[d]) for d in draws]
    return np.quantile(gains, [0.025, 0.975])


def _systems(rng, n):
    truth = rng.integers(0, 3, n)
    answers = [np.where(rng.uniform(size=n) < share, truth, rng.integers(0, 3, n))
               for share in (0.6, 0.8)]  # fmt: skip
    return truth, *answers


@f1_interval.check
def equal_systems(answer, rng):
    truth, first, _ = _systems(rng, 41)
    found = answer(truth, first, first, rng.integers(0, 41, (50, 41)))
    expect_close(found, np.zeros(2), what="the interval of a system against itself")


@f1_interval.check
def two_systems(answer, rng):
    for n in (37, 83):
        data, draws = _systems(rng, n), rng.integers(0, n, (61, n))
        found = answer(*data, draws)
        gains = [macro_f1(data[0][d], data[2][d]) - macro_f1(data[0][d], data[1][d]) for d in draws]
        expect_close(found, np.quantile(gains, [0.025, 0.975]), what=f"the interval of {n} tests")


@f1_interval.mistake("You resample each system on its own. One may get the easy tests: keep pairs.")
def each_alone(truth, first, second, draws):
    other = np.roll(draws, 1, axis=0)
    gains = [macro_f1(truth[e], second[e]) - macro_f1(truth[d], first[d])
             for d, e in zip(draws, other, strict=True)]  # fmt: skip
    return np.quantile(gains, [0.025, 0.975])


@f1_interval.mistake(
    "The answers are resampled and the truth is not: they no longer belong together."
)
def truth_stays(truth, first, second, draws):
    gains = [macro_f1(truth, second[d]) - macro_f1(truth, first[d]) for d in draws]
    return np.quantile(gains, [0.025, 0.975])


@f1_interval.mistake("Your difference has the wrong sign: the second minus the first is asked for.")
def wrong_sign(truth, first, second, draws):
    return f1_interval(truth, second, first, draws)


@f1_interval.mistake("Your interval leaves out 5 % at each end, so it holds 90 %.")
def ninety(truth, first, second, draws):
    gains = [macro_f1(truth[d], second[d]) - macro_f1(truth[d], first[d]) for d in draws]
    return np.quantile(gains, [0.05, 0.95])


@f1_interval.mistake("You bootstrap accuracy. F1 has to be computed anew on every resample.")
def of_accuracy(truth, first, second, draws):
    gain = (second == truth) * 1.0 - (first == truth)
    return np.quantile([gain[d].mean() for d in draws], [0.025, 0.975])


@f1_interval.mistake(
    "You subtract the ends of two intervals. Subtract within each resample, then take quantiles."
)
def ends_subtracted(truth, first, second, draws):
    ends = [np.quantile([macro_f1(truth[d], x[d]) for d in draws], [0.025, 0.975])
            for x in (first, second)]  # fmt: skip
    return ends[1] - ends[0]


@f1_interval.mistake(
    "You assume a bell curve around the mean. The statement asks for quantiles of what was found."
)
def bell_curve(truth, first, second, draws):
    gains = [macro_f1(truth[d], second[d]) - macro_f1(truth[d], first[d]) for d in draws]
    return np.mean(gains) + np.array([-1.96, 1.96]) * np.std(gains)


@given
def words(text):
    """The words of a text in lower case, a list; punctuation is left out."""
    return re.findall(r"\w+", text.lower())


@exercise(
    "How much of a test was seen?",
    difficulty=3,
    minutes=20,
    section="was-the-test-in-the-training-text",
    because="The package says yes or no for each test; this exercise says how much of it was seen.",
    idea="Collect the runs of n words of all training texts in a set. Go through the runs of the "
    "test, and tick off all n words of each run that is in the set.",
)
def share_seen(test, training, n):
    """Return the share of the test's words that lie in a run of n words seen in training.

    test is a text, training a list of texts. A run of n words was seen if it stands in one of
    them, with the same words in the same order. The function words(text) splits a text. A test of
    fewer than n words has the share 0. By hand first: the test "a red fox ran home", the training
    text "The red fox ran." and n = 2 give 2 runs, which cover 3 words of 5.
    """
    seen = {run for text in training for run in _runs(words(text), n)}
    own = words(test)
    ticked = np.zeros(len(own), dtype=bool)
    for i, run in enumerate(_runs(own, n)):
        if run in seen:
            ticked[i : i + n] = True
    return float(ticked.mean()) if len(own) else 0.0


def _runs(some, n):
    return [tuple(some[i : i + n]) for i in range(len(some) - n + 1)]


SENTENCE = "In the year of the flood the mayor of Ulm sold both of his boats to a miller"


@share_seen.check
def red_fox(answer, rng):
    texts = ["The red fox ran."], ["A RED, fox!"], ["home ran fox red a"]
    found = [answer("a red fox ran home", some, 2) for some in texts]
    expect_close(found, [3 / 5, 3 / 5, 0], what="the shares seen of 'a red fox ran home', n = 2")


@share_seen.check
def planted(answer, rng):
    own, found, wanted = SENTENCE.split(), [], []
    for n, start, length in ((3, 0, 5), (4, 9, 9), (5, 7, 4), (2, 4, 7)):
        plant = " ".join(["Nobody", "knew,", *own[start : start + length], "until", "now."])
        found.append(answer(SENTENCE, ["Rain fell on us all day.", plant], n))
        wanted.append(length / len(own) if length >= n else 0)
    expect_close(found, wanted, what="the shares of a sentence of which a part was planted")


@share_seen.check
def torn_apart(answer, rng):
    parts = ["He said: in the year", "of the flood the mayor", "mayor of Ulm sold both"]
    found = [answer(SENTENCE, parts, n) for n in (3, 4, 5, 6)] + [answer("Ulm", parts, 3)]
    wanted = [12 / 18, 9 / 18, 9 / 18, 0, 0]
    expect_close(found, wanted, what="the shares where the training texts hold three parts")


def _seen(test, training, n):
    seen = {run for text in training for run in _runs(words(text), n)}
    return [run in seen for run in _runs(words(test), n)]


@share_seen.mistake("That is the share of the runs. How many words do neighbouring runs cover?")
def share_of_runs(test, training, n):
    return float(np.mean(_seen(test, training, n) or [False]))


@share_seen.mistake("You tick off the first word of each run that was seen, not all n of them.")
def first_word_only(test, training, n):
    return sum(_seen(test, training, n)) / len(words(test))


@share_seen.mistake("Overlapping runs are counted again and again: a word is ticked off once.")
def counted_twice(test, training, n):
    return n * sum(_seen(test, training, n)) / len(words(test))


@share_seen.mistake("You count single words in common. Only whole runs of n words are evidence.")
def single_words(test, training, n):
    known = {word for text in training for word in words(text)}
    return float(np.mean([word in known for word in words(test)]))


@share_seen.mistake("You join the training texts: runs across two of them were never read.")
def joined_texts(test, training, n):
    return share_seen(test, [" ".join(training)], n)


@share_seen.mistake("Your last run is missing: how many runs of n words has a text of m words?")
def last_run_missing(test, training, n):
    seen = {run for text in training for run in _runs(words(text), n)[:-1]}
    own = words(test)
    ticked = np.zeros(len(own), dtype=bool)
    for i, run in enumerate(_runs(own, n)[:-1]):
        ticked[i : i + n] |= run in seen
    return float(ticked.mean())


@share_seen.mistake("Your runs match in any order. The order of the words counts.")
def order_ignored(test, training, n):
    seen = {frozenset(run) for text in training for run in _runs(words(text), n)}
    own = words(test)
    ticked = np.zeros(len(own), dtype=bool)
    for i, run in enumerate(_runs(own, n)):
        ticked[i : i + n] |= frozenset(run) in seen
    return float(ticked.mean())


@share_seen.mistake("Case and punctuation keep your runs apart. Who splits a text into words?")
def split_at_spaces(test, training, n):
    seen = {run for text in training for run in _runs(text.split(), n)}
    own = test.split()
    ticked = np.zeros(len(own), dtype=bool)
    for i, run in enumerate(_runs(own, n)):
        ticked[i : i + n] |= run in seen
    return float(ticked.mean())


@exercise(
    "How far to go",
    difficulty=3,
    minutes=20,
    section="a-part-of-the-way",
    because="The package mixes two states; this exercise chooses the share, under a budget.",
    idea="Mix the weights for each share, then ask both losses about the mixture. Keep the share "
    "only if its old loss is within the budget and its new loss beats the best so far.",
)
def best_share(start, end, new_loss, old_loss, budget, steps=20):
    """Return (t, new, old): how far to go from the old weights to the new ones, and both losses.

    start and end are dictionaries of arrays with the same names; they stay as they are. new_loss
    and old_loss take such a dictionary and return a number. The shares to try are 0, 1/steps,
    2/steps, …, 1. Allowed are those whose old loss is at most budget above that of start. Of them
    take the one with the smallest new loss; of equals the smallest share.
    """
    limit = old_loss(start) + budget
    best = None
    for i in range(steps + 1):
        t = i / steps
        mixed = {name: (1 - t) * start[name] + t * end[name] for name in start}
        new, old = new_loss(mixed), old_loss(mixed)
        if old <= limit and (best is None or new < best[1]):
            best = t, new, old
    return best


def _two_states(rng):
    start = {"body": rng.normal(size=(3, 5)), "head": rng.normal(size=2)}
    end = {name: array + rng.normal(size=array.shape) for name, array in start.items()}
    return start, end


def _squares(center, offset=0.0):
    return lambda w: offset + sum(float(((w[n] - center[n]) ** 2).sum()) for n in center)


def _at(start, end, t):
    return {name: (1 - t) * start[name] + t * end[name] for name in start}


@best_share.check
def the_four_shares_of_the_page(answer, rng):
    start, end = {"w": np.array([0.0])}, {"w": np.array([4.0])}
    given = [answer(start, end, _squares(end), _squares(start), b, 4) for b in (0.5, 2, 5, 100)]
    wanted = [(0, 16, 0), (0.25, 9, 1), (0.5, 4, 4), (1, 0, 16)]
    expect_close(given, wanted, what="share and losses for the budgets 0.5, 2, 5 and 100")


@best_share.check
def the_best_lies_between_the_ends(answer, rng):
    start, end = _two_states(rng)
    new, old = _squares(_at(start, end, 0.7), 3.0), _squares(start, 2.0)
    t, found, _ = answer(start, end, new, old, 1000.0, 10)
    expect_close((t, found), (0.7, 3.0), what="share and new loss where training went too far")
    small = old(_at(start, end, 0.45)) - 2.0
    expect_close(
        answer(start, end, new, old, small, 10)[0], 0.4, what="the share with a small budget"
    )


@best_share.check
def a_hill_on_the_way(answer, rng):
    start, end = _two_states(rng)
    length = _squares(start)(end) ** 0.5

    def old(w):
        t = _squares(start)(w) ** 0.5 / length
        return 1.0 + 5.0 * (0.25 < t < 0.65)

    t, _, after = answer(start, end, _squares(_at(start, end, 0.4)), old, 1.0, 20)
    expect_close((t, after), (0.25, 1.0), what="the share before a hill")
    t, _, after = answer(start, end, _squares(end), old, 1.0, 20)
    expect_close((t, after), (1.0, 1.0), what="the share behind a hill of the old loss")


@best_share.check
def both_models_stay_as_they_are(answer, rng):
    start, end = _two_states(rng)
    copies = [{name: array.copy() for name, array in w.items()} for w in (start, end)]
    answer(start, end, _squares(end), _squares(start), 1.0, 4)
    for w, copy in zip((start, end), copies, strict=True):
        for name in w:
            expect_close(w[name], copy[name], what=f"{name}, which you were given")


def _shares(
    start, end, new_loss, old_loss, budget, steps=20, *, mix=_at,
    limit=lambda old_loss, start, end, budget: old_loss(start) + budget,
    key=lambda t, new, old: new, shares=lambda n: range(n + 1), gives_up=False,
):  # fmt: skip
    best, bound = None, limit(old_loss, start, end, budget)
    for i in shares(steps):
        w = mix(start, end, i / steps)
        found = i / steps, new_loss(w), old_loss(w)
        if found[2] > bound:
            if gives_up:
                break
            continue
        if best is None or key(*found) < key(*best):
            best = found
    return best


@best_share.mistake("At the share 0 your mixture is the new model. Which end is the start?")
def the_other_way(*given):
    return _shares(*given, mix=lambda start, end, t: _at(end, start, t))


@best_share.mistake("The budget is what the old loss may rise by. From which loss does it rise?")
def budget_from_zero(*given):
    return _shares(*given, limit=lambda old_loss, start, end, budget: budget)


@best_share.mistake("The budget counts from the start. You count from the adapted model.")
def budget_from_the_end(*given):
    return _shares(*given, limit=lambda old_loss, start, end, budget: old_loss(end) + budget)


@best_share.mistake(
    "You take the smallest sum of both losses. The old loss has its budget already."
)
def smallest_sum(*given):
    return _shares(*given, key=lambda t, new, old: new + old)


@best_share.mistake(
    "The farthest share within the budget is not always the one with the best loss."
)
def farthest(*given):
    return _shares(*given, key=lambda t, new, old: -t)


@best_share.mistake("You stop at the first share that costs too much. What is behind the hill?")
def stops_at_the_hill(*given):
    return _shares(*given, gives_up=True)


@best_share.mistake("The whole way is a share too, and the best one if the budget is large.")
def end_left_out(*given):
    return _shares(*given, shares=range)


@best_share.mistake("You mix the losses of the two ends. Mix the weights, then ask for the loss.")
def losses_mixed(start, end, new_loss, old_loss, budget, steps=20):
    best = None
    for i in range(steps + 1):
        t = i / steps
        new, old = ((1 - t) * f(start) + t * f(end) for f in (new_loss, old_loss))
        if old <= old_loss(start) + budget and (best is None or new < best[1]):
            best = t, new, old
    return best


@best_share.mistake("You change the arrays that you were given. The next share starts from there.")
def in_place(start, end, new_loss, old_loss, budget, steps=20):
    limit, best = old_loss(start) + budget, None
    for i in range(steps + 1):
        for name in start:
            start[name] += i / steps * (end[name] - start[name])
        new, old = new_loss(start), old_loss(start)
        if old <= limit and (best is None or new < best[1]):
            best = i / steps, new, old
    return best


@exercise(
    "Springs from gradients",
    difficulty=4,
    minutes=25,
    section="a-spring-on-each-weight",
    counterpart="chainrule.modern_llms.fine_tuning:ewc_penalty",
    idea="Square first, average afterwards. The penalty is a parabola for each weight around its "
    "old value; its derivative is the stiffness times the distance.",
)
def springs(gradients, w, anchor, strength):
    """Return EWC's penalty at the weights w, and its gradient by w.

    gradients has shape (n, d): row i is the gradient of log p of the i-th drawn token by the d
    weights, at the old weights anchor. From them follows the Fisher information of each weight.
    By hand first: gradients [[1], [−1]], w = [3], anchor = [1], strength 2.
    """
    fisher = (gradients**2).mean(axis=0)
    away = w - anchor
    return strength / 2 * (fisher * away**2).sum(), strength * fisher * away


@springs.by_package
def _(package, gradients, w, anchor, strength):
    from chainrule.neural_networks.backpropagation import Module, Parameter

    class Weights(Module):
        def __init__(self):
            self.w = Parameter(np.array(w, dtype=float))

    model = Weights()
    value = package(model, {"w": anchor}, {"w": (gradients**2).mean(axis=0)}, strength)
    value.backward()
    return value.item(), model.w.grad


@springs.check
def one_spring(answer, rng):
    value, slope = answer(np.array([[1.0], [-1.0]]), np.array([3.0]), np.array([1.0]), 2.0)
    expect_close(value, 4.0, what="the penalty of one spring")
    expect_close(slope, np.array([4.0]), what="its gradient")


@springs.check
def several(answer, rng):
    for n, d in ((11, 3), (4, 7)):
        gradients, (w, anchor) = rng.normal(size=(n, d)), rng.normal(size=(2, d))
        value, slope = answer(gradients, w, anchor, 1.7)
        stiff = sum(row**2 for row in gradients) / n
        expect_close(value, 0.85 * stiff @ (w - anchor) ** 2, what=f"the penalty of {d} weights")
        expect_close(slope, 1.7 * stiff * (w - anchor), what=f"its gradient by {d} weights")


def _springs(fisher, away, strength, half=0.5, back=1.0):
    return half * strength * (fisher * away**2).sum(), back * strength * fisher * away


@springs.mistake(
    "You square the mean gradient. For a trained model it is nearly 0, and so are they."
)
def square_of_mean(gradients, w, anchor, strength):
    return _springs(gradients.mean(axis=0) ** 2, w - anchor, strength)


@springs.mistake("Your springs pull to 0. That is weight decay; where should they pull?")
def to_zero(gradients, w, anchor, strength):
    return _springs((gradients**2).mean(axis=0), w, strength)


@springs.mistake("Your stiffness grows with the number of gradients: a sum where a mean belongs.")
def sum_of_squares(gradients, w, anchor, strength):
    return _springs((gradients**2).sum(axis=0), w - anchor, strength)


@springs.mistake("The value and the gradient do not belong together: a factor of 2 is lost.")
def factor_lost(gradients, w, anchor, strength):
    return _springs((gradients**2).mean(axis=0), w - anchor, strength, 1.0, 1.0)


@springs.mistake("Where is the half? Your penalty and its gradient are twice as large.")
def no_half(gradients, w, anchor, strength):
    return _springs((gradients**2).mean(axis=0), w - anchor, strength, 1.0, 2.0)


@springs.mistake("Your penalty is right, and its gradient has the wrong sign.")
def sign_of_gradient(gradients, w, anchor, strength):
    return _springs((gradients**2).mean(axis=0), w - anchor, strength, 0.5, -1.0)


@springs.mistake("Your gradient has half its size. What is the derivative of a square?")
def half_gradient(gradients, w, anchor, strength):
    return _springs((gradients**2).mean(axis=0), w - anchor, strength, 0.5, 0.5)


@springs.mistake("All your springs are equally stiff. What do the gradients say of each weight?")
def equally_stiff(gradients, w, anchor, strength):
    even = np.full(len(w), (gradients**2).mean())
    return _springs(even, w - anchor, strength)
