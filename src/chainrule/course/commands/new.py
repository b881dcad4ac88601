"""``chainrule new``: the files with which a subject begins."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

import typer

from chainrule.course.manifest import Document, find_root, load_course
from chainrule.course.paths import find_subject
from chainrule.files import write_atomically
from chainrule.program import UsageError, typed

TEMPLATES = Path(__file__).with_suffix(".toml")


def new(
    subject: Annotated[list[str], typer.Argument(help="Its id or title in course.toml.")],
) -> None:
    """Write the files with which a planned subject begins; what is there stays as it is."""
    course = load_course(find_root())
    try:
        document = find_subject(course, " ".join(subject)).document
    except UsageError as error:
        raise UsageError(f"{error}; a new subject begins with its entry in course.toml") from None
    if course.exists(document):
        raise UsageError(f"{document.path} is written already; a planned subject has no page yet")
    package = course.root / "src" / document.module.replace(".", "/")
    for path, text in files(document).items():
        target = course.root / path
        if target.exists() or (path.startswith("src/") and package.is_dir()):
            print(f"{path}: left as it is")
        else:
            write_atomically(target, text.encode())
            print(f"{path}: written")
    print("CONTRIBUTING.md, “Add a document”, says how each of them is filled, and in which order.")
    print(
        f"{typed(f'audit {document.slug} --run')} says what is still missing, until it is silent."
    )


def files(document: Document) -> dict[str, str]:
    """The text of each file of a subject, by its path relative to the root."""
    templates = tomllib.loads(TEMPLATES.read_text(encoding="utf-8"))
    folder, name = document.module.split(".")[1:]
    paths = {
        "module": f"src/chainrule/{folder}/{name}.py",
        "test": f"tests/{folder}/test_{name}.py",
        "exercises": document.exercises,
        "figures": document.figure_script,
        "page": document.path,
    }
    parts = [templates["section"].format(item=item) for item in document.outline]
    filled = {"document": document, "sections": "\n".join(parts)}
    return {path: templates[what].format(**filled) for what, path in paths.items()}
