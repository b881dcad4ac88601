"""Exercises of architectures/sequence-to-sequence.md."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from chainrule.course.exercises import exercise, expect, expect_close, expect_equal


@exercise(
    "Read it backwards",
    difficulty=2,
    minutes=15,
    section="which-end-first",
    counterpart="chainrule.architectures.sequence_to_sequence.model:encode_pairs",
    idea="Turn each source round before it is filled up. Inputs and targets are one output, moved "
    "by one place.",
)
def backward_pairs(sources, outputs):
    """Return source, mask, inputs and targets of a batch whose sources are read backwards.

    sources and outputs are lists of lists of ids, all at least 2. Each row of source, of shape
    (batch, longest source), holds a source from its last symbol to its first, and 0 behind its
    end; mask, of the same shape, is True where a symbol stands. inputs, of shape (batch, longest
    output + 1), holds 1 (START) and the output, and 0 behind its end. targets holds the output
    and 0 (END), and -100 behind that. Outputs are not turned round.
    """
    longest, time = max(map(len, sources)), max(map(len, outputs)) + 1
    source = np.zeros((len(sources), longest), int)
    mask = np.zeros(source.shape, bool)
    inputs = np.zeros((len(outputs), time), int)
    targets = np.full(inputs.shape, -100)
    for row, (ids, output) in enumerate(zip(sources, outputs, strict=True)):
        source[row, : len(ids)] = ids[::-1]
        mask[row, : len(ids)] = True
        inputs[row, : len(output) + 1] = [1, *output]
        targets[row, : len(output) + 1] = [*output, 0]
    return source, mask, inputs, targets


_FOUR = ("source", "mask", "inputs", "targets")


@backward_pairs.by_package
def _(package, sources, outputs):
    return tuple(package([ids[::-1] for ids in sources], outputs))


def _expect_pairs(received, expected, what):
    expect(len(received) == 4, f"four arrays are wanted, received {len(received)}")
    for name, a, b in zip(_FOUR, received, expected, strict=True):
        expect_equal(a, b, what=f"{name} of {what}")


@backward_pairs.check
def two_pairs_by_hand(answer, rng):
    expected = (
        np.array([[4, 3, 2], [5, 0, 0]]),
        np.array([[True, True, True], [True, False, False]]),
        np.array([[1, 7, 0], [1, 8, 9]]),
        np.array([[7, 0, -100], [8, 9, 0]]),
    )
    _expect_pairs(answer([[2, 3, 4], [5]], [[7], [8, 9]]), expected, "two pairs")


@backward_pairs.check
def several_batches(answer, rng):
    for batch in (3, 5):
        sources, outputs = (
            [rng.integers(2, 30, n).tolist() for n in rng.integers(1, 8, batch)] for _ in range(2)
        )
        expected = backward_pairs([list(s) for s in sources], [list(o) for o in outputs])
        _expect_pairs(answer(sources, outputs), expected, f"{batch} pairs")


def _pairs_variant(sources, outputs, **how):
    start = [] if how.get("no_start") else [1]
    end = [] if how.get("no_end") else [0]
    longest, time = max(map(len, sources)), max(map(len, outputs)) + 1
    source = np.zeros((len(sources), longest), int)
    mask = np.zeros(source.shape, bool)
    inputs = np.full((len(outputs), time), how.get("behind_inputs", 0))
    targets = np.full(inputs.shape, how.get("behind_targets", -100))
    for row, (ids, output) in enumerate(zip(sources, outputs, strict=True)):
        source[row, : len(ids)] = ids if how.get("forwards") else ids[::-1]
        mask[row, : len(ids)] = True
        said = output[::-1] if how.get("outputs_too") else output
        given = [*start, *said]
        inputs[row, : len(given)] = given
        wanted = [1, *said, 0][:time] if how.get("start_in_targets") else [*said, *end]
        targets[row, : len(wanted)] = wanted
    if how.get("turned_late"):
        source = source[:, ::-1]
    if how.get("turned_late") == "both":
        mask = mask[:, ::-1]
    return source, mask, inputs, targets


@backward_pairs.mistake(
    "Your rows were turned round after they were filled up, so zeros stand in front. Which comes "
    "first, turning or filling?",
    how=("both", "source"),
)
def turned_after_filling(sources, outputs, how):
    return _pairs_variant(sources, outputs, turned_late=how, forwards=True)


@backward_pairs.mistake(
    "Your inputs stand where targets should, and targets where inputs should. Which of them begins "
    "with START?"
)
def inputs_for_targets(sources, outputs):
    source, mask, inputs, targets = _pairs_variant(sources, outputs)
    return source, mask, targets, inputs


@backward_pairs.mistake("Your sources are read forwards. Which symbol should be read last?")
def read_forwards(sources, outputs):
    return _pairs_variant(sources, outputs, forwards=True)


@backward_pairs.mistake(
    "You turned the outputs round as well. Only the order of reading changes: what should be "
    "written stays as it is."
)
def outputs_turned_too(sources, outputs):
    return _pairs_variant(sources, outputs, outputs_too=True)


@backward_pairs.mistake(
    "Behind the end of your targets stand zeros, and 0 is END: the loss would ask for END again "
    "and again. Which number says that a place does not count?"
)
def targets_filled_with_end(sources, outputs):
    return _pairs_variant(sources, outputs, behind_targets=0)


@backward_pairs.mistake(
    "Your inputs are filled up with -100, which is no symbol. The decoder must be able to read "
    "every place, even one that does not count."
)
def inputs_filled_with_what_is_ignored(sources, outputs):
    return _pairs_variant(sources, outputs, behind_inputs=-100)


@backward_pairs.mistake(
    "START stands among your targets. It is given to the decoder; should it write it as well?"
)
def start_among_targets(sources, outputs):
    return _pairs_variant(sources, outputs, start_in_targets=True)


@backward_pairs.mistake(
    "Your inputs begin with the output itself, so each input is the symbol that should be written "
    "there. What does the decoder read before it has written anything?"
)
def no_start(sources, outputs):
    return _pairs_variant(sources, outputs, no_start=True)


@backward_pairs.mistake(
    "No END stands in your targets. From what should the decoder learn when to stop?"
)
def no_end(sources, outputs):
    return _pairs_variant(sources, outputs, no_end=True)


@exercise(
    "Bits that are used",
    difficulty=2,
    minutes=15,
    section="how-much-could-fit",
    because="the package computes no bits",
    idea="Find the two neighbouring lengths between which the share passes one half, and go along "
    "the straight line. Then turn the estimate of the page round.",
)
def used_bits(lengths, share, symbols, units):
    """Return the length at which half of the outputs are right, and the bits used of each number.

    lengths is increasing, share holds how many outputs of each length are right, from above one
    half to below it, and never rises. Between two lengths share is a straight line. A source of
    that length, drawn from `symbols` symbols, is to fit exactly into what an LSTM of `units` units
    hands over. The length need not be whole.
    """
    k = int(np.argmax(share < 0.5))
    fall = (share[k - 1] - 0.5) / (share[k - 1] - share[k])
    length = lengths[k - 1] + fall * (lengths[k] - lengths[k - 1])
    return length, length * np.log2(symbols) / (2 * units)


@used_bits.check
def half_between_two_lengths(answer, rng):
    length, bits = answer(np.array([4.0, 8.0, 12.0]), np.array([1.0, 0.75, 0.25]), 16, 10)
    expect_close([length, bits], [10.0, 2.0], what="length and bits")


@used_bits.check
def other_curves(answer, rng):
    received, expected = [], []
    for size in (5, 7):
        lengths = np.cumsum(rng.uniform(1, 4, size))
        share = np.sort(rng.uniform(0, 1, size))[::-1].copy()
        share[0], share[-1] = 0.97, 0.02
        given = lengths, share, int(rng.integers(3, 40)), int(rng.integers(5, 90))
        received += list(answer(given[0].copy(), given[1].copy(), *given[2:]))
        expected += list(used_bits(*given))
    expect_close(np.array(received, float), np.array(expected), what="lengths and bits")


def _bits(length, symbols, units):
    return length, length * np.log2(symbols) / (2 * units)


def _crossing(lengths, share):
    k = int(np.argmax(share < 0.5))
    fall = (share[k - 1] - 0.5) / (share[k - 1] - share[k])
    return k, fall


@used_bits.mistake(
    "Your length is one of the table. The line passes one half between two of them: where?",
    how=("below", "above", "nearest"),
)
def tabulated_length(lengths, share, symbols, units, how):
    k, _ = _crossing(lengths, share)
    k = {"below": k, "above": k - 1, "nearest": int(np.argmin(np.abs(share - 0.5)))}[how]
    return _bits(lengths[k], symbols, units)


@used_bits.mistake(
    "`np.interp` wants the numbers among which it looks in rising order. Do shares rise here?"
)
def interpolates_on_a_falling_axis(lengths, share, symbols, units):
    return _bits(np.interp(0.5, share, lengths), symbols, units)


@used_bits.mistake(
    "Your length is the middle of two neighbours. The line need not pass one half in the middle."
)
def middle_of_two(lengths, share, symbols, units):
    k, _ = _crossing(lengths, share)
    return _bits((lengths[k - 1] + lengths[k]) / 2, symbols, units)


@used_bits.mistake(
    "You go along the line from the wrong end. Nearer to which of the two lengths is one half?"
)
def from_the_wrong_end(lengths, share, symbols, units):
    k, fall = _crossing(lengths, share)
    return _bits(lengths[k] - fall * (lengths[k] - lengths[k - 1]), symbols, units)


@used_bits.mistake(
    "You divided by the units. An LSTM hands over two vectors: how many numbers is that?"
)
def one_vector_only(lengths, share, symbols, units):
    length, bits = used_bits(lengths, share, symbols, units)
    return length, 2 * bits


@used_bits.mistake("Your logarithm has another base than 2. In which unit is a bit counted?")
def nats(lengths, share, symbols, units):
    length, bits = used_bits(lengths, share, symbols, units)
    return length, bits * np.log(2)


@used_bits.mistake("Those are the bits of all numbers together. How many fall on each of them?")
def bits_of_all(lengths, share, symbols, units):
    length, bits = used_bits(lengths, share, symbols, units)
    return length, bits * 2 * units


@used_bits.mistake(
    "You count the symbols, not their bits. How many bits does one choice of so many carry?"
)
def symbols_and_not_bits(lengths, share, symbols, units):
    length, _ = used_bits(lengths, share, symbols, units)
    return length, length * symbols / (2 * units)


@used_bits.mistake(
    "Your bits do not depend on the alphabet. Does a letter out of 3 carry as much as one of 30?"
)
def letters_for_bits(lengths, share, symbols, units):
    length, _ = used_bits(lengths, share, symbols, units)
    return length, length / (2 * units)


@exercise(
    "What a coin teaches",
    difficulty=3,
    minutes=20,
    section="feeding-it-its-own-symbols",
    because="the package draws symbols, and knows no true table",
    idea="Ask where the symbol that is read came from. If it was drawn, it says nothing about the "
    "target.",
)
def taught_by_a_coin(joint, share):
    """Return what the best decoder says after scheduled sampling, and how often it writes nonsense.

    Outputs have two symbols; joint, of shape (V, V), holds the probability of first symbol i and
    second symbol j, and every first symbol is possible. In training the first symbol that is read
    is the true one with probability `share`, else it is drawn from what the decoder says, which is
    right for first symbols. Return two things: an array of shape (V, V), the probability of the
    second symbol j behind the first symbol i with which the loss is least; and the probability
    that this decoder, running free, writes an output that has probability 0 in joint.
    """
    first, second = joint.sum(axis=1), joint.sum(axis=0)
    says = share * joint / first[:, None] + (1 - share) * second
    return says, float((first[:, None] * says)[joint == 0].sum())


@taught_by_a_coin.check
def the_example_of_the_page(answer, rng):
    says, nonsense = answer(np.array([[0.0, 0.5], [0.5, 0.0]]), 0.5)
    expect_close(says, np.array([[0.25, 0.75], [0.75, 0.25]]), what="what the decoder says")
    expect_close(nonsense, 0.25, what="the share of nonsense")


@taught_by_a_coin.check
def larger_tables(answer, rng):
    for size in (3, 5):
        joint = rng.dirichlet(np.ones(size * size)).reshape(size, size)
        joint[np.arange(size), rng.permutation(size)] = 0
        joint /= joint.sum()
        for share in (0.3, 1.0):
            received, expected = answer(joint.copy(), share), taught_by_a_coin(joint, share)
            expect_close(received[0], expected[0], what=f"what the decoder of {size} symbols says")
            expect_close(received[1], expected[1], atol=1e-12, what="the share of nonsense")


def _coin(joint, share, other=None, rows=True, weights=None, where=None):
    first, second = joint.sum(axis=1), joint.sum(axis=0)
    truth = joint / first[:, None] if rows else joint
    says = share * truth + (1 - share) * (second if other is None else other)
    weights = first[:, None] if weights is None else weights
    where = joint == 0 if where is None else where
    return says, float((weights * says)[where].sum())


@taught_by_a_coin.mistake(
    "Your coin is exchanged: `share` is how often the true symbol is read. What does a share of 1 "
    "teach?"
)
def coin_exchanged(joint, share):
    return _coin(joint, 1 - share)


@taught_by_a_coin.mistake(
    "Behind a drawn symbol you let every target be equally probable. It says nothing about the "
    "target; how often does each target occur then?"
)
def uniform_behind_a_drawn_one(joint, share):
    return _coin(joint, share, other=1 / len(joint))


@taught_by_a_coin.mistake(
    "Behind a drawn symbol you let the target be as frequent as among first symbols. The target is "
    "the second one."
)
def frequencies_of_first_symbols(joint, share):
    return _coin(joint, share, other=joint.sum(axis=1))


@taught_by_a_coin.mistake(
    "Behind the true symbol you use the probability of the pair. Given the first symbol, should "
    "each row add up to 1?"
)
def joint_and_not_given(joint, share):
    return _coin(joint, share, rows=False)


@taught_by_a_coin.mistake(
    "Your table holds the probabilities of pairs. Behind each first symbol the probabilities of "
    "the second should add up to 1."
)
def pairs_and_not_rows(joint, share):
    first = joint.sum(axis=1, keepdims=True)
    says = share * joint + (1 - share) * first * joint.sum(axis=0)
    return says, float(says[joint == 0].sum())


@taught_by_a_coin.mistake(
    "Your columns were divided, not your rows: you give the first symbol behind the second."
)
def divided_by_columns(joint, share):
    first, second = joint.sum(axis=1), joint.sum(axis=0)
    says = share * joint / second + (1 - share) * second
    return says, float((first[:, None] * says)[joint == 0].sum())


@taught_by_a_coin.mistake(
    "Your table is right. In the share of nonsense every first symbol counts as much as any other; "
    "how often does the decoder write each?",
    how=("sum", "mean"),
)
def nonsense_unweighted(joint, share, how):
    return _coin(joint, share, weights=1.0 if how == "sum" else 1 / len(joint))


@taught_by_a_coin.mistake(
    "Your table is right. The share that you return is that of the outputs which are possible."
)
def share_of_sense(joint, share):
    return _coin(joint, share, where=joint > 0)


@taught_by_a_coin.mistake(
    "You return the truth. Behind a symbol that was drawn the target is not what it is behind a "
    "true one: mix the two cases."
)
def the_truth(joint, share):
    return _coin(joint, 1.0)


@taught_by_a_coin.mistake(
    "Your decoder always reads its own symbols. In a part of the cases it reads the true one."
)
def always_its_own(joint, share):
    return _coin(joint, 0.0)


@exercise(
    "A loss for outputs",
    difficulty=3,
    minutes=25,
    section="teacher-forcing",
    because="the package's loss is exercised with its own page; here outputs are told apart",
    idea="Take the logarithm of a softmax, pick the targets, and let what is ignored be 0 before "
    "you add up. The gradient of one symbol is softmax minus one-hot.",
)
def output_loss(logits, targets):
    """Return the mean loss of a batch, its gradient, and each output's log-probability.

    logits has shape (batch, time, V), targets (batch, time); a target of -100 stands behind the
    end of an output and counts for nothing. The loss is the mean over all symbols that count, in
    nats; the gradient has the shape of logits; the log-probabilities have shape (batch). It must
    be right for logits of a million as well.
    """
    real = targets >= 0
    ids = np.where(real, targets, 0)[..., None]
    z = logits - logits.max(axis=-1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    picked = np.where(real, np.take_along_axis(log_p, ids, axis=-1)[..., 0], 0.0)
    count = real.sum()
    one_hot = np.zeros_like(log_p)
    np.put_along_axis(one_hot, ids, 1.0, axis=-1)
    gradient = (np.exp(log_p) - one_hot) * real[..., None] / count
    return -picked.sum() / count, gradient, picked.sum(axis=1)


def _expect_losses(received, expected, what):
    expect(len(received) == 3, f"three results are wanted, received {len(received)}")
    for name, a, b in zip(("loss", "gradient", "log-probabilities"), received, expected,
                          strict=True):  # fmt: skip
        expect_close(a, b, atol=1e-12, what=f"{name} of {what}")


@output_loss.check
def a_table_by_hand(answer, rng):
    """Probabilities 0.8, 0.9, 0.5 for an output of three, and 0.25 for one of one symbol."""
    p = np.array([[0.2, 0.8], [0.1, 0.9], [0.5, 0.5]])
    q = np.array([[0.75, 0.25], [0.5, 0.5], [0.5, 0.5]])
    targets = np.array([[1, 1, 0], [1, -100, -100]])
    loss, _, log_p = answer(np.log([p, q]), targets)
    expect_close(loss, -math.log(0.36 * 0.25) / 4, what="the loss of two outputs")
    expect_close(log_p, np.log([0.36, 0.25]), what="the log-probabilities of two outputs")


@output_loss.check
def several_batches_of_outputs(answer, rng):
    for batch, time, vocab, size in ((3, 5, 7, 1.0), (5, 2, 3, 1e6)):
        logits = rng.normal(size=(batch, time, vocab)) * size
        lengths = rng.integers(1, time + 1, batch)
        lengths[0] = 1
        targets = rng.integers(0, vocab, (batch, time))
        targets[np.arange(time) >= lengths[:, None]] = -100
        received = answer(logits.copy(), targets.copy())
        _expect_losses(received, output_loss(logits, targets), f"{batch} outputs")


def _loss_variant(logits, targets, **how):
    real = targets >= 0
    ids = np.where(real, targets, 0)[..., None]
    with np.errstate(all="ignore"):
        if how.get("plain") == "ratio":
            log_p = np.log(np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True))
        elif how.get("plain"):
            log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        else:
            z = logits - logits.max(axis=-1, keepdims=True)
            log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    if how.get("last_class"):
        ids = targets[..., None] % logits.shape[-1] if how["last_class"] == "counted" else ids
    picked = np.take_along_axis(log_p, ids, axis=-1)[..., 0]
    if not how.get("last_class"):
        picked = np.where(real, picked, 0.0)
    one_hot = np.zeros_like(log_p)
    np.put_along_axis(one_hot, ids, 1.0, axis=-1)
    counts = how.get("counts", real)
    gradient = np.exp(log_p) - one_hot
    if how.get("no_one_hot"):
        gradient = np.exp(log_p)
    gradient = gradient * (1.0 if how.get("everywhere") else real[..., None])
    if how.get("by_row"):
        each = real.sum(axis=1)
        loss = -(picked.sum(axis=1) / each).mean()
        gradient = gradient / each[:, None, None] / len(logits)
    else:
        loss = -picked.sum() / np.sum(counts)
        gradient = gradient / np.sum(how.get("shares", counts))
    sign = how.get("sign", 1)
    total = picked.sum(axis=1) / (real.sum(axis=1) if how.get("mean_log_p") else 1)
    return sign * loss, gradient * how.get("direction", 1), total * how.get("surprise", 1)


@output_loss.mistake(
    "Your mean counts the places behind the ends as well. By how many symbols should you divide?"
)
def divides_by_all_places(logits, targets):
    return _loss_variant(logits, targets, counts=np.ones_like(targets))


@output_loss.mistake(
    "You take the mean of each output's mean, so a symbol of a short output weighs more than one "
    "of a long output."
)
def mean_of_means(logits, targets):
    return _loss_variant(logits, targets, by_row=True)


@output_loss.mistake(
    "You divide by the number of outputs. The loss is a mean over symbols.",
    gradient_too=(True, False),
)
def divides_by_the_batch(logits, targets, gradient_too):
    counts = np.ones(len(targets))
    shares = counts if gradient_too else targets >= 0
    return _loss_variant(logits, targets, counts=counts, shares=shares)


@output_loss.mistake(
    "Your gradient is not 0 behind the ends of outputs. Does the loss change with those logits?"
)
def gradient_of_padding(logits, targets):
    return _loss_variant(logits, targets, everywhere=True)


@output_loss.mistake(
    "Your loss is right; your gradient is that of a sum. What was it divided by?",
    how=("count", "batch"),
)
def gradient_not_divided(logits, targets, how):
    return _loss_variant(logits, targets, shares=1 if how == "count" else np.ones(len(targets)))


@output_loss.mistake("Your gradient is softmax alone. What is subtracted at the target?")
def gradient_without_one_hot(logits, targets):
    return _loss_variant(logits, targets, no_one_hot=True)


@output_loss.mistake("Your gradient points downhill. A gradient says where the loss grows.")
def gradient_downhill(logits, targets):
    return _loss_variant(logits, targets, direction=-1)


@output_loss.mistake(
    "Right for small logits. For logits of a million an exponential is infinite: what may be "
    "subtracted from all logits without changing a probability?",
    how=("logarithm", "ratio"),
)
def overflows(logits, targets, how):
    return _loss_variant(logits, targets, plain=how)


@output_loss.mistake(
    "Your log-probabilities are means. That of a whole output is the logarithm of a product."
)
def mean_log_probability(logits, targets):
    return _loss_variant(logits, targets, mean_log_p=True)


@output_loss.mistake(
    "Your log-probabilities are positive. A probability is at most 1: what is its logarithm?"
)
def surprises(logits, targets):
    return _loss_variant(logits, targets, surprise=-1)


@output_loss.mistake(
    "Your loss is negative. It should be small when the targets are probable, and never below 0."
)
def loss_with_the_wrong_sign(logits, targets):
    return _loss_variant(logits, targets, sign=-1)


@output_loss.mistake(
    "What stands behind an end still enters your sums, as if a symbol were wanted there. Which "
    "places count for nothing?",
    how=("first", "counted"),
)
def padding_is_a_class(logits, targets, how):
    return _loss_variant(logits, targets, last_class=how)


@exercise(
    "Several people translate",
    difficulty=3,
    minutes=25,
    section="bleu",
    counterpart="chainrule.architectures.sequence_to_sequence.scores:bleu",
    idea="A piece may count as often as in the reference that has most of it. Lengths are compared "
    "with the nearest reference.",
)
def bleu_of_corpus(cands, refs, max_n):
    """Return BLEU, between 0 and 1, of several candidates with several references each.

    cands is a list of lists of words; refs[i] is a list of references of cands[i], each a list of
    words. A piece counts at most as often as in the reference of its candidate that has it most
    often. Counts of pieces, and lengths, are added over all candidates before anything is divided
    or compared. The length that a candidate should have is that of its reference with the nearest
    length; of two equally near ones the shorter. Pieces have 1 to max_n words. If none of some
    size is shared, return 0.
    """
    logs, length, wanted = 0.0, 0, 0
    for cand, several in zip(cands, refs, strict=True):
        length += len(cand)
        wanted += min((abs(len(r) - len(cand)), len(r)) for r in several)[1]
    for n in range(1, max_n + 1):
        matched = total = 0
        for cand, several in zip(cands, refs, strict=True):
            counts, *others = (
                Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
                for words in (cand, *several)
            )
            total += counts.total()
            matched += sum(min(c, max(o[gram] for o in others)) for gram, c in counts.items())
        if matched == 0:
            return 0.0
        logs += math.log(matched / total) / max_n
    return math.exp(min(0.0, 1 - wanted / length) + logs)


@bleu_of_corpus.check
def known_scores(answer, rng):
    cat = [list("abcded"), list("fgbbced")]
    received = [
        answer([list("aabb")], [[list("axx"), list("bbyyz")]], 1),
        answer([list("ab"), list("abcdef")], [[list("ab")], [list("abxyzx")]], 1),
        answer([list("abcd")], [[list("abcde"), list("abc")]], 2),
        answer([list("ab")], [[list("ba")]], 2),
        answer([list("abc")], [cat], 2),
    ]
    # In the first, the nearest lengths are 3 and 5: the shorter counts. a: 1, b: 2.
    expected = [0.75, 0.5, 1.0, 0.0, math.exp(1 - 2)]
    expect_close(np.array(received, float), np.array(expected), atol=1e-12, what="five scores")


@bleu_of_corpus.check
def random_words(answer, rng):
    received, expected = [], []
    for count in (3, 5):
        texts = [
            [rng.choice(list("abc"), rng.integers(4, 11)).tolist() for _ in range(1 + k % 3 + 1)]
            for k in range(count)
        ]
        cands, refs = [t[0] for t in texts], [t[1:] for t in texts]
        for max_n in (1, 2, 3):
            received.append(answer([list(c) for c in cands], [list(r) for r in refs], max_n))
            expected.append(bleu_of_corpus(cands, refs, max_n))
    expect_close(np.array(received, float), np.array(expected), what="scores of random words")


def _bleu_variant(cands, refs, max_n, **how):
    def grams(words, n):
        return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))

    shares = []
    for n in range(1, max_n + 1):
        matched = total = 0
        for cand, several in zip(cands, refs, strict=True):
            counts, others = grams(cand, n), [grams(r, n) for r in several]
            total += counts.total()
            for gram, c in counts.items():
                most = {
                    "max": max(o[gram] for o in others),
                    "sum": sum(o[gram] for o in others),
                    "min": min(o[gram] for o in others),
                    "first": others[0][gram],
                    "any": c if any(o[gram] for o in others) else 0,
                }[how.get("clip", "max")]
                matched += min(c, most)
            if how.get("kinds"):
                total += len(counts) - counts.total()
        shares.append(matched / total if total else 0.0)
    if how.get("mean") == "arithmetic" or (how.get("mean") == "not of 0" and min(shares) > 0):
        together = sum(shares) / max_n
    elif min(shares) == 0:
        return 0.0
    else:
        together = math.prod(shares) ** (1 if how.get("mean") == "product" else 1 / max_n)
    if how.get("mean") == "last":
        together = shares[-1]
    pick = how.get("pick", lambda c, lengths: min(lengths, key=lambda r: (abs(r - c), r)))
    wanted = [
        pick(len(c), [len(r) for r in several]) for c, several in zip(cands, refs, strict=True)
    ]
    lengths = [len(c) for c in cands]
    c, r = sum(lengths), sum(wanted)
    penalty = {
        "usual": math.exp(min(0.0, 1 - r / c)),
        "none": 1.0,
        "ratio": min(1.0, c / r),
        "turned": math.exp(min(0.0, 1 - c / r)),
        "both": math.exp(1 - r / c) if r > c else math.exp(1 - c / r),
        "each": math.exp(
            sum(min(0.0, 1 - b / a) for a, b in zip(lengths, wanted, strict=True)) / len(cands)
        ),
        "unbounded": math.exp(1 - r / c),
    }[how.get("brevity", "usual")]
    return penalty * together


@bleu_of_corpus.mistake(
    "You add up how often a piece stands in several references. How often is the most that a "
    "single one of them has it?"
)
def sum_over_references(cands, refs, max_n):
    return _bleu_variant(cands, refs, max_n, clip="sum")


@bleu_of_corpus.mistake(
    "A piece that is repeated counts every time for you. May it count more often than a reference "
    "has it?"
)
def not_clipped(cands, refs, max_n):
    return _bleu_variant(cands, refs, max_n, clip="any")


@bleu_of_corpus.mistake(
    "A piece counts only as often as in the reference that has least of it. One reference is "
    "enough."
)
def least_of_references(cands, refs, max_n):
    return _bleu_variant(cands, refs, max_n, clip="min")


@bleu_of_corpus.mistake("You compare with the first reference only. There may be others.")
def first_reference_only(cands, refs, max_n):
    return _bleu_variant(cands, refs, max_n, clip="first", pick=lambda c, lengths: lengths[0])


@bleu_of_corpus.mistake(
    "Yours is a mean of scores of single candidates. What should be added before anything is "
    "divided?"
)
def mean_of_scores(cands, refs, max_n):
    scores = [_bleu_variant([c], [r], max_n) for c, r in zip(cands, refs, strict=True)]
    return sum(scores) / len(scores)


@bleu_of_corpus.mistake(
    "Your pieces are right; the length that a candidate should have is not. Which reference is "
    "the nearest in length, and which of two that are equally near?",
    which=("longest", "shortest", "first", "mean", "longer of two"),
)
def another_length(cands, refs, max_n, which):
    pick = {
        "longest": lambda c, lengths: max(lengths),
        "shortest": lambda c, lengths: min(lengths),
        "first": lambda c, lengths: lengths[0],
        "mean": lambda c, lengths: sum(lengths) / len(lengths),
        "longer of two": lambda c, lengths: min(lengths, key=lambda r: (abs(r - c), -r)),
    }[which]
    return _bleu_variant(cands, refs, max_n, pick=pick)


@bleu_of_corpus.mistake(
    "Your shares are put together in another way than the page's: their mean is a root of their "
    "product.",
    mean=("arithmetic", "not of 0", "product", "last"),
)
def another_mean(cands, refs, max_n, mean):
    return _bleu_variant(cands, refs, max_n, mean=mean)


@bleu_of_corpus.mistake(
    "Your factor for brevity is another one than the page's. What is it for a candidate of half "
    "the length, and for one that is too long?",
    brevity=("none", "ratio", "turned", "both", "unbounded"),
)
def another_brevity(cands, refs, max_n, brevity):
    return _bleu_variant(cands, refs, max_n, brevity=brevity)


@bleu_of_corpus.mistake(
    "You punish each candidate for its own length. Lengths are added over all candidates first."
)
def brevity_of_each(cands, refs, max_n):
    return _bleu_variant(cands, refs, max_n, brevity="each")


@bleu_of_corpus.mistake(
    "You divide by the number of different pieces. A piece that stands twice in a candidate counts "
    "twice there."
)
def different_pieces(cands, refs, max_n):
    return _bleu_variant(cands, refs, max_n, kinds=True)


@exercise(
    "What each output depends on",
    difficulty=4,
    minutes=30,
    section="the-motivation-for-attention",
    because="the package builds models, and does not take them apart",
    idea="Change one place of the source, everything else as it was, and see how far each output "
    "moves. Then let every row have the sum 1.",
)
def dependence(model, source, symbols):
    """Return a table of shape (T, S): how much each output depends on each place of the source.

    model takes a list of S symbols and returns an array of shape (T), the log-probabilities of the
    T symbols of one fixed output. An entry is the mean absolute change of that log-probability when
    the symbol at one place is replaced by each *other* symbol of the list `symbols` in turn,
    divided by the sum of its row. A row in which nothing changes is 0. The source must come back
    unchanged.
    """
    before = np.asarray(model(list(source)))
    table = np.zeros((len(before), len(source)))
    for s, true in enumerate(source):
        others = [symbol for symbol in symbols if symbol != true]
        changed = [model([*source[:s], other, *source[s + 1 :]]) for other in others]
        table[:, s] = np.abs(np.array(changed) - before).mean(axis=0)
    total = table.sum(axis=1, keepdims=True)
    return np.divide(table, total, out=np.zeros_like(table), where=total > 0)


def _random_model(rng, outputs, places, symbols):
    """Log-probabilities that add a number for each symbol at each place, and one for neighbours."""
    alone = rng.normal(size=(outputs, places, symbols))
    pairs = rng.normal(size=(outputs, symbols, symbols))

    def model(source):
        found = sum(alone[:, s, x] for s, x in enumerate(source))
        return found + pairs[:, source[0], source[-1]]

    return model


@dependence.check
def a_reversal_by_hand(answer, rng):
    def model(source):
        wanted = [1, 0, 2]
        return np.array(
            [0.0 if x == y else -3.0 for x, y in zip(source[::-1], wanted, strict=True)]
        )

    expect_close(
        answer(model, [2, 0, 1], [0, 1, 2]), np.eye(3)[::-1], what="the table of a reversal"
    )


@dependence.check
def one_output_feels_nothing(answer, rng):
    def model(source):
        return np.array([-1.0 * source[0] - 0.25 * source[1], -2.0])

    expected = np.array([[0.8, 0.2], [0.0, 0.0]])
    expect_close(answer(model, [0, 1], [0, 1]), expected, what="a table with an indifferent output")


@dependence.check
def other_models(answer, rng):
    for outputs, places, symbols in ((3, 5, 4), (2, 3, 7)):
        model = _random_model(rng, outputs, places, symbols)
        source = rng.integers(0, symbols, places).tolist()
        given = list(source)
        received = answer(model, given, list(range(symbols)))
        expect(given == source, "the source was changed, and did not come back as it was")
        expected = dependence(model, source, list(range(symbols)))
        expect_close(received, expected, what=f"the table of {outputs} outputs")


def _dependence_variant(model, source, symbols, **how):
    source = list(source)
    before = np.asarray(model(list(source)), float)
    table = np.zeros((len(before), len(source)))
    for s, true in enumerate(source):
        others = [x for x in symbols if x != true]
        found = [np.asarray(model([*source[:s], x, *source[s + 1 :]])) - before for x in others]
        found = np.array(found)
        if how.get("probabilities"):
            found = np.exp(found + before) - np.exp(before)
        change = {
            "absolute": np.abs(found).mean(axis=0),
            "signed": found.mean(axis=0),
            "after": np.abs(found.mean(axis=0)),
            "square": (found**2).mean(axis=0),
            "root": np.sqrt((found**2).mean(axis=0)),
            "largest": np.abs(found).max(axis=0),
            "one": np.abs(found[0]),
            "next": np.abs(found[(list(symbols).index(true)) % len(others)]),
        }[how.get("change", "absolute")]
        table[:, s] = change
        if how.get("keeps"):
            source[s] = others[-1]
    axis = how.get("axis", 1)
    total = table.sum(axis=axis, keepdims=True)
    if how.get("softmax"):
        z = np.exp(table - table.max(axis=1, keepdims=True))
        return z / z.sum(axis=1, keepdims=True)
    if how.get("largest_is_one"):
        total = table.max(axis=1, keepdims=True)
    if how.get("plain"):
        return table
    with np.errstate(all="ignore"):
        if how.get("nan"):
            return table / total
    return np.divide(table, total, out=np.zeros_like(table), where=total != 0)


@dependence.mistake(
    "Changes up and down cancel in your mean. Of what should it be the mean?",
    change=("signed", "after"),
)
def changes_cancel(model, source, symbols, change):
    return _dependence_variant(model, source, symbols, change=change)


@dependence.mistake(
    "You square the changes. The statement asks for their size.", change=("square", "root")
)
def squared_changes(model, source, symbols, change):
    return _dependence_variant(model, source, symbols, change=change)


@dependence.mistake(
    "You tried one symbol at each place, or kept the one that changes most. Each other symbol "
    "counts.",
    change=("one", "next", "largest"),
)
def not_all_symbols(model, source, symbols, change):
    return _dependence_variant(model, source, symbols, change=change)


@dependence.mistake("Your columns add up to 1, not your rows. Which question does a row answer?")
def columns_add_up(model, source, symbols):
    return _dependence_variant(model, source, symbols, axis=0)


@dependence.mistake("Your table is transposed: outputs are rows.")
def transposed(model, source, symbols):
    return _dependence_variant(model, source, symbols).T


@dependence.mistake("Your rows do not add up to 1. One step is left.")
def not_divided(model, source, symbols):
    return _dependence_variant(model, source, symbols, plain=True)


@dependence.mistake(
    "Your rows were made comparable in another way: each entry should be divided by the sum of its "
    "row.",
    how=("softmax", "largest_is_one"),
)
def rows_in_another_way(model, source, symbols, how):
    return _dependence_variant(model, source, symbols, **{how: True})


@dependence.mistake("A row in which nothing changes is 0 divided by 0 in yours. What should it be?")
def zero_by_zero(model, source, symbols):
    return _dependence_variant(model, source, symbols, nan=True)


@dependence.mistake(
    "You compare probabilities. The change is one of log-probabilities, as the model returns them."
)
def probabilities_compared(model, source, symbols):
    return _dependence_variant(model, source, symbols, probabilities=True)


@dependence.mistake(
    "After a place was tried, your source keeps the last symbol that stood there. Everything else "
    "should be as it was."
)
def keeps_what_was_tried(model, source, symbols):
    return _dependence_variant(model, source, symbols, keeps=True)


@exercise(
    "A beam",
    difficulty=4,
    minutes=35,
    section="a-tree-on-which-greedy-loses",
    counterpart="chainrule.architectures.sequence_to_sequence.search:beam_search",
    idea="Keep two lists: beginnings that grow and outputs that are complete. In each step put all "
    "continuations together, sort them, and cut.",
)
def beam(step_fn, start, eos, width, max_len, power):
    """Return the outputs that beam search finds, best first: a list of (tokens, score).

    step_fn(token, state) returns an array with the logarithm of the probability of each next
    token, and the next state; the first call gets `start` and None. In each step every beginning
    is continued by every token with a probability above 0. Of all continuations the most probable
    live: as many as `width` minus the number of complete outputs. Those that end with `eos` are
    complete and grow no further. Beginnings of max_len tokens end without it. tokens is a tuple,
    without start, with eos. The score is the logarithm of the output's probability divided by the
    number of its tokens to the power `power`; the largest comes first.
    """
    growing, complete = [((), 0.0, None)], []
    for _ in range(max_len):
        longer = []
        for tokens, log_p, state in growing:
            found, after = step_fn(tokens[-1] if tokens else start, state)
            for token, more in enumerate(found):
                if more > -np.inf:
                    longer.append(((*tokens, token), log_p + float(more), after))
        longer = sorted(longer, key=lambda one: -one[1])[: width - len(complete)]
        complete += [one for one in longer if one[0][-1] == eos]
        growing = [one for one in longer if one[0][-1] != eos]
    scored = [(tokens, log_p / len(tokens) ** power) for tokens, log_p, _ in complete + growing]
    return sorted(scored, key=lambda one: -one[1])


@beam.by_package
def _(package, step_fn, start, eos, width, max_len, power):
    found = package(step_fn, start, eos, width, max_len, power)
    return [(one.tokens, one.score) for one in found]


def _table(rng, vocab):
    """A step whose probabilities depend on all that was written; some tokens have none."""
    found = {}

    def step(token, state):
        written = () if state is None else (*state, token)
        if written not in found:
            p = rng.dirichlet(np.ones(vocab))
            if len(written) % 2:
                p[1] = 0
            with np.errstate(divide="ignore"):
                found[written] = np.log(p / p.sum())
        return found[written].copy(), written

    return step


def _expect_outputs(received, expected, what):
    expect_equal([tuple(t) for t, _ in received], [t for t, _ in expected], what=f"outputs {what}")
    expect_close(
        np.array([s for _, s in received]), np.array([s for _, s in expected]),
        what=f"scores {what}",
    )  # fmt: skip


@beam.check
def the_tree_of_the_page(answer, rng):
    after = {1: [0, 0, 0.6, 0.4], 2: [0.4, 0, 0.3, 0.3], 3: [0.9, 0, 0.05, 0.05]}

    def step(token, state):
        with np.errstate(divide="ignore"):
            return np.log(after[token]), ()

    _expect_outputs(answer(step, 1, 0, 1, 5, 0), [((2, 0), math.log(0.24))], "of a beam of 1")
    expected = [((3, 0), math.log(0.36) / 2), ((2, 0), math.log(0.24) / 2)]
    _expect_outputs(answer(step, 1, 0, 2, 5, 1), expected, "of a beam of 2")


@beam.check
def random_tables(answer, rng):
    for vocab, width, max_len, power in ((4, 3, 4, 0.0), (5, 7, 3, 1.0), (3, 27, 3, 0.6)):
        step = _table(rng, vocab)
        expected = beam(step, 99, 0, width, max_len, power)
        _expect_outputs(
            answer(step, 99, 0, width, max_len, power), expected, f"of a beam of {width}"
        )


def _beam_variant(step_fn, start, eos, width, max_len, power, **how):
    def rank(one):
        length = len(one[0]) - (1 if how.get("without_eos") and one[0][-1] == eos else 0)
        return one[1] / max(length, 1) ** power

    growing, complete = [((), 0.0, None)], []
    for _ in range(max_len):
        longer = []
        for tokens, log_p, state in growing:
            found, after = step_fn(tokens[-1] if tokens else start, state)
            mine = []
            for token, more in enumerate(found):
                if more > -np.inf or how.get("impossible"):
                    together = float(more) if how.get("last_only") else log_p + float(more)
                    if how.get("multiplied") and tokens:
                        together = log_p * float(more)
                    kept = state if how.get("old_state") and state is not None else after
                    mine.append(((*tokens, token), together, kept))
            mine.sort(key=lambda one: -one[1])
            longer += mine[:1] if how.get("best_of_each") else mine
        longer.sort(key=lambda one: one[1] if how.get("worst") else -one[1])
        room = width if how.get("full_width") else width - len(complete)
        longer = longer[:room]
        complete += [one for one in longer if one[0][-1] == eos]
        growing = [one for one in longer if one[0][-1] != eos]
        if how.get("stops") and complete:
            break
    if how.get("never_complete"):
        complete = []
    ended = complete if how.get("cut_dropped") else complete + growing
    score = (lambda one: one[1]) if how.get("no_power") else rank
    if how.get("times"):
        score = lambda one: one[1] * len(one[0]) ** power  # noqa: E731
    if how.get("probability"):
        score = lambda one: math.exp(rank(one))  # noqa: E731
    by = (lambda one: one[1]) if how.get("ranked_by_p") else score
    ended.sort(key=lambda one: by(one) if how.get("ascending") else -by(one))
    cut = width if how.get("only_width") else len(ended)
    return [(t[:-1] if how.get("no_eos") and t[-1] == eos else t, score((t, p, s)))
            for t, p, s in ended[:cut]]  # fmt: skip


@beam.mistake(
    "A complete output has not given up its place: your beam stays as wide as before.",
    cut=(True, False),
)
def keeps_its_width(step_fn, start, eos, width, max_len, power, cut):
    return _beam_variant(
        step_fn, start, eos, width, max_len, power, full_width=True, only_width=cut
    )


@beam.mistake(
    "Each of your beginnings keeps its own best continuation. All continuations compete with each "
    "other: two may come from one beginning."
)
def best_of_each(step_fn, start, eos, width, max_len, power):
    return _beam_variant(step_fn, start, eos, width, max_len, power, best_of_each=True)


@beam.mistake(
    "You stop as soon as one output is complete. A beginning that still grows may lead to a better "
    "one."
)
def stops_at_the_first(step_fn, start, eos, width, max_len, power):
    return _beam_variant(step_fn, start, eos, width, max_len, power, stops=True)


@beam.mistake(
    "Beginnings that reach max_len are missing from your outputs. They end there, without `eos`."
)
def drops_what_is_cut(step_fn, start, eos, width, max_len, power):
    return _beam_variant(step_fn, start, eos, width, max_len, power, cut_dropped=True)


@beam.mistake("Your complete outputs are lost. Where do they wait until the end?")
def loses_what_is_complete(step_fn, start, eos, width, max_len, power):
    return _beam_variant(step_fn, start, eos, width, max_len, power, never_complete=True)


@beam.mistake("Your scores do not depend on the length. What is the logarithm divided by?")
def no_power(step_fn, start, eos, width, max_len, power):
    return _beam_variant(step_fn, start, eos, width, max_len, power, no_power=True)


@beam.mistake("You multiply by the power of the length. The page divides by it.")
def multiplies_by_the_length(step_fn, start, eos, width, max_len, power):
    return _beam_variant(step_fn, start, eos, width, max_len, power, times=True)


@beam.mistake(
    "Your scores are right, and their order is that of the probabilities. Which output has the "
    "largest score?"
)
def ranked_by_probability(step_fn, start, eos, width, max_len, power):
    return _beam_variant(step_fn, start, eos, width, max_len, power, ranked_by_p=True)


@beam.mistake("Your length leaves out `eos`. It is one of the output's tokens.")
def length_without_eos(step_fn, start, eos, width, max_len, power):
    return _beam_variant(step_fn, start, eos, width, max_len, power, without_eos=True)


@beam.mistake("Your outputs end before their `eos`. It belongs to them.")
def tokens_without_eos(step_fn, start, eos, width, max_len, power):
    return _beam_variant(step_fn, start, eos, width, max_len, power, no_eos=True)


@beam.mistake(
    "A beginning keeps only the logarithm of its last symbol. How probable is all of it together?"
)
def last_symbol_only(step_fn, start, eos, width, max_len, power):
    return _beam_variant(step_fn, start, eos, width, max_len, power, last_only=True)


@beam.mistake(
    "You multiply logarithms. Probabilities are multiplied; what happens to their logarithms then?"
)
def logarithms_multiplied(step_fn, start, eos, width, max_len, power):
    return _beam_variant(step_fn, start, eos, width, max_len, power, multiplied=True)


@beam.mistake("Your outputs stand from the worst to the best.")
def worst_first(step_fn, start, eos, width, max_len, power):
    return _beam_variant(step_fn, start, eos, width, max_len, power, ascending=True)


@beam.mistake(
    "Your beam keeps the least probable beginnings. In which order does your sort put logarithms?"
)
def keeps_the_worst(step_fn, start, eos, width, max_len, power):
    return _beam_variant(step_fn, start, eos, width, max_len, power, worst=True)


@beam.mistake(
    "Your scores are probabilities. The statement asks for logarithms, divided by a power of the "
    "length."
)
def scores_are_probabilities(step_fn, start, eos, width, max_len, power):
    return _beam_variant(step_fn, start, eos, width, max_len, power, probability=True)


@beam.mistake("Outputs of probability 0 stand in your beam. They are never written.")
def keeps_the_impossible(step_fn, start, eos, width, max_len, power):
    return _beam_variant(step_fn, start, eos, width, max_len, power, impossible=True)


@beam.mistake(
    "Your calls all get the same state. Which one belongs to a beginning, after its last symbol?"
)
def state_stands_still(step_fn, start, eos, width, max_len, power):
    return _beam_variant(step_fn, start, eos, width, max_len, power, old_state=True)
