"""README's five lines, each run as it stands there, on a small model."""

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from chainrule.trainer import checkpoint

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
SIZES = {"batch-size": 2, "context": 64, "layers": 1, "heads": 2, "width": 10,
         "evaluate-every": 9, "save-every": 5}  # fmt: skip
SMALL = [word for name, value in SIZES.items() for word in (f"--{name}", str(value))]


def five_lines():
    """The lines of the section after the one that installs, split into words."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("\n## Beyond one machine\n")[2].partition("\n## ")[0]
    install, *lines = re.search(r"^```sh\n(.*?)^```", section, re.M | re.S)[1].splitlines()
    assert install.startswith(".venv/bin/pip install ")
    assert len(lines) == 5
    return [shlex.split(re.sub(r"--steps (\d+)000", r"--steps \g<1>0", line)) for line in lines]


def typed(words):
    """A line as a shell would start it: the programs are those beside this Python."""
    name = Path(words[0]).name
    if name == "chainrule":
        return [sys.executable, "-c", "from chainrule.cli import main; main()", *words[1:]]
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
def trained(place):
    """The first line on a short text, and the second; both for fewer steps."""
    text = "".join(f"The gradient of {i} bottles, hanging on the wall; \n" for i in range(300))
    (place / "text.txt").write_text(text)
    train, go_on = five_lines()[:2]
    folder = place / train[train.index("--out") + 1]
    finished(place, [*train, "--data", "text.txt", *SMALL])
    began = checkpoint.read_state(checkpoint.latest(folder))
    assert (began["step"], began.get("engine")) == (10, None)
    finished(place, go_on)
    ended = checkpoint.read_state(checkpoint.latest(folder))
    assert (ended["step"], ended["engine"], ended["processes"]) == (20, "torch", 2)
    return folder


@pytest.fixture(scope="module")
def exported(trained, place):
    """The third line."""
    words = five_lines()[2]
    assert "load them with" in finished(place, words)
    return place / words[-1]


def test_what_is_exported_is_what_was_trained(exported, trained):
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from chainrule.trainer.sampling import load_trained

    model, tokenizer = load_trained(trained)
    ids = tokenizer.encode("The gradient of 7 bottles")[None]
    theirs = AutoTokenizer.from_pretrained(exported)
    assert theirs("The gradient of 7 bottles")["input_ids"] == ids[0].tolist()
    with torch.no_grad():
        found = AutoModelForCausalLM.from_pretrained(exported)(torch.tensor(ids)).logits.numpy()
    np.testing.assert_allclose(found, model.eval()(ids).data, rtol=1e-4, atol=1e-4)
    assert "step 20 of 20" in (exported / "README.md").read_text(encoding="utf-8")


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
