"""Sparse arrays: what they store, and where that lies in the dense array."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from thinned.backends.base import device_of
from thinned.checks import message

__all__ = ["Stored", "is_sparse", "stored_in"]


def is_sparse(x: Any) -> bool:
    """Whether x is a sparse array of SciPy's, a sparse tensor of PyTorch's or a JAXSparse, of
    whichever is loaded already."""
    torch, scipy = sys.modules.get("torch"), sys.modules.get("scipy.sparse")
    jax = sys.modules.get("jax.experimental.sparse")
    if torch is not None and isinstance(x, torch.Tensor):
        return x.layout is not torch.strided and not x.is_nested
    if scipy is not None and scipy.issparse(x):
        return True
    return jax is not None and isinstance(x, jax.JAXSparse)


class Stored(NamedTuple):
    """The stored entries of a sparse array: values, shape (entries, ...), where dense axes follow
    the sparse ones; an array of coordinates for each sparse axis; and what puts other values in
    their place."""

    values: Any
    coordinates: tuple[Any, ...]
    with_values: Callable[[Any], Any]

    def indices(self, xp: Any, place: Any) -> Any:
        """The index of each entry's draw, in the shape of the values: that of its dense element."""
        device = device_of(self.values)
        index = xp.full(self.values.shape[:1], 0, dtype=xp.int64, device=device) + place.offset
        sparse = len(self.coordinates)
        for i, stride in zip(self.coordinates, place.strides[:sparse], strict=True):
            index = index + xp.astype(i, xp.int64) * stride
        for n, stride in zip(self.values.shape[1:], place.strides[sparse:], strict=True):
            index = index[..., None] + xp.arange(n, dtype=xp.int64, device=device) * stride
        return index

    def at_entries(self, xp: Any, array: Any, axes: int) -> Any:
        """Of a dense array that broadcasts to the whole of so many axes the element of each entry;
        what is no array, or has no axes, as it is."""
        if not getattr(array, "ndim", 0):
            return array
        array = xp.reshape(array, (1,) * (axes - array.ndim) + tuple(array.shape))
        sparse = zip(self.coordinates, array.shape[: len(self.coordinates)], strict=True)
        return array[tuple(xp.astype(i, xp.int64) * int(n != 1) for i, n in sparse)]


def stored_in(who: str, x: Any) -> Stored:
    """TypeError for a form of which this is not known."""
    torch, scipy = sys.modules.get("torch"), sys.modules.get("scipy.sparse")
    if torch is not None and isinstance(x, torch.Tensor):
        return _of_torch(who, x, torch)
    if scipy is not None and scipy.issparse(x):
        coo = x.tocoo()
        places = coo.coords if hasattr(coo, "coords") else (coo.row, coo.col)

        def of_scipy(values: Any) -> Any:
            made = type(coo)((values, tuple(places)), shape=coo.shape)
            return made.asformat(x.format)

        return Stored(coo.data, tuple(places), of_scipy)
    return _of_jax(who, x, sys.modules["jax.experimental.sparse"])


def _of_torch(who: str, x: Any, torch: Any) -> Stored:
    if x.layout is torch.sparse_coo:
        x = x.coalesce()
        places, shape = x.indices(), x.shape

        def of_coo(values: Any) -> Any:
            return torch.sparse_coo_tensor(
                places, values, shape, is_coalesced=True, check_invariants=False
            )

        return Stored(x.values(), tuple(places), of_coo)
    by_rows = x.layout is torch.sparse_csr
    if not (by_rows or x.layout is torch.sparse_csc) or x.dim() != 2:
        got = f"{str(x.layout).removeprefix('torch.')} of {x.dim()} axes"
        remedy = "Convert it: x.to_sparse_coo()."
        raise TypeError(message(who, "x", "sparse as COO, or CSR or CSC of two axes", got, remedy))
    ends = x.crow_indices() if by_rows else x.ccol_indices()
    inner = x.col_indices() if by_rows else x.row_indices()
    outer = torch.repeat_interleave(
        torch.arange(ends.numel() - 1, device=ends.device), ends.diff(), output_size=inner.numel()
    )
    make = torch.sparse_csr_tensor if by_rows else torch.sparse_csc_tensor

    def of_compressed(values: Any) -> Any:
        return make(ends, inner, values, x.shape, check_invariants=False)

    return Stored(x.values(), (outer, inner) if by_rows else (inner, outer), of_compressed)


def _of_jax(who: str, x: Any, sparse: Any) -> Stored:
    if not isinstance(x, (sparse.BCOO, sparse.BCSR)) or x.n_batch:
        got = type(x).__name__ + (" with axes of a batch" if getattr(x, "n_batch", 0) else "")
        raise TypeError(message(who, "x", "a BCOO or BCSR without axes of a batch", got))
    if isinstance(x, sparse.BCSR):
        coo = x.to_bcoo()
        places = tuple(coo.indices[:, i] for i in range(coo.n_sparse))

        def of_bcsr(values: Any) -> Any:
            return sparse.BCSR((values, x.indices, x.indptr), shape=x.shape)

        return Stored(x.data, places, of_bcsr)
    flags = {"indices_sorted": x.indices_sorted, "unique_indices": x.unique_indices}

    def of_bcoo(values: Any) -> Any:
        return sparse.BCOO((values, x.indices), shape=x.shape, **flags)

    return Stored(x.data, tuple(x.indices[:, i] for i in range(x.n_sparse)), of_bcoo)
