"""Byte-pair encoding on bytes: training merges, encoding, decoding.

Taught in ``modern-llms/pretraining.md``. A token is a string of bytes. The first 256 ids are the
single bytes in GPT-2's order; every merge joins two tokens, and its place in the list is its rank.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush

from chainrule.modern_llms.pretraining.pieces import BYTE_ORDER, split_pieces

__all__ = ["ByteBPE", "TokenizerError", "learn_merges", "merge_pairs", "train_bpe"]

CACHE_PIECES = 100_000
"""Pieces whose ids are remembered; then the memory starts again from nothing."""

CACHE_BYTES = 64
"""Longer pieces are never remembered: they rarely come back, and a page may be one piece."""

VOCABULARY_BYTES = 64 * 1024 * 1024
"""All tokens together: forty merges that each double the last would need a terabyte."""

Pair = tuple[int, int]


class TokenizerError(ValueError):
    """A text, an id or a tokenizer file cannot be used; one line says which and why."""


class ByteBPE:
    """Text to ids and back, by ranked merges of bytes.

    Args:
        merges: pairs of ids, the best rank first; merge ``r`` may use bytes and earlier merges.
        special: ids of tokens that no text produces, such as the end of a document.
        split: cuts a text into the pieces that no merge leaves; by GPT-2's rules unless given.

    Raises:
        TokenizerError: a merge uses an id that is not made yet, a pair comes twice, or the tokens
            are longer than ``VOCABULARY_BYTES`` together.

    Source: Sennrich et al., 2015 (arXiv 1508.07909), on bytes as in GPT-2 (Radford et al., 2019).
    """

    def __init__(
        self,
        merges: Iterable[Pair],
        special: Mapping[str, int] | None = None,
        split: Callable[[str], list[str]] = split_pieces,
    ):
        self.split = split
        self.tokens: list[bytes] = [bytes([byte]) for byte in BYTE_ORDER]
        self.merges: list[Pair] = []
        self.ranks: dict[Pair, tuple[int, int]] = {}
        known = {token: i for i, token in enumerate(self.tokens)}
        length = 0
        for rank, (left, right) in enumerate(merges):
            if not (0 <= left < len(self.tokens) and 0 <= right < len(self.tokens)):
                raise TokenizerError(
                    f"merge {rank} joins {left} and {right}; "
                    f"ids below {len(self.tokens)} are made before it"
                )
            if (left, right) in self.ranks:
                raise TokenizerError(f"merge {rank} joins {left} and {right} a second time")
            length += len(self.tokens[left]) + len(self.tokens[right])
            if length > VOCABULARY_BYTES:
                raise TokenizerError(
                    f"with merge {rank} the tokens are longer than {VOCABULARY_BYTES:,} bytes"
                )
            token = self.tokens[left] + self.tokens[right]
            new = known.setdefault(token, len(self.tokens))
            if new == len(self.tokens):
                self.tokens.append(token)
            self.merges.append((left, right))
            self.ranks[left, right] = (rank, new)
        self.special = dict(special or {})
        self._text_of = {i: name.encode() for name, i in self.special.items()}
        for name, i in self.special.items():
            if i < len(self.tokens):
                raise TokenizerError(
                    f"special token {name!r} has the id {i}; the merges end at {len(self.tokens)}"
                )
        self._first = {byte: i for i, byte in enumerate(BYTE_ORDER)}
        self._memory: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self.tokens) + len(self._text_of)

    def encode(self, text: str) -> list[int]:
        """Token ids. The name of a special token inside the text is text like any other.

        Raises:
            TokenizerError: the text holds half of a surrogate pair, which has no UTF-8.

        Equation: modern-llms/pretraining.md#eq-bpe-encode
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            where = f"character {error.start} is {text[error.start]!r}"
            raise TokenizerError(f"the text has no UTF-8: {where}, half of a pair") from None
        return self._encode(text)

    def encode_bytes(self, data: bytes) -> list[int]:
        """Token ids of any bytes; `decode_bytes` returns exactly these bytes.

        A byte that is not part of valid UTF-8 belongs to no letter, digit or space.
        """
        return self._encode(data.decode("utf-8", "surrogateescape"))

    def _encode(self, text: str) -> list[int]:
        memory, ids = self._memory, list[int]()
        for piece in self.split(text):
            found = memory.get(piece)
            if found is None:
                raw = piece.encode("utf-8", "surrogateescape")
                found = self.merge_bytes(raw)
                if len(raw) <= CACHE_BYTES:
                    if len(memory) >= CACHE_PIECES:
                        memory.clear()
                    memory[piece] = found
            ids += found
        return ids

    def merge_bytes(self, piece: bytes) -> list[int]:
        """The ids of one piece: the pair of the best rank is joined, the leftmost first, until
        no pair of neighbours has a rank. Takes time n log n for n bytes.
        """
        return merge_pairs([self._first[byte] for byte in piece], self.ranks)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of token ids.

        Raises:
            TokenizerError: an id is not in the vocabulary.
        """
        parts = []
        for i in ids:
            i = int(i)
            if 0 <= i < len(self.tokens):
                parts.append(self.tokens[i])
            elif i in self._text_of:
                parts.append(self._text_of[i])
            else:
                raise TokenizerError(f"there is no token {i}; the vocabulary has {len(self)}")
        return b"".join(parts)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids; bytes that are no UTF-8 (a cut character) come as U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")


def merge_pairs(ids: list[int], ranks: Mapping[Pair, tuple[int, int]]) -> list[int]:
    """Join neighbours by rank; ``ranks`` gives each pair its rank and what it becomes.

    The pair of the best rank is joined first, of equals the leftmost; ``ids`` are changed.
    Equation: modern-llms/pretraining.md#eq-bpe-encode
    """
    n = len(ids)
    after = list(range(1, n + 1))
    before = list(range(-1, n - 1))
    waiting = [
        (*ranks[pair], i, pair) for i in range(n - 1) if (pair := (ids[i], ids[i + 1])) in ranks
    ]
    heapify(waiting)
    while waiting:
        _, new, i, (left, right) = heappop(waiting)
        j = after[i]
        if ids[i] != left or j >= n or ids[j] != right:
            continue  # one of the two was joined to something else in the meantime
        ids[i], ids[j] = new, -1
        k = after[i] = after[j]
        if k < n:
            before[k] = i
            if (pair := (new, ids[k])) in ranks:
                heappush(waiting, (*ranks[pair], i, pair))
        h = before[i]
        if h >= 0 and (pair := (ids[h], new)) in ranks:
            heappush(waiting, (*ranks[pair], h, pair))
    return [i for i in ids if i >= 0]


def train_bpe(text: str, vocabulary: int) -> ByteBPE:
    """A tokenizer with at most ``vocabulary`` tokens, 256 of them bytes, learned from a text.

    Raises:
        TokenizerError: ``vocabulary`` is below 256.

    Equation: modern-llms/pretraining.md#eq-bpe-train
    """
    if vocabulary < 256:
        raise TokenizerError(f"a vocabulary of bytes has at least 256 tokens, got {vocabulary}")
    index = {byte: i for i, byte in enumerate(BYTE_ORDER)}
    counts = Counter(split_pieces(text))
    words = [[index[byte] for byte in word.encode("utf-8", "surrogateescape")] for word in counts]
    return ByteBPE(learn_merges(words, list(counts.values()), vocabulary))


def learn_merges(words: Sequence[list[int]], counts: Sequence[int], vocabulary: int) -> list[Pair]:
    """Merges of the most frequent pair of neighbours, again and again; ``words`` are changed.

    Ties go to the pair with the smaller left id, then the smaller right one, as in Hugging
    Face's ``tokenizers``. Only words that hold the pair are looked at: an index says which.
    """
    pairs: defaultdict[Pair, int] = defaultdict(int)
    where: defaultdict[Pair, set[int]] = defaultdict(set)
    for number, (word, count) in enumerate(zip(words, counts, strict=True)):
        for pair in itertools.pairwise(word):
            pairs[pair] += count
            where[pair].add(number)
    heap = [(-count, pair) for pair, count in pairs.items()]
    heapify(heap)
    tokens = [bytes([byte]) for byte in BYTE_ORDER]
    known = {token: i for i, token in enumerate(tokens)}
    merges: list[Pair] = []
    while len(tokens) < vocabulary and heap:
        seen, best = heappop(heap)
        count = pairs.get(best, 0)
        if count != -seen:  # the count fell after this entry was made
            if count > 0:
                heappush(heap, (-count, best))
            continue
        if count < 1:
            break
        token = tokens[best[0]] + tokens[best[1]]
        new = known.setdefault(token, len(tokens))
        if new == len(tokens):
            tokens.append(token)
        merges.append(best)
        grown: set[Pair] = set()
        for number in where.pop(best):
            _join(words[number], best, new, counts[number], number, pairs, where, grown)
        del pairs[best]
        for pair in grown:
            if (count := pairs.get(pair, 0)) > 0:
                heappush(heap, (-count, pair))
    return merges


def _join(
    word: list[int],
    best: Pair,
    new: int,
    count: int,
    number: int,
    pairs: defaultdict[Pair, int],
    where: defaultdict[Pair, set[int]],
    grown: set[Pair],
) -> None:
    """Join every ``best`` in one word, left to right, and book the pairs that come and go."""
    left, right = best
    i = 0
    while True:
        try:
            i = word.index(left, i)
        except ValueError:
            return
        if i + 1 >= len(word):
            return
        if word[i + 1] != right:
            i += 1
            continue
        if i:
            before = word[i - 1]
            pairs[before, left] -= count
            pairs[before, new] += count
            where[before, new].add(number)
            grown.add((before, new))
        if i + 2 < len(word):
            after = word[i + 2]
            pairs[right, after] -= count
            pairs[new, after] += count
            where[new, after].add(number)
            grown.add((new, after))
        word[i : i + 2] = [new]
        i += 1
