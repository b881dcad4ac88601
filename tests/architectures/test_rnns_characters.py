"""Names as arrays, count tables, sampling."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from chainrule.architectures.rnns import ALPHABET, CharRNN, CountTable, encode_names, sample_text
from chainrule.data.names import load_names
from chainrule.math_foundations.probability import softmax


def test_encoding_by_hand():
    ids, targets = encode_names(["ann", "jo"])
    np.testing.assert_array_equal(ids, [[0, 1, 14, 14], [0, 10, 15, 0]])
    np.testing.assert_array_equal(targets, [[1, 14, 14, 0], [10, 15, 0, -100]])


def test_every_name_comes_back():
    names = ["bo", "christopher", "a"]
    ids, targets = encode_names(names)
    assert ids.shape == targets.shape == (3, 12)
    for name, row in zip(names, targets, strict=True):
        assert "".join(ALPHABET[i] for i in row if i >= 0) == name + "."


@pytest.mark.parametrize("names", [[], ["Anna"], ["zoë"], ["an na"], ["a.b"]])
def test_what_cannot_be_encoded(names):
    with pytest.raises(ValueError, match=r"at least one name|small letters a to z, received"):
        encode_names(names)


def test_the_count_table_by_hand():
    table = CountTable(["ann", "anna"], order=2, alpha=0.5)
    # after a: n, n, dot; after n: n, dot, n, a; after the dot: a, a
    assert table.contexts == {".": 2, "a": 3, "n": 4}
    assert table.grams["an"] == 2
    p = [(2 + 0.5) / (2 + 13.5), (2 + 0.5) / (3 + 13.5), (1 + 0.5) / (4 + 13.5)]
    assert table.loss(["an"]) == pytest.approx(-np.mean(np.log(p)))


def test_unigrams_and_what_was_never_seen():
    single = CountTable(["ab"], order=1, alpha=1)
    p = np.array([2 / 30, 2 / 30, 2 / 30])
    assert single.loss(["ab"]) == pytest.approx(-np.log(p).mean())
    assert CountTable(["ab"], order=4, alpha=0.1).loss(["z"]) == pytest.approx(
        -np.mean(np.log([0.1 / (1 + 2.7), 1 / 27]))
    )
    with pytest.raises(ValueError, match="received order 0"):
        CountTable(["ab"], 0, 1)
    with pytest.raises(ValueError, match="alpha 0"):
        CountTable(["ab"], 1, 0)


def test_samples_follow_the_models_distribution():
    rng = np.random.default_rng(5)
    model = CharRNN(27, 3, rng=rng, dtype=float)
    model.output.weight.data *= 5
    model.output.bias.data[0] += 1
    names = sample_text(model, 20_000, rng, temperature=0.7)
    first = softmax(model(np.zeros((1, 1), int))[0].data[0, 0] / 0.7)
    found = np.bincount([ALPHABET.index((n + ".")[0]) for n in names], minlength=27) / len(names)
    error = np.sqrt(first * (1 - first) / len(names))
    assert (np.abs(found - first) < 5 * error + 1e-4).all()
    likeliest = ALPHABET[first[1:].argmax() + 1]
    after = [n[1:2] or "." for n in names if n.startswith(likeliest)]
    logits = model(np.array([[0, ALPHABET.index(likeliest)]]))[0].data[0, 1]
    second = softmax(logits / 0.7)
    found = np.bincount([ALPHABET.index(c) for c in after], minlength=27) / len(after)
    error = np.sqrt(second * (1 - second) / len(after))
    assert (np.abs(found - second) < 5 * error + 1e-3).all()


def test_sampling_at_the_edges(rng):
    model = CharRNN(27, 3, rng=rng)
    model.output.bias.data[0] = -1000
    assert {len(name) for name in sample_text(model, 4, rng, longest=6)} == {6}
    model.output.bias.data[0] = 1000
    assert sample_text(model, 3, rng) == ["", "", ""]
    assert sample_text(model, 2, rng, longest=0) == ["", ""]
    assert sample_text(model, 0, rng) == []
    with pytest.raises(ValueError, match="received 0"):
        sample_text(model, 1, rng, temperature=0)
    model.output.bias.data[:] = 0
    cold = sample_text(model, 50, rng, temperature=1e-6, longest=5)
    assert len(set(cold)) == 1


def test_what_the_page_quotes_from_the_notebook():
    root = Path(__file__).parents[2]
    page = (root / "architectures/rnns.md").read_text(encoding="utf-8")
    cells = json.loads((root / "notebooks/05-rnn-from-scratch.ipynb").read_text(encoding="utf-8"))
    said = "".join(
        line
        for cell in cells["cells"]
        for output in cell.get("outputs", [])
        for line in output.get("text", [])
    )
    sentence = next(line for line in page.splitlines() if "draws: *" in line)
    quoted = re.findall(r"\*([a-z]+)\*", sentence.split("draws: ")[1])
    known = {*load_names().train}
    assert len(quoted) >= 4
    for name in quoted:
        assert re.search(rf"\b{name}\b", said)
        assert name not in known
    pattern = r"after training: radius ([\d.]+), .*tanh ([\d.]+), .* not within (\d+) steps"
    radius, slope, steps = re.search(pattern, said).groups()
    assert f"ends with the spectral radius {radius}." in page
    assert f"the mean slope is {slope}, and ${radius}\\cdot{slope} = 1$" in page
    assert f"After {steps} steps more than a thousandth is left." in page
