"""Samplers, packers and accumulated gradients against full batches and exhaustive search."""

import json
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.neural_networks.backpropagation import Embedding, Linear, Tensor
from chainrule.training.batching import (
    BatchSampler,
    accumulate,
    bucket_batches,
    gradient_noise_scale,
    pack_batch,
    pack_best_fit,
    pack_first_fit,
    packed_positions,
    packed_targets,
    pad_batch,
    padding_waste,
    steps_needed,
    token_budget_batches,
)
from chainrule.training.loss_functions import cross_entropy, mse

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=30).map(np.array)


@settings(max_examples=40)
@given(st.integers(1, 30), st.integers(1, 12), st.booleans())
def test_an_epoch_visits_everything_once(n, batch_size, drop_last):
    if drop_last and batch_size > n:
        return
    sampler = BatchSampler(n, batch_size, np.random.default_rng(0), drop_last)
    for epoch in range(2):
        assert sampler.epoch == epoch
        batches = list(sampler)
        assert len(batches) == len(sampler)
        seen = np.concatenate(batches)
        assert len(np.unique(seen)) == len(seen) == (n - n % batch_size if drop_last else n)
        assert all(len(b) == batch_size for b in batches[:-1])


def test_epochs_differ_and_seeds_repeat():
    first = BatchSampler(50, 7, np.random.default_rng(3))
    again = BatchSampler(50, 7, np.random.default_rng(3))
    one, two = (np.concatenate(list(first)) for _ in range(2))
    assert not np.array_equal(one, two)
    assert np.array_equal(one, np.concatenate(list(again)))


@pytest.mark.parametrize("stop", [0, 1, 3, 7, 8, 11, 16])
def test_resuming_draws_what_would_have_been_drawn(stop):
    def endless(sampler):
        while True:
            yield from sampler

    whole = endless(BatchSampler(50, 7, np.random.default_rng(3)))
    expected = [next(whole) for _ in range(30)]
    interrupted = BatchSampler(50, 7, np.random.default_rng(3))
    stream = endless(interrupted)
    got = [next(stream) for _ in range(stop)]
    state = interrupted.state_dict()
    state["order"] = None if state["order"] is None else state["order"].tolist()
    state = json.loads(json.dumps(state))
    for _ in range(5):
        next(stream)
    resumed = BatchSampler(50, 7, np.random.default_rng(99))
    resumed.load_state_dict(state)
    more = endless(resumed)
    got += [next(more) for _ in range(30 - stop)]
    assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))
    assert resumed.epoch == 3


def test_a_mini_batch_gradient_is_unbiased_with_the_known_variance(rng):
    values = rng.normal(size=20)
    draws = []
    sampler = BatchSampler(20, 5, rng)
    for _ in range(5000):
        draws += [values[batch].mean() for batch in sampler]
    variance = (1 - 5 / 20) * values.var(ddof=1) / 5
    assert np.mean(draws) == pytest.approx(values.mean(), abs=1e-12)
    assert np.var(draws) == pytest.approx(variance, rel=0.03)


def test_padding():
    ids, mask = pad_batch([[5, 6, 7], [8], np.array([9, 1])], pad=-1)
    assert ids.tolist() == [[5, 6, 7], [8, -1, -1], [9, 1, -1]]
    assert mask.tolist() == [[True] * 3, [True, False, False], [True, True, False]]
    assert padding_waste(np.array([3, 1, 2]), [np.arange(3)]) == pytest.approx(1 / 3)
    assert padding_waste(np.array([3, 1, 2]), [np.array([0]), np.array([1, 2])]) == pytest.approx(
        1 / 7
    )


@settings(max_examples=40)
@given(LENGTHS, st.integers(1, 4), st.integers(1, 5), st.booleans())
def test_buckets_keep_like_with_like(lengths, width, batch_size, shuffled):
    rng = np.random.default_rng(0) if shuffled else None
    batches = bucket_batches(lengths, width, batch_size, rng)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= batch_size
        assert len({(length - 1) // width for length in lengths[batch]}) == 1


@settings(max_examples=60)
@given(LENGTHS, st.integers(9, 40), st.booleans())
def test_token_budgets_are_kept_and_used(lengths, budget, shuffled):
    rng = np.random.default_rng(0) if shuffled else None
    batches = token_budget_batches(lengths, budget, rng)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) * lengths[batch].max() <= budget
    if not shuffled:
        for batch, following in pairwise(batches):
            assert (len(batch) + 1) * lengths[following[0]] > budget


def test_bucketing_wastes_less_than_chance(rng):
    lengths = rng.integers(1, 12, size=2000)
    chance = padding_waste(lengths, BatchSampler(2000, 32, rng))
    bucketed = padding_waste(lengths, bucket_batches(lengths, 2, 32, rng))
    budgeted = padding_waste(lengths, token_budget_batches(lengths, 256, rng))
    assert bucketed < 0.5 * chance
    assert budgeted < 0.1 * chance


def fewest_rows(lengths, n):
    """Exhaustive bin packing: place each sequence in every row with room, or in a new one."""

    @cache
    def place(i, rooms):
        if i == len(lengths):
            return 0
        best = 1 + place(i + 1, tuple(sorted((*rooms, n - lengths[i]))))
        for room in set(rooms):
            if room >= lengths[i]:
                left = list(rooms)
                left.remove(room)
                best = min(best, place(i + 1, tuple(sorted((*left, room - lengths[i])))))
        return best

    return place(0, ())


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=8).map(np.array),
    st.integers(9, 14),
    st.booleans(),
)
def test_packing_is_close_to_the_best(lengths, n, decreasing):
    rows = pack_first_fit(lengths, n, decreasing)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(lengths[row].sum() <= n for row in rows)
    best = fewest_rows(tuple(lengths.tolist()), n)
    assert best <= len(rows) <= (11 * best + 6) / 9 if decreasing else len(rows) <= 1.7 * best


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=8).map(np.array),
    st.integers(9, 14),
)
def test_best_fit_is_close_to_the_best(lengths, n):
    rows = pack_best_fit(lengths, n)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(lengths[row].sum() <= n for row in rows)
    best = fewest_rows(tuple(lengths.tolist()), n)
    assert best <= len(rows) <= (11 * best + 6) / 9
    first = [lengths[row[0]] for row in rows]
    assert first == sorted(first, reverse=True)


def test_best_fit_takes_the_fullest_row():
    lengths = np.array([7, 4, 4, 1])  # the 1 fits behind the 7 and, more tightly, behind 4 and 4
    assert pack_first_fit(lengths, 10) == [[0, 3], [1, 2]]
    assert pack_best_fit(lengths, 10) == [[0], [1, 2, 3]]
    assert pack_best_fit(np.array([5, 5, 5]), 10) == [[0, 1], [2]]
    assert pack_best_fit(np.array([], dtype=int), 5) == []


def test_targets_stay_inside_their_document():
    ids = np.array([[5, 6, 7, 8, 9, 0], [1, 2, 3, 4, 5, 6]])
    doc_ids = np.array([[0, 0, 0, 1, 1, -1], [0, 1, 1, 1, 1, 1]])
    none = -100
    assert packed_targets(ids, doc_ids).tolist() == [
        [6, 7, none, 9, none, none],
        [none, 3, 4, 5, 6, none],
    ]
    assert packed_targets(ids[0], doc_ids[0], ignore=-1).tolist() == [6, 7, -1, 9, -1, -1]
    assert packed_targets(np.array([[3]]), np.array([[0]])).tolist() == [[none]]
    padding = packed_targets(np.zeros((1, 3), int), np.full((1, 3), -1))
    assert padding.tolist() == [[none, none, none]]


def test_first_fit_by_hand():
    lengths = np.array([2, 5, 4, 7, 1, 3, 8])
    assert pack_first_fit(lengths, 10, decreasing=False) == [[0, 1, 4], [2, 5], [3], [6]]
    assert pack_first_fit(lengths, 10) == [[6, 0], [3, 5], [1, 2, 4]]


def test_positions_restart_with_each_document():
    doc_ids = np.array([[0, 0, 0, 1, 1, -1], [0, 1, 2, 2, 2, 2]])
    assert packed_positions(doc_ids).tolist() == [[0, 1, 2, 0, 1, 0], [0, 0, 0, 1, 2, 3]]
    assert packed_positions(np.array([7])).tolist() == [0]


def test_packed_loss_equals_unpacked_for_a_causal_model(rng):
    """The model predicts from the running mean of what its document holds so far."""
    table, head = (
        Embedding(11, 5, rng=rng, dtype=np.float64),
        Linear(5, 11, rng=rng, dtype=np.float64),
    )
    place = Embedding(9, 5, rng=rng, dtype=np.float64)

    def loss(ids, doc_ids):
        positions = packed_positions(doc_ids)
        same = (doc_ids[:, :, None] == doc_ids[:, None, :]) & np.tri(ids.shape[1], dtype=bool)
        weights = same / same.sum(axis=-1, keepdims=True)
        hidden = Tensor(weights) @ (table(ids) + place(positions))
        return cross_entropy(head(hidden), packed_targets(ids, doc_ids))

    seqs = [rng.integers(0, 11, size=size) for size in (9, 2, 5, 4, 3)]
    rows = pack_first_fit(np.array([len(s) for s in seqs]), 9)
    assert len(rows) == 3
    packed = loss(*pack_batch(seqs, rows, 9))
    packed.backward()
    gradient = table.weight.grad.copy()
    table.weight.grad = None
    alone = loss(*pack_batch(seqs, [[i] for i in range(5)], 9))
    alone.backward()
    assert packed.item() == pytest.approx(alone.item(), rel=1e-12)
    np.testing.assert_allclose(gradient, table.weight.grad, rtol=1e-10, atol=1e-14)


def test_accumulation_equals_the_large_batch(rng):
    layer = Linear(5, 3, rng=rng, dtype=np.float64)
    x, y = rng.normal(size=(17, 5)), rng.integers(0, 3, size=17)
    cross_entropy(layer(Tensor(x)), y).backward()
    expected = [p.grad.copy() for p in layer.parameters()]
    cuts = [slice(0, 1), slice(1, 4), slice(4, 4), slice(4, 17)]
    mean = accumulate(
        lambda part: (
            cross_entropy(layer(Tensor(x[part])), y[part], reduction="sum"),
            len(y[part]),
        ),
        cuts,
        layer.parameters(),
    )
    assert mean == pytest.approx(cross_entropy(layer(Tensor(x)), y).item(), rel=1e-12)
    for p, g in zip(layer.parameters(), expected, strict=True):
        np.testing.assert_allclose(p.grad, g, rtol=1e-12, atol=1e-15)


def test_mean_over_tokens_is_two_and_a_half_and_mean_of_means_three():
    w = Tensor(np.zeros(1), requires_grad=True)
    batches = [np.array([2.0]), np.full(3, np.sqrt(2.0))]
    mean = accumulate(
        lambda targets: (mse(w * np.ones(len(targets)), targets, "sum"), len(targets)), batches, [w]
    )
    assert mean == pytest.approx(2.5)
    assert np.mean([np.mean(t**2) for t in batches]) == pytest.approx(3)


def test_noise_scale_of_a_linear_regression(rng):
    # y = x·w* + noise at w = 0: example gradients −2xy have known mean and covariance.
    w_star = np.array([1.0, -0.5, 0.25])

    def gradients(batch_size, samples):
        x = rng.normal(size=(samples, batch_size, 3))
        y = x @ w_star + 0.5 * rng.normal(size=(samples, batch_size))
        return np.mean(-2 * x * y[..., None], axis=1)

    length = w_star @ w_star
    # E|xy|² = Σᵢ E[xᵢ²(x·w*)²] + 3·¼ = (3 + 2)|w*|² + 0.75
    exact_noise = 4 * (5 * length + 0.75) - 4 * length
    found = gradient_noise_scale(gradients(4, 20_000), gradients(64, 20_000), 4, 64)
    assert found.signal == pytest.approx(4 * length, rel=0.03)
    assert found.noise == pytest.approx(exact_noise, rel=0.05)
    assert found.scale == pytest.approx(exact_noise / (4 * length), rel=0.05)
    assert gradient_noise_scale(np.ones(3), np.zeros(3), 1, 2).scale == np.inf


def test_at_the_critical_size_steps_and_examples_double():
    critical = 50_000 / 200
    steps = steps_needed(critical, 200, 50_000)
    assert steps == 400
    assert steps * critical == 100_000
    for size in (10.0, 123.0, 4000.0):
        S = steps_needed(size, 200, 50_000)
        assert (S / 200 - 1) * (S * size / 50_000 - 1) == pytest.approx(1)


def test_bad_arguments_are_named(rng):
    lengths = np.array([3, 12])
    for call, message in (
        (lambda: BatchSampler(0, 5, rng), "at least 1, got 0, 5"),
        (lambda: BatchSampler(3, 5, rng, drop_last=True), "leaves nothing of 3"),
        (lambda: pad_batch([]), "at least one sequence"),
        (lambda: bucket_batches(lengths, 0), "width"),
        (lambda: token_budget_batches(lengths, 10), "12 tokens exceeds the budget 10"),
        (lambda: pack_first_fit(lengths, 10), "12 tokens does not fit a row of 10"),
        (lambda: pack_best_fit(lengths, 10), "12 tokens does not fit a row of 10"),
        (lambda: pack_batch([[1, 2], [3]], [[0, 1]], 2), "row 0 holds more than 2"),
        (lambda: accumulate(lambda b: (Tensor(0.0), 0), [1], []), "no token"),
        (lambda: gradient_noise_scale(np.ones(2), np.ones(2), 4, 4), "0 < Bs < Bb"),
        (lambda: steps_needed(0, 1, 1), "positive"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    sampler = BatchSampler(5, 2, rng)
    with pytest.raises(ValueError, match="the state is for n=7"):
        sampler.load_state_dict(BatchSampler(7, 2, rng).state_dict())


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.uint64])
def test_lengths_of_every_width(dtype):
    lengths = np.array([3, 100, 7, 5, 90, 5])
    given = lengths.astype(dtype)
    assert pack_first_fit(given, 1000) == pack_first_fit(lengths, 1000)
    assert pack_first_fit(given, 105) == pack_first_fit(lengths, 105)
    assert pack_best_fit(given, 105) == pack_best_fit(lengths, 105)
    for batches in (lambda x: bucket_batches(x, 300), lambda x: bucket_batches(x, 4),
                    lambda x: token_budget_batches(x, 300)):  # fmt: skip
        found, expected = batches(given), batches(lengths)
        assert [x.tolist() for x in found] == [x.tolist() for x in expected]
    assert padding_waste(given, [np.arange(6)]) == padding_waste(lengths, [np.arange(6)])


def test_what_the_page_says_of_pytorch():
    import inspect

    import torch
    from torch.nn.utils.rnn import pad_sequence
    from torch.utils.data import DataLoader, RandomSampler, TensorDataset

    defaults = {
        name: p.default for name, p in inspect.signature(DataLoader.__init__).parameters.items()
    }
    assert (defaults["batch_size"], defaults["drop_last"]) == (1, False)
    rows = torch.arange(10)
    loader = DataLoader(TensorDataset(rows), batch_size=4)  # the default does not shuffle
    assert [len(b) for (b,) in loader] == [4, 4, 2]
    assert torch.cat([b for (b,) in loader]).tolist() == list(range(10))
    torch.manual_seed(0)
    shuffled = DataLoader(TensorDataset(rows), batch_size=4, shuffle=True)
    one, two = (torch.cat([b for (b,) in shuffled]).tolist() for _ in range(2))
    assert one != two
    assert sorted(one) == sorted(two) == list(range(10))
    assert isinstance(shuffled.sampler, RandomSampler)
    assert not hasattr(shuffled, "state_dict")

    parts = [torch.tensor([5, 6, 7]), torch.tensor([8])]
    padded = pad_sequence(parts)
    assert padded.shape == (3, 2)  # time first
    assert pad_sequence(parts, batch_first=True).tolist() == [[5, 6, 7], [8, 0, 0]]
    left = pad_sequence(parts, batch_first=True, padding_side="left", padding_value=-1)
    assert left.tolist() == [[5, 6, 7], [-1, -1, 8]]

    w = torch.zeros(1, requires_grad=True)
    losses = [torch.tensor([2.0]), torch.full((3,), 2.0**0.5)]
    for targets in losses:  # sums of squares, divided once by four
        (((w - targets) ** 2).sum() / 4).backward()
    whole = torch.zeros(1, requires_grad=True)
    ((whole - torch.cat(losses)) ** 2).mean().backward()
    torch.testing.assert_close(w.grad, whole.grad)


@pytest.mark.parametrize("scale", [1e-200, 1e-20, 1.0, 1e20, 1e200])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_noise_scale_has_no_unit(rng, scale, dtype):
    small, big = rng.normal(1, 2, (7, 5)), rng.normal(1, 0.5, (7, 5))
    if dtype == np.float32 and not 1e-30 < scale < 1e30:
        return
    expected = gradient_noise_scale(small, big, 3, 11)
    with np.errstate(over="ignore"):
        found = gradient_noise_scale(
            (scale * small).astype(dtype), (scale * big).astype(dtype), 3, 11
        )
    assert found.scale == pytest.approx(expected.scale, rel=1e-10 if dtype == np.float64 else 1e-4)
    if 1e-100 < scale < 1e100:
        assert found.noise == pytest.approx(scale**2 * expected.noise, rel=1e-4)


def test_what_is_not_a_number_stays_visible():
    for bad in (np.nan, np.inf):
        found = gradient_noise_scale(np.array([[1.0, bad]]), np.array([[1.0, 2.0]]), 1, 2)
        assert np.isnan(found.scale)
    assert gradient_noise_scale(np.zeros((2, 3)), np.zeros((2, 3)), 1, 2).scale == np.inf
    with pytest.raises(ValueError, match="positive"):
        steps_needed(np.nan, 1, 1)
    with pytest.raises(ValueError, match="positive"):
        steps_needed(1, 1, np.nan)


def test_empty_and_one_by_one():
    ids, mask = pad_batch([[], [4]])
    assert ids.tolist() == [[0], [4]]
    assert mask.tolist() == [[False], [True]]
    assert pad_batch([[]])[0].shape == (1, 0)
    none = np.array([], dtype=int)
    assert padding_waste(none, []) == 0
    assert bucket_batches(none, 2) == token_budget_batches(none, 5) == pack_first_fit(none, 3) == []
    ids, doc_ids = pack_batch([[7]], [[0]], 1)
    assert (ids.tolist(), doc_ids.tolist()) == ([[7]], [[0]])
    assert packed_positions(doc_ids).tolist() == [[0]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_accumulation_equals_torch(rng, dtype):
    import torch

    layer = Linear(5, 3, rng=rng, dtype=dtype)
    x, y = rng.normal(size=(23, 5)).astype(dtype), rng.integers(0, 3, size=23)
    theirs = torch.nn.Linear(5, 3, dtype=torch.float32 if dtype == np.float32 else torch.float64)
    with torch.no_grad():
        theirs.weight.copy_(torch.from_numpy(layer.weight.data))
        theirs.bias.copy_(torch.from_numpy(layer.bias.data))
    loss = torch.nn.functional.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(y))
    loss.backward()
    mean = accumulate(
        lambda rows: (cross_entropy(layer(Tensor(x[rows])), y[rows], reduction="sum"), len(rows)),
        np.split(np.arange(23), [2, 3, 14]),
        layer.parameters(),
    )
    tolerance = 1e-4 if dtype == np.float32 else 1e-10
    assert mean == pytest.approx(loss.item(), rel=tolerance)
    for ours, other in ((layer.weight, theirs.weight), (layer.bias, theirs.bias)):
        assert ours.grad.dtype == dtype
        np.testing.assert_allclose(ours.grad, other.grad, rtol=tolerance, atol=tolerance / 100)
