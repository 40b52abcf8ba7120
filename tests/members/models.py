"""Networks to ask: dropout in every form, and what must not move."""

import torch
from torch import nn
from torch.nn import functional

import thinned.torch


class Everything(nn.Module):
    """BatchNorm, a module of ours, torch.nn's, a functional call: (N, 8) to (N, 3)."""

    def __init__(self, p=0.5):
        super().__init__()
        self.first, self.norm = nn.Linear(8, 16), nn.BatchNorm1d(16)
        self.drop, self.second = nn.Dropout(p), nn.Linear(16, 16)
        self.noise, self.last = thinned.torch.GaussianDropout(p / 2), nn.Linear(16, 3)

    def forward(self, x):
        x = self.drop(torch.relu(self.norm(self.first(x))))
        x = functional.dropout(torch.relu(self.second(x)), 0.3, self.training)
        return self.last(self.noise(x))


class OnSecondAxis(nn.Module):
    """Rows lie on the second axis inside: a transformer and an LSTM with batch_first=False."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3)
        self.lstm = nn.LSTM(8, 4, 2, dropout=0.4)

    def forward(self, x):
        return self.lstm(self.layer(x.transpose(0, 1)))[0].transpose(0, 1)


class Merged(nn.Module):
    """Windows of each row go onto the leading axis, and are dropped there."""

    def __init__(self):
        super().__init__()
        self.drop, self.out = nn.Dropout(0.5), nn.Linear(4, 2)

    def forward(self, x):
        windows = self.drop(x.reshape(-1, 4))
        return self.out(windows.reshape(len(x), -1, 4).sum(1))


class OnWeight(nn.Module):
    """A functional dropout of a weight, whose leading axis is none of rows."""

    def __init__(self, outputs=6):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, 8))

    def forward(self, x):
        return x @ functional.dropout(self.weight, 0.5, self.training).T


class Masks(nn.Module):
    """Gives its masks away: what it drops are ones."""

    def __init__(self, p=0.5):
        super().__init__()
        self.drop = nn.Dropout(p)

    def forward(self, x):
        return self.drop(torch.ones_like(x))


def everything(p=0.5, seed=0):
    torch.manual_seed(seed)
    return Everything(p)


def rows(n=10, *shape, seed=1):
    return torch.randn(n, *(shape or (8,)), generator=torch.Generator().manual_seed(seed))
