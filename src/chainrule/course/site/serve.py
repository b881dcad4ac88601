"""Serve the built site on this machine, and on this machine only."""

from __future__ import annotations

import os
import signal
import sys
import threading
import webbrowser
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOST = "127.0.0.1"
DEFAULT_PORT = 8000
TRIES = 50


class PortError(Exception):
    """No port could be had; the message says which, and what to type."""


class _Quiet(SimpleHTTPRequestHandler):
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}

    def end_headers(self) -> None:
        # A page that was rebuilt is never shown from the browser's memory.
        self.send_header("Cache-Control", "no-cache")
        # Memory that page and worker share lets Stop end a block at once, with its names kept.
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, format: str, *arguments) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Two courses side by side must not share a port silently.
    allow_reuse_port = False

    def handle_error(self, request, client_address) -> None:
        """A browser that goes away in the middle of an answer is no error."""


def open_server(pages: Path, port: int | None = None) -> ThreadingHTTPServer:
    """A server for a folder: on ``port``, or on the first free one from 8000 upwards.

    Raises:
        PortError: the port that was asked for, or every one tried, is taken.
    """
    handler = partial(_Quiet, directory=str(pages))
    first = DEFAULT_PORT if port is None else port
    last = first + TRIES if port is None else first + 1
    for candidate in range(first, last):
        try:
            return _Server((HOST, candidate), handler)
        except OSError:
            continue
        except OverflowError:
            raise PortError(f"port {candidate} does not exist: use 1024 to 65535") from None
    if port is None:
        raise PortError(f"ports {first} to {last - 1} are all taken: free one, or give --port")
    raise PortError(f"port {port} is taken or not allowed: give another --port, or none")


def serve(
    server: ThreadingHTTPServer,
    *,
    browser: bool = True,
    watch: Callable[[threading.Event], None] | None = None,
) -> None:
    """Serve until Ctrl-C or SIGTERM, then end without a word too many.

    ``watch`` runs beside the server, in its own thread, until the event is set.
    """
    ended = threading.Event()

    def end(*_) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})]
    if watch is not None:
        threads.append(threading.Thread(target=watch, args=(ended,)))
    for thread in threads:
        thread.daemon = True
        thread.start()
    address = f"http://{HOST}:{server.server_port}/"
    opened = browser and _open_browser(address)
    print(f"Chain Rule is at {address}" + ("" if opened else " (open it in a browser)"))
    print("Ctrl-C ends it.", flush=True)
    while not ended.wait(0.5):
        pass
    server.shutdown()
    server.server_close()
    print("\nEnded.")


def _open_browser(address: str) -> bool:
    """Open a window; without a desktop only a text browser is left, which takes the terminal."""
    desktop = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not desktop:
        return False
    try:
        return webbrowser.open(address)
    except webbrowser.Error:
        return False
