"""What ``chainrule predict notebook`` says of each notebook, beside its run from a clean kernel."""

from __future__ import annotations

from pathlib import Path


def measure(names: tuple[str, ...] = ()) -> dict:
    """Predicted and measured processor seconds of every notebook that was counted."""
    from chainrule.course.manifest import load_course
    from chainrule.predict import here
    from chainrule.predict.machine import Machine
    from chainrule.predict.work import price
    from chainrule.program import UsageError

    root = Path(__file__).parent.parent
    known = [notebook.id for notebook in load_course(root).notebooks]

    def row(name: str) -> dict:
        notebook = here.find_notebook(name, root)
        seconds = here.measure_notebook(notebook)
        return {"notebook": name, "measured_s": round(seconds, 1)}

    machine = Machine()
    predicted, left_out = {}, {}
    for name in names or known:
        try:
            predicted[name] = price(here.find_notebook(name, root).work, machine).total
        except UsageError:
            left_out[name] = "not counted yet"
    rows = [row(name) for name in predicted]
    for one in rows:
        seconds = predicted[one["notebook"]]
        one["predicted_s"] = round(seconds, 1)
        one["predicted_over_measured"] = round(seconds / one["measured_s"], 2)
    method = (
        "processor seconds of the kernel, one thread; predicted from what was counted of a run, "
        "by the rates of this machine, measured before"
    )
    return {"rows": rows, "left_out": left_out, "method": method}
