"""Minibatches: an epoch's rows, in an order that has an address as everything drawn has."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from thinned import checks
from thinned.address import Address
from thinned.backends.base import Draw, Located
from thinned.backends.numpy import backend

__all__ = ["batches"]


def batches(n: int, size: int, at: Address | None) -> Iterator[NDArray[np.intp]]:
    """The row numbers of one epoch, a batch at a time.

    Parameters
    ----------
    n : int >= 0. Rows in the data.
    size : int >= 1. Rows in a batch; the last one has what is left.
    at : Address, or None. Where the order is drawn: rows go by their random words. Give each epoch
        a step of its own. None leaves the rows as they stand.

    Yields
    ------
    array of row numbers; over an epoch each row comes once.

    Raises
    ------
    ValueError if a number is out of range. TypeError if it is no integer.

    Examples
    --------
    >>> [rows.tolist() for rows in batches(5, 2, at=None)]
    [[0, 1], [2, 3], [4]]
    """
    n = checks.integer("batches", "n", n, 0, 2**42)
    size = checks.integer("batches", "size", size, 1, 2**63)
    order = np.arange(n, dtype=np.intp)
    if at is not None:
        located = Located.checked("batches", at, None)
        words = backend.words(Draw(located.at, 0, located.place("batches", (n,), (n,), ())))
        # Stable, so that two rows with equal words keep their order and the epoch stays one answer.
        order = np.argsort(words, kind="stable")
    for start in range(0, n, size):
        yield order[start : start + size]
