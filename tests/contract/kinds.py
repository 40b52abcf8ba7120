"""The kinds of array that the contract runs over: one for each backend, kernel and type.

A new backend is one more class with these methods and one more line in KINDS. Expected and actual
values always belong to the same kind: `read` refuses an array of another. Where a library is not
installed, the tests of its kinds are skipped.
"""

from contextlib import contextmanager
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest
from libraries import is_there, library

import thinned
from thinned.kernel import use_kernel

jax = library("jax")
jnp = library("jax.numpy")
torch = library("torch")

TYPES = {
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float32": np.float32,
    "float64": np.float64,
}


SPLITS = ("splits_give_the_whole", "splits_of_shared_draws_give_the_whole")
SPLITS += ("shared_masks_are_the_twins",)


@contextmanager
def using(kernel):
    before = thinned.kernel_info().name
    use_kernel(kernel)
    try:
        yield
    finally:
        use_kernel(before)


@dataclass(frozen=True)
class NumpyKind:
    dtype: str
    kernel: str = "reference"
    backend: str = "numpy"

    def __str__(self):
        return f"{self.backend}-{self.kernel}-{self.dtype}"

    def in_use(self):
        """This kind's kernel draws the masks; on leaving, the one that did before."""
        return using(self.kernel)

    @property
    def type(self):
        return np.dtype(TYPES[self.dtype])

    @property
    def epsilon(self):
        """The distance from 1 to the next number of the type."""
        return float(ml_dtypes.finfo(self.type).eps)

    def array(self, values):
        """A new array of this kind from numbers; values that it cannot hold are rounded."""
        with np.errstate(over="ignore"):
            return np.array(values, dtype=np.float64).astype(self.type)

    def read(self, x):
        """The exact values of an array of this very kind, as binary64."""
        assert type(x) is np.ndarray
        assert x.dtype == self.type
        return x.astype(np.float64)

    def read_mask(self, mask):
        assert type(mask) is np.ndarray
        assert mask.dtype == np.bool_
        return mask


@dataclass(frozen=True)
class TorchKind:
    """Tensors on the CPU. Kernel "reference" stands for the path of tensor operations."""

    dtype: str
    kernel: str = "reference"
    backend: str = "torch"

    def __str__(self):
        return f"{self.backend}-{self.kernel}-{self.dtype}"

    def in_use(self):
        return using(self.kernel)

    @property
    def type(self):
        return getattr(torch, self.dtype)

    @property
    def epsilon(self):
        return torch.finfo(self.type).eps

    def array(self, values):
        return torch.tensor(np.asarray(values, np.float64)).to(self.type)

    def read(self, x):
        assert type(x) is torch.Tensor
        assert x.dtype == self.type
        return x.detach().to(torch.float64).numpy()

    def read_mask(self, mask):
        assert type(mask) is torch.Tensor
        assert mask.dtype == torch.bool
        return mask.numpy()


@dataclass(frozen=True)
class JaxKind:
    """Arrays on JAX's CPU. Kernel "reference" stands for the path of XLA's own operations."""

    dtype: str
    kernel: str = "reference"
    backend: str = "jax"

    @property
    def flushes(self):
        """Whether products below the smallest normal number are zero, as XLA has them on a CPU."""
        return self.kernel == "reference"

    @property
    def left_out(self):
        """Checks of places that others make, too, with fewer programs to compile for them."""
        return SPLITS if self.kernel == "reference" else ()

    def __str__(self):
        return f"{self.backend}-{self.kernel}-{self.dtype}"

    @contextmanager
    def in_use(self):
        """Binary64 is there only where a program asks for it; for all threads."""
        before = jax.config.jax_enable_x64
        jax.config.update("jax_enable_x64", self.dtype == "float64")
        try:
            with using(self.kernel):
                yield
        finally:
            jax.config.update("jax_enable_x64", before)

    @property
    def type(self):
        return np.dtype(TYPES[self.dtype])

    @property
    def epsilon(self):
        return float(ml_dtypes.finfo(self.type).eps)

    def array(self, values):
        with np.errstate(over="ignore"):
            return jnp.asarray(np.array(values, dtype=np.float64).astype(self.type))

    def read(self, x):
        assert isinstance(x, jax.Array)
        assert x.dtype == self.type
        return np.asarray(x).astype(np.float64)

    def read_mask(self, mask):
        assert isinstance(mask, jax.Array)
        assert mask.dtype == np.bool_
        return np.asarray(mask)


RUNNABLE = thinned.kernel_info().runnable

# Every kernel that this processor can run; one that it cannot run is refused by use_kernel. What is
# torch's own shows with the fastest, and in two types with its tensor operations.
KINDS = [NumpyKind(dtype, kernel) for kernel in RUNNABLE for dtype in TYPES]
KINDS += [TorchKind(dtype, RUNNABLE[-1]) for dtype in TYPES]
KINDS += [TorchKind("float32"), TorchKind("bfloat16")]
KINDS += [JaxKind(dtype, RUNNABLE[-1]) for dtype in TYPES]
KINDS += [JaxKind("float32")]
INSTALLED = [kind for kind in KINDS if kind.backend == "numpy" or is_there(kind.backend)]

# Layout is NumPy's own matter: strides, memory order, byte order, writing into what is there.
NUMPY_KINDS = [kind for kind in KINDS if kind.backend == "numpy"]

over_kinds = pytest.mark.parametrize("kind", KINDS, ids=str)
over_numpy_kinds = pytest.mark.parametrize("kind", NUMPY_KINDS, ids=str)


def over_checks(checks):
    return pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)
