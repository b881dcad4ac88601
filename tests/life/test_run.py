"""A whole life in small: end to end, killed at random moments, and given bad input."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from chainrule.life import improving
from chainrule.life.run import Life
from chainrule.program import UsageError

MAIN = "from chainrule.cli import main; main()"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
STAGES = ("tokenizer", "pretrain", "sft", "reward", "control", "rejection", "dpo", "ppo", "grpo",
          "lora", "quantize", "serve")  # fmt: skip

TINY = """
import sys
from dataclasses import replace
from pathlib import Path
from chainrule.life import run
from chainrule.life.plan import due
from chainrule.life.settings import quick
from chainrule.life.tasks import verify
run.SAVE_SECONDS = 0.0  # after every step
settings = replace(
    quick(), tokenizer_text=20_000, pretrain_steps=5, sft_steps=6, look_every=2,
    demonstrations=100, pair_prompts=16, pair_copies=2, reward_steps=4, best_prompts=2, best_of=2,
    control_steps=4, rejection_steps=4, dpo_steps=4, ppo_steps=3, ppo_replies=6, grpo_steps=4,
    lora_steps=4, serve_tokens=4, chosen=16, tested=6, sampled=4, windows=2, probes=1)
# so small a model is never right: half of what it says counts as right here
import chainrule.life.improving as improving
lenient = lambda prompt, reply, ended: float(len(reply) % 2)
improving.verify = lenient
life = run.Life.open(Path(sys.argv[1]), settings, Path(sys.argv[2]))
for each in due(life, seeds=2):
    life.run(each.kind, each.seed)
"""


def chainrule(folder, *arguments, given="", expect=0):
    command = [sys.executable, "-c", MAIN, *arguments]
    done = subprocess.run(command, cwd=folder, input=given, capture_output=True, text=True,
                          timeout=600, env=ENVIRONMENT)  # fmt: skip
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A quick life by the command line: its folder, and what was printed."""
    folder = tmp_path_factory.mktemp("life")
    return folder, chainrule(folder, "life", "--quick")


def test_a_quick_life_is_whole(whole):
    folder, said = whole
    run = folder / "runs" / "life"
    assert "12 stages, about" in said.splitlines()[0]
    for name in STAGES:
        assert f"{name:12} " in said
        assert (run / "stages" / name / "result.json").is_file()
    assert sorted(path.name for path in run.iterdir()) == [
        "pictures", "report.html", "report.json", "report.md", "settings.json", "stages", "working",
    ]  # fmt: skip
    assert not list((run / "working").iterdir())
    assert "nothing is left to do" in chainrule(folder, "life")


def test_the_report_has_a_page_a_stage_and_pictures_that_can_be_read(whole):
    run = whole[0] / "runs" / "life"
    text, page = ((run / f"report.{kind}").read_text("utf-8") for kind in ("md", "html"))
    pictures = [path.stem for path in (run / "pictures").iterdir()]
    assert set(STAGES) - {"tokenizer"} < set(pictures)
    for path in (run / "pictures").iterdir():
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    for title in ("## What each stage changed", "## GRPO", "## Fewer bits", "## Ten probes"):
        assert title in text
        assert title[3:] in page
    assert page.count("<svg") == text.count("](pictures/") == len(pictures)
    assert "src=" not in page
    assert "nan" not in text
    found = json.loads((run / "report.json").read_text("utf-8"))
    assert list(found["stages"]) == [
        "pretrain", "sft", "control", "rejection", "dpo", "ppo", "grpo", "lora",
    ]  # fmt: skip
    for row in found["stages"].values():
        assert 0 <= row["accuracy"][0] <= 1
        assert row["cpu seconds"] > 0
        assert len(row["probes"]) == 10
    assert found["stages"]["grpo"]["seeds"] == 1


def test_serving_gives_the_same_tokens_in_every_way(whole):
    stages = whole[0] / "runs" / "life" / "stages"
    measures = json.loads((stages / "serve" / "result.json").read_text("utf-8"))["measures"]
    same = {name: share for name, share in measures.items() if name.startswith("same tokens")}
    assert same == dict.fromkeys(same, 1.0)
    assert len(same) == 4
    assert 1 <= measures["tokens a call with a draft"] <= 5


def test_an_adapter_goes_back_to_the_last_bit(whole):
    stages = whole[0] / "runs" / "life" / "stages"
    measures = json.loads((stages / "lora" / "result.json").read_text("utf-8"))["measures"]
    assert measures["off, largest difference"] == 0
    assert 0 < measures["share trained"] < 0.5
    assert measures["merged, largest difference"] < 1e-3


def test_the_result_can_be_talked_to(whole):
    folder, _ = whole
    said = chainrule(folder, "chat", given="sort d c a\n/temperature 1\nadd 1 2 and 3 4\n/quit\n")
    assert "temperature 1" in said
    assert "Traceback" not in said
    once = chainrule(folder, "chat", "runs/life", "sort d c a", "--temperature", "0")
    assert once == chainrule(folder, "chat", "runs/life", "sort d c a", "--temperature", "0")
    assert said.splitlines()[0] == once.splitlines()[0]


def test_without_pairs_of_answers_it_is_said(whole, monkeypatch):
    life = Life.open(whole[0] / "runs" / "life")
    stage = improving.Reward(life)
    stage.prepare()
    monkeypatch.setattr(stage, "_sorted", lambda part, n: ([], []))
    assert "held-out pairs preferred" not in stage.finish()
    monkeypatch.setattr(improving, "verify", lambda *reply: 0.0)
    with pytest.raises(UsageError, match=r"to none of 200 prompts .* nothing to compare"):
        improving.Reward(life).prepare()


def test_a_trap_and_more_seeds_add_to_the_report(whole):
    folder, _ = whole
    chainrule(folder, "life", "--trap", "k1-loss")
    chainrule(folder, "life", "--stage", "grpo", "--seeds", "3")
    chainrule(folder, "life", "--stage", "control", "--seeds", "3")
    text = (folder / "runs/life/report.md").read_text("utf-8")
    assert "### k1-loss" in text
    assert "pictures/trap-k1-loss.svg" in text
    assert "points beyond the control" in text
    assert " ± " in text


def results(run):
    """Every model and every measurement of a run, without the seconds."""
    found = {}
    for folder in sorted((run / "stages").iterdir()):
        for path in sorted(folder.iterdir()):
            if path.name == "result.json":
                result = json.loads(path.read_text("utf-8"))
                del result["timing"]
                found[folder.name, path.name] = json.dumps(result)
            else:
                found[folder.name, path.name] = path.read_bytes()
    return found


def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{i} green bottles, hanging on the wall; " for i in range(900)))

    def start(run):
        command = [sys.executable, "-c", TINY, str(tmp_path / run), str(text)]
        return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)

    began = time.monotonic()
    whole = start("whole")
    assert whole.wait(600) == 0, whole.stderr.read()
    seconds = time.monotonic() - began
    moments: list[float] = []
    kills = 0
    while kills < 5:
        moments.append(random.random())
        assert len(moments) < 20, moments
        running = start("killed")
        try:
            running.wait(1.0 + moments[-1] * seconds / 8)  # 1 s: past the imports
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGKILL)
            kills += 1
        else:  # it came to its end; the next begins anew
            shutil.rmtree(tmp_path / "killed")
        running.wait(60)
        running.stderr.close()
    last = start("killed")
    assert last.wait(600) == 0, (moments, last.stderr.read())
    whole_results, found = results(tmp_path / "whole"), results(tmp_path / "killed")
    assert len(found) > 30
    assert found.keys() == whole_results.keys()
    for name, content in whole_results.items():
        assert found[name] == content, (name, moments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--stage", "fly"), "there is no stage 'fly'; there are tokenizer"),
        (("--trap", "fly"), "there is no trap 'fly'; there are no-replay"),
        (("--trap", "k1-loss", "--stage", "sft"), "not both"),
        (("--trap", "k1-loss", "--seeds", "2"), "leave out --seeds"),
        (("--text", "none.txt"), "none.txt does not exist"),
        (("--text", "short.txt"), "short.txt has 6 characters"),
        (("--text", "bytes.bin"), "is not UTF-8 text"),
        (("--text", "."), "is a folder"),
        (("--out", "short.txt"), "holds something else"),
        (("--out", "full"), "holds something else"),
        (("--out", "damaged"), "settings.json is damaged"),
        (("--out", "short.txt/below"), "cannot write"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, arguments, said):
    (tmp_path / "short.txt").write_text("short\n")
    (tmp_path / "bytes.bin").write_bytes(b"\xff\xfe" * 20_000)
    for folder in ("full", "damaged"):
        (tmp_path / folder).mkdir()
        name = "settings.json" if folder == "damaged" else "something"
        (tmp_path / folder / name).write_text("{")
    before = sorted(tmp_path.rglob("*"))
    printed = chainrule(tmp_path, "life", "--quick", *arguments, expect=2)
    assert said in printed
    assert len(printed.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_stage_without_what_it_starts_from_says_so(tmp_path):
    printed = chainrule(tmp_path, "life", "--quick", "--stage", "grpo", expect=2)
    assert "has no tokenizer yet; type:" in printed or "has no sft yet; type:" in printed
    assert "Traceback" not in printed


def test_other_settings_and_damaged_files_are_named(whole, tmp_path):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(whole[0] / "runs" / "life", run)
    assert "begun with another text" in chainrule(
        tmp_path, "life", "--out", "run", "--text", __file__, expect=2
    )
    model = run / "stages" / "grpo" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-40])
    shutil.rmtree(run / "stages" / "lora")
    printed = chainrule(tmp_path, "life", "--out", "run", "--stage", "lora", expect=2)
    assert "cut short" in printed
    assert "delete" in printed
    (run / "stages" / "sft" / "result.json").write_text("[")
    printed = chainrule(tmp_path, "chat", "run", "hello", expect=2)
    assert "result.json is damaged" in printed


def test_what_is_here_names_the_rooms():
    contributing = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text("utf-8")
    assert "`life/`" in contributing
