"""Blind set of modern-llms/inference: wrong answers written from statement and stub alone."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong

# ---- step_seconds --------------------------------------------------------------------------------


@wrong("step_seconds", "Adds the two times.", known="one_after_the_other")
def _(parameters, bits, texts, cache_bytes, flops, bandwidth):
    moved = parameters * bits / 8 + texts * cache_bytes
    return 2 * parameters * texts / flops + moved / bandwidth


@wrong("step_seconds", "Takes bits for bytes.", known="bits_as_bytes")
def _(parameters, bits, texts, cache_bytes, flops, bandwidth):
    moved = parameters * bits + texts * cache_bytes
    return max(2 * parameters * texts / flops, moved / bandwidth)


@wrong("step_seconds", "One cache for all texts.", known="one_cache")
def _(parameters, bits, texts, cache_bytes, flops, bandwidth):
    moved = parameters * bits / 8 + cache_bytes
    return max(2 * parameters * texts / flops, moved / bandwidth)


@wrong("step_seconds", "Counts one operation a weight.", known="products_alone")
def _(parameters, bits, texts, cache_bytes, flops, bandwidth):
    moved = parameters * bits / 8 + texts * cache_bytes
    return max(parameters * texts / flops, moved / bandwidth)


@wrong("step_seconds", "Reads the weights once for every text.", known="weights_for_each")
def _(parameters, bits, texts, cache_bytes, flops, bandwidth):
    moved = texts * (parameters * bits / 8 + cache_bytes)
    return max(2 * parameters * texts / flops, moved / bandwidth)


@wrong("step_seconds", "Computes for one text only.", known="products_of_one")
def _(parameters, bits, texts, cache_bytes, flops, bandwidth):
    moved = parameters * bits / 8 + texts * cache_bytes
    return max(2 * parameters / flops, moved / bandwidth)


# ---- chat_passes ---------------------------------------------------------------------------------


@wrong("chat_passes", "Passes the last token of each answer too.", known="reads_the_last")
def _(questions, answers, kept):
    if kept:
        return sum(questions) + sum(answers)
    total, said = 0, 0
    for q, a in zip(questions, answers, strict=True):
        total += said + q + a
        said += q + a
    return total


@wrong("chat_passes", "Never reads the last token of any answer.", known="forgets_the_last_of_each")
def _(questions, answers, kept):
    total, said = 0, 0
    for q, a in zip(questions, answers, strict=True):
        total += (0 if kept else said) + q + a - 1
        said += q + a
    return total


@wrong(
    "chat_passes",
    "Without a cache between turns, uses none within a turn either.",
    known="no_cache_in_a_turn",
)
def _(questions, answers, kept):
    if kept:
        return sum(questions) + sum(answers) - 1
    total, said = 0, 0
    for q, a in zip(questions, answers, strict=True):
        total += sum(said + q + i for i in range(a))
        said += q + a
    return total


@wrong(
    "chat_passes", "Counts the questions only, answers cost nothing.", known="answers_for_nothing"
)
def _(questions, answers, kept):
    if kept:
        return sum(questions)
    total, said = 0, 0
    for q, a in zip(questions, answers, strict=True):
        total += said + q
        said += q + a
    return total


@wrong("chat_passes", "Forgets the answers in what was said before.", known="forgets_the_answers")
def _(questions, answers, kept):
    if kept:
        return sum(questions) + sum(answers) - 1
    total, said = 0, 0
    for q, a in zip(questions, answers, strict=True):
        total += said + q + a - 1
        said += q
    return total


# ---- unpack_codes --------------------------------------------------------------------------------


@wrong("unpack_codes", "Highest bits first.", known="highest_first")
def _(packed, bits, count):
    row = np.unpackbits(packed)[: bits * count].reshape(count, bits)
    return (row @ (1 << np.arange(bits)[::-1])).astype(np.uint8)


@wrong(
    "unpack_codes",
    "Lowest bit first in the bytes, highest first in the codes.",
    known="reversed_codes",
)
def _(packed, bits, count):
    row = np.unpackbits(packed, bitorder="little")[: bits * count].reshape(count, bits)
    return (row @ (1 << np.arange(bits)[::-1])).astype(np.uint8)


@wrong("unpack_codes", "No code crosses from byte to byte.", known="none_crosses")
def _(packed, bits, count):
    each = 8 // bits
    found = [(int(b) >> bits * i) & (2**bits - 1) for b in packed for i in range(each)]
    return np.array(found[:count], np.uint8)


@wrong("unpack_codes", "Shifts a uint8 and loses what crosses.", known="loses_the_rest")
def _(packed, bits, count):
    found = []
    for i in range(count):
        byte, place = divmod(i * bits, 8)
        found.append((int(packed[byte]) >> place) & (2**bits - 1))
    return np.array(found, np.uint8)


@wrong(
    "unpack_codes",
    "Takes the bytes as one number, most significant first.",
    known="last_byte_first",
)
def _(packed, bits, count):
    number = int.from_bytes(packed.tobytes(), "big")
    return np.array([(number >> bits * i) & (2**bits - 1) for i in range(count)], np.uint8)


# ---- finish_times --------------------------------------------------------------------------------


@wrong("finish_times", "Static batches: waits until all are done.", known="stays_together")
def _(arrivals, lengths, places):
    done, now, i = [0] * len(arrivals), 0, 0
    while i < len(arrivals):
        now = max(now, arrivals[i])
        batch = [j for j in range(i, min(i + places, len(arrivals))) if arrivals[j] <= now]
        for j in batch:
            done[j] = now + lengths[j]
        now += max(lengths[j] for j in batch)
        i = batch[-1] + 1
    return done


@wrong("finish_times", "Says when the last step begins.", known="begins_the_last_step")
def _(arrivals, lengths, places):
    free, done = [0] * places, []
    for a, n in zip(arrivals, lengths, strict=True):
        start = max(a, free[0])
        free[0] = start + n
        free.sort()
        done.append(start + n - 1)
    return done


@wrong("finish_times", "Nobody ever waits for a place.", known="no_limit")
def _(arrivals, lengths, places):
    return [a + n for a, n in zip(arrivals, lengths, strict=True)]


@wrong("finish_times", "Shortest waiting request first.", known="shortest_first")
def _(arrivals, lengths, places):
    waiting, running, done, now = list(range(len(arrivals))), {}, [0] * len(arrivals), 0
    while waiting or running:
        for i in sorted((i for i in waiting if arrivals[i] <= now), key=lambda i: lengths[i]):
            if len(running) < places:
                running[i] = lengths[i]
                waiting.remove(i)
        now += 1
        for i in list(running):
            running[i] -= 1
            if not running[i]:
                done[i] = now
                del running[i]
    return done


@wrong("finish_times", "A request takes part one step after it arrived.", known="a_step_late")
def _(arrivals, lengths, places):
    free, done = [0] * places, []
    for a, n in zip(arrivals, lengths, strict=True):
        start = max(a + 1, free[0])
        free[0] = start + n
        free.sort()
        done.append(start + n)
    return done


@wrong("finish_times", "Request i always has place i modulo the places.", known="places_in_turn")
def _(arrivals, lengths, places):
    free, done = [0] * places, []
    for i, (a, n) in enumerate(zip(arrivals, lengths, strict=True)):
        free[i % places] = max(a, free[i % places]) + n
        done.append(free[i % places])
    return done


# ---- judge ---------------------------------------------------------------------------------------


def _draw(chances, v):
    return int(np.searchsorted(np.cumsum(chances / chances.sum()), v, side="right"))


@wrong("judge", "The replacement comes from p itself.", known="replaced_from_p")
def _(p, q, guesses, u, v):
    out = []
    for i, g in enumerate(guesses):
        if u[i] * q[i, g] >= p[i, g]:
            return [*out, _draw(p[i], v)]
        out.append(int(g))
    return [*out, _draw(p[-1], v)]


@wrong("judge", "After a refused guess, it goes on with the next.")
def _(p, q, guesses, u, v):
    out = [int(g) for i, g in enumerate(guesses) if u[i] * q[i, g] < p[i, g]]
    return [*out, _draw(p[len(out)], v)]


@wrong("judge", "The residual is not divided by its sum.", known="not_divided")
def _(p, q, guesses, u, v):
    out = []
    for i, g in enumerate(guesses):
        if u[i] * q[i, g] >= p[i, g]:
            above = np.cumsum(np.maximum(p[i] - q[i], 0)) > v
            return [*out, int(np.argmax(above))]
        out.append(int(g))
    return [*out, _draw(p[-1], v)]


@wrong("judge", "Nothing is written after the last guess if all are kept.", known="nothing_extra")
def _(p, q, guesses, u, v):
    out = []
    for i, g in enumerate(guesses):
        if u[i] * q[i, g] >= p[i, g]:
            return [*out, _draw(np.maximum(p[i] - q[i], 0), v)]
        out.append(int(g))
    return out


@wrong("judge", "Keeps a guess if the number is below p, whatever q.", known="whatever_the_draft")
def _(p, q, guesses, u, v):
    out = []
    for i, g in enumerate(guesses):
        if u[i] >= p[i, g]:
            return [*out, _draw(np.maximum(p[i] - q[i], 0), v)]
        out.append(int(g))
    return [*out, _draw(p[-1], v)]


@wrong("judge", "Judges guess i by the prediction after it.", known="one_row_late")
def _(p, q, guesses, u, v):
    out = []
    for i, g in enumerate(guesses):
        if u[i] * q[i, g] >= p[i + 1, g]:
            return [*out, _draw(np.maximum(p[i + 1] - q[i], 0) + 1e-300, v)]
        out.append(int(g))
    return [*out, _draw(p[-1], v)]


@wrong(
    "judge", "Takes the likeliest token instead of drawing with v.", known="likeliest_at_the_end"
)
def _(p, q, guesses, u, v):
    out = []
    for i, g in enumerate(guesses):
        if u[i] * q[i, g] >= p[i, g]:
            return [*out, int(np.argmax(p[i] - q[i]))]
        out.append(int(g))
    return [*out, int(np.argmax(p[-1]))]


# ---- round_row -----------------------------------------------------------------------------------


@wrong("round_row", "Rounds each weight to the nearest.", known="to_the_nearest")
def _(w, x, step):
    return np.rint(w / step) * step


@wrong("round_row", "Lets only the next weight make up for it.", known="only_the_next")
def _(w, x, step):
    w, out = w.astype(float).copy(), np.empty(len(w))
    for j in range(len(w)):
        out[j] = np.rint(w[j] / step) * step
        if j + 1 < len(w):
            left = x[:, j] * (w[j] - out[j])
            w[j + 1] += x[:, j + 1] @ left / (x[:, j + 1] @ x[:, j + 1])
    return out


@wrong("round_row", "Adds the correction with the wrong sign.", known="wrong_sign")
def _(w, x, step):
    w, out = w.astype(float).copy(), np.empty(len(w))
    for j in range(len(w)):
        out[j] = np.rint(w[j] / step) * step
        if j + 1 < len(w):
            left = x[:, j] * (w[j] - out[j])
            w[j + 1 :] -= np.linalg.lstsq(x[:, j + 1 :], left, rcond=None)[0]
    return out


@wrong("round_row", "Uses the inverse of the whole H at every column.", known="inverse_of_all")
def _(w, x, step):
    w, out = w.astype(float).copy(), np.empty(len(w))
    inverse = np.linalg.inv(x.T @ x)
    for j in range(len(w)):
        out[j] = np.rint(w[j] / step) * step
        w[j + 1 :] -= (w[j] - out[j]) / inverse[j, j] * inverse[j, j + 1 :]
    return out


@wrong("round_row", "Returns the codes, not the multiples.", known="codes_alone")
def _(w, x, step):
    w, out = w.astype(float).copy(), np.empty(len(w))
    for j in range(len(w)):
        code = np.rint(w[j] / step)
        out[j] = code
        if j + 1 < len(w):
            left = x[:, j] * (w[j] - code * step)
            w[j + 1 :] += np.linalg.lstsq(x[:, j + 1 :], left, rcond=None)[0]
    return out


@wrong("round_row", "Rounds from the last column to the first.")
def _(w, x, step):
    w, out = w.astype(float).copy(), np.empty(len(w))
    for j in range(len(w) - 1, -1, -1):
        out[j] = np.rint(w[j] / step) * step
        if j:
            left = x[:, j] * (w[j] - out[j])
            w[:j] += np.linalg.lstsq(x[:, :j], left, rcond=None)[0]
    return out
