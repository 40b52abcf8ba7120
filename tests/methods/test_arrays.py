"""Sparse arrays, complex numbers, a rate for each element: the mask is that of plain dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
import torch
from jax.experimental import sparse

import thinned
from thinned import reference
from thinned.methods import varying
from thinned.torch import functional

AT = thinned.Address(seed=3, site="x", step=1)
RNG = np.random.default_rng(0)
HOLEY = RNG.random((40, 30)) * (RNG.random((40, 30)) < 0.3)
LIBRARIES = pytest.mark.parametrize("library", [np.asarray, torch.asarray, jnp.asarray])


# ------------------------------------------------------------------------------------------- sparse


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"])
def test_the_entries_of_a_sparse_array(form):
    x = scipy.sparse.csr_array(HOLEY).asformat(form)
    y = thinned.dropout(x, 0.4, AT)
    assert (y.format, y.shape, y.dtype) == (form, x.shape, x.dtype)
    np.testing.assert_array_equal(y.toarray(), thinned.dropout(HOLEY, 0.4, AT))
    np.testing.assert_array_equal(x.toarray(), HOLEY)
    assert thinned.dropout(x, 0.4, AT, training=False) is x
    assert type(thinned.dropout(scipy.sparse.csr_matrix(HOLEY), 0.4, AT)) is scipy.sparse.csr_matrix


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.filterwarnings("ignore:Sparse CSC tensor support")
@pytest.mark.parametrize("form", ["to_sparse_coo", "to_sparse_csr", "to_sparse_csc"])
def test_the_entries_of_a_sparse_tensor(form):
    dense = torch.tensor(HOLEY, requires_grad=True)
    y = thinned.dropout(getattr(dense, form)(), 0.4, AT)
    assert y.layout == getattr(dense.detach(), form)().layout
    expected = thinned.dropout(HOLEY, 0.4, AT)
    np.testing.assert_array_equal(y.detach().to_dense().numpy(), expected)
    y.to_dense().sum().backward()
    np.testing.assert_allclose(dense.grad.numpy(), (expected != 0) / 0.6)


def test_entries_that_are_listed_twice_and_axes_that_are_dense():
    places = torch.tensor([[0, 0, 2], [1, 1, 3]])
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    x = torch.sparse_coo_tensor(places, values, (3, 4, 2), check_invariants=True)
    for step in range(8):
        at = AT.replace(step=step)
        found = thinned.dropout(x, 0.5, at).to_dense()
        torch.testing.assert_close(found, thinned.dropout(x.to_dense(), 0.5, at))


@pytest.mark.parametrize("form", [sparse.BCOO, sparse.BCSR])
def test_the_entries_of_a_sparse_array_of_jax(form):
    dense = jnp.asarray(HOLEY, jnp.float32)
    x = form.fromdense(dense)
    y = thinned.dropout(x, 0.4, AT)
    assert type(y) is form
    np.testing.assert_array_equal(y.todense(), thinned.dropout(dense, 0.4, AT))
    jitted = jax.jit(lambda x, step: thinned.dropout(x, 0.4, AT.replace(step=step)))(x, 1)
    np.testing.assert_array_equal(jitted.todense(), y.todense())


def test_windows_and_shared_axes_of_a_sparse_array():
    x = scipy.sparse.csr_array(HOLEY)
    for how in ({"shared_axes": 0}, {"shared_axes": (1,)}, {"mirror": True}):
        expected = thinned.dropout(HOLEY, 0.4, AT, **how)
        np.testing.assert_array_equal(thinned.dropout(x, 0.4, AT, **how).toarray(), expected)
    whole = thinned.dropout(HOLEY, 0.4, AT)
    part = thinned.dropout(x[10:25, 4:], 0.4, AT, window=thinned.Window((10, 4), (40, 30)))
    np.testing.assert_array_equal(part.toarray(), whole[10:25, 4:])
    # Where the dense array would not fit into any memory.
    far = scipy.sparse.coo_array(([1.0] * 3, ([0, 5, 10**6], [7, 0, 10**6])), (10**6 + 1,) * 2)
    places = zip(*(i.tolist() for i in far.coords), strict=True)
    kept = [reference.uniform32(AT, i * (10**6 + 1) + j) >= 2**31 for i, j in places]
    assert thinned.dropout(far, 0.5, AT).data.tolist() == [2.0 * k for k in kept]


# ------------------------------------------------------------------------------------------ complex


@LIBRARIES
def test_both_parts_of_a_number_share_a_draw(library):
    z = HOLEY + 1j * RNG.random((40, 30))
    z[0, :2] = complex(np.inf, 1.0), complex(1.0, np.nan)
    mask = thinned.keep_mask((40, 30), 0.4, AT)
    with np.errstate(invalid="ignore"):
        expected = np.where(mask, z.real / 0.6 + 0j, 0.0)
        expected.imag = np.where(mask, z.imag / 0.6, 0.0)
    x = library(z)
    y = thinned.dropout(x, 0.4, AT)
    assert (type(y), y.dtype) == (type(x), x.dtype)
    found = np.asarray(y)
    np.testing.assert_allclose(found.real, expected.real, rtol=1e-6)
    np.testing.assert_allclose(found.imag, expected.imag, rtol=1e-6)
    assert thinned.dropout(x, 0.4, AT, training=False) is x
    rows = np.asarray(thinned.dropout(x, 0.4, AT, shared_axes=1))
    np.testing.assert_array_equal(
        rows[1:] != 0, (thinned.keep_mask((40, 1), 0.4, AT) & (z != 0))[1:]
    )


def test_complex_numbers_in_the_drop_in():
    z = torch.randn(6, 4, 5, dtype=torch.cfloat)
    expected = thinned.dropout(z, 0.5, AT)
    assert torch.equal(functional.dropout(z, 0.5, True, at=AT), expected)
    again = z.clone()
    functional.dropout(again, 0.5, True, True, at=AT)
    assert torch.equal(again, expected)
    channels = functional.dropout2d(z[None], 0.5, True, at=AT)[0]
    assert torch.equal((channels != 0).all(dim=(1, 2)), (channels != 0).any(dim=(1, 2)))
    torch.manual_seed(0)
    fresh = thinned.torch.Dropout(0.5)(z)
    torch.manual_seed(0)
    pairs = functional.dropout(torch.view_as_real(z), 0.5, True, shared_axes=3)
    assert torch.equal(torch.view_as_real(fresh), pairs)
    with pytest.raises(TypeError, match=r"^alpha_dropout: x must be of type"):
        functional.alpha_dropout(z, 0.5, True)


def test_complex_numbers_in_an_adopted_model():
    model = torch.nn.Sequential(torch.nn.Linear(5, 5, dtype=torch.cfloat), torch.nn.Dropout(0.5))
    clock = thinned.torch.adopt(model, seed=1).clock
    z = torch.randn(6, 5, dtype=torch.cfloat)
    eager = model(z)
    assert 0 < (eager == 0).sum() < 30
    eager.abs().sum().backward()
    clock.step = 0
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    again = compiled(z)
    clock.step = 0
    assert torch.equal(again == 0, model(z) == 0)


# ------------------------------------------------------------------------------------------- rates


def by_rows(x, p, at=AT):
    """A call for each row, with its own number."""
    rows = [
        thinned.dropout(x[i : i + 1], float(p[i, 0]), at, window=thinned.Window(i))
        for i in range(len(x))
    ]
    return np.concatenate(rows)


@LIBRARIES
def test_a_rate_for_each_row(library):
    x = (RNG.random((40, 30)) + 0.1).astype(np.float32)
    p = np.linspace(0.0, 1.0, 40, dtype=np.float32)[:, None]
    given, rates = library(x), library(p)
    y = thinned.dropout(given, rates, AT)
    assert (type(y), y.dtype) == (type(given), given.dtype)
    np.testing.assert_allclose(np.asarray(y), by_rows(x, p), rtol=1e-6)
    assert thinned.dropout(given, rates, AT, training=False) is given


@LIBRARIES
def test_a_rate_for_each_element_and_column(library):
    ones = np.ones((50, 3000), np.float32)
    p = np.array([0.0, 0.25, 0.9] * 1000, np.float32)
    y = np.asarray(thinned.dropout(library(ones), library(p), AT))
    for rate in (0.0, 0.25, 0.9):
        part = y[:, p == np.float32(rate)]
        np.testing.assert_allclose(part[part != 0], 1 / (1 - rate), rtol=1e-6)
        deviation = np.sqrt(rate * (1 - rate) / part.size)
        assert abs((part == 0).mean() - rate) <= 4 * deviation
    whole = np.tile(p, (50, 1))
    np.testing.assert_array_equal(y, np.asarray(thinned.dropout(library(ones), library(whole), AT)))


@pytest.mark.long
def test_rates_in_programs_and_their_gradients():
    x = (RNG.random((40, 30)) + 0.1).astype(np.float32)
    p = np.linspace(0.0, 1.0, 40, dtype=np.float32)[:, None]
    expected = by_rows(x, p)
    jitted = jax.jit(lambda x, p, step: thinned.dropout(x, p, AT.replace(step=step)))
    np.testing.assert_allclose(jitted(x, p, 1), expected, rtol=1e-6)
    assert np.isnan(jitted(x, p, -1)).all()
    assert np.isnan(jitted(x, p + 1, 1)[1:]).all()
    compiled = torch.compile(
        lambda x, p: thinned.dropout(x, p, AT), backend="aot_eager", fullgraph=True
    )
    np.testing.assert_allclose(compiled(torch.tensor(x), torch.tensor(p)), expected, rtol=1e-6)
    leaf = torch.tensor(x, requires_grad=True)
    thinned.dropout(leaf, torch.tensor(p), AT).sum().backward()
    slopes = by_rows(np.ones_like(x), p)
    np.testing.assert_allclose(leaf.grad, slopes, rtol=1e-6)
    grad = jax.grad(lambda x: thinned.dropout(x, p_of_jax, AT).sum())
    p_of_jax = jnp.asarray(p)
    np.testing.assert_allclose(grad(jnp.asarray(x)), slopes, rtol=1e-6)


def test_rates_in_the_drop_in():
    x, p = torch.ones(4, 5), torch.tensor([[0.0], [0.5], [0.9], [1.0]])
    assert torch.equal(functional.dropout(x, p, True, at=AT), thinned.dropout(x, p, AT))
    torch.manual_seed(0)
    first = functional.dropout(x, p, True)
    assert not all(torch.equal(first, functional.dropout(x, p, True)) for _ in range(5))
    torch.manual_seed(0)
    assert torch.equal(first, functional.dropout(x, p, True))
    assert functional.dropout(x, p, False) is x
    holey = torch.tensor(HOLEY).to_sparse()
    torch.testing.assert_close(
        functional.dropout(holey, 0.4, True, at=AT).to_dense(),
        torch.tensor(thinned.dropout(HOLEY, 0.4, AT)),
    )
    assert thinned.torch.Dropout(0.5)(holey).layout is torch.sparse_coo


def test_thresholds_of_their_own_are_those_of_one():
    """The ends, numbers with few bits and with many, indices far away."""
    index = np.concatenate([np.arange(300), 2**40 + np.arange(7)]).astype(np.uint64)
    for p in (0.0, 1.0, 0.5, 0.375, 0.1, 2.0**-32, 1 - 2.0**-32):
        t = reference.threshold(p)
        for mirror in (False, True):
            expected = reference.keep_at(AT, t, index, mirror)
            found = reference.keep_each(AT, np.full(307, t, np.uint64), index, mirror)
            np.testing.assert_array_equal(found, expected)


def test_an_index_without_its_place_is_caught(monkeypatch):
    real = varying.keep_each
    monkeypatch.setattr(
        varying, "keep_each", lambda who, x, t, draw: real(who, x, t, draw._replace(mirror=True))
    )
    with pytest.raises(AssertionError):
        test_a_rate_for_each_row(np.asarray)


# ------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: thinned.dropout(HOLEY, np.full(30, 1.5), AT), r"p must be in \[0, 1\] in every"),
        (
            lambda: thinned.dropout(HOLEY, np.full(30, np.nan), AT),
            r"p must be in \[0, 1\] in every",
        ),
        (
            lambda: thinned.dropout(HOLEY, np.ones(7), AT),
            "p must be an array that broadcasts",
        ),
        (
            lambda: thinned.dropout(HOLEY, np.full((40, 1), 0.5), AT, shared_axes=0),
            "p must be of length 1 along axis 0, which shares its draws",
        ),
        (lambda: thinned.dropout(HOLEY, torch.full((30,), 0.5), AT), "p must be an array of x's"),
        (lambda: thinned.dropout(HOLEY, np.ones(30, int), AT), "p must be of type"),
        (
            lambda: thinned.dropout(torch.tensor(HOLEY).to_sparse_bsr((10, 10)), 0.5, AT),
            "x must be sparse as COO, or CSR or CSC of two axes, got sparse_bsr",
        ),
        (
            lambda: thinned.dropout(sparse.BCOO.fromdense(jnp.ones((2, 3)), n_batch=1), 0.5, AT),
            "x must be a BCOO or BCSR without axes of a batch",
        ),
        (
            lambda: thinned.dropout(scipy.sparse.eye_array(3, dtype=int), 0.5, AT),
            "x must be of type",
        ),
        (
            lambda: thinned.dropout(scipy.sparse.eye_array(3), 1.5, AT),
            r"p must be a float in \[0, 1\]",
        ),
        (
            lambda: thinned.dropout(scipy.sparse.eye_array(3), 0.5, 3),
            "at must be a thinned.Address",
        ),
        (
            lambda: thinned.dropout(HOLEY + 0j, 0.5, AT, out=HOLEY + 0j),
            "out must be None for complex numbers",
        ),
        (
            lambda: functional.dropout(torch.ones(2), torch.full((2,), 0.5), True, True),
            "inplace must be False for such an input or p",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse BSR tensor support")
def test_what_does_not_fit_is_refused_in_a_sentence(call, sentence):
    with pytest.raises((TypeError, ValueError), match=rf"^dropout: {sentence}"):
        call()
