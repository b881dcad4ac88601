"""Fine-tuning against PyTorch, scikit-learn, SciPy, closed forms and enumeration."""

import math
from itertools import combinations, product

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn import metrics as theirs

from chainrule.data.text import CharTokenizer
from chainrule.modern_llms.fine_tuning import (
    POOLS,
    ClassifierHead,
    accuracy,
    accuracy_margin,
    balanced_accuracy,
    confusion_matrix,
    contaminated,
    ewc_penalty,
    exact_match,
    f1,
    few_shot_prompt,
    fine_tune,
    fisher_diagonal,
    freeze,
    interpolate,
    language_kl,
    language_loss,
    layerwise_lr,
    mcc,
    mcnemar,
    paired_bootstrap,
    pool,
    predict,
    replay_mixer,
    rouge_l,
    score_choices,
    task_loss,
)
from chainrule.neural_networks.backpropagation import Module, Parameter, Tensor
from chainrule.training.optimizers import AdamW, warmup_linear
from chainrule.transformers.gpt import GPT, gpt_config


def tiny(seed=0, vocab=11, dtype="float64", **changes):
    return GPT(gpt_config(vocab, 13, 2, 2, 6, dtype=dtype, **changes), np.random.default_rng(seed))


# ---- heads -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "close"), [("float64", 1e-10), ("float32", 1e-4)])
@pytest.mark.parametrize("how", POOLS)
def test_pool_equals_pytorch_with_its_gradient(rng, how, dtype, close):
    states = rng.normal(size=(5, 7, 3)).astype(dtype)
    lengths = np.array([7, 1, 3, 5, 2])
    upstream = rng.normal(size=(5, 3)).astype(dtype)
    ours = Tensor(states, requires_grad=True)
    pooled = pool(ours, lengths, how)
    pooled.backward(upstream)
    t = torch.tensor(states, requires_grad=True)
    if how == "mean":
        wanted = torch.stack([t[i, :n].mean(dim=0) for i, n in enumerate(lengths)])
    else:
        place = torch.tensor(lengths - 1 if how == "last" else 0 * lengths)
        wanted = t[torch.arange(5), place]
    wanted.backward(torch.tensor(upstream))
    assert np.allclose(pooled.data, wanted.detach(), atol=close)
    assert np.allclose(ours.grad, t.grad, atol=close)


@pytest.mark.parametrize("lengths", [[0, 1], [1, 8], [-1, 2]])
def test_pool_refuses_lengths(lengths):
    with pytest.raises(ValueError, match="lengths from 1 to 7"):
        pool(Tensor(np.zeros((2, 7, 3))), np.array(lengths))


def test_pool_refuses_a_name_and_takes_nothing():
    with pytest.raises(ValueError, match="'cls'"):
        pool(Tensor(np.zeros((2, 7, 3))), how="cls")
    assert pool(Tensor(np.zeros((0, 7, 3)))).shape == (0, 3)


@pytest.mark.parametrize("how", POOLS)
def test_what_stands_behind_the_length_does_not_count(rng, how):
    model = ClassifierHead(tiny(), 3, how).eval()
    model.head.weight.data[...] = rng.normal(size=(3, 6))
    ids, lengths = rng.integers(0, 11, (4, 9)), np.array([9, 2, 5, 1])
    before = model(ids, lengths).data
    for row, n in enumerate(lengths):
        ids[row, n:] = rng.integers(0, 11, 9 - n)
    assert np.allclose(model(ids, lengths).data, before, atol=1e-12)
    alone = [model(ids[i : i + 1, :n]).data[0] for i, n in enumerate(lengths)]
    assert np.allclose(before, alone, atol=1e-12)


def test_a_head_starts_undecided_and_refuses(rng):
    model = ClassifierHead(tiny(), 5)
    assert np.array_equal(predict(model, rng.integers(0, 11, (3, 7))), np.full((3, 5), 0.2))
    with pytest.raises(ValueError, match="1 classes"):
        ClassifierHead(tiny(), 1)
    with pytest.raises(ValueError, match="'cls'"):
        ClassifierHead(tiny(), 2, "cls")


def test_freezing_keeps_weights_to_the_last_bit(rng):
    model = ClassifierHead(tiny(), 3)
    ids, labels = rng.integers(0, 11, (8, 7)), rng.integers(0, 3, 8)
    task_loss(model, ids, labels, rng)().backward()  # gradients that freezing must forget
    names = freeze(model, "body.*")
    assert len(names) == len(list(model.body.named_parameters()))
    before = {name: array.copy() for name, array in model.state_dict().items()}
    fine_tune(model.parameters(), task_loss(model, ids, labels, rng), 0.1, 5, weight_decay=0.5)
    for name, array in model.state_dict().items():
        assert np.array_equal(array, before[name]) == (name in names), name
    with pytest.raises(ValueError, match=r"matches 'heads\.\*'"):
        freeze(model, "heads.*")


def test_a_gradient_of_zero_is_not_frozen_here_nor_in_pytorch():
    """The trap of the page: weight decay moves whatever has a gradient, also one of 0."""
    w, t = Parameter(np.ones(3)), torch.ones(3, requires_grad=True)
    w.grad, t.grad = np.zeros(3), torch.zeros(3)
    AdamW([w], lr=0.1, weight_decay=0.5).step()
    torch.optim.AdamW([t], lr=0.1, weight_decay=0.5).step()
    assert np.allclose(w.data, 0.95)
    assert np.allclose(t.detach(), 0.95)
    t.requires_grad_(False)
    torch.optim.AdamW([t], lr=0.1, weight_decay=0.5).step()
    assert np.allclose(t, 0.9025)  # requires_grad is not asked: a kept gradient is enough
    t.grad = None
    torch.optim.AdamW([t], lr=0.1, weight_decay=0.5).step()
    assert np.allclose(t, 0.9025)


def test_pytorch_box():
    """What the box on heads says of PyTorch."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 2))
    model[0].requires_grad_(False)
    model(torch.ones(1, 3)).sum().backward()
    assert model[0].weight.grad is None
    assert model[1].weight.grad is not None
    groups = [{"params": model[0].parameters(), "lr": 1e-5}, {"params": model[1].parameters()}]
    rates = [group["lr"] for group in torch.optim.AdamW(groups, lr=1e-3).param_groups]
    assert rates == [1e-5, 1e-3]
    model.eval()
    assert model[1].weight.requires_grad  # eval() freezes nothing


def test_layers_have_their_rates():
    model = ClassifierHead(tiny(), 3)
    freeze(model, "body.positions.*")
    groups = layerwise_lr(model, 0.8, 0.5)
    found = {id(p): group["lr"] for group in groups for p in group["params"]}
    wanted = {"head.weight": 0.8, "body.norm.weight": 0.8, "body.tokens.weight": 0.1,
              "body.blocks.1.attention.qkv.weight": 0.4,
              "body.blocks.0.feed_forward.up.bias": 0.2}  # fmt: skip
    named = dict(model.named_parameters())
    for name, rate in wanted.items():
        assert found[id(named[name])] == pytest.approx(rate), name
    assert id(named["body.positions.weight"]) not in found
    assert len(found) == len(named) - 1


# ---- the loop ----------------------------------------------------------------------------------


def test_five_steps_equal_pytorch(rng):
    """Probe on fixed features: the same AdamW, clipping and schedule, in PyTorch."""
    model = ClassifierHead(tiny(), 3)
    freeze(model, "body.*")
    ids, labels = rng.integers(0, 11, (5, 7)), np.array([0, 2, 1, 1, 0])
    features = torch.tensor(model.eval().features(ids).data)
    layer = torch.nn.Linear(6, 3, dtype=torch.float64)
    torch.nn.init.zeros_(layer.weight), torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1, weight_decay=0.01)
    rates = [0.3 * warmup_linear(step, 1.0, 1, 5) for step in range(5)]
    wanted = []
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(layer(features), torch.tensor(labels))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
        optimizer.step()
        wanted.append(loss.item())
    log = fine_tune(model.parameters(), task_loss(model, ids, labels, rng), 0.3, 5)
    assert np.allclose(log, wanted, atol=1e-10)
    assert np.allclose(model.head.weight.data, layer.weight.detach(), atol=1e-10)


def test_replay_is_the_weighted_sum(rng):
    model = ClassifierHead(tiny().eval(), 3)
    ids, labels, text = rng.integers(0, 11, (3, 7)), np.array([0, 2, 1]), rng.integers(0, 11, 40)

    def both():
        return (task_loss(model, ids, labels, np.random.default_rng(5)),
                language_loss(model.body, text, np.random.default_rng(7), 2, 9))  # fmt: skip

    task, old = (loss().item() for loss in both())
    assert replay_mixer(*both(), 0.7)().item() == pytest.approx(task + 0.7 * old, rel=1e-12)
    assert replay_mixer(*both(), 0)().item() == pytest.approx(task, rel=1e-12)
    for weight in (-1, math.nan):
        with pytest.raises(ValueError, match="0 or more"):
            replay_mixer(*both(), weight)


def test_losses_refuse_what_they_cannot_use(rng):
    model = ClassifierHead(tiny(), 3)
    with pytest.raises(ValueError, match="one label for each text"):
        task_loss(model, np.zeros((0, 7), int), np.zeros(0, int), rng)
    with pytest.raises(ValueError, match="needs 10 tokens, got 9"):
        language_loss(model.body, np.zeros(9, int), rng, window=9)


# ---- forgetting --------------------------------------------------------------------------------


class Line(Module):
    """A "model" of two tokens after one: its logits are a table, so that all can be summed."""

    def __init__(self, table):
        self.table = Parameter(table)

    def forward(self, ids):
        return self.table[ids]


def test_fisher_is_the_mean_square_by_enumeration(rng):
    """For a softmax table: p (1 − p) for each logit of the row read, over all drawn tokens."""
    table = rng.normal(size=(3, 3))
    p = np.exp(table) / np.exp(table).sum(axis=1, keepdims=True)
    windows = rng.integers(0, 3, (300, 5))
    read = np.bincount(windows.ravel(), minlength=3) / windows.size
    found = fisher_diagonal(Line(table), windows, np.random.default_rng(0))["table"]
    wanted = read[:, None] * p * (1 - p)
    assert np.allclose(found, wanted, atol=4 * 0.5 / math.sqrt(windows.size))
    assert (found > 0.4 * wanted).all()
    with pytest.raises(ValueError, match="windows of tokens"):
        fisher_diagonal(Line(table), np.zeros((0, 4), int), rng)


def test_fisher_predicts_the_divergence_of_a_small_step(rng):
    """KL(base ‖ moved) is ½ Σ F δ² for one weight moved a little."""
    base, moved = tiny(), tiny()
    windows = rng.integers(0, 11, (40, 12))
    fisher = fisher_diagonal(base, windows, rng)["norm.weight"]
    for i in np.argsort(-fisher)[:2]:
        moved.norm.weight.data[...] = base.norm.weight.data
        moved.norm.weight.data[i] += 0.05
        assert language_kl(base, moved, windows) == pytest.approx(fisher[i] * 0.05**2 / 2, rel=0.4)


def test_penalty_equals_pytorch_with_its_gradient(rng):
    model = tiny()
    anchor = {name: rng.normal(size=p.shape) for name, p in model.named_parameters()}
    fisher = {name: rng.uniform(size=p.shape) for name, p in model.named_parameters()}
    del fisher["norm.weight"]
    value = ewc_penalty(model, anchor, fisher, 3.7)
    value.backward()
    total = torch.tensor(0.0, dtype=torch.float64)
    copies = {}
    for name, p in model.named_parameters():
        copies[name] = torch.tensor(p.data, requires_grad=True)
        if name in fisher:
            away = copies[name] - torch.tensor(anchor[name])
            total = total + (torch.tensor(fisher[name]) * away**2).sum() * 3.7 / 2
    total.backward()
    assert value.item() == pytest.approx(total.item(), rel=1e-12)
    for name, p in model.named_parameters():
        assert (p.grad is None) if name not in fisher else np.allclose(p.grad, copies[name].grad)
    with pytest.raises(ValueError, match="no anchor"):
        ewc_penalty(model, {}, fisher, 1.0)
    with pytest.raises(ValueError, match="names no parameter"):
        ewc_penalty(model, anchor, {}, 1.0)


def test_ewc_is_exact_where_both_losses_are_quadratic(rng):
    """With diagonal curvatures the penalized optimum is that of both data sets together."""
    h_old, h_new = rng.uniform(0.5, 2, 5), rng.uniform(0.5, 2, 5)
    old, new = rng.normal(size=5), rng.normal(size=5)

    class Point(Module):
        def __init__(self):
            self.w = Parameter(old.copy())

    model = Point()
    for _ in range(400):
        model.zero_grad()
        away = model.w - new
        loss = (away * away * (h_new / 2)).sum()
        (loss + ewc_penalty(model, {"w": old}, {"w": h_old}, 1.0)).backward()
        model.w.data -= 0.2 * model.w.grad
    together = (h_old * old + h_new * new) / (h_old + h_new)
    assert np.allclose(model.w.data, together, atol=1e-10)


def test_interpolation_has_its_ends_and_is_linear(rng):
    a, b = tiny(1).state_dict(), tiny(2).state_dict()
    for t, wanted in ((0, a), (1, b)):
        assert all(np.array_equal(v, wanted[n]) for n, v in interpolate(a, b, t).items())
    middle = interpolate(a, b, 0.25)
    assert all(np.allclose(middle[n], a[n] + 0.25 * (b[n] - a[n])) for n in a)
    assert (
        interpolate(*(tiny(s, dtype="float32").state_dict() for s in (0, 1)), 0.3)[
            "tokens.weight"
        ].dtype
        == np.float32
    )
    with pytest.raises(ValueError, match="only one has"):
        interpolate(a, {}, 0.5)
    with pytest.raises(ValueError, match="expected the same"):
        interpolate(a, {n: v[:1] for n, v in b.items()}, 0.5)


def test_divergence_is_zero_of_itself_and_that_of_pytorch(rng):
    base, other = tiny(1), tiny(2)
    rows = rng.integers(0, 11, (5, 7))
    assert language_kl(base, base, rows) == 0
    logs = [torch.log_softmax(torch.tensor(m(rows).data), -1) for m in (other, base)]
    wanted = torch.nn.functional.kl_div(*logs, reduction="sum", log_target=True) / 35
    assert language_kl(base, other, rows, batch=2) == pytest.approx(wanted.item(), rel=1e-10)
    with pytest.raises(ValueError, match="rows of tokens"):
        language_kl(base, base, rows[:0])


# ---- metrics -----------------------------------------------------------------------------------


def some_labels():
    rng = np.random.default_rng(3)
    yield 4, rng.integers(0, 4, 101), rng.integers(0, 4, 101)
    truth = rng.integers(0, 3, 97)
    yield 3, truth, np.where(rng.uniform(size=97) < 0.8, truth, 2)
    yield 2, np.array([1, 1, 1, 0, 0]), np.array([1, 0, 1, 0, 1])
    yield 3, np.array([0, 0, 2]), np.array([0, 2, 2])  # a class that never occurs
    yield 2, np.array([1], dtype=np.uint8), np.array([1], dtype=np.uint8)


@pytest.mark.parametrize(("classes", "truth", "predicted"), list(some_labels()))
def test_metrics_equal_scikit_learn(classes, truth, predicted):
    counts = confusion_matrix(truth, predicted, classes)
    names = list(range(classes))
    assert np.array_equal(counts, theirs.confusion_matrix(truth, predicted, labels=names))
    assert accuracy(counts) == pytest.approx(theirs.accuracy_score(truth, predicted))
    if np.isin(predicted, truth).all():
        wanted = theirs.balanced_accuracy_score(truth, predicted)
        assert balanced_accuracy(counts) == pytest.approx(wanted)
    for average in ("macro", "micro", None):
        wanted = theirs.f1_score(truth, predicted, labels=names, average=average, zero_division=0)
        assert np.allclose(f1(counts, average), wanted)
    if len(np.unique(np.r_[truth, predicted])) > 1:
        assert mcc(counts) == pytest.approx(theirs.matthews_corrcoef(truth, predicted))


def test_metrics_of_nothing_and_of_constants():
    empty = confusion_matrix(np.zeros(0, int), np.zeros(0, int), 3)
    assert math.isnan(accuracy(empty))
    assert math.isnan(balanced_accuracy(empty))
    assert math.isnan(f1(empty, "micro"))
    assert f1(empty) == 0
    assert mcc(empty) == 0
    assert mcc(np.array([[90, 0], [10, 0]])) == 0
    assert mcc(np.array([[3, 0], [0, 5]])) == pytest.approx(1)
    with pytest.raises(ValueError, match="labels go from 0 to 2"):
        confusion_matrix(np.array([3]), np.array([0]), 3)
    with pytest.raises(ValueError, match="'weighted'"):
        f1(empty, "weighted")


def longest_by_enumeration(a, b):
    for size in range(len(a), 0, -1):
        for chosen in combinations(range(len(a)), size):
            rest = iter(b)
            if all(a[i] in rest for i in chosen):
                return size
    return 0


def test_rouge_is_that_of_the_longest_common_subsequence(rng):
    for _ in range(40):
        a, b = (rng.choice(list("xyz"), rng.integers(1, 8)).tolist() for _ in range(2))
        common = longest_by_enumeration(a, b)
        precision, recall = common / len(a), common / len(b)
        wanted = 2 * precision * recall / (precision + recall) if common else 0
        assert rouge_l(" ".join(a), " ".join(b)) == pytest.approx(wanted)
    assert rouge_l("police kill the gunman", "Police killed the gunman.") == 0.75
    assert rouge_l("", "a") == rouge_l("?", "a") == 0


def test_exact_match():
    assert exact_match(["The  cat.", "42"], ["the cat", "43"]) == 0.5
    assert math.isnan(exact_match([], []))
    with pytest.raises(ValueError, match="1 answers for 2"):
        exact_match(["a"], ["a", "b"])


# ---- comparing ---------------------------------------------------------------------------------


def test_mcnemar_equals_scipy():
    for b, c in product(range(14), repeat=2):
        wanted = binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
        assert mcnemar(b, c) == pytest.approx(wanted, rel=1e-12), (b, c)
    assert mcnemar(1200, 1000) == pytest.approx(binomtest(1200, 2200).pvalue, rel=1e-9)
    with pytest.raises(ValueError, match="0 or more"):
        mcnemar(-1, 3)


def test_margin_is_the_one_of_the_plan_and_refuses():
    margins = [100 * accuracy_margin(0.8, n) for n in (100, 500, 1000)]
    assert np.round(margins, 1).tolist() == [7.8, 3.5, 2.5]
    for share, n in ((1.1, 5), (math.nan, 5), (0.5, 0)):
        with pytest.raises(ValueError, match="share from 0 to 1"):
            accuracy_margin(share, n)


def test_bootstrap_has_the_standard_error_of_paired_differences(rng):
    a = (rng.uniform(size=400) < 0.8).astype(int)
    b = np.where(rng.uniform(size=400) < 0.9, a, 1 - a)
    found = paired_bootstrap(a, b, rng, 4000)
    error = (b - a).std() / math.sqrt(400)
    assert found.difference == pytest.approx((b - a).mean())
    assert found.draws.std() == pytest.approx(error, rel=0.05)
    apart = math.sqrt((a.var() + b.var()) / 400)
    assert apart > 1.4 * found.draws.std()  # what resampling each alone would say
    assert found.low == pytest.approx(found.difference - 1.96 * error, abs=0.3 * error)
    assert found.high == pytest.approx(found.difference + 1.96 * error, abs=0.3 * error)
    with pytest.raises(ValueError, match="equal length"):
        paired_bootstrap(np.zeros(0), np.zeros(0), rng)


# ---- prompts -----------------------------------------------------------------------------------


def test_choices_are_scored_as_pytorch_would(rng):
    tokenizer = CharTokenizer("abcdefghijk")
    model = tiny().eval()
    prompt, choices = "abca", ["kb", "c", "hij"]
    found = score_choices(model, tokenizer, prompt, choices)
    for choice, score in zip(choices, found, strict=True):
        ids = tokenizer.encode(prompt + choice)
        logs = torch.log_softmax(torch.tensor(model(ids[None]).data[0]), -1)
        wanted = sum(logs[t - 1, ids[t]] for t in range(len(prompt), len(ids)))
        assert score == pytest.approx(wanted.item(), rel=1e-10)
    assert np.allclose(
        score_choices(model, tokenizer, prompt, choices, mean=True), found / [2, 1, 3]
    )
    long = score_choices(model, tokenizer, "abcdefghijkabcdefghijk", choices)
    assert np.isfinite(long).all()
    for bad in (("", ["a"]), ("a", []), ("a", [""])):
        with pytest.raises(ValueError, match="prompt and choices"):
            score_choices(model, tokenizer, *bad)


def test_prompt_and_contamination():
    assert few_shot_prompt([("2 + 2", "4")], "3 + 3") == "2 + 2 -> 4\n3 + 3 ->"
    training = ["The quick brown fox jumps over the lazy dog.", "nothing here"]
    tests = ["a quick, BROWN fox!", "quick fox brown", "here", "nothing here", ""]
    assert contaminated(tests, training, 3).tolist() == [True, False, False, True, False]
    assert contaminated([], training).tolist() == []
    with pytest.raises(ValueError, match="n=0"):
        contaminated(tests, training, 0)
