"""What LoRA beside the last layers of SmolLM2 learns from few tokens, and what it forgets.

A new format: a sentence about a purchase becomes one line of four keys with their values. Names,
things and places are in one split each: to train on, to choose the rate by, and for the test. The
names are those of the course's list. The frozen layers below are passed once, since nothing in
them changes. An answer is right if every token of it is the likeliest after those before, which is
what writing greedily would give.
``python -m benchmarks.smollm2_lora`` measures and writes ``smollm2_lora.json`` beside this file.
"""

from __future__ import annotations

import json
import re
import time
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.timing import use_one_thread

LAYERS, RANK, ALPHA, BATCH, EPOCHS, BUDGET = 6, 8, 16, 4, 2, 4000
RATES, SEEDS, EXAMPLES = (3e-3, 1e-3, 1e-2), (0, 1, 2, 3, 4), 100
ASKED, SHOWN, CHATS, WRITTEN, PAGE, WRITINGS = 40, 4, 8, 16, 400, 20
STORED = Path(__file__).with_name("smollm2_lora.json")
PROMPTS = Path(__file__).with_name("smollm2_prompts.json")

THINGS = """
apples books cars chairs shoes tables bottles boxes flowers horses phones windows doors tickets
letters stones trees boats bikes clocks coins eggs fish guitars hats jackets keys knives lamps
maps mirrors oranges paintings pens pillows plates potatoes rings rugs seeds shirts spoons
stamps stoves tents towels toys trucks umbrellas vases watches candles cameras cakes cups birds
beds bags bells balls blankets brushes buckets cards dolls drums forks nails onions pans pears
pipes ropes
"""
PLACES = """
Paris London Berlin Madrid Rome Vienna Prague Dublin Oslo Athens Lisbon Warsaw Moscow Tokyo
Beijing Delhi Cairo Sydney Boston Chicago Dallas Denver Seattle Miami Houston Phoenix Detroit
Toronto Montreal Geneva Milan Venice Munich Hamburg Glasgow Oxford Cambridge Bristol Manchester
Liverpool Istanbul Baghdad Tehran Jerusalem Nairobi Lagos Lima Havana Santiago Bangkok Jakarta
Manila Shanghai Singapore Melbourne Portland Austin Atlanta Cleveland Baltimore Memphis
Nashville Orlando
"""
SENTENCES = (
    "Yesterday {name} bought {count} {item} in {place}.",
    "In {place}, {name} sold {count} {item}.",
    "The {count} {item} in {place} are for {name}.",
)
FORM = " item = {item}; count = {count}; place = {place}; name = {name}\n"


def example(rng, split):
    """A prompt and its answer, with words of that split."""
    parts = {key: rng.choice(words) for key, words in values(split).items()}
    parts["count"] = rng.integers(2, 100)
    sentence = SENTENCES[rng.integers(len(SENTENCES))].format(**parts)
    return f"{sentence}\n->", FORM.format(**parts)


@cache
def values(split):
    """The names, things and places of a split; half of the things and places are to train on."""
    from chainrule.data.names import load_names

    names = [name.capitalize() for name in getattr(load_names(), split)]
    quarters = {"train": (0, 1), "validation": (2,), "test": (3,)}[split]
    items, places = (
        [word for i, word in enumerate(words.split()) if i % 4 in quarters]
        for words in (THINGS, PLACES)
    )
    return {"name": names, "item": items, "place": places}


def training_pairs(rng, words):
    """Training examples as ids, as many as fit the budget of tokens."""
    found, spent = [], 0
    while True:
        prompt, answer = (words.encode(text) for text in example(rng, "train"))
        spent += len(prompt) + len(answer)
        if spent > BUDGET:
            return found
        found.append((prompt, answer))


def questions(words, split, shown=0):
    """Questions as ids, each after so many examples of its own."""
    found = []
    for i in range(ASKED):
        rng = np.random.default_rng([len(split), i])
        prompt, answer = example(rng, split)
        before = "".join("".join(example(rng, "train")) for _ in range(shown))
        found.append((words.encode(before + prompt), words.encode(answer)))
    return found


class Texts:
    """Pairs (given, written) of ids, and the stream that reaches the last layers for each."""

    def __init__(self, model, pairs):
        length = max(len(given) + len(written) for given, written in pairs)
        self.rows = np.zeros((len(pairs), length), np.int64)
        self.scored = np.zeros((len(pairs), length), bool)  # the places that predict the written
        for i, (given, written) in enumerate(pairs):
            end = len(given) + len(written)
            self.rows[i, :end] = [*given, *written]
            self.scored[i, len(given) - 1 : end - 1] = True
        self.following = np.roll(self.rows, -1, axis=1)
        self.stream = np.concatenate([below(model, row[None]) for row in self.rows])

    def scores(self, model, chosen):
        """Scores at the scored places of the chosen texts, and the tokens that stand there."""
        from chainrule.neural_networks.backpropagation import Tensor

        x = Tensor(self.stream[chosen])
        for block in list(model.blocks)[-LAYERS:]:
            x = block(x)
        scored = self.scored[chosen]
        return model.predict(x[np.nonzero(scored)][None])[0], self.following[chosen][scored]


def below(model, rows):
    """The stream that reaches the last layers; nothing is recorded."""
    from chainrule.neural_networks.backpropagation import no_grad

    with no_grad():
        x = model.embed(rows)
        for block in list(model.blocks)[:-LAYERS]:
            x = block(x)
    return x.data


def judge(model, texts):
    """Share of texts that would be written whole, nats a token, share of likeliest tokens."""
    from chainrule.neural_networks.backpropagation import no_grad

    whole, nats, likeliest = [], [], []
    for i in range(len(texts.rows)):
        with no_grad():
            scores, wanted = texts.scores(model, [i])
        scores = scores.data.astype(np.float64)
        scores -= scores.max(axis=-1, keepdims=True)
        log_p = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
        hit = scores.argmax(axis=-1) == wanted
        whole.append(hit.all())
        likeliest.extend(hit)
        nats.extend(-log_p[np.arange(len(wanted)), wanted])
    return float(np.mean(whole)), float(np.mean(nats)), float(np.mean(likeliest))


def adapt(model, rng):
    """Put updates beside every matrix of the last layers; nothing else is trained."""
    from chainrule.modern_llms.efficient_adaptation import apply_lora

    model.requires_grad_(False)
    for block in list(model.blocks)[-LAYERS:]:
        apply_lora(block, r=RANK, alpha=ALPHA, rng=rng)
    return [p for p in model.parameters() if p.requires_grad]


def train(model, parameters, texts, rate, rng):
    """Train the updates on the answers; returns the loss of each epoch."""
    from chainrule.training.loss_functions import cross_entropy
    from chainrule.training.optimizers import AdamW

    optimizer, losses = AdamW(parameters, lr=rate), []
    for _ in range(EPOCHS):
        order, spent = rng.permutation(len(texts.rows)), []
        for start in range(0, len(order), BATCH):
            scores, wanted = texts.scores(model, order[start : start + BATCH])
            loss = cross_entropy(scores, wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            spent.append(loss.item())
        losses.append(float(np.mean(spent)))
    return losses


def take_out(model):
    """Take the updates out again; the matrices beside them were never touched."""
    from chainrule.modern_llms.efficient_adaptation import LoRALinear

    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoRALinear):
                setattr(parent, name, child.base)


def opened():
    from chainrule.models.smollm2 import chat_model

    chat = chat_model()
    return chat, chat.model, chat.tokenizer


def base_texts(chat, model, words):
    """The test's questions, a page of prose, and what the base itself answers when asked."""
    from chainrule.data.corpus import frozen_corpus

    prose = words.encode(frozen_corpus().text("test")[: 5 * PAGE])[:PAGE]
    own = []
    for prompt in json.loads(PROMPTS.read_text(encoding="utf-8"))[:CHATS]:
        ids, written = chat.encode([{"role": "user", "content": prompt}]), []
        for token in chat.stream(ids, 0.0):
            written.append(token)
            if token in chat.ends or len(written) == WRITTEN:
                break
        own.append((ids, written))
    page = [(prose[:1], prose[1:])]
    return [Texts(model, pairs) for pairs in (questions(words, "test"), page, own)]


def state(model, asked, prose, own):
    right, nats, _ = judge(model, asked)
    own_nats, own_tokens = judge(model, own)[1:]
    return {"right": right, "nats": nats, "prose": judge(model, prose)[1],
            "own answers": own_nats, "own tokens": own_tokens}  # fmt: skip


def written(model, words):
    """What is written greedily to the first questions of the test, beside what is right."""
    from chainrule.transformers.gpt import generate

    found = []
    for prompt, answer in questions(words, "test")[:WRITINGS]:
        text = generate(model, np.array([prompt]), len(answer), temperature=0)[0].tolist()
        line = words.decode(text[len(prompt) :]).split("\n")[0]
        found.append([words.decode(prompt).split("\n")[0], words.decode(answer)[:-1], line])
    return found


def parts_right(lines):
    """How many lines have the form, and of how many each value is right."""
    form = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^;=]+)", FORM[:-1]))
    both = [(form.fullmatch(right), form.fullmatch(line)) for _, right, line in lines]
    keys = form.groupindex
    return {"form": sum(line is not None for _, line in both)} | {
        key: sum(line is not None and line[key] == right[key] for right, line in both)
        for key in keys
    }


def measure(store=lambda found: None):
    """Choose the rate on its own names, then train with every seed; None without the model.

    All runs read the same examples; a seed draws the first factors and the order.
    """
    from chainrule.data.models import is_present
    from chainrule.models.smollm2 import chat_model

    if not is_present("smollm2"):
        return None
    chat = chat_model()
    model, words = chat.model, chat.tokenizer
    pairs = training_pairs(np.random.default_rng(EXAMPLES), words)
    learned, choosing = Texts(model, pairs), Texts(model, questions(words, "validation"))
    texts = base_texts(chat, model, words)

    def run(seed, rate, look=False):
        rng, started = np.random.default_rng(seed), time.process_time()
        parameters = adapt(model, rng)
        losses = [round(x, 3) for x in train(model, parameters, learned, rate, rng)]
        seconds = round(time.process_time() - started)
        right, nats, _ = judge(model, choosing)
        found = {"seed": seed, "rate": rate, "seconds": seconds, "losses": losses,
                 "trained": sum(p.size for p in parameters), "chosen by": [right, nats],
                 **state(model, *texts)}  # fmt: skip
        if look:
            lines = written(model, words)
            found |= {"parts": parts_right(lines), "written": lines}
        take_out(model)
        return found

    found = {"asked": ASKED, "layers": LAYERS, "rank": RANK, "epochs": EPOCHS,
             "examples": len(pairs), "tokens": sum(len(p) + len(a) for p, a in pairs),
             "rates": list(RATES), "base": state(model, *texts)}  # fmt: skip
    store(found)
    found["tried"] = []
    for rate in RATES:
        found["tried"].append(run(SEEDS[0], rate))
        store(found)
    best = min(found["tried"], key=lambda r: (-r["chosen by"][0], r["chosen by"][1]))
    found["rate"], found["runs"] = best["rate"], [best]
    shown = Texts(model, questions(words, "test", SHOWN))
    found["base"][f"right after {SHOWN} examples"] = judge(model, shown)[0]
    store(found)
    for seed in SEEDS[1:]:
        found["runs"].append(run(seed, best["rate"], look=seed == SEEDS[-1]))
        store(found)
    return found


def store(found):
    """Keep what there is so far."""
    STORED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    use_one_thread()
    if measure(store) is None:
        print("left out: its model is not here; type: chainrule models get smollm2")
