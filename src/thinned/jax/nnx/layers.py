"""The layers: one for each row of the catalogue that has one array in and out, and attention."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import jax
from flax import nnx

from thinned import checks
from thinned.address import Address
from thinned.checks import message
from thinned.jax.awake import awake, mirrored
from thinned.jax.flax_attention import Drawing, attention_fn
from thinned.jax.keys import address
from thinned.jax.nnx.clock import Calls, Clock
from thinned.jax.nnx.lanes import own_axes_folded
from thinned.jax.schedules import p_at
from thinned.methods.made import chosen_options, default_p, layer_rows
from thinned.methods.table import Method
from thinned.schedules.sites import SiteRule

__all__ = ["Drawn", "Dropout", "Layer", "MultiHeadAttention", "made"]

_NOWHERE = Address()  # what evaluation, which draws nothing, is given


class Drawn:
    """Where a layer's address comes from: `at`, `rngs`, or the clock of an adopted model."""

    __slots__ = ()  # so that a layer of NNX's own can become one of ours in place

    rngs: Any
    rng_collection: str
    site: int | str = 0
    clock: Clock | None = None
    calls: Calls | None = None
    axes: tuple[str, ...] | None = None
    rule: SiteRule | None = None
    before: Any = None  # what it was before it was adopted

    def _p(self, own: Any) -> Any:
        """p in this step: the layer's own, or that of the schedule that its site follows."""
        if self.rule is None or self.clock is None:
            return own
        asked = awake()
        step = self.clock.step if asked is None else asked.step
        return p_at(self.rule.schedule, step, self.rule.steps, self.rule.layer, self.rule.layers)

    def _address(self, at: Any, rngs: Any) -> Address:
        name = type(self).__name__
        if at is not None:
            if not isinstance(at, Address):
                raise TypeError(message(name, "at", "a thinned.Address", type(at).__name__))
            return at if self.site == 0 else at.replace(site=self.site)
        asked = awake() is not None  # a member's draws are the clock's, whatever the code passes
        if (rngs is None or asked) and self.clock is not None and self.calls is not None:
            return self._at_the_clock(self.clock, self.calls)
        rngs = self.rngs if rngs is None else rngs
        if rngs is None:
            raise ValueError(
                f"{name}: `deterministic` is False, but there is neither `rngs` nor `at` to draw "
                "from. Pass rngs=nnx.Rngs(0) to the layer, or adopt the model."
            )
        if isinstance(rngs, nnx.Rngs):
            rngs = rngs[self.rng_collection]
        if isinstance(rngs, nnx.RngStream):
            rngs = rngs()
        return address(rngs, site=self.site)

    def _at_the_clock(self, clock: Clock, calls: Calls) -> Address:
        if clock.lanes:
            raise ValueError(
                f"{type(self).__name__}: site {str(self.site)!r} stands in a stack of layers of "
                f"shape {clock.lanes} and was called for all of them at once. Run the stack by "
                "nnx.scan or nnx.vmap, which hand over one layer at a time."
            )
        at = clock.address(self.site, calls.next(clock.step))
        at = own_axes_folded(type(self).__name__, self.site, at, self.axes)
        asked = awake()
        return mirrored(at) if asked is not None and asked.at.mirrored else at

    def _is_off(self, deterministic: bool | None, own: bool | None) -> bool:
        if awake() is not None and self.clock is not None:
            return False
        chosen = own if deterministic is None else deterministic
        if chosen is None:
            raise ValueError(
                f"{type(self).__name__}: no `deterministic` came. Pass it to the constructor or to "
                "the call, or use model.train() and model.eval()."
            )
        return bool(chosen)


class Dropout(nnx.Dropout, Drawn):
    """Dropout with the arguments of `flax.nnx.Dropout`, whose subclass it is.

    Parameters
    ----------
    rate : float in [0, 1]. Probability to drop: NNX's name for p.
    broadcast_dims : axes that share one draw, as `shared_axes` of `thinned.dropout`.
    deterministic : bool or None. True draws nothing; model.eval() sets it.
    rng_collection : str. The stream of `rngs` that keys are taken from.
    rngs : nnx.Rngs, nnx.RngStream or None.
    site : str or int. Where in the network it stands; `adopt` gives each layer its own.

    Raises
    ------
    ValueError if `rate` is outside [0, 1] or NaN. TypeError if x is not floating.
    """

    def __init__(
        self,
        rate: float,
        *,
        broadcast_dims: Sequence[int] = (),
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: Any = None,
        site: int | str = 0,
    ) -> None:
        checks.probability("Dropout", rate, "rate")
        super().__init__(
            rate,
            broadcast_dims=broadcast_dims,
            deterministic=deterministic,
            rng_collection=rng_collection,
            rngs=rngs,
        )
        self.site = site

    def __call__(
        self,
        inputs: Any,
        *,
        deterministic: bool | None = None,
        rngs: Any = None,
        at: Address | None = None,
    ) -> jax.Array:
        from thinned.methods.bernoulli import dropout

        how = {"shared_axes": tuple(self.broadcast_dims)}
        if self._is_off(deterministic, self.deterministic):
            return dropout(inputs, self.rate, _NOWHERE, training=False, **how)  # type: ignore
        return dropout(inputs, self._p(self.rate), self._address(at, rngs), **how)  # type: ignore


class MultiHeadAttention(nnx.MultiHeadAttention, Drawn):
    """`flax.nnx.MultiHeadAttention`, whose subclass it is, with its weights dropped by address.

    The masks are those of `thinned.jax.dot_product_attention`, in blocks that are made again in the
    backward pass. With broadcast_dropout=True, which is Flax's default, all samples and heads share
    a mask of (tokens, tokens).

    Parameters
    ----------
    site : str or int. Where in the network it stands; `adopt` gives each layer its own.
    Others, and what a call takes, are Flax's; a call may have `at`, an Address, too.
    """

    rng_collection = "dropout"

    def __init__(
        self, *args: Any, site: int | str = 0, attention_fn: Any = attention_fn, **how: Any
    ) -> None:
        super().__init__(*args, attention_fn=attention_fn, **how)
        self.site = site

    def __call__(
        self, *inputs: Any, rngs: Any = None, at: Address | None = None, **how: Any
    ) -> jax.Array:
        # Asked for once, where something is dropped, as Flax asks a stream for its key.
        drawn: Any = partial(self._drawing, at, rngs)
        if awake() is not None and self.clock is not None:
            how["deterministic"] = False
        out: jax.Array = super().__call__(*inputs, rngs=drawn, **how)
        return out

    def _drawing(self, at: Any, rngs: Any) -> Drawing:
        return Drawing(self._address(at, rngs), self._p(self.dropout_rate))


class Layer(nnx.Module, Drawn):
    """A method of the catalogue as a layer of NNX's: a batch in, the method's y out."""

    row: ClassVar[Method]

    def __init__(
        self,
        rate: float | None = None,
        *,
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: Any = None,
        site: int | str = 0,
        **options: Any,
    ) -> None:
        name = type(self).__name__
        self.rate = checks.probability(name, default_p(self.row) if rate is None else rate, "rate")
        self.row.require_law(name, self.rate)
        self.deterministic = deterministic
        self.rng_collection = rng_collection
        self.site = site
        if "channel_axis" in self.row.options:  # Flax's channels come last
            options = {"channel_axis": -1, **options}
        self.options = tuple(chosen_options(name, self.row, options).items())
        if isinstance(rngs, nnx.Rngs):
            rngs = rngs[rng_collection]
        self.rngs = rngs.fork() if isinstance(rngs, nnx.RngStream) else nnx.data(rngs)

    def __call__(
        self,
        x: Any,
        *,
        deterministic: bool | None = None,
        rngs: Any = None,
        at: Address | None = None,
    ) -> Any:
        function, how = self.row.function, dict(self.options)
        if self._is_off(deterministic, self.deterministic):
            return function(x, self.rate, _NOWHERE, training=False, **how)
        return function(x, self._p(self.rate), self._address(at, rngs), **how)

    def set_view(self, deterministic: bool | None = None) -> None:
        """For nnx.view. deterministic : True draws nothing."""
        if deterministic is not None:
            self.deterministic = deterministic


def _made(row: Method) -> type[Any]:
    assert row.module is not None
    options = "".join(f"\n    {n} : default {default!r}." for n, default in row.options.items())
    doc = f"""{row.title}: {row.formula}

    See `thinned.{row.name}` for errors and source. Channels lie along the last axis.

    Parameters
    ----------
    rate : float in [0, 1]. Probability to drop: p.
    deterministic, rng_collection, rngs, site : as for `Dropout`.{options}
    """
    space = {
        "row": row,
        "__doc__": doc,
        "__module__": "thinned.jax.nnx",
        "__qualname__": row.module,
    }
    return type(row.module, (Layer,), space)


_MADE: dict[str, type[Any]] = {}


def made() -> dict[str, type[Any]]:
    """Every layer by its name."""
    if not _MADE:
        _MADE.update({name: _made(row) for name, row in layer_rows().items()})
        _MADE["Dropout"] = Dropout
    return _MADE
