"""Code blocks and computed numbers of documents: their form, and with ``--run`` their truth."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from chainrule.course.audit import Audit, tree_of
from chainrule.course.audit.verdicts import Verdict
from chainrule.course.documents.blocks import MARK, Result, outputs, run_all, runs
from chainrule.course.documents.markdown import Block, Page
from chainrule.course.finding import Finding

NAME = "documents"
STOPS = "A reader runs a block, or recomputes a number, and gets something else than the page says."

MOST_LINES = 25
WIDEST = 79  # characters, of code and of what it prints: what the page shows without scrolling
NEARLY_PYTHON = {"py", "python", "python3", "ipython", "ipython3", "pycon", "python-repl"}


def check(audit: Audit) -> Iterator[Finding]:
    """Report blocks and numbers that could not be run, or that nothing would run."""
    for path in _budgets(audit):
        page = audit.page(path)
        for block in page.blocks:
            for line, message, fix in _faults(block):
                yield Finding(path, line, NAME, message, fix)
        for line, message, fix in [*_numbers(page), *_swallowed(page)]:
            yield Finding(path, line, NAME, message, fix)


def run(audit: Audit) -> Iterator[Finding]:
    """Execute every document and report what differs from its text."""
    left_out: Counter[str] = Counter()
    for result in _executed(audit):
        left_out.update(result.left_out)
        yield from result.findings
    for model, blocks in left_out.items():
        left = f"{model} is not here, {blocks} of the blocks need it and did not run"
        print(f"{left}; type: chainrule models get {model}", file=sys.stderr)


def write(audit: Audit) -> Iterator[tuple[str, str]]:
    """Update the outputs and numbers that execution contradicts."""
    if audit.run:
        for result in _executed(audit):
            yield result.path, result.updated


def _executed(audit: Audit) -> list[Result]:
    """The results of the documents that are asked for; what did not change runs once."""
    known: dict[tuple[str, str], Result] = audit.begun.setdefault(NAME, {})
    budgets = _budgets(audit)
    missing = {p: s for p, s in budgets.items() if (p, audit.text(p)) not in known}

    def ask(path: str, steps: list[dict[str, Any]]) -> Verdict:
        owner = [document for document in audit.written if document.path == path]
        return audit.verdicts.of(NAME, owner, path, steps)

    for result in run_all(audit.root, missing.items(), ask):
        known[result.path, audit.text(result.path)] = result
    return [known[path, audit.text(path)] for path in budgets]


def _budgets(audit: Audit) -> dict[str, float]:
    """What is executed, and the seconds of CPU time that each file may take."""
    budgets = {document.path: document.seconds for document in audit.picked(audit.written)}
    if "README.md" in audit.files and not audit.chosen:
        budgets["README.md"] = 10.0
    return budgets


def _faults(block: Block) -> Iterator[tuple[int, str, str]]:
    if block.language.lower() not in NEARLY_PYTHON:
        return
    if not runs(block):
        fix = "write ```python, or ```python needs=NAME with a model of `chainrule models list`"
        yield block.line, f"{block.info!r} blocks are never executed", fix
        return
    for line, message, fix in oversized("block", block.code.split("\n")[:-1]):
        yield block.line + line, message, fix
    try:
        _, stray = outputs(block)
    except SyntaxError:
        return  # the check `imports` says so
    fix = f"put {MARK} lines directly below the top-level statement that prints them"
    for line in stray:
        yield line, f"a {MARK} line that no statement ends before", fix


def oversized(what: str, code: list[str]) -> Iterator[tuple[int, str, str]]:
    """What is too long or too wide in a block or a cell, at its line; 0 is that of the whole."""
    if len(code) > MOST_LINES:
        message = f"a {what} of {len(code)} lines, at most {MOST_LINES} are allowed"
        yield 0, message, "split it, and say between the parts what happens"
    for number, text in enumerate(code, 1):
        if len(text) > WIDEST:
            message = f"a line of {len(text)} characters, at most {WIDEST} fit the page"
            yield number, message, "name a part of it on a line above, or print less"


def _numbers(page: Page) -> Iterator[tuple[int, str, str]]:
    for comment in page.comments:
        if comment.expression is None:
            continue
        error = tree_of(f"({comment.expression})")
        if isinstance(error, SyntaxError):
            message = f"{comment.expression!r} is not a Python expression: {error.msg}"
            yield comment.line, message, "correct it"
        if page.source[: comment.start].rstrip(" ")[-1:] in ("", "\n", "|"):
            fix = "put the number directly before the comment"
            yield comment.line, "a computed number without a number before it", fix
    for formula in page.formulas:
        if "<!--=" in formula.tex:
            fix = "put the comment after the closing dollar sign"
            yield formula.line, "a computed number inside a formula is never evaluated", fix


def _swallowed(page: Page) -> Iterator[tuple[int, str, str]]:
    """Fences that a reader sees as text, because HTML just above swallows them."""
    for found in re.finditer(r"^[ \t]*(?:```|~~~)[ \t]*python", page.source, re.M):
        number = page.source.count("\n", 0, found.start()) + 1
        if number not in page.code_lines:
            fix = "leave an empty line before it"
            yield number, "this fence does not open a code block", fix
