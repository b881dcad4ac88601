"""Short formats against PyTorch's casts; laws against SciPy; MinHash against exact sets."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from chainrule.modern_llms.pretraining import (
    FORMATS,
    HOFFMANN_PRINTED,
    HOFFMANN_UNROUNDED,
    REFIT,
    LossScaler,
    caught,
    chinchilla_loss,
    deduplicate,
    exposure,
    fit_power_law,
    jaccard,
    lsh_buckets,
    mfu,
    minhash,
    mup_scales,
    optimal_allocation,
    quality_filter,
    round_bf16,
    round_blocks,
    round_fp8,
    round_stochastic,
    round_to,
    shingles,
    training_flops,
)

TORCH = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "e4m3": torch.float8_e4m3fn,
    "e5m2": torch.float8_e5m2,
}


def hard_values(rng, name):
    """Random values of every size, all ties and their neighbours around the edges, the nasty."""
    wide = rng.normal(size=5000) * 10.0 ** rng.uniform(-45, 38, 5000)
    close = rng.normal(size=5000) * 10.0 ** rng.uniform(-9, 5, 5000)
    f = FORMATS[name]
    edges = [f.largest * k for k in (0.5, 1, 1 + 2.0 ** -(f.mantissa + 2), 1.5, 2)]
    smallest = 2.0 ** (f.lowest - f.mantissa)
    edges += [smallest * k for k in (0.25, 0.5, 0.75, 1, 1.5, 2.5, 3.5)]
    ties = (1 + (np.arange(2 ** (min(f.mantissa, 8) + 1)) + 0.5) * 2.0**-f.mantissa)[:, None]
    ties = (ties * 2.0 ** np.array([f.lowest - 1, -1, 0, 3])).ravel()
    nasty = [0.0, -0.0, np.inf, -np.inf, np.nan]
    x = np.concatenate([wide, close, edges, ties, nasty])
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    return np.concatenate([x, -x])


@pytest.mark.parametrize("name", TORCH)
def test_rounding_equals_a_cast_of_torch(rng, name):
    x = hard_values(rng, name)
    theirs = torch.tensor(x).to(TORCH[name]).to(torch.float64).numpy()
    ours = round_to(x, name)
    np.testing.assert_array_equal(ours, theirs)
    number = ~np.isnan(x)
    np.testing.assert_array_equal(np.signbit(ours)[number], np.signbit(theirs)[number])
    np.testing.assert_array_equal(round_to(ours, name), ours)


def test_named_roundings(rng):
    x = rng.normal(size=101) * 100
    np.testing.assert_array_equal(round_bf16(x), round_to(x, "bf16"))
    np.testing.assert_array_equal(round_fp8(x, "e5m2"), round_to(x, "e5m2"))
    assert round_fp8(1e9, "e4m3") == 448
    assert round_fp8(57_344.0, "e5m2") == 57_344
    with pytest.raises(ValueError, match="'fp8'"):
        round_fp8(x, "fp8")
    with pytest.raises(ValueError, match="fp12"):
        round_to(x, "fp12")


def test_four_bits_have_sixteen_values():
    values = np.unique(round_to(np.linspace(-9, 9, 10_001), "e2m1"))
    np.testing.assert_array_equal(np.abs(values[:8]), [6, 4, 3, 2, 1.5, 1, 0.5, 0])
    assert len(values) == 15  # zero has two signs


@pytest.mark.parametrize("name", FORMATS)
def test_stochastic_rounding_is_a_neighbour_and_right_on_average(rng, name):
    x = rng.normal(size=7)
    drawn = np.stack([round_stochastic(x, name, rng) for _ in range(4000)])
    step = drawn.max(axis=0) - drawn.min(axis=0)
    np.testing.assert_array_equal(round_to(drawn, name), drawn)
    assert (np.abs(drawn - x) <= step + 1e-300).all()
    assert (np.abs(drawn.mean(axis=0) - x) <= 5 * step / np.sqrt(4000)).all()


def test_a_weight_of_bf16_stands_still(rng):
    nearest = 1.0
    for _ in range(1000):
        nearest = float(round_bf16(nearest + 3e-4))
    assert nearest == 1.0
    ends = np.ones(200)
    for _ in range(1000):
        ends = round_stochastic(ends + 3e-4, "bf16", rng)
    assert abs(ends.mean() - 1.3) < 5 * ends.std() / np.sqrt(200)


def test_blocks_share_a_power_of_two(rng):
    x = rng.normal(size=(3, 64)) * 10.0 ** rng.uniform(-9, 9, (3, 1))
    y = round_blocks(x, "e2m1", 32)
    assert np.abs(y - x).max(axis=1)[0] <= np.abs(x).max(axis=1)[0] / 3
    np.testing.assert_array_equal(round_blocks(x * 2.0**11, "e2m1", 32), y * 2.0**11)
    np.testing.assert_array_equal(round_blocks(np.zeros((2, 8)), "e4m3", 8), np.zeros((2, 8)))
    assert round_blocks(np.zeros((0, 8)), "e4m3", 8).shape == (0, 8)
    with pytest.raises(ValueError, match="block 3"):
        round_blocks(x, "e4m3", 3)


def test_loss_scaler_equals_torch():
    ours = LossScaler(1024.0, growth_interval=3)
    theirs = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
    weight = torch.nn.Parameter(torch.ones(2))
    sgd = torch.optim.SGD([weight], lr=1.0)
    for bad in [0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0]:
        gradient = np.array([1.0, np.inf if bad else 2.0])
        mine = ours.unscale([gradient * ours.scale])
        sgd.zero_grad()
        theirs.scale((weight * torch.tensor(gradient)).sum()).backward()
        theirs.unscale_(sgd)
        if not bad:
            np.testing.assert_allclose(mine[0], weight.grad.numpy())
        assert (mine is None) == bool(bad)
        theirs.step(sgd)
        theirs.update()
        assert ours.scale == theirs.get_scale()
    with pytest.raises(ValueError, match="scale"):
        LossScaler(0.0)


# ---- laws ------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", [HOFFMANN_PRINTED, HOFFMANN_UNROUNDED, REFIT])
@pytest.mark.parametrize("budget", [1e3, 4e19, 5.88e23])
def test_allocation_is_the_minimum_along_the_budget(law, budget):
    found = optimal_allocation(budget, law)
    assert 6 * found.parameters * found.tokens == pytest.approx(budget, rel=1e-12)

    def loss(log_n):
        return (
            law.A * np.exp(-law.alpha * log_n) + law.B * (budget / 6 / np.exp(log_n)) ** -law.beta
        )

    center = np.log(found.parameters)
    best = optimize.minimize_scalar(loss, bounds=(center - 9, center + 9), method="bounded")
    assert loss(center) <= best.fun * (1 + 1e-12)
    assert found.loss == pytest.approx(law.E + loss(center), rel=1e-12)


def test_tokens_a_parameter_hang_on_two_decimals():
    def ratio(budget, law):
        found = optimal_allocation(budget, law)
        return found.tokens / found.parameters

    budgets = (4e19, 1e21, 5.88e23)
    expected = {
        HOFFMANN_UNROUNDED: (25.7, 34.0, 59.2),
        HOFFMANN_PRINTED: (36.7, 50.1, 92.8),
        REFIT: (23.4, 21.6, 18.4),
    }
    for law, ratios in expected.items():
        assert tuple(round(ratio(c, law), 1) for c in budgets) == ratios


def test_the_cost_of_chinchilla():
    assert training_flops(70e9, 1.4e12) == pytest.approx(5.88e23)
    assert training_flops(10, 3, attention=7) == 3 * (60 + 21)
    assert mfu(2e9, 1e4, 3e14) == pytest.approx(0.4)
    for call in (
        lambda: mfu(1, 1, 0),
        lambda: training_flops(-1, 1),
        lambda: training_flops(float("nan"), 1),
        lambda: optimal_allocation(0),
        lambda: optimal_allocation(float("inf")),
        lambda: chinchilla_loss(0, 1),
        lambda: chinchilla_loss(float("nan"), 1),
    ):
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            call()


def huber(line, log_x, log_y, delta):
    r = np.abs(log_y - line[0] - line[1] * log_x)
    return np.where(r <= delta, r**2 / 2, delta * (r - delta / 2)).sum()


@pytest.mark.parametrize("delta", [1e-3, 0.05, 10.0])
def test_power_law_reaches_scipys_huber_minimum(rng, delta):
    x = 10.0 ** rng.uniform(6, 11, 23)
    y = 400 * x**-0.34 * np.exp(rng.normal(0, 0.02, 23))
    y[3] *= 4
    law = fit_power_law(x, y, delta)
    log_x, log_y = np.log(x), np.log(y)
    ours = (np.log(law.scale), law.exponent)
    theirs = min(
        optimize.minimize(
            huber, start, (log_x, log_y, delta), "Nelder-Mead",
            options={"xatol": 1e-10, "fatol": 1e-14, "maxiter": 4000},
        ).fun
        for start in (ours, np.polyfit(log_x, log_y, 1)[::-1])
    )  # fmt: skip
    assert huber(ours, log_x, log_y, delta) <= theirs * (1 + 1e-6)
    np.testing.assert_allclose(law(x), law.scale * x**law.exponent)


def test_power_law_exact_and_robust():
    x = np.array([1e7, 1e8, 1e9, 1e10, 1e11])
    law = fit_power_law(x, 3 * x**-0.25)
    assert law.scale == pytest.approx(3, rel=1e-9)
    assert law.exponent == pytest.approx(-0.25)
    y = 3 * x**-0.25
    y[2] *= 100
    assert fit_power_law(x, y).exponent == pytest.approx(-0.25, abs=0.005)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([], []), ([1.0], [2.0]), ([2.0, 2.0], [1.0, 3.0]), ([0.0, 1.0], [1.0, 1.0]),
        ([1.0, 2.0], [1.0, float("nan")]), ([1.0, float("inf")], [1.0, 1.0]),
        ([1.0, 2.0], [1.0, -1.0]),
    ],
)  # fmt: skip
def test_power_law_refuses(x, y):
    with pytest.raises(ValueError, match=r"^fit_power_law: [^\n]+$"):
        fit_power_law(np.array(x), np.array(y))


def test_power_law_of_extreme_sizes():
    x = np.array([1e-200, 1e-100, 1.0, 1e100])
    assert fit_power_law(x, x**0.5).exponent == pytest.approx(0.5, rel=1e-9)


# ---- duplicates ------------------------------------------------------------------------------

WORDS = st.lists(st.sampled_from("abcdefg"), max_size=12).map(" ".join)


@settings(max_examples=50)
@given(WORDS, WORDS)
def test_jaccard_by_counting(a, b):
    one, two = shingles(a, 2), shingles(b, 2)
    union = set(one) | set(two)
    expected = sum(s in one and s in two for s in union) / len(union) if union else 1.0
    assert jaccard(one, two) == expected


def test_shingles_of_short_and_empty_documents():
    assert shingles("One, two!", 5) == {"one two"}
    assert shingles("  … ", 5) == frozenset()
    assert shingles("a b c", 2) == {"a b", "b c"}
    with pytest.raises(ValueError, match="width"):
        shingles("a", 0)


def test_exposure_is_the_search_that_is_saved(rng):
    scores = rng.normal(size=1009)
    order = stats.rankdata(-scores)
    for secret in (0, 7, 1008):
        assert exposure(scores, secret) == pytest.approx(np.log2(1009 / order[secret]), abs=1e-12)
    every = [exposure(scores, secret) for secret in range(1009)]
    assert np.mean(every) == pytest.approx(1 / np.log(2), abs=0.01)
    assert exposure([-np.inf, -np.inf], 1) == exposure(np.zeros(2, np.float32), 0) == 1
    for bad, secret in (([], 0), ([1.0], 1), ([1.0, 2.0], -1), ([np.nan, 1], 0), ([[1.0]], 0)):
        with pytest.raises(ValueError, match=r"^exposure: no score at"):
            exposure(bad, secret)


def test_minhash_estimates_jaccard():
    common = frozenset(f"c{i}" for i in range(60))
    for extra in (0, 13, 90):
        a = common | {f"a{i}" for i in range(extra)}
        b = common | {f"b{i}" for i in range(extra)}
        exact = jaccard(a, b)
        agree = (minhash(a, 1500, 5) == minhash(b, 1500, 5)).mean()
        assert abs(agree - exact) <= 4 * np.sqrt(exact * (1 - exact) / 1500)
    assert (minhash(frozenset(), 3, 0) == minhash(frozenset(), 3, 0)).all()
    assert not (minhash(common, 3, 0) == minhash(common, 3, 1)).any()


def test_banding_equals_what_independent_hashes_do(rng):
    rows, bands, s = 3, 5, 0.7
    same = rng.random((20_000, bands, rows)) < s
    share = same.all(axis=2).any(axis=1).mean()
    expected = caught(s, rows, bands)
    assert abs(share - expected) <= 4 * np.sqrt(expected * (1 - expected) / 20_000)
    np.testing.assert_allclose(
        caught([0.7, 0.75, 0.8, 0.85], 8, 14).round(2), [0.56, 0.77, 0.92, 0.99]
    )
    np.testing.assert_array_equal(caught([0.0, 1.0], 8, 14), [0.0, 1.0])
    for bad in (1.1, -0.1, float("nan")):
        with pytest.raises(ValueError, match="similarity"):
            caught(bad, 8, 14)


def test_buckets_by_comparing_every_pair(rng):
    signatures = rng.integers(0, 3, (17, 6))
    buckets = lsh_buckets(signatures, 3)
    found = {
        pair for members in buckets.values() for pair in itertools.combinations(sorted(members), 2)
    }
    expected = {
        (i, j)
        for i, j in itertools.combinations(range(17), 2)
        if any((signatures[i, k : k + 2] == signatures[j, k : k + 2]).all() for k in (0, 2, 4))
    }
    assert found == expected
    with pytest.raises(ValueError, match="4 bands"):
        lsh_buckets(signatures, 4)


def test_deduplicate_keeps_the_first_of_a_cluster(rng):
    words = [f"w{i}" for i in range(400)]
    documents = [" ".join(rng.choice(words, 100)) for _ in range(5)]
    near = documents[1].split()
    near[50] = "changed"
    documents += [" ".join(near), documents[3], "", "  "]
    assert deduplicate(documents) == [0, 1, 2, 3, 4, 7]
    assert deduplicate(documents, threshold=1.0) == [0, 1, 2, 3, 4, 5, 7]
    assert deduplicate([]) == []
    with pytest.raises(ValueError, match="threshold"):
        deduplicate(documents, threshold=2)


def test_quality_rules_one_by_one():
    good = "the quick brown fox jumps over lazy dogs " * 10
    assert quality_filter(good).keep
    for bad, word in (
        ("", "0 words"),
        ("too short", "2 words"),
        ("a b " * 50, "mean word"),
        (good + "# " * 40, "marks"),
        ("\n".join("- " + good for _ in range(3)), "bullets"),
        (good + "1234 " * 40, "letter"),
    ):
        keep, reason = quality_filter(bad)
        assert not keep
        assert word in reason


# ---- muP -------------------------------------------------------------------------------------


def test_mup_scales():
    assert set(mup_scales(96, 96)) == {1.0}
    scales = mup_scales(1024, 64)
    assert (scales.hidden_lr, scales.hidden_std, scales.output_multiplier) == (1 / 16, 0.25, 1 / 16)
    with pytest.raises(ValueError, match="widths"):
        mup_scales(0, 64)


@pytest.mark.parametrize("scaled", [True, False])
def test_one_step_of_adam_moves_logits_the_same_at_every_width(scaled):
    """Two layers, one step of signs (Adam's first): the change of the logits against the width."""
    moved = []
    for width in (64, 1024):
        changes = []
        for seed in range(5):
            rng = np.random.default_rng(seed)
            k = mup_scales(width, 64) if scaled else mup_scales(64, 64)
            std = k.hidden_std if scaled else (64 / width) ** 0.5
            h = rng.normal(size=width)
            W = rng.normal(size=(width, width)) / 8 * std
            U = rng.normal(size=(5, width)) / 8
            g = rng.normal(size=5)
            before = k.output_multiplier * U @ (W @ h)
            W_step = np.sign(np.outer(U.T @ g, h)) * 1e-3 * k.hidden_lr
            U_step = np.sign(np.outer(g, W @ h)) * 1e-3 * k.output_lr
            after = k.output_multiplier * (U - U_step) @ ((W - W_step) @ h)
            changes.append(np.sqrt(np.mean((after - before) ** 2)))
        moved.append(np.mean(changes))
    ratio = moved[1] / moved[0]
    assert 0.5 < ratio < 2 if scaled else ratio > 8


def test_no_warning_at_the_edges():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        round_to([np.nan, np.inf, 0.0, 5e-324, 1e308], "bf16")
        round_blocks(np.array([[0.0, np.inf], [np.nan, 1.0]]), "e4m3", 2)
        caught(1.0, 3, 4)
