"""A simulator of workers that share nothing: messages, links that take time, and clocks.

Every worker runs the same ordinary program in a thread of its own, but only one thread runs at a
time, and it hands over only where it waits for a message. So a run is the same every time, and a
program that can never go on is found at once.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from chainrule.shapes import Array

__all__ = ["CommunicationError", "Communicator", "Event", "Group", "Link", "Worker", "World"]


class CommunicationError(RuntimeError):
    """Workers do not agree on who sends what to whom, and in which order."""


@dataclass(frozen=True)
class Link:
    """A connection: a message of b bytes arrives ``latency`` + b / ``bandwidth`` seconds later.

    Equation: training/distributed-training.md#eq-link
    """

    latency: float = 0.0
    bandwidth: float = float("inf")

    def __post_init__(self) -> None:
        if not self.latency >= 0 or not self.bandwidth > 0:
            raise ValueError(
                f"a link has latency ≥ 0 and bandwidth > 0, got {self.latency}, {self.bandwidth}"
            )

    def seconds(self, size: float) -> float:
        """Return how long a message of ``size`` bytes travels."""
        return self.latency + size / self.bandwidth


class Event(NamedTuple):
    """What one worker did from ``start`` to ``end``, in seconds."""

    worker: int
    label: str
    start: float
    end: float


@runtime_checkable
class Communicator(Protocol):
    """What a program needs of its worker: simulated, in a group, or a process with sockets."""

    @property
    def rank(self) -> int:
        """The worker's number, from 0."""

    @property
    def size(self) -> int:
        """How many workers there are."""

    def send(self, to: int, array: Array, tag: Any = None) -> None:
        """Send a copy of an array."""

    def receive(self, source: int, tag: Any = None) -> Array:
        """Wait for the next array from a worker."""


class Worker:
    """One simulated worker: its number, its clock, and what it sent."""

    def __init__(self, world: World, rank: int) -> None:
        self.world, self.rank = world, rank
        self.clock = 0.0
        self.busy = 0.0
        self.bytes_sent = 0
        self.messages_sent = 0
        self._port_free = 0.0

    @property
    def size(self) -> int:
        """How many workers there are."""
        return self.world.size

    def compute(self, seconds: float, label: str = "") -> None:
        """Let the clock run on for a computation.

        Raises:
            ValueError: a negative time.
        """
        if not seconds >= 0:
            raise ValueError(f"a computation takes at least 0 seconds, got {seconds}")
        self.world.events.append(Event(self.rank, label, self.clock, self.clock + seconds))
        self.clock += seconds
        self.busy += seconds

    def send(self, to: int, array: Array, tag: Any = None) -> None:
        """Send a copy of an array; the clock does not wait, but a port sends one at a time."""
        self.world.post(self, to, array, tag)

    def receive(self, source: int, tag: Any = None) -> Array:
        """Return the next array from ``source``, not before it arrives.

        Raises:
            CommunicationError: it is another message than the one expected (``tag``), or nobody
                will ever send it.
        """
        array, sent_tag, arrival = self.world.take(self, source)
        if sent_tag != tag:
            raise CommunicationError(
                f"worker {self.rank} expected {tag!r} from worker {source}, got {sent_tag!r}"
            )
        self.clock = max(self.clock, arrival)
        return array

    def group(self, ranks: Iterable[int]) -> Group:
        """Return this worker as a member of a smaller group."""
        return Group(self, ranks)


class Group:
    """Some of the workers, numbered from 0 among themselves.

    Raises:
        ValueError: the worker is no member, or one is named twice.
    """

    def __init__(self, worker: Communicator, ranks: Iterable[int]) -> None:
        self.worker, self.ranks = worker, tuple(ranks)
        if worker.rank not in self.ranks or len(set(self.ranks)) < len(self.ranks):
            raise ValueError(f"worker {worker.rank} needs a place in its group, got {self.ranks}")

    @property
    def rank(self) -> int:
        """The worker's number in the group."""
        return self.ranks.index(self.worker.rank)

    @property
    def size(self) -> int:
        """How many are in the group."""
        return len(self.ranks)

    def send(self, to: int, array: Array, tag: Any = None) -> None:
        """Send to a member."""
        self.worker.send(self.ranks[to], array, tag)

    def receive(self, source: int, tag: Any = None) -> Array:
        """Receive from a member."""
        return self.worker.receive(self.ranks[source], tag)


class _Stopped(BaseException):
    """Ends the threads of a run that failed elsewhere."""


class World:
    """``size`` workers and the links between them.

    ``link`` is one link for all pairs, or a function of sender and receiver. After `run`,
    ``workers`` hold clocks and bytes, ``events`` what was computed when.

    Raises:
        ValueError: there is no worker.
    """

    def __init__(self, size: int, link: Link | Callable[[int, int], Link] | None = None) -> None:
        if size < 1:
            raise ValueError(f"a world has at least 1 worker, got {size}")
        self.size = size
        self.link = Link() if link is None else link
        self.events: list[Event] = []
        self.workers = [Worker(self, rank) for rank in range(size)]
        self._mail: dict[tuple[int, int], deque[tuple[Array, Any, float]]] = defaultdict(deque)
        self._waits_for: list[int | None] = [None] * size
        self._turns = [threading.Semaphore(0) for _ in range(size)]
        self._control = threading.Semaphore(0)
        self._stopped = False

    @property
    def time(self) -> float:
        """When the last worker was done."""
        return max(worker.clock for worker in self.workers)

    @property
    def bytes_sent(self) -> list[int]:
        """Bytes that each worker sent."""
        return [worker.bytes_sent for worker in self.workers]

    def run(self, program: Callable[..., Any], *shared: Any) -> list[Any]:
        """Run ``program(worker, *shared)`` on every worker and return what each returned.

        Raises:
            CommunicationError: all wait for messages that nobody sends, or messages were sent
                that nobody read.
        """
        results: list[Any] = [None] * self.size
        errors: list[BaseException] = []
        done = [False] * self.size
        self._waits_for = [None] * self.size
        self._stopped = False

        def body(rank: int) -> None:
            self._turns[rank].acquire()
            try:
                if not self._stopped:
                    results[rank] = program(self.workers[rank], *shared)
            except _Stopped:
                pass
            except BaseException as error:
                error.add_note(f"on worker {rank} of {self.size}")
                errors.append(error)
            finally:
                done[rank] = True
                self._control.release()

        threads = [threading.Thread(target=body, args=(r,), daemon=True) for r in range(self.size)]
        for thread in threads:
            thread.start()
        self._take_turns(done, errors)
        for thread in threads:
            thread.join()
        wrong = errors or self._unread()
        self._mail.clear()
        if wrong:
            raise wrong[0]
        return results

    def _take_turns(self, done: Sequence[bool], errors: list[BaseException]) -> None:
        """Let one worker at a time go on, until all are done; none goes on after an error."""
        while not all(done):
            ready = [r for r in range(self.size) if not done[r] and self._can_go_on(r)]
            if errors or not ready:
                if not errors:
                    errors.append(self._deadlock(done))
                self._stopped = True
                ready = [r for r in range(self.size) if not done[r]]
            for rank in ready:
                self._turns[rank].release()
                self._control.acquire()

    def post(self, worker: Worker, to: int, array: Array, tag: Any) -> None:
        """Put a copy of a message under way; `Worker.send` calls this."""
        if not 0 <= to < self.size or to == worker.rank:
            raise ValueError(f"worker {worker.rank} of {self.size} cannot send to worker {to}")
        array = np.array(array)
        link = self.link(worker.rank, to) if callable(self.link) else self.link
        departure = max(worker.clock, worker._port_free)
        worker._port_free = departure + array.nbytes / link.bandwidth
        worker.bytes_sent += array.nbytes
        worker.messages_sent += 1
        self._mail[worker.rank, to].append((array, tag, departure + link.seconds(array.nbytes)))

    def take(self, worker: Worker, source: int) -> tuple[Array, Any, float]:
        """Return the oldest message from ``source``; others run until there is one."""
        if not 0 <= source < self.size or source == worker.rank:
            raise ValueError(f"worker {worker.rank} of {self.size} cannot receive from {source}")
        while not self._mail[source, worker.rank]:
            self._waits_for[worker.rank] = source
            self._control.release()
            self._turns[worker.rank].acquire()
            if self._stopped:
                raise _Stopped
        self._waits_for[worker.rank] = None
        return self._mail[source, worker.rank].popleft()

    def _can_go_on(self, rank: int) -> bool:
        source = self._waits_for[rank]
        return source is None or bool(self._mail[source, rank])

    def _unread(self) -> list[BaseException]:
        """An error for each pair of whom one sent what the other never read."""
        return [
            CommunicationError(
                f"worker {source} sent {len(letters)} messages to worker {to} that it never read"
            )
            for (source, to), letters in self._mail.items()
            if letters
        ]

    def _deadlock(self, done: Sequence[bool]) -> CommunicationError:
        waiting = [f"{r} for {s}" for r, s in enumerate(self._waits_for) if not done[r]]
        return CommunicationError(
            "every worker that is left waits for a message that nobody sends: "
            f"worker {', worker '.join(waiting)}"
        )
