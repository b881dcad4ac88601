"""Exercises of modern-llms/inference.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import exercise, expect_close, expect_equal
from chainrule.modern_llms.inference import Request


@exercise(
    "Seconds before you measure",
    difficulty=1,
    minutes=15,
    section="the-roofline",
    because="The package has the roofline itself; this puts weights, texts and caches into it.",
    idea="Count the bytes that a step moves, and what belongs to one text only. Count its products "
    "and sums. Two times follow, and they pass side by side.",
)
def step_seconds(parameters, bits, texts, cache_bytes, flops, bandwidth):
    """Return how long a step takes at least that gives each of several texts one token.

    Weights have so many bits each. cache_bytes are the keys and values of one text, read in full;
    leave the arithmetic on them out. flops and bandwidth are the operations and bytes of the
    device in a second. By hand first: 8 parameters of 4 bits, 3 texts with 2 bytes each, a device
    with 12 operations and 10 bytes a second.
    """
    moved = parameters * bits / 8 + texts * cache_bytes
    return max(2 * parameters * texts / flops, moved / bandwidth)


@step_seconds.check
def by_hand(answer, rng):
    what = "the seconds of 8 parameters of 4 bits, 3 texts with 2 bytes, 12 operations, 10 bytes"
    expect_close(answer(8, 4, 3, 2, 12, 10), 4.0, what=what)


@step_seconds.check
def both_sides_of_the_ridge(answer, rng):
    cases = [
        (70e9, 16, 1, 1.3e9, 989e12, 4.8e12),
        (7e9, 4.5, 9, 0.2e9, 989e12, 3.35e12),
        (7e9, 16, 700, 0, 989e12, 3.35e12),
        (1e9, 8, 1_000, 1e6, 50e12, 1e12),
    ]
    found = np.array([answer(*case) for case in cases])
    expect_close(found, np.array([step_seconds(*case) for case in cases]), what="the seconds")


@step_seconds.mistake("You read the weights as bytes. How many bits has a byte?")
def bits_as_bytes(parameters, bits, texts, cache_bytes, flops, bandwidth):
    return step_seconds(parameters, 8 * bits, texts, cache_bytes, flops, bandwidth)


@step_seconds.mistake("Are the weights read once for each text?")
def weights_for_each(parameters, bits, texts, cache_bytes, flops, bandwidth):
    moved = texts * (parameters * bits / 8 + cache_bytes)
    return max(2 * parameters * texts / flops, moved / bandwidth)


@step_seconds.mistake("Whose cache did you count? No two texts share theirs.")
def one_cache(parameters, bits, texts, cache_bytes, flops, bandwidth):
    moved = parameters * bits / 8 + cache_bytes
    return max(2 * parameters * texts / flops, moved / bandwidth)


@step_seconds.mistake("Reading and computing happen side by side. Do their times add up?")
def one_after_the_other(parameters, bits, texts, cache_bytes, flops, bandwidth):
    moved = parameters * bits / 8 + texts * cache_bytes
    return 2 * parameters * texts / flops + moved / bandwidth


@step_seconds.mistake("A weight is multiplied, and its product is added. You counted one of them.")
def products_alone(parameters, bits, texts, cache_bytes, flops, bandwidth):
    moved = parameters * bits / 8 + texts * cache_bytes
    return max(parameters * texts / flops, moved / bandwidth)


@step_seconds.mistake("Each text has products of its own. How many texts did you compute for?")
def products_of_one(parameters, bits, texts, cache_bytes, flops, bandwidth):
    moved = parameters * bits / 8 + texts * cache_bytes
    return max(2 * parameters / flops, moved / bandwidth)


@exercise(
    "A chat of many turns",
    difficulty=2,
    minutes=20,
    section="what-is-computed-twice",
    because="The package counts one answer; a chat is several, with or without what was kept.",
    idea="Write down, turn by turn, which tokens the cache holds when the question arrives. One "
    "token of each answer has not been read then.",
)
def chat_passes(questions, answers, kept):
    """Return how many tokens pass through a model with a cache in a chat of several turns.

    questions and answers are lists of lengths, one of each a turn. If kept is true, the cache
    stays from turn to turn; otherwise each turn starts by reading all that was said before. The
    last token of an answer is read with the next question, if there is one. By hand first:
    questions of 3 and 2 tokens, answers of 4 and 1.
    """
    passes = said = cached = 0
    for question, reply in zip(questions, answers, strict=True):
        said += question + reply
        passes += said - 1 - (cached if kept else 0)
        cached = said - 1
    return passes


@chat_passes.check
def two_turns(answer, rng):
    found = [answer([3, 2], [4, 1], kept) for kept in (True, False)]
    expect_equal(found, [9, 15], what="the passes of two turns, cache kept and not kept")


@chat_passes.check
def longer_chats(answer, rng):
    results = []
    for turns in (1, 5, 8):
        questions, answers = rng.integers(2, 50, (2, turns)).tolist()
        for kept in (True, False):
            found = answer(questions, answers, kept)
            what = f"the passes of {turns} turns, kept = {kept}"
            results.append((found, chat_passes(questions, answers, kept), what))
    for found, expected, what in results:
        expect_equal(found, expected, what=what)


@chat_passes.mistake("Who reads the last token that is written?")
def reads_the_last(questions, answers, kept):
    more = 1 if kept else len(questions)
    return chat_passes(questions, answers, kept) + more


@chat_passes.mistake("A turn ends with a token that is not in the cache. The next turn needs it.")
def forgets_the_last_of_each(questions, answers, kept):
    less = len(questions) - 1 if kept else 0
    return chat_passes(questions, answers, kept) - less


@chat_passes.mistake("Does a turn without the kept cache read only its own question?")
def own_question_alone(questions, answers, kept):
    if kept:
        return chat_passes(questions, answers, kept)
    return sum(questions) + sum(answers) - len(answers)


@chat_passes.mistake(
    "Within a turn there is a cache. Which tokens pass for an answer's second one?"
)
def no_cache_in_a_turn(questions, answers, kept):
    if kept:
        return chat_passes(questions, answers, kept)
    passes = said = 0
    for question, reply in zip(questions, answers, strict=True):
        passes += sum(said + question + i for i in range(reply))
        said += question + reply
    return passes


@chat_passes.mistake("A written token is read before the next is written. Do answers never pass?")
def answers_for_nothing(questions, answers, kept):
    passes = said = 0
    for question, reply in zip(questions, answers, strict=True):
        passes += question + (0 if kept else said)
        said += question + reply
    return passes


@chat_passes.mistake("What was said before a turn, and by whom?")
def forgets_the_answers(questions, answers, kept):
    if kept:
        return chat_passes(questions, answers, kept)
    before = sum(sum(questions[:i]) for i in range(len(questions)))
    return before + sum(questions) + sum(answers) - len(answers)


@exercise(
    "Out of the bits",
    difficulty=3,
    minutes=25,
    section="two-codes-in-a-byte",
    counterpart="chainrule.modern_llms.inference:unpack",
    idea="Write all bytes down as one row of bits, the lowest bit of each byte first. Cut the row "
    "into pieces, and read each piece from its lowest bit.",
)
def unpack_codes(packed, bits, count):
    """Return the first count codes that were packed into bytes, as an array of uint8.

    packed is an array of uint8. Codes have 1 to 8 bits. The first code lies in the lowest bits of
    the first byte, the next in the bits above it. A code may begin in one byte and end in the
    next. By hand first: the bytes 163 and 1, with codes of 4 bits and with codes of 3.
    """
    row = np.unpackbits(packed, bitorder="little")[: count * bits].reshape(count, bits)
    return (row * 2 ** np.arange(bits)).sum(axis=1).astype(np.uint8)


@unpack_codes.check
def two_bytes(answer, rng):
    packed = np.array([163, 1], np.uint8)
    found = [answer(packed, 4, 3).tolist(), answer(packed, 3, 4).tolist()]
    expect_equal(found, [[3, 10, 1], [3, 4, 6, 0]], what="three codes of 4 bits and four of 3")


@unpack_codes.check
def all_sizes(answer, rng):
    results = []
    for bits, count in ((4, 7), (3, 11), (2, 13), (5, 8), (8, 3), (1, 17)):
        packed = rng.integers(0, 256, -(-bits * count // 8)).astype(np.uint8)
        found = answer(packed, bits, count).tolist()
        expected = unpack_codes(packed, bits, count).tolist()
        results.append((found, expected, f"{count} codes of {bits} bits"))
    for found, expected, what in results:
        expect_equal(found, expected, what=what)


@unpack_codes.mistake("In which half of a byte does its first code lie?")
def highest_first(packed, bits, count):
    row = np.unpackbits(packed)[: count * bits].reshape(count, bits)
    return (row * 2 ** np.arange(bits)[::-1]).sum(axis=1).astype(np.uint8)


@unpack_codes.mistake("Within a code, which of its bits comes first in the byte?")
def reversed_codes(packed, bits, count):
    row = np.unpackbits(packed, bitorder="little")[: count * bits].reshape(count, bits)
    return (row * 2 ** np.arange(bits)[::-1]).sum(axis=1).astype(np.uint8)


@unpack_codes.mistake("Codes of 3 bits in bytes of 8: does a byte's end also end a code?")
def none_crosses(packed, bits, count):
    each = 8 // bits
    found = [int(byte) >> bits * i & 2**bits - 1 for byte in packed for i in range(each)]
    return np.array(found[:count], np.uint8)


@unpack_codes.mistake("Where is the rest of a code that begins in one byte and ends in the next?")
def loses_the_rest(packed, bits, count):
    found = [int(packed[i * bits // 8]) >> i * bits % 8 & 2**bits - 1 for i in range(count)]
    return np.array(found, np.uint8)


@unpack_codes.mistake("Your first code comes from the last byte. Where does the first one lie?")
def last_byte_first(packed, bits, count):
    whole = int.from_bytes(packed.tobytes(), "big")
    return np.array([whole >> bits * i & 2**bits - 1 for i in range(count)], np.uint8)


@exercise(
    "Who is served when",
    difficulty=3,
    minutes=30,
    section="three-ways-to-fill-two-places",
    counterpart="chainrule.modern_llms.inference:simulate_serving",
    idea="Keep a list of those in a place, with what they still want. One loop is one step: let "
    "in, let time pass, give out, let go.",
)
def finish_times(arrivals, lengths, places):
    """Return a list: when each request gets its last token. Free places are filled at every step.

    arrivals are whole numbers in increasing order, lengths the tokens that are wanted, at least
    one each. A step takes one unit of time and gives one token to each request that is in a place;
    reading prompts takes no time of its own. A request that arrives at time t can take part in the
    step that begins at t. By hand first: arrivals 0, 0, 1, lengths 3, 1, 2 and two places.
    """
    finished = [0] * len(arrivals)
    wanted, inside, following, now = list(lengths), [], 0, 0
    while inside or following < len(arrivals):
        if not inside:
            now = max(now, arrivals[following])
        while following < len(arrivals) and len(inside) < places and arrivals[following] <= now:
            inside.append(following)
            following += 1
        now += 1
        for i in inside:
            wanted[i] -= 1
            finished[i] = now
        inside = [i for i in inside if wanted[i]]
    return finished


@finish_times.by_package
def _(package, arrivals, lengths, places):
    requests = [Request(float(t), 1, int(n)) for t, n in zip(arrivals, lengths, strict=True)]
    served = package(requests, "continuous", places, lambda tokens: 1.0).served
    return [s.times[-1] for s in served]


@finish_times.check
def three_requests(answer, rng):
    what = "the times for arrivals 0, 0, 1, lengths 3, 1, 2 and two places"
    expect_equal([int(t) for t in answer([0, 0, 1], [3, 1, 2], 2)], [3, 1, 3], what=what)


@finish_times.check
def queues(answer, rng):
    results = []
    for n, places in ((7, 1), (23, 3), (31, 5)):
        arrivals = np.sort(rng.integers(0, 40, n)).tolist()
        lengths = rng.integers(1, 12, n).tolist()
        found = [int(t) for t in answer(arrivals, lengths, places)]
        what = f"the times of {n} requests in {places} places"
        results.append((found, finish_times(arrivals, lengths, places), what))
    for found, expected, what in results:
        expect_equal(found, expected, what=what)


def _together(arrivals, lengths, places, full):
    finished, first, now = [], 0, 0
    while first < len(arrivals):
        last = min(first + places, len(arrivals))
        if full:
            now = max(now, arrivals[last - 1])
        else:
            now = max(now, arrivals[first])
            last = first + sum(t <= now for t in arrivals[first:last])
        finished += [now + n for n in lengths[first:last]]
        now += max(lengths[first:last])
        first = last
    return finished


@finish_times.mistake(
    "Your batch stays together until its longest is done. Who could enter sooner?"
)
def stays_together(arrivals, lengths, places):
    return _together(arrivals, lengths, places, full=False)


@finish_times.mistake("You wait for a full batch. Does anybody have to wait at an empty machine?")
def waits_for_all(arrivals, lengths, places):
    return _together(arrivals, lengths, places, full=True)


@finish_times.mistake("You let everybody in at once. How many places are there?")
def no_limit(arrivals, lengths, places):
    return [t + n for t, n in zip(arrivals, lengths, strict=True)]


@finish_times.mistake("Your times are those at which the last step begins. When does it end?")
def begins_the_last_step(arrivals, lengths, places):
    return [t - 1 for t in finish_times(arrivals, lengths, places)]


@finish_times.mistake("Which of those that wait came first?")
def shortest_first(arrivals, lengths, places):
    wanted, inside, finished, now = list(lengths), [], [0] * len(arrivals), 0
    waiting = list(range(len(arrivals)))
    while inside or waiting:
        there = sorted((i for i in waiting if arrivals[i] <= now), key=lambda i: lengths[i])
        let_in = there[: places - len(inside)]
        inside, waiting = inside + let_in, [i for i in waiting if i not in let_in]
        now += 1
        for i in inside:
            wanted[i] -= 1
            finished[i] = now
        inside = [i for i in inside if wanted[i]]
    return finished


@finish_times.mistake("Does a request that arrives at time t have to wait until t + 1?")
def a_step_late(arrivals, lengths, places):
    return finish_times([t + 1 for t in arrivals], lengths, places)


@finish_times.mistake("Who says which place is free next? It need not be the next in turn.")
def places_in_turn(arrivals, lengths, places):
    finished = []
    for i, (arrival, length) in enumerate(zip(arrivals, lengths, strict=True)):
        free = finished[i - places] if i >= places else 0
        finished.append(max(arrival, free) + length)
    return finished


@exercise(
    "Judge a row of guesses",
    difficulty=4,
    minutes=40,
    section="keep-or-replace",
    because="The package draws its random numbers itself; here they are given, so as to compare.",
    idea="Row i of the target was made before guess i was read, and belongs to it. Walk along the "
    "guesses, and stop at the first that its own number refuses.",
)
def judge(p, q, guesses, u, v):
    """Return the tokens of a speculative step as a list: those kept, and one more.

    p has the shape (γ + 1, vocabulary): the target's chances at each place, one more place than
    guesses. q has the shape (γ, vocabulary): the draft's. Guess i is kept if u[i]·q is below p,
    both taken at the guess; u has γ numbers from 0 to 1. The last token is drawn with the one
    number v: it is the first whose cumulative chance exceeds v. By hand first: p is
    (0.5, 0.3, 0.2) at both places, q is (0.2, 0.6, 0.2), the guess is 1, v is 0.9, and u is once
    0.4 and once 0.6.
    """
    tokens = []
    law = p[-1]
    for i, guess in enumerate(guesses):
        if not u[i] * q[i, guess] < p[i, guess]:
            law = np.maximum(p[i] - q[i], 0)
            break
        tokens.append(int(guess))
    cumulative = np.cumsum(law / law.sum())
    return [*tokens, int(np.argmax(cumulative > v))]


@judge.check
def one_guess(answer, rng):
    p, q = np.array([[0.5, 0.3, 0.2]] * 2), np.array([[0.2, 0.6, 0.2]])
    found = [list(answer(p, q, [1], [u], 0.9)) for u in (0.4, 0.6)]
    expect_equal(found, [[1, 2], [0]], what="the tokens for u = 0.4 and u = 0.6")


@judge.check
def many_steps(answer, rng):
    results = []
    for gamma, vocabulary in ((1, 5), (4, 7), (3, 11), (6, 3)):
        found, expected = [], []
        for _ in range(20):
            p = rng.dirichlet(np.ones(vocabulary), gamma + 1)
            q = rng.dirichlet(np.full(vocabulary, 3.0), gamma)
            guesses = [int(rng.choice(vocabulary, p=row)) for row in q]
            u, v = rng.random(gamma), rng.random()
            found.append([int(t) for t in answer(p, q, guesses, u, v)])
            expected.append(judge(p, q, guesses, u, v))
        results.append((found, expected, f"the tokens of 20 steps with γ = {gamma}"))
    for found, expected, what in results:
        expect_equal(found, expected, what=what)


def _judged(p, q, guesses, u, v, keep, replace, extra=True, go_on=False):
    tokens, law = [], p[-1] if extra else None
    for i, guess in enumerate(guesses):
        if not keep(p, q, i, guess, u[i]):
            law = replace(p, q, i)
            if go_on:
                continue
            break
        tokens.append(int(guess))
    if law is None:
        return tokens
    law = law if law.sum() > 0 else np.ones_like(law)
    return [*tokens, int(np.argmax(np.cumsum(law / law.sum()) > v))]


def _keeps(p, q, i, guess, u):
    return u * q[i, guess] < p[i, guess]


def _rest(p, q, i):
    return np.maximum(p[i] - q[i], 0)


@judge.mistake("A refused guess is replaced from the target's own law. What is already covered?")
def replaced_from_p(p, q, guesses, u, v):
    return _judged(p, q, guesses, u, v, _keeps, lambda p, q, i: p[i])


@judge.mistake("Which of the two chances is divided by which?")
def ratio_upside_down(p, q, guesses, u, v):
    return _judged(p, q, guesses, u, v, lambda p, q, i, g, u: u * p[i, g] < q[i, g], _rest)


@judge.mistake("The row that you judge by has already read the guess.")
def one_row_late(p, q, guesses, u, v):
    def keeps(p, q, i, g, u):
        return u * q[i, g] < p[i + 1, g]

    return _judged(p, q, guesses, u, v, keeps, lambda p, q, i: np.maximum(p[i + 1] - q[i], 0))


@judge.mistake("If all are kept, one more token is free.")
def nothing_extra(p, q, guesses, u, v):
    return _judged(p, q, guesses, u, v, _keeps, _rest, extra=False)


@judge.mistake("What is a guess worth that was made after a refused one?")
def goes_on(p, q, guesses, u, v):
    return _judged(p, q, guesses, u, v, _keeps, _rest, go_on=True)


@judge.mistake(
    "Where the draft proposes too much, nothing is missing. Can a difference be negative?"
)
def absolute_difference(p, q, guesses, u, v):
    return _judged(p, q, guesses, u, v, _keeps, lambda p, q, i: np.abs(p[i] - q[i]))


@judge.mistake("You keep a guess if the target likes it best. That is the rule without chance.")
def likeliest_alone(p, q, guesses, u, v):
    return _judged(p, q, guesses, u, v, lambda p, q, i, g, u: p[i].argmax() == g, _rest)


@judge.mistake("The chances of a replacement have to add up to 1. What do yours add up to?")
def not_divided(p, q, guesses, u, v):
    tokens = judge(p, q, guesses, u, v)
    i = len(tokens) - 1
    law = _rest(p, q, i) if i < len(guesses) else p[-1]
    return [*tokens[:-1], int(np.argmax(np.cumsum(law) > v))]


@judge.mistake("Is a guess judged by the target's chance alone? What did the draft give it?")
def whatever_the_draft(p, q, guesses, u, v):
    return _judged(p, q, guesses, u, v, lambda p, q, i, g, u: u < p[i, g], _rest)


@judge.mistake("The last token is drawn. Where does v come in?")
def likeliest_at_the_end(p, q, guesses, u, v):
    tokens = judge(p, q, guesses, u, v)
    i = len(tokens) - 1
    law = _rest(p, q, i) if i < len(guesses) else p[-1]
    return [*tokens[:-1], int(law.argmax())]


@exercise(
    "Round, and let the rest make up for it",
    difficulty=5,
    minutes=45,
    section="errors-that-make-up-for-each-other",
    because="The package rounds all rows with scales and damping; this is one row on a fixed grid.",
    idea="After each column, ask for the free weights that change the outputs least, with what is "
    "fixed. The free columns of the inputs alone have to explain what is missing.",
)
def round_row(w, x, step):
    """Return the row w, rounded to multiples of step, column after column, as GPTQ does.

    x has the shape (examples, inputs), with more examples than inputs and independent columns.
    Each weight is rounded to the nearest multiple (np.rint) of what it is when its turn comes.
    w itself stays as it is. By hand first: w is (0.6, 0.8), the examples are (1, 1) and (1, 0),
    and step is 1.
    """
    free, rounded = w.astype(float), np.zeros(len(w))
    for j in range(len(w)):
        rounded[j] = step * np.rint(free[j] / step)
        missing = x @ w - x[:, : j + 1] @ rounded[: j + 1]
        if j + 1 < len(w):
            free[j + 1 :] = np.linalg.lstsq(x[:, j + 1 :], missing, rcond=None)[0]
    return rounded


@round_row.check
def two_weights(answer, rng):
    found = answer(np.array([0.6, 0.8]), np.array([[1.0, 1.0], [1.0, 0.0]]), 1.0)
    expect_close(found, np.array([1.0, 0.0]), what="the row (0.6, 0.8) in whole numbers")


@round_row.check
def longer_rows(answer, rng):
    results = []
    for size, examples, step in ((5, 23, 0.5), (11, 41, 0.25), (7, 19, 1.0)):
        found, expected = [], []
        for _ in range(9):
            x = rng.normal(size=(examples, size)) @ rng.normal(size=(size, size))
            w = rng.normal(size=size)
            found.append(answer(w, x, step))
            expected.append(round_row(w, x, step))
        what = f"nine rows of {size} weights in steps of {step}"
        results.append((np.array(found), np.array(expected), what))
    for found, expected, what in results:
        expect_close(found, expected, what=what)


def _by_inverse(w, x, step, sign, shrinks):
    free, rounded, h = w.astype(float), np.zeros(len(w)), x.T @ x
    whole = np.linalg.inv(h)
    for j in range(len(w)):
        rounded[j] = step * np.rint(free[j] / step)
        row = np.linalg.inv(h[j:, j:])[0] if shrinks else whole[j, j:]
        free[j + 1 :] -= sign * (free[j] - rounded[j]) / row[0] * row[1:]
    return rounded


@round_row.mistake("Each weight went to its own nearest. Who makes up for the first error?")
def to_the_nearest(w, x, step):
    return step * np.rint(w / step)


@round_row.mistake("Your free weights move the wrong way: they add to the error.")
def wrong_sign(w, x, step):
    return _by_inverse(w, x, step, -1, True)


@round_row.mistake("You use one inverse for all columns. Which columns are still free?")
def inverse_of_all(w, x, step):
    return _by_inverse(w, x, step, 1, False)


@round_row.mistake("Which weights are free when one has been rounded? The next one alone?")
def only_the_next(w, x, step):
    free, rounded = w.astype(float), np.zeros(len(w))
    for j in range(len(w)):
        rounded[j] = step * np.rint(free[j] / step)
        if j + 1 < len(w):
            off = x[:, j] * (free[j] - rounded[j])
            free[j + 1] += x[:, j + 1] @ off / (x[:, j + 1] @ x[:, j + 1])
    return rounded


@round_row.mistake("You return codes. Of what are they multiples?")
def codes_alone(w, x, step):
    return round_row(w, x, step) / step


@round_row.mistake("Column after column: which comes first?")
def from_the_last(w, x, step):
    return round_row(w[::-1], x[:, ::-1], step)[::-1]
