"""``tokenizer.json``: the course's tokenizers written, and those of its kinds read."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from chainrule.data.text import CharTokenizer, DataError
from chainrule.models.huggingface.cutting import BYTES, read_cut, written_cut
from chainrule.models.huggingface.files import FolderError, shown
from chainrule.models.huggingface.spaced import SpacedTokenizer, around, read_spaced
from chainrule.models.vocabulary import FileTokenizer
from chainrule.modern_llms.pretraining import (
    BYTE_ORDER,
    ByteBPE,
    TokenizerError,
    byte_spelling,
)

__all__ = ["FolderTokenizer", "Tokenizer", "read_tokenizer", "written_tokenizer"]

Entries = dict[str, Any]

_EACH = {"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated",
         "invert": False}  # fmt: skip
_UNKNOWN = "[UNK]"
_OF_A_MODEL = {
    "type", "vocab", "merges", "unk_token", "dropout", "continuing_subword_prefix",
    "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges",
}  # fmt: skip


class FolderTokenizer(FileTokenizer):
    """The byte-level BPE of a folder.

    ``begin`` are ids that its texts start with, ``spelled`` the tokens among ``controls`` that are
    found in a text wherever their names stand, ``normal`` the form of Unicode that it is put into.
    """

    def __init__(
        self,
        bpe: ByteBPE,
        ids: dict[bytes, int],
        controls: dict[str, int],
        length: int,
        begin: tuple[int, ...] = (),
        normal: str | None = None,
        spelled: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(bpe, ids, controls, length)
        self.places, self.begin, self.normal = ids, begin, normal
        self.spelled = dict(spelled or {})

    def encode(self, text: str) -> list[int]:
        """Token ids, with those before the text. A control token's name is text like any other."""
        return [*self.begin, *around(text, self.spelled, self._between)]

    def _between(self, text: str, _first: bool) -> list[int]:
        if self.normal is not None:
            text = unicodedata.normalize(self.normal, text)  # type: ignore[arg-type]
        return super().encode(text)


Tokenizer = CharTokenizer | ByteBPE | FileTokenizer | SpacedTokenizer


# ---- writing -----------------------------------------------------------------------------------


def written_tokenizer(tokenizer: Tokenizer) -> Entries:
    """Return the entries of a ``tokenizer.json`` that gives the same ids.

    A character that a `CharTokenizer` does not know is refused there too. A text that holds the
    name of a special token is the one thing that is read otherwise, unless the program that reads
    is told to split special tokens, as ``tokenizer_config.json`` then says.
    """
    found: Entries = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None,
    }  # fmt: skip
    if isinstance(tokenizer, CharTokenizer):
        return found | _written_characters(tokenizer)
    if isinstance(tokenizer, SpacedTokenizer):
        return tokenizer.entries
    bpe = tokenizer if isinstance(tokenizer, ByteBPE) else tokenizer.bpe
    spelled = byte_spelling()
    names = ["".join(spelled[byte] for byte in token) for token in bpe.tokens]
    if isinstance(tokenizer, ByteBPE):
        vocabulary, controls = {name: i for i, name in enumerate(names)}, tokenizer.special
    else:
        controls = tokenizer.controls
        vocabulary = {
            "".join(spelled[byte] for byte in token): i for token, i in _spoken(tokenizer)
        }
    cut = written_cut(bpe.split)
    if cut is None:
        raise FolderError("this tokenizer cuts a text by rules of its own, and cannot be written")
    spells = tokenizer.spelled if isinstance(tokenizer, FolderTokenizer) else {}
    found["added_tokens"] = [
        {"id": i, "content": name, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": name not in spells}
        for name, i in sorted(controls.items(), key=lambda item: item[1])
    ]  # fmt: skip
    if isinstance(tokenizer, FolderTokenizer):
        found |= _written_frame(tokenizer)
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
        "ignore_merges": False, "vocab": vocabulary,
        "merges": [[names[left], names[right]] for left, right in bpe.merges],
    }  # fmt: skip
    return found | {"pre_tokenizer": cut, "decoder": BYTES, "model": model}


def _written_characters(tokenizer: CharTokenizer) -> Entries:
    """A vocabulary of characters.

    The name for unknown ones is longer than one, so that no text is encoded to it; and it is not
    in the vocabulary, so that a character without an id is an error.
    """
    vocabulary = {character: i for i, character in enumerate(tokenizer.alphabet)}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": _UNKNOWN}
    return {"pre_tokenizer": _EACH, "decoder": {"type": "Fuse"}, "model": model}


def _spoken(tokenizer: FileTokenizer) -> Iterator[tuple[bytes, int]]:
    """Tokens that text is made of, and their ids; between them there may be gaps."""
    silent = set(tokenizer.controls.values())
    for i in range(len(tokenizer)):
        with suppress(TokenizerError):
            if i not in silent:
                yield tokenizer.decode_bytes([i]), i


def _written_frame(tokenizer: FolderTokenizer) -> Entries:
    """What stands around the cutting and the merging: a normal form, and ids before a text."""
    found: Entries = {}
    if tokenizer.normal is not None:
        found["normalizer"] = {"type": tokenizer.normal}
    if tokenizer.begin:
        name_of = {i: name for name, i in tokenizer.controls.items()}
        names = [name_of[i] for i in tokenizer.begin]
        first = [{"SpecialToken": {"id": name, "type_id": 0}} for name in names]
        found["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [*first, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [*first, {"Sequence": {"id": "A", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                name: {"id": name, "ids": [tokenizer.controls[name]], "tokens": [name]}
                for name in names
            },
        }  # fmt: skip
    return found


# ---- reading -----------------------------------------------------------------------------------


def read_tokenizer(entries: Entries, where: str) -> Tokenizer:
    """Return the tokenizer that the entries of a ``tokenizer.json`` describe.

    Raises:
        FolderError: it is of a kind that the course lacks, or its parts disagree.
    """

    def fault(message: str) -> FolderError:
        return FolderError(f"{where}: {message}")

    model = entries.get("model")
    if not isinstance(model, dict):
        raise fault("there is no model in it")
    known = {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
             "post_processor", "decoder", "model"}  # fmt: skip
    if unknown := sorted(set(entries) - known):
        raise fault(f"the entry {shown(unknown[0])} is not understood")
    if unknown := sorted(set(model) - _OF_A_MODEL):
        raise fault(f"the entry {shown(unknown[0])} of its model is not understood")
    unknown_token = model.get("unk_token")
    if unknown_token is not None and not isinstance(unknown_token, str):
        raise fault(f"unk_token is {shown(unknown_token)}, expected a token")
    vocabulary = _vocabulary(model.get("vocab"), fault)
    kind = model.get("type", "BPE" if "merges" in model else None)
    if kind == "WordLevel":
        return _characters(entries, vocabulary, fault)
    if kind != "BPE":
        raise fault(f"its model is {shown(kind)}; those that are read: BPE of bytes, and "
                    f"WordLevel of characters")  # fmt: skip
    return _bpe(entries, model, vocabulary, fault)


def _vocabulary(found: Any, fault: Callable[[str], FolderError]) -> dict[str, int]:
    if not isinstance(found, dict) or not found:
        raise fault("its model has no vocabulary of tokens and ids")
    owner: dict[int, str] = {}
    for name, i in found.items():
        if type(i) is not int or not 0 <= i < 1 << 31:
            raise fault(f"the id of {shown(name)} is {shown(i)}, expected a whole number")
        if i in owner:
            raise fault(f"{shown(owner[i])} and {shown(name)} have the id {i}")
        owner[i] = name
    return found


def _characters(
    entries: Entries, vocabulary: dict[str, int], fault: Callable[[str], FolderError]
) -> CharTokenizer:
    _begin(entries.get("post_processor"), {}, fault)
    for part, wanted in (("pre_tokenizer", _EACH), ("decoder", {"type": "Fuse"}),
                         ("normalizer", None)):  # fmt: skip
        if entries.get(part) != wanted:
            raise fault(f"its {part} is {shown(entries.get(part))}; of a WordLevel model only "
                        f"one of single characters is read")  # fmt: skip
    if entries.get("added_tokens"):
        raise fault("tokens are added to its characters, which is not read")
    if entries["model"].get("unk_token") in vocabulary:
        raise fault("unknown characters have a token of their own, which is not read")
    ordered = sorted(vocabulary, key=lambda name: vocabulary[name])
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise fault(f"its ids are not 0 to {len(vocabulary) - 1}")
    for name in ordered:
        if len(name) != 1:
            raise fault(f"{shown(name)} is not one character")
    try:
        return CharTokenizer("".join(ordered))
    except DataError as error:
        raise fault(str(error)) from None


def _bpe(
    entries: Entries,
    model: Entries,
    vocabulary: dict[str, int],
    fault: Callable[[str], FolderError],
) -> ByteBPE | FolderTokenizer | SpacedTokenizer:
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise fault(f"{name} is {shown(model[name])}, which is not read")
    controls, spelled = _added(entries, vocabulary, fault)
    begin = _begin(entries.get("post_processor"), controls, fault)
    if model.get("byte_fallback"):
        return read_spaced(entries, vocabulary, (controls, spelled), begin, fault)
    split = read_cut(entries.get("pre_tokenizer"))
    if split is None:
        raise fault(f"its pre_tokenizer is {shown(entries.get('pre_tokenizer'))}; those that are "
                    f"read: GPT-2's, alone or after single digits, Llama 3's, Qwen's")  # fmt: skip
    if not isinstance(entries.get("decoder"), dict) or entries["decoder"].get("type") != (
        "ByteLevel"
    ):
        raise fault(f"its decoder is {shown(entries.get('decoder'))}; only bytes are read")
    normal = entries.get("normalizer")
    if normal is not None and normal not in ({"type": "NFC"}, {"type": "NFKC"}):
        raise fault(f"its normalizer is {shown(normal)}; those that are read: NFC, NFKC")
    ids = _ids_of_bytes(model, vocabulary, controls, fault)
    pairs = _merges(model.get("merges"), controls, fault)
    try:
        bpe = ByteBPE(pairs, split=split)
    except TokenizerError as error:
        raise fault(str(error)) from None
    _check_merged(model, bpe, ids, fault)
    plain = ids == {token: i for i, token in enumerate(bpe.tokens)}
    together = sorted(controls.values()) == list(
        range(len(bpe.tokens), len(bpe.tokens) + len(controls))
    )
    if plain and together and not begin and normal is None and not spelled:
        return ByteBPE(pairs, controls, split)
    length = 1 + max((*vocabulary.values(), *controls.values()))
    form = normal["type"] if normal else None
    return FolderTokenizer(bpe, ids, controls, length, begin, form, spelled)


def _ids_of_bytes(
    model: Entries,
    vocabulary: dict[str, int],
    controls: dict[str, int],
    fault: Callable[[str], FolderError],
) -> dict[bytes, int]:
    """Ids of the tokens that texts are made of, by their bytes."""
    of = {letter: byte for byte, letter in byte_spelling().items()}
    ids: dict[bytes, int] = {}
    for name, i in vocabulary.items():
        if name in controls:
            continue
        if not set(name) <= of.keys():
            raise fault(f"the token {shown(name)} is not spelled as GPT-2 spells bytes")
        ids[bytes(of[letter] for letter in name)] = i
    if model.get("unk_token") and len(ids.keys() & {bytes([byte]) for byte in range(256)}) < 256:
        raise fault("bytes are missing, and unknown ones have a token, which is not read")
    return ids


def _check_merged(
    model: Entries, bpe: ByteBPE, ids: dict[bytes, int], fault: Callable[[str], FolderError]
) -> None:
    """Refuse merges that make something else than the vocabulary has."""
    for token in bpe.tokens[256:]:
        if token not in ids:
            raise fault(f"a merge makes {shown(token)}, which is not in the vocabulary")
    if model.get("ignore_merges"):
        whole = {token: i for i, token in enumerate(bpe.tokens)}
        for token in ids:  # such a piece is one token there, and must be here
            if bpe.merge_bytes(token) != [whole.get(token)]:
                raise fault(f"ignore_merges is true, and merges do not make {shown(token)}")


def _merges(
    found: Any, controls: dict[str, int], fault: Callable[[str], FolderError]
) -> list[tuple[int, int]]:
    """The merges as pairs of ids that count bytes first and then merges."""
    if not isinstance(found, list):
        raise fault("its model has no list of merges")
    spelled = byte_spelling()
    made = {spelled[byte]: i for i, byte in enumerate(BYTE_ORDER)}
    pairs = []
    for number, merge in enumerate(found):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2 or {type(p) for p in parts} != {str}:
            raise fault(f"merge {number} is {shown(merge)}, expected two tokens")
        for part in parts:
            if part not in made:
                raise fault(f"merge {number} joins {shown(part)}, which no earlier merge makes")
        joined = "".join(parts)
        if joined in controls:
            raise fault(f"merge {number} makes {shown(joined)}, which is a control token")
        pairs.append((made[parts[0]], made[parts[1]]))
        made.setdefault(joined, len(made))
    return pairs


def _added(
    entries: Entries, vocabulary: dict[str, int], fault: Callable[[str], FolderError]
) -> tuple[dict[str, int], dict[str, int]]:
    """Ids of added tokens by name: all, and those that are found in a text where they stand."""
    found: dict[str, int] = {}
    spelled: dict[str, int] = {}
    added = entries.get("added_tokens")
    owner = {i: name for name, i in vocabulary.items()}
    if added is not None and not isinstance(added, list):
        raise fault("added_tokens is no list")
    for each in added or []:
        name, i = (each.get("content"), each.get("id")) if isinstance(each, dict) else (None, None)
        if not isinstance(name, str) or not name or type(i) is not int or not 0 <= i < 1 << 31:
            raise fault(f"the added token {shown(each)} has no name or no id")
        if name in found or owner.get(i, name) != name or vocabulary.get(name, i) != i:
            raise fault(f"the added token {shown(name)} with the id {i} is there already")
        owner[i], found[name] = name, i
        if each.get("special"):
            continue
        if any(each.get(option) for option in ("single_word", "lstrip", "rstrip")):
            raise fault(f"the added token {shown(name)} takes spaces with it, which is not read")
        if each.get("normalized") and entries.get("normalizer") is not None:
            raise fault(f"the added token {shown(name)} is looked for in normalized text, which "
                        f"is not read")  # fmt: skip
        spelled[name] = i
    return found, spelled


def _begin(
    processor: Any, controls: dict[str, int], fault: Callable[[str], FolderError]
) -> tuple[int, ...]:
    """Ids of the control tokens that are put before a text."""
    if processor is None or (isinstance(processor, dict) and processor.get("type") == "ByteLevel"):
        return ()
    refused = fault(f"its post_processor is {shown(processor)}; those that are read: none, or "
                    f"control tokens before the text")  # fmt: skip
    if not isinstance(processor, dict):
        raise refused
    if processor.get("type") == "Sequence":
        steps = processor.get("processors")
        if not isinstance(steps, list):
            raise refused
        templates = [s for s in steps if not isinstance(s, dict) or s.get("type") != "ByteLevel"]
        if len(templates) > 1:
            raise refused
        return _begin(templates[0] if templates else None, controls, fault)
    single = processor.get("single")
    if processor.get("type") != "TemplateProcessing" or not isinstance(single, list) or not single:
        raise refused
    *before, last = single
    if not isinstance(last, dict) or list(last) != ["Sequence"]:
        raise refused
    found = []
    for step in before:
        token = step.get("SpecialToken") if isinstance(step, dict) else None
        name = token.get("id") if isinstance(token, dict) else None
        if not isinstance(name, str) or name not in controls:
            raise refused
        found.append(controls[name])
    return tuple(found)
