"""Exercises of transformers/bert.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import exercise, expect, expect_close, expect_equal
from chainrule.math_foundations.probability import softmax
from chainrule.neural_networks.backpropagation import Tensor


@exercise(
    "One block for all layers",
    difficulty=1,
    minutes=15,
    section="counting-to-the-last-unit",
    because="the package counts BERT, whose layers share no weights and whose tables are wide",
    idea="Go through the parts in the order in which a token meets them. Each part that has "
    "weights has a shape; most have a bias too. Ask of each which of the two widths it has.",
)
def count_shared(vocab, context, narrow, width, hidden, layers):
    """Return the number of parameters of an encoder whose layers all use the same block.

    The tables of tokens, places and two segments, and the layer norm of their sum, have the width
    narrow. A linear layer with a bias widens the sum from narrow to width. The one block has this
    width and hidden numbers inside its feed-forward layer; it is applied layers times. A pooler
    stands on top, as in BERT. All layers have biases. By hand first: how many parameters has the
    layer that widens, from 2 to 3?
    """
    tables = (vocab + context + 2) * narrow + 2 * narrow
    widening = narrow * width + width
    attention = 4 * (width * width + width)
    feed_forward = 2 * width * hidden + hidden + width
    block = attention + feed_forward + 2 * 2 * width
    return tables + widening + block + width * width + width


@count_shared.check
def small_numbers(answer, rng):
    what = "the parameters with 5 tokens, 3 places, widths 2 and 3, 7 inside, 4 layers"
    expect_close(answer(5, 3, 2, 3, 7, 4), 24 + 9 + 48 + 52 + 12 + 12, what=what)


@count_shared.check
def published(answer, rng):
    what = "the parameters of ALBERT base"
    expect_close(answer(30_000, 512, 128, 768, 3072, 12), 11_683_584, what=what)


@count_shared.check
def more_layers(answer, rng):
    for layers in (1, 6, 24):
        what = f"the parameters of {layers} layers, width 1,024"
        expected = count_shared(30_000, 512, 128, 1024, 4096, layers)
        expect_close(answer(30_000, 512, 128, 1024, 4096, layers), expected, what=what)


def _counted(
    vocab, context, narrow, width, hidden, layers, *, times=1, places=None, bias=True, norm=None,
    block_norms=4, pooler=True, segments=2, biases=True,
):  # fmt: skip
    b = int(biases)
    tables = vocab * narrow + (context + segments) * (places or narrow) + 2 * (norm or narrow)
    widening = narrow * width + (width if bias else 0)
    block = 4 * (width**2 + b * width) + 2 * width * hidden + b * (hidden + width)
    block += block_norms * width
    return tables + widening + times * block + (width**2 + width if pooler else 0)


@count_shared.mistake("Your count grows with the layers. How many blocks are stored?")
def counts_every_layer(vocab, context, narrow, width, hidden, layers):
    return _counted(vocab, context, narrow, width, hidden, layers, times=layers)


@count_shared.mistake("One bias is missing, in the layer between the tables and the block.")
def widens_without_bias(vocab, context, narrow, width, hidden, layers):
    return _counted(vocab, context, narrow, width, hidden, layers, bias=False)


@count_shared.mistake("Which width has a vector for a place? It is added to that of a token.")
def wide_places(vocab, context, narrow, width, hidden, layers):
    return _counted(vocab, context, narrow, width, hidden, layers, places=width)


@count_shared.mistake("The norm of the sum comes before the sum is widened.")
def wide_norm(vocab, context, narrow, width, hidden, layers):
    return _counted(vocab, context, narrow, width, hidden, layers, norm=width)


@count_shared.mistake("A layer on top is missing: it has the shape (width, width).")
def without_pooler(vocab, context, narrow, width, hidden, layers):
    return _counted(vocab, context, narrow, width, hidden, layers, pooler=False)


@count_shared.mistake(
    "The two norms of the block have a gain and a shift each.", block_norms=(0, 2)
)
def fewer_norms(vocab, context, narrow, width, hidden, layers, block_norms):
    return _counted(vocab, context, narrow, width, hidden, layers, block_norms=block_norms)


@count_shared.mistake("There is a third table, a small one: which text does a token belong to?")
def without_segments(vocab, context, narrow, width, hidden, layers):
    return _counted(vocab, context, narrow, width, hidden, layers, segments=0)


@count_shared.mistake("The matrices of your block have no biases.")
def block_without_biases(vocab, context, narrow, width, hidden, layers):
    return _counted(vocab, context, narrow, width, hidden, layers, biases=False)


@exercise(
    "Two texts in one row",
    difficulty=2,
    minutes=20,
    section="next-sentence-prediction",
    counterpart="chainrule.transformers.bert:pack_pair",
    idea="Decide first which tokens stay: take one away at a time, from whichever text is longer. "
    "Only then put the marks around what is left.",
)
def pack(a, b, length, *, cls, sep, pad):
    """Return ids, segments and mask of two texts in one row of so many places.

    The row is: cls, the tokens of a, sep, the tokens of b, sep, then pad up to length. If the texts
    are too long, the longer one loses its last token, again and again, until both fit; where they
    are equally long, b loses it. Segments are 0 from cls up to and with the first sep, 1 from there
    up to and with the second sep, and 0 at the filling. The mask is true at tokens and marks. All
    three are arrays of shape (length,). a and b are lists of numbers and must stay as they are. By
    hand first: a = [7, 8, 9], b = [5], length 6.
    """
    a, b = list(a), list(b)
    while len(a) + len(b) > length - 3:
        if len(a) > len(b):
            a.pop()
        else:
            b.pop()
    ids = [cls, *a, sep, *b, sep]
    filling = length - len(ids)
    segments = [0] * (len(a) + 2) + [1] * (len(b) + 1) + [0] * filling
    return np.array(ids + [pad] * filling), np.array(segments), np.arange(length) < len(ids)


MARKS = {"cls": 101, "sep": 102, "pad": 0}


def _packed(answer, lengths, length, rng, what):
    a, b = (rng.integers(200, 900, n).tolist() for n in lengths)
    kept = list(a), list(b)
    expected = pack(a, b, length, **MARKS)
    for name, found, wanted in zip(
        ("ids", "segments", "mask"), answer(a, b, length, **MARKS), expected, strict=True
    ):
        expect_equal(np.asarray(found), wanted, what=f"the {name} of {what}")
    expect((a, b) == kept, "a and b must stay as they are: work on copies")


@pack.check
def by_hand(answer, rng):
    ids, segments, mask = answer([7, 8, 9], [5], 6, **MARKS)
    expect_equal(np.asarray(ids), np.array([101, 7, 8, 102, 5, 102]), what="the ids of the example")
    expect_equal(np.asarray(segments), np.array([0, 0, 0, 0, 1, 1]), what="its segments")
    expect_equal(np.asarray(mask), np.ones(6, bool), what="its mask")


@pack.check
def room_to_spare(answer, rng):
    for lengths in ((4, 3), (2, 7), (0, 5), (3, 0)):
        _packed(answer, lengths, 17, rng, f"{lengths[0]} and {lengths[1]} tokens in 17 places")


@pack.check
def too_long(answer, rng):
    for lengths in ((11, 3), (3, 11), (9, 9), (8, 9), (30, 1)):
        _packed(answer, lengths, 13, rng, f"{lengths[0]} and {lengths[1]} tokens in 13 places")
        _packed(answer, lengths, 14, rng, f"{lengths[0]} and {lengths[1]} tokens in 14 places")


def _row(a, b, length, marks, *, first_sep=0, filling_segment=0, cls_again=False):
    ids = [marks["cls"], *a, marks["sep"], *([marks["cls"]] if cls_again else []), *b, marks["sep"]]
    filling = length - len(ids)
    segments = [0] * (len(a) + 1) + [first_sep]
    segments += [1] * (len(ids) - len(segments)) + [filling_segment] * filling
    return (
        np.array(ids + [marks["pad"]] * filling), np.array(segments), np.arange(length) < len(ids)
    )  # fmt: skip


def _cut(a, b, room, *, longer=lambda a, b: len(a) > len(b), start=False):
    a, b = list(a), list(b)
    while len(a) + len(b) > room:
        (a if longer(a, b) else b).pop(0 if start else -1)
    return a, b


@pack.mistake(
    "Your second text pays for all that is too much. Which text loses a token, each time?"
)
def cuts_the_second(a, b, length, *, cls, sep, pad):
    marks = {"cls": cls, "sep": sep, "pad": pad}
    a = list(a)[: length - 3]
    return _row(a, list(b)[: length - 3 - len(a)], length, marks)


@pack.mistake(
    "You cut the finished row. The last mark goes first, and the model cannot see where it ends."
)
def cuts_the_row(a, b, length, *, cls, sep, pad):
    ids, segments, mask = _row(a, b, max(length, len(a) + len(b) + 3),
                               {"cls": cls, "sep": sep, "pad": pad})  # fmt: skip
    return ids[:length], segments[:length], mask[:length]


@pack.mistake("The first sep ends the first text. To which of the two does it belong?")
def first_sep_in_the_second(a, b, length, *, cls, sep, pad):
    a, b = _cut(a, b, length - 3)
    return _row(a, b, length, {"cls": cls, "sep": sep, "pad": pad}, first_sep=1)


@pack.mistake("Which segment has the filling?")
def filling_in_the_second(a, b, length, *, cls, sep, pad):
    a, b = _cut(a, b, length - 3)
    return _row(a, b, length, {"cls": cls, "sep": sep, "pad": pad}, filling_segment=1)


@pack.mistake("Where both texts are equally long, the other one loses its last token.")
def first_loses_a_tie(a, b, length, *, cls, sep, pad):
    a, b = _cut(a, b, length - 3, longer=lambda a, b: len(a) >= len(b))
    return _row(a, b, length, {"cls": cls, "sep": sep, "pad": pad})


@pack.mistake("You cut at the front of the texts.")
def cuts_the_front(a, b, length, *, cls, sep, pad):
    a, b = _cut(a, b, length - 3, start=True)
    return _row(a, b, length, {"cls": cls, "sep": sep, "pad": pad})


@pack.mistake("Your mask hides the marks. Only the filling is not there for the model.")
def hides_the_marks(a, b, length, *, cls, sep, pad):
    a, b = _cut(a, b, length - 3)
    ids, segments, _ = _row(a, b, length, {"cls": cls, "sep": sep, "pad": pad})
    return ids, segments, ~np.isin(ids, (cls, sep, pad))


@pack.mistake("Your mask is true at the filling and false at the tokens.")
def turns_the_mask_round(a, b, length, *, cls, sep, pad):
    a, b = _cut(a, b, length - 3)
    ids, segments, mask = _row(a, b, length, {"cls": cls, "sep": sep, "pad": pad})
    return ids, segments, ~mask


@pack.mistake("You give both texts half of the room, also where one of them needs less.")
def halves_the_room(a, b, length, *, cls, sep, pad):
    marks, room = {"cls": cls, "sep": sep, "pad": pad}, length - 3
    if len(a) + len(b) > room:
        a, b = a[: (room + 1) // 2], b[: room // 2]
    return _row(a, b, length, marks)


@exercise(
    "Hide some tokens",
    difficulty=2,
    minutes=20,
    section="fifteen-in-a-hundred-and-what-becomes-of-them",
    counterpart="chainrule.transformers.bert:hide",
    idea="Two questions for each place: is it chosen, and if so, what stands there? The labels "
    "answer only the first, and they hold what stood there before.",
)
def hide(ids, choice, kind, others, *, mask_id, special=(), p=0.15):
    """Return the input of a masked language model and its labels, both of the shape of ids.

    All chance has been drawn before: choice and kind hold numbers between 0 and 1, others holds
    random tokens, all of the shape of ids. A place is chosen where choice is below p and its token
    is not one of special. A chosen token becomes mask_id where kind is below 0.8, the token of
    others where kind lies from 0.8 up to 0.9 (without 0.9), and stays elsewhere. Labels are the
    true tokens at chosen places and −100 at all others. ids must stay as it is. By hand first: one
    place with token 42, choice 0.1, kind 0.95.
    """
    chosen = (choice < p) & ~np.isin(ids, special)
    inputs = np.where(chosen & (kind < 0.8), mask_id, ids)
    inputs = np.where(chosen & (kind >= 0.8) & (kind < 0.9), others, inputs)
    return inputs, np.where(chosen, ids, -100)


def _batch(rng, rows, time):
    ids = rng.integers(10, 500, (rows, time))
    ids[:, 0], ids[:, -1], ids[0, time // 2] = 2, 3, 0
    choice, kind = rng.random((2, rows, time))
    return ids, choice, kind, rng.integers(10, 500, (rows, time))


def _compared(answer, batch, what, **options):
    kept = batch[0].copy()
    found = answer(*batch, mask_id=4, **options)
    expected = hide(*batch, mask_id=4, **options)
    for name, one, wanted in zip(("input", "labels"), found, expected, strict=True):
        expect_equal(np.asarray(one), wanted, what=f"the {name} of {what}")
    expect(np.array_equal(batch[0], kept), "ids must stay as it is: work on a copy")


@hide.check
def four_kinds(answer, rng):
    ids = np.array([[42, 43, 44, 45, 46]])
    choice = np.array([[0.1, 0.1, 0.1, 0.1, 0.2]])
    kind = np.array([[0.5, 0.8, 0.89, 0.9, 0.5]])
    inputs, labels = answer(ids, choice, kind, np.array([[77, 78, 79, 80, 81]]), mask_id=4)
    expect_equal(np.asarray(inputs), np.array([[4, 78, 79, 45, 46]]), what="the input")
    expect_equal(np.asarray(labels), np.array([[42, 43, 44, 45, -100]]), what="the labels")


@hide.check
def without_marks(answer, rng):
    _compared(answer, _batch(rng, 7, 60), "7 texts of 60 tokens")


@hide.check
def marks_are_never_chosen(answer, rng):
    _compared(answer, _batch(rng, 5, 80), "5 texts with marks", special=(0, 2, 3))


@hide.check
def other_shares(answer, rng):
    for p in (0.0, 0.4, 1.0):
        _compared(answer, _batch(rng, 3, 50), f"3 texts with p = {p}", special=(0, 2, 3), p=p)


def _hidden(
    ids, choice, kind, others, mask_id, special, p, *, edges=(0.8, 0.9), order=("mask", "other"),
    respects=True,
):  # fmt: skip
    chosen = choice < p
    if respects:
        chosen &= ~np.isin(ids, special)
    new = {"mask": mask_id, "other": others, "keep": ids}
    inputs = np.where(chosen & (kind < edges[0]), new[order[0]], ids)
    between = (kind >= edges[0]) & (kind < edges[1])
    return np.where(chosen & between, new[order[1]], inputs), chosen


@hide.mistake(
    "You label every place. At most of them the model sees the truth, and is paid for copying."
)
def labels_everywhere(ids, choice, kind, others, *, mask_id, special=(), p=0.15):
    return _hidden(ids, choice, kind, others, mask_id, special, p)[0], ids.copy()


@hide.mistake(
    "Your labels forget tokens that were chosen and are not mask_id now. They count as well."
)
def labels_at_masks_alone(ids, choice, kind, others, *, mask_id, special=(), p=0.15):
    inputs, chosen = _hidden(ids, choice, kind, others, mask_id, special, p)
    return inputs, np.where(chosen & (kind < 0.8), ids, -100)


@hide.mistake(
    "Your labels forget the chosen tokens that stay. The model does not know that they do."
)
def labels_where_changed(ids, choice, kind, others, *, mask_id, special=(), p=0.15):
    inputs, chosen = _hidden(ids, choice, kind, others, mask_id, special, p)
    return inputs, np.where(chosen & (kind < 0.9), ids, -100)


@hide.mistake("Your labels hold what stands there now. What is the model to guess?")
def labels_of_the_input(ids, choice, kind, others, *, mask_id, special=(), p=0.15):
    inputs, chosen = _hidden(ids, choice, kind, others, mask_id, special, p)
    return inputs, np.where(chosen, inputs, -100)


@hide.mistake("You hide marks and filling too. Which tokens are never chosen?")
def hides_marks(ids, choice, kind, others, *, mask_id, special=(), p=0.15):
    inputs, chosen = _hidden(ids, choice, kind, others, mask_id, special, p, respects=False)
    return inputs, np.where(chosen, ids, -100)


@hide.mistake("All your chosen tokens become mask_id.")
def masks_all(ids, choice, kind, others, *, mask_id, special=(), p=0.15):
    inputs, chosen = _hidden(ids, choice, kind, others, mask_id, special, p, edges=(2.0, 3.0))
    return inputs, np.where(chosen, ids, -100)


@hide.mistake("The last tenth is to stay, the tenth before it to be exchanged.")
def exchanges_the_last_tenth(ids, choice, kind, others, *, mask_id, special=(), p=0.15):
    inputs, chosen = _hidden(ids, choice, kind, others, mask_id, special, p)
    inputs = np.where(chosen & (kind >= 0.8), np.where(kind < 0.9, ids, others), inputs)
    return inputs, np.where(chosen, ids, -100)


@hide.mistake("None of your chosen tokens stays as it is.")
def exchanges_a_fifth(ids, choice, kind, others, *, mask_id, special=(), p=0.15):
    inputs, chosen = _hidden(ids, choice, kind, others, mask_id, special, p, edges=(0.8, 2.0))
    return inputs, np.where(chosen, ids, -100)


@hide.mistake("Places that are not chosen get the label −100, which no token has.")
def labels_with_zero(ids, choice, kind, others, *, mask_id, special=(), p=0.15):
    inputs, chosen = _hidden(ids, choice, kind, others, mask_id, special, p)
    return inputs, np.where(chosen, ids, 0)


@exercise(
    "The mean of what is real, both ways",
    difficulty=3,
    minutes=25,
    section="one-vector-for-a-text",
    counterpart="chainrule.transformers.bert:pool",
    idea="Every token of a text has the same weight in its mean. The way back gives each token the "
    "gradient of the mean, times that weight.",
)
def mean_pool(h, real):
    """Return the mean of the vectors of each text's tokens, and a function vjp.

    h has shape (batch, time, d). real has shape (batch, time): False marks filling, whose vectors
    may be anything, NaN too. The result has shape (batch, d). vjp(g) takes the gradient of the
    result and returns a tuple with one array, the gradient for h, which is 0 at the filling. Every
    text has a token. By hand first: the tokens (1, 5) and (3, −1).
    """
    weight = real[:, :, None] / real.sum(axis=1)[:, None, None]
    out = (np.where(real[:, :, None], h, 0) * weight).sum(axis=1)

    def vjp(g):
        return (g[:, None, :] * weight,)

    return out, vjp


@mean_pool.by_package
def _(package, h, real):
    t = Tensor(h, requires_grad=True)
    y = package(t, real)

    def vjp(g):
        t.grad = None
        y.backward(g, retain_graph=True)
        return (t.grad,)

    return y.data, vjp


def _texts(rng, batch, time, d):
    lengths = rng.integers(1, time + 1, batch)
    lengths[0] = time
    return rng.normal(size=(batch, time, d)), np.arange(time) < lengths[:, None]


@mean_pool.check
def two_tokens(answer, rng):
    h = np.array([[[1.0, 5.0], [3.0, -1.0], [8.0, 2.0]]])
    out, vjp = answer(h, np.array([[True, True, False]]))
    expect_close(out, np.array([[2.0, 2.0]]), what="the mean of (1, 5) and (3, −1)")
    back = vjp(np.array([[0.5, -3.0]]))
    expect(isinstance(back, tuple) and len(back) == 1, "vjp returns a tuple with one array")
    expected = np.array([[[0.25, -1.5], [0.25, -1.5], [0.0, 0.0]]])
    expect_close(back[0], expected, what="the gradient for the tokens and the filling")


@mean_pool.check
def a_batch(answer, rng):
    h, real = _texts(rng, 5, 7, 3)
    expect_close(answer(h, real)[0], mean_pool(h, real)[0], what="the means of five texts")


@mean_pool.check
def and_back(answer, rng):
    h, real = _texts(rng, 4, 6, 5)
    g = rng.normal(size=(4, 5))
    found, expected = answer(h, real)[1](g)[0], mean_pool(h, real)[1](g)[0]
    expect_close(found, expected, what="the gradient for four texts")


@mean_pool.check
def filling_of_any_kind(answer, rng):
    h, real = _texts(rng, 3, 5, 2)
    expected = mean_pool(h, real)[0]
    h[~real] = np.nan
    out, vjp = answer(h, real)
    expect_close(out, expected, what="the means with NaN in the filling")
    g = rng.normal(size=(3, 2))
    expect_close(
        vjp(g)[0], mean_pool(h, real)[1](g)[0], what="the gradient with NaN in the filling"
    )


def _mean(h, real, *, forward="real", back="real", mask_back=True):
    m, n, t = real[:, :, None], real.sum(axis=1)[:, None], h.shape[1]
    out = h.mean(axis=1) if forward == "all" else np.where(m, h, 0).sum(axis=1)
    out = out if forward == "all" else out / {"real": n, "places": t, "sum": 1}[forward]

    def vjp(g):
        g = g / {"real": n, "places": t, "sum": 1}[back]
        spread = np.repeat(g[:, None, :], t, axis=1)
        return (np.where(m, spread, 0) if mask_back else spread,)

    return out, vjp


@mean_pool.mistake("You divide by the number of places. How many of them hold a token?")
def divides_by_places(h, real):
    return _mean(h, real, forward="places", back="places")


@mean_pool.mistake("Forward is right. The way back divides by the places and not by the tokens.")
def divides_by_places_on_the_way_back(h, real):
    return _mean(h, real, back="places")


@mean_pool.mistake("Your mean counts the filling like a token.")
def counts_the_filling(h, real):
    return _mean(h, real, forward="all", back="places", mask_back=False)


@mean_pool.mistake(
    "Forward is right. Your gradient reaches the filling, which has no part in the mean."
)
def gradient_at_the_filling(h, real):
    return _mean(h, real, mask_back=False)


@mean_pool.mistake("Forward is right. What share of the mean does one token make?")
def does_not_divide_on_the_way_back(h, real):
    return _mean(h, real, back="sum")


@mean_pool.mistake("That is the sum of the vectors.")
def adds_up(h, real):
    return _mean(h, real, forward="sum", back="sum")


@mean_pool.mistake(
    "Zero times NaN is NaN: a product with the mask does not silence the filling. Choose instead."
)
def multiplies_with_the_mask(h, real):
    _, vjp = _mean(h, real)
    poisoned = (h * real[:, :, None]).sum(axis=1) / real.sum(axis=1)[:, None]
    return poisoned, vjp


@mean_pool.mistake("vjp returns one gradient for each input, in a tuple, even for one input.")
def returns_a_bare_array(h, real):
    out, vjp = _mean(h, real)
    return out, lambda g: vjp(g)[0]


@exercise(
    "An answer, or none",
    difficulty=3,
    minutes=25,
    section="the-best-passage",
    counterpart="chainrule.transformers.bert:best_span",
    idea="Make a table of all pairs: a row for each beginning, a column for each end. What is not "
    "allowed gets −∞. Then ask for the largest entry.",
)
def best_answer(start, end, longest):
    """Return the first and the last place of the best answer, and by how much it beats no answer.

    start and end hold two scores for each place of a text. Place 0 holds [CLS] and belongs to no
    answer: its two scores together are the score of "the text does not say". An answer has 1 to
    longest tokens, from place 1 on; its score is that of its beginning plus that of its end. Of
    equal answers the one that begins first counts. Return (first, last, gain), where gain is the
    score of the best answer minus the score of no answer. By hand first: start [1, 0, 2] and end
    [1, 3, 0].
    """
    n = len(start)
    length = np.arange(n)[None, :] - np.arange(n)[:, None] + 1
    scores = np.where((length >= 1) & (length <= longest), start[:, None] + end, -np.inf)
    scores[0] = -np.inf
    first, last = np.unravel_index(scores.argmax(), scores.shape)
    return int(first), int(last), float(scores[first, last] - start[0] - end[0])


@best_answer.by_package
def _(package, start, end, longest):
    first, last = package(start[1:], end[1:], longest)
    gain = start[1 + first] + end[1 + last] - start[0] - end[0]
    return 1 + first, 1 + last, float(gain)


def _same(found, expected, what):
    expect(len(found) == 3, "return the first place, the last place and the gain")
    expect_equal(tuple(int(i) for i in found[:2]), expected[:2], what=f"the places of {what}")
    expect_close(found[2], expected[2], what=f"the gain of {what}")


@best_answer.check
def three_places(answer, rng):
    _same(answer(np.array([1.0, 0, 2]), np.array([1.0, 3, 0]), 2), (1, 1, 1.0), "the example")


@best_answer.check
def random_texts(answer, rng):
    for n in (2, 9, 40):
        start, end = rng.normal(size=(2, n))
        _same(answer(start, end, 50), best_answer(start, end, 50), f"a text of {n} places")


@best_answer.check
def short_answers(answer, rng):
    for longest in (1, 2, 5):
        for _ in range(4):
            start, end = rng.normal(size=(2, 17))
            expected = best_answer(start, end, longest)
            _same(answer(start, end, longest), expected, f"answers of at most {longest} tokens")
    equal = np.array([0.0, 1, 1, 0])
    _same(answer(equal, equal, 1), (1, 1, 2.0), "two equal answers")


@best_answer.check
def an_end_before_the_beginning(answer, rng):
    start, end = rng.normal(size=(2, 11))
    start[8] += 5
    end[3] += 5
    _same(answer(start, end, 11), best_answer(start, end, 11), "an end that lies before")


@best_answer.check
def when_the_text_does_not_say(answer, rng):
    start, end = rng.normal(size=(2, 13))
    start[0], end[0] = 4.25, 3.5
    _same(answer(start, end, 6), best_answer(start, end, 6), "a text that does not say")


def _chosen(
    start, end, longest, *, shortest=1, first_place=1, ends_from=1, gain=lambda s, n: s - n
):
    n = len(start)
    length = np.arange(n)[None, :] - np.arange(n)[:, None] + 1
    allowed = (length >= shortest) & (length <= longest)
    allowed &= (np.arange(n) >= first_place)[:, None] & (np.arange(n) >= ends_from)
    scores = np.where(allowed, start[:, None] + end, -np.inf)
    i, j = np.unravel_index(scores.argmax(), scores.shape)
    return int(i), int(j), float(gain(scores[i, j], start[0] + end[0]))


@best_answer.mistake(
    "The best beginning and the best end need not be a pair: the end may come first."
)
def each_by_itself(start, end, longest):
    return _chosen(start, end, 10**6, shortest=-(10**6))


@best_answer.mistake("Your answers may end before they begin.")
def backwards(start, end, longest):
    return _chosen(start, end, longest, shortest=-(10**6))


@best_answer.mistake("Your answer may begin at place 0. What stands there?", ends_from=(0, 1))
def begins_at_the_mark(start, end, longest, ends_from):
    return _chosen(start, end, longest, first_place=0, ends_from=ends_from)


@best_answer.mistake(
    "How many tokens has an answer from place 3 to place 5? Yours may be too long."
)
def one_too_long(start, end, longest):
    return _chosen(start, end, longest + 1)


@best_answer.mistake("Your answers have two tokens at least. May one begin and end at one place?")
def no_single_token(start, end, longest):
    return _chosen(start, end, longest, shortest=2 if len(start) > 2 and longest > 1 else 1)


@best_answer.mistake(
    "You fix the beginning first. A beginning that is a little worse may have a much better end."
)
def greedy(start, end, longest):
    i = 1 + int(start[1:].argmax())
    j = i + int(end[i : i + longest].argmax())
    return i, j, float(start[i] + end[j] - start[0] - end[0])


@best_answer.mistake("Places are right. You return the score; by how much does it beat no answer?")
def score_without_comparison(start, end, longest):
    return _chosen(start, end, longest, gain=lambda s, n: s)


@best_answer.mistake("Places are right, and your gain has the wrong sign.")
def turns_the_gain_round(start, end, longest):
    return _chosen(start, end, longest, gain=lambda s, n: n - s)


@best_answer.mistake("Your places are those of the text without [CLS]: one too small.")
def counts_without_the_mark(start, end, longest):
    i, j, gain = _chosen(start, end, longest)
    return i - 1, j - 1, gain


@exercise(
    "Learn from a teacher, both ways",
    difficulty=4,
    minutes=30,
    section="a-small-model-learns-from-a-large-one",
    counterpart="chainrule.transformers.bert:distillation_loss",
    idea="At temperature 1 the gradient is that of cross-entropy: the student's probabilities "
    "minus the teacher's. Then follow the temperature through: it stands in the scores and "
    "before the loss.",
)
def distil(student, teacher, temperature):
    """Return the distillation loss, and its gradient with respect to the student's scores.

    student and teacher have shape (n, classes) and hold scores. The loss is the square of the
    temperature times the KL divergence of the softened student from the softened teacher, with the
    teacher's prediction first, averaged over the n rows. The gradient has the shape of student.
    By hand first: one row, teacher and student equal.
    """
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    each = (p * (np.log(p) - np.log(q))).sum(axis=1)
    return temperature**2 * each.mean(), temperature * (q - p) / len(student)


@distil.by_package
def _(package, student, teacher, temperature):
    t = Tensor(student, requires_grad=True)
    loss = package(t, teacher, temperature)
    loss.backward()
    return loss.item(), t.grad


def _taught(answer, n, classes, temperature, rng):
    student, teacher = 2 * rng.normal(size=(2, n, classes))
    found, expected = answer(student, teacher, temperature), distil(student, teacher, temperature)
    what = f"{n} rows of {classes} classes at temperature {temperature}"
    expect_close([found[0]], [expected[0]], what=f"the loss of {what}")
    expect_close(found[1], expected[1], what=f"the gradient of {what}")


@distil.check
def three_classes(answer, rng):
    loss, gradient = answer(np.zeros((1, 3)), np.array([[4.0, 2.0, 0.0]]), 2.0)
    expect_close([loss], [1.0648], rtol=1e-4, what="the loss of a student who knows nothing")
    expected = np.array([[-0.6638, 0.1772, 0.4866]])
    expect_close(gradient, expected, atol=1e-3, what="the gradient of a student who knows nothing")


@distil.check
def temperature_one(answer, rng):
    _taught(answer, 5, 7, 1.0, rng)


@distil.check
def softer_and_harder(answer, rng):
    for temperature in (0.5, 2.0, 4.0):
        _taught(answer, 3, 5, temperature, rng)


def _distilled(
    student, teacher, T, *, square=True, soft_teacher=True, factor=None, rows=True, sign=1,
    entropy=True,
):  # fmt: skip
    p = softmax(teacher / (T if soft_teacher else 1.0))
    q = softmax(student / T)
    each = -(p * np.log(q)).sum(axis=1) + ((p * np.log(p)).sum(axis=1) if entropy else 0)
    n = len(student) if rows else 1
    scale = T**2 if square else 1.0
    slope = (T if square else 1 / T) if factor is None else factor(T)
    return scale * each.sum() / n, sign * slope * (q - p) / n


@distil.mistake("At temperature 1 all is right. By what must the loss be multiplied?")
def without_the_square(student, teacher, temperature):
    return _distilled(student, teacher, temperature, square=False)


@distil.mistake("Your loss lacks its factor; the gradient has it.")
def square_in_the_gradient_alone(student, teacher, temperature):
    return _distilled(student, teacher, temperature, square=False, factor=lambda T: T)


@distil.mistake(
    "The loss is right. Before the softmax the scores are divided by the temperature: what does "
    "the chain rule make of that?",
    power=(0, 2, -1),
)
def other_powers(student, teacher, temperature, power):
    return _distilled(student, teacher, temperature, factor=lambda T: T**power)


@distil.mistake("Only your student is softened.")
def hard_teacher(student, teacher, temperature):
    return _distilled(student, teacher, temperature, soft_teacher=False)


@distil.mistake("The loss is right, and your gradient leads uphill.")
def uphill(student, teacher, temperature):
    return _distilled(student, teacher, temperature, sign=-1)


@distil.mistake("Your loss and gradient are sums over the rows, not means.")
def adds_the_rows(student, teacher, temperature):
    return _distilled(student, teacher, temperature, rows=False)


@distil.mistake(
    "A student who says the same as the teacher gets a loss above 0 from you: that is the "
    "cross-entropy. What must be taken away?"
)
def cross_entropy_instead(student, teacher, temperature):
    return _distilled(student, teacher, temperature, entropy=False)


@distil.mistake("You average over the classes as well.")
def averages_the_classes(student, teacher, temperature):
    loss, gradient = _distilled(student, teacher, temperature)
    return loss / student.shape[1], gradient / student.shape[1]


@distil.mistake(
    "In your divergence the student stands first. It does not matter only where both agree."
)
def the_other_divergence(student, teacher, temperature):
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    log = np.log(q) - np.log(p)
    each = (q * log).sum(axis=1, keepdims=True)
    n = len(student)
    return temperature**2 * each.mean(), temperature * q * (log - each) / n
