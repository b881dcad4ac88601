"""The python blocks of a document, executed from top to bottom in one namespace.

Conventions for authors:

- What a top-level statement prints stands in ``#> `` lines directly after it, ``#>`` alone for
  an empty line; trailing spaces do not count. What prints must be shown, and the reverse.
- A statement that is meant to fail shows the error as its last lines of output:
  ``#> ValueError: shapes (2,) and (3,) do not match``; a closing ``…`` leaves out the rest of
  the line. An error of another kind ends the document.
- A warning is a fault: avoid its cause, or catch it (``np.errstate``) where it is the point.
- ``5.1<!--= f"{x:.1f}" -->`` is a computed number: the expression is evaluated after the blocks
  above it, and the text before the comment must end with it (closing ``$``, ``*``, ``_`` and
  backquotes may stand between). In the expression ``measured("race")`` is what the figures'
  script stored as ``race``, ``measured("training/optimizers/race")`` what another's did, and
  ``measured("benchmarks/results")`` what the benchmarks did.
- ``python needs=NAME`` marks a block that needs a published model (``chainrule models list``). It
  runs where the model is, in the same order, and does not count towards the document's seconds.
  The names that it makes are known to other such blocks alone, so the rest runs without them.
- Random state is the author's matter: each document has its own interpreter, nothing leaks.

``chainrule audit SUBJECT --only documents --run [--write]`` runs a document and prints what
differs by Markdown line; ``--write`` shows the difference and updates outputs and numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from chainrule.children import PYTHON, ask, at_once, threads
from chainrule.course.documents import execute
from chainrule.course.documents.markdown import Block, Comment, Page, parse
from chainrule.course.finding import Finding
from chainrule.data.models import MODELS, is_present

CHECK = "documents"
MARK = "#>"
RAISES = re.compile(r"([A-Z]\w*(?:Error|Exception|Warning|Iteration|Exit|Interrupt))(?::|$)")
CLOSING = "$*_`"
PATIENCE = 20.0  # seconds that a machine may be busy with other things
Ask = Callable[[str, list[dict[str, Any]]], Any]
APART = 60.0  # seconds more for each block that needs a model


@dataclass
class Result:
    """What running a file gave: the updated text, findings, CPU seconds."""

    path: str
    updated: str
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0
    left_out: dict[str, int] = field(default_factory=dict)  # blocks by the model they need

    def add(self, line: int, message: str, fix: str) -> None:
        """Record a finding."""
        self.findings.append(Finding(self.path, line, CHECK, message, fix))


def runs(block: Block) -> bool:
    """Whether a block is executed."""
    return block.info == "python" or needed(block) is not None


def needed(block: Block) -> str | None:
    """The model that a block needs: ``NAME`` of ``python needs=NAME``, if there is such a one."""
    found = re.fullmatch(r"python needs=(\S+)", block.info)
    return found[1] if found and found[1] in MODELS else None


def outputs(block: Block) -> tuple[dict[int, tuple[int, list[str]]], list[int]]:
    """The outputs that a block states, and the lines of ``#>`` comments that follow nothing.

    Returns:
        For each statement's first line: the line before its output begins, and the output's
        lines; then the lines of stray marks.

    Raises:
        SyntaxError: the block is not Python; its ``lineno`` is the document's.
    """
    rows = dict(enumerate(block.code.split("\n"), block.first_line))
    stray = {line for line, row in rows.items() if MARK in row}
    stated = {}
    for group in execute.units(execute.parse(block.first_line, block.code)):
        first, end = execute.first_line(group[0]), execute.last_line(group)
        shown: list[str] = []
        while rows.get(end + 1 + len(shown), "").startswith(MARK):
            row = rows[end + 1 + len(shown)]
            shown.append(row.removeprefix(MARK).removeprefix(" ").rstrip())
        stated[first] = (end, shown)
        # Inside of a statement a comment has two blanks before it; else it is part of a string.
        inside = {line for line in range(first, end + 1) if f"  {MARK}" not in rows[line]}
        stray -= inside.union(range(end + 1, end + 1 + len(shown)))
    return stated, sorted(stray)


def run(root: Path, path: str, seconds: float = 10, ask: Ask = lambda *_: None) -> Result:
    """Run the blocks and computed numbers of one Markdown file and compare.

    Args:
        root: the checkout; the code runs with it as the working directory.
        path: the file, relative to the root.
        seconds: the budget of CPU time, for each thread; an excess is a finding, and well beyond
            it the document is killed.
        ask: gives what is remembered of running these steps of a file, where there is such a thing.
    """
    text = (root / path).read_bytes().decode("utf-8").replace("\r\n", "\n")
    result, page = Result(path, text), parse(text)
    steps, stated = _steps(page, result)
    computed = [comment for comment in page.comments if comment.expression]
    steps += [{"line": number.line, "expression": number.expression} for number in computed]
    if not steps:
        return result
    edits: list[tuple[int, int, list[str]]] = []
    values: list[str] = []
    steps.sort(key=lambda step: step["line"])
    # A published model is not among what a verdict depends on.
    known = None if any(step.get("apart") for step in steps) else ask(path, steps)
    events = known.rows if known and known.passed else list(_events(root, path, steps, seconds))
    for event in events:
        if "output" in event:
            (block, end, shown), printed = stated[event["line"]], event["output"]
            if fault := _differs(event["line"], end, shown, printed):
                result.add(*fault, "correct the code, or update the output with --write")
                edits.append((end, len(shown), [_marked(page, block, row) for row in printed]))
        elif "value" in event:
            values.append(event["value"])
        else:
            _note(result, event)
    if result.seconds > seconds * threads():
        message = f"the blocks take {result.seconds:.1f} s of CPU time, the budget is {seconds:g} s"
        result.add(1, message, "make the slowest block smaller")
    updated = text
    for number, value in reversed(list(zip(computed, values, strict=False))):
        updated = _compare(result, updated, number, value)
    lines = updated.split("\n")
    for end, count, rows in reversed(edits):
        lines[end : end + count] = rows
    result.updated = "\n".join(lines)
    result.findings.sort()
    if known:
        known.keep(passed=not result.findings, rows=events)
    return result


def _steps(
    page: Page, result: Result
) -> tuple[list[dict[str, Any]], dict[int, tuple[Block, int, list[str]]]]:
    """The blocks to run; by line, the block of each statement, and where and what it must print."""
    steps: list[dict[str, Any]] = []
    stated: dict[int, tuple[Block, int, list[str]]] = {}
    for block in filter(runs, page.blocks):
        model = needed(block)
        if model is not None and not is_present(model):
            result.left_out[model] = result.left_out.get(model, 0) + 1
            continue
        try:
            found, _ = outputs(block)
        except SyntaxError:
            found = {}  # the run reports it
        stated |= {line: (block, end, shown) for line, (end, shown) in found.items()}
        steps.append({**step(block, found), "apart": bool(model)})
    return steps, stated


def _note(result: Result, event: dict[str, Any]) -> None:
    """Keep what a run tells beside outputs and values."""
    line = event.get("line", 1)
    if "warning" in event:
        fix = "avoid its cause, or catch it where it is the point"
        result.add(line, f"a warning: {event['warning']}", fix)
    elif "error" in event:
        fix = f"correct the code, or state the error in the statement's last {MARK} line"
        result.add(line, f"{event['error']} (the document ends here)", fix)
    elif "seconds" in event:
        result.seconds = event["seconds"]


def step(block: Block, found: dict[int, tuple[int, list[str]]]) -> dict[str, Any]:
    """A block as a session runs it, with the errors that its outputs state, each with its line."""
    raises = [
        [line, error[1]]
        for line, (_, shown) in found.items()
        for error in filter(None, map(RAISES.match, shown))
    ]
    return {"line": block.first_line, "code": block.code, "raises": raises}


def _events(root: Path, path: str, steps: list[dict], seconds: float) -> Iterator[dict[str, Any]]:
    """Run the steps in a fresh interpreter; a kill or a crash ends with an error event."""
    job = json.dumps({"file": str(root / path), "steps": steps})
    limit = 5 * seconds + PATIENCE + APART * sum(step.get("apart", False) for step in steps)
    answer = ask(*PYTHON, execute.__file__, root=root, seconds=limit, told=job)
    at, finished = 1, False
    for event in answer.rows():
        at, finished = event.get("at", at), finished or "finished" in event
        yield event
    if answer.status is None:
        yield {"line": at, "error": answer.fault}
    elif not finished:
        death = f"the interpreter died with status {answer.status}: {answer.fault}"
        yield {"line": at, "error": death}


def _same(old: str | None, new: str | None) -> bool:
    """Whether a line is printed as stated; ``…`` may close the line of an error."""
    if old is None or new is None or not (RAISES.match(old) and old.endswith("…")):
        return old == new
    return new.startswith(old[:-1].rstrip())


def _marked(page: Page, block: Block, row: str) -> str:
    opening = page.lines[block.line - 1]
    prefix = re.sub(r"[^>\s]", " ", re.split("```|~~~", opening)[0])
    return f"{prefix}{MARK} {row}".rstrip()


def _differs(line: int, end: int, shown: list[str], printed: list[str]) -> tuple[int, str] | None:
    """The first line that a statement prints otherwise than its output says, and how."""
    rows = list(zip_longest(shown, printed))
    index = next((i for i, row in enumerate(rows) if not _same(*row)), None)
    if index is None:
        return None
    old, new = ("no more" if row is None else repr(row) for row in rows[index])
    at, message = min(end + 1 + index, end + len(shown)), f"expected {old}, received {new}"
    if not shown:
        at, message = line, f"prints {new} but shows no {MARK} line"
    elif not printed:
        message = f"expected {old}, but the statement before prints nothing"
    return at, message


def _compare(result: Result, text: str, number: Comment, value: str) -> str:
    """Compare the text before a computed number's comment; return the text with it updated."""
    end = len(text[: number.start].rstrip(CLOSING))
    before = text[text.rfind("\n\n", 0, end) + 1 : end]
    if _ends_with(*(" ".join(side.split()).replace("−", "-") for side in (before, value))):
        return text
    if re.fullmatch(r"[-−+]?[\d.,]*\d(?:e[-+]?\d+)?", value):
        old = re.search(r"(?:(?<![\w)])[-−+])?[\d.,]*\d(?:e[-+]?\d+)?$", before)
    else:
        count = len(value.split()) or 1
        old = re.search(rf"[^\s$*`(\[|]+(?:\s+[^\s$*`(\[|]+){{0,{count - 1}}}$", before)
    stands = old[0] if old else ""
    message = f"expected {stands or before[-20:]!r}, received {value!r} from {number.expression}"
    fix = "correct the sentence, or update the number with --write"
    result.add(number.line, message, fix)
    return text[: end - len(stands)] + value + text[end:]


def _ends_with(before: str, value: str) -> bool:
    """Whether a text ends with a value, and not just with the tail of a longer number."""
    if not value or not before.endswith(value):
        return False
    head = before[: -len(value)]
    return not (value[0].isdigit() and re.search(r"(?:\d[.,]?|(?:^|[^\w)])[-+])$", head))


def run_all(
    root: Path, budgets: Iterable[tuple[str, float]], ask: Ask = lambda *_: None
) -> list[Result]:
    """Run several files at once, one process each, as many as there are processors."""
    return at_once(lambda item: run(root, *item, ask), budgets)
