"""Checkpoints that are not PyTorch's, as training libraries write them: an autograd.Function that
runs its forward without gradients and its backward with them. They differ in where the function is
kept meanwhile."""

import torch
from torch.utils.checkpoint import checkpoint


def again(ctx, run, grads):
    """The backward pass of all of them."""
    args = [x.detach().requires_grad_(x.requires_grad) for x in ctx.saved_tensors]
    with torch.enable_grad():
        outputs = run(*args)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    pairs = [(y, g) for y, g in zip(outputs, grads, strict=True) if y.requires_grad]
    torch.autograd.backward([y for y, _ in pairs], [g for _, g in pairs])
    return None, *(x.grad for x in args)


class ByName(torch.autograd.Function):
    """Under the name that PyTorch's has, as Megatron's and DeepSpeed's have."""

    @staticmethod
    def forward(ctx, run, *args):
        ctx.run_function = run
        ctx.save_for_backward(*args)
        with torch.no_grad():
            return run(*args)

    @staticmethod
    def backward(ctx, *grads):
        return again(ctx, ctx.run_function, grads)


class OnlyFunction(torch.autograd.Function):
    """Under another name, as the only function that the context keeps; the forward, too, calls it
    from there."""

    @staticmethod
    def forward(context, run, *args):
        context.forward_function, context.offload = run, False
        context.save_for_backward(*args)
        with torch.no_grad():
            return context.forward_function(*args)

    @staticmethod
    def backward(context, *grads):
        return again(context, context.forward_function, grads)


class Hidden(torch.autograd.Function):
    """Where nobody looks."""

    @staticmethod
    def forward(ctx, run, *args):
        ctx.kept = (run,)
        ctx.save_for_backward(*args)
        with torch.no_grad():
            return run(*args)

    @staticmethod
    def backward(ctx, *grads):
        return again(ctx, ctx.kept[0], grads)


def checkpointed(function, *args, kind=None, **how):
    """function(*args), checkpointed by one of these, or by PyTorch's as `how` says."""
    return checkpoint(function, *args, **how) if kind is None else kind.apply(function, *args)
