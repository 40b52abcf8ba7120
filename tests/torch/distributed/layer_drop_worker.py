"""Run by torchrun on every process: LayerDrop where DistributedDataParallel awaits gradients."""

import pytest
import torch
import torch.distributed as dist
from processes import leave
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import thinned.torch
from thinned.torch import adopt

SEED, STEPS, LAYERS = 11, 6, 4


def data(rank):
    return torch.randn(8, 16, generator=torch.Generator().manual_seed(rank)).double()


def network(**how):
    torch.manual_seed(7)
    layers = [nn.Sequential(nn.Linear(16, 16), nn.Tanh()) for _ in range(LAYERS)]
    return nn.Sequential(thinned.torch.LayerDrop(layers, 0.5, **how), nn.Linear(16, 1)).double()


def trained(model, ranks):
    """The parameters after some steps on the mean loss of these ranks' rows."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    clock = adopt(model, seed=SEED, optimizer=optimizer, ranks="replicated").clock
    for _ in range(STEPS):
        optimizer.zero_grad()
        for rank in ranks:
            with clock.piece(0):
                loss = model(data(rank)).square().mean() / len(ranks)
                loss.backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def main():
    dist.init_process_group("gloo")
    ranks = range(dist.get_world_size())
    found = trained(DistributedDataParallel(network()), [dist.get_rank()])
    expected = trained(network(), ranks)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)

    # Told to expect it, DistributedDataParallel goes without the skipped layers' gradients.
    model = network()
    found = trained(DistributedDataParallel(model, find_unused_parameters=True), [dist.get_rank()])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)

    # The planted fault: layers are skipped although their gradients are awaited.
    with pytest.raises(RuntimeError, match="Expected to have finished reduction"):
        trained(DistributedDataParallel(network(skip=True)), [dist.get_rank()])
    leave()


if __name__ == "__main__":
    main()
