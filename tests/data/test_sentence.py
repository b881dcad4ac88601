"""The sentence that six documents share: its scores are printed in all of them."""

from __future__ import annotations

import numpy as np
import pytest

from chainrule.data import sentence
from chainrule.data.sentence import EMBEDDING, SENTENCE, W_K, W_O, W_Q, W_V, embed

SCORES = [
    [0, 2, 0, 0, 2],
    [1, 1, 2, 1, -1],
    [0, 3, 0, 0, 1],
    [0, 2, 0, 0, 2],
    [1, -1, 2, 1, 1],
]


def test_scores_are_those_of_the_table():
    X = embed()
    scores = (X @ W_Q.T) @ (X @ W_K.T).T / 2
    np.testing.assert_array_equal(scores, SCORES)
    drawn = [
        [int(number.replace("−", "-")) for number in line.split()[1:]]
        for line in (sentence.__doc__ or "").splitlines()
        if line.split()[:1] and line.split()[0] in SENTENCE and len(line.split()) == 6
    ]
    assert drawn == SCORES


def test_the_scores_of_two_heads_add_up_to_those_of_one():
    X = embed()
    Q, K = X @ W_Q.T, X @ W_K.T
    heads = [Q[:, part] @ K[:, part].T for part in (slice(0, 2), slice(2, 4))]
    np.testing.assert_array_equal(sum(heads) / 2, SCORES)
    assert not np.array_equal(heads[0], heads[1])


def test_what_is_handed_over_comes_back_in_the_order_of_the_embedding():
    X = embed()
    np.testing.assert_array_equal(X @ W_V.T @ W_O.T, X * [1, 1, 1, 2])


def test_an_unknown_word_is_named():
    with pytest.raises(ValueError, match="'cat' is none of the words the, dog, bites, man"):
        embed(("the", "cat"))


def test_nobody_changes_the_example_for_the_others():
    with pytest.raises(ValueError, match="read-only"):
        W_Q[0, 0] = 5
    embed()[0, 0] = 5
    assert EMBEDDING[0, 0] == 1
