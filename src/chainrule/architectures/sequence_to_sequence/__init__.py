"""From one sequence to another: an encoder, a decoder, a search for the best output, its score.

Taught in ``architectures/sequence-to-sequence.md``:

- ``model``: pairs as arrays, two LSTMs that hand over a state (`Seq2Seq`), greedy decoding;
- ``search``: beam search, and the choice of the output that agrees best with others;
- ``scores``: BLEU and edit distance.

Shape names: ``batch`` pairs, ``source`` positions that are read, ``time`` positions that are
written, ``vocab`` ids, ``cells`` layers, ``hidden`` units of a state.
"""

from chainrule.architectures.sequence_to_sequence.model import (
    END,
    START,
    Pairs,
    Seq2Seq,
    encode_pairs,
    greedy_decode,
    reversal_task,
)
from chainrule.architectures.sequence_to_sequence.scores import bleu, edit_distance
from chainrule.architectures.sequence_to_sequence.search import (
    Hypothesis,
    beam_search,
    minimum_bayes_risk,
)

__all__ = [
    "END", "START", "Hypothesis", "Pairs", "Seq2Seq", "beam_search", "bleu", "edit_distance",
    "encode_pairs", "greedy_decode", "minimum_bayes_risk", "reversal_task",
]  # fmt: skip
