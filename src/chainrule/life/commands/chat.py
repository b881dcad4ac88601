"""``chainrule chat``: talk to a model in the terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from chainrule.program import UsageError, missing
from chainrule.trainer.options import taught
from chainrule.trainer.stopping import writing


def chat(
    who: Annotated[
        str,
        typer.Argument(
            help="Folder of a run of chainrule life, the name of a model, or a GGUF file."
        ),
    ] = "runs/life",
    question: Annotated[
        str | None, typer.Argument(help="Ask this alone; without it, a conversation begins.")
    ] = None,
    temperature: Annotated[
        float | None,
        taught("0 always takes the likeliest token.", "transformers/gpt#temperature"),
    ] = None,
    system: Annotated[
        str | None,
        taught("What the model is told first.", "modern-llms/instruction-tuning"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed, the same answers.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="The most tokens of an answer.")
    ] = None,
) -> None:
    """Talk to a model: /help lists what can be typed, Ctrl-C stops an answer."""
    if question is not None and not question.strip():
        raise UsageError("the question is empty; leave it out to begin a conversation")
    try:
        from chainrule.life.chat import Conversation, converse, open_model
    except ModuleNotFoundError as error:
        raise UsageError(missing(error.name, "train")) from None
    talk = Conversation(open_model(who), temperature, system, seed, max_tokens)
    if question is None:
        converse(talk)
        return
    with writing():
        for piece in talk.ask(question):
            print(piece, end="", flush=True)
