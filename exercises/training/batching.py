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


def _filled(seqs, pad, front=False):
    longest = max(len(s) for s in seqs)
    ids = np.full((len(seqs), longest), pad, dtype=np.int64)
    mask = np.zeros((len(seqs), longest), dtype=bool)
    for row, s in enumerate(seqs):
        place = slice(longest - len(s), longest) if front else slice(0, len(s))
        ids[row, place], mask[row, place] = s, True
    return ids, mask


@fill.mistake("Your padding stands in front. Behind which end of a sequence does it belong here?")
def pads_in_front(seqs, pad=0):
    return _filled(seqs, pad, front=True)


@fill.mistake(
    "Your mask is found by looking at the values. What if a real token has the value of pad?"
)
def compares_with_pad(seqs, pad=0):
    ids, _ = _filled(seqs, pad)
    return ids, ids != pad


@fill.mistake("Your mask is the wrong way round: it should be true at the tokens.")
def marks_the_padding(seqs, pad=0):
    ids, mask = _filled(seqs, pad)
    return ids, ~mask


@fill.mistake("Which value fills your rows, if pad is not 0?")
def always_zero(seqs, pad=0):
    return _filled(seqs, 0)


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


def _refuse(counts, refuses):
    if refuses and np.sum(counts) == 0:
        raise ValueError("no micro-batch has a token")


@whole_gradient.mistake(
    "This is the mean of means: a token of a short micro-batch weighs more in it than others. "
    "What must each micro-batch be weighed by?",
    how=(0, 1, 2, 3),
)
def mean_of_means(means, counts, gradients, how):
    skips = how < 2
    _refuse(counts, refuses=how % 2)
    keep = counts > 0 if skips else np.full(len(counts), True)
    return float(means[keep].mean()), gradients[keep].mean(axis=0)


@whole_gradient.mistake(
    "This is the sum over all tokens. A mean loss is asked for, and its gradient.",
    refuses=(True, False),
)
def never_divides(means, counts, gradients, refuses):
    _refuse(counts, refuses)
    keep = counts > 0
    return float(counts[keep] @ means[keep]), counts[keep] @ gradients[keep]


@whole_gradient.mistake(
    "Your answer is NaN as soon as one micro-batch is empty. What is 0 times NaN?",
    refuses=(True, False),
)
def keeps_the_empty(means, counts, gradients, refuses):
    _refuse(counts, refuses)
    weights = counts / counts.sum()
    return float(weights @ means), weights @ gradients


@whole_gradient.mistake(
    "The loss is right, but your gradient weighs all micro-batches alike.",
    how=(0, 1, 2, 3),
)
def plain_mean_of_gradients(means, counts, gradients, how):
    skips = how < 2
    _refuse(counts, refuses=how % 2)
    keep = counts > 0
    loss = counts[keep] @ means[keep] / counts.sum()
    return float(loss), gradients[keep if skips else slice(None)].mean(axis=0)


@whole_gradient.mistake(
    "You divide by the number of micro-batches. What is the loss a mean over?",
    how=(0, 1, 2, 3),
)
def divides_by_the_pieces(means, counts, gradients, how):
    skips = how < 2
    _refuse(counts, refuses=how % 2)
    keep = counts > 0
    pieces = keep.sum() if skips else len(counts)
    return float(counts[keep] @ means[keep] / pieces), counts[keep] @ gradients[keep] / pieces


@whole_gradient.mistake(
    "The loss is right, but your gradient is that of the sum of all losses.",
    refuses=(True, False),
)
def gradient_of_the_sum(means, counts, gradients, refuses):
    _refuse(counts, refuses)
    keep = counts > 0
    return float(counts[keep] @ means[keep] / counts.sum()), counts[keep] @ gradients[keep]


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


def _next(ids, doc_ids, ignore, border=True, padding=True):
    targets = np.full(ids.shape, ignore, dtype=np.int64)
    good = np.full(ids[:, 1:].shape, True)
    if border:
        good &= doc_ids[:, 1:] == doc_ids[:, :-1]
    if padding:
        good &= (doc_ids[:, 1:] >= 0) & (doc_ids[:, :-1] >= 0)
    targets[:, :-1] = np.where(good, ids[:, 1:], ignore)
    return targets


@targets_of.mistake(
    "The last token of a document is asked for the first token of the next one. Which two document "
    "numbers have to be equal?"
)
def across_the_border(ids, doc_ids, ignore=-100):
    return _next(ids, doc_ids, ignore, border=False)


@targets_of.mistake(
    "At the end of a full row stands the first token of that row: a roll goes round in a circle."
)
def goes_round(ids, doc_ids, ignore=-100):
    same = (np.roll(doc_ids, -1, axis=1) == doc_ids) & (doc_ids >= 0)
    return np.where(same, np.roll(ids, -1, axis=1), ignore)


@targets_of.mistake("Padding is asked for padding: its document number is equal to itself, too.")
def asks_the_padding(ids, doc_ids, ignore=-100):
    return _next(ids, doc_ids, ignore, padding=False)


@targets_of.mistake("Look at the argument ignore: your target for nothing is always the same.")
def always_a_hundred(ids, doc_ids, ignore=-100):
    return _next(ids, doc_ids, -100)


@targets_of.mistake("Your places are asked for the token before them.")
def the_one_before(ids, doc_ids, ignore=-100):
    targets = np.full(ids.shape, ignore, dtype=np.int64)
    same = (doc_ids[:, 1:] == doc_ids[:, :-1]) & (doc_ids[:, 1:] >= 0)
    targets[:, 1:] = np.where(same, ids[:, :-1], ignore)
    return targets


@targets_of.mistake("Your places are asked for themselves: they see their answer.")
def asks_for_itself(ids, doc_ids, ignore=-100):
    return np.where(doc_ids >= 0, ids, ignore)


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


def _pack(lengths, n, order, choose, refuses=True, values=False):
    if refuses and len(lengths) and max(lengths) > n:
        raise ValueError("a sequence does not fit a row")
    rows, room = [], []
    for i in order:
        row = choose(room, lengths[i])
        if row is None:
            row = len(rows)
            rows.append([])
            room.append(n)
        rows[row].append(int(lengths[i]) if values else int(i))
        room[row] -= int(lengths[i])
    return rows


def _first(room, length, strict=False):
    return next((r for r, left in enumerate(room) if left >= length + strict), None)


def _order(lengths, decreasing):
    if not decreasing:
        return range(len(lengths))
    return np.argsort(-np.asarray(lengths), kind="stable").tolist()


@first_fit.mistake(
    "You look at the newest row only. May an earlier row still have room?", refuses=(True, False)
)
def next_fit(lengths, n, decreasing=True, refuses=True):
    def newest(room, length):
        return len(room) - 1 if room and room[-1] >= length else None

    return _pack(lengths, n, _order(lengths, decreasing), newest, refuses)


@first_fit.mistake(
    "You take the row that is fullest: that is best fit. Which row does first fit take?",
    refuses=(True, False),
)
def best_fit(lengths, n, decreasing=True, refuses=True):
    def fullest(room, length):
        fits = [r for r, left in enumerate(room) if left >= length]
        return min(fits, key=lambda r: room[r]) if fits else None

    return _pack(lengths, n, _order(lengths, decreasing), fullest, refuses)


@first_fit.mistake(
    "A sequence that would fill a row exactly opens a new one. Has the row no room for it?",
    refuses=(True, False),
)
def needs_more_than_enough(lengths, n, decreasing=True, refuses=True):
    order = _order(lengths, decreasing)
    return _pack(lengths, n, order, lambda *x: _first(*x, strict=True), refuses)


@first_fit.mistake("You begin with the shortest sequence.", refuses=(True, False))
def shortest_first(lengths, n, decreasing=True, refuses=True):
    order = np.argsort(lengths, kind="stable") if decreasing else range(len(lengths))
    return _pack(lengths, n, order, _first, refuses)


@first_fit.mistake(
    "Of equal lengths you take the later first: what does a reversed sort do with equals?",
    refuses=(True, False),
)
def later_of_equals_first(lengths, n, decreasing=True, refuses=True):
    order = np.argsort(lengths, kind="stable")[::-1] if decreasing else range(len(lengths))
    return _pack(lengths, n, order, _first, refuses)


@first_fit.mistake(
    "Your rows hold lengths. Places in the list of lengths are asked for.", refuses=(True, False)
)
def rows_of_lengths(lengths, n, decreasing=True, refuses=True):
    return _pack(lengths, n, _order(lengths, decreasing), _first, refuses, values=True)


@first_fit.mistake(
    "You sort always. What should happen if decreasing is false?", refuses=(True, False)
)
def always_sorts(lengths, n, decreasing=True, refuses=True):
    return _pack(lengths, n, _order(lengths, True), _first, refuses)


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


def _estimates(gradients, ddof=1, taken=None, mean=False):
    m, d = gradients.shape
    noise = gradients.var(axis=0, ddof=ddof).sum()
    signal = (gradients.mean(axis=0) ** 2).sum() - noise * (1 / m if taken is None else taken)
    if mean:
        noise, signal = noise / d, signal / d
    return float(noise / signal if signal > 0 else np.inf), float(noise), float(signal)


@noise_scale.mistake(
    "Your signal is too long on average. Let the true gradient be 0: what is the mean of the "
    "squared length of your mean?"
)
def signal_with_noise(gradients):
    return _estimates(gradients, taken=0)


@noise_scale.mistake(
    "Your noise is too small on average: the gradients scatter less around their own mean than "
    "around the true one."
)
def divides_by_m(gradients):
    return _estimates(gradients, ddof=0)


@noise_scale.mistake(
    "Two corrections are missing: your noise is too small on average, and your signal too long."
)
def neither_correction(gradients):
    return _estimates(gradients, ddof=0, taken=0)


@noise_scale.mistake("You take the noise of one example away. How noisy is the mean of m examples?")
def takes_all_noise_away(gradients):
    return _estimates(gradients, taken=1)


@noise_scale.mistake("You average over the weights. The sum over all of them is asked for.")
def mean_over_weights(gradients):
    return _estimates(gradients, mean=True)


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


def _handed(state, n, batch_size, rng):
    order = rng.permutation(n).tolist() if state["order"] is None else state["order"]
    position = state["position"]
    batch = np.array(order[position : position + batch_size])
    return order, position + len(batch), batch


@next_batch.mistake("Your batches of one epoch come from different orders. When is an order drawn?")
def draws_every_time(state, n, batch_size, rng):
    order, position, batch = _handed({**state, "order": None}, n, batch_size, rng)
    if position == n:
        return batch, {"order": None, "position": 0}
    return batch, {"order": order, "position": position}


@next_batch.mistake(
    "You draw the next order as soon as an epoch ends. The state must then be None and 0."
)
def draws_too_early(state, n, batch_size, rng):
    order, position, batch = _handed(state, n, batch_size, rng)
    if position == n:
        order, position = rng.permutation(n).tolist(), 0
    return batch, {"order": order, "position": position}


@next_batch.mistake("You leave out the last, shorter batch of an epoch.")
def drops_the_last(state, n, batch_size, rng):
    if state["order"] is None or state["position"] + batch_size > n:
        state = {"order": None, "position": 0}
    order, position, batch = _handed(state, n, batch_size, rng)
    if position + batch_size > n:
        return batch, {"order": None, "position": 0}
    return batch, {"order": order, "position": position}


@next_batch.mistake(
    "After a shorter last batch your position is beyond the end. How many have been handed out?"
)
def counts_what_was_not_there(state, n, batch_size, rng):
    order, _, batch = _handed(state, n, batch_size, rng)
    position = state["position"] + batch_size
    if position == n:
        order, position = None, 0
    return batch, {"order": order, "position": position}


@next_batch.mistake("The next epoch has the same order again. What should order be at its end?")
def the_same_order_again(state, n, batch_size, rng):
    order, position, batch = _handed(state, n, batch_size, rng)
    return batch, {"order": order, "position": 0 if position == n else position}


@next_batch.mistake(
    "Your epoch never ends: the state after the last batch is not that of a new one."
)
def never_begins_anew(state, n, batch_size, rng):
    order, position, batch = _handed(state, n, batch_size, rng)
    return batch, {"order": order, "position": position}
