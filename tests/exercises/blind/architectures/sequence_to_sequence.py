"""Blind set of architectures/sequence-to-sequence: wrong answers from statement and stub alone."""

from __future__ import annotations

from collections import Counter

import numpy as np

from chainrule.course.exercises import wrong


def _pairs(
    sources,
    outputs,
    turn=True,
    behind=-100,
    turn_outputs=False,
    pad_first=False,
):
    longest = max(map(len, sources))
    steps = max(map(len, outputs)) + 1
    source = np.zeros((len(sources), longest), int)
    mask = np.zeros((len(sources), longest), bool)
    inputs = np.zeros((len(sources), steps), int)
    targets = np.full((len(sources), steps), behind)
    for row, (read, write) in enumerate(zip(sources, outputs, strict=True)):
        read = read[::-1] if turn else read
        write = write[::-1] if turn_outputs else write
        place = slice(longest - len(read), None) if pad_first else slice(0, len(read))
        source[row, place] = read
        mask[row, place] = True
        inputs[row, : len(write) + 1] = [1, *write]
        targets[row, : len(write) + 1] = [*write, 0]
    return source, mask, inputs, targets


@wrong("backward_pairs", "The sources are not turned round.", known="read_forwards")
def _(sources, outputs):
    return _pairs(sources, outputs, turn=False)


@wrong(
    "backward_pairs",
    "Pads first and turns the padded rows: zeros stand in front.",
    known="turned_after_filling",
)
def _(sources, outputs):
    return _pairs(sources, outputs, pad_first=True)


@wrong(
    "backward_pairs",
    "Zeros behind the end of the targets, as in the inputs.",
    known="targets_filled_with_end",
)
def _(sources, outputs):
    return _pairs(sources, outputs, behind=0)


@wrong("backward_pairs", "The outputs are turned round as well.", known="outputs_turned_too")
def _(sources, outputs):
    return _pairs(sources, outputs, turn_outputs=True)


@wrong(
    "backward_pairs",
    "Inputs end with END and targets begin with START.",
    known="inputs_for_targets",
)
def _(sources, outputs):
    source, mask, inputs, targets = _pairs(sources, outputs)
    return source, mask, targets, inputs


@wrong(
    "backward_pairs",
    "END is missing from the targets: they are as long as the outputs.",
    known="no_end",
)
def _(sources, outputs):
    source, mask, inputs, targets = _pairs(sources, outputs)
    return source, mask, inputs, np.where(targets == 0, -100, targets)


def _half(lengths, share):
    return np.interp(0.5, share[::-1], lengths[::-1])


@wrong("used_bits", "Counts the hidden state and forgets the cell state.", known="one_vector_only")
def _(lengths, share, symbols, units):
    half = _half(lengths, share)
    return half, half * np.log2(symbols) / units


@wrong("used_bits", "Nats instead of bits.", known="nats")
def _(lengths, share, symbols, units):
    half = _half(lengths, share)
    return half, half * np.log(symbols) / (2 * units)


@wrong("used_bits", "Hands np.interp a falling axis.", known="interpolates_on_a_falling_axis")
def _(lengths, share, symbols, units):
    half = np.interp(0.5, share, lengths)
    return half, half * np.log2(symbols) / (2 * units)


@wrong(
    "used_bits",
    "The first length at which fewer than half are right, without the line.",
    known="tabulated_length",
)
def _(lengths, share, symbols, units):
    half = lengths[int(np.argmax(np.asarray(share) < 0.5))]
    return half, half * np.log2(symbols) / (2 * units)


@wrong("used_bits", "The bits of the whole vector, not of each number.", known="bits_of_all")
def _(lengths, share, symbols, units):
    half = _half(lengths, share)
    return half, half * np.log2(symbols)


@wrong("used_bits", "Counts symbols instead of their bits.", known="symbols_and_not_bits")
def _(lengths, share, symbols, units):
    half = _half(lengths, share)
    return half, half * symbols / (2 * units)


def _coin(joint, share):
    first = joint.sum(1)
    truth = joint / first[:, None]
    return first, truth, share * truth + (1 - share) * joint.sum(0)


@wrong(
    "taught_by_a_coin",
    "Mixes with the uniform distribution, as in the example of the page.",
    known="uniform_behind_a_drawn_one",
)
def _(joint, share):
    first, truth, _ = _coin(joint, share)
    second = share * truth + (1 - share) / len(joint)
    return second, (first[:, None] * second)[joint == 0].sum()


@wrong("taught_by_a_coin", "Exchanges the two sides of the coin.", known="coin_exchanged")
def _(joint, share):
    first, _, second = _coin(joint, 1 - share)
    return second, (first[:, None] * second)[joint == 0].sum()


@wrong(
    "taught_by_a_coin",
    "Adds up the nonsense without the probability of the first symbol.",
    known="nonsense_unweighted",
)
def _(joint, share):
    _, _, second = _coin(joint, share)
    return second, second[joint == 0].sum()


@wrong(
    "taught_by_a_coin",
    "Mixes the joint probabilities and forgets to condition on the first.",
    known="pairs_and_not_rows",
)
def _(joint, share):
    first, _, _ = _coin(joint, share)
    second = share * joint + (1 - share) * np.outer(first, joint.sum(0))
    return second, second[joint == 0].sum()


@wrong(
    "taught_by_a_coin",
    "Mixes with the distribution of first symbols.",
    known="frequencies_of_first_symbols",
)
def _(joint, share):
    first, truth, _ = _coin(joint, share)
    second = share * truth + (1 - share) * first
    return second, (first[:, None] * second)[joint == 0].sum()


def _log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _loss(logits, targets, each="symbols", length=False, gradient_real=True, divide=True):
    real = targets >= 0
    log_p = _log_softmax(logits)
    safe = np.where(real, targets, 0)
    picked = np.take_along_axis(log_p, safe[..., None], -1)[..., 0] * real
    weight = np.where(real, 1 / real.sum(), 0)
    if each == "outputs":
        weight = real / real.sum(1, keepdims=True) / len(real)
    if each == "all":
        weight = real / real.size
    gradient = np.exp(log_p) - np.eye(logits.shape[-1])[safe]
    if gradient_real:
        gradient = gradient * (weight[..., None] if divide else real[..., None])
    else:
        gradient = gradient / real.sum()
    total = picked.sum(1) / (real.sum(1) if length else 1)
    return -(picked * weight).sum(), gradient, total


@wrong("output_loss", "The mean of the outputs' means.", known="mean_of_means")
def _(logits, targets):
    return _loss(logits, targets, each="outputs")


@wrong("output_loss", "Divides by all places, padding included.", known="divides_by_all_places")
def _(logits, targets):
    return _loss(logits, targets, each="all")


@wrong("output_loss", "The gradient does not vanish behind the end.", known="gradient_of_padding")
def _(logits, targets):
    return _loss(logits, targets, gradient_real=False)


@wrong("output_loss", "The gradient is that of the sum.", known="gradient_not_divided")
def _(logits, targets):
    return _loss(logits, targets, divide=False)


@wrong(
    "output_loss",
    "The log-probability of an output is divided by its length.",
    known="mean_log_probability",
)
def _(logits, targets):
    return _loss(logits, targets, length=True)


@wrong("output_loss", "No maximum is subtracted: the exponential overflows.")
def _(logits, targets):
    real = targets >= 0
    with np.errstate(all="ignore"):
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        log_p = np.log(p)
    rows, steps = np.nonzero(real)
    gradient = np.zeros_like(p)
    gradient[real] = p[real]
    gradient[rows, steps, targets[real]] -= 1
    picked = np.zeros(targets.shape)
    picked[real] = log_p[rows, steps, targets[real]]
    return -picked.sum() / real.sum(), gradient / real.sum(), picked.sum(1)


@wrong("output_loss", "−100 is taken as an index from the end, or the last class.")
def _(logits, targets):
    return _loss(logits, np.where(targets < 0, logits.shape[-1] - 1, targets))


def _grams(words, n):
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _bleu(cands, refs, max_n, clip="most", length="nearest", mean="geometric", brevity=True):
    have = [0] * max_n
    count = [0] * max_n
    c = r = 0
    for cand, several in zip(cands, refs, strict=True):
        c += len(cand)
        lengths = [len(ref) for ref in several]
        if length == "nearest":
            r += min(lengths, key=lambda n: (abs(n - len(cand)), n))
        elif length == "longer":
            r += min(lengths, key=lambda n: (abs(n - len(cand)), -n))
        else:
            r += {"shortest": min, "first": lambda x: x[0]}[length](lengths)
        for n in range(1, max_n + 1):
            pieces = _grams(cand, n)
            known = [_grams(ref, n) for ref in several]
            for piece, times in pieces.items():
                counts = [k[piece] for k in known]
                most = {"most": max, "sum": sum, "first": lambda x: x[0]}.get(clip)
                if clip == "none":
                    have[n - 1] += times * (max(counts) > 0)
                else:
                    have[n - 1] += min(times, most(counts))
                count[n - 1] += times
    if min(have) == 0:
        return 0.0
    shares = np.array(have) / np.array(count)
    centre = np.exp(np.log(shares).mean()) if mean == "geometric" else shares.mean()
    return float(centre * (np.exp(min(0, 1 - r / c)) if brevity else 1))


@wrong("bleu_of_corpus", "Nothing is clipped.", known="not_clipped")
def _(cands, refs, max_n):
    return _bleu(cands, refs, max_n, clip="none")


@wrong(
    "bleu_of_corpus",
    "Adds the counts of all references before it clips.",
    known="sum_over_references",
)
def _(cands, refs, max_n):
    return _bleu(cands, refs, max_n, clip="sum")


@wrong("bleu_of_corpus", "The length is that of the shortest reference.", known="another_length")
def _(cands, refs, max_n):
    return _bleu(cands, refs, max_n, length="shortest")


@wrong("bleu_of_corpus", "Of two equally near lengths it takes the longer.", known="another_length")
def _(cands, refs, max_n):
    return _bleu(cands, refs, max_n, length="longer")


@wrong("bleu_of_corpus", "The mean of the candidates' scores.", known="mean_of_scores")
def _(cands, refs, max_n):
    return float(np.mean([_bleu([a], [b], max_n) for a, b in zip(cands, refs, strict=True)]))


@wrong("bleu_of_corpus", "The arithmetic mean of the shares.", known="another_mean")
def _(cands, refs, max_n):
    return _bleu(cands, refs, max_n, mean="arithmetic")


@wrong("bleu_of_corpus", "No penalty for brevity.", known="another_brevity")
def _(cands, refs, max_n):
    return _bleu(cands, refs, max_n, brevity=False)


def _dependence(model, source, symbols, size=np.abs, others=True, log=True, axis=1, over=None):
    before = np.array(model(list(source)))
    table = np.zeros((len(before), len(source)))
    for place in range(len(source)):
        changes = []
        for symbol in symbols:
            if others and symbol == source[place]:
                continue
            changed = [*source[:place], symbol, *source[place + 1 :]]
            after = np.array(model(changed))
            changes.append(size(after - before if log else np.exp(after) - np.exp(before)))
        table[:, place] = np.mean(changes, axis=0)
    if over is not None:
        return table
    total = table.sum(axis, keepdims=True)
    return np.divide(table, total, out=np.zeros_like(table), where=total > 0)


@wrong("dependence", "The change without its absolute value.")
def _(model, source, symbols):
    return np.abs(_dependence(model, source, symbols, size=lambda x: x))


@wrong("dependence", "Rows are not divided by their sums.", known="not_divided")
def _(model, source, symbols):
    return _dependence(model, source, symbols, over="nothing")


@wrong("dependence", "Divides by the sums of the columns.", known="columns_add_up")
def _(model, source, symbols):
    return _dependence(model, source, symbols, axis=0)


@wrong(
    "dependence", "Compares probabilities, not their logarithms.", known="probabilities_compared"
)
def _(model, source, symbols):
    return _dependence(model, source, symbols, log=False)


@wrong("dependence", "Replaced symbols are not put back.", known="keeps_what_was_tried")
def _(model, source, symbols):
    source = list(source)
    before = np.array(model(list(source)))
    table = np.zeros((len(before), len(source)))
    for place in range(len(source)):
        true = source[place]
        others = [symbol for symbol in symbols if symbol != true]
        for symbol in others:
            source[place] = symbol
            table[:, place] += np.abs(np.array(model(list(source))) - before) / len(others)
    total = table.sum(1, keepdims=True)
    return np.divide(table, total, out=np.zeros_like(table), where=total > 0)


@wrong("dependence", "A row in which nothing changes becomes NaN.", known="zero_by_zero")
def _(model, source, symbols):
    table = _dependence(model, source, symbols, over="nothing")
    with np.errstate(all="ignore"):
        return table / table.sum(1, keepdims=True)


@wrong("dependence", "The table is transposed.", known="transposed")
def _(model, source, symbols):
    return _dependence(model, source, symbols).T


@wrong(
    "dependence",
    "Replaces by one symbol, the next of the list, and not by each.",
    known="not_all_symbols",
)
def _(model, source, symbols):
    before = np.array(model(list(source)))
    table = np.zeros((len(before), len(source)))
    for place in range(len(source)):
        where = list(symbols).index(source[place]) if source[place] in symbols else -1
        changed = list(source)
        changed[place] = symbols[(where + 1) % len(symbols)]
        table[:, place] = np.abs(np.array(model(changed)) - before)
    total = table.sum(1, keepdims=True)
    return np.divide(table, total, out=np.zeros_like(table), where=total > 0)


def _beam(
    step_fn,
    start,
    eos,
    width,
    max_len,
    power,
    shrink=True,
    length=len,
    keep_end=True,
    each=False,
    unfinished=True,
):
    live = [((), 0.0, None)]
    done = []
    for _ in range(max_len):
        grown = []
        for tokens, log_p, state in live:
            logs, after = step_fn(tokens[-1] if tokens else start, state)
            own = [
                ((*tokens, int(t)), log_p + float(logs[t]), after)
                for t in range(len(logs))
                if np.isfinite(logs[t])
            ]
            grown += sorted(own, key=lambda x: -x[1])[: 1 if each else None]
        grown.sort(key=lambda x: -x[1])
        grown = grown[: width - len(done) if shrink else width]
        done += [x for x in grown if x[0][-1] == eos]
        live = [x for x in grown if x[0][-1] != eos]
        if not live or (shrink and len(done) >= width):
            break
    done += live if unfinished else []
    result = [
        (x[0] if keep_end or x[0][-1] != eos else x[0][:-1], x[1] / length(x[0]) ** power)
        for x in done
    ]
    return sorted(result, key=lambda x: -x[1])


@wrong("beam", "The score is the logarithm itself.", known="no_power")
def _(step_fn, start, eos, width, max_len, power):
    return _beam(step_fn, start, eos, width, max_len, 0)


@wrong("beam", "END is not counted in the length.", known="length_without_eos")
def _(step_fn, start, eos, width, max_len, power):
    def length(tokens):
        return max(1, len(tokens) - (tokens[-1] == eos))

    return _beam(step_fn, start, eos, width, max_len, power, length=length)


@wrong(
    "beam",
    "Complete outputs do not take a place: the beam stays as wide as before.",
    known="keeps_its_width",
)
def _(step_fn, start, eos, width, max_len, power):
    return _beam(step_fn, start, eos, width, max_len, power, shrink=False)


@wrong("beam", "END is cut off the tokens.", known="tokens_without_eos")
def _(step_fn, start, eos, width, max_len, power):
    return _beam(step_fn, start, eos, width, max_len, power, keep_end=False)


@wrong("beam", "Beginnings that never ended are thrown away.", known="drops_what_is_cut")
def _(step_fn, start, eos, width, max_len, power):
    return _beam(step_fn, start, eos, width, max_len, power, unfinished=False)


@wrong(
    "beam",
    "Keeps the best continuation of each beginning: greedy, whatever the width.",
    known="best_of_each",
)
def _(step_fn, start, eos, width, max_len, power):
    return _beam(step_fn, start, eos, width, max_len, power, each=True)


@wrong("beam", "The least probable come first.", known="worst_first")
def _(step_fn, start, eos, width, max_len, power):
    return _beam(step_fn, start, eos, width, max_len, power)[::-1]
