"""Machine code of the Triton that these budgets were counted with, which `make gpu-code` installs.
With another, or under its interpreter, every test here skips and says so."""

import os
from importlib.metadata import version

import pytest
from libraries import is_there

COUNTED_WITH = "3.7.1"


def _why_not():
    if not is_there("triton"):
        return "triton is not installed: make gpu-code"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return "TRITON_INTERPRET=1 compiles nothing"
    if version("triton") != COUNTED_WITH:
        return f"triton {version('triton')} is not {COUNTED_WITH}, whose code was counted"
    return None


def pytest_collection_modifyitems(items):
    here, reason = os.path.dirname(__file__), _why_not()
    for item in items:
        if reason and str(item.path).startswith(here):
            item.add_marker(pytest.mark.skip(reason=reason))


class Driver:
    """What Triton asks of a driver before a launch."""

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        from machine_code import TARGETS

        return TARGETS["sm_90"]


@pytest.fixture
def compiled(request, monkeypatch):
    """Counts the variants of the kernels that the test's file names which were compiled, and not
    run."""
    import triton

    kernels = request.module.KERNELS
    monkeypatch.setattr(triton.runtime.driver, "_active", Driver(), raising=False)
    run = triton.JITFunction.run
    monkeypatch.setattr(
        triton.JITFunction, "run", lambda self, *a, **how: run(self, *a, **{**how, "warmup": True})
    )
    for kernel in kernels:
        kernel.device_caches.clear()
    yield lambda: sum(len(kernel.device_caches[0][0]) for kernel in kernels)
    for kernel in kernels:
        kernel.device_caches.clear()
