"""How a command that takes long is stopped: by Ctrl-C, or by a reader that goes away."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def stop_between_steps() -> Iterator[list[int]]:
    """Let the first Ctrl-C finish the step; the second stops at once."""
    stopped: list[int] = []

    def on_signal(number, frame):
        stopped.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def writing() -> Iterator[None]:
    """Text is printed as it comes: Ctrl-C ends the line and the command, a closed pipe the text."""
    try:
        yield
        print()
    except KeyboardInterrupt:
        print()
        raise typer.Exit(130) from None
    except BrokenPipeError:
        sys.stderr.close()
