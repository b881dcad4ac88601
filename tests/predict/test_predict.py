"""Predictions: what is counted is what runs, what is priced is what was counted."""

import builtins
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from chainrule.cli import main
from chainrule.course.manifest import find_root
from chainrule.predict import cluster, counting, here, work
from chainrule.predict.machine import Machine
from chainrule.program import UsageError
from chainrule.training.distributed_training import H100, plan, sizes_of

ROOT = find_root()
SIZE = {"layers": 2, "width": 42, "heads": 3, "context": 29, "batch": 5, "vocab": 31}


class Rates:
    """A machine of round numbers."""

    def __init__(self):
        self.asked = []

    call, bend, step, picture = 1e-6, 1e-9, 1e-8, (0.1, 0.05)
    bends: ClassVar = {"power8": 5e-8}

    @property
    def doubles(self):
        twice = Rates()
        twice.product_seconds = lambda shape, flops: 2 * flops / 1e9
        return twice

    def measure(self, shapes):
        self.asked += list(shapes)

    def product_seconds(self, shape, flops):
        return flops / 1e9

    def pass_seconds(self, size, calls, moved):
        return calls * self.call + moved / 1e10

    def start(self, modules):
        return 1.0


def test_products_of_a_step_are_those_that_pytorch_counts():
    """A product left out of the backward pass, or a shape with a wrong factor."""
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    d, heads = SIZE["width"], SIZE["heads"]
    n, time, batch = SIZE["batch"] * SIZE["context"], SIZE["context"], SIZE["batch"]

    def linear(inner, outer):
        return torch.nn.Linear(inner, outer)

    blocks = [
        (linear(d, 3 * d), linear(d, d), linear(d, 4 * d), linear(4 * d, d))
        for _ in range(SIZE["layers"])
    ]
    head = linear(d, SIZE["vocab"])
    x = torch.randn(batch, time, d, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        y = x
        for qkv, out, up, down in blocks:
            q, k, v = (
                part.view(batch, time, heads, -1).transpose(1, 2) for part in qkv(y).split(d, 2)
            )
            weights = (q @ k.transpose(-1, -2)).softmax(-1)
            y = y + out((weights @ v).transpose(1, 2).reshape(batch, time, d))
            y = y + down(up(y).tanh())
        head(y).logsumexp(-1).sum().backward()
    cfg = here.config(SIZE)
    predicted = work.gpt_work(cfg, batch)
    assert predicted.flops == counter.get_total_flops() == work.gpt_flops(cfg, batch)
    assert (1, n, d, 3 * d) in [shape for shape, _ in predicted.products]


COUNT_A_STEP = """
import builtins, json, sys
from chainrule.predict import counting
counter = counting.Counter()
setattr(builtins, counting.NAME, counter)
sys.meta_path.insert(0, counting._Finder())
from chainrule.predict import here
found = []
for size in json.loads(sys.argv[1]):
    step = here.stepper(size)
    step()
    counter.__init__()
    step()
    found.append(counter.as_dict())
print(json.dumps(found))
"""


def test_what_a_step_moves_is_what_was_counted():
    """A change of the engine that moves much more or less than the prediction says."""
    sizes = [
        SIZE,
        {"layers": 4, "width": 128, "heads": 4, "context": 64, "batch": 4, "vocab": 65},
        {"layers": 1, "width": 96, "heads": 2, "context": 131, "batch": 3, "vocab": 211},
    ]
    command = [sys.executable, "-c", COUNT_A_STEP, json.dumps(sizes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for size, counted in zip(sizes, json.loads(done.stdout), strict=True):
        cfg, predicted = here.config(size), work.gpt_work(here.config(size), size["batch"])
        seen = work.stored_work(counted)
        matrices = sum(f for shape, f in seen.products if min(shape[1], shape[3]) > 1)
        assert predicted.flops == pytest.approx(matrices, rel=1e-3), cfg
        assert predicted.moved == pytest.approx(seen.moved, rel=0.06)
        assert predicted.bends == pytest.approx(seen.bends, rel=0.02)
        assert predicted.steps == pytest.approx(seen.steps, rel=0.15)


def test_a_program_is_counted_as_by_hand():
    counted = counting.count_source(
        "import numpy as np\n"
        "a, b = np.ones((16, 32), np.float32), np.ones((32, 8), np.float32)\n"
        "c = a @ b\n"
        "c += c * c\n"
        "d = np.tanh(c).T\n"
    )
    assert dict(counted.products) == {(1, 16, 32, 8, 4): [1, 2.0 * 16 * 32 * 8]}
    assert counted.bends == {"smooth4": [1, 128]}
    # two arrays of ones are made, c * c reads two and writes one, += reads two and writes one
    assert sum(moved for _, moved in counted.passes.values()) == 2048 + 1024 + 2 * 3 * 512


def test_doubles_powers_chance_and_order_are_counted_apart():
    counted = counting.count_source(
        "import numpy as np\n"
        "rng = np.random.default_rng(0)\n"
        "a = rng.standard_normal((16, 32))\n"
        "b = a @ a.T\n"
        "c = np.sort(b ** 3) + b ** 2 + abs(b) ** 0.5\n"
        "d = rng.integers(9, size=11)\n"
    )
    assert dict(counted.products) == {(1, 16, 32, 16, 8): [1, 2.0 * 16 * 32 * 16]}
    assert counted.bends == {"chance8": [2, 523], "power8": [1, 256], "order8": [1, 256]}
    seen = work.stored_work(counted.as_dict())
    assert (seen.products, seen.doubles) == ((), (((1, 16, 32, 16), 16384.0),))
    assert dict(seen.others) == {"chance8": 523, "power8": 256, "order8": 256}
    assert sum(calls for _, calls, _ in seen.passes) == 4 + sum(
        calls for calls, _ in counted.passes.values()
    )


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("x = [i * i for i in range(5) if i % 2]", [1, 9]),
        ("x = {k: -v for k, v in zip('ab', (1, 2))}", {"a": -1, "b": -2}),
        ("x = 3\nx **= 2\nx -= 1", 8),
        ("class A:\n    def f(self): return 1\nclass B(A):\n"
         "    def f(self): return super().f() + 1\nx = B().f()", 2),
        ("def f(a: int | None = None) -> int | None:\n    'text'\n    return a\n"
         "x = f.__doc__, f(2)", ("text", 2)),
        ("import numpy as np\nx = np.arange(6).reshape(2, 3)[np.array([1, 0])].tolist()",
         [[3, 4, 5], [0, 1, 2]]),
        ("assert False\nx = 1 < 2 < 3", True),
        ("x = [0, 0]\nx[1] = 5\nx[0] += 2", [2, 5]),
    ],
)  # fmt: skip
def test_a_counted_program_computes_the_same(source, value):
    """A replaced operation that means something else, or is done twice."""
    names = {}
    counting.count_source(source, names)
    assert names["x"] == value


def test_steps_grow_with_the_rounds_of_a_loop():
    def steps(rounds):
        return counting.count_source(f"for i in range({rounds}):\n    x = i + 1").steps

    assert steps(7) - steps(5) == 2 * (steps(6) - steps(5)) > 0


def test_counting_leaves_nothing_behind():
    counting.count_source("x = 1 + 1")
    assert getattr(builtins, counting.NAME, None) is None


def test_the_price_of_work_is_the_sum_of_its_parts():
    machine = Rates()
    some = work.Work(
        products=(((1, 8, 8, 8), 1024.0), ((1, 1, 100, 50), 10_000.0)),
        doubles=(((1, 8, 8, 4), 512.0), ((1, 100, 50, 1), 10_000.0)),
        passes=((4096.0, 3.0, 12_288.0),),
        bends=500.0,
        others=(("power8", 30.0),),
        steps=1000.0,
        pictures=2,
        axes=6,
        modules=("numpy",),
    )
    seconds = work.price(some, machine)
    assert machine.asked == [(1, 8, 8, 8)]
    assert seconds.products == pytest.approx(2 * 1024e-9)
    # a product with a vector reads its matrix of 100 × 50 numbers once
    assert seconds.passes == pytest.approx(3e-6 + 12_288e-10 + 2e-6 + 20_000e-10 + 40_000e-10)
    assert (seconds.bends, seconds.python) == pytest.approx((500e-9 + 1500e-9, 1e-5))
    assert (seconds.pictures, seconds.start) == pytest.approx((0.5, 1.0))
    assert seconds.total == pytest.approx(sum(seconds))


def test_a_shape_that_was_not_measured_takes_the_rate_of_the_nearest():
    machine = Machine()
    machine._products = {(1, 8, 8, 8): 1024e-9, (1, 512, 512, 512): 512**3 * 2e-11}
    assert machine.product_seconds((1, 16, 8, 8), 2048.0) == pytest.approx(2048e-9)
    assert machine.product_seconds((1, 512, 256, 512), 1e6) == pytest.approx(1e-5)


def test_this_machine_has_rates():
    machine = Machine(patience=0.001)
    machine.measure([(1, 8, 8, 8), (1, 256, 256, 256)])
    small, large = (rate for _, rate in machine.rates())
    assert large > small > 0  # small matrices multiply slower
    assert all(each > 0 for _, each in machine.bandwidths)
    assert min(machine.call, machine.bend, machine.step) > 0


def test_memory_of_a_step_grows_by_what_each_part_keeps():
    def memory(**changes):
        size = SIZE | changes
        return work.gpt_memory(here.config(size), size["batch"], 0.0)

    cfg = here.config(SIZE)
    n = SIZE["batch"] * SIZE["context"]
    one = memory(batch=6) - memory()
    blocks = SIZE["layers"] * (64 * 42 + 4 * SIZE["heads"] * SIZE["context"])
    assert one == SIZE["context"] * (blocks + 12 * SIZE["vocab"])
    assert memory() - n / SIZE["context"] * one == 16 * work.count_params(cfg)


@pytest.mark.parametrize("parameters", [1e7, 1.24e8, 1e9, 3e9, 8e9, 7e10, 4.05e11, 1e13])
def test_a_shape_has_the_parameters_asked_for(parameters):
    cfg = cluster.shape_for(parameters)
    assert sizes_of(cfg).parameters == pytest.approx(parameters, rel=0.035)
    assert 10 < cfg.width / cfg.decoder_layers < 300


def test_plans_are_the_planners_fastest_first():
    sizes = sizes_of(cluster.shape_for(8e9))
    run = cluster.Run(sizes, H100, 16, 64, 4096, 1e9)
    plans = run.plans()
    assert plans[0] == plan(sizes, H100, 16, 64, 4096)[0]
    assert [p.time.total for p in plans] == sorted(p.time.total for p in plans)
    assert run.days(plans[0]) == pytest.approx(3815 * plans[0].time.total / 86_400)


def said(capsys, *arguments):
    """What a command prints, its complaint, its status."""
    with pytest.raises(SystemExit) as ended:
        main(["predict", *arguments])
    out, complaint = capsys.readouterr()
    return out, complaint, ended.value.code


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "say what to predict"),
        (["--params", "70e9", "--layers", "4"], "--layers"),
        (["--params", "0"], "received 0"),
        (["--params", "nan"], "received nan"),
        (["--params", "1e30"], "1e+30"),
        (["--gpus", "8"], "needs --params or --model"),
        (["--params", "8e9", "--model", "gpt2"], "not both"),
        (["--model", "gpt-9"], "llama-3-8b"),
        (["--params", "8e9", "--gpu", "abacus"], "'abacus'"),
        (["--params", "8e9", "--gpus", "0"], "--gpus must be at least 1"),
        (["--params", "8e9", "--context", "0"], "--context must be at least 1"),
        (["--params", "8e9", "--tokens", "-3"], "--tokens must be at least 1"),
        (["--params", "8e9", "--gpu-memory", "0"], "--gpu-memory must be above 0"),
        (["--params", "70e9", "--gpus", "4"], "try --gpus 16"),
        (["--params", "8e9", "--gpus", "2", "--context", "65536"], "a shorter --context"),
        (["--params", "8e9", "--run"], "--run"),
        (["--layers", "0"], "--layers must be at least 1"),
        (["--width", "10", "--heads", "3"], "does not divide"),
        (["--width", "65536", "--layers", "9999"], "this machine has"),
        (["notebook"], "notebook NAME"),
        (["notebook", "99"], "01-numpy-neural-net"),
        (["notebook", "09", "--layers", "3"], "--layers"),
        (["picture", "09"], "notebook NAME"),
    ],
)
def test_bad_input_gets_one_line(capsys, arguments, word):
    out, complaint, status = said(capsys, *arguments)
    assert (out, status) == ("", 2)
    assert complaint.count("\n") == 1
    assert complaint.startswith("chainrule: ")
    assert word in complaint


def formulas(text):
    """Every section that an output names."""
    path = None
    for part in re.findall(r"[\w/-]+\.md#[\w-]+|#eq-[\w-]+", text):
        path = part.split("#")[0] or path
        yield path, part.split("#")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--params", "70e9", "--gpus", "64", "--gpu-memory", "80"], ("utilization", "days")),
        (["--model", "llama-3-8b", "--gpus", "16", "--gpu", "a100"], ("A100", "8.03 billion")),
        (["--layers", "1", "--width", "12", "--heads", "3", "--context", "5", "--batch", "2",
          "--steps", "3", "--run"], ("predicted / measured", "peak memory", "tokens a second")),
    ],
)  # fmt: skip
def test_an_output_names_sections_that_exist(capsys, arguments, words):
    out, complaint, status = said(capsys, *arguments)
    assert (complaint, status) == ("", 0)
    assert all(word in out for word in words)
    named = list(formulas(out))
    assert len(named) >= 4
    for path, anchor in named:
        assert f'<a id="{anchor}"></a>' in (ROOT / path).read_text(encoding="utf-8"), anchor


def test_the_peak_that_is_compared_is_that_of_the_steps_alone():
    """A peak that holds the arrays of the measurement before it."""
    hog = np.ones(1 << 26)  # half a gigabyte
    size = SIZE | {"batch": 2}
    seconds, peak = here.measure_apart(size, 1)
    assert seconds > 0
    assert peak < hog.nbytes


def test_a_notebook_is_found_by_its_number_and_knows_when_it_changed(monkeypatch, tmp_path):
    stored = json.loads(counting.STORED.read_text())
    name = next(iter(stored))
    monkeypatch.setattr(here, "STORED", tmp_path / "counts.json")
    (tmp_path / "counts.json").write_text(json.dumps({name: stored[name] | {"digest": "other"}}))
    notebook = here.find_notebook(name[:2])
    assert notebook.id == name
    assert notebook.changed
    assert notebook.work.flops > 0
    assert "numpy" in notebook.work.modules
    missing = "02" if name[:2] != "02" else "03"
    with pytest.raises(UsageError, match="nothing was counted"):
        here.find_notebook(missing)


def test_what_is_stored_is_of_notebooks_that_exist():
    for name, counted in json.loads(counting.STORED.read_text()).items():
        assert Path(ROOT / f"notebooks/{name}.ipynb").exists()
        assert counted["steps"] > 0
        assert counted["pictures"] >= 0
        assert all(np.isfinite(row).all() for row in counted["products"] + counted["passes"])
