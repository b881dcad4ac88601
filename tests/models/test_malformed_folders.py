"""Folders of strangers: whatever is wrong with one is one clear line, and nothing is left."""

import json
import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_families import GEMMA_3, GPT2, LLAMA_3, V, random_gpt

from chainrule.data.text import CharTokenizer
from chainrule.models.huggingface import (
    FolderError,
    add_folder,
    open_folder,
    read_tokenizer,
    write_folder,
)
from chainrule.models.huggingface.folder import CONFIG, INDEX, TOKENIZER, WEIGHTS
from chainrule.modern_llms.pretraining import train_bpe
from chainrule.neural_networks.backpropagation import load_state, save_state

ROOT = Path(__file__).parents[2]
CHARS = CharTokenizer("".join(chr(ord("a") + i) for i in range(V)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Good folders, to be spoiled: each family once, and one with byte-level BPE."""
    place = tmp_path_factory.mktemp("folders")
    for name, cfg in (("gpt2", GPT2), ("llama", LLAMA_3), ("gemma", GEMMA_3)):
        write_folder(place / name, random_gpt(cfg), CHARS)
    bpe = train_bpe("the theatre of the thaw, the thought, the path " * 5, 262)
    write_folder(place / "bpe", random_gpt(replace(GPT2, vocab_size=262)), bpe)
    vocabulary = [*(f"<0x{b:02X}>" for b in range(256)), "t", "h", "▁", "th", "▁th"]
    mark = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    spaced = {
        "normalizer": mark, "pre_tokenizer": None, "added_tokens": [],
        "decoder": {"type": "Sequence", "decoders": [
            {**mark, "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "byte_fallback": True, "merges": [["t", "h"], ["▁", "th"]],
                  "vocab": {name: i for i, name in enumerate(vocabulary)}},
    }  # fmt: skip
    tokenizer = read_tokenizer(spaced, "spaced")
    write_folder(place / "spaced", random_gpt(replace(GPT2, vocab_size=261)), tokenizer)
    return place


@pytest.fixture
def spoiled(whole, tmp_path):
    """A copy of a good folder with one thing changed."""

    def spoil(name, change):
        folder = tmp_path / "folder"
        folder.mkdir()
        for path in (whole / name).iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        change(folder)
        return folder

    return spoil


def entries(file, **changes):
    """Change entries of a JSON file; ... takes one away."""

    def change(folder):
        found = json.loads((folder / file).read_text())
        for name, value in changes.items():
            *path, last = name.split("__")
            place = found
            for step in path:
                place = place[step]
            if value is ...:
                del place[last]
            else:
                place[last] = value
        (folder / file).write_text(json.dumps(found))

    return change


def arrays(**changes):
    """Change arrays; ... takes one away. Two underscores in a name are a dot."""

    def change(folder):
        state = load_state(folder / WEIGHTS)
        for name, value in changes.items():
            name = name.replace("__", ".")
            if value is ...:
                del state[name]
            else:
                state[name] = value(state[name]) if callable(value) else value
        save_state(folder / WEIGHTS, state, {"format": "pt"})

    return change


def raw(file, content):
    def change(folder):
        (folder / file).write_bytes(content)

    return change


def header(text, after=b"\0" * 8):
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    return raw(WEIGHTS, struct.pack("<Q", len(text)) + text + after)


def without(*files):
    def change(folder):
        for file in files:
            (folder / file).unlink()

    return change


def pickled(name):
    def change(folder):
        (folder / WEIGHTS).rename(folder / name)

    return change


def sharded(place, part="model-00001-of-00002.safetensors", drop=None):
    """Two files and an index, of which the second is missing, or names what is not there."""

    def change(folder):
        state = load_state(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        names = list(state)
        half = len(names) // 2
        save_state(folder / part, {n: state[n] for n in names[:half] if n != drop})
        second = {"weight_map": {n: part if i < half else place for i, n in enumerate(names)}}
        (folder / INDEX).write_text(json.dumps(second))

    return change


def merges(change_of):
    def change(folder):
        found = json.loads((folder / TOKENIZER).read_text())
        change_of(found["model"])
        (folder / TOKENIZER).write_text(json.dumps(found))

    return change


F32 = {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}
MALFORMED = {
    # the folder
    "no config": ("gpt2", without(CONFIG), "config.json is missing"),
    "no weights": ("gpt2", without(WEIGHTS), "there is no model.safetensors"),
    "no tokenizer": ("gpt2", without(TOKENIZER), "tokenizer.json is missing"),
    "pickled weights": (
        "gpt2", pickled("pytorch_model.bin"), "pytorch_model.bin is a pickle: reading it can run",
    ),
    "a pickled part": ("llama", pickled("consolidated.00.pth"), "00.pth is a pickle"),
    "another file of weights": (
        "gpt2", pickled("adapter_model.safetensors"), "there is adapter_model.safetensors, and",
    ),
    "a folder in the place of a file": (
        "gpt2", lambda folder: ((folder / CONFIG).unlink(), (folder / CONFIG).mkdir()),
        "config.json: not a file",
    ),
    "a pipe in the place of a file": (
        "gpt2", lambda folder: ((folder / TOKENIZER).unlink(), os.mkfifo(folder / TOKENIZER)),
        "tokenizer.json: not a file",
    ),
    "a pipe in the place of the weights": (
        "gpt2", lambda folder: ((folder / WEIGHTS).unlink(), os.mkfifo(folder / WEIGHTS)),
        "model.safetensors: not a file",
    ),
    # JSON
    "bad JSON": ("gpt2", raw(CONFIG, b'{"model_type": "gpt2",'), "config.json is not JSON: "),
    "no UTF-8": ("gpt2", raw(CONFIG, b'{"a": "\xff"}'), "config.json is not UTF-8: byte 7"),
    "a list": ("gpt2", raw(CONFIG, b"[]"), "config.json holds a list, expected names"),
    "nested too deeply": ("gpt2", raw(CONFIG, b"[" * 200_000), "config.json is not JSON that"),
    "a name twice": ("gpt2", raw(CONFIG, b'{"a": 1, "a": 2}'), "config.json: 'a' is given twice"),
    "an endless number": ("gpt2", raw(CONFIG, b'{"a": ' + b"9" * 9999 + b"}"), "not JSON that"),
    "no number": ("gpt2", entries(CONFIG, layer_norm_epsilon=float("nan")), "NaN is no number"),
    # configuration
    "unknown architecture": (
        "gpt2", entries(CONFIG, model_type="bert"), "its model_type is 'bert'; those that are read",
    ),
    "no architecture": ("gpt2", entries(CONFIG, model_type=...), "its model_type is None"),
    "an odd architecture": ("gpt2", entries(CONFIG, model_type=[1]), "its model_type is [1]"),
    "another head": (
        "llama", entries(CONFIG, architectures=["LlamaForSequenceClassification"]),
        "its architectures are ['LlamaForSequenceClassification'], expected ['LlamaForCausalLM']",
    ),
    "a program of its own": (
        "llama", entries(CONFIG, auto_map={"AutoModel": "x.Y"}), "auto_map: it asks for a program",
    ),
    "quantized": (
        "llama", entries(CONFIG, quantization_config={"bits": 4}), "quantization_config: its",
    ),
    "an unknown entry": (
        "llama", entries(CONFIG, no_rope_layers=[1]), "entry 'no_rope_layers' is not understood",
    ),
    "an entry with a hostile name": (
        "llama", entries(CONFIG, **{"a\n\x1b[2J" * 99: 1}), "the entry 'a\\n\\x1b[2J",
    ),
    "another activation": (
        "llama", entries(CONFIG, hidden_act="gelu"), "hidden_act is 'gelu'; only 'silu' is read",
    ),
    "an unknown bend": (
        "gpt2", entries(CONFIG, activation_function="swish"), "activation_function is 'swish'",
    ),
    "biases in attention alone": (
        "llama", entries(CONFIG, attention_bias=True), "attention_bias True beside mlp_bias False",
    ),
    "scaled by layer": (
        "gpt2", entries(CONFIG, scale_attn_by_inverse_layer_idx=True), "idx is True; only False is",
    ),
    "no width": ("llama", entries(CONFIG, hidden_size=...), "there is no entry hidden_size"),
    "a width of text": (
        "llama", entries(CONFIG, hidden_size="24"), "hidden_size is '24', expected a whole number",
    ),
    "a width below zero": ("llama", entries(CONFIG, hidden_size=-24), "hidden_size is -24"),
    "a fractional width": ("llama", entries(CONFIG, hidden_size=24.0), "hidden_size is 24.0"),
    "a true width": ("llama", entries(CONFIG, hidden_size=True), "hidden_size is True"),
    "a huge width": (
        "llama", entries(CONFIG, hidden_size=10**400), "hidden_size is a huge number",
    ),
    "a width that no array has": (
        "llama", entries(CONFIG, hidden_size=2**30),
        "embed_tokens.weight has shape (23, 24), expected (23, 1073741824)",
    ),
    "a billion layers": (
        "llama", entries(CONFIG, num_hidden_layers=10**9), "arrays are not those of 1000000000",
    ),
    "a billion kinds of layers": (
        "gemma", entries(CONFIG, num_hidden_layers=10**9), "more than any model has",
    ),
    "heads that do not divide": (
        "gpt2", entries(CONFIG, n_head=5), "width 24 does not divide into 5 heads",
    ),
    "groups that do not divide": (
        "llama", entries(CONFIG, num_key_value_heads=3), "4 heads do not divide into 3 groups",
    ),
    "an odd head": ("llama", entries(CONFIG, head_dim=7), "rotary pairs need an even one"),
    "an eps below zero": ("llama", entries(CONFIG, rms_norm_eps=-1), "rms_norm_eps is -1"),
    "an unknown rotation": (
        "llama", entries(CONFIG, rope_parameters__rope_type="longrope"), "rope_type is 'longrope'",
    ),
    "a rotation without its factor": (
        "llama", entries(CONFIG, rope_parameters__rope_type="llama3"), "needs the entry 'factor'",
    ),
    "an unknown setting of the rotation": (
        "llama", entries(CONFIG, rope_parameters__mscale=1.0), "setting 'mscale' is not understood",
    ),
    "half a rotation": (
        "llama", entries(CONFIG, rope_parameters__partial_rotary_factor=0.5), "partial_rotary",
    ),
    "two bases": (
        "llama", entries(CONFIG, rope_theta=3), "rope_theta is 3, and rope_parameters say 500000",
    ),
    "a base that is a list": ("llama", entries(CONFIG, rope_theta=[1]), "rope_theta is [1], and"),
    "two scalings": (
        "llama", entries(CONFIG, rope_scaling={"type": "linear", "factor": 2}), "only one is read",
    ),
    "a scaling that is a number": (
        "llama", entries(CONFIG, rope_parameters=..., rope_scaling=3), "rotary settings are 3",
    ),
    "another factor of YaRN": (
        "llama", entries(CONFIG, rope_parameters={
            "rope_theta": 500000.0, "rope_type": "yarn", "factor": 4,
            "original_max_position_embeddings": 8, "attention_factor": 1.0}),
        "attention_factor is 1; only the usual 1.13863 is read",
    ),
    "a factor of YaRN that is a list": (
        "llama", entries(CONFIG, rope_parameters={
            "rope_theta": 500000.0, "rope_type": "yarn", "factor": 4, "attention_factor": [1]}),
        "attention_factor is [1], expected a number above 0",
    ),
    "a base of one kind of layer": (
        "gemma", entries(CONFIG, rope_parameters__sliding_attention__rope_theta=...),
        "rope_parameters have no rope_theta of sliding_attention",
    ),
    "a rotation that is none": ("llama", entries(CONFIG, rope_parameters=3), "settings are 3"),
    "an eps that QK-norm lacks": (
        "gemma", entries(CONFIG, rms_norm_eps=1e-5), "rms_norm_eps is 1e-05; with QK-norm only",
    ),
    "an unknown kind of layer": (
        "gemma", entries(CONFIG, layer_types=["chunked_attention"] * 7), "'chunked_attention'",
    ),
    "kinds of fewer layers": (
        "gemma", entries(CONFIG, layer_types=["full_attention"]), "do not say the kind of 7 layers",
    ),
    "scores scaled otherwise": (
        "gemma", entries(CONFIG, query_pre_attn_scalar=9), "scalar is 9; only head_dim, 8, is read",
    ),
    "a window that looks ahead": (
        "gemma", entries(CONFIG, use_bidirectional_attention=True), "attention is True; only False",
    ),
    # weights
    "an empty file of weights": ("gpt2", raw(WEIGHTS, b""), "its header is missing"),
    "a header of four gigabytes": (
        "gpt2", raw(WEIGHTS, struct.pack("<Q", 1 << 32) + b"{}"), "its header is missing",
    ),
    "a header that is no JSON": ("gpt2", header(b"{" * 64), "its header is not JSON"),
    "a hostile header": (
        "gpt2", header({"a": {"dtype": "F32", "shape": [2**62, 2], "data_offsets": [0, 8]}}),
        "a with shape (4611686018427387904, 2) and type F32 does not fill bytes 0 to 8",
    ),
    "arrays that overlap": (
        "gpt2", header({"a": F32, "b": {**F32, "data_offsets": [4, 12]}}, b"\0" * 12),
        "b with shape (1, 2) and type F32 does not fill",
    ),
    "an array below zero": (
        "gpt2", header({"a": {**F32, "shape": [-1, -2]}}), "entry for a is malformed",
    ),
    "an array twice": (
        "gpt2", header(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":1}'),
        "has the name a twice",
    ),
    "bytes left over": ("gpt2", header({"a": F32}, b"\0" * 16), "8 bytes belong to no array"),
    "weights cut short": (
        "gpt2", lambda folder: (folder / WEIGHTS).write_bytes(
            (folder / WEIGHTS).read_bytes()[:-4]), "the file is cut short",
    ),
    "wrong shape": (
        "gpt2", arrays(transformer__h__1__mlp__c_fc__weight=np.zeros((96, 24), np.float32)),
        "transformer.h.1.mlp.c_fc.weight has shape (96, 24), expected (24, 96)",
    ),
    "a missing array": (
        "gpt2", arrays(transformer__h__1__ln_2__bias=...), "there is no array transformer.h.1.ln_2",
    ),
    "an unknown array": (
        "llama", arrays(model__layers__0__self_attn__sinks=np.ones(4, np.float32)),
        "the array 'model.layers.0.self_attn.sinks' is not understood",
    ),
    "a layer too many": (
        "gpt2", entries(CONFIG, n_layer=2), "the array 'transformer.h.2.attn.c_attn.bias' is not",
    ),
    "whole numbers": (
        "llama", arrays(model__norm__weight=np.ones(24, np.int8)), "has numbers of type int8",
    ),
    "no scores": ("llama", arrays(lm_head__weight=...), "there is no array lm_head.weight"),
    "a tied table that is another": (
        "gpt2", arrays(lm_head__weight=np.ones((V, 24), np.float32)), "is not the table of tokens",
    ),
    "a missing shard": (
        "llama", sharded("model-00002-of-00002.safetensors"), "00002-of-00002.safetensors: No such",
    ),
    "a shard from elsewhere": (
        "llama", sharded("../../secret.safetensors"), "is not the name of a file beside it",
    ),
    "a shard without its array": (
        "llama",
        sharded("model-00001-of-00002.safetensors"),
        "is not in model-00001-of-00002.safetensors",
    ),
    "an index of nothing": (
        "gpt2", lambda folder: ((folder / WEIGHTS).unlink(), (folder / INDEX).write_text("{}")),
        "there is no weight_map",
    ),
    # tokenizer
    "unknown pieces": (
        "bpe", merges(lambda model: model["merges"].append(["qq", "t"])),
        "joins 'qq', which no earlier merge makes",
    ),
    "a result without an id": (
        "bpe", merges(lambda model: model["vocab"].pop("th")), "a merge makes b'th', which is not",
    ),
    "a whole piece that merges do not make": (
        "bpe",
        merges(lambda model: model.update(ignore_merges=True) or model["vocab"].update(zz=262)),
        "ignore_merges is true, and merges do not make b'zz'",
    ),
    "a merge of three": (
        "bpe", merges(lambda model: model["merges"].append(["t", "h", "e"])), "expected two tokens",
    ),
    "a merge twice": (
        "bpe", merges(lambda model: model["merges"].append(model["merges"][0])), "a second time",
    ),
    "an id twice": (
        "bpe", merges(lambda model: model["vocab"].update(th=7)), "have the id 7",
    ),
    "an id of text": (
        "bpe", merges(lambda model: model["vocab"].update(th="7")), "the id of 'th' is '7'",
    ),
    "ids beyond the table": (
        "bpe", entries(TOKENIZER, added_tokens=[{"id": 999, "content": "<x>"}]), "ids reach 999",
    ),
    "a token that is no bytes": (
        "bpe", merges(lambda model: model["vocab"].update({"▁the": 262})), "is not spelled as",
    ),
    "an added token without a name": (
        "bpe", entries(TOKENIZER, added_tokens=[{"id": 300}]), "has no name or no id",
    ),
    "another model of tokens": (
        "bpe", entries(TOKENIZER, model__type="Unigram"), "its model is 'Unigram'; those that are",
    ),
    "bytes as a last resort that are not there": (
        "spaced", merges(lambda model: model["vocab"].pop("<0x07>")), "<0x07> is not in the",
    ),
    "an unknown piece beside spaces": (
        "spaced", merges(lambda model: model["merges"].append(["t", "q"])), "merge 2 needs 'q'",
    ),
    "a merge twice beside spaces": (
        "spaced", merges(lambda model: model["merges"].append(["t", "h"])), "a second time",
    ),
    "spaces that cut": (
        "spaced", entries(TOKENIZER, normalizer=None, pre_tokenizer={
            "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}),
        "its spaces are marked by {'type': 'Metaspace'",
    ),
    "another way back to spaces": (
        "spaced", entries(TOKENIZER, decoder={"type": "ByteFallback"}), "its decoder is {'type'",
    ),
    "a token that takes spaces with it": (
        "spaced", entries(TOKENIZER, added_tokens=[{"id": 300, "content": "<x>", "lstrip": True}]),
        "the added token '<x>' takes spaces with it",
    ),
    "a token in normalized text": (
        "spaced",
        entries(TOKENIZER, added_tokens=[{"id": 300, "content": "<x>", "normalized": True}]),
        "is looked for in normalized text",
    ),
    "another cut": (
        "bpe", entries(TOKENIZER, pre_tokenizer={"type": "Metaspace"}), "its pre_tokenizer is",
    ),
    "another normal form": (
        "bpe", entries(TOKENIZER, normalizer={"type": "Lowercase"}), "its normalizer is",
    ),
    "tokens after the text": (
        "bpe", entries(TOKENIZER, post_processor={"type": "TemplateProcessing", "single": [
            {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "</s>"}}]}), "its post_processor is",
    ),
    "another decoder": (
        "bpe", entries(TOKENIZER, decoder={"type": "Metaspace"}), "its decoder is",
    ),
    "words for characters": (
        "gpt2", merges(lambda model: model["vocab"].update(ab=V)), "'ab' is not one character",
    ),
    "characters with a gap": (
        "gpt2", merges(lambda model: model["vocab"].update(z=99)), "its ids are not 0 to 23",
    ),
    "a token for unknown characters": (
        "gpt2", entries(TOKENIZER, model__unk_token="c"), "unknown characters have a token of",
    ),
    "a token for unknown bytes": (
        "bpe",
        merges(lambda model: (model["vocab"].pop("!"), model.update(unk_token="a"))),
        "bytes are missing, and unknown ones have a token",
    ),
    "an unknown entry of the model of tokens": (
        "bpe", entries(TOKENIZER, model__cost=1), "the entry 'cost' of its model is not understood",
    ),
    "no model of tokens": ("gpt2", raw(TOKENIZER, b"{}"), "there is no model in it"),
    "a vocabulary that is a list": (
        "gpt2", entries(TOKENIZER, model__vocab=[]), "no vocabulary of tokens and ids",
    ),
    "SentencePiece alone": (
        "llama", lambda folder: (folder / TOKENIZER).rename(folder / "tokenizer.model"),
        "tokenizer.model is a file of SentencePiece, which is not read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_one_clear_line(name, spoiled, tmp_path, monkeypatch):
    kind, change, message = MALFORMED[name]
    cache = tmp_path / "cache"
    monkeypatch.setenv("CHAINRULE_CACHE", str(cache))
    folder = spoiled(kind, change)
    with pytest.raises(FolderError) as caught:
        add_folder(folder, "stranger")
    line = str(caught.value)
    assert message in line
    assert "\n" not in line
    assert "\x1b" not in line
    assert len(line) < 400
    assert not [path for path in cache.rglob("*") if path.name != "models"]


def test_the_folders_were_good(whole, tmp_path, monkeypatch):
    """Every refusal above is about the one thing that was changed."""
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path))
    for name in ("gpt2", "llama", "gemma", "bpe", "spaced"):
        place, opened = add_folder(whole / name, name)
        assert sorted(p.name for p in place.iterdir()) == sorted(
            p.name for p in (whole / name).iterdir()
        )
        again = open_folder(place).model.state_dict()
        for key, array in opened.model.state_dict().items():
            assert array.tobytes() == again[key].tobytes()


ODD = [
    None, True, 0, -1, 2, 0.5, 1e308, 10**30, "", "x", "\n\x1b", [], [None], ["a", "b"], {},
    {"a": 1}, {"type": "Sequence"}, {"type": "Sequence", "processors": [3]}, {"rope_type": []},
]  # fmt: skip


def places(value, path=()):
    """The paths of all entries in a JSON value; of long ones the first."""
    for key in list(value if isinstance(value, dict) else range(len(value)))[:40]:
        yield (*path, key)
        if isinstance(value[key], dict | list):
            yield from places(value[key], (*path, key))


def test_random_damage(whole, tmp_path, rng):
    """Whatever one entry is changed to, a folder is read or refused in one line."""
    refused = 0
    for round_ in range(500):
        name = rng.choice(["gpt2", "llama", "gemma", "bpe", "spaced"])
        file = rng.choice([CONFIG, TOKENIZER])
        found = json.loads((whole / name / file).read_text())
        *path, last = list(places(found))[rng.integers(len(list(places(found))))]
        inside = found
        for step in path:
            inside = inside[step]
        inside[last] = ODD[rng.integers(len(ODD))]
        folder = tmp_path / str(round_)
        folder.mkdir()
        for each in (whole / name).iterdir():
            (folder / each.name).symlink_to(each)
        (folder / file).unlink()
        (folder / file).write_text(json.dumps(found))
        try:
            open_folder(folder)
        except FolderError as error:
            refused += 1
            line = str(error)
            assert len(line) < 400, (path, last)
            assert line.isprintable(), (path, last)
    assert refused > 250
