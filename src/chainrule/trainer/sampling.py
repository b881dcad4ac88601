"""Text from a trained model, one token at a time."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.data.text import CharTokenizer
from chainrule.trainer import checkpoint
from chainrule.trainer.loop import build_model, check_size, load_weights
from chainrule.trainer.settings import Settings
from chainrule.transformers.gpt import GPT
from chainrule.transformers.gpt import stream as continuation


def load_trained(folder: Path) -> tuple[GPT, CharTokenizer]:
    """The model of a run's newest checkpoint, and its alphabet.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    newest = checkpoint.latest(folder)
    if newest is None:
        message = f"{folder} holds no trained model; type: chainrule train --out {folder}"
        raise checkpoint.CheckpointError(message)
    state = checkpoint.read_state(newest)
    try:
        settings = Settings.from_dict(state["settings"])
        tokenizer = CharTokenizer(state["alphabet"])
        check_size(settings, len(tokenizer), newest)
        model = build_model(settings, len(tokenizer), np.random.default_rng(0))
        load_weights(model, newest)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise checkpoint.damaged(newest, f"{type(error).__name__}: {error}") from None
    return model, tokenizer


def stream(
    model: GPT,
    tokenizer: Any,
    prompt: str,
    length: int,
    *,
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    rng: np.random.Generator,
) -> Iterator[str]:
    """The prompt's continuation, ``length`` tokens, as they are drawn.

    The tokenizer is one of characters or one of bytes; of bytes, a character comes when its last
    one does.

    Raises:
        DataError: the prompt holds a character that the model has never seen.
    """
    ids = np.asarray(tokenizer.encode(prompt), np.int64)[None, :]
    drawn = islice(continuation(model, ids, temperature, top_k, top_p, min_p, rng), length)
    if isinstance(tokenizer, CharTokenizer):
        yield from map(tokenizer.decode, drawn)
        return
    text = codecs.getincrementaldecoder("utf-8")("replace")
    for token in drawn:
        yield text.decode(tokenizer.decode_bytes(token.tolist()))
    yield text.decode(b"", final=True)
