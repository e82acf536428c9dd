"""A real browser without a screen: Debian's Chromium, driven by its DevTools protocol.

Chromium renders WebGL in software (SwiftShader). `websockets` comes with viser, so nothing else is needed.
"""

import base64
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

from websockets.sync.client import connect
from websockets.sync.connection import Connection

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--remote-debugging-port=0", "--hide-scrollbars", "--mute-audio"),
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"),
    *("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-dev-shm-usage", "--disable-extensions"),
)


def chromium() -> str | None:
    """The program, where it is installed."""
    return next((path for name in NAMES if (path := shutil.which(name)) is not None), None)


class Tab:
    """One page."""

    def __init__(self, socket: Connection):
        self._socket, self._number = socket, 0

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, address: str) -> None:
        self.ask("Page.enable")
        self.ask("Page.navigate", url=address)

    def value(self, expression: str) -> Any:
        """Of a JavaScript expression, a promise's once it is kept."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 60.0) -> None:
        """Until the expression is true."""
        end = time.monotonic() + seconds
        while not self.value(expression):
            if time.monotonic() > end:
                raise TimeoutError(f"{expression} did not become true in {seconds:g} s")
            time.sleep(0.2)

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def click_on(self, words: str) -> None:
        """Click the button, or what else can be pressed, that says exactly these words."""
        place = self.value(
            "(() => { const found = [...document.querySelectorAll('button, label, input')].find("
            f"node => (node.innerText || node.value || '').trim() === {json.dumps(words)});"
            "if (!found) return null; found.scrollIntoView({block: 'center'});"
            "const box = found.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        assert place is not None, f"nothing on the page says «{words}»"
        self.click(*place)

    def text(self) -> str:
        return self.value("document.body.innerText")

    def picture(self, path: pathlib.Path | None = None, quality: int | None = None) -> bytes:
        """A screenshot as PNG, or with `quality` as JPEG."""
        kind = {"format": "png"} if quality is None else {"format": "jpeg", "quality": quality}
        content = base64.b64decode(self.ask("Page.captureScreenshot", **kind)["data"])
        if path is not None:
            path.write_bytes(content)
        return content


@contextlib.contextmanager
def browser(width: int = 1280, height: int = 760) -> Iterator[Tab]:
    """A fresh Chromium with one empty page."""
    program = chromium()
    assert program is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        arguments = [program, *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank"]
        process = subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            port = _port(pathlib.Path(profile) / "DevToolsActivePort")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=20) as answer:
                (page, *_) = [target for target in json.load(answer) if target["type"] == "page"]
            with connect(page["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
                tab = Tab(socket)
                tab.ask(
                    "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
                )
                yield tab
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the group that was started here
            process.wait()


def _port(file: pathlib.Path) -> int:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if file.exists() and (lines := file.read_text().splitlines()):
            return int(lines[0])
        time.sleep(0.1)
    raise TimeoutError("Chromium did not start within a minute")
