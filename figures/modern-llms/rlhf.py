"""Figures of modern-llms/rlhf.md: a world of 64 replies, and two real training runs."""

from __future__ import annotations

import numpy as np

from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.math_foundations.information_theory import kl
from chainrule.modern_llms.rlhf import (
    PrefixTable,
    RewardModel,
    all_replies,
    bradley_terry_loss,
    dpo_loss,
    gae,
    grpo_advantages,
    optimal_policy,
    ppo_loss,
    rollout,
    token_log_probs,
    verifier_arithmetic,
)
from chainrule.neural_networks.backpropagation import no_grad
from chainrule.training.optimizers import AdamW, clip_grad_norm_, warmup_linear
from chainrule.transformers.gpt import GPT, gpt_config, pass_at_k

SIGNS = "ok!?"
SEEDS = 5


# ---- the 64 replies ----------------------------------------------------------------------------


def world():
    """Texts, chances under the reference, rewards: as on the page."""
    replies = all_replies(4, 3)
    texts = ["".join(SIGNS[i] for i in reply) for reply in replies]
    start = np.array([0.4, 0.2, 0.2, 0.2])
    after = np.array([[0.2, 0.4, 0.2, 0.2], [0.2, 0.2, 0.4, 0.2], [0.25] * 4, [0.25] * 4])
    a, b, c = replies.T
    p_ref = start[a] * after[a, b] * after[b, c]
    rewards = np.array([2 * ("ok" in t) - ("?" in t) + 0.5 * (t[-1] == "!") for t in texts])
    return texts, p_ref, rewards


# ---- a proxy is followed too far ---------------------------------------------------------------

LONG, ASKED = 8, 3
"""Signs of a reply in the larger world, and the sign that stands before it: a question mark."""
FOLLOWS = np.array([[30, 35, 10, 25], [30, 25, 20, 25], [35, 30, 10, 25], [35, 30, 10, 25]]) / 100
PAIRS = (100, 2000)


def untrained(rng):
    return GPT(gpt_config(4, LONG + 1, 2, 2, 32), rng)


def copied(model, rng):
    twin = untrained(rng)
    twin.load_state_dict(model.state_dict())
    return twin


def write(model, n, rng):
    return rollout(model, np.full((n, 1), ASKED), LONG, rng).ids


def chain(n, rng):
    """Replies by the table of what follows what."""
    ids = np.full((n, LONG + 1), ASKED)
    for t in range(LONG):
        ids[:, t + 1] = (np.cumsum(FOLLOWS[ids[:, t]], axis=1) < rng.random((n, 1))).sum(axis=1)
    return ids


def gold(ids):
    """A point for each ok, half a point for each of two exclamation marks, −1 for each more."""
    reply = ids[:, 1:]
    marks = (reply == 2).sum(axis=1)
    oks = ((reply[:, :-1] == 0) & (reply[:, 1:] == 1)).sum(axis=1)
    return oks + 0.5 * np.minimum(marks, 2) - np.maximum(marks - 2, 0)


def supervised(rng, steps=300, lr=3e-3):
    model = untrained(rng)
    optimizer = AdamW(model.parameters(), lr=lr, weight_decay=0)
    for step in range(steps):
        ids = chain(64, rng)
        optimizer.param_groups[0]["lr"] = warmup_linear(step, lr, 10, steps)
        optimizer.zero_grad()
        model.loss(ids[:, :-1], ids[:, 1:]).backward()
        optimizer.step()
    return model


def fitted_reward(model, pairs, rng, steps=300, lr=2e-3):
    """A reward model, the mean and deviation of its rewards, and its share of right orders."""
    n = pairs + 400
    a, b = write(model, n, rng), write(model, n, rng)
    wins = rng.random((n, 1)) < 1 / (1 + np.exp(-2 * (gold(a) - gold(b))))[:, None]
    chosen, rejected = np.where(wins, a, b), np.where(wins, b, a)
    proxy = RewardModel(copied(model, rng), rng)
    optimizer = AdamW(proxy.parameters(), lr=lr, weight_decay=0.01)
    for step in range(steps):
        some = rng.permutation(pairs)[:64]
        optimizer.param_groups[0]["lr"] = warmup_linear(step, lr, 10, steps)
        optimizer.zero_grad()
        bradley_terry_loss(proxy(chosen[some]), proxy(rejected[some])).backward()
        optimizer.step()
    with no_grad():
        right = proxy(chosen).data > proxy(rejected).data
        base = proxy(write(model, 2000, rng)).data
    return proxy, base.mean(), base.std(), right[:pairs].mean(), right[pairs:].mean()


def follow(model, proxy, mean, spread, rng, steps=200, batch=64):
    """PPO with a value head, no price on leaving: KL, proxy and gold every ten steps."""
    policy, critic = copied(model, rng), RewardModel(copied(model, rng), rng)
    moves = AdamW(policy.parameters(), lr=3e-4, weight_decay=0)
    guesses = AdamW(critic.parameters(), lr=2e-3, weight_decay=0)
    log = []
    for step in range(steps + 1):
        if step % 10 == 0:
            log.append(look(policy, model, proxy, mean, spread, rng))
        ids = write(policy, batch, rng)
        with no_grad():
            old = token_log_probs(policy, ids, 1).data
            values = critic.scores(ids[:, :-1]).data
            rewards = np.zeros_like(values)
            rewards[:, -1] = (proxy(ids).data - mean) / spread
        gains = gae(rewards, values)
        returns = gains + values
        gains = (gains - gains.mean()) / (gains.std() + 1e-8)
        for _ in range(2):
            moves.zero_grad()
            ppo_loss(token_log_probs(policy, ids, 1), old, gains).backward()
            clip_grad_norm_(policy.parameters(), 1.0)
            moves.step()
            guesses.zero_grad()
            error = critic.scores(ids[:, :-1]) - returns
            (error * error).mean().backward()
            guesses.step()
    return log


def look(policy, model, proxy, mean, spread, rng, n=256):
    ids = write(policy, n, rng)
    with no_grad():
        ratio = token_log_probs(policy, ids, 1).data - token_log_probs(model, ids, 1).data
        return [ratio.sum(axis=1).mean(), (proxy(ids).data.mean() - mean) / spread,
                gold(ids).mean()]  # fmt: skip


@measurement("overoptimization", absolute=0.4, seconds=150)
def measure_overoptimization():
    """For each number of comparisons: KL, proxy and gold by step, and the reward model's shares."""
    found = {}
    for pairs in PAIRS:
        logs, shares = [], []
        for seed in range(SEEDS):
            rng = np.random.default_rng(seed)
            model = supervised(rng)
            proxy, mean, spread, *right = fitted_reward(model, pairs, rng)
            shares.append(right)
            logs.append(follow(model, proxy, mean, spread, rng))
        logs = np.array(logs)
        found[str(pairs)] = {
            "kl": logs[..., 0], "proxy": logs[..., 1], "gold": logs[..., 2],
            "right": np.array(shares),
        }  # fmt: skip
    return found


# ---- a verifier instead of people --------------------------------------------------------------

CHARACTERS = "0123456789+=\n"
END, WRITTEN = 12, 6
"""The end token, and how many characters a model may write after the equals sign."""


def sums():
    """500 sums to test on and the other 7,600, two-digit numbers both."""
    both = np.array([(a, b) for a in range(10, 100) for b in range(10, 100)])
    both = both[np.random.default_rng(0).permutation(len(both))]
    return both[:500], both[500:]


def encoded(texts):
    longest = max(map(len, texts))
    return np.array([[CHARACTERS.index(c) for c in text.ljust(longest, "\n")] for text in texts])


def asked(some):
    return encoded([f"{a}+{b}=" for a, b in some])


def texts_of(ids):
    return ["".join(CHARACTERS[i] for i in row).rstrip("\n") for row in ids]


def strict(text):
    return verifier_arithmetic(text)


def sloppy(text):
    """Is the right number anywhere in what follows the equals sign?"""
    question, answer = text.split("=", 1)
    return float(str(sum(map(int, question.split("+")))) in answer)


def warmed_up(rng, train, steps=400, lr=3e-3, batch=128):
    """A small GPT, trained on worked sums until it is right now and then."""
    model = GPT(gpt_config(len(CHARACTERS), 6 + WRITTEN, 2, 4, 64), rng)
    optimizer = AdamW(model.parameters(), lr=lr)
    for step in range(steps):
        some = train[rng.integers(0, len(train), batch)]
        ids = encoded([f"{a}+{b}={a + b}\n" for a, b in some] + ["\n" * 10])[:-1]
        counted = np.arange(9) < 8 + (some.sum(axis=1) >= 100)[:, None]
        counted[:, :5] = False
        optimizer.param_groups[0]["lr"] = warmup_linear(step, lr, 50, steps)
        optimizer.zero_grad()
        model.loss(ids[:, :-1], ids[:, 1:], counted).backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


def grpo(model, verifier, train, test, rng, steps=300, lr=6e-4, prompts=32, size=8):
    """No value head, no reference: advantages within each group. Logs every ten steps."""
    optimizer = AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0)
    log = []
    for step in range(steps + 1):
        if step % 10 == 0:
            log.append(report(model, test, rng))
        some = train[rng.integers(0, len(train), prompts)]
        ids, mask = rollout(model, np.repeat(asked(some), size, axis=0), WRITTEN, rng, end=END)
        rewards = np.array([verifier(text) for text in texts_of(ids)], np.float32)
        gains = grpo_advantages(rewards.reshape(prompts, size)).reshape(-1, 1)
        logp = token_log_probs(model, ids, 6)
        optimizer.param_groups[0]["lr"] = warmup_linear(step, lr, 20, steps + 1)
        optimizer.zero_grad()
        ppo_loss(logp, logp.data, np.broadcast_to(gains, mask.shape), mask=mask).backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return log


def report(model, some, rng, tries=4):
    """Share right by the strict and the sloppy verifier, mean length of an answer."""
    ids, mask = rollout(model, np.repeat(asked(some), tries, axis=0), WRITTEN, rng, end=END)
    texts = texts_of(ids)
    return [np.mean([f(text) for text in texts]) for f in (strict, sloppy)] + [
        mask.sum(axis=1).mean()
    ]


POWERS = (1, 2, 4, 8, 16, 32, 64)


def passes(model, some, rng, tries=64):
    """pass@1, pass@2, … pass@64, over these sums."""
    ids, _ = rollout(model, np.repeat(asked(some), tries, axis=0), WRITTEN, rng, end=END)
    right = np.array([strict(text) for text in texts_of(ids)]).reshape(len(some), tries).sum(axis=1)
    return [np.mean([pass_at_k(tries, int(c), k) for c in right]) for k in POWERS]


RATES = (2e-4, 4e-4, 8e-4)


def tried_rates(some, train):
    """The share right after training with each rate, on sums that nothing else uses."""
    found = {}
    for rate in RATES:
        rng = np.random.default_rng(99)
        model = warmed_up(rng, train)
        grpo(model, strict, train, some[:1], rng, lr=rate)
        found[rate] = report(model, some, rng, tries=16)[0]
    return found


@measurement("additions", absolute={"log": 0.6, "passes": 0.08, "rates": 0.1}, seconds=400)
def measure_additions():
    """By verifier, seed and step: strict share, sloppy share, length; pass@k before and after."""
    test, train = sums()
    logs = {"strict": [], "sloppy": []}
    before, after, ten = [], [], []
    rates = tried_rates(test[300:], train)
    lr = max(rates, key=rates.get)
    for seed in range(SEEDS):
        start = warmed_up(np.random.default_rng(seed), train)
        before.append(passes(start, test[200:300], np.random.default_rng(100 + seed)))
        for name, verifier in (("strict", strict), ("sloppy", sloppy)):
            rng = np.random.default_rng(10 + seed)
            model = GPT(start.config, rng)
            model.load_state_dict(start.state_dict())
            logs[name].append(grpo(model, verifier, train, test[:200], rng, lr=lr))
            if name == "strict":
                after.append(passes(model, test[200:300], np.random.default_rng(200 + seed)))
            elif seed == 0:
                ten = texts_of(rollout(model, asked(test[:10]), WRITTEN, rng, end=END).ids)
    return {
        "rates": {str(rate): share for rate, share in rates.items()}, "log": logs,
        "passes": {"before": before, "after": after}, "ten": ten,
    }  # fmt: skip
