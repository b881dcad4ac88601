"""From a solution's source to the learner's stub: signature, statement, nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterable

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
BODY = "..."


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
    used = {name.id for node in nodes for name in ast.walk(node) if isinstance(name, ast.Name)} | {
        "np"
    }
    lines = ["from __future__ import annotations", ""]
    for node in tree.body:
        if isinstance(node, ast.Import):
            kept = [a for a in node.names if (a.asname or a.name.split(".")[0]) in used]
            copy: ast.stmt = ast.Import(kept)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if module == "__future__" or module.startswith("chainrule.course"):
                continue
            kept = [a for a in node.names if (a.asname or a.name) in used]
            copy = ast.ImportFrom(module, kept, node.level)
        else:
            continue
        if kept:
            lines.append(ast.unparse(copy))
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
