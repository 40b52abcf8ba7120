"""The site, built once, and a browser to read it."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import libraries
import pytest

from .browser import BROWSER, browsing

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "site"


@pytest.fixture(scope="session")
def site():
    """The folder of the built site. A warning of Sphinx is an error, as for `make site`."""
    for name in ("sphinx", "myst_nb", "torch", "jax", "flax", "equinox", "haiku", "keras"):
        if not libraries.is_there(name):
            pytest.skip(libraries.reason(name))
    SITE.mkdir(parents=True, exist_ok=True)
    with (SITE.parent / "site.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Of several processes of one run the first one builds. Sphinx writes styles anew whatever
        # has changed, and another process may have a page open just then.
        run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
        lock.seek(0)
        if run is not None and lock.read() == run:
            return SITE
        done = subprocess.run(
            [
                *(sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-j", "2"),
                *("-b", "html", "-c", ROOT / "docs" / "site", ROOT / "docs", SITE),
            ],
            capture_output=True,
            text=True,
            # The pages tell of this checkout, whatever is installed.
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        )
        if done.returncode != 0:
            shutil.rmtree(SITE)  # of a page that stays as it is no warning is repeated
            pytest.fail(done.stdout + done.stderr)
        lock.truncate(0)
        lock.write(run or "")
    return SITE


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip("no Chromium on this machine: the site is not opened in a browser")
    with browsing() as one:
        yield one
