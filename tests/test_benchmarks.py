"""The benchmarks compare what they say they compare."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import (
    convolutions,
    decoding,
    gpu,
    peers,
    predictions,
    scaling,
    smollm2_lora,
    timing,
    twin,
)
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


def test_stored_smollm2_is_as_fast_and_as_equal_as_it_has_to_be():
    stored = json.loads((ROOT / "benchmarks" / "results.json").read_text())["smollm2"]
    one, two = stored["results"]
    assert (one["threads"], two["threads"]) == (1, 2)
    assert min(one["ratio"], two["ratio"]) >= 1
    assert one["share_of_memory"] >= 0.6
    assert one["first_token_seconds"] < 2
    assert stored["start"]["process_seconds"] < 5
    same = stored["agreement"]
    assert same["prompts"] == same["same_tokens"] == 50
    assert same["furthest_score"] < 1e-3


def test_stored_lora_chose_its_rate_on_validation_and_kept_within_its_tokens():
    stored = json.loads(smollm2_lora.STORED.read_text())
    assert stored["tokens"] <= 8000
    assert len(stored["tried"]) == 3
    seeds = [run["seed"] for run in stored["runs"]]
    assert len(seeds) == len(set(seeds)) >= 3
    best = min(stored["tried"], key=lambda run: (-run["chosen by"][0], run["chosen by"][1]))
    assert {run["rate"] for run in stored["runs"]} == {best["rate"]} == {stored["rate"]}


def test_words_of_the_lora_test_occur_in_no_training_example():
    rng = np.random.default_rng(3)
    words = {}
    for split in ("train", "validation", "test"):
        lines = [smollm2_lora.example(rng, split)[1] for _ in range(80)]
        said = {word.strip(";") for line in lines for word in line.split()}
        words[split] = {word for word in said if not word.isdecimal()}
    form = {"item", "count", "place", "name", "="}
    for a, b in itertools.combinations(words, 2):
        assert words[a] & words[b] == form


def test_the_form_of_a_line_and_each_of_its_values_are_judged_apart():
    right = "item = cups; count = 7; place = Rome; name = Ada"
    lines = [
        right,
        right.replace("Rome", "Oslo"),
        right.replace("; count", ", count"),
        right + "; name = Ada",
        "",
    ]
    found = smollm2_lora.parts_right([("", f" {right}", f" {line}") for line in lines])
    assert found == {"form": 2, "item": 2, "count": 2, "place": 1, "name": 2}


def test_an_answer_is_right_exactly_if_it_is_what_is_written_greedily():
    from chainrule.transformers.gpt import GPT, generate, gpt_config

    rng = np.random.default_rng(5)
    config = gpt_config(vocab_size=13, context=11, layers=7, heads=2, width=6)
    model = GPT(config, rng=rng)
    for p in model.parameters():
        p.data += rng.normal(0, 0.5, p.shape).astype(p.dtype)
    given = rng.integers(0, 13, (3, 5))
    written = generate(model, given, 4, temperature=0)[:, 5:]
    pairs = [(a.tolist(), b.tolist()) for a, b in zip(given, written, strict=True)]
    right, nats, likeliest = smollm2_lora.judge(model, smollm2_lora.Texts(model, pairs))
    assert (right, likeliest) == (1, 1)
    assert 0 < nats < np.log(13)
    pairs[1][1][3] = (pairs[1][1][3] + 1) % 13  # the last token of one answer
    right, _, likeliest = smollm2_lora.judge(model, smollm2_lora.Texts(model, pairs))
    assert right == pytest.approx(2 / 3)
    assert likeliest == pytest.approx(11 / 12)


def test_a_benchmark_without_its_model_leaves_what_is_stored(tmp_path):
    before = (ROOT / "benchmarks" / "results.json").read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "smollm2"], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "CHAINRULE_CACHE": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0
    assert "its model is not here; type: chainrule models get smollm2" in done.stdout
    assert (ROOT / "benchmarks" / "results.json").read_bytes() == before


NANOGPT = (
    ("wte.", "tokens."), ("wpe.", "positions."), ("h.", "blocks."), ("ln_1", "attention_norm"),
    ("ln_2", "feed_forward_norm"), ("ln_f", "norm"), ("attn.c_attn", "attention.qkv"),
    ("attn.c_proj", "attention.out"), ("mlp.0", "feed_forward.up"), ("mlp.2", "feed_forward.down"),
)  # fmt: skip


@pytest.mark.parametrize("bias", [True, False])
def test_the_twin_and_nanogpt_are_the_same_model(bias):
    import torch

    size = {"batch": 3, "time": 11, "layers": 2, "heads": 2, "width": 14, "vocab": 13}
    run = twin.twin_run(size, changes={"feed_forward": "gelu", "bias": bias})
    peer = twin.nanogpt(size, bias)
    renamed = {}
    for name, tensor in peer.state_dict().items():
        for theirs, ours in NANOGPT:
            name = name.replace(theirs, ours)
        if name != "lm_head.weight":
            renamed[name] = tensor
    run.twin.load_state_dict(renamed)
    ids, targets = (torch.from_numpy(array) for array in next(twin.batches(size)))
    ours, theirs = run.twin.loss(ids, targets), peer(ids, targets)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    for loss in (ours, theirs):
        loss.backward()
    gradient = run.twin.tokens.weight.grad
    torch.testing.assert_close(gradient, peer.wte.weight.grad, rtol=1e-4, atol=1e-6)


def test_stored_steps_of_the_twin_are_not_slower_than_nanogpts():
    stored = json.loads((ROOT / "benchmarks" / "results.json").read_text())["twin"]
    assert len(stored["rows"]) == len(twin.SIZES) * len(twin.MODELS)
    same_model = [r for r in stored["results"] if r["model"].startswith("nanoGPT's")]
    assert len(same_model) == 4
    assert all(r["ratios"][1] <= 1 for r in same_model)


def test_operations_of_a_token_by_hand():
    """N of GPT-2 small as nanoGPT counts it, 123.65 million, without positions."""
    assert gpu.flops_per_token(gpu.GPT2) == 6 * 123_653_376 + 12 * 12 * 768 * 1024
    assert gpu.utilization(gpu.GPT2, 1000, gpu.flops_per_token(gpu.GPT2) * 4000) == 0.25


def test_nanogpts_published_figures_are_its_own_times():
    first, second, third = gpu.published()
    assert first["nanoGPT_tokens_a_second"] == f"{12_288 / 0.135:,.0f}"
    assert second["nanoGPT_tokens_a_second"] == f"{600_000 * 491_520 / (4 * 24 * 3600):,.0f}"
    assert third["nanoGPT_tokens_a_second"] == f"{5000 * 64 * 256 / 180:,.0f}"
    assert (second["nanoGPT_loss"], third["nanoGPT_loss"]) == ("2.85", "1.4697")


def test_what_was_not_measured_says_so():
    stored = json.loads((ROOT / "benchmarks" / "results.json").read_text())["gpu"]
    for row, expected in zip(stored["rows"], gpu.published(), strict=True):
        theirs = [name for name in expected if not name.startswith("twin_")]
        assert [row[name] for name in theirs] == [expected[name] for name in theirs]
        if "no GPU" in stored["method"]:
            assert {row[name] for name in row if name.startswith("twin_")} == {gpu.NOT}


def test_what_a_gpu_would_be_asked_runs_here(tmp_path):
    size = {"batch": 2, "time": 16, "layers": 1, "heads": 1, "width": 8, "vocab": 19}
    assert gpu.speed(size, "cpu", steps=2, warm_up=1) > 0
    (tmp_path / "text.txt").write_text("to be, or not to be, that is the question. " * 50)
    tokens, loss = gpu.shakespeare(tmp_path / "text.txt", "cpu", size, steps=4)
    assert tokens > 0
    assert 0 < loss < 4


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
