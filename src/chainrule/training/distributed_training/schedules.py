"""Who computes what when in a pipeline: GPipe, 1F1B and a schedule that splits the backward pass.

An action is a letter and the number of a micro-batch: F the forward pass of this worker's layers;
B the backward pass, or, where the weights' gradients are computed separately, its part for the
input; W the weights' part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chainrule.training.distributed_training.world import Event

__all__ = [
    "KINDS", "Action", "ScheduleError", "bubble", "bubble_fraction", "check_schedule",
    "peak_in_flight", "schedule", "timeline",
]  # fmt: skip

KINDS = ("gpipe", "1f1b", "zb-h1")  # with one piece of the model a worker


class Action(NamedTuple):
    """One piece of work: F, B or W of a micro-batch, for one of the pieces that a worker holds."""

    kind: str
    batch: int
    chunk: int = 0

    def __str__(self) -> str:
        return f"{self.kind}{self.batch}" + (f".{self.chunk}" if self.chunk else "")


class ScheduleError(ValueError):
    """A schedule that computes something before what it needs, or twice, or never."""


def schedule(kind: str, workers: int, batches: int, chunks: int = 2) -> list[list[Action]]:
    """Return, for each worker (a stage of the pipeline), its actions in order.

    gpipe: all forward passes, then all backward passes. 1f1b: the forward passes that fill the
    pipeline, then backward and forward in turns. zb-h1: the same with B and W apart, where W fills
    the time that others leave. interleaved: 1f1b where each worker holds ``chunks`` pieces of the
    model, which a micro-batch visits in laps. Sources: Huang et al. 2018, arXiv:1811.06965;
    Narayanan et al. 2019, doi:10.1145/3341301.3359646, and 2021, arXiv:2104.04473; Qi et al. 2024,
    arXiv:2401.10241.

    Raises:
        ValueError: another kind, or no worker, micro-batch or piece; interleaved, where the
            micro-batches do not divide into groups as large as the pipeline is long.
    """
    if kind not in (*KINDS, "interleaved") or min(workers, batches, chunks) < 1:
        raise ValueError(
            f"a schedule is one of {(*KINDS, 'interleaved')} for at least 1 worker, 1 micro-batch "
            f"and 1 chunk, got {kind!r}, {workers}, {batches}, {chunks}"
        )
    if kind == "interleaved":
        if batches % workers:
            raise ValueError(f"{batches} micro-batches are no multiple of {workers} workers")
        return [_laps(workers, batches, chunks, rank) for rank in range(workers)]
    if kind == "gpipe":
        one = [Action(letter, i) for letter in "FB" for i in range(batches)]
        return [list(one) for _ in range(workers)]
    if kind == "1f1b":
        return [_one_forward_one_backward(workers - rank, batches) for rank in range(workers)]
    return _zero_bubble(workers, batches)


def _one_forward_one_backward(depth: int, batches: int) -> list[Action]:
    """``depth`` forward passes (as many as stages are left), then B and F in turns, then B."""
    first = min(depth, batches)
    actions = [Action("F", i) for i in range(first)]
    for i in range(batches):
        actions.append(Action("B", i))
        if first + i < batches:
            actions.append(Action("F", first + i))
    return actions


def _laps(workers: int, batches: int, chunks: int, rank: int) -> list[Action]:
    """A group of as many micro-batches as workers goes through one piece, then through the next."""
    groups = range(0, batches, workers)
    forward = [
        Action("F", first + i, chunk)
        for first in groups for chunk in range(chunks) for i in range(workers)
    ]  # fmt: skip
    backward = [Action("B", i, chunks - 1 - chunk) for _, i, chunk in forward]
    first = (workers - rank - 1) * (2 if chunks > 1 else 1) + (chunks - 1) * workers + 1
    actions = forward[:first]
    for i, action in enumerate(backward):
        actions += [action, *forward[first + i : first + i + 1]]
    return actions


def _zero_bubble(workers: int, batches: int) -> list[list[Action]]:
    """Let every worker do what it can in each unit of time: F, else B, else W.

    No worker holds more micro-batches than the first one of 1F1B: from F to W at most ``workers``,
    and from F to B no more than 1F1B would.
    """
    done: list[dict[Action, int]] = [{} for _ in range(workers)]  # when each action was ready
    counts = [{"F": 0, "B": 0, "W": 0} for _ in range(workers)]
    order: list[list[Action]] = [[] for _ in range(workers)]
    time = 0
    while any(count["W"] < batches for count in counts):
        chosen: list[Action | None] = []
        for rank, count in enumerate(counts):
            backward, forward = Action("B", count["B"]), Action("F", count["F"])
            held_to_b, held_to_w = count["F"] - count["B"], count["F"] - count["W"]
            if (
                count["F"] < batches
                and held_to_b < workers - rank
                and held_to_w < workers
                and _ready(done, rank, forward, time)
            ):
                chosen.append(forward)
            elif count["B"] < batches and _ready(done, rank, backward, time):
                chosen.append(backward)
            else:
                chosen.append(Action("W", count["W"]) if count["W"] < count["B"] else None)
        time += 1
        for rank, action in enumerate(chosen):
            if action is not None:
                done[rank][action] = time
                counts[rank][action.kind] += 1
                order[rank].append(action)
    return order


def _needs(rank: int, action: Action, workers: int, chunks: int = 1) -> list[tuple[int, Action]]:
    """What must be done before, and by whom."""
    kind, i, chunk = action
    if kind == "F":
        before = (rank - 1) % workers, Action("F", i, chunk - (rank == 0))
        return [before] if rank or chunk else []
    if kind == "W":
        return [(rank, Action("B", i, chunk))]
    own = [(rank, Action("F", i, chunk))]
    after = (rank + 1) % workers, Action("B", i, chunk + (rank == workers - 1))
    return own if after[1].chunk == chunks else [*own, after]


def _ready(done: Sequence[Mapping[Action, float]], rank: int, action: Action, time: float) -> bool:
    needed = _needs(rank, action, len(done))
    return all(a in done[r] and done[r][a] <= time for r, a in needed)


def timeline(
    order: Sequence[Sequence[Action]], seconds: Mapping[str, float], travel: float = 0.0
) -> list[Event]:
    """Return when every action happens, each as early as its worker and its inputs allow.

    ``seconds`` says how long F, B and W take, ``travel`` how long from one worker to the next.
    Events are sorted by start. Equation: training/distributed-training.md#eq-causality

    Raises:
        ScheduleError: the schedule can never be carried out.
    """
    p = len(order)
    chunks = 1 + max((action.chunk for actions in order for action in actions), default=0)
    done: list[dict[Action, float]] = [{} for _ in range(p)]
    clocks, places, events = [0.0] * p, [0] * p, []
    while any(places[r] < len(order[r]) for r in range(p)):
        moved = False
        for rank, actions in enumerate(order):
            while places[rank] < len(actions):
                action = actions[places[rank]]
                needed = _needs(rank, action, p, chunks)
                if any(a not in done[r] for r, a in needed):
                    break
                arrivals = [done[r][a] + (travel if r != rank else 0.0) for r, a in needed]
                start = max([clocks[rank], *arrivals])
                end = clocks[rank] = done[rank][action] = start + seconds[action.kind]
                events.append(Event(rank, str(action), start, end))
                places[rank] += 1
                moved = True
        if not moved:
            stuck = next(r for r in range(p) if places[r] < len(order[r]))
            action = order[stuck][places[stuck]]
            raise ScheduleError(
                f"worker {stuck} waits forever to do {action}: what it needs comes after it"
            )
    return sorted(events, key=lambda event: (event.start, event.worker))


def check_schedule(order: Sequence[Sequence[Action]], batches: int) -> None:
    """Raise `ScheduleError` unless every action is done once, and after what it needs."""
    letters = "FBW" if any(a.kind == "W" for actions in order for a in actions) else "FB"
    chunks = 1 + max((action.chunk for actions in order for action in actions), default=0)
    everything = {
        Action(letter, i, chunk)
        for letter in letters for i in range(batches) for chunk in range(chunks)
    }  # fmt: skip
    for rank, actions in enumerate(order):
        seen: set[Action] = set()
        for action in actions:
            if action in seen:
                raise ScheduleError(f"worker {rank} does {action} twice")
            if action not in everything:
                raise ScheduleError(f"worker {rank}: there is no {action}")
            seen.add(action)
        for missing in sorted(everything - seen):
            raise ScheduleError(f"worker {rank} never does {missing}")
    timeline(order, dict.fromkeys(letters, 1.0))


def bubble(events: Sequence[Event]) -> float:
    """Return the idle part of all workers' time from the first start to the last end."""
    workers = 1 + max(event.worker for event in events)
    whole = max(e.end for e in events) - min(e.start for e in events)
    return 1 - sum(e.end - e.start for e in events) / (workers * whole)


def bubble_fraction(
    kind: str, workers: int, batches: int, chunks: int = 1,
    forward: float = 1.0, backward: float = 2.0, weights: float | None = None,
) -> float:  # fmt: skip
    """Return the idle part of the time by its closed form.

    ``backward`` is the time of B and W together, ``weights`` of W alone (half of it by default).
    gpipe and 1f1b wait (p − 1)(F + B); "interleaved", with ``chunks`` pieces of the model a worker,
    that divided by the chunks; zb-h1 waits (p − 1)(F + B − 2W), where B is both parts, if all
    three parts take the same time and there are as many micro-batches as workers.
    Equation: training/distributed-training.md#eq-bubble
    Equation: training/distributed-training.md#eq-interleaved
    Equation: training/distributed-training.md#eq-zero-bubble

    Raises:
        ValueError: another kind.
    """
    weights = backward / 2 if weights is None else weights
    work = batches * (forward + backward)
    waits = {
        "gpipe": forward + backward,
        "1f1b": forward + backward,
        "interleaved": (forward + backward) / chunks,
        "zb-h1": forward + backward - 2 * weights,
    }
    if kind not in waits:
        raise ValueError(f"kind is one of {tuple(waits)}, not {kind!r}")
    idle = (workers - 1) * waits[kind]
    return idle / (work + idle)


def peak_in_flight(actions: Sequence[Action]) -> int:
    """Return how many micro-batches' activations a worker holds at most.

    They are held from F to the last action that needs them: W if there is one, else B.
    """
    last = "W" if any(a.kind == "W" for a in actions) else "B"
    held = peak = 0
    for action in actions:
        held += (action.kind == "F") - (action.kind == last)
        peak = max(peak, held)
    return peak
