"""Running thin: layers with the kept rows and columns of their weights, and the draw they share."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from thinned.address import Address
from thinned.backends.torch import wire
from thinned.backends.torch.address import GraphAddress
from thinned.backends.torch.internals import graph_task, in_transform
from thinned.backends.torch.library import defined
from thinned.methods.bernoulli import keep_mask
from thinned.torch.adoption.functional_calls import AdoptedForward
from thinned.torch.adoption.site import Site
from thinned.torch.clock import checkpoints
from thinned.torch.clock.clock import Clock
from thinned.torch.clock.rows import NO_ROWS
from thinned.torch.compat.dtensor import is_sharded

__all__ = [
    "SHARING",
    "Drawn",
    "Region",
    "Scope",
    "ThinDropout",
    "ThinLayer",
    "ThinScope",
    "drawn_of",
    "kept_of",
    "taken",
]

_in_transform = in_transform


# ------------------------------------------------------------------------------- rows and columns


def _gathered(weight: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    """weight[rows][:, columns], as operations that every transformation knows."""
    if rows is not None:
        weight = weight.index_select(0, rows)
    return weight if columns is None else weight.index_select(1, columns)


def _gathered_fast(weight: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    # On a CPU index_select takes columns of a matrix 30 times slower than gather (2048 x 2048).
    if columns is None or weight.dim() != 2:
        return _gathered(weight, rows, columns)
    weight = weight if rows is None else weight.index_select(0, rows)
    return weight.gather(1, columns.expand(len(weight), -1))


def _scattered(
    grad: Tensor, rows: Tensor | None, columns: Tensor | None, shape: torch.Size
) -> Tensor:
    """The transpose of `_gathered`: zeros where nothing was taken."""
    if columns is not None:
        wide = grad.new_zeros((len(grad), *shape[1:]))
        if grad.dim() == 2:
            grad = wide.scatter_(1, columns.expand(len(grad), -1), grad)
        else:
            grad = wide.index_copy_(1, columns, grad)
    return grad if rows is None else grad.new_zeros(shape).index_copy_(0, rows, grad)


class _Take(torch.autograd.Function):
    """weight[rows][:, columns]; of the weight only the thin part is kept for the backward pass."""

    @staticmethod
    def forward(weight: Tensor, rows: Any, columns: Any) -> Tensor:
        return _gathered_fast(weight, rows, columns)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        weight, rows, columns = inputs
        ctx.shape = weight.shape
        ctx.save_for_backward(rows, columns)
        ctx.save_for_forward(rows, columns)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        rows, columns = ctx.saved_tensors
        return _put(grad, rows, columns, ctx.shape), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Any:
        rows, columns = ctx.saved_tensors
        return _gathered(tangent, rows, columns)


class _Put(torch.autograd.Function):
    """The gradient of _Take, and _Take its own: so there are derivatives of every order."""

    @staticmethod
    def forward(grad: Tensor, rows: Any, columns: Any, shape: torch.Size) -> Tensor:
        return _scattered(grad, rows, columns, shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1], inputs[2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        rows, columns = ctx.saved_tensors
        return _take(grad, rows, columns), None, None, None


# PyTorch gives `apply` no types.
_take: Any = _Take.apply
_put: Any = _Put.apply


def taken(weight: Tensor, rows: Tensor | None, columns: Tensor | None = None) -> Tensor:
    """weight[rows][:, columns], differentiable; None takes all.

    The gradient is whole: that of what was taken, and zeros elsewhere.
    """
    if rows is None and columns is None:
        return weight
    if torch.compiler.is_compiling() or _in_transform():
        return _gathered(weight, rows, columns)
    thin: Tensor = _take(weight, rows, columns)
    return thin


# --------------------------------------------------------------------------------- what was drawn


class Drawn(NamedTuple):
    """kept : indices of the kept units, or None for all of them.
    scale : 1 / (1 - p), or 1 where nothing is kept.
    alive : bool, the length of `kept`, or None for all: which of them are kept indeed. The others
        are there because convolutions, exporters and compilers need some units; they become 0.
    """

    kept: Tensor | None
    scale: float | Tensor
    alive: Tensor | None

    def on(self, x: Tensor, axis: int) -> Tensor:
        """What dropout makes of a thin array, whose units lie on `axis`, counted from the end."""
        if self.kept is None:
            return x
        # A 0-d tensor counts as a number: the product has x's type.
        scale = self.scale if isinstance(self.scale, float) else self.scale.to(x.device)
        scaled = x * scale
        if self.alive is None:
            return scaled
        alive = self.alive.to(x.device).view(-1, *(1,) * (-1 - axis))
        return torch.where(alive, scaled, 0)


def kept_of(
    units: int, p: float, at: Address, device: torch.device | None = None, least: int = 1
) -> Drawn:
    """The draw of a layer's units at an address, one for the whole batch, `least` of them named."""
    if p == 0.0:
        return Drawn(None, 1.0, None)
    return drawn_of(torch.from_numpy(keep_mask(units, p, at)), p, device, least)


def drawn_of(kept: Tensor, p: float, device: torch.device | None = None, least: int = 1) -> Drawn:
    """The draw that keeps these units (True = kept), `least` of them named."""
    indices = kept.nonzero().squeeze(1)
    scale = 1.0 / (1.0 - p) if p < 1.0 else 1.0
    if len(indices) >= least:
        return Drawn(indices.to(device), scale, None)
    named = kept.clone()
    named[(~kept).nonzero().squeeze(1)[: least - len(indices)]] = True
    indices = named.nonzero().squeeze(1)
    return Drawn(indices.to(device), scale, kept[indices].to(device))


# A compiler assumes that unknown sizes are neither 0 nor 1, which it treats apart.
LEAST_IN_GRAPH = 2


def _kept_units(words: Tensor, p: Tensor, units: int) -> tuple[Tensor, Tensor, Tensor]:
    """`kept_of` in a compiled program: how many units there are, the program learns when run."""
    at = Address(*wire.address(words))
    drawn = kept_of(units, float(p), at, None, LEAST_IN_GRAPH)
    kept = torch.arange(units) if drawn.kept is None else drawn.kept
    alive = torch.ones(len(kept), dtype=torch.bool) if drawn.alive is None else drawn.alive
    return kept, torch.tensor(drawn.scale, dtype=torch.float64), alive


def _fake_kept_units(words: Tensor, p: Tensor, units: int) -> tuple[Tensor, Tensor, Tensor]:
    count = torch.library.get_ctx().new_dynamic_size(min=LEAST_IN_GRAPH, max=units)
    return (
        words.new_empty(count),
        words.new_empty((), dtype=torch.float64),
        words.new_empty(count, dtype=torch.bool),
    )


KEPT_UNITS = defined(
    "kept_units(Tensor words, Tensor p, int units) -> (Tensor, Tensor, Tensor)",
    _kept_units,
    _fake_kept_units,
)


# ------------------------------------------------------------------------------------- the regions


class Scope:
    """The forward of a module in which regions were found, and how deep it is entered now.

    Outside it eager layers do not run thin: what calls them there may do anything with what they
    return. Compiled ones do, as they cannot ask where they are without being compiled again.
    """

    def __init__(self) -> None:
        self.regions: list[Region] = []
        self.depth = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "depth": 0}

    @property
    def active(self) -> bool:
        if torch.compiler.is_compiling():
            return True
        # A checkpoint recomputes a part of a forward that was in its scope.
        return self.depth > 0 or graph_task() >= 0


class Region:
    """A producer, a dropout and a consumer, and what is drawn for the forward that is running.

    units : the producer's units. axis : theirs, counted from the end.
    """

    def __init__(
        self,
        site: Site,
        dropout: nn.Module,
        units: int,
        axis: int,
        scope: Scope,
        names: str,
    ) -> None:
        self.site, self.dropout, self.units, self.axis = site, dropout, units, axis
        self.scope, self.names = scope, names
        # What the producer drew and the consumer has not used yet. An attribute, and not a store
        # for each thread: compiled and eager code must both find it. `thread` tells of the misuse.
        self.drawn: Drawn | None = None
        self.hooks: Any = None
        self.thread: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "drawn": None, "hooks": None, "thread": None}

    def begin(self, x: Tensor) -> Tensor | None:
        """The producer's question which units to compute; None for all."""
        if not self.dropout.training:
            return None
        few = torch.compiler.is_compiling() and self.units < LEAST_IN_GRAPH
        if few or _for_each_row(self.site) or not self.scope.active or is_sharded(x):
            self._hold(None)
            return None
        at, _, p = self.site.located((self.units,), NO_ROWS)
        if isinstance(at, GraphAddress):
            kept, scale, alive = KEPT_UNITS(at.words, p, self.units)
            drawn = Drawn(kept.to(x.device), scale, alive)
        else:
            drawn = kept_of(self.units, p, at, x.device)
        self._hold(drawn)
        return drawn.kept

    def drop(self, x: Tensor) -> Tensor:
        """The dropout: of a thin array only the scale is left to do."""
        drawn = self._read(x)
        if drawn is not None:
            return drawn.on(x, self.axis)
        return whole(self.site, x, self.axis)

    def end(self, x: Tensor) -> Tensor | None:
        """The consumer's question which columns its input has; None for all."""
        if not self.dropout.training:
            return None
        drawn = self._read(x)
        self._hold(None)
        if drawn is None or drawn.kept is None:
            return None
        if not torch.compiler.is_compiling() and x.shape[self.axis] != len(drawn.kept):
            raise RuntimeError(
                f"thinned: the thin region {self.names} kept {len(drawn.kept)} of {self.units} "
                f"units, and an array of shape {tuple(x.shape)} came to its end: the model's code "
                f"went another way than when it was looked at. {_REMEDY}"
            )
        return drawn.kept

    def _hold(self, drawn: Drawn | None) -> None:
        self.drawn = drawn
        if torch.compiler.is_compiling():
            self.hooks = self.thread = None
        elif drawn is not None:
            self.hooks, self.thread = checkpoints.hooks(), threading.get_ident()

    def _read(self, x: Tensor) -> Drawn | None:
        drawn = self.drawn
        if drawn is None or torch.compiler.is_compiling():
            return drawn
        if self.thread is None:  # drawn in a compiled program
            return drawn
        if self.thread != threading.get_ident():
            raise RuntimeError(
                f"thinned: two threads train the same thin model, and its region {self.names} "
                f"holds one draw at a time. Give each thread a copy. {_REMEDY}"
            )
        # A checkpoint that keeps its hooks, and one that runs its forward without gradients on what
        # was made with them. Its recompute would begin without a draw, or with another's.
        other = self.hooks != checkpoints.hooks()
        if other or (x.requires_grad and not torch.is_grad_enabled()):
            raise checkpoints.RecomputeError(
                f"thinned: a checkpoint begins or ends inside the thin region {self.names}, and "
                f"could not recompute it. Checkpoint the region as a whole. {_REMEDY}"
            )
        return drawn


_REMEDY = "Or thin the model with execution='elementwise'."


def whole(site: Site, x: Tensor, axis: int) -> Tensor:
    """The same draw on a whole array: one for each unit, shared by all else."""
    if is_sharded(x):
        raise NotImplementedError(
            f"thinned: site {site.name!r} shares its draws over the batch, which DTensors do not "
            "support yet. Adopt the model instead of thinning it."
        )
    n = x.dim()
    own, rows = ((0, n + axis), 0) if _for_each_row(site) else ((n + axis,), NO_ROWS)
    shared = tuple(i for i in range(n) if i not in own)
    return site._draw(x, "dropout", False, None, rows, shared, None)


def _for_each_row(site: Site) -> bool:
    """Whether each row is to be predicted by other members."""
    awake = site.clock.awake
    return awake is not None and awake.share == "row"


# ------------------------------------------------------------------------------------ the forwards


class ThinLayer(AdoptedForward):
    """The forward of a layer that ends a region, begins one, or both."""

    def __init__(
        self, module: nn.Module, clock: Clock, takes: Region | None, gives: Region | None
    ) -> None:
        super().__init__(module, clock, None)
        self.takes, self.gives = takes, gives

    def run(self, args: Any, kwargs: Any) -> Any:
        x: Tensor = args[0] if args else kwargs["input"]
        columns = None if self.takes is None else self.takes.end(x)
        rows = None if self.gives is None else self.gives.begin(x)
        layer: Any = self.module
        if rows is None and columns is None:
            return super().run(args, kwargs)
        weight = taken(layer.weight, rows, columns)
        bias = None if layer.bias is None else taken(layer.bias, rows)
        if isinstance(layer, nn.Linear):
            return functional.linear(x, weight, bias)
        return layer._conv_forward(x, weight, bias)


class ThinDropout(AdoptedForward):
    """The forward of a dropout that shares its draws over the batch."""

    def __init__(self, module: nn.Module, clock: Clock, region: Region) -> None:
        super().__init__(module, clock, None)
        self.region = region

    def run(self, args: Any, kwargs: Any) -> Any:
        x: Tensor = args[0] if args else kwargs["input"]
        return self.region.drop(x) if self.module.training else x


# Forwards whose draws all rows share, on purpose.
SHARING = (ThinLayer, ThinDropout)


class ThinScope(AdoptedForward):
    """The forward of a module in which regions lie."""

    def __init__(self, module: nn.Module, clock: Clock, scope: Scope) -> None:
        super().__init__(module, clock, None)
        self.scope = scope

    def run(self, args: Any, kwargs: Any) -> Any:
        scope = self.scope
        if torch.compiler.is_compiling():
            scope.depth += 1
            y = super().run(args, kwargs)
            scope.depth -= 1
            return y
        if not any(region.dropout.training for region in scope.regions):
            return super().run(args, kwargs)  # in several threads at once, perhaps
        scope.depth += 1
        try:
            y = super().run(args, kwargs)
            _require_done(scope)
            return y
        finally:
            scope.depth -= 1
            for region in scope.regions:
                region.drawn = None


def _require_done(scope: Scope) -> None:
    for region in scope.regions:
        if region.drawn is not None:
            raise RuntimeError(
                f"thinned: the thin region {region.names} began and did not end: the model's code "
                f"went another way than when it was looked at. {_REMEDY}"
            )
