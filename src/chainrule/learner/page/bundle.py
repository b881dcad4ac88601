"""What the browser loads to run a page: Pyodide, NumPy, the course's package, the page's data.

All of it lies beside the pages, so that no request goes anywhere else. ``_static/pyodide-…``
changes with Pyodide alone, ``_static/run`` with the course. ``run/manifest.json`` names each file
with a digest of its bytes, so that a browser never mixes two versions.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from chainrule.course.documents import blocks
from chainrule.course.documents.markdown import Block, parse
from chainrule.course.exercises import stubs
from chainrule.course.manifest import Course, Document
from chainrule.learner import reading
from chainrule.node import find_node

CORE = ("pyodide.mjs", "pyodide.asm.js", "pyodide.asm.wasm", "python_stdlib.zip")
TOOL = (
    *("__init__", "documents/__init__", "documents/execute"),
    *("exercises/__init__", "exercises/counterpart", "exercises/declaring"),
    *("exercises/expectations", "exercises/judging", "exercises/proving", "exercises/stubs"),
)
DESK = ("__init__", "grading", "reading", "replay", "page/__init__", "page/runner")
NOT_IN_THE_PAGE = (
    *("models", "life", "clinic", "claims", "pytorch"),
    *("__main__.py", "application.py", "children.py", "cli.py", "files.py", "node.py"),
)
TALK = ("__init__", "talk")
OF_ROOM = {"trainer": TALK, "course": TOOL, "learner": DESK}
MEASURED = "measured.json"
SHOWN = ("name", "title", "difficulty", "minutes", "section", "statement")


class BundleError(Exception):
    """The page's files cannot be made; the message says which and why."""


# What a page is told


def code_blocks(text: str) -> list[Block]:
    """The blocks of a document that are executed, in order."""
    return list(filter(blocks.runs, parse(text).blocks))


def digest(data: bytes | str) -> str:
    """A short name for these bytes."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:10]


def measured(site: Path) -> dict[str, Any]:
    """By document and digest of a block: seconds in the page, or what it lacks there."""
    file = site / MEASURED
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def steps(executed: list[Block]) -> list[dict[str, Any]]:
    """The blocks of a document as the page runs them, each with what it must print."""
    found = []
    for block in executed:
        try:
            outputs, _ = blocks.outputs(block)
        except SyntaxError:
            outputs = {}
        stated = {line: rows for line, (_, rows) in outputs.items()}
        found.append({**blocks.step(block, outputs), "stated": stated})
    return found


def exercises(course: Course, document: Document) -> dict[str, Any] | None:
    """The exercises of a document: what the reader sees, and the file that grades them."""
    path = course.root / document.exercises
    if not path.is_file():
        return None
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    entries = stubs.entries(tree)
    return {
        "document": document.id,
        "given": stubs.opening(tree, source),
        "source": source,
        "items": [
            {
                **{name: getattr(entry, name) for name in SHOWN},
                "seconds": entry.seconds or 10,
                "stub": stubs.stub_of(entry.node, source),
                "helps": reading.helps(entry),
                "solution": reading.solution_of(tree, source, entry.name),
            }
            for entry in entries
        ],
    }


# The course as an archive


def package(root: Path) -> bytes:
    """The course's package and the digits in a zip; equal files give equal bytes."""
    files = dict(_package(root)) | dict(_digits())
    files["chainrule-0.dist-info/METADATA"] = (
        b"Metadata-Version: 2.1\nName: chainrule\nVersion: 0\n"
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data, 8, 9)
    return out.getvalue()


def _package(root: Path) -> Iterator[tuple[str, bytes]]:
    source = root / "src"
    for path in sorted((source / "chainrule").rglob("*")):
        place = path.relative_to(source)
        room = place.parts[1]
        if not path.is_file() or "__pycache__" in place.parts or room in NOT_IN_THE_PAGE:
            continue
        wanted = OF_ROOM.get(room)
        if wanted and "/".join(place.with_suffix("").parts[2:]) not in wanted:
            continue
        if path.suffix in (".py", ".txt", ".json"):
            yield place.as_posix(), path.read_bytes()
    for path in sorted((root / "models").glob("course-gpt.*")):
        yield f"chainrule/data/models/{path.name}", path.read_bytes()


def _digits() -> Iterator[tuple[str, bytes]]:
    found = find_spec("sklearn")
    if found is None or found.origin is None:
        raise BundleError("scikit-learn is missing: type make site, or pip install scikit-learn")
    data = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
    yield "sklearn/__init__.py", b'"""Of scikit-learn only `load_digits`."""\n'
    yield "sklearn/datasets/__init__.py", Path(__file__).with_name("digits.py").read_bytes()
    yield "sklearn/datasets/digits.csv.gz", data.read_bytes()


# Pyodide


def numpy_wheel(site: Path) -> tuple[Path, dict[str, Any]]:
    """NumPy's wheel and Pyodide's lock file, of all packages reduced to NumPy.

    Raises:
        BundleError: the wheel is not the one that Pyodide's npm package names.
    """
    lock = json.loads((site / "node_modules/pyodide/pyodide-lock.json").read_text("utf-8"))
    entry = lock["packages"]["numpy"]
    path = site / "wheels" / entry["file_name"]
    if not path.is_file():
        raise BundleError(f"{path} is missing; npm's pyodide {lock['info']['version']} names it")
    if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != entry["sha256"]:
        wanted = entry["sha256"]
        raise BundleError(f"{path}: SHA-256 {found[:12]}…, but npm's pyodide has {wanted[:12]}…")
    return path, {"info": lock["info"], "packages": {"numpy": {**entry, "depends": []}}}


def _write_pyodide(site: Path, static: Path) -> str:
    """Write Pyodide into a folder of its own for each version, and return its name."""
    path, lock = numpy_wheel(site)
    target = static / f"pyodide-{lock['info']['version']}"
    target.mkdir(parents=True, exist_ok=True)
    for source in (*(site / "node_modules/pyodide" / name for name in CORE), path):
        _copy(source, target / source.name)
    (target / "pyodide-lock.json").write_text(json.dumps(lock), encoding="utf-8")
    return target.name


def _copy(source: Path, target: Path) -> None:
    if not target.is_file() or target.stat().st_size != source.stat().st_size:
        shutil.copyfile(source, target)


# Licences

EDITOR = ("@codemirror/*", "@lezer/*", "@marijn/*", "crelt", "style-mod", "w3c-keyname")


def licences(site: Path) -> str:
    """Whose work the page loads, and under which terms."""
    modules = site / "node_modules"
    about = json.loads((modules / "pyodide/package.json").read_text(encoding="utf-8"))
    source = "https://github.com/pyodide/pyodide"
    pyodide = f"{about['license']}; its source: {source}, version {about['version']}"
    parts = {"Pyodide": pyodide, "NumPy": (site / "wheels/NUMPY-LICENSE.txt").read_text("utf-8")}
    parts["The digits of scikit-learn"] = "\n\n".join(
        file.read_text()
        for file in distribution("scikit-learn").files or ()
        if file.name == "COPYING"
    )
    for pattern in EDITOR:
        for path in sorted(modules.glob(f"{pattern}/LICENSE")):
            name = path.parent.relative_to(modules).as_posix()
            parts[name] = path.read_text(encoding="utf-8")
    return "\n\n".join(f"== {name}\n\n{text.strip()}" for name, text in parts.items()) + "\n"


# All of it


def write(
    course: Course, site: Path, pages: Path, told: dict[str, Any], asked: dict[str, Any]
) -> None:
    """Write what the pages load into ``_static`` beside them.

    ``told`` has the steps of each document, ``asked`` the exercises of those that have some.

    Raises:
        BundleError: a part is missing, or is not what it should be.
    """
    static = pages / "_static"
    pyodide = _write_pyodide(site, static)
    target = static / "run"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    manifest: dict[str, Any] = {"package": _put(target, "chainrule.zip", package(course.root))}
    manifest |= {"pyodide": f"../{pyodide}/", "steps": {}, "exercises": {}}
    for document in course.written():
        data = json.dumps({"file": document.path, "steps": told[document.id]})
        name = document.id.replace("/", "-")
        manifest["steps"][document.id] = _put(target, f"{name}.json", data)
        if document.id in asked:
            file, text = f"{name}-exercises.json", json.dumps(asked[document.id])
            manifest["exercises"][document.id] = _put(target, file, text)
    _bundle(site, target)
    (target / "licences.txt").write_text(licences(site), encoding="utf-8")
    for script in sorted(target.glob("*.js")):
        manifest[script.stem] = f"{script.name}?v={digest(script.read_bytes())}"
    (target / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def _put(folder: Path, name: str, data: bytes | str) -> str:
    """Write a file, and return its name with the digest of its bytes."""
    raw = data.encode() if isinstance(data, str) else data
    (folder / name).write_bytes(raw)
    return f"{name}?v={digest(raw)}"


def _bundle(site: Path, target: Path) -> None:
    """Let esbuild put each script of ``site/page`` and what it imports into one file."""
    scripts = [str(path) for path in sorted((site / "page").glob("*.js"))]
    esbuild = site / "node_modules/esbuild/bin/esbuild"
    # Where npm may run its packages' scripts, this script has been replaced by the program itself.
    started = [find_node() or "node"] if esbuild.read_bytes()[:2] == b"#!" else []
    command = [*started, str(esbuild), *scripts, f"--outdir={target}"]
    command += ["--bundle", "--format=esm", "--minify", "--target=es2022", "--log-level=warning"]
    done = subprocess.run(command, cwd=site, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BundleError(f"esbuild: {done.stderr.strip()[-2000:]}")
