"""Pairs of sequences as arrays, and two LSTMs of which one reads and the other writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from chainrule.architectures.lstms import LSTM, CharLSTM
from chainrule.neural_networks.backpropagation import Module, Tensor, concat, no_grad
from chainrule.shapes import Array, Bool, Float, Int
from chainrule.training.batching import pad_batch
from chainrule.training.loss_functions import cross_entropy, log_softmax

State = tuple[Tensor, Tensor]

END, START = 0, 1
"""The id that closes an output, and the id that opens it; symbols are numbered from 2."""

IGNORED = -100


class Pairs(NamedTuple):
    """A batch of pairs: what is read and where it is real, what the writer sees and must say."""

    source: Int[Array, "batch source"]
    mask: Bool[Array, "batch source"]
    inputs: Int[Array, "batch time"]
    targets: Int[Array, "batch time"]


def encode_pairs(
    sources: Sequence[Sequence[int] | Array], outputs: Sequence[Sequence[int] | Array]
) -> Pairs:
    """Return a padded batch: inputs are START and the output, targets the output and END.

    Behind the end of a pair stand 0 among sources and inputs, and −100 among the targets.

    Raises:
        ValueError: there are no pairs, the numbers of sources and outputs differ, or an id is
            below 2.
    """
    if len(sources) != len(outputs):
        raise ValueError(
            f"encode_pairs needs an output for each source, "
            f"received {len(sources)} sources and {len(outputs)} outputs"
        )
    for ids in (*sources, *outputs):
        if len(ids) and min(ids) < 2:
            raise ValueError(f"symbols are numbered from 2, received {min(ids)}")
    source, mask = pad_batch(sources, END)
    inputs, _ = pad_batch([np.array([START, *ids]) for ids in outputs], END)
    targets, _ = pad_batch([np.array([*ids, END]) for ids in outputs], IGNORED)
    return Pairs(source, mask, inputs, targets)


def reversal_task(
    rng: np.random.Generator, batch: int, lo: int, hi: int, symbols: int = 26
) -> Pairs:
    """Return pairs of random symbols and the same symbols from the last to the first.

    Each length from ``lo`` to ``hi``, both included, is equally frequent. Ids are END, START and
    2 … symbols + 1.

    Raises:
        ValueError: the batch or the symbols are below 1, or not 1 ≤ lo ≤ hi.
    """
    if min(batch, symbols) < 1 or not 1 <= lo <= hi:
        raise ValueError(
            f"reversal_task received a batch of {batch}, lengths {lo} to {hi}, {symbols} symbols; "
            f"expected at least 1 of each, and lo ≤ hi"
        )
    lengths = rng.integers(lo, hi + 1, batch)
    sources = [rng.integers(2, symbols + 2, n) for n in lengths]
    return encode_pairs(sources, [ids[::-1] for ids in sources])


class Seq2Seq(Module):
    """An encoder whose last state is the first state of a decoder.

    The encoder is an `LSTM`, the decoder a `CharLSTM` with as many units, in one layer and one
    direction: the state of the first must fit the second.
    Equation: architectures/sequence-to-sequence.md#eq-factors
    Source: Sutskever, Vinyals, Le 2014, arXiv:1409.3215.

    Raises:
        ValueError: the encoder's state does not fit the decoder.
    """

    def __init__(self, encoder: LSTM, decoder: CharLSTM) -> None:
        shapes = [[cell.n_hidden for cell in lstm.cells] for lstm in (encoder, decoder.rnn)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"the decoder's states have {shapes[1]} units, layer by layer, "
                f"the encoder's {shapes[0]}"
            )
        self.encoder, self.decoder = encoder, decoder

    @classmethod
    def of_size(
        cls, vocab: int, n_hidden: int, *, rng: np.random.Generator, dtype: DTypeLike = np.float32
    ) -> Seq2Seq:
        """Return a fresh model of ``n_hidden`` units that reads and writes ids below ``vocab``."""
        return cls(
            LSTM(vocab, n_hidden, rng=rng, dtype=dtype),
            CharLSTM(vocab, n_hidden, rng=rng, dtype=dtype),
        )

    def encode(
        self, source: Int[Array, "batch source"], mask: Bool[Array, "batch source"] | None = None
    ) -> State:
        """Return the last (h, c), each (cells, batch, hidden): all that the decoder will know.

        Where the mask is false, nothing is read.
        Equation: architectures/sequence-to-sequence.md#eq-encode
        """
        return self.encoder(source, mask=mask)[1]

    def forward(
        self,
        source: Int[Array, "batch source"],
        inputs: Int[Array, "batch time"],
        mask: Bool[Array, "batch source"] | None = None,
    ) -> Float[Tensor, "batch time vocab"]:
        """Return logits for what follows each of the ``inputs``, which are given at once."""
        return self.decoder(inputs, self.encode(source, mask))[0]

    def loss(
        self, batch: Pairs, teacher_forcing: float = 1.0, rng: np.random.Generator | None = None
    ) -> Tensor:
        """Return the mean loss of the targets in nats, padding left out.

        Each input of the decoder is the true one with probability ``teacher_forcing``, and else
        drawn from what the model itself predicted for its place. With 1 all steps are computed at
        once; below 1 they follow each other, and ``rng`` decides.
        Equation: architectures/sequence-to-sequence.md#eq-teacher-forced
        Source: Bengio, Vinyals, Jaitly, Shazeer 2015, arXiv:1506.03099, for values below 1.

        Raises:
            ValueError: teacher_forcing is not in [0, 1], or is below 1 without a generator.
        """
        if not 0 <= teacher_forcing <= 1:
            raise ValueError(f"teacher_forcing must lie in [0, 1], received {teacher_forcing}")
        if teacher_forcing == 1:
            return cross_entropy(self(batch.source, batch.inputs, batch.mask), batch.targets)
        if rng is None:
            raise ValueError("teacher_forcing below 1 draws at random: give a generator rng")
        state, ids = self.encode(batch.source, batch.mask), batch.inputs[:, :1]
        logits: list[Tensor] = []
        for t in range(batch.inputs.shape[1]):
            if t:
                own = _draw(logits[-1].data[:, 0], rng)
                forced = rng.random(len(own)) < teacher_forcing
                ids = np.where(forced, batch.inputs[:, t], own)[:, None]
            new, state = self.decoder(ids, state)
            logits.append(new)
        return cross_entropy(concat(logits, axis=1), batch.targets)

    def step(self, token: int, state: State) -> tuple[Float[Array, "vocab"], State]:
        """Return log-probabilities of what follows ``token``, and the next state, for one output.

        This is the ``step_fn`` of `beam_search`, which begins with the state of `encode`.
        """
        with no_grad():
            logits, state = self.decoder(np.array([[token]]), state)
            return log_softmax(logits).data[0, 0], state


def greedy_decode(
    model: Seq2Seq,
    source: Int[Array, "batch source"],
    mask: Bool[Array, "batch source"] | None = None,
    longest: int = 50,
) -> list[list[int]]:
    """Return an output for each source: always the most probable symbol, until END.

    An output that has not met END after ``longest`` symbols ends there.
    """
    with no_grad():
        state = model.encode(source, mask)
        ids, columns = np.full((len(source), 1), START), []
        for _ in range(longest):
            logits, state = model.decoder(ids, state)
            ids = logits.data[:, 0].argmax(axis=1)[:, None]
            columns.append(ids[:, 0])
            if not np.stack(columns).all(axis=0).any():  # every output has met END, which is 0
                break
    rows = np.stack(columns, axis=1) if columns else np.zeros((len(source), 0), int)
    return [_until_end(row.tolist()) for row in rows]


def _until_end(ids: list[int]) -> list[int]:
    return ids[: ids.index(END)] if END in ids else ids


def _draw(logits: Float[Array, "batch vocab"], rng: np.random.Generator) -> Any:
    """One id a row, drawn with the probabilities of softmax: the largest of logits plus Gumbel."""
    return (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
