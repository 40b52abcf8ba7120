"""Networks that run thin in part or whole, by name, and what one is compared with."""

import copy

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from thinned.torch import thin


class Residual(nn.Module):
    """A block whose trunk is whole; `last` drops the trunk's part, and does not run thin."""

    def __init__(self, last=0.0):
        super().__init__()
        self.fc1, self.drop, self.fc2 = nn.Linear(12, 40), nn.Dropout(0.5), nn.Linear(40, 12)
        self.last = nn.Dropout(last)

    def forward(self, x):
        return x + self.last(self.fc2(self.drop(F.gelu(self.fc1(x)))))


class Convolutions(nn.Module):
    """Two regions of channels, one of units; tanh behind a dropout, pooling before and behind."""

    def __init__(self):
        super().__init__()
        self.c1, self.d1 = nn.Conv2d(3, 16, 3, padding=1, padding_mode="reflect"), nn.Dropout2d(0.5)
        self.c2, self.d2 = nn.Conv2d(16, 12, 3, stride=2), nn.Dropout2d(0.3)
        self.c3, self.pool = nn.Conv2d(12, 8, 1, bias=False), nn.MaxPool2d(2)
        self.fc, self.d3, self.out = nn.Linear(8, 40), nn.Dropout(0.4), nn.Linear(40, 5)

    def forward(self, x):
        h = self.pool(self.d1(self.pool(torch.relu(self.c1(x)))))
        h = self.c3(torch.tanh(self.d2(self.c2(h)))).mean((2, 3))
        return self.out(self.d3(torch.sigmoid(self.fc(h))))


def chain(*p, width=32):
    layers = []
    for one in p:
        layers += [nn.Linear(width, width), nn.ReLU(), nn.Dropout(one)]
    return nn.Sequential(*layers, nn.Linear(width, 5))


def signals():
    first, second = nn.Conv1d(4, 10, 3), nn.Conv1d(10, 6, 3, dilation=2)
    return nn.Sequential(first, nn.SiLU(), nn.Dropout1d(0.5), second)


def transformer():
    layer = nn.TransformerEncoderLayer(12, 2, 48, 0.0, activation="gelu", batch_first=True)
    layer.dropout.p = 0.5  # of the feed-forward part alone
    return layer


# name -> how to build it, the shape of a batch of 8 rows, its sites that run thin.
NETWORKS = {
    "chain": (lambda: chain(0.5, 0.2, 0.7), (8, 32), ["2", "5", "8"]),
    "further axes": (lambda: chain(0.5), (8, 3, 4, 32), ["2"]),
    "inplace": (
        lambda: nn.Sequential(
            nn.Linear(32, 20), nn.ReLU(True), nn.Dropout(0.5, inplace=True), nn.Linear(20, 3)
        ),
        (8, 32),
        ["2"],
    ),
    "nothing kept": (lambda: chain(1.0, 0.5), (8, 32), ["2", "5"]),
    "nothing dropped": (lambda: chain(0.0, 0.5), (8, 32), ["2", "5"]),
    "one unit": (
        lambda: nn.Sequential(nn.Linear(4, 1), nn.Dropout(0.5), nn.Linear(1, 2)),
        (8, 4),
        ["1"],
    ),
    "residual": (lambda: nn.Sequential(Residual(), Residual()), (8, 12), ["0.drop", "1.drop"]),
    "images": (Convolutions, (8, 3, 14, 14), ["d1", "d2", "d3"]),
    "signals": (signals, (8, 4, 20), ["2"]),
    "no channel kept": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout2d(1.0), nn.Conv2d(4, 2, 1)),
        (8, 3, 5, 5),
        ["1"],
    ),
    "unbatched signal": (signals, (4, 20), ["2"]),
    "transformer": (transformer, (8, 5, 12), ["dropout"]),
}


def pair(name, dtype=torch.float64, **options):
    """A network thin, its twin elementwise, and a batch for both."""
    build, shape, _ = NETWORKS[name]
    torch.manual_seed(5)
    fast = build().to(dtype)
    whole = copy.deepcopy(fast)
    thin(fast, seed=3, **options)
    thin(whole, seed=3, execution="elementwise", **options)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(9), dtype=dtype)
    return fast, whole, x


def step(model, x, run=None):
    """Output and gradients of one pass, the input's too."""
    x = x.clone().requires_grad_()
    y = (model if run is None else run)(x)
    model.zero_grad()
    y.square().sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in model.parameters())]


def assert_equal(found, expected, **tolerance):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **tolerance)
