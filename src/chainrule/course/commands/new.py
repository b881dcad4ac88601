"""``chainrule new``: the files with which a subject begins."""

from __future__ import annotations

from typing import Annotated

import typer

from chainrule.course.documents.skeleton import files
from chainrule.course.manifest import Course, Document, find_root, load_course
from chainrule.course.paths import find_subject
from chainrule.files import write_atomically
from chainrule.program import UsageError, typed


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
    for number, step in enumerate(steps(course, document), 1):
        print(f"{number}. {step}")


def steps(course: Course, document: Document) -> list[str]:
    """What an author does now, in this order."""
    blind = document.exercises.replace("exercises/", "tests/exercises/blind/", 1)
    test = f"tests/{'/test_'.join(document.module.split('.')[1:])}.py"
    asked = f"course.toml: its [[ask]], for `{typed('path --ask')}`"
    return [
        *[asked] * (document.id not in course.asks),
        f"{test}, then the module: an oracle that you did not write says what is right",
        f"{document.path}: a number before each symbol; {typed('audit --write')} fills its regions",
        f"{document.figure_script}: two pictures at least; draw them with"
        f" {typed(f'audit {document.slug} --only figures --run --write')}",
        f"{blind}: five wrong answers an exercise; then {document.exercises}, which knows them",
        f"{typed(f'audit {document.slug} --run')}, until it is silent; all forms: CONTRIBUTING.md",
    ]
