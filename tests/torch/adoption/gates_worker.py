"""Run by torchrun on every process: gates by torch.rand over processes that split a batch."""

import gated
import torch
import torch.distributed as dist
from gated import Columns, Layers, Path, Ranks
from processes import leave
from torch import nn

from thinned.torch import adopt
from thinned.torch.adoption import uniforms

X = torch.randn(8, 4, generator=torch.Generator().manual_seed(1)) + 8


def network(ranks):
    torch.manual_seed(3)
    parts = (Path(gated.floored), Path(gated.like), Columns(), Ranks())
    model = nn.Sequential(*parts, Layers(gated.listed))
    return model, adopt(model, seed=5, ranks=ranks)


def skipped(model):
    """Which layers run."""
    ran = []
    for layer in model[-1].layers:
        layer.register_forward_hook(lambda layer, *_: ran.append(id(layer)))
    model(X[:4])
    numbers = [id(layer) for layer in model[-1].layers]
    return [numbers.index(one) for one in ran]


def of_all(value):
    found = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def main():
    whole = network(None)[0](X)  # before there are several processes
    dist.init_process_group("gloo")
    rank, n = dist.get_rank(), dist.get_world_size()
    mine = slice(rank * 8 // n, (rank + 1) * 8 // n)
    split, _ = network("split")
    torch.testing.assert_close(split(X[mine]), whole[mine])

    for ranks in ("split", "independent", "replicated"):
        first, *others = of_all(skipped(network(ranks)[0]))
        assert 0 < len(first) < 8
        assert all(other == first for other in others), ranks

    paths = Path(gated.floored), Path(gated.floored)
    for path, ranks, equal in zip(paths, ("independent", "replicated"), (False, True), strict=True):
        adopt(path, seed=5, ranks=ranks)
        masks = of_all((path(torch.ones(64, 1)) != 0).tolist())
        assert (masks[0] == masks[1]) == equal, ranks

    # The planted fault: processes that draw for themselves which layer to skip.
    drawn = uniforms.Shard
    uniforms.Shard = lambda start, shape, covers: drawn(start, shape, False)
    first, *others = of_all(skipped(network("independent")[0]))
    assert any(other != first for other in others)
    uniforms.Shard = drawn
    leave()


if __name__ == "__main__":
    main()
