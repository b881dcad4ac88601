"""The site: what is in it, in which order, and when it must be built again.

Sphinx does the building, configured in ``site/``; this module knows the course.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from chainrule.course.manifest import CARRIED, Course, Document, Notebook, load_course
from chainrule.data.models import cache_folder
from chainrule.node import NodeError, install_packages, packages_are_fresh
from chainrule.program import PACKAGE, missing

REFERENCE = ("NOTATION", "GLOSSARY", "ROADMAP", "CONTRIBUTING")
SOURCES = {".py", ".html", ".css", ".js", ".svg", ".png"}


class SiteError(Exception):
    """The site could not be built; Sphinx has said why, with file and line."""


def navigation(course: Course) -> list[tuple[str, list[tuple[str, str]]]]:
    """Captions, and under each the title and page of what exists, in reading order."""
    groups: list[tuple[str, Sequence[Document | Notebook]]] = [
        (phase.title, [entry for entry in course.written() if entry.phase == phase.number])
        for phase in course.phases
    ]
    groups.append(("Notebooks", [entry for entry in course.notebooks if course.exists(entry)]))
    tree = [
        (caption, [(entry.title, page_of(entry.path)) for entry in entries])
        for caption, entries in groups
    ]
    names = [name for name in REFERENCE if (course.root / f"{name}.md").is_file()]
    pages = [(page.title, page_of(page.path)) for page in course.pages if course.exists(page)]
    about = [(f"About {course.about.name}", "README")]
    tree.append(("Reference", pages + [(name.capitalize(), name) for name in names] + about))
    return [(caption, entries) for caption, entries in tree if entries]


def page_of(path: str) -> str:
    """The page of a source file: its path without the suffix."""
    return path.rsplit(".", 1)[0]


def neighbours(course: Course) -> dict[str, tuple[str | None, str | None]]:
    """For each page the one before and the one after it, in reading order."""
    documents = [page_of(entry.path) for entry in course.written()]
    notebooks = [page_of(entry.path) for entry in course.notebooks if course.exists(entry)]
    chains = [[None, *documents, None], [None, *notebooks, None]]
    return {
        page: (before, after)
        for chain in chains
        for before, page, after in zip(chain, chain[1:], chain[2:], strict=False)
        if page
    }


def build(
    root: Path,
    *,
    strict: bool = False,
    configuration: Path | None = None,
    output: Path | None = None,
) -> Path:
    """Build what is stale and return the folder of pages.

    ``strict`` makes a warning an error and builds all anew. ``configuration`` is the
    folder with ``conf.py`` (default: ``site/`` of the checkout), ``output`` where the pages go.

    Raises:
        SiteError: Sphinx failed, or the npm packages cannot be had.
    """
    site = configuration or root / "site"
    folder = output or site / "_build"
    if not (site / "conf.py").is_file():
        raise SiteError(f"no site configuration in {site}: run this inside a checkout")
    try:
        if not packages_are_fresh(site):
            install_packages(site)
    except NodeError as error:
        raise SiteError(str(error)) from None
    stamp, state = folder / "stamp", fingerprint(root, site)
    pages = folder / "html"
    if not strict and stamp.is_file() and stamp.read_text() == state:
        return pages
    if pages.is_dir() and _pages_are_gone(root, pages):
        shutil.rmtree(pages)
    print("Building the site", flush=True)
    command = [sys.executable, "-m", "sphinx", "--builder", "html", "--quiet"]
    command += ["--conf-dir", str(site), "--doctree-dir", str(folder / "doctrees")]
    command += ["--fail-on-warning", "--fresh-env", "--write-all"] if strict else []
    environment = os.environ | {"CHAINRULE_ROOT": str(root)}
    done = subprocess.run([*command, str(root), str(pages)], env=environment, check=False)
    if done.returncode:
        stamp.unlink(missing_ok=True)
        raise SiteError("the site was not built; the lines above say which file and line")
    stamp.write_text(state)
    return pages


def unpacked(root: Path) -> Path:
    """A course that came in a wheel, as a checkout in the cache, where a site can be built.

    Any other root is returned as it is. What an older wheel left there is replaced.
    """
    if root != PACKAGE / CARRIED:
        return root
    for name in ("sphinx", "myst_nb", "furo"):
        if not find_spec(name):
            raise SiteError(missing(name))
    files = [
        path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    folder, state = cache_folder() / "checkout", _digest(files)
    stamp = folder / ".unpacked"
    if stamp.is_file() and stamp.read_text() == state:
        return folder
    print(f"Unpacking the course into {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root, folder)
    left_out = shutil.ignore_patterns(CARRIED, "__pycache__")
    shutil.copytree(PACKAGE, folder / "src" / "chainrule", ignore=left_out)
    shutil.copytree(PACKAGE / "data" / "models", folder / "models")
    stamp.write_text(state)
    return folder


def sources(root: Path, site: Path) -> list[Path]:
    """Every file that a page is made of."""
    course = load_course(root)
    documents = [root / entry.path for entry in course.documents]
    documents += [root / entry.path for entry in course.notebooks]
    documents += [root / page.path for page in course.pages]
    named = [root / f"{name}.md" for name in ("README", *REFERENCE)]
    folders = [site / name for name in ("extensions", "static", "templates", "page")]
    folders += [root / "figures", root / "reference", root / "exercises"]
    own = [path for folder in folders for path in folder.rglob("*") if path.suffix in SOURCES]
    files = [root / "course.toml", site / "conf.py", site / "package-lock.json"]
    files += [site / "measured.json", *(site / "wheels").glob("*"), *(root / "models").glob("*")]
    files += [Path(__file__), *site.glob("*.mjs"), *(root / "src").rglob("*.py")]
    return sorted(path for path in {*documents, *named, *own, *files} if path.is_file())


def fingerprint(root: Path, site: Path) -> str:
    """What is equal if no source of the site has changed."""
    return _digest(sources(root, site))


def _digest(files: Iterable[Path]) -> str:
    """A digest of paths, sizes and times of change."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(files):
        status = path.stat()
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _pages_are_gone(root: Path, pages: Path) -> bool:
    """Whether a page was built whose source is no more: Sphinx would leave it there."""
    for copied in (pages / "_sources").rglob("*.txt"):
        if not (root / copied.relative_to(pages / "_sources").with_suffix("")).is_file():
            return True
    return False
