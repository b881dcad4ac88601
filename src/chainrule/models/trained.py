"""A model by the place where it is: a run of ``chainrule train``, or a name that was added."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chainrule.data.models import MODELS, added_models, is_present, model_folder
from chainrule.models.huggingface import FolderError, Tokenizer, model_card, open_folder
from chainrule.program import UsageError
from chainrule.trainer import checkpoint
from chainrule.trainer.sampling import load_trained
from chainrule.transformers.gpt import GPT

__all__ = ["KnownModel", "known_model"]


@dataclass(frozen=True)
class KnownModel:
    """A model and its tokenizer, what is known of it, and how ``chainrule sample`` draws."""

    model: GPT
    tokenizer: Tokenizer
    card: str
    generation: dict[str, Any]

    @property
    def pair(self) -> tuple[GPT, Tokenizer]:
        """The model, in evaluation, and its tokenizer."""
        return self.model, self.tokenizer


def known_model(place: Path) -> KnownModel:
    """Return the model of a run's newest checkpoint, or the one that was added under a name.

    A folder with a run goes before a name; ``smollm2`` is the name of the published one.

    Raises:
        UsageError: there is neither, or what is there is damaged.
    """
    generation: dict[str, Any] = {"do_sample": True, "temperature": 0.8, "top_k": 0}
    added = added_models()
    if checkpoint.latest(place) is None and str(place) in added:
        folder = added[str(place)]
        try:
            opened = open_folder(folder)
        except FolderError as error:
            raise UsageError(str(error)) from None
        card = folder / "README.md"
        text = model_card(str(place), opened.model.config, opened.tokenizer)
        if card.is_file():
            text = card.read_text(encoding="utf-8", errors="replace")
        return KnownModel(opened.model, opened.tokenizer, text, generation)
    if checkpoint.latest(place) is None and str(place) == "smollm2" and is_present("smollm2"):
        return _smollm2(generation)
    try:
        model, tokenizer = load_trained(place)
        newest = checkpoint.latest(place)
        state = checkpoint.read_state(newest) if newest else None
    except checkpoint.CheckpointError as error:
        others = f"; added models: {', '.join(added)}" if added else ""
        raise UsageError(f"{error}{others}") from None
    title = f"A GPT trained on {state['corpus']}" if state else place.name
    text = model_card(title, model.config, tokenizer, state, _report(place))
    return KnownModel(model.eval(), tokenizer, text, generation)


def _smollm2(generation: dict[str, Any]) -> KnownModel:
    """The published chat model, its weights of four bits as the float32 that they stand for."""
    from chainrule.models.gguf import GGUFError
    from chainrule.models.llama import load_gguf

    published = MODELS["smollm2"]
    try:
        model, tokenizer = load_gguf(model_folder("smollm2") / published.file)
    except GGUFError as error:
        raise UsageError(str(error)) from None
    text = model_card(f"{published.title} ({published.licence})", model.config, tokenizer)
    return KnownModel(model, tokenizer, text, generation)


def _report(place: Path) -> dict[str, Any] | None:
    """What a run measured at its end, if it came to it."""
    try:
        found = json.loads((place / "report.json").read_text(encoding="utf-8"))
        return found if isinstance(found["held_out_nats"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
