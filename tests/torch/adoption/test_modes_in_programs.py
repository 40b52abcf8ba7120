"""Dynamo makes no program of a mode's method by itself: it would answer for other calls, too."""

import re
from pathlib import Path

import pytest
import torch
from torch._dynamo.eval_frame import _debug_get_cache_entry_list as programs_of
from torch.overrides import TorchFunctionMode

import thinned
from thinned.members.waking import _Mute
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
