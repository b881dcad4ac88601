"""BERT against transformers, its counts, its heads and its way of hiding tokens."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from scipy.stats import chisquare
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertForMaskedLM,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
)

from chainrule.neural_networks.backpropagation import Tensor, gradcheck
from chainrule.training.loss_functions import cross_entropy
from chainrule.transformers.bert import (
    BERT_BASE,
    BERT_LARGE,
    MINILM,
    Bert,
    BertConfig,
    Head,
    MaskedLM,
    MLMHead,
    NSPHead,
    SpanHead,
    bert_parameters,
    best_span,
    distillation_loss,
    hide,
    load_bert_state,
    mask_tokens,
    masked_diffusion_bound,
    masked_diffusion_loss,
    pool,
    pseudo_log_likelihood,
    unmask_sample,
)

B, T, V, D, H, L, N = 3, 11, 23, 20, 5, 2, 13
TINY = BertConfig(V, D, L, H, hidden=37, context=N, dropout=0.0, dtype="float64")


def theirs_config(cfg=TINY):
    return transformers.BertConfig(
        vocab_size=cfg.vocab_size, hidden_size=cfg.width, num_hidden_layers=cfg.layers,
        num_attention_heads=cfg.heads, intermediate_size=cfg.hidden or 4 * cfg.width,
        max_position_embeddings=cfg.context, type_vocab_size=cfg.segments,
        layer_norm_eps=cfg.eps, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        attn_implementation="eager",
    )  # fmt: skip


def build(kind, rng, cfg=TINY, dtype=torch.float64, **options):
    """A model of transformers with random numbers in every parameter, gains and biases too."""
    config = theirs_config(cfg)
    for name, value in options.items():
        setattr(config, name, value)
    model = kind(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.tensor(0.3 * rng.standard_normal(parameter.shape)))
    return model


def arrays(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def batch(rng, dtype=np.int64):
    ids = rng.integers(1, V, (B, T)).astype(dtype)  # id 0 is their padding: no gradient there
    segments = (np.arange(T) > rng.integers(2, T, (B, 1))).astype(int)
    mask = np.arange(T) < np.array([T, 7, 3])[:, None]
    return ids, segments, mask


def torch_batch(ids, segments, mask):
    return {
        "input_ids": torch.tensor(ids),
        "token_type_ids": torch.tensor(segments),
        "attention_mask": torch.tensor(mask.astype(int)),
    }


def close(ours, theirs, rtol=1e-10, atol=1e-12):
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else theirs
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


def theirs_gradient(model, name):
    """The gradient by one of our names, from their model (without the prefix bert.)."""
    named = {n.removeprefix("bert."): p.grad for n, p in model.named_parameters()}
    if name.startswith("blocks."):
        _, layer, rest = name.split(".", 2)
        at = f"encoder.layer.{layer}."
        if rest.startswith("attention.qkv."):
            kind = rest.rsplit(".", 1)[1]
            parts = ("query", "key", "value")
            return torch.cat([named[f"{at}attention.self.{part}.{kind}"] for part in parts])
        for ours, theirs in (
            ("attention.out", "attention.output.dense"),
            ("attention_norm", "attention.output.LayerNorm"),
            ("feed_forward.up", "intermediate.dense"), ("feed_forward.down", "output.dense"),
            ("feed_forward_norm", "output.LayerNorm"),
        ):  # fmt: skip
            rest = rest.replace(ours, theirs)
        return named[at + rest]
    for ours, theirs in (
        ("tokens", "embeddings.word_embeddings"), ("positions", "embeddings.position_embeddings"),
        ("segments", "embeddings.token_type_embeddings"), ("norm.", "embeddings.LayerNorm."),
        ("pooler", "pooler.dense"),
    ):  # fmt: skip
        name = name.replace(ours, theirs)
    return named[name]


# ---- the encoder -------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"), [(torch.float64, 1e-10, 1e-11), (torch.float32, 1e-4, 1e-4)]
)
def test_vectors_and_gradients_are_those_of_transformers(whole, dtype, rtol, atol, rng):
    theirs = build(BertModel, rng, dtype=dtype)
    ours = load_bert_state(arrays(theirs), heads=H).eval()
    assert ours.config.dtype == str(dtype).removeprefix("torch.")
    ids, segments, mask = batch(rng)
    if whole:
        mask = np.ones_like(mask)
    h = ours(ids, segments, mask)
    out = theirs(**torch_batch(ids, segments, mask))
    close(h.data[mask], out.last_hidden_state.detach().numpy()[mask], rtol, atol)
    summary = ours.summary(h)
    close(summary.data, out.pooler_output, rtol, atol)
    g, g2 = rng.standard_normal(h.shape) * mask[:, :, None], rng.standard_normal(summary.shape)
    g, g2 = g.astype(h.dtype), g2.astype(h.dtype)
    ((h * g).sum() + (summary * g2).sum()).backward()
    loss = (out.last_hidden_state * torch.tensor(g)).sum()
    (loss + (out.pooler_output * torch.tensor(g2)).sum()).backward()
    for name, parameter in ours.named_parameters():
        expected = theirs_gradient(theirs, name)
        scale = float(expected.abs().max())
        if name.endswith("qkv.bias"):  # the keys' bias moves no weight: its gradient is 0
            parameter.grad[D : 2 * D], expected[D : 2 * D] = 0, 0
        close(parameter.grad, expected, rtol, max(atol, rtol * scale))


def test_padding_changes_nothing(rng):
    model = Bert(TINY, rng).eval()
    ids, segments, mask = batch(rng)
    before = model(ids, segments, mask).data
    ids[~mask], segments[~mask] = 5, 1
    after = model(ids, segments, mask).data
    np.testing.assert_array_equal(before[mask], after[mask])
    short = model(ids[1:2, :7], segments[1:2, :7]).data
    close(short[0], after[1, :7], 1e-9, 1e-12)


def test_every_token_sees_both_sides(rng):
    model = Bert(TINY, rng).eval()
    ids = rng.integers(0, V - 1, (1, T))
    before = model(ids).data[0]
    for place in (0, 5, T - 1):
        other = ids.copy()
        other[0, place] = V - 1
        assert (np.abs(model(other).data[0] - before).max(axis=1) > 1e-6).all()


@pytest.mark.parametrize(
    ("cfg", "expected"),
    [
        (BERT_BASE, 109_482_240),
        (BERT_LARGE, 335_141_888),
        (MINILM, 22_713_216),
    ],
)
def test_published_counts(cfg, expected):
    assert sum(bert_parameters(cfg).values()) == expected
    with torch.device("meta"):
        theirs = BertModel(theirs_config(cfg))
    assert theirs.num_parameters() == expected


def test_the_parts_of_base():
    parts = {"embeddings": 23_837_184, "blocks": 12 * 7_087_872, "pooler": 590_592}
    assert bert_parameters(BERT_BASE) == parts


def test_count_is_what_is_built(rng):
    cfg = replace(TINY, segments=3)
    model = Bert(cfg, rng)
    assert sum(p.data.size for p in model.parameters()) == sum(bert_parameters(cfg).values())


def test_first_weights(rng):
    model = Bert(replace(TINY, width=60, vocab_size=997), rng)
    named = dict(model.named_parameters())
    for name in ("tokens.weight", "blocks.1.feed_forward.down.weight", "pooler.weight"):
        assert named[name].data.std() == pytest.approx(0.02, rel=0.1)
    assert (named["pooler.bias"].data == 0).all()
    assert (named["norm.weight"].data == 1).all()


def test_what_is_refused(rng):
    with pytest.raises(ValueError, match="context is 13 tokens, got 14"):
        Bert(TINY, rng)(np.zeros((1, 14), int))
    with pytest.raises(ValueError, match=r"not a BERT state: tokens\.weight is missing"):
        load_bert_state({"wte.weight": np.zeros((2, 2))})
    state = arrays(build(BertModel, rng))
    del state["encoder.layer.1.attention.self.key.weight"]
    with pytest.raises(ValueError, match=r"blocks\.1\.attention\.self\.key\.weight is missing"):
        load_bert_state(state, heads=H)


# ---- heads -------------------------------------------------------------------------------------


def masked_lm(theirs):
    """Our MaskedLM with the weights of theirs."""
    model = MaskedLM(TINY, np.random.default_rng(0)).eval()
    state = arrays(theirs)
    pooler = {f"bert.pooler.dense.{k}": v.data for k, v in
              (("weight", model.bert.pooler.weight), ("bias", model.bert.pooler.bias))}  # fmt: skip
    model.bert = load_bert_state({**pooler, **state}, heads=H).eval()
    at = "cls.predictions."
    model.head.transform.weight.data = state[at + "transform.dense.weight"].copy()
    model.head.transform.bias.data = state[at + "transform.dense.bias"].copy()
    model.head.norm.weight.data = state[at + "transform.LayerNorm.weight"].copy()
    model.head.norm.bias.data = state[at + "transform.LayerNorm.bias"].copy()
    model.head.bias.data = state[at + "bias"].copy()
    return model


def test_masked_lm_is_that_of_transformers(rng):
    theirs = build(BertForMaskedLM, rng)
    ours = masked_lm(theirs)
    ids, segments, mask = batch(rng)
    labels = np.where(rng.random(ids.shape) < 0.4, rng.integers(0, V, ids.shape), -100)
    labels[~mask], labels[0, 0] = -100, 3
    out = theirs(**torch_batch(ids, segments, mask), labels=torch.tensor(labels))
    close(ours(ids, segments, mask).data[mask], out.logits.detach().numpy()[mask], 1e-9, 1e-10)
    loss = ours.loss(ids, labels, segments, mask)
    close(loss.data, out.loss)
    (3 * loss).backward()
    (3 * out.loss).backward()
    table = theirs.bert.embeddings.word_embeddings.weight.grad
    close(ours.bert.tokens.weight.grad, table, 1e-9, 1e-11)
    close(ours.head.bias.grad, theirs.cls.predictions.bias.grad, 1e-9, 1e-12)
    transform = theirs.cls.predictions.transform.dense.weight.grad
    close(ours.head.transform.weight.grad, transform, 1e-9, 1e-11)
    with pytest.raises(ValueError, match="no hidden token"):
        ours.loss(ids, np.full_like(ids, -100))


def test_the_head_alone(rng):
    head = MLMHead(TINY, rng)
    h, table = rng.standard_normal((3, D)), rng.standard_normal((V, D))
    head.bias.data += rng.standard_normal(V)
    th = torch.tensor(h) @ torch.tensor(head.transform.weight.data).T
    th = F.layer_norm(F.gelu(th + torch.tensor(head.transform.bias.data)), (D,), eps=TINY.eps)
    expected = th @ torch.tensor(table).T + torch.tensor(head.bias.data)
    close(head(Tensor(h), Tensor(table)).data, expected)


def test_next_sentence_and_classifier(rng):
    ids, segments, mask = batch(rng)
    for kind, classes, layer in (
        (BertForNextSentencePrediction, 2, "cls.seq_relationship"),
        (BertForSequenceClassification, 7, "classifier"),
    ):
        theirs = build(kind, rng, num_labels=classes)
        state, options = arrays(theirs), {"rng": rng, "dtype": float}
        bert = load_bert_state(state, heads=H).eval()
        head = NSPHead(D, **options) if classes == 2 else Head(D, classes, **options)
        head.linear.weight.data = state[layer + ".weight"]
        head.linear.bias.data = state[layer + ".bias"]
        logits = head(bert.summary(bert(ids, segments, mask)))
        close(logits.data, theirs(**torch_batch(ids, segments, mask)).logits, 1e-9, 1e-10)


def test_tagging_and_spans(rng):
    ids, segments, mask = batch(rng)
    mask[:] = True
    theirs = build(BertForTokenClassification, rng, num_labels=5)
    state = arrays(theirs)
    pooler = {"pooler.dense.weight": np.zeros((D, D)), "pooler.dense.bias": np.zeros(D)}
    head = Head(D, 5, rng=rng, dtype=float)
    head.linear.weight.data = state["classifier.weight"]
    head.linear.bias.data = state["classifier.bias"]
    bert = load_bert_state({**state, **pooler}, heads=H).eval()
    logits = head(bert(ids, segments, mask))
    close(logits.data, theirs(**torch_batch(ids, segments, mask)).logits, 1e-9, 1e-10)

    theirs = build(BertForQuestionAnswering, rng)
    state = arrays(theirs)
    spans = SpanHead(D, rng=rng, dtype=float)
    spans.linear.weight.data = state["qa_outputs.weight"]
    spans.linear.bias.data = state["qa_outputs.bias"]
    bert = load_bert_state({**state, **pooler}, heads=H).eval()
    h = bert(ids, segments, mask)
    starts, ends = rng.integers(0, T, (2, B))
    out = theirs(**torch_batch(ids, segments, mask), start_positions=torch.tensor(starts),
                 end_positions=torch.tensor(ends))  # fmt: skip
    close(spans(h).data[:, :, 0], out.start_logits, 1e-9, 1e-10)
    close(spans.loss(h, starts, ends).data, out.loss)


def test_padding_is_no_place_of_a_span(rng):
    head = SpanHead(D, rng=rng, dtype=float)
    h, mask = rng.standard_normal((2, 5, D)), np.arange(5) < np.array([[5], [3]])
    starts, ends = np.array([1, 0]), np.array([4, 2])
    loss = head.loss(Tensor(h), starts, ends, mask).item()
    h[1, 3:] = 100.0
    assert head.loss(Tensor(h), starts, ends, mask).item() == pytest.approx(loss, rel=1e-12)


def spans_one_by_one(start, end, longest):
    found = [(start[i] + end[j], -i, -j) for i in range(len(start)) for j in range(len(end))
             if 0 <= j - i < longest]  # fmt: skip
    _, i, j = max(found)
    return -i, -j


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("longest", [1, 3, 50])
def test_best_span(n, longest, rng):
    for _ in range(20):
        start, end = rng.standard_normal((2, n))
        assert best_span(start, end, longest) == spans_one_by_one(start, end, longest)


@pytest.mark.parametrize("sizes", [(0, 0, 3), (3, 3, 0)])
def test_spans_refused(sizes):
    with pytest.raises(ValueError, match="best_span"):
        best_span(np.zeros(sizes[0]), np.zeros(sizes[1]), sizes[2])


@pytest.mark.parametrize("mode", ["cls", "mean", "max"])
def test_pooling(mode, rng):
    h, mask = rng.standard_normal((B, T, D)), batch(rng)[2]
    y = pool(Tensor(h), mask, mode).data
    for i, length in enumerate((T, 7, 3)):
        own = h[i, :length]
        expected = {"cls": own[0], "mean": own.mean(axis=0), "max": own.max(axis=0)}[mode]
        close(y[i], expected)
    gradcheck(lambda x: pool(x, mask, mode), [Tensor(h, requires_grad=True)])
    h[~mask] = np.nan  # what stands at the padding must not matter, whatever it is
    close(pool(Tensor(h), mask, mode).data, y)


def test_pooling_refuses(rng):
    h = Tensor(rng.standard_normal((2, 3, D)))
    with pytest.raises(ValueError, match="not 'sum'"):
        pool(h, mode="sum")
    with pytest.raises(ValueError, match="no token"):
        pool(h, np.array([[True] * 3, [False] * 3]))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_is_that_of_pytorch(temperature, rng):
    student = Tensor(rng.standard_normal((5, 7)) * 3, requires_grad=True)
    teacher = rng.standard_normal((5, 7)) * 3
    ts = torch.tensor(student.data, requires_grad=True)
    log_p = F.log_softmax(ts / temperature, dim=-1)
    log_t = F.log_softmax(torch.tensor(teacher) / temperature, dim=-1)
    expected = temperature**2 * F.kl_div(log_p, log_t, log_target=True, reduction="batchmean")
    loss = distillation_loss(student, teacher, temperature)
    close(loss.data, expected)
    loss.backward()
    expected.backward()
    close(student.grad, ts.grad)
    assert distillation_loss(Tensor(teacher), teacher, temperature).item() == pytest.approx(0)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan])
def test_temperature_refused(bad):
    with pytest.raises(ValueError, match="temperature is positive"):
        distillation_loss(Tensor(np.zeros((1, 2))), np.zeros((1, 2)), bad)


# ---- hiding ------------------------------------------------------------------------------------

PAD, CLS, SEP, MASK = 0, 1, 2, 3


def test_masking_rates_against_expectation(rng):
    ids = rng.integers(4, V, (200, 503))
    ids[:, 0], ids[:, -1], ids[:50, 400:] = CLS, SEP, PAD
    inputs, labels = mask_tokens(ids, rng, special=(PAD, CLS, SEP), mask_id=MASK, vocab=V)
    special = np.isin(ids, (PAD, CLS, SEP))
    chosen = labels != -100
    assert not chosen[special].any()
    np.testing.assert_array_equal(inputs[~chosen], ids[~chosen])
    np.testing.assert_array_equal(labels[chosen], ids[chosen])
    n = (~special).sum()
    assert abs(chosen.sum() - 0.15 * n) < 3 * (n * 0.15 * 0.85) ** 0.5
    masked = (inputs == MASK) & chosen
    kept = (inputs == ids) & chosen & ~masked
    exchanged = chosen & ~masked & ~kept
    # a random token is [MASK] or the true one with probability 1/V each
    share = np.array([0.8 + 0.1 / V, 0.1 + 0.1 / V, 0.1 - 0.2 / V])
    seen = np.array([masked.sum(), kept.sum(), exchanged.sum()])
    assert chisquare(seen, share * chosen.sum()).pvalue > 0.001


def test_masking_rates_against_the_collator(rng):
    """The same five outcomes as DataCollatorForLanguageModeling, compared by chi-square."""
    from scipy.stats import chi2_contingency

    class Stub:  # what the collator asks of a tokenizer
        mask_token, mask_token_id, pad_token_id = "[MASK]", MASK, PAD

        def get_special_tokens_mask(self, values, already_has_special_tokens):
            return [int(v in (PAD, CLS, SEP)) for v in values]

        def convert_tokens_to_ids(self, token):
            return MASK

        def __len__(self):
            return V

    collator = object.__new__(transformers.DataCollatorForLanguageModeling)
    collator.tokenizer, collator.mlm_probability, collator.seed = Stub(), 0.15, None
    collator.mask_replace_prob, collator.random_replace_prob, collator.generator = 0.8, 0.1, None
    ids = rng.integers(4, V, (100, 307))
    ids[:, 0] = CLS
    torch.manual_seed(0)
    theirs = [a.numpy() for a in collator.torch_mask_tokens(torch.tensor(ids.copy()))]
    ours = mask_tokens(ids, rng, special=(PAD, CLS, SEP), mask_id=MASK, vocab=V)
    table = []
    for inputs, labels in (theirs, ours):
        chosen = labels != -100
        assert not chosen[:, 0].any()
        same = inputs == ids
        table.append([(~chosen).sum(), (chosen & (inputs == MASK)).sum(), (chosen & same).sum(),
                      (chosen & ~same & (inputs != MASK)).sum()])  # fmt: skip
    assert chi2_contingency(table).pvalue > 0.001


@pytest.mark.parametrize("dtype", [np.int64, np.int32])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (2, 5)])
def test_hiding_keeps_kind_and_input(dtype, shape, rng):
    ids = rng.integers(4, V, shape).astype(dtype)
    before = ids.copy()
    inputs, labels = mask_tokens(ids, rng, 1.0, mask_id=MASK, vocab=V)
    np.testing.assert_array_equal(ids, before)
    np.testing.assert_array_equal(labels, before)
    assert inputs.dtype == dtype
    inputs, labels = mask_tokens(ids, rng, 0.0, mask_id=MASK, vocab=V)
    np.testing.assert_array_equal(inputs, before)
    assert (labels == -100).all()


def test_hiding_with_given_draws():
    ids = np.array([[CLS, 7, 8, 9, 10, SEP]])
    choice = np.array([[0.0, 0.1, 0.14, 0.149, 0.15, 0.0]])
    kind = np.array([[0.0, 0.79, 0.85, 0.95, 0.0, 0.0]])
    others = np.full((1, 6), 20)
    inputs, labels = hide(ids, choice, kind, others, mask_id=MASK, special=(CLS, SEP))
    np.testing.assert_array_equal(inputs, [[CLS, MASK, 20, 9, 10, SEP]])
    np.testing.assert_array_equal(labels, [[-100, 7, 8, 9, -100, -100]])
    with pytest.raises(ValueError, match=r"got 1\.5"):
        hide(ids, choice, kind, others, mask_id=MASK, p=1.5)


def test_pseudo_log_likelihood(rng):
    theirs = build(BertForMaskedLM, rng)
    ours = masked_lm(theirs)
    ids = np.array([CLS, *rng.integers(4, V, 5), SEP])
    expected = 0.0
    for place in range(1, 6):
        hidden = torch.tensor(ids)[None].clone()
        hidden[0, place] = MASK
        expected += theirs(hidden).logits.log_softmax(-1)[0, place, ids[place]].item()
    found = pseudo_log_likelihood(lambda x: ours(x).data, ids, mask_id=MASK, special=(CLS, SEP))
    assert found == pytest.approx(expected, rel=1e-10)
    nothing = np.array([CLS, SEP])
    assert (
        pseudo_log_likelihood(lambda x: ours(x).data, nothing, mask_id=MASK, special=(CLS, SEP))
        == 0
    )


# ---- masked diffusion --------------------------------------------------------------------------


def conditionals(table):
    """The exact probability of one token of a text, given those that are not hidden."""

    def of(text):
        def conditional(hidden, place):
            index = tuple(slice(None) if i in hidden else x for i, x in enumerate(text))
            part = table[index]
            axis = sorted(hidden).index(place)
            own = np.take(part, text[place], axis=axis)
            return float(own.sum() / part.sum())

        return conditional

    return of


@pytest.mark.parametrize("shape", [(2, 2, 2, 2), (3, 5), (2, 3, 2)])
def test_the_bound_is_exact_with_exact_conditionals(shape, rng):
    table = rng.random(shape)
    table /= table.sum()
    of = conditionals(table)
    for text in np.ndindex(shape):
        bound = masked_diffusion_bound(of(text), len(shape))
        assert bound == pytest.approx(-np.log(table[text]), abs=1e-13)


def test_the_sampled_loss_has_the_bound_as_its_mean(rng):
    table = rng.random((2, 2, 2)) + 0.1
    table /= table.sum()
    of, text = conditionals(table), np.array([1, 0, 1])

    def logits_of(x):
        z = np.zeros((*x.shape, 3))
        for row, out in zip(x, z, strict=True):
            hidden = tuple(np.flatnonzero(row == 2))
            for place in hidden:
                for token in (0, 1):
                    other = list(text)
                    other[place] = token
                    out[place, token] = np.log(of(tuple(other))(hidden, place))
            out[:, 2] = -50
        return Tensor(z)

    ids = np.tile(text, (6000, 1))
    found = [masked_diffusion_loss(logits_of, ids, rng, mask_id=2).item() for _ in range(4)]
    assert np.mean(found) == pytest.approx(-np.log(table[tuple(text)]), rel=0.05)


def test_unmasking_one_by_one_draws_from_the_distribution(rng):
    table = np.array([[0.45, 0.05], [0.1, 0.4]])
    of = conditionals(table)

    def logits_of(x):
        z = np.full((*x.shape, 3), -50.0)
        for row, out in zip(x, z, strict=True):
            hidden = tuple(np.flatnonzero(row == 2))
            for place in hidden:
                for token in (0, 1):
                    text = [0 if i == 2 else int(i) for i in row]
                    text[place] = token
                    out[place, token] = np.log(of(tuple(text))(hidden, place))
        return z

    start = np.full((2000, 2), 2)
    one = unmask_sample(logits_of, start, 2, rng, mask_id=2)
    seen = np.bincount(2 * one[:, 0] + one[:, 1], minlength=4)
    assert chisquare(seen, table.ravel() * 2000).pvalue > 0.001
    at_once = unmask_sample(logits_of, start, 1, rng, mask_id=2)
    seen = np.bincount(2 * at_once[:, 0] + at_once[:, 1], minlength=4)
    product = np.outer(table.sum(1), table.sum(0)).ravel()
    assert chisquare(seen, product * 2000).pvalue > 0.001
    assert (start == 2).all()


def test_unmasking_leaves_the_rest(rng):
    ids = np.array([[5, MASK, 6, MASK], [7, 8, 9, 10]])
    out = unmask_sample(lambda x: np.zeros((*x.shape, V)), ids, 3, rng, mask_id=MASK)
    np.testing.assert_array_equal(out[1], ids[1])
    np.testing.assert_array_equal(out[0, [0, 2]], [5, 6])
    assert (out != MASK).all()
    with pytest.raises(ValueError, match="at least 1 step"):
        unmask_sample(lambda x: x, ids, 0, rng, mask_id=MASK)


# ---- facts that the page asserts about PyTorch and transformers --------------------------------


def test_facts_of_the_box():
    config = transformers.BertConfig()
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers) == (30_522, 768, 12)
    assert config.layer_norm_eps == 1e-12
    with torch.device("meta"):
        model = BertForPreTraining(config)
        head = BertForMaskedLM(config)
    assert model.cls.seq_relationship.out_features == 2
    assert head.cls.predictions.decoder.weight is head.bert.embeddings.word_embeddings.weight
    assert head.bert.pooler is None
    assert F.cross_entropy.__defaults__[2] == -100  # ignore_index
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    encoder = torch.nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
    assert not any(isinstance(m, torch.nn.Embedding) for m in encoder.modules())
    x = torch.randn(1, 4, 8)
    hidden = torch.tensor([[False, False, False, True]])
    other = x.clone()
    other[0, 3] += 1
    before, after = (encoder(t, src_key_padding_mask=hidden)[0, :3] for t in (x, other))
    assert torch.equal(before, after)
    small = BertForMaskedLM(theirs_config())
    small(torch.zeros(1, 3, dtype=torch.long), labels=torch.tensor([[1, 2, 3]])).loss.backward()
    assert BertModel(theirs_config()).embeddings.word_embeddings.padding_idx == 0


def test_albert_counts():
    """The count that the exercise asks for."""
    with torch.device("meta"):
        base = AlbertModel(AlbertConfig(hidden_size=768, num_attention_heads=12,
                                        intermediate_size=3072))  # fmt: skip
    assert base.num_parameters() == 11_683_584


def test_cross_entropy_over_chosen_places_only(rng):
    model = MaskedLM(TINY, rng).eval()
    ids, segments, mask = batch(rng)
    labels = np.where(rng.random(ids.shape) < 0.3, ids, -100)
    labels[0, 1] = 4
    everywhere = cross_entropy(model(ids, segments, mask), labels)
    assert model.loss(ids, labels, segments, mask).item() == pytest.approx(everywhere.item())
