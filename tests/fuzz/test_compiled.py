"""A sample of the generated calls inside of compiled programs: the eager answer, to the bit."""

import random

import pytest
import torch

from .calls import UnbuildableError, answer, built, same
from .command import MORE
from .expected import SHARED
from .making import drawn_call
from .surface import surface

# Nearly every call is a program of its own, which takes a second to compile.
PROGRAMS = 4 * MORE
CONSTANTS = (int, float, bool, str, tuple, type(None))


def right_calls(names, seed, count):
    """(call, arguments, eager answer) of calls that are answered, their p a constant."""
    source = random.Random(seed)
    while count:
        call, _ = drawn_call(names, source)
        try:
            arguments = built(call, "torch")
        except (UnbuildableError, TypeError, ValueError):
            continue
        eager = answer(call, arguments, "torch")
        if eager.error is None and type(arguments["p"]) in CONSTANTS:
            count -= 1
            yield call, arguments, eager


@pytest.mark.parametrize("seed", range(33, 33 + PROGRAMS))
def test_compiled_calls_are_the_eager_ones(seed):
    ((call, arguments, eager),) = right_calls(sorted(SHARED), seed, 1)
    function = surface()[call.function]
    arrays = {n: a for n, a in arguments.items() if isinstance(a, torch.Tensor)}
    rest = {n: a for n, a in arguments.items() if n not in arrays}

    def program(arrays):
        return function(**arrays, **rest)

    torch.compiler.reset()
    compiled = torch.compile(program, backend="aot_eager", fullgraph=True)
    assert same(compiled(arrays), eager.value), str(call)
