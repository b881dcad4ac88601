"""The sentence that six documents share: its scores are printed in all of them."""

from __future__ import annotations

import numpy as np
import pytest

from chainrule.data import sentence
from chainrule.data.sentence import (
    B_UP,
    EMBEDDING,
    SENTENCE,
    W_DOWN,
    W_K,
    W_O,
    W_Q,
    W_UP,
    W_V,
    embed,
)
from chainrule.math_foundations.probability import softmax

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


def after_attention(words):
    X = embed(words)
    Q, K, V = X @ W_Q.T, X @ W_K.T, X @ W_V.T
    halves = slice(0, 2), slice(2, 4)
    heads = [softmax(Q[:, h] @ K[:, h].T / np.sqrt(2)) @ V[:, h] for h in halves]
    return X + np.concatenate(heads, axis=1) @ W_O.T


def test_hidden_units_fire_where_a_verb_meets_a_biter_or_his_opposite():
    hidden = after_attention(SENTENCE) @ W_UP.T + B_UP > 0
    assert hidden.tolist() == [[0, 0], [1, 0], [1, 0], [0, 0], [0, 1]]  # dog and bites; man
    assert not (after_attention(("the", "dog")) @ W_UP.T + B_UP > 0).any()  # without a verb
    written = np.maximum(after_attention(SENTENCE) @ W_UP.T + B_UP, 0) @ W_DOWN.T
    assert not written[:, [0, 1, 3]].any()  # only "verb" is written to
    assert ((after_attention(SENTENCE) + written) @ EMBEDDING.T)[1].argmax() == 2  # dog: bites


def test_an_unknown_word_is_named():
    with pytest.raises(ValueError, match="'cat' is none of the words the, dog, bites, man"):
        embed(("the", "cat"))


def test_nobody_changes_the_example_for_the_others():
    with pytest.raises(ValueError, match="read-only"):
        W_Q[0, 0] = 5
    embed()[0, 0] = 5
    assert EMBEDDING[0, 0] == 1
