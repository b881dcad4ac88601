"""What ``chainrule predict notebook`` says of each notebook, beside its run from a clean kernel."""

from __future__ import annotations

from pathlib import Path

METHOD = (
    "processor seconds of the kernel, one thread; predicted from what was counted of a run, by the "
    "rates of this machine, measured right before it; what libraries do inside, other than NumPy, "
    "is not counted, so a prediction is rather too low"
)
"""How it was measured."""


def measure(names: tuple[str, ...] = ()) -> dict:
    """Predicted and measured processor seconds of every notebook that was counted."""
    from chainrule.course.manifest import load_course
    from chainrule.predict import here
    from chainrule.predict.machine import Machine
    from chainrule.predict.work import price
    from chainrule.program import UsageError

    root = Path(__file__).parent.parent
    known = [notebook.id for notebook in load_course(root).notebooks]
    rows, left_out = [], {}
    for name in names or known:
        try:
            notebook = here.find_notebook(name, root)
        except UsageError:
            left_out[name] = "not counted yet"
            continue
        predicted = price(notebook.work, Machine()).total
        measured = here.measure_notebook(notebook)
        rows.append(
            {
                "notebook": f"`{name}`",
                "measured_s": round(measured, 1),
                "predicted_s": round(predicted, 1),
                "predicted_over_measured": f"{predicted / measured:.2f}",
            }
        )
    return {"rows": rows, "left_out": left_out, "method": METHOD}
