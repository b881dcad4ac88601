"""The text that the model is pretrained on, and what is held out of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from chainrule.data.text import Corpus, DataError, load_corpus
from chainrule.program import UsageError

__all__ = ["Texts", "load_texts"]

SHORTEST = 20_000
"""Characters that a reader's own text must have."""

HELD_OUT = 60_000
"""Characters of each held-out text that are measured."""


@dataclass(frozen=True)
class Texts:
    """Texts by name: what is trained on, and what is held out."""

    train: dict[str, str]
    held_out: dict[str, str]


def load_texts(file: Path | None = None) -> Texts:
    """Return the course's prose and Shakespeare's plays, or the reader's own file alone.

    Raises:
        UsageError: a text is missing, unreadable or too short.
    """
    try:
        if file is not None:
            corpora = [load_corpus(str(file))]
        else:
            corpora = [load_corpus("course"), load_corpus("shakespeare")]
    except DataError as error:
        raise UsageError(str(error)) from None
    for corpus in corpora:
        if len(corpus.train) + len(corpus.validation) < SHORTEST:
            size = len(corpus.train) + len(corpus.validation)
            raise UsageError(
                f"{file} has {size:,} characters; to learn from it, a model needs {SHORTEST:,}"
            )
    return Texts(
        {corpus.name: corpus.train for corpus in corpora},
        {corpus.name: _held_out(corpus) for corpus in corpora},
    )


def _held_out(corpus: Corpus) -> str:
    return corpus.validation[:HELD_OUT]
