"""README's table of the runs on Shakespeare: a column a run."""

from chainrule.trainer.readme import training


def test_each_run_has_a_column():
    short = {
        "steps": 2000,
        "held_out_nats": {"GPT": 1.77, "2-gram": 2.5094},
        "seconds": 110.6,
        "characters_seen": 1_536_000,
        "parameters": 811_904,
        "date": "2026-11-23",
    }
    long = short | {"steps": 8000, "held_out_nats": {"GPT": 1.562, "2-gram": 2.5094}}
    assert list(training(short, long)) == [
        "| Held-out Shakespeare, nats a character | 2,000 steps | 8,000 steps |",
        "| --- | --- | --- |",
        "| GPT | 1.770 | 1.562 |",
        "| 2-gram | 2.509 | 2.509 |",
        "| seconds on 2 cores | 111 | 111 |",
        "| characters a second | 13,888 | 13,888 |",
        "",
        "811,904 parameters, 2026-11-23.",
    ]
