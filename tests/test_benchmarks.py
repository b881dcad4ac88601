"""The benchmarks compare what they say they compare."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import convolutions, decoding, peers, predictions, scaling, timing
from benchmarks.__main__ import BENCHMARKS, machine, table

ROOT = Path(__file__).parent.parent


def test_contestants_take_turns():
    calls = []
    seconds = timing.interleave(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3, warm_up=1
    )
    assert "".join(calls) == "abababab"
    assert [len(times) for times in seconds.values()] == [3, 3]


def test_ratio_is_taken_within_rounds():
    slow_machine = np.array([1.0, 10.0, 1.0])
    assert timing.median_ratio(list(2 * slow_machine), list(slow_machine)) == 2


def test_slope_of_a_power_law():
    sizes = (3, 5, 11, 23)
    assert scaling.slope(sizes, [7 * s**1.7 for s in sizes]) == pytest.approx(1.7)


def test_flops_of_a_step_against_a_count_by_hand():
    size = {"batch": 2, "time": 3, "layers": 5, "heads": 7, "width": 14, "vocab": 11}
    d, n = 14, 3
    forward = 2 * n * (5 * 12 * d * d + 11 * d) + 4 * n * n * d * 5
    assert scaling.flops(size) == 3 * 2 * forward


def test_predictions_are_compared_at_every_size_of_the_benchmarks():
    sizes = predictions.sizes()
    assert len(sizes) == 1 + 3 * 3 + 2
    assert sizes["time 512"] == scaling.BASE | {"time": 512}
    tiny = {"batch": 2, "time": 3, "layers": 1, "heads": 2, "width": 4, "vocab": 5}
    ((predicted, measured),) = predictions.ratios(tiny, rounds=1, steps=1)
    assert predicted > 0
    assert measured > 0


@pytest.mark.parametrize("name", [name for name in peers.CONTESTANTS if name != "micrograd"])
def test_every_engine_takes_the_same_steps(name):
    pytest.importorskip(name)
    if name == "tinygrad":
        from tinygrad import Device

        try:
            Device.DEFAULT
        except RuntimeError:
            pytest.skip("tinygrad needs clang; type: apt-get install clang")
    batches = peers.data()[:3]
    ours, theirs = peers.with_chainrule(), peers.CONTESTANTS[name]()
    for batch in batches:
        assert theirs(*batch) == pytest.approx(ours(*batch), rel=1e-5)


def test_micrograd_takes_the_same_step():
    pytest.importorskip("micrograd")
    images, labels = peers.data()[0]
    few = images[:2], labels[:2]
    ours, theirs = peers.with_chainrule(), peers.with_micrograd()
    for _ in range(2):
        assert theirs(*few) == pytest.approx(ours(*few), rel=1e-5)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="read from Linux's /proc")
def test_peak_memory_is_not_that_of_the_process_before():
    fat = (
        "import subprocess, sys; x = bytearray(500 << 20); subprocess.run([sys.executable, '-c', "
        "'from benchmarks.gpt_step import peak_kilobytes; print(peak_kilobytes())'])"
    )
    done = subprocess.run([sys.executable, "-c", fat], cwd=ROOT, capture_output=True, text=True)
    assert 1 << 10 < int(done.stdout) < 300 << 10


@pytest.mark.parametrize("name", convolutions.operations())
def test_every_rung_computes_the_same_convolution(name, monkeypatch):
    for size, value in (("IMAGES", 2), ("CHANNELS", 3), ("SIDE", 10)):
        monkeypatch.setattr(convolutions, size, value)
    arrays, *versions = convolutions.operations()[name]
    results = {key: run() for key, run in convolutions.contestants(arrays, *versions).items()}
    for rung in ("composed", "fused"):
        for mine, theirs in zip(results[rung], results["PyTorch"], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-3)


def test_stored_convolutions_take_at_most_three_times_as_long_as_pytorch():
    stored = json.loads((ROOT / "benchmarks" / "results.json").read_text())["convolutions"]
    assert len(stored["rows"]) == len(convolutions.operations())
    assert all(row["fused_over_pytorch"] <= 3 for row in stored["rows"])


def test_both_decoders_hold_the_same_model():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    model = decoding.course_model("course")
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, (2, 31))
    with torch.inference_mode():
        theirs = decoding.gpt2_of(model)(torch.from_numpy(ids)).logits.numpy()
    np.testing.assert_allclose(model(ids).data, theirs, atol=1e-3)


def test_stored_decoding_is_as_fast_as_it_has_to_be():
    stored = json.loads((ROOT / "benchmarks" / "results.json").read_text())["decoding"]
    ratios = {(r["model"], r["threads"]): r["ratio"] for r in stored["results"]}
    assert len(ratios) == 2 * len(decoding.MODELS) == len(stored["rows"])
    course, small = decoding.MODELS
    for threads in (1, 2):
        assert ratios[course, threads] >= 3
        assert ratios[small, threads] >= 1


def test_unknown_benchmark_is_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "speed"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    names = ", ".join(BENCHMARKS)
    assert done.stderr == f"benchmarks: no speed; choose from {names}\n"


def test_the_machine_is_described_without_every_peer(monkeypatch):
    monkeypatch.setattr("benchmarks.__main__.PACKAGES", ("numpy", "no-such-package"))
    about = machine()
    assert about["numpy"] == np.__version__
    assert "no-such-package" not in about


def test_table_is_markdown():
    assert table([{"a_b": 1, "c": "x"}]) == "| a b | c |\n| --- | --- |\n| 1 | x |"
