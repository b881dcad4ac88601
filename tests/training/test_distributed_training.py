"""Every split of the course's own GPT against one worker: same weights, counted bytes."""

import functools

import numpy as np
import pytest

from chainrule.neural_networks.backpropagation import Linear, Tensor
from chainrule.neural_networks.regularization import LayerNorm
from chainrule.training.batching import accumulate
from chainrule.training.distributed_training.collectives import all_reduce, chunks
from chainrule.training.distributed_training.data_parallel import (
    average_gradients,
    broadcast_parameters,
    buckets,
    overlapped_seconds,
)
from chainrule.training.distributed_training.local_steps import DiLoCo
from chainrule.training.distributed_training.operations import (
    copy_to,
    gather_from,
    reduce_from,
    scatter_to,
)
from chainrule.training.distributed_training.tensor_parallel import (
    ColumnParallelLinear,
    RowParallelLinear,
    SequenceParallelNorm,
    TensorParallelGPT,
    VocabParallelEmbedding,
    vocab_parallel_cross_entropy,
)
from chainrule.training.distributed_training.world import Link, World
from chainrule.training.distributed_training.zero import (
    FullySharded,
    Zero,
    average_pieces,
    zero_bytes,
    zero_traffic,
)
from chainrule.training.loss_functions import cross_entropy
from chainrule.training.optimizers import AdamW, ParamGroups
from chainrule.transformers.gpt import GPT, gpt_config

V, T, STEPS = 23, 7, 3
CONFIG = gpt_config(vocab_size=V, context=11, layers=2, heads=4, width=12, dtype="float64")
LLAMA = gpt_config(
    vocab_size=V, context=11, layers=2, heads=4, width=16, kv_heads=2, feed_forward="swiglu",
    hidden=10, norm="rms", positions="rope", bias=False, dtype="float64",
)  # fmt: skip
ROWS = 6
RNG = np.random.default_rng(1)
BATCHES = [RNG.integers(0, V, (ROWS, T + 1)) for _ in range(STEPS)]


def model(config=CONFIG, seed=0):
    return GPT(config, np.random.default_rng(seed))


def adam(params):
    return AdamW(ParamGroups.matrices_decay(params, 0.1), lr=1e-2)


def loss_sum(gpt, rows):
    loss = cross_entropy(gpt(rows[:, :-1]), rows[:, 1:], reduction="sum")
    return loss, rows[:, 1:].size


def trained_alone(config=CONFIG):
    gpt = model(config)
    optimizer = adam(gpt.parameters())
    for rows in BATCHES:
        accumulate(lambda part, gpt=gpt: loss_sum(gpt, part), [rows], gpt.parameters())
        optimizer.step()
    return gpt.state_dict()


@functools.cache
def alone(name="gpt"):
    """The weights of one worker, trained once."""
    return trained_alone({"gpt": CONFIG, "llama": LLAMA}[name])


def share(rows, worker):
    return rows[chunks(len(rows), worker.size)[worker.rank]]


def assert_same(state, expected):
    assert set(state) == set(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(state[name], array, rtol=0, atol=1e-11, err_msg=name)


# ---- data parallelism ------------------------------------------------------------------------


@pytest.mark.parametrize(("p", "bucket"), [(1, float("inf")), (2, 3000), (4, 1)])  # 2, 2, 1, 1 rows
def test_data_parallel_training_equals_one_worker(p, bucket):
    def program(w):
        gpt = model(seed=w.rank)
        broadcast_parameters(w, gpt)
        optimizer = adam(gpt.parameters())
        for rows in BATCHES:
            optimizer.zero_grad()
            loss, tokens = loss_sum(gpt, share(rows, w))
            loss.backward()
            assert average_gradients(w, gpt.parameters(), tokens, bucket) == ROWS * T
            optimizer.step()
        return gpt.state_dict()

    states = World(p).run(program)
    for state in states:
        assert_same(state, alone())
        assert all(np.array_equal(state[name], states[0][name]) for name in state)


def test_fault_sum_without_average_is_another_model():
    def program(w):
        gpt = model()
        optimizer = adam(gpt.parameters())
        loss, tokens = loss_sum(gpt, share(BATCHES[0], w))
        (loss / tokens).backward()  # the mean of each worker, then added up: p times too large
        for p in gpt.parameters():
            p.grad = all_reduce(w, p.grad)
        before = np.concatenate([p.grad.ravel() for p in gpt.parameters()])
        average = before / w.size
        optimizer.step()
        return before, average

    gpt = model()
    loss_sum(gpt, BATCHES[0])[0].backward()
    expected = np.concatenate([p.grad.ravel() for p in gpt.parameters()]) / (ROWS * T)
    for before, average in World(2).run(program):
        np.testing.assert_allclose(average, expected, atol=1e-12)
        np.testing.assert_allclose(before, 2 * expected, atol=1e-12)


def test_workers_weigh_by_tokens_and_one_may_have_none():
    weights = [np.array([4.0]), np.array([6.0]), np.array([0.0])]
    tokens = [1, 3, 0]

    def program(w):
        p = Tensor(np.ones(1), requires_grad=True)
        if tokens[w.rank]:
            (p * weights[w.rank]).sum().backward()
        average_gradients(w, [p], tokens[w.rank])
        return p.grad[0]

    assert World(3).run(program) == [2.5] * 3  # a mean of means would say 3 and more


def test_no_token_anywhere_is_an_error():
    with pytest.raises(ValueError, match="no worker has a token"):
        World(2).run(lambda w: average_gradients(w, [], 0))


def test_buckets_come_last_first_and_hold_one_type():
    a, b, c = (Tensor(np.zeros(n, t)) for n, t in ((3, "f4"), (5, "f8"), (7, "f8")))
    assert [[p.size for p in group] for group in buckets([a, b, c], 100)] == [[7, 5], [3]]
    assert [[p.size for p in group] for group in buckets([a, b, c], 60)] == [[7], [5], [3]]
    assert buckets([], 10) == []


def test_overlap_hides_all_but_the_last_sum():
    link = Link(0.0, 1.0)
    assert overlapped_seconds([2.0, 2.0, 2.0], [1.0, 1.0, 1.0], 2, link) == 7.0
    assert overlapped_seconds([6.0], [3.0], 2, link) == 9.0
    assert overlapped_seconds([1.0, 1.0], [4.0, 4.0], 2, link) == 9.0  # the link decides
    assert overlapped_seconds([], [], 2, link) == 0.0
    with pytest.raises(ValueError, match="a size for each of 1"):
        overlapped_seconds([1.0], [], 2, link)


# ---- ZeRO ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "stage", "micro_batches"), [(1, 1, 1), (2, 1, 2), (3, 1, 1), (2, 2, 1), (3, 2, 2)]
)
def test_zero_equals_one_worker(p, stage, micro_batches):
    world = World(p)

    def program(w):
        gpt = model()
        zero = Zero(w, gpt.parameters(), stage, adam)
        for rows in BATCHES:
            for part in np.array_split(share(rows, w), micro_batches):
                loss, tokens = loss_sum(gpt, part)
                loss.backward()
                zero.collect(tokens)
                if stage == 2:
                    assert all(q.grad is None for q in gpt.parameters())
            zero.step()
        held = sum(entry["exp_avg"].size for entry in zero.optimizer.state)
        return gpt.state_dict(), held

    results = world.run(program)
    for state, _ in results:
        assert_same(state, alone())
    size = sum(a.nbytes for a in alone().values())
    assert sum(held for _, held in results) == size // 8  # each number of Adam's once
    counts = STEPS * p * 2 * (p - 1) * (-(-8 // p))  # the all-reduce of the token counts, at most
    sent = sum(world.bytes_sent)
    expected = STEPS * p * zero_traffic(size, p, stage, micro_batches)
    assert expected <= sent <= expected + counts + STEPS * 8 * 2 * p


@pytest.mark.parametrize("p", [1, 3])
def test_fully_sharded_equals_one_worker(p):
    world = World(p)

    def program(w):
        gpt = model()
        whole = sum(q.data.nbytes for q in gpt.parameters())
        names = [name for name, _ in gpt.named_parameters()]
        blocks = [FullySharded(w, block) for block in gpt.blocks]
        rest = FullySharded(w, _Rest(gpt))
        pieces = [q for unit in (*blocks, rest) for q in unit.parameters()]
        held = sum(q.data.nbytes for q in pieces)
        optimizer = adam([q for q in pieces if q.size])
        for rows in BATCHES:
            optimizer.zero_grad()
            rows = share(rows, w)
            x = rest(rows[:, :-1], "embed")
            for block in blocks:
                x = block(x)
            cross_entropy(rest(x, "predict"), rows[:, 1:], reduction="sum").backward()
            average_pieces(w, pieces, rows[:, 1:].size)
            optimizer.step()
        ends = sum(q.data.nbytes for q in rest.parameters())
        return [q.data for q in pieces], held, whole, names, ends

    results = world.run(program)
    assert sum(held for _, held, _, _, _ in results) == results[0][2]  # nothing twice
    # A unit travels 3 times for each use: two gathers, one scatter. The ends are used twice, and
    # what a use does not touch has no gradient to scatter: the norm first, the positions last.
    size, ends = results[0][2], sum(r[4] for r in results)
    untouched = sum(alone()[n].nbytes for n in ("norm.weight", "norm.bias", "positions.weight"))
    counts = 8 * 2 * (p - 1)  # one count of tokens a worker, in all
    expected = (p - 1) * (3 * (size + ends) - untouched) + counts
    assert sum(world.bytes_sent) == STEPS * expected
    joined = [np.concatenate(same) for same in zip(*(r[0] for r in results), strict=True)]
    order = [n for n in results[0][3] if n.startswith("blocks")]
    order += [n for n in results[0][3] if not n.startswith("blocks")]
    assert_same(dict(zip(order, joined, strict=True)), alone())


class _Rest(GPT):
    """Everything but the blocks."""

    def __init__(self, gpt):
        self.config, self.tokens, self.positions = gpt.config, gpt.tokens, gpt.positions
        self.head, self.dropout, self.norm = None, gpt.dropout, gpt.norm


def test_the_figures_of_the_zero_paper():
    gigabytes = [zero_bytes(7.5e9, 64, stage) / 1e9 for stage in range(4)]
    np.testing.assert_allclose(gigabytes, [120, 31.4, 16.6, 1.9], atol=0.05)
    with pytest.raises(ValueError, match="0, 1, 2 or 3, not 4"):
        zero_bytes(1, 1, 4)
    assert [zero_traffic(3.0, 3, s) for s in range(4)] == [4, 4, 4, 6]


# ---- tensor parallelism ----------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_tensor_parallel_training_equals_one_worker(name, p):
    config = {"gpt": CONFIG, "llama": LLAMA}[name]

    def program(w):
        split = TensorParallelGPT(w, model(config))
        optimizer = adam(split.parameters())
        for rows in BATCHES:
            optimizer.zero_grad()
            split.losses(rows[:, :-1], rows[:, 1:]).mean().backward()
            optimizer.step()
        return split

    world = World(p)
    splits = world.run(program)
    expected = alone(name)
    table = np.concatenate([s.tokens.weight.data for s in splits])
    np.testing.assert_allclose(table, expected["tokens.weight"], atol=1e-11)
    for layer in range(2):
        key = f"blocks.{layer}."
        blocks = [s.whole.blocks[layer] for s in splits]
        for part, axis in (("up", 0), ("down", 1)):
            joined = np.concatenate(
                [getattr(b.feed_forward, part).weight.data for b in blocks], axis
            )
            np.testing.assert_allclose(
                joined, expected[f"{key}feed_forward.{part}.weight"], atol=1e-11
            )
        out = np.concatenate([b.attention.out.weight.data for b in blocks], axis=1)
        np.testing.assert_allclose(out, expected[f"{key}attention.out.weight"], atol=1e-11)
        for b in blocks:
            norm = b.attention_norm.weight.data
            np.testing.assert_allclose(norm, expected[f"{key}attention_norm.weight"], atol=1e-11)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_the_four_operations_are_two_pairs(p):
    """<g, A x> = <Aᵀ g, x>, over all workers together: each operation's VJP is its transpose."""
    rng = np.random.default_rng(0)
    for operation, rows_in, rows_out in (
        (copy_to, 5, 5), (reduce_from, 5, 5), (gather_from, 2, 2 * p), (scatter_to, 2 * p, 2)
    ):  # fmt: skip
        x, g = rng.normal(size=(p, rows_in, 3)), rng.normal(size=(p, rows_out, 3))

        def program(w, operation=operation, x=x, g=g):
            mine = Tensor(x[w.rank], requires_grad=True)
            y = operation(mine, worker=w)
            y.backward(g[w.rank])
            return y.data, mine.grad

        results = World(p).run(program)
        forward = np.array([y for y, _ in results])
        backward = np.array([dx for _, dx in results])
        if operation in (copy_to, reduce_from):  # x, or g, is one array that every worker has
            shared = x[0] if operation is copy_to else g[0]
            assert shared.shape == (5, 3)
            total = (g if operation is copy_to else x).sum(axis=0)
            summed = backward if operation is copy_to else forward
            np.testing.assert_allclose(summed, np.broadcast_to(total, summed.shape), atol=1e-12)
            passed, given = (forward, x) if operation is copy_to else (backward, g)
            np.testing.assert_array_equal(passed, given)
        else:
            assert np.sum(g * forward) == pytest.approx(np.sum(backward * x), rel=1e-12)


def test_one_sum_each_way_for_a_split_pair():
    """Column then row: one all-reduce of the rows forward, one backward, and right gradients."""
    d, hidden, n = 5, 6, 7
    rng = np.random.default_rng(0)
    up = Linear(d, hidden, rng=rng, dtype="float64")
    down = Linear(hidden, d, rng=rng, dtype="float64")
    x, g = rng.normal(size=(2, n, d))

    whole = Tensor(x, requires_grad=True)
    down(up(whole).relu()).backward(g)
    world = World(3)

    def program(w):
        mine = Tensor(x, requires_grad=True)
        first, second = ColumnParallelLinear(w, up), RowParallelLinear(w, down)
        y = second(first(mine).relu())
        y.backward(g)
        return y.data, mine.grad, first.weight.grad, second.weight.grad, second.bias.grad

    results = world.run(program)
    for y, dx, _, _, bias in results:
        np.testing.assert_allclose(y, down(up(Tensor(x)).relu()).data, atol=1e-12)
        np.testing.assert_allclose(dx, whole.grad, atol=1e-12)
        np.testing.assert_allclose(bias, down.bias.grad, atol=1e-12)
    np.testing.assert_allclose(np.concatenate([r[2] for r in results]), up.weight.grad, atol=1e-12)
    np.testing.assert_allclose(
        np.concatenate([r[3] for r in results], axis=1), down.weight.grad, atol=1e-12
    )
    assert sum(world.bytes_sent) == 2 * 2 * 2 * x.nbytes  # 2 all-reduces, 2(p − 1) arrays in all


@pytest.mark.parametrize("symbols", [1, 2, 23])
def test_vocab_parallel_loss_and_gradient(symbols):
    rng = np.random.default_rng(3)
    logits, g = rng.normal(size=(2, 5, symbols)) * 30, rng.normal(size=(2, 5))
    targets = rng.integers(0, symbols, (2, 5))
    whole = Tensor(logits, requires_grad=True)
    expected = cross_entropy(whole, targets, reduction="none")
    expected.backward(g)

    def program(w):
        part = chunks(symbols, w.size)[w.rank]
        mine = Tensor(logits[..., part].copy(), requires_grad=True)
        loss = vocab_parallel_cross_entropy(mine, targets=targets, start=part.start, worker=w)
        loss.backward(g)
        return loss.data, mine.grad

    results = World(3).run(program)
    for loss, _ in results:
        np.testing.assert_allclose(loss, expected.data, atol=1e-11)
    joined = np.concatenate([gradient for _, gradient in results], axis=-1)
    np.testing.assert_allclose(joined, whole.grad, atol=1e-12)


def test_sequence_parallel_norm_and_its_way_back():
    rng = np.random.default_rng(4)
    x, g = rng.normal(size=(2, 3, 5, 8))
    norm = LayerNorm(8, dtype="float64")
    whole = Tensor(x, requires_grad=True)
    (norm(whole) * 2).backward(g)

    def program(w):
        part = chunks(5, w.size)[w.rank]
        own = LayerNorm(8, dtype="float64")
        layer = SequenceParallelNorm(w, own)
        mine = Tensor(x[:, part].copy(), requires_grad=True)
        layer.back(layer(mine)).backward(g[:, part])  # every worker adds the same rows: × p
        return mine.grad, own.weight.grad

    results = World(2).run(program)
    joined = np.concatenate([dx for dx, _ in results], axis=1)
    np.testing.assert_allclose(joined, whole.grad, atol=1e-12)
    np.testing.assert_allclose(sum(r[1] for r in results), norm.weight.grad, atol=1e-12)


def test_vocab_parallel_embedding_refuses_other_ids():
    with pytest.raises(IndexError, match="reach from 0 to 5, the table from 0 to 4"):
        World(2).run(lambda w: VocabParallelEmbedding(w, Tensor(np.ones((5, 2))))(np.array([0, 5])))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w: TensorParallelGPT(w, model()), "4 heads do not divide among 3"),
        (lambda w: Zero(w, [], 3, adam), "stage is 1 or 2, not 3"),
        (lambda w: ColumnParallelLinear(w, Linear(3, 4, rng=RNG)), "4 outputs do not divide"),
        (lambda w: RowParallelLinear(w, Linear(4, 3, rng=RNG)), "4 inputs do not divide"),
        (lambda w: scatter_to(np.array(1.0), worker=w), "without axes"),
    ],
)
def test_errors_say_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        World(3).run(call)


def test_an_outer_step_is_nesterovs_of_pytorch_on_the_mean_movement():
    torch = pytest.importorskip("torch")
    start, moved = np.random.default_rng(5).normal(size=(2, 7)), np.random.default_rng(6)
    steps = moved.normal(size=(4, 3, 2, 7))  # four stretches of three workers

    def program(worker):
        p = Tensor(start.copy(), requires_grad=True)
        outer = DiLoCo(worker, [p], rate=0.7, momentum=0.9)
        for stretch in steps:
            p.data -= stretch[worker.rank]
            outer.agree()
        return p.data

    expected = torch.tensor(start, requires_grad=True)
    sgd = torch.optim.SGD([expected], lr=0.7, momentum=0.9, nesterov=True)
    for stretch in steps:
        expected.grad = torch.tensor(stretch.mean(axis=0))
        sgd.step()
    results = World(3).run(program)
    for result in results:
        np.testing.assert_allclose(result, expected.detach().numpy(), rtol=0, atol=1e-13)


def test_agreeing_after_every_plain_step_is_data_parallelism():
    start = np.random.default_rng(7).normal(size=11)
    steps = np.random.default_rng(8).normal(size=(5, 2, 11))

    def program(worker):
        p = Tensor(start.copy(), requires_grad=True)
        outer = DiLoCo(worker, [p], rate=1.0, momentum=0.0)
        for gradients in steps:
            p.data -= 0.1 * gradients[worker.rank]
            outer.agree()
        return p.data

    expected = start - 0.1 * steps.mean(axis=1).sum(axis=0)
    for result in World(2).run(program):
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-13)
