"""What is generated is fresh."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from chainrule.course.audit import Audit
from chainrule.course.audit.generated import regions, texts
from chainrule.course.finding import Finding

NAME = "generated"
STOPS = "A header, table or graph shows prerequisites, sections or exercises of last month."
FIX = "chainrule audit --write"


def check(audit: Audit) -> Iterator[Finding]:
    """Compare every generated region and file with what the course says now."""
    for path, wanted in regions(audit).items():
        if path not in audit.files:
            continue
        present = {region.name: region for region in audit.page(path).regions}
        for name in wanted.keys() - present.keys():
            fix = f"add the lines <!-- generated: {name} --> and <!-- /generated -->"
            yield Finding(path, 1, NAME, f"there is no generated region {name!r}", fix)
        for name, region in present.items():
            if name not in wanted:
                yield Finding(path, region.line, NAME, f"nothing generates a region {name!r}")
            elif not region.end:
                fix = "close it with <!-- /generated -->"
                yield Finding(path, region.line, NAME, f"region {name!r} is not closed", fix)
    for path, text in texts(audit).items():
        lines = audit.text(path).split("\n") if path in audit.files else []
        pairs = enumerate(zip_longest(lines, text.split("\n")), 1)
        if line := next((number for number, (old, new) in pairs if old != new), 0):
            yield Finding(path, line, NAME, "is stale: it is generated from what has changed", FIX)


def write(audit: Audit) -> Iterator[tuple[str, str]]:
    """Refresh every region that is there, and every generated file."""
    yield from texts(audit).items()
