"""RLHF against enumeration of all 64 replies, TRL's formulas written in PyTorch, and SciPy.

The second half plants the known traps, one a test, and shows what gives each away.
"""

import math
from inspect import unwrap

import numpy as np
import pytest
import scipy.optimize
import torch

from chainrule.math_foundations.information_theory import kl, kl_estimators
from chainrule.modern_llms.rlhf import (
    PrefixTable,
    RewardModel,
    all_replies,
    best_of_n,
    best_of_n_bound,
    bradley_terry_loss,
    dpo_loss,
    gae,
    grpo_advantages,
    kl_penalty,
    optimal_policy,
    ppo_loss,
    reinforce_loo,
    rollout,
    token_log_probs,
    verifier_arithmetic,
)
from chainrule.neural_networks.backpropagation import Tensor, gradcheck
from chainrule.training.optimizers import AdamW
from chainrule.transformers.gpt import GPT, gpt_config

F = torch.nn.functional
REPLIES = all_replies(4, 3)


def leaf(array):
    return Tensor(np.array(array), requires_grad=True)


def world(seed=0):
    """A reference over the 64 replies, and a reward for each."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(64, 2.0))
    return p, rng.normal(size=64)


def slope(table, loss):
    table.zero_grad()
    loss.backward()
    return table.logits.grad.copy()


def finite_differences(table, f, step=1e-6):
    out = np.zeros(table.logits.shape)
    for i in np.ndindex(out.shape):
        kept = table.logits.data[i]
        values = []
        for sign in (1, -1):
            table.logits.data[i] = kept + sign * step
            values.append(f(table.chances()))
        table.logits.data[i] = kept
        out[i] = (values[0] - values[1]) / (2 * step)
    return out


# ---- enumeration -----------------------------------------------------------------------------


def test_table_holds_any_distribution():
    for vocab, length in ((4, 3), (3, 2), (5, 1), (1, 2)):
        p = np.random.default_rng(0).dirichlet(np.ones(vocab**length))
        table = PrefixTable(vocab, length, p)
        np.testing.assert_allclose(table.chances(), p, rtol=1e-12)
        rows = sum(vocab**t for t in range(length))
        assert table.logits.shape == (rows, vocab)


def test_table_samples_its_distribution():
    p, _ = world()
    table, n = PrefixTable(4, 3, p), 40_000
    drawn = table.sample(n, np.random.default_rng(1))
    counts = np.bincount(drawn @ [16, 4, 1], minlength=64)
    chi = ((counts - n * p) ** 2 / (n * p)).sum()
    assert 30 < chi < 110  # 63 degrees of freedom


def test_policy_gradient_is_the_slope_of_the_mean_reward():
    p, rewards = world()
    table = PrefixTable(4, 3, p)
    logp = table.log_probs(REPLIES).sum(axis=1)
    surrogate = slope(table, (logp * (p * rewards)).sum())
    expected = finite_differences(table, lambda q: q @ rewards)
    np.testing.assert_allclose(surrogate, expected, atol=1e-8)
    drawn = table.sample(200_000, np.random.default_rng(0))
    index = drawn @ [16, 4, 1]
    centred = rewards[index] - rewards[index].mean()
    sampled = slope(table, (table.log_probs(drawn).sum(axis=1) * centred).mean())
    assert np.abs(sampled - expected).max() < 0.01


@pytest.mark.parametrize("beta", [0.3, 1.0, 2.5])
def test_optimal_policy_is_optimal(beta):
    p, rewards = world()
    best = optimal_policy(p, rewards, beta)

    def objective(q):
        return q @ rewards - beta * kl(q, p)

    rng = np.random.default_rng(0)
    for _ in range(200):
        other = best * np.exp(0.3 * rng.normal(size=64))
        assert objective(other / other.sum()) < objective(best)
    assert objective(best) == pytest.approx(beta * math.log((p * np.exp(rewards / beta)).sum()))


def test_optimal_policy_survives_large_rewards():
    p = np.array([0.5, 0.25, 0.25])
    found = optimal_policy(p, np.array([1e200, 0.0, 0.0]), 1e-3)
    np.testing.assert_array_equal(found, [1, 0, 0])
    for rewards, beta in ((np.ones(2), 1.0), (np.ones(3), 0.0), (np.ones(3), np.nan)):
        with pytest.raises(ValueError, match="optimal_policy"):
            unwrap(optimal_policy)(p, rewards, beta)


def test_dpo_finds_the_enumerated_optimum():
    p, rewards = world()
    beta = 0.7
    a, b = (x.ravel() for x in np.indices((64, 64)))
    weight = p[a] * p[b] / (1 + np.exp(rewards[b] - rewards[a]))
    table, log_ref = PrefixTable(4, 3, p), np.log(p)
    optimizer = AdamW(table.parameters(), lr=0.1, betas=(0.9, 0.99), weight_decay=0)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 400)
        logp = table.log_probs(REPLIES).sum(axis=1)
        optimizer.zero_grad()
        dpo_loss(logp[a], logp[b], log_ref[a], log_ref[b], beta, weight=weight).backward()
        optimizer.step()
    distance = np.abs(table.chances() - optimal_policy(p, rewards, beta)).sum() / 2
    assert distance < 1e-3


def test_best_of_n_is_what_drawing_gives():
    p, rewards = world()
    rewards = rewards.round(1)  # some are equal
    rng = np.random.default_rng(2)
    for n in (1, 3, 16):
        exact = best_of_n(p, rewards, n)
        assert exact.sum() == pytest.approx(1)
        drawn = rng.choice(64, size=(60_000, n), p=p)
        best = drawn[np.arange(len(drawn)), rewards[drawn].argmax(axis=1)]
        counts = np.bincount(best, minlength=64) / len(drawn)
        assert np.abs(counts - exact).max() < 0.01
        assert kl(exact, p) <= best_of_n_bound(n) + 1e-12
    assert best_of_n_bound(4) == pytest.approx(0.636, abs=5e-4)


# ---- losses against PyTorch ------------------------------------------------------------------


def ragged(rng, batch=5, time=7):
    lengths = rng.integers(1, time + 1, batch)
    return np.arange(time) < lengths[:, None]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("clip", [0.2, (0.1, 0.4)])
def test_ppo_loss_is_trls(dtype, clip):
    rng = np.random.default_rng(3)
    old = rng.normal(-2, 0.5, (5, 7)).astype(dtype)
    new = old + rng.normal(0, 0.4, old.shape).astype(dtype)
    gains, mask = rng.normal(size=old.shape).astype(dtype), ragged(rng)
    mine, theirs = leaf(new), torch.tensor(new, requires_grad=True)
    loss = ppo_loss(mine, old, gains, clip, mask)
    low, high = clip if isinstance(clip, tuple) else (clip, clip)
    ratio = torch.exp(theirs - torch.tensor(old))
    losses = torch.max(
        -torch.tensor(gains) * ratio,
        -torch.tensor(gains) * torch.clamp(ratio, 1 - low, 1 + high),
    )
    expected = (losses * torch.tensor(mask)).sum() / mask.sum()
    upstream = 1.7
    loss.backward(np.asarray(upstream, dtype))
    (expected * upstream).backward()
    close = {"rtol": 1e-10 if dtype == np.float64 else 1e-4, "atol": 1e-12}
    if dtype == np.float32:
        close["atol"] = 1e-6
    assert loss.dtype == dtype
    np.testing.assert_allclose(loss.item(), expected.item(), **close)
    np.testing.assert_allclose(mine.grad, theirs.grad.numpy(), **close)


def test_ppo_gradients_are_checked_by_differences():
    rng = np.random.default_rng(4)
    old, gains = rng.normal(size=(2, 3, 5))
    gradcheck(lambda x: ppo_loss(x, old, gains), [leaf(old + rng.normal(0, 0.5, old.shape))])


@pytest.mark.parametrize("kind", ["sigmoid", "ipo", "hinge"])
def test_dpo_loss_is_trls(kind):
    rng = np.random.default_rng(5)
    arrays = rng.normal(-9, 2, (4, 11))
    mine = [leaf(a) for a in arrays[:2]]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays[:2]]
    beta = 0.3
    loss = dpo_loss(*mine, *arrays[2:], beta, kind)
    h = (theirs[0] - torch.tensor(arrays[2])) - (theirs[1] - torch.tensor(arrays[3]))
    expected = {
        "sigmoid": -F.logsigmoid(beta * h),
        "ipo": (h - 1 / (2 * beta)) ** 2,
        "hinge": torch.relu(1 - beta * h),
    }[kind].mean()
    loss.backward()
    expected.backward()
    np.testing.assert_allclose(loss.item(), expected.item(), rtol=1e-10)
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-9)


def test_bradley_terry_is_a_logistic_fit():
    rng = np.random.default_rng(6)
    pairs = rng.integers(0, 5, (200, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]

    def loss(scores):
        x = leaf(scores)
        value = bradley_terry_loss(x[pairs[:, 0]], x[pairs[:, 1]])
        value.backward()
        return value.item(), x.grad

    found = scipy.optimize.minimize(loss, np.zeros(5), jac=True, tol=1e-12).x
    X = np.eye(5)[pairs[:, 0]] - np.eye(5)[pairs[:, 1]]

    def theirs(w):
        return np.logaddexp(0, -X @ w).mean()

    expected = scipy.optimize.minimize(theirs, np.zeros(5), tol=1e-10).x
    np.testing.assert_allclose(found - found.mean(), expected - expected.mean(), atol=1e-4)
    shifted = leaf(found + 100.0)
    assert bradley_terry_loss(shifted[pairs[:, 0]], shifted[pairs[:, 1]]).item() == pytest.approx(
        loss(found)[0]
    )
    a = loss(np.array([1.0, 0, 0, 0, 0]))[0]
    assert a > 0
    assert 1 / (1 + math.exp(-1)) == pytest.approx(0.731, abs=5e-4)


def test_gae_is_the_double_sum():
    rng = np.random.default_rng(7)
    rewards, values = rng.normal(size=(2, 5, 7))
    mask = ragged(rng)
    for gamma, lam in ((1.0, 0.95), (0.9, 0.0), (0.97, 1.0)):
        found = gae(rewards, values, gamma, lam, mask)
        for i, length in enumerate(mask.sum(axis=1)):
            v = np.append(values[i, :length], 0)
            surprise = rewards[i, :length] + gamma * v[1:] - v[:-1]
            for t in range(length):
                powers = (gamma * lam) ** np.arange(length - t)
                assert found[i, t] == pytest.approx(powers @ surprise[t:], rel=1e-12)
        assert (found[~mask] == 0).all()


def test_gae_with_lambda_one_is_return_minus_value():
    rng = np.random.default_rng(8)
    rewards, values = rng.normal(size=(2, 3, 5))
    returns = rewards[:, ::-1].cumsum(axis=1)[:, ::-1]
    np.testing.assert_allclose(gae(rewards, values, 1.0, 1.0), returns - values, atol=1e-12)


@pytest.mark.parametrize("ddof", [0, 1])
def test_grpo_advantages_are_torchs(ddof):
    rewards = np.random.default_rng(9).normal(size=(5, 7))
    there = torch.tensor(rewards)
    expected = (there - there.mean(1, keepdim=True)) / (
        there.std(1, correction=ddof, keepdim=True) + 1e-4
    )
    np.testing.assert_allclose(grpo_advantages(rewards, ddof=ddof), expected.numpy(), rtol=1e-10)


def test_ones_and_minus_ones_only_with_the_population_deviation():
    rewards = np.array([[1.0, 0, 0, 1]])
    np.testing.assert_allclose(
        grpo_advantages(rewards, ddof=0, eps=0), [[1, -1, -1, 1]], rtol=1e-12
    )
    root = math.sqrt(0.75)
    np.testing.assert_allclose(
        grpo_advantages(rewards, eps=0), [[root, -root, -root, root]], rtol=1e-12
    )
    assert torch.std(torch.tensor(rewards)).item() == pytest.approx(0.5 / root)


def test_leave_one_out_is_its_name():
    rewards = np.random.default_rng(10).normal(size=(3, 5))
    for i, j in np.ndindex(3, 5):
        others = np.delete(rewards[i], j).mean()
        assert reinforce_loo(rewards)[i, j] == pytest.approx(rewards[i, j] - others)


def test_penalties_are_the_estimators_of_information_theory():
    rng = np.random.default_rng(11)
    logp, ref = rng.normal(-3, 1, (2, 50))
    for kind, expected in zip(("k1", "k2", "k3"), kl_estimators(logp, ref), strict=True):
        np.testing.assert_allclose(kl_penalty(Tensor(logp), ref, kind).data, expected, rtol=1e-10)


# ---- models ----------------------------------------------------------------------------------


def small(seed=0, vocab=11, context=13):
    return GPT(gpt_config(vocab, context, 2, 2, 8, dtype="float64"), np.random.default_rng(seed))


def test_token_log_probs_are_those_of_the_scores():
    model, rng = small(), np.random.default_rng(12)
    ids = rng.integers(0, 11, (3, 7))
    found = token_log_probs(model, ids, 3).data
    scores = torch.log_softmax(torch.tensor(model(ids).data), dim=-1).numpy()
    for i, t in np.ndindex(3, 4):
        assert found[i, t] == pytest.approx(scores[i, t + 2, ids[i, t + 3]], rel=1e-10)
    for start in (0, 7):
        with pytest.raises(ValueError, match="start lies between"):
            token_log_probs(model, ids, start)


def test_rollout_stops_at_the_end_token():
    model, rng = small(), np.random.default_rng(13)
    prompts = rng.integers(0, 11, (50, 2))
    ids, mask = rollout(model, prompts, 7, rng, end=5)
    assert ids.shape == (50, 9)
    np.testing.assert_array_equal(ids[:, :2], prompts)
    for row, real in zip(ids[:, 2:], mask, strict=True):
        length = real.sum()
        assert real[:length].all()
        assert 5 not in row[: length - 1]
        assert length == 7 or row[length - 1] == 5
        assert (row[length:] == 5).all()


def test_reward_model_reads_the_last_real_token():
    rng = np.random.default_rng(14)
    model = RewardModel(small(), rng)
    ids = rng.integers(0, 11, (3, 7))
    lengths = np.array([2, 7, 5])
    found = model(ids, lengths).data
    for i, length in enumerate(lengths):
        alone = model(ids[i : i + 1, :length]).data[0]
        assert found[i] == pytest.approx(alone, rel=1e-10)
    changed = ids.copy()
    changed[0, 2:] = 0
    assert model(changed, lengths).data[0] == pytest.approx(found[0], rel=1e-12)
    with pytest.raises(ValueError, match="lengths from 1 to 7"):
        model(ids, np.array([0, 7, 5]))


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ("37+45=82", 1), ("37+45=82\n", 1), ("37 + 45 = 82", 1), ("0+0=0", 1),
        ("37+45=83", 0), ("37+45=82 83", 0), ("37+45=", 0), ("", 0), ("37+45=082x", 0),
        ("37+45=82=82", 0), ("-1+2=1", 0), ("9" * 5000 + "+1=1", 0), ("٣+1=4", 0), ("1+1=1+1=2", 0),
    ],
)  # fmt: skip
def test_verifier(text, worth):
    assert verifier_arithmetic(text) == worth


# ---- the traps -------------------------------------------------------------------------------


def expected_slopes():
    """Slopes of the three estimators as losses, and of both divergences, over all replies."""
    rng = np.random.default_rng(15)
    ref, start = rng.dirichlet(np.full(64, 3.0)), rng.dirichlet(np.full(64, 3.0))
    table = PrefixTable(4, 3, start)
    found = {}
    for kind in ("k1", "k2", "k3"):
        logp = table.log_probs(REPLIES).sum(axis=1)
        found[kind] = slope(table, (kl_penalty(logp, np.log(ref), kind) * start).sum())
    found["reverse"] = finite_differences(table, lambda q: kl(q, ref))
    found["forward"] = finite_differences(table, lambda q: kl(ref, q))
    return found


def test_k3_as_a_loss_pulls_towards_the_other_divergence():
    found = expected_slopes()
    assert np.abs(found["k1"]).max() < 1e-12
    np.testing.assert_allclose(found["k2"], found["reverse"], atol=1e-8)
    np.testing.assert_allclose(found["k3"], found["forward"], atol=1e-8)
    assert np.abs(found["k3"] - found["reverse"]).max() > 0.01


def test_dead_groups_give_no_gradient():
    rng = np.random.default_rng(16)
    for p, share in ((0.5, 0.008), (0.1, 0.43), (0.02, 0.85)):
        rewards = (rng.random((40_000, 8)) < p).astype(float)
        dead = (np.abs(grpo_advantages(rewards)).max(axis=1) == 0).mean()
        assert dead == pytest.approx(p**8 + (1 - p) ** 8, abs=0.01)
        assert p**8 + (1 - p) ** 8 == pytest.approx(share, abs=0.006)


def test_dividing_by_the_deviation_weighs_prompts_differently():
    one, half = np.zeros((2, 1, 8))
    one[0, 0] = 1
    half[0, :4] = 1
    rare = grpo_advantages(one, ddof=0, eps=0)
    even = grpo_advantages(half, ddof=0, eps=0)
    assert rare.max() == pytest.approx(2.65, abs=0.005)
    assert even.max() == pytest.approx(1)
    weights = [1 / x.std() for x in (one, half)]
    assert weights[0] / weights[1] == pytest.approx(1.51, abs=0.005)


def test_a_leaked_reference_gradient_is_refused():
    p, _ = world()
    table = PrefixTable(4, 3, p)
    logp = table.log_probs(REPLIES).sum(axis=1)
    h = 0.1 * ((logp[1:] - logp[1:]) - (logp[:-1] - logp[:-1]))
    leaked = slope(table, bradley_terry_loss(h, Tensor(np.zeros(63))))
    assert np.abs(leaked).max() < 1e-12  # the gradient cancels without a word
    logp = table.log_probs(REPLIES).sum(axis=1)
    with pytest.raises(ValueError, match="ref_chosen must be a constant"):
        dpo_loss(logp[1:], logp[:-1], logp[1:], logp[:-1])
    right = dpo_loss(logp[1:], logp[:-1], logp[1:].detach(), logp[:-1].detach())
    assert np.abs(slope(table, right)).max() > 1e-4
    with pytest.raises(ValueError, match="logp_ref must be a constant"):
        kl_penalty(logp, logp)


def test_a_ratio_without_detaching_has_no_gradient():
    p, rewards = world()
    table = PrefixTable(4, 3, p)
    logp = table.log_probs(REPLIES)
    gains = np.repeat(rewards[:, None], 3, axis=1)
    from chainrule.neural_networks.backpropagation import exp

    wrong = slope(table, -(exp(logp - logp) * gains).mean())
    assert np.abs(wrong).max() < 1e-12
    logp = table.log_probs(REPLIES)
    with pytest.raises(ValueError, match="logp_old must be a constant"):
        ppo_loss(logp, logp, gains)
    assert np.abs(slope(table, ppo_loss(logp, logp.detach(), gains))).max() > 1e-3


def test_kl_with_the_wrong_sign_rewards_leaving():
    p, rewards = world()
    table, beta = PrefixTable(4, 3, p), 0.5
    distances = []
    for sign in (-1, 1):
        table = PrefixTable(4, 3, p)
        optimizer = AdamW(table.parameters(), lr=0.05, weight_decay=0)
        for _ in range(100):
            logp = table.log_probs(REPLIES)
            q = np.exp(logp.data.sum(axis=1))
            paid = rewards + sign * beta * (np.log(q) - np.log(p))
            optimizer.zero_grad()
            (-(logp.sum(axis=1) * (q * (paid - q @ paid))).sum()).backward()
            optimizer.step()
        distances.append(kl(table.chances(), p))
    best = kl(optimal_policy(p, rewards, beta), p)
    assert distances[0] < 1.05 * best
    assert distances[1] > 1.5 * best


def test_a_reward_on_padding_is_never_seen():
    rewards, values = np.zeros((2, 5)), np.zeros((2, 5))
    mask = np.arange(5) < np.array([[3], [5]])
    rewards[:, -1] = 1.0  # at the last column: right only for the full reply
    found = gae(rewards, values, mask=mask)
    assert (found[0] == 0).all()
    assert (found[1] > 0).all()
    rewards[:] = 0
    rewards[np.arange(2), mask.sum(axis=1) - 1] = 1.0
    assert (gae(rewards, values, mask=mask)[mask] > 0).all()


def test_ppo_means_over_signs_and_dpo_sums_them():
    lengths = np.array([2, 8])
    logp = leaf(np.full((2, 8), -1.0))
    mask = np.arange(8) < lengths[:, None]
    gains = np.where(mask, 1.0, 0.0)
    loss = ppo_loss(logp, logp.data, gains, mask=mask)
    loss.backward()
    assert loss.item() == pytest.approx(-1)  # mean over the ten real tokens
    np.testing.assert_allclose(logp.grad, np.where(mask, -0.1, 0))
    # the same replies once more: a mean stays, a sum over signs doubles
    twice = leaf(np.full((4, 8), -1.0))
    again = ppo_loss(twice, twice.data, np.tile(gains, (2, 1)), mask=np.tile(mask, (2, 1)))
    again.backward()
    assert again.item() == pytest.approx(loss.item())
    assert twice.grad.sum() == pytest.approx(logp.grad.sum())
    # in DPO it is the other way round: means forget that a longer reply is less likely
    chosen, rejected = np.array([-2.0]), np.array([-8.0])
    sums = dpo_loss(leaf(chosen), leaf(rejected), np.array([-2.5]), np.array([-8.0]), 1.0).item()
    means = dpo_loss(
        leaf(chosen / 2), leaf(rejected / 8), np.array([-2.5 / 2]), np.array([-1.0]), 1.0
    ).item()
    assert abs(sums - means) > 0.05


def test_advantages_that_are_not_centred_have_more_variance():
    p, rewards = world()
    rewards = rewards + 10.0
    table, rng = PrefixTable(4, 3, p), np.random.default_rng(17)
    spreads = []
    for centre in (True, False):
        found = []
        for _ in range(60):
            drawn = table.sample(64, rng)
            gains = rewards[drawn @ [16, 4, 1]]
            gains = gains - gains.mean() if centre else gains
            found.append(slope(table, (table.log_probs(drawn).sum(axis=1) * gains).mean()))
        spreads.append(np.std(found, axis=0).mean())
    assert spreads[1] > 5 * spreads[0]


def test_a_length_exploit_is_found_by_correlation_and_undone_by_a_constraint():
    lengths = (REPLIES != 3).sum(axis=1)  # symbol 3 is filling
    quality = np.random.default_rng(18).normal(size=64)
    p = np.full(64, 1 / 64)
    proxy = quality + 1.0 * lengths
    hacked, honest = optimal_policy(p, proxy, 0.5), optimal_policy(p, quality, 0.5)
    assert hacked @ lengths > honest @ lengths + 0.3
    assert hacked @ quality < honest @ quality - 0.05
    limit = p @ lengths
    price = scipy.optimize.brentq(
        lambda x: optimal_policy(p, proxy - x * lengths, 0.5) @ lengths - limit, -5, 5
    )
    fixed = optimal_policy(p, proxy - price * lengths, 0.5)
    assert fixed @ lengths == pytest.approx(limit)
    assert fixed @ quality > hacked @ quality


# ---- the nasty list --------------------------------------------------------------------------


def test_errors_name_what_was_received():
    ones = np.ones((2, 3))
    for call, words in (
        (lambda: unwrap(gae)(ones, np.ones((2, 2))), r"one shape .*\(2, 3\), \(2, 2\)"),
        (lambda: gae(ones, ones, 1.5), "lie in"),
        (lambda: unwrap(ppo_loss)(leaf(ones), ones, np.ones((3, 2))), "one shape"),
        (lambda: ppo_loss(leaf(ones), ones, ones, clip=0.0), "clip must be"),
        (lambda: ppo_loss(leaf(ones), ones, ones, mask=ones == 0), "no token"),
        (lambda: grpo_advantages(np.ones((3, 1))), "at least two a group"),
        (lambda: unwrap(reinforce_loo)(np.ones(3)), "at least two a group"),
        (lambda: dpo_loss(*[leaf(np.ones(2))] * 2, *np.ones((2, 2)), 0.0), "beta must be"),
        (lambda: dpo_loss(*[leaf(np.ones(2))] * 2, *np.ones((2, 2)), kind="x"), "'sigmoid'"),
        (lambda: kl_penalty(leaf(np.ones(2)), np.ones(2), "k4"), "'k1', 'k2' or 'k3'"),
        (lambda: unwrap(kl_penalty)(leaf(np.ones(2)), np.ones(3)), "one shape"),
        (lambda: all_replies(0, 3), "at least one"),
        (lambda: PrefixTable(2, 1, np.array([1.0, 0.0])), "positive chances"),
        (lambda: PrefixTable(2, 1, np.array([np.nan, 0.5])), "positive chances"),
        (lambda: best_of_n(np.ones(1), np.ones(1), 0), "at least one draw"),
        (lambda: best_of_n_bound(0), "at least one draw"),
        (lambda: rollout(small(), np.ones((1, 1), int), 0, np.random.default_rng(0)), "at least"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_edges():
    assert gae(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0, 3)
    np.testing.assert_array_equal(gae(np.array([[2.0]]), np.array([[0.5]])), [[1.5]])
    assert np.isnan(gae(np.array([[np.nan, 0.0]]), np.zeros((1, 2)))).any()
    counted = grpo_advantages(np.array([[1, 0, 0, 1]], np.uint8), normalize=False)
    np.testing.assert_array_equal(counted, [[0.5, -0.5, -0.5, 0.5]])
    assert grpo_advantages(np.ones((2, 3), np.float32)).dtype == np.float32
    huge = grpo_advantages(np.array([[1e200, -1e200]]), normalize=False)
    np.testing.assert_array_equal(huge, [[1e200, -1e200]])
    far = leaf(np.array([-1e6, 0.0]))
    loss = ppo_loss(far, np.zeros(2), np.array([1.0, np.nan]), mask=np.array([True, False]))
    loss.backward()
    assert np.isfinite(far.grad).all()
    margin = dpo_loss(leaf(np.array([-1e6])), leaf(np.array([0.0])), np.zeros(1), np.zeros(1), 1.0)
    assert margin.item() == 1e6


# ---- what the page says of PyTorch -----------------------------------------------------------


def test_facts_of_the_box():
    x = torch.tensor([1.0, 0, 0, 1])
    assert torch.std(x).item() == pytest.approx(1 / math.sqrt(3))
    assert torch.std(x, correction=0).item() == pytest.approx(0.5)
    low = torch.tensor(-1000.0)
    assert F.logsigmoid(low).item() == -1000
    assert torch.log(torch.sigmoid(low)).item() == -math.inf
    p, q = (torch.distributions.Categorical(torch.tensor(t)) for t in ([0.5, 0.5], [0.8, 0.2]))
    found = torch.distributions.kl_divergence(p, q).item()
    assert found == pytest.approx(kl(np.array([0.5, 0.5]), np.array([0.8, 0.2])))
    a, b = (torch.tensor(1.0, requires_grad=True) for _ in range(2))
    torch.minimum(a, b).backward()
    assert (a.grad.item(), b.grad.item()) == (0.5, 0.5)
    losses = [name for name in dir(F) if name.endswith("loss")]
    assert losses
    assert not {"ppo_loss", "dpo_loss"} & set(losses)
