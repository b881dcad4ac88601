"""What runs in the browser: the audit's session for a page's blocks, the grader for its exercises.

Pyodide loads this beside NumPy, in a worker of the page; nothing here knows that it does. A worker
has one `Page` for its blocks, or one for its exercises: a learner's endless loop costs the page no
names. Whatever happens is told to ``post``, as JSON.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import linecache
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from chainrule.course.documents import execute
from chainrule.learner import grading

PRINTS = 1_000_000
"""Characters that one statement may print."""

EVERY = 0.06
"""Seconds between two reports of what a statement has printed so far."""

ELSEWHERE = {
    "matplotlib": "pictures are not drawn in the page",
    "sklearn": "scikit-learn is too large for the page; of it there is load_digits",
    "torch": "PyTorch is too large for the page",
    "lzma": "this compressor is not in the page",
    "chainrule": "this part of the course works with files of a checkout",
}
"""Why a module is missing; of others only that they are is said."""

CHECKOUT = "this runs in your own checkout"


class TooMuchPrinted(Exception):
    """A statement printed without end."""


class Sink(io.StringIO):
    """What a statement prints, told while it runs, and stopped where it does not end."""

    def __init__(self, post: Callable[[str], None]):
        super().__init__()
        self.post, self.told = post, time.monotonic()

    def write(self, text: str) -> int:
        """Keep the text, and now and then tell its end."""
        count = super().write(text)
        if self.tell() > PRINTS:
            message = f"prints more than {PRINTS:,} characters: take the print out of the loop"
            raise TooMuchPrinted(message)
        if (now := time.monotonic()) - self.told > EVERY:
            self.told = now
            self.post(json.dumps({"partial": self.getvalue()[-4000:]}))
        return count


class Page:
    """The namespace of one document, and the lines of its blocks as they were last run."""

    def __init__(self, file: str, post: Callable[[str], None]):
        self.file, self.post = file, post
        self.blocks: dict[int, str] = {}  # by first line
        self.session = execute.Session(file, self._report, lambda: Sink(post))

    def run(self, step: str) -> str:
        """Run one block; each statement tells what it printed, an error where it arose.

        ``step`` is JSON: ``line``, ``code``, ``raises`` as the audit has them, and ``edited``: the
        reader's own version shows the value of a last expression, as a notebook does.
        """
        told = json.loads(step)
        line, code = told["line"], told["code"]
        self.blocks[line] = code
        if told.get("edited"):
            code = shown_at_the_end(code)
        began = time.perf_counter()
        stdin, sys.stdin = sys.stdin, grading.NoKeyboard()
        try:
            done = self.session.run({**told, "code": code, "raises": told.get("raises", [])})
        finally:
            sys.stdin = stdin
        return json.dumps({"ok": done, "seconds": time.perf_counter() - began})

    def _report(self, **event: Any) -> None:
        if "error" in event:
            event |= {**self._place(event["line"]), "error": explained(event["error"])}
        elif "warning" in event:
            event |= self._place(event["line"])
        self.post(json.dumps(event))

    def _place(self, line: int) -> dict[str, Any]:
        """The block that a line belongs to, the line's number in it, and the line."""
        first = max((first for first in self.blocks if first <= line), default=line)
        rows = self.blocks.get(first, "").split("\n")
        row = line - first
        return {"block": first, "row": row + 1, "text": rows[row] if row < len(rows) else ""}


def begin(file: str, post: Callable[[str], None]) -> Page | Examiner:
    """A page's namespace, or without a file the examiner."""
    return Page(file, post) if file else Examiner(Path("/exercises"))


def explained(error: str) -> str:
    """An error's line, and where it comes from the page and not from the code, the reason."""
    kind, _, text = error.partition(": ")
    if kind == "ModuleNotFoundError" and "'" in text:
        module = text.split("'")[1].split(".")[0]
        reason = ELSEWHERE.get(module, f"{module} is not in the page")
        return f"{reason}: {CHECKOUT}"
    if kind == "MemoryError" or "array is too big" in text or "Maximum allowed dimension" in text:
        return f"{kind}: asks for more memory than a page has (2 GB at most)"
    if kind == "RuntimeError" and "can't start new thread" in text:
        return f"a page has no threads: {CHECKOUT}"
    if "emscripten does not support processes" in text.lower():
        return f"a page starts no processes: {CHECKOUT}"
    if kind == "ImportError" and "sklearn" in text:
        return f"{ELSEWHERE['sklearn']}: {CHECKOUT}"
    if kind in ("SyntaxError", "IndentationError", "TabError"):
        return re.sub(r" \([^()]*, line \d+\)$", "", error)
    if kind == "TooMuchPrinted":
        return text
    if kind == "KeyboardInterrupt":
        return "stopped"
    return error


def shown_at_the_end(code: str) -> str:
    """The code, its last line printing its value where it is a bare expression."""
    try:
        last = ast.parse(code).body[-1]
    except (SyntaxError, IndexError):
        return code
    if not isinstance(last, ast.Expr) or last.col_offset:
        return code
    lines = code.split("\n")
    value = lines[last.lineno - 1 : last.end_lineno]
    value[0] = f"(lambda _: None if _ is None else print(repr(_)))({value[0]}"
    # A line keeps its number; the bracket stands on its own line, for a comment may end the last.
    return "\n".join([*lines[: last.lineno - 1], *value, ")"])


# Exercises


class Examiner:
    """Grades one exercise at a time, by the functions that the grader's own process calls."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.known: dict[str, dict[str, Any]] = {}

    def _items(self, name: str, source: str) -> dict[str, Any]:
        """The exercises of a file, which is executed once."""
        from chainrule.course.exercises import load

        if name not in self.known:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._path(name).write_text(source, encoding="utf-8")
            self.known[name] = {item.name: item for item in load(self._path(name))}
        return self.known[name]

    def grade(self, name: str, source: str, exercise: str, given: str, answer: str) -> str:
        """The grader's result for an answer, which stands below what is given; JSON.

        ``source`` is the exercise file of the document ``name``.
        """
        items = self._items(name, source)
        mine = self.folder / "workbook.py"
        mine.write_text(answer, encoding="utf-8")
        linecache.checkcache(str(mine))
        with _quiet() as printed:
            space, result = grading.execute(mine, given)
            if result is None:
                try:
                    state = grading.states(mine).get(exercise)
                    item = items[exercise]
                    result = grading.grade_one(item, space, state, mine, "", lambda **_: None)
                except BaseException as error:
                    result = grading.stopped(error, mine)
        if result["verdict"] == "missing":
            result["message"] = f"there is no {exercise} in your answer: Reset puts its stub back"
        first, _, rest = result.get("message", "").partition("\n")
        result["message"] = "\n".join(filter(None, [explained(first), rest]))
        return json.dumps({**result, "name": exercise, "output": printed.getvalue()[:2000]})

    def prove(self, name: str, source: str) -> str:
        """How many mistakes an exercise file knows, and what is wrong with it; JSON."""
        from chainrule.course.exercises.proving import prove

        mistakes = sum(len(item.mistakes) for item in self._items(name, source).values())
        with _quiet():
            problems = prove(self._path(name))
        return json.dumps({"mistakes": mistakes, "problems": problems})

    def _path(self, name: str) -> Path:
        return self.folder / f"exercises_{name.replace('/', '_')}.py"


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    printed = Sink(lambda text: None)
    stdin, sys.stdin = sys.stdin, grading.NoKeyboard()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield printed
    finally:
        sys.stdin = stdin
