"""Every kernel that runs here against reference.py, bit for bit.

`against.py` says what is compared; the files of tests say over which arrays.
"""

import pytest

pytest.register_assert_rewrite(f"{__name__}.against")
