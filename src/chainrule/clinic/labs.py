"""The tests that a reader can order: each asks one question, and answers with a few numbers.

None names a disease. Two numbers are different for a reader if they are further apart than the
test's ``tell``, plus its ``share`` of the larger one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from chainrule.clinic import patient
from chainrule.clinic.patient import BEGIN, CONTEXT, END, FIRST_DIGIT, PASSAGE, Trained
from chainrule.modern_llms.inference import CachedGPT
from chainrule.modern_llms.instruction_tuning import Rendered
from chainrule.neural_networks.backpropagation import Parameter, Tensor, no_grad
from chainrule.neural_networks.regularization import Dropout
from chainrule.shapes import Array
from chainrule.training.loss_functions import log_softmax
from chainrule.transformers.attention import packed_attention
from chainrule.transformers.gpt import GPT, draw
from chainrule.transformers.transformer_architecture import count_params

Rows = dict[str, float]


@dataclass(frozen=True)
class Test:
    """A test that can be ordered: its name, the question, and how to ask the patient."""

    name: str
    question: str
    ask: Callable[[Ward], Rows]
    tell: float
    share: float


TESTS: dict[str, Test] = {}


def lab(
    question: str, tell: float = 0.1, share: float = 0.2
) -> Callable[[Callable[[Ward], Rows]], Test]:
    """Register a test under the name of its function."""

    def register(ask: Callable[[Ward], Rows]) -> Test:
        name = ask.__name__.replace("_", "-")
        TESTS[name] = made = Test(name, question, ask, tell, share)
        return made

    return register


def tells(test: Test, a: float, b: float) -> bool:
    """Whether a reader would call two numbers of a test different."""
    if not (np.isfinite(a) and np.isfinite(b)):
        return not (a == b or (np.isnan(a) and np.isnan(b)))
    return abs(a - b) > test.tell + test.share * max(abs(a), abs(b))


def differ(test: Test, a: Rows, b: Rows) -> list[str]:
    """The rows of a test in which two patients differ."""
    return [row for row in a if tells(test, a[row], b[row])]


@dataclass
class Ward:
    """One patient: what it becomes is computed when it is first asked for."""

    fresh: Array = field(default_factory=lambda: patient.passages(np.random.default_rng(7), 64))

    @cached_property
    def pretrained(self) -> Trained:
        """After the training text."""
        return patient.pretrain()

    @property
    def model(self) -> GPT:
        """The pretrained model, in evaluation."""
        return self.pretrained.model.eval()

    @cached_property
    def taught(self) -> Trained:
        """After the conversations."""
        return patient.teach(copy.deepcopy(self.pretrained.model))

    @cached_property
    def rewarded(self) -> patient.Rewarded:
        """After the rewards."""
        return patient.reward(copy.deepcopy(self.taught.model))


def groups_of(model: GPT) -> dict[str, list[Parameter]]:
    """The parameters by what they belong to."""
    found: dict[str, list[Parameter]] = {
        "token vectors": [], "positions": [], "attention": [], "feed-forward": [], "norms": [],
    }  # fmt: skip
    for name, parameter in model.named_parameters():
        kinds = {"tokens": "token vectors", "positions": "positions", "norm": "norms"}
        kinds |= {"attention.": "attention", "feed_forward.": "feed-forward"}
        kind = next((kinds[k] for k in ("norm", "attention.", "feed_forward.", "tokens",
                                        "positions") if k in name), None)  # fmt: skip
        if kind:
            found[kind].append(parameter)
    return found


def _gradient(x: Tensor) -> Array:
    return np.zeros(x.shape) if x.grad is None else x.grad


def examples(count: int = 16) -> tuple[Array, Array]:
    """A batch of the training text, always the same."""
    ids = patient.passages(np.random.default_rng(1), patient.TEXTS).ravel()
    return patient.batch(ids, np.random.default_rng(8), count)


# ---- the model -------------------------------------------------------------------------------


@lab("What is the loss before the first step? A fair guess among 13 symbols costs 2.56.")
def first_loss(ward: Ward) -> Rows:
    return {"loss": patient.loss_of(patient.build(), ward.fresh)}


@lab("How many numbers are trained, against the count from the configuration?", 0.005, 0.0)
def count(ward: Ward) -> Rows:
    model = patient.build()
    return {"ratio": sum(p.size for p in model.parameters()) / count_params(model.config)}


@lab("Do the gradients agree with finite differences, group by group? 0 is agreement.", 0.02)
def gradient_check(ward: Ward) -> Rows:
    model = patient.build(dropout=0.0, dtype="float64").eval()
    rng = np.random.default_rng(9)
    for p in model.parameters():  # away from the start, where much is 0 or 1
        p.data += 0.1 * rng.standard_normal(p.shape)
    inputs, targets = examples(3)
    rows = {}
    model.zero_grad()
    model.loss(inputs, targets).backward()
    for kind, parameters in groups_of(model).items():
        ways = [rng.standard_normal(p.shape) for p in parameters]
        pairs = list(zip(parameters, ways, strict=True))
        slope = sum(float((p.grad * way).sum()) for p, way in pairs if p.grad is not None)
        losses = []
        for sign in (1, -2):
            for p, way in pairs:
                p.data += sign * 1e-5 * way
            with no_grad():
                losses.append(float(model.loss(inputs, targets).data))
        for p, way in pairs:
            p.data += 1e-5 * way
        measured = (losses[0] - losses[1]) / 2e-5
        rows[kind] = abs(slope - measured) / max(abs(measured), abs(slope), 1e-12)
    return rows


@lab("Attention on random vectors: how large is the largest weight, with narrow and wide heads?",
      0.03)  # fmt: skip
def random_vectors(ward: Ward) -> Rows:
    rng, rows = np.random.default_rng(10), {}
    for d in (8, 128):
        qkv = rng.standard_normal((16, 8, 3 * d))
        qkv[..., 2 * d :] = np.eye(8, d)  # values that show the weights
        weights = packed_attention(Tensor(qkv), 1, causal=False).data[..., :8]
        rows[f"width {d}"] = float(weights.max(axis=-1).mean())
        rows[f"sum of a row, width {d}"] = float(weights.sum(axis=-1).mean())
    return rows


@lab("If a later token is changed, how many of the earlier predictions move?", 0.5)
def change_the_future(ward: Ward) -> Rows:
    model, place = patient.build(dropout=0.0).eval(), 8
    inputs = ward.fresh[:1, :-1].copy()
    other = inputs.copy()
    other[0, place] = FIRST_DIGIT + (inputs[0, place] - FIRST_DIGIT + 1) % 7
    with no_grad():
        moved = np.abs(model(inputs).data - model(other).data)[0].max(axis=-1)
    return {"moved": float((moved[:place] > 1e-6).sum())}


@lab("The same texts are evaluated twice. How far apart are the losses?", 0.003)
def evaluate_twice(ward: Ward) -> Rows:
    first, second = (patient.loss_of(ward.model, ward.fresh) for _ in range(2))
    return {"difference": abs(first - second)}


@lab("How steep is attention on random vectors in its queries, with narrow and wide heads?", 0.02,
      0.3)  # fmt: skip
def slope_of_attention(ward: Ward) -> Rows:
    rng, rows = np.random.default_rng(14), {}
    for d in (8, 128):
        qkv = Tensor(rng.standard_normal((16, 8, 3 * d)), requires_grad=True)
        packed_attention(qkv, 1, causal=False).backward(rng.standard_normal((16, 8, d)))
        rows[f"width {d}"] = float(np.linalg.norm(_gradient(qkv)[..., :d]) / np.sqrt(128))
    return rows


@lab("The vector of the digit 3 is set to 0 before training. How large is its score, against the "
      "other digits'?", 0.1, 0.0)  # fmt: skip
def silence_a_token(ward: Ward) -> Rows:
    model, digit = patient.build(dropout=0.0).eval(), FIRST_DIGIT + 3
    dict(model.named_parameters())["tokens.weight"].data[digit] = 0
    with no_grad():
        size = np.abs(model(ward.fresh[:, :-1]).data).mean(axis=(0, 1))
    others = [FIRST_DIGIT + d for d in range(7) if d != 3]
    return {"ratio": float(size[digit] / size[others].mean())}


@lab("Ones are sent through a dropout of a half. What comes out?", 0.05, 0.05)
def ones_through_dropout(ward: Ward) -> Rows:
    layer, ones, rows = Dropout(0.5, np.random.default_rng(15)), Tensor(np.ones(4000)), {}
    for mode, name in ((True, "in training"), (False, "in evaluation")):
        out = layer.train(mode)(ones).data
        rows[f"mean {name}"] = float(out.mean())
        rows[f"zeros {name}"] = float((out == 0).mean())
    return rows


@lab("How large are the vectors that enter the first block in training, against evaluation?",
      0.05)  # fmt: skip
def two_modes(ward: Ward) -> Rows:
    model, sizes = patient.build(dropout=0.5), []
    for mode in (True, False):
        model.train(mode)
        with no_grad():
            states = [model.embed(ward.fresh[:, :-1]).data for _ in range(4)]
        sizes.append(float(np.abs(states).mean()))
    return {"ratio": sizes[0] / sizes[1]}


# ---- the step --------------------------------------------------------------------------------


@lab("Train on one batch alone, 60 steps, without dropout. Where does its loss end?", 0.15)
def overfit_one_batch(ward: Ward) -> Rows:
    model = patient.build(dropout=0.0)
    optimizer = patient.optimizer_of(model)
    inputs, targets = examples()
    for _ in range(60):
        loss = model.loss(inputs, targets)
        patient.update(model, optimizer, loss, patient.PEAK / 2)
    return {"loss": float(loss.data)}


@lab("One batch goes backward twice, with a rate of 0 between. How does the gradient's norm grow?")
def backward_twice(ward: Ward) -> Rows:
    model = patient.build(dropout=0.0)
    optimizer = patient.optimizer_of(model)
    inputs, targets = examples()
    first, second = (
        patient.update(model, optimizer, model.loss(inputs, targets), 0.0) for _ in range(2)
    )
    return {"ratio": second / first}


@lab("The batch is put behind itself, so that everything stands there twice. What does the loss?")
def double_the_batch(ward: Ward) -> Rows:
    model = patient.build(dropout=0.0).eval()
    inputs, targets = examples()
    with no_grad():
        once = float(model.loss(inputs, targets).data)
        twice = float(model.loss(np.tile(inputs, (2, 1)), np.tile(targets, (2, 1))).data)
    return {"ratio": twice / once}


@lab("How far does the optimizer move a number, in units of the rate, if all gradients are equal?")
def equal_gradients(ward: Ward) -> Rows:
    w = Parameter(np.array([0.0]))
    optimizer, path = patient.AdamW([w], lr=1e-3, weight_decay=0.0, betas=(0.9, 0.999)), [0.0]
    for _ in range(20):
        w.grad = np.array([3.0])
        optimizer.step()
        path.append(float(w.data[0]))
    moved = -np.diff(path) / 1e-3
    return {"first step": moved[0], "twentieth step": moved[-1]}


@lab("All gradients are 0. By how many thousandths does a step shrink each group?", 0.3)
def no_gradient(ward: Ward) -> Rows:
    model = patient.build(dropout=0.0)
    for p in model.parameters():
        p.data[...] = 1.0
    optimizer, rate = patient.optimizer_of(model), 0.01
    for group in optimizer.param_groups:
        group["lr"] = rate
    for p in model.parameters():
        p.grad = np.zeros_like(p.data)
    optimizer.step()
    rows = {}
    for kind, parameters in groups_of(model).items():
        for matrix in (True, False):
            chosen = [p.data.ravel() for p in parameters if (p.ndim == 2) == matrix]
            if chosen and kind != "positions":
                name = kind if matrix == (kind != "norms") else f"{kind}, biases"
                rows[name] = float(1 - np.concatenate(chosen).mean()) / (rate * patient.DECAY)
    return rows


@lab("Gradients of very different sizes are clipped to 1. Do they keep their direction?", 0.02)
def clip_a_mixture(ward: Ward) -> Rows:
    rng = np.random.default_rng(11)
    parameters = [Parameter(np.zeros(n)) for n in (3, 50, 700)]
    for p, size in zip(parameters, (0.1, 3.0, 10.0), strict=True):
        p.grad = size * rng.standard_normal(p.shape)
    before = np.concatenate([p.grad for p in parameters])
    patient.clip_grad_norm_(parameters, 1.0)
    after = np.concatenate([p.grad for p in parameters])
    norm = float(np.linalg.norm(after))
    return {"norm": norm, "cosine": float(before @ after) / norm / float(np.linalg.norm(before))}


@lab("Which share of each group's numbers has moved after ten steps?", 0.05)
def what_moves(ward: Ward) -> Rows:
    model = patient.build(dropout=0.0)
    start = {k: [p.data.copy() for p in ps] for k, ps in groups_of(model).items()}
    optimizer = patient.optimizer_of(model)
    inputs, targets = examples()
    for _ in range(10):
        patient.update(model, optimizer, model.loss(inputs, targets), patient.PEAK / 2)
    return {
        kind: float(np.mean(np.concatenate(
            [(p.data != old).ravel() for p, old in zip(ps, start[kind], strict=True)])))
        for kind, ps in groups_of(model).items()
    }  # fmt: skip


@lab("Which share of each group's numbers has moved after the first step of training?", 0.05)
def after_one_step(ward: Ward) -> Rows:
    model = patient.build(dropout=0.0)
    before = {k: [p.data.copy() for p in ps] for k, ps in groups_of(model).items()}
    patient.pretrain_step(model, patient.optimizer_of(model), examples(), 0)
    return {
        kind: float(np.mean(np.concatenate(
            [(p.data != old).ravel() for p, old in zip(ps, before[kind], strict=True)])))
        for kind, ps in groups_of(model).items()
    }  # fmt: skip


@lab("After training: what are the mean gain, and the mean size of the biases?", 0.03, 0.05)
def look_at_the_vectors(ward: Ward) -> Rows:
    named = dict(ward.model.named_parameters())
    gains = [p.data for name, p in named.items() if "norm" in name and name.endswith("weight")]
    biases = [np.abs(p.data) for name, p in named.items() if name.endswith("bias")]
    return {
        "gain": float(np.concatenate(gains).mean()),
        "bias": float(np.concatenate(biases).mean()),
    }


@lab("Which rates does the schedule give, as shares of the peak?", 0.05)
def rates(ward: Ward) -> Rows:
    steps = {"first step": 0, "tenth step": 9, "half way": 80, "last step": patient.STEPS - 1}
    peak, last = patient.PEAK, patient.PEAK / 10
    return {
        name: patient.warmup_cosine(step, peak, patient.WARMUP, patient.STEPS, last) / peak
        for name, step in steps.items()
    }


# ---- the data --------------------------------------------------------------------------------


@lab("A batch is printed. What is asked for at each place of it?", 0.05)
def print_a_batch(ward: Ward) -> Rows:
    inputs, targets = examples()
    return {
        "asked for the next token": float((targets[:, :-1] == inputs[:, 1:]).mean()),
        "asked for the token itself": float((targets == inputs).mean()),
        "begin tokens a row": float((inputs == BEGIN).sum(axis=1).mean()),
    }


@lab("Two batches in a row are compared. Which share of the second stood in the first?", 0.2)
def two_batches(ward: Ward) -> Rows:
    ids = patient.passages(np.random.default_rng(1), patient.TEXTS).ravel()
    rng = np.random.default_rng(3)
    first, second = (patient.batch(ids, rng)[0] for _ in range(2))
    seen = {row.tobytes() for row in first}
    return {"share": float(np.mean([row.tobytes() in seen for row in second]))}


# ---- after training --------------------------------------------------------------------------


@lab("After training: what is the loss at single places of a fresh text?", 0.25)
def loss_by_position(ward: Ward) -> Rows:
    model, inputs, targets = ward.model, ward.fresh[:, :-1], ward.fresh[:, 1:]
    with no_grad():
        log_p = log_softmax(model(inputs)).data
    losses = -np.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0].mean(axis=0)
    return {f"place {place}": float(losses[place - 1]) for place in (1, 2, 3, 6, 12)}


@lab("After training: the earlier tokens are shuffled, the newest stays. How much does the loss "
      "of the next one rise?", 0.25)  # fmt: skip
def shuffle_the_context(ward: Ward) -> Rows:
    rng = np.random.default_rng(12)
    mixed = ward.fresh.copy()
    for row in mixed:
        row[1 : CONTEXT - 1] = rng.permutation(row[1 : CONTEXT - 1])
    other = ward.fresh.copy()
    other[:, 1] = other[:, 1] % 4 + 1
    model, losses = ward.model, []
    for rows in (ward.fresh, mixed, other):
        with no_grad():
            log_p = log_softmax(model(rows[:, :-1])).data[:, -1]
        losses.append(-float(np.take_along_axis(log_p, ward.fresh[:, -1:], axis=-1).mean()))
    return {"shuffled": losses[1] - losses[0], "another rule in front": losses[2] - losses[0]}


@lab("Train again with one layer instead of two. What is the loss on fresh texts?", 0.15)
def one_layer(ward: Ward) -> Rows:
    single = patient.pretrain(layers=1)
    return {"one layer": single.held_out[-1], "two layers": ward.pretrained.held_out[-1]}


@lab("After training: what is the loss on the training text, and on fresh texts?", 0.1)
def fresh_texts(ward: Ward) -> Rows:
    old = patient.passages(np.random.default_rng(1), patient.TEXTS)[:64]
    return {
        "training text": patient.loss_of(ward.model, old),
        "fresh": patient.loss_of(ward.model, ward.fresh),
    }


@lab("The model writes 24 passages. Which share of the digits obeys their rule: written with the "
      "cache, by whole passes, and with weights of 3 bits?", 0.15)  # fmt: skip
def let_it_write(ward: Ward) -> Rows:
    def share(model: GPT, cached: bool) -> float:
        return float(np.mean([patient.obeys(row) for row in patient.written(model, 24, cached)]))

    return {
        "with the cache": share(ward.model, True),
        "whole passes": share(ward.model, False),
        "3 bits": share(patient.served(ward.model), False),
    }


# ---- answers and rewards ---------------------------------------------------------------------


@lab("A conversation is printed. How many begin tokens, and how many that are trained?", 0.5)
def print_a_conversation(ward: Ward) -> Rows:
    whole = patient.conversation(2, 3)
    return {
        "begin tokens": float((whole.ids == BEGIN).sum()),
        "end tokens": float((whole.ids == END).sum()),
        "trained": float(whole.mask.sum()),
    }


@lab("A short and a long answer share a batch. How much does each kind of token weigh in the "
      "loss, against a token of the long answer?", 0.1)  # fmt: skip
def weigh_the_tokens(ward: Ward) -> Rows:
    short, long = patient.conversation(1, 6), patient.conversation(1, 0)
    logits = Tensor(np.zeros((2, len(long.ids), len(patient.SYMBOLS))), requires_grad=True)
    patient.answer_loss(lambda ids: logits, [short, long]).backward()
    weight = np.abs(_gradient(logits)).sum(axis=-1)
    start = int(np.argmax(long.mask))  # the first trained token; row start − 1 asks for it
    unit = weight[1, start - 1]
    return {
        "prompt": float(weight[1, 0] / unit),
        "short answer": float(weight[0, start - 1] / unit),
        "filling": float(weight[0, start] / unit),
        "end of the long answer": float(weight[1, len(long.ids) - 2] / unit),
    }


@lab("Conversations are filled up by five more places. By how much does their loss change?", 0.05)
def longer_filling(ward: Ward) -> Rows:
    some = [patient.conversation(1, digit) for digit in (0, 4, 6)]
    longest = max(len(each.ids) for each in some)
    rng = np.random.default_rng(16)
    scores = rng.standard_normal((4, longest + 5, len(patient.SYMBOLS)))
    scores[..., BEGIN] += 3  # as of a model that has seen filling
    places = np.arange(longest + 5)
    long = Rendered(np.where(places == 1, END, BEGIN), places == 1)
    losses = [
        patient.answer_loss(lambda ids: Tensor(scores[: len(ids), : ids.shape[1]]), batch).item()
        for batch in (some, [*some, long])
    ]
    alone = patient.answer_loss(lambda ids: Tensor(scores[3:]), [long]).item()
    counts = [sum(int(each.mask.sum()) for each in some), 1]
    expected = (losses[0] * counts[0] + alone) / sum(counts)
    return {"change": losses[1] - expected}


@lab("After the conversations: what is the last loss, and how many of the seven questions are "
      "answered right?", 0.12)  # fmt: skip
def ask_questions(ward: Ward) -> Rows:
    return {"loss": ward.taught.loss[-1], "right": ward.taught.held_out[-1]}


@lab("Ten is added to every reward. How far does the gradient change, as a share of itself?", 0.1)
def add_ten(ward: Ward) -> Rows:
    gradients = []
    paid = np.array([[1.0, 2.0, 1.0, 1.0, 2.0]])
    for more in (0, 10):
        logp = Tensor(np.log(np.array([[0.3, 0.2, 0.2, 0.1, 0.2]])), requires_grad=True)
        patient.policy_loss(logp, logp.data.copy(), logp.data.copy(), paid + more).backward()
        gradients.append(_gradient(logp))
    change = np.linalg.norm(gradients[1] - gradients[0])
    return {"change": float(change / np.linalg.norm(gradients[0]))}


@lab("All rewards are equal. Does what is left pull the policy to the reference as the slope of "
      "their divergence does?", 0.05, 0.05)  # fmt: skip
def equal_rewards(ward: Ward) -> Rows:
    counts = np.array([8, 4, 2, 1, 1])
    p, q = counts / 16, np.array([0.04, 0.06, 0.1, 0.2, 0.6])
    z = Tensor(np.log(p), requires_grad=True)
    said = np.repeat(np.arange(5), counts)
    logp = log_softmax(z)[said].reshape(1, 16)
    reference, paid = np.log(q)[said][None], np.ones((1, 16))
    patient.policy_loss(logp, logp.data.copy(), reference, paid, price=1.0).backward()
    log_ratio = np.log(p / q)
    slope, found = p * (log_ratio - p @ log_ratio), _gradient(z)
    return {
        "length": float(np.linalg.norm(found) / np.linalg.norm(slope)),
        "cosine": float(z.grad @ slope / np.linalg.norm(found) / np.linalg.norm(slope)),
    }


@lab("After the rewards: what do the last rounds earn, and how far is the policy from where it "
      "started?", 0.1)  # fmt: skip
def count_rewards(ward: Ward) -> Rows:
    return {
        "reward": float(np.mean(ward.rewarded.reward[-4:])),
        "distance": ward.rewarded.distance[-1],
    }


# ---- serving ---------------------------------------------------------------------------------


@lab("A text is read token by token with the cache, and in one pass. How far apart are the "
      "probabilities?", 0.02)  # fmt: skip
def cache_or_not(ward: Ward) -> Rows:
    rows, model, text = {}, ward.model, ward.fresh[0, :CONTEXT]
    with no_grad():
        whole = model(text[None]).data[0]
    reader = CachedGPT(model)
    steps = np.stack([reader.scores(text[: n + 1])[0] for n in range(CONTEXT)])
    law, cached = (np.exp(z - z.max(axis=-1, keepdims=True)) for z in (whole, steps))
    law, cached = (p / p.sum(axis=-1, keepdims=True) for p in (law, cached))
    rows["first token"] = float(np.abs(law[0] - cached[0]).max())
    rows["later tokens"] = float(np.abs(law[1:] - cached[1:]).max())
    return rows


@lab("A matrix with one large row is rounded to 3 bits. How large is the error of its rows, as a "
      "share of them?", 0.05)  # fmt: skip
def round_a_matrix(ward: Ward) -> Rows:
    model = patient.build()
    weight = model.blocks[0].feed_forward.up.weight.data
    weight[0] *= 30
    rounded = patient.served(model).blocks[0].feed_forward.up.weight.data
    error = np.linalg.norm(rounded - weight, axis=1) / np.linalg.norm(weight, axis=1)
    return {"large row": float(error[0]), "other rows": float(error[1:].mean())}


@lab("After training: by how much does the loss rise if the matrices are rounded?", 0.03)
def round_the_model(ward: Ward) -> Rows:
    loss = patient.loss_of(ward.model, ward.fresh)
    return {
        f"{bits} bits": patient.loss_of(patient.served(ward.model, bits), ward.fresh) - loss
        for bits in (5, 4, 3)
    }


@lab("2,000 symbols are drawn at three temperatures. What is the entropy of what is drawn?", 0.1)
def three_temperatures(ward: Ward) -> Rows:
    logits, rows = np.tile(np.linspace(0, 3, 8), (2000, 1)), {}
    for temperature in (0.5, 1.0, 2.0):
        drawn = draw(logits, temperature, rng=np.random.default_rng(13))
        share = np.bincount(drawn, minlength=8) / 2000
        rows[f"at {temperature:g}"] = float(-(share * np.log(np.maximum(share, 1e-12))).sum())
    return rows


def run(test: Test, ward: Ward) -> Rows:
    """Ask a patient; what cannot be computed is NaN in every row that a healthy one has."""
    with np.errstate(all="ignore"):
        return {row: float(value) for row, value in test.ask(ward).items()}


assert PASSAGE == CONTEXT + 1
