"""Freeze the prose of the documents as one text that models are trained on.

``python -m chainrule.trainer.corpus --write`` takes the documents that exist, keeps their
prose, and stores it in ``src/chainrule/data/corpus``. Nothing compares that snapshot with the
documents of today, so they may change; after a renewal the models and notebooks that were made
from it are made anew (CONTRIBUTING.md). Without ``--write`` it only shows what would be stored.

Prose is what a reader reads aloud: headings, sentences, captions and formulas. Headers and
tables, code, images, links' targets, comments, HTML and the marks of Markdown are left out, and so
are the sections of exercises, references and links onward.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path

from chainrule.course.manifest import CourseError, find_root, load_course
from chainrule.files import write_atomically

FOLDER = Path("src/chainrule/data/corpus")

_GENERATED = re.compile(r"^<!-- generated:.*?^<!-- /generated -->\s*$", re.S | re.M)
_FENCE = re.compile(r"^( *)(`{3,}|~{3,})([\w-]*)[^\n]*\n(.*?)^\1\2`*\s*$", re.S | re.M)
_COMMENT = re.compile(r"<!--.*?-->", re.S)
_SECTION = re.compile(r"^(?=## )", re.M)
_LEFT_OUT = re.compile(r"## (Exercises|Where this leads|References)\s*$")
_TAG = re.compile(r"</?(?:details|summary|a|br|sub|sup|b|i|p|img|div|picture|source)\b[^>]*>")
_PROTECTED = re.compile(r"(`[^`]*`|\$[^$]*\$)")
_CITATION = re.compile(r" ?\[\d+(?:, ?\d+)*\]")
_EMPHASIS = re.compile(r"\*\*|(?<!\w)\*(?=\S)|(?<=\S)\*(?!\w)")
_BROKEN_LINK = re.compile(r"(\[[^\[\]\n]*)\n(?:> ?)?(?=[^\[\]\n]*\]\()")
_INDEX = re.compile(r"^(?:\d+\.|[-*]) ")


def unmarked(text: str) -> str:
    """Return a document without its generated regions and its comments."""
    return _COMMENT.sub("", _GENERATED.sub("", text))


def prose(text: str) -> str:
    """Return what is read aloud of a document: one paragraph, heading or formula a line."""
    text = _BROKEN_LINK.sub(r"\1 ", _FENCE.sub(_formula, unmarked(text)))
    kept = [part for part in _SECTION.split(text) if not _LEFT_OUT.match(part.split("\n", 1)[0])]
    lines = (_line(line) for line in "".join(kept).split("\n"))
    return "".join(f"{line}\n" for line in lines if line)


def _formula(found: re.Match[str]) -> str:
    """A displayed formula becomes one line; code is left out."""
    return f"$${' '.join(found[4].split())}$$\n" if found[3] == "math" else ""


def _line(line: str) -> str:
    line = re.sub(r"^(?:\s*> ?)+", "", line).strip()
    if line.startswith(("|", "$$")) or re.fullmatch(r"\[!\w+\]", line):
        return "" if not line.startswith("$$") else line
    line = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", line)
    line = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line)
    line = _INDEX.sub("", re.sub(r"^#+ ", "", _TAG.sub("", line)))
    pieces = _PROTECTED.split(line)
    pieces[::2] = [_EMPHASIS.sub("", _CITATION.sub("", piece)) for piece in pieces[::2]]
    line = "".join(pieces).strip()
    return "" if line == "Answer" else line


def part_of(place: int) -> str:
    """The part of the document at a place of the reading order, counted from 1.

    Every tenth document is the test, every tenth from the fifth on the validation. The place
    counts planned documents too, so a renewal never moves a document to another part.
    """
    return {0: "test", 5: "validation"}.get(place % 10, "train")


def snapshot(root: Path) -> tuple[str, dict]:
    """Return the text of all documents that exist, and its manifest."""
    course = load_course(root)
    text, documents = "", []
    for place, document in enumerate(course.documents, 1):
        if not course.exists(document):
            continue
        new = prose((root / document.path).read_text(encoding="utf-8"))
        entry = {"id": document.id, "part": part_of(place)}
        documents.append(entry | {"start": len(text), "end": len(text) + len(new)})
        text += new
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    return text, {"sha256": digest, "characters": len(text), "documents": documents}


def main(arguments: list[str] | None = None) -> int:
    """Show the snapshot that would be taken, or take it; 0 done, 2 no course here."""
    parser = argparse.ArgumentParser(prog="corpus", description="Freeze the course's prose.")
    parser.add_argument("--root", type=Path, help="the checkout (default: around this folder)")
    parser.add_argument("--write", action="store_true", help="store it")
    options = parser.parse_args(arguments)
    try:
        root = find_root(options.root)
        text, manifest = snapshot(root)
    except CourseError as error:
        print(f"corpus: {error}", file=sys.stderr)
        return 2
    for entry in manifest["documents"]:
        print(f"{entry['end'] - entry['start']:>8,}  {entry['part']:10}  {entry['id']}")
    print(f"{len(text):>8,}  characters, {len(set(text))} different, {manifest['sha256'][:12]}…")
    if options.write:
        folder = root / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "course.txt", text.encode("utf-8"))
        shown = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        write_atomically(folder / "course.json", shown.encode("utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
