"""Exercises of modern-llms/rlhf.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import exercise, expect_close
from chainrule.math_foundations.probability import softmax
from chainrule.neural_networks.backpropagation import Tensor

# ---- why supervised learning isn't enough ----------------------------------------------------


@exercise(
    "What a copy earns",
    difficulty=1,
    minutes=10,
    section="why-supervised-learning-isnt-enough",
    because="Three averages over a table of shares; the package needs no function for them.",
    idea="The perfect copy gives each reply its share. Keeping the better of two draws changes the "
    "shares: which pairs of draws end with this reply?",
)
def what_a_copy_earns(shares, rewards):
    """Return an array of three mean rewards: of a copy, of the better of two draws, of the best.

    The copy is perfect. shares holds how often each reply occurs among the demonstrations, rewards
    what each is worth, no two of them equal. The second number is the mean reward of the better of
    two independent draws from the copy, the third the reward of the best reply. By hand first:
    shares (1/2, 1/2), rewards (1, 0).
    """
    pairs = np.outer(shares, shares)
    better = np.maximum.outer(rewards, rewards)
    return np.array([shares @ rewards, (pairs * better).sum(), rewards.max()])


@what_a_copy_earns.check
def two_replies(answer, rng):
    found = answer(np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    expect_close(found, np.array([0.5, 0.75, 1.0]), what="the mean rewards of (1/2, 1/2), (1, 0)")


@what_a_copy_earns.check
def other_shares(answer, rng):
    for n in (3, 7):
        shares, rewards = rng.dirichlet(np.ones(n)), rng.normal(size=n)
        what = f"the mean rewards of {n} replies"
        expect_close(answer(shares, rewards), what_a_copy_earns(shares, rewards), what=what)


@what_a_copy_earns.mistake("You drew the second reply so that it differs from the first.")
def without_putting_back(shares, rewards):
    found = what_a_copy_earns(shares, rewards)
    pairs = np.outer(shares, shares)
    np.fill_diagonal(pairs, 0)
    found[1] = (pairs / pairs.sum() * np.maximum.outer(rewards, rewards)).sum()
    return found


@what_a_copy_earns.mistake("Are all replies equally frequent in the demonstrations?")
def all_equally_frequent(shares, rewards):
    return what_a_copy_earns(np.full(len(shares), 1 / len(shares)), rewards)


@what_a_copy_earns.mistake("Two different replies can be drawn in two orders.")
def each_pair_once(shares, rewards):
    found = what_a_copy_earns(shares, rewards)
    pairs = np.triu(np.outer(shares, shares))
    found[1] = (pairs * np.maximum.outer(rewards, rewards)).sum()
    return found


@what_a_copy_earns.mistake(
    "Your first number counts each reply alike. The copy gives it its share."
)
def plain_mean(shares, rewards):
    found = what_a_copy_earns(shares, rewards)
    found[0] = rewards.mean()
    return found


@what_a_copy_earns.mistake("In your second number the worse of the two is kept.")
def keeps_the_worse(shares, rewards):
    found = what_a_copy_earns(shares, rewards)
    found[1] = (np.outer(shares, shares) * np.minimum.outer(rewards, rewards)).sum()
    return found


@what_a_copy_earns.mistake("Your third number is the reward of the most frequent reply.")
def most_frequent(shares, rewards):
    found = what_a_copy_earns(shares, rewards)
    found[2] = rewards[shares.argmax()]
    return found


# ---- GRPO ------------------------------------------------------------------------------------


@exercise(
    "Which prompts count?",
    difficulty=2,
    minutes=20,
    section="a-verifier-instead-of-a-judge",
    counterpart="chainrule.modern_llms.rlhf:grpo_advantages",
    idea="Centre each group by its own mean first. The deviation is that of the rewards, and "
    "squares may be divided by their number or by one less.",
)
def group_advantages(rewards, normalize, ddof):
    """Return the advantages of GRPO, an array of the shape of rewards.

    rewards has the shape (prompts, replies to each). If normalize is true, the centred rewards
    are divided by the standard deviation of the group plus 0.0001; squares are divided by the
    number of replies minus ddof. By hand first: (1, 0, 0, 1) with ddof 0 and with ddof 1, then
    (1, 0, 0, 0). For which of the two groups does the division raise the pull more?
    """
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    if not normalize:
        return centred
    return centred / (rewards.std(axis=1, ddof=ddof, keepdims=True) + 0.0001)


@group_advantages.by_package
def _(package, rewards, normalize, ddof):
    return package(rewards, normalize=normalize, ddof=ddof)


@group_advantages.check
def by_hand(answer, rng):
    group = np.array([[1.0, 0, 0, 1]])
    found = [answer(group, True, ddof) for ddof in (0, 1)]
    expected = [group_advantages(group, True, ddof) for ddof in (0, 1)]
    expect_close(found, expected, what="the advantages of (1, 0, 0, 1) with ddof 0 and 1")


@group_advantages.check
def several_groups(answer, rng):
    for shape in ((3, 5), (2, 7)):
        rewards = rng.normal(2, rng.uniform(0.5, 3, (shape[0], 1)), shape)
        for normalize, ddof in ((True, 1), (False, 1), (True, 0)):
            what = f"the advantages of {shape}, normalize={normalize}, ddof={ddof}"
            expected = group_advantages(rewards, normalize, ddof)
            expect_close(answer(rewards, normalize, ddof), expected, what=what)


@group_advantages.check
def a_dead_group(answer, rng):
    rewards = np.array([[0.3] * 4, [1.0, 0, 0, 0]])
    expected = group_advantages(rewards, True, 1)
    expect_close(
        answer(rewards, True, 1), expected, what="advantages beside a group without spread"
    )


@group_advantages.mistake(
    "By what are the squares divided? Compare with the table of the section.", always=(0, 1)
)
def one_ddof(rewards, normalize, ddof, always):
    return group_advantages(rewards, normalize, always)


@group_advantages.mistake("Rewards of other prompts say nothing about this one: centre by group.")
def whole_batch(rewards, normalize, ddof):
    centred = rewards - rewards.mean()
    return centred / (rewards.std(ddof=ddof) + 0.0001) if normalize else centred


@group_advantages.mistake("You subtract the mean of the batch: every group has a mean of its own.")
def mean_of_the_batch(rewards, normalize, ddof):
    centred = rewards - rewards.mean()
    if not normalize:
        return centred
    return centred / (rewards.std(axis=1, ddof=ddof, keepdims=True) + 0.0001)


@group_advantages.mistake("Where does the small number stand: in the variance or beside its root?")
def inside_the_root(rewards, normalize, ddof):
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    if not normalize:
        return centred
    return centred / np.sqrt(rewards.var(axis=1, ddof=ddof, keepdims=True) + 0.0001)


@group_advantages.mistake("What is added to the standard deviation before you divide?")
def no_small_number(rewards, normalize, ddof):
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    spread = rewards.std(axis=1, ddof=ddof, keepdims=True)
    spread = np.where(spread > 0, spread, 1.0)
    return centred / spread if normalize else centred


@group_advantages.mistake("Your advantages of a group do not add up to 0. What is subtracted?")
def not_centred(rewards, normalize, ddof):
    if not normalize:
        return rewards
    return rewards / (rewards.std(axis=1, ddof=ddof, keepdims=True) + 0.0001)


@group_advantages.mistake("You divide by the variance.")
def by_the_variance(rewards, normalize, ddof):
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    if not normalize:
        return centred
    return centred / (rewards.var(axis=1, ddof=ddof, keepdims=True) + 0.0001)


@group_advantages.mistake("The mean is over the other replies: that is RLOO.")
def leave_one_out(rewards, normalize, ddof):
    n = rewards.shape[1]
    return group_advantages(rewards, normalize, ddof) * n / (n - 1)


# ---- reward models ---------------------------------------------------------------------------


@exercise(
    "Scores from a table of wins",
    difficulty=3,
    minutes=30,
    section="reward-modeling-from-human-preferences",
    because="The package fits reward models by gradients of single comparisons; a table of counts "
    "belongs to nobody's training.",
    idea="The slope of the loss by a score is the wins that the scores expect minus the wins that "
    "were counted. Step against it until nothing moves, and fix the sum.",
    alike=1e-4,
)
def scores_from_wins(wins):
    """Return the Bradley–Terry scores that fit the counted wins best, with the sum 0.

    wins has the shape (n, n): entry (i, j) counts how often i was preferred to j; the diagonal is
    0, and every two replies have won and lost against each other. By hand first: two replies,
    wins ((0, 3), (1, 0)).
    """
    games = wins + wins.T
    scores = np.zeros(len(wins))
    for _ in range(20_000):
        expected = games / (1 + np.exp(scores[None, :] - scores[:, None]))
        move = (wins - expected).sum(axis=1) / games.sum(axis=1)
        scores = scores + move
        if np.abs(move).max() < 1e-10:
            break
    return scores - scores.mean()


@scores_from_wins.check
def three_to_one(answer, rng):
    found = answer(np.array([[0, 3], [1, 0]]))
    half = np.log(3) / 2
    expect_close(found, np.array([half, -half]), rtol=1e-4, what="the scores of 3 wins to 1")


@scores_from_wins.check
def recovers_scores(answer, rng):
    for n in (3, 5):
        truth = rng.normal(size=n)
        games = rng.integers(5, 40, (n, n)) * 1.0
        games = games + games.T
        wins = games / (1 + np.exp(truth[None, :] - truth[:, None]))
        np.fill_diagonal(wins, 0)
        what = f"the scores of {n} replies whose wins fit the model exactly"
        expect_close(answer(wins), truth - truth.mean(), rtol=1e-3, atol=1e-4, what=what)


@scores_from_wins.check
def wins_that_fit_no_scores(answer, rng):
    wins = np.array([[0, 7, 2], [3, 0, 8], [4, 5, 0]])
    found = answer(wins)
    expect_close(found, scores_from_wins(wins), rtol=1e-3, atol=1e-4, what="scores near a circle")


@scores_from_wins.mistake("Did the row win or lose?")
def transposed(wins):
    return scores_from_wins(wins.T)


@scores_from_wins.mistake("What must hold for the sum of the scores?")
def first_is_zero(wins):
    scores = scores_from_wins(wins)
    return scores - scores[0]


@scores_from_wins.mistake(
    "A share of wins does not say against whom. The logarithm of the odds over all games treats "
    "strong and weak opponents alike."
)
def log_odds_of_shares(wins):
    won, lost = wins.sum(axis=1), wins.sum(axis=0)
    scores = np.log(won / lost)
    return scores - scores.mean()


@scores_from_wins.mistake("A share of wins is a chance. Scores are logarithms of odds.")
def shares_as_scores(wins):
    shares = wins.sum(axis=1) / (wins + wins.T).sum(axis=1)
    return shares - shares.mean()


@scores_from_wins.mistake("How often two replies met matters: a share of 2 games is not one of 80.")
def mean_of_log_odds(wins):
    n = len(wins)
    odds = np.log((wins + np.eye(n)) / (wins.T + np.eye(n)))
    return odds.sum(axis=1) / n


# ---- PPO -------------------------------------------------------------------------------------


@exercise(
    "Advantages, backwards",
    difficulty=3,
    minutes=25,
    section="which-sign-earned-it",
    counterpart="chainrule.modern_llms.rlhf:gae",
    idea="Walk from the last place to the first with two numbers in hand: the advantage of the "
    "place after, and the value there. On filling, both are 0.",
)
def advantages_backwards(rewards, values, gamma, lam, mask):
    """Return the advantages of replies of different lengths, of the shape (replies, time).

    values holds the guess before each token. mask is true on the real tokens, which stand first in
    each row; after the last of them nothing is left to earn. Whatever stands in rewards and values
    on filling is not read, and the result is 0 there. By hand first: rewards (0, 2), values
    (1, 1), gamma 1, lam 0.5, no filling.
    """
    advantages = np.zeros(rewards.shape)
    later, next_value = np.zeros(len(rewards)), np.zeros(len(rewards))
    for t in range(rewards.shape[1] - 1, -1, -1):
        real = mask[:, t]
        surprise = rewards[:, t] + gamma * next_value - values[:, t]
        later = np.where(real, surprise + gamma * lam * later, 0.0)
        next_value = np.where(real, values[:, t], 0.0)
        advantages[:, t] = later
    return advantages


@advantages_backwards.by_package
def _(package, rewards, values, gamma, lam, mask):
    return package(rewards, values, gamma, lam, mask)


@advantages_backwards.in_package
def _(mine, rewards, values, gamma=1.0, lam=0.95, mask=None):
    mask = np.ones(rewards.shape, bool) if mask is None else mask
    return mine(rewards, values, gamma, lam, mask)


@advantages_backwards.check
def two_tokens(answer, rng):
    ones = np.ones((1, 2))
    found = answer(np.array([[0.0, 2.0]]), ones, 1.0, 0.5, ones == 1)
    expect_close(found, np.array([[0.5, 1.0]]), what="the advantages of rewards (0, 2)")


@advantages_backwards.check
def by_the_double_sum(answer, rng):
    for batch, time in ((3, 5), (2, 7)):
        rewards, values = rng.normal(size=(2, batch, time))
        lengths = rng.integers(2, time + 1, batch)
        lengths[0] = time - 2
        mask = np.arange(time) < lengths[:, None]
        for gamma, lam in ((1.0, 0.9), (0.8, 0.5), (0.9, 0.0), (0.95, 1.0)):
            expected = np.zeros((batch, time))
            for i, n in enumerate(lengths):
                v = np.append(values[i, :n], 0.0)
                surprise = rewards[i, :n] + gamma * v[1:] - v[:-1]
                for t in range(n):
                    expected[i, t] = (gamma * lam) ** np.arange(n - t) @ surprise[t:]
            what = f"advantages of replies of {lengths.tolist()} tokens, gamma {gamma}, lam {lam}"
            expect_close(answer(rewards, values, gamma, lam, mask), expected, what=what)


@advantages_backwards.mistake("What is left to earn after the last real token?")
def values_of_filling(rewards, values, gamma, lam, mask):
    advantages, later = np.zeros(rewards.shape), np.zeros(len(rewards))
    next_value = np.zeros(len(rewards))
    for t in range(rewards.shape[1] - 1, -1, -1):
        surprise = rewards[:, t] + gamma * next_value - values[:, t]
        later = np.where(mask[:, t], surprise + gamma * lam * later, 0.0)
        advantages[:, t], next_value = later, values[:, t]
    return advantages


@advantages_backwards.mistake("A reward on filling does not belong to the reply.")
def filling_is_read(rewards, values, gamma, lam, mask):
    everywhere = np.ones(mask.shape, bool)
    return np.where(mask, advantages_backwards(rewards, values, gamma, lam, everywhere), 0.0)


@advantages_backwards.mistake("By which factor does a surprise fade in one step?")
def fades_by_lam_alone(rewards, values, gamma, lam, mask):
    advantages, later = np.zeros(rewards.shape), np.zeros(len(rewards))
    next_value = np.zeros(len(rewards))
    for t in range(rewards.shape[1] - 1, -1, -1):
        surprise = rewards[:, t] + gamma * next_value - values[:, t]
        later = np.where(mask[:, t], surprise + lam * later, 0.0)
        next_value = np.where(mask[:, t], values[:, t], 0.0)
        advantages[:, t] = later
    return advantages


@advantages_backwards.mistake("The next value is worth less by the discount as well.")
def next_value_not_discounted(rewards, values, gamma, lam, mask):
    advantages, later = np.zeros(rewards.shape), np.zeros(len(rewards))
    next_value = np.zeros(len(rewards))
    for t in range(rewards.shape[1] - 1, -1, -1):
        surprise = rewards[:, t] + next_value - values[:, t]
        later = np.where(mask[:, t], surprise + gamma * lam * later, 0.0)
        next_value = np.where(mask[:, t], values[:, t], 0.0)
        advantages[:, t] = later
    return advantages


@advantages_backwards.mistake(
    "Each token has its own surprise only. Where do the later ones enter?"
)
def own_surprise_alone(rewards, values, gamma, lam, mask):
    found = np.zeros(rewards.shape)
    real = np.where(mask, values, 0.0)
    after = np.concatenate([real[:, 1:], np.zeros((len(values), 1))], axis=1)
    return found + np.where(mask, rewards + gamma * after - values, 0.0)


@advantages_backwards.mistake(
    "A token earns what comes after it. Your sum collects what came before."
)
def walks_forwards(rewards, values, gamma, lam, mask):
    surprises = own_surprise_alone(rewards, values, gamma, lam, mask)
    found, earlier = np.zeros(rewards.shape), np.zeros(len(rewards))
    for t in range(rewards.shape[1]):
        earlier = surprises[:, t] + gamma * lam * earlier
        found[:, t] = np.where(mask[:, t], earlier, 0.0)
    return found


@advantages_backwards.mistake("That is the target of the value head. What is missing from it?")
def returns_not_advantages(rewards, values, gamma, lam, mask):
    return advantages_backwards(rewards, values, gamma, lam, mask) + np.where(mask, values, 0.0)


@exercise(
    "The clipped loss, both ways",
    difficulty=4,
    minutes=35,
    section="many-steps-on-the-same-replies",
    counterpart="chainrule.modern_llms.rlhf:ppo_loss",
    idea="Write both products for each token and take the smaller. Where it is the clipped one, "
    "moving the log-probability changes nothing; elsewhere the slope of the ratio is the ratio.",
)
def clipped_loss(logp, logp_old, advantages, clip, mask):
    """Return PPO's loss, a number, and its gradient by logp, of the shape of logp.

    All arrays have the shape (replies, time). Only tokens where mask is true count; the loss is
    averaged over them all together. clip is the distance from 1 at which the ratio is cut. By
    hand first: the four cases of the section.
    """
    ratio = np.exp(np.where(mask, logp - logp_old, 0.0))
    free = ratio * advantages
    cut = np.clip(ratio, 1 - clip, 1 + clip) * advantages
    count = mask.sum()
    loss = -np.where(mask, np.minimum(free, cut), 0.0).sum() / count
    gradient = np.where(mask & (free <= cut), -free / count, 0.0)
    return loss, gradient


@clipped_loss.by_package
def _(package, logp, logp_old, advantages, clip, mask):
    mine = Tensor(logp, requires_grad=True)
    loss = package(mine, logp_old, advantages, clip, mask)
    loss.backward()
    return loss.data[()], mine.grad


@clipped_loss.check
def four_cases(answer, rng):
    old = np.log(np.full((1, 4), 0.4))
    new = old + np.log([1.5, 0.5, 1.5, 0.5])
    advantages = np.array([[1.0, 1.0, -1.0, -1.0]])
    found = answer(new, old, advantages, 0.2, np.ones((1, 4), bool))
    expected = (0.15, np.array([[0.0, -0.125, 0.375, 0.0]]))
    expect_close(found, expected, what="loss and gradient of the four cases")


@clipped_loss.check
def ragged_replies(answer, rng):
    for batch, time, clip in ((3, 5, 0.2), (4, 7, 0.35)):
        old = rng.normal(-2, 0.5, (batch, time))
        new = old + rng.normal(0, 0.4, old.shape)
        advantages = rng.normal(size=old.shape)
        lengths = rng.integers(1, time, batch)
        mask = np.arange(time) < lengths[:, None]
        what = f"loss and gradient of {batch} replies of {lengths.tolist()} tokens, clip {clip}"
        expected = clipped_loss(new, old, advantages, clip, mask)
        expect_close(answer(new, old, advantages, clip, mask), expected, what=what)


@clipped_loss.mistake("Which of the two products counts where the ratio went the wrong way?")
def always_clipped(logp, logp_old, advantages, clip, mask):
    ratio = np.exp(logp - logp_old)
    cut = np.clip(ratio, 1 - clip, 1 + clip)
    inside = mask & (np.abs(ratio - 1) <= clip)
    loss = -np.where(mask, cut * advantages, 0.0).sum() / mask.sum()
    return loss, np.where(inside, -ratio * advantages, 0.0) / mask.sum()


@clipped_loss.mistake("Nothing is clipped here.")
def never_clipped(logp, logp_old, advantages, clip, mask):
    free = np.where(mask, np.exp(logp - logp_old) * advantages, 0.0)
    return -free.sum() / mask.sum(), -free / mask.sum()


@clipped_loss.mistake("The larger of the two products rewards going too far.")
def the_larger(logp, logp_old, advantages, clip, mask):
    ratio = np.exp(logp - logp_old)
    free, cut = ratio * advantages, np.clip(ratio, 1 - clip, 1 + clip) * advantages
    loss = -np.where(mask, np.maximum(free, cut), 0.0).sum() / mask.sum()
    return loss, np.where(mask & (free >= cut), -free, 0.0) / mask.sum()


@clipped_loss.mistake(
    "Outside of the limits your gradient is always 0. Which two of the four cases still pull?"
)
def no_pull_outside(logp, logp_old, advantages, clip, mask):
    loss, gradient = clipped_loss(logp, logp_old, advantages, clip, mask)
    ratio = np.exp(np.where(mask, logp - logp_old, 0.0))
    return loss, np.where(np.abs(ratio - 1) <= clip, gradient, 0.0)


@clipped_loss.mistake("Filling counts in your average. By what number do you divide?")
def divides_by_everything(logp, logp_old, advantages, clip, mask):
    loss, gradient = clipped_loss(logp, logp_old, advantages, clip, mask)
    share = mask.sum() / mask.size
    return loss * share, gradient * share


@clipped_loss.mistake("You count tokens of filling as well.")
def mask_forgotten(logp, logp_old, advantages, clip, mask):
    return clipped_loss(logp, logp_old, advantages, clip, np.ones(mask.shape, bool))


@clipped_loss.mistake("You sum over the tokens of all replies. What is asked is their average.")
def summed(logp, logp_old, advantages, clip, mask):
    loss, gradient = clipped_loss(logp, logp_old, advantages, clip, mask)
    return loss * mask.sum(), gradient * mask.sum()


@clipped_loss.mistake("You average each reply on its own first. A token of a short reply then "
                      "counts more than one of a long reply.")  # fmt: skip
def mean_of_means(logp, logp_old, advantages, clip, mask):
    parts = [
        clipped_loss(*(x[i : i + 1] for x in (logp, logp_old, advantages)), clip, mask[i : i + 1])
        for i in range(len(logp))
    ]
    return np.mean([p[0] for p in parts]), np.concatenate([p[1] for p in parts]) / len(parts)


@clipped_loss.mistake("A loss is minimized. Which way does your policy move?")
def sign(logp, logp_old, advantages, clip, mask):
    loss, gradient = clipped_loss(logp, logp_old, advantages, clip, mask)
    return -loss, -gradient


@clipped_loss.mistake("Your gradient is by the ratio. What is asked is by its logarithm.")
def by_the_ratio(logp, logp_old, advantages, clip, mask):
    loss, gradient = clipped_loss(logp, logp_old, advantages, clip, mask)
    return loss, gradient / np.exp(logp - logp_old)


@clipped_loss.mistake(
    "Your old log-probabilities follow the new ones, so the ratio is always 1. They are numbers "
    "from when the replies were written."
)
def ratio_always_one(logp, logp_old, advantages, clip, mask):
    return clipped_loss(logp, logp, advantages, clip, mask)


# ---- DPO -------------------------------------------------------------------------------------


@exercise(
    "DPO from tokens, both ways",
    difficulty=4,
    minutes=35,
    section="dpo-the-policy-is-its-own-reward-model",
    counterpart="chainrule.modern_llms.rlhf:dpo_loss",
    idea="One number a reply first: how much likelier it has become. Then the loss of a logistic "
    "neuron on the difference, whose slope each token of the reply shares.",
)
def dpo_from_tokens(chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta):
    """Return the mean DPO loss of the pairs, and its gradients by chosen and by rejected.

    chosen and rejected hold the policy's log-probability of each token, shape (pairs, time);
    ref_chosen and ref_rejected those of the reference. The two masks are true on real tokens.
    beta is the price. The result is a number and two arrays. By hand first: the pair of the
    section, each reply as one token.
    """

    def total(x, mask):
        return np.where(mask, x, 0.0).sum(axis=1)

    lead = total(chosen - ref_chosen, chosen_mask) - total(rejected - ref_rejected, rejected_mask)
    pull = -beta / (1 + np.exp(beta * lead)) / len(lead)
    loss = np.logaddexp(0.0, -beta * lead).mean()
    return loss, pull[:, None] * chosen_mask, -pull[:, None] * rejected_mask


@dpo_from_tokens.by_package
def _(package, chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta):
    good, bad = Tensor(chosen, requires_grad=True), Tensor(rejected, requires_grad=True)
    loss = package(
        (good * chosen_mask).sum(axis=1),
        (bad * rejected_mask).sum(axis=1),
        (ref_chosen * chosen_mask).sum(axis=1),
        (ref_rejected * rejected_mask).sum(axis=1),
        beta,
    )
    loss.backward()
    return loss.data[()], good.grad, bad.grad


@dpo_from_tokens.check
def the_pair_of_the_section(answer, rng):
    one = np.ones((1, 1), bool)
    arrays = [np.array([[x]]) for x in (-2.0, -3.0, -2.5, -2.0)]
    pull = 0.5 / (1 + np.exp(0.75))
    expected = (np.log1p(np.exp(-0.75)), np.array([[-pull]]), np.array([[pull]]))
    expect_close(answer(*arrays, one, one, 0.5), expected, what="loss and gradients of one pair")


@dpo_from_tokens.check
def ragged_pairs(answer, rng):
    for pairs, time, beta in ((3, 5, 0.3), (2, 7, 1.5)):
        arrays = list(rng.normal(-2, 1, (4, pairs, time)))
        masks = [np.arange(time) < rng.integers(1, time, (pairs, 1)) for _ in range(2)]
        what = f"loss and gradients of {pairs} pairs, beta {beta}"
        expected = dpo_from_tokens(*arrays, *masks, beta)
        expect_close(answer(*arrays, *masks, beta), expected, what=what)


@dpo_from_tokens.mistake(
    "You average over the tokens of a reply. The chance of a reply is the product over its tokens."
)
def means_over_tokens(chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta):
    n, m = (x.sum(axis=1, keepdims=True) for x in (chosen_mask, rejected_mask))
    loss, good, bad = dpo_from_tokens(
        chosen / n, rejected / m, ref_chosen / n, ref_rejected / m, chosen_mask, rejected_mask, beta
    )
    return loss, good / n, bad / m


@dpo_from_tokens.mistake("Compared with what have the replies become likelier?")
def no_reference(chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta):
    return dpo_from_tokens(
        chosen, rejected, 0 * ref_chosen, 0 * ref_rejected, chosen_mask, rejected_mask, beta
    )


@dpo_from_tokens.mistake("Which of the two replies should become likelier?")
def swapped(chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta):
    loss, bad, good = dpo_from_tokens(
        rejected, chosen, ref_rejected, ref_chosen, rejected_mask, chosen_mask, beta
    )
    return loss, good, bad


@dpo_from_tokens.mistake("Filling after a reply is part of your sums.")
def filling_counts(chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta):
    full = np.ones(chosen.shape, bool)
    return dpo_from_tokens(chosen, rejected, ref_chosen, ref_rejected, full, full, beta)


@dpo_from_tokens.mistake("The price multiplies the difference before the sigmoid. Is it in both?")
def beta_missing_in_gradient(
    chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta
):
    loss, good, bad = dpo_from_tokens(
        chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta
    )
    return loss, good / beta, bad / beta


@dpo_from_tokens.mistake("When the chosen reply already leads, should the pull be strong or weak?")
def pulls_when_ahead(chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta):
    loss, good, bad = dpo_from_tokens(
        chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta
    )
    most = beta / len(chosen)
    return loss, (-most - good) * chosen_mask, (most - bad) * rejected_mask


@dpo_from_tokens.mistake("Your loss leaves filling out. Its gradient on filling must be 0.")
def filling_pulls(chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta):
    loss, good, bad = dpo_from_tokens(
        chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta
    )
    pull = good.min(axis=1, keepdims=True)
    return loss, pull * np.ones(good.shape), -pull * np.ones(bad.shape)


@dpo_from_tokens.mistake("You forgot that the loss is a mean over the pairs when differentiating.")
def gradient_of_the_sum(
    chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta
):
    loss, good, bad = dpo_from_tokens(
        chosen, rejected, ref_chosen, ref_rejected, chosen_mask, rejected_mask, beta
    )
    return loss, good * len(chosen), bad * len(chosen)


# ---- k1, k2, k3 ------------------------------------------------------------------------------


@exercise(
    "The slope of an estimate",
    difficulty=4,
    minutes=30,
    section="which-kl-and-where",
    because="The package leaves slopes to autograd; here they are added up by hand.",
    idea="For each reply, differentiate the estimate by log π alone, multiply by the slope of "
    "log π by the scores, and average with the policy's chances.",
)
def slopes_of_estimates(scores, p_ref):
    """Return the mean slopes of k1, k2 and k3 by the scores, an array of shape (3, n).

    The policy is the softmax of scores, of shape (n,); p_ref are the reference's chances of the
    same n replies. Replies are drawn from the policy. Their estimates are differentiated as a
    training loop does it: through log π of the reply that was drawn, not through the drawing. Add
    up over all replies instead of drawing. By hand first: the two replies of the section.
    """
    p = softmax(scores)
    log_s = np.log(p_ref) - np.log(p)
    by_log_p = np.stack([np.ones_like(p), -log_s, 1 - np.exp(log_s)])
    slope_of_log_p = np.eye(len(p)) - p
    return (by_log_p * p) @ slope_of_log_p


@slopes_of_estimates.check
def two_replies_again(answer, rng):
    found = answer(np.zeros(2), np.array([0.8, 0.2]))
    half = np.log(4) / 4
    expected = np.array([[0.0, 0.0], [-half, half], [-0.3, 0.3]])
    expect_close(found, expected, what="the slopes of two replies")


@slopes_of_estimates.check
def more_replies(answer, rng):
    for n in (3, 6):
        scores, p_ref = rng.normal(size=n), rng.dirichlet(np.ones(n))
        p = softmax(scores)
        reverse = p * (np.log(p / p_ref) - p @ np.log(p / p_ref))
        expected = np.stack([np.zeros(n), reverse, p - p_ref])
        expect_close(answer(scores, p_ref), expected, what=f"the slopes of {n} replies")


@slopes_of_estimates.mistake(
    "You took k3's slope for that of the divergence from the policy to the reference. Work it out "
    "for two replies."
)
def k3_as_meant(scores, p_ref):
    found = slopes_of_estimates(scores, p_ref)
    found[2] = found[1]
    return found


@slopes_of_estimates.mistake(
    "That is the slope of the mean of each estimate. A training loop does not differentiate "
    "through the drawing."
)
def slopes_of_the_means(scores, p_ref):
    p = softmax(scores)
    log_s = np.log(p_ref) - np.log(p)
    values = np.stack([-log_s, log_s**2 / 2, np.exp(log_s) - 1 - log_s])
    slope_of_log_p = np.eye(len(p)) - p
    return slopes_of_estimates(scores, p_ref) + (values * p) @ slope_of_log_p


@slopes_of_estimates.mistake("Which of the two is above in the ratio?")
def ratio_upside_down(scores, p_ref):
    p = softmax(scores)
    log_s = np.log(p) - np.log(p_ref)
    by_log_p = np.stack([np.ones_like(p), log_s, np.exp(log_s) - 1])
    return (by_log_p * p) @ (np.eye(len(p)) - p)


@slopes_of_estimates.mistake(
    "In the slopes of k2 and k3, which of the two is above in the ratio s?"
)
def slopes_upside_down(scores, p_ref):
    p = softmax(scores)
    log_s = np.log(p) - np.log(p_ref)
    by_log_p = np.stack([np.ones_like(p), -log_s, 1 - np.exp(log_s)])
    return (by_log_p * p) @ (np.eye(len(p)) - p)


@slopes_of_estimates.mistake("You multiply by the estimate. What is asked is its slope by log π.")
def estimates_as_rewards(scores, p_ref):
    p = softmax(scores)
    log_s = np.log(p_ref) - np.log(p)
    values = np.stack([-log_s, log_s**2 / 2, np.exp(log_s) - 1 - log_s])
    return (values * p) @ (np.eye(len(p)) - p)


@slopes_of_estimates.mistake("As log π grows, log s falls. Which sign has the slope of −log s?")
def turned(scores, p_ref):
    return -slopes_of_estimates(scores, p_ref)


@slopes_of_estimates.mistake("All three have about the right value. Do all three have one slope?")
def one_slope_for_all(scores, p_ref):
    return slopes_of_estimates(scores, p_ref)[[1, 1, 1]]


@slopes_of_estimates.mistake("Each reply counts as often as the policy writes it.")
def every_reply_alike(scores, p_ref):
    p = softmax(scores)
    log_s = np.log(p_ref) - np.log(p)
    by_log_p = np.stack([np.ones_like(p), -log_s, 1 - np.exp(log_s)])
    return by_log_p @ (np.eye(len(p)) - p) / len(p)


@slopes_of_estimates.mistake("You stopped at log π. What is asked is by the scores.")
def by_log_probabilities(scores, p_ref):
    p = softmax(scores)
    log_s = np.log(p_ref) - np.log(p)
    return np.stack([np.ones_like(p), -log_s, 1 - np.exp(log_s)]) * p


# ---- alignment -------------------------------------------------------------------------------


@exercise(
    "A price on length",
    difficulty=5,
    minutes=40,
    section="what-is-rewarded-is-what-you-get",
    because="Limits on length are a decision about one's data; the package takes rewards as given.",
    idea="For a given price the best policy is known in closed form. Its mean length falls as the "
    "price grows, so the price can be found by halving an interval.",
    alike=1e-4,
)
def price_on_length(p_ref, rewards, lengths, beta):
    """Return an array: the price for length, the best policy's mean length without and with it.

    With the price c, the reward of a reply is its reward minus c times its length, and the policy
    is the one with the most mean reward minus beta times the KL divergence to p_ref. Find the c at
    which this policy writes, on average, replies as long as the reference does. c may be negative.
    All arrays have the shape (replies,); c lies between −1000 and 1000. By hand first: two replies
    of the lengths 1 and 2, both with chance 1/2, rewards (0, 1).
    """

    def policy(price):
        scores = np.log(p_ref) + (rewards - price * lengths) / beta
        return softmax(scores)

    low, high, wanted = -1000.0, 1000.0, p_ref @ lengths
    for _ in range(200):
        middle = (low + high) / 2
        if policy(middle) @ lengths > wanted:
            low = middle
        else:
            high = middle
    return np.array([middle, policy(0.0) @ lengths, policy(middle) @ lengths])


@price_on_length.check
def two_lengths(answer, rng):
    found = answer(np.array([0.5, 0.5]), np.array([0.0, 1.0]), np.array([1.0, 2.0]), 0.5)
    expected = np.array([1.0, 1 + 1 / (1 + np.exp(-2)), 1.5])
    expect_close(found, expected, rtol=1e-4, what="price and mean lengths of two replies")


@price_on_length.check
def a_planted_exploit(answer, rng):
    for n, beta, slope in ((7, 0.5, 0.7), (11, 1.3, -0.9)):
        p_ref = rng.dirichlet(np.full(n, 3.0))
        lengths = rng.permutation(np.arange(n) + 1.0)
        rewards = 0.3 * rng.normal(size=n) + slope * lengths
        what = f"price and mean lengths of {n} replies, beta {beta}"
        expected = price_on_length(p_ref, rewards, lengths, beta)
        expect_close(answer(p_ref, rewards, lengths, beta), expected, rtol=1e-3, what=what)


@price_on_length.mistake(
    "A price in units of what? It is part of the reward, before beta divides.", power=(-1, 1)
)
def price_not_divided(p_ref, rewards, lengths, beta, power):
    return price_on_length(p_ref, rewards, lengths, beta) * np.array([beta**power, 1, 1])


@price_on_length.mistake("In the best policy, rewards are divided by beta.")
def beta_left_out(p_ref, rewards, lengths, beta):
    return price_on_length(p_ref, rewards, lengths, 1.0)


@price_on_length.mistake("The price is subtracted. Is yours what a longer reply pays, or gets?")
def price_added(p_ref, rewards, lengths, beta):
    return price_on_length(p_ref, rewards, lengths, beta) * np.array([-1, 1, 1])


@price_on_length.mistake("If the best policy writes too short replies, the price is below 0.")
def never_below_zero(p_ref, rewards, lengths, beta):
    found = price_on_length(p_ref, rewards, lengths, beta)
    return found if found[0] > 0 else np.array([0.0, found[1], found[1]])


@price_on_length.mistake("Your policy forgets where it started from.")
def no_reference_policy(p_ref, rewards, lengths, beta):
    even = np.full(len(p_ref), 1 / len(p_ref))
    tilted = price_on_length(even, rewards, lengths, beta)
    found = _by_halving(even, rewards, lengths, beta, p_ref @ lengths)
    return np.array([found[0], tilted[1], found[1]])


@price_on_length.mistake("The slope of reward against length is not the price: the policy does not "
                         "weigh replies as the reference does.")  # fmt: skip
def by_regression(p_ref, rewards, lengths, beta):
    centred = lengths - p_ref @ lengths
    price = p_ref @ (rewards * centred) / (p_ref @ centred**2)
    final = softmax(np.log(p_ref) + (rewards - price * lengths) / beta) @ lengths
    return np.array([price, price_on_length(p_ref, rewards, lengths, beta)[1], final])


@price_on_length.mistake("The mean length that is wanted is that of the reference, by its chances.")
def plain_mean_length(p_ref, rewards, lengths, beta):
    found = _by_halving(p_ref, rewards, lengths, beta, lengths.mean())
    return np.array([found[0], price_on_length(p_ref, rewards, lengths, beta)[1], found[1]])


def _by_halving(p, rewards, lengths, beta, wanted):
    low, high = -1000.0, 1000.0
    for _ in range(200):
        middle = (low + high) / 2
        mean = softmax(np.log(p) + (rewards - middle * lengths) / beta) @ lengths
        low, high = (middle, high) if mean > wanted else (low, middle)
    return middle, mean
