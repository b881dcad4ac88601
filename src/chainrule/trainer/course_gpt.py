"""Train the GPT of the course with the cells of notebook 09, and store its weights.

``python -m chainrule.trainer.course_gpt --write`` runs the notebook's cells that carry the tag
``model``, calls their own `train` for ``LONG`` steps, and writes ``models/course-gpt.safetensors``
(float16) with ``models/course-gpt.json``: configuration, alphabet, corpus, steps, losses. It takes
about twelve minutes on a free core: the long run, then the live run of the notebook for its curve.
Run it again after the corpus was renewed.

Without ``--write`` it loads the stored weights and compares their held-out loss with the manifest.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.course.manifest import CourseError, find_root

NOTEBOOK = "notebooks/09-minimal-gpt.ipynb"
TAG = "model"
BAND = 0.002
"""How far the loss may be from the stored one, in nats a character."""


def cells(root: Path) -> dict[str, Any]:
    """Run the cells of the notebook that make the model, and return what they defined."""
    notebook = json.loads((root / NOTEBOOK).read_text(encoding="utf-8"))
    defined: dict[str, Any] = {"__name__": "notebook"}
    for number, cell in enumerate(notebook["cells"], 1):
        if TAG in cell["metadata"].get("tags", []):
            source = "".join(cell["source"])
            exec(compile(source, f"{NOTEBOOK}, cell {number}", "exec"), defined)
    return defined


def write(root: Path, steps: int | None = None) -> None:
    """Train with the notebook's cells and store weights and manifest."""
    from chainrule.neural_networks.backpropagation import save_state

    defined = cells(root)
    corpus = defined["corpus"]
    steps = defined["LONG"] if steps is None else steps
    began, cpu = time.perf_counter(), time.process_time()
    model, curve = _train(defined, steps)
    seconds = {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}
    state = {name: array.astype(np.float16) for name, array in model.state_dict().items()}
    folder = root / "models"
    folder.mkdir(exist_ok=True)
    save_state(folder / "course-gpt.safetensors", state)
    manifest = {
        "corpus": corpus.sha256,
        "alphabet": corpus.alphabet,
        "config": {k: v for k, v in asdict(model.config).items() if v is not None},
        "steps": steps,
        "characters": steps * defined["BATCH"] * model.config.context,
        "seconds": {name: round(value) for name, value in seconds.items()},
        "columns": ["step", "training loss", "validation loss"],
        "curve": curve,
    }
    _store(folder, manifest)
    manifest["losses"] = measure(root)
    _store(folder, manifest)
    print(manifest["losses"], flush=True)
    manifest["live"] = _train(defined, min(defined["LIVE"], steps))[1]
    _store(folder, manifest)


def _train(defined: dict[str, Any], steps: int) -> tuple[Any, list[list[float]]]:
    """Train a fresh model with the notebook's `train`; also the losses on the way."""
    from chainrule.transformers.gpt import GPT, token_losses

    config = defined["CONFIG"]
    ids = defined["tokenizer"].encode(defined["corpus"].text("validation"))
    model = defined["TinyGPT"](config, np.random.default_rng(0))
    judged = GPT(config, np.random.default_rng(0))  # the package's, for its losses
    recent: list[float] = []
    curve: list[list[float]] = []
    for done, loss in defined["train"](model, steps):
        recent = [*recent[-99:], loss]
        if done % max(1, steps // 30) == 0:
            judged.load_state_dict(model.state_dict())
            held_out = float(token_losses(judged, ids).mean())
            curve.append([done, round(float(np.mean(recent)), 4), round(held_out, 4)])
            print(*curve[-1], flush=True)
    return model, curve


def _store(folder: Path, manifest: dict) -> None:
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    (folder / "course-gpt.json").write_text(text, encoding="utf-8")


def measure(root: Path) -> dict[str, float]:
    """The losses of the stored weights on the frozen corpus, in nats a character."""
    from chainrule.data.corpus import frozen_corpus
    from chainrule.transformers.gpt import load_course_gpt, token_losses

    model, tokenizer = load_course_gpt(root / "models")
    corpus = frozen_corpus()
    parts = ("validation", "test")
    return {
        part: round(float(token_losses(model, tokenizer.encode(corpus.text(part))).mean()), 5)
        for part in parts
    }


def main(arguments: list[str] | None = None) -> int:
    """Train and store, or compare; 0 agrees, 1 differs, 2 no course here."""
    parser = argparse.ArgumentParser(prog="course_gpt", description="The GPT of the course.")
    parser.add_argument("--root", type=Path, help="the checkout (default: around this folder)")
    parser.add_argument("--write", action="store_true", help="train and store it: twelve minutes")
    parser.add_argument("--steps", type=int, help="fewer steps, to try it")
    options = parser.parse_args(arguments)
    try:
        root = find_root(options.root)
    except CourseError as error:
        print(f"course_gpt: {error}", file=sys.stderr)
        return 2
    if options.write:
        write(root, options.steps)
        return 0
    stored = json.loads((root / "models/course-gpt.json").read_text(encoding="utf-8"))["losses"]
    found = measure(root)
    for part, loss in found.items():
        print(f"{part:10} {loss:.4f} nats a character, stored {stored[part]:.4f}")
    return int(any(not abs(found[part] - stored[part]) <= BAND for part in stored))


if __name__ == "__main__":
    sys.exit(main())
