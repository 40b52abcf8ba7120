"""Run by torchrun on every process: each module of the catalogue on the shard that is here."""

import torch.distributed as dist
from processes import leave
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from methods.garden import MODULES, Garden, beds, same
from thinned.torch import adopt

SEED = 7


def main():
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    arrays = beds()
    garden = Garden()
    clock = adopt(garden, seed=SEED, ranks="replicated").clock
    whole = garden(arrays)
    found, expected = {}, {}
    for name, row in MODULES.items():
        x, *rest = arrays[name]
        # Arrays beside x would have to be sharded with it.
        if rest or not row.sample.keeps_shape:
            continue
        for axis in row.sample.splits:
            clock.tick()
            clock.buffer[2] = 0
            y = getattr(garden, name)(distribute_tensor(x, mesh, [Shard(axis)]))
            assert y.placements == (Shard(axis),), name
            found[f"{name} on axis {axis}"] = y.full_tensor()
            expected[f"{name} on axis {axis}"] = whole[name]
    assert found
    same(found, expected, 1e-6)
    leave()


if __name__ == "__main__":
    main()
