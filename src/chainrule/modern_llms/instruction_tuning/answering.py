"""Asking a tuned model: replies up to the end token, with a budget for thinking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from chainrule.modern_llms.instruction_tuning.template import ChatTemplate, Message
from chainrule.modern_llms.instruction_tuning.tokens import THINK, THOUGHT
from chainrule.shapes import Array
from chainrule.transformers.gpt import GPT, Reader, draw, stream

__all__ = ["Reply", "continuations", "replies", "reply_with_budget"]


class Reply(NamedTuple):
    """What was written, and whether it ended with the end token."""

    text: str
    ended: bool


def continuations(
    model: GPT,
    prompts: Sequence[Array],
    end: int,
    limit: int,
    temperature: float = 0.0,
    rng: np.random.Generator | None = None,
) -> list[tuple[Array, bool]]:
    """Continue prompts of any lengths until ``end``, which is left out, or for ``limit`` tokens."""
    found: list[tuple[Array, bool]] = [(np.zeros(0, np.int64), False)] * len(prompts)
    lengths = np.array([len(prompt) for prompt in prompts], np.int64)
    for length in np.unique(lengths):
        chosen = np.flatnonzero(lengths == length).tolist()
        rows = np.stack([prompts[i] for i in chosen])
        drawn = np.zeros((len(chosen), 0), np.int64)
        tokens = stream(model, rows, temperature, rng=rng)
        while drawn.shape[1] < limit and not (drawn == end).any(axis=1).all():
            drawn = np.concatenate([drawn, next(tokens)[:, None]], axis=1)
        for i, row in zip(chosen, drawn, strict=True):
            stops = np.flatnonzero(row == end)
            found[i] = (row[: stops[0]], True) if len(stops) else (row, False)
    return found


def replies(
    model: GPT,
    template: ChatTemplate,
    conversations: Sequence[Sequence[Message]],
    limit: int = 32,
    temperature: float = 0.0,
    rng: np.random.Generator | None = None,
) -> list[Reply]:
    """Let a model answer conversations that end with a user's or a tool's message."""
    prompts = [template.render(messages, reply=True).ids for messages in conversations]
    found = continuations(model, prompts, template.end, limit, temperature, rng)
    return [Reply(template.tokenizer.decode(ids), ended) for ids, ended in found]


def reply_with_budget(
    model: GPT,
    template: ChatTemplate,
    messages: Sequence[Message],
    budget: int,
    limit: int = 32,
    temperature: float = 0.0,
    rng: np.random.Generator | None = None,
) -> tuple[str, Reply]:
    """Open a thought, close it after ``budget`` tokens at the latest, then let the model answer.

    Returns the thought and the reply. The closing token is written by this program if the model
    has not drawn it in time. Source: Muennighoff et al. 2025, arXiv:2501.19393.

    Raises:
        ValueError: a negative budget.
    """
    if budget < 0:
        raise ValueError(f"the budget is a number of tokens, at least 0, got {budget}")
    opened, closed = (template.tokenizer.control(name) for name in (THINK, THOUGHT))
    reader = Reader(model)
    prompt = np.append(template.render(messages, reply=True).ids, opened)
    scores, thought = reader.read(prompt[None]), []
    for _ in range(budget):
        token = int(draw(scores, temperature, rng=rng)[0])
        if token == closed:
            break
        thought.append(token)
        scores = reader.read(np.array([[token]]))
    scores, written, ended = reader.read(np.array([[closed]])), [], False
    for _ in range(limit):
        token = int(draw(scores, temperature, rng=rng)[0])
        ended = token == template.end
        if ended:
            break
        written.append(token)
        scores = reader.read(np.array([[token]]))
    decode = template.tokenizer.decode
    return decode(thought), Reply(decode(written), ended)
