"""Arrays that are not what most are, by library: each made of a plain one, or None where it cannot
be. `plain` gives the plain array of the same values back."""

import ml_dtypes
import numpy as np
from libraries import library

torch = library("torch")

LEFT = 8  # bytes in front of what is not aligned


class Quantity(np.ndarray):
    """With functions of its own, which a row would have to call."""

    def __array_ufunc__(self, *_, **__):
        raise AssertionError("a function of the class's own was called")


class Dispatched(np.ndarray):
    def __array_function__(self, *_, **__):
        raise AssertionError("a function of the class's own was called")


class Product(np.ndarray):
    """Whose * and + are something else, as the matrix's is."""

    def __mul__(self, other):
        raise AssertionError("the class's own product was called")

    __rmul__ = __add__ = __radd__ = __mul__


class Wrapping(np.ndarray):
    """Which makes something else of every result."""

    __array_priority__ = 100

    def __array_wrap__(self, *_):
        return "wrapped"


def _unaligned(a):
    memory = np.zeros(a.nbytes + 1, np.uint8)[1:]
    y = memory.view(a.dtype).reshape(a.shape)
    y[...] = a
    return y


def _read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def _backwards(a):
    turned = tuple(slice(None, None, -1) for _ in a.shape)
    return a[turned].copy()[turned]


def floating(make):
    return lambda a: make(a) if a.dtype.kind == "f" else None


# As plain arrays are, or refused.
NUMPY = {
    "matrix": lambda a: np.asmatrix(a) if a.ndim == 2 else None,
    "masked": np.ma.MaskedArray,
    "recarray": lambda a: a.view(np.recarray),
    "own ufuncs": lambda a: a.view(Quantity),
    "own functions": lambda a: a.view(Dispatched),
    "own product": lambda a: a.view(Product),
    "own wrapping": lambda a: a.view(Wrapping),
    "read-only": _read_only,
    "backwards": _backwards,
    "unaligned": _unaligned,
    "Fortran": np.asfortranarray,
    ">f2": floating(lambda a: a.astype(">f2")),
    ">f4": floating(lambda a: a.astype(">f4")),
    ">f8": floating(lambda a: a.astype(">f8")),
    "foreign integers": lambda a: a.astype(a.dtype.newbyteorder("S")),
    "empty": lambda a: a[:0] if a.ndim else None,
    "no columns": lambda a: a[..., :0] if a.ndim else None,
    "0-d": lambda a: a.reshape(-1)[0].reshape(()),
    "longdouble": floating(lambda a: a.astype(np.longdouble)),
    "float8": floating(lambda a: a.astype(ml_dtypes.float8_e4m3fn)),
    "bfloat16": lambda a: a.astype(ml_dtypes.bfloat16),
    "complex": lambda a: a.astype(complex),
    "bool": lambda a: a.astype(bool),
    "object": lambda a: a.astype(object),
    "structured": lambda a: np.zeros(a.shape, [("a", "f4")]),
    "characters": lambda a: a.astype("S8").view(np.char.chararray),
    "dates": lambda a: np.zeros(a.shape, "M8[s]"),
    "a dtype": lambda a: a.dtype,
    "a generator": lambda a: np.random.default_rng(0),
    "a list": lambda a: a.tolist(),
}


class Subclass(torch.Tensor):
    """Of plain memory."""


def _nested(layout):
    def make(t):
        return torch.nested.nested_tensor(list(t.unbind(0)), layout=layout) if t.ndim > 1 else None

    return make


TORCH = {
    "parameter": lambda t: torch.nn.Parameter(t) if t.is_floating_point() else None,
    "subclass": lambda t: t.as_subclass(Subclass),
    "nested": _nested(torch.strided),
    "jagged": _nested(torch.jagged),
    "COO": lambda t: t.to_sparse(),
    "CSR": lambda t: t.to_sparse_csr() if t.ndim == 2 else None,
    "quantized": lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8),
    "masked": lambda t: torch.masked.masked_tensor(t, torch.ones_like(t, dtype=torch.bool)),
    "uninitialised": lambda t: torch.nn.UninitializedParameter(),
    "65 axes": lambda t: t.reshape(-1)[:1].reshape((1,) * 65),
    "0-d": lambda t: t.reshape(-1)[0].clone(),
    "empty": lambda t: t[:0] if t.ndim else None,
    "no columns": lambda t: t[..., :0] if t.ndim else None,
    "every other": lambda t: torch.stack([t, t], -1)[..., 0],
    "float8": lambda t: t.to(torch.float8_e4m3fn),
    "float16": lambda t: t.half(),
    "bfloat16": lambda t: t.bfloat16(),
    "complex": lambda t: t.to(torch.complex64),
    "bool": lambda t: t.bool(),
    "uint16": lambda t: t.to(torch.uint16),
    "a dtype": lambda t: t.dtype,
    "a size": lambda t: t.shape,
    "a module": lambda t: torch.nn.Linear(2, 2),
    "a list": lambda t: t.tolist(),
}


def plain(a):
    if isinstance(a, np.ndarray):
        data = np.array(np.ma.getdata(a), subok=False)
        return data.astype(data.dtype.newbyteorder("="))
    if isinstance(a, Subclass | torch.nn.Parameter):
        return a.detach().as_subclass(torch.Tensor).clone()
    return a
