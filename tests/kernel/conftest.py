"""A test that asks for `kernel_name` runs once with each kernel that this processor can run."""

import pytest

import thinned
from thinned import _native, kernel


@pytest.fixture(autouse=True)
def as_before():
    """Kernel and threads are the process's; each test leaves them as it found them."""
    before = thinned.kernel_info()
    yield
    kernel.use_kernel(before.name)
    thinned.set_num_threads(before.threads)


@pytest.fixture(params=_native.runnable())
def kernel_name(request, as_before):
    kernel.use_kernel(request.param)
    return request.param
