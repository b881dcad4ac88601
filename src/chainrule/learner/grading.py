"""One exercise of a learner's file, executed and judged in this process.

`chainrule.learner.grader` does it in a process of its own, with limits; the page in the
reader's browser in a worker. Both say the same.
"""

from __future__ import annotations
import __future__

import ast
import contextlib
import errno
import sys
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chainrule.course.exercises.stubs import Definition
from chainrule.learner.reading import binds, is_untouched

MEMORY = 2 * 2**30
FILE_LIMIT = 16 * 2**20
NO_KEYBOARD = "there is no keyboard here"

UTF_16 = (b"\xff\xfe", b"\xfe\xff")
PASSED, UNTOUCHED, FAILED = "passed", "not started yet", "failed"


class NoKeyboard:
    """Stands for standard input: whoever reads it hears that nobody types."""

    def __getattr__(self, name: str) -> Any:
        raise EOFError(f"{NO_KEYBOARD}: take what you need from the arguments")


def execute(path: Path, given: str = "") -> tuple[dict[str, Any], dict[str, str] | None]:
    """Execute a learner's file: its names, and what stopped it, if something did.

    ``given`` is code that comes before it and does not count among its lines.
    """
    module = types.ModuleType("workbook")
    module.__file__ = str(path)
    sys.modules["workbook"] = module
    sys.path.append(str(path.parent))
    flags = __future__.annotations.compiler_flag if given else 0
    try:
        code = compile(path.read_bytes(), str(path), "exec", flags)
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError) as error:
        return {}, {"name": "", "verdict": "unreadable", "message": _unreadable(path, error)}
    try:
        exec(compile(given, "<given>", "exec"), vars(module))
        exec(code, vars(module))
    except BaseException as error:
        return {}, {"name": "", **stopped(error, path)}
    return vars(module), None


def _unreadable(path: Path, error: Exception) -> str:
    """Why a file is not Python, and where."""
    if not isinstance(error, OSError) and path.read_bytes()[:2] in UTF_16:
        return "this is UTF-16 text: save it as UTF-8"
    if not isinstance(error, SyntaxError):
        return f"cannot be read as Python: {error or type(error).__name__}"
    place = f"line {error.lineno}: " if error.lineno else ""
    shown = f"\n    {error.text.strip()}" if error.text else ""
    return f"{place}not valid Python: {error.msg}{shown}"


def states(path: Path) -> dict[str, bool]:
    """For each top-level name of a learner's file: whether what binds it last is still a stub."""
    return {
        name: isinstance(node, Definition) and is_untouched(node)
        for node in ast.parse(path.read_bytes()).body
        for name in binds(node)
    }


def grade_one(
    item: Any,
    space: dict[str, Any],
    untouched: bool | None,
    path: Path,
    look: str,
    send: Callable[..., None],
) -> dict[str, str]:
    """The verdict on one exercise, from the names that the learner's file defines.

    ``untouched`` says whether its definition is still a stub, ``look`` what to find out of a
    failure; ``send`` hears what is known: each call, and a failure before its hint is looked for.
    """
    from chainrule.course.exercises import judge
    from chainrule.course.exercises.judging import Attempt
    from chainrule.learner import replay

    if item.name not in space:
        remedy = "`chainrule exercise` puts its stub back"
        return {"verdict": "missing", "message": f"there is no {item.name} in your file; {remedy}"}
    if untouched:
        return {"verdict": UNTOUCHED}
    answer = space[item.name]
    if not callable(answer):
        message = f"{item.name} should be a function, but is {type(answer).__name__}"
        return {"verdict": FAILED, "message": message}

    def watch(attempt: Attempt) -> None:
        told = _told(attempt, path) if attempt.message else {}
        place = {"check": attempt.check.replace("_", " "), "call": attempt.call}
        send(known={"name": item.name, **told, **place})
        if look == "replay" and not told:
            with contextlib.suppress(OSError):  # too large for the limit on files
                replay.save(path, item.name, attempt.arguments)

    verdict = judge(item, answer, watch)
    if verdict.passed:
        return {"verdict": PASSED}
    told = {**_told(verdict, path), "check": verdict.check, "call": verdict.call}
    if look == "compare":
        told["parts"] = replay.parting(item, answer, verdict.check.replace(" ", "_"))
    return {**told, "hint": verdict.hint}


def _told(failure: Any, path: Path) -> dict[str, str]:
    """What to say of an attempt or a verdict that failed."""
    if failure.error is None:
        return {"verdict": FAILED, "message": failure.message}
    told = stopped(failure.error, path)
    if not failure.message.startswith(type(failure.error).__name__):
        told["message"] = failure.message + told["message"][len(told["message"].split("\n")[0]) :]
    return told


def stopped(error: BaseException, path: Path) -> dict[str, str]:
    """Explain an exception in the learner's code, with the learner's own lines only."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    places = [f"    line {frame.lineno}: {frame.line}" for frame in frames]
    verdict, text = "error", f"{type(error).__name__}: {error}".rstrip(": ")
    if isinstance(error, RecursionError):
        text, places = "the function calls itself without end", places[:1]
    elif isinstance(error, MemoryError):
        verdict, text = "memory", f"asks for more memory than there is ({MEMORY / 2**30:g} GiB)"
    elif isinstance(error, SystemExit):
        verdict, text = "exit", "calls exit(): return the result instead"
    elif getattr(error, "errno", 0) == errno.EFBIG:
        text = f"prints more than {FILE_LIMIT >> 20} MB: take the print out"
    elif type(error).__name__ == "BdbQuit":
        text = f"breakpoint(): {NO_KEYBOARD}: the end of this says how to see the call"
        places = places[-1:]
    return {"verdict": verdict, "message": "\n".join([text, *places[-3:]])}
