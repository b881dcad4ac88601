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
from itertools import pairwise
from pathlib import Path

from chainrule.course.manifest import CARRIED, FOLDERS, Course, Document, Notebook, ReferencePage
from chainrule.data.models import cache_folder
from chainrule.node import install_packages, packages_are_fresh
from chainrule.program import PACKAGE, UsageError

REFERENCE = ("NOTATION", "GLOSSARY", "ROADMAP", "CONTRIBUTING")
PLACES = (
    *(*FOLDERS, "notebooks", "exercises", "figures", "reference", "models", "src"),
    *("site/extensions", "site/page", "site/static", "site/templates", "site/wheels"),
)
KINDS = {
    *(".md", ".ipynb", ".toml", ".py", ".js", ".mjs", ".json", ".html", ".css", ".svg", ".png"),
    *(".safetensors", ".whl"),
}


def navigation(course: Course) -> list[tuple[str, list[tuple[str, str]]]]:
    """Captions, and under each the title and page of what exists, in reading order."""
    groups: dict[str, Sequence[Document | Notebook | ReferencePage]] = {
        phase.title: [entry for entry in course.documents if entry.phase == phase.number]
        for phase in course.phases
    }
    groups |= {"Notebooks": course.notebooks, "Reference": course.pages}
    tree = {
        caption: [(entry.title, page_of(entry.path)) for entry in entries if course.exists(entry)]
        for caption, entries in groups.items()
    }
    names = [name for name in REFERENCE if (course.root / f"{name}.md").is_file()]
    tree["Reference"] += [(name.capitalize(), name) for name in names]
    tree["Reference"].append((f"About {course.about.name}", "README"))
    return [(caption, entries) for caption, entries in tree.items() if entries]


def page_of(path: str) -> str:
    """The page of a source file: its path without the suffix."""
    return path.rsplit(".", 1)[0]


def following(course: Course) -> dict[str, str]:
    """The page that follows each page in reading order; notebooks follow notebooks."""
    notebooks = [entry for entry in course.notebooks if course.exists(entry)]
    chains = ([page_of(entry.path) for entry in chain] for chain in (course.written(), notebooks))
    return {page: after for chain in chains for page, after in pairwise(chain)}


def build(root: Path, *, strict: bool = False, output: Path | None = None) -> Path:
    """Build what is stale and return the folder of pages.

    ``strict`` makes a warning an error and builds all anew; ``output`` is where the pages go.

    Raises:
        UsageError: Sphinx failed and has said why, or the npm packages cannot be had.
    """
    site = root / "site"
    if not packages_are_fresh(site):
        install_packages(site)
    folder = output or site / "_build"
    stamp, state, pages = folder / "stamp", digest(sources(root)), folder / "html"
    if not strict and stamp.is_file() and stamp.read_text() == state:
        return pages
    copies = (pages / "_sources").rglob("*.txt")
    shown = [copy.relative_to(pages / "_sources").with_suffix("") for copy in copies]
    if not all((root / source).is_file() for source in shown):
        shutil.rmtree(pages)  # Sphinx would leave the page of a source that is no more
    print("Building the site", flush=True)
    command = [sys.executable, "-m", "sphinx", "--builder", "html", "--quiet"]
    command += ["--conf-dir", str(site), "--doctree-dir", str(folder / "doctrees")]
    command += ["--fail-on-warning", "--fresh-env", "--write-all"] if strict else []
    environment = os.environ | {"CHAINRULE_ROOT": str(root)}
    done = subprocess.run([*command, str(root), str(pages)], env=environment, check=False)
    if done.returncode:
        stamp.unlink(missing_ok=True)
        raise UsageError("the site was not built; the lines above say which file and line")
    stamp.write_text(state)
    return pages


def keep_fresh(root: Path) -> None:
    """Build again whenever a source of the site has changed, until Ctrl-C."""
    from watchfiles import watch

    for changed in watch(root, debounce=400):
        try:
            if {Path(path) for _, path in changed} & set(sources(root)):
                build(root)
                print("Built; reload the page.", flush=True)
        except (OSError, UsageError) as error:  # an editor saves what is half written
            print(f"chainrule: {error}", flush=True)


def unpacked(root: Path) -> Path:
    """A course that came in a wheel, as a checkout in the cache, where a site can be built.

    Any other root is returned as it is. What an older wheel left there is replaced.
    """
    if root != PACKAGE / CARRIED:
        return root
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    folder, state = cache_folder() / "checkout", digest(files)
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


def sources(root: Path) -> list[Path]:
    """Every file that a page is made of."""
    files = [*root.iterdir(), *(root / "site").iterdir()]
    files += [path for place in PLACES for path in (root / place).rglob("*")]
    return [path for path in files if path.suffix in KINDS]


def digest(files: Iterable[Path]) -> str:
    """What is equal if no file has another size or time of change, and Python is the same."""
    found = hashlib.sha256(sys.version.encode())
    for path in sorted(files):
        status = path.stat()
        found.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return found.hexdigest()
