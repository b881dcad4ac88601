"""Each converter against the party it is named after; without it, the two must differ."""

import json

import numpy as np
import pytest
import scipy.signal
import scipy.stats
import tokenizers
import torch
import torch.nn.functional as F
import transformers.activations
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
from transformers.models.t5.modeling_t5 import T5Attention
from transformers.pytorch_utils import Conv1D

from chainrule.architectures.cnns import conv1d, conv2d
from chainrule.architectures.lstms import GRUCell, LSTMCell
from chainrule.clinic.conventions import CONVENTIONS, lines, main
from chainrule.course.manifest import find_root
from chainrule.math_foundations import information_theory
from chainrule.neural_networks.activation_functions import gelu
from chainrule.neural_networks.backpropagation import Parameter, linear, tensor, var
from chainrule.neural_networks.regularization import BatchNorm1d, rms_norm
from chainrule.training.batching import pad_batch
from chainrule.training.loss_functions import cross_entropy, huber, kl_div
from chainrule.training.optimizers import SGD, AdamW
from chainrule.transformers.attention import scaled_dot_product_attention
from chainrule.transformers.self_attention import causal_mask, rope, sinusoidal_encoding
from chainrule.transformers.transformer_architecture import EncoderBlock, TransformerConfig

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def np_of(x):
    return x.detach().numpy() if isinstance(x, torch.Tensor) else getattr(x, "data", x)


# Each case gets the converter, or what leaves it out, and returns our numbers and theirs.


@case
def out_by_in(convert, rng):
    x, layer = rng.normal(size=(3, 5)), Conv1D(5, 5).double()
    layer.bias.data.zero_()
    W = layer.weight.detach().numpy()
    return linear(tensor(x), tensor(convert(W))), layer(torch.tensor(x))


@case
def rows_for_halves(convert, rng):
    heads, d, n = 2, 6, 5
    x, W = rng.normal(size=(n, 7)), rng.normal(size=(2, heads * d, 7))
    angle = np.arange(n)[:, None] * 10000.0 ** (-np.arange(0, d, 2) / d)

    def scores_in_pairs():  # as complex numbers, like Llama's own code
        q, k = (torch.tensor((x @ w.T).reshape(n, heads, d // 2, 2)) for w in W)
        turn = torch.polar(torch.ones(n, d // 2).double(), torch.tensor(angle))[:, None]
        q, k = (torch.view_as_real(torch.view_as_complex(a) * turn) for a in (q, k))
        return torch.einsum("qhpc,khpc->hqk", q, k)

    q, k = (
        rope(tensor((x @ convert(w, heads).T).reshape(n, heads, d).swapaxes(0, 1)), np.arange(n))
        for w in W
    )
    return q.data @ k.data.swapaxes(1, 2), scores_in_pairs()


@case
def one_bias(convert, rng):
    theirs = torch.nn.LSTMCell(3, 4).double()
    ours = LSTMCell(3, 4, rng=rng, dtype=float)
    w_x, w_h, b_x, b_h = (p.detach().numpy() for p in theirs.parameters())
    ours.load_state_dict({"weight_x": w_x, "weight_h": w_h, "bias": convert(b_x, b_h)})
    x, h, c = rng.normal(size=(2, 3)), rng.normal(size=(2, 4)), rng.normal(size=(2, 4))
    wanted = theirs(torch.tensor(x), (torch.tensor(h), torch.tensor(c)))
    return ours(tensor(x), (tensor(h), tensor(c)))[0], wanted[0]


@case
def gates_in_order(convert, rng):
    W, x, h, c = (rng.normal(size=s) for s in ((12, 4), (2, 4), (2, 3), (2, 3)))
    R = rng.normal(size=(12, 3))
    i, o, f, g = np.split(x @ W.T + h @ R.T, 4, axis=1)  # ONNX operator LSTM: W[iofc]
    s = scipy.special.expit
    wanted = s(o) * np.tanh(s(f) * c + s(i) * np.tanh(g))
    cell = LSTMCell(4, 3, rng=rng, dtype=float)
    cell.load_state_dict({"weight_x": convert(W), "weight_h": convert(R), "bias": np.zeros(12)})
    return cell(tensor(x), (tensor(h), tensor(c)))[0], wanted


@case
def gain_around_one(convert, rng):
    theirs = Gemma3RMSNorm(5, eps=1e-6)
    theirs.weight.data = torch.tensor(rng.normal(size=5) * 0.1, dtype=torch.float32)
    x = rng.normal(size=(3, 5)).astype("float32")
    gain = Parameter(convert(theirs.weight.detach().numpy()))
    return rms_norm(tensor(x), 5, gain, eps=1e-6), theirs(torch.tensor(x))


@case
def query_for_scaled(convert, rng):
    config = transformers.T5Config(d_model=6, d_kv=3, num_heads=2, dropout_rate=0.0)
    theirs = T5Attention(config, has_relative_attention_bias=False).double().eval()
    for p in theirs.parameters():
        p.data = torch.tensor(rng.normal(size=p.shape))
    W = {name: getattr(theirs, name).weight.detach().numpy() for name in "qkvo"}
    W["q"] = convert(W["q"], 3)
    x = rng.normal(size=(1, 4, 6))
    q, k, v = ((x @ W[n].T).reshape(1, 4, 2, 3).swapaxes(1, 2) for n in "qkv")
    found, _ = scaled_dot_product_attention(tensor(q), tensor(k), tensor(v))
    ours = found.data.swapaxes(1, 2).reshape(1, 4, 6) @ W["o"].T
    return ours, theirs(torch.tensor(x))[0]


@case
def transposed_v(convert, rng):
    A = rng.normal(size=(5, 5))
    torch.manual_seed(0)
    u, s, v = (a.numpy() for a in torch.svd_lowrank(torch.tensor(A), q=5))
    return u * s @ convert(v), A


@case
def turned_back(convert, rng):
    d, n = 6, 4
    x, positions = rng.normal(size=(n, d)), np.arange(n)
    angles = positions[:, None] * 10000.0 ** (-np.arange(0, d, 2) / d)
    turns = [[[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]] for a in angles.ravel()]
    R = [scipy.linalg.block_diag(*turns[m * 3 : m * 3 + 3]) for m in positions]
    wanted = np.stack([row @ matrix for row, matrix in zip(x, R, strict=True)])
    return rope(tensor(x), convert(positions), layout="interleaved"), wanted


@case
def in_turn(convert, rng):
    angles = np.arange(5)[:, None] / 10000.0 ** (np.arange(0, 8, 2) / 8)
    theirs = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    return sinusoidal_encoding(5, 8, dtype=float), convert(theirs)


@case
def heads_before_time(convert, rng):
    q, k, v = rng.normal(size=(3, 2, 4, 4, 3))  # batch, time, heads, d
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(3)
    wanted = np.einsum("bhqk,bkhd->bqhd", scipy.special.softmax(scores, axis=-1), v)
    ours, _ = scaled_dot_product_attention(*(tensor(convert(a)) for a in (q, k, v)))
    return convert(ours.data), wanted


@case
def may_look(convert, rng):
    theirs = torch.nn.MultiheadAttention(4, 1, bias=False, batch_first=True).double()
    theirs.in_proj_weight.data = torch.eye(4).double().repeat(3, 1)
    theirs.out_proj.weight.data = torch.eye(4).double()
    x, hidden = rng.normal(size=(1, 5, 4)), ~causal_mask(5)
    hidden[2, 0] = True
    hidden[0, 1] = False
    X = torch.tensor(x)
    wanted = theirs(X, X, X, attn_mask=torch.tensor(hidden), need_weights=False)[0]
    return scaled_dot_product_attention(*[tensor(x)] * 3, mask=convert(hidden))[0], wanted


@case
def filled_on_the_right(convert, rng):
    words = tokenizers.models.WordLevel({"pad": 0, "a": 1, "b": 2, "c": 3}, unk_token="pad")
    theirs = tokenizers.Tokenizer(words)
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    theirs.enable_padding(direction="left", pad_id=0, pad_token="pad")
    found = theirs.encode_batch(["a b c", "c", "b a"])
    rows, real = (np.array([getattr(e, n) for e in found]) for n in ("ids", "attention_mask"))
    return pad_batch([[1, 2, 3], [3], [2, 1]])[0], convert(rows, real)


@case
def channels_first(convert, rng):
    images, kernel = rng.normal(size=(2, 3, 3, 3)), rng.normal(size=(4, 3, 3, 3))
    wanted = np.einsum("nhwc,mchw->nm", images, kernel)
    return conv2d(tensor(convert(images)), tensor(kernel)).data[..., 0, 0], wanted


@case
def turned_kernel(convert, rng):
    x, kernel = rng.normal(size=9), rng.normal(size=4)
    ours = conv1d(tensor(x[None, None]), tensor(convert(kernel)[None, None].copy()))
    return ours.data[0, 0], scipy.signal.convolve(x, kernel, mode="valid")


@case
def sample_std(convert, rng):
    x = rng.normal(size=(7, 3))
    return var(tensor(x), axis=0).data ** 0.5, convert(x.std(axis=0), 7)


@case
def nats(convert, rng):
    p = rng.dirichlet(np.ones(5))
    return information_theory.entropy(p), convert(scipy.stats.entropy(p, base=2))


def texts(rng):
    lengths = [2, 5, 3]
    return lengths, [rng.normal(size=(n, 7)) for n in lengths], [
        rng.integers(0, 7, n) for n in lengths
    ]  # fmt: skip


@case
def token_mean(convert, rng):
    lengths, logits, targets = texts(rng)
    ours = cross_entropy(tensor(np.concatenate(logits)), np.concatenate(targets)).data
    each = [F.cross_entropy(*map(torch.tensor, pair)) for pair in zip(logits, targets, strict=True)]
    return ours, np.mean(convert(np.array(each), np.array(lengths)))


@case
def mean_by_rows(convert, rng):
    p, q = rng.dirichlet(np.ones(5), (2, 3))
    theirs = F.kl_div(torch.tensor(np.log(q)), torch.tensor(p), reduction="mean")
    wanted = np.mean([information_theory.kl(a, b) for a, b in zip(p, q, strict=True)])
    np.testing.assert_allclose(kl_div(tensor(np.log(q)), tensor(p)).data, theirs)
    return wanted, convert(float(theirs), 5)


@case
def smoothing_of_all(convert, rng):
    logits, targets = rng.normal(size=(4, 5)), rng.integers(0, 5, 4)
    log_p = scipy.special.log_softmax(logits, axis=1)
    own = log_p[np.arange(4), targets]  # fairseq: eps_i = eps / (classes - 1)
    wanted = -((1 - 0.2) * own + 0.2 / 4 * (log_p.sum(axis=1) - own)).mean()
    return cross_entropy(tensor(logits), targets, label_smoothing=convert(0.2, 5)), wanted


@case
def from_smooth_l1(convert, rng):
    a, b = rng.normal(size=(2, 9))
    theirs = F.smooth_l1_loss(torch.tensor(a), torch.tensor(b), beta=0.3)
    return huber(tensor(a), b, delta=0.3), convert(float(theirs), 0.3)


@case
def decay_beside_rate(convert, rng):
    w, g, lr, decay = rng.normal(size=5), rng.normal(size=5), 0.01, 0.001
    parameter = Parameter(w.copy())
    parameter.grad = g
    AdamW([parameter], lr=lr, weight_decay=convert(decay, lr)).step()
    return parameter.data, w - lr * g / (np.abs(g) + 1e-8) - decay * w


@case
def rate_for_sums(convert, rng):
    w, gradients, lr, beta = rng.normal(size=5), rng.normal(size=(3, 5)), 0.1, 0.8
    parameter, m, wanted = Parameter(w.copy()), np.zeros(5), w.copy()
    optimizer = SGD([parameter], lr=convert(lr, beta), momentum=beta)
    for g in gradients:
        m = beta * m + (1 - beta) * g
        wanted -= lr * m
        parameter.grad = g
        optimizer.step()
    return parameter.data, wanted


@case
def epsilon_after(convert, rng):
    w, g, lr, eps_hat = rng.normal(size=5), rng.normal(size=5), 0.01, 0.02
    parameter = Parameter(w.copy())
    parameter.grad = g
    eps = convert(eps_hat, 0.999, 1)
    AdamW([parameter], lr=lr, weight_decay=0.0, eps=eps).step()
    m, v = 0.1 * g, 0.001 * g**2
    rate = lr * np.sqrt(1 - 0.999) / (1 - 0.9)
    return parameter.data, w - rate * m / (np.sqrt(v) + eps_hat)


@case
def weight_of_new(convert, rng):
    x, norm = rng.normal(2.0, 1.0, size=(6, 3)), BatchNorm1d(3, momentum=convert(0.8), dtype=float)
    norm(tensor(x))
    return norm.state_dict()["running_mean"], 0.8 * 0.0 + (1 - 0.8) * x.mean(axis=0)


@case
def as_gpt2_bends(convert, rng):
    x = rng.normal(size=20)
    return gelu(tensor(x), **convert()), transformers.activations.ACT2FN["gelu_new"](
        torch.tensor(x)
    )


@case
def as_in_the_paper(convert, rng):
    cell = GRUCell(3, 4, **convert(), rng=rng, dtype=float)
    for p in cell.parameters():
        p.data[:] = np.random.default_rng(p.data.size).normal(size=p.shape)
    x, h = rng.normal(size=(2, 3)), rng.normal(size=(2, 4))
    W, U, b = cell.weight_x.data, cell.weight_h.data, cell.bias.data
    s = scipy.special.expit
    (Wr, Wz, W), (Ur, Uz, U), (br, bz, b) = (np.split(a, 3) for a in (W, U, b))
    r, z = s(x @ Wr.T + h @ Ur.T + br), s(x @ Wz.T + h @ Uz.T + bz)
    wanted = (1 - z) * np.tanh(x @ W.T + (r * h) @ U.T + b) + z * h
    return cell(tensor(x), tensor(h)), wanted


@case
def norm_after_sum(convert, rng):
    sizes = {"width": 6, "heads": 2, "hidden": 7, "encoder_layers": 1, "dtype": "float64"}
    ours = EncoderBlock(TransformerConfig(**sizes, feed_forward="relu", **convert()), rng)
    theirs = torch.nn.TransformerEncoderLayer(6, 2, 7, 0.0, batch_first=True).double()
    names = {
        "attention_norm": "norm1",
        "attention.qkv.": "self_attn.in_proj_",
        "attention.out": "self_attn.out_proj",
        "feed_forward_norm": "norm2",
        "feed_forward.up": "linear1",
        "feed_forward.down": "linear2",
    }
    state = {}
    for name, value in ours.state_dict().items():
        (own,) = (own for own in names if name.startswith(own))
        state[name] = theirs.state_dict()[name.replace(own, names[own])].numpy()
        assert state[name].shape == value.shape
    ours.load_state_dict(state)
    x = rng.normal(size=(2, 5, 6))
    return ours(tensor(x)), theirs(torch.tensor(x))


def left_out(first=None, *rest):
    return {} if first is None else first


def distance(name, convert):
    rng = np.random.default_rng(3)
    ours, theirs = (np.asarray(np_of(a), float) for a in CASES[name](convert, rng))
    return np.abs(ours - theirs).max() if ours.shape == theirs.shape else np.inf


@pytest.mark.parametrize("name", CONVENTIONS)
def test_the_converter_leads_to_the_same_numbers(name):
    tolerance = 1e-6 if name == "gain_around_one" else 1e-10
    assert distance(name, CONVENTIONS[name].convert) < tolerance


@pytest.mark.parametrize("name", CONVENTIONS)
def test_without_the_converter_the_numbers_differ(name):
    assert distance(name, left_out) > 1e-5


def test_transformers_turns_as_this_course_does():
    x = np.random.default_rng(0).normal(size=(5, 6))
    angles = np.arange(5)[:, None] * 10000.0 ** (-np.arange(0, 6, 2) / 6)
    cos, sin = (torch.tensor(np.tile(f(angles), 2))[None] for f in (np.cos, np.sin))
    X = torch.tensor(x)[None, None]
    theirs, _ = apply_rotary_pos_emb(X, X, cos, sin)
    np.testing.assert_allclose(rope(tensor(x), np.arange(5)).data, theirs[0, 0], atol=1e-12)


def test_the_page_is_written_from_what_is_stored(capsys):
    stored = json.loads((find_root() / "reference/rosetta.json").read_text(encoding="utf-8"))
    assert stored == {name: row.words for name, row in CONVENTIONS.items()}
    text = "\n".join(lines(stored))
    assert all(row.question in text for row in CONVENTIONS.values())
    assert main(["--check"]) == 0
    assert capsys.readouterr().out == ""
