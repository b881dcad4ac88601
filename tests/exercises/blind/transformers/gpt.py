"""Blind set of transformers/gpt: wrong answers written from statement and stub alone."""

from __future__ import annotations

from math import comb

import numpy as np

from chainrule.course.exercises import wrong


def _softmax(z, axis=-1):
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


# ---- doubling_months -----------------------------------------------------------------------------


@wrong("doubling_months", "Counts parameters only.", known="parameters_alone")
def _(first, second):
    return (second[0] - first[0]) * 12 / np.log2(second[1] / first[1])


@wrong("doubling_months", "Takes the natural logarithm.", known="natural_logarithm")
def _(first, second):
    ratio = second[1] * second[2] / first[1] / first[2]
    return (second[0] - first[0]) * 12 / np.log(ratio)


@wrong("doubling_months", "Divides the ratio by two instead of taking a logarithm.")
def _(first, second):
    ratio = second[1] * second[2] / first[1] / first[2]
    return (second[0] - first[0]) * 12 / (ratio / 2)


@wrong("doubling_months", "Answers in years.", known="in_years")
def _(first, second):
    ratio = second[1] * second[2] / first[1] / first[2]
    return (second[0] - first[0]) / np.log2(ratio)


# ---- pass_at_each_k ------------------------------------------------------------------------------


@wrong("pass_at_each_k", "Draws with replacement.", known="with_replacement")
def _(right):
    p = right.mean(axis=1)
    return np.array([np.mean(1 - (1 - p) ** k) for k in range(1, right.shape[1] + 1)])


@wrong("pass_at_each_k", "Chance of all k right.")
def _(right):
    n, c = right.shape[1], right.sum(axis=1)
    ks = range(1, n + 1)
    return np.array([np.mean([comb(int(x), k) / comb(n, k) for x in c]) for k in ks])


@wrong("pass_at_each_k", "Takes the first k answers.", known="the_first_k")
def _(right):
    return np.array([right[:, :k].any(axis=1).mean() for k in range(1, right.shape[1] + 1)])


@wrong("pass_at_each_k", "Pools all tasks.", known="all_tasks_as_one")
def _(right):
    p = right.mean()
    return np.array([1 - (1 - p) ** k for k in range(1, right.shape[1] + 1)])


# ---- gpt_size ------------------------------------------------------------------------------------


@wrong("gpt_size", "Uses 4 * width for the inner width.", known="four_times")
def _(vocabulary, context, layers, width, hidden, tied):
    block = 12 * width**2 + 13 * width
    return ((2 - tied) * vocabulary + context) * width + layers * block + 2 * width


@wrong("gpt_size", "Forgets biases.", known="no_biases")
def _(vocabulary, context, layers, width, hidden, tied):
    block = 4 * width**2 + 2 * width * hidden + 4 * width
    return ((2 - tied) * vocabulary + context) * width + layers * block + 2 * width


@wrong("gpt_size", "Forgets the last layer norm.", known="no_last_norm")
def _(vocabulary, context, layers, width, hidden, tied):
    block = 4 * width**2 + 4 * width + 2 * width * hidden + hidden + width + 4 * width
    return ((2 - tied) * vocabulary + context) * width + layers * block


@wrong("gpt_size", "One norm with gain and bias in a block instead of two.", known="one_norm")
def _(vocabulary, context, layers, width, hidden, tied):
    block = 4 * width**2 + 4 * width + 2 * width * hidden + hidden + width + 2 * width
    return ((2 - tied) * vocabulary + context) * width + layers * block + 2 * width


@wrong("gpt_size", "Reads tied the wrong way round.", known="tied_the_wrong_way")
def _(vocabulary, context, layers, width, hidden, tied):
    block = 4 * width**2 + 4 * width + 2 * width * hidden + hidden + width + 4 * width
    return ((1 + tied) * vocabulary + context) * width + layers * block + 2 * width


# ---- answer_log_probability ----------------------------------------------------------------------


@wrong("answer_log_probability", "Off by one: the rows of the answer.", known="own_row")
def _(predict, prompt, reply):
    rows = predict(np.concatenate([prompt, reply]))[len(prompt) :]
    return float(np.log(_softmax(rows))[np.arange(len(reply)), reply].sum())


@wrong("answer_log_probability", "Mean instead of sum.", known="mean_of_tokens")
def _(predict, prompt, reply):
    rows = predict(np.concatenate([prompt, reply]))[len(prompt) - 1 : -1]
    top = rows.max(axis=1, keepdims=True)
    logs = rows - top - np.log(np.exp(rows - top).sum(axis=1, keepdims=True))
    return float(logs[np.arange(len(reply)), reply].mean())


@wrong("answer_log_probability", "Softmax over the wrong axis.")
def _(predict, prompt, reply):
    rows = predict(np.concatenate([prompt, reply]))[len(prompt) - 1 : -1]
    return float(np.log(_softmax(rows, axis=0))[np.arange(len(reply)), reply].sum())


@wrong("answer_log_probability", "Adds raw scores, without the softmax.", known="raw_scores")
def _(predict, prompt, reply):
    rows = predict(np.concatenate([prompt, reply]))[len(prompt) - 1 : -1]
    return float(rows[np.arange(len(reply)), reply].sum())


# ---- next_token_loss -----------------------------------------------------------------------------


def _rows(logits, ids, real):
    p, hot = _softmax(logits), np.eye(logits.shape[-1])[ids]
    with np.errstate(divide="ignore"):
        nll = -np.log((p * hot).sum(axis=-1))
    return (np.where(real, nll, 0)).sum() / real.sum(), (p - hot) * real[..., None] / real.sum()


@wrong("next_token_loss", "No shift.", known="no_shift")
def _(logits, ids, lengths):
    return _rows(logits, ids, np.arange(ids.shape[1]) < lengths[:, None])


@wrong("next_token_loss", "Counts padding.", known="counts_padding")
def _(logits, ids, lengths):
    loss, g = _rows(logits[:, :-1], ids[:, 1:], np.ones((len(ids), ids.shape[1] - 1), bool))
    return loss, np.concatenate([g, np.zeros_like(logits[:, :1])], axis=1)


@wrong(
    "next_token_loss", "Gradient not divided by the number of targets.", known="gradient_of_the_sum"
)
def _(logits, ids, lengths):
    real = np.arange(1, ids.shape[1]) < lengths[:, None]
    loss, g = _rows(logits[:, :-1], ids[:, 1:], real)
    return loss, np.concatenate([g * real.sum(), np.zeros_like(logits[:, :1])], axis=1)


@wrong("next_token_loss", "One place too many in each text.", known="one_too_many")
def _(logits, ids, lengths):
    real = np.arange(ids.shape[1] - 1) < lengths[:, None]
    loss, g = _rows(logits[:, :-1], ids[:, 1:], real)
    return loss, np.concatenate([g, np.zeros_like(logits[:, :1])], axis=1)


# ---- sample_filters ------------------------------------------------------------------------------


def _filter(logits, temperature, top_k, top_p, min_p, keep, order):
    z = logits / temperature if order == "first" else logits
    if top_k is not None:
        z = np.where(z < np.sort(z, axis=1)[:, -min(top_k, z.shape[1]), None], -np.inf, z)
    if top_p is not None:
        p = _softmax(z)
        rank = np.argsort(-p, axis=1, kind="stable")
        total = np.cumsum(np.take_along_axis(p, rank, axis=1), axis=1)
        inside = (
            total <= top_p
            if keep == "below"
            else total - np.take_along_axis(p, rank, axis=1) < top_p
        )
        inside[:, 0] |= keep != "nothing"
        mask = np.zeros(z.shape, bool)
        np.put_along_axis(mask, rank, inside, axis=1)
        z = np.where(mask, z, -np.inf)
    if min_p is not None:
        p = _softmax(z)
        z = np.where(p < min_p * p.max(axis=1, keepdims=True), -np.inf, z)
    return z if order == "first" else z / temperature


@wrong("sample_filters", "Cuts the crossing token.", known="without_the_crossing")
def _(logits, temperature=1.0, top_k=None, top_p=None, min_p=None):
    return _filter(logits, temperature, top_k, top_p, min_p, "below", "first")


@wrong("sample_filters", "Temperature at the end.", known="temperature_last")
def _(logits, temperature=1.0, top_k=None, top_p=None, min_p=None):
    return _filter(logits, temperature, top_k, top_p, min_p, "right", "last")


@wrong("sample_filters", "Multiplies by the temperature.", known="multiplies")
def _(logits, temperature=1.0, top_k=None, top_p=None, min_p=None):
    return _filter(logits, 1 / temperature, top_k, top_p, min_p, "right", "first")


@wrong("sample_filters", "Top-k over the whole batch.")
def _(logits, temperature=1.0, top_k=None, top_p=None, min_p=None):
    z = logits / temperature
    if top_k is not None:
        z = np.where(z < np.sort(z.ravel())[-top_k], -np.inf, z)
    return _filter(z, 1.0, None, top_p, min_p, "right", "first")


# ---- witten_bell ---------------------------------------------------------------------------------


def _counts(ids, wanted, vocabulary):
    n, found = len(wanted), np.zeros(vocabulary)
    for end in range(n, len(ids)):
        if list(ids[end - n : end]) == list(wanted):
            found[ids[end]] += 1
    return found


@wrong("witten_bell", "Backs off straight to the fair guess.", known="only_the_longest")
def _(ids, history, vocabulary):
    c = _counts(ids, history, vocabulary)
    k = (c > 0).sum()
    p = np.full(vocabulary, 1 / vocabulary)
    return (c + k * p) / (c.sum() + k) if k else p


@wrong("witten_bell", "Plain counts, zeros for what never came.", known="bare_counts")
def _(ids, history, vocabulary):
    c = _counts(ids, history, vocabulary)
    return c / c.sum() if c.sum() else np.full(vocabulary, 1 / vocabulary)


@wrong("witten_bell", "Adds one to every count.", known="add_one_to_the_longest")
def _(ids, history, vocabulary):
    c = _counts(ids, history, vocabulary)
    return (c + 1) / (c.sum() + vocabulary)


@wrong("witten_bell", "Uses cases for kinds.", known="counts_for_kinds")
def _(ids, history, vocabulary):
    p = np.full(vocabulary, 1 / vocabulary)
    for length in range(len(history) + 1):
        c = _counts(ids, history[len(history) - length :], vocabulary)
        if c.sum():
            p = (c + c.sum() * p) / (2 * c.sum())
    return p


# ---- text_to_ids -----------------------------------------------------------------------------


@wrong("text_to_ids", "The code points, not the places in the alphabet.", known="code_points")
def _(text, alphabet):
    for character in text:
        if character not in alphabet:
            raise ValueError(f"{character!r} is not in the alphabet")
    return np.array([ord(character) for character in text], dtype=np.int64)


@wrong(
    "text_to_ids",
    "str.find, which answers -1 for an unknown character.",
    known="find_says_minus_one",
)
def _(text, alphabet):
    return np.array([alphabet.find(character) for character in text], dtype=np.int64)


@wrong("text_to_ids", "Counts from 1.", known="counts_from_one")
def _(text, alphabet):
    places = {character: i for i, character in enumerate(alphabet, 1)}
    for character in text:
        if character not in places:
            raise ValueError(f"{character!r} is not in the alphabet")
    return np.array([places[character] for character in text], dtype=np.int64)


@wrong(
    "text_to_ids",
    "Leaves out the characters that are not in the alphabet.",
    known="leaves_unknown_ones_out",
)
def _(text, alphabet):
    places = {character: i for i, character in enumerate(alphabet)}
    return np.array([places[each] for each in text if each in places], dtype=np.int64)


@wrong("text_to_ids", "A KeyError for an unknown character.")
def _(text, alphabet):
    places = {character: i for i, character in enumerate(alphabet)}
    return np.array([places[character] for character in text], dtype=np.int64)


# ---- windows ---------------------------------------------------------------------------------


def _cut(ids, starts, context, shift=1):
    at = np.asarray(starts)[:, None] + np.arange(context)
    return ids[at], ids[at + shift]


@wrong("windows", "Targets are the inputs themselves.", known="targets_not_shifted")
def _(ids, starts, context):
    if np.min(starts) < 0 or np.max(starts) + context >= len(ids):
        raise ValueError("a start is outside of the text")
    return _cut(ids, starts, context, shift=0)


@wrong(
    "windows",
    "Refuses the last window, whose last target is the last token.",
    known="refuses_the_last_window",
)
def _(ids, starts, context):
    if np.min(starts) < 0 or np.max(starts) + context + 1 >= len(ids):
        raise ValueError("a start is outside of the text")
    return _cut(ids, starts, context)


@wrong("windows", "Lets negative starts count from the end.", known="accepts_negative_starts")
def _(ids, starts, context):
    if np.max(starts) + context >= len(ids):
        raise ValueError("a start is outside of the text")
    return _cut(ids, starts, context)


@wrong("windows", "The target is the token before its input.", known="one_token_back")
def _(ids, starts, context):
    if np.min(starts) < 0 or np.max(starts) + context >= len(ids):
        raise ValueError("a start is outside of the text")
    return _cut(ids, starts, context, shift=-1)


@wrong(
    "windows",
    "Only the token after the window is a target, as often as there are inputs.",
    known="one_target_for_all",
)
def _(ids, starts, context):
    if np.min(starts) < 0 or np.max(starts) + context >= len(ids):
        raise ValueError("a start is outside of the text")
    inputs, _ = _cut(ids, starts, context)
    after = ids[np.asarray(starts) + context]
    return inputs, np.repeat(after[:, None], context, axis=1)
