"""Sampling at its edges: ids of any width, models that diverged, and no symbol lost by rounding."""

from inspect import unwrap

import numpy as np
import pytest

from chainrule.transformers.gpt import (
    GPT,
    draw,
    generate,
    gpt_config,
    min_p_filter,
    nucleus,
    repetition_penalty,
    sample_filters,
    top_k_filter,
    top_p_filter,
    witten_bell_ngram,
)

V = 300


def tiny(vocabulary=V):
    config = gpt_config(vocab_size=vocabulary, context=8, layers=1, heads=2, width=16)
    return GPT(config, np.random.default_rng(0))


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i4", "u8"])
def test_drawn_ids_need_not_fit_the_prompts_type(kind):
    model = tiny()
    prompt = np.array([[1, 2, 3]])
    expected = generate(model, prompt, 60, temperature=50.0, rng=np.random.default_rng(0))
    found = generate(model, prompt.astype(kind), 60, 50.0, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(found, expected)
    assert expected.max() > 255
    assert found.dtype == np.int64


def test_ids_and_targets_of_eight_bits_train():
    model = tiny()
    ids = np.array([[1, 2, 3, 4], [5, 6, 7, 250]], np.uint8)
    mask = np.array([[True, True, False, True]] * 2)
    loss = model.loss(ids, ids, mask)
    loss.backward()
    expected = model.loss(ids.astype(np.int64), ids.astype(np.int64), mask)
    assert loss.item() == expected.item()


@pytest.mark.parametrize("junk", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_that_diverged_is_not_sampled(junk, temperature):
    model = tiny()
    model.norm.weight.data[...] = junk
    with pytest.raises(ValueError, match="scores are not finite"), np.errstate(invalid="ignore"):
        generate(model, np.array([[1, 2]]), 3, temperature, rng=np.random.default_rng(0))


def test_some_impossible_symbols_are_no_damage():
    model = tiny()
    model.predict = lambda x, predict=model.predict: predict(x).masked_fill(
        np.arange(V) > 2, -np.inf
    )
    drawn = generate(model, np.array([[1]]), 50, rng=np.random.default_rng(0))
    assert drawn.max() <= 2
    model.predict = lambda x, predict=model.predict: predict(x) * -np.inf
    with pytest.raises(ValueError, match="scores are not finite"), np.errstate(invalid="ignore"):
        generate(model, np.array([[1]]), 1, rng=np.random.default_rng(0))


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-10, 1e10, 1e300])
def test_any_temperature_is_a_temperature(temperature):
    model, prompt = tiny(), np.array([[1, 2]])
    found = generate(model, prompt, 5, temperature, rng=np.random.default_rng(0))
    if temperature < 1:
        np.testing.assert_array_equal(found, generate(model, prompt, 5, 0.0))


def test_settings_that_are_no_numbers_are_refused(rng):
    logits = rng.standard_normal((2, V)).astype(np.float32)
    for temperature in (np.nan, -1.0):
        with pytest.raises(ValueError, match="temperature must be at least 0"):
            draw(logits, temperature, rng=rng)
        with pytest.raises(ValueError, match="temperature must be above 0"):
            sample_filters(logits, temperature)
    for penalty in (0.0, -2.0, np.nan):
        with pytest.raises(ValueError, match="penalty must be above 0"):
            repetition_penalty(logits, np.array([[0, 1], [2, 2]]), penalty)


@pytest.mark.parametrize("prompt", [[1, 2], np.array([1, 2]), np.array([[1.0, 2.0]]), 3])
def test_a_prompt_that_is_no_batch_is_named(prompt):
    with pytest.raises(ValueError, match=r"whole numbers of shape \(batch, time\), got"):
        unwrap(generate)(tiny(), prompt, 2, 0.0)


def test_top_p_of_1_keeps_every_symbol(rng):
    for logits in (np.array([[20.0, 0, -1]], np.float32), np.array([[40.0, 0]]),
                   rng.standard_normal((2, 50_000)).astype(np.float32) * 3):  # fmt: skip
        np.testing.assert_array_equal(top_p_filter(logits, 1.0), logits)
    p = np.full((1, 1000), 1e-3, np.float32)
    assert nucleus(p, 0.9995).sum() == 1000
    assert nucleus(p, 0.5).sum() == 500


def test_filters_take_wide_and_narrow_scores(rng):
    for dtype in (np.float16, np.float32, np.float64):
        logits = (rng.standard_normal((2, 7)) * 5).astype(dtype)
        for kept in (top_k_filter(logits, 3), top_p_filter(logits, 0.8), min_p_filter(logits, 0.1),
                     repetition_penalty(logits, np.array([[0], [1]], np.uint8), 1.3),
                     sample_filters(logits, 0.7, 5, 0.9, 0.05)):  # fmt: skip
            assert kept.dtype == dtype
            assert np.isfinite(kept.max(axis=-1)).all()


@pytest.mark.parametrize("kind", ["u1", "i1", "u8"])
def test_counting_ngrams_of_ids_of_any_width(kind, rng):
    ids = rng.integers(0, 100, 500)
    expected = witten_bell_ngram(ids, 3, 100).nll(ids)
    assert witten_bell_ngram(ids.astype(kind), 3, 100).nll(ids.astype(kind)) == expected
    logits = rng.standard_normal((1, 100))
    np.testing.assert_array_equal(
        repetition_penalty(logits, ids[None, :5].astype(kind), 1.3),
        repetition_penalty(logits, ids[None, :5], 1.3),
    )
