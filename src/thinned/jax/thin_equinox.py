"""thin for Equinox: a model whose rows share their masks, and which computes the kept units alone.

An address is made of the key that the whole model is called with: a layer has to know what the
dropout behind it draws.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
from jax.tree_util import keystr, tree_flatten_with_path, tree_unflatten

from thinned import checks
from thinned.address import Address
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.jax.awake import awake
from thinned.jax.equinox import Layer, adopt, made
from thinned.jax.handing import (
    Region,
    address_in_scope,
    give,
    in_scope,
    pending,
    require_untold,
    take,
)
from thinned.jax.keys import address, key_of
from thinned.jax.regions import Looked, is_looking, marked, regions_of, row_of
from thinned.methods.made import Report, Row, ThinReport, nothing_thin

__all__ = ["Thin", "thin", "thin_adopted", "whole_of"]

EXECUTIONS = ("thin", "elementwise")


class Thin(eqx.Module):
    """A thin model of Equinox's: what `thin` gives.

    A call takes what the model takes, `key` or `at`, an Address: one for the whole batch. Under
    jax.vmap map over the rows alone, in_axes=(0, None): rows with keys of their own have networks
    of their own, whose weights are gathered for each of them.
    """

    model: Any

    def __call__(self, *args: Any, key: Any = None, at: Address | None = None, **named: Any) -> Any:
        if key is not None and at is not None:
            raise ValueError("Thin: key and at both came. Give one of them.")
        if at is not None and not isinstance(at, Address):
            raise TypeError(message("Thin", "at", "a thinned.Address", type(at).__name__))
        if at is not None:
            key = key_of(at)
        elif key is not None:
            at = address(key)
        if _takes_key(self.model):
            named["key"] = key
        with in_scope(at):
            return self.model(*args, **named)


def _takes_key(model: Any) -> bool:
    return "key" in inspect.signature(type(model).__call__).parameters


class ThinLinear(eqx.nn.Linear):
    """An eqx.nn.Linear that ends a region, begins one, or both."""

    inference: bool
    place: str = eqx.field(static=True)
    takes: Region | None = eqx.field(static=True)
    gives: Region | None = eqx.field(static=True)

    def __call__(self, x: Any, *, key: Any = None) -> Any:
        if is_looking():
            y = super().__call__(marked(x, self.place, "layer", True), key=key)
            return marked(y, self.place, "layer", False)
        before = None if self.takes is None else take(self.takes)
        here = self._drawn()
        weight = self.weight if before is None else before.columns(self.weight)
        if before is not None and x.shape != (weight.shape[1],):
            raise RuntimeError(
                f"thinned: the thin region {self.takes} keeps {weight.shape[1]} units, and an "
                f"array of shape {x.shape} came to its end. Thin the model anew."
            )
        weight = weight if here is None else here.rows(weight)
        y = weight @ x
        if self.bias is None:
            return y
        return y + (self.bias if here is None else here.rows(self.bias))

    def _drawn(self) -> Any:
        region, asked = self.gives, awake()
        if region is None or (self.inference and asked is None):
            return None
        at = address_in_scope(region.site) if asked is None else asked.address(region.site)
        if at is None:  # called by itself, or without a key, which the dropout will ask for
            return None
        kept = region.draw(at)
        give(region, kept)
        return kept


def _thin_call(
    self: Any, x: Any, *, key: Any = None, at: Any = None, inference: bool | None = None
) -> Any:
    """That of a dropout in a region."""
    if is_looking():
        told = tuple(n for n, v in (("at", at), ("inference", inference)) if v is not None)
        x = marked(x, self.site, "dropout", True, told)
        return marked(x, self.site, "dropout", False)
    region: Region = self.region
    kept = pending(region)
    if kept is not None:
        require_untold(region, {"at": at, "inference": inference})
        return kept.on(x)
    if awake() is None and (self.inference if inference is None else inference):
        return x
    there = address_in_scope(region.site) if awake() is None else None
    there = self.drawn_at(key, at, inference) if there is None else there
    return region.draw(there).on_whole(x)


@lru_cache
def _handed(kind: Any) -> type[Layer]:
    space = {
        "region": eqx.field(static=True),
        "__annotations__": {"region": Any},
        "__call__": _thin_call,
        "__module__": __name__,
        "__qualname__": f"Thin{kind.__name__}",
    }
    return type(f"Thin{kind.__name__}", (kind,), space)


def _of_class(kind: type[Any], old: Any, **more: Any) -> Any:
    """A module of a class above or below its own: with the fields of that, some of them new."""
    new = object.__new__(kind)
    for field in fields(kind):
        value = more[field.name] if field.name in more else getattr(old, field.name)
        object.__setattr__(new, field.name, value)
    return new


def whole_of(model: Thin) -> Any:
    """The model that was made thin, its layers whole again."""

    def changed(layer: Any, name: str) -> Any:
        if not isinstance(layer, ThinLinear) and hasattr(layer, "region"):
            return _of_class(type(layer).__bases__[0], layer)
        return _of_class(eqx.nn.Linear, layer) if isinstance(layer, ThinLinear) else layer

    return _mapped(model.model, ".", changed)


@answering
def thin(
    model: Any, *inputs: Any, separator: str = ".", execution: str = "thin"
) -> tuple[Thin, ThinReport]:
    """Let whole batches share the masks of units, and compute the kept units only.

    y = x * m / (1 - p),  m ~ Bernoulli(1 - p), one draw for each unit, shared by all rows that are
    run with one key.

    What `thinned.jax.nnx.thin` says holds here, of eqx.nn.Linear, eqx.nn.Dropout and KOfNDropout of
    `thinned.jax.equinox`. The given model stays as it was.

    Parameters
    ----------
    model : eqx.Module whose call takes one row, without a batch axis.
    inputs : what it is called with, without a key: arrays or jax.ShapeDtypeStruct. Default: a row
        as long as one of its eqx.nn.Linear takes it, float32.
    separator : as in `adopt`.
    execution : "thin", or "elementwise": the same masks on whole arrays, to compare with.

    Returns
    -------
    (Thin, ThinReport). The first is called as the model, with `key` or `at`.

    Raises
    ------
    ValueError if no site can run thin, or the model cannot be traced with these inputs.

    Examples
    --------
    >>> import equinox as eqx, jax
    >>> from thinned.jax.equinox import thin
    >>> k1, k2 = jax.random.split(jax.random.key(0))
    >>> first, last = eqx.nn.Linear(8, 64, key=k1), eqx.nn.Linear(64, 2, key=k2)
    >>> model = eqx.nn.Sequential([first, eqx.nn.Lambda(jax.nn.relu), eqx.nn.Dropout(0.5), last])
    >>> model, report = thin(model)
    >>> print(report)
    site      kind     p    what was done
    layers.2  Dropout  0.5  thin: 64 units, from 'layers.0' to 'layers.3'
    """
    checks.one_of("thin", "execution", execution, EXECUTIONS)
    if isinstance(model, Thin):
        raise ValueError("thin: the model is thin already.")
    if not isinstance(model, eqx.Module):
        raise TypeError(message("thin", "model", "an eqx.Module", type(model).__name__))
    adopted, report = adopt(model, separator=separator)
    return thin_adopted("thin", adopted, inputs, {}, report, separator, execution)


def thin_adopted(
    who: str,
    adopted: Any,
    inputs: tuple[Any, ...],
    named: dict[str, Any],
    report: Report,
    separator: str = ".",
    execution: str = "thin",
) -> tuple[Thin, ThinReport]:
    """`thin` of a model that is adopted. inputs, named : what it is called with."""
    looked = _looked(who, adopted, inputs, named, separator)
    if not looked.regions:
        raise ValueError(nothing_thin(who, looked.reasons))
    layers = dict(_layers_of(adopted, separator))
    by_dropout: dict[str, Region] = {}
    for found in looked.regions:
        dropout, first = layers[found.dropout], layers[found.producer]
        exact = type(dropout) is not made()["Dropout"]
        by_dropout[found.dropout] = Region(*found, first.out_features, float(dropout.p), exact)
    gives = {region.producer: region for region in by_dropout.values()}
    takes = {region.consumer: region for region in by_dropout.values()}
    thin_one = execution == "thin"

    def changed(layer: Any, name: str) -> Any:
        if name in by_dropout:
            kind: Any = type(layer)
            return _of_class(_handed(kind), layer, region=by_dropout[name])
        if thin_one and (name in gives or name in takes):
            region = gives.get(name)
            inference = bool(region and layers[region.site].inference)
            more = {"place": name, "takes": takes.get(name), "gives": region}
            return _of_class(ThinLinear, layer, inference=inference, **more)
        return layer

    how = "thin" if thin_one else "one draw for the batch, elementwise"
    rows = tuple(_told(row, by_dropout, looked.reasons, how) for row in report.rows)
    return Thin(_mapped(adopted, separator, changed)), ThinReport(rows, None, tuple(by_dropout))


def _told(row: Row, regions: dict[str, Region], reasons: dict[str, str], how: str) -> Row:
    region = regions.get(row.site)
    if region is not None:
        return row._replace(done=f"{how}: {region.units} units, {region}")
    if not row.reached:
        return row
    why = reasons.get(row.site, "it is no dropout of units")
    return row._replace(done=f"{row.done}, not thin: {why}")


def _is_layer(node: Any) -> bool:
    return isinstance(node, (eqx.nn.Linear, Layer))


def _layers_of(model: Any, separator: str) -> list[tuple[str, Any]]:
    leaves, _ = tree_flatten_with_path(model, is_leaf=_is_layer)
    return [
        (keystr(path, simple=True, separator=separator), leaf)
        for path, leaf in leaves
        if _is_layer(leaf)
    ]


def _mapped(model: Any, separator: str, change: Callable[[Any, str], Any]) -> Any:
    """The model with its layers changed: change is a function of a layer and its name."""
    leaves, form = tree_flatten_with_path(model, is_leaf=_is_layer)
    new = [
        change(leaf, keystr(path, simple=True, separator=separator)) if _is_layer(leaf) else leaf
        for path, leaf in leaves
    ]
    return tree_unflatten(form, new)


def _looked(
    who: str, model: Any, inputs: tuple[Any, ...], named: dict[str, Any], separator: str
) -> Looked:
    """The regions of an adopted model, by the names of its layers."""
    reasons: dict[str, str] = {}

    def seen(layer: Any, name: str) -> Any:
        if type(layer) is eqx.nn.Linear and isinstance(layer.in_features, int):
            return _of_class(ThinLinear, layer, inference=False, place=name, takes=None, gives=None)
        if type(layer) not in (made()["Dropout"], made()["KOfNDropout"]):
            return layer
        why = _unfit(layer, name)
        reasons[name] = why or "the model's code does not call it with this input"
        kind: Any = type(layer)
        return layer if why else _of_class(_handed(kind), layer, region=None)

    twin = eqx.nn.inference_mode(_mapped(model, separator, seen), value=False)
    arrays, rest = eqx.partition(twin, eqx.is_array)

    def looked_with(given: tuple[Any, ...]) -> Looked:
        leaves, form = jax.tree.flatten((given, named))
        is_array = [hasattr(leaf, "shape") for leaf in leaves]

        def call(arrays: Any, some: Any) -> Any:
            network, every = eqx.combine(arrays, rest), iter(some)
            whole = [
                next(every) if one else leaf for leaf, one in zip(leaves, is_array, strict=True)
            ]
            args, how = jax.tree.unflatten(form, whole)
            if _takes_key(network):
                how = {"key": jax.random.key(0), **how}
            out = network(*args, **how)
            return [leaf for leaf in jax.tree.leaves(out) if hasattr(leaf, "shape")]

        return regions_of(call, arrays, [v for v, one in zip(leaves, is_array, strict=True) if one])

    looked = looked_with(inputs) if inputs or named else _with_a_row(who, model, looked_with)
    return looked._replace(reasons={**reasons, **looked.reasons})


def _unfit(layer: Any, name: str) -> str:
    if not isinstance(layer.p, (int, float)):
        return "its p is an array, and lengths depend on p"
    if layer.p == 0:
        return "its p is 0"
    if layer.site != name:
        return f"it has a site of its own: {layer.site!r}"
    return "" if dict(layer.options) == layer.row.options else "its options choose other draws"


def _with_a_row(who: str, model: Any, looked_with: Callable[[Any], Looked]) -> Looked:
    linear = [
        leaf for leaf in jax.tree.leaves(model, is_leaf=_is_layer) if type(leaf) is eqx.nn.Linear
    ]
    told = "it holds no eqx.nn.Linear"
    for width in dict.fromkeys(layer.in_features for layer in linear):
        shape = () if width == "scalar" else (width,)
        try:
            return looked_with((row_of(*shape),))
        except Exception as error:  # whatever a model's own code raises
            told = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    raise ValueError(
        f"{who}: what the model takes is not known ({told}). Pass an example: thin(model, x)."
    )
