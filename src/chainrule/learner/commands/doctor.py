"""``chainrule doctor``: what is installed, what is missing, what to type."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import typer

from chainrule.children import THREADS
from chainrule.course.manifest import open_course
from chainrule.learner.workbook import FOLDER, load_progress
from chainrule.node import OLDEST, WHEEL, find_node, node_version, packages_are_fresh
from chainrule.program import CourseError, UsageError, to_add, typed

# What `make learn` needs; the rest is for those who test, measure or want more text.
NEEDED = ("course", "figures", "site", "train", "notebooks")


@dataclass(frozen=True)
class Item:
    """One line: what it is, how it stands, what to type; ``needed`` decides the exit status."""

    good: bool
    text: str
    remedy: str = ""
    needed: bool = True

    def __str__(self) -> str:
        mark = "ok     " if self.good else "missing" if self.needed else "-      "
        return f"{mark}  {self.text}" + (f"; {self.remedy}" if not self.good else "")


def doctor() -> None:
    """Say what is installed, what is missing, and what to type; exit 1 if something is."""
    items = [*_python(), *_extras(), *_programs(), *_checkout()]
    for item in items:
        typer.echo(item)
    raise typer.Exit(any(item.needed and not item.good for item in items))


def _python() -> list[Item]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    inside = sys.prefix != sys.base_prefix
    return [
        Item(
            sys.version_info >= (3, 11),
            f"Python {version}, {'in ' + sys.prefix if inside else 'not in an environment'}",
            "install Python 3.11 or newer, then: make PYTHON=python3.11 learn",
        ),
        Item(True, f"NumPy {metadata.version('numpy')}"),
        _blas(),
    ]


def _blas() -> Item:
    chosen = [f"{name}={os.environ[name]}" for name in THREADS if name in os.environ]
    try:
        import numpy  # noqa: F401  (its library shows up only once it is loaded)
        from threadpoolctl import threadpool_info

        pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
        text = ", ".join(f"{pool['internal_api']}: {pool['num_threads']} threads" for pool in pools)
    except ImportError:
        text = "default threads"
    said = f" ({', '.join(chosen)})" if chosen else ""
    return Item(True, f"BLAS {text or 'not recognized'} on {os.cpu_count()} CPUs{said}")


def _extras() -> Iterator[Item]:
    for extra, names in requirements().items():
        absent = ", ".join(name for name in names if not _is_installed(name))
        text = f"extra [{extra}]" + (f" without {absent}" if absent else "")
        yield Item(not absent, text, f"type: {to_add(extra)}", needed=extra in NEEDED)


def requirements() -> dict[str, list[str]]:
    """The extras of the package, and the names that each asks for."""
    extras: dict[str, list[str]] = {}
    for line in metadata.requires("chainrule") or []:
        name = re.match(r"[\w.-]+", line)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        if name and extra and name[0] != "chainrule":
            extras.setdefault(extra[1], []).append(name[0])
    return dict(sorted(extras.items(), key=lambda item: (item[0] not in NEEDED, item[0])))


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _programs() -> Iterator[Item]:
    node = find_node()
    version = ".".join(str(part) for part in (node and node_version(node)) or ())
    remedy = f"type: {sys.executable} -m pip install {WHEEL}"
    yield Item(node is not None, f"Node {version or f'{OLDEST} or newer'}", remedy)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    text = f"Chromium {chromium or '(only the browser tests need it)'}"
    remedy = "type: sudo apt-get install chromium"
    yield Item(chromium is not None, text, remedy, needed=False)
    yield Item(shutil.which("git") is not None, "git", "install git", needed=False)


def _checkout() -> Iterator[Item]:
    try:
        course = open_course()
    except CourseError as error:
        yield Item(False, "a checkout of the course", str(error).splitlines()[0])
        return
    written, entries = len(course.written()), len(course.documents)
    yield Item(True, f"course in {course.root}: {written} of {entries} documents")
    remedy = "type: make site" if course.place == course.root else f"type: {typed('learn')}"
    yield Item(packages_are_fresh(course.root / "site"), "npm packages of the site", remedy)
    yield _workbook(course.place)


def _workbook(root: Path) -> Item:
    folder = root / FOLDER
    if not folder.is_dir():
        remedy = f"type: {typed('exercise linear-algebra')}"
        return Item(False, "workbook: not begun", remedy, needed=False)
    try:
        passed = sum(len(names) for names in load_progress(root).passed.values())
    except (UsageError, OSError) as error:
        return Item(False, f"workbook in {folder}", str(error))
    return Item(True, f"workbook in {folder}: {passed} exercises passed")
