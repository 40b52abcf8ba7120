"""`out=`: what is written there as it is made, and what has to be made elsewhere before."""

import pytest
import torch

import thinned

AT = thinned.Address(seed=3, site="a", step=1)


def drop(x, **how):
    return thinned.dropout(x, 0.4, AT, training=True, **how)


def allocated(call):
    """Bytes of the largest array that PyTorch makes."""
    with torch.profiler.profile(profile_memory=True) as seen:
        call()
    return max((event.self_cpu_memory_usage for event in seen.events()), default=0)


def test_nothing_of_its_size_is_made_beside_it():
    if thinned.kernel_info().name == "reference":
        pytest.skip("the reference makes arrays of what it reckons with")
    x = torch.randn(256, 64)
    out = torch.empty_like(x)
    drop(x, out=out)  # what is made once
    assert allocated(lambda: drop(x, out=out)) < x.nbytes
    assert allocated(lambda: drop(x)) >= x.nbytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values_are_those_without_it(dtype):
    x = torch.randn(33, 65).to(dtype)
    y = drop(x)
    for out in (
        torch.empty_like(x),
        torch.empty(65, 33, dtype=dtype).t(),
        torch.empty(33, 130, dtype=dtype)[:, ::2],
    ):
        assert drop(x, out=out) is out
        assert torch.equal(out, y)
    for odd in (x.t().contiguous().t(), torch.cat([x, x], 1)[:, :65]):
        out = torch.empty_like(y)
        assert torch.equal(drop(odd, out=out), y)


def test_memory_that_both_share_is_read_before_it_is_written():
    memory = torch.randn(101)
    x, out = memory[:-1], memory[1:]
    y = drop(x.clone())
    drop(x, out=out)
    assert torch.equal(out, y)


def test_what_is_differentiated_has_its_gradient():
    x = torch.randn(50, requires_grad=True)
    out = torch.empty(50)
    drop(x, out=out).sum().backward()
    x.grad, got = None, x.grad
    drop(x).sum().backward()
    assert torch.equal(got, x.grad)
    with torch.no_grad():
        assert torch.equal(drop(x, out=out), drop(x))


def test_autograd_sees_that_what_it_keeps_was_written():
    w = torch.randn(50, requires_grad=True)
    out = torch.randn(50)
    loss = (w * out).sum()
    drop(torch.randn(50), out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_tensors_of_the_inference_mode():
    with torch.inference_mode():
        x = torch.randn(50)
        out = torch.empty_like(x)
        assert torch.equal(drop(x, out=out), drop(x))


def test_negative_views_and_tangents_go_the_long_way():
    conjugate = torch.complex(torch.zeros(50), torch.randn(50)).conj()
    x, out = torch.randn(50), torch.complex(torch.zeros(50), torch.zeros(50)).conj().imag
    assert out.is_neg()
    assert torch.equal(drop(x, out=out), drop(x))
    assert torch.equal(
        drop(conjugate.imag, out=torch.empty(50)),
        drop(conjugate.imag.clone()),
    )
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones(50))
        y = drop(dual, out=torch.empty(50))
        tangent = torch.autograd.forward_ad.unpack_dual(y).tangent
        assert torch.equal(tangent, drop(torch.ones(50)))
