"""Run by torchrun or alone: several command lines one after the other, in the same processes.

The argument is a JSON file with a list of [words, event]. An event is null, or [what, rank, step]:
"kill" or "interrupt" happens to that process in that step; or ["break", rank]: that process has a
wrong GELU; or ["compile", factor]: in place of PyTorch's own compiler, which takes minutes, a model
is compiled to its results times the factor.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from chainrule.cli import main
from chainrule.trainer import loop

RANK = int(os.environ.get("RANK", "0"))
NUMBERS = {"kill": signal.SIGKILL, "interrupt": signal.SIGINT}
advance = loop.Run.advance
gelu = torch.nn.functional.gelu
compile_ = torch.nn.Module.compile
event = None


def advance_with_event(run):
    if event and event[0] in NUMBERS and (RANK, run.step) == tuple(event[1:]):
        os.kill(os.getpid(), NUMBERS[event[0]])
    return advance(run)


def backend(graph, inputs):
    print("compiled", flush=True)
    return lambda *values: tuple(event[1] * y for y in graph.forward(*values))


loop.Run.advance = advance_with_event
torch.nn.Module.compile = lambda self: compile_(self, backend=backend)
for number, (words, event) in enumerate(json.loads(Path(sys.argv[1]).read_text())):
    torch._dynamo.reset()
    broken = event == ["break", RANK]
    torch.nn.functional.gelu = (lambda x, **options: 1.01 * gelu(x, **options)) if broken else gelu
    try:
        main(words)
    except SystemExit as stop:
        print(f"command {number} ended with {stop.code} in process {RANK}", flush=True)
