"""``chainrule models export`` and ``add``: the same model everywhere, and nothing half-written."""

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_families import GPT2, LLAMA_3, V, random_gpt
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from chainrule.data.text import CharTokenizer, Corpus
from chainrule.models.commands.models import add, export, list_models
from chainrule.models.huggingface import FolderError, folder, open_folder, write_folder
from chainrule.models.trained import known_model
from chainrule.modern_llms.pretraining import train_bpe
from chainrule.neural_networks.backpropagation import no_grad
from chainrule.program import UsageError
from chainrule.trainer.commands.sample import sample
from chainrule.trainer.loop import Run
from chainrule.trainer.report import write_report
from chainrule.trainer.settings import Settings

MAIN = "from chainrule.cli import main; main()"
TEXT = "".join(f"{i} green bottles, hanging on the wälls; \n" for i in range(200))
SETTINGS = {"steps": 5, "batch_size": 2, "context": 16, "layers": 2, "heads": 2, "width": 12,
            "warmup": 1, "dropout": 0.1}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    for name, steps in (("done", 5), ("stopped", 3)):
        corpus = Corpus("bottles.txt", TEXT, TEXT[-900:])
        run = Run.start(place / name, Settings(data="/home/me/bottles.txt", **SETTINGS), corpus)
        for _ in range(steps):
            run.advance()
        run.save()
    write_report(Run.resume(place / "done"), "a sample")
    return place


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_run_becomes_a_folder_and_a_model_again(runs, cache, tmp_path, capsys):
    target = tmp_path / "new" / "bottles"
    export(runs / "done", target)
    assert capsys.readouterr().out.startswith("4,320 parameters are in ")
    ours = known_model(runs / "done")
    theirs = AutoModelForCausalLM.from_pretrained(target).eval()
    tokenizer = AutoTokenizer.from_pretrained(target)
    text = TEXT[40:56]
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    assert ids.tolist() == [ours.tokenizer.encode(text).tolist()]
    with torch.no_grad(), no_grad():
        expected = theirs(ids).logits.numpy()
        found = ours.model(ids.numpy()).data
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    torch.manual_seed(0)
    written = theirs.generate(ids[:, :3], pad_token_id=0)  # as generation_config.json says
    assert written.shape == (1, 16)

    add(target, "bottles")
    assert "GPT-2, 4,320 parameters, 2 layers, vocabulary of 28, is in " in capsys.readouterr().out
    list_models()
    assert "bottles: added from a folder\n" in capsys.readouterr().out
    again = known_model(Path("bottles"))
    assert again.card == ours.card == (target / "README.md").read_text(encoding="utf-8")
    for name, array in ours.model.state_dict().items():
        assert array.tobytes() == again.model.state_dict()[name].tobytes()
    texts = []
    for place in (runs / "done", Path("bottles")):
        sample(place, False, "1", 40, 0.8, None, 1.0, 0.0, 3)
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert len(texts[0].strip("\n")) > 30
    export(Path("bottles"), tmp_path / "second")
    for path in target.iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name


def test_the_card_says_what_was_measured(runs, tmp_path):
    done, stopped = (known_model(runs / name).card for name in ("done", "stopped"))
    assert "# A GPT trained on bottles.txt" in done
    assert "step 5 of 5, each of 2 × 16 characters, 160 in all" in done
    assert "| Every character equally likely | 3.332 |" in done  # log 28
    assert "step 3 of 5, each of 2 × 16 characters, 96 in all" in stopped
    assert "was not measured at this step" in stopped
    for card in (done, stopped):
        assert "/home/me" not in card
        assert "A GPT-2 of 4,320 parameters: 2 layers, 2 heads, width 12." in card


def test_a_model_with_bytes_is_sampled_by_name(cache, tmp_path, capsys):
    bpe = train_bpe("äöü € 😀 the theatre of the thaw " * 5, 262)
    cfg = GPT2
    from dataclasses import replace

    write_folder(tmp_path / "a", random_gpt(replace(cfg, vocab_size=262)), bpe)
    add(tmp_path / "a", None)
    capsys.readouterr()
    sample(Path("a"), False, "the", 40, 1.0, None, 1.0, 0.0, 3)
    text = capsys.readouterr().out
    ids = AutoModelForCausalLM.from_pretrained(tmp_path / "a").config.vocab_size
    assert ids == 262
    assert text.startswith("the")
    card = known_model(Path("a")).card
    assert "byte-level BPE; there are 262" in card
    assert "How it was trained is not known here." in card


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda runs, t: export(t / "nowhere", t / "x"), "nowhere holds no trained model; type: "),
        (lambda runs, t: export(runs / "done", t / "full"), "full is not empty; give the name of"),
        (lambda runs, t: export(runs / "done", t / "file"), "file is a file; give the name of"),
        (lambda runs, t: export(runs / "done", t / "link"), "link is a file; give the name of"),
        (lambda runs, t: export(runs / "done", t / "file/x"), "cannot write"),
        (lambda runs, t: add(t / "nowhere", None), "nowhere is not a folder; give one that holds"),
        (lambda runs, t: add(t / "full", None), "config.json is missing"),
        (lambda runs, t: add(t / "good", "minilm"), "minilm is a model of chainrule models get"),
        (lambda runs, t: add(t / "good", "../x"), "'../x' is no name of a model"),
        (lambda runs, t: add(t / "good", ""), "'' is no name of a model"),
        (lambda runs, t: add(t / "good", "taken"), "taken is there already, in "),
    ],
)
def test_refusals(action, message, runs, cache, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    write_folder(tmp_path / "good", random_gpt(GPT2), CharTokenizer("abcdefghijklmnopqrstuvw"))
    add(tmp_path / "good", "taken")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError) as caught:
        action(runs, tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_added_model_that_was_damaged_since(cache, tmp_path):
    write_folder(tmp_path / "a", random_gpt(GPT2), CharTokenizer("abcdefghijklmnopqrstuvw"))
    add(tmp_path / "a", None)
    weights = cache / "models/a/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:99])
    with pytest.raises(UsageError, match="its header is missing"):
        known_model(Path("a"))
    with pytest.raises(UsageError, match=r"no trained model.*; added models: a"):
        known_model(Path("b"))


@pytest.mark.parametrize("moment", ["save_state", "open_folder", "_flush"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_nothing_is_half_written(moment, error, tmp_path, monkeypatch):
    def stop(*_):
        raise error

    monkeypatch.setattr(folder, moment, stop)
    expected = FolderError if isinstance(error, OSError) else error
    with pytest.raises(expected):
        write_folder(tmp_path / "a", random_gpt(GPT2), CharTokenizer("abcdefghijklmnopqrstuvw"))
    assert not list(tmp_path.iterdir())


def test_a_disk_that_takes_no_more(runs, tmp_path):
    """A limit that the system keeps: no file of this process may be longer than 9,000 bytes."""
    command = [sys.executable, "-c", MAIN, "models", "export", str(runs / "done"), "out"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)),
    )  # fmt: skip
    assert done.returncode == 2
    assert "cannot write" in done.stderr
    assert "File too large" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_what_comes_back_is_compared(tmp_path, monkeypatch):
    """A translation that changed a number would be found before the folder takes its name."""
    model = random_gpt(LLAMA_3)
    true = folder.published_state

    def wrong(family, cfg, state):
        found = true(family, cfg, state)
        name = "model.layers.1.mlp.up_proj.weight"
        found[name] = found[name].copy()
        found[name][3, 5] += 1e-6
        return found

    monkeypatch.setattr(folder, "published_state", wrong)
    chars = CharTokenizer("abcdefghijklmnopqrstuvw")
    with pytest.raises(FolderError, match=r"blocks.1.feed_forward.up.weight would not come back"):
        write_folder(tmp_path / "a", model, chars)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    write_folder(tmp_path / "a", model, chars)
    assert len(open_folder(tmp_path / "a").tokenizer) == V
    assert GenerationConfig.from_pretrained(tmp_path / "a").max_length == 64
