"""CPU tensors go through the kernels in Triton, by its interpreter: what `make gpu-code` runs with
TRITON_INTERPRET=1 and THINNED_TORCH=python. Without these, every test here skips and says so."""

import os

import numpy as np
import pytest
from libraries import is_there

WANTED = {"TRITON_INTERPRET": "1", "THINNED_TORCH": "python"}
MISSING = [f"{name}={value}" for name, value in WANTED.items() if os.environ.get(name) != value]


def pytest_collection_modifyitems(items):
    here = os.path.dirname(__file__)
    if not MISSING and is_there("triton"):
        return
    what = ", ".join(MISSING) if MISSING else "triton"
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.skip(reason=f"without {what}: make gpu-code"))


def nearest_bfloat16(x):
    """Bits of the nearest bfloat16, ties to even, which is what devices do."""
    bits = x.view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(x), bits >> 16 | 0x40, rounded).astype(np.uint16)


@pytest.fixture(scope="session")
def rounding():
    """Triton's interpreter cuts float32 off where it makes bfloat16 of it. Devices round, and so
    does the interpreter under these tests; that machine code rounds is looked up in it."""
    from triton.runtime import interpreter

    cut = interpreter._convert_float

    def convert(data, source, target, mode):
        if source.name == "fp32" and target.name == "bf16":
            return nearest_bfloat16(np.ascontiguousarray(data, np.float32))
        return cut(data, source, target, mode)

    interpreter._convert_float = convert
    yield
    interpreter._convert_float = cut


@pytest.fixture
def on_cpu(monkeypatch):
    """Calls a function with the C++ kernel in the place of Triton's."""
    from thinned.backends.torch import devices

    def call(function):
        with monkeypatch.context() as patch:
            patch.setattr(devices, "_interpreting", False)
            return function()

    return call


@pytest.fixture(autouse=True)
def interpreted(rounding):
    from thinned.backends.torch import devices

    with devices.interpreted():
        yield
