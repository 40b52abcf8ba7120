"""The modules made from rows: alone, adopted, compiled, checkpointed, in pieces, in processes."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import needs_gloo, run_in_processes
from torch._dynamo.testing import CompileCounterWithBackend

import thinned.torch
from thinned import Address
from thinned.torch import adopt, checkpoint_context, release
from thinned.torch.layers.from_rows import made

from .garden import MODULES, Garden, beds, gradients, module, same
from .trying import as_numpy, call

over_modules = pytest.mark.parametrize("name", sorted(MODULES))
# PyTorch deprecates a part of itself that its compiler imports.
compiled = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is :DeprecationWarning")


@over_modules
def test_a_module_alone_obeys_the_generator(name):
    row, arrays = MODULES[name], beds([name])[name]
    alone = module(row)
    torch.manual_seed(4)
    first, second = alone(*arrays), alone(*arrays)
    torch.manual_seed(4)
    assert torch.equal(alone(*arrays), first)
    torch.manual_seed(4)
    at = Address(int(torch.empty((), dtype=torch.int64).random_(-(2**63), 2**63 - 1)) % 2**64)
    assert torch.equal(call(row, arrays, at), first)
    others = [second, *(alone(*arrays) for _ in range(20))]
    assert any(not torch.equal(other, first) for other in others)
    alone.eval()
    state = torch.get_rng_state()
    quiet = alone(*arrays)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(as_numpy(quiet), as_numpy(call(row, arrays, training=False)))


@over_modules
def test_a_module_copies_pickles_and_shows_its_p(name):
    one = module(MODULES[name])
    assert (f"p={one.p}" in repr(one)) == MODULES[name].has_p
    assert repr(one).startswith(f"{name}(")
    assert dict(one.state_dict()) == {}
    for twin in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert type(twin) is type(one) is getattr(thinned.torch, name)
        assert (twin.p, twin.options) == (one.p, one.options)
    with pytest.raises(TypeError, match=rf"^{name}: 'nonsense' is no argument"):
        made()[name](nonsense=1)
    if MODULES[name].has_p:
        with pytest.raises(ValueError, match=rf"^{name}: p must be a float in \[0, 1\], got 1.5"):
            made()[name](1.5, **MODULES[name].sample.options)


def test_adopted_each_draws_at_its_site():
    garden, arrays = Garden(), beds()
    clock = adopt(garden, seed=7).clock
    for step in range(2):
        for number in range(2):
            ys = garden(arrays)
            same(ys, {
                name: call(row, arrays[name], Address(7, name, step, number))
                for name, row in MODULES.items()
            })  # fmt: skip
        clock.tick()
    release(garden)
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match="differ"):
        same(garden(arrays), ys)


@pytest.mark.long
@compiled
def test_compiled_by_the_real_compiler_all_draw_alike():
    """In one program: every module's y and gradient in a second step, and in evaluation."""
    torch._dynamo.reset()
    garden = Garden()
    clock = adopt(garden, seed=7).clock
    clock.tick()
    arrays = beds(grad=True)
    ys = garden(arrays)
    expected = gradients(ys, arrays)
    program = torch.compile(garden, fullgraph=True)
    clock.buffer[2] = 0
    clock.tick()
    found = program(arrays)
    same(found, ys, 1e-5)
    same(gradients(found, arrays), expected, 1e-4)


@compiled
def test_neither_step_nor_p_is_a_new_program():
    torch._dynamo.reset()
    names = [
        name
        for name, row in MODULES.items()
        if row.sample.keeps_shape and not row.sample.fixed_p and row.has_p
    ]
    garden, arrays = Garden(names), beds(names)
    clock = adopt(garden, seed=7).clock
    counter = CompileCounterWithBackend("aot_eager")
    program = torch.compile(garden, backend=counter, fullgraph=True)
    for p in (None, 0.2, 0.45):
        for name in names if p is not None else ():
            getattr(garden, name).p = p
        found = program(arrays)
        step = clock.step
        ps = {name: getattr(garden, name).p for name in names}
        expected = {
            name: call(MODULES[name], arrays[name], Address(7, name, step), p=ps[name])
            for name in names
        }
        same(found, expected, 1e-5)
        clock.tick()
    assert counter.frame_count == 1


@pytest.mark.parametrize("how", [
    {"use_reentrant": False},
    {"use_reentrant": True},
    {"use_reentrant": False, "context_fn": checkpoint_context},
], ids=["plain", "reentrant", "noted"])  # fmt: skip
def test_a_recompute_draws_the_forwards_mask(how):
    names = [name for name, row in MODULES.items() if row.sample.grad]
    arrays = beds(names, grad=True)
    wanted = []
    for option in (None, how):
        garden = Garden(names, option)
        adopt(garden, seed=7)
        wanted.append(gradients(garden(arrays), arrays))
    same(wanted[1], wanted[0], 1e-6)


def test_pieces_of_a_batch_draw_the_whole_ones_masks():
    rows_on = {name: row.batch_axis(module(row).options) for name, row in MODULES.items()}
    names = [name for name, row in MODULES.items() if rows_on[name] in row.sample.splits]
    arrays = beds(names)
    garden = Garden(names)
    clock = adopt(garden, seed=7).clock
    whole = garden(arrays)
    clock.tick()
    clock.buffer[2] = 0
    for name in names:
        axis = rows_on[name]
        x, length = arrays[name][0], arrays[name][0].shape[axis]
        parts = []
        for first, stop in ((0, 2), (2, length)):
            with clock.piece(first, rows=stop - first, of=length):
                parts.append(getattr(garden, name)(*(
                    a.narrow(axis, first, stop - first)
                    if a.dim() == x.dim() and a.shape[axis] == length else a
                    for a in arrays[name]
                )))  # fmt: skip
        same({name: torch.cat(parts, axis)}, {name: whole[name]}, 1e-6)


@pytest.mark.long
@needs_gloo
def test_processes_draw_their_parts_of_one_mask():
    run_in_processes(Path(__file__).with_name("worker.py"), 2)
