"""What every command line of this program shares: how a person calls it, and how it refuses."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

NAME = "chainrule"


class UsageError(Exception):
    """What a person asked for cannot be done; the message says why and what to type instead."""


def typed(words: str = "") -> str:
    """A command of this program, ready to be pasted: ``.venv/bin/chainrule check --watch``.

    The bare name is enough where the shell finds this program under it; otherwise the path by
    which it was called is put before the words, from the folder in which the person is.
    """
    return f"{_name()} {words}".rstrip()


def _name() -> str:
    called = Path(sys.argv[0])
    if called.stem != NAME:
        return NAME
    found = shutil.which(NAME)
    if found and Path(found).resolve() == called.resolve():
        return NAME
    try:
        path = str(called.absolute().relative_to(Path.cwd()))
    except ValueError:
        path = str(called.absolute())
    return f'"{path}"' if " " in path else path
