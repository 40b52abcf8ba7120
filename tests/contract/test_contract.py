"""Every check on every backend, kernel and type."""

import pytest

from . import (
    checks_draw,
    checks_law,
    checks_layout,
    checks_place,
    checks_values,
)
from .kinds import over_checks, over_kinds, over_numpy_kinds

EVERYWHERE = (checks_draw, checks_law, checks_place, checks_values)


@pytest.mark.one_in(5)
@over_kinds
@over_checks([check for room in EVERYWHERE for check in room.CHECKS])
def test_on_every_kind(kind, check):
    if check.__name__ in getattr(kind, "left_out", ()):
        pytest.skip("minutes of compiling; windows_are_the_published_ones and others ask the same")
    with kind.in_use():
        check(kind)


@over_numpy_kinds
@over_checks(checks_layout.CHECKS)
def test_on_numpy(kind, check):
    with kind.in_use():
        check(kind)
