"""Exercises of training/distributed-training.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import exercise, expect, expect_close, expect_equal
from chainrule.training.distributed_training.schedules import Action, ScheduleError


@exercise(
    "What each worker sends",
    difficulty=1,
    minutes=10,
    section="round-the-ring",
    counterpart="chainrule.training.distributed_training.collectives:collective_bytes",
    idea="Count the steps, and what travels in each of them. An all_reduce is two of the others, "
    "one after the other.",
)
def bytes_sent(kind, size, workers):
    """Return the bytes that each worker sends in a ring, or to all others.

    kind is all_reduce, reduce_scatter, all_gather or all_to_all. size is in bytes: that of the
    array on each worker before a reduce_scatter, an all_reduce or an all_to_all, that of the
    finished array for an all_gather. Every piece is as large as every other. Another kind raises
    ValueError.
    """
    halves = {"all_reduce": 2, "reduce_scatter": 1, "all_gather": 1, "all_to_all": 1}
    if kind not in halves:
        raise ValueError(f"there is no {kind}")
    return halves[kind] * (workers - 1) / workers * size


KINDS = ("all_reduce", "reduce_scatter", "all_gather", "all_to_all")


@bytes_sent.check
def several_worlds(answer, rng):
    given = [answer(kind, 1000.0 * p, p) for kind in KINDS for p in (1, 3, 7)]
    expected = [
        steps * 1000.0 * (p - 1) for steps in (2, 1, 1, 1) for p in (1, 3, 7)
    ]  # fmt: skip
    expect_close(given, expected, what="the bytes for worlds of 1, 3 and 7 workers")


@bytes_sent.check
def another_kind(answer, rng):
    try:
        answer("sum", 8.0, 2)
    except ValueError:
        return
    expect(False, "expected a ValueError for the kind 'sum'")


@bytes_sent.mistake("Your workers send their own piece to themselves. How many steps has a ring?")
def counts_itself(kind, size, workers):
    if kind not in KINDS:
        raise ValueError(kind)
    return (2 if kind == "all_reduce" else 1) * size


@bytes_sent.mistake(
    "So much do all workers send together. In a step, each of them sends one piece of the array."
)
def sends_everything(kind, size, workers):
    if kind not in KINDS:
        raise ValueError(kind)
    return (2 if kind == "all_reduce" else 1) * (workers - 1) * size


@bytes_sent.mistake("After half of an all_reduce every worker owns one finished piece. And then?")
def half_an_all_reduce(kind, size, workers):
    if kind not in KINDS:
        raise ValueError(kind)
    return (workers - 1) / workers * size


@bytes_sent.mistake(
    "size is that of the finished array of an all_gather. How large is what one worker brings?"
)
def piece_for_whole(kind, size, workers):
    if kind not in KINDS:
        raise ValueError(kind)
    if kind == "all_gather":
        return (workers - 1) * size
    return (2 if kind == "all_reduce" else 1) * (workers - 1) / workers * size


@bytes_sent.mistake("There and back are two exchanges. How often does one all_to_all send a piece?")
def there_and_back(kind, size, workers):
    if kind not in KINDS:
        raise ValueError(kind)
    return (2 if kind in ("all_reduce", "all_to_all") else 1) * (workers - 1) / workers * size


@exercise(
    "What a stage leaves",
    difficulty=2,
    minutes=10,
    section="zero-optimizer-states",
    counterpart="chainrule.training.distributed_training.zero:zero_bytes",
    idea="Go through weights, gradients and optimizer one by one, and ask of each from which stage "
    "on it is cut.",
)
def bytes_held(parameters, workers, stage, weight=2, gradient=2, state=12):
    """Return the bytes that one of the workers holds for weights, gradients and optimizer.

    weight, gradient and state are bytes for each parameter. stage is that of ZeRO, 0 for none. A
    stage that is none of 0, 1, 2 and 3 raises ValueError.
    """
    if stage not in (0, 1, 2, 3):
        raise ValueError(f"there is no stage {stage}")
    each = 0.0
    for size, cut_from in ((state, 1), (gradient, 2), (weight, 3)):
        each += size / workers if stage >= cut_from else size
    return parameters * each


def _held(parameters, workers, stage, sizes):
    if stage not in (0, 1, 2, 3):
        raise ValueError(stage)
    return parameters * sum(size / workers if cut else size for size, cut in sizes)


@bytes_held.check
def all_stages_of_two_models(answer, rng):
    given = [answer(1e6, 7, s) for s in range(4)] + [answer(3e5, 5, s, 4, 3, 8) for s in range(4)]
    expected = [_held(1e6, 7, s, [(12, s > 0), (2, s > 1), (2, s > 2)]) for s in range(4)]
    expected += [_held(3e5, 5, s, [(8, s > 0), (3, s > 1), (4, s > 2)]) for s in range(4)]
    expect_close(given, expected, what="the bytes in stages 0 to 3 for two models")


@bytes_held.check
def a_stage_that_is_not_there(answer, rng):
    for stage in (4, -1):
        try:
            answer(1e6, 7, stage)
        except ValueError:
            continue
        expect(False, f"expected a ValueError for stage {stage}")


@bytes_held.mistake("You cut the weights first. Which part is the largest, and is cut first?")
def weights_first(parameters, workers, stage, weight=2, gradient=2, state=12):
    sizes = [(weight, stage > 0), (gradient, stage > 1), (state, stage > 2)]
    return _held(parameters, workers, stage, sizes)


@bytes_held.mistake("Your stage 2 has forgotten what stage 1 cut. Each stage adds to the last.")
def only_its_own(parameters, workers, stage, weight=2, gradient=2, state=12):
    sizes = [(state, stage == 1), (gradient, stage == 2), (weight, stage == 3)]
    return _held(parameters, workers, stage, sizes)


@bytes_held.mistake("Your stages cut everything at once. That is only what the last of them does.")
def everything_at_once(parameters, workers, stage, weight=2, gradient=2, state=12):
    return _held(parameters, workers, stage, [(weight + gradient + state, stage > 0)])


@bytes_held.mistake("Your stage 0 cuts something. What does plain data parallelism cut?")
def one_stage_early(parameters, workers, stage, weight=2, gradient=2, state=12):
    sizes = [(state, stage >= 0), (gradient, stage >= 1), (weight, stage >= 2)]
    return _held(parameters, workers, stage, sizes)


@bytes_held.mistake("Your sizes are those of the page. Which sizes were you given?")
def always_sixteen(parameters, workers, stage, weight=2, gradient=2, state=12):
    return _held(parameters, workers, stage, [(12, stage > 0), (2, stage > 1), (2, stage > 2)])


@exercise(
    "One message instead of two",
    difficulty=2,
    minutes=15,
    section="heads-and-symbols",
    because="the package exchanges the largest score first, so that no sum has to be rescaled",
    idea="Each sum was measured against its own worker's largest score. Measure all of them "
    "against the same one before you add.",
)
def joined_loss(tops, totals, targets):
    """Return −log p of the target at each position, from what the workers know.

    Each worker has the scores of some symbols. tops has its largest score, totals its sum of
    exp(score − its own largest), targets the score of the target, or 0 where the target is a
    symbol of another worker. All three have the shape (workers, positions).
    """
    top = tops.max(axis=0)
    total = (totals * np.exp(tops - top)).sum(axis=0)
    return top + np.log(total) - targets.sum(axis=0)


def _known(rng, workers, positions, size=2.0):
    scores = rng.normal(size=(workers, positions, 4)) * size
    tops = scores.max(axis=-1)
    totals = np.exp(scores - tops[..., None]).sum(axis=-1)
    owner = rng.integers(0, workers, positions)
    each = np.arange(positions)
    targets = np.zeros((workers, positions))
    targets[owner, each] = scores[owner, each, 1]
    together = scores.transpose(1, 0, 2).reshape(positions, -1)
    top = together.max(axis=1)
    log_total = top + np.log(np.exp(together - top[:, None]).sum(axis=1))
    return (tops, totals, targets), log_total - targets.sum(axis=0)


@joined_loss.check
def three_workers(answer, rng):
    given, expected = _known(rng, 3, 5)
    expect_close(answer(*given), expected, what="the losses of 5 positions")


@joined_loss.check
def large_scores(answer, rng):
    given, expected = _known(rng, 2, 3, 500.0)
    expect_close(answer(*given), expected, what="the losses where scores are in the hundreds")


@joined_loss.mistake("You add sums that were measured against different largest scores.")
def not_rescaled(tops, totals, targets):
    return tops.max(axis=0) + np.log(totals.sum(axis=0)) - targets.sum(axis=0)


@joined_loss.mistake("The largest score was taken out of the exponentials. Where is it put back?")
def top_forgotten(tops, totals, targets):
    total = (totals * np.exp(tops - tops.max(axis=0))).sum(axis=0)
    return np.log(total) - targets.sum(axis=0)


@joined_loss.mistake("Where the target belongs to somebody else, a worker has 0: no mean, a sum.")
def mean_of_targets(tops, totals, targets):
    top = tops.max(axis=0)
    total = (totals * np.exp(tops - top)).sum(axis=0)
    return top + np.log(total) - targets.mean(axis=0)


@joined_loss.mistake("A sum measured against a smaller score counts for less, not for more.")
def rescaled_backwards(tops, totals, targets):
    top = tops.max(axis=0)
    return top + np.log((totals * np.exp(top - tops)).sum(axis=0)) - targets.sum(axis=0)


@joined_loss.mistake("A loss is what is missing to certainty. May it be below 0?")
def log_probability(tops, totals, targets):
    top = tops.max(axis=0)
    total = (totals * np.exp(tops - top)).sum(axis=0)
    return targets.sum(axis=0) - top - np.log(total)


@joined_loss.mistake("A target's score may be below 0, and the zeros of the others are above it.")
def largest_target(tops, totals, targets):
    top = tops.max(axis=0)
    total = (totals * np.exp(tops - top)).sum(axis=0)
    return top + np.log(total) - targets.max(axis=0)


@joined_loss.mistake("The logarithm of a sum is not the sum of the logarithms. Add up first.")
def sum_of_losses(tops, totals, targets):
    return (tops + np.log(totals) - targets).sum(axis=0)


@exercise(
    "Pieces that are not alike",
    difficulty=3,
    minutes=15,
    section="round-the-ring",
    because="the package moves the pieces, and the simulator counts",
    idea="Which single piece does worker r never send in the first half? And which one in the "
    "second? Look at the last row of the page's table.",
)
def entries_sent(n, workers):
    """Return a list: how many entries each worker sends in the page's ring all-reduce.

    The array has n entries, cut into one piece for each worker. Sizes differ by at most 1, and the
    larger pieces come first. In the end of the first half worker r owns piece r. Everything is
    sent to the right neighbour, r + 1.
    """
    sizes = [n // workers + (i < n % workers) for i in range(workers)]
    return [2 * n - sizes[r] - sizes[(r + 1) % workers] for r in range(workers)]


@entries_sent.check
def five_workers_and_thirteen_entries(answer, rng):
    expect_equal(list(answer(13, 5)), [20, 20, 21, 22, 21], what="the entries sent, n = 13, p = 5")


@entries_sent.check
def three_workers_and_eight_entries(answer, rng):
    expect_equal(list(answer(8, 3)), [10, 11, 11], what="the entries sent, n = 8, p = 3")


@entries_sent.check
def fewer_entries_than_workers(answer, rng):
    expect_equal(list(answer(2, 4)), [2, 3, 4, 3], what="the entries sent, n = 2, p = 4")


@entries_sent.mistake(
    "In the second half a worker does send its own piece, first of all. Which one does it not send?"
)
def own_piece_twice(n, workers):
    sizes = [n // workers + (i < n % workers) for i in range(workers)]
    return [2 * n - 2 * sizes[r] for r in range(workers)]


@entries_sent.mistake("Your ring turns the other way in its second half: look at the neighbour.")
def other_neighbour(n, workers):
    sizes = [n // workers + (i < n % workers) for i in range(workers)]
    return [2 * n - sizes[r] - sizes[r - 1] for r in range(workers)]


@entries_sent.mistake("Your pieces have all the same size. Can 13 entries be cut in five so?")
def equal_pieces(n, workers):
    return [2 * (workers - 1) * n / workers for _ in range(workers)]


@entries_sent.mistake("After this half every worker owns one piece of the sum. And then?")
def first_half(n, workers):
    sizes = [n // workers + (i < n % workers) for i in range(workers)]
    return [n - sizes[r] for r in range(workers)]


@entries_sent.mistake("A piece is passed on once, then the next. Which pieces pass a worker?")
def own_piece_always(n, workers):
    return [2 * (workers - 1) * (n // workers + (r < n % workers)) for r in range(workers)]


@exercise(
    "A part of a layer, both ways",
    difficulty=3,
    minutes=25,
    section="model-parallelism",
    because="the package composes it from two linear layers and two operations between workers",
    idea="Without the other workers this is a small network of its own. The only thing that it "
    "shares with them is the gradient of the output, which the sum hands to each unchanged.",
)
def part_of_layer(x, into, out, g):
    """Return this worker's part of the output, and the gradients that it computes.

    x has shape (n, d) and is the same on all workers. into, of shape (units, d), leads to this
    worker's hidden units, which bend by ReLU; out, of shape (d, units), leads out of them. The
    layer's output is the sum of all workers' parts, and g, of shape (n, d), is its gradient.
    Returns (part of the output, part of x's gradient, gradient of into, gradient of out).
    """
    z = x @ into.T
    hidden = np.maximum(z, 0)
    back = (g @ out) * (z > 0)
    return hidden @ out.T, back @ into, back.T @ x, g.T @ hidden


@part_of_layer.check
def parts_add_up(answer, rng):
    x, g = rng.normal(size=(2, 5, 3))
    into, out = rng.normal(size=(6, 3)), rng.normal(size=(3, 6))
    z = x @ into.T
    parts = [answer(x, into[i : i + 2], out[:, i : i + 2], g) for i in (0, 2, 4)]
    back = (g @ out) * (z > 0)
    expect_close(sum(p[0] for p in parts), np.maximum(z, 0) @ out.T, what="the sum of the outputs")
    expect_close(sum(p[1] for p in parts), back @ into, what="the sum of x's gradients")
    expect_close(np.concatenate([p[2] for p in parts]), back.T @ x, what="the gradient of into")
    expect_close(
        np.concatenate([p[3] for p in parts], axis=1), g.T @ np.maximum(z, 0),
        what="the gradient of out",
    )  # fmt: skip


@part_of_layer.mistake("A unit that is off passes nothing back. Where do you ask if it was on?")
def bend_forgotten(x, into, out, g):
    hidden = np.maximum(x @ into.T, 0)
    back = g @ out
    return hidden @ out.T, back @ into, back.T @ x, g.T @ hidden


@part_of_layer.mistake(
    "The gradient of out needs what entered it: the hidden units after the bend."
)
def before_the_bend(x, into, out, g):
    z = x @ into.T
    back = (g @ out) * (z > 0)
    return np.maximum(z, 0) @ out.T, back @ into, back.T @ x, g.T @ z


@part_of_layer.mistake("What makes this layer more than one matrix? It is missing.")
def no_bend(x, into, out, g):
    z, back = x @ into.T, g @ out
    return z @ out.T, back @ into, back.T @ x, g.T @ z


@part_of_layer.mistake("A gradient has the shape of what it is the gradient of. Have yours?")
def transposed(x, into, out, g):
    z = x @ into.T
    hidden = np.maximum(z, 0)
    back = (g @ out) * (z > 0)
    return hidden @ out.T, back @ into, x.T @ back, hidden.T @ g


@part_of_layer.mistake("Whoever takes a mean over the rows has put it into g already.")
def mean_of_rows(x, into, out, g):
    z = x @ into.T
    hidden = np.maximum(z, 0)
    back = (g @ out) * (z > 0)
    return hidden @ out.T, back @ into, back.T @ x / len(x), g.T @ hidden / len(x)


@part_of_layer.mistake("The bend has a slope, 0 or 1. How large is it where a unit is on?")
def hidden_for_slope(x, into, out, g):
    hidden = np.maximum(x @ into.T, 0)
    back = (g @ out) * hidden
    return hidden @ out.T, back @ into, back.T @ x, g.T @ hidden


@exercise(
    "When is everything done?",
    difficulty=4,
    minutes=30,
    section="what-must-come-before-what",
    counterpart="chainrule.training.distributed_training.schedules:timeline",
    idea="Keep for each worker its clock and its place in its list. Go round the workers and let "
    "each do what it can; stop when a whole round changes nothing.",
)
def last_end(order, forward, backward):
    """Return when the last action of a pipeline ends, each done as early as possible.

    order holds for each worker its actions in order, pairs of a letter and a number: ("F", 2) is
    the forward pass of micro-batch 2. forward and backward are the times they take. A schedule
    that can never be carried out raises ValueError.
    """
    workers = len(order)
    ends, clocks, places = {}, [0.0] * workers, [0] * workers
    moved = True
    while moved:
        moved = False
        for r, actions in enumerate(order):
            while places[r] < len(actions):
                letter, i = actions[places[r]]
                needed = [(r - 1, "F", i)] if letter == "F" and r else []
                if letter == "B":
                    needed = [(r, "F", i)] + [(r + 1, "B", i)] * (r + 1 < workers)
                if any(key not in ends for key in needed):
                    break
                start = max([clocks[r], *(ends[key] for key in needed)])
                clocks[r] = start + (forward if letter == "F" else backward)
                ends[r, letter, i] = clocks[r]
                places[r] += 1
                moved = True
    if any(places[r] < len(order[r]) for r in range(workers)):
        raise ValueError("the workers wait for each other forever")
    return max(clocks)


@last_end.by_package
def _(package, order, forward, backward):
    actions = [[Action(*action) for action in worker] for worker in order]
    try:
        events = package(actions, {"F": forward, "B": backward})
    except ScheduleError as error:
        raise ValueError(str(error)) from None
    return float(max(event.end for event in events))


def _all_forward_first(workers, batches):
    one = [(letter, i) for letter in "FB" for i in range(batches)]
    return [list(one) for _ in range(workers)]


@last_end.check
def all_forward_first(answer, rng):
    given = [answer(_all_forward_first(p, m), 1.5, 2.25) for p, m in ((1, 3), (2, 3), (4, 5))]
    expect_close(given, [3 * 3.75, 4 * 3.75, 8 * 3.75], what="the ends of three schedules")


@last_end.check
def one_worker_holds_up_the_others(answer, rng):
    order = [[("F", 1), ("F", 0), ("B", 0), ("B", 1)], [("F", 0), ("B", 0), ("F", 1), ("B", 1)]]
    expect_close(answer(order, 1.0, 2.5), 11.5, what="the end of a schedule with two orders")


@last_end.check
def one_micro_batch_after_the_other(answer, rng):
    order = [[(letter, i) for i in range(3) for letter in "FB"]] * 3
    expect_close(answer(order, 1.25, 2.0), 29.25, what="the end of three workers in turn")


@last_end.check
def a_backward_pass_before_its_forward(answer, rng):
    order = [[("F", 0), ("B", 0)], [("B", 0), ("F", 0)]]
    try:
        answer(order, 1.0, 1.0)
    except ValueError:
        return
    expect(False, "expected a ValueError: worker 1 is to do B0 before F0")


def _ends(order, forward, backward, needs):
    workers = len(order)
    ends, clocks, places, moved = {}, [0.0] * workers, [0] * workers, True
    while moved:
        moved = False
        for r, actions in enumerate(order):
            while places[r] < len(actions):
                letter, i = actions[places[r]]
                needed = needs(r, letter, i, workers)
                if any(key not in ends for key in needed):
                    break
                start = max([clocks[r], *(ends[key] for key in needed)])
                clocks[r] = start + (forward if letter == "F" else backward)
                ends[r, letter, i] = clocks[r]
                places[r] += 1
                moved = True
    if any(places[r] < len(order[r]) for r in range(workers)):
        raise ValueError("never")
    return max(clocks)


def _page(r, letter, i, workers):
    if letter == "F":
        return [(r - 1, "F", i)] if r else []
    return [(r, "F", i)] + [(r + 1, "B", i)] * (r + 1 < workers)


@last_end.mistake("Your workers go back without the gradient. From whom does it come?")
def backward_alone(order, forward, backward):
    def needs(r, letter, i, workers):
        if letter == "F":
            return [(r - 1, "F", i)] if r else []
        return [(r, "F", i)]

    return _ends(order, forward, backward, needs)


@last_end.mistake(
    "Your gradients travel the way the rows do. The last worker is the first to go back."
)
def wrong_direction(order, forward, backward):
    def needs(r, letter, i, workers):
        before = [(r - 1, letter, i)] if r else []
        return before if letter == "F" else [(r, "F", i), *before]

    return _ends(order, forward, backward, needs)


@last_end.mistake(
    "You add up the work of one worker. When does it have to wait?",
    raises=(True, False),
)
def nobody_waits(order, forward, backward, raises):
    if raises:
        _ends(order, forward, backward, _page)
    cost = {"F": forward, "B": backward}
    return max(sum(cost[letter] for letter, _ in actions) for actions in order)


@last_end.mistake(
    "You add up all actions. Which of them can be done at the same time?",
    raises=(True, False),
)
def one_at_a_time(order, forward, backward, raises):
    if raises:
        _ends(order, forward, backward, _page)
    return sum(forward if letter == "F" else backward for actions in order for letter, _ in actions)


@last_end.mistake("The two kinds of passes take different times. Which one did you use for both?")
def same_time_for_both(order, forward, backward):
    return _ends(order, forward, forward, _page)


@last_end.mistake(
    "A closed form knows one order only. Follow the lists that you were given.",
    raises=(True, False),
)
def closed_form(order, forward, backward, raises):
    if raises:
        _ends(order, forward, backward, _page)
    batches = sum(letter == "F" for letter, _ in order[0])
    return (batches + len(order) - 1) * (forward + backward)


@exercise(
    "The fastest mesh",
    difficulty=5,
    minutes=40,
    section="which-split-for-this-cluster",
    because="the package's planner has eight terms for a step, and this one has three",
    idea="Try all divisors of the number of devices for the pipeline and for the matrices; what is "
    "left is for the batch. Throw away what is not allowed or does not fit; keep the fastest.",
)
def fastest_mesh(devices, node, memory, weights, batches, compute, message):
    """Return (data, tensor, pipeline), the split with the shortest step of those that fit.

    The three multiply to devices, and data divides batches, the micro-batches of a step.
    Tensor parallelism stays inside a machine: tensor divides node, the devices of a machine. A
    device keeps 16 bytes for each of its weights (there are weights of them, cut by tensor and
    pipeline), and has memory bytes.

    One micro-batch takes compute seconds, both passes, on one device alone. Its products are cut
    by tensor and by pipeline. With tensor > 1 its all-reduces take message·2(tensor − 1)/tensor
    seconds, and the workers of a pipeline share them, each for its own layers. A step lasts as
    long as 1F1B takes for the micro-batches of one data worker. Messages between data workers
    hide behind the passes. If nothing fits: ValueError.
    """
    found = []
    for tensor in (t for t in range(1, node + 1) if node % t == 0):
        for pipeline in range(1, devices + 1):
            data, left = divmod(devices, tensor * pipeline)
            if left or not data or batches % data:
                continue
            if 16 * weights / (tensor * pipeline) > memory:
                continue
            one = (compute / tensor + message * 2 * (tensor - 1) / tensor) / pipeline
            steps = batches // data + pipeline - 1
            found.append((steps * one, (data, tensor, pipeline)))
    if not found:
        raise ValueError(f"the model fits on no split of {devices} devices")
    return min(found)[1]


def _fastest(
    devices, node, memory, weights, batches, compute, message, *,
    lasts=lambda m, p: m + p - 1, holds=lambda d, t, p: t * p,
    sums=lambda message, t, p: message * 2 * (t - 1) / t / p, inside=True, whole=True, best=min,
):  # fmt: skip
    found = []
    for tensor in range(1, (node if inside else devices) + 1):
        for pipeline in range(1, devices + 1):
            data, left = divmod(devices, tensor * pipeline)
            fits = 16 * weights / holds(data, tensor, pipeline) <= memory if data else False
            if left or not fits or (whole and batches % data) or (inside and node % tensor):
                continue
            one = compute / tensor / pipeline + sums(message, tensor, pipeline)
            found.append((lasts(batches / data, pipeline) * one, (data, tensor, pipeline)))
    if not found:
        raise ValueError("nothing fits")
    return best(found)[1]


@fastest_mesh.check
def a_model_that_fits_on_one_device(answer, rng):
    given = [tuple(answer(8, 4, 80e9, 2e9, m, 1.0, 0.3)) for m in (64, 8)]
    expect_equal(given, [(8, 1, 1), (8, 1, 1)], what="the meshes for 64 and for 8 micro-batches")


@fastest_mesh.check
def a_model_that_must_be_cut(answer, rng):
    many = tuple(answer(32, 8, 80e9, 30e9, 256, 1.0, 0.3))
    expect_equal(many, (4, 1, 8), what="the mesh for 30 billion weights, 256 micro-batches")
    few = tuple(answer(32, 8, 80e9, 30e9, 8, 1.0, 0.3))
    expect_equal(few, (4, 2, 4), what="the same with 8 micro-batches in all")


@fastest_mesh.check
def several_clusters(answer, rng):
    cases = [
        (16, 8, 40e9, 10e9, 12, 2.0, 0.1), (24, 8, 80e9, 20e9, 48, 1.0, 0.02),
        (64, 8, 80e9, 70e9, 64, 4.0, 1.5), (12, 4, 80e9, 9e9, 30, 1.0, 3.0),
        (16, 2, 80e9, 60e9, 16, 1.0, 0.001), (9, 3, 80e9, 5e9, 10, 1.0, 0.4),
    ]  # fmt: skip
    for case in cases:
        names = "devices, node, memory, weights, batches, compute, message"
        expect_equal(
            tuple(answer(*case)), fastest_mesh(*case), what=f"the mesh for {names} = {case}"
        )


@fastest_mesh.check
def nothing_fits(answer, rng):
    try:
        answer(4, 4, 80e9, 70e9, 8, 1.0, 0.1)
    except ValueError:
        return
    expect(False, "expected a ValueError: 280 GB a device do not fit into 80 GB")


@fastest_mesh.mistake("Your pipelines never wait. How long until the last worker has its first?")
def no_bubble(*cluster):
    return _fastest(*cluster, lasts=lambda m, p: m)


@fastest_mesh.mistake("You cut the states over the data workers. They keep a copy each here.")
def zero_for_nothing(*cluster):
    return _fastest(*cluster, holds=lambda d, t, p: d * t * p)


@fastest_mesh.mistake("Your tensor parallelism leaves the machine. What is node for?")
def across_machines(*cluster):
    return _fastest(*cluster, inside=False)


@fastest_mesh.mistake("Some data workers get more micro-batches than others. Is that allowed?")
def uneven_batches(*cluster):
    return _fastest(*cluster, whole=False)


@fastest_mesh.mistake("The messages of tensor parallelism are free in your model.")
def free_messages(*cluster):
    return _fastest(*cluster, sums=lambda message, t, p: 0.0)


@fastest_mesh.mistake("A pipeline's worker pays for the sums of its own layers, not of all.")
def sums_of_all_layers(*cluster):
    return _fastest(*cluster, sums=lambda message, t, p: message * 2 * (t - 1) / t)


@fastest_mesh.mistake("You return the slowest. Which end of the list do you want?")
def slowest(*cluster):
    return _fastest(*cluster, best=max)
