"""``python -m benchmarks [NAME …]``: measure, print tables, store them as JSON."""

from __future__ import annotations

import json
import platform
import sys
from contextlib import suppress
from datetime import date
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.timing import use_one_thread

BENCHMARKS = {
    "gpt_step": "One training step of a GPT, beside PyTorch",
    "twin": "One training step of the PyTorch twin, beside nanoGPT's own",
    "gpu": "The twin on a GPU, beside what nanoGPT has published",
    "peers": "One epoch of the same MLP on digits, beside other engines",
    "ladders": "Fused operations beside their composition of primitives",
    "convolutions": "Convolution and pooling beside PyTorch, and where the time goes",
    "decoding": "Writing with a cache, beside `generate` of transformers",
    "smollm2": "A published chat model in the course's classes, beside `generate` of transformers",
    "scaling": "How a GPT step grows with width, depth and context",
    "predictions": "What `chainrule predict` says of a GPT step, beside the step",
    "notebooks": "What `chainrule predict notebook` says, beside the run",
    "tokenizer": "Byte-level BPE, beside the library `tokenizers`",
    "blas": "The limit: matrix products alone",
}
RESULTS = Path(__file__).parent / "results.json"
PACKAGES = (
    "numpy", "torch", "micrograd", "tinygrad", "mygrad", "autograd", "tokenizers", "transformers",
)  # fmt: skip


def main(names: list[str]) -> int:
    """Run the named benchmarks (all of them without names); a partial run stores its part."""
    unknown = sorted(set(names) - BENCHMARKS.keys())
    if unknown:
        known = ", ".join(BENCHMARKS)
        print(f"benchmarks: no {', '.join(unknown)}; choose from {known}", file=sys.stderr)
        return 2
    use_one_thread()
    stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names or BENCHMARKS:
        print(f"\n## {BENCHMARKS[name]}\n", flush=True)
        result = import_module(f"benchmarks.{name}").measure()
        if result is None:
            print(f"left out: its model is not here; type: chainrule models get {name}", flush=True)
            continue
        print(table(result["rows"]), f"\n\n{result['method']}", sep="", flush=True)
        for peer, reason in result.get("left_out", {}).items():
            print(f"{peer} left out: {reason}")
        about = {"title": BENCHMARKS[name], "machine": machine(), "date": date.today().isoformat()}
        stored[name] = {**about, **result}
        stored = {name: stored[name] for name in BENCHMARKS if name in stored}
        part = RESULTS.with_suffix(".part")
        part.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n")
        part.replace(RESULTS)
    return 0


def table(rows: list[dict]) -> str:
    """The rows as a Markdown table."""
    names = list(rows[0])
    lines = [" | ".join(names), " | ".join("---" for _ in names)]
    lines += [" | ".join(str(row[name]) for name in names) for row in rows]
    return "\n".join(f"| {line.replace('_', ' ')} |" for line in lines)


def machine() -> dict:
    """What the figures were measured on."""
    about = {"processor": processor(), "threads": 1, "python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):  # a peer that this benchmark did not need
            about[name] = version(name)
    return about


def processor() -> str:
    """The processor's name as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
