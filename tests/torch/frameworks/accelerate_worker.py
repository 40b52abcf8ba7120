"""Run by torchrun on every process: accelerate's two processes train as one."""

import tempfile
import warnings

import torch
import torch.distributed as dist
from accelerate import Accelerator
from processes import leave
from torch import nn
from torch.nn import functional

from thinned.torch import adopt

SEED, ROWS = 3, 8
X = torch.randn(6 * ROWS, 8, generator=torch.Generator().manual_seed(0)).double()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.drop, self.head = nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 1)

    def forward(self, x):
        return self.head(functional.dropout(self.drop(torch.tanh(self.fc(x))), 0.2, self.training))


def trained(first, ranks="split", stop=None, resume=None, **settings):
    """The parameters at the end. first : whether to adopt before `prepare`."""
    accelerator = Accelerator(cpu=True, **settings)
    model = Net().double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loader = torch.utils.data.DataLoader(X, batch_size=ROWS // dist.get_world_size())
    if first:
        adopt(model, seed=SEED, optimizer=optimizer, ranks=ranks)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    if not first:
        adopt(model, seed=SEED, optimizer=optimizer, ranks=ranks)
    if resume is not None:
        accelerator.load_state(resume)
        loader = accelerator.skip_first_batches(loader, 3)
    for n, x in enumerate(loader):
        if n == 3 and stop is not None:
            accelerator.save_state(stop)
        with accelerator.accumulate(model):
            accelerator.backward(model(x).square().mean())
            optimizer.step()
            optimizer.zero_grad()
    return [p.detach().clone() for p in accelerator.unwrap_model(model).parameters()]


def alone():
    model = Net().double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    adopt(model, seed=SEED, optimizer=optimizer, ranks="replicated")
    for x in X.split(ROWS):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def close(found, expected):
    return all(
        torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(found, expected, strict=True)
    )


def main():
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder = [tempfile.mkdtemp()]
    first = trained(True)
    expected = alone()
    assert close(first, expected)
    dist.broadcast_object_list(folder, src=0)
    after = trained(False, stop=folder[0])
    assert close(after, expected)
    dist.barrier()
    resumed = trained(True, resume=folder[0])
    assert all(torch.equal(a, b) for a, b in zip(resumed, after, strict=True))
    # The planted fault: masks of the processes' own are not those of one process.
    assert not close(trained(True, ranks="independent"), expected)
    leave()


if __name__ == "__main__":
    main()
