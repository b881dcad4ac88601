"""One training step of the PyTorch twin, beside nanoGPT's own at the same size, on this processor.

nanoGPT's model and its step are made again here from their published configuration, with PyTorch's
modules: exact GELU, a vocabulary of 65 characters, AdamW that is fused on GPUs alone, gradients
clipped to 1. It comes with biases (as GPT-2) and without (its own default), and the twin holds the
same model; once more it holds GPT-2's GELU, which goes through tanh and costs more. The twin's step
is the one that ``chainrule train --engine torch`` makes, from a batch of NumPy numbers to the loss
as a number. All are in one process and take turns.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest import mock

from benchmarks.timing import interleave, median_ratio, use_one_thread

SIZES = {
    "small": {"batch": 12, "time": 64, "layers": 4, "heads": 4, "width": 128, "vocab": 65},
    "large": {"batch": 8, "time": 256, "layers": 6, "heads": 6, "width": 384, "vocab": 65},
}
ROUNDS = {"small": 24, "large": 5}
WARM_UP = {"small": 3, "large": 1}
MODELS = {  # how the twin is configured, and whether nanoGPT beside it has biases
    "nanoGPT's, without biases": ({"feed_forward": "gelu", "bias": False}, False),
    "nanoGPT's, with biases": ({"feed_forward": "gelu"}, True),
    "GPT-2's: its GELU goes through tanh": ({}, True),
}
RUNS = 3
CLIP, WEIGHT_DECAY, RATE, BETA2 = 1.0, 0.1, 1e-3, 0.99


def nanogpt(size, bias):
    """Return nanoGPT's model, from its published configuration."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    d, heads = size["width"], size["heads"]

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.c_attn = nn.Linear(d, 3 * d, bias=bias)
            self.c_proj = nn.Linear(d, d, bias=bias)
            self.resid_dropout = nn.Dropout(0.0)

        def forward(self, x):
            batch, time, _ = x.shape
            q, k, v = (
                part.view(batch, time, heads, d // heads).transpose(1, 2)
                for part in self.c_attn(x).split(d, dim=2)
            )
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.0, is_causal=True)
            y = y.transpose(1, 2).contiguous().view(batch, time, d)
            return self.resid_dropout(self.c_proj(y))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(d, bias=bias), nn.LayerNorm(d, bias=bias)
            self.attn = Attention()
            self.mlp = nn.Sequential(
                nn.Linear(d, 4 * d, bias=bias), nn.GELU(), nn.Linear(4 * d, d, bias=bias),
                nn.Dropout(0.0),
            )  # fmt: skip

        def forward(self, x):
            x = x + self.attn(self.ln_1(x))
            return x + self.mlp(self.ln_2(x))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte, self.wpe = nn.Embedding(size["vocab"], d), nn.Embedding(size["time"], d)
            self.drop = nn.Dropout(0.0)
            self.h = nn.ModuleList(Block() for _ in range(size["layers"]))
            self.ln_f = nn.LayerNorm(d, bias=bias)
            self.lm_head = nn.Linear(d, size["vocab"], bias=False)
            self.wte.weight = self.lm_head.weight

        def forward(self, ids, targets):
            places = torch.arange(ids.shape[1], dtype=torch.long, device=ids.device)
            x = self.drop(self.wte(ids) + self.wpe(places))
            for block in self.h:
                x = block(x)
            logits = self.lm_head(self.ln_f(x))
            return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)

    torch.manual_seed(1337)
    model = Model()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            small = (2 * size["layers"]) ** -0.5 if name.endswith("c_proj.weight") else 1
            nn.init.normal_(parameter, std=0.02 * small)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    return model


def nanogpt_stepper(size, bias):
    """Return a function that makes one of nanoGPT's steps and returns the loss."""
    import torch

    model = nanogpt(size, bias)
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, BETA2))  # fused on GPUs alone

    def step(ids, targets):
        for group in optimizer.param_groups:
            group["lr"] = RATE
        loss = model(torch.from_numpy(ids), torch.from_numpy(targets))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def twin_run(size, device="cpu", changes=None, **options):
    """Return a run of the twin: a text of so many different characters, in a folder of no use.

    ``changes`` are fields of its `TransformerConfig`.
    """
    from chainrule.data.text import Corpus
    from chainrule.pytorch.run import Options, TorchRun
    from chainrule.pytorch.world import World
    from chainrule.trainer import loop
    from chainrule.trainer.settings import Settings

    alphabet = "".join(chr(0x10000 + i) for i in range(size["vocab"]))
    text = alphabet * (1 + 2 * size["time"] // size["vocab"])
    settings = Settings(
        batch_size=size["batch"], context=size["time"], layers=size["layers"],
        heads=size["heads"], width=size["width"], clip=CLIP, weight_decay=WEIGHT_DECAY,
        beta2=BETA2,
    )  # fmt: skip
    configured = loop.model_config

    def changed(*arguments):
        return replace(configured(*arguments), **(changes or {}))

    with mock.patch.object(loop, "model_config", changed):
        return TorchRun(
            Path(tempfile.gettempdir()), settings, Corpus("alphabet", text, text),
            world=World.open(device), options=Options(device=device, **options),
        )  # fmt: skip


def batches(size):
    """Endless batches of random symbols and the symbols after them."""
    import numpy as np

    rng = np.random.default_rng(1)
    while True:
        ids = (rng.random((size["batch"], size["time"] + 1)) ** 2 * size["vocab"]).astype(np.int64)
        yield ids[:, :-1].copy(), ids[:, 1:].copy()


def compare(name):
    """Return seconds of all contestants for one size, in this process."""
    import torch

    torch.set_num_threads(1)
    size = SIZES[name]

    def twin_stepper(changes):
        run = twin_run(size, changes=changes)

        def step(ids, targets):
            run.step += 1
            return run.update(ids, targets, RATE)

        return step

    steps = {("nanoGPT", bias): nanogpt_stepper(size, bias) for bias in (False, True)}
    steps |= {("twin", model): twin_stepper(changes) for model, (changes, _) in MODELS.items()}
    losses = {key: [] for key in steps}
    data = {key: batches(size) for key in steps}

    def contestant(key):
        return lambda: losses[key].append(steps[key](*next(data[key])))

    seconds = interleave({k: contestant(k) for k in steps}, ROUNDS[name], WARM_UP[name])
    if not all(curve[-1] < curve[0] for curve in losses.values()):
        raise RuntimeError(f"a contestant does not learn: {losses}")
    pairs = {model: (("twin", model), ("nanoGPT", bias)) for model, (_, bias) in MODELS.items()}
    return {
        model: {
            "twin_ms": 1000 * statistics.median(seconds[ours]),
            "nanogpt_ms": 1000 * statistics.median(seconds[theirs]),
            "ratio": median_ratio(seconds[ours], seconds[theirs]),
        }
        for model, (ours, theirs) in pairs.items()
    }


def measure():
    """Compare both sizes, in three processes each."""
    rows, results = [], []
    for name, size in SIZES.items():
        runs = [_in_own_process(name) for _ in range(RUNS)]
        shape = "{layers} layers, width {width}, batch {batch}×{time}".format(**size)
        for model in MODELS:
            found = [run[model] for run in runs]
            ours, theirs = (
                statistics.median(each[key] for each in found) for key in ("twin_ms", "nanogpt_ms")
            )
            low, middle, high = sorted(each["ratio"] for each in found)
            results.append({"size": name, "model": model, "ratios": [low, middle, high]})
            rows.append(
                {
                    "size": shape,
                    "model": model,
                    "twin_ms": round(ours, 1),
                    "nanoGPT_ms": round(theirs, 1),
                    "ratio": f"{middle:.2f} ({low:.2f}–{high:.2f})",
                }
            )
    rounds = " and ".join(str(count) for count in ROUNDS.values())
    method = (
        f"process time, one thread, float32, all in one process and in turns, {rounds} rounds, "
        f"median of the ratio within a round; middle of {RUNS} processes (lowest and highest). The "
        "twin's AdamW is fused, nanoGPT's is so on GPUs alone. The last model is compared with "
        "nanoGPT's with biases"
    )
    return {"rows": rows, "method": method, "results": results}


def _in_own_process(name):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.twin", name],
        cwd=Path(__file__).parent.parent, env={**os.environ}, check=True, text=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    use_one_thread()
    print(json.dumps(compare(sys.argv[1])))
