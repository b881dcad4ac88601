"""Instruction tuning: a template, a mask that says which tokens are trained, and their loss.

Taught in ``modern-llms/instruction-tuning.md``. `tokens` gives control tokens ids that no text can
spell, `template` turns messages into ids and a mask, `training` computes the loss of what the mask
leaves, `answering` asks the tuned model, `tools` reads and writes calls by a grammar, `judging`
chooses data and compares answers, `toys` makes instructions with one right answer.

Shape names: ``batch`` conversations, ``time`` tokens, ``vocab`` symbols, ``rows`` packed rows.
"""

from __future__ import annotations

from chainrule.modern_llms.instruction_tuning.answering import (
    Reply,
    continuations,
    replies,
    reply_with_budget,
)
from chainrule.modern_llms.instruction_tuning.judging import (
    Verdict,
    judge_pairwise,
    keep_accepted,
    rouge_l,
    self_instruct_filter,
)
from chainrule.modern_llms.instruction_tuning.template import (
    ChatTemplate,
    Message,
    Rendered,
    fit_conversation,
    mask_from_offsets,
)
from chainrule.modern_llms.instruction_tuning.tokens import (
    BEGIN,
    CALL,
    CONTROLS,
    END,
    START,
    THINK,
    THOUGHT,
    ChatTokenizer,
    extend_vocabulary,
)
from chainrule.modern_llms.instruction_tuning.tools import (
    DONE,
    Call,
    call_tool,
    next_characters,
    parse_call,
    write_call,
)
from chainrule.modern_llms.instruction_tuning.toys import (
    PICKS,
    TASKS,
    Instruction,
    pick_instructions,
    toy_instructions,
)
from chainrule.modern_llms.instruction_tuning.training import (
    Batch,
    Packed,
    collate,
    instruction_tune,
    pack_conversations,
    sft_loss,
    shifted,
)

__all__ = [
    "BEGIN", "CALL", "CONTROLS", "DONE", "END", "PICKS", "START", "TASKS", "THINK", "THOUGHT",
    "Batch", "Call", "ChatTemplate", "ChatTokenizer", "Instruction", "Message", "Packed",
    "Rendered", "Reply", "Verdict", "call_tool", "collate", "continuations", "extend_vocabulary",
    "fit_conversation", "instruction_tune", "judge_pairwise", "keep_accepted",
    "mask_from_offsets", "next_characters", "pack_conversations", "parse_call",
    "pick_instructions", "replies", "reply_with_budget", "rouge_l", "self_instruct_filter",
    "sft_loss", "shifted", "toy_instructions", "write_call",
]  # fmt: skip
