"""The gradients of attention by its plain formula, for derivatives of them and for batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from thinned.backends.torch.eager import _in_transform, seed_again
from thinned.torch.attention.blockwise import Plan, plain

__all__ = ["derived"]


def derived(
    inputs: tuple[Tensor | None, ...], wanted: Sequence[bool], grad: Tensor, plan: Plan
) -> list[Tensor | None]:
    """The gradients by the plain formula: of a batch of gradients, and as a graph of their own
    where derivatives of them may be asked for."""
    again, transformed = torch.is_grad_enabled(), _in_transform()
    seed = seed_again(plan.how) if transformed else None  # the mask is the forward's

    def own(x: Tensor) -> Tensor:
        # A name of its own for what may be one tensor: each shall get its own share.
        return x.view_as(x) if again or transformed else x.detach().requires_grad_()

    asked = [own(x) for x, want in zip(inputs, wanted, strict=True) if want and x is not None]

    def formula(*some: Tensor) -> Tensor:
        named = iter(some)
        pairs = zip(inputs, wanted, strict=True)
        q, k, v, mask = (next(named) if want and x is not None else x for x, want in pairs)
        assert q is not None
        assert k is not None
        assert v is not None
        return plain(q, k, v, mask, plan, seed)

    if transformed:
        grads = iter(torch.func.vjp(formula, *asked)[1](grad))
    else:
        with torch.enable_grad():
            out = formula(*asked)
        grads = iter(torch.autograd.grad(out, asked, grad, create_graph=again))
    return [next(grads) if want else None for want in wanted]
