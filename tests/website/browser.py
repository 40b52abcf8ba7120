"""Chromium without a window, spoken to through a pipe (its DevTools protocol)."""

import json
import os
import shutil
import subprocess
import tempfile
import time
import warnings
from contextlib import contextmanager

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((path for name in NAMES if (path := shutil.which(name))), None)
# How long a page may take to say something, in seconds.
PATIENCE = 60


class Browser:
    """One tab. What its pages complain about and ask the network for is kept until it is read."""

    def __init__(self, write, read):
        self._write, self._read = write, read
        self._rest, self._last, self._session = b"", 0, None
        self._loaded = False
        self.complaints, self.requests = [], []
        (target,) = (
            one for one in self.ask("Target.getTargets")["targetInfos"] if one["type"] == "page"
        )
        found = self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **parameters):
        """A command's result. AssertionError where Chromium refuses it."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            heard = self._heard()
            if heard.get("id") == self._last:
                assert "error" not in heard, heard
                return heard["result"]

    def _heard(self):
        while b"\0" not in self._rest:
            part = os.read(self._read, 1 << 20)
            assert part, "Chromium has gone"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        heard = json.loads(line)
        what, told = heard.get("method"), heard.get("params", {})
        if what == "Runtime.exceptionThrown":
            self.complaints.append(told["exceptionDetails"].get("exception", {}).get("description"))
        elif what == "Runtime.consoleAPICalled" and told["type"] in {"error", "warning"}:
            self.complaints.append(str(told["args"]))
        elif what == "Log.entryAdded" and told["entry"]["level"] in {"error", "warning"}:
            self.complaints.append(told["entry"]["text"])
        elif what == "Page.loadEventFired":
            self._loaded = True
        elif what == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        return heard

    def run(self, script):
        """The value of an expression in the page; a promise is awaited."""
        found = self.ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def open(self, address):
        """Load a page to its end, also where another part of it is open."""
        for url in ("about:blank", address):
            self._loaded = False
            self.ask("Page.navigate", url=url)
            while not self._loaded:
                self._heard()

    def until(self, script):
        """Wait until an expression is true, and return it."""
        end = time.monotonic() + PATIENCE
        while not (found := self.run(script)):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.02)
        return found

    def close(self):
        """End the browser from within, so that its other processes end before it does."""
        message = {"id": self._last + 1, "method": "Browser.close"}
        os.write(self._write, json.dumps(message).encode() + b"\0")

    def width(self, pixels):
        """As wide as a phone is, or as a window."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=pixels,
            height=800,
            deviceScaleFactor=1,
            mobile=False,
        )


@contextmanager
def browsing():
    """A browser, ended afterwards."""
    # A helper of Chromium may outlive it by a moment, and write into the profile meanwhile.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()

        def as_three_and_four():
            # Where they are not there already; copies first, since each may be the other's place.
            first, second = os.dup(theirs_in), os.dup(theirs_out)
            os.dup2(first, 3)
            os.dup2(second, 4)

        with warnings.catch_warnings():
            # JAX warns of every fork; this child does two system calls and becomes the browser.
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
            process = subprocess.Popen(
                [
                    BROWSER,
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-dev-shm-usage",
                    "--no-first-run",
                    "--disable-background-networking",
                    "--disable-component-update",
                    "--remote-debugging-pipe",
                    f"--user-data-dir={profile}",
                    "about:blank",
                ],
                preexec_fn=as_three_and_four,
                close_fds=False,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            browser = Browser(ours_out, ours_in)
            yield browser
            browser.close()
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
            os.close(ours_out)
            os.close(ours_in)
