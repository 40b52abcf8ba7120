"""Sites, and the modules that adoption makes of torch.nn's dropout modules.

The classes have the names of torch.nn's: programs look for dropout by `type(m).__name__`, above all
to switch it on for Monte Carlo in a model that is in evaluation.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from thinned import checks, reference
from thinned.address import Address, address_of_seed
from thinned.backends.torch import compiled_node
from thinned.backends.torch.address import GraphAddress
from thinned.backends.torch.devices import uses_triton
from thinned.backends.torch.internals import in_transform
from thinned.backends.torch.values import eager
from thinned.torch.clock.clock import Clock
from thinned.torch.clock.in_graphs import LOCATED, OWN_P, P, bits_of
from thinned.torch.clock.ranks import ALONE
from thinned.torch.clock.reading import HEAD, Moment
from thinned.torch.clock.rows import NO_ROWS, address_of, window_of
from thinned.torch.compat.dtensor import is_sharded, on_shards
from thinned.torch.compat.recording import capturing, require_no_capture
from thinned.torch.compat.shard import Shard
from thinned.torch.compat.without_modes import aside
from thinned.torch.dropin import kinds
from thinned.window import Window

__all__ = ["ADDRESSED", "Addressed", "Site", "p_of", "set_p"]

_is_traced_by_dynamo = torch.compiler.is_dynamo_compiling


class Site:
    """A place in an adopted model: its name, its clock, and its p where it has one of its own.

    axis : the axis along which the rows of the batch lie.
    gates : what code that draws here makes of the numbers, by the name of the function that draws:
        several things, perhaps. See `adoption.gates`.
    moved : whose attribute a schedule moves, where code of the model's own draws by it: a
        `by_hand.Moved`, or None.
    """

    def __init__(self, clock: Clock, name: str, p: float | None = None, axis: int = 0) -> None:
        self.clock, self.name, self.axis = clock, name, axis
        self.index = clock.enter(name)
        self.address = Address(site=name).site
        self.rule = clock.rules.get(name)
        self.gates: dict[str, Any] = {}
        self.moved: Any = None
        self._rate = _rate_of(0.5)
        if self.rule is None:
            self.set(p)
        else:
            clock.followers.append(self)
            self.follow(clock.step)

    @property
    def p(self) -> float | None:
        """The site's own p, now. A compiler's program takes it for a number that never changes."""
        if self.rule is None or torch.compiler.is_compiling():
            return self._p
        return self.rule(self.clock.step)

    def p_at(self, step: int) -> float | None:
        """The site's own p in this step: a checkpoint may recompute one that is over.

        Members, whose addresses all have step 0, are drawn with the p of now.
        """
        if self.rule is None or self.clock.awake is not None:
            return self.p
        return self.rule(step)

    def set(self, p: float | None) -> None:
        """Another p, which a site that follows a schedule refuses."""
        if self.rule is not None:
            raise RuntimeError(
                f"thinned: p of site {self.name!r} follows {self.rule} and cannot be set. Call "
                "release, and adopt with another schedule."
            )
        self._tell(p)

    def follow(self, step: int) -> None:
        """The p that the site's schedule has for this step."""
        p = self.p_at(step)
        self._tell(p)
        if self.moved is not None:
            self.moved.to(p)

    def _require_p_of_now(self, step: int) -> None:
        """RuntimeError where code of the model's own repeats a step with the p of another."""
        if self.p_at(step) != self.p:
            raise RuntimeError(
                f"thinned: site {self.name!r} recomputes step {step}, which is over, and "
                f"{self.moved.held.name!r}, by which the model's code drops, holds the p of step "
                f"{self.clock.step} by now. Run the backward pass before the optimizer's step."
            )

    def _tell(self, p: float | None) -> None:
        """A new tensor for graphs to read. One that a graph keeps stays as it is."""
        self._p = p
        words = [self.index, self.address, bits_of(-1.0 if p is None else p)]
        with aside():
            self.words = torch.tensor(words, dtype=torch.int64)

    @eager
    def draw(
        self,
        x: Tensor,
        kind: str = "dropout",
        inplace: bool = False,
        p: float | None = None,
        axis: int | None = None,
    ) -> Tensor:
        """x as dropout of this kind leaves it at this site's next call. p None: the site's own."""
        if _is_traced_by_dynamo() or type(x) is not Tensor or self.clock.awake is not None:
            return self._draw_anywhere(x, kind, inplace, p, axis)
        shared = kinds.shared_axes(kind, x) if kind != "dropout" else ()
        now, call = self.clock.take(self.index, self.name, x)
        if self.moved is not None:
            self._require_p_of_now(now.step)
        if p is None:
            p = self._p if self.rule is None else self.rule(now.step)
        # The commonest call of all: the rows at hand are the whole batch, on the only process.
        whole = now.ranks.kind == ALONE and now.start < 0
        if kind == "dropout" and p and not inplace and whole and x.is_cpu:
            rate = self._rate
            if rate[0] != p:
                rate = self._rate = _rate_of(p)
            y = compiled_node.noise(
                x, rate[2], 0.0, False, now.seed, self.address, now.step, call, rate[1], False,
                0, None,
            )  # fmt: skip
            if y is not None:
                return y  # type: ignore[no-any-return] # compiled code has no types
        return self._drawn(x, kind, inplace, p, axis, shared, None, now, call)

    def _drawn(
        self,
        x: Tensor,
        kind: str,
        inplace: bool,
        p: Any,
        axis: int | None,
        shared: tuple[int, ...],
        shard: Shard | None,
        now: Moment,
        call: int,
    ) -> Tensor:
        """What this call leaves of x, whatever x is and wherever its rows lie."""
        at = address_of(now, self.address, call, shard, self.name)
        if capturing():
            at = self._replayed(at, x.device)
        axis = self.axis if axis is None else axis
        window = window_of(self.name, now, x.shape, axis, shard)
        return kinds.forward(x, p, kind, at, shared, window, inplace)

    def _replayed(self, at: Address, device: torch.device) -> Address:
        """The address for a CUDA graph that is captured. Its step lies on the device, and is that
        of each replay; all else is what it was at the capture.

        RuntimeError where the step does not lie there, or cannot be all that changes.
        """
        what, step = f"site {self.name!r} of an adopted model", self.clock.live_step(device)
        if self.rule is not None:
            raise RuntimeError(
                f"thinned: {what} is captured by a CUDA graph, and its p follows a schedule: every "
                "replay would have the p of now. Adopt the model without a schedule, or take "
                "torch.compile, whose programs follow it."
            )
        if step is None or not uses_triton(device):
            remedy = f"Install triton and move the model's buffers to {device}, or call it with at="
            require_no_capture(what, remedy)
        moved: Any = step
        return address_of_seed(at.seed, at.site, moved, at.call, self.name)

    def _draw_anywhere(
        self, x: Tensor, kind: str, inplace: bool, p: float | None, axis: int | None
    ) -> Tensor:
        """The same in a graph, for a member of the network, and for tensors around others."""
        axis = self.axis if axis is None else axis
        shared = kinds.shared_axes(kind, x)
        if is_sharded(x):

            def on_shard(local: Tensor, shard: Shard) -> Tensor:
                return self._draw(local, kind, False, p, axis, shared, shard)

            return on_shards(x, on_shard)
        return self._draw(x, kind, inplace, p, axis, shared, None)

    def _draw(
        self,
        x: Tensor,
        kind: str,
        inplace: bool,
        p: float | None,
        axis: int,
        shared: tuple[int, ...],
        shard: Shard | None,
    ) -> Tensor:
        if torch.compiler.is_compiling():
            words, rate = self.wired(tuple(x.shape), shared, axis, p, shard)
            leading = shard is None and axis in (0, NO_ROWS)
            y = kinds.in_graph(x, kind, words, rate, shared if leading else None)
            return x.copy_(y) if inplace else y
        if self.clock.awake is not None:
            return self._for_member(x, kind, inplace, p, axis, shared, shard)
        now, call = self.clock.take(self.index, self.name, x)
        if self.moved is not None:
            self._require_p_of_now(now.step)
        p = self.p_at(now.step) if p is None else p
        return self._drawn(x, kind, inplace, p, axis, shared, shard, now, call)

    def _for_member(
        self,
        x: Tensor,
        kind: str,
        inplace: bool,
        p: float | None,
        axis: int,
        shared: tuple[int, ...],
        shard: Shard | None,
    ) -> Tensor:
        awake = self.clock.awake
        assert awake is not None
        if shard is None:
            return awake.draw(self, x, kind, inplace, p, axis, shared)
        at, window = awake.place(self, tuple(x.shape), axis, shard)
        p = self.p if p is None else p
        assert p is not None
        return kinds.forward(x, p, kind, at, shared, window, inplace)

    def place(
        self,
        shape: tuple[int, ...],
        axis: int,
        shard: Shard | None = None,
        x: Tensor | None = None,
    ) -> Any:
        """Address and window of the next call, in eager code. Asking counts as drawing.

        x : what is drawn for, by code that takes a step which lies on a device: a CUDA graph that
        is captured has it. Without, a capture is refused.
        """
        if self.clock.awake is not None:
            return self.clock.awake.place(self, shape, axis, shard)
        moment, call = self.clock.take(self.index, self.name, x)
        if self.moved is not None:
            self._require_p_of_now(moment.step)
        at = address_of(moment, self.address, call, shard, self.name)
        if x is not None and capturing():
            at = self._replayed(at, x.device)
        return at, window_of(self.name, moment, shape, axis, shard)

    def located(
        self, shape: tuple[int, ...], axis: int | None = None, shard: Shard | None = None
    ) -> tuple[Any, Window | None, Any]:
        """Address, window and p of the next call on an array of `shape`. Asking counts as drawing.

        In a graph address and p are tensors, and the address says the window.
        """
        axis = self.axis if axis is None else axis
        if not torch.compiler.is_compiling():
            at, window = self.place(shape, axis, shard)
            return at, window, self.p_at(at.step)
        words, window, rate = self._located(shape, None, axis, None, shard)
        return GraphAddress(words, window), None, rate[P]

    def wired(
        self,
        shape: tuple[int, ...],
        shared: tuple[int, ...],
        axis: int,
        p: float | None = None,
        shard: Shard | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Words and rate of the next call on an array of `shape`, in a graph: see
        backends/torch/wire.py. p None: the site's own. Asking counts as drawing."""
        words, _, rate = self._located(shape, shared, axis, p, shard)
        return words, rate

    def _located(
        self,
        shape: tuple[int, ...],
        shared: tuple[int, ...] | None,
        axis: int,
        p: float | None,
        shard: Shard | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        counting = self._counting()
        words, window, rate, after = LOCATED(
            counting, self.words, _told_p(p), shape, shared, axis, *_told(shard)
        )
        self._count(after)
        return words, window, rate

    def p_in_graph(self) -> Tensor:
        """The site's own p, now, as a 0-d tensor of a graph: nothing is drawn or counted."""
        clock = self.clock
        p: Tensor = OWN_P(clock.buffer, clock.identity, self.words)
        return p

    def _counting(self) -> Tensor:
        if in_transform():
            raise NotImplementedError(
                f"thinned: site {self.name!r} is called under a transform of torch.func within a "
                "compiled program, which cannot count there. Call the transform outside of "
                "torch.compile."
            )
        if (
            self.clock.awake is not None
        ):  # its draws are not part of a graph: the code runs eagerly then
            raise RuntimeError(
                f"thinned: site {self.name!r} draws for a member of the network, which a compiled "
                "program does not know. Leave out torch.compile's fullgraph=True."
            )
        live = self.clock.live
        return self.clock.snapshot() if live is None else live

    def _count(self, after: Tensor) -> None:
        clock = self.clock
        if clock.live is None:
            clock.counts = after[HEAD:].clone()
        else:
            # Into the tensor that this very graph made: an attribute could not be set where a
            # checkpoint is being traced.
            clock.live.copy_(after)


def _rate_of(p: float) -> tuple[float, int, float]:
    """p, and what a draw needs of it: the threshold below which it drops, and the scale."""
    return p, reference.threshold(p), reference.scale_for(p)


def _told_p(p: Any) -> Tensor | None:
    """A call's p for a graph: a tensor, so that where it is no constant it is no new program."""
    if p is None or isinstance(p, Tensor):
        return p if p is None else p.detach().to("cpu", torch.float64)
    return torch.full((), p, dtype=torch.float64, device="cpu")


def _told(shard: Shard | None) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
    return ((), (), False) if shard is None else (shard.start, shard.shape, shard.covers)


def p_of(module: Any, name: str) -> float:
    """A module's p: its own number, or what its site's schedule says now.

    name : where the number stands in the module's __dict__. Where it is the property's own name,
        Dynamo of an older PyTorch (2.8 is one) asks the property again, without end.

    A schedule leaves the number alone, and so `release` gives back the p that was there before.
    """
    site = module.__dict__.get("site")
    p: float = module.__dict__[name] if site is None or site.rule is None else site.p
    return p


def set_p(module: Any, name: str, p: float) -> None:
    """Give a module another p, and its site where it has one."""
    site = module.__dict__.get("site")
    if site is not None:
        site.set(p)
    module.__dict__[name] = p


class Addressed:
    """A dropout module at a site: made by `adopt` of the module that was there.

    Its repr says the site, which tells it from torch.nn's.
    """

    kind = "dropout"
    training: bool
    inplace: bool
    site: Site
    was: type[nn.Module]

    @property
    def p(self) -> float:
        return p_of(self, "p")

    @p.setter
    def p(self, p: float) -> None:
        set_p(self, "p", checks.probability(type(self).__name__, p))

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return input
        # torch.nn's alpha dropouts take `inplace` and leave the input alone.
        writes = self.inplace and self.kind not in kinds.ALPHA_KINDS
        return self.site.draw(input, self.kind, writes)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}, site={self.site.name!r}"

    def __prepare_scriptable__(self) -> nn.Module:
        """Asked by torch.jit.script."""
        raise RuntimeError(
            "torch.jit.script cannot compile an adopted model, whose calls are counted in Python. "
            "Use torch.compile or torch.export, or script a copy.deepcopy of the model after "
            "thinned.torch.release on it."
        )


class Dropout(Addressed, nn.Dropout):
    """torch.nn.Dropout in an adopted model."""


class Dropout1d(Addressed, nn.Dropout1d):
    """torch.nn.Dropout1d in an adopted model."""

    kind = "dropout1d"


class Dropout2d(Addressed, nn.Dropout2d):
    """torch.nn.Dropout2d in an adopted model."""

    kind = "dropout2d"


class Dropout3d(Addressed, nn.Dropout3d):
    """torch.nn.Dropout3d in an adopted model."""

    kind = "dropout3d"


class AlphaDropout(Addressed, nn.AlphaDropout):
    """torch.nn.AlphaDropout in an adopted model."""

    kind = "alpha_dropout"


class FeatureAlphaDropout(Addressed, nn.FeatureAlphaDropout):
    """torch.nn.FeatureAlphaDropout in an adopted model."""

    kind = "feature_alpha_dropout"


class MultiheadAttention(nn.MultiheadAttention):
    """torch.nn.MultiheadAttention in an adopted model: `dropout` is its weights' p."""

    site: Site
    was: type[nn.Module]

    @property
    def dropout(self) -> float:
        # Traced, the number would be built into the graph; the site's tensor holds it instead.
        if torch.compiler.is_compiling():
            return math.nan
        return p_of(self, "dropout")

    @dropout.setter
    def dropout(self, p: float) -> None:
        set_p(self, "dropout", checks.probability(type(self).__name__, p, "dropout"))


# torch.nn's class and what it becomes.
ADDRESSED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Dropout: Dropout,
    nn.Dropout1d: Dropout1d,
    nn.Dropout2d: Dropout2d,
    nn.Dropout3d: Dropout3d,
    nn.AlphaDropout: AlphaDropout,
    nn.FeatureAlphaDropout: FeatureAlphaDropout,
}
