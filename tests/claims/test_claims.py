"""The ledger of claims: its arithmetic, what it refuses, what it stores, and what a repeat says."""

import copy
import json
import subprocess
import sys
import tomllib
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats

from chainrule import cli
from chainrule.claims import ledger, measuring, page, records, repeating
from chainrule.claims.interval import (
    interval,
    room_for_repeat,
    student_cdf,
    student_quantile,
)
from chainrule.course.manifest import find_root
from chainrule.program import UsageError

ROOT = find_root()
STORED = tomllib.loads((ROOT / ledger.DATA).read_text(encoding="utf-8"))
CLAIMS = ledger.parse(STORED)

# ---- arithmetic ----------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 7, 10, 29, 100])
def test_student_is_scipys(degrees):
    for t in (-7.3, -1.0, 0.0, 0.01, 2.5, 40.0):
        np.testing.assert_allclose(
            student_cdf(t, degrees), scipy.stats.t.cdf(t, degrees), rtol=1e-9, atol=1e-14
        )
    for p in (0.003, 0.2, 0.5, 0.9, 0.975, 0.9995):
        wanted = scipy.stats.t.ppf(p, degrees)
        np.testing.assert_allclose(student_quantile(p, degrees), wanted, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("n", [2, 5, 11])
@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
def test_an_interval_is_scipys(n, scale):
    values = scale * np.random.default_rng(n).normal(3.0, 1.0, n)
    wanted = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = interval(list(values))
    np.testing.assert_allclose(found, [values.mean(), wanted.low, wanted.high], rtol=1e-8)
    room = room_for_repeat(list(values))
    assert room.mean == found.mean
    np.testing.assert_allclose(room.high - room.mean, 2**0.5 * (found.high - found.mean))


@pytest.mark.parametrize("values", [[], [1.0], [1.0, np.nan], [np.inf, 0.0, 1.0]])
def test_what_has_no_interval_is_refused(values):
    with pytest.raises(ValueError, match="needs two finite values or more, got"):
        interval(values)


@pytest.mark.parametrize("degrees", [0, -3])
def test_student_without_degrees_is_refused(degrees):
    with pytest.raises(ValueError, match="at least 1, got"):
        student_cdf(1.0, degrees)


def test_a_repeat_of_a_true_effect_falls_into_its_room_nineteen_times_of_twenty():
    rng, n, draws = np.random.default_rng(0), 5, 4000
    first, second = rng.normal(size=(2, draws, n))
    held = 0
    for a, b in zip(first, second, strict=True):
        room = room_for_repeat(list(a))
        held += room.low <= b.mean() <= room.high
    assert abs(held / draws - 0.95) < 4 * (0.95 * 0.05 / draws) ** 0.5


# ---- a small claim -------------------------------------------------------------------------------


def words(**changes):
    entry = {
        "title": "Small and large",
        "says": "The small one has a lower loss.",
        "conditions": "Made up for this test.",
        "reading": "Nothing follows from it.",
        "sections": ["training/optimizers.md#sgd-with-momentum"],
        "unit": "nats",
        "seeds": 5,
        "tuning": 2,
        "rates": {"small": [0.1, 0.2, 0.4], "large": [0.1, 0.2, 0.4, 0.8]},
        "effect": [
            {"name": "small − large", "of": ["small", "loss"], "less": ["large", "loss"],
             "claimed": "lower"},
        ],
    }  # fmt: skip
    return entry | changes


def bowl(variant, rate, seed, steps=10):
    """A run whose best rates are 0.2 and 0.4; small lies 1 below large, but for the seed."""
    least, level = {"small": (0.2, 1.0), "large": (0.4, 2.0)}[variant]
    loss = level + np.log(rate / least) ** 2 + 0.01 * seed
    noise = np.random.default_rng([seed, len(variant), ord(variant[0])]).normal(0, 0.05)
    return float(loss), {"loss": float(loss + noise)}


def runs(monkeypatch, run):
    monkeypatch.setattr(measuring, "run_of", lambda name: run)


@pytest.fixture
def measured(monkeypatch):
    runs(monkeypatch, bowl)
    entry = words()
    found = measuring.sweep("small", ledger.parse({"small": entry})["small"], lambda line: None)
    return entry | {"measured": found}


def test_a_sweep_takes_each_best_rate_and_keeps_the_seeds_apart(measured):
    claim = ledger.parse({"small": measured})["small"]
    small, large = claim.stored().variant.values()
    assert (small.best, large.best) == (0.2, 0.4)
    wanted = [[bowl("small", rate, seed)[0] for seed in (100, 101)] for rate in (0.1, 0.2, 0.4)]
    np.testing.assert_allclose(small.tried, wanted, rtol=1e-5)
    np.testing.assert_allclose(
        large.held_out["loss"], [bowl("large", 0.4, seed)[1]["loss"] for seed in range(5)], 1e-5
    )
    gaps = np.subtract(small.held_out["loss"], large.held_out["loss"])
    paired = scipy.stats.ttest_rel(small.held_out["loss"], large.held_out["loss"])
    wanted = paired.confidence_interval(0.95)
    np.testing.assert_allclose(
        claim.estimate(claim.effect[0]), [gaps.mean(), wanted.low, wanted.high], rtol=1e-8
    )
    assert claim.verdict(claim.effect[0]) == "lower, as claimed"


@pytest.mark.parametrize(
    ("least", "rates", "best"),
    [
        (0.02, [0.0125, 0.025, 0.05, 0.1, 0.2, 0.4], 0.025),
        (1.4, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2], 1.6),
        (0.3, [0.1, 0.2, 0.4, 0.8], 0.4),
    ],
)
def test_a_sweep_goes_on_where_the_best_rate_is_at_an_end(least, rates, best, monkeypatch):
    def run(variant, rate, seed, steps=0):
        return np.log(rate / least) ** 2, {"loss": seed + (variant == "small") * seed**2}

    runs(monkeypatch, run)
    claim = ledger.parse({"small": words()})["small"]
    found = measuring.sweep("small", claim, lambda line: None)["variant"]["small"]
    assert (found["rates"], found["best"]) == (rates, best)


def test_a_verdict_follows_the_interval_and_not_the_mean(measured):
    def verdict(gaps, claimed="lower"):
        entry = copy.deepcopy(measured)
        entry["measured"]["effect"]["small − large"] = list(interval(gaps))
        entry["effect"][0]["claimed"] = claimed
        for variant, values in zip(entry["measured"]["variant"].values(), (gaps, [0.0] * 5),
                                   strict=True):  # fmt: skip
            variant["held_out"]["loss"] = values
        claim = ledger.parse({"small": entry})["small"]
        return claim.verdict(claim.effect[0])

    assert verdict([-1.0, -1.1, -0.9, -1.0, -1.2]) == "lower, as claimed"
    assert verdict([-1.0, -1.1, -0.9, -1.0, -1.2], "higher") == "lower, against the claim"
    assert verdict([1.0, 1.1, 0.9, 1.0, 1.2]) == "higher, against the claim"
    assert verdict([1.0, 1.1, 0.9, 1.0, 1.2], "equal") == "higher, against the claim"
    assert verdict([-1.0, -9.0, 0.1, 0.2, 0.1], "equal") == "not told apart from zero"
    assert verdict([-1.0, -9.0, 0.1, 0.2, 0.1]) == "not told apart from zero"


def spoil(entry, *path, value):
    for key in path[:-1]:
        entry = entry[key]
    entry[path[-1]] = value


SMALL = ("measured", "variant", "small")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ((*SMALL, "tried"), [[0.9, 0.9], [1.0, 1.0], [2.0, 2.0]], "0.1 has the lowest loss"),
        ((*SMALL, "best"), 0.4, "0.2 has the lowest loss, not 0.4"),
        ((*SMALL, "tried"), [[1.0, 1.0], [1.0, 1.0]], "a row of losses for each of the rates"),
        ((*SMALL, "tried"), [[2.0], [1.0], [2.0]], "2 losses for each rate"),
        ((*SMALL, "rates"), [0.1, 0.2, 0.3], "measured at other rates"),
        ((*SMALL, "held_out"), {"loss": [1.0, 2.0, 3.0, 4.0]}, "5 seeds are needed"),
        ((*SMALL, "held_out"), {"loss": [1.0, 2.0, 3.0, 4.0, float("nan")]}, "not finite"),
        ((*SMALL, "held_out"), {"right": [1.0, 2.0, 3.0, 4.0, 5.0]}, "'small' has no 'loss'"),
        (("rates", "small"), [0.1, 0.2], "three or more, positive and rising"),
        (("rates", "small"), [0.4, 0.2, 0.1], "three or more, positive and rising"),
        (("rates",), {"small": [0.1, 0.2, 0.4]}, "there are no rates of 'large'"),
        (("seeds",), 4, "field 'seeds': Input should be greater than or equal to 5"),
        (("sections",), ["training/optimizers.md"], "field 'sections.0'"),
        (("says",), "No full stop", "field 'says'"),
        (
            ("measured", "effect"),
            {"small − large": [-1.0, -1.2, -0.8]},
            "held-out numbers give -1.0",
        ),
        (("measured", "effect"), {}, "held-out numbers give -1.0"),
        (("measured", "seconds"), 301.0, "less than or equal to 300"),
        (("effect", 0, "claimed"), "smaller", "Input should be 'lower', 'higher' or 'equal'"),
        (("colour",), "red", "field 'colour'"),
    ],
)
def test_a_claim_that_contradicts_itself_is_refused_in_one_line(measured, path, value, says):
    spoil(measured, *path, value=value)
    with pytest.raises(UsageError) as caught:
        ledger.parse({"small": measured})
    message = str(caught.value)
    assert message.startswith("reference/claims.toml: small: ")
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize("best", [0, 2])
def test_a_best_rate_at_an_end_is_refused(measured, best):
    variant = measured["measured"]["variant"]["small"]
    variant["tried"] = [[float(abs(k - best) + 1)] * 2 for k in range(3)]
    variant["best"] = variant["rates"][best]
    with pytest.raises(UsageError, match="lies at an end of those tried"):
        ledger.parse({"small": measured})


def test_equal_differences_are_refused(measured):
    for name, value in (("small", 1.0), ("large", 2.0)):
        measured["measured"]["variant"][name]["held_out"]["loss"] = [value] * 5
    with pytest.raises(UsageError, match="all seeds give the same difference"):
        ledger.parse({"small": measured})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[small\n", "not valid TOML: "),
        (None, "is missing"),
        ("small = 3\n", "small: Input should be a valid dictionary"),
        ('[small]\ntitle = "x"\n', "field 'says': Field required (and "),
    ],
)
def test_a_damaged_ledger_gives_one_line(tmp_path, text, says):
    if text is not None:
        (tmp_path / "reference").mkdir()
        (tmp_path / ledger.DATA).write_text(text)
    with pytest.raises(UsageError) as caught:
        ledger.load(SimpleNamespace(root=tmp_path))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- storing -------------------------------------------------------------------------------------

WORDS = """\
# The ledger.

[small]
title = "Small and large"
says = "The small one has a lower loss."
conditions = "Made up for this test."
reading = "Nothing follows from it."
sections = ["training/optimizers.md#sgd-with-momentum"]
unit = "nats"
tuning = 2

[small.rates]
"small" = [0.1, 0.2, 0.4]
"large" = [0.1, 0.2, 0.4, 0.8]

[[small.effect]]
name = "small − large"
of = ["small", "loss"]
less = ["large", "loss"]
claimed = "lower"

# The second one.
[smaller]
title = "Kept"
"""


def test_numbers_are_put_below_the_words_of_their_claim_alone(tmp_path, monkeypatch):
    runs(monkeypatch, bowl)
    path = tmp_path / "claims.toml"
    path.write_text(WORDS)
    records._write(path, "small")
    once = path.read_text()
    before, _, after = once.partition("\n[small.measured]\n")
    assert before + after[after.index("\n# The second") :] == WORDS.rstrip("\n") + "\n"
    records._write(path, "small")
    seconds = [line for line in once.split("\n") if not line.startswith("seconds")]
    assert [x for x in path.read_text().split("\n") if not x.startswith("seconds")] == seconds
    claim = ledger.parse({"small": tomllib.loads(once)["small"]})["small"]
    assert claim.stored().variant["large"].best == 0.4


def test_what_is_refused_is_not_stored(tmp_path, monkeypatch):
    runs(monkeypatch, lambda v, rate, seed, steps=0: (rate, {"loss": rate + seed}))
    path = tmp_path / "claims.toml"
    path.write_text(WORDS)
    with pytest.raises(UsageError, match=r"after 6 rates the best, 0\.0125, is at an end"):
        records._write(path, "small")
    assert path.read_text() == WORDS
    with pytest.raises(UsageError, match="has no claim 'other'"):
        records._write(path, "other")


# ---- repeating -----------------------------------------------------------------------------------


def test_a_repeat_that_agrees_holds_and_another_is_reported(measured, monkeypatch, capsys):
    claims = ledger.parse({"small": measured})
    monkeypatch.setattr(ledger, "load", lambda course=None: claims)

    def typed(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main(["claim", *arguments])
        return caught.value.code, capsys.readouterr()

    status, said = typed("small")
    assert (status, said.err) == (0, "")
    assert "10 small models with the seeds 0 to 4: about 1 s" in said.out.split("\n")[1]
    assert said.out.rstrip().endswith(": holds")
    runs(monkeypatch, lambda v, r, s: (1.0, {"loss": bowl(v, r, s)[1]["loss"] - (v == "small")}))
    status, said = typed("small")
    assert (status, said.err) == (1, "")
    assert said.out.rstrip().endswith("DOES NOT HOLD")
    lines = records.departures("small", claims["small"])
    assert len(lines) == 1
    assert lines[0].startswith("small, small − large: -2.0")
    status, said = typed("smal")
    assert status == 2
    assert said.err == "chainrule: no claim 'smal' in the ledger; did you mean small?\n"
    assert typed()[1].out.startswith("small: The small one has a lower loss. (5 seeds, ")


def test_new_seeds_are_new(measured, monkeypatch):
    asked = []
    runs(monkeypatch, lambda v, rate, seed: asked.append(seed) or bowl(v, rate, seed))
    claim = ledger.parse({"small": measured})["small"]
    repeating.repeat("small", claim, first=50)
    assert asked == [*range(50, 55)] * 2


def test_a_run_that_is_no_number_does_not_hold(measured, monkeypatch):
    runs(monkeypatch, lambda v, rate, seed: (1.0, {"loss": np.nan}))
    claim = ledger.parse({"small": measured})["small"]
    again = measuring.repeat("small", claim, lambda line: None)
    assert [each.holds for each in measuring.judge(claim, again)] == [False]


def test_what_is_missing_is_named(measured, monkeypatch):
    def run(variant, rate, seed):
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")

    runs(monkeypatch, run)
    with pytest.raises(UsageError, match="needs sklearn, which is missing: make learn"):
        repeating.repeat("small", ledger.parse({"small": measured})["small"])


def test_a_claim_without_a_run_says_so():
    with pytest.raises(UsageError, match="nothing trains for 'flat-earth': there is no chain"):
        measuring.run_of("flat-earth")


def test_a_claim_without_numbers_says_so():
    with pytest.raises(UsageError, match="'Small and large' is not measured yet"):
        repeating.repeat("small", ledger.parse({"small": words()})["small"])


def test_a_changed_run_is_noticed_after_a_few_steps(measured, monkeypatch):
    claim = ledger.parse({"small": measured})["small"]
    assert measuring.probe("small", claim.stored()) == []
    runs(monkeypatch, lambda v, rate, seed, steps: (1.01 * bowl(v, rate, seed)[0], {}))
    assert len(measuring.probe("small", claim.stored())) == 2


# ---- the ledger itself ---------------------------------------------------------------------------


def test_the_ledger_is_measured_and_its_page_names_everything():
    text = "\n".join(page.lines(STORED))
    for name, claim in CLAIMS.items():
        assert f"chainrule claim {name}" in text
        assert claim.stored().seconds <= 300
        assert claim.found_for, name
        for source in (*claim.found_for, *claim.found_against):
            assert source.source in text
        for variant in claim.stored().variant.values():
            assert variant.rates[0] < variant.best < variant.rates[-1]


def test_one_seed_of_each_variant_of_one_claim_comes_out_again():
    """In a process of its own: shapes, checked at every call, would take most of the time."""
    code = """
import json
from chainrule.claims import ledger, measuring
claim = ledger.load()["momentum-noise-floor"]
run = measuring.run_of("momentum-noise-floor")
print(json.dumps({name: run(name, each.best, 0) for name, each in claim.stored().variant.items()}))
print(*measuring.probe("chrono-initialization", ledger.load()["chrono-initialization"].stored()))
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found, departed = done.stdout.splitlines()
    assert departed == ""
    stored = CLAIMS["momentum-noise-floor"].stored().variant
    for name, (chosen, told) in json.loads(found).items():
        np.testing.assert_allclose(chosen, stored[name].validation[0], rtol=1e-3)
        np.testing.assert_allclose(
            told["excess loss"], stored[name].held_out["excess loss"][0], rtol=1e-3
        )


# The first steps of all others, and all pictures, are asked by the audit.


def test_a_picture_is_the_one_that_the_ledger_draws():
    name = "one-pixel"
    ((place, drawn),) = records.pictures({name: CLAIMS[name]}).items()
    assert (ROOT / place).read_bytes() == drawn
    assert all((ROOT / f"reference/claims/{each}.svg").is_file() for each in CLAIMS)


def test_check_tells_what_departs(measured, monkeypatch, capsys, tmp_path):
    claims = ledger.parse({"small": measured})
    monkeypatch.setattr(records, "load", lambda: claims)
    monkeypatch.setattr(records, "find_root", lambda: tmp_path)
    monkeypatch.setattr(records, "pictures", lambda each: {"reference/claims/small.svg": b"new"})
    assert records.main(["--check"]) == 1
    assert capsys.readouterr().out.startswith("reference/claims/small.svg: drawing changes it")
    assert records.main(["--draw"]) == 0
    assert records.main(["--check"]) == 0
    assert capsys.readouterr().out == ""
    runs(monkeypatch, lambda v, r, s, steps=0: (2 * bowl(v, r, s)[0], {"loss": s**2 * r}))
    assert records.main(["--check"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == [
        "small, small",
        "small, large",
        "small, small − large",
    ]
    measured["measured"] = None
    monkeypatch.setattr(records, "load", lambda: ledger.parse({"small": measured}))
    assert records.main(["--check"]) == 1
    assert capsys.readouterr().out == "small is not measured\n"
