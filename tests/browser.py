"""A headless Chromium, spoken to over a pipe in the DevTools protocol: no driver, no network port."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

NAMES = ("chromium-headless-shell", "chromium", "google-chrome", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu-sandbox", "--remote-debugging-pipe", "--enable-unsafe-swiftshader",
    "--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
)  # fmt: skip


def executable():
    """The browser's path, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One browser with one page at a time."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()

        def pipes():  # the protocol's file descriptors are 3 and 4
            os.dup2(to_browser, 63)
            os.dup2(from_browser, 64)
            os.dup2(63, 3)
            os.dup2(64, 4)

        self._process = subprocess.Popen(
            [executable(), *FLAGS, f"--user-data-dir={self._folder.name}"],
            preexec_fn=pipes, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._number = b"", 0
        self.opened = None
        self.messages = []  # what the page has written to the console, and its exceptions
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def close(self):
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._folder.cleanup()

    def call(self, method, **parameters):
        """A command of the protocol to the page."""
        return self._call(method, parameters, self._session)

    def _call(self, method, parameters, session=None):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            if answer.get("method") == "Runtime.exceptionThrown":
                self.messages.append(answer["params"]["exceptionDetails"])
            elif answer.get("method") in ("Log.entryAdded", "Runtime.consoleAPICalled"):
                self.messages.append(answer["params"])

    def _receive(self):
        while b"\0" not in self._buffer:
            chunk = os.read(self._read, 1 << 20)
            if not chunk:
                raise RuntimeError("the browser has ended")
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, path, width=700, height=520, touch=False, scale=1):
        """Opens a file and waits until it has loaded or says that it cannot; -> 'ready' or 'error'."""
        self.messages.clear()
        self.opened = path
        self.size(width, height, touch, scale)
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            state = self.js("location.protocol === 'file:' ? document.body?.dataset.state : 'loading'")
            if state in ("ready", "error"):
                return state
            time.sleep(0.02)
        raise TimeoutError(f"{path} is still loading: {self.messages}")

    def size(self, width, height, touch=False, scale=1):
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=touch
        )

    def js(self, expression):
        """The value of an expression in the page, awaited where it is a promise."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description", answer))
        return answer["result"].get("value")

    def mouse(self, kind, x, y, **more):
        """kind: Pressed, Moved, Released or Wheel; CSS pixels."""
        button = {"button": "left", "buttons": 0 if kind == "Released" else 1, "clickCount": 1}
        button = {} if kind == "Wheel" else button
        self.call("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **button, **more)

    def key(self, key):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, text=key if kind == "keyDown" else "")

    def screenshot(self, path=None):
        """The page as PNG bytes; written to a path if there is one."""
        content = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        if path:
            Path(path).write_bytes(content)
        return content


def actions_in_page(browser, file, observations):
    """Actions [N, A] that an open demo.html's reader gives for the bytes of a .tflite file and observations [N, O]."""
    return np.array(
        browser.js(f"""(() => {{
            const policy = new Policy(fromBase64({base64.b64encode(file).decode()!r}));
            return {observations.tolist()}.map((x) => Array.from(policy.run(x)));
        }})()""")
    )
