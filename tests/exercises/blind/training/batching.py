"""Blind set of training/batching: wrong answers written from statement and stub alone."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong

# ---- fill ------------------------------------------------------------------------------------


@wrong("fill", "Pads in front, at the left.", known="pads_in_front")
def _(seqs, pad=0):
    longest = max(len(s) for s in seqs)
    ids = np.array([[pad] * (longest - len(s)) + list(s) for s in seqs])
    mask = np.array([[False] * (longest - len(s)) + [True] * len(s) for s in seqs])
    return ids, mask


@wrong(
    "fill",
    "Finds the mask by comparing with pad, so a real token equal to pad is lost.",
    known="compares_with_pad",
)
def _(seqs, pad=0):
    longest = max(len(s) for s in seqs)
    ids = np.array([list(s) + [pad] * (longest - len(s)) for s in seqs])
    return ids, ids != pad


@wrong(
    "fill", "The mask is true at the padding instead of at the tokens.", known="marks_the_padding"
)
def _(seqs, pad=0):
    longest = max(len(s) for s in seqs)
    ids = np.array([list(s) + [pad] * (longest - len(s)) for s in seqs])
    mask = np.array([[False] * len(s) + [True] * (longest - len(s)) for s in seqs])
    return ids, mask


@wrong("fill", "Always fills with 0.", known="always_zero")
def _(seqs, pad=0):
    longest = max(len(s) for s in seqs)
    ids = np.zeros((len(seqs), longest), dtype=int)
    mask = np.zeros((len(seqs), longest), dtype=bool)
    for i, s in enumerate(seqs):
        ids[i, : len(s)] = s
        mask[i, : len(s)] = True
    return ids, mask


@wrong("fill", "Cuts all rows to the shortest.")
def _(seqs, pad=0):
    shortest = min(len(s) for s in seqs)
    ids = np.array([list(s)[:shortest] for s in seqs])
    return ids, np.ones(ids.shape, dtype=bool)


# ---- whole_gradient --------------------------------------------------------------------------


@wrong("whole_gradient", "The mean of means.", known="mean_of_means")
def _(means, counts, gradients):
    if np.sum(counts) == 0:
        raise ValueError("no tokens")
    return float(np.nanmean(means)), np.nanmean(gradients, axis=0)


@wrong(
    "whole_gradient", "Weighs by counts and forgets to divide by all tokens.", known="never_divides"
)
def _(means, counts, gradients):
    if np.sum(counts) == 0:
        raise ValueError("no tokens")
    means, gradients = np.nan_to_num(means), np.nan_to_num(gradients)
    return float(counts @ means), counts @ gradients


@wrong("whole_gradient", "Empty micro-batches make everything NaN.", known="keeps_the_empty")
def _(means, counts, gradients):
    total = counts.sum()
    if total == 0:
        raise ValueError("no tokens")
    return float((counts * means).sum() / total), (counts[:, None] * gradients).sum(axis=0) / total


@wrong(
    "whole_gradient",
    "The loss is right, the gradient is the plain mean.",
    known="plain_mean_of_gradients",
)
def _(means, counts, gradients):
    keep = counts > 0
    if not keep.any():
        raise ValueError("no tokens")
    loss = (counts[keep] * means[keep]).sum() / counts.sum()
    return float(loss), gradients[keep].mean(axis=0)


@wrong(
    "whole_gradient",
    "Divides the sums by the number of micro-batches.",
    known="divides_by_the_pieces",
)
def _(means, counts, gradients):
    keep = counts > 0
    if not keep.any():
        raise ValueError("no tokens")
    k = len(counts)
    return float(counts[keep] @ means[keep] / k), counts[keep] @ gradients[keep] / k


# ---- targets_of ------------------------------------------------------------------------------


@wrong(
    "targets_of",
    "Shifts by one and asks across the border of documents.",
    known="across_the_border",
)
def _(ids, doc_ids, ignore=-100):
    targets = np.full(ids.shape, ignore)
    targets[:, :-1] = ids[:, 1:]
    targets[doc_ids < 0] = ignore
    following = np.full(ids.shape, -1)
    following[:, :-1] = doc_ids[:, 1:]
    targets[following < 0] = ignore
    return targets


@wrong(
    "targets_of",
    "Uses np.roll, so the last place is asked for the first token.",
    known="goes_round",
)
def _(ids, doc_ids, ignore=-100):
    same = np.roll(doc_ids, -1, axis=1) == doc_ids
    return np.where(same & (doc_ids >= 0), np.roll(ids, -1, axis=1), ignore)


@wrong("targets_of", "Padding asks for padding.", known="asks_the_padding")
def _(ids, doc_ids, ignore=-100):
    targets = np.full(ids.shape, ignore)
    same = doc_ids[:, 1:] == doc_ids[:, :-1]
    targets[:, :-1] = np.where(same, ids[:, 1:], ignore)
    return targets


@wrong("targets_of", "Always ignores with -100.", known="always_a_hundred")
def _(ids, doc_ids, ignore=-100):
    targets = np.full(ids.shape, -100)
    same = (doc_ids[:, 1:] == doc_ids[:, :-1]) & (doc_ids[:, 1:] >= 0)
    targets[:, :-1] = np.where(same, ids[:, 1:], -100)
    return targets


@wrong("targets_of", "Asks for the token before instead of the one after.", known="the_one_before")
def _(ids, doc_ids, ignore=-100):
    targets = np.full(ids.shape, ignore)
    same = (doc_ids[:, 1:] == doc_ids[:, :-1]) & (doc_ids[:, 1:] >= 0)
    targets[:, 1:] = np.where(same, ids[:, :-1], ignore)
    return targets


# ---- first_fit -------------------------------------------------------------------------------


@wrong("first_fit", "Looks at the last row only (next fit).", known="next_fit")
def _(lengths, n, decreasing=True):
    if len(lengths) and max(lengths) > n:
        raise ValueError("too long")
    order = np.argsort(-np.asarray(lengths), kind="stable") if decreasing else range(len(lengths))
    rows, left = [], 0
    for i in order:
        if not rows or left < lengths[i]:
            rows.append([])
            left = n
        rows[-1].append(int(i))
        left -= lengths[i]
    return rows


@wrong("first_fit", "Takes the fullest row with room (best fit).", known="best_fit")
def _(lengths, n, decreasing=True):
    if len(lengths) and max(lengths) > n:
        raise ValueError("too long")
    order = np.argsort(-np.asarray(lengths), kind="stable") if decreasing else range(len(lengths))
    rows, room = [], []
    for i in order:
        fits = [r for r in range(len(rows)) if room[r] >= lengths[i]]
        if fits:
            r = min(fits, key=lambda r: room[r])
        else:
            rows.append([])
            room.append(n)
            r = len(rows) - 1
        rows[r].append(int(i))
        room[r] -= lengths[i]
    return rows


@wrong("first_fit", "A sequence that fits exactly is not let in.", known="needs_more_than_enough")
def _(lengths, n, decreasing=True):
    if len(lengths) and max(lengths) > n:
        raise ValueError("too long")
    order = np.argsort(-np.asarray(lengths), kind="stable") if decreasing else range(len(lengths))
    rows, room = [], []
    for i in order:
        for r in range(len(rows)):
            if room[r] > lengths[i]:
                break
        else:
            rows.append([])
            room.append(n)
            r = len(rows) - 1
        rows[r].append(int(i))
        room[r] -= lengths[i]
    return rows


@wrong("first_fit", "Takes the shortest first.", known="shortest_first")
def _(lengths, n, decreasing=True):
    if len(lengths) and max(lengths) > n:
        raise ValueError("too long")
    order = np.argsort(lengths, kind="stable") if decreasing else range(len(lengths))
    rows, room = [], []
    for i in order:
        for r in range(len(rows)):
            if room[r] >= lengths[i]:
                break
        else:
            rows.append([])
            room.append(n)
            r = len(rows) - 1
        rows[r].append(int(i))
        room[r] -= lengths[i]
    return rows


@wrong("first_fit", "Returns lengths instead of places.", known="rows_of_lengths")
def _(lengths, n, decreasing=True):
    if len(lengths) and max(lengths) > n:
        raise ValueError("too long")
    items = sorted(lengths, reverse=True) if decreasing else list(lengths)
    rows = []
    for length in items:
        for row in rows:
            if sum(row) + length <= n:
                row.append(int(length))
                break
        else:
            rows.append([int(length)])
    return rows


# ---- noise_scale -----------------------------------------------------------------------------


@wrong(
    "noise_scale", "Takes the squared length of the mean as the signal.", known="signal_with_noise"
)
def _(gradients):
    noise = gradients.var(axis=0, ddof=1).sum()
    signal = (gradients.mean(axis=0) ** 2).sum()
    return noise / signal if signal > 0 else np.inf, noise, signal


@wrong("noise_scale", "Divides by m in the variance.", known="divides_by_m")
def _(gradients):
    noise = gradients.var(axis=0).sum()
    signal = (gradients.mean(axis=0) ** 2).sum() - noise / len(gradients)
    return noise / signal if signal > 0 else np.inf, noise, signal


@wrong(
    "noise_scale", "Variance over m and no correction of the signal.", known="neither_correction"
)
def _(gradients):
    noise = gradients.var(axis=0).sum()
    signal = (gradients.mean(axis=0) ** 2).sum()
    return noise / signal if signal > 0 else np.inf, noise, signal


@wrong("noise_scale", "Subtracts the whole noise from the signal.", known="takes_all_noise_away")
def _(gradients):
    noise = gradients.var(axis=0, ddof=1).sum()
    signal = (gradients.mean(axis=0) ** 2).sum() - noise
    return noise / signal if signal > 0 else np.inf, noise, signal


@wrong(
    "noise_scale",
    "Averages the variances over the weights instead of adding them up.",
    known="mean_over_weights",
)
def _(gradients):
    noise = gradients.var(axis=0, ddof=1).mean()
    signal = (gradients.mean(axis=0) ** 2).mean() - noise / len(gradients)
    return noise / signal if signal > 0 else np.inf, noise, signal


# ---- next_batch ------------------------------------------------------------------------------


@wrong("next_batch", "Draws a new order at every call.", known="draws_every_time")
def _(state, n, batch_size, rng):
    order, position = rng.permutation(n).tolist(), state["position"]
    batch = np.array(order[position : position + batch_size])
    position += len(batch)
    if position >= n:
        return batch, {"order": None, "position": 0}
    return batch, {"order": order, "position": position}


@wrong("next_batch", "Draws the next order at once when an epoch ends.", known="draws_too_early")
def _(state, n, batch_size, rng):
    order, position = state["order"], state["position"]
    if order is None:
        order = rng.permutation(n).tolist()
    batch = np.array(order[position : position + batch_size])
    position += len(batch)
    if position == n:
        order, position = rng.permutation(n).tolist(), 0
    return batch, {"order": order, "position": position}


@wrong("next_batch", "Drops the last, shorter batch.", known="drops_the_last")
def _(state, n, batch_size, rng):
    order, position = state["order"], state["position"]
    if order is None or position + batch_size > n:
        order, position = rng.permutation(n).tolist(), 0
    batch = np.array(order[position : position + batch_size])
    position += len(batch)
    if position + batch_size > n:
        return batch, {"order": None, "position": 0}
    return batch, {"order": order, "position": position}


@wrong(
    "next_batch",
    "Counts batch_size at the last batch, so the end is missed.",
    known="counts_what_was_not_there",
)
def _(state, n, batch_size, rng):
    order, position = state["order"], state["position"]
    if order is None:
        order = rng.permutation(n).tolist()
    batch = np.array(order[position : position + batch_size])
    position += batch_size
    if position == n:
        order, position = None, 0
    return batch, {"order": order, "position": position}


@wrong(
    "next_batch",
    "Keeps the order for the next epoch instead of None.",
    known="the_same_order_again",
)
def _(state, n, batch_size, rng):
    order, position = state["order"], state["position"]
    if order is None:
        order = rng.permutation(n).tolist()
    batch = np.array(order[position : position + batch_size])
    position += len(batch)
    if position == n:
        position = 0
    return batch, {"order": order, "position": position}
