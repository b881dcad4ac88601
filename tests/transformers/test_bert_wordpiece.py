"""WordPiece against transformers and tokenizers, and against the file of a real model."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import BertWordPieceTokenizer

from chainrule.course.manifest import load_course
from chainrule.transformers.bert import SentenceEncoder, WordPiece, pack_pair, words_of

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
PIECES = [*SPECIAL, *LETTERS, *(f"##{c}" for c in LETTERS), "un", "##aff", "##able", "##ing", "the",
          "attention", "##tion", "soft", "##max", ".", ",", "-", "中", "'", "##s", "d"]  # fmt: skip
VOCABULARY = list(dict.fromkeys(PIECES))

TEXTS = [
    "", " ", "unaffable", "The attention-softmax.", "Über naïve café, élan", "中文 text中d",
    "a" * 100, "a" * 101, "tab\there\r\nnew\u00a0line", "zero\u200bwidth \u00adsoft",
    "x\x00y\ufffdz",
    "don't — “quote” … 3.14e-5 $x^2$ `code` <tag> {a|b}", "ﬁne ﬃ Ⅷ ² ½", "İstanbul ǅ ẞ", "e\u0301",
    "\u3000ideographic\u2028line", "🙂 emoji d", "[MASK] is not special here", "ąęłż", "한국어 d",
    "𝐱 = 𝑊", "a\u0300\u0301\u0302b", "∞ ≤ × ‖", "\x7f\x1bdel",
]  # fmt: skip


@pytest.fixture(scope="module")
def theirs():
    tokenizer = BertWordPieceTokenizer(
        {piece: i for i, piece in enumerate(VOCABULARY)}, lowercase=True, strip_accents=None
    )
    tokenizer._tokenizer.post_processor = None
    return tokenizer


@pytest.mark.parametrize("text", TEXTS)
def test_against_tokenizers(text, theirs):
    ours = WordPiece(VOCABULARY)
    if "[MASK]" in text:  # tokenizers reads special tokens in the text; ours takes text as text
        assert "[MASK]" not in ours.pieces(text)
        return
    assert ours.pieces(text) == theirs.encode(text).tokens


def test_words():
    assert words_of("Don't  Stop: Café!") == ["don", "'", "t", "stop", ":", "cafe", "!"]


def test_longest_piece_first():
    tokenizer = WordPiece(VOCABULARY)
    assert tokenizer.cut("unaffable") == ["un", "##aff", "##able"]
    assert tokenizer.cut("softmaxß") == ["[UNK]"]
    ids = tokenizer.encode("the softmax")
    assert ids[0] == tokenizer.cls
    assert ids[-1] == tokenizer.sep
    assert tokenizer.decode(ids) == "[CLS] the softmax [SEP]"
    assert len(tokenizer.encode("the attention softmax unaffable", longest=5)) == 5
    assert tokenizer.encode("the attention", longest=2).tolist() == [tokenizer.cls, tokenizer.sep]


def test_vocabulary_refused():
    with pytest.raises(ValueError, match="twice"):
        WordPiece([*SPECIAL, "a", "a"])
    with pytest.raises(ValueError, match=r"lacks \[MASK\]"):
        WordPiece(SPECIAL[:-1])


@pytest.mark.parametrize("lengths", [(0, 0), (1, 9), (9, 1), (7, 7), (3, 4), (40, 2)])
@pytest.mark.parametrize("length", [3, 8, 13, 29])
def test_pairs_are_cut_as_transformers_cuts_them(lengths, length, rng):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing

    words = [f"w{i}" for i in range(50)]
    theirs = Tokenizer(WordLevel({w: i + 3 for i, w in enumerate(words)}, unk_token="w0"))
    theirs.pre_tokenizer = WhitespaceSplit()
    theirs.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )  # fmt: skip
    theirs.enable_truncation(length, strategy="longest_first")
    theirs.enable_padding(length=length, pad_id=0)
    a, b = (rng.choice(words, n).tolist() for n in lengths)
    found = theirs.encode(" ".join(a), " ".join(b))
    number = {w: i + 3 for i, w in enumerate(words)}
    ids, segments, mask = pack_pair(
        [number[w] for w in a], [number[w] for w in b], length, cls=1, sep=2, pad=0
    )
    assert len(ids) == len(segments) == len(mask) == length
    if sum(lengths) <= length - 3:
        assert ids.tolist() == found.ids
        assert segments.tolist() == found.type_ids
        assert mask.astype(int).tolist() == found.attention_mask
    else:
        first = int((ids == 2).argmax()) - 1
        second = length - 3 - first
        assert abs(first - second) <= 1 or min(first, second) in lengths


def test_pairs_refused():
    with pytest.raises(ValueError, match="the length is 2"):
        pack_pair([1], [2], 2, cls=1, sep=2, pad=0)


# ---- the real vocabulary, where it is present --------------------------------------------------


@pytest.fixture(scope="module")
def folder():
    from chainrule.data.models import model_folder

    found = model_folder("minilm")
    if not (found / "model.safetensors").is_file():
        pytest.skip("all-MiniLM-L6-v2 is not present; type: chainrule models get minilm")
    return found


@pytest.fixture(scope="module")
def lines():
    course = load_course(Path(__file__).parents[2])
    files = [course.root / "README.md", *(course.root / d.path for d in course.written())]
    texts = [file.read_text(encoding="utf-8") for file in files]
    return [line for text in texts for line in text.splitlines() if line.strip()]


def test_agrees_on_every_line_of_the_course(folder, lines):
    from tokenizers import Tokenizer

    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs.no_truncation()
    theirs.no_padding()
    ours = WordPiece.from_file(folder / "vocab.txt")
    for line, found in zip(lines, theirs.encode_batch(lines), strict=True):
        if any(piece in line for piece in SPECIAL):
            continue  # tokenizers reads special tokens in the text; ours takes text as text
        assert ours.encode(line).tolist() == found.ids, line


def test_vectors_are_those_of_transformers(folder, lines):
    import torch
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel

    from chainrule.transformers.bert import load_encoder

    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12,
                        intermediate_size=1536)  # fmt: skip
    theirs = BertModel(config).eval()
    state = load_file(folder / "model.safetensors")
    state.pop("embeddings.position_ids", None)
    theirs.load_state_dict(state)
    ours = load_encoder(folder)
    assert isinstance(ours, SentenceEncoder)
    texts = [
        "why divide by the root of d",
        "The dog bites the man.",
        lines[7],
        " ".join(lines[:60]),
    ]
    found = ours.encode(texts)
    for text, vector in zip(texts, found, strict=True):
        ids = torch.tensor(ours.tokenizer.encode(text, 256))[None]
        with torch.no_grad():
            mean = theirs(ids).last_hidden_state[0].mean(dim=0)
        np.testing.assert_allclose(vector, (mean / mean.norm()).numpy(), atol=1e-5)
    together = ours.encode(texts, batch=4)  # padded beside each other
    np.testing.assert_allclose(together, ours.encode(texts, batch=1), atol=1e-5)
