"""The cache against the model without one, and against transformers' own generation."""

import numpy as np
import pytest
import torch
import torch.nn.attention.bias
from transformers import GPT2Config, GPT2LMHeadModel

from chainrule.modern_llms.inference import (
    CachedGPT,
    PagedCache,
    blocks_needed,
    generate_cached,
    positions_computed,
    scores_computed,
    speculative_generate,
    wasted_share,
)
from chainrule.neural_networks.backpropagation import no_grad
from chainrule.transformers.gpt import GPT, generate, gpt_config, load_gpt2_state

V, CONTEXT = 23, 37
SHAPES = {
    "gpt2": {},
    "llama": {"feed_forward": "swiglu", "norm": "rms", "positions": "rope", "bias": False,
              "tied": False, "kv_heads": 2},
}  # fmt: skip


@pytest.fixture(scope="module", params=SHAPES)
def model(request):
    config = gpt_config(V, CONTEXT, 2, 4, 24, dtype="float64", **SHAPES[request.param])
    model = GPT(config, np.random.default_rng(5)).eval()
    for p in model.parameters():  # predictions that differ from place to place
        p.data = p.data * 5 if p.data.ndim == 2 else p.data
    return model


def without(model, ids, last):
    with no_grad():
        return model(ids[None]).data[0, -last:]


@pytest.mark.parametrize("seed", range(2))
def test_reading_in_pieces_and_taking_back_changes_nothing(model, seed):
    rng = np.random.default_rng(seed)
    reader, ids = CachedGPT(model), rng.integers(0, V, 3)
    for _ in range(5):
        ids = ids[: rng.integers(1, len(ids) + 1)]  # some of it is taken back
        room = CONTEXT - len(ids)
        ids = np.append(ids, rng.integers(0, V, rng.integers(0, min(room, 11) + 1)))
        last = int(rng.integers(1, len(ids) + 1))
        np.testing.assert_allclose(
            reader.scores(ids, last), without(model, ids, last), rtol=1e-9, atol=1e-10
        )


def test_a_place_off_by_one_is_found(model):
    class OffByOne(CachedGPT):
        def _through(self, block, x, kept, start):
            return super()._through(block, x, kept, max(0, start - 1))

    ids, reader = np.arange(11) * 5 % V, OffByOne(model)
    reader.scores(ids[:7])
    assert np.abs(reader.scores(ids) - without(model, ids, 1)).max() > 1e-3


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"top_k": 7}, {"top_p": 0.9}])
def test_it_draws_what_generate_draws(model, settings):
    ids = np.array([3, 1, 4])
    ours = generate_cached(model, ids, 13, **settings, rng=np.random.default_rng(2))
    theirs = generate(model, ids[None], 13, **settings, rng=np.random.default_rng(2))[0]
    assert ours.tolist() == theirs.tolist()


def test_it_draws_what_transformers_draws():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=V, n_positions=41, n_embd=24, n_layer=3, n_head=4,
                        initializer_range=0.3, bos_token_id=None, eos_token_id=None)  # fmt: skip
    theirs = GPT2LMHeadModel(config).eval()
    state = {name: a.numpy() for name, a in theirs.state_dict().items()}
    ids = np.array([3, 1, 4, 1, 5])
    want = theirs.generate(
        torch.tensor(ids[None]), max_new_tokens=17, do_sample=False, use_cache=True,
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
    )  # fmt: skip
    ours = generate_cached(load_gpt2_state(state, heads=4), ids, 17, temperature=0)
    assert ours.tolist() == want[0].tolist()


def test_pytorch_masks_a_cache_from_the_wrong_corner_unless_told():
    torch.manual_seed(0)
    q, k, v = torch.randn(1, 2, 3, 8), torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8)
    attend = torch.nn.functional.scaled_dot_product_attention
    one = q[:, :, :1]
    torch.testing.assert_close(attend(one, k, v, is_causal=True), v[:, :, :1])
    assert not torch.allclose(attend(one, k, v), v[:, :, :1])
    seen = torch.ones(3, 5, dtype=torch.bool).tril(2)  # the last query sees all
    right = torch.nn.attention.bias.causal_lower_right(3, 5)
    torch.testing.assert_close(attend(q, k, v, attn_mask=right), attend(q, k, v, attn_mask=seen))


def test_it_computes_as_many_positions_as_predicted(model):
    reader, text = CachedGPT(model), np.array([2, 3, 5])
    for _ in range(7):
        text = np.append(text, reader.scores(text)[0].argmax())
    assert reader.positions == positions_computed(3, 7, cached=True) == 9
    assert positions_computed(3, 7, cached=False) == 3 + 4 + 5 + 6 + 7 + 8 + 9
    assert scores_computed(3, 2, cached=True) == 1 + 2 + 3 + 4
    assert scores_computed(3, 2, cached=False) == (1 + 2 + 3) + (1 + 2 + 3 + 4)
    assert positions_computed(3, 0, True) == scores_computed(3, 0, False) == 0
    assert reader.nbytes == 2 * 2 * model.config.groups * 6 * CONTEXT * 8


def test_speculating_with_the_likeliest_tokens_writes_what_the_model_writes(model):
    def sure(p):
        return np.eye(V)[p.argmax(axis=-1)]

    reader, rng = CachedGPT(model), np.random.default_rng(0)
    draft = np.random.default_rng(1).dirichlet(np.full(V, 0.1), V)
    ids = np.array([3, 1, 4])
    text, counts = speculative_generate(
        lambda t, n: sure(reader.probabilities(t, n)), lambda t: draft[t[-1]], ids, 11, 3, rng
    )
    assert text.tolist() == generate_cached(model, ids, 11, temperature=0).tolist()
    assert sum(counts) >= 11


def test_what_does_not_fit_is_said(model):
    reader = CachedGPT(model)
    for ids, last in [([], 1), ([1, 2], 3), ([1], 0), ([1] * (CONTEXT + 1), 1)]:
        with pytest.raises(ValueError, match="context of 37"):
            reader.scores(np.array(ids, int), last)
    with pytest.raises(ValueError, match="outgrow the context of 37"):
        generate_cached(model, np.array([1]), CONTEXT + 1, temperature=0)
    with pytest.raises(ValueError, match="at least 1"):
        positions_computed(0, 3, True)


@pytest.mark.parametrize("seed", range(5))
def test_blocks_hold_what_plain_arrays_hold(seed):
    rng = np.random.default_rng(seed)
    cache, plain = PagedCache(13, 3, (2, 5), "float64"), {}
    refused = 0
    for _ in range(151):
        act, known = rng.integers(5), list(plain)
        if act == 0 or not known:
            plain[cache.add()] = np.zeros((0, 2, 5))
            continue
        text = int(rng.choice(known))
        if act == 1:
            plain[cache.fork(text)] = plain[text]
        elif act == 2 and rng.random() < 0.5:
            cache.free(text)
            del plain[text]
        elif act == 3:
            length = int(rng.integers(0, len(plain[text]) + 1))
            cache.truncate(text, length)
            plain[text] = plain[text][:length]
        else:
            new = rng.normal(size=(rng.integers(0, 8), 2, 5))
            free = cache.free_blocks
            try:
                cache.append(text, new)
                plain[text] = np.concatenate([plain[text], new])
            except MemoryError:
                refused += 1
                assert cache.free_blocks == free
        for name, array in plain.items():
            np.testing.assert_array_equal(cache.gather(name), array)
    assert refused > 0
    for text in list(plain):
        cache.free(text)
    assert cache.free_blocks == 13


def test_a_shared_beginning_is_stored_once():
    cache = PagedCache(100, 4, (1,))
    parent = cache.add()
    cache.append(parent, np.ones((8, 1), "float32"))
    for _ in range(10):
        cache.append(cache.fork(parent), np.zeros((3, 1), "float32"))
    assert cache.free_blocks == 100 - 2 - 10
    with pytest.raises(KeyError, match="no text 77"):
        cache.gather(77)
    with pytest.raises(ValueError, match="cannot keep 9"):
        cache.truncate(parent, 9)


def test_waste_by_hand():
    assert [blocks_needed(n, 16) for n in (0, 1, 16, 17)] == [0, 1, 1, 2]
    assert wasted_share([17, 5], 16) == pytest.approx(1 - 22 / 48)
    assert wasted_share([], 16) == 0
    with pytest.raises(ValueError, match="at least 1"):
        blocks_needed(3, 0)
