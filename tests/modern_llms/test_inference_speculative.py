"""Speculative decoding against the law of the target, enumerated; planted traps are found."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from chainrule.modern_llms.inference import (
    LookupDraft,
    NGramDraft,
    acceptance,
    expected_tokens,
    greedy,
    residual,
    speculative_generate,
    speculative_step,
)
from chainrule.transformers.gpt import witten_bell_ngram

V = 3


def tables(seed):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(V), V), rng.dirichlet(np.ones(V), V)


def markov(table):
    return lambda ids, n: table[ids[len(ids) - n :]]


def next_of(table):
    return lambda ids: table[ids[-1]]


def p_value(texts, table, start):
    """Chi-square of strings of three symbols against their enumerated law; rare ones together."""
    law = np.array(
        [
            table[start, a] * table[a, b] * table[b, c]
            for a, b, c in itertools.product(range(V), repeat=3)
        ]
    )
    counts, expected = np.bincount(texts @ [V * V, V, 1], minlength=V**3), law * len(texts)
    often = expected >= 5
    counts, expected = (np.append(x[often], x[~often].sum()) for x in (counts, expected))
    return stats.chisquare(counts + 1e-300, expected + 1e-300).pvalue


@pytest.mark.parametrize("gamma", [0, 1, 2, 5])
def test_the_texts_follow_the_law_of_the_target(gamma):
    (p, q), rng = tables(3), np.random.default_rng(11 + gamma)
    texts = np.array(
        [
            speculative_generate(markov(p), next_of(q), np.array([1]), 3, gamma, rng)[0][1:]
            for _ in range(2_003)
        ]
    )
    assert p_value(texts, p, 1) > 1e-3
    assert gamma == 0 or p_value(texts, q, 1) < 1e-9


def test_replacing_a_refused_token_by_one_of_p_is_found(monkeypatch):
    from chainrule.modern_llms.inference import speculative

    monkeypatch.setattr(speculative, "residual", lambda p, q: p)
    (p, q), rng = tables(3), np.random.default_rng(13)
    texts = np.array(
        [
            speculative_generate(markov(p), next_of(q), np.array([1]), 3, 2, rng)[0][1:]
            for _ in range(2_003)
        ]
    )
    assert p_value(texts, p, 1) < 1e-9


def test_judging_a_proposal_by_the_prediction_after_it_is_found():
    def late(table):  # the rows are one token too late, as after a cache off by one
        return lambda ids, n: np.roll(table[ids[len(ids) - n :]], -1, axis=0)

    (p, q), rng = tables(3), np.random.default_rng(17)
    texts = np.array(
        [
            speculative_generate(late(p), next_of(q), np.array([1]), 3, 2, rng)[0][1:]
            for _ in range(2_003)
        ]
    )
    assert p_value(texts, p, 1) < 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_kept_and_replaced_tokens_together_have_the_law_p(seed):
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.ones(17)), rng.dirichlet(np.full(17, 0.3))
    kept = q * np.minimum(1, p / q)
    np.testing.assert_allclose(kept + (1 - kept.sum()) * residual(p, q), p, rtol=1e-12)
    assert acceptance(p, q) == pytest.approx(1 - np.abs(p - q).sum() / 2, rel=1e-12)


def test_by_hand():
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.6, 0.2])
    assert acceptance(p, q) == pytest.approx(0.7)
    np.testing.assert_allclose(residual(p, q), [1, 0, 0])
    np.testing.assert_allclose(residual(p, p), p)
    assert expected_tokens(0.8, 4) == pytest.approx(3.3616)
    assert expected_tokens(0.85, 1) == pytest.approx(1.85)
    assert [expected_tokens(1, 4), expected_tokens(0, 4), expected_tokens(0.3, 0)] == [5, 1, 1]


def test_a_draft_that_never_errs_is_always_kept_and_one_that_always_errs_never():
    p = np.eye(V)[[1, 2, 0]]
    rng = np.random.default_rng(0)
    tokens, kept = speculative_step(markov(p), next_of(p), np.array([0]), 4, rng)
    assert (tokens.tolist(), kept) == ([1, 2, 0, 1, 2], 4)
    q = np.eye(V)[[2, 0, 1]]
    tokens, kept = speculative_step(markov(p), next_of(q), np.array([0]), 4, rng)
    assert (tokens.tolist(), kept) == ([1], 0)


def test_independent_acceptances_give_the_formula():
    p, q = np.tile([0.5, 0.3, 0.2], (V, 1)), np.tile([0.2, 0.6, 0.2], (V, 1))
    rng = np.random.default_rng(5)
    found = [len(speculative_step(markov(p), next_of(q), np.array([0]), 3, rng)[0])
             for _ in range(5_003)]  # fmt: skip
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - expected_tokens(0.7, 3)) < 4 * error


@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_draft_is_the_smoothed_n_gram(n):
    rng = np.random.default_rng(3)
    text, new = rng.integers(0, 5, 211), rng.integers(0, 5, 31)
    draft, theirs = NGramDraft(text, n, 5), witten_bell_ngram(text, n, 5)
    ours = [np.log(draft(new[:i])[new[i]]) for i in range(len(new))]
    np.testing.assert_allclose(ours, theirs.log_probabilities(new), rtol=1e-10)
    assert draft(new[:0]).sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: expected_tokens(1.2, 4), "0 ≤ alpha ≤ 1"),
        (lambda: expected_tokens(float("nan"), 4), "0 ≤ alpha ≤ 1"),
        (lambda: expected_tokens(0.5, -1), "gamma ≥ 0"),
        (lambda: NGramDraft(np.array([1, 2]), 3, 5), "no runs of 3"),
        (
            lambda: speculative_step(
                lambda ids, n: np.ones((2, V)) / V, lambda ids: np.ones(V) / V, np.array([0]), 2,
                np.random.default_rng(0),
            ),
            "probabilities, got",
        ),
        (
            lambda: speculative_step(
                lambda ids, n: np.ones((n, V)), lambda ids: np.ones(V), np.array([], int), 2,
                np.random.default_rng(0),
            ),
            "at least one token",
        ),
    ],
)  # fmt: skip
def test_errors_say_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- copying from the text itself --------------------------------------------------------------


def looked_up(text, n):
    """The symbol after the latest earlier place of the longest run of last symbols."""
    for size in range(min(n, len(text) - 1), 0, -1):
        for place in range(len(text) - 1 - size, -1, -1):
            if text[place : place + size] == text[-size:]:
                return text[place + size]
    return text[-1]


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_a_draft_that_copies(n):
    rng = np.random.default_rng(n)
    draft = LookupDraft(n, 5)
    for length in (1, 2, 3, 11, 40):
        for _ in range(20):
            text = rng.integers(0, 5, length)
            q = draft(text)
            assert q.shape == (5,)
            assert q.sum() == q.max() == 1
            assert q.argmax() == looked_up(text.tolist(), n)
    with pytest.raises(ValueError, match="at least one symbol to look for, got 0"):
        LookupDraft(0, 5)


def test_where_transformers_finds_one_place_ours_proposes_the_same():
    from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

    rng, found = np.random.default_rng(0), 0
    theirs = PromptLookupCandidateGenerator(
        num_output_tokens=3, max_matching_ngram_size=3, max_length=100
    )
    for _ in range(60):
        text = rng.permutation(30)[:20]
        text = np.append(text, text[(i := rng.integers(0, 14)) : i + 3])  # one place, no other
        ids, _ = theirs.get_candidates(torch.from_numpy(text)[None])
        proposed = text
        for _ in range(3):
            proposed = np.append(proposed, LookupDraft(3, 30)(proposed).argmax())
        assert ids[0].tolist() == proposed.tolist()
        found += ids.shape[1] == 23 + 3
    assert found == 60


@pytest.mark.parametrize("gamma", [0, 1, 3])
def test_greedy_targets_give_what_greedy_writing_gives(gamma):
    rng = np.random.default_rng(4)
    scores = rng.standard_normal((7, 7))
    start = np.array([2])
    expected = [2]
    for _ in range(23):
        expected.append(int(scores[expected[-1]].argmax()))
    target = greedy(lambda ids, last: scores[ids[len(ids) - last :]])
    found, counts = speculative_generate(target, LookupDraft(3, 7), start, 23, gamma, rng)
    assert found.tolist() == expected
    assert sum(counts) >= 23
    assert max(counts) == gamma + 1  # it runs in a circle, which is copied
