"""What is taken from PyTorch's inside: every name without a promise, asked for here once.

PyTorch promises nothing for names that begin with an underscore. Where a release lacks one, a
warning says what does not work with it, and `import thinned.torch` goes on. Names that only
finished releases are asked for stand in torch/compat/torch_2_6.py.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch

from thinned.backends.inside import Inside

__all__ = ["NAMES"]

_inside = Inside(
    "PyTorch",
    torch.__version__,
    "Take a release that docs/torch.md names, or a newer thinned.",
)
_taken, NAMES = _inside.take, _inside.names


class _None:
    """A class that nothing is an instance of."""


def _never(*_: Any) -> bool:
    return False


def _nothing(*_: Any) -> None:
    return None


def _minus_one(*_: Any) -> int:
    return -1


# ------------------------------------------------------------------------------------ torch.func

in_transform: Any = _taken(
    "torch._C:_are_functorch_transforms_active",
    "transforms of torch.func (vmap, grad, jvp) are not noticed: masks under them are undefined",
    _never,
)
functorch: Any = _taken(
    "torch._C:_functorch",
    "vmap over dropout fails",
    SimpleNamespace(is_functorch_wrapped_tensor=_never, peek_interpreter_stack=_nothing),
)
is_batched: Any = _taken(
    "torch._C:_functorch.is_batchedtensor", "vmap over dropout without an address fails", _never
)
in_legacy_batch: Any = _taken(
    "torch._C:_functorch.is_legacy_batchedtensor",
    "batched gradients (is_grads_batched=True) of dropout fail",
    _never,
)
without_transforms: Any = _taken(
    "torch._functorch.pyfunctorch:temporarily_clear_interpreter_stack",
    "adopted models fail under transforms of torch.func",
    nullcontext,
)
single_level: Any = _taken(
    "torch._functorch.utils:enable_single_level_autograd_function",
    "derivatives by torch.func of compiled dropout fail",
    nullcontext,
)
ONE_LEVEL: Any = _taken(
    "torch.autograd.function:_SingleLevelFunction",
    "derivatives by torch.func of compiled dropout fail",
    torch.autograd.Function,
)

# ------------------------------------------------------------------------- modes, traces, compilers

modes: Any = _taken(
    "torch._C:_len_torch_dispatch_stack",
    "dispatch modes (FlopCounterMode, FakeTensorMode) do not see dropout",
    lambda: 0,
)
_mode: Any = _taken(
    "torch._C:_get_dispatch_mode", "make_fx and fake tensors are not noticed", _nothing
)


def _asked_for(key: str, costs: str) -> Any:
    """What tells the mode of a kind that is on, or None."""
    found = _taken(f"torch._C:_TorchDispatchModeKey.{key}", costs, None)
    return _nothing if found is None else partial(_mode, found)


fake_mode: Any = _asked_for("FAKE", "FakeTensorMode is not noticed")
proxy_mode: Any = _asked_for("PROXY", "make_fx is not noticed")
functional_mode: Any = _asked_for(
    "FUNCTIONAL", "checkpoints in compiled adopted models are not noticed"
)
without_functions: Any = _taken(
    "torch._C:DisableTorchFunction",
    "adopted models fail under modes that see functions",
    nullcontext,
)
without_modes: Any = _taken(
    "torch.utils._python_dispatch:_disable_current_modes",
    "adopted models fail under dispatch modes",
    nullcontext,
)
_EVERY_THREAD = (
    "Dynamo may compile nothing while a thread predicts or audits, or after two did at once"
)
push_mode: Any = _taken("torch._C:_push_on_torch_dispatch_stack", _EVERY_THREAD, None)
pop_mode: Any = _taken("torch._C:_pop_torch_dispatch_stack", _EVERY_THREAD, None)
# Before 2.10 there is none: whether a mode is on, programs then see from the tensors at hand.
set_mode_seen: Any = _taken(
    "torch._C._dynamo.guards:set_is_in_mode_without_ignore_compile_internals", "", _nothing
)
tracing: Any = _taken(
    "torch._C:_get_tracing_state", "torch.jit.trace is not noticed: traces keep one mask", _nothing
)
is_traced: Any = _taken(
    "torch._C:_is_tracing", "torch.jit.trace of an adopted model is not refused", _never
)
own_dispatch: Any = _taken(
    "torch._C:_disabled_torch_dispatch_impl",
    "subclasses of tensors that wrap others may go past their own dispatch",
    torch.Tensor.__torch_dispatch__,
)
FakeTensor: Any = _taken(
    "torch._subclasses.fake_tensor:FakeTensor", "fake tensors are not noticed", _None
)
frames: Any = _taken(
    "torch._C:_dynamo.eval_frame", "Dynamo may warn of what it cannot trace", _None
)
not_compiled: Any = _taken(
    "torch:_disable_dynamo",
    "a compiled optimizer step is compiled again for each clock",
    lambda function: function,
)
below_autograd: Any = _taken(
    "torch._C:_AutoDispatchBelowAutograd", "dropout in compiled programs fails", nullcontext
)
after_autograd: Any = _taken(
    "torch._C:_after_autograd_keyset", "dropout in compiled programs fails", None
)

# The DistributedDataParallel whose forward runs, or None.
active_ddp: Any = _taken(
    "torch.nn.parallel.distributed:DistributedDataParallel._get_active_ddp_module",
    "LayerDrop skips layers under DistributedDataParallel, which then needs "
    "find_unused_parameters=True",
    _nothing,
)

# ----------------------------------------------------------------------------------- autograd

graph_task: Any = _taken(
    "torch._C:_current_graph_task_id",
    "checkpoints that recompute in adopted models are not noticed: they draw anew",
    _minus_one,
)
graph_node: Any = _taken(
    "torch._C:_current_autograd_node",
    "checkpoints in adopted models cannot be told apart",
    _nothing,
)
sequence: Any = _taken(
    "torch._C:_autograd._get_sequence_nr",
    "checkpoints in adopted models cannot be told apart",
    _minus_one,
)
# Before 2.8 there is none: a checkpoint is seen by its frame.
saved_hooks: Any = _taken("torch._C:_autograd._top_saved_tensors_default_hooks", "", None)
_ONE_CALL = (
    "checkpoints in adopted models need context_fn=thinned.torch.checkpoint_context where they "
    "call a site several times"
)
pop_hooks: Any = _taken("torch._C:_autograd._pop_saved_tensors_default_hooks", _ONE_CALL, None)
push_hooks: Any = _taken("torch._C:_autograd._push_saved_tensors_default_hooks", _ONE_CALL, None)
checkpoint_hook: Any = _taken("torch.utils.checkpoint:_checkpoint_hook", _ONE_CALL, _None)
forward_ad: Any = torch.autograd.forward_ad
forward_mode: Any = _taken(
    "torch.autograd.forward_ad:_current_level", "forward mode of autograd is not noticed", None
)
set_forward_mode: Any = _taken(
    "torch.autograd.forward_ad:_set_fwd_grad_enabled",
    "forward mode under torch.func is not noticed",
    nullcontext,
)
if forward_mode is None:
    forward_ad = SimpleNamespace(_current_level=-1)
softmax_backward: Any = _taken(
    "torch:_softmax_backward_data", "the backward pass of attention fails", None
)
pytree: Any = _taken(
    "torch.utils._pytree", "members.predict and thin take no structures of tensors", None
)


def exporting() -> bool:
    """Whether torch.export reads the program. torch.compiler.is_exporting is True in every program
    that Dynamo reads."""
    return bool(getattr(torch.compiler, "_is_exporting_flag", False))


def memory_budget() -> float:
    """Which part of what a compiled program would keep for its backward pass it may keep."""
    config = import_module("torch._functorch.config")
    return float(getattr(config, "activation_memory_budget", 1.0))


def break_graph() -> None:
    """Leave to eager code what the program that Dynamo traces cannot know."""
    torch._dynamo.graph_break()


def seen_in_programs(function: Any) -> bool:
    """Whether modes are shown the calls of a function in programs, as they are in eager code, from
    now on. Of torch.rand_like Dynamo shows none by itself, and before
    PyTorch 2.12 of torch.rand."""
    variables = import_module("torch._dynamo.variables.torch")
    shown = getattr(variables, "get_overridable_functions", None)
    if shown is None:
        return False
    shown().add(function)
    return True


def is_compiled(module: Any) -> bool:
    """Whether a module is what torch.compile made of one. Dynamo, which takes seconds to load, is
    not loaded for the question."""
    dynamo = sys.modules.get("torch._dynamo")
    return isinstance(module, getattr(dynamo, "OptimizedModule", _None))
