"""Pieces of 64 characters of the course's documents, each labelled with its kind.

`labelled_spans` reads them. The kinds are prose, code, maths (displayed formulas) and table. All
marks that would give a kind away are gone: fences, pipes, line breaks and indentation. The file
``corpus/spans.txt`` is frozen like the corpus beside it, has the same documents in the same parts
of the split, and is written by ``python -m chainrule.course.documents.spans --write``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chainrule.data.corpus import PARTS
from chainrule.data.text import DataError
from chainrule.shapes import Array, Int

__all__ = ["KINDS", "LENGTH", "LabelledSpans", "labelled_spans"]

KINDS = ("prose", "code", "maths", "table")
LENGTH = 64


@dataclass(frozen=True)
class LabelledSpans:
    """Texts of `LENGTH` characters, the place of each one's kind in `KINDS`, and its document."""

    texts: tuple[str, ...]
    labels: Int[Array, " n"]
    documents: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def few(self, each: int, rng: np.random.Generator) -> LabelledSpans:
        """Draw ``each`` spans of every kind without replacement.

        Raises:
            ValueError: a kind has fewer than that, or ``each`` is below 1.
        """
        least = min(int((self.labels == kind).sum()) for kind in range(len(KINDS)))
        if not 1 <= each <= least:
            raise ValueError(f"each kind has at least {least} spans, got each={each}")
        rows = [rng.choice(np.flatnonzero(self.labels == kind), each, replace=False)
                for kind in range(len(KINDS))]  # fmt: skip
        chosen = rng.permutation(np.concatenate(rows))
        return LabelledSpans(
            tuple(self.texts[i] for i in chosen),
            self.labels[chosen],
            tuple(self.documents[i] for i in chosen),
        )


def labelled_spans(part: str, path: Path | None = None) -> LabelledSpans:
    """Read the spans of one part: ``train``, ``validation`` or ``test``.

    Raises:
        ValueError: there is no such part.
        DataError: a line of the file is not part, document, kind and text, tabs between them.
    """
    if part not in PARTS:
        raise ValueError(f"a part is one of {PARTS}, not {part!r}")
    path = Path(__file__).parent / "corpus" / "spans.txt" if path is None else path
    texts, labels, documents = [], [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], 1):
        fields = line.split("\t")
        if len(fields) != 4 or fields[2] not in KINDS or len(fields[3]) != LENGTH:
            raise DataError(
                f"{path.name}, line {number}: expected part, document, one of {KINDS} and "
                f"{LENGTH} characters, got {line[:60]!r}"
            )
        if fields[0] == part:
            documents.append(fields[1])
            labels.append(KINDS.index(fields[2]))
            texts.append(fields[3])
    return LabelledSpans(tuple(texts), np.array(labels, dtype=np.int64), tuple(documents))
