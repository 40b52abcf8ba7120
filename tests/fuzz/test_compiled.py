"""A sample of the generated calls inside of compiled programs: the eager answer, to the bit."""

import torch
from hypothesis import HealthCheck, Phase, assume, given, seed, settings

from .calls import UnbuildableError, answer, built, calls, same
from .command import MORE
from .expected import SHARED
from .surface import surface

# Nearly every call is a program of its own, which takes a second to compile.
PROGRAMS = 4 * MORE
CONSTANTS = (int, float, bool, str, tuple, type(None))


@settings(
    max_examples=PROGRAMS,
    database=None,
    deadline=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
@seed(33)
@given(calls(sorted(SHARED)))
def test_compiled_calls_are_the_eager_ones(call):
    try:
        arguments = built(call, "torch")
    except (UnbuildableError, TypeError, ValueError):
        assume(False)
    eager = answer(call, arguments, "torch")
    assume(eager.error is None)
    assume(type(arguments["p"]) in CONSTANTS)
    function = surface()[call.function]
    arrays = {n: a for n, a in arguments.items() if isinstance(a, torch.Tensor)}
    rest = {n: a for n, a in arguments.items() if n not in arrays}

    def program(arrays):
        return function(**arrays, **rest)

    torch.compiler.reset()
    compiled = torch.compile(program, backend="aot_eager", fullgraph=True)
    assert same(compiled(arrays), eager.value), str(call)
