"""Whole folders: opened, added to this machine's models, and written. Each appears whole or not."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.data.models import MODELS, model_cache
from chainrule.models.huggingface.configuration import (
    Family,
    family_of,
    published_config,
    read_config,
)
from chainrule.models.huggingface.files import FolderError, read_object, shown
from chainrule.models.huggingface.tokenizer import Tokenizer, read_tokenizer, written_tokenizer
from chainrule.models.huggingface.weights import course_state, published_state, state_shapes
from chainrule.modern_llms.pretraining import TokenizerError, load_bpe
from chainrule.neural_networks.backpropagation import StateFileError, load_state, save_state
from chainrule.shapes import Array
from chainrule.transformers.gpt import GPT
from chainrule.transformers.transformer_architecture import TransformerConfig, Unset

__all__ = ["Opened", "add_folder", "open_folder", "write_folder"]

CONFIG, TOKENIZER, WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_BESIDE = ("generation_config.json", "tokenizer_config.json", "README.md", "LICENSE")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Opened:
    """A folder that has been read: the model in evaluation, its tokenizer, family and files."""

    model: GPT
    tokenizer: Tokenizer
    family: Family
    files: tuple[Path, ...]


def open_folder(folder: str | Path) -> Opened:
    """Return the model of a folder in the layout of Hugging Face, in the course's classes.

    The weights come from model.safetensors, or from the files that its index names; the tokenizer
    from tokenizer.json, or from GPT-2's vocab.json and merges.txt. Sizes are compared with the
    arrays before a model is built.

    Raises:
        FolderError: a file is missing, damaged or pickled, or something in it is not understood.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FolderError(f"{folder} is not a folder; give one that holds {CONFIG} and {WEIGHTS}")
    family, cfg = read_config(read_object(folder / CONFIG), str(folder / CONFIG))
    weights = _weights(folder)
    tokenizer, beside = _tokenizer(folder)
    if len(tokenizer) > cfg.vocab_size:
        raise FolderError(
            f"{beside[0]}: its ids reach {len(tokenizer) - 1}, and {CONFIG} has a vocabulary of "
            f"{cfg.vocab_size}"
        )
    try:
        state = load_state(weights)
    except StateFileError as error:
        raise FolderError(str(error)) from None
    parts = [weights]
    if weights.name == INDEX:
        named = set(read_object(weights)["weight_map"].values())
        parts += [folder / name for name in sorted(named)]
    model = _built(cfg, course_state(family, cfg, state, str(weights)))
    others = [folder / name for name in _BESIDE if (folder / name).is_file()]
    return Opened(model, tokenizer, family, (folder / CONFIG, *parts, *beside, *others))


def _built(cfg: TransformerConfig, state: dict[str, Array]) -> GPT:
    dtype = str(next(iter(state.values())).dtype)
    model = GPT(replace(cfg, dtype=dtype), Unset())
    model.load_state_dict(state)
    return model.eval()


def _weights(folder: Path) -> Path:
    """The file of weights, or the index of several."""
    for name in (WEIGHTS, INDEX):
        if (folder / name).exists():
            return folder / name
    try:
        found = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise FolderError(f"{folder} cannot be read: {error.strerror or error}") from None
    pickled = [name for name in found if name.endswith(_PICKLES)]
    if pickled:
        raise FolderError(
            f"{folder / pickled[0]} is a pickle: reading it can run any program that its author "
            f"put in; write it again as {WEIGHTS}, with save_pretrained of transformers"
        )
    parts = [name for name in found if name.endswith(".safetensors")]
    if parts:
        raise FolderError(f"{folder}: there is {parts[0]}, and neither {WEIGHTS} nor {INDEX}")
    raise FolderError(f"{folder}: there is no {WEIGHTS}")


def _tokenizer(folder: Path) -> tuple[Tokenizer, list[Path]]:
    path = folder / TOKENIZER
    if path.exists():
        return read_tokenizer(read_object(path), str(path)), [path]
    pair = [folder / "vocab.json", folder / "merges.txt"]
    if all(each.exists() for each in pair):
        try:
            return load_bpe(*pair), pair
        except TokenizerError as error:
            raise FolderError(str(error)) from None
    if (folder / "tokenizer.model").exists():
        raise FolderError(
            f"{folder / 'tokenizer.model'} is a file of SentencePiece, which is not read; "
            f"{TOKENIZER} is"
        )
    raise FolderError(f"{path} is missing")


# ---- writing -----------------------------------------------------------------------------------


def write_folder(
    target: str | Path,
    model: GPT,
    tokenizer: Tokenizer,
    card: str = "",
    generation: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model and its tokenizer as a folder that transformers opens without further code.

    What was written is read again and compared with the model, bit by bit, before the folder
    takes its name. ``generation`` says how to draw, in the names of ``generation_config.json``.

    Raises:
        FolderError: the folder is there already, no family of transformers computes the model,
            or the disk does not take it; nothing is left behind.
    """
    target = Path(target)
    cfg = model.config
    family = family_of(cfg)
    if len(tokenizer) > cfg.vocab_size:
        raise FolderError(
            f"the tokenizer has {len(tokenizer)} ids, the model a vocabulary of {cfg.vocab_size}"
        )
    state = model.state_dict()
    if wrong := state.keys() ^ state_shapes(cfg).keys():
        raise FolderError(f"{min(wrong)} has no place in a folder: is the model adapted?")
    entries: dict[str, Any] = {
        CONFIG: published_config(cfg),
        TOKENIZER: written_tokenizer(tokenizer),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": cfg.context,
            "clean_up_tokenization_spaces": False, "split_special_tokens": True,
        },
        "generation_config.json": {
            "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
            "max_length": cfg.context, **(generation or {}),
        },
    }  # fmt: skip
    with _appearing(target) as part:
        for name, value in entries.items():
            text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
            (part / name).write_text(text, encoding="utf-8", newline="\n")
        save_state(part / WEIGHTS, published_state(family, cfg, state), {"format": "pt"})
        if card:
            (part / "README.md").write_text(card, encoding="utf-8", newline="\n")
        _compare(open_folder(part), model)
    return target


def _compare(again: Opened, model: GPT) -> None:
    """Whether a folder gives back the model that was written to it."""
    found, state = again.model.state_dict(), model.state_dict()
    for name, array in state.items():
        if found[name].dtype != array.dtype or found[name].tobytes() != array.tobytes():
            tolerance = 4 * float(np.finfo(array.dtype).eps)
            shifted = again.family.kind == "gemma3_text" and array.ndim == 1
            if shifted and np.allclose(found[name], array, rtol=tolerance, atol=tolerance):
                continue  # stored less 1, which may cost a rounding
            raise FolderError(f"{name} would not come back as it is: {array.dtype} in the model")


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A folder beside its place that takes its name when everything is in it."""
    try:
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            raise FolderError(f"{target} is a file; give the name of a new folder")
        if target.is_dir() and any(target.iterdir()):
            raise FolderError(f"{target} is not empty; give the name of a new folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        place = tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-")
        with place as name:
            part = Path(name) / "part"
            part.mkdir()
            yield part
            for path in (*part.iterdir(), part):
                _flush(path)
            part.replace(target)
            _flush(target.parent)
    except StateFileError as error:
        raise FolderError(str(error)) from None
    except OSError as error:
        where = Path(error.filename or target)
        raise FolderError(f"cannot write {where}: {error.strerror or error}") from None


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- adding ------------------------------------------------------------------------------------


def add_folder(folder: str | Path, name: str) -> tuple[Path, Opened]:
    """Read a folder and keep a copy of its files among this machine's models, under a name.

    Raises:
        FolderError: it cannot be read, or the name is taken or is no name; nothing is left behind.
    """
    if not _NAME.fullmatch(name):
        raise FolderError(
            f"{shown(name)} is no name of a model; letters, digits, '.', '_' and '-' make one, "
            f"with --name"
        )
    target = model_cache() / name
    if name in MODELS:
        raise FolderError(f"{name} is a model of chainrule models get; give another --name")
    if target.exists():
        raise FolderError(f"{name} is there already, in {target}; give another --name")
    opened = open_folder(folder)
    with _appearing(target) as part:
        for path in opened.files:
            shutil.copyfile(path, part / path.name)
    return target, opened
