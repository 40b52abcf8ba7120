"""A thinned network of a model at its true, smaller size: the kept units' weights alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinned.address import Address
from thinned.jax.asking import awoken_equinox, awoken_nnx, kind_of
from thinned.jax.awake import being_asked
from thinned.jax.thinning import is_elementwise

__all__ = ["smaller"]

_OF_UNITS = ("dropout", "k_of_n_dropout")  # rows whose y is x times a factor for each unit
_TAKES = (
    "a Sequential of Flax NNX or Equinox that consists of Linear layers, elementwise functions and "
    "dropout of units between Linear layers"
)


class Line(NamedTuple):
    """A Linear layer. width : its units. cut : function of the kept inputs and units, each an array
    of indices or None for all, to the function of a batch that remains."""

    width: int
    cut: Callable[[Any, Any], Callable[[Any], Any]]


class Drop(NamedTuple):
    """factor : function of a number of units to what each is multiplied by."""

    site: str
    factor: Callable[[int], Any]


Part = Line | Drop | Callable[[Any], Any]


def smaller(who: str, model: Any, at: Address) -> Callable[[Any], Any]:
    """The thinned network at an address as a function of a batch, whose rows share their draws.

    Raises
    ------
    ValueError where the model is no such chain, and says where it is not.
    """
    with being_asked(at):
        return _cut(who, _chain(who, model, at))


def _refusal(who: str, why: str) -> ValueError:
    return ValueError(f"{who}: execution='thin' takes {_TAKES}; {why}. Use execution='whole'.")


def _cut(who: str, chain: Sequence[Part]) -> Callable[[Any], Any]:
    lines = [i for i, part in enumerate(chain) if isinstance(part, Line)]
    steps: list[Callable[[Any], Any]] = []
    kept: Any = None
    for i, part in enumerate(chain):
        if isinstance(part, Drop):
            if not lines or not lines[0] < i < lines[-1]:
                raise _refusal(who, f"site {part.site!r} does not stand between two of them")
            continue  # taken into the functions behind its layer
        if not isinstance(part, Line):
            if not lines or i < lines[0]:
                steps.append(part)
            continue
        end = next((j for j in lines if j > i), len(chain))
        behind: Any = chain[i + 1 : end]  # and no Line
        inputs, (kept, between) = kept, _between(who, part.width, behind)
        steps += [part.cut(inputs, kept), *between]

    def network(x: Any) -> Any:
        for step in steps:
            x = step(x)
        return x

    return network


def _between(
    who: str, width: int, parts: Sequence[Drop | Callable[[Any], Any]]
) -> tuple[Any, list[Any]]:
    """The units that are kept behind a layer, None for all, and what is done to them."""
    factors: list[Any] = []
    for part in parts:
        if isinstance(part, Drop):
            factors.append(np.asarray(part.factor(width)))
        elif any(isinstance(other, Drop) for other in parts) and not is_elementwise(
            part, keeps_zero=bool(factors)
        ):
            what = "does not keep 0" if is_elementwise(part) else "mixes units"
            raise _refusal(who, f"{_name(part)} beside a dropout {what}")
    if not factors:
        return None, list(parts)
    kept = np.flatnonzero(np.all(factors, axis=0))
    scales = iter(factors)

    def scaled(by: Any) -> Callable[[Any], Any]:
        return lambda h: h * by.astype(h.dtype)

    steps = [
        scaled(jnp.asarray(next(scales)[kept])) if isinstance(part, Drop) else part
        for part in parts
    ]
    return kept, steps


def _name(part: Any) -> str:
    return str(getattr(part, "__name__", type(part).__name__))


def _chain(who: str, model: Any, at: Address) -> list[Part]:
    kind = kind_of(model)
    if kind == "nnx":
        return _of_nnx(who, model, at)
    if kind == "equinox":
        return _of_equinox(who, model)
    raise _refusal(who, f"got {'a function' if kind == 'function' else type(model).__name__}")


def _drop(who: str, layer: Any, call: Callable[[Any], Any]) -> Drop:
    name = layer.row.name if hasattr(layer, "row") else "dropout"
    if name not in _OF_UNITS:
        raise _refusal(who, f"site {str(layer.site)!r} is {type(layer).__name__}")
    return Drop(str(layer.site), lambda n: call(jnp.ones(n)))


def _of_nnx(who: str, model: Any, at: Address) -> list[Part]:
    from flax import nnx

    from thinned.jax.nnx.layers import Drawn
    from thinned.jax.nnx.thin_layers import Scoped, base_of

    is_thin = isinstance(model, Scoped)
    if (base_of(type(model)) if is_thin else type(model)) is not nnx.Sequential:
        raise _refusal(who, f"got {type(model).__name__}")
    twin, begin = awoken_nnx(who, model, "elementwise")
    begin(twin, at)
    chain: list[Part] = []
    for layer in twin.layers:
        if type(layer) is nnx.Linear:
            chain.append(Line(layer.out_features, partial(_nnx_cut, layer)))
        elif isinstance(layer, Drawn):
            chain.append(_drop(who, layer, partial(_of_one_row, layer)))
        elif isinstance(layer, nnx.Module):
            raise _refusal(who, f"it holds {type(layer).__name__}")
        else:
            chain.append(layer)
    return chain


def _of_one_row(layer: Any, x: Any) -> Any:
    """A row by itself: draws that rows share are those of one row alone."""
    return layer(x[None])[0]


def _nnx_cut(layer: Any, inputs: Any, units: Any) -> Callable[[Any], Any]:
    from flax import nnx

    made: Any = nnx.clone(layer)
    made.kernel.set_value(_taken(_taken(layer.kernel.get_value(), inputs, 0), units, 1))
    if layer.bias is not None:
        made.bias.set_value(_taken(layer.bias.get_value(), units, 0))
    graph, state = nnx.split(made)
    return lambda x: nnx.merge(graph, state)(x)


def _of_equinox(who: str, model: Any) -> list[Part]:
    import equinox as eqx

    from thinned.jax.equinox import Layer
    from thinned.jax.thin_equinox import Thin

    whole = model.model if isinstance(model, Thin) else model
    if type(whole) is not eqx.nn.Sequential:
        raise _refusal(who, f"got {type(whole).__name__}")
    twin = awoken_equinox(who, model, "elementwise")[0]
    chain: list[Part] = []
    for layer in twin.layers:
        if type(layer) is eqx.nn.Linear and isinstance(layer.out_features, int):
            chain.append(Line(layer.out_features, partial(_equinox_cut, layer)))
        elif isinstance(layer, Layer):
            chain.append(_drop(who, layer, partial(layer, key=jax.random.key(0))))
        elif type(layer) is eqx.nn.Lambda:
            chain.append(layer.fn)
        elif isinstance(layer, eqx.Module) and type(layer) is not eqx.nn.Identity:
            raise _refusal(who, f"it holds {type(layer).__name__}")
        else:
            chain.append(lambda h: h)
    return chain


def _equinox_cut(layer: Any, inputs: Any, units: Any) -> Callable[[Any], Any]:
    weight = _taken(_taken(layer.weight, inputs, 1), units, 0)
    bias = None if layer.bias is None else _taken(layer.bias, units, 0)

    def line(x: Any) -> Any:
        y = x @ weight.T
        return y if bias is None else y + bias

    return line


def _taken(array: Any, kept: Any, axis: int) -> Any:
    return array if kept is None else jnp.take(array, kept, axis=axis)
