"""Beam search against exhaustive search, BLEU against its paper, edit distance by recursion."""

import functools
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.architectures.sequence_to_sequence import (
    beam_search,
    bleu,
    edit_distance,
    minimum_bayes_risk,
)

EOS, START = 0, 99

# A tree in which the best beginning leads to a worse end: greedy finds 0.24, the best has 0.36.
TREE = {
    (): [0.0, 0.6, 0.4],
    (1,): [0.4, 0.3, 0.3],
    (2,): [0.9, 0.05, 0.05],
}


def on_tree(token, state):
    prefix = () if token == START else (*state, token)
    with np.errstate(divide="ignore"):
        return np.log(TREE.get(prefix, [1.0, 0.0, 0.0])), prefix


def random_model(rng, vocab):
    """Log-probabilities that depend on the whole beginning, drawn once for each."""
    found = {}

    def step(token, state):
        prefix = () if token == START else (*state, token)
        if prefix not in found:
            found[prefix] = np.log(rng.dirichlet(np.ones(vocab)))
        return found[prefix], prefix

    return step


def all_outputs(step, vocab, max_len):
    """Every complete or cut output with its log-probability, by going through all of them."""
    for length in range(1, max_len + 1):
        for tokens in itertools.product(range(vocab), repeat=length):
            if EOS in tokens[:-1] or (tokens[-1] != EOS and length < max_len):
                continue
            state, token, log_p = None, START, 0.0
            for new in tokens:
                found, state = step(token, state)
                token, log_p = new, log_p + found[new]
            yield tokens, log_p


def test_a_tree_on_which_greedy_loses():
    (greedy,) = beam_search(on_tree, START, EOS, 1, 5)
    assert greedy.tokens == (1, 0)
    assert math.exp(greedy.log_p) == pytest.approx(0.24)
    best = beam_search(on_tree, START, EOS, 2, 5)[0]
    assert best.tokens == (2, 0)
    assert math.exp(best.log_p) == pytest.approx(0.36)


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
@pytest.mark.parametrize(("vocab", "max_len"), [(3, 3), (2, 5), (5, 2), (4, 1)])
def test_a_beam_that_holds_everything_is_exhaustive_search(rng, vocab, max_len, penalty):
    step = random_model(rng, vocab)
    expected = sorted(
        ((log_p / len(t) ** penalty, log_p, t) for t, log_p in all_outputs(step, vocab, max_len)),
        reverse=True,
    )
    found = beam_search(step, START, EOS, vocab**max_len, max_len, penalty)
    assert [one.tokens for one in found] == [t for _, _, t in expected]
    np.testing.assert_allclose([one.score for one in found], [s for s, _, _ in expected])
    np.testing.assert_allclose([one.log_p for one in found], [p for _, p, _ in expected])
    assert sum(math.exp(one.log_p) for one in found) == pytest.approx(1)


def test_width_one_is_greedy(rng):
    for _ in range(20):
        step = random_model(rng, 5)
        state, token, tokens = None, START, []
        while token != EOS and len(tokens) < 6:
            log_p, state = step(token, state)
            token = int(log_p.argmax())
            tokens.append(token)
        (found,) = beam_search(step, START, EOS, 1, 6)
        assert list(found.tokens) == tokens


def test_every_beam_holds_the_best_continuations_of_the_last(rng):
    """Without an end: the same by hand, all continuations of all beams, cut to the width."""
    step = random_model(rng, 7)
    beams = [((), 0.0)]
    for _ in range(4):
        longer = [
            ((*tokens, k), log_p + step(tokens[-1], tokens[:-1])[0][k])
            if tokens
            else ((k,), step(START, None)[0][k])
            for tokens, log_p in beams
            for k in range(7)
        ]
        beams = sorted(longer, key=lambda one: -one[1])[:3]
    found = beam_search(step, START, -1, 3, 4)
    assert [one.tokens for one in found] == [tokens for tokens, _ in beams]


def test_no_more_than_the_width_and_best_first(rng):
    for width in (1, 2, 3, 5):
        found = beam_search(random_model(rng, 4), START, EOS, width, 6, 1.0)
        assert len(found) <= width
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_impossible_tokens_are_never_chosen():
    found = beam_search(on_tree, START, EOS, 50, 5)
    assert len(found) == 6
    assert all(np.isfinite(one.log_p) for one in found)


@pytest.mark.parametrize("sizes", [(0, 3), (2, 0)])
def test_impossible_beams_are_refused(sizes):
    with pytest.raises(ValueError, match="beam_search received"):
        beam_search(on_tree, START, EOS, *sizes)


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        beam_search(lambda token, state: (np.array([0.0, np.nan]), None), START, EOS, 2, 3)


# ---- BLEU: the examples of Papineni et al. 2002, section 2 -------------------------------------


def words(text):
    return text.split()


FIRST = words(
    "it is a guide to action which ensures that the military always obeys the commands of the party"
)
SECOND = words(
    "it is to insure the troops forever hearing the activity guidebook that party direct"
)
REFERENCES = [
    words(
        "it is a guide to action that ensures that the military will forever heed party commands"
    ),
    words(
        "it is the guiding principle which guarantees the military forces always being under the "
        "command of the party"
    ),
    words("it is the practical guide for the army always to heed the directions of the party"),
]


def test_clipped_unigrams_of_the_paper():
    assert bleu([FIRST], [REFERENCES], 1) == pytest.approx(17 / 18)
    # 8 of 14 match; the nearest reference is longer, so the penalty for brevity applies.
    assert bleu([SECOND], [REFERENCES], 1) == pytest.approx(8 / 14 * math.exp(1 - 16 / 14))
    seven = ["the"] * 7
    cat = [words("the cat is on the mat"), words("there is a cat on the mat")]
    assert bleu([seven], [cat], 1) == pytest.approx(2 / 7)


def test_bigrams_of_the_paper():
    assert bleu([FIRST], [REFERENCES], 2) == pytest.approx(math.sqrt(17 / 18 * 10 / 17))
    expected = math.sqrt(8 / 14 * 1 / 13) * math.exp(1 - 16 / 14)
    assert bleu([SECOND], [REFERENCES], 2) == pytest.approx(expected)


def test_counts_of_all_sentences_are_added_first():
    cands, refs = [list("ab"), list("abcdefgh")], [[list("ab")], [list("abxxxxxx")]]
    assert bleu(cands, refs, 1) == pytest.approx(4 / 10)
    assert bleu(cands, refs, 1) != pytest.approx((1 + 2 / 8) / 2)


def test_brevity_is_that_of_the_corpus_with_nearest_and_shorter_lengths():
    # Lengths 3 and 5 are equally near to 4: the shorter counts, so nothing is too short.
    assert bleu([list("abcd")], [[list("abcde"), list("abc")]], 1) == pytest.approx(1)
    short = bleu([list("ab"), list("cdef")], [[list("abx")], [list("cdef")]], 1)
    assert short == pytest.approx(math.exp(1 - 7 / 6))
    longer = bleu([list("abcdef")], [[list("abc")]], 1)  # precision alone punishes length
    assert longer == pytest.approx(3 / 6)


@pytest.mark.parametrize(
    ("cands", "refs", "expected"),
    [([[]], [[["a"]]], 0.0), ([["a"]], [[[]]], 0.0), ([["a"]], [[["a"]]], 0.0), ([], [], 0.0)],
)
def test_what_has_no_four_grams_scores_nothing(cands, refs, expected):
    assert bleu(cands, refs) == expected


@pytest.mark.parametrize(
    ("cands", "refs", "n"), [([["a"]], [], 1), ([["a"]], [[]], 1), ([["a"]], [[["a"]]], 0)]
)
def test_impossible_comparisons_are_refused(cands, refs, n):
    with pytest.raises(ValueError, match="bleu needs"):
        bleu(cands, refs, n)


# ---- edit distance and minimum Bayes risk ------------------------------------------------------


@functools.cache
def by_recursion(a, b):
    if not a or not b:
        return len(a) + len(b)
    if a[0] == b[0]:
        return by_recursion(a[1:], b[1:])
    return 1 + min(by_recursion(a[1:], b), by_recursion(a, b[1:]), by_recursion(a[1:], b[1:]))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("abc", "cba", 2), ("flaw", "lawn", 2)],
)
def test_edit_distances_by_hand(a, b, expected):
    assert edit_distance(a, b) == edit_distance(b, a) == expected


@settings(max_examples=60, deadline=None)
@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_edit_distance_equals_its_recursion(a, b):
    assert edit_distance(a, b) == edit_distance(list(a), list(b)) == by_recursion(a, b)


def test_minimum_bayes_risk_takes_the_one_that_agrees_with_others():
    candidates = ["zzzz", "zzzz", "abcd", "abce", "abcf"]  # the most frequent stands alone
    best = minimum_bayes_risk(candidates, lambda a, b: -edit_distance(a, b))
    assert best == "abcd"
    assert minimum_bayes_risk(candidates, lambda a, b: a == b) == "zzzz"


def test_minimum_bayes_risk_by_the_expected_loss(rng):
    candidates = rng.integers(0, 9, (11, 3))
    cost = np.abs(candidates[:, None] - candidates[None]).sum(axis=2)
    best = minimum_bayes_risk(list(candidates), lambda a, b: -float(np.abs(a - b).sum()))
    assert cost.mean(axis=1).min() == np.abs(candidates - best).sum(axis=1).mean()


def test_nothing_to_choose_from_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        minimum_bayes_risk([], lambda a, b: 0.0)
