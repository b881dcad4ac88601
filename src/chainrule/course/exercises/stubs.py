"""Exercise files read as source: their entries, and the stubs that learners get."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
BODY = "..."
DECLARED = (
    *("title", "difficulty", "minutes", "section"),
    *("counterpart", "because", "idea", "reread", "seconds"),
)


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
    first, *rest = node.body
    text += lines[node.lineno - 1 : first.lineno - 1]
    indent = " " * first.col_offset
    if ast.get_docstring(node) is None:
        rest = node.body
    else:
        text += lines[first.lineno - 1 : first.end_lineno]
    if isinstance(node, ast.ClassDef):
        for item in rest:
            if isinstance(item, ast.AnnAssign):
                text += ["", *lines[item.lineno - 1 : item.end_lineno]]
            elif isinstance(item, Definition) and not _private(item.name):
                text += ["", stub_of(item, source)]
    else:
        text.append(indent + BODY)
    return "\n".join(text)


def _private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


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


def used(nodes: Iterable[ast.AST]) -> set[str]:
    """The names that stand in these statements."""
    return {item.id for node in nodes for item in ast.walk(node) if isinstance(item, ast.Name)}


def given_of(tree: ast.Module, source: str) -> list[str]:
    """What the file hands to the learner as it is: the definitions marked ``@given``."""
    lines = source.splitlines()
    texts = []
    for node in marked(tree, "given"):
        others = [item for item in node.decorator_list if decorator_name(item) != "given"]
        head = ["@" + ast.unparse(item) for item in others]
        texts.append("\n".join([*head, *lines[node.lineno - 1 : node.end_lineno]]))
    return texts


def opening(tree: ast.Module, source: str) -> str:
    """What every learner's file begins with: the imports that solutions use, and what is given."""
    imports = imports_for(tree, marked(tree, "exercise"))
    return "\n\n\n".join([imports, *given_of(tree, source)])


@dataclass(frozen=True)
class Entry:
    """What an exercise file says about one exercise, read without executing the file."""

    name: str
    title: Any
    difficulty: Any
    minutes: Any
    section: Any
    counterpart: Any
    because: Any
    idea: Any
    reread: Any
    seconds: Any
    line: int
    statement: str
    node: Definition
    checks: tuple[str, ...]
    mistakes: tuple[tuple[str, str, int], ...]


@lru_cache(maxsize=128)
def entries(tree: ast.Module) -> list[Entry]:
    """List the exercises of a file; the list is kept, so leave it alone."""
    return [_entry(node, tree) for node in marked(tree, "exercise")]


def _entry(node: Definition, tree: ast.Module) -> Entry:
    call = next(item for item in node.decorator_list if decorator_name(item) == "exercise")
    arguments = {keyword.arg: keyword.value for keyword in getattr(call, "keywords", [])}
    for name, value in zip(("title",), getattr(call, "args", []), strict=False):
        arguments[name] = value
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
        **{key: _literal(arguments.get(key)) for key in DECLARED},
    )


def _literal(node: ast.expr | None) -> Any:
    try:
        return ast.literal_eval(node) if node is not None else None
    except ValueError:
        return None
