"""Dynamo makes no program of a mode's method by itself: it would answer for other calls, too."""

import operator
import re
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.eval_frame import _debug_get_cache_entry_list as programs_of
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from versions import VERSION

import thinned
from thinned.members.waking import _Mute
from thinned.torch import adopt, no_dropout
from thinned.torch.adoption.functional_calls import Calls
from thinned.torch.adoption.switching import _Meeting
from thinned.torch.auditing.cost import Off


def programs(mode):
    """Those of the method after it is called as PyTorch would call it, by eager code whose frames
    Dynamo looks at."""
    torch._dynamo.reset()
    method, x = mode.__torch_function__, torch.ones(2, 3)
    compiled = torch.compile(method, backend="eager")
    seen = object.__new__(mode)
    seen.on = True
    assert torch.equal(compiled(seen, torch.add, (), (x, x)), x + x)
    assert compiled(seen, torch.Tensor.device.__get__, (), (x,)) == x.device
    return programs_of(method.__code__)


@pytest.mark.parametrize("mode", [Calls, _Meeting, _Mute, Off])
def test_no_program_of_its_own(mode):
    assert programs(mode) == []


@pytest.mark.skipif(VERSION < (2, 7), reason="Dynamo of PyTorch 2.6 makes no program of a mode")
def test_fault_a_mode_without_it_has_programs():
    class Plain(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    assert programs(Plain) != []


def test_every_mode_has_it():
    sources = [path.read_text() for path in Path(thinned.__file__).parent.rglob("*.py")]
    before = [line for text in sources for line in re.findall(r"(.*)\n +def __torch_func", text)]
    assert len(before) == 6
    assert {line.strip() for line in before} == {"@inlined"}


# Dynamo makes tensors of NumPy's arrays, and under a mode functions of PyTorch of their operators.
BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")
BINARY += ("eq", "ne", "lt", "le", "gt", "ge")
IN_PLACE = ("iadd", "isub", "imul", "itruediv", "ipow")


class Scaled(nn.Module):
    """Drops, and scales by what NumPy makes of a number: several functions within each other."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.p = inner, 0.5

    def forward(self, x, n):
        return self.inner(functional.dropout(x, self.p, self.training), n)


class Arithmetic(nn.Module):
    def forward(self, x, n):
        a, found = np.log(float(n)), []
        for name in BINARY:
            of = getattr(operator, name)
            found += [of(a, 2), of(2, a), of(a, np.linspace(1, a, 3)[1])]
        found += [-a, +a, abs(a)]
        for name in IN_PLACE:
            found.append(getattr(operator, name)(np.log(float(n)), 2))
        scale = sum(float(i + 1) * torch.as_tensor(f) for i, f in enumerate(found))
        return x + scale.to(x.dtype)


@pytest.mark.parametrize("off", [False, True])
def test_arithmetic_of_arrays_in_a_program_is_that_of_eager_code(off):
    torch._dynamo.reset()
    model = Scaled(Scaled(Arithmetic()))
    adopt(model, seed=0)
    program, clock = torch.compile(model, backend="eager"), model.thinned_adoption.clock
    with no_dropout(model) if off else nullcontext():
        clock.step = 3
        eager = model(torch.ones(8), 5)
        clock.step = 3
        assert torch.allclose(program(torch.ones(8), 5), eager)
