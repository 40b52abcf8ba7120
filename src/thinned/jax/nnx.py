"""Layers for Flax NNX: one class for each row of the catalogue that has one array in and out.

They take batches, with channels along the last axis unless told otherwise, as Flax's layers do; and
keys of `rngs`, an address, or, in an adopted model, its clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.nnx import bridge

from thinned import checks
from thinned.address import Address
from thinned.backends.jax.address import Halves, at_one_of, register_with_flax, words_of
from thinned.checks import message
from thinned.jax.keys import address
from thinned.jax.lanes import folded_words, lanes_of, number_of, own_axes_folded
from thinned.methods.made import (
    Report,
    Row,
    chosen_options,
    default_p,
    layer_rows,
    nothing_to_adopt,
)
from thinned.methods.table import Method

__all__ = ["Calls", "Clock", "Clocks", "Dropout", "Layer", "adopt", "made", "tick"]

register_with_flax()  # Flax may have come after the part that knows JAX
_NOWHERE = Address()  # what evaluation, which draws nothing, is given


def _key_of(words: Any) -> Any:
    """A key of two words, the upper one first."""
    return jax.random.wrap_key_data(words, impl="threefry2x32")


class Clock(nnx.RngStream):
    """The clock of an adopted model, a part of its state, as Flax's own streams are: `key` holds
    the seed, `count` the step. So nnx.reseed(model, dropout=...) gives it another seed, at step 0.

    In a stack of layers it has the stack's leading axes, and each layer a seed of its own.
    """

    def __init__(self, seeds: Any) -> None:
        """seeds : uint32, shape (..., 2), the lower words first."""
        super().__init__(_key_of(seeds[..., ::-1]), tag="dropout")

    def tick(self) -> None:
        """Begin the next step: once after each update of the parameters."""
        self.count.set_value(self.count.get_value() + np.uint32(1))

    @property
    def step(self) -> Any:
        return self.count.get_value()

    @property
    def lanes(self) -> tuple[int, ...]:
        """The leading axes of the stack that it is for."""
        return tuple(self.count.get_value().shape)

    def address(self, site: int | str, call: Any) -> Address:
        """Of a site's call in this step, whatever its number.

        An address has room for 65,536 calls. Each such lot of those that follow has a seed of its
        own, so that a clock that is never ticked repeats no mask.
        """
        at = address(self.key.get_value(), site, self.step)
        call = jnp.asarray(call, jnp.uint32)
        lot = call >> np.uint32(16)
        number: Any = Halves(lot, jnp.zeros_like(lot))
        at = at_one_of(lot == 0, at, at.fold_in(number))
        return at.replace(call=call & np.uint32(2**16 - 1))


class Clocks(NamedTuple):
    """The clocks of a model that holds stacks of layers: one for each kind of stack."""

    clocks: tuple[Clock, ...]

    def tick(self) -> None:
        """Begin the next step in all of them."""
        for clock in self.clocks:
            clock.tick()

    @property
    def step(self) -> Any:
        return self.clocks[0].step.reshape(-1)[0]


def tick(model: nnx.Module) -> None:
    """Begin the next step of an adopted model, inside of nnx.jit too: every clock that it holds.

    Parameters
    ----------
    model : nnx.Module, adopted as a whole or in parts.

    Raises
    ------
    ValueError if it holds no clock. TypeError if it is no module.
    """
    if not isinstance(model, nnx.Module):
        raise TypeError(message("tick", "model", "an nnx.Module", type(model).__name__))
    clocks = _clocks_in(model)
    if not clocks:
        raise ValueError("tick: the model holds no clock. Adopt it first.")
    Clocks(clocks).tick()


def _clocks_in(model: nnx.Module) -> tuple[Clock, ...]:
    return tuple(node for _, node in nnx.iter_graph(model) if isinstance(node, Clock))


class Calls(nnx.RngStream):
    """How often a site was called in the step of its last call.

    `count` holds the calls, and the words of `key` the step. No key is made of it: it is a stream
    so that nnx.reseed, which sets the clock back, sets this back, too.
    """

    def __init__(self, lanes: tuple[int, ...]) -> None:
        super().__init__(_key_of(jnp.zeros((*lanes, 2), jnp.uint32)), tag="dropout")

    def next(self, step: Any) -> Any:
        last = jax.random.key_data(self.key.get_value())[..., -1]
        call = jnp.where(last == step, self.count.get_value(), np.uint32(0))
        self.key.set_value(_key_of(jnp.stack([jnp.zeros_like(step), step])))
        self.count.set_value(call + np.uint32(1))
        return call


class _Drawn:
    """Where a layer's address comes from: `at`, `rngs`, or the clock of an adopted model."""

    __slots__ = ()  # so that a layer of NNX's own can become one of ours in place

    rngs: Any
    rng_collection: str
    site: int | str = 0
    clock: Clock | None = None
    calls: Calls | None = None
    axes: tuple[str, ...] | None = None

    def _address(self, at: Any, rngs: Any) -> Address:
        name = type(self).__name__
        if at is not None:
            if not isinstance(at, Address):
                raise TypeError(message(name, "at", "a thinned.Address", type(at).__name__))
            return at if self.site == 0 else at.replace(site=self.site)
        if rngs is None and self.clock is not None and self.calls is not None:
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
        return own_axes_folded(type(self).__name__, self.site, at, self.axes)

    def _is_off(self, deterministic: bool | None, own: bool | None) -> bool:
        chosen = own if deterministic is None else deterministic
        if chosen is None:
            raise ValueError(
                f"{type(self).__name__}: no `deterministic` came. Pass it to the constructor or to "
                "the call, or use model.train() and model.eval()."
            )
        return bool(chosen)


class Dropout(nnx.Dropout, _Drawn):
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
        return dropout(inputs, self.rate, self._address(at, rngs), **how)  # type: ignore


class Layer(nnx.Module, _Drawn):
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
        return function(x, self.rate, self._address(at, rngs), **how)

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
    space = {"row": row, "__doc__": doc, "__module__": __name__, "__qualname__": row.module}
    return type(row.module, (Layer,), space)


_MADE: dict[str, type[Any]] = {}


def made() -> dict[str, type[Any]]:
    """Every layer by its name."""
    if not _MADE:
        _MADE.update({name: _made(row) for name, row in layer_rows().items()})
        _MADE["Dropout"] = Dropout
    return _MADE


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name not in made():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return made()[name]


def adopt(
    model: nnx.Module,
    *,
    seed: int = 0,
    axes: Sequence[str] | None = None,
    separator: str = ".",
) -> Report:
    """Give every dropout layer of a model an address: its site, at the step of one clock.

    In place. `nnx.Dropout` becomes `thinned.jax.nnx.Dropout`, which is its subclass; layers of this
    file get sites and the clock. The clock is a part of the model's state, so that a saved model
    goes on with the masks it would have had. Tick it once after each update.

    In a stack of layers, as `nnx.vmap` builds it and `nnx.scan` runs it, each layer draws masks of
    its own: the stack is recognised by the `rngs` of its dropout, or by the layers beside it, or,
    where adopt is called in the constructor, by what differs from one layer to the next. A model
    whose parts were adopted in their constructors may be adopted as a whole: their sites then get
    the names they have in it, and their clocks stay.

    Parameters
    ----------
    model : nnx.Module.
    seed : int in [0, 2^64).
    axes : names of mapped axes (of pmap, shard_map, or vmap with axis_name) along which each
        device, or lane, draws masks of its own. Without it a draw inside of pmap or shard_map is
        refused; () shares the masks.
    separator : what stands between the parts of a site's name: "layers.0.dropout" is the site of
        the same module in PyTorch, and draws the same masks there.

    Returns
    -------
    Report. Its `clock` is the model's, or `Clocks` where there are stacks. What is not reached is
    listed: attention that drops its own weights, subclasses of nnx.Dropout, whose own code runs,
    and modules of Linen.

    Raises
    ------
    ValueError if nothing in the model can be given an address, or it was adopted before. TypeError
    if it is no nnx.Module, or `axes` is one name, not a sequence of them.
    """
    words = words_of(Address(seed))[:2]
    if isinstance(axes, str) or not all(isinstance(name, str) for name in axes or ()):
        raise TypeError(message("adopt", "axes", "a sequence of axis names", repr(axes)))
    if not isinstance(model, nnx.Module):
        got = f"a {type(model).__module__.partition('.')[0]} {type(model).__name__}"
        remedy = "A module of Linen draws keys: thinned.jax.address makes an address of one."
        raise TypeError(message("adopt", "model", "an nnx.Module", got, remedy))
    modules = dict(nnx.iter_modules(model))
    found: list[tuple[Any, Any]] = [(path, m) for path, m in modules.items() if _drops(m)]
    new = [module for _, module in found if getattr(module, "clock", None) is None]
    rows = list(_not_reached(modules, separator))
    if not found:
        raise ValueError(nothing_to_adopt(rows))
    if not new and any(len(path) == 1 for path, _ in found):
        raise ValueError("adopt: the model was adopted before, and has its clock.")
    number, clocks = number_of(model), dict[tuple[int, ...], Clock]()
    for path, module in found:
        site, kind = separator.join(map(str, path)), type(module).__name__
        if module in new:
            lanes = lanes_of(path, module, modules)
            if lanes not in clocks:
                clocks[lanes] = _clock(words, number, lanes)
            _give(module, clocks[lanes])
        module.site = site
        module.axes = None if axes is None else tuple(axes)
        rows.append(Row(site, kind, float(module.rate), "addressed"))
    every = _clocks_in(model)
    return Report(tuple(rows), every[0] if len(every) == 1 else Clocks(every))


def _drops(module: nnx.Module) -> bool:
    return isinstance(module, _Drawn) or type(module) is nnx.Dropout


def _not_reached(modules: dict[tuple[Any, ...], nnx.Module], separator: str) -> Iterator[Row]:
    for path, module in modules.items():
        site, kind = separator.join(map(str, path)), type(module).__name__
        if isinstance(module, nnx.MultiHeadAttention) and module.dropout_rate > 0.0:
            done = "not reached: it drops its weights in its own code; use thinned.dropout there"
            yield Row(site, kind, float(module.dropout_rate), done, reached=False)
        elif isinstance(module, nnx.Dropout) and not _drops(module):
            done = "not reached: a subclass of nnx.Dropout, whose own code runs; make it one of "
            done += "thinned.jax.nnx.Dropout"
            yield Row(site, kind, float(module.rate), done, reached=False)
        elif isinstance(module, bridge.ToNNX):
            done = "not reached: a module of Linen, which draws keys of rngs; its code may use "
            done += "thinned.dropout with thinned.jax.address(self.make_rng('dropout'))"
            kind = f"ToNNX({type(module.to_nnx__module).__name__})"
            yield Row(site, kind, None, done, reached=False)


def _clock(words: tuple[int, ...], number: Any, lanes: tuple[int, ...]) -> Clock:
    """At step 0, of a finished model's part with these leading axes, or of a stack being built."""
    if lanes:
        number = np.arange(1, 1 + np.prod(lanes), dtype=np.uint32).reshape(lanes)
    return Clock(folded_words(words, number))


def _give(module: Any, clock: Clock) -> None:
    if type(module) is nnx.Dropout:
        module.__class__ = Dropout
    module.clock = clock
    module.calls = Calls(clock.lanes)
