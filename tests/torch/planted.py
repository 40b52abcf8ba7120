"""Models with one mistake each, and models without any."""

import numpy as np
import torch
from own_checkpoints import checkpointed
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

import thinned
from thinned.torch import adopt, audit, drop_connect, functional, scaled_dot_product_attention


class Body(nn.Module):
    """Linear layers around what a subclass does in `middle`."""

    def __init__(self, width=32):
        super().__init__()
        self.first, self.last = nn.Linear(8, width), nn.Linear(width, 4)

    def middle(self, h):
        raise NotImplementedError

    def forward(self, x):
        return self.last(self.middle(torch.tanh(self.first(x))))


def body(middle, width=32, **parts):
    """A model whose middle is a function of (self, h), with more modules."""
    torch.manual_seed(7)
    model = type("Planted", (Body,), {"middle": middle})(width)
    for name, part in parts.items():
        setattr(model, name, part)
    return model


class Attention(nn.Module):
    def __init__(self, guarded):
        super().__init__()
        self.guarded, self.p = guarded, 0.3
        self.project = nn.Linear(8, 8)

    def forward(self, x):
        h = self.project(x).reshape(len(x), 2, 1, 4).expand(-1, -1, 6, -1)
        p = self.p if self.training or not self.guarded else 0.0
        return F.scaled_dot_product_attention(h, h, h, dropout_p=p)


class Frozen(nn.Sequential):
    """A container that passes no mode on to its parts."""

    def train(self, mode=True):
        self.training = mode
        return self


class OwnDropout(nn.Module):
    """Dropout written by hand; kind says which mistake it has."""

    def __init__(self, p, kind="right"):
        super().__init__()
        self.p, self.kind = p, kind

    def forward(self, x):
        if not self.training and self.kind != "always":
            return x
        if self.kind == "keeps p":
            return x * (torch.rand_like(x) < self.p) / self.p
        if self.kind == "bernoulli of p":
            return x * torch.empty_like(x).bernoulli_(self.p) / (1 - self.p)
        if self.kind == "one row":
            return x * (torch.rand(1, x.shape[1]) > self.p) / (1 - self.p)
        return x * (torch.rand_like(x) > self.p) / (1 - self.p)


class DropIdle(nn.Module):
    """Dropout that forgot to draw."""

    p = 0.5

    def forward(self, x):
        return x


def seeded(self, h):
    torch.manual_seed(3)
    return F.dropout(h, 0.5, self.training)


def seeded_twice(self, h):
    for _ in range(2):
        h = seeded(self, h)
    return h


def shared_start(self, h):
    """Two masks of different sizes from one seed, another one in each step."""
    if not self.training:
        return h
    self.step += 1
    state = torch.Generator()
    first = torch.rand(32, 32, generator=state.manual_seed(self.step))
    second = torch.rand(32, 64, generator=state.manual_seed(self.step))
    return h * (first > 0.5) * (second[:, :32] > 0.5)


def numpy_noise(self, h):
    return h + float(np.random.rand())  # noqa: NPY002 - as users write it


def awake_helper(self, h):
    """Monte-Carlo samples inside forward, without try and finally."""
    if not self.training:
        self.drop.train()
        h = self.drop(h)
        self.first(torch.zeros(1, 8))
        self.drop.eval()
        return h
    return self.drop(h)


def left_awake(self, h):
    self.drop.eval()
    return self.drop(h)


def own_address(self, h):
    return functional.dropout(h, 0.5, self.training, at=thinned.Address(site="mine"))


def address_in_a_loop(self, h):
    for _ in range(2):
        h = thinned.dropout(h, 0.5, thinned.Address(site="mine"), training=self.training)
    return h


class Recomputing(nn.Module):
    """Checkpointed parts, of which one may run twice."""

    def __init__(self, twice=False, reentrant=False, **how):
        super().__init__()
        self.how = {"use_reentrant": reentrant, **how}
        self.parts = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Dropout(0.5)) for _ in range(2)
        )
        self.twice = twice

    def forward(self, x):
        for part in self.parts:
            for _ in range(2 if self.twice else 1):
                x = checkpointed(part, x, **self.how)
        return x


class Residual(nn.Module):
    """A residual path that is dropped by rows, as timm writes it, before BatchNorm."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm, self.drop_path = nn.Linear(8, 8), nn.BatchNorm1d(8), DropPath()

    def forward(self, x):
        return self.norm(x + self.drop_path(self.linear(x)))


class DropPath(nn.Module):
    drop_prob = 0.2

    def forward(self, x):
        if not self.training:
            return x
        keep = 1.0 - self.drop_prob
        return x * x.new_empty((len(x), *(1,) * (x.dim() - 1))).bernoulli_(keep).div_(keep)


class Words(nn.Module):
    """Numbers of words, made of a floating batch."""

    def forward(self, x):
        return (x.abs() * 10).long().clamp(max=49)


class Half(nn.Module):
    def forward(self, x):
        return x.bfloat16()


class OurAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(8, 8)

    def forward(self, x):
        h = self.project(x).reshape(len(x), 2, 1, 4).expand(-1, -1, 6, -1)
        return scaled_dot_product_attention(h, h, h, p=0.3, training=self.training)


def parametrised(linear):
    drop_connect(linear, "weight", p=0.3)
    return linear


def functional_recompute(**how):
    def middle(self, h):
        def part(h):
            return torch.tanh(F.dropout(h, 0.5, self.training))

        return checkpointed(part, h, use_reentrant=False, **how)

    return body(middle)


def batchnorm(*between):
    return nn.Sequential(nn.Linear(8, 32), nn.Dropout(0.5), *between, nn.BatchNorm1d(32))


def mlp():
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 4))


def cnn():
    return nn.Sequential(
        nn.Unflatten(1, (2, 2, 2)),
        nn.Upsample(scale_factor=4),
        nn.Conv2d(2, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Dropout2d(0.2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(16, 4),
    )


def transformer(batch_first=True):
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=batch_first)
    sequence = nn.Unflatten(0, (-1, 8)) if batch_first else nn.Unflatten(0, (8, -1))
    return nn.Sequential(sequence, nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))


def adopted(model):
    adopt(model, seed=5)
    return model


def batch(rows=32):
    return torch.randn(rows, 8, generator=torch.Generator().manual_seed(2))


def ran(model, x=None, **options):
    torch.manual_seed(11)
    np.random.seed(11)  # noqa: NPY002 - a model of these tests draws there
    return audit(model, batch(64) if x is None else x, measure=False, **options)


def kinds(model, x=None):
    return [(finding.site, finding.kind) for finding in ran(model, x).findings]


class ByHand(nn.Module):
    """A dropout module whose training is a function of (x, p), and evaluation of (x, p)."""

    def __init__(self, training, evaluation=lambda x, p: x, p=0.3):
        super().__init__()
        self.p, self.functions = p, (evaluation, training)

    def forward(self, x):
        return self.functions[self.training](x, self.p)
