"""The fused kernels of a residual stream: sums to the bit, norms and gradients to rounding."""

import pytest
import torch
import triton  # noqa: F401 (where it is absent, this file is skipped)
from residual import check_norm, check_sum, inputs, made, normed, summed

from thinned import Window
from thinned.backends.torch import rows
from thinned.backends.torch.triton import summing

P = 0.5  # a plane: the interpreter takes a second for each sixteen
KINDS = ["layer", "rms"]


@pytest.fixture(autouse=True)
def counted(monkeypatch):
    """How often the kernels ran: PyTorch's operations would pass every test."""
    calls = []
    for name in ("add", "norm", "gradients"):
        real = getattr(summing, name)

        def call(*given, real=real, name=name):
            calls.append(name)
            return real(*given)

        monkeypatch.setattr(summing, name, call)
    return calls


def arrays(*shape, dtype=torch.float32, residual=None):
    x, _, beside = inputs(*shape, dtype=dtype, residual=residual)
    return x, beside, made(shape[-1], seed=3, dtype=dtype), made(shape[-1], seed=4, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_sums(dtype, counted):
    x, bias, residual = inputs(3, 200, dtype=dtype)
    check_sum(x, bias, residual, p=P)
    check_sum(x, None, residual, p=P, mirror=True)
    if dtype.itemsize == 2:
        check_sum(*inputs(3, 200, dtype=dtype, residual=torch.float32), p=P)
    assert set(counted) == {"add"}


@pytest.mark.parametrize("shape", [(1,), (7, 1), (2, 3, 128), (5, 130), (9000,)])
def test_sums_of_any_shape(shape, counted):
    check_sum(*inputs(*shape, dtype=torch.float32), p=P)
    assert counted == ["add"]


@pytest.mark.parametrize("p", [0.3, 1e-12, 1.0])
def test_rates(p):
    check_sum(*inputs(2, 130, dtype=torch.float32), p=p)
    check_norm(*arrays(2, 130), p=p)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_norms(kind, dtype, counted):
    check_norm(*arrays(3, 200, dtype=dtype), p=P, kind=kind)
    if dtype.itemsize == 2:
        check_norm(*arrays(3, 200, dtype=dtype, residual=torch.float32), p=P, kind=kind)
    assert set(counted) == {"norm", "gradients"}


@pytest.mark.parametrize("shape", [(5, 2), (2, 3, 128), (1, 1300)])
def test_norms_of_any_shape(shape, counted):
    check_norm(*arrays(*shape), p=P)
    assert counted == ["norm", "gradients"]


def test_what_may_be_missing():
    x, residual, weight, bias = arrays(3, 100)
    for some in ((None, weight, bias), (residual, None, bias), (residual, weight, None)):
        check_norm(x, *some, p=P)


def test_rows_that_share_a_program(monkeypatch):
    monkeypatch.setattr(summing, "PARTS", 2)
    check_norm(*arrays(5, 100), p=P)


def test_windows_are_parts_of_the_whole(on_cpu):
    x, bias, residual = (a.detach() for a in inputs(6, 4, 40, dtype=torch.float32))
    window = Window((2, 1, 0), (6, 4, 40))
    part = (slice(2, 4), slice(1, 3))
    whole = on_cpu(lambda: summed(x, bias, residual, p=P))
    assert torch.equal(summed(x[part], bias, residual[part], p=P, window=window), whole[part])
    _, sums = on_cpu(lambda: normed(x, residual, bias, None, p=P))
    _, z = normed(x[part], residual[part], bias, None, p=P, window=window)
    assert torch.equal(z, sums[part])


def test_rows_that_are_too_long(monkeypatch, counted):
    monkeypatch.setattr(rows, "WIDEST_ON_DEVICES", 64)
    check_norm(*arrays(3, 100), p=P)
    assert counted == []


# ---------------------------------------------------------------------------------- planted faults


def the_next_rows_draws(monkeypatch):
    real = summing._draws

    def spoiled(how, width):
        where = how.draw.place
        moved = type(where)(where.shape, where.offset + 100, where.strides, False, where.strides)
        return real(how._replace(draw=how.draw._replace(place=moved)), width)

    monkeypatch.setattr(summing, "_draws", spoiled)


def no_next_block(monkeypatch):
    real = summing._draws

    def spoiled(how, width):
        told, more = real(how, width)
        return told, {**more, "MOVED": False}

    monkeypatch.setattr(summing, "_draws", spoiled)


@pytest.mark.parametrize("fault", [the_next_rows_draws, no_next_block])
def test_faults_are_caught(fault, monkeypatch):
    fault(monkeypatch)
    with pytest.raises(AssertionError, match="Tensor-likes are not equal"):
        check_sum(*inputs(3, 100, dtype=torch.float32), p=P)
