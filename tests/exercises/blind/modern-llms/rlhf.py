"""Blind set of modern-llms/rlhf: wrong answers written from statement and stub alone."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong

# ---- what_a_copy_earns ---------------------------------------------------------------------------


def _copy(shares, rewards, chance):
    return np.array([shares @ rewards, chance @ rewards, rewards.max()])


@wrong(
    "what_a_copy_earns",
    "Draws the two replies without putting the first one back.",
    known="without_putting_back",
)
def _(shares, rewards):
    better = np.maximum.outer(rewards, rewards)
    pairs = np.outer(shares, shares)
    np.fill_diagonal(pairs, 0)
    return np.array([shares @ rewards, (pairs * better).sum() / pairs.sum(), rewards.max()])


@wrong("what_a_copy_earns", "Counts each pair of different replies once.", known="each_pair_once")
def _(shares, rewards):
    total = 0.0
    for i in range(len(shares)):
        for j in range(i, len(shares)):
            total += shares[i] * shares[j] * max(rewards[i], rewards[j])
    return np.array([shares @ rewards, total, rewards.max()])


@wrong(
    "what_a_copy_earns", "Takes all replies for equally frequent in the copy.", known="plain_mean"
)
def _(shares, rewards):
    order = np.argsort(rewards)
    below = np.cumsum(shares[order])
    chance = np.diff(below**2, prepend=0)
    return np.array([rewards.mean(), chance @ rewards[order], rewards.max()])


@wrong("what_a_copy_earns", "Squares the shares and normalizes them.")
def _(shares, rewards):
    return _copy(shares, rewards, shares**2 / (shares**2).sum())


@wrong("what_a_copy_earns", "Gives the worse of the two draws.", known="keeps_the_worse")
def _(shares, rewards):
    worse = np.minimum.outer(rewards, rewards)
    return np.array([shares @ rewards, shares @ worse @ shares, rewards.max()])


@wrong("what_a_copy_earns", "Takes the most frequent reply for the best.", known="most_frequent")
def _(shares, rewards):
    better = np.maximum.outer(rewards, rewards)
    return np.array([shares @ rewards, shares @ better @ shares, rewards[np.argmax(shares)]])


# ---- group_advantages ----------------------------------------------------------------------------


@wrong("group_advantages", "Centres by the mean of the whole batch.", known="mean_of_the_batch")
def _(rewards, normalize, ddof):
    centred = rewards - rewards.mean()
    if normalize:
        centred = centred / (rewards.std(axis=1, ddof=ddof, keepdims=True) + 1e-4)
    return centred


@wrong("group_advantages", "Always divides the squares by their number.", known="one_ddof")
def _(rewards, normalize, ddof):
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    return centred / (rewards.std(axis=1, keepdims=True) + 1e-4) if normalize else centred


@wrong(
    "group_advantages",
    "Adds the small number to the variance, inside the root.",
    known="inside_the_root",
)
def _(rewards, normalize, ddof):
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    spread = np.sqrt(rewards.var(axis=1, ddof=ddof, keepdims=True) + 1e-4)
    return centred / spread if normalize else centred


@wrong("group_advantages", "Normalizes along the prompts.")
def _(rewards, normalize, ddof):
    centred = rewards - rewards.mean(axis=0)
    return centred / (rewards.std(axis=0, ddof=ddof) + 1e-4) if normalize else centred


@wrong("group_advantages", "Divides by the variance.", known="by_the_variance")
def _(rewards, normalize, ddof):
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    return (
        centred / (rewards.var(axis=1, ddof=ddof, keepdims=True) + 1e-4) if normalize else centred
    )


@wrong("group_advantages", "Forgets the small number.", known="no_small_number")
def _(rewards, normalize, ddof):
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    if normalize:
        spread = rewards.std(axis=1, ddof=ddof, keepdims=True)
        centred = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)
    return centred


@wrong(
    "group_advantages",
    "Takes the mean of the other replies as the baseline.",
    known="leave_one_out",
)
def _(rewards, normalize, ddof):
    n = rewards.shape[1]
    centred = rewards - (rewards.sum(axis=1, keepdims=True) - rewards) / (n - 1)
    if normalize:
        centred = centred / (rewards.std(axis=1, ddof=ddof, keepdims=True) + 1e-4)
    return centred


# ---- scores_from_wins ----------------------------------------------------------------------------


@wrong(
    "scores_from_wins",
    "Takes the logarithm of wins over losses, all pairs together.",
    known="log_odds_of_shares",
)
def _(wins):
    s = np.log(wins.sum(axis=1) / wins.sum(axis=0))
    return s - s.mean()


@wrong(
    "scores_from_wins",
    "Averages the log-odds of the pairs, whatever their counts.",
    known="mean_of_log_odds",
)
def _(wins):
    safe = wins + np.eye(len(wins))
    return np.log(safe / safe.T).mean(axis=1)


@wrong(
    "scores_from_wins", "Uses the share of won comparisons as the score.", known="shares_as_scores"
)
def _(wins):
    s = wins.sum(axis=1) / (wins + wins.T).sum(axis=1)
    return s - s.mean()


@wrong("scores_from_wins", "Leaves the first score at 0 instead of the sum.", known="first_is_zero")
def _(wins):
    games = wins + wins.T
    s = np.zeros(len(wins))
    for _ in range(20000):
        p = 1 / (1 + np.exp(s - s[:, None]))
        s = s + (wins - games * p).sum(axis=1) / games.sum(axis=1).max()
    return s - s[0]


@wrong("scores_from_wins", "Reads the table by columns: losers come out ahead.", known="transposed")
def _(wins):
    games = wins + wins.T
    s = np.zeros(len(wins))
    for _ in range(20000):
        p = 1 / (1 + np.exp(s - s[:, None]))
        s = s + (wins.T - games * p).sum(axis=1) / games.sum(axis=1).max()
    return s - s.mean()


@wrong("scores_from_wins", "Stops the ascent after ten steps.")
def _(wins):
    games = wins + wins.T
    s = np.zeros(len(wins))
    for _ in range(10):
        p = 1 / (1 + np.exp(s - s[:, None]))
        s = s + (wins - games * p).sum(axis=1) / games.sum(axis=1).max()
    return s - s.mean()


# ---- advantages_backwards ------------------------------------------------------------------------


def _back(rewards, values, gamma, lam, mask, *, fade=None, ahead=None):
    fade = gamma * lam if fade is None else fade
    ahead = gamma if ahead is None else ahead
    result = np.zeros(np.shape(rewards))
    for i, row in enumerate(mask):
        later = after = 0.0
        for t in range(int(row.sum()) - 1, -1, -1):
            later = rewards[i, t] + ahead * after - values[i, t] + fade * later
            after = values[i, t]
            result[i, t] = later
    return result


@wrong("advantages_backwards", "Fades by lam alone.", known="fades_by_lam_alone")
def _(rewards, values, gamma, lam, mask):
    return _back(rewards, values, gamma, lam, mask, fade=lam)


@wrong(
    "advantages_backwards",
    "Forgets gamma before the next value.",
    known="next_value_not_discounted",
)
def _(rewards, values, gamma, lam, mask):
    return _back(rewards, values, gamma, lam, mask, ahead=1.0)


@wrong("advantages_backwards", "Returns the surprises alone.", known="own_surprise_alone")
def _(rewards, values, gamma, lam, mask):
    return _back(rewards, values, gamma, lam, mask, fade=0.0)


@wrong(
    "advantages_backwards",
    "Adds the value again: returns the targets.",
    known="returns_not_advantages",
)
def _(rewards, values, gamma, lam, mask):
    return _back(rewards, values, gamma, lam, mask) + np.where(mask, values, 0)


@wrong(
    "advantages_backwards",
    "Reads values on filling as the value after the last token.",
    known="values_of_filling",
)
def _(rewards, values, gamma, lam, mask):
    result = np.zeros(np.shape(rewards))
    for i in range(len(rewards)):
        later = after = 0.0
        for t in range(rewards.shape[1] - 1, -1, -1):
            if mask[i, t]:
                later = rewards[i, t] + gamma * after - values[i, t] + gamma * lam * later
                result[i, t] = later
            after = values[i, t]
    return result


@wrong(
    "advantages_backwards",
    "Walks through the filling as if it were tokens, and masks the result.",
    known="filling_is_read",
)
def _(rewards, values, gamma, lam, mask):
    everything = np.ones(np.shape(mask), dtype=bool)
    return _back(rewards, values, gamma, lam, everything) * mask


@wrong("advantages_backwards", "Walks forwards.", known="walks_forwards")
def _(rewards, values, gamma, lam, mask):
    result = np.zeros(np.shape(rewards))
    for i, row in enumerate(mask):
        n, before = int(row.sum()), 0.0
        for t in range(n):
            after = values[i, t + 1] if t + 1 < n else 0.0
            before = rewards[i, t] + gamma * after - values[i, t] + gamma * lam * before
            result[i, t] = before
    return result


# ---- clipped_loss --------------------------------------------------------------------------------


def _clip(logp, logp_old, advantages, clip, mask, count=None):
    ratio = np.exp(np.where(mask, logp - logp_old, 0))
    a = np.where(mask, advantages, 0)
    free, cut = ratio * a, np.clip(ratio, 1 - clip, 1 + clip) * a
    n = mask.sum() if count is None else count
    return -np.minimum(free, cut).sum() / n, -np.where(free <= cut, free, 0) / n


@wrong("clipped_loss", "Takes the clipped product always.", known="always_clipped")
def _(logp, logp_old, advantages, clip, mask):
    ratio = np.exp(np.where(mask, logp - logp_old, 0))
    a = np.where(mask, advantages, 0)
    inside = (ratio >= 1 - clip) & (ratio <= 1 + clip)
    n = mask.sum()
    loss = -(np.clip(ratio, 1 - clip, 1 + clip) * a).sum() / n
    return loss, -np.where(inside, ratio * a, 0) / n


@wrong("clipped_loss", "Takes the larger of the two products.", known="the_larger")
def _(logp, logp_old, advantages, clip, mask):
    ratio = np.exp(np.where(mask, logp - logp_old, 0))
    a = np.where(mask, advantages, 0)
    free, cut = ratio * a, np.clip(ratio, 1 - clip, 1 + clip) * a
    n = mask.sum()
    return -np.maximum(free, cut).sum() / n, -np.where(free >= cut, free, 0) / n


@wrong(
    "clipped_loss",
    "Right loss; in the gradient, the advantage without the ratio.",
    known="by_the_ratio",
)
def _(logp, logp_old, advantages, clip, mask):
    loss, slope = _clip(logp, logp_old, advantages, clip, mask)
    return loss, np.where(slope != 0, -np.where(mask, advantages, 0) / mask.sum(), 0)


@wrong("clipped_loss", "Divides by all places, filling too.", known="divides_by_everything")
def _(logp, logp_old, advantages, clip, mask):
    return _clip(logp, logp_old, advantages, clip, mask, count=mask.size)


@wrong("clipped_loss", "Averages within each reply, then over replies.", known="mean_of_means")
def _(logp, logp_old, advantages, clip, mask):
    slope = _clip(logp, logp_old, advantages, clip, mask, count=1)[1]
    ratio = np.exp(np.where(mask, logp - logp_old, 0))
    a = np.where(mask, advantages, 0)
    each = np.minimum(ratio * a, np.clip(ratio, 1 - clip, 1 + clip) * a)
    n = mask.sum(axis=1, keepdims=True)
    return -(each / n).sum() / len(mask), slope / n / len(mask)


@wrong("clipped_loss", "Gives the objective, without the minus.", known="sign")
def _(logp, logp_old, advantages, clip, mask):
    loss, slope = _clip(logp, logp_old, advantages, clip, mask)
    return -loss, -slope


@wrong(
    "clipped_loss",
    "No gradient wherever the ratio is outside, also after a wrong move.",
    known="no_pull_outside",
)
def _(logp, logp_old, advantages, clip, mask):
    loss, slope = _clip(logp, logp_old, advantages, clip, mask)
    ratio = np.exp(np.where(mask, logp - logp_old, 0))
    return loss, np.where(abs(ratio - 1) <= clip, slope, 0)


# ---- dpo_from_tokens -----------------------------------------------------------------------------


def _dpo(c, r, rc, rr, mc, mr, beta, reduce=np.sum, scale=True):
    def change(new, old, mask):
        gap = np.where(mask, new - old, 0).sum(axis=1)
        return gap if reduce is np.sum else gap / mask.sum(axis=1)

    lead = beta * (change(c, rc, mc) - change(r, rr, mr))
    pull = 1 / (1 + np.exp(lead)) / len(lead)
    if scale:
        pull = beta * pull
    pull = pull[:, None]
    sizes = (1, 1) if reduce is np.sum else (mc.sum(axis=1)[:, None], mr.sum(axis=1)[:, None])
    return np.logaddexp(0, -lead).mean(), -pull * mc / sizes[0], pull * mr / sizes[1]


@wrong("dpo_from_tokens", "Takes means over tokens in place of sums.", known="means_over_tokens")
def _(chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta):
    return _dpo(
        chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta, np.mean
    )


@wrong("dpo_from_tokens", "Forgets beta in the gradients.", known="beta_missing_in_gradient")
def _(chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta):
    return _dpo(
        chosen,
        rejected,
        ref_chosen,
        ref_rejected,
        chosen_mask,
        rejected_mask,
        beta,
        scale=False,
    )


@wrong("dpo_from_tokens", "Leaves the reference out.", known="no_reference")
def _(chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta):
    zero, nil = np.zeros_like(ref_chosen), np.zeros_like(ref_rejected)
    return _dpo(chosen, rejected, zero, nil, chosen_mask, rejected_mask, beta)


@wrong("dpo_from_tokens", "Counts the filling.", known="filling_counts")
def _(chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta):
    full, also = np.ones_like(chosen_mask), np.ones_like(rejected_mask)
    return _dpo(chosen, rejected, ref_chosen, ref_rejected, full, also, beta)


@wrong("dpo_from_tokens", "Counts the filling in the gradients only.", known="filling_pulls")
def _(chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta):
    loss, _a, _b = _dpo(
        chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta
    )
    gap = np.where(chosen_mask, chosen - ref_chosen, 0).sum(axis=1)
    gap = gap - np.where(rejected_mask, rejected - ref_rejected, 0).sum(axis=1)
    pull = (beta / (1 + np.exp(beta * gap)) / len(gap))[:, None]
    return loss, -pull * np.ones_like(chosen), pull * np.ones_like(rejected)


@wrong(
    "dpo_from_tokens",
    "Uses the sigmoid of the lead in place of that of minus the lead.",
    known="pulls_when_ahead",
)
def _(chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta):
    gap = np.where(chosen_mask, chosen - ref_chosen, 0).sum(axis=1)
    gap = gap - np.where(rejected_mask, rejected - ref_rejected, 0).sum(axis=1)
    loss = np.logaddexp(0, -beta * gap).mean()
    pull = (beta / (1 + np.exp(-beta * gap)) / len(gap))[:, None]
    return loss, -pull * chosen_mask, pull * rejected_mask


@wrong("dpo_from_tokens", "Gradients of the sum, loss the mean.", known="gradient_of_the_sum")
def _(chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta):
    loss, a, b = _dpo(chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta)
    return loss, a * len(a), b * len(b)


# ---- slopes_of_estimates -------------------------------------------------------------------------


def _policy(scores):
    p = np.exp(scores - scores.max())
    return p / p.sum()


def _slopes(p, factors, weights):
    score = np.eye(len(p)) - p
    return np.array([(weights * factor) @ score for factor in factors])


@wrong(
    "slopes_of_estimates",
    "Takes the ratio upside down: policy over reference.",
    known="slopes_upside_down",
)
def _(scores, p_ref):
    p = _policy(scores)
    s = p / p_ref
    return _slopes(p, (np.ones_like(p), -np.log(s), 1 - s), p)


@wrong(
    "slopes_of_estimates",
    "Forgets to weight with the policy's chances: a plain mean.",
    known="every_reply_alike",
)
def _(scores, p_ref):
    p = _policy(scores)
    s = p_ref / p
    return _slopes(p, (np.ones_like(p), -np.log(s), 1 - s), np.full(len(p), 1 / len(p)))


@wrong(
    "slopes_of_estimates",
    "Differentiates through the drawing too: slopes of the mean values.",
    known="slopes_of_the_means",
)
def _(scores, p_ref):
    p = _policy(scores)
    s = p_ref / p
    log = np.log(s)
    value = (-log, log**2 / 2, s - 1 - log)
    own = (np.ones_like(p), -log, 1 - s)
    return _slopes(p, [v + o for v, o in zip(value, own, strict=True)], p)


@wrong(
    "slopes_of_estimates",
    "Multiplies with the estimates themselves, as if they were rewards.",
    known="estimates_as_rewards",
)
def _(scores, p_ref):
    p = _policy(scores)
    s = p_ref / p
    log = np.log(s)
    return _slopes(p, (-log, log**2 / 2, s - 1 - log), p)


@wrong(
    "slopes_of_estimates",
    "Differentiates by log pi, and leaves out how it moves with the scores.",
    known="by_log_probabilities",
)
def _(scores, p_ref):
    p = _policy(scores)
    s = p_ref / p
    return np.array([p, -p * np.log(s), p * (1 - s)])


@wrong("slopes_of_estimates", "Turns every sign.", known="turned")
def _(scores, p_ref):
    p = _policy(scores)
    s = p_ref / p
    return -_slopes(p, (np.ones_like(p), -np.log(s), 1 - s), p)


@wrong(
    "slopes_of_estimates",
    "Gives all three the slope of the divergence that was meant.",
    known="one_slope_for_all",
)
def _(scores, p_ref):
    p = _policy(scores)
    s = p_ref / p
    return _slopes(p, (-np.log(s),) * 3, p)


# ---- price_on_length -----------------------------------------------------------------------------


def _best(p_ref, rewards, beta):
    z = np.log(p_ref) + rewards / beta
    p = np.exp(z - z.max())
    return p / p.sum()


def _halve(p_ref, rewards, lengths, beta, goal, low=-1000.0, high=1000.0):
    for _ in range(200):
        c = (low + high) / 2
        if _best(p_ref, rewards - c * lengths, beta) @ lengths > goal:
            low = c
        else:
            high = c
    return (low + high) / 2


@wrong("price_on_length", "Looks for prices above 0 only.", known="never_below_zero")
def _(p_ref, rewards, lengths, beta):
    c = _halve(p_ref, rewards, lengths, beta, p_ref @ lengths, low=0.0)
    return np.array(
        [
            c,
            _best(p_ref, rewards, beta) @ lengths,
            _best(p_ref, rewards - c * lengths, beta) @ lengths,
        ]
    )


@wrong("price_on_length", "Aims at the plain mean of the lengths.", known="plain_mean_length")
def _(p_ref, rewards, lengths, beta):
    c = _halve(p_ref, rewards, lengths, beta, lengths.mean())
    return np.array(
        [
            c,
            _best(p_ref, rewards, beta) @ lengths,
            _best(p_ref, rewards - c * lengths, beta) @ lengths,
        ]
    )


@wrong("price_on_length", "Leaves beta out of the exponent.", known="beta_left_out")
def _(p_ref, rewards, lengths, beta):
    c = _halve(p_ref, rewards, lengths, 1.0, p_ref @ lengths)
    return np.array(
        [
            c,
            _best(p_ref, rewards, 1.0) @ lengths,
            _best(p_ref, rewards - c * lengths, 1.0) @ lengths,
        ]
    )


@wrong("price_on_length", "Forgets the reference in the best policy.", known="no_reference_policy")
def _(p_ref, rewards, lengths, beta):
    even = np.full(len(p_ref), 1 / len(p_ref))
    c = _halve(even, rewards, lengths, beta, p_ref @ lengths)
    return np.array(
        [
            c,
            _best(even, rewards, beta) @ lengths,
            _best(even, rewards - c * lengths, beta) @ lengths,
        ]
    )


@wrong(
    "price_on_length",
    "Takes the slope of a regression of reward on length as the price.",
    known="by_regression",
)
def _(p_ref, rewards, lengths, beta):
    gap = lengths - p_ref @ lengths
    c = (p_ref * gap) @ rewards / ((p_ref * gap) @ gap)
    return np.array(
        [
            c,
            _best(p_ref, rewards, beta) @ lengths,
            _best(p_ref, rewards - c * lengths, beta) @ lengths,
        ]
    )


@wrong("price_on_length", "Returns the length with the price first.")
def _(p_ref, rewards, lengths, beta):
    c = _halve(p_ref, rewards, lengths, beta, p_ref @ lengths)
    return np.array(
        [
            c,
            _best(p_ref, rewards - c * lengths, beta) @ lengths,
            _best(p_ref, rewards, beta) @ lengths,
        ]
    )


@wrong("price_on_length", "Gives the price the wrong sign.", known="price_added")
def _(p_ref, rewards, lengths, beta):
    c = _halve(p_ref, rewards, lengths, beta, p_ref @ lengths)
    return np.array(
        [
            -c,
            _best(p_ref, rewards, beta) @ lengths,
            _best(p_ref, rewards - c * lengths, beta) @ lengths,
        ]
    )


@wrong("price_on_length", "Multiplies by beta once too often.", known="price_not_divided")
def _(p_ref, rewards, lengths, beta):
    c = beta * _halve(p_ref, rewards / beta, lengths, 1.0, p_ref @ lengths)
    c = c * beta
    return np.array(
        [
            c,
            _best(p_ref, rewards, beta) @ lengths,
            _best(p_ref, rewards - c * lengths, beta) @ lengths,
        ]
    )
