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
