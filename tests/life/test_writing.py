"""Writing many replies at once, against one at a time; likelihoods against PyTorch."""

import numpy as np
import pytest
import torch

from chainrule.life.writing import log_probs, pack_rows, reply_log_probs, write
from chainrule.neural_networks.backpropagation import no_grad
from chainrule.transformers.gpt import GPT, generate, gpt_config

END = 3


@pytest.fixture(scope="module")
def model():
    model = GPT(gpt_config(23, 29, 2, 2, 14), np.random.default_rng(1)).eval()
    for parameter in model.parameters():
        if parameter.data.ndim == 2:
            parameter.data *= 8  # sharp enough that rounding decides nothing
    return model


@pytest.fixture
def prompts():
    rng = np.random.default_rng(2)
    return [rng.integers(4, 23, n) for n in (5, 2, 11, 7, 2, 3, 11)]


@pytest.mark.parametrize("copies", [1, 3])
def test_greedy_replies_are_those_of_one_prompt_alone(model, prompts, copies):
    found = write(model, prompts, END, 9, copies=copies)
    assert len(found) == copies * len(prompts)
    ended = 0
    for i, reply in enumerate(found):
        prompt = prompts[i // copies]
        alone = generate(model, prompt[None], 9, 0)[0, len(prompt) :].tolist()
        if END in alone:
            alone = alone[: alone.index(END) + 1]
            ended += 1
        assert reply == alone
    assert ended or copies


def test_replies_stop_at_the_context(model):
    prompt = np.random.default_rng(3).integers(4, 23, 27)
    (reply,) = write(model, [prompt], 99, 12)
    assert len(reply) == 2


def test_drawn_replies_follow_the_model(model):
    """The first token of many replies has the frequencies of the model's own law."""
    prompt = np.array([5, 6, 7])
    n = 4000
    found = write(model, [prompt], END, 1, 1.0, np.random.default_rng(4), n)
    with no_grad():
        law = torch.softmax(torch.tensor(model(prompt[None]).data[0, -1]).double(), -1).numpy()
    counts = np.bincount([reply[0] for reply in found], minlength=23)
    chi2 = ((counts - n * law) ** 2 / (n * law)).sum()
    assert chi2 < 60  # 22 degrees of freedom: above 60 once in 50,000


def test_likelihoods_are_those_of_pytorch(model, prompts):
    rng = np.random.default_rng(6)
    replies = [rng.integers(4, 23, n).tolist() for n in (1, 4, 2, 7, 3, 5, 1)]
    rows = pack_rows(prompts, replies, END)
    found = reply_log_probs(model, rows)
    for prompt, reply, value in zip(prompts, replies, found, strict=True):
        ids = torch.tensor([*prompt.tolist(), *reply])
        with no_grad():
            logits = torch.tensor(model(ids[None].numpy()).data[0])
        logp = torch.log_softmax(logits, -1)
        wanted = sum(logp[len(prompt) + i - 1, token] for i, token in enumerate(reply))
        assert value == pytest.approx(float(wanted), abs=2e-4)
    logp, mask = log_probs(model, rows)
    assert logp.requires_grad
    assert mask.sum() == sum(map(len, replies))
