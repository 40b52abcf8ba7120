"""The fused functions' formulas in PyTorch's own operations, and inputs to compare on."""

import torch
from torch.nn import functional

import thinned
from thinned import Address
from thinned.torch.fused import bias_dropout_add, dropout_add_norm

AT = Address(seed=3, site="mlp", step=5)
P = 0.3
HALVES = (torch.float16, torch.bfloat16)
DTYPES = (torch.float32, torch.float64, *HALVES)


def made(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x.to(dtype).requires_grad_()


def inputs(*shape, dtype=torch.float64, residual=None):
    """x, bias, residual."""
    n = shape[-1]
    wide = residual or dtype
    return made(*shape, dtype=dtype), made(n, seed=1, dtype=dtype), made(*shape, seed=2, dtype=wide)


def summed(x, bias, residual, p=P, at=AT, **options):
    return bias_dropout_add(x, bias, residual, p, at, training=True, **options)


def sum_formula(x, bias, residual, p=P, at=AT, **options):
    return residual + thinned.dropout(x if bias is None else x + bias, p, at, **options)


def normed(x, residual, weight, bias, p=P, at=AT, **options):
    """(y, z) unless prenorm=False is passed."""
    options = {"prenorm": True, **options}
    return dropout_add_norm(x, residual, weight, p, at, bias=bias, training=True, **options)


def norm_formula(x, residual, weight, bias, p=P, at=AT, kind="layer", eps=1e-5, **options):
    """The same in z's arithmetic."""
    z = thinned.dropout(x, p, at, **options)
    z = z if residual is None else residual + z
    wide = z.dtype if z.dtype == torch.float64 else torch.float32
    v, w, b = (None if a is None else a.to(wide) for a in (z, weight, bias))
    if kind == "layer":
        y = functional.layer_norm(v, v.shape[-1:], w, b, eps)
    else:
        y = v / (v.square().mean(-1, keepdim=True) + eps).sqrt()
        y = y if w is None else y * w
        y = y if b is None else y + b
    return y.to(x.dtype), z


def check_sum(x, bias, residual, **options):
    """To the bit, gradients too."""
    got, expected = (f(x, bias, residual, **options) for f in (summed, sum_formula))
    equal(got, expected)
    arrays = [a for a in (x, bias, residual) if a is not None]
    upstream = made(*got.shape, seed=9, dtype=got.dtype).detach()
    ours = torch.autograd.grad(got, arrays, upstream)
    for a, b in zip(ours, torch.autograd.grad(expected, arrays, upstream), strict=True):
        equal(a, b)


def equal(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def check_norm(x, residual, weight, bias, **options):
    """z to the bit; y and the gradients to rounding."""
    arguments = (x, residual, weight, bias)
    (y, z), (expected, whole) = (f(*arguments, **options) for f in (normed, norm_formula))
    equal(z, whole)
    torch.testing.assert_close(y, expected)
    arrays = [a for a in arguments if a is not None]
    upstream = [made(*a.shape, seed=i, dtype=a.dtype).detach() for i, a in ((8, y), (9, z))]
    ours = torch.autograd.grad((y, z), arrays, upstream)
    theirs = torch.autograd.grad((expected, whole), arrays, upstream)
    # The formula rounds the gradient of a half type's sum at each step, the kernel once.
    loose = {"rtol": 0.02, "atol": 0.05} if x.dtype in HALVES else {}
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, **loose)
