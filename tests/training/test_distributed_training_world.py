"""The simulator and its collectives: against NumPy's sums, closed forms, and injected faults."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.training.distributed_training.collectives import (
    all_gather,
    all_reduce,
    all_to_all,
    barrier,
    broadcast,
    central_all_reduce,
    chunks,
    collective_bytes,
    reduce_scatter,
    ring_seconds,
)
from chainrule.training.distributed_training.world import (
    CommunicationError,
    Group,
    Link,
    World,
)


def arrays(p, shape, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) for _ in range(p)]


@settings(max_examples=25, deadline=None)
@given(p=st.integers(1, 7), n=st.integers(0, 13), seed=st.integers(0, 99))
def test_all_reduce_is_the_sum_and_the_same_bits_everywhere(p, n, seed):
    given = arrays(p, n, seed=seed)
    results = World(p).run(lambda w: all_reduce(w, given[w.rank]))
    np.testing.assert_allclose(results[0], np.sum(given, axis=0), rtol=1e-12, atol=1e-12)
    assert all(np.array_equal(results[0], other) for other in results)


@pytest.mark.parametrize("shape", [(), (1, 1), (3, 5, 2), (0, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8])
def test_all_reduce_keeps_shape_and_type(shape, dtype):
    given = [np.full(shape, i + 1, dtype) for i in range(3)]
    for result in World(3).run(lambda w: all_reduce(w, given[w.rank])):
        assert result.shape == shape
        assert result.dtype == dtype
        assert (result == 6).all()


def test_all_reduce_passes_on_what_is_no_number():
    given = [np.array([1e200, np.nan, np.inf]), np.array([1e-200, 1.0, 1.0])]
    for result in World(2).run(lambda w: all_reduce(w, given[w.rank])):
        np.testing.assert_array_equal(result, [1e200, np.nan, np.inf])


def test_all_reduce_leaves_its_input_alone():
    given = arrays(5, 11)
    before = [a.copy() for a in given]
    World(5).run(lambda w: all_reduce(w, given[w.rank]))
    for a, b in zip(given, before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_maximum_in_the_ring():
    given = arrays(5, 7)
    for result in World(5).run(lambda w: all_reduce(w, given[w.rank], np.maximum)):
        np.testing.assert_array_equal(result, np.max(given, axis=0))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_reduce_scatter_then_all_gather_along_an_axis(axis):
    given = arrays(3, (5, 7))

    def program(w):
        piece = reduce_scatter(w, given[w.rank], axis)
        return piece, all_gather(w, piece, axis)

    total = np.sum(given, axis=0)
    for rank, (piece, whole) in enumerate(World(3).run(program)):
        part = [slice(None), slice(None)]
        part[axis] = chunks(total.shape[axis], 3)[rank]
        np.testing.assert_allclose(piece, total[tuple(part)], rtol=1e-12)
        np.testing.assert_allclose(whole, total, rtol=1e-12)


def test_central_all_reduce_agrees_and_loads_one_worker():
    given = arrays(5, 20)
    world = World(5)
    for result in world.run(lambda w: central_all_reduce(w, given[w.rank])):
        np.testing.assert_allclose(result, np.sum(given, axis=0), rtol=1e-12)
    assert world.bytes_sent == [4 * 160, 160, 160, 160, 160]


def test_all_to_all_is_a_transposition():
    given = np.random.default_rng(0).normal(size=(5, 5, 3))
    results = World(5).run(lambda w: all_to_all(w, list(given[w.rank])))
    np.testing.assert_array_equal(np.array(results), given.transpose(1, 0, 2))


@pytest.mark.parametrize("root", [0, 2, 3])
def test_broadcast(root):
    value = np.arange(3.0)
    world = World(4)
    for got in world.run(lambda w: broadcast(w, value if w.rank == root else None, root)):
        np.testing.assert_array_equal(got, value)
    assert sum(world.bytes_sent) == 3 * value.nbytes


@pytest.mark.parametrize("p", [1, 2, 3, 8])
@pytest.mark.parametrize("kind", ["all_reduce", "reduce_scatter", "all_gather", "all_to_all"])
def test_bytes_and_seconds_equal_the_closed_forms(kind, p):
    n = 8 * 3 * 5
    whole = np.ones(n)
    calls = {
        "all_reduce": lambda w: all_reduce(w, whole),
        "reduce_scatter": lambda w: reduce_scatter(w, whole),
        "all_gather": lambda w: all_gather(w, whole[: n // p]),
        "all_to_all": lambda w: all_to_all(w, [whole[: n // p]] * p),
    }
    latency, bandwidth = 3e-6, 7e9
    world = World(p, Link(latency, bandwidth))
    world.run(calls[kind])
    assert world.bytes_sent == [collective_bytes(kind, whole.nbytes, p)] * p
    if kind != "all_to_all":  # whose messages leave one after the other, with one latency
        expected = ring_seconds(kind, whole.nbytes, p, latency, bandwidth)
        assert world.time == pytest.approx(expected, rel=1e-12, abs=0)
    elif p > 1:
        expected = latency + collective_bytes(kind, whole.nbytes, p) / bandwidth
        assert world.time == pytest.approx(expected, rel=1e-12)


def test_seven_billion_gradients_on_eight_workers():
    assert collective_bytes("all_reduce", 2 * 7e9, 8) == 24.5e9


@pytest.mark.parametrize(("n", "p", "sizes"), [(7, 3, [3, 2, 2]), (2, 5, [1, 1, 0, 0, 0])])
def test_chunks_differ_by_at_most_one(n, p, sizes):
    assert [len(range(n)[part]) for part in chunks(n, p)] == sizes


def test_a_barrier_waits_for_the_slowest():
    world = World(3)

    def program(w):
        w.compute([1.0, 5.0, 2.0][w.rank])
        barrier(w)
        return w.clock

    assert world.run(program) == [5.0, 5.0, 5.0]
    assert [w.busy for w in world.workers] == [1.0, 5.0, 2.0]


def test_one_port_sends_one_message_at_a_time():
    world = World(3, Link(1.0, 10.0))

    def program(w):
        if w.rank == 0:
            w.send(1, np.zeros(10, np.uint8))
            w.send(2, np.zeros(20, np.uint8))
        else:
            w.receive(0)
        return w.clock

    assert world.run(program) == [0.0, 2.0, 4.0]


def test_groups_reduce_among_themselves():
    def program(w):
        row, column = divmod(w.rank, 3)
        across = Group(w, [3 * row + i for i in range(3)])
        down = Group(w, [column, 3 + column])
        a = all_reduce(across, np.array([w.rank]))
        return all_reduce(down, a)[0]

    assert World(6).run(program) == [15] * 6


# ---- injected faults -------------------------------------------------------------------------


class Faulty(World):
    """Does something else with the ``nth`` message of worker 1."""

    def __init__(self, size, fault, nth=2):
        super().__init__(size)
        self.fault, self.nth, self.count, self.held = fault, nth, 0, None

    def post(self, worker, to, array, tag):
        if worker.rank != 1:
            return super().post(worker, to, array, tag)
        self.count += 1
        if self.count == self.nth:
            if self.fault == "lost":
                return None
            if self.fault == "late":
                self.held = (worker, to, array, tag)
                return None
            if self.fault == "twice":
                super().post(worker, to, array, tag)
        super().post(worker, to, array, tag)
        if self.held is not None:
            super().post(*self.held)
            self.held = None
        return None


@pytest.mark.parametrize("nth", range(1, 7))
def test_fault_lost_chunk_is_named(nth):
    with pytest.raises(CommunicationError, match=r"nobody sends|expected .* got"):
        Faulty(4, "lost", nth).run(lambda w: all_reduce(w, np.arange(8.0)))


@pytest.mark.parametrize("nth", range(1, 7))
def test_fault_chunk_twice_is_named(nth):
    with pytest.raises(CommunicationError, match=r"expected|never read"):
        Faulty(4, "twice", nth).run(lambda w: all_reduce(w, np.arange(8.0)))


def test_fault_chunks_out_of_order_are_named():
    def program(w):
        if w.rank == 1:
            for i in range(3):
                w.send(0, np.ones(2), i)
        else:
            for i in range(3):
                w.receive(1, i)

    World(2).run(program)
    with pytest.raises(CommunicationError, match="expected 1 from worker 1, got 2"):
        Faulty(2, "late").run(program)


def test_fault_one_worker_skips_a_collective():
    def program(w):
        if w.rank != 2:
            all_reduce(w, np.ones(3))

    with pytest.raises(CommunicationError, match="nobody sends"):
        World(3).run(program)


def test_fault_shapes_that_differ_are_named():
    with pytest.raises(ValueError, match="pieces of one shape"):
        World(2).run(lambda w: all_reduce(w, np.ones(4 + 2 * w.rank)))


def test_fault_message_that_nobody_reads():
    with pytest.raises(CommunicationError, match="sent 1 messages to worker 1 that it never read"):
        World(2).run(lambda w: w.send(1, np.ones(1)) if w.rank == 0 else None)


def test_an_error_on_one_worker_ends_the_run_and_says_where():
    def program(w):
        if w.rank == 1:
            raise KeyError("broken")
        return w.receive(1)

    with pytest.raises(KeyError, match="broken") as caught:
        World(3).run(program)
    assert caught.value.__notes__ == ["on worker 1 of 3"]


def test_a_world_goes_on_after_an_error():
    world = World(2)
    with pytest.raises(CommunicationError):
        world.run(lambda w: w.receive(1 - w.rank))
    assert world.run(lambda w: w.rank) == [0, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: World(0), "at least 1 worker, got 0"),
        (lambda: Link(-1.0), "latency ≥ 0"),
        (lambda: Link(0.0, 0.0), "bandwidth > 0"),
        (lambda: Link(np.nan), "latency ≥ 0"),
        (lambda: chunks(3, 0), "at least 1 worker"),
        (lambda: collective_bytes("sum", 1, 2), "kind is one of"),
        (lambda: World(2).run(lambda w: w.send(w.rank, np.ones(1))), "cannot send"),
        (lambda: World(2).run(lambda w: w.receive(5)), "cannot receive"),
        (lambda: World(2).run(lambda w: all_to_all(w, [])), "a part for each of 2"),
        (lambda: World(2).run(lambda w: Group(w, [0])), "needs a place"),
        (lambda: World(1).run(lambda w: w.compute(-1.0)), "at least 0 seconds"),
        (lambda: World(1).run(lambda w: reduce_scatter(w, np.array(1.0))), "without axes"),
    ],
)
def test_errors_say_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()
