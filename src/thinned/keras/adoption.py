"""adopt: a Keras model's own draws at addresses, kept with its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras

from thinned.address import Address
from thinned.checks import integer, message
from thinned.foreign_arguments import answering
from thinned.keras import draws
from thinned.keras.internals import KerasSaveable, forget_programs
from thinned.keras.parts import generators_of, unseeded_draws, walk
from thinned.keras.site import Site, put, take_off
from thinned.methods.made import Report, Row, nothing_to_adopt

__all__ = ["addresses", "adopt", "release", "rewind"]

_RATES = ("rate", "stddev", "dropout", "dropout_rate", "drop_rate", "_dropout")


@answering
def adopt(model: Any, *, seed: int = 0) -> Report:
    """Give every draw of a model in training an address: its site, at the step of that site.

    In place. Keras's layers, their weights and their configurations stay as they are: each seed
    generator that a layer holds becomes a site. Dropout layers of any kind, recurrent layers,
    attention, and layers of other packages that draw from a generator of their own are reached. The
    n-th draw of a site has step n, from 0 on, and the same masks on all of Keras's backends.

    The steps are saved with the model's weights: `load_weights` into an adopted model, and
    `keras.models.load_model`, resume with the masks that would have come.

    Parameters
    ----------
    model : keras.Model or keras.Layer, built.
    seed : int in [0, 2^64).

    Returns
    -------
    Report. `sites` are the names of the sites, which are the same in every process; `not_reached`
    are layers that draw without a generator, or that are not built.

    Raises
    ------
    ValueError if nothing in the model can be given an address, it is not built, or it was adopted
    before. TypeError if it is no layer.

    Examples
    --------
    >>> import keras, thinned.keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5)])
    >>> thinned.keras.adopt(model, seed=1).sites
    ('dropout',)
    >>> thinned.keras.addresses(model)
    {'dropout': Address(seed=1, site='dropout', step=0, call=0)}
    """
    seed = integer("adopt", "seed", seed, 0, 2**64)
    _require_layer("adopt", model)
    if not model.built:
        raise ValueError(
            f"adopt: {model.name!r} is not built, and what it will hold is unknown. Call it on "
            "data once, or model.build(shape)."
        )
    if _sites(model):
        raise ValueError("adopt: the model was adopted before. rewind sets its steps back.")
    rows: list[Row] = []
    found: list[tuple[Any, str]] = []
    for place, layer in walk(model):
        rows += _not_reached(place, layer)
        for name, generator in generators_of(layer):
            site = "/".join(part for part in (place, name) if part) or "dropout"
            if _is_augmentation(layer):
                rows.append(_row(site, layer, "left alone: it augments data", False))
            else:
                rows.append(_row(site, layer, "addressed", True))
                found.append((generator, site))
    if not found:
        raise ValueError(nothing_to_adopt(rows))
    draws.install()
    known: set[int] = set()
    for generator, site in found:
        if id(generator) not in known:  # one that layers share has the first one's site
            put(generator, site, seed)
            known.add(id(generator))
    _become_adopted(model)
    _forget(model)
    return Report(tuple(rows))


@answering
def release(model: Any) -> None:
    """Undo adopt: the model draws as Keras has it, and is saved as before.

    Raises
    ------
    ValueError if the model was not adopted.
    """
    for site in _required("release", model).values():
        take_off(site)
    if isinstance(model, Adopted):
        model.__class__ = _plain(type(model))
    _forget(model)


@answering
def addresses(model: Any) -> dict[str, Address]:
    """The address of the next draw at each site of an adopted model.

    `thinned.keep_mask(shape, p, address)` is the mask that the next call in training will have, and
    `rewind` takes them back.

    Raises
    ------
    ValueError if the model was not adopted.
    """
    return {name: site.address for name, site in _required("addresses", model).items()}


@answering
def rewind(model: Any, to: Mapping[str, Address] | None = None) -> None:
    """Set the sites of an adopted model back, so that the draws that followed come again.

    Parameters
    ----------
    model : adopted.
    to : what `addresses` gave; sites that it leaves out stay where they are. None is step 0 of all.

    Raises
    ------
    ValueError if the model was not adopted, or has no site of such a name. TypeError if `to` is no
    mapping, or holds what is no address.
    """
    sites = _required("rewind", model)
    if to is None:
        to = {name: site.address.replace(step=0) for name, site in sites.items()}
    if not isinstance(to, Mapping):
        requirement = "what thinned.keras.addresses(model) gave, addresses by the sites' names"
        raise TypeError(message("rewind", "to", requirement, type(to).__name__))
    for name, at in to.items():
        if name not in sites:
            known = ", ".join(sites)
            raise ValueError(message("rewind", "a name in to", f"one of {known}", repr(name)))
        if not isinstance(at, Address):
            got = type(at).__name__
            raise TypeError(message("rewind", f"to[{name!r}]", "a thinned.Address", got))
        sites[name].address = at


def _require_layer(who: str, model: Any) -> None:
    if not isinstance(model, keras.Layer):
        got = f"a {type(model).__module__.partition('.')[0]} {type(model).__name__}"
        raise TypeError(message(who, "model", "a keras.Model or keras.Layer", got))


def _sites(model: Any) -> dict[str, Site]:
    found = {}
    for _, layer in walk(model):
        for _, generator in generators_of(layer):
            if isinstance(generator, Site):
                found[generator.site] = generator
    return found


def _required(who: str, model: Any) -> dict[str, Site]:
    _require_layer(who, model)
    sites = _sites(model)
    if not sites:
        raise ValueError(f"{who}: the model was not adopted. Call thinned.keras.adopt(model).")
    return sites


def _is_augmentation(layer: Any) -> bool:
    return ".layers.preprocessing." in type(layer).__module__ or any(
        ".layers.preprocessing." in kind.__module__ for kind in type(layer).__mro__
    )


def _not_reached(place: str, layer: Any) -> Iterator[Row]:
    for drawn in unseeded_draws(layer):
        done = (
            f"not reached: it calls {drawn} without a generator; "
            "draw by keras.random with seed=self.seed_generator"
        )
        yield _row(place, layer, done, False)
    if not layer.built:
        done = "not built, and what it will hold is unknown; call the model once, then adopt it"
        yield _row(place, layer, done, False)


def _row(site: str, layer: Any, done: str, reached: bool) -> Row:
    rates = [getattr(layer, name, None) for name in _RATES]
    p = next((float(rate) for rate in rates if isinstance(rate, (int, float))), None)
    return Row(site, type(layer).__name__, p, done, reached)


def _forget(model: Any) -> None:
    for _, layer in reversed(list(walk(model))):
        forget_programs(layer)


# ------------------------------------------------------------------------- saved and loaded again

_registered = keras.saving.register_keras_serializable("thinned", "Adopted")


class Adopted:
    """What the class of an adopted model has before the model's own.

    Keras writes a model's class and configuration beside its weights. The configuration of an
    adopted one is the whole model as it was, so that `keras.models.load_model` makes that, has it
    adopted, and then reads the weights, the sites' steps among them.
    """

    def get_config(self) -> dict[str, Any]:
        own = type(self)
        self.__class__ = _plain(own)
        try:
            config = keras.saving.serialize_keras_object(self)
        finally:
            self.__class__ = own
        config.pop("compile_config", None)  # which stands outside, where loading may leave it out
        return {"model": config}

    def get_build_config(self) -> None:
        """None: the model inside is built before it is adopted."""

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        model = keras.saving.deserialize_keras_object(
            config["model"], custom_objects=custom_objects
        )
        adopt(model)  # at seed 0, until the weights are read
        return model

    def __reduce__(self) -> Any:
        # By a class that a name leads to.
        return KerasSaveable._unpickle_model, KerasSaveable.__reduce__(self)[1]


_registered(Adopted)


def _plain(kind: type[Any]) -> Any:
    return kind.__mro__[2]


def _become_adopted(model: Any) -> None:
    """Give a model the class of an adopted one."""
    kind = type(model)
    made = type(kind.__name__, (Adopted, kind), {"__module__": kind.__module__})
    _registered(made)  # the name that its instances are written with
    _registered(Adopted)  # what is made where this name is read
    model.__class__ = made
