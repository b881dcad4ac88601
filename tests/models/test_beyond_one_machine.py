"""README's five lines, each run as it stands there, on a small model."""

import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

from chainrule.trainer import checkpoint

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
SIZES = {"steps": 400, "batch-size": 2, "context": 64, "layers": 1, "heads": 2, "width": 10,
         "evaluate-every": 200, "save-every": 5}  # fmt: skip
SMALL = [word for name, value in SIZES.items() for word in (f"--{name}", str(value))]


def five_lines():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("\n## Beyond one machine\n")[2].partition("\n## ")[0]
    block = re.search(r"^```sh\n(.*?)^```", section, re.M | re.S)
    return [shlex.split(line) for line in block[1].splitlines()]


def typed(words):
    """A line as a shell would start it: the programs are those beside this Python."""
    name = Path(words[0]).name
    if name == "chainrule":
        return [sys.executable, "-c", "from chainrule.course.cli import main; main()", *words[1:]]
    return [str(PROGRAMS / name) if words[0].startswith(".venv/") else words[0], *words[1:]]


def finished(folder, words):
    done = subprocess.run(
        typed(words), cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("beyond")


@pytest.fixture(scope="module")
def stopped(place):
    """The first line, stopped with Ctrl-C after its first checkpoint."""
    train = five_lines()[0]
    text = "".join(f"The gradient of {i} bottles, hanging on the wall; \n" for i in range(300))
    (place / "text.txt").write_text(text)
    folder = place / train[train.index("--out") + 1]
    process = subprocess.Popen(
        [*typed(train), "--data", "text.txt", *SMALL], cwd=place, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    wait_for(lambda: checkpoint.latest(folder) is not None, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "saved. Continue with:" in output
    return folder


@pytest.fixture(scope="module")
def continued(stopped, place):
    """The second line, where its engine is there; else the same without it."""
    before = int(checkpoint.latest(stopped).name[5:])
    assert 0 < before < 400
    words = five_lines()[1]
    if find_spec("chainrule.pytorch") is None:
        words = [words[0].replace("torchrun", "chainrule"), *words[words.index("chainrule") + 1 :]]
        words = [word for word in words if word not in ("--engine", "torch")]
    finished(place, words)
    assert checkpoint.latest(stopped).name == "step-00000400"
    return stopped


@pytest.fixture(scope="module")
def exported(continued, place):
    """The third line."""
    words = five_lines()[2]
    assert "load them with" in finished(place, words)
    return place / words[-1]


def test_what_is_exported_is_what_was_trained(exported, continued):
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from chainrule.trainer.sampling import load_trained

    model, tokenizer = load_trained(continued)
    ids = tokenizer.encode("The gradient of 7 bottles")[None]
    theirs = AutoTokenizer.from_pretrained(exported)
    assert theirs("The gradient of 7 bottles")["input_ids"] == ids[0].tolist()
    with torch.no_grad():
        found = AutoModelForCausalLM.from_pretrained(exported)(torch.tensor(ids)).logits.numpy()
    np.testing.assert_allclose(found, model.eval()(ids).data, rtol=1e-4, atol=1e-4)
    assert "step 400 of 400" in (exported / "README.md").read_text(encoding="utf-8")


def test_it_is_served_and_answers(exported, place, monkeypatch):
    """The fourth and the fifth line, on a port that is free."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    pytest.importorskip("openai")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    serve, ask = five_lines()[3:]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    process = subprocess.Popen(
        [*typed(serve), "--port", port, "--device", "cpu"], cwd=place, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip

    def answers():
        with socket.socket() as probe:
            return probe.connect_ex(("localhost", int(port))) == 0

    try:
        wait_for(answers, process)
        words = [word.replace("8000", port) for word in ask]
        if shutil.which("curl"):
            answer = json.loads(finished(place, [*words, "--silent"]))
        else:
            kind, value = words[words.index("-H") + 1].split(": ")
            body = words[words.index("-d") + 1].encode()
            request = urllib.request.Request(f"http://{words[1]}", body, {kind: value})
            with urllib.request.urlopen(request, timeout=60) as reply:
                answer = json.load(reply)
    finally:
        process.terminate()
        process.communicate(timeout=30)
    text = answer["choices"][0]["text"]
    assert answer["usage"]["completion_tokens"] == 40 == len(text)
    assert set(text) <= set((place / "text.txt").read_text())
