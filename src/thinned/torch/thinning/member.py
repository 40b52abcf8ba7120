"""member: one thinned network of a thin model, cut out at its own, smaller size.

A network is named by a number, whose masks are a random draw, or by the units that it keeps.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from thinned import checks
from thinned.address import Address
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.torch.adoption.adopt import release
from thinned.torch.adoption.changes import MARK
from thinned.torch.adoption.names import unwrapped
from thinned.torch.thinning.layers import Drawn, drawn_of, kept_of
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
    seed = Address(whole.__dict__[MARK].clock.seed).fold_in(k).seed
    found = {}
    for region in (placed.region for placed in regions):
        drawn = kept_of(region.units, _p(region.site), Address(seed, region.site.name), least=0)
        found[region.site.name] = torch.arange(region.units) if drawn.kept is None else drawn.kept
    return found


@torch.no_grad()
@answering
def member(
    model: nn.Module, k: int | None = None, *, keep: Mapping[str, Any] | None = None
) -> nn.Module:
    """One thinned network of a thin model, by its number or by its units, as a plain module.

    The masks of number k are those of seed fold_in(seed, k), step 0, call 0: what the model itself,
    thinned with that seed, draws at first. They are a random draw: two numbers may give one
    network. `keep` names every one of the 2^n networks, by the units that it keeps.

    Layers have the kept rows and columns as weights of their own, dropout is gone, and its scale
    has gone into the next layer's weight (where a function between forbids that, a module `Scaled`
    is left).

    Parameters
    ----------
    model : a model that `thin` was called on, or a wrapper of one. It is left as it is.
    k : int in [0, 2^64). The member's number; or None, with `keep`.
    keep : mapping from the name of every thin site to the units that it keeps: a boolean array or
        list with one entry for each unit (True = kept), or the integer indices of kept units.

    Returns
    -------
    A copy of the model, in evaluation mode, with smaller nn.Linear, nn.Conv1d and nn.Conv2d: it can
    be saved, exported and trained on its own. Equal to rounding to the whole model in evaluation
    with the member's masks applied.

    Raises
    ------
    ValueError if the model is not thin, or has sites with p > 0 that do not run thin: they have a
    mask for each element, and no network that is smaller. Set their p to 0 to have them as in
    evaluation. ValueError for `keep` without a thin site, with another name, with units that are
    not there, or for units kept at p = 1. TypeError unless exactly one of k
    and keep is given, or for units that are neither booleans nor integers.

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
    >>> thinned.torch.member(model, keep={"2": [0, 5, 9]})[3]
    Linear(in_features=3, out_features=2, bias=True)

    References
    ----------
    Srivastava et al., 2014, JMLR 15, 1929-1958: dropout trains 2^n thinned networks.
    """
    if (k is None) == (keep is None):
        got = "neither" if k is None else "both"
        raise TypeError(message("member", "k or keep", "given, one of the two", got))
    whole, regions = _checked("member", model, 0 if k is None else k)
    _require_thin(whole, regions)
    if k is None:
        draws = _chosen(regions, keep)
    else:
        seed = Address(whole.__dict__[MARK].clock.seed).fold_in(k).seed
        draws = [
            kept_of(region.units, _p(region.site), Address(seed, region.site.name))
            for region in (placed.region for placed in regions)
        ]
    cut = copy.deepcopy(whole)
    placed = regions_of(cut)
    release(cut)
    cut.eval().zero_grad(set_to_none=True)
    rows: dict[nn.Module, Tensor] = {}
    columns: dict[nn.Module, Tensor] = {}
    scales: dict[nn.Module, Any] = {}
    replaced: dict[nn.Module, nn.Module] = {}
    for (region, producer, consumer, homogeneous), drawn in zip(placed, draws, strict=True):
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


def _chosen(regions: tuple[PlacedRegion, ...], keep: Any) -> list[Drawn]:
    """What `keep` names, region by region."""
    if not isinstance(keep, Mapping):
        requirement = "a mapping from site names to kept units"
        raise TypeError(message("member", "keep", requirement, type(keep).__name__))
    names = [placed.region.site.name for placed in regions]
    if set(keep) != set(names):
        requirement = f"of the thin sites {', '.join(map(repr, names))}"
        got = ", ".join(map(repr, keep)) or "no site"
        raise ValueError(message("member", "keep", requirement, got))
    draws = []
    for name, region in zip(names, (placed.region for placed in regions), strict=True):
        kept, p = _units(name, keep[name], region.units), _p(region.site)
        if p == 1.0 and bool(kept.any()):
            got = f"{int(kept.sum())} units at p = 1"
            raise ValueError(message("member", f"keep[{name!r}]", "empty where p is 1", got))
        draws.append(drawn_of(kept, p))
    return draws


def _units(name: str, given: Any, units: int) -> Tensor:
    """(units,) booleans, True = kept."""
    what = f"keep[{name!r}]"
    requirement = f"{units} booleans, or integers in [0, {units})"
    try:
        found = torch.as_tensor(given).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as failure:
        raise TypeError(message("member", what, requirement, type(given).__name__)) from failure
    if found.numel() == 0 and found.dim() == 1 and found.dtype != torch.bool:
        found = found.long()  # an empty list has no type: nothing is kept
    if found.dtype.is_floating_point or found.dtype.is_complex:
        raise TypeError(message("member", what, requirement, f"an array of {found.dtype}"))
    if found.dtype == torch.bool:
        if found.shape != (units,):
            got = f"booleans of shape {tuple(found.shape)}"
            raise ValueError(message("member", what, requirement, got))
        return found
    if found.dim() != 1 or (
        found.numel() and not 0 <= int(found.min()) <= int(found.max()) < units
    ):
        raise ValueError(message("member", what, requirement, checks.shown(given)))
    kept = torch.zeros(units, dtype=torch.bool)
    kept[found.long()] = True
    return kept


def _p(site: Any) -> float:
    p: float = site.p
    return p


def _require_thin(model: nn.Module, regions: tuple[PlacedRegion, ...]) -> None:
    thin = {placed.region.site.name for placed in regions}
    found = (module.__dict__.get("site") for module in model.modules())
    p_now = {site.name: site.p for site in found if site is not None}
    others = [
        row.site
        for row in model.__dict__[MARK].rows
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
