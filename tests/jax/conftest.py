import pytest

import thinned
from thinned.kernel import use_kernel

FASTEST = thinned.kernel_info().runnable[-1]


@pytest.fixture(params=[FASTEST, "reference"], ids=["kernel", "pure"])
def either(request):
    """The compiled kernel by way of XLA's foreign functions, and XLA's own operations."""
    before = thinned.kernel_info().name
    use_kernel(request.param)
    yield request.param
    use_kernel(before)


@pytest.fixture
def pure():
    before = thinned.kernel_info().name
    use_kernel("reference")
    yield
    use_kernel(before)
