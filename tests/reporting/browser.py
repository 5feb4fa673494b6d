"""A headless Chromium, driven through its DevTools pipe; no package is needed for that.

Messages are JSON, each ended by a zero byte; the browser reads them at file descriptor 3 and writes
its own at 4.
"""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Puts the two ends of the pipes where the browser expects them, then becomes the browser. High
# numbers first, as one of the pipes may be 3 or 4 already.
_LAUNCHER = """
import os, sys
read, write = (os.dup(int(n)) for n in sys.argv[1:3])
high = [os.dup2(end, 100 + i) for i, end in enumerate((read, write))]
os.dup2(high[0], 3)
os.dup2(high[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""

_KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "Escape": 27, "Tab": 9, "Enter": 13, " ": 32}


def find_program():
    """Return the path of a browser, or None."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """One page. What it complains about (errors, exceptions, refused requests) is kept."""

    def __init__(self, program, profile):
        read, self._out = os.pipe()
        self._in, write = os.pipe()
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        flags += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "--disable-extensions"]
        flags += ["--disable-background-networking", "--disable-dev-shm-usage"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCHER, str(read), str(write), program, *flags],
            pass_fds=(read, write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read)
        os.close(write)
        self._number, self._rest, self._events = 0, b"", []
        self._session = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def close(self):
        try:
            self._session = None
            self.send("Browser.close")
            with contextlib.suppress(subprocess.TimeoutExpired):  # on a busy machine: it is killed
                self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._in)
            os.close(self._out)

    def send(self, method, **parameters):
        """Send a command and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._events.append(answer)

    def open(self, address):
        """Load a page, from scratch also where only the fragment differs."""
        self.send("Page.navigate", url="about:blank")
        self.complaints(), self.requests()
        self._events.clear()
        self.send("Page.navigate", url=address)
        deadline = time.monotonic() + 30
        while not any(event.get("method") == "Page.loadEventFired" for event in self._events):
            assert time.monotonic() < deadline, f"{address} does not load"
            self._events.append(self._receive())

    def run(self, code):
        """Evaluate JavaScript and return its value; promises are awaited."""
        found = self.send(
            "Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key):
        """Press and release a key."""
        text = {"Enter": "\r", " ": " "}.get(key)
        extra = {"text": text} if text else {}
        code = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key]}
        self.send("Input.dispatchKeyEvent", type="keyDown", **code, **extra)
        self.send("Input.dispatchKeyEvent", type="keyUp", **code)

    def type(self, text):
        """Type into what has the focus."""
        self.send("Input.insertText", text=text)

    def mouse(self, kind, x, y, buttons=0):
        """Send a mouse event: 'mousePressed', 'mouseMoved' or 'mouseReleased'."""
        self.send(
            "Input.dispatchMouseEvent",
            type=kind, x=x, y=y, buttons=buttons, clickCount=1,
            button="none" if kind == "mouseMoved" and not buttons else "left",
        )  # fmt: skip

    def click(self, selector):
        """Click the middle of the first element that matches."""
        x, y = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center', inline: 'center'});"
            "const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        self.mouse("mousePressed", x, y, 1)
        self.mouse("mouseReleased", x, y)

    def complaints(self):
        """Return what the console says since the page was opened: errors and warnings."""
        self.run("new Promise(done => setTimeout(done, 50))")
        found = []
        for event in self._events:
            parameters = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(str(parameters["exceptionDetails"]))
            elif event.get("method") == "Log.entryAdded":
                found.append(parameters["entry"]["text"] + " " + parameters["entry"].get("url", ""))
            elif event.get("method") == "Runtime.consoleAPICalled":
                found.append(str(parameters["args"]))
        return found

    def requests(self):
        """Return the addresses asked for since the page was opened."""
        return [
            event["params"]["request"]["url"]
            for event in self._events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def screen(self, width, height, *, scheme="light", mobile=False):
        """Set the size of the window, in pixels of CSS, and the preferred colors."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=mobile,
        )  # fmt: skip
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.send("Emulation.setEmulatedMedia", features=[feature])

    def screenshot(self):
        """Return the window's content as PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])

    def _receive(self):
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], 30)
            assert ready, "the browser does not answer"
            more = os.read(self._in, 1 << 20)
            assert more, "the browser has ended"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)
