"""Dropout, stochastic depth and LayerDrop as public code writes them by hand, and other draws."""

import torch
from torch import nn


class Path(nn.Module):
    """Stochastic depth, as a function of (x, p)."""

    def __init__(self, gate, p=0.3):
        super().__init__()
        self.gate, self.drop_prob = gate, p

    def forward(self, x):
        return self.gate(x, self.drop_prob) if self.training else x


def floored(x, p):
    keep = 1 - p
    shape = (x.shape[0],) + (1,) * (x.ndim - 1)
    gate = torch.rand(shape, dtype=x.dtype, device=x.device)
    gate = torch.floor(gate + keep)
    return x.div(keep) * gate


def floored_in_place(x, p):
    keep = 1 - p
    gate = keep + torch.rand((x.shape[0],) + (1,) * (x.ndim - 1), dtype=x.dtype)
    gate.floor_()
    return x.div(keep) * gate


def added_to(x, p):
    gate = 1 - p
    gate += torch.rand([x.shape[0], 1], dtype=x.dtype, device=x.device)
    return x / (1 - p) * torch.floor(gate)


def added_by_method(x, p):
    gate = torch.rand(len(x), 1)
    gate.add_(1 - p).floor_()
    return x / (1 - p) * gate


def compared(x, p):
    return x * (torch.rand(x.size(0), 1) >= p) / (1 - p)


def compared_the_other_way(x, p):
    return x * (p < torch.rand(x.size(0), 1)).to(x.dtype) / (1 - p)


def compared_by_method(x, p):
    return x * torch.rand(x.size(0), 1, device=x.device).ge_(p).div(1 - p).detach()


def compared_by_function(x, p):
    return x * torch.ge(torch.rand(x.size(0), 1), p) / (1 - p)


def like(x, p):
    keep = torch.rand_like(x, dtype=torch.float32) > p
    return torch.where(keep, x / (1 - p), torch.zeros_like(x))


def filled_with_uniforms(x, p):
    return x * (torch.empty(len(x), 1).uniform_(0, 1) > p) / (1 - p)


def unsqueezed(x, p):
    gate = torch.rand(len(x)).unsqueeze(-1).to(x.device)
    mask = gate > p
    return x * mask / (1 - p)


def by_chances(x, p):
    return x * torch.bernoulli(torch.full((len(x), 1), 1 - p)) / (1 - p)


def by_one_chance(x, p):
    return x * torch.bernoulli(x[:, :1], p=1 - p) / (1 - p)


def some_spared(x, p):
    chance = torch.rand(x.size(0), 1)
    chance[x[:, :1] > 1e9] = 1  # word dropout spares the marks of beginnings and ends so
    x = x.clone() / (1 - p)
    x[(chance < p)[:, 0]] = 0
    return x


# All of these drop whole rows, but `like`, which drops elements.
PATHS = [
    floored, floored_in_place, added_to, added_by_method, compared, compared_the_other_way,
    compared_by_method, compared_by_function, like, filled_with_uniforms, unsqueezed, by_chances,
    by_one_chance, some_spared,
]  # fmt: skip


class Layers(nn.Module):
    """LayerDrop: layers are skipped where `skips(p)` says so."""

    def __init__(self, skips, p=0.5, layers=8):
        super().__init__()
        self.skips, self.layerdrop = skips, p
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(layers))

    def forward(self, x):
        for layer in self.layers:
            if self.training and self.skips(self.layerdrop):
                continue
            x = x + layer(x)
        return x


class OneEach(Layers):
    """The numbers of all layers are drawn at once, as ESPnet and fairseq do."""

    def __init__(self, p=0.5):
        super().__init__(None, p)

    def forward(self, x):
        chances = torch.empty(len(self.layers)).uniform_()
        for i, layer in enumerate(self.layers):
            if not self.training or chances[i] >= self.layerdrop:
                x = x + layer(x)
        return x


class Listed(nn.ModuleList):
    """A list that leaves out some of its modules."""

    layerdrop = 0.5

    def __iter__(self):
        chances = torch.empty(len(self)).uniform_()
        for i, layer in enumerate(super().__iter__()):
            if not self.training or chances[i] > self.layerdrop:
                yield layer


class Iterates(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = Listed(nn.Linear(4, 4) for _ in range(8))

    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x)
        return x


class First(nn.Module):
    """One number of one."""

    def __init__(self, p=0.5):
        super().__init__()
        self.layer, self.p_drop = nn.Linear(4, 4), p

    def forward(self, x):
        return self.layer(x) if not self.training or torch.rand(1)[0] > self.p_drop else x


def listed(p):
    probability = torch.rand([])
    return probability < p


def empty(p):
    return torch.rand(()) <= p


def of_one(p):
    return p > torch.rand(1)


def as_a_number(p):
    return torch.rand(1).item() < p


def as_a_float(p):
    skip = False
    u = float(torch.rand((1,)))
    if u < p:
        skip = True
    return skip


def drawn_by_chance(p):
    return torch.empty(1).uniform_() < p


SKIPS = [listed, empty, of_one, as_a_number, as_a_float]


def multiplied(x, p):
    return x * torch.rand(len(x), 1)


def returned(x, p):
    return torch.rand(len(x), 1)


def handed_on(x, p):
    return returned(x, p) > p


def compared_and_kept(x, p):
    noise = torch.rand_like(x)
    return torch.where(noise > p, noise, x)


def widened(x, p):
    return x * torch.empty_like(x).uniform_(1 - p, 1 + p)


def reckoned(x, p):
    return x * (2 * torch.rand(len(x), 1) - 1 > p)


def sometimes(x, p):
    noise = torch.rand(len(x), 1)
    return x * (noise > p) if p < 1 else x + noise


def two_sums(x, p):
    noise = torch.rand(len(x), 1) + p
    return x * torch.floor(noise + p)


def captured(x, p):
    noise = torch.rand(len(x), 1)
    return (lambda: x * (noise > p))()


def own_generator(x, p):
    return x * (torch.rand(len(x), 1, generator=torch.Generator().manual_seed(1)) > p)


def sorted_values(x, p):
    values, order = torch.rand(len(x), x.shape[1]).sort(dim=1)
    return x.gather(1, order) * values


def picked_and_kept(x, p):
    noise = torch.rand(2)
    return x * (noise[0] < p) + noise[1]


def put_into_another(x, p):
    noise = torch.rand(len(x), 1)
    x = x.clone()
    x[:, :1] = noise
    return x * (noise > p)


# Of these nobody can say that they are gates.
OTHERS = [
    multiplied, returned, handed_on, compared_and_kept, widened, reckoned, sometimes,
    two_sums, captured, sorted_values, picked_and_kept, put_into_another,
]  # fmt: skip


def tokens(x, p):
    """Some of the columns of each row are kept, in another order."""
    order = torch.argsort(torch.randn(len(x), x.shape[1], device=x.device), dim=-1)
    return x.gather(1, order[:, : int(x.shape[1] * (1 - p))])


def masked(x, p):
    """As masked autoencoders do."""
    noise = torch.rand(x.shape[0], x.shape[1], device=x.device)
    places = noise.argsort(dim=1).argsort(dim=1)
    return x * (places < x.shape[1] * (1 - p))


def highest(x, p):
    places = torch.randn(len(x), x.shape[1]).topk(int(x.shape[1] * (1 - p)), dim=-1)
    return x.gather(1, places.indices)


def sorted_away(x, p):
    _, order = torch.sort(torch.rand(len(x), x.shape[1]), dim=1)
    return x.gather(1, order[:, : int(x.shape[1] * (1 - p))])


def sorted_second(x, p):
    order = torch.rand(len(x), x.shape[1]).sort(dim=1)[1]
    return x.gather(1, order[:, : int(x.shape[1] * (1 - p))])


def noise_in_gaps(x, p):
    gaps = torch.empty_like(x).bernoulli_(p)
    noise = torch.empty_like(gaps).normal_()
    noise.mul_(gaps)
    return x * (1 - gaps) + noise


ORDERS = [tokens, masked, highest, sorted_away, sorted_second, noise_in_gaps]


class Ranks(nn.Module):
    """Dropout of a weight's columns: no rows of the batch."""

    def __init__(self, p=0.5, annotated=True):
        super().__init__()
        self.weight, self.p = nn.Parameter(torch.ones(4, 4)), p
        self.delta = self.said if annotated else self.unsaid

    def said(self, name: str, scale: float | None = None) -> torch.Tensor:
        weight = getattr(self, name)
        return weight * (torch.rand(weight.size(0)) > self.p).float()

    def unsaid(self, name, scale=None):
        weight = getattr(self, name)
        return weight * (torch.rand(weight.size(0)) > self.p).float()

    def forward(self, x):
        return x * (self.delta("weight") if self.training else self.weight)[0]


class Columns(nn.Module):
    """Features are dropped for all rows at once."""

    def __init__(self, p=0.5):
        super().__init__()
        self.p = p

    def forward(self, x):
        return x * (torch.rand(x.size(1)) >= self.p) * (torch.rand(1, x.shape[-1]) >= 0.1)
