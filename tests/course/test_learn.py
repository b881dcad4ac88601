"""``chainrule learn`` and the server behind it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from site_sample import REPOSITORY, small_course, write

from chainrule.course import manifest
from chainrule.course.manifest import CourseError
from chainrule.course.site import serve
from chainrule.course.site.serve import open_server

MAIN = "from chainrule.cli import main; main()"


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A small course with the site's configuration beside it; the path has a space."""
    root = tmp_path / "a course"
    root.mkdir()
    small_course(root)
    (root / "site").unlink()
    shutil.copytree(
        REPOSITORY / "site",
        root / "site",
        ignore=shutil.ignore_patterns("node_modules", "_build", "__pycache__"),
    )
    (root / "site/node_modules").symlink_to(REPOSITORY / "site/node_modules")
    return root


def chainrule(root: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, *arguments],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )


def until(process: subprocess.Popen[str], pattern: str, seconds: float = 60) -> re.Match[str]:
    """Read lines until one matches."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            found = re.search(pattern, line)
            if found:
                return found
    finally:
        timer.cancel()
    raise AssertionError(f"never said {pattern!r}: {process.stderr.read()}")


def test_serves_rebuilds_and_ends_without_a_word_too_many(checkout):
    process = chainrule(checkout, "learn", "--no-browser")
    try:
        address = until(process, r"at (http://127\.0\.0\.1:\d+/)")[1]
        with urlopen(address, timeout=10) as answer:
            assert "Chain Rule" in answer.read().decode()
        with urlopen(f"{address}_static/mermaid/mermaid.esm.min.mjs", timeout=10) as answer:
            assert answer.headers["Content-Type"] == "text/javascript"
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        with pytest.raises(HTTPError, match="404"):
            urlopen(f"{address}no-such-page.html", timeout=10)

        time.sleep(1)
        write(checkout, {"math-foundations/calculus.md": "# Calculus\n\nRewritten.\n"})
        time.sleep(0.1)
        text = (checkout / "math-foundations/linear-algebra.md").read_text(encoding="utf-8")
        write(
            checkout,
            {
                "math-foundations/linear-algebra.md": text.replace(
                    "calculus.md#chain-rule", "calculus.md"
                )
            },
        )
        until(process, "Built; reload the page")
        with urlopen(f"{address}math-foundations/calculus.html", timeout=10) as answer:
            assert "Rewritten." in answer.read().decode()
    finally:
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in rest + errors
    assert rest.endswith("Ended.\n")


def test_builds_once_then_starts_at_once(checkout):
    first = chainrule(checkout, "learn", "--build-only")
    assert "pages in" in first.communicate(timeout=120)[0]
    second = chainrule(checkout, "learn", "--build-only")
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 0
    assert "Building" not in said


def test_a_warning_fails_a_strict_build_and_not_a_reader(checkout):
    write(checkout, {"NOTATION.md": "# Notation\n\nSee [nothing](none.md).\n"})
    reader = chainrule(checkout, "learn", "--build-only")
    assert "NOTATION.md:3" in reader.communicate(timeout=120)[1]
    assert reader.returncode == 0
    strict = chainrule(checkout, "learn", "--build-only", "--strict")
    assert strict.communicate(timeout=120)[1].endswith("say which file and line\n")
    assert strict.returncode == 2


def test_the_next_free_port_is_taken(tmp_path):
    with open_server(tmp_path) as first, open_server(tmp_path) as second:
        assert 8000 <= first.server_port < second.server_port < 8050
        assert second.server_address[0] == "127.0.0.1"


def test_a_port_asked_for_and_taken_is_one_clear_line(checkout):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = chainrule(checkout, "learn", "--no-browser", "--port", str(port))
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert errors == (
        f"chainrule: port {port} is taken or not allowed: give another --port, or none\n"
    )


def test_a_window_opens_only_where_there_is_a_desktop(monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    assert not serve._open_browser("http://127.0.0.1:1/")
    monkeypatch.setenv("DISPLAY", ":0")
    assert serve._open_browser("http://127.0.0.1:1/")
    assert opened == ["http://127.0.0.1:1/"]


def test_only_this_machine_is_answered_and_no_folder_is_listed(tmp_path):
    (tmp_path / "index.html").write_text("home")
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "a.css").write_text("a {}")
    with open_server(tmp_path) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

        def status(path: str, *hosts: str) -> int:
            connection = HTTPConnection("127.0.0.1", server.server_port, timeout=20)
            connection.putrequest("GET", path, skip_host=True)
            for host in hosts:
                connection.putheader("Host", host)
            connection.endheaders()
            return connection.getresponse().status

        port = server.server_port
        for host in (f"127.0.0.1:{port}", f"localhost:{port}", "127.0.0.1", "LOCALHOST"):
            assert status("/", host) == 200
            assert status("/_static/a.css", host) == 200
            assert status("/_static/", host) == 404
            assert status("/_static", host) in (301, 404)
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "", "::1"):
            assert status("/", host) == 421
        assert status("/") == 200  # HTTP/1.0 names no host
        server.shutdown()


def test_a_port_that_does_not_exist(checkout):
    process = chainrule(checkout, "learn", "--port", "70000")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "--port': Input should be less than or equal to 65535; see: " in errors


def test_outside_a_checkout_the_carried_course_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert manifest.open_course().root == REPOSITORY
    monkeypatch.setattr(manifest, "PACKAGE", tmp_path / "src" / "chainrule")
    with pytest.raises(
        CourseError, match=r"no course.toml in .* or above: run this inside"
    ) as said:
        manifest.open_course()
    assert "--root" not in str(said.value)
