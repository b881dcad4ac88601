"""Verdicts that are remembered: what passed is executed again only when something it needs changed.

A verdict is kept under a digest of all on which it may depend. That is too much rather than too
little: every file of the checkout but prose, tests and what belongs to documents that are neither
asked about nor reached by a name; programs, packages and the processor; the variables that turn
arithmetic. Only what passed is kept, and never in CI. A file that is damaged, or is no verdict, is
not remembered.
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
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from chainrule.data.models import cache_folder
from chainrule.files import write_atomically
from chainrule.node import find_node
from chainrule.program import PACKAGE

if TYPE_CHECKING:
    from chainrule.course.audit import Audit
    from chainrule.course.manifest import Document

MOST = 1000  # verdicts: what was not asked for longest is dropped
TOOL = "src/chainrule/course/"
# A document's text, beyond what a check names; what pytest runs; what each notebook's check names.
_APART = re.compile(r"tests/|(.*/)?\.[^/]*$|.*(\.md|\.ipynb|~)$")
_RELATIVE = re.compile(r"\bfrom\s+(\.+)([\w.]*)\s+import\b")
_NAMED = re.compile(r"\bchainrule(?:\.\w+)+")
_ANY = re.compile(
    r"import_module|__import__|iter_modules|run_module|\bfrom\s+chainrule\s+import\b"
    r"|\bimport\b[^\n]*\bchainrule\b(?!\.\w)"
)
_TURNS = re.compile(
    r"(OMP|OPENBLAS|GOTO|MKL|BLIS|VECLIB|NPY|NUMPY|PYTHON|MPL|NODE|CHAINRULE|LD|DYLD|LC|GLIBC)_?"
    r"|(LANG|TZ|SCIKIT|JUPYTER|IPYTHON)"
)


class Verdict:
    """What a check found out about documents: ``rows`` if it passed and nothing changed since."""

    def __init__(self, verdicts: Verdicts, *question: Any):
        self.verdicts, self.question = verdicts, question
        self.key = verdicts.key(*question) if verdicts.on else ""
        self.rows = verdicts.read(self.key) if verdicts.on and not verdicts.fresh else None
        self.verdicts.recalled += [self.key] * self.passed

    @property
    def passed(self) -> bool:
        """Whether it is known to pass."""
        return self.rows is not None

    def keep(self, passed: bool, rows: Sequence[Any] = ()) -> None:
        """Remember that it passed, if it did and nothing was changed in the meantime."""
        if not self.verdicts.on or self.passed:
            return
        if not passed:
            self.verdicts.drop(self.key)
        elif self.verdicts.key(*self.question) == self.key:
            self.verdicts.write(self.key, rows)


class Verdicts:
    """All verdicts of an audit: whether any is remembered, and those that were ``recalled``.

    A ``fresh`` audit recalls none; what it finds takes the place of what was remembered.
    """

    def __init__(self, audit: Audit, on: bool, fresh: bool = False):
        self.audit, self.on, self.fresh = audit, on and not os.environ.get("CI"), fresh
        self.recalled: list[str] = []
        self.folder = cache_folder() / "verdicts"
        self._digests: dict[Path, tuple[tuple[int, int, int], str]] = {}
        self._names: dict[str, set[str]] = {}

    def of(self, check: str, documents: Collection[Document], *parts: Any) -> Verdict:
        """The verdict of a check on documents (none: all); ``parts``: what else it depends on."""
        return Verdict(self, check, documents, parts)

    def key(self, check: str, documents: Collection[Document], parts: Any) -> str:
        """A digest of all on which a verdict may depend, as it is now."""
        files = {path: self._digest(self.audit.root / path) for path in self._needed(documents)}
        if self.audit.root / "src" / "chainrule" != PACKAGE:  # another checkout's tool
            files |= {str(path): self._digest(path) for path in sorted(PACKAGE.rglob("*.py"))}
        return digest([check, [each.id for each in documents], parts, files, self.surroundings])

    def read(self, key: str) -> list[Any] | None:
        """What is remembered under a key."""
        path = self.folder / key
        try:
            seal, _, text = path.read_text(encoding="utf-8").partition("\n")
            found, rows = json.loads(text)
            os.utime(path)
        except (OSError, ValueError, TypeError):
            return None
        return rows if seal == digest(text) and found == key and isinstance(rows, list) else None

    def write(self, key: str, rows: Sequence[Any]) -> None:
        """Remember; a folder that cannot be written remembers nothing."""
        text = json.dumps([key, rows])
        with contextlib.suppress(OSError):
            write_atomically(self.folder / key, f"{digest(text)}\n{text}".encode())

    def drop(self, key: str) -> None:
        """Remember it no longer."""
        with contextlib.suppress(OSError):
            (self.folder / key).unlink()

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
            files = sorted(kept, key=lambda path: path.stat().st_mtime)
            for path in files[:-MOST]:
                path.unlink(missing_ok=True)

    def _digest(self, path: Path) -> str:
        try:
            status = path.stat()
            at = status.st_ctime_ns, status.st_mtime_ns, status.st_size
            if self._digests.get(path, (None, ""))[0] != at:
                self._digests[path] = at, hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:  # a link that leads nowhere, a file that went
            return ""
        return self._digests[path][1]

    def _needed(self, documents: Collection[Document]) -> list[str]:
        """Every file that can change a verdict on these documents, or on all."""
        asked, audit = {each.id for each in documents}, self.audit
        starts = {path for path, owner in self._owners.items() if owner in asked}
        starts |= {each.path for name in asked for each in audit.course.notebooks_of(name)}
        starts |= {each.path for each in documents}
        texts = {path for path in starts & audit.files if path.endswith((".py", ".md", ".ipynb"))}
        reached = self._reached(texts)
        return sorted(
            path
            for path in audit.files
            if not _APART.match(path)
            and (not asked or path in reached or self._owners.get(path, min(asked)) in asked)
        )

    @cached_property
    def _owners(self) -> dict[str, str]:
        """The document to which a file belongs; measurements (.json) are open to all."""
        audit, owners = self.audit, dict[str, str]()
        for each in audit.course.documents:
            own = {*audit.module_files(each), each.exercises, each.figure_script}
            drawn = f"{each.figure_folder}/"
            own |= {p for p in audit.files if p.startswith(drawn) and not p.endswith(".json")}
            owners |= dict.fromkeys(own & audit.files, each.id)
        return owners

    def _reached(self, starts: set[str]) -> set[str]:
        """The files of ``src`` that these name, or import, at any distance."""
        found, left = set(starts), sorted(starts)
        for path in left:
            new = self._named(path) - found if not path.startswith(TOOL) else set()
            found |= new
            left += sorted(new)
        return found

    def _named(self, path: str) -> set[str]:
        """The modules that a file names, with the packages around them; of a package, all."""
        if path not in self._names:
            text, package = self.audit.text(path), path.split("/")[1:-1]
            names = {"chainrule"} if _ANY.search(text) else set(_NAMED.findall(text))
            for dots, rest in _RELATIVE.findall(text):
                names.add(".".join([*package[: len(package) - len(dots) + 1], rest]).rstrip("."))
            found = {file for name in names for file in self._modules(name)}
            around = {f"{folder}/__init__.py" for p in found for folder in PurePosixPath(p).parents}
            self._names[path] = found | around & self.audit.files
        return self._names[path]

    def _modules(self, name: str) -> list[str]:
        place = f"src/{name.replace('.', '/')}"
        while not (found := python_files(self.audit.files, place)) and place.count("/") > 2:
            place = place.rpartition("/")[0]
        return found


def python_files(files: set[str], place: str) -> list[str]:
    """``place.py``, or the Python files of the package ``place``."""
    single = [f"{place}.py"] if f"{place}.py" in files else []
    return single or sorted(p for p in files if p.startswith(f"{place}/") and p.endswith(".py"))


def digest(what: Any) -> str:
    """The SHA-256 of what JSON can hold."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


@cache
def processor() -> list[str]:
    """What the processor says that it is and can do."""
    with contextlib.suppress(OSError):
        said = Path("/proc/cpuinfo").read_text(errors="replace")
        return sorted(set(re.findall(r"^(?:model name|flags|Features|CPU \w+).*$", said, re.M)))
    return [platform.processor()]
