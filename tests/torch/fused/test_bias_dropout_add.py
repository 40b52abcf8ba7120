"""bias_dropout_add beside residual + dropout(x + bias): equal to the bit, in each type."""

import math

import pytest
import torch
from residual import AT, DTYPES, HALVES, P, check_sum, equal, inputs, made, sum_formula, summed

import thinned
from thinned import Window, kernel
from thinned.kernel import _native
from thinned.torch import functional, fused
from thinned.torch.fused import bias_dropout_add

SHAPES = [(7, 100), (3, 5, 768), (33,), (2, 40000), (64, 1024), (5, 1), (0, 8), (4, 0)]


@pytest.fixture(autouse=True)
def _the_same_kernel_after():
    before = kernel.kernel_info().name
    yield
    kernel.use_kernel(before)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_formula(dtype, shape):
    x, bias, residual = inputs(*shape, dtype=dtype)
    check_sum(x, bias, residual)
    check_sum(x, None, residual)


@pytest.mark.parametrize("dtype", HALVES)
def test_a_wider_residual(dtype):
    check_sum(*inputs(9, 70, dtype=dtype, residual=torch.float32))
    x, bias, residual = inputs(9, 70, dtype=dtype, residual=torch.float64)
    assert summed(x, bias, residual).dtype == torch.float64
    check_sum(x, bias, residual)
    check_sum(x, made(70, seed=1, dtype=torch.float32), residual)
    check_sum(x, made(70, seed=1, dtype=torch.float32), made(9, 70, seed=2, dtype=dtype))


@pytest.mark.parametrize("name", ["reference", *_native.runnable()])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kernel(name, dtype):
    kernel.use_kernel(name)
    check_sum(*inputs(6, 1100, dtype=dtype))


@pytest.mark.parametrize("p", [0.0, 1e-12, 1e-9, 0.1, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("mirror", [False, True])
def test_rates(p, mirror):
    check_sum(*inputs(40, 50, dtype=torch.float32), p=p, mirror=mirror)


@pytest.mark.parametrize("shape", [(1, 6), (5, 1), (1,), (), (4, 1, 6), (4, 5, 6)])
def test_other_biases(shape):
    x, _, residual = inputs(4, 5, 6)
    check_sum(x, made(*shape, seed=1), residual)


def test_any_strides():
    x, bias, residual = inputs(6, 7, 8)
    moved = [a.detach().transpose(0, 2).requires_grad_() for a in (x, residual)]
    check_sum(moved[0], made(6, seed=1), moved[1])
    apart = [a.detach()[::2, :, ::2].requires_grad_() for a in (x, residual)]
    check_sum(apart[0], None, apart[1])
    y = summed(x, bias, residual)
    (dx,) = torch.autograd.grad(y.sum(), x)  # a gradient of stride 0
    equal(dx, thinned.dropout(torch.ones_like(x), P, AT))
    imaginary = torch.complex(x.detach(), residual.detach()).conj().imag
    equal(summed(imaginary, bias, residual), sum_formula(imaginary, bias, residual))


def test_values_that_are_no_numbers():
    x, bias, residual = inputs(3, 50, dtype=torch.float32)
    with torch.no_grad():
        x[0, ::3], x[1, ::4], residual[2, ::5] = math.nan, math.inf, -math.inf
        equal(summed(x, bias, residual), sum_formula(x, bias, residual))
        zeros = torch.full((9,), -0.0)
        y = summed(zeros, None, zeros, p=0.5)
        assert torch.equal(y.signbit(), sum_formula(zeros, None, zeros, p=0.5).signbit())


def test_windows_are_parts_of_the_whole():
    x, bias, residual = (a.detach() for a in inputs(8, 6, 40))
    whole = summed(x, bias, residual)
    equal(summed(x[3:5], bias, residual[3:5], window=Window(3)), whole[3:5])
    # Tokens of a sequence, and columns as tensor parallelism splits them.
    tokens = Window((2, 1, 0), (8, 6, 40))
    equal(summed(x[2:4, 1:5], bias, residual[2:4, 1:5], window=tokens), whole[2:4, 1:5])
    columns = Window((0, 0, 16), (8, 6, 40))
    equal(summed(x[..., 16:], bias[16:], residual[..., 16:], window=columns), whole[..., 16:])
    far = Window(2**30)
    equal(summed(x, bias, residual, window=far), sum_formula(x, bias, residual, window=far))


def test_threads_change_nothing():
    x, bias, residual = inputs(300, 600, dtype=torch.float32)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(summed(x, bias, residual).detach())
    torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_evaluation_and_p_0_are_sums():
    x, bias, residual = inputs(4, 5)
    equal(bias_dropout_add(x, bias, residual, P, AT, training=False), residual + (x + bias))
    equal(bias_dropout_add(x, None, residual, 0.0, AT, training=True), residual + x)


def test_seeds_come_from_pytorchs_generators():
    x, bias, residual = inputs(20, 30)
    torch.manual_seed(1)
    first, second = (summed(x, bias, residual, at=None) for _ in range(2))
    torch.manual_seed(1)
    equal(functional.dropout(x + bias, P, True) + residual, first)
    assert not torch.equal(first, second)
    generator = torch.Generator().manual_seed(1)
    equal(summed(x, bias, residual, at=None, generator=generator), first)


def test_nothing_is_saved():
    x, bias, residual = inputs(20, 30)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda a: saved.append(a) or a, lambda a: a):
        summed(x, bias, residual)
    assert saved == []


def test_some_gradients():
    x, bias, residual = inputs(20, 30)
    for wanted in (x, bias, residual):
        arrays = [a if a is wanted else a.detach() for a in (x, bias, residual)]
        got, expected = (
            torch.autograd.grad(f(*arrays).sum(), wanted)[0] for f in (summed, sum_formula)
        )
        equal(got, expected)
    assert not summed(*(a.detach() for a in (x, bias, residual))).requires_grad


def test_a_device_without_memory():
    away = [a.detach().to("meta").requires_grad_() for a in inputs(4, 5)]
    y = summed(*away)
    assert [a.shape for a in torch.autograd.grad(y.sum(), away)] == [(4, 5), (5,), (4, 5)]


def options_of_errors():
    x, bias, residual = (a.detach() for a in inputs(4, 5, dtype=torch.float32))
    yield (
        "p must be a float in \\[0, 1\\], got 10. Did you",
        ValueError,
        (x, bias, residual),
        {"p": 10},
    )
    yield "training must be True or False", TypeError, (x, bias, residual), {"training": 1}
    yield "at must be a thinned.Address or None, got 3", TypeError, (x, bias, residual), {"at": 3}
    both = {"generator": torch.Generator()}
    yield "at and generator both say which mask", ValueError, (x, bias, residual), both
    yield "mirror must be True or False", TypeError, (x, bias, residual), {"mirror": 1}
    yield "x must be a torch tensor, got list", TypeError, ([1.0], bias, residual), {}
    yield "x must be of at least one axis", ValueError, (x[0, 0], None, residual), {}
    yield "residual must be a torch tensor, got None", TypeError, (x, bias, None), {}
    yield "residual must be of x's shape \\(4, 5\\)", ValueError, (x, bias, residual[0]), {}
    yield "residual must be on x's device cpu", ValueError, (x, bias, residual.to("meta")), {}
    yield "x must be of type float16", TypeError, (x.int(), None, residual), {}
    yield "bias must be of type float16", TypeError, (x, bias.int(), residual), {}
    yield "broadcasts to \\(4, 5\\), got shape \\(4,\\)", ValueError, (x, bias[:4], residual), {}
    beyond = {"window": Window((0, 3), (4, 5))}
    yield "the window does not fit: axis 1", ValueError, (x, bias, residual), beyond


@pytest.mark.parametrize(("text", "kind", "arrays", "options"), [*options_of_errors()])
def test_errors(text, kind, arrays, options):
    options = {"p": 0.5, "at": AT, "training": True, **options}
    with pytest.raises(kind, match=f"^bias_dropout_add: .*{text}"):
        bias_dropout_add(*arrays, **options)


def test_training_is_required():
    with pytest.raises(TypeError, match="training must be given"):
        bias_dropout_add(*inputs(4, 5), 0.5)


def test_public_names():
    assert set(fused.__all__) == {"bias_dropout_add", "dropout_add_norm"}
