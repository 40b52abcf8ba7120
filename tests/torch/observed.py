"""A model that shows its masks: beside its output it returns the keep bits of every site."""

import torch
from own_checkpoints import checkpointed
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it


class Gate(nn.Module):
    """A functional call."""

    def forward(self, x):
        return F.dropout(x, 0.3, self.training)


class Observed(nn.Module):
    """Sites: drop (a module), gate/dropout (a call), attention/dropout (weights), last (channels).

    how : the keyword arguments of `checkpointed` for each part; None for no checkpoint.
    twice : the middle part runs twice.
    """

    def __init__(self, how=None, twice=False, width=8):
        super().__init__()
        self.first, self.drop = nn.Linear(6, width), nn.Dropout(0.5)
        self.second, self.gate = nn.Linear(width, 8), Gate()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.25, batch_first=True)
        self.last = nn.Dropout1d(0.4)
        self.how, self.twice = how, twice

    def front(self, x):
        h = self.drop(self.first(x))
        return torch.tanh(self.second(h)), h != 0

    def middle(self, h):
        g = self.gate(h + 3)
        return torch.tanh(g), g != 0

    def back(self, h):
        mixed, weights = self.attention(h, h, h, average_attn_weights=False)
        y = self.last(h + mixed + 2)
        return y, weights != 0, y != 0

    def part(self, function, *args):
        return function(*args) if self.how is None else checkpointed(function, *args, **self.how)

    def forward(self, x):
        h, m0 = self.part(self.front, x)
        masks = [m0]
        for _ in range(2 if self.twice else 1):
            h, m = self.part(self.middle, h)
            masks.append(m)
        y, m2, m3 = self.part(self.back, h)
        return y, (*masks, m2, m3)


def build(**options):
    torch.manual_seed(5)
    return Observed(**options)


def batch(rows=8):
    return torch.randn(rows, 5, 6, generator=torch.Generator().manual_seed(9))


def run(model, x):
    """The masks of one forward, after its backward pass."""
    y, masks = model(x)
    y.square().sum().backward()
    return masks


def gradients(model):
    return [p.grad.clone() for p in model.parameters()]
