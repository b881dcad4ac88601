"""Execute the steps of one document in this process and report each on standard output.

`chainrule.course.documents.blocks` starts this file in a fresh interpreter, so it needs the
standard library alone: nothing that the course's tool imports is loaded beside a document's code.

The job comes on standard input: ``{"file": …, "steps": [{"line": …, "code": …, "raises": […]},
{"line": …, "expression": …}, …]}``; a step with ``"apart": true`` is not timed, and its names are
known to other such steps alone. Events leave one JSON object a line: ``at`` before
anything runs, then ``output`` of a statement or ``value`` of an expression, ``warning`` or
``error``, and at the end the CPU ``seconds`` spent.
"""

from __future__ import annotations

import ast
import io
import json
import os
import pathlib
import sys
import time
import traceback
import types
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any


def units(tree: ast.Module) -> list[list[ast.stmt]]:
    """Group top-level statements: those that share a line (``a = 1; print(a)``) are one."""
    groups: list[list[ast.stmt]] = []
    for statement in tree.body:
        if groups and first_line(statement) <= last_line(groups[-1]):
            groups[-1].append(statement)
        else:
            groups.append([statement])
    return groups


def first_line(statement: ast.stmt) -> int:
    """Where a statement begins, decorators included."""
    decorators = getattr(statement, "decorator_list", [])
    return min(node.lineno for node in (statement, *decorators))


def last_line(group: list[ast.stmt]) -> int:
    """Where a group of statements ends."""
    return max(statement.end_lineno or statement.lineno for statement in group)


def parse(line: int, code: str, file: str = "<document>") -> ast.Module:
    """Parse a block whose first line is line ``line`` of a document."""
    return ast.parse("\n" * (line - 1) + code, file)


class Session:
    """One namespace, and a report of everything that happens in it.

    ``sink`` makes the stream that a statement prints to; whoever listens while it runs gives one.
    """

    def __init__(self, file: str, report, sink: Callable[[], io.StringIO] = io.StringIO):
        self.file, self.report, self.sink = file, report, sink
        module = types.ModuleType("__main__")
        module.__file__ = file
        sys.modules["__main__"] = module
        self.namespace = module.__dict__
        self.output: list[str] = []
        self.apart: dict[str, Any] = {}
        self.apart_seconds = 0.0

    def run_apart(self, step: dict[str, Any]) -> bool:
        """Run a block among the names of all such blocks, then put the others' names back."""
        started, before = time.process_time(), dict(self.namespace)
        self.namespace.update(self.apart)
        try:
            return self.run(step)
        finally:
            changed = self.namespace.items()
            self.apart = {k: v for k, v in changed if k not in before or before[k] is not v}
            self.namespace.clear()
            self.namespace.update(before)
            self.apart_seconds += time.process_time() - started

    def run(self, step: dict[str, Any]) -> bool:
        """Run a block statement by statement, or evaluate an expression; False when it failed."""
        line = step["line"]
        try:
            if "expression" in step:
                source = "\n" * (line - 1) + f"({step['expression']})"
                # The document may have that name for its own use.
                offered = {"measured": self._measured, **self.namespace}
                value = self._do(line, source, eval, offered)
                self.report(line=line, value=str(value))
                return True
            for group in units(parse(line, step["code"], self.file)):
                start = first_line(group[0])
                try:
                    self._do(start, ast.Module(group, []), exec, self.namespace)
                except BaseException as error:
                    if [start, type(error).__name__] not in step["raises"]:
                        raise
                    self.output += _told(error).splitlines()
                self.report(line=start, output=self.output)
        except BaseException as error:
            self.report(line=self._where(error, line), error=_told(error))
            return False
        return True

    def _measured(self, name: str) -> Any:
        """What the figures' script of the document, or another's, or the benchmarks stored."""
        page = pathlib.PurePath(self.file).with_suffix("")
        if not name.startswith("benchmarks/"):
            own = [] if "/" in name else page.parts[-2:]
            name = "/".join(("figures", *own, name))
        return json.loads(pathlib.Path(f"{name}.json").read_text("utf-8"))

    def _do(self, line: int, source: Any, how, names: dict) -> Any:
        """What ``eval`` or ``exec`` gives; what was printed is kept as the output."""
        self.report(at=line)
        printed, caught = self.sink(), []
        try:
            with warnings.catch_warnings(record=True) as caught, redirect_stdout(printed):
                warnings.simplefilter("always")
                return how(compile(source, self.file, how.__name__, dont_inherit=True), names)
        finally:
            shown = printed.getvalue()
            lines = shown.removesuffix("\n").split("\n") if shown else []
            self.output = [row.rstrip() for row in lines]
            for warning in caught:
                self._warn(line, warning)

    def _warn(self, line: int, warning: warnings.WarningMessage) -> None:
        """Report a warning; deprecations count only where the document itself is their cause."""
        here = warning.filename == self.file
        quiet = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
        if here or not issubclass(warning.category, quiet):
            message = f"{warning.category.__name__}: {warning.message}"
            self.report(line=warning.lineno if here else line, warning=message)

    def _where(self, error: BaseException, line: int) -> int:
        """The document's line on which an error arose: the innermost frame in the document."""
        if isinstance(error, SyntaxError) and error.filename == self.file and error.lineno:
            return error.lineno
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == self.file and frame.lineno]
        return lines[-1] if lines else line


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def main() -> None:
    """Read the job, run its steps in order, stop at the first that fails."""
    job = json.load(sys.stdin)
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def report(**event: Any) -> None:
        events.write(json.dumps(event) + "\n")

    session = Session(job["file"], report)
    started = time.process_time()
    finished = all(
        session.run_apart(step) if step.get("apart") else session.run(step) for step in job["steps"]
    )
    spent = time.process_time() - started - session.apart_seconds
    report(seconds=spent, finished=finished)


if __name__ == "__main__":
    main()
