"""Attention by the plain formula with thinned.keep_mask, and inputs to compare on."""

import math

import torch
from torch.nn import functional

import thinned
from thinned import Address
from thinned.torch.attention.functional import scaled_dot_product_attention

AT = Address(seed=3, site="attention", step=5)
P = 0.3


def made(*shape, seed=0, dtype=torch.float64, **options):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype, **options).requires_grad_()


def inputs(B=2, H=3, L=7, S=9, E=4, V=4, permuted=False, dtype=torch.float64):
    """Query, key and value; permuted: laid out as projections leave them, (B, tokens, H, E)."""
    sizes = [(L, E), (S, E), (S, V)]
    if not permuted:
        return [made(B, H, n, m, seed=i, dtype=dtype) for i, (n, m) in enumerate(sizes)]
    made_so = [made(B, n, H, m, seed=i, dtype=dtype).detach() for i, (n, m) in enumerate(sizes)]
    return [x.transpose(1, 2).requires_grad_() for x in made_so]


def formula(q, k, v, mask=None, p=P, at=AT, is_causal=False, scale=None, mirror=False):
    scores = q @ k.mT * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    if is_causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        scores = scores.masked_fill(~allowed, -math.inf)
    nothing = (scores == -math.inf).all(-1, keepdim=True)
    weights = torch.softmax(scores.masked_fill(nothing, 0.0), -1).masked_fill(nothing, 0.0)
    keep = torch.from_numpy(thinned.keep_mask(tuple(weights.shape), p, at, mirror=mirror))
    return torch.where(keep, weights / (1 - p), 0.0) @ v


def ours(q, k, v, mask=None, p=P, at=AT, **options):
    return scaled_dot_product_attention(q, k, v, mask, p, at, training=True, **options)


def check(arrays, mask=None, **options):
    """Values and all gradients are the formula's."""
    q, k, v = arrays
    got, expected = ours(q, k, v, mask, **options), formula(q, k, v, mask, **options)
    torch.testing.assert_close(got, expected)
    upstream = made(*got.shape, seed=9).detach()
    wanted = [x for x in (q, k, v, mask) if x is not None and x.requires_grad]
    assert len(wanted) >= 3
    ours_grads = torch.autograd.grad(got, wanted, upstream)
    for x, y in zip(ours_grads, torch.autograd.grad(expected, wanted, upstream), strict=True):
        torch.testing.assert_close(x, y)


MASKS = {
    "none": lambda B, H, L, S: None,
    "bool": lambda B, H, L, S: made(L, S, seed=4) > 0,
    "padding": lambda B, H, L, S: made(B, 1, 1, S, seed=4) > 0,
    "one axis": lambda B, H, L, S: made(S, seed=4),
    "bias of all": lambda B, H, L, S: made(L, S, seed=4),
    "bias of heads": lambda B, H, L, S: made(1, H, L, S, seed=4),
    "bias of samples": lambda B, H, L, S: made(B, 1, L, 1, seed=4),
    "full bias": lambda B, H, L, S: made(B, H, L, S, seed=4),
}


def rows_without_anything():
    for mask in (
        torch.ones(7, 9, dtype=torch.bool).index_fill(0, torch.tensor([2, 5]), False),
        made(7, 9, seed=4).detach().index_fill(0, torch.tensor([2, 5]), -math.inf).requires_grad_(),
    ):
        q, k, v = inputs()
        check((q, k, v), mask)
        wanted = [x for x in (q, k, v, mask) if x.requires_grad]
        out = ours(q, k, v, mask)
        assert (out[:, :, [2, 5]] == 0).all()
        assert all(x.isfinite().all() for x in torch.autograd.grad(out.sum(), wanted))
        theirs = functional.scaled_dot_product_attention(q, k, v, mask, dropout_p=0.5)
        assert (theirs[:, :, [2, 5]] == 0).all()
