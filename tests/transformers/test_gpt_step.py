"""The benchmark's two engines make the same training run."""

import numpy as np
import pytest

from benchmarks import gpt_step

SIZE = {"batch": 3, "time": 7, "layers": 2, "heads": 2, "width": 12, "vocab": 11}


@pytest.mark.parametrize("fused", [False, True])
def test_engines_compute_the_same(fused):
    ours = gpt_step.chainrule_stepper(SIZE)
    theirs = gpt_step.torch_stepper(SIZE, fused)
    data = gpt_step.batches(SIZE)
    losses = np.array(
        [(ours(*batch), theirs(*batch)) for batch, _ in zip(data, range(12), strict=False)]
    )
    np.testing.assert_allclose(losses[:, 0], losses[:, 1], atol=2e-5)
    assert losses[-1, 0] < losses[0, 0] - 0.02  # and it learns: a step that does nothing agrees too


def test_both_engines_take_turns_in_one_process():
    seconds = gpt_step.together(SIZE, pairs=4, warm_up=1)
    assert [len(times) for times in seconds.values()] == [4, 4]
    assert min(min(times) for times in seconds.values()) > 0


def test_both_kinds_stand_in_the_table(monkeypatch):
    monkeypatch.setitem(gpt_step.SIZES, "small", SIZE)
    apart = {"ratio": 0.9, "ratio_quartiles": [0.8, 1.0], "torch_variant": "AdamW as it comes",
             "chainrule_peak_mb": 1, "torch_peak_mb": 2}  # fmt: skip
    sides = {"chainrule_ms": 1.0, "torch_ms": 2.0}
    monkeypatch.setattr(gpt_step, "compare", lambda *a: {**SIZE, **sides, **apart})
    monkeypatch.setattr(
        gpt_step,
        "compare_together",
        lambda *a: {**SIZE, **sides, "ratio": 0.95, "ratios": [0.94, 0.95, 0.97]},
    )
    rows = gpt_step.measure(["small"])["rows"]
    assert [(r["kind"], r["ratio"]) for r in rows] == [
        ("same process", "0.95 (0.94–0.97)"),
        ("own processes", "0.90 (0.80–1.00)"),
    ]
    assert len({tuple(row) for row in rows}) == 1  # the same columns
