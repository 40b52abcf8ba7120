"""From moment, site and call to address and window: one answer for eager and compiled."""

from __future__ import annotations

from functools import lru_cache

from thinned.address import Address, address_of_seed
from thinned.philox import fold_in
from thinned.torch.clock.numbers import clock_by_number
from thinned.torch.clock.ranks import CHOICES, UNSAID
from thinned.torch.clock.reading import Moment
from thinned.torch.compat.shard import Shard
from thinned.window import Window

__all__ = ["NO_ROWS", "address_of", "window_of"]

# In place of an axis: the array belongs to the whole batch, as a weight does.
NO_ROWS = -2

_SPLIT, _INDEPENDENT = CHOICES.index("split"), CHOICES.index("independent")

_fold_in = lru_cache(maxsize=64)(fold_in)


def _plain(moment: Moment, shard: Shard | None) -> bool:
    """Whether processes may hold different data of which this array itself says nothing."""
    return moment.ranks.world > 1 and not (shard is not None and shard.covers)


def address_of(
    moment: Moment, site: int, call: int, shard: Shard | None, name: str | None = None
) -> Address:
    """The address; where ranks are independent, of a seed of this rank's own. name : the site's."""
    seed = moment.seed
    if _plain(moment, shard) and moment.ranks.kind == _INDEPENDENT:
        seed = _fold_in(seed, moment.ranks.rank)
    return address_of_seed(seed, site, moment.step, call, name)


def window_of(
    name: str, moment: Moment, shape: tuple[int, ...], axis: int, shard: Shard | None
) -> Window | None:
    """The window of a local array of `shape`, the rows of the batch lying on `axis` (-1: nowhere).

    Every piece of a batch, and every process, draws for the whole of an array with NO_ROWS.
    RuntimeError where a split cannot know its place.
    """
    plain = _plain(moment, shard)
    if plain and moment.ranks.kind == UNSAID and moment.start < 0:
        raise RuntimeError(
            f"thinned: site {name!r} is called on one of {moment.ranks.world} processes, and "
            "nothing says what each of them holds. Adopt the model with ranks='split' (equal parts "
            "of one batch), 'independent' (a mask of its own for each) or 'replicated' (the same "
            "data on each), or say which rows these are: with clock.piece(start)."
        )
    in_piece, split = moment.start >= 0, plain and moment.ranks.kind == _SPLIT
    if axis == NO_ROWS or (not in_piece and not split):
        return None if shard is None else Window(shard.start, shard.shape)
    whole = list(shape if shard is None else shard.shape)
    start = [0] * len(shape) if shard is None else list(shard.start)
    if not 0 <= axis < len(shape):
        raise RuntimeError(
            f"thinned: site {name!r} draws for an array of shape {shape} in which the rows of the "
            "batch lie along no axis (packed or without a batch): it cannot be a piece of one."
        )
    rows = whole[axis]
    if in_piece:
        first, total = _scaled(name, moment, rows), moment.of
        total = -1 if total < 0 else total * (rows // moment.rows if moment.rows > 0 else 1)
    else:
        _require_even(name, moment, rows)
        first, total = moment.ranks.rank * rows, moment.ranks.size * rows
    start[axis] += first
    if axis == 0:
        return Window(tuple(start), (first + rows, *whole[1:]))
    if total < 0:
        raise RuntimeError(
            f"thinned: the rows of site {name!r} lie on axis {axis} (batch_first=False), where the "
            "length of the whole batch enters the mask. Say it: clock.piece(start, of=rows)."
        )
    whole[axis] = total
    return Window(tuple(start), tuple(whole))


def _require_even(name: str, moment: Moment, rows: int) -> None:
    """RuntimeError where ranks="split" meets parts of different sizes.

    Asked once for each clock, on its first call, which all processes make together. To ask on every
    call would make every draw wait for all processes, and for ever for one that has run out of
    batches.
    """
    clock = clock_by_number(moment.clock)
    if clock is None or clock.even:
        return
    sizes = clock.rows_of_all(moment.seed, name, rows)
    if sizes is not None and len(set(sizes)) > 1:
        raise RuntimeError(
            f"thinned: ranks='split' needs parts of equal sizes, got {sizes} entries along the "
            f"rows' axis at site {name!r}. Say which rows these are: with clock.piece(start)."
        )


def _require_alike(name: str, moment: Moment, rows: int) -> None:
    """RuntimeError where arrays of one piece have different numbers of entries along the rows'
    axis, so that one start cannot be right for all of them. In the first piece it is."""
    clock = clock_by_number(moment.clock)
    if clock is None or moment.start == 0:
        return
    if clock.entries is None or clock.entries[0] != moment.epoch:
        clock.entries = (moment.epoch, name, rows)
    _, site, known = clock.entries
    if known != rows:
        raise RuntimeError(
            f"thinned: in clock.piece({moment.start}) site {name!r} has {rows} entries along the "
            f"axis of the rows, and site {site!r} has {known}. Say how many rows the piece has: "
            f"clock.piece({moment.start}, rows=...)."
        )


def _scaled(name: str, moment: Moment, rows: int) -> int:
    """The first entry along the rows' axis, which may hold several entries to a row."""
    if moment.rows < 0:
        _require_alike(name, moment, rows)
        return moment.start
    if rows % moment.rows:
        raise RuntimeError(
            f"thinned: site {name!r} has {rows} entries along its leading axis, which are no "
            f"multiple of the piece's {moment.rows} rows."
        )
    return moment.start * (rows // moment.rows)
