"""What the modules of a model are called, and which of them have code of their own."""

from __future__ import annotations

import torch
from torch import nn

from thinned.torch.adoption.bytecode import has_own_forward

__all__ = ["has_own_code", "is_script", "modules_by_name", "unwrapped"]

# Children under which wrappers keep the module itself: no part of its name.
_WRAPPED = (
    *("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"),
    "_forward_module",  # Lightning Fabric's
)
# These call it "module", which is a fine name for a child of anything else.
_CONTAINERS = (
    nn.parallel.DistributedDataParallel,
    nn.DataParallel,
    torch.optim.swa_utils.AveragedModel,
)


def _inner(module: nn.Module) -> nn.Module | None:
    """The module that a wrapper wraps; None for one that is no wrapper."""
    names: tuple[str, ...] = _WRAPPED
    if isinstance(module, _CONTAINERS):
        names = ("module", *_WRAPPED)
    for name in names:
        if name in module._modules:
            return module._modules[name]
    return None


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, under whatever wraps it."""
    while (inner := _inner(model)) is not None:
        model = inner
    return model


def modules_by_name(model: nn.Module) -> dict[nn.Module, list[str]]:
    """Every module of an unwrapped model and its names, wrappers' parts of them left out.

    A module that several others share has several, the first one first.
    """
    found: dict[nn.Module, list[str]] = {}

    def visit(module: nn.Module, name: str, above: tuple[nn.Module, ...]) -> None:
        names = found.setdefault(module, [])
        if name in names or module in above:
            return
        names.append(name)
        if is_script(module):
            return
        wraps = _inner(module)
        for child_name, child in module._modules.items():
            if child is None:
                continue
            longer = f"{name}.{child_name}" if name else child_name
            visit(child, name if child is wraps else longer, (*above, module))

    visit(model, "", ())
    return found


def is_script(module: nn.Module) -> bool:
    """Whether a module is TorchScript's, whose calls no Python sees."""
    return isinstance(module, torch.jit.ScriptModule)


def has_own_code(module: nn.Module) -> bool:
    """Whether a module's forward was written outside PyTorch."""
    if _inner(module) is not None:
        return False
    if isinstance(module, torch.fx.GraphModule):
        return True
    return has_own_forward(module)
