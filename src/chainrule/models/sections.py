"""Ranking the sections of the course by a question: by meaning with a BERT, or by words."""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from math import log
from pathlib import Path
from typing import TYPE_CHECKING

from chainrule.models.passages import Passage

if TYPE_CHECKING:
    from chainrule.shapes import Array

Encode = Callable[[list[str]], "Array"]
Ranked = list[tuple[float, Passage]]


def by_meaning(question: str, passages: list[Passage], encode: Encode, store: Path) -> Ranked:
    """The best passage of each section with its cosine to the question, the best first.

    ``encode`` makes vectors of length 1. Those of passages are kept in the file ``store``, each
    under the hash of its text; what is not there yet is encoded and added.
    """
    import numpy as np

    keys = [hashlib.sha256(passage.text.encode()).hexdigest() for passage in passages]
    known = _load(store)
    if missing := {
        key: passage.text for key, passage in zip(keys, passages, strict=True) if key not in known
    }:
        vectors = encode(list(missing.values()))
        known = {key: known[key] for key in keys if key in known}
        known |= dict(zip(missing, vectors, strict=True))
        try:
            _save(store, known)
        except OSError as error:
            why = f"{error.filename or store}: {error.strerror or error}"
            print(f"chainrule: the vectors are not kept: {why}", file=sys.stderr)
    scores = np.stack([known[key] for key in keys]) @ encode([question])[0]
    return _best_of_each(zip(scores.tolist(), passages, strict=True))


def by_words(question: str, passages: list[Passage]) -> Ranked:
    """The best passage of each section by shared words (BM25), the best first."""
    texts = [Counter(_words(passage.text)) for passage in passages]
    spread = Counter(word for text in texts for word in text)
    mean = sum(sum(text.values()) for text in texts) / max(len(texts), 1)
    scores = []
    for text in texts:
        size = 0.3 + 0.9 * sum(text.values()) / mean
        scores.append(
            sum(
                log(1 + (len(texts) - spread[w] + 0.5) / (spread[w] + 0.5))
                * 2.2 * text[w] / (text[w] + size)
                for w in set(_words(question))
                if text[w]
            )
        )  # fmt: skip
    ranked = _best_of_each(zip(scores, passages, strict=True))
    return [pair for pair in ranked if pair[0] > 0]


def _words(text: str) -> list[str]:
    return [re.sub(r"(ing|es|ed|s)$", "", word) for word in re.findall(r"\w+", text.lower())]


def _best_of_each(scored: Iterable[tuple[float, Passage]]) -> Ranked:
    best: dict[str, tuple[float, Passage]] = {}
    for score, passage in scored:
        if passage.place not in best or score > best[passage.place][0]:
            best[passage.place] = score, passage
    return sorted(best.values(), key=lambda pair: -pair[0])


def _load(store: Path) -> dict[str, Array]:
    import numpy as np

    try:
        with np.load(store, allow_pickle=False) as file:
            return dict(zip(file["keys"].tolist(), file["vectors"], strict=True))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}  # not there, or damaged: it is made again


def _save(store: Path, known: dict[str, Array]) -> None:
    """Write all vectors; the file appears whole or not at all."""
    import numpy as np

    store.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=store.parent, suffix=".npz", delete=False) as file:
        np.savez(file, keys=np.array(list(known)), vectors=np.stack(list(known.values())))
    Path(file.name).replace(store)
