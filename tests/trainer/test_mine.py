"""The reader's functions in the training run: the same losses, and any mistake is named."""

import functools
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from chainrule.course.exercises import judge, load
from chainrule.data.text import Corpus
from chainrule.trainer import mine
from chainrule.trainer.loop import Run
from chainrule.trainer.parts import PARTS, picture
from chainrule.trainer.sampling import stream
from chainrule.trainer.settings import Settings

ROOT = Path(__file__).parents[2]
MAIN = "from chainrule.cli import main; main()"
TEXT = "".join(f"{i} green bottles, hanging on the wall; " for i in range(200))
SIZES = {"--batch-size": 3, "--context": 8, "--layers": 2, "--heads": 2, "--width": 8}
TINY = [str(x) for pair in (SIZES | {"--dropout": 0.1, "--data": "text.txt"}).items() for x in pair]


def file_of(part):
    folder, name = part.document.split("/")
    return f"{folder}/{name.replace('-', '_')}.py"


@functools.cache
def items_of(file):
    return {item.name: item for item in load(ROOT / "exercises" / file)}


def item_of(part):
    return items_of(file_of(part))[part.name]


ALL = [(part.name, mistake.name) for part in PARTS for mistake in item_of(part).mistakes]


def short_run(folder, functions, probe=None, steps=4):
    """A tiny training run and twelve characters from it; the losses."""
    train, validation = TEXT[:3000], TEXT[3000:3600]
    settings = Settings(
        steps=steps, warmup=1, context=8, width=8, layers=2, heads=2, batch_size=3, dropout=0.1,
        evaluate_every=steps, save_every=10**6,
    )  # fmt: skip
    losses = []
    with mine.in_place(functions, probe):
        run = Run.start(folder, settings, Corpus("bottles", train, validation))
        while run.step < steps:
            entry = run.advance()
            losses += [entry.loss] if entry.validation is None else [entry.loss, entry.validation]
            if probe:
                probe.step += 1
        text = stream(
            run.model, run.tokenizer, train[:5], 12, temperature=0.8, top_k=5, top_p=0.9,
            min_p=0.01, rng=np.random.default_rng(0),
        )  # fmt: skip
        "".join(text)
    return losses


def solutions(but="", answer=None):
    return [(item_of(p), answer if p.name == but else item_of(p).solution) for p in PARTS]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    return short_run(tmp_path_factory.mktemp("house"), [])


def test_with_all_solutions_the_losses_are_those_of_the_house_engine(tmp_path, house):
    probe = mine.Probe()
    np.testing.assert_allclose(short_run(tmp_path, solutions(), probe), house, rtol=1e-5)
    assert set(probe.calls) == {part.name for part in PARTS}  # every part is asked


@functools.cache
def outcome(name, mistake):
    """What the probe said of a mistake in its place, and what it kept; or the losses."""
    item = next(item_of(part) for part in PARTS if part.name == name)
    answer = next(m.answer for m in item.mistakes if m.name == mistake)
    kept = []
    probe = mine.Probe(lambda *what: kept.append(what) or "kept")
    with tempfile.TemporaryDirectory() as folder:
        try:
            return short_run(Path(folder), solutions(name, answer), probe), kept
        except mine.Differs as apart:
            return str(apart), kept


@pytest.mark.parametrize(("name", "mistake"), ALL, ids=lambda value: value)
def test_any_known_mistake_is_named(house, name, mistake):
    """By its checks before the run; and by the probe, if it is put there all the same.

    A mistake that changes nothing on what this run computes (other temperatures, longer texts,
    scores of a thousand) is named by its checks alone, and the losses are those of the house.
    """
    item = next(item_of(part) for part in PARTS if part.name == name)
    answer = next(m.answer for m in item.mistakes if m.name == mistake)
    assert judge(item, answer)
    said, kept = outcome(name, mistake)
    if isinstance(said, str):
        assert said.startswith(f"{name} is the first of your functions that differs")
        assert kept[0][0] == name
    else:
        np.testing.assert_allclose(said, house, rtol=1e-4)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_of_every_part_the_probe_names_some_mistakes(part):
    """Those that a run of its kind meets."""
    mistakes = [m.name for m in item_of(part).mistakes]
    named = sum(isinstance(outcome(part.name, mistake)[0], str) for mistake in mistakes)
    assert named >= 1, mistakes


def test_the_probe_names_most_mistakes():
    named = sum(isinstance(outcome(*pair)[0], str) for pair in ALL)
    assert named >= 0.6 * len(ALL)


def test_without_the_probe_a_mistake_goes_through(tmp_path, house):
    """What the probe is for: a wrong gradient trains, and only the curve is a little worse."""
    item = item_of(next(part for part in PARTS if part.name == "layer_norm_backward"))
    answer = next(m.answer for m in item.mistakes if m.name == "deviation_held_constant")
    losses = short_run(tmp_path, solutions(item.name, answer))
    assert losses[0] == pytest.approx(house[0], rel=1e-6)
    assert losses != pytest.approx(house, rel=1e-5)


def test_the_probe_changes_nothing(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    watched = short_run(tmp_path / "a", solutions(), mine.Probe())
    assert watched == short_run(tmp_path / "b", solutions())


def test_the_settings_of_the_command_take_at_most_twice_the_time(tmp_path):
    """Interleaved, in processor time, without the steps that are compared."""
    settings = Settings(steps=12, warmup=2, evaluate_every=10**6, save_every=10**6)
    corpus = Corpus("bottles", TEXT * 3, TEXT)
    house_run = Run.start(tmp_path / "house", settings, corpus)
    with mine.in_place(solutions()):
        own_run = Run.start(tmp_path / "own", settings, corpus)
    spent, losses = [0.0, 0.0], [0.0, 0.0]
    for _ in range(settings.steps - 1):
        for i, (run, functions) in enumerate(((house_run, []), (own_run, solutions()))):
            with mine.in_place(functions):
                begun = time.process_time()
                losses[i] = run.advance().loss
                spent[i] += time.process_time() - begun
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert spent[1] < 2 * spent[0]


# ---- the command -----------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path):
    """A course with an empty workbook, and a text."""
    for name in ("course.toml", "exercises"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def write(checkout, file, source):
    path = checkout / "workbook" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"import math\n\nimport numpy as np\n\n\n{source}")


def chainrule(folder, *arguments, before="", expect=0):
    command = [sys.executable, "-c", before + "\n" + MAIN, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    said = done.stdout + done.stderr
    assert done.returncode == expect, said
    return said


SCHEDULE = """
def cosine_schedule(step, lr, warmup, total, final):
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / (total - warmup))
    return final + (lr - final) * (1 + math.cos(math.pi * progress)) / 2
"""
CLIP = """
def clip_together(gradients, limit):
    norm = math.sqrt(sum(float(np.sum(g**2)) for g in gradients))
    return [g * min(1.0, limit / (norm + 1e-12)) for g in gradients]
"""
WRONG = SCHEDULE.replace("(step + 1) / warmup", "step / warmup")


def last_loss(folder):
    return json.loads((folder / "losses.jsonl").read_text().splitlines()[-1])["loss"]


def test_the_command_trains_and_samples_with_what_passes(checkout):
    write(checkout, "training/optimizers.py", SCHEDULE + CLIP)
    said = chainrule(checkout, "train", "--mine", "--out", "mine", "--steps", "6", *TINY)
    assert "2 of the 17 functions of this GPT are yours: clipping, schedule" in said
    assert re.search(r"agrees with the package in all \d+ calls of the first 3 steps", said)
    chainrule(checkout, "train", "--out", "house", "--steps", "6", *TINY)
    assert last_loss(checkout / "mine") == pytest.approx(last_loss(checkout / "house"), rel=1e-5)
    said = chainrule(checkout, "sample", "mine", "--mine", "--length", "9", "--seed", "1")
    assert "never called in this run: clipping, schedule" in said
    said = chainrule(checkout, "progress")
    assert "2 of 17 parts of the GPT are yours" in said
    assert "■ clipping → □ AdamW ← ■ schedule" in said


def test_what_fails_is_named_and_the_packages_own_is_in_its_place(checkout):
    write(checkout, "training/optimizers.py", WRONG + CLIP)
    said = chainrule(checkout, "train", "--mine", "--out", "mine", "--steps", "6", *TINY)
    assert "✗ schedule (cosine_schedule) fails its check 'ten points': Your first step" in said
    assert "1 of the 17 functions of this GPT are yours: clipping" in said


def test_put_there_anyway_it_is_named_by_the_probe_and_its_arguments_are_kept(checkout):
    write(checkout, "training/optimizers.py", WRONG + CLIP)
    said = chainrule(
        checkout, "train", "--mine", "--anyway", "--out", "mine", "--steps", "6", "--warmup", "2",
        *TINY, expect=1,
    )  # fmt: skip
    assert "cosine_schedule is the first of your functions that differs" in said
    assert "the result is 0, the package's 0.0015" in said
    folder = checkout / "workbook" / "training"
    look = "from replay_cosine_schedule import args, kwargs; print(args, kwargs)"
    done = subprocess.run(
        [sys.executable, "-c", look], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("(0, 0.003")


def test_a_function_that_never_ends_is_stopped(checkout):
    """It passes its checks, which know no step beyond 2,000, and hangs in the run."""
    endless = SCHEDULE.replace("    if step", "    while total == 7:\n        pass\n    if step", 1)
    write(checkout, "training/optimizers.py", endless)
    said = chainrule(
        checkout, "train", "--mine", "--out", "mine", "--steps", "7", *TINY,
        before="from chainrule.trainer import mine; mine.SILENCE = 4", expect=1,
    )  # fmt: skip
    assert "nothing for 4 s, before the first step: stopped" in said


def test_a_function_that_needs_too_much_memory_is_named_by_its_line(checkout):
    greedy = SCHEDULE.replace("    if step", "    np.ones(2**29 * (total == 7))\n    if step", 1)
    write(checkout, "training/optimizers.py", greedy)
    said = chainrule(checkout, "train", "--mine", "--out", "mine", "--steps", "7", *TINY, expect=1)
    assert "cosine_schedule" in said
    assert "it raises MemoryError" in said


def test_an_empty_workbook_says_what_to_type(checkout):
    said = chainrule(checkout, "train", "--mine", expect=2)
    assert "0 of the 17 functions of this GPT are yours; solve one first" in said
    assert "chainrule exercise transformers/gpt" in said
    said = chainrule(checkout, "train", "--anyway", expect=2)
    assert "--anyway belongs to --mine" in said


def test_the_picture_fills_up():
    empty, some = picture({}), picture({"transformers/attention": {"attend": None}})
    assert empty.count("■") == 1  # the legend
    assert some.count("■ attention") == 1
    full = picture({p.document: {q.name for q in PARTS} for p in PARTS})
    assert "□" not in full
    assert f"{len(PARTS)} of {len(PARTS)}" in full
    assert all(part.what in empty for part in PARTS)
    assert max(map(len, full.splitlines())) <= 100
