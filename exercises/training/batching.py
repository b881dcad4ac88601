"""Exercises of training/batching.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import exercise, expect, expect_close, expect_equal, expect_shape
from chainrule.training.batching import BatchSampler


@exercise(
    "Fill up, and mark",
    difficulty=1,
    minutes=10,
    section="padding",
    counterpart="chainrule.training.batching:pad_batch",
    idea="Make both arrays in their full size first. Then write each sequence over the beginning "
    "of its row.",
)
def fill(seqs, pad=0):
    """Return the sequences as rows of one array, and a mask of the same shape.

    seqs is a list of at least one sequence of whole numbers, some of which may be empty. The rows
    are as long as the longest; behind the end of a shorter one stands pad. The mask is of bool and
    true where a token is real. A real token may be equal to pad.
    """
    longest = max(len(s) for s in seqs)
    ids = np.full((len(seqs), longest), pad, dtype=np.int64)
    mask = np.zeros((len(seqs), longest), dtype=bool)
    for row, s in enumerate(seqs):
        ids[row, : len(s)] = s
        mask[row, : len(s)] = True
    return ids, mask


@fill.check
def three_short_ones(answer, rng):
    ids, mask = answer([[5, 6, 7], [8], [9, 1]], 0)
    expect_equal(ids, np.array([[5, 6, 7], [8, 0, 0], [9, 1, 0]]), what="the ids")
    expected = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0]], dtype=bool)
    expect_equal(mask, expected, what="the mask")


@fill.check
def pads_and_zeros_among_the_tokens(answer, rng):
    for pad in (0, -1, 3):
        seqs = [rng.integers(0, 5, size).tolist() for size in (4, 11, 0, 7, 1)]
        ids, mask = answer([list(s) for s in seqs], pad)
        expected = fill(seqs, pad)
        expect_shape(ids, (5, 11), what="the ids")
        expect_equal(ids, expected[0], what=f"the ids with pad = {pad}")
        expect_equal(mask, expected[1], what=f"the mask with pad = {pad}")


@exercise(
    "One gradient from many means",
    difficulty=2,
    minutes=15,
    section="gradient-accumulation",
    because="the package adds up sums and never sees the mean of a micro-batch",
    idea="What is the sum of a micro-batch's losses, if you know their mean and their number? A "
    "gradient of a mean becomes one of a sum in the same way.",
)
def whole_gradient(means, counts, gradients):
    """Return the loss and the gradient of a batch from those of its micro-batches.

    means has shape (k,): the mean loss of each micro-batch. counts, of shape (k,), holds their
    numbers of tokens, and gradients, of shape (k, d), the gradients of the means. A micro-batch may
    have no token; then its mean and its gradient are NaN. Return a pair: the mean loss of a token
    of the batch, and its gradient, of shape (d,). If there is no token at all, raise a ValueError.
    """
    counts = np.asarray(counts)
    if counts.sum() == 0:
        raise ValueError("no micro-batch has a token")
    filled = counts > 0
    weights = counts[filled] / counts.sum()
    return float(weights @ means[filled]), weights @ gradients[filled]


def _micro_batches(rng, counts, d):
    counts = np.array(counts)
    means, gradients = rng.normal(3, 1, len(counts)), rng.normal(size=(len(counts), d))
    means[counts == 0], gradients[counts == 0] = np.nan, np.nan
    return means, counts, gradients


@whole_gradient.check
def one_token_and_three(answer, rng):
    gradients = np.array([[8.0, 0.0], [4.0, 4.0]])
    loss, gradient = answer(np.array([4.0, 2.0]), np.array([1, 3]), gradients)
    expect_close(loss, 2.5, what="the loss of one token with 4 and three with 2")
    expect_close(gradient, np.array([5.0, 3.0]), what="the gradient of the two micro-batches")


@whole_gradient.check
def many_sizes(answer, rng):
    for counts, d in (((5, 2, 11), 3), ((7,), 2), ((1, 1, 4, 13, 2), 5)):
        given = _micro_batches(rng, counts, d)
        loss, gradient = answer(*(x.copy() for x in given))
        expected = whole_gradient(*given)
        expect_close(loss, expected[0], what=f"the loss of micro-batches of {counts} tokens")
        expect_close(gradient, expected[1], what=f"the gradient with {counts} tokens")


@whole_gradient.check
def some_are_empty(answer, rng):
    given = _micro_batches(rng, (3, 0, 8, 0), 4)
    loss, gradient = answer(*(x.copy() for x in given))
    expected = whole_gradient(*given)
    expect_close(loss, expected[0], what="the loss with two empty micro-batches of four")
    expect_close(gradient, expected[1], what="the gradient with two empty micro-batches of four")


@whole_gradient.check
def nothing_at_all(answer, rng):
    empty = _micro_batches(rng, (0, 0), 3)
    try:
        answer(*empty)
    except ValueError:
        return
    expect(False, "two empty micro-batches have no mean loss: expected a ValueError")


@exercise(
    "Targets that stop at the border",
    difficulty=2,
    minutes=15,
    section="keep-neighbours-apart",
    counterpart="chainrule.training.batching:packed_targets",
    idea="Compare each place with the place to its right, in both arrays.",
)
def targets_of(ids, doc_ids, ignore=-100):
    """Return what each place of packed rows is asked for: the next token of the same document.

    ids and doc_ids have the shape (rows, time). doc_ids counts the documents of a row 0, 1, …, and
    is −1 in the padding, which may stand anywhere. Where there is no next token of the same
    document, and in the padding, the target is ignore. The result has the shape of ids; neither
    argument is changed.
    """
    targets = np.full(ids.shape, ignore, dtype=np.int64)
    same = (doc_ids[:, 1:] == doc_ids[:, :-1]) & (doc_ids[:, 1:] >= 0)
    targets[:, :-1][same] = ids[:, 1:][same]
    return targets


def _packed(rng, rows, time):
    doc_ids = np.full((rows, time), -1)
    for row in doc_ids:
        start = 0
        for document in range(4):
            end = start + int(rng.integers(1, time // 3))
            row[start:end] = document
            start = end
    return rng.integers(1, 30, (rows, time)), doc_ids


@targets_of.check
def ann_and_jo(answer, rng):
    ids = np.array([[1, 14, 14, 27, 10, 15, 27, 0]])
    doc_ids = np.array([[0, 0, 0, 0, 1, 1, 1, -1]])
    expected = np.array([[14, 14, 27, -100, 15, 27, -100, -100]])
    expect_equal(answer(ids, doc_ids), expected, what="the targets of ann and jo in one row")


@targets_of.check
def many_rows(answer, rng):
    for rows, time, ignore in ((3, 17, -100), (5, 23, -1), (1, 11, -7)):
        ids, doc_ids = _packed(rng, rows, time)
        expected = targets_of(ids, doc_ids, ignore)
        received = answer(ids.copy(), doc_ids.copy(), ignore)
        expect_equal(received, expected, what=f"the targets of {rows} rows of {time}")


@targets_of.check
def a_full_row(answer, rng):
    ids, doc_ids = rng.integers(1, 9, (2, 13)), np.zeros((2, 13), dtype=int)
    doc_ids[1, 5:] = 1
    expected = targets_of(ids, doc_ids)
    expect_equal(answer(ids.copy(), doc_ids.copy()), expected, what="the targets of full rows")


@exercise(
    "The first row with room",
    difficulty=3,
    minutes=20,
    section="packing",
    counterpart="chainrule.training.batching:pack_first_fit",
    idea="Keep a list of the room that is left in each row. For each sequence, walk along that "
    "list from its beginning.",
)
def first_fit(lengths, n, decreasing=True):
    """Return rows, each a list of places in lengths, packed by first fit.

    lengths has shape (k,), each from 1 to n. With decreasing, the longest sequence is taken first,
    and of equal ones the earlier; otherwise they are taken as they come. Each goes into the first
    row that has room for it, behind what is there, or into a new row at the end. Raise a ValueError
    if a sequence is longer than a row.
    """
    lengths = np.asarray(lengths)
    if len(lengths) and lengths.max() > n:
        raise ValueError(f"a sequence of {lengths.max()} tokens does not fit a row of {n}")
    order = np.argsort(-lengths, kind="stable") if decreasing else np.arange(len(lengths))
    rows, room = [], []
    for i in order.tolist():
        for row in range(len(rows)):
            if room[row] >= lengths[i]:
                break
        else:
            row = len(rows)
            rows.append([])
            room.append(n)
        rows[row].append(i)
        room[row] -= int(lengths[i])
    return rows


@first_fit.check
def seven_by_hand(answer, rng):
    lengths = np.array([2, 5, 4, 7, 1, 3, 8])
    expected = [[0, 1, 4], [2, 5], [3], [6]]
    expect_equal(answer(lengths, 10, False), expected, what="seven sequences, as they come")
    expect_equal(answer(lengths, 10), [[6, 0], [3, 5], [1, 2, 4]], what="the longest first")


@first_fit.check
def many_lengths(answer, rng):
    for k, n in ((12, 11), (31, 17), (57, 40)):
        lengths = rng.integers(1, n // 2 + 3, k)
        for decreasing in (False, True):
            expected = first_fit(lengths, n, decreasing)
            received = answer(lengths.copy(), n, decreasing)
            expect_equal(received, expected, what=f"{k} sequences in rows of {n}, {decreasing}")


@first_fit.check
def too_long(answer, rng):
    try:
        answer(np.array([3, 12, 4]), 10)
    except ValueError:
        return
    expect(False, "12 tokens do not fit a row of 10: expected a ValueError")


@exercise(
    "The noise scale from a handful",
    difficulty=3,
    minutes=25,
    section="the-gradient-noise-scale",
    because="the package estimates it from batches of two sizes, not from single examples",
    idea="The mean of your few gradients is itself noisy. By how much does that lengthen it, on "
    "average? Take that away.",
)
def noise_scale(gradients):
    """Return estimates (scale, noise, signal) from the gradients of a few examples.

    gradients has shape (m, d): m ≥ 2 examples, drawn at random from a large data set. noise
    estimates the sum of the variances of one example's gradient over the d weights, signal the
    squared length of the gradient of the whole data set. Both must be right on average, however
    small m is. scale is noise over signal, and infinite where signal is not positive. All three are
    numbers.
    """
    m = len(gradients)
    noise = gradients.var(axis=0, ddof=1).sum()
    signal = (gradients.mean(axis=0) ** 2).sum() - noise / m
    scale = noise / signal if signal > 0 else np.inf
    return float(scale), float(noise), float(signal)


@noise_scale.check
def four_by_hand(answer, rng):
    received = answer(np.array([[1.0], [3.0], [5.0], [11.0]]))
    noise = 56 / 3
    expected = (noise / (25 - noise / 4), noise, 25 - noise / 4)
    for value, wanted, name in zip(received, expected, ("scale", "noise", "signal"), strict=True):
        expect_close(value, wanted, what=f"the {name} of 1, 3, 5 and 11")


@noise_scale.check
def many_weights(answer, rng):
    for m, d, mean in ((2, 5, 3.0), (7, 11, 1.0), (41, 3, 0.7)):
        gradients = mean + rng.normal(size=(m, d)) * rng.uniform(0.5, 2, d)
        expected = noise_scale(gradients)
        received = answer(gradients.copy())
        expect_close(np.array(received), np.array(expected), what=f"{m} gradients of {d} weights")


@noise_scale.check
def nothing_but_noise(answer, rng):
    gradients = np.array([[1.0, 2.0], [-1.0, -2.0], [0.5, -0.5]])
    scale, noise, signal = answer(gradients)
    expected = noise_scale(gradients)
    expect_close(np.array([noise, signal]), np.array(expected[1:]), what="noise and signal")
    expect(scale == np.inf, f"without a signal the scale is infinite, received {scale}")


@exercise(
    "Go on where it stopped",
    difficulty=4,
    minutes=25,
    section="every-example-once",
    counterpart="chainrule.training.batching:BatchSampler.__iter__",
    idea="Three cases: no order yet, in the middle of one, and at its end. Only the first draws.",
)
def next_batch(state, n, batch_size, rng):
    """Return the next batch of an endless random stream, and the state after it.

    state is a dictionary with two entries: order, a list with the n examples of the present epoch
    or None if the epoch has not begun, and position, how many of them have been handed out. An
    epoch begins by drawing rng.permutation(n). The last batch of an epoch may be shorter, and after
    it the state is that of an epoch that has not begun: None and 0. The batch is an array of whole
    numbers. Return (batch, new state); the state that was given must stay as it is.
    """
    order, position = state["order"], state["position"]
    if order is None:
        order = rng.permutation(n).tolist()
    batch = np.array(order[position : position + batch_size])
    position += len(batch)
    if position == n:
        order, position = None, 0
    return batch, {"order": order, "position": position}


@next_batch.by_package
def _(package, state, n, batch_size, rng):
    sampler = BatchSampler(n, batch_size, rng)
    sampler.order = None if state["order"] is None else np.array(state["order"])
    sampler.position = state["position"]
    batch = next(package(sampler))
    if sampler.position == n:
        return batch, {"order": None, "position": 0}
    return batch, {"order": sampler.order.tolist(), "position": sampler.position}


def _stream(answer, n, batch_size, seed, steps):
    rng, state, batches = np.random.default_rng(seed), {"order": None, "position": 0}, []
    for _ in range(steps):
        batch, state = answer(state, n, batch_size, rng)
        batches.append(np.asarray(batch))
    return batches, state


@next_batch.check
def in_the_middle(answer, rng):
    state = {"order": [3, 0, 4, 1, 2], "position": 2}
    batch, after = answer(state, 5, 2, rng)
    expect_equal(np.asarray(batch), np.array([4, 1]), what="the batch after two of 3, 0, 4, 1, 2")
    expect_equal(after["position"], 4, what="the position after it")
    expect_equal(list(after["order"]), [3, 0, 4, 1, 2], what="the order after it")
    expect_equal(state["position"], 2, what="the position in the given state, afterwards,")


@next_batch.check
def the_last_of_an_epoch(answer, rng):
    for position in (3, 4):
        state = {"order": [3, 0, 4, 1, 2], "position": position}
        batch, after = answer(state, 5, 2, rng)
        expected = np.array([1, 2][position - 3 :])
        expect_equal(np.asarray(batch), expected, what=f"the last batch, from place {position}")
        expect(after["order"] is None, "after the last batch the order must be None")
        expect_equal(after["position"], 0, what="the position after the last batch")


@next_batch.check
def several_epochs(answer, rng):
    for n, batch_size, steps in ((7, 3, 11), (12, 4, 8), (5, 9, 4)):
        received, state = _stream(answer, n, batch_size, 17 + n, steps)
        expected, after = _stream(next_batch, n, batch_size, 17 + n, steps)
        what = f"{steps} batches of {batch_size} out of {n}"
        expect_equal([b.tolist() for b in received], [b.tolist() for b in expected], what=what)
        expect_equal(state["position"], after["position"], what=f"the position after {what}")
