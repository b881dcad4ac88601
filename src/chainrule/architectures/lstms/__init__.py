"""Gated recurrent networks: LSTM, GRU, and their descendants without the wait.

Taught in ``architectures/lstms.md``:

- ``cells``: one step of an LSTM and of a GRU, and the LSTM's step with its gradient by hand;
- ``layers``: the cells along a sequence, fused, with layers and directions (`LSTM`, `GRU`), and a
  model of characters (`CharLSTM`);
- ``memory``: half-lives, biases chosen for them, what the gates of a model do;
- ``descendants``: minLSTM, Mamba's scan, and the gated delta rule.

Shape names: ``batch`` sequences, ``time`` steps, ``n_in`` features of one input, ``hidden`` units
of a state, ``gates`` rows of the blocks of weights one below the other, ``cells`` layers times
directions, ``both`` units of all directions, ``d`` channels with ``n`` numbers each, ``d_k`` and
``d_v`` sizes of a key and of a value.
"""

from chainrule.architectures.lstms.cells import GRUCell, LSTMCell, lstm_step_manual
from chainrule.architectures.lstms.descendants import (
    GatedDeltaNet,
    MinLSTM,
    gated_delta,
    gated_delta_scan,
    selective_scan,
)
from chainrule.architectures.lstms.layers import GRU, LSTM, CharLSTM
from chainrule.architectures.lstms.memory import (
    chrono_init_,
    forget_bias,
    gate_trace,
    memory_half_life,
)

__all__ = [
    "GRU", "LSTM", "CharLSTM", "GRUCell", "GatedDeltaNet", "LSTMCell", "MinLSTM", "chrono_init_",
    "forget_bias", "gate_trace", "gated_delta", "gated_delta_scan", "lstm_step_manual",
    "memory_half_life", "selective_scan",
]  # fmt: skip
