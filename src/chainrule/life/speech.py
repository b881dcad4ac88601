"""How text becomes tokens here: a byte-pair tokenizer of its own, and the chat template over it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from chainrule.life.tasks import TASKS, Example, examples
from chainrule.modern_llms.instruction_tuning import ChatTemplate, ChatTokenizer, Rendered
from chainrule.modern_llms.instruction_tuning.tokens import BEGIN, END, START
from chainrule.modern_llms.pretraining import ByteBPE, load_bpe, save_bpe, train_bpe
from chainrule.shapes import Array

__all__ = ["Speech", "train_speech"]


class Speech:
    """The tokenizer and the template: text, prompts and conversations to ids and back."""

    def __init__(self, bpe: ByteBPE) -> None:
        self.bpe = bpe
        self.tokenizer = ChatTokenizer(bpe, (BEGIN, START, END))
        self.template = ChatTemplate(self.tokenizer)
        self.end: int = self.template.end

    def __len__(self) -> int:
        return len(self.tokenizer)

    def text(self, text: str) -> Array:
        """Ids of plain text."""
        return np.asarray(self.bpe.encode(text), np.int64)

    def prompt(self, prompt: str) -> Array:
        """Ids of a conversation of one question, up to where the answer begins."""
        messages = [{"role": "user", "content": prompt}]
        return self.template.render(messages, reply=True).ids

    def reply(self, text: str) -> list[int]:
        """Ids of an answer with its end."""
        return [*self.bpe.encode(text), self.end]

    def read(self, ids: Sequence[int]) -> tuple[str, bool]:
        """The text of what a model wrote, and whether it ended."""
        ended = bool(len(ids)) and ids[-1] == self.end
        return self.tokenizer.decode(ids[:-1] if ended else ids), ended

    def conversation(self, turns: Sequence[Example]) -> Rendered:
        """One conversation of some examples as they were shown; the answers are trained."""
        messages = []
        for turn in turns:
            messages += [
                {"role": "user", "content": turn.prompt},
                {"role": "assistant", "content": turn.shown},
            ]
        return self.template.render(messages)

    def save(self, folder: Path) -> None:
        """Write the two files of the tokenizer."""
        save_bpe(self.bpe, folder / "vocabulary.json", folder / "merges.txt")

    @classmethod
    def load(cls, folder: Path) -> Speech:
        """Read what `save` wrote."""
        return cls(load_bpe(folder / "vocabulary.json", folder / "merges.txt"))


def train_speech(text: str, vocabulary: int, seed: int) -> Speech:
    """Learn merges from a text and from instructions as the template writes them.

    Without the instructions, the names of the roles would be spelled in pieces in every prompt.
    """
    rng = np.random.default_rng(seed)
    shown = "".join(f"user\n{e.prompt}\nassistant\n{e.shown}\n" for e in examples(8000, rng, TASKS))
    return Speech(train_bpe(text + shown, vocabulary))
