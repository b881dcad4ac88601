"""Real processes instead of simulated workers: the same programs, with messages over sockets.

`SocketWorker` has the four names of `Communicator`. `run_processes` starts the workers as
processes of their own; a program is a function that a new process can import.
`worker_from_environment` finds the others when somebody else has started them.
"""

from __future__ import annotations

import json
import os
import pickle
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.shapes import Array
from chainrule.training.distributed_training.world import CommunicationError

__all__ = ["SocketWorker", "run_processes", "worker_from_environment"]

_HEADER = struct.Struct("!IQ")  # bytes of the description, bytes of the array


class SocketWorker:
    """A worker that is a process: arrays travel through one connection to each other worker."""

    def __init__(self, rank: int, connections: dict[int, socket.socket]) -> None:
        self.rank, self.size = rank, len(connections) + 1
        self.bytes_sent = 0
        self._connections = connections
        self._mail: dict[int, deque[tuple[Array, Any]]] = {r: deque() for r in connections}
        self._ready = {r: threading.Semaphore(0) for r in connections}
        for r in connections:  # a thread reads on while this one sends: no two wait for each other
            threading.Thread(target=self._listen, args=(r,), daemon=True).start()

    def send(self, to: int, array: Array, tag: Any = None) -> None:
        """Send a copy of an array."""
        array = np.ascontiguousarray(array)
        about = json.dumps([array.dtype.str, np.shape(array), tag]).encode()
        header = _HEADER.pack(len(about), array.nbytes)
        self._connections[to].sendall(header + about + array.tobytes())
        self.bytes_sent += array.nbytes

    def receive(self, source: int, tag: Any = None) -> Array:
        """Wait for the next array from a worker.

        Raises:
            CommunicationError: it is another message than the one expected, or there is no more.
        """
        self._ready[source].acquire()
        if not self._mail[source]:
            raise CommunicationError(f"worker {self.rank}: the connection to {source} has ended")
        array, sent_tag = self._mail[source].popleft()
        if sent_tag != json.loads(json.dumps(tag)):
            raise CommunicationError(
                f"worker {self.rank} expected {tag!r} from worker {source}, got {sent_tag!r}"
            )
        return array

    def close(self) -> None:
        """Say good-bye: return when all have said it, and close the connections."""
        for other in self._connections:
            self.send(other, np.zeros(0), "good-bye")
        for other in self._connections:
            self.receive(other, "good-bye")
        for connection in self._connections.values():
            connection.close()

    def _listen(self, source: int) -> None:
        connection = self._connections[source]
        try:
            while True:
                about, size = _HEADER.unpack(_exactly(connection, _HEADER.size))
                dtype, shape, tag = json.loads(_exactly(connection, about))
                array = np.frombuffer(_exactly(connection, size), dtype).reshape(shape).copy()
                self._mail[source].append((array, tag))
                self._ready[source].release()
        except OSError:
            self._ready[source].release()


def _exactly(connection: socket.socket, size: int) -> bytes:
    """The next ``size`` bytes: a socket hands out as many as have come."""
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(min(size - len(parts), 1 << 20))
        if not part:
            raise ConnectionError("the other side has closed the connection")
        parts += part
    return bytes(parts)


def run_processes(
    size: int, program: Callable[..., Any], arguments: Sequence[Any] = (), timeout: float = 60.0
) -> list[Any]:
    """Run ``program(worker, *arguments)`` in ``size`` new processes; return what each returned.

    They talk through sockets on this machine. The program is a function of a module that a new
    process can import, and is found there by its name.

    Raises:
        ValueError: no worker.
        CommunicationError: a process failed, or was not done after ``timeout`` seconds.
    """
    if size < 1:
        raise ValueError(f"at least 1 process, got {size}")
    job = pickle.dumps((program, tuple(arguments)))
    port = _free_port()
    processes = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for rank in range(size):
                places = {
                    "RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(port - 1), "PYTHONPATH": os.pathsep.join(sys.path),
                }  # fmt: skip
                command = [sys.executable, "-c", f"from {__name__} import _child; _child()"]
                command.append(str(Path(folder, str(rank))))
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, env={**os.environ, **places}
                )
                assert process.stdin is not None
                process.stdin.write(job)
                process.stdin.close()
                processes.append(process)
            end = time.monotonic() + timeout
            while any(process.poll() is None for process in processes):
                if time.monotonic() > end:
                    late = [str(r) for r, q in enumerate(processes) if q.poll() is None]
                    raise CommunicationError(
                        f"not done after {timeout} seconds: process {', '.join(late)}"
                    )
                time.sleep(0.01)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        return _results([Path(folder, str(rank)) for rank in range(size)])


def _results(files: Sequence[Path]) -> list[Any]:
    """What the processes left, or the error that the others only followed."""
    outcomes: list[tuple[str, Any]] = [
        pickle.loads(file.read_bytes()) if file.exists() else ("failed", "it left no result")
        for file in files
    ]
    for kind in ("failed", "followed"):
        for rank, (outcome, result) in enumerate(outcomes):
            if outcome == kind:
                raise CommunicationError(f"process {rank} failed: {result}")
    return [result for _, result in outcomes]


def _child() -> None:
    """Run the job on standard input as the worker that the environment says."""
    program, arguments = pickle.loads(sys.stdin.buffer.read())
    outcome: tuple[str, Any]
    try:
        worker = worker_from_environment()
        result = program(worker, *arguments)
        worker.close()
        outcome = "done", result
    except Exception as error:
        lost = isinstance(error, OSError) or "has ended" in str(error)
        outcome = "followed" if lost else "failed", f"{type(error).__name__}: {error}"
    Path(sys.argv[1]).write_bytes(pickle.dumps(outcome))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def worker_from_environment(timeout: float = 30.0) -> SocketWorker:
    """Return the worker that a launcher has made of this process.

    The launcher sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. Worker 0 listens one port
    above the launcher's and tells everybody where the others listen. All run on one machine.
    """
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    meeting = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]) + 1
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    if rank == 0:
        ports, guests = {0: port}, []
        with socket.create_server(meeting) as desk:
            while len(ports) < size:
                guest, _ = desk.accept()
                other, its_port = struct.unpack("!II", _exactly(guest, 8))
                ports[other] = its_port
                guests.append(guest)
        known = [ports[r] for r in range(size)]
        for guest in guests:
            guest.sendall(struct.pack(f"!{size}I", *known))
            guest.close()
    else:
        end = time.monotonic() + timeout
        while True:
            try:
                desk = socket.create_connection(meeting)
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
        desk.sendall(struct.pack("!II", rank, port))
        known = list(struct.unpack(f"!{size}I", _exactly(desk, 4 * size)))
        desk.close()
    return SocketWorker(rank, _connect(rank, known, listener))


def _connect(rank: int, ports: list[int], listener: socket.socket) -> dict[int, socket.socket]:
    """A connection to each other worker: the lower number is called by the higher."""
    connections = {}
    for other in range(rank):
        connections[other] = socket.create_connection(("127.0.0.1", ports[other]))
        connections[other].sendall(struct.pack("!I", rank))
    for _ in range(rank + 1, len(ports)):
        connection, _ = listener.accept()
        connections[struct.unpack("!I", _exactly(connection, 4))[0]] = connection
    return connections
