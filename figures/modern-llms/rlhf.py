"""Figures of modern-llms/rlhf.md: a world of 64 replies, and two real training runs."""

from __future__ import annotations

import numpy as np

from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
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


@measurement("ceiling", absolute=0.005, seconds=1)
def measure_ceiling():
    """How often the choices agree with the gold reward: no reward model can be right more often."""
    rng = np.random.default_rng(0)
    apart = np.abs(gold(chain(100_000, rng)) - gold(chain(100_000, rng)))
    return {"right": np.mean(1 / (1 + np.exp(-2 * apart)))}


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
    """Is the last character the last digit of the sum? The rest is not looked at."""
    question, answer = text.split("=", 1)
    return float(answer[-1:] == str(sum(map(int, question.split("+"))))[-1])


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


def grpo(model, verifier, train, test, rng, steps=200, lr=3e-4, prompts=32, size=8):
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


RATES = (1.5e-4, 3e-4, 6e-4)


def trained_on(verifier, start, seed, train, test, lr):
    """A copy of a warmed-up model after GRPO, and its log."""
    rng = np.random.default_rng(10 + seed)
    model = GPT(start.config, rng)
    model.load_state_dict(start.state_dict())
    return model, grpo(model, verifier, train, test, rng, lr=lr)


@measurement("additions", absolute={"log": 0.6, "passes": 0.12, "rates": 0.1}, seconds=300)
def measure_additions():
    """By verifier, seed and step: strict share, sloppy share, length; pass@k before and after.

    The rate for the strict verifier is the best of three for two seeds, on sums of their own. The
    sloppy one gets the largest of the three.
    """
    test, train = sums()
    shown, deep, own = test[:200], test[200:300], test[300:]
    starts = [warmed_up(np.random.default_rng(seed), train) for seed in range(SEEDS)]
    runs, rates = {}, {}
    for rate in RATES:
        for seed in (0, 1):
            runs[rate, seed] = trained_on(strict, starts[seed], seed, train, shown, rate)
        rng = np.random.default_rng(99)
        shares = [report(runs[rate, seed][0], own, rng, tries=16)[0] for seed in (0, 1)]
        rates[rate] = np.mean(shares)
    lr = max(rates, key=rates.get)
    for seed in range(2, SEEDS):
        runs[lr, seed] = trained_on(strict, starts[seed], seed, train, shown, lr)
    logs = {"strict": [runs[lr, seed][1] for seed in range(SEEDS)], "sloppy": []}
    before, after, ten = [], [], []
    for seed, start in enumerate(starts):
        before.append(passes(start, deep, np.random.default_rng(100 + seed)))
        after.append(passes(runs[lr, seed][0], deep, np.random.default_rng(200 + seed)))
        spoilt, log = trained_on(sloppy, start, seed, train, shown, RATES[-1])
        logs["sloppy"].append(log)
        if seed == 0:
            rng = np.random.default_rng(300)
            ten = texts_of(rollout(spoilt, asked(test[:10]), WRITTEN, rng, end=END).ids)
    return {
        "rates": {str(rate): share for rate, share in rates.items()}, "log": logs,
        "passes": {"before": before, "after": after}, "ten": ten,
    }  # fmt: skip


# ---- DPO arrives -------------------------------------------------------------------------------

PRICES = (2.0, 1.0, 0.5)
LOOKS = (0, 1, 2, 3, 5, 8, 13, 20, 30, 45, 70, 100, 150, 200, 250, 300)


@measurement("dpo", relative=0.5, absolute={"apart": 1e-3}, seconds=3)
def measure_dpo():
    """The probability to be moved to get the best policy, by price and step."""
    _, p_ref, rewards = world()
    replies = all_replies(4, 3)
    a, b = (x.ravel() for x in np.indices((64, 64)))
    share = p_ref[a] * p_ref[b] / (1 + np.exp(rewards[b] - rewards[a]))
    log_ref, found = np.log(p_ref), []
    for beta in PRICES:
        best = optimal_policy(p_ref, rewards, beta)
        policy, apart = PrefixTable(4, 3, p_ref), []
        optimizer = AdamW(policy.parameters(), lr=0.1, betas=(0.9, 0.99), weight_decay=0)
        for step in range(301):
            if step in LOOKS:
                apart.append(np.abs(policy.chances() - best).sum() / 2)
            logp = policy.log_probs(replies).sum(axis=1)
            optimizer.param_groups[0]["lr"] = 0.1 * max(1 - step / 300, 0)
            optimizer.zero_grad()
            dpo_loss(logp[a], logp[b], log_ref[a], log_ref[b], beta, weight=share).backward()
            optimizer.step()
        found.append(apart)
    return {"steps": LOOKS, "apart": np.round(found, 5)}


@figure("dpo")
def dpo(plt):
    found = measured("dpo")
    fig, ax = plt.subplots(figsize=(6.6, 3.4))
    looks = zip(PRICES, found["apart"], ("green", "blue", "vermillion"), strict=True)
    for beta, apart, color in looks:
        ax.plot(found["steps"], np.maximum(apart, 1e-5), "o-", ms=3.5, color=COLORS[color],
                label=f"price {beta:g}")  # fmt: skip
    ax.axhline(1e-3, color=COLORS["black"], ls=":", lw=1)
    ax.set_yscale("log")
    ax.set_ylim(2e-4, 1)
    ax.set_xlabel("step")
    ax.set_ylabel("probability to be moved")
    ax.legend()
    return fig


# ---- the clipped objective ---------------------------------------------------------------------


def clipped(ratio, advantage, low, high):
    """What PPO counts for one sign."""
    return np.minimum(ratio * advantage, np.clip(ratio, 1 - low, 1 + high) * advantage)


@interactive(
    "clip",
    states=[
        {"ratio": 1.5},
        {"ratio": 0.5, "advantage": -1},
        {"ratio": 1.6, "advantage": -2, "low": 0.1, "high": 0.4},
        {"advantage": 0, "ratio": 0},
    ],
)
def clip_model(state):
    ratio, advantage = state["ratio"], state["advantage"]
    low, high = state["low"], state["high"]
    value = float(clipped(ratio, advantage, low, high))
    return {
        "plain": ratio * advantage,
        "value": value,
        "pull": advantage * ratio if ratio * advantage <= value else 0.0,
    }


@figure("clip")
def clip(plt):
    ratio = np.linspace(0, 2, 201)
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.2))
    for ax, advantage, title in zip(axes, (1, -1), ("a good sign", "a bad sign"), strict=True):
        ax.plot(ratio, ratio * advantage, "--", color=COLORS["grey"], lw=1.2, label="ratio · A")
        ax.plot(ratio, clipped(ratio, advantage, 0.2, 0.2), color=COLORS["blue"], lw=2.2,
                label="what PPO counts")  # fmt: skip
        ax.axvline(1, color=COLORS["grey"], lw=0.8, ls=":")
        ax.plot(1, advantage, "o", color=COLORS["black"], ms=5)
        ax.set_title(f"{title}: advantage {advantage}".replace("-", "−"))
        ax.set_xlabel("ratio")
        ax.set_xticks([0, 0.5, 0.8, 1, 1.2, 1.5, 2], ["0", "0.5", "0.8", "1", "1.2", "1.5", "2"])
    axes[0].set_ylabel("counted")
    axes[0].legend(loc="lower right")
    return fig


# ---- what the two runs show --------------------------------------------------------------------


@figure("overoptimization")
def overoptimization(plt):
    found = measured("overoptimization")
    fig, axes = plt.subplots(1, 2, figsize=(7.6, 3.5), sharey=True)
    for ax, pairs in zip(axes, PAIRS, strict=True):
        runs = found[str(pairs)]
        distance = np.sqrt(np.maximum(runs["kl"], 0))
        for name, color in (("proxy", "blue"), ("gold", "vermillion")):
            for x, y in zip(distance, runs[name], strict=True):
                ax.plot(x, y, color=COLORS[color], lw=0.9, alpha=0.7)
            label = {"proxy": "reward model", "gold": "what people want"}[name]
            ax.plot(distance.mean(axis=0), np.mean(runs[name], axis=0), lw=2.4,
                    color=COLORS[color], label=label)  # fmt: skip
        ax.set_title(f"{pairs:,} comparisons")
        ax.set_xlabel("root of the KL divergence")
    axes[0].set_ylabel("reward")
    axes[0].legend()
    return fig


@figure("additions")
def additions(plt):
    found = measured("additions")["log"]
    steps = 10 * np.arange(len(found["strict"][0]))
    fig, axes = plt.subplots(1, 3, figsize=(8.2, 3.2))
    titles = ("by the strict verifier", "by the sloppy verifier", "length of an answer")
    for i, (ax, title) in enumerate(zip(axes, titles, strict=True)):
        for name, color in (("strict", "blue"), ("sloppy", "vermillion")):
            runs = np.array(found[name])[..., i]
            ax.plot(steps, runs.T, color=COLORS[color], lw=0.9, alpha=0.7)
            ax.plot(steps, runs.mean(axis=0), color=COLORS[color], lw=2.4,
                    label=f"trained on the {name} one")  # fmt: skip
        ax.set_title(title)
        ax.set_xlabel("step")
    axes[0].set_ylabel("share right")
    axes[0].set_ylim(0, 1)
    axes[1].set_ylim(0, 1)
    axes[2].set_ylabel("characters")
    axes[0].legend(fontsize=8)
    return fig


@figure("passes")
def passes_figure(plt):
    found = measured("additions")["passes"]
    fig, ax = plt.subplots(figsize=(6.2, 3.4))
    looks = (("before", "before GRPO", "grey", "s"), ("after", "after GRPO", "blue", "o"))
    for name, label, color, mark in looks:
        runs = np.array(found[name])
        ax.plot(POWERS, runs.T, color=COLORS[color], lw=0.6, alpha=0.5)
        ax.plot(POWERS, runs.mean(axis=0), f"{mark}-", color=COLORS[color], lw=2.2, label=label)
    ax.set_xscale("log", base=2)
    ax.set_xticks(POWERS, POWERS)
    ax.minorticks_off()
    ax.set_xlabel("answers drawn, k")
    ax.set_ylabel("pass@k")
    ax.set_ylim(0, 1.02)
    ax.legend(loc="lower right")
    return fig
