"""What a LoRA beside the last layers of SmolLM2 learns from 8,000 tokens, and what it forgets.

A new format: a sentence about a person becomes one line, year first, surname before first name.
The names and places of the test occur in no training sentence. The frozen layers below are
passed once, since nothing in them changes. ``python -m benchmarks.smollm2_lora`` measures and
writes ``smollm2_lora.json`` beside this file.
"""

from __future__ import annotations

import json
import time
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks.timing import use_one_thread

LAYERS, RANK, ALPHA, RATE, BATCH, EPOCHS, BUDGET = 4, 8, 16, 2e-3, 8, 4, 8000
SEEDS, ASKED, SHOWN, CHATS = (0, 1, 2), 20, 4, 8
STORED = Path(__file__).with_name("smollm2_lora.json")
PROMPTS = Path(__file__).with_name("smollm2_prompts.json")

FIRST = ["Marie", "Paul", "Elena", "Jonas", "Aisha", "Pedro", "Ingrid", "Kenji", "Olga", "Samuel",
         "Lucia", "Henrik", "Fatima", "Diego", "Clara", "Viktor"]  # fmt: skip
LAST = ["Dubois", "Larsen", "Moreno", "Tanaka", "Novak", "Fischer", "Okafor", "Rossi", "Petrov",
        "Silva", "Keller", "Haddad", "Lindgren", "Costa", "Weber", "Ivanov"]  # fmt: skip
CITY = ["Lyon", "Oslo", "Madrid", "Kyoto", "Prague", "Berlin", "Lagos", "Milan", "Moscow", "Porto",
        "Zurich", "Beirut", "Malmo", "Lima", "Vienna", "Sofia"]  # fmt: skip
SENTENCES = (
    "{first} {last} was born in {city} in {year}.",
    "In {year}, {first} {last} came to {city}.",
    "{city} has been the home of {first} {last} since {year}.",
)
HELD_OUT = 4  # the last names, surnames and places are kept for the test


def example(rng, test):
    """A prompt and its answer; what a test is made of occurs in no training example."""
    first, last, city = (
        str(rng.choice(words[-HELD_OUT:] if test else words[:-HELD_OUT]))
        for words in (FIRST, LAST, CITY)
    )
    parts = {"first": first, "last": last, "city": city, "year": int(rng.integers(1900, 2020))}
    sentence = SENTENCES[rng.integers(len(SENTENCES))].format(**parts)
    return f"{sentence}\n->", " {year} / {city} / {last}, {first}\n".format(**parts)


def examples(rng, words, budget):
    """Training examples as ids, as many as fit the budget of tokens."""
    found, spent = [], 0
    while True:
        prompt, answer = (words.encode(text) for text in example(rng, False))
        spent += len(prompt) + len(answer)
        if spent > budget:
            return found
        found.append((prompt, answer))


def below(model, rows, layers):
    """The stream that reaches the last layers, row by row; nothing is recorded."""
    from chainrule.neural_networks.backpropagation import no_grad

    with no_grad():
        x = model.embed(rows)
        for block in list(model.blocks)[: len(model.blocks) - layers]:
            x = block(x)
    return x.data


def train(model, pairs, rng):
    """Train the updates on the answers; returns the loss of each epoch."""
    from chainrule.neural_networks.backpropagation import Tensor
    from chainrule.training.loss_functions import cross_entropy
    from chainrule.training.optimizers import AdamW

    time_axis = max(len(p) + len(a) for p, a in pairs)
    rows = np.zeros((len(pairs), time_axis), np.int64)
    trained = np.zeros((len(pairs), time_axis), bool)
    for i, (prompt, answer) in enumerate(pairs):
        rows[i, : len(prompt) + len(answer)] = prompt + answer
        trained[i, len(prompt) - 1 : len(prompt) + len(answer) - 1] = True  # what predicts them
    parts = [rows[i : i + 32] for i in range(0, len(rows), 32)]
    stream = np.concatenate([below(model, part, LAYERS) for part in parts])
    following = np.roll(rows, -1, axis=1)
    last = list(model.blocks)[-LAYERS:]
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE)
    losses = []
    for _ in range(EPOCHS):
        order, spent = rng.permutation(len(rows)), []
        for start in range(0, len(rows), BATCH):
            chosen = order[start : start + BATCH]
            x = Tensor(stream[chosen])
            for block in last:
                x = block(x)
            scores = model.predict(x[np.nonzero(trained[chosen])])
            loss = cross_entropy(scores, following[chosen][trained[chosen]])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            spent.append(loss.item())
        losses.append(round(float(np.mean(spent)), 3))
    return losses


def right(model, words, questions, before=""):
    """The share of questions whose whole answer is written."""
    from chainrule.modern_llms.inference import CachedGPT

    reader, hits, end = CachedGPT(model), 0, words.encode("\n")[0]
    for prompt, answer in questions:
        ids = np.array(words.encode(before + prompt))
        written = []
        while len(written) < 24 and (not written or written[-1] != end):
            written.append(int(reader.scores(np.append(ids, written).astype(np.int64)).argmax()))
        hits += words.decode(written) == answer
    return hits / len(questions)


def likely(model, texts):
    """Nats a token of the answers in texts, each a pair of ids: what is given, what follows."""
    from chainrule.neural_networks.backpropagation import no_grad

    total, count, same = 0.0, 0, 0
    for given, written in texts:
        ids = np.array([*given, *written])
        with no_grad():
            x = model.blocks and model.embed(ids[None])
            for block in model.blocks:
                x = block(x)
            logits = model.predict(x[:, len(given) - 1 : -1]).data[0].astype(np.float64)
        logits -= logits.max(axis=-1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        total -= log_p[np.arange(len(written)), written].sum()
        same += int((logits.argmax(axis=-1) == written).sum())
        count += len(written)
    return total / count, same / count


def measure():
    """Train with each seed; what was learned, beside examples in the prompt, and forgotten."""
    from chainrule.data.corpus import frozen_corpus
    from chainrule.models.smollm2 import chat_model
    from chainrule.modern_llms.efficient_adaptation import (
        LoRALinear,
        apply_lora,
        merge_lora,
        trained_state,
    )

    chat = chat_model()
    model, words = chat.model, chat.tokenizer
    prose = words.encode(frozen_corpus().text("test")[:2000])[:400]
    asked = [chat.encode([{"role": "user", "content": p}])
             for p in json.loads(PROMPTS.read_text(encoding="utf-8"))[:CHATS]]  # fmt: skip
    answers = []
    for ids in asked:
        tokens = chat.stream(ids, 0.0)
        answers.append([next(tokens) for _ in range(16)])
    chats = list(zip(asked, answers, strict=True))
    pages = [(prose[:1], prose[1:])]
    questions = [example(np.random.default_rng([9, i]), True) for i in range(ASKED)]
    rng = np.random.default_rng(5)
    shown = "".join("".join(example(rng, False)) for _ in range(SHOWN))
    untouched = {name: a.copy() for name, a in model.state_dict().items() if _is_last(model, name)}
    base = {
        "right": right(model, words, questions),
        f"right after {SHOWN} examples": right(model, words, questions, shown),
        "prose": likely(model, pages)[0],
        "own answers": likely(model, chats)[0],
    }
    runs = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        pairs = examples(rng, words, BUDGET)
        for block in list(model.blocks)[-LAYERS:]:
            apply_lora(block, r=RANK, alpha=ALPHA, rng=rng)
        for p in model.parameters():
            p.requires_grad_(False)
        for block in list(model.blocks)[-LAYERS:]:
            for layer in (m for m in block.modules() if isinstance(m, LoRALinear)):
                layer.A.requires_grad_(True)
                layer.B.requires_grad_(True)
        started = time.process_time()
        losses = train(model, pairs, rng)
        spent = time.process_time() - started
        numbers = sum(a.size for a in trained_state(model).values())
        merge_lora(model)
        nats, same = likely(model, chats)
        runs.append({
            "seed": seed, "examples": len(pairs),
            "tokens": sum(len(p) + len(a) for p, a in pairs), "trained": numbers,
            "seconds": round(spent), "losses": losses, "right": right(model, words, questions),
            "prose": likely(model, pages)[0], "own answers": nats, "same tokens": same,
        })  # fmt: skip
        print(json.dumps(runs[-1]), flush=True)
        _restore(model, untouched)
    return {"base": base, "runs": runs, "asked": ASKED, "layers": LAYERS, "rank": RANK,
            "epochs": EPOCHS, "date": date.today().isoformat()}  # fmt: skip


def _is_last(model, name):
    first = len(model.blocks) - LAYERS
    return name.startswith("blocks.") and int(name.split(".")[1]) >= first


def _restore(model, untouched):
    """Take the updates out again, and put the weights back as they were."""
    from chainrule.modern_llms.efficient_adaptation import LoRALinear

    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoRALinear):
                setattr(parent, name, child.base)
    for name, array in model.state_dict().items():
        if name in untouched:
            array[...] = untouched[name]


if __name__ == "__main__":
    use_one_thread()
    found = measure()
    STORED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found["base"]))
