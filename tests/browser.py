"""A headless Chromium driven over its debugging pipe with nothing but the standard library: what a page shows, asks for and complains of."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Chromium reads commands from descriptor 3 and writes answers to 4: JSON, each ended by a zero byte.
LAUNCH = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execvp(sys.argv[3], sys.argv[3:])"
WATCH = "addEventListener('securitypolicyviolation', e => console.error('POLICY ' + e.violatedDirective + ' ' + e.blockedURI))"
PATIENCE_S = 60.0


class Browser:
    """One page of a browser. `asked`: addresses it requested; `complaints`: script errors, console errors, policy violations."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers, self._left = commands, answers, b""
        self._count, self._session = 0, ""
        self.asked: list[str] = []
        self.complaints: list[str] = []

    def start(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result; what happens meanwhile is noted."""
        self._count += 1
        sent = {"id": self._count, "method": method, "params": params} | ({"sessionId": self._session} if self._session else {})
        os.write(self._commands, json.dumps(sent).encode() + b"\0")
        while True:
            heard = self._hear(PATIENCE_S)
            if heard.get("id") == self._count:
                if "error" in heard:
                    raise AssertionError(f"{method}: {heard['error']}")
                return dict(heard["result"])

    def _hear(self, patience_s: float) -> dict[str, Any]:
        until = time.monotonic() + patience_s
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise AssertionError("the browser says nothing")
            self._left += os.read(self._answers, 1 << 16)
        text, _, self._left = self._left.partition(b"\0")
        heard = dict(json.loads(text))
        self._note(heard.get("method", ""), heard.get("params", {}))
        return heard

    def _note(self, event: str, what: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.asked.append(what["request"]["url"])
        if event == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(what["exceptionDetails"].get("exception", what["exceptionDetails"]))[:400])
        if event == "Runtime.consoleAPICalled" and what["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(a.get("value", a)) for a in what["args"])[:400])
        if event == "Log.entryAdded" and what["entry"]["level"] in ("error", "warning"):
            self.complaints.append(what["entry"]["text"][:400])

    def show(self, page: Path | str, width: int = 1280, height: int = 900, dark: bool = False, scripts: bool = True) -> None:
        """Open a page at this width and wait until it is loaded and its plot, if it has one, is drawn."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.asked.clear()
        self.complaints.clear()
        self.call("Page.navigate", url=page.absolute().as_uri() if isinstance(page, Path) else page)
        self.until("document.readyState === 'complete'")
        if scripts:
            self.until("!document.querySelector('#live') || document.querySelector('#live .drawing') !== null")

    def until(self, condition: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE_S
        while not self.value(condition):
            assert time.monotonic() < end, f"never came true: {condition}; {self.complaints}"
            time.sleep(0.02)

    def value(self, expression: str) -> Any:
        """What an expression gives, as plain JSON. Works where the page's own scripts are switched off, too."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise AssertionError(f"{expression}: {found['exceptionDetails']['exception'].get('description', found)}")
        return found["result"].get("value")

    def click(self, selector: str, text: str = "") -> None:
        """A real click in the middle of the first element that fits and has this text."""
        find = f"[...document.querySelectorAll({selector!r})].find(e => e.textContent.trim() === {text!r} || !{text!r})"
        box = self.value(f"(() => {{ const e = {find}; e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect();"
                         " return [b.x + b.width / 2, b.y + b.height / 2] })()")  # fmt: skip
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)
        self.settled()

    def point(self, selector: str) -> None:
        """Move the pointer over the middle of an element."""
        box = self.value(f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView({{block: 'center'}});"
                         " const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2] })()")  # fmt: skip
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])

    def press(self, key: str) -> None:
        """One key, as `Enter` or `ArrowRight`."""
        code = {"Enter": 13, "ArrowRight": 39, "ArrowLeft": 37, "Home": 36, "End": 35, "Tab": 9, "Escape": 27}[key]
        text = {"Enter": "\r"}.get(key)
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **({"text": text} if text and kind == "keyDown" else {}))
        self.settled()

    def settled(self) -> None:
        """Let two frames go by, in which a plot is drawn anew."""
        self.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 60))))")

    def picture(self, path: Path) -> None:
        """The whole page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        taken = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile in this folder; the test is skipped where there is none."""
    program = next((p for name in NAMES if (p := shutil.which(name))), None)
    if program is None:
        pytest.skip("no chromium on this machine")
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    command = [
        sys.executable, "-c", LAUNCH, str(to_read), str(from_write), program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
        "--no-first-run", "--disable-sync", "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
        f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank",
    ]  # fmt: skip
    with (profile.parent / f"{profile.name}.log").open("w") as log:
        process = subprocess.Popen(command, pass_fds=(to_read, from_write), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    os.close(to_read)
    os.close(from_write)
    try:
        found = Browser(to_write, from_read)
        found.start()
        yield found
    finally:
        with contextlib.suppress(OSError, AssertionError):
            os.write(to_write, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        os.close(to_write)
        os.close(from_read)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
