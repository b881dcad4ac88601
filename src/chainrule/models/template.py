"""The chat template of a GGUF file, as the course's own `ChatTemplate`."""

from __future__ import annotations

import re

from chainrule.models.gguf import GGUFError, GGUFFile
from chainrule.models.vocabulary import FileTokenizer
from chainrule.modern_llms.instruction_tuning import ChatTemplate, ChatTokenizer

__all__ = ["load_template"]

_LINE = r"(?:\n|\\n)"
_TEMPLATE = re.compile(
    r"\{% for message in messages %\}"
    r"(?:\{% if loop\.first and messages\[0\]\['role'\] != 'system' %\}"
    rf"\{{\{{ '(?P<start0>[^'\s]+)system{_LINE}(?P<system>[^']*?)(?P<end0><[^'<>]+>){_LINE}' \}}\}}"
    r"\{% endif %\})?"
    rf"\{{\{{'(?P<start>[^'\s]+)' \+ message\['role'\] \+ '{_LINE}' \+ message\['content'\]"
    rf" \+ '(?P<end>[^'\s]+)' \+ '{_LINE}'\}}\}}\{{% endfor %\}}"
    r"\{% if add_generation_prompt %\}"
    rf"\{{\{{ '(?P<start1>[^'\s]+)assistant{_LINE}' \}}\}}\{{% endif %\}}"
)


def load_template(file: GGUFFile, tokenizer: FileTokenizer) -> tuple[ChatTemplate, str]:
    """Return the chat template of a GGUF file, and the system message that it adds by itself.

    A template is a program in the language Jinja. No program of a stranger is run: this one is
    known by its text, and its tokens and its system message are read off it.

    Raises:
        GGUFError: there is no template, or one of another grammar.
    """
    text = file.metadata.get("tokenizer.chat_template")
    if not isinstance(text, str):
        raise GGUFError(f"{file.path}: there is no chat template")
    found = _TEMPLATE.fullmatch(text)
    marks = ({found[n] for n in names if found[n]} for names in (
        ("start", "start0", "start1"), ("end", "end0"))) if found else ()  # fmt: skip
    if not found or any(len(each) != 1 or not each <= tokenizer.controls.keys() for each in marks):
        raise GGUFError(
            f"{file.path}: its chat template is not one of start, role, line end, text, end"
        )
    chat = ChatTokenizer(tokenizer, tokenizer.controls)
    return ChatTemplate(chat, marks=(None, found["start"], found["end"])), found["system"] or ""
