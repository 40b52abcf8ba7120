"""Run by torchrun on every process: thin under DistributedDataParallel."""

import torch
import torch.distributed as dist
from processes import leave
from thin_networks import assert_equal, chain
from torch.nn.parallel import DistributedDataParallel

from thinned.torch import thin

SEED, ROWS = 11, 8


def data():
    generator = torch.Generator().manual_seed(2)
    return torch.randn(ROWS, 32, generator=generator, dtype=torch.float64)


def network():
    torch.manual_seed(7)
    return chain(0.5, 0.25).double()


def trained(model, x, **options):
    """Parameters after three steps, with clipping that sees gradients of every parameter."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    thin(model, seed=SEED, optimizer=optimizer, **options)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def main():
    dist.init_process_group("gloo")
    x = data()
    mine = x.tensor_split(dist.get_world_size())[dist.get_rank()]
    # Processes that hold one batch share its mask: together they are one process.
    found = trained(DistributedDataParallel(network()), mine, ranks="split")
    whole = trained(network(), x, execution="elementwise", ranks="replicated")
    assert_equal(found, whole)
    # With masks of their own they are not.
    other = trained(DistributedDataParallel(network()), mine, ranks="independent")
    assert not torch.allclose(other[0], whole[0])
    gathered = [torch.empty_like(other[0]) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, other[0])
    assert all(torch.equal(gathered[0], one) for one in gathered)
    leave()


if __name__ == "__main__":
    main()
