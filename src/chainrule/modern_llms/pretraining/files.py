"""Tokenizer files in GPT-2's format, read as if a stranger had written them.

Taught in ``modern-llms/pretraining.md``. Two files: a JSON object from token to id, and a text
with one merge a line, the best first. Both spell bytes as `byte_spelling` says. Every size is
bounded before anything is built from it, and every fault is one `TokenizerError` of one line.
"""

from __future__ import annotations

import json
from pathlib import Path

from chainrule.modern_llms.pretraining.bpe import ByteBPE, Pair, TokenizerError
from chainrule.modern_llms.pretraining.pieces import BYTE_ORDER, byte_spelling

__all__ = ["MAX_FILE_BYTES", "MAX_TOKENS", "load_bpe", "save_bpe"]

MAX_FILE_BYTES = 32 * 1024 * 1024
"""Larger files are refused before they are read."""

MAX_TOKENS = 1_000_000
"""Larger vocabularies and lists of merges are refused."""


def load_bpe(vocabulary: Path | str, merges: Path | str) -> ByteBPE:
    """The tokenizer of two files, such as GPT-2's ``encoder.json`` and ``vocab.bpe``.

    The ids of the file must be those that the merges make: bytes first, then one id a merge,
    then special tokens.

    Raises:
        TokenizerError: a file is missing, too large, no UTF-8, damaged, or the two disagree.
    """
    names = _vocabulary(Path(vocabulary))
    spelled = byte_spelling()
    ids = {name: i for i, name in enumerate(spelled[byte] for byte in BYTE_ORDER)}
    for name, i in ids.items():
        if names.get(name) != i:
            message = (
                f"{vocabulary}: byte token {name!r} has the id {names.get(name)}, expected {i}"
            )
            raise TokenizerError(message)
    pairs: list[Pair] = []
    for number, left, right in _merge_lines(Path(merges)):
        for part in (left, right):
            if part not in ids:
                message = f"{merges}, line {number}: {_shown(part)} is made by no earlier line"
                raise TokenizerError(message)
        name = left + right
        expected = ids.setdefault(name, len(ids))
        if names.get(name) != expected:
            raise TokenizerError(
                f"{merges}, line {number}: {_shown(name)} should have the id {expected}, "
                f"{vocabulary} gives {names.get(name)}"
            )
        pairs.append((ids[left], ids[right]))
    special = {name: i for name, i in names.items() if name not in ids}
    return ByteBPE(pairs, special)


def save_bpe(tokenizer: ByteBPE, vocabulary: Path | str, merges: Path | str) -> None:
    """Write the two files that `load_bpe` reads."""
    spelled = byte_spelling()
    names = ["".join(spelled[byte] for byte in token) for token in tokenizer.tokens]
    table = {name: i for i, name in enumerate(names)} | tokenizer.special
    lines = [f"{names[left]} {names[right]}\n" for left, right in tokenizer.merges]
    Path(vocabulary).write_text(json.dumps(table, ensure_ascii=False), "utf-8")
    Path(merges).write_text("#version: 0.2\n" + "".join(lines), "utf-8", newline="\n")


def _text(path: Path) -> str:
    """The text of a file, no more than ``MAX_FILE_BYTES`` of it read."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read: {error.strerror}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise TokenizerError(f"{path} is larger than {MAX_FILE_BYTES:,} bytes")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"{path} is not UTF-8: byte {error.start} is {raw[error.start]:#04x}"
        raise TokenizerError(message) from None


def _vocabulary(path: Path) -> dict[str, int]:
    """Token to id, each once, ids 0 … n − 1."""

    def no_name_twice(items: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(items)
        if len(found) != len(items):
            seen: set[str] = set()
            twice = next(name for name, _ in items if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise TokenizerError(f"{path} gives {_shown(twice)} twice")
        return found

    try:
        table = json.loads(_text(path), object_pairs_hook=no_name_twice)
    except TokenizerError:
        raise
    except RecursionError:
        raise TokenizerError(f"{path} is nested too deeply; expected one flat object") from None
    except json.JSONDecodeError as error:
        raise TokenizerError(f"{path} is not JSON: {error.msg}, line {error.lineno}") from None
    except ValueError as error:  # an integer of thousands of digits
        raise TokenizerError(f"{path} is not JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(table, dict):
        raise TokenizerError(f"{path} holds a {type(table).__name__}; expected token to id")
    if len(table) > MAX_TOKENS:
        raise TokenizerError(f"{path} has {len(table):,} tokens; the limit is {MAX_TOKENS:,}")
    owner: dict[int, str] = {}
    for name, i in table.items():
        if type(i) is not int or not 0 <= i < len(table):
            raise TokenizerError(
                f"{path}: the id of {_shown(name)} is {_shown(i)}; expected 0 to {len(table) - 1}"
            )
        if i in owner:
            raise TokenizerError(f"{path}: {_shown(owner[i])} and {_shown(name)} have the id {i}")
        owner[i] = name
        if not _encodable(name):
            raise TokenizerError(f"{path}: {_shown(name)} holds half of a surrogate pair")
    return table


def _merge_lines(path: Path) -> list[tuple[int, str, str]]:
    """Number, left and right part of every line with a merge; the first line may be a version."""
    lines = _text(path).split("\n")
    if len(lines) > MAX_TOKENS + 2:
        raise TokenizerError(f"{path} has {len(lines):,} lines; the limit is {MAX_TOKENS:,}")
    merges = []
    for number, line in enumerate(lines, 1):
        line = line.removesuffix("\r")
        if not line or (number == 1 and line.startswith("#version")):
            continue
        parts = line.split(" ")
        if len(parts) != 2 or not all(parts):
            message = f"{path}, line {number}: expected two tokens and one space, got"
            raise TokenizerError(f"{message} {_shown(line)}")
        merges.append((number, parts[0], parts[1]))
    return merges


def _shown(value: object) -> str:
    """A value on one line, short: what a stranger wrote may be long, or hold line breaks."""
    text = ascii(value) if not isinstance(value, int) or abs(value) < 10**18 else "a huge number"
    return text if len(text) <= 60 else text[:57] + "…"


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
