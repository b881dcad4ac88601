"""Blind set of math-foundations/probability: wrong answers from statement and stub alone."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong
from chainrule.math_foundations.probability import softmax


@wrong("posterior_after", "Counts a single test, however many there were.", known="counts_one_test")
def _(tests, prevalence, sensitivity, specificity):
    sick = prevalence * sensitivity
    return sick / (sick + (1 - prevalence) * (1 - specificity))


@wrong(
    "posterior_after",
    "A healthy person is taken to test positive with specificity.",
    known="takes_specificity_for_positives",
)
def _(tests, prevalence, sensitivity, specificity):
    sick = prevalence * sensitivity**tests
    return sick / (sick + (1 - prevalence) * specificity**tests)


@wrong("posterior_after", "Ignores how many people are sick.", known="forgets_the_prior")
def _(tests, prevalence, sensitivity, specificity):
    sick = sensitivity**tests
    return sick / (sick + (1 - specificity) ** tests)


@wrong(
    "posterior_after",
    "Returns how likely the tests are for the sick, not the reverse.",
    known="swaps_the_condition",
)
def _(tests, prevalence, sensitivity, specificity):
    return sensitivity**tests


@wrong(
    "posterior_after",
    "The joint probability: never divided by that of the tests.",
    known="never_divides",
)
def _(tests, prevalence, sensitivity, specificity):
    return prevalence * sensitivity**tests


@wrong("log_sum_exp", "No shift: the exponentials overflow.", known="as_written")
def _(x):
    with np.errstate(all="ignore"):
        return np.log(np.exp(x).sum(axis=-1))


@wrong(
    "log_sum_exp",
    "Subtracts the maximum and never adds it back.",
    known="never_adds_the_maximum_again",
)
def _(x):
    return np.log(np.exp(x - x.max(axis=-1, keepdims=True)).sum(axis=-1))


@wrong(
    "log_sum_exp",
    "Shifts by the maximum of everything and not of each row.",
    known="one_maximum_for_all_rows",
)
def _(x):
    top = x.max()
    with np.errstate(all="ignore"):
        return np.log(np.exp(x - top).sum(axis=-1)) + top


@wrong("log_sum_exp", "Adds everything up, not each row.", known="adds_all_rows")
def _(x):
    top = x.max()
    return np.log(np.exp(x - top).sum()) + top


@wrong("log_sum_exp", "Keeps the last axis, with size 1.", known="keeps_the_axis")
def _(x):
    top = x.max(axis=-1, keepdims=True)
    return np.log(np.exp(x - top).sum(axis=-1, keepdims=True)) + top


def _onehot(logits, targets):
    return np.eye(logits.shape[1])[targets]


@wrong("nll_gradient", "Forgets to divide by the batch.", known="sums_over_the_batch")
def _(logits, targets):
    return softmax(logits) - _onehot(logits, targets)


@wrong(
    "nll_gradient", "The sign is turned: one-hot minus softmax.", known="gradient_of_the_likelihood"
)
def _(logits, targets):
    return (_onehot(logits, targets) - softmax(logits)) / len(targets)


@wrong(
    "nll_gradient",
    "Divides by the number of classes instead of the batch.",
    known="divides_by_the_classes",
)
def _(logits, targets):
    return (softmax(logits) - _onehot(logits, targets)) / logits.shape[1]


@wrong(
    "nll_gradient",
    "Subtracts 1 from whole columns: indexes with targets alone.",
    known="subtracts_from_whole_columns",
)
def _(logits, targets):
    p = softmax(logits).copy()
    p[:, targets] -= 1
    return p / len(targets)


@wrong(
    "nll_gradient",
    "The softmax runs over the batch, not over the classes.",
    known="softmax_over_the_batch",
)
def _(logits, targets):
    return (softmax(logits, axis=0) - _onehot(logits, targets)) / len(targets)


@wrong("sample_by_noise", "Adds normal noise.", known="normal_noise")
def _(logits, n, rng):
    return (logits + rng.normal(size=(n, len(logits)))).argmax(axis=1)


@wrong("sample_by_noise", "Adds uniform noise.", known="uniform_noise")
def _(logits, n, rng):
    return (logits + rng.random((n, len(logits)))).argmax(axis=1)


@wrong(
    "sample_by_noise",
    "One logarithm only: exponential and not Gumbel noise.",
    known="one_logarithm",
)
def _(logits, n, rng):
    return (logits - np.log(rng.random((n, len(logits))))).argmax(axis=1)


@wrong(
    "sample_by_noise", "The noise has the wrong sign: it is skewed to the left.", known="wrong_sign"
)
def _(logits, n, rng):
    return (logits + np.log(-np.log(rng.random((n, len(logits)))))).argmax(axis=1)


@wrong("sample_by_noise", "Every draw gets the same noise.", known="one_noise_for_all_draws")
def _(logits, n, rng):
    noise = -np.log(-np.log(rng.random(len(logits))))
    return np.full(n, (logits + noise).argmax())


@wrong("score_gradient", "Forgets the baseline.", known="no_baseline")
def _(values, samples, mu):
    terms = values * (samples - mu)
    return terms.mean(), terms.std(ddof=1) / np.sqrt(len(terms))


@wrong(
    "score_gradient",
    "The slope of the log density has the wrong sign.",
    known="score_by_the_sample",
)
def _(values, samples, mu):
    terms = (values - values.mean()) * (mu - samples)
    return terms.mean(), terms.std(ddof=1) / np.sqrt(len(terms))


@wrong(
    "score_gradient",
    "Returns the deviation of the terms and not of their mean.",
    known="deviation_of_one_term",
)
def _(values, samples, mu):
    terms = (values - values.mean()) * (samples - mu)
    return terms.mean(), terms.std(ddof=1)


@wrong("score_gradient", "Divides by n in the variance, not by n − 1.", known="divides_by_n")
def _(values, samples, mu):
    terms = (values - values.mean()) * (samples - mu)
    return terms.mean(), terms.std() / np.sqrt(len(terms))


@wrong(
    "score_gradient", "Uses the samples' own mean in place of mu.", known="around_the_sample_mean"
)
def _(values, samples, mu):
    terms = (values - values.mean()) * (samples - samples.mean())
    return terms.mean(), terms.std(ddof=1) / np.sqrt(len(terms))


@wrong("effective_share", "No shift: the weights underflow or overflow.", known="no_shift")
def _(log_p, log_q):
    with np.errstate(all="ignore"):
        w = np.exp(log_p - log_q)
        return w.sum() ** 2 / (w**2).sum() / len(w)


@wrong(
    "effective_share",
    "Exponentiates the densities first, which are all 0.",
    known="divides_densities",
)
def _(log_p, log_q):
    with np.errstate(all="ignore"):
        w = np.exp(log_p) / np.exp(log_q)
        return w.sum() ** 2 / (w**2).sum() / len(w)


@wrong(
    "effective_share", "Returns the effective number and not the share.", known="number_not_share"
)
def _(log_p, log_q):
    w = np.exp(log_p - log_q - (log_p - log_q).max())
    return w.sum() ** 2 / (w**2).sum()


@wrong("effective_share", "The weights are turned round: q over p.", known="inverse_weights")
def _(log_p, log_q):
    w = np.exp(log_q - log_p - (log_q - log_p).max())
    return w.sum() ** 2 / (w**2).sum() / len(w)


@wrong("effective_share", "The sum of the weights is not squared.", known="sum_not_squared")
def _(log_p, log_q):
    w = np.exp(log_p - log_q - (log_p - log_q).max())
    return w.sum() / (w**2).sum() / len(w)
