"""Central differences: the judge of every backward pass."""

import numpy as np
import pytest


@pytest.fixture
def slope():
    """slope(f, a): the gradient of the number f() by the elements of `a`, changed in place."""

    def slope(f, a, h=1e-6):
        found = np.empty(a.shape)
        for i in np.ndindex(a.shape):
            kept = a[i]
            a[i] = kept + h
            above = f()
            a[i] = kept - h
            below = f()
            a[i] = kept
            found[i] = (above - below) / (2 * h)
        return found

    return slope
