"""Keys and values kept: the same tokens as without, at any setting, and faster."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from chainrule.modern_llms.efficient_adaptation import apply_lora, lora_layers
from chainrule.neural_networks.activation_functions import silu
from chainrule.neural_networks.backpropagation import Tensor
from chainrule.transformers.gpt import (
    GPT,
    KeyValueMemory,
    Reader,
    generate,
    gpt_config,
    stream,
)
from chainrule.transformers.gpt.memory import _swish, _times

V = 23
TINY = gpt_config(vocab_size=V, context=13, layers=3, heads=4, width=24, dtype="float64")

SETTINGS = [
    {},
    {"norm": "rms", "bias": False},
    {"feed_forward": "swiglu", "hidden": 17},
    {"positions": "rope"},
    {"positions": "sinusoidal"},
    {"positions": "none"},
    {"kv_heads": 1},
    {"kv_heads": 2, "positions": "rope", "qk_norm": True},
    {"positions": "rope", "rope_base": (100.0, None, 1000.0), "norm": "rms", "eps": 0.3},
    {"positions": "rope", "rope_scaling": {"type": "yarn", "factor": 3.0, "original": 7}},
    {"positions": "rope", "kv_heads": 2, "norm": "rms", "feed_forward": "swiglu", "bias": False},
    {"positions": "rope", "feed_forward": "geglu_tanh", "norm": "rms", "norm_place": "sandwich"},
    {"window": 3},
    {"window": (2, None), "positions": "rope"},
    {"norm_place": "post"},
    {"norm_place": "sandwich"},
    {"norm_place": "none"},
    {"parallel": True},
    {"tied": False, "logit_cap": 5.0, "scaled": True},
    {"d_head": 7},
    {"dropout": 0.3},
    {"experts": 3, "experts_per_token": 2, "hidden": 11},
    {"sink": True},
    {
        "sink": True,
        "kv_heads": 2,
        "window": (3, None),
        "positions": "rope",
        "rope_base": (100.0, None),
    },
    {"value_embeddings": True, "kv_heads": 2},
    {"value_embeddings": True, "x0_residual": True, "parallel": True},
    {"x0_residual": True, "norm_place": "sandwich", "scaled": True, "positions": "sinusoidal"},
    {"zero_init": True, "feed_forward": "relu2"},
]


def lively(config, rng):
    """A model whose every parameter matters: none is 0 or 1."""
    model = GPT(config, rng)
    for parameter in model.parameters():
        parameter.data[...] += 0.3 * rng.normal(size=parameter.shape)
    return model.eval()


@pytest.mark.parametrize("changes", SETTINGS, ids=str)
def test_scores_equal_those_without_memory(changes, rng):
    model = lively(replace(TINY, **changes), rng)
    ids = rng.integers(0, V, (2, 13))
    expected = model(ids).data
    memory, read = KeyValueMemory(model, 2), 0
    for time_ in (1, 5, 1, 2, 4):
        found = memory.read(ids[:, read : read + time_])
        read += time_
        np.testing.assert_allclose(found, expected[:, read - 1], rtol=1e-9, atol=1e-9)
    assert memory.length == 13
    memory.forget()
    np.testing.assert_allclose(memory.read(ids[:, :3]), expected[:, 2], rtol=1e-9, atol=1e-9)


def test_a_model_with_updates_beside_its_layers(rng):
    changes = {"positions": "rope", "kv_heads": 2, "norm": "rms", "feed_forward": "swiglu"}
    model = lively(replace(TINY, **changes), rng)
    apply_lora(model, r=2, rng=rng)
    for layer in lora_layers(model):
        layer.B.data[...] = rng.normal(size=layer.B.shape)
    ids = rng.integers(0, V, (2, 9))
    memory = KeyValueMemory(model, 2)
    memory.read(ids[:, :5])
    expected = model(ids).data[:, -1]
    np.testing.assert_allclose(memory.read(ids[:, 5:]), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [(1,), (1, 1), (1, 2), (2, 3), (1, 6), (7,), (3, 5), (0,)])
def test_products_with_few_rows(rows, dtype, rng):
    x, weight = (rng.normal(size=shape).astype(dtype) for shape in ((*rows, 11), (13, 11)))
    found = _times(x, weight)
    assert found.dtype == dtype
    assert found.flags.writeable
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(found, x @ weight.T, rtol=tolerance, atol=tolerance)


def test_the_bend_of_very_large_numbers(rng):
    gate = np.array([[-1e4, -200.0, -88.9, 0, 88.9, 200, 1e4]], np.float32)
    up = rng.normal(size=gate.shape).astype(np.float32)
    expected = (silu(Tensor(gate)) * Tensor(up)).data
    np.testing.assert_allclose(_swish(gate, up), expected, rtol=1e-6, atol=1e-30)


def test_memory_refuses_what_does_not_fit(rng):
    memory = KeyValueMemory(lively(TINY, rng))
    memory.read(np.zeros((1, 11), int))
    with pytest.raises(ValueError, match="13 tokens and 11 are read, so 3 more do not fit"):
        memory.read(np.zeros((1, 3), int))
    with pytest.raises(ValueError, match="0 more"):
        memory.read(np.zeros((1, 0), int))


@pytest.mark.parametrize("how", [{"temperature": 0.0}, {"top_k": 5}, {"top_p": 0.8, "min_p": 0.01}])
def test_stream_draws_what_generate_draws(how, rng):
    model = lively(TINY, rng)
    prompt = rng.integers(0, V, (3, 2))
    expected = generate(model, prompt, 11, **how, rng=np.random.default_rng(5))[:, 2:]
    drawn = stream(model, prompt, **how, rng=np.random.default_rng(5))
    np.testing.assert_array_equal(np.stack(list(islice(drawn, 11)), axis=1), expected)


def test_beyond_the_context_half_is_read_anew(rng):
    model = lively(TINY, rng)
    ids = rng.integers(0, V, (1, 31))
    reader = Reader(model)
    for t in range(31):
        found = reader.read(ids[:, t : t + 1])
        # full at 13 tokens; then the last 6 are read anew, and it is full again 7 tokens later
        start = 0 if t < 13 else 13 - 5 + 8 * ((t - 13) // 8)
        np.testing.assert_allclose(found, model(ids[:, start : t + 1]).data[:, -1], rtol=1e-8)
    long = rng.integers(0, V, (1, 40))
    np.testing.assert_allclose(Reader(model).read(long), model(long[:, -6:]).data[:, -1], rtol=1e-8)


def test_stream_refuses(rng):
    model = lively(TINY, rng)
    with pytest.raises(ValueError, match="prompt is empty"):
        next(stream(model, np.zeros((1, 0), int), temperature=0.0))
    with pytest.raises(ValueError, match="needs a numpy Generator"):
        next(stream(model, np.zeros((1, 1), int)))
    with pytest.raises(ValueError, match="at least 0"):
        next(stream(model, np.zeros((1, 1), int), temperature=-1.0, rng=rng))


SPEED = """
import time
from itertools import islice
import numpy as np
from chainrule.transformers.gpt import GPT, generate, gpt_config, stream

rng = np.random.default_rng(0)
model = GPT(gpt_config(116, context=64, layers=4, heads=4, width=128), rng).eval()
full, ratios = rng.integers(0, 116, (1, 64)), []
for _ in range(5):
    began = time.process_time()
    generate(model, full, 20, rng=rng)
    middle = time.process_time()
    list(islice(stream(model, full[:, :1], rng=rng), 20 * 6))
    ratios.append((middle - began) * 6 / (time.process_time() - middle))
print(max(ratios))
"""


@pytest.mark.alone
def test_streaming_is_several_times_faster():
    """At the size that ``chainrule train`` makes, without the tests' checks of shapes."""
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SPEED], env=os.environ | one, capture_output=True, text=True
    )
    assert float(done.stdout) > 5, done.stdout + done.stderr
