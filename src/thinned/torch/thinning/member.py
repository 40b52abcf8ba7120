"""member: one thinned network of a thin model, cut out at its own, smaller size."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from thinned import checks
from thinned.address import Address
from thinned.checks import message
from thinned.torch.adoption.adopt import _MARK, release
from thinned.torch.adoption.names import unwrapped
from thinned.torch.thinning.layers import kept_of
from thinned.torch.thinning.thin import PlacedRegion, regions_of

__all__ = ["Scaled", "kept_units", "member"]


class Scaled(nn.Module):
    """x * scale: what is left of a dropout whose scale no weight can take."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale

    def extra_repr(self) -> str:
        return f"scale={self.scale:g}"


def kept_units(model: nn.Module, k: int) -> dict[str, Tensor]:
    """The indices of the units that member k keeps, by site.

    Parameters
    ----------
    model : a model that `thin` was called on, or a wrapper of one.
    k : int in [0, 2^64). The member's number.

    Returns
    -------
    dict from the names of the thin sites to int64 tensors.

    Raises
    ------
    ValueError if the model is not thin.
    """
    whole, regions = _checked("kept_units", model, k)
    seed = Address(whole.__dict__[_MARK].clock.seed).fold_in(k).seed
    found = {}
    for region in (placed.region for placed in regions):
        drawn = kept_of(region.units, _p(region.site), Address(seed, region.site.name), least=0)
        found[region.site.name] = torch.arange(region.units) if drawn.kept is None else drawn.kept
    return found


@torch.no_grad()
def member(model: nn.Module, k: int) -> nn.Module:
    """The thinned network number k of a thin model, as a plain and smaller module.

    Its masks are those of seed fold_in(seed, k), step 0, call 0: what the model itself, thinned
    with that seed, draws at first. Layers have the kept rows and columns as weights of their own,
    dropout is gone, and its scale has gone into the next layer's weight (where a function between
    forbids that, a module `Scaled` is left).

    Parameters
    ----------
    model : a model that `thin` was called on, or a wrapper of one. It is left as it is.
    k : int in [0, 2^64). The member's number.

    Returns
    -------
    A copy of the model, in evaluation mode, with smaller nn.Linear, nn.Conv1d and nn.Conv2d: it can
    be saved, exported and trained on its own. Equal to rounding to the whole model in evaluation
    with the member's masks applied.

    Raises
    ------
    ValueError if the model is not thin, or has sites with p > 0 that do not run thin: they have a
    mask for each element, and no network that is smaller. Set their p to 0 to have them as in
    evaluation.

    Examples
    --------
    >>> import torch, thinned.torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 2))
    >>> report = thinned.torch.thin(model, seed=0)
    >>> thinned.torch.member(model, 3)
    Sequential(
      (0): Linear(in_features=8, out_features=25, bias=True)
      (1): ReLU()
      (2): Identity()
      (3): Linear(in_features=25, out_features=2, bias=True)
    )

    References
    ----------
    Srivastava et al., 2014, JMLR 15, 1929-1958: dropout trains 2^n thinned networks.
    """
    whole, regions = _checked("member", model, k)
    _require_thin(whole, regions)
    seed = Address(whole.__dict__[_MARK].clock.seed).fold_in(k).seed
    cut = copy.deepcopy(whole)
    placed = regions_of(cut)
    release(cut)
    cut.eval().zero_grad(set_to_none=True)
    rows: dict[nn.Module, Tensor] = {}
    columns: dict[nn.Module, Tensor] = {}
    scales: dict[nn.Module, Any] = {}
    replaced: dict[nn.Module, nn.Module] = {}
    for (region, producer, consumer, homogeneous), original in zip(placed, regions, strict=True):
        drawn = kept_of(region.units, _p(original.region.site), Address(seed, region.site.name))
        if drawn.kept is None:
            replaced[region.dropout] = nn.Identity()
            continue
        rows[producer] = columns[consumer] = drawn.kept
        # Nothing kept: the first unit stands for all, and counts for nothing.
        scale = drawn.scale if drawn.alive is None else 0.0
        folded = homogeneous or scale == 0.0
        scales[consumer] = scale if folded else 1.0
        replaced[region.dropout] = nn.Identity() if folded else Scaled(float(scale))
    for layer in {**rows, **columns}:
        replaced[layer] = _smaller(
            layer, rows.get(layer), columns.get(layer), scales.get(layer, 1.0)
        )
    for module in list(cut.modules()):
        for name, child in module._modules.items():
            if child in replaced:
                module._modules[name] = replaced[child]
    return cut


def _checked(who: str, model: Any, k: Any) -> tuple[nn.Module, tuple[PlacedRegion, ...]]:
    if not isinstance(model, nn.Module):
        raise TypeError(message(who, "model", "a torch.nn.Module", type(model).__name__))
    checks.integer(who, "k", k, 0, 2**64)
    whole = unwrapped(model)
    regions = regions_of(whole)
    if not regions:
        got = f"a {type(whole).__name__} that is not"
        raise ValueError(message(who, "model", "a thin model", got, "Call thin first."))
    return whole, regions


def _p(site: Any) -> float:
    p: float = site.p
    return p


def _require_thin(model: nn.Module, regions: tuple[PlacedRegion, ...]) -> None:
    thin = {placed.region.site.name for placed in regions}
    found = (module.__dict__.get("site") for module in model.modules())
    p_now = {site.name: site.p for site in found if site is not None}
    others = [
        row.site
        for row in model.__dict__[_MARK].rows
        if row.reached and row.site not in thin and p_now.get(row.site, row.p) != 0.0
    ]
    if others:
        listed = ", ".join(map(repr, others))
        raise ValueError(
            f"member: all sites of the model must run thin, and {listed} have masks for each "
            "element, which no smaller network has. Set their p to 0 to have them as in evaluation."
        )


def _smaller(layer: Any, rows: Tensor | None, columns: Tensor | None, scale: float) -> nn.Module:
    """A layer of the same class with some rows and columns, its weight times scale."""
    weight = layer.weight.detach()
    weight = weight if rows is None else weight.index_select(0, rows.to(weight.device))
    weight = weight if columns is None else weight.index_select(1, columns.to(weight.device))
    if scale != 1.0:
        weight = torch.zeros_like(weight) if scale == 0.0 else weight * scale
    new: Any = copy.copy(layer)
    new._parameters = dict(layer._parameters)
    new.weight = nn.Parameter(weight.clone(), layer.weight.requires_grad)
    if layer.bias is not None:
        bias = layer.bias.detach()
        bias = bias if rows is None else bias.index_select(0, rows.to(bias.device))
        new.bias = nn.Parameter(bias.clone(), layer.bias.requires_grad)
    if isinstance(layer, nn.Linear):
        new.out_features, new.in_features = weight.shape
    else:
        new.out_channels, new.in_channels = weight.shape[:2]
    smaller: nn.Module = new
    return smaller
