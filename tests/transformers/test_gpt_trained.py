"""The model of the course and what it is compared with: losses, sizes, opponents."""

import json
from math import comb
from pathlib import Path

import numpy as np
import pytest

from chainrule.data.corpus import frozen_corpus
from chainrule.data.text import DataError
from chainrule.trainer import course_gpt
from chainrule.transformers.gpt import (
    GPT,
    MatchModel,
    gpt_config,
    load_course_gpt,
    pass_at_k,
    token_losses,
    witten_bell_ngram,
)

ROOT = Path(course_gpt.__file__).parents[3]


@pytest.fixture(scope="module")
def trained():
    return *load_course_gpt(ROOT / "models"), frozen_corpus()


def test_it_belongs_to_the_corpus_and_is_small(trained):
    model, tokenizer, corpus = trained
    manifest = json.loads((ROOT / "models/course-gpt.json").read_text(encoding="utf-8"))
    assert manifest["corpus"] == corpus.sha256
    assert tokenizer.alphabet == corpus.alphabet
    assert (ROOT / "models/course-gpt.safetensors").stat().st_size < 1_000_000
    assert sum(p.size for p in model.parameters()) == 361_920
    assert not model.training


def test_held_out_loss_is_the_stored_one_and_beats_counting(trained):
    _, tokenizer, corpus = trained
    stored = json.loads((ROOT / "models/course-gpt.json").read_text(encoding="utf-8"))["losses"]
    assert course_gpt.measure(ROOT) == pytest.approx(stored, abs=course_gpt.BAND)
    train, test = (tokenizer.encode(corpus.text(part)) for part in ("train", "test"))
    counted = [witten_bell_ngram(train, n, len(tokenizer)).nll(test) for n in range(2, 8)]
    assert stored["test"] <= min(counted) - 0.05


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(DataError, match="course_gpt --write"):
        load_course_gpt(tmp_path)


def test_the_command_runs_the_cells_of_the_notebook():
    defined = course_gpt.cells(ROOT)
    assert {"TinyGPT", "train", "LONG", "LIVE", "CONFIG", "BATCH"} <= defined.keys()
    tiny = defined["TinyGPT"](defined["CONFIG"], np.random.default_rng(0))
    ours = GPT(defined["CONFIG"], np.random.default_rng(0))
    assert tiny.state_dict().keys() == ours.state_dict().keys()
    losses = [loss for _, loss in defined["train"](tiny, 3)]
    assert losses[0] == pytest.approx(np.log(145) + 0.02**2 * 96 / 2, abs=0.1)
    assert losses[2] < losses[0]


def test_losses_of_tokens_are_those_of_some_window(rng):
    model = GPT(gpt_config(23, context=8, layers=2, heads=2, width=12, dtype="float64"), rng)
    for length in (2, 5, 8, 9, 10, 13, 30):
        ids = rng.integers(0, 23, length)
        losses = token_losses(model, ids, batch=3)
        assert losses.shape == (length - 1,)
        for place in range(length - 1):
            least = min(4, place + 1)  # characters of context
            found = []
            for start in range(max(0, place - 7), place - least + 2):
                z = model(ids[None, start : place + 1]).data[0, -1]
                found.append(np.log(np.exp(z).sum()) - z[ids[place + 1]])
            assert np.isclose(found, losses[place], rtol=1e-9).any(), (length, place)
    with pytest.raises(ValueError, match="two are needed; got 1"):
        token_losses(model, np.array([3]))


def test_dropout_is_off_in_losses(rng):
    model = GPT(gpt_config(23, context=8, layers=1, heads=2, width=12, dropout=0.5), rng)
    ids = rng.integers(0, 23, 20)
    np.testing.assert_array_equal(token_losses(model, ids), token_losses(model, ids))


# ---- the opponents -------------------------------------------------------------------------------


def test_match_model_copies_a_repeat(rng):
    ids = rng.integers(0, 11, 400)
    base = witten_bell_ngram(ids, 2, 11)
    model = MatchModel(ids, base, shortest=4)
    again = model.log_probabilities(ids[50:350])
    assert -again[60:].mean() < 0.2 < base.nll(ids[50:350])
    fresh = rng.integers(0, 11, 300)
    assert model.nll(fresh) == pytest.approx(base.nll(fresh), abs=0.05)


def test_match_model_gives_probabilities(rng):
    """Whatever came, the chances of all symbols sum to 1."""
    ids = rng.integers(0, 3, 90)
    base = witten_bell_ngram(ids, 2, 5)
    for end in (10, 40, 70):
        text = np.concatenate([ids[:end], [0]])
        total = 0.0
        for symbol in range(5):
            text[-1] = symbol
            total += np.exp(MatchModel(ids, base, 3, 7).log_probabilities(text)[-1])
        assert total == pytest.approx(1)
    with pytest.raises(ValueError, match="got 5 and 4"):
        MatchModel(ids, base, 5, 4)


def test_pass_at_k_is_the_share_of_all_choices(rng):
    from itertools import combinations

    for n, correct in ((5, 2), (6, 0), (7, 7), (6, 3)):
        right = np.arange(n) < correct
        for k in range(1, n + 1):
            chosen = list(combinations(range(n), k))
            share = np.mean([right[list(each)].any() for each in chosen])
            assert len(chosen) == comb(n, k)
            assert pass_at_k(n, correct, k) == pytest.approx(share)
    for wrong in ((3, 4, 1), (3, -1, 1), (3, 1, 0), (3, 1, 4)):
        with pytest.raises(ValueError, match="of n answers"):
            pass_at_k(*wrong)


def test_what_the_page_says_of_first_losses(rng):
    """log V + σ²/2 for random scores, and for an untrained model of the page's size."""
    model = GPT(gpt_config(145, context=32, layers=3, heads=4, width=96), rng)
    ids = rng.integers(0, 145, (64, 33))
    found = model.loss(ids[:, :-1], ids[:, 1:]).item()
    assert found == pytest.approx(np.log(145) + 0.02**2 * 96 / 2, abs=0.01)
