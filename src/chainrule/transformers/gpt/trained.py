"""The small GPT that was trained on this course's own prose."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from chainrule.data.text import CharTokenizer, DataError
from chainrule.neural_networks.backpropagation import load_state
from chainrule.transformers.gpt.model import GPT
from chainrule.transformers.transformer_architecture import TransformerConfig, Unset

__all__ = ["load_course_gpt"]


def load_course_gpt(folder: Path | None = None) -> tuple[GPT, CharTokenizer]:
    """Return the trained model, in evaluation, and its alphabet.

    The weights are stored in float16 and computed with in float32. ``folder`` is ``models`` of
    the checkout, or its copy in the installed package, unless given.

    Raises:
        DataError: the weights are not there.
    """
    folder = _models() if folder is None else folder
    weights, manifest = folder / "course-gpt.safetensors", folder / "course-gpt.json"
    if not weights.is_file() or not manifest.is_file():
        raise DataError(
            f"{weights} is missing; train it: python -m chainrule.trainer.course_gpt --write"
        )
    settings = json.loads(manifest.read_text(encoding="utf-8"))
    model = GPT(TransformerConfig(**settings["config"]), Unset())
    model.load_state_dict({n: a.astype(np.float32) for n, a in load_state(weights).items()})
    return model.eval(), CharTokenizer(settings["alphabet"])


def _models() -> Path:
    installed = Path(__file__).parents[2] / "data" / "models"
    return installed if installed.is_dir() else Path(__file__).parents[4] / "models"
