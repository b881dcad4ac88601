"""SmolLM2 run by the course's own modules, beside ``generate`` of transformers on the same file.

Both hold the weights of one GGUF file in float32 and take the likeliest token, one text at a time;
they must write the same tokens. They share a process and take turns with a third contestant that
only reads as many bytes as a token needs: memory. Process time is compared, of all threads
together. Each number of threads has a process of its own. Fifty prompts are compared apart from
the clock: the tokens that are written, and the scores of every symbol on the way.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.timing import THREAD_VARIABLES, median_ratio

NEW, ROUNDS, LONG = 24, 7, 200
QUESTION = "Explain photosynthesis to a ten-year-old."
PROMPTS = Path(__file__).with_name("smollm2_prompts.json")
WRITTEN = 16  # tokens of an answer that are compared


def both():
    """The model of the course and that of transformers, from the same file."""
    import torch
    from transformers import AutoModelForCausalLM

    from chainrule.data.models import model_folder
    from chainrule.models.smollm2 import chat_model

    folder = model_folder("smollm2")
    theirs = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file="model.gguf", dtype=torch.float32
    )
    return chat_model(), theirs.eval()


def asked(chat, question=QUESTION):
    return chat.encode([{"role": "user", "content": question}])


def long_prompt(chat):
    """A prompt of exactly so many tokens."""
    sentence = "The quick brown fox jumps over a lazy dog and then it sleeps."
    return asked(chat, " ".join([sentence] * LONG))[:LONG]


def speed(threads):
    """Tokens a second of both, the share of what memory allows, and a long prompt."""
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    chat, peer = both()
    ids, matrices = asked(chat), [p.data for p in chat.model.parameters() if p.data.ndim == 2]
    decoding = []  # seconds of the tokens after the first, which is that of reading the prompt

    def ours():
        chat.reader.forget()
        tokens = chat.stream(ids, 0.0)
        written = [next(tokens)]
        start = time.process_time()
        written += [next(tokens) for _ in range(NEW - 1)]
        decoding.append(time.process_time() - start)
        return written

    def theirs(prompt=ids, new=NEW):
        given = torch.tensor([prompt])
        with torch.inference_mode():
            text = peer.generate(
                given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=new,
                min_new_tokens=new,
            )  # fmt: skip
        return text[0, len(prompt) :].tolist()

    def memory():
        for matrix in matrices:  # a sum of squares reads every weight once
            row = matrix.reshape(-1)
            np.dot(row, row)

    if ours() != theirs():
        raise RuntimeError("the engines do not write the same tokens")
    prompt = long_prompt(chat)

    def our_first():
        chat.reader.forget()
        return next(chat.stream(prompt, 0.0))

    def their_first():
        return theirs(prompt, 1)[0]

    if our_first() != their_first():
        raise RuntimeError("the engines do not write the same token after a long prompt")
    decoding.clear()
    contestants = (ours, theirs, memory, our_first, their_first)
    spent = {call: [] for call in contestants}
    for _ in range(ROUNDS):
        for call in contestants:
            start = time.process_time()
            call()
            spent[call].append(time.process_time() - start)
    a, b = spent[ours], spent[theirs]
    ratios = [y / x for x, y in zip(a, b, strict=True)]
    bytes_read = sum(matrix.nbytes for matrix in matrices)
    token = [seconds / (NEW - 1) for seconds in decoding]
    shares = [m / t for m, t in zip(spent[memory], token, strict=True)]
    return {
        "threads": threads,
        "chainrule_tokens_a_second": round(NEW / statistics.median(a), 1),
        "transformers_tokens_a_second": round(NEW / statistics.median(b), 1),
        "ratio": round(median_ratio(b, a), 2),
        "ratios": [round(min(ratios), 2), round(max(ratios), 2)],
        "decoding_tokens_a_second": round(1 / statistics.median(token), 1),
        "gigabytes_a_token": round(bytes_read / 1e9, 3),
        "gigabytes_a_second": round(bytes_read / 1e9 / statistics.median(spent[memory]), 1),
        "share_of_memory": round(statistics.median(shares), 2),
        "shares": [round(min(shares), 2), round(max(shares), 2)],
        "first_token_seconds": round(statistics.median(spent[our_first]), 2),
        "their_first_token_seconds": round(statistics.median(spent[their_first]), 2),
    }


def agreement():
    """How many of the fifty prompts get the same tokens, and how far the scores are apart."""
    import numpy as np
    import torch

    chat, peer = both()
    same, tokens, furthest = 0, 0, 0.0
    prompts = json.loads(PROMPTS.read_text(encoding="utf-8"))
    for prompt in prompts:
        ids = asked(chat, prompt)
        ours = list(ids)
        for token in chat.stream(ids, 0.0):
            ours.append(token)
            if token in chat.ends or len(ours) == len(ids) + WRITTEN:
                break
        given = torch.tensor([ids])
        with torch.inference_mode():
            theirs = peer.generate(
                given, attention_mask=torch.ones_like(given), do_sample=False,
                max_new_tokens=WRITTEN, eos_token_id=sorted(chat.ends), pad_token_id=2,
            )[0]  # fmt: skip
            scores = peer(theirs[None]).logits[0].numpy()
        same += ours == theirs.tolist()
        tokens += len(theirs) - len(ids)
        chat.reader.forget()
        found = chat.reader.scores(theirs.numpy(), len(theirs))
        furthest = max(furthest, float(np.abs(found - scores).max()))
    return {
        "prompts": len(prompts),
        "same_tokens": same,
        "tokens_written": tokens,
        "furthest_score": float(f"{furthest:.1e}"),
    }


def starting():
    """Seconds from the command to the end of an answer of one token, the lowest of three."""
    command = "from chainrule.cli import main; main()"
    options = ("chat", "smollm2", "Hello", "--temperature", "0", "--max-tokens", "1")
    found = []
    for _ in range(3):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, "-c", command, *options], check=True, capture_output=True)
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        found.append((spent, wall))
    return {"process_seconds": round(min(found)[0], 1),
            "wall_seconds": round(min(wall for _, wall in found), 1)}  # fmt: skip


def probes():
    """The ten probes of ``chainrule life``, for its report to stand beside its own stages."""
    from chainrule.life.probes import run_probes
    from chainrule.models.smollm2 import chat_model

    chat = chat_model()
    found = {chat.title: run_probes(chat)}
    place = Path(__file__).with_name("life") / "probes.json"
    place.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def in_own_process(*arguments, threads=1):
    """A part in a process whose libraries were told the number of threads before they came."""
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.smollm2", *arguments],
        cwd=Path(__file__).parent.parent, env=environment, check=True, text=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def measure():
    """Compare with one thread and with two; None where the model is not on this machine."""
    from chainrule.data.models import is_present

    if not is_present("smollm2"):
        return None
    results = [in_own_process("speed", str(n), threads=n) for n in (1, 2)]
    same = in_own_process("agreement")
    start = in_own_process("starting")
    rows = [
        {
            "threads": r["threads"],
            "Chain_Rule_tokens_a_second": r["chainrule_tokens_a_second"],
            "transformers_tokens_a_second": r["transformers_tokens_a_second"],
            "times_as_fast": "{:.1f} ({:.1f}–{:.1f})".format(r["ratio"], *r["ratios"]),
            "share_of_what_memory_allows": share(r),
            f"first_token_of_{LONG}": f"{r['first_token_seconds']:.1f} s",
        }
        for r in results
    ]
    method = (
        f"SmolLM2-135M-Instruct, {NEW} tokens after a question in its template, the likeliest each "
        "time, float32, the same file and the same tokens in both; both in one process, in turns, "
        "median of the ratio within a round (lowest and highest). Process time, of all threads "
        f"together. Memory: {results[0]['gigabytes_a_token']} GB of weights a token, which this "
        f"machine reads at {results[0]['gigabytes_a_second']} GB a second with one thread. After "
        f"{same['prompts']} prompts both wrote the same tokens {same['same_tokens']} times "
        f"({same['tokens_written']:,} tokens), and no score was further apart than "
        f"{same['furthest_score']:.0e}. `chainrule chat smollm2` answered its first token after "
        f"{start['process_seconds']} s of process time"
    )
    return {"rows": rows, "method": method, "results": results, "agreement": same, "start": start}


def share(result):
    if result["threads"] > 1:
        return "—"
    return f"{result['share_of_memory']:.0%}"


if __name__ == "__main__":
    parts = {f.__name__: f for f in (speed, agreement, starting, probes)}
    print(json.dumps(parts[sys.argv[1]](*map(int, sys.argv[2:]))))
