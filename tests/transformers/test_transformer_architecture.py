"""Blocks and stacks against torch.nn.Transformer and against their formulas."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from chainrule.neural_networks.backpropagation import Tensor
from chainrule.neural_networks.regularization import layer_norm
from chainrule.transformers.self_attention import (
    causal_mask,
    padding_mask,
    sinusoidal_encoding,
)
from chainrule.transformers.transformer_architecture import (
    DecoderBlock,
    Encoder,
    EncoderBlock,
    FeedForward,
    TokenModel,
    Transformer,
    TransformerConfig,
    Unset,
    count_params,
    initial_weights,
    initialize_,
    noam_lr,
    residual,
)

B, T, S, D, H = 2, 5, 7, 12, 3


def numbers(rng, *shape):
    return Tensor(rng.standard_normal(shape), requires_grad=True)


def torch_name(name):
    for ours, theirs in (
        ("blocks.", "layers."), ("attention_norm", "norm1"),
        ("attention.qkv.", "self_attn.in_proj_"), ("attention.out", "self_attn.out_proj"),
        ("cross_norm", "norm2"),
        ("cross.qkv.", "multihead_attn.in_proj_"), ("cross.out", "multihead_attn.out_proj"),
        ("feed_forward.up", "linear1"), ("feed_forward.down", "linear2"),
    ):  # fmt: skip
        name = name.replace(ours, theirs)
    stack_has_cross = name.startswith("decoder")
    return name.replace("feed_forward_norm", "norm3" if stack_has_cross else "norm2")


@pytest.mark.parametrize("place", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_against_torch_transformer(place, activation, rng):
    cfg = TransformerConfig(
        width=D, heads=H, hidden=17, encoder_layers=2, decoder_layers=2, norm_place=place,
        feed_forward=activation, dtype="float64",
    )  # fmt: skip
    ours = Transformer(cfg, rng)
    theirs = torch.nn.Transformer(
        D, H, 2, 2, 17, 0.0, activation, batch_first=True, norm_first=place == "pre"
    ).double()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.tensor(rng.standard_normal(parameter.shape) * 0.4))
    state = theirs.state_dict()
    ours.load_state_dict({n: state[torch_name(n)].numpy() for n in ours.state_dict()})
    assert sum(p.numel() for p in theirs.parameters()) == count_params(cfg)
    src, tgt = numbers(rng, B, S, D), numbers(rng, B, T, D)
    tsrc, ttgt = (torch.tensor(t.data, requires_grad=True) for t in (src, tgt))
    pad = padding_mask(np.array([S, 4]), S)
    y = ours(src, tgt, src_mask=pad, memory_mask=pad)
    hidden = torch.tensor(~pad[:, 0, 0])
    z = theirs(tsrc, ttgt, tgt_mask=torch.tensor(~causal_mask(T)), src_key_padding_mask=hidden,
               memory_key_padding_mask=hidden)  # fmt: skip
    np.testing.assert_allclose(y.data, z.detach(), rtol=1e-10, atol=1e-10)
    weights = rng.standard_normal(y.shape)
    y.backward(weights)
    z.backward(torch.tensor(weights))
    np.testing.assert_allclose(src.grad, tsrc.grad, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(tgt.grad, ttgt.grad, rtol=1e-8, atol=1e-10)
    named = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        np.testing.assert_allclose(
            parameter.grad, named[torch_name(name)].grad, rtol=1e-8, atol=1e-10
        )


BENDS = {
    "relu": torch.relu,
    "relu2": lambda a: torch.relu(a) ** 2,
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda a: torch.nn.functional.gelu(a, approximate="tanh"),
    "swiglu": torch.nn.functional.silu,
    "geglu_tanh": lambda a: torch.nn.functional.gelu(a, approximate="tanh"),
}


@pytest.mark.parametrize("kind", BENDS)
def test_feed_forward(kind, rng):
    layer = FeedForward(D, 17, kind, rng=rng, dtype=float)
    x = numbers(rng, B, 3, D)
    t = torch.tensor(x.data, requires_grad=True)

    def through(linear, a):
        return a @ torch.tensor(linear.weight.data).T + torch.tensor(linear.bias.data)

    hidden = BENDS[kind](through(layer.up if layer.gate is None else layer.gate, t))
    if layer.gate is not None:
        hidden = hidden * through(layer.up, t)
    y, z = layer(x), through(layer.down, hidden)
    np.testing.assert_allclose(y.data, z.detach(), rtol=1e-10, atol=1e-12)
    weights = rng.standard_normal(y.shape)
    y.backward(weights)
    z.backward(torch.tensor(weights))
    np.testing.assert_allclose(x.grad, t.grad, rtol=1e-9, atol=1e-11)
    with pytest.raises(ValueError, match="not 'elu'"):
        FeedForward(D, 17, "elu", rng=rng)


def test_residual_by_its_formulas(rng):
    x, g, b = numbers(rng, B, T, D), rng.standard_normal(D), rng.standard_normal(D)
    branch = FeedForward(D, 17, rng=rng, dtype=float)

    def norm(h):
        return layer_norm(h, D, Tensor(g), Tensor(b))

    for place, expected in (
        ("pre", x + branch(norm(x))),
        ("post", norm(x + branch(x))),
    ):
        np.testing.assert_array_equal(residual(x, branch, norm, place).data, expected.data)
    np.testing.assert_array_equal(residual(x, branch).data, (x + branch(x)).data)


def randomized(cfg, rng):
    block = DecoderBlock(cfg, rng)
    for parameter in block.parameters():
        parameter.data[...] = rng.standard_normal(parameter.shape)
    return block


def test_parallel_and_sandwich_blocks(rng):
    common = {"width": D, "heads": H, "hidden": 17, "norm": "rms", "eps": 1e-6, "dtype": "float64"}
    x = numbers(rng, B, T, D)
    block = randomized(TransformerConfig(**common, parallel=True), rng)
    h = block.attention_norm(x)
    expected = x + block.attention(h) + block.feed_forward(h)
    np.testing.assert_allclose(block(x).data, expected.data, rtol=1e-12)
    assert block.feed_forward_norm is None

    block = randomized(TransformerConfig(**common, norm_place="sandwich"), rng)
    y = x + block.attention_after(block.attention(block.attention_norm(x)))
    y = y + block.feed_forward_after(block.feed_forward(block.feed_forward_norm(y)))
    np.testing.assert_allclose(block(x).data, y.data, rtol=1e-12)


def test_a_window_in_one_layer_of_two(rng):
    cfg = TransformerConfig(width=D, heads=H, hidden=8, encoder_layers=2, decoder_layers=2,
                            window=(2, None), dtype="float64")  # fmt: skip
    x = numbers(rng, 1, T, D)

    def sees(block, mask=None):
        x.grad = None
        block(x, mask=mask)[0, 2].sum().backward()
        return (np.abs(x.grad[0]).sum(-1) > 0).tolist()

    assert sees(DecoderBlock(cfg, rng, layer=0)) == [False, True, True, False, False]
    assert sees(DecoderBlock(cfg, rng, layer=1)) == [True, True, True, False, False]
    assert sees(DecoderBlock(cfg, rng, layer=2)) == [False, True, True, False, False]
    assert sees(EncoderBlock(cfg, rng, layer=0)) == [False, True, True, True, False]
    assert sees(EncoderBlock(cfg, rng, layer=1)) == [True] * 5
    visible = np.array([True, False, True, True, True])
    assert sees(EncoderBlock(cfg, rng, layer=0), visible) == [False, False, True, True, False]
    added = np.where(visible, 0.0, -np.inf)
    assert sees(EncoderBlock(cfg, rng, layer=0), added) == [False, False, True, True, False]


def test_layers_without_rotation(rng):
    cfg = TransformerConfig(width=D, heads=H, positions="rope", rope_base=(50.0, None, 70.0))
    bases = [DecoderBlock(cfg, rng, layer=i).attention.rope for i in range(5)]
    assert bases == [50.0, None, 70.0, 50.0, None]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feed_forward": "elu"}, "not 'elu'"),
        ({"norm": "batch"}, "norm is one of"),
        ({"width": 10, "heads": 3}, "width 10 does not divide into 3 heads"),
        ({"kv_heads": 3}, "8 heads do not divide into 3 groups"),
        ({"heads": 0}, "heads is at least 1, not 0"),
        ({"experts": 2, "experts_per_token": 3}, "1 to 2 experts, not 3"),
        ({"parallel": True, "norm_place": "post"}, "parallel"),
        ({"x0_residual": True, "encoder_layers": 1}, "x0_residual are for a decoder alone"),
        ({"value_embeddings": True}, "need a vocabulary, got vocab_size=0"),
    ],
)
def test_configurations_that_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**changes)


def test_initial_weights(rng):
    cfg = TransformerConfig(vocab_size=300, width=64, heads=4, encoder_layers=2, decoder_layers=3,
                            context=64, qk_norm=True)  # fmt: skip
    model = Transformer(cfg, rng)
    initialize_(model, rng)
    branches = 2 * 2 + 3 * 3
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            assert (parameter.data == (0 if name.endswith("bias") else 1)).all(), name
            continue
        to_stream = name.endswith(("out.weight", "down.weight"))
        expected = 0.02 / branches**0.5 if to_stream else 0.02
        assert parameter.data.std() == pytest.approx(expected, rel=0.06), name
    with pytest.raises(ValueError, match="at least 1 branch"):
        initial_weights({"down.weight": (3, 2)}, 0, rng)


def test_scores(rng):
    cfg = TransformerConfig(vocab_size=11, width=D, heads=H, decoder_layers=1, positions="none",
                            dtype="float64")  # fmt: skip
    x, ids = numbers(rng, B, T, D), rng.integers(0, 11, (B, T))
    model, capped = Transformer(cfg, rng), Transformer(replace(cfg, logit_cap=0.5), rng)
    capped.load_state_dict(model.state_dict())
    plain = model.predict(x).data
    np.testing.assert_allclose(plain, x.data @ model.tokens.weight.data.T, rtol=1e-12)
    np.testing.assert_allclose(capped.predict(x).data, 0.5 * np.tanh(plain / 0.5), rtol=1e-12)
    scaled = Transformer(replace(cfg, scaled=True), rng)
    scaled.load_state_dict(model.state_dict())
    np.testing.assert_allclose(scaled.embed(ids).data, D**0.5 * model.embed(ids).data, rtol=1e-12)
    # one table with two jobs gets the gradients of both
    weights = rng.standard_normal((B, T, 11))
    untied = Transformer(replace(cfg, tied=False), rng)
    state = {**model.state_dict(), "head.weight": model.tokens.weight.data}
    untied.load_state_dict(state)
    for m in (model, untied):
        (m(None, ids) * weights).sum().backward()
    both = untied.tokens.weight.grad + untied.head.weight.grad
    np.testing.assert_allclose(model.tokens.weight.grad, both, rtol=1e-9, atol=1e-12)


def test_token_model_by_its_formulas(rng):
    cfg = TransformerConfig(vocab_size=11, width=D, heads=H, decoder_layers=1, scaled=True,
                            positions="sinusoidal", dtype="float64")  # fmt: skip
    model, ids = TokenModel(cfg, rng), rng.integers(0, 11, (B, T))
    table = model.tokens.weight.data
    expected = D**0.5 * table[ids] + sinusoidal_encoding(T, D, dtype=float)
    np.testing.assert_allclose(model.embed(ids).data, expected, rtol=1e-12)
    x = numbers(rng, B, T, D)
    np.testing.assert_allclose(model.predict(x).data, x.data @ table.T, rtol=1e-12)


def test_where_blocks_may_look(rng):
    cfg = TransformerConfig(width=D, heads=H, hidden=8, encoder_layers=1, dtype="float64")
    x = numbers(rng, 1, T, D)

    def sees(block, position):
        x.grad = None
        block(x)[0, position].sum().backward()
        return (np.abs(x.grad[0]).sum(-1) > 0).tolist()

    assert sees(EncoderBlock(cfg, rng), 2) == [True] * T
    assert sees(DecoderBlock(cfg, rng), 2) == [True] * 3 + [False] * 2
    cross = DecoderBlock(cfg, rng, cross=True)
    with pytest.raises(ValueError, match="encoder's output"):
        cross(x)
    model = Transformer(cfg, rng)
    with pytest.raises(ValueError, match="source sequence"):
        model(None, x)
    alone = Transformer(replace(cfg, encoder_layers=0), rng)
    with pytest.raises(ValueError, match="no encoder"):
        alone(x, x)
    with pytest.raises(TypeError, match="no vocabulary"):
        model(np.ones((1, 2), int), x)


def test_normalization_places(rng):
    def first_and_last(place, layers=12):
        cfg = TransformerConfig(width=16, heads=2, encoder_layers=layers, decoder_layers=0,
                                norm_place=place, dtype="float64")  # fmt: skip
        encoder = Encoder(cfg, np.random.default_rng(0))
        encoder(Tensor(rng.standard_normal((4, 6, 16)))).backward(rng.standard_normal((4, 6, 16)))
        norms = [np.linalg.norm(b.feed_forward.down.weight.grad) for b in encoder.blocks]
        return norms[0] / norms[-1]

    # the early layers get the larger gradient, unless every sum on its way is normalized
    assert first_and_last("post") < 1 < first_and_last("pre")


def test_embeddings_and_positions(rng):
    for positions in ("learned", "sinusoidal", "rope", "none"):
        cfg = TransformerConfig(vocab_size=11, width=D, heads=H, decoder_layers=1, context=9,
                                positions=positions, dtype="float64")  # fmt: skip
        model = Transformer(cfg, rng)
        same = model(None, np.full((1, 4), 3)).data[0]
        assert same.shape == (4, 11)
        assert np.allclose(same[1], same[2]) == (positions in ("none", "rope"))


def test_warm_up():
    rates = [noam_lr(step, 512, 4000) for step in range(1, 20_001)]
    assert np.argmax(rates) == 3999
    assert max(rates) == pytest.approx((512 * 4000) ** -0.5)
    assert rates[1999] == pytest.approx(max(rates) / 2)
    assert rates[15_999] == pytest.approx(max(rates) / 2)
    with pytest.raises(ValueError, match="counted from 1"):
        noam_lr(0, 512, 4000)


# ---- what the document says of PyTorch -----------------------------------------------------------


def test_pytorch_layers_are_post_norm_by_default():
    layer = torch.nn.TransformerEncoderLayer(D, H)
    assert layer.norm_first is False
    assert torch.nn.TransformerEncoderLayer(D, H, norm_first=True).norm_first
    assert layer.linear1.out_features == 2048
    assert layer.dropout.p == 0.1
    assert layer.activation is torch.nn.functional.relu
    assert layer.self_attn.batch_first is False
    stack = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    assert stack.norm is None
    given = torch.nn.TransformerEncoder(layer, 2, torch.nn.LayerNorm(D), enable_nested_tensor=False)
    assert isinstance(given.norm, torch.nn.LayerNorm)


def test_pytorch_transformer_is_the_base_model_without_its_ends():
    with torch.device("meta"):
        base = torch.nn.Transformer()
    assert sum(p.numel() for p in base.parameters()) == 44_140_544
    assert not any(isinstance(module, torch.nn.Embedding) for module in base.modules())
    assert isinstance(base.encoder.norm, torch.nn.LayerNorm)
    assert isinstance(base.decoder.norm, torch.nn.LayerNorm)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(T)
    assert torch.equal(mask == -torch.inf, torch.tensor(~causal_mask(T)))
    assert not mask[torch.tensor(causal_mask(T))].any()


def test_pytorch_transformer_has_no_causal_mask_of_its_own():
    torch.manual_seed(0)
    model = torch.nn.Transformer(D, H, 1, 1, 17, 0.0, batch_first=True).double().eval()
    source, target = torch.randn(1, S, D).double(), torch.randn(1, T, D).double()
    changed = target.clone()
    changed[:, -1] += 1
    mask = torch.nn.Transformer.generate_square_subsequent_mask(T).double()
    with torch.no_grad():
        for options, leaks in (({}, True), ({"tgt_mask": mask}, False)):
            before, after = (model(source, t, **options)[:, 0] for t in (target, changed))
            assert torch.allclose(before, after) is not leaks


# ---- inputs that break things --------------------------------------------------------------------

NASTY = {
    "no example": np.zeros((0, T, D)),
    "no token": np.zeros((B, 0, D)),
    "one token": np.full((1, 1, D), 2.0),
    "zeros": np.zeros((B, T, D)),
    "equal tokens": np.full((B, T, D), 3.0),
    "huge": np.full((B, T, D), 1e150) * np.linspace(-1, 1, D),
    "tiny": np.full((B, T, D), 1e-300) * np.linspace(-1, 1, D),
}


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("place", ["pre", "post", "sandwich"])
@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_blocks_take_nasty_inputs(name, place, norm, rng):
    cfg = TransformerConfig(width=D, heads=H, hidden=17, norm_place=place, norm=norm,
                            dtype="float64")  # fmt: skip
    for kind in (EncoderBlock, DecoderBlock):
        x = Tensor(NASTY[name], requires_grad=True)
        y = kind(cfg, rng)(x)
        assert y.shape == x.shape
        assert np.isfinite(y.data).all()
        y.backward(np.ones(y.shape))
        assert x.grad.shape == x.shape
        assert np.isfinite(x.grad).all()


@pytest.mark.parametrize("experts", [0, 3])
def test_a_nan_stays_in_its_example(experts, rng):
    cfg = TransformerConfig(width=D, heads=H, hidden=17, experts=experts, feed_forward="swiglu",
                            bias=False, dtype="float64")  # fmt: skip
    x = rng.standard_normal((3, T, D))
    block = DecoderBlock(cfg, rng)
    clean = block(Tensor(x)).data
    x[1, 2, 3] = np.nan
    y = block(Tensor(x)).data
    np.testing.assert_allclose(y[[0, 2]], clean[[0, 2]], rtol=1e-12)
    assert np.isnan(y[1, 2:]).all()


def test_precision_is_kept(rng):
    for dtype in ("float32", "float64"):
        cfg = TransformerConfig(vocab_size=11, width=D, heads=H, encoder_layers=1,
                                decoder_layers=1, dtype=dtype)  # fmt: skip
        model = Transformer(cfg, rng)
        ids = rng.integers(0, 11, (B, T)).astype(np.uint8)
        assert model(ids, ids).dtype == np.dtype(dtype)


def test_weights_that_will_be_replaced_are_not_drawn(rng):
    cfg = TransformerConfig(13, D, H, decoder_layers=2, norm="rms", feed_forward="swiglu")
    blank = Transformer(cfg, Unset())
    initialize_(blank, Unset())
    for name, array in blank.state_dict().items():
        assert (array == (1 if "norm" in name else 0)).all(), name
        assert array.flags.writeable
    drawn = Transformer(cfg, rng)
    blank.load_state_dict(drawn.state_dict())
    ids = rng.integers(0, 13, (B, T))
    np.testing.assert_array_equal(blank(None, ids).data, drawn(None, ids).data)
