"""The planner's terms against hand-made closed forms, published counts and published runs."""

from dataclasses import replace

import pytest

from chainrule.training.distributed_training.planner import (
    H100,
    LLAMA_3_405B,
    Mesh,
    activation_bytes,
    memory_model,
    plan,
    step_time_model,
)
from chainrule.transformers.transformer_architecture import (
    GPT2_XL,
    LLAMA_3_8B,
    count_flops,
    count_params,
)


def test_llama_405b_has_its_published_size():
    assert count_params(LLAMA_3_405B) == 405_853_388_800


def test_activations_of_gpt_blocks_equal_korthikanti():
    h, a, s = GPT2_XL.width, GPT2_XL.heads, 1024
    with_dropout = replace(GPT2_XL, dropout=0.1)
    assert activation_bytes(with_dropout, s) == 34 * s * h
    assert activation_bytes(GPT2_XL, s) == 32 * s * h
    assert activation_bytes(with_dropout, s, True) == s * h * (34 + 5 * a * s / h)


def test_one_device_has_no_communication_and_runs_at_its_efficiency():
    time = step_time_model(GPT2_XL, Mesh(), H100, 4, 1024)
    assert (time.tensor, time.idle, time.data) == (0, 0, 0)
    work = 4 * 3 * count_flops(GPT2_XL, 1024)
    assert time.compute == pytest.approx(work / (H100.flops * H100.efficiency))
    assert time.utilization < H100.efficiency


def test_memory_of_one_device_is_sixteen_bytes_a_parameter():
    memory = memory_model(LLAMA_3_8B, Mesh(), 8192, 1)
    assert memory.states == pytest.approx(16 * count_params(LLAMA_3_8B), rel=1e-12)
    assert memory.activations == 32 * activation_bytes(LLAMA_3_8B, 8192)


def test_splits_divide_what_they_split():
    whole = memory_model(LLAMA_3_8B, Mesh(), 8192, 8)
    tensor = memory_model(LLAMA_3_8B, Mesh(tensor=8), 8192, 8)
    assert tensor.total == pytest.approx(whole.total / 8)
    sharded = memory_model(LLAMA_3_8B, Mesh(data=8, stage=3), 8192, 8)
    assert sharded.states == pytest.approx(whole.states / 8)
    deep = memory_model(LLAMA_3_8B, Mesh(pipeline=4), 8192, 8)  # 4 in flight, a quarter of layers
    assert deep.activations == whole.activations
    shallow = memory_model(LLAMA_3_8B, Mesh(pipeline=4), 8192, 2)
    assert shallow.activations == whole.activations / 2


def test_the_terms_add_up_and_the_peak_bounds_the_use():
    for found in plan(LLAMA_3_8B, H100, 16, 64, 4096):
        mesh, memory, time = found
        assert mesh.devices == 16
        assert memory.total <= 0.9 * H100.memory
        assert time.total == pytest.approx(sum(time[:5]))
        assert 0 < time.utilization < H100.efficiency


def test_plans_come_fastest_first_and_none_if_nothing_fits():
    times = [found.time.total for found in plan(LLAMA_3_8B, H100, 8, 64, 8192)]
    assert times == sorted(times)
    assert len(times) > 10
    assert plan(LLAMA_3_8B, H100, 1, 1, 8192) == []  # 128 GB of states on 80 GB


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Mesh(data=0), "data ≥ 1, got 0"),
        (lambda: Mesh(stage=4), "0, 1, 2 or 3, not 4"),
        (lambda: step_time_model(GPT2_XL, Mesh(data=3), H100, 4, 8), "4 sequences do not divide"),
        (lambda: plan(GPT2_XL, H100, 0, 1, 1), "at least 1, got 0"),
    ],
)
def test_errors_say_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()
