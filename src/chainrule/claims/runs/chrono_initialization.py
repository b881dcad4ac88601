"""What an LSTM's biases start with, on the task of naming a symbol after a wait."""

from __future__ import annotations

import numpy as np

from chainrule.architectures.lstms import CharLSTM, chrono_init_
from chainrule.architectures.rnns import recall_task
from chainrule.claims.runs import Found, train
from chainrule.neural_networks.backpropagation import Tensor, no_grad
from chainrule.training.loss_functions import cross_entropy

STEPS, WAIT, UNITS, SYMBOLS = 150, 30, 32, 17


def measure(variant: str, rate: float, seed: int, steps: int = STEPS) -> Found:
    """Train an LSTM whose biases are spread, or whose forget gates start with 1 or 4."""
    rng = np.random.default_rng(seed)
    model = CharLSTM(SYMBOLS, UNITS, 4.0 if variant == "bias 4" else 1.0, rng=rng)
    cell = model.rnn.cells[0]
    cell.weight_x.data *= np.sqrt(UNITS, dtype=np.float32)  # ±1: a one-hot vector has length 1
    if variant == "spread":
        chrono_init_(cell, WAIT + 2, np.random.default_rng([seed, 2]))
    draw = np.random.default_rng([seed, 1])

    def loss() -> Tensor:
        ids, targets = recall_task(draw, 32, WAIT)
        return cross_entropy(model(ids)[0], targets)

    train(model.parameters(), loss, rate, steps)
    chosen, _ = _asked(model, [seed, 3])
    _, right = _asked(model, [seed, 4])
    return chosen, {"right": right}


def _asked(model: CharLSTM, seed: list[int]) -> tuple[float, float]:
    ids, targets = recall_task(np.random.default_rng(seed), 500, WAIT)
    with no_grad():
        logits = model(ids)[0]
        answers = logits.data[:, -1].argmax(axis=1)
        loss = float(cross_entropy(logits, targets).data)
    return loss, 100 * float((answers == targets[:, -1]).mean())
