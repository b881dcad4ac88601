"""The intervals of the report, against SciPy, and the probes."""

import numpy as np
import pytest
import scipy.stats

from chainrule.life.probes import CHANCE, CHOICES, PROBES, choices, questions, run_probes
from chainrule.life.report import _bitten, interval


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_interval_is_students(n):
    values = np.random.default_rng(n).normal(3, 2, n)
    mean, half = interval(values.tolist())
    low, high = scipy.stats.t.interval(0.95, n - 1, np.mean(values), scipy.stats.sem(values))
    assert mean == pytest.approx((low + high) / 2)
    assert half == pytest.approx((high - low) / 2, rel=1e-3)


@pytest.mark.parametrize(
    ("trap", "bad", "said"),
    [
        ("no-replay", {"bits a byte": {"a": 3.5, "b": 3.0}}, "+0.75 bits a byte, it did harm"),
        ("no-replay", {"bits a byte": {"a": 2.6, "b": 2.5}}, "+0.05 bits a byte, no harm"),
        ("k1-loss", {"KL an answer": 0.9}, "+0.50 nats an answer, it did harm"),
        ("k1-loss", {"KL an answer": 0.5}, "+0.10 nats an answer, no harm"),
        ("naive-dpo", {"validation": 0.3}, "-10.0 points right, it did harm"),
        ("flawed-verifiers", {"validation": 0.36}, "-4.0 points right, no harm"),
        ("lucky-guesses", {"validation": 0.5}, "+10.0 points right, no harm"),
    ],
)
def test_a_trap_says_whether_it_did_harm(trap, bad, said):
    sound = {"bits a byte": {"a": 2.5, "b": 2.5}, "KL an answer": 0.4, "validation": 0.4}
    text = _bitten(trap, "a KL", {"measures": sound}, {"measures": sound | bad}, 500)
    assert text.startswith(f"**A KL**: {said}")


def test_one_value_has_no_interval():
    assert interval([0.25]) == (0.25, 0.0)


class Knows:
    """A model of bytes that finds right texts likely, or wrong ones, and says one thing."""

    title = opening = system = ""
    context, limit, temperature, ends = 1000, 60, 0.0, frozenset({0})

    def __init__(self, sign, says):
        self.sign, self.says = sign, says
        self.right = {right for probe in CHOICES for right, _ in choices(probe, 30)}

    def encode(self, messages):
        self.asked = messages[-1]["content"]
        return list(self.asked.encode())

    def stream(self, ids, temperature, rng):
        yield from self.says(self.asked).encode()
        yield 0

    def decode(self, ids):
        return bytes(ids).decode()

    def encode_text(self, text):
        return list(text.encode())

    def log_probs(self, ids):
        right = bytes(ids).decode().strip() in self.right
        return np.full(len(ids) - 1, self.sign * (1.0 if right else -1.0) - 5)


def test_probes_are_right_wrong_and_refused():
    knows = run_probes(Knows(1, lambda q: f" {q.rpartition(' ')[2].title()}.\n"), 30)
    assert list(knows) == list(PROBES) == list(CHANCE)
    assert all(share == 1 for probe, share in knows.items() if probe != "refusing")
    assert knows["refusing"] == 0
    wrong = run_probes(Knows(-1, lambda q: "I don't know that."), 30)
    assert all(share == 0 for probe, share in wrong.items() if probe != "refusing")
    assert wrong["refusing"] == 1
    assert run_probes(Knows(-1, lambda q: "It is blue."), 5)["refusing"] == 0


@pytest.mark.parametrize("probe", CHOICES)
def test_the_two_texts_of_a_pair_differ_in_little(probe):
    """Same letters within a pair where the probe is about order; never the same text."""
    pairs = choices(probe, 40)
    assert pairs == choices(probe, 40)
    assert len(set(pairs)) > 15
    for right, wrong in pairs:
        assert right != wrong
        if probe in ("sorting", "brackets"):
            assert sorted(right) == sorted(wrong)
        if probe == "addition":
            total, said = right.split(" = ")
            assert sum(map(int, total.split(" + "))) == int(said)
            assert int(wrong.split(" = ")[1]) != int(said)


def test_questions_of_a_probe_are_cut_to_what_is_asked():
    assert len(questions("following", 4)) == 4
    assert len(questions("refusing", 99)) == 10
