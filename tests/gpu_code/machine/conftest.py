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
