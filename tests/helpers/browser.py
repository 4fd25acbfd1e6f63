"""A headless Chromium, driven through its DevTools protocol over a pair of pipes.

No driver and no library is needed: messages are JSON, and each ends with a zero byte.
"""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SWITCHES = (
    *("--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"),
    *("--no-first-run", "--hide-scrollbars", "--disable-dev-shm-usage", "--mute-audio"),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions"),
)


def found() -> str:
    """The path of a Chromium, "" if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), "")


class Page:
    """One page of a browser.

    `errors` are the texts of console errors and exceptions, and `requests` the addresses that the
    page asked for, without those of data: and blob:.
    """

    def __init__(self, to: int, back: int):
        self._to, self._back, self._rest, self._count = to, back, b"", 0
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._loaded = False
        self._session = ""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to one command of the protocol. Raises AssertionError if it is an error."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._count:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _read(self, seconds: float = 60.0) -> dict[str, Any]:
        """The next message; those that are events are noted."""
        deadline = time.monotonic() + seconds
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._back], [], [], max(deadline - time.monotonic(), 0))
            assert ready, "the browser does not answer"
            part = os.read(self._back, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, about: dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Network.requestWillBeSent":
            url = about["request"]["url"]
            if not url.startswith(("data:", "blob:", "about:")):
                self.requests.append(url)
        elif event == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(about["exceptionDetails"]))
        elif event == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.errors.append(about["entry"]["text"])
        elif event == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning"):
            self.errors.append(json.dumps(about["args"]))

    def open(self, path: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Opens a file in a window of this size and waits until it is loaded."""
        self.size(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self._loaded = False
        self.send("Page.navigate", url=Path(path).resolve().as_uri())
        while not self._loaded:
            self._read()
        self.settle()

    def size(self, width: int, height: int) -> None:
        """Gives the window another size; one below 500 pixels is that of a phone."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip
        self.send("Emulation.setTouchEmulationEnabled", enabled=width < 500)

    def settle(self) -> None:
        """Waits until the page has been laid out and drawn."""
        wait = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        self.evaluate(wait)

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page, as JSON; promises are awaited."""
        answer = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def place(self, selector: str) -> tuple[float, float, float, float]:
        """x, y, width and height of an element that is brought into view."""
        script = (
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; })()"
        )
        return tuple(self.evaluate(script))

    def point(self, selector: str, across: float = 0.5, down: float = 0.5) -> None:
        """Moves the mouse to a place of an element, given as shares of its width and height."""
        x, y, width, height = self.place(selector)
        where = dict(x=x + across * width, y=y + down * height)
        self.send("Input.dispatchMouseEvent", type="mouseMoved", **where)
        self.settle()

    def click(self, selector: str) -> None:
        """Clicks on the middle of an element."""
        x, y, width, height = self.place(selector)
        where = dict(x=x + width / 2, y=y + height / 2, button="left", clickCount=1)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, **where)
        self.settle()

    def touch(self, selector: str, across: float = 0.5, down: float = 0.5) -> None:
        """Taps on a place of an element."""
        x, y, width, height = self.place(selector)
        points = [dict(x=x + across * width, y=y + down * height)]
        self.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=points)
        self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        self.settle()

    def press(self, key: str) -> None:
        """Presses a key, such as "ArrowLeft"."""
        codes = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Escape": 27, "Tab": 9}
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent",
                type=kind, key=key, code=key, windowsVirtualKeyCode=codes.get(key, 0),
            )  # fmt: skip
        self.settle()

    def picture(self, whole: bool = True) -> bytes:
        """What the page looks like, as PNG: the whole of it, or what is in the window."""
        made = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(made["data"])


@contextlib.contextmanager
def page(program: str) -> Iterator[Page]:
    """A page of a browser that ends with the block."""
    reads, to = os.pipe()
    back, writes = os.pipe()
    # a process of the browser's own may still write there when the first one has ended
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # the protocol's pipes are the file descriptors 3 and 4 of the browser
        words = [program, *SWITCHES, f"--user-data-dir={profile}", "about:blank"]
        pipes = f'exec "$@" 3</dev/fd/{reads} 4>/dev/fd/{writes}'
        process = subprocess.Popen(
            ["sh", "-c", pipes, "sh", *words],
            pass_fds=(reads, writes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(reads)
        os.close(writes)
        try:
            yield Page(to, back)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(to)
            os.close(back)
