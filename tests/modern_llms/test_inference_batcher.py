"""Texts that share their steps against texts that are written alone."""

import numpy as np
import pytest

from chainrule.modern_llms.inference import ContinuousBatcher, generate_cached
from chainrule.transformers.gpt import GPT, gpt_config

V = 23
SHAPES = {
    "gpt2": {},
    "llama": {"feed_forward": "swiglu", "norm": "rms", "positions": "rope", "bias": False,
              "tied": False, "kv_heads": 2},
    "window": {"window": 5},
}  # fmt: skip


def model(shape):
    config = gpt_config(V, 37, 2, 4, 24, dtype="float64", **SHAPES[shape])
    model = GPT(config, np.random.default_rng(5)).eval()
    for p in model.parameters():  # predictions that differ from place to place
        p.data = p.data * 5 if p.data.ndim == 2 else p.data
    return model


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("max_batch", [1, 3])
def test_a_text_does_not_depend_on_its_neighbours(shape, max_batch):
    gpt, rng = model(shape), np.random.default_rng(1)
    batcher, want, got = ContinuousBatcher(gpt, max_batch), {}, {}
    for i in range(5):
        ids, n = rng.integers(0, V, rng.integers(1, 14)), int(rng.integers(1, 11))
        name = batcher.submit(ids, n, np.random.default_rng(i))
        alone = generate_cached(gpt, ids, n, rng=np.random.default_rng(i))
        want[name], got[name] = alone[len(ids) :].tolist(), []
    steps = 0
    while batcher.busy:
        written = batcher.step()
        assert 1 <= len(written) <= max_batch
        for name, token in written.items():
            got[name].append(token)
        steps += 1
    assert got == want
    total = sum(len(text) for text in want.values())
    assert steps == total if max_batch == 1 else steps < total
    assert batcher.step() == {}


@pytest.mark.parametrize(("ids", "n"), [([], 3), ([1], 0), ([1] * 30, 9)])
def test_what_does_not_fit_is_said(ids, n):
    with pytest.raises(ValueError, match="no more than 37 read"):
        ContinuousBatcher(model("gpt2"), 2).submit(np.array(ids, int), n)
    with pytest.raises(ValueError, match="at least one place"):
        ContinuousBatcher(model("gpt2"), 0)
