"""Freeze labelled pieces of the documents: prose, code, maths or table, 64 characters each.

``python -m chainrule.trainer.spans --write`` cuts them from today's documents, of those
that the frozen corpus holds, and stores them in ``src/chainrule/data/corpus/spans.txt``. Like the
corpus, nothing compares them with the documents of today. Without ``--write`` it only counts.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from chainrule.course.manifest import CourseError, find_root, load_course
from chainrule.data.corpus import frozen_corpus
from chainrule.data.spans import KINDS, LENGTH
from chainrule.files import write_atomically
from chainrule.trainer.corpus import FOLDER, prose, unmarked

MOST = {"train": 24, "validation": 50, "test": 100}
"""At most so many spans of one kind are taken from one document, evenly spread over it."""

_CODE = re.compile(r"^```python[^\n]*\n(.*?)^```", re.S | re.M)
_ROW = re.compile(r"^\|(.*)\|\s*$", re.M)


def kinds(text: str) -> dict[str, str]:
    """Return a document's text by kind, spaces and line breaks as one space, marks removed."""
    text = unmarked(text)
    read = prose(text).split("\n")
    code = "\n".join(line for block in _CODE.findall(text) for line in block.split("\n")
                     if not line.startswith("#>"))  # fmt: skip
    rows = [
        row.replace("|", " ") for row in _ROW.findall(text) if not re.fullmatch(r"[-:| ]*", row)
    ]
    found = {
        "prose": "\n".join(line for line in read if not line.startswith("$$")),
        "code": code,
        "maths": "\n".join(line.strip("$") for line in read if line.startswith("$$")),
        "table": prose("\n".join(rows)),
    }
    return {kind: " ".join(found[kind].split()) for kind in KINDS}


def cut(text: str, most: int) -> list[str]:
    """Return at most ``most`` pieces of a text, side by side or farther apart."""
    count = len(text) // LENGTH
    places = np.unique(np.linspace(0, max(0, count - 1), min(most, count)).astype(int))
    return [text[i * LENGTH : (i + 1) * LENGTH] for i in places]


def snapshot(root: Path) -> str:
    """Return the file's text: part, document, kind and span, one a line."""
    corpus, course = frozen_corpus(), load_course(root)
    known = set(corpus.alphabet)
    lines = []
    for document in course.documents:
        if document.id not in corpus.parts:
            continue
        part = corpus.parts[document.id]
        by_kind = kinds((root / document.path).read_text(encoding="utf-8"))
        for kind, text in by_kind.items():
            kept = "".join(character for character in text if character in known)
            lines += [f"{part}\t{document.id}\t{kind}\t{span}" for span in cut(kept, MOST[part])]
    return "".join(f"{line}\n" for line in lines)


def main(arguments: list[str] | None = None) -> int:
    """Count the spans that would be taken, or take them; 0 done, 2 no course here."""
    parser = argparse.ArgumentParser(prog="spans", description="Freeze labelled spans.")
    parser.add_argument("--root", type=Path, help="the checkout (default: around this folder)")
    parser.add_argument("--write", action="store_true", help="store them")
    options = parser.parse_args(arguments)
    try:
        root = find_root(options.root)
        text = snapshot(root)
    except CourseError as error:
        print(f"spans: {error}", file=sys.stderr)
        return 2
    counted = Counter(tuple(line.split("\t")[i] for i in (0, 2)) for line in text.split("\n")[:-1])
    for (part, kind), count in counted.items():
        print(f"{part:12}{kind:8}{count:6,}")
    if options.write:
        write_atomically(root / FOLDER / "spans.txt", text.encode("utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
