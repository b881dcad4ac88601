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


@exercise(
    "What each output depends on",
    difficulty=4,
    minutes=30,
    section="the-motivation-for-attention",
    because="the package only measures gradients of its own models",
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
