"""What every method owes on every backend and type, and proof that the suite can fail.

The checks are plain functions of a kind of array (`kinds.py`). They stand in `checks_*.py`, so that
the contract's tests and the planted faults call the same ones.
"""

import pytest

pytest.register_assert_rewrite(
    *(f"{__name__}.checks_{theme}" for theme in ("draw", "law", "place", "values", "layout"))
)
