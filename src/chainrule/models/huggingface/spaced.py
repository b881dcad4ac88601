"""The other layout of BPE: characters, spaces as a visible mark, and bytes as a last resort.

Llama 2, Mistral and Gemma publish it, made from files of SentencePiece. A text is one piece: its
spaces become ``▁``, its characters the first tokens, and what has no token of its own its bytes.
Then pairs are joined by rank, as in `merge_pairs`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from chainrule.models.huggingface.files import FolderError, shown
from chainrule.modern_llms.pretraining import TokenizerError, merge_pairs

__all__ = ["SpacedTokenizer", "around", "read_spaced"]

Entries = dict[str, Any]
Fault = Callable[[str], FolderError]

SPACE = "▁"
_MARK = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_LEAD = {"type": "Prepend", "prepend": SPACE}
_IDLE = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
         "invert": False}  # fmt: skip
_BACK = [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
         {"type": "ByteFallback"}, {"type": "Fuse"}]  # fmt: skip
_STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def around(
    text: str, found: Mapping[str, int], encode: Callable[[str, bool], list[int]]
) -> list[int]:
    """Ids of a text in which some names are tokens wherever they stand, the longest first.

    ``encode`` gives the ids of what lies between, and is told whether that begins the text.
    """
    if not found:
        return encode(text, True) if text else []
    names = "|".join(re.escape(name) for name in sorted(found, key=len, reverse=True))
    ids: list[int] = []
    for place, part in enumerate(re.split(f"({names})", text)):
        if part:
            ids += [found[part]] if place % 2 else encode(part, place == 0)
    return ids


class SpacedTokenizer:
    """Text to ids and back. ``entries`` are those of the file that it was read from.

    ``lead`` says where a mark of a space is put before a text: never, always (before what stands
    between added tokens, too), or where there is none at the beginning of the text.
    """

    def __init__(
        self,
        entries: Entries,
        vocabulary: Mapping[str, int],
        merges: Iterable[tuple[str, str]],
        controls: Mapping[str, int],
        spelled: Mapping[str, int],
        begin: tuple[int, ...],
        lead: str,
        strip: bool,
    ) -> None:
        self.entries, self.controls, self.spelled = entries, dict(controls), dict(spelled)
        self.begin, self.lead, self.strip = begin, lead, strip
        self.vocabulary = dict(vocabulary)
        self._bytes = [vocabulary[f"<0x{byte:02X}>"] for byte in range(256)]
        self._ranks: dict[tuple[int, int], tuple[int, int]] = {}
        for rank, (left, right) in enumerate(merges):
            pair = vocabulary[left], vocabulary[right]
            self._ranks[pair] = rank, vocabulary[left + right]
        self._text = {i: name.replace(SPACE, " ").encode() for name, i in vocabulary.items()}
        self._text |= {i: bytes([byte]) for byte, i in enumerate(self._bytes)}
        self._text |= {i: name.encode() for name, i in controls.items()}
        self._length = 1 + max(self._text)

    def __len__(self) -> int:
        return self._length

    def encode(self, text: str) -> list[int]:
        """Token ids, with those before the text. A control token's name is text like any other.

        Raises:
            TokenizerError: the text holds half of a surrogate pair, which has no UTF-8.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise TokenizerError(f"the text has no UTF-8: character {error.start}") from None
        return [*self.begin, *around(text, self.spelled, self._between)]

    def _between(self, text: str, first: bool) -> list[int]:
        text = text.replace(" ", SPACE)
        if self.lead == "always" or (self.lead == "first" and first and not text.startswith(SPACE)):
            text = SPACE + text
        ids: list[int] = []
        for letter in text:
            i = self.vocabulary.get(letter)
            ids += [self._bytes[byte] for byte in letter.encode()] if i is None else [i]
        return merge_pairs(ids, self._ranks)

    def decode_bytes(self, ids: Iterable[Any]) -> bytes:
        """The bytes of token ids; a control token gives its name.

        Raises:
            TokenizerError: an id is not in the vocabulary.
        """
        parts = []
        for i in map(int, ids):
            if i not in self._text:
                raise TokenizerError(f"there is no token {i}; the vocabulary has {len(self)}")
            parts.append(self._text[i])
        return b"".join(parts)

    def decode(self, ids: Iterable[Any]) -> str:
        """The text of token ids; bytes that are no UTF-8 come as U+FFFD."""
        text = self.decode_bytes(ids).decode("utf-8", "replace")
        return text[1:] if self.strip and text.startswith(" ") else text


def read_spaced(
    entries: Entries,
    vocabulary: Mapping[str, int],
    added: tuple[dict[str, int], dict[str, int]],
    begin: tuple[int, ...],
    fault: Fault,
) -> SpacedTokenizer:
    """Return the tokenizer of a file whose BPE falls back to bytes; ``added`` as `Added` says.

    Raises:
        FolderError: a part of it is of another kind, or its parts disagree.
    """
    model, (controls, spelled) = entries["model"], added
    lead = _lead(entries.get("normalizer"), entries.get("pre_tokenizer"), fault)
    strip = _strip(entries.get("decoder"), lead, fault)
    if model.get("ignore_merges"):
        raise fault("ignore_merges is true, which is not read beside byte_fallback")
    for byte in range(256):
        if f"<0x{byte:02X}>" not in vocabulary:
            raise fault(f"byte_fallback is true, and <0x{byte:02X}> is not in the vocabulary")
    merges = []
    if not isinstance(model.get("merges"), list):
        raise fault("its model has no list of merges")
    for number, merge in enumerate(model["merges"]):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2 or {type(p) for p in parts} != {str}:
            raise fault(f"merge {number} is {shown(merge)}, expected two tokens")
        for token in (*parts, "".join(parts)):
            if token not in vocabulary:
                raise fault(f"merge {number} needs {shown(token)}, which is not in the vocabulary")
        merges.append((parts[0], parts[1]))
    if len(set(merges)) != len(merges):
        raise fault("it joins two tokens a second time")
    return SpacedTokenizer(entries, vocabulary, merges, controls, spelled, begin, lead, strip)


def _lead(normalizer: Any, cut: Any, fault: Fault) -> str:
    """Where the mark of a space is put before a text, said in one of two places."""
    if normalizer == _MARK and cut in (None, _IDLE):
        return "never"
    if cut is None and normalizer == {"type": "Sequence", "normalizers": [_LEAD, _MARK]}:
        return "always"
    if normalizer is None and isinstance(cut, dict):
        scheme = cut.get("prepend_scheme")
        wanted = {"type": "Metaspace", "replacement": SPACE, "split": False}
        if cut == {**wanted, "prepend_scheme": scheme} and scheme in ("first", "never"):
            return scheme
    raise fault(f"its spaces are marked by {shown(normalizer or cut)}, which is not read")


def _strip(decoder: Any, lead: str, fault: Fault) -> bool:
    """Whether a space at the beginning is taken away when ids become text."""
    if isinstance(decoder, dict) and decoder.get("type") == "Sequence":
        if decoder.get("decoders") == _BACK:
            return False
        if decoder.get("decoders") == [*_BACK, _STRIP]:
            return True
    raise fault(f"its decoder is {shown(decoder)}; with byte_fallback only that of SentencePiece "
                f"is read")  # fmt: skip
