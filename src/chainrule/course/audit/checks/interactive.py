"""Interactive figures: a module for the reader's browser computes what Python computes.

``figures/<folder>/<slug>/<name>.js`` takes the place of ``<name>.svg`` on the site. Its numbers
are compared with those of the function decorated ``@interactive("name")`` in the figures' script.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator

from chainrule.course.audit import Audit
from chainrule.course.children import environment
from chainrule.course.finding import Finding
from chainrule.course.manifest import Document
from chainrule.program import UsageError

NAME = "interactive"
STOPS = "A reader moves a slider, and the figure shows numbers that the course's code never gives."

_ELSEWHERE = re.compile(r"\bimport\b\s*[({*'\"\w]|\bfetch\s*\(|\bXMLHttpRequest\b|\bMath\.random\b")


def check(audit: Audit) -> Iterator[Finding]:
    """Compare modules, pictures and models; execute nothing."""
    known: set[str] = set()
    for document in audit.course.documents:
        folder = f"{document.figure_folder}/"
        models = _models(audit, document)
        modules = {
            path.removeprefix(folder).removesuffix(".js"): path
            for path in audit.files
            if path.startswith(folder) and path.endswith(".js")
        }
        known.update(modules.values())
        for name, path in sorted(modules.items()):
            yield from _module(audit, document, name, path, name in models)
        for name, line in models.items():
            if name not in modules:
                message = f"interactive figure {name!r} has no module"
                fix = f"write {folder}{name}.js, or remove the function"
                yield Finding(document.figure_script, line, NAME, message, fix)
    for path in sorted(audit.files - known):
        if path.startswith("figures/") and path.endswith(".js"):
            fix = "put it into the folder of a document's figures"
            yield Finding(path, 1, NAME, "belongs to no document", fix)


def run(audit: Audit) -> Iterator[Finding]:
    """Ask every module and its model for the same states, in fresh processes.

    Raises:
        UsageError: Node is missing.
    """
    command = ["-m", "chainrule.course.figures.modules", "--json", "--root", str(audit.root)]
    done = subprocess.run(
        [sys.executable, *command, *sorted(audit.chosen)],
        cwd=audit.root,
        env=environment(audit.root / "src"),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            row = json.loads(line)
            fix = "make compute, and Python's function, give the same"
            yield Finding(row["file"], row["line"], NAME, row["message"], fix)
    if done.returncode not in (0, 1):
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UsageError(reason.removeprefix("interactive: "))


def _module(
    audit: Audit, document: Document, name: str, path: str, modelled: bool
) -> Iterator[Finding]:
    picture = f"{document.figure_folder}/{name}.svg"
    if picture not in audit.files:
        fix = f'draw it: @figure("{name}") in {document.figure_script}'
        yield Finding(path, 1, NAME, f"has no picture {picture}", fix)
    elif document in audit.written and not _shows(audit, document, picture):
        message = f"its picture is not shown by {document.path}"
        yield Finding(path, 1, NAME, message, "show the picture, or remove the module")
    if not modelled:
        message = f"nothing in {document.figure_script} computes it"
        fix = f'write a function with @interactive("{name}", states=[…])'
        yield Finding(path, 1, NAME, message, fix)
    for number, line in enumerate(audit.text(path).splitlines(), 1):
        if found := _ELSEWHERE.search(line.split("//")[0]):
            message = f"{found[0].strip()}: a module uses nothing but its state"
            fix = "write it out, or move what several share into site/static/interactive.js"
            yield Finding(path, number, NAME, message, fix)


def _shows(audit: Audit, document: Document, picture: str) -> bool:
    return any(f"../{picture}" == image.target for image in audit.page(document.path).images)


def _models(audit: Audit, document: Document) -> dict[str, int]:
    """The names in a script's ``@interactive("name")``, each with its line."""
    script = document.figure_script
    found: dict[str, int] = {}
    for node in audit.nodes(script) if script in audit.files else ():
        for call in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
            if (
                isinstance(call, ast.Call)
                and ast.unparse(call.func).split(".")[-1] == "interactive"
                and call.args
                and isinstance(call.args[0], ast.Constant)
            ):
                found[str(call.args[0].value)] = call.lineno
    return found
