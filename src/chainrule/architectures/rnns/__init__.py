"""Recurrent networks: one state, one rule, applied to each element of a sequence in turn.

Taught in ``architectures/rnns.md``:

- ``recurrent``: the cell, the loop over time with its gradient (`RNN`), stacks, both directions,
  and a model of characters (`CharRNN`);
- ``through_time``: the same gradient by hand, in pieces, and how much of it arrives;
- ``characters``: names as arrays, count tables to compare with, new names;
- ``linear``: recurrences without an activation, by loop or by scan, and states that are matrices.

Shape names: ``batch`` sequences, ``time`` steps, ``n_in`` features of one input, ``hidden`` units
of the state, ``vocab`` symbols, ``d_k`` and ``d_v`` sizes of a key and of a value.
"""

from chainrule.architectures.rnns.characters import (
    ALPHABET,
    CountTable,
    encode_names,
    sample_text,
)
from chainrule.architectures.rnns.linear import (
    LinearRecurrence,
    fast_weights,
    linear_recurrence,
    scan,
)
from chainrule.architectures.rnns.recurrent import RNN, Bidirectional, CharRNN, RNNCell, Stacked
from chainrule.architectures.rnns.through_time import (
    bptt_manual,
    jacobian_norms,
    recall_task,
    truncated_bptt,
)

__all__ = [
    "ALPHABET", "RNN", "Bidirectional", "CharRNN", "CountTable", "LinearRecurrence", "RNNCell",
    "Stacked", "bptt_manual", "encode_names", "fast_weights", "jacobian_norms",
    "linear_recurrence", "recall_task", "sample_text", "scan", "truncated_bptt",
]  # fmt: skip
