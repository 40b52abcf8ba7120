"""Layers for Keras: those that Keras has, and one for each further row of the catalogue.

Rates, seeds, masks of sequences, configurations and dtype policies are Keras's own: each class is a
subclass of Keras's Dropout, or of the layer that it stands in for. What is drawn is the row's.
"""

from __future__ import annotations

from inspect import signature
from numbers import Real
from typing import Any, ClassVar

import keras
import numpy as np

from thinned.address import Address
from thinned.checks import shown
from thinned.keras.draws import shared_axes
from thinned.keras.site import next_address
from thinned.methods.alpha import alpha_dropout
from thinned.methods.bernoulli import dropout
from thinned.methods.gaussian import gaussian_dropout, gaussian_noise
from thinned.methods.made import chosen_options, default_p, keras_rows
from thinned.methods.spatial import spatial_dropout
from thinned.methods.table import Method, find

__all__ = [
    "AlphaDropout",
    "DropBlock2D",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "Layer",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "made",
]

_NOWHERE = Address()  # what evaluation, which draws nothing, is given
_registered = keras.saving.register_keras_serializable("thinned")


class _Told:
    """Arguments of a type that Keras compares, or puts into an array, without looking."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        named = dict(zip(list(signature(cls.__init__).parameters)[1:], args, strict=False))
        given = {**named, **kwargs}
        for name in ("rate", "stddev"):
            if name in given and not _is_number(value := given[name]):
                if value is None and issubclass(cls, Layer):
                    continue  # the row's own
                raise ValueError(
                    f"Invalid value received for argument `{name}`. Expected a float value between "
                    f"0 and 1. Received: {name}={value!r:.80}"
                )
        seed = given.get("seed")
        if isinstance(seed, int) and not 0 <= seed < 2**32:
            raise ValueError(
                "Invalid value received for argument `seed`. Expected None or an integer in "
                f"[0, 2^32). Received: seed={shown(seed)}"
            )
        return super().__new__(cls, *args, **kwargs)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(inputs, (list, tuple, dict)):
            name = type(self).__name__
            raise TypeError(
                f"{name}: inputs must be one tensor, got a {type(inputs).__name__} of "
                f"{len(inputs)}. Call a layer on each, or convert numbers with np.asarray."
            )
        called: Any = super()
        return called.__call__(inputs, *args, **kwargs)


def _is_number(value: Any) -> bool:
    return np.ndim(value) == 0 and isinstance(np.asarray(value).item(), Real)


@_registered
class Dropout(_Told, keras.layers.Dropout):  # type: ignore[misc] # Keras: no types
    """keras.layers.Dropout by address: the same masks on all of Keras's backends.

    Parameters
    ----------
    rate : float in [0, 1]. Probability to drop.
    noise_shape : tuple of ints or None. 1 along an axis shares its draws; None is x's length.
    seed : int or None. Equal seeds draw equal masks: that of the layer's n-th call in training is
        at thinned.Address(seed, step=n), from 0 on.
    """

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        shared = shared_axes("Dropout", self.noise_shape, inputs.shape)
        return dropout(inputs, self.rate, next_address(self.seed_generator), shared_axes=shared)


class _Spatial(_Told):
    """keras.layers.SpatialDropout by address, whole channels at a time."""

    rate: float
    seed_generator: Any

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        first = getattr(self, "data_format", "channels_last") == "channels_first"
        return spatial_dropout(
            inputs, self.rate, next_address(self.seed_generator), channel_axis=1 if first else -1
        )


@_registered
class SpatialDropout1D(_Spatial, keras.layers.SpatialDropout1D):  # type: ignore[misc]
    """keras.layers.SpatialDropout1D by address: (samples, time, channels). rate, seed."""


@_registered
class SpatialDropout2D(_Spatial, keras.layers.SpatialDropout2D):  # type: ignore[misc]
    """keras.layers.SpatialDropout2D by address, of maps. rate, data_format, seed."""


@_registered
class SpatialDropout3D(_Spatial, keras.layers.SpatialDropout3D):  # type: ignore[misc]
    """keras.layers.SpatialDropout3D by address, of volumes. rate, data_format, seed."""


class _NoiseShape(_Told):
    """A `noise_shape` in the configuration of a layer whose Keras form may have none."""

    noise_shape: Any

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().get_config()  # type: ignore[misc]
        return {**config, "noise_shape": self.noise_shape}


@_registered
class GaussianDropout(_NoiseShape, keras.layers.GaussianDropout):  # type: ignore[misc]
    """keras.layers.GaussianDropout by address. rate, seed; noise_shape as for Dropout."""

    def __init__(
        self, rate: float, seed: int | None = None, noise_shape: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(rate, seed=seed, **kwargs)
        self.noise_shape = _checked(noise_shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        shared = shared_axes("GaussianDropout", self.noise_shape, inputs.shape)
        return gaussian_dropout(
            inputs, self.rate, next_address(self.seed_generator), shared_axes=shared
        )


@_registered
class GaussianNoise(_NoiseShape, keras.layers.GaussianNoise):  # type: ignore[misc]
    """keras.layers.GaussianNoise by address. stddev, seed; noise_shape as for Dropout."""

    def __init__(
        self, stddev: float, seed: int | None = None, noise_shape: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(stddev, seed=seed, **kwargs)
        self.noise_shape = _checked(noise_shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or self.stddev == 0:
            return inputs
        shared = shared_axes("GaussianNoise", self.noise_shape, inputs.shape)
        at = next_address(self.seed_generator)
        return gaussian_noise(inputs, at, std=self.stddev, shared_axes=shared)


@_registered
class AlphaDropout(_Told, keras.layers.AlphaDropout):  # type: ignore[misc] # Keras: no types
    """keras.layers.AlphaDropout by address. rate, noise_shape, seed."""

    def __init__(
        self, rate: float, noise_shape: Any = None, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(rate, noise_shape=_checked(noise_shape), seed=seed, **kwargs)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        shared = shared_axes("AlphaDropout", self.noise_shape, inputs.shape)
        return alpha_dropout(
            inputs, self.rate, next_address(self.seed_generator), shared_axes=shared
        )


def _checked(noise_shape: Any) -> Any:
    """A noise_shape that Keras's Dropout takes, as a tuple; its error for others."""
    return keras.layers.Dropout(0.0, noise_shape=noise_shape).noise_shape


class Layer(_Told, keras.layers.Dropout):  # type: ignore[misc] # Keras: no types
    """A method of the catalogue as a layer of Keras's: a batch in, the method's y out."""

    row: ClassVar[Method]

    def __init__(
        self,
        rate: float | None = None,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        given = {key: kwargs.pop(key) for key in tuple(kwargs) if key in self.row.options}
        if self._has_channels:
            if "channel_axis" in given:
                raise TypeError(f"{name}: Keras says by data_format which axis the channels are.")
            data_format = _format(name, data_format)
            given["channel_axis"] = 1 if data_format == "channels_first" else -1
        elif data_format is not None:
            raise TypeError(f"{name}: 'data_format' is no argument: there is no axis of channels.")
        options = chosen_options(name, self.row, given)
        super().__init__(default_p(self.row) if rate is None else rate, seed=seed, **kwargs)
        self.row.require_law(name, float(self.rate))
        self.data_format, self.options = data_format, options

    @property
    def _has_channels(self) -> bool:
        return "channel_axis" in self.row.options

    def call(self, inputs: Any, training: bool = False) -> Any:
        function = self.row.function
        if not training or self.rate == 0:
            return function(inputs, self.rate, _NOWHERE, training=False, **self.options)
        return function(inputs, self.rate, next_address(self.seed_generator), **self.options)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["noise_shape"]
        own = {name: value for name, value in self.options.items() if name != "channel_axis"}
        if self._has_channels:
            own["data_format"] = self.data_format
        return {**config, **own}


def _format(who: str, data_format: Any) -> str:
    data_format = keras.config.image_data_format() if data_format is None else data_format
    if data_format not in ("channels_first", "channels_last"):
        raise ValueError(
            f"{who}: data_format must be 'channels_first' or 'channels_last', got {data_format!r}."
        )
    return str(data_format)


def _made(row: Method) -> type[Layer]:
    assert row.module is not None
    shown = {n: default for n, default in row.options.items() if n != "channel_axis"}
    options = "".join(f"\n    {n} : default {default!r}." for n, default in shown.items())
    if "channel_axis" in row.options:
        options += '\n    data_format : "channels_last" or "channels_first"; None is Keras\'s own.'
    doc = f"""{row.title}: {row.formula}

    See `{row.where}` for errors and source.

    Parameters
    ----------
    rate : float in [0, 1]. Probability to drop: p.
    seed : int or None. As for `Dropout`.{options}
    """
    space = {"row": row, "__doc__": doc, "__module__": __name__, "__qualname__": row.module}
    made: type[Layer] = _registered(type(row.module, (Layer,), space))
    return made


@_registered
class DropBlock2D(Layer):
    """DropBlock of maps, as `DropBlock`, for inputs of four axes."""

    row = find("drop_block")

    def __init__(self, rate: float | None = None, **kwargs: Any) -> None:
        super().__init__(rate, **kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=4)


_MADE: dict[str, type[Any]] = {}


def made() -> dict[str, type[Any]]:
    """Every layer by its name."""
    if not _MADE:
        named = {name: globals()[name] for name in __all__ if name not in ("Layer", "made")}
        rows = {name: row for name, row in keras_rows().items() if name not in named}
        _MADE.update({**{name: _made(row) for name, row in rows.items()}, **named})
    return _MADE


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name not in made():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return made()[name]
