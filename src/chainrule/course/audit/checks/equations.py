"""Equations and the code that implements them name each other.

An anchor ``eq-…`` stands above a block of mathematics. A docstring of the document's module
has the line ``Equation: folder/name.md#eq-…`` (several are separated by commas). What has such
a docstring must be tested: some test file of the module mentions it by name, or, for a method,
its class, or, for a private name, something of the module that uses it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import networkx as nx

from chainrule.course.audit import Audit
from chainrule.course.audit.checks.imports import statements
from chainrule.course.finding import Finding
from chainrule.course.manifest import Document

NAME = "equations"
STOPS = "A reader follows an equation to code that computes something else, or to none."

OWNERS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_REFERENCE = re.compile(r"([\w/-]+\.md)#(eq-[\w-]+)")


@dataclass(frozen=True)
class Mention:
    """A docstring that names an equation: who has it, and the names that a test may use."""

    file: str
    line: int
    names: tuple[str, ...]
    document: str
    anchor: str


def check(audit: Audit) -> Iterator[Finding]:
    """Follow equations in both directions."""
    paths = {document.path for document in audit.course.documents}
    for document in audit.picked(audit.course.documents):
        mentions = [m for path in audit.module_files(document) for m in _mentions(audit, path)]
        for mention in mentions:
            target, anchor = mention.document, mention.anchor
            ids = audit.page(target).ids if target in audit.files else [anchor]
            if target not in paths or anchor not in ids:
                message = f"Equation: {target}#{anchor}: no such anchor"
                fix = f'add <a id="{anchor}"></a> above the equation'
                yield Finding(mention.file, mention.line, NAME, message, fix)
        yield from _tested(audit, document, mentions)
        if document.path in audit.files:
            named = {m.anchor for m in mentions if m.document == document.path}
            yield from _anchors(audit, document, named)


def _anchors(audit: Audit, document: Document, named: set[str]) -> Iterator[Finding]:
    page = audit.page(document.path)
    blocks = {block.line for block in page.blocks if block.info == "math"}
    for anchor, line in page.ids.items():
        if not anchor.startswith("eq-"):
            continue
        if anchor not in named:
            message = f"no docstring of {document.module} names #{anchor}"
            fix = f"add to its docstring: Equation: {document.path}#{anchor}"
            yield Finding(document.path, line, NAME, message, fix)
        if line + 2 not in blocks:
            message = f"#{anchor} stands above no block of mathematics"
            fix = "order: the anchor, a blank line, ```math"
            yield Finding(document.path, line, NAME, message, fix)


def _tested(audit: Audit, document: Document, mentions: list[Mention]) -> Iterator[Finding]:
    if not mentions:
        return
    used = {name for path in audit.test_files(document) for name in _names(audit.nodes(path))}
    uses = nx.DiGraph(
        (node.name, name)
        for path in audit.module_files(document)
        for node in getattr(audit.tree(path), "body", [])
        if isinstance(node, OWNERS)
        for name in _names(ast.walk(node))
        if name.startswith("_")
    )
    used.update(*(nx.descendants(uses, name) for name in used & uses.nodes))
    for mention in mentions:
        if mention.names and not used.intersection(mention.names):
            message = f"{mention.names[0]} implements #{mention.anchor} but no test mentions it"
            yield Finding(mention.file, mention.line, NAME, message, "test it by name")


def _names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, (ast.Name, ast.Attribute)):
            yield node.id if isinstance(node, ast.Name) else node.attr


def _mentions(audit: Audit, path: str) -> Iterator[Mention]:
    tree = audit.tree(path)
    if "Equation:" not in audit.text(path) or not isinstance(tree, ast.Module):
        return
    owners = [node for node in statements(tree) if isinstance(node, OWNERS)]  # outer ones first
    for number, line in enumerate(audit.text(path).split("\n"), 1):
        for found in _REFERENCE.finditer(line) if "Equation:" in line else ():
            around = [o for o in owners if o.lineno <= number <= (o.end_lineno or 0)]
            if found[0] in (ast.get_docstring(around[-1] if around else tree) or ""):
                names = [o.name for o in around[::-1] if not o.name.startswith("__")]
                yield Mention(path, number, tuple(names), found[1], found[2])
