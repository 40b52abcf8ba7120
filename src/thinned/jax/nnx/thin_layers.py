"""The layers of a thin NNX model. `thin` makes them of Flax's, in place."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
from flax import nnx

from thinned.jax.handing import (
    Region,
    give,
    in_scope,
    is_in_scope,
    pending,
    require_untold,
    take,
)
from thinned.jax.nnx.layers import Drawn
from thinned.jax.regions import is_looking, marked

__all__ = ["Handed", "Scoped", "ThinLinear", "base_of", "handed", "scoped"]


class ThinLinear(nnx.Linear, Drawn):
    """An nnx.Linear that ends a region, begins one, or both: it uses the kept rows and columns of
    its kernel."""

    takes: Region | None = None
    gives: Region | None = None
    deterministic: bool | None = None  # that of the region's dropout
    place: str = ""

    def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
        if is_looking():
            given = marked(inputs, self.place, "layer", True)
            seen: jax.Array = marked(
                super().__call__(given, out_sharding), self.place, "layer", False
            )
            return seen
        before = None if self.takes is None else take(self.takes)
        here = self._drawn()
        if before is None and here is None:
            return super().__call__(inputs, out_sharding)
        if before is not None and inputs.shape[-1] != len(before.units):
            raise RuntimeError(
                f"thinned: the thin region {self.takes} keeps {len(before.units)} units, and an "
                f"array of shape {inputs.shape} came to its end. Thin the model anew."
            )
        bias = None if self.bias is None else self.bias[...]
        kernel = self.kernel[...] if before is None else before.rows(self.kernel[...])
        if here is not None:
            kernel = here.columns(kernel)
            bias = None if bias is None else here.columns(bias)
        inputs, kernel, bias = self.promote_dtype((inputs, kernel, bias), dtype=self.dtype)
        how: dict[str, Any] = {"precision": self.precision, "out_sharding": out_sharding}
        if self.preferred_element_type is not None:
            how["preferred_element_type"] = self.preferred_element_type
        y: jax.Array = self.dot_general(
            inputs, kernel, (((inputs.ndim - 1,), (0,)), ((), ())), **how
        )
        return y if bias is None else y + bias

    def _drawn(self) -> Any:
        region = self.gives
        if region is None or not is_in_scope() or self._is_off(None, self.deterministic):
            return None
        kept = region.draw(self._address(None, None))
        give(region, kept)
        return kept

    def set_view(self, deterministic: bool | None = None) -> None:
        """For nnx.view, as that of the region's dropout."""
        if deterministic is not None and self.deterministic is not None:
            self.deterministic = deterministic


class Handed:
    """A dropout whose draw comes from the layer before it; outside of the model's code, and with
    execution="elementwise", it draws for all rows together."""

    __slots__ = ()  # so that a layer can become one in place
    region: Region | None = None
    place: str = ""

    def __call__(self, x: Any, **how: Any) -> Any:
        layer: Any = self
        if is_looking():
            told = tuple(name for name, value in how.items() if value is not None)
            x = marked(x, layer.place, "dropout", True, told)
            return marked(x, layer.place, "dropout", False)
        region: Region = layer.region
        if layer.rate != region.p:
            raise ValueError(
                f"thinned: the rate of site {region.site!r} was {region.p:g} when the model was "
                f"thinned, and is {layer.rate:g}. Call release, and thin it again."
            )
        kept = pending(region)
        if kept is not None:
            require_untold(region, how)
            return kept.on(x)
        if layer._is_off(how.get("deterministic"), layer.deterministic):
            return x
        return region.draw(layer._address(how.get("at"), how.get("rngs"))).on_whole(x)


class Scoped:
    """A model in whose code regions lie."""

    __slots__ = ()


@lru_cache
def handed(kind: Any) -> type[Any]:
    """The class of such dropout of this class: Dropout, or that of a row."""
    # Its own base first: else it is of another layout, and no layer could become one in place.
    space = {"__call__": Handed.__call__, "__module__": __name__}
    return type(f"Thin{kind.__name__}", (kind, Handed), space)


@lru_cache
def scoped(kind: Any) -> type[Any]:
    """The class of a thin model of this class."""

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - it becomes one
        with in_scope():
            return kind.__call__(self, *args, **kwargs)

    space = {"__call__": __call__, "__doc__": kind.__doc__, "__module__": kind.__module__}
    return type(kind.__name__, (kind, Scoped), space)


def base_of(kind: type[Any]) -> type[Any]:
    """What `scoped` was given."""
    return kind.__bases__[0]
