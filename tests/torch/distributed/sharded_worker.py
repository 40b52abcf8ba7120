"""Run by torchrun on every process: a model under FSDP2 is saved, and resumed bit for bit."""

import tempfile
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from observed import batch
from processes import leave
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn import functional

from thinned.torch import adopt
from thinned.torch.clock import optimizers

SEED, STEPS = 11, 6
KINDS = {"sgd": torch.optim.SGD, "adam": torch.optim.AdamW}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.drop, self.last = nn.Linear(6, 16), nn.Dropout(0.5), nn.Linear(16, 6)

    def forward(self, x):
        y = self.last(self.drop(torch.tanh(self.first(x))))
        return functional.dropout(y, 0.2, self.training)


def saved_in(model, optimizer):
    weights, moments = get_state_dict(model, optimizer)
    return {"model": weights, "optimizer": moments}


def trained(kind, folder=None, resume=None, stop=3):
    """The whole parameters at the end. folder: where to save before step `stop`."""
    model = Net()
    fully_shard(model.first)
    fully_shard(model)
    optimizer = KINDS[kind](model.parameters(), lr=0.05)
    clock = adopt(model, seed=SEED, ranks="split", optimizer=optimizer).clock
    if resume is not None:
        state = saved_in(model, optimizer)
        dcp.load(state, checkpoint_id=resume)
        set_state_dict(model, optimizer, model_state_dict=state["model"],
                       optim_state_dict=state["optimizer"])  # fmt: skip
        assert clock.step == stop
    rows = batch().chunk(dist.get_world_size())[dist.get_rank()]
    for step in range(STEPS if resume is None else STEPS - stop):
        if folder is not None and step == stop:
            dcp.save(saved_in(model, optimizer), checkpoint_id=folder)
        model(rows).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert clock.step == STEPS
    return [p.full_tensor().detach() for p in model.parameters()]


def same(some, others):
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def main():
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    shared = [tempfile.mkdtemp()]
    dist.broadcast_object_list(shared, src=0)
    for kind in KINDS:
        folder = Path(shared[0]) / kind
        plain = trained(kind)
        assert same(trained(kind, folder), plain), f"{kind}: saving moved the clock"
        assert same(trained(kind, resume=folder), plain), kind
        dist.barrier()
    # The planted fault: the step by which saving gives an optimizer a state counts.
    optimizers._is_for_a_checkpoint = lambda: False
    try:
        trained("sgd", Path(shared[0]) / "fault")
    except AssertionError:
        leave()
    raise SystemExit("the fault was not seen")


if __name__ == "__main__":
    main()
