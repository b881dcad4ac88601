"""Time on the processor, and a piece of work to compare it with: no test asks for seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# About a second of Python on the machine of 2026.
YARDSTICK = """
import ast, inspect, typing
for _ in range(20):
    ast.unparse(ast.parse(inspect.getsource(typing)))
"""


def seconds_of_processor(work: Callable[[], T]) -> tuple[float, T]:
    """What the programs that `work` starts took of the processor, and what it returned."""
    before = os.times()
    returned = work()
    after = os.times()
    spent = after.children_user + after.children_system
    return spent - before.children_user - before.children_system, returned


def yardstick() -> float:
    """What the piece of work takes now, in seconds of the processor."""
    command = [sys.executable, "-c", YARDSTICK]
    return seconds_of_processor(lambda: subprocess.run(command, check=True))[0]
