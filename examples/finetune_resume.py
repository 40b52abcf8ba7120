"""Fine-tuning that is stopped and resumed, and comes out bit for bit as if it had not been stopped.

A small network is trained on the digits 0 to 4, then fine-tuned on all ten with dropout. The second
run is stopped half way, and all that is kept is a file with the model and the optimizer. The masks
need no more: the model's clock (seed and step) is a part of its state_dict.
"""

import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

from thinned.torch import adopt

X, y = load_digits(return_X_y=True)
inputs, labels = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
STEPS, BATCH = 60, 128


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.arange(step * BATCH, (step + 1) * BATCH) % len(inputs)
    return inputs[rows], labels[rows]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    model.train()
    for step in steps:
        x, target = batch(step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), target).backward()
        optimizer.step()


def network() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(128, 128), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(128, 10),
    )  # fmt: skip


def start(pretrained: dict[str, torch.Tensor]) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = network()
    model.load_state_dict(pretrained)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    adopt(model, seed=0, optimizer=optimizer)  # torch.nn's dropout becomes addressed dropout
    return model, optimizer


torch.manual_seed(0)
few = labels < 5
model = network()
pretraining = torch.optim.AdamW(model.parameters(), lr=1e-3)
for _ in range(30):
    pretraining.zero_grad()
    nn.functional.cross_entropy(model(inputs[few]), labels[few]).backward()
    pretraining.step()
pretrained = model.state_dict()

whole, optimizer = start(pretrained)
train(whole, optimizer, range(STEPS))

with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "checkpoint.pt"
    model, optimizer = start(pretrained)
    train(model, optimizer, range(STEPS // 2))
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)

    torch.manual_seed(12345)  # another process, another state of every generator
    saved = torch.load(file, weights_only=True)
    resumed, optimizer = start(pretrained)
    resumed.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    train(resumed, optimizer, range(STEPS // 2, STEPS))

pairs = zip(whole.parameters(), resumed.parameters(), strict=True)
print("bit for bit the same:", all(torch.equal(a, b) for a, b in pairs))
whole.eval()
accuracy = (whole(inputs).argmax(1) == labels).float().mean().item()
print(f"accuracy on the rows it was trained on: {accuracy:.3f}")
