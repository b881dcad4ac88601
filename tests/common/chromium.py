"""Debian's Chromium, headless, spoken to in its own protocol: what a page did, and what it is."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from websocket import create_connection

from chainrule.course.site.serve import open_server

MISSING = "Chromium is missing; type: sudo apt-get install chromium"
LOCAL = ("data:", "blob:", "about:", "chrome:")

FAULTS = Path(__file__).with_name("page_faults.js").read_text(encoding="utf-8")


class Chromium:
    """One browser with one tab."""

    def __init__(self):
        program = os.environ.get("CHROMIUM") or shutil.which("chromium")
        program = program or shutil.which("google-chrome")
        if program is None:
            if os.environ.get("CI"):
                pytest.fail(MISSING)
            pytest.skip(MISSING)
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        options += ["--disable-background-networking", "--disable-component-update"]
        options += ["--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-port=0"]
        self.process = subprocess.Popen(
            [program, *options, f"--user-data-dir={self.folder.name}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port = self._port()
        with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
            tab = next(each for each in json.load(answer) if each["type"] == "page")
        self.socket = create_connection(
            tab["webSocketDebuggerUrl"], timeout=60, suppress_origin=True
        )
        self.number = 0
        self.events: list[dict] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def _port(self) -> int:
        told = Path(self.folder.name) / "DevToolsActivePort"
        for _ in range(600):
            if told.is_file() and told.read_text().strip():
                return int(told.read_text().split()[0])
            time.sleep(0.1)
        raise RuntimeError("Chromium did not start within a minute")

    def _receive(self) -> dict:
        message = json.loads(self.socket.recv())
        if "method" in message:
            self.events.append(message)
        return message

    def call(self, method: str, **parameters) -> dict:
        """Send one command and wait for its answer."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = self._receive()
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]

    def run(self, script: str):
        """The value of an expression of JavaScript, awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def look(self, width: int = 1280, scheme: str = "light", height: int = 900) -> None:
        """Set the width of the window and the colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 700,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def open(self, address: str) -> None:
        """Load a page and wait until it is loaded."""
        self.events.clear()
        self.call("Page.navigate", url=address)
        self.wait_for("Page.loadEventFired")

    def reload(self) -> None:
        """Load the page again and wait until it is loaded.

        The browser's own command: after a script's ``location.reload()`` the old page still
        answers for a while, and a question asked in that while is lost.
        """
        self.events.clear()
        self.call("Page.reload")
        self.wait_for("Page.loadEventFired")

    def wait_for(self, event: str) -> None:
        """Wait until an event came since the last `open`."""
        while not any(each["method"] == event for each in self.events):
            self._receive()

    def until(self, script: str, seconds: float = 10):
        """The first truthy value of an expression."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = self.run(script)
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"never true within {seconds} s: {script}")

    def faults(self, address: str) -> list[str]:
        """Load a page and say all that is wrong with it."""
        self.open(address)
        return self.faults_now(address)

    def faults_now(self, address: str) -> list[str]:
        """Say all that is wrong with the page of this address as it stands."""
        faults = list(self.run(FAULTS))
        home = urlsplit(address).netloc
        for event in self.events:
            method, detail = event["method"], event["params"]
            if method == "Network.requestWillBeSent":
                asked = detail["request"]["url"]
                if not asked.startswith(LOCAL) and urlsplit(asked).netloc != home:
                    faults.append(f"request off the machine: {asked}")
            elif method == "Runtime.exceptionThrown":
                faults.append(f"exception: {detail['exceptionDetails']}")
            elif method == "Runtime.consoleAPICalled" and detail["type"] in ("error", "warning"):
                faults.append(f"console: {[each.get('value') for each in detail['args']]}")
            elif method == "Log.entryAdded" and detail["entry"]["level"] == "error":
                entry = detail["entry"]
                faults.append(f"log: {entry['text']} {entry.get('url', '')}")
        return faults

    def press(self, key: str) -> None:
        """Press and release one key."""
        codes = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowRight": 39}
        key = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        text = {"text": "\r"} if key["key"] == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    def picture(self, path: Path, whole: bool = True) -> None:
        """Store what is seen as PNG; ``whole``: the page from top to bottom."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """End the browser."""
        self.socket.close()
        self.process.terminate()
        self.process.wait(timeout=20)
        self.folder.cleanup()


@pytest.fixture(scope="module")
def browser():
    """Chromium, for the tests of one file."""
    browser = Chromium()
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def serve():
    """A function that serves a folder of pages and returns its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(pages: Path) -> str:
        server = open_server(pages, 0)
        servers.append(server)
        threading.Thread(target=partial(server.serve_forever, 0.05), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
