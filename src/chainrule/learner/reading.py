"""What a learner works on, read as source: the exercises of a file, answers, solutions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

from chainrule.course.exercises.stubs import Definition, Entry, entries, used


def survey(path: Path) -> list[Entry]:
    """List the exercises of a file: what each declares, its checks and hints.

    Raises:
        SyntaxError: the file is not Python.
    """
    return entries(ast.parse(path.read_text(encoding="utf-8"), str(path)))


def is_untouched(node: Definition) -> bool:
    """Whether a learner's definition still has no body: only a docstring, ``...`` or ``pass``."""
    methods = [item for item in node.body if isinstance(item, Definition)]
    if isinstance(node, ast.ClassDef) and methods:
        return all(is_untouched(item) for item in methods)
    return all(
        isinstance(item, ast.Pass)
        or (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))
        or (isinstance(item, ast.Raise) and "NotImplementedError" in ast.unparse(item))
        for item in node.body
    )


def binds(node: ast.stmt) -> set[str]:
    """The names that a statement defines, assigns or imports."""
    if isinstance(node, Definition):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(item.asname or item.name).split(".")[0] for item in node.names}
    targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
    return {item.id for each in targets for item in ast.walk(each) if isinstance(item, ast.Name)}


def with_needed(node: ast.stmt, others: Iterable[ast.stmt]) -> list[ast.stmt]:
    """A statement, and before it those of the others that it uses, or that they use."""
    found = [node]
    for statement in found:  # which grows
        names = used([statement])
        found += [each for each in others if each not in found and binds(each) & names]
    return [*sorted(found[1:], key=lambda each: each.lineno), node]


def bound_names(text: str) -> set[str]:
    """The names of a learner's file, as far as it can be read."""
    try:
        return set().union(*map(binds, ast.parse(text).body))
    except (SyntaxError, ValueError):
        return set(re.findall(r"^(?:def|class) +(\w+)", text, re.MULTILINE))


def solution_of(tree: ast.Module, source: str, name: str) -> str:
    """The solution of an exercise as source, with the private helpers that it uses."""
    nodes = [node for node in tree.body if isinstance(node, Definition)]
    solution = next(node for node in nodes if node.name == name)
    helpers = [node for node in nodes if node.name.startswith("_") and node.name != "_"]
    lines = source.splitlines()
    found = with_needed(solution, helpers)
    return "\n\n\n".join("\n".join(lines[node.lineno - 1 : node.end_lineno]) for node in found)


def helps(entry: Entry) -> list[str]:
    """What helps with an exercise, each time a little more; the section follows the first."""
    return [
        entry.reread or "Reread",
        entry.idea or "Nobody has written down the idea yet.",
        f"The solution begins:  {first_line(entry.node)}",
    ]


def first_line(node: Definition) -> str:
    """Where a solution begins: its first line after the docstring."""
    functions = [item for item in ast.walk(node) if isinstance(item, ast.FunctionDef)]
    body = functions[0].body
    first = body[1] if len(body) > 1 and ast.get_docstring(functions[0]) else body[0]
    return ast.unparse(first).splitlines()[0]
