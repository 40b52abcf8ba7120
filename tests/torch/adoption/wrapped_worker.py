"""Run by torchrun on every process: models that others wrap, in DistributedDataParallel."""

import torch.distributed as dist
from processes import leave
from test_covers_wrapped import WRAPPERS, X, equal, net
from torch.nn.parallel import DistributedDataParallel

from thinned.torch import adopt


def check(lay, first):
    model = net()
    adopt(model, seed=7, ranks="replicated")
    if first == "wrapper":
        lay(model)
    parallel = DistributedDataParallel(model)
    if first == "DDP":
        lay(model)
    assert equal(parallel, lay)
    parallel(X).sum().backward()
    assert model.fc.weight.grad is not None


def main():
    dist.init_process_group("gloo")
    for lay in WRAPPERS.values():
        for first in ("wrapper", "DDP"):
            check(lay, first)
    leave()


if __name__ == "__main__":
    main()
