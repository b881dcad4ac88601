"""Interactive figures: a module for the reader's browser computes what Python computes.

``figures/<folder>/<slug>/<name>.js`` takes the place of ``<name>.svg`` on the site. Its numbers
are compared with those of the function decorated ``@interactive("name")`` in the figures' script.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from chainrule import children
from chainrule.course.audit import Audit
from chainrule.course.audit.checks.figures import names
from chainrule.course.audit.verdicts import Verdict
from chainrule.course.finding import Finding
from chainrule.course.manifest import Document
from chainrule.program import UsageError

NAME = "interactive"
STOPS = "A reader moves a slider, and the figure shows numbers that the course's code never gives."

_ELSEWHERE = re.compile(r"\bimport\b\s*[({*'\"\w]|\bfetch\s*\(|\bXMLHttpRequest\b|\bMath\.random\b")


def check(audit: Audit) -> Iterator[Finding]:
    """Compare modules and models; execute nothing."""
    for document in audit.picked(audit.course.documents):
        folder, script = document.figure_folder, document.figure_script
        models, modules = names(audit, script, "interactive"), audit.inside(folder, ".js")
        for path in modules:
            name = PurePosixPath(path).stem
            if name not in models:
                fix = f'write a function with @interactive("{name}", states=[…])'
                yield Finding(path, 1, NAME, f"nothing in {script} computes it", fix)
            for number, line in enumerate(audit.text(path).splitlines(), 1):
                if found := _ELSEWHERE.search(line.split("//")[0]):
                    message = f"{found[0].strip()}: a module uses nothing but its state"
                    fix = "write it out, or move what several share into site/static/interactive.js"
                    yield Finding(path, number, NAME, message, fix)
        for name, begins in models.items():
            if f"{folder}/{name}.js" not in modules:
                message = f"interactive figure {name!r} has no module"
                fix = f"write {folder}/{name}.js, or remove the function"
                yield Finding(script, begins, NAME, message, fix)


def run(audit: Audit) -> Iterator[Finding]:
    """Ask every module and its model for the same states, in fresh processes.

    Raises:
        UsageError: Node is missing.
    """
    compared = "chainrule.course.figures.modules:differences"
    asked = {
        document: _verdict(audit, document)
        for document in audit.picked(audit.course.documents)
        if names(audit, document.figure_script, "interactive")
    }
    ids, seconds = [each.id for each, verdict in asked.items() if not verdict.passed], 300
    if not ids:
        return
    answer = children.call(compared, str(audit.root), ids, root=audit.root, seconds=seconds)
    if answer.fault:
        raise UsageError(answer.fault.split("Error: ")[-1])
    rows = list(answer.rows())
    for document, verdict in asked.items():
        own = f"{document.figure_folder}/", document.figure_script
        verdict.keep(passed=not any(file.startswith(own) for file, *_ in rows))
    for file, line, message in rows:
        fix = "make compute, and Python's function, give the same"
        yield Finding(file, line, NAME, message, fix)


def _verdict(audit: Audit, document: Document) -> Verdict:
    """What is remembered of a document; a figure that leads to pages depends on their anchors."""
    leads = "links" in audit.text(document.figure_script)
    pages = [path for path in audit.files if path.endswith(".md")]
    anchors = {path: sorted(audit.page(path).anchors) for path in pages} if leads else None
    return audit.verdicts.of(NAME, [document], anchors)
