"""How a row is called: its sample's arrays as a kind's, and its function at an address."""

from contextlib import contextmanager
from functools import lru_cache
from zlib import crc32

import ml_dtypes
import numpy as np
from contract.kinds import JaxKind, NumpyKind, TorchKind
from libraries import is_there, library

import thinned
from thinned.methods import every

jnp = library("jax.numpy")
torch = library("torch")

FASTEST = thinned.kernel_info().runnable[-1]
ROWS = [row for row in every() if row.sample is not None]
DOUBLE = NumpyKind("float64", FASTEST)
KINDS = (
    DOUBLE,
    NumpyKind("float32", "reference"),
    TorchKind("float32", FASTEST),
    TorchKind("float64", "reference"),
    JaxKind("float32", FASTEST),
)
AT = thinned.Address(seed=20, site="battery", step=3)


def name_of(row):
    return row.name


def row_named(name):
    return next(row for row in ROWS if row.name == name)


def as_kind(kind, array):
    """An array of a sample as a kind's; integers and booleans keep their type."""
    if array.dtype.kind == "f":
        return kind.array(array)
    if kind.backend == "jax":
        return jnp.asarray(array)
    return torch.from_numpy(array.copy()) if kind.backend == "torch" else array.copy()


def as_numpy(y):
    if isinstance(y, torch.Tensor):
        return y.detach().to(torch.float64).numpy()
    return np.asarray(y, np.float64)


def inputs(row, kind=DOUBLE, seed=0):
    return tuple(as_kind(kind, array) for array in row.sample.inputs(seed))


def call(row, arrays, at=AT, p=None, **how):
    p = row.sample.p if p is None else p
    return row.call(tuple(arrays), p, at, **{**row.sample.options, **how})


@lru_cache(maxsize=8)
def outputs(name, ones=False):
    """y at `sample.draws` addresses, binary64, stacked; with x all ones where asked."""
    row = row_named(name)
    arrays = inputs(row)
    if ones:
        arrays = (np.ones_like(arrays[0]), *arrays[1:])
    ats = (thinned.Address(seed=seed, site="battery") for seed in range(row.sample.draws))
    with DOUBLE.in_use():
        return np.stack([call(row, arrays, at) for at in ats])


def chosen(request, n, *names):
    """Whether a case within a test is tried: in the short run one in n, by its names alone. Tests
    of many cases are quicker to collect and to set up than a test for each."""
    return not request.config.getoption("--short") or crc32("/".join(names).encode()) % n == 0


@contextmanager
def told(*names):
    """What fails inside says for which case."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"case: {', '.join(names)}")
        raise


def half(row):
    kinds = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
    return [NumpyKind(n, FASTEST) for n in kinds if n in row.sample.dtypes] + [
        each(n, FASTEST)
        for n in kinds
        if n in row.sample.dtypes
        for each in (TorchKind, JaxKind)
        if is_there(each.backend)
    ]
