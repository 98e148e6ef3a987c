"""Headless Chromium, driven by its DevTools protocol over two pipes: no library is needed."""

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
KEYS = {
    "Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " "), "Home": (36, ""), "End": (35, ""),
    "ArrowLeft": (37, ""), "ArrowRight": (39, ""),
}  # fmt: skip
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run",
    "--disable-extensions", "--disable-background-networking", "--hide-scrollbars",
)  # fmt: skip
START = 'exec "$0" "$@" 3<&{commands} 4>&{answers}'  # the protocol's file descriptors are 3 and 4


def find_chromium() -> str | None:
    """The path of an installed Chromium, or None; it needs bash, too."""
    found = [shutil.which(name) for name in NAMES if shutil.which("bash")]
    return next((path for path in found if path), None)


class Chromium:
    """A browser with one page.

    Args:
        program: of `find_chromium`.
        folder: for its profile.
        timeout: seconds that an answer may take.
    """

    def __init__(self, program: str, folder: Path, timeout: float = 60.0):
        self.timeout = timeout
        self.problems: list[str] = []  # exceptions, errors of the console and of the network
        self._count, self._rest = 0, b""
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        options = [*OPTIONS, f"--user-data-dir={folder}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", START.format(commands=commands, answers=answers), program, *options],
            pass_fds=(commands, answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._session: str | None = None

    def __enter__(self) -> "Chromium":
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session = None
        try:
            self.call("Browser.close")
            self._process.wait(self.timeout)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._write)
            os.close(self._read)

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """The answer to a command of the protocol; notes the problems that come before it."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self._note(answer)

    def open(self, path: Path, width: int = 1200, height: int = 900) -> None:
        """Loads a file, at a size of the window."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.call("Page.navigate", url=path.as_uri())
        deadline = time.monotonic() + self.timeout
        while self.js("document.readyState + location.href") != f"complete{path.as_uri()}":
            assert time.monotonic() < deadline, f"{path} was not loaded"
            time.sleep(0.02)

    def js(self, expression: str) -> Any:
        """The value of an expression in the page, when it is there if that is a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, times: int = 1) -> None:
        """Presses a key, as a user would."""
        code, text = KEYS[key]
        for _ in range(times):
            self.call(
                "Input.dispatchKeyEvent", type="keyDown", key=key, code=key, text=text,
                windowsVirtualKeyCode=code,
            )  # fmt: skip
            self.call(
                "Input.dispatchKeyEvent", type="keyUp", key=key, code=key,
                windowsVirtualKeyCode=code,
            )  # fmt: skip

    def point(self, selector: str, x: float = 0.5, y: float = 0.5, click: bool = False) -> None:
        """Moves the pointer into an element, to a share of its width and height."""
        box = self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const b = e.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; })()"
        )
        place = {"x": box[0] + x * box[2], "y": box[1] + y * box[3]}
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **place)
        for kind in ("mousePressed", "mouseReleased") if click else ():
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._read], [], [], self.timeout)[0], "Chromium is silent"
            more = os.read(self._read, 1 << 16)
            assert more, "Chromium has ended"
            self._rest += more
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(params["exceptionDetails"]))
        if event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(params["entry"]["text"])
        if event.get("method") == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.problems.append(str(params["args"]))
