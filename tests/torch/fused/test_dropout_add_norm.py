"""dropout_add_norm beside norm(residual + dropout(x)): the sum to the bit, the norm to rounding."""

import math

import pytest
import torch
from residual import AT, DTYPES, HALVES, P, check_norm, equal, inputs, made, norm_formula, normed

from thinned import Window, kernel
from thinned.kernel import _native
from thinned.torch import functional
from thinned.torch.fused import dropout_add_norm

KINDS = ["layer", "rms"]
SHAPES = [(7, 100), (3, 5, 768), (33,), (2, 20000), (64, 1024), (5, 3), (0, 8)]


@pytest.fixture(autouse=True)
def _the_same_kernel_after():
    before = kernel.kernel_info().name
    yield
    kernel.use_kernel(before)


def arrays(*shape, dtype=torch.float64, residual=None, weight=None):
    """x, residual, weight, bias."""
    x, _, beside = inputs(*shape, dtype=dtype, residual=residual)
    n, own = shape[-1], weight or dtype
    return x, beside, made(n, seed=3, dtype=own), made(n, seed=4, dtype=own)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_formula(kind, dtype, shape):
    check_norm(*arrays(*shape, dtype=dtype), kind=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_what_may_be_missing(kind):
    x, residual, weight, bias = arrays(7, 100)
    for some in (
        (None, weight, bias),
        (residual, None, bias),
        (residual, weight, None),
        (None,) * 3,
    ):
        check_norm(x, *some, kind=kind)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("kind", KINDS)
def test_wider_residuals_and_weights(kind, dtype):
    check_norm(*arrays(9, 70, dtype=dtype, residual=torch.float32), kind=kind)
    check_norm(*arrays(9, 70, dtype=dtype, weight=torch.float32), kind=kind)
    check_norm(*arrays(9, 70, dtype=dtype, residual=torch.float64), kind=kind)
    x, residual, weight, bias = arrays(9, 70, dtype=dtype)
    for beside in (residual, None):
        wide = torch.zeros_like(x).float() if beside is None else beside.float()
        y, z = normed(x, beside, weight, bias, kind=kind, residual_in_fp32=True)
        expected, whole = norm_formula(x, wide, weight, bias, kind=kind)
        assert (y.dtype, z.dtype) == (dtype, torch.float32)
        equal(z, whole)
        torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("name", ["reference", *_native.runnable()])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kernel(name, dtype):
    kernel.use_kernel(name)
    for kind in KINDS:
        check_norm(*arrays(6, 1100, dtype=dtype), kind=kind)


@pytest.mark.parametrize("p", [0.0, 1e-12, 0.5, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_rates(kind, p):
    check_norm(*arrays(40, 50, dtype=torch.float32), p=p, kind=kind, mirror=True, eps=0.1)


def test_a_mean_far_from_zero():
    x, residual, weight, bias = arrays(8, 512, dtype=torch.float32)
    far = residual.detach() + 1000.0
    exact = [a.detach().double() for a in (x, far, weight, bias)]
    y, _ = normed(x, far, weight, bias)
    torch.testing.assert_close(y.double(), norm_formula(*exact)[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_deviation(kind):
    zeros = torch.zeros(3, 20, requires_grad=True)
    y = normed(zeros, zeros, None, None, kind=kind, prenorm=False)
    assert torch.equal(y, torch.zeros(3, 20))
    assert torch.autograd.grad(y.sum(), zeros)[0].isfinite().all()
    nothing = normed(zeros * math.nan, None, None, None, kind=kind, prenorm=False)
    assert nothing.isnan().all(-1).any()


def test_windows_are_parts_of_the_whole():
    x, residual, weight, bias = (a.detach() for a in arrays(8, 6, 40))
    whole, sums = normed(x, residual, weight, bias)
    for part, window in (
        (slice(3, 5), Window(3)),
        ((slice(2, 4), slice(1, 5)), Window((2, 1, 0), (8, 6, 40))),
    ):
        y, z = normed(x[part], residual[part], weight, bias, window=window)
        equal(z, sums[part])
        equal(y, whole[part])


def test_threads_change_nothing():
    given = arrays(700, 300, dtype=torch.float32)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        y, z = normed(*given)
        found.append([y, z, *torch.autograd.grad((y.sum() + z.sum()), given)])
    torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_evaluation_and_p_0():
    x, residual, weight, bias = arrays(4, 5)
    for options in ({"p": P, "training": False}, {"p": 0.0, "training": True}):
        y = dropout_add_norm(x, residual, weight, at=AT, bias=bias, **options)
        torch.testing.assert_close(y, norm_formula(x, residual, weight, bias, p=0.0)[0])


def test_seeds_come_from_pytorchs_generators():
    x, residual, weight, bias = arrays(20, 30)
    torch.manual_seed(1)
    _, first = normed(x, residual, weight, bias, at=None)
    torch.manual_seed(1)
    equal(functional.dropout(x, P, True) + residual, first)


def test_what_is_saved_is_no_mask():
    x, residual, weight, bias = arrays(20, 30)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda a: saved.append(a) or a, lambda a: a):
        _, z = normed(x, residual, weight, bias)
    assert sorted(a.numel() for a in saved) == [20, 20, 30, 600]
    assert any(a.data_ptr() == z.data_ptr() for a in saved)


def test_gradients_of_one_output():
    given = arrays(20, 30)
    for f in (lambda y, z: y.sum(), lambda y, z: z.square().sum()):
        got = torch.autograd.grad(f(*normed(*given)), given, allow_unused=True)
        theirs = torch.autograd.grad(f(*norm_formula(*given)), given, allow_unused=True)
        for a, b in zip(got, theirs, strict=True):
            torch.testing.assert_close(
                torch.zeros(()) if a is None else a, torch.zeros_like(a) if b is None else b
            )


def test_a_device_without_memory():
    away = [a.detach().to("meta").requires_grad_() for a in arrays(4, 5)]
    y = normed(*away, prenorm=False)
    assert [a.shape for a in torch.autograd.grad(y.sum(), away)] == [(4, 5), (4, 5), (5,), (5,)]


def options_of_errors():
    x, residual, weight, bias = (a.detach() for a in arrays(4, 5, dtype=torch.float32))
    three = (x, residual, weight)
    yield "p must be a float in \\[0, 1\\], got nan", ValueError, three, {"p": math.nan}
    yield "kind must be 'layer' or 'rms', got 'batch'", ValueError, three, {"kind": "batch"}
    yield "eps must be a float >= 0, got -1", ValueError, three, {"eps": -1.0}
    yield "eps must be a float >= 0, got True", TypeError, three, {"eps": True}
    yield "prenorm must be True or False, got 1", TypeError, three, {"prenorm": 1}
    yield "residual_in_fp32 must be True or False", TypeError, three, {"residual_in_fp32": None}
    yield "residual must be of x's shape", ValueError, (x, residual[:2], weight), {}
    yield "weight must be of shape \\(5,\\), a number for each", ValueError, (x, residual, x), {}
    yield "bias must be of shape \\(5,\\)", ValueError, three, {"bias": bias[:4]}
    yield "bias must be a torch tensor, got float", TypeError, three, {"bias": 1.0}
    yield "x must be of rows that hold something", ValueError, (x[:, :0], None, None), {}
    yield "x must be a torch tensor, got list", TypeError, ([1.0], None, None), {}


@pytest.mark.parametrize(("text", "kind", "given", "options"), [*options_of_errors()])
def test_errors(text, kind, given, options):
    options = {"p": 0.5, "at": AT, "training": True, **options}
    with pytest.raises(kind, match=f"^dropout_add_norm: .*{text}"):
        dropout_add_norm(*given, **options)


def test_training_is_required():
    with pytest.raises(TypeError, match="training must be given"):
        dropout_add_norm(*arrays(4, 5)[:3], 0.5)
