"""Blind set of math-foundations/probability: wrong answers from statement and stub alone."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong
from chainrule.math_foundations.probability import softmax


@wrong("posterior_after", "Counts a single test, however many there were.")
def _(tests, prevalence, sensitivity, specificity):
    sick = prevalence * sensitivity
    return sick / (sick + (1 - prevalence) * (1 - specificity))


@wrong("posterior_after", "A healthy person is taken to test positive with specificity.")
def _(tests, prevalence, sensitivity, specificity):
    sick = prevalence * sensitivity**tests
    return sick / (sick + (1 - prevalence) * specificity**tests)


@wrong("posterior_after", "Ignores how many people are sick.")
def _(tests, prevalence, sensitivity, specificity):
    sick = sensitivity**tests
    return sick / (sick + (1 - specificity) ** tests)


@wrong("posterior_after", "Returns how likely the tests are for the sick, not the reverse.")
def _(tests, prevalence, sensitivity, specificity):
    return sensitivity**tests


@wrong("posterior_after", "The joint probability: never divided by that of the tests.")
def _(tests, prevalence, sensitivity, specificity):
    return prevalence * sensitivity**tests


@wrong("log_sum_exp", "No shift: the exponentials overflow.")
def _(x):
    with np.errstate(all="ignore"):
        return np.log(np.exp(x).sum(axis=-1))


@wrong("log_sum_exp", "Subtracts the maximum and never adds it back.")
def _(x):
    return np.log(np.exp(x - x.max(axis=-1, keepdims=True)).sum(axis=-1))


@wrong("log_sum_exp", "Shifts by the maximum of everything and not of each row.")
def _(x):
    top = x.max()
    with np.errstate(all="ignore"):
        return np.log(np.exp(x - top).sum(axis=-1)) + top


@wrong("log_sum_exp", "Adds everything up, not each row.")
def _(x):
    top = x.max()
    return np.log(np.exp(x - top).sum()) + top


@wrong("log_sum_exp", "Keeps the last axis, with size 1.")
def _(x):
    top = x.max(axis=-1, keepdims=True)
    return np.log(np.exp(x - top).sum(axis=-1, keepdims=True)) + top


def _onehot(logits, targets):
    return np.eye(logits.shape[1])[targets]


@wrong("nll_gradient", "Forgets to divide by the batch.")
def _(logits, targets):
    return softmax(logits) - _onehot(logits, targets)


@wrong("nll_gradient", "The sign is turned: one-hot minus softmax.")
def _(logits, targets):
    return (_onehot(logits, targets) - softmax(logits)) / len(targets)


@wrong("nll_gradient", "Divides by the number of classes instead of the batch.")
def _(logits, targets):
    return (softmax(logits) - _onehot(logits, targets)) / logits.shape[1]


@wrong("nll_gradient", "Subtracts 1 from whole columns: indexes with targets alone.")
def _(logits, targets):
    p = softmax(logits).copy()
    p[:, targets] -= 1
    return p / len(targets)


@wrong("nll_gradient", "The softmax runs over the batch, not over the classes.")
def _(logits, targets):
    return (softmax(logits, axis=0) - _onehot(logits, targets)) / len(targets)


@wrong("sample_by_noise", "Adds normal noise.")
def _(logits, n, rng):
    return (logits + rng.normal(size=(n, len(logits)))).argmax(axis=1)


@wrong("sample_by_noise", "Adds uniform noise.")
def _(logits, n, rng):
    return (logits + rng.random((n, len(logits)))).argmax(axis=1)


@wrong("sample_by_noise", "One logarithm only: exponential and not Gumbel noise.")
def _(logits, n, rng):
    return (logits - np.log(rng.random((n, len(logits))))).argmax(axis=1)


@wrong("sample_by_noise", "The noise has the wrong sign: it is skewed to the left.")
def _(logits, n, rng):
    return (logits + np.log(-np.log(rng.random((n, len(logits)))))).argmax(axis=1)


@wrong("sample_by_noise", "Every draw gets the same noise.")
def _(logits, n, rng):
    noise = -np.log(-np.log(rng.random(len(logits))))
    return np.full(n, (logits + noise).argmax())


@wrong("score_gradient", "Forgets the baseline.")
def _(values, samples, mu):
    terms = values * (samples - mu)
    return terms.mean(), terms.std(ddof=1) / np.sqrt(len(terms))


@wrong("score_gradient", "The slope of the log density has the wrong sign.")
def _(values, samples, mu):
    terms = (values - values.mean()) * (mu - samples)
    return terms.mean(), terms.std(ddof=1) / np.sqrt(len(terms))


@wrong("score_gradient", "Returns the deviation of the terms and not of their mean.")
def _(values, samples, mu):
    terms = (values - values.mean()) * (samples - mu)
    return terms.mean(), terms.std(ddof=1)


@wrong("score_gradient", "Divides by n in the variance, not by n − 1.")
def _(values, samples, mu):
    terms = (values - values.mean()) * (samples - mu)
    return terms.mean(), terms.std() / np.sqrt(len(terms))


@wrong("score_gradient", "Uses the samples' own mean in place of mu.")
def _(values, samples, mu):
    terms = (values - values.mean()) * (samples - samples.mean())
    return terms.mean(), terms.std(ddof=1) / np.sqrt(len(terms))


@wrong("effective_share", "No shift: the weights underflow or overflow.")
def _(log_p, log_q):
    with np.errstate(all="ignore"):
        w = np.exp(log_p - log_q)
        return w.sum() ** 2 / (w**2).sum() / len(w)


@wrong("effective_share", "Exponentiates the densities first, which are all 0.")
def _(log_p, log_q):
    with np.errstate(all="ignore"):
        w = np.exp(log_p) / np.exp(log_q)
        return w.sum() ** 2 / (w**2).sum() / len(w)


@wrong("effective_share", "Returns the effective number and not the share.")
def _(log_p, log_q):
    w = np.exp(log_p - log_q - (log_p - log_q).max())
    return w.sum() ** 2 / (w**2).sum()


@wrong("effective_share", "The weights are turned round: q over p.")
def _(log_p, log_q):
    w = np.exp(log_q - log_p - (log_q - log_p).max())
    return w.sum() ** 2 / (w**2).sum() / len(w)


@wrong("effective_share", "The sum of the weights is not squared.")
def _(log_p, log_q):
    w = np.exp(log_p - log_q - (log_p - log_q).max())
    return w.sum() / (w**2).sum() / len(w)
