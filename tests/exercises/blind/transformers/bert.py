"""Blind set of transformers/bert: wrong answers from statement and stub alone."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong


def _softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@wrong("count_shared", "Counts the shared block once for each layer.", known="counts_every_layer")
def _(vocab, context, narrow, width, hidden, layers):
    tables = (vocab + context + 2) * narrow + 2 * narrow
    block = 4 * (width**2 + width) + 2 * width * hidden + hidden + width + 4 * width
    return tables + narrow * width + width + layers * block + width**2 + width


@wrong("count_shared", "Leaves out the bias of the layer that widens.", known="widens_without_bias")
def _(vocab, context, narrow, width, hidden, layers):
    tables = (vocab + context + 2) * narrow + 2 * narrow
    block = 4 * (width**2 + width) + 2 * width * hidden + hidden + width + 4 * width
    return tables + narrow * width + block + width**2 + width


@wrong("count_shared", "Makes places and segments as wide as the blocks.", known="wide_places")
def _(vocab, context, narrow, width, hidden, layers):
    tables = vocab * narrow + (context + 2) * width + 2 * narrow
    block = 4 * (width**2 + width) + 2 * width * hidden + hidden + width + 4 * width
    return tables + narrow * width + width + block + width**2 + width


@wrong("count_shared", "Forgets the pooler.", known="without_pooler")
def _(vocab, context, narrow, width, hidden, layers):
    tables = (vocab + context + 2) * narrow + 2 * narrow
    block = 4 * (width**2 + width) + 2 * width * hidden + hidden + width + 4 * width
    return tables + narrow * width + width + block


@wrong("count_shared", "Forgets the layer norms of the block.", known="fewer_norms")
def _(vocab, context, narrow, width, hidden, layers):
    tables = (vocab + context + 2) * narrow + 2 * narrow
    block = 4 * (width**2 + width) + 2 * width * hidden + hidden + width
    return tables + narrow * width + width + block + width**2 + width


def _row(a, b, length, cls, sep, pad):
    ids = [cls, *a, sep, *b, sep]
    filling = length - len(ids)
    segments = [0] * (len(a) + 2) + [1] * (len(b) + 1) + [0] * filling
    return np.array(ids + [pad] * filling), np.array(segments), np.arange(length) < len(ids)


def _longest_first(a, b, room):
    a, b = list(a), list(b)
    while len(a) + len(b) > room:
        (a if len(a) > len(b) else b).pop()
    return a, b


@wrong("pack", "Shortens the second text only.", known="cuts_the_second")
def _(a, b, length, *, cls, sep, pad):
    room = length - 3
    a = a[:room]
    return _row(a, b[: room - len(a)], length, cls, sep, pad)


@wrong("pack", "Builds the row first and cuts it off at the end.", known="cuts_the_row")
def _(a, b, length, *, cls, sep, pad):
    ids = [cls, *a, sep, *b, sep]
    segments = [0] * (len(a) + 2) + [1] * (len(b) + 1)
    filling = max(length - len(ids), 0)
    real = np.arange(length) < len(ids)
    return (
        np.array((ids + [pad] * filling)[:length]),
        np.array((segments + [0] * filling)[:length]),
        real,
    )


@wrong("pack", "Gives the first sep to the second text.", known="first_sep_in_the_second")
def _(a, b, length, *, cls, sep, pad):
    a, b = _longest_first(a, b, length - 3)
    ids, segments, real = _row(a, b, length, cls, sep, pad)
    segments[len(a) + 1] = 1
    return ids, segments, real


@wrong(
    "pack",
    "Lets the segment of the second text run through the filling.",
    known="filling_in_the_second",
)
def _(a, b, length, *, cls, sep, pad):
    a, b = _longest_first(a, b, length - 3)
    ids, segments, real = _row(a, b, length, cls, sep, pad)
    segments[~real] = 1
    return ids, segments, real


@wrong("pack", "Where both are equally long, shortens the first.", known="first_loses_a_tie")
def _(a, b, length, *, cls, sep, pad):
    a, b = list(a), list(b)
    while len(a) + len(b) > length - 3:
        (a if len(a) >= len(b) else b).pop()
    return _row(a, b, length, cls, sep, pad)


def _chosen(ids, choice, special, p):
    return (choice < p) & ~np.isin(ids, special)


def _inputs(ids, chosen, kind, others, mask_id):
    x = ids.copy()
    x[chosen & (kind < 0.8)] = mask_id
    swap = chosen & (kind >= 0.8) & (kind < 0.9)
    x[swap] = others[swap]
    return x


@wrong("hide", "Labels at every place.", known="labels_everywhere")
def _(ids, choice, kind, others, *, mask_id, special=(), p=0.15):
    chosen = _chosen(ids, choice, special, p)
    return _inputs(ids, chosen, kind, others, mask_id), ids.copy()


@wrong("hide", "Labels only where [MASK] stands.", known="labels_at_masks_alone")
def _(ids, choice, kind, others, *, mask_id, special=(), p=0.15):
    chosen = _chosen(ids, choice, special, p)
    return (
        _inputs(ids, chosen, kind, others, mask_id),
        np.where(chosen & (kind < 0.8), ids, -100),
    )


@wrong("hide", "Chooses marks and filling too.", known="hides_marks")
def _(ids, choice, kind, others, *, mask_id, special=(), p=0.15):
    chosen = choice < p
    return _inputs(ids, chosen, kind, others, mask_id), np.where(chosen, ids, -100)


@wrong(
    "hide", "Makes the labels from the input that has been changed.", known="labels_of_the_input"
)
def _(ids, choice, kind, others, *, mask_id, special=(), p=0.15):
    chosen = _chosen(ids, choice, special, p)
    x = _inputs(ids, chosen, kind, others, mask_id)
    return x, np.where(chosen, x, -100)


@wrong("hide", "Every chosen token becomes [MASK].", known="masks_all")
def _(ids, choice, kind, others, *, mask_id, special=(), p=0.15):
    chosen = _chosen(ids, choice, special, p)
    return np.where(chosen, mask_id, ids), np.where(chosen, ids, -100)


@wrong("mean_pool", "Divides by the number of places.", known="divides_by_places")
def _(h, real):
    m = real[:, :, None]
    out = np.where(m, h, 0).sum(axis=1) / h.shape[1]
    return out, lambda g: (np.where(m, g[:, None, :] / h.shape[1], 0),)


@wrong("mean_pool", "Averages over the filling too.", known="counts_the_filling")
def _(h, real):
    t = h.shape[1]
    return h.mean(axis=1), lambda g: (np.repeat(g[:, None, :], t, axis=1) / t,)


@wrong("mean_pool", "Lets the gradient reach the filling.", known="gradient_at_the_filling")
def _(h, real):
    m, n = real[:, :, None], real.sum(axis=1)[:, None]
    out = np.where(m, h, 0).sum(axis=1) / n
    return out, lambda g: (np.repeat((g / n)[:, None, :], h.shape[1], axis=1),)


@wrong("mean_pool", "Forgets to divide on the way back.", known="does_not_divide_on_the_way_back")
def _(h, real):
    m, n = real[:, :, None], real.sum(axis=1)[:, None]
    out = np.where(m, h, 0).sum(axis=1) / n
    return out, lambda g: (np.where(m, g[:, None, :], 0),)


@wrong("mean_pool", "Multiplies by the mask, and NaN stays NaN.", known="multiplies_with_the_mask")
def _(h, real):
    m, n = real[:, :, None], real.sum(axis=1)[:, None]
    return (h * m).sum(axis=1) / n, lambda g: (g[:, None, :] * m / n[:, None],)


def _best(start, end, allowed):
    table = np.where(allowed, start[:, None] + end, -np.inf)
    i, j = np.unravel_index(table.argmax(), table.shape)
    return int(i), int(j), float(table[i, j] - start[0] - end[0])


def _length(n):
    return np.arange(n)[None, :] - np.arange(n)[:, None] + 1


@wrong(
    "best_answer",
    "Takes the best beginning and the best end by themselves.",
    known="each_by_itself",
)
def _(start, end, longest):
    i, j = 1 + int(start[1:].argmax()), 1 + int(end[1:].argmax())
    return i, j, float(start[i] + end[j] - start[0] - end[0])


@wrong("best_answer", "Lets an answer begin at [CLS].", known="begins_at_the_mark")
def _(start, end, longest):
    n = _length(len(start))
    return _best(start, end, (n >= 1) & (n <= longest))


@wrong("best_answer", "Lets an answer be one token too long.", known="one_too_long")
def _(start, end, longest):
    n = _length(len(start))
    return _best(start, end, (n >= 1) & (n <= longest + 1) & (np.arange(len(n)) > 0)[:, None])


@wrong(
    "best_answer",
    "Fixes the best beginning first, then looks for the end behind it.",
    known="greedy",
)
def _(start, end, longest):
    i = 1 + int(start[1:].argmax())
    j = i + int(end[i : i + longest].argmax())
    return i, j, float(start[i] + end[j] - start[0] - end[0])


@wrong(
    "best_answer", "Returns the score itself and not the gain.", known="score_without_comparison"
)
def _(start, end, longest):
    n = _length(len(start))
    i, j, gain = _best(start, end, (n >= 1) & (n <= longest) & (np.arange(len(n)) > 0)[:, None])
    return i, j, gain + float(start[0] + end[0])


@wrong("distil", "Forgets the square of the temperature.", known="without_the_square")
def _(student, teacher, temperature):
    p, q = _softmax(teacher / temperature), _softmax(student / temperature)
    loss = (p * np.log(p / q)).sum(axis=1).mean()
    return loss, (q - p) / temperature / len(student)


@wrong("distil", "Takes the divergence the other way round.", known="the_other_divergence")
def _(student, teacher, temperature):
    p, q = _softmax(teacher / temperature), _softmax(student / temperature)
    log = np.log(q / p)
    each = (q * log).sum(axis=1, keepdims=True)
    return temperature**2 * each.mean(), temperature * q * (log - each) / len(student)


@wrong("distil", "Gradient without the temperature.", known="other_powers")
def _(student, teacher, temperature):
    p, q = _softmax(teacher / temperature), _softmax(student / temperature)
    loss = temperature**2 * (p * np.log(p / q)).sum(axis=1).mean()
    return loss, (q - p) / len(student)


@wrong("distil", "Does not soften the teacher.", known="hard_teacher")
def _(student, teacher, temperature):
    p, q = _softmax(teacher), _softmax(student / temperature)
    loss = temperature**2 * (p * np.log(p / q)).sum(axis=1).mean()
    return loss, temperature * (q - p) / len(student)


@wrong("distil", "Averages over the classes as well.", known="averages_the_classes")
def _(student, teacher, temperature):
    p, q = _softmax(teacher / temperature), _softmax(student / temperature)
    loss = temperature**2 * (p * np.log(p / q)).mean()
    return loss, temperature * (q - p) / student.size
