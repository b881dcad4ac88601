"""Blind set of training/distributed-training: wrong answers from statement and stub alone."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong


def _shares(n, workers):
    return [n // workers + (r < n % workers) for r in range(workers)]


# ---- bytes_sent ------------------------------------------------------------------------------


@wrong("bytes_sent", "Forgets that an all-reduce is two of the others.", known="half_an_all_reduce")
def _(kind, size, workers):
    if kind not in ("all_reduce", "reduce_scatter", "all_gather", "all_to_all"):
        raise ValueError(kind)
    return (workers - 1) / workers * size


@wrong(
    "bytes_sent", "Sends the whole array in each step instead of a piece.", known="sends_everything"
)
def _(kind, size, workers):
    if kind not in ("all_reduce", "reduce_scatter", "all_gather", "all_to_all"):
        raise ValueError(kind)
    return (2 if kind == "all_reduce" else 1) * (workers - 1) * size


@wrong("bytes_sent", "Takes one step for each worker, its own piece too.", known="counts_itself")
def _(kind, size, workers):
    if kind not in ("all_reduce", "reduce_scatter", "all_gather", "all_to_all"):
        raise ValueError(kind)
    return (2 if kind == "all_reduce" else 1) * size


@wrong(
    "bytes_sent",
    "Takes the size of an all-gather for that of one worker's piece.",
    known="piece_for_whole",
)
def _(kind, size, workers):
    if kind not in ("all_reduce", "reduce_scatter", "all_gather", "all_to_all"):
        raise ValueError(kind)
    if kind == "all_gather":
        return (workers - 1) * size
    return (2 if kind == "all_reduce" else 1) * (workers - 1) / workers * size


@wrong("bytes_sent", "Counts what all workers send together.", known="sends_everything")
def _(kind, size, workers):
    if kind not in ("all_reduce", "reduce_scatter", "all_gather", "all_to_all"):
        raise ValueError(kind)
    return (2 if kind == "all_reduce" else 1) * (workers - 1) * float(size)


@wrong("bytes_sent", "Takes an all-to-all for there and back.", known="there_and_back")
def _(kind, size, workers):
    if kind not in ("all_reduce", "reduce_scatter", "all_gather", "all_to_all"):
        raise ValueError(kind)
    twice = kind in ("all_reduce", "all_to_all")
    return (2 if twice else 1) * (workers - 1) / workers * size


@wrong("bytes_sent", "Says nothing of a kind that it does not know.")
def _(kind, size, workers):
    return {"all_reduce": 2}.get(kind, 1) * (workers - 1) / workers * size


# ---- bytes_held ------------------------------------------------------------------------------


@wrong("bytes_held", "Cuts the weights first and the optimizer last.", known="weights_first")
def _(parameters, workers, stage, weight=2, gradient=2, state=12):
    if stage not in (0, 1, 2, 3):
        raise ValueError(stage)
    parts = [weight, gradient, state]
    return parameters * sum(x / workers if k < stage else x for k, x in enumerate(parts))


@wrong(
    "bytes_held",
    "Cuts only the part that the stage names, not those before it.",
    known="only_its_own",
)
def _(parameters, workers, stage, weight=2, gradient=2, state=12):
    if stage not in (0, 1, 2, 3):
        raise ValueError(stage)
    parts = [state, gradient, weight]
    return parameters * sum(x / workers if k + 1 == stage else x for k, x in enumerate(parts))


@wrong(
    "bytes_held",
    "Starts one stage too early: stage 0 cuts the optimizer's numbers.",
    known="one_stage_early",
)
def _(parameters, workers, stage, weight=2, gradient=2, state=12):
    if stage not in (0, 1, 2, 3):
        raise ValueError(stage)
    parts = [state, gradient, weight]
    return parameters * sum(x / workers if k <= stage else x for k, x in enumerate(parts))


@wrong("bytes_held", "Always takes 2, 2 and 12 bytes.", known="always_sixteen")
def _(parameters, workers, stage, weight=2, gradient=2, state=12):
    if stage not in (0, 1, 2, 3):
        raise ValueError(stage)
    return (
        parameters
        * {
            0: 16,
            1: 4 + 12 / workers,
            2: 2 + 14 / workers,
            3: 16 / workers,
        }[stage]
    )


@wrong("bytes_held", "Sums over all workers.")
def _(parameters, workers, stage, weight=2, gradient=2, state=12):
    if stage not in (0, 1, 2, 3):
        raise ValueError(stage)
    parts = [state, gradient, weight]
    return parameters * sum(x if k < stage else x * workers for k, x in enumerate(parts))


@wrong("bytes_held", "Takes any stage from 3 on for stage 3, and a negative one for none.")
def _(parameters, workers, stage, weight=2, gradient=2, state=12):
    s = state / workers if stage >= 1 else state
    g = gradient / workers if stage >= 2 else gradient
    w = weight / workers if stage >= 3 else weight
    return parameters * (s + g + w)


# ---- joined_loss -----------------------------------------------------------------------------


@wrong("joined_loss", "Adds the sums without rescaling them.", known="not_rescaled")
def _(tops, totals, targets):
    return tops.max(axis=0) + np.log(totals.sum(axis=0)) - targets.sum(axis=0)


@wrong("joined_loss", "Rescales in the wrong direction.", known="rescaled_backwards")
def _(tops, totals, targets):
    top = tops.max(axis=0)
    return top + np.log((totals * np.exp(top - tops)).sum(axis=0)) - targets.sum(axis=0)


@wrong("joined_loss", "Forgets to add the largest score again.", known="top_forgotten")
def _(tops, totals, targets):
    top = tops.max(axis=0)
    return np.log((totals * np.exp(tops - top)).sum(axis=0)) - targets.sum(axis=0)


@wrong("joined_loss", "Returns log p instead of minus log p.", known="log_probability")
def _(tops, totals, targets):
    top = tops.max(axis=0)
    return targets.sum(axis=0) - top - np.log((totals * np.exp(tops - top)).sum(axis=0))


@wrong(
    "joined_loss",
    "Takes the largest of the targets, though the others are only 0.",
    known="largest_target",
)
def _(tops, totals, targets):
    top = tops.max(axis=0)
    return top + np.log((totals * np.exp(tops - top)).sum(axis=0)) - targets.max(axis=0)


@wrong("joined_loss", "Undoes the shift with exp of the score itself: overflows.")
def _(tops, totals, targets):
    with np.errstate(all="ignore"):
        return np.log((totals * np.exp(tops)).sum(axis=0)) - targets.sum(axis=0)


@wrong("joined_loss", "Adds up each worker's own loss.", known="sum_of_losses")
def _(tops, totals, targets):
    return (tops + np.log(totals) - targets).sum(axis=0)


# ---- entries_sent ----------------------------------------------------------------------------


@wrong("entries_sent", "Takes all pieces for equal.", known="equal_pieces")
def _(n, workers):
    return [2 * (workers - 1) * n / workers for _ in range(workers)]


@wrong("entries_sent", "Leaves out the own piece in both halves.", known="own_piece_twice")
def _(n, workers):
    shares = _shares(n, workers)
    return [2 * (n - shares[r]) for r in range(workers)]


@wrong(
    "entries_sent",
    "Leaves out the left neighbour's piece in the second half.",
    known="other_neighbour",
)
def _(n, workers):
    shares = _shares(n, workers)
    return [2 * n - shares[r] - shares[r - 1] for r in range(workers)]


@wrong("entries_sent", "Counts the first half only.", known="first_half")
def _(n, workers):
    shares = _shares(n, workers)
    return [n - shares[r] for r in range(workers)]


@wrong("entries_sent", "Puts the larger pieces last.")
def _(n, workers):
    shares = _shares(n, workers)[::-1]
    return [2 * n - shares[r] - shares[(r + 1) % workers] for r in range(workers)]


@wrong("entries_sent", "Sends its own piece in every step.", known="own_piece_always")
def _(n, workers):
    return [2 * (workers - 1) * share for share in _shares(n, workers)]


@wrong("entries_sent", "Sends each piece in every half, as if none could rest.")
def _(n, workers):
    return [2 * n for _ in range(workers)]


# ---- part_of_layer ---------------------------------------------------------------------------


def _layer(x, into, out, g, gate):
    pre = x @ into.T
    hidden = np.maximum(pre, 0)
    back = (g @ out) * gate(pre, hidden)
    return hidden @ out.T, back @ into, back.T @ x, g.T @ hidden


@wrong("part_of_layer", "Forgets the bend on the way back.", known="bend_forgotten")
def _(x, into, out, g):
    return _layer(x, into, out, g, lambda pre, hidden: 1.0)


@wrong("part_of_layer", "Forgets the bend on both ways.", known="no_bend")
def _(x, into, out, g):
    pre = x @ into.T
    back = g @ out
    return pre @ out.T, back @ into, back.T @ x, g.T @ pre


@wrong(
    "part_of_layer",
    "Takes the hidden units before the bend for the gradient of out.",
    known="before_the_bend",
)
def _(x, into, out, g):
    y, dx, dinto, _ = _layer(x, into, out, g, lambda pre, hidden: pre > 0)
    return y, dx, dinto, g.T @ (x @ into.T)


@wrong("part_of_layer", "Returns the gradients of the matrices transposed.", known="transposed")
def _(x, into, out, g):
    y, dx, dinto, dout = _layer(x, into, out, g, lambda pre, hidden: pre > 0)
    return y, dx, dinto.T, dout.T


@wrong("part_of_layer", "Returns the gradients of into and out in the other order.")
def _(x, into, out, g):
    y, dx, dinto, dout = _layer(x, into, out, g, lambda pre, hidden: pre > 0)
    return y, dx, dout, dinto


@wrong(
    "part_of_layer",
    "Multiplies by the hidden units instead of the slope of the bend.",
    known="hidden_for_slope",
)
def _(x, into, out, g):
    return _layer(x, into, out, g, lambda pre, hidden: hidden)


@wrong("part_of_layer", "Divides the gradients by the number of rows.", known="mean_of_rows")
def _(x, into, out, g):
    y, dx, dinto, dout = _layer(x, into, out, g, lambda pre, hidden: pre > 0)
    return y, dx, dinto / len(x), dout / len(x)


# ---- last_end --------------------------------------------------------------------------------


def _ends(order, cost, needs):
    p, done, clock, at = len(order), {}, [0.0] * len(order), [0] * len(order)
    moved = True
    while moved:
        moved = False
        for r in range(p):
            while at[r] < len(order[r]):
                action = tuple(order[r][at[r]])
                wanted = needs(r, action, p)
                if any(key not in done for key in wanted):
                    break
                start = max([clock[r], *(done[key] for key in wanted)])
                clock[r] = done[r, action] = start + cost[action[0]]
                at[r] += 1
                moved = True
    if any(at[r] < len(order[r]) for r in range(p)):
        raise ValueError("never")
    return max(clock, default=0.0)


def _needs(r, action, p):
    kind, i = action
    if kind == "F":
        return [(r - 1, ("F", i))] if r else []
    return [(r, ("F", i)), *([(r + 1, ("B", i))] if r < p - 1 else [])]


@wrong(
    "last_end", "Adds up the work of the busiest worker, without any wait.", known="nobody_waits"
)
def _(order, forward, backward):
    cost = {"F": forward, "B": backward}
    return max(sum(cost[kind] for kind, _ in actions) for actions in order)


@wrong("last_end", "Uses the closed form of the page whatever the order is.", known="closed_form")
def _(order, forward, backward):
    m = sum(kind == "F" for kind, _ in order[0])
    return (m + len(order) - 1) * (forward + backward)


@wrong("last_end", "A backward pass does not wait for the next worker.", known="backward_alone")
def _(order, forward, backward):
    def needs(r, action, p):
        if action[0] == "F":
            return [(r - 1, action)] if r else []
        return [(r, ("F", action[1]))]

    return _ends(order, {"F": forward, "B": backward}, needs)


@wrong("last_end", "A backward pass does not need its own forward pass.")
def _(order, forward, backward):
    def needs(r, action, p):
        if action[0] == "F":
            return [(r - 1, action)] if r else []
        return [(r + 1, action)] if r < p - 1 else []

    return _ends(order, {"F": forward, "B": backward}, needs)


@wrong("last_end", "Backward passes take as long as forward passes.", known="same_time_for_both")
def _(order, forward, backward):
    return _ends(order, {"F": forward, "B": forward}, _needs)


@wrong("last_end", "Returns when the last worker of the pipeline is done, not the last of all.")
def _(order, forward, backward):
    cost, ends = {"F": forward, "B": backward}, {}
    _ends(order, cost, _needs)
    clock, at = [0.0] * len(order), [0] * len(order)
    while any(at[r] < len(order[r]) for r in range(len(order))):
        for r in range(len(order)):
            while at[r] < len(order[r]):
                action = tuple(order[r][at[r]])
                wanted = _needs(r, action, len(order))
                if any(key not in ends for key in wanted):
                    break
                start = max([clock[r], *(ends[key] for key in wanted)])
                clock[r] = ends[r, action] = start + cost[action[0]]
                at[r] += 1
    return clock[-1]


@wrong(
    "last_end",
    "Adds up all actions, as if only one worker worked at a time.",
    known="one_at_a_time",
)
def _(order, forward, backward):
    cost = {"F": forward, "B": backward}
    _ends(order, cost, _needs)
    return sum(cost[kind] for actions in order for kind, _ in actions)


@wrong("last_end", "Gives infinity for a schedule that can never be carried out.")
def _(order, forward, backward):
    try:
        return _ends(order, {"F": forward, "B": backward}, _needs)
    except ValueError:
        return float("inf")
