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
import resource
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from chainrule.children import PYTHON, environment, kill
from chainrule.learner import grading
from chainrule.learner.grading import FAILED, FILE_LIMIT, MEMORY, PASSED, UNTOUCHED
from chainrule.learner.reading import survey

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
    only: str | Collection[str] = (),
    look: str = "",
    waiting: Callable[[str, float], None] = lambda name, seconds: None,
) -> Iterator[Result]:
    """Grade a learner's file, one result an exercise, in order, each as soon as it is there.

    ``only`` names one exercise, or several. A file that cannot be used gives one result, with an
    empty name. ``look`` at what fails: ``replay`` keeps the arguments of each call beside the
    learner's file, ``compare`` finds where answer and solution part. ``waiting`` is told every
    second what is running, and for how long.
    """
    wanted = {only} if isinstance(only, str) else set(only)
    entries = survey(exercises)
    names = [entry.name for entry in entries if not wanted - {""} or entry.name in wanted]
    remaining = list(names)
    while remaining:
        for result in _one_worker(exercises, answers, remaining, look, waiting):
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
    look: str,
    waiting: Callable[[str, float], None],
) -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder) / "printed"
        paths = str(exercises.resolve()), str(answers.resolve())
        mark = secrets.token_hex(16)
        arguments = json.dumps([*paths, names, look, mark])
        with (
            printed.open("wb") as sink,
            subprocess.Popen(
                [*PYTHON, "-c", f"import {__name__} as g; g.work()", arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                env=environment() | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8:replace"},
                start_new_session=True,
            ) as process,
        ):
            try:
                yield from _listen(process, mark.encode(), printed, waiting)
            finally:
                kill(process)


def _listen(
    process: subprocess.Popen[bytes],
    mark: bytes,
    printed: Path,
    waiting: Callable[[str, float], None],
) -> Iterator[Result]:
    """Turn the worker's lines, its silence or its end into results.

    A line that does not bear the worker's mark was written by the learner's code.
    """
    lines: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
    begun, limit, position, useful = time.monotonic(), START_SECONDS, 0, False
    known: dict[str, Any] = {"name": ""}
    while (line := _next(lines, begun, limit, partial(waiting, known["name"]))) is not None:
        if not line:
            code = process.wait()
            if known["name"] or code != 0 or not useful:
                yield _stopped(known, _ended(code), printed, position)
            return
        _, marked, told = line.partition(mark)
        if not marked:
            continue
        data = json.loads(told)
        if "start" in data:
            known, limit, begun = {"name": data["start"]}, data["limit"], time.monotonic()
        elif "known" in data:
            known = data["known"] | {"end": data["end"]}
        elif "result" in data:
            result = Result(**data["result"], output=_output(printed, position, data["end"]))
            if result.output or result.verdict != "printed":
                yield result
            useful |= bool(known["name"])
            known, position = {"name": ""}, data["end"]
        else:
            return
    message = f"still running after {limit:g} s and stopped: an endless loop, or far too much work"
    yield _stopped(known, ("timeout", message), printed, position)


def _next(
    lines: queue.Queue[bytes], begun: float, limit: float, waiting: Callable[[float], None]
) -> bytes | None:
    """The next line, an empty one after the last; nothing where none comes before the limit."""
    while True:
        try:
            return lines.get(timeout=min(max(begun + limit - time.monotonic(), 0.0), 1.0))
        except queue.Empty:
            if (spent := time.monotonic() - begun) >= limit:
                return None
            waiting(spent)


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


def _stopped(known: dict[str, Any], why: tuple[str, str], printed: Path, position: int) -> Result:
    """The verdict on code that was stopped: what was known by then, or what stopped it."""
    end = known.pop("end", None)
    output = _output(printed, position, end if "verdict" in known else None)
    if not known["name"] and why[0] == "exit" and "Traceback" in output:
        why = "error", "the grader could not start"
    return Result(**{"verdict": why[0], "message": why[1], **known}, output=output)


def _ended(code: int) -> tuple[str, str]:
    """Verdict and message of a process that ended with this code, and should not have."""
    kind = signal.Signals(-code).name if code < 0 else ""
    return {
        "": ("exit", f"your code ended the whole Python process (exit status {code})"),
        "SIGXCPU": ("timeout", "used up its processor time and was stopped"),
        "SIGKILL": ("memory", "was killed by the system, which usually means that memory ran out"),
    }.get(kind, ("crash", f"the Python process crashed ({kind})"))


# In the worker


def work() -> None:
    """Grade what the command line names; one line of JSON an exercise on the real stdout."""
    import numpy  # noqa: F401 - its memory does not count as the learner's

    exercises, answers, names, look, mark = json.loads(sys.argv.pop(1))
    owner, protocol = os.getpid(), apart()
    sys.stdout = sys.stderr

    def send(**data: Any) -> None:
        if os.getpid() == owner:
            data["end"] = os.fstat(2).st_size
            protocol.write(f"\n{mark}{json.dumps(data)}\n")
            protocol.flush()

    def start(name: str, limit: float) -> None:
        send(start=name, limit=limit)
        _limit_time(limit)

    from chainrule.course.exercises import load

    by_name, path = {item.name: item for item in load(Path(exercises))}, Path(answers)
    limit_memory()
    start("", max(item.seconds for item in by_name.values()))
    space, trouble = grading.execute(path)
    send(result=trouble or {"name": "", "verdict": "printed"})
    states = {} if trouble else grading.states(path)
    for name in names if not trouble else ():
        item = by_name[name]
        start(name, item.seconds)
        before = set(threading.enumerate())
        try:
            result = grading.grade_one(item, space, states.get(name), path, look, send)
        except BaseException as error:
            result = grading.stopped(error, path)
        left = [thread for thread in threading.enumerate() if thread not in before]
        send(result={"name": name, **result, **_still_running(left)})
        if left:
            break
    send(done=True)
    os._exit(0)


def _still_running(threads: list[threading.Thread]) -> dict[str, str]:
    """The verdict on code whose threads do not end, or nothing."""
    for thread in threads:
        thread.join(0.2)
    count = sum(thread.is_alive() for thread in threads)
    plural = "a thread" if count == 1 else f"{count} threads"
    message = f"left {plural} running: join what you start before you return"
    return {"verdict": "threads", "message": message} if count else {}


def apart() -> TextIO:
    """Give a process whose code is not ours streams of its own; what is written here is heard.

    What the code prints goes to standard error, nobody types, and the process ends with the one
    that started it.
    """
    protocol = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    lifeline = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = grading.NoKeyboard()

    def end_with_parent() -> None:
        os.read(lifeline, 1)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    return protocol


def limit_memory(files: int = FILE_LIMIT) -> None:
    """Limit this process for good: no core file, files of so many bytes, so much memory."""
    with contextlib.suppress(ValueError, OSError):  # not every system takes each of them
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (files, files))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _limit_time(seconds: float) -> None:
    """Limit the processor time too: it holds even where nobody is left to watch the clock."""
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds) + 2, hard))
