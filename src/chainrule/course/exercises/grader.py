"""Grading a learner's file in a process of its own, with limits on time and memory.

The parent starts one worker and reads a line of JSON for each exercise. A worker that hangs is
killed, one that crashes is gone; either way the exercise gets its verdict, and a new worker goes
on with those that remain. What the learner's code prints goes to a file, never to the protocol.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chainrule.course.children import PYTHON, environment, kill
from chainrule.course.exercises import grading, stubs
from chainrule.course.exercises.grading import FAILED, FILE_LIMIT, MEMORY, PASSED, UNTOUCHED

__all__ = ["FAILED", "PASSED", "UNTOUCHED", "Result", "grade", "work"]

START_SECONDS = 20.0
OUTPUT_LIMIT = 2_000


@dataclass(frozen=True)
class Result:
    """The verdict on one exercise; an empty name stands for the file as a whole.

    ``verdict`` is ``passed``, ``not started yet``, ``failed``, ``printed`` (what the file prints
    when it is loaded), or what stopped the code: ``error``, ``timeout``, ``memory``, ``crash``,
    ``exit``, ``missing``, ``threads``, ``unreadable``.
    """

    name: str
    verdict: str
    message: str = ""
    check: str = ""
    hint: str = ""
    call: str = ""
    output: str = ""
    parts: str = ""


def grade(
    exercises: Path,
    answers: Path,
    *,
    seconds: float | None = None,
    only: str | Collection[str] = (),
    look: str = "",
    waiting: Callable[[str, float], None] = lambda name, seconds: None,
) -> Iterator[Result]:
    """Grade a learner's file, one result an exercise, in order, each as soon as it is there.

    ``only`` names one exercise, or several. ``seconds`` replaces their own time limits. A file that
    cannot be used gives one result, with an empty name. ``look`` at what fails: ``replay`` keeps
    the arguments of each call beside the learner's file, ``compare`` finds where answer and
    solution part. ``waiting`` is told every second what is running, and for how long.
    """
    wanted = {only} if isinstance(only, str) else set(only)
    entries = stubs.survey(exercises)
    names = [entry.name for entry in entries if not wanted - {""} or entry.name in wanted]
    remaining = list(names)
    while remaining:
        for result in _one_worker(exercises, answers, remaining, seconds, look, waiting):
            if result.verdict != "printed":
                yield result
                if not result.name:
                    return
                remaining.remove(result.name)
            elif remaining == names:
                yield result


def _one_worker(
    exercises: Path,
    answers: Path,
    names: list[str],
    seconds: float | None,
    look: str,
    waiting: Callable[[str, float], None],
) -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder) / "printed"
        paths = str(exercises.resolve()), str(answers.resolve())
        arguments = json.dumps([*paths, names, seconds, look])
        with printed.open("wb") as sink:
            process = subprocess.Popen(
                [*PYTHON, "-c", f"import {__name__} as g; g.work()", arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                env=environment() | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8:replace"},
                start_new_session=True,
            )
        try:
            yield from _listen(process, printed, waiting)
        finally:
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    kill(process)
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with contextlib.suppress(OSError):
            pipe.close()
    process.wait()


def _listen(
    process: subprocess.Popen[bytes], printed: Path, waiting: Callable[[str, float], None]
) -> Iterator[Result]:
    """Turn the worker's lines, its silence or its end into results."""
    lines: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
    current, limit, position, useful = "", START_SECONDS, 0, False
    begun, found = time.monotonic(), None
    place: dict[str, str] = {}
    while True:
        spent = time.monotonic() - begun
        try:
            line = lines.get(timeout=min(max(limit - spent, 0.0), 1.0))
        except queue.Empty:
            if (spent := time.monotonic() - begun) < limit:
                waiting(current, spent)
                continue
            message = f"still running after {limit:g} s and stopped: an endless loop, or far too"
            message += " much work"
            yield found or Result(
                current, "timeout", message, **place, output=_output(printed, position)
            )
            return
        if not line:
            code = process.wait()
            if current or code != 0 or not useful:
                yield found or _ended(current, code, _output(printed, position), place)
            return
        data = json.loads(line)
        if "start" in data:
            current, limit, begun, place = data["start"], data["limit"], time.monotonic(), {}
        elif "check" in data:
            place = {"check": data["check"], "call": data["call"]}
        elif "found" in data:
            found = Result(**data["found"], output=_output(printed, position, data["end"]))
        elif "result" in data:
            output = _output(printed, position, data["end"])
            result = Result(**data["result"], output=output)
            if output or result.verdict != "printed":
                yield result
            useful |= bool(current)
            current, position, found = "", data["end"], None
        else:
            return


def _pump(pipe: Any, lines: queue.Queue[bytes]) -> None:
    with contextlib.suppress(ValueError, OSError):
        for line in pipe:
            lines.put(line)
    lines.put(b"")


def _output(printed: Path, start: int, end: int | None = None) -> str:
    """What was printed between two positions, cut where it is long."""
    size = (printed.stat().st_size if end is None else end) - start
    with printed.open("rb") as file:
        file.seek(start)
        text = file.read(min(OUTPUT_LIMIT, size)).decode("utf-8", "replace").rstrip()
    return text + (f"\n… and {size - OUTPUT_LIMIT:,} bytes more" * (size > OUTPUT_LIMIT))


def _ended(name: str, code: int, output: str, place: dict[str, str]) -> Result:
    if not name and "Traceback" in output:
        return Result("", "error", "the grader could not start", output=output)
    kind = signal.Signals(-code).name if code < 0 else ""
    verdict, message = {
        "": ("exit", f"your code ended the whole Python process (exit status {code})"),
        "SIGXCPU": ("timeout", "used up its processor time and was stopped"),
        "SIGKILL": ("memory", "was killed by the system, which usually means that memory ran out"),
    }.get(kind, ("crash", f"the Python process crashed ({kind})"))
    return Result(name, verdict, message, **place, output=output)


# In the worker


def work() -> None:
    """Grade what the command line names; one line of JSON an exercise on the real stdout."""
    import numpy  # noqa: F401 - its memory does not count as the learner's

    exercises, answers, names, seconds, look = json.loads(sys.argv[1])
    owner, protocol = os.getpid(), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    lifeline = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = grading.NoKeyboard()
    sys.stdout = sys.stderr
    threading.Thread(target=end_with_parent, args=(lifeline,), daemon=True).start()

    def send(**data: Any) -> None:
        if os.getpid() == owner:
            data["end"] = os.fstat(2).st_size
            protocol.write(json.dumps(data) + "\n")
            protocol.flush()

    from chainrule.course.exercises import load

    by_name = {item.name: item for item in load(Path(exercises))}
    limit_memory()
    send(start="", limit=seconds or 10.0)
    _limit_time(seconds or 10.0)
    space, trouble = grading.execute(Path(answers))
    send(result=trouble or {"name": "", "verdict": "printed"})
    if trouble:
        send(done=True)
        os._exit(0)
    states = grading.states(Path(answers))
    for name in names:
        item = by_name[name]
        limit = seconds or item.seconds
        send(start=name, limit=limit)
        _limit_time(limit)
        before = set(threading.enumerate())
        try:
            result = grading.grade_one(item, space, states.get(name), Path(answers), look, send)
        except BaseException as error:
            result = grading.stopped(error, Path(answers))
        left = [thread for thread in threading.enumerate() if thread not in before]
        for thread in left:
            thread.join(0.2)
        if count := sum(thread.is_alive() for thread in left):
            plural = "a thread" if count == 1 else f"{count} threads"
            message = f"left {plural} running: join what you start before you return"
            result = {"verdict": "threads", "message": message}
        send(result={"name": name, **result})
        if left:
            break
    send(done=True)
    os._exit(0)


def end_with_parent(lifeline: int) -> None:
    """Wait in a thread until the other end of a pipe is closed, and end the process."""
    os.read(lifeline, 1)
    os._exit(1)


def limit_memory(files: int = FILE_LIMIT) -> None:
    """Limit this process for good: no core file, files of so many bytes, so much memory."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (files, files))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (ImportError, ValueError, OSError):
        return


def _limit_time(seconds: float) -> None:
    """Limit the processor time too: it holds even where nobody is left to watch the clock."""
    try:
        import resource

        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds) + 2, hard))
    except (ImportError, ValueError, OSError):
        return
