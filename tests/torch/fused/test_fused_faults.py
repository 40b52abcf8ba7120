"""Mistakes that the fused kernels could make, planted one at a time: the comparison sees each."""

import pytest
import torch
from residual import check_norm, check_sum, inputs, made

from thinned.backends.torch import rows
from thinned.backends.torch.kernel import make
from thinned.torch.fused import add, norm


def elsewhere(how):
    """The next step's mask."""
    return how._replace(draw=how.draw._replace(at=how.draw.at.replace(step=6)))


def one_rounding(monkeypatch):
    monkeypatch.setattr(
        rows,
        "add",
        lambda x, bias, residual, how: (residual.float() + make(x.float() + bias.float(), how)).to(
            residual.dtype
        ),
    )


def bias_after_dropout(monkeypatch):
    monkeypatch.setattr(
        rows, "add", lambda x, bias, residual, how: residual + (make(x, how) + bias)
    )


def residual_dropped(monkeypatch):
    monkeypatch.setattr(
        rows, "add", lambda x, bias, residual, how: make(residual + (x + bias), how)
    )


def another_mask_in_the_sums_backward(monkeypatch):
    real = add._again
    monkeypatch.setattr(add, "_again", lambda grad, how: real(grad, elsewhere(how)))


def no_scale_in_the_sums_backward(monkeypatch):
    real = add._again
    monkeypatch.setattr(add, "_again", lambda grad, how: real(grad, how._replace(scale=1.0)))


SUMS = [
    one_rounding,
    bias_after_dropout,
    residual_dropped,
    another_mask_in_the_sums_backward,
    no_scale_in_the_sums_backward,
]


@pytest.mark.parametrize("fault", SUMS)
def test_faults_of_sums_are_caught(fault, monkeypatch):
    given = inputs(6, 200, dtype=torch.bfloat16)
    check_sum(*given)
    fault(monkeypatch)
    with pytest.raises(AssertionError, match="Tensor-likes are not"):
        check_sum(*given)


def spoiled(name, change):
    """The kernel's answer, changed."""

    def plant(monkeypatch):
        real = getattr(rows, name)
        monkeypatch.setattr(norm.rows, name, lambda *given: change(real, *given))

    return plant


def with_another_mask(real, *given):
    *first, how, settings, kind = given
    return real(*first, elsewhere(how), settings, kind)


def without_the_sums_own_gradient(real, grad, more, *rest):
    return real(grad, None, *rest)


def undropped(real, *given):
    dx, dz, *sums = real(*given)
    return (dz.to(dx.dtype), dz, *sums)


def weights_of_one_part(real, *given):
    dx, dz, dweight, dshift = real(*given)
    return dx, dz, dweight / 2, dshift


def without_means(real, x, residual, weight, shift, how, settings):
    return real(x, residual, weight, shift, how, settings._replace(rms=True))


def without_eps(real, x, residual, weight, shift, how, settings):
    return real(x, residual, weight, shift, how, settings._replace(eps=0.0))


NORMS = {
    "another mask in backward": spoiled("backward", with_another_mask),
    "the sum's own gradient lost": spoiled("backward", without_the_sums_own_gradient),
    "x takes the residual's gradient": spoiled("backward", undropped),
    "part of the weight's gradient": spoiled("backward", weights_of_one_part),
    "no mean": spoiled("forward", without_means),
    "no eps": spoiled("forward", without_eps),
}


@pytest.mark.parametrize("fault", NORMS)
def test_faults_of_norms_are_caught(fault, monkeypatch):
    x, _, residual = inputs(6, 200)
    given = (x, residual, made(200, seed=3), made(200, seed=4))
    check_norm(*given, eps=0.1)
    NORMS[fault](monkeypatch)
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        check_norm(*given, eps=0.1)
