"""Encoder and decoder against PyTorch's LSTMs, and what goes in and out of them."""

import inspect
import itertools

import numpy as np
import pytest
import torch

from chainrule.architectures.lstms import LSTM, CharLSTM
from chainrule.architectures.sequence_to_sequence import (
    END,
    START,
    Pairs,
    Seq2Seq,
    encode_pairs,
    greedy_decode,
    reversal_task,
)
from chainrule.neural_networks.backpropagation import no_grad

V, H = 7, 11


def torch_lstm(cell, dtype):
    peer = torch.nn.LSTM(V, H, batch_first=True).to(dtype)
    with torch.no_grad():
        peer.weight_ih_l0.copy_(torch.tensor(cell.weight_x.data))
        peer.weight_hh_l0.copy_(torch.tensor(cell.weight_h.data))
        peer.bias_ih_l0.copy_(torch.tensor(cell.bias.data))
        peer.bias_hh_l0.zero_()
    return peer


@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"), [(np.float64, 1e-10, 1e-11), (np.float32, 1e-4, 2e-5)]
)
def test_loss_and_all_gradients_equal_two_lstms_of_pytorch(rng, dtype, rtol, atol):
    model = Seq2Seq.of_size(V, H, rng=rng, dtype=dtype)
    batch = reversal_task(rng, 5, 1, 6, V - 2)
    kind = torch.float64 if dtype == np.float64 else torch.float32
    encoder = torch_lstm(model.encoder.cells[0], kind)
    decoder = torch_lstm(model.decoder.rnn.cells[0], kind)
    head = torch.nn.Linear(H, V).to(kind)
    with torch.no_grad():
        head.weight.copy_(torch.tensor(model.decoder.output.weight.data))
        head.bias.copy_(torch.tensor(model.decoder.output.bias.data))

    def one_hot(ids):
        return torch.nn.functional.one_hot(torch.tensor(ids), V).to(kind)

    packed = torch.nn.utils.rnn.pack_padded_sequence(
        one_hot(batch.source), batch.mask.sum(axis=1).tolist(), True, enforce_sorted=False
    )
    _, state = encoder(packed)
    logits = head(decoder(one_hot(batch.inputs), state)[0])
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.tensor(batch.targets).flatten(), ignore_index=-100
    )
    loss = model.loss(batch)
    assert loss.dtype == dtype
    np.testing.assert_allclose(loss.item(), expected.item(), rtol=rtol)
    loss.backward()
    expected.backward()
    for ours, theirs in (
        (model.encoder.cells[0], encoder),
        (model.decoder.rnn.cells[0], decoder),
    ):
        for mine, name in (
            (ours.weight_x, "weight_ih_l0"),
            (ours.weight_h, "weight_hh_l0"),
            (ours.bias, "bias_ih_l0"),
        ):
            np.testing.assert_allclose(mine.grad, getattr(theirs, name).grad, rtol, atol)
    np.testing.assert_allclose(model.decoder.output.weight.grad, head.weight.grad, rtol, atol)
    np.testing.assert_allclose(model.decoder.output.bias.grad, head.bias.grad, rtol, atol)


def test_pairs_by_hand():
    batch = encode_pairs([[2, 3, 4], [5]], [[4], [6, 7]])
    assert batch.source.tolist() == [[2, 3, 4], [5, 0, 0]]
    assert batch.mask.tolist() == [[True] * 3, [True, False, False]]
    assert batch.inputs.tolist() == [[START, 4, 0], [START, 6, 7]]
    assert batch.targets.tolist() == [[4, END, -100], [6, 7, END]]


def test_empty_sources_and_outputs_are_pairs_too():
    batch = encode_pairs([[], [3]], [[2], []])
    assert batch.inputs.tolist() == [[START, 2], [START, 0]]
    assert batch.targets.tolist() == [[2, END], [END, -100]]
    assert batch.mask.tolist() == [[False], [True]]


@pytest.mark.parametrize(
    ("sources", "outputs", "message"),
    [
        ([], [], "at least one"),
        ([[2]], [], "1 sources and 0 outputs"),
        ([[2]], [[1]], "received 1"),
        ([[0]], [[2]], "received 0"),
    ],
)
def test_pairs_that_cannot_be_are_refused(sources, outputs, message):
    with pytest.raises(ValueError, match=message):
        encode_pairs(sources, outputs)


def test_the_reversal_task_reverses_and_every_length_is_as_frequent(rng):
    batch = reversal_task(rng, 3000, 2, 5, 3)
    lengths = batch.mask.sum(axis=1)
    for row in range(50):
        n = lengths[row]
        assert batch.targets[row, :n].tolist() == batch.source[row, :n][::-1].tolist()
        assert batch.targets[row, n] == END
        assert (batch.targets[row, n + 1 :] == -100).all()
        assert batch.inputs[row, 1 : n + 1].tolist() == batch.targets[row, :n].tolist()
    assert set(batch.source[batch.mask].tolist()) == {2, 3, 4}
    counts = np.bincount(lengths)[2:]
    assert len(counts) == 4
    assert (np.abs(counts - 750) < 5 * np.sqrt(3000 * 0.25 * 0.75)).all()


@pytest.mark.parametrize("sizes", [(0, 1, 2, 3), (1, 0, 2, 3), (1, 3, 2, 3), (1, 1, 2, 0)])
def test_impossible_tasks_are_refused(rng, sizes):
    with pytest.raises(ValueError, match="reversal_task received"):
        reversal_task(rng, *sizes)


def test_padding_changes_no_pair(rng):
    model = Seq2Seq.of_size(V, H, rng=rng, dtype=float)
    both = encode_pairs([[2, 3, 4, 5], [6]], [[5, 4], [6, 2, 3]])
    single = [encode_pairs([[2, 3, 4, 5]], [[5, 4]]), encode_pairs([[6]], [[6, 2, 3]])]
    losses = [model.loss(batch).item() for batch in (both, *single)]
    tokens = [(batch.targets >= 0).sum() for batch in single]
    np.testing.assert_allclose(losses[0], np.average(losses[1:], weights=tokens), rtol=1e-12)
    ids = greedy_decode(model, both.source, both.mask, 5)
    assert ids == [greedy_decode(model, b.source, None, 5)[0] for b in single]


def test_with_a_teacher_at_every_step_nothing_is_drawn(rng):
    """Step by step with all inputs true is the loss at once: only the order of work differs."""
    model = Seq2Seq.of_size(V, H, rng=rng, dtype=float)
    batch = reversal_task(rng, 5, 1, 6, V - 2)
    nearly = float(np.nextafter(1, 0))  # below 1, so step by step, and never below a draw
    step_by_step = model.loss(batch, nearly, np.random.default_rng(0))
    at_once = model.loss(batch)
    np.testing.assert_allclose(step_by_step.item(), at_once.item(), rtol=1e-12)
    step_by_step.backward()
    found = [p.grad for p in model.parameters()]
    for p in model.parameters():
        p.grad = None
    at_once.backward()
    for a, p in zip(found, model.parameters(), strict=True):
        np.testing.assert_allclose(a, p.grad, rtol=1e-9, atol=1e-12)


def test_without_a_teacher_the_true_inputs_do_not_matter(rng):
    model = Seq2Seq.of_size(V, H, rng=rng, dtype=float)
    batch = reversal_task(rng, 5, 3, 6, V - 2)
    changed = batch.inputs.copy()
    changed[:, 1:] = rng.integers(0, V, changed[:, 1:].shape)
    other = Pairs(batch.source, batch.mask, changed, batch.targets)
    a, b = (model.loss(x, 0.0, np.random.default_rng(3)).item() for x in (batch, other))
    assert a == b
    assert model.loss(batch).item() != model.loss(other).item()


def test_own_inputs_are_drawn_with_the_models_probabilities(rng):
    """One step behind START: the second loss is that after each symbol, in its share of draws."""
    model = Seq2Seq.of_size(V, H, rng=rng, dtype=float)
    batch = encode_pairs([[2]] * 4000, [[3]] * 4000)
    with no_grad():
        state = model.encode(batch.source[:1])
        first, state = model.step(START, state)
        after = np.array([model.step(token, state)[0][END] for token in range(V)])
        found = model.loss(batch, 0.0, np.random.default_rng(0)).item()
    p = np.exp(first)
    expected = -(first[3] + p @ after) / 2
    error = np.sqrt(p @ after**2 - (p @ after) ** 2) / 2 / np.sqrt(4000)
    assert abs(found - expected) < 5 * error


@pytest.mark.parametrize(
    ("share", "given"), [(-0.1, True), (1.5, True), (np.nan, True), (0.5, False)]
)
def test_impossible_teachers_are_refused(rng, share, given):
    model = Seq2Seq.of_size(V, H, rng=rng)
    with pytest.raises(ValueError, match="teacher_forcing"):
        model.loss(reversal_task(rng, 2, 1, 2, 5), share, rng if given else None)


def test_states_that_do_not_fit_are_refused(rng):
    with pytest.raises(ValueError, match=r"\[11\].*\[5\]"):
        Seq2Seq(LSTM(V, 5, rng=rng), CharLSTM(V, H, rng=rng))
    with pytest.raises(ValueError, match=r"\[11\].*\[11, 11\]"):
        Seq2Seq(LSTM(V, H, 2, rng=rng), CharLSTM(V, H, rng=rng))


def test_greedy_takes_the_largest_logit_of_each_step_until_the_end(rng):
    model = Seq2Seq.of_size(V, H, rng=rng, dtype=float)
    for p in model.parameters():
        p.data = p.data * 8  # so that outputs differ
    source = rng.integers(2, V, (20, 4))
    outputs = greedy_decode(model, source, longest=6)
    for row, ids in zip(source, outputs, strict=True):
        state, token, expected = model.encode(row[None]), START, []
        for _ in range(6):
            log_p, state = model.step(token, state)
            token = int(log_p.argmax())
            if token == END:
                break
            expected.append(token)
        assert ids == expected
    assert len({len(ids) for ids in outputs}) > 1


def test_an_output_has_at_most_its_longest_length(rng):
    model = Seq2Seq.of_size(V, H, rng=rng)
    source = rng.integers(2, V, (3, 2))
    model.decoder.output.bias.data[END] = -1e9
    assert [len(ids) for ids in greedy_decode(model, source, longest=5)] == [5, 5, 5]
    assert greedy_decode(model, source, longest=0) == [[], [], []]
    model.decoder.output.bias.data[END] = 1e9
    assert greedy_decode(model, source) == [[], [], []]


def test_probabilities_of_all_outputs_of_a_length_sum_to_one(rng):
    model = Seq2Seq.of_size(4, H, rng=rng, dtype=float)
    state, total = model.encode(np.array([[2, 3]])), 0.0
    for ids in itertools.product(range(4), repeat=3):
        after, token, log_p = state, START, 0.0
        for new in ids:
            found, after = model.step(token, after)
            token, log_p = new, log_p + found[new]
        total += np.exp(log_p)
    np.testing.assert_allclose(total, 1, rtol=1e-12)


def test_facts_of_the_box_about_pytorch(rng):
    """No class for the pair; a state handed on; −100 left out; classes on axis 1."""
    assert not [name for name in dir(torch.nn) if "seq2seq" in name.lower()]
    assert not [name for name in dir(torch.nn) if "encoderdecoder" in name.lower()]
    encoder, decoder = (torch.nn.LSTM(3, 5, batch_first=True) for _ in range(2))
    x, y = (torch.randn(2, n, 3) for n in (4, 7))
    _, state = encoder(x)
    assert decoder(y, state)[0].shape == (2, 7, 5)
    pack = torch.nn.utils.rnn.pack_padded_sequence
    _, (h, _) = encoder(pack(x, [2, 4], batch_first=True, enforce_sorted=False))
    _, (short, _) = encoder(x[:1, :2])
    torch.testing.assert_close(h[:, :1], short)
    with pytest.raises(RuntimeError, match="sorted"):
        pack(x, [2, 4], batch_first=True)
    cross_entropy = torch.nn.functional.cross_entropy
    assert inspect.signature(cross_entropy).parameters["ignore_index"].default == -100
    logits, targets = torch.randn(2, 3, 7), torch.tensor([[0, 1, 6], [2, -100, -100]])
    expected = -torch.log_softmax(logits, -1)[targets >= 0, targets[targets >= 0]].mean()
    torch.testing.assert_close(cross_entropy(logits.mT, targets), expected)
