"""The planner's terms against hand-made closed forms, published counts and published runs."""

from dataclasses import replace

import pytest

from chainrule.training.distributed_training.hardware import (
    A100,
    DEEPSEEK_V3,
    H100,
    H800,
    LLAMA_3_405B,
    sizes_of,
)
from chainrule.training.distributed_training.planner import (
    Mesh,
    activation_bytes,
    memory_model,
    plan,
    step_time_model,
)
from chainrule.training.distributed_training.world import Link
from chainrule.transformers.transformer_architecture import (
    GPT2_XL,
    LLAMA_3_8B,
    MIXTRAL_8X7B,
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


def test_one_device_has_no_communication_and_runs_at_measured_rates():
    time = step_time_model(GPT2_XL, Mesh(), H100, 4, 1024)
    assert (time.tensor, time.experts, time.idle, time.data) == (0, 0, 0, 0)
    scores = 4 * 1024 * 1024 * GPT2_XL.width * GPT2_XL.decoder_layers  # all of one sequence
    work = 4 * 3 * (count_flops(GPT2_XL, 1024) - scores)
    assert time.products == pytest.approx(work / 794.5e12, rel=2e-3)  # biases, norms: no products
    assert time.scores == pytest.approx(4 * 3.5 * scores / 2 / (0.35 * 989e12))
    assert time.utilization < H100.products / H100.flops


def test_sizes_add_up_to_published_counts():
    for cfg in (GPT2_XL, LLAMA_3_8B, MIXTRAL_8X7B):
        sizes = sizes_of(cfg)
        assert sizes.parameters == count_params(cfg)
        whole = sizes.layers * (sizes.shared + sizes.routed) + sizes.tables
        assert whole == count_params(cfg, active=True)
        assert sizes.flops(1024) * 1024 == pytest.approx(count_flops(cfg, 1024), rel=2e-3)
    # the report counts 671 billion, 37 of them used, without the block of the second symbol
    s = DEEPSEEK_V3
    assert 671e9 < s.parameters < 671e9 + 14e9
    used = 61 * (s.shared + s.routed) + s.tables / 2 - s.width**2
    assert used == pytest.approx(37e9, rel=0.02)


def test_eight_bits_on_h800_run_at_the_measured_shapes():
    assert H800.products8 == pytest.approx(1187.6e12, rel=1e-4)
    assert H800.products == H100.products


def test_rows_to_experts_travel_once_to_each_machine():
    def at(**more):
        return step_time_model(DEEPSEEK_V3, Mesh(128, pipeline=16, **more), H800, 15_360, 4096)

    assert at().experts == 0
    slow = replace(H800, outside=Link(0.0, 5e9))
    mesh = Mesh(128, pipeline=16, experts=64, bits=8)
    time = step_time_model(DEEPSEEK_V3, mesh, slow, 15360, 4096)
    # 4 machines of 8, an eighth of them the own; one byte out and two back, in both passes
    travel = 62 / 16 * 120 * 4096 * 2 * 3.5 * 3 * 7168 / 5e9
    assert time.experts == pytest.approx(travel - sum(time[:3]))
    assert at(experts=64).products > at().products  # a part of the device moves rows


@pytest.mark.parametrize(
    ("data", "devices", "rate"), [(64, 8192, 430e12), (128, 16384, 400e12)]
)  # fmt: skip
def test_llama_405b_takes_the_published_time_within_a_quarter(data, devices, rate):
    mesh = Mesh(data, 8, 16, 8, gradient=4)
    assert mesh.devices == devices
    time = step_time_model(LLAMA_3_405B, mesh, H100, 2048, 8192).total
    published = 6 * count_params(LLAMA_3_405B) * 2048 * 8192 / devices / rate
    assert abs(time / published - 1) < 0.25
    assert time < published  # the model leaves things out, and adds none


def test_deepseek_v3_takes_the_published_time_within_a_quarter():
    mesh = Mesh(128, pipeline=16, experts=64, bits=8)
    assert mesh.devices == 2048
    time = step_time_model(DEEPSEEK_V3, mesh, H800, 15_360, 4096)
    assert 0.75 < time.total / 19.926 < 1
    hours = 2048 * time.total / 3600 * 14.8e12 / (15_360 * 4096)
    assert 0.75 < hours / 2.664e6 < 1
    assert time.experts == 0  # hidden, as in the report


def test_interleaving_divides_the_wait_and_holds_more():
    one, eight = (Mesh(64, 8, 16, chunks) for chunks in (1, 8))
    wait = [step_time_model(LLAMA_3_405B, m, H100, 2048, 8192).idle for m in (one, eight)]
    assert wait[0] == pytest.approx(8 * wait[1])
    held = [memory_model(LLAMA_3_405B, m, 8192, 32).activations for m in (one, eight)]
    assert held[1] / held[0] == pytest.approx(1 + 15 / (16 * 8))


def test_slower_devices_take_longer():
    times = [step_time_model(LLAMA_3_8B, Mesh(8), d, 64, 4096).total for d in (H100, A100)]
    assert times[1] > 2 * times[0]


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
        assert time.total == pytest.approx(sum(time[:8]))
        assert 0 < time.utilization < H100.products / H100.flops


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
        (lambda: Mesh(bits=4), "8 or 16 bits, not 4"),
        (lambda: Mesh(data=6, experts=4), "4 does not divide the 6 data workers"),
        (lambda: step_time_model(GPT2_XL, Mesh(data=3), H100, 4, 8), "4 sequences do not divide"),
        (lambda: plan(GPT2_XL, H100, 0, 1, 1), "at least 1, got 0"),
    ],
)
def test_errors_say_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()
