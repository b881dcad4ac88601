"""A queue of requests and a model that serves several at once: five ways to form a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["POLICIES", "Request", "Served", "Serving", "simulate_serving"]

POLICIES = ("static", "dynamic", "continuous", "chunked", "disaggregated")


@dataclass(frozen=True)
class Request:
    """When a request arrives, how many tokens it brings, and how many it wants."""

    arrival: float
    prompt: int
    output: int

    def __post_init__(self) -> None:
        if not (self.arrival >= 0 and self.prompt >= 1 and self.output >= 1):
            raise ValueError(
                f"a request arrives at 0 or later with tokens to read and write: {self}"
            )


@dataclass
class Served:
    """What became of a request: when it was let in, and when each of its tokens came."""

    request: Request
    started: float = np.inf
    read: int = 0
    times: list[float] = field(default_factory=list)
    left: float = np.inf  # when its place in the batch became free

    @property
    def done(self) -> bool:
        """Whether all tokens were written."""
        return len(self.times) == self.request.output


@dataclass(frozen=True)
class Serving:
    """All requests, in the order of their arrival, and what they met."""

    served: list[Served]

    @property
    def throughput(self) -> float:
        """Tokens written in a unit of time, from the first arrival to the last token."""
        start = self.served[0].request.arrival
        end = max(s.times[-1] for s in self.served)
        return sum(s.request.output for s in self.served) / (end - start)

    def first_token(self, quantile: float) -> float:
        """A quantile of the wait for the first token, from the arrival."""
        return float(np.quantile([s.times[0] - s.request.arrival for s in self.served], quantile))

    def between_tokens(self, quantile: float) -> float:
        """A quantile of the wait from one token of a request to its next; 0 if none has two."""
        gaps = np.concatenate([np.diff(s.times) for s in self.served])
        return float(np.quantile(gaps, quantile)) if len(gaps) else 0.0


def simulate_serving(
    requests: Sequence[Request],
    policy: str,
    max_batch: int,
    step_time: Callable[[int], float],
    chunk: int = 64,
) -> Serving:
    """Serve requests step by step and return when each token came.

    ``step_time(tokens)`` is how long a step takes that passes so many tokens through the model. A
    request first reads its prompt; the step that reads the last of it writes the first token.

    - ``static`` waits for ``max_batch`` requests and serves them until the last is done.
    - ``dynamic`` takes those that wait, and serves them until the last is done.
    - ``continuous`` lets a request in before any step in which a place is free (Yu et al. 2022,
      Orca, OSDI), and reads its prompt whole.
    - ``chunked`` does the same with at most ``chunk`` prompt tokens a step (Agrawal et al. 2023,
      arXiv:2308.16369).
    - ``disaggregated`` reads prompts on a second machine, one after the other; moving the keys
      and values is free (Zhong et al. 2024, arXiv:2401.09670).

    In a batch that stays together, a finished row still passes through every step.

    Raises:
        ValueError: no requests, an unknown policy, or a batch or chunk without room.
    """
    if policy not in POLICIES:
        raise ValueError(f"policy is one of {', '.join(POLICIES)}, got {policy!r}")
    if not requests or max_batch < 1 or chunk < 1:
        raise ValueError(
            f"needs requests, a batch and a chunk of at least 1, got {len(requests)}, "
            f"{max_batch} and {chunk}"
        )
    queue = [Served(r) for r in sorted(requests, key=lambda r: r.arrival)]
    if policy in ("static", "dynamic"):
        _together(queue, policy == "static", max_batch, step_time)
    elif policy == "disaggregated":
        _disaggregated(queue, max_batch, step_time)
    else:
        ready = [s.request.arrival for s in queue]
        _continuous(queue, ready, max_batch, step_time, chunk if policy == "chunked" else None)
    return Serving(queue)


def _together(
    queue: list[Served], full: bool, max_batch: int, step_time: Callable[[int], float]
) -> None:
    now, first = 0.0, 0
    while first < len(queue):
        if full:
            batch = queue[first : first + max_batch]
            now = max(now, batch[-1].request.arrival)
        else:
            now = max(now, queue[first].request.arrival)
            waiting = [s for s in queue[first:] if s.request.arrival <= now]
            batch = waiting[:max_batch]
        first += len(batch)
        for s in batch:
            s.started, s.read = now, s.request.prompt
        padded = max(s.request.prompt for s in batch) * len(batch)
        for step in range(max(s.request.output for s in batch)):
            now += step_time(len(batch) if step else padded)
            for s in batch:
                if not s.done:
                    s.times.append(now)
        for s in batch:
            s.left = now


def _continuous(
    queue: list[Served],
    ready: list[float],
    max_batch: int,
    step_time: Callable[[int], float],
    chunk: int | None,
) -> None:
    """Let in those that are ready before every step; ``chunk`` bounds the prompt tokens of one."""
    now, first = 0.0, 0
    batch: list[Served] = []
    while batch or first < len(queue):
        if not batch:
            now = max(now, ready[first])
        while first < len(queue) and len(batch) < max_batch and ready[first] <= now:
            queue[first].started = min(queue[first].started, now)
            batch.append(queue[first])
            first += 1
        budget = chunk
        tokens, writers = 0, []
        for s in batch:
            missing = s.request.prompt - s.read
            if missing and budget is not None:
                missing = min(missing, budget)
                budget -= missing
            s.read += missing
            tokens += missing
            if s.times and not missing:
                tokens += 1
            if s.read == s.request.prompt:
                writers.append(s)
        now += step_time(tokens)
        for s in writers:
            s.times.append(now)
            if s.done:
                s.left = now
        batch = [s for s in batch if not s.done]


def _disaggregated(queue: list[Served], max_batch: int, step_time: Callable[[int], float]) -> None:
    clock, ready = 0.0, []
    for s in queue:
        s.started = max(clock, s.request.arrival)
        clock = s.started + step_time(s.request.prompt)
        s.read = s.request.prompt
        s.times.append(clock)
        if s.done:
            s.left = clock
        ready.append(clock)
    rest = [(s, t) for s, t in zip(queue, ready, strict=True) if not s.done]
    _continuous([s for s, _ in rest], [t for _, t in rest], max_batch, step_time, None)
