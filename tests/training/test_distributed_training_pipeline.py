"""Schedules against their closed forms and against causality; the pipeline against one worker."""

import numpy as np
import pytest

from chainrule.neural_networks.backpropagation import grad
from chainrule.training.distributed_training.pipeline import PipelineStage, run_pipeline
from chainrule.training.distributed_training.schedules import (
    KINDS,
    Action,
    ScheduleError,
    bubble,
    bubble_fraction,
    check_schedule,
    peak_in_flight,
    schedule,
    timeline,
)
from chainrule.training.distributed_training.world import CommunicationError, Link, World
from chainrule.training.loss_functions import cross_entropy
from chainrule.transformers.gpt import GPT, gpt_config

UNIT = {"gpipe": {"F": 1.0, "B": 2.0}, "1f1b": {"F": 1.0, "B": 2.0}}
UNIT["zb-h1"] = {"F": 1.0, "B": 1.0, "W": 1.0}
CONFIG = gpt_config(vocab_size=23, context=11, layers=4, heads=2, width=6, dtype="float64")
ROWS = np.random.default_rng(1).integers(0, 23, (5, 8))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("p", "m"), [(1, 1), (1, 3), (2, 5), (3, 3), (4, 8), (5, 7), (8, 32)])
def test_idle_time_equals_the_closed_form(kind, p, m):
    order = schedule(kind, p, m)
    check_schedule(order, m)
    measured = bubble(timeline(order, UNIT[kind]))
    assert measured == pytest.approx(bubble_fraction(kind, p, m), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("p", "m"), [(2, 1), (4, 2), (7, 3)])
def test_fewer_micro_batches_than_workers_are_still_possible(kind, p, m):
    check_schedule(schedule(kind, p, m), m)


@pytest.mark.parametrize("cost", [{"F": 1.3, "B": 2.9}, {"F": 2.0, "B": 0.5}])
def test_other_costs_for_the_schedules_without_w(cost):
    for kind in ("gpipe", "1f1b"):
        measured = bubble(timeline(schedule(kind, 3, 5), cost))
        closed = bubble_fraction(kind, 3, 5, forward=cost["F"], backward=cost["B"])
        assert measured == pytest.approx(closed, abs=1e-12)


@pytest.mark.parametrize(("p", "m", "v"), [(1, 3, 1), (2, 4, 3), (3, 3, 2), (4, 8, 2), (5, 15, 4)])
@pytest.mark.parametrize("cost", [{"F": 1.0, "B": 2.0}, {"F": 1.5, "B": 1.5}])
def test_laps_wait_a_part_of_the_time(p, m, v, cost):
    order = schedule("interleaved", p, m, v)
    check_schedule(order, m)
    measured = bubble(timeline(order, {kind: time / v for kind, time in cost.items()}))
    closed = bubble_fraction("interleaved", p, m, v, forward=cost["F"], backward=cost["B"])
    assert measured == pytest.approx(closed, abs=1e-12)
    if v == 1:
        assert order == schedule("1f1b", p, m)


def test_fault_a_second_lap_before_the_first():
    order = schedule("interleaved", 2, 2, 2)
    order[0].sort(key=lambda action: -action.chunk)
    with pytest.raises(ScheduleError, match=r"waits forever to do F0\.1"):
        check_schedule(order, 2)


def test_a_stage_runs_no_laps():
    def program(worker):
        stage = PipelineStage(worker, GPT(CONFIG, np.random.default_rng(0)))
        run_pipeline(worker, stage, [Action("F", 0, 1)], [ROWS], lambda y, i: y.sum())

    with pytest.raises(ValueError, match="one stage"):
        World(1).run(program)


def test_laps_need_whole_groups():
    with pytest.raises(ValueError, match="6 micro-batches are no multiple of 4 workers"):
        schedule("interleaved", 4, 6)


def test_laps_hold_more_than_one_lap():
    pieces = [peak_in_flight(actions) for actions in schedule("interleaved", 4, 8, 2)]
    assert pieces == [11, 9, 7, 5]  # half pieces: up to 5.5 micro-batches of a worker's layers


def test_the_numbers_of_the_page():
    percent = {k: round(100 * bubble_fraction(k, 4, 8), 1) for k in KINDS}
    assert percent == {"gpipe": 27.3, "1f1b": 27.3, "zb-h1": 11.1}
    assert bubble_fraction("interleaved", 4, 8, chunks=2) == pytest.approx(1.5 / 9.5)
    assert bubble_fraction("interleaved", 4, 8, chunks=1) == bubble_fraction("1f1b", 4, 8)


def test_activations_held():
    held = {k: [peak_in_flight(a) for a in schedule(k, 4, 8)] for k in KINDS}
    assert held == {"gpipe": [8] * 4, "1f1b": [4, 3, 2, 1], "zb-h1": [4] * 4}


def trained_alone():
    gpt = GPT(CONFIG, np.random.default_rng(0))
    loss = cross_entropy(gpt(ROWS[:, :-1]), ROWS[:, 1:], reduction="sum")
    names = dict(gpt.named_parameters())
    return dict(zip(names, grad(loss, list(names.values())), strict=True)), loss.item()


def pipeline_program(order, seconds=None):
    def program(w):
        gpt = GPT(CONFIG, np.random.default_rng(0))
        stage = PipelineStage(w, gpt)
        loss = run_pipeline(
            w, stage, order[w.rank], [row[None, :-1] for row in ROWS],
            lambda y, i: cross_entropy(y, ROWS[i : i + 1, 1:], reduction="sum"), seconds,
        )  # fmt: skip
        stage.share_table()
        named = dict(gpt.named_parameters())
        kept = {id(q) for q in stage.parameters()}
        return {name: q.grad for name, q in named.items() if id(q) in kept}, loss

    return program


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("p", [1, 3, 4])
def test_pipeline_gives_the_gradients_of_one_worker(kind, p):
    expected, loss = trained_alone()
    world = World(p, Link(0.0, 1e300))
    results = world.run(pipeline_program(schedule(kind, p, len(ROWS)), UNIT[kind]))
    assert results[-1][1] == pytest.approx(loss, rel=1e-12)
    seen = set()
    for gradients, _ in results:
        for name, gradient in gradients.items():
            np.testing.assert_allclose(gradient, expected[name], atol=1e-11, err_msg=name)
            seen.add(name)
    assert seen == set(expected)
    assert bubble(world.events) == pytest.approx(bubble_fraction(kind, p, len(ROWS)), abs=1e-9)


# ---- injected faults -------------------------------------------------------------------------


def swapped(order, rank, i, j):
    order = [list(actions) for actions in order]
    order[rank][i], order[rank][j] = order[rank][j], order[rank][i]
    return order


def test_fault_backward_before_its_forward():
    order = schedule("1f1b", 2, 3)
    bad = swapped(order, 1, 0, 1)  # B0 before F0 on the last worker
    with pytest.raises(ScheduleError, match=r"worker \d waits forever"):
        check_schedule(bad, 3)


def test_fault_weights_before_their_backward():
    order = schedule("zb-h1", 1, 1)
    with pytest.raises(ScheduleError, match="waits forever to do W0"):
        check_schedule([[Action("F", 0), Action("W", 0), Action("B", 0)]], 1)
    check_schedule(order, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: [*a, Action("F", 0)], "does F0 twice"),
        (lambda a: a[:-1], "never does B2"),
        (lambda a: [*a, Action("F", 3)], "there is no F3"),
    ],
)
def test_fault_twice_never_and_unknown(change, message):
    order = schedule("gpipe", 2, 3)
    order[1] = change(order[1])
    with pytest.raises(ScheduleError, match=message):
        check_schedule(order, 3)


def messages(order):
    """A run of nothing but the messages: workers that forget no order and compute nothing."""

    def program(w):
        done = set()
        for kind, i, _ in order[w.rank]:
            source = w.rank + (1 if kind == "B" else -1)
            if 0 <= source < w.size:
                w.receive(source, (kind, i))
            if kind == "B" and ("F", i) not in done:
                raise CommunicationError("backward before forward")
            done.add((kind, i))
            to = w.rank + (-1 if kind == "B" else 1)
            if 0 <= to < w.size:
                w.send(to, np.zeros(1), (kind, i))

    return program


@pytest.mark.parametrize("kind", ["gpipe", "1f1b"])
def test_fault_any_two_neighbours_that_change_places_are_caught(kind):
    """A swap fails in the run; or it is F and B of different micro-batches, and costs time only."""
    order = schedule(kind, 3, 4)
    World(3).run(messages(order))
    fastest = max(e.end for e in timeline(order, UNIT[kind]))
    caught = 0
    for rank in range(3):
        for i in range(len(order[rank]) - 1):
            bad = swapped(order, rank, i, i + 1)
            try:
                World(3).run(messages(bad))
            except CommunicationError:
                caught += 1
                continue
            first, second = order[rank][i], order[rank][i + 1]
            assert first.kind != second.kind
            assert first.batch != second.batch
            check_schedule(bad, 4)
            assert max(e.end for e in timeline(bad, UNIT[kind])) >= fastest
    assert caught > 0


def test_fault_workers_that_disagree_on_the_order_are_named_in_the_run():
    bad = swapped(schedule("gpipe", 3, len(ROWS)), 1, 0, 1)
    with pytest.raises(CommunicationError, match=r"expected \('F', 1\) .* got \('F', 0\)"):
        World(3).run(pipeline_program(bad))


def test_fault_table_that_is_not_shared_has_half_its_gradient():
    expected, _ = trained_alone()

    def program(w):
        gpt = GPT(CONFIG, np.random.default_rng(0))
        stage = PipelineStage(w, gpt)
        run_pipeline(
            w, stage, schedule("gpipe", 2, 5)[w.rank], [row[None, :-1] for row in ROWS],
            lambda y, i: cross_entropy(y, ROWS[i : i + 1, 1:], reduction="sum"),
        )  # fmt: skip
        return gpt.tokens.weight.grad

    first, last = World(2).run(program)
    assert not np.allclose(first, expected["tokens.weight"])
    np.testing.assert_allclose(first + last, expected["tokens.weight"], atol=1e-11)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: schedule("2f2b", 1, 1), "one of"),
        (lambda: schedule("gpipe", 0, 1), "at least 1 worker"),
        (lambda: schedule("gpipe", 1, 0), "1 micro-batch"),
        (lambda: bubble_fraction("dual", 1, 1), "kind is one of"),
        (
            lambda: World(5).run(lambda w: PipelineStage(w, GPT(CONFIG, np.random.default_rng(0)))),
            "4 layers are too few for 5 workers",
        ),
    ],
)
def test_errors_say_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()
