"""Exercises: their form and their section, and with ``--run`` the proof that they diagnose."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache

from chainrule.children import at_once, call
from chainrule.course.audit import Audit
from chainrule.course.exercises import stubs
from chainrule.course.finding import Finding
from chainrule.course.manifest import Document

NAME = "exercises"
STOPS = "A right answer fails, a wrong one passes, or a hint gives the solution away."

PROOF_SECONDS = 300  # of a clock: the machine may be busy with other things
LEAST, MOST = 20, 300  # characters of an idea, or of a hint
KINDS = ast.BinOp | ast.Call | ast.Compare | ast.UnaryOp


def check(audit: Audit) -> Iterator[Finding]:
    """Read each exercise file: its entries, their section, hints and stubs."""
    for document in _with_exercises(audit):
        for line, message, fix in _faults(audit, document):
            yield Finding(document.exercises, line, NAME, message, fix)


def run(audit: Audit) -> Iterator[Finding]:
    """Prove each file: solution passes, stub fails, every mistake fails and is recognized."""
    documents = _with_exercises(audit)
    proofs = at_once(lambda document: _prove(audit, document), documents)
    for document, problems in zip(documents, proofs, strict=True):
        for line, message in problems:
            yield Finding(document.exercises, line, NAME, message)


def _with_exercises(audit: Audit) -> list[Document]:
    """The documents that are asked for and have exercises."""
    return [each for each in audit.picked(audit.course.documents) if each.exercises in audit.files]


def entries_of(audit: Audit, document: Document) -> list[stubs.Entry]:
    """The exercises of a document, read without executing them."""
    tree = audit.tree(document.exercises) if document.exercises in audit.files else None
    return stubs.entries(tree) if isinstance(tree, ast.Module) else []


def _prove(audit: Audit, document: Document) -> list[tuple[int, str]]:
    counterparts = " ".join(str(entry.counterpart) for entry in entries_of(audit, document))
    # A counterpart may belong to a subject that comes later.
    others = [each for each in audit.course.documents if each.module in counterparts]
    verdict = audit.verdicts.of(NAME, [document, *others])
    if verdict.passed:
        return []
    proof = "chainrule.course.exercises.proving:prove"
    answer = call(proof, document.exercises, root=audit.root, seconds=PROOF_SECONDS)
    fault = [(1, f"the proof failed: {answer.fault}")] if answer.fault else []
    found = [(line, message) for line, message in answer.rows()] + fault
    verdict.keep(passed=not found)
    return found


def _faults(audit: Audit, document: Document) -> Iterator[tuple[int, str, str]]:
    source, tree = audit.text(document.exercises), audit.tree(document.exercises)
    if isinstance(tree, SyntaxError):  # the check `imports` says so
        return
    entries = stubs.entries(tree)
    if not entries:
        yield 1, "there is no exercise in this file", "mark a solution with @exercise(…)"
    anchors = audit.page(document.path).anchors if audit.course.exists(document) else None
    names: set[str] = set()
    for entry in entries:
        if entry.name in names:
            yield entry.line, f"two exercises are named {entry.name}", "rename one"
        names.add(entry.name)
        for message, fix in _entry_faults(entry):
            yield entry.line, f"{entry.name}: {message}", fix
        if anchors is not None and entry.section not in anchors:
            message = f"{entry.name}: {document.path} has no section #{entry.section}"
            yield entry.line, message, "section= is the anchor of a heading"
        yield from _hint_faults(entry)
        stub, idea = stubs.stub_of(entry.node, source), f"{entry.reread} {entry.idea}"
        shown = {"stub": leaked(entry.node, stub, whole=True), "idea": leaked(entry.node, idea)}
        for what, told in shown.items():
            if told:
                yield entry.line, f"{entry.name}: the {what} shows the solution: {told}", "reword"


def _entry_faults(entry: stubs.Entry) -> Iterator[tuple[str, str]]:
    if not 3 <= len(entry.title or "") <= 60:
        yield f"title is {entry.title!r}", "give 3 to 60 characters, written out"
    if entry.difficulty not in range(1, 6):
        yield f"difficulty is {entry.difficulty!r}", "give a number from 1 to 5"
    if entry.minutes not in range(1, 121):
        yield f"minutes is {entry.minutes!r}", "give a whole number from 1 to 120"
    if not entry.statement:
        yield "there is no statement", "say in the docstring what to build"
    if not entry.checks:
        yield "there is no check", f"add one with @{entry.name}.check"
    if entry.counterpart is None and len(entry.because or "") < 20:
        fix = 'name it: counterpart="module:function", or because="…"'
        yield "no counterpart in the package", fix
    if not LEAST <= len(entry.idea or "") <= MOST:
        yield "no idea to help with", f'add idea="…", {LEAST} to {MOST} characters'
    if len(entry.mistakes) < 2:
        yield f"there are {len(entry.mistakes)} known mistakes", "add those that people make: two"


def _hint_faults(entry: stubs.Entry) -> Iterator[tuple[int, str, str]]:
    seen: set[str] = set()
    for name, hint, line in entry.mistakes:
        if not LEAST <= len(hint) <= MOST:
            yield line, f"{name}: its hint has {len(hint)} characters", f"write {LEAST} to {MOST}"
        if hint in seen:
            yield line, f"{name}: another mistake has the same hint", "say what is special"
        seen.add(hint)
        if told := leaked(entry.node, hint):
            yield line, f"{name}: its hint shows the solution: {told}", "say what to look at"


def leaked(node: stubs.Definition, text: str, whole: bool = False) -> str:
    """The longest expression of a solution that stands in a text; ``whole``: only results.

    One operation alone gives nothing away.
    """
    squeezed = "".join(text.split())
    told = (code for code, packed in _expressions(node, whole) if packed in squeezed)
    return max(told, key=len, default="")


@cache
def _expressions(node: stubs.Definition, whole: bool) -> list[tuple[str, str]]:
    """The expressions of a solution, each as it is written and without its spaces."""
    functions = [item for item in ast.walk(node) if isinstance(item, ast.FunctionDef)]
    bodies = [item for function in functions for item in function.body]
    parts = [item for statement in bodies for item in ast.walk(statement)]
    if whole:
        parts = [item.value for item in parts if isinstance(item, ast.Return) and item.value]
    codes = [ast.unparse(item) for item in parts if isinstance(item, KINDS) and _tells(item)]
    return [(code, "".join(code.split())) for code in codes]


def _tells(node: ast.AST) -> bool:
    return sum(isinstance(item, KINDS) for item in ast.walk(node)) > 1
