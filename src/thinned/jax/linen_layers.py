"""Layers for Flax Linen: one class for each row of the catalogue that has one array in and out."""

from __future__ import annotations

from typing import Any, ClassVar

from flax import linen as nn

from thinned import checks
from thinned.address import Address
from thinned.checks import message
from thinned.jax.awake import awake
from thinned.jax.keys import address
from thinned.methods.made import chosen_options, default_p, layer_rows
from thinned.methods.table import Method

__all__ = ["Dropout", "Layer", "made"]

_NOWHERE = Address()  # for calls in evaluation, which must pass an address and draw nothing


class Layer(nn.Module):
    """A method of the catalogue as a layer of Linen's: a batch in, the method's y out.

    In a model that `thinned.jax.linen.adopt` has adopted, it draws at its path. Elsewhere it draws
    by the key that Flax makes for its path, unless the call brings a key or an address.

    Parameters
    ----------
    rate : float in [0, 1], or None for the row's default. Probability to drop: Linen's name for p.
    deterministic : bool or None. True draws nothing; given here or in the call.
    rng_collection : str. The stream that keys are taken from.
    options : dict or None. The row's own, such as {"block_size": 7}. Channels lie along the last
        axis.
    """

    row: ClassVar[Method]

    rate: Any = None
    deterministic: bool | None = None
    rng_collection: str = "dropout"
    options: Any = None

    @property
    def p(self) -> Any:
        return default_p(self.row) if self.rate is None else self.rate

    @property
    def how(self) -> dict[str, Any]:
        """The row's options."""
        last = {"channel_axis": -1} if "channel_axis" in self.row.options else {}
        return chosen_options(type(self).__name__, self.row, {**last, **(self.options or {})})

    @nn.compact
    def __call__(
        self, x: Any, deterministic: bool | None = None, rng: Any = None, at: Address | None = None
    ) -> Any:
        """y for x. rng : a key in place of the stream's. at : an Address in place of either.

        Raises
        ------
        ValueError if rate is outside [0, 1]. TypeError if x is not floating, an option is unknown,
        or at is no Address.
        """
        name = type(self).__name__
        p = checks.probability(name, self.p, "rate") if isinstance(self.p, (int, float)) else self.p
        function, how = self.row.function, self.how
        off = nn.merge_param("deterministic", self.deterministic, deterministic)
        if off and awake() is None:
            return function(x, p, _NOWHERE, training=False, **how)
        if at is not None and not isinstance(at, Address):
            raise TypeError(message(name, "at", "a thinned.Address", type(at).__name__))
        if at is None:
            key = self.make_rng(self.rng_collection) if rng is None else rng
            at = address(key, site=".".join(self.path))
        return function(x, p, at, **how)


class Dropout(nn.Dropout):
    """Dropout by address, as a subclass of `flax.linen.Dropout`.

    Parameters and the call are Linen's. The address is made of the key that Flax makes for the
    layer's path, or of the key that the call brings; or the call brings `at`, an Address. No mask
    is kept for the backward pass.
    """

    @nn.compact
    def __call__(
        self,
        inputs: Any,
        deterministic: bool | None = None,
        rng: Any = None,
        at: Address | None = None,
    ) -> Any:
        from thinned.methods.bernoulli import dropout

        how = {"shared_axes": tuple(self.broadcast_dims)}
        off = nn.merge_param("deterministic", self.deterministic, deterministic)
        if off and awake() is None:
            return dropout(inputs, self.rate, _NOWHERE, training=False, **how)  # type: ignore
        if at is not None and not isinstance(at, Address):
            raise TypeError(message("Dropout", "at", "a thinned.Address", type(at).__name__))
        if at is None:
            key = self.make_rng(self.rng_collection) if rng is None else rng
            at = address(key, site=".".join(self.path))
        return dropout(inputs, self.rate, at, **how)  # type: ignore


def _made(row: Method) -> type[Any]:
    assert row.module is not None
    options = "".join(f"\n    {n} : default {default!r}." for n, default in row.options.items())
    doc = f"""{row.title}: {row.formula}

    See `thinned.{row.name}` for errors and source, and `Layer` for parameters and the call.

    Options
    -------{options}
    """
    space = {"row": row, "__doc__": doc, "__module__": "thinned.jax.linen"}
    return type(row.module, (Layer,), {**space, "__qualname__": row.module, "__annotations__": {}})


_MADE: dict[str, type[Any]] = {}


def made() -> dict[str, type[Any]]:
    """Every layer by its name."""
    if not _MADE:
        _MADE.update({name: _made(row) for name, row in layer_rows().items()})
        _MADE["Dropout"] = Dropout
    return _MADE
