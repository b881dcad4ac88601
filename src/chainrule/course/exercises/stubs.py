"""Exercise files read as source: their entries, and the stubs that learners get."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def decorator_name(node: ast.expr) -> str:
    """``exercise`` of ``@exercise(…)``, ``given`` of ``@given``."""
    target = node.func if isinstance(node, ast.Call) else node
    return target.id if isinstance(target, ast.Name) else ""


def marked(tree: ast.Module, decorator: str) -> list[Definition]:
    """The top-level definitions that carry a decorator, in order."""
    return [
        node
        for node in tree.body
        if isinstance(node, Definition)
        and decorator in [decorator_name(item) for item in node.decorator_list]
    ]


def stub_of(node: Definition, source: str) -> str:
    """The definition as the learner finds it: bodies are ``...``, docstrings stay."""
    lines = source.splitlines()
    keep = [item for item in node.decorator_list if decorator_name(item) != "exercise"]
    text = [" " * node.col_offset + "@" + ast.unparse(item) for item in keep]
    first = node.body[0]
    text += lines[node.lineno - 1 : first.lineno - 1]
    if ast.get_docstring(node) is not None:
        text += lines[first.lineno - 1 : first.end_lineno]
    if not isinstance(node, ast.ClassDef):
        return "\n".join([*text, " " * first.col_offset + "..."])
    for item in node.body:
        if isinstance(item, ast.AnnAssign):
            text += ["", *lines[item.lineno - 1 : item.end_lineno]]
        elif isinstance(item, Definition) and (item.name[0] != "_" or item.name.endswith("__")):
            text += ["", stub_of(item, source)]
    return "\n".join(text)


def imports_for(tree: ast.Module, nodes: Iterable[Definition]) -> str:
    """The import lines of an exercise file that its solutions need, without the course's own."""
    wanted = used(nodes) | {"np"}
    lines = ["from __future__ import annotations", ""]
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            needed = copy.copy(node)
            needed.names = [a for a in node.names if (a.asname or a.name).split(".")[0] in wanted]
            if needed.names and not module.startswith(("__future__", "chainrule.course")):
                lines.append(ast.unparse(needed))
    return "\n".join(lines)


def opening(tree: ast.Module, source: str) -> str:
    """What every learner's file begins with: the imports that solutions use, and what is given.

    A definition is given as it stands below its first decorator, which is ``@given``.
    """
    lines = source.splitlines()
    given = [
        "\n".join(lines[node.decorator_list[0].end_lineno : node.end_lineno])
        for node in marked(tree, "given")
    ]
    return "\n\n\n".join([imports_for(tree, marked(tree, "exercise")), *given])


@dataclass(frozen=True)
class Entry:
    """What an exercise file says about one exercise, read without executing the file.

    What is not declared, or not as a plain value, is None.
    """

    name: str
    line: int
    statement: str
    node: Definition
    checks: tuple[str, ...]
    mistakes: tuple[tuple[str, str, int], ...]
    title: Any = None
    difficulty: Any = None
    minutes: Any = None
    section: Any = None
    counterpart: Any = None
    because: Any = None
    idea: Any = None
    reread: Any = None
    seconds: Any = None


@lru_cache(maxsize=128)
def entries(tree: ast.Module) -> list[Entry]:
    """List the exercises of a file; the list is kept, so leave it alone."""
    return [_entry(node, tree) for node in marked(tree, "exercise")]


def _entry(node: Definition, tree: ast.Module) -> Entry:
    call = next(item for item in node.decorator_list if decorator_name(item) == "exercise")
    told = {keyword.arg: keyword.value for keyword in getattr(call, "keywords", [])}
    for title in getattr(call, "args", [])[:1]:
        told["title"] = title
    names = {field.name for field in fields(Entry)} & told.keys()
    checks, mistakes = [], []
    for other in (item for item in tree.body if isinstance(item, Definition)):
        for item in other.decorator_list:
            match item:
                case ast.Attribute(ast.Name(node.name), "check"):
                    checks.append(other.name)
                case ast.Call(ast.Attribute(ast.Name(node.name), "mistake"), [hint, *_]):
                    mistakes.append((other.name, _literal(hint) or "", other.lineno))
    return Entry(
        node.name,
        line=node.lineno,
        statement=ast.get_docstring(node) or "",
        node=node,
        checks=tuple(checks),
        mistakes=tuple(mistakes),
        **{name: _literal(told[name]) for name in names},
    )


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def used(nodes: Iterable[ast.AST]) -> set[str]:
    """The names that stand in these statements."""
    return {item.id for node in nodes for item in ast.walk(node) if isinstance(item, ast.Name)}
