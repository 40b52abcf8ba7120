"""The two networks that people learn dropout with, in PyTorch."""

import torch
from torch import Tensor, nn

from thinned.torch import Dropout

# Digits: 784 pixels, two hidden layers, ten classes.
digits = nn.Sequential(
    nn.Linear(784, 512),
    nn.ReLU(),
    Dropout(0.5),
    nn.Linear(512, 256),
    nn.ReLU(),
    Dropout(0.3),
    nn.Linear(256, 10),
)


class DropoutMLP(nn.Module):
    """One hidden layer with dropout behind it."""

    def __init__(self, input_size: int, hidden_size: int, output_size: int, p: float = 0.5) -> None:
        super().__init__()
        self.hidden = nn.Linear(input_size, hidden_size)
        self.dropout = Dropout(p)
        self.output = nn.Linear(hidden_size, output_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.dropout(torch.relu(self.hidden(x))))  # type: ignore[no-any-return]


def show(name: str, model: nn.Module, x: Tensor) -> None:
    """Two passes over the same batch in each mode, and a pass after the same seed."""
    model.train()
    torch.manual_seed(0)
    first, second = model(x), model(x)
    torch.manual_seed(0)
    again = model(x)
    print(f"{name}, train(): two passes equal? {torch.equal(first, second)}")
    print(f"{name}, train(): equal after the same seed? {torch.equal(first, again)}")
    model.eval()
    print(f"{name}, eval():  two passes equal? {torch.equal(model(x), model(x))}")


show("digits", digits, torch.randn(32, 784))
show("DropoutMLP", DropoutMLP(input_size=20, hidden_size=64, output_size=10), torch.randn(32, 20))
