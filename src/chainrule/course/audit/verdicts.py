"""Verdicts that are remembered: what passed is executed again only when something it needs changed.

A verdict is kept under a digest of all on which it may depend. That is too much rather than too
little: every file of the checkout but prose, tests, and what belongs to other documents, of which
the modules that the graph puts before it count (the check `imports` refuses all others); programs,
packages and the processor; the variables that turn arithmetic. Only what passed is kept, and never
in CI. A file that is damaged is not remembered.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Collection, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chainrule.data.models import cache_folder
from chainrule.files import write_atomically
from chainrule.node import find_node
from chainrule.program import PACKAGE

if TYPE_CHECKING:
    from chainrule.course.audit import Audit
    from chainrule.course.manifest import Document

MOST = 1000  # verdicts: what was not asked for longest is dropped
# A document's text, beyond what a check names; what pytest runs; what each notebook's check names.
_APART = re.compile(r"tests/|(.*/)?\.[^/]*$|.*(\.md|\.ipynb|~)$")
_TURNS = re.compile(
    r"(OMP|OPENBLAS|GOTO|MKL|BLIS|VECLIB|NPY|NUMPY|PYTHON|MPL|NODE|CHAINRULE|LD|DYLD|LC|GLIBC)_?"
    r"|(LANG|TZ|SCIKIT|JUPYTER|IPYTHON)"
)


class Verdict:
    """What a check found out about documents: ``rows`` if it passed and nothing changed since."""

    def __init__(self, verdicts: Verdicts, *question: Any):
        self.verdicts, self.question = verdicts, question
        self.key = verdicts.key(*question) if verdicts.on else ""
        self.rows = verdicts.recall(self.key) if verdicts.on and not verdicts.fresh else None

    @property
    def passed(self) -> bool:
        """Whether it is known to pass."""
        return self.rows is not None

    def keep(self, passed: bool, rows: Sequence[Any] = ()) -> None:
        """Remember that it passed, if it did and nothing was changed in the meantime."""
        if not self.verdicts.on or self.passed:
            return
        path = self.verdicts.folder / self.key
        with contextlib.suppress(OSError):  # a folder that cannot be written remembers nothing
            if not passed:
                path.unlink(missing_ok=True)
            elif self.verdicts.key(*self.question) == self.key:
                write_atomically(path, json.dumps(rows).encode())


class Verdicts:
    """All verdicts of an audit: whether any is remembered, and how many were ``recalled``.

    A ``fresh`` audit recalls none; what it finds takes the place of what was remembered.
    """

    def __init__(self, audit: Audit, on: bool, fresh: bool = False):
        self.audit, self.on, self.fresh = audit, on and not os.environ.get("CI"), fresh
        self.recalled = 0
        self.folder = cache_folder() / "verdicts"

    def of(self, check: str, documents: Collection[Document], *parts: Any) -> Verdict:
        """The verdict of a check on documents (none: all); ``parts``: what else it depends on."""
        return Verdict(self, check, documents, parts)

    def key(self, check: str, documents: Collection[Document], parts: Any) -> str:
        """A digest of all on which a verdict may depend, as it is now."""
        files = {path: _digest(self.audit.root / path) for path in self._needed(documents)}
        if self.audit.root / "src" / "chainrule" != PACKAGE:  # another checkout's tool
            files |= {str(path): _digest(path) for path in PACKAGE.rglob("*.py")}
        known = [check, [each.id for each in documents], parts, files, self.surroundings]
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()

    def recall(self, key: str) -> list[Any] | None:
        """What is remembered under a key."""
        path = self.folder / key
        try:
            rows = json.loads(path.read_bytes())
            os.utime(path)
        except (OSError, ValueError):
            return None
        self.recalled += 1
        return rows

    @cached_property
    def surroundings(self) -> list[Any]:
        """Programs, installed packages, the processor, and the variables that turn arithmetic."""
        places = [Path(place or ".") for place in sys.path]
        packages = [p.name for place in places if place.is_dir() for p in place.glob("*.dist-info")]
        node = shutil.which(find_node() or "")
        program = [node, Path(node).stat().st_size, Path(node).stat().st_mtime_ns] if node else []
        turned = {name: value for name, value in os.environ.items() if _TURNS.match(name)}
        machine = [platform.uname(), os.cpu_count(), processor()]
        return [sys.version, sorted(packages), program, machine, turned]

    def tidy(self) -> None:
        """Drop what is beyond the bound."""
        with contextlib.suppress(OSError):
            kept = self.folder.iterdir() if self.on else ()
            for path in sorted(kept, key=lambda path: path.stat().st_mtime)[:-MOST]:
                path.unlink()

    def _needed(self, documents: Collection[Document]) -> list[str]:
        """Every file that can change a verdict on these documents, or on all."""
        course, apart = self.audit.course, set[str]()
        asked = {each.id for each in documents} or {*course.by_id}
        before = asked.union(*map(course.ancestors, asked))
        for name, (modules, others) in self._own.items():
            apart |= modules if name not in before else set()
            apart |= others if name not in asked else set()
        return [path for path in self.audit.files - apart if not _APART.match(path)]

    @cached_property
    def _own(self) -> dict[str, tuple[set[str], set[str]]]:
        """By document: the files of its module, and of exercises and figures.

        Measurements (.json) are open to all documents.
        """
        audit, found = self.audit, {}
        for each in audit.course.documents:
            drawn = [p for p in audit.inside(each.figure_folder) if not p.endswith(".json")]
            others = {each.exercises, each.figure_script, *drawn}
            found[each.id] = set(audit.module_files(each)), others
        return found


def _digest(path: Path) -> str:
    """The SHA-256 of a file; nothing of a link that leads nowhere, or a file that went."""
    try:
        status = path.stat()
        return _digest_at(path, status.st_ctime_ns, status.st_mtime_ns, status.st_size)
    except OSError:
        return ""


@cache
def _digest_at(path: Path, *when: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def processor() -> list[str]:
    """What the processor says that it is and can do."""
    with contextlib.suppress(OSError):
        said = Path("/proc/cpuinfo").read_text(errors="replace")
        return sorted(set(re.findall(r"^(?:model name|flags|Features|CPU \w+).*$", said, re.M)))
    return [platform.processor()]
