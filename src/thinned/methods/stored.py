"""Dropout on arrays that hold their numbers in others: sparse arrays, complex ones."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from thinned import checks, reference
from thinned.backends import backend_of
from thinned.checks import message
from thinned.methods.draws import NO_P, Draws
from thinned.methods.placing import draw_for
from thinned.methods.varying import require_countable

__all__ = ["dropout_of_parts", "dropout_of_values", "is_sparse"]


def dropout_of_parts(
    apply_noise: Callable[..., Any], who: str, x: Any, p: Any, at: Any, training: Any,
    shared_axes: Any, window: Any, mirror: Any, out: Any,
) -> Any:  # fmt: skip
    """Dropout of complex numbers: of both parts at one address, so by one mask."""
    backend = backend_of(who, x)
    backend.require_dense(who, x, "x")
    if out is not None:
        remedy = "Take what is returned."
        raise TypeError(message(who, "out", "None for complex numbers", "an array", remedy))
    xp, given = backend.namespace, backend.plain(x)
    how: Any = {"training": training, "shared_axes": shared_axes, "window": window}
    parts = [apply_noise(who, f(given), p, at, mirror=mirror, **how) for f in (xp.real, xp.imag)]
    return backend.complex_of(*parts) if training else x


# ------------------------------------------------------------------------------------------- sparse


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


def dropout_of_values(
    who: str, x: Any, p: Any, at: Any, training: Any, shared_axes: Any, window: Any, mirror: Any,
    out: Any,
) -> Any:  # fmt: skip
    """Dropout of the stored entries of x: each takes the draw that it has in the dense array."""
    if out is not None:
        remedy = "Take what is returned."
        raise TypeError(message(who, "out", "None for a sparse x", "an array", remedy))
    values, coordinates, with_values = stored_in(who, x)
    backend = backend_of(who, values)
    backend.require_floating(who, values)
    if getattr(p, "ndim", 0):
        raise TypeError(message(who, "p", "one number for a sparse x", f"shape {tuple(p.shape)}"))
    draw = draw_for(who, tuple(x.shape), p, at, shared_axes, window, mirror, backend)
    if training is not True and not checks.flag(who, "training", training):
        return x
    xp, place = backend.namespace, draw.place
    require_countable(who, xp, place)
    device = getattr(values, "device", None)
    index = xp.full(values.shape[:1], place.offset, dtype=xp.int64, device=device)
    strides = place.strides
    for i, stride in zip(coordinates, strides[: len(coordinates)], strict=True):
        index = index + xp.astype(i, xp.int64) * stride
    for n, stride in zip(values.shape[1:], strides[len(coordinates) :], strict=True):
        index = index[..., None] + xp.arange(n, dtype=xp.int64, device=device) * stride
    keep = backend.keep_each(draw.at, draw.threshold, index, draw.mirror)
    traced = type(p) is not float and backend.traced(p)
    scale = backend.rate(p)[1] if traced else reference.scale_for(float(p))
    y = Draws(who, values, NO_P, at).select(values, keep, scale)
    return with_values(backend.or_nan(draw.at, y))
