"""What ``chainrule train`` says of its own time: a prediction before, how far off it was after.

By the clock, with the threads that the run has: seconds as its reader waits for them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from chainrule.trainer.loop import Run, Step

SHORTEST = 100
"""A run of fewer steps is over almost before it is predicted."""

DISTURBED = 0.9
"""Of the clock's time; a run that has the processor for less was held up by other programs."""


class Forecast:
    """Predicted seconds of a step, beside those that the steps took."""

    def __init__(self, run: Run, predicted: float) -> None:
        self.predicted = predicted
        self.steps = run.settings.steps - run.step
        self.save_every = run.settings.save_every
        self.taken: list[float] = []
        self._began = time.perf_counter(), time.process_time()

    @classmethod
    def of(
        cls, run: Run, price: Callable[[dict[str, int]], float] | None = None
    ) -> Forecast | None:
        """Measure this machine for some seconds and predict.

        None of another engine, of dropout (its masks are in no formula of the prediction), and of a
        run that ends soon.
        """
        settings = run.settings
        if type(run) is not Run or settings.dropout or settings.steps - run.step < SHORTEST:
            return None
        if price is None:
            from chainrule.predict.here import step_seconds

            price = step_seconds
        sizes = {name: getattr(settings, name) for name in ("layers", "width", "heads", "context")}
        sizes |= {"batch": settings.batch_size, "vocab": len(run.tokenizer)}
        return cls(run, price(sizes))

    def before(self) -> str:
        """What is said before the run."""
        seconds = self.steps * self.predicted
        length = f"{seconds:.2g} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"
        return (
            f"predicted: {_short(self.predicted)} a step, {length} for {self.steps:,} steps, "
            "evaluations left out"
        )

    def end(self, entry: Step, seconds: float) -> None:
        """A step took so long; one that evaluated or saved does not count."""
        if entry.validation is None and entry.step % self.save_every:
            self.taken.append(seconds)

    def after(self) -> str:
        """What is said after the run; nothing where no step counts."""
        if not self.taken:
            return ""
        clock, processor = (
            now - began
            for now, began in zip(
                (time.perf_counter(), time.process_time()), self._began, strict=True
            )
        )
        step = statistics.median(self.taken)
        ratio = self.predicted / step
        said = f"measured: {_short(step)} a step; predicted / measured: {ratio:.2g}"
        if processor < DISTURBED * clock:
            said += f" (other programs left {processor / clock:.0%} of a processor)"
        return said


def _short(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"
