"""Serve the built site on this machine, and on this machine only."""

from __future__ import annotations

import os
import signal
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from chainrule.program import UsageError

HOST = "127.0.0.1"
PORTS = range(8000, 8050)  # of which the first free one is taken


class _Quiet(SimpleHTTPRequestHandler):
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}

    def parse_request(self) -> bool:
        """Answer those alone who ask for this machine: no page elsewhere reads what is here."""
        if not super().parse_request():
            return False
        host = self.headers.get("Host", HOST).rsplit(":", 1)[0].casefold()
        if host in (HOST, "localhost"):
            return True
        self.send_error(HTTPStatus.MISDIRECTED_REQUEST, f"this server answers {HOST} alone")
        return False

    def list_directory(self, path) -> None:
        """No folder is listed."""
        self.send_error(HTTPStatus.NOT_FOUND, "File not found")

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
    """A server for a folder: on ``port``, or on the first of `PORTS` that is free.

    Raises:
        UsageError: the port that was asked for, or every one tried, is taken.
    """
    handler = partial(_Quiet, directory=str(pages))
    ports = PORTS if port is None else [port]
    for candidate in ports:
        with suppress(OSError):
            return _Server((HOST, candidate), handler)
    raise UsageError(f"port {ports[0]} is taken or not allowed: give another --port, or none")


def serve(server: ThreadingHTTPServer, browser: bool, meanwhile: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM, then end without a word too many.

    The server has a thread of its own; ``meanwhile`` is what the program does in this one.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://{HOST}:{server.server_port}/"
        opened = browser and _open_browser(address)
        print(f"Chain Rule is at {address}" + ("" if opened else " (open it in a browser)"))
        print("Ctrl-C ends it.", flush=True)
        try:
            meanwhile()
        except OSError as error:  # this system watches no more files
            print(f"chainrule: {error}", flush=True)
            threading.Event().wait()
    print("\nEnded.")


def _open_browser(address: str) -> bool:
    """Open a window; without a desktop only a text browser is left, which takes the terminal."""
    desktop = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(desktop or not sys.platform.startswith("linux")) and webbrowser.open(address)
