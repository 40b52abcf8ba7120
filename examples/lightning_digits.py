"""Lightning's Trainer, stopped and resumed: bit for bit as if it had not been stopped.

A small network learns the digits, with dropout in its layers and in training_step. The second run
is stopped after two epochs of four and goes on from its checkpoint, while PyTorch's generator is
elsewhere. The checkpoint's state_dict is that of a plain model: load_from_checkpoint takes it.
"""

import logging
import tempfile
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from thinned.torch.lightning import Dropout

X, y = load_digits(return_X_y=True)
inputs, labels = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
EPOCHS = 4


class Digits(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.3),
            nn.Linear(128, 128), nn.ReLU(), nn.Dropout(0.3),
            nn.Linear(128, 10),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> Any:
        return self.layers(x)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        x, target = batch
        x = functional.dropout(x, 0.1, self.training)
        return functional.cross_entropy(self(x), target)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def train(folder: str, resume: Path | None = None) -> Digits:
    torch.manual_seed(0 if resume is None else 12345)
    model = Digits()
    data = DataLoader(TensorDataset(inputs, labels), batch_size=128)
    saving = ModelCheckpoint(folder, save_top_k=-1, filename="{epoch}")
    trainer = pl.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Dropout(seed=0), saving], default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(model, data, ckpt_path=resume)
    return model


logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
with tempfile.TemporaryDirectory() as folder:
    whole = train(folder)
    half = Path(folder) / f"epoch={EPOCHS // 2 - 1}.ckpt"  # where a run was that was stopped there
    with tempfile.TemporaryDirectory() as other:
        resumed = train(other, resume=half)
    Digits.load_from_checkpoint(half)

pairs = zip(whole.parameters(), resumed.parameters(), strict=True)
print("bit for bit the same:", all(torch.equal(a, b) for a, b in pairs))
whole.eval()
accuracy = (whole(inputs).argmax(1) == labels).float().mean().item()
print(f"accuracy on the rows it was trained on: {accuracy:.3f}")
