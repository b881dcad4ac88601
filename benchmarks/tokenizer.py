"""Byte-level BPE on one megabyte: training and encoding beside Hugging Face's tokenizers."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections import Counter
from itertools import pairwise

from benchmarks.timing import interleave, median_ratio
from chainrule.data.text import shakespeare_plays
from chainrule.modern_llms.pretraining import ByteBPE, piece_pattern, train_bpe

BYTES, MERGES, TEXTBOOK_MERGES = 1_000_000, 4096, 3


def measure(rounds: int = 7, size: int = BYTES, merges: int = MERGES) -> dict:
    """Seconds to train and to encode, and what the loop over the whole text would take at least."""
    os.environ["RAYON_NUM_THREADS"], os.environ["TOKENIZERS_PARALLELISM"] = "1", "false"
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    text = "\n".join(shakespeare_plays()).encode()[:size].decode("utf-8", "ignore")
    piece_pattern()

    def empty():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        return tokenizer

    def train_theirs():
        tokenizer = empty()
        trainer = trainers.BpeTrainer(
            vocab_size=256 + merges,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator([text], trainer)
        return tokenizer

    ours, theirs = train_bpe(text, 256 + merges), train_theirs()
    model = json.loads(theirs.to_str())["model"]
    ids = model["vocab"]
    if ours.merges != [(ids[left], ids[right]) for left, right in model["merges"]]:
        raise AssertionError("the merges differ from those of tokenizers")
    if ours.encode(text) != theirs.encode(text).ids:
        raise AssertionError("the ids differ from those of tokenizers")

    training = interleave({"ours": lambda: train_bpe(text, 256 + merges), "theirs": train_theirs},
                          rounds)  # fmt: skip
    cold = iter([ByteBPE(ours.merges) for _ in range(rounds + 1)])
    fresh = iter([Tokenizer.from_str(theirs.to_str()) for _ in range(rounds + 1)])
    encoding = interleave(
        {"ours": lambda: next(cold).encode(text), "theirs": lambda: next(fresh).encode(text)},
        rounds,
    )
    loop = textbook_seconds_a_merge(ours.encode(text)) * merges
    median = statistics.median
    rows = [
        {
            "task": task,
            "chainrule_s": f"{median(seconds['ours']):.2f}",
            "tokenizers_s": f"{median(seconds['theirs']):.2f}",
            "ratio": f"{median_ratio(seconds['ours'], seconds['theirs']):.2f}",
            "textbook_loop": f"{loop / median(seconds['ours']):,.0f} ×" if task == "train" else "",
        }
        for task, seconds in (("train", training), ("encode", encoding))
    ]
    return {
        "rows": rows,
        "method": f"{size:,} bytes of Shakespeare, {merges:,} merges, process time, median of "
        f"{rounds} rounds in turn, nothing remembered from an earlier call; the loop is "
        f"{TEXTBOOK_MERGES} merges on the shortest list of tokens times {merges:,}, so at least "
        "this much",
    }


def textbook_seconds_a_merge(tokens: list[int]) -> float:
    """Count all neighbours, join the most frequent pair everywhere: seconds for one merge."""
    start = time.process_time()
    for new in range(TEXTBOOK_MERGES):
        best = Counter(pairwise(tokens)).most_common(1)[0][0]
        out, i = [], 0
        while i < len(tokens):
            if i + 1 < len(tokens) and (tokens[i], tokens[i + 1]) == best:
                out.append(-1 - new)
                i += 2
            else:
                out.append(tokens[i])
                i += 1
        tokens = out
    return (time.process_time() - start) / TEXTBOOK_MERGES
