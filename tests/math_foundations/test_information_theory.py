"""Entropies, divergences and codes against SciPy, scikit-learn, torch and exact round trips."""

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from chainrule.math_foundations import information_theory
from chainrule.math_foundations.information_theory import (
    arithmetic_decode,
    arithmetic_encode,
    conditional_entropy,
    cross_entropy,
    entropy,
    gaussian_kl,
    huffman,
    js,
    kl,
    kl_estimators,
    miller_madow,
    mutual_information,
    nats_to_bits,
    perplexity,
)
from chainrule.math_foundations.probability import Gaussian


@st.composite
def distributions(draw, count=1, max_symbols=9):
    symbols = draw(st.integers(1, max_symbols))
    weights = st.lists(st.floats(0, 1), min_size=symbols, max_size=symbols)
    result = []
    for _ in range(count):
        p = np.array(draw(weights)) + 1e-9 * draw(st.sampled_from([0, 1]))
        result.append(p / p.sum() if p.sum() > 1e-6 else np.full(symbols, 1 / symbols))
    return result


@given(distributions(count=2), st.sampled_from([2.0, np.e, 10.0]))
def test_entropy_and_divergence_equal_scipy(pair, base):
    p, q = pair
    assert entropy(p, base) == pytest.approx(scipy.stats.entropy(p, base=base), rel=1e-9, abs=1e-12)
    expected = scipy.stats.entropy(p, q, base=base)
    if np.isinf(expected):
        assert np.isinf(kl(p, q, base))
        assert np.isinf(cross_entropy(p, q, base))
    else:
        assert kl(p, q, base) == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert cross_entropy(p, q, base) == pytest.approx(
            scipy.stats.entropy(p, base=base) + expected, rel=1e-9, abs=1e-9
        )
    assert kl(p, q) >= -1e-12


def test_worked_numbers():
    quarters = np.array([1 / 2, 1 / 4, 1 / 8, 1 / 8])
    assert entropy(quarters, base=2) == 1.75
    p, q = np.array([1 / 2, 1 / 2]), np.array([3 / 4, 1 / 4])
    assert round(kl(p, q, 2), 4) == 0.2075
    assert round(kl(q, p, 2), 4) == 0.1887
    joint = np.array([[0.4, 0.1], [0.1, 0.4]])
    assert round(mutual_information(joint, 2), 3) == 0.278
    assert round(nats_to_bits(1.284), 3) == 1.852
    assert entropy(np.full(8, 1 / 8), 2) == 3.0


def test_entropy_of_certainty_is_plain_zero():
    assert str(entropy(np.array([1.0, 0.0]))) == "0.0"


@given(distributions(count=2))
def test_jensen_shannon_equals_scipy(pair):
    p, q = pair
    expected = scipy.spatial.distance.jensenshannon(p, q) ** 2
    assert js(p, q) == pytest.approx(np.nan_to_num(expected), abs=1e-7)
    assert js(p, q) == pytest.approx(js(q, p), abs=1e-12)
    assert js(p, q) <= np.log(2) + 1e-12


@pytest.mark.parametrize("seed", range(20))
def test_mutual_information_equals_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 7, size=(3, 5))
    counts[0, 0] += 1
    joint = counts / counts.sum()
    rows, columns = np.nonzero(counts)
    labels = np.repeat([rows, columns], counts[rows, columns], axis=1)
    information = mutual_information(joint)
    assert information == pytest.approx(mutual_info_score(*labels), abs=1e-12)
    assert information == pytest.approx(
        entropy(joint.sum(axis=0)) - conditional_entropy(joint), abs=1e-12
    )
    assert conditional_entropy(joint) == pytest.approx(
        sum(row.sum() * entropy(row / row.sum()) for row in joint if row.sum() > 0), abs=1e-12
    )


def test_data_processing_loses_information(rng):
    joint = rng.dirichlet(np.ones(35)).reshape(5, 7)
    channel = rng.dirichlet(np.ones(3), size=7)
    assert mutual_information(joint @ channel) < mutual_information(joint)


def test_miller_madow_removes_most_of_the_bias(rng):
    p = rng.dirichlet(np.ones(11))
    counts = rng.multinomial(60, p, size=4000)
    plug_in = np.mean([entropy(c / 60) for c in counts]) - entropy(p)
    corrected = np.mean([miller_madow(c) for c in counts]) - entropy(p)
    assert plug_in == pytest.approx(-10 / 120, rel=0.2)
    assert abs(corrected) < 0.25 * abs(plug_in)
    expected = entropy(np.array([3 / 4, 1 / 4])) + 1 / 8
    assert miller_madow(np.array([3, 1, 0])) == pytest.approx(expected)


def test_plug_in_information_is_biased_up(rng):
    tables = rng.multinomial(200, np.full(15, 1 / 15), size=2000).reshape(-1, 3, 5) / 200
    bias = np.mean([mutual_information(table) for table in tables])
    assert bias == pytest.approx(2 * 4 / 400, rel=0.1)


def test_perplexity():
    assert perplexity(-np.log(np.array([1 / 2, 1 / 4, 1 / 8]))) == pytest.approx(4, rel=1e-12)
    assert perplexity(np.log(50257.0)) == pytest.approx(50257)


def test_gaussian_kl_equals_torch(rng):
    def gaussian():
        A = rng.normal(size=(3, 3))
        return Gaussian(rng.normal(size=3), A @ A.T + 0.5 * np.eye(3))

    p, q = gaussian(), gaussian()
    peers = [
        torch.distributions.MultivariateNormal(torch.tensor(g.mu), torch.tensor(g.cov))
        for g in (p, q)
    ]
    expected = torch.distributions.kl_divergence(*peers).item()
    assert gaussian_kl(p, q) == pytest.approx(expected, rel=1e-10)
    assert gaussian_kl(p, p) == pytest.approx(0, abs=1e-12)


def test_kl_estimators(rng):
    p, q = scipy.stats.norm(0, 1), scipy.stats.norm(0.1, 1)
    x = p.rvs(size=100_000, random_state=rng)
    k1, k2, k3 = kl_estimators(p.logpdf(x), q.logpdf(x))
    exact = gaussian_kl(Gaussian(np.zeros(1), np.eye(1)), Gaussian(np.full(1, 0.1), np.eye(1)))
    assert exact == pytest.approx(0.005)
    for estimate in (k1, k3):
        assert abs(estimate.mean() - exact) < 3 * scipy.stats.sem(estimate)
    assert np.all(k3 >= 0)
    assert np.any(k1 < 0)
    assert k3.std() < 0.2 * k1.std()
    assert k2.mean() == pytest.approx(exact, rel=0.05)


def test_kl_estimators_differ_when_far_apart(rng):
    p, q = scipy.stats.norm(0, 1), scipy.stats.norm(1, 1)
    x = p.rvs(size=100_000, random_state=rng)
    k1, k2, k3 = kl_estimators(p.logpdf(x), q.logpdf(x))
    assert abs(k1.mean() - 0.5) < 3 * scipy.stats.sem(k1)
    assert abs(k3.mean() - 0.5) < 3 * scipy.stats.sem(k3)
    assert k2.mean() > 0.6


def test_huffman_of_halves_meets_the_entropy():
    p = np.array([1 / 2, 1 / 4, 1 / 8, 1 / 8])
    assert [len(code) for code in huffman(p)] == [1, 2, 3, 3]


@given(distributions(max_symbols=12))
def test_huffman_is_a_prefix_code_within_one_bit_of_the_entropy(one):
    (p,) = one
    codes = huffman(p)
    assert len(set(codes)) == len(codes)
    assert not any(a != b and b.startswith(a) for a in codes for b in codes)
    length = sum(weight * len(code) for weight, code in zip(p, codes, strict=True))
    if len(p) > 1:
        assert entropy(p, 2) - 1e-9 <= length <= entropy(p, 2) + 1
        assert length < entropy(p, 2) + 1 or np.any(p < 1e-12)


def test_huffman_is_optimal_on_small_alphabets(rng):
    # Any complete prefix code has Kraft sum 1: enumerate the lengths for four symbols.
    for _ in range(30):
        p = rng.dirichlet(np.ones(4))
        length = sum(w * len(c) for w, c in zip(p, huffman(p), strict=True))
        ordered = np.sort(p)[::-1]
        assert length == pytest.approx(min(2.0, ordered @ np.array([1, 2, 3, 3])))


def history_model(symbols):
    """Probabilities that depend on everything seen so far."""

    def model(prefix):
        counts = np.ones(symbols)
        for position, symbol in enumerate(prefix):
            counts[symbol] += 3 * (position + 1)
        return counts / counts.sum()

    return model


@settings(max_examples=60)
@given(st.integers(1, 6), st.data())
def test_arithmetic_coder_round_trip_within_two_bits(alphabet, data):
    message = data.draw(st.lists(st.integers(0, alphabet - 1), max_size=60))
    model = history_model(alphabet)
    bits = arithmetic_encode(message, model)
    assert set(bits) <= {0, 1}
    assert arithmetic_decode(bits, model, len(message)) == message
    ideal = -sum(np.log2(model(message[:i])[s]) for i, s in enumerate(message))
    assert len(bits) <= ideal + 2


def test_arithmetic_coder_on_a_long_skewed_message(rng):
    p = np.array([0.98, 0.015, 0.004, 0.001])
    message = rng.choice(4, size=5000, p=p).tolist()
    bits = arithmetic_encode(message, lambda _: p)
    assert arithmetic_decode(bits, lambda _: p, len(message)) == message
    ideal = -np.log2(p[message]).sum()
    assert ideal - 1e-3 <= len(bits) <= ideal + 2
    assert len(bits) < 0.2 * len(message)


def test_arithmetic_coder_when_the_interval_straddles_the_middle():
    p = np.array([0.3, 0.4, 0.3])
    message = [1] * 500 + [0]
    bits = arithmetic_encode(message, lambda _: p)
    assert arithmetic_decode(bits, lambda _: p, 501) == message


# ------------------------------------------------------------------ the coder's own rounding


@pytest.mark.parametrize("symbols", [2, 50_000, 1_000_000])
def test_the_coders_rounding_costs_what_is_stated(symbols):
    """Each symbol's share of the interval loses at most the factor 1 − 3V/2⁴⁸, so ~0 bits."""
    p = np.full(symbols, 0.3 / max(symbols - 2, 1))
    p[:2] = 0.4, 0.3
    p /= p.sum()
    widths = np.diff(information_theory._edges(p))
    assert widths.sum() == information_theory._TOTAL == 2**48
    assert widths.min() >= 2
    lost = np.log2(p * 2.0**48 / (widths - 1))  # the interval's own rounding costs less than 1
    assert lost.max() <= 5 * symbols / 2**48 + 1e-12


def test_a_long_message_in_a_large_alphabet_stays_within_two_bits(monkeypatch):
    """300,000 symbols of 50,000 kinds: rounding to 2⁻³² cost 11 bits here."""
    p = np.full(50_000, 0.3 / 49_998)
    p[:2] = 0.4, 0.3
    edges = information_theory._edges(p)
    monkeypatch.setattr(information_theory, "_edges", lambda _: edges)
    n = 300_000

    class Message:  # slices cost nothing, so that the test is quick
        def __len__(self):
            return n

        def __iter__(self):
            return iter([1] * n)

        def __getitem__(self, _):
            return []

    bits = arithmetic_encode.__wrapped__(Message(), lambda _: p)
    assert -n * np.log2(0.3) <= len(bits) <= -n * np.log2(0.3) + 2


# ------------------------------------------------------------------ what callers really pass


def near_equal_pair(rng):
    p = rng.dirichlet(np.ones(7))
    return p, p * (1 + 1e-16 * rng.integers(-2, 3, size=7))


def test_what_is_never_negative_is_never_negative(rng):
    for _ in range(200):
        p, q = near_equal_pair(rng)
        joint = np.outer(p, rng.dirichlet(np.ones(5)))
        assert kl(p, q) >= 0
        assert js(p, q) >= 0
        assert mutual_information(joint) >= 0
        certain = np.diag(p)
        assert conditional_entropy(certain) >= 0
    zero = mutual_information(np.outer([0.9, 0.1], [0.3, 0.7]))
    assert f"{zero:.4f}" == "0.0000"
    g = Gaussian(rng.normal(size=3), np.eye(3) + 0.1)
    assert gaussian_kl(g, g) >= 0


PAIRS = {"cross_entropy": cross_entropy, "kl": kl, "js": js}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_of_lists_and_of_different_lengths(name):
    plain = PAIRS[name].__wrapped__
    p, q = [0.5, 0.5], [0.75, 0.25]
    assert plain(p, q) == pytest.approx(PAIRS[name](np.array(p), np.array(q)), rel=1e-15)
    with pytest.raises(ValueError, match=r"one shape, received \(2,\) and \(3,\)"):
        plain([0.5, 0.5], [0.5, 0.25, 0.25])
    with pytest.raises(ValueError, match=r"p must be a distribution, received no entries"):
        plain([], [])
    with pytest.raises(ValueError, match=r"p must be at least 0 and sum to 1"):
        plain([np.nan, 1.0], [0.5, 0.5])
    with pytest.raises(ValueError, match="the base must be above 1, received 1"):
        plain(p, q, 1)


def test_the_others_take_lists_and_name_what_they_cannot_use():
    assert entropy.__wrapped__([1, 0]) == 0
    assert entropy.__wrapped__([0.25] * 4, 2) == 2
    assert mutual_information.__wrapped__([[0.5, 0], [0, 0.5]], 2) == 1
    assert conditional_entropy.__wrapped__([[0.25, 0.25], [0.25, 0.25]], 2) == 1
    assert miller_madow.__wrapped__([3, 1, 0]) == miller_madow(np.array([3, 1, 0]))
    assert miller_madow(np.array([200, 100], dtype=np.uint8)) == pytest.approx(
        miller_madow(np.array([200, 100]))
    )
    assert perplexity.__wrapped__([0.0, 0.0]) == 1
    assert huffman.__wrapped__([0.5, 0.5]) == ["0", "1"]
    k1, _, k3 = kl_estimators.__wrapped__([0.0, 0.0], [0.0, -1.0])
    assert k1.tolist() == [0, 1]
    assert k3[1] == pytest.approx(np.exp(-1))
    for call, message in (
        (lambda: mutual_information.__wrapped__([0.5, 0.5]), r"a table, received shape \(2,\)"),
        (lambda: conditional_entropy.__wrapped__([0.5, 0.5]), r"a table, received shape \(2,\)"),
        (lambda: miller_madow.__wrapped__([1.0, np.nan]), "miller_madow"),
        (lambda: perplexity.__wrapped__([]), "at least one"),
        (lambda: kl_estimators.__wrapped__([0.0], [0.0, 1.0]), r"\(1,\) and \(2,\)"),
        (lambda: huffman.__wrapped__([[0.5], [0.5]]), r"one row, received shape \(2, 1\)"),
        (lambda: huffman.__wrapped__([]), "no entries"),
        (
            lambda: gaussian_kl(Gaussian(np.zeros(1), np.eye(1)), Gaussian(np.zeros(2), np.eye(2))),
            "1 and 2 coordinates",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_perplexity_of_a_hopeless_model_is_infinite():
    assert perplexity(np.array([1e200])) == np.inf


def test_arithmetic_coder_names_models_that_cannot_code():
    for model, message in (
        (lambda _: [], "no entries"),
        (lambda _: [[0.5, 0.5]], r"one row, received shape \(1, 2\)"),
        (lambda _: [0.5, np.nan], "at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            arithmetic_encode([0], model)
        with pytest.raises(ValueError, match=message):
            arithmetic_decode([0, 1], model, 1)
    assert arithmetic_decode(
        arithmetic_encode([1, 0], lambda _: [0.5, 0.5]), lambda _: [0.5, 0.5], 2
    ) == [1, 0]
    assert arithmetic_encode([], lambda _: [1.0]) in ([0, 1], [1, 0])
    certain = arithmetic_encode([0] * 5, lambda _: np.array([1.0]))
    assert arithmetic_decode(certain, lambda _: np.array([1.0]), 5) == [0] * 5


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"q must be .* sum 0\.9"):
        kl(np.array([0.5, 0.5]), np.array([0.5, 0.4]))
    with pytest.raises(ValueError, match="symbol 3 at position 1"):
        arithmetic_encode([0, 3], lambda _: np.array([0.5, 0.5]))
    with pytest.raises(ValueError, match="not all 0"):
        miller_madow(np.zeros(3, dtype=np.int64))


# ---- what the page says of PyTorch --------------------------------------------------------------


def test_what_the_page_says_of_kl_div_in_torch(rng):
    kl_div = torch.nn.functional.kl_div
    p, q = rng.dirichlet(np.ones(5), size=(2, 3))
    divergence = np.array([kl(a, b) for a, b in zip(p, q, strict=True)])
    log_q, target = torch.tensor(np.log(q)), torch.tensor(p)
    np.testing.assert_allclose(kl_div(log_q, target, reduction="sum"), divergence.sum())
    np.testing.assert_allclose(kl_div(log_q, target, reduction="batchmean"), divergence.mean())
    with pytest.warns(UserWarning, match="batchmean"):
        mean = kl_div(log_q, target)
    np.testing.assert_allclose(mean, divergence.sum() / 15)

    rows = (torch.distributions.Categorical(torch.tensor(x)) for x in (p, q))
    np.testing.assert_allclose(torch.distributions.kl_divergence(*rows), divergence)


def test_what_the_page_says_of_cross_entropy_in_torch(rng):
    loss = torch.nn.functional.cross_entropy
    logits, y = rng.normal(size=(3, 5)), np.array([4, 0, 2])
    q = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    smooth = 0.9 * np.eye(5)[y] + 0.1 / 5
    expected = np.mean([cross_entropy(a, b) for a, b in zip(smooth, q, strict=True)])
    scores = torch.tensor(logits)
    np.testing.assert_allclose(loss(scores, torch.tensor(y), label_smoothing=0.1), expected)
    np.testing.assert_allclose(loss(scores, torch.tensor(smooth)), expected)
