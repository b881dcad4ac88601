"""What `train` says of its time: a line before, a line after, and only where it can know."""

import re
from dataclasses import replace

import pytest

from chainrule.data.text import Corpus
from chainrule.trainer import forecast
from chainrule.trainer.commands import train
from chainrule.trainer.forecast import Forecast
from chainrule.trainer.loop import Run, Step
from chainrule.trainer.settings import Settings

TEXT = "".join(f"{i} green bottles, hanging on the wall; " for i in range(40))
TINY = Settings(
    steps=120, batch_size=3, context=7, layers=1, heads=2, width=10, warmup=5,
    evaluate_every=50, save_every=60,
)  # fmt: skip


@pytest.fixture
def run(tmp_path):
    return Run.start(tmp_path / "run", TINY, Corpus("bottles", TEXT, TEXT[:80]))


class Clocks:
    """Clocks that go when they are told to."""

    def __init__(self):
        self.clock = self.processor = 0.0

    def perf_counter(self):
        return self.clock

    def process_time(self):
        return self.processor


def test_the_prediction_is_of_the_sizes_of_the_run(run):
    asked = []
    said = Forecast.of(run, lambda sizes: asked.append(sizes) or 0.0123)
    assert asked == [
        {"layers": 1, "width": 10, "heads": 2, "context": 7, "batch": 3, "vocab": len(set(TEXT))}
    ]
    assert said.before().startswith("predicted: 12.3 ms a step, 1.5 s for 120 steps,")
    run.step = 13
    later = Forecast.of(run, lambda sizes: 2.0)
    assert "2 s a step, 4 minutes for 107 steps" in later.before()


def test_the_ratio_leaves_out_steps_that_evaluate_or_save(run, monkeypatch):
    clocks = Clocks()
    monkeypatch.setattr(forecast, "time", clocks)
    said = Forecast.of(run, lambda sizes: 0.03)
    for step, seconds, validation in [(49, 0.04, None), (50, 9.0, 1.5), (60, 7.0, None)]:
        said.end(Step(step, 1.0, validation), seconds)
    clocks.clock, clocks.processor = 10.0, 9.5
    assert said.after() == "measured: 40 ms a step; predicted / measured: 0.75"
    clocks.processor = 2.5
    assert said.after().endswith("0.75 (other programs left 25% of a processor)")


def test_where_nothing_can_be_predicted_nothing_is_said(run):
    class Other(Run):
        """Another engine."""

    def price(sizes):
        raise AssertionError("asked for a price")

    settings, corpus = run.settings, run.corpus
    assert Forecast.of(Other(run.folder, settings, corpus), price) is None
    run.settings = replace(settings, dropout=0.1)
    assert Forecast.of(run, price) is None
    run.settings = settings
    run.step = settings.steps - forecast.SHORTEST + 1
    assert Forecast.of(run, price) is None
    assert Forecast(run, 1.0).after() == ""


def seconds(line):
    number, unit = re.match(r"\w+: ([\d.]+) (m?s) a step", line).groups()
    return float(number) / {"s": 1, "ms": 1000}[unit]


def test_the_command_says_it_before_and_after_the_steps(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(forecast, "SHORTEST", 12)
    (tmp_path / "text.txt").write_text(TEXT)
    chosen = {name: getattr(TINY, name) for name in ("batch_size", "context", "heads", "width")}
    chosen |= {"steps": 12, "layers": 1, "evaluate_every": 5}
    for watched in (None, lambda step: None):
        out = f"run-{watched is None}"
        train.go("text.txt", out, False, chosen, after=watched)
        lines = capsys.readouterr().out.splitlines()
        found = [
            i for i, line in enumerate(lines) if re.match("predicted:|step +5 |measured:", line)
        ]
        if watched:
            assert len(found) == 1
            continue
        before, between, after = (lines[i] for i in found)
        assert between.startswith("step")
        assert before.startswith("predicted: ")
        assert before.endswith("for 12 steps, evaluations left out")
        ratio = float(re.search(r"predicted / measured: ([\d.e+-]+)", after)[1])
        assert 0 < ratio == pytest.approx(seconds(before) / seconds(after), rel=0.06)
