"""One vector for a text, so that texts can be compared by their angle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from chainrule.neural_networks.backpropagation import load_state, no_grad
from chainrule.shapes import Array, Float
from chainrule.transformers.bert.heads import pool
from chainrule.transformers.bert.model import MINILM, Bert, load_bert_state
from chainrule.transformers.bert.wordpiece import WordPiece

__all__ = ["SentenceEncoder", "load_encoder"]


class SentenceEncoder:
    """A Bert whose vectors are averaged over the text and brought to length 1.

    Texts are cut after ``longest`` tokens. Equation: transformers/bert.md#eq-mean-pool. Source:
    Reimers, Gurevych 2019, arXiv:1908.10084.
    """

    def __init__(self, bert: Bert, tokenizer: WordPiece, longest: int = 256) -> None:
        self.bert, self.tokenizer, self.longest = bert.eval(), tokenizer, longest

    def encode(self, texts: Sequence[str], batch: int = 16) -> Float[Array, "texts d_model"]:
        """Return one vector of length 1 for each text; texts of like length run together."""
        tokens = [self.tokenizer.encode(text, self.longest) for text in texts]
        order = sorted(range(len(texts)), key=lambda i: len(tokens[i]))
        vectors = np.zeros((len(texts), self.bert.config.width), self.bert.config.dtype)
        for first in range(0, len(order), batch):
            chosen = order[first : first + batch]
            lengths = np.array([len(tokens[i]) for i in chosen])
            mask = np.arange(lengths.max()) < lengths[:, None]
            ids = np.full(mask.shape, self.tokenizer.pad)
            ids[mask] = np.concatenate([tokens[i] for i in chosen])
            with no_grad():
                mean = pool(self.bert(ids, mask=mask), mask).data
            vectors[chosen] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return vectors


def load_encoder(folder: str | Path) -> SentenceEncoder:
    """Return the encoder whose ``model.safetensors`` and ``vocab.txt`` lie in a folder.

    Its heads are those of all-MiniLM-L6-v2: 12.
    """
    folder = Path(folder)
    bert = load_bert_state(load_state(folder / "model.safetensors"), heads=MINILM.heads)
    return SentenceEncoder(bert, WordPiece.from_file(folder / "vocab.txt"))
