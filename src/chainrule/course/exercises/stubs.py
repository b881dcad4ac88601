"""Exercise files read as source: their entries, and the stubs that learners get."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
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


def survey(path: Path) -> list[Entry]:
    """List the exercises of a file: what each declares, its checks and hints.

    Raises:
        SyntaxError: the file is not Python.
    """
    return entries(ast.parse(path.read_text(encoding="utf-8"), str(path)))


@lru_cache(maxsize=128)
def entries(tree: ast.Module) -> list[Entry]:
    """List the exercises of a file that is parsed already; the list is kept, so leave it alone."""
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


def binds(node: ast.stmt) -> set[str]:
    """The names that a statement defines, assigns or imports."""
    if isinstance(node, Definition):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(item.asname or item.name).split(".")[0] for item in node.names}
    targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
    return {item.id for each in targets for item in ast.walk(each) if isinstance(item, ast.Name)}


def used(nodes: Iterable[ast.AST]) -> set[str]:
    """The names that stand in these statements."""
    return {item.id for node in nodes for item in ast.walk(node) if isinstance(item, ast.Name)}


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


def solution_source(path: Path, name: str) -> str:
    """The solution of an exercise as source, with the private helpers that it uses."""
    source = path.read_text(encoding="utf-8")
    return solution_of(ast.parse(source), source, name)


def solution_of(tree: ast.Module, source: str, name: str) -> str:
    """The same, of a file that is parsed already."""
    nodes = [node for node in tree.body if isinstance(node, Definition)]
    solution = next(node for node in nodes if node.name == name)
    helpers = [node for node in nodes if node.name.startswith("_") and node.name != "_"]
    lines = source.splitlines()
    found = with_needed(solution, helpers)
    return "\n\n\n".join("\n".join(lines[node.lineno - 1 : node.end_lineno]) for node in found)
