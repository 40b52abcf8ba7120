"""The report in a real browser: nothing on the console, nothing fetched, no sideways scrolling."""

import html
import re
import shutil
import socket
import subprocess
import tempfile
import threading
from contextlib import contextmanager

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((path for name in NAMES if (path := shutil.which(name))), None)

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium on this machine: the report is not opened in a browser"
)

QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--enable-logging=stderr",
]
# What Chromium asks for on its own account, whatever page is open.
ITS_OWN = re.compile(rb"^\S+ (?:https?://)?[\w.-]*\b(?:google|googleapis|gvt1|gstatic)\.com[:/]")


@contextmanager
def nowhere():
    """A proxy that answers nothing and keeps what it was asked for."""
    asked = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:  # closed
                return
            with connection:
                connection.settimeout(5)
                try:
                    asked.append(connection.recv(4096).split(b"\r\n")[0])
                    connection.sendall(b"HTTP/1.1 502 no\r\nContent-Length: 0\r\n\r\n")
                except OSError:
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1], asked
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(10)


def opened(path):
    """The page after loading (HTML), what its console says, and what it asks the network for."""
    with nowhere() as (port, asked), tempfile.TemporaryDirectory() as profile:
        own = (f"--user-data-dir={profile}", f"--proxy-server=127.0.0.1:{port}")
        done = subprocess.run(
            [BROWSER, *QUIET, *own, "--window-size=1000,800", "--dump-dom", path.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    # A connection opened ahead of need, and never used, asks for nothing.
    return done.stdout, console, [line for line in asked if line and not ITS_OWN.match(line)]


def overflow(report, width, tmp_path):
    """By how many pixels the report is wider than a window of this width."""
    # A window of Chromium's is at least 500 wide; a frame may be as narrow as a phone.
    path = tmp_path / f"frame-{width}.html"
    path.write_text(
        f'<!DOCTYPE html><body><iframe id="phone" style="width:{width}px;height:800px;border:0" '
        f'srcdoc="{html.escape(report)}"></iframe><script>addEventListener("load", () => {{'
        'const page = document.getElementById("phone").contentDocument.documentElement;'
        'document.body.dataset.wide = page.scrollWidth + " " + page.clientWidth;'
        "})</script></body>",
        encoding="utf-8",
    )
    dom, console, _ = opened(path)
    assert console == []
    found = re.search(r'data-wide="(\d+) (\d+)"', dom)
    assert found, "the frame was not measured"
    wide, window = map(int, found.groups())
    assert width - 20 <= window <= width
    return wide - window


@pytest.mark.one_in(2)
@pytest.mark.parametrize("which", ["digits", "patients"])
def test_the_report_opens_without_a_word_and_without_the_network(which, request):
    fitted = request.getfixturevalue(which)
    dom, console, asked = opened(fitted.folder / "report.html")
    assert "<h1" in dom
    assert "</html>" in dom
    assert console == []
    assert asked == []


def test_a_broken_page_is_caught(tmp_path):
    path = tmp_path / "broken.html"
    path.write_text(
        '<!DOCTYPE html><img src="http://example.invalid/x.png">'
        "<script>throw new Error('planted')</script>"
    )
    _, console, asked = opened(path)
    assert any("planted" in line for line in console)
    assert asked == [b"GET http://example.invalid/x.png HTTP/1.1"]


@pytest.mark.long
def test_the_reports_policy_stops_what_slips_in(digits, tmp_path):
    path = tmp_path / "slipped.html"
    slipped = '<img src="http://example.invalid/x.png"><script>document.title = "ran"</script>'
    path.write_text(digits.report.replace("</main>", f"{slipped}</main>"), encoding="utf-8")
    dom, console, asked = opened(path)
    assert asked == []
    assert "<title>ran" not in dom
    assert len(console) == 2  # and the console says so, which the test above would not let pass


@pytest.mark.parametrize("which", ["digits", "patients"])
@pytest.mark.one_in(4)
def test_a_phone_does_not_scroll_sideways(which, request, tmp_path):
    report = request.getfixturevalue(which).report
    assert overflow(report, 360, tmp_path) <= 0


def test_sideways_scrolling_is_caught(digits, tmp_path):
    wide = digits.report.replace("</main>", '<div style="width:900px">wide</div></main>')
    assert overflow(wide, 360, tmp_path) > 400
