"""The frozen corpus: a snapshot of the course's prose that stays while the documents change.

`frozen_corpus` reads it. Two files lie beside this module: ``course.txt`` holds the documents one
after the other, ``course.json`` says where each begins and ends, to which part of the split it
belongs, and the SHA-256 of the text. ``python -m chainrule.course.documents.corpus --write`` writes
both.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chainrule.data.text import CharTokenizer, DataError

__all__ = ["PARTS", "FrozenCorpus", "frozen_corpus"]

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class FrozenCorpus:
    """Documents by name, in reading order, and the part of the split of each.

    A document is in one part as a whole: a random split of passages would put the neighbours of
    every held-out passage into the training text.
    """

    documents: dict[str, str]
    parts: dict[str, str]
    sha256: str

    def names(self, part: str) -> list[str]:
        """The documents of a part, in reading order."""
        if part not in PARTS:
            raise ValueError(f"a part is one of {PARTS}, not {part!r}")
        return [name for name in self.documents if self.parts[name] == part]

    def text(self, part: str) -> str:
        """The documents of a part, one after the other."""
        return "".join(self.documents[name] for name in self.names(part))

    @property
    def alphabet(self) -> str:
        """Every character of the whole snapshot, sorted: it is part of the format, as bytes are."""
        return "".join(sorted(set("".join(self.documents.values()))))

    def tokenizer(self) -> CharTokenizer:
        """One token a character of the alphabet."""
        return CharTokenizer(self.alphabet)


def frozen_corpus(folder: Path | None = None) -> FrozenCorpus:
    """Read the snapshot.

    Raises:
        DataError: the text is not the one that the manifest describes.
    """
    folder = Path(__file__).parent if folder is None else folder
    manifest: dict[str, Any] = json.loads((folder / "course.json").read_text(encoding="utf-8"))
    raw = (folder / "course.txt").read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if found != manifest["sha256"]:
        raise DataError(
            f"course.txt has the SHA-256 {found[:12]}…, its manifest says "
            f"{manifest['sha256'][:12]}…; restore both files, or write both again"
        )
    text = raw.decode("utf-8")
    documents = {
        entry["id"]: text[entry["start"] : entry["end"]] for entry in manifest["documents"]
    }
    parts = {entry["id"]: entry["part"] for entry in manifest["documents"]}
    return FrozenCorpus(documents, parts, found)
