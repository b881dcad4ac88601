"""Writing text one token after the other with a cache, beside ``generate`` of transformers.

Both engines hold the same weights in float32 and take the likeliest token, one text at a time;
they must write the same tokens. They share a process and take turns, A B A B. Process time is
compared, of all threads together: a second thread that only waits counts against its engine.
Each number of threads has a process of its own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.timing import THREAD_VARIABLES, median_ratio

PROMPT = 16
MODELS = {
    "the course's GPT, 3 layers, width 96": {"name": "course", "new": 96, "rounds": 9},
    "GPT-2 small's shape, 12 layers, width 768": {"name": "small", "new": 16, "rounds": 5},
}


def gpt2_of(model):
    """Return a transformers model with the weights of a GPT of this course."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = model.config
    theirs = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_size, n_positions=config.context, n_embd=config.width,
            n_layer=config.decoder_layers, n_head=config.heads, bos_token_id=None,
            eos_token_id=None,
        )
    )  # fmt: skip
    names = {
        "tokens": "wte", "positions": "wpe", "blocks": "h", "attention_norm": "ln_1",
        "attention": "attn", "qkv": "c_attn", "feed_forward_norm": "ln_2", "feed_forward": "mlp",
        "up": "c_fc", "down": "c_proj", "out": "c_proj", "norm": "ln_f",
    }  # fmt: skip
    state = {}
    for name, parameter in model.named_parameters():
        array = parameter.data
        if name.endswith(("qkv.weight", "out.weight", "up.weight", "down.weight")):
            array = array.T  # theirs multiplies from the other side
        name = ".".join(names.get(part, part) for part in name.split("."))
        state["transformer." + name] = torch.from_numpy(array.copy())
    state["lm_head.weight"] = state["transformer.wte.weight"]
    theirs.load_state_dict(state)
    return theirs.eval()


def course_model(name):
    """The course's trained GPT, or one of GPT-2 small's shape with random weights."""
    import numpy as np

    from chainrule.transformers.gpt import GPT, GPT2_SMALL, load_course_gpt

    return load_course_gpt()[0] if name == "course" else GPT(GPT2_SMALL, np.random.default_rng(0))


def compare(name, new, rounds, threads):
    """Return seconds and the ratio for one model in this process."""
    import numpy as np
    import torch

    from chainrule.modern_llms.inference import generate_cached

    torch.set_num_threads(threads)
    model = course_model(name)
    peer = gpt2_of(model)
    rng = np.random.default_rng(1)
    prompt = rng.integers(0, model.config.vocab_size, PROMPT)
    asked = torch.from_numpy(prompt)[None]

    def ours():
        return generate_cached(model, prompt, new, temperature=0)[PROMPT:].tolist()

    def theirs():
        with torch.inference_mode():
            text = peer.generate(
                asked, attention_mask=torch.ones_like(asked), do_sample=False, max_new_tokens=new
            )
        return text[0, PROMPT:].tolist()

    if ours() != theirs():
        raise RuntimeError("the engines do not write the same tokens")
    seconds = {ours: [], theirs: []}
    for _ in range(rounds):
        for call, spent in seconds.items():
            start = time.process_time()
            call()
            spent.append(time.process_time() - start)
    a, b = seconds.values()
    ratios = [y / x for x, y in zip(a, b, strict=True)]
    return {
        "threads": threads,
        "new": new,
        "rounds": rounds,
        "chainrule_tokens_a_second": round(new / statistics.median(a), 1),
        "transformers_tokens_a_second": round(new / statistics.median(b), 1),
        "ratio": round(median_ratio(b, a), 2),
        "ratios": [round(min(ratios), 2), round(max(ratios), 2)],
    }


def in_own_process(model, threads):
    """`compare` in a process whose libraries were told the number of threads before they came."""
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.decoding", model, str(threads)],
        cwd=Path(__file__).parent.parent, env=environment, check=True, text=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    return json.loads(done.stdout)


def measure():
    """Compare both models with one thread and with two."""
    results = [
        {"model": model, **in_own_process(model, threads)} for model in MODELS for threads in (1, 2)
    ]
    rows = [
        {
            "model": r["model"],
            "threads": r["threads"],
            "Chain_Rule_tokens_a_second": r["chainrule_tokens_a_second"],
            "transformers_tokens_a_second": r["transformers_tokens_a_second"],
            "times_as_fast": "{:.1f} ({:.1f}–{:.1f})".format(r["ratio"], *r["ratios"]),
        }
        for r in results
    ]
    lengths = " or ".join(str(model["new"]) for model in MODELS.values())
    method = (
        f"one text, {PROMPT} tokens read and {lengths} written, the likeliest each time, "
        "float32, the same weights and the same tokens in both; both in one process, in turns, "
        "median of the ratio within a round (lowest and highest). Process time, of all threads "
        "together, so that waiting for each other counts"
    )
    return {"rows": rows, "method": method, "results": results}


if __name__ == "__main__":
    print(json.dumps(compare(**MODELS[sys.argv[1]], threads=int(sys.argv[2]))))
