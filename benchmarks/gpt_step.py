"""One training step of a GPT, beside PyTorch eager: the same weights, data and arithmetic.

A step is forward, backward, clipping the gradient's norm to 1, and AdamW. The steps take turns,
A B A B, one thread; what is timed is process time, and what is compared is the median over pairs.
Two kinds of comparison, since they need not agree:

- own processes: each engine alone in its process, PyTorch in the variant that is fastest here;
  peak memory is each process's own.
- same process: both engines in one, so that they share caches and the way freed memory is kept,
  and PyTorch with its AdamW as it comes; three processes one after the other.
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

from benchmarks.timing import median_ratio, use_one_thread

SIZES = {
    "small": {"batch": 12, "time": 64, "layers": 4, "heads": 4, "width": 128, "vocab": 65},
    "large": {"batch": 8, "time": 256, "layers": 6, "heads": 6, "width": 384, "vocab": 65},
}
PAIRS = 40
WARM_UP = 5
RUNS = 3  # processes of the kind "same process"
PEERS = {
    "torch": "AdamW as it comes",
    "torch-fused": "AdamW(fused=True)",
    "torch-fused-kept": "AdamW(fused=True), freed memory kept as this course keeps it",
}
LEARNING_RATE, WEIGHT_DECAY, BETAS, CLIP = 1e-3, 0.1, (0.9, 0.99), 1.0
# Losses of both engines are compared over the warm-up and all timed steps.
LOSS_TOLERANCE = 1e-4


def initial_weights(size):
    """The weights both engines start from, by this course's names."""
    import numpy as np

    d, rng = size["width"], np.random.default_rng(0)
    shapes = {"tokens.weight": (size["vocab"], d), "positions.weight": (size["time"], d)}
    for i in range(size["layers"]):
        block = f"blocks.{i}."
        shapes |= {
            block + "attention_norm.weight": (d,), block + "attention_norm.bias": (d,),
            block + "attention.qkv.weight": (3 * d, d), block + "attention.qkv.bias": (3 * d,),
            block + "attention.out.weight": (d, d), block + "attention.out.bias": (d,),
            block + "feed_forward_norm.weight": (d,), block + "feed_forward_norm.bias": (d,),
            block + "feed_forward.up.weight": (4 * d, d), block + "feed_forward.up.bias": (4 * d,),
            block + "feed_forward.down.weight": (d, 4 * d), block + "feed_forward.down.bias": (d,),
        }  # fmt: skip
    shapes |= {"norm.weight": (d,), "norm.bias": (d,)}
    weights = {}
    for name, shape in shapes.items():
        if len(shape) == 2:
            weights[name] = 0.02 * rng.standard_normal(shape, dtype=np.float32)
        else:
            weights[name] = np.full(shape, float("norm.weight" in name), np.float32)
    return weights


def batches(size):
    """Endless batches of random symbols and the symbols after them, the same in both engines."""
    import numpy as np

    rng = np.random.default_rng(1)
    while True:
        # squares make some symbols likelier than others, so that there is something to learn
        ids = (rng.random((size["batch"], size["time"] + 1)) ** 2 * size["vocab"]).astype(np.int64)
        yield ids[:, :-1], ids[:, 1:]


def chainrule_stepper(size):
    """Return a function that makes one step of this course's GPT and returns the loss."""
    import numpy as np

    from chainrule.training.optimizers import AdamW, ParamGroups, clip_grad_norm_
    from chainrule.transformers.gpt import GPT, gpt_config

    config = gpt_config(size["vocab"], size["time"], size["layers"], size["heads"], size["width"])
    model = GPT(config, np.random.default_rng(0))
    model.load_state_dict(initial_weights(size))
    parameters = list(model.parameters())
    groups = ParamGroups.matrices_decay(parameters, WEIGHT_DECAY)
    optimizer = AdamW(groups, LEARNING_RATE, BETAS)

    def step(ids, targets):
        loss = model.loss(ids, targets)
        loss.backward()
        clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def torch_stepper(size, fused):
    """Return the same for a plain PyTorch GPT with PyTorch's own fused operations."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    torch.set_num_threads(1)
    d, heads = size["width"], size["heads"]

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)

        def forward(self, x):
            batch, time, _ = x.shape
            q, k, v = (
                part.view(batch, time, heads, d // heads).transpose(1, 2)
                for part in self.qkv(x).split(d, dim=2)
            )
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.out(y.transpose(1, 2).reshape(batch, time, d))

    class FeedForward(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

        def forward(self, x):
            return self.down(F.gelu(self.up(x), approximate="tanh"))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention_norm, self.attention = nn.LayerNorm(d), Attention()
            self.feed_forward_norm, self.feed_forward = nn.LayerNorm(d), FeedForward()

        def forward(self, x):
            x = x + self.attention(self.attention_norm(x))
            return x + self.feed_forward(self.feed_forward_norm(x))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(size["vocab"], d)
            self.positions = nn.Embedding(size["time"], d)
            self.blocks = nn.ModuleList(Block() for _ in range(size["layers"]))
            self.norm = nn.LayerNorm(d)
            self.register_buffer("index", torch.arange(size["time"]), persistent=False)

        def forward(self, ids, targets):
            x = self.tokens(ids) + self.positions(self.index)
            for block in self.blocks:
                x = block(x)
            logits = F.linear(self.norm(x), self.tokens.weight)
            return F.cross_entropy(logits.view(-1, size["vocab"]), targets.reshape(-1))

    model = Model()
    model.load_state_dict({n: torch.from_numpy(a) for n, a in initial_weights(size).items()})
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, LEARNING_RATE, BETAS, fused=fused)

    def step(ids, targets):
        loss = model(torch.from_numpy(ids), torch.from_numpy(targets))
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def peak_kilobytes():
    """Return the most memory this process has held.

    Linux hands ``ru_maxrss`` on from the process that started this one; VmHWM is its own.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def work(engine, name):
    """Make one step for each line read, and answer with seconds, loss and peak kilobytes."""
    use_one_thread()
    size = SIZES[name]
    if engine == "chainrule":
        step = chainrule_stepper(size)
    else:
        step = torch_stepper(size, fused="fused" in engine)
        if "kept" in engine:
            from chainrule.neural_networks.backpropagation import keep_freed_memory

            keep_freed_memory()
    data = batches(size)
    for _ in sys.stdin:
        ids, targets = next(data)
        start, faults = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        loss = step(ids, targets)
        seconds = time.process_time() - start
        usage = resource.getrusage(resource.RUSAGE_SELF)
        answer = {"seconds": seconds, "loss": loss, "peak_kb": peak_kilobytes(),
                  "page_faults": usage.ru_minflt - faults}  # fmt: skip
        print(json.dumps(answer), flush=True)


class Worker:
    """One engine in a process of its own."""

    def __init__(self, engine, name):
        command = [sys.executable, "-m", "benchmarks.gpt_step", engine, name]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).parent.parent, env={**os.environ},
        )  # fmt: skip

    def step(self):
        """Let it make one step."""
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("a worker of the benchmark ended early")
        return json.loads(answer)

    def close(self):
        """End it."""
        self.process.stdin.close()
        self.process.wait()


def compare(name, pairs=PAIRS, warm_up=WARM_UP):
    """Return the comparison for one size as a dictionary.

    All of PyTorch's variants warm up; the fastest of them is the one to compare with.
    """
    workers = {engine: Worker(engine, name) for engine in ("chainrule", *PEERS)}
    answers = {engine: [] for engine in workers}

    def round_of_steps(engines):
        for engine in engines:
            answers[engine].append(workers[engine].step())

    try:
        for _ in range(warm_up):
            round_of_steps(workers)
        peer = min(PEERS, key=lambda e: statistics.median(a["seconds"] for a in answers[e][1:]))
        for _ in range(pairs):
            round_of_steps(("chainrule", peer))
    finally:
        for worker in workers.values():
            worker.close()
    ours, theirs = answers["chainrule"], answers[peer]
    apart = max(abs(a["loss"] - b["loss"]) for a, b in zip(ours, theirs, strict=True))
    if not apart < LOSS_TOLERANCE:
        raise RuntimeError(f"the engines do not compute the same: losses differ by {apart}")
    a, b = ([answer["seconds"] for answer in kept[warm_up:]] for kept in (ours, theirs))
    ratios = [x / y for x, y in zip(a, b, strict=True)]
    return {
        "size": name,
        **SIZES[name],
        "pairs": pairs,
        "chainrule_ms": round(1e3 * statistics.median(a), 1),
        "torch_ms": round(1e3 * statistics.median(b), 1),
        "torch_variant": PEERS[peer],
        "ratio": round(median_ratio(a, b), 3),
        "ratio_quartiles": [round(q, 3) for q in statistics.quantiles(ratios)[::2]],
        "chainrule_peak_mb": round(ours[-1]["peak_kb"] / 1024),
        "torch_peak_mb": round(theirs[-1]["peak_kb"] / 1024),
        "chainrule_page_faults": ours[-1]["page_faults"],
        "torch_page_faults": theirs[-1]["page_faults"],
        "largest_loss_difference": float(f"{apart:.1e}"),
        "final_loss": round(ours[-1]["loss"], 4),
    }


def together(size, pairs=PAIRS, warm_up=WARM_UP):
    """Seconds of each engine's steps, in turns in this process."""
    steps = {"chainrule": chainrule_stepper(size), "torch": torch_stepper(size, fused=None)}
    data = batches(size)
    seconds, apart = {engine: [] for engine in steps}, 0.0
    for _ in range(warm_up + pairs):
        batch, losses = next(data), []
        for engine, step in steps.items():
            start = time.process_time()
            losses.append(step(*batch))
            seconds[engine].append(time.process_time() - start)
        apart = max(apart, abs(losses[0] - losses[1]))
    if not apart < LOSS_TOLERANCE:
        raise RuntimeError(f"the engines do not compute the same: losses differ by {apart}")
    return {engine: times[warm_up:] for engine, times in seconds.items()}


def compare_together(name, pairs=PAIRS, runs=RUNS):
    """Return the comparison for one size, each run in a fresh process that holds both engines."""
    ratios, ours, theirs = [], [], []
    for _ in range(runs):
        command = [sys.executable, "-m", "benchmarks.gpt_step", "together", name, str(pairs)]
        done = subprocess.run(command, cwd=Path(__file__).parent.parent, check=True, text=True,
                              stdout=subprocess.PIPE)  # fmt: skip
        seconds = json.loads(done.stdout)
        ratios.append(median_ratio(seconds["chainrule"], seconds["torch"]))
        ours += seconds["chainrule"]
        theirs += seconds["torch"]
    return {
        "size": name,
        **SIZES[name],
        "pairs": pairs,
        "runs": runs,
        "chainrule_ms": round(1e3 * statistics.median(ours), 1),
        "torch_ms": round(1e3 * statistics.median(theirs), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
    }


def measure(sizes=tuple(SIZES), pairs=PAIRS):
    """Compare each size in both kinds; return table rows and the full results."""
    apart = [compare(name, pairs) for name in sizes]
    together = [compare_together(name, pairs) for name in sizes]
    rows = [
        {
            **_row(r, "same process"),
            "ratio": f"{r['ratio']:.2f} ({min(r['ratios']):.2f}–{max(r['ratios']):.2f})",
            "PyTorch_variant": PEERS["torch"],
            "Chain_Rule_peak_MB": "–",
            "PyTorch_peak_MB": "–",
        }
        for r in together
    ]
    rows += [
        {
            **_row(r, "own processes"),
            "ratio": "{:.2f} ({:.2f}–{:.2f})".format(r["ratio"], *r["ratio_quartiles"]),
            "PyTorch_variant": r["torch_variant"],
            "Chain_Rule_peak_MB": r["chainrule_peak_mb"],
            "PyTorch_peak_MB": r["torch_peak_mb"],
        }
        for r in apart
    ]
    method = (
        f"process time, one thread, steps in turn, {pairs} pairs after {WARM_UP} to warm up, "
        f"median of the ratio within pairs. Same process: both engines in one, PyTorch's AdamW as "
        f"it comes, median of {RUNS} processes (lowest and highest). Own processes: one each, of "
        "PyTorch's variants the fastest in the warm-up (quartiles within pairs)"
    )
    return {"rows": rows, "method": method, "results": apart, "same_process": together}


def _row(result, kind):
    model = "{layers} layers, width {width}, batch {batch}×{time}".format(**result)
    return {
        "model": model,
        "kind": kind,
        "Chain_Rule_ms": result["chainrule_ms"],
        "PyTorch_ms": result["torch_ms"],
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["together"]:
        use_one_thread()
        print(json.dumps(together(SIZES[sys.argv[2]], int(sys.argv[3]))))
    elif len(sys.argv) == 3 and sys.argv[1] != "size":
        work(*sys.argv[1:])
    else:
        use_one_thread()
        names = sys.argv[2:] or list(SIZES)
        print(json.dumps(measure(names), indent=1, ensure_ascii=False))
