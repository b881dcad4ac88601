"""Folders of Hugging Face: what transformers computes from them is what the course computes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from small_families import FAMILIES, GEMMA_3, GPT2, LLAMA_3, V, random_gpt
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers.models import BPE
from transformers import AutoModelForCausalLM, AutoTokenizer

from chainrule.data.models import is_present
from chainrule.data.text import CharTokenizer, DataError
from chainrule.models.huggingface import (
    FolderError,
    open_folder,
    published_config,
    read_config,
    state_shapes,
    write_folder,
)
from chainrule.models.huggingface.cutting import read_cut, written_cut
from chainrule.models.huggingface.folder import TOKENIZER, WEIGHTS
from chainrule.models.trained import known_model
from chainrule.modern_llms.pretraining import ByteBPE, TokenizerError, split_digits, train_bpe
from chainrule.neural_networks.backpropagation import load_state, save_state
from chainrule.transformers.transformer_architecture import (
    GEMMA_3_1B,
    GPT2_XL,
    LLAMA_3_8B,
    MIXTRAL_8X7B,
    QWEN_3_06B,
    count_params,
)

T = 11
ALPHABET = "\n ,.-aehlostuxzéßäöüΩ\u0301😀"
CHARS = CharTokenizer(ALPHABET)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def theirs(folder, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", experts_implementation="eager", dtype=dtype,
        trust_remote_code=False,
    ).eval()  # fmt: skip


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor(ids)).logits.numpy()


def same_bits(one, other):
    a, b = one.state_dict(), other.state_dict()
    assert a.keys() == b.keys()
    for name, array in a.items():
        assert array.dtype == b[name].dtype
        assert array.tobytes() == b[name].tobytes(), name


@pytest.mark.parametrize("name", FAMILIES)
def test_there_and_back(name, tmp_path, rng):
    kind, cfg = FAMILIES[name]
    model, ids = random_gpt(cfg), rng.integers(0, V, (2, T))
    write_folder(tmp_path / "a", model, CHARS)
    there = theirs(tmp_path / "a")
    assert there.config.model_type == kind
    assert there.generation_config.max_length == cfg.context
    assert sum(p.numel() for p in there.parameters()) == count_params(cfg)
    np.testing.assert_allclose(logits(there, ids), model(ids).data, rtol=1e-4, atol=1e-4)
    there.save_pretrained(tmp_path / "b")
    AutoTokenizer.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    for folder in ("a", "b"):
        back = open_folder(tmp_path / folder)
        assert back.family.kind == kind
        same_bits(back.model, model)
        assert not back.model.training
        assert back.tokenizer.alphabet == CHARS.alphabet
        settings = replace(cfg, dropout=0.0, balance="loss")
        assert published_config(back.model.config) == published_config(settings)


@pytest.fixture
def doubles(monkeypatch):
    """transformers computes norms, angles and shares in float32 whatever the model is: not here."""

    def widened(function):
        def call(*given, **named):
            wide = [torch.float64 if x is torch.float32 else x for x in (*given, *named.values())]
            return function(
                *wide[: len(given)], **dict(zip(named, wide[len(given) :], strict=True))
            )

        return call

    monkeypatch.setattr(torch.Tensor, "to", widened(torch.Tensor.to))
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    for place, name in ((torch.nn.functional, "softmax"), (torch, "softmax"), (torch, "arange")):
        monkeypatch.setattr(place, name, widened(getattr(place, name)))


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("name", FAMILIES)
def test_in_double_precision_nothing_is_left_of_the_difference(name, tmp_path, rng):
    _, cfg = FAMILIES[name]
    model, ids = random_gpt(replace(cfg, dtype="float64")), rng.integers(0, V, (2, T))
    write_folder(tmp_path / "a", model, CHARS)
    found = logits(theirs(tmp_path / "a", torch.float64), ids)
    np.testing.assert_allclose(found, model(ids).data, rtol=0, atol=1e-12)
    same_bits(open_folder(tmp_path / "a").model, model)


@pytest.mark.parametrize("name", FAMILIES)
def test_shapes_without_a_model(name):
    _, cfg = FAMILIES[name]
    built = {n: a.shape for n, a in random_gpt(cfg).state_dict().items()}
    assert state_shapes(cfg) == built
    assert sum(int(np.prod(s)) for n, s in built.items() if "bias" not in n or cfg.bias) == (
        count_params(cfg)
    )


@pytest.mark.parametrize(
    "cfg", [GPT2_XL, LLAMA_3_8B, QWEN_3_06B, GEMMA_3_1B, MIXTRAL_8X7B], ids=lambda c: str(c.width)
)
def test_published_sizes_from_the_configuration_alone(cfg):
    entries = published_config(cfg)
    config = transformers.AutoConfig.for_model(**entries)
    with torch.device("meta"):
        there = AutoModelForCausalLM.from_config(config)
    assert sum(p.numel() for p in there.parameters()) == count_params(cfg)
    assert read_config(config.to_dict() | {"architectures": entries["architectures"]}, "x")[1] == (
        replace(cfg, dtype="float32")
    )


# ---- configurations ------------------------------------------------------------------------------


def test_older_entries_say_the_same(tmp_path):
    """Files of transformers 4 name the rotary settings otherwise."""
    llama = published_config(replace(LLAMA_3, rope_scaling={"type": "linear", "factor": 3.0}))
    rope = llama.pop("rope_parameters")
    for key in ("type", "rope_type"):
        older = {**llama, "rope_scaling": {key: "linear", "factor": 3.0}}
        found = read_config({**older, "rope_theta": rope["rope_theta"]}, "x")[1]
        assert found.rope_of(0) == (500_000.0, {"type": "linear", "factor": 3.0})
    gemma = published_config(replace(GEMMA_3, rope_scaling=None))
    for name in ("rope_parameters", "layer_types"):
        del gemma[name]
    older = {**gemma, "rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window_pattern": 6}
    found = read_config(older, "x")[1]
    assert published_config(found) == published_config(replace(GEMMA_3, rope_scaling=None))
    usual = transformers.AutoConfig.for_model("gpt2").to_dict()
    usual["architectures"] = ["GPT2LMHeadModel"]
    assert count_params(read_config(usual, "x")[1]) == 124_439_808


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (replace(GPT2, norm_place="post"), "GPT-2, has norm_place 'pre', not 'post'"),
        (replace(GPT2, kv_heads=2), "as many key-value heads as heads, not 2 and 4"),
        (replace(GPT2, feed_forward="relu2"), "'gelu' or 'relu', not 'relu2'"),
        (replace(GPT2, positions="sinusoidal"), "positions 'learned', not 'sinusoidal'"),
        (replace(GPT2, window=3), "no window, not 3"),
        (replace(GPT2, d_head=8), "heads of width 24/4, not 8"),
        (replace(LLAMA_3, qk_norm=True, eps=1e-5), "one eps for all norms, not 1e-05"),
        (replace(LLAMA_3, rope_base=(1e4, 1e5)), "one rotary base"),
        (replace(LLAMA_3, rope_base=None), "one rotary base, not None"),
        (replace(LLAMA_3, rope_scaling={"type": "ntk", "factor": 2}), "no rotary scaling 'ntk'"),
        (replace(GEMMA_3, window=(3, 4)), "one size of window, not (3, 4)"),
        (replace(LLAMA_3, experts=3, shared_experts=1), "Mixtral, has shared_experts 0, not 1"),
        (replace(LLAMA_3, window=(3, None)), "window, not (3, None)"),
        (replace(LLAMA_3, parallel=True), "parallel False, not True"),
        (replace(LLAMA_3, sink=True), "Llama, has sink False, not True"),
        (replace(GPT2, value_embeddings=True), "GPT-2, has value_embeddings False, not True"),
        (replace(GPT2, x0_residual=True), "GPT-2, has x0_residual False, not True"),
    ],
)
def test_what_no_family_computes_is_said_by_its_field(cfg, message, tmp_path):
    with pytest.raises(FolderError) as caught:
        write_folder(tmp_path / "a", random_gpt(cfg), CHARS)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


# ---- tokenizers ----------------------------------------------------------------------------------

TEXTS = ["", "hello, stautaöß\n\n", "é e\u0301", "\t\r\n  x", "It's 2,048 tokens; they'll fit.",
         "  two  spaces ", "naïve 東京 😀\u200d😀", "a\u00a0b\u2028c", "1234567",
         "\x1c\x1f\x85"]  # fmt: skip


def test_characters(tmp_path):
    write_folder(tmp_path / "a", random_gpt(GPT2), CHARS)
    found = AutoTokenizer.from_pretrained(tmp_path / "a")
    for text in ("", ALPHABET, "hello,\n\nhello", "lost soul\n -", ALPHABET[::-1] * 3, "e\u0301"):
        assert found.encode(text) == CHARS.encode(text).tolist()
        assert found.decode(found.encode(text)) == text
        assert found(text)["input_ids"] == CHARS.encode(text).tolist()
    for text in ("Q", "[UNK]", "hello Q"):
        with pytest.raises(DataError):
            CHARS.encode(text)
        with pytest.raises(Exception, match="UNK"):
            found.encode(text)


@pytest.fixture(scope="module")
def text():
    return " ".join(TEXTS) * 3 + "the theatre of the thaw, that they then thought through. " * 9


@pytest.mark.parametrize("special", [{}, {"<|end|>": 300, "<|start|>": 301}])
@pytest.mark.parametrize("split", ["pieces", "digits"])
def test_bytes_in_pairs(special, split, text, tmp_path):
    learned = train_bpe(text, 300)
    assert len(learned) == 300
    bpe = ByteBPE(learned.merges, special)
    if split == "digits":
        bpe = ByteBPE(learned.merges, special, split_digits)
    write_folder(tmp_path / "a", random_gpt(replace(GPT2, vocab_size=303)), bpe)
    found = AutoTokenizer.from_pretrained(tmp_path / "a")
    for each in (*TEXTS, text, "<|end|>", "a<|start|>b"):
        assert found.encode(each) == bpe.encode(each), each
        assert found.decode(bpe.encode(each)) == each
    back = open_folder(tmp_path / "a").tokenizer
    assert isinstance(back, ByteBPE)
    assert (back.merges, back.special, back.tokens) == (bpe.merges, bpe.special, bpe.tokens)
    assert back.split is bpe.split


@pytest.fixture
def strange(text):
    """A tokenizer in the manner of Llama 3: control tokens first, bytes in between, one missing."""
    learned = train_bpe(text, 290)
    spelled = set(pre_tokenizers.ByteLevel.alphabet())
    names = ["<s>", "<pad>", *sorted(spelled - {"õ"})]
    from chainrule.modern_llms.pretraining import byte_spelling

    spell = byte_spelling()
    shown = ["".join(spell[b] for b in token) for token in learned.tokens]
    names += [name for name in shown if name not in names and name != "õ"]
    model = BPE({n: i for i, n in enumerate(names)}, [(shown[a], shown[b])
                                                      for a, b in learned.merges])  # fmt: skip
    made = Tokenizer(model)
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False, use_regex=True)]
    )
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(n, special=True) for n in names[:2]])
    made.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    return made


def by(digits):
    """The expression that tokenizer.json of Llama 3 and of Qwen 2 and 3 holds."""
    return (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + digits +
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )  # fmt: skip


@pytest.mark.parametrize("digits", ["{1,3}", ""], ids=["Llama 3", "Qwen"])
def test_cuts_of_words(digits, rng):
    cut = pre_tokenizers.Split(Regex(by(digits)), "isolated")
    made = Tokenizer(BPE({"a": 0}, []))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [cut, pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    split = read_cut(json.loads(made.to_str())["pre_tokenizer"])
    assert written_cut(split) == json.loads(made.to_str())["pre_tokenizer"]
    some = list("'sSſtTreveLlmMdDaé漢Ω \t\r\n\u00a0\u2028\x1c\x85\u3000.,!-_😀\u0301\u200d019²Ⅷ٣")
    texts = ["".join(rng.choice(some, n)) for n in rng.integers(1, 30, 400)]
    for text in (*TEXTS, *texts):
        assert split(text) == [piece for piece, _ in cut.pre_tokenize_str(text)], ascii(text)


@pytest.mark.parametrize("frame", ["plain", "begin", "normal", "llama", "whole"])
def test_a_published_vocabulary(frame, strange, tmp_path):
    if frame in ("llama", "whole"):
        if frame == "whole":
            stored = json.loads(strange.to_str())
            stored["model"]["ignore_merges"] = True
            strange = Tokenizer.from_str(json.dumps(stored))
        strange.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(by("{1,3}")), "isolated"),
             pre_tokenizers.ByteLevel(False, use_regex=False)]
        )  # fmt: skip
        start = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        strange.post_processor = processors.Sequence([processors.ByteLevel(), start])
    if frame == "begin":
        strange.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    if frame == "normal":
        strange.normalizer = normalizers.NFC()
    size = strange.get_vocab_size()
    write_folder(tmp_path / "a", random_gpt(replace(GPT2, vocab_size=size)), CHARS)
    (tmp_path / "a" / TOKENIZER).write_text(strange.to_str(), encoding="utf-8")
    opened = open_folder(tmp_path / "a")
    assert len(opened.tokenizer) == size
    strange.encode_special_tokens = True
    for text in (*TEXTS, "<think>so<think", "<s>"):
        assert opened.tokenizer.encode(text) == strange.encode(text).ids, text
    write_folder(tmp_path / "b", opened.model, opened.tokenizer)
    again = AutoTokenizer.from_pretrained(tmp_path / "b")
    for text in (*TEXTS, "<s>?", " <think><think>"):
        assert again.encode(text) == opened.tokenizer.encode(text), text
    back = open_folder(tmp_path / "b").tokenizer
    assert back.places == opened.tokenizer.places
    assert (back.begin, back.normal) == (opened.tokenizer.begin, opened.tokenizer.normal)


NAMED = {"<h1>": False, "\n\n": False, "<h1><h1>": False, "<turn>": True}


@pytest.mark.parametrize("manner", ["Llama 2", "Gemma", "Mistral", "never"])
def test_spaces_as_marks_and_bytes_as_a_last_resort(manner, text, tmp_path):
    """The layout of SentencePiece's BPE, in four manners, and tokens found in the text."""
    raw = Tokenizer(BPE())
    mark = normalizers.Replace(" ", "▁")
    raw.normalizer = mark
    raw.train_from_iterator([text], trainers.BpeTrainer(vocab_size=200, show_progress=False))
    learned = json.loads(raw.to_str())["model"]
    missing = {"é", "j"}
    names = ["<unk>", "<s>", *(f"<0x{b:02X}>" for b in range(256))]
    names += [name for name in learned["vocab"] if not missing & set(name)]
    merges = [tuple(pair) for pair in learned["merges"] if not missing & set("".join(pair))]
    made = Tokenizer(BPE({n: i for i, n in enumerate(names)}, merges, byte_fallback=True,
                         fuse_unk=True, unk_token="<unk>"))  # fmt: skip
    back = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    strip = [decoders.Strip(" ", 1, 0)]
    if manner == "Llama 2":
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), mark])
    elif manner == "Gemma":
        made.normalizer, strip = mark, []
        made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        scheme = "first" if manner == "Mistral" else "never"
        made.pre_tokenizer = pre_tokenizers.Metaspace("▁", scheme, split=False)
        strip = strip if manner == "Mistral" else []
    made.decoder = decoders.Sequence([*back, *strip])
    made.add_special_tokens([AddedToken("<s>", special=True), AddedToken("<unk>", special=True)])
    added = [AddedToken(n, special=s, normalized=False) for n, s in NAMED.items()]
    for token in added:
        (made.add_special_tokens if token.special else made.add_tokens)([token])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    size = made.get_vocab_size()
    made.encode_special_tokens = True
    write_folder(tmp_path / "a", random_gpt(replace(GPT2, vocab_size=size)), CHARS)
    (tmp_path / "a" / TOKENIZER).write_text(made.to_str(), encoding="utf-8")
    opened = open_folder(tmp_path / "a")
    assert len(opened.tokenizer) == size
    ours = opened.tokenizer
    more = ["<h1>the<h1><h1><h1>", " <h1> the\n\n\nthe", "the <s><turn><unk>", " ", "▁", "▁the ▁",
            "\n\n", "<h1"]  # fmt: skip
    for each in (*TEXTS, *more, text):
        ids = made.encode(each).ids
        assert ours.encode(each) == ids, each
        assert ours.decode(ids[1:]) == made.decode(ids[1:], skip_special_tokens=False), each
    with pytest.raises(TokenizerError, match="no UTF-8"):
        ours.encode("\ud800")
    with pytest.raises(TokenizerError, match="no token"):
        ours.decode([size])
    write_folder(tmp_path / "b", opened.model, ours)
    again = AutoTokenizer.from_pretrained(tmp_path / "b")
    for each in (*TEXTS, *more):
        assert again.encode(each) == ours.encode(each), each


def test_two_files_of_gpt2(tmp_path, text):
    from chainrule.modern_llms.pretraining import save_bpe

    bpe = train_bpe(text, 280)
    write_folder(tmp_path / "a", random_gpt(replace(GPT2, vocab_size=280)), bpe)
    (tmp_path / "a" / TOKENIZER).unlink()
    save_bpe(bpe, tmp_path / "a/vocab.json", tmp_path / "a/merges.txt")
    assert open_folder(tmp_path / "a").tokenizer.merges == bpe.merges


# ---- weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_many_files_and_narrow_numbers(tied, tmp_path, rng):
    """Shards, bfloat16, a copy of the tied table, and the masks that GPT-2's own files hold."""
    model = random_gpt(replace(GPT2, tied=tied))
    write_folder(tmp_path / "a", model, CHARS)
    there = theirs(tmp_path / "a")
    there.save_pretrained(tmp_path / "b", max_shard_size="3KB")
    (tmp_path / "b" / TOKENIZER).write_bytes((tmp_path / "a" / TOKENIZER).read_bytes())
    opened = open_folder(tmp_path / "b")
    assert len([f for f in opened.files if f.suffix == ".safetensors"]) > 3
    same_bits(opened.model, model)

    state = load_state(tmp_path / "a" / WEIGHTS)
    bare = {name.removeprefix("transformer."): array for name, array in state.items()}
    bare["h.0.attn.bias"] = np.ones((1, 1, 13, 13), np.float32)
    if tied:
        bare["lm_head.weight"] = bare["wte.weight"]
    save_state(tmp_path / "a" / WEIGHTS, bare)
    same_bits(open_folder(tmp_path / "a").model, model)

    there.to(torch.bfloat16).save_pretrained(tmp_path / "b")
    narrow = open_folder(tmp_path / "b").model
    assert narrow.tokens.weight.dtype == np.float32
    ids = rng.integers(0, V, (1, T))
    expected = logits(theirs(tmp_path / "b", torch.float32), ids)
    np.testing.assert_allclose(narrow(ids).data, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(narrow(ids).data, model(ids).data, atol=0.5)


def test_a_bias_of_the_choice_has_no_place(tmp_path):
    model = random_gpt(FAMILIES["Mixtral"][1])
    model.blocks[1].feed_forward.choice_bias.data[2] = 0.1
    with pytest.raises(FolderError, match=r"blocks.1.feed_forward.choice_bias is not zero"):
        write_folder(tmp_path / "a", model, CHARS)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not is_present("smollm2"), reason="type: chainrule models get smollm2")
def test_a_published_model_goes_out_and_comes_back(tmp_path):
    """SmolLM2, from its file of four bits into a folder of float32."""
    known = known_model(Path("smollm2"))
    model, tokenizer = known.pair
    write_folder(tmp_path / "a", model, tokenizer, known.card)
    found = AutoTokenizer.from_pretrained(tmp_path / "a")
    text = "The capital of France is 1234, isn't it? naïve 東京 😀\n\n  x <|im_start|>user"
    for each in (*TEXTS, text):
        assert found.encode(each) == tokenizer.encode(each), each
    ids = np.array([tokenizer.encode(text)])
    expected = logits(theirs(tmp_path / "a"), ids)
    np.testing.assert_allclose(model(ids).data, expected, rtol=1e-4, atol=2e-3)
    back = open_folder(tmp_path / "a")
    same_bits(back.model, model)
    assert back.tokenizer.encode(text) == tokenizer.encode(text)
