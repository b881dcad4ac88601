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


@exercise(
    "Learn from a teacher, both ways",
    difficulty=4,
    minutes=30,
    section="a-small-model-learns-from-a-large-one",
    counterpart="chainrule.transformers.bert:distillation_loss",
    idea="At temperature 1 the gradient is that of cross-entropy: the student's probabilities minus "
    "the teacher's. Then follow the temperature through: it stands in the scores and before the "
    "loss.",
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
