"""A chat model in a GGUF file, in conversation: its template, its stopping, its memory.

`chat_model` opens SmolLM2, `open_chat` any file of its kind. What is returned is what
``chainrule chat`` talks to and what the probes ask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.models.gguf import GGUFError, GGUFFile
from chainrule.models.llama import load_llama
from chainrule.models.template import load_template
from chainrule.models.vocabulary import load_tokenizer
from chainrule.modern_llms.inference import CachedGPT
from chainrule.modern_llms.instruction_tuning import Message
from chainrule.program import UsageError
from chainrule.transformers.gpt import draw

if TYPE_CHECKING:
    from chainrule.shapes import Array
    from chainrule.transformers.gpt import GPT

__all__ = ["GGUFChat", "chat_model", "open_chat"]

CHUNK = 256
"""Tokens of a prompt that are read at a time, so that scores of a long one fit into memory."""


class GGUFChat:
    """A chat model that has been opened; what it has read of a conversation it remembers."""

    limit, temperature = 512, 0.2

    def __init__(self, file: GGUFFile, title: str, opening: str) -> None:
        self.title, self.opening = title, opening
        self.tokenizer = load_tokenizer(file)
        self.template, self.system = load_template(file, self.tokenizer)
        self.model: GPT = load_llama(file)
        if len(self.tokenizer) != self.model.config.vocab_size:
            raise GGUFError(
                f"{file.path}: {len(self.tokenizer)} tokens have names, "
                f"{self.model.config.vocab_size} have vectors"
            )
        self.reader = CachedGPT(self.model)
        self.context = self.model.config.context
        stops = {self.template.end, file.metadata.get("tokenizer.ggml.eos_token_id")}
        self.ends = frozenset(i for i in stops if isinstance(i, int))

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a conversation, up to where the assistant begins to write.

        Without a system message at the front, the file's own stands there, as its template says.
        """
        if self.system and (not messages or messages[0]["role"] != "system"):
            messages = [{"role": "system", "content": self.system}, *messages]
        return self.template.render(messages, reply=True, begin=False).ids.tolist()

    def encode_text(self, text: str) -> list[int]:
        """Ids of plain text."""
        return self.tokenizer.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; an unfinished character gives U+FFFD."""
        return self.tokenizer.decode(ids)

    def stream(
        self, ids: Sequence[int], temperature: float, rng: np.random.Generator | None = None
    ) -> Iterator[int]:
        """Yield the tokens that continue ``ids``, one by one, until the context is full."""
        text = np.empty(self.context, np.int64)
        length = len(ids)
        text[:length] = ids
        while length < self.context:
            token = int(draw(self._scores(text[:length]), temperature, rng=rng)[0])
            yield token
            text[length] = token
            length += 1

    def log_probs(self, ids: Sequence[int]) -> Array:
        """Return log p of every token but the first, in nats."""
        text = np.asarray(ids, np.int64)
        self.reader.forget()
        found = []
        for start in range(0, len(text) - 1, CHUNK):
            read = text[: min(start + CHUNK, len(text) - 1)]
            logits = self.reader.scores(read, len(read) - start).astype(np.float64)
            logits -= logits.max(axis=-1, keepdims=True)
            logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
            found.append(logits[np.arange(len(logits)), text[start + 1 : len(read) + 1]])
        return np.concatenate([np.zeros(0), *found])

    def _scores(self, text: Array) -> Array:
        """Scores of the token after a text; a long beginning that is new is read in parts."""
        for end in range(CHUNK, len(text), CHUNK):
            if not np.array_equal(self.reader.seen[:end], text[:end]):
                self.reader.scores(text[:end])
        return self.reader.scores(text)


OPENING = """\
It has 134.5 million weights of 4 bits: it answers in fluent English and is often wrong. It knows
no news, cannot look anything up, calculates badly and invents names and dates. Ask about school
subjects, or let it rewrite a text; do not rely on what it says."""


def chat_model() -> GGUFChat:
    """Open SmolLM2 from this machine's cache.

    Raises:
        UsageError: it is not there, or its file is damaged.
    """
    from chainrule.data.models import MODELS, is_present, model_folder

    if not is_present("smollm2"):
        raise UsageError(
            f"{MODELS['smollm2'].title} is not on this machine; type: chainrule models get smollm2"
        )
    path = model_folder("smollm2") / MODELS["smollm2"].file
    return open_chat(path, MODELS["smollm2"].title, OPENING)


def open_chat(path: Path, title: str = "", opening: str = "") -> GGUFChat:
    """Open the chat model in a GGUF file.

    Raises:
        UsageError: the file is damaged, or holds no chat model of a kind that is known.
    """
    try:
        file = GGUFFile(path)
        name: Any = file.metadata.get("general.name")
        return GGUFChat(file, title or str(name or path.name), opening)
    except GGUFError as error:
        raise UsageError(str(error)) from None
