"""The model that a life leaves, as something to talk to and to probe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from chainrule.life.chat import Message
from chainrule.life.settings import Settings
from chainrule.life.speech import Speech
from chainrule.modern_llms.instruction_tuning.tokens import BEGIN, START
from chainrule.neural_networks.backpropagation import no_grad
from chainrule.program import UsageError, typed
from chainrule.shapes import Array
from chainrule.training.loss_functions import cross_entropy
from chainrule.transformers.gpt import GPT, stream

if TYPE_CHECKING:
    from chainrule.life.run import Life

__all__ = ["Assistant"]

SAMPLES = {
    "reverse": "reverse s t o n e",
    "sort": "sort s t o n e",
    "count": "count e in s t e e l",
    "date": "3 days after 14 May",
    "where": "where is adamw",
    "add": "add 1 2 and 3 4",
}
"""One prompt of each task, as a reader may type it."""

LEARNED_FROM = 0.2
"""The share of right answers from which a task counts as learned."""


class Assistant:
    """A small GPT with its tokenizer and template: it can be talked to and probed."""

    def __init__(self, model: GPT, speech: Speech, settings: Settings) -> None:
        self.network, self.speech = model.eval(), speech
        self.title = "A GPT of the course"
        self.opening = ""
        self.system = ""
        self.context = settings.context
        self.limit = settings.answer
        self.temperature = 0.0
        control = speech.tokenizer.control
        self.ends = frozenset((speech.end, control(BEGIN), control(START)))

    @classmethod
    def open(cls, folder: Path) -> Assistant:
        """The model of a run: that with the best validation accuracy of those it has.

        Raises:
            UsageError: there is no run, or no stage of it can be talked to.
        """
        from chainrule.life.run import Life

        if not (folder / "settings.json").is_file():
            raise UsageError(f"{folder} is no life; type: {typed(f'life --out {folder}')}")
        life = Life.open(folder)
        name = life.best()
        if name is None:
            raise UsageError(
                f"{folder} has no tuned model yet; type: {typed(f'life --out {folder}')}"
            )
        found = cls(life.model(name), life.speech, life.settings)
        found.title, found.opening = _introduction(life, name)
        return found

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a conversation up to where the assistant begins."""
        return self.speech.template.render(messages, reply=True).ids.tolist()

    def stream(
        self, ids: Sequence[int], temperature: float, rng: np.random.Generator | None
    ) -> Iterator[int]:
        """Tokens that continue ids, from a cache."""
        for drawn in stream(self.network, np.array([ids]), temperature, rng=rng):
            yield int(drawn[0])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return self.speech.tokenizer.decode(ids)

    def encode_text(self, text: str) -> list[int]:
        """Ids of plain text."""
        return self.speech.text(text).tolist()

    def log_probs(self, ids: Sequence[int]) -> Array:
        """Log p of every token but the first."""
        row = np.array([ids[-self.context :]])
        with no_grad():
            logits = self.network(row[:, :-1])
            return -cross_entropy(logits, row[:, 1:], reduction="none").data[0]


def _introduction(life: Life, name: str) -> tuple[str, str]:
    """What this model is, what it can do, and what it cannot."""
    measures = life.result(name)["measures"]
    size = measures["megabytes"] / 4
    title = f"A GPT of {size:.1f} million numbers from {life.folder}, after the stage {name}."
    share = measures["by task"] | {"add": measures["control task"]}
    can = [task for task in SAMPLES if share[task] >= LEARNED_FROM]
    cannot = [task for task in SAMPLES if task not in can]
    lines = []
    if can:
        lines.append("It can, so often right on prompts that it never saw:")
        lines += [f"  {100 * share[task]:3.0f} %  {SAMPLES[task]}" for task in can]
    lines.append("It was shown, and has hardly learned:")
    lines += [f"  {100 * share[task]:3.0f} %  {SAMPLES[task]}" for task in cannot]
    lines += [
        "It cannot answer anything else, and it cannot say that it does not know: it always",
        "writes something. Letters stand apart, as above. It was never shown a system message,",
        "and saw conversations of at most two questions.",
    ]
    return title, "\n".join(lines)
