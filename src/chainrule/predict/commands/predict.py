"""``chainrule predict``: how long, how much memory, and what limits it, before anything runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chainrule.children import THREADS
from chainrule.program import UsageError, typed

if TYPE_CHECKING:
    from chainrule.predict.cluster import Run
    from chainrule.training.distributed_training import Device, Plan, Sizes
    from chainrule.transformers.transformer_architecture import TransformerConfig

# What each size says: of a GPT on this machine, and of a cluster's GPUs.
HERE = {
    "layers": "Blocks of a GPT on this machine.",
    "width": "Its width (default 128).",
    "heads": "Its heads (default 4).",
    "batch": "Its sequences of a step (default 12).",
    "vocab": "Its symbols (default 65).",
    "steps": "Its steps (default 2000).",
}
THERE = {
    "params": "Parameters of a model for a cluster, as in 70e9.",
    "model": "A model by name, as in llama-3-8b.",
    "gpus": "How many GPUs (default 8).",
    "gpu": "h100 (default), a100 or h800.",
    "gpu_memory": "GB of one GPU, if not its own.",
    "tokens": "Length of the text (default: 20 a parameter).",
    "sequences": "Sequences of a step (default: about 4 million tokens).",
}
BOTH = {"context": "Tokens of a sequence (default: 8192 there, 64 here)."}


def _size(name: str) -> Any:
    return typer.Option(help={**HERE, **THERE, **BOTH}[name])


def predict(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[notebook NAME]", help="A notebook: notebook 09.", show_default=False
        ),
    ] = None,
    params: Annotated[float | None, _size("params")] = None,
    model: Annotated[str | None, _size("model")] = None,
    gpus: Annotated[int | None, _size("gpus")] = None,
    gpu: Annotated[str | None, _size("gpu")] = None,
    gpu_memory: Annotated[float | None, _size("gpu_memory")] = None,
    tokens: Annotated[float | None, _size("tokens")] = None,
    sequences: Annotated[int | None, _size("sequences")] = None,
    context: Annotated[int | None, _size("context")] = None,
    layers: Annotated[int | None, _size("layers")] = None,
    width: Annotated[int | None, _size("width")] = None,
    heads: Annotated[int | None, _size("heads")] = None,
    batch: Annotated[int | None, _size("batch")] = None,
    vocab: Annotated[int | None, _size("vocab")] = None,
    steps: Annotated[int | None, _size("steps")] = None,
    run: Annotated[
        bool, typer.Option("--run", help="Then run it (a few steps of a GPT) and compare.")
    ] = False,
) -> None:
    """Predict a training run: on GPUs, of a notebook, or of a GPT on this machine.

    chainrule predict --params 70e9 --gpus 64 --gpu-memory 80; chainrule predict notebook 09;
    chainrule predict --layers 4 --width 128 --context 128 --batch 32 --run.
    """
    given = {k: v for k, v in locals().items() if v is not None and k not in ("what", "run")}
    # Before NumPy is there: processor time of waiting threads is no rate.
    os.environ |= dict.fromkeys(THREADS, "1")
    if what:
        _notebook(_named(what, given), run)
    elif _of_gpus(given, run):
        _cluster(given)
    else:
        _gpt(given, run)


def _of_gpus(given: dict[str, Any], run: bool) -> bool:
    """Whether the sizes are a cluster's; they may not be of both kinds, or none at all."""
    here = [name for name in HERE if name in given]
    there = [name for name in THERE if name in given]
    if here and there:
        raise UsageError(
            f"{_option(here[0])} is of a GPT on this machine, {_option(there[0])} of GPUs; "
            "leave one out"
        )
    if there and run:
        raise UsageError("--run runs on this machine only; leave it out or leave out the GPUs")
    if not given:
        raise UsageError(
            "say what to predict: chainrule predict --params 70e9 --gpus 64, or "
            "chainrule predict notebook 09, or chainrule predict --layers 4 --width 128"
        )
    return bool(there)


def _named(what: list[str], given: dict[str, Any]) -> str:
    """The notebook that the words name; sizes it has itself."""
    if len(what) != 2 or what[0] != "notebook":
        raise UsageError(f"after predict comes nothing or: notebook NAME, received {what}")
    if given:
        raise UsageError(f"a notebook has its own sizes; leave out {_option(next(iter(given)))}")
    return what[1]


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _bytes(size: float) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return (
                f"{size / scale:,.3g} {unit}"
                if size < 1e3 * scale
                else f"{size / scale:,.0f} {unit}"
            )
    return f"{size / 1e3:,.0f} kB"


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{1e3 * seconds:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 86_400:,.0f} days"


def _cluster(given: dict[str, Any]) -> None:
    if ("params" in given) == ("model" in given):
        both = "not both" if "params" in given else "received neither"
        raise UsageError(f"a cluster needs --params or --model, {both}")
    device = _device(given)
    try:
        job = _job(given, device)
        plans = job.plans()
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not plans:
        raise UsageError(_does_not_fit(job))
    _print_plans(job, plans)


def _device(given: dict[str, Any]) -> Device:
    """The kind of GPU, with the memory that was asked for."""
    from dataclasses import replace

    from chainrule.predict.cluster import DEVICES

    name = given.get("gpu", "h100").lower()
    if name not in DEVICES:
        raise UsageError(f"--gpu is one of {', '.join(DEVICES)}, received {given['gpu']!r}")
    if "gpu_memory" not in given:
        return DEVICES[name]
    if not given["gpu_memory"] > 0:
        raise UsageError(f"--gpu-memory must be above 0 GB, received {given['gpu_memory']:g}")
    return replace(DEVICES[name], memory=1e9 * given["gpu_memory"])


def _job(given: dict[str, Any], device: Device) -> Run:
    """The training run; what was not given is what is usual."""
    from chainrule.predict.cluster import MODELS, Run, shape_for
    from chainrule.training.distributed_training import Sizes, sizes_of

    if "model" not in given:
        cfg: TransformerConfig | Sizes = shape_for(given["params"])
    elif given["model"].lower() in MODELS:
        cfg = MODELS[given["model"].lower()]
    else:
        raise UsageError(f"--model is one of {', '.join(MODELS)}, received {given['model']!r}")
    sizes = cfg if isinstance(cfg, Sizes) else sizes_of(cfg)
    gpus, context = given.get("gpus", 8), given.get("context", 8192)
    wanted = max(1, round(2**22 / max(1, context) / max(1, gpus))) * gpus
    tokens = given.get("tokens", 20 * sizes.parameters)
    return Run(sizes, device, gpus, given.get("sequences", wanted), context, tokens)


def _print_plans(job: Run, plans: list[Plan]) -> None:
    """The run, its fastest splits, what limits the first, and where the formulas stand."""
    from chainrule.predict.cluster import limit

    sizes, device = job.sizes, job.device
    print(
        f"{sizes.parameters / 1e9:.3g} billion parameters: {sizes.layers} blocks of width "
        f"{sizes.width}; {job.gpus} × {device.name} with {_bytes(device.memory)}"
    )
    print(
        f"a step: {job.sequences} sequences of {job.context} tokens; the text: {job.tokens:.3g} "
        f"tokens, {job.steps:,} steps, {3 * job.tokens * sizes.flops(job.context):.2e} FLOPs"
    )
    print("\n data tensor pipeline ZeRO rows  memory      step        utilization  the text")
    for one in plans[:5]:
        mesh = one.mesh
        print(
            f"{mesh.data:5} {mesh.tensor:6} {mesh.pipeline:8} {mesh.stage:4} {mesh.rows:4}  "
            f"{_bytes(one.memory.total):10}  {_time(one.time.total):10}  "
            f"{one.time.utilization:11.0%}  {_time(86_400 * job.days(one))}"
        )
    print(f"\nthe fastest: {limit(plans[0])}")
    print(
        "formulas: training/distributed-training.md#eq-step-time, #eq-memory-model, "
        "#eq-zero-bytes;\n  modern-llms/pretraining.md#eq-six-n-d, #eq-mfu"
    )


def _does_not_fit(job: Run) -> str:
    need, held = job.least(), 0.9 * job.device.memory
    if need > held:
        count = -(-job.gpus * need // held)
        return (
            f"no split fits: weights, gradients and optimizer take 16 bytes a parameter, "
            f"{_bytes(need)} on each of {job.gpus} GPUs, of which {_bytes(held)} may be used; "
            f"try --gpus {int(count)} or more"
        )
    return (
        f"no split of {job.sequences} sequences of {job.context} tokens over {job.gpus} GPUs fits "
        f"{_bytes(held)} each; try more --gpus, a shorter --context, or --sequences that "
        f"{job.gpus} divides"
    )


def _gpt(given: dict[str, Any], run: bool) -> None:
    from chainrule.predict import here
    from chainrule.predict.machine import Machine
    from chainrule.predict.work import gpt_flops, gpt_memory, gpt_work, price

    steps, size = _gpt_sizes(given)
    cfg = here.config(size)
    work = gpt_work(cfg, size["batch"])
    machine = Machine()
    memory = gpt_memory(cfg, size["batch"], here.program_bytes())
    total, held = steps * work.flops, here.memory()
    if held and memory > held:
        raise UsageError(f"it needs {_bytes(memory)}, and this machine has {_bytes(held)}")
    seconds = price(work, machine)
    _print_machine(machine)
    tokens = size["batch"] * size["context"]
    print(
        f"a step: {work.flops:.2e} FLOPs in products ({gpt_flops(cfg, size['batch']):.2e} as "
        f"models are counted), {_bytes(work.moved)} read and written"
    )
    _print_parts(seconds)
    print(
        f"predicted: {_time(seconds.total)} a step, {tokens / seconds.total:,.0f} tokens a second, "
        f"{_time(steps * seconds.total)} for {steps:,} steps ({total:.2e} FLOPs), "
        f"peak memory {_bytes(memory)}"
    )
    print(
        "formulas: transformers/transformer-architecture.md#eq-flops, "
        "neural-networks/backpropagation.md#eq-linear-vjp,\n  "
        "modern-llms/inference.md#eq-roofline, training/distributed-training.md#eq-zero-bytes, "
        "#eq-activations"
    )
    if run:
        measured, peak = here.measure_apart(size, min(steps, 7))
        print(f"measured:  {_time(measured)} a step, peak memory {_bytes(peak)}")
        print(
            f"predicted / measured: time {seconds.total / measured:.2f}, memory {memory / peak:.2f}"
        )


def _gpt_sizes(given: dict[str, Any]) -> tuple[int, dict[str, int]]:
    """How many steps, and the sizes of a GPT; what was not given is what is usual."""
    usual = {"layers": 4, "width": 128, "heads": 4, "context": 64, "batch": 12, "vocab": 65}
    size = {name: given.get(name, default) for name, default in usual.items()}
    steps = given.get("steps", 2000)
    for name, value in {**size, "steps": steps}.items():
        if value < 1:
            raise UsageError(f"{_option(name)} must be at least 1, received {value}")
    if size["width"] % size["heads"]:
        raise UsageError(f"--width {size['width']} does not divide into --heads {size['heads']}")
    return steps, size


def _notebook(name: str, run: bool) -> None:
    from chainrule.predict import here
    from chainrule.predict.machine import Machine
    from chainrule.predict.work import price

    notebook = here.find_notebook(name)
    machine = Machine()
    seconds = price(notebook.work, machine)
    _print_machine(machine)
    work = notebook.work
    print(
        f"{notebook.id}: {work.flops:.2e} FLOPs in products, {_bytes(work.moved)} read and "
        f"written, {work.steps:.2e} steps of Python, {work.pictures} pictures"
    )
    if notebook.changed:
        print("its cells have changed since they were counted, so this is about the earlier ones")
    _print_parts(seconds)
    print(
        f"predicted: {_time(seconds.total)} of processor time "
        f"(the notebook's limit is {notebook.limit:g} s);\n  what other libraries do inside is not "
        "counted, so a run may take up to twice as long"
    )
    print(
        "formulas: modern-llms/inference.md#eq-roofline; what is counted: "
        "transformers/transformer-architecture.md#eq-flops"
    )
    if run:
        print("running it …", flush=True)
        measured = here.measure_notebook(notebook)
        print(f"measured:  {_time(measured)} of processor time")
        print(f"predicted / measured: {seconds.total / measured:.2f}")
    else:
        print(f"to run it and compare: {typed(f'predict notebook {notebook.id} --run')}")


def _print_machine(machine: Any) -> None:
    rates = [rate for _, rate in machine.rates()]
    if rates:
        print(
            f"this machine, one thread: {min(rates) / 1e9:.3g} to {max(rates) / 1e9:.3g} billion "
            "operations a second in products of these sizes,"
        )
    inside = max(1 / each for _, each in machine.bandwidths)
    print(
        f"  {machine.bandwidth / 1e9:.3g} GB/s from memory and up to {inside / 1e9:.3g} from "
        f"caches, {1e6 * machine.call:.2g} µs for a small operation, "
        f"{1e9 * machine.step:.2g} ns for a step of Python"
    )


def _print_parts(seconds: Any) -> None:
    names = {
        "products": "products", "passes": "passes over memory", "bends": "exponentials",
        "python": "Python", "pictures": "pictures", "start": "start",
    }  # fmt: skip
    spent = sorted(zip(names, seconds, strict=True), key=lambda part: -part[1])
    parts = (f"{names[name]} {share / seconds.total:.0%}" for name, share in spent)
    print("  of which " + ", ".join(part for part in parts if not part.endswith(" 0%")))
