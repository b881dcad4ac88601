"""Everything imports only what comes before it in the graph."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from chainrule.course.audit import Audit
from chainrule.course.finding import Finding
from chainrule.course.manifest import FOLDERS, Course, Document

NAME = "imports"
STOPS = "Code uses what its reader has not been taught, or a library that its reader does not have."

COMMON = ("chainrule.shapes", "chainrule.data")
GROUND = ("program", "shapes", "files", "children", "node")
ON = tuple(f"chainrule.{name}" for name in (*GROUND, "data"))  # what every room stands on
TWIN = "chainrule.pytorch"
REAL_DATA = frozenset({"sklearn"})
DRAWING = REAL_DATA | {"matplotlib"}
SUBJECTS = tuple(f"src/chainrule/{folder.replace('-', '_')}/" for folder in FOLDERS)


@dataclass(frozen=True)
class View:
    """A piece of code that belongs to documents, and what else it may import."""

    file: str
    line: int  # what to add to a line of the code
    tree: ast.Module | SyntaxError
    documents: tuple[Document, ...]
    libraries: frozenset[str] = frozenset()
    tools: tuple[str, ...] = ()
    applications: tuple[str, ...] = ()


def check(audit: Audit) -> Iterator[Finding]:
    """Read the imports of every view of every document."""
    owned = set()
    for document in audit.picked(audit.course.documents):
        owned.update(audit.module_files(document))
        for view in _views(audit, document):
            yield from _check(audit.course, view)
    for path in audit.notebooks:
        yield from _notebook(audit, path)
    if audit.chosen:
        return
    yield from _missing(audit)
    built = _built_on(audit.course)
    for path in sorted(audit.files - owned):
        if path.startswith("src/chainrule/") and path.endswith(".py"):
            yield from _unowned(audit, path, built)


def _views(audit: Audit, document: Document) -> Iterator[View]:
    owner = (document,)
    for path in audit.module_files(document):
        yield View(path, 0, audit.tree(path), owner)
    if document.exercises in audit.files:
        tree = audit.tree(document.exercises)
        tools = ("chainrule.course.exercises",)
        yield View(document.exercises, 0, tree, owner, REAL_DATA, tools)
    if document.figure_script in audit.files:
        tree, tools = audit.tree(document.figure_script), ("chainrule.course.figures",)
        yield View(document.figure_script, 0, tree, owner, DRAWING, tools)
    if document.path in audit.files:
        for block in audit.page(document.path).blocks:
            if block.language == "python":
                tree, used = _parse(block.code), _used(audit.course, owner)
                yield View(document.path, block.line, tree, owner, REAL_DATA, applications=used)


def _used(course: Course, documents: Iterable[Document]) -> tuple[str, ...]:
    """The modules of applications that all of these documents may use."""
    names = [set(document.uses) for document in documents]
    shared = set.intersection(*names) if names else set()
    known = [course.applications[name] for name in sorted(shared) if name in course.applications]
    return tuple(module for application in known for module in application.modules)


def _missing(audit: Audit) -> Iterator[Finding]:
    """The modules that an application says it has."""
    for application in audit.course.applications.values():
        for module in application.modules:
            if f"src/{module.replace('.', '/')}.py" not in audit.files:
                line = audit.course.line_of("\n[[application]]", f'"{module}"')
                yield Finding("course.toml", line, NAME, f"there is no module {module}")


def _built_on(course: Course) -> dict[str, tuple[str, list[str]]]:
    """For each module of an application: its id, and the modules that it may import."""
    found: dict[str, tuple[str, list[str]]] = {}
    for application in course.applications.values():
        taught = {name for name in application.builds_on if name in course.by_id}
        taught = taught.union(*map(course.ancestors, taught))
        modules = [course.by_id[name].module for name in taught]
        for other in course.applications.values():
            modules += other.modules if taught.issuperset(other.builds_on) else ()
        found |= dict.fromkeys(application.modules, (application.id, modules))
    return found


def _unowned(audit: Audit, path: str, built: dict[str, tuple[str, list[str]]]) -> Iterator[Finding]:
    """A file that belongs to no document: of the tool, of an application, or of nothing."""
    tree = audit.tree(path)
    if path.startswith(SUBJECTS):
        if path.count("/") == 3 and path.endswith("/__init__.py"):
            yield from _check(audit.course, View(path, 0, tree, ()))
        else:
            fix = "name it after a document of course.toml"
            yield Finding(path, 1, NAME, "this module belongs to no document", fix)
    elif isinstance(tree, ast.Module):
        for line, names in imported(tree, _package(path)):
            for message, fix in _room(path, names, built):
                yield Finding(path, line, NAME, message, fix)


def _room(
    path: str, names: list[str], built: dict[str, tuple[str, list[str]]]
) -> Iterator[tuple[str, str]]:
    """The tool knows no machine learning, the ground floor no room; PyTorch is imported by the
    twin alone, which nothing imports; an application that documents use imports no more than it
    says that it builds on."""
    ours = _within(names[-1], ("chainrule",))
    room = path.removeprefix("src/chainrule/").removesuffix(".py").split("/")[0]
    if room in GROUND and ours and not _within(names[0], ON):
        yield f"the ground floor may not import {names[0]}", "put what needs it into a room"
    if room == "course" and ours and not _within(names[0], ("chainrule.course", *ON)):
        fix = "an application may: put it beside src/chainrule/trainer, with a folder of commands"
        yield f"the tool may not import {names[0]}", fix
    if not path.startswith(f"src/{TWIN.replace('.', '/')}/"):
        if _within(names[0], (TWIN,)):
            fix = "look it up by name when it is asked for, as `chainrule train` does"
            yield f"nothing may import {TWIN}", fix
        elif _within(names[-1], ("torch",)):
            yield f"only {TWIN} may import torch", f"put what needs PyTorch into {TWIN}"
    application, modules = built.get(path[4:-3].replace("/", "."), ("", []))
    allowed = (*COMMON, "chainrule.program", *modules)
    if application and ours and not any(_within(name, allowed) for name in names):
        fix = "name its document in builds_on of course.toml, or do without"
        yield f"{application} may not use {names[0]}", fix


def _notebook(audit: Audit, path: str) -> Iterator[Finding]:
    notebook = next((each for each in audit.course.notebooks if each.path == path), None)
    if notebook is None:
        return
    served = tuple(audit.course.by_id[s] for s in notebook.serves if s in audit.course.by_id)
    for cell in audit.cells(path):
        if cell.kind == "code":
            code = re.sub(r"^[%!].*$", "", cell.source, flags=re.M)
            libraries, used = DRAWING | {"IPython"}, _used(audit.course, served)
            view = View(path, cell.line - 1, _parse(code), served, libraries, applications=used)
            yield from _check(audit.course, view)


def _parse(code: str) -> ast.Module | SyntaxError:
    try:
        return ast.parse(code)
    except SyntaxError as error:
        return error


def _check(course: Course, view: View) -> Iterator[Finding]:
    if isinstance(view.tree, SyntaxError):
        line = view.line + (view.tree.lineno or 1)
        yield Finding(view.file, line, NAME, f"this is not Python: {view.tree.msg}")
        return
    allowed = {document.id for document in view.documents}
    for document in view.documents:
        allowed |= course.ancestors(document.id)
    for line, names in imported(view.tree, _package(view.file)):
        faults = [_fault(course, view, allowed, name) for name in names]
        if faults and all(faults):  # `from a import b` is fine if a, or a.b, is
            yield Finding(view.file, view.line + line, NAME, *next(filter(None, faults)))


def _fault(course: Course, view: View, allowed: set[str], name: str) -> tuple[str, str] | None:
    """What is wrong with importing a module, and what to do."""
    parts = name.split(".")
    top = parts[0]
    if top != "chainrule":
        if top in sys.stdlib_module_names or top == "numpy" or top in view.libraries:
            return None
        extras = ", ".join(["the standard library", "NumPy", *sorted(view.libraries)])
        return f"may not import {top}", f"what may be imported here: {extras}"
    if name in view.tools or _within(name, COMMON) or _within(name, view.applications):
        return None
    for other in course.documents:
        if _within(name, (other.module,)):
            if other.id in allowed:
                return None
            return _edge(course, view.documents, other)
    for application in course.applications.values():
        if _within(name, application.modules):
            fix = f"add {application.id!r} to uses of the document in course.toml"
            return f"{name} belongs to an application", fix
    if _within(name, ("chainrule.course", *ON)):
        return "the course's tool is not for this code", "move what it needs into a module"
    return f"{name} is not the module of a document", "import the document's module itself"


def _edge(course: Course, owners: tuple[Document, ...], other: Document) -> tuple[str, str]:
    if not owners:
        return f"a folder may not import {other.id}", "leave the folder's __init__ empty"
    needs = sorted({need.id for owner in owners for need in owner.needs})
    subject = " and ".join(owner.id for owner in owners)
    listed = ", ".join(needs) or "it has none"
    message = f"{subject} may not use {other.id}: it is not among its prerequisites ({listed})"
    return message, "make it a need in course.toml, or do without"


def _within(name: str, modules: Iterable[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _package(file: str) -> list[str]:
    """The dotted package of a module file, for relative imports."""
    return file.removeprefix("src/").split("/")[:-1] if file.startswith("src/") else []


def imported(tree: ast.Module, package: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Every import, wherever it stands: its line, and the modules that it may mean.

    ``from a import b`` may mean the module ``a.b`` or a name in ``a``: both are given, ``a.b``
    first; the import is fine if either may be imported.
    """
    for node in statements(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, [alias.name]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, [f"{base}.{alias.name}" if base else alias.name, base or "."]


def statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Every statement, at any depth; expressions, which hold no import, are not entered."""
    left: list[ast.AST] = [tree]
    for node in left:
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(node, name, None)
            if isinstance(inner, list):
                left += inner
        yield node
