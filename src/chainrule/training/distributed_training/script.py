"""Train a small GPT on many workers: ``python -m chainrule.training.distributed_training.script``.

Without options two processes that talk through sockets; under a launcher that sets RANK,
WORLD_SIZE, MASTER_ADDR and MASTER_PORT, such as PyTorch's ``torchrun``, the processes it starts.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping

import numpy as np

from chainrule.data.corpus import frozen_corpus
from chainrule.training.distributed_training.collectives import chunks
from chainrule.training.distributed_training.data_parallel import average_gradients
from chainrule.training.distributed_training.processes import run_processes, worker_from_environment
from chainrule.training.distributed_training.world import Communicator
from chainrule.training.loss_functions import cross_entropy
from chainrule.training.optimizers import AdamW, ParamGroups
from chainrule.transformers.gpt import GPT, gpt_config

__all__ = ["digest", "train"]


def train(worker: Communicator, steps: int = 5, rows: int = 8) -> dict[str, np.ndarray]:
    """Return the weights of a small GPT after ``steps`` on ``rows`` of the course's text each.

    Every worker starts from the same weights, draws the same batches, and trains on its share.
    """
    corpus = frozen_corpus()
    tokenizer = corpus.tokenizer()
    ids = tokenizer.encode(corpus.text("train")[:20_000])
    rng = np.random.default_rng(0)
    config = gpt_config(len(tokenizer), 32, layers=2, heads=2, width=16, dtype="float64")
    model = GPT(config, rng)
    optimizer = AdamW(ParamGroups.matrices_decay(model.parameters(), 0.1), lr=3e-3)
    for _ in range(steps):
        starts = rng.integers(0, len(ids) - config.context, rows)
        batch = ids[starts[:, None] + np.arange(config.context + 1)]
        mine = batch[chunks(rows, worker.size)[worker.rank]]
        optimizer.zero_grad()
        if len(mine):
            cross_entropy(model(mine[:, :-1]), mine[:, 1:], reduction="sum").backward()
        average_gradients(worker, model.parameters(), mine[:, 1:].size)
        optimizer.step()
    return model.state_dict()


def digest(state: Mapping[str, np.ndarray]) -> str:
    """Return a short name of weights: the same for the same bits."""
    sha = hashlib.sha256()
    for name in sorted(state):
        sha.update(name.encode() + np.ascontiguousarray(state[name]).tobytes())
    return sha.hexdigest()[:16]


def main() -> None:
    """Train, and print what each worker has in the end."""
    if "RANK" in os.environ:
        worker = worker_from_environment()
        line = f"worker {worker.rank} of {worker.size}: {digest(train(worker))}\n"
        sys.stdout.write(line)  # at once: the others write to the same place
        sys.stdout.flush()
        worker.close()
        return
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    for rank, state in enumerate(run_processes(size, train)):
        print(f"worker {rank} of {size}: {digest(state)}")


if __name__ == "__main__":
    main()
