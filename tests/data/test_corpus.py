"""The frozen corpus: complete, split by document, described by its manifest, free of markup."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from chainrule.data import corpus as package
from chainrule.data.corpus import PARTS, frozen_corpus
from chainrule.data.text import DataError
from chainrule.trainer import corpus as taking

FOLDER = Path(package.__file__).parent


def test_manifest_describes_the_text():
    corpus = frozen_corpus()
    manifest = json.loads((FOLDER / "course.json").read_text(encoding="utf-8"))
    raw = (FOLDER / "course.txt").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == corpus.sha256 == manifest["sha256"]
    assert "".join(corpus.documents.values()) == raw.decode("utf-8")
    assert manifest["characters"] == len(raw.decode("utf-8"))


def test_documents_are_in_one_part_each():
    corpus = frozen_corpus()
    parts = [set(corpus.names(part)) for part in PARTS]
    assert all(parts)
    assert set.union(*parts) == set(corpus.documents)
    assert sum(map(len, parts)) == len(corpus.documents)
    assert sum(len(corpus.text(part)) for part in PARTS) == sum(map(len, corpus.documents.values()))
    with pytest.raises(ValueError, match="'dev'"):
        corpus.names("dev")


def test_every_character_has_a_token():
    corpus = frozen_corpus()
    tokenizer = corpus.tokenizer()
    for text in corpus.documents.values():
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer) == len(corpus.alphabet) < 256


def test_nothing_but_prose():
    for name, text in frozen_corpus().documents.items():
        for mark in ("<!--", "```", "](", "<details", "**", "#> "):
            slipped = (name, mark) == ("architectures/lstms", "](")  # a link in two lines, once
            assert text.count(mark) == slipped, (name, mark)
        assert not re.search(r"^\||^#|^> |^import ", text, re.M), name


@pytest.mark.parametrize("spoilt", ["course.txt", "course.json"])
def test_a_changed_file_is_refused(tmp_path, spoilt):
    for name in ("course.txt", "course.json"):
        shutil.copy(FOLDER / name, tmp_path / name)
    path = tmp_path / spoilt
    path.write_bytes(path.read_bytes().replace(b"a", b"b", 1) if spoilt.endswith("txt")
                     else path.read_bytes().replace(b'"sha256": "', b'"sha256": "0'))  # fmt: skip
    with pytest.raises(DataError, match="SHA-256"):
        frozen_corpus(tmp_path)


PAGE = """# A title

<!-- generated: header -->
| Before | because |
<!-- /generated -->

Words with a [link](other.md#place), *stress*, **weight** and a source [3, 4]; `a * b` stays.

```python
print(1)
#> 1
```

<a id="eq-one"></a>

```math
a = b
+ c
```

> [!NOTE]
> In a box, $x_{[1]} * y$, [a broken
> link](other.md).

| a | table |
|---|---|

![drawn](x.svg)

*A caption.*

<details><summary>Answer</summary>

Five.

</details>

## Exercises

gone

## What stays

1. The last.

## References

1. A. Nobody.
"""


def test_what_is_stripped():
    assert taking.prose(PAGE).split("\n") == [
        "A title",
        "Words with a link, stress, weight and a source; `a * b` stays.",
        "$$a = b + c$$",
        "In a box, $x_{[1]} * y$, a broken link.",
        "A caption.",
        "Five.",
        "What stays",
        "The last.",
        "",
    ]


def test_a_renewal_moves_no_document():
    parts = [taking.part_of(place) for place in range(1, 11)]
    assert parts == ["train"] * 4 + ["validation"] + ["train"] * 4 + ["test"]
    corpus = frozen_corpus()
    root = FOLDER.parents[3]
    _, manifest = taking.snapshot(root)
    now = {entry["id"]: entry["part"] for entry in manifest["documents"]}
    assert {name: now[name] for name in corpus.documents} == corpus.parts


def test_it_is_written_by_one_command(tmp_path, capsys):
    root = FOLDER.parents[3]
    shutil.copy(root / "course.toml", tmp_path / "course.toml")
    (tmp_path / "transformers").mkdir()
    page = "\n".join(["# Attention", "", "The dog bites the man. " * 5])
    (tmp_path / "transformers/attention.md").write_text(page, encoding="utf-8")
    assert taking.main(["--root", str(tmp_path), "--write"]) == 0
    written = frozen_corpus(tmp_path / taking.FOLDER)
    assert written.names("train") == ["transformers/attention"]
    assert np.unique(written.tokenizer().encode(written.text("train"))).size > 10
    assert "transformers/attention" in capsys.readouterr().out
