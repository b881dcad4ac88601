"""What is generated is fresh."""

from __future__ import annotations

from collections.abc import Iterator

from chainrule.course.audit import Audit
from chainrule.course.audit.generated import files, regions, replace
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
        for name, text in wanted.items():
            region = present.pop(name, None)
            if region is None:
                fix = f"add the lines <!-- generated: {name} --> and <!-- /generated -->"
                yield Finding(path, 1, NAME, f"there is no generated region {name!r}", fix)
            elif not region.end:
                fix = "close it with <!-- /generated -->"
                yield Finding(path, region.line, NAME, f"region {name!r} is not closed", fix)
            elif region.text != text:
                line = region.line + 1 + _first_difference(region.text, text)
                yield Finding(path, line, NAME, f"region {name!r} is stale", FIX)
        for name, region in present.items():
            yield Finding(path, region.line, NAME, f"nothing generates a region {name!r}")
    for path, text in files(audit).items():
        old = audit.text(path) if path in audit.files else ""
        if old != text:
            yield Finding(path, 1 + _first_difference(old, text), NAME, "is stale", FIX)


def write(audit: Audit) -> Iterator[tuple[str, str]]:
    """Refresh every region that is there, and every generated file."""
    for path, wanted in regions(audit).items():
        if path in audit.files:
            yield path, replace(audit.page(path), wanted)
    yield from files(audit).items()


def _first_difference(old: str, new: str) -> int:
    pairs = zip(old.split("\n"), new.split("\n"), strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), 0)
