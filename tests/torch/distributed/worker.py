"""Run by torchrun on every process: the masks of one process, drawn by several."""

from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from observed import batch, build, run
from processes import leave
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel
from versions import VERSION

import thinned
from thinned.torch import adopt

SEED = 11


def whole():
    """What one process draws, in two steps."""
    model = build()
    clock = adopt(model, seed=SEED).clock
    first = run(model, batch())
    clock.tick()
    return first, run(model, batch())


def mine(mask):
    rows = mask.shape[0] // dist.get_world_size()
    return mask[dist.get_rank() * rows :][:rows]


def equal(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape, (a.shape, b.shape)
        assert torch.equal(a, b)


def wrapped_in_ddp(wanted):
    model = DistributedDataParallel(build())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    adopt(model, seed=SEED, ranks="split", optimizer=optimizer)
    for masks in wanted:
        equal(run(model, mine(batch())), [mine(m) for m in masks])
        optimizer.step()


def ddp_takes_the_clock_of_rank_zero(wanted):
    inner = build()
    clock = adopt(inner, seed=SEED + dist.get_rank(), ranks="split").clock
    if dist.get_rank() == 0:
        clock.tick()
    model = DistributedDataParallel(inner)
    equal(run(model, mine(batch())), [mine(m) for m in wanted[1]])
    assert clock.seed == SEED
    assert clock.step == 1


def pieces_of_each_rank(wanted):
    model = DistributedDataParallel(build())
    clock = adopt(model, seed=SEED, ranks="split").clock
    rows = 8 // dist.get_world_size()
    for row in range(dist.get_rank() * rows, (dist.get_rank() + 1) * rows):
        with clock.piece(row):
            equal(run(model, batch()[row : row + 1]), [m[row : row + 1] for m in wanted[0]])


def sharded_weights(wanted):
    model = build()
    fully_shard(model.first)
    fully_shard(model)
    adopt(model, seed=SEED, ranks="split")
    equal(run(model, mine(batch())), [mine(m) for m in wanted[0]])


def sharded_and_compiled(wanted):
    model = build()
    adopt(model, seed=SEED, ranks="split")
    compiled = torch.compile(DistributedDataParallel(model), backend="aot_eager_decomp_partition")
    equal(run(compiled, mine(batch())), [mine(m) for m in wanted[0]])


def perceptron(seen):
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(6, 10), nn.Dropout(0.5), nn.Linear(10, 8), nn.Dropout(0.5))
    adopt(model, seed=SEED, ranks="replicated")
    for site in (model[1], model[3]):
        site.register_forward_hook(lambda _, __, y: seen.append(whole_of(y) != 0))
    return model


def tensor_and_sequence_parallel(mesh):
    alone, together = [], []
    perceptron(alone)(batch())
    model = perceptron(together)
    plan = {
        "0": ColwiseParallel(use_local_output=False),  # 10 columns: uneven over 4 processes
        "2": RowwiseParallel(output_layouts=Shard(1), use_local_output=False),  # 5 tokens: uneven
        "3": SequenceParallel(),
    }
    y = parallelize_module(model, mesh, plan)(batch())
    assert y.placements == (Shard(1),)
    y.sum().backward()
    equal(together, alone)


def whole_of(x):
    return x.full_tensor() if hasattr(x, "full_tensor") else x


def any_axis_unevenly(mesh, placements):
    site = nn.Dropout(0.5)
    adopt(site, seed=SEED)
    x = torch.ones(5, 6, 7)
    kept = thinned.keep_mask(x.shape, 0.5, thinned.Address(SEED, ""), like=x)
    sharded = distribute_tensor(x, mesh, placements).requires_grad_()
    y = site(sharded)
    assert y.placements == tuple(placements)
    y.backward(distribute_tensor(x, mesh, placements))
    equal([y.full_tensor() != 0, sharded.grad.full_tensor() != 0], [kept, kept])


def a_drop_in_that_nobody_adopted(mesh):
    """Seeded alike, as DTensors want it, each process drops its part of one mask."""
    x = torch.ones(5, 6)
    for module in (thinned.torch.Dropout(0.5), thinned.torch.DropPath(0.5)):
        torch.manual_seed(7)
        y = module(distribute_tensor(x, mesh, [Shard(0)]))
        assert y.placements == (Shard(0),)
        torch.manual_seed(7)
        equal([y.full_tensor()], [module(x)])


def saying_nothing_is_an_error():
    model = build()
    adopt(model, seed=SEED)
    with pytest.raises(RuntimeError, match="ranks='split'"):
        run(model, batch())


def independent_and_replicated(wanted):
    model = build()
    adopt(model, seed=SEED, ranks="replicated")
    equal(run(model, batch()), wanted[0])
    model = build()
    adopt(model, seed=SEED, ranks="independent")
    drop = run(model, batch())[0]
    at = thinned.Address(SEED, "drop").fold_in(dist.get_rank())
    equal([drop], [thinned.keep_mask(drop.shape, 0.5, at, like=torch.ones(1))])


def uneven_parts_are_an_error(wanted):
    """Said by every process at once, on the first call, and mended by a piece."""
    rank = dist.get_rank()
    start, end = (0, 3) if rank == 0 else (rank + 2, rank + 3)
    for mended in (False, True):
        model = build()
        clock = adopt(model, seed=SEED, ranks="split").clock
        if mended:
            with clock.piece(start):
                masks = run(model, batch()[start:end])
            equal(masks, [m[start:end] for m in wanted[0]])
            continue
        with pytest.raises(RuntimeError, match=r"parts of equal sizes, got \[3, 1.*clock.piece"):
            run(model, batch()[start:end])


class Attends(nn.Module):
    def forward(self, q, k, v, mask):
        return nn.functional.scaled_dot_product_attention(q, k, v, mask, dropout_p=0.3)


def sharded_heads_with_nothing_to_attend_to(mesh):
    """Each process has some of the heads; a row without a key gives zeros, as on one process."""
    torch.manual_seed(3)
    q, k, v = torch.randn(3, 2, 4, 5, 6)
    mask = torch.ones(5, 5, dtype=torch.bool).index_fill(0, torch.tensor([2]), False)

    def attended(arrays, mask):
        model = Attends()
        adopt(model, seed=SEED, ranks="replicated")
        arrays = [x.detach().requires_grad_() for x in arrays]
        y = model(*arrays, mask)
        y.square().sum().backward()
        return [y.detach(), *(x.grad for x in arrays)]

    wanted = attended([q, k, v], mask)
    assert (wanted[0][:, :, 2] == 0).all()
    mask = distribute_tensor(mask, mesh, [Replicate()])
    heads, whole = Shard(1), Replicate()
    for cuts in ([heads] * 3, [heads, heads, whole], [whole, heads, heads], [whole, whole, heads]):
        arrays = [distribute_tensor(x, mesh, [cut]) for x, cut in zip((q, k, v), cuts, strict=True)]
        found = attended(arrays, mask)
        assert found[0].placements == (heads,)
        torch.testing.assert_close([x.full_tensor() for x in found], wanted)


def a_fault_is_seen(wanted):
    """Without its window every rank draws the masks of the first rows, and the comparison fails."""
    model = build()
    adopt(model, seed=SEED, ranks="split")
    with patch("thinned.torch.adoption.site.window_of", lambda *_: None):
        masks = run(model, mine(batch()))
    assert torch.equal(masks[0], mine(wanted[0][0])) == (dist.get_rank() == 0)


def main():
    torch.set_num_threads(1)
    wanted = whole()
    dist.init_process_group("gloo")
    n = dist.get_world_size()
    line = init_device_mesh("cpu", (n,))
    wrapped_in_ddp(wanted)
    ddp_takes_the_clock_of_rank_zero(wanted)
    pieces_of_each_rank(wanted)
    if VERSION >= (2, 7):  # test_processes.py says why
        sharded_weights(wanted)
    if n == 2:
        sharded_and_compiled(wanted)
    tensor_and_sequence_parallel(line)
    a_drop_in_that_nobody_adopted(line)
    for axis in range(3):
        any_axis_unevenly(line, [Shard(axis)])
    if n == 4:
        square = init_device_mesh("cpu", (2, 2), mesh_dim_names=("a", "b"))
        any_axis_unevenly(square, [Shard(0), Shard(2)])
        any_axis_unevenly(square, [Shard(1), Shard(1)])
    saying_nothing_is_an_error()
    independent_and_replicated(wanted)
    uneven_parts_are_an_error(wanted)
    sharded_heads_with_nothing_to_attend_to(line)
    a_fault_is_seen(wanted)
    leave()


if __name__ == "__main__":
    main()
