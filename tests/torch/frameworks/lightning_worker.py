"""Run by torchrun on every process: Lightning's DistributedDataParallel draws parts of one mask."""

import logging
import tempfile
import warnings

import lightning.pytorch
import torch
import torch.distributed as dist
from processes import leave
from torch import nn
from torch.nn import functional

import thinned
from thinned.torch.lightning import Dropout

SEED, WIDTH, ROWS, STEPS = 3, 16, 4, 6


class Module(lightning.pytorch.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(8, WIDTH), nn.Dropout(0.5))
        self.head = nn.Linear(WIDTH, 1)
        self.masks, self.own = [], []

    def training_step(self, batch, batch_idx):
        h = self.net(batch)
        self.masks.append(h.detach() != 0)
        h = functional.dropout(h, 0.2, self.training)
        self.own.append(h.detach() != 0)
        return self.head(h).square().mean()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def fitted(**how):
    model = Module()
    x = torch.randn(2 * ROWS * STEPS, 8, generator=torch.Generator().manual_seed(0))
    trainer = lightning.pytorch.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=[Dropout(SEED, **how)],
        default_root_dir=tempfile.gettempdir(),
    )
    trainer.fit(model, torch.utils.data.DataLoader(x, batch_size=ROWS))
    return model


def part(step, site, p):
    rows = ROWS * dist.get_world_size()
    at = thinned.Address(SEED, site, step)
    whole = thinned.keep_mask((rows, WIDTH), p, at, like=torch.ones(rows, WIDTH))
    return whole[ROWS * dist.get_rank() :][:ROWS]


def parts(model):
    assert len(model.masks) == STEPS
    return all(torch.equal(m, part(n, "net.1", 0.5)) for n, m in enumerate(model.masks))


def main():
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    model = fitted()
    assert dist.get_world_size() == 2
    assert parts(model)
    for n, (mask, own) in enumerate(zip(model.masks, model.own, strict=True)):
        assert torch.equal(own, mask & part(n, "training_step/dropout", 0.2))
    for value in model.state_dict().values():
        first = value.clone()
        dist.broadcast(first, src=0)
        assert torch.equal(first, value)

    # The planted fault: masks of the processes' own.
    assert not parts(fitted(ranks="independent"))
    leave()


if __name__ == "__main__":
    main()
