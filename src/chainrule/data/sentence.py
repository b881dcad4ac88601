"""The running example of ``transformers/``: five tokens of width 4, to be multiplied by hand.

The four features of a word mean: article, noun, verb, and who usually bites (a dog +1, a man −1).
The weights have the shape (outputs, inputs), as everywhere. Two heads of width 2 share each of
them: head 1 owns the first two outputs, head 2 the last two.

A verb asks for nouns and prefers one that bites; a noun asks for its verb, for articles and for
its like; an article asks for nouns. Scores, ``Q @ K.T / sqrt(4)``, come out as integers:

    ========  ====  ====  =====  ====  ====
    asks       the   dog  bites   the   man
    ========  ====  ====  =====  ====  ====
    the          0     2      0     0     2
    dog          1     1      2     1    −1
    bites        0     3      0     0     1
    the          0     2      0     0     2
    man          1    −1      2     1     1
    ========  ====  ====  =====  ====  ====

A feed-forward layer with two hidden units follows (``maximum(x @ W_UP.T + B_UP, 0) @ W_DOWN.T``).
Unit 1 fires where a row holds a verb and a biter, unit 2 where it holds a verb and the opposite of
a biter. The first raises the number "verb", the second lowers it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chainrule.shapes import Array, Float

__all__ = [
    "B_UP", "EMBEDDING", "SENTENCE", "VOCABULARY", "W_DOWN", "W_K", "W_O", "W_Q", "W_UP", "W_V",
    "embed",
]  # fmt: skip

SENTENCE = ("the", "dog", "bites", "the", "man")
VOCABULARY = ("the", "dog", "bites", "man")


def _constant(rows: Sequence[Sequence[float]] | Sequence[float]) -> Array:
    array = np.array(rows, dtype=np.float64)
    array.flags.writeable = False
    return array


EMBEDDING: Float[Array, "4 4"] = _constant(
    [
        [1, 0, 0, 0],  # the
        [0, 1, 0, 1],  # dog
        [0, 0, 1, 0],  # bites
        [0, 1, 0, -1],  # man
    ]
)
"""One row a word of `VOCABULARY`; columns: article, noun, verb, bites."""

W_Q: Float[Array, "4 4"] = _constant([[2, 0, 2, 0], [0, 2, 0, 0], [0, 0, 1, 1], [0, 1, 0, 0]])
"""What a word asks for."""

W_K: Float[Array, "4 4"] = _constant([[0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 2], [2, 0, 0, 0]])
"""What a word offers."""

W_V: Float[Array, "4 4"] = _constant([[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 2]])
"""What a word hands over: noun and verb in head 1, article and twice "bites" in head 2."""

W_O: Float[Array, "4 4"] = _constant([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
"""Puts what was handed over back into the order of the embedding."""

W_UP: Float[Array, "2 4"] = _constant([[0, 0, 3, 1], [0, 0, 3, -1]])
"""What the two hidden units look for: a verb, and who bites or who does not."""

B_UP: Float[Array, "2"] = _constant([-3, -3])
"""Neither a verb nor a biter is enough alone."""

W_DOWN: Float[Array, "4 2"] = _constant([[0, 0], [0, 0], [2, -2], [0, 0]])
"""Unit 1 adds to "verb", unit 2 takes away from it."""


def embed(tokens: Sequence[str] = SENTENCE) -> Float[Array, "time 4"]:
    """Return the embedding of each token, one row a token, as a new array.

    Raises:
        ValueError: a token is not one of the four words.
    """
    for token in tokens:
        if token not in VOCABULARY:
            raise ValueError(f"{token!r} is none of the words {', '.join(VOCABULARY)}")
    return EMBEDDING[[VOCABULARY.index(token) for token in tokens]]
