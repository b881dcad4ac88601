"""The names: what the module's docstrings and the documents say about them."""

from __future__ import annotations

import random
import string
from pathlib import Path

import chainrule.data.names
from chainrule.data.names import first_names, load_names


def test_what_the_list_holds():
    names = first_names()
    assert names == sorted(set(names))
    assert len(names) == 5163
    assert sum(map(len, names)) == 30_959
    assert (min(map(len, names)), max(map(len, names))) == (2, 11)
    assert set("".join(names)) == set(string.ascii_lowercase)
    assert {"mary", "james", "guillermina", "christopher"} <= set(names)


def test_the_file_says_where_it_comes_from():
    text = (Path(chainrule.data.names.__file__).parent / "names.txt").read_text("ascii")
    head = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert "census of 1990" in head
    assert "public domain" in head.lower()


def test_the_split_is_fixed_and_disjoint():
    names = load_names()
    assert [len(part) for part in names] == [4647, 258, 258]
    assert sorted([*names.train, *names.validation, *names.test]) == first_names()
    assert load_names() == names
    random.seed(1)
    assert load_names() == names
    assert names.train[:3] == ["grady", "leida", "anita"]
    assert names.test[-1] == "adriene"


def test_the_split_is_not_by_the_alphabet():
    """Each part begins with every common letter about as often as the whole list does."""
    whole = first_names()
    for part in load_names():
        for letter in "acjlm":
            share = sum(name[0] == letter for name in part) / len(part)
            expected = sum(name[0] == letter for name in whole) / len(whole)
            assert abs(share - expected) < 0.05
