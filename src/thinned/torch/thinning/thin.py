"""thin: whole batches share their masks, and the layers around run without what is dropped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from thinned import checks
from thinned.backends.torch.internals import pytree
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.torch.adoption.adopt import adopt, release
from thinned.torch.adoption.changes import MARK
from thinned.torch.adoption.functional_calls import AdoptedForward
from thinned.torch.adoption.names import unwrapped
from thinned.torch.adoption.report import Report, Row
from thinned.torch.clock.clock import Clock
from thinned.torch.clock.ranks import require_choice
from thinned.torch.thinning.layers import Region, Scope, ThinDropout, ThinLayer, ThinScope
from thinned.torch.thinning.regions import Found, regions_in

__all__ = ["PlacedRegion", "ThinReport", "regions_of", "thin"]

_EXECUTIONS = ("thin", "elementwise")


@dataclass(frozen=True)
class ThinReport(Report):
    """What `thin` did, as a table when printed.

    thin : tuple of str. The sites whose draws the batch shares, by whichever execution.
    """

    thin: tuple[str, ...] = ()

    @property
    def not_thin(self) -> tuple[Row, ...]:
        """The sites that were adopted as `adopt` does; their rows say why."""
        return tuple(row for row in self.rows if row.reached and row.site not in self.thin)


@answering
def thin(
    model: nn.Module,
    *,
    seed: int = 0,
    optimizer: Any = None,
    ranks: str | None = None,
    group: Any = None,
    groups: int = 1,
    schedule: Any = None,
    steps: int | None = None,
    execution: str = "thin",
) -> ThinReport:
    """Let whole batches share the masks of units, and compute the kept units only.

    y = x * m / (1 - p),  m ~ Bernoulli(1 - p), one draw for each unit, shared by the whole batch.

    In place, and as `adopt`: every site has its address, and the same clock. Where the code around
    a dropout allows it, the layer before it runs with the kept rows of its weight and the layer
    behind it with the kept columns: products of a quarter of the size between hidden layers at
    p = 0.5. That is: nn.Linear, nn.Conv1d or nn.Conv2d; elementwise functions (and pooling, of
    channels); dropout of units (nn.Dropout behind nn.Linear, Dropout1d and Dropout2d behind the
    convolutions); functions with f(0) = 0; a layer of the first one's kind; and nothing else that
    reads what is between. So run chains of layers, residual blocks inside, and the feed-forward
    parts of nn.TransformerEncoderLayer and nn.TransformerDecoderLayer. All other sites stay as
    `adopt` leaves them, with draws of their own for each element.

    The model's code is looked at once, now, with arguments that may be left out left out.
    Parameters, their gradients and the state of an optimizer stay whole: what is not kept gets a
    gradient of zero. Hooks that are put on these layers later see thin arrays.

    Parameters
    ----------
    model : torch.nn.Module, or a wrapper of one.
    seed, optimizer, ranks, group, schedule, steps : as in `adopt`. With ranks="split" all processes
        share the draws, as the pieces of a batch do.
    groups : int >= 1. The batch runs in this many parts, as equal as can be and the larger ones
        first, each with masks of its own: part j of a model's only call in a step is call j of
        every site. All tensors that the model is given and gives back then have the batch's rows
        on their first axis.
    execution : "thin", or "elementwise": the same masks on whole arrays, to compare with.

    Returns
    -------
    ThinReport: which sites run thin, and of every other why it does not. `release` undoes it all.
    Output and gradients are those of execution="elementwise" to rounding; E[y] = x for p < 1.

    Raises
    ------
    ValueError, TypeError as `adopt`, and where no site can run thin, or the model cannot run in
    groups: BatchNorm, rows on the second axis, ranks="split". The model is then left as it was.
    RuntimeError, when run, where the model's code goes another way than when it was looked at, or a
    checkpoint holds a part of a region.

    Examples
    --------
    >>> import torch, thinned.torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 2))
    >>> print(thinned.torch.thin(model, seed=0))
    site  kind     p    what was done
    2     Dropout  0.5  thin: 64 units, from '0' to '3'

    References
    ----------
    Graham, Reizenstein and Robinson, 2015, arXiv:1502.02478, who share masks over batches on GPUs.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(message("thin", "model", "a torch.nn.Module", type(model).__name__))
    groups = checks.integer("thin", "groups", groups, 1, 2**16)
    checks.one_of("thin", "execution", execution, _EXECUTIONS)
    require_choice("thin", ranks)
    whole = unwrapped(model)
    if MARK in whole.__dict__:
        raise ValueError("thin: the model is adopted already. Call release first.")
    if groups > 1:
        _require_groups(whole, ranks)
    found, reasons = regions_in(whole)
    names = {module: name for name, module in reversed(list(whole.named_modules()))}
    if not found:
        told = "; ".join(f"{names[m]!r}: {why}" for m, why in reasons.items() if m in names)
        raise ValueError(
            "thin: no dropout of the model can run thin" + (f" ({told})" if told else "") + ". "
            "Use adopt, or put nn.Dropout between two nn.Linear with elementwise functions only."
        )
    report = adopt(
        model,
        seed=seed,
        optimizer=optimizer,
        ranks=ranks,
        group=group,
        schedule=schedule,
        steps=steps,
    )
    try:
        done = _changed(whole, found, names, report.clock, execution, groups)
    except BaseException:
        release(whole)
        raise
    why = {names[module]: reason for module, reason in reasons.items()}
    raw = {_site_of(module): names[module] for module in names}
    whole.__dict__[MARK].rows = rows = tuple(
        _told(row, done, why.get(raw.get(row.site, row.site))) for row in report.rows
    )
    return ThinReport(report.clock, rows, tuple(done))


def _site_of(module: nn.Module) -> str | None:
    site = module.__dict__.get("site")
    return None if site is None else str(site.name)


def _told(row: Row, done: dict[str, str], why: str | None) -> Row:
    if row.site in done:
        return row._replace(done=done[row.site] + row.done.removeprefix("addressed"))
    if not row.reached:
        return row
    return row._replace(done=f"{row.done}, not thin: {why or 'it is no dropout of units'}")


def _changed(
    model: nn.Module,
    found: list[Found],
    names: dict[nn.Module, str],
    clock: Clock,
    execution: str,
    groups: int,
) -> dict[str, str]:
    """Give the modules of all regions their forwards. What was done, by site."""
    adoption = model.__dict__[MARK]
    regions: list[PlacedRegion] = []
    scopes: dict[nn.Module, Scope] = {}
    takes: dict[nn.Module, Region] = {}
    gives: dict[nn.Module, Region] = {}
    done: dict[str, str] = {}

    def swap(module: nn.Module, forward: AdoptedForward) -> None:
        adoption.changed.append(module)
        forward.lay()

    for each in found:
        scope = scopes.setdefault(each.scope, Scope())
        first, last = names[each.producer], names[each.consumer]
        units = _units(each.producer)
        site: Any = each.dropout.__dict__["site"]
        told = f"from {first!r} to {last!r}"
        region = Region(site, each.dropout, units, each.axis, scope, told)
        regions.append(PlacedRegion(region, each.producer, each.consumer, each.homogeneous))
        scope.regions.append(region)
        gives[each.producer] = takes[each.consumer] = region
        swap(each.dropout, ThinDropout(each.dropout, clock, region))
        how = "thin" if execution == "thin" else "one draw for the batch, elementwise"
        done[site.name] = f"{how}: {units} units, {told}"
    if execution == "thin":
        for layer in {**gives, **takes}:
            swap(layer, ThinLayer(layer, clock, takes.get(layer), gives.get(layer)))
        for module, scope in scopes.items():
            swap(module, ThinScope(module, clock, scope))
    if groups > 1:
        swap(model, GroupedForward(model, clock, groups))
    # Beside the adoption, and gone with it.
    adoption.regions = tuple(regions)
    return done


class PlacedRegion(NamedTuple):
    """A region and the layers at its ends. homogeneous : its scale may go into the consumer."""

    region: Region
    producer: nn.Module
    consumer: nn.Module
    homogeneous: bool


def regions_of(model: nn.Module) -> tuple[PlacedRegion, ...]:
    """The regions of a thin model; none of another."""
    adoption = model.__dict__.get(MARK)
    return getattr(adoption, "regions", ())


def _units(layer: Any) -> int:
    units: int = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    return units


# --------------------------------------------------------------------------- several draws a batch


def _require_groups(model: nn.Module, ranks: str | None) -> None:
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            why = f"{name!r} is a {type(module).__name__}, whose statistics are those of a batch"
        elif getattr(module, "batch_first", True) is False:
            why = f"the rows of {name!r} lie on the second axis. Build it with batch_first=True"
        else:
            continue
        raise ValueError(f"thin: groups must be 1 for this model: {why}.")
    if ranks == "split":
        raise ValueError(
            "thin: groups must be 1 with ranks='split', where all processes share one mask. With "
            "ranks='independent' each process has a mask of its own already."
        )


class GroupedForward(AdoptedForward):
    """The forward of a model that runs its batch in parts, each a call of its own."""

    def __init__(self, module: nn.Module, clock: Clock, groups: int) -> None:
        super().__init__(module, clock, None)
        self.groups = groups

    def run(self, args: Any, kwargs: Any) -> Any:
        run = super().run
        if not self.module.training:
            return run(args, kwargs)
        leaves, tree = pytree.tree_flatten((args, kwargs))
        rows = _rows([leaf for leaf in leaves if isinstance(leaf, Tensor)])
        if rows < self.groups:
            raise ValueError(
                f"thin: a batch of {rows} rows cannot run in {self.groups} groups. Give it more "
                "rows, or thin the model with fewer groups."
            )
        if self.clock._place[0] >= 0:
            raise RuntimeError(
                "thin: with groups, the rows of a piece do not say which masks of the batch are "
                "theirs. Leave clock.piece, or thin the model with groups=1."
            )
        parts = [
            leaf.tensor_split(self.groups) if isinstance(leaf, Tensor) else (leaf,) * self.groups
            for leaf in leaves
        ]
        results = []
        for part in zip(*parts, strict=True):
            some, named = pytree.tree_unflatten(list(part), tree)
            results.append(run(some, named))
        lengths = [len(share) for share in torch.arange(rows).tensor_split(self.groups)]
        return _joined(results, lengths)


def _rows(tensors: list[Tensor]) -> int:
    lengths = {tensor.shape[0] if tensor.dim() else -1 for tensor in tensors}
    if len(lengths) != 1 or -1 in lengths:
        got = [tuple(tensor.shape) for tensor in tensors]
        requirement = "tensors that all have the batch's rows on their first axis"
        remedy = "Only such can be split in groups."
        raise ValueError(message("thin", "a model's arguments", requirement, got, remedy))
    return int(lengths.pop())


def _joined(results: list[Any], lengths: Iterable[int]) -> Any:
    flat = [pytree.tree_flatten(result) for result in results]
    leaves: list[Tensor | None] = []
    for same in zip(*(values for values, _ in flat), strict=True):
        if all(value is None for value in same):
            leaves.append(None)
            continue
        for value, rows in zip(same, lengths, strict=True):
            if not isinstance(value, Tensor) or value.dim() == 0 or len(value) != rows:
                requirement = "tensors with the batch's rows on their first axis"
                got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                remedy = "Only such can be put together again. Compute a loss outside the model."
                raise ValueError(message("thin", "a model's results", requirement, got, remedy))
        leaves.append(torch.cat(same))
    return pytree.tree_unflatten(leaves, flat[0][1])
