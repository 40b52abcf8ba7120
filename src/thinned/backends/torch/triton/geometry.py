"""How an array is cut into programs: its axes in as few as say the same, and which make tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Tiling", "joined", "tiling"]

# Elements to a warp, of 4 bytes or less: more, and registers do not hold them.
ELEMENTS = 2048
# What one program of `tiles` takes of an axis that it crosses in memory: two sectors of 32 bytes.
ACROSS = 16


class Axis(NamedTuple):
    """A length, the step of the index along it, and the steps in memory of each array."""

    n: int
    step: int
    moves: tuple[int, ...]


class Tiling(NamedTuple):
    """The arguments of `dropping.tiles`: rows, columns and other axes, and the shape of a tile."""

    rows: Axis
    columns: Axis
    others: tuple[Axis, ...]
    ROWS: int
    COLUMNS: int
    MOVED: bool
    NEXT: bool

    @property
    def wide(self) -> bool:
        """Whether a tile reaches over 2^31 elements of memory or more."""
        both = zip(self.rows.moves, self.columns.moves, strict=True)
        return any(self.ROWS * i + self.COLUMNS * j >= 2**31 for i, j in both)

    @property
    def programs(self) -> int:
        tiles = -(-self.rows.n // self.ROWS) * -(-self.columns.n // self.COLUMNS)
        return tiles * math.prod([axis.n for axis in self.others])


def joined(
    shape: Sequence[int], steps: Sequence[int], arrays: Sequence[Sequence[int]]
) -> list[Axis]:
    """The axes of an array, but for those of length 1, neighbours in one where index and memory of
    all `arrays` (their strides, in elements) run on from one to the other."""
    axes: list[Axis] = []
    for n, step, *moves in zip(shape, steps, *arrays, strict=True):
        if n == 1:
            continue
        axis = Axis(n, step, tuple(moves))
        if axes and _runs_on(axes[-1], axis):
            n *= axes.pop().n
            axis = axis._replace(n=n)
        axes.append(axis)
    return axes


def _runs_on(outer: Axis, inner: Axis) -> bool:
    within = (inner.step, *inner.moves)
    around = (outer.step, *outer.moves)
    return all(a == b * inner.n for a, b in zip(around, within, strict=True))


def tiling(axes: Sequence[Axis], first: int | None, elements: int, written: int = 1) -> Tiling:
    """A tile of about `elements`. first : the index of the first element, None where it is not
    known. written : which of the arrays is written into, whose neighbours stay together."""
    dummy = Axis(1, 0, (0,) * (len(axes[0].moves) if axes else 2))
    rest = sorted(axes, key=lambda axis: abs(axis.moves[written]))
    columns = next((axis for axis in rest if axis.step == 1), dummy)
    if columns is not dummy:
        rest.remove(columns)
    rows = rest.pop(0) if rest else dummy
    along_columns = rows is dummy or abs(columns.moves[written]) < abs(rows.moves[written])
    if columns is dummy:
        width = 1
    elif along_columns:
        width = _width(columns.n, elements // 2)
    else:
        width = _width(columns.n, 128 if rows.step else max(elements // _power(rows.n), 1))
    height = min(_power(rows.n), max(elements // width, 1), 1024 if not rows.step else ELEMENTS)
    if rows.step and not along_columns:
        height = min(height, max(ACROSS, elements // width))
    starts = math.gcd(0 if first is None else first, *[axis.step for axis in (rows, *rest)])
    moved = first is None or starts % 128 != 0 or (width < columns.n and width % 128 != 0)
    within = first is not None and math.gcd(starts, width) % width == 0 and width <= 32
    following = moved and not within and width > 1
    return Tiling(rows, columns, tuple(rest), height, width, moved, following)


def _power(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length() if n > 0 else 1


def _width(n: int, most: int) -> int:
    """Columns of a tile: a power of two, at most 32 or at least 128."""
    width = min(_power(n), _power(most))
    return width if width <= 32 or width >= 128 else (128 if n > 32 and most >= 64 else 32)
