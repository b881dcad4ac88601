"""README's table of a life: intervals where there are seeds, and what an interval shows."""

import pytest

from chainrule.life.readme import life


def found(mean, width, seeds):
    row = {
        "title": "DPO",
        "seeds": seeds,
        "accuracy": [0.449, 0.012],
        "accuracy sampled": [0.317, 0.017],
        "forgotten": {"a": 0.1, "b": 0.2},
        "cpu seconds": 14.4,
    }
    return {
        "stages": {"pretrain": {}, "dpo": row},
        "beyond the control": {"dpo": [mean, width, seeds]},
        "settings": {"tested": 1000},
        "machine": {"processor": "a processor", "Python": "3", "NumPy": "2"},
        "cpu seconds of drawing": 4.1,
        "date": "2026-11-30",
    }


@pytest.mark.parametrize(
    ("beyond", "cells", "said"),
    [
        ((0.053, 0.025, 5), "44.9 ± 1.2 | 31.7 ± 1.7", "DPO +5.3 ± 2.5 (better)"),
        ((-0.053, 0.025, 5), "44.9 ± 1.2 | 31.7 ± 1.7", "DPO -5.3 ± 2.5 (worse)"),
        ((0.013, 0.025, 5), "44.9 ± 1.2 | 31.7 ± 1.7", "DPO +1.3 ± 2.5 (no difference)"),
        ((0.053, 0.0, 1), "44.9 | 31.7", "DPO +5.3"),
    ],
)
def test_a_stage_has_an_interval_where_it_has_seeds(beyond, cells, said):
    lines = list(life(found(*beyond)))
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|") == 6
    assert lines[2] == f"| DPO | {cells} | +0.15 | 14 |"
    assert lines[4] == f"Points beyond more imitation: {said}."
    assert lines[6].startswith("1,000 prompts of a part of the split that chose nothing;")
