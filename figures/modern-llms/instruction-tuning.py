"""Figures of modern-llms/instruction-tuning.md; the runs tune the model of transformers/gpt.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.data.corpus import frozen_corpus
from chainrule.modern_llms.instruction_tuning import (
    CONTROLS,
    PICKS,
    TASKS,
    ChatTemplate,
    ChatTokenizer,
    Rendered,
    continuations,
    extend_vocabulary,
    instruction_tune,
    keep_accepted,
    pick_instructions,
    replies,
    toy_instructions,
)
from chainrule.transformers.gpt import load_course_gpt, token_losses

ROOT = Path(__file__).parents[2]
SEEDS, LIMIT = 5, 12
STEPS, BATCH = 240, 16
RATES = (1e-3, 2e-3, 4e-3)
WEIGHTS = (0.0, 0.1, 1.0)


def started():
    """The base model with rows for the control tokens, its template, and its alphabet."""
    base, alphabet = load_course_gpt(ROOT / "models")
    return extend_vocabulary(base, len(CONTROLS)), ChatTemplate(ChatTokenizer(alphabet)), alphabet


def tuned(examples, seed, steps=STEPS, lr=2e-3, prompt_weight=0.0):
    model, _, _ = started()
    instruction_tune(
        model, examples, steps, lr, BATCH, np.random.default_rng(seed), prompt_weight=prompt_weight
    )
    return model


def right(model, template, instructions):
    """For each instruction whether text and end are right, and whether it ended at all."""
    asked = [instruction.messages()[:1] for instruction in instructions]
    found = replies(model, template, asked, LIMIT)
    exact = [r.ended and r.text == i.answer for r, i in zip(found, instructions, strict=True)]
    return np.array(exact), np.array([r.ended for r in found])


def by_task(exact, instructions):
    names = np.array([instruction.task for instruction in instructions])
    return [exact[names == task].mean() for task in TASKS]


def too_late(example):
    """The mask one place late: the answer's first token is lost, the newline is trained."""
    return Rendered(example.ids, np.append(False, example.mask[:-1]))


def without_end(example, end):
    return Rendered(example.ids, example.mask & (example.ids != end))


def served(template, instruction):
    """One question as several programs would put it to the model."""
    prompt = template.render(instruction.messages()[:1], reply=True).ids
    plain = template.tokenizer.encode_untrusted
    newline = plain("\n")
    begin = prompt[:1]
    return {
        "as in training": prompt,
        "begin token twice": np.concatenate([begin, prompt]),
        "no begin token": prompt[1:],
        "last newline missing": prompt[:-1],
        "newline and a space": np.append(prompt, plain(" ")),
        "no header of the reply": prompt[: -len(plain("assistant\n")) - 1],
        "control tokens spelled": plain(template.tokenizer.decode(prompt)),
        "question alone": np.concatenate([plain(instruction.question), newline]),
    }


@measurement("runs", absolute=0.12, seconds=240)
def measure_runs():
    _, template, alphabet = started()
    rng = np.random.default_rng(1)
    train = [template.render(i.messages()) for i in toy_instructions(rng, 4000)]
    choices, test = toy_instructions(rng, 300), toy_instructions(rng, 400)
    chosen = {}
    for weight in WEIGHTS:
        scores = [
            right(tuned(train, 99, lr=lr, prompt_weight=weight), template, choices)[0].mean()
            for lr in RATES
        ]
        chosen[weight] = RATES[int(np.argmax(scores))]
    found = {"rates": [chosen[w] for w in WEIGHTS], "weights": [], "tasks": [], "served": {}}
    found |= {"ended": [], "forgot": [], "masks": {"right": [], "late": [], "no end": []}}
    ids = alphabet.encode(frozen_corpus().text("validation"))[:6000]
    found["english"] = token_losses(started()[0], ids).mean()
    for seed in range(SEEDS):
        row = []
        for weight in WEIGHTS:
            model = tuned(train, seed, lr=chosen[weight], prompt_weight=weight)
            exact, ended = right(model, template, test)
            row.append(exact.mean())
            if weight == 0:
                found["tasks"].append(by_task(exact, test))
                found["ended"].append(ended.mean())
                found["forgot"].append(token_losses(model, ids).mean())
                found["masks"]["right"].append([exact.mean(), ended.mean()])
                for name in served(template, test[0]):
                    prompts = [served(template, i)[name] for i in test[:200]]
                    got = continuations(model, prompts, template.end, LIMIT)
                    hits = [
                        stopped and template.tokenizer.decode(text) == i.answer
                        for (text, stopped), i in zip(got, test, strict=False)
                    ]
                    found["served"].setdefault(name, []).append(np.mean(hits))
        found["weights"].append(row)
        for name, change in (
            ("late", too_late),
            ("no end", lambda e: without_end(e, template.end)),
        ):
            model = tuned([change(e) for e in train], seed, lr=chosen[0.0])
            exact, ended = right(model, template, test)
            found["masks"][name].append([exact.mean(), ended.mean()])
    return found


COUNTS = (1, 3, 6, 9)
PICK_STEPS = 400


def pick_run(count, seed, lr):
    """Share of right answers on trained tasks and on the three that are held out."""
    order = np.random.default_rng(seed).permutation(len(PICKS))
    held, trained = [PICKS[i] for i in order[:3]], [PICKS[i] for i in order[3 : 3 + count]]
    _, template, _ = started()
    rng = np.random.default_rng(seed)
    examples = [template.render(i.messages()) for i in pick_instructions(rng, 4000, trained)]
    model = tuned(examples, seed, PICK_STEPS, lr)
    return [
        right(model, template, pick_instructions(rng, 200, picks))[0].mean()
        for picks in (trained, held)
    ]


@measurement("transfer", absolute=0.3, seconds=260)
def measure_transfer():
    runs = [[pick_run(count, seed, 2e-3) for seed in range(SEEDS)] for count in COUNTS]
    other = [[pick_run(count, 0, lr)[1] for lr in (1e-3, 4e-3)] for count in (3, 6)]
    return {"counts": list(COUNTS), "runs": runs, "other": other}
