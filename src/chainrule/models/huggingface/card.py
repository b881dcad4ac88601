"""The model card: what a folder holds, what it was trained on, how well it does, how to load it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chainrule.data.text import CharTokenizer
from chainrule.models.huggingface.configuration import family_of
from chainrule.models.huggingface.tokenizer import Tokenizer
from chainrule.transformers.transformer_architecture import TransformerConfig, count_params

__all__ = ["model_card"]


def model_card(
    title: str,
    cfg: TransformerConfig,
    tokenizer: Tokenizer,
    training: Mapping[str, Any] | None = None,
    report: Mapping[str, Any] | None = None,
) -> str:
    """Return the text of a model card.

    ``training`` is the state that a checkpoint keeps of its run, ``report`` what the run measured
    at its end; what is not given is said not to be known.
    """
    title = " ".join(title.split()) or "A model"
    family = family_of(cfg)
    spelled = isinstance(tokenizer, CharTokenizer)
    unit = "characters" if spelled else "tokens"
    lines = [
        "---", "library_name: transformers", "pipeline_tag: text-generation",
        "tags: [chainrule]", "---", "", f"# {title}", "",
        f"A {family.title} of {count_params(cfg):,} parameters: {cfg.decoder_layers} layers, "
        f"{cfg.heads} heads, width {cfg.width}. It reads at most {cfg.context} {unit}, what it "
        f"writes included.", "",
    ]  # fmt: skip
    if spelled:
        lines += [
            f"A token is one character, of the {len(tokenizer)} that its training text had. A text "
            "with any other character is refused.", "",
        ]  # fmt: skip
    else:
        lines += [f"Tokens come from byte-level BPE; there are {len(tokenizer):,}.", ""]
    lines += ["## Training", "", *_trained(training, report, unit), ""]
    lines += [
        "## Use", "",
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer", "",
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
        'model = AutoModelForCausalLM.from_pretrained("FOLDER")',
        "```", "",
        "In Chain Rule, `chainrule models add FOLDER` reads it back, to the same last bit.", "",
        "## Limits", "",
        "It continues text in the manner of what it was trained on. It knows no facts, follows no "
        "instructions, and was not examined for what it should not say.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _trained(
    training: Mapping[str, Any] | None, report: Mapping[str, Any] | None, unit: str
) -> list[str]:
    if training is None:
        return ["How it was trained is not known here."]
    settings = {name: value for name, value in training["settings"].items() if name != "data"}
    step, per_step = training["step"], settings["batch_size"] * settings["context"]
    corpus = ascii(training["corpus"])[1:-1].replace("`", "'")
    lines = [
        f"Trained by Chain Rule on `{corpus}`: step {step:,} of {settings['steps']:,}, each of "
        f"{settings['batch_size']} × {settings['context']} {unit}, {step * per_step:,} in all."
    ]
    if report is None or report.get("steps") != step:
        return [*lines, "", "Its loss on held-out text was not measured at this step."]
    lines += ["", f"| Held-out loss | nats of each of the {unit} |", "|---|---|"]
    lines += [f"| {name} | {value:.3f} |" for name, value in report["held_out_nats"].items()]
    plain = json.dumps(settings, ensure_ascii=True, sort_keys=True)
    return [*lines, "", f"Settings: `{plain.replace('`', '')}`"]
