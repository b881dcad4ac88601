"""Exercises of transformers/gpt.md."""

from __future__ import annotations

from math import comb

import numpy as np

from chainrule.course.exercises import (
    exercise,
    expect,
    expect_close,
    expect_equal,
    expect_raises,
)
from chainrule.data.text import CharTokenizer
from chainrule.math_foundations.probability import softmax
from chainrule.neural_networks.backpropagation import Tensor
from chainrule.transformers.gpt import gpt_config


@exercise(
    "How fast did it grow?",
    difficulty=1,
    minutes=10,
    section="from-gpt-1-to-gpt-4-conceptual",
    because="A calculation from published numbers; no part of the package needs it.",
    idea="Count the operations of both trainings. How often must the first be doubled to make the "
    "second? Divide the time between them by that.",
)
def doubling_months(first, second):
    """Return in how many months the operations of training doubled, from one model to another.

    Both are given as (year, parameters, tokens in training). By hand first: (2018, 1e8, 1e9) and
    (2020, 4e8, 4e9).
    """
    (year, n, d), (later, more_n, more_d) = first, second
    doublings = np.log2(6 * more_n * more_d / (6 * n * d))
    return 12 * (later - year) / doublings


@doubling_months.check
def four_doublings(answer, rng):
    what = "the months from (2018, 1e8, 1e9) to (2020, 4e8, 4e9)"
    expect_close(answer((2018, 1e8, 1e9), (2020, 4e8, 4e9)), 6.0, what=what)


@doubling_months.check
def other_models(answer, rng):
    for _ in range(3):
        n, d, up, more = rng.uniform(2, 50, 4)
        first, second = (2018.5, n * 1e8, d * 1e9), (2021, n * up * 1e8, d * more * 1e9)
        what = f"the months for {up:.1f} times the parameters and {more:.1f} times the tokens"
        expect_close(answer(first, second), 30 / np.log2(up * more), what=what)


@doubling_months.mistake("You compared the sizes. The operations also grow with the text.")
def parameters_alone(first, second):
    return 12 * (second[0] - first[0]) / np.log2(second[1] / first[1])


@doubling_months.mistake("You compared the texts. The operations also grow with the model.")
def tokens_alone(first, second):
    return 12 * (second[0] - first[0]) / np.log2(second[2] / first[2])


@doubling_months.mistake("That is the time in which they grow by the factor e, not by 2.")
def natural_logarithm(first, second):
    ratio = second[1] * second[2] / (first[1] * first[2])
    return 12 * (second[0] - first[0]) / np.log(ratio)


@doubling_months.mistake("Your answer is in years.")
def in_years(first, second):
    return doubling_months(first, second) / 12


@doubling_months.mistake("That is how often it doubled in a month. What was asked?")
def upside_down(first, second):
    return 1 / doubling_months(first, second)


@exercise(
    "At least one of k",
    difficulty=2,
    minutes=15,
    section="abilities-that-appear",
    counterpart="chainrule.transformers.gpt:pass_at_k",
    idea="For each task, count the right answers. Then ask for the chance that k answers, taken "
    "without putting back, are all wrong.",
)
def pass_at_each_k(right):
    """Return pass@1, pass@2, …, pass@n as an array, each the mean over all tasks.

    right is a Boolean array of shape (tasks, n): which of the n answers drawn for a task are right.
    By hand first: one task with three answers, of which one is right.
    """
    n = right.shape[1]
    wrong = (~right).sum(axis=1)
    return np.array(
        [np.mean([1 - comb(int(w), k) / comb(n, k) for w in wrong]) for k in range(1, n + 1)]
    )


@pass_at_each_k.by_package
def _(package, right):
    n = right.shape[1]
    counts = right.sum(axis=1)
    return np.array([np.mean([package(n, int(c), k) for c in counts]) for k in range(1, n + 1)])


@pass_at_each_k.check
def one_task(answer, rng):
    right = np.array([[False, True, False]])
    what = "pass@1 to pass@3 with one right answer of three"
    expect_close(answer(right), np.array([1 / 3, 2 / 3, 1.0]), what=what)


@pass_at_each_k.check
def several_tasks(answer, rng):
    for tasks, n in ((5, 7), (11, 4)):
        right = rng.random((tasks, n)) < rng.random((tasks, 1))
        expected = pass_at_each_k(right)
        expect_close(answer(right), expected, what=f"pass@1 to pass@{n} over {tasks} tasks")


@pass_at_each_k.mistake(
    "You draw each answer anew with the share of right ones. With one right of three, can three "
    "different answers all be wrong?"
)
def with_replacement(right):
    n, share = right.shape[1], right.mean(axis=1)
    return np.array([(1 - (1 - share) ** k).mean() for k in range(1, n + 1)])


@pass_at_each_k.mistake("You mixed the answers of all tasks. A task is solved or not by its own.")
def all_tasks_as_one(right):
    n, share = right.shape[1], right.mean()
    return np.array([1 - (1 - share) ** k for k in range(1, n + 1)])


@pass_at_each_k.mistake("That is the chance that all k are wrong.")
def none_is_right(right):
    return 1 - pass_at_each_k(right)


@pass_at_each_k.mistake("You ask whether the first k are right. Any k of the n could be taken.")
def the_first_k(right):
    return np.maximum.accumulate(right, axis=1).mean(axis=0)


@exercise(
    "Any GPT, counted",
    difficulty=2,
    minutes=20,
    section="counting-gpt-2-in-one-line",
    counterpart="chainrule.transformers.transformer_architecture:count_params",
    idea="List the matrices of one block with their biases, and the gains of its two norms. Only "
    "the two matrices of the feed-forward layer see its inner width.",
)
def gpt_size(vocabulary, context, layers, width, hidden, tied):
    """Return the number of parameters of a GPT-2 with a feed-forward layer of any inner width.

    Everything is as in GPT-2: biases everywhere but at the output, layer norms with gain and bias,
    a table of context positions. hidden is the width inside the feed-forward layer. If tied is
    false, the output has a table of its own. By hand first: vocabulary 2, context 3, one block of
    width 1, hidden 5, tied.
    """
    attention = 4 * width * width + 4 * width
    feed_forward = 2 * width * hidden + hidden + width
    block = attention + feed_forward + 4 * width
    tables = (vocabulary if tied else 2 * vocabulary) + context
    return tables * width + layers * block + 2 * width


@gpt_size.by_package
def _(package, vocabulary, context, layers, width, hidden, tied):
    return package(gpt_config(vocabulary, context, layers, 1, width, hidden=hidden, tied=tied))


@gpt_size.check
def by_hand(answer, rng):
    what = "the parameters of vocabulary 2, context 3, one block of width 1, hidden 5, tied"
    expect_close(answer(2, 3, 1, 1, 5, True), 35, what=what)


@gpt_size.check
def the_family(answer, rng):
    for name, layers, width, expected in (
        ("medium", 24, 1024, 354_823_168),
        ("large", 36, 1280, 774_030_080),
        ("XL", 48, 1600, 1_557_611_200),
    ):
        found = answer(50_257, 1024, layers, width, 4 * width, True)
        expect_close(found, expected, what=f"the parameters of GPT-2 {name}")


@gpt_size.check
def other_widths(answer, rng):
    for hidden, tied in ((17, False), (40, True), (5, False)):
        what = f"the parameters with hidden {hidden}, tied {tied}"
        expected = gpt_size(23, 11, 3, 7, hidden, tied)
        expect_close(answer(23, 11, 3, 7, hidden, tied), expected, what=what)


@gpt_size.mistake("The inner width is not always four times the width.")
def four_times(vocabulary, context, layers, width, hidden, tied):
    return gpt_size(vocabulary, context, layers, width, 4 * width, tied)


@gpt_size.mistake("You left out the biases of the matrices.")
def no_biases(vocabulary, context, layers, width, hidden, tied):
    full = gpt_size(vocabulary, context, layers, width, hidden, tied)
    return full - layers * (5 * width + hidden)


@gpt_size.mistake("After the last block stands one more normalization.")
def no_last_norm(vocabulary, context, layers, width, hidden, tied):
    return gpt_size(vocabulary, context, layers, width, hidden, tied) - 2 * width


@gpt_size.mistake("A block normalizes twice, and a layer norm has a gain and a bias.")
def no_norms_in_blocks(vocabulary, context, layers, width, hidden, tied):
    return gpt_size(vocabulary, context, layers, width, hidden, tied) - 4 * layers * width


@gpt_size.mistake("Does a block normalize only once?")
def one_norm(vocabulary, context, layers, width, hidden, tied):
    return gpt_size(vocabulary, context, layers, width, hidden, tied) - 2 * layers * width


@gpt_size.mistake("Read once more what tied means: which of the two has one table?")
def tied_the_wrong_way(vocabulary, context, layers, width, hidden, tied):
    return gpt_size(vocabulary, context, layers, width, hidden, not tied)


@gpt_size.mistake("Where are the positions?")
def no_positions(vocabulary, context, layers, width, hidden, tied):
    return gpt_size(vocabulary, 0, layers, width, hidden, tied)


@gpt_size.mistake("A tied output uses the table of the input. It is one set of numbers.")
def never_tied(vocabulary, context, layers, width, hidden, tied):
    return gpt_size(vocabulary, context, layers, width, hidden, False)


@gpt_size.mistake("If the output is not tied, it has a table of its own.")
def always_tied(vocabulary, context, layers, width, hidden, tied):
    return gpt_size(vocabulary, context, layers, width, hidden, True)


@exercise(
    "Score an answer in one pass",
    difficulty=2,
    minutes=20,
    section="causal-masking",
    because="Scoring given answers belongs to evaluation; the package has the loss of whole texts.",
    idea="Put prompt and answer together and ask once. Which row was made before the first token "
    "of the answer had been read?",
)
def answer_log_probability(predict, prompt, reply):
    """Return log P(reply | prompt), of all its tokens together, with one call of predict.

    predict is a causal model: it takes ids of shape (time,) and returns scores of shape
    (time, vocabulary), before the softmax; row t answers for what follows token t. prompt and
    reply are arrays of ids, neither of them empty.
    """
    logits = predict(np.concatenate([prompt, reply]))
    rows = logits[len(prompt) - 1 : -1]
    top = rows.max(axis=1, keepdims=True)
    log_total = np.log(np.exp(rows - top).sum(axis=1)) + top[:, 0]
    return float((rows[np.arange(len(reply)), reply] - log_total).sum())


class _Causal:
    """A stand-in for a model: scores depend on all tokens so far, and calls are counted."""

    def __init__(self, rng, vocabulary=7):
        self.table = rng.normal(size=(vocabulary, vocabulary))
        self.calls = 0

    def __call__(self, ids):
        self.calls += 1
        seen = np.cumsum(self.table[ids], axis=0)
        return 3 * np.tanh(seen) + np.arange(len(ids))[:, None]


@answer_log_probability.check
def one_token_at_a_time(answer, rng):
    for before, after in ((1, 1), (3, 5), (6, 2)):
        model = _Causal(rng)
        prompt, reply = rng.integers(0, 7, before), rng.integers(0, 7, after)
        expected = 0.0
        for t in range(after):
            p = softmax(model(np.concatenate([prompt, reply[:t]]))[-1])
            expected += float(np.log(p[reply[t]]))
        model.calls = 0
        found = answer(model, prompt, reply)
        expect_close(found, expected, what=f"log P of {after} tokens after {before}")
        expect(model.calls == 1, f"predict was called {model.calls} times; once is enough")


@answer_log_probability.check
def large_scores(answer, rng):
    def sure(ids):
        scores = np.zeros((len(ids), 5))
        scores[:, 2] = 2000.0
        return scores

    found = answer(sure, np.array([0, 1]), np.array([2, 2, 4]))
    expect_close(found, -2000.0, what="log P where scores reach 2,000")


@answer_log_probability.mistake(
    "You read each token's chance from its own row. That row has already read it."
)
def own_row(predict, prompt, reply):
    logits = predict(np.concatenate([prompt, reply]))[len(prompt) :]
    return float(np.sum([np.log(softmax(z))[w] for z, w in zip(logits, reply, strict=True)]))


@answer_log_probability.mistake("That is the mean over the tokens. What is asked is their product.")
def mean_of_tokens(predict, prompt, reply):
    return answer_log_probability(predict, prompt, reply) / len(reply)


@answer_log_probability.mistake("You added scores. What turns scores into log-probabilities?")
def raw_scores(predict, prompt, reply):
    rows = predict(np.concatenate([prompt, reply]))[len(prompt) - 1 : -1]
    return float(rows[np.arange(len(reply)), reply].sum())


@answer_log_probability.mistake("You also score the prompt. It is given.")
def scores_the_prompt(predict, prompt, reply):
    ids = np.concatenate([prompt, reply])
    rows = predict(ids)[:-1]
    return float(np.sum([np.log(softmax(z))[w] for z, w in zip(rows, ids[1:], strict=True)]))


@answer_log_probability.mistake("That is minus the logarithm: a loss. What sign was asked for?")
def as_a_loss(predict, prompt, reply):
    return -answer_log_probability(predict, prompt, reply)


@answer_log_probability.mistake("The model must see the prompt, or it answers another question.")
def without_the_prompt(predict, prompt, reply):
    rows = predict(np.concatenate([prompt[-1:], reply]))[:-1]
    return float(np.sum([np.log(softmax(z))[w] for z, w in zip(rows, reply, strict=True)]))


@exercise(
    "Numbers for characters",
    difficulty=2,
    minutes=10,
    section="autoregressive-language-modeling",
    counterpart="chainrule.data.text:CharTokenizer.encode",
    idea="Make a dictionary of the alphabet once, instead of searching it for each character.",
)
def text_to_ids(text, alphabet):
    """Return the number of each character of a text: its place in the alphabet, from 0.

    alphabet is a text in which each character stands once. The result is an array of int64, one
    number a character; the text may have a million. Raise a ValueError that names the character if
    one is not in the alphabet.
    """
    places = {character: place for place, character in enumerate(alphabet)}
    unknown = sorted(set(text) - set(places))
    if unknown:
        raise ValueError(f"not in the alphabet: {unknown}")
    return np.array([places[character] for character in text], dtype=np.int64)


@text_to_ids.by_package
def _(package, text, alphabet):
    try:
        return package(CharTokenizer(alphabet), text)
    except ValueError as error:  # the package's own kind of it
        raise ValueError(str(error)) from None


@text_to_ids.in_package
def _(mine, tokenizer, text):
    return mine(text, tokenizer.alphabet)


@text_to_ids.check
def banana(answer, rng):
    received = answer("banana", "abn")
    expect_equal(list(received), [1, 0, 2, 0, 2, 0], what="the numbers of 'banana' in 'abn'")
    expect_equal(str(np.asarray(received).dtype), "int64", what="the type of the numbers")


@text_to_ids.check
def in_the_order_of_the_alphabet(answer, rng):
    alphabet = "zaé\nB "
    numbers = rng.integers(0, len(alphabet), size=50)
    text = "".join(alphabet[i] for i in numbers)
    expect_equal(list(answer(text, alphabet)), list(numbers), what=f"the numbers of {text!r}")


@text_to_ids.check
def what_is_not_there(answer, rng):
    expect_equal(len(answer("", "ab")), 0, what="how many numbers an empty text has")
    expect_raises(ValueError, answer, "abc", "ab")


@text_to_ids.mistake("Your numbers are those of Unicode. Which place has the alphabet for each?")
def code_points(text, alphabet):
    if not set(text) <= set(alphabet):
        raise ValueError("unknown")
    return np.array([ord(c) for c in text], dtype=np.int64)


@text_to_ids.mistake(
    "You count places from 1. The first character of the alphabet has the place 0."
)
def counts_from_one(text, alphabet):
    return text_to_ids(text, alphabet) + 1


@text_to_ids.mistake(
    "You number the characters in an order of your own. The places are those in the alphabet given."
)
def sorts_the_alphabet(text, alphabet):
    return text_to_ids(text, "".join(sorted(alphabet)))


@text_to_ids.mistake(
    "An unknown character silently gets a number. Whoever trains on that never hears of it."
)
def find_says_minus_one(text, alphabet):
    return np.array([alphabet.find(c) for c in text], dtype=np.int64)


@text_to_ids.mistake(
    "An unknown character vanishes, and your numbers are fewer than the characters. Whoever trains "
    "on that never hears of it."
)
def leaves_unknown_ones_out(text, alphabet):
    return text_to_ids("".join(c for c in text if c in alphabet), alphabet)


@exercise(
    "Windows of a text",
    difficulty=2,
    minutes=15,
    section="one-text-many-examples",
    counterpart="chainrule.transformers.gpt:windows",
    idea="Take one token more than the context from each start; inputs and targets overlap in all "
    "but one token.",
)
def windows(ids, starts, context):
    """Return inputs and targets, each of shape (batch, context), of a text of token numbers.

    Row i of the inputs holds the context tokens from place starts[i] on. Each target is the token
    that follows its input. Raise a ValueError if a start is negative or its last target would lie
    behind the end; ids has one axis.
    """
    starts = np.asarray(starts)
    if len(starts) and (starts.min() < 0 or starts.max() + context >= len(ids)):
        raise ValueError(f"starts from 0 to {len(ids) - context - 1}, got {starts}")
    rows = ids[starts[:, None] + np.arange(context + 1)]
    return rows[:, :-1], rows[:, 1:]


def _two(received):
    expect(
        isinstance(received, tuple | list) and len(received) == 2,
        "return two things: inputs and targets",
    )
    return received


@windows.check
def two_of_three(answer, rng):
    inputs, targets = _two(answer(np.array([10, 11, 12, 13, 14, 15]), np.array([0, 2]), 3))
    expect_close(inputs, np.array([[10, 11, 12], [12, 13, 14]]), what="the inputs from 0 and 2")
    expect_close(targets, np.array([[11, 12, 13], [13, 14, 15]]), what="the targets from 0 and 2")


@windows.check
def random_starts(answer, rng):
    ids, starts = rng.integers(0, 97, size=200), rng.integers(0, 193, size=11)
    for got, want, name in zip(
        _two(answer(ids, starts, 7)), windows(ids, starts, 7), ("inputs", "targets"), strict=True
    ):
        expect_close(got, want, what=f"the {name} of eleven windows of 7")


@windows.check
def behind_the_end(answer, rng):
    ids = np.arange(9)
    _two(answer(ids, np.array([4]), 4))
    expect_raises(ValueError, answer, ids, np.array([0, 5]), 4)
    expect_raises(ValueError, answer, ids, np.array([-1, 2]), 4)


@windows.mistake("Your targets are the inputs: the model will copy, and its loss will fall to 0.")
def targets_not_shifted(ids, starts, context):
    inputs, _ = windows(ids, starts, context)
    return inputs, inputs


@windows.mistake("Your targets lie before their inputs: the model has seen them already.")
def shifted_back(ids, starts, context):
    inputs, targets = windows(ids, starts, context)
    return targets, inputs


@windows.mistake("Your targets lie two tokens ahead. Which token follows the input?")
def shifted_twice(ids, starts, context):
    inputs, targets = windows(ids, starts, context)
    beyond = np.take(ids, np.asarray(starts) + context + 1, mode="wrap")
    return inputs, np.concatenate([targets[:, 1:], beyond[:, None]], axis=1)


@windows.mistake(
    "Your text is rolled round: the last target of a row is that row's first token. It should be "
    "the text's next one."
)
def rolls_each_row(ids, starts, context):
    inputs, _ = windows(ids, starts, context)
    return inputs, np.roll(inputs, -1, axis=1)


@windows.mistake("NumPy does not complain about a negative place, and counts from the end. Do you?")
def accepts_negative_starts(ids, starts, context):
    starts = np.asarray(starts)
    if starts.max() + context >= len(ids):
        raise ValueError("behind the end")
    rows = ids[starts[:, None] + np.arange(context + 1)]
    return rows[:, :-1], rows[:, 1:]


@windows.mistake(
    "You refuse a window whose last target is the last token of the text. It exists, so it may be "
    "used."
)
def refuses_the_last_window(ids, starts, context):
    if np.max(starts) + context + 1 >= len(ids):
        raise ValueError("behind the end")
    return windows(ids, starts, context)


@windows.mistake(
    "Each of your targets is the token before its input, which the model has read. Which follows?"
)
def one_token_back(ids, starts, context):
    inputs, _ = windows(ids, starts, context)
    return inputs, ids[np.asarray(starts)[:, None] + np.arange(context) - 1]


@windows.mistake(
    "All targets of your rows are the token behind the window. Each input has a next token of its "
    "own."
)
def one_target_for_all(ids, starts, context):
    inputs, targets = windows(ids, starts, context)
    return inputs, np.repeat(targets[:, -1:], context, axis=1)


@exercise(
    "The loss of padded texts, both ways",
    difficulty=3,
    minutes=30,
    section="one-text-many-examples",
    counterpart="chainrule.training.loss_functions:cross_entropy",
    idea="Mark which places have a next token that exists. Only they count, all alike, in the mean "
    "and in the gradient. Rows that count for nothing have the gradient 0.",
)
def next_token_loss(logits, ids, lengths):
    """Return the mean loss of all next tokens, and its gradient for the logits.

    ids has shape (batch, time): texts of different lengths, padded at the end with any id.
    lengths says how many tokens of each are real; each is at least 1, and one is at least 2.
    logits has the shape (batch, time, vocabulary); row t answers for token t + 1. The loss is in
    nats a token, over the real tokens that have one before them.
    """
    rows = logits[:, :-1]
    targets = ids[:, 1:]
    real = np.arange(1, ids.shape[1]) < lengths[:, None]
    top = rows.max(axis=-1, keepdims=True)
    p = np.exp(rows - top)
    total = p.sum(axis=-1, keepdims=True)
    chosen = np.take_along_axis(rows - top, targets[..., None], axis=-1)[..., 0]
    surprise = np.log(total[..., 0]) - chosen
    gradient = np.zeros_like(logits)
    gradient[:, :-1] = p / total
    np.put_along_axis(
        gradient[:, :-1],
        targets[..., None],
        np.take_along_axis(gradient[:, :-1], targets[..., None], axis=-1) - 1,
        axis=-1,
    )
    gradient[:, :-1] *= real[..., None] / real.sum()
    return (surprise * real).sum() / real.sum(), gradient


@next_token_loss.by_package
def _(package, logits, ids, lengths):
    z = Tensor(logits, requires_grad=True)
    real = np.arange(1, ids.shape[1]) < lengths[:, None]
    loss = package(z[:, :-1], np.where(real, ids[:, 1:], -100))
    loss.backward()
    return loss.data[()], z.grad


def _texts(rng, batch, time, vocabulary):
    lengths = rng.integers(1, time, batch)
    lengths[0], lengths[-1] = time, max(2, time - 1)
    return (
        rng.normal(size=(batch, time, vocabulary)),
        rng.integers(0, vocabulary, (batch, time)),
        (lengths),
    )


@next_token_loss.check
def values(answer, rng):
    for sizes in ((3, 7, 5), (5, 11, 2)):
        logits, ids, lengths = _texts(rng, *sizes)
        loss, gradient = answer(logits, ids, lengths)
        expected, slope = next_token_loss(logits, ids, lengths)
        expect_close(loss, expected, what=f"the loss of texts of lengths {lengths.tolist()}")
        expect_close(gradient, slope, what="its gradient for the logits")


@next_token_loss.check
def padding_does_not_count(answer, rng):
    logits, ids, lengths = _texts(rng, 3, 7, 5)
    other = ids.copy()
    other[np.arange(7) >= lengths[:, None]] = 0
    pair = [answer(logits, each, lengths) for each in (ids, other)]
    expect_close(pair[1][0], pair[0][0], what="the loss with another padding")
    expect_close(pair[1][1], pair[0][1], what="the gradient with another padding")


@next_token_loss.check
def scores_in_the_thousands(answer, rng):
    logits, ids, lengths = _texts(rng, 2, 5, 3)
    loss, gradient = answer(1000 * logits, ids, lengths)
    expected, slope = next_token_loss(1000 * logits, ids, lengths)
    expect_close(loss, expected, what="the loss with scores in the thousands")
    expect_close(gradient, slope, what="the gradient with scores in the thousands")


def _of(logits, targets, real):
    """The loss and gradient where ``real``, of rows that answer for ``targets``."""
    p = softmax(logits)
    hot = np.eye(logits.shape[-1])[targets]
    with np.errstate(divide="ignore"):
        surprise = -np.log((p * hot).sum(axis=-1))
    loss = np.where(real, surprise, 0).sum() / real.sum()
    return loss, (p - hot) * real[..., None] / real.sum()


@next_token_loss.mistake(
    "You ask each row for the token that it has just read. Where is the shift?"
)
def no_shift(logits, ids, lengths):
    return _of(logits, ids, np.arange(ids.shape[1]) < lengths[:, None])


@next_token_loss.mistake("You compare each row with the token before its own, not after it.")
def shifted_backwards(logits, ids, lengths):
    real = np.arange(1, ids.shape[1]) < lengths[:, None]
    loss, slope = _of(logits[:, 1:], ids[:, :-1], real)
    return loss, np.concatenate([np.zeros_like(logits[:, :1]), slope], axis=1)


@next_token_loss.mistake("Padding counts in your mean.")
def counts_padding(logits, ids, lengths):
    real = np.ones((len(ids), ids.shape[1] - 1), bool)
    loss, slope = _of(logits[:, :-1], ids[:, 1:], real)
    return loss, np.concatenate([slope, np.zeros_like(logits[:, :1])], axis=1)


@next_token_loss.mistake(
    "You average each text first, then the texts. A token of a short text then counts more."
)
def mean_of_means(logits, ids, lengths):
    real = np.arange(1, ids.shape[1]) < lengths[:, None]
    share = real / np.maximum(1, real.sum(axis=1, keepdims=True)) / (real.sum(axis=1) > 0).sum()
    p, hot = softmax(logits[:, :-1]), np.eye(logits.shape[-1])[ids[:, 1:]]
    loss = (-np.log((p * hot).sum(axis=-1)) * share).sum()
    slope = (p - hot) * share[..., None]
    return loss, np.concatenate([slope, np.zeros_like(logits[:, :1])], axis=1)


@next_token_loss.mistake("One place too many: the last real token of a text answers for padding.")
def one_too_many(logits, ids, lengths):
    real = np.arange(ids.shape[1] - 1) < lengths[:, None]
    loss, slope = _of(logits[:, :-1], ids[:, 1:], real)
    return loss, np.concatenate([slope, np.zeros_like(logits[:, :1])], axis=1)


@next_token_loss.mistake("The loss is a mean. Its gradient must be one, too.")
def gradient_of_the_sum(logits, ids, lengths):
    loss, slope = next_token_loss(logits, ids, lengths)
    return loss, slope * (lengths - 1).sum()


@next_token_loss.mistake("That is the sum. The mean divides by the number of real targets.")
def sum_of_losses(logits, ids, lengths):
    loss, slope = next_token_loss(logits, ids, lengths)
    count = (lengths - 1).sum()
    return loss * count, slope * count


@exercise(
    "All filters in a row",
    difficulty=3,
    minutes=30,
    section="cutting-the-tail",
    counterpart="chainrule.transformers.gpt:sample_filters",
    idea="Each rule looks at the chances that the rule before it left. Whoever has been cut has "
    "the score of minus infinity, and the softmax of that is 0.",
)
def sample_filters(logits, temperature=1.0, top_k=None, top_p=None, min_p=None):
    """Return the scores after temperature, top-k, top-p and min-p, in this order.

    logits has shape (batch, vocabulary). A rule that is None is left out. What is cut gets the
    score −∞; what stays keeps its score divided by the temperature. Top-k keeps also those equal
    to the k-th. Top-p keeps the smallest set of the likeliest that holds at least top_p. Min-p
    keeps what is at least min_p times as likely as the likeliest. Each row keeps at least one.
    """
    z = logits / temperature
    if top_k is not None:
        least = np.sort(z, axis=1)[:, -min(top_k, z.shape[1]), None]
        z = np.where(z < least, -np.inf, z)
    if top_p is not None:
        p = softmax(z)
        order = np.argsort(-p, axis=1, kind="stable")
        ranked = np.take_along_axis(p, order, axis=1)
        stays = np.cumsum(ranked, axis=1) - ranked < top_p
        stays[:, 0] = True
        kept = np.zeros(z.shape, bool)
        np.put_along_axis(kept, order, stays, axis=1)
        z = np.where(kept, z, -np.inf)
    if min_p is not None:
        p = softmax(z)
        z = np.where(p < min_p * p.max(axis=1, keepdims=True), -np.inf, z)
    return z


@sample_filters.in_package
def _(mine, logits, temperature=1.0, top_k=None, top_p=None, min_p=None):
    # Here 1 and 0 are rules that cut nothing; for the exercise, that is None.
    return mine(logits, temperature, top_k, None if top_p == 1 else top_p, min_p or None)


_RULES = (
    {"temperature": 0.5},
    {"top_k": 3},
    {"top_p": 0.7},
    {"min_p": 0.2},
    {"top_p": 0.01},
    {"temperature": 2.0, "top_p": 0.8},
    {"temperature": 1.7, "min_p": 0.4},
    {"top_k": 4, "top_p": 0.6},
    {"temperature": 0.7, "top_k": 5, "top_p": 0.9, "min_p": 0.1},
)


def _chances(z):
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(softmax(z), nan=-1.0)


@sample_filters.check
def chances_after_each_rule(answer, rng):
    for rules in _RULES:
        logits = 2 * rng.normal(size=(5, 11))
        found = np.asarray(answer(logits, **rules))
        expect_close(_chances(found), softmax(sample_filters(logits, **rules)),
                     what=f"the chances after {rules}")  # fmt: skip


@sample_filters.check
def scores_that_stay(answer, rng):
    logits = 2 * rng.normal(size=(3, 7))
    found = np.asarray(answer(logits, temperature=0.5, top_k=3))
    expected = sample_filters(logits, temperature=0.5, top_k=3)
    finite = np.isfinite(expected)
    expect_close(np.where(finite, found, 0), np.where(finite, expected, 0),
                 what="the scores of what stays")  # fmt: skip
    expect(bool((found[~finite] == -np.inf).all()), "what is cut has the score −∞")


@sample_filters.check
def nothing_is_left_empty(answer, rng):
    logits = np.log([[0.4, 0.3, 0.2, 0.1], [0.97, 0.01, 0.01, 0.01]])
    for rules in ({"top_p": 0.05}, {"min_p": 1.0}, {"top_k": 1}):
        found = np.isfinite(np.asarray(answer(logits, **rules))).sum(axis=1)
        expect(bool((found >= 1).all()), f"{rules} left a row without any symbol")


@sample_filters.mistake("You multiply by the temperature. A high temperature should flatten.")
def multiplies(logits, temperature=1.0, top_k=None, top_p=None, min_p=None):
    return sample_filters(logits, 1 / temperature, top_k, top_p, min_p)


@sample_filters.mistake("Your filters see the chances from before the temperature.")
def temperature_last(logits, temperature=1.0, top_k=None, top_p=None, min_p=None):
    return sample_filters(logits, 1.0, top_k, top_p, min_p) / temperature


@sample_filters.mistake("You cut the token that crosses the line. The share is then not held.")
def without_the_crossing(logits, temperature=1.0, top_k=None, top_p=None, min_p=None):
    z = sample_filters(logits, temperature, top_k)
    if top_p is not None:
        p = softmax(z)
        order = np.argsort(-p, axis=1, kind="stable")
        stays = np.cumsum(np.take_along_axis(p, order, axis=1), axis=1) <= top_p
        stays[:, 0] = True
        kept = np.zeros(z.shape, bool)
        np.put_along_axis(kept, order, stays, axis=1)
        z = np.where(kept, z, -np.inf)
    return sample_filters(z, min_p=min_p)


@sample_filters.mistake("Min-p compares with the likeliest, not with 1.")
def absolute_min_p(logits, temperature=1.0, top_k=None, top_p=None, min_p=None):
    z = sample_filters(logits, temperature, top_k, top_p)
    return z if min_p is None else np.where(softmax(z) < min_p, -np.inf, z)


@sample_filters.mistake("You sort from the unlikeliest up. The nucleus holds the likeliest.")
def sorts_upwards(logits, temperature=1.0, top_k=None, top_p=None, min_p=None):
    z = sample_filters(logits, temperature, top_k)
    if top_p is not None:
        p = softmax(z)
        order = np.argsort(p, axis=1, kind="stable")
        ranked = np.take_along_axis(p, order, axis=1)
        kept = np.zeros(z.shape, bool)
        np.put_along_axis(kept, order, np.cumsum(ranked, axis=1) - ranked < top_p, axis=1)
        z = np.where(kept, z, -np.inf)
    return sample_filters(z, min_p=min_p)


@sample_filters.mistake("A score of 0 is not a chance of 0: the softmax gives it a share.")
def zero_for_cut(logits, temperature=1.0, top_k=None, top_p=None, min_p=None):
    z = sample_filters(logits, temperature, top_k, top_p, min_p)
    return np.where(np.isfinite(z), z, 0.0)


@exercise(
    "Counts that trust themselves",
    difficulty=4,
    minutes=35,
    section="what-counting-can-do",
    counterpart="chainrule.transformers.gpt:WittenBell",
    idea="Start at the bottom, with the fair guess. Then let the history grow by one symbol at a "
    "time, towards the past, and mix what it counted with what you have so far.",
)
def witten_bell(ids, history, vocabulary):
    """Return the chance of each symbol after a history, by the rule of Witten and Bell.

    ids is the text that was counted, an array; history an array of any length, also empty. The
    whole history is used, its last symbol alone, its last two, and so on. The result has shape
    (vocabulary,) and sums to 1. By hand first: the text 0 1 2 0 3, the history 0, four symbols.
    """
    p = np.full(vocabulary, 1 / vocabulary)
    for length in range(len(history) + 1):
        wanted = history[len(history) - length :]
        counts = np.zeros(vocabulary)
        for end in range(length, len(ids)):
            if np.array_equal(ids[end - length : end], wanted):
                counts[ids[end]] += 1
        kinds = np.count_nonzero(counts)
        if kinds:
            p = (counts + kinds * p) / (counts.sum() + kinds)
    return p


@witten_bell.by_package
def _(package, ids, history, vocabulary):
    model = package(ids, len(history) + 1, vocabulary)
    rows = [np.concatenate([history, [w]]).astype(int) for w in range(vocabulary)]
    return np.array([np.exp(model.log_probabilities(row)[-1]) for row in rows])


@witten_bell.check
def the_sentence(answer, rng):
    what = "the chances after 0 in the text 0 1 2 0 3"
    found = answer(np.array([0, 1, 2, 0, 3]), np.array([0]), 4)
    expect_close(found, np.array([1 / 6, 13 / 36, 1 / 9, 13 / 36]), what=what)


@witten_bell.check
def longer_histories(answer, rng):
    ids = rng.integers(0, 3, 60)
    for length in (0, 2, 3):
        history = ids[20 : 20 + length]
        what = f"the chances of 5 symbols after a history of {length}"
        expect_close(answer(ids, history, 5), witten_bell(ids, history, 5), what=what)


@witten_bell.check
def histories_never_seen(answer, rng):
    ids = rng.integers(0, 3, 40)
    history = np.array([4, ids[7]])
    what = "the chances where only the last symbol of the history was ever seen"
    expect_close(answer(ids, history, 5), witten_bell(ids, history, 5), what=what)


def _mixed(ids, history, vocabulary, mix, lengths=None):
    """The rule with another way to mix, or other histories."""
    p = np.full(vocabulary, 1 / vocabulary)
    for length in range(len(history) + 1) if lengths is None else lengths:
        wanted = history[len(history) - length :]
        counts = np.zeros(vocabulary)
        for end in range(length, len(ids)):
            if np.array_equal(ids[end - length : end], wanted):
                counts[ids[end]] += 1
        if counts.any():
            p = mix(counts, p)
    return p


@witten_bell.mistake(
    "You mix the longest history with the fair guess. The shorter histories know more than that."
)
def only_the_longest(ids, history, vocabulary):
    def mix(counts, p):
        kinds = np.count_nonzero(counts)
        return (counts + kinds * p) / (counts.sum() + kinds)

    return _mixed(ids, history, vocabulary, mix, lengths=[len(history)])


@witten_bell.mistake("k counts different symbols, not how often they came.")
def counts_for_kinds(ids, history, vocabulary):
    def mix(counts, p):
        total = counts.sum()
        return (counts + total * p) / (2 * total)

    return _mixed(ids, history, vocabulary, mix)


@witten_bell.mistake("That adds one to every count. Here the trust depends on what followed.")
def add_one(ids, history, vocabulary):
    def mix(counts, p):
        return (counts + 1) / (counts.sum() + vocabulary)

    return _mixed(ids, history, vocabulary, mix)


@witten_bell.mistake(
    "You add one to the counts of the longest history and stop. The shorter ones were not asked."
)
def add_one_to_the_longest(ids, history, vocabulary):
    def mix(counts, p):
        return (counts + 1) / (counts.sum() + vocabulary)

    return _mixed(ids, history, vocabulary, mix, lengths=[len(history)])


@witten_bell.mistake("These are the bare counts. What never came has the chance 0, and should not.")
def bare_counts(ids, history, vocabulary):
    def mix(counts, p):
        return counts / counts.sum()

    return _mixed(ids, history, vocabulary, mix, lengths=[len(history)])


@witten_bell.mistake("You add one part of the shorter history, always. How many parts is it worth?")
def one_part(ids, history, vocabulary):
    def mix(counts, p):
        return (counts + p) / (counts.sum() + 1)

    return _mixed(ids, history, vocabulary, mix)


@witten_bell.mistake("To shorten a history, drop its oldest symbol, not its latest.")
def drops_the_latest(ids, history, vocabulary):
    p = np.full(vocabulary, 1 / vocabulary)
    for length in range(len(history) + 1):
        counts = np.zeros(vocabulary)
        for end in range(length, len(ids)):
            if np.array_equal(ids[end - length : end], history[:length]):
                counts[ids[end]] += 1
        kinds = np.count_nonzero(counts)
        if kinds:
            p = (counts + kinds * p) / (counts.sum() + kinds)
    return p
