"""Every row with complex numbers, sparse arrays and a rate for each row of x: what the row takes
has the values of plain calls, and what it does not is refused in a sentence."""

import numpy as np
import pytest
import scipy.sparse
from libraries import is_there, library
from pages import builder

import thinned

from .trying import AT, ROWS, call, name_of, row_named

jnp = library("jax.numpy")
jax_sparse = library("jax.experimental.sparse")
torch = library("torch")

WRONG = (TypeError, ValueError)
HOLES = np.random.default_rng(1)
over_rows = pytest.mark.parametrize("row", ROWS, ids=name_of)


class Numpy:
    name = "numpy"
    of = staticmethod(np.array)

    @staticmethod
    def sparse(a):
        return [kind(a) for kind in (scipy.sparse.coo_array, scipy.sparse.csr_array)[: 4 - a.ndim]]


class Torch:
    name = "torch"

    @staticmethod
    def of(a):
        return torch.from_numpy(np.array(a))

    @staticmethod
    def sparse(a):
        dense = torch.from_numpy(a)
        return [dense.to_sparse(), *([dense.to_sparse_csr()] if a.ndim == 2 else [])]


class Jax:
    name = "jax"

    @staticmethod
    def of(a):
        narrow = {"f": jnp.float32, "c": jnp.complex64}.get(np.asarray(a).dtype.kind)
        return jnp.asarray(a, narrow)

    @staticmethod
    def sparse(a):
        return [jax_sparse.BCOO.fromdense(jnp.asarray(a, jnp.float32))]


def dense(y):
    y = y[0] if isinstance(y, tuple) else y
    if scipy.sparse.issparse(y):
        return y.toarray()
    if hasattr(y, "todense"):
        return np.asarray(y.todense())
    return y.to_dense().numpy() if hasattr(y, "to_dense") else np.asarray(y)


def same(y, wanted):
    np.testing.assert_allclose(dense(y), wanted, rtol=2e-5, atol=2e-5)


def taken_or_refused(row, what, function):
    """What it returns, where the row takes such an array; None where it refuses one."""
    if what in row.takes:
        return function()
    with pytest.raises(WRONG, match=rf"^{row.function.__name__}: "):
        function()
    return None


def complex_numbers(row, library, training):
    x, *rest = row.sample.inputs()
    if x.dtype.kind != "f":
        return
    parts = x, np.flip(x)
    z = library.of(parts[0] + 1j * parts[1])
    others = [library.of(a) for a in rest]
    y = taken_or_refused(row, "complex", lambda: call(row, [z, *others], training=training))
    if y is not None:
        real, imaginary = (dense(call(row, [part, *rest], training=training)) for part in parts)
        same(y, real + 1j * imaginary)
        assert (y[0] if isinstance(y, tuple) else y).dtype == z.dtype


def sparse_arrays(row, library, training):
    x, *rest = row.sample.inputs()
    if x.dtype.kind != "f":
        return
    x = np.where(HOLES.random(x.shape) < 0.4, 0.0, x)
    others = [library.of(a) for a in rest]
    for given in library.sparse(x):
        y = taken_or_refused(
            row, "sparse", lambda given=given: call(row, [given, *others], training=training)
        )
        if y is not None:
            assert type(y) is type(given)
            same(y, dense(call(row, [x, *rest], training=training)))


def rates_for_rows(row, library, training):
    arrays = row.sample.inputs()
    if not row.has_p:
        return
    x = arrays[0]
    n = len(x)
    p = np.linspace(0.05, 0.9, n).astype(np.float32).reshape(n, *(1,) * (x.ndim - 1))
    given = [library.of(a) for a in arrays]
    y = taken_or_refused(row, "rates", lambda: call(row, given, p=library.of(p), training=training))
    if y is None:
        return
    rows = []
    for i in range(n):
        one = [a[i : i + 1] if a.ndim and len(a) == n else a for a in arrays]
        window = thinned.Window((i, *(0,) * (x.ndim - 1)), x.shape)
        rows.append(dense(call(row, one, p=float(p.flat[i]), training=training, window=window)))
    same(y, np.concatenate(rows))


KINDS = (complex_numbers, sparse_arrays, rates_for_rows)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@over_rows
def test_a_row_takes_what_it_says(row):
    for kind in KINDS:
        for of in (Numpy, *([Torch] if is_there("torch") else [])):
            for training in (True, False):
                kind(row, of, training)


@pytest.mark.parametrize("name", ["drop_path", "gaussian_dropout", "drop_head"])
def test_a_row_takes_it_of_jax(name):
    for kind in KINDS:
        kind(row_named(name), Jax, True)


@pytest.mark.long
@over_rows
def test_every_row_takes_it_of_jax(row):
    for kind in KINDS:
        kind(row, Jax, True)


def test_rates_of_sparse_arrays_and_of_complex_ones():
    x = scipy.sparse.random_array((50, 60), density=0.2, format="csr", rng=0)
    for p in (np.linspace(0, 1, 60)[None], np.full((50, 60), 0.3), np.array(0.5)):
        for given in (x, x * (1 + 2j)):
            found = thinned.dropout(given, p, AT)
            same(found, thinned.dropout(given.toarray(), p, AT))


@pytest.mark.filterwarnings("ignore:Sparse")
def test_rates_beside_dense_axes():
    x = torch.relu(torch.randn(5, 6, 3))
    p = torch.rand(5, 1, 3)
    found = thinned.dropout(x.to_sparse(2), p, AT)
    torch.testing.assert_close(found.to_dense(), thinned.dropout(x, p, AT))


@pytest.mark.long
def test_rates_in_compiled_programs():
    x, p = torch.rand(40, 30) + 0.1, torch.linspace(0, 1, 40)[:, None]
    for function in (thinned.drop_path, thinned.k_of_n_dropout):
        program = torch.compile(
            lambda x, p, f=function: f(x, p, AT), backend="aot_eager", fullgraph=True
        )
        torch.testing.assert_close(program(x, p), function(x, p, AT))


def test_no_gradient_goes_to_rates():
    x, p = torch.rand(4, 5, requires_grad=True), torch.full((4, 1), 0.5, requires_grad=True)
    for function in (thinned.drop_path, thinned.alpha_dropout, thinned.gaussian_dropout):
        (grad,) = torch.autograd.grad(function(x, p, AT).sum(), p, allow_unused=True)
        assert grad is None


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: thinned.drop_path(np.ones((4, 5)), np.full((1, 5), 0.5), AT),
            "drop_path: p must be of length 1 along axis 1, which shares its draws, got",
        ),
        (
            lambda: thinned.k_of_n_dropout(np.ones((4, 5)), np.full((1, 5), 0.5), AT),
            "k_of_n_dropout: p must be of length 1 along axis 1",
        ),
        (
            lambda: thinned.gaussian_dropout(np.ones((4, 5)), np.ones((4, 1)), AT),
            "gaussian_dropout: p must be below 1",
        ),
        (
            lambda: thinned.drop_path(np.ones((4, 5)), np.full((2, 5), 0.5), AT),
            "drop_path: p must be an array that broadcasts",
        ),
        (
            lambda: thinned.drop_block(
                np.ones((2, 3, 4, 4), complex), 0.5, AT, block_size=2, with_noise=True
            ),
            "drop_block: x must be of real numbers beside such noise",
        ),
        (lambda: thinned.drop_path(np.ones(4, np.clongdouble), 0.5, AT), "drop_path: x must be of"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(call, sentence):
    with pytest.raises(WRONG, match=rf"^{sentence}"):
        call()


def test_the_page_lists_what_rows_take():
    build = builder("docs/build.py")
    page = (build.HERE / "arrays.md").read_text(encoding="utf-8")
    assert build.filled(page, build.takes) == page


def test_a_part_with_another_mask_is_caught(monkeypatch):
    backend = thinned.backends.backend_of("test", np.ones(1))
    monkeypatch.setattr(backend, "complex_of", lambda real, imaginary: real + 1j * imaginary[::-1])
    with pytest.raises(AssertionError):
        complex_numbers(row_named("gaussian_dropout"), Numpy, True)
